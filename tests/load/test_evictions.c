/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dynamic group of processes, one of which is killed, and another stopped until the others take it for dead. All that are left
 * agree on who the members are; the one that was stopped is fenced when it goes on, and joins anew.
 */
#include "group/group.h"
#include "support/places.h"
#include "support/processes.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MEMBERS = 5,
	KILLED = 1,
	STOPPED = 3,
	HEARTBEAT_MS = 200,
	BOUND_MS = 2000,
	CALL_MS = 10000,
	ALL_MS = 150000,
};

static struct port port;

/* ---- a member ---- */

static _Atomic bool stopping;

static tdr_status stop(tdr_call *call, void *context)
{
	atomic_store(&stopping, true);
	return TDR_OK;
}

/* How this agent sees the group: count and epoch. */
static tdr_status see(tdr_call *call, void *context)
{
	return tdr_return(call, TDR_ARGS(tdr_worker_count(context), (int64_t)tdr_agent_epoch(context)));
}

static tdr_agent *join(const char *name)
{
	tdr_agent_options options;
	tdr_agent *agent;
	char url[64];

	tdr_agent_options_init(&options);
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", port.number);
	options.init_method = url;
	options.world_size = 0;
	options.threads = 4;
	options.join_timeout_ms = PATIENCE_MS;
	options.heartbeat_ms = HEARTBEAT_MS;
	options.heartbeat_bound_ms = BOUND_MS;
	agent = tdr_agent_new(name, &options);
	if (!agent)
		return NULL;
	expect_ok(tdr_register(agent, "test::stop() -> Any", stop, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_register(agent, "test::see() -> Any", see, agent, TDR_FUNCTION_INLINE));
	if (expect_ok(tdr_join(agent)) == TDR_OK)
		return agent;
	tdr_agent_unref(agent);
	return NULL;
}

/* Whether a call to one who may die at any time ended in a way that it may. */
static bool may_end(tdr_status status)
{
	return status == TDR_OK || status == TDR_EWORKERGONE || status == TDR_EUNREACHABLE || status == TDR_ENOWORKER ||
	       status == TDR_EUNKNOWN_OUTCOME;
}

/* Calls everybody again and again. False: it has been fenced. */
static bool call_all(tdr_agent *agent)
{
	tdr_rpc_options options;

	tdr_rpc_options_init(&options);
	options.timeout_ms = CALL_MS;
	while (!atomic_load(&stopping)) {
		for (size_t i = 0; i < tdr_worker_count(agent); i++) {
			tdr_worker worker;
			tdr_status status = tdr_worker_at(agent, i, &worker);

			if (status == TDR_OK)
				status = tdr_rpc_sync_with(agent, worker.name, "test::see", NULL, NULL, &options, NULL);
			if (status == TDR_EFENCED)
				return false;
			if (!may_end(status))
				expect_ok(status);
		}
		pause_ms(5);
	}
	return true;
}

static int be_member(void *context)
{
	const char *name = context;
	int times = 0;

	for (bool fenced = true; fenced; times++) {
		tdr_agent *agent = join(name);

		if (!agent)
			return 1;
		fenced = !call_all(agent);
		expect_ok(tdr_shutdown(agent, NULL));
	}
	fprintf(stderr, "%s joined %d times\n", name, times);
	return expectations_failed() > 0 || times != (strcmp(name, "worker3") == 0 ? 2 : 1);
}

/* ---- who watches them ---- */

struct watch {
	tdr_agent *agent;
	size_t count;
};

/* Whether all members that there are see so many, at the same epoch. */
static bool all_see(void *context)
{
	const struct watch *watch = context;

	if (tdr_worker_count(watch->agent) != watch->count)
		return false;
	for (size_t i = 0; i < watch->count; i++) {
		tdr_worker worker;
		tdr_value *view = NULL;
		int64_t count = 0, epoch = 0;

		if (tdr_worker_at(watch->agent, i, &worker) != TDR_OK ||
		    tdr_rpc_sync(watch->agent, worker.name, "test::see", NULL, NULL, &view) != TDR_OK)
			return false;
		expect_ok(tdr_value_get_int(tdr_value_item(view, 0), &count));
		expect_ok(tdr_value_get_int(tdr_value_item(view, 1), &epoch));
		tdr_value_unref(view);
		if (count != (int64_t)watch->count || epoch != (int64_t)tdr_agent_epoch(watch->agent))
			return false;
	}
	return true;
}

static void await_all_see(tdr_agent *agent, size_t count)
{
	eventually(all_see, &(struct watch){.agent = agent, .count = count});
}

static void the_rest_agree_on_who_is_left(void **state)
{
	static const char *const names[MEMBERS] = {"worker0", "worker1", "worker2", "worker3", "worker4"};
	struct process members[MEMBERS] = {0};
	tdr_store_server_options options;
	tdr_store_server *server;
	tdr_agent *watcher;

	for (int i = 0; i < MEMBERS; i++)
		members[i] = (struct process){.name = names[i], .run = be_member, .context = (void *)names[i]};
	members[KILLED].expected_signal = SIGKILL;
	port = port_reserve();
	processes_start(members, MEMBERS);
	tdr_store_server_options_init(&options);
	options.port = port.number;
	assert_int_equal(tdr_store_server_open(&options, &server), TDR_OK);
	watcher = join("watcher");
	assert_non_null(watcher);
	await_all_see(watcher, MEMBERS + 1);

	process_kill(&members[KILLED], SIGKILL);
	await_all_see(watcher, MEMBERS);

	process_kill(&members[STOPPED], SIGSTOP);
	await_all_see(watcher, MEMBERS - 1);
	process_kill(&members[STOPPED], SIGCONT);
	await_all_see(watcher, MEMBERS);

	for (int i = 0; i < MEMBERS; i++)
		if (i != KILLED)
			expect_ok(tdr_rpc_sync(watcher, names[i], "test::stop", NULL, NULL, NULL));
	processes_finish(members, MEMBERS, ALL_MS);
	expect_ok(tdr_shutdown(watcher, NULL));
	tdr_store_server_close(server);
	port_release(&port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(the_rest_agree_on_who_is_left)};

	return cmocka_run_group_tests_name("evictions", tests, NULL, NULL);
}
