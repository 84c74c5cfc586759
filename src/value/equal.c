/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When values are equal, and the hashes that go with it.
 *
 * Numbers are compared as numbers, so that 0.0 equals -0.0, but every NaN equals every other: a value equals itself.
 */
#include "value/device.h"
#include "value/layout.h"
#include "value/rref_value.h"

#include <math.h>
#include <string.h>

static bool same_float(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

/* ---- tensors ---- */

/* The floating-point parts of an element: how many (0: its bytes say all), and the bits of each. */
struct float_form {
	unsigned parts;
	unsigned size; /* bytes of a part */
	uint64_t infinity;
};

static struct float_form float_form(tdr_dtype dtype)
{
	switch (dtype) {
	case TDR_F16:
		return (struct float_form){1, 2, 0x7c00};
	case TDR_BF16:
		return (struct float_form){1, 2, 0x7f80};
	case TDR_F32:
		return (struct float_form){1, 4, 0x7f800000};
	case TDR_F64:
		return (struct float_form){1, 8, 0x7ff0000000000000};
	case TDR_C64:
		return (struct float_form){2, 4, 0x7f800000};
	case TDR_C128:
		return (struct float_form){2, 8, 0x7ff0000000000000};
	default:
		return (struct float_form){0};
	}
}

static bool same_parts(const struct float_form *form, const uint8_t *a, const uint8_t *b)
{
	for (unsigned i = 0; i < form->parts; i++) {
		uint64_t sign = (uint64_t)1 << (form->size * 8 - 1);
		uint64_t x = 0, y = 0;

		memcpy(&x, a + i * form->size, form->size);
		memcpy(&y, b + i * form->size, form->size);
		if (x == y)
			continue;
		x &= ~sign;
		y &= ~sign;
		if (!(x == 0 && y == 0) && !(x > form->infinity && y > form->infinity))
			return false;
	}
	return true;
}

/* The dimensions along which one of two tensors of the same sizes moves; strides in bytes. */
struct walk {
	size_t ndim;
	int64_t sizes[TDR_MAX_DIMS], strides_a[TDR_MAX_DIMS], strides_b[TDR_MAX_DIMS];
};

/*
 * A dimension of size 1 is left out, since its stride means nothing; and so is one along which neither tensor moves:
 * one that is expanded has as many elements as its maker likes.
 */
static void walk_init(struct walk *walk, const tdr_tensor *a, const tdr_tensor *b)
{
	int64_t element = (int64_t)tdr_dtype_size(tdr_tensor_dtype(a));

	walk->ndim = 0;
	for (size_t dim = 0; dim < tdr_tensor_ndim(a); dim++) {
		int64_t stride_a = tdr_tensor_strides(a)[dim], stride_b = tdr_tensor_strides(b)[dim];

		if (tdr_tensor_sizes(a)[dim] == 1 || (stride_a == 0 && stride_b == 0))
			continue;
		walk->sizes[walk->ndim] = tdr_tensor_sizes(a)[dim];
		walk->strides_a[walk->ndim] = stride_a * element;
		walk->strides_b[walk->ndim] = stride_b * element;
		walk->ndim++;
	}
}

static bool same_elements(const tdr_tensor *a, const tdr_tensor *b)
{
	const uint8_t *data_a = tdr_tensor_data(a), *data_b = tdr_tensor_data(b);
	size_t element = tdr_dtype_size(tdr_tensor_dtype(a)), dim;
	struct float_form form = float_form(tdr_tensor_dtype(a));
	int64_t index[TDR_MAX_DIMS] = {0}, at_a = 0, at_b = 0;
	struct walk walk;

	walk_init(&walk, a, b);
	do {
		if (memcmp(data_a + at_a, data_b + at_b, element) != 0 &&
		    !(form.parts > 0 && same_parts(&form, data_a + at_a, data_b + at_b)))
			return false;
		/* The next place: the last dimension that has one goes on, those behind it begin again. */
		for (dim = walk.ndim; dim-- > 0;) {
			at_a += walk.strides_a[dim];
			at_b += walk.strides_b[dim];
			if (++index[dim] < walk.sizes[dim])
				break;
			at_a -= walk.sizes[dim] * walk.strides_a[dim];
			at_b -= walk.sizes[dim] * walk.strides_b[dim];
			index[dim] = 0;
		}
	} while (dim != SIZE_MAX);
	return true;
}

/* Whether both have one layout, and the same bytes from their first element to their last. There are elements. */
static bool same_bytes(const tdr_tensor *a, const tdr_tensor *b)
{
	size_t ndim = tdr_tensor_ndim(a);
	int64_t last = 0;

	for (size_t dim = 0; dim < ndim; dim++) {
		if (tdr_tensor_sizes(a)[dim] == 1)
			continue;
		if (tdr_tensor_strides(a)[dim] != tdr_tensor_strides(b)[dim])
			return false;
		last += (tdr_tensor_sizes(a)[dim] - 1) * tdr_tensor_strides(a)[dim];
	}
	return tdr_tensor_data(a) == tdr_tensor_data(b) ||
	       memcmp(tdr_tensor_data(a), tdr_tensor_data(b),
	              ((size_t)last + 1) * tdr_dtype_size(tdr_tensor_dtype(a))) == 0;
}

static bool same_tensor(const tdr_tensor *a, const tdr_tensor *b)
{
	size_t ndim = tdr_tensor_ndim(a);

	if (a == b)
		return true;
	if (tdr_tensor_dtype(a) != tdr_tensor_dtype(b) || ndim != tdr_tensor_ndim(b))
		return false;
	for (size_t i = 0; i < ndim; i++)
		if (tdr_tensor_sizes(a)[i] != tdr_tensor_sizes(b)[i])
			return false;
	if (tdr_tensor_numel(a) == 0)
		return true;
	/* Memory of another device is not ours to read. */
	if (tdr_tensor_device(a).type != TDR_CPU || tdr_tensor_device(b).type != TDR_CPU)
		return false;
	return same_bytes(a, b) || same_elements(a, b);
}

/* ---- values ---- */

static bool same_blob(const tdr_value *a, const tdr_value *b)
{
	const struct blob_value *x = (const struct blob_value *)a, *y = (const struct blob_value *)b;

	return x->size == y->size && memcmp(x->data, y->data, x->size) == 0;
}

static bool same_int(const tdr_value *a, const tdr_value *b)
{
	if (a->big || b->big)
		return a->big && b->big && same_blob(a, b);
	return ((const struct int_value *)a)->number == ((const struct int_value *)b)->number;
}

static bool same_complex(const tdr_value *a, const tdr_value *b)
{
	const struct complex_value *x = (const struct complex_value *)a, *y = (const struct complex_value *)b;

	return same_float(x->real, y->real) && same_float(x->imaginary, y->imaginary);
}

static bool same_object(const tdr_value *a, const tdr_value *b)
{
	const struct object_value *x = (const struct object_value *)a, *y = (const struct object_value *)b;

	if (strcmp(x->format, y->format) != 0 || x->size != y->size || memcmp(x->data, y->data, x->size) != 0 ||
	    x->ntensors != y->ntensors)
		return false;
	for (size_t i = 0; i < x->ntensors; i++)
		if (!same_tensor(x->tensors[i], y->tensors[i]))
			return false;
	return true;
}

static bool same_rref(const tdr_rref *a, const tdr_rref *b)
{
	return a == b || (a->ops == b->ops && a->ops->equal(a, b));
}

static bool same_native(const tdr_value *a, const tdr_value *b)
{
	const struct native_value *x = (const struct native_value *)a, *y = (const struct native_value *)b;

	return x->object == y->object && strcmp(x->type, y->type) == 0;
}

static bool same_container(const tdr_value *a, const tdr_value *b)
{
	const struct container_value *x = (const struct container_value *)a, *y = (const struct container_value *)b;

	if (x->count != y->count)
		return false;
	for (uint32_t i = 0; i < x->count; i++) {
		uint32_t there = i;

		switch (x->head.kind) {
		case TDR_DICT:
			if (!container_find(y, x->items[i * 2], &there) ||
			    !tdr_value_equal(x->items[i * 2 + 1], y->items[there * 2 + 1]))
				return false;
			break;
		case TDR_SET:
			if (!container_find(y, x->items[i], &there))
				return false;
			break;
		default:
			if (!tdr_value_equal(x->items[i], y->items[i]))
				return false;
			break;
		}
	}
	return true;
}

bool tdr_value_equal(const tdr_value *a, const tdr_value *b)
{
	if (a == b)
		return true;
	if (!a || !b || a->kind != b->kind)
		return false;
	switch ((tdr_kind)a->kind) {
	case TDR_NONE:
		return true;
	case TDR_KIND_BOOL:
	case TDR_INT:
		return same_int(a, b);
	case TDR_FLOAT:
		return same_float(((const struct float_value *)a)->number, ((const struct float_value *)b)->number);
	case TDR_COMPLEX:
		return same_complex(a, b);
	case TDR_STRING:
	case TDR_BYTES:
		return same_blob(a, b);
	case TDR_LIST:
	case TDR_TUPLE:
	case TDR_DICT:
	case TDR_SET:
		return same_container(a, b);
	case TDR_TENSOR:
		return same_tensor(((const struct tensor_value *)a)->tensor, ((const struct tensor_value *)b)->tensor);
	case TDR_DEVICE:
		return device_equal(((const struct device_value *)a)->device, ((const struct device_value *)b)->device);
	case TDR_OBJECT:
		return same_object(a, b);
	case TDR_RREF:
		return same_rref(((const struct rref_value *)a)->rref, ((const struct rref_value *)b)->rref);
	case TDR_NATIVE:
		return same_native(a, b);
	case TDR_INVALID:
		break;
	}
	return false;
}

/* ---- keys ---- */

bool value_is_key(const tdr_value *value)
{
	switch ((tdr_kind)value->kind) {
	case TDR_INVALID:
	case TDR_LIST:
	case TDR_DICT:
	case TDR_SET:
	case TDR_TENSOR:
	case TDR_NATIVE:
		return false;
	case TDR_TUPLE:
		for (size_t i = 0; i < tdr_value_count(value); i++)
			if (!value_is_key(tdr_value_item(value, i)))
				return false;
		return true;
	default:
		return true;
	}
}

uint64_t value_hash_string(const void *text, size_t size)
{
	return hash_bytes(text, size);
}

static uint64_t hash_float(double number)
{
	uint64_t bits;

	if (number == 0)
		number = 0; /* drops the sign */
	if (isnan(number))
		number = NAN;
	memcpy(&bits, &number, sizeof(bits));
	return hash_word(bits ^ TDR_FLOAT);
}

uint64_t value_hash(const tdr_value *key)
{
	const tdr_rref *rref;
	uint64_t hash;

	switch ((tdr_kind)key->kind) {
	case TDR_KIND_BOOL:
	case TDR_INT:
		if (!key->big)
			return hash_word((uint64_t)((const struct int_value *)key)->number ^ (uint64_t)key->kind << 56);
		/* fall through */
	case TDR_STRING:
	case TDR_BYTES:
		return hash_bytes(((const struct blob_value *)key)->data, ((const struct blob_value *)key)->size);
	case TDR_FLOAT:
		return hash_float(((const struct float_value *)key)->number);
	case TDR_COMPLEX:
		hash = hash_float(((const struct complex_value *)key)->real);
		return hash_word(hash + hash_float(((const struct complex_value *)key)->imaginary) * 3);
	case TDR_DEVICE:
		return hash_word(((const struct device_value *)key)->device.type); /* there are few: index or not */
	case TDR_OBJECT:
		return hash_bytes(((const struct object_value *)key)->data, ((const struct object_value *)key)->size);
	case TDR_RREF:
		rref = ((const struct rref_value *)key)->rref;
		return rref->ops->hash(rref);
	case TDR_TUPLE:
		hash = tdr_value_count(key);
		for (size_t i = 0; i < tdr_value_count(key); i++)
			hash = hash_word(hash * 3 + value_hash(tdr_value_item(key, i)));
		return hash;
	default:
		return hash_word(key->kind);
	}
}
