/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with steps of one; a table is at most half full, so that every search ends at a free place. */
#include "pointer_map.h"

#include <stdint.h>
#include <stdlib.h>

#define ROOM_FIRST 16

/* Where a key belongs. Pointers are multiples of 8 or 16, so their low bits say nothing. */
static size_t place_of(const void *key, size_t room)
{
	uint64_t word = (uint64_t)(uintptr_t)key;

	return (size_t)(((word >> 4) * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (room - 1);
}

static struct pointer_pair *pair_of(struct pointer_pair *pairs, size_t room, const void *key)
{
	size_t place = place_of(key, room);

	while (pairs[place].key && pairs[place].key != key)
		place = (place + 1) & (room - 1);
	return &pairs[place];
}

static bool grow(struct pointer_map *map)
{
	size_t room = map->room ? map->room * 2 : ROOM_FIRST;
	struct pointer_pair *pairs = calloc(room, sizeof(*pairs));

	if (!pairs)
		return false;
	for (size_t i = 0; i < map->room; i++)
		if (map->pairs[i].key)
			*pair_of(pairs, room, map->pairs[i].key) = map->pairs[i];
	free(map->pairs);
	map->pairs = pairs;
	map->room = room;
	return true;
}

void pointer_map_fini(struct pointer_map *map)
{
	free(map->pairs);
	*map = (struct pointer_map){0};
}

void **pointer_map_find(const struct pointer_map *map, const void *key)
{
	struct pointer_pair *pair;

	if (map->count == 0)
		return NULL;
	pair = pair_of(map->pairs, map->room, key);
	return pair->key ? &pair->value : NULL;
}

bool pointer_map_add(struct pointer_map *map, const void *key, void *value)
{
	if (map->count * 2 >= map->room && !grow(map))
		return false;
	*pair_of(map->pairs, map->room, key) = (struct pointer_pair){.key = key, .value = value};
	map->count++;
	return true;
}
