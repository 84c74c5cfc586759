/* SPDX-License-Identifier: Apache-2.0 */
/* Gathers: one collective under way, as this member sees it. Every function wants the lock of the agent's collectives held. */
#ifndef TENDRIL_AGENT_GATHER_H
#define TENDRIL_AGENT_GATHER_H

#include "agent/occasion.h"
#include "base/refcount.h"

/*
 * What the root of a dynamic group's gather says when the group has changed before all had come: its members enter again, under the
 * newer view. Never seen by the program.
 */
#define GATHER_SUPERSEDED ((tdr_status)1000)

struct gather {
	struct refcount refs;
	struct list node;
	tdr_agent *agent;
	struct occasion occasion;
	uint32_t index;     /* ours in the set */
	tdr_value **values; /* [count]; NULL: not arrived; counted */
	bool *forwarded;    /* [count]; gone up already */
	uint32_t arrived;
	bool entered, done;
	tdr_status outcome; /* once it is done */
	tdr_future *future; /* completes with a list of all values, by index */
	struct timer flush;
};

/* Whether this member has entered the gather and it has ended: what still comes for it is of no use to anybody. */
bool gather_is_past(tdr_agent *agent, const struct occasion *occasion);

/* The gather of an occasion, or NULL. */
struct gather *gather_find(tdr_agent *agent, const struct occasion *occasion);

/* The gather of an occasion, a new one if need be; the list holds it. */
tdr_status gather_get(tdr_agent *agent, const struct occasion *occasion, struct gather **ret_gather);
void gather_unref(struct gather *gather); /* with or without the lock */

/* Takes it off the list, once it is done, and its member has entered it or never will. */
void gather_retire(struct gather *gather);

/* A value has come; a second one of the same member is dropped. `value` is given away. */
void gather_arrive(struct gather *gather, uint32_t index, tdr_value *value);

/* Sends on what may go on by now. What is to be sent is added to `letters`. */
void gather_advance(struct gather *gather, struct list *letters);

/* Ends it with all values, which have come; tells those below. */
void gather_complete(struct gather *gather, struct list *letters);

/* Where we are its root, and our view has moved on: ends it as superseded. */
void gather_supersede(struct gather *gather, struct list *letters);

/* Ends it with an error: the root tells everybody; any other tells those below, and its parent if `tell_parent`. */
void gather_fail(struct gather *gather, struct list *letters, tdr_status status, const char *text, bool tell_parent);

/*
 * A gather of all members that has failed under an older view than ours, and that our member has not entered: that is what its next one
 * comes to, since it was the next one of the others. NULL: none.
 */
struct gather *gather_owed(tdr_agent *agent, const char *topic);

const char *gather_name(const struct gather *gather, uint32_t index);

#endif
