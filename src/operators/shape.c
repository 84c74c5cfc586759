/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t and reshape: other views of the same elements. Neither reads an element unless reshape has to copy, so any dtype
 * will do.
 */
#include "operators/cast.h"
#include "operators/elementwise.h"
#include "operators/operators.h"

tdr_status operator_t(tdr_call *call, void *context)
{
	tdr_tensor *self = tdr_arg_tensor(call, 0), *result = NULL;
	const size_t ndim = tdr_tensor_ndim(self);
	const int64_t *sizes = tdr_tensor_sizes(self), *strides = tdr_tensor_strides(self);
	tdr_status status;

	(void)context;
	if (ndim > 2)
		return refuse(call, TDR_EINVAL, "t() expects a tensor with <= 2 dimensions, but self is %zuD", ndim);
	if (ndim < 2)
		return tdr_return_tensor(call, self);
	status =
	    tdr_tensor_view(tdr_tensor_storage(self), tdr_tensor_dtype(self), 2, (const int64_t[]){sizes[1], sizes[0]},
	                    (const int64_t[]){strides[1], strides[0]}, tdr_tensor_offset(self), &result);
	return give_tensor(call, status, result);
}

/* Puts the size that -1 stands for, and refuses sizes that do not make as many elements as there are. */
static tdr_status infer_sizes(tdr_call *call, int64_t numel, size_t ndim, int64_t sizes[])
{
	int64_t product = 1;
	size_t inferred = ndim;
	bool overflow = false;
	char text[128];

	shape_print(ndim, sizes, sizeof(text), text);
	for (size_t d = 0; d < ndim; d++) {
		if (sizes[d] < -1)
			return refuse(call, TDR_EINVAL, "invalid shape dimension %lld", (long long)sizes[d]);
		if (sizes[d] == -1 && inferred < ndim)
			return refuse(call, TDR_EINVAL, "only one dimension can be inferred");
		if (sizes[d] == -1)
			inferred = d;
		else
			overflow = __builtin_mul_overflow(product, sizes[d], &product) || overflow;
	}
	if (inferred < ndim && product == 0 && numel == 0 && !overflow)
		return refuse(
		    call, TDR_EINVAL,
		    "cannot reshape tensor of 0 elements into shape %s because the unspecified dimension size -1 can "
		    "be any value and is ambiguous",
		    text);
	if (inferred < ndim && product > 0 && !overflow && numel % product == 0) {
		sizes[inferred] = numel / product;
		product = numel;
	}
	if (overflow || product != numel || (inferred < ndim && sizes[inferred] == -1))
		return refuse(call, TDR_EINVAL, "shape '%s' is invalid for input of size %lld", text, (long long)numel);
	return TDR_OK;
}

/*
 * The strides of a view of the tensor, which is not empty, under other sizes; false where it takes a copy. Dimensions
 * of the tensor that follow each other without gaps make a block, and the new dimensions must divide each block without
 * rest.
 */
static bool view_strides(const tdr_tensor *tensor, size_t ndim, const int64_t *sizes, int64_t ret_strides[])
{
	const int64_t *old_sizes = tdr_tensor_sizes(tensor), *old_strides = tdr_tensor_strides(tensor);
	size_t old = tdr_tensor_ndim(tensor);
	int64_t block, step;

	while (old > 0) {
		block = old_sizes[--old];
		step = old_strides[old];
		if (block == 1)
			continue;
		while (old > 0 && (old_sizes[old - 1] == 1 || old_strides[old - 1] == step * block))
			block *= old_sizes[--old];
		for (; ndim > 0 && (block > 1 || sizes[ndim - 1] == 1); ndim--) {
			if (block % sizes[ndim - 1] != 0)
				return false;
			ret_strides[ndim - 1] = step;
			step *= sizes[ndim - 1];
			block /= sizes[ndim - 1];
		}
		if (block != 1)
			return false;
	}
	while (ndim > 0)
		ret_strides[--ndim] = 1; /* what is left has size 1 */
	return true;
}

static tdr_status reshape(tdr_tensor *self, size_t ndim, const int64_t *sizes, tdr_tensor **ret_tensor)
{
	int64_t strides[TDR_MAX_DIMS];
	tdr_tensor *dense = NULL;
	tdr_status status;

	if (tdr_tensor_numel(self) > 0 && view_strides(self, ndim, sizes, strides))
		return tdr_tensor_view(tdr_tensor_storage(self), tdr_tensor_dtype(self), ndim, sizes, strides,
		                       tdr_tensor_offset(self), ret_tensor);
	status = tdr_tensor_contiguous(self, &dense);
	if (status == TDR_OK)
		status = tensor_shaped(dense, ndim, sizes, ret_tensor);
	tdr_tensor_unref(dense);
	return status;
}

tdr_status operator_reshape(tdr_call *call, void *context)
{
	tdr_tensor *self = tdr_arg_tensor(call, 0), *result = NULL;
	int64_t sizes[TDR_MAX_DIMS];
	size_t ndim = 0;
	tdr_status status;

	(void)context;
	status = arg_ints(call, 1, &ndim, sizes);
	if (status == TDR_OK)
		status = infer_sizes(call, tdr_tensor_numel(self), ndim, sizes);
	if (status == TDR_OK)
		status = reshape(self, ndim, sizes, &result);
	return give_tensor(call, status, result);
}
