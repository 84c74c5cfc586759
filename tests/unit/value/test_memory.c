/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that runs out. Building, sending, reading and comparing a message is repeated, with each allocation in turn
 * failing: it must end in TDR_ENOMEM or in the right value, and under ASan without a leak.
 *
 * Linked with --wrap for the three functions below.
 */
#include "fake_rref.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <tendril.h>

#include <cmocka.h>

/* More than one round allocates: the test fails if it does not come to an end before. */
#define MANY_ALLOCATIONS 10000

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

/* Allocations to go until one fails; below 0 none does. */
static long until_failure = -1;

static bool fails(void)
{
	return until_failure >= 0 && until_failure-- == 0;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
	return fails() ? NULL : __real_realloc(memory, size);
}

/* How many native objects were given away and not yet destroyed. */
static int natives;

static void destroy(void *object)
{
	natives--;
}

static tdr_value *native_new(void)
{
	natives++;
	return tdr_native("test::Object", &natives, destroy);
}

static tdr_value *build(tdr_tensor *tensor, tdr_tensor *column)
{
	tdr_value *list = tdr_list(0, NULL), *set = tdr_set_new(), *dict = tdr_dict_new();
	char name[16];

	for (int i = 0; i < 20; i++) {
		/* As the header says, nothing is checked on the way. */
		snprintf(name, sizeof(name), "key %d", i);
		tdr_list_append(list, tdr_float(i));
		tdr_set_add(set, tdr_int(i * 1000));
		tdr_dict_set(dict, name, tdr_list(0, NULL));
	}
	return TDR_ARGS(list, set, dict, TDR_KWARGS("x", tensor, "y", tdr_bytes("abc", 3)), column, tdr_complex(1, 2),
	                tdr_bigint("123456789", 9), tdr_device_value(TDR_DEVICE_CPU),
	                tdr_object("p", "q", 1, 1, &tensor), tdr_value_of_uint(UINT64_MAX), fake_rref_value(1, 2));
}

static tdr_status cross(struct encoder *encoder, tdr_value *value)
{
	tdr_value *held = tdr_value_ref(tdr_value_item(value, 0)), *read;
	struct decoder decoder;
	tdr_status status = encode_value(encoder, value);

	tdr_value_unref(held);
	if (status != TDR_OK)
		return status;
	decoder_init(&decoder, &codec_default_limits, encoder->body.data, encoder->body.size, encoder->storages,
	             encoder->nstorages);
	decoder.rrefs = &fake_rrefs;
	decoder.rrefs_context = encoder->rrefs_context;
	status = decode_value(&decoder, &read);
	if (status != TDR_OK)
		return status;
	assert_int_equal(decode_end(&decoder), TDR_OK);
	assert_true(tdr_value_equal(value, read));
	tdr_value_unref(read);
	return TDR_OK;
}

static void test_each_allocation_fails_once(void **state)
{
	tdr_tensor *tensor, *column;
	long failing = 0;
	bool over = false;

	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(64, 64), &tensor), TDR_OK);
	assert_int_equal(
	    tdr_tensor_view(tdr_tensor_storage(tensor), TDR_F32, TDR_SHAPE(64), (const int64_t[]){64}, 0, &column),
	    TDR_OK);
	for (; !over && failing < MANY_ALLOCATIONS; failing++) {
		struct fake_wire wire = {0};
		struct encoder encoder;
		tdr_value *value;
		tdr_status status;

		encoder_init(&encoder, &codec_default_limits);
		encoder.rrefs = &fake_rrefs;
		encoder.rrefs_context = &wire;
		until_failure = failing;
		value = build(tensor, column);
		status = tdr_value_status(value);
		if (status == TDR_OK)
			status = cross(&encoder, value);
		over = until_failure >= 0;
		until_failure = -1;
		assert_int_equal(status, over ? TDR_OK : TDR_ENOMEM);
		/* What failed works again after a reset. */
		encoder_reset(&encoder);
		if (tdr_value_status(value) == TDR_OK)
			assert_int_equal(cross(&encoder, value), TDR_OK);
		encoder_fini(&encoder);
		tdr_value_unref(value);
		assert_int_equal(fake_rrefs_alive, 0);
	}
	assert_true(over);
	assert_true(failing > 100);
	tdr_tensor_unref(tensor);
	tdr_tensor_unref(column);
}

/* An object that no value could be made for was given away all the same. */
static void test_native_objects_are_destroyed(void **state)
{
	bool over = false;

	for (long failing = 0; !over && failing < MANY_ALLOCATIONS; failing++) {
		tdr_value *value;

		until_failure = failing;
		value = TDR_ARGS(native_new(), native_new());
		over = until_failure >= 0;
		until_failure = -1;
		assert_int_equal(tdr_value_status(value), over ? TDR_OK : TDR_ENOMEM);
		assert_int_equal(natives, over ? 2 : 0);
		tdr_value_unref(value);
		assert_int_equal(natives, 0);
	}
	assert_true(over);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_each_allocation_fails_once),
	    cmocka_unit_test(test_native_objects_are_destroyed),
	};

	return cmocka_run_group_tests_name("value/memory", tests, NULL, NULL);
}
