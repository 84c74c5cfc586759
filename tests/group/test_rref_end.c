/* SPDX-License-Identifier: Apache-2.0 */
/* The end of references: at shutdown, by tdr_rref_delete_all, in a process made by fork; and who still holds what. */
#include "apart.h"
#include "rrefs.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whatever is done with it fails clearly, and what asks for no value goes on working. */
static void expect_inert(tdr_rref *rref, tdr_rref *other)
{
	tdr_value *value, *wrapped;
	tdr_future *future;
	tdr_rref *made;
	char text[256];

	expect_status(tdr_rref_to_here(rref, PATIENCE_MS, &value), TDR_ESTATE);
	expect_error("has been deleted. Cannot call to_here() on it after deletion.");
	expect_future(tdr_rref_fetch(rref, PATIENCE_MS), TDR_ESTATE, "has been deleted");
	expect_status(tdr_rref_local_value(rref, PATIENCE_MS, &value), TDR_ESTATE);
	expect_true(tdr_rref_rpc_sync(rref, "test::add", TDR_ARGS(1), NULL, NULL) != TDR_OK);
	future = tdr_rref_rpc_async(rref, "test::add", TDR_ARGS(1), NULL);
	expect_true(tdr_future_wait(future, PATIENCE_MS, NULL) != TDR_OK);
	tdr_future_unref(future);
	made = tdr_rref_remote(rref, "test::add", TDR_ARGS(1), NULL);
	expect_true(tdr_rref_to_here(made, PATIENCE_MS, &value) != TDR_OK);
	tdr_rref_unref(made);
	(void)!tdr_rref_wait_confirmed(rref, PATIENCE_MS);
	tdr_future_unref(tdr_rref_future(rref));
	expect_text(tdr_rref_owner_name(rref), "worker1");
	expect_true(!tdr_rref_is_owner(rref));
	expect_true(tdr_rref_confirmed_by_owner(rref)); /* for good */
	expect_true(tdr_rref_equal(rref, rref) && !tdr_rref_equal(rref, other));
	tdr_rref_print(rref, text, sizeof(text));
	expect_text(text, "UserRRef(");
	wrapped = tdr_rref_value(rref);
	expect_true(tdr_value_equal(wrapped, wrapped));
	tdr_value_unref(wrapped);
}

static void handles_outlive_their_agent(void **state)
{
	struct group group;
	tdr_rref *rref, *own, *failed, *made;
	tdr_value *value;
	int64_t number = 0;

	group_start(&group, 2, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 4);
	own = tdr_rref_new(group.agents[0], tdr_int(7));
	failed = tdr_remote(group.agents[0], "nobody", "test::add", NULL, NULL);
	made = remote_int(group.agents[0], "worker0", 8);
	expect_true(here(rref) == 4);
	call_ok(group.agents[0], "worker1", "test::keep", TDR_ARGS(0, own));
	group_end(&group);
	expect_inert(rref, own);
	/* an owner's still gives its value */
	expect_ok(tdr_rref_to_here(own, PATIENCE_MS, &value));
	expect_ok(tdr_value_get_int(value, &number));
	expect_true(number == 7);
	tdr_value_unref(value);
	expect_ok(tdr_rref_local_value(made, PATIENCE_MS, &value));
	tdr_value_unref(value);
	expect_future(tdr_rref_fetch(made, PATIENCE_MS), TDR_OK, NULL);
	expect_true(tdr_rref_confirmed_by_owner(own));
	expect_text(tdr_rref_owner_name(own), "worker0");
	expect_status(tdr_rref_rpc_sync(own, "test::add", TDR_ARGS(1), NULL, NULL), TDR_ESHUTDOWN);
	expect_status(tdr_rref_to_here(failed, PATIENCE_MS, &value), TDR_ENOWORKER);
	/* kept by a function of the other agent, which is gone, too */
	expect_status(tdr_rref_to_here(rrefs_kept(0), PATIENCE_MS, &value), TDR_ESTATE);
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
	tdr_rref_unref(made);
	tdr_rref_unref(failed);
	rrefs_drop(0);
}

static void handles_outlive_an_agent_that_was_dropped(void **state)
{
	struct group group;
	tdr_future *future, *settled;
	tdr_rref *rref, *local;
	tdr_status status;
	tdr_value *value;

	group_start(&group, 2, &rrefs_config);
	gate_close(&rrefs_gate);
	rref = tdr_remote(group.agents[0], "worker1", "test::held", TDR_ARGS(1), NULL);
	local = tdr_remote(group.agents[0], "worker0", "test::later", NULL, NULL);
	future = tdr_rref_future(rref);
	settled = tdr_rref_fetch(local, PATIENCE_MS);
	gate_await(&rrefs_gate, 1);
	gate_open(&rrefs_gate);
	group_drop(&group);
	expect_true(tdr_future_wait(future, PATIENCE_MS, NULL) != TDR_ETIMEDOUT);
	/* by the function's own future, or by the agent, whichever was cancelled first */
	status = tdr_future_wait(settled, PATIENCE_MS, NULL);
	expect_true(status == TDR_ESHUTDOWN || status == TDR_ECANCELED);
	expect_true(tdr_rref_to_here(rref, PATIENCE_MS, &value) != TDR_OK);
	expect_status(tdr_rref_to_here(local, PATIENCE_MS, &value), status);
	tdr_future_unref(future);
	tdr_future_unref(settled);
	tdr_rref_unref(rref);
	tdr_rref_unref(local);
	tdr_future_unref(atomic_exchange(&rrefs_later, NULL));
}

/* ---- letting go of all ---- */

static void delete_all(void *context, size_t index)
{
	const struct group *group = context;

	expect_ok(tdr_rref_delete_all(group->agents[index], PATIENCE_MS));
}

static void all_can_be_let_go_of_at_once(void **state)
{
	struct group group;
	tdr_rref *rref, *own;
	tdr_value *value;

	group_start(&group, 3, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 4);
	own = tdr_rref_new(group.agents[0], tdr_int(7));
	call_ok(group.agents[0], "worker2", "test::keep", TDR_ARGS(0, rref));
	call_ok(group.agents[0], "worker2", "test::keep", TDR_ARGS(1, own));
	expect_true(here(rref) == 4);
	in_parallel(group.count, delete_all, &group);
	await_none(&(struct group){.count = 1, .agents = &group.agents[1]});
	expect_inert(rref, own);
	expect_status(tdr_rref_to_here(rrefs_kept(0), PATIENCE_MS, &value), TDR_ESTATE);
	expect_status(tdr_rpc_sync(group.agents[0], "worker2", "test::look", TDR_ARGS(rref), NULL, NULL), TDR_ESTATE);
	expect_error("has been deleted. Cannot call fork an UserRRef after deletion.");
	tdr_rref_unref(rref);
	/* the group goes on */
	rref = remote_int(group.agents[0], "worker1", 5);
	expect_true(call_int(group.agents[0], "worker2", "test::look", TDR_ARGS(rref)) == 5);
	expect_true(call_int(group.agents[0], "worker2", "test::look", TDR_ARGS(own)) == 7);
	in_parallel(group.count, delete_all, &group);
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
	rrefs_drop(0);
	rrefs_drop(1);
	await_none(&group);
	group_end(&group);
}

static void what_is_held_elsewhere_is_told(void **state)
{
	struct group group;
	const char *text;
	tdr_value *leaks;
	tdr_rref *own;
	size_t size;

	group_start(&group, 2, &rrefs_config);
	own = tdr_rref_new(group.agents[0], tdr_int(7));
	expect_ok(tdr_rref_leaks(group.agents[0], &leaks));
	expect_ok(tdr_value_get_string(leaks, &text, &size));
	expect_true(size == 0);
	tdr_value_unref(leaks);
	call_ok(group.agents[0], "worker1", "test::keep", TDR_ARGS(0, own));
	expect_ok(tdr_rref_leaks(group.agents[0], &leaks));
	expect_ok(tdr_value_get_string(leaks, &text, &size));
	expect_text(text, "Leaking RRef GloballyUniqueId(created_on=0, local_id=0) with fork Id "
	                  "GloballyUniqueId(created_on=0, local_id=1), held by worker 'worker1'");
	tdr_value_unref(leaks);
	expect_status(tdr_rref_delete_all(group.agents[0], 300), TDR_ETIMEDOUT); /* the other does not */
	expect_error("held by worker 'worker1'");
	tdr_rref_unref(own);
	rrefs_drop(0);
	await_none(&group);
	group_end(&group);
}

/* ---- a shutdown that cannot be done in time ---- */

static void configure_deaf(size_t rank, tdr_agent_options *options)
{
	options->backend = "FAULTY";
	options->fail_messages = "RREF_USER_DELETE";
	options->fail_sends = 1000;
	options->shutdown_timeout_ms = 2000;
}

struct ending {
	struct group *group;
	struct outcome outcomes[2];
};

static void end_one(void *context, size_t index)
{
	struct ending *ending = context;
	struct outcome *outcome = &ending->outcomes[index];

	outcome->status = tdr_shutdown(ending->group->agents[index], NULL);
	snprintf(outcome->text, sizeof(outcome->text), "%s", tdr_last_error());
	ending->group->agents[index] = NULL;
}

static void a_shutdown_tells_what_is_held(void **state)
{
	struct group group;
	struct ending ending = {.group = &group};
	tdr_rref *own;

	group_start(&group, 2, &(struct group_config){.configure = configure_deaf, .prepare = rrefs_prepare});
	own = tdr_rref_new(group.agents[0], tdr_int(7));
	call_ok(group.agents[0], "worker1", "test::keep", TDR_ARGS(0, own));
	in_parallel(2, end_one, &ending);
	expect_status(ending.outcomes[0].status, TDR_ETIMEDOUT);
	expect_text(ending.outcomes[0].text, "held by worker 'worker1'");
	/* The other's time ends so too, or by what the first one says when his is over, which may come before. */
	expect_status(ending.outcomes[1].status, TDR_ETIMEDOUT);
	group_drop(&group);
	tdr_rref_unref(own);
	rrefs_drop(0);
}

static void a_shutdown_lets_go_of_what_is_under_way(void **state)
{
	struct group group;
	tdr_rref *rrefs[16];

	group_start(&group, 4, &rrefs_config);
	for (int64_t i = 0; i < 16; i++) {
		rrefs[i] = remote_int(group.agents[0], worker_name((size_t)i % 4), i);
		tdr_future_unref(
		    tdr_rpc_async(group.agents[0], "worker2", "test::relay", TDR_ARGS(rrefs[i], 3, i), NULL));
	}
	group_end(&group); /* calls end first, then references */
	for (size_t i = 0; i < 16; i++) {
		tdr_rref_unref(rrefs[i]);
		rrefs_drop(i);
	}
}

/* ---- in a child made by fork ---- */

static bool is_forked(tdr_status status)
{
	return status == TDR_EFORKED;
}

/* The first thing that is not as it should be; 0: none. */
static int use_in_child(tdr_agent *agent, tdr_rref *rref)
{
	tdr_value *value;
	char text[256];

	if (!is_forked(tdr_rref_to_here(rref, 100, &value)))
		return 1;
	if (tdr_rref_fetch(rref, 100) || !strstr(tdr_last_error(), "parent process"))
		return 2;
	if (!is_forked(tdr_rref_local_value(rref, 100, &value)))
		return 3;
	if (!is_forked(tdr_rref_wait_confirmed(rref, 100)))
		return 4;
	if (tdr_rref_future(rref) || tdr_rref_rpc_async(rref, "test::add", TDR_ARGS(1), NULL))
		return 5;
	if (!is_forked(tdr_rref_rpc_sync(rref, "test::add", TDR_ARGS(1), NULL, NULL)))
		return 6;
	if (tdr_rref_remote(rref, "test::add", TDR_ARGS(1), NULL))
		return 7;
	if (tdr_remote(agent, "worker1", "test::add", TDR_ARGS(1, 1), NULL) || tdr_rref_new(agent, tdr_int(1)))
		return 8;
	if (!is_forked(tdr_rref_delete_all(agent, 100)) || !is_forked(tdr_rref_leaks(agent, &value)))
		return 9;
	if (tdr_rref_print(rref, text, sizeof(text)) == 0 || !tdr_rref_equal(rref, rref))
		return 10;
	if (!tdr_rref_owner_name(rref)[0] || (tdr_rref_confirmed_by_owner(rref) && !tdr_rref_is_owner(rref)))
		return 11;
	tdr_value_unref(tdr_rref_value(rref));
	tdr_rref_unref(rref);
	return 0;
}

static void a_forked_child_has_none(void **state)
{
	struct group group;
	tdr_rref *rref, *own;
	int status;
	pid_t child;

	group_start(&group, 2, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 4);
	own = tdr_rref_new(group.agents[0], tdr_int(7));
	expect_true(here(rref) == 4);
	call_ok(group.agents[0], "worker1", "test::keep", TDR_ARGS(0, own));
	fflush(NULL);
	child = fork();
	if (child == 0) {
		alarm(20);
		status = use_in_child(group.agents[0], rref);
		_exit(status ? status : use_in_child(group.agents[0], own) * 16);
	}
	assert_true(child > 0);
	expect_true(waitpid(child, &status, 0) == child);
	expect_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	expect_true(here(rref) == 4); /* nothing was said in our name */
	expect_true(count_of(group.agents[1], "rref.num_forks") == 1);
	expect_true(count_of(group.agents[0], "rref.num_forks") == 1);
	call_ok(group.agents[0], "worker1", "test::drop", TDR_ARGS(0));
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
	await_none(&group);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(handles_outlive_their_agent),   TEST(handles_outlive_an_agent_that_was_dropped),
	    TEST(all_can_be_let_go_of_at_once),  TEST(what_is_held_elsewhere_is_told),
	    TEST(a_shutdown_tells_what_is_held), TEST(a_shutdown_lets_go_of_what_is_under_way),
	    TEST(a_forked_child_has_none),
	};

	return RUN_TESTS(tests);
}
