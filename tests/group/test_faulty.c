/* SPDX-License-Identifier: Apache-2.0 */
/* Backend FAULTY: messages that fail and messages that come late, and what becomes of them when somebody leaves. */
#include "group.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DELAY "0.3"
#define DELAY_MS 300

static const char *fail_messages, *delay_messages; /* of the agents to come */
static int64_t fail_sends;

static _Atomic unsigned arrivals; /* calls of test::arrive, and the numbers they brought, in order */
static _Atomic int64_t arrived[64];

static tdr_status arrive(tdr_call *call, void *context)
{
	unsigned place = atomic_fetch_add(&arrivals, 1);

	if (place < sizeof(arrived) / sizeof(arrived[0]))
		atomic_store(&arrived[place], tdr_arg_int(call, 0));
	return tdr_return_int(call, tdr_arg_int(call, 0));
}

static void configure(size_t rank, tdr_agent_options *options)
{
	options->backend = "FAULTY";
	options->fail_messages = fail_messages;
	options->fail_sends = fail_sends;
	options->delay_messages = delay_messages;
}

static void prepare(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::arrive(int number) -> int", arrive, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_register(agent, "python::arrive(int number) -> int", arrive, NULL, TDR_FUNCTION_INLINE));
}

static const struct group_config config = {.configure = configure, .prepare = prepare};

static void start(struct group *group, size_t count, const char *failing, int64_t sends, const char *delayed)
{
	fail_messages = failing;
	fail_sends = sends;
	delay_messages = delayed;
	atomic_store(&arrivals, 0);
	group_start(group, count, &config);
}

static tdr_future *call_for(tdr_agent *agent, const char *worker, int64_t number, int64_t timeout_ms)
{
	tdr_rpc_options options;

	tdr_rpc_options_init(&options);
	options.timeout_ms = timeout_ms;
	return tdr_rpc_async_with(agent, worker, "test::arrive", TDR_ARGS(number), NULL, &options);
}

/* ---- failing ---- */

static void expect_failure(tdr_agent *agent, const char *worker, const char *function, int64_t number, const char *type)
{
	tdr_future *future = tdr_rpc_async(agent, worker, function, TDR_ARGS(number), NULL);
	char text[128];

	expect_true(tdr_future_done(future)); /* nothing was sent that could be waited for */
	snprintf(text, sizeof(text), "RPCErr:2:Send attempt failed intentionally for %s of %s to worker '%s'", type,
	         function, worker);
	expect_future(future, TDR_EIO, text);
}

static void each_content_fails_its_first_sends(void **state)
{
	struct group group;
	tdr_agent *agent;

	start(&group, 2, "SCRIPT_CALL", 3, NULL);
	agent = group.agents[0];
	for (int64_t number = 0; number < 3; number++)
		for (int i = 0; i < 3; i++)
			expect_failure(agent, "worker1", "test::arrive", number, "SCRIPT_CALL");
	for (int64_t number = 0; number < 3; number++) {
		expect_true(call_int(agent, "worker1", "test::arrive", TDR_ARGS(number)) == number);
		expect_true(call_int(agent, "worker1", "test::arrive", TDR_ARGS(number)) == number);
	}
	expect_true(atomic_load(&arrivals) == 6);
	group_end(&group);
}

static void contents_count_across_calls_and_places(void **state)
{
	struct group group;

	start(&group, 3, "SCRIPT_CALL", 2, NULL);
	expect_failure(group.agents[0], "worker1", "test::arrive", 1, "SCRIPT_CALL");
	expect_failure(group.agents[0], "worker2", "test::arrive", 1, "SCRIPT_CALL");
	expect_true(call_int(group.agents[0], "worker1", "test::arrive", TDR_ARGS(1)) == 1);
	expect_failure(group.agents[1], "worker2", "test::arrive", 1, "SCRIPT_CALL"); /* another sender */
	group_end(&group);
}

static void calls_of_oneself_fail_too(void **state)
{
	struct group group;

	start(&group, 1, "SCRIPT_CALL", 1, NULL);
	expect_failure(group.agents[0], "worker0", "test::arrive", 5, "SCRIPT_CALL");
	expect_true(call_int(group.agents[0], "worker0", "test::arrive", TDR_ARGS(5)) == 5);
	group_end(&group);
}

static void only_types_that_are_named_fail(void **state)
{
	struct group group;

	start(&group, 2, " PYTHON_CALL , RREF_USER_DELETE,", 1, NULL);
	expect_true(call_int(group.agents[0], "worker1", "test::arrive", TDR_ARGS(1)) == 1);
	expect_failure(group.agents[0], "worker1", "python::arrive", 1, "PYTHON_CALL");
	expect_true(call_int(group.agents[0], "worker1", "python::arrive", TDR_ARGS(1)) == 1);
	group_end(&group);
}

static void nothing_fails_no_times(void **state)
{
	struct group group;

	start(&group, 2, "SCRIPT_CALL", 0, NULL);
	expect_true(call_int(group.agents[0], "worker1", "test::arrive", TDR_ARGS(1)) == 1);
	group_end(&group);
}

/* Contents past the bound are forgotten, the oldest first, and fail again. */
static void contents_are_forgotten_in_time(void **state)
{
	const int64_t many = 4096;
	struct group group;
	tdr_agent *agent;

	start(&group, 1, "SCRIPT_CALL", 1, NULL);
	agent = group.agents[0];
	for (int64_t number = 0; number <= many; number++)
		expect_failure(agent, "worker0", "test::arrive", number, "SCRIPT_CALL");
	for (int64_t number = 1; number <= many; number += 455)
		expect_true(call_int(agent, "worker0", "test::arrive", TDR_ARGS(number)) == number);
	expect_failure(agent, "worker0", "test::arrive", 0, "SCRIPT_CALL");
	expect_true(call_int(agent, "worker0", "test::arrive", TDR_ARGS(0)) == 0);
	expect_failure(agent, "worker0", "test::arrive", 1, "SCRIPT_CALL");
	group_end(&group);
}

/* ---- delaying ---- */

static bool two_have_arrived(void *context)
{
	return atomic_load(&arrivals) >= 2;
}

static void delayed_calls_arrive_late_and_in_order(void **state)
{
	tdr_future *futures[32];
	struct group group;
	int64_t before;

	start(&group, 2, NULL, 0, "SCRIPT_CALL=" DELAY ", PYTHON_CALL=" DELAY);
	for (size_t to = 0; to < 2; to++) {
		atomic_store(&arrivals, 0);
		before = now_ms();
		for (int64_t i = 0; i < 32; i++)
			futures[i] = tdr_rpc_async(group.agents[0], worker_name(to),
			                           i % 2 ? "python::arrive" : "test::arrive", TDR_ARGS(i), NULL);
		for (size_t i = 0; i < 32; i++)
			expect_future(futures[i], TDR_OK, NULL);
		expect_true(now_ms() - before >= DELAY_MS);
		for (int64_t i = 0; i < 32 && to == 1; i++) /* one's own calls may be run by several threads */
			expect_true(atomic_load(&arrived[i]) == i);
	}
	group_end(&group);
}

static void a_delayed_call_keeps_its_deadline(void **state)
{
	struct group group;

	start(&group, 2, NULL, 0, "SCRIPT_CALL=" DELAY);
	for (size_t to = 0; to < 2; to++) {
		expect_future(call_for(group.agents[0], worker_name(to), 1, DELAY_MS / 10), TDR_ETIMEDOUT,
		              "RPC ran for more than set timeout (30 ms)");
		expect_future(call_for(group.agents[0], worker_name(to), 2, TDR_TIMEOUT_NEVER), TDR_OK, NULL);
		expect_future(call_for(group.agents[0], worker_name(to), 3, PATIENCE_MS), TDR_OK, NULL);
	}
	group_end(&group);
}

static void a_delayed_call_can_be_cancelled(void **state)
{
	tdr_future *future;
	struct group group;

	start(&group, 2, NULL, 0, "SCRIPT_CALL=" DELAY);
	future = call_for(group.agents[0], "worker1", 1, PATIENCE_MS);
	tdr_future_cancel(future);
	expect_future(future, TDR_ECANCELED, NULL);
	expect_future(call_for(group.agents[0], "worker1", 2, PATIENCE_MS), TDR_OK, NULL);
	group_end(&group);
}

static void types_have_delays_of_their_own(void **state)
{
	tdr_future *late, *soon;
	struct group group;

	start(&group, 2, NULL, 0, "SCRIPT_CALL=1000,PYTHON_CALL=0.05");
	late = call_for(group.agents[0], "worker1", 1, TDR_TIMEOUT_NEVER);
	soon = tdr_rpc_async(group.agents[0], "worker1", "python::arrive", TDR_ARGS(2), NULL);
	expect_future(soon, TDR_OK, NULL);
	expect_true(!tdr_future_done(late));
	group.agents[0] = tdr_agent_unref(group.agents[0]);
	group_drop(&group);
	expect_future(late, TDR_ESHUTDOWN, NULL);
}

static void failing_comes_before_delaying(void **state)
{
	struct group group;

	start(&group, 2, "SCRIPT_CALL", 1, "SCRIPT_CALL=0.05");
	expect_failure(group.agents[0], "worker1", "test::arrive", 1, "SCRIPT_CALL");
	expect_true(call_int(group.agents[0], "worker1", "test::arrive", TDR_ARGS(1)) == 1);
	group_end(&group);
}

/* ---- leaving ---- */

static void a_graceful_leave_waits_for_what_is_delayed(void **state)
{
	tdr_future *futures[2];
	struct group group;

	start(&group, 2, NULL, 0, "SCRIPT_CALL=" DELAY);
	for (size_t i = 0; i < 2; i++)
		futures[i] = call_for(group.agents[i], worker_name(1 - i), 1, PATIENCE_MS);
	group_end(&group);
	for (size_t i = 0; i < 2; i++)
		expect_future(futures[i], TDR_OK, NULL);
	expect_true(two_have_arrived(NULL));
}

static void leaving_drops_what_is_delayed(void **state)
{
	tdr_future *futures[16];
	tdr_value *tensor;
	tdr_tensor *zeros = NULL;
	struct group group;

	start(&group, 2, NULL, 0, "SCRIPT_CALL=1000");
	expect_ok(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(1000), &zeros));
	for (size_t i = 0; i < 16; i++) {
		tensor = tdr_tensor_value(zeros);
		futures[i] = tdr_rpc_async(group.agents[0], worker_name(i % 2), "test::echo", TDR_ARGS(tensor), NULL);
	}
	tdr_tensor_unref(zeros);
	group.agents[0] = tdr_agent_unref(group.agents[0]);
	group_drop(&group);
	for (size_t i = 0; i < 16; i++)
		expect_future(futures[i], TDR_ESHUTDOWN, NULL);
	expect_true(atomic_load(&arrivals) == 0);
}

static void a_peer_that_left_fails_delayed_calls(void **state)
{
	tdr_future *before;
	struct group group;
	tdr_status status;

	start(&group, 2, NULL, 0, "SCRIPT_CALL=0.05,PYTHON_CALL=" DELAY);
	expect_future(call_for(group.agents[0], "worker1", 1, PATIENCE_MS), TDR_OK, NULL); /* a lane is up */
	before = tdr_rpc_async(group.agents[0], "worker1", "python::arrive", TDR_ARGS(2), NULL);
	group.agents[1] = tdr_agent_unref(group.agents[1]);
	status = tdr_future_wait(before, PATIENCE_MS, NULL);
	expect_true(status == TDR_EWORKERGONE || status == TDR_EUNREACHABLE);
	tdr_future_unref(before);
	expect_future(call_for(group.agents[0], "worker1", 3, TDR_TIMEOUT_NEVER), status, NULL);
	pause_ms(DELAY_MS); /* for what was held back to be dropped */
	expect_true(atomic_load(&arrivals) == 1);
	group_drop(&group);
}

struct race {
	struct group *group;
	tdr_agent *agents[2]; /* counted: calls go on after they have left */
};

static void send_many(void *context, size_t index)
{
	const tdr_shutdown_options at_once = {.size = sizeof(at_once)};
	struct race *race = context;
	tdr_future *futures[50];

	if (index >= 2) {
		pause_ms(5);
		expect_ok(tdr_shutdown(race->group->agents[index - 2], &at_once));
		race->group->agents[index - 2] = NULL;
		return;
	}
	for (size_t i = 0; i < 50; i++)
		futures[i] = call_for(race->agents[index], worker_name(i % 2), (int64_t)i, PATIENCE_MS);
	for (size_t i = 0; i < 50; i++) {
		tdr_status status = tdr_future_wait(futures[i], PATIENCE_MS, NULL);

		expect_true(tdr_future_done(futures[i]) && tdr_future_status(futures[i]) == status);
		tdr_future_unref(futures[i]);
	}
}

/* Calls and their delays run while both agents leave at once. */
static void leaving_may_race_with_delays(void **state)
{
	for (int round = 0; round < 10; round++) {
		struct group group;
		struct race race = {.group = &group};

		start(&group, 2, NULL, 0, "SCRIPT_CALL=0.003");
		for (size_t i = 0; i < 2; i++)
			race.agents[i] = tdr_agent_ref(group.agents[i]);
		in_parallel(4, send_many, &race);
		for (size_t i = 0; i < 2; i++)
			tdr_agent_unref(race.agents[i]);
		group_drop(&group);
	}
}

/* ---- options ---- */

static void expect_refused(const char *backend, const char *failing, int64_t sends, const char *delayed,
                           const char *part)
{
	tdr_agent_options options;
	tdr_agent *agent;

	tdr_agent_options_init(&options);
	options.backend = backend;
	options.fail_messages = failing;
	options.fail_sends = sends;
	options.delay_messages = delayed;
	agent = tdr_agent_new("worker0", &options);
	expect_true(agent == NULL);
	expect_error(part);
	tdr_agent_unref(agent);
}

static void options_are_checked(void **state)
{
	expect_refused("FAULTY", NULL, -1, NULL, "numFailSends should be non-negative");
	expect_refused("FAULTY", "SCRIPT_CALL,CARRIER_PIGEON", 0, NULL,
	               "No mapping to rpc::MessageType exists for CARRIER_PIGEON");
	expect_refused("FAULTY", "script_call", 0, NULL, "No mapping to rpc::MessageType exists for script_call");
	expect_refused("FAULTY", NULL, 0, "PIGEON=1", "No mapping to rpc::MessageType exists for PIGEON");
	expect_refused("FAULTY", NULL, 0, "SCRIPT_CALL=-1.5", "Delays passed to the FAULTY agent must be non-negative");
	expect_refused("FAULTY", NULL, 0, "SCRIPT_CALL=-0.5", "must be non-negative");
	expect_refused("FAULTY", NULL, 0, "SCRIPT_CALL", "write SCRIPT_CALL=SECONDS");
	expect_refused("FAULTY", NULL, 0, "SCRIPT_CALL=", "write SCRIPT_CALL=SECONDS");
	expect_refused("FAULTY", NULL, 0, "SCRIPT_CALL=.", "write SCRIPT_CALL=SECONDS");
	expect_refused("FAULTY", NULL, 0, "SCRIPT_CALL=1,5", "No mapping");
	expect_refused("FAULTY", NULL, 0, "SCRIPT_CALL=1.5s", "write SCRIPT_CALL=SECONDS");
	expect_refused("FAULTY", NULL, 0, "SCRIPT_CALL=99999999999999999999", "at most 1000000");
	expect_refused("TENDRIL", "SCRIPT_CALL", 0, NULL, "option fail_messages is only for backend FAULTY");
	expect_refused(NULL, NULL, 3, NULL, "option fail_sends is only for backend FAULTY");
	expect_refused(NULL, NULL, 0, "SCRIPT_CALL=1", "option delay_messages is only for backend FAULTY");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(each_content_fails_its_first_sends),
	    TEST(contents_count_across_calls_and_places),
	    TEST(calls_of_oneself_fail_too),
	    TEST(only_types_that_are_named_fail),
	    TEST(nothing_fails_no_times),
	    TEST(contents_are_forgotten_in_time),
	    TEST(delayed_calls_arrive_late_and_in_order),
	    TEST(a_delayed_call_keeps_its_deadline),
	    TEST(a_delayed_call_can_be_cancelled),
	    TEST(types_have_delays_of_their_own),
	    TEST(failing_comes_before_delaying),
	    TEST(a_graceful_leave_waits_for_what_is_delayed),
	    TEST(leaving_drops_what_is_delayed),
	    TEST(a_peer_that_left_fails_delayed_calls),
	    TEST(leaving_may_race_with_delays),
	    TEST(options_are_checked),
	};

	return cmocka_run_group_tests_name("faulty", tests, NULL, NULL);
}
