/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Letters: what the reference protocol's parties tell each other beside the calls that carry references. docs/rref.md says who
 * sends which, when and why; docs/protocol.md how they look on the wire.
 */
#ifndef TENDRIL_RREF_LETTER_H
#define TENDRIL_RREF_LETTER_H

#include "rref/id.h"
#include "value/codec.h"

/* X(name, number, text). The numbers are frozen. */
#define LETTER_KIND_LIST(X)                                                                                            \
	X(LETTER_FORK_REQUEST, 1, "RREF_FORK_REQUEST") /* user to owner: count this fork of yours; acknowledged */     \
	X(LETTER_CHILD_ACCEPT, 2, "RREF_CHILD_ACCEPT") /* child to parent: the owner counts me; acknowledged */        \
	X(LETTER_USER_DELETE, 3, "RREF_USER_DELETE")   /* user to owner: count this fork no more; acknowledged */      \
	X(LETTER_WITHDRAW, 4, "RREF_WITHDRAW")         /* parent to child: the fork may not have come; acknowledged */ \
	X(LETTER_ACK, 5, "RREF_ACK")                   /* the answer to each of these */                               \
	X(LETTER_ACCEPTED, 6, "RREF_ACCEPTED")         /* owner to creator: I have it, its function runs */            \
	X(LETTER_RECHECK, 7, "RREF_RECHECK") /* child to parent: what you sent me cannot be read; acknowledged */

enum letter_kind {
#define LETTER_KIND_ENUM(name, number, text) name = (number),
	LETTER_KIND_LIST(LETTER_KIND_ENUM)
#undef LETTER_KIND_ENUM
};

/* What an acknowledgement says. */
enum letter_verdict {
	VERDICT_DONE = 0,    /* so it is now; of WITHDRAW: it had not come, and is refused if it comes */
	VERDICT_UNKNOWN = 1, /* of FORK_REQUEST: there is no such reference any more */
	VERDICT_ARRIVED = 2, /* of WITHDRAW: it had come before */
};

struct letter {
	uint8_t kind;
	uint8_t of;          /* ACK: the kind of what it answers */
	uint8_t verdict;     /* ACK: enum letter_verdict */
	struct rref_id rref; /* FORK_REQUEST, USER_DELETE */
	struct rref_id fork; /* RECHECK: a name of its own, which the answer repeats */
	/* FORK_REQUEST, USER_DELETE, WITHDRAW: under which the receiver knows what it is about; RECHECK: the last that came */
	uint64_t number;
	uint64_t origin; /* FORK_REQUEST: the number of the reference's creation; 0: its owner made it */
};

/* The kind's name, such as "RREF_FORK_REQUEST"; NULL for a number that is none. */
const char *letter_kind_name(unsigned kind);

/* One letter as parts of a message's body. */
void letter_encode(struct encoder *encoder, const struct letter *letter);
tdr_status letter_decode(struct decoder *decoder, struct letter *ret_letter);

/* What passes a reference on, inside a message. */
struct rref_passed {
	struct rref_id rref, fork;
	uint32_t owner_worker;
	uint64_t owner_incarnation;
	uint64_t origin; /* the number of the reference's creation; 0: its owner made it */
	uint64_t number; /* among what the parent sends to the child */
};

#define RREF_PASSED_SIZE 68

/* As bytes, little-endian, one field after the other; returns their count, RREF_PASSED_SIZE. */
size_t rref_passed_write(const struct rref_passed *passed, uint8_t *bytes);
tdr_status rref_passed_read(const uint8_t *bytes, size_t size, struct rref_passed *ret_passed);

/* A name, as three parts of a body. */
void rref_id_encode(struct encoder *encoder, const struct rref_id *id);
tdr_status rref_id_decode(struct decoder *decoder, struct rref_id *ret_id);

#endif
