/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of pointers that remembers the order in which they came: each has a position, 0 and up. A few are looked
 * through one by one, many have an index.
 */
#ifndef TENDRIL_BASE_POINTERS_H
#define TENDRIL_BASE_POINTERS_H

#include "base/hash.h"

#include <sys/types.h>

/* Zeroed is empty. */
struct pointers {
	const void **items;
	size_t count;
	size_t room;
	struct hash_index index; /* of all items, once there are many */
};

/* The pointer's position, or -1. */
ssize_t pointers_find(const struct pointers *pointers, const void *pointer);

/* Adds one that is not in it; false when memory runs out. */
bool pointers_add(struct pointers *pointers, const void *pointer);

/* Makes it empty, keeping its memory. */
void pointers_clear(struct pointers *pointers);
void pointers_fini(struct pointers *pointers);

#endif
