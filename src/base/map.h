/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table of nodes that lie in what they find: adding takes no memory of its own but for the buckets, of which there are
 * about as many as nodes. Where memory for more buckets runs out, the table goes on with what it has.
 */
#ifndef TENDRIL_BASE_MAP_H
#define TENDRIL_BASE_MAP_H

#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_node {
	struct map_node *next;
	uint64_t hash;
};

/* Zeroed is empty. */
struct map {
	struct map_node **buckets; /* [mask + 1]; NULL while nothing was added */
	size_t mask;
	size_t count;
};

/* False, and nothing is added, where there is no memory for the first buckets. */
bool map_add(struct map *map, struct map_node *node, uint64_t hash);

/* Takes out a node that is in the table. */
void map_remove(struct map *map, struct map_node *node);

/* The table must be empty. */
void map_fini(struct map *map);

/* Any node; NULL from an empty table. */
struct map_node *map_any(const struct map *map);

/* The first node that may be of this hash, and the next behind one; the caller compares `hash` and what the node lies in. */
static inline struct map_node *map_first(const struct map *map, uint64_t hash)
{
	return map->buckets ? map->buckets[hash & map->mask] : NULL;
}

/* Walks all nodes, in no order; the table must not change. */
struct map_node *map_next(const struct map *map, const struct map_node *node);

#define map_for_each(node, map) for (struct map_node *node = map_any(map); node; node = map_next((map), node))

#endif
