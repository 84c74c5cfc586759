/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <assert.h>
#include <stdlib.h>

#define FIRST_BUCKETS 16

static bool grow(struct map *map)
{
	size_t count = map->buckets ? (map->mask + 1) * 2 : FIRST_BUCKETS;
	struct map_node **buckets = calloc(count, sizeof(struct map_node *));

	if (!buckets)
		return map->buckets != NULL;
	for (size_t i = 0; map->buckets && i <= map->mask; i++) {
		struct map_node *next;

		for (struct map_node *node = map->buckets[i]; node; node = next) {
			struct map_node **bucket = &buckets[node->hash & (count - 1)];

			next = node->next;
			node->next = *bucket;
			*bucket = node;
		}
	}
	free(map->buckets);
	map->buckets = buckets;
	map->mask = count - 1;
	return true;
}

bool map_add(struct map *map, struct map_node *node, uint64_t hash)
{
	struct map_node **bucket;

	if ((!map->buckets || map->count > map->mask) && !grow(map))
		return false;
	bucket = &map->buckets[hash & map->mask];
	node->hash = hash;
	node->next = *bucket;
	*bucket = node;
	map->count++;
	return true;
}

void map_remove(struct map *map, struct map_node *node)
{
	struct map_node **at = &map->buckets[node->hash & map->mask];

	while (*at != node) {
		assert(*at);
		at = &(*at)->next;
	}
	*at = node->next;
	map->count--;
}

void map_fini(struct map *map)
{
	assert(map->count == 0);
	free(map->buckets);
	*map = (struct map){0};
}

static struct map_node *first_from(const struct map *map, size_t bucket)
{
	for (size_t i = bucket; i <= map->mask; i++)
		if (map->buckets[i])
			return map->buckets[i];
	return NULL;
}

struct map_node *map_any(const struct map *map)
{
	return map->count > 0 ? first_from(map, 0) : NULL;
}

struct map_node *map_next(const struct map *map, const struct map_node *node)
{
	return node->next ? node->next : first_from(map, (node->hash & map->mask) + 1);
}
