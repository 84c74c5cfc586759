/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits for which keys in a store's server, and the queues, which stand beside the table: a key is there when it has
 * a value or its queue is not empty.
 *
 * A wait counts its keys that are missing, so that a key that appears, or goes again, costs those that wait for it alone.
 * All is used by the server's one thread.
 */
#ifndef TENDRIL_STORE_WAITS_H
#define TENDRIL_STORE_WAITS_H

#include "base/list.h"
#include "store/table.h"
#include "store/wire.h"

#include <tendril/store.h>

/* All zero but the table to watch is a good beginning. */
struct waits {
	struct waits_spot *spots; /* by key */
	const struct table *table;
	size_t queued; /* items in all queues */
};

struct wait;

/* One key of a wait, in the order of the request. */
struct wait_key {
	struct list link; /* on its spot */
	struct waits_spot *spot;
	struct wait *wait;
};

struct wait {
	struct list done; /* on the list that waits_changed fills */
	void *owner;
	bool values; /* waits for values, which queues do not give */
	size_t missing;
	size_t bytes; /* of memory that it takes */
	size_t count;
	struct wait_key keys[];
};

/* Drops the queues. No wait may be left. */
void waits_fini(struct waits *waits);

/* Whether `key` has a value or, unless only `values` count, a queue that is not empty. */
bool waits_there(const struct waits *waits, struct wire_bytes key, bool values);

/* A wait for the `count` keys that are written at `at`, as in a request. TDR_ENOMEM. */
tdr_status waits_add(struct waits *waits, void *owner, bool values, size_t count, const uint8_t *at,
                     struct wait **ret_wait);

/* Forgets the wait. Takes NULL. */
void waits_remove(struct waits *waits, struct wait *wait);

/* The key number `index` of a wait. */
struct wire_bytes wait_key(const struct wait *wait, size_t index);

/*
 * To be called when a key got its first value or lost its value (the table is changed already). Moves the waits that miss
 * nothing now to `done`, by their member of that name.
 */
void waits_value_changed(struct waits *waits, struct wire_bytes key, bool there, struct list *done);

/*
 * Adds an item to the end of a key's queue. At most one wait is moved to `done`, the one that waits longest: an item is
 * for one taker. TDR_ENOMEM.
 */
tdr_status waits_push(struct waits *waits, struct wire_bytes key, struct wire_bytes item, struct list *done);

size_t waits_queue_length(const struct waits *waits, struct wire_bytes key);

/* Takes the first item of a queue that is not empty, into memory for the caller to free. */
tdr_blob waits_pop(struct waits *waits, struct wire_bytes key);

/* Empties a key's queue; whether it held anything. */
bool waits_delete_queue(struct waits *waits, struct wire_bytes key);

#endif
