/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_softmax: x - log(sum(exp(x))) along one dimension. The largest x is taken off first, so that no exponential
 * overflows.
 */
#include "operators/cast.h"
#include "operators/elementwise.h"
#include "operators/operators.h"

#include <math.h>

/* A row of the result and the input. */
struct row {
	int64_t count;
	int64_t out_stride, in_stride; /* bytes */
};

#define DEFINE_LOG_SOFTMAX(name, type, exponential)                                                                    \
	static void name(char *const data[], const int64_t strides[], int64_t count, void *context)                    \
	{                                                                                                              \
		const struct row *row = context;                                                                       \
                                                                                                                       \
		for (int64_t i = 0; i < count; i++) {                                                                  \
			const char *in = data[1] + i * strides[1];                                                     \
			char *out = data[0] + i * strides[0];                                                          \
			type largest = *(const type *)(const void *)in;                                                \
			double sum = 0;                                                                                \
                                                                                                                       \
			for (int64_t k = 1; k < row->count; k++) {                                                     \
				const type x = *(const type *)(const void *)(in + k * row->in_stride);                 \
				largest = x > largest || isnan(x) ? x : largest;                                       \
			}                                                                                              \
			for (int64_t k = 0; k < row->count; k++)                                                       \
				sum += exponential(*(const type *)(const void *)(in + k * row->in_stride) - largest);  \
			sum = log(sum);                                                                                \
			for (int64_t k = 0; k < row->count; k++) {                                                     \
				const type x = *(const type *)(const void *)(in + k * row->in_stride);                 \
				*(type *)(void *)(out + k * row->out_stride) = (type)((double)(x - largest) - sum);    \
			}                                                                                              \
		}                                                                                                      \
	}

DEFINE_LOG_SOFTMAX(log_softmax_f32, float, (double)expf)
DEFINE_LOG_SOFTMAX(log_softmax_f64, double, exp)

/* A view of the first element of each row along `dim`; the tensor has an element at least. */
static tdr_status row_starts(const tdr_tensor *tensor, size_t dim, tdr_tensor **ret_tensor)
{
	int64_t sizes[TDR_MAX_DIMS];
	const size_t ndim = tdr_tensor_ndim(tensor);

	for (size_t d = 0; d < ndim; d++)
		sizes[d] = d == dim ? 1 : tdr_tensor_sizes(tensor)[d];
	return tdr_tensor_view(tdr_tensor_storage(tensor), tdr_tensor_dtype(tensor), ndim, sizes,
	                       tdr_tensor_strides(tensor), tdr_tensor_offset(tensor), ret_tensor);
}

static tdr_status log_softmax(const tdr_tensor *input, size_t dim, tdr_tensor *result)
{
	const bool single = tdr_tensor_dtype(input) == TDR_F32;
	const int64_t item = (int64_t)tdr_dtype_size(tdr_tensor_dtype(input));
	struct row row = {.count = 1};
	struct iterate iterate;
	tdr_tensor *from = NULL, *to = NULL;
	tdr_status status;

	if (tdr_tensor_ndim(input) > 0) {
		row.count = tdr_tensor_sizes(input)[dim];
		row.in_stride = tdr_tensor_strides(input)[dim] * item;
		row.out_stride = tdr_tensor_strides(result)[dim] * item;
	}
	status = row_starts(input, dim, &from);
	if (status == TDR_OK)
		status = row_starts(result, dim, &to);
	if (status == TDR_OK) {
		iterate_init(&iterate, tdr_tensor_ndim(to), tdr_tensor_sizes(to));
		iterate_add(&iterate, to);
		iterate_add(&iterate, from);
		iterate_run(&iterate, single ? log_softmax_f32 : log_softmax_f64, &row);
	}
	tdr_tensor_unref(from);
	tdr_tensor_unref(to);
	return status;
}

tdr_status operator_log_softmax(tdr_call *call, void *context)
{
	tdr_tensor *input, *converted = NULL, *result = NULL;
	tdr_dtype dtype;
	size_t dim;
	tdr_status status;

	(void)context;
	status = arg_operand(call, 0, &input);
	if (status != TDR_OK)
		return status;
	dtype = tdr_tensor_dtype(input);
	status = arg_dtype(call, 2, &dtype);
	if (status == TDR_OK && !dtype_is_float(dtype))
		status = refuse(call, TDR_EUNSUPPORTED, "\"softmax_kernel_impl\" not implemented for '%s'",
		                dtype_long_name(dtype));
	if (status == TDR_OK)
		status = dim_wrap(call, tdr_arg_int(call, 1), tdr_tensor_ndim(input), &dim);
	if (status == TDR_OK)
		status = tensor_cast(input, dtype, &converted);
	if (status == TDR_OK)
		status = tdr_tensor_empty(dtype, tdr_tensor_ndim(input), tdr_tensor_sizes(input), &result);
	if (status == TDR_OK && tdr_tensor_numel(input) > 0)
		status = log_softmax(converted, dim, result);
	tdr_tensor_unref(converted);
	return give_tensor(call, status, result);
}
