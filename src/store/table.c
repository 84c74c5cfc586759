/* SPDX-License-Identifier: Apache-2.0 */
#include "store/table.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/macros.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct table_entry;

/*
 * Running out of memory leaves the table as it was, and the new entry out of it. The hash is keyed: a server's clients
 * choose the keys.
 */
#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, size, ret_hash) ((ret_hash) = (unsigned)hash_bytes(key, size))
#include <uthash.h>

struct table_entry {
	UT_hash_handle hh;
	struct table_value value;
	size_t key_size;
	char key[];
};

/* How much of a key or value is shown in an error's text. */
#define SHOWN(size) ((int)MIN_OF((size_t)(size), (size_t)100))

static void entry_free(struct table_entry *entry)
{
	free(entry->value.data);
	free(entry);
}

void table_clear(struct table *table)
{
	struct table_entry *entry = table->entries, *next;

	HASH_CLEAR(hh, table->entries); /* the entries stay chained */
	for (; entry; entry = next) {
		next = entry->hh.next;
		entry_free(entry);
	}
}

size_t table_count(const struct table *table)
{
	return HASH_COUNT(table->entries);
}

static struct table_entry *find(const struct table *table, const char *key, size_t key_size)
{
	struct table_entry *entry;

	HASH_FIND(hh, table->entries, key, key_size, entry);
	return entry;
}

const struct table_value *table_get(const struct table *table, const char *key, size_t key_size)
{
	struct table_entry *entry = find(table, key, key_size);

	return entry ? &entry->value : NULL;
}

/* A new entry with an empty value, in the table. */
static tdr_status insert(struct table *table, const char *key, size_t key_size, struct table_entry **ret_entry)
{
	struct table_entry *entry;
	size_t before = table_count(table);

	if (table->max_keys > 0 && before >= table->max_keys)
		return error_set(TDR_ELIMIT, "key '%.*s': the store holds %zu keys, and may hold no more",
		                 SHOWN(key_size), key, before);
	entry = calloc(1, sizeof(*entry) + key_size + 1);
	if (!entry)
		return error_nomem();
	entry->value.data = calloc(1, 1);
	if (!entry->value.data) {
		free(entry);
		return error_nomem();
	}
	entry->key_size = key_size;
	memcpy(entry->key, key, key_size);
	HASH_ADD_KEYPTR(hh, table->entries, entry->key, key_size, entry);
	if (!entry->hh.tbl) { /* how uthash tells that memory ran out */
		entry_free(entry);
		return error_nomem();
	}
	*ret_entry = entry;
	return TDR_OK;
}

/* Puts `value` behind the first `keep` bytes of the old value. */
static tdr_status store_behind(struct table *table, const char *key, size_t key_size, size_t keep, const void *value,
                               size_t value_size)
{
	struct table_entry *entry = find(table, key, key_size);
	bool found = entry != NULL;
	tdr_status status;
	char *data;

	if (value_size > SIZE_MAX / 4 || (table->max_value_size > 0 && keep + value_size > table->max_value_size))
		return error_set(TDR_ELIMIT, "key '%.*s': a value of %zu bytes, but %zu is the most", SHOWN(key_size),
		                 key, keep + value_size, table->max_value_size);
	if (!found) {
		status = insert(table, key, key_size, &entry);
		if (status != TDR_OK)
			return status;
	}
	data = keep > 0 ? realloc(entry->value.data, keep + value_size + 1) : malloc(value_size + 1);
	if (!data) {
		if (!found)
			table_delete(table, key, key_size);
		return error_nomem();
	}
	if (value_size > 0)
		memcpy(data + keep, value, value_size); /* may be the old value itself: free it only now */
	data[keep + value_size] = '\0';
	if (keep == 0)
		free(entry->value.data);
	entry->value = (struct table_value){.data = data, .size = keep + value_size};
	return TDR_OK;
}

tdr_status table_set(struct table *table, const char *key, size_t key_size, const void *value, size_t value_size)
{
	return store_behind(table, key, key_size, 0, value, value_size);
}

tdr_status table_append(struct table *table, const char *key, size_t key_size, const void *value, size_t value_size)
{
	const struct table_value *old = table_get(table, key, key_size);

	return store_behind(table, key, key_size, old ? old->size : 0, value, value_size);
}

bool table_delete(struct table *table, const char *key, size_t key_size)
{
	struct table_entry *entry = find(table, key, key_size);

	if (!entry)
		return false;
	HASH_DEL(table->entries, entry);
	entry_free(entry);
	return true;
}

bool table_value_equals(const struct table_value *value, const void *expected, size_t expected_size)
{
	size_t size = value ? value->size : 0;

	return size == expected_size && (size == 0 || memcmp(value->data, expected, size) == 0);
}

/* The whole value as a number: a sign that may be missing, digits, nothing else. */
static bool number_read(const struct table_value *value, int64_t *ret_number)
{
	size_t at = value->data[0] == '-' || value->data[0] == '+';
	bool negative = value->data[0] == '-';
	int64_t number = 0;

	if (at == value->size)
		return false;
	for (; at < value->size; at++) {
		int digit = value->data[at] - '0';

		if (digit < 0 || digit > 9 || __builtin_mul_overflow(number, (int64_t)10, &number) ||
		    __builtin_sub_overflow(number, (int64_t)digit, &number)) /* downwards: there is one more there */
			return false;
	}
	if (!negative && number == INT64_MIN)
		return false;
	*ret_number = negative ? number : -number;
	return true;
}

tdr_status table_value_sum(const struct table_value *value, const char *key, size_t key_size, int64_t amount,
                           int64_t *ret_sum)
{
	int64_t number = 0, sum;

	if (value && value->size > 0 && !number_read(value, &number))
		return error_set(TDR_EINVAL, "add to key '%.*s': its value '%.*s' is no decimal number of 64 bits",
		                 SHOWN(key_size), key, SHOWN(value->size), value->data);
	if (__builtin_add_overflow(number, amount, &sum))
		return error_set(TDR_ELIMIT, "add to key '%.*s': %" PRId64 " and %" PRId64 " is more than 64 bits hold",
		                 SHOWN(key_size), key, number, amount);
	*ret_sum = sum;
	return TDR_OK;
}

size_t table_number_text(int64_t number, char text[TABLE_NUMBER_SIZE])
{
	return (size_t)snprintf(text, TABLE_NUMBER_SIZE, "%" PRId64, number);
}
