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
	struct list node;     /* in peer->parked, while it waits */
	struct list of_value; /* of a fetch: in the fetches of what it is called on, while it waits */
	bool cancelled;       /* while it waited */
	int64_t parked_ns;
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

/* What the request has to wait for next; counted; NULL: nothing. */
tdr_future *request_next_obstacle(struct request *request);

/* Puts the value that the request is called on before its arguments. The value is there. */
tdr_status request_put_target_first(struct request *request);

/* Makes its name a text of its own, with a NUL. Errors: TDR_ENOMEM. */
tdr_status request_keep_name(struct request *request);

/* Moves it to the heap, with its name, which the message had; NULL, and it stays where it is, when memory runs out. */
struct request *request_keep(struct request *request);

/* Puts one that waits on its peer's list of those, or takes it off. */
void request_set_parked(struct request *request, bool parked);

/* ---- serve.c ---- */

/* A request has waited for one thing, and perhaps has to wait for another; a future's callback. */
void request_go_on(tdr_future *future, void *request);

/* ---- fetch.c ---- */

/*
 * Answers a fetch, or keeps it until its value is there; it is moved then. False: it is to be served as any other request is, since
 * this is no turn to run anything, it wants more than a value, interceptors are to see it, or memory ran out.
 */
bool fetch_serve(struct request *request, unsigned turn);

/* ---- reply.c ---- */

/*
 * Shows an outcome to the interceptors, if there are any, and sends it, or keeps it where a reference is to stand for it (`creates`,
 * taken over; NULL: none). `value`, the result or what was attached to the error, is given away. Returns what was sent.
 */
tdr_status answer(struct peer *peer, uint64_t call_id, tdr_passage *passage, struct owned_value *creates,
                  tdr_status status, tdr_value *value, const char *text, const char *traceback);

#endif
