/* SPDX-License-Identifier: Apache-2.0 */
/* Reading bytes from outside: what leads each part, and single parts. */
#include "value/decode.h"

#include "base/error.h"
#include "base/utf8.h"
#include "value/msgpack.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Memory that values may take for each byte of the body. The most that honest ones need is an empty list's. */
#define MEMORY_PER_BYTE 64

void decoder_init(struct decoder *decoder, const struct codec_limits *limits, const void *body, size_t size,
                  tdr_storage *const storages[], size_t nstorages)
{
	const uint8_t *start = body ? body : (const uint8_t *)""; /* nothing may be added to NULL, not even 0 */

	*decoder = (struct decoder){
	    .start = start,
	    .at = start,
	    .end = start + size,
	    .limits = limits,
	    .storages = storages,
	    .nstorages = nstorages,
	};
	if (__builtin_mul_overflow(size, (size_t)MEMORY_PER_BYTE, &decoder->memory_left) ||
	    __builtin_add_overflow(decoder->memory_left, limits->max_value_bytes, &decoder->memory_left))
		decoder->memory_left = SIZE_MAX;
}

/* ---- checks ---- */

static size_t left(const struct decoder *decoder)
{
	return (size_t)(decoder->end - decoder->at);
}

void malformed_text(const struct decoder *decoder, const uint8_t *at, const char *format, ...)
{
	char text[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	error_set(TDR_EPROTO, "malformed at byte %zu of %zu: %s", (size_t)(at - decoder->start),
	          (size_t)(decoder->end - decoder->start), text);
}

static tdr_status ended(const struct decoder *decoder)
{
	return malformed(decoder, decoder->at, "the bytes end too early");
}

/* ---- leads ---- */

static const char *const part_names[] = {
    [PART_NIL] = "nil",       [PART_BOOL] = "a bool",
    [PART_INT] = "an int",    [PART_UINT] = "an int",
    [PART_FLOAT] = "a float", [PART_STRING] = "a string",
    [PART_BYTES] = "bytes",   [PART_ARRAY] = "an array",
    [PART_MAP] = "a map",     [PART_EXTENSION] = "an extension",
};

/* Reads a number of `size` bytes behind the lead byte; false where they are not there. */
static inline bool read_number(const struct decoder *decoder, unsigned size, struct part *ret_part)
{
	const uint8_t *from = decoder->at + 1;

	if (left(decoder) < 1 + size)
		return false;
	ret_part->body = from + size;
	switch (size) {
	case 1:
		ret_part->number = *from;
		break;
	case 2:
		ret_part->number = read_be16(from);
		break;
	case 4:
		ret_part->number = read_be32(from);
		break;
	default:
		ret_part->number = read_be64(from);
		break;
	}
	return true;
}

/* An int of `size` bytes whose sign counts. */
static bool read_signed(const struct decoder *decoder, unsigned size, struct part *ret_part)
{
	unsigned unused = 64 - 8 * size;
	int64_t number;

	if (!read_number(decoder, size, ret_part))
		return false;
	number = (int64_t)(ret_part->number << unused) >> unused;
	ret_part->number = (uint64_t)number;
	ret_part->kind = number < 0 ? PART_INT : PART_UINT;
	return true;
}

static bool read_real(const struct decoder *decoder, uint8_t byte, struct part *ret_part)
{
	uint64_t bits;
	uint32_t narrow_bits;
	float narrow;

	ret_part->kind = PART_FLOAT;
	if (byte == LEAD_FLOAT64) {
		if (!read_number(decoder, 8, ret_part))
			return false;
		bits = ret_part->number;
		memcpy(&ret_part->real, &bits, sizeof(bits));
		return true;
	}
	if (!read_number(decoder, 4, ret_part))
		return false;
	narrow_bits = (uint32_t)ret_part->number;
	memcpy(&narrow, &narrow_bits, sizeof(narrow));
	ret_part->real = (double)narrow;
	return true;
}

static bool read_extension(const struct decoder *decoder, uint8_t byte, struct part *ret_part)
{
	ret_part->kind = PART_EXTENSION;
	if (byte >= LEAD_FIXEXT1) {
		ret_part->number = (uint64_t)1 << (byte - LEAD_FIXEXT1);
		ret_part->body = decoder->at + 1;
	} else if (!read_number(decoder, 1u << (byte - LEAD_EXT8), ret_part)) {
		return false;
	}
	if (ret_part->body == decoder->end)
		return false;
	ret_part->extension = *ret_part->body++;
	return true;
}

/* The lead bytes from 0xc0 to 0xdf. False where the bytes end, or the lead byte has no meaning. */
static bool read_long_lead(const struct decoder *decoder, uint8_t byte, struct part *ret_part)
{
	switch (byte) {
	case LEAD_NIL:
		ret_part->kind = PART_NIL;
		return true;
	case LEAD_FALSE:
	case LEAD_TRUE:
		ret_part->kind = PART_BOOL;
		ret_part->number = byte == LEAD_TRUE;
		return true;
	case LEAD_BIN8:
	case LEAD_BIN16:
	case LEAD_BIN32:
		ret_part->kind = PART_BYTES;
		return read_number(decoder, 1u << (byte - LEAD_BIN8), ret_part);
	case LEAD_FLOAT32:
	case LEAD_FLOAT64:
		return read_real(decoder, byte, ret_part);
	case LEAD_UINT8:
	case LEAD_UINT16:
	case LEAD_UINT32:
	case LEAD_UINT64:
		ret_part->kind = PART_UINT;
		return read_number(decoder, 1u << (byte - LEAD_UINT8), ret_part);
	case LEAD_INT8:
	case LEAD_INT16:
	case LEAD_INT32:
	case LEAD_INT64:
		return read_signed(decoder, 1u << (byte - LEAD_INT8), ret_part);
	case LEAD_STR8:
	case LEAD_STR16:
	case LEAD_STR32:
		ret_part->kind = PART_STRING;
		return read_number(decoder, 1u << (byte - LEAD_STR8), ret_part);
	case LEAD_ARRAY16:
	case LEAD_ARRAY32:
		ret_part->kind = PART_ARRAY;
		return read_number(decoder, 2u << (byte - LEAD_ARRAY16), ret_part);
	case LEAD_MAP16:
	case LEAD_MAP32:
		ret_part->kind = PART_MAP;
		return read_number(decoder, 2u << (byte - LEAD_MAP16), ret_part);
	case LEAD_UNUSED:
		return false;
	default:
		return read_extension(decoder, byte, ret_part);
	}
}

/* Holds what a lead claims against the bytes that are there. */
static inline tdr_status check_claim(const struct decoder *decoder, const struct part *part)
{
	size_t there = (size_t)(decoder->end - part->body);

	switch (part->kind) {
	case PART_STRING:
	case PART_BYTES:
	case PART_ARRAY:
	case PART_EXTENSION:
		if (likely(part->number <= there))
			return TDR_OK;
		break;
	case PART_MAP:
		if (likely(part->number <= there / 2))
			return TDR_OK;
		break;
	default:
		return TDR_OK;
	}
	return malformed(decoder, decoder->at, "%s of %llu %s, but only %zu bytes are left", part_names[part->kind],
	                 (unsigned long long)part->number,
	                 part->kind == PART_ARRAY ? "items"
	                 : part->kind == PART_MAP ? "pairs"
	                                          : "bytes",
	                 there);
}

tdr_status decode_part(const struct decoder *decoder, struct part *ret_part)
{
	uint8_t byte;

	if (unlikely(decoder->at == decoder->end))
		return ended(decoder);
	byte = *decoder->at;
	ret_part->body = decoder->at + 1;
	if (byte < LEAD_FIXMAP) {
		ret_part->kind = PART_UINT;
		ret_part->number = byte;
	} else if (byte >= LEAD_NEGATIVE) {
		ret_part->kind = PART_INT;
		ret_part->number = (uint64_t)(int64_t)(int8_t)byte;
	} else if (byte >= LEAD_NIL) {
		if (unlikely(!read_long_lead(decoder, byte, ret_part)))
			return byte == LEAD_UNUSED ? malformed(decoder, decoder->at, "0xc1 is not used")
			                           : ended(decoder);
	} else if (byte >= LEAD_FIXSTR) {
		ret_part->kind = PART_STRING;
		ret_part->number = byte & 0x1f;
	} else {
		ret_part->kind = byte >= LEAD_FIXARRAY ? PART_ARRAY : PART_MAP;
		ret_part->number = byte & 0x0f;
	}
	return check_claim(decoder, ret_part);
}

/* ---- single parts ---- */

/* Reads a lead that must be one of two parts. */
static tdr_status read_part(const struct decoder *decoder, enum part_kind kind, enum part_kind other,
                            struct part *ret_part)
{
	tdr_status status = decode_part(decoder, ret_part);

	if (status == TDR_OK && ret_part->kind != kind && ret_part->kind != other)
		return malformed(decoder, decoder->at, "wanted %s, got %s", part_names[kind],
		                 part_names[ret_part->kind]);
	return status;
}

bool decode_is_nil(struct decoder *decoder)
{
	if (decoder->at == decoder->end || *decoder->at != LEAD_NIL)
		return false;
	decoder->at++;
	return true;
}

tdr_status decode_bool(struct decoder *decoder, bool *ret_truth)
{
	struct part part;
	tdr_status status = read_part(decoder, PART_BOOL, PART_BOOL, &part);

	if (status != TDR_OK)
		return status;
	decoder->at = part.body;
	*ret_truth = part.number != 0;
	return TDR_OK;
}

tdr_status decode_int(struct decoder *decoder, int64_t *ret_number)
{
	struct part part;
	tdr_status status = read_part(decoder, PART_INT, PART_UINT, &part);

	if (status != TDR_OK)
		return status;
	if (part.kind == PART_UINT && part.number > INT64_MAX)
		return malformed(decoder, decoder->at, "an int of 2^63 or more");
	decoder->at = part.body;
	*ret_number = (int64_t)part.number;
	return TDR_OK;
}

tdr_status decode_uint(struct decoder *decoder, uint64_t *ret_number)
{
	struct part part;
	tdr_status status = read_part(decoder, PART_INT, PART_UINT, &part);

	if (status != TDR_OK)
		return status;
	if (part.kind == PART_INT)
		return malformed(decoder, decoder->at, "a negative int");
	decoder->at = part.body;
	*ret_number = part.number;
	return TDR_OK;
}

tdr_status decode_u32(struct decoder *decoder, uint32_t *ret_number)
{
	const uint8_t *start = decoder->at;
	uint64_t number;
	tdr_status status = decode_uint(decoder, &number);

	if (status != TDR_OK)
		return status;
	if (number > UINT32_MAX) {
		decoder->at = start;
		return malformed(decoder, start, "an int of 2^32 or more");
	}
	*ret_number = (uint32_t)number;
	return TDR_OK;
}

static tdr_status check_text(const struct decoder *decoder, const void *text, size_t size)
{
	if (unlikely(!utf8_valid(text, size)))
		return malformed(decoder, decoder->at, "a string that is not UTF-8");
	return TDR_OK;
}

tdr_status decode_string(struct decoder *decoder, const char **ret_text, size_t *ret_size)
{
	struct part part;
	tdr_status status = read_part(decoder, PART_STRING, PART_STRING, &part);

	if (status == TDR_OK)
		status = check_text(decoder, part.body, part.number);
	if (status != TDR_OK)
		return status;
	decoder->at = part.body + part.number;
	*ret_text = (const char *)part.body;
	*ret_size = part.number;
	return TDR_OK;
}

tdr_status decode_text(struct decoder *decoder, char *ret_text, size_t room)
{
	const uint8_t *start = decoder->at;
	const char *text;
	size_t size;
	tdr_status status = decode_string(decoder, &text, &size);

	if (status != TDR_OK)
		return status;
	if (size >= room) {
		decoder->at = start;
		return error_set(TDR_ELIMIT, "a string of %zu bytes, where %zu are allowed", size, room - 1);
	}
	memcpy(ret_text, text, size);
	ret_text[size] = '\0';
	return TDR_OK;
}

tdr_status decode_bytes(struct decoder *decoder, const void **ret_data, size_t *ret_size)
{
	struct part part;
	tdr_status status = read_part(decoder, PART_BYTES, PART_BYTES, &part);

	if (status != TDR_OK)
		return status;
	decoder->at = part.body + part.number;
	*ret_data = part.body;
	*ret_size = part.number;
	return TDR_OK;
}

tdr_status decode_array(struct decoder *decoder, size_t *ret_count)
{
	struct part part;
	tdr_status status = read_part(decoder, PART_ARRAY, PART_ARRAY, &part);

	if (status != TDR_OK)
		return status;
	decoder->at = part.body;
	*ret_count = part.number;
	return TDR_OK;
}

tdr_status decode_end(struct decoder *decoder)
{
	if (decoder->at == decoder->end)
		return TDR_OK;
	return malformed(decoder, decoder->at, "%zu bytes too many", left(decoder));
}
