/* SPDX-License-Identifier: Apache-2.0 */
/* What faults are done to which message: types by name, and contents told from each other. */
#include "agent/faulty.h"
#include "agent/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Each type with a delay of its own, in milliseconds. */
static const struct {
	enum faulty_type type;
	const char *function, *name;
	int64_t delay_ms;
} types[] = {
    {FAULTY_CALL, "aten::add", "SCRIPT_CALL", 1},
    {FAULTY_CALL, "python::f", "PYTHON_CALL", 20},
    {FAULTY_CALL, "pythonic::f", "SCRIPT_CALL", 1},
    {FAULTY_REMOTE_CALL, "f", "SCRIPT_REMOTE_CALL", 300},
    {FAULTY_REMOTE_CALL, "python::", "PYTHON_REMOTE_CALL", 4000},
    {FAULTY_FETCH, NULL, "SCRIPT_RREF_FETCH_CALL", 50000},
    {FAULTY_FETCH, "python::f", "PYTHON_RREF_FETCH_CALL", 600000},
    {FAULTY_FORK_REQUEST, NULL, "RREF_FORK_REQUEST", 7000000},
    {FAULTY_CHILD_ACCEPT, NULL, "RREF_CHILD_ACCEPT", 8008},
    {FAULTY_USER_DELETE, NULL, "RREF_USER_DELETE", 90909},
    {FAULTY_CLEANUP_CONTEXT, NULL, "CLEANUP_AUTOGRAD_CONTEXT_REQ", 1000000000},
};

static tdr_agent *make(const char *fail_messages, int64_t fail_sends, const char *delay_messages)
{
	tdr_agent_options options;
	tdr_agent *agent;

	tdr_agent_options_init(&options);
	options.threads = 1;
	options.backend = "FAULTY";
	options.fail_messages = fail_messages;
	options.fail_sends = fail_sends;
	options.delay_messages = delay_messages;
	agent = tdr_agent_new("worker0", &options);
	if (!agent)
		fail_msg("%s", tdr_last_error());
	return agent;
}

static tdr_status check(tdr_agent *agent, enum faulty_type type, const char *function, const char *content)
{
	int64_t delay_ms;

	return faulty_check(agent->faulty, type, function, content, strlen(content), "a letter", &delay_ms);
}

static void each_type_has_its_delay(void **state)
{
	const char *delays =
	    "SCRIPT_CALL=0.001, PYTHON_CALL=.02,SCRIPT_REMOTE_CALL=0.3,PYTHON_REMOTE_CALL=4,"
	    "SCRIPT_RREF_FETCH_CALL=50.,PYTHON_RREF_FETCH_CALL=600.0000,RREF_FORK_REQUEST=7000,"
	    "RREF_CHILD_ACCEPT=8.008999,RREF_USER_DELETE=090.909\t,CLEANUP_AUTOGRAD_CONTEXT_REQ=1000000";
	tdr_agent *agent = make(NULL, 0, delays);

	for (size_t i = 0; i < COUNT_OF(types); i++) {
		int64_t delay_ms = -1;

		assert_int_equal(
		    faulty_check(agent->faulty, types[i].type, types[i].function, "x", 1, "a letter", &delay_ms),
		    TDR_OK);
		if (delay_ms != types[i].delay_ms)
			fail_msg("%s waits %lld ms", types[i].name, (long long)delay_ms);
	}
	tdr_agent_unref(agent);
}

static void only_the_type_that_is_named_fails(void **state)
{
	for (size_t i = 0; i < COUNT_OF(types); i++) {
		tdr_agent *agent = make(types[i].name, 1, NULL);

		for (size_t j = 0; j < COUNT_OF(types); j++) {
			bool fails = strcmp(types[i].name, types[j].name) == 0;
			tdr_status status = check(agent, types[j].type, types[j].function, "x");
			char text[128];

			assert_int_equal(status, fails ? TDR_EIO : TDR_OK);
			snprintf(text, sizeof(text), "RPCErr:2:Send attempt failed intentionally for %s: a letter",
			         types[j].name);
			if (fails)
				assert_string_equal(tdr_last_error(), text);
			assert_int_equal(check(agent, types[j].type, types[j].function, "x"), TDR_OK);
		}
		tdr_agent_unref(agent);
	}
}

static void contents_differ_by_type_function_and_bytes(void **state)
{
	tdr_agent *agent = make("SCRIPT_CALL,RREF_USER_DELETE,RREF_FORK_REQUEST", 2, NULL);

	for (int i = 0; i < 2; i++) {
		assert_int_equal(check(agent, FAULTY_USER_DELETE, NULL, "x"), TDR_EIO);
		assert_int_equal(check(agent, FAULTY_FORK_REQUEST, NULL, "x"), TDR_EIO);
		assert_int_equal(check(agent, FAULTY_USER_DELETE, NULL, "y"), TDR_EIO);
		assert_int_equal(check(agent, FAULTY_USER_DELETE, NULL, ""), TDR_EIO);
		assert_int_equal(check(agent, FAULTY_CALL, "f", "x"), TDR_EIO);
		assert_int_equal(check(agent, FAULTY_CALL, "g", "x"), TDR_EIO);
	}
	assert_int_equal(check(agent, FAULTY_USER_DELETE, NULL, "x"), TDR_OK);
	assert_int_equal(check(agent, FAULTY_FORK_REQUEST, NULL, "x"), TDR_OK);
	assert_int_equal(check(agent, FAULTY_USER_DELETE, NULL, "y"), TDR_OK);
	assert_int_equal(check(agent, FAULTY_USER_DELETE, NULL, ""), TDR_OK);
	assert_int_equal(check(agent, FAULTY_CALL, "f", "x"), TDR_OK);
	assert_int_equal(check(agent, FAULTY_CALL, "g", "x"), TDR_OK);
	assert_int_equal(check(agent, FAULTY_NONE, "f", "x"), TDR_OK);
	tdr_agent_unref(agent);
}

static void without_faults_nothing_happens(void **state)
{
	int64_t delay_ms = -1;

	assert_int_equal(faulty_check(NULL, FAULTY_CALL, "f", "x", 1, "a letter", &delay_ms), TDR_OK);
	assert_int_equal(delay_ms, 0);
	faulty_close(NULL);
	assert_null(faulty_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_type_has_its_delay),
	    cmocka_unit_test(only_the_type_that_is_named_fails),
	    cmocka_unit_test(contents_differ_by_type_function_and_bytes),
	    cmocka_unit_test(without_faults_nothing_happens),
	};

	return cmocka_run_group_tests_name("faulty", tests, NULL, NULL);
}
