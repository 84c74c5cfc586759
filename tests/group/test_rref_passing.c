/* SPDX-License-Identifier: Apache-2.0 */
/* References in messages: wherever a value may be, over many hops, early and late, and in messages that come to nothing. */
#include "apart.h"
#include "rrefs.h"

#include <stdlib.h>

static void references_are_passed_on(void **state)
{
	struct group group;
	tdr_rref *rref, *back, *local;
	tdr_value *value;

	group_start(&group, 3, &rrefs_config);
	/* user to user, before the creation is known to be done; to the owner; to itself */
	rref = remote_int(group.agents[0], "worker1", 23);
	expect_true(call_int(group.agents[0], "worker2", "test::look", TDR_ARGS(rref)) == 23);
	expect_true(call_int(group.agents[0], "worker1", "test::look", TDR_ARGS(rref)) == 23);
	expect_true(call_int(group.agents[0], "worker0", "test::look", TDR_ARGS(rref)) == 23);
	/* kept by another user, and given back */
	call_ok(group.agents[0], "worker2", "test::keep", TDR_ARGS(0, rref));
	tdr_rref_unref(rref);
	expect_ok(tdr_rpc_sync(group.agents[0], "worker2", "test::give", TDR_ARGS(0), NULL, &value));
	back = rref_in(value);
	expect_true(here(back) == 23);
	call_ok(group.agents[0], "worker2", "test::drop", TDR_ARGS(0));
	expect_true(here(back) == 23);
	tdr_rref_unref(back);
	/* owner to user */
	local = tdr_rref_new(group.agents[0], tdr_int(7));
	expect_true(call_int(group.agents[0], "worker1", "test::look", TDR_ARGS(local)) == 7);
	tdr_rref_unref(local);
	await_none(&group);
	group_end(&group);
}

/* [rref, {"a": [rref, own], rref: (own,)}, rref] */
static tdr_value *nest(tdr_rref *rref, tdr_rref *own)
{
	tdr_value *dict = tdr_dict_new();

	expect_ok(tdr_dict_set(dict, "a", tdr_list(2, (tdr_value *[]){tdr_rref_value(rref), tdr_rref_value(own)})));
	expect_ok(tdr_dict_put(dict, tdr_rref_value(rref), tdr_tuple(1, &(tdr_value *){tdr_rref_value(own)})));
	return tdr_list(3, (tdr_value *[]){tdr_rref_value(rref), dict, tdr_rref_value(rref)});
}

static void a_message_may_have_many_anywhere(void **state)
{
	struct group group;
	tdr_value *kwargs, *value;
	tdr_rref *rref, *own;

	group_start(&group, 3, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 100);
	own = tdr_rref_new(group.agents[0], tdr_int(1));
	for (size_t rank = 0; rank < 3; rank++) {
		expect_true(call_int(group.agents[0], worker_name(rank), "test::look", TDR_ARGS(nest(rref, own))) ==
		            402);
		kwargs = tdr_dict_new();
		expect_ok(tdr_dict_set(kwargs, "rref", nest(rref, own)));
		expect_ok(tdr_rpc_sync(group.agents[0], worker_name(rank), "test::look", NULL, kwargs, NULL));
		/* and in a result */
		expect_ok(tdr_rpc_sync(group.agents[0], worker_name(rank), "test::echo", TDR_ARGS(nest(rref, own)),
		                       NULL, &value));
		expect_true(call_int(group.agents[0], "worker0", "test::look", TDR_ARGS(value)) == 402);
	}
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
	await_none(&group);
	group_end(&group);
}

static void a_chain_of_many_hops(void **state)
{
	int64_t hops = getenv("TENDRIL_TEST_APART") ? 5 : 20; /* each takes seconds where letters fail */
	struct group group;
	tdr_rref *rref;

	group_start(&group, 4, &rrefs_config);
	rref = remote_int(group.agents[0], "worker2", 31);
	expect_true(call_int(group.agents[0], "worker1", "test::hop", TDR_ARGS(rref, hops)) == 31);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

static bool is_kept(void *context)
{
	return rrefs_kept((size_t)(intptr_t)context) != NULL;
}

/* Everybody lets go of it right after passing it on: each hop holds on until the next is counted. */
static void a_chain_that_lets_go_behind_itself(void **state)
{
	int64_t hops = getenv("TENDRIL_TEST_APART") ? 5 : 20;
	struct group group;
	tdr_rref *rref;

	group_start(&group, 4, &rrefs_config);
	for (int64_t slot = 0; slot < 8; slot++) {
		rref = remote_int(group.agents[0], "worker2", 40 + slot);
		tdr_future_unref(tdr_rpc_async(group.agents[0], "worker1", "test::relay",
		                               TDR_ARGS(rref, hops + slot % 4, slot), NULL));
		tdr_rref_unref(rref);
	}
	for (size_t slot = 0; slot < 8; slot++) {
		if (eventually(is_kept, (void *)(intptr_t)slot))
			expect_true(here(rrefs_kept(slot)) == 40 + (int64_t)slot);
		call_ok(group.agents[0], "worker1", "test::drop", TDR_ARGS((int64_t)slot));
	}
	await_none(&group);
	group_end(&group);
}

static void what_is_not_made_yet_is_passed_on(void **state)
{
	struct group group;
	tdr_future *looks[3];
	tdr_rref *rref;

	group_start(&group, 3, &rrefs_config);
	gate_close(&rrefs_gate);
	rref = tdr_remote(group.agents[0], "worker1", "test::held", TDR_ARGS(9), NULL);
	call_ok(group.agents[0], "worker2", "test::keep", TDR_ARGS(0, rref)); /* does not need the value */
	for (size_t i = 0; i < 3; i++)
		looks[i] = tdr_rpc_async(group.agents[0], worker_name(i), "test::look", TDR_ARGS(rref), NULL);
	tdr_rref_unref(rref);
	gate_await(&rrefs_gate, 1);
	for (size_t i = 0; i < 3; i++)
		expect_true(!tdr_future_done(looks[i]));
	gate_open(&rrefs_gate);
	for (size_t i = 0; i < 3; i++)
		expect_future(looks[i], TDR_OK, NULL);
	expect_true(here(rrefs_kept(0)) == 9);
	call_ok(group.agents[0], "worker2", "test::drop", TDR_ARGS(0));
	await_none(&group);
	group_end(&group);
}

/* ---- waiting for confirmation ---- */

static void configure_slow_requests(size_t rank, tdr_agent_options *options)
{
	options->backend = "FAULTY";
	options->delay_messages = "RREF_FORK_REQUEST=2";
	options->threads = options->max_threads = 1;
}

/* Functions run when their references are counted, and until then they take no thread: there is but one. */
static void a_function_waits_for_its_references(void **state)
{
	struct group group;
	tdr_future *waiting[4];
	tdr_rref *rref;

	group_start(&group, 3, &(struct group_config){.configure = configure_slow_requests, .prepare = rrefs_prepare});
	rref = remote_int(group.agents[0], "worker1", 5);
	expect_true(here(rref) == 5);
	for (int64_t i = 0; i < 4; i++)
		waiting[i] =
		    tdr_rpc_async(group.agents[0], "worker2", "test::keep", TDR_ARGS(i, rref), NULL); /* checks it */
	await_count(group.agents[2], "rref.num_pending_users", 4);
	expect_true(call_int(group.agents[0], "worker2", "test::look", TDR_ARGS(0)) == 0);
	for (size_t i = 0; i < 4; i++)
		expect_true(!tdr_future_done(waiting[i]));
	for (size_t i = 0; i < 4; i++)
		expect_future(waiting[i], TDR_OK, NULL);
	for (int64_t i = 0; i < 4; i++)
		call_ok(group.agents[0], "worker2", "test::drop", TDR_ARGS(i));
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

/* A result's references are not waited for: who got it may. */
static void a_result_may_be_asked_whether_it_is_counted(void **state)
{
	struct group group;
	tdr_value *value;
	tdr_rref *rref;

	group_start(&group, 3, &(struct group_config){.configure = configure_slow_requests, .prepare = rrefs_prepare});
	expect_ok(tdr_rpc_sync(group.agents[0], "worker1", "test::remote", TDR_ARGS("worker2", 21), NULL, &value));
	rref = rref_in(value);
	expect_status(tdr_rref_wait_confirmed(rref, 1), TDR_ETIMEDOUT);
	expect_true(!tdr_rref_confirmed_by_owner(rref));
	expect_true(here(rref) == 21); /* the value can be had before */
	expect_ok(tdr_rref_wait_confirmed(rref, TDR_TIMEOUT_NEVER));
	expect_true(tdr_rref_confirmed_by_owner(rref));
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

/* ---- messages that come to nothing ---- */

static int object;

static void what_cannot_be_sent_leaves_nothing_counted(void **state)
{
	struct group group;
	tdr_rref *rref, *own;

	group_start(&group, 3, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 5);
	own = tdr_rref_new(group.agents[0], tdr_int(1));
	for (size_t rank = 0; rank < 3; rank++)
		for (int64_t i = 0; i < 8; i++)
			expect_status(tdr_rpc_sync(group.agents[0], worker_name(rank), "test::echo",
			                           TDR_ARGS(tdr_list(
						       2, (tdr_value *[]){nest(rref, own),
			                                                  tdr_native("test::Thing", &object, NULL)})),
			                           NULL, NULL),
			              TDR_EUNSUPPORTED);
	await_count(group.agents[0], "rref.num_pending_children", 0);
	await_count(group.agents[0], "rref.num_owner_rrefs", 0);
	expect_true(here(rref) == 5);
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
	await_none(&group);
	group_end(&group);
}

/* Returns what came, and something that cannot be sent after it. */
static tdr_status spoil(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_list(2, (tdr_value *[]){tdr_value_ref(tdr_arg(call, 0)),
	                                                    tdr_native("test::Thing", &object, NULL)}));
}

static void prepare_spoiler(tdr_agent *agent, size_t rank)
{
	rrefs_prepare(agent, rank);
	expect_ok(tdr_register(agent, "test::spoil(Any value) -> Any", spoil, NULL, 0));
}

static void a_result_that_cannot_be_sent_leaves_nothing_counted(void **state)
{
	struct group group;
	tdr_rref *rref, *own;

	group_start(&group, 3, &(struct group_config){.prepare = prepare_spoiler});
	rref = remote_int(group.agents[0], "worker1", 5);
	own = tdr_rref_new(group.agents[0], tdr_int(1));
	for (size_t rank = 0; rank < 3; rank++) {
		expect_status(tdr_rpc_sync(group.agents[0], worker_name(rank), "test::spoil", TDR_ARGS(nest(rref, own)),
		                           NULL, NULL),
		              TDR_EUNSUPPORTED);
		expect_error("the result cannot be sent");
	}
	expect_true(here(rref) == 5);
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
	await_none(&group);
	group_end(&group);
}

static void an_answer_that_comes_too_late_is_let_go_of(void **state)
{
	struct group group;
	tdr_rpc_options options = within(1000);
	tdr_rref *rref, *own;

	group_start(&group, 3, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 5);
	own = tdr_rref_new(group.agents[0], tdr_int(1));
	expect_true(here(rref) == 5);
	gate_close(&rrefs_gate);
	expect_status(tdr_rpc_sync_with(group.agents[0], "worker2", "test::held", TDR_ARGS(nest(rref, own)), NULL,
	                                &options, NULL),
	              TDR_ETIMEDOUT);
	gate_open(&rrefs_gate);
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
	await_none(&group);
	group_end(&group);
}

static void a_function_that_there_is_not_takes_no_references(void **state)
{
	struct group group;
	tdr_rref *rref, *own;

	group_start(&group, 3, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 5);
	own = tdr_rref_new(group.agents[0], tdr_int(1));
	for (size_t rank = 0; rank < 3; rank++)
		expect_status(tdr_rpc_sync(group.agents[0], worker_name(rank), "test::none", TDR_ARGS(nest(rref, own)),
		                           NULL, NULL),
		              TDR_ENOFUNCTION);
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
	await_none(&group);
	group_end(&group);
}

static void a_reference_of_another_agent_is_refused(void **state)
{
	struct group group;
	tdr_rref *rref;

	group_start(&group, 2, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 5);
	expect_status(tdr_rpc_sync(group.agents[1], "worker0", "test::look", TDR_ARGS(rref), NULL, NULL), TDR_EINVAL);
	expect_error("a reference of agent 'worker0' cannot be passed on by agent 'worker1'");
	expect_true(here(rref) == 5);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(references_are_passed_on),
	    TEST(a_message_may_have_many_anywhere),
	    TEST(a_chain_of_many_hops),
	    TEST(a_chain_that_lets_go_behind_itself),
	    TEST(what_is_not_made_yet_is_passed_on),
	    TEST(a_function_waits_for_its_references),
	    TEST(a_result_may_be_asked_whether_it_is_counted),
	    TEST(what_cannot_be_sent_leaves_nothing_counted),
	    TEST(a_result_that_cannot_be_sent_leaves_nothing_counted),
	    TEST(an_answer_that_comes_too_late_is_let_go_of),
	    TEST(a_function_that_there_is_not_takes_no_references),
	    TEST(a_reference_of_another_agent_is_refused),
	};

	return RUN_TESTS(tests);
}
