/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives: gathers and barriers of groups and of parts of them, and what becomes of them when somebody does not come. */
#include "group.h"

#include "support/places.h"
#include "support/processes.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct group_config one_engine = {.share_engine = true};

/* ---- gathering ---- */

static tdr_value *contribution(size_t rank, int round)
{
	int64_t size = (int64_t)rank % 5;
	tdr_tensor *tensor = NULL;
	tdr_value *value;

	expect_ok(tdr_tensor_zeros(TDR_I64, 1, &size, &tensor));
	for (int64_t i = 0; i < size; i++)
		((int64_t *)tdr_tensor_data(tensor))[i] = (int64_t)rank * 1000 + round;
	value = TDR_ARGS(rank, round, tensor);
	tdr_tensor_unref(tensor);
	return value;
}

static const char *const evens[] = {"worker8", "worker4", "worker0", "worker6", "worker2"};
static const char *const odds[] = {"worker1", "worker3", "worker5", "worker7"};

/* Gathers once, among `names` [count] (0: all), and checks everybody's contribution. */
static void gather(tdr_agent *agent, size_t rank, int round, size_t count, const char *const names[], size_t size)
{
	tdr_value *all = NULL;

	if (expect_ok(tdr_all_gather(agent, contribution(rank, round), count, names, PATIENCE_MS, &all)) != TDR_OK)
		return;
	expect_true(tdr_value_count(all) == (count ? count : size));
	for (size_t i = 0; i < tdr_value_count(all); i++) {
		const char *name = count ? names[i] : worker_name(i);
		tdr_value *wanted = contribution((size_t)atoi(name + strlen("worker")), round);

		expect_true(tdr_dict_get(all, name) && tdr_value_equal(tdr_dict_get(all, name), wanted));
		tdr_value_unref(wanted);
	}
	tdr_value_unref(all);
}

enum {
	ROUNDS = 30
};

static void gather_often(void *context, size_t index)
{
	struct group *group = context;
	tdr_agent *agent = group->agents[index];

	for (int round = 0; round < ROUNDS; round++) {
		gather(agent, index, round, 0, NULL, group->count);
		if (index < 9 && index % 2 == 0)
			gather(agent, index, round, 5, evens, 0);
		if (index < 9 && index % 2 == 1)
			gather(agent, index, round, 4, odds, 0);
		expect_ok(tdr_barrier(agent, 0, NULL, PATIENCE_MS));
	}
}

static void all_get_what_all_bring(void **state)
{
	struct group group;

	group_start(&group, 13, &one_engine);
	in_parallel(13, gather_often, &group);
	group_end(&group);
}

static void gather_some(void *context, size_t index)
{
	struct group *group = context;

	for (int round = 0; round < 3; round++)
		gather(group->agents[index], index, round, 0, NULL, group->count);
}

static void forty_members_gather(void **state)
{
	struct group group;

	group_start(&group, 40, &one_engine);
	in_parallel(40, gather_some, &group);
	group_end(&group);
}

/* Nobody leaves a barrier before all have entered it. */
static _Atomic unsigned entered;

static void enter_barriers(void *context, size_t index)
{
	struct group *group = context;

	for (unsigned round = 1; round <= 20; round++) {
		atomic_fetch_add(&entered, 1);
		expect_ok(tdr_barrier(group->agents[index], 0, NULL, PATIENCE_MS));
		expect_true(atomic_load(&entered) >= round * group->count);
		expect_ok(tdr_barrier(group->agents[index], 0, NULL, PATIENCE_MS));
	}
}

static void barriers_hold_until_all_have_come(void **state)
{
	struct group group;

	atomic_store(&entered, 0);
	group_start(&group, 6, NULL);
	in_parallel(6, enter_barriers, &group);
	group_end(&group);
}

/* Worker 0 is in all the pairs at once, each in a thread of its own. */
static void gather_in_pairs(void *context, size_t index)
{
	struct group *group = context;
	size_t other = index / 2 + 1;
	const char *names[] = {"worker0", worker_name(other)};
	size_t rank = index % 2 ? other : 0;

	for (int round = 0; round < ROUNDS; round++)
		gather(group->agents[rank], rank, round, 2, names, 0);
}

static void different_sets_do_not_meet(void **state)
{
	struct group group;

	group_start(&group, 5, NULL);
	in_parallel(8, gather_in_pairs, &group);
	group_end(&group);
}

static tdr_status barrier_inside(tdr_call *call, void *context)
{
	return tdr_barrier(context, 0, NULL, PATIENCE_MS);
}

static void prepare_barrier(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::barrier()", barrier_inside, agent, 0));
	expect_ok(tdr_register(agent, "test::barrier_inline()", barrier_inside, agent, TDR_FUNCTION_INLINE));
}

static void functions_may_gather_unless_inline(void **state)
{
	const struct group_config config = {.prepare = prepare_barrier};
	tdr_future *futures[3];
	struct group group;

	group_start(&group, 3, &config);
	for (size_t i = 0; i < 3; i++)
		futures[i] = tdr_rpc_async(group.agents[0], worker_name(i), "test::barrier", NULL, NULL);
	for (size_t i = 0; i < 3; i++)
		expect_future(futures[i], TDR_OK, NULL);
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::barrier_inline", NULL, NULL, NULL), TDR_ESTATE);
	group_end(&group);
}

/* ---- what is refused ---- */

static void wrong_sets_and_values_are_refused(void **state)
{
	const char *const without[] = {"worker1", "worker2"}, *const twice[] = {"worker0", "worker1", "worker1"};
	const char *const unknown[] = {"worker0", "nobody"}, *const many[] = {"a", "b", "c", "d"};
	tdr_value *list = tdr_list(0, NULL), *all = NULL;
	tdr_agent *agent;
	struct group group;

	group_start(&group, 3, NULL);
	agent = group.agents[0];
	expect_status(tdr_barrier(agent, 2, without, PATIENCE_MS), TDR_EINVAL);
	expect_error("a collective that does not name it");
	expect_status(tdr_barrier(agent, 3, twice, PATIENCE_MS), TDR_EINVAL);
	expect_error("'worker1' is named twice");
	expect_status(tdr_barrier(agent, 2, unknown, PATIENCE_MS), TDR_ENOWORKER);
	expect_status(tdr_barrier(agent, 4, many, PATIENCE_MS), TDR_EINVAL);
	expect_status(tdr_all_gather(agent, tdr_string("\xff"), 0, NULL, PATIENCE_MS, &all), TDR_EINVAL);
	expect_status(tdr_all_gather(agent, TDR_ARGS(tdr_value_ref(list), list), 0, NULL, PATIENCE_MS, &all),
	              TDR_ESHARED);
	expect_true(!all);
	in_parallel(3, gather_some, &group); /* none of these counted */
	group_end(&group);
}

/* ---- somebody does not come ---- */

struct absence {
	struct group *group;
	size_t absent;
	tdr_status status;
	char part[64];
};

static void barrier_without(void *context, size_t index)
{
	struct absence *absence = context;

	if (index == absence->absent)
		return;
	expect_status(tdr_barrier(absence->group->agents[index], 0, NULL, 700), absence->status);
	expect_error(absence->part);
}

static void who_does_not_come_is_named(void **state)
{
	static const size_t absents[] = {0, 1, 5, 12};

	for (size_t i = 0; i < sizeof(absents) / sizeof(absents[0]); i++) {
		struct group group;
		struct absence absence = {.group = &group, .absent = absents[i], .status = TDR_ETIMEDOUT};

		group_start(&group, 13, &one_engine);
		snprintf(absence.part, sizeof(absence.part), "'worker%zu'", absents[i]);
		in_parallel(13, barrier_without, &absence);
		/* Who comes late learns the same, and is in step again. */
		expect_status(tdr_barrier(group.agents[absents[i]], 0, NULL, 700), TDR_ETIMEDOUT);
		in_parallel(13, gather_some, &group);
		group_end(&group);
	}
}

static void who_has_left_is_named(void **state)
{
	static const size_t absents[] = {0, 1, 5, 12};

	for (size_t i = 0; i < sizeof(absents) / sizeof(absents[0]); i++) {
		struct group group;
		struct absence absence = {.group = &group, .absent = absents[i], .status = TDR_EWORKERGONE};
		tdr_shutdown_options at_once;

		tdr_shutdown_options_init(&at_once);
		at_once.graceful = false;
		group_start(&group, 13, &one_engine);
		in_parallel(13, gather_some, &group); /* connects them */
		snprintf(absence.part, sizeof(absence.part), "worker '%s'", worker_name(absents[i]));
		expect_ok(tdr_shutdown(group.agents[absents[i]], &at_once));
		group.agents[absents[i]] = NULL;
		in_parallel(13, barrier_without, &absence);
		group_drop(&group);
	}
}

/* ---- a member is killed ---- */

enum {
	PROCESSES = 6,
	VICTIM = 4
};

static uint16_t port;

static int barrier_main(void *context)
{
	size_t rank = (size_t)(uintptr_t)context;
	tdr_agent_options options;
	tdr_agent *agent = NULL;
	char url[64];

	member_options(&options, rank, PROCESSES, NULL);
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", port);
	options.init_method = url;
	if (expect_ok(tdr_init_rpc(worker_name(rank), &options, &agent)) != TDR_OK)
		return 1;
	expect_ok(tdr_barrier(agent, 0, NULL, PATIENCE_MS));
	if (rank == VICTIM)
		kill(getpid(), SIGKILL);
	expect_status(tdr_barrier(agent, 0, NULL, PATIENCE_MS), TDR_EWORKERGONE);
	expect_error("worker 'worker4' is gone");
	tdr_agent_unref(agent);
	return expectations_failed() > 0;
}

static void a_killed_member_is_named(void **state)
{
	struct process members[PROCESSES];
	struct port reserved = port_reserve();

	port = reserved.number;
	for (size_t i = 0; i < PROCESSES; i++)
		members[i] =
		    (struct process){.name = worker_name(i), .run = barrier_main, .context = (void *)(uintptr_t)i};
	members[VICTIM].expected_signal = SIGKILL;
	processes_start(members, PROCESSES);
	processes_finish(members, PROCESSES, 2 * PATIENCE_MS);
	port_release(&reserved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_killed_member_is_named),
	    TEST(all_get_what_all_bring),
	    TEST(forty_members_gather),
	    TEST(barriers_hold_until_all_have_come),
	    TEST(different_sets_do_not_meet),
	    TEST(functions_may_gather_unless_inline),
	    TEST(wrong_sets_and_values_are_refused),
	    TEST(who_does_not_come_is_named),
	    TEST(who_has_left_is_named),
	};

	return cmocka_run_group_tests_name("collectives", tests, NULL, NULL);
}
