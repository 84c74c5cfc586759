/* SPDX-License-Identifier: Apache-2.0 */
/* Backends by name: those built in, those of a program, and how an agent comes by one. */
#include "group.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic unsigned made; /* agents, by test backends */

/* Options of a group of one. */
static void alone(tdr_agent_options *options, tdr_store *store)
{
	options->rank = 0;
	options->world_size = 1;
	options->threads = 1;
	options->store = store;
}

static void end(tdr_agent *agent)
{
	expect_ok(tdr_shutdown(agent, NULL));
}

/* ---- backends of the test ---- */

static tdr_status answer(tdr_call *call, void *context)
{
	return tdr_return_int(call, *(const int64_t *)context);
}

static void construct(void *context, tdr_agent_options *options)
{
	options->max_depth = 77;
	options->backend = "overwritten";
}

/* Agents that serve test::answer, which gives `context`'s number. */
static tdr_status make_answering(void *context, const char *worker_name, const tdr_agent_options *options,
                                 tdr_agent **ret_agent)
{
	tdr_agent *agent;
	tdr_status status;

	expect_text(options->backend, "TENDRIL");
	agent = tdr_agent_new(worker_name, options);
	if (!agent)
		return TDR_EINVAL;
	atomic_fetch_add(&made, 1);
	status = tdr_register(agent, "test::answer() -> int", answer, context, 0);
	if (status != TDR_OK) {
		tdr_agent_unref(agent);
		return status;
	}
	*ret_agent = agent;
	return TDR_OK;
}

/* Leaves it to another. */
static tdr_status make_by_other(void *context, const char *worker_name, const tdr_agent_options *options,
                                tdr_agent **ret_agent)
{
	tdr_agent_options changed = *options;

	changed.backend = context;
	*ret_agent = tdr_agent_new(worker_name, &changed);
	return *ret_agent ? TDR_OK : TDR_EINVAL;
}

static tdr_status make_nothing(void *context, const char *worker_name, const tdr_agent_options *options,
                               tdr_agent **ret_agent)
{
	return TDR_OK;
}

static int64_t forty_two = 42;
static const tdr_backend answering = {
    .size = sizeof(tdr_backend), .text = "serves an answer", .construct_options = construct, .make = make_answering};
static const tdr_backend by_other = {.size = sizeof(tdr_backend), .make = make_by_other};
static const tdr_backend broken = {.size = sizeof(tdr_backend), .make = make_nothing};
static const tdr_backend preset = {.size = sizeof(tdr_backend), .construct_options = construct};

/* Names live as long as the process. */
static void register_all(void **state)
{
	expect_ok(tdr_register_backend("ANSWERING", &answering, &forty_two));
	expect_ok(tdr_register_backend("FAULTY-TOO", &by_other, (void *)"FAULTY"));
	expect_ok(tdr_register_backend("AROUND", &by_other, (void *)"ANSWERING"));
	expect_ok(tdr_register_backend("ENDLESS", &by_other, (void *)"ENDLESS"));
	expect_ok(tdr_register_backend("BROKEN", &broken, NULL));
	expect_ok(tdr_register_backend("PRESET", &preset, NULL));
}

/* ---- the table ---- */

static void backends_are_listed(void **state)
{
	static const char *const names[] = {"TENDRIL", "FAULTY",  "ANSWERING", "FAULTY-TOO",
	                                    "AROUND",  "ENDLESS", "BROKEN",    "PRESET"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		expect_text(tdr_backend_name(i), names[i]);
		expect_true(tdr_backend_registered(names[i]));
		expect_true(tdr_backend_text(names[i]) != NULL);
	}
	expect_true(tdr_backend_name(sizeof(names) / sizeof(names[0])) == NULL);
	expect_text(tdr_backend_text("ANSWERING"), "serves an answer");
	expect_true(!tdr_backend_registered("answering") && !tdr_backend_registered(NULL));
	expect_true(tdr_backend_text("nothing") == NULL);
}

static void what_cannot_be_registered_is_refused(void **state)
{
	char long_name[129];
	tdr_backend wrong = answering;

	memset(long_name, 'x', 128);
	long_name[128] = '\0';
	wrong.size--;
	expect_status(tdr_register_backend("ANSWERING", &answering, NULL), TDR_EEXISTS);
	expect_error("RPC backend ANSWERING: already registered");
	expect_status(tdr_register_backend("TENDRIL", &answering, NULL), TDR_EEXISTS);
	expect_status(tdr_register_backend("WRONG", &wrong, NULL), TDR_EINVAL);
	expect_error("sizeof(tdr_backend)");
	expect_status(tdr_register_backend("WRONG", NULL, NULL), TDR_EINVAL);
	expect_status(tdr_register_backend(NULL, &answering, NULL), TDR_EINVAL);
	expect_status(tdr_register_backend("", &answering, NULL), TDR_EINVAL);
	expect_status(tdr_register_backend("two words", &answering, NULL), TDR_EINVAL);
	expect_status(tdr_register_backend(long_name, &answering, NULL), TDR_EINVAL);
	expect_error("1 to 127 letters");
	expect_true(!tdr_backend_registered("WRONG"));
}

static void options_have_the_backends_defaults(void **state)
{
	tdr_agent_options options;

	expect_ok(tdr_backend_construct_options("TENDRIL", &options));
	expect_text(options.backend, "TENDRIL");
	expect_true(options.rpc_timeout_ms == 60000 && options.fail_sends == 0);
	expect_ok(tdr_backend_construct_options("FAULTY", &options));
	expect_text(options.backend, "FAULTY");
	expect_true(options.fail_sends == 3 && !options.fail_messages);
	expect_ok(tdr_backend_construct_options("ANSWERING", &options));
	expect_text(options.backend, "ANSWERING");
	expect_true(options.max_depth == 77 && options.size == sizeof(options));
	options.max_depth = 5;
	expect_status(tdr_backend_construct_options("faulty", &options), TDR_ENOTFOUND);
	expect_error("there is no RPC backend 'faulty'; did you mean 'FAULTY'?; there are: TENDRIL, FAULTY, ANSWERING");
	expect_status(tdr_backend_construct_options("Gloo", &options), TDR_ENOTFOUND);
	expect_error("there is no RPC backend 'Gloo'; there are: TENDRIL");
	expect_status(tdr_backend_construct_options(NULL, &options), TDR_EINVAL);
	expect_true(options.max_depth == 5);
}

/* ---- making ---- */

static void an_agent_comes_by_its_option(void **state)
{
	tdr_agent_options options;
	tdr_agent *agent;

	tdr_agent_options_init(&options);
	agent = tdr_agent_new("worker0", &options);
	expect_text(tdr_agent_backend(agent), "TENDRIL");
	tdr_agent_unref(agent);
	options.backend = "FAULTY";
	agent = tdr_agent_new("worker0", &options);
	expect_text(tdr_agent_backend(agent), "FAULTY");
	tdr_agent_unref(agent);
	options.backend = "PRESET";
	agent = tdr_agent_new("worker0", &options);
	expect_text(tdr_agent_backend(agent), "PRESET");
	tdr_agent_unref(agent);
	options.backend = "TENDRILS";
	expect_true(tdr_agent_new("worker0", &options) == NULL);
	expect_error("did you mean 'TENDRIL'?");
}

static void an_agent_comes_by_the_environment(void **state)
{
	tdr_agent *agent;

	setenv("TENDRIL_BACKEND", "ANSWERING", 1);
	agent = tdr_agent_new("worker0", NULL);
	unsetenv("TENDRIL_BACKEND");
	expect_text(tdr_agent_backend(agent), "ANSWERING");
	tdr_agent_unref(agent);
	setenv("TENDRIL_FAIL_MESSAGES", "SCRIPT_CALL", 1);
	expect_true(tdr_agent_new("worker0", NULL) == NULL);
	expect_error("option fail_messages is only for backend FAULTY");
	unsetenv("TENDRIL_FAIL_MESSAGES");
}

static void a_backend_of_the_program_makes_agents(void **state)
{
	tdr_agent_options options;
	tdr_store *store = NULL;
	tdr_agent *agent = NULL;

	atomic_store(&made, 0);
	expect_ok(tdr_store_hash(&store));
	expect_ok(tdr_backend_construct_options("ANSWERING", &options));
	alone(&options, store);
	expect_ok(tdr_init_backend("ANSWERING", "worker0", &options, &agent));
	expect_true(call_int(agent, "worker0", "test::answer", NULL) == 42);
	expect_text(tdr_agent_backend(agent), "ANSWERING");
	end(agent);
	expect_ok(tdr_init_backend("AROUND", "worker0", &options, &agent));
	expect_true(call_int(agent, "worker0", "test::answer", NULL) == 42);
	expect_text(tdr_agent_backend(agent), "AROUND");
	end(agent);
	expect_true(atomic_load(&made) == 2);
	tdr_store_unref(store);
}

static void a_backend_may_make_agents_by_another(void **state)
{
	tdr_agent_options options;
	tdr_store *store = NULL;
	tdr_agent *agent = NULL;

	expect_ok(tdr_store_hash(&store));
	tdr_agent_options_init(&options);
	alone(&options, store);
	options.fail_messages = "SCRIPT_CALL";
	options.fail_sends = 1;
	expect_ok(tdr_init_backend("FAULTY-TOO", "worker0", &options, &agent));
	expect_status(tdr_rpc_sync(agent, "worker0", "test::no_matter", NULL, NULL, NULL), TDR_EIO);
	expect_error("failed intentionally");
	expect_status(tdr_rpc_sync(agent, "worker0", "test::no_matter", NULL, NULL, NULL), TDR_ENOFUNCTION);
	end(agent);
	tdr_store_unref(store);
}

static void failures_name_the_backend(void **state)
{
	tdr_agent_options options;
	tdr_agent *agent = NULL;

	tdr_agent_options_init(&options);
	expect_status(tdr_init_backend("BROKEN", "worker0", &options, &agent), TDR_EINTERNAL);
	expect_error("RPC backend BROKEN says that it has made agent 'worker0', and gives none");
	expect_status(tdr_init_backend("ENDLESS", "worker0", &options, &agent), TDR_EINVAL);
	expect_error("RPC backend ENDLESS makes its agents by a backend that makes them by ENDLESS");
	expect_status(tdr_init_backend("ANSWERING", "not a name", &options, &agent), TDR_EINVAL);
	expect_error("RPC backend ANSWERING: Worker name must match");
	expect_status(tdr_init_backend("ANSWER", "worker0", &options, &agent), TDR_ENOTFOUND);
	options.size--;
	expect_status(tdr_init_backend("TENDRIL", "worker0", &options, &agent), TDR_EINVAL);
	expect_true(agent == NULL);
}

/* ---- at once ---- */

static void register_and_look(void *context, size_t index)
{
	char name[32];
	unsigned *won = context;

	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "MANY-%u", i);
		if (tdr_register_backend(name, &answering, &forty_two) == TDR_OK)
			__atomic_fetch_add(won, 1, __ATOMIC_RELAXED);
		expect_true(tdr_backend_registered(name));
		for (size_t at = 0; tdr_backend_name(at); at++)
			expect_true(tdr_backend_text(tdr_backend_name(at)) != NULL);
	}
}

static void threads_may_register_at_once(void **state)
{
	unsigned won = 0;

	in_parallel(4, register_and_look, &won);
	expect_true(won == 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(register_all),
	    TEST(backends_are_listed),
	    TEST(what_cannot_be_registered_is_refused),
	    TEST(options_have_the_backends_defaults),
	    TEST(an_agent_comes_by_its_option),
	    TEST(an_agent_comes_by_the_environment),
	    TEST(a_backend_of_the_program_makes_agents),
	    TEST(a_backend_may_make_agents_by_another),
	    TEST(failures_name_the_backend),
	    TEST(threads_may_register_at_once),
	};

	return cmocka_run_group_tests_name("backends", tests, NULL, NULL);
}
