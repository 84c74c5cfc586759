/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking tensors. The walk keeps its dimensions from the innermost to the outermost, without those of size 1; a
 * dimension is joined with the next outer one where, in every tensor, one step of the outer equals a full turn of the
 * inner.
 */
#include "operators/iterate.h"

#include <assert.h>
#include <string.h>

void iterate_init(struct iterate *iterate, size_t ndim, const int64_t *sizes)
{
	assert(ndim <= TDR_MAX_DIMS);
	memset(iterate, 0, sizeof(*iterate));
	iterate->ndim = ndim;
	for (size_t d = 0; d < ndim; d++)
		iterate->sizes[d] = sizes[ndim - 1 - d];
}

void iterate_add(struct iterate *iterate, const tdr_tensor *tensor)
{
	const size_t t = iterate->ntensors++;
	const size_t ndim = tdr_tensor_ndim(tensor);
	const int64_t *sizes = tdr_tensor_sizes(tensor);
	const int64_t *strides = tdr_tensor_strides(tensor);
	const int64_t item = (int64_t)tdr_dtype_size(tdr_tensor_dtype(tensor));

	assert(t < ITERATE_TENSORS && ndim <= iterate->ndim);
	iterate->data[t] = tdr_tensor_data(tensor);
	for (size_t d = 0; d < ndim; d++) {
		const int64_t size = sizes[ndim - 1 - d];

		assert(size == 1 || size == iterate->sizes[d]);
		iterate->strides[d][t] = size == 1 ? 0 : strides[ndim - 1 - d] * item;
	}
}

/* Whether dimension `outer` goes on in every tensor where a full turn of dimension `inner` ends. */
static bool joins(const struct iterate *iterate, size_t inner, size_t outer)
{
	for (size_t t = 0; t < iterate->ntensors; t++)
		if (iterate->strides[outer][t] != iterate->strides[inner][t] * iterate->sizes[inner])
			return false;
	return true;
}

static void collapse(struct iterate *iterate)
{
	size_t kept = 0;

	for (size_t d = 0; d < iterate->ndim; d++) {
		if (iterate->sizes[d] == 1)
			continue;
		if (kept > 0 && joins(iterate, kept - 1, d)) {
			iterate->sizes[kept - 1] *= iterate->sizes[d];
			continue;
		}
		iterate->sizes[kept] = iterate->sizes[d];
		memcpy(iterate->strides[kept], iterate->strides[d], sizeof(iterate->strides[d]));
		kept++;
	}
	iterate->ndim = kept;
}

void iterate_run(struct iterate *iterate, iterate_inner inner, void *context)
{
	int64_t index[TDR_MAX_DIMS] = {0};
	int64_t run;
	size_t d;

	for (d = 0; d < iterate->ndim; d++)
		if (iterate->sizes[d] == 0)
			return;
	collapse(iterate);
	run = iterate->ndim > 0 ? iterate->sizes[0] : 1;
	for (;;) {
		inner(iterate->data, iterate->strides[0], run, context);
		for (d = 1; d < iterate->ndim; d++) {
			for (size_t t = 0; t < iterate->ntensors; t++)
				iterate->data[t] += iterate->strides[d][t];
			if (++index[d] < iterate->sizes[d])
				break;
			for (size_t t = 0; t < iterate->ntensors; t++)
				iterate->data[t] -= iterate->strides[d][t] * iterate->sizes[d];
			index[d] = 0;
		}
		if (d >= iterate->ndim)
			return;
	}
}
