/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of strided tensors, each held against a copy made element by element. */
#include "base/macros.h"
#include "value/tensor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ARRAY(...) ((const int64_t[]){__VA_ARGS__})

static const tdr_dtype dtypes[] = {TDR_U8, TDR_BF16, TDR_F32, TDR_I64, TDR_C128}; /* one of each size */

/* Bytes for `count` elements and one byte more, each different from its neighbours. */
static tdr_storage *numbered_storage(tdr_dtype dtype, size_t count)
{
	size_t nbytes = count * tdr_dtype_size(dtype) + 1;
	tdr_storage *storage;
	uint8_t *data;

	assert_int_equal(tdr_storage_new(nbytes, &storage), TDR_OK);
	data = tdr_storage_data(storage);
	for (size_t i = 0; i < nbytes; i++)
		data[i] = (uint8_t)(i * 167 + (i >> 8) * 31 + (i >> 16));
	return storage;
}

/* The slow way: each index by division. */
static void check_elements(const tdr_tensor *tensor, const char *copy)
{
	size_t itemsize = tdr_dtype_size(tdr_tensor_dtype(tensor));
	const char *from = tdr_tensor_data(tensor);

	for (int64_t i = 0; i < tdr_tensor_numel(tensor); i++) {
		int64_t rest = i, at = 0;

		for (size_t d = tdr_tensor_ndim(tensor); d-- > 0;) {
			at += rest % tdr_tensor_sizes(tensor)[d] * tdr_tensor_strides(tensor)[d];
			rest /= tdr_tensor_sizes(tensor)[d];
		}
		if (memcmp(copy + (size_t)i * itemsize, from + (size_t)at * itemsize, itemsize) != 0)
			fail_msg("element %d of a %s tensor differs", (int)i, tdr_dtype_name(tdr_tensor_dtype(tensor)));
	}
}

static void check_clone(tdr_storage *storage, tdr_dtype dtype, size_t ndim, const int64_t *sizes,
                        const int64_t *strides, int64_t offset)
{
	tdr_tensor *tensor, *clone, *contiguous;

	assert_int_equal(tdr_tensor_view(storage, dtype, ndim, sizes, strides, offset, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_clone(tensor, &clone), TDR_OK);
	assert_int_equal(tdr_tensor_dtype(clone), dtype);
	assert_int_equal(tdr_tensor_ndim(clone), ndim);
	assert_memory_equal(tdr_tensor_sizes(clone), sizes, ndim * sizeof(int64_t));
	assert_true(tdr_tensor_is_contiguous(clone));
	assert_ptr_not_equal(tdr_tensor_storage(clone), storage);
	assert_int_equal(tdr_storage_nbytes(tdr_tensor_storage(clone)), tensor_nbytes(tensor));
	check_elements(tensor, tdr_tensor_data(clone));
	assert_int_equal(tdr_tensor_contiguous(tensor, &contiguous), TDR_OK);
	assert_int_equal(contiguous == tensor, tdr_tensor_is_contiguous(tensor));
	assert_true(tdr_tensor_is_contiguous(contiguous));
	check_elements(tensor, tdr_tensor_data(contiguous));
	tdr_tensor_unref(contiguous);
	tdr_tensor_unref(clone);
	tdr_tensor_unref(tensor);
}

static void test_known(void **state)
{
	static const int32_t numbers[] = {0, 1, 2, 3, 4, 5}, transposed[] = {0, 3, 1, 4, 2, 5};
	tdr_tensor *tensor, *view, *clone;

	assert_int_equal(tdr_tensor_copy_of(numbers, TDR_I32, TDR_SHAPE(2, 3), &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_view(tdr_tensor_storage(tensor), TDR_I32, TDR_SHAPE(3, 2), ARRAY(1, 3), 0, &view),
	                 TDR_OK);
	assert_int_equal(tdr_tensor_clone(view, &clone), TDR_OK);
	assert_memory_equal(tdr_tensor_data(clone), transposed, sizeof(transposed));
	tdr_tensor_unref(tensor);
	tdr_tensor_unref(view);
	tdr_tensor_unref(clone);
}

static void test_shapes(void **state)
{
	static const struct {
		size_t ndim;
		int64_t sizes[5], strides[5], offset;
	} cases[] = {
	    {0, {0}, {0}, 0},
	    {0, {0}, {0}, 9},
	    {1, {100}, {1}, 3},
	    {1, {100}, {7}, 0},
	    {1, {100}, {0}, 5},
	    {2, {31, 33}, {33, 1}, 0},
	    {2, {33, 31}, {1, 33}, 0}, /* transposed */
	    {2, {65, 64}, {1, 70}, 2}, /* transposed, with gaps */
	    {2, {20, 30}, {50, 1}, 0}, /* rows with gaps */
	    {2, {20, 30}, {0, 1}, 0},  /* expanded along the first */
	    {2, {20, 30}, {1, 0}, 0},  /* expanded along the last */
	    {2, {20, 30}, {0, 0}, 4},  /* one element */
	    {3, {7, 8, 9}, {72, 9, 1}, 1},
	    {3, {7, 8, 9}, {1, 7, 56}, 0},
	    {3, {7, 8, 9}, {9, 63, 1}, 0},
	    {3, {7, 8, 9}, {8, 1, 56}, 0},
	    {3, {7, 8, 9}, {0, 1, 8}, 0},
	    {3, {7, 8, 9}, {144, 18, 2}, 0}, /* every second element */
	    {3, {7, 1, 9}, {9, 12345, 1}, 0},
	    {3, {4, 1, 1}, {3, 999, 1}, 0},
	    {4, {2, 3, 4, 5}, {60, 1, 15, 3}, 0}, /* channels last */
	    {4, {2, 3, 4, 5}, {80, 25, 6, 1}, 0},
	    {4, {2, 3, 4, 5}, {0, 20, 0, 1}, 0},
	    {5, {2, 3, 2, 3, 2}, {1, 2, 6, 12, 36}, 0},
	    {5, {2, 3, 2, 3, 2}, {54, 18, 6, 2, 1}, 0},
	    {3, {3, 0, 3}, {1, 1, 1}, 0},
	    {2, {3, 3}, {1, 1}, 0}, /* overlapping */
	};

	for (size_t i = 0; i < COUNT_OF(dtypes); i++) {
		tdr_storage *storage = numbered_storage(dtypes[i], 6000);

		for (size_t k = 0; k < COUNT_OF(cases); k++)
			check_clone(storage, dtypes[i], cases[k].ndim, cases[k].sizes, cases[k].strides,
			            cases[k].offset);
		tdr_storage_unref(storage);
	}
}

/* Memory of the caller's that is aligned to nothing. */
static void test_unaligned(void **state)
{
	for (size_t i = 0; i < COUNT_OF(dtypes); i++) {
		tdr_storage *storage = numbered_storage(dtypes[i], 700), *skewed;

		assert_int_equal(tdr_storage_from_memory((char *)tdr_storage_data(storage) + 1,
		                                         tdr_storage_nbytes(storage) - 1, TDR_DEVICE_CPU, NULL, NULL,
		                                         &skewed),
		                 TDR_OK);
		check_clone(skewed, dtypes[i], TDR_SHAPE(20, 35), ARRAY(35, 1), 0);
		check_clone(skewed, dtypes[i], TDR_SHAPE(35, 20), ARRAY(1, 35), 0);
		check_clone(skewed, dtypes[i], TDR_SHAPE(10, 35), ARRAY(70, 1), 0);
		tdr_storage_unref(skewed);
		tdr_storage_unref(storage);
	}
}

/* Any permutation, with gaps and repetitions, of any shape. */
static void test_random(void **state)
{
	unsigned seed = 7;

	for (size_t round = 0; round < 600; round++) {
		tdr_dtype dtype = dtypes[round % COUNT_OF(dtypes)];
		size_t ndim = (size_t)rand_r(&seed) % 7;
		int64_t sizes[8], strides[8], stride = 1, offset = rand_r(&seed) % 5;
		size_t order[8] = {0};
		tdr_storage *storage;

		for (size_t d = 0; d < ndim; d++) {
			size_t k = (size_t)rand_r(&seed) % (d + 1);

			order[d] = order[k];
			order[k] = d;
			sizes[d] = 1 + rand_r(&seed) % (rand_r(&seed) % 4 == 0 ? 9 : 4);
		}
		for (size_t d = 0; d < ndim; d++) {
			int64_t gap = rand_r(&seed) % 4 == 0 ? 2 : 1;

			strides[order[d]] = rand_r(&seed) % 8 == 0 ? 0 : stride * gap;
			stride *= sizes[order[d]] * gap;
		}
		storage = numbered_storage(dtype, (size_t)(stride + offset));
		check_clone(storage, dtype, ndim, sizes, strides, offset);
		tdr_storage_unref(storage);
	}
}

static void test_32_dimensions(void **state)
{
	tdr_storage *storage = numbered_storage(TDR_I16, 1 << 13);
	int64_t sizes[TDR_MAX_DIMS], strides[TDR_MAX_DIMS], stride = 1;

	for (size_t d = 0; d < TDR_MAX_DIMS; d++) {
		sizes[d] = d % 3 == 0 ? 2 : 1;
		strides[d] = stride;
		stride *= sizes[d];
	}
	assert_true(stride <= 1 << 13);
	check_clone(storage, TDR_I16, TDR_MAX_DIMS, sizes, strides, 0);
	tdr_storage_unref(storage);
}

static void test_not_on_cpu(void **state)
{
	int64_t bytes[4];
	tdr_tensor *tensor, *copy, *clone = NULL;
	tdr_storage *storage;

	/* Nothing reads the bytes, so any address does. */
	assert_int_equal(tdr_storage_from_memory(bytes, sizeof(bytes), (tdr_device){TDR_CUDA, 1}, NULL, NULL, &storage),
	                 TDR_OK);
	assert_int_equal(tdr_tensor_view(storage, TDR_I64, TDR_SHAPE(2), ARRAY(2), 0, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_device(tensor).index, 1);
	assert_int_equal(tdr_tensor_clone(tensor, &clone), TDR_EUNSUPPORTED);
	assert_non_null(strstr(tdr_last_error(), "cuda:1"));
	assert_int_equal(tdr_tensor_contiguous(tensor, &clone), TDR_EUNSUPPORTED);
	assert_null(clone);
	tdr_tensor_unref(tensor);
	assert_int_equal(tdr_tensor_view(storage, TDR_I64, TDR_SHAPE(2), NULL, 0, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_contiguous(tensor, &copy), TDR_OK);
	assert_ptr_equal(copy, tensor);
	tdr_tensor_unref(copy);
	tdr_tensor_unref(tensor);
	tdr_storage_unref(storage);
}

/* An expanded tensor may have more elements than there is memory for copies of them. */
static void test_too_large(void **state)
{
	tdr_storage *storage = numbered_storage(TDR_U8, 8);
	tdr_tensor *tensor, *clone = NULL;

	assert_int_equal(tdr_tensor_view(storage, TDR_U8, TDR_SHAPE(INT64_MAX), ARRAY(0), 0, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_clone(tensor, &clone), TDR_ENOMEM);
	assert_null(clone);
	tdr_tensor_unref(tensor);
	tdr_storage_unref(storage);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_known),     cmocka_unit_test(test_shapes),        cmocka_unit_test(test_unaligned),
	    cmocka_unit_test(test_random),    cmocka_unit_test(test_32_dimensions), cmocka_unit_test(test_not_on_cpu),
	    cmocka_unit_test(test_too_large),
	};

	return cmocka_run_group_tests_name("tensor_copy", tests, NULL, NULL);
}
