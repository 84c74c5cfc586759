/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References as the agent has them: what stands between the reference machine (rref/machine.h), the program's handles (tdr_rref)
 * and the messages.
 *
 * The machine is entered between references_lock and references_unlock alone. What follows from it (letters to send, values to
 * drop, futures to complete) is done by references_unlock when the lock has been given up, so that no user's code runs under it.
 */
#ifndef TENDRIL_AGENT_REFERENCES_H
#define TENDRIL_AGENT_REFERENCES_H

#include "agent/internal.h"
#include "value/rref_value.h"

#include <tendril/rref.h>

/* A value of ours that references stand for. */
struct owned_value {
	struct refcount memory; /* the machine's, and one for each handle of the program */
	struct rref_owned owned;
	struct list node;    /* on one of the lists of what is to be done */
	struct list fetches; /* that wait for it; guarded by the lock */
	tdr_future *value;   /* counted: completes with the value, or the error in its place */
	bool taken_up;       /* created by a call to ourselves, which has come; guarded by the lock, too */
	size_t bytes;        /* that the value takes, once it is there; the same */
};

/* X(name, text) */
#define REFERENCE_ROLE_LIST(X)                                                                                         \
	X(ROLE_NONE, "none")   /* the call that was to create it could not be made; `status` says why */               \
	X(ROLE_USER, "user")   /* the value is elsewhere */                                                            \
	X(ROLE_OWNER, "owner") /* it is here */

enum reference_role {
#define REFERENCE_ROLE_ENUM(name, text) name,
	REFERENCE_ROLE_LIST(REFERENCE_ROLE_ENUM)
#undef REFERENCE_ROLE_ENUM
};

/* What a tdr_rref is. */
struct reference {
	struct tdr_rref head;
	struct refcount memory; /* the program's, and of a user the machine's */
	tdr_agent *agent;       /* held */
	enum reference_role role;
	struct list node;    /* of a user: on one of the lists of what is to be done */
	tdr_future *created; /* of tdr_remote; counted, or NULL */
	tdr_future *settled; /* of a user: made when somebody waits; counted, or NULL */
	tdr_status status;   /* why it stands for nothing; TDR_OK if it does. Guarded by the lock, as is `text` */
	char *text;
	union {
		struct rref_user user;
		struct owned_value *owned; /* counted by its `memory`, and a handle of the machine's */
	};
};

/* ---- references.c ---- */

void references_init(struct references *references);
void references_fini(struct references *references);

/* Registers what fetches call. */
tdr_status references_register(tdr_agent *agent);

/* From joining on, and until leaving: ends what waits for values that will not come. */
tdr_status references_open(tdr_agent *agent);
void references_end(tdr_agent *agent);

/* TDR_ESTATE or TDR_ESHUTDOWN, without the lock, where there is no machine; `enter` says so by false, and sets no error. */
tdr_status references_lock(tdr_agent *agent);
bool references_enter(tdr_agent *agent);

/* Keeps the last error as it was. */
void references_unlock(tdr_agent *agent);

/* The machine's side of a peer; with the lock held. */
struct rref_peer *references_peer(struct peer *peer);

static inline struct peer *peer_of(struct rref_peer *rrefs)
{
	return container_of(rrefs, struct peer, rrefs);
}

void references_peer_gone(struct peer *peer);
void references_peer_broke(struct peer *peer);
void references_message(struct peer *peer, const struct message *message);

/* A message with references in it could not be read. */
void references_unreadable(struct peer *peer);

/* For a graceful leave: lets go of all, and waits until that is known; and unless we leave `alone`, until others have let go of ours. */
tdr_status references_let_go(tdr_agent *agent, bool alone, int64_t deadline_ms);

/* ---- rref_report.c ---- */

/* Says what is left; TDR_ETIMEDOUT with the text. */
tdr_status references_report_leaks(tdr_agent *agent);

/* Adds counters to a dict of insight. */
void references_info(tdr_agent *agent, tdr_value *info);

/* ---- owned_value.c ---- */

/* A new value of ours; READY with a value (given away), PENDING with NULL. Has a handle of the machine's, and memory's for it. */
tdr_status owned_value_new(tdr_agent *agent, tdr_value *value, struct owned_value **ret_owned);

/* Memory for one that the machine expects; NULL when there is none. */
struct owned_value *owned_value_alloc(tdr_agent *agent);

/*
 * The outcome of its creating function, and the end of that function's handle. `value` is given away. What waits for it is added to
 * `ret_fetches`, for fetches_finish.
 */
void owned_value_store(tdr_agent *agent, struct owned_value *owned, tdr_status status, tdr_value *value,
                       const char *text, const char *traceback, struct list *ret_fetches);

/* Of a value that was to be created by a call to ourselves, which has failed: it fails, unless the call has come; true if so. */
bool owned_value_fail(tdr_agent *agent, struct owned_value *owned, tdr_status status, const char *text);

/* Completes its future with an error, unless it is done, and answers what waits for it; true if it was not. Without the lock. */
bool owned_value_end(tdr_agent *agent, struct owned_value *owned, tdr_status status, const char *text);

/* Lets a fetch wait for the value; false if that has come. */
bool owned_value_await(tdr_agent *agent, struct owned_value *owned, struct list *fetch);

/*
 * A future (counted; NULL for lack of memory) of its own for whoever waits for the value, up to `timeout_ms` (not positive: as
 * long as it takes).
 */
tdr_future *owned_value_fetch(tdr_agent *agent, struct owned_value *owned, int64_t timeout_ms);

/* Ends a handle of the machine's and its memory. */
void owned_value_put(tdr_agent *agent, struct owned_value *owned);
void owned_value_drop_memory(struct owned_value *owned);

static inline struct owned_value *owned_value_of(struct rref_owned *owned)
{
	return container_of(owned, struct owned_value, owned);
}

/* ---- reference.c ---- */

struct reference *reference_of(tdr_rref *rref);

/* Handles with one reference. NULL when memory runs out. */
struct reference *reference_new(tdr_agent *agent, enum reference_role role);
struct reference *reference_to(tdr_agent *agent, struct owned_value *owned); /* takes over a handle and memory */
struct reference *reference_failed(tdr_agent *agent, tdr_status status, const char *text);

static inline struct reference *reference_of_user(struct rref_user *user)
{
	return container_of(user, struct reference, user);
}

void reference_drop_memory(struct reference *reference);

/* Why it stands for nothing; TDR_OK if it does, as far as is known. */
tdr_status reference_failure(struct reference *reference);

/* Why a reference cannot be used for `what` ("to_here()"); TDR_OK if it can. */
tdr_status reference_check(struct reference *reference, const char *what);

/* Whether the owner is known to count a user; if not, *ret_settled is a future (counted) that completes when it does. */
bool reference_is_settled(struct reference *reference, tdr_future **ret_settled);

/* A user's state has changed for good: tells those who wait. Without the lock. */
void reference_settled(struct reference *reference);

/* The outcome of the call that creates it, told before its future completes. */
void reference_created(struct reference *reference, tdr_status status, const char *text);

/* ---- cargo.c: references in messages ---- */

/* The references of one message, on its way out or in. */
struct cargo {
	struct peer *peer;
	struct rref_id *forks; /* out: that were made for it [count] */
	tdr_future **settling; /* in: of those that their owners do not count yet [count]; counted */
	size_t count, room;
	bool failed; /* in: a reference could not be taken */
};

void cargo_init(struct cargo *cargo, struct peer *peer);
void cargo_fini(struct cargo *cargo);

/* Lets an encoder write, or a decoder read, references. */
void cargo_out(struct cargo *cargo, struct encoder *encoder);
void cargo_in(struct cargo *cargo, struct decoder *decoder);

/* The message was not sent, or failed. Once. */
void cargo_withdraw(struct cargo *cargo);

/*
 * A handle (the program's count) of a reference that has come from a worker, or that this has written. One of ours that is gone is a
 * reference that has failed.
 */
tdr_status references_take(struct peer *from, const struct rref_passed *passed, struct reference **ret_reference);

/* ---- fetch.c ---- */

/* Answers those that have waited for what is there now. */
void fetches_finish(tdr_agent *agent, struct list *fetches);

/* ---- what a call has to do with references beside its arguments ---- */

/* The value that a call is made on. */
struct target {
	struct rref_id rref;
	uint64_t origin;
};

/* The names of what a call creates. */
struct creation {
	struct rref_id rref, fork;
	uint64_t number; /* 0: for the caller itself, `fork` is not used */
};

#endif
