/* SPDX-License-Identifier: Apache-2.0 */
#include "store/waits.h"

#include "base/error.h"
#include "base/hash.h"

#include <assert.h>

struct waits_spot;

/* Running out of memory leaves the new spot out. The hash is keyed: clients choose the keys. */
#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, size, ret_hash) ((ret_hash) = (unsigned)hash_bytes(key, size))
#define uthash_nonfatal_oom(spot) ((void)(spot))
#include <uthash.h>

/* What is kept of a key beside its value. There is one while somebody waits for the key or its queue holds something. */
struct waits_spot {
	UT_hash_handle hh;
	struct list waiting; /* wait_key.link, the longest first */
	struct list queue;   /* queue_item.link */
	size_t queue_length;
	size_t key_size;
	char key[];
};

struct queue_item {
	struct list link;
	tdr_blob value;
};

static struct waits_spot *spot_find(const struct waits *waits, struct wire_bytes key)
{
	struct waits_spot *spot;

	HASH_FIND(hh, waits->spots, key.data, key.size, spot);
	return spot;
}

/* The key's spot, a new one where there is none; NULL when memory runs out. */
static struct waits_spot *spot_get(struct waits *waits, struct wire_bytes key)
{
	struct waits_spot *spot = spot_find(waits, key);

	if (spot)
		return spot;
	spot = calloc(1, sizeof(*spot) + key.size + 1);
	if (!spot)
		return NULL;
	list_init(&spot->waiting);
	list_init(&spot->queue);
	spot->key_size = key.size;
	memcpy(spot->key, key.data, key.size);
	HASH_ADD_KEYPTR(hh, waits->spots, spot->key, key.size, spot);
	if (!spot->hh.tbl) { /* how uthash tells that memory ran out */
		free(spot);
		return NULL;
	}
	return spot;
}

static void spot_drop_unused(struct waits *waits, struct waits_spot *spot)
{
	if (!list_empty(&spot->waiting) || spot->queue_length > 0)
		return;
	HASH_DEL(waits->spots, spot);
	free(spot);
}

static void queue_clear(struct waits *waits, struct waits_spot *spot)
{
	struct list *node;

	while ((node = list_shift(&spot->queue)) != NULL) {
		struct queue_item *item = list_entry(node, struct queue_item, link);

		free(item->value.data);
		free(item);
	}
	waits->queued -= spot->queue_length;
	spot->queue_length = 0;
}

void waits_fini(struct waits *waits)
{
	struct waits_spot *spot;

	while ((spot = waits->spots)) {
		assert(list_empty(&spot->waiting));
		queue_clear(waits, spot);
		spot_drop_unused(waits, spot);
	}
}

bool waits_there(const struct waits *waits, struct wire_bytes key, bool values)
{
	return table_get(waits->table, key.data, key.size) || (!values && waits_queue_length(waits, key) > 0);
}

tdr_status waits_add(struct waits *waits, void *owner, bool values, size_t count, const uint8_t *at,
                     struct wait **ret_wait)
{
	struct wait *wait = calloc(1, sizeof(*wait) + count * sizeof(wait->keys[0]));

	if (!wait)
		return error_nomem();
	list_init(&wait->done);
	wait->owner = owner;
	wait->values = values;
	wait->bytes = sizeof(*wait) + count * sizeof(wait->keys[0]);
	for (; wait->count < count; wait->count++) {
		struct wait_key *key = &wait->keys[wait->count];
		struct wire_bytes name = wire_get_bytes(&at);

		key->spot = spot_get(waits, name);
		if (!key->spot) {
			waits_remove(waits, wait);
			return error_nomem();
		}
		key->wait = wait;
		list_append(&key->spot->waiting, &key->link);
		wait->bytes += sizeof(*key->spot) + name.size;
		wait->missing += !waits_there(waits, name, values);
	}
	*ret_wait = wait;
	return TDR_OK;
}

void waits_remove(struct waits *waits, struct wait *wait)
{
	if (!wait)
		return;
	for (size_t i = 0; i < wait->count; i++) {
		list_remove(&wait->keys[i].link);
		spot_drop_unused(waits, wait->keys[i].spot);
	}
	list_remove(&wait->done);
	free(wait);
}

struct wire_bytes wait_key(const struct wait *wait, size_t index)
{
	const struct waits_spot *spot = wait->keys[index].spot;

	return (struct wire_bytes){.data = spot->key, .size = spot->key_size};
}

/*
 * A spot's key had a value (a queue) before or not, and has one now or not: counts on in all that wait for it. Those that
 * miss nothing go to `done`; only the first of them where `one`.
 */
static void spot_changed(struct waits_spot *spot, bool value_before, bool value, bool queue_before, bool queue,
                         bool one, struct list *done)
{
	bool found = false;

	list_for_each(node, &spot->waiting) {
		struct wait *wait = list_entry(node, struct wait_key, link)->wait;
		bool before = value_before || (!wait->values && queue_before);
		bool now = value || (!wait->values && queue);

		wait->missing += (size_t)before - (size_t)now;
		if (!now || wait->missing > 0 || !list_empty(&wait->done) || (one && (found || wait->values)))
			continue;
		list_append(done, &wait->done);
		found = true;
	}
}

void waits_value_changed(struct waits *waits, struct wire_bytes key, bool there, struct list *done)
{
	struct waits_spot *spot = spot_find(waits, key);
	bool queue = spot && spot->queue_length > 0;

	if (spot)
		spot_changed(spot, !there, there, queue, queue, false, done);
}

tdr_status waits_push(struct waits *waits, struct wire_bytes key, struct wire_bytes item, struct list *done)
{
	struct queue_item *added = calloc(1, sizeof(*added));
	struct waits_spot *spot = NULL;
	bool value;

	if (added)
		added->value.data = malloc(item.size + 1);
	if (added && added->value.data)
		spot = spot_get(waits, key);
	if (!spot) {
		if (added)
			free(added->value.data);
		free(added);
		return error_nomem();
	}
	memcpy(added->value.data, item.data, item.size);
	added->value.data[item.size] = '\0';
	added->value.size = item.size;
	list_append(&spot->queue, &added->link);
	spot->queue_length++;
	waits->queued++;
	value = table_get(waits->table, key.data, key.size) != NULL;
	spot_changed(spot, value, value, spot->queue_length > 1, true, true, done);
	return TDR_OK;
}

size_t waits_queue_length(const struct waits *waits, struct wire_bytes key)
{
	const struct waits_spot *spot = spot_find(waits, key);

	return spot ? spot->queue_length : 0;
}

/* The queue of `spot` has been emptied. Nobody gains by that: the list of those who do stays empty. */
static void queue_gone(struct waits *waits, struct waits_spot *spot)
{
	bool value = table_get(waits->table, spot->key, spot->key_size) != NULL;
	struct list nobody;

	list_init(&nobody);
	if (!value)
		spot_changed(spot, value, value, true, false, false, &nobody);
	assert(list_empty(&nobody));
	spot_drop_unused(waits, spot);
}

tdr_blob waits_pop(struct waits *waits, struct wire_bytes key)
{
	struct waits_spot *spot = spot_find(waits, key);
	struct queue_item *item;
	tdr_blob value;

	assert(spot && spot->queue_length > 0);
	item = list_entry(list_shift(&spot->queue), struct queue_item, link);
	value = item->value;
	free(item);
	waits->queued--;
	if (--spot->queue_length == 0)
		queue_gone(waits, spot);
	return value;
}

bool waits_delete_queue(struct waits *waits, struct wire_bytes key)
{
	struct waits_spot *spot = spot_find(waits, key);

	if (!spot || spot->queue_length == 0)
		return false;
	queue_clear(waits, spot);
	queue_gone(waits, spot);
	return true;
}
