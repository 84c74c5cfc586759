/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Element-by-element operators. Operands are converted to one type before the walk, each in its own shape, so that
 * inner loops exist once a type: converting costs a pass over an operand, and only where types are mixed.
 */
#include "operators/elementwise.h"

#include "operators/cast.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void operands_fini(struct operands *operands)
{
	for (size_t i = 0; i < operands->count; i++)
		tdr_tensor_unref(operands->tensors[i]);
	operands->count = 0;
}

/* A number as a tensor without dimensions, of the type that Python gives it. */
static tdr_status number_tensor(const struct number *number, tdr_tensor **ret_tensor)
{
	const uint8_t truth = number->integer != 0;

	switch (number->kind) {
	case TDR_KIND_BOOL:
		return tdr_tensor_copy_of(&truth, TDR_BOOL, 0, NULL, ret_tensor);
	case TDR_INT:
		return tdr_tensor_copy_of(&number->integer, TDR_I64, 0, NULL, ret_tensor);
	default:
		return tdr_tensor_copy_of(&number->real, TDR_F64, 0, NULL, ret_tensor);
	}
}

tdr_status operands_add(struct operands *operands, tdr_call *call, size_t index, const char *name)
{
	const size_t place = operands->count;
	tdr_tensor *tensor = NULL;
	struct number number;
	tdr_status status;

	assert(place < ITERATE_TENSORS - 1);
	operands->number[place] = tdr_value_kind(tdr_arg(call, index)) != TDR_TENSOR;
	if (operands->number[place]) {
		status = arg_number(call, index, name, &number);
		if (status == TDR_OK)
			status = number_tensor(&number, &tensor);
	} else {
		status = arg_operand(call, index, &tensor);
		if (status == TDR_OK)
			tdr_tensor_ref(tensor);
	}
	if (status != TDR_OK)
		return status;
	operands->tensors[place] = tensor;
	operands->count++;
	return TDR_OK;
}

tdr_dtype operands_promote(const struct operands *operands, size_t first)
{
	struct promotion promotion = PROMOTION_INIT;

	for (size_t i = first; i < operands->count; i++)
		promotion_add(&promotion, operands->tensors[i], operands->number[i]);
	return promotion_result(&promotion);
}

tdr_status operands_cast(struct operands *operands, size_t first, tdr_dtype dtype)
{
	for (size_t i = first; i < operands->count; i++) {
		tdr_tensor *converted;
		tdr_status status = tensor_cast(operands->tensors[i], dtype, &converted);

		if (status != TDR_OK)
			return status;
		tdr_tensor_unref(operands->tensors[i]);
		operands->tensors[i] = converted;
	}
	return TDR_OK;
}

tdr_status broadcast_join(tdr_call *call, size_t *ndim, int64_t sizes[TDR_MAX_DIMS], size_t more_ndim,
                          const int64_t *more)
{
	if (more_ndim > *ndim) {
		memmove(sizes + (more_ndim - *ndim), sizes, *ndim * sizeof(*sizes));
		for (size_t d = 0; d < more_ndim - *ndim; d++)
			sizes[d] = 1;
		*ndim = more_ndim;
	}
	for (size_t i = 0; i < more_ndim; i++) {
		const size_t d = *ndim - more_ndim + i;

		if (more[i] == sizes[d] || more[i] == 1)
			continue;
		if (sizes[d] != 1)
			return refuse(
			    call, TDR_EINVAL,
			    "The size of tensor a (%lld) must match the size of tensor b (%lld) at non-singleton "
			    "dimension %zu",
			    (long long)sizes[d], (long long)more[i], d);
		sizes[d] = more[i];
	}
	return TDR_OK;
}

tdr_status operands_apply(struct operands *operands, tdr_call *call, iterate_inner inner, void *context,
                          tdr_dtype dtype, tdr_tensor **ret_tensor)
{
	int64_t sizes[TDR_MAX_DIMS];
	struct iterate iterate;
	tdr_tensor *result = NULL;
	size_t ndim = 0;
	tdr_status status = TDR_OK;

	for (size_t i = 0; i < operands->count && status == TDR_OK; i++)
		status = broadcast_join(call, &ndim, sizes, tdr_tensor_ndim(operands->tensors[i]),
		                        tdr_tensor_sizes(operands->tensors[i]));
	if (status == TDR_OK)
		status = tdr_tensor_empty(dtype, ndim, sizes, &result);
	if (status != TDR_OK)
		return status;
	iterate_init(&iterate, ndim, sizes);
	iterate_add(&iterate, result);
	for (size_t i = 0; i < operands->count; i++)
		iterate_add(&iterate, operands->tensors[i]);
	iterate_run(&iterate, inner, context);
	*ret_tensor = result;
	return TDR_OK;
}

void shape_print(size_t ndim, const int64_t *sizes, size_t room, char buffer[])
{
	size_t used = (size_t)snprintf(buffer, room, "[");

	for (size_t d = 0; d < ndim && used < room; d++)
		used += (size_t)snprintf(buffer + used, room - used, d ? ", %lld" : "%lld", (long long)sizes[d]);
	if (used < room)
		snprintf(buffer + used, room - used, "]");
}

tdr_status check_broadcast_to(tdr_call *call, const tdr_tensor *self, const tdr_tensor *from)
{
	const size_t self_ndim = tdr_tensor_ndim(self);
	int64_t sizes[TDR_MAX_DIMS];
	char self_text[128], joined_text[128];
	size_t ndim = 0;
	tdr_status status;

	status = broadcast_join(call, &ndim, sizes, self_ndim, tdr_tensor_sizes(self));
	if (status == TDR_OK)
		status = broadcast_join(call, &ndim, sizes, tdr_tensor_ndim(from), tdr_tensor_sizes(from));
	if (status != TDR_OK)
		return status;
	if (ndim == self_ndim && (ndim == 0 || memcmp(sizes, tdr_tensor_sizes(self), ndim * sizeof(*sizes)) == 0))
		return TDR_OK;
	shape_print(self_ndim, tdr_tensor_sizes(self), sizeof(self_text), self_text);
	shape_print(ndim, sizes, sizeof(joined_text), joined_text);
	return refuse(call, TDR_EINVAL, "output with shape %s doesn't match the broadcast shape %s", self_text,
	              joined_text);
}

tdr_status check_writable(tdr_call *call, const tdr_tensor *tensor)
{
	const int64_t *sizes = tdr_tensor_sizes(tensor), *strides = tdr_tensor_strides(tensor);

	for (size_t d = 0; d < tdr_tensor_ndim(tensor); d++)
		if (sizes[d] > 1 && strides[d] == 0)
			return refuse(
			    call, TDR_EINVAL,
			    "unsupported operation: more than one element of the written-to tensor refers to a single "
			    "memory location. Please clone() the tensor before performing the operation.");
	return TDR_OK;
}

/* Whether a walk that writes `self` may read `operand` in the same pass: they share no storage, or are alike. */
static bool readable_beside(const tdr_tensor *operand, const tdr_tensor *self)
{
	const size_t ndim = tdr_tensor_ndim(self);
	const size_t bytes = ndim * sizeof(int64_t);

	if (tdr_tensor_storage(operand) != tdr_tensor_storage(self))
		return true;
	return tdr_tensor_dtype(operand) == tdr_tensor_dtype(self) && tdr_tensor_ndim(operand) == ndim &&
	       tdr_tensor_offset(operand) == tdr_tensor_offset(self) &&
	       (ndim == 0 || (memcmp(tdr_tensor_sizes(operand), tdr_tensor_sizes(self), bytes) == 0 &&
	                      memcmp(tdr_tensor_strides(operand), tdr_tensor_strides(self), bytes) == 0));
}

tdr_status operands_apply_to(struct operands *operands, tdr_call *call, iterate_inner inner, void *context,
                             tdr_dtype dtype, tdr_tensor *self)
{
	bool direct = tdr_tensor_dtype(self) == dtype;
	struct iterate iterate;
	tdr_tensor *result = NULL;
	tdr_status status;

	if (!dtype_can_cast(dtype, tdr_tensor_dtype(self)))
		return refuse(call, TDR_ETYPE, "result type %s can't be cast to the desired output type %s",
		              dtype_long_name(dtype), dtype_long_name(tdr_tensor_dtype(self)));
	status = check_writable(call, self);
	for (size_t i = 0; i < operands->count && status == TDR_OK; i++) {
		status = check_broadcast_to(call, self, operands->tensors[i]);
		direct = direct && readable_beside(operands->tensors[i], self);
	}
	if (status != TDR_OK)
		return status;
	if (!direct) {
		status = operands_apply(operands, call, inner, context, dtype, &result);
		if (status == TDR_OK)
			tensor_fill(self, result);
		tdr_tensor_unref(result);
		return status;
	}
	iterate_init(&iterate, tdr_tensor_ndim(self), tdr_tensor_sizes(self));
	iterate_add(&iterate, self);
	for (size_t i = 0; i < operands->count; i++)
		iterate_add(&iterate, operands->tensors[i]);
	iterate_run(&iterate, inner, context);
	return TDR_OK;
}
