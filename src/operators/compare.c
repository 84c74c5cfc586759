/* SPDX-License-Identifier: Apache-2.0 */
/* eq, gt and where: operators that give or take bool. */
#include "operators/elementwise.h"
#include "operators/operators.h"

struct comparison {
	iterate_inner inner[DTYPE_ROOM];
};

ITERATE_BINARY(eq_bool, uint8_t, uint8_t, , (a != 0) == (b != 0))
ITERATE_BINARY(eq_i64, uint8_t, int64_t, , a == b)
ITERATE_BINARY(eq_f32, uint8_t, float, , a == b)
ITERATE_BINARY(eq_f64, uint8_t, double, , a == b)
ITERATE_BINARY(gt_bool, uint8_t, uint8_t, , (a != 0) > (b != 0))
ITERATE_BINARY(gt_i64, uint8_t, int64_t, , a > b)
ITERATE_BINARY(gt_f32, uint8_t, float, , a > b)
ITERATE_BINARY(gt_f64, uint8_t, double, , a > b)

const struct comparison comparison_eq = {
    {[TDR_BOOL] = eq_bool, [TDR_I64] = eq_i64, [TDR_F32] = eq_f32, [TDR_F64] = eq_f64}};
const struct comparison comparison_gt = {
    {[TDR_BOOL] = gt_bool, [TDR_I64] = gt_i64, [TDR_F32] = gt_f32, [TDR_F64] = gt_f64}};

tdr_status operator_compare(tdr_call *call, void *context)
{
	const struct comparison *comparison = context;
	struct operands operands = {0};
	tdr_tensor *result = NULL;
	tdr_dtype dtype;
	tdr_status status;

	status = operands_add(&operands, call, 0, "self");
	if (status == TDR_OK)
		status = operands_add(&operands, call, 1, "other");
	if (status == TDR_OK) {
		dtype = operands_promote(&operands, 0);
		status = operands_cast(&operands, 0, dtype);
		if (status == TDR_OK)
			status = operands_apply(&operands, call, comparison->inner[dtype], NULL, TDR_BOOL, &result);
	}
	operands_fini(&operands);
	return give_tensor(call, status, result);
}

/* Choosing needs an element's size alone, not its type. */
#define DEFINE_CHOOSE(name, type)                                                                                      \
	static void name(char *const data[], const int64_t strides[], int64_t count, void *context)                    \
	{                                                                                                              \
		(void)context;                                                                                         \
		for (int64_t i = 0; i < count; i++) {                                                                  \
			const bool first = *(const uint8_t *)(data[1] + i * strides[1]) != 0;                          \
			const char *from = first ? data[2] + i * strides[2] : data[3] + i * strides[3];                \
			*(type *)(void *)(data[0] + i * strides[0]) = *(const type *)(const void *)from;               \
		}                                                                                                      \
	}

DEFINE_CHOOSE(choose_1, uint8_t)
DEFINE_CHOOSE(choose_4, uint32_t)
DEFINE_CHOOSE(choose_8, uint64_t)

static iterate_inner choose_of_size(size_t size)
{
	return size == 1 ? choose_1 : size == 4 ? choose_4 : choose_8;
}

/* A number that is one of two choices must fit the result's dtype, where arithmetic would let it become infinite. */
static tdr_status check_choice(tdr_call *call, size_t index, const char *name, tdr_dtype dtype)
{
	struct number number;
	union element element;
	tdr_status status;

	if (tdr_value_kind(tdr_arg(call, index)) == TDR_TENSOR)
		return TDR_OK;
	status = arg_number(call, index, name, &number);
	return status == TDR_OK ? number_convert(call, &number, dtype, &element) : status;
}

static tdr_status choose(tdr_call *call, struct operands *operands, tdr_tensor **ret_tensor)
{
	const tdr_dtype condition = tdr_tensor_dtype(operands->tensors[0]);
	const tdr_dtype dtype = operands_promote(operands, 1);
	tdr_status status;

	if (condition != TDR_BOOL)
		return refuse(call, TDR_ETYPE,
		              "where expected condition to be a boolean tensor, but got a tensor with dtype %s",
		              dtype_long_name(condition));
	status = check_choice(call, 1, "self", dtype);
	if (status == TDR_OK)
		status = check_choice(call, 2, "other", dtype);
	if (status == TDR_OK)
		status = operands_cast(operands, 1, dtype);
	if (status != TDR_OK)
		return status;
	return operands_apply(operands, call, choose_of_size(tdr_dtype_size(dtype)), NULL, dtype, ret_tensor);
}

tdr_status operator_where(tdr_call *call, void *context)
{
	static const char *const names[] = {"condition", "self", "other"};
	struct operands operands = {0};
	tdr_tensor *result = NULL;
	tdr_status status = TDR_OK;

	(void)context;
	for (size_t i = 0; i < 3 && status == TDR_OK; i++)
		status = operands_add(&operands, call, i, names[i]);
	if (status == TDR_OK)
		status = choose(call, &operands, &result);
	operands_fini(&operands);
	return give_tensor(call, status, result);
}
