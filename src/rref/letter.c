/* SPDX-License-Identifier: Apache-2.0 */
#include "rref/letter.h"

#include "base/error.h"

#include <endian.h>
#include <string.h>

/* Parts of a letter on the wire, its kind and its fork among them; 0: there is no such kind. */
static size_t count_parts(unsigned kind)
{
	switch (kind) {
	case LETTER_FORK_REQUEST:
		return 9; /* kind, fork (3), rref (3), number, origin */
	case LETTER_USER_DELETE:
		return 8; /* kind, fork, rref, number */
	case LETTER_WITHDRAW:
	case LETTER_RECHECK:
		return 5; /* kind, fork, number */
	case LETTER_ACK:
		return 6; /* kind, fork, of, verdict */
	case LETTER_CHILD_ACCEPT:
	case LETTER_ACCEPTED:
		return 4; /* kind, fork */
	default:
		return 0;
	}
}

const char *letter_kind_name(unsigned kind)
{
	switch (kind) {
#define LETTER_KIND_CASE(name, number, text)                                                                           \
	case name:                                                                                                     \
		return text;
		LETTER_KIND_LIST(LETTER_KIND_CASE)
#undef LETTER_KIND_CASE
	default:
		return NULL;
	}
}

void rref_id_encode(struct encoder *encoder, const struct rref_id *id)
{
	encode_uint(encoder, id->incarnation);
	encode_uint(encoder, id->local);
	encode_uint(encoder, id->worker);
}

tdr_status rref_id_decode(struct decoder *decoder, struct rref_id *ret_id)
{
	tdr_status status = decode_uint(decoder, &ret_id->incarnation);

	if (status == TDR_OK)
		status = decode_uint(decoder, &ret_id->local);
	if (status == TDR_OK)
		status = decode_u32(decoder, &ret_id->worker);
	return status;
}

void letter_encode(struct encoder *encoder, const struct letter *letter)
{
	encode_array(encoder, (uint32_t)count_parts(letter->kind));
	encode_uint(encoder, letter->kind);
	rref_id_encode(encoder, &letter->fork);
	switch (letter->kind) {
	case LETTER_FORK_REQUEST:
		rref_id_encode(encoder, &letter->rref);
		encode_uint(encoder, letter->number);
		encode_uint(encoder, letter->origin);
		break;
	case LETTER_USER_DELETE:
		rref_id_encode(encoder, &letter->rref);
		encode_uint(encoder, letter->number);
		break;
	case LETTER_WITHDRAW:
	case LETTER_RECHECK:
		encode_uint(encoder, letter->number);
		break;
	case LETTER_ACK:
		encode_uint(encoder, letter->of);
		encode_uint(encoder, letter->verdict);
		break;
	default:
		break;
	}
}

static tdr_status decode_byte(struct decoder *decoder, uint8_t *ret_byte)
{
	uint32_t number = 0;
	tdr_status status = decode_u32(decoder, &number);

	if (status == TDR_OK && number > UINT8_MAX)
		return error_set(TDR_EPROTO, "a number of %u where one up to 255 belongs", number);
	*ret_byte = (uint8_t)number;
	return status;
}

/* What stands behind a letter's fork. */
static tdr_status decode_rest(struct decoder *decoder, struct letter *letter)
{
	tdr_status status = TDR_OK;

	switch (letter->kind) {
	case LETTER_FORK_REQUEST:
	case LETTER_USER_DELETE:
		status = rref_id_decode(decoder, &letter->rref);
		if (status == TDR_OK)
			status = decode_uint(decoder, &letter->number);
		if (status == TDR_OK && letter->kind == LETTER_FORK_REQUEST)
			status = decode_uint(decoder, &letter->origin);
		break;
	case LETTER_WITHDRAW:
	case LETTER_RECHECK:
		status = decode_uint(decoder, &letter->number);
		break;
	case LETTER_ACK:
		status = decode_byte(decoder, &letter->of);
		if (status == TDR_OK)
			status = decode_byte(decoder, &letter->verdict);
		break;
	default:
		break;
	}
	return status;
}

tdr_status letter_decode(struct decoder *decoder, struct letter *ret_letter)
{
	struct letter letter = {0};
	size_t parts;
	tdr_status status = decode_array(decoder, &parts);

	if (status == TDR_OK)
		status = decode_byte(decoder, &letter.kind);
	if (status == TDR_OK && count_parts(letter.kind) == 0)
		status = error_set(TDR_EPROTO, "a letter about references of unknown kind %u", letter.kind);
	if (status == TDR_OK && parts != count_parts(letter.kind))
		status = error_set(TDR_EPROTO, "a letter %s of %zu parts, not %zu", letter_kind_name(letter.kind),
		                   parts, count_parts(letter.kind));
	if (status == TDR_OK)
		status = rref_id_decode(decoder, &letter.fork);
	if (status == TDR_OK)
		status = decode_rest(decoder, &letter);
	if (status == TDR_OK)
		*ret_letter = letter;
	return status;
}

/* ---- what passes a reference on ---- */

static uint8_t *put_u32(uint8_t *at, uint32_t number)
{
	number = htole32(number);
	memcpy(at, &number, sizeof(number));
	return at + sizeof(number);
}

static uint8_t *put_u64(uint8_t *at, uint64_t number)
{
	number = htole64(number);
	memcpy(at, &number, sizeof(number));
	return at + sizeof(number);
}

static uint8_t *put_id(uint8_t *at, const struct rref_id *id)
{
	at = put_u64(at, id->incarnation);
	at = put_u64(at, id->local);
	return put_u32(at, id->worker);
}

size_t rref_passed_write(const struct rref_passed *passed, uint8_t *bytes)
{
	uint8_t *at = put_id(bytes, &passed->rref);

	at = put_id(at, &passed->fork);
	at = put_u32(at, passed->owner_worker);
	at = put_u64(at, passed->owner_incarnation);
	at = put_u64(at, passed->origin);
	at = put_u64(at, passed->number);
	return (size_t)(at - bytes);
}

static uint32_t get_u32(const uint8_t **at)
{
	uint32_t number;

	memcpy(&number, *at, sizeof(number));
	*at += sizeof(number);
	return le32toh(number);
}

static uint64_t get_u64(const uint8_t **at)
{
	uint64_t number;

	memcpy(&number, *at, sizeof(number));
	*at += sizeof(number);
	return le64toh(number);
}

static struct rref_id get_id(const uint8_t **at)
{
	struct rref_id id;

	id.incarnation = get_u64(at);
	id.local = get_u64(at);
	id.worker = get_u32(at);
	return id;
}

tdr_status rref_passed_read(const uint8_t *bytes, size_t size, struct rref_passed *ret_passed)
{
	const uint8_t *at = bytes;

	if (size != RREF_PASSED_SIZE)
		return error_set(TDR_EPROTO, "a reference of %zu bytes, not %d", size, RREF_PASSED_SIZE);
	ret_passed->rref = get_id(&at);
	ret_passed->fork = get_id(&at);
	ret_passed->owner_worker = get_u32(&at);
	ret_passed->owner_incarnation = get_u64(&at);
	ret_passed->origin = get_u64(&at);
	ret_passed->number = get_u64(&at);
	return TDR_OK;
}
