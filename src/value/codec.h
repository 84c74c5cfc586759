/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec: values to bytes and back. MessagePack, with extension types that docs/protocol-values.md lists; tensors'
 * bytes are not in it: an encoder collects the storages that its tensors view, and a decoder is given them again.
 *
 * The encoder writes each number, string and container in its shortest form; the decoder reads any form that
 * MessagePack allows.
 *
 * The decoder trusts nothing: depth, counts and lengths are checked against the limits and against the bytes that are
 * there before memory is taken; everything malformed is TDR_EPROTO (or TDR_ELIMIT), never an assertion.
 */
#ifndef TENDRIL_VALUE_CODEC_H
#define TENDRIL_VALUE_CODEC_H

#include "base/buffer.h"
#include "base/pointers.h"

#include <tendril/value.h>

struct codec_limits {
	size_t max_depth;       /* of nested containers; past TDR_MAX_DEPTH it has no effect */
	size_t max_body_bytes;  /* of one encoded body; at most UINT32_MAX */
	size_t max_storages;    /* in one message */
	size_t max_value_bytes; /* memory that values decoded from one body may take, beside 64 times the body's size */
};

/* 64 deep, 64 MiB, 65,536 storages, 1 MiB. */
extern const struct codec_limits codec_default_limits;

/* What stands for a reference in a body takes at most this many bytes, and at least one. */
#define RREF_WIRE_MAX 128

/*
 * How references cross: to write or to read one changes who holds what, so that is done by whoever knows the message.
 * What either returns, encode_value or decode_value then returns, with its text as the last error. They are called
 * within those, under the locks that their callers hold.
 */
struct codec_rrefs {
	/*
	 * Writes what stands for the reference. Called once for each place where a tree has one, in their order; also
	 * in a tree that fails later, so who encodes takes back what was done for a message that is not sent.
	 */
	tdr_status (*encode)(void *context, tdr_rref *rref, uint8_t ret_bytes[RREF_WIRE_MAX], size_t *ret_size);

	/*
	 * From those bytes, which come from outside; what is given back is a new reference. One that was read before a
	 * tree turned out bad is dropped, inside decode_value.
	 */
	tdr_status (*decode)(void *context, const uint8_t *bytes, size_t size, tdr_rref **ret_rref);
};

/* ---- encoding ---- */

/*
 * Values given to an encoder are borrowed until it is reset or finished: it names them when it meets one of their
 * containers again.
 */
struct encoder {
	struct buffer body;
	const struct codec_limits *limits;
	tdr_storage **storages; /* counted references, in the order of their numbers in the body */
	size_t nstorages;
	const struct codec_rrefs *rrefs; /* set after encoder_init, kept by encoder_reset; NULL: none can be sent */
	void *rrefs_context;
	size_t nrrefs; /* references that were written */
	/* the encoder's own: */
	size_t depth;
	struct pointers collected; /* what `storages` shows */
	struct pointers seen;      /* shared containers that were met */
	struct buffer roots;       /* of struct encoder_root: the containers that were given */
	struct buffer clones;      /* of struct clone: views that were compacted */
	struct buffer exported;    /* of tdr_value *: sent in the place of native objects; counted */
	struct hash_index clone_index;
};

void encoder_init(struct encoder *encoder, const struct codec_limits *limits);
void encoder_fini(struct encoder *encoder);

/* Makes it ready for another message, keeping its memory. */
void encoder_reset(struct encoder *encoder);

/*
 * Adds a value. Tensors' storages are collected, each once per message; a storage of which little is viewed is
 * compacted first: a view whose bytes times 2 are at most its storage's, where that has more than 8 KiB, is cloned,
 * once a message. Errors: TDR_ESHARED (a container met twice: names its places, as in "args[1]['x'] is the same list as
 * args[0]"; `encode_value` calls the root "value"), TDR_ELIMIT, TDR_ENOMEM, TDR_EUNSUPPORTED (a tensor that is not on
 * the CPU, a native object that has no export, an RRef without `rrefs`), what `rrefs` returns, or what tdr_value_status says of a
 * TDR_INVALID value. After an error the encoder is good for encoder_reset and encoder_fini.
 */
tdr_status encode_value(struct encoder *encoder, const tdr_value *value);

/* The same, calling the root `root` (not copied) in errors, such as "args". */
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
	const uint8_t *start, *at, *end;
	const struct codec_limits *limits;
	tdr_storage *const *storages; /* borrowed, [nstorages] */
	size_t nstorages;
	const struct codec_rrefs *rrefs; /* set after decoder_init; NULL: none can be taken */
	void *rrefs_context;
	size_t nrrefs; /* references that were read */
	/* the decoder's own: */
	size_t depth;
	size_t memory_left;
};

void decoder_init(struct decoder *decoder, const struct codec_limits *limits, const void *body, size_t size,
                  tdr_storage *const storages[], size_t nstorages);

/*
 * Reads one value. Strings, bytes and containers are copied out of the body; tensors refer to the storages. Errors:
 * TDR_EPROTO, TDR_ELIMIT, TDR_EUNSUPPORTED (an RRef without `rrefs`), TDR_ENOMEM, what `rrefs` returns; then the rest
 * of the body makes no sense.
 */
tdr_status decode_value(struct decoder *decoder, tdr_value **ret_value);

/*
 * Single parts. Strings and bytes are borrowed from the body, and end in no NUL; strings are UTF-8. Of an array's items
 * at least one byte each is there. Errors: TDR_EPROTO, where nothing has been read.
 */
bool decode_is_nil(struct decoder *decoder); /* whether a nil comes next; it is read if so */
tdr_status decode_bool(struct decoder *decoder, bool *ret_truth);
tdr_status decode_int(struct decoder *decoder, int64_t *ret_number);
tdr_status decode_uint(struct decoder *decoder, uint64_t *ret_number);
tdr_status decode_u32(struct decoder *decoder, uint32_t *ret_number);
tdr_status decode_string(struct decoder *decoder, const char **ret_text, size_t *ret_size);
tdr_status decode_bytes(struct decoder *decoder, const void **ret_data, size_t *ret_size);
tdr_status decode_array(struct decoder *decoder, size_t *ret_count);

/* A string copied to ret_text [room], with its NUL; TDR_ELIMIT where it is longer. */
tdr_status decode_text(struct decoder *decoder, char *ret_text, size_t room);

/* TDR_EPROTO unless all has been read. */
tdr_status decode_end(struct decoder *decoder);

#endif
