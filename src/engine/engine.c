/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: its threads, and what each does next.
 *
 * Design notes. All threads are alike. A free thread runs completions, then sources with more to do, then takes up a task if
 * another free thread remains, else waits for events; at most POLLERS wait in epoll_wait, so that one event wakes one
 * thread and a thread that takes up a task need not wake a successor; more free threads sleep on `idle`. What a thread
 * receives is either done at once (replies, inline functions) or queued as a task, which the same thread takes up next:
 * no hand-off. The invariant `free >= 1` is what keeps heartbeats, replies and timeouts alive whatever functions do.
 */
#include "engine/internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct thread {
	struct list node;
	pthread_t id;
	tdr_engine *engine;
};

_Thread_local struct engine_thread engine_self;

/* ---- staffing; all with the engine's lock held ---- */

static void *thread_main(void *argument);

/* Threads that there may be: those that run functions, one that is free, and one for each that waits. */
static bool may_start(const tdr_engine *engine)
{
	return !engine->stopping && engine->threads < engine->options.threads + 1 + engine->blocked &&
	       engine->threads < engine->options.max_threads + 1;
}

static bool thread_start(tdr_engine *engine)
{
	struct thread *thread = calloc(1, sizeof(*thread));
	sigset_t all, before;
	int failed;

	if (!thread)
		return false;
	thread->engine = engine;
	list_init(&thread->node);
	engine->threads++;
	engine->free++;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(&thread->id, NULL, thread_main, thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed) {
		engine->threads--;
		engine->free--;
		free(thread);
		LOG(TDR_LOG_WARN, "event=thread_start_failed threads=%u error=\"%s\"", engine->threads,
		    strerror(failed));
	}
	return !failed;
}

void engine_kick(tdr_engine *engine)
{
	static const uint64_t one = 1;

	if (engine->idling > 0)
		pthread_cond_signal(&engine->idle);
	else if ((engine->polling > 0 || !engine_threaded(engine)) && write(engine->wake_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN); /* its count is full: it is readable, then */
}

void engine_hand_on(tdr_engine *engine)
{
	if (atomic_load(&engine->pending) == 0)
		return;
	pthread_mutex_lock(&engine->lock);
	engine_kick(engine);
	pthread_mutex_unlock(&engine->lock);
}

/* Starts a thread where a queued task could be taken up if there were one more. */
static void reinforce(tdr_engine *engine)
{
	if (engine->queued > 0 && engine->free < 2 && engine->running < engine->options.threads && may_start(engine))
		thread_start(engine);
}

void engine_staff(tdr_engine *engine)
{
	bool self = engine_self.engine == engine && engine_self.role == ROLE_FREE;

	if (engine->free < 2 && engine_threaded(engine))
		reinforce(engine); /* the new thread looks for itself */
	else if (!self || engine->queued > 1)
		engine_kick(engine);
}

void engine_collect_stuck(tdr_engine *engine, struct list *refused)
{
	if (engine->queued == 0 || engine->free > 1 || engine->running > 0 || may_start(engine) ||
	    !engine_threaded(engine))
		return;
	list_for_each_safe(node, &engine->tasks) {
		struct task *task = list_entry(node, struct task, node);

		if (!task->nested || !task->refuse)
			continue;
		list_remove(node);
		list_append(refused, node);
		engine->queued--;
		atomic_fetch_sub(&engine->pending, 1);
	}
}

void engine_refuse(struct list *refused)
{
	struct list *node;

	while ((node = list_shift(refused))) {
		struct task *task = list_entry(node, struct task, node);

		task->refuse(task);
	}
}

/* ---- work ---- */

static void run_by_executor(void *argument)
{
	struct task *task = argument;

	task->run(task);
}

void engine_submit(tdr_engine *engine, struct task *task)
{
	struct list refused;

	if (engine->options.execute) {
		engine->options.execute(engine->options.execute_context, run_by_executor, task);
		return;
	}
	list_init(&refused);
	pthread_mutex_lock(&engine->lock);
	list_append(&engine->tasks, &task->node);
	engine->queued++;
	atomic_fetch_add(&engine->pending, 1);
	engine_staff(engine);
	engine_collect_stuck(engine, &refused);
	pthread_mutex_unlock(&engine->lock);
	engine_refuse(&refused);
}

void engine_defer(tdr_engine *engine, struct task *task)
{
	pthread_mutex_lock(&engine->lock);
	list_append(&engine->deferred, &task->node);
	atomic_fetch_add(&engine->pending, 1);
	if (engine_self.engine != engine || engine_self.role != ROLE_FREE)
		engine_kick(engine);
	pthread_mutex_unlock(&engine->lock);
}

void engine_enter_inline(void)
{
	engine_self.inline_depth++;
}

void engine_leave_inline(void)
{
	assert(engine_self.inline_depth > 0);
	engine_self.inline_depth--;
}

bool engine_is_inline(void)
{
	return engine_self.inline_depth > 0;
}

unsigned engine_turn(void)
{
	return engine_self.role == ROLE_FREE ? TURN_MAY_RUN : 0;
}

/* The first deferred task that who is in such a turn may run; with the lock held. */
static struct list *shift_deferred(tdr_engine *engine, unsigned turn)
{
	if (turn & TURN_MAY_RUN)
		return list_shift(&engine->deferred);
	list_for_each(node, &engine->deferred) {
		if (!list_entry(node, struct task, node)->by_waiters)
			continue;
		list_remove(node);
		return node;
	}
	return NULL;
}

bool engine_run_light(tdr_engine *engine, unsigned turn)
{
	struct list *deferred = NULL, *ready = NULL;

	if (atomic_load_explicit(&engine->pending, memory_order_acquire) == 0)
		return false;
	pthread_mutex_lock(&engine->lock);
	deferred = shift_deferred(engine, turn);
	if (!deferred)
		ready = list_shift(&engine->ready);
	if (deferred || ready)
		atomic_fetch_sub(&engine->pending, 1);
	pthread_mutex_unlock(&engine->lock);
	if (deferred) {
		struct task *task = list_entry(deferred, struct task, node);

		engine_enter_inline();
		task->run(task);
		engine_leave_inline();
	} else if (ready) {
		struct source *source = list_entry(ready, struct source, node);

		source_settle(source, source->ready(source, turn));
	}
	return deferred || ready;
}

static bool has_light_work(const tdr_engine *engine)
{
	return !list_empty(&engine->deferred) || !list_empty(&engine->ready);
}

/* Takes up a task if it may; with the lock held, which is given up meanwhile. */
static bool take_task(tdr_engine *engine)
{
	bool alone = engine_threaded(engine) && (engine->free < 2 || engine->running >= engine->options.threads);
	struct list *node = alone ? NULL : list_shift(&engine->tasks);
	struct task *task;
	enum thread_role role = engine_self.role;

	if (!node)
		return false;
	task = list_entry(node, struct task, node);
	engine->queued--;
	atomic_fetch_sub(&engine->pending, 1);
	engine->free--;
	engine->running++;
	engine_self.role = ROLE_RUNNING;
	if (engine->queued > 0)
		engine_staff(engine);
	if ((engine->polling == 0 && engine->idling > 0) || has_light_work(engine))
		engine_kick(engine); /* somebody must receive, or go on with that */
	pthread_mutex_unlock(&engine->lock);
	task->run(task);
	engine_self.role = role;
	pthread_mutex_lock(&engine->lock);
	engine->running--;
	engine->free++;
	return true;
}

bool engine_run_task(tdr_engine *engine)
{
	bool ran;

	if (atomic_load_explicit(&engine->pending, memory_order_acquire) == 0)
		return false;
	pthread_mutex_lock(&engine->lock);
	ran = take_task(engine);
	pthread_mutex_unlock(&engine->lock);
	return ran;
}

/* ---- events ---- */

/* Whether a thread that lingers has something better to do. */
static bool leave_off(tdr_engine *engine, struct watch *watch)
{
	return atomic_load_explicit(&engine->pending, memory_order_relaxed) > 0 ||
	       atomic_load_explicit(&watch->wanted, memory_order_relaxed) ||
	       atomic_load_explicit(&watch->state, memory_order_relaxed) == WATCH_CLOSING;
}

/*
 * Serves a source that this thread owns, looks again for a while before it gives it up, and leaves at once when there is
 * anything else to do. Returns how many `events` came meanwhile.
 */
static int serve(tdr_engine *engine, struct source *source, unsigned turn, struct epoll_event events[EVENTS])
{
	uint64_t served = source->served;
	bool more = source->ready(source, turn);
	int count = 0;
	struct spin spin;

	if (!more && source->served != served && engine_threaded(engine)) {
		atomic_store_explicit(&source->watch->wanted, false, memory_order_relaxed);
		atomic_store(&source->watch->lingering, true);
		spin_start(&spin, engine);
		while (!more && count <= 0 && spin_on(&spin) && !leave_off(engine, source->watch)) {
			served = source->served;
			more = source->ready(source, turn);
			if (source->served != served)
				spin_renew(&spin);
			else
				count = epoll_wait(engine->epoll_fd, events, EVENTS, 0);
		}
		atomic_store(&source->watch->lingering, false);
	}
	source_settle(source, more);
	return count;
}

/* Handles events that epoll_wait gave. Returns how many new ones came meanwhile, in their place. */
static int handle_events(tdr_engine *engine, struct epoll_event events[EVENTS], int count, unsigned turn)
{
	for (int i = 0; i < count; i++) {
		void *what = events[i].data.ptr;
		struct source *source;

		if (what == &engine->wake_fd)
			continue; /* to have woken is all */
		if (what == &engine->timer_fd) {
			engine_fire_timers(engine);
			continue;
		}
		source = watch_claim(what);
		if (source && count == 1)
			return serve(engine, source, turn, events);
		if (source)
			source_settle(source, source->ready(source, turn));
	}
	return 0;
}

bool engine_poll(tdr_engine *engine, int timeout_ms, unsigned turn)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(engine->epoll_fd, events, EVENTS, timeout_ms);
	bool any = count > 0;

	while (count > 0)
		count = handle_events(engine, events, count, turn);
	return any;
}

/* ---- threads ---- */

/*
 * Does some light work, and receives where nobody else does: sources that always have more to do must not keep timers and
 * other sources waiting. With the lock held, which is given up meanwhile. False if there is none.
 */
static bool do_light_work(tdr_engine *engine)
{
	bool alone = engine->polling == 0;

	if (!has_light_work(engine))
		return false;
	pthread_mutex_unlock(&engine->lock);
	engine_run_light(engine, TURN_MAY_RUN);
	if (alone)
		engine_poll(engine, 0, TURN_MAY_RUN);
	pthread_mutex_lock(&engine->lock);
	return true;
}

/* What a free thread does next; with the lock held, which is given up meanwhile. False: the thread is to end. */
static bool turn(tdr_engine *engine)
{
	bool worked = do_light_work(engine);

	if (take_task(engine) || worked) /* in turn, so that neither starves the other */
		return true;
	reinforce(engine);
	if (engine->stopping && engine->queued == 0)
		return false;
	if (engine->free > 1 && engine->threads - engine->blocked > engine->options.threads + 1)
		return false; /* it stood in for one that waited */
	if (engine->polling < POLLERS) {
		engine->polling++;
		pthread_mutex_unlock(&engine->lock);
		engine_poll(engine, -1, TURN_MAY_RUN);
		pthread_mutex_lock(&engine->lock);
		engine->polling--;
		return true;
	}
	engine->idling++;
	pthread_cond_wait(&engine->idle, &engine->lock);
	engine->idling--;
	return true;
}

/* Joins threads that have ended; with the lock held, which is given up meanwhile: false if there was none. */
static bool join_exited(tdr_engine *engine)
{
	bool any = !list_empty(&engine->exited);
	struct list *node;

	while ((node = list_shift(&engine->exited))) {
		struct thread *thread = list_entry(node, struct thread, node);

		pthread_mutex_unlock(&engine->lock);
		pthread_join(thread->id, NULL);
		free(thread);
		pthread_mutex_lock(&engine->lock);
	}
	return any;
}

static void *thread_main(void *argument)
{
	struct thread *thread = argument;
	tdr_engine *engine = thread->engine;

	engine_self.engine = engine;
	engine_self.role = ROLE_FREE;
	pthread_setname_np(pthread_self(), "tendril");
	pthread_mutex_lock(&engine->lock);
	do { /* whether it may end is seen, and it is counted off, without the lock's being given up in between */
		while (turn(engine))
			continue;
	} while (join_exited(engine)); /* so that few are ever left to be joined: each keeps its stack until then */
	engine->free--;
	engine->threads--;
	list_append(&engine->exited, &thread->node);
	pthread_cond_signal(&engine->changed);
	engine_kick(engine); /* the next one, when all end */
	pthread_mutex_unlock(&engine->lock);
	return NULL;
}

/* ---- life ---- */

void tdr_engine_options_init(tdr_engine_options *options)
{
	*options = (tdr_engine_options){.size = sizeof(*options), .threads = 16, .max_threads = 1024, .spin_us = 50};
}

static void engine_free(tdr_engine *engine)
{
	for (uint32_t i = 0; i < engine->nwake_fds; i++)
		close(engine->wake_fds[i]);
	free(engine->wake_fds);
	watches_fini(engine);
	wheel_fini(&engine->wheel);
	if (engine->timer_fd >= 0)
		close(engine->timer_fd);
	if (engine->wake_fd >= 0)
		close(engine->wake_fd);
	if (engine->epoll_fd >= 0)
		close(engine->epoll_fd);
	pthread_cond_destroy(&engine->changed);
	pthread_cond_destroy(&engine->idle);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
}

/* Ends the threads, once what was submitted has run, and frees the engine. */
static void *engine_end(void *argument)
{
	tdr_engine *engine = argument;

	pthread_mutex_lock(&engine->lock);
	engine->stopping = true;
	while (engine->threads > 0) {
		pthread_cond_broadcast(&engine->idle);
		engine_kick(engine);
		pthread_cond_wait(&engine->changed, &engine->lock);
	}
	(void)join_exited(engine);
	pthread_mutex_unlock(&engine->lock);
	while (engine_run_light(engine, TURN_MAY_RUN)) /* of an engine without threads */
		continue;
	engine_free(engine);
	return NULL;
}

static tdr_status watch_own_fd(tdr_engine *engine, int *fd, int made)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = fd};

	*fd = made;
	if (made < 0 || epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, made, &event) < 0)
		return error_errno("cannot make an engine's descriptors");
	return TDR_OK;
}

static tdr_status check_options(const tdr_engine_options *options)
{
	if (options->size != sizeof(*options))
		return error_set(TDR_EINVAL,
		                 "tdr_engine_options.size is %zu, not %zu: call tdr_engine_options_init first",
		                 options->size, sizeof(*options));
	if (options->threads > 65536 || options->max_threads > 65536 ||
	    (options->threads > 0 && options->max_threads < options->threads))
		return error_set(TDR_EINVAL,
		                 "an engine takes up to 65536 threads, and max_threads (%u) not below threads (%u)",
		                 options->max_threads, options->threads);
	if (options->spin_us < 0 || options->spin_us > 1000000)
		return error_set(TDR_EINVAL, "spin_us is %lld, outside 0 to 1000000", (long long)options->spin_us);
	return TDR_OK;
}

tdr_status tdr_engine_new(const tdr_engine_options *options, tdr_engine **ret_engine)
{
	tdr_engine_options defaults;
	tdr_engine *engine;
	tdr_status status;

	tdr_engine_options_init(&defaults);
	options = options ? options : &defaults;
	status = check_options(options);
	if (status != TDR_OK)
		return status;
	engine = calloc(1, sizeof(*engine));
	if (!engine)
		return error_nomem();
	refcount_init(&engine->refs);
	engine->fork_generation = fork_generation();
	engine->options = *options;
	engine->timer_fd = engine->wake_fd = -1;
	pthread_mutex_init(&engine->lock, NULL);
	pthread_cond_init(&engine->idle, NULL);
	pthread_cond_init(&engine->changed, NULL);
	list_init(&engine->tasks);
	list_init(&engine->deferred);
	list_init(&engine->ready);
	list_init(&engine->exited);
	list_init(&engine->watches);
	list_init(&engine->chunks);
	wheel_init(&engine->wheel);
	engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (engine->epoll_fd < 0) {
		status = error_errno("epoll_create1");
		goto fail;
	}
	status = watch_own_fd(engine, &engine->timer_fd, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	if (status == TDR_OK)
		status = watch_own_fd(engine, &engine->wake_fd, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (status != TDR_OK)
		goto fail;
	if (engine_threaded(engine)) {
		bool started;

		pthread_mutex_lock(&engine->lock);
		started = thread_start(engine);
		if (started)
			thread_start(engine); /* more come when there is work for them */
		pthread_mutex_unlock(&engine->lock);
		if (!started) {
			status = error_set(TDR_EIO, "cannot start a thread: raise the limit on processes (ulimit -u)");
			goto fail;
		}
	} else {
		engine->free = 1;
	}
	*ret_engine = engine;
	return TDR_OK;
fail:
	engine_free(engine);
	return status;
}

tdr_engine *tdr_engine_ref(tdr_engine *engine)
{
	if (engine)
		refcount_get(&engine->refs);
	return engine;
}

tdr_engine *tdr_engine_unref(tdr_engine *engine)
{
	pthread_t reaper;

	if (!engine || engine_forked(engine) || !refcount_put(&engine->refs))
		return NULL;
	/* A thread of the engine cannot wait for itself to end. */
	if (engine_self.engine == engine && pthread_create(&reaper, NULL, engine_end, engine) == 0)
		pthread_detach(reaper);
	else
		engine_end(engine);
	return NULL;
}

bool engine_forked(const tdr_engine *engine)
{
	return forked(engine->fork_generation);
}

int tdr_engine_fd(const tdr_engine *engine)
{
	return engine->epoll_fd;
}

tdr_status tdr_engine_progress(tdr_engine *engine, int timeout_ms)
{
	struct engine_thread before = engine_self;

	if (engine_forked(engine))
		return error_set(TDR_EFORKED, "the engine belongs to the parent process");
	if (before.engine)
		return error_set(TDR_ESTATE, "tdr_engine_progress was called from inside an engine's own work");
	engine_self.engine = engine;
	engine_self.role = engine_threaded(engine) ? ROLE_NONE : ROLE_FREE;
	if (atomic_load(&engine->pending) > 0)
		timeout_ms = 0;
	engine_poll(engine, timeout_ms, TURN_MAY_RUN);
	for (int budget = 64; budget > 0; budget--)
		if (!engine_run_light(engine, TURN_MAY_RUN) && !(!engine_threaded(engine) && engine_run_task(engine)))
			break;
	engine_self.engine = before.engine;
	engine_self.role = before.role;
	engine_hand_on(engine);
	return TDR_OK;
}

struct engine_stats engine_stats(tdr_engine *engine)
{
	struct engine_stats stats;

	pthread_mutex_lock(&engine->lock);
	stats = (struct engine_stats){
	    .threads = engine->threads,
	    .running = engine->running,
	    .blocked = engine->blocked,
	    .queued = engine->queued,
	    .max_busy = engine->options.threads,
	};
	pthread_mutex_unlock(&engine->lock);
	return stats;
}
