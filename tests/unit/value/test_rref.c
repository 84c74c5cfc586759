/* SPDX-License-Identifier: Apache-2.0 */
/* References as values, and how the codec's hooks carry them. */
#include "base/macros.h"
#include "fake_rref.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <tendril/args.h>

#include <cmocka.h>

static int none_left(void **state)
{
	assert_int_equal(fake_rrefs_alive, 0);
	return 0;
}

/* The value is dropped. */
static void assert_prints(tdr_value *value, const char *expected)
{
	char text[1024];

	assert_int_equal(tdr_value_print(value, text, sizeof(text)), strlen(expected));
	assert_string_equal(text, expected);
	tdr_value_unref(value);
}

static void assert_equal_or_not(tdr_value *a, tdr_value *b, bool equal)
{
	assert_true(tdr_value_equal(a, b) == equal);
	assert_true(tdr_value_equal(b, a) == equal);
	tdr_value_unref(a);
	tdr_value_unref(b);
}

/* ---- values ---- */

static void test_values_hold_a_reference(void **state)
{
	tdr_rref *rref = fake_rref_new(1, 2), *read = NULL;
	tdr_value *value = tdr_rref_value(rref), *list;

	assert_int_equal(tdr_value_kind(value), TDR_RREF);
	assert_string_equal(tdr_kind_name(TDR_RREF), "RRef");
	assert_int_equal(tdr_value_get_rref(value, &read), TDR_OK);
	assert_ptr_equal(read, rref);
	assert_null(tdr_rref_unref(rref));
	assert_int_equal(fake_rrefs_alive, 1);
	assert_ptr_equal(tdr_rref_ref(rref), rref);
	list = tdr_list(1, &value);
	tdr_value_unref(list);
	assert_int_equal(fake_rrefs_alive, 1);
	tdr_rref_unref(rref);
	assert_int_equal(fake_rrefs_alive, 0);
	assert_null(tdr_rref_ref(NULL));
	assert_null(tdr_rref_unref(NULL));
}

static void test_heads_know_their_process(void **state)
{
	tdr_rref *rref = fake_rref_new(1, 2);

	assert_int_equal(rref->fork_generation, fork_generation());
	tdr_rref_unref(rref);
}

static void test_args_take_references(void **state)
{
	tdr_rref *rref = fake_rref_new(1, 2);
	tdr_value *args = TDR_ARGS(rref, (tdr_rref *)NULL, 3);

	tdr_rref_unref(rref);
	assert_prints(args, "(RRef(worker1, 2), None, 3)");
}

static void test_null_is_no_reference(void **state)
{
	assert_int_equal(tdr_value_status(tdr_rref_value(NULL)), TDR_EINVAL);
	assert_non_null(strstr(tdr_last_error(), "NULL"));
}

static void test_wrong_kinds(void **state)
{
	tdr_value *value = fake_rref_value(1, 2);
	tdr_rref *rref = (tdr_rref *)&value;
	int64_t number;

	assert_int_equal(tdr_value_get_rref(tdr_int(1), &rref), TDR_ETYPE);
	assert_string_equal(tdr_last_error(), "wanted RRef, got int");
	assert_int_equal(tdr_value_get_rref(NULL, &rref), TDR_EINVAL);
	assert_ptr_equal(rref, &value);
	assert_int_equal(tdr_value_get_int(value, &number), TDR_ETYPE);
	assert_string_equal(tdr_last_error(), "wanted int, got RRef");
	assert_int_equal(tdr_value_count(value), 0);
	tdr_value_unref(value);
}

static int print_much(const tdr_rref *rref, char *buffer, size_t size)
{
	return snprintf(buffer, size, "%0*d", 2 * RREF_TEXT_SIZE, 7);
}

static int print_nothing(const tdr_rref *rref, char *buffer, size_t size)
{
	return -1;
}

static void test_printing(void **state)
{
	struct rref_ops much = fake_rref_ops, nothing = fake_rref_ops;
	tdr_rref *rref = fake_rref_new(1, 2);
	tdr_value *list = tdr_list(0, NULL);
	char zeros[RREF_TEXT_SIZE];

	much.print = print_much;
	nothing.print = print_nothing;
	memset(zeros, '0', sizeof(zeros) - 1);
	zeros[sizeof(zeros) - 1] = '\0';
	assert_prints(tdr_rref_value(rref), "RRef(worker1, 2)");
	assert_int_equal(tdr_list_append(list, tdr_rref_value(rref)), TDR_OK);
	assert_prints(list, "[RRef(worker1, 2)]");
	rref->ops = &much;
	assert_prints(tdr_rref_value(rref), zeros);
	rref->ops = &nothing;
	assert_prints(tdr_rref_value(rref), "");
	tdr_rref_unref(rref);
}

static void test_equality(void **state)
{
	struct rref_ops others = fake_rref_ops;
	tdr_rref *rref = fake_rref_new(1, 2), *foreign = fake_rref_new(1, 2);

	foreign->ops = &others;
	assert_equal_or_not(tdr_rref_value(rref), tdr_rref_value(rref), true);
	assert_equal_or_not(tdr_rref_value(rref), fake_rref_value(1, 2), true);
	assert_equal_or_not(tdr_rref_value(rref), fake_rref_value(2, 2), false);
	assert_equal_or_not(tdr_rref_value(rref), fake_rref_value(1, 3), false);
	assert_equal_or_not(tdr_rref_value(rref), tdr_rref_value(foreign), false);
	assert_equal_or_not(tdr_rref_value(rref), tdr_int(2), false);
	assert_equal_or_not(TDR_ARGS(rref, 1), TDR_ARGS(fake_rref_value(1, 2), 1), true);
	tdr_rref_unref(rref);
	tdr_rref_unref(foreign);
}

static void test_keys(void **state)
{
	tdr_value *dict = tdr_dict_new(), *set = tdr_set_new(), *key;

	/* More than a container looks through without an index. */
	for (uint32_t i = 0; i < 40; i++) {
		assert_int_equal(tdr_dict_put(dict, fake_rref_value(i % 20, i % 4), tdr_int(i)), TDR_OK);
		assert_int_equal(tdr_set_add(set, TDR_ARGS(fake_rref_value(i % 20, 0), "x")), TDR_OK);
	}
	assert_int_equal(tdr_value_count(dict), 20);
	assert_int_equal(tdr_value_count(set), 20);
	key = fake_rref_value(7, 3);
	assert_true(tdr_value_equal(tdr_dict_find(dict, key), tdr_int(27)));
	tdr_value_unref(key);
	key = fake_rref_value(7, 2);
	assert_null(tdr_dict_find(dict, key));
	tdr_value_unref(key);
	tdr_value_unref(dict);
	tdr_value_unref(set);
}

/* ---- the codec ---- */

static void encoder_begin(struct encoder *encoder, struct fake_wire *wire)
{
	encoder_init(encoder, &codec_default_limits);
	encoder->rrefs = &fake_rrefs;
	encoder->rrefs_context = wire;
}

static void decoder_begin(struct decoder *decoder, struct fake_wire *wire, const void *bytes, size_t size)
{
	decoder_init(decoder, &codec_default_limits, bytes, size, NULL, 0);
	decoder->rrefs = &fake_rrefs;
	decoder->rrefs_context = wire;
}

/* A list of `count` references to the numbers from 0. */
static tdr_value *rrefs_new(uint64_t count)
{
	tdr_value *list = tdr_list(0, NULL);

	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(tdr_list_append(list, fake_rref_value(1, i)), TDR_OK);
	return list;
}

static void test_bytes(void **state)
{
	static const uint8_t expected[] = {0xc7, 12, 5, 4, 3, 2, 1, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21};
	tdr_value *value = fake_rref_value(0x01020304, 0x2122232425262728);
	struct fake_wire wire = {0};
	struct encoder encoder;

	encoder_begin(&encoder, &wire);
	assert_int_equal(encode_value(&encoder, value), TDR_OK);
	assert_int_equal(encoder.body.size, sizeof(expected));
	assert_memory_equal(encoder.body.data, expected, sizeof(expected));
	encoder_fini(&encoder);
	tdr_value_unref(value);
}

static void test_round_trip(void **state)
{
	tdr_value *dict = tdr_dict_new(), *value, *read = NULL;
	struct fake_wire wire = {0};
	struct encoder encoder;
	struct decoder decoder;

	assert_int_equal(tdr_dict_put(dict, fake_rref_value(1, 2), fake_rref_value(3, 4)), TDR_OK);
	assert_int_equal(tdr_dict_put(dict, TDR_ARGS(fake_rref_value(5, 6)), tdr_int(7)), TDR_OK);
	value = TDR_ARGS("x", dict, rrefs_new(3), fake_rref_value(UINT32_MAX, UINT64_MAX));
	encoder_begin(&encoder, &wire);
	for (int i = 0; i < 2; i++) { /* a reset keeps the hooks */
		encoder_reset(&encoder);
		assert_int_equal(encoder.nrrefs, 0);
		assert_int_equal(encode_value(&encoder, value), TDR_OK);
		assert_int_equal(encoder.nrrefs, 7);
	}
	assert_int_equal(wire.nencoded, 14);
	decoder_begin(&decoder, &wire, encoder.body.data, encoder.body.size);
	assert_int_equal(decode_value(&decoder, &read), TDR_OK);
	assert_int_equal(decode_end(&decoder), TDR_OK);
	assert_int_equal(decoder.nrrefs, 7);
	assert_int_equal(wire.ndecoded, 7);
	assert_int_equal(fake_rrefs_alive, 14);
	encoder_fini(&encoder);
	assert_equal_or_not(value, read, true);
}

static void test_nrrefs_counts_what_several_values_have(void **state)
{
	tdr_value *value = rrefs_new(2);
	struct fake_wire wire = {0};
	struct encoder encoder;

	encoder_begin(&encoder, &wire);
	assert_int_equal(encode_value(&encoder, tdr_int(1)), TDR_OK);
	assert_int_equal(encoder.nrrefs, 0);
	assert_int_equal(encode_value(&encoder, value), TDR_OK);
	assert_int_equal(encode_value(&encoder, tdr_value_item(value, 0)), TDR_OK);
	assert_int_equal(encoder.nrrefs, 3);
	encoder_fini(&encoder);
	tdr_value_unref(value);
}

/* One value in several places, which a container may not be. */
static void test_each_place_is_one_more(void **state)
{
	tdr_value *one = fake_rref_value(1, 2), *read = NULL;
	tdr_value *value = TDR_ARGS(tdr_value_ref(one), tdr_value_ref(one), one);
	struct fake_wire wire = {0};
	struct encoder encoder;
	struct decoder decoder;

	encoder_begin(&encoder, &wire);
	assert_int_equal(encode_value(&encoder, value), TDR_OK);
	assert_int_equal(wire.nencoded, 3);
	decoder_begin(&decoder, &wire, encoder.body.data, encoder.body.size);
	assert_int_equal(decode_value(&decoder, &read), TDR_OK);
	assert_int_equal(wire.ndecoded, 3);
	assert_int_equal(fake_rrefs_alive, 4);
	encoder_fini(&encoder);
	assert_equal_or_not(value, read, true);
}

static void test_refused_without_hooks(void **state)
{
	static const uint8_t bytes[] = {0x92, 1, 0xd4, 5, 0};
	tdr_value *value = rrefs_new(1), *read = NULL;
	struct encoder encoder;
	struct decoder decoder;

	encoder_init(&encoder, &codec_default_limits);
	assert_int_equal(encode_value(&encoder, value), TDR_EUNSUPPORTED);
	assert_non_null(strstr(tdr_last_error(), "an RRef cannot travel here"));
	encoder_fini(&encoder);
	decoder_init(&decoder, &codec_default_limits, bytes, sizeof(bytes), NULL, 0);
	assert_int_equal(decode_value(&decoder, &read), TDR_EUNSUPPORTED);
	assert_non_null(strstr(tdr_last_error(), "an RRef came, but none can be taken here"));
	assert_null(read);
	tdr_value_unref(value);
}

static void test_encoding_fails_half_way(void **state)
{
	struct fake_wire wire = {.encode_fails = 3};
	tdr_value *value = rrefs_new(5);
	struct encoder encoder;

	encoder_begin(&encoder, &wire);
	assert_int_equal(encode_value(&encoder, value), TDR_EWORKERGONE);
	assert_string_equal(tdr_last_error(), "reference 3 cannot be sent");
	assert_int_equal(encoder.nrrefs, 2);
	assert_int_equal(wire.nencoded, 3);
	encoder_reset(&encoder);
	assert_int_equal(encode_value(&encoder, value), TDR_OK);
	assert_int_equal(encoder.nrrefs, 5);
	encoder_fini(&encoder);
	tdr_value_unref(value);
}

/* No more references are written than fit. */
static void test_encoding_past_the_limit(void **state)
{
	struct codec_limits limits = codec_default_limits;
	struct fake_wire wire = {0};
	tdr_value *value = rrefs_new(50);
	struct encoder encoder;

	encoder_begin(&encoder, &wire);
	limits.max_body_bytes = 64;
	encoder.limits = &limits;
	assert_int_equal(encode_value(&encoder, value), TDR_ELIMIT);
	assert_in_range(wire.nencoded, 3, 5);
	encoder_fini(&encoder);
	tdr_value_unref(value);
}

/* What was read before a failure is dropped, whatever fails. */
static void assert_nothing_decoded(const void *bytes, size_t size, struct fake_wire *wire, tdr_status wanted)
{
	int before = fake_rrefs_alive;
	struct decoder decoder;
	tdr_value *read = NULL;

	decoder_begin(&decoder, wire, bytes, size);
	assert_int_equal(decode_value(&decoder, &read), wanted);
	assert_null(read);
	assert_int_equal(fake_rrefs_alive, before);
}

static void test_decoding_fails_half_way(void **state)
{
	struct fake_wire wire = {.decode_fails = 3};
	tdr_value *value = rrefs_new(4);
	struct encoder encoder;

	encoder_begin(&encoder, &wire);
	assert_int_equal(encode_value(&encoder, value), TDR_OK);
	assert_nothing_decoded(encoder.body.data, encoder.body.size, &wire, TDR_EWORKERGONE);
	assert_string_equal(tdr_last_error(), "reference 3 cannot be taken");
	assert_int_equal(wire.ndecoded, 3);
	/* Cut off behind each byte, there are ever more references before the end. */
	for (size_t size = 0; size < encoder.body.size; size++)
		assert_nothing_decoded(encoder.body.data, size, &wire, TDR_EPROTO);
	encoder_fini(&encoder);
	tdr_value_unref(value);
}

static void test_equal_keys_are_malformed(void **state)
{
	/* A set of two references, and a dict with one in two keys. */
	static const uint8_t set[] = {0x93, 0xc7, 0,    17, 0xc7, 12, 5, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0,
	                              0,    0,    0xc7, 12, 5,    1,  0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t dict[] = {0x82, 0xc7, 12, 5, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1,
	                               0xc7, 12,   5,  1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2};
	struct fake_wire wire = {0};

	assert_nothing_decoded(set, sizeof(set), &wire, TDR_EPROTO);
	assert_non_null(strstr(tdr_last_error(), "a key that was there before"));
	assert_nothing_decoded(dict, sizeof(dict), &wire, TDR_EPROTO);
	assert_non_null(strstr(tdr_last_error(), "a key that was there before"));
	assert_int_equal(wire.ndecoded, 4);
}

static void test_sizes_that_no_reference_has(void **state)
{
	uint8_t large[3 + RREF_WIRE_MAX + 1] = {0xc7, RREF_WIRE_MAX + 1, 5};
	struct fake_wire wire = {0};

	assert_nothing_decoded("\xc7\0\5", 3, &wire, TDR_EPROTO);
	assert_nothing_decoded("\x92\xc7\0\5\1", 5, &wire, TDR_EPROTO);
	assert_non_null(strstr(tdr_last_error(), "a reference of 0 bytes"));
	assert_nothing_decoded(large, sizeof(large), &wire, TDR_EPROTO);
	assert_non_null(strstr(tdr_last_error(), "a reference of 129 bytes"));
	assert_int_equal(wire.ndecoded, 0);
	/* A size that the hook does not like is the hook's to refuse. */
	assert_nothing_decoded("\xd4\5\1", 3, &wire, TDR_EPROTO);
	assert_string_equal(tdr_last_error(), "a reference of 1 bytes");
}

/* ---- hooks whose references take any number of bytes ---- */

static tdr_status encode_sized(void *context, tdr_rref *rref, uint8_t ret_bytes[RREF_WIRE_MAX], size_t *ret_size)
{
	*ret_size = ((const struct fake_rref *)rref)->number;
	memset(ret_bytes, 0x5a, *ret_size);
	return TDR_OK;
}

static tdr_status decode_sized(void *context, const uint8_t *bytes, size_t size, tdr_rref **ret_rref)
{
	for (size_t i = 0; i < size; i++)
		assert_int_equal(bytes[i], 0x5a);
	*ret_rref = fake_rref_new(1, size);
	return TDR_OK;
}

static const struct codec_rrefs sized_rrefs = {.encode = encode_sized, .decode = decode_sized};

static void test_all_sizes_come_back(void **state)
{
	tdr_value *value = tdr_list(0, NULL), *read = NULL;
	struct encoder encoder;
	struct decoder decoder;

	for (uint64_t size = 1; size <= RREF_WIRE_MAX; size++)
		assert_int_equal(tdr_list_append(value, fake_rref_value(1, size)), TDR_OK);
	encoder_init(&encoder, &codec_default_limits);
	encoder.rrefs = &sized_rrefs;
	assert_int_equal(encode_value(&encoder, value), TDR_OK);
	decoder_init(&decoder, &codec_default_limits, encoder.body.data, encoder.body.size, NULL, 0);
	decoder.rrefs = &sized_rrefs;
	assert_int_equal(decode_value(&decoder, &read), TDR_OK);
	assert_int_equal(decode_end(&decoder), TDR_OK);
	encoder_fini(&encoder);
	assert_equal_or_not(value, read, true);
}

/* Three bytes each, which make more memory than 64 times as many. */
static void test_memory_is_counted(void **state)
{
	struct codec_limits limits = codec_default_limits;
	static const uint8_t one[] = {0xd4, 5, 0x5a};
	uint8_t bytes[3 + 1000 * sizeof(one)] = {0xdc, 1000 >> 8, 1000 & 0xff};
	tdr_value *read = NULL;
	struct decoder decoder;

	for (size_t i = 3; i < sizeof(bytes); i += sizeof(one))
		memcpy(bytes + i, one, sizeof(one));
	limits.max_value_bytes = 0;
	decoder_init(&decoder, &limits, bytes, sizeof(bytes), NULL, 0);
	decoder.rrefs = &sized_rrefs;
	assert_int_equal(decode_value(&decoder, &read), TDR_ELIMIT);
	assert_null(read);
	assert_in_range(decoder.nrrefs, 100, 999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_teardown(test_values_hold_a_reference, none_left),
	    cmocka_unit_test_teardown(test_heads_know_their_process, none_left),
	    cmocka_unit_test_teardown(test_args_take_references, none_left),
	    cmocka_unit_test_teardown(test_null_is_no_reference, none_left),
	    cmocka_unit_test_teardown(test_wrong_kinds, none_left),
	    cmocka_unit_test_teardown(test_printing, none_left),
	    cmocka_unit_test_teardown(test_equality, none_left),
	    cmocka_unit_test_teardown(test_keys, none_left),
	    cmocka_unit_test_teardown(test_bytes, none_left),
	    cmocka_unit_test_teardown(test_round_trip, none_left),
	    cmocka_unit_test_teardown(test_nrrefs_counts_what_several_values_have, none_left),
	    cmocka_unit_test_teardown(test_each_place_is_one_more, none_left),
	    cmocka_unit_test_teardown(test_refused_without_hooks, none_left),
	    cmocka_unit_test_teardown(test_encoding_fails_half_way, none_left),
	    cmocka_unit_test_teardown(test_encoding_past_the_limit, none_left),
	    cmocka_unit_test_teardown(test_decoding_fails_half_way, none_left),
	    cmocka_unit_test_teardown(test_equal_keys_are_malformed, none_left),
	    cmocka_unit_test_teardown(test_sizes_that_no_reference_has, none_left),
	    cmocka_unit_test_teardown(test_all_sizes_come_back, none_left),
	    cmocka_unit_test_teardown(test_memory_is_counted, none_left),
	};

	return cmocka_run_group_tests_name("value/rref", tests, NULL, NULL);
}
