/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists, tuples, dicts and sets.
 *
 * Items lie in the container itself where their number was known when it was made, else in memory that doubles. Dicts
 * and sets keep the order of insertion; a few keys are compared one by one, more have an index by hash.
 */
#include "value/layout.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 4
#define MOST_ITEMS ((uint32_t)1 << 31)

struct container_value *container_new(tdr_kind kind, size_t room)
{
	struct container_value *container = NULL;
	size_t width = container_width(kind);

	if (room <= MOST_ITEMS)
		container = value_alloc(kind, sizeof(*container) + room * width * sizeof(container->inside[0]));
	if (!container)
		return NULL;
	container->head.depth = 1;
	container->count = 0;
	container->room = (uint32_t)room;
	container->items = container->inside;
	container->index = (struct hash_index){0};
	return container;
}

void container_empty(struct container_value *container)
{
	size_t count = container->count * container_width(container->head.kind);

	for (size_t i = 0; i < count; i++)
		tdr_value_unref(container->items[i]);
	container->count = 0;
	if (container->items != container->inside)
		free(container->items);
	container->items = container->inside;
	hash_index_fini(&container->index);
}

/* Room for one more. */
static enum reason make_room(struct container_value *container)
{
	size_t width = container_width(container->head.kind);
	size_t room = MAX_OF((size_t)container->room * 2, (size_t)FIRST_ROOM);
	tdr_value **items = container->items == container->inside ? NULL : container->items;

	if (likely(container->count < container->room))
		return REASON_NONE;
	if (container->count >= MOST_ITEMS)
		return REASON_LARGE;
	room = MIN_OF(room, (size_t)MOST_ITEMS);
	items = realloc(items, room * width * sizeof(*items));
	if (!items)
		return REASON_MEMORY;
	if (container->items == container->inside && container->count > 0)
		memcpy(items, container->inside, container->count * width * sizeof(*items));
	container->items = items;
	container->room = (uint32_t)room;
	return REASON_NONE;
}

/* From now on the value lies in the container. */
static void attach(struct container_value *container, tdr_value *value)
{
	if (value->depth == 0)
		return;
	atomic_store_explicit(&value->attached, true, memory_order_relaxed);
	if (value->depth >= container->head.depth)
		container->head.depth = value->depth + 1;
}

void container_push(struct container_value *container, tdr_value *item)
{
	attach(container, item);
	container->items[container->count++] = item;
}

/* ---- keys ---- */

/* What a key is looked up by: a value, or (NULL) a string's bytes. */
struct wanted {
	const tdr_value *key;
	const void *text;
	size_t size;
};

static bool matches(const tdr_value *key, const struct wanted *wanted)
{
	const struct blob_value *blob = (const struct blob_value *)key;

	if (wanted->key)
		return tdr_value_equal(key, wanted->key);
	return key->kind == TDR_STRING && blob->size == wanted->size &&
	       memcmp(blob->data, wanted->text, wanted->size) == 0;
}

/* `hash` is looked at only where there is an index. */
static bool find(const struct container_value *container, const struct wanted *wanted, uint64_t hash,
                 uint32_t *ret_position)
{
	size_t width = container_width(container->head.kind);
	size_t probe = (size_t)hash;
	uint32_t position;

	if (!container->index.slots) {
		for (uint32_t i = 0; i < container->count; i++) {
			if (matches(container->items[i * width], wanted)) {
				*ret_position = i;
				return true;
			}
		}
		return false;
	}
	while (hash_index_next(&container->index, hash, &probe, &position)) {
		if (matches(container->items[position * width], wanted)) {
			*ret_position = position;
			return true;
		}
	}
	return false;
}

bool container_find(const struct container_value *container, const tdr_value *key, uint32_t *ret_position)
{
	struct wanted wanted = {.key = key};

	if (!value_is_key(key))
		return false;
	return find(container, &wanted, container->index.slots ? value_hash(key) : 0, ret_position);
}

/* Indexes the keys there are, before the first one past CONTAINER_FEW comes. */
static bool index_all(struct container_value *container)
{
	size_t width = container_width(container->head.kind);

	for (uint32_t i = 0; i < container->count; i++) {
		if (!hash_index_add(&container->index, value_hash(container->items[i * width]), i)) {
			hash_index_fini(&container->index);
			return false;
		}
	}
	return true;
}

enum reason container_put(struct container_value *container, tdr_value *key, tdr_value *value, uint32_t *ret_position)
{
	struct wanted wanted = {.key = key};
	bool indexed = container->count >= CONTAINER_FEW;
	uint64_t hash = indexed ? value_hash(key) : 0;
	enum reason reason;

	if (indexed && !container->index.slots && !index_all(container))
		return REASON_MEMORY;
	if (find(container, &wanted, hash, ret_position))
		return REASON_TWICE;
	reason = make_room(container);
	if (reason != REASON_NONE)
		return reason;
	if (indexed && !hash_index_add(&container->index, hash, container->count))
		return REASON_MEMORY;
	attach(container, key);
	if (value) {
		attach(container, value);
		container->items[container->count * 2] = key;
		container->items[container->count * 2 + 1] = value;
	} else {
		container->items[container->count] = key;
	}
	container->count++;
	return REASON_NONE;
}

/* ---- making ---- */

/* A list or tuple; all items are taken over, whatever comes. */
static tdr_value *sequence_new(tdr_kind kind, size_t count, tdr_value *const items[])
{
	struct container_value *container;
	enum reason reason = REASON_NONE;

	if (!items && count > 0)
		return value_invalid(REASON_NULL);
	for (size_t i = 0; i < count && reason == REASON_NONE; i++)
		reason = value_unfit(items[i]);
	if (reason == REASON_NONE && count > MOST_ITEMS)
		reason = REASON_LARGE;
	container = reason == REASON_NONE ? container_new(kind, count) : NULL;
	if (!container) {
		for (size_t i = 0; i < count; i++)
			tdr_value_unref(items[i]);
		return value_invalid(reason == REASON_NONE ? REASON_MEMORY : reason);
	}
	for (size_t i = 0; i < count; i++)
		container_push(container, items[i]);
	return &container->head;
}

tdr_value *tdr_list(size_t count, tdr_value *const items[])
{
	return sequence_new(TDR_LIST, count, items);
}

tdr_value *tdr_tuple(size_t count, tdr_value *const items[])
{
	return sequence_new(TDR_TUPLE, count, items);
}

static tdr_value *empty_new(tdr_kind kind)
{
	struct container_value *container = container_new(kind, FIRST_ROOM);

	return container ? &container->head : value_invalid(REASON_MEMORY);
}

tdr_value *tdr_dict_new(void)
{
	return empty_new(TDR_DICT);
}

tdr_value *tdr_set_new(void)
{
	return empty_new(TDR_SET);
}

/* ---- adding ---- */

/* Whether the caller may add to it, as what it says. */
static tdr_status check_open(const tdr_value *value, tdr_kind kind)
{
	if (tdr_value_kind(value) == TDR_INVALID)
		return tdr_value_status(value);
	if (value->kind != kind)
		return error_set(TDR_ETYPE, "wanted a %s to add to, got %s", tdr_kind_name(kind),
		                 tdr_kind_name((tdr_kind)value->kind));
	if (value_is_shared(value) || atomic_load_explicit(&value->attached, memory_order_relaxed))
		return error_set(TDR_ESTATE, "the %s cannot be added to: %s", tdr_kind_name(kind),
		                 value_is_shared(value) ? "somebody else holds it too"
		                                        : "it lies in another container");
	return TDR_OK;
}

/* The container becomes a TDR_INVALID value, so that it is not sent without what was to be in it. */
static tdr_status spoil(tdr_value *value, enum reason reason)
{
	container_empty((struct container_value *)value);
	value->kind = TDR_INVALID;
	value->depth = 0;
	((struct invalid_value *)value)->reason = reason;
	return reason_error(reason);
}

_Static_assert(sizeof(struct invalid_value) <= sizeof(struct container_value), "spoil() turns one into the other");

tdr_status tdr_list_append(tdr_value *list, tdr_value *item)
{
	struct container_value *container = (struct container_value *)list;
	tdr_status status = check_open(list, TDR_LIST);
	enum reason reason;

	if (status == TDR_OK && list == item)
		return error_set(TDR_ESTATE, "a list cannot lie in itself");
	if (status != TDR_OK) {
		tdr_value_unref(item);
		return status;
	}
	reason = value_unfit(item);
	if (reason == REASON_NONE)
		reason = make_room(container);
	if (reason != REASON_NONE) {
		tdr_value_unref(item);
		return spoil(list, reason);
	}
	container_push(container, item);
	return TDR_OK;
}

tdr_status tdr_dict_put(tdr_value *dict, tdr_value *key, tdr_value *value)
{
	struct container_value *container = (struct container_value *)dict;
	tdr_status status = check_open(dict, TDR_DICT);
	enum reason reason;
	uint32_t position = 0;

	if (status == TDR_OK && (dict == key || dict == value)) {
		tdr_value_unref(dict == key ? (value == key ? NULL : value) : key);
		return error_set(TDR_ESTATE, "a dict cannot lie in itself");
	}
	if (status != TDR_OK) {
		tdr_value_unref(key);
		tdr_value_unref(value);
		return status;
	}
	reason = value_unfit(key);
	if (reason == REASON_NONE && !value_is_key(key))
		reason = REASON_KEY;
	if (reason == REASON_NONE)
		reason = value_unfit(value);
	if (reason == REASON_NONE)
		reason = container_put(container, key, value, &position);
	if (reason == REASON_NONE)
		return TDR_OK;
	tdr_value_unref(key);
	if (reason == REASON_TWICE) {
		attach(container, value);
		tdr_value_unref(container->items[position * 2 + 1]);
		container->items[position * 2 + 1] = value;
		return TDR_OK;
	}
	tdr_value_unref(value);
	return spoil(dict, reason);
}

tdr_status tdr_dict_set(tdr_value *dict, const char *key, tdr_value *value)
{
	return tdr_dict_put(dict, tdr_string(key), value);
}

tdr_status tdr_set_add(tdr_value *set, tdr_value *item)
{
	struct container_value *container = (struct container_value *)set;
	tdr_status status = check_open(set, TDR_SET);
	enum reason reason;
	uint32_t position;

	if (status == TDR_OK && set == item)
		return error_set(TDR_ESTATE, "a set cannot lie in itself");
	if (status != TDR_OK) {
		tdr_value_unref(item);
		return status;
	}
	reason = value_unfit(item);
	if (reason == REASON_NONE && !value_is_key(item))
		reason = REASON_KEY;
	if (reason == REASON_NONE)
		reason = container_put(container, item, NULL, &position);
	if (reason == REASON_NONE)
		return TDR_OK;
	tdr_value_unref(item);
	return reason == REASON_TWICE ? TDR_OK : spoil(set, reason);
}

/* ---- reading ---- */

size_t tdr_value_count(const tdr_value *value)
{
	return value && value_is_container(value) ? ((const struct container_value *)value)->count : 0;
}

tdr_value *tdr_value_item(const tdr_value *value, size_t index)
{
	if (index >= tdr_value_count(value) || value->kind == TDR_DICT)
		return NULL;
	return ((const struct container_value *)value)->items[index];
}

tdr_value *tdr_dict_key(const tdr_value *dict, size_t index)
{
	if (tdr_value_kind(dict) != TDR_DICT || index >= tdr_value_count(dict))
		return NULL;
	return ((const struct container_value *)dict)->items[index * 2];
}

tdr_value *tdr_dict_value(const tdr_value *dict, size_t index)
{
	if (tdr_value_kind(dict) != TDR_DICT || index >= tdr_value_count(dict))
		return NULL;
	return ((const struct container_value *)dict)->items[index * 2 + 1];
}

tdr_value *tdr_dict_get(const tdr_value *dict, const char *key)
{
	const struct container_value *container = (const struct container_value *)dict;
	struct wanted wanted = {.text = key};
	uint32_t position;
	uint64_t hash;

	if (tdr_value_kind(dict) != TDR_DICT || !key)
		return NULL;
	wanted.size = strlen(key);
	hash = container->index.slots ? value_hash_string(key, wanted.size) : 0;
	return find(container, &wanted, hash, &position) ? container->items[position * 2 + 1] : NULL;
}

tdr_value *tdr_dict_find(const tdr_value *dict, const tdr_value *key)
{
	const struct container_value *container = (const struct container_value *)dict;
	uint32_t position;

	if (tdr_value_kind(dict) != TDR_DICT || !key)
		return NULL;
	return container_find(container, key, &position) ? container->items[position * 2 + 1] : NULL;
}
