/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups over a simulated network that does its worst: lanes break, ways fall silent, members die. What must hold: a call runs at
 * most once, and whoever is told that it succeeded is right; collectives succeed for all, or fail.
 *
 * A failure names the seed, by which the network does the same again (TENDRIL_TEST_SEED).
 */
#include "group.h"

#include "base/macros.h"
#include "transport/sim.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MEMBERS = 4,
	SEEDS = 4,  /* tried in one run */
	CALLS = 60, /* of each thread */
	ROUNDS = 20,
};

static struct sim_network *network;
static int64_t bound_ms;
static struct gate gate = GATE_INIT;

/* ---- a group on a network of ours ---- */

static void configure(size_t rank, tdr_agent_options *options)
{
	static char listens[MEMBERS][32];

	snprintf(listens[rank], sizeof(listens[rank]), "sim://storm:%zu", rank + 1);
	options->listen = listens[rank];
	options->heartbeat_ms = 50;
	options->heartbeat_bound_ms = bound_ms;
	options->connect_timeout_ms = MAX_OF(bound_ms / 10, INT64_C(100));
}

static const char *address_of(size_t rank)
{
	static _Thread_local char addresses[MEMBERS][32];

	snprintf(addresses[rank], sizeof(addresses[rank]), "sim://storm:%zu", rank + 1);
	return addresses[rank];
}

/* How often each call has run: the caller's rank and thread, and its count. */
static _Atomic unsigned runs[MEMBERS][2][CALLS];

static tdr_status mark(tdr_call *call, void *context)
{
	int64_t caller, thread, count;

	expect_ok(tdr_value_get_int(tdr_arg(call, 0), &caller));
	expect_ok(tdr_value_get_int(tdr_arg(call, 1), &thread));
	expect_ok(tdr_value_get_int(tdr_arg(call, 2), &count));
	atomic_fetch_add(&runs[caller][thread][count], 1);
	return tdr_return_int(call, count);
}

static tdr_status stop_at_gate(tdr_call *call, void *context)
{
	gate_pass(&gate);
	return tdr_return_int(call, 7);
}

static void prepare(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::mark(int caller, int thread, int count) -> int", mark, NULL, 0));
	expect_ok(tdr_register(agent, "test::stop() -> int", stop_at_gate, NULL, 0));
}

static void storm_begin(struct group *group, uint64_t seed, int64_t heartbeat_bound_ms)
{
	const struct group_config config = {.configure = configure, .prepare = prepare};

	bound_ms = heartbeat_bound_ms;
	gate_close(&gate);
	memset(runs, 0, sizeof(runs));
	assert_int_equal(sim_network_open("storm", seed, &network), TDR_OK);
	group_start(group, MEMBERS, &config);
}

/* Everybody has called everybody. */
static void connect_all(struct group *group)
{
	for (size_t i = 0; i < MEMBERS; i++)
		for (size_t j = 0; j < MEMBERS; j++)
			call_ok(group->agents[i], worker_name(j), "test::echo", TDR_ARGS(1));
}

static void storm_over(void)
{
	sim_network_set(network, &sim_faults_default);
	sim_network_heal(network);
}

static void storm_end(void)
{
	network = sim_network_close(network);
}

static uint64_t first_seed(void)
{
	const char *text = getenv("TENDRIL_TEST_SEED");

	return text && *text ? strtoull(text, NULL, 0) : 1000;
}

/* ---- storms ---- */

static void call_often(void *context, size_t index)
{
	struct group *group = context;
	size_t rank = index / 2, thread = index % 2;

	for (size_t i = 0; i < CALLS; i++) {
		const char *to = worker_name((rank + 1 + i % (MEMBERS - 1)) % MEMBERS);
		tdr_status status =
		    tdr_rpc_sync(group->agents[rank], to, "test::mark", TDR_ARGS(rank, thread, i), NULL, NULL);
		unsigned times = atomic_load(&runs[rank][thread][i]);

		if (status != TDR_EUNKNOWN_OUTCOME)
			expect_ok(status);
		expect_true(status == TDR_OK ? times == 1 : times <= 1);
	}
}

static void calls_run_at_most_once(void **state)
{
	const struct sim_faults faults = {
	    .late = 50000, .cut = 4000, .hold = 10000, .max_delay_ms = 10, .max_hold_ms = 20, .bytes_per_ms = 1 << 20};

	for (uint64_t seed = first_seed(); seed < first_seed() + SEEDS; seed++) {
		struct group group;
		unsigned failed_before = expectations_failed();

		storm_begin(&group, seed, PATIENCE_MS);
		sim_network_set(network, &faults);
		in_parallel(2 * MEMBERS, call_often, &group);
		storm_over();
		for (size_t i = 0; i < MEMBERS; i++) /* nor has one run late */
			for (size_t j = 0; j < CALLS; j++)
				expect_true(runs[i][0][j] <= 1 && runs[i][1][j] <= 1);
		group_end(&group);
		storm_end();
		if (failed_before + expectations_failed() > 0)
			fail_msg("in the storm of seed %llu", (unsigned long long)seed);
	}
}

static void meet_often(void *context, size_t index)
{
	struct group *group = context;

	for (int64_t i = 0; i < ROUNDS; i++) {
		tdr_value *all = NULL;

		if (expect_ok(tdr_all_gather(group->agents[index], tdr_int(i), 0, NULL, PATIENCE_MS, &all)) != TDR_OK)
			return;
		for (size_t j = 0; j < MEMBERS; j++) {
			int64_t number = -1;

			expect_ok(tdr_value_get_int(tdr_dict_get(all, worker_name(j)), &number));
			expect_true(number == i);
		}
		tdr_value_unref(all);
		expect_ok(tdr_barrier(group->agents[index], 0, NULL, PATIENCE_MS));
	}
}

static void collectives_come_through(void **state)
{
	const struct sim_faults faults = {
	    .late = 50000, .cut = 8000, .hold = 10000, .max_delay_ms = 10, .max_hold_ms = 20, .bytes_per_ms = 1 << 20};

	for (uint64_t seed = first_seed(); seed < first_seed() + SEEDS; seed++) {
		struct group group;
		unsigned failed_before = expectations_failed();

		storm_begin(&group, seed, PATIENCE_MS);
		sim_network_set(network, &faults);
		in_parallel(MEMBERS, meet_often, &group);
		storm_over();
		group_end(&group);
		storm_end();
		if (failed_before + expectations_failed() > 0)
			fail_msg("in the storm of seed %llu", (unsigned long long)seed);
	}
}

/* ---- silence ---- */

static void a_silence_within_the_bound_only_delays(void **state)
{
	struct group group;
	tdr_future *future;

	storm_begin(&group, first_seed(), PATIENCE_MS);
	connect_all(&group);
	expect_ok(sim_network_cut(network, address_of(0), address_of(1), SIM_BOTH));
	future = tdr_rpc_async(group.agents[0], "worker1", "test::mark", TDR_ARGS(0, 0, 0), NULL);
	pause_ms(200); /* of several heartbeats */
	expect_true(atomic_load(&runs[0][0][0]) == 0);
	call_ok(group.agents[0], "worker2", "test::echo", TDR_ARGS(1));
	sim_network_heal(network);
	expect_future(future, TDR_OK, NULL);
	expect_true(atomic_load(&runs[0][0][0]) == 1);
	group_end(&group);
	storm_end();
}

/* The request arrives and is served, its answer is held. */
static void an_answer_is_held(void **state)
{
	struct group group;
	tdr_future *future;

	storm_begin(&group, first_seed(), PATIENCE_MS);
	connect_all(&group);
	expect_ok(sim_network_cut(network, address_of(0), address_of(1), SIM_BACK));
	future = tdr_rpc_async(group.agents[0], "worker1", "test::stop", NULL, NULL);
	gate_await(&gate, 1);
	gate_open(&gate);
	pause_ms(100);
	expect_true(!tdr_future_done(future));
	sim_network_heal(network);
	expect_future(future, TDR_OK, NULL);
	expect_true(gate_arrived(&gate) == 1);
	group_end(&group);
	storm_end();
}

static void a_silence_past_the_bound_is_the_end(void **state)
{
	const char *island[] = {"sim://storm:4"};
	struct group group;
	tdr_future *there, *back;

	storm_begin(&group, first_seed(), 2000);
	connect_all(&group);
	there = tdr_rpc_async(group.agents[0], "worker3", "test::stop", NULL, NULL);
	back = tdr_rpc_async(group.agents[3], "worker0", "test::stop", NULL, NULL);
	gate_await(&gate, 2);
	expect_ok(sim_network_partition(network, 1, island));
	expect_future(there, TDR_EWORKERGONE, "'worker3'");
	expect_future(back, TDR_EWORKERGONE, "'worker0'");
	gate_open(&gate);
	call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(1));
	call_ok(group.agents[2], "worker0", "test::echo", TDR_ARGS(1));
	sim_network_heal(network);
	/* Gone is gone. */
	expect_status(tdr_rpc_sync(group.agents[0], "worker3", "test::echo", TDR_ARGS(1), NULL, NULL), TDR_EWORKERGONE);
	group_drop(&group);
	storm_end();
}

/* ---- death ---- */

static void who_is_killed_is_gone_for_all(void **state)
{
	tdr_future *future;
	struct group group;

	storm_begin(&group, first_seed(), PATIENCE_MS);
	connect_all(&group);
	future = tdr_rpc_async(group.agents[0], "worker1", "test::stop", NULL, NULL);
	gate_await(&gate, 1);
	expect_ok(sim_network_kill(network, address_of(1)));
	expect_future(future, TDR_EWORKERGONE, "'worker1'");
	gate_open(&gate);
	for (size_t i = 0; i < MEMBERS; i++)
		if (i != 1)
			expect_status(tdr_rpc_sync(group.agents[i], "worker1", "test::echo", TDR_ARGS(1), NULL, NULL),
			              TDR_EWORKERGONE);
	call_ok(group.agents[2], "worker3", "test::echo", TDR_ARGS(1));
	group_drop(&group);
	storm_end();
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
	    TEST(calls_run_at_most_once),
	    TEST(collectives_come_through),
	    TEST(a_silence_within_the_bound_only_delays),
	    TEST(an_answer_is_held),
	    TEST(a_silence_past_the_bound_is_the_end),
	    TEST(who_is_killed_is_gone_for_all),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
