/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes to values.
 *
 * The bytes come from outside. What each part claims has been held against the bytes that are there (decode_part)
 * before memory is taken for it. Containers can be nested, each claiming all that is left; so the memory of all values
 * is also counted against a bound that grows with the bytes.
 */
#include "value/decode.h"

#include "base/error.h"
#include "base/utf8.h"
#include "value/device.h"
#include "value/layout.h"
#include "value/msgpack.h"

#include <stdlib.h>
#include <tendril/args.h>

/* What a tensor takes at most, beside its sizes and strides. */
#define TENSOR_MEMORY 192

/* What a reference takes at most, whoever makes it. */
#define RREF_MEMORY 256

/* What the index of a large dict or set takes at most for an item. */
#define INDEX_MEMORY 32

static tdr_status decode_any(struct decoder *decoder, tdr_value **ret_value);

/* Counts memory that a value is about to take. */
static inline tdr_status charge(struct decoder *decoder, size_t size)
{
	if (unlikely(size > decoder->memory_left))
		return error_set(TDR_ELIMIT, "the values in %zu bytes take more memory than is allowed for them",
		                 (size_t)(decoder->end - decoder->start));
	decoder->memory_left -= size;
	return TDR_OK;
}

/* Hands out a value that a constructor made, unless it failed. */
static inline tdr_status made(tdr_value *value, tdr_value **ret_value)
{
	if (unlikely(value->kind == TDR_INVALID))
		return tdr_value_status(value);
	*ret_value = value;
	return TDR_OK;
}

/* ---- strings, numbers ---- */

static tdr_status decode_blob(struct decoder *decoder, const struct part *part, tdr_value **ret_value)
{
	bool text = part->kind == PART_STRING;
	tdr_status status = charge(decoder, sizeof(struct blob_value) + part->number);

	if (status != TDR_OK)
		return status;
	if (text && !utf8_valid(part->body, part->number))
		return malformed(decoder, decoder->at, "a string that is not UTF-8");
	decoder->at = part->body + part->number;
	return made(blob_new(text ? TDR_STRING : TDR_BYTES, part->body, part->number), ret_value);
}

static tdr_status decode_number(struct decoder *decoder, const struct part *part, tdr_value **ret_value)
{
	tdr_status status = charge(decoder, sizeof(struct int_value));

	if (status != TDR_OK)
		return status;
	decoder->at = part->body;
	if (part->kind == PART_FLOAT)
		return made(tdr_float(part->real), ret_value);
	if (part->kind == PART_INT)
		return made(tdr_int((int64_t)part->number), ret_value);
	return made(tdr_value_of_uint(part->number), ret_value);
}

/* ---- tensors ---- */

/* Reads the sizes, and the strides if they are there, of a tensor whose extension has the right size. */
static tdr_status make_view(struct decoder *decoder, const struct wire_tensor *wire, const uint8_t *shape,
                            tdr_tensor **ret_tensor)
{
	int64_t sizes[TDR_MAX_DIMS], strides[TDR_MAX_DIMS];
	size_t size = wire->ndim * sizeof(sizes[0]);
	bool plain = wire->flags & WIRE_TENSOR_CONTIGUOUS;
	tdr_status status;

	memcpy(sizes, shape, size);
	if (!plain)
		memcpy(strides, shape + size, size);
	status = tdr_tensor_view(decoder->storages[wire->storage], (tdr_dtype)wire->dtype, wire->ndim, sizes,
	                         plain ? NULL : strides, wire->offset, ret_tensor);
	if (status == TDR_OK)
		tdr_tensor_set_requires_grad(*ret_tensor, wire->flags & WIRE_TENSOR_REQUIRES_GRAD);
	else if (status != TDR_ENOMEM)
		status = malformed(decoder, decoder->at, "a tensor of storage %u: %s", wire->storage, tdr_last_error());
	return status;
}

static tdr_status decode_tensor(struct decoder *decoder, const struct part *part, tdr_tensor **ret_tensor)
{
	struct wire_tensor wire;
	size_t nshapes;
	tdr_status status;

	if (part->kind != PART_EXTENSION || part->extension != EXTENSION_TENSOR || part->number < sizeof(wire))
		return malformed(decoder, decoder->at, "wanted a tensor");
	memcpy(&wire, part->body, sizeof(wire));
	nshapes = wire.flags & WIRE_TENSOR_CONTIGUOUS ? 1 : 2;
	if (wire.flags & ~WIRE_TENSOR_FLAGS || wire.zero != 0)
		return malformed(decoder, decoder->at, "a tensor with unknown flags");
	if (wire.ndim > TDR_MAX_DIMS || part->number != sizeof(wire) + nshapes * wire.ndim * sizeof(int64_t))
		return malformed(decoder, decoder->at, "a tensor of %u dimensions in %llu bytes", wire.ndim,
		                 (unsigned long long)part->number);
	if (wire.storage >= decoder->nstorages)
		return malformed(decoder, decoder->at, "a tensor of storage %u, but the message has %zu", wire.storage,
		                 decoder->nstorages);
	status = charge(decoder, TENSOR_MEMORY + 2 * wire.ndim * sizeof(int64_t));
	if (status == TDR_OK)
		status = make_view(decoder, &wire, part->body + sizeof(wire), ret_tensor);
	if (status == TDR_OK)
		decoder->at = part->body + part->number;
	return status;
}

static tdr_status decode_tensor_value(struct decoder *decoder, const struct part *part, tdr_value **ret_value)
{
	tdr_tensor *tensor = NULL;
	tdr_status status = charge(decoder, sizeof(struct tensor_value));

	if (status == TDR_OK)
		status = decode_tensor(decoder, part, &tensor);
	if (status != TDR_OK)
		return status;
	status = made(tdr_tensor_value(tensor), ret_value);
	tdr_tensor_unref(tensor);
	return status;
}

/* ---- extensions ---- */

static tdr_status decode_complex(struct decoder *decoder, const struct part *part, tdr_value **ret_value)
{
	double parts[2];
	tdr_status status = charge(decoder, sizeof(struct complex_value));

	if (status != TDR_OK)
		return status;
	if (part->number != sizeof(parts))
		return malformed(decoder, decoder->at, "a complex number of %llu bytes",
		                 (unsigned long long)part->number);
	memcpy(parts, part->body, sizeof(parts));
	decoder->at = part->body + sizeof(parts);
	return made(tdr_complex(parts[0], parts[1]), ret_value);
}

static tdr_status decode_bigint(struct decoder *decoder, const struct part *part, tdr_value **ret_value)
{
	tdr_status status = charge(decoder, sizeof(struct blob_value) + part->number);

	if (status != TDR_OK)
		return status;
	if (part->number == 0)
		return malformed(decoder, decoder->at, "an int of no bytes");
	decoder->at = part->body + part->number;
	return made(tdr_bigint(part->body, part->number), ret_value);
}

static tdr_status decode_device(struct decoder *decoder, const struct part *part, tdr_value **ret_value)
{
	int32_t parts[2];
	tdr_device device;
	tdr_status status = charge(decoder, sizeof(struct device_value));

	if (status != TDR_OK)
		return status;
	if (part->number != sizeof(parts))
		return malformed(decoder, decoder->at, "a device of %llu bytes", (unsigned long long)part->number);
	memcpy(parts, part->body, sizeof(parts));
	device = (tdr_device){.type = (tdr_device_type)parts[0], .index = parts[1]};
	if (!device_valid(device))
		return malformed(decoder, decoder->at, "no device has type %d and index %d", parts[0], parts[1]);
	decoder->at = part->body + sizeof(parts);
	return made(tdr_device_value(device), ret_value);
}

static tdr_status decode_rref(struct decoder *decoder, const struct part *part, tdr_value **ret_value)
{
	tdr_rref *rref = NULL;
	tdr_status status;

	if (part->number == 0 || part->number > RREF_WIRE_MAX)
		return malformed(decoder, decoder->at, "a reference of %llu bytes", (unsigned long long)part->number);
	if (!decoder->rrefs)
		return error_set(TDR_EUNSUPPORTED, "an RRef came, but none can be taken here: arguments and results "
		                                   "alone carry them");
	status = charge(decoder, sizeof(struct rref_value) + RREF_MEMORY);
	if (status == TDR_OK)
		status = decoder->rrefs->decode(decoder->rrefs_context, part->body, part->number, &rref);
	if (status != TDR_OK)
		return status;
	decoder->at = part->body + part->number;
	decoder->nrrefs++;
	status = made(tdr_rref_value(rref), ret_value);
	tdr_rref_unref(rref);
	return status;
}

static tdr_status decode_extension(struct decoder *decoder, const struct part *part, tdr_value **ret_value)
{
	switch (part->extension) {
	case EXTENSION_COMPLEX:
		return decode_complex(decoder, part, ret_value);
	case EXTENSION_BIGINT:
		return decode_bigint(decoder, part, ret_value);
	case EXTENSION_TENSOR:
		return decode_tensor_value(decoder, part, ret_value);
	case EXTENSION_DEVICE:
		return decode_device(decoder, part, ret_value);
	case EXTENSION_RREF:
		return decode_rref(decoder, part, ret_value);
	case EXTENSION_TUPLE:
	case EXTENSION_SET:
	case EXTENSION_OBJECT:
		return malformed(decoder, decoder->at, "extension %d anywhere but first in an array, or not empty",
		                 part->extension);
	default:
		return malformed(decoder, decoder->at, "extension %d is not known", part->extension);
	}
}

/* ---- objects ---- */

static tdr_status decode_tensors(struct decoder *decoder, tdr_tensor **tensors, size_t count)
{
	tdr_status status = TDR_OK;

	for (size_t i = 0; i < count && status == TDR_OK; i++) {
		struct part part;

		status = decode_part(decoder, &part);
		if (status == TDR_OK)
			status = decode_tensor(decoder, &part, &tensors[i]);
	}
	return status;
}

/* Format, data, and `ntensors` tensors behind them. */
static tdr_status decode_object(struct decoder *decoder, size_t ntensors, tdr_value **ret_value)
{
	char format[OBJECT_FORMAT_SIZE];
	const char *format_text;
	const void *data;
	size_t format_size, size;
	tdr_tensor **tensors;
	tdr_status status;

	status = decode_string(decoder, &format_text, &format_size);
	if (status != TDR_OK)
		return status;
	if (format_size >= sizeof(format) || memchr(format_text, '\0', format_size))
		return malformed(decoder, decoder->at, "an object's format that is too long, or has a NUL");
	memcpy(format, format_text, format_size);
	format[format_size] = '\0';
	status = decode_bytes(decoder, &data, &size);
	if (status == TDR_OK)
		status =
		    charge(decoder, sizeof(struct object_value) + format_size + size + 2 * ntensors * sizeof(*tensors));
	if (status != TDR_OK)
		return status;
	tensors = calloc(ntensors + 1, sizeof(*tensors));
	if (!tensors)
		return error_nomem();
	status = decode_tensors(decoder, tensors, ntensors);
	if (status == TDR_OK)
		status = made(tdr_object(format, data, size, ntensors, tensors), ret_value);
	for (size_t i = 0; i < ntensors; i++)
		tdr_tensor_unref(tensors[i]);
	free(tensors);
	return status;
}

/* ---- containers ---- */

/* One item of a set, or one pair of a dict. */
static tdr_status decode_keyed(struct decoder *decoder, struct container_value *container)
{
	const uint8_t *place = decoder->at;
	tdr_value *key = NULL, *value = NULL;
	enum reason reason;
	uint32_t position;
	tdr_status status = decode_any(decoder, &key);

	if (status == TDR_OK && !value_is_key(key))
		status = malformed(decoder, place, "%s cannot be a key", tdr_kind_name((tdr_kind)key->kind));
	if (status == TDR_OK && container->head.kind == TDR_DICT)
		status = decode_any(decoder, &value);
	if (status == TDR_OK) {
		reason = container_put(container, key, value, &position);
		if (reason == REASON_NONE)
			return TDR_OK;
		status = reason == REASON_TWICE ? malformed(decoder, place, "a key that was there before")
		                                : reason_error(reason);
	}
	tdr_value_unref(key);
	tdr_value_unref(value);
	return status;
}

static tdr_status decode_items(struct decoder *decoder, struct container_value *container, size_t count)
{
	tdr_status status = TDR_OK;

	if (container->head.kind == TDR_DICT || container->head.kind == TDR_SET) {
		for (size_t i = 0; i < count && status == TDR_OK; i++)
			status = decode_keyed(decoder, container);
		return status;
	}
	for (size_t i = 0; i < count; i++) {
		tdr_value *item = NULL;

		status = decode_any(decoder, &item);
		if (unlikely(status != TDR_OK))
			break;
		container_push(container, item);
	}
	return status;
}

static tdr_status decode_container(struct decoder *decoder, tdr_kind kind, size_t count, tdr_value **ret_value)
{
	size_t deepest = MIN_OF(decoder->limits->max_depth, (size_t)TDR_MAX_DEPTH);
	size_t size = sizeof(struct container_value) + count * container_width(kind) * sizeof(tdr_value *);
	struct container_value *container;
	tdr_status status;

	if (decoder->depth >= deepest)
		return error_set(TDR_ELIMIT, "containers are nested more than %zu deep", deepest);
	if ((kind == TDR_DICT || kind == TDR_SET) && count > CONTAINER_FEW)
		size += count * INDEX_MEMORY;
	status = charge(decoder, size);
	if (status != TDR_OK)
		return status;
	container = container_new(kind, count);
	if (!container)
		return error_nomem();
	decoder->depth++;
	status = decode_items(decoder, container, count);
	decoder->depth--;
	if (status == TDR_OK)
		*ret_value = &container->head;
	else
		tdr_value_unref(&container->head);
	return status;
}

/* A list; or, where an empty extension comes first, what that says. */
static tdr_status decode_marked(struct decoder *decoder, const struct part *part, tdr_value **ret_value)
{
	const uint8_t *marker = part->body;
	size_t count = part->number;

	decoder->at = part->body;
	if (count == 0 || (size_t)(decoder->end - marker) < MARKER_SIZE || marker[0] != LEAD_EXT8 || marker[1] != 0)
		return decode_container(decoder, TDR_LIST, count, ret_value);
	switch (marker[2]) {
	case EXTENSION_TUPLE:
		decoder->at += MARKER_SIZE;
		return decode_container(decoder, TDR_TUPLE, count - 1, ret_value);
	case EXTENSION_SET:
		decoder->at += MARKER_SIZE;
		return decode_container(decoder, TDR_SET, count - 1, ret_value);
	case EXTENSION_OBJECT:
		if (count < 3)
			return malformed(decoder, marker, "an object without format and data");
		decoder->at += MARKER_SIZE;
		return decode_object(decoder, count - 3, ret_value);
	default:
		return decode_container(decoder, TDR_LIST, count, ret_value);
	}
}

static tdr_status decode_any(struct decoder *decoder, tdr_value **ret_value)
{
	struct part part;
	tdr_status status = decode_part(decoder, &part);

	if (unlikely(status != TDR_OK))
		return status;
	switch (part.kind) {
	case PART_NIL:
		decoder->at = part.body;
		*ret_value = tdr_none();
		return TDR_OK;
	case PART_BOOL:
		decoder->at = part.body;
		*ret_value = tdr_bool(part.number != 0);
		return TDR_OK;
	case PART_INT:
	case PART_UINT:
	case PART_FLOAT:
		return decode_number(decoder, &part, ret_value);
	case PART_STRING:
	case PART_BYTES:
		return decode_blob(decoder, &part, ret_value);
	case PART_ARRAY:
		return decode_marked(decoder, &part, ret_value);
	case PART_MAP:
		decoder->at = part.body;
		return decode_container(decoder, TDR_DICT, part.number, ret_value);
	case PART_EXTENSION:
		break;
	}
	return decode_extension(decoder, &part, ret_value);
}

tdr_status decode_value(struct decoder *decoder, tdr_value **ret_value)
{
	return decode_any(decoder, ret_value);
}
