/* SPDX-License-Identifier: Apache-2.0 */
/* Schemas: parsed from their text, checked against arguments. tendril/function.h has the language. */
#ifndef TENDRIL_FUNCTION_SCHEMA_H
#define TENDRIL_FUNCTION_SCHEMA_H

#include <tendril/value.h>

enum type_kind {
	TYPE_ANY,
	TYPE_TENSOR,
	TYPE_INT,
	TYPE_FLOAT,
	TYPE_COMPLEX,
	TYPE_BOOL,
	TYPE_STRING,
	TYPE_BYTES,
	TYPE_DEVICE,
	TYPE_RREF,
	TYPE_LIST,     /* items[0] is the type of its items */
	TYPE_OPTIONAL, /* items[0], or None */
	TYPE_TUPLE,    /* items[nitems] */
	TYPE_DICT,     /* items[0] keys, items[1] values */
};

struct type {
	enum type_kind kind;
	size_t nitems;
	struct type *items;
};

struct parameter {
	char *name;
	struct type type;
	tdr_value *initial; /* its default; NULL: must be given */
	bool keyword_only;
};

struct schema {
	char *text; /* as it was given */
	char *name; /* "ps::push", with the overload if it has one: "aten::add.Tensor" */
	size_t nparameters;
	struct parameter *parameters;
	struct type returns; /* a tuple of none for `()` */
};

/* Errors: TDR_EINVAL, with the place: "column 17 of 'ps::push(Tenso grad)': no such type 'Tenso'". */
tdr_status schema_parse(const char *text, struct schema **ret_schema);
struct schema *schema_free(struct schema *schema); /* NULL is legal; returns NULL */

/*
 * Puts arguments in the order of the parameters into ret_bound [nparameters] (counted references), defaults included.
 * `args` (tuple or list, NULL: none) and `kwargs` (dict, NULL: none) are borrowed. Values are converted where the schema's
 * type takes them: int to float and complex, float to complex, 0 and 1 to bool, and a list for a tuple or the reverse where
 * it says T[] or (T, U). Errors: TDR_ETYPE naming function, parameter, what was wanted and what came; too many, missing,
 * unknown and doubled ones.
 */
tdr_status schema_bind(const struct schema *schema, tdr_value *args, tdr_value *kwargs, tdr_value *ret_bound[]);

/* Converts one value to the type, as schema_bind does; `value` is given away. `what` names it in errors. */
tdr_status type_convert(const struct type *type, const char *what, tdr_value *value, tdr_value **ret_value);

/* The type's text, such as "Dict(str, Tensor[])", cut to `size`. */
void type_print(const struct type *type, char *buffer, size_t size);

#endif
