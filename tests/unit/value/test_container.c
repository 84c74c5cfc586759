/* SPDX-License-Identifier: Apache-2.0 */
/* Lists, tuples, dicts and sets: adding, looking up, who may add, how deep they may be nested, and what equals what. */
#include "value/layout.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/args.h>

#include <cmocka.h>

#define MANY 100000

static int64_t number_of(const tdr_value *value)
{
	int64_t number;

	assert_int_equal(tdr_value_get_int(value, &number), TDR_OK);
	return number;
}

static void assert_spoilt(tdr_value *value, tdr_status status)
{
	assert_int_equal(tdr_value_kind(value), TDR_INVALID);
	assert_int_equal(tdr_value_status(value), status);
	assert_int_equal(tdr_value_count(value), 0);
	tdr_value_unref(value);
}

static void assert_equal_or_not(tdr_value *a, tdr_value *b, bool equal)
{
	assert_int_equal(tdr_value_equal(a, b), equal);
	assert_int_equal(tdr_value_equal(b, a), equal);
	tdr_value_unref(a);
	tdr_value_unref(b);
}

/* ---- lists and tuples ---- */

static void test_lists_grow(void **state)
{
	tdr_value *list = TDR_ARGS(1), *items[] = {tdr_int(0), tdr_int(1)};

	tdr_value_unref(list);
	list = tdr_list(2, items);
	for (int64_t i = 2; i < 1000; i++)
		assert_int_equal(tdr_list_append(list, tdr_int(i)), TDR_OK);
	assert_int_equal(tdr_value_count(list), 1000);
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(number_of(tdr_value_item(list, i)), i);
	assert_null(tdr_value_item(list, 1000));
	assert_null(tdr_dict_key(list, 0));
	assert_null(tdr_dict_value(list, 0));
	tdr_value_unref(list);
}

static void test_sequences_of_nothing(void **state)
{
	tdr_value *list = tdr_list(0, NULL), *tuple = tdr_tuple(0, NULL);

	assert_int_equal(tdr_value_count(list), 0);
	assert_int_equal(tdr_value_count(tuple), 0);
	assert_int_equal(tdr_value_count(tdr_none()), 0);
	assert_int_equal(tdr_value_count(NULL), 0);
	assert_null(tdr_value_item(tuple, 0));
	tdr_value_unref(list);
	tdr_value_unref(tuple);
}

static void test_invalid_items_spread(void **state)
{
	tdr_value *items[] = {tdr_string("kept"), tdr_string("\xff"), tdr_string("kept too")};
	tdr_value *list = tdr_list(0, NULL), *dict = tdr_dict_new();

	assert_spoilt(tdr_tuple(3, items), TDR_EINVAL);
	assert_spoilt(tdr_tuple(1, (tdr_value *const[]){NULL}), TDR_EINVAL);
	assert_spoilt(tdr_list(1, NULL), TDR_EINVAL);
	assert_int_equal(tdr_list_append(list, tdr_string("there before")), TDR_OK);
	assert_int_equal(tdr_list_append(list, tdr_string("\xff")), TDR_EINVAL);
	/* It stays as it became. */
	assert_int_equal(tdr_list_append(list, tdr_int(1)), TDR_EINVAL);
	assert_non_null(strstr(tdr_last_error(), "not UTF-8"));
	assert_int_equal(tdr_dict_set(dict, "list", list), TDR_EINVAL);
	assert_spoilt(dict, TDR_EINVAL);
	assert_spoilt(TDR_ARGS(1, tdr_set_new(), tdr_string("\xff")), TDR_EINVAL);
}

static void test_nesting_is_bounded(void **state)
{
	tdr_value *value = tdr_list(0, NULL), *list = tdr_list(0, NULL), *dict = tdr_dict_new();

	for (int i = 1; i < TDR_MAX_DEPTH; i++)
		value = tdr_list(1, &value);
	assert_int_equal(tdr_value_status(value), TDR_OK);
	assert_int_equal(tdr_list_append(list, tdr_value_ref(value)), TDR_ELIMIT);
	assert_spoilt(list, TDR_ELIMIT);
	assert_int_equal(tdr_dict_set(dict, "deep", tdr_value_ref(value)), TDR_ELIMIT);
	assert_spoilt(dict, TDR_ELIMIT);
	assert_spoilt(tdr_tuple(1, &value), TDR_ELIMIT);
}

/* ---- dicts and sets ---- */

static void test_dicts_keep_order_and_replace(void **state)
{
	tdr_value *dict = tdr_dict_new();

	for (int64_t i = 0; i < 20; i++)
		assert_int_equal(tdr_dict_put(dict, tdr_int(i * 7), tdr_int(i)), TDR_OK);
	for (int64_t i = 0; i < 20; i++)
		assert_int_equal(tdr_dict_put(dict, tdr_int(i * 7), tdr_int(-i)), TDR_OK);
	assert_int_equal(tdr_value_count(dict), 20);
	for (size_t i = 0; i < 20; i++) {
		assert_int_equal(number_of(tdr_dict_key(dict, i)), i * 7);
		assert_int_equal(number_of(tdr_dict_value(dict, i)), -(int64_t)i);
	}
	assert_null(tdr_dict_key(dict, 20));
	assert_null(tdr_dict_value(dict, 20));
	assert_null(tdr_value_item(dict, 0));
	tdr_value_unref(dict);
}

static void test_dicts_find_by_string(void **state)
{
	tdr_value *dict = tdr_dict_new(), *key = tdr_string("key 13");
	char name[32];

	for (int i = 0; i < 40; i++) {
		/* With few keys and with many. */
		snprintf(name, sizeof(name), "key %d", i);
		assert_null(tdr_dict_get(dict, name));
		assert_int_equal(tdr_dict_set(dict, name, tdr_int(i)), TDR_OK);
		assert_int_equal(number_of(tdr_dict_get(dict, name)), i);
		assert_int_equal(number_of(tdr_dict_get(dict, "key 0")), 0);
	}
	assert_int_equal(number_of(tdr_dict_find(dict, key)), 13);
	assert_null(tdr_dict_get(dict, "key"));
	assert_null(tdr_dict_get(dict, NULL));
	assert_null(tdr_dict_get(key, "x"));
	assert_null(tdr_dict_find(key, key));
	assert_null(tdr_dict_find(dict, NULL));
	assert_null(tdr_dict_find(dict, dict));
	tdr_value_unref(key);
	tdr_value_unref(dict);
}

static void test_kinds_of_keys_are_distinct(void **state)
{
	tdr_value *dict = tdr_dict_new();
	tdr_value *keys[] = {tdr_none(),
	                     tdr_bool(true),
	                     tdr_bool(false),
	                     tdr_int(1),
	                     tdr_int(0),
	                     tdr_float(1),
	                     tdr_float(0),
	                     tdr_complex(1, 0),
	                     tdr_string("1"),
	                     tdr_bytes("1", 1),
	                     TDR_ARGS(1),
	                     TDR_ARGS(1.0),
	                     tdr_value_of_uint(UINT64_MAX),
	                     tdr_device_value(TDR_DEVICE_CPU),
	                     tdr_object("p", "1", 1, 0, NULL)};

	for (size_t i = 0; i < COUNT_OF(keys); i++) {
		assert_null(tdr_dict_find(dict, keys[i]));
		assert_int_equal(tdr_dict_put(dict, tdr_value_ref(keys[i]), tdr_int((int64_t)i)), TDR_OK);
	}
	assert_int_equal(tdr_value_count(dict), COUNT_OF(keys));
	for (size_t i = 0; i < COUNT_OF(keys); i++) {
		assert_int_equal(number_of(tdr_dict_find(dict, keys[i])), i);
		tdr_value_unref(keys[i]);
	}
	tdr_value_unref(dict);
}

static void test_equal_floats_are_one_key(void **state)
{
	tdr_value *set = tdr_set_new();

	for (int i = 0; i < 20; i++)
		assert_int_equal(tdr_set_add(set, tdr_int(i)), TDR_OK);
	assert_int_equal(tdr_set_add(set, tdr_float(0.0)), TDR_OK);
	assert_int_equal(tdr_set_add(set, tdr_float(-0.0)), TDR_OK);
	assert_int_equal(tdr_set_add(set, tdr_float((double)NAN)), TDR_OK);
	assert_int_equal(tdr_set_add(set, tdr_float(-(double)NAN)), TDR_OK);
	assert_int_equal(tdr_set_add(set, TDR_ARGS((double)NAN, -0.0)), TDR_OK);
	assert_int_equal(tdr_set_add(set, TDR_ARGS((double)NAN, 0.0)), TDR_OK);
	assert_int_equal(tdr_value_count(set), 23);
	tdr_value_unref(set);
}

static void test_sets_hold_each_once(void **state)
{
	tdr_value *set = tdr_set_new();

	for (int i = 0; i < 100; i++)
		assert_int_equal(tdr_set_add(set, tdr_int(i % 30 * 1000)), TDR_OK);
	assert_int_equal(tdr_value_count(set), 30);
	assert_int_equal(number_of(tdr_value_item(set, 29)), 29000);
	tdr_value_unref(set);
}

/* Quadratic look-ups would take longer than the test may. */
static void test_large_dicts(void **state)
{
	tdr_value *dict = tdr_dict_new(), *copy = tdr_dict_new(), *key;

	for (int64_t i = 0; i < MANY; i++) {
		assert_int_equal(tdr_dict_put(dict, tdr_int(i << 32), tdr_int(i)), TDR_OK);
		assert_int_equal(tdr_dict_put(copy, tdr_int((MANY - 1 - i) << 32), tdr_int(MANY - 1 - i)), TDR_OK);
	}
	for (int64_t i = 0; i < MANY; i++) {
		key = tdr_int(i << 32);
		assert_int_equal(number_of(tdr_dict_find(dict, key)), i);
		tdr_value_unref(key);
	}
	assert_equal_or_not(dict, copy, true);
}

static void test_what_cannot_be_a_key(void **state)
{
	tdr_value *items[] = {tdr_list(0, NULL), tdr_dict_new(), tdr_set_new(), TDR_ARGS(1, tdr_list(0, NULL)), NULL};
	tdr_tensor *tensor;

	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(1), &tensor), TDR_OK);
	items[4] = tdr_tensor_value(tensor);
	tdr_tensor_unref(tensor);
	for (size_t i = 0; i < COUNT_OF(items); i++) {
		tdr_value *dict = tdr_dict_new(), *set = tdr_set_new();

		assert_int_equal(tdr_dict_put(dict, tdr_value_ref(items[i]), tdr_string("dropped")), TDR_ETYPE);
		assert_spoilt(dict, TDR_ETYPE);
		assert_int_equal(tdr_set_add(set, items[i]), TDR_ETYPE);
		assert_spoilt(set, TDR_ETYPE);
	}
}

/* ---- who may add ---- */

static void test_others_containers_are_not_added_to(void **state)
{
	tdr_value *list = tdr_list(0, NULL), *tuple, *dict = tdr_dict_new(), *other;

	tdr_value_ref(list);
	assert_int_equal(tdr_list_append(list, tdr_string("dropped")), TDR_ESTATE);
	tdr_value_unref(list);
	assert_int_equal(tdr_list_append(list, tdr_int(1)), TDR_OK);
	tuple = tdr_tuple(1, &list);
	assert_int_equal(tdr_list_append(list, tdr_string("dropped")), TDR_ESTATE);
	other = tdr_value_ref(list);
	tdr_value_unref(tuple);
	assert_int_equal(tdr_list_append(other, tdr_string("dropped")), TDR_ESTATE);
	assert_int_equal(tdr_value_count(other), 1);
	tdr_value_unref(other);

	assert_int_equal(tdr_dict_put(tdr_none(), tdr_string("dropped"), tdr_string("dropped")), TDR_ETYPE);
	assert_int_equal(tdr_list_append(dict, tdr_string("dropped")), TDR_ETYPE);
	assert_int_equal(tdr_set_add(dict, tdr_string("dropped")), TDR_ETYPE);
	assert_int_equal(tdr_list_append(NULL, tdr_string("dropped")), TDR_EINVAL);
	assert_int_equal(tdr_value_status(dict), TDR_OK);
	tdr_value_unref(dict);
}

static void test_there_are_no_cycles(void **state)
{
	tdr_value *outer = tdr_list(0, NULL), *inner = tdr_list(0, NULL), *dict = tdr_dict_new(), *set = tdr_set_new();

	assert_int_equal(tdr_list_append(outer, outer), TDR_ESTATE);
	assert_int_equal(tdr_dict_put(dict, tdr_string("dropped"), dict), TDR_ESTATE);
	assert_int_equal(tdr_dict_put(dict, dict, tdr_string("dropped")), TDR_ESTATE);
	assert_int_equal(tdr_set_add(set, set), TDR_ESTATE);
	assert_int_equal(tdr_list_append(outer, inner), TDR_OK);
	assert_int_equal(tdr_list_append(inner, tdr_value_ref(outer)), TDR_ESTATE);
	tdr_value_unref(outer);
	tdr_value_unref(dict);
	tdr_value_unref(set);
}

/* ---- equality ---- */

static void test_equality_of_containers(void **state)
{
	tdr_value *a = tdr_dict_new(), *b = tdr_dict_new();

	assert_equal_or_not(TDR_ARGS(1, "x", 2.0), TDR_ARGS(1, "x", 2.0), true);
	assert_equal_or_not(TDR_ARGS(1, "x"), TDR_ARGS(1, "y"), false);
	assert_equal_or_not(TDR_ARGS(1, 2), TDR_ARGS(1), false);
	assert_equal_or_not(TDR_ARGS(1), tdr_list(1, (tdr_value *const[]){tdr_int(1)}), false);
	assert_equal_or_not(TDR_ARGS(1), TDR_ARGS(1.0), false);
	assert_equal_or_not(tdr_bool(true), tdr_int(1), false);
	assert_equal_or_not(TDR_KWARGS("a", 1, "b", 2), TDR_KWARGS("b", 2, "a", 1), true);
	assert_equal_or_not(TDR_KWARGS("a", 1, "b", 2), TDR_KWARGS("b", 1, "a", 2), false);
	assert_equal_or_not(TDR_KWARGS("a", 1), TDR_KWARGS("b", 1), false);
	assert_equal_or_not(tdr_float((double)NAN), tdr_float(-(double)NAN), true);
	assert_equal_or_not(tdr_string("a"), tdr_bytes("a", 1), false);
	assert_equal_or_not(tdr_object("p", "a", 1, 0, NULL), tdr_object("q", "a", 1, 0, NULL), false);
	assert_false(tdr_value_equal(a, NULL));
	assert_false(tdr_value_equal(tdr_string("\xff"), tdr_none()));
	for (int i = 0; i < 50; i++) {
		tdr_dict_put(a, tdr_int(i), tdr_int(1));
		tdr_dict_put(b, tdr_int(49 - i), tdr_int(1));
	}
	assert_equal_or_not(a, b, true);
}

/* Copies of `data`, of which the second is a view with gaps. */
static void assert_tensors(tdr_dtype dtype, const void *x, const void *y, size_t count, bool equal)
{
	int64_t sizes[] = {(int64_t)count}, strides[] = {2};
	size_t size = tdr_dtype_size(dtype);
	tdr_tensor *a, *b, *spread;
	tdr_storage *storage;

	assert_int_equal(tdr_tensor_copy_of(x, dtype, 1, sizes, &a), TDR_OK);
	assert_int_equal(tdr_tensor_copy_of(y, dtype, 1, sizes, &b), TDR_OK);
	assert_int_equal(tdr_storage_new(2 * count * size, &storage), TDR_OK);
	memset(tdr_storage_data(storage), 0x5a, 2 * count * size);
	for (size_t i = 0; i < count; i++)
		memcpy((char *)tdr_storage_data(storage) + 2 * i * size, (const char *)y + i * size, size);
	assert_int_equal(tdr_tensor_view(storage, dtype, 1, sizes, strides, 0, &spread), TDR_OK);
	assert_equal_or_not(tdr_tensor_value(a), tdr_tensor_value(b), equal);
	assert_equal_or_not(tdr_tensor_value(a), tdr_tensor_value(spread), equal);
	assert_equal_or_not(tdr_tensor_value(spread), tdr_tensor_value(b), true);
	tdr_tensor_unref(a);
	tdr_tensor_unref(b);
	tdr_tensor_unref(spread);
	tdr_storage_unref(storage);
}

static void test_equality_of_tensors(void **state)
{
	const float x[] = {0, 1, NAN, 3}, y[] = {-0.0f, 1, -NAN, 3}, z[] = {0, 1, NAN, 4};
	const double v[] = {0, (double)NAN}, w[] = {-0.0, -(double)NAN};
	const uint16_t h[] = {0, 0x7e00, 0x7c00}, i[] = {0x8000, 0xffff, 0x7c00}, j[] = {0, 0x7e00, 0xfc00};
	const uint16_t k[] = {0x7f80}, l[] = {0x7f81}, m[] = {0xff81};
	const int32_t p[] = {0, INT32_MIN}, q[] = {INT32_MIN, 0};

	assert_tensors(TDR_F32, x, x, 4, true);
	assert_tensors(TDR_F32, x, y, 4, true);
	assert_tensors(TDR_F32, x, z, 4, false);
	assert_tensors(TDR_C64, x, y, 2, true);
	assert_tensors(TDR_C64, x, z, 2, false);
	assert_tensors(TDR_F64, v, w, 2, true);
	assert_tensors(TDR_C128, v, w, 1, true);
	assert_tensors(TDR_F16, h, i, 3, true);
	assert_tensors(TDR_F16, h, j, 3, false);
	assert_tensors(TDR_BF16, k, l, 1, false);
	assert_tensors(TDR_BF16, l, m, 1, true);
	assert_tensors(TDR_I32, p, p, 2, true);
	assert_tensors(TDR_I32, p, q, 2, false);
}

static void test_tensors_of_other_shapes_differ(void **state)
{
	tdr_tensor *a, *b, *c, *d;

	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(2, 3), &a), TDR_OK);
	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(3, 2), &b), TDR_OK);
	assert_int_equal(tdr_tensor_zeros(TDR_I32, TDR_SHAPE(2, 3), &c), TDR_OK);
	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(6), &d), TDR_OK);
	assert_equal_or_not(tdr_tensor_value(a), tdr_tensor_value(b), false);
	assert_equal_or_not(tdr_tensor_value(a), tdr_tensor_value(c), false);
	assert_equal_or_not(tdr_tensor_value(a), tdr_tensor_value(d), false);
	tdr_tensor_unref(a);
	tdr_tensor_unref(b);
	tdr_tensor_unref(c);
	tdr_tensor_unref(d);
}

/* An expanded tensor has more elements than anyone can walk. */
static void test_equality_of_expanded_tensors(void **state)
{
	const int64_t sizes[] = {(int64_t)1 << 20, 2, (int64_t)1 << 30}, strides[] = {0, 1, 0};
	const float x[] = {1, NAN}, y[] = {1, -NAN}, z[] = {1, 2};
	const float *const data[] = {x, y, z};
	tdr_value *values[3];

	for (size_t i = 0; i < COUNT_OF(values); i++) {
		tdr_tensor *row, *expanded;

		assert_int_equal(tdr_tensor_copy_of(data[i], TDR_F32, TDR_SHAPE(2), &row), TDR_OK);
		assert_int_equal(tdr_tensor_view(tdr_tensor_storage(row), TDR_F32, 3, sizes, strides, 0, &expanded),
		                 TDR_OK);
		values[i] = tdr_tensor_value(expanded);
		tdr_tensor_unref(row);
		tdr_tensor_unref(expanded);
	}
	assert_equal_or_not(tdr_value_ref(values[0]), values[1], true);
	assert_equal_or_not(values[0], values[2], false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lists_grow),
	    cmocka_unit_test(test_sequences_of_nothing),
	    cmocka_unit_test(test_invalid_items_spread),
	    cmocka_unit_test(test_nesting_is_bounded),
	    cmocka_unit_test(test_dicts_keep_order_and_replace),
	    cmocka_unit_test(test_dicts_find_by_string),
	    cmocka_unit_test(test_kinds_of_keys_are_distinct),
	    cmocka_unit_test(test_equal_floats_are_one_key),
	    cmocka_unit_test(test_sets_hold_each_once),
	    cmocka_unit_test(test_large_dicts),
	    cmocka_unit_test(test_what_cannot_be_a_key),
	    cmocka_unit_test(test_others_containers_are_not_added_to),
	    cmocka_unit_test(test_there_are_no_cycles),
	    cmocka_unit_test(test_equality_of_containers),
	    cmocka_unit_test(test_equality_of_tensors),
	    cmocka_unit_test(test_tensors_of_other_shapes_differ),
	    cmocka_unit_test(test_equality_of_expanded_tensors),
	};

	return cmocka_run_group_tests_name("value/container", tests, NULL, NULL);
}
