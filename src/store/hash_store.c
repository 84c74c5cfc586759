/* SPDX-License-Identifier: Apache-2.0 */
/* The store in this process' memory: a table under a mutex, and one condition that every change signals. */
#include "store/store_internal.h"

#include "base/error.h"
#include "store/table.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct hash_store {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* on CLOCK_MONOTONIC */
	struct table table;     /* under `lock` */
};

static tdr_status hash_set(void *context, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	struct hash_store *self = context;
	tdr_status status;

	pthread_mutex_lock(&self->lock);
	status = table_set(&self->table, key, strlen(key), value, size);
	pthread_cond_broadcast(&self->changed);
	pthread_mutex_unlock(&self->lock);
	return status;
}

/* With the lock held: waits for a change; false when the deadline has come. */
static bool wait_for_change(struct hash_store *self, int64_t deadline_ms)
{
	struct timespec until = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};

	if (deadline_ms == 0)
		return pthread_cond_wait(&self->changed, &self->lock) == 0;
	return pthread_cond_timedwait(&self->changed, &self->lock, &until) != ETIMEDOUT;
}

/* With the lock held: waits until `key` is there. NULL when the deadline has come. */
static const struct table_value *wait_for_key(struct hash_store *self, const char *key, int64_t deadline_ms)
{
	const struct table_value *value;

	while (!(value = table_get(&self->table, key, strlen(key))))
		if (!wait_for_change(self, deadline_ms))
			break;
	return value;
}

static tdr_status hash_get(void *context, const char *key, int64_t deadline_ms, tdr_blob *ret_value)
{
	struct hash_store *self = context;
	const struct table_value *value;
	tdr_status status;

	pthread_mutex_lock(&self->lock);
	value = wait_for_key(self, key, deadline_ms);
	status = value ? store_blob_make(value->data, value->size, ret_value) : store_key_missing(key);
	pthread_mutex_unlock(&self->lock);
	return status;
}

static tdr_status hash_add(void *context, const char *key, int64_t amount, int64_t deadline_ms, int64_t *ret_sum)
{
	struct hash_store *self = context;
	size_t size = strlen(key);
	char text[TABLE_NUMBER_SIZE];
	tdr_status status;
	int64_t sum;

	pthread_mutex_lock(&self->lock);
	status = table_value_sum(table_get(&self->table, key, size), key, size, amount, &sum);
	if (status == TDR_OK)
		status = table_set(&self->table, key, size, text, table_number_text(sum, text));
	if (status == TDR_OK)
		*ret_sum = sum;
	pthread_cond_broadcast(&self->changed);
	pthread_mutex_unlock(&self->lock);
	return status;
}

static tdr_status hash_compare_set(void *context, const char *key, const void *expected, size_t expected_size,
                                   const void *desired, size_t desired_size, int64_t deadline_ms, tdr_blob *ret_value)
{
	struct hash_store *self = context;
	const struct table_value *value;
	tdr_status status;

	pthread_mutex_lock(&self->lock);
	value = table_get(&self->table, key, strlen(key));
	if (table_value_equals(value, expected, expected_size)) {
		status = store_blob_make(desired, desired_size, ret_value);
		if (status == TDR_OK) {
			status = table_set(&self->table, key, strlen(key), desired, desired_size);
			if (status != TDR_OK)
				tdr_blob_free(ret_value);
		}
		pthread_cond_broadcast(&self->changed);
	} else if (value) {
		status = store_blob_make(value->data, value->size, ret_value);
	} else {
		status = store_blob_make(expected, expected_size, ret_value);
	}
	pthread_mutex_unlock(&self->lock);
	return status;
}

static tdr_status hash_check(void *context, size_t count, const char *const keys[], int64_t deadline_ms, bool *ret_all)
{
	struct hash_store *self = context;
	bool all = true;

	pthread_mutex_lock(&self->lock);
	for (size_t i = 0; all && i < count; i++)
		all = table_get(&self->table, keys[i], strlen(keys[i])) != NULL;
	pthread_mutex_unlock(&self->lock);
	*ret_all = all;
	return TDR_OK;
}

/* With the lock held: waits until all keys are there at once. */
static tdr_status wait_for_all(struct hash_store *self, size_t count, const char *const keys[], int64_t deadline_ms)
{
	size_t missing = 0;

	for (;;) {
		for (missing = 0; missing < count; missing++)
			if (!table_get(&self->table, keys[missing], strlen(keys[missing])))
				break;
		if (missing == count)
			return TDR_OK;
		if (!wait_for_change(self, deadline_ms))
			return store_key_missing(keys[missing]);
	}
}

static tdr_status hash_wait(void *context, size_t count, const char *const keys[], int64_t deadline_ms)
{
	struct hash_store *self = context;
	tdr_status status;

	pthread_mutex_lock(&self->lock);
	status = wait_for_all(self, count, keys, deadline_ms);
	pthread_mutex_unlock(&self->lock);
	return status;
}

static tdr_status hash_delete_key(void *context, const char *key, int64_t deadline_ms, bool *ret_existed)
{
	struct hash_store *self = context;

	pthread_mutex_lock(&self->lock);
	*ret_existed = table_delete(&self->table, key, strlen(key));
	pthread_mutex_unlock(&self->lock);
	return TDR_OK;
}

static tdr_status hash_num_keys(void *context, int64_t deadline_ms, int64_t *ret_count)
{
	struct hash_store *self = context;

	pthread_mutex_lock(&self->lock);
	*ret_count = (int64_t)table_count(&self->table);
	pthread_mutex_unlock(&self->lock);
	return TDR_OK;
}

static tdr_status hash_append(void *context, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	struct hash_store *self = context;
	tdr_status status;

	pthread_mutex_lock(&self->lock);
	status = table_append(&self->table, key, strlen(key), value, size);
	pthread_cond_broadcast(&self->changed);
	pthread_mutex_unlock(&self->lock);
	return status;
}

static void hash_destroy(void *context)
{
	struct hash_store *self = context;

	pthread_cond_destroy(&self->changed);
	pthread_mutex_destroy(&self->lock);
	table_clear(&self->table);
	free(self);
}

/* A thread of the parent may have been in the midst of changing the table: then that stays behind. */
static void hash_destroy_forked(void *context)
{
	struct hash_store *self = context;

	if (pthread_mutex_trylock(&self->lock) == 0)
		table_clear(&self->table);
	free(self);
}

static const tdr_store_ops hash_ops = {
    .size = sizeof(hash_ops),
    .name = "hash",
    .set = hash_set,
    .get = hash_get,
    .add = hash_add,
    .compare_set = hash_compare_set,
    .check = hash_check,
    .wait = hash_wait,
    .delete_key = hash_delete_key,
    .num_keys = hash_num_keys,
    .append = hash_append,
    .destroy = hash_destroy,
};

static const struct store_hooks hash_hooks = {.destroy_forked = hash_destroy_forked};

tdr_status tdr_store_hash(tdr_store **ret_store)
{
	struct hash_store *self = calloc(1, sizeof(*self));
	pthread_condattr_t monotonic;
	tdr_status status;

	if (!self)
		return error_nomem();
	pthread_mutex_init(&self->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&self->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	status = store_new(&hash_ops, &hash_hooks, self, ret_store);
	if (status != TDR_OK)
		hash_destroy(self);
	return status;
}
