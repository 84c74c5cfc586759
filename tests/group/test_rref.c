/* SPDX-License-Identifier: Apache-2.0 */
/* What a reference is: its value, its owner, its names, and what the counters say of it. */
#include "apart.h"
#include "rrefs.h"

#include <stdio.h>
#include <string.h>

static void expect_print(const tdr_rref *rref, const char *text)
{
	char printed[256];

	expect_true(tdr_rref_print(rref, printed, sizeof(printed)) == strlen(text));
	expect_text(printed, text);
}

static void a_result_stays_where_it_was_made(void **state)
{
	struct group group;
	tdr_rref *rref;
	tdr_value *value;

	group_start(&group, 2, &rrefs_config);
	rref = tdr_remote(group.agents[0], "worker1", "test::add", TDR_ARGS(2, 3), NULL);
	expect_true(here(rref) == 5);
	expect_true(here(rref) == 5);
	expect_true(!tdr_rref_is_owner(rref));
	expect_text(tdr_rref_owner_name(rref), "worker1");
	expect_true(tdr_rref_owner(rref).id == 1);
	expect_true(tdr_rref_owner(rref).incarnation == tdr_agent_worker(group.agents[1]).incarnation);
	expect_ok(tdr_rref_wait_confirmed(rref, PATIENCE_MS));
	expect_true(tdr_rref_confirmed_by_owner(rref));
	expect_status(tdr_rref_local_value(rref, PATIENCE_MS, &value), TDR_ESTATE);
	expect_error("can't call localValue() on user WorkerInfo(id=0, name=worker0). Call it on owner "
	             "WorkerInfo(id=1, name=worker1)");
	expect_future(tdr_rref_fetch(rref, TDR_TIMEOUT_DEFAULT), TDR_OK, NULL);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

static void a_value_becomes_a_reference(void **state)
{
	struct group group;
	tdr_tensor *tensor, *found;
	tdr_value *value, *again;
	tdr_rref *rref;

	group_start(&group, 2, &rrefs_config);
	expect_ok(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(3), &tensor));
	value = tdr_tensor_value(tensor);
	rref = tdr_rref_new(group.agents[0], tdr_value_ref(value));
	expect_true(tdr_rref_is_owner(rref));
	expect_true(tdr_rref_confirmed_by_owner(rref));
	expect_ok(tdr_rref_wait_confirmed(rref, PATIENCE_MS));
	expect_text(tdr_rref_owner_name(rref), "worker0");
	expect_ok(tdr_rref_local_value(rref, PATIENCE_MS, &again));
	expect_ok(tdr_value_get_tensor(again, &found));
	expect_true(again == value && found == tensor); /* itself, not a copy */
	tdr_value_unref(again);
	expect_ok(tdr_rref_to_here(rref, PATIENCE_MS, &again));
	expect_true(again == value);
	tdr_value_unref(again);
	expect_future(tdr_rref_fetch(rref, PATIENCE_MS), TDR_OK, NULL);
	expect_future(tdr_rref_future(rref), TDR_ESTATE, "not made by tdr_remote");
	tdr_rref_unref(rref);
	tdr_value_unref(value);
	tdr_tensor_unref(tensor);
	await_none(&group);
	group_end(&group);
}

static void what_is_no_value_becomes_no_reference(void **state)
{
	tdr_agent_options options;
	struct group group;
	tdr_agent *alone;

	member_options(&options, 0, 1, NULL);
	alone = tdr_agent_new("alone", &options);
	assert_non_null(alone);
	expect_true(!tdr_rref_new(alone, tdr_int(1)));
	expect_error("has not joined a group yet");
	tdr_agent_unref(alone);
	group_start(&group, 1, &rrefs_config);
	expect_true(!tdr_rref_new(group.agents[0], NULL));
	expect_error("tdr_none");
	expect_true(!tdr_rref_new(group.agents[0], tdr_list(1, &(tdr_value *){NULL})));
	group_end(&group);
}

/* Joining uses no names up, and each thing made takes as many as it needs. */
static void names_count_from_zero(void **state)
{
	struct group group;
	tdr_rref *wrapped, *own, *remote;

	group_start(&group, 2, &rrefs_config);
	wrapped = tdr_rref_new(group.agents[0], tdr_int(1));
	own = tdr_remote(group.agents[0], "worker0", "test::add", TDR_ARGS(1, 1), NULL);
	remote = tdr_remote(group.agents[0], "worker1", "test::add", TDR_ARGS(1, 1), NULL);
	expect_print(wrapped, "OwnerRRef(GloballyUniqueId(created_on=0, local_id=0))");
	expect_print(own, "OwnerRRef(GloballyUniqueId(created_on=0, local_id=1))");
	expect_print(remote, "UserRRef(RRefId = GloballyUniqueId(created_on=0, local_id=2), ForkId = "
	                     "GloballyUniqueId(created_on=0, local_id=3))");
	expect_true(tdr_rref_print(remote, NULL, 0) > 0);
	expect_true(here(own) == 2 && here(remote) == 2);
	tdr_rref_unref(wrapped);
	tdr_rref_unref(own);
	tdr_rref_unref(remote);
	await_none(&group);
	group_end(&group);
}

static void references_are_equal_by_what_they_stand_for(void **state)
{
	struct group group;
	tdr_rref *a, *b, *again;
	tdr_value *dict, *value, *key;
	int64_t number = 0;

	group_start(&group, 2, &rrefs_config);
	a = remote_int(group.agents[0], "worker1", 7);
	b = remote_int(group.agents[0], "worker1", 7);
	expect_ok(tdr_rpc_sync(group.agents[0], "worker0", "test::echo", TDR_ARGS(a), NULL, &value));
	again = rref_in(value);
	expect_true(again != a); /* another handle, by another name, of the same value */
	expect_true(tdr_rref_equal(a, again) && tdr_rref_equal(again, a) && tdr_rref_equal(a, a));
	expect_true(!tdr_rref_equal(a, b));
	dict = tdr_dict_new();
	expect_ok(tdr_dict_put(dict, tdr_rref_value(a), tdr_int(1)));
	expect_ok(tdr_dict_put(dict, tdr_rref_value(b), tdr_int(2)));
	expect_ok(tdr_dict_put(dict, tdr_rref_value(again), tdr_int(3)));
	expect_true(tdr_value_count(dict) == 2);
	key = tdr_rref_value(again);
	expect_ok(tdr_value_get_int(tdr_dict_find(dict, key), &number));
	expect_true(number == 3);
	tdr_value_unref(key);
	tdr_value_unref(dict);
	tdr_rref_unref(a);
	tdr_rref_unref(b);
	tdr_rref_unref(again);
	await_none(&group);
	group_end(&group);
}

static void what_could_not_be_made_equals_nothing(void **state)
{
	struct group group;
	tdr_rref *a, *b;

	group_start(&group, 1, &rrefs_config);
	a = tdr_remote(group.agents[0], "nobody", "test::add", NULL, NULL);
	b = tdr_remote(group.agents[0], "nobody", "test::add", NULL, NULL);
	expect_true(tdr_rref_equal(a, a) && !tdr_rref_equal(a, b));
	expect_text(tdr_rref_owner_name(a), "");
	expect_true(tdr_rref_owner(a).id == UINT32_MAX);
	expect_true(!tdr_rref_is_owner(a) && !tdr_rref_confirmed_by_owner(a));
	expect_print(a, "RRef(TDR_ENOWORKER)");
	tdr_rref_unref(a);
	tdr_rref_unref(b);
	group_end(&group);
}

/* One's own reference comes to be counted when others know of it. */
static void an_owner_counts_what_others_hold(void **state)
{
	struct group group;
	tdr_rref *rref;

	group_start(&group, 2, &rrefs_config);
	rref = tdr_rref_new(group.agents[0], tdr_int(7));
	expect_true(count_of(group.agents[0], "rref.num_owner_rrefs") == 0);
	call_ok(group.agents[0], "worker1", "test::keep", TDR_ARGS(0, rref));
	expect_true(count_of(group.agents[0], "rref.num_owner_rrefs") == 1);
	expect_true(count_of(group.agents[0], "rref.num_forks") == 1);
	expect_true(count_of(group.agents[1], "rref.num_users") == 1);
	expect_true(count_of(group.agents[1], "rref.num_pending_users") == 0);
	call_ok(group.agents[0], "worker1", "test::keep", TDR_ARGS(1, rref));
	expect_true(count_of(group.agents[0], "rref.num_owner_rrefs") == 1);
	expect_true(count_of(group.agents[0], "rref.num_forks") == 2);
	call_ok(group.agents[0], "worker1", "test::drop", TDR_ARGS(0));
	call_ok(group.agents[0], "worker1", "test::drop", TDR_ARGS(1));
	await_count(group.agents[0], "rref.num_owner_rrefs", 0);
	expect_true(here(rref) == 7); /* the owner's own handle keeps it */
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

static void a_creator_is_counted_at_the_owner(void **state)
{
	struct group group;
	tdr_rref *a, *b;

	group_start(&group, 2, &rrefs_config);
	a = remote_int(group.agents[0], "worker1", 1);
	b = remote_int(group.agents[0], "worker1", 2);
	expect_true(here(a) + here(b) == 3);
	expect_true(count_of(group.agents[1], "rref.num_owner_rrefs") == 2);
	expect_true(count_of(group.agents[1], "rref.num_forks") == 2);
	tdr_rref_unref(a);
	await_count(group.agents[1], "rref.num_owner_rrefs", 1);
	expect_true(here(b) == 2);
	tdr_rref_unref(b);
	await_none(&group);
	group_end(&group);
}

/* Who holds how much of ours. */
static void bytes_are_told_by_holder(void **state)
{
	struct group group;
	tdr_tensor *tensor;
	tdr_rref *rref;
	int64_t bytes;

	group_start(&group, 3, &rrefs_config);
	expect_ok(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(1 << 18), &tensor));
	rref = tdr_rref_new(group.agents[0], tdr_tensor_value(tensor));
	tdr_tensor_unref(tensor);
	call_ok(group.agents[0], "worker1", "test::keep", TDR_ARGS(0, rref));
	call_ok(group.agents[0], "worker2", "test::keep", TDR_ARGS(1, rref));
	bytes = count_of(group.agents[0], "rref.owner_bytes");
	expect_true(bytes >= 1 << 20 && bytes < 2 << 20); /* once, however many hold it */
	expect_true(count_of(group.agents[0], "rref.held_by.worker1.bytes") == bytes);
	expect_true(count_of(group.agents[0], "rref.held_by.worker2.forks") == 1);
	call_ok(group.agents[0], "worker1", "test::drop", TDR_ARGS(0));
	await_count(group.agents[0], "rref.held_by.worker1.forks", -1); /* it holds none */
	call_ok(group.agents[0], "worker2", "test::drop", TDR_ARGS(1));
	await_count(group.agents[0], "rref.owner_bytes", 0);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

/* A value whose parts lie in each other 2^40 times over: it cannot be sent, but may be kept. */
static void a_value_may_lie_in_itself_many_times_over(void **state)
{
	struct group group;
	tdr_value *value = tdr_int(1);
	tdr_rref *rref;

	group_start(&group, 2, &rrefs_config);
	for (int i = 0; i < 40; i++)
		value = tdr_list(2, (tdr_value *[]){value, tdr_value_ref(value)});
	rref = tdr_rref_new(group.agents[0], value);
	call_ok(group.agents[0], "worker1", "test::keep", TDR_ARGS(0, rref));
	expect_true(count_of(group.agents[0], "rref.held_by.worker1.bytes") > 0);
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::look", TDR_ARGS(rref), NULL, NULL), TDR_ESHARED);
	call_ok(group.agents[0], "worker1", "test::drop", TDR_ARGS(0));
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

/* A reference to a reference to a reference... */
static tdr_rref *make_chain(tdr_agent *agent)
{
	tdr_rref *rref = tdr_rref_new(agent, tdr_int(0));

	for (int i = 0; i < 200000; i++) {
		tdr_rref *next = tdr_rref_new(agent, tdr_rref_value(rref));

		tdr_rref_unref(rref);
		rref = next;
	}
	return rref;
}

/* Each is all that keeps the next alive: the end of the first is that of all, one after another. */
static void a_long_chain_of_references_ends(void **state)
{
	struct group group;
	tdr_rref *rref, *kept;

	group_start(&group, 2, &rrefs_config);
	rref = make_chain(group.agents[0]);
	kept = make_chain(group.agents[0]);
	call_ok(group.agents[0], "worker1", "test::keep", TDR_ARGS(0, rref));
	tdr_rref_unref(rref);
	call_ok(group.agents[0], "worker1", "test::drop", TDR_ARGS(0));
	await_none(&group);
	group_end(&group);
	tdr_rref_unref(kept);
}

/* What is neither a call nor an answer carries none. */
static void a_gathered_value_has_no_references(void **state)
{
	struct group group;
	tdr_value *gathered;
	tdr_rref *rref;

	group_start(&group, 1, &rrefs_config);
	rref = tdr_rref_new(group.agents[0], tdr_int(1));
	expect_status(tdr_all_gather(group.agents[0], tdr_rref_value(rref), 0, NULL, PATIENCE_MS, &gathered),
	              TDR_EUNSUPPORTED);
	tdr_rref_unref(rref);
	group_end(&group);
}

static void a_reference_prints_inside_values(void **state)
{
	struct group group;
	tdr_rref *rref;
	tdr_value *list;
	char text[512];

	group_start(&group, 1, &rrefs_config);
	rref = tdr_rref_new(group.agents[0], tdr_int(1));
	list = tdr_list(1, &(tdr_value *){tdr_rref_value(rref)});
	tdr_value_print(list, text, sizeof(text));
	expect_text(text, "OwnerRRef(GloballyUniqueId(created_on=0, local_id=0))");
	tdr_value_unref(list);
	tdr_rref_unref(rref);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_result_stays_where_it_was_made),
	    TEST(a_value_becomes_a_reference),
	    TEST(what_is_no_value_becomes_no_reference),
	    TEST(names_count_from_zero),
	    TEST(references_are_equal_by_what_they_stand_for),
	    TEST(what_could_not_be_made_equals_nothing),
	    TEST(an_owner_counts_what_others_hold),
	    TEST(a_creator_is_counted_at_the_owner),
	    TEST(bytes_are_told_by_holder),
	    TEST(a_value_may_lie_in_itself_many_times_over),
	    TEST(a_long_chain_of_references_ends),
	    TEST(a_gathered_value_has_no_references),
	    TEST(a_reference_prints_inside_values),
	};

	return RUN_TESTS(tests);
}
