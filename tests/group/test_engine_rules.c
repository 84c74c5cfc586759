/* SPDX-License-Identifier: Apache-2.0 */
/* What engines promise: progress whatever functions do, waiting that cannot go wrong silently, and being driven from outside. */
#include "group.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- progress while functions run for ever ---- */

static _Atomic bool stop;
static _Atomic unsigned looping;

static tdr_status loop(tdr_call *call, void *context)
{
	int64_t deadline_ms = now_ms() + 2 * PATIENCE_MS;

	atomic_fetch_add(&looping, 1);
	while (!atomic_load(&stop) && now_ms() < deadline_ms)
		pause_ms(1);
	return TDR_OK;
}

static tdr_status number_of_looping(tdr_call *call, void *context)
{
	return tdr_return_int(call, atomic_load(&looping));
}

static bool four_are_looping(void *context)
{
	return atomic_load(&looping) == 4;
}

static void prepare_loop(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::loop()", loop, NULL, 0));
	expect_ok(tdr_register(agent, "test::looping() -> int", number_of_looping, NULL, TDR_FUNCTION_INLINE));
}

static void two_threads_short_heartbeats(size_t rank, tdr_agent_options *options)
{
	options->threads = 2;
	options->heartbeat_ms = 50;
	options->heartbeat_bound_ms = 2000;
}

static tdr_future *call_within(tdr_agent *agent, const char *worker, const char *function, int64_t timeout_ms)
{
	tdr_rpc_options options;

	tdr_rpc_options_init(&options);
	options.timeout_ms = timeout_ms;
	return tdr_rpc_async_with(agent, worker, function, NULL, NULL, &options);
}

/* Both agents' threads for functions are taken by loops; heartbeats, replies, timeouts and cancellation go on. */
static void loops_in_all_threads_do_not_stop_the_engine(void **state)
{
	const struct group_config config = {.configure = two_threads_short_heartbeats, .prepare = prepare_loop};
	tdr_future *loops[4], *cancelled;
	struct group group;

	atomic_store(&stop, false);
	atomic_store(&looping, 0);
	group_start(&group, 2, &config);
	for (size_t i = 0; i < 4; i++)
		loops[i] = tdr_rpc_async(group.agents[i / 2], worker_name(i % 2), "test::loop", NULL, NULL);
	eventually(four_are_looping, NULL);
	expect_true(call_int(group.agents[0], "worker1", "test::looping", NULL) == 4);
	expect_future(call_within(group.agents[0], "worker1", "test::loop", 50), TDR_ETIMEDOUT, "50 ms");
	cancelled = tdr_rpc_async(group.agents[1], "worker0", "test::loop", NULL, NULL);
	tdr_future_cancel(cancelled);
	expect_future(cancelled, TDR_ECANCELED, NULL);
	pause_ms(3000); /* past the bound of heartbeats */
	for (size_t i = 0; i < 4; i++)
		expect_true(!tdr_future_done(loops[i]));
	expect_true(call_int(group.agents[0], "worker1", "test::looping", NULL) == 4);
	expect_true(call_int(group.agents[1], "worker0", "test::looping", NULL) == 4);
	atomic_store(&stop, true);
	for (size_t i = 0; i < 4; i++)
		expect_future(loops[i], TDR_OK, NULL);
	group_end(&group);
}

/* ---- who runs what ---- */

static _Thread_local bool waits;
static _Atomic unsigned noted;

static tdr_status note(tdr_call *call, void *context)
{
	expect_true(!waits);
	atomic_fetch_add(&noted, 1);
	return TDR_OK;
}

static void note_callback(tdr_future *future, void *context)
{
	expect_true(!waits);
	atomic_fetch_add(&noted, 1);
}

/* Has the caller run functions of both kinds while it waits for this. */
static tdr_status call_back(tdr_call *call, void *context)
{
	tdr_status status = TDR_OK;

	waits = true;
	for (int i = 0; status == TDR_OK && i < 4; i++)
		status = tdr_rpc_sync(context, tdr_call_worker_name(call), i % 2 ? "test::note" : "test::note_inline",
		                      NULL, NULL, NULL);
	waits = false;
	return status;
}

static void prepare_note(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::note()", note, NULL, 0));
	expect_ok(tdr_register(agent, "test::note_inline()", note, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_register(agent, "test::call_back()", call_back, agent, 0));
}

static void wait_often(void *context, size_t index)
{
	struct group *group = context;

	for (int i = 0; i < 50; i++) {
		tdr_future *future = tdr_rpc_async(group->agents[index % 2], worker_name((index + 1) % 2),
		                                   "test::call_back", NULL, NULL);

		expect_ok(tdr_future_on_done(future, note_callback, NULL));
		waits = true;
		expect_ok(tdr_future_wait(future, PATIENCE_MS, NULL));
		waits = false;
		tdr_future_unref(future);
	}
}

static bool all_are_noted(void *context)
{
	return atomic_load(&noted) == 4 * 50 * 5;
}

static void who_waits_runs_nobody_elses_functions(void **state)
{
	for (int shared = 0; shared < 2; shared++) {
		const struct group_config config = {.prepare = prepare_note, .share_engine = shared};
		struct group group;

		atomic_store(&noted, 0);
		group_start(&group, 2, &config);
		in_parallel(4, wait_often, &group);
		eventually(all_are_noted, NULL);
		group_end(&group);
	}
}

/* ---- nesting ---- */

/* Calls itself on the other worker, n times over; returns how deep it went. */
static tdr_status descend(tdr_call *call, void *context)
{
	tdr_agent *agent = context;
	int64_t left = tdr_arg_int(call, 0), number = 0;
	tdr_value *below = NULL;
	tdr_status status;

	if (left == 0)
		return tdr_return_int(call, 0);
	status = tdr_rpc_sync(agent, worker_name(1 - tdr_agent_worker(agent).id), "test::descend", TDR_ARGS(left - 1),
	                      NULL, &below);
	if (status != TDR_OK)
		return tdr_fail(call, status, "%.60s", strrchr(tdr_last_error(), ':') + 2);
	expect_ok(tdr_value_get_int(below, &number));
	tdr_value_unref(below);
	return tdr_return_int(call, number + 1);
}

static void prepare_descend(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::descend(int n) -> int", descend, agent, 0));
}

static void many_threads(size_t rank, tdr_agent_options *options)
{
	options->rpc_timeout_ms = 4 * PATIENCE_MS;
}

static void few_threads(size_t rank, tdr_agent_options *options)
{
	options->threads = 2;
	options->max_threads = 8;
}

static void little_depth(size_t rank, tdr_agent_options *options)
{
	options->max_depth = 10;
}

static void calls_nest_a_thousand_deep(void **state)
{
	for (int shared = 0; shared < 2; shared++) {
		const struct group_config config = {
		    .prepare = prepare_descend, .configure = many_threads, .share_engine = shared};
		struct group group;

		group_start(&group, 2, &config);
		expect_true(call_int(group.agents[0], "worker1", "test::descend", TDR_ARGS(999)) == 999);
		expect_true(call_int(group.agents[0], "worker0", "test::descend", TDR_ARGS(9)) == 9);
		group_end(&group);
	}
}

static void past_the_cap_of_threads_calls_fail(void **state)
{
	const struct group_config config = {.prepare = prepare_descend, .configure = few_threads};
	tdr_value *info = NULL;
	int64_t refused = 0;
	struct group group;

	group_start(&group, 2, &config);
	expect_true(call_int(group.agents[0], "worker1", "test::descend", TDR_ARGS(12)) == 12);
	for (int i = 0; i < 3; i++) {
		expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::descend", TDR_ARGS(100), NULL, NULL),
		              TDR_ENOTHREADS);
		expect_error("max_threads");
	}
	for (size_t i = 0; i < 2; i++) {
		int64_t number = 0;

		expect_ok(tdr_debug_info(group.agents[i], &info));
		expect_ok(tdr_value_get_int(tdr_dict_get(info, "agent.calls_refused_for_threads"), &number));
		refused += number;
		tdr_value_unref(info);
	}
	expect_true(refused == 3);
	expect_true(call_int(group.agents[0], "worker1", "test::descend", TDR_ARGS(12)) == 12);
	group_end(&group);
}

/* Many recursions at once compete for threads: each ends, by a result or by the refusal. */
static void descend_at_once(void *context, size_t index)
{
	struct group *group = context;

	for (int i = 0; i < 10; i++) {
		tdr_status status = tdr_rpc_sync(group->agents[index % 2], worker_name((size_t)i % 2), "test::descend",
		                                 TDR_ARGS(i % 8), NULL, NULL);

		expect_true(status == TDR_OK || status == TDR_ENOTHREADS);
	}
}

static void recursions_that_compete_for_threads_end(void **state)
{
	for (int shared = 0; shared < 2; shared++) {
		tdr_engine_options options;
		struct group_config config = {
		    .prepare = prepare_descend, .configure = few_threads, .share_engine = shared};
		struct group group;

		tdr_engine_options_init(&options);
		options.threads = 2;
		options.max_threads = 8;
		config.engine = &options;
		group_start(&group, 2, &config);
		in_parallel(8, descend_at_once, &group);
		group_end(&group);
	}
}

static void past_max_depth_calls_fail(void **state)
{
	const struct group_config config = {.prepare = prepare_descend, .configure = little_depth};
	struct group group;

	group_start(&group, 2, &config);
	expect_true(call_int(group.agents[0], "worker1", "test::descend", TDR_ARGS(9)) == 9);
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::descend", TDR_ARGS(10), NULL, NULL), TDR_ELIMIT);
	expect_error("raise max_depth");
	group_end(&group);
}

/* ---- several agents on one engine ---- */

static void call_everybody(void *context, size_t index)
{
	struct group *group = context;

	for (size_t i = 0; i < 3 * group->count; i++)
		call_ok(group->agents[index], worker_name(i % group->count), "test::echo", TDR_ARGS("a text"));
}

static void one_engine_carries_many_agents(void **state)
{
	const struct group_config config = {.share_engine = true};
	struct group group;

	group_start(&group, 10, &config);
	in_parallel(10, call_everybody, &group);
	group_end(&group);
}

/* ---- fork ---- */

static struct gate gate = GATE_INIT;

static tdr_status pass_gate(tdr_call *call, void *context)
{
	gate_pass(&gate);
	return tdr_return_int(call, 5);
}

static void prepare_gate(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::gate() -> int", pass_gate, NULL, 0));
}

static void ignore_callback(tdr_future *future, void *context)
{
}

/* Uses all handles of the parent, drops them, and returns how many uses did not fail as they should. */
static unsigned use_handles_in_child(struct group *group, tdr_future *future, tdr_future *own)
{
	tdr_agent *agent = group->agents[0];
	tdr_value *value = NULL;

	expect_status(tdr_rpc_sync(agent, "worker1", "test::echo", TDR_ARGS(1), NULL, NULL), TDR_EFORKED);
	expect_status(tdr_rpc_sync(agent, "worker0", "test::echo", TDR_ARGS(1), NULL, NULL), TDR_EFORKED);
	expect_status(tdr_future_wait(future, PATIENCE_MS, NULL), TDR_EFORKED);
	expect_status(tdr_future_on_done(future, ignore_callback, NULL), TDR_EFORKED);
	expect_status(tdr_future_set(own, tdr_int(1)), TDR_EFORKED);
	expect_status(tdr_future_fail(own, TDR_EINVAL, "a text"), TDR_EFORKED);
	tdr_future_cancel(future);
	expect_status(tdr_register(agent, "test::late()", pass_gate, NULL, 0), TDR_EFORKED);
	expect_status(tdr_unregister(agent, "test::gate"), TDR_EFORKED);
	expect_status(tdr_join(agent), TDR_EFORKED);
	expect_status(tdr_barrier(agent, 0, NULL, PATIENCE_MS), TDR_EFORKED);
	expect_status(tdr_all_gather(agent, tdr_int(1), 0, NULL, PATIENCE_MS, &value), TDR_EFORKED);
	expect_status(tdr_debug_info(agent, &value), TDR_EFORKED);
	expect_status(tdr_dump(agent, &value), TDR_EFORKED);
	expect_status(tdr_engine_progress(tdr_agent_engine(agent), 0), TDR_EFORKED);
	expect_status(tdr_shutdown(agent, NULL), TDR_EFORKED);
	tdr_future_unref(future);
	tdr_future_unref(own);
	for (size_t i = 0; i < group->count; i++)
		tdr_agent_unref(group->agents[i]);
	tdr_engine_unref(group->engine);
	tdr_store_unref(group->store);
	return expectations_failed();
}

static void a_forked_child_changes_nothing(void **state)
{
	for (int shared = 0; shared < 2; shared++) {
		const struct group_config config = {.prepare = prepare_gate, .share_engine = shared};
		tdr_future *futures[8], *own;
		struct group group;
		int status = -1;
		pid_t child;

		gate_close(&gate);
		group_start(&group, 2, &config);
		own = tdr_future_new(tdr_agent_engine(group.agents[0]));
		for (size_t i = 0; i < 8; i++)
			futures[i] = tdr_rpc_async(group.agents[0], worker_name(i % 2), "test::gate", NULL, NULL);
		gate_await(&gate, 8);
		child = fork();
		if (child == 0)
			_exit(use_handles_in_child(&group, futures[0], own) > 0);
		assert_true(child > 0);
		assert_int_equal(waitpid(child, &status, 0), child);
		expect_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(1));
		gate_open(&gate);
		for (size_t i = 0; i < 8; i++)
			expect_future(futures[i], TDR_OK, NULL);
		expect_ok(tdr_future_set(own, tdr_int(1)));
		tdr_future_unref(own);
		group_end(&group);
	}
}

/* ---- driven by the program ---- */

struct driver {
	struct group *group;
	pthread_t thread;
	_Atomic unsigned ran; /* functions and callbacks, in the driver's thread */
};

static tdr_status in_driver(tdr_call *call, void *context)
{
	struct driver *driver = context;

	expect_true(pthread_equal(pthread_self(), driver->thread));
	atomic_fetch_add(&driver->ran, 1);
	return tdr_return_int(call, 7);
}

static void back_in_driver(tdr_future *future, void *context)
{
	struct driver *driver = context;

	expect_true(pthread_equal(pthread_self(), driver->thread));
	expect_ok(tdr_future_status(future));
	atomic_fetch_add(&driver->ran, 1);
}

static void drive_until(struct driver *driver, tdr_engine *engine, unsigned ran)
{
	int64_t deadline_ms = now_ms() + PATIENCE_MS;

	while (atomic_load(&driver->ran) < ran && now_ms() < deadline_ms) {
		struct pollfd event = {.fd = tdr_engine_fd(engine), .events = POLLIN};

		poll(&event, 1, 1000);
		expect_ok(tdr_engine_progress(engine, 0));
	}
	expect_true(atomic_load(&driver->ran) >= ran);
}

/* worker1, on an engine without threads: serves two calls and makes two, then waits for one, then leaves. */
static void drive(struct driver *driver, tdr_agent *agent)
{
	tdr_engine *engine = tdr_agent_engine(agent);
	tdr_future *futures[2];

	driver->thread = pthread_self();
	expect_ok(tdr_register(agent, "test::driven() -> int", in_driver, driver, 0));
	expect_ok(tdr_register(agent, "test::driven_inline() -> int", in_driver, driver, TDR_FUNCTION_INLINE));
	if (expect_ok(tdr_join(agent)) != TDR_OK)
		return;
	drive_until(driver, engine, 2);
	for (size_t i = 0; i < 2; i++) {
		futures[i] = tdr_rpc_async(agent, worker_name(i), "test::echo", TDR_ARGS(1), NULL);
		expect_ok(tdr_future_on_done(futures[i], back_in_driver, driver));
	}
	drive_until(driver, engine, 4);
	for (size_t i = 0; i < 2; i++)
		expect_future(futures[i], TDR_OK, NULL);
	call_ok(agent, "worker0", "test::echo", TDR_ARGS(2));
	expect_ok(tdr_shutdown(agent, NULL));
}

static void work_with_driver(void *context, size_t index)
{
	struct driver *driver = context;
	tdr_agent *agent = driver->group->agents[index];

	if (index == 1) {
		drive(driver, agent);
		return;
	}
	if (expect_ok(tdr_join(agent)) != TDR_OK)
		return;
	expect_true(call_int(agent, "worker1", "test::driven", NULL) == 7);
	expect_true(call_int(agent, "worker1", "test::driven_inline", NULL) == 7);
	expect_ok(tdr_shutdown(agent, NULL));
}

static void driven_engine(size_t rank, tdr_agent_options *options)
{
	if (rank == 1)
		options->threads = 0;
}

static void a_program_may_drive_an_engine(void **state)
{
	const struct group_config config = {.configure = driven_engine};
	struct group group;
	struct driver driver = {.group = &group};

	group_make(&group, 2, &config);
	in_parallel(2, work_with_driver, &driver);
	group.agents[0] = group.agents[1] = NULL;
	group_drop(&group);
}

/* The lanes' ends, and what was sent to oneself, are seen to by the thread that waits for them. */
static void a_driven_engine_may_be_left_at_once(void **state)
{
	tdr_engine_options options;
	struct group_config config = {.share_engine = true, .engine = &options};
	tdr_engine *engine;
	tdr_future *future;
	struct group group;

	tdr_engine_options_init(&options);
	options.threads = 0;
	group_start(&group, 2, &config);
	future = tdr_rpc_async(group.agents[0], "worker1", "test::echo", TDR_ARGS(1), NULL);
	while (!tdr_future_done(future))
		expect_ok(tdr_engine_progress(group.engine, -1));
	expect_future(future, TDR_OK, NULL);
	future = tdr_rpc_async(group.agents[0], "worker0", "test::echo", TDR_ARGS(1), NULL);
	engine = tdr_engine_ref(group.engine);
	group_drop(&group);
	expect_future(future, TDR_ESHUTDOWN, NULL);
	expect_ok(tdr_engine_progress(engine, 0)); /* what has been queued is dropped by whoever drives it on */
	tdr_engine_unref(engine);
}

/* Calls that come while the only thread is inside tdr_shutdown are served. */
static void call_who_shuts_down(void *context, size_t index)
{
	struct driver *driver = context;
	tdr_agent *agent = driver->group->agents[index];

	if (index == 1) {
		driver->thread = pthread_self();
		expect_ok(tdr_register(agent, "test::driven() -> int", in_driver, driver, 0));
		expect_ok(tdr_register(agent, "test::driven_inline() -> int", in_driver, driver, TDR_FUNCTION_INLINE));
	}
	if (expect_ok(tdr_join(agent)) != TDR_OK)
		return;
	if (index == 0) {
		pause_ms(100); /* until the other is most likely inside */
		expect_true(call_int(agent, "worker1", "test::driven", NULL) == 7);
		expect_true(call_int(agent, "worker1", "test::driven_inline", NULL) == 7);
	}
	expect_ok(tdr_shutdown(agent, NULL));
}

static void a_driven_engine_serves_during_shutdown(void **state)
{
	const struct group_config config = {.configure = driven_engine};
	struct group group;
	struct driver driver = {.group = &group};

	group_make(&group, 2, &config);
	in_parallel(2, call_who_shuts_down, &driver);
	expect_true(atomic_load(&driver.ran) == 2);
	group.agents[0] = group.agents[1] = NULL;
	group_drop(&group);
}

static void progress_inside_progress_is_refused_by(tdr_future *future, void *context)
{
	expect_status(tdr_engine_progress(context, 0), TDR_ESTATE);
}

static void progress_is_not_made_inside_itself(void **state)
{
	tdr_engine_options options;
	tdr_engine *engine;
	tdr_future *future;

	tdr_engine_options_init(&options);
	options.threads = 0;
	assert_int_equal(tdr_engine_new(&options, &engine), TDR_OK);
	future = tdr_future_new(engine);
	expect_ok(tdr_future_on_done(future, progress_inside_progress_is_refused_by, engine));
	expect_ok(tdr_future_set(future, tdr_none()));
	expect_ok(tdr_engine_progress(engine, 0));
	tdr_future_unref(future);
	tdr_engine_unref(engine);
}

/* ---- an executor of the program's ---- */

enum {
	EXECUTORS = 2,
	TASKS = 256
};

static struct executor {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct {
		void (*run)(void *task);
		void *task;
	} tasks[TASKS];
	size_t first, count;
	bool ending;
	_Atomic unsigned ran;
} executor;

static _Thread_local bool is_executor;

static void execute(void *context, void (*run)(void *task), void *task)
{
	pthread_mutex_lock(&executor.lock);
	assert_true(executor.count < TASKS);
	executor.tasks[(executor.first + executor.count++) % TASKS].run = run;
	executor.tasks[(executor.first + executor.count - 1) % TASKS].task = task;
	pthread_cond_signal(&executor.changed);
	pthread_mutex_unlock(&executor.lock);
}

static void *executor_main(void *argument)
{
	is_executor = true;
	pthread_mutex_lock(&executor.lock);
	for (;;) {
		size_t at = executor.first;

		if (executor.count == 0 && executor.ending)
			break;
		if (executor.count == 0) {
			pthread_cond_wait(&executor.changed, &executor.lock);
			continue;
		}
		executor.first = (executor.first + 1) % TASKS;
		executor.count--;
		pthread_mutex_unlock(&executor.lock);
		executor.tasks[at].run(executor.tasks[at].task);
		atomic_fetch_add(&executor.ran, 1);
		pthread_mutex_lock(&executor.lock);
	}
	pthread_mutex_unlock(&executor.lock);
	return NULL;
}

static tdr_status by_executor(tdr_call *call, void *context)
{
	expect_true(is_executor);
	return tdr_return(call, tdr_value_ref(tdr_arg(call, 0)));
}

static tdr_status waits_in_executor(tdr_call *call, void *context)
{
	expect_true(is_executor);
	return tdr_rpc_sync(context, tdr_call_worker_name(call), "test::echo", TDR_ARGS(1), NULL, NULL);
}

static void prepare_executor(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::executed(Any value) -> Any", by_executor, NULL, 0));
	expect_ok(tdr_register(agent, "test::waits()", waits_in_executor, agent, 0));
}

static void functions_run_on_the_programs_executor(void **state)
{
	pthread_t threads[EXECUTORS];
	tdr_engine_options options;
	struct group_config config = {.prepare = prepare_executor, .share_engine = true, .engine = &options};
	tdr_future *futures[50];
	struct group group;

	executor = (struct executor){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	for (size_t i = 0; i < EXECUTORS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, executor_main, NULL), 0);
	tdr_engine_options_init(&options);
	options.execute = execute;
	group_start(&group, 2, &config);
	for (int i = 0; i < 50; i++)
		futures[i] =
		    tdr_rpc_async(group.agents[0], worker_name((size_t)i % 2), "test::executed", TDR_ARGS(i), NULL);
	for (int i = 0; i < 50; i++)
		expect_future(futures[i], TDR_OK, NULL);
	call_ok(group.agents[0], "worker1", "test::waits", NULL);
	group_end(&group);
	pthread_mutex_lock(&executor.lock);
	executor.ending = true;
	pthread_cond_broadcast(&executor.changed);
	pthread_mutex_unlock(&executor.lock);
	for (size_t i = 0; i < EXECUTORS; i++)
		pthread_join(threads[i], NULL);
	expect_true(atomic_load(&executor.ran) >= 51); /* more where a waiter received what is to run inline */
}

static void wrong_options_are_refused(void **state)
{
	tdr_engine_options options;
	tdr_engine *engine;

	tdr_engine_options_init(&options);
	options.size = 1;
	expect_status(tdr_engine_new(&options, &engine), TDR_EINVAL);
	tdr_engine_options_init(&options);
	options.max_threads = options.threads - 1;
	expect_status(tdr_engine_new(&options, &engine), TDR_EINVAL);
	tdr_engine_options_init(&options);
	options.spin_us = -1;
	expect_status(tdr_engine_new(&options, &engine), TDR_EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(loops_in_all_threads_do_not_stop_the_engine),
	    TEST(who_waits_runs_nobody_elses_functions),
	    TEST(calls_nest_a_thousand_deep),
	    TEST(past_the_cap_of_threads_calls_fail),
	    TEST(recursions_that_compete_for_threads_end),
	    TEST(past_max_depth_calls_fail),
	    TEST(one_engine_carries_many_agents),
	    TEST(a_forked_child_changes_nothing),
	    TEST(a_program_may_drive_an_engine),
	    TEST(a_driven_engine_may_be_left_at_once),
	    TEST(a_driven_engine_serves_during_shutdown),
	    TEST(progress_is_not_made_inside_itself),
	    TEST(functions_run_on_the_programs_executor),
	    TEST(wrong_options_are_refused),
	};

	return cmocka_run_group_tests_name("engine rules", tests, NULL, NULL);
}
