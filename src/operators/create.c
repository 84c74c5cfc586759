/* SPDX-License-Identifier: Apache-2.0 */
/* zeros, ones, full, clone and to: operators that make a tensor. */
#include "operators/cast.h"
#include "operators/elementwise.h"
#include "operators/operators.h"

/* A tensor of the shape that argument 0 gives, uninitialised. */
static tdr_status new_tensor(tdr_call *call, tdr_dtype dtype, tdr_tensor **ret_tensor)
{
	int64_t sizes[TDR_MAX_DIMS];
	size_t ndim = 0;
	char text[128];
	tdr_status status = arg_ints(call, 0, &ndim, sizes);

	if (status != TDR_OK)
		return status;
	shape_print(ndim, sizes, sizeof(text), text);
	for (size_t d = 0; d < ndim; d++)
		if (sizes[d] < 0)
			return refuse(call, TDR_EINVAL, "Trying to create tensor with negative dimension %lld: %s",
			              (long long)sizes[d], text);
	return tdr_tensor_empty(dtype, ndim, sizes, ret_tensor);
}

static tdr_status return_filled(tdr_call *call, const struct number *number, tdr_dtype dtype)
{
	union element element;
	tdr_tensor *one = NULL, *result = NULL;
	tdr_status status;

	status = number_convert(call, number, dtype, &element);
	if (status == TDR_OK)
		status = tdr_tensor_copy_of(&element, dtype, 0, NULL, &one);
	if (status == TDR_OK)
		status = new_tensor(call, dtype, &result);
	if (status == TDR_OK)
		tensor_fill(result, one);
	tdr_tensor_unref(one);
	return give_tensor(call, status, result);
}

static tdr_status return_filled_with_int(tdr_call *call, int64_t integer)
{
	const struct number number = {.kind = TDR_INT, .integer = integer, .real = (double)integer};
	tdr_dtype dtype = DTYPE_DEFAULT;
	tdr_status status = arg_dtype(call, 1, &dtype);

	return status == TDR_OK ? return_filled(call, &number, dtype) : status;
}

tdr_status operator_zeros(tdr_call *call, void *context)
{
	(void)context;
	return return_filled_with_int(call, 0);
}

tdr_status operator_ones(tdr_call *call, void *context)
{
	(void)context;
	return return_filled_with_int(call, 1);
}

tdr_status operator_full(tdr_call *call, void *context)
{
	struct number number;
	tdr_dtype dtype;
	tdr_status status;

	(void)context;
	status = arg_number(call, 1, "fill_value", &number);
	if (status != TDR_OK)
		return status;
	dtype = number.kind == TDR_KIND_BOOL ? TDR_BOOL : number.kind == TDR_INT ? TDR_I64 : DTYPE_DEFAULT;
	status = arg_dtype(call, 2, &dtype);
	return status == TDR_OK ? return_filled(call, &number, dtype) : status;
}

tdr_status operator_clone(tdr_call *call, void *context)
{
	tdr_tensor *result = NULL;
	tdr_status status;

	(void)context;
	status = tdr_tensor_clone(tdr_arg_tensor(call, 0), &result);
	return give_tensor(call, status, result);
}

/* Arguments: self, dtype, non_blocking (which means nothing on a CPU), copy. */
tdr_status operator_to(tdr_call *call, void *context)
{
	tdr_tensor *self, *result = NULL;
	tdr_dtype dtype;
	tdr_status status;

	(void)context;
	status = arg_operand(call, 0, &self);
	if (status != TDR_OK)
		return status;
	dtype = tdr_tensor_dtype(self);
	if (tdr_arg_is_none(call, 1))
		return refuse(call, TDR_ETYPE, "'dtype' must be given");
	status = arg_dtype(call, 1, &dtype);
	if (status == TDR_OK && dtype == tdr_tensor_dtype(self) && tdr_arg_bool(call, 3))
		status = tdr_tensor_clone(self, &result);
	else if (status == TDR_OK)
		status = tensor_cast(self, dtype, &result);
	return give_tensor(call, status, result);
}
