/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading an operator's arguments, beyond what its schema checks: tensors it can compute with, plain numbers, dtypes,
 * dimensions. Each returns an error that the operator hands on; it has failed the call already.
 */
#ifndef TENDRIL_OPERATORS_ARGUMENTS_H
#define TENDRIL_OPERATORS_ARGUMENTS_H

#include <tendril/function.h>

/* A plain number, as Python has them. */
struct number {
	tdr_kind kind;   /* TDR_KIND_BOOL, TDR_INT or TDR_FLOAT */
	int64_t integer; /* of a bool or int */
	double real;     /* of any */
};

/* One element of a dtype that operators compute with; its bytes begin where the union's do. */
union element {
	uint8_t truth;
	int64_t integer;
	float single;
	double real;
};

/* Fails the call, naming the operator; returns `status`. */
tdr_status refuse(tdr_call *call, tdr_status status, const char *format, ...) TDR_PRINTF(3, 4);

/* Argument `index` as a CPU tensor of a dtype that operators compute with (borrowed). */
tdr_status arg_operand(tdr_call *call, size_t index, tdr_tensor **ret_tensor);

/* The same for a tensor that is no argument by itself, such as an item of a list. */
tdr_status check_operand(tdr_call *call, const tdr_tensor *tensor);

/* Argument `index` as a plain number; `name` is the parameter's. */
tdr_status arg_number(tdr_call *call, size_t index, const char *name, struct number *ret_number);

/* A number as an element; refuses what is past the dtype's range. */
tdr_status number_convert(tdr_call *call, const struct number *number, tdr_dtype dtype, union element *ret_element);

/* Argument `index` as a dtype; leaves *dtype as it is where the argument is None. */
tdr_status arg_dtype(tdr_call *call, size_t index, tdr_dtype *dtype);

/* Argument `index` as a list of ints, at most TDR_MAX_DIMS, into ret_items. */
tdr_status arg_ints(tdr_call *call, size_t index, size_t *ret_count, int64_t ret_items[TDR_MAX_DIMS]);

/*
 * A dimension of a tensor with `ndim`, where a negative one counts from the end. A tensor without any is taken for one.
 */
tdr_status dim_wrap(tdr_call *call, int64_t dim, size_t ndim, size_t *ret_dim);

/*
 * Argument `index` as dimensions to reduce: an int, a list of ints, or None. None and the empty list stand for all.
 * Sets ret_reduced[d] for each.
 */
tdr_status arg_dims(tdr_call *call, size_t index, size_t ndim, bool ret_reduced[TDR_MAX_DIMS]);

/* Returns `tensor` from the call if `status` is TDR_OK; drops the reference to it, which may be NULL. */
tdr_status give_tensor(tdr_call *call, tdr_status status, tdr_tensor *tensor);

#endif
