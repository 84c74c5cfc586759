/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kinds of stores share. A store is counted; its kind is a copy of the public vtable, a context, and, for the
 * kinds of this library, the hooks below.
 *
 * What holds for every operation of a vtable here:
 *   - `deadline_ms` is a moment of CLOCK_MONOTONIC in milliseconds, 0: none (base/clock.h: deadline_poll_ms);
 *   - the arguments were checked by store.c, and the store is not a parent process';
 *   - outputs are not NULL (store.c puts its own in the place of a caller's NULL);
 *   - the text of TDR_ETIMEDOUT says only what is missing ("key 'x' did not appear": store_key_missing); store.c, which
 *     knows the timeout, makes it "Wait timeout: key 'x' did not appear within 300 ms";
 *   - get, append, multi_get and multi_set may also return TDR_EUNSUPPORTED, where only the peer tells that it cannot:
 *     store.c then makes them of the others, as where they are NULL.
 */
#ifndef TENDRIL_STORE_STORE_INTERNAL_H
#define TENDRIL_STORE_STORE_INTERNAL_H

#include "base/refcount.h"
#include "store/store.h"

#include <stdatomic.h>

/* The timeout of a store to which nobody gave one. */
#define STORE_DEFAULT_TIMEOUT_MS (INT64_C(300) * 1000)

/* What the kinds of this library do beyond the public vtable. Static; any may be NULL. */
struct store_hooks {
	/*
	 * In place of ops.destroy in a child made by fork(): frees memory and closes descriptors, and tells nobody. A lock of
	 * the parent's may be held for ever; take none.
	 */
	void (*destroy_forked)(void *context);
	/* As store_local_address (store/store.h): the tcp client tells its socket's own address. */
	tdr_status (*local_address)(void *context, struct sockaddr_storage *ret_address, socklen_t *ret_size);
};

struct tdr_store {
	tdr_store_ops ops;
	const struct store_hooks *hooks; /* NULL for a user's kind */
	void *context;
	tdr_store *below;           /* of a prefix store: the one it stands on, counted; it has the timeout */
	_Atomic int64_t timeout_ms; /* of operations that are given TDR_TIMEOUT_DEFAULT */
	struct refcount refs;
	uint32_t generation; /* of the process that made it: base/fork.h */
};

/* tdr_store_new for the kinds of this library: `ops` and `hooks` as they are, the timeout at its default. */
tdr_status store_new(const tdr_store_ops *ops, const struct store_hooks *hooks, void *context, tdr_store **ret_store);

/*
 * The operations with a deadline in place of a timeout, for a store that stands on another; with all that store.c adds
 * to a vtable (what is made of others where an operation is NULL), but for the checks of arguments.
 */
tdr_status store_do_set(tdr_store *store, const char *key, const void *value, size_t size, int64_t deadline_ms);
tdr_status store_do_get(tdr_store *store, const char *key, int64_t deadline_ms, tdr_blob *ret_value);
tdr_status store_do_add(tdr_store *store, const char *key, int64_t amount, int64_t deadline_ms, int64_t *ret_sum);
tdr_status store_do_compare_set(tdr_store *store, const char *key, const void *expected, size_t expected_size,
                                const void *desired, size_t desired_size, int64_t deadline_ms, tdr_blob *ret_value);
tdr_status store_do_check(tdr_store *store, size_t count, const char *const keys[], int64_t deadline_ms, bool *ret_all);
tdr_status store_do_wait(tdr_store *store, size_t count, const char *const keys[], int64_t deadline_ms);
tdr_status store_do_delete_key(tdr_store *store, const char *key, int64_t deadline_ms, bool *ret_existed);
tdr_status store_do_num_keys(tdr_store *store, int64_t deadline_ms, int64_t *ret_count);
tdr_status store_do_append(tdr_store *store, const char *key, const void *value, size_t size, int64_t deadline_ms);
tdr_status store_do_multi_get(tdr_store *store, size_t count, const char *const keys[], int64_t deadline_ms,
                              tdr_blob ret_values[]);
tdr_status store_do_multi_set(tdr_store *store, size_t count, const char *const keys[], const tdr_blob values[],
                              int64_t deadline_ms);

/* A copy of `size` bytes with a NUL behind it. */
tdr_status store_blob_make(const void *data, size_t size, tdr_blob *ret_blob);

/* TDR_ETIMEDOUT: "key '...' did not appear". */
tdr_status store_key_missing(const char *key) __attribute__((cold));

/* What store.c does where a vtable cannot: get by compare_set, append by a lock in the store (store/fallback.c). */
tdr_status store_get_by_compare(tdr_store *store, const char *key, int64_t deadline_ms, tdr_blob *ret_value);
tdr_status store_append_by_lock(tdr_store *store, const char *key, const void *value, size_t size, int64_t deadline_ms);

/* For a wait that must poll: sleeps `*pause_ms` (0 at first: a millisecond), but not past the deadline, and doubles it, up to 16. */
void store_pause(int *pause_ms, int64_t deadline_ms);

#endif
