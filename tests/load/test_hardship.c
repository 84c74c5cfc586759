/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members in hard times, each a process: one that runs out of descriptors serves those whom it is connected with, and the
 * others once it has some again; one that is stopped for a while is nobody's loss.
 */
#include "group/group.h"
#include "support/places.h"
#include "support/processes.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	FEW_DESCRIPTORS = 64,
	REACH_MS = 1000,
	STOP_MS = 2000,
	CALLS_MS = 4000,
};

static struct port port;

static tdr_agent *new_member(size_t rank, size_t count)
{
	tdr_agent_options options;
	tdr_agent *agent;
	char url[64];

	tdr_agent_options_init(&options);
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", port.number);
	options.init_method = url;
	options.rank = (int64_t)rank;
	options.world_size = (int64_t)count;
	agent = tdr_agent_new(worker_name(rank), &options);
	if (!agent)
		expect_error("an agent");
	return agent;
}

static tdr_status successor(tdr_call *call, void *context)
{
	return tdr_return_int(call, tdr_arg_int(call, 0) + 1);
}

/* ---- out of descriptors ---- */

static int hoard[FEW_DESCRIPTORS];
static size_t hoarded;

static tdr_status starve(tdr_call *call, void *context)
{
	int fd;

	while (hoarded < FEW_DESCRIPTORS && (fd = dup(STDERR_FILENO)) >= 0)
		hoard[hoarded++] = fd;
	return tdr_return_int(call, errno == EMFILE ? (int64_t)hoarded : -1);
}

static tdr_status feed(tdr_call *call, void *context)
{
	while (hoarded > 0)
		close(hoard[--hoarded]);
	return TDR_OK;
}

/* Whether this member can call another: the status. */
static tdr_status reach(tdr_call *call, void *context)
{
	const char *name = tdr_arg_string(call, 0);
	tdr_rpc_options options;

	tdr_rpc_options_init(&options);
	options.timeout_ms = REACH_MS;
	return tdr_return_int(call,
	                      tdr_rpc_sync_with(context, name, "test::successor", TDR_ARGS(1), NULL, &options, NULL));
}

/* Whether this member can still say how it fares. */
static tdr_status report(tdr_call *call, void *context)
{
	tdr_value *value;
	tdr_status status = tdr_debug_info(context, &value);

	if (status != TDR_OK)
		return status;
	tdr_value_unref(value);
	status = tdr_dump(context, &value);
	return status == TDR_OK ? tdr_return(call, value) : status;
}

static int run_poor(void *context)
{
	struct rlimit files = {FEW_DESCRIPTORS, FEW_DESCRIPTORS};
	tdr_agent *agent = new_member(0, 3);

	if (!agent || setrlimit(RLIMIT_NOFILE, &files) != 0)
		return 1;
	expect_ok(tdr_register(agent, "test::successor(int n) -> int", successor, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_register(agent, "test::starve() -> int", starve, NULL, 0));
	expect_ok(tdr_register(agent, "test::feed()", feed, NULL, 0));
	expect_ok(tdr_register(agent, "test::reach(str worker) -> int", reach, agent, 0));
	expect_ok(tdr_register(agent, "test::report() -> str", report, agent, 0));
	expect_ok(tdr_join(agent));
	expect_ok(tdr_shutdown(agent, NULL));
	return expectations_failed() > 0;
}

static tdr_agent *friends[2]; /* of the poor one */

static void join_friend(void *context, size_t index)
{
	friends[index] = new_member(index + 1, 3);
	if (!friends[index])
		return;
	expect_ok(tdr_register(friends[index], "test::successor(int n) -> int", successor, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_join(friends[index]));
}

static void leave_friend(void *context, size_t index)
{
	expect_ok(tdr_shutdown(friends[index], NULL));
}

static int run_friends(void *context)
{
	tdr_future *waiting;

	in_parallel(2, join_friend, NULL);
	if (!friends[0] || !friends[1] || expectations_failed() > 0)
		return 1;
	expect_true(call_int(friends[0], "worker0", "test::starve", NULL) > 0);
	for (int i = 0; i < 100; i++)
		expect_true(call_int(friends[0], "worker0", "test::successor", TDR_ARGS(i)) == i + 1);
	expect_true(call_int(friends[0], "worker0", "test::reach", TDR_ARGS("worker1")) == TDR_OK);
	waiting = tdr_rpc_async(friends[1], "worker0", "test::successor", TDR_ARGS(1), NULL);
	expect_true(call_int(friends[0], "worker0", "test::reach", TDR_ARGS("worker2")) == TDR_ETIMEDOUT);
	expect_true(!tdr_future_done(waiting));
	call_ok(friends[0], "worker0", "test::report", NULL);
	call_ok(friends[0], "worker0", "test::feed", NULL);
	expect_future(waiting, TDR_OK, NULL);
	expect_true(call_int(friends[0], "worker0", "test::reach", TDR_ARGS("worker2")) == TDR_OK);
	in_parallel(2, leave_friend, NULL);
	return expectations_failed() > 0;
}

static void who_has_no_descriptors_serves_whom_it_knows(void **state)
{
	struct process members[2] = {{.name = "poor", .run = run_poor}, {.name = "friends", .run = run_friends}};

	port = port_reserve();
	processes_start(members, 2);
	processes_finish(members, 2, 2 * PATIENCE_MS);
	port_release(&port);
}

/* ---- stopped for a while ---- */

enum {
	CALLERS = 2,
	STOPPED = CALLERS, /* the last one */
};

static int run_caller_or_stopped(void *context)
{
	size_t rank = (size_t)(uintptr_t)context;
	tdr_agent *agent = new_member(rank, CALLERS + 1);
	int64_t end_ms;

	if (!agent)
		return 1;
	expect_ok(tdr_register(agent, "test::successor(int n) -> int", successor, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_join(agent));
	end_ms = now_ms() + CALLS_MS;
	if (rank == 1)
		pause_ms(STOP_MS); /* its first call may have to connect to one that does not run */
	while (rank != STOPPED && now_ms() < end_ms) {
		if (call_int(agent, worker_name(STOPPED), "test::successor", TDR_ARGS(1)) != 2)
			break;
		pause_ms(1);
	}
	expect_ok(tdr_shutdown(agent, NULL));
	return expectations_failed() > 0;
}

static void who_is_stopped_for_a_while_is_nobodys_loss(void **state)
{
	struct process members[CALLERS + 1];

	port = port_reserve();
	for (size_t i = 0; i <= STOPPED; i++)
		members[i] = (struct process){
		    .name = worker_name(i), .run = run_caller_or_stopped, .context = (void *)(uintptr_t)i};
	processes_start(members, CALLERS + 1);
	pause_ms(CALLS_MS / 4);
	process_kill(&members[STOPPED], SIGSTOP);
	pause_ms(STOP_MS);
	process_kill(&members[STOPPED], SIGCONT);
	processes_finish(members, CALLERS + 1, 2 * PATIENCE_MS);
	port_release(&port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(who_has_no_descriptors_serves_whom_it_knows),
	    TEST(who_is_stopped_for_a_while_is_nobodys_loss),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
