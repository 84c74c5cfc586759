/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts of references. Whoever drops the last one sees all that the others did with the object before they dropped theirs.
 */
#ifndef TENDRIL_BASE_REFCOUNT_H
#define TENDRIL_BASE_REFCOUNT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct refcount {
	_Atomic uint32_t count;
};

/* The maker's own reference. */
static inline void refcount_init(struct refcount *refs)
{
	atomic_init(&refs->count, 1);
}

static inline void refcount_get(struct refcount *refs)
{
	uint32_t before = atomic_fetch_add_explicit(&refs->count, 1, memory_order_relaxed);

	assert(before != 0 && before != UINT32_MAX);
	(void)before;
}

/* True for the last reference: the object is the caller's to free. */
static inline bool refcount_put(struct refcount *refs)
{
	uint32_t before = atomic_fetch_sub_explicit(&refs->count, 1, memory_order_acq_rel);

	assert(before != 0);
	return before == 1;
}

/* The static analyser does not count, and would see the last reference everywhere. */
#ifdef __clang_analyzer__
#define refcount_put(refs) (refcount_put(refs), false)
#endif

#endif
