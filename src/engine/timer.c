/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers: a hierarchical wheel of milliseconds. Level 0 has a slot a millisecond, each higher level slots 64 times as wide; a
 * timer moves down a level when its slot's time begins. Setting and clearing are O(1), and the timerfd is set only when
 * something comes earlier than it stands at.
 */
#include "engine/internal.h"

#include "base/clock.h"

#include <sys/timerfd.h>

#define SLOT_BITS 6
#define SLOT_MASK (WHEEL_SLOTS - 1)

void wheel_init(struct wheel *wheel)
{
	pthread_mutex_init(&wheel->lock, NULL);
	wheel->now_ms = clock_ms();
	wheel->armed_ms = INT64_MAX;
	list_init(&wheel->expired);
	for (int level = 0; level < WHEEL_LEVELS; level++)
		for (int slot = 0; slot < WHEEL_SLOTS; slot++)
			list_init(&wheel->slots[level][slot]);
}

void wheel_fini(struct wheel *wheel)
{
	pthread_mutex_destroy(&wheel->lock);
}

static void wheel_insert(struct wheel *wheel, struct timer *timer)
{
	int64_t due = timer->due_ms, limit;
	int level = 0, slot;

	if (due <= wheel->now_ms) {
		list_append(&wheel->expired, &timer->node);
		return;
	}
	/* The level at which it lies fewer than 64 slots ahead; what lies beyond the top waits there, and is put in anew. */
	limit = (INT64_C(1) << (SLOT_BITS * WHEEL_LEVELS)) - 1;
	if (due - wheel->now_ms > limit)
		due = wheel->now_ms + limit;
	while (level < WHEEL_LEVELS - 1 &&
	       (due >> (SLOT_BITS * level)) - (wheel->now_ms >> (SLOT_BITS * level)) >= WHEEL_SLOTS)
		level++;
	slot = (int)((due >> (SLOT_BITS * level)) & SLOT_MASK);
	list_append(&wheel->slots[level][slot], &timer->node);
	wheel->filled[level] |= UINT64_C(1) << slot;
}

/* When the wheel has something to do next: a timer that is due, or a slot whose timers move down. INT64_MAX: nothing. */
static int64_t wheel_next(const struct wheel *wheel)
{
	int64_t next = INT64_MAX;

	for (int level = 0; level < WHEEL_LEVELS; level++) {
		int64_t at = wheel->now_ms >> (SLOT_BITS * level);
		int from = (int)((at + 1) & SLOT_MASK);
		uint64_t filled = wheel->filled[level];

		if (!filled)
			continue;
		filled = from ? filled >> from | filled << (WHEEL_SLOTS - from) : filled;
		next = MIN_OF(next, (at + 1 + __builtin_ctzll(filled)) << (SLOT_BITS * level));
	}
	return next;
}

/* Sets the timerfd to `due_ms` if that is earlier than it stands at. With the wheel's lock held. */
static void wheel_arm(tdr_engine *engine, int64_t due_ms)
{
	struct wheel *wheel = &engine->wheel;
	struct itimerspec when = {.it_value = {.tv_sec = due_ms / 1000, .tv_nsec = due_ms % 1000 * 1000000}};

	if (due_ms >= wheel->armed_ms)
		return;
	wheel->armed_ms = due_ms;
	timerfd_settime(engine->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Moves the wheel on to `now`: what is due goes to `expired`. */
static void wheel_advance(struct wheel *wheel, int64_t now)
{
	while (wheel->now_ms < now) {
		int64_t next = wheel_next(wheel);

		if (next > now) {
			wheel->now_ms = now;
			break;
		}
		wheel->now_ms = next;
		for (int level = WHEEL_LEVELS - 1; level >= 0; level--) {
			struct list moving;
			int slot = (int)((next >> (SLOT_BITS * level)) & SLOT_MASK);

			if (next & ((INT64_C(1) << (SLOT_BITS * level)) - 1))
				continue; /* this level's slot has begun before */
			list_init(&moving);
			list_splice(&moving, &wheel->slots[level][slot]);
			wheel->filled[level] &= ~(UINT64_C(1) << slot);
			for (struct list *node; (node = list_shift(&moving));)
				wheel_insert(wheel, list_entry(node, struct timer, node));
		}
	}
}

void timer_init(struct timer *timer, void (*fire)(struct timer *timer))
{
	*timer = (struct timer){.fire = fire};
	list_init(&timer->node);
}

/* Takes a set timer off its slot. The slot's bit may stay behind: it costs one look when its time comes. */
static bool timer_drop(struct timer *timer)
{
	bool was_set = timer->due_ms != 0;

	list_remove(&timer->node);
	timer->due_ms = 0;
	return was_set;
}

void timer_set(tdr_engine *engine, struct timer *timer, int64_t due_ms)
{
	struct wheel *wheel = &engine->wheel;

	pthread_mutex_lock(&wheel->lock);
	timer_drop(timer);
	timer->due_ms = MAX_OF(due_ms, (int64_t)1);
	wheel_insert(wheel, timer);
	wheel_arm(engine, list_empty(&wheel->expired) ? wheel_next(wheel) : wheel->now_ms);
	pthread_mutex_unlock(&wheel->lock);
}

bool timer_clear(tdr_engine *engine, struct timer *timer)
{
	bool was_set;

	pthread_mutex_lock(&engine->wheel.lock);
	was_set = timer_drop(timer);
	pthread_mutex_unlock(&engine->wheel.lock);
	return was_set;
}

void engine_fire_timers(tdr_engine *engine)
{
	struct wheel *wheel = &engine->wheel;
	struct list *node;

	pthread_mutex_lock(&wheel->lock);
	wheel->armed_ms = INT64_MAX; /* at once: what is set while timers fire must not wait until they have */
	wheel_advance(wheel, clock_ms());
	while ((node = list_shift(&wheel->expired))) {
		struct timer *timer = list_entry(node, struct timer, node);

		timer->due_ms = 0;
		pthread_mutex_unlock(&wheel->lock);
		timer->fire(timer);
		pthread_mutex_lock(&wheel->lock);
	}
	if (wheel_next(wheel) != INT64_MAX)
		wheel_arm(engine, wheel_next(wheel));
	pthread_mutex_unlock(&wheel->lock);
}
