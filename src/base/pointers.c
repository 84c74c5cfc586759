/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pointers.h"

#include <stdlib.h>

#define FEW 16

ssize_t pointers_find(const struct pointers *pointers, const void *pointer)
{
	uint64_t hash;
	uint32_t position;
	size_t probe;

	if (pointers->count <= FEW) {
		for (size_t i = 0; i < pointers->count; i++)
			if (pointers->items[i] == pointer)
				return (ssize_t)i;
		return -1;
	}
	hash = hash_pointer(pointer);
	probe = (size_t)hash;
	while (hash_index_next(&pointers->index, hash, &probe, &position))
		if (pointers->items[position] == pointer)
			return position;
	return -1;
}

static bool make_room(struct pointers *pointers)
{
	size_t room = pointers->room ? pointers->room * 2 : FEW;
	const void **items;

	if (pointers->count < pointers->room)
		return true;
	if (room > UINT32_MAX)
		return false;
	items = realloc(pointers->items, room * sizeof(*items));
	if (!items)
		return false;
	pointers->items = items;
	pointers->room = room;
	return true;
}

bool pointers_add(struct pointers *pointers, const void *pointer)
{
	if (!make_room(pointers))
		return false;
	/*
	 * The first one past the few brings those into the index. Positions that are there already were left by a
	 * failure.
	 */
	if (pointers->count == FEW) {
		hash_index_clear(&pointers->index);
		for (uint32_t i = 0; i < FEW; i++)
			if (!hash_index_add(&pointers->index, hash_pointer(pointers->items[i]), i))
				return false;
	}
	if (pointers->count >= FEW &&
	    !hash_index_add(&pointers->index, hash_pointer(pointer), (uint32_t)pointers->count))
		return false;
	pointers->items[pointers->count++] = pointer;
	return true;
}

void pointers_clear(struct pointers *pointers)
{
	hash_index_clear(&pointers->index);
	pointers->count = 0;
}

void pointers_fini(struct pointers *pointers)
{
	free(pointers->items);
	hash_index_fini(&pointers->index);
	*pointers = (struct pointers){0};
}
