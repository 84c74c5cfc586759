/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of memory blocks for storages' bytes. Fresh pages cost several times the copy into them, so blocks are kept for
 * reuse, up to a bound; what the pool holds is poisoned under ASan and valgrind, or it would hide use after free.
 *
 * Blocks are aligned to 64 bytes; large ones are mapped with huge pages in mind. A block keeps its pool alive. In a child
 * made by fork() a parent's pool still gives and takes blocks, but keeps none and counts nothing.
 */
#ifndef TENDRIL_BASE_POOL_H
#define TENDRIL_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

struct pool;

/* Bytes are counted as blocks are made: a block may be a quarter larger than what was asked for. */
struct pool_stats {
	uint64_t taken;      /* blocks handed out in all */
	uint64_t reused;     /* of these, ones that had been used before */
	size_t bytes_in_use; /* in blocks handed out */
	size_t bytes_kept;   /* in blocks waiting for reuse */
};

/* A pool that keeps at most `limit` bytes for reuse; past it, what lay unused longest is freed. NULL when memory runs out. */
struct pool *pool_new(size_t limit);
struct pool *pool_ref(struct pool *pool);
struct pool *pool_unref(struct pool *pool);

/* A block of at least `size` bytes, contents undefined; NULL when memory runs out. Given back by pool_give. Any thread. */
void *pool_take(struct pool *pool, size_t size);

/* Takes back a block of this pool's; NULL is legal. Any thread, also one that did not take it. */
void pool_give(struct pool *pool, void *data);

struct pool_stats pool_stats(struct pool *pool);

#endif
