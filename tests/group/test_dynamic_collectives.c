/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives of groups that change: who takes part, and what becomes of them when members come, leave and die. */
#include "group.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	STABLE = 3, /* members who stay */
	GUESTS = 3, /* threads in which members come and go */
	VISITS = 6, /* of each guest */
	ROUNDS = 3, /* of collectives in a visit */
};

static tdr_agent *join(const char *name, int64_t rank, tdr_store *store)
{
	tdr_agent_options options;
	tdr_agent *agent;

	member_options(&options, 0, 1, store);
	options.rank = rank;
	options.world_size = 0;
	agent = tdr_agent_new(name, &options);
	if (!agent)
		fail_msg("%s: %s", name, tdr_last_error());
	if (expect_ok(tdr_join(agent)) == TDR_OK)
		return agent;
	tdr_agent_unref(agent);
	return NULL;
}

static void leave(tdr_agent *agent)
{
	expect_ok(tdr_shutdown(agent, NULL));
}

/* ---- members who come and go ---- */

struct party {
	tdr_store *store;
	tdr_agent *hosts[STABLE];
	_Atomic unsigned guests; /* that have not left for good */
};

/*
 * One collective of everybody. A host brings the number of its round and whether it would stop; what all hosts bring must be of the
 * same round. Returns whether all hosts would stop.
 */
static bool gather_as(tdr_agent *agent, bool host, int64_t round, bool stop)
{
	tdr_value *all = NULL;
	bool all_stop = true;
	int64_t seen = -1;

	if (expect_ok(tdr_all_gather(agent, TDR_ARGS(host, round, stop), 0, NULL, PATIENCE_MS, &all)) != TDR_OK)
		return true;
	expect_true(tdr_dict_get(all, tdr_agent_worker(agent).name) != NULL);
	for (size_t i = 0; i < tdr_value_count(all); i++) {
		const tdr_value *item = tdr_dict_value(all, i);
		bool from_host = false, would_stop = false;
		int64_t number = 0;

		expect_ok(tdr_value_get_bool(tdr_value_item(item, 0), &from_host));
		expect_ok(tdr_value_get_int(tdr_value_item(item, 1), &number));
		expect_ok(tdr_value_get_bool(tdr_value_item(item, 2), &would_stop));
		if (!from_host)
			continue;
		expect_true(seen < 0 || number == seen);
		seen = number;
		all_stop = all_stop && would_stop;
	}
	tdr_value_unref(all);
	return all_stop;
}

static void be_host_or_guest(void *context, size_t index)
{
	struct party *party = context;

	if (index < STABLE) {
		for (int64_t round = 0;; round++)
			if (gather_as(party->hosts[index], true, round, atomic_load(&party->guests) == 0))
				break;
		return;
	}
	for (int visit = 0; visit < VISITS; visit++) {
		tdr_agent *guest = join(worker_name(index), -1, party->store);

		for (int round = 0; guest && round < ROUNDS; round++)
			gather_as(guest, false, 0, false);
		if (guest)
			leave(guest);
	}
	atomic_fetch_sub(&party->guests, 1);
}

static void all_take_part_who_are_there(void **state)
{
	struct party party = {0};

	assert_int_equal(tdr_store_hash(&party.store), TDR_OK);
	atomic_store(&party.guests, GUESTS);
	for (size_t i = 0; i < STABLE; i++)
		party.hosts[i] = join(worker_name(i), (int64_t)(i * 3), party.store); /* guests come between them */
	in_parallel(STABLE + GUESTS, be_host_or_guest, &party);
	for (size_t i = 0; i < STABLE; i++)
		leave(party.hosts[i]);
	tdr_store_unref(party.store);
}

/* ---- one who does not come ---- */

struct meeting {
	tdr_store *store;
	tdr_agent *agents[6];
	size_t count;
	_Atomic(tdr_agent *) newcomer;
	tdr_status statuses[6];
	char texts[6][256];
};

static void start(struct meeting *meeting, size_t count)
{
	*meeting = (struct meeting){.count = count};
	assert_int_equal(tdr_store_hash(&meeting->store), TDR_OK);
	for (size_t i = 0; i < count; i++)
		meeting->agents[i] = join(worker_name(i), (int64_t)i, meeting->store);
}

static void end(struct meeting *meeting)
{
	for (size_t i = 0; i < meeting->count; i++)
		if (meeting->agents[i])
			leave(meeting->agents[i]);
	tdr_store_unref(meeting->store);
}

/* All but the one at `count - 1` enter a barrier, which then goes: in good order, or not. */
static void wait_for_one(struct meeting *meeting, size_t index, bool in_order)
{
	tdr_agent **agent = &meeting->agents[index];

	if (index + 1 < meeting->count) {
		meeting->statuses[index] = tdr_barrier(*agent, 0, NULL, PATIENCE_MS);
		snprintf(meeting->texts[index], sizeof(meeting->texts[0]), "%s", tdr_last_error());
		return;
	}
	pause_ms(300);
	if (in_order)
		leave(*agent);
	else
		tdr_agent_unref(*agent);
	*agent = NULL;
}

static void wait_for_one_who_leaves(void *context, size_t index)
{
	wait_for_one(context, index, true);
}

static void wait_for_one_who_dies(void *context, size_t index)
{
	wait_for_one(context, index, false);
}

static void enter_barriers(void *context, size_t index)
{
	struct meeting *meeting = context;

	if (!meeting->agents[index])
		return;
	for (int round = 0; round < 3; round++)
		expect_ok(tdr_barrier(meeting->agents[index], 0, NULL, PATIENCE_MS));
}

static void a_collective_goes_on_without_one_who_leaves(void **state)
{
	struct meeting meeting;

	start(&meeting, 6);
	in_parallel(6, wait_for_one_who_leaves, &meeting);
	for (size_t i = 0; i < 5; i++)
		expect_status(meeting.statuses[i], TDR_OK);
	in_parallel(6, enter_barriers, &meeting);
	end(&meeting);
}

static void a_collective_fails_for_all_when_one_dies(void **state)
{
	struct meeting meeting;

	start(&meeting, 6);
	in_parallel(6, wait_for_one_who_dies, &meeting);
	for (size_t i = 0; i < 5; i++) {
		expect_status(meeting.statuses[i], TDR_EWORKERGONE);
		expect_text(meeting.texts[i], "worker5");
	}
	in_parallel(6, enter_barriers, &meeting);
	end(&meeting);
}

/* The same, of the one who decides for all. */
static void wait_for_the_root(void *context, size_t index)
{
	struct meeting *meeting = context;

	if (index > 0) {
		expect_ok(tdr_barrier(meeting->agents[index], 0, NULL, PATIENCE_MS));
		return;
	}
	pause_ms(300);
	leave(meeting->agents[0]);
	meeting->agents[0] = NULL;
}

static void the_root_may_leave(void **state)
{
	struct meeting meeting;

	start(&meeting, 6);
	in_parallel(6, wait_for_the_root, &meeting);
	in_parallel(6, enter_barriers, &meeting);
	end(&meeting);
}

/* Those who wait begin anew with one who joins, and who has to come, too. */
static void wait_for_a_newcomer(void *context, size_t index)
{
	struct meeting *meeting = context;

	if (index == 1) { /* does not come before the other does */
		pause_ms(200);
		atomic_store(&meeting->newcomer, join("worker2", 2, meeting->store));
		pause_ms(100);
		expect_ok(tdr_barrier(meeting->agents[1], 0, NULL, PATIENCE_MS));
	} else if (index == 0) {
		tdr_value *all = NULL;

		expect_ok(tdr_all_gather(meeting->agents[0], tdr_none(), 0, NULL, PATIENCE_MS, &all));
		expect_true(tdr_value_count(all) == 3);
		tdr_value_unref(all);
	} else {
		while (!atomic_load(&meeting->newcomer))
			pause_ms(5);
		expect_ok(tdr_barrier(atomic_load(&meeting->newcomer), 0, NULL, PATIENCE_MS));
	}
}

static void who_joins_takes_part_in_what_has_begun(void **state)
{
	struct meeting meeting;

	start(&meeting, 2);
	in_parallel(3, wait_for_a_newcomer, &meeting);
	leave(atomic_load(&meeting.newcomer));
	end(&meeting);
}

/* ---- sets of some ---- */

static const char *const pair[] = {"worker0", "worker1"};

static void gather_in_pair(void *context, size_t index)
{
	struct meeting *meeting = context;

	for (int64_t round = 0; round < 10; round++) {
		tdr_value *all = NULL;
		int64_t number = -1;

		if (expect_ok(tdr_all_gather(meeting->agents[index], tdr_int(round), 2, pair, PATIENCE_MS, &all)) !=
		    TDR_OK)
			return;
		expect_ok(tdr_value_get_int(tdr_dict_get(all, pair[1 - index]), &number));
		expect_true(number == round);
		tdr_value_unref(all);
	}
}

/* The count of a set begins anew with a member that comes back, and others who come and go do not touch it. */
static void sets_of_some_outlive_changes(void **state)
{
	struct meeting meeting;

	start(&meeting, 3);
	in_parallel(2, gather_in_pair, &meeting);
	leave(meeting.agents[2]);
	meeting.agents[2] = NULL;
	in_parallel(2, gather_in_pair, &meeting);
	leave(meeting.agents[1]);
	expect_status(tdr_barrier(meeting.agents[0], 2, pair, PATIENCE_MS), TDR_ENOWORKER);
	meeting.agents[1] = join("worker1", 1, meeting.store);
	in_parallel(2, gather_in_pair, &meeting);
	tdr_agent_unref(meeting.agents[0]);
	meeting.agents[0] = join("worker0", 0, meeting.store);
	in_parallel(2, gather_in_pair, &meeting);
	end(&meeting);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(all_take_part_who_are_there),
	    TEST(a_collective_goes_on_without_one_who_leaves),
	    TEST(a_collective_fails_for_all_when_one_dies),
	    TEST(the_root_may_leave),
	    TEST(who_joins_takes_part_in_what_has_begun),
	    TEST(sets_of_some_outlive_changes),
	};

	return cmocka_run_group_tests_name("dynamic_collectives", tests, NULL, NULL);
}
