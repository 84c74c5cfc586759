/* SPDX-License-Identifier: Apache-2.0 */
/* Operators of one tensor, element by element: neg, exp, log, relu, sigmoid. */
#include "operators/elementwise.h"
#include "operators/operators.h"

#include <math.h>

struct unary {
	iterate_inner inner[DTYPE_ROOM];
	bool to_float;            /* integers and bools are made floating point first */
	const char *bool_refused; /* the text where bools are not taken */
};

ITERATE_UNARY(neg_i64, int64_t, int64_t, (int64_t)(0 - (uint64_t)a))
ITERATE_UNARY(neg_f32, float, float, -a)
ITERATE_UNARY(neg_f64, double, double, -a)
ITERATE_UNARY(exp_f32, float, float, expf(a))
ITERATE_UNARY(exp_f64, double, double, exp(a))
ITERATE_UNARY(log_f32, float, float, logf(a))
ITERATE_UNARY(log_f64, double, double, log(a))
ITERATE_UNARY(relu_i64, int64_t, int64_t, a < 0 ? 0 : a)
ITERATE_UNARY(relu_f32, float, float, a < 0 ? 0 : a) /* so that NaN stays NaN */
ITERATE_UNARY(relu_f64, double, double, a < 0 ? 0 : a)
ITERATE_UNARY(sigmoid_f32, float, float, 1 / (1 + expf(-a)))
ITERATE_UNARY(sigmoid_f64, double, double, 1 / (1 + exp(-a)))

const struct unary unary_neg = {
    {[TDR_I64] = neg_i64, [TDR_F32] = neg_f32, [TDR_F64] = neg_f64},
    .bool_refused =
	"Negation, the `-` operator, on a bool tensor is not supported. Compare with false by aten::eq instead.",
};
const struct unary unary_exp = {{[TDR_F32] = exp_f32, [TDR_F64] = exp_f64}, .to_float = true};
const struct unary unary_log = {{[TDR_F32] = log_f32, [TDR_F64] = log_f64}, .to_float = true};
const struct unary unary_relu = {
    {[TDR_I64] = relu_i64, [TDR_F32] = relu_f32, [TDR_F64] = relu_f64},
    .bool_refused = "Boolean inputs not supported for relu",
};
const struct unary unary_sigmoid = {{[TDR_F32] = sigmoid_f32, [TDR_F64] = sigmoid_f64}, .to_float = true};

tdr_status operator_unary(tdr_call *call, void *context)
{
	const struct unary *unary = context;
	struct operands operands = {0};
	tdr_tensor *result = NULL;
	tdr_dtype dtype;
	tdr_status status;

	status = operands_add(&operands, call, 0, "self");
	if (status != TDR_OK)
		return status;
	dtype = tdr_tensor_dtype(operands.tensors[0]);
	if (unary->to_float && !dtype_is_float(dtype))
		dtype = DTYPE_DEFAULT;
	if (unary->bool_refused && dtype == TDR_BOOL)
		status = refuse(call, TDR_ETYPE, "%s", unary->bool_refused);
	if (status == TDR_OK)
		status = operands_cast(&operands, 0, dtype);
	if (status == TDR_OK)
		status = operands_apply(&operands, call, unary->inner[dtype], NULL, dtype, &result);
	operands_fini(&operands);
	return give_tensor(call, status, result);
}
