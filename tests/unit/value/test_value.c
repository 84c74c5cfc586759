/* SPDX-License-Identifier: Apache-2.0 */
/* Making, counting and reading values that are no containers, and what makes a value TDR_INVALID. */
#include "value/layout.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/args.h>

#include <cmocka.h>

static tdr_tensor *tensor_new(void)
{
	tdr_tensor *tensor;

	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(2, 3), &tensor), TDR_OK);
	return tensor;
}

/* That a value is TDR_INVALID for a reason that its text tells; the value is dropped. */
static void assert_invalid(tdr_value *value, tdr_status status, const char *words)
{
	assert_non_null(value);
	assert_int_equal(tdr_value_kind(value), TDR_INVALID);
	assert_int_equal(tdr_value_status(value), status);
	assert_non_null(strstr(tdr_last_error(), words));
	tdr_value_unref(value);
}

static void assert_int(tdr_value *value, int64_t expected)
{
	int64_t number;

	assert_int_equal(tdr_value_kind(value), TDR_INT);
	assert_int_equal(tdr_value_get_int(value, &number), TDR_OK);
	assert_true(number == expected);
	tdr_value_unref(value);
}

static void test_none_and_bools(void **state)
{
	bool truth;

	assert_true(tdr_value_is_none(tdr_none()));
	assert_false(tdr_value_is_none(tdr_bool(false)));
	assert_false(tdr_value_is_none(NULL));
	assert_int_equal(tdr_value_get_bool(tdr_bool(true), &truth), TDR_OK);
	assert_true(truth);
	assert_int_equal(tdr_value_get_bool(tdr_bool(false), &truth), TDR_OK);
	assert_false(truth);
	assert_null(tdr_value_unref(tdr_none()));
	assert_true(tdr_value_is_none(tdr_none()));
}

static void test_ints(void **state)
{
	static const int64_t numbers[] = {0, 1, -1, -32, -33, 127, 128, INT32_MIN, INT64_MAX, INT64_MIN};

	for (size_t i = 0; i < COUNT_OF(numbers); i++)
		assert_int(tdr_int(numbers[i]), numbers[i]);
	for (int64_t number = -200; number < 300; number++)
		assert_int(tdr_int(number), number);
}

static void assert_bigint_bytes(tdr_value *value, const char *bytes, size_t size)
{
	const void *read;
	size_t read_size;

	assert_int_equal(tdr_value_get_bigint(value, &read, &read_size), TDR_OK);
	assert_int_equal(read_size, size);
	assert_memory_equal(read, bytes, size);
	tdr_value_unref(value);
}

static void test_bigints_take_as_few_bytes_as_hold_them(void **state)
{
	assert_int(tdr_bigint(NULL, 0), 0);
	assert_int(tdr_bigint("\xff", 1), -1);
	assert_int(tdr_bigint("\xff\0", 2), 255);
	assert_int(tdr_bigint("\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11), -128);
	assert_int(tdr_bigint("\xff\xff\xff\xff\xff\xff\xff\x7f\0\0", 10), INT64_MAX);
	assert_int(tdr_bigint("\0\0\0\0\0\0\0\x80\xff", 9), INT64_MIN);
	assert_bigint_bytes(tdr_int(0), "", 1);
	assert_bigint_bytes(tdr_int(-1), "\xff", 1);
	assert_bigint_bytes(tdr_int(127), "\x7f", 1);
	assert_bigint_bytes(tdr_int(128), "\x80\0", 2);
	assert_bigint_bytes(tdr_int(-129), "\x7f\xff", 2);
	assert_bigint_bytes(tdr_int(INT64_MIN), "\0\0\0\0\0\0\0\x80", 8);
	assert_bigint_bytes(tdr_bigint("\0\0\0\0\0\0\0\x80\0\0\0", 11), "\0\0\0\0\0\0\0\x80\0", 9);
	assert_bigint_bytes(tdr_bigint("\1\2\3\4\5\6\7\x8\x9\xff\xff", 11), "\1\2\3\4\5\6\7\x8\x9\xff", 10);
}

static void test_bigints_past_64_bits_read_as_such_alone(void **state)
{
	tdr_value *value = tdr_bigint("\0\0\0\0\0\0\0\0\1", 9);
	int64_t number = 5;
	double real = 5;

	assert_int_equal(tdr_value_kind(value), TDR_INT);
	assert_int_equal(tdr_value_get_int(value, &number), TDR_ELIMIT);
	assert_int_equal(tdr_value_get_float(value, &real), TDR_ELIMIT);
	assert_int_equal(number, 5);
	assert_true(real == 5);
	tdr_value_unref(value);
}

static void test_numbers_read_as_wider_ones(void **state)
{
	tdr_value *whole = tdr_int(-3), *real = tdr_float(2.5), *both = tdr_complex(1, -2);
	double number, imaginary;

	assert_int_equal(tdr_value_get_float(whole, &number), TDR_OK);
	assert_true(number == -3);
	assert_int_equal(tdr_value_get_complex(whole, &number, &imaginary), TDR_OK);
	assert_true(number == -3 && imaginary == 0);
	assert_int_equal(tdr_value_get_complex(real, &number, &imaginary), TDR_OK);
	assert_true(number == 2.5 && imaginary == 0);
	assert_int_equal(tdr_value_get_complex(both, &number, &imaginary), TDR_OK);
	assert_true(number == 1 && imaginary == -2);
	assert_int_equal(tdr_value_get_float(both, &number), TDR_ETYPE);
	assert_string_equal(tdr_last_error(), "wanted float, got complex");
	tdr_value_unref(whole);
	tdr_value_unref(real);
	tdr_value_unref(both);
}

static void test_strings_and_bytes(void **state)
{
	tdr_value *text = tdr_string("caf\xc3\xa9"), *data = tdr_bytes("a\0b", 3), *empty = tdr_bytes(NULL, 0);
	const char *read;
	const void *bytes;
	size_t size;

	assert_int_equal(tdr_value_get_string(text, &read, &size), TDR_OK);
	assert_int_equal(size, 5);
	assert_string_equal(read, "caf\xc3\xa9");
	assert_int_equal(tdr_value_get_string(text, &read, NULL), TDR_OK);
	assert_int_equal(tdr_value_get_bytes(text, &bytes, &size), TDR_ETYPE);
	assert_int_equal(tdr_value_get_bytes(data, &bytes, &size), TDR_OK);
	assert_int_equal(size, 3);
	assert_memory_equal(bytes, "a\0b", 3);
	assert_int_equal(tdr_value_get_bytes(empty, &bytes, &size), TDR_OK);
	assert_int_equal(size, 0);
	tdr_value_unref(text);
	tdr_value_unref(data);
	tdr_value_unref(empty);
}

static void test_strings_hold_what_python_strings_do(void **state)
{
	static const char good[][6] = {"a\0b", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf4\x8f\xbf\xbf", "\xef\xbf\xbf"};

	for (size_t i = 0; i < COUNT_OF(good); i++) {
		tdr_value *value = tdr_string_n(good[i], i == 0 ? 3 : strlen(good[i]));

		assert_int_equal(tdr_value_kind(value), TDR_STRING);
		tdr_value_unref(value);
	}
}

static void test_tensors(void **state)
{
	tdr_tensor *tensor = tensor_new(), *read;
	tdr_value *value = tdr_tensor_value(tensor);

	tdr_tensor_unref(tensor);
	assert_int_equal(tdr_value_get_tensor(value, &read), TDR_OK);
	assert_ptr_equal(read, tensor);
	assert_int_equal(tdr_tensor_ndim(read), 2);
	tdr_value_unref(value);
}

static void test_devices(void **state)
{
	tdr_value *value = tdr_device_value((tdr_device){TDR_CUDA, 3});
	tdr_device device;

	assert_int_equal(tdr_value_get_device(value, &device), TDR_OK);
	assert_int_equal(device.type, TDR_CUDA);
	assert_int_equal(device.index, 3);
	tdr_value_unref(value);
}

static void test_objects(void **state)
{
	tdr_tensor *tensors[] = {tensor_new(), tensor_new()};
	tdr_value *value = tdr_object("pickle5", "abc", 3, 2, tensors);
	tdr_tensor *const *read;
	const char *format;
	const void *data;
	size_t size, ntensors;

	tdr_tensor_unref(tensors[0]);
	tdr_tensor_unref(tensors[1]);
	assert_int_equal(tdr_value_get_object(value, &format, &data, &size, &ntensors, &read), TDR_OK);
	assert_string_equal(format, "pickle5");
	assert_int_equal(size, 3);
	assert_memory_equal(data, "abc", 3);
	assert_int_equal(ntensors, 2);
	assert_ptr_equal(read[0], tensors[0]);
	assert_ptr_equal(read[1], tensors[1]);
	tdr_value_unref(value);
}

static void test_what_cannot_be_a_value_tells_why(void **state)
{
	char name[80];

	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	assert_invalid(tdr_string("\xff"), TDR_EINVAL, "not UTF-8");
	assert_invalid(tdr_string_n("\xc3\xa9", 1), TDR_EINVAL, "not UTF-8");
	assert_invalid(tdr_string("\xc0\x80"), TDR_EINVAL, "not UTF-8");
	assert_invalid(tdr_string("0123456\xe2\x82"), TDR_EINVAL, "not UTF-8");
	assert_invalid(tdr_string(NULL), TDR_EINVAL, "NULL");
	assert_invalid(tdr_string_n(NULL, 1), TDR_EINVAL, "NULL");
	assert_invalid(tdr_bytes(NULL, 1), TDR_EINVAL, "NULL");
	assert_invalid(tdr_bigint(NULL, 1), TDR_EINVAL, "NULL");
	assert_invalid(tdr_tensor_value(NULL), TDR_EINVAL, "NULL");
	assert_invalid(tdr_object(NULL, "", 0, 0, NULL), TDR_EINVAL, "NULL");
	assert_invalid(tdr_object("x", NULL, 1, 0, NULL), TDR_EINVAL, "NULL");
	assert_invalid(tdr_object("x", "", 0, 1, (tdr_tensor *const[]){NULL}), TDR_EINVAL, "NULL");
	assert_invalid(tdr_object("\xff", "", 0, 0, NULL), TDR_EINVAL, "not UTF-8");
	assert_invalid(tdr_object(name, "", 0, 0, NULL), TDR_EINVAL, "format");
	assert_invalid(tdr_device_value((tdr_device){(tdr_device_type)7, 0}), TDR_EINVAL, "device");
	assert_invalid(tdr_bytes("", SIZE_MAX - 8), TDR_ENOMEM, "memory");
	assert_int_equal(tdr_value_status(NULL), TDR_EINVAL);
	assert_int_equal(tdr_value_status(tdr_none()), TDR_OK);
}

static void test_reading_the_wrong_kind_leaves_outputs_alone(void **state)
{
	tdr_value *value = tdr_bytes("x", 1);
	tdr_tensor *tensor = NULL;
	const char *text = NULL;
	const void *bytes = NULL;
	tdr_device device = {0};
	bool truth = false;
	int64_t number = 0;
	double real = 0;
	size_t size = 0;

	assert_int_equal(tdr_value_get_bool(value, &truth), TDR_ETYPE);
	assert_int_equal(tdr_value_get_int(value, &number), TDR_ETYPE);
	assert_string_equal(tdr_last_error(), "wanted int, got bytes");
	assert_int_equal(tdr_value_get_int(tdr_bool(true), &number), TDR_ETYPE);
	assert_int_equal(tdr_value_get_float(value, &real), TDR_ETYPE);
	assert_int_equal(tdr_value_get_complex(value, &real, &real), TDR_ETYPE);
	assert_int_equal(tdr_value_get_string(value, &text, &size), TDR_ETYPE);
	assert_int_equal(tdr_value_get_tensor(value, &tensor), TDR_ETYPE);
	assert_int_equal(tdr_value_get_device(value, &device), TDR_ETYPE);
	assert_int_equal(tdr_value_get_bigint(value, &bytes, &size), TDR_ETYPE);
	assert_int_equal(tdr_value_get_object(value, &text, &bytes, &size, &size, NULL), TDR_ETYPE);
	assert_int_equal(tdr_value_get_int(NULL, &number), TDR_EINVAL);
	assert_int_equal(tdr_value_get_int(tdr_string("\xff"), &number), TDR_EINVAL);
	assert_non_null(strstr(tdr_last_error(), "not UTF-8"));
	assert_true(!truth && number == 0 && real == 0 && !text && !tensor && !bytes && size == 0);
	tdr_value_unref(value);
}

static void test_kind_names(void **state)
{
	assert_string_equal(tdr_kind_name(TDR_INT), "int");
	assert_string_equal(tdr_kind_name(TDR_NONE), "None");
	assert_string_equal(tdr_kind_name(TDR_OBJECT), "object");
	assert_string_equal(tdr_kind_name((tdr_kind)99), "?");
	assert_int_equal(tdr_value_kind(NULL), TDR_INVALID);
}

static void *hold_and_drop(void *context)
{
	tdr_value *shared = context;

	for (int i = 0; i < 20000; i++) {
		tdr_value *list = TDR_ARGS(tdr_value_ref(shared), tdr_none(), 7, i);
		int64_t number = 0;

		assert_true(tdr_value_equal(tdr_value_item(list, 0), shared));
		assert_int_equal(tdr_value_get_int(tdr_value_item(list, 3), &number), TDR_OK);
		assert_int_equal(number, i);
		tdr_value_unref(list);
	}
	tdr_value_unref(shared);
	return NULL;
}

static void test_threads_share_values(void **state)
{
	tdr_value *shared = TDR_ARGS("text", 1 << 20, TDR_KWARGS("lr", 0.5));
	pthread_t threads[4];

	for (size_t i = 0; i < COUNT_OF(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hold_and_drop, tdr_value_ref(shared)), 0);
	tdr_value_unref(shared);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		pthread_join(threads[i], NULL);
}

/* The hot path makes and drops these by the million: who lets them grow should notice. */
static void test_sizes(void **state)
{
	assert_int_equal(sizeof(struct tdr_value), 8);
	assert_int_equal(sizeof(struct int_value), 16);
	assert_int_equal(sizeof(struct blob_value), 16);
	assert_int_equal(sizeof(struct container_value), 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_none_and_bools),
	    cmocka_unit_test(test_ints),
	    cmocka_unit_test(test_bigints_take_as_few_bytes_as_hold_them),
	    cmocka_unit_test(test_bigints_past_64_bits_read_as_such_alone),
	    cmocka_unit_test(test_numbers_read_as_wider_ones),
	    cmocka_unit_test(test_strings_and_bytes),
	    cmocka_unit_test(test_strings_hold_what_python_strings_do),
	    cmocka_unit_test(test_tensors),
	    cmocka_unit_test(test_devices),
	    cmocka_unit_test(test_objects),
	    cmocka_unit_test(test_what_cannot_be_a_value_tells_why),
	    cmocka_unit_test(test_reading_the_wrong_kind_leaves_outputs_alone),
	    cmocka_unit_test(test_kind_names),
	    cmocka_unit_test(test_threads_share_values),
	    cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests_name("value/value", tests, NULL, NULL);
}
