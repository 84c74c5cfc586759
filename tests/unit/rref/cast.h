/* SPDX-License-Identifier: Apache-2.0 */
/* A few machines that know each other, whose letters a test carries by hand. */
#ifndef TENDRIL_TEST_RREF_CAST_H
#define TENDRIL_TEST_RREF_CAST_H

#include "rref/machine.h"

#define CAST_SIZE 4

struct cast;

struct member {
	struct cast *cast;
	struct rrefs *machine;
	struct rref_peer peers[CAST_SIZE]; /* its own is among them */
	unsigned posts, settled, lost, given_up, users_released, owned_released;
};

struct cast {
	struct member members[CAST_SIZE];
	int64_t now_ms;
	char text[1024];
};

/* The owner, and users. */
enum {
	O,
	A,
	B,
	C
};

/* Their ids are 0 to 3, their incarnations 100 to 103. */
void cast_init(struct cast *cast);
void cast_fini(struct cast *cast);

/*
 * Takes what one has to say to another and hands it over, or loses it. Returns what it was, such as
 * "RREF_FORK_REQUEST RREF_ACK/1/0" (an answer to kind 1, verdict 0); good until the next call.
 */
const char *cast_carry(struct cast *cast, unsigned from, unsigned to);
const char *cast_lose(struct cast *cast, unsigned from, unsigned to);

/* Carries all to all, until nobody has anything to say. */
void cast_carry_all(struct cast *cast);

struct rref_peer *cast_peer(struct cast *cast, unsigned member, unsigned other);

struct rref_user *cast_user(void); /* zeroed memory; given back when released */

/* For cmocka: each test has a cast of its own as its state. */
int cast_setup(void **state);
int cast_teardown(void **state);

/* Asserts that a member has nothing to do with references any more. */
void cast_assert_rest(const struct cast *cast, unsigned member);

#endif
