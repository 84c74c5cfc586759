/* SPDX-License-Identifier: Apache-2.0 */
/* What does not wait: futures of calls, deferred calls, and asynchronous functions. */
#include "group.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- functions ---- */

enum {
	MANY = 1000
};

/* Calls that were deferred, until the test returns from them. */
static struct {
	pthread_mutex_t lock;
	tdr_call *calls[MANY];
	size_t count;
} shelf = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct gate gate = GATE_INIT;

static size_t shelf_count(void)
{
	size_t count;

	pthread_mutex_lock(&shelf.lock);
	count = shelf.count;
	pthread_mutex_unlock(&shelf.lock);
	return count;
}

static bool shelf_has(void *context)
{
	return shelf_count() >= *(const size_t *)context;
}

static tdr_call *shelf_take(void)
{
	tdr_call *call = NULL;

	pthread_mutex_lock(&shelf.lock);
	if (shelf.count > 0)
		call = shelf.calls[--shelf.count];
	pthread_mutex_unlock(&shelf.lock);
	return call;
}

static tdr_status defer(tdr_call *call, void *context)
{
	tdr_call_defer(call);
	pthread_mutex_lock(&shelf.lock);
	if (shelf.count < MANY)
		shelf.calls[shelf.count++] = tdr_call_ref(call);
	pthread_mutex_unlock(&shelf.lock);
	return TDR_OK;
}

static tdr_status drop(tdr_call *call, void *context)
{
	tdr_call_defer(call);
	return TDR_OK;
}

static tdr_status pass_gate(tdr_call *call, void *context)
{
	gate_pass(&gate);
	return tdr_return_int(call, 1);
}

static tdr_status add_one(tdr_future *future, void *context, tdr_value **ret_value)
{
	int64_t number;
	tdr_status status = tdr_future_status(future);

	if (status != TDR_OK)
		return tdr_fail_with(status, "inside: %s", tdr_future_error(future));
	status = tdr_value_get_int(tdr_future_value(future), &number);
	if (status == TDR_OK)
		*ret_value = tdr_int(number + 1);
	return status;
}

/* Asynchronous: calls a function of a worker, and returns its result and one. */
static tdr_status add_one_to(tdr_call *call, void *context)
{
	tdr_agent *agent = context;
	tdr_future *inner, *outer;
	tdr_status status;

	inner = tdr_rpc_async(agent, tdr_arg_string(call, 0), tdr_arg_string(call, 1), TDR_ARGS(tdr_arg_int(call, 2)),
	                      NULL);
	outer = tdr_future_then(inner, add_one, NULL);
	status = tdr_return_future(call, outer);
	tdr_future_unref(inner);
	tdr_future_unref(outer);
	return status;
}

/* Waits for a call that it makes itself: not to be run inline. */
static tdr_status call_self_inline(tdr_call *call, void *context)
{
	tdr_agent *agent = context;
	tdr_future *future = tdr_rpc_async(agent, tdr_agent_worker(agent).name, "test::echo", TDR_ARGS(1), NULL);
	tdr_status status = tdr_future_wait(future, PATIENCE_MS, NULL);

	tdr_future_unref(future);
	return status;
}

static void prepare(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::defer(int n=0) -> int", defer, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_register(agent, "test::drop() -> int", drop, NULL, 0));
	expect_ok(tdr_register(agent, "test::gate() -> int", pass_gate, NULL, 0));
	expect_ok(
	    tdr_register(agent, "test::add_one_to(str worker, str function, int n) -> int", add_one_to, agent, 0));
	expect_ok(tdr_register(agent, "test::wait_inline()", call_self_inline, agent, TDR_FUNCTION_INLINE));
}

static void configure(size_t rank, tdr_agent_options *options)
{
	options->threads = 2;
	options->max_threads = 4;
}

static const struct group_config config = {.prepare = prepare, .configure = configure};

static void start(struct group *group, size_t count)
{
	gate_close(&gate);
	shelf.count = 0;
	group_start(group, count, &config);
}

/* ---- futures ---- */

static void count_callback(tdr_future *future, void *context)
{
	expect_true(tdr_future_done(future));
	atomic_fetch_add((_Atomic unsigned *)context, 1);
}

static bool is_three(void *context)
{
	return atomic_load((_Atomic unsigned *)context) == 3;
}

static void callbacks_run_before_and_after_completion(void **state)
{
	_Atomic unsigned ran = 0;
	struct group group;
	tdr_future *future;

	start(&group, 2);
	future = tdr_rpc_async(group.agents[0], "worker1", "test::gate", NULL, NULL);
	expect_ok(tdr_future_on_done(future, count_callback, &ran));
	expect_ok(tdr_future_on_done(future, count_callback, &ran));
	expect_true(!tdr_future_done(future) && tdr_future_status(future) == TDR_EAGAIN && !tdr_future_value(future));
	expect_status(tdr_future_wait(future, 20, NULL), TDR_ETIMEDOUT);
	expect_true(atomic_load(&ran) == 0);
	gate_open(&gate);
	expect_ok(tdr_future_wait(future, PATIENCE_MS, NULL));
	expect_ok(tdr_future_on_done(future, count_callback, &ran));
	eventually(is_three, &ran);
	expect_true(tdr_value_kind(tdr_future_value(future)) == TDR_INT && strcmp(tdr_future_error(future), "") == 0);
	tdr_future_unref(future);
	group_end(&group);
}

static void add_another_callback(tdr_future *future, void *context)
{
	expect_ok(tdr_future_on_done(future, count_callback, context));
	expect_ok(tdr_future_on_done(future, count_callback, context));
	expect_ok(tdr_future_on_done(future, count_callback, context));
}

static void callbacks_may_add_callbacks(void **state)
{
	_Atomic unsigned ran = 0;
	struct group group;
	tdr_future *future;

	start(&group, 1);
	future = tdr_rpc_async(group.agents[0], "worker0", "test::echo", TDR_ARGS(1), NULL);
	expect_ok(tdr_future_on_done(future, add_another_callback, &ran));
	eventually(is_three, &ran);
	tdr_future_unref(future);
	group_end(&group);
}

static void continuations_take_values_and_errors(void **state)
{
	tdr_value *value = NULL;
	int64_t number = 0;
	struct group group;
	tdr_future *first, *second, *third;

	start(&group, 2);
	first = tdr_rpc_async(group.agents[0], "worker1", "test::echo", TDR_ARGS(40), NULL);
	second = tdr_future_then(first, add_one, NULL);
	third = tdr_future_then(second, add_one, NULL);
	expect_ok(tdr_future_wait(third, PATIENCE_MS, &value));
	expect_ok(tdr_value_get_int(value, &number));
	expect_true(number == 42);
	tdr_value_unref(value);
	tdr_future_unref(first);
	tdr_future_unref(second);
	tdr_future_unref(third);
	first = tdr_rpc_async(group.agents[0], "worker1", "no::function", NULL, NULL);
	second = tdr_future_then(first, add_one, NULL);
	expect_future(second, TDR_ENOFUNCTION, "inside: no::function on worker 'worker1'");
	tdr_future_unref(first);
	group_end(&group);
}

static void collections_complete_when_all_have(void **state)
{
	enum {
		COUNT = 50
	};
	tdr_future *futures[COUNT], *all;
	tdr_value *list = NULL;
	struct group group;

	start(&group, 2);
	for (int i = 0; i < COUNT; i++)
		futures[i] =
		    tdr_rpc_async(group.agents[0], worker_name((size_t)i % 2), "test::echo", TDR_ARGS(i), NULL);
	all = tdr_future_collect(tdr_agent_engine(group.agents[0]), COUNT, futures);
	expect_ok(tdr_future_wait(all, PATIENCE_MS, &list));
	expect_ok(tdr_future_wait_all(COUNT, futures, PATIENCE_MS));
	expect_true(tdr_value_count(list) == COUNT);
	for (int i = 0; i < COUNT; i++) {
		int64_t number = -1;

		expect_ok(tdr_value_get_int(tdr_value_item(list, (size_t)i), &number));
		expect_true(number == i);
		tdr_future_unref(futures[i]);
	}
	tdr_value_unref(list);
	tdr_future_unref(all);
	all = tdr_future_collect(tdr_agent_engine(group.agents[0]), 0, NULL);
	expect_future(all, TDR_OK, NULL);
	futures[0] = NULL; /* as from a call for which memory ran out */
	all = tdr_future_collect(tdr_agent_engine(group.agents[0]), 1, futures);
	expect_future(all, TDR_ENOMEM, NULL);
	group_end(&group);
}

static void the_first_failure_in_order_is_told(void **state)
{
	tdr_future *futures[3], *all;
	struct group group;

	start(&group, 2);
	futures[0] = tdr_rpc_async(group.agents[0], "worker1", "test::gate", NULL, NULL);
	futures[1] = tdr_rpc_async(group.agents[0], "worker1", "no::function", NULL, NULL);
	futures[2] = tdr_rpc_async(group.agents[0], "nobody", "test::echo", NULL, NULL);
	all = tdr_future_collect(tdr_agent_engine(group.agents[0]), 3, futures);
	expect_status(tdr_future_wait_all(3, futures, 20), TDR_ETIMEDOUT);
	expect_error("future 0 of 3");
	expect_true(!tdr_future_done(all));
	gate_open(&gate);
	expect_status(tdr_future_wait_all(3, futures, PATIENCE_MS), TDR_ENOFUNCTION);
	expect_future(all, TDR_ENOFUNCTION, "no::function");
	for (int i = 0; i < 3; i++)
		tdr_future_unref(futures[i]);
	group_end(&group);
}

static void wait_inside_callback(tdr_future *future, void *context)
{
	tdr_future *other = tdr_future_new(tdr_agent_engine(context));

	expect_status(tdr_future_wait(other, PATIENCE_MS, NULL), TDR_ESTATE);
	expect_ok(tdr_future_wait(future, PATIENCE_MS, NULL)); /* it is done: nothing to wait for */
	tdr_future_unref(other);
	gate_open(&gate);
}

static void waiting_where_one_must_not_is_refused(void **state)
{
	struct group group;
	tdr_future *future;

	start(&group, 2);
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::wait_inline", NULL, NULL, NULL), TDR_ESTATE);
	expect_error("must not wait");
	expect_status(tdr_rpc_sync(group.agents[0], "worker0", "test::wait_inline", NULL, NULL, NULL), TDR_ESTATE);
	future = tdr_rpc_async(group.agents[0], "worker1", "test::echo", TDR_ARGS(1), NULL);
	expect_ok(tdr_future_on_done(future, wait_inside_callback, group.agents[0]));
	gate_pass(&gate);
	tdr_future_unref(future);
	group_end(&group);
}

static void futures_may_be_dropped_at_any_time(void **state)
{
	struct group group;

	start(&group, 2);
	for (int i = 0; i < 200; i++)
		tdr_future_unref(
		    tdr_rpc_async(group.agents[0], worker_name((size_t)i % 2), "test::echo", TDR_ARGS(i), NULL));
	group_end(&group);
}

static void futures_of_ones_own_complete_once(void **state)
{
	struct group group;
	tdr_future *future;

	start(&group, 1);
	future = tdr_future_new(tdr_agent_engine(group.agents[0]));
	expect_ok(tdr_future_set(future, tdr_int(1)));
	expect_status(tdr_future_set(future, tdr_int(2)), TDR_ESTATE);
	expect_status(tdr_future_fail(future, TDR_EINVAL, "late"), TDR_ESTATE);
	tdr_future_cancel(future);
	expect_future(future, TDR_OK, NULL);
	future = tdr_future_new(tdr_agent_engine(group.agents[0]));
	expect_ok(tdr_future_set(future, tdr_string("\xff")));
	expect_future(future, TDR_EINVAL, "could not be made");
	future = tdr_future_new(tdr_agent_engine(group.agents[0]));
	tdr_future_cancel(future);
	expect_future(future, TDR_ECANCELED, NULL);
	group_end(&group);
}

/* ---- deferred calls ---- */

static void return_all(void *context, size_t index)
{
	tdr_call *call;

	while ((call = shelf_take())) {
		int64_t number = tdr_arg_int(call, 0);

		if (number % 3 == 0)
			expect_status(tdr_fail(call, TDR_EINVAL, "%d is of no use", (int)number), TDR_EINVAL);
		else
			expect_ok(tdr_return_int(call, number * 2));
		expect_status(tdr_return_int(call, 0), TDR_ESTATE);
		tdr_call_unref(call);
	}
}

static void deferred_calls_return_from_other_threads(void **state)
{
	static tdr_future *futures[MANY];
	size_t all = MANY;
	struct group group;

	start(&group, 2);
	for (int i = 0; i < MANY; i++)
		futures[i] =
		    tdr_rpc_async(group.agents[0], worker_name((size_t)i % 2), "test::defer", TDR_ARGS(i), NULL);
	eventually(shelf_has, &all);
	in_parallel(4, return_all, NULL);
	for (int i = 0; i < MANY; i++) {
		tdr_value *value = NULL;
		int64_t number = 0;

		expect_status(tdr_future_wait(futures[i], PATIENCE_MS, &value), i % 3 ? TDR_OK : TDR_EINVAL);
		if (i % 3)
			expect_ok(tdr_value_get_int(value, &number));
		expect_true(number == (i % 3 ? i * 2 : 0));
		tdr_value_unref(value);
		tdr_future_unref(futures[i]);
	}
	group_end(&group);
}

static void a_deferred_call_that_is_dropped_fails(void **state)
{
	struct group group;

	start(&group, 2);
	for (size_t i = 0; i < 2; i++) {
		expect_status(tdr_rpc_sync(group.agents[0], worker_name(i), "test::drop", NULL, NULL, NULL),
		              TDR_EREMOTE);
		expect_error("dropped the call without returning");
	}
	group_end(&group);
}

/* ---- asynchronous functions ---- */

static void asynchronous_functions_return_what_their_future_brings(void **state)
{
	struct group group;

	start(&group, 3);
	for (size_t i = 0; i < 3; i++)
		for (size_t j = 0; j < 3; j++)
			expect_true(call_int(group.agents[0], worker_name(i), "test::add_one_to",
			                     TDR_ARGS(worker_name(j), "test::echo", 41)) == 42);
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::add_one_to", TDR_ARGS("worker2", "no::such", 1),
	                           NULL, NULL),
	              TDR_ENOFUNCTION);
	expect_error("inside: no::such on worker 'worker2'");
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::add_one_to", TDR_ARGS("worker9", "no::such", 1),
	                           NULL, NULL),
	              TDR_ENOWORKER);
	group_end(&group);
}

/* With two threads for functions at each worker. */
static void a_thousand_asynchronous_calls_are_in_flight(void **state)
{
	static tdr_future *futures[MANY];
	size_t all = MANY;
	struct group group;

	start(&group, 3);
	for (int i = 0; i < MANY; i++)
		futures[i] = tdr_rpc_async(group.agents[0], "worker1", "test::add_one_to",
		                           TDR_ARGS("worker2", "test::defer", i), NULL);
	eventually(shelf_has, &all);
	call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(1));
	in_parallel(2, return_all, NULL);
	for (int i = 0; i < MANY; i++) {
		tdr_value *value = NULL;
		int64_t number = 0;

		expect_status(tdr_future_wait(futures[i], PATIENCE_MS, &value), i % 3 ? TDR_OK : TDR_EINVAL);
		if (i % 3)
			expect_ok(tdr_value_get_int(value, &number));
		expect_true(number == (i % 3 ? i * 2 + 1 : 0));
		tdr_value_unref(value);
		tdr_future_unref(futures[i]);
	}
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(callbacks_run_before_and_after_completion),
	    TEST(callbacks_may_add_callbacks),
	    TEST(continuations_take_values_and_errors),
	    TEST(collections_complete_when_all_have),
	    TEST(the_first_failure_in_order_is_told),
	    TEST(waiting_where_one_must_not_is_refused),
	    TEST(futures_may_be_dropped_at_any_time),
	    TEST(futures_of_ones_own_complete_once),
	    TEST(deferred_calls_return_from_other_threads),
	    TEST(a_deferred_call_that_is_dropped_fails),
	    TEST(asynchronous_functions_return_what_their_future_brings),
	    TEST(a_thousand_asynchronous_calls_are_in_flight),
	};

	return cmocka_run_group_tests_name("async", tests, NULL, NULL);
}
