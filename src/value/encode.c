/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values to bytes. Each number, string and container takes the shortest form that MessagePack has for it, but for
 * floats, which always take 64 bits. All is written in one pass: nothing has to be known of a container but its count.
 */
#include "value/encode.h"

#include "base/error.h"
#include "value/layout.h"
#include "value/msgpack.h"

#include <assert.h>

const struct codec_limits codec_default_limits = {
    .max_depth = 64,
    .max_body_bytes = (size_t)64 << 20,
    .max_storages = 65536,
    .max_value_bytes = (size_t)1 << 20,
};

/* The longest form of a number, or of what leads a string, container or extension. */
#define LEAD_ROOM 9

void encoder_init(struct encoder *encoder, const struct codec_limits *limits)
{
	*encoder = (struct encoder){.limits = limits};
}

/* Drops what was sent in the place of native objects, once nothing points to it any more. */
static void drop_exported(struct encoder *encoder)
{
	tdr_value **values = (tdr_value **)(void *)encoder->exported.data;

	for (size_t i = 0; i < encoder->exported.size / sizeof(*values); i++)
		tdr_value_unref(values[i]);
	encoder->exported.size = 0;
}

void encoder_fini(struct encoder *encoder)
{
	collected_fini(encoder);
	shared_fini(encoder);
	drop_exported(encoder);
	buffer_fini(&encoder->exported);
	buffer_fini(&encoder->body);
}

void encoder_reset(struct encoder *encoder)
{
	collected_reset(encoder);
	shared_reset(encoder);
	drop_exported(encoder);
	encoder->body.size = 0;
	encoder->body.failed = false;
	encoder->depth = 0;
	encoder->nrrefs = 0;
}

/* ---- single parts ---- */

static void written(struct encoder *encoder, const uint8_t *end)
{
	encoder->body.size = (size_t)(end - encoder->body.data);
}

static void encode_byte(struct encoder *encoder, uint8_t byte)
{
	uint8_t *to = buffer_reserve(&encoder->body, LEAD_ROOM);

	if (unlikely(!to))
		return;
	*to = byte;
	encoder->body.size++;
}

void encode_nil(struct encoder *encoder)
{
	encode_byte(encoder, LEAD_NIL);
}

void encode_bool(struct encoder *encoder, bool truth)
{
	encode_byte(encoder, truth ? LEAD_TRUE : LEAD_FALSE);
}

void encode_uint(struct encoder *encoder, uint64_t number)
{
	uint8_t *to = buffer_reserve(&encoder->body, LEAD_ROOM);

	if (unlikely(!to))
		return;
	if (number <= INT8_MAX) {
		*to++ = (uint8_t)number;
	} else if (number <= UINT8_MAX) {
		*to++ = LEAD_UINT8;
		*to++ = (uint8_t)number;
	} else if (number <= UINT16_MAX) {
		*to++ = LEAD_UINT16;
		to = write_be16(to, (uint16_t)number);
	} else if (number <= UINT32_MAX) {
		*to++ = LEAD_UINT32;
		to = write_be32(to, (uint32_t)number);
	} else {
		*to++ = LEAD_UINT64;
		to = write_be64(to, number);
	}
	written(encoder, to);
}

void encode_int(struct encoder *encoder, int64_t number)
{
	uint8_t *to;

	if (number >= 0) {
		encode_uint(encoder, (uint64_t)number);
		return;
	}
	to = buffer_reserve(&encoder->body, LEAD_ROOM);
	if (unlikely(!to))
		return;
	if (number >= -32) {
		*to++ = (uint8_t)number;
	} else if (number >= INT8_MIN) {
		*to++ = LEAD_INT8;
		*to++ = (uint8_t)number;
	} else if (number >= INT16_MIN) {
		*to++ = LEAD_INT16;
		to = write_be16(to, (uint16_t)number);
	} else if (number >= INT32_MIN) {
		*to++ = LEAD_INT32;
		to = write_be32(to, (uint32_t)number);
	} else {
		*to++ = LEAD_INT64;
		to = write_be64(to, (uint64_t)number);
	}
	written(encoder, to);
}

static void encode_float(struct encoder *encoder, double number)
{
	uint8_t *to = buffer_reserve(&encoder->body, LEAD_ROOM);
	uint64_t bits;

	if (unlikely(!to))
		return;
	memcpy(&bits, &number, sizeof(bits));
	*to++ = LEAD_FLOAT64;
	written(encoder, write_be64(to, bits));
}

/*
 * What leads `size` bytes, items or pairs: `small` with the size in it where it is less than `nsmall`, else one of
 * three lead bytes with the size in 8, 16 or 32 bits; `lead8` 0 where there is no such form.
 */
static inline void encode_lead(struct encoder *encoder, size_t size, uint8_t small, size_t nsmall, uint8_t lead8,
                               uint8_t lead16)
{
	uint8_t *to = buffer_reserve(&encoder->body, LEAD_ROOM);

	if (unlikely(!to || size > UINT32_MAX)) {
		encoder->body.failed = true;
		return;
	}
	if (size < nsmall) {
		*to++ = (uint8_t)(small | size);
	} else if (lead8 && size <= UINT8_MAX) {
		*to++ = lead8;
		*to++ = (uint8_t)size;
	} else if (size <= UINT16_MAX) {
		*to++ = lead16;
		to = write_be16(to, (uint16_t)size);
	} else {
		*to++ = lead16 + 1;
		to = write_be32(to, (uint32_t)size);
	}
	written(encoder, to);
}

void encode_string(struct encoder *encoder, const char *text, size_t size)
{
	encode_lead(encoder, size, LEAD_FIXSTR, 32, LEAD_STR8, LEAD_STR16);
	buffer_append(&encoder->body, text, size);
}

void encode_bytes(struct encoder *encoder, const void *data, size_t size)
{
	encode_lead(encoder, size, 0, 0, LEAD_BIN8, LEAD_BIN16);
	buffer_append(&encoder->body, data, size);
}

void encode_array(struct encoder *encoder, size_t count)
{
	encode_lead(encoder, count, LEAD_FIXARRAY, 16, 0, LEAD_ARRAY16);
}

static void encode_map(struct encoder *encoder, size_t count)
{
	encode_lead(encoder, count, LEAD_FIXMAP, 16, 0, LEAD_MAP16);
}

void encode_extension(struct encoder *encoder, int type, size_t size)
{
	switch (size) {
	case 1:
	case 2:
	case 4:
	case 8:
	case 16:
		encode_byte(encoder, LEAD_FIXEXT1 + (uint8_t)__builtin_ctzl(size));
		break;
	default:
		encode_lead(encoder, size, 0, 0, LEAD_EXT8, LEAD_EXT16);
		break;
	}
	encode_byte(encoder, (uint8_t)type);
}

/* ---- values ---- */

static tdr_status check_size(const struct encoder *encoder, size_t more)
{
	size_t most = encoder->limits->max_body_bytes;

	if (likely(encoder->body.size <= most && more <= most - encoder->body.size))
		return TDR_OK;
	return error_set(TDR_ELIMIT,
	                 "the values take more than %zu bytes beside their tensors: send less at once, or as tensors",
	                 most);
}

static void encode_bigint(struct encoder *encoder, const struct blob_value *blob)
{
	uint64_t number;

	/* From 2^63 to 2^64 - 1: MessagePack has a form of its own. */
	if (blob->size == sizeof(number) + 1 && blob->data[sizeof(number)] == 0) {
		memcpy(&number, blob->data, sizeof(number));
		encode_uint(encoder, number);
		return;
	}
	encode_extension(encoder, EXTENSION_BIGINT, blob->size);
	buffer_append(&encoder->body, blob->data, blob->size);
}

static tdr_status encode_blob(struct encoder *encoder, const struct blob_value *blob)
{
	tdr_status status = check_size(encoder, blob->size);

	if (status != TDR_OK)
		return status;
	if (blob->head.kind == TDR_STRING)
		encode_string(encoder, (const char *)blob->data, blob->size);
	else if (blob->head.kind == TDR_BYTES)
		encode_bytes(encoder, blob->data, blob->size);
	else
		encode_bigint(encoder, blob);
	return TDR_OK;
}

static tdr_status encode_object(struct encoder *encoder, const struct object_value *object)
{
	tdr_status status = check_size(encoder, object->size);

	if (status != TDR_OK)
		return status;
	encode_array(encoder, 3 + object->ntensors);
	encode_extension(encoder, EXTENSION_OBJECT, 0);
	encode_string(encoder, object->format, strlen(object->format));
	encode_bytes(encoder, object->data, object->size);
	for (size_t i = 0; i < object->ntensors && status == TDR_OK; i++)
		status = encode_tensor(encoder, object->tensors[i]);
	return status;
}

static tdr_status encode_any(struct encoder *encoder, const tdr_value *value);

static tdr_status encode_container(struct encoder *encoder, const struct container_value *container)
{
	size_t nitems = container->count * container_width(container->head.kind);
	tdr_status status = TDR_OK;

	if (encoder->depth >= encoder->limits->max_depth)
		return error_set(TDR_ELIMIT, "containers are nested more than %zu deep", encoder->limits->max_depth);
	/* Every item takes a byte: no need to write a container that will not fit. */
	status = check_size(encoder, nitems);
	if (status == TDR_OK && value_is_shared(&container->head))
		status = shared_check(encoder, &container->head);
	if (status != TDR_OK)
		return status;
	switch ((tdr_kind)container->head.kind) {
	case TDR_DICT:
		encode_map(encoder, container->count);
		break;
	case TDR_LIST:
		encode_array(encoder, container->count);
		break;
	default:
		encode_array(encoder, (size_t)container->count + 1);
		encode_extension(encoder, container->head.kind == TDR_TUPLE ? EXTENSION_TUPLE : EXTENSION_SET, 0);
		break;
	}
	encoder->depth++;
	for (size_t i = 0; i < nitems && status == TDR_OK; i++)
		status = encode_any(encoder, container->items[i]);
	encoder->depth--;
	return status;
}

static void encode_complex(struct encoder *encoder, const struct complex_value *number)
{
	encode_extension(encoder, EXTENSION_COMPLEX, 2 * sizeof(number->real));
	buffer_append(&encoder->body, &number->real, sizeof(number->real));
	buffer_append(&encoder->body, &number->imaginary, sizeof(number->imaginary));
}

static void encode_device(struct encoder *encoder, tdr_device device)
{
	const int32_t parts[2] = {(int32_t)device.type, device.index};

	encode_extension(encoder, EXTENSION_DEVICE, sizeof(parts));
	buffer_append(&encoder->body, parts, sizeof(parts));
}

static tdr_status encode_rref(struct encoder *encoder, tdr_rref *rref)
{
	uint8_t bytes[RREF_WIRE_MAX];
	size_t size = 0;
	tdr_status status;

	if (!encoder->rrefs)
		return error_set(TDR_EUNSUPPORTED,
		                 "an RRef cannot travel here: arguments and results alone carry them");
	status = check_size(encoder, MARKER_SIZE);
	if (status == TDR_OK)
		status = encoder->rrefs->encode(encoder->rrefs_context, rref, bytes, &size);
	if (status != TDR_OK)
		return status;
	assert(size > 0 && size <= sizeof(bytes));
	encode_extension(encoder, EXTENSION_RREF, size);
	buffer_append(&encoder->body, bytes, size);
	encoder->nrrefs++;
	return TDR_OK;
}

/* What stands for the object is kept until all is written: it must not share its address with what comes later. */
static tdr_status encode_native(struct encoder *encoder, const struct native_value *native)
{
	tdr_value *value;
	tdr_status status = native_export(native, &value);

	if (status != TDR_OK)
		return status;
	buffer_append(&encoder->exported, &(tdr_value *){value}, sizeof(tdr_value *));
	if (encoder->exported.failed) {
		tdr_value_unref(value);
		return error_nomem();
	}
	return encode_any(encoder, value);
}

static tdr_status encode_any(struct encoder *encoder, const tdr_value *value)
{
	switch ((tdr_kind)value->kind) {
	case TDR_NONE:
		encode_nil(encoder);
		return TDR_OK;
	case TDR_KIND_BOOL:
		encode_bool(encoder, ((const struct int_value *)value)->number != 0);
		return TDR_OK;
	case TDR_INT:
		if (value->big)
			return encode_blob(encoder, (const struct blob_value *)value);
		encode_int(encoder, ((const struct int_value *)value)->number);
		return TDR_OK;
	case TDR_FLOAT:
		encode_float(encoder, ((const struct float_value *)value)->number);
		return TDR_OK;
	case TDR_COMPLEX:
		encode_complex(encoder, (const struct complex_value *)value);
		return TDR_OK;
	case TDR_STRING:
	case TDR_BYTES:
		return encode_blob(encoder, (const struct blob_value *)value);
	case TDR_LIST:
	case TDR_TUPLE:
	case TDR_DICT:
	case TDR_SET:
		return encode_container(encoder, (const struct container_value *)value);
	case TDR_TENSOR:
		return encode_tensor(encoder, ((const struct tensor_value *)value)->tensor);
	case TDR_DEVICE:
		encode_device(encoder, ((const struct device_value *)value)->device);
		return TDR_OK;
	case TDR_OBJECT:
		return encode_object(encoder, (const struct object_value *)value);
	case TDR_RREF:
		return encode_rref(encoder, ((const struct rref_value *)value)->rref);
	case TDR_NATIVE:
		return encode_native(encoder, (const struct native_value *)value);
	case TDR_INVALID:
		break;
	}
	return tdr_value_status(value);
}

tdr_status encode_value_as(struct encoder *encoder, const tdr_value *value, const char *root)
{
	tdr_status status = tdr_value_status(value);

	if (status == TDR_OK && value_is_container(value))
		status = shared_add_root(encoder, value, root);
	if (status == TDR_OK)
		status = encode_any(encoder, value);
	if (status == TDR_OK && encoder->body.failed)
		status = error_nomem();
	if (status == TDR_OK)
		status = check_size(encoder, 0);
	return status;
}

tdr_status encode_value(struct encoder *encoder, const tdr_value *value)
{
	return encode_value_as(encoder, value, "value");
}
