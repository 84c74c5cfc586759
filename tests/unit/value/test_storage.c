/* SPDX-License-Identifier: Apache-2.0 */
/* Dtypes, devices and storages: sizes and names, alignment, deleters, pooled bytes. */
#include "value/storage.h"

#include "base/macros.h"
#include "base/poison.h"
#include "value/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* ---- dtypes and devices ---- */

static void test_dtypes(void **state)
{
	static const struct {
		tdr_dtype dtype;
		size_t size;
		const char *name;
	} wanted[] = {
#define ROW(name_, number, size_, text) {name_, size_, text},
	    TDR_DTYPE_LIST(ROW)
#undef ROW
	};

	assert_int_equal(COUNT_OF(wanted), 15);
	for (size_t i = 0; i < COUNT_OF(wanted); i++) {
		assert_int_equal(wanted[i].dtype, i);
		assert_int_equal(tdr_dtype_size(wanted[i].dtype), wanted[i].size);
		assert_string_equal(tdr_dtype_name(wanted[i].dtype), wanted[i].name);
	}
	assert_int_equal(tdr_dtype_size((tdr_dtype)15), 0);
	assert_int_equal(tdr_dtype_size((tdr_dtype)-1), 0);
	assert_string_equal(tdr_dtype_name((tdr_dtype)15), "?");
	assert_string_equal(tdr_dtype_name((tdr_dtype)-1), "?");
}

static void test_devices(void **state)
{
	const tdr_device cpu = TDR_DEVICE_CPU, cpu0 = {TDR_CPU, 0}, cuda = {TDR_CUDA, -1}, cuda1 = {TDR_CUDA, 1};
	char text[DEVICE_TEXT_SIZE];

	assert_true(device_valid(cpu) && device_valid(cpu0) && device_valid(cuda) && device_valid(cuda1));
	assert_false(device_valid((tdr_device){(tdr_device_type)2, 0}));
	assert_false(device_valid((tdr_device){(tdr_device_type)-1, 0}));
	assert_false(device_valid((tdr_device){TDR_CUDA, -2}));
	assert_true(device_equal(cpu, cpu0));
	assert_true(device_equal(cuda1, cuda1));
	assert_false(device_equal(cuda1, cuda));
	assert_false(device_equal(cpu, cuda));
	assert_string_equal(device_print(cpu, text), "cpu");
	assert_string_equal(device_print(cuda, text), "cuda");
	assert_string_equal(device_print(cuda1, text), "cuda:1");
	assert_string_equal(device_print((tdr_device){(tdr_device_type)9, INT32_MAX}, text), "?:2147483647");
}

/* ---- storages ---- */

static void test_new(void **state)
{
	static const size_t sizes[] = {1, 2, 15, 63, 64, 65, 1000, 4096, 1 << 20, 5 << 20};

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		tdr_storage *storage, *zeroed;
		uint8_t *data;

		assert_int_equal(tdr_storage_new(sizes[i], &storage), TDR_OK);
		assert_int_equal((uintptr_t)tdr_storage_data(storage) % 64, 0);
		assert_int_equal(tdr_storage_nbytes(storage), sizes[i]);
		assert_int_equal(tdr_storage_device(storage).type, TDR_CPU);
		assert_int_equal(tdr_storage_device(storage).index, -1);
		memset(tdr_storage_data(storage), 0xff, sizes[i]);
		assert_null(tdr_storage_unref(storage));

		assert_int_equal(storage_new_zeroed(sizes[i], &zeroed), TDR_OK);
		data = tdr_storage_data(zeroed);
		assert_int_equal((uintptr_t)data % 64, 0);
		for (size_t k = 0; k < sizes[i]; k++)
			if (data[k] != 0)
				fail_msg("byte %zu of %zu is not zero", k, sizes[i]);
		tdr_storage_unref(zeroed);
	}
}

static void test_zero_bytes(void **state)
{
	struct pool *pool = pool_new(4096);
	tdr_storage *storage;

	assert_int_equal(tdr_storage_new(0, &storage), TDR_OK);
	assert_null(tdr_storage_data(storage));
	assert_int_equal(tdr_storage_nbytes(storage), 0);
	tdr_storage_unref(storage);
	assert_int_equal(storage_new_zeroed(0, &storage), TDR_OK);
	assert_null(tdr_storage_data(storage));
	tdr_storage_unref(storage);
	assert_int_equal(storage_new_pooled(pool, 0, &storage), TDR_OK);
	assert_null(tdr_storage_data(storage));
	assert_int_equal(pool_stats(pool).taken, 0);
	tdr_storage_unref(storage);
	pool_unref(pool);
}

static void test_too_large(void **state)
{
	struct pool *pool = pool_new(4096);
	tdr_storage *const untouched = (tdr_storage *)state;
	tdr_storage *storage = untouched;

	assert_int_equal(tdr_storage_new(SIZE_MAX, &storage), TDR_ENOMEM);
	assert_int_equal(tdr_storage_new((size_t)PTRDIFF_MAX - 8, &storage), TDR_ENOMEM);
	assert_int_equal(storage_new_zeroed(SIZE_MAX - 100, &storage), TDR_ENOMEM);
	assert_int_equal(storage_new_pooled(pool, SIZE_MAX, &storage), TDR_ENOMEM);
	assert_non_null(strstr(tdr_last_error(), "out of memory"));
	assert_ptr_equal(storage, untouched);
	pool_unref(pool);
}

/* Counts a deleter's runs, and keeps what it was given. */
struct deletion {
	int runs;
	void *data;
};

static void count_deletion(void *context, void *data)
{
	struct deletion *deletion = context;

	deletion->runs++;
	deletion->data = data;
}

static void test_from_memory(void **state)
{
	struct deletion deletion = {0};
	char memory[10];
	tdr_storage *storage;

	assert_int_equal(tdr_storage_from_memory(memory, 10, TDR_DEVICE_CPU, count_deletion, &deletion, &storage),
	                 TDR_OK);
	assert_ptr_equal(tdr_storage_data(storage), memory);
	assert_int_equal(tdr_storage_nbytes(storage), 10);
	assert_ptr_equal(tdr_storage_ref(storage), storage);
	assert_null(tdr_storage_unref(storage));
	assert_int_equal(deletion.runs, 0);
	assert_null(tdr_storage_unref(storage));
	assert_int_equal(deletion.runs, 1);
	assert_ptr_equal(deletion.data, memory);

	/* A storage of 0 bytes shows no data, but its deleter gets what it was made from. */
	deletion = (struct deletion){0};
	assert_int_equal(tdr_storage_from_memory(memory, 0, TDR_DEVICE_CPU, count_deletion, &deletion, &storage),
	                 TDR_OK);
	assert_null(tdr_storage_data(storage));
	tdr_storage_unref(storage);
	assert_int_equal(deletion.runs, 1);
	assert_ptr_equal(deletion.data, memory);

	assert_int_equal(tdr_storage_from_memory(memory, 10, TDR_DEVICE_CPU, NULL, NULL, &storage), TDR_OK);
	assert_null(tdr_storage_unref(storage));
	assert_int_equal(tdr_storage_from_memory(NULL, 0, TDR_DEVICE_CPU, NULL, NULL, &storage), TDR_OK);
	assert_null(tdr_storage_unref(storage));
}

static void test_from_memory_devices(void **state)
{
	char memory[4];
	tdr_storage *storage;

	assert_int_equal(tdr_storage_from_memory(memory, 4, (tdr_device){TDR_CPU, 3}, NULL, NULL, &storage), TDR_OK);
	assert_int_equal(tdr_storage_device(storage).index, -1);
	tdr_storage_unref(storage);
	assert_int_equal(tdr_storage_from_memory(memory, 4, (tdr_device){TDR_CUDA, 3}, NULL, NULL, &storage), TDR_OK);
	assert_int_equal(tdr_storage_device(storage).type, TDR_CUDA);
	assert_int_equal(tdr_storage_device(storage).index, 3);
	tdr_storage_unref(storage);
}

static void test_from_memory_refusals(void **state)
{
	static const tdr_device cpu = {TDR_CPU, -1}, bad_type = {(tdr_device_type)7, 0}, bad_index = {TDR_CPU, -2},
				no_index = {TDR_CUDA, -1};
	struct deletion deletion = {0};
	char memory[4];
	tdr_storage *const untouched = (tdr_storage *)state;
	tdr_storage *storage = untouched;

	assert_int_equal(tdr_storage_from_memory(NULL, 4, cpu, count_deletion, &deletion, &storage), TDR_EINVAL);
	assert_int_equal(
	    tdr_storage_from_memory(memory, (size_t)PTRDIFF_MAX + 1, cpu, count_deletion, &deletion, &storage),
	    TDR_EINVAL);
	assert_int_equal(tdr_storage_from_memory(memory, 4, bad_type, count_deletion, &deletion, &storage), TDR_EINVAL);
	assert_int_equal(tdr_storage_from_memory(memory, 4, bad_index, count_deletion, &deletion, &storage),
	                 TDR_EINVAL);
	assert_int_equal(tdr_storage_from_memory(memory, 4, no_index, count_deletion, &deletion, &storage), TDR_EINVAL);
	assert_int_equal(deletion.runs, 0);
	assert_ptr_equal(storage, untouched);
}

static void test_null(void **state)
{
	assert_null(tdr_storage_ref(NULL));
	assert_null(tdr_storage_unref(NULL));
}

static void test_pooled(void **state)
{
	struct pool *pool = pool_new(1 << 20);
	tdr_storage *storage;
	void *data;

	assert_int_equal(storage_new_pooled(pool, 5000, &storage), TDR_OK);
	data = tdr_storage_data(storage);
	assert_int_equal((uintptr_t)data % 64, 0);
	assert_int_equal(tdr_storage_nbytes(storage), 5000);
	memset(data, 1, 5000);
	tdr_storage_unref(storage);
	assert_int_equal(pool_stats(pool).bytes_in_use, 0);
	assert_int_equal(storage_new_pooled(pool, 5001, &storage), TDR_OK);
	assert_ptr_equal(tdr_storage_data(storage), data);
	assert_int_equal(pool_stats(pool).reused, 1);
	pool_unref(pool);
	memset(data, 1, 5001);
	tdr_storage_unref(storage); /* the pool goes with it */
}

#ifdef POISON_ASAN
static void test_end_is_poisoned(void **state)
{
	for (size_t size = 1; size < 300; size++) {
		tdr_storage *storage;
		char *data;

		assert_int_equal(tdr_storage_new(size, &storage), TDR_OK);
		data = tdr_storage_data(storage);
		assert_null(__asan_region_is_poisoned(data, size));
		assert_true(__asan_address_is_poisoned(data + size));
		tdr_storage_unref(storage);
	}
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_dtypes),
	    cmocka_unit_test(test_devices),
	    cmocka_unit_test(test_new),
	    cmocka_unit_test(test_zero_bytes),
	    cmocka_unit_test(test_too_large),
	    cmocka_unit_test(test_from_memory),
	    cmocka_unit_test(test_from_memory_devices),
	    cmocka_unit_test(test_from_memory_refusals),
	    cmocka_unit_test(test_null),
	    cmocka_unit_test(test_pooled),
#ifdef POISON_ASAN
	    cmocka_unit_test(test_end_is_poisoned),
#endif
	};

	return cmocka_run_group_tests_name("storage", tests, NULL, NULL);
}
