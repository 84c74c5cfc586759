/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec: values to bytes and back. MessagePack, with extension types that docs/protocol.md lists; tensors' bytes are not
 * in it: an encoder collects the storages that its tensors view, and a decoder is given them again.
 *
 * The decoder trusts nothing: depth, counts and lengths are checked against the limits and against the bytes that are
 * there before memory is taken; everything malformed is TDR_EPROTO (or TDR_ELIMIT), never an assertion.
 */
#ifndef TENDRIL_VALUE_CODEC_H
#define TENDRIL_VALUE_CODEC_H

#include "base/buffer.h"

#include <tendril/value.h>

struct codec_limits {
	size_t max_depth;       /* of nested containers */
	size_t max_body_bytes;  /* of one encoded body */
	size_t max_storages;    /* in one message */
	size_t max_value_bytes; /* memory that the values decoded from one body may take, as a multiple of its size plus this */
};

/* 64 deep, 64 MiB, 65,536 storages, 1 MiB. */
extern const struct codec_limits codec_default_limits;

/* ---- encoding ---- */

struct encoder {
	struct buffer body;
	const struct codec_limits *limits;
	tdr_storage **storages; /* counted references, in the order of their numbers in the body */
	size_t nstorages;
	/* the encoder's own: */
	size_t storages_room;
	size_t depth;
	void *seen;    /* containers that were met, to refuse shared ones by name */
	void *compact; /* storages that were compacted, by their original */
};

void encoder_init(struct encoder *encoder, const struct codec_limits *limits);
void encoder_fini(struct encoder *encoder);

/* Makes it ready for another message, keeping its memory. */
void encoder_reset(struct encoder *encoder);

/*
 * Adds a value. Tensors' storages are collected, each once per message; a storage of which little is viewed is compacted
 * first: a view whose bytes times 2 are at most its storage's, where that has more than 8 KiB, is cloned. Errors:
 * TDR_ESHARED (a container met twice: names its place, as in "args[1]['x'] is the same list as args[0]"; `encode_value`
 * calls the root "value"), TDR_ELIMIT, TDR_ENOMEM, TDR_EUNSUPPORTED (a tensor that is not on the CPU).
 */
tdr_status encode_value(struct encoder *encoder, const tdr_value *value);

/* The same, calling the root `root` in errors, such as "args". */
tdr_status encode_value_as(struct encoder *encoder, const tdr_value *value, const char *root);

/* Single parts, for message bodies. They cannot fail but for memory, which encoder->body.failed remembers. */
void encode_nil(struct encoder *encoder);
void encode_bool(struct encoder *encoder, bool truth);
void encode_int(struct encoder *encoder, int64_t number);
void encode_uint(struct encoder *encoder, uint64_t number);
void encode_string(struct encoder *encoder, const char *text, size_t size);
void encode_bytes(struct encoder *encoder, const void *data, size_t size);
void encode_array(struct encoder *encoder, size_t count); /* `count` parts follow */

/* ---- decoding ---- */

struct decoder {
	const uint8_t *at, *end;
	const struct codec_limits *limits;
	tdr_storage *const *storages; /* borrowed, [nstorages] */
	size_t nstorages;
	/* the decoder's own: */
	size_t depth;
	size_t memory_left;
};

void decoder_init(struct decoder *decoder, const struct codec_limits *limits, const void *body, size_t size,
                  tdr_storage *const storages[], size_t nstorages);

/* Reads one value. Strings, bytes and containers are copied out of the body; tensors refer to the storages. */
tdr_status decode_value(struct decoder *decoder, tdr_value **ret_value);

/* Single parts. Strings and bytes are borrowed from the body, and end in no NUL. */
bool decode_is_nil(struct decoder *decoder); /* whether a nil comes next; it is read if so */
tdr_status decode_bool(struct decoder *decoder, bool *ret_truth);
tdr_status decode_int(struct decoder *decoder, int64_t *ret_number);
tdr_status decode_uint(struct decoder *decoder, uint64_t *ret_number);
tdr_status decode_string(struct decoder *decoder, const char **ret_text, size_t *ret_size);
tdr_status decode_bytes(struct decoder *decoder, const void **ret_data, size_t *ret_size);
tdr_status decode_array(struct decoder *decoder, size_t *ret_count);

/* TDR_EPROTO unless all has been read. */
tdr_status decode_end(struct decoder *decoder);

#endif
