/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dynamic group on a network that parts: one part goes on, whoever is not in it is fenced once it can be reached again, and may
 * join anew. All members meet in a store that each part can reach.
 */
#include "group.h"

#include "transport/sim.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MEMBERS = 4,
	SHORT_MS = 500,    /* heartbeat_bound_ms of those who notice first */
	LONG_MS = 1000000, /* of those who never do */
};

static struct sim_network *network;
static tdr_store *store;
static tdr_agent *agents[MEMBERS];

static tdr_agent *join(size_t index, int64_t bound_ms)
{
	tdr_agent_options options;
	tdr_agent *agent;
	char listens[32];

	member_options(&options, index, 1, store);
	snprintf(listens, sizeof(listens), "sim://parts:%zu", index + 1);
	options.listen = listens;
	options.world_size = 0;
	options.heartbeat_ms = 50;
	options.heartbeat_bound_ms = bound_ms;
	options.connect_timeout_ms = 200;
	agent = tdr_agent_new(worker_name(index), &options);
	if (!agent)
		fail_msg("%s", tdr_last_error());
	if (expect_ok(tdr_join(agent)) == TDR_OK)
		return agent;
	tdr_agent_unref(agent);
	return NULL;
}

/* Calls `name` there: the function is missing, which it takes a living member to say. */
static tdr_status ask(tdr_agent *agent, const char *name)
{
	tdr_status status = tdr_rpc_sync(agent, name, "no::function", NULL, NULL, NULL);

	return status == TDR_ENOFUNCTION ? TDR_OK : status;
}

static void begin(int64_t bound_ms, int64_t bound_of_last_ms)
{
	assert_int_equal(sim_network_open("parts", 77, &network), TDR_OK);
	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	for (size_t i = 0; i < MEMBERS; i++)
		agents[i] = join(i, i + 1 < MEMBERS ? bound_ms : bound_of_last_ms);
	for (size_t i = 0; i < MEMBERS; i++)
		for (size_t j = 0; j < MEMBERS; j++)
			expect_ok(ask(agents[i], worker_name(j)));
}

static void end(void)
{
	for (size_t i = 0; i < MEMBERS; i++)
		expect_ok(tdr_shutdown(agents[i], NULL));
	tdr_store_unref(store);
	network = sim_network_close(network);
}

static bool is_fenced(tdr_agent *agent)
{
	return ask(agent, tdr_agent_worker(agent).name) == TDR_EFENCED;
}

static bool last_is_fenced(void *context)
{
	(void)ask(agents[MEMBERS - 1], "worker0"); /* it learns from whom it reaches */
	return is_fenced(agents[MEMBERS - 1]);
}

static bool all_see(void *context)
{
	const size_t *count = context;

	for (size_t i = 0; i < *count; i++)
		if (tdr_worker_count(agents[i]) != *count || tdr_agent_epoch(agents[i]) != tdr_agent_epoch(agents[0]))
			return false;
	return true;
}

static void who_was_cut_off_is_fenced(void **state)
{
	const char *island[] = {"sim://parts:4"};
	tdr_agent *last;
	tdr_future *under_way;

	begin(SHORT_MS, LONG_MS);
	last = agents[MEMBERS - 1];
	expect_ok(sim_network_partition(network, 1, island));
	under_way = tdr_rpc_async(last, "worker0", "no::function", NULL, NULL);
	eventually(all_see, &(size_t){MEMBERS - 1});
	expect_true(!tdr_future_done(under_way) && !is_fenced(last)); /* nobody has told it */
	for (size_t i = 0; i + 1 < MEMBERS; i++)
		for (size_t j = 0; j + 1 < MEMBERS; j++)
			expect_ok(ask(agents[i], worker_name(j)));
	sim_network_heal(network);
	eventually(last_is_fenced, NULL);
	expect_true(tdr_future_wait(under_way, PATIENCE_MS, NULL) != TDR_OK);
	tdr_future_unref(under_way);
	expect_status(ask(last, "worker1"), TDR_EFENCED);
	expect_error("worker 'worker3' was evicted from the group (epoch 5) while it could not be reached: shut down "
	             "and join again");
	expect_status(tdr_barrier(last, 0, NULL, PATIENCE_MS), TDR_EFENCED);
	expect_ok(tdr_shutdown(last, NULL));
	agents[MEMBERS - 1] = join(MEMBERS - 1, SHORT_MS);
	eventually(all_see, &(size_t){MEMBERS});
	end();
}

/* Whether each agent is either fenced or sees all that are not, and nobody else, at one epoch. */
static bool is_settled(void *context)
{
	uint64_t epoch = 0;
	size_t unfenced = 0;

	for (size_t i = 0; i < MEMBERS; i++)
		unfenced += !is_fenced(agents[i]);
	for (size_t i = 0; i < MEMBERS; i++) {
		for (size_t j = 0; j < MEMBERS; j++)
			(void)ask(agents[i], worker_name(j));
		if (is_fenced(agents[i]))
			continue;
		if (tdr_worker_count(agents[i]) != unfenced || (epoch && tdr_agent_epoch(agents[i]) != epoch))
			return false;
		epoch = tdr_agent_epoch(agents[i]);
	}
	return unfenced > 0 && unfenced < MEMBERS;
}

/* Two halves that evict each other: the store decides, and nobody is in two groups. */
static void of_two_halves_one_goes_on(void **state)
{
	const char *island[] = {"sim://parts:3", "sim://parts:4"};

	begin(SHORT_MS, SHORT_MS);
	expect_ok(sim_network_partition(network, 2, island));
	pause_ms(2 * SHORT_MS); /* so long as some are silent to others */
	sim_network_heal(network);
	eventually(is_settled, NULL);
	for (size_t i = 0; i < MEMBERS; i++) {
		if (!is_fenced(agents[i]))
			continue;
		expect_ok(tdr_shutdown(agents[i], NULL));
		agents[i] = join(i, SHORT_MS);
	}
	eventually(all_see, &(size_t){MEMBERS});
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(who_was_cut_off_is_fenced),
	    TEST(of_two_halves_one_goes_on),
	};

	return cmocka_run_group_tests_name("fencing", tests, NULL, NULL);
}
