/* SPDX-License-Identifier: Apache-2.0 */
/* References in a group of agents: made, fetched, passed on, called, counted and let go of. */
#include "group.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tdr_status add(tdr_call *call, void *context)
{
	return tdr_return_int(call, tdr_arg_int(call, 0) + tdr_arg_int(call, 1));
}

static tdr_status refuse(tdr_call *call, void *context)
{
	return tdr_fail(call, TDR_EINVAL, "no such layer");
}

static tdr_status look(tdr_call *call, void *context)
{
	tdr_value *value;
	tdr_rref *rref;
	tdr_status status = tdr_value_get_rref(tdr_arg(call, 0), &rref);

	if (status == TDR_OK && !tdr_rref_confirmed_by_owner(rref))
		return tdr_fail(call, TDR_ESTATE, "not confirmed");
	if (status == TDR_OK)
		status = tdr_rref_to_here(rref, PATIENCE_MS, &value);
	return status == TDR_OK ? tdr_return(call, value) : status;
}

static tdr_rref *kept[8];

static tdr_status keep(tdr_call *call, void *context)
{
	size_t index = (size_t)tdr_arg_int(call, 0);
	tdr_rref *rref;
	tdr_status status = tdr_value_get_rref(tdr_arg(call, 1), &rref);

	if (status != TDR_OK)
		return status;
	tdr_rref_unref(kept[index]);
	kept[index] = tdr_rref_ref(rref);
	return TDR_OK;
}

static tdr_status give(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_rref_value(kept[tdr_arg_int(call, 0)]));
}

static tdr_status drop(tdr_call *call, void *context)
{
	size_t index = (size_t)tdr_arg_int(call, 0);

	kept[index] = tdr_rref_unref(kept[index]);
	return TDR_OK;
}

static void prepare(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::add(int a, int b) -> int", add, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_register(agent, "test::fail() -> int", refuse, NULL, 0));
	expect_ok(tdr_register(agent, "test::look(RRef rref) -> Any", look, NULL, 0));
	expect_ok(tdr_register(agent, "test::keep(int index, RRef rref)", keep, NULL, 0));
	expect_ok(tdr_register(agent, "test::give(int index) -> RRef", give, NULL, 0));
	expect_ok(tdr_register(agent, "test::drop(int index)", drop, NULL, 0));
}

static const struct group_config config = {.prepare = prepare};

static int64_t count_of(tdr_agent *agent, const char *key)
{
	tdr_value *info;
	int64_t number = -1;

	expect_ok(tdr_debug_info(agent, &info));
	if (tdr_dict_get(info, key))
		expect_ok(tdr_value_get_int(tdr_dict_get(info, key), &number));
	tdr_value_unref(info);
	return number;
}

static bool has_none(void *context)
{
	return count_of(context, "rref.num_owner_rrefs") == 0 && count_of(context, "rref.num_forks") == 0;
}

static int64_t here(tdr_rref *rref)
{
	tdr_value *value;
	int64_t number = INT64_MIN;

	if (expect_ok(tdr_rref_to_here(rref, PATIENCE_MS, &value)) == TDR_OK) {
		expect_ok(tdr_value_get_int(value, &number));
		tdr_value_unref(value);
	}
	return number;
}

static void a_result_stays_where_it_was_made(void **state)
{
	struct group group;
	tdr_rref *rref;
	char text[256];

	group_start(&group, 2, &config);
	rref = tdr_remote(group.agents[0], "worker1", "test::add", TDR_ARGS(2, 3), NULL);
	expect_true(here(rref) == 5);
	expect_true(here(rref) == 5);
	expect_true(!tdr_rref_is_owner(rref));
	expect_true(strcmp(tdr_rref_owner_name(rref), "worker1") == 0);
	expect_true(tdr_rref_confirmed_by_owner(rref));
	tdr_rref_print(rref, text, sizeof(text));
	expect_text(text, "UserRRef(RRefId = GloballyUniqueId(created_on=0, local_id=0), ForkId = "
	                  "GloballyUniqueId(created_on=0, local_id=1))");
	expect_true(count_of(group.agents[1], "rref.num_owner_rrefs") == 1);
	tdr_rref_unref(rref);
	eventually(has_none, group.agents[1]);
	group_end(&group);
}

static void a_reference_to_oneself(void **state)
{
	struct group group;
	tdr_rref *rref, *wrapped;

	group_start(&group, 1, &config);
	rref = tdr_remote(group.agents[0], "worker0", "test::add", TDR_ARGS(2, 3), NULL);
	expect_true(tdr_rref_is_owner(rref));
	expect_true(here(rref) == 5);
	wrapped = tdr_rref_new(group.agents[0], tdr_int(9));
	expect_true(call_int(group.agents[0], "worker0", "test::look", TDR_ARGS(wrapped)) == 9);
	expect_true(call_int(group.agents[0], "worker0", "test::look", TDR_ARGS(rref)) == 5);
	tdr_rref_unref(rref);
	tdr_rref_unref(wrapped);
	eventually(has_none, group.agents[0]);
	group_end(&group);
}

static void a_failed_creation_is_raised_on_use(void **state)
{
	struct group group;
	tdr_rref *rref;
	tdr_value *value;

	group_start(&group, 2, &config);
	rref = tdr_remote(group.agents[0], "worker1", "test::fail", NULL, NULL);
	expect_status(tdr_rref_to_here(rref, PATIENCE_MS, &value), TDR_EINVAL);
	expect_error("no such layer");
	tdr_rref_unref(rref);
	rref = tdr_remote(group.agents[0], "worker1", "test::none", NULL, NULL);
	expect_status(tdr_rref_to_here(rref, PATIENCE_MS, &value), TDR_ENOFUNCTION);
	tdr_rref_unref(rref);
	rref = tdr_remote(group.agents[0], "nobody", "test::none", NULL, NULL);
	expect_status(tdr_rref_to_here(rref, PATIENCE_MS, &value), TDR_ENOWORKER);
	tdr_rref_unref(rref);
	group_end(&group);
}

static void references_are_passed_on(void **state)
{
	struct group group;
	tdr_rref *rref, *back, *local;
	tdr_value *value;

	group_start(&group, 3, &config);
	/* user to user, before the creation is known to be done */
	rref = tdr_remote(group.agents[0], "worker1", "test::add", TDR_ARGS(20, 3), NULL);
	expect_true(call_int(group.agents[0], "worker2", "test::look", TDR_ARGS(rref)) == 23);
	/* user to owner */
	expect_true(call_int(group.agents[0], "worker1", "test::look", TDR_ARGS(rref)) == 23);
	/* user to itself */
	expect_true(call_int(group.agents[0], "worker0", "test::look", TDR_ARGS(rref)) == 23);
	/* kept by another user, and given back */
	call_ok(group.agents[0], "worker2", "test::keep", TDR_ARGS(0, rref));
	tdr_rref_unref(rref);
	expect_ok(tdr_rpc_sync(group.agents[0], "worker2", "test::give", TDR_ARGS(0), NULL, &value));
	expect_ok(tdr_value_get_rref(value, &back));
	expect_true(here(back) == 23);
	call_ok(group.agents[0], "worker2", "test::drop", TDR_ARGS(0));
	expect_true(here(back) == 23);
	tdr_value_unref(value);
	eventually(has_none, group.agents[1]);
	/* owner to user */
	local = tdr_rref_new(group.agents[0], tdr_int(7));
	expect_true(count_of(group.agents[0], "rref.num_owner_rrefs") == 0);
	expect_true(call_int(group.agents[0], "worker1", "test::look", TDR_ARGS(local)) == 7);
	tdr_rref_unref(local);
	eventually(has_none, group.agents[0]);
	group_end(&group);
}

struct counter {
	int64_t count;
};

static _Atomic int destroyed;

static void destroy(void *object)
{
	free(object);
	atomic_fetch_add(&destroyed, 1);
}

static tdr_status make_counter(tdr_call *call, void *context)
{
	struct counter *counter = calloc(1, sizeof(*counter));

	return tdr_return(call, tdr_native("test::Counter", counter, destroy));
}

static tdr_status count_up(tdr_call *call, void *context)
{
	void *counter;
	tdr_status status = tdr_value_get_native(tdr_arg(call, 0), "test::Counter", &counter);

	if (status != TDR_OK)
		return status;
	((struct counter *)counter)->count += tdr_arg_int(call, 1);
	return tdr_return_int(call, ((struct counter *)counter)->count);
}

static void prepare_counter(tdr_agent *agent, size_t rank)
{
	prepare(agent, rank);
	expect_ok(tdr_register(agent, "test::Counter() -> Any", make_counter, NULL, 0));
	expect_ok(tdr_register(agent, "test::Counter::count(Any self, int by=1) -> int", count_up, NULL,
	                       TDR_FUNCTION_INLINE));
}

static bool is_destroyed(void *context)
{
	return atomic_load(&destroyed) == 1;
}

static void functions_are_called_on_objects(void **state)
{
	struct group group;
	tdr_rref *counter, *result;
	tdr_value *value;
	int64_t number;

	group_start(&group, 2, &(struct group_config){.prepare = prepare_counter});
	counter = tdr_remote(group.agents[0], "worker1", "test::Counter", NULL, NULL);
	expect_ok(tdr_rref_rpc_sync(counter, "count", TDR_ARGS(5), NULL, &value));
	expect_ok(tdr_value_get_int(value, &number));
	expect_true(number == 5);
	tdr_value_unref(value);
	result = tdr_rref_remote(counter, "count", NULL, NULL);
	expect_true(here(result) == 6);
	tdr_rref_unref(result);
	expect_future(tdr_rref_rpc_async(counter, "test::Counter::count", NULL, NULL), TDR_OK, NULL);
	expect_status(tdr_rref_rpc_sync(counter, "none", NULL, NULL, NULL), TDR_ENOFUNCTION);
	expect_status(tdr_rref_to_here(counter, PATIENCE_MS, &value), TDR_EUNSUPPORTED);
	expect_error("test::Counter");
	tdr_rref_unref(counter);
	eventually(is_destroyed, NULL);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_result_stays_where_it_was_made),   TEST(a_reference_to_oneself),
	    TEST(a_failed_creation_is_raised_on_use), TEST(references_are_passed_on),
	    TEST(functions_are_called_on_objects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
