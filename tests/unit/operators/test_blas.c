/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of matrices in every layout, against sums made one by one. Run twice: with the BLAS that is there, and with
 * TENDRIL_BLAS=none.
 */
#include "operators/blas.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROOM (80 * 80)

/* Layouts: row by row, column by column, rows with a gap, and every other column, which no BLAS takes. */
enum {
	LAYOUTS = 4
};

static struct matrix layout(unsigned number, const void *data, int64_t rows, int64_t columns)
{
	struct matrix matrix = {
	    .data = data, .rows = rows, .columns = columns, .row_stride = columns, .column_stride = 1};

	if (number == 1) {
		matrix.row_stride = 1;
		matrix.column_stride = rows;
	} else if (number == 2) {
		matrix.row_stride = columns + 3;
	} else if (number == 3) {
		matrix.row_stride = 2 * columns;
		matrix.column_stride = 2;
	}
	return matrix;
}

static double item(tdr_dtype dtype, const void *data, int64_t index)
{
	return dtype == TDR_F32   ? (double)((const float *)data)[index]
	       : dtype == TDR_F64 ? ((const double *)data)[index]
	                          : (double)((const int64_t *)data)[index];
}

static void fill(tdr_dtype dtype, void *data, size_t count, uint32_t seed)
{
	for (size_t i = 0; i < count; i++) {
		seed = seed * 1664525 + 1013904223;
		if (dtype == TDR_F32)
			((float *)data)[i] = (float)(seed >> 16) / 65536 - 0.5F;
		else if (dtype == TDR_F64)
			((double *)data)[i] = (double)(seed >> 8) / (1 << 24) - 0.5;
		else
			((int64_t *)data)[i] = (int64_t)(seed >> 20) - 2048;
	}
}

static void check_product(tdr_dtype dtype, const struct matrix *a, const struct matrix *b)
{
	double out[ROOM / 2];

	memset(out, 0xff, sizeof(out)); /* NaN: nothing of it may be left */
	matrix_multiply(dtype, a, b, out);
	for (int64_t i = 0; i < a->rows; i++)
		for (int64_t j = 0; j < b->columns; j++) {
			double sum = 0;

			for (int64_t k = 0; k < a->columns; k++)
				sum += item(dtype, a->data, i * a->row_stride + k * a->column_stride) *
				       item(dtype, b->data, k * b->row_stride + j * b->column_stride);
			if (!(fabs(sum - item(dtype, out, i * b->columns + j)) <= 1e-4))
				fail_msg("%s: (%d, %d) of %dx%dx%d is %g, not %g", tdr_dtype_name(dtype), (int)i,
				         (int)j, (int)a->rows, (int)a->columns, (int)b->columns,
				         item(dtype, out, i * b->columns + j), sum);
		}
}

static void test_all_layouts(void **state)
{
	static const int64_t shapes[][3] = {{1, 1, 1}, {3, 4, 5}, {1, 7, 6}, {6, 7, 1},    {1, 9, 1},   {5, 1, 6},
	                                    {2, 0, 3}, {0, 2, 3}, {3, 2, 0}, {35, 33, 40}, {1, 65, 33}, {33, 65, 1}};
	static const tdr_dtype dtypes[] = {TDR_F32, TDR_F64, TDR_I64};
	static double left[ROOM * 2], right[ROOM * 2];

	(void)state;
	for (size_t d = 0; d < 3; d++) {
		fill(dtypes[d], left, ROOM, 1);
		fill(dtypes[d], right, ROOM, 2);
		for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
			for (unsigned way = 0; way < LAYOUTS * LAYOUTS; way++) {
				struct matrix a = layout(way % LAYOUTS, left, shapes[s][0], shapes[s][1]);
				struct matrix b = layout(way / LAYOUTS, right, shapes[s][1], shapes[s][2]);

				check_product(dtypes[d], &a, &b);
			}
	}
}

static void test_environment_is_followed(void **state)
{
	const char *name = getenv("TENDRIL_BLAS");

	(void)state;
	if (name && strcmp(name, "none") == 0)
		assert_false(blas_loaded());
	else if (!blas_loaded())
		skip(); /* no BLAS on this machine */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_all_layouts),
	    cmocka_unit_test(test_environment_is_followed),
	};

	return cmocka_run_group_tests_name("blas", tests, NULL, NULL);
}
