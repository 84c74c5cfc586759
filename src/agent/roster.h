/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rosters: the members of a group with an epoch, as they are written to the store and sent to members. A view is made of one.
 *
 * A dynamic group's roster also has its last departures: so that whoever comes late learns why somebody is missing, and can tell one
 * who was evicted from one who never was a member.
 */
#ifndef TENDRIL_AGENT_ROSTER_H
#define TENDRIL_AGENT_ROSTER_H

#include "transport/link.h"
#include "value/codec.h"

#define MAX_DEPARTURES 32
#define MAX_MEMBERS 32768

/* A member as it is written to the store. */
struct entry {
	struct identity who;
	tdr_value *description; /* counted; NULL: nothing */
};

struct departure {
	uint32_t id;
	uint64_t incarnation;
	uint64_t epoch; /* the first without it */
	bool evicted;   /* it did not leave by itself */
};

struct roster {
	uint64_t
	    lineage; /* drawn by the first member of a group: tells it from another one in the same place; 0: static */
	uint64_t epoch;        /* counts the changes; the same number means the same members to everybody */
	struct entry *members; /* [count], ids ascending */
	uint32_t count;
	struct departure departures[MAX_DEPARTURES]; /* the last ones, newest last */
	uint32_t ndepartures;
};

void roster_fini(struct roster *roster);

/* The place of a member; UINT32_MAX where there is none. */
uint32_t roster_find(const struct roster *roster, uint64_t incarnation);

/* Adds a member whose id nobody has. Takes a reference to its description. Errors: TDR_ENOMEM. */
tdr_status roster_add(struct roster *roster, const struct entry *entry);

/* Removes the member at `place`, as of the epoch that the roster has. */
void roster_remove(struct roster *roster, uint32_t place, bool evicted);

/* The departure of a worker; NULL where it has not departed, or long ago. */
const struct departure *roster_departure(const struct roster *roster, uint64_t incarnation);

/* ---- as bytes ---- */

/* Errors: TDR_ENOMEM, and what a description cannot be encoded for. */
tdr_status roster_write(const struct roster *roster, struct encoder *encoder);

/* Checks all that it reads: TDR_EPROTO. No bytes at all are the roster of nobody, epoch 0. */
tdr_status roster_read(const void *data, size_t size, struct roster *ret_roster);

/* A member takes ENTRY_PARTS parts of an array. */
#define ENTRY_PARTS 5

tdr_status entry_write(const struct entry *entry, struct encoder *encoder);
/* A description that was read is the caller's to drop, also on failure. */
tdr_status entry_read(struct decoder *decoder, struct entry *ret_entry);
void entries_fini(struct entry *entries, size_t count);

#endif
