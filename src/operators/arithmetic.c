/* SPDX-License-Identifier: Apache-2.0 */
/*
 * add, sub, mul and div. Integers wrap around as two's complement does: they are computed unsigned. Where an operator
 * takes `alpha`, it is the third argument, and scales the second.
 */
#include "operators/elementwise.h"
#include "operators/operators.h"

#include <math.h>
#include <string.h>

#define WRAP(operation, a, b) ((int64_t)((uint64_t)(a)operation(uint64_t)(b)))

#define ALPHA(type) const type alpha = *(const type *)context

ITERATE_BINARY(add_bool, uint8_t, uint8_t, ALPHA(uint8_t), (a != 0) | ((alpha != 0) & (b != 0)))
ITERATE_BINARY(add_i64, int64_t, int64_t, ALPHA(int64_t), WRAP(+, a, WRAP(*, alpha, b)))
ITERATE_BINARY(add_f32, float, float, ALPHA(float), a + alpha * b)
ITERATE_BINARY(add_f64, double, double, ALPHA(double), a + alpha * b)
ITERATE_BINARY(sub_i64, int64_t, int64_t, ALPHA(int64_t), WRAP(-, a, WRAP(*, alpha, b)))
ITERATE_BINARY(sub_f32, float, float, ALPHA(float), a - alpha * b)
ITERATE_BINARY(sub_f64, double, double, ALPHA(double), a - alpha * b)
ITERATE_BINARY(mul_bool, uint8_t, uint8_t, , (a != 0) & (b != 0))
ITERATE_BINARY(mul_i64, int64_t, int64_t, , WRAP(*, a, b))
ITERATE_BINARY(mul_f32, float, float, , (a) * (b))
ITERATE_BINARY(mul_f64, double, double, , (a) * (b))

#define ADD_KERNELS                                                                                                    \
	{                                                                                                              \
		[TDR_BOOL] = add_bool, [TDR_I64] = add_i64, [TDR_F32] = add_f32, [TDR_F64] = add_f64                   \
	}
#define SUB_KERNELS                                                                                                    \
	{                                                                                                              \
		[TDR_I64] = sub_i64, [TDR_F32] = sub_f32, [TDR_F64] = sub_f64                                          \
	}
#define MUL_KERNELS                                                                                                    \
	{                                                                                                              \
		[TDR_BOOL] = mul_bool, [TDR_I64] = mul_i64, [TDR_F32] = mul_f32, [TDR_F64] = mul_f64                   \
	}

struct arithmetic {
	iterate_inner inner[DTYPE_ROOM];
	bool takes_alpha;
	bool takes_bool;
	bool in_place;
};

const struct arithmetic arithmetic_add = {ADD_KERNELS, .takes_alpha = true, .takes_bool = true};
const struct arithmetic arithmetic_add_to = {ADD_KERNELS, .takes_alpha = true, .takes_bool = true, .in_place = true};
const struct arithmetic arithmetic_sub = {SUB_KERNELS, .takes_alpha = true};
const struct arithmetic arithmetic_mul = {MUL_KERNELS, .takes_bool = true};
const struct arithmetic arithmetic_mul_to = {MUL_KERNELS, .takes_bool = true, .in_place = true};

iterate_inner arithmetic_add_inner(tdr_dtype dtype)
{
	return arithmetic_add.inner[dtype];
}

/* Only subtraction refuses bool. */
static tdr_status check_no_bool(tdr_call *call, const struct operands *operands)
{
	const bool first = tdr_tensor_dtype(operands->tensors[0]) == TDR_BOOL;
	const bool second = tdr_tensor_dtype(operands->tensors[1]) == TDR_BOOL;

	if (first && second)
		return refuse(
		    call, TDR_ETYPE,
		    "Subtraction, the `-` operator, with two bool tensors is not supported. Use aten::eq to compare "
		    "them.");
	if (first || second)
		return refuse(
		    call, TDR_ETYPE,
		    "Subtraction, the `-` operator, with a bool tensor is not supported. Convert it first, by "
		    "aten::to.");
	return TDR_OK;
}

static tdr_status read_alpha(tdr_call *call, tdr_dtype dtype, union element *ret_alpha)
{
	struct number alpha;
	tdr_status status = arg_number(call, 2, "alpha", &alpha);

	if (status != TDR_OK)
		return status;
	if (alpha.kind == TDR_KIND_BOOL && dtype != TDR_BOOL)
		return refuse(call, TDR_ETYPE, "Boolean alpha only supported for Boolean results.");
	if (alpha.kind == TDR_FLOAT && !dtype_is_float(dtype))
		return refuse(call, TDR_ETYPE,
		              "For integral input tensors, argument alpha must not be a floating point number.");
	return number_convert(call, &alpha, dtype, ret_alpha);
}

static tdr_status compute(tdr_call *call, const struct arithmetic *arithmetic, struct operands *operands,
                          tdr_tensor **ret_tensor)
{
	const tdr_dtype dtype = operands_promote(operands, 0);
	union element alpha = {0};
	tdr_tensor *self = tdr_arg_tensor(call, 0);
	tdr_status status = TDR_OK;

	if (!arithmetic->takes_bool)
		status = check_no_bool(call, operands);
	if (status == TDR_OK && arithmetic->takes_alpha)
		status = read_alpha(call, dtype, &alpha);
	if (status == TDR_OK)
		status = operands_cast(operands, 0, dtype);
	if (status != TDR_OK)
		return status;
	if (!arithmetic->in_place)
		return operands_apply(operands, call, arithmetic->inner[dtype], &alpha, dtype, ret_tensor);
	status = operands_apply_to(operands, call, arithmetic->inner[dtype], &alpha, dtype, self);
	if (status == TDR_OK)
		*ret_tensor = tdr_tensor_ref(self);
	return status;
}

tdr_status operator_arithmetic(tdr_call *call, void *context)
{
	struct operands operands = {0};
	tdr_tensor *result = NULL;
	tdr_status status;

	status = operands_add(&operands, call, 0, "self");
	if (status == TDR_OK)
		status = operands_add(&operands, call, 1, "other");
	if (status == TDR_OK)
		status = compute(call, context, &operands, &result);
	operands_fini(&operands);
	return give_tensor(call, status, result);
}

/* ---- division ---- */

/* Quotient of integers, rounded to zero; the smallest by -1 wraps. `b` is not 0. */
static inline int64_t quotient_trunc(int64_t a, int64_t b)
{
	return b == -1 ? WRAP(-, 0, a) : a / b;
}

static inline int64_t quotient_floor(int64_t a, int64_t b)
{
	const int64_t quotient = quotient_trunc(a, b);
	const bool inexact = b != -1 && a % b != 0;

	return inexact && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

/*
 * The floor of a / b, as Python's // has it: taken from the remainder, because the rounded quotient may already be the
 * next integer. Zero keeps the quotient's sign.
 */
#define DEFINE_FLOOR_DIVISION(name, type, suffix)                                                                      \
	static inline type name(type a, type b)                                                                        \
	{                                                                                                              \
		type remainder, quotient, whole;                                                                       \
                                                                                                                       \
		if (b == 0)                                                                                            \
			return a / b;                                                                                  \
		remainder = fmod##suffix(a, b);                                                                        \
		quotient = (a - remainder) / b;                                                                        \
		if (remainder != 0 && (b < 0) != (remainder < 0))                                                      \
			quotient -= 1;                                                                                 \
		if (quotient == 0)                                                                                     \
			return copysign##suffix(0, a / b);                                                             \
		whole = floor##suffix(quotient);                                                                       \
		return quotient - whole > (type)0.5 ? whole + 1 : whole;                                               \
	}

DEFINE_FLOOR_DIVISION(floor_division_f32, float, f)
DEFINE_FLOOR_DIVISION(floor_division_f64, double, )

ITERATE_BINARY(div_f32, float, float, , a / b)
ITERATE_BINARY(div_f64, double, double, , a / b)
ITERATE_BINARY(div_trunc_i64, int64_t, int64_t, , quotient_trunc(a, b))
ITERATE_BINARY(div_trunc_f32, float, float, , truncf(a / b))
ITERATE_BINARY(div_trunc_f64, double, double, , trunc(a / b))
ITERATE_BINARY(div_floor_i64, int64_t, int64_t, , quotient_floor(a, b))
ITERATE_BINARY(div_floor_f32, float, float, , floor_division_f32(a, b))
ITERATE_BINARY(div_floor_f64, double, double, , floor_division_f64(a, b))

enum rounding {
	ROUND_NONE,
	ROUND_TRUNC,
	ROUND_FLOOR
};

static const iterate_inner div_inner[][DTYPE_ROOM] = {
    [ROUND_NONE] = {[TDR_F32] = div_f32, [TDR_F64] = div_f64},
    [ROUND_TRUNC] = {[TDR_I64] = div_trunc_i64, [TDR_F32] = div_trunc_f32, [TDR_F64] = div_trunc_f64},
    [ROUND_FLOOR] = {[TDR_I64] = div_floor_i64, [TDR_F32] = div_floor_f32, [TDR_F64] = div_floor_f64},
};

/* Sets *context, a bool, where a divisor is 0. */
static void find_zero(char *const data[], const int64_t strides[], int64_t count, void *context)
{
	bool *found = context;

	for (int64_t i = 0; i < count && !*found; i++)
		*found = *(const int64_t *)(const void *)(data[0] + i * strides[0]) == 0;
}

/* Integers have nothing that a division by zero could give. A division without any element divides by none. */
static tdr_status check_divisor(tdr_call *call, const struct operands *operands)
{
	const tdr_tensor *divisor = operands->tensors[1];
	struct iterate iterate;
	bool found = false;

	if (tdr_tensor_numel(operands->tensors[0]) == 0)
		return TDR_OK;
	iterate_init(&iterate, tdr_tensor_ndim(divisor), tdr_tensor_sizes(divisor));
	iterate_add(&iterate, divisor);
	iterate_run(&iterate, find_zero, &found);
	return found ? refuse(call, TDR_EINVAL, "ZeroDivisionError") : TDR_OK;
}

static tdr_status read_rounding(tdr_call *call, enum rounding *ret_rounding)
{
	const char *mode = tdr_arg_count(call) > 2 ? tdr_arg_string(call, 2) : NULL;

	if (!mode)
		*ret_rounding = ROUND_NONE;
	else if (strcmp(mode, "trunc") == 0)
		*ret_rounding = ROUND_TRUNC;
	else if (strcmp(mode, "floor") == 0)
		*ret_rounding = ROUND_FLOOR;
	else
		return refuse(call, TDR_EINVAL,
		              "div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '%s'", mode);
	return TDR_OK;
}

static tdr_status divide(tdr_call *call, struct operands *operands, tdr_tensor **ret_tensor)
{
	enum rounding rounding = ROUND_NONE;
	tdr_dtype dtype = operands_promote(operands, 0);
	tdr_status status;

	status = read_rounding(call, &rounding);
	if (status != TDR_OK)
		return status;
	if (rounding == ROUND_NONE && !dtype_is_float(dtype))
		dtype = DTYPE_DEFAULT;
	if (!div_inner[rounding][dtype])
		return refuse(call, TDR_EUNSUPPORTED, "\"div_%s_cpu\" not implemented for '%s'",
		              rounding == ROUND_TRUNC ? "trunc" : "floor", dtype_long_name(dtype));
	status = operands_cast(operands, 0, dtype);
	if (status == TDR_OK && dtype == TDR_I64)
		status = check_divisor(call, operands);
	if (status != TDR_OK)
		return status;
	return operands_apply(operands, call, div_inner[rounding][dtype], NULL, dtype, ret_tensor);
}

tdr_status operator_div(tdr_call *call, void *context)
{
	struct operands operands = {0};
	tdr_tensor *result = NULL;
	tdr_status status;

	(void)context;
	status = operands_add(&operands, call, 0, "self");
	if (status == TDR_OK)
		status = operands_add(&operands, call, 1, "other");
	if (status == TDR_OK)
		status = divide(call, &operands, &result);
	operands_fini(&operands);
	return give_tensor(call, status, result);
}
