/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How values lie in memory: for the files of this layer.
 *
 * A value is one allocation: a head, and behind it what its kind needs. Two kinds of statics stand beside those on the
 * heap: None, True, False and small ints, which need no memory, and one TDR_INVALID value for each reason that there
 * is. They are immortal: never counted, never written.
 *
 * What holds: a value is written by its maker alone, while he has the only reference and it is not `attached`, that is
 * in no container. Containers are nested at most TDR_MAX_DEPTH deep, so that walking a tree by recursion is safe; and
 * none can come to lie in itself.
 */
#ifndef TENDRIL_VALUE_LAYOUT_H
#define TENDRIL_VALUE_LAYOUT_H

#include "base/hash.h"
#include "base/refcount.h"

#include <tendril/value.h>

struct tdr_value {
	struct refcount refs;
	uint8_t kind;  /* enum tdr_kind */
	uint8_t depth; /* containers nested in it, itself among them; 0 for what is none */
	bool immortal : 1;
	bool big : 1;          /* an int past 64 bits: a blob */
	_Atomic bool attached; /* lies in a container, and so is added to no more */
};

_Static_assert(TDR_MAX_DEPTH <= UINT8_MAX, "a value's depth is kept in a byte");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a small int's bytes are handed out as little-endian ones");

/* Why a value is TDR_INVALID. X(name, status, text) */
#define REASON_LIST(X)                                                                                                 \
	X(REASON_MEMORY, TDR_ENOMEM, "out of memory")                                                                  \
	X(REASON_NULL, TDR_EINVAL, "NULL was given where a value is wanted (use tdr_none)")                            \
	X(REASON_UTF8, TDR_EINVAL, "a string's bytes are not UTF-8 (use tdr_bytes for other data)")                    \
	X(REASON_FORMAT, TDR_EINVAL, "an object's format is a name of at most 63 bytes")                               \
	X(REASON_NATIVE_TYPE, TDR_EINVAL, "a native object's type is at most 127 bytes, as in replay::Buffer")         \
	X(REASON_DEVICE, TDR_EINVAL, "there is no device of this type and index")                                      \
	X(REASON_DEEP, TDR_ELIMIT, "containers are nested more than 200 deep")                                         \
	X(REASON_LARGE, TDR_ELIMIT, "a container has more than 2^31 items")                                            \
	X(REASON_KEY, TDR_ETYPE,                                                                                       \
	  "a list, dict, set, tensor or native object cannot be a dict's key or in a set (use a tuple)")               \
	X(REASON_KEYWORD, TDR_ETYPE, "a keyword is no string")                                                         \
	X(REASON_TWICE, TDR_EINVAL, "a keyword is given twice")                                                        \
	X(REASON_KEYWORD_ALONE, TDR_EINVAL, "the last keyword has no value")

enum reason {
	REASON_NONE,
#define REASON_ENUM(name, status, text) name,
	REASON_LIST(REASON_ENUM)
#undef REASON_ENUM
	REASONS,
};

struct invalid_value {
	struct tdr_value head;
	enum reason reason;
};

struct int_value {
	struct tdr_value head;
	int64_t number;
};

struct float_value {
	struct tdr_value head;
	double number;
};

struct complex_value {
	struct tdr_value head;
	double real, imaginary;
};

/* A string (UTF-8), bytes, or a big int (the fewest little-endian bytes in two's complement that hold it). */
struct blob_value {
	struct tdr_value head;
	size_t size;
	uint8_t data[]; /* [size], and a NUL */
};

struct device_value {
	struct tdr_value head;
	tdr_device device;
};

struct tensor_value {
	struct tdr_value head;
	tdr_tensor *tensor; /* counted */
};

/* Room for an object's format, with its NUL. */
#define OBJECT_FORMAT_SIZE 64

struct object_value {
	struct tdr_value head;
	size_t size;
	size_t ntensors;
	const char *format;    /* behind the tensors */
	const uint8_t *data;   /* behind the format; [size] */
	tdr_tensor *tensors[]; /* counted; [ntensors] */
};

struct rref_value {
	struct tdr_value head;
	tdr_rref *rref; /* counted */
};

/* Room for a native object's type, with its NUL. */
#define NATIVE_TYPE_SIZE 128

struct native_value {
	struct tdr_value head;
	void *object;
	void (*destructor)(void *object); /* NULL: the object is not the value's */
	const tdr_native_ops *ops;        /* of one that can be sent as something else; else NULL */
	char type[];
};

/* Past this many items, dicts and sets have an index. */
#define CONTAINER_FEW 8

struct container_value {
	struct tdr_value head;
	uint32_t count;          /* items; pairs of a dict */
	uint32_t room;           /* the same */
	tdr_value **items;       /* `inside`, or memory of its own; a dict's keys and values in turn */
	struct hash_index index; /* of a dict's keys or a set's items, past CONTAINER_FEW */
	tdr_value *inside[];
};

/* ---- value.c ---- */

/* A value of `size` bytes whose head is set; NULL when memory runs out. */
void *value_alloc(tdr_kind kind, size_t size);

/* The immortal TDR_INVALID value for a reason. */
tdr_value *value_invalid(enum reason reason);

/* Keeps the reason's text as the last error, and returns its status. */
tdr_status reason_error(enum reason reason);

/* TDR_ETYPE that names what was wanted and what came; for a TDR_INVALID value, why it is one. */
tdr_status wrong_kind(const tdr_value *value, const char *wanted);

/* A string whose bytes are known to be good, or bytes: a copy. */
tdr_value *blob_new(tdr_kind kind, const void *data, size_t size);

/*
 * Why a value cannot be put into a container: REASON_NONE, unless it is NULL, TDR_INVALID, or nested too deep already.
 */
enum reason value_unfit(const tdr_value *value);

static inline bool value_is_container(const tdr_value *value)
{
	return value->kind >= TDR_LIST && value->kind <= TDR_SET;
}

/* Whether others may hold it too. */
static inline bool value_is_shared(const tdr_value *value)
{
	return atomic_load_explicit(&value->refs.count, memory_order_acquire) > 1;
}

/* ---- native_value.c ---- */

/* Calls the destructor. */
void native_destroy(struct native_value *value);

/* What is sent in its place; given away. Errors: TDR_EUNSUPPORTED, or what the object's export says. */
tdr_status native_export(const struct native_value *value, tdr_value **ret_value);

/* ---- container.c ---- */

/* An empty list, tuple, dict or set with room for `room` items or pairs; NULL when memory runs out. */
struct container_value *container_new(tdr_kind kind, size_t room);

/* Drops what it holds and the memory that it has beside its own. */
void container_empty(struct container_value *container);

/* Adds to a list or tuple, taking over `item`, which fits. There must be room. */
void container_push(struct container_value *container, tdr_value *item);

/*
 * Adds a pair to a dict, or an item to a set (`value` NULL), unless the key is there already: then ret_position has its
 * place, and nothing is taken over. REASON_NONE, REASON_MEMORY, REASON_LARGE; REASON_TWICE where the key was there.
 */
enum reason container_put(struct container_value *container, tdr_value *key, tdr_value *value, uint32_t *ret_position);

/* Where a dict or set has a key; false where it does not. */
bool container_find(const struct container_value *container, const tdr_value *key, uint32_t *ret_position);

static inline size_t container_width(tdr_kind kind)
{
	return kind == TDR_DICT ? 2 : 1;
}

/* ---- equal.c ---- */

/* Whether it can be a dict's key or in a set. */
bool value_is_key(const tdr_value *value);

/* Of a key; equal keys have equal hashes. */
uint64_t value_hash(const tdr_value *key);

/* Of a string key. */
uint64_t value_hash_string(const void *text, size_t size);

#endif
