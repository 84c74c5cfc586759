/* SPDX-License-Identifier: Apache-2.0 */
#include "group.h"

#include "support/leaks.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static _Atomic unsigned failures;

static pthread_once_t patience_once = PTHREAD_ONCE_INIT;
static int64_t patience;

static void choose_patience(void)
{
	const char *times = getenv("TENDRIL_TEST_PATIENCE");

	patience = 30000 * (times && atoi(times) > 0 ? atoi(times) : 1);
}

int64_t patience_ms(void)
{
	pthread_once(&patience_once, choose_patience);
	return patience;
}

/* ---- expectations ---- */

void expect_true_at(bool truth, const char *text, const char *file, int line)
{
	if (truth)
		return;
	atomic_fetch_add(&failures, 1);
	fprintf(stderr, "%s:%d: expected %s\n", file, line, text);
}

tdr_status expect_status_at(tdr_status status, tdr_status wanted, const char *text, const char *file, int line)
{
	if (status != wanted) {
		atomic_fetch_add(&failures, 1);
		fprintf(stderr, "%s:%d: expected %s of %s, got %s (last error: %s)\n", file, line,
		        tdr_status_name(wanted), text, tdr_status_name(status), tdr_last_error());
	}
	return status;
}

void expect_text_at(const char *text, const char *part, const char *file, int line)
{
	if (text && strstr(text, part))
		return;
	atomic_fetch_add(&failures, 1);
	fprintf(stderr, "%s:%d: expected \"%s\" in \"%s\"\n", file, line, part, text ? text : "(NULL)");
}

unsigned expectations_failed(void)
{
	return atomic_exchange(&failures, 0);
}

int test_setup(void **state)
{
	atomic_store(&failures, 0);
	return leaks_setup(state);
}

int test_teardown(void **state)
{
	int left = leaks_teardown(state);

	return expectations_failed() > 0 ? -1 : left;
}

/* ---- threads ---- */

struct thread {
	pthread_t id;
	void (*work)(void *context, size_t index);
	void *context;
	size_t index;
};

static void *thread_main(void *argument)
{
	struct thread *thread = argument;

	thread->work(thread->context, thread->index);
	return NULL;
}

void in_parallel(size_t count, void (*work)(void *context, size_t index), void *context)
{
	struct thread *threads = calloc(count, sizeof(*threads));

	assert_non_null(threads);
	for (size_t i = 0; i < count; i++) {
		threads[i] = (struct thread){.work = work, .context = context, .index = i};
		assert_int_equal(pthread_create(&threads[i].id, NULL, thread_main, &threads[i]), 0);
	}
	for (size_t i = 0; i < count; i++)
		pthread_join(threads[i].id, NULL);
	free(threads);
}

void pause_ms(int64_t milliseconds)
{
	struct timespec left = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		continue;
}

int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool eventually(bool (*condition)(void *context), void *context)
{
	int64_t deadline_ms = now_ms() + PATIENCE_MS;

	while (!condition(context)) {
		if (now_ms() >= deadline_ms) {
			expect_true_at(false, "a condition to hold eventually", __FILE__, __LINE__);
			return false;
		}
		pause_ms(2);
	}
	return true;
}

static void gate_wait_changed(struct gate *gate)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_MS / 1000;
	if (pthread_cond_timedwait(&gate->changed, &gate->lock, &until) == ETIMEDOUT) {
		expect_true_at(false, "a gate to be passed in time", __FILE__, __LINE__);
		gate->open = true;
		gate->arrived = UINT32_MAX / 2;
		pthread_cond_broadcast(&gate->changed);
	}
}

void gate_pass(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->arrived++;
	pthread_cond_broadcast(&gate->changed);
	while (!gate->open)
		gate_wait_changed(gate);
	pthread_mutex_unlock(&gate->lock);
}

void gate_close(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->open = false;
	gate->arrived = 0;
	pthread_mutex_unlock(&gate->lock);
}

void gate_open(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->open = true;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

void gate_await(struct gate *gate, unsigned arrived)
{
	pthread_mutex_lock(&gate->lock);
	while (gate->arrived < arrived)
		gate_wait_changed(gate);
	pthread_mutex_unlock(&gate->lock);
}

unsigned gate_arrived(struct gate *gate)
{
	unsigned arrived;

	pthread_mutex_lock(&gate->lock);
	arrived = gate->arrived;
	pthread_mutex_unlock(&gate->lock);
	return arrived;
}

/* ---- groups ---- */

static tdr_status echo(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_value_ref(tdr_arg(call, 0)));
}

const char *worker_name(size_t rank)
{
	static _Thread_local char names[8][32];
	static _Thread_local unsigned next;
	char *name = names[next++ % 8];

	snprintf(name, sizeof(names[0]), "worker%zu", rank);
	return name;
}

/* ---- the transport: TENDRIL_TEST_TRANSPORT=sim lets groups in this process meet over made-up networks ---- */

static bool simulated;

/* Settles the seed of all networks that this process makes: TENDRIL_TEST_SEED, or one by chance. */
static void choose_transport(void)
{
	const char *transport = getenv("TENDRIL_TEST_TRANSPORT"), *seed = getenv("TENDRIL_TEST_SEED");
	char drawn[32];

	simulated = transport && strcmp(transport, "sim") == 0;
	if (!simulated)
		return;
	snprintf(drawn, sizeof(drawn), "%lld", (long long)(now_ms() % 1000000 + 1));
	seed = seed && *seed ? seed : drawn;
	fprintf(stderr, "# networks are simulated; TENDRIL_TEST_SEED=%s\n", seed);
	setenv("TENDRIL_SIM_SEED", seed, 1);
}

static bool is_simulated(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, choose_transport);
	return simulated;
}

void member_options(tdr_agent_options *options, size_t rank, size_t count, tdr_store *store)
{
	tdr_agent_options_init(options);
	if (store && is_simulated())
		options->listen = "sim://members";
	options->rank = (int64_t)rank;
	options->world_size = (int64_t)count;
	options->store = store;
	options->threads = 4;
	options->join_timeout_ms = PATIENCE_MS;
	options->shutdown_timeout_ms = PATIENCE_MS;
	options->rpc_timeout_ms = PATIENCE_MS;
	options->heartbeat_bound_ms = PATIENCE_MS;
}

void group_make(struct group *group, size_t count, const struct group_config *config)
{
	static const struct group_config plain = {0};
	static _Atomic unsigned groups;
	unsigned number = atomic_fetch_add(&groups, 1);

	config = config ? config : &plain;
	*group = (struct group){.count = count};
	group->agents = calloc(count, sizeof(*group->agents));
	assert_non_null(group->agents);
	assert_int_equal(tdr_store_hash(&group->store), TDR_OK);
	if (config->share_engine)
		assert_int_equal(tdr_engine_new(config->engine, &group->engine), TDR_OK);
	for (size_t i = 0; i < count; i++) {
		tdr_agent_options options;
		char listen[64];

		member_options(&options, i, count, group->store);
		options.engine = group->engine;
		if (is_simulated()) { /* a network and ports of its own, for the same fates in every run */
			snprintf(listen, sizeof(listen), "sim://group%u:%zu", number, i + 1);
			options.listen = listen;
		}
		if (config->configure)
			config->configure(i, &options);
		group->agents[i] = tdr_agent_new(worker_name(i), &options);
		if (!group->agents[i])
			fail_msg("worker%zu: %s", i, tdr_last_error());
		expect_ok(
		    tdr_register(group->agents[i], "test::echo(Any value) -> Any", echo, NULL, TDR_FUNCTION_INLINE));
		if (config->prepare)
			config->prepare(group->agents[i], i);
	}
}

struct joining {
	struct group *group;
	struct outcome *outcomes;
};

static void join_one(void *context, size_t index)
{
	struct joining *joining = context;
	struct outcome *outcome = &joining->outcomes[index];

	outcome->status = tdr_join(joining->group->agents[index]);
	snprintf(outcome->text, sizeof(outcome->text), "%s", outcome->status != TDR_OK ? tdr_last_error() : "");
}

void group_join(struct group *group, struct outcome *outcomes)
{
	struct joining joining = {.group = group, .outcomes = outcomes};

	in_parallel(group->count, join_one, &joining);
}

void group_start(struct group *group, size_t count, const struct group_config *config)
{
	struct outcome *outcomes = calloc(count, sizeof(*outcomes));

	assert_non_null(outcomes);
	group_make(group, count, config);
	group_join(group, outcomes);
	for (size_t i = 0; i < count; i++)
		if (outcomes[i].status != TDR_OK)
			fail_msg("worker%zu could not join: %s: %s", i, tdr_status_name(outcomes[i].status),
			         outcomes[i].text);
	free(outcomes);
}

static void group_free(struct group *group)
{
	tdr_store_unref(group->store);
	tdr_engine_unref(group->engine);
	free(group->agents);
	*group = (struct group){0};
}

static void end_one(void *context, size_t index)
{
	struct group *group = context;

	if (group->agents[index])
		expect_ok(tdr_shutdown(group->agents[index], NULL));
}

void group_end(struct group *group)
{
	in_parallel(group->count, end_one, group);
	group_free(group);
}

static void drop_one(void *context, size_t index)
{
	struct group *group = context;

	tdr_agent_unref(group->agents[index]);
}

void group_drop(struct group *group)
{
	in_parallel(group->count, drop_one, group);
	group_free(group);
}

/* ---- calls ---- */

int64_t call_int(tdr_agent *agent, const char *worker, const char *function, tdr_value *args)
{
	tdr_value *value = NULL;
	int64_t number = INT64_MIN;

	if (expect_ok(tdr_rpc_sync(agent, worker, function, args, NULL, &value)) == TDR_OK)
		expect_ok(tdr_value_get_int(value, &number));
	tdr_value_unref(value);
	return number;
}

void expect_future_at(tdr_future *future, tdr_status wanted, const char *part, const char *file, int line)
{
	tdr_status status = tdr_future_wait(future, PATIENCE_MS, NULL);

	expect_status_at(status, wanted, "a future", file, line);
	if (part)
		expect_text_at(tdr_future_error(future), part, file, line);
	tdr_future_unref(future);
}
