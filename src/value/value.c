/* SPDX-License-Identifier: Apache-2.0 */
/* Making and reading values that are no containers, and the counting of all. */
#include "value/layout.h"

#include "base/error.h"
#include "base/utf8.h"
#include "value/device.h"

#include <stdlib.h>
#include <string.h>

/* Ints that need no memory: those that MessagePack writes in one byte. */
#define SMALLEST_INT (-32)
#define SMALL_INTS 160

#define HEAD(kind_) .head = {.refs = {1}, .kind = (kind_), .immortal = true}

static struct tdr_value none = {.refs = {1}, .kind = TDR_NONE, .immortal = true};
static struct int_value truths[2] = {{HEAD(TDR_KIND_BOOL), .number = 0}, {HEAD(TDR_KIND_BOOL), .number = 1}};

#define INT_1(n)                                                                                                       \
	{                                                                                                              \
		HEAD(TDR_INT), .number = (n)                                                                           \
	}
#define INT_4(n) INT_1(n), INT_1((n) + 1), INT_1((n) + 2), INT_1((n) + 3)
#define INT_16(n) INT_4(n), INT_4((n) + 4), INT_4((n) + 8), INT_4((n) + 12)
static struct int_value small_ints[SMALL_INTS] = {
    INT_16(-32), INT_16(-16), INT_16(0),  INT_16(16), INT_16(32),
    INT_16(48),  INT_16(64),  INT_16(80), INT_16(96), INT_16(112),
};

static struct invalid_value invalids[REASONS] = {
#define INVALID_ROW(name, status, text) [name] = {HEAD(TDR_INVALID), .reason = (name)},
    REASON_LIST(INVALID_ROW)
#undef INVALID_ROW
};

static const struct {
	tdr_status status;
	const char *text;
} reasons[REASONS] = {
#define REASON_ROW(name, status, text) [name] = {status, text},
    REASON_LIST(REASON_ROW)
#undef REASON_ROW
};

static const char *const kind_names[] = {
#define KIND_ROW(name, number, text) [number] = (text),
    TDR_KIND_LIST(KIND_ROW)
#undef KIND_ROW
};

const char *tdr_kind_name(tdr_kind kind)
{
	return (size_t)kind < COUNT_OF(kind_names) ? kind_names[kind] : "?";
}

/* ---- making ---- */

void *value_alloc(tdr_kind kind, size_t size)
{
	tdr_value *value = malloc(size);

	if (!value)
		return NULL;
	*value = (tdr_value){.kind = (uint8_t)kind};
	refcount_init(&value->refs);
	return value;
}

tdr_value *value_invalid(enum reason reason)
{
	return &invalids[reason].head;
}

tdr_status reason_error(enum reason reason)
{
	return error_set(reasons[reason].status, "%s", reasons[reason].text);
}

tdr_value *tdr_none(void)
{
	return &none;
}

tdr_value *tdr_bool(bool truth)
{
	return &truths[truth].head;
}

tdr_value *tdr_int(int64_t number)
{
	struct int_value *value;

	if (number >= SMALLEST_INT && number < SMALLEST_INT + SMALL_INTS)
		return &small_ints[number - SMALLEST_INT].head;
	value = value_alloc(TDR_INT, sizeof(*value));
	if (!value)
		return value_invalid(REASON_MEMORY);
	value->number = number;
	return &value->head;
}

tdr_value *tdr_float(double number)
{
	struct float_value *value = value_alloc(TDR_FLOAT, sizeof(*value));

	if (!value)
		return value_invalid(REASON_MEMORY);
	value->number = number;
	return &value->head;
}

tdr_value *tdr_complex(double real, double imaginary)
{
	struct complex_value *value = value_alloc(TDR_COMPLEX, sizeof(*value));

	if (!value)
		return value_invalid(REASON_MEMORY);
	value->real = real;
	value->imaginary = imaginary;
	return &value->head;
}

tdr_value *blob_new(tdr_kind kind, const void *data, size_t size)
{
	struct blob_value *value = NULL;

	if (size < SIZE_MAX - sizeof(*value))
		value = value_alloc(kind, sizeof(*value) + size + 1);
	if (!value)
		return value_invalid(REASON_MEMORY);
	value->size = size;
	if (size > 0)
		memcpy(value->data, data, size);
	value->data[size] = '\0';
	return &value->head;
}

/*
 * How many bytes of a little-endian two's complement number hold it: the last ones that repeat the sign are not needed.
 */
static size_t bigint_size(const uint8_t *bytes, size_t size)
{
	uint8_t sign = bytes[size - 1] & 0x80 ? 0xff : 0;

	while (size > 1 && bytes[size - 1] == sign && (bytes[size - 2] & 0x80) == (sign & 0x80))
		size--;
	return size;
}

tdr_value *tdr_bigint(const void *bytes, size_t size)
{
	const uint8_t *at = bytes;
	tdr_value *value;

	if (size == 0)
		return tdr_int(0);
	if (!bytes)
		return value_invalid(REASON_NULL);
	size = bigint_size(at, size);
	if (size <= sizeof(int64_t)) {
		int64_t number = at[size - 1] & 0x80 ? -1 : 0;

		memcpy(&number, at, size);
		return tdr_int(number);
	}
	value = blob_new(TDR_INT, at, size);
	if (value->kind == TDR_INT)
		value->big = true;
	return value;
}

tdr_value *tdr_string(const char *text)
{
	return text ? tdr_string_n(text, strlen(text)) : value_invalid(REASON_NULL);
}

tdr_value *tdr_string_n(const char *text, size_t size)
{
	if (!text && size > 0)
		return value_invalid(REASON_NULL);
	if (!utf8_valid(text, size))
		return value_invalid(REASON_UTF8);
	return blob_new(TDR_STRING, text, size);
}

tdr_value *tdr_bytes(const void *data, size_t size)
{
	if (!data && size > 0)
		return value_invalid(REASON_NULL);
	return blob_new(TDR_BYTES, data, size);
}

tdr_value *tdr_tensor_value(tdr_tensor *tensor)
{
	struct tensor_value *value;

	if (!tensor)
		return value_invalid(REASON_NULL);
	value = value_alloc(TDR_TENSOR, sizeof(*value));
	if (!value)
		return value_invalid(REASON_MEMORY);
	value->tensor = tdr_tensor_ref(tensor);
	return &value->head;
}

tdr_value *tdr_device_value(tdr_device device)
{
	struct device_value *value;

	if (!device_valid(device))
		return value_invalid(REASON_DEVICE);
	value = value_alloc(TDR_DEVICE, sizeof(*value));
	if (!value)
		return value_invalid(REASON_MEMORY);
	value->device = device;
	return &value->head;
}

tdr_value *tdr_object(const char *format, const void *data, size_t size, size_t ntensors, tdr_tensor *const tensors[])
{
	struct object_value *value = NULL;
	size_t format_size;
	char *text;

	if (!format || (!data && size > 0) || (!tensors && ntensors > 0))
		return value_invalid(REASON_NULL);
	for (size_t i = 0; i < ntensors; i++)
		if (!tensors[i])
			return value_invalid(REASON_NULL);
	format_size = strlen(format) + 1;
	if (!utf8_valid(format, format_size))
		return value_invalid(REASON_UTF8);
	if (format_size > OBJECT_FORMAT_SIZE)
		return value_invalid(REASON_FORMAT);
	if (size < SIZE_MAX / 4 && ntensors < SIZE_MAX / 4 / sizeof(tensors[0]))
		value = value_alloc(TDR_OBJECT, sizeof(*value) + ntensors * sizeof(tensors[0]) + format_size + size);
	if (!value)
		return value_invalid(REASON_MEMORY);
	for (size_t i = 0; i < ntensors; i++)
		value->tensors[i] = tdr_tensor_ref(tensors[i]);
	value->ntensors = ntensors;
	text = (char *)&value->tensors[ntensors];
	memcpy(text, format, format_size);
	value->format = text;
	if (size > 0)
		memcpy(text + format_size, data, size);
	value->data = (uint8_t *)text + format_size;
	value->size = size;
	return &value->head;
}

/* ---- counting ---- */

tdr_value *tdr_value_ref(tdr_value *value)
{
	if (value && !value->immortal)
		refcount_get(&value->refs);
	return value;
}

static void object_empty(struct object_value *object)
{
	for (size_t i = 0; i < object->ntensors; i++)
		tdr_tensor_unref(object->tensors[i]);
}

static void value_free(tdr_value *value)
{
	switch ((tdr_kind)value->kind) {
	case TDR_LIST:
	case TDR_TUPLE:
	case TDR_DICT:
	case TDR_SET:
		container_empty((struct container_value *)value);
		break;
	case TDR_TENSOR:
		tdr_tensor_unref(((struct tensor_value *)value)->tensor);
		break;
	case TDR_OBJECT:
		object_empty((struct object_value *)value);
		break;
	case TDR_RREF:
		tdr_rref_unref(((struct rref_value *)value)->rref);
		break;
	case TDR_NATIVE:
		native_destroy((struct native_value *)value);
		break;
	default:
		break;
	}
	free(value);
}

tdr_value *tdr_value_unref(tdr_value *value)
{
	/* Who holds the only reference need not count it down: most values live and die in one hand. */
	if (value && !value->immortal && (!value_is_shared(value) || refcount_put(&value->refs)))
		value_free(value);
	return NULL;
}

/* ---- reading ---- */

tdr_kind tdr_value_kind(const tdr_value *value)
{
	return value ? (tdr_kind)value->kind : TDR_INVALID;
}

bool tdr_value_is_none(const tdr_value *value)
{
	return value && value->kind == TDR_NONE;
}

static enum reason reason_of(const tdr_value *value)
{
	if (!value)
		return REASON_NULL;
	return value->kind == TDR_INVALID ? ((const struct invalid_value *)value)->reason : REASON_NONE;
}

tdr_status tdr_value_status(const tdr_value *value)
{
	enum reason reason = reason_of(value);

	return reason == REASON_NONE ? TDR_OK : reason_error(reason);
}

enum reason value_unfit(const tdr_value *value)
{
	enum reason reason = reason_of(value);

	if (reason == REASON_NONE && value->depth >= TDR_MAX_DEPTH)
		reason = REASON_DEEP;
	return reason;
}

tdr_status wrong_kind(const tdr_value *value, const char *wanted)
{
	enum reason reason = reason_of(value);

	if (reason != REASON_NONE)
		return reason_error(reason);
	return error_set(TDR_ETYPE, "wanted %s, got %s", wanted, tdr_kind_name((tdr_kind)value->kind));
}

tdr_status tdr_value_get_bool(const tdr_value *value, bool *ret_truth)
{
	if (tdr_value_kind(value) != TDR_KIND_BOOL)
		return wrong_kind(value, "bool");
	*ret_truth = ((const struct int_value *)value)->number != 0;
	return TDR_OK;
}

tdr_status tdr_value_get_int(const tdr_value *value, int64_t *ret_number)
{
	if (tdr_value_kind(value) != TDR_INT)
		return wrong_kind(value, "int");
	if (value->big)
		return error_set(TDR_ELIMIT,
		                 "the int takes %zu bytes, more than 64 bits (tdr_value_get_bigint reads it)",
		                 ((const struct blob_value *)value)->size);
	*ret_number = ((const struct int_value *)value)->number;
	return TDR_OK;
}

tdr_status tdr_value_get_float(const tdr_value *value, double *ret_number)
{
	int64_t number = 0;
	tdr_status status;

	if (tdr_value_kind(value) == TDR_FLOAT) {
		*ret_number = ((const struct float_value *)value)->number;
		return TDR_OK;
	}
	if (tdr_value_kind(value) != TDR_INT)
		return wrong_kind(value, "float");
	status = tdr_value_get_int(value, &number);
	if (status == TDR_OK)
		*ret_number = (double)number;
	return status;
}

tdr_status tdr_value_get_complex(const tdr_value *value, double *ret_real, double *ret_imaginary)
{
	const struct complex_value *number = (const struct complex_value *)value;
	tdr_kind kind = tdr_value_kind(value);
	tdr_status status;

	if (kind != TDR_COMPLEX && kind != TDR_FLOAT && kind != TDR_INT)
		return wrong_kind(value, "complex");
	if (kind != TDR_COMPLEX) {
		status = tdr_value_get_float(value, ret_real);
		if (status == TDR_OK)
			*ret_imaginary = 0;
		return status;
	}
	*ret_real = number->real;
	*ret_imaginary = number->imaginary;
	return TDR_OK;
}

tdr_status tdr_value_get_device(const tdr_value *value, tdr_device *ret_device)
{
	if (tdr_value_kind(value) != TDR_DEVICE)
		return wrong_kind(value, "Device");
	*ret_device = ((const struct device_value *)value)->device;
	return TDR_OK;
}

tdr_status tdr_value_get_string(const tdr_value *value, const char **ret_text, size_t *ret_size)
{
	const struct blob_value *blob = (const struct blob_value *)value;

	if (tdr_value_kind(value) != TDR_STRING)
		return wrong_kind(value, "str");
	*ret_text = (const char *)blob->data;
	if (ret_size)
		*ret_size = blob->size;
	return TDR_OK;
}

tdr_status tdr_value_get_bytes(const tdr_value *value, const void **ret_data, size_t *ret_size)
{
	const struct blob_value *blob = (const struct blob_value *)value;

	if (tdr_value_kind(value) != TDR_BYTES)
		return wrong_kind(value, "bytes");
	*ret_data = blob->data;
	*ret_size = blob->size;
	return TDR_OK;
}

tdr_status tdr_value_get_tensor(const tdr_value *value, tdr_tensor **ret_tensor)
{
	if (tdr_value_kind(value) != TDR_TENSOR)
		return wrong_kind(value, "Tensor");
	*ret_tensor = ((const struct tensor_value *)value)->tensor;
	return TDR_OK;
}

tdr_status tdr_value_get_object(const tdr_value *value, const char **ret_format, const void **ret_data,
                                size_t *ret_size, size_t *ret_ntensors, tdr_tensor *const **ret_tensors)
{
	const struct object_value *object = (const struct object_value *)value;

	if (tdr_value_kind(value) != TDR_OBJECT)
		return wrong_kind(value, "object");
	*ret_format = object->format;
	*ret_data = object->data;
	*ret_size = object->size;
	*ret_ntensors = object->ntensors;
	*ret_tensors = object->tensors;
	return TDR_OK;
}

tdr_status tdr_value_get_bigint(const tdr_value *value, const void **ret_bytes, size_t *ret_size)
{
	if (tdr_value_kind(value) != TDR_INT)
		return wrong_kind(value, "int");
	if (value->big) {
		const struct blob_value *blob = (const struct blob_value *)value;

		*ret_bytes = blob->data;
		*ret_size = blob->size;
	} else {
		const struct int_value *small = (const struct int_value *)value;

		*ret_bytes = &small->number;
		*ret_size = bigint_size((const uint8_t *)&small->number, sizeof(small->number));
	}
	return TDR_OK;
}
