/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member of a group that does nothing but to make, pass on, call, fetch and drop references, in a process of its own, of
 * whose fellows one is killed.
 */
#ifndef TENDRIL_TESTS_RREF_MEMBER_H
#define TENDRIL_TESTS_RREF_MEMBER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	MEMBERS = 8,
	STAGES = 4
};

/* What the members and their parent share: memory mapped before they are forked. */
struct theatre {
	const char *init_method;
	bool dynamic; /* a group that goes on without the dead one */
	unsigned seed;
	int64_t traffic_ms, patience_ms;
	_Atomic int dead;            /* the rank of the one who is about to be killed; -1: nobody yet */
	_Atomic int joined;          /* members who have */
	_Atomic int arrived[STAGES]; /* who have reached the end of each stage */
	_Atomic long steps;          /* of traffic, of all who live */
};

struct rref_member {
	struct theatre *theatre;
	int rank;
};

/* For processes_start; the context is a struct rref_member. */
int rref_member_run(void *context);

#endif
