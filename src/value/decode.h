/* SPDX-License-Identifier: Apache-2.0 */
/* What the decoder's files know of each other. */
#ifndef TENDRIL_VALUE_DECODE_H
#define TENDRIL_VALUE_DECODE_H

#include "value/codec.h"

enum part_kind {
	PART_NIL,
	PART_BOOL,
	PART_INT,  /* negative: `number` in two's complement */
	PART_UINT, /* not negative */
	PART_FLOAT,
	PART_STRING,
	PART_BYTES,
	PART_ARRAY,
	PART_MAP,
	PART_EXTENSION,
};

/* One part of MessagePack: a scalar, or what leads a string, a container or an extension. */
struct part {
	enum part_kind kind;
	int extension; /* its type */
	union {
		uint64_t
		    number; /* an int's or bool's; bytes of a string, of bytes or of an extension; items or pairs */
		double real;
	};
	const uint8_t *body; /* what comes behind the lead */
};

/*
 * Reads the next part, and moves nothing. As many bytes as it claims are there: those of a string, and one for each
 * item of a container.
 */
tdr_status decode_part(const struct decoder *decoder, struct part *ret_part);

/* Keeps a text with the place of `at`, and is TDR_EPROTO: `return malformed(decoder, decoder->at, "...", ...);`. */
#define malformed(...) (malformed_text(__VA_ARGS__), TDR_EPROTO)

void malformed_text(const struct decoder *decoder, const uint8_t *at, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

#endif
