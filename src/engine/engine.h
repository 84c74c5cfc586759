/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine as the layers above use it: sources (descriptors to watch), timers, tasks, and waiting.
 *
 * Who runs what. A thread that does an engine's work is in one of three roles, and `turn` tells those it calls which:
 *   - a free thread of the engine (or tdr_engine_progress): TURN_MAY_RUN, it may run inline functions;
 *   - a thread that waits for something: no flag; it receives, completes futures and queues requests, and runs no one
 *     else's function or callback.
 * A thread that runs a function or callback is in neither, until it waits.
 */
#ifndef TENDRIL_ENGINE_ENGINE_H
#define TENDRIL_ENGINE_ENGINE_H

#include "base/list.h"

#include <stdatomic.h>
#include <tendril/engine.h>

enum {
	TURN_MAY_RUN = 1 << 0,
};

/* ---- sources ---- */

struct watch;

/*
 * A descriptor that the engine watches, one-shot: whoever is given it owns it until it is empty, so `ready` is never entered
 * twice at once. Embedded in what it belongs to, which must live until `closed` was called.
 */
struct source {
	tdr_engine *engine;
	int fd; /* belongs to the source's holder, who closes it in or after `closed` */
	/*
	 * Reads and writes until either would block, or a fair share is done: then returns true, and is called again
	 * soon. Never blocks. `turn`: TURN_...
	 */
	bool (*ready)(struct source *source, unsigned turn);
	/* After source_close, once `ready` will not be entered any more; from the thread that closes or the one that owned it. */
	void (*closed)(struct source *source);
	uint64_t served;     /* counted up by `ready` for all that it received: whether to look again before sleeping */
	struct watch *watch; /* the engine's own; NULL while it is not watched */
	struct list node;    /* the engine's own: on its list of sources that have more to do */
};

/* Watches `fd` for `interest` (EPOLLIN, EPOLLOUT) from now on. Errors: TDR_EIO. */
tdr_status source_open(struct source *source, tdr_engine *engine, int fd, uint32_t interest,
                       bool (*ready)(struct source *, unsigned), void (*closed)(struct source *));

/* Changes what is watched for. Any thread, also inside `ready`. */
void source_want(struct source *source, uint32_t interest);

/* Stops watching; `closed` follows, perhaps at once. Any thread, also inside `ready`. A second call does nothing. */
void source_close(struct source *source);

/* ---- timers: milliseconds of CLOCK_MONOTONIC, due up to some milliseconds late; setting and clearing is O(1) ---- */

struct timer {
	struct list node;
	int64_t due_ms; /* 0: not set */
	void (*fire)(struct timer *timer);
};

void timer_init(struct timer *timer, void (*fire)(struct timer *timer));

/* Lets `fire` be called once at or after `due_ms`, from a thread that may run callbacks. Replaces an earlier setting. */
void timer_set(tdr_engine *engine, struct timer *timer, int64_t due_ms);

/* Takes it back; true if it was set and will not fire now, false if it was not set, or is firing. */
bool timer_clear(tdr_engine *engine, struct timer *timer);

/* ---- tasks ---- */

struct task {
	struct list node;
	void (*run)(struct task *task);
	bool nested;     /* made by a call inside a call: see engine_submit */
	bool by_waiters; /* deferred: who waits may run it, too, since it calls no function or callback */
	/* In place of `run`, where the engine is at its cap of threads and all of them wait. NULL: it just queues. */
	void (*refuse)(struct task *task);
};

/*
 * Runs a task that may take any time (a function), on a thread that is not the last free one. At the cap of threads it queues;
 * if then every one of them blocks in a wait, a nested task is refused, since it may be what they wait for.
 */
void engine_submit(tdr_engine *engine, struct task *task);

/* Runs a task that ends soon (a completion), on any free thread. */
void engine_defer(tdr_engine *engine, struct task *task);

/* What this thread may do for what it receives, outside of `ready`: TURN_... */
unsigned engine_turn(void);

/*
 * Brackets user code that runs on a thread of the engine outside a submitted task (an inline function, a callback), in which
 * waiting is refused.
 */
void engine_enter_inline(void);
void engine_leave_inline(void);
bool engine_is_inline(void); /* whether this thread is inside such a bracket */

/* ---- waiting ---- */

/* What a thread waits for: a word that becomes 1. */
struct waiter {
	_Atomic uint32_t state; /* the engine's own: enum waiter_state */
	int wake_fd;            /* the engine's own: an eventfd while it sleeps in poll() */
	struct list node;       /* for whoever will wake it; not the engine's */
};

void waiter_init(struct waiter *waiter);

/* Ends the wait. Any thread; the waiter may be gone as soon as this was called, so it is called with its lock held. */
void waiter_wake(struct waiter *waiter);

/*
 * Blocks until waiter_wake, or until `deadline_ms` (0: none). `hint` (may be NULL) is the source on which the awaited will
 * arrive: it is taken over for the time, so that the thread reads its own reply. False: the deadline came first. In an engine
 * without threads, the waiter does the engine's work meanwhile.
 */
bool engine_wait(tdr_engine *engine, struct waiter *waiter, struct source *hint, int64_t deadline_ms);

/*
 * Takes `source` over, unless somebody else has it, ahead of a wait that has it as its hint: before a question is sent whose
 * answer could else come first, and wake another thread. That wait, or engine_unreserve, gives it up; the thread must not
 * block until then.
 */
void engine_reserve(tdr_engine *engine, struct source *source);
void engine_unreserve(void);

/*
 * From now on (or no more) this thread's waits on an engine without threads run functions and callbacks, too: for one that waits
 * until everybody's work is done, and would keep its own from being done.
 */
void engine_serve_in_waits(bool serves);

/* ---- insight ---- */

struct engine_stats {
	uint32_t threads;  /* alive */
	uint32_t running;  /* in a function, not waiting */
	uint32_t blocked;  /* in a function that waits */
	uint32_t queued;   /* tasks that no thread has taken up */
	uint32_t max_busy; /* functions that may run at once */
};

struct engine_stats engine_stats(tdr_engine *engine);

/* Whether the engine belongs to a parent process. */
bool engine_forked(const tdr_engine *engine);

#endif
