/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors: every constructor and what it refuses, bounds of views, contiguity, references. */
#include "base/macros.h"
#include "value/tensor.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ARRAY(...) ((const int64_t[]){__VA_ARGS__})
#define P62 ((int64_t)1 << 62)

/* What an output is before the call, and must be after one that failed. */
#define UNTOUCHED ((tdr_tensor *)(uintptr_t)0x40)

#define assert_refused(status, call)                                                                                   \
	do {                                                                                                           \
		tensor = UNTOUCHED;                                                                                    \
		assert_int_equal(call, status);                                                                        \
		assert_ptr_equal(tensor, UNTOUCHED);                                                                   \
		assert_string_not_equal(tdr_last_error(), "");                                                         \
	} while (0)

static tdr_storage *storage_of(size_t nbytes)
{
	tdr_storage *storage;

	assert_int_equal(tdr_storage_new(nbytes, &storage), TDR_OK);
	if (nbytes > 0)
		memset(tdr_storage_data(storage), 0, nbytes);
	return storage;
}

/* ---- constructors ---- */

static void test_empty(void **state)
{
	tdr_tensor *tensor;

	for (int dtype = TDR_BOOL; dtype <= TDR_C128; dtype++) {
		size_t nbytes = 24 * tdr_dtype_size((tdr_dtype)dtype);

		assert_int_equal(tdr_tensor_empty((tdr_dtype)dtype, TDR_SHAPE(2, 3, 4), &tensor), TDR_OK);
		assert_int_equal(tdr_tensor_dtype(tensor), dtype);
		assert_int_equal(tdr_tensor_ndim(tensor), 3);
		assert_memory_equal(tdr_tensor_sizes(tensor), ARRAY(2, 3, 4), 3 * sizeof(int64_t));
		assert_memory_equal(tdr_tensor_strides(tensor), ARRAY(12, 4, 1), 3 * sizeof(int64_t));
		assert_int_equal(tdr_tensor_offset(tensor), 0);
		assert_int_equal(tdr_tensor_numel(tensor), 24);
		assert_int_equal(tensor_nbytes(tensor), nbytes);
		assert_true(tdr_tensor_is_contiguous(tensor));
		assert_int_equal(tdr_tensor_device(tensor).type, TDR_CPU);
		assert_false(tdr_tensor_requires_grad(tensor));
		assert_int_equal(tdr_storage_nbytes(tdr_tensor_storage(tensor)), nbytes);
		assert_ptr_equal(tdr_storage_data(tdr_tensor_storage(tensor)), tdr_tensor_data(tensor));
		memset(tdr_tensor_data(tensor), 0xff, nbytes);
		assert_null(tdr_tensor_unref(tensor));
	}
}

static void test_dimensions(void **state)
{
	int64_t sizes[TDR_MAX_DIMS + 1];
	tdr_tensor *tensor;

	assert_int_equal(tdr_tensor_empty(TDR_F64, 0, NULL, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_ndim(tensor), 0);
	assert_int_equal(tdr_tensor_numel(tensor), 1);
	assert_int_equal(tensor_nbytes(tensor), 8);
	assert_true(tdr_tensor_is_contiguous(tensor));
	tdr_tensor_unref(tensor);

	for (size_t i = 0; i < COUNT_OF(sizes); i++)
		sizes[i] = i % 4 == 0 ? 2 : 1;
	assert_int_equal(tdr_tensor_zeros(TDR_U8, 32, sizes, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_ndim(tensor), 32);
	assert_int_equal(tdr_tensor_numel(tensor), 256);
	assert_int_equal(tdr_tensor_strides(tensor)[0], 128);
	assert_int_equal(tdr_tensor_strides(tensor)[31], 1);
	tdr_tensor_unref(tensor);

	assert_refused(TDR_EINVAL, tdr_tensor_empty(TDR_U8, 33, sizes, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_empty(TDR_U8, SIZE_MAX, sizes, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_empty(TDR_U8, 1, NULL, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_empty((tdr_dtype)15, 0, NULL, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_zeros(TDR_U8, TDR_SHAPE(3, -1), &tensor));
	assert_non_null(strstr(tdr_last_error(), "sizes[1] is -1"));
	assert_refused(TDR_EINVAL, tdr_tensor_zeros(TDR_U8, TDR_SHAPE(0, INT64_MIN), &tensor));
}

static void test_zero_sizes(void **state)
{
	tdr_tensor *tensor;

	assert_int_equal(tdr_tensor_empty(TDR_F32, TDR_SHAPE(3, 0, 4), &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_numel(tensor), 0);
	assert_memory_equal(tdr_tensor_strides(tensor), ARRAY(4, 4, 1), 3 * sizeof(int64_t));
	assert_int_equal(tensor_nbytes(tensor), 0);
	assert_null(tdr_tensor_data(tensor));
	assert_true(tdr_tensor_is_contiguous(tensor));
	tdr_tensor_unref(tensor);
	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(0), &tensor), TDR_OK);
	tdr_tensor_unref(tensor);
	assert_int_equal(tdr_tensor_copy_of(NULL, TDR_F32, TDR_SHAPE(0, 7), &tensor), TDR_OK);
	tdr_tensor_unref(tensor);
	assert_int_equal(tdr_tensor_from_memory(NULL, TDR_F32, TDR_SHAPE(7, 0), NULL, NULL, &tensor), TDR_OK);
	tdr_tensor_unref(tensor);
}

static void test_overflow(void **state)
{
	char byte;
	tdr_tensor *tensor;

	/* 2^63 elements; 2^63 bytes of fewer elements; one byte less fits 63 bits, but no memory. */
	assert_refused(TDR_ELIMIT, tdr_tensor_empty(TDR_U8, TDR_SHAPE(P62, 2), &tensor));
	assert_refused(TDR_ELIMIT, tdr_tensor_empty(TDR_U8, TDR_SHAPE(P62, P62, 16), &tensor));
	assert_refused(TDR_ELIMIT, tdr_tensor_empty(TDR_I16, TDR_SHAPE(P62), &tensor));
	assert_refused(TDR_ELIMIT, tdr_tensor_zeros(TDR_C128, TDR_SHAPE(INT64_MAX / 16 + 1), &tensor));
	assert_refused(TDR_ENOMEM, tdr_tensor_zeros(TDR_C128, TDR_SHAPE(INT64_MAX / 16), &tensor));
	assert_refused(TDR_ENOMEM, tdr_tensor_empty(TDR_U8, TDR_SHAPE(INT64_MAX), &tensor));
	assert_refused(TDR_ELIMIT, tdr_tensor_copy_of(&byte, TDR_U8, TDR_SHAPE(P62, 2), &tensor));
	assert_refused(TDR_ELIMIT, tdr_tensor_from_memory(&byte, TDR_U8, TDR_SHAPE(P62, 2), NULL, NULL, &tensor));
	/* Nothing to hold, but the first stride would be 2^124, or 2^63. */
	assert_refused(TDR_ELIMIT, tdr_tensor_empty(TDR_U8, TDR_SHAPE(0, P62, P62), &tensor));
	assert_refused(TDR_ELIMIT, tdr_tensor_empty(TDR_U8, TDR_SHAPE(0, P62, 2), &tensor));
	assert_int_equal(tdr_tensor_empty(TDR_C128, TDR_SHAPE(P62, 0, P62), &tensor), TDR_OK);
	assert_memory_equal(tdr_tensor_strides(tensor), ARRAY(P62, P62, 1), 3 * sizeof(int64_t));
	tdr_tensor_unref(tensor);
}

static void test_zeros(void **state)
{
	static const uint8_t nothing[16 * 35];
	tdr_tensor *tensor;

	for (int dtype = TDR_BOOL; dtype <= TDR_C128; dtype++) {
		assert_int_equal(tdr_tensor_zeros((tdr_dtype)dtype, TDR_SHAPE(5, 7), &tensor), TDR_OK);
		assert_memory_equal(tdr_tensor_data(tensor), nothing, tensor_nbytes(tensor));
		tdr_tensor_unref(tensor);
	}
}

static void test_copy_of(void **state)
{
	float numbers[] = {1, 2, 3, 4, 5, 6};
	tdr_tensor *tensor;

	assert_int_equal(tdr_tensor_copy_of(numbers, TDR_F32, TDR_SHAPE(2, 3), &tensor), TDR_OK);
	assert_ptr_not_equal(tdr_tensor_data(tensor), numbers);
	assert_memory_equal(tdr_tensor_data(tensor), numbers, sizeof(numbers));
	tdr_tensor_unref(tensor);
	assert_refused(TDR_EINVAL, tdr_tensor_copy_of(NULL, TDR_F32, TDR_SHAPE(2, 3), &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_copy_of(numbers, TDR_F32, TDR_SHAPE(2, -3), &tensor));
}

static void count_run(void *context, void *data)
{
	*(int *)context += 1;
}

static void test_from_memory(void **state)
{
	int64_t numbers[6] = {0};
	int runs = 0;
	tdr_storage *storage;
	tdr_tensor *tensor;

	assert_int_equal(tdr_tensor_from_memory(numbers, TDR_I64, TDR_SHAPE(3, 2), count_run, &runs, &tensor), TDR_OK);
	assert_ptr_equal(tdr_tensor_data(tensor), numbers);
	assert_int_equal(tdr_storage_nbytes(tdr_tensor_storage(tensor)), sizeof(numbers));
	storage = tdr_storage_ref(tdr_tensor_storage(tensor));
	tdr_tensor_unref(tensor);
	assert_int_equal(runs, 0);
	tdr_storage_unref(storage);
	assert_int_equal(runs, 1);

	assert_refused(TDR_EINVAL, tdr_tensor_from_memory(NULL, TDR_I64, TDR_SHAPE(3, 2), count_run, &runs, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_from_memory(numbers, TDR_I64, TDR_SHAPE(-3), count_run, &runs, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_from_memory(numbers, (tdr_dtype)99, 0, NULL, count_run, &runs, &tensor));
	assert_refused(TDR_ELIMIT, tdr_tensor_from_memory(numbers, TDR_I64, TDR_SHAPE(P62), count_run, &runs, &tensor));
	assert_int_equal(runs, 1);
}

/* ---- views ---- */

static void test_view(void **state)
{
	tdr_storage *storage = storage_of(48 * 4);
	tdr_tensor *tensor, *other;

	assert_int_equal(tdr_tensor_view(storage, TDR_I32, TDR_SHAPE(4, 3), ARRAY(12, 2), 5, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_view(storage, TDR_U8, TDR_SHAPE(2, 96), NULL, 0, &other), TDR_OK);
	tdr_storage_unref(storage);
	assert_ptr_equal(tdr_tensor_storage(tensor), storage);
	assert_ptr_equal(tdr_tensor_storage(other), storage);
	assert_ptr_equal(tdr_tensor_data(tensor), (char *)tdr_storage_data(storage) + 20);
	assert_int_equal(tdr_tensor_offset(tensor), 5);
	assert_memory_equal(tdr_tensor_strides(tensor), ARRAY(12, 2), 2 * sizeof(int64_t));
	assert_memory_equal(tdr_tensor_strides(other), ARRAY(96, 1), 2 * sizeof(int64_t));
	assert_false(tdr_tensor_is_contiguous(tensor));
	assert_true(tdr_tensor_is_contiguous(other));
	tdr_tensor_unref(tensor);
	tdr_tensor_unref(other);
}

static void test_view_refuses_numbers(void **state)
{
	tdr_storage *storage = storage_of(64);
	tdr_tensor *tensor;

	assert_refused(TDR_EINVAL, tdr_tensor_view(NULL, TDR_U8, TDR_SHAPE(1), NULL, 0, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_view(storage, (tdr_dtype)-1, TDR_SHAPE(1), NULL, 0, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_view(storage, TDR_U8, TDR_SHAPE(-1), NULL, 0, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_view(storage, TDR_U8, TDR_SHAPE(2, 2), ARRAY(2, -1), 8, &tensor));
	assert_non_null(strstr(tdr_last_error(), "strides[1] is -1"));
	assert_refused(TDR_EINVAL, tdr_tensor_view(storage, TDR_U8, TDR_SHAPE(1), NULL, -1, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_view(storage, TDR_U8, TDR_SHAPE(0), NULL, -1, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_view(storage, TDR_U8, TDR_SHAPE(1), NULL, INT64_MIN, &tensor));
	tdr_storage_unref(storage);
}

static void test_view_bounds(void **state)
{
	static const struct {
		tdr_dtype dtype;
		size_t ndim;
		int64_t sizes[3], strides[3], offset;
		tdr_status status;
	} cases[] = {
	    /* of 64 bytes */
	    {TDR_U8, 1, {64}, {1}, 0, TDR_OK},
	    {TDR_U8, 1, {65}, {1}, 0, TDR_EINVAL},
	    {TDR_U8, 1, {64}, {1}, 1, TDR_EINVAL},
	    {TDR_I64, 1, {8}, {1}, 0, TDR_OK},
	    {TDR_I64, 1, {7}, {1}, 1, TDR_OK},
	    {TDR_I64, 1, {8}, {1}, 1, TDR_EINVAL},
	    {TDR_I64, 2, {2, 2}, {6, 1}, 0, TDR_OK},
	    {TDR_I64, 2, {2, 2}, {7, 1}, 0, TDR_EINVAL},
	    {TDR_I64, 2, {2, 2}, {1, 6}, 0, TDR_OK},
	    {TDR_I64, 2, {2, 2}, {1, 7}, 0, TDR_EINVAL},
	    {TDR_I64, 0, {0}, {0}, 7, TDR_OK},
	    {TDR_I64, 0, {0}, {0}, 8, TDR_EINVAL},
	    {TDR_C128, 1, {1}, {100}, 3, TDR_OK},
	    {TDR_C128, 1, {1}, {100}, 4, TDR_EINVAL},
	    /* strides of 0: many elements in one place */
	    {TDR_I64, 2, {1000, 8}, {0, 1}, 0, TDR_OK},
	    {TDR_I64, 2, {1000, 8}, {0, 1}, 1, TDR_EINVAL},
	    {TDR_I64, 1, {INT64_MAX / 8}, {0}, 7, TDR_OK},
	    {TDR_I64, 1, {INT64_MAX / 8 + 1}, {0}, 7, TDR_ELIMIT},
	    {TDR_U8, 2, {P62, 2}, {0, 0}, 0, TDR_ELIMIT},
	    /* a stride that steps nowhere may be any */
	    {TDR_I64, 2, {1, 8}, {INT64_MAX, 1}, 0, TDR_OK},
	    /* sums and products that wrap around to something that would fit */
	    {TDR_U8, 1, {2}, {INT64_MAX}, 0, TDR_EINVAL},
	    {TDR_U8, 2, {2, 2}, {INT64_MAX, INT64_MAX}, 0, TDR_EINVAL},
	    {TDR_U8, 3, {5, 5, 1}, {P62, P62, 1}, 0, TDR_EINVAL},
	    {TDR_I64, 1, {2}, {P62 / 2}, 0, TDR_EINVAL},
	    {TDR_I64, 1, {1}, {1}, P62, TDR_EINVAL},
	    {TDR_U8, 1, {2}, {1}, INT64_MAX, TDR_EINVAL},
	    {TDR_C128, 1, {1}, {1}, INT64_MAX / 16 + 1, TDR_EINVAL},
	    /* without elements: anywhere, but within */
	    {TDR_I64, 1, {0}, {1}, 8, TDR_OK},
	    {TDR_I64, 1, {0}, {1}, 9, TDR_EINVAL},
	    {TDR_I64, 2, {0, 1000}, {1000, 1000}, 0, TDR_OK},
	    {TDR_I64, 3, {P62, P62, 0}, {INT64_MAX, INT64_MAX, 1}, 4, TDR_OK},
	    {TDR_I64, 1, {0}, {1}, P62, TDR_EINVAL},
	};
	tdr_storage *storage = storage_of(64);

	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		tdr_tensor *tensor = UNTOUCHED;
		tdr_status status = tdr_tensor_view(storage, cases[i].dtype, cases[i].ndim, cases[i].sizes,
		                                    cases[i].strides, cases[i].offset, &tensor);

		if (status != cases[i].status)
			fail_msg("case %zu: %s, not %s (%s)", i, tdr_status_name(status),
			         tdr_status_name(cases[i].status), tdr_last_error());
		if (status == TDR_OK)
			tdr_tensor_unref(tensor);
		else
			assert_ptr_equal(tensor, UNTOUCHED);
	}
	tdr_storage_unref(storage);
}

static void test_view_of_nothing(void **state)
{
	tdr_storage *storage = storage_of(0);
	tdr_tensor *tensor;

	assert_int_equal(tdr_tensor_view(storage, TDR_F32, TDR_SHAPE(0, 3), NULL, 0, &tensor), TDR_OK);
	assert_null(tdr_tensor_data(tensor));
	tdr_tensor_unref(tensor);
	assert_refused(TDR_EINVAL, tdr_tensor_view(storage, TDR_F32, TDR_SHAPE(0, 3), NULL, 1, &tensor));
	assert_refused(TDR_EINVAL, tdr_tensor_view(storage, TDR_F32, 0, NULL, NULL, 0, &tensor));
	tdr_storage_unref(storage);
}

static void test_contiguity(void **state)
{
	static const struct {
		size_t ndim;
		int64_t sizes[4], strides[4];
		bool contiguous;
	} cases[] = {
	    {0, {0}, {0}, true},
	    {1, {5}, {1}, true},
	    {1, {5}, {2}, false},
	    {1, {5}, {0}, false},
	    {1, {1}, {0}, true},
	    {1, {1}, {77}, true},
	    {2, {2, 3}, {3, 1}, true},
	    {2, {2, 3}, {4, 1}, false},
	    {2, {2, 3}, {1, 2}, false},
	    {2, {1, 3}, {50, 1}, true},
	    {2, {3, 1}, {1, 50}, true},
	    {2, {3, 1}, {2, 1}, false},
	    {3, {2, 1, 3}, {3, 9, 1}, true},
	    {3, {2, 1, 3}, {6, 3, 1}, false},
	    {3, {2, 2, 2}, {4, 2, 1}, true},
	    {3, {2, 2, 2}, {2, 4, 1}, false},
	    {4, {1, 1, 1, 1}, {9, 8, 7, 6}, true},
	    {2, {0, 3}, {7, 7}, true},
	    {2, {3, 0}, {1, 1}, true},
	    {2, {2, 3}, {0, 1}, false},
	};
	tdr_storage *storage = storage_of(1024);

	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		tdr_tensor *tensor;

		assert_int_equal(
		    tdr_tensor_view(storage, TDR_U8, cases[i].ndim, cases[i].sizes, cases[i].strides, 0, &tensor),
		    TDR_OK);
		if (tdr_tensor_is_contiguous(tensor) != cases[i].contiguous)
			fail_msg("case %zu", i);
		tdr_tensor_unref(tensor);
	}
	tdr_storage_unref(storage);
}

/* ---- references and marks ---- */

static void test_references(void **state)
{
	int runs = 0;
	char byte;
	tdr_tensor *tensor;

	assert_null(tdr_tensor_ref(NULL));
	assert_null(tdr_tensor_unref(NULL));
	assert_int_equal(tdr_tensor_from_memory(&byte, TDR_U8, 0, NULL, count_run, &runs, &tensor), TDR_OK);
	assert_ptr_equal(tdr_tensor_ref(tensor), tensor);
	assert_null(tdr_tensor_unref(tensor));
	assert_int_equal(runs, 0);
	assert_null(tdr_tensor_unref(tensor));
	assert_int_equal(runs, 1);
}

static void test_requires_grad(void **state)
{
	tdr_tensor *tensor, *clone, *same, *view;

	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(2), &tensor), TDR_OK);
	tdr_tensor_set_requires_grad(tensor, true);
	assert_true(tdr_tensor_requires_grad(tensor));
	assert_int_equal(tdr_tensor_clone(tensor, &clone), TDR_OK);
	assert_true(tdr_tensor_requires_grad(clone));
	assert_int_equal(tdr_tensor_contiguous(tensor, &same), TDR_OK);
	assert_ptr_equal(same, tensor);
	assert_int_equal(tdr_tensor_view(tdr_tensor_storage(tensor), TDR_F32, TDR_SHAPE(2), NULL, 0, &view), TDR_OK);
	assert_false(tdr_tensor_requires_grad(view));
	tdr_tensor_set_requires_grad(tensor, false);
	assert_false(tdr_tensor_requires_grad(tensor));
	assert_true(tdr_tensor_requires_grad(clone));
	tdr_tensor_unref(tensor);
	tdr_tensor_unref(same);
	tdr_tensor_unref(clone);
	tdr_tensor_unref(view);
}

#define THREADS 4
#define ROUNDS 20000

static void *ref_and_unref(void *tensor)
{
	for (size_t i = 0; i < ROUNDS; i++) {
		tdr_tensor *view;

		if (tdr_tensor_view(tdr_tensor_storage(tensor), TDR_U8, 0, NULL, NULL, 0, &view) != TDR_OK)
			abort();
		tdr_tensor_ref(tensor);
		tdr_tensor_unref(view);
		tdr_tensor_unref(tensor);
	}
	((uint8_t *)tdr_tensor_data(tensor))[0] = 1;
	tdr_tensor_unref(tensor);
	return NULL;
}

/* The thread that drops the last reference sees what the others wrote. */
static void see_writes(void *context, void *data)
{
	for (size_t i = 0; i < THREADS; i++)
		*(int *)context += ((uint8_t *)data)[i];
}

static void test_threads(void **state)
{
	uint8_t bytes[THREADS] = {0};
	pthread_t threads[THREADS];
	int sum = 0;
	tdr_storage *storage;

	assert_int_equal(tdr_storage_from_memory(bytes, THREADS, TDR_DEVICE_CPU, see_writes, &sum, &storage), TDR_OK);
	for (int i = 0; i < THREADS; i++) {
		tdr_tensor *tensor;

		assert_int_equal(tdr_tensor_view(storage, TDR_U8, 0, NULL, NULL, i, &tensor), TDR_OK);
		assert_int_equal(pthread_create(&threads[i], NULL, ref_and_unref, tensor), 0);
	}
	tdr_storage_unref(storage);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(sum, THREADS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_empty),
	    cmocka_unit_test(test_dimensions),
	    cmocka_unit_test(test_zero_sizes),
	    cmocka_unit_test(test_overflow),
	    cmocka_unit_test(test_zeros),
	    cmocka_unit_test(test_copy_of),
	    cmocka_unit_test(test_from_memory),
	    cmocka_unit_test(test_view),
	    cmocka_unit_test(test_view_refuses_numbers),
	    cmocka_unit_test(test_view_bounds),
	    cmocka_unit_test(test_view_of_nothing),
	    cmocka_unit_test(test_contiguity),
	    cmocka_unit_test(test_references),
	    cmocka_unit_test(test_requires_grad),
	    cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
