/* SPDX-License-Identifier: Apache-2.0 */
/* A small table from pointers to pointers, for the length of one conversion. All bytes zero is an empty one. */
#ifndef TENDRIL_PYTHON_POINTER_MAP_H
#define TENDRIL_PYTHON_POINTER_MAP_H

#include <stdbool.h>
#include <stddef.h>

struct pointer_map {
	struct pointer_pair {
		const void *key; /* NULL: free */
		void *value;
	} * pairs;
	size_t room; /* a power of two, or 0 */
	size_t count;
};

/* Frees the table; what it points to is the caller's. */
void pointer_map_fini(struct pointer_map *map);

/* Where the value of `key` (not NULL) lies until the next addition; NULL: it has none. */
void **pointer_map_find(const struct pointer_map *map, const void *key);

/* Adds a key that is not there yet. False: no memory. */
bool pointer_map_add(struct pointer_map *map, const void *key, void *value);

#endif
