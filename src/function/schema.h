/* SPDX-License-Identifier: Apache-2.0 */
/* Schemas: parsed from their text, checked against arguments. tendril/function.h has the language. */
#ifndef TENDRIL_FUNCTION_SCHEMA_H
#define TENDRIL_FUNCTION_SCHEMA_H

#include <tendril/value.h>

/* Limits of what is parsed: bytes of text, types and default lists inside each other, parameters. */
#define SCHEMA_MAX_TEXT 4096
#define SCHEMA_MAX_DEPTH 16
#define SCHEMA_MAX_PARAMETERS 255

enum type_kind {
	TYPE_ANY,
	TYPE_TENSOR,
	TYPE_INT, /* of 64 bits */
	TYPE_FLOAT,
	TYPE_COMPLEX,
	TYPE_BOOL,
	TYPE_SCALAR, /* int, float, complex or bool, as it comes */
	TYPE_STRING,
	TYPE_BYTES,
	TYPE_DEVICE,
	TYPE_RREF,
	TYPE_NATIVE,   /* a C object of the type `name` */
	TYPE_LIST,     /* items[0] is the type of its items */
	TYPE_OPTIONAL, /* items[0], or None */
	TYPE_TUPLE,    /* items[nitems]; none of them, written () or None, takes None alone */
	TYPE_DICT,     /* items[0] keys, items[1] values */
};

struct type {
	enum type_kind kind;
	size_t nitems;
	struct type *items;
	/*
	 * Of a list: N of T[N], else 0. A value that is no list is taken as N copies of it, as PyTorch does; from 2
	 * on the list must have N items. T[1] takes a list of any length, which is what PyTorch's reductions mean by
	 * `int[1] dim`.
	 */
	size_t length;
	char *name; /* of a native type, such as "replay::Buffer" */
};

struct parameter {
	char *name;
	struct type type;
	tdr_value *initial; /* its default; NULL: must be given */
	bool keyword_only;
};

struct schema {
	char *text;    /* as it was given */
	char *name;    /* "ps::push", with the overload if it has one: "aten::add.Tensor" */
	bool wildcard; /* the name is "ps::*": it stands for all that begin with "ps::" */
	bool variadic; /* "(...)": two parameters, which take args and kwargs as they come */
	size_t nparameters;
	size_t npositional; /* of these, the first ones, which may be given by position */
	struct parameter *parameters;
	struct type returns; /* a tuple of none for `()` and `None`; Any where the text has no `->` */
};

/*
 * Errors: TDR_EINVAL, with the place: "column 10 of 'ps::push(Tenso grad)': expected a type, found 'Tenso'";
 * TDR_ENOMEM.
 */
tdr_status schema_parse(const char *text, struct schema **ret_schema);
struct schema *schema_free(struct schema *schema); /* NULL is legal; returns NULL */

/*
 * Puts arguments in the order of the parameters into ret_bound [nparameters] (counted references), defaults included;
 * on failure they are all NULL. `args` (tuple or list, NULL: none) and `kwargs` (dict, NULL: none) are borrowed.
 * Values are converted where the schema's type takes them: int to float and complex, float to complex, 0 and 1 to
 * bool, a str such as "cpu" or "cuda:1" to Device, and a list for a tuple or the reverse where it says T[] or (T, U).
 * Errors: TDR_ETYPE naming function, parameter, what was wanted and what came, or the arguments that are too many,
 * missing, unknown or doubled; TDR_ENOMEM; for arguments of kind TDR_INVALID what made them so.
 */
tdr_status schema_bind(const struct schema *schema, tdr_value *args, tdr_value *kwargs, tdr_value *ret_bound[]);

/*
 * Converts one value to the type, as schema_bind does; `value` is given away. The error, TDR_ETYPE, says `what` "must
 * be int, not str", or `what` "[2] must be int, not str" where it lies in an item. Containers are copied only if
 * items change.
 */
tdr_status type_convert(const struct type *type, const char *what, tdr_value *value, tdr_value **ret_value);

/* The type's text, such as "Dict(str, Tensor[])", cut to `size` bytes with its NUL. */
void type_print(const struct type *type, char *buffer, size_t size);

/* Types inside each other: 1 for int, 2 for int[]. */
size_t type_depth(const struct type *type);

/* Frees what the type holds, half-built ones too, and leaves Any. */
void type_fini(struct type *type);

#endif
