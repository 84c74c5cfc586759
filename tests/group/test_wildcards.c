/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that stand for a whole namespace, and all that an error may carry from one to its caller. */
#include "group.h"

static tdr_status add(tdr_call *call, void *context)
{
	return tdr_return_int(call, tdr_arg_int(call, 0) + tdr_arg_int(call, 1));
}

static tdr_status name_it(tdr_call *call, void *context)
{
	if (tdr_value_count(tdr_arg(call, 0)) != 2 || !tdr_dict_get(tdr_arg(call, 1), "key"))
		return tdr_call_fail(call, TDR_EREMOTE, "ValueError: two and a key", "line 7", tdr_int(7));
	return tdr_return_string(call, tdr_call_function_name(call));
}

static void prepare_wildcard(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "python::*(...) -> Any", name_it, NULL, 0));
	expect_ok(tdr_register(agent, "python::add(int a, int b) -> int", add, NULL, 0));
}

/* What an error carries reaches the caller, also by way of a reference. */
static void expect_detail(tdr_future *future)
{
	int64_t number = 0;

	expect_status(tdr_future_wait(future, PATIENCE_MS, NULL), TDR_EREMOTE);
	expect_error("ValueError: two and a key");
	expect_text(tdr_future_traceback(future), "line 7");
	if (tdr_future_detail(future))
		expect_ok(tdr_value_get_int(tdr_future_detail(future), &number));
	expect_true(number == 7);
	expect_true(!tdr_future_value(future));
	tdr_future_unref(future);
}

static void a_wildcard_takes_what_has_no_name_of_its_own(void **state)
{
	struct group group;
	tdr_rref *rref;
	tdr_value *value;
	const char *text;

	group_start(&group, 2, &(struct group_config){.prepare = prepare_wildcard});
	expect_ok(tdr_rpc_sync(group.agents[0], "worker1", "python::some.module:Class.method", TDR_ARGS(1, "b"),
	                       TDR_KWARGS("key", 3), &value));
	expect_ok(tdr_value_get_string(value, &text, NULL));
	expect_text(text, "python::some.module:Class.method");
	tdr_value_unref(value);
	expect_true(call_int(group.agents[0], "worker1", "python::add", TDR_ARGS(1, 2)) == 3);
	expect_future(tdr_rpc_async(group.agents[0], "worker1", "pythons::add", NULL, NULL), TDR_ENOFUNCTION, NULL);
	expect_detail(tdr_rpc_async(group.agents[0], "worker1", "python::x", NULL, NULL));
	rref = tdr_remote(group.agents[0], "worker1", "python::x", NULL, NULL);
	expect_detail(tdr_rref_fetch(rref, PATIENCE_MS));
	expect_detail(tdr_rref_rpc_async(rref, "python::add", TDR_ARGS(1), NULL));
	tdr_rref_unref(rref);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_wildcard_takes_what_has_no_name_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
