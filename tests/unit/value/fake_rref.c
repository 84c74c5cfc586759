/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_rref.h"

#include "base/error.h"
#include "base/hash.h"
#include "value/layout.h"

#include <stdio.h>

_Atomic int fake_rrefs_alive;

static void fake_free(tdr_rref *rref)
{
	fake_rrefs_alive--;
	free(rref);
}

static int fake_print(const tdr_rref *rref, char *buffer, size_t size)
{
	const struct fake_rref *fake = (const struct fake_rref *)rref;

	return snprintf(buffer, size, "RRef(worker%u, %llu)", fake->owner, (unsigned long long)fake->number);
}

static bool fake_equal(const tdr_rref *a, const tdr_rref *b)
{
	const struct fake_rref *x = (const struct fake_rref *)a, *y = (const struct fake_rref *)b;

	return x->owner == y->owner && x->number == y->number;
}

static uint64_t fake_hash(const tdr_rref *rref)
{
	return hash_word(((const struct fake_rref *)rref)->number);
}

const struct rref_ops fake_rref_ops = {
    .free = fake_free,
    .print = fake_print,
    .equal = fake_equal,
    .hash = fake_hash,
};

tdr_rref *fake_rref_new(uint32_t owner, uint64_t number)
{
	struct fake_rref *fake = malloc(sizeof(*fake));

	if (!fake)
		return NULL;
	rref_head_init(&fake->head, &fake_rref_ops);
	fake->owner = owner;
	fake->number = number;
	fake_rrefs_alive++;
	return &fake->head;
}

tdr_value *fake_rref_value(uint32_t owner, uint64_t number)
{
	tdr_rref *rref = fake_rref_new(owner, number);
	tdr_value *value = rref ? tdr_rref_value(rref) : value_invalid(REASON_MEMORY);

	tdr_rref_unref(rref);
	return value;
}

static tdr_status fake_encode(void *context, tdr_rref *rref, uint8_t ret_bytes[RREF_WIRE_MAX], size_t *ret_size)
{
	const struct fake_rref *fake = (const struct fake_rref *)rref;
	struct fake_wire *wire = context;

	if (++wire->nencoded == wire->encode_fails)
		return error_set(TDR_EWORKERGONE, "reference %zu cannot be sent", wire->nencoded);
	memcpy(ret_bytes, &fake->owner, sizeof(fake->owner));
	memcpy(ret_bytes + sizeof(fake->owner), &fake->number, sizeof(fake->number));
	*ret_size = FAKE_RREF_WIRE_SIZE;
	return TDR_OK;
}

static tdr_status fake_decode(void *context, const uint8_t *bytes, size_t size, tdr_rref **ret_rref)
{
	struct fake_wire *wire = context;
	tdr_rref *rref;
	uint64_t number;
	uint32_t owner;

	if (++wire->ndecoded == wire->decode_fails)
		return error_set(TDR_EWORKERGONE, "reference %zu cannot be taken", wire->ndecoded);
	if (size != FAKE_RREF_WIRE_SIZE)
		return error_set(TDR_EPROTO, "a reference of %zu bytes", size);
	memcpy(&owner, bytes, sizeof(owner));
	memcpy(&number, bytes + sizeof(owner), sizeof(number));
	rref = fake_rref_new(owner, number);
	if (!rref)
		return error_nomem();
	*ret_rref = rref;
	return TDR_OK;
}

const struct codec_rrefs fake_rrefs = {.encode = fake_encode, .decode = fake_decode};
