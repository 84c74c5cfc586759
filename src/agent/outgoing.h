/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that we make: from the arguments to the future. What call_table.c, outgoing.c (a call's life), issue.c (how it begins)
 * and answer.c (how it ends) share.
 */
#ifndef TENDRIL_AGENT_OUTGOING_H
#define TENDRIL_AGENT_OUTGOING_H

#include "agent/internal.h"
#include "agent/references.h"

/* What a fetch calls: answers with the value that it is called on. */
#define FETCH_FUNCTION "tendril::to_here"

struct outgoing {
	struct refcount refs;
	struct peer *peer;
	tdr_future *future; /* counted */
	uint64_t id;
	uint32_t epoch; /* of the link when it was sent */
	uint8_t type;   /* MESSAGE_CALL, MESSAGE_REMOTE_CALL, MESSAGE_FETCH */
	unsigned flags; /* TDR_RPC_... */
	int64_t timeout_ms;
	int64_t started_ns;
	struct timer timer;
	_Atomic(struct lane *) lane; /* where a waiter reads; counted */
	tdr_passage *passage;        /* NULL without interceptors */
	struct cargo cargo;          /* references among the arguments */
	tdr_rref *target;            /* what it is called on; counted, so that it lives until then; or NULL */
	tdr_rref *creates;           /* what it creates; counted; or NULL */
	char function[];
};

/* What a call is to be. */
struct issue {
	const char *function;
	tdr_value **args, **kwargs; /* the caller's; interceptors may put others in their place */
	tdr_rpc_options options;
	uint8_t type; /* MESSAGE_CALL at first */
	struct peer *peer;
	struct reference *target, *creates; /* borrowed; or NULL */
	struct target aim;                  /* with a target */
	struct creation creation;           /* with `creates` */
};

/* ---- call_table.c ---- */

/* Takes over a reference to the call, and gives it its id. Errors: TDR_ELIMIT, TDR_ENOMEM. */
tdr_status call_table_add(struct call_table *table, struct outgoing *outgoing, uint32_t limit);

/* Takes a call out of the table; NULL if it has been taken out before. The table's reference is the caller's then. */
struct outgoing *call_table_take(struct call_table *table, uint64_t id);

/* That of a slot which has one; with the table's lock held. */
struct outgoing *call_table_take_slot(struct call_table *table, uint32_t slot);

/* ---- outgoing.c ---- */

struct outgoing *outgoing_new(struct peer *peer, tdr_future *future, const char *function);
void outgoing_unref(struct outgoing *outgoing);

/*
 * Completes a call that its caller has taken out of the table, and drops the table's reference. `value`, the result or what was
 * attached to the error, is given away.
 */
void outgoing_finish(struct outgoing *outgoing, tdr_status status, tdr_value *value, const char *text,
                     const char *traceback);

/* Makes it what its future comes from. */
void outgoing_attach(struct outgoing *outgoing);

/* Has this thread read the answer: it is about to wait for it, by tdr_future_wait, and calls engine_unreserve if it does not. */
void outgoing_reserve(struct outgoing *outgoing);

/* Starts its clock. */
void outgoing_start_timer(struct outgoing *outgoing, int64_t deadline_ms);

/* Shows an outcome to the interceptors, who may replace it; returns what it is then. */
tdr_status outgoing_complete_hooks(tdr_passage *passage, tdr_status status, tdr_value **value, const char **text);

/* ---- issue.c ---- */

/* A call with these arguments, borrowed. Errors: TDR_ESTATE, TDR_ESHUTDOWN, TDR_EINVAL, what the arguments say. */
tdr_status issue_init(struct issue *issue, tdr_agent *agent, const char *function, tdr_value **args, tdr_value **kwargs,
                      const tdr_rpc_options *options);

/* Makes the call; `future` and what it creates learn of its failure, too, also where it cannot be made. */
void issue_run(tdr_agent *agent, struct issue *issue, tdr_future *future);

#endif
