/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values: what a call carries.
 *
 * A value is a counted, immutable tree. Constructors never fail with NULL: where memory runs out, or what they are
 * given cannot be a value (a string that is not UTF-8, NULL for a value), they return an immortal value of kind
 * TDR_INVALID that knows why; containers that are given one become one; and a call that is given one fails for that
 * reason (tdr_value_status). So building arguments needs no checks. Values handed to a constructor are given away;
 * tensors are borrowed.
 *
 * Lists, dicts and sets may be added to while their maker holds the only reference, and until they are put into another
 * container; so there are no cycles.
 */
#ifndef TENDRIL_VALUE_H
#define TENDRIL_VALUE_H

#include <tendril/api.h>
#include <tendril/status.h>
#include <tendril/tensor.h>

/* X(name, number, text) */
#define TDR_KIND_LIST(X)                                                                                               \
	X(TDR_INVALID, 0, "invalid")                                                                                   \
	X(TDR_NONE, 1, "None")                                                                                         \
	X(TDR_KIND_BOOL, 2, "bool")                                                                                    \
	X(TDR_INT, 3, "int")                                                                                           \
	X(TDR_FLOAT, 4, "float")                                                                                       \
	X(TDR_COMPLEX, 5, "complex")                                                                                   \
	X(TDR_STRING, 6, "str")                                                                                        \
	X(TDR_BYTES, 7, "bytes")                                                                                       \
	X(TDR_LIST, 8, "list")                                                                                         \
	X(TDR_TUPLE, 9, "tuple")                                                                                       \
	X(TDR_DICT, 10, "dict")                                                                                        \
	X(TDR_SET, 11, "set")                                                                                          \
	X(TDR_TENSOR, 12, "Tensor")                                                                                    \
	X(TDR_RREF, 13, "RRef")                                                                                        \
	X(TDR_DEVICE, 14, "Device")                                                                                    \
	X(TDR_OBJECT, 15, "object")                                                                                    \
	X(TDR_NATIVE, 16, "native")

typedef enum tdr_kind {
#define TDR_KIND_ENUM(name, number, text) name = (number),
	TDR_KIND_LIST(TDR_KIND_ENUM)
#undef TDR_KIND_ENUM
} tdr_kind;

typedef struct tdr_value tdr_value;

/* A counted reference to a value that lives on some worker. */
typedef struct tdr_rref tdr_rref;

/*
 * Containers may be nested this deep, one alone counting as 1. A message carries 64 unless an agent is told otherwise.
 */
#define TDR_MAX_DEPTH 200

TDR_BEGIN_DECLS

/* The kind's name as schemas and messages write it, such as "int". The string is static. */
TDR_API const char *tdr_kind_name(tdr_kind kind);

/* ---- making ---- */

TDR_API tdr_value *tdr_none(void);
TDR_API tdr_value *tdr_bool(bool truth);
TDR_API tdr_value *tdr_int(int64_t number);
TDR_API tdr_value *tdr_float(double number);
TDR_API tdr_value *tdr_complex(double real, double imaginary);

/* An integer of any size, as `size` little-endian bytes in two's complement. One that fits 64 bits equals tdr_int's. */
TDR_API tdr_value *tdr_bigint(const void *bytes, size_t size);

/*
 * A string; `tdr_string_n` takes `size` bytes of UTF-8, in which NUL bytes and surrogates (encoded in three bytes, as
 * Python's "surrogatepass" does) may be.
 */
TDR_API tdr_value *tdr_string(const char *text);
TDR_API tdr_value *tdr_string_n(const char *text, size_t size);
TDR_API tdr_value *tdr_bytes(const void *data, size_t size);

/* A list or tuple of the `count` values in `items` (NULL where there are none); each is given away. */
TDR_API tdr_value *tdr_list(size_t count, tdr_value *const items[]);
TDR_API tdr_value *tdr_tuple(size_t count, tdr_value *const items[]);

/* Empty ones. A dict keeps the order of insertion; a set holds each equal value once. */
TDR_API tdr_value *tdr_dict_new(void);
TDR_API tdr_value *tdr_set_new(void);

/*
 * Adds to a container that its caller alone holds. A key that a dict has already gets the new value. `item`, `key` and
 * `value` are given away. Errors: TDR_ETYPE (no such container, or a key of a kind that cannot be one: list, dict, set,
 * tensor, native object, a tuple of such), TDR_ESTATE (somebody else holds the container, or it lies in another),
 * TDR_ELIMIT (nested too deep), TDR_EINVAL (NULL), TDR_ENOMEM. All but those about the container itself turn it into a
 * TDR_INVALID value, so that nobody sends it without what was to be in it.
 */
TDR_API tdr_status tdr_list_append(tdr_value *list, tdr_value *item);
TDR_API tdr_status tdr_dict_put(tdr_value *dict, tdr_value *key, tdr_value *value);
TDR_API tdr_status tdr_dict_set(tdr_value *dict, const char *key, tdr_value *value);
TDR_API tdr_status tdr_set_add(tdr_value *set, tdr_value *item);

/* The tensor as a value: a reference to it is taken, the caller keeps his. */
TDR_API tdr_value *tdr_tensor_value(tdr_tensor *tensor);

TDR_API tdr_value *tdr_device_value(tdr_device device);

/*
 * A pickled object that only the worker it is meant for understands: `format` names the pickler (such as "pickle5",
 * at most 63 bytes), `data` holds its bytes, `tensors` [ntensors] (borrowed) travel beside them.
 */
TDR_API tdr_value *tdr_object(const char *format, const void *data, size_t size, size_t ntensors,
                              tdr_tensor *const tensors[]);

/* The reference as a value: one more is taken, the caller keeps his. Each place of it in a message is one more. */
TDR_API tdr_value *tdr_rref_value(tdr_rref *rref);

/*
 * An object of this process, which functions hand each other and no message can carry: pass a reference to it instead.
 * `type` is the name of its type, such as "replay::Buffer": at most 127 bytes, parts of letters, digits and '_' with
 * "::" between them. `object` (not NULL) is given away, whatever comes of it: `destructor` (NULL: the value does not
 * own it) is called once, on the thread that drops the last reference to the value, or at once, where the result is a
 * TDR_INVALID value.
 */
TDR_API tdr_value *tdr_native(const char *type, void *object, void (*destructor)(void *object));

/* What can be done with a native object. */
typedef struct tdr_native_ops {
	void (*destroy)(void *object); /* as the destructor above; may be NULL */
	/*
	 * Called where the object would have to leave the process, in the thread that sends it: sets *ret_value (given away), which
	 * goes in its place and is no native object, and returns TDR_OK; or returns an error, with its text by tdr_fail_with.
	 */
	tdr_status (*export_value)(void *object, tdr_value **ret_value);
} tdr_native_ops;

/* The same, for an object that can be copied into messages. `ops` must outlive the value. */
TDR_API tdr_value *tdr_native_shared(const char *type, void *object, const tdr_native_ops *ops);

TDR_API tdr_value *tdr_value_ref(tdr_value *value);
TDR_API tdr_value *tdr_value_unref(tdr_value *value);

/* Counting who holds it, on any thread: once the last one has dropped it, this process needs its value no more. */
TDR_API tdr_rref *tdr_rref_ref(tdr_rref *rref);
TDR_API tdr_rref *tdr_rref_unref(tdr_rref *rref);

/* ---- reading ---- */

TDR_API tdr_kind tdr_value_kind(const tdr_value *value);
TDR_API bool tdr_value_is_none(const tdr_value *value);

/* TDR_OK; for a value of kind TDR_INVALID, why it is none: TDR_ENOMEM, TDR_EINVAL, TDR_ETYPE or TDR_ELIMIT. */
TDR_API TDR_MUST_USE tdr_status tdr_value_status(const tdr_value *value);

/*
 * Reading by kind. Errors of all: TDR_ETYPE, naming what was wanted and what came. An int reads as float, and as
 * complex; a float reads as complex. An int past 64 bits gives TDR_ELIMIT (tdr_value_get_bigint reads it).
 */
TDR_API TDR_MUST_USE tdr_status tdr_value_get_bool(const tdr_value *value, bool *ret_truth);
TDR_API TDR_MUST_USE tdr_status tdr_value_get_int(const tdr_value *value, int64_t *ret_number);
TDR_API TDR_MUST_USE tdr_status tdr_value_get_float(const tdr_value *value, double *ret_number);
TDR_API TDR_MUST_USE tdr_status tdr_value_get_complex(const tdr_value *value, double *ret_real, double *ret_imaginary);
TDR_API TDR_MUST_USE tdr_status tdr_value_get_device(const tdr_value *value, tdr_device *ret_device);

/* Borrowed from the value. Strings end in a NUL that `ret_size` (may be NULL) does not count. */
TDR_API TDR_MUST_USE tdr_status tdr_value_get_string(const tdr_value *value, const char **ret_text, size_t *ret_size);
TDR_API TDR_MUST_USE tdr_status tdr_value_get_bytes(const tdr_value *value, const void **ret_data, size_t *ret_size);
TDR_API TDR_MUST_USE tdr_status tdr_value_get_tensor(const tdr_value *value, tdr_tensor **ret_tensor);
TDR_API TDR_MUST_USE tdr_status tdr_value_get_rref(const tdr_value *value, tdr_rref **ret_rref);
TDR_API TDR_MUST_USE tdr_status tdr_value_get_object(const tdr_value *value, const char **ret_format,
                                                     const void **ret_data, size_t *ret_size, size_t *ret_ntensors,
                                                     tdr_tensor *const **ret_tensors);

/* The object, if it is of that type (NULL: of any); TDR_ETYPE names both types. Borrowed from the value. */
TDR_API TDR_MUST_USE tdr_status tdr_value_get_native(const tdr_value *value, const char *type, void **ret_object);

/* A native object's type; NULL for every other kind. Borrowed from the value. */
TDR_API const char *tdr_native_type(const tdr_value *value);

/* Any int as little-endian two's complement, as few bytes as hold it (at least 1). Borrowed from the value. */
TDR_API TDR_MUST_USE tdr_status tdr_value_get_bigint(const tdr_value *value, const void **ret_bytes, size_t *ret_size);

/* Items of a list, tuple, dict (its pairs) or set; 0 for every other kind. */
TDR_API size_t tdr_value_count(const tdr_value *value);

/*
 * Item `index` of a list, tuple or set; key or value of pair `index` of a dict. NULL past the end and for other kinds.
 * Borrowed.
 */
TDR_API tdr_value *tdr_value_item(const tdr_value *value, size_t index);
TDR_API tdr_value *tdr_dict_key(const tdr_value *dict, size_t index);
TDR_API tdr_value *tdr_dict_value(const tdr_value *dict, size_t index);

/* What a dict has under a string key, or under any key; NULL if nothing. Borrowed. */
TDR_API tdr_value *tdr_dict_get(const tdr_value *dict, const char *key);
TDR_API tdr_value *tdr_dict_find(const tdr_value *dict, const tdr_value *key);

/*
 * Whether two values are equal: same kind and contents (NaN equals NaN; tensors by dtype, sizes and elements; dicts and
 * sets in any order; references if they refer to the same value of the same owner; native objects if they are the same
 * one). Booleans, ints and floats are different kinds.
 */
TDR_API bool tdr_value_equal(const tdr_value *a, const tdr_value *b);

/*
 * Writes the value as text, as Python would print it, at most `size` bytes with the closing NUL; long ones are cut with
 * "...". Returns the bytes that the whole text needs, without the NUL.
 */
TDR_API size_t tdr_value_print(const tdr_value *value, char *buffer, size_t size);

TDR_END_DECLS

#endif
