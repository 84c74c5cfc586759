/* SPDX-License-Identifier: Apache-2.0 */
/* A call's life: every way to return from it, and that it finishes exactly once whatever races for it. */
#include "base/clock.h"
#include "base/error.h"
#include "base/macros.h"
#include "function/call.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <support/processes.h>
#include <tendril/args.h>

#include <cmocka.h>

#define TEXT_SIZE 1024

/* What became of a call; outlives it. */
struct outcome {
	_Atomic int finished, freed;
	int pending_set, pending_cleared, entered, left;
	bool finished_inside; /* the last `finished` came between `enter` and `leave` */
	tdr_future *pending;
	tdr_status status;
	char text[TEXT_SIZE]; /* the error, or the value as text */
	char traceback[64];
};

struct served {
	tdr_call call;
	struct outcome *outcome;
};

static struct outcome *outcome_of(tdr_call *call)
{
	return container_of(call, struct served, call)->outcome;
}

static void on_finished(tdr_call *call, tdr_status status, tdr_value *value, const char *text, const char *traceback)
{
	struct outcome *outcome = outcome_of(call);

	atomic_fetch_add(&outcome->finished, 1);
	outcome->status = status;
	outcome->finished_inside = outcome->entered > outcome->left;
	if (status == TDR_OK) {
		tdr_value_print(value, outcome->text, sizeof(outcome->text));
		tdr_value_unref(value);
	} else {
		assert_null(value);
		snprintf(outcome->text, sizeof(outcome->text), "%s", text);
	}
	snprintf(outcome->traceback, sizeof(outcome->traceback), "%s", traceback ? traceback : "");
	/* Who serves a call may keep it while it finishes, also one whose last reference was dropped. */
	tdr_call_ref(call);
	tdr_call_unref(call);
}

static void on_pending(tdr_call *call, tdr_future *future)
{
	struct outcome *outcome = outcome_of(call);

	if (future)
		outcome->pending_set++;
	else
		outcome->pending_cleared++;
	outcome->pending = future;
}

static void on_enter(tdr_call *call)
{
	outcome_of(call)->entered++;
}

static void on_leave(tdr_call *call)
{
	outcome_of(call)->left++;
}

static void on_free(tdr_call *call)
{
	struct served *served = container_of(call, struct served, call);

	atomic_fetch_add(&served->outcome->freed, 1);
	free(served);
}

static const struct call_ops full_ops = {
    .finished = on_finished, .pending = on_pending, .enter = on_enter, .leave = on_leave, .free = on_free};
static const struct call_ops least_ops = {.finished = on_finished, .free = on_free};

/* A call of a function registered nowhere else. `args` is given away. */
static tdr_call *make_call(const struct call_ops *ops, const char *schema, tdr_function run, void *context,
                           tdr_value *args, struct outcome *outcome)
{
	struct registry *registry = registry_new();
	struct served *served = calloc(1, sizeof(*served));
	struct function *function = NULL;
	size_t size = strcspn(schema, "(");

	*outcome = (struct outcome){0};
	served->outcome = outcome;
	assert_int_equal(registry_add(registry, schema, run, context, NULL, 0), TDR_OK);
	assert_int_equal(registry_find(registry, schema, size, &function, 1), 1);
	registry_free(registry);
	if (call_bind(&served->call, ops, &function, 1, args, NULL) != TDR_OK)
		fail_msg("%s", tdr_last_error());
	served->call.worker_name = "trainer";
	served->call.worker_id = 3;
	tdr_value_unref(args);
	return &served->call;
}

/* Runs a function of no arguments to its end, and checks what became of it. */
static void check_run(const char *schema, tdr_function run, tdr_status status, const char *text)
{
	struct outcome outcome;
	tdr_call *call = make_call(&full_ops, schema, run, NULL, NULL, &outcome);

	call_run(call);
	tdr_call_unref(call);
	assert_int_equal(outcome.finished, 1);
	assert_int_equal(outcome.freed, 1);
	assert_string_equal(outcome.text, text);
	assert_int_equal(outcome.status, status);
	assert_int_equal(outcome.entered, 0);
}

/* ---- functions ---- */

static tdr_status returns_nothing(tdr_call *call, void *context)
{
	return TDR_OK;
}

static tdr_status returns_none(tdr_call *call, void *context)
{
	return tdr_return_none(call);
}

static tdr_status returns_bool(tdr_call *call, void *context)
{
	return tdr_return_bool(call, true);
}

static tdr_status returns_int(tdr_call *call, void *context)
{
	return tdr_return_int(call, 7);
}

static tdr_status returns_float(tdr_call *call, void *context)
{
	return tdr_return_float(call, 0.5);
}

static tdr_status returns_string(tdr_call *call, void *context)
{
	return tdr_return_string(call, "x");
}

static tdr_status returns_tensor(tdr_call *call, void *context)
{
	tdr_tensor *tensor = NULL;
	tdr_status status = tdr_tensor_zeros(TDR_F32, 0, NULL, &tensor);

	if (status != TDR_OK)
		return status;
	status = tdr_return_tensor(call, tensor);
	tdr_tensor_unref(tensor);
	return status;
}

static tdr_status returns_mixed_list(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_list(TDR_ITEMS(1, "x")));
}

static tdr_status returns_what_cannot_be(tdr_call *call, void *context)
{
	return tdr_return_string(call, "\xff");
}

static tdr_status fails(tdr_call *call, void *context)
{
	return tdr_fail(call, TDR_EINVAL, "no layer %d", 4);
}

static tdr_status fails_with_ok(tdr_call *call, void *context)
{
	return tdr_fail(call, TDR_OK, "it was not meant so");
}

static tdr_status fails_below(tdr_call *call, void *context)
{
	int64_t number;
	tdr_value *value = tdr_string("x");
	tdr_status status = tdr_value_get_int(value, &number);

	tdr_value_unref(value);
	return status;
}

static tdr_status fails_silently(tdr_call *call, void *context)
{
	return TDR_ELIMIT;
}

static tdr_status fails_oddly(tdr_call *call, void *context)
{
	return (tdr_status)1000;
}

static tdr_status returns_twice(tdr_call *call, void *context)
{
	assert_int_equal(tdr_return_int(call, 1), TDR_OK);
	assert_int_equal(tdr_return_int(call, 2), TDR_ESTATE);
	assert_string_equal(tdr_last_error(), "f() has returned from this call already");
	assert_int_equal(tdr_return(call, tdr_string("given away")), TDR_ESTATE);
	assert_int_equal(tdr_return_future(call, NULL), TDR_ESTATE);
	assert_false(call_abort(call, TDR_ETIMEDOUT, "too late"));
	return tdr_fail(call, TDR_EINVAL, "too late");
}

static tdr_status fails_twice(tdr_call *call, void *context)
{
	assert_int_equal(tdr_fail(call, TDR_EINVAL, "first"), TDR_EINVAL);
	assert_string_equal(tdr_last_error(), "first");
	assert_int_equal(tdr_fail(call, TDR_EINVAL, "second"), TDR_ESTATE);
	return TDR_ELIMIT;
}

static tdr_status returns_no_future(tdr_call *call, void *context)
{
	return tdr_return_future(call, NULL);
}

static void test_returns(void **state)
{
	check_run("f() -> ()", returns_nothing, TDR_OK, "None");
	check_run("f()", returns_nothing, TDR_OK, "None");
	check_run("f() -> int?", returns_none, TDR_OK, "None");
	check_run("f() -> bool", returns_bool, TDR_OK, "True");
	check_run("f() -> int", returns_int, TDR_OK, "7");
	check_run("f() -> float", returns_int, TDR_OK, "7.0");
	check_run("f() -> float", returns_float, TDR_OK, "0.5");
	check_run("f() -> str", returns_string, TDR_OK, "'x'");
	check_run("f() -> Any[]", returns_mixed_list, TDR_OK, "[1, 'x']");
	check_run("f() -> (int, str)", returns_mixed_list, TDR_OK, "(1, 'x')");
	check_run("f() -> int", returns_twice, TDR_OK, "1");
}

static void test_returns_what_the_schema_does_not_say(void **state)
{
	check_run("ps::push() -> int", returns_string, TDR_ETYPE, "ps::push() returned str where its schema says int");
	check_run("f() -> int", returns_nothing, TDR_ETYPE, "f() returned None where its schema says int");
	check_run("f() -> ()", returns_int, TDR_ETYPE, "f() returned int where its schema says None");
	check_run("f() -> int[]", returns_mixed_list, TDR_ETYPE,
	          "f() returned list where its schema says int[]: [1] must be int, not str");
	check_run("f() -> int", returns_tensor, TDR_ETYPE, "f() returned Tensor where its schema says int");
	check_run("f()", returns_what_cannot_be, TDR_EINVAL, "a value could not be made: invalid argument");
}

static void test_failures(void **state)
{
	check_run("f()", fails, TDR_EINVAL, "no layer 4");
	check_run("f()", fails_twice, TDR_EINVAL, "first");
	check_run("f()", fails_with_ok, TDR_EREMOTE, "it was not meant so");
	check_run("f()", fails_oddly, TDR_EREMOTE, "remote function failed");
	check_run("f()", returns_no_future, TDR_ENOMEM, "f() returned no future: memory ran out when it was made");
}

/* An error status without a text of its own is not given an older one's. */
static void test_failure_texts(void **state)
{
	struct outcome outcome;
	tdr_call *call = make_call(&least_ops, "f()", fails_below, NULL, NULL, &outcome);

	call_run(call);
	tdr_call_unref(call);
	assert_int_equal(outcome.status, TDR_ETYPE);
	assert_string_equal(outcome.text, tdr_last_error());
	assert_string_not_equal(outcome.text, "");
	check_run("f()", fails_silently, TDR_ELIMIT, tdr_status_text(TDR_ELIMIT));
}

/* ---- arguments ---- */

static tdr_status reads_arguments(tdr_call *call, void *context)
{
	assert_int_equal(tdr_arg_count(call), 7);
	assert_int_equal(tdr_arg_int(call, 0), -5);
	assert_true(tdr_arg_float(call, 1) == 2.0);
	assert_true(tdr_arg_bool(call, 2));
	assert_string_equal(tdr_arg_string(call, 3), "text");
	assert_int_equal(tdr_tensor_numel(tdr_arg_tensor(call, 4)), 6);
	assert_true(tdr_arg_is_none(call, 5));
	assert_int_equal(tdr_value_count(tdr_arg(call, 6)), 2);
	/* None, and what is of another kind, reads as nothing. */
	assert_int_equal(tdr_arg_int(call, 5), 0);
	assert_true(tdr_arg_float(call, 5) == 0);
	assert_false(tdr_arg_bool(call, 5));
	assert_null(tdr_arg_string(call, 5));
	assert_null(tdr_arg_tensor(call, 5));
	assert_int_equal(tdr_arg_int(call, 3), 0);
	assert_true(tdr_arg_float(call, 0) == -5.0);
	assert_true(tdr_arg_float(call, 3) == 0);
	assert_false(tdr_arg_bool(call, 0));
	assert_null(tdr_arg_tensor(call, 0));
	assert_string_equal(tdr_last_error(), "");
	assert_string_equal(tdr_call_worker_name(call), "trainer");
	assert_int_equal(tdr_call_worker_id(call), 3);
	assert_string_equal(tdr_call_function_name(call), "ps::read.all");
	return TDR_OK;
}

static void test_arguments(void **state)
{
	struct outcome outcome;
	tdr_tensor *tensor = NULL;
	tdr_call *call;

	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(2, 3), &tensor), TDR_OK);
	call = make_call(&least_ops, "ps::read.all(int a, float b, bool c, str d, Tensor e, int? f=None, int[2] g=0)",
	                 reads_arguments, NULL, TDR_ARGS(-5, 2, 1, "text", tensor), &outcome);
	tdr_tensor_unref(tensor);
	call_run(call);
	tdr_call_unref(call);
	assert_int_equal(outcome.status, TDR_OK);
}

static void test_time_left(void **state)
{
	struct outcome outcome;
	tdr_call *call = make_call(&least_ops, "f()", returns_nothing, NULL, NULL, &outcome);

	assert_true(tdr_call_time_left_ms(call) == INT64_MAX);
	assert_false(tdr_call_cancelled(call));
	call->deadline_ms = clock_ms() + 1000000;
	assert_true(tdr_call_time_left_ms(call) > 0 && tdr_call_time_left_ms(call) <= 1000000);
	assert_false(tdr_call_cancelled(call));
	atomic_store(&call->cancelled, true);
	assert_true(tdr_call_cancelled(call));
	atomic_store(&call->cancelled, false);
	call->deadline_ms = clock_ms() - 5;
	assert_int_equal(tdr_call_time_left_ms(call), 0);
	assert_true(tdr_call_cancelled(call));
	call_run(call);
	tdr_call_unref(call);
}

/* ---- binding ---- */

static tdr_status returns_context(tdr_call *call, void *context)
{
	return tdr_return_string(call, context);
}

static void count_end(void *context)
{
	(*(int *)context)++;
}

static struct registry *overloads(int *ended)
{
	static char an_int[] = "int", a_list[] = "list";
	struct registry *registry = registry_new();

	assert_int_equal(registry_add(registry, "a::f.i(int x) -> str", returns_context, an_int, NULL, 0), TDR_OK);
	assert_int_equal(registry_add(registry, "a::f.l(int[] x, int y=0) -> str", returns_context, a_list, NULL, 0),
	                 TDR_OK);
	assert_int_equal(registry_add(registry, "a::f.n() -> str", returns_nothing, ended, count_end, 0), TDR_OK);
	return registry;
}

/* Calls a::f. `args` and `kwargs` are given away. */
static tdr_status call_overloaded(tdr_value *args, tdr_value *kwargs, struct outcome *outcome)
{
	struct function *functions[REGISTRY_MAX_OVERLOADS];
	int ended = 0;
	struct registry *registry = overloads(&ended);
	struct served *served = calloc(1, sizeof(*served));
	size_t count = registry_find(registry, "a::f", 4, functions, COUNT_OF(functions));
	tdr_status status;

	*outcome = (struct outcome){0};
	served->outcome = outcome;
	assert_int_equal(count, 3);
	registry_free(registry);
	assert_int_equal(ended, 0);
	status = call_bind(&served->call, &least_ops, functions, count, args, kwargs);
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
	if (status == TDR_OK) {
		call_run(&served->call);
		tdr_call_unref(&served->call);
	} else {
		snprintf(outcome->text, sizeof(outcome->text), "%s", tdr_last_error());
		free(served);
	}
	assert_int_equal(ended, 1);
	return status;
}

static void test_overloads(void **state)
{
	struct outcome outcome;

	assert_int_equal(call_overloaded(TDR_ARGS(1), NULL, &outcome), TDR_OK);
	assert_string_equal(outcome.text, "'int'");
	assert_int_equal(call_overloaded(TDR_ARGS(tdr_list(0, NULL)), TDR_KWARGS("y", 1), &outcome), TDR_OK);
	assert_string_equal(outcome.text, "'list'");
	assert_int_equal(call_overloaded(NULL, NULL, &outcome), TDR_OK);
	assert_string_equal(outcome.text, "a::f.n() returned None where its schema says str");
	assert_int_equal(call_overloaded(TDR_ARGS("x"), NULL, &outcome), TDR_ETYPE);
	assert_string_equal(outcome.text, "no overload of a::f() takes these arguments: "
	                                  "a::f.i(): argument 'x' (position 1) must be int, not str; "
	                                  "a::f.l(): argument 'x' (position 1) must be int[], not str; "
	                                  "a::f.n() takes 0 positional arguments but 1 was given");
	assert_int_equal(call_overloaded(TDR_ARGS(tdr_string("\xff")), NULL, &outcome), TDR_EINVAL);
	assert_string_equal(outcome.text, "a::f.i(): the arguments could not be made: invalid argument");
}

static void test_one_function_says_its_own_error(void **state)
{
	struct registry *registry = registry_new();
	struct function *function = NULL;
	tdr_value *args = TDR_ARGS("x");
	tdr_call call = {0};
	int ended = 0;

	assert_int_equal(registry_add(registry, "ps::push(int n)", returns_nothing, &ended, count_end, 0), TDR_OK);
	assert_int_equal(registry_find(registry, "ps::push", 8, &function, 1), 1);
	registry_free(registry);
	assert_int_equal(call_bind(&call, &least_ops, &function, 1, args, NULL), TDR_ETYPE);
	assert_string_equal(tdr_last_error(), "ps::push(): argument 'n' (position 1) must be int, not str");
	assert_int_equal(ended, 1);
	tdr_value_unref(args);
}

/* ---- later ---- */

static tdr_status defers(tdr_call *call, void *context)
{
	*(tdr_call **)context = tdr_call_ref(call);
	tdr_call_defer(call);
	return TDR_OK;
}

static tdr_status defers_and_fails(tdr_call *call, void *context)
{
	tdr_call_defer(call);
	return error_set(TDR_EINVAL, "it cannot be deferred");
}

static tdr_status defers_and_forgets(tdr_call *call, void *context)
{
	tdr_call_defer(call);
	return TDR_OK;
}

static void test_deferred(void **state)
{
	struct outcome outcome;
	tdr_call *kept = NULL;
	tdr_call *call = make_call(&least_ops, "f() -> int", defers, &kept, NULL, &outcome);

	call_run(call);
	tdr_call_unref(call);
	assert_int_equal(outcome.finished, 0);
	assert_int_equal(outcome.freed, 0);
	assert_int_equal(tdr_return_int(kept, 9), TDR_OK);
	assert_string_equal(outcome.text, "9");
	assert_int_equal(tdr_return_int(kept, 10), TDR_ESTATE);
	assert_null(tdr_call_unref(kept));
	assert_int_equal(outcome.finished, 1);
	assert_int_equal(outcome.freed, 1);
	assert_null(tdr_call_unref(NULL));
	assert_null(tdr_call_ref(NULL));
}

static void test_dropped(void **state)
{
	struct outcome outcome;
	tdr_call *kept = NULL;
	tdr_call *call = make_call(&least_ops, "ps::push() -> int", defers, &kept, NULL, &outcome);

	call_run(call);
	tdr_call_unref(call);
	assert_int_equal(outcome.finished, 0);
	tdr_call_unref(kept);
	assert_int_equal(outcome.finished, 1);
	assert_int_equal(outcome.freed, 1);
	assert_int_equal(outcome.status, TDR_EREMOTE);
	assert_string_equal(outcome.text, "function ps::push dropped the call without returning");
	check_run("g()", defers_and_forgets, TDR_EREMOTE, "function g dropped the call without returning");
	check_run("g()", defers_and_fails, TDR_EINVAL, "it cannot be deferred");
}

static void test_aborted(void **state)
{
	struct outcome outcome;
	tdr_call *kept = NULL;
	tdr_call *call = make_call(&least_ops, "f() -> int", defers, &kept, NULL, &outcome);

	call_run(call);
	assert_true(call_abort(call, TDR_ETIMEDOUT, "its time was over"));
	assert_false(call_abort(call, TDR_ECANCELED, "again"));
	assert_int_equal(tdr_return_int(kept, 9), TDR_ESTATE);
	assert_int_equal(outcome.status, TDR_ETIMEDOUT);
	assert_string_equal(outcome.text, "its time was over");
	tdr_call_unref(call);
	tdr_call_unref(kept);
	assert_int_equal(outcome.finished, 1);
	assert_int_equal(outcome.freed, 1);
}

/* ---- futures; the engine has no threads: what it does, it does in `settle` ---- */

static tdr_status returns_future(tdr_call *call, void *context)
{
	return tdr_return_future(call, context);
}

static tdr_engine *make_engine(void)
{
	tdr_engine_options options;
	tdr_engine *engine = NULL;

	tdr_engine_options_init(&options);
	options.threads = 0;
	assert_int_equal(tdr_engine_new(&options, &engine), TDR_OK);
	return engine;
}

static void settle(tdr_engine *engine)
{
	for (int i = 0; i < 3; i++)
		assert_int_equal(tdr_engine_progress(engine, 0), TDR_OK);
}

static void check_future(const char *schema, void (*complete)(tdr_future *future), tdr_status status, const char *text)
{
	tdr_engine *engine = make_engine();
	tdr_future *future = tdr_future_new(engine);
	struct outcome outcome;
	tdr_call *call = make_call(&full_ops, schema, returns_future, future, NULL, &outcome);

	call_run(call);
	tdr_call_unref(call);
	settle(engine);
	assert_int_equal(outcome.finished, 0);
	assert_ptr_equal(outcome.pending, future);
	complete(future);
	assert_int_equal(outcome.finished, 0);
	tdr_future_unref(future);
	settle(engine);
	assert_int_equal(outcome.finished, 1);
	assert_int_equal(outcome.freed, 1);
	assert_int_equal(outcome.status, status);
	assert_string_equal(outcome.text, text);
	assert_int_equal(outcome.pending_set, 1);
	assert_int_equal(outcome.pending_cleared, 1);
	assert_int_equal(outcome.entered, 1);
	assert_int_equal(outcome.left, 1);
	assert_true(outcome.finished_inside);
	tdr_engine_unref(engine);
}

static void complete_with_int(tdr_future *future)
{
	assert_int_equal(tdr_future_set(future, tdr_int(7)), TDR_OK);
}

static void complete_with_error(tdr_future *future)
{
	assert_int_equal(tdr_future_fail(future, TDR_EWORKERGONE, "worker %s is gone", "ps"), TDR_OK);
}

static void test_future(void **state)
{
	check_future("f() -> int", complete_with_int, TDR_OK, "7");
	check_future("f() -> float", complete_with_int, TDR_OK, "7.0");
	check_future("f() -> str", complete_with_int, TDR_ETYPE, "f() returned int where its schema says str");
	check_future("f() -> int", complete_with_error, TDR_EWORKERGONE, "worker ps is gone");
	check_future("f() -> int", tdr_future_cancel, TDR_ECANCELED, "the future was cancelled");
}

/* One that is done when it is returned; and the operations that may be left out. */
static void test_completed_future(void **state)
{
	tdr_engine *engine = make_engine();
	tdr_future *future = tdr_future_new(engine);
	struct outcome outcome;
	tdr_call *call = make_call(&least_ops, "f() -> int", returns_future, future, NULL, &outcome);

	complete_with_int(future);
	call_run(call);
	assert_int_equal(outcome.finished, 0);
	assert_int_equal(tdr_return_int(call, 8), TDR_ESTATE);
	assert_int_equal(tdr_return_future(call, future), TDR_ESTATE);
	tdr_call_unref(call);
	tdr_future_unref(future);
	settle(engine);
	assert_int_equal(outcome.finished, 1);
	assert_int_equal(outcome.freed, 1);
	assert_string_equal(outcome.text, "7");
	tdr_engine_unref(engine);
}

static void test_cancelled_call_cancels_its_future(void **state)
{
	tdr_engine *engine = make_engine();
	tdr_future *future = tdr_future_new(engine);
	struct outcome outcome;
	tdr_call *call = make_call(&full_ops, "f() -> int", returns_future, future, NULL, &outcome);

	atomic_store(&call->cancelled, true);
	call_run(call);
	tdr_call_unref(call);
	assert_int_equal(tdr_future_status(future), TDR_ECANCELED);
	settle(engine);
	assert_int_equal(outcome.status, TDR_ECANCELED);
	assert_int_equal(outcome.freed, 1);
	tdr_future_unref(future);
	tdr_engine_unref(engine);
}

/* The abort is the result; the call lives until its future has completed, which changes nothing any more. */
static void test_aborted_while_pending(void **state)
{
	tdr_engine *engine = make_engine();
	tdr_future *future = tdr_future_new(engine);
	struct outcome outcome;
	tdr_call *call = make_call(&full_ops, "f() -> int", returns_future, future, NULL, &outcome);

	call_run(call);
	assert_true(call_abort(call, TDR_ETIMEDOUT, "its time was over"));
	tdr_future_cancel(outcome.pending);
	tdr_call_unref(call);
	assert_int_equal(outcome.freed, 0);
	settle(engine);
	assert_int_equal(outcome.finished, 1);
	assert_int_equal(outcome.freed, 1);
	assert_int_equal(outcome.status, TDR_ETIMEDOUT);
	tdr_future_unref(future);
	tdr_engine_unref(engine);
}

/* ---- races ---- */

#define RACERS 4
#define ROUNDS 500

struct race {
	pthread_barrier_t start;
	tdr_call *call;
	_Atomic int won;
};

static void *race_returns(void *context)
{
	struct race *race = context;

	pthread_barrier_wait(&race->start);
	if (tdr_return_int(race->call, 1) == TDR_OK)
		atomic_fetch_add(&race->won, 1);
	tdr_call_unref(race->call);
	return NULL;
}

static void *race_fails(void *context)
{
	struct race *race = context;

	pthread_barrier_wait(&race->start);
	if (tdr_fail(race->call, TDR_EINVAL, "no") == TDR_EINVAL)
		atomic_fetch_add(&race->won, 1);
	tdr_call_unref(race->call);
	return NULL;
}

static void *race_aborts(void *context)
{
	struct race *race = context;

	pthread_barrier_wait(&race->start);
	if (call_abort(race->call, TDR_ECANCELED, "no"))
		atomic_fetch_add(&race->won, 1);
	tdr_call_unref(race->call);
	return NULL;
}

static void *race_drops(void *context)
{
	struct race *race = context;

	pthread_barrier_wait(&race->start);
	tdr_call_unref(race->call);
	return NULL;
}

static void test_races(void **state)
{
	static void *(*const racers[RACERS])(void *) = {race_returns, race_fails, race_aborts, race_drops};

	for (int round = 0; round < ROUNDS; round++) {
		struct race race = {.won = 0};
		pthread_t threads[RACERS];
		struct outcome outcome;
		size_t first = round % 2 ? 0 : RACERS - 1; /* every other round all drop it, and none returns */

		race.call = make_call(&least_ops, "f() -> int", returns_nothing, NULL, NULL, &outcome);
		tdr_call_defer(race.call);
		pthread_barrier_init(&race.start, NULL, RACERS);
		for (size_t i = 0; i < RACERS; i++)
			tdr_call_ref(race.call);
		tdr_call_unref(race.call);
		for (size_t i = 0; i < RACERS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, racers[MAX_OF(i, first)], &race), 0);
		for (size_t i = 0; i < RACERS; i++)
			pthread_join(threads[i], NULL);
		pthread_barrier_destroy(&race.start);
		assert_int_equal(race.won, first == 0);
		assert_int_equal(outcome.finished, 1);
		assert_int_equal(outcome.freed, 1);
	}
}

/* ---- fork ---- */

static int use_parents_call(void *context)
{
	tdr_call *call = context;

	if (tdr_call_ref(call) != call || tdr_return_int(call, 1) != TDR_EFORKED)
		return 1;
	if (tdr_fail(call, TDR_EINVAL, "no") != TDR_EFORKED || tdr_return_future(call, NULL) != TDR_EFORKED)
		return 2;
	for (int i = 0; i < 3; i++)
		tdr_call_unref(call);
	return outcome_of(call)->finished == 0 && outcome_of(call)->freed == 0 ? 0 : 3;
}

static void test_fork(void **state)
{
	struct outcome outcome;
	tdr_call *call = make_call(&least_ops, "f()", returns_nothing, NULL, NULL, &outcome);
	struct process child = {.name = "child", .run = use_parents_call, .context = call};

	processes_start(&child, 1);
	processes_finish(&child, 1, 30000);
	call_run(call);
	tdr_call_unref(call);
	assert_int_equal(outcome.freed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fork), /* before there are threads */
	    cmocka_unit_test(test_returns),
	    cmocka_unit_test(test_returns_what_the_schema_does_not_say),
	    cmocka_unit_test(test_failures),
	    cmocka_unit_test(test_failure_texts),
	    cmocka_unit_test(test_arguments),
	    cmocka_unit_test(test_time_left),
	    cmocka_unit_test(test_overloads),
	    cmocka_unit_test(test_one_function_says_its_own_error),
	    cmocka_unit_test(test_deferred),
	    cmocka_unit_test(test_dropped),
	    cmocka_unit_test(test_aborted),
	    cmocka_unit_test(test_future),
	    cmocka_unit_test(test_completed_future),
	    cmocka_unit_test(test_cancelled_call_cancels_its_future),
	    cmocka_unit_test(test_aborted_while_pending),
	    cmocka_unit_test(test_races),
	};

	return cmocka_run_group_tests_name("function/call", tests, NULL, NULL);
}
