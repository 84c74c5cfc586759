/* SPDX-License-Identifier: Apache-2.0 */
#include "store/wire.h"

#include "base/error.h"

#include <assert.h>

/*
 * Each query's arguments: k a key, v a value, i an i64, w a u32, m the magic number; what follows [ comes as often as the
 * u64 there says.
 */
static const struct {
	const char *name;
	const char *layout;
} queries[] = {
    [QUERY_VALIDATE] = {"VALIDATE", "m"},
    [QUERY_SET] = {"SET", "kv"},
    [QUERY_COMPARE_SET] = {"COMPARE_SET", "kvv"},
    [QUERY_GET] = {"GET", "k"},
    [QUERY_ADD] = {"ADD", "ki"},
    [QUERY_CHECK] = {"CHECK", "[k"},
    [QUERY_WAIT] = {"WAIT", "[k"},
    [QUERY_NUM_KEYS] = {"GETNUMKEYS", ""},
    [QUERY_DELETE_KEY] = {"DELETE_KEY", "k"},
    [QUERY_APPEND] = {"APPEND", "kv"},
    [QUERY_MULTI_GET] = {"MULTI_GET", "[k"},
    [QUERY_MULTI_SET] = {"MULTI_SET", "[kv"},
    [QUERY_CANCEL_WAIT] = {"CANCEL_WAIT", ""},
    [QUERY_PING] = {"PING", "w"},
    [QUERY_QUEUE_PUSH] = {"QUEUE_PUSH", "kv"},
    [QUERY_QUEUE_POP] = {"QUEUE_POP", "k"},
    [QUERY_QUEUE_LEN] = {"QUEUE_LEN", "k"},
    [QUERY_WATCH_KEY] = {"WATCH_KEY", "k"},
};

/* Version 1's types, by number. */
static const enum wire_query v1_queries[] = {
    QUERY_SET,  QUERY_COMPARE_SET, QUERY_GET,       QUERY_ADD,        QUERY_CHECK,
    QUERY_WAIT, QUERY_NUM_KEYS,    QUERY_WATCH_KEY, QUERY_DELETE_KEY,
};

/* Bytes that tell the versions apart, where the first is 0: version 2's greeting, or a SET of version 1. */
#define GREETING_SIZE (1 + sizeof(uint32_t))

const char *wire_query_name(enum wire_query query)
{
	return (size_t)query < COUNT_OF(queries) ? queries[query].name : "?";
}

uint8_t wire_type(enum wire_version version, enum wire_query query)
{
	if (version == WIRE_V2) {
		assert(query <= QUERY_QUEUE_LEN);
		return (uint8_t)query;
	}
	for (size_t i = 0; i < COUNT_OF(v1_queries); i++)
		if (v1_queries[i] == query)
			return (uint8_t)i;
	assert(!"version 1 has no such query");
	return UINT8_MAX;
}

/* Settles the version from a connection's first bytes; leaves it unknown where more of them are needed. */
static void find_version(struct wire_scan *scan, const uint8_t *data, size_t size)
{
	const uint8_t *at = data + 1;

	if (size == 0 || (data[0] == QUERY_VALIDATE && size < GREETING_SIZE))
		return;
	/* Read as the length of a key, the magic number is far past the limit: no request of version 1 is mistaken. */
	scan->version = data[0] == QUERY_VALIDATE && wire_get_u32(&at) == WIRE_MAGIC ? WIRE_V2 : WIRE_V1;
}

static tdr_status scan_type(struct wire_scan *scan, uint8_t type)
{
	if (scan->version == WIRE_V2 && type > QUERY_QUEUE_LEN)
		return error_set(TDR_EPROTO, "unknown request type %u (version 2)", type);
	if (scan->version == WIRE_V1 && type >= COUNT_OF(v1_queries))
		return error_set(TDR_EPROTO, "unknown request type %u, and no greeting of version 2", type);
	scan->query = scan->version == WIRE_V2 ? (enum wire_query)type : v1_queries[type];
	scan->layout = queries[scan->query].layout;
	scan->size = 1;
	return TDR_OK;
}

/* How many bytes of the next argument must be there before its size is known. */
static size_t head_size(char kind)
{
	return kind == 'w' || kind == 'm' ? sizeof(uint32_t) : sizeof(uint64_t);
}

/* Checks the next argument by its head, and says how many bytes follow that. */
static tdr_status scan_head(struct wire_scan *scan, const struct wire_limits *limits, const uint8_t *head,
                            size_t *ret_rest)
{
	char kind = *scan->layout;
	const char *name = wire_query_name(scan->query);
	size_t limit = kind == 'k' ? WIRE_MAX_KEY_SIZE : limits->max_value_size;
	uint64_t number = head_size(kind) == sizeof(uint32_t) ? wire_get_u32(&head) : wire_get_u64(&head);

	*ret_rest = 0;
	if (kind == 'm' && number != WIRE_MAGIC)
		return error_set(TDR_EPROTO, "%s with the magic number 0x%08llX", name, (unsigned long long)number);
	if (kind == '[' && number > WIRE_MAX_KEYS)
		return error_set(TDR_ELIMIT, "%s of %llu keys, but %d are the most in one request", name,
		                 (unsigned long long)number, WIRE_MAX_KEYS);
	if (kind == 'k' || kind == 'v') {
		if (number > limit)
			return error_set(TDR_ELIMIT, "%s with a %s of %llu bytes, but %zu is the most", name,
			                 kind == 'k' ? "key" : "value", (unsigned long long)number, limit);
		*ret_rest = (size_t)number;
	}
	if (scan->size + head_size(kind) + *ret_rest > limits->max_request_size)
		return error_set(TDR_ELIMIT, "%s of more than %zu bytes", name, limits->max_request_size);
	if (kind == '[')
		scan->items = number;
	return TDR_OK;
}

/* Moves the layout on past one argument, which was there. */
static void scan_step(struct wire_scan *scan)
{
	if (*scan->layout++ == '[') {
		scan->again = scan->layout;
		if (scan->items == 0)
			scan->layout += strlen(scan->layout);
	} else if (*scan->layout == '\0' && scan->again && --scan->items > 0) {
		scan->layout = scan->again;
	}
}

tdr_status wire_scan(struct wire_scan *scan, const struct wire_limits *limits, const uint8_t *data, size_t size,
                     bool *ret_whole)
{
	tdr_status status;
	size_t rest;

	*ret_whole = false;
	if (scan->version == WIRE_UNKNOWN)
		find_version(scan, data, size);
	if (scan->version == WIRE_UNKNOWN || size == 0)
		return TDR_OK;
	if (!scan->layout) {
		status = scan_type(scan, data[0]);
		if (status != TDR_OK)
			return status;
	}
	while (*scan->layout != '\0') {
		size_t head = head_size(*scan->layout);

		if (size - scan->size < head)
			return TDR_OK;
		status = scan_head(scan, limits, data + scan->size, &rest);
		if (status != TDR_OK)
			return status;
		if (size - scan->size - head < rest)
			return TDR_OK; /* the head is looked at again: cheap, and one state less */
		scan->size += head + rest;
		scan_step(scan);
	}
	*ret_whole = true;
	return TDR_OK;
}
