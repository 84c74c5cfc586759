/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References as values. What a tdr_rref refers to, and how, is for a layer above, which makes them: it embeds this head
 * as the first member of its own struct. The value layer counts, prints and compares them through `ops`, and has the
 * codec's hooks (codec.h) write and read them.
 */
#ifndef TENDRIL_VALUE_RREF_VALUE_H
#define TENDRIL_VALUE_RREF_VALUE_H

#include "base/fork.h"
#include "base/refcount.h"

#include <tendril/value.h>

/*
 * Called on whichever thread, under no lock of this layer. All are needed. Since references are keys, what `equal` and
 * `hash` say of one never changes.
 */
struct rref_ops {
	/*
	 * The last reference is gone. In a child made by fork this is called as well: what may be sent or freed there
	 * is the maker's to say, by `fork_generation`.
	 */
	void (*free)(tdr_rref *rref);

	/* Writes it as text, as snprintf does; at most RREF_TEXT_SIZE bytes of it with the NUL are shown. */
	int (*print)(const tdr_rref *rref, char *buffer, size_t size);

	/* Whether two with these ops are the same reference: to the same value at the same owner. */
	bool (*equal)(const tdr_rref *a, const tdr_rref *b);

	/* Equal ones have equal hashes. */
	uint64_t (*hash)(const tdr_rref *rref);
};

#define RREF_TEXT_SIZE 256

struct tdr_rref {
	struct refcount refs;
	uint32_t fork_generation;
	const struct rref_ops *ops;
};

/* The maker has one reference. */
static inline void rref_head_init(struct tdr_rref *rref, const struct rref_ops *ops)
{
	refcount_init(&rref->refs);
	rref->fork_generation = fork_generation();
	rref->ops = ops;
}

#endif
