/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting: how a thread blocks until something of its own has happened.
 *
 * A waiter that knows on which source its reply will come takes the source over and reads for itself: no other thread has to
 * wake it. It spins for a short while, then sleeps in poll() on the source and an eventfd, by which others can end its wait.
 * Every other waiter sleeps on a futex. While a function's thread waits, the engine may start another in its place.
 */
#include "engine/internal.h"

#include "base/clock.h"
#include "base/macros.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

enum waiter_state {
	WAITER_AWAKE,    /* looking, or on its way to sleep */
	WAITER_ON_FUTEX, /* asleep on the state word */
	WAITER_IN_POLL,  /* asleep in poll() */
	WAITER_WAKING,   /* its eventfd is about to be written */
	WAITER_WOKEN,    /* the wait is over */
};

/* ---- spinning ---- */

void spin_start(struct spin *spin, const tdr_engine *engine)
{
	int64_t now = clock_ns();

	spin->budget_ns = now < engine_self.no_spin_until_ns ? 0 : engine->options.spin_us * 1000;
	spin->until_ns = now + spin->budget_ns;
	spin->yielded = false;
}

bool spin_on(struct spin *spin)
{
	int64_t now;

	if (spin->budget_ns == 0)
		return false;
	now = clock_ns();
	if (now >= spin->until_ns)
		return false;
	if (!spin->yielded) {
		int64_t after;

		sched_yield();
		spin->yielded = true;
		after = clock_ns();
		if (after - now > SLOW_YIELD_US * 1000) {
			engine_self.no_spin_until_ns = after + NO_SPIN_MS * INT64_C(1000000);
			spin->budget_ns = 0;
		}
	}
	return true;
}

void spin_renew(struct spin *spin)
{
	spin->until_ns = clock_ns() + spin->budget_ns;
	spin->yielded = false;
}

/* ---- waking ---- */

void waiter_init(struct waiter *waiter)
{
	atomic_init(&waiter->state, WAITER_AWAKE);
	waiter->wake_fd = -1;
	list_init(&waiter->node);
}

void waiter_wake(struct waiter *waiter)
{
	static const uint64_t one = 1;
	uint32_t before = atomic_load(&waiter->state), after;

	do {
		if (before == WAITER_WOKEN || before == WAITER_WAKING)
			return;
		after = before == WAITER_IN_POLL ? WAITER_WAKING : WAITER_WOKEN;
	} while (!atomic_compare_exchange_weak(&waiter->state, &before, after));
	/* A waiter that is WOKEN may be gone; waking a futex that is none any more is harmless. */
	if (before == WAITER_ON_FUTEX)
		syscall(SYS_futex, &waiter->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	if (before != WAITER_IN_POLL)
		return;
	while (write(waiter->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		continue; /* where its count is full it is readable, too */
	atomic_store(&waiter->state, WAITER_WOKEN);
}

static bool woken(struct waiter *waiter)
{
	return atomic_load_explicit(&waiter->state, memory_order_acquire) == WAITER_WOKEN;
}

/* Before a waiter gives up its eventfd: whoever is writing to it has done so. */
static void wait_for_waker(struct waiter *waiter)
{
	while (atomic_load_explicit(&waiter->state, memory_order_acquire) == WAITER_WAKING)
		sched_yield();
}

/* Announces sleep; false if the wait is over already. */
static bool fall_asleep(struct waiter *waiter, enum waiter_state how)
{
	uint32_t expected = WAITER_AWAKE;

	return atomic_compare_exchange_strong(&waiter->state, &expected, how);
}

/* Takes the announcement back, unless the wait is over. */
static void wake_up(struct waiter *waiter, enum waiter_state how)
{
	uint32_t expected = how;

	atomic_compare_exchange_strong(&waiter->state, &expected, WAITER_AWAKE);
}

/* ---- the three ways to wait; each returns whether the waiter was woken ---- */

static bool wait_on_futex(struct waiter *waiter, int64_t deadline_ms)
{
	while (fall_asleep(waiter, WAITER_ON_FUTEX)) {
		struct timespec until = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};

		syscall(SYS_futex, &waiter->state, FUTEX_WAIT_BITSET_PRIVATE, WAITER_ON_FUTEX,
		        deadline_ms ? &until : NULL, NULL, FUTEX_BITSET_MATCH_ANY);
		wake_up(waiter, WAITER_ON_FUTEX);
		if (deadline_ms && clock_ms() >= deadline_ms)
			break;
	}
	return woken(waiter);
}

/* An eventfd for a waiter that sleeps in poll(); they are reused. -1 if there is none to be had. */
static int wake_fd_take(tdr_engine *engine)
{
	int fd = -1;

	pthread_mutex_lock(&engine->lock);
	if (engine->nwake_fds > 0)
		fd = engine->wake_fds[--engine->nwake_fds];
	pthread_mutex_unlock(&engine->lock);
	return fd >= 0 ? fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/* Keeps it for others. What was written to it and not read stirs up its next holder once, and does no harm. */
static void wake_fd_give(tdr_engine *engine, int fd)
{
	pthread_mutex_lock(&engine->lock);
	if (engine->nwake_fds == engine->wake_fds_room) {
		uint32_t room = MAX_OF(engine->wake_fds_room * 2, (uint32_t)8);
		int *grown = realloc(engine->wake_fds, room * sizeof(*grown));

		if (grown) {
			engine->wake_fds = grown;
			engine->wake_fds_room = room;
		}
	}
	if (engine->nwake_fds < engine->wake_fds_room) {
		engine->wake_fds[engine->nwake_fds++] = fd;
		fd = -1;
	}
	pthread_mutex_unlock(&engine->lock);
	if (fd >= 0)
		close(fd);
}

/* Sleeps until `fd` has something, the waiter, who has a wake_fd, is woken, or the deadline comes. */
static void sleep_in_poll(struct waiter *waiter, int fd, short events, int64_t deadline_ms)
{
	struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = waiter->wake_fd, .events = POLLIN}};

	if (!fall_asleep(waiter, WAITER_IN_POLL))
		return;
	if (poll(fds, COUNT_OF(fds), deadline_poll_ms(deadline_ms)) > 0 && fds[1].revents) {
		uint64_t count;

		/* Who wakes the waiter says so in its state, too; other writes only stir it up. */
		while (read(waiter->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
			continue;
	}
	wake_up(waiter, WAITER_IN_POLL);
}

static short poll_events(const struct source *source)
{
	return (short)((source->watch->interest & EPOLLIN ? POLLIN : 0) |
	               (source->watch->interest & EPOLLOUT ? POLLOUT : 0));
}

/* Makes the owner of `source` one whom others can wake from poll(); false if no descriptor is left. */
static bool become_sleeper(tdr_engine *engine, struct waiter *waiter, struct source *source)
{
	waiter->wake_fd = wake_fd_take(engine);
	if (waiter->wake_fd < 0)
		return false;
	source_set_sleeper(source, waiter->wake_fd);
	return true;
}

/* Waits as the owner of `source`, which it has claimed, and gives it up in the end. */
static bool wait_as_owner(tdr_engine *engine, struct waiter *waiter, struct source *source, int64_t deadline_ms)
{
	bool more = false, look;
	struct spin spin;

	spin_start(&spin, engine);
	/* Who does not spin is here before the answer, mostly, and sleeps at once: poll() looks, too. */
	look = spin.budget_ns > 0 || !become_sleeper(engine, waiter, source);
	for (;; look = true) {
		uint64_t served = source->served;

		more = look && source->ready(source, 0);
		if (woken(waiter) || source->watch->state == WATCH_CLOSING)
			break;
		if (deadline_ms && clock_ms() >= deadline_ms)
			break;
		if (more || source->served != served) {
			spin_renew(&spin);
			continue;
		}
		if (spin_on(&spin))
			continue;
		if (waiter->wake_fd < 0) {
			if (!become_sleeper(engine, waiter, source))
				break; /* no descriptor left: a free thread reads for us */
			continue;      /* what was asked of the source before this was not heard */
		}
		sleep_in_poll(waiter, source->fd, poll_events(source), deadline_ms);
		if (woken(waiter))
			break;
		spin_renew(&spin);
	}
	wait_for_waker(waiter);
	if (waiter->wake_fd >= 0) {
		source_set_sleeper(source, -1);
		wake_fd_give(engine, waiter->wake_fd);
	}
	source_settle(source, more);
	return woken(waiter) || wait_on_futex(waiter, deadline_ms);
}

void engine_serve_in_waits(bool serves)
{
	engine_self.serves = serves;
}

/* Does some of an engine's work, if there is any: all kinds of it, as a free thread would. */
static bool serve_some(tdr_engine *engine)
{
	struct engine_thread before = engine_self;
	bool some;

	engine_self.engine = engine;
	engine_self.role = ROLE_FREE;
	engine_self.serves = false; /* a function that is run now waits as functions do */
	some =
	    engine_poll(engine, 0, TURN_MAY_RUN) || engine_run_light(engine, TURN_MAY_RUN) || engine_run_task(engine);
	engine_self.engine = before.engine;
	engine_self.role = before.role;
	engine_self.serves = true;
	return some;
}

/* Waits in an engine without threads: does its work, but runs functions and callbacks only if the thread serves in waits. */
static bool wait_driving(tdr_engine *engine, struct waiter *waiter, int64_t deadline_ms)
{
	waiter->wake_fd = wake_fd_take(engine);
	while (!woken(waiter) && !(deadline_ms && clock_ms() >= deadline_ms)) {
		if (engine_self.serves ? serve_some(engine) : engine_poll(engine, 0, 0) || engine_run_light(engine, 0))
			continue;
		if (waiter->wake_fd >= 0)
			sleep_in_poll(waiter, engine->epoll_fd, POLLIN, deadline_ms);
		else
			engine_poll(engine, NO_WAKE_FD_MS, 0);
	}
	wait_for_waker(waiter);
	if (waiter->wake_fd >= 0)
		wake_fd_give(engine, waiter->wake_fd);
	engine_hand_on(engine); /* callbacks and functions that were not ours to run */
	return woken(waiter);
}

/* ---- a function's thread blocks ---- */

static void block(tdr_engine *engine)
{
	struct list refused;

	list_init(&refused);
	pthread_mutex_lock(&engine->lock);
	engine->running--;
	engine->blocked++;
	if (engine->queued > 0)
		engine_staff(engine);
	engine_collect_stuck(engine, &refused);
	pthread_mutex_unlock(&engine->lock);
	engine_self.role = ROLE_BLOCKED;
	engine_refuse(&refused);
}

static void unblock(tdr_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->blocked--;
	engine->running++;
	pthread_mutex_unlock(&engine->lock);
	engine_self.role = ROLE_RUNNING;
}

/* Claims the source, if need be from a free thread that only lingers on it. */
static bool claim(struct source *source, struct waiter *waiter)
{
	struct watch *watch = source->watch;
	bool mine = source_claim(source);

	while (!mine && atomic_load(&watch->lingering) && !woken(waiter)) {
		atomic_store_explicit(&watch->wanted, true, memory_order_relaxed);
		mine = source_claim(source);
	}
	return mine;
}

void engine_reserve(tdr_engine *engine, struct source *source)
{
	if (engine_threaded(engine) && !engine_self.reserved && source->watch && source_claim(source))
		engine_self.reserved = source;
}

void engine_unreserve(void)
{
	struct source *source = TAKE_PTR(engine_self.reserved);

	if (source)
		source_settle(source, false);
}

bool engine_wait(tdr_engine *engine, struct waiter *waiter, struct source *hint, int64_t deadline_ms)
{
	bool running = engine_self.role == ROLE_RUNNING;
	bool reserved = hint && hint == engine_self.reserved;
	bool was_woken;

	if (woken(waiter))
		return true;
	if (reserved)
		engine_self.reserved = NULL;
	else
		engine_unreserve();
	if (running)
		block(engine_self.engine);
	if (!engine_threaded(engine))
		was_woken = wait_driving(engine, waiter, deadline_ms);
	else if (reserved || (hint && hint->watch && claim(hint, waiter)))
		was_woken = wait_as_owner(engine, waiter, hint, deadline_ms);
	else
		was_woken = wait_on_futex(waiter, deadline_ms);
	if (running)
		unblock(engine_self.engine);
	return was_woken;
}
