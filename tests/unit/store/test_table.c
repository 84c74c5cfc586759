/* SPDX-License-Identifier: Apache-2.0 */
/* What a store holds: limits, keys and values of any bytes, and numbers. */
#include "base/macros.h"
#include "store/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal(call, TDR_OK)

static void assert_value(const struct table *table, const char *key, const char *value)
{
	const struct table_value *found = table_get(table, key, strlen(key));

	assert_non_null(found);
	assert_int_equal(found->size, strlen(value));
	assert_string_equal(found->data, value);
}

static void holds_any_bytes(void **state)
{
	struct table table = {0};
	const struct table_value *value;

	OK(table_set(&table, "a\0b", 3, "x\0y", 3));
	OK(table_set(&table, "a\0c", 3, "", 0));
	OK(table_set(&table, "", 0, "empty", 5));
	assert_int_equal(table_count(&table), 3);
	value = table_get(&table, "a\0b", 3);
	assert_int_equal(value->size, 3);
	assert_memory_equal(value->data, "x\0y", 4);
	assert_null(table_get(&table, "a", 1));
	assert_true(table_delete(&table, "", 0));
	assert_false(table_delete(&table, "", 0));
	assert_int_equal(table_count(&table), 2);
	table_clear(&table);
	assert_int_equal(table_count(&table), 0);
	assert_null(table_get(&table, "a\0c", 3));
}

static void values_may_come_from_the_table(void **state)
{
	struct table table = {0};
	const struct table_value *value;

	OK(table_set(&table, "a", 1, "12345", 5));
	value = table_get(&table, "a", 1);
	OK(table_set(&table, "a", 1, value->data + 1, 3));
	assert_value(&table, "a", "234");
	table_clear(&table);
}

static void grows_and_shrinks(void **state)
{
	struct table table = {0};
	char key[16];

	for (int i = 0; i < 20000; i++) {
		snprintf(key, sizeof(key), "%d", i);
		OK(table_set(&table, key, strlen(key), key, strlen(key)));
	}
	for (int i = 0; i < 20000; i += 2) {
		snprintf(key, sizeof(key), "%d", i);
		assert_true(table_delete(&table, key, strlen(key)));
	}
	assert_int_equal(table_count(&table), 10000);
	for (int i = 1; i < 20000; i += 2) {
		snprintf(key, sizeof(key), "%d", i);
		assert_value(&table, key, key);
	}
	table_clear(&table);
}

static void limits_leave_it_as_it_was(void **state)
{
	struct table table = {.max_keys = 2, .max_value_size = 4};

	OK(table_set(&table, "a", 1, "1234", 4));
	OK(table_append(&table, "b", 1, "12", 2));
	assert_int_equal(table_set(&table, "c", 1, "", 0), TDR_ELIMIT);
	assert_int_equal(table_set(&table, "a", 1, "12345", 5), TDR_ELIMIT);
	assert_int_equal(table_append(&table, "b", 1, "345", 3), TDR_ELIMIT);
	OK(table_append(&table, "b", 1, "34", 2));
	assert_value(&table, "a", "1234");
	assert_value(&table, "b", "1234");
	assert_true(table_delete(&table, "a", 1));
	assert_int_equal(table_append(&table, "c", 1, "12345", 5), TDR_ELIMIT);
	assert_int_equal(table_count(&table), 1);
	OK(table_set(&table, "c", 1, "", 0));
	table_clear(&table);
}

static void missing_equals_empty(void **state)
{
	struct table_value empty = {.data = (char *)""}, full = {.data = (char *)"ab", .size = 2};

	assert_true(table_value_equals(NULL, "", 0));
	assert_true(table_value_equals(&empty, "", 0));
	assert_false(table_value_equals(NULL, "a", 1));
	assert_true(table_value_equals(&full, "ab", 2));
	assert_false(table_value_equals(&full, "ac", 2));
	assert_false(table_value_equals(&full, "a", 1));
	assert_false(table_value_equals(&full, "", 0));
}

static void numbers_are_whole(void **state)
{
	static const struct {
		const char *text;
		int64_t amount, sum;
		tdr_status status;
	} rows[] = {
	    {"", 3, 3, TDR_OK},
	    {"0", -1, -1, TDR_OK},
	    {"+007", 1, 8, TDR_OK},
	    {"-12", 2, -10, TDR_OK},
	    {"9223372036854775807", 0, INT64_MAX, TDR_OK},
	    {"-9223372036854775808", 1, -INT64_MAX, TDR_OK},
	    {"9223372036854775807", 1, 0, TDR_ELIMIT},
	    {"-9223372036854775808", -1, 0, TDR_ELIMIT},
	    {"9223372036854775808", 0, 0, TDR_EINVAL},
	    {"-9223372036854775809", 0, 0, TDR_EINVAL},
	    {"99999999999999999999999", 0, 0, TDR_EINVAL},
	    {"-", 0, 0, TDR_EINVAL},
	    {"+", 0, 0, TDR_EINVAL},
	    {" 1", 0, 0, TDR_EINVAL},
	    {"1 ", 0, 0, TDR_EINVAL},
	    {"1x", 0, 0, TDR_EINVAL},
	    {"0x10", 0, 0, TDR_EINVAL},
	    {"--1", 0, 0, TDR_EINVAL},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct table_value value = {.data = (char *)rows[i].text, .size = strlen(rows[i].text)};
		int64_t sum = 0;

		if (table_value_sum(&value, "key", 3, rows[i].amount, &sum) != rows[i].status || sum != rows[i].sum)
			fail_msg("'%s': a sum of %lld", rows[i].text, (long long)sum);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(holds_any_bytes),      cmocka_unit_test(values_may_come_from_the_table),
	    cmocka_unit_test(grows_and_shrinks),    cmocka_unit_test(limits_leave_it_as_it_was),
	    cmocka_unit_test(missing_equals_empty), cmocka_unit_test(numbers_are_whole),
	};

	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
