/* SPDX-License-Identifier: Apache-2.0 */
/* References that calls create: elsewhere and here, slowly, too late, in vain, from inside functions. */
#include "apart.h"
#include "rrefs.h"

#include <stdatomic.h>
#include <stdio.h>

enum {
	SHORT_MS = 1000, /* a timeout that is to pass */
};

static bool has_begun(void *context)
{
	return atomic_load(&rrefs_later) != NULL;
}

/* Waits until test::later has been called; its future, the caller's. */
static tdr_future *await_later(void)
{
	eventually(has_begun, NULL);
	return atomic_exchange(&rrefs_later, NULL);
}

static void a_reference_to_oneself(void **state)
{
	struct group group;
	tdr_rref *rref;

	group_start(&group, 1, &rrefs_config);
	rref = remote_int(group.agents[0], "worker0", 5);
	expect_true(tdr_rref_is_owner(rref) && tdr_rref_confirmed_by_owner(rref));
	expect_true(here(rref) == 5);
	expect_future(tdr_rref_future(rref), TDR_OK, NULL);
	expect_true(call_int(group.agents[0], "worker0", "test::look", TDR_ARGS(rref)) == 5);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

static void a_future_completes_when_its_function_has(void **state)
{
	struct group group;
	tdr_rref *rref;
	tdr_future *future;
	tdr_value *none;

	group_start(&group, 2, &rrefs_config);
	gate_close(&rrefs_gate);
	rref = tdr_remote(group.agents[0], "worker1", "test::held", TDR_ARGS(3), NULL);
	gate_await(&rrefs_gate, 1);
	future = tdr_rref_future(rref);
	expect_ok(tdr_rref_wait_confirmed(rref, PATIENCE_MS)); /* known to the owner, whose function still runs */
	expect_true(!tdr_future_done(future) && !tdr_rref_confirmed_by_owner(rref));
	gate_open(&rrefs_gate);
	expect_ok(tdr_future_wait(future, PATIENCE_MS, &none));
	expect_true(tdr_value_is_none(none));
	expect_true(tdr_rref_confirmed_by_owner(rref));
	tdr_value_unref(none);
	tdr_future_unref(future);
	expect_true(here(rref) == 3);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

static void an_asynchronous_function_creates_later(void **state)
{
	for (size_t rank = 0; rank < 2; rank++) { /* oneself, and another */
		struct group group;
		tdr_future *fetched, *later;
		tdr_value *value;
		tdr_rref *rref;
		int64_t number = 0;

		group_start(&group, 2, &rrefs_config);
		rref = tdr_remote(group.agents[0], worker_name(rank), "test::later", NULL, NULL);
		fetched = tdr_rref_fetch(rref, TDR_TIMEOUT_DEFAULT);
		later = await_later();
		expect_true(!tdr_future_done(fetched));
		tdr_future_set(later, tdr_int(11));
		tdr_future_unref(later);
		expect_ok(tdr_future_wait(fetched, PATIENCE_MS, &value));
		expect_ok(tdr_value_get_int(value, &number));
		expect_true(number == 11);
		tdr_value_unref(value);
		tdr_future_unref(fetched);
		tdr_rref_unref(rref);
		await_none(&group);
		group_end(&group);
	}
}

static void what_nobody_holds_any_more_is_made_and_freed(void **state)
{
	struct group group;
	tdr_future *later;

	group_start(&group, 2, &rrefs_config);
	tdr_rref_unref(tdr_remote(group.agents[0], "worker1", "test::later", NULL, NULL));
	tdr_rref_unref(tdr_remote(group.agents[0], "worker1", "test::object", NULL, NULL));
	tdr_rref_unref(tdr_remote(group.agents[0], "worker0", "test::object", NULL, NULL));
	later = await_later();
	tdr_future_set(later, tdr_int(1));
	tdr_future_unref(later);
	await_none(&group);
	group_end(&group);
	expect_true(atomic_load(&rrefs_destroyed) == 2);
}

static void a_deadline_spares_what_the_owner_has_taken_up(void **state)
{
	for (size_t rank = 0; rank < 2; rank++) { /* oneself, and another */
		struct group group;
		tdr_rpc_options options = within(SHORT_MS);
		tdr_rref *rref;

		group_start(&group, 2, &rrefs_config);
		gate_close(&rrefs_gate);
		rref = tdr_remote_with(group.agents[0], worker_name(rank), "test::held", TDR_ARGS(3), NULL, &options);
		gate_await(&rrefs_gate, 1);
		expect_ok(tdr_rref_wait_confirmed(rref, PATIENCE_MS));
		expect_future(tdr_rref_future(rref), TDR_ETIMEDOUT, "RPC ran for more than set timeout (1000 ms)");
		gate_open(&rrefs_gate); /* the callee was not told */
		expect_true(here(rref) == 3);
		tdr_rref_unref(rref);
		await_none(&group);
		group_end(&group);
	}
}

static void fetches_have_deadlines_of_their_own(void **state)
{
	for (size_t rank = 0; rank < 2; rank++) {
		struct group group;
		tdr_value *value;
		tdr_rref *rref;

		group_start(&group, 2, &rrefs_config);
		gate_close(&rrefs_gate);
		rref = tdr_remote(group.agents[0], worker_name(rank), "test::held", TDR_ARGS(3), NULL);
		expect_status(tdr_rref_to_here(rref, SHORT_MS, &value), TDR_ETIMEDOUT);
		expect_future(tdr_rref_fetch(rref, 1), TDR_ETIMEDOUT, "RPC ran for more than");
		if (rank == 0)
			expect_status(tdr_rref_local_value(rref, SHORT_MS, &value), TDR_ETIMEDOUT);
		gate_open(&rrefs_gate);
		expect_true(here(rref) == 3);
		tdr_rref_unref(rref);
		await_none(&group);
		group_end(&group);
	}
}

static void a_creation_is_cancelled_by_its_future(void **state)
{
	for (size_t rank = 0; rank < 2; rank++) {
		struct group group;
		tdr_future *future, *later;
		tdr_value *value;
		tdr_rref *rref;

		group_start(&group, 2, &rrefs_config);
		rref = tdr_remote(group.agents[0], worker_name(rank), "test::later", NULL, NULL);
		later = await_later();
		expect_ok(tdr_rref_wait_confirmed(rref, PATIENCE_MS));
		future = tdr_rref_future(rref);
		tdr_future_cancel(future);
		expect_future(future, TDR_ECANCELED, NULL);
		expect_status(tdr_rref_to_here(rref, PATIENCE_MS, &value), TDR_ECANCELED);
		expect_status(tdr_future_wait(later, PATIENCE_MS, NULL), TDR_ECANCELED); /* at the callee */
		tdr_future_unref(later);
		tdr_rref_unref(rref);
		await_none(&group);
		group_end(&group);
	}
}

static void functions_make_references_in_turn(void **state)
{
	struct group group;
	tdr_value *value;
	tdr_rref *rref, *outer;

	group_start(&group, 3, &rrefs_config);
	expect_ok(tdr_rpc_sync(group.agents[0], "worker1", "test::remote", TDR_ARGS("worker2", 21), NULL, &value));
	rref = rref_in(value);
	expect_text(tdr_rref_owner_name(rref), "worker2");
	expect_true(here(rref) == 21);
	tdr_rref_unref(rref);
	/* one of one's own, come home */
	expect_ok(tdr_rpc_sync(group.agents[0], "worker1", "test::remote", TDR_ARGS("worker0", 22), NULL, &value));
	rref = rref_in(value);
	expect_true(tdr_rref_is_owner(rref) && here(rref) == 22);
	tdr_rref_unref(rref);
	/* a reference to a reference */
	outer = tdr_remote(group.agents[0], "worker1", "test::remote", TDR_ARGS("worker2", 23), NULL);
	expect_ok(tdr_rref_to_here(outer, PATIENCE_MS, &value));
	rref = rref_in(value);
	tdr_rref_unref(outer);
	expect_true(here(rref) == 23);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

/* Each use of a reference that stands for an error; and it may be dropped, whatever it was used for. */
static void expect_fails(struct group *group, tdr_rref *rref, tdr_status status, const char *part)
{
	tdr_rref *made;
	tdr_value *value;

	expect_status(tdr_rref_to_here(rref, PATIENCE_MS, &value), status);
	expect_error(part);
	expect_future(tdr_rref_fetch(rref, PATIENCE_MS), status, part);
	expect_status(tdr_rref_rpc_sync(rref, "test::add", TDR_ARGS(1), NULL, NULL), status);
	expect_error(part);
	expect_future(tdr_rref_rpc_async(rref, "add", TDR_ARGS(1), NULL), status, part);
	made = tdr_rref_remote(rref, "test::add", TDR_ARGS(1), NULL);
	expect_status(tdr_rref_to_here(made, PATIENCE_MS, &value), status);
	expect_error(part);
	tdr_rref_unref(made);
	expect_status(tdr_rpc_sync(group->agents[0], "worker2", "test::look", TDR_ARGS(rref), NULL, NULL), status);
	expect_error(part);
	if (tdr_rref_is_owner(rref))
		expect_status(tdr_rref_local_value(rref, PATIENCE_MS, &value), status);
	tdr_rref_unref(rref);
}

static void a_failed_creation_is_raised_on_each_use(void **state)
{
	struct group group;
	tdr_rref *rref;

	group_start(&group, 3, &rrefs_config);
	for (size_t rank = 0; rank < 2; rank++) {
		rref = tdr_remote(group.agents[0], worker_name(rank), "test::fail", NULL, NULL);
		expect_future(tdr_rref_future(rref), TDR_OK, NULL); /* it has run */
		expect_fails(&group, rref, TDR_EINVAL, "no such layer");
		rref = tdr_remote(group.agents[0], worker_name(rank), "test::none", NULL, NULL);
		expect_fails(&group, rref, TDR_ENOFUNCTION, "test::none");
		rref = tdr_remote(group.agents[0], worker_name(rank), "test::add", TDR_ARGS("a", "b"), NULL);
		expect_fails(&group, rref, TDR_ETYPE, "test::add");
	}
	await_none(&group);
	group_end(&group);
}

static void a_call_that_cannot_be_made_is_raised_on_each_use(void **state)
{
	struct group group;
	tdr_rref *rref;
	int object;

	group_start(&group, 3, &rrefs_config);
	rref = tdr_remote(group.agents[0], "nobody", "test::add", NULL, NULL);
	expect_future(tdr_rref_future(rref), TDR_ENOWORKER, "nobody");
	expect_fails(&group, rref, TDR_ENOWORKER, "nobody");
	rref = tdr_remote(group.agents[0], "worker1", "test::echo", tdr_int(3), NULL);
	expect_fails(&group, rref, TDR_EINVAL, "args must be");
	for (size_t rank = 0; rank < 2; rank++) {
		rref = tdr_remote(group.agents[0], worker_name(rank), "test::echo",
		                  TDR_ARGS(tdr_native("test::Thing", &object, NULL)), NULL);
		expect_future(tdr_rref_future(rref), TDR_EUNSUPPORTED, "test::Thing");
		expect_fails(&group, rref, TDR_EUNSUPPORTED, "test::Thing");
	}
	await_none(&group);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_reference_to_oneself),
	    TEST(a_future_completes_when_its_function_has),
	    TEST(an_asynchronous_function_creates_later),
	    TEST(what_nobody_holds_any_more_is_made_and_freed),
	    TEST(a_deadline_spares_what_the_owner_has_taken_up),
	    TEST(fetches_have_deadlines_of_their_own),
	    TEST(a_creation_is_cancelled_by_its_future),
	    TEST(functions_make_references_in_turn),
	    TEST(a_failed_creation_is_raised_on_each_use),
	    TEST(a_call_that_cannot_be_made_is_raised_on_each_use),
	};

	return RUN_TESTS(tests);
}
