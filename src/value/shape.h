/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shapes: what sizes and strides come to, in checked arithmetic. Every tensor has passed through shape_measure, so that
 * its products fit 64 bits wherever they are computed again.
 */
#ifndef TENDRIL_VALUE_SHAPE_H
#define TENDRIL_VALUE_SHAPE_H

#include <tendril/tensor.h>

struct shape {
	int64_t numel;   /* the product of the sizes */
	int64_t nbytes;  /* of so many elements without gaps */
	int64_t extent;  /* bytes from the first element's begin to the last one's end; 0 without elements */
	bool contiguous; /* row by row without gaps; what has no elements is, and dimensions of size 1 do not matter */
};

/*
 * Measures. `strides` NULL: contiguous. Errors: TDR_EINVAL (no dtype, too many dimensions, NULL sizes, a negative size or
 * stride), TDR_ELIMIT (more bytes than 63 bits count).
 */
TDR_MUST_USE tdr_status shape_measure(tdr_dtype dtype, size_t ndim, const int64_t *sizes, const int64_t *strides,
                                      struct shape *ret_shape);

/*
 * Writes the strides of contiguous elements. False if one does not fit 63 bits, which takes a dimension of size 0; it is
 * written as -1 then, which no tensor has. The sizes are not negative.
 */
bool shape_fill_strides(size_t ndim, const int64_t *sizes, int64_t *strides);

#endif
