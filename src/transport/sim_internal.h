/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the transport "sim" share: networks, and the lanes and listeners on them. */
#ifndef TENDRIL_TRANSPORT_SIM_INTERNAL_H
#define TENDRIL_TRANSPORT_SIM_INTERNAL_H

#include "transport/sim.h"

#include <pthread.h>

#define SIM_NEVER INT64_MAX
#define SIM_ANONYMOUS 0 /* the port of who connects and listens nowhere */

/* One direction between two ports. It lasts as long as the network. */
struct sim_path {
	struct list node;
	uint16_t from, to;
	bool cut;   /* by sim_network_cut */
	bool apart; /* by sim_network_partition */
	int64_t held_until_ms;
	uint64_t count; /* of fates decided */
	uint64_t hash;  /* of the fates */
};

struct sim_network {
	struct list node; /* in the list of networks, whose lock guards `users`, too */
	unsigned users;   /* who has opened it, listeners and lanes */
	char name[ADDRESS_SIZE];
	uint64_t seed;
	pthread_mutex_t lock; /* guards what follows, and all of the lanes and listeners; no event is called with it */
	struct sim_faults faults;
	struct list paths, listeners;
	struct list lanes; /* that are not over */
	uint16_t next_port;
	uint64_t islanders[(UINT16_MAX + 1) / 64]; /* ports on the one side of a partition: a bit each */
};

/* X(name, text) */
#define SIM_STATE_LIST(X)                                                                                              \
	X(SIM_ARRIVING, "arriving")     /* the end that listens: nobody there has been asked yet */                    \
	X(SIM_CONNECTING, "connecting") /* the other end: no answer has come */                                        \
	X(SIM_OPEN, "open")                                                                                            \
	X(SIM_FLUSHING, "flushing") /* lane_close was called, and the peer has yet to take up what was sent */         \
	X(SIM_CLOSED, "closed")     /* over; `closed` is to be called */                                               \
	X(SIM_TOLD, "told")         /* `closed` has been called, or is being */

enum sim_state {
#define SIM_STATE_ENUM(name, text) name,
	SIM_STATE_LIST(SIM_STATE_ENUM)
#undef SIM_STATE_ENUM
};

enum sim_answer {
	SIM_NO_ANSWER,
	SIM_ACCEPTED,
	SIM_REFUSED,
};

/* Whose turn it is to look after a lane. All but the first hold a reference. */
enum sim_pump {
	PUMP_IDLE,
	PUMP_TIMED,   /* the timer, at `pump_due_ms` */
	PUMP_QUEUED,  /* the task */
	PUMP_RUNNING, /* a thread, which looks again before it goes */
};

struct sim_listener {
	struct listener listener;
	struct list node;
	struct sim_network *network;
	struct lane_config config;
	bool (*accept)(void *context, struct lane *lane);
	void *context;
	struct refcount refs; /* the listener's holder, and each thread inside `accept` */
	bool dead;            /* sim_network_kill */
	unsigned inside;      /* threads inside `accept` */
	pthread_cond_t quiet; /* signalled when one of them leaves */
};

struct sim_lane {
	struct lane lane;
	struct list node;
	struct sim_network *network;
	struct sim_path *inward, *outward;
	struct sim_lane *other;        /* the other end; NULL once either is over */
	struct sim_listener *listener; /* in ARRIVING: who is to be asked */
	enum sim_state state;
	bool seen;     /* by who gets its events: it was asked for, or accepted */
	bool in_ended; /* the other end sends no more */
	enum sim_answer answer;
	int64_t arrives_ms;     /* in ARRIVING: when it does; in CONNECTING: when the answer does */
	int64_t connect_due_ms; /* when connecting is given up; 0: never */
	int64_t connect_timeout_ms;
	int64_t close_due_ms;               /* when the flush is given up; 0: lane_close has not been called */
	struct list small, large;           /* letters in flight to here, in order */
	int64_t small_due_ms, large_due_ms; /* of the last of each */
	size_t in_bytes;                    /* of both */
	struct list trash;                  /* letters that will not arrive, to be freed without the lock */
	uint64_t sequence;                  /* of the last letter sent */
	uint64_t taken;                     /* of the letters to here, the last one that was added */
	enum sim_pump pump;
	int64_t pump_due_ms;
	struct timer timer;
	struct task task;
	struct lane_stats stats;
	tdr_status status; /* of the end, as are these: */
	bool refused;
	char text[256];
};

/* ---- networks; see sim_network.c ---- */

/* The network of a name, made where there is none; to be given back. Errors: TDR_EINVAL, TDR_ENOMEM. */
TDR_MUST_USE tdr_status sim_network_use(const char *name, struct sim_network **ret_network);
struct sim_network *sim_network_use_too(struct sim_network *network); /* by somebody more */
struct sim_network *sim_network_unuse(struct sim_network *network);

/* These with the network's lock held. NULL when memory runs out. */
struct sim_path *sim_path_of(struct sim_network *network, uint16_t from, uint16_t to);

/* Decides over what is sent next. */
struct sim_fate sim_decide(struct sim_network *network, struct sim_path *path);

/* From when on something may arrive by a path: SIM_NEVER while it is cut. */
int64_t sim_path_clear_ms(const struct sim_path *path);

struct sim_listener *sim_listener_at(struct sim_network *network, uint16_t port);

/* ---- listeners; see sim.c ---- */

/* Around asking one whether it takes a lane: entered with the network's lock held, asked and left without. */
void sim_listener_enter(struct sim_listener *sim);
TDR_MUST_USE bool sim_listener_ask(struct sim_listener *sim, struct lane *lane);
void sim_listener_leave(struct sim_listener *sim);

/* ---- lanes; see sim_lane.c ---- */

/* A lane with one reference, the transport's, which is not on the network's list yet. NULL when memory runs out. */
struct sim_lane *sim_lane_new(const struct lane_config *config, struct sim_network *network, enum sim_state state);

/* What follows with the network's lock held. */

/* Ends a lane, which tells the other end; the first call counts. */
void sim_lane_end(struct sim_lane *sim, tdr_status status, bool refused, const char *text);

/* Ends both ends. */
void sim_lane_break(struct sim_lane *sim, const char *text);

/* Has somebody look after the lane at `due_ms`. */
void sim_lane_wake(struct sim_lane *sim, int64_t due_ms);

#endif
