/* SPDX-License-Identifier: Apache-2.0 */
/* The storages that a message carries: each once, small views of large ones compacted. */
#include "value/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <tendril.h>

#include <cmocka.h>

/* So many floats are past what is carried whole. */
#define LARGE 4096

static tdr_storage *storage_of_floats(size_t count)
{
	tdr_storage *storage;

	assert_int_equal(tdr_storage_new(count * sizeof(float), &storage), TDR_OK);
	for (size_t i = 0; i < count; i++)
		((float *)tdr_storage_data(storage))[i] = (float)i;
	return storage;
}

static tdr_value *floats_of(tdr_storage *storage, int64_t offset, int64_t count, int64_t stride)
{
	tdr_tensor *tensor;
	tdr_value *value;

	assert_int_equal(tdr_tensor_view(storage, TDR_F32, 1, &count, &stride, offset, &tensor), TDR_OK);
	tdr_tensor_set_requires_grad(tensor, offset % 2);
	value = tdr_tensor_value(tensor);
	tdr_tensor_unref(tensor);
	return value;
}

static tdr_tensor *tensor_at(const tdr_value *list, size_t index)
{
	tdr_tensor *tensor;

	assert_int_equal(tdr_value_get_tensor(tdr_value_item(list, index), &tensor), TDR_OK);
	return tensor;
}

/* Encodes a tuple (dropped), checks how many storages it takes, and returns what is read back. */
static tdr_value *cross(tdr_value *tuple, size_t nstorages)
{
	struct encoder encoder;
	struct decoder decoder;
	tdr_value *read;

	encoder_init(&encoder, &codec_default_limits);
	assert_int_equal(encode_value(&encoder, tuple), TDR_OK);
	assert_int_equal(encoder.nstorages, nstorages);
	decoder_init(&decoder, &codec_default_limits, encoder.body.data, encoder.body.size, encoder.storages,
	             encoder.nstorages);
	assert_int_equal(decode_value(&decoder, &read), TDR_OK);
	assert_int_equal(decode_end(&decoder), TDR_OK);
	assert_true(tdr_value_equal(tuple, read));
	for (size_t i = 0; i < tdr_value_count(tuple); i++)
		assert_int_equal(tdr_tensor_requires_grad(tensor_at(tuple, i)),
		                 tdr_tensor_requires_grad(tensor_at(read, i)));
	encoder_fini(&encoder);
	tdr_value_unref(tuple);
	return read;
}

static void test_views_of_one_storage_stay_so(void **state)
{
	tdr_storage *storage = storage_of_floats(LARGE);
	tdr_value *read = cross(TDR_ARGS(floats_of(storage, 0, LARGE, 1), floats_of(storage, 1, LARGE - 1, 1)), 1);

	assert_ptr_equal(tdr_tensor_storage(tensor_at(read, 0)), tdr_tensor_storage(tensor_at(read, 1)));
	((float *)tdr_tensor_data(tensor_at(read, 0)))[1] = 99;
	assert_true(*(float *)tdr_tensor_data(tensor_at(read, 1)) == 99);
	tdr_value_unref(read);
	tdr_storage_unref(storage);
}

static void test_many_storages(void **state)
{
	tdr_value *list = tdr_list(0, NULL);
	tdr_storage *storages[100];

	for (size_t i = 0; i < COUNT_OF(storages); i++)
		storages[i] = storage_of_floats(i + 1);
	for (size_t i = 0; i < 3 * COUNT_OF(storages); i++)
		assert_int_equal(tdr_list_append(list, floats_of(storages[i * 7 % 100], 0, 1, 1)), TDR_OK);
	tdr_value_unref(cross(list, COUNT_OF(storages)));
	for (size_t i = 0; i < COUNT_OF(storages); i++)
		tdr_storage_unref(storages[i]);
}

static void test_small_views_of_large_storages_are_compacted(void **state)
{
	tdr_storage *storage = storage_of_floats(LARGE);
	tdr_value *read = cross(TDR_ARGS(floats_of(storage, 5, LARGE / 2, 1), floats_of(storage, 0, 10, 100)), 2);

	assert_int_equal(tdr_storage_nbytes(tdr_tensor_storage(tensor_at(read, 0))), LARGE / 2 * sizeof(float));
	assert_int_equal(tdr_storage_nbytes(tdr_tensor_storage(tensor_at(read, 1))), 10 * sizeof(float));
	assert_int_equal(tdr_tensor_strides(tensor_at(read, 1))[0], 1);
	assert_int_equal(tdr_tensor_offset(tensor_at(read, 1)), 0);
	tdr_value_unref(read);
	tdr_storage_unref(storage);
}

static void test_what_is_half_viewed_or_small_is_not_compacted(void **state)
{
	tdr_storage *large = storage_of_floats(LARGE), *small = storage_of_floats(2048);
	tdr_value *read;

	read = cross(TDR_ARGS(floats_of(large, 0, LARGE / 2 + 1, 1), floats_of(small, 0, 1, 1)), 2);
	assert_int_equal(tdr_storage_nbytes(tdr_tensor_storage(tensor_at(read, 0))), LARGE * sizeof(float));
	assert_int_equal(tdr_storage_nbytes(tdr_tensor_storage(tensor_at(read, 1))), 8192);
	tdr_value_unref(read);
	tdr_storage_unref(large);
	tdr_storage_unref(small);
}

static void test_one_view_is_compacted_once(void **state)
{
	tdr_storage *storage = storage_of_floats(LARGE);
	tdr_value *view = floats_of(storage, 4, 10, 2), *read;

	/* The tensor itself, the same view by another tensor, and others that differ in one thing. */
	read = cross(TDR_ARGS(tdr_value_ref(view), view, floats_of(storage, 4, 10, 2), floats_of(storage, 6, 10, 2),
	                      floats_of(storage, 4, 9, 2), floats_of(storage, 4, 10, 3)),
	             4);
	assert_ptr_equal(tdr_tensor_storage(tensor_at(read, 0)), tdr_tensor_storage(tensor_at(read, 1)));
	assert_ptr_equal(tdr_tensor_storage(tensor_at(read, 0)), tdr_tensor_storage(tensor_at(read, 2)));
	tdr_value_unref(read);
	tdr_storage_unref(storage);
}

static void test_views_without_elements(void **state)
{
	tdr_storage *storage = storage_of_floats(LARGE), *empty = storage_of_floats(0);

	tdr_value_unref(cross(TDR_ARGS(floats_of(storage, 4, 0, 1), floats_of(empty, 0, 0, 1)), 2));
	tdr_storage_unref(storage);
	tdr_storage_unref(empty);
}

static void test_storages_are_bounded(void **state)
{
	struct codec_limits limits = codec_default_limits;
	tdr_storage *storages[] = {storage_of_floats(1), storage_of_floats(1), storage_of_floats(1)};
	tdr_value *list =
	    TDR_ARGS(floats_of(storages[0], 0, 1, 1), floats_of(storages[1], 0, 1, 1), floats_of(storages[2], 0, 1, 1));
	struct encoder encoder;

	limits.max_storages = 2;
	encoder_init(&encoder, &limits);
	assert_int_equal(encode_value(&encoder, list), TDR_ELIMIT);
	encoder_reset(&encoder);
	limits.max_storages = 3;
	assert_int_equal(encode_value(&encoder, list), TDR_OK);
	encoder_fini(&encoder);
	tdr_value_unref(list);
	for (size_t i = 0; i < COUNT_OF(storages); i++)
		tdr_storage_unref(storages[i]);
}

static void test_other_devices_are_refused(void **state)
{
	char memory[16];
	struct encoder encoder;
	tdr_storage *storage;
	tdr_value *value;

	assert_int_equal(
	    tdr_storage_from_memory(memory, sizeof(memory), (tdr_device){TDR_CUDA, 0}, NULL, NULL, &storage), TDR_OK);
	value = floats_of(storage, 0, 4, 1);
	encoder_init(&encoder, &codec_default_limits);
	assert_int_equal(encode_value(&encoder, value), TDR_EUNSUPPORTED);
	encoder_fini(&encoder);
	assert_true(tdr_value_equal(value, value));
	tdr_value_unref(value);
	tdr_storage_unref(storage);
}

/* The encoder's references keep storages, and no reset leaves one behind: ASan tells. */
static void test_encoder_keeps_storages_until_reset(void **state)
{
	tdr_storage *storage = storage_of_floats(LARGE);
	struct encoder encoder;

	encoder_init(&encoder, &codec_default_limits);
	for (int i = 0; i < 3; i++) {
		tdr_value *value = TDR_ARGS(floats_of(storage, 0, LARGE, 1), floats_of(storage, 0, 1, 1));

		encoder_reset(&encoder);
		assert_int_equal(encode_value(&encoder, value), TDR_OK);
		assert_int_equal(encoder.nstorages, 2);
		tdr_value_unref(value);
	}
	tdr_storage_unref(storage);
	assert_true(((float *)tdr_storage_data(encoder.storages[0]))[1] == 1);
	encoder_fini(&encoder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_views_of_one_storage_stay_so),
	    cmocka_unit_test(test_many_storages),
	    cmocka_unit_test(test_small_views_of_large_storages_are_compacted),
	    cmocka_unit_test(test_what_is_half_viewed_or_small_is_not_compacted),
	    cmocka_unit_test(test_one_view_is_compacted_once),
	    cmocka_unit_test(test_views_without_elements),
	    cmocka_unit_test(test_storages_are_bounded),
	    cmocka_unit_test(test_other_devices_are_refused),
	    cmocka_unit_test(test_encoder_keeps_storages_until_reset),
	};

	return cmocka_run_group_tests_name("value/collect", tests, NULL, NULL);
}
