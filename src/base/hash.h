/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashing: a keyed hash of bytes, and an index that finds positions in an array by their hash.
 *
 * The key is drawn once a process, so that who sends us names cannot choose ones that collide. Hashes therefore mean
 * nothing outside the process and never cross the wire.
 */
#ifndef TENDRIL_BASE_HASH_H
#define TENDRIL_BASE_HASH_H

#include "base/macros.h"

#include <stdbool.h>
#include <stdint.h>

uint64_t hash_bytes(const void *data, size_t size);

static inline uint64_t hash_word(uint64_t word)
{
	return hash_bytes(&word, sizeof(word));
}

static inline uint64_t hash_pointer(const void *pointer)
{
	return hash_word((uintptr_t)pointer);
}

/*
 * An index of an array that somebody else holds: open addressing, hash -> position. Positions are added and never taken
 * out; several may have one hash, so the caller compares what lies there. Zeroed is empty.
 */
struct hash_index {
	struct hash_slot *slots; /* [mask + 1], NULL while nothing was added */
	uint32_t mask;
	uint32_t used;
};

struct hash_slot {
	uint32_t hash;
	uint32_t place; /* position + 1; 0: free */
};

/* False when memory runs out; the index is as it was then. */
bool hash_index_add(struct hash_index *index, uint64_t hash, uint32_t position);

/* Makes it empty, keeping its memory. */
void hash_index_clear(struct hash_index *index);
void hash_index_fini(struct hash_index *index);

/*
 * Walks the positions that were added under `hash` (and may be a few others): `probe` begins as (size_t)hash. False at
 * the end.
 */
static inline bool hash_index_next(const struct hash_index *index, uint64_t hash, size_t *probe, uint32_t *ret_position)
{
	if (!index->slots)
		return false;
	for (;;) {
		const struct hash_slot *slot = &index->slots[*probe & index->mask];

		if (!slot->place)
			return false;
		(*probe)++;
		if (slot->hash == (uint32_t)hash) {
			*ret_position = slot->place - 1;
			return true;
		}
	}
}

#endif
