/* SPDX-License-Identifier: Apache-2.0 */
#include "value/shape.h"

#include "base/error.h"
#include "base/macros.h"

#include <inttypes.h>

static tdr_status check(tdr_dtype dtype, size_t ndim, const int64_t *sizes, const int64_t *strides)
{
	if (tdr_dtype_size(dtype) == 0)
		return error_set(TDR_EINVAL, "%d is no dtype; pass one of TDR_BOOL to TDR_C128", (int)dtype);
	if (ndim > TDR_MAX_DIMS)
		return error_set(TDR_EINVAL, "a tensor of %zu dimensions; it may have %d", ndim, TDR_MAX_DIMS);
	if (ndim > 0 && !sizes)
		return error_set(TDR_EINVAL, "sizes are NULL for a tensor of %zu dimensions; pass one size for each",
		                 ndim);
	for (size_t i = 0; i < ndim; i++) {
		if (sizes[i] < 0)
			return error_set(TDR_EINVAL, "sizes[%zu] is %" PRId64 "; a size cannot be negative", i,
			                 sizes[i]);
		if (strides && strides[i] < 0)
			return error_set(TDR_EINVAL,
			                 "strides[%zu] is %" PRId64 "; negative strides are not supported, copy the "
			                 "tensor first",
			                 i, strides[i]);
	}
	return TDR_OK;
}

static bool is_contiguous(size_t ndim, const int64_t *sizes, const int64_t *strides)
{
	int64_t stride = 1;

	for (size_t i = ndim; i-- > 0;) {
		if (sizes[i] == 1)
			continue;
		if (strides[i] != stride)
			return false;
		stride *= sizes[i];
	}
	return true;
}

/* Bytes from the first element to the end of the last; true if they do not fit. All sizes are 1 or more. */
static bool measure_extent(int64_t itemsize, size_t ndim, const int64_t *sizes, const int64_t *strides,
                           int64_t *ret_extent)
{
	int64_t last = 0, step;
	bool overflow = false;

	for (size_t i = 0; i < ndim; i++) {
		overflow |= __builtin_mul_overflow(sizes[i] - 1, strides[i], &step);
		overflow |= __builtin_add_overflow(last, step, &last);
	}
	overflow |= __builtin_add_overflow(last, 1, &last);
	overflow |= __builtin_mul_overflow(last, itemsize, ret_extent);
	return overflow;
}

tdr_status shape_measure(tdr_dtype dtype, size_t ndim, const int64_t *sizes, const int64_t *strides,
                         struct shape *ret_shape)
{
	tdr_status status = check(dtype, ndim, sizes, strides);
	int64_t itemsize = (int64_t)tdr_dtype_size(dtype), plain[TDR_MAX_DIMS];
	struct shape shape = {.numel = 1, .contiguous = true};
	bool empty = false, overflow = false;

	if (status != TDR_OK)
		return status;
	for (size_t i = 0; i < ndim; i++) {
		empty |= sizes[i] == 0;
		overflow |= __builtin_mul_overflow(shape.numel, sizes[i], &shape.numel);
	}
	overflow |= __builtin_mul_overflow(shape.numel, itemsize, &shape.nbytes);
	if (empty) {
		/* The product is 0, however far it went on the way; but strides that are still to be made must fit. */
		overflow = !strides && !shape_fill_strides(ndim, sizes, plain);
		shape.numel = shape.nbytes = 0;
	}
	if (overflow)
		return error_set(TDR_ELIMIT,
		                 "a %s tensor of such sizes has more bytes, or larger strides, than 63 bits hold",
		                 tdr_dtype_name(dtype));
	shape.extent = shape.nbytes;
	if (strides && !empty) {
		shape.contiguous = is_contiguous(ndim, sizes, strides);
		if (measure_extent(itemsize, ndim, sizes, strides, &shape.extent))
			return error_set(TDR_EINVAL,
			                 "the elements of a %s tensor of such sizes and strides lie further apart "
			                 "than 63 bits can count; no storage holds them",
			                 tdr_dtype_name(dtype));
	}
	*ret_shape = shape;
	return TDR_OK;
}

bool shape_fill_strides(size_t ndim, const int64_t *sizes, int64_t *strides)
{
	int64_t stride = 1;
	bool overflow = false;

	for (size_t i = ndim; i-- > 0;) {
		strides[i] = overflow ? -1 : stride;
		overflow |= __builtin_mul_overflow(stride, MAX_OF(sizes[i], (int64_t)1), &stride);
	}
	return ndim == 0 || strides[0] != -1;
}
