/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stores have in common below the vtable: blobs, the texts of waits, polling, and the operations that are made of
 * others where a kind lacks them.
 *
 * compare_set does not say whether it stored: its answer is the desired value also where another put the same there. A
 * value that nobody else has makes the answer clear; so a marker made of random bytes reads a value without changing it,
 * and a token made of them takes a lock.
 */
#include "store/store_internal.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/macros.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define MARKER_SIZE 16
#define LONGEST_PAUSE_MS 16
#define RELEASE_TIMEOUT_MS 5000

tdr_status store_blob_make(const void *data, size_t size, tdr_blob *ret_blob)
{
	char *copy = malloc(size + 1);

	if (!copy)
		return error_nomem();
	if (size > 0)
		memcpy(copy, data, size);
	copy[size] = '\0';
	*ret_blob = (tdr_blob){.data = copy, .size = size};
	return TDR_OK;
}

void tdr_blob_free(tdr_blob *blob)
{
	if (!blob)
		return;
	free(blob->data);
	*blob = (tdr_blob){0};
}

tdr_status store_key_missing(const char *key)
{
	return error_set(TDR_ETIMEDOUT, "key '%.300s' did not appear", key);
}

void store_pause(int *pause_ms, int64_t deadline_ms)
{
	int left = deadline_poll_ms(deadline_ms);
	int pause = MAX_OF(*pause_ms, 1);
	struct timespec time = {.tv_nsec = (long)(left >= 0 ? MIN_OF(pause, left) : pause) * 1000000};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
	*pause_ms = MIN_OF(pause * 2, LONGEST_PAUSE_MS);
}

static bool blob_equals(const tdr_blob *blob, const void *data, size_t size)
{
	return blob->size == size && (size == 0 || memcmp(blob->data, data, size) == 0);
}

static tdr_status make_marker(uint8_t marker[MARKER_SIZE])
{
	if (getrandom(marker, MARKER_SIZE, 0) != MARKER_SIZE)
		return error_errno("getrandom");
	return TDR_OK;
}

/* Reads a value as it is now: `ret_there` false, and no value, where the key is missing. */
static tdr_status peek(tdr_store *store, const char *key, int64_t deadline_ms, bool *ret_there, tdr_blob *ret_value)
{
	uint8_t marker[MARKER_SIZE];
	tdr_status status = make_marker(marker);

	if (status != TDR_OK)
		return status;
	status =
	    store_do_compare_set(store, key, marker, sizeof(marker), marker, sizeof(marker), deadline_ms, ret_value);
	if (status != TDR_OK)
		return status;
	*ret_there = !blob_equals(ret_value, marker, sizeof(marker));
	if (!*ret_there)
		tdr_blob_free(ret_value);
	return TDR_OK;
}

tdr_status store_get_by_compare(tdr_store *store, const char *key, int64_t deadline_ms, tdr_blob *ret_value)
{
	bool there = false;
	tdr_status status = TDR_OK;

	while (status == TDR_OK && !there) { /* again where it was deleted in between */
		status = store_do_wait(store, 1, &key, deadline_ms);
		if (status == TDR_OK)
			status = peek(store, key, deadline_ms, &there, ret_value);
	}
	return status;
}

/* ---- append ---- */

/* The lock of a key's appenders: a key of its own, empty or missing while it is free. */
struct append_lock {
	char *key;
	char token[128]; /* who holds it: for people, and unlike any other */
};

static tdr_status lock_take(struct append_lock *lock, tdr_store *store, const char *key, int64_t deadline_ms)
{
	char host[65] = "";
	uint64_t random[2];
	int pause_ms = 0;
	tdr_status status = make_marker((uint8_t *)random);

	if (status != TDR_OK)
		return status;
	if (asprintf(&lock->key, "%s/appending", key) < 0) {
		lock->key = NULL;
		return error_nomem();
	}
	gethostname(host, sizeof(host) - 1);
	snprintf(lock->token, sizeof(lock->token), "%s:%d:%016" PRIx64, host, (int)getpid(), random[0]);
	for (;;) {
		tdr_blob holder = {0};

		status = store_do_compare_set(store, lock->key, "", 0, lock->token, strlen(lock->token), deadline_ms,
		                              &holder);
		if (status != TDR_OK)
			return status;
		if (blob_equals(&holder, lock->token, strlen(lock->token))) {
			tdr_blob_free(&holder);
			return TDR_OK;
		}
		if (deadline_poll_ms(deadline_ms) == 0) {
			error_set(TDR_ETIMEDOUT,
			          "key '%.200s', the lock of those who append to '%.200s', was not released by '%.*s' "
			          "(delete the key if that process is dead)",
			          lock->key, key, (int)MIN_OF(holder.size, (size_t)150),
			          holder.data ? holder.data : "");
			tdr_blob_free(&holder);
			return TDR_ETIMEDOUT;
		}
		tdr_blob_free(&holder);
		store_pause(&pause_ms, deadline_ms);
	}
}

/* Frees the lock also when the operation's own time is over: others wait for it. */
static tdr_status lock_release(const struct append_lock *lock, tdr_store *store)
{
	int64_t deadline_ms = deadline_after(RELEASE_TIMEOUT_MS);
	bool existed;

	if (store->ops.delete_key)
		return store_do_delete_key(store, lock->key, deadline_ms, &existed);
	return store_do_set(store, lock->key, "", 0, deadline_ms);
}

/* With the lock held: nobody else appends, but others may set or add; then it begins again with what they left. */
static tdr_status append_locked(tdr_store *store, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	tdr_blob old = {0}, now = {0};
	struct buffer wanted = {0};
	bool there, done = false;
	tdr_status status = peek(store, key, deadline_ms, &there, &old);

	while (status == TDR_OK && !done) {
		wanted.size = 0;
		buffer_append(&wanted, old.data, old.size);
		buffer_append(&wanted, value, size);
		if (wanted.failed) {
			status = error_nomem();
			break;
		}
		status = store_do_compare_set(store, key, old.data ? old.data : "", old.size, wanted.data, wanted.size,
		                              deadline_ms, &now);
		if (status != TDR_OK)
			break;
		done = blob_equals(&now, wanted.data, wanted.size);
		tdr_blob_free(&old);
		old = now;
		now = (tdr_blob){0};
	}
	tdr_blob_free(&old);
	buffer_fini(&wanted);
	return status;
}

tdr_status store_append_by_lock(tdr_store *store, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	struct append_lock lock = {0};
	tdr_status status = lock_take(&lock, store, key, deadline_ms);
	tdr_status released;

	if (status == TDR_OK) {
		char text[ERROR_TEXT_SIZE];

		status = append_locked(store, key, value, size, deadline_ms);
		snprintf(text, sizeof(text), "%s", tdr_last_error());
		released = lock_release(&lock, store);
		if (status != TDR_OK)
			error_set(status, "%s", text); /* the first error wins */
		else
			status = released;
	}
	free(lock.key);
	return status;
}
