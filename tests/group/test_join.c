/* SPDX-License-Identifier: Apache-2.0 */
/* Joining: how members meet, and every way in which they may fail to. */
#include "group.h"

#include "support/places.h"
#include "support/processes.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- meeting, each member as the test wants it ---- */

enum {
	MOST = 8
};

struct member {
	const char *name;
	int64_t rank, world_size, timeout_ms;
	const char *group;
};

struct meeting {
	const struct member *members;
	tdr_store *store;
	tdr_agent *agents[MOST];
	struct outcome outcomes[MOST];
};

static void join_as(void *context, size_t index)
{
	struct meeting *meeting = context;
	const struct member *member = &meeting->members[index];
	struct outcome *outcome = &meeting->outcomes[index];
	tdr_agent_options options;

	member_options(&options, (size_t)member->rank, (size_t)member->world_size, meeting->store);
	options.join_timeout_ms = member->timeout_ms ? member->timeout_ms : PATIENCE_MS;
	options.group = member->group;
	meeting->agents[index] = tdr_agent_new(member->name, &options);
	expect_true(meeting->agents[index] != NULL);
	outcome->status = tdr_join(meeting->agents[index]);
	snprintf(outcome->text, sizeof(outcome->text), "%s", outcome->status != TDR_OK ? tdr_last_error() : "");
}

static void leave_as(void *context, size_t index)
{
	struct meeting *meeting = context;

	if (meeting->outcomes[index].status == TDR_OK)
		expect_ok(tdr_shutdown(meeting->agents[index], NULL));
	else
		tdr_agent_unref(meeting->agents[index]);
	meeting->agents[index] = NULL;
}

/* All join at once; what came of it is in the outcomes. */
static void meet(struct meeting *meeting, const struct member *members, size_t count, tdr_store *store)
{
	*meeting = (struct meeting){.members = members, .store = store};
	in_parallel(count, join_as, meeting);
}

/* The same, where all are expected to fail alike, and leaves again. */
static void meet_in_vain(const struct member *members, size_t count, tdr_status status, const char *part)
{
	struct meeting meeting;
	tdr_store *store;

	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	meet(&meeting, members, count, store);
	for (size_t i = 0; i < count; i++) {
		expect_true(meeting.outcomes[i].status == status);
		expect_text(meeting.outcomes[i].text, part);
	}
	in_parallel(count, leave_as, &meeting);
	tdr_store_unref(store);
}

static void a_group_of_one_works(void **state)
{
	tdr_worker worker;
	struct group group;

	group_start(&group, 1, NULL);
	expect_true(tdr_worker_count(group.agents[0]) == 1);
	expect_ok(tdr_worker_at(group.agents[0], 0, &worker));
	call_ok(group.agents[0], "worker0", "test::echo", TDR_ARGS(1));
	expect_ok(tdr_barrier(group.agents[0], 0, NULL, PATIENCE_MS));
	group_end(&group);
}

static void a_name_twice_fails_all_members(void **state)
{
	const struct member members[] = {
	    {.name = "a", .rank = 0, .world_size = 4},
	    {.name = "same", .rank = 1, .world_size = 4},
	    {.name = "b", .rank = 2, .world_size = 4},
	    {.name = "same", .rank = 3, .world_size = 4},
	};

	meet_in_vain(members, 4, TDR_EEXISTS,
	             "RPC worker name same is not unique. Workers 1 and 3 share the same name.");
}

static void members_that_differ_over_the_size_all_fail(void **state)
{
	const struct member members[] = {
	    {.name = "a", .rank = 0, .world_size = 3},
	    {.name = "b", .rank = 1, .world_size = 3},
	    {.name = "c", .rank = 2, .world_size = 4},
	};

	meet_in_vain(members, 3, TDR_EMISMATCH, "rank 0 says 3, rank 2 ('c') says 4");
}

/* Rank 0 and 1 are two, as they say; only the third can know that he is of another opinion. */
static void a_member_of_a_larger_group_fails_alone(void **state)
{
	const struct member members[] = {
	    {.name = "a", .rank = 0, .world_size = 2},
	    {.name = "b", .rank = 1, .world_size = 2},
	    {.name = "c", .rank = 2, .world_size = 3},
	};
	struct meeting meeting;
	tdr_store *store;

	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	meet(&meeting, members, 3, store);
	expect_true(meeting.outcomes[0].status == TDR_OK && meeting.outcomes[1].status == TDR_OK);
	expect_true(meeting.outcomes[2].status == TDR_EMISMATCH);
	expect_text(meeting.outcomes[2].text, "the group has 2 members, not 3");
	in_parallel(3, leave_as, &meeting);
	tdr_store_unref(store);
}

static void missing_ranks_are_named_by_all(void **state)
{
	const struct member without_one_and_three[] = {
	    {.name = "a", .rank = 0, .world_size = 4, .timeout_ms = 300},
	    {.name = "c", .rank = 2, .world_size = 4, .timeout_ms = 300},
	};
	const struct member without_zero[] = {
	    {.name = "b", .rank = 1, .world_size = 3, .timeout_ms = 300},
	    {.name = "c", .rank = 2, .world_size = 3, .timeout_ms = 300},
	};

	meet_in_vain(without_one_and_three, 2, TDR_ETIMEDOUT, "missing: rank 1, 3");
	meet_in_vain(without_zero, 2, TDR_ETIMEDOUT, "missing: rank 0");
}

/* One of the two is a member; the other is told, and changes nothing for groups that come after. */
static void a_rank_twice_fails_one_of_them(void **state)
{
	const struct member members[] = {
	    {.name = "a", .rank = 0, .world_size = 2},
	    {.name = "b", .rank = 1, .world_size = 2},
	    {.name = "c", .rank = 1, .world_size = 2},
	};
	tdr_store *store;

	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	for (int round = 0; round < 3; round++) {
		struct meeting meeting;
		int failed;

		meet(&meeting, members, 3, store);
		failed = meeting.outcomes[1].status == TDR_OK ? 2 : 1;
		expect_true(meeting.outcomes[0].status == TDR_OK && meeting.outcomes[3 - failed].status == TDR_OK);
		expect_true(meeting.outcomes[failed].status == TDR_EEXISTS);
		expect_text(meeting.outcomes[failed].text, "another process has the same rank");
		in_parallel(3, leave_as, &meeting);
	}
	tdr_store_unref(store);
}

static void a_store_serves_one_group_after_the_other(void **state)
{
	const struct member members[] = {
	    {.name = "a", .rank = 0, .world_size = 2},
	    {.name = "b", .rank = 1, .world_size = 2},
	};
	tdr_store *store;

	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	for (int round = 0; round < 5; round++) {
		struct meeting meeting;

		meet(&meeting, members, 2, store);
		for (int i = 0; i < 2; i++)
			expect_true(meeting.outcomes[i].status == TDR_OK);
		expect_status(tdr_rpc_sync(meeting.agents[0], "b", "no::function", NULL, NULL, NULL), TDR_ENOFUNCTION);
		in_parallel(2, leave_as, &meeting);
	}
	tdr_store_unref(store);
}

static void two_groups_meet_in_one_store(void **state)
{
	const struct member members[] = {
	    {.name = "a", .rank = 0, .world_size = 2, .group = "one"},
	    {.name = "b", .rank = 1, .world_size = 2, .group = "one"},
	    {.name = "a", .rank = 0, .world_size = 2, .group = "two"},
	    {.name = "c", .rank = 1, .world_size = 2, .group = "two"},
	};
	struct meeting meeting;
	tdr_store *store;

	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	meet(&meeting, members, 4, store);
	for (int i = 0; i < 4; i++)
		expect_true(meeting.outcomes[i].status == TDR_OK);
	expect_status(tdr_rpc_sync(meeting.agents[0], "b", "no::function", NULL, NULL, NULL), TDR_ENOFUNCTION);
	expect_status(tdr_rpc_sync(meeting.agents[0], "c", "no::function", NULL, NULL, NULL), TDR_ENOWORKER);
	expect_status(tdr_rpc_sync(meeting.agents[2], "c", "no::function", NULL, NULL, NULL), TDR_ENOFUNCTION);
	in_parallel(4, leave_as, &meeting);
	tdr_store_unref(store);
}

/* ---- the wrong moment ---- */

static void before_joining_and_after_leaving_calls_are_refused(void **state)
{
	tdr_value *values = NULL;
	tdr_agent *agent;
	struct group group;

	group_make(&group, 1, NULL);
	agent = tdr_agent_ref(group.agents[0]);
	expect_true(tdr_worker_count(agent) == 0);
	expect_future(tdr_rpc_async(agent, "worker0", "test::echo", TDR_ARGS(1), NULL), TDR_ESTATE,
	              "call tdr_join first");
	expect_status(tdr_barrier(agent, 0, NULL, PATIENCE_MS), TDR_ESTATE);
	expect_ok(tdr_join(agent));
	expect_status(tdr_join(agent), TDR_ESTATE);
	call_ok(agent, "worker0", "test::echo", TDR_ARGS(1));
	expect_ok(tdr_shutdown(agent, NULL));
	agent = group.agents[0];
	expect_future(tdr_rpc_async(agent, "worker0", "test::echo", TDR_ARGS(1), NULL), TDR_ESHUTDOWN,
	              "has been shut down");
	expect_status(tdr_all_gather(agent, tdr_int(1), 0, NULL, PATIENCE_MS, &values), TDR_ESHUTDOWN);
	expect_status(tdr_join(agent), TDR_ESHUTDOWN);
	expect_status(tdr_shutdown(agent, NULL), TDR_ESHUTDOWN); /* it drops the reference */
	group.agents[0] = NULL;
	group_drop(&group);
}

static void an_agent_that_never_joins_can_be_dropped(void **state)
{
	struct group group;

	group_make(&group, 2, NULL);
	expect_status(tdr_shutdown(group.agents[0], NULL), TDR_ESTATE);
	group.agents[0] = NULL;
	group_drop(&group);
}

static _Atomic bool joining;

static void join_or_shut_down(void *context, size_t index)
{
	struct group *group = context;

	if (index == 0) {
		atomic_store(&joining, true);
		expect_status(tdr_join(group->agents[0]), TDR_ETIMEDOUT);
		return;
	}
	while (!atomic_load(&joining))
		pause_ms(1);
	pause_ms(100);
	expect_status(tdr_shutdown(group->agents[0], NULL), TDR_ESTATE);
	expect_error("tdr_join");
	expect_status(tdr_shutdown(group->agents[0], &(tdr_shutdown_options){.size = sizeof(tdr_shutdown_options)}),
	              TDR_ESTATE);
	expect_error("tdr_join");
}

static void join_for_a_second(size_t rank, tdr_agent_options *options)
{
	options->join_timeout_ms = 1000;
}

static void who_joins_cannot_be_shut_down(void **state)
{
	const struct group_config config = {.configure = join_for_a_second};
	struct group group;

	group_make(&group, 2, &config);
	in_parallel(2, join_or_shut_down, &group);
	group_drop(&group);
}

static void an_agent_that_failed_to_join_cannot_try_again(void **state)
{
	const struct member alone = {.name = "a", .rank = 0, .world_size = 2, .timeout_ms = 100};
	struct meeting meeting;
	tdr_store *store;

	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	meet(&meeting, &alone, 1, store);
	expect_true(meeting.outcomes[0].status == TDR_ETIMEDOUT);
	expect_status(tdr_join(meeting.agents[0]), TDR_ESHUTDOWN);
	expect_status(tdr_rpc_sync(meeting.agents[0], "a", "no::function", NULL, NULL, NULL), TDR_ESHUTDOWN);
	in_parallel(1, leave_as, &meeting);
	tdr_store_unref(store);
}

/* ---- names and options ---- */

static void bad_names_are_refused(void **state)
{
	static const char *const names[] = {NULL, "", "a b", "a/b", "a.b", "\xc3\xa4", "a\n"};
	char longest[128], too_long[129];
	tdr_agent *agent = NULL;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		expect_true(!tdr_agent_new(names[i], NULL));
		expect_error("Worker name must match");
		expect_status(tdr_init_rpc(names[i], NULL, &agent), TDR_EINVAL);
	}
	memset(longest, 'x', sizeof(longest));
	memset(too_long, 'x', sizeof(too_long));
	longest[127] = too_long[128] = '\0';
	expect_true(!tdr_agent_new(too_long, NULL));
	agent = tdr_agent_new(longest, NULL);
	expect_true(agent && strcmp(tdr_agent_worker(agent).name, longest) == 0);
	tdr_agent_unref(agent);
	agent = tdr_agent_new("a-B_3:x", NULL);
	expect_true(agent != NULL);
	tdr_agent_unref(agent);
}

static void expect_refused(const tdr_agent_options *options, const char *part)
{
	tdr_agent *agent = tdr_agent_new("a", options);

	expect_true(!agent);
	expect_error(part);
	tdr_agent_unref(agent);
}

static void expect_cannot_join(const tdr_agent_options *options, const char *part)
{
	tdr_agent *agent = NULL;

	expect_status(tdr_init_rpc("a", options, &agent), TDR_EINVAL);
	expect_error(part);
	expect_true(!agent);
}

static void wrong_options_are_refused(void **state)
{
	char long_group[200];
	tdr_agent_options options;
	tdr_store *store;

	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	tdr_agent_options_init(&options);
	options.size--;
	expect_refused(&options, "tdr_agent_options_init");
	tdr_agent_options_init(&options);
	options.rank = -2;
	expect_refused(&options, "option rank is -2");
	tdr_agent_options_init(&options);
	options.max_depth = 0;
	expect_refused(&options, "option max_depth is 0, outside 1 to 65535");
	setenv("TENDRIL_THREADS", "many", 1);
	expect_refused(NULL, "the environment variable TENDRIL_THREADS is 'many', not a whole number");
	setenv("TENDRIL_THREADS", "-1", 1);
	expect_refused(NULL, "option threads is -1");
	unsetenv("TENDRIL_THREADS");
	member_options(&options, 0, 1, store);
	options.rank = -1;
	expect_cannot_join(&options, "set the option `rank`");
	member_options(&options, 2, 2, store);
	expect_cannot_join(&options, "rank 2 is outside 0 to 1");
	member_options(&options, 0, 1, store);
	options.listen = "nonsense://here";
	expect_cannot_join(&options, "there is no transport for the address \"nonsense://here\"");
	member_options(&options, 0, 1, store);
	memset(long_group, 'g', sizeof(long_group));
	long_group[sizeof(long_group) - 1] = '\0';
	options.group = long_group;
	expect_cannot_join(&options, "option group has 199 bytes");
	member_options(&options, 0, 1, NULL);
	options.init_method = "carrier-pigeon://here";
	expect_cannot_join(&options, "carrier-pigeon");
	tdr_store_unref(store);
}

static void the_environment_sets_what_options_leave(void **state)
{
	tdr_agent_options options;
	tdr_agent *agent;

	setenv("TENDRIL_RPC_TIMEOUT_MS", "1234", 1);
	agent = tdr_agent_new("a", NULL);
	expect_true(agent && tdr_agent_rpc_timeout(agent) == 1234);
	tdr_agent_unref(agent);
	tdr_agent_options_init(&options);
	options.rpc_timeout_ms = 77;
	agent = tdr_agent_new("a", &options);
	expect_true(agent && tdr_agent_rpc_timeout(agent) == 77);
	tdr_agent_unref(agent);
	unsetenv("TENDRIL_RPC_TIMEOUT_MS");
}

/* ---- processes ---- */

enum {
	PROCESSES = 3
};

static struct plan {
	char url[512]; /* "": what the environment says, or the store at `port` */
	uint16_t port;
	bool given_store; /* tdr_store_tcp, to a server in the test's process */
} plan;

static tdr_status triple(tdr_call *call, void *context)
{
	return tdr_return_int(call, tdr_arg_int(call, 0) * 3);
}

static int member_main(void *context)
{
	size_t rank = (size_t)(uintptr_t)context;
	tdr_store *store = NULL;
	tdr_agent_options options;
	char text[32];
	tdr_agent *agent;

	if (plan.given_store && expect_ok(tdr_store_tcp("127.0.0.1", plan.port, PATIENCE_MS, &store)) != TDR_OK)
		return 1;
	tdr_agent_options_init(&options);
	options.store = store;
	options.join_timeout_ms = PATIENCE_MS;
	if (plan.url[0] || store) {
		options.init_method = plan.url[0] ? plan.url : NULL;
		options.rank = (int64_t)rank;
		options.world_size = PROCESSES;
	} else {
		snprintf(text, sizeof(text), "%zu", rank);
		setenv("RANK", text, 1);
		snprintf(text, sizeof(text), "%u", plan.port);
		setenv("MASTER_PORT", text, 1);
		setenv("MASTER_ADDR", "127.0.0.1", 1);
		setenv("WORLD_SIZE", "3", 1);
	}
	agent = tdr_agent_new(worker_name(rank), &options);
	tdr_store_unref(store);
	if (!agent)
		return 1;
	expect_ok(tdr_register(agent, "test::triple(int n) -> int", triple, NULL, TDR_FUNCTION_INLINE));
	if (expect_ok(tdr_join(agent)) != TDR_OK)
		return 1;
	for (size_t i = 0; i < PROCESSES; i++)
		expect_true(call_int(agent, worker_name(i), "test::triple", TDR_ARGS(i)) == (int64_t)i * 3);
	expect_ok(tdr_barrier(agent, 0, NULL, PATIENCE_MS));
	expect_ok(tdr_shutdown(agent, NULL));
	return expectations_failed() > 0;
}

static void start_members(struct process *members)
{
	for (size_t i = 0; i < PROCESSES; i++)
		members[i] =
		    (struct process){.name = worker_name(i), .run = member_main, .context = (void *)(uintptr_t)i};
	processes_start(members, PROCESSES);
}

static void processes_meet_by_the_environment(void **state)
{
	struct process members[PROCESSES];
	struct port port = port_reserve();

	plan = (struct plan){.port = port.number};
	start_members(members);
	processes_finish(members, PROCESSES, 2 * PATIENCE_MS);
	port_release(&port);
}

static void processes_meet_at_an_address(void **state)
{
	struct process members[PROCESSES];
	struct port port = port_reserve();

	plan = (struct plan){.port = port.number};
	snprintf(plan.url, sizeof(plan.url), "tcp://127.0.0.1:%u", port.number);
	start_members(members);
	processes_finish(members, PROCESSES, 2 * PATIENCE_MS);
	port_release(&port);
}

static void processes_meet_in_a_file(void **state)
{
	struct process members[PROCESSES];
	char *directory = tmpdir_new();

	plan = (struct plan){0};
	snprintf(plan.url, sizeof(plan.url), "file://%s/meeting", directory);
	start_members(members);
	processes_finish(members, PROCESSES, 2 * PATIENCE_MS);
	tmpdir_remove(directory);
}

static void processes_meet_in_a_store_of_their_own(void **state)
{
	struct process members[PROCESSES];
	struct port port = port_reserve();
	tdr_store_server_options options;
	tdr_store_server *server = NULL;

	plan = (struct plan){.port = port.number, .given_store = true};
	start_members(members); /* before there are threads; they try until the server is there */
	tdr_store_server_options_init(&options);
	options.port = port.number;
	expect_ok(tdr_store_server_open(&options, &server));
	processes_finish(members, PROCESSES, 2 * PATIENCE_MS);
	tdr_store_server_close(server);
	port_release(&port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(processes_meet_by_the_environment),
	    TEST(processes_meet_at_an_address),
	    TEST(processes_meet_in_a_file),
	    TEST(processes_meet_in_a_store_of_their_own),
	    TEST(a_group_of_one_works),
	    TEST(a_name_twice_fails_all_members),
	    TEST(members_that_differ_over_the_size_all_fail),
	    TEST(a_member_of_a_larger_group_fails_alone),
	    TEST(missing_ranks_are_named_by_all),
	    TEST(a_rank_twice_fails_one_of_them),
	    TEST(a_store_serves_one_group_after_the_other),
	    TEST(two_groups_meet_in_one_store),
	    TEST(before_joining_and_after_leaving_calls_are_refused),
	    TEST(an_agent_that_never_joins_can_be_dropped),
	    TEST(who_joins_cannot_be_shut_down),
	    TEST(an_agent_that_failed_to_join_cannot_try_again),
	    TEST(bad_names_are_refused),
	    TEST(wrong_options_are_refused),
	    TEST(the_environment_sets_what_options_leave),
	};

	return cmocka_run_group_tests_name("join", tests, NULL, NULL);
}
