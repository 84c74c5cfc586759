/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many members of one dynamic group who come, call whom they find, and leave or die, all at once; two stay, and agree in the end
 * that nobody else is there.
 */
#include "group/group.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	GUESTS = 10,
	VISITS = 12,
	CALLS = 20,
};

static tdr_store *store;
static tdr_engine *engine;
static _Atomic unsigned calls, failures;

static tdr_status echo(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_value_ref(tdr_arg(call, 0)));
}

static tdr_agent *join(const char *name)
{
	tdr_agent_options options;
	tdr_agent *agent;

	member_options(&options, 0, 1, store);
	options.rank = -1;
	options.world_size = 0;
	options.engine = engine;
	agent = tdr_agent_new(name, &options);
	if (!agent)
		return NULL;
	expect_ok(tdr_register(agent, "test::echo(Any value) -> Any", echo, NULL, TDR_FUNCTION_INLINE));
	if (expect_ok(tdr_join(agent)) == TDR_OK)
		return agent;
	tdr_agent_unref(agent);
	return NULL;
}

/* Whoever is called may leave or die meanwhile, which is said by one of these. */
static bool may_end(tdr_status status)
{
	return status == TDR_OK || status == TDR_EWORKERGONE || status == TDR_ENOWORKER ||
	       status == TDR_EUNKNOWN_OUTCOME;
}

static void call_some(tdr_agent *agent, size_t first)
{
	for (size_t i = 0; i < CALLS; i++) {
		size_t count = tdr_worker_count(agent);
		tdr_worker worker;
		tdr_status status = tdr_worker_at(agent, (first + i) % count, &worker);

		if (status == TDR_OK)
			status = tdr_rpc_sync(agent, worker.name, "test::echo", TDR_ARGS((int64_t)i), NULL, NULL);
		atomic_fetch_add(&calls, 1);
		if (status != TDR_OK)
			atomic_fetch_add(&failures, 1);
		if (!may_end(status))
			expect_ok(status);
	}
}

static void come_and_go(void *context, size_t index)
{
	for (size_t visit = 0; visit < VISITS; visit++) {
		tdr_agent *agent = join(worker_name(index));

		if (!agent)
			return;
		call_some(agent, index + visit);
		if ((index + visit) % 3 == 0)
			tdr_agent_unref(agent); /* dies */
		else
			expect_ok(tdr_shutdown(agent, NULL));
	}
}

static bool two_are_left(void *context)
{
	tdr_agent **stay = context;

	return tdr_worker_count(stay[0]) == 2 && tdr_worker_count(stay[1]) == 2 &&
	       tdr_agent_epoch(stay[0]) == tdr_agent_epoch(stay[1]);
}

static void members_churn(bool share_engine)
{
	tdr_agent *stay[2];

	engine = NULL;
	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	if (share_engine)
		assert_int_equal(tdr_engine_new(NULL, &engine), TDR_OK);
	stay[0] = join("first");
	stay[1] = join("second");
	assert_true(stay[0] && stay[1]);
	in_parallel(GUESTS, come_and_go, NULL);
	/* The dead whom nobody was connected with are found by those who call them. */
	call_some(stay[0], 0);
	eventually(two_are_left, stay);
	expect_true(tdr_agent_epoch(stay[0]) >= 2 + 2 * GUESTS * VISITS / 2);
	expect_ok(tdr_shutdown(stay[0], NULL));
	expect_ok(tdr_shutdown(stay[1], NULL));
	tdr_store_unref(store);
	tdr_engine_unref(engine);
	print_message("# %u calls, %u of them to members who went\n", atomic_exchange(&calls, 0),
	              atomic_exchange(&failures, 0));
}

static void members_churn_on_engines_of_their_own(void **state)
{
	members_churn(false);
}

static void members_churn_on_one_engine(void **state)
{
	members_churn(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(members_churn_on_engines_of_their_own),
	    TEST(members_churn_on_one_engine),
	};

	return cmocka_run_group_tests_name("churn", tests, NULL, NULL);
}
