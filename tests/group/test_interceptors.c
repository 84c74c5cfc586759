/* SPDX-License-Identifier: Apache-2.0 */
/* Interceptors: what they see of a call, in which order, and what they may change. */
#include "group.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- two interceptors, A and B, that keep a journal ---- */

enum {
	JOURNAL = 1000
};

enum side {
	CALLER,
	CALLEE
};

static struct {
	pthread_mutex_t lock;
	char text[2][JOURNAL]; /* by side: "A.issue B.issue ..." */
	unsigned slots;        /* allocated and not freed */
} journal = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void journal_clear(void)
{
	pthread_mutex_lock(&journal.lock);
	memset(journal.text, 0, sizeof(journal.text));
	pthread_mutex_unlock(&journal.lock);
}

static void journal_add(const tdr_passage *passage, const char *who, const char *hook)
{
	char *text = journal.text[tdr_passage_incoming(passage) ? CALLEE : CALLER];
	size_t at;

	pthread_mutex_lock(&journal.lock);
	at = strlen(text);
	snprintf(text + at, JOURNAL - at, "%s%s.%s", at ? " " : "", who, hook);
	pthread_mutex_unlock(&journal.lock);
}

static bool callee_is_done(void *context)
{
	bool done;

	pthread_mutex_lock(&journal.lock);
	done = journal.slots == 0;
	pthread_mutex_unlock(&journal.lock);
	return done;
}

static void expect_journal_at(const char *caller, const char *callee, int line)
{
	eventually(callee_is_done, NULL);
	pthread_mutex_lock(&journal.lock);
	if (strcmp(journal.text[CALLER], caller) != 0 || strcmp(journal.text[CALLEE], callee) != 0) {
		expect_true_at(false, "the journal to be right", __FILE__, line);
		fprintf(stderr, "caller: %s\ncallee: %s\n", journal.text[CALLER], journal.text[CALLEE]);
	}
	pthread_mutex_unlock(&journal.lock);
	journal_clear();
}

#define expect_journal(caller, callee) expect_journal_at(caller, callee, __LINE__)

/* Where to fail, as "A.issue"; "" for nowhere. */
static const char *fail_at;

static bool fails_at(const char *who, const char *hook)
{
	char name[32];

	snprintf(name, sizeof(name), "%s.%s", who, hook);
	return strcmp(fail_at, name) == 0;
}

/* ---- hooks ---- */

static tdr_status first(const char *who, const char *hook, tdr_passage *passage)
{
	void **slot = tdr_passage_slot(passage);

	journal_add(passage, who, hook);
	expect_true(!*slot);
	*slot = strdup(who);
	pthread_mutex_lock(&journal.lock);
	journal.slots++;
	pthread_mutex_unlock(&journal.lock);
	return fails_at(who, hook) ? tdr_fail_with(TDR_EAUTH, "not for %s", who) : TDR_OK;
}

static void middle(const char *who, const char *hook, tdr_passage *passage)
{
	const char *slot = *tdr_passage_slot(passage);

	journal_add(passage, who, hook);
	expect_true(slot && strcmp(slot, who) == 0);
}

static tdr_status last(const char *who, const char *hook, tdr_passage *passage)
{
	void **slot = tdr_passage_slot(passage);

	middle(who, hook, passage);
	free(*slot);
	*slot = NULL;
	pthread_mutex_lock(&journal.lock);
	journal.slots--;
	pthread_mutex_unlock(&journal.lock);
	return fails_at(who, hook) ? tdr_fail_with(TDR_EAUTH, "not for %s", who) : TDR_OK;
}

static tdr_status on_issue(void *context, tdr_passage *passage)
{
	expect_true(!tdr_passage_incoming(passage) && !tdr_passage_metadata(passage));
	expect_ok(
	    tdr_passage_attach(passage, TDR_ARGS("from the caller of", context == NULL ? "" : (const char *)context)));
	return first(context, "issue", passage);
}

static tdr_status on_receive(void *context, tdr_passage *passage)
{
	tdr_value *metadata = tdr_passage_metadata(passage);
	const char *text = "";

	expect_true(tdr_passage_incoming(passage) && strcmp(tdr_passage_worker(passage).name, "worker0") == 0);
	expect_true(metadata && tdr_value_get_string(tdr_value_item(metadata, 1), &text, NULL) == TDR_OK);
	expect_true(strcmp(text, context) == 0);
	return first(context, "receive", passage);
}

static void on_enter(void *context, tdr_passage *passage)
{
	middle(context, "enter", passage);
}

static void on_leave(void *context, tdr_passage *passage)
{
	middle(context, "leave", passage);
}

static tdr_status on_reply(void *context, tdr_passage *passage)
{
	expect_ok(tdr_passage_attach(passage, TDR_ARGS("from the callee of", (const char *)context)));
	return last(context, "reply", passage);
}

static tdr_status on_complete(void *context, tdr_passage *passage)
{
	tdr_value *metadata = tdr_passage_metadata(passage);
	const char *text = context;

	if (metadata)
		expect_ok(tdr_value_get_string(tdr_value_item(metadata, 1), &text, NULL));
	expect_true(strcmp(text, context) == 0);
	expect_true((tdr_passage_status(passage) == TDR_OK) == (tdr_passage_result(passage) != NULL));
	/* A failure of its own must not become the call's. */
	expect_status(tdr_value_get_string(NULL, &text, NULL), TDR_EINVAL);
	return last(context, "complete", passage);
}

/* ---- functions ---- */

static tdr_status work(tdr_call *call, void *context)
{
	return tdr_return_int(call, tdr_arg_int(call, 0) + 1);
}

static tdr_status fail_always(tdr_call *call, void *context)
{
	return tdr_fail(call, TDR_ENOTFOUND, "nothing there");
}

static tdr_future *promise;

/* Asynchronous: returns a future of the test's. */
static tdr_status work_later(tdr_call *call, void *context)
{
	return tdr_return_future(call, promise);
}

static tdr_status add_journalers(tdr_agent *agent)
{
	static const char *const names[] = {"A", "B"};
	tdr_interceptor hooks = {
	    .size = sizeof(hooks),
	    .issue = on_issue,
	    .receive = on_receive,
	    .enter = on_enter,
	    .leave = on_leave,
	    .reply = on_reply,
	    .complete = on_complete,
	};

	for (size_t i = 0; i < 2; i++) {
		hooks.name = names[i];
		expect_ok(tdr_intercept(agent, &hooks, (void *)names[i]));
	}
	return tdr_intercept(agent, &hooks, NULL);
}

static void prepare(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::work(int n) -> int", work, NULL, 0));
	expect_ok(tdr_register(agent, "test::work_inline(int n) -> int", work, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_register(agent, "test::fail()", fail_always, NULL, 0));
	expect_ok(tdr_register(agent, "test::later() -> int", work_later, NULL, 0));
	expect_status(add_journalers(agent), TDR_EEXISTS);
}

static const struct group_config config = {.prepare = prepare};

static void start(struct group *group)
{
	fail_at = "";
	journal_clear();
	group_start(group, 2, &config);
}

static const char whole_caller[] = "A.issue B.issue B.complete A.complete";
static const char whole_callee[] = "A.receive B.receive A.enter B.enter B.leave A.leave B.reply A.reply";

/* ---- order ---- */

static void hooks_run_in_order_on_both_sides(void **state)
{
	struct group group;

	start(&group);
	expect_true(call_int(group.agents[0], "worker1", "test::work", TDR_ARGS(1)) == 2);
	expect_journal(whole_caller, whole_callee);
	expect_true(call_int(group.agents[0], "worker1", "test::work_inline", TDR_ARGS(1)) == 2);
	expect_journal(whole_caller, whole_callee);
	expect_true(call_int(group.agents[0], "worker0", "test::work", TDR_ARGS(1)) == 2);
	expect_journal(whole_caller, whole_callee);
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::fail", NULL, NULL, NULL), TDR_ENOTFOUND);
	expect_error("test::fail on worker 'worker1': nothing there");
	expect_journal(whole_caller, whole_callee);
	group_end(&group);
}

static bool has_left(void *context)
{
	bool left;

	pthread_mutex_lock(&journal.lock);
	left = strstr(journal.text[CALLEE], "A.leave") != NULL;
	pthread_mutex_unlock(&journal.lock);
	return left;
}

static void continuations_are_entered_and_left(void **state)
{
	tdr_future *future;
	struct group group;

	start(&group);
	promise = tdr_future_new(tdr_agent_engine(group.agents[1]));
	future = tdr_rpc_async(group.agents[0], "worker1", "test::later", NULL, NULL);
	eventually(has_left, NULL);
	expect_ok(tdr_future_set(promise, tdr_int(1)));
	expect_future(future, TDR_OK, NULL);
	expect_journal(whole_caller,
	               "A.receive B.receive A.enter B.enter B.leave A.leave A.enter B.enter B.leave A.leave "
	               "B.reply A.reply");
	tdr_future_unref(promise);
	group_end(&group);
}

/* The function may still be inside when its future completes: the reply is the last hook all the same. */
static void replies_come_after_all_leaves(void **state)
{
	struct group group;

	start(&group);
	promise = tdr_future_new(tdr_agent_engine(group.agents[1]));
	expect_ok(tdr_future_set(promise, tdr_int(1)));
	for (int i = 0; i < 200; i++) {
		const char *reply, *leave = NULL;

		call_ok(group.agents[0], "worker1", "test::later", NULL);
		eventually(callee_is_done, NULL);
		pthread_mutex_lock(&journal.lock);
		for (const char *at = journal.text[CALLEE]; (at = strstr(at, ".leave")); at++)
			leave = at;
		reply = strstr(journal.text[CALLEE], ".reply");
		expect_true(reply && leave && reply > leave);
		pthread_mutex_unlock(&journal.lock);
		journal_clear();
	}
	tdr_future_unref(promise);
	group_end(&group);
}

/* ---- calls that fail before they run ---- */

static void what_was_begun_is_ended_however_a_call_fails(void **state)
{
	tdr_value *list = tdr_list(0, NULL);
	struct group group;

	start(&group);
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::work", TDR_ARGS("one"), NULL, NULL), TDR_ETYPE);
	expect_error("must be int, not str");
	expect_journal(whole_caller, "A.receive B.receive B.reply A.reply");
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "no::function", NULL, NULL, NULL), TDR_ENOFUNCTION);
	expect_journal(whole_caller, "");
	expect_status(
	    tdr_rpc_sync(group.agents[0], "worker1", "test::work", TDR_ARGS(tdr_value_ref(list), list), NULL, NULL),
	    TDR_ESHARED);
	expect_error("a container can be sent in one place");
	expect_journal(whole_caller, "");
	expect_status(tdr_rpc_sync(group.agents[0], "nobody", "test::work", NULL, NULL, NULL), TDR_ENOWORKER);
	expect_journal("", "");
	group_end(&group);
}

static void interceptors_may_fail_calls(void **state)
{
	static const struct {
		const char *where, *caller, *callee;
	} cases[] = {
	    {"A.issue", "A.issue A.complete", ""},
	    {"B.issue", "A.issue B.issue B.complete A.complete", ""},
	    {"A.receive", whole_caller, "A.receive A.reply"},
	    {"B.receive", whole_caller, "A.receive B.receive B.reply A.reply"},
	    {"B.reply", whole_caller, whole_callee},
	    {"A.reply", whole_caller, whole_callee},
	    {"B.complete", whole_caller, whole_callee},
	    {"A.complete", whole_caller, whole_callee},
	};
	struct group group;

	start(&group);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char part[64];

		fail_at = cases[i].where;
		expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::work", TDR_ARGS(1), NULL, NULL),
		              TDR_EAUTH);
		snprintf(part, sizeof(part), "interceptor '%.1s': not for %.1s", fail_at, fail_at);
		expect_error(part);
		expect_journal(cases[i].caller, cases[i].callee);
	}
	fail_at = "";
	group_end(&group);
}

/* ---- replacing ---- */

static tdr_status double_args(void *context, tdr_passage *passage)
{
	int64_t number = 0;

	expect_true(strcmp(tdr_passage_function(passage), "test::work") == 0);
	if (tdr_value_count(tdr_passage_args(passage)) == 1) {
		expect_ok(tdr_value_get_int(tdr_value_item(tdr_passage_args(passage), 0), &number));
		tdr_passage_set_args(passage, TDR_ARGS(number * 2));
	} else {
		expect_ok(tdr_value_get_int(tdr_dict_get(tdr_passage_kwargs(passage), "n"), &number));
		tdr_passage_set_kwargs(passage, TDR_KWARGS("n", number * 2));
	}
	return TDR_OK;
}

/* Doubles results; failures it makes a -1. */
static tdr_status double_result(void *context, tdr_passage *passage)
{
	int64_t number = 0;

	if (tdr_passage_status(passage) != TDR_OK) {
		tdr_passage_set_result(passage, tdr_int(-1));
		return TDR_OK;
	}
	expect_ok(tdr_value_get_int(tdr_passage_result(passage), &number));
	tdr_passage_set_result(passage, tdr_int(number * 2));
	return TDR_OK;
}

static void prepare_doubling(tdr_agent *agent, size_t rank)
{
	tdr_interceptor hooks = {.size = sizeof(hooks), .name = "double"};

	expect_ok(tdr_register(agent, "test::work(int n) -> int", work, NULL, 0));
	hooks.issue = double_args;
	hooks.receive = double_args;
	hooks.reply = double_result;
	hooks.complete = double_result;
	expect_ok(tdr_intercept(agent, &hooks, NULL));
}

static void arguments_and_results_can_be_replaced(void **state)
{
	const struct group_config doubling = {.prepare = prepare_doubling};
	tdr_value *value = NULL;
	int64_t number = 0;
	struct group group;

	group_start(&group, 2, &doubling);
	expect_true(call_int(group.agents[0], "worker1", "test::work", TDR_ARGS(5)) == (5 * 4 + 1) * 4);
	expect_ok(tdr_rpc_sync(group.agents[0], "worker1", "test::work", NULL, TDR_KWARGS("n", 5), &value));
	expect_ok(tdr_value_get_int(value, &number));
	expect_true(number == (5 * 4 + 1) * 4);
	tdr_value_unref(value);
	group_end(&group);
}

static tdr_status result_of_failure(void *context, tdr_passage *passage)
{
	if (tdr_passage_status(passage) != TDR_OK)
		tdr_passage_set_result(passage, tdr_int(-1));
	return TDR_OK;
}

static void prepare_rescue(tdr_agent *agent, size_t rank)
{
	tdr_interceptor hooks = {.size = sizeof(hooks), .name = "rescue"};

	expect_ok(tdr_register(agent, "test::fail()", fail_always, NULL, 0));
	if (rank == 0)
		hooks.complete = result_of_failure;
	else
		hooks.reply = result_of_failure;
	expect_ok(tdr_intercept(agent, &hooks, NULL));
}

static void failures_can_be_given_results(void **state)
{
	const struct group_config rescue = {.prepare = prepare_rescue};
	tdr_value *list = tdr_list(0, NULL);
	struct group group;

	group_start(&group, 2, &rescue);
	expect_true(call_int(group.agents[1], "worker0", "test::echo", TDR_ARGS(3)) == 3);
	expect_true(call_int(group.agents[0], "worker1", "test::fail", NULL) == -1);
	expect_true(call_int(group.agents[1], "worker1", "test::fail", NULL) == -1);
	expect_true(call_int(group.agents[1], "worker1", "test::fail", TDR_ARGS(1)) == -1); /* what cannot be bound */
	expect_true(call_int(group.agents[0], "worker0", "no::function", NULL) == -1);
	expect_true(call_int(group.agents[0], "worker1", "test::echo", TDR_ARGS(tdr_value_ref(list), list)) == -1);
	expect_status(tdr_rpc_sync(group.agents[1], "worker0", "test::fail", NULL, NULL, NULL), TDR_ENOTFOUND);
	group_end(&group);
}

/* ---- adding ---- */

static void interceptors_are_added_before_joining(void **state)
{
	tdr_interceptor hooks = {.size = sizeof(hooks), .name = "late"};
	struct group group;

	group_start(&group, 1, NULL);
	expect_status(tdr_intercept(group.agents[0], &hooks, NULL), TDR_ESTATE);
	hooks.name = NULL;
	expect_status(tdr_intercept(group.agents[0], &hooks, NULL), TDR_EINVAL);
	hooks.name = "late";
	hooks.size = 8;
	expect_status(tdr_intercept(group.agents[0], &hooks, NULL), TDR_EINVAL);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(hooks_run_in_order_on_both_sides), TEST(continuations_are_entered_and_left),
	    TEST(replies_come_after_all_leaves),    TEST(what_was_begun_is_ended_however_a_call_fails),
	    TEST(interceptors_may_fail_calls),      TEST(arguments_and_results_can_be_replaced),
	    TEST(failures_can_be_given_results),    TEST(interceptors_are_added_before_joining),
	};

	return cmocka_run_group_tests_name("interceptors", tests, NULL, NULL);
}
