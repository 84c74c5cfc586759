/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running out of memory at every single allocation: each failure is TDR_ENOMEM, leaves outputs alone and leaks nothing (which
 * the sanitizers see). The linker hands every allocation to the wrappers below.
 */
#include "base/error.h"
#include "base/macros.h"
#include "function/call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/args.h>

#include <cmocka.h>

/* Allocations that still succeed; negative: all do. */
static long allocations_left = -1;

static bool out_of_memory(void)
{
	if (allocations_left < 0)
		return false;
	if (allocations_left == 0)
		return true;
	allocations_left--;
	return false;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
char *__wrap_strndup(const char *text, size_t size);

void *__wrap_malloc(size_t size)
{
	return out_of_memory() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return out_of_memory() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
	return out_of_memory() ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text)
{
	return out_of_memory() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t size)
{
	return out_of_memory() ? NULL : __real_strndup(text, size);
}

/*
 * Runs `attempt` with one more allocation allowed each time until it succeeds. It is to return what the tested function
 * did, and to clean up after a success.
 */
static void starve(tdr_status (*attempt)(void *context), void *context)
{
	tdr_status status = TDR_ENOMEM;
	long allowed;

	for (allowed = 0; status == TDR_ENOMEM && allowed < 1000; allowed++) {
		allocations_left = allowed;
		status = attempt(context);
		allocations_left = -1;
		if (status == TDR_ENOMEM)
			assert_string_not_equal(tdr_last_error(), "");
	}
	assert_int_equal(status, TDR_OK);
	assert_true(allowed > 1);
}

static tdr_status try_parse(void *context)
{
	struct schema *schema = NULL;
	tdr_status status = schema_parse(context, &schema);

	assert_true(status == TDR_OK || !schema);
	schema_free(schema);
	return status;
}

static void test_parse(void **state)
{
	char text[] = "a::f.g(Dict(str, (int, float)[])? x, int[3] y=1, float[] z=[1, 2], (int, str) t=[1, 'text'], "
		      "bytes b=b'x', complex c=1j) -> (int[], str?)";

	starve(try_parse, text);
}

struct binding {
	struct schema *schema;
	tdr_value *args, *kwargs;
};

static tdr_status try_bind(void *context)
{
	const struct binding *binding = context;
	tdr_value *bound[4] = {NULL};
	tdr_status status = schema_bind(binding->schema, binding->args, binding->kwargs, bound);

	for (size_t i = 0; i < binding->schema->nparameters; i++) {
		assert_true(status == TDR_OK || !bound[i]);
		tdr_value_unref(bound[i]);
	}
	return status;
}

static void test_bind(void **state)
{
	struct binding binding = {.args = TDR_ARGS(TDR_KWARGS("a", TDR_ARGS(1, 2)), 3)};

	binding.kwargs = TDR_KWARGS("z", 1, "t", TDR_ARGS(1, 2.5, 3));
	assert_int_equal(
	    schema_parse("f(Dict(str, (float, int)) x, float[3] y, complex z, float[] t)", &binding.schema), TDR_OK);
	starve(try_bind, &binding);
	schema_free(binding.schema);
	tdr_value_unref(binding.args);
	tdr_value_unref(binding.kwargs);
}

static tdr_status nothing(tdr_call *call, void *context)
{
	return TDR_OK;
}

static void count_end(void *context)
{
	(*(int *)context)++;
}

static tdr_status try_register(void *context)
{
	struct registry *registry = registry_new();
	int ended = 0;
	tdr_status status;

	if (!registry)
		return error_nomem(); /* it leaves that to its caller */
	status = registry_add(registry, "a::f(int x=1) -> int", nothing, &ended, count_end, 0);
	assert_int_equal(ended, 0);
	registry_free(registry);
	assert_int_equal(ended, status == TDR_OK);
	return status;
}

static void test_register(void **state)
{
	starve(try_register, NULL);
}

struct served {
	tdr_call call;
	tdr_status status;
};

static void keep_status(tdr_call *call, tdr_status status, tdr_value *value, const char *text, const char *traceback)
{
	container_of(call, struct served, call)->status = status;
	tdr_value_unref(value);
}

static void keep_call(tdr_call *call)
{
}

static tdr_status try_call(void *context)
{
	static const struct call_ops ops = {.finished = keep_status, .free = keep_call};
	struct registry *registry = context;
	struct function *functions[2];
	size_t count = registry_find(registry, "a::f", 4, functions, COUNT_OF(functions));
	tdr_value *args = tdr_value_of_float(0.5);
	tdr_value *list = tdr_tuple(1, &args);
	struct served served = {.status = TDR_EINTERNAL};
	tdr_status status = call_bind(&served.call, &ops, functions, count, list, NULL);

	tdr_value_unref(list);
	if (status != TDR_OK)
		return status;
	call_run(&served.call);
	tdr_call_unref(&served.call);
	return served.status;
}

static tdr_status returns_a_list(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_tuple(2, (tdr_value *const[]){tdr_int(1000000), tdr_float(0.5)}));
}

static void test_call(void **state)
{
	struct registry *registry = registry_new();

	assert_int_equal(registry_add(registry, "a::f.i(int x)", nothing, NULL, NULL, 0), TDR_OK);
	assert_int_equal(registry_add(registry, "a::f.c(complex x) -> float[]", returns_a_list, NULL, NULL, 0), TDR_OK);
	starve(try_call, registry);
	registry_free(registry);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parse),
	    cmocka_unit_test(test_bind),
	    cmocka_unit_test(test_register),
	    cmocka_unit_test(test_call),
	};

	return cmocka_run_group_tests_name("function/memory", tests, NULL, NULL);
}
