/* SPDX-License-Identifier: Apache-2.0 */
/* Native objects: who destroys them when, and who may have them under which name. */
#include "base/error.h"
#include "value/codec.h"
#include "value/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <tendril/args.h>

#include <cmocka.h>

static void destroy(void *object)
{
	++*(int *)object;
}

static void test_destroyed_with_the_last_reference(void **state)
{
	int destroyed = 0;
	tdr_value *value = tdr_native("test::Counter", &destroyed, destroy), *other = tdr_value_ref(value);
	void *object = NULL;

	assert_int_equal(tdr_value_kind(value), TDR_NATIVE);
	assert_int_equal(tdr_value_status(value), TDR_OK);
	assert_int_equal(tdr_value_get_native(value, "test::Counter", &object), TDR_OK);
	assert_ptr_equal(object, &destroyed);
	assert_string_equal(tdr_native_type(value), "test::Counter");
	tdr_value_unref(value);
	assert_int_equal(destroyed, 0);
	tdr_value_unref(other);
	assert_int_equal(destroyed, 1);
}

static void test_objects_that_are_not_the_values(void **state)
{
	int number = 7;
	tdr_value *value = tdr_native("int", &number, NULL);
	void *object = NULL;

	assert_int_equal(tdr_value_get_native(value, NULL, &object), TDR_OK);
	assert_ptr_equal(object, &number);
	tdr_value_unref(value);
	assert_int_equal(number, 7);
}

static void test_containers(void **state)
{
	int destroyed = 0;
	tdr_value *list = tdr_list(0, NULL), *dict = tdr_dict_new(), *args;

	assert_int_equal(tdr_list_append(list, tdr_native("x", &destroyed, destroy)), TDR_OK);
	assert_int_equal(tdr_dict_set(dict, "key", tdr_native("x", &destroyed, destroy)), TDR_OK);
	args = TDR_ARGS(list, dict, tdr_native("x", &destroyed, destroy));
	assert_int_equal(destroyed, 0);
	tdr_value_unref(args);
	assert_int_equal(destroyed, 3);
	/* A container that cannot be made drops what it was given. */
	args = TDR_ARGS(tdr_native("x", &destroyed, destroy), tdr_string("\xff"));
	assert_int_equal(tdr_value_kind(args), TDR_INVALID);
	assert_int_equal(destroyed, 4);
}

static void test_no_keys(void **state)
{
	int destroyed = 0;
	tdr_value *dict = tdr_dict_new(), *set = tdr_set_new();

	assert_int_equal(tdr_dict_put(dict, tdr_native("x", &destroyed, destroy), tdr_int(1)), TDR_ETYPE);
	assert_non_null(strstr(tdr_last_error(), "native object cannot be a dict's key"));
	assert_int_equal(tdr_set_add(set, TDR_ARGS(tdr_native("x", &destroyed, destroy))), TDR_ETYPE);
	assert_int_equal(destroyed, 2);
	tdr_value_unref(dict);
	tdr_value_unref(set);
}

static void test_types_that_are_names(void **state)
{
	static const char *const good[] = {"a", "_", "9", "Buffer", "replay::Buffer", "a::b::c_9"};
	char longest[NATIVE_TYPE_SIZE];
	int destroyed = 0;

	for (size_t i = 0; i < COUNT_OF(good); i++) {
		tdr_value *value = tdr_native(good[i], &destroyed, destroy);

		assert_string_equal(tdr_native_type(value), good[i]);
		tdr_value_unref(value);
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	tdr_value_unref(tdr_native(longest, &destroyed, destroy));
	assert_int_equal(destroyed, COUNT_OF(good) + 1);
}

/* Whatever is wrong, the object was given away. */
static void test_types_that_are_none(void **state)
{
	static const char *const bad[] = {"",    ":",     "::",     "a:",  "a::", "::a",
	                                  "a:b", "a:::b", "a::::b", "a b", "a.b", "\xc3\xa9"};
	char large[NATIVE_TYPE_SIZE + 1];
	int destroyed = 0;
	tdr_value *value;

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		value = tdr_native(bad[i], &destroyed, destroy);
		assert_int_equal(tdr_value_status(value), TDR_EINVAL);
		assert_non_null(strstr(tdr_last_error(), "a native object's type"));
		assert_int_equal(destroyed, i + 1);
	}
	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	destroyed = 0;
	assert_int_equal(tdr_value_status(tdr_native(large, &destroyed, destroy)), TDR_EINVAL);
	assert_int_equal(tdr_value_status(tdr_native(NULL, &destroyed, destroy)), TDR_EINVAL);
	assert_int_equal(destroyed, 2);
	assert_int_equal(tdr_value_status(tdr_native("", &destroyed, NULL)), TDR_EINVAL);
	/* There is nothing to destroy. */
	assert_int_equal(tdr_value_status(tdr_native("x", NULL, destroy)), TDR_EINVAL);
}

static void test_wrong_types(void **state)
{
	int destroyed = 0;
	tdr_value *value = tdr_native("replay::Buffer", &destroyed, destroy);
	char large[2 * NATIVE_TYPE_SIZE];
	void *object = &value;

	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	assert_int_equal(tdr_value_get_native(value, "replay::Buffers", &object), TDR_ETYPE);
	assert_string_equal(tdr_last_error(), "wanted native 'replay::Buffers', got native 'replay::Buffer'");
	assert_int_equal(tdr_value_get_native(value, "", &object), TDR_ETYPE);
	assert_int_equal(tdr_value_get_native(tdr_int(1), "replay::Buffer", &object), TDR_ETYPE);
	assert_string_equal(tdr_last_error(), "wanted native 'replay::Buffer', got int");
	assert_int_equal(tdr_value_get_native(tdr_int(1), NULL, &object), TDR_ETYPE);
	assert_string_equal(tdr_last_error(), "wanted native, got int");
	assert_int_equal(tdr_value_get_native(tdr_int(1), large, &object), TDR_ETYPE);
	assert_int_equal(tdr_value_get_native(NULL, "x", &object), TDR_EINVAL);
	assert_int_equal(tdr_value_get_native(tdr_string("\xff"), "x", &object), TDR_EINVAL);
	assert_ptr_equal(object, &value);
	assert_null(tdr_native_type(tdr_int(1)));
	assert_null(tdr_native_type(NULL));
	tdr_value_unref(value);
}

static void assert_equal_or_not(tdr_value *a, tdr_value *b, bool equal)
{
	assert_true(tdr_value_equal(a, b) == equal);
	assert_true(tdr_value_equal(b, a) == equal);
	tdr_value_unref(a);
	tdr_value_unref(b);
}

static void test_equal_if_the_same(void **state)
{
	int numbers[2] = {0, 0};
	tdr_value *value = tdr_native("x", &numbers[0], NULL);

	assert_equal_or_not(tdr_value_ref(value), tdr_value_ref(value), true);
	assert_equal_or_not(tdr_value_ref(value), tdr_native("x", &numbers[0], NULL), true);
	assert_equal_or_not(tdr_value_ref(value), tdr_native("x", &numbers[1], NULL), false);
	assert_equal_or_not(tdr_value_ref(value), tdr_native("y", &numbers[0], NULL), false);
	assert_equal_or_not(value, tdr_int(0), false);
}

static void test_printing(void **state)
{
	int number = 0;
	tdr_value *value = tdr_native("replay::Buffer", &number, NULL);
	char text[100], expected[100];

	snprintf(expected, sizeof(expected), "<replay::Buffer at %p>", (void *)&number);
	tdr_value_print(value, text, sizeof(text));
	assert_string_equal(text, expected);
	assert_string_equal(tdr_kind_name(TDR_NATIVE), "native");
	tdr_value_unref(value);
}

static void test_stays_in_its_process(void **state)
{
	int destroyed = 0;
	tdr_value *value = TDR_ARGS(1, tdr_native("replay::Buffer", &destroyed, destroy));
	struct encoder encoder;

	encoder_init(&encoder, &codec_default_limits);
	assert_int_equal(encode_value(&encoder, value), TDR_EUNSUPPORTED);
	assert_string_equal(tdr_last_error(), "a native object ('replay::Buffer') stays in its process: pass a "
	                                      "reference to it (tdr_rref_new) instead");
	encoder_reset(&encoder);
	assert_int_equal(encode_value(&encoder, tdr_value_item(value, 0)), TDR_OK);
	encoder_fini(&encoder);
	assert_int_equal(destroyed, 0);
	tdr_value_unref(value);
	assert_int_equal(destroyed, 1);
}

static tdr_status export_count(void *object, tdr_value **ret_value)
{
	if (*(int *)object > 9)
		return error_set(TDR_ELIMIT, "too many to be sent");
	*ret_value = tdr_list(1, &(tdr_value *){tdr_int(*(int *)object)});
	return TDR_OK;
}

static tdr_status export_itself(void *object, tdr_value **ret_value)
{
	*ret_value = tdr_native("test::Other", object, NULL);
	return TDR_OK;
}

static void test_sent_as_something_else(void **state)
{
	static const tdr_native_ops ops = {.destroy = destroy, .export_value = export_count};
	static const tdr_native_ops endless = {.export_value = export_itself};
	int count = 4;
	tdr_value *items[] = {tdr_native_shared("test::Counter", &count, &ops), tdr_int(5)};
	tdr_value *list = tdr_list(2, items), *read = NULL, *other = tdr_native_shared("x", &count, &endless);
	struct encoder encoder;
	struct decoder decoder;
	char text[64];

	encoder_init(&encoder, &codec_default_limits);
	assert_int_equal(encode_value(&encoder, list), TDR_OK);
	decoder_init(&decoder, &codec_default_limits, encoder.body.data, encoder.body.size, NULL, 0);
	assert_int_equal(decode_value(&decoder, &read), TDR_OK);
	tdr_value_print(read, text, sizeof(text));
	assert_string_equal(text, "[[4], 5]");
	tdr_value_unref(read);
	count = 10;
	encoder_reset(&encoder);
	assert_int_equal(encode_value(&encoder, list), TDR_ELIMIT);
	assert_string_equal(tdr_last_error(), "too many to be sent");
	encoder_reset(&encoder);
	assert_int_equal(encode_value(&encoder, other), TDR_EUNSUPPORTED);
	encoder_fini(&encoder);
	tdr_value_unref(other);
	tdr_value_unref(list);
	assert_int_equal(count, 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_destroyed_with_the_last_reference),
	    cmocka_unit_test(test_objects_that_are_not_the_values),
	    cmocka_unit_test(test_containers),
	    cmocka_unit_test(test_no_keys),
	    cmocka_unit_test(test_types_that_are_names),
	    cmocka_unit_test(test_types_that_are_none),
	    cmocka_unit_test(test_wrong_types),
	    cmocka_unit_test(test_equal_if_the_same),
	    cmocka_unit_test(test_printing),
	    cmocka_unit_test(test_stays_in_its_process),
	    cmocka_unit_test(test_sent_as_something_else),
	};

	return cmocka_run_group_tests_name("value/native", tests, NULL, NULL);
}
