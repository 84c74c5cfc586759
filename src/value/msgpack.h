/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What encoder and decoder share of the format: MessagePack's lead bytes, our extension types, and numbers in memory.
 *
 * docs/protocol-values.md says what each extension holds. The numbers are frozen.
 */
#ifndef TENDRIL_VALUE_MSGPACK_H
#define TENDRIL_VALUE_MSGPACK_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

enum lead {
	LEAD_FIXMAP = 0x80,   /* to 0x8f */
	LEAD_FIXARRAY = 0x90, /* to 0x9f */
	LEAD_FIXSTR = 0xa0,   /* to 0xbf */
	LEAD_NIL = 0xc0,
	LEAD_UNUSED = 0xc1,
	LEAD_FALSE = 0xc2,
	LEAD_TRUE = 0xc3,
	LEAD_BIN8 = 0xc4,
	LEAD_BIN16 = 0xc5,
	LEAD_BIN32 = 0xc6,
	LEAD_EXT8 = 0xc7,
	LEAD_EXT16 = 0xc8,
	LEAD_EXT32 = 0xc9,
	LEAD_FLOAT32 = 0xca,
	LEAD_FLOAT64 = 0xcb,
	LEAD_UINT8 = 0xcc,
	LEAD_UINT16 = 0xcd,
	LEAD_UINT32 = 0xce,
	LEAD_UINT64 = 0xcf,
	LEAD_INT8 = 0xd0,
	LEAD_INT16 = 0xd1,
	LEAD_INT32 = 0xd2,
	LEAD_INT64 = 0xd3,
	LEAD_FIXEXT1 = 0xd4, /* 2, 4, 8, 16 follow, to 0xd8 */
	LEAD_FIXEXT16 = 0xd8,
	LEAD_STR8 = 0xd9,
	LEAD_STR16 = 0xda,
	LEAD_STR32 = 0xdb,
	LEAD_ARRAY16 = 0xdc,
	LEAD_ARRAY32 = 0xdd,
	LEAD_MAP16 = 0xde,
	LEAD_MAP32 = 0xdf,
	LEAD_NEGATIVE = 0xe0, /* to 0xff: -32 to -1 */
};

/* Extension types. Those of the second group are empty, and stand first in an array whose other items they explain. */
enum extension {
	EXTENSION_COMPLEX = 1,
	EXTENSION_BIGINT = 2,
	EXTENSION_TENSOR = 3,
	EXTENSION_DEVICE = 4,
	EXTENSION_RREF = 5, /* what is in it is not the codec's to know */

	EXTENSION_TUPLE = 16,
	EXTENSION_SET = 17,
	EXTENSION_OBJECT = 18,
};

/* Bytes of an empty extension: ext8, length 0, type. */
#define MARKER_SIZE 3

/*
 * A tensor's extension: this, then int64 sizes[ndim], and int64 strides[ndim] unless it is marked contiguous.
 * Little-endian.
 */
struct wire_tensor {
	uint32_t storage;
	uint8_t dtype;
	uint8_t flags;
	uint8_t ndim;
	uint8_t zero;
	int64_t offset;
};

enum {
	WIRE_TENSOR_REQUIRES_GRAD = 1 << 0,
	WIRE_TENSOR_CONTIGUOUS = 1 << 1,
	WIRE_TENSOR_FLAGS = WIRE_TENSOR_REQUIRES_GRAD | WIRE_TENSOR_CONTIGUOUS,
};

_Static_assert(sizeof(struct wire_tensor) == 16, "the wire's layout");

/* ---- big-endian numbers, as MessagePack has them; each returns what comes behind ---- */

static inline uint8_t *write_be16(uint8_t *to, uint16_t number)
{
	number = htobe16(number);
	memcpy(to, &number, sizeof(number));
	return to + sizeof(number);
}

static inline uint8_t *write_be32(uint8_t *to, uint32_t number)
{
	number = htobe32(number);
	memcpy(to, &number, sizeof(number));
	return to + sizeof(number);
}

static inline uint8_t *write_be64(uint8_t *to, uint64_t number)
{
	number = htobe64(number);
	memcpy(to, &number, sizeof(number));
	return to + sizeof(number);
}

static inline uint16_t read_be16(const uint8_t *from)
{
	uint16_t number;

	memcpy(&number, from, sizeof(number));
	return be16toh(number);
}

static inline uint32_t read_be32(const uint8_t *from)
{
	uint32_t number;

	memcpy(&number, from, sizeof(number));
	return be32toh(number);
}

static inline uint64_t read_be64(const uint8_t *from)
{
	uint64_t number;

	memcpy(&number, from, sizeof(number));
	return be64toh(number);
}

#endif
