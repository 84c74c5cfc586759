/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store whose keys are those of another below "prefix/". It counts on that one for all else: its timeout, its address,
 * and how many keys there are.
 */
#include "store/store_internal.h"

#include "base/error.h"
#include "base/fork.h"

#include <stdlib.h>
#include <string.h>

/* Longer keys, and many at once, take memory. */
#define SHORT_KEY 256

struct prefix_store {
	tdr_store *below;   /* borrowed: struct tdr_store holds the reference */
	size_t prefix_size; /* with its '/' */
	char prefix[];
};

/* A key with the prefix before it, for the time of one operation. */
struct full_key {
	char *text;
	char room[SHORT_KEY];
};

static tdr_status full_key_init(struct full_key *full, const struct prefix_store *self, const char *key)
{
	size_t size = strlen(key) + 1;

	full->text = self->prefix_size + size <= sizeof(full->room) ? full->room : malloc(self->prefix_size + size);
	if (!full->text)
		return error_nomem();
	memcpy(full->text, self->prefix, self->prefix_size);
	memcpy(full->text + self->prefix_size, key, size);
	return TDR_OK;
}

static void full_key_fini(struct full_key *full)
{
	if (full->text != full->room)
		free(full->text);
}

/* Several of them: one block of memory, freed by free(). */
static const char **full_keys(const struct prefix_store *self, size_t count, const char *const keys[])
{
	size_t size = count * sizeof(char *);
	const char **full;
	char *at;

	for (size_t i = 0; i < count; i++)
		size += self->prefix_size + strlen(keys[i]) + 1;
	full = malloc(size);
	if (!full)
		return NULL;
	at = (char *)(full + count);
	for (size_t i = 0; i < count; i++) {
		size_t key_size = strlen(keys[i]) + 1;

		full[i] = at;
		memcpy(at, self->prefix, self->prefix_size);
		memcpy(at + self->prefix_size, keys[i], key_size);
		at += self->prefix_size + key_size;
	}
	return full;
}

static tdr_status prefix_set(void *context, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	struct prefix_store *self = context;
	struct full_key full;
	tdr_status status = full_key_init(&full, self, key);

	if (status != TDR_OK)
		return status;
	status = store_do_set(self->below, full.text, value, size, deadline_ms);
	full_key_fini(&full);
	return status;
}

static tdr_status prefix_get(void *context, const char *key, int64_t deadline_ms, tdr_blob *ret_value)
{
	struct prefix_store *self = context;
	struct full_key full;
	tdr_status status = full_key_init(&full, self, key);

	if (status != TDR_OK)
		return status;
	status = store_do_get(self->below, full.text, deadline_ms, ret_value);
	full_key_fini(&full);
	return status;
}

static tdr_status prefix_add(void *context, const char *key, int64_t amount, int64_t deadline_ms, int64_t *ret_sum)
{
	struct prefix_store *self = context;
	struct full_key full;
	tdr_status status = full_key_init(&full, self, key);

	if (status != TDR_OK)
		return status;
	status = store_do_add(self->below, full.text, amount, deadline_ms, ret_sum);
	full_key_fini(&full);
	return status;
}

static tdr_status prefix_compare_set(void *context, const char *key, const void *expected, size_t expected_size,
                                     const void *desired, size_t desired_size, int64_t deadline_ms, tdr_blob *ret_value)
{
	struct prefix_store *self = context;
	struct full_key full;
	tdr_status status = full_key_init(&full, self, key);

	if (status != TDR_OK)
		return status;
	status = store_do_compare_set(self->below, full.text, expected, expected_size, desired, desired_size,
	                              deadline_ms, ret_value);
	full_key_fini(&full);
	return status;
}

static tdr_status prefix_check(void *context, size_t count, const char *const keys[], int64_t deadline_ms,
                               bool *ret_all)
{
	struct prefix_store *self = context;
	const char **full = full_keys(self, count, keys);
	tdr_status status = full ? store_do_check(self->below, count, full, deadline_ms, ret_all) : error_nomem();

	free(full);
	return status;
}

static tdr_status prefix_wait(void *context, size_t count, const char *const keys[], int64_t deadline_ms)
{
	struct prefix_store *self = context;
	const char **full = full_keys(self, count, keys);
	tdr_status status = full ? store_do_wait(self->below, count, full, deadline_ms) : error_nomem();

	free(full);
	return status;
}

static tdr_status prefix_delete_key(void *context, const char *key, int64_t deadline_ms, bool *ret_existed)
{
	struct prefix_store *self = context;
	struct full_key full;
	tdr_status status = full_key_init(&full, self, key);

	if (status != TDR_OK)
		return status;
	status = store_do_delete_key(self->below, full.text, deadline_ms, ret_existed);
	full_key_fini(&full);
	return status;
}

static tdr_status prefix_num_keys(void *context, int64_t deadline_ms, int64_t *ret_count)
{
	struct prefix_store *self = context;

	return store_do_num_keys(self->below, deadline_ms, ret_count);
}

static tdr_status prefix_append(void *context, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	struct prefix_store *self = context;
	struct full_key full;
	tdr_status status = full_key_init(&full, self, key);

	if (status != TDR_OK)
		return status;
	status = store_do_append(self->below, full.text, value, size, deadline_ms);
	full_key_fini(&full);
	return status;
}

static tdr_status prefix_multi_get(void *context, size_t count, const char *const keys[], int64_t deadline_ms,
                                   tdr_blob ret_values[])
{
	struct prefix_store *self = context;
	const char **full = full_keys(self, count, keys);
	tdr_status status =
	    full ? store_do_multi_get(self->below, count, full, deadline_ms, ret_values) : error_nomem();

	free(full);
	return status;
}

static tdr_status prefix_multi_set(void *context, size_t count, const char *const keys[], const tdr_blob values[],
                                   int64_t deadline_ms)
{
	struct prefix_store *self = context;
	const char **full = full_keys(self, count, keys);
	tdr_status status = full ? store_do_multi_set(self->below, count, full, values, deadline_ms) : error_nomem();

	free(full);
	return status;
}

static const tdr_store_ops prefix_ops = {
    .size = sizeof(prefix_ops),
    .name = "prefix",
    .set = prefix_set,
    .get = prefix_get,
    .add = prefix_add,
    .compare_set = prefix_compare_set,
    .check = prefix_check,
    .wait = prefix_wait,
    .delete_key = prefix_delete_key,
    .num_keys = prefix_num_keys,
    .append = prefix_append,
    .multi_get = prefix_multi_get,
    .multi_set = prefix_multi_set,
    .destroy = free,
};

static const struct store_hooks prefix_hooks = {.destroy_forked = free};

tdr_status tdr_store_prefix(const char *prefix, tdr_store *store, tdr_store **ret_store)
{
	struct prefix_store *self;
	size_t size;
	tdr_status status;

	if (!prefix || !store)
		return error_set(TDR_EINVAL, "tdr_store_prefix: the %s is NULL", prefix ? "store" : "prefix");
	if (forked(store->generation))
		return error_set(TDR_EFORKED, "tdr_store_prefix: the %s store belongs to the parent process",
		                 store->ops.name);
	size = strlen(prefix);
	self = malloc(sizeof(*self) + size + 1);
	if (!self)
		return error_nomem();
	self->below = store;
	memcpy(self->prefix, prefix, size);
	self->prefix[size] = '/';
	self->prefix_size = size + 1;
	status = store_new(&prefix_ops, &prefix_hooks, self, ret_store);
	if (status == TDR_OK)
		(*ret_store)->below = tdr_store_ref(store);
	else
		free(self);
	return status;
}
