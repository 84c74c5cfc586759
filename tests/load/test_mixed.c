/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Under load: 8 processes with 16 threads each call one another at random, with tensors of 0 B to 64 MiB, and check every result.
 * In the second run one process is killed halfway: calls to it fail with TDR_EWORKERGONE naming it, all others succeed.
 */
#include "base/clock.h"
#include "base/macros.h"
#include "support/leaks.h"
#include "support/processes.h"

#include <tendril.h>

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum {
	PROCESSES = 8,
	THREADS = 16,
	LARGEST_SHIFT = 26,    /* 64 MiB */
	LARGE_BYTES = 1 << 20, /* of these, only a few at once: the machine's memory is shared by all */
	LARGE_AT_ONCE = 2,
	VICTIM = PROCESSES - 1,
};

struct plan {
	char url[64];
	int rank;
	int64_t duration_ms;
	bool kill_one;
};

struct load {
	const struct plan *plan;
	tdr_agent *agent;
	sem_t large;
	int64_t end_ms;
	_Atomic uint64_t calls, gone, wrong;
	pthread_mutex_t lock;
	char first_wrong[512];
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* ---- what workers serve ---- */

/* The bytes back, each one higher. */
static tdr_status shifted(tdr_call *call, void *context)
{
	const tdr_tensor *tensor = tdr_arg_tensor(call, 0);
	int64_t size = tdr_tensor_numel(tensor);
	const uint8_t *from = tdr_tensor_data(tensor);
	tdr_tensor *result;
	uint8_t *to;
	tdr_status status = tdr_tensor_empty(TDR_U8, 1, &size, &result);

	if (status != TDR_OK)
		return status;
	to = tdr_tensor_data(result);
	for (int64_t i = 0; i < size; i++)
		to[i] = (uint8_t)(from[i] + 1);
	status = tdr_return_tensor(call, result);
	tdr_tensor_unref(result);
	return status;
}

static tdr_status add(tdr_call *call, void *context)
{
	return tdr_return_int(call, tdr_arg_int(call, 0) + tdr_arg_int(call, 1));
}

/* Calls the next worker in turn, until `hops` is used up. The victim is left out: its end is another test's matter. */
static tdr_status relay(tdr_call *call, void *context)
{
	const struct load *load = context;
	int64_t hops = tdr_arg_int(call, 0), seed = tdr_arg_int(call, 1), below;
	char name[16];
	tdr_value *value;
	tdr_status status;

	if (hops == 0)
		return tdr_return_int(call, seed);
	snprintf(name, sizeof(name), "w%d", (int)((seed + hops) % VICTIM));
	status = tdr_rpc_sync(load->agent, name, "load::relay", TDR_ARGS(hops - 1, seed), NULL, &value);
	if (status != TDR_OK)
		return status;
	status = tdr_value_get_int(value, &below);
	tdr_value_unref(value);
	return status == TDR_OK ? tdr_return_int(call, below + 1) : status;
}

static tdr_status refuse(tdr_call *call, void *context)
{
	return tdr_fail(call, TDR_EINVAL, "refused %lld", (long long)tdr_arg_int(call, 0));
}

/* ---- what threads call ---- */

static void note_wrong(struct load *load, const char *what, const char *name)
{
	if (atomic_fetch_add(&load->wrong, 1) > 0)
		return;
	pthread_mutex_lock(&load->lock);
	snprintf(load->first_wrong, sizeof(load->first_wrong), "%s on %s: %s", what, name, tdr_last_error());
	pthread_mutex_unlock(&load->lock);
}

/* Whether a call that failed may have: its worker was killed, and the error says so. */
static bool may_fail(struct load *load, tdr_status status, const char *name)
{
	char quoted[32];

	snprintf(quoted, sizeof(quoted), "'w%d'", VICTIM);
	if (!load->plan->kill_one || atoi(name + 1) != VICTIM || status != TDR_EWORKERGONE ||
	    !strstr(tdr_last_error(), quoted))
		return false;
	atomic_fetch_add(&load->gone, 1);
	return true;
}

static void call_shifted(struct load *load, const char *name, uint64_t *random)
{
	int shift = (int)(next_random(random) % (LARGEST_SHIFT + 1));
	int64_t size = (int64_t)(next_random(random) % ((UINT64_C(1) << shift) + 1));
	bool large = size >= LARGE_BYTES, right;
	uint8_t seed = (uint8_t)next_random(random);
	tdr_tensor *tensor, *result;
	tdr_value *value;
	uint8_t *bytes;
	tdr_status status;

	if (large)
		sem_wait(&load->large);
	if (tdr_tensor_empty(TDR_U8, 1, &size, &tensor) != TDR_OK)
		abort();
	bytes = tdr_tensor_data(tensor);
	for (int64_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(seed + i * 7);
	status = tdr_rpc_sync(load->agent, name, "load::shifted", TDR_ARGS(tensor), NULL, &value);
	if (status != TDR_OK) {
		if (!may_fail(load, status, name))
			note_wrong(load, "shifted", name);
	} else {
		right = tdr_value_get_tensor(value, &result) == TDR_OK && tdr_tensor_numel(result) == size;
		bytes = right ? tdr_tensor_data(result) : NULL;
		for (int64_t i = 0; right && i < size; i++)
			right = bytes[i] == (uint8_t)(seed + i * 7 + 1);
		if (!right)
			note_wrong(load, "shifted's bytes", name);
		tdr_value_unref(value);
	}
	tdr_tensor_unref(tensor);
	if (large)
		sem_post(&load->large);
}

static void expect_int(struct load *load, tdr_status status, tdr_value *value, int64_t expected, const char *what,
                       const char *name)
{
	int64_t number;

	if (status != TDR_OK) {
		if (!may_fail(load, status, name))
			note_wrong(load, what, name);
		return;
	}
	if (tdr_value_get_int(value, &number) != TDR_OK || number != expected)
		note_wrong(load, what, name);
	tdr_value_unref(value);
}

static void call_in_flight(struct load *load, const char *name, uint64_t *random)
{
	tdr_future *futures[32];
	int64_t base = (int64_t)(next_random(random) % 1000);

	for (int i = 0; i < (int)COUNT_OF(futures); i++)
		futures[i] = tdr_rpc_async(load->agent, name, "load::add", TDR_ARGS(base, i), NULL);
	for (int i = 0; i < (int)COUNT_OF(futures); i++) {
		tdr_value *value;
		tdr_status status = tdr_future_wait(futures[i], 0, &value);

		expect_int(load, status, value, base + i, "add in flight", name);
		tdr_future_unref(futures[i]);
	}
	atomic_fetch_add(&load->calls, COUNT_OF(futures) - 1);
}

static void call_refuse(struct load *load, const char *name, uint64_t *random)
{
	int64_t number = (int64_t)(next_random(random) % 1000);
	char expected[64];
	tdr_status status = tdr_rpc_sync(load->agent, name, "load::refuse", TDR_ARGS(number), NULL, NULL);

	snprintf(expected, sizeof(expected), "refused %lld", (long long)number);
	if (status == TDR_EINVAL ? !strstr(tdr_last_error(), expected) : !may_fail(load, status, name))
		note_wrong(load, "refuse", name);
}

static void *call_at_random(void *argument)
{
	struct load *load = argument;
	uint64_t random = (uint64_t)(uintptr_t)&random ^ (uint64_t)load->plan->rank * 0x9e3779b97f4a7c15U ^ 1U;

	while (clock_ms() < load->end_ms) {
		char name[16];
		tdr_value *value;
		int64_t number = (int64_t)(next_random(&random) % 100);
		tdr_status status;

		snprintf(name, sizeof(name), "w%d", (int)(next_random(&random) % PROCESSES));
		switch (next_random(&random) % 8) {
		case 0:
		case 1:
		case 2:
			call_shifted(load, name, &random);
			break;
		case 3:
			call_in_flight(load, name, &random);
			break;
		case 4:
			call_refuse(load, name, &random);
			break;
		case 5:
			status = tdr_rpc_sync(load->agent, name, "load::relay", TDR_ARGS(4, number), NULL, &value);
			expect_int(load, status, value, number + 4, "relay", name);
			break;
		default:
			status = tdr_rpc_sync(load->agent, name, "load::add", TDR_ARGS(number, 5), NULL, &value);
			expect_int(load, status, value, number + 5, "add", name);
		}
		atomic_fetch_add(&load->calls, 1);
	}
	return NULL;
}

/* ---- a worker ---- */

static tdr_agent *make_agent(struct load *load)
{
	tdr_agent_options options;
	char name[16];
	tdr_agent *agent;

	tdr_agent_options_init(&options);
	options.init_method = load->plan->url;
	options.rank = load->plan->rank;
	options.world_size = PROCESSES;
	options.rpc_timeout_ms = 240000;
	options.heartbeat_bound_ms = 120000;
	snprintf(name, sizeof(name), "w%d", load->plan->rank);
	agent = tdr_agent_new(name, &options);
	if (!agent || tdr_register(agent, "load::shifted(Tensor bytes) -> Tensor", shifted, NULL, 0) ||
	    tdr_register(agent, "load::add(int a, int b) -> int", add, NULL, TDR_FUNCTION_INLINE) ||
	    tdr_register(agent, "load::relay(int hops, int seed) -> int", relay, load, 0) ||
	    tdr_register(agent, "load::refuse(int number) -> ()", refuse, NULL, 0) || tdr_join(agent)) {
		fprintf(stderr, "%s: %s\n", name, tdr_last_error());
		exit(1);
	}
	return agent;
}

static int work(void *context)
{
	static const char *const survivors[] = {"w0", "w1", "w2", "w3", "w4", "w5", "w6"};
	struct load load = {.plan = context, .lock = PTHREAD_MUTEX_INITIALIZER};
	bool kill_one = load.plan->kill_one;
	pthread_t threads[THREADS];
	tdr_shutdown_options options;

	load.agent = make_agent(&load);
	sem_init(&load.large, 0, LARGE_AT_ONCE);
	load.end_ms = clock_ms() + load.plan->duration_ms;
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, call_at_random, &load) != 0)
			abort();
	if (kill_one && load.plan->rank == VICTIM) {
		usleep((useconds_t)(load.plan->duration_ms * 500));
		raise(SIGKILL);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	fprintf(stderr, "w%d: %llu calls, %llu of them to the killed worker, %llu wrong; first: %s\n", load.plan->rank,
	        (unsigned long long)load.calls, (unsigned long long)load.gone, (unsigned long long)load.wrong,
	        load.first_wrong);
	if (tdr_barrier(load.agent, kill_one ? COUNT_OF(survivors) : 0, kill_one ? survivors : NULL, 240000) !=
	    TDR_OK) {
		fprintf(stderr, "barrier: %s\n", tdr_last_error());
		return 1;
	}
	tdr_shutdown_options_init(&options);
	options.graceful = !kill_one;
	if (tdr_shutdown(load.agent, &options) != TDR_OK) {
		fprintf(stderr, "shutdown: %s\n", tdr_last_error());
		return 1;
	}
	sem_destroy(&load.large);
	return load.wrong > 0 || load.calls == 0 || (kill_one && load.gone == 0);
}

static void run(int64_t duration_ms, bool kill_one)
{
	struct process processes[PROCESSES] = {0};
	struct plan plans[PROCESSES];
	tdr_store_server *server;
	struct plan plan = {.duration_ms = duration_ms, .kill_one = kill_one};
	char names[PROCESSES][8];
	int port_pipe[2];

	/* The store is a process of its own: children are to be forked before this one has threads. */
	assert_int_equal(pipe(port_pipe), 0);
	pid_t store = fork();
	if (store == 0) {
		uint16_t port;

		if (tdr_store_server_open(NULL, &server) != TDR_OK)
			_exit(1);
		port = tdr_store_server_port(server);
		if (write(port_pipe[1], &port, sizeof(port)) != sizeof(port))
			_exit(1);
		pause();
		_exit(0);
	}
	uint16_t port = 0;
	assert_int_equal(read(port_pipe[0], &port, sizeof(port)), sizeof(port));
	close(port_pipe[0]);
	close(port_pipe[1]);
	setenv("TENDRIL_STORE_HOSTED", "1", 1);
	snprintf(plan.url, sizeof(plan.url), "tcp://127.0.0.1:%u", port);
	for (int i = 0; i < PROCESSES; i++) {
		plans[i] = plan;
		plans[i].rank = i;
		snprintf(names[i], sizeof(names[i]), "w%d", i);
		processes[i] = (struct process){
		    .name = names[i],
		    .run = work,
		    .context = &plans[i],
		    .expected_signal = kill_one && i == VICTIM ? SIGKILL : 0,
		};
	}
	processes_start(processes, PROCESSES);
	bool good = processes_wait(processes, PROCESSES, duration_ms + 250000);
	for (int i = 0; i < PROCESSES; i++)
		print_message("%s", processes[i].output ? processes[i].output : "");
	char *report = processes_report(processes, PROCESSES);
	processes_fini(processes, PROCESSES);
	kill(store, SIGKILL);
	waitpid(store, NULL, 0);
	if (!good)
		print_message("%s", report);
	free(report);
	assert_true(good);
}

static int64_t duration(void)
{
	const char *text = getenv("TENDRIL_TEST_SECONDS");

	return text ? atoll(text) * 1000 : 30000;
}

static void test_mixed_load(void **state)
{
	run(duration() / 3, false);
}

static void test_mixed_load_with_a_kill(void **state)
{
	run(duration(), true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_mixed_load, leaks_setup, leaks_teardown),
	    cmocka_unit_test_setup_teardown(test_mixed_load_with_a_kill, leaks_setup, leaks_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
