/* SPDX-License-Identifier: Apache-2.0 */
/* The network between workers: packets are late, out of order, doubled and lost; links are cut, and connections break. */
#ifndef TENDRIL_SIM_NETWORK_H
#define TENDRIL_SIM_NETWORK_H

#include "simulator.h"

enum message_kind {
	MESSAGE_REQUEST, /* carries references, and wants some back */
	MESSAGE_CREATE,  /* creates a reference at the receiver; may carry others */
	MESSAGE_FETCH,   /* wants the value of a reference of the receiver's */
	MESSAGE_REPLY,
};

struct message {
	enum message_kind kind;
	uint64_t call;
	bool success;        /* REPLY */
	size_t garbled_at;   /* decoding fails before this reference; SIM_PASSED: it does not */
	struct rref_id rref; /* CREATE, FETCH */
	struct rref_id fork; /* CREATE, FETCH: of the user that asks */
	uint64_t number;     /* CREATE: its number; FETCH: the reference's origin */
	size_t creation;     /* CREATE: among all that were ever sent */
	size_t wanted;       /* REQUEST: references in the reply */
	struct rref_passed passed[SIM_PASSED];
	size_t npassed;
};

void network_send_letters(struct worker *from, struct worker *to, const struct letter *letters, size_t count);

/* A reply that is lost breaks the connection; a request that is lost is found out by its caller, in time. */
void network_send(struct worker *from, struct worker *to, const struct message *message);

/* Both ends will learn that their connection was made anew. */
void network_break(struct worker *a, struct worker *b);

/* Cuts a link, one direction or both; a long cut ends in somebody's declaring the other gone. */
void network_cut(struct worker *a, struct worker *b);
void network_heal(struct sim *sim);

#endif
