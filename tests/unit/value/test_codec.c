/* SPDX-License-Identifier: Apache-2.0 */
/* The codec's round trips, single parts and limits. That its bytes are the right ones is test_golden's to say. */
#include "sample.h"
#include "value/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define RANDOM_VALUES 5000

static void encoder_begin(struct encoder *encoder)
{
	encoder_init(encoder, &codec_default_limits);
}

static void decoder_begin(struct decoder *decoder, const struct encoder *encoder)
{
	decoder_init(decoder, encoder->limits, encoder->body.data, encoder->body.size, encoder->storages,
	             encoder->nstorages);
}

static tdr_status decode_bytes_as_value(const void *bytes, size_t size, const struct codec_limits *limits)
{
	struct decoder decoder;
	tdr_value *value;
	tdr_status status;

	decoder_init(&decoder, limits, bytes, size, NULL, 0);
	status = decode_value(&decoder, &value);
	if (status == TDR_OK)
		tdr_value_unref(value);
	return status;
}

/* ---- round trips ---- */

static void assert_round_trip(struct encoder *encoder, const tdr_value *value)
{
	struct decoder decoder;
	tdr_value *read;

	encoder_reset(encoder);
	if (encode_value(encoder, value) != TDR_OK)
		fail_msg("%s", tdr_last_error());
	decoder_begin(&decoder, encoder);
	if (decode_value(&decoder, &read) != TDR_OK)
		fail_msg("%s", tdr_last_error());
	assert_int_equal(decode_end(&decoder), TDR_OK);
	assert_true(tdr_value_equal(value, read));
	tdr_value_unref(read);
}

static void test_random_values_come_back(void **state)
{
	struct encoder encoder;
	uint64_t seed = 20260101;

	encoder_begin(&encoder);
	for (int i = 0; i < RANDOM_VALUES; i++) {
		tdr_value *value = sample_random_value(&seed, 5);

		assert_int_equal(tdr_value_status(value), TDR_OK);
		assert_round_trip(&encoder, value);
		tdr_value_unref(value);
	}
	encoder_fini(&encoder);
}

/* Around each size at which the lead changes. */
static void test_sizes_come_back(void **state)
{
	static const size_t sizes[] = {0, 1, 14, 15, 16, 31, 32, 255, 256, 65534, 65535, 65536, 70000};
	char *text = calloc(1, 70000);
	struct encoder encoder;

	encoder_begin(&encoder);
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		tdr_value *values[] = {tdr_string_n(text, sizes[i]), tdr_bytes(text, sizes[i]), tdr_list(0, NULL),
		                       tdr_dict_new(), tdr_set_new()};
		tdr_value *whole;

		for (size_t item = 0; item < sizes[i]; item++) {
			assert_int_equal(tdr_list_append(values[2], tdr_none()), TDR_OK);
			assert_int_equal(tdr_dict_put(values[3], tdr_int((int64_t)item), tdr_none()), TDR_OK);
			assert_int_equal(tdr_set_add(values[4], tdr_int((int64_t)item)), TDR_OK);
		}
		whole = tdr_tuple(COUNT_OF(values), values);
		assert_round_trip(&encoder, whole);
		tdr_value_unref(whole);
	}
	encoder_fini(&encoder);
	free(text);
}

static void test_values_follow_each_other(void **state)
{
	tdr_value *args = TDR_ARGS(1, "x"), *kwargs = TDR_KWARGS("lr", 0.5), *read;
	struct encoder encoder;
	struct decoder decoder;

	encoder_begin(&encoder);
	assert_int_equal(encode_value_as(&encoder, args, "args"), TDR_OK);
	assert_int_equal(encode_value_as(&encoder, kwargs, "kwargs"), TDR_OK);
	decoder_begin(&decoder, &encoder);
	assert_int_equal(decode_value(&decoder, &read), TDR_OK);
	assert_true(tdr_value_equal(read, args));
	tdr_value_unref(read);
	assert_int_equal(decode_end(&decoder), TDR_EPROTO);
	assert_int_equal(decode_value(&decoder, &read), TDR_OK);
	assert_true(tdr_value_equal(read, kwargs));
	tdr_value_unref(read);
	assert_int_equal(decode_end(&decoder), TDR_OK);
	assert_int_equal(decode_value(&decoder, &read), TDR_EPROTO);
	encoder_fini(&encoder);
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
}

/* ---- single parts ---- */

static void test_parts_come_back(void **state)
{
	struct encoder encoder;
	struct decoder decoder;
	const char *text;
	const void *bytes;
	int64_t number;
	uint64_t unsigned_number;
	size_t size;
	bool truth;

	encoder_begin(&encoder);
	encode_array(&encoder, 7);
	encode_nil(&encoder);
	encode_bool(&encoder, true);
	encode_int(&encoder, INT64_MIN);
	encode_uint(&encoder, UINT64_MAX);
	encode_string(&encoder, "abc", 3);
	encode_bytes(&encoder, "de", 2);
	encode_nil(&encoder);
	assert_false(encoder.body.failed);
	decoder_begin(&decoder, &encoder);
	assert_false(decode_is_nil(&decoder));
	assert_int_equal(decode_array(&decoder, &size), TDR_OK);
	assert_int_equal(size, 7);
	assert_true(decode_is_nil(&decoder));
	assert_int_equal(decode_bool(&decoder, &truth), TDR_OK);
	assert_true(truth);
	assert_int_equal(decode_int(&decoder, &number), TDR_OK);
	assert_true(number == INT64_MIN);
	/* A part that is something else is not read. */
	assert_int_equal(decode_int(&decoder, &number), TDR_EPROTO);
	assert_int_equal(decode_bool(&decoder, &truth), TDR_EPROTO);
	assert_non_null(strstr(tdr_last_error(), "wanted a bool, got an int"));
	assert_int_equal(decode_array(&decoder, &size), TDR_EPROTO);
	assert_int_equal(decode_uint(&decoder, &unsigned_number), TDR_OK);
	assert_true(unsigned_number == UINT64_MAX);
	assert_int_equal(decode_bytes(&decoder, &bytes, &size), TDR_EPROTO);
	assert_int_equal(decode_string(&decoder, &text, &size), TDR_OK);
	assert_int_equal(size, 3);
	assert_memory_equal(text, "abc", 3);
	assert_int_equal(decode_string(&decoder, &text, &size), TDR_EPROTO);
	assert_int_equal(decode_bytes(&decoder, &bytes, &size), TDR_OK);
	assert_int_equal(size, 2);
	assert_memory_equal(bytes, "de", 2);
	assert_true(decode_is_nil(&decoder));
	assert_false(decode_is_nil(&decoder));
	assert_int_equal(decode_int(&decoder, &number), TDR_EPROTO);
	assert_int_equal(decode_end(&decoder), TDR_OK);
	encoder_fini(&encoder);
}

static void test_parts_refuse_what_is_malformed(void **state)
{
	struct decoder decoder;
	const char *text;
	uint64_t number;
	size_t size;

	decoder_init(&decoder, &codec_default_limits, "\xff", 1, NULL, 0);
	assert_int_equal(decode_uint(&decoder, &number), TDR_EPROTO);
	decoder_init(&decoder, &codec_default_limits, "\xa1\xff", 2, NULL, 0);
	assert_int_equal(decode_string(&decoder, &text, &size), TDR_EPROTO);
	decoder_init(&decoder, &codec_default_limits, "\xa2x", 2, NULL, 0);
	assert_int_equal(decode_string(&decoder, &text, &size), TDR_EPROTO);
	assert_string_equal(tdr_last_error(),
	                    "malformed at byte 0 of 2: a string of 2 bytes, but only 1 bytes are left");
	decoder_init(&decoder, &codec_default_limits, "\x93xx", 3, NULL, 0);
	assert_int_equal(decode_array(&decoder, &size), TDR_EPROTO);
	decoder_init(&decoder, &codec_default_limits, NULL, 0, NULL, 0);
	assert_int_equal(decode_array(&decoder, &size), TDR_EPROTO);
}

/* What does not fit is refused, and is there to be read otherwise. */
static void test_parts_refuse_what_does_not_fit(void **state)
{
	struct decoder decoder;
	char text[4] = "";
	uint64_t number = 0;
	uint32_t small = 0;

	(void)state;
	decoder_init(&decoder, &codec_default_limits, "\xa3xyz\xa4xyzw", 9, NULL, 0);
	assert_int_equal(decode_text(&decoder, text, sizeof(text) - 1), TDR_ELIMIT);
	assert_string_equal(tdr_last_error(), "a string of 3 bytes, where 2 are allowed");
	assert_int_equal(decode_text(&decoder, text, sizeof(text)), TDR_OK);
	assert_string_equal(text, "xyz");
	assert_int_equal(decode_text(&decoder, text, sizeof(text)), TDR_ELIMIT);
	assert_string_equal(text, "xyz");
	decoder_init(&decoder, &codec_default_limits, "\xce\xff\xff\xff\xff\xcf\0\0\0\1\0\0\0\0", 14, NULL, 0);
	assert_int_equal(decode_u32(&decoder, &small), TDR_OK);
	assert_true(small == UINT32_MAX);
	assert_int_equal(decode_u32(&decoder, &small), TDR_EPROTO);
	assert_non_null(strstr(tdr_last_error(), "an int of 2^32 or more"));
	assert_int_equal(decode_uint(&decoder, &number), TDR_OK);
	assert_true(number == (uint64_t)1 << 32);
	assert_int_equal(decode_end(&decoder), TDR_OK);
}

/* ---- limits ---- */

static void test_depth_is_bounded_on_both_sides(void **state)
{
	struct codec_limits limits = codec_default_limits;
	tdr_value *value = tdr_none(), *key;
	struct encoder encoder;
	uint8_t bytes[4096];

	for (size_t i = 0; i < limits.max_depth; i++)
		value = tdr_tuple(1, &value);
	encoder_begin(&encoder);
	assert_round_trip(&encoder, value);
	/* Also where a key is what goes deep. */
	key = tdr_value_ref(value);
	value = tdr_dict_new();
	assert_int_equal(tdr_dict_put(value, key, tdr_none()), TDR_OK);
	encoder_reset(&encoder);
	assert_int_equal(encode_value(&encoder, value), TDR_ELIMIT);
	tdr_value_unref(value);
	encoder_fini(&encoder);
	tdr_value_unref(key);

	/* However much a limit allows, the values have theirs, and no stack ends. */
	limits.max_depth = SIZE_MAX;
	memset(bytes, 0x91, sizeof(bytes));
	bytes[TDR_MAX_DEPTH] = 0xc0;
	assert_int_equal(decode_bytes_as_value(bytes, TDR_MAX_DEPTH + 1, &limits), TDR_OK);
	memset(bytes, 0x91, sizeof(bytes));
	assert_int_equal(decode_bytes_as_value(bytes, sizeof(bytes), &limits), TDR_ELIMIT);
}

static void test_bodies_are_bounded(void **state)
{
	struct codec_limits limits = codec_default_limits;
	tdr_value *fits = tdr_bytes("12345678", 8), *many, *items[16];
	struct encoder encoder;

	limits.max_body_bytes = 10;
	for (size_t i = 0; i < COUNT_OF(items); i++)
		items[i] = tdr_none();
	many = tdr_list(COUNT_OF(items), items);
	encoder_init(&encoder, &limits);
	assert_int_equal(encode_value(&encoder, fits), TDR_OK);
	assert_int_equal(encode_value(&encoder, tdr_none()), TDR_ELIMIT);
	encoder_reset(&encoder);
	assert_int_equal(encode_value(&encoder, many), TDR_ELIMIT);
	encoder_reset(&encoder);
	limits.max_body_bytes = 9;
	assert_int_equal(encode_value(&encoder, fits), TDR_ELIMIT);
	encoder_fini(&encoder);
	tdr_value_unref(fits);
	tdr_value_unref(many);
}

/*
 * Arrays in arrays, each of which claims all bytes that are left: without a bound these take their number times the
 * body.
 */
static void test_nested_claims_do_not_multiply_memory(void **state)
{
	const size_t size = (size_t)1 << 20, nested = 60;
	uint8_t *bytes = malloc(size);

	memset(bytes, 0xc0, size);
	for (size_t i = 0; i < nested; i++) {
		uint32_t count = (uint32_t)(size - 5 * nested);

		bytes[5 * i] = 0xdd;
		for (size_t j = 0; j < 4; j++)
			bytes[5 * i + 1 + j] = (uint8_t)(count >> (24 - 8 * j));
	}
	assert_int_equal(decode_bytes_as_value(bytes, size, &codec_default_limits), TDR_ELIMIT);
	free(bytes);
}

/* The bound is none for what honest peers send: here the values that take the most for their bytes. */
static void test_memory_bound_lets_values_through(void **state)
{
	const struct codec_limits limits = {.max_depth = 3, .max_body_bytes = UINT32_MAX, .max_value_bytes = 4096};
	static const uint8_t items[] = {0x90, 0x80, 0xa0, 0xc0};
	uint8_t *bytes = malloc(100005);

	for (size_t i = 0; i < COUNT_OF(items); i++) {
		memset(bytes, items[i], 100005);
		memcpy(bytes, (const uint8_t[]){0xdd, 0x00, 0x01, 0x86, 0xa0}, 5);
		assert_int_equal(decode_bytes_as_value(bytes, 100005, &limits), TDR_OK);
	}
	/* Pairs of two bytes. */
	memcpy(bytes, (const uint8_t[]){0xde, 0x00, 0x80}, 3);
	for (size_t i = 0; i < 128; i++)
		memcpy(bytes + 3 + 2 * i, (const uint8_t[]){(uint8_t)i, 0xc0}, 2);
	assert_int_equal(decode_bytes_as_value(bytes, 3 + 256, &(struct codec_limits){.max_depth = 1}), TDR_OK);
	free(bytes);
}

static void test_invalid_values_fail_for_their_reason(void **state)
{
	tdr_value *list = tdr_list(0, NULL);
	struct encoder encoder;

	encoder_begin(&encoder);
	assert_int_equal(encode_value(&encoder, tdr_string("\xff")), TDR_EINVAL);
	assert_non_null(strstr(tdr_last_error(), "not UTF-8"));
	assert_int_equal(encode_value(&encoder, TDR_KWARGS(1, 2)), TDR_ETYPE);
	assert_int_equal(encode_value(&encoder, NULL), TDR_EINVAL);
	assert_int_equal(tdr_list_append(list, tdr_string("\xff")), TDR_EINVAL);
	assert_int_equal(encode_value(&encoder, list), TDR_EINVAL);
	tdr_value_unref(list);
	encoder_fini(&encoder);
}

static void test_random_bytes_are_survived(void **state)
{
	uint64_t seed = 7;
	uint8_t bytes[64];

	for (int i = 0; i < 200000; i++) {
		size_t size = sample_random(&seed) % sizeof(bytes);

		for (size_t at = 0; at < size; at++)
			bytes[at] = (uint8_t)sample_random(&seed);
		/* Containers first, or most end with the first byte. */
		if (size > 0)
			bytes[0] = (uint8_t)(0x80 + bytes[0] % 0x20);
		decode_bytes_as_value(bytes, size, &codec_default_limits);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_values_come_back),
	    cmocka_unit_test(test_sizes_come_back),
	    cmocka_unit_test(test_values_follow_each_other),
	    cmocka_unit_test(test_parts_come_back),
	    cmocka_unit_test(test_parts_refuse_what_is_malformed),
	    cmocka_unit_test(test_parts_refuse_what_does_not_fit),
	    cmocka_unit_test(test_depth_is_bounded_on_both_sides),
	    cmocka_unit_test(test_bodies_are_bounded),
	    cmocka_unit_test(test_nested_claims_do_not_multiply_memory),
	    cmocka_unit_test(test_memory_bound_lets_values_through),
	    cmocka_unit_test(test_invalid_values_fail_for_their_reason),
	    cmocka_unit_test(test_random_bytes_are_survived),
	};

	return cmocka_run_group_tests_name("value/codec", tests, NULL, NULL);
}
