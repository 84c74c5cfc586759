/* SPDX-License-Identifier: Apache-2.0 */
/* References where the calls that create and fetch them fail, or come late: backend FAULTY. */
#include "apart.h"
#include "rrefs.h"

#include <stdio.h>

#define CONTROL "RREF_FORK_REQUEST,RREF_CHILD_ACCEPT,RREF_USER_DELETE"

static const char *fail_messages, *delay_messages; /* of the agents to come */

static void configure(size_t rank, tdr_agent_options *options)
{
	options->backend = "FAULTY";
	options->fail_messages = fail_messages;
	options->fail_sends = fail_messages ? 3 : 0;
	options->delay_messages = delay_messages;
}

static tdr_status add(tdr_call *call, void *context)
{
	return tdr_return_int(call, tdr_arg_int(call, 0) + tdr_arg_int(call, 1));
}

static void prepare(tdr_agent *agent, size_t rank)
{
	rrefs_prepare(agent, rank);
	expect_ok(tdr_register(agent, "python::add(int a, int b) -> int", add, NULL, 0));
}

static void start(struct group *group, size_t count, const char *failing, const char *delayed)
{
	fail_messages = failing;
	delay_messages = delayed;
	group_start(group, count, &(struct group_config){.configure = configure, .prepare = prepare});
}

/* Who used it is told that it may not exist. */
static void expect_unknown(struct group *group, tdr_rref *rref)
{
	tdr_rref_parts parts;
	tdr_value *value;

	await_count(group->agents[0], "rref.num_pending_users", 0); /* it is known by then */
	expect_true(tdr_rref_to_here(rref, PATIENCE_MS, &value) != TDR_OK);
	expect_error("RRef creation via rpc.remote() timed out, and it is possible that the RRef on the owner node "
	             "does not exist.");
	/* in bytes and as an argument, too */
	expect_true(tdr_rref_serialize(rref, &parts) != TDR_OK);
	expect_error("RRef creation via rpc.remote() timed out");
	expect_true(tdr_rpc_sync(group->agents[0], "worker2", "test::look", TDR_ARGS(rref), NULL, NULL) != TDR_OK);
	expect_error("RRef creation");
}

static void a_creation_that_was_not_sent_is_raised_on_use(void **state)
{
	static const char *const functions[] = {"test::add", "python::add"};

	for (size_t rank = 0; rank < 2; rank++) {
		struct group group;

		start(&group, 3, "SCRIPT_REMOTE_CALL,PYTHON_REMOTE_CALL", NULL);
		for (size_t i = 0; i < 2; i++) {
			tdr_rref *rref =
			    tdr_remote(group.agents[0], worker_name(rank), functions[i], TDR_ARGS(1, 2), NULL);

			expect_future(tdr_rref_future(rref), TDR_EIO, "Send attempt failed intentionally");
			expect_unknown(&group, rref);
			tdr_rref_unref(rref);
		}
		await_none(&group);
		group_end(&group);
	}
}

/* The caller gives up; the owner makes the value all the same, and counts its creator until that lets go. */
static void a_creation_that_comes_late_is_counted(void **state)
{
	struct group group;
	tdr_rpc_options options = within(1);
	tdr_rref *rrefs[2];

	start(&group, 3, NULL, "SCRIPT_REMOTE_CALL=1,PYTHON_REMOTE_CALL=1");
	rrefs[0] = tdr_remote_with(group.agents[0], "worker1", "test::add", TDR_ARGS(1, 2), NULL, &options);
	rrefs[1] = tdr_remote_with(group.agents[0], "worker1", "python::add", TDR_ARGS(1, 2), NULL, &options);
	for (size_t i = 0; i < 2; i++) {
		expect_future(tdr_rref_future(rrefs[i]), TDR_ETIMEDOUT, NULL);
		expect_unknown(&group, rrefs[i]);
	}
	await_count(group.agents[1], "rref.num_owner_rrefs", 2);
	expect_true(count_of(group.agents[1], "rref.num_forks") == 2);
	for (size_t i = 0; i < 2; i++)
		tdr_rref_unref(rrefs[i]);
	await_none(&group);
	group_end(&group);
}

static void a_late_creation_at_oneself(void **state)
{
	struct group group;
	tdr_rpc_options options = within(1);
	tdr_rref *rref;

	start(&group, 3, NULL, "SCRIPT_REMOTE_CALL=1");
	rref = tdr_remote_with(group.agents[0], "worker0", "test::add", TDR_ARGS(1, 2), NULL, &options);
	expect_future(tdr_rref_future(rref), TDR_ETIMEDOUT, NULL);
	expect_unknown(&group, rref);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

/* A creation that nobody holds any more when it comes is not run for nothing, and leaves nothing. */
static void a_late_creation_that_was_let_go(void **state)
{
	struct group group;
	tdr_rpc_options options = within(1);

	start(&group, 2, NULL, "SCRIPT_REMOTE_CALL=1");
	for (size_t rank = 0; rank < 2; rank++)
		tdr_rref_unref(
		    tdr_remote_with(group.agents[0], worker_name(rank), "test::object", NULL, NULL, &options));
	await_none(&group);
	group_end(&group);
}

static void a_shutdown_beside_late_creations_has_no_leak(void **state)
{
	struct group group;
	tdr_rpc_options options = within(1);
	tdr_rref *rref;

	start(&group, 3, NULL, "SCRIPT_REMOTE_CALL=1,RREF_USER_DELETE=1,RREF_FORK_REQUEST=1");
	rref = tdr_remote_with(group.agents[0], "worker1", "test::add", TDR_ARGS(1, 2), NULL, &options);
	expect_future(tdr_rref_future(rref), TDR_ETIMEDOUT, NULL);
	group_end(&group);
	tdr_rref_unref(rref);
}

static void a_fetch_that_is_late_may_be_made_again(void **state)
{
	struct group group;
	tdr_value *value;
	tdr_rref *rref;

	start(&group, 2, NULL, "SCRIPT_RREF_FETCH_CALL=1");
	rref = remote_int(group.agents[0], "worker1", 4);
	expect_status(tdr_rref_to_here(rref, 10, &value), TDR_ETIMEDOUT);
	expect_error("RPC ran for more than set timeout (10 ms)");
	expect_ok(tdr_rref_to_here(rref, TDR_TIMEOUT_NEVER, &value));
	tdr_value_unref(value);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

static void a_fetch_that_fails_may_be_made_again(void **state)
{
	struct group group;
	tdr_value *value;
	tdr_rref *rref;

	start(&group, 2, "SCRIPT_RREF_FETCH_CALL", NULL);
	rref = remote_int(group.agents[0], "worker1", 4);
	for (int i = 0; i < 3; i++)
		expect_status(tdr_rref_to_here(rref, PATIENCE_MS, &value), TDR_EIO);
	expect_true(here(rref) == 4);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

/* Calls of a user's may fail as often as they like: what they carried is not counted for ever. */
static void a_message_that_fails_leaves_nothing_counted(void **state)
{
	struct group group;
	tdr_rref *rref, *own;

	start(&group, 3, "SCRIPT_CALL", NULL);
	rref = remote_int(group.agents[0], "worker1", 4);
	own = tdr_rref_new(group.agents[0], tdr_int(1));
	for (size_t rank = 0; rank < 3; rank++)
		expect_status(
		    tdr_rpc_sync(group.agents[0], worker_name(rank), "test::look", TDR_ARGS(rref, own), NULL, NULL),
		    TDR_EIO);
	await_count(group.agents[0], "rref.num_pending_children", 0);
	await_count(group.agents[0], "rref.num_owner_rrefs", 0);
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
	await_none(&group);
	group_end(&group);
}

static void letters_that_fail_are_sent_again(void **state)
{
	struct group group;
	tdr_rref *rref;

	start(&group, 4, CONTROL, NULL);
	rref = remote_int(group.agents[0], "worker1", 4);
	expect_true(call_int(group.agents[0], "worker2", "test::hop", TDR_ARGS(rref, 1)) == 4);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

static bool is_kept(void *context)
{
	return rrefs_kept(0) != NULL;
}

static void letters_that_come_late_come_in_any_order(void **state)
{
	struct group group;
	tdr_rref *rref;

	start(&group, 4, NULL, "RREF_FORK_REQUEST=0.9,RREF_CHILD_ACCEPT=0.3,RREF_USER_DELETE=0.1");
	rref = remote_int(group.agents[0], "worker1", 4);
	call_ok(group.agents[0], "worker2", "test::relay", TDR_ARGS(rref, 1, 0)); /* to worker3 */
	tdr_rref_unref(rref);
	eventually(is_kept, NULL);
	await_none(&(struct group){.count = 1, .agents = &group.agents[0]});
	await_none(&(struct group){.count = 1, .agents = &group.agents[2]});
	expect_true(count_of(group.agents[1], "rref.num_forks") == 1);
	call_ok(group.agents[1], "worker3", "test::drop", TDR_ARGS(0));
	await_none(&group);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_creation_that_was_not_sent_is_raised_on_use),
	    TEST(a_creation_that_comes_late_is_counted),
	    TEST(a_late_creation_at_oneself),
	    TEST(a_late_creation_that_was_let_go),
	    TEST(a_shutdown_beside_late_creations_has_no_leak),
	    TEST(a_fetch_that_is_late_may_be_made_again),
	    TEST(a_fetch_that_fails_may_be_made_again),
	    TEST(a_message_that_fails_leaves_nothing_counted),
	    TEST(letters_that_fail_are_sent_again),
	    TEST(letters_that_come_late_come_in_any_order),
	};

	return RUN_TESTS(tests);
}
