/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Types of schemas: printing them, and converting values to them.
 *
 * A value that conforms to its type as it is passes through without a copy; only where something in it has to change
 * is a new container built. Recursion is bounded by the type, which is at most SCHEMA_MAX_DEPTH deep, never by the
 * value.
 */
#include "function/schema.h"

#include "base/error.h"
#include "base/macros.h"
#include "value/device.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for the text of a type, and of a value, in an error. */
#define TYPE_TEXT_SIZE 128
#define VALUE_TEXT_SIZE 48

/* Where a value lies, for errors: the outermost place has `what`, the others an index or a key. */
struct place {
	const struct place *parent;
	const char *what;
	size_t index;
	const tdr_value *key; /* of a dict; NULL: `index` */
	bool is_key;          /* the key itself is meant, not what lies under it */
};

static tdr_status convert(const struct type *type, const struct place *place, tdr_value *value, tdr_value **ret_value);

void type_fini(struct type *type)
{
	for (size_t i = 0; i < type->nitems; i++)
		type_fini(&type->items[i]);
	free(type->items);
	free(type->name);
	*type = (struct type){.kind = TYPE_ANY};
}

size_t type_depth(const struct type *type)
{
	size_t deepest = 0;

	for (size_t i = 0; i < type->nitems; i++)
		deepest = MAX_OF(deepest, type_depth(&type->items[i]));
	return deepest + 1;
}

/* ---- text ---- */

struct text {
	char *at, *end; /* `end` is where the NUL goes at the latest */
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
	size_t room = (size_t)(text->end - text->at);
	va_list arguments;
	int size;

	va_start(arguments, format);
	size = vsnprintf(text->at, room + 1, format, arguments);
	va_end(arguments);
	if (size > 0)
		text->at += MIN_OF((size_t)size, room);
}

static void put_type(struct text *text, const struct type *type);

static void put_types(struct text *text, const struct type *type)
{
	put(text, "(");
	for (size_t i = 0; i < type->nitems; i++) {
		put(text, i > 0 ? ", " : "");
		put_type(text, &type->items[i]);
	}
	put(text, ")");
}

/* Of a type without items. */
static const char *type_name(const struct type *type)
{
	static const char *const names[] = {
	    [TYPE_ANY] = "Any",   [TYPE_TENSOR] = "Tensor", [TYPE_INT] = "int",       [TYPE_FLOAT] = "float",
	    [TYPE_BOOL] = "bool", [TYPE_SCALAR] = "Scalar", [TYPE_STRING] = "str",    [TYPE_COMPLEX] = "complex",
	    [TYPE_RREF] = "RRef", [TYPE_BYTES] = "bytes",   [TYPE_DEVICE] = "Device",
	};

	return names[type->kind];
}

static void put_type(struct text *text, const struct type *type)
{
	switch (type->kind) {
	case TYPE_LIST:
		put_type(text, &type->items[0]);
		if (type->length > 0)
			put(text, "[%zu]", type->length);
		else
			put(text, "[]");
		break;
	case TYPE_OPTIONAL:
		put_type(text, &type->items[0]);
		put(text, "?");
		break;
	case TYPE_TUPLE:
		if (type->nitems == 0)
			put(text, "None");
		else
			put_types(text, type);
		break;
	case TYPE_DICT:
		put(text, "Dict");
		put_types(text, type);
		break;
	case TYPE_NATIVE:
		put(text, "%s", type->name);
		break;
	default:
		put(text, "%s", type_name(type));
		break;
	}
}

void type_print(const struct type *type, char *buffer, size_t size)
{
	struct text text = {.at = buffer, .end = buffer + size - 1};

	assert(size > 0);
	put_type(&text, type);
}

static void put_place(struct text *text, const struct place *place)
{
	char key[VALUE_TEXT_SIZE];

	if (!place->parent) {
		put(text, "%s", place->what);
		return;
	}
	put_place(text, place->parent);
	if (!place->key) {
		put(text, "[%zu]", place->index);
		return;
	}
	tdr_value_print(place->key, key, sizeof(key));
	put(text, place->is_key ? " key %s" : "[%s]", key);
}

/* Keeps the place, and then what is wrong with what lies there, and is TDR_ETYPE. */
#define wrong(...) (wrong_text(__VA_ARGS__), TDR_ETYPE)

__attribute__((format(printf, 2, 3), cold)) static void wrong_text(const struct place *place, const char *format, ...)
{
	char where[ERROR_TEXT_SIZE / 2], problem[ERROR_TEXT_SIZE / 2];
	struct text text = {.at = where, .end = where + sizeof(where) - 1};
	va_list arguments;

	put_place(&text, place);
	va_start(arguments, format);
	vsnprintf(problem, sizeof(problem), format, arguments);
	va_end(arguments);
	error_set(TDR_ETYPE, "%s %s", where, problem);
}

static tdr_status wrong_type(const struct place *place, const struct type *type, const tdr_value *value)
{
	bool optional = type->kind == TYPE_OPTIONAL;
	char text[TYPE_TEXT_SIZE];

	type_print(optional ? &type->items[0] : type, text, sizeof(text));
	return wrong(place, "must be %s%s, not %s", text, optional ? " or None" : "",
	             tdr_native_type(value) ? tdr_native_type(value) : tdr_kind_name(tdr_value_kind(value)));
}

/* ---- whether a value is of a type as it stands ---- */

static bool fits_int64(const tdr_value *value)
{
	const void *bytes;
	size_t size;

	return tdr_value_get_bigint(value, &bytes, &size) == TDR_OK && size <= sizeof(int64_t);
}

static bool conforms(const struct type *type, const tdr_value *value);

static bool items_conform(const struct type *type, const tdr_value *list)
{
	size_t count = tdr_value_count(list);

	if (type->length > 1 && count != type->length)
		return false;
	if (type->items[0].kind == TYPE_ANY)
		return true;
	for (size_t i = 0; i < count; i++)
		if (!conforms(&type->items[0], tdr_value_item(list, i)))
			return false;
	return true;
}

static bool pairs_conform(const struct type *type, const tdr_value *dict)
{
	for (size_t i = 0; i < tdr_value_count(dict); i++)
		if (!conforms(&type->items[0], tdr_dict_key(dict, i)) ||
		    !conforms(&type->items[1], tdr_dict_value(dict, i)))
			return false;
	return true;
}

static bool tuple_conforms(const struct type *type, const tdr_value *value)
{
	if (type->nitems == 0)
		return tdr_value_kind(value) == TDR_NONE;
	if (tdr_value_kind(value) != TDR_TUPLE || tdr_value_count(value) != type->nitems)
		return false;
	for (size_t i = 0; i < type->nitems; i++)
		if (!conforms(&type->items[i], tdr_value_item(value, i)))
			return false;
	return true;
}

static bool conforms(const struct type *type, const tdr_value *value)
{
	tdr_kind kind = tdr_value_kind(value);

	switch (type->kind) {
	case TYPE_ANY:
		return true;
	case TYPE_TENSOR:
		return kind == TDR_TENSOR;
	case TYPE_INT:
		return kind == TDR_INT && fits_int64(value);
	case TYPE_FLOAT:
		return kind == TDR_FLOAT;
	case TYPE_COMPLEX:
		return kind == TDR_COMPLEX;
	case TYPE_BOOL:
		return kind == TDR_KIND_BOOL;
	case TYPE_SCALAR:
		return kind == TDR_FLOAT || kind == TDR_COMPLEX || kind == TDR_KIND_BOOL ||
		       (kind == TDR_INT && fits_int64(value));
	case TYPE_STRING:
		return kind == TDR_STRING;
	case TYPE_BYTES:
		return kind == TDR_BYTES;
	case TYPE_DEVICE:
		return kind == TDR_DEVICE;
	case TYPE_RREF:
		return kind == TDR_RREF;
	case TYPE_NATIVE:
		return kind == TDR_NATIVE && strcmp(tdr_native_type(value), type->name) == 0;
	case TYPE_LIST:
		return kind == TDR_LIST && items_conform(type, value);
	case TYPE_OPTIONAL:
		return kind == TDR_NONE || conforms(&type->items[0], value);
	case TYPE_TUPLE:
		return tuple_conforms(type, value);
	case TYPE_DICT:
		return kind == TDR_DICT && pairs_conform(type, value);
	}
	return false;
}

/* ---- conversion; each of these borrows `value`, which does not conform, and makes a new one ---- */

static tdr_status convert_number(const struct type *type, const struct place *place, const struct type *wanted,
                                 const tdr_value *value, tdr_value **ret_value)
{
	tdr_kind kind = tdr_value_kind(value);
	double real, imaginary;
	tdr_status status;
	int64_t number;

	if (kind == TDR_INT && !fits_int64(value))
		return wrong(place, "must be %s, not an int past 64 bits", type_name(type));
	if (kind != TDR_INT && !(kind == TDR_FLOAT && type->kind == TYPE_COMPLEX))
		return wrong_type(place, wanted, value);
	switch (type->kind) {
	case TYPE_FLOAT:
		status = tdr_value_get_float(value, &real);
		if (status == TDR_OK)
			*ret_value = tdr_float(real);
		return status;
	case TYPE_COMPLEX:
		status = tdr_value_get_complex(value, &real, &imaginary);
		if (status == TDR_OK)
			*ret_value = tdr_complex(real, imaginary);
		return status;
	case TYPE_BOOL:
		status = tdr_value_get_int(value, &number);
		if (status == TDR_OK && number != 0 && number != 1)
			status = wrong(place, "must be bool, or 0 or 1 in its place, not another int");
		if (status == TDR_OK)
			*ret_value = tdr_bool(number == 1);
		return status;
	default:
		return wrong_type(place, wanted, value);
	}
}

/* "cpu", "cuda", "cuda:1" */
static bool parse_device(const char *text, tdr_device *ret_device)
{
	static const tdr_device_type types[] = {TDR_CPU, TDR_CUDA};
	size_t size = strcspn(text, ":");
	const char *digits = text[size] ? text + size + 1 : NULL;
	size_t ndigits = digits ? strspn(digits, "0123456789") : 0;

	if (digits && (ndigits == 0 || ndigits > 4 || digits[ndigits]))
		return false;
	for (size_t i = 0; i < COUNT_OF(types); i++) {
		const char *name = device_type_name(types[i]);

		if (strlen(name) == size && memcmp(name, text, size) == 0) {
			*ret_device = (tdr_device){.type = types[i], .index = digits ? atoi(digits) : -1};
			return true;
		}
	}
	return false;
}

static tdr_status convert_device(const struct place *place, const struct type *wanted, const tdr_value *value,
                                 tdr_value **ret_value)
{
	tdr_device device;
	const char *text;

	if (tdr_value_kind(value) != TDR_STRING)
		return wrong_type(place, wanted, value);
	if (tdr_value_get_string(value, &text, NULL) != TDR_OK || !parse_device(text, &device)) {
		char printed[VALUE_TEXT_SIZE];

		tdr_value_print(value, printed, sizeof(printed));
		return wrong(place, "must be a Device such as 'cpu' or 'cuda:0', not %s", printed);
	}
	*ret_value = tdr_device_value(device);
	return TDR_OK;
}

/* A list or tuple of `count` converted items: of types[i], or all of types[0] where `same`. */
static tdr_status convert_items(const struct type *types, bool same, const struct place *place, const tdr_value *value,
                                tdr_value **ret_value)
{
	size_t count = tdr_value_count(value);
	tdr_value **items = calloc(count + 1, sizeof(*items));
	tdr_status status = items ? TDR_OK : error_nomem();
	size_t done = 0;

	for (; status == TDR_OK && done < count; done++) {
		struct place inside = {.parent = place, .index = done};

		status =
		    convert(&types[same ? 0 : done], &inside, tdr_value_ref(tdr_value_item(value, done)), &items[done]);
		if (status != TDR_OK)
			break;
	}
	if (status == TDR_OK) {
		*ret_value = same ? tdr_list(count, items) : tdr_tuple(count, items);
	} else {
		while (done > 0)
			tdr_value_unref(items[--done]);
	}
	free(items);
	return status;
}

/* N copies of one item, for T[N]. */
static tdr_status repeat_item(const struct type *type, const struct place *place, const struct type *wanted,
                              tdr_value *value, tdr_value **ret_value)
{
	tdr_value *list, *item;
	tdr_status status = convert(&type->items[0], place, tdr_value_ref(value), &item);

	if (status == TDR_ETYPE)
		return wrong_type(place, wanted, value);
	if (status != TDR_OK)
		return status;
	list = tdr_list(0, NULL);
	for (size_t i = 0; status == TDR_OK && i < type->length; i++)
		status = tdr_list_append(list, tdr_value_ref(item));
	tdr_value_unref(item);
	if (status != TDR_OK) {
		tdr_value_unref(list);
		return status;
	}
	*ret_value = list;
	return TDR_OK;
}

static tdr_status wrong_count(const struct place *place, size_t wanted, size_t count)
{
	return wrong(place, "must have %zu item%s, not %zu", wanted, wanted == 1 ? "" : "s", count);
}

/* To a list or a tuple, from either. */
static tdr_status convert_sequence(const struct type *type, const struct place *place, const struct type *wanted,
                                   tdr_value *value, tdr_value **ret_value)
{
	tdr_kind kind = tdr_value_kind(value);
	bool is_sequence = kind == TDR_LIST || kind == TDR_TUPLE;
	size_t count = tdr_value_count(value);

	if (type->kind == TYPE_LIST && !is_sequence && type->length > 0)
		return repeat_item(type, place, wanted, value, ret_value);
	if (!is_sequence)
		return wrong_type(place, wanted, value);
	if (type->kind == TYPE_LIST) {
		if (type->length > 1 && count != type->length)
			return wrong_count(place, type->length, count);
		return convert_items(type->items, true, place, value, ret_value);
	}
	if (type->nitems == 0) {
		if (count > 0)
			return wrong_type(place, wanted, value);
		*ret_value = tdr_none();
		return TDR_OK;
	}
	if (count != type->nitems)
		return wrong_count(place, type->nitems, count);
	return convert_items(type->items, false, place, value, ret_value);
}

static tdr_status convert_dict(const struct type *type, const struct place *place, const tdr_value *value,
                               tdr_value **ret_value)
{
	tdr_value *dict = tdr_dict_new();
	size_t count = tdr_value_count(value);
	tdr_status status = TDR_OK;

	for (size_t i = 0; status == TDR_OK && i < count; i++) {
		tdr_value *given = tdr_dict_key(value, i);
		struct place at_key = {.parent = place, .key = given, .is_key = true};
		struct place inside = {.parent = place, .key = given};
		tdr_value *key = NULL, *item = NULL;

		status = convert(&type->items[0], &at_key, tdr_value_ref(given), &key);
		if (status != TDR_OK)
			break;
		status = convert(&type->items[1], &inside, tdr_value_ref(tdr_dict_value(value, i)), &item);
		if (status != TDR_OK) {
			tdr_value_unref(key);
			break;
		}
		status = tdr_dict_put(dict, key, item);
		if (status == TDR_OK && tdr_value_count(dict) != i + 1)
			status = wrong(&at_key, "becomes equal to another key");
	}
	if (status != TDR_OK) {
		tdr_value_unref(dict);
		return status;
	}
	*ret_value = dict;
	return TDR_OK;
}

/* Of a value of kind TDR_INVALID: why there is none. */
static tdr_status no_value(const tdr_value *value)
{
	tdr_status status = tdr_value_status(value);

	return error_set(status, "a value could not be made: %s", tdr_status_text(status));
}

/* As type_convert. */
static tdr_status convert(const struct type *type, const struct place *place, tdr_value *value, tdr_value **ret_value)
{
	const struct type *plain = type->kind == TYPE_OPTIONAL ? &type->items[0] : type;
	tdr_value *made = NULL;
	tdr_status status;

	if (tdr_value_kind(value) == TDR_INVALID)
		return no_value(value); /* it is immortal: no reference to drop */
	if (conforms(type, value)) {
		*ret_value = value;
		return TDR_OK;
	}
	switch (plain->kind) {
	case TYPE_INT:
	case TYPE_FLOAT:
	case TYPE_COMPLEX:
	case TYPE_BOOL:
	case TYPE_SCALAR:
		status = convert_number(plain, place, type, value, &made);
		break;
	case TYPE_DEVICE:
		status = convert_device(place, type, value, &made);
		break;
	case TYPE_LIST:
	case TYPE_TUPLE:
		status = convert_sequence(plain, place, type, value, &made);
		break;
	case TYPE_DICT:
		status = tdr_value_kind(value) == TDR_DICT ? convert_dict(plain, place, value, &made)
		                                           : wrong_type(place, type, value);
		break;
	default:
		status = wrong_type(place, type, value);
		break;
	}
	tdr_value_unref(value);
	if (status == TDR_OK && tdr_value_kind(made) == TDR_INVALID)
		status = no_value(made);
	if (status == TDR_OK)
		*ret_value = made;
	return status;
}

tdr_status type_convert(const struct type *type, const char *what, tdr_value *value, tdr_value **ret_value)
{
	struct place place = {.what = what};

	return convert(type, &place, value, ret_value);
}
