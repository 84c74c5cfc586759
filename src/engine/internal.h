/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the engine share. */
#ifndef TENDRIL_ENGINE_INTERNAL_H
#define TENDRIL_ENGINE_INTERNAL_H

#include "base/refcount.h"
#include "engine/engine.h"

#include <pthread.h>

/* ---- timers: a hierarchical wheel ---- */

#define WHEEL_LEVELS 6
#define WHEEL_SLOTS 64

struct wheel {
	pthread_mutex_t lock;
	int64_t now_ms;                /* all timers due up to here have been moved to `expired` */
	int64_t armed_ms;              /* what the timerfd is set to; INT64_MAX: not set */
	uint64_t filled[WHEEL_LEVELS]; /* a bit a slot that is not empty */
	struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
	struct list expired;
};

void wheel_init(struct wheel *wheel);
void wheel_fini(struct wheel *wheel);

/* Fires what is due, each from the calling thread with no lock held, and sets the timerfd to what comes next. */
void engine_fire_timers(tdr_engine *engine);

/* ---- the engine ---- */

enum thread_role {
	ROLE_NONE,    /* not a thread of an engine */
	ROLE_FREE,    /* receives, keeps timers, runs completions and inline functions */
	ROLE_RUNNING, /* inside a task, that is a function */
	ROLE_BLOCKED, /* inside a task that waits */
};

/* What each thread knows of itself. */
struct engine_thread {
	tdr_engine *engine; /* whose thread it is, or drives by tdr_engine_progress; NULL: nobody's */
	enum thread_role role;
	unsigned inline_depth;    /* brackets of engine_enter_inline */
	bool serves;              /* see engine_serve_in_waits */
	struct source *reserved;  /* see engine_reserve */
	int64_t no_spin_until_ns; /* spinning did harm lately */
};

extern _Thread_local struct engine_thread engine_self;

/*
 * Threads are counted by what they do: threads == free + running + blocked. A task is taken up only while a second free thread
 * remains; that one keeps the engine going.
 */
struct tdr_engine {
	struct refcount refs;
	uint32_t fork_generation;
	tdr_engine_options options;
	int epoll_fd;
	int timer_fd; /* due timers make it readable */
	int wake_fd;  /* edge-triggered, never read: a write wakes one thread that polls */

	pthread_mutex_t lock;   /* guards all down to `wheel`; held across nothing that blocks */
	pthread_cond_t idle;    /* free threads beyond those that poll wait here */
	pthread_cond_t changed; /* a thread has ended */
	struct list tasks;      /* submitted, not taken up */
	struct list deferred;   /* completions */
	struct list ready;      /* sources that have more to do */
	uint32_t threads, free, running, blocked;
	uint32_t polling; /* of the free: inside epoll_wait */
	uint32_t idling;  /* of the free: waiting on `idle` */
	uint32_t queued;  /* length of `tasks` */
	bool stopping;
	struct list exited;  /* threads to be joined */
	struct list watches; /* spare ones; a watch's memory stays a watch's until the engine ends */
	struct list chunks;  /* of watches */
	int *wake_fds;       /* spare eventfds of waiters */
	uint32_t nwake_fds, wake_fds_room;

	_Atomic uint32_t pending; /* tasks, deferred and ready together, for a look without the lock */
	struct wheel wheel;
};

enum {
	POLLERS = 2,      /* threads that wait for events at once */
	EVENTS = 16,      /* taken from the kernel at once */
	NO_SPIN_MS = 250, /* after a yield that took longer than SLOW_YIELD_US */
	SLOW_YIELD_US = 500,
	NO_WAKE_FD_MS = 10, /* between looks, where no descriptor is left to be woken by */
};

/* ---- sources ---- */

enum watch_state {
	WATCH_FREE,    /* belongs to no source */
	WATCH_ARMED,   /* the next event gives the source to a free thread */
	WATCH_OWNED,   /* one thread has the source, or the list of those that have more to do */
	WATCH_CLOSING, /* owned, and to be closed by its owner */
};

/*
 * The engine's side of a source. An event may be in a thread's hands while another closes the source, so events carry a watch,
 * whose memory is a watch's for as long as the engine lives; a late event on a reused one costs a look.
 */
struct watch {
	pthread_mutex_t lock;      /* guards what follows; the atomic ones are read without it, too */
	_Atomic uint32_t state;    /* enum watch_state */
	_Atomic uint32_t interest; /* EPOLLIN, EPOLLOUT */
	_Atomic bool lingering;    /* its owner, a free thread, only looks again before it gives it up */
	_Atomic bool wanted;       /* a waiter would take it from the one that lingers */
	struct source *source;
	int sleeper_fd; /* the eventfd of the owner that waits with it, and may sleep; -1: none */
	struct list node;
};

/* Takes the source of an event; NULL if somebody else has it. */
struct source *watch_claim(struct watch *watch);

/* Takes an armed source out of the set; false if somebody else has it. */
bool source_claim(struct source *source);

/* The owner's `ready` has returned: closes, queues or arms the source. False if it is closed and may be gone. */
bool source_settle(struct source *source, bool more);

/* Names the eventfd by which the owner, who waits, can be stirred up in its sleep; -1: it sleeps no more. */
void source_set_sleeper(struct source *source, int wake_fd);

void watches_fini(tdr_engine *engine);

/* ---- spinning ---- */

/*
 * Looking again for a short while before sleeping, so that in a conversation neither side sleeps. Yields once, because a peer
 * that was just woken may have landed on this processor; where a yield takes long others want the processors, and this
 * thread does not spin for some time.
 */
struct spin {
	int64_t budget_ns;
	int64_t until_ns;
	bool yielded;
};

void spin_start(struct spin *spin, const tdr_engine *engine);

/* Whether to look once more. */
bool spin_on(struct spin *spin);

/* Something came: begins anew. */
void spin_renew(struct spin *spin);

/* ---- work ---- */

/* Wakes a free thread for new work; with the engine's lock held. */
void engine_kick(tdr_engine *engine);

/*
 * For a thread that stops doing an engine's work and may have taken the event that told of what is left: tells those who go on.
 * In an engine without threads the descriptor becomes readable. With no lock held.
 */
void engine_hand_on(tdr_engine *engine);

/* Sees to it that a queued task is taken up, starting a thread if need be; with the engine's lock held. */
void engine_staff(tdr_engine *engine);

/* Takes tasks that would wait for ever off the queue, into `refused`; with the engine's lock held. */
void engine_collect_stuck(tdr_engine *engine, struct list *refused);
void engine_refuse(struct list *refused);

/* Handles up to EVENTS events, waiting for them up to `timeout_ms`. `turn`: TURN_... True if there were any. */
bool engine_poll(tdr_engine *engine, int timeout_ms, unsigned turn);

/* Runs a deferred task, or goes on with a source that has more to do; false if there is none. With no lock held. */
bool engine_run_light(tdr_engine *engine, unsigned turn);

/* Runs one submitted task in this thread; false if there is none. With no lock held. */
bool engine_run_task(tdr_engine *engine);

static inline bool engine_threaded(const tdr_engine *engine)
{
	return engine->options.threads > 0;
}

#endif
