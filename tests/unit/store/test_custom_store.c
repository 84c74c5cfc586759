/* SPDX-License-Identifier: Apache-2.0 */
/* A vtable of a program's own, where it is not as the suite's: what it lacks, how it fails, and when it is destroyed. */
#include "base/error.h"
#include "base/macros.h"
#include "support/leaks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <tendril/store.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(call) assert_int_equal(call, TDR_OK)

static void assert_text(const char *part)
{
	if (!strstr(tdr_last_error(), part))
		fail_msg("'%s' is not in the error's text: %s", part, tdr_last_error());
}

/* ---- a vtable whose operations do as they are told ---- */

struct puppet {
	tdr_status status; /* that set returns */
	const char *text;  /* that it leaves; NULL: none */
	int destroyed;
};

static tdr_status puppet_set(void *context, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	struct puppet *puppet = context;

	assert_non_null(value);
	return puppet->text ? error_set(puppet->status, "%s", puppet->text) : puppet->status;
}

static void puppet_destroy(void *context)
{
	struct puppet *puppet = context;

	puppet->destroyed++;
}

static const tdr_store_ops puppet_ops = {
    .size = sizeof(puppet_ops),
    .name = "puppet",
    .set = puppet_set,
    .destroy = puppet_destroy,
};

/* ---- tests ---- */

static void making_checks_the_vtable(void **state)
{
	tdr_store_ops ops = puppet_ops;
	struct puppet puppet = {0};
	tdr_store *store = NULL;

	assert_int_equal(tdr_store_new(NULL, &puppet, &store), TDR_EINVAL);
	ops.size = 0;
	assert_int_equal(tdr_store_new(&ops, &puppet, &store), TDR_EINVAL);
	assert_text("ops->size is 0");
	ops = puppet_ops;
	ops.name = NULL;
	assert_int_equal(tdr_store_new(&ops, &puppet, &store), TDR_EINVAL);
	assert_null(store);
	assert_int_equal(puppet.destroyed, 0);
}

/* A program that was built against an older, shorter vtable. */
static void a_short_vtable_is_taken(void **state)
{
	tdr_store_ops ops = puppet_ops;
	struct puppet puppet = {0};
	tdr_store *store;

	ops.size = offsetof(tdr_store_ops, get);
	OK(tdr_store_new(&ops, &puppet, &store));
	OK(tdr_store_set(store, "a", NULL, 0));
	tdr_store_unref(store);
	assert_int_equal(puppet.destroyed, 0); /* it lies behind the end of what was given */
}

static void what_is_missing_is_named(void **state)
{
	struct puppet puppet = {0};
	tdr_store *store;
	bool flag;
	int64_t number;

	OK(tdr_store_new(&puppet_ops, &puppet, &store));
	assert_int_equal(tdr_store_check(store, 1, (const char *[]){"a"}, &flag), TDR_EUNSUPPORTED);
	assert_text("the puppet store has no operation 'check'");
	assert_int_equal(tdr_store_add(store, "a", 1, &number), TDR_EUNSUPPORTED);
	assert_int_equal(tdr_store_num_keys(store, &number), TDR_EUNSUPPORTED);
	assert_int_equal(tdr_store_delete_key(store, "a", &flag), TDR_EUNSUPPORTED);
	assert_int_equal(tdr_store_get(store, "a", 10, NULL), TDR_EUNSUPPORTED);
	assert_int_equal(tdr_store_append(store, "a", "b", 1), TDR_EUNSUPPORTED);
	assert_text("'compare_set'");
	OK(tdr_store_multi_set(store, 1, (const char *[]){"a"}, &(tdr_blob){0}));
	assert_ptr_equal(tdr_store_ref(store), store);
	assert_null(tdr_store_unref(store));
	assert_int_equal(puppet.destroyed, 0);
	assert_null(tdr_store_unref(store));
	assert_int_equal(puppet.destroyed, 1);
}

static void each_failure_has_its_own_text(void **state)
{
	struct puppet puppet = {.status = TDR_EIO};
	tdr_store *store;

	OK(tdr_store_new(&puppet_ops, &puppet, &store));
	error_set(TDR_EINVAL, "something older");
	assert_int_equal(tdr_store_set(store, "a", "1", 1), TDR_EIO);
	assert_string_equal(tdr_last_error(), "puppet store, set of key 'a': system call failed");
	puppet.text = "the strings are cut";
	assert_int_equal(tdr_store_set(store, "a", "1", 1), TDR_EIO);
	assert_string_equal(tdr_last_error(), "the strings are cut");
	puppet = (struct puppet){.status = TDR_ETIMEDOUT, .text = "nobody pulled"};
	tdr_store_set_timeout(store, 70);
	assert_int_equal(tdr_store_set(store, "a", "1", 1), TDR_ETIMEDOUT);
	assert_string_equal(tdr_last_error(), "nobody pulled within 70 ms");
	puppet = (struct puppet){0};
	OK(tdr_store_set(store, "a", "1", 1)); /* success leaves the text of the last failure */
	assert_string_equal(tdr_last_error(), "nobody pulled within 70 ms");
	tdr_store_unref(store);
}

static void a_child_does_not_destroy(void **state)
{
	struct puppet puppet = {0};
	tdr_store *store;
	int status;
	pid_t child;

	OK(tdr_store_new(&puppet_ops, &puppet, &store));
	child = fork();
	if (child == 0) {
		tdr_store_unref(store);
		_exit(puppet.destroyed);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	tdr_store_unref(store);
	assert_int_equal(puppet.destroyed, 1);
}

/* ---- append, made of compare_set ---- */

static tdr_status table_compare_set(void *context, const char *key, const void *expected, size_t expected_size,
                                    const void *desired, size_t desired_size, int64_t deadline_ms, tdr_blob *ret_value)
{
	return tdr_store_compare_set(context, key, expected, expected_size, desired, desired_size, ret_value);
}

static tdr_status table_set(void *context, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	return tdr_store_set(context, key, value, size);
}

static const tdr_store_ops table_ops = {
    .size = sizeof(table_ops),
    .name = "small",
    .set = table_set,
    .compare_set = table_compare_set,
};

static void a_dead_appender_is_named(void **state)
{
	tdr_store *table, *store;
	tdr_blob value;

	OK(tdr_store_hash(&table));
	OK(tdr_store_new(&table_ops, table, &store));
	OK(tdr_store_append(store, "log", "a", 1));
	OK(tdr_store_append(store, "log", "a", 1));
	OK(tdr_store_get(table, "log/appending", 1000, &value)); /* without delete_key it stays, empty */
	assert_int_equal(value.size, 0);
	tdr_blob_free(&value);
	OK(tdr_store_set(table, "log/appending", "host:123:00ff", 13));
	tdr_store_set_timeout(store, 60);
	assert_int_equal(tdr_store_append(store, "log", "b", 1), TDR_ETIMEDOUT);
	assert_text("key 'log/appending', the lock of those who append to 'log', was not released by 'host:123:00ff'");
	assert_text("within 60 ms");
	OK(tdr_store_delete_key(table, "log/appending", NULL));
	OK(tdr_store_append(store, "log", "b", 1));
	OK(tdr_store_get(table, "log", 1000, &value));
	assert_string_equal(value.data, "aab");
	tdr_blob_free(&value);
	tdr_store_unref(store);
	tdr_store_unref(table);
}

/* ---- prefixes ---- */

static void prefixes_nest(void **state)
{
	tdr_store *table, *outer, *inner;
	tdr_blob value;
	int64_t count;

	OK(tdr_store_hash(&table));
	OK(tdr_store_prefix("a", table, &inner));
	OK(tdr_store_prefix("b", inner, &outer));
	tdr_store_unref(inner);
	OK(tdr_store_set(outer, "key", "1", 1));
	OK(tdr_store_get(table, "a/b/key", 1000, &value));
	tdr_blob_free(&value);
	OK(tdr_store_set(table, "other", "", 0));
	OK(tdr_store_num_keys(outer, &count));
	assert_int_equal(count, 2); /* the store's below */
	tdr_store_set_timeout(outer, 55);
	assert_int_equal(tdr_store_timeout(table), 55);
	assert_int_equal(tdr_store_get(outer, "absent", TDR_TIMEOUT_DEFAULT, NULL), TDR_ETIMEDOUT);
	assert_string_equal(tdr_last_error(), "Wait timeout: key 'a/b/absent' did not appear within 55 ms");
	assert_int_equal(tdr_store_prefix(NULL, table, &inner), TDR_EINVAL);
	assert_int_equal(tdr_store_prefix("a", NULL, &inner), TDR_EINVAL);
	tdr_store_unref(table); /* the prefixes hold it */
	OK(tdr_store_add(outer, "n", 1, NULL));
	tdr_store_unref(outer);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, leaks_setup, leaks_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(making_checks_the_vtable),
	    TEST(a_short_vtable_is_taken),
	    TEST(what_is_missing_is_named),
	    TEST(each_failure_has_its_own_text),
	    TEST(a_child_does_not_destroy),
	    TEST(a_dead_appender_is_named),
	    TEST(prefixes_nest),
	};

	return cmocka_run_group_tests_name("custom_store", tests, NULL, NULL);
}
