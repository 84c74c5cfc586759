/* SPDX-License-Identifier: Apache-2.0 */
/* 256 agents on one engine, in one process: they join, gather, call in a ring, and leave nothing behind. */
#include "support/leaks.h"

#include <tendril.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

enum {
	AGENTS = 256,
	STACK_BYTES = 256 * 1024,
	TIMEOUT_MS = 120000,
};

struct member {
	pthread_t thread;
	tdr_engine *engine;
	tdr_store *store;
	int rank;
	tdr_status status;
	char text[256];
};

static tdr_status successor(tdr_call *call, void *context)
{
	return tdr_return_int(call, tdr_arg_int(call, 0) + 1);
}

static tdr_status live(struct member *member, tdr_agent *agent)
{
	tdr_worker next;
	tdr_value *value;
	int64_t number;
	tdr_status status = tdr_register(agent, "many::successor(int n) -> int", successor, NULL, TDR_FUNCTION_INLINE);

	if (status == TDR_OK)
		status = tdr_join(agent);
	if (status == TDR_OK)
		status = tdr_all_gather(agent, tdr_int(member->rank), 0, NULL, TIMEOUT_MS, &value);
	if (status != TDR_OK)
		return status;
	if (tdr_value_count(value) != AGENTS)
		status = TDR_EINTERNAL;
	tdr_value_unref(value);
	if (status == TDR_OK)
		status = tdr_worker_by_id(agent, (uint32_t)(member->rank + 1) % AGENTS, &next);
	if (status == TDR_OK)
		status = tdr_rpc_sync(agent, next.name, "many::successor", TDR_ARGS(member->rank), NULL, &value);
	if (status != TDR_OK)
		return status;
	status = tdr_value_get_int(value, &number);
	tdr_value_unref(value);
	return status == TDR_OK && number != member->rank + 1 ? TDR_EINTERNAL : status;
}

static void *run(void *argument)
{
	struct member *member = argument;
	tdr_agent_options options;
	tdr_agent *agent;
	char name[16];
	tdr_status left;

	tdr_agent_options_init(&options);
	options.engine = member->engine;
	options.store = member->store;
	options.rank = member->rank;
	options.world_size = AGENTS;
	options.rpc_timeout_ms = TIMEOUT_MS;
	options.heartbeat_bound_ms = TIMEOUT_MS;
	snprintf(name, sizeof(name), "a%d", member->rank);
	agent = tdr_agent_new(name, &options);
	member->status = agent ? live(member, agent) : TDR_EINVAL;
	if (member->status == TDR_OK) {
		left = tdr_shutdown(agent, NULL);
		member->status = left;
	} else {
		snprintf(member->text, sizeof(member->text), "%s", tdr_last_error());
		tdr_agent_unref(agent);
		return NULL;
	}
	if (left != TDR_OK)
		snprintf(member->text, sizeof(member->text), "%s", tdr_last_error());
	return NULL;
}

static void test_many_agents_on_one_engine(void **state)
{
	static struct member members[AGENTS];
	struct rlimit files;
	pthread_attr_t attributes;
	tdr_engine *engine;
	tdr_store *store;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	assert_int_equal(tdr_engine_new(NULL, &engine), TDR_OK);
	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	assert_int_equal(pthread_attr_init(&attributes), 0);
	assert_int_equal(pthread_attr_setstacksize(&attributes, STACK_BYTES), 0);
	for (int i = 0; i < AGENTS; i++) {
		members[i] = (struct member){.engine = engine, .store = store, .rank = i};
		assert_int_equal(pthread_create(&members[i].thread, &attributes, run, &members[i]), 0);
	}
	for (int i = 0; i < AGENTS; i++)
		pthread_join(members[i].thread, NULL);
	for (int i = 0; i < AGENTS; i++) {
		if (members[i].status != TDR_OK)
			print_message("a%d: %s (%s)\n", i, members[i].text, tdr_status_name(members[i].status));
		assert_int_equal(members[i].status, TDR_OK);
	}
	pthread_attr_destroy(&attributes);
	tdr_store_unref(store);
	tdr_engine_unref(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_many_agents_on_one_engine, leaks_setup, leaks_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
