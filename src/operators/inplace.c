/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_ and index_add_: operators that write to a tensor they are given, and return it. All is checked before the first
 * element is written. A source that lies in the same storage is copied first, so that nothing is read after it was
 * overwritten.
 */
#include "operators/cast.h"
#include "operators/elementwise.h"
#include "operators/join.h"
#include "operators/operators.h"

/* The source itself (a new reference), or a copy where it shares memory with `self`. */
static tdr_status take_apart(const tdr_tensor *self, tdr_tensor *source, tdr_tensor **ret_source)
{
	if (tdr_tensor_storage(self) == tdr_tensor_storage(source))
		return tdr_tensor_clone(source, ret_source);
	*ret_source = tdr_tensor_ref(source);
	return TDR_OK;
}

tdr_status operator_copy_to(tdr_call *call, void *context)
{
	tdr_tensor *self, *source, *apart = NULL;
	tdr_status status;

	(void)context;
	status = arg_operand(call, 0, &self);
	if (status == TDR_OK)
		status = arg_operand(call, 1, &source);
	if (status == TDR_OK)
		status = check_writable(call, self);
	if (status == TDR_OK)
		status = check_broadcast_to(call, self, source);
	if (status == TDR_OK)
		status = take_apart(self, source, &apart);
	if (status != TDR_OK)
		return status;
	tensor_fill(self, apart);
	tdr_tensor_unref(apart);
	return tdr_return_tensor(call, self);
}

/* ---- index_add_ ---- */

/* The first slice along `dim`, without that dimension; the tensor itself where it has none. */
static tdr_status first_slice(const tdr_tensor *tensor, size_t dim, tdr_tensor **ret_slice)
{
	const size_t ndim = tdr_tensor_ndim(tensor);
	int64_t sizes[TDR_MAX_DIMS], strides[TDR_MAX_DIMS];
	size_t left = 0;

	for (size_t d = 0; d < ndim; d++) {
		if (d == dim)
			continue;
		sizes[left] = tdr_tensor_sizes(tensor)[d];
		strides[left++] = tdr_tensor_strides(tensor)[d];
	}
	return tdr_tensor_view(tdr_tensor_storage(tensor), tdr_tensor_dtype(tensor), left, sizes, strides,
	                       tdr_tensor_offset(tensor), ret_slice);
}

/* Bytes from one slice along `dim` to the next. */
static int64_t slice_stride(const tdr_tensor *tensor, size_t dim)
{
	if (tdr_tensor_ndim(tensor) == 0)
		return 0;
	return tdr_tensor_strides(tensor)[dim] * (int64_t)tdr_dtype_size(tdr_tensor_dtype(tensor));
}

static tdr_status check_source(tdr_call *call, const tdr_tensor *self, size_t dim, const tdr_tensor *index,
                               const tdr_tensor *source)
{
	const int64_t count = tdr_tensor_numel(index);

	if (tdr_tensor_dtype(self) != tdr_tensor_dtype(source))
		return refuse(call, TDR_ETYPE, "index_add_(): self (%s) and source (%s) must have the same scalar type",
		              dtype_long_name(tdr_tensor_dtype(self)), dtype_long_name(tdr_tensor_dtype(source)));
	if (tdr_tensor_ndim(source) == 0 ? dim > 0 : dim >= tdr_tensor_ndim(source))
		return refuse(call, TDR_EINVAL, "index_add_(): Indexing dim %zu is out of bounds of tensor", dim);
	if (count != (tdr_tensor_ndim(source) == 0 ? 1 : tdr_tensor_sizes(source)[dim]))
		return refuse(
		    call, TDR_EINVAL,
		    "index_add_(): Number of indices (%lld) should be equal to source.size(dim): (%lld), for dim: %zu",
		    (long long)count, tdr_tensor_ndim(source) == 0 ? 1LL : (long long)tdr_tensor_sizes(source)[dim],
		    dim);
	return check_index(call, index, tdr_tensor_ndim(self) == 0 ? 1 : tdr_tensor_sizes(self)[dim]);
}

/* Adds slice after slice; there is an index, and so a slice of self. */
static tdr_status add_slices(tdr_call *call, tdr_tensor *self, size_t dim, const tdr_tensor *index,
                             const tdr_tensor *source, union element *alpha)
{
	const int64_t *items = tdr_tensor_data(index);
	const int64_t step = slice_stride(self, dim), source_step = slice_stride(source, dim);
	tdr_tensor *to = NULL, *from = NULL;
	struct iterate iterate;
	char *to_data, *from_data;
	tdr_status status;

	status = first_slice(self, dim, &to);
	if (status == TDR_OK)
		status = first_slice(source, dim, &from);
	if (status == TDR_OK)
		status = check_broadcast_to(call, to, from);
	if (status == TDR_OK && tdr_tensor_numel(to) > 0) { /* else there may be no memory to point into */
		iterate_init(&iterate, tdr_tensor_ndim(to), tdr_tensor_sizes(to));
		iterate_add(&iterate, to);
		iterate_add(&iterate, to);
		iterate_add(&iterate, from);
		to_data = tdr_tensor_data(to);
		from_data = tdr_tensor_data(from);
		for (int64_t i = 0; i < tdr_tensor_numel(index); i++) {
			iterate.data[0] = iterate.data[1] = to_data + items[i] * step;
			iterate.data[2] = from_data + i * source_step;
			iterate_run(&iterate, arithmetic_add_inner(tdr_tensor_dtype(self)), alpha);
		}
	}
	tdr_tensor_unref(to);
	tdr_tensor_unref(from);
	return status;
}

static tdr_status index_add(tdr_call *call, tdr_tensor *self, tdr_tensor *source)
{
	tdr_tensor *index = NULL, *apart = NULL;
	union element alpha = {0};
	struct number number;
	size_t dim = 0;
	tdr_status status;

	status = dim_wrap(call, tdr_arg_int(call, 1), tdr_tensor_ndim(self), &dim);
	if (status == TDR_OK)
		status = arg_number(call, 4, "alpha", &number);
	if (status == TDR_OK)
		status = number_convert(call, &number, tdr_tensor_dtype(self), &alpha);
	if (status == TDR_OK)
		status = check_writable(call, self);
	if (status == TDR_OK)
		status = arg_index(call, 2, &index);
	if (status == TDR_OK)
		status = check_source(call, self, dim, index, source);
	if (status == TDR_OK && tdr_tensor_numel(index) > 0) {
		status = take_apart(self, source, &apart);
		if (status == TDR_OK)
			status = add_slices(call, self, dim, index, apart, &alpha);
	}
	tdr_tensor_unref(index);
	tdr_tensor_unref(apart);
	return status;
}

/* Arguments: self, dim, index, source, alpha. */
tdr_status operator_index_add_to(tdr_call *call, void *context)
{
	tdr_tensor *self, *source;
	tdr_status status;

	(void)context;
	status = arg_operand(call, 0, &self);
	if (status == TDR_OK)
		status = arg_operand(call, 3, &source);
	if (status == TDR_OK)
		status = index_add(call, self, source);
	return status == TDR_OK ? tdr_return_tensor(call, self) : status;
}
