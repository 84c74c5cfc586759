/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups of agents for tests: all in this process, or a process each; and what such tests have in common.
 *
 *     struct group group;
 *
 *     group_start(&group, 3, NULL);             agents "worker0" to "worker2", members of one group
 *     expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::echo", ...), TDR_OK);
 *     group_end(&group);                        all shut down together, gracefully
 *
 * With TENDRIL_TEST_TRANSPORT=sim in the environment, groups in one process run over a simulated network, whose seed is printed
 * and may be given again by TENDRIL_TEST_SEED.
 *
 * Failures are noted by the expect_ functions below, from any thread and also inside functions and callbacks, where an
 * assertion of cmocka must not be used; TEST() fails a test that has noted one, or that leaves anything behind.
 */
#ifndef TENDRIL_TESTS_GROUP_H
#define TENDRIL_TESTS_GROUP_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tendril.h>

#include <cmocka.h>

/* For what will come, unless something is wrong: 30 s, times TENDRIL_TEST_PATIENCE where the environment has it. */
int64_t patience_ms(void);
#define PATIENCE_MS patience_ms()

/* ---- expectations: from any thread ---- */

void expect_true_at(bool truth, const char *text, const char *file, int line);
tdr_status expect_status_at(tdr_status status, tdr_status wanted, const char *text, const char *file, int line);
void expect_text_at(const char *text, const char *part, const char *file, int line);

#define expect_true(truth) expect_true_at((truth), #truth, __FILE__, __LINE__)
#define expect_status(status, wanted) expect_status_at((status), (wanted), #status, __FILE__, __LINE__)
#define expect_ok(status) expect_status(status, TDR_OK)
#define expect_text(text, part) expect_text_at((text), (part), __FILE__, __LINE__)
#define expect_error(part) expect_text(tdr_last_error(), (part)) /* of the last failure in this thread */

/* How many expectations have failed since the last question. */
unsigned expectations_failed(void);

int test_setup(void **state);
int test_teardown(void **state);
#define TEST(function) cmocka_unit_test_setup_teardown(function, test_setup, test_teardown)

/* ---- threads ---- */

/* Runs `work` in `count` threads at once, index 0 to count - 1, and waits for all of them. */
void in_parallel(size_t count, void (*work)(void *context, size_t index), void *context);

void pause_ms(int64_t milliseconds);
int64_t now_ms(void);

/* Waits until `condition` holds; notes a failure and returns false if it does not within PATIENCE_MS. */
bool eventually(bool (*condition)(void *context), void *context);

/* A place where functions stop until the test lets them go on. */
struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned arrived; /* that have come, all in all */
	bool open;
};

#define GATE_INIT                                                                                                      \
	{                                                                                                              \
		.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                                 \
	}

void gate_pass(struct gate *gate);                    /* waits until it is open */
void gate_close(struct gate *gate);                   /* as at first: nobody has come */
void gate_open(struct gate *gate);                    /* for all, for good */
void gate_await(struct gate *gate, unsigned arrived); /* waits until so many have come */
unsigned gate_arrived(struct gate *gate);

/* ---- groups in this process ---- */

struct group_config {
	bool share_engine;                /* all agents on one engine; otherwise each has its own */
	const tdr_engine_options *engine; /* of the one engine; NULL: the defaults */
	/* Changes agent `rank`'s options; may be NULL. */
	void (*configure)(size_t rank, tdr_agent_options *options);
	/* Before they join: registers functions; may be NULL. */
	void (*prepare)(tdr_agent *agent, size_t rank);
};

struct group {
	size_t count;
	tdr_store *store;
	tdr_engine *engine; /* the one engine, or NULL */
	tdr_agent **agents; /* [count]; a test that ends one by itself sets it to NULL */
};

/*
 * Starts agents "worker0" and so on, which serve test::echo(Any value) -> Any. `config` NULL: an engine each. Aborts the
 * test where they cannot join.
 */
void group_start(struct group *group, size_t count, const struct group_config *config);

/* Makes and prepares them, but does not let them join. */
void group_make(struct group *group, size_t count, const struct group_config *config);

/* All join at once; each one's outcome, [count], and its text. */
struct outcome {
	tdr_status status;
	char text[512];
};

void group_join(struct group *group, struct outcome *outcomes);

/* Shuts all down at once, gracefully, and expects that to succeed. */
void group_end(struct group *group);

/* Ends all of them at once without waiting for anything. */
void group_drop(struct group *group);

/* The name "workerRANK"; valid until the thread's next but seven such call. */
const char *worker_name(size_t rank);

/* Options as group_start gives them to agents, for a test that makes its own. `store` NULL: in a process of its own. */
void member_options(tdr_agent_options *options, size_t rank, size_t count, tdr_store *store);

/* ---- calls ---- */

/* A call that is expected to succeed, of which only the success matters. */
#define call_ok(agent, worker, function, args) expect_ok(tdr_rpc_sync(agent, worker, function, args, NULL, NULL))

/* A call that is expected to give an int. INT64_MIN where it does not. */
int64_t call_int(tdr_agent *agent, const char *worker, const char *function, tdr_value *args);

/* Waits for a future, expects a status and, where `part` is not NULL, a part of the error's text; drops the future. */
void expect_future_at(tdr_future *future, tdr_status wanted, const char *part, const char *file, int line);
#define expect_future(future, wanted, part) expect_future_at((future), (wanted), (part), __FILE__, __LINE__)

#endif
