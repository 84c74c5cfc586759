/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values: the bytes of one, which may view two storages, and have references of any bytes but those that begin with
 * 0xff.
 *
 * Beside crashes it looks for what must hold of every value that is read: it equals itself, it can be sent, what is
 * then read is equal, and is sent in the same bytes. The parts that messages are made of are read from the same bytes.
 * No reference is left behind.
 */
#include "base/error.h"
#include "base/hash.h"
#include "value/codec.h"
#include "value/rref_value.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, tdr_last_error());          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* ---- references: those bytes that stand for them ---- */

struct dummy {
	struct tdr_rref head;
	size_t size;
	uint8_t bytes[RREF_WIRE_MAX];
};

static size_t dummies;

static void dummy_free(tdr_rref *rref)
{
	dummies--;
	free(rref);
}

static int dummy_print(const tdr_rref *rref, char *buffer, size_t size)
{
	return snprintf(buffer, size, "RRef(%zu bytes)", ((const struct dummy *)rref)->size);
}

static bool dummy_equal(const tdr_rref *a, const tdr_rref *b)
{
	const struct dummy *x = (const struct dummy *)a, *y = (const struct dummy *)b;

	return x->size == y->size && memcmp(x->bytes, y->bytes, x->size) == 0;
}

static uint64_t dummy_hash(const tdr_rref *rref)
{
	return hash_bytes(((const struct dummy *)rref)->bytes, ((const struct dummy *)rref)->size);
}

static const struct rref_ops dummy_ops = {
    .free = dummy_free, .print = dummy_print, .equal = dummy_equal, .hash = dummy_hash};

static tdr_status dummy_encode(void *context, tdr_rref *rref, uint8_t ret_bytes[RREF_WIRE_MAX], size_t *ret_size)
{
	const struct dummy *dummy = (const struct dummy *)rref;

	memcpy(ret_bytes, dummy->bytes, dummy->size);
	*ret_size = dummy->size;
	return TDR_OK;
}

static tdr_status dummy_decode(void *context, const uint8_t *bytes, size_t size, tdr_rref **ret_rref)
{
	struct dummy *dummy;

	CHECK(size >= 1 && size <= RREF_WIRE_MAX);
	if (bytes[0] == 0xff)
		return error_set(TDR_EPROTO, "bytes that stand for no reference");
	dummy = malloc(sizeof(*dummy));
	CHECK(dummy);
	rref_head_init(&dummy->head, &dummy_ops);
	dummy->size = size;
	memcpy(dummy->bytes, bytes, size);
	dummies++;
	*ret_rref = &dummy->head;
	return TDR_OK;
}

static const struct codec_rrefs dummy_rrefs = {.encode = dummy_encode, .decode = dummy_decode};

/* ---- values ---- */

static tdr_value *read_all(const void *data, size_t size, tdr_storage *const storages[], size_t nstorages)
{
	struct decoder decoder;
	tdr_value *value = NULL;
	tdr_status status;

	decoder_init(&decoder, &codec_default_limits, data, size, storages, nstorages);
	decoder.rrefs = &dummy_rrefs;
	status = decode_value(&decoder, &value);
	CHECK(status == TDR_OK || status == TDR_EPROTO || status == TDR_ELIMIT);
	CHECK((status == TDR_OK) == (value != NULL));
	return value;
}

static void check_value(const tdr_value *value)
{
	struct encoder encoder, again;
	char text[100];
	tdr_value *read;

	CHECK(tdr_value_status(value) == TDR_OK);
	CHECK(tdr_value_equal(value, value));
	CHECK(tdr_value_print(value, text, sizeof(text)) > 0);
	CHECK(strlen(text) < sizeof(text));
	encoder_init(&encoder, &codec_default_limits);
	encoder_init(&again, &codec_default_limits);
	encoder.rrefs = &dummy_rrefs;
	again.rrefs = &dummy_rrefs;
	CHECK(encode_value(&encoder, value) == TDR_OK);
	read = read_all(encoder.body.data, encoder.body.size, encoder.storages, encoder.nstorages);
	CHECK(read && tdr_value_equal(value, read));
	CHECK(encode_value(&again, read) == TDR_OK);
	CHECK(again.body.size == encoder.body.size && again.nstorages == encoder.nstorages);
	CHECK(again.nrrefs == encoder.nrrefs);
	CHECK(memcmp(again.body.data, encoder.body.data, again.body.size) == 0);
	tdr_value_unref(read);
	encoder_fini(&encoder);
	encoder_fini(&again);
}

/* Reads parts of any kind for as long as one of the readers takes what comes. */
static void read_parts(const void *data, size_t size)
{
	struct decoder decoder;
	const void *bytes;
	const char *text;
	int64_t number;
	uint64_t positive;
	size_t count;
	bool truth;

	decoder_init(&decoder, &codec_default_limits, data, size, NULL, 0);
	for (;;) {
		const uint8_t *before = decoder.at;

		if (decode_is_nil(&decoder) || decode_bool(&decoder, &truth) == TDR_OK ||
		    decode_int(&decoder, &number) == TDR_OK || decode_uint(&decoder, &positive) == TDR_OK ||
		    decode_array(&decoder, &count) == TDR_OK)
			continue;
		CHECK(decoder.at == before);
		if (decode_string(&decoder, &text, &count) == TDR_OK)
			CHECK((const uint8_t *)text + count == decoder.at);
		else if (decode_bytes(&decoder, &bytes, &count) == TDR_OK)
			CHECK((const uint8_t *)bytes + count == decoder.at);
		else
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	tdr_storage *storages[2];
	tdr_value *value;

	CHECK(tdr_storage_new(24, &storages[0]) == TDR_OK && tdr_storage_new(16, &storages[1]) == TDR_OK);
	memset(tdr_storage_data(storages[0]), 1, 24);
	memset(tdr_storage_data(storages[1]), 2, 16);
	value = read_all(data, size, storages, 2);
	if (value)
		check_value(value);
	tdr_value_unref(value);
	CHECK(dummies == 0);
	tdr_storage_unref(storages[0]);
	tdr_storage_unref(storages[1]);
	read_parts(data, size);
	return 0;
}
