/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines and cancellation: who gives up, who is told, and what is not run any more. */
#include "group.h"

#include <stdatomic.h>
#include <string.h>

/* Each side of a call rounds up to the next millisecond. */
#define SLACK_MS 10

/* ---- functions ---- */

static struct gate gate = GATE_INIT;
static _Atomic unsigned ran;       /* calls of test::count */
static _Atomic unsigned cancelled; /* calls of test::until_cancelled that have seen it */
static _Atomic unsigned forgotten; /* those that have not */

static tdr_status pass_gate(tdr_call *call, void *context)
{
	gate_pass(&gate);
	return TDR_OK;
}

static tdr_status count(tdr_call *call, void *context)
{
	atomic_fetch_add(&ran, 1);
	return TDR_OK;
}

static tdr_status time_left(tdr_call *call, void *context)
{
	return tdr_return_int(call, tdr_call_time_left_ms(call));
}

/* Asks another worker for the time left, with a timeout in milliseconds. */
static tdr_status ask_time_left(tdr_call *call, void *context)
{
	tdr_agent *agent = context;
	tdr_rpc_options options;
	tdr_value *left = NULL;
	tdr_status status;

	tdr_rpc_options_init(&options);
	options.timeout_ms = tdr_arg_int(call, 1);
	options.flags = tdr_arg_bool(call, 2) ? TDR_RPC_LOCAL_TIMEOUT : 0;
	status = tdr_rpc_sync_with(agent, tdr_arg_string(call, 0), "test::time_left", NULL, NULL, &options, &left);
	return status == TDR_OK ? tdr_return(call, left) : status;
}

static tdr_status until_cancelled(tdr_call *call, void *context)
{
	int64_t deadline_ms = now_ms() + PATIENCE_MS;

	gate_pass(&gate);
	while (!tdr_call_cancelled(call) && now_ms() < deadline_ms)
		pause_ms(1);
	atomic_fetch_add(tdr_call_cancelled(call) ? &cancelled : &forgotten, 1);
	return TDR_OK;
}

/* Asynchronous: calls test::until_cancelled of a worker. */
static tdr_status pass_on(tdr_call *call, void *context)
{
	tdr_future *future = tdr_rpc_async(context, tdr_arg_string(call, 0), "test::until_cancelled", NULL, NULL);
	tdr_status status = tdr_return_future(call, future);

	tdr_future_unref(future);
	return status;
}

static void prepare(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::gate()", pass_gate, NULL, 0));
	expect_ok(tdr_register(agent, "test::count()", count, NULL, 0));
	expect_ok(tdr_register(agent, "test::time_left() -> int", time_left, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_register(agent, "test::ask(str worker, int timeout, bool local=False) -> int", ask_time_left,
	                       agent, 0));
	expect_ok(tdr_register(agent, "test::until_cancelled()", until_cancelled, NULL, 0));
	expect_ok(tdr_register(agent, "test::pass_on(str worker)", pass_on, agent, 0));
}

static void configure(size_t rank, tdr_agent_options *options)
{
	options->threads = 2;
	options->max_threads = 16;
}

static const struct group_config config = {.prepare = prepare, .configure = configure};

static void start(struct group *group, size_t size)
{
	gate_close(&gate);
	atomic_store(&ran, 0);
	atomic_store(&cancelled, 0);
	atomic_store(&forgotten, 0);
	group_start(group, size, &config);
}

static tdr_future *call_for(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                            int64_t timeout_ms, unsigned flags)
{
	tdr_rpc_options options;

	tdr_rpc_options_init(&options);
	options.timeout_ms = timeout_ms;
	options.flags = flags;
	return tdr_rpc_async_with(agent, worker, function, args, NULL, &options);
}

/* The int that a call brings; -1 if it brings none. Drops the future. */
static int64_t int_of(tdr_future *future)
{
	tdr_value *value = NULL;
	int64_t number = -1;

	if (expect_ok(tdr_future_wait(future, PATIENCE_MS, &value)) == TDR_OK)
		expect_ok(tdr_value_get_int(value, &number));
	tdr_value_unref(value);
	tdr_future_unref(future);
	return number;
}

static bool all_have_ended(void *context)
{
	const struct group *group = context;
	bool ended = true;

	for (size_t i = 0; i < group->count; i++) {
		tdr_value *info = NULL;
		int64_t active = 1;

		expect_ok(tdr_debug_info(group->agents[i], &info));
		expect_ok(tdr_value_get_int(tdr_dict_get(info, "agent.server_active_calls"), &active));
		ended = ended && active == 0;
		tdr_value_unref(info);
	}
	return ended;
}

static int64_t metric(tdr_agent *agent, const char *key)
{
	tdr_value *info = NULL;
	int64_t number = -1;

	expect_ok(tdr_debug_info(agent, &info));
	expect_ok(tdr_value_get_int(tdr_dict_get(info, key), &number));
	tdr_value_unref(info);
	return number;
}

/* ---- deadlines ---- */

static void a_call_past_its_deadline_fails_at_the_caller(void **state)
{
	struct group group;

	start(&group, 2);
	for (size_t i = 0; i < 2; i++) {
		tdr_future *future = call_for(group.agents[0], worker_name(i), "test::gate", NULL, 50, 0);

		expect_future(future, TDR_ETIMEDOUT, "RPC ran for more than set timeout (50 ms)");
	}
	tdr_agent_set_rpc_timeout(group.agents[0], 60);
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::gate", NULL, NULL, NULL), TDR_ETIMEDOUT);
	expect_error("RPC ran for more than set timeout (60 ms): test::gate on worker 'worker1'");
	gate_open(&gate);
	expect_true(metric(group.agents[0], "agent.calls_timed_out") == 3);
	group_end(&group);
}

static void the_callee_sees_the_deadline(void **state)
{
	struct group group;
	int64_t left;

	start(&group, 2);
	for (size_t i = 0; i < 2; i++) {
		tdr_agent *agent = group.agents[0];
		const char *worker = worker_name(i);

		left = int_of(call_for(agent, worker, "test::time_left", NULL, 20000, 0));
		expect_true(left > 0 && left <= 20000 + SLACK_MS);
		left = int_of(call_for(agent, worker, "test::time_left", NULL, TDR_TIMEOUT_NEVER, 0));
		expect_true(left == INT64_MAX);
		left = int_of(call_for(agent, worker, "test::time_left", NULL, 20000, TDR_RPC_LOCAL_TIMEOUT));
		expect_true(left == INT64_MAX);
		left = int_of(call_for(agent, worker, "test::time_left", NULL, TDR_TIMEOUT_DEFAULT, 0));
		expect_true(left > 0 && left <= PATIENCE_MS + SLACK_MS);
	}
	group_end(&group);
}

static void calls_inside_a_call_inherit_its_deadline(void **state)
{
	tdr_agent *agent;
	struct group group;
	int64_t left;

	start(&group, 3);
	agent = group.agents[0];
	left = int_of(call_for(agent, "worker1", "test::ask", TDR_ARGS("worker2", TDR_TIMEOUT_NEVER), 20000, 0));
	expect_true(left > 0 && left <= 20000 + SLACK_MS);
	left = int_of(call_for(agent, "worker1", "test::ask", TDR_ARGS("worker2", 1000000), 20000, 0));
	expect_true(left > 0 && left <= 20000 + SLACK_MS);
	left = int_of(call_for(agent, "worker1", "test::ask", TDR_ARGS("worker2", 10000), 20000, 0));
	expect_true(left > 0 && left <= 10000 + SLACK_MS);
	left = int_of(call_for(agent, "worker1", "test::ask", TDR_ARGS("worker2", 10000), TDR_TIMEOUT_NEVER, 0));
	expect_true(left > 0 && left <= 10000 + SLACK_MS);
	left = int_of(call_for(agent, "worker1", "test::ask", TDR_ARGS("worker2", TDR_TIMEOUT_NEVER), 20000,
	                       TDR_RPC_LOCAL_TIMEOUT));
	expect_true(left == INT64_MAX);
	left = int_of(
	    call_for(agent, "worker1", "test::ask", TDR_ARGS("worker2", TDR_TIMEOUT_NEVER, tdr_bool(true)), 20000, 0));
	expect_true(left == INT64_MAX);
	group_end(&group);
}

/* Fills both threads for functions of worker1, at the gate. */
static void fill_threads(struct group *group, tdr_future *futures[2])
{
	for (int i = 0; i < 2; i++)
		futures[i] = tdr_rpc_async(group->agents[0], "worker1", "test::gate", NULL, NULL);
	gate_await(&gate, 2);
}

static void empty_threads(tdr_future *futures[2])
{
	gate_open(&gate);
	for (int i = 0; i < 2; i++)
		expect_future(futures[i], TDR_OK, NULL);
}

static void a_request_whose_time_is_over_is_not_run(void **state)
{
	tdr_future *busy[2], *late;
	struct group group;

	start(&group, 2);
	fill_threads(&group, busy);
	late = call_for(group.agents[0], "worker1", "test::count", NULL, 50, 0);
	expect_future(late, TDR_ETIMEDOUT, "RPC ran for more than");
	pause_ms(50);
	empty_threads(busy);
	call_ok(group.agents[0], "worker1", "test::count", NULL);
	eventually(all_have_ended, &group);
	expect_true(atomic_load(&ran) == 1);
	expect_true(metric(group.agents[1], "agent.calls_expired_before_run") == 1);
	group_end(&group);
}

/* Only the caller gave up: the callee runs it all the same. */
static void a_local_timeout_leaves_the_callee_alone(void **state)
{
	tdr_future *busy[2], *late;
	struct group group;

	start(&group, 2);
	fill_threads(&group, busy);
	late = call_for(group.agents[0], "worker1", "test::count", NULL, 50, TDR_RPC_LOCAL_TIMEOUT);
	expect_future(late, TDR_ETIMEDOUT, "RPC ran for more than");
	empty_threads(busy);
	eventually(all_have_ended, &group);
	expect_true(atomic_load(&ran) == 1);
	group_end(&group);
}

static void a_new_default_timeout_is_for_later_calls(void **state)
{
	tdr_future *before, *after;
	struct group group;

	start(&group, 2);
	expect_true(tdr_agent_rpc_timeout(group.agents[0]) == PATIENCE_MS);
	before = tdr_rpc_async(group.agents[0], "worker1", "test::gate", NULL, NULL);
	tdr_agent_set_rpc_timeout(group.agents[0], 50);
	expect_true(tdr_agent_rpc_timeout(group.agents[0]) == 50);
	after = tdr_rpc_async(group.agents[0], "worker1", "test::gate", NULL, NULL);
	expect_future(after, TDR_ETIMEDOUT, "50 ms");
	expect_true(!tdr_future_done(before));
	tdr_agent_set_rpc_timeout(group.agents[0], TDR_TIMEOUT_NEVER);
	expect_true(int_of(tdr_rpc_async(group.agents[0], "worker1", "test::time_left", NULL, NULL)) == INT64_MAX);
	gate_open(&gate);
	expect_future(before, TDR_OK, NULL);
	group_end(&group);
}

static void a_negative_timeout_is_refused(void **state)
{
	struct group group;

	start(&group, 2);
	expect_future(call_for(group.agents[0], "worker1", "test::count", NULL, -2, 0), TDR_EINVAL,
	              "a timeout of -2 ms");
	expect_future(call_for(group.agents[0], "worker1", "test::count", NULL, INT64_MAX, 0), TDR_OK, NULL);
	group_end(&group);
}

/* ---- cancelling ---- */

static bool two_have_seen(void *context)
{
	return atomic_load(&cancelled) == 2;
}

static void cancelling_reaches_the_callee(void **state)
{
	struct group group;

	start(&group, 2);
	gate_open(&gate);
	for (size_t i = 0; i < 2; i++) {
		tdr_future *future =
		    tdr_rpc_async(group.agents[0], worker_name(i), "test::until_cancelled", NULL, NULL);

		gate_await(&gate, (unsigned)i + 1);
		tdr_future_cancel(future);
		tdr_future_cancel(future);
		expect_true(tdr_future_done(future));
		expect_future(future, TDR_ECANCELED, "test::until_cancelled on worker");
	}
	eventually(two_have_seen, NULL);
	expect_true(metric(group.agents[0], "agent.calls_cancelled") == 2);
	group_end(&group);
}

/* Also of an agent's own calls, which no connection keeps in order. */
static void cancelling_does_not_overtake_the_call(void **state)
{
	struct group group;

	start(&group, 2);
	gate_open(&gate);
	for (size_t i = 0; i < 400; i++) {
		tdr_future *future =
		    tdr_rpc_async(group.agents[0], worker_name(i % 2), "test::until_cancelled", NULL, NULL);

		tdr_future_cancel(future);
		expect_future(future, TDR_ECANCELED, NULL);
	}
	eventually(all_have_ended, &group);
	expect_true(atomic_load(&forgotten) == 0);
	group_end(&group);
}

/* A callee learns from its deadline, without a message. */
static void a_timeout_shows_as_cancelled_at_the_callee(void **state)
{
	struct group group;

	start(&group, 2);
	gate_open(&gate);
	for (size_t i = 0; i < 2; i++) {
		tdr_future *future = call_for(group.agents[0], worker_name(i), "test::until_cancelled", NULL, 50, 0);
		tdr_status status = tdr_future_wait(future, PATIENCE_MS, NULL);

		expect_true(status == TDR_ETIMEDOUT || status == TDR_OK); /* it returns in that very moment */
		tdr_future_unref(future);
	}
	eventually(two_have_seen, NULL);
	group_end(&group);
}

static void a_cancelled_request_that_is_queued_is_not_run(void **state)
{
	tdr_future *busy[2], *queued;
	struct group group;

	start(&group, 2);
	fill_threads(&group, busy);
	queued = tdr_rpc_async(group.agents[0], "worker1", "test::count", NULL, NULL);
	call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(1)); /* on the same lane: the other has arrived */
	tdr_future_cancel(queued);
	call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(1));
	expect_future(queued, TDR_ECANCELED, NULL);
	empty_threads(busy);
	eventually(all_have_ended, &group);
	expect_true(atomic_load(&ran) == 0);
	group_end(&group);
}

/* worker0 cancels its call of worker1's asynchronous function, which waits for worker2. */
static void cancelling_goes_through_an_asynchronous_function(void **state)
{
	tdr_future *future;
	struct group group;

	start(&group, 3);
	gate_open(&gate);
	for (unsigned i = 0; i < 2; i++) {
		future = tdr_rpc_async(group.agents[0], worker_name(i), "test::pass_on", TDR_ARGS("worker2"), NULL);
		gate_await(&gate, i + 1);
		tdr_future_cancel(future);
		expect_future(future, TDR_ECANCELED, NULL);
	}
	eventually(two_have_seen, NULL);
	group_end(&group);
}

static void cancelling_a_finished_call_does_nothing(void **state)
{
	tdr_future *future;
	struct group group;

	start(&group, 2);
	future = tdr_rpc_async(group.agents[0], "worker1", "test::count", NULL, NULL);
	expect_ok(tdr_future_wait(future, PATIENCE_MS, NULL));
	tdr_future_cancel(future);
	expect_future(future, TDR_OK, NULL);
	tdr_future_cancel(NULL);
	group_end(&group);
}

static void cancel_and_answer_race(void *context, size_t index)
{
	struct group *group = context;

	for (int i = 0; i < 300; i++) {
		tdr_future *future = tdr_rpc_async(group->agents[0], "worker1", "test::count", NULL, NULL);
		tdr_status status;

		if (i % 2)
			sched_yield();
		tdr_future_cancel(future);
		status = tdr_future_wait(future, PATIENCE_MS, NULL);
		expect_true(status == TDR_OK || status == TDR_ECANCELED);
		tdr_future_unref(future);
	}
}

static void cancelling_may_race_with_the_answer(void **state)
{
	struct group group;

	start(&group, 2);
	in_parallel(4, cancel_and_answer_race, &group);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_call_past_its_deadline_fails_at_the_caller),
	    TEST(the_callee_sees_the_deadline),
	    TEST(calls_inside_a_call_inherit_its_deadline),
	    TEST(a_request_whose_time_is_over_is_not_run),
	    TEST(a_local_timeout_leaves_the_callee_alone),
	    TEST(a_new_default_timeout_is_for_later_calls),
	    TEST(a_negative_timeout_is_refused),
	    TEST(cancelling_reaches_the_callee),
	    TEST(cancelling_does_not_overtake_the_call),
	    TEST(a_timeout_shows_as_cancelled_at_the_callee),
	    TEST(a_cancelled_request_that_is_queued_is_not_run),
	    TEST(cancelling_goes_through_an_asynchronous_function),
	    TEST(cancelling_a_finished_call_does_nothing),
	    TEST(cancelling_may_race_with_the_answer),
	};

	return cmocka_run_group_tests_name("deadlines", tests, NULL, NULL);
}
