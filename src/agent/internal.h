/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the agent share. */
#ifndef TENDRIL_AGENT_INTERNAL_H
#define TENDRIL_AGENT_INTERNAL_H

#include "agent/devices.h"
#include "base/refcount.h"
#include "engine/future.h"
#include "function/call.h"
#include "function/registry.h"
#include "rref/machine.h"
#include "store/rendezvous.h"
#include "transport/link.h"
#include "value/codec.h"

#include <pthread.h>
#include <tendril/agent.h>
#include <tendril/group.h>
#include <tendril/interceptor.h>

/* X(name, text) */
#define AGENT_STATE_LIST(X)                                                                                            \
	X(AGENT_NEW, "new")         /* made, not a member; functions are registered */                                 \
	X(AGENT_JOINING, "joining") /* inside tdr_join */                                                              \
	X(AGENT_MEMBER, "member")   /* makes and serves calls */                                                       \
	X(AGENT_LEAVING, "leaving") /* inside tdr_shutdown, still makes and serves calls until all are done */         \
	X(AGENT_FENCED, "fenced")   /* the others have evicted it: all it can do is be shut down */                    \
	X(AGENT_LEFT, "left")       /* shut down, or tdr_join failed: final */

enum agent_state {
#define AGENT_STATE_ENUM(name, text) name,
	AGENT_STATE_LIST(AGENT_STATE_ENUM)
#undef AGENT_STATE_ENUM
};

#define MAX_INTERCEPTORS 16
#define LATENCY_BUCKETS 40 /* bucket i counts calls that took 2^i to 2^(i+1) - 1 microseconds */

/* ---- interceptors ---- */

struct interceptors {
	size_t count;
	struct {
		tdr_interceptor hooks;
		char *name;
		void *context;
	} items[MAX_INTERCEPTORS];
};

/* A call on its way through the hooks of one side. */
struct tdr_passage {
	tdr_agent *agent;
	struct link *link;
	const char *function;
	bool incoming;
	tdr_value *args, *kwargs; /* counted */
	tdr_status status;
	tdr_value *result;   /* counted */
	tdr_value *attached; /* a dict, name -> metadata to send; counted */
	tdr_value *received; /* the same of the other side; counted */
	size_t reached; /* interceptors whose first hook (issue, receive) has run: the others see nothing of the call */
	void *slots[MAX_INTERCEPTORS];
};

enum hook {
	HOOK_ISSUE,
	HOOK_RECEIVE,
	HOOK_ENTER,
	HOOK_LEAVE,
	HOOK_REPLY,
	HOOK_COMPLETE,
};

/*
 * Runs one hook of all interceptors, in its order. Issue and receive end with the first that fails; what is run after a failure of
 * reply or complete has that failure for the call's. Afterwards `status` is the call's, also where it is returned: an
 * error by a hook, with its text.
 */
tdr_status intercept_run(tdr_passage *passage, enum hook hook);
/* NULL when memory runs out. `function` is borrowed. */
tdr_passage *passage_new(tdr_agent *agent, struct link *link, const char *function, bool incoming);
tdr_passage *passage_free(tdr_passage *passage); /* takes NULL */
void interceptors_fini(struct interceptors *interceptors);

/* ---- calls that we make ---- */

struct outgoing;

/* The calls under way to one peer: slots, found by id. An id is the slot's generation and its index. */
struct call_table {
	pthread_mutex_t lock;
	struct outgoing **slots;
	uint32_t *generations;
	uint32_t room, used, free_slot; /* free slots are chained through `generations`' twin below */
	uint32_t *next_free;
};

/* ---- what we have towards one member ---- */

/* Lives until the agent's end, also when its worker has left: links, calls under way and names that were handed out stay valid. */
struct peer {
	tdr_agent *agent;
	struct list node; /* in agent->peers */
	struct link *link;
	bool told_gone;         /* guarded by view_lock: the program knows that it has left */
	_Atomic bool left;      /* it left by itself, in a dynamic group */
	tdr_value *description; /* what the worker says of itself beside its identity; counted; NULL: nothing */
	struct call_table calls;
	pthread_mutex_t served_lock;
	struct list served;     /* calls of the peer's that have not been answered */
	struct list parked;     /* of its requests that wait for references; guarded by served_lock, too */
	struct rref_peer rrefs; /* guarded by the lock of the agent's references, as what follows */
	struct list posted;     /* in references.posted, while letters are to be sent to it */
};

/* ---- metrics ---- */

struct metrics {
	_Atomic uint64_t issued, succeeded, failed, timed_out, cancelled;
	_Atomic uint64_t served, served_failed, refused, expired;
	_Atomic uint64_t latency[LATENCY_BUCKETS]; /* of calls that we made */
	_Atomic uint64_t latency_us;               /* their sum */
};

struct faulty;

/* ---- collectives ---- */

struct collectives {
	pthread_mutex_t lock;
	struct list gathers;
	struct list sequences; /* how many gathers each set of members has done */
	struct list early;     /* letters of a view that is newer than ours: kept until that is here */
	size_t ngathers, nearly;
	bool closed; /* none begins any more */
};

/* ---- members that come and go ---- */

/* The group's token while we hold it. */
struct token {
	struct buffer bytes; /* as the store has it; none: we do not hold it */
	const char *action;
	uint64_t count;
	int64_t renewed_ms;
};

/* One who says hello and is no member, as far as we know: is to be told so once we have looked at the table again. */
struct stranger {
	uint64_t incarnation;
	uint64_t look; /* the first one that will tell */
};

#define MAX_STRANGERS 64

struct membership {
	bool dynamic;             /* set by tdr_join */
	_Atomic uint64_t lineage; /* of the group's table; 0 before joining */
	struct token token;       /* of the thread that joins or leaves */
	char fenced_text[256];    /* written before the state becomes AGENT_FENCED */
	tdr_member_function tell; /* the program's; set before joining */
	void *tell_context;

	pthread_mutex_t lock; /* guards what follows */
	struct list events;   /* for the program, in their order */
	bool telling;         /* `tell_task` is queued or runs */
	bool told_inside;     /* it runs */
	struct task tell_task;
	bool wanted;      /* a look at the table */
	bool disowned;    /* a member says that we were evicted */
	bool looking;     /* `look_task` is queued or runs */
	bool look_inside; /* it runs */
	bool look_timed;  /* `look_timer` is set */
	struct task look_task;
	struct timer look_timer;
	int64_t looked_ms;
	uint64_t looks_begun, looks_done;
	unsigned looks_failed; /* since the last one that was done */
	struct stranger strangers[MAX_STRANGERS];
	size_t next_stranger;
	bool closed;
	struct list closers; /* who wait until nothing runs */
};

/* ---- references ---- */

/* What an agent has of references. */
struct references {
	pthread_mutex_t lock;  /* guards what follows */
	struct rrefs *machine; /* NULL before joining and after leaving */
	struct list posted;    /* peers with letters to be sent, by peer.posted */
	bool hurried;          /* and soon */
	struct list settled, user_released, owned_released,
	    lost; /* what is to be done when the lock has been given up */
	struct timer flush, retry;
	int64_t flush_due_ms, retry_due_ms; /* 0: not set; each setting that has not fired holds the agent */
	struct list idle_waiters;           /* for all that is under way to end */
};

/* ---- the agent ---- */

struct tdr_agent {
	struct refcount refs;  /* of the program; the last one's end is the agent's */
	struct refcount holds; /* of calls under way, and one for all references: keeps the memory */
	uint32_t fork_generation;
	char name[128];
	tdr_agent_options options; /* its texts are copies */
	_Atomic int64_t rpc_timeout_ms;
	tdr_engine *engine;
	struct pool *pool;
	struct registry *registry;
	struct codec_limits codec_limits;
	struct interceptors interceptors;
	struct metrics metrics;
	struct collectives collectives;
	struct references references;
	struct membership membership;
	struct agent_devices devices;
	const char *backend;   /* the name of what made it; never freed */
	struct faulty *faulty; /* NULL but for backend FAULTY */

	pthread_mutex_t lock;   /* guards `state` and `idle_waiters` */
	_Atomic uint32_t state; /* enum agent_state */
	struct list idle_waiters;
	_Atomic uint32_t outstanding; /* calls that we made and that have not completed */
	_Atomic uint32_t serving;     /* calls that we serve and have not answered */
	_Atomic uint64_t activity;    /* counts both as they begin: whether anything happened in between */

	/* Set by tdr_join, and constant from then on: */
	struct rendezvous rendezvous;
	tdr_store *store; /* with the group's prefix */
	struct identity self;

	tdr_value *description; /* for other members, beside `self`; counted; NULL: nothing. Set before meeting. */
	struct links *links;
	char joined_key[64]; /* what we wrote to the store, to be marked as left */
	/*
	 * Of a dynamic group: completes when all members know of us. Until then we serve nobody: what we hand out might reach one who
	 * does not. NULL in a static group, and before joining; counted.
	 */
	tdr_future *known;
	struct dump_signal *signal;

	pthread_mutex_t view_lock;   /* guards `peers`, and one change of `view` against another */
	struct list peers;           /* every worker that is or was a member; ourselves among them */
	_Atomic(struct view *) view; /* the current one; NULL before we have joined */
};

/* The group's table of members, met through the store. Sets rendezvous, store, self, links, view. */
tdr_status agent_meet(tdr_agent *agent, int64_t deadline_ms);

struct links *agent_make_links(tdr_agent *agent);

/* It is a member from now on: makes and serves calls. */
void agent_become_member(tdr_agent *agent);

/* Makes an agent by the backend that the options name; by our own, which is TENDRIL or FAULTY. */
tdr_status backend_make(const char *name, const tdr_agent_options *options, tdr_agent **ret_agent);
tdr_status agent_make(const char *name, const tdr_agent_options *options, tdr_agent **ret_agent);

/* Closes the lanes, ends what is under way, and is a member no more; once. `flush`: after what was queued has gone out. */
void agent_leave(tdr_agent *agent, bool flush);

/* Tells the store that this member has left, as far as it still can be told. */
void agent_mark_left(tdr_agent *agent);

/* Copies the options and fills in what the environment says. */
tdr_status options_copy(const tdr_agent_options *options, tdr_agent_options *ret_copy);
void options_fini(tdr_agent_options *options);

tdr_status agent_set_state(tdr_agent *agent, enum agent_state from, enum agent_state to);
enum agent_state agent_state(const tdr_agent *agent);
const char *agent_state_name(enum agent_state state);

/* TDR_EFORKED in a child of the process that made it. */
tdr_status agent_check_not_forked(const tdr_agent *agent);

/* Keeps the agent's memory; the last drop frees it. */
void agent_hold(tdr_agent *agent);
void agent_drop(tdr_agent *agent);

/* Waits until this agent neither makes nor serves a call; false if the deadline came first. */
bool agent_await_idle(tdr_agent *agent, int64_t deadline_ms);

/* One of `outstanding` or `serving` has gone down. */
void agent_note_end(tdr_agent *agent, _Atomic uint32_t *counter);

/* A member by its name, or the error that says that there is none. */
tdr_status agent_find_peer(tdr_agent *agent, const char *name, struct peer **ret_peer);

/* A worker that is or was a member; NULL if none was. */
struct peer *agent_peer_by_incarnation(tdr_agent *agent, uint32_t id, uint64_t incarnation);

/* ---- outgoing.c ---- */

void call_table_init(struct call_table *table);
void call_table_fini(struct call_table *table);

/* Messages that answer our calls. */
void outgoing_reply(struct peer *peer, const struct message *message);

/* Fails all calls to a peer, or those sent before `epoch`. */
void outgoing_fail_all(struct peer *peer, tdr_status status, const char *text, bool all, uint32_t epoch);

/* Writes a line for each call under way. */
void outgoing_dump(struct peer *peer, struct buffer *text);

/* ---- serve.c ---- */

void serve_call(struct peer *peer, const struct message *message, unsigned turn);
void serve_cancel(struct peer *peer, uint64_t call_id);

/* Cancels all calls of a peer that is gone, or of all when we leave. */
void serve_cancel_all(struct peer *peer);
void serve_dump(struct peer *peer, struct buffer *text);

/* What the function that runs on this thread passes on to calls it makes. */
struct scope {
	int64_t deadline_ms; /* 0: none */
	uint32_t depth;      /* of the call that it serves; 0: none */
};

struct scope serve_scope(void);

/* ---- collective.c ---- */

void collectives_init(struct collectives *collectives);
/* Ends all gathers, once no message can come any more. */
void collectives_close(struct collectives *collectives);
void collectives_fini(struct collectives *collectives);
void collective_message(struct peer *peer, const struct message *message);
void collective_gone(struct peer *peer, tdr_status status, const char *text);

/* The members of a dynamic group have changed: `agent->view` is the new one. */
void collective_view_changed(tdr_agent *agent);

/* We have left the group: nobody else would end the gathers whose root we are. */
void collective_root_leaves(tdr_agent *agent);

/* What came of a gather: values by member, in the order of ids. */
struct gathered {
	uint32_t count;
	struct peer **peers; /* [count] */
	tdr_value **values;  /* [count], counted */
};

void gathered_fini(struct gathered *gathered);

/*
 * Brings `value` (borrowed), and gets those of all members, or of those with `ids` [count], ascending. `topic` tells gathers of
 * the library's own from the user's.
 */
tdr_status gather(tdr_agent *agent, const char *topic, tdr_value *value, const uint32_t *ids, uint32_t count,
                  int64_t timeout_ms, struct gathered *ret_gathered);

/* ---- dump.c ---- */

tdr_status dump_signal_open(tdr_agent *agent);
void dump_signal_close(tdr_agent *agent);
struct buffer agent_dump_text(tdr_agent *agent);

/* Adds a number to a dict of insight. */
void info_put(tdr_value *info, const char *key, uint64_t number);

/* "us" below 1 ms and so on; for texts. */
void print_duration(int64_t microseconds, char *buffer, size_t size);

#endif
