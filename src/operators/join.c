/* SPDX-License-Identifier: Apache-2.0 */
/* cat and index_select: a new tensor from slices along a dimension. */
#include "operators/join.h"

#include "operators/cast.h"
#include "operators/elementwise.h"
#include "operators/operators.h"

#include <string.h>

/* ---- cat ---- */

/* An empty tensor of one dimension joins tensors of any shape: it counts for the dtype only. */
static bool counts_for_dtype_only(const tdr_tensor *tensor)
{
	return tdr_tensor_ndim(tensor) == 1 && tdr_tensor_sizes(tensor)[0] == 0;
}

/* What the parts agreed on so far. */
struct joint {
	tdr_tensor *first; /* the one whose shape the others must have; NULL: none counts (borrowed) */
	struct promotion promotion;
	size_t dim;
	int64_t total; /* the size along `dim` */
};

static tdr_status check_part(tdr_call *call, struct joint *joint, const tdr_tensor *part, size_t index)
{
	const size_t ndim = tdr_tensor_ndim(joint->first);
	const int64_t *sizes = tdr_tensor_sizes(joint->first), *part_sizes = tdr_tensor_sizes(part);

	if (tdr_tensor_ndim(part) != ndim)
		return refuse(call, TDR_EINVAL, "Tensors must have same number of dimensions: got %zu and %zu", ndim,
		              tdr_tensor_ndim(part));
	for (size_t d = 0; d < ndim; d++)
		if (d != joint->dim && part_sizes[d] != sizes[d])
			return refuse(
			    call, TDR_EINVAL,
			    "Sizes of tensors must match except in dimension %zu. Expected size %lld but got size %lld "
			    "for tensor number %zu in the list.",
			    joint->dim, (long long)sizes[d], (long long)part_sizes[d], index);
	if (__builtin_add_overflow(joint->total, part_sizes[joint->dim], &joint->total))
		return refuse(call, TDR_ELIMIT, "the tensors together are past 64 bits");
	return TDR_OK;
}

static tdr_status item_tensor(const tdr_value *list, size_t index, tdr_tensor **ret_tensor)
{
	return tdr_value_get_tensor(tdr_value_item(list, index), ret_tensor);
}

static tdr_status joint_init(struct joint *joint, tdr_call *call, const tdr_value *list)
{
	tdr_tensor *part;
	tdr_status status = TDR_OK;

	*joint = (struct joint){.promotion = PROMOTION_INIT};
	if (tdr_value_count(list) == 0)
		return refuse(call, TDR_EINVAL, "torch.cat(): expected a non-empty list of Tensors");
	for (size_t i = 0; i < tdr_value_count(list) && status == TDR_OK; i++) {
		status = item_tensor(list, i, &part);
		if (status == TDR_OK)
			status = check_operand(call, part);
		if (status != TDR_OK)
			break;
		if (tdr_tensor_ndim(part) == 0)
			return refuse(call, TDR_EINVAL,
			              "zero-dimensional tensor (at position %zu) cannot be concatenated", i);
		promotion_add(&joint->promotion, part, false);
		if (counts_for_dtype_only(part))
			continue;
		if (!joint->first) {
			joint->first = part;
			status = dim_wrap(call, tdr_arg_int(call, 1), tdr_tensor_ndim(part), &joint->dim);
		}
		if (status == TDR_OK)
			status = check_part(call, joint, part, i);
	}
	return status;
}

/* Writes a part where it belongs: `from` elements along the dimension. */
static tdr_status put_part(const struct joint *joint, tdr_tensor *result, const tdr_tensor *part, int64_t from)
{
	tdr_tensor *place = NULL;
	tdr_status status;

	status = tdr_tensor_view(tdr_tensor_storage(result), tdr_tensor_dtype(result), tdr_tensor_ndim(part),
	                         tdr_tensor_sizes(part), tdr_tensor_strides(result),
	                         tdr_tensor_offset(result) + from * tdr_tensor_strides(result)[joint->dim], &place);
	if (status != TDR_OK)
		return status;
	tensor_fill(place, part);
	tdr_tensor_unref(place);
	return TDR_OK;
}

static tdr_status join(const struct joint *joint, const tdr_value *list, tdr_tensor **ret_tensor)
{
	const tdr_dtype dtype = promotion_result(&joint->promotion);
	const size_t ndim = tdr_tensor_ndim(joint->first);
	int64_t sizes[TDR_MAX_DIMS], from = 0;
	tdr_tensor *result = NULL, *part;
	tdr_status status;

	memcpy(sizes, tdr_tensor_sizes(joint->first), ndim * sizeof(*sizes));
	sizes[joint->dim] = joint->total;
	status = tdr_tensor_empty(dtype, ndim, sizes, &result);
	for (size_t i = 0; i < tdr_value_count(list) && status == TDR_OK; i++) {
		status = item_tensor(list, i, &part);
		if (status != TDR_OK || tdr_tensor_numel(part) == 0)
			continue;
		status = put_part(joint, result, part, from);
		from += tdr_tensor_sizes(part)[joint->dim];
	}
	if (status != TDR_OK) {
		tdr_tensor_unref(result);
		return status;
	}
	*ret_tensor = result;
	return TDR_OK;
}

tdr_status operator_cat(tdr_call *call, void *context)
{
	const tdr_value *list = tdr_arg(call, 0);
	struct joint joint;
	tdr_tensor *result = NULL;
	tdr_status status;

	(void)context;
	status = joint_init(&joint, call, list);
	if (status == TDR_OK && !joint.first)
		status = tdr_tensor_empty(promotion_result(&joint.promotion), 1, (const int64_t[]){0}, &result);
	else if (status == TDR_OK)
		status = join(&joint, list, &result);
	return give_tensor(call, status, result);
}

/* ---- index_select ---- */

tdr_status arg_index(tdr_call *call, size_t argument, tdr_tensor **ret_index)
{
	tdr_tensor *index = tdr_arg_tensor(call, argument);
	tdr_status status = check_operand(call, index);

	if (status != TDR_OK)
		return status;
	if (tdr_tensor_ndim(index) > 1)
		return refuse(call, TDR_EINVAL, "Index is supposed to be a vector, but it has %zu dimensions",
		              tdr_tensor_ndim(index));
	if (tdr_tensor_dtype(index) != TDR_I64)
		return refuse(call, TDR_ETYPE, "Expected dtype int64 for index but got: %s",
		              dtype_long_name(tdr_tensor_dtype(index)));
	return tdr_tensor_contiguous(index, ret_index);
}

tdr_status check_index(tdr_call *call, const tdr_tensor *index, int64_t size)
{
	const int64_t *items = tdr_tensor_data(index);

	for (int64_t i = 0; i < tdr_tensor_numel(index); i++)
		if (items[i] < 0 || items[i] >= size)
			return refuse(call, TDR_EINVAL,
			              "index out of range in self: index %lld is %lld, the dimension's size %lld",
			              (long long)i, (long long)items[i], (long long)size);
	return TDR_OK;
}

/* Copies slices of contiguous tensors: runs of what lies after the dimension, once for all that lies before it. */
static void copy_slices(const tdr_tensor *from, const tdr_tensor *index, size_t dim, tdr_tensor *to)
{
	const int64_t *sizes = tdr_tensor_sizes(from), *items = tdr_tensor_data(index);
	const int64_t count = tdr_tensor_numel(index);
	size_t bytes = tdr_dtype_size(tdr_tensor_dtype(from));
	int64_t before = 1;
	const char *in = tdr_tensor_data(from);
	char *out = tdr_tensor_data(to);

	for (size_t d = 0; d < dim; d++)
		before *= sizes[d];
	for (size_t d = dim + 1; d < tdr_tensor_ndim(from); d++)
		bytes *= (size_t)sizes[d];
	for (int64_t i = 0; i < before; i++) {
		for (int64_t k = 0; k < count; k++) {
			memcpy(out, in + (size_t)items[k] * bytes, bytes);
			out += bytes;
		}
		in += (size_t)sizes[dim] * bytes;
	}
}

static tdr_status index_select(tdr_call *call, tdr_tensor *self, size_t dim, const tdr_tensor *index,
                               tdr_tensor **ret_tensor)
{
	const size_t ndim = tdr_tensor_ndim(self);
	int64_t sizes[TDR_MAX_DIMS];
	tdr_tensor *dense = NULL, *result = NULL;
	tdr_status status = check_index(call, index, ndim > 0 ? tdr_tensor_sizes(self)[dim] : 1);

	if (status == TDR_OK && ndim == 0 && tdr_tensor_numel(index) != 1)
		return refuse(call, TDR_EINVAL,
		              "index_select(): Index to scalar can have only 1 value, got %lld value(s)",
		              (long long)tdr_tensor_numel(index));
	if (status != TDR_OK)
		return status;
	if (ndim == 0)
		return tdr_tensor_clone(self, ret_tensor);
	memcpy(sizes, tdr_tensor_sizes(self), ndim * sizeof(*sizes));
	sizes[dim] = tdr_tensor_numel(index);
	status = tdr_tensor_contiguous(self, &dense);
	if (status == TDR_OK)
		status = tdr_tensor_empty(tdr_tensor_dtype(self), ndim, sizes, &result);
	if (status == TDR_OK && tdr_tensor_numel(result) > 0)
		copy_slices(dense, index, dim, result);
	tdr_tensor_unref(dense);
	if (status == TDR_OK)
		*ret_tensor = result;
	return status;
}

tdr_status operator_index_select(tdr_call *call, void *context)
{
	tdr_tensor *self, *index = NULL, *result = NULL;
	size_t dim;
	tdr_status status;

	(void)context;
	status = arg_operand(call, 0, &self);
	if (status == TDR_OK)
		status = dim_wrap(call, tdr_arg_int(call, 1), tdr_tensor_ndim(self), &dim);
	if (status == TDR_OK)
		status = arg_index(call, 2, &index);
	if (status == TDR_OK)
		status = index_select(call, self, dim, index, &result);
	tdr_tensor_unref(index);
	return give_tensor(call, status, result);
}
