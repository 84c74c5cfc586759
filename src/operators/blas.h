/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of matrices in memory: by OpenBLAS, which is loaded when the first product is asked for, or by plain C where
 * it cannot be. The environment variable TENDRIL_BLAS names another library to load, or is "none".
 */
#ifndef TENDRIL_OPERATORS_BLAS_H
#define TENDRIL_OPERATORS_BLAS_H

#include <tendril/tensor.h>

/* A matrix: element (i, j) is i * row_stride + j * column_stride elements after `data`. */
struct matrix {
	const void *data;
	int64_t rows, columns;
	int64_t row_stride, column_stride;
};

/*
 * Writes a times b to `out`, row by row without gaps; a.columns is b.rows. With no elements in between the result is 0.
 * The dtype is f32, f64 or i64 (which wraps).
 */
void matrix_multiply(tdr_dtype dtype, const struct matrix *a, const struct matrix *b, void *out);

/* Whether matrix_multiply can hand the matrix to BLAS as it is, without a copy by its caller. */
bool matrix_is_dense(const struct matrix *matrix);

/* Whether a BLAS is in use; loads it. */
bool blas_loaded(void);

#endif
