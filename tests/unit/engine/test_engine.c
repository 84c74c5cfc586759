/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: tasks, timers, sources, waiting, and that progress is never starved. */
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/future.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static tdr_engine *make_engine(uint32_t threads, uint32_t max_threads)
{
	tdr_engine_options options;
	tdr_engine *engine;

	tdr_engine_options_init(&options);
	options.threads = threads;
	options.max_threads = max_threads;
	assert_int_equal(tdr_engine_new(&options, &engine), TDR_OK);
	return engine;
}

/* ---- tasks ---- */

struct job {
	struct task task;
	tdr_future *done;
	tdr_future *waits_for;
	_Atomic bool *spin_while;
	bool was_refused;
};

static void job_run(struct task *task)
{
	struct job *job = container_of(task, struct job, task);

	while (job->spin_while && atomic_load(job->spin_while))
		continue;
	if (job->waits_for)
		assert_int_equal(tdr_future_wait(job->waits_for, 20000, NULL), TDR_OK);
	assert_int_equal(tdr_future_set(job->done, tdr_int(1)), TDR_OK);
}

static void job_refuse(struct task *task)
{
	struct job *job = container_of(task, struct job, task);

	job->was_refused = true;
	assert_int_equal(tdr_future_fail(job->done, TDR_ENOTHREADS, "refused"), TDR_OK);
}

static void job_start(tdr_engine *engine, struct job *job, bool nested)
{
	job->task.run = job_run;
	job->task.refuse = job_refuse;
	job->task.nested = nested;
	job->done = tdr_future_new(engine);
	engine_submit(engine, &job->task);
}

static void test_tasks_run(void **state)
{
	tdr_engine *engine = make_engine(4, 16);
	struct job jobs[100] = {0};

	for (size_t i = 0; i < COUNT_OF(jobs); i++)
		job_start(engine, &jobs[i], false);
	for (size_t i = 0; i < COUNT_OF(jobs); i++) {
		assert_int_equal(tdr_future_wait(jobs[i].done, 20000, NULL), TDR_OK);
		tdr_future_unref(jobs[i].done);
	}
	tdr_engine_unref(engine);
}

static void timer_completes(struct timer *timer);

struct alarm {
	struct timer timer;
	tdr_future *done;
};

static void timer_completes(struct timer *timer)
{
	struct alarm *alarm = container_of(timer, struct alarm, timer);

	future_complete(alarm->done, TDR_OK, NULL, NULL, NULL);
}

static void test_timers_fire_while_all_threads_loop(void **state)
{
	tdr_engine *engine = make_engine(2, 8);
	_Atomic bool looping = true;
	struct job jobs[4] = {0};
	struct alarm alarm = {.done = tdr_future_new(engine)};

	for (size_t i = 0; i < COUNT_OF(jobs); i++) {
		jobs[i].spin_while = &looping;
		job_start(engine, &jobs[i], false);
	}
	while (engine_stats(engine).running < 2)
		usleep(1000);
	timer_init(&alarm.timer, timer_completes);
	timer_set(engine, &alarm.timer, clock_ms() + 20);
	assert_int_equal(tdr_future_wait(alarm.done, 20000, NULL), TDR_OK);
	assert_int_equal(engine_stats(engine).running, 2);
	assert_int_equal(engine_stats(engine).queued, 2);
	atomic_store(&looping, false);
	for (size_t i = 0; i < COUNT_OF(jobs); i++) {
		assert_int_equal(tdr_future_wait(jobs[i].done, 20000, NULL), TDR_OK);
		tdr_future_unref(jobs[i].done);
	}
	tdr_future_unref(alarm.done);
	tdr_engine_unref(engine);
}

/* Each job waits for the next one; all but the last need a thread of their own meanwhile. */
static void chain(uint32_t max_threads, size_t length, size_t *ret_refused)
{
	tdr_engine *engine = make_engine(2, max_threads);
	struct job *jobs = calloc(length, sizeof(*jobs));
	size_t refused = 0;

	for (size_t i = 0; i < length; i++) {
		jobs[i].task.run = job_run;
		jobs[i].task.refuse = job_refuse;
		jobs[i].task.nested = true;
		jobs[i].done = tdr_future_new(engine);
	}
	for (size_t i = 0; i < length; i++) {
		jobs[i].waits_for = i + 1 < length ? jobs[i + 1].done : NULL;
		if (max_threads < length)
			jobs[i].waits_for = NULL;
	}
	for (size_t i = 0; i < length; i++)
		engine_submit(engine, &jobs[i].task);
	for (size_t i = 0; i < length; i++) {
		tdr_status status = tdr_future_wait(jobs[i].done, 20000, NULL);

		assert_true(status == TDR_OK || status == TDR_ENOTHREADS);
		refused += jobs[i].was_refused;
	}
	for (size_t i = 0; i < length; i++)
		tdr_future_unref(jobs[i].done);
	tdr_engine_unref(engine);
	free(jobs);
	*ret_refused = refused;
}

static void test_waiting_threads_are_replaced(void **state)
{
	size_t refused;

	chain(600, 500, &refused);
	assert_int_equal(refused, 0);
}

static void test_the_cap_refuses_nested_tasks(void **state)
{
	tdr_engine *engine = make_engine(2, 4);
	tdr_future *never = tdr_future_new(engine);
	struct job blockers[4] = {0}, nested = {0}, patient = {0};

	for (size_t i = 0; i < COUNT_OF(blockers); i++) {
		blockers[i].waits_for = never;
		job_start(engine, &blockers[i], false);
	}
	while (engine_stats(engine).blocked < 4)
		usleep(1000);
	job_start(engine, &patient, false);
	job_start(engine, &nested, true);
	assert_int_equal(tdr_future_wait(nested.done, 20000, NULL), TDR_ENOTHREADS);
	assert_false(tdr_future_done(patient.done));
	assert_int_equal(tdr_future_set(never, tdr_none()), TDR_OK);
	assert_int_equal(tdr_future_wait(patient.done, 20000, NULL), TDR_OK);
	for (size_t i = 0; i < COUNT_OF(blockers); i++) {
		assert_int_equal(tdr_future_wait(blockers[i].done, 20000, NULL), TDR_OK);
		tdr_future_unref(blockers[i].done);
	}
	tdr_future_unref(patient.done);
	tdr_future_unref(nested.done);
	tdr_future_unref(never);
	tdr_engine_unref(engine);
}

/* ---- what the number of threads promises ---- */

struct late_loop {
	struct task task;
	tdr_future *go, *done;
	_Atomic bool *spin_while;
};

/* Waits, so that another thread stands in for this one, then keeps its processor. */
static void wait_then_loop(struct task *task)
{
	struct late_loop *late = container_of(task, struct late_loop, task);

	assert_int_equal(tdr_future_wait(late->go, 20000, NULL), TDR_OK);
	while (atomic_load(late->spin_while))
		usleep(1000);
	assert_int_equal(tdr_future_set(late->done, tdr_none()), TDR_OK);
}

static void test_one_thread_stays_free_when_waits_end_at_once(void **state)
{
	tdr_engine *engine = make_engine(1, 8);
	_Atomic bool looping = true;
	tdr_future *go = tdr_future_new(engine);
	struct late_loop late[4] = {0};
	struct alarm alarm = {.done = tdr_future_new(engine)};

	for (size_t i = 0; i < COUNT_OF(late); i++) {
		late[i] = (struct late_loop){.task.run = wait_then_loop, .go = go, .spin_while = &looping};
		late[i].done = tdr_future_new(engine);
		engine_submit(engine, &late[i].task);
	}
	while (engine_stats(engine).blocked < COUNT_OF(late))
		usleep(1000);
	assert_int_equal(tdr_future_set(go, tdr_none()), TDR_OK);
	while (engine_stats(engine).running < COUNT_OF(late))
		usleep(1000);
	for (int i = 0; i < 3; i++) { /* wakes the free ones: those too many end */
		tdr_future_unref(alarm.done);
		alarm.done = tdr_future_new(engine);
		timer_init(&alarm.timer, timer_completes);
		timer_set(engine, &alarm.timer, clock_ms() + 20);
		assert_int_equal(tdr_future_wait(alarm.done, 10000, NULL), TDR_OK);
	}
	atomic_store(&looping, false);
	for (size_t i = 0; i < COUNT_OF(late); i++) {
		assert_int_equal(tdr_future_wait(late[i].done, 20000, NULL), TDR_OK);
		tdr_future_unref(late[i].done);
	}
	tdr_future_unref(alarm.done);
	tdr_future_unref(go);
	tdr_engine_unref(engine);
}

static size_t count_mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	size_t lines = 0;
	int c;

	assert_non_null(file);
	while ((c = getc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

/* A thread that has ended keeps its stack until it is joined. */
static void test_threads_that_ended_leave_nothing(void **state)
{
	tdr_engine *engine = make_engine(1, 8);
	size_t before = 0;

	for (int round = 0; round < 220; round++) {
		struct job blocked = {.waits_for = tdr_future_new(engine)}, other = {0};

		if (round == 20)
			before = count_mappings();
		job_start(engine, &blocked, false);
		while (engine_stats(engine).blocked < 1)
			usleep(100);
		job_start(engine, &other, false);
		assert_int_equal(tdr_future_wait(other.done, 20000, NULL), TDR_OK);
		assert_int_equal(tdr_future_set(blocked.waits_for, tdr_none()), TDR_OK);
		assert_int_equal(tdr_future_wait(blocked.done, 20000, NULL), TDR_OK);
		while (engine_stats(engine).threads > 2)
			usleep(100);
		tdr_future_unref(blocked.waits_for);
		tdr_future_unref(blocked.done);
		tdr_future_unref(other.done);
	}
	assert_true(count_mappings() < before + 100);
	tdr_engine_unref(engine);
}

/* ---- timers ---- */

struct tick {
	struct timer timer;
	int64_t due_ms;
	_Atomic int fired;
};

static void tick_fire(struct timer *timer)
{
	struct tick *tick = container_of(timer, struct tick, timer);

	assert_true(clock_ms() >= tick->due_ms);
	atomic_fetch_add(&tick->fired, 1);
}

static void test_timers_fire_once_and_not_early(void **state)
{
	tdr_engine *engine = make_engine(2, 4);
	struct tick *ticks = calloc(1000, sizeof(*ticks));
	int64_t now = clock_ms();

	srandom(7);
	for (int i = 0; i < 1000; i++) {
		timer_init(&ticks[i].timer, tick_fire);
		ticks[i].due_ms = now + random() % 300;
		timer_set(engine, &ticks[i].timer, ticks[i].due_ms);
	}
	for (int i = 0; i < 1000; i += 3) /* every third is taken back, or has fired */
		if (timer_clear(engine, &ticks[i].timer))
			atomic_fetch_add(&ticks[i].fired, 1);
	for (int i = 0; i < 1000; i++) {
		for (int patience = 0; atomic_load(&ticks[i].fired) == 0 && patience < 20000; patience++)
			usleep(1000);
		assert_int_equal(atomic_load(&ticks[i].fired), 1);
		assert_false(timer_clear(engine, &ticks[i].timer));
	}
	tdr_engine_unref(engine);
	free(ticks);
}

/* ---- sources ---- */

struct echo {
	struct source source;
	int fd;
	_Atomic bool closed;
	tdr_future *reply; /* completed by the first byte, if set */
};

static bool echo_ready(struct source *source, unsigned turn)
{
	struct echo *echo = container_of(source, struct echo, source);
	char byte;
	ssize_t got;

	while ((got = recv(echo->fd, &byte, 1, MSG_DONTWAIT)) == 1) {
		source->served++;
		if (echo->reply)
			future_complete(echo->reply, TDR_OK, tdr_int(byte), NULL, NULL);
		else if (send(echo->fd, &byte, 1, MSG_NOSIGNAL) != 1)
			break;
	}
	if (got == 0)
		source_close(source);
	return false;
}

static void echo_closed(struct source *source)
{
	struct echo *echo = container_of(source, struct echo, source);

	close(echo->fd);
	atomic_store(&echo->closed, true);
}

static void echo_open(struct echo *echo, tdr_engine *engine, int fd)
{
	*echo = (struct echo){.fd = fd};
	assert_int_equal(source_open(&echo->source, engine, fd, EPOLLIN, echo_ready, echo_closed), TDR_OK);
}

static void nothing(void *context)
{
}

static struct source *origin_source(void *context)
{
	return &((struct echo *)context)->source;
}

static const struct future_origin echo_origin = {.hold = nothing, .drop = nothing, .source = origin_source};

static void await_closed(struct echo *echo)
{
	for (int patience = 0; !atomic_load(&echo->closed) && patience < 20000; patience++)
		usleep(1000);
	assert_true(atomic_load(&echo->closed));
}

static void test_a_waiter_reads_its_own_reply(void **state)
{
	tdr_engine *engine = make_engine(2, 4), *far = make_engine(2, 4);
	int fds[2];
	struct echo near_end, far_end;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	echo_open(&near_end, engine, fds[0]);
	echo_open(&far_end, far, fds[1]);
	for (int i = 0; i < 2000; i++) {
		tdr_future *reply = tdr_future_new(engine);
		tdr_value *value;
		int64_t number;
		char byte = (char)(i & 63);

		near_end.reply = reply;
		future_set_origin(reply, &echo_origin, &near_end);
		assert_int_equal(send(fds[0], &byte, 1, MSG_NOSIGNAL), 1);
		if (i % 100 == 0)
			usleep(500);
		assert_int_equal(tdr_future_wait(reply, 20000, &value), TDR_OK);
		assert_int_equal(tdr_value_get_int(value, &number), TDR_OK);
		assert_int_equal(number, byte);
		tdr_value_unref(value);
		tdr_future_unref(reply);
	}
	source_close(&near_end.source);
	await_closed(&near_end);
	await_closed(&far_end);
	tdr_engine_unref(engine);
	tdr_engine_unref(far);
}

/* A source that always has more to do, as a lane does that a peer floods. */
struct flood {
	struct source source;
	_Atomic bool *stop, closed;
	_Atomic unsigned turns;
};

static bool flood_ready(struct source *source, unsigned turn)
{
	struct flood *flood = container_of(source, struct flood, source);

	atomic_fetch_add(&flood->turns, 1);
	usleep(100);
	return !atomic_load(flood->stop);
}

static void flood_closed(struct source *source)
{
	struct flood *flood = container_of(source, struct flood, source);

	close(source->fd);
	atomic_store(&flood->closed, true);
}

static void test_busy_sources_do_not_starve_timers_and_tasks(void **state)
{
	tdr_engine *engine = make_engine(2, 4);
	_Atomic bool stop = false;
	struct flood floods[3] = {0};
	struct alarm alarm = {.done = tdr_future_new(engine)};
	struct job job = {0};

	for (size_t i = 0; i < COUNT_OF(floods); i++) {
		floods[i].stop = &stop;
		assert_int_equal(source_open(&floods[i].source, engine, eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK), EPOLLIN,
		                             flood_ready, flood_closed),
		                 TDR_OK);
	}
	for (size_t i = 0; i < COUNT_OF(floods); i++)
		while (atomic_load(&floods[i].turns) < 3)
			usleep(1000);
	timer_init(&alarm.timer, timer_completes);
	timer_set(engine, &alarm.timer, clock_ms() + 20);
	assert_int_equal(tdr_future_wait(alarm.done, 10000, NULL), TDR_OK);
	job_start(engine, &job, false);
	assert_int_equal(tdr_future_wait(job.done, 10000, NULL), TDR_OK);
	atomic_store(&stop, true);
	for (size_t i = 0; i < COUNT_OF(floods); i++) {
		source_close(&floods[i].source);
		while (!atomic_load(&floods[i].closed))
			usleep(1000);
	}
	tdr_future_unref(alarm.done);
	tdr_future_unref(job.done);
	tdr_engine_unref(engine);
}

/* A source whose owner sleeps in a wait. */
struct sleepy {
	struct source source;
	_Atomic unsigned turns;
	_Atomic bool closed;
};

static bool sleepy_ready(struct source *source, unsigned turn)
{
	atomic_fetch_add(&container_of(source, struct sleepy, source)->turns, 1);
	return false;
}

static void sleepy_closed(struct source *source)
{
	close(source->fd);
	atomic_store(&container_of(source, struct sleepy, source)->closed, true);
}

static struct source *sleepy_source(void *context)
{
	return &((struct sleepy *)context)->source;
}

static const struct future_origin sleepy_origin = {.hold = nothing, .drop = nothing, .source = sleepy_source};

static void *wait_for_future(void *future)
{
	assert_int_equal(tdr_future_wait(future, 20000, NULL), TDR_OK);
	return NULL;
}

static void test_a_sleeping_owner_hears_of_changes(void **state)
{
	tdr_engine *engine = make_engine(2, 4);
	tdr_future *future = tdr_future_new(engine);
	struct sleepy sleepy = {0};
	pthread_t thread;
	unsigned turns;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(source_open(&sleepy.source, engine, fds[0], EPOLLIN, sleepy_ready, sleepy_closed), TDR_OK);
	future_set_origin(future, &sleepy_origin, &sleepy);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_future, future), 0);
	usleep(200000); /* by now it sleeps; where it does not yet, this tests less */
	turns = atomic_load(&sleepy.turns);
	source_want(&sleepy.source, EPOLLIN | EPOLLOUT); /* it can be written to at once */
	for (int patience = 0; atomic_load(&sleepy.turns) == turns && patience < 10000; patience++)
		usleep(1000);
	assert_true(atomic_load(&sleepy.turns) > turns);
	source_want(&sleepy.source, EPOLLIN);
	usleep(100000);
	source_close(&sleepy.source);
	for (int patience = 0; !atomic_load(&sleepy.closed) && patience < 10000; patience++)
		usleep(1000);
	assert_true(atomic_load(&sleepy.closed));
	assert_int_equal(tdr_future_set(future, tdr_none()), TDR_OK);
	pthread_join(thread, NULL);
	close(fds[1]);
	tdr_future_unref(future);
	tdr_engine_unref(engine);
}

/* ---- futures ---- */

static void count_up(tdr_future *future, void *context)
{
	atomic_fetch_add((_Atomic int *)context, 1);
}

static tdr_status add_one(tdr_future *future, void *context, tdr_value **ret_value)
{
	int64_t number;

	if (tdr_future_status(future) != TDR_OK)
		return tdr_fail_with(TDR_EINVAL, "after: %s", tdr_future_error(future));
	assert_int_equal(tdr_value_get_int(tdr_future_value(future), &number), TDR_OK);
	*ret_value = tdr_int(number + 1);
	return TDR_OK;
}

static void test_futures(void **state)
{
	tdr_engine *engine = make_engine(2, 4);
	tdr_future *future = tdr_future_new(engine), *then, *failed, *after, *all;
	_Atomic int calls = 0;
	tdr_value *value;
	int64_t number;

	then = tdr_future_then(future, add_one, NULL);
	assert_int_equal(tdr_future_on_done(future, count_up, &calls), TDR_OK);
	assert_int_equal(tdr_future_status(future), TDR_EAGAIN);
	assert_int_equal(tdr_future_wait(future, 5, NULL), TDR_ETIMEDOUT);
	assert_int_equal(tdr_future_set(future, tdr_int(41)), TDR_OK);
	assert_int_equal(tdr_future_set(future, tdr_int(42)), TDR_ESTATE);
	assert_int_equal(tdr_future_on_done(future, count_up, &calls), TDR_OK);
	assert_int_equal(tdr_future_wait(then, 20000, &value), TDR_OK);
	assert_int_equal(tdr_value_get_int(value, &number), TDR_OK);
	assert_int_equal(number, 42);
	tdr_value_unref(value);
	failed = tdr_future_new(engine);
	after = tdr_future_then(failed, add_one, NULL);
	assert_int_equal(tdr_future_fail(failed, TDR_EREMOTE, "layer %d", 3), TDR_OK);
	assert_int_equal(tdr_future_wait(after, 20000, NULL), TDR_EINVAL);
	assert_string_equal(tdr_last_error(), "after: layer 3");
	assert_int_equal(tdr_future_wait_all(2, (tdr_future *[]){future, failed}, 1000), TDR_EREMOTE);
	all = tdr_future_collect(engine, 2, (tdr_future *[]){future, then});
	assert_int_equal(tdr_future_wait(all, 20000, &value), TDR_OK);
	assert_int_equal(tdr_value_count(value), 2);
	tdr_value_unref(value);
	tdr_future_unref(all);
	all = tdr_future_collect(engine, 2, (tdr_future *[]){future, failed});
	assert_int_equal(tdr_future_wait(all, 20000, NULL), TDR_EREMOTE);
	tdr_future_unref(all);
	while (atomic_load(&calls) < 2)
		usleep(1000);
	tdr_future_unref(future);
	tdr_future_unref(then);
	tdr_future_unref(failed);
	tdr_future_unref(after);
	future = tdr_future_new(engine);
	tdr_future_cancel(future);
	assert_int_equal(tdr_future_wait(future, 0, NULL), TDR_ECANCELED);
	tdr_future_unref(future);
	future = tdr_future_new(engine); /* dropped with somebody waiting for it */
	assert_int_equal(tdr_future_on_done(future, count_up, &calls), TDR_OK);
	tdr_future_unref(future);
	while (atomic_load(&calls) < 3)
		usleep(1000);
	tdr_engine_unref(engine);
}

struct waits_inside {
	tdr_future *never;
	_Atomic int status;
};

static void wait_inside(tdr_future *future, void *context)
{
	struct waits_inside *inside = context;

	atomic_store(&inside->status, (int)tdr_future_wait(inside->never, 10, NULL));
}

static void test_callbacks_must_not_wait(void **state)
{
	tdr_engine *engine = make_engine(2, 4);
	tdr_future *never = tdr_future_new(engine), *future = tdr_future_new(engine);
	struct waits_inside inside = {.never = never, .status = TDR_OK};

	assert_int_equal(tdr_future_on_done(future, wait_inside, &inside), TDR_OK);
	assert_int_equal(tdr_future_set(future, tdr_none()), TDR_OK);
	for (int patience = 0; atomic_load(&inside.status) == TDR_OK && patience < 20000; patience++)
		usleep(1000);
	assert_int_equal(atomic_load(&inside.status), TDR_ESTATE);
	tdr_future_unref(future);
	tdr_future_unref(never);
	tdr_engine_unref(engine);
}

/* ---- without threads, and after fork ---- */

static void test_a_program_drives_the_engine(void **state)
{
	tdr_engine *engine = make_engine(0, 0);
	struct job job = {0};
	struct alarm alarm = {.done = tdr_future_new(engine)};

	job_start(engine, &job, false);
	while (!tdr_future_done(job.done))
		assert_int_equal(tdr_engine_progress(engine, -1), TDR_OK);
	timer_init(&alarm.timer, timer_completes);
	timer_set(engine, &alarm.timer, clock_ms() + 10);
	assert_int_equal(tdr_future_wait(alarm.done, 20000, NULL), TDR_OK);
	tdr_future_unref(alarm.done);
	tdr_future_unref(job.done);
	tdr_engine_unref(engine);
}

static void count_call(tdr_future *future, void *context)
{
	++*(unsigned *)context;
}

/* Who waits runs no callbacks; the descriptor tells whoever drives the engine that there are some. */
static void test_what_a_wait_leaves_makes_the_descriptor_readable(void **state)
{
	tdr_engine *engine = make_engine(0, 0);
	tdr_future *future = tdr_future_new(engine);
	struct alarm alarm = {.done = tdr_future_new(engine)};
	struct pollfd fd = {.fd = tdr_engine_fd(engine), .events = POLLIN};
	unsigned called = 0;

	assert_int_equal(tdr_future_on_done(future, count_call, &called), TDR_OK);
	assert_int_equal(tdr_future_set(future, tdr_none()), TDR_OK);
	timer_init(&alarm.timer, timer_completes);
	timer_set(engine, &alarm.timer, clock_ms() + 10);
	assert_int_equal(tdr_future_wait(alarm.done, 20000, NULL), TDR_OK);
	assert_int_equal(called, 0);
	assert_int_equal(poll(&fd, 1, 10000), 1);
	assert_int_equal(tdr_engine_progress(engine, 0), TDR_OK);
	assert_int_equal(called, 1);
	tdr_future_unref(alarm.done);
	tdr_future_unref(future);
	tdr_engine_unref(engine);
}

static void test_a_forked_child_has_inert_handles(void **state)
{
	tdr_engine *engine = make_engine(2, 4);
	tdr_future *future = tdr_future_new(engine);
	int status;
	pid_t child = fork();

	if (child == 0) {
		bool good =
		    tdr_future_wait(future, 10, NULL) == TDR_EFORKED && tdr_engine_progress(engine, 0) == TDR_EFORKED;

		tdr_future_unref(future);
		tdr_engine_unref(engine);
		_exit(good ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(tdr_future_set(future, tdr_none()), TDR_OK);
	assert_int_equal(tdr_future_wait(future, 0, NULL), TDR_OK);
	tdr_future_unref(future);
	tdr_engine_unref(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tasks_run),
	    cmocka_unit_test(test_timers_fire_while_all_threads_loop),
	    cmocka_unit_test(test_waiting_threads_are_replaced),
	    cmocka_unit_test(test_the_cap_refuses_nested_tasks),
	    cmocka_unit_test(test_one_thread_stays_free_when_waits_end_at_once),
	    cmocka_unit_test(test_threads_that_ended_leave_nothing),
	    cmocka_unit_test(test_timers_fire_once_and_not_early),
	    cmocka_unit_test(test_a_waiter_reads_its_own_reply),
	    cmocka_unit_test(test_busy_sources_do_not_starve_timers_and_tasks),
	    cmocka_unit_test(test_a_sleeping_owner_hears_of_changes),
	    cmocka_unit_test(test_futures),
	    cmocka_unit_test(test_callbacks_must_not_wait),
	    cmocka_unit_test(test_a_program_drives_the_engine),
	    cmocka_unit_test(test_what_a_wait_leaves_makes_the_descriptor_readable),
	    cmocka_unit_test(test_a_forked_child_has_inert_handles),
	};

	alarm(50);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
