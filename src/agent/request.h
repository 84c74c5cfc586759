/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: calls of others', between their message and their function. Where a request has to wait, for references among its
 * arguments to be counted by their owners or for the value that it is called on, it lives on the heap, and takes no thread.
 */
#ifndef TENDRIL_AGENT_REQUEST_H
#define TENDRIL_AGENT_REQUEST_H

#include "agent/references.h"

struct request {
	struct peer *peer;
	uint64_t call_id;
	int64_t deadline_ms; /* 0: none */
	size_t cost;
	const char *name; /* in the message's body, or in `kept_name` */
	size_t name_size;
	char *kept_name;
	uint64_t depth;
	tdr_value *metadata, *args, *kwargs; /* counted, or NULL */
	bool has_target;
	struct target target;
	struct owned_value *on; /* what it is called on; with a handle and memory; or NULL */
	bool has_creation;
	struct creation creation;
	struct owned_value *creates; /* with a handle and memory; or NULL */
	struct cargo cargo;          /* references among the arguments */
	tdr_passage *passage;        /* until a call has it; NULL without interceptors */
	struct function *function;   /* counted; whose name the passage has */
};

/* ---- request.c ---- */

void request_init(struct request *request, struct peer *peer, const struct message *message);
void request_fini(struct request *request);

/* Reads the body; what was read before a failure is request_fini's. */
tdr_status request_read(const struct message *message, struct request *request);

/* What the request creates comes to be known here, and what it is called on is found. */
tdr_status request_take_references(struct request *request);

/* What has to come before any request is served, except those that are about the group itself; NULL if it has. Borrowed. */
tdr_future *request_gate(const struct request *request);

/* Whether the request has to wait for anything. */
bool request_has_to_wait(const struct request *request);

/* Puts the value that the request is called on before its arguments. The value is there. */
tdr_status request_put_target_first(struct request *request);

/* Makes its name a text of its own, with a NUL. Errors: TDR_ENOMEM. */
tdr_status request_keep_name(struct request *request);

/* ---- parking.c ---- */

/*
 * A request that waits. Whoever claims it, once, goes on with it or refuses it: who brings the last of what it waits for, its
 * deadline, a cancellation, or the end of its peer.
 */
struct parked {
	struct refcount refs; /* of each who brings something, and of the timer while it is set */
	struct request request;
	struct list node; /* in peer->parked, until it is claimed; guarded by served_lock, as is: */
	bool claimed;
	struct list of_value; /* of a fetch: in the fetches of what it is called on; guarded by the references' lock */
	_Atomic size_t left;  /* that it waits for */
	int64_t since_ns;
	struct timer timer;
};

/* Lets a request wait; it is moved. The caller has a reference. NULL, and it stays where it is, when memory runs out. */
struct parked *parked_new(struct request *request);
struct parked *parked_unref(struct parked *parked);

/* True for the first one; parked_end follows when the request has been answered or runs. */
bool parked_claim(struct parked *parked);
void parked_end(struct parked *parked);

/* Lets a request wait for references among its arguments and for what it is called on. False where memory runs out. */
bool request_park(struct request *request);

/* Refuses the one of a call, or all of a peer. */
void parked_cancel(struct peer *peer, uint64_t call_id);
void parked_cancel_all(struct peer *peer);
void parked_dump(struct peer *peer, struct buffer *text);

/* ---- serve.c ---- */

/* Everything that the request needs is there: runs it, or lets it be run, or refuses it. */
void request_start(struct request *request, unsigned turn);

/* The request is not run: its caller is told why, or whoever uses the reference that it was to create. */
void request_refuse(struct request *request, tdr_status status);

/* ---- fetch.c ---- */

/*
 * Answers a fetch, or keeps it until its value is there; it is moved then. False: it is to be served as any other request is, since
 * this is no turn to run anything, it wants more than a value, interceptors are to see it, or memory ran out.
 */
bool fetch_serve(struct request *request, unsigned turn);

/* ---- reply.c ---- */

/*
 * Shows an outcome to the interceptors, if there are any, and sends it, or keeps it where a reference is to stand for it (`creates`,
 * taken over; NULL: none). `value`, the result or what was attached to the error, is given away. Counts it.
 */
void answer(struct peer *peer, uint64_t call_id, tdr_passage *passage, struct owned_value *creates, tdr_status status,
            tdr_value *value, const char *text, const char *traceback);

#endif
