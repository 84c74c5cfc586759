/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store holds: values by key, and what the operations on one value mean. The hash store, the file store and the
 * server each keep one. Keys and values are bytes, NULs included; the caller locks.
 *
 * Operations that only read the old value take a `struct table_value` that may be NULL, for a key that is not there, so
 * that a store can decide first, tell the disk or the peer, and change the table last.
 */
#ifndef TENDRIL_STORE_TABLE_H
#define TENDRIL_STORE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tendril/status.h>

/* A value in a table: valid until its key is changed or deleted. */
struct table_value {
	char *data; /* a NUL stands behind it */
	size_t size;
};

/* All zero is an empty table without limits. */
struct table {
	struct table_entry *entries;
	size_t max_keys;       /* 0: any number */
	size_t max_value_size; /* 0: any size */
};

/* Frees all entries; the limits stay. */
void table_clear(struct table *table);

size_t table_count(const struct table *table);

/* The value under `key`, or NULL. */
const struct table_value *table_get(const struct table *table, const char *key, size_t key_size);

/* Errors of both: TDR_ELIMIT, TDR_ENOMEM; the table is as it was. */
tdr_status table_set(struct table *table, const char *key, size_t key_size, const void *value, size_t value_size);
tdr_status table_append(struct table *table, const char *key, size_t key_size, const void *value, size_t value_size);

/* Whether it was there. */
bool table_delete(struct table *table, const char *key, size_t key_size);

/* Whether compare_set may store: a missing value equals the empty one. */
bool table_value_equals(const struct table_value *value, const void *expected, size_t expected_size);

/*
 * A value's number (0 where there is none, or no bytes) and `amount` together. `key` is for the text of errors:
 * TDR_EINVAL where the value is no decimal number, TDR_ELIMIT where the sum needs more than 64 bits.
 */
tdr_status table_value_sum(const struct table_value *value, const char *key, size_t key_size, int64_t amount,
                           int64_t *ret_sum);

/* Room for any sum as text, and its NUL. */
#define TABLE_NUMBER_SIZE 24

/* The text of a number: what add stores. Returns its size, without the NUL. */
size_t table_number_text(int64_t number, char text[TABLE_NUMBER_SIZE]);

#endif
