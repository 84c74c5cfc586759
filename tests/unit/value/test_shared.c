/* SPDX-License-Identifier: Apache-2.0 */
/* Containers that a message meets twice are refused, and both places are named. */
#include "value/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <tendril.h>

#include <cmocka.h>

/* Encodes a value (dropped) that is to be refused. */
static void assert_shared(tdr_value *value, const char *words)
{
	struct encoder encoder;

	encoder_init(&encoder, &codec_default_limits);
	assert_int_equal(encode_value_as(&encoder, value, "args"), TDR_ESHARED);
	if (strncmp(tdr_last_error(), words, strlen(words)) != 0)
		fail_msg("%s", tdr_last_error());
	encoder_fini(&encoder);
	tdr_value_unref(value);
}

static tdr_value *list_of_one(void)
{
	return tdr_list(1, (tdr_value *const[]){tdr_int(1)});
}

static void test_places_are_named(void **state)
{
	tdr_value *list = list_of_one(), *dict = tdr_dict_new(), *set = tdr_set_new(), *tuple = TDR_ARGS(1, 2);

	assert_shared(TDR_ARGS(tdr_value_ref(list), TDR_KWARGS("x", list)),
	              "args[1]['x'] is the same list as args[0]: ");
	assert_shared(TDR_ARGS(TDR_ARGS(0, tdr_value_ref(dict)), dict), "args[1] is the same dict as args[0][1]: ");
	assert_int_equal(tdr_set_add(set, tdr_value_ref(tuple)), TDR_OK);
	assert_shared(TDR_ARGS(set, tuple), "args[1] is the same tuple as args[0]{0}: ");
}

static void test_keys_are_named_too(void **state)
{
	tdr_value *key = TDR_ARGS(1), *dict = tdr_dict_new();

	assert_int_equal(tdr_dict_put(dict, tdr_string("first"), tdr_int(1)), TDR_OK);
	assert_int_equal(tdr_dict_put(dict, key, tdr_value_ref(key)), TDR_OK);
	assert_shared(dict, "args[(1,)] is the same tuple as args{1}: ");
}

static void test_a_value_twice_in_a_message(void **state)
{
	tdr_value *list = list_of_one(), *args = TDR_ARGS(1, tdr_value_ref(list)), *kwargs = TDR_KWARGS("l", list);
	struct encoder encoder;

	encoder_init(&encoder, &codec_default_limits);
	assert_int_equal(encode_value_as(&encoder, args, "args"), TDR_OK);
	assert_int_equal(encode_value_as(&encoder, kwargs, "kwargs"), TDR_ESHARED);
	assert_non_null(strstr(tdr_last_error(), "kwargs['l'] is the same list as args[1]"));
	encoder_reset(&encoder);
	/* Each in a message of its own is fine, however often. */
	assert_int_equal(encode_value(&encoder, kwargs), TDR_OK);
	encoder_reset(&encoder);
	assert_int_equal(encode_value(&encoder, list), TDR_OK);
	assert_int_equal(encode_value(&encoder, list), TDR_ESHARED);
	assert_non_null(strstr(tdr_last_error(), "value is the same list as value"));
	encoder_fini(&encoder);
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
}

static void test_what_is_no_container_may_be_shared(void **state)
{
	tdr_value *text = tdr_string("text"), *number = tdr_int(1 << 20);
	tdr_value *args = TDR_ARGS(tdr_value_ref(text), text, tdr_value_ref(number), number, tdr_none(), tdr_none());
	struct encoder encoder;

	encoder_init(&encoder, &codec_default_limits);
	assert_int_equal(encode_value(&encoder, args), TDR_OK);
	encoder_fini(&encoder);
	tdr_value_unref(args);
}

static void test_containers_that_others_hold_may_be_sent(void **state)
{
	tdr_value *outer = tdr_list(0, NULL), *inner[100];
	struct encoder encoder;

	for (size_t i = 0; i < COUNT_OF(inner); i++) {
		inner[i] = list_of_one();
		assert_int_equal(tdr_list_append(outer, tdr_value_ref(inner[i])), TDR_OK);
	}
	encoder_init(&encoder, &codec_default_limits);
	assert_int_equal(encode_value(&encoder, outer), TDR_OK);
	encoder_fini(&encoder);
	assert_int_equal(tdr_list_append(outer, tdr_value_ref(inner[50])), TDR_OK);
	assert_shared(outer, "args[100] is the same list as args[50]: ");
	for (size_t i = 0; i < COUNT_OF(inner); i++)
		tdr_value_unref(inner[i]);
}

/* Every level holds the next twice: a walk of all places would not end. */
static void test_many_shared_levels_end_at_once(void **state)
{
	tdr_value *value = list_of_one();

	for (int i = 0; i < 60; i++)
		value = TDR_ARGS(tdr_value_ref(value), value);
	assert_int_equal(tdr_value_status(value), TDR_OK);
	assert_shared(value, "args[0]");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_places_are_named),
	    cmocka_unit_test(test_keys_are_named_too),
	    cmocka_unit_test(test_a_value_twice_in_a_message),
	    cmocka_unit_test(test_what_is_no_container_may_be_shared),
	    cmocka_unit_test(test_containers_that_others_hold_may_be_sent),
	    cmocka_unit_test(test_many_shared_levels_end_at_once),
	};

	return cmocka_run_group_tests_name("value/shared", tests, NULL, NULL);
}
