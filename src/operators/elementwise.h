/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators that work element by element share: their operands (tensors and plain numbers), the type and shape of
 * the result, and running an inner loop over all of it, into a new tensor or in place.
 */
#ifndef TENDRIL_OPERATORS_ELEMENTWISE_H
#define TENDRIL_OPERATORS_ELEMENTWISE_H

#include "operators/arguments.h"
#include "operators/iterate.h"
#include "operators/promote.h"

/*
 * Operands in their order; zeroed at first, and dropped by operands_fini. A number is a tensor without dimensions here.
 */
struct operands {
	size_t count;
	tdr_tensor *tensors[ITERATE_TENSORS - 1]; /* counted */
	bool number[ITERATE_TENSORS - 1];
};

void operands_fini(struct operands *operands);

/* Adds argument `index`, a tensor or a number; `name` is the parameter's. */
tdr_status operands_add(struct operands *operands, tdr_call *call, size_t index, const char *name);

/* The dtype that operands from `first` on are computed in, and converting them to it. */
tdr_dtype operands_promote(const struct operands *operands, size_t first);
tdr_status operands_cast(struct operands *operands, size_t first, tdr_dtype dtype);

/* Runs `inner` over a new tensor of `dtype` and the operands, which have the types that `inner` takes. */
tdr_status operands_apply(struct operands *operands, tdr_call *call, iterate_inner inner, void *context,
                          tdr_dtype dtype, tdr_tensor **ret_tensor);

/*
 * Runs `inner`, whose result is of `dtype`, and writes the result to `self`. `self` takes part by its shape alone; it
 * may share memory with operands. Refuses where self's dtype cannot hold the result, or its shape would have to grow.
 */
tdr_status operands_apply_to(struct operands *operands, tdr_call *call, iterate_inner inner, void *context,
                             tdr_dtype dtype, tdr_tensor *self);

/* Refuses to write to a tensor of which several elements are at one place. */
tdr_status check_writable(tdr_call *call, const tdr_tensor *tensor);

/* Refuses where `from` cannot be broadcast to the shape of `self`. */
tdr_status check_broadcast_to(tdr_call *call, const tdr_tensor *self, const tdr_tensor *from);

/* Joins the shape `more` to the shape [*ndim] of what has been joined before, as broadcasting does. */
tdr_status broadcast_join(tdr_call *call, size_t *ndim, int64_t sizes[TDR_MAX_DIMS], size_t more_ndim,
                          const int64_t *more);

/*
 * The inner loop of add, for tensors of one dtype: writes a + alpha * b; `context` is alpha, an element of that dtype.
 */
iterate_inner arithmetic_add_inner(tdr_dtype dtype);

/* Writes a shape as text, "[2, 3]". */
void shape_print(size_t ndim, const int64_t *sizes, size_t room, char buffer[]);

#endif
