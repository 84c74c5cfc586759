/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names of references and of their forks. A creator numbers what it names from 0, in the order in which it names it; its
 * incarnation keeps the names of a worker that came back apart from those that it gave before.
 */
#ifndef TENDRIL_RREF_ID_H
#define TENDRIL_RREF_ID_H

#include "base/hash.h"

struct rref_id {
	uint64_t incarnation; /* the creator's */
	uint64_t local;       /* its number */
	uint32_t worker;      /* the creator's id: what people are shown */
};

static inline bool rref_id_equal(const struct rref_id *a, const struct rref_id *b)
{
	return a->incarnation == b->incarnation && a->local == b->local;
}

static inline uint64_t rref_id_hash(const struct rref_id *id)
{
	uint64_t words[] = {id->incarnation, id->local};

	return hash_bytes(words, sizeof(words));
}

#endif
