/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenBLAS at run time, and the plain C that stands in for it.
 *
 * The library is told to use one thread: products run on threads that their caller counts, and a pool of its own would
 * compete with them. It starts threads when it is loaded nevertheless; signals are blocked meanwhile, so that these
 * never take one that is meant for the program.
 */
#include "operators/blas.h"

#include <assert.h>
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* Of the CBLAS interface, whose numbers are fixed. */
enum {
	CBLAS_ROW_MAJOR = 101,
	CBLAS_NO_TRANSPOSE = 111,
	CBLAS_TRANSPOSE = 112
};

#define DEFINE_BLAS_TYPES(name, type)                                                                                  \
	typedef void (*name##_gemm)(int order, int transpose_a, int transpose_b, int m, int n, int k, type alpha,      \
	                            const type *a, int lda, const type *b, int ldb, type beta, type *c, int ldc);      \
	typedef void (*name##_gemv)(int order, int transpose, int m, int n, type alpha, const type *a, int lda,        \
	                            const type *x, int incx, type beta, type *y, int incy);

DEFINE_BLAS_TYPES(single, float)
DEFINE_BLAS_TYPES(real, double)

static struct {
	pthread_once_t once;
	bool loaded;
	single_gemm sgemm;
	real_gemm dgemm;
	single_gemv sgemv;
	real_gemv dgemv;
} blas = {.once = PTHREAD_ONCE_INIT};

/* Fills in `function`, a pointer to a pointer to a function. */
static bool look_up(void *library, const char *name, void *function)
{
	void *found = dlsym(library, name);

	memcpy(function, &found, sizeof(found));
	return found != NULL;
}

static void blas_load(void)
{
	const char *name = getenv("TENDRIL_BLAS");
	void (*set_threads)(int count) = NULL;
	sigset_t all, before;
	void *library;

	if (name && strcmp(name, "none") == 0)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	library = dlopen(name && *name ? name : "libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!library)
		return;
	if (look_up(library, "openblas_set_num_threads", &set_threads))
		set_threads(1);
	blas.loaded = look_up(library, "cblas_sgemm", &blas.sgemm) && look_up(library, "cblas_dgemm", &blas.dgemm) &&
	              look_up(library, "cblas_sgemv", &blas.sgemv) && look_up(library, "cblas_dgemv", &blas.dgemv);
	if (!blas.loaded)
		dlclose(library);
}

bool blas_loaded(void)
{
	pthread_once(&blas.once, blas_load);
	return blas.loaded;
}

/* ---- plain C ---- */

/* Edge of the blocks: three of f64 fit a first-level cache. */
#define BLOCK 32

/*
 * Block by block; the innermost loop adds a multiple of a row of b to a row of the result, so that it runs over memory
 * without gaps where b is row by row.
 */
#define DEFINE_MULTIPLY(name, type)                                                                                    \
	static void name##_block(const struct matrix *a, const struct matrix *b, type *out, const int64_t from[3],     \
	                         const int64_t to[3])                                                                  \
	{                                                                                                              \
		for (int64_t i = from[0]; i < to[0]; i++)                                                              \
			for (int64_t k = from[1]; k < to[1]; k++) {                                                    \
				const type factor = ((const type *)a->data)[i * a->row_stride + k * a->column_stride]; \
				const type *row = (const type *)b->data + k * b->row_stride;                           \
				type *sum = out + i * b->columns;                                                      \
                                                                                                                       \
				if (b->column_stride == 1)                                                             \
					for (int64_t j = from[2]; j < to[2]; j++)                                      \
						sum[j] += factor * row[j];                                             \
				else                                                                                   \
					for (int64_t j = from[2]; j < to[2]; j++)                                      \
						sum[j] += factor * row[j * b->column_stride];                          \
			}                                                                                              \
	}                                                                                                              \
                                                                                                                       \
	static void name(const struct matrix *a, const struct matrix *b, void *out)                                    \
	{                                                                                                              \
		const int64_t ends[3] = {a->rows, a->columns, b->columns};                                             \
		int64_t from[3], to[3];                                                                                \
                                                                                                                       \
		memset(out, 0, (size_t)(a->rows * b->columns) * sizeof(type));                                         \
		for (from[0] = 0; from[0] < ends[0]; from[0] += BLOCK)                                                 \
			for (from[1] = 0; from[1] < ends[1]; from[1] += BLOCK)                                         \
				for (from[2] = 0; from[2] < ends[2]; from[2] += BLOCK) {                               \
					for (size_t d = 0; d < 3; d++)                                                 \
						to[d] = from[d] + BLOCK < ends[d] ? from[d] + BLOCK : ends[d];         \
					name##_block(a, b, out, from, to);                                             \
				}                                                                                      \
	}

DEFINE_MULTIPLY(multiply_f32, float)
DEFINE_MULTIPLY(multiply_f64, double)
DEFINE_MULTIPLY(multiply_i64, uint64_t) /* unsigned: wraps */

/* ---- BLAS ---- */

/* Row by row or column by column, as a matrix without rows or columns too many counts as either. */
static bool by_rows(const struct matrix *matrix)
{
	return (matrix->column_stride == 1 || matrix->columns == 1) &&
	       (matrix->row_stride >= matrix->columns || matrix->rows == 1);
}

static bool by_columns(const struct matrix *matrix)
{
	return (matrix->row_stride == 1 || matrix->rows == 1) &&
	       (matrix->column_stride >= matrix->rows || matrix->columns == 1);
}

bool matrix_is_dense(const struct matrix *matrix)
{
	return by_rows(matrix) || by_columns(matrix);
}

/* The distance of rows, or of columns where it lies by columns: 64-bit here, an int to BLAS. */
static int64_t leading(const struct matrix *matrix)
{
	if (by_rows(matrix))
		return matrix->rows == 1 ? matrix->columns : matrix->row_stride;
	return matrix->columns == 1 ? matrix->rows : matrix->column_stride;
}

static bool blas_takes(const struct matrix *matrix)
{
	return matrix->rows <= INT_MAX && matrix->columns <= INT_MAX && matrix_is_dense(matrix) &&
	       leading(matrix) <= INT_MAX;
}

/* The vector that a matrix of one row or one column is: the distance of its elements. */
static int64_t vector_stride(const struct matrix *matrix)
{
	const int64_t stride = matrix->rows == 1 ? matrix->column_stride : matrix->row_stride;

	return matrix->rows == 1 && matrix->columns == 1 ? 1 : stride;
}

/*
 * out = matrix * vector, or the matrix transposed; by CBLAS the matrix is described by rows, so one that lies by
 * columns is the transpose of what CBLAS is told.
 */
static bool multiply_vector(tdr_dtype dtype, const struct matrix *matrix, bool transposed, const struct matrix *vector,
                            void *out)
{
	const bool rows = by_rows(matrix);
	const int m = (int)(rows ? matrix->rows : matrix->columns), n = (int)(rows ? matrix->columns : matrix->rows);
	const int lead = (int)leading(matrix);
	const int transpose = rows == transposed ? CBLAS_TRANSPOSE : CBLAS_NO_TRANSPOSE;
	const int64_t step = vector_stride(vector);

	if (step <= 0 || step > INT_MAX)
		return false;
	/* A factor of 0 need not make 0 of what the memory holds: it may hold NaN. */
	memset(out, 0, (size_t)(transposed ? matrix->columns : matrix->rows) * tdr_dtype_size(dtype));
	if (dtype == TDR_F32)
		blas.sgemv(CBLAS_ROW_MAJOR, transpose, m, n, 1, matrix->data, lead, vector->data, (int)step, 0, out, 1);
	else
		blas.dgemv(CBLAS_ROW_MAJOR, transpose, m, n, 1, matrix->data, lead, vector->data, (int)step, 0, out, 1);
	return true;
}

/* False where BLAS cannot take them. */
static bool multiply_by_blas(tdr_dtype dtype, const struct matrix *a, const struct matrix *b, void *out)
{
	const int m = (int)a->rows, n = (int)b->columns, k = (int)a->columns;
	const int transpose_a = by_rows(a) ? CBLAS_NO_TRANSPOSE : CBLAS_TRANSPOSE;
	const int transpose_b = by_rows(b) ? CBLAS_NO_TRANSPOSE : CBLAS_TRANSPOSE;

	if (dtype == TDR_I64 || !blas_takes(a) || !blas_takes(b) || !blas_loaded())
		return false;
	if (n == 1 && multiply_vector(dtype, a, false, b, out))
		return true;
	if (m == 1 && multiply_vector(dtype, b, true, a, out))
		return true;
	if (dtype == TDR_F32)
		blas.sgemm(CBLAS_ROW_MAJOR, transpose_a, transpose_b, m, n, k, 1, a->data, (int)leading(a), b->data,
		           (int)leading(b), 0, out, n);
	else
		blas.dgemm(CBLAS_ROW_MAJOR, transpose_a, transpose_b, m, n, k, 1, a->data, (int)leading(a), b->data,
		           (int)leading(b), 0, out, n);
	return true;
}

void matrix_multiply(tdr_dtype dtype, const struct matrix *a, const struct matrix *b, void *out)
{
	assert(a->columns == b->rows);
	if (a->rows == 0 || b->columns == 0)
		return;
	if (a->columns > 0 && multiply_by_blas(dtype, a, b, out))
		return;
	if (dtype == TDR_F32)
		multiply_f32(a, b, out);
	else if (dtype == TDR_F64)
		multiply_f64(a, b, out);
	else
		multiply_i64(a, b, out);
}
