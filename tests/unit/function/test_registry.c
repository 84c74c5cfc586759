/* SPDX-License-Identifier: Apache-2.0 */
/* Functions by name: finding, withdrawing, suggesting, and all of it from several threads at once. */
#include "base/edit_distance.h"
#include "base/macros.h"
#include "function/registry.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static tdr_status nothing(tdr_call *call, void *context)
{
	return TDR_OK;
}

static void count_end(void *context)
{
	atomic_fetch_add((_Atomic int *)context, 1);
}

static void add(struct registry *registry, const char *schema)
{
	if (registry_add(registry, schema, nothing, NULL, NULL, 0) != TDR_OK)
		fail_msg("%s: %s", schema, tdr_last_error());
}

/* Finds, and gives the full names of what was found, with spaces between them. */
static const char *find(struct registry *registry, const char *name, size_t room)
{
	static char text[512];
	struct function *functions[REGISTRY_MAX_OVERLOADS];
	size_t count = registry_find(registry, name, strlen(name), functions, room);
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i > 0 ? " " : "",
		                         functions[i]->schema->name);
		function_unref(functions[i]);
	}
	return text;
}

static void test_find(void **state)
{
	struct registry *registry = registry_new();

	add(registry, "ps::push(Tensor grad) -> int");
	add(registry, "aten::add.Tensor(Tensor self, Tensor other) -> Tensor");
	add(registry, "aten::add.Scalar(Tensor self, Scalar other) -> Tensor");
	add(registry, "aten::add(Any self) -> Any");
	add(registry, "aten::mm.out(Tensor self) -> Tensor");
	assert_string_equal(find(registry, "ps::push", 4), "ps::push");
	assert_string_equal(find(registry, "aten::add", 4), "aten::add.Tensor aten::add.Scalar aten::add");
	assert_string_equal(find(registry, "aten::add", 2), "aten::add.Tensor aten::add.Scalar");
	assert_string_equal(find(registry, "aten::add", 0), "");
	assert_string_equal(find(registry, "aten::add.Scalar", 4), "aten::add.Scalar");
	assert_string_equal(find(registry, "aten::add.Scalar", 0), "");
	assert_string_equal(find(registry, "aten::mm", 4), "aten::mm.out");
	assert_string_equal(find(registry, "aten::add.", 4), "");
	assert_string_equal(find(registry, "aten::add.tensor", 4), "");
	assert_string_equal(find(registry, "Aten::add", 4), "");
	assert_string_equal(find(registry, "aten::ad", 4), "");
	assert_string_equal(find(registry, "", 4), "");
	assert_null(registry_free(registry));
	assert_null(registry_free(NULL));
}

static void test_find_needs_no_nul(void **state)
{
	struct registry *registry = registry_new();
	struct function *function = NULL;

	add(registry, "ps::push()");
	assert_int_equal(registry_find(registry, "ps::pushed", 8, &function, 1), 1);
	function_unref(function);
	assert_int_equal(registry_find(registry, "ps::pushed", 9, &function, 1), 0);
	assert_int_equal(registry_find(registry, "ps::push\0x", 10, &function, 1), 0);
	registry_free(registry);
}

static void test_many(void **state)
{
	struct registry *registry = registry_new();
	char text[64];

	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "many::f%d()", i);
		add(registry, text);
	}
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "many::f%d", i);
		assert_string_equal(find(registry, text, 1), text);
		if (i % 2)
			assert_int_equal(registry_remove(registry, text), TDR_OK);
	}
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "many::f%d", i);
		assert_string_equal(find(registry, text, 1), i % 2 ? "" : text);
	}
	registry_free(registry);
}

static void test_overloads_are_limited(void **state)
{
	struct registry *registry = registry_new();
	struct function *functions[REGISTRY_MAX_OVERLOADS];
	char text[64];

	for (int i = 0; i < REGISTRY_MAX_OVERLOADS; i++) {
		snprintf(text, sizeof(text), "a::f.o%d()", i);
		add(registry, text);
	}
	assert_int_equal(registry_add(registry, "a::f.more()", nothing, NULL, NULL, 0), TDR_ELIMIT);
	assert_string_equal(tdr_last_error(),
	                    "function 'a::f.more' would be one more than the 32 overloads that a name may have");
	assert_int_equal(registry_find(registry, "a::f", 4, functions, COUNT_OF(functions)), REGISTRY_MAX_OVERLOADS);
	for (size_t i = 0; i < COUNT_OF(functions); i++)
		function_unref(functions[i]);
	registry_free(registry);
}

static void test_remove(void **state)
{
	struct registry *registry = registry_new();

	add(registry, "a::f.x()");
	add(registry, "a::f.y()");
	assert_int_equal(registry_remove(registry, "a::f"), TDR_ENOFUNCTION);
	assert_string_equal(tdr_last_error(), "no function 'a::f' is registered; one is withdrawn by its full name");
	assert_int_equal(registry_remove(registry, "a::f.z"), TDR_ENOFUNCTION);
	assert_int_equal(registry_remove(registry, "a::g"), TDR_ENOFUNCTION);
	assert_int_equal(registry_remove(registry, NULL), TDR_EINVAL);
	assert_int_equal(registry_remove(registry, "a::f.x"), TDR_OK);
	assert_int_equal(registry_remove(registry, "a::f.x"), TDR_ENOFUNCTION);
	assert_string_equal(find(registry, "a::f", 4), "a::f.y");
	add(registry, "a::f.x()");
	assert_string_equal(find(registry, "a::f", 4), "a::f.y a::f.x");
	assert_int_equal(registry_remove(registry, "a::f.x"), TDR_OK);
	assert_int_equal(registry_remove(registry, "a::f.y"), TDR_OK);
	assert_string_equal(find(registry, "a::f", 4), "");
	registry_free(registry);
}

/* The destructor runs once, after the last reference; never for what was not registered. */
static void test_destructor(void **state)
{
	struct registry *registry = registry_new();
	struct function *function = NULL;
	_Atomic int ended = 0;

	assert_int_equal(registry_add(registry, "a::f(", nothing, &ended, count_end, 0), TDR_EINVAL);
	assert_int_equal(registry_add(registry, NULL, nothing, &ended, count_end, 0), TDR_EINVAL);
	assert_int_equal(registry_add(registry, "a::f()", NULL, &ended, count_end, 0), TDR_EINVAL);
	assert_string_equal(tdr_last_error(), "'a::f()': the function to register is NULL");
	assert_int_equal(registry_add(registry, "a::f()", nothing, &ended, count_end, 1u << 20), TDR_EINVAL);
	assert_int_equal(registry_add(registry, "a::f()", nothing, &ended, count_end, TDR_FUNCTION_INLINE), TDR_OK);
	assert_int_equal(registry_add(registry, "a::f(int x)", nothing, &ended, count_end, 0), TDR_EEXISTS);
	assert_string_equal(tdr_last_error(), "function 'a::f' is registered already; withdraw it first, or name an "
	                                      "overload, as in 'a::f.other'");
	assert_int_equal(ended, 0);
	assert_int_equal(registry_find(registry, "a::f", 4, &function, 1), 1);
	assert_int_equal(function->flags, TDR_FUNCTION_INLINE);
	assert_ptr_equal(function->context, &ended);
	assert_int_equal(registry_remove(registry, "a::f"), TDR_OK);
	assert_int_equal(ended, 0);
	assert_null(function_unref(function));
	assert_int_equal(ended, 1);
	assert_int_equal(registry_add(registry, "a::f()", nothing, &ended, count_end, 0), TDR_OK);
	registry_free(registry);
	assert_int_equal(ended, 2);
	assert_null(function_unref(NULL));
}

static void test_suggest(void **state)
{
	static const struct {
		const char *name, *suggestion; /* NULL: none */
	} rows[] = {
	    {"ps::psuh", "ps::push"},
	    {"ps::pull", NULL},
	    {"ps::Push", "ps::push"},
	    {"push", "ps::push"},
	    {"server::push", "ps::push"},
	    {"aten::ad", "aten::add"},
	    {"aten::dad", "aten::add"},
	    {"aten::add.tensor", "aten::add.Tensor"},
	    {"aten::add.Tensr", "aten::add.Tensor"},
	    {"aten::bmm", "aten::bmm"},
	    {"aten::bmn", "aten::bmm"},
	    {"zzzzzzzzz", NULL},
	    {"ps::", NULL},
	    {"::", NULL},
	    {"", NULL},
	};
	struct registry *registry = registry_new();
	char text[64], name[200];

	add(registry, "ps::push()");
	add(registry, "aten::add.Tensor()");
	add(registry, "aten::add.Scalar()");
	add(registry, "aten::mm()");
	add(registry, "aten::bmm()");
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		strcpy(text, "?");
		assert_int_equal(registry_suggest(registry, rows[i].name, strlen(rows[i].name), text, sizeof(text)),
		                 rows[i].suggestion != NULL);
		assert_string_equal(text, rows[i].suggestion ? rows[i].suggestion : "?");
	}
	assert_true(registry_suggest(registry, "ps::pusk", 8, text, 4));
	assert_string_equal(text, "ps:");
	assert_false(registry_suggest(registry, "ps::pusk", 8, text, 0));
	memset(name, 'x', sizeof(name));
	assert_false(registry_suggest(registry, name, sizeof(name), text, sizeof(text)));
	registry_free(registry);
}

static void test_edit_distance(void **state)
{
	static const struct {
		const char *a, *b;
		size_t distance;
	} rows[] = {
	    {"", "", 0},      {"abc", "abc", 0}, {"", "abc", 3},           {"abc", "", 3},      {"abc", "abd", 1},
	    {"abc", "ab", 1}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"push", "psuh", 1}, {"ca", "abc", 3},
	};
	char text[EDIT_DISTANCE_MAX + 1];

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		assert_int_equal(edit_distance(rows[i].a, strlen(rows[i].a), rows[i].b, strlen(rows[i].b)),
		                 rows[i].distance);
		assert_int_equal(edit_distance(rows[i].b, strlen(rows[i].b), rows[i].a, strlen(rows[i].a)),
		                 rows[i].distance);
	}
	memset(text, 'x', sizeof(text));
	assert_int_equal(edit_distance(text, EDIT_DISTANCE_MAX, "y", 1), EDIT_DISTANCE_MAX);
	assert_true(edit_distance(text, EDIT_DISTANCE_MAX + 1, "y", 1) == SIZE_MAX);
}

/* ---- threads ---- */

#define ROUNDS 2000
#define WRITERS 3
#define READERS 3

struct shared {
	struct registry *registry;
	_Atomic int started, ended;
	_Atomic int number;
	const char *_Atomic problem; /* of a thread that went wrong */
};

static void *report(struct shared *shared, const char *problem)
{
	atomic_store(&shared->problem, problem);
	return NULL;
}

static void *add_and_remove(void *context)
{
	struct shared *shared = context;
	int number = atomic_fetch_add(&shared->number, 1);
	char schema[80], name[64];

	for (int i = 0; i < ROUNDS; i++) {
		snprintf(name, sizeof(name), "t::f%d.w%d", i % 7, number);
		snprintf(schema, sizeof(schema), "%s(int x)", name);
		if (registry_add(shared->registry, schema, nothing, &shared->ended, count_end, 0) != TDR_OK)
			return report(shared, "add");
		atomic_fetch_add(&shared->started, 1);
		if (registry_remove(shared->registry, name) != TDR_OK)
			return report(shared, "remove");
	}
	return NULL;
}

static void *find_and_suggest(void *context)
{
	struct shared *shared = context;
	struct function *functions[WRITERS + 1];
	char name[64], text[64];

	for (int i = 0; i < ROUNDS; i++) {
		size_t count;

		snprintf(name, sizeof(name), "t::f%d", i % 7);
		count = registry_find(shared->registry, name, strlen(name), functions, COUNT_OF(functions));
		if (count > WRITERS)
			return report(shared, "more than there can be");
		for (size_t j = 0; j < count; j++) {
			if (strncmp(functions[j]->schema->name, name, strlen(name)) != 0)
				return report(shared, "another's function");
			function_unref(functions[j]);
		}
		if (registry_find(shared->registry, "t::always", 9, functions, 1) != 1)
			return report(shared, "not what is always there");
		function_unref(functions[0]);
		if (!registry_suggest(shared->registry, "t::alwasy", 9, text, sizeof(text)))
			return report(shared, "no suggestion");
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct shared shared = {.registry = registry_new()};
	pthread_t threads[WRITERS + READERS];

	add(shared.registry, "t::always()");
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, i < WRITERS ? add_and_remove : find_and_suggest, &shared), 0);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		pthread_join(threads[i], NULL);
	if (shared.problem)
		fail_msg("a thread: %s", shared.problem);
	registry_free(shared.registry);
	assert_int_equal(shared.started, WRITERS * ROUNDS);
	assert_int_equal(shared.ended, shared.started);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_find),    cmocka_unit_test(test_find_needs_no_nul),
	    cmocka_unit_test(test_many),    cmocka_unit_test(test_overloads_are_limited),
	    cmocka_unit_test(test_remove),  cmocka_unit_test(test_destructor),
	    cmocka_unit_test(test_suggest), cmocka_unit_test(test_edit_distance),
	    cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests_name("function/registry", tests, NULL, NULL);
}
