/* SPDX-License-Identifier: Apache-2.0 */
/* Leaving and dying: what a shutdown waits for, and what those learn who stay. */
#include "group.h"

#include "support/places.h"
#include "support/processes.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- functions ---- */

static struct gate gate = GATE_INIT;
static _Atomic unsigned hops;

static tdr_status pass_gate(tdr_call *call, void *context)
{
	gate_pass(&gate);
	return TDR_OK;
}

/* Sends itself on to the next worker, and forgets about it: only a shutdown that waits sees all of them through. */
static tdr_status hop(tdr_call *call, void *context)
{
	tdr_agent *agent = context;
	int64_t left = tdr_arg_int(call, 0);
	size_t next = (tdr_agent_worker(agent).id + 1) % tdr_worker_count(agent);

	pause_ms(2);
	atomic_fetch_add(&hops, 1);
	if (left > 1)
		tdr_future_unref(tdr_rpc_async(agent, worker_name(next), "test::hop", TDR_ARGS(left - 1), NULL));
	return TDR_OK;
}

static tdr_status shut_down_inside(tdr_call *call, void *context)
{
	expect_status(tdr_shutdown(context, NULL), TDR_ESTATE);
	expect_error("from inside a function");
	return TDR_OK;
}

static void prepare(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::gate()", pass_gate, NULL, 0));
	expect_ok(tdr_register(agent, "test::hop(int n)", hop, agent, 0));
	expect_ok(tdr_register(agent, "test::shut_down()", shut_down_inside, agent, 0));
	expect_ok(tdr_register(agent, "test::shut_down_inline()", shut_down_inside, agent, TDR_FUNCTION_INLINE));
}

static const struct group_config config = {.prepare = prepare};

static void start(struct group *group, size_t count)
{
	gate_close(&gate);
	atomic_store(&hops, 0);
	group_start(group, count, &config);
}

static tdr_status leave(tdr_agent *agent, bool graceful, int64_t timeout_ms)
{
	tdr_shutdown_options options;

	tdr_shutdown_options_init(&options);
	options.graceful = graceful;
	options.timeout_ms = timeout_ms;
	return tdr_shutdown(agent, &options);
}

/* ---- graceful ---- */

static void a_shutdown_sees_chains_of_calls_through(void **state)
{
	for (int shared = 0; shared < 2; shared++) {
		const struct group_config one = {.prepare = prepare, .share_engine = shared};
		struct group group;

		atomic_store(&hops, 0);
		group_start(&group, 4, &one);
		for (size_t i = 0; i < 4; i++)
			tdr_future_unref(
			    tdr_rpc_async(group.agents[i], worker_name((i + 1) % 4), "test::hop", TDR_ARGS(20), NULL));
		group_end(&group);
		expect_true(atomic_load(&hops) == 4 * 20);
	}
}

struct leaving {
	struct group *group;
	size_t absent;
	const char *part;
};

static void leave_without(void *context, size_t index)
{
	struct leaving *leaving = context;

	if (index == leaving->absent)
		return;
	expect_status(leave(leaving->group->agents[index], true, 2000), TDR_ETIMEDOUT);
	expect_error(leaving->part);
	leaving->group->agents[index] = NULL;
}

static void past_the_deadline_a_shutdown_leaves_all_the_same(void **state)
{
	struct group group;
	struct leaving leaving = {.group = &group, .absent = 2, .part = "'worker2'"};

	start(&group, 4);
	in_parallel(4, leave_without, &leaving);
	expect_status(tdr_rpc_sync(group.agents[2], "worker1", "test::echo", TDR_ARGS(1), NULL, NULL), TDR_EWORKERGONE);
	group_drop(&group);
}

static void leave_with_a_call_under_way(void *context, size_t index)
{
	struct group *group = context;
	tdr_status status = leave(group->agents[index], true, 2000);

	/* Who was slow to begin may find that another has left at its own deadline already. */
	expect_true(status == TDR_ETIMEDOUT || status == TDR_EWORKERGONE);
	group->agents[index] = NULL;
}

static void a_call_that_does_not_end_holds_a_shutdown_to_its_deadline(void **state)
{
	tdr_future *future;
	struct group group;

	start(&group, 3);
	future = tdr_rpc_async(group.agents[0], "worker1", "test::gate", NULL, NULL);
	gate_await(&gate, 1);
	in_parallel(3, leave_with_a_call_under_way, &group);
	expect_true(tdr_future_done(future));
	expect_true(tdr_future_status(future) == TDR_ESHUTDOWN || tdr_future_status(future) == TDR_EWORKERGONE);
	tdr_future_unref(future);
	gate_open(&gate);
	group_drop(&group);
}

static void functions_cannot_shut_their_agent_down(void **state)
{
	struct group group;

	start(&group, 2);
	for (size_t i = 0; i < 2; i++) {
		call_ok(group.agents[0], worker_name(i), "test::shut_down", NULL);
		call_ok(group.agents[0], worker_name(i), "test::shut_down_inline", NULL);
	}
	group_end(&group);
}

static void wrong_shutdown_options_are_refused(void **state)
{
	tdr_shutdown_options options;
	struct group group;

	start(&group, 1);
	tdr_shutdown_options_init(&options);
	options.size = 1;
	expect_status(tdr_shutdown(group.agents[0], &options), TDR_EINVAL);
	group_end(&group);
}

/* ---- at once ---- */

static void who_leaves_at_once_is_gone_for_the_others(void **state)
{
	tdr_future *out, *in;
	struct group group;

	start(&group, 3);
	call_ok(group.agents[2], "worker0", "test::echo", TDR_ARGS(1));
	out = tdr_rpc_async(group.agents[0], "worker1", "test::gate", NULL, NULL);
	in = tdr_rpc_async(group.agents[1], "worker0", "test::gate", NULL, NULL);
	gate_await(&gate, 2);
	expect_ok(leave(tdr_agent_ref(group.agents[0]), false, TDR_TIMEOUT_DEFAULT));
	expect_future(out, TDR_ESHUTDOWN, "has been shut down");
	expect_future(in, TDR_EWORKERGONE, "worker 'worker0' has left the group");
	expect_status(tdr_rpc_sync(group.agents[1], "worker0", "test::echo", TDR_ARGS(1), NULL, NULL), TDR_EWORKERGONE);
	expect_error("worker 'worker0' has left the group");
	expect_status(tdr_rpc_sync(group.agents[2], "worker0", "test::echo", TDR_ARGS(1), NULL, NULL), TDR_EWORKERGONE);
	call_ok(group.agents[1], "worker2", "test::echo", TDR_ARGS(1));
	gate_open(&gate);
	group_drop(&group);
}

/* Who never had a connection to the one that left learns it by trying. */
static void who_left_before_the_first_call_is_gone(void **state)
{
	struct group group;

	start(&group, 2);
	expect_ok(leave(group.agents[0], false, TDR_TIMEOUT_DEFAULT));
	group.agents[0] = NULL;
	expect_status(tdr_rpc_sync(group.agents[1], "worker0", "test::echo", TDR_ARGS(1), NULL, NULL), TDR_EWORKERGONE);
	expect_error("nobody listens at its address");
	expect_status(tdr_shutdown(group.agents[1], NULL), TDR_EWORKERGONE);
	group.agents[1] = NULL;
	group_drop(&group);
}

/* Calls that are queued at one who leaves are not run; those that run learn that nobody waits. */
static tdr_status until_cancelled(tdr_call *call, void *context)
{
	int64_t deadline_ms = now_ms() + PATIENCE_MS;

	gate_pass(&gate);
	while (!tdr_call_cancelled(call) && now_ms() < deadline_ms)
		pause_ms(1);
	expect_true(tdr_call_cancelled(call));
	return TDR_OK;
}

static void calls_of_one_who_is_gone_are_cancelled(void **state)
{
	tdr_future *future;
	struct group group;

	start(&group, 2);
	gate_open(&gate);
	expect_ok(tdr_register(group.agents[1], "test::until_cancelled()", until_cancelled, NULL, 0));
	future = tdr_rpc_async(group.agents[0], "worker1", "test::until_cancelled", NULL, NULL);
	gate_await(&gate, 1);
	expect_ok(leave(group.agents[0], false, TDR_TIMEOUT_DEFAULT));
	group.agents[0] = NULL;
	expect_future(future, TDR_ESHUTDOWN, NULL);
	group_drop(&group);
}

static void drop_from_callback(tdr_future *future, void *context)
{
	tdr_agent_unref(context);
	gate_open(&gate);
}

static void a_callback_may_drop_the_last_reference(void **state)
{
	tdr_future *future;
	struct group group;

	start(&group, 2);
	future = tdr_rpc_async(group.agents[0], "worker1", "test::echo", TDR_ARGS(1), NULL);
	expect_ok(tdr_future_on_done(future, drop_from_callback, group.agents[0]));
	group.agents[0] = NULL;
	gate_pass(&gate);
	expect_future(future, TDR_OK, NULL);
	group_drop(&group);
}

/* What users hold outlives the agent that made it. */
static void results_outlive_the_agent(void **state)
{
	tdr_value *value = NULL;
	tdr_future *future;
	tdr_tensor *tensor;
	struct group group;

	start(&group, 2);
	assert_int_equal(tdr_tensor_zeros(TDR_U8, TDR_SHAPE(1 << 20), &tensor), TDR_OK);
	future = tdr_rpc_async(group.agents[0], "worker1", "test::echo", TDR_ARGS(tensor), NULL);
	expect_ok(tdr_future_wait(future, PATIENCE_MS, &value));
	group_end(&group);
	tdr_future_unref(future);
	expect_true(tdr_value_kind(value) == TDR_TENSOR);
	tdr_value_unref(value);
	tdr_tensor_unref(tensor);
}

/* ---- processes that die ---- */

enum {
	PROCESSES = 3,
	VICTIM = 2
};

static uint16_t port;

static tdr_status die(tdr_call *call, void *context)
{
	kill(getpid(), SIGKILL);
	return TDR_OK;
}

static tdr_status hang(tdr_call *call, void *context)
{
	pause_ms(10 * PATIENCE_MS);
	return TDR_OK;
}

static tdr_agent *join_process(size_t rank)
{
	tdr_agent_options options;
	tdr_agent *agent;
	char url[64];

	member_options(&options, rank, PROCESSES, NULL);
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", port);
	options.init_method = url;
	agent = tdr_agent_new(worker_name(rank), &options);
	if (!agent)
		return NULL;
	expect_ok(tdr_register(agent, "test::die()", die, NULL, 0));
	expect_ok(tdr_register(agent, "test::hang()", hang, NULL, 0));
	expect_ok(tdr_register(agent, "test::quick() -> int", hang, NULL, 0));
	expect_ok(tdr_join(agent));
	return agent;
}

/* Worker 2 dies with a call of each under way; calls to it fail, the others go on. */
static int die_main(void *context)
{
	size_t rank = (size_t)(uintptr_t)context;
	tdr_agent *agent = join_process(rank);
	const char *const others[] = {"worker0", "worker1"};
	tdr_future *hanging;

	if (!agent)
		return 1;
	if (rank == VICTIM) {
		expect_ok(tdr_barrier(agent, 0, NULL, PATIENCE_MS));
		pause_ms(10 * PATIENCE_MS);
		return 1;
	}
	hanging = tdr_rpc_async(agent, "worker2", "test::hang", NULL, NULL);
	expect_ok(tdr_barrier(agent, 0, NULL, PATIENCE_MS));
	if (rank == 0)
		expect_status(tdr_rpc_sync(agent, "worker2", "test::die", NULL, NULL, NULL), TDR_EWORKERGONE);
	expect_future(hanging, TDR_EWORKERGONE, "worker 'worker2' is gone");
	expect_status(tdr_rpc_sync(agent, "worker2", "test::quick", NULL, NULL, NULL), TDR_EWORKERGONE);
	expect_ok(tdr_barrier(agent, 2, others, PATIENCE_MS));
	expect_status(tdr_shutdown(agent, NULL), TDR_EWORKERGONE);
	expect_error("worker2");
	return expectations_failed() > 0;
}

static void a_process_that_dies_is_gone_for_the_others(void **state)
{
	struct process members[PROCESSES];
	struct port reserved = port_reserve();

	port = reserved.number;
	for (size_t i = 0; i < PROCESSES; i++)
		members[i] = (struct process){.name = worker_name(i), .run = die_main, .context = (void *)(uintptr_t)i};
	members[VICTIM].expected_signal = SIGKILL;
	processes_start(members, PROCESSES);
	processes_finish(members, PROCESSES, 2 * PATIENCE_MS);
	port_release(&reserved);
}

/* Worker 2 stops: it answers nothing, though its connections stand. */
static int stop_main(void *context)
{
	size_t rank = (size_t)(uintptr_t)context;
	tdr_agent_options options;
	tdr_agent *agent = NULL;
	char url[64];

	member_options(&options, rank, PROCESSES, NULL);
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", port);
	options.init_method = url;
	options.heartbeat_ms = 200;
	options.heartbeat_bound_ms = 3000;
	if (expect_ok(tdr_init_rpc(worker_name(rank), &options, &agent)) != TDR_OK)
		return 1;
	if (rank == VICTIM) {
		expect_ok(tdr_barrier(agent, 0, NULL, PATIENCE_MS));
		raise(SIGSTOP);
		return 1;
	}
	expect_status(tdr_rpc_sync(agent, "worker2", "no::function", NULL, NULL, NULL), TDR_ENOFUNCTION);
	expect_ok(tdr_barrier(agent, 0, NULL, PATIENCE_MS));
	pause_ms(200);
	expect_status(tdr_rpc_sync(agent, "worker2", "no::function", NULL, NULL, NULL), TDR_EWORKERGONE);
	expect_error("silent for");
	tdr_agent_unref(agent);
	return expectations_failed() > 0;
}

static void a_process_that_falls_silent_is_gone_at_the_bound(void **state)
{
	struct process members[PROCESSES];
	struct port reserved = port_reserve();

	port = reserved.number;
	for (size_t i = 0; i < PROCESSES; i++)
		members[i] =
		    (struct process){.name = worker_name(i), .run = stop_main, .context = (void *)(uintptr_t)i};
	members[VICTIM].expected_signal = SIGKILL;
	processes_start(members, PROCESSES);
	processes_wait(members, VICTIM, 2 * PATIENCE_MS);
	process_kill(&members[VICTIM], SIGKILL);
	processes_finish(members, PROCESSES, PATIENCE_MS);
	port_release(&reserved);
}

/* ---- when everybody was stopped ---- */

static void short_heartbeats(size_t rank, tdr_agent_options *options)
{
	options->heartbeat_ms = 50;
	options->heartbeat_bound_ms = 500;
}

/* Both members are in this process, and none of them has gone when it goes on. */
static int stopped_main(void *context)
{
	const struct group_config impatient = {.configure = short_heartbeats};
	struct group group;

	group_start(&group, 2, &impatient);
	for (int i = 0; i < 2; i++) {
		call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(1));
		raise(SIGSTOP);
		pause_ms(100);
		call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(1));
	}
	group_end(&group);
	return expectations_failed() > 0;
}

static void who_was_stopped_takes_nobody_for_dead(void **state)
{
	struct process member = {.name = "stopped", .run = stopped_main};

	processes_start(&member, 1);
	for (int i = 0; i < 4; i++) { /* more often than it stops: it may be slow to begin */
		pause_ms(1500);
		process_kill(&member, SIGCONT);
	}
	processes_finish(&member, 1, PATIENCE_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_process_that_dies_is_gone_for_the_others),
	    TEST(a_process_that_falls_silent_is_gone_at_the_bound),
	    TEST(who_was_stopped_takes_nobody_for_dead),
	    TEST(a_shutdown_sees_chains_of_calls_through),
	    TEST(past_the_deadline_a_shutdown_leaves_all_the_same),
	    TEST(a_call_that_does_not_end_holds_a_shutdown_to_its_deadline),
	    TEST(functions_cannot_shut_their_agent_down),
	    TEST(wrong_shutdown_options_are_refused),
	    TEST(who_leaves_at_once_is_gone_for_the_others),
	    TEST(who_left_before_the_first_call_is_gone),
	    TEST(calls_of_one_who_is_gone_are_cancelled),
	    TEST(a_callback_may_drop_the_last_reference),
	    TEST(results_outlive_the_agent),
	};

	return cmocka_run_group_tests_name("failures", tests, NULL, NULL);
}
