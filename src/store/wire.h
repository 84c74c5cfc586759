/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire of tcp stores, both versions of it, as PyTorch's TCPStore speaks it: what the client and the server share.
 *
 * A request is one byte, its type, and its arguments; integers are little-endian; keys and values are a u64 length and that
 * many bytes. In version 2 a connection opens with VALIDATE and a magic number, in version 1 with the first request;
 * and the versions number their types differently. docs/store.md has the tables.
 */
#ifndef TENDRIL_STORE_WIRE_H
#define TENDRIL_STORE_WIRE_H

#include "base/buffer.h"

#include <endian.h>
#include <tendril/status.h>

#define WIRE_MAGIC UINT32_C(0x3C85F7CE)

/* Limits of the protocol, on both sides. */
#define WIRE_MAX_KEYS 131072   /* in one request */
#define WIRE_MAX_KEY_SIZE 8192 /* bytes, with the '/' that clients put before a key */

enum wire_version {
	WIRE_UNKNOWN = 0, /* nothing has come yet */
	WIRE_V1 = 1,
	WIRE_V2 = 2,
};

/* What a request asks for. Up to QUEUE_LEN these are version 2's types; wire_type gives version 1's. */
enum wire_query {
	QUERY_VALIDATE = 0,
	QUERY_SET = 1,
	QUERY_COMPARE_SET = 2,
	QUERY_GET = 3,
	QUERY_ADD = 4,
	QUERY_CHECK = 5,
	QUERY_WAIT = 6,
	QUERY_NUM_KEYS = 7,
	QUERY_DELETE_KEY = 8,
	QUERY_APPEND = 9,
	QUERY_MULTI_GET = 10,
	QUERY_MULTI_SET = 11,
	QUERY_CANCEL_WAIT = 12,
	QUERY_PING = 13,
	QUERY_QUEUE_PUSH = 14,
	QUERY_QUEUE_POP = 15,
	QUERY_QUEUE_LEN = 16,
	QUERY_WATCH_KEY, /* version 1 alone */
};

/* One-byte answers. */
#define WIRE_STOP_WAITING 0
#define WIRE_WAIT_CANCELLED 1
#define WIRE_READY 0
#define WIRE_NOT_READY 1
#define WIRE_WATCH_REGISTERED 3

const char *wire_query_name(enum wire_query query);

/* The byte that asks for `query`; the version must have it. */
uint8_t wire_type(enum wire_version version, enum wire_query query);

/* ---- writing: to the end of a buffer, whose `failed` is checked once ---- */

static inline void wire_put_u8(struct buffer *buffer, uint8_t number)
{
	buffer_append(buffer, &number, sizeof(number));
}

static inline void wire_put_u32(struct buffer *buffer, uint32_t number)
{
	number = htole32(number);
	buffer_append(buffer, &number, sizeof(number));
}

static inline void wire_put_u64(struct buffer *buffer, uint64_t number)
{
	number = htole64(number);
	buffer_append(buffer, &number, sizeof(number));
}

static inline void wire_put_bytes(struct buffer *buffer, const void *data, size_t size)
{
	wire_put_u64(buffer, size);
	buffer_append(buffer, data, size);
}

/* VALIDATE and the magic number. */
static inline void wire_put_greeting(struct buffer *buffer)
{
	wire_put_u8(buffer, QUERY_VALIDATE);
	wire_put_u32(buffer, WIRE_MAGIC);
}

/* ---- reading requests ---- */

struct wire_limits {
	size_t max_value_size;
	size_t max_request_size;
};

/*
 * How far the request at the front of some bytes was looked through. All zero before the first byte of a connection; the
 * version stays from one request to the next. No byte is looked at twice, however small the pieces are that they come in.
 */
struct wire_scan {
	enum wire_version version;
	enum wire_query query;
	const char *layout; /* the arguments still to come; NULL before the type */
	const char *again;  /* where the layout goes on after one item of a counted list; NULL outside of lists */
	uint64_t items;     /* of that list, still to come */
	size_t size;        /* bytes of the request that are there and were looked through */
};

/*
 * Looks on through `data`, which begins where the request begins. Sets `ret_whole` when all of the request is there: it
 * takes scan->size bytes, and nothing in it is past a limit. Then wire_scan_next before the next request.
 * Errors, after which the connection is of no more use: TDR_EPROTO, TDR_ELIMIT.
 */
tdr_status wire_scan(struct wire_scan *scan, const struct wire_limits *limits, const uint8_t *data, size_t size,
                     bool *ret_whole);

static inline void wire_scan_next(struct wire_scan *scan)
{
	*scan = (struct wire_scan){.version = scan->version};
}

/* A run of bytes inside a request. */
struct wire_bytes {
	const char *data;
	size_t size;
};

/* Reads the arguments of a request that wire_scan found whole, so nothing is checked; `*at` moves on. */
static inline uint32_t wire_get_u32(const uint8_t **at)
{
	uint32_t number;

	memcpy(&number, *at, sizeof(number));
	*at += sizeof(number);
	return le32toh(number);
}

static inline uint64_t wire_get_u64(const uint8_t **at)
{
	uint64_t number;

	memcpy(&number, *at, sizeof(number));
	*at += sizeof(number);
	return le64toh(number);
}

static inline struct wire_bytes wire_get_bytes(const uint8_t **at)
{
	size_t size = (size_t)wire_get_u64(at);
	const char *data = (const char *)*at;

	*at += size;
	return (struct wire_bytes){.data = data, .size = size};
}

#endif
