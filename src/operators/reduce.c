/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sum, mean and argmax.
 *
 * Sums are kept in wider numbers: f64 for floating point, i64 (wrapping) for integers and bools. The walk is over the
 * input in its own order, with the sums as a tensor of size 1 in the dimensions that go away: broadcasting then brings
 * each element to its sum. A run that goes into one sum is added up pairwise, so that the error stays small however
 * long it is.
 */
#include "operators/cast.h"
#include "operators/elementwise.h"
#include "operators/operators.h"

#include <math.h>

#define PAIRWISE_RUN 128

#define DEFINE_SUM(name, sum_type, wrap_type, in_type, element)                                                        \
	static sum_type name##_run(const char *in, int64_t stride, int64_t count)                                      \
	{                                                                                                              \
		wrap_type sums[4] = {0};                                                                               \
		int64_t i;                                                                                             \
                                                                                                                       \
		if (count > PAIRWISE_RUN) {                                                                            \
			const int64_t half = count / 2 / 4 * 4;                                                        \
			return (sum_type)((wrap_type)name##_run(in, stride, half) +                                    \
			                  (wrap_type)name##_run(in + half * stride, stride, count - half));            \
		}                                                                                                      \
		for (i = 0; i + 4 <= count; i += 4)                                                                    \
			for (int64_t lane = 0; lane < 4; lane++) {                                                     \
				const in_type a = *(const in_type *)(const void *)(in + (i + lane) * stride);          \
				sums[lane] += (wrap_type)(element);                                                    \
			}                                                                                              \
		for (; i < count; i++) {                                                                               \
			const in_type a = *(const in_type *)(const void *)(in + i * stride);                           \
			sums[0] += (wrap_type)(element);                                                               \
		}                                                                                                      \
		return (sum_type)((sums[0] + sums[1]) + (sums[2] + sums[3]));                                          \
	}                                                                                                              \
                                                                                                                       \
	static void name(char *const data[], const int64_t strides[], int64_t count, void *context)                    \
	{                                                                                                              \
		sum_type *sum = (sum_type *)(void *)data[0];                                                           \
		const in_type *in = (const in_type *)(const void *)data[1];                                            \
                                                                                                                       \
		(void)context;                                                                                         \
		if (strides[0] == 0) {                                                                                 \
			*sum = (sum_type)((wrap_type)*sum + (wrap_type)name##_run(data[1], strides[1], count));        \
			return;                                                                                        \
		}                                                                                                      \
		if (strides[0] == (int64_t)sizeof(sum_type) && strides[1] == (int64_t)sizeof(in_type)) {               \
			for (int64_t i = 0; i < count; i++) {                                                          \
				const in_type a = in[i];                                                               \
				sum[i] = (sum_type)((wrap_type)sum[i] + (wrap_type)(element));                         \
			}                                                                                              \
			return;                                                                                        \
		}                                                                                                      \
		for (int64_t i = 0; i < count; i++) {                                                                  \
			const in_type a = *(const in_type *)(const void *)(data[1] + i * strides[1]);                  \
			sum = (sum_type *)(void *)(data[0] + i * strides[0]);                                          \
			*sum = (sum_type)((wrap_type)*sum + (wrap_type)(element));                                     \
		}                                                                                                      \
	}

DEFINE_SUM(sum_bool, int64_t, uint64_t, uint8_t, a != 0)
DEFINE_SUM(sum_i64, int64_t, uint64_t, int64_t, a)
DEFINE_SUM(sum_f32, double, double, float, a)
DEFINE_SUM(sum_f64, double, double, double, a)

static const iterate_inner sum_inner[DTYPE_ROOM] = {
    [TDR_BOOL] = sum_bool, [TDR_I64] = sum_i64, [TDR_F32] = sum_f32, [TDR_F64] = sum_f64};

/* The shape that is left: size 1 where `reduced`, and with `drop` without these dimensions. */
static size_t reduced_shape(const tdr_tensor *tensor, const bool reduced[], bool drop, int64_t ret_sizes[TDR_MAX_DIMS])
{
	const int64_t *sizes = tdr_tensor_sizes(tensor);
	size_t ndim = 0;

	for (size_t d = 0; d < tdr_tensor_ndim(tensor); d++)
		if (!reduced[d])
			ret_sizes[ndim++] = sizes[d];
		else if (!drop)
			ret_sizes[ndim++] = 1;
	return ndim;
}

/* Sums in their wide type, divided by the number of addends for a mean; the reduced dimensions are kept. */
static tdr_status sum_wide(const tdr_tensor *input, const bool reduced[], bool mean, tdr_tensor **ret_tensor)
{
	const bool real = dtype_is_float(tdr_tensor_dtype(input));
	int64_t sizes[TDR_MAX_DIMS], addends = 1;
	const size_t ndim = reduced_shape(input, reduced, false, sizes);
	struct iterate iterate;
	tdr_tensor *sums = NULL;
	tdr_status status;

	status = tdr_tensor_zeros(real ? TDR_F64 : TDR_I64, ndim, sizes, &sums);
	if (status != TDR_OK)
		return status;
	iterate_init(&iterate, ndim, tdr_tensor_sizes(input));
	iterate_add(&iterate, sums);
	iterate_add(&iterate, input);
	iterate_run(&iterate, sum_inner[tdr_tensor_dtype(input)], NULL);
	for (size_t d = 0; d < ndim; d++)
		addends *= reduced[d] ? tdr_tensor_sizes(input)[d] : 1;
	if (mean) {
		double *items = tdr_tensor_data(sums);

		for (int64_t i = 0; i < tdr_tensor_numel(sums); i++)
			items[i] /= (double)addends;
	}
	*ret_tensor = sums;
	return TDR_OK;
}

/* Returns the sums or means of the input, which is converted to `dtype` first. */
static tdr_status return_sum(tdr_call *call, tdr_tensor *input, const bool reduced[], bool keep, tdr_dtype dtype,
                             bool mean)
{
	tdr_tensor *converted = NULL, *wide = NULL, *narrow = NULL, *result = NULL;
	int64_t sizes[TDR_MAX_DIMS];
	const size_t ndim = reduced_shape(input, reduced, !keep, sizes);
	tdr_status status;

	/* Bools are counted as they are; a conversion to i64 first would only cost memory. */
	status = tdr_tensor_dtype(input) == TDR_BOOL && dtype == TDR_I64 ? tensor_cast(input, TDR_BOOL, &converted)
	                                                                 : tensor_cast(input, dtype, &converted);
	if (status == TDR_OK)
		status = sum_wide(converted, reduced, mean, &wide);
	if (status == TDR_OK)
		status = tensor_cast(wide, dtype, &narrow);
	if (status == TDR_OK)
		status = tensor_shaped(narrow, ndim, sizes, &result);
	tdr_tensor_unref(converted);
	tdr_tensor_unref(wide);
	tdr_tensor_unref(narrow);
	return give_tensor(call, status, result);
}

static const bool reduce_all[TDR_MAX_DIMS] = {[0 ... TDR_MAX_DIMS - 1] = true};

/* The dtype of a sum: what argument `index` asks for, else the input's, or i64 for bools. */
static tdr_status sum_dtype(tdr_call *call, const tdr_tensor *input, size_t index, tdr_dtype *ret_dtype)
{
	*ret_dtype = dtype_is_float(tdr_tensor_dtype(input)) ? tdr_tensor_dtype(input) : TDR_I64;
	return arg_dtype(call, index, ret_dtype);
}

static tdr_status mean_dtype(tdr_call *call, const tdr_tensor *input, size_t index, tdr_dtype *ret_dtype)
{
	tdr_status status;

	*ret_dtype = tdr_tensor_dtype(input);
	status = arg_dtype(call, index, ret_dtype);
	if (status == TDR_OK && !dtype_is_float(*ret_dtype))
		return refuse(
		    call, TDR_ETYPE,
		    "mean(): could not infer output dtype. %s dtype must be either a floating point or complex dtype. "
		    "Got: %s",
		    tdr_arg_is_none(call, index) ? "Input" : "Optional", dtype_long_name(*ret_dtype));
	return status;
}

/* Arguments: self, dtype. */
static tdr_status reduce_whole(tdr_call *call, bool mean)
{
	tdr_tensor *input;
	tdr_dtype dtype;
	tdr_status status = arg_operand(call, 0, &input);

	if (status == TDR_OK)
		status = mean ? mean_dtype(call, input, 1, &dtype) : sum_dtype(call, input, 1, &dtype);
	return status == TDR_OK ? return_sum(call, input, reduce_all, false, dtype, mean) : status;
}

/* Arguments: self, dim, keepdim, dtype. */
static tdr_status reduce_dims(tdr_call *call, bool mean)
{
	bool reduced[TDR_MAX_DIMS];
	tdr_tensor *input;
	tdr_dtype dtype;
	tdr_status status = arg_operand(call, 0, &input);

	if (status == TDR_OK)
		status = arg_dims(call, 1, tdr_tensor_ndim(input), reduced);
	if (status == TDR_OK)
		status = mean ? mean_dtype(call, input, 3, &dtype) : sum_dtype(call, input, 3, &dtype);
	return status == TDR_OK ? return_sum(call, input, reduced, tdr_arg_bool(call, 2), dtype, mean) : status;
}

tdr_status operator_sum(tdr_call *call, void *context)
{
	(void)context;
	return reduce_whole(call, false);
}

tdr_status operator_sum_dims(tdr_call *call, void *context)
{
	(void)context;
	return reduce_dims(call, false);
}

tdr_status operator_mean(tdr_call *call, void *context)
{
	(void)context;
	return reduce_whole(call, true);
}

tdr_status operator_mean_dims(tdr_call *call, void *context)
{
	(void)context;
	return reduce_dims(call, true);
}

/* ---- argmax ---- */

/* One row among those that argmax looks through. */
struct row {
	int64_t count;
	int64_t stride; /* bytes */
};

/* The first of the largest, or the first NaN: nothing is larger than NaN. `above` compares item b with the best, a. */
#define DEFINE_ARGMAX(name, type, above)                                                                               \
	static void name(char *const data[], const int64_t strides[], int64_t count, void *context)                    \
	{                                                                                                              \
		const struct row *row = context;                                                                       \
                                                                                                                       \
		for (int64_t i = 0; i < count; i++) {                                                                  \
			const char *in = data[1] + i * strides[1];                                                     \
			type a = *(const type *)(const void *)in;                                                      \
			int64_t best = 0;                                                                              \
                                                                                                                       \
			for (int64_t k = 1; k < row->count; k++) {                                                     \
				const type b = *(const type *)(const void *)(in + k * row->stride);                    \
				if (above) {                                                                           \
					best = k;                                                                      \
					a = b;                                                                         \
				}                                                                                      \
			}                                                                                              \
			*(int64_t *)(void *)(data[0] + i * strides[0]) = best;                                         \
		}                                                                                                      \
	}

DEFINE_ARGMAX(argmax_i64, int64_t, b > a)
DEFINE_ARGMAX(argmax_f32, float, b > a || (isnan(b) && !isnan(a)))
DEFINE_ARGMAX(argmax_f64, double, b > a || (isnan(b) && !isnan(a)))

static const iterate_inner argmax_inner[DTYPE_ROOM] = {
    [TDR_I64] = argmax_i64, [TDR_F32] = argmax_f32, [TDR_F64] = argmax_f64};

/* The largest along dimension `dim`, which is not empty, into a tensor of the shape that is left with size 1 there. */
static tdr_status argmax_along(const tdr_tensor *input, size_t dim, tdr_tensor **ret_tensor)
{
	const int64_t item = (int64_t)tdr_dtype_size(tdr_tensor_dtype(input));
	struct row row = {.count = tdr_tensor_sizes(input)[dim], .stride = tdr_tensor_strides(input)[dim] * item};
	bool reduced[TDR_MAX_DIMS] = {false};
	int64_t sizes[TDR_MAX_DIMS];
	struct iterate iterate;
	tdr_tensor *rows = NULL, *result = NULL;
	size_t ndim;
	tdr_status status;

	reduced[dim] = true;
	ndim = reduced_shape(input, reduced, false, sizes);
	status = tdr_tensor_empty(TDR_I64, ndim, sizes, &result);
	if (status == TDR_OK)
		status = tdr_tensor_view(tdr_tensor_storage(input), tdr_tensor_dtype(input), ndim, sizes,
		                         tdr_tensor_strides(input), tdr_tensor_offset(input), &rows);
	if (status != TDR_OK) {
		tdr_tensor_unref(result);
		return status;
	}
	iterate_init(&iterate, ndim, sizes);
	iterate_add(&iterate, result);
	iterate_add(&iterate, rows);
	iterate_run(&iterate, argmax_inner[tdr_tensor_dtype(input)], &row);
	tdr_tensor_unref(rows);
	*ret_tensor = result;
	return TDR_OK;
}

/* The input with all elements in one dimension. */
static tdr_status flatten(tdr_tensor *input, tdr_tensor **ret_tensor)
{
	const int64_t numel = tdr_tensor_numel(input);
	tdr_tensor *dense = NULL;
	tdr_status status = tdr_tensor_contiguous(input, &dense);

	if (status == TDR_OK)
		status = tensor_shaped(dense, 1, &numel, ret_tensor);
	tdr_tensor_unref(dense);
	return status;
}

static tdr_status argmax(tdr_call *call, tdr_tensor *input, tdr_tensor **ret_tensor)
{
	const bool all = tdr_arg_is_none(call, 1) || tdr_tensor_ndim(input) == 0;
	tdr_tensor *flat = NULL, *found = NULL;
	bool reduced[TDR_MAX_DIMS] = {false};
	bool trivial; /* one element along the dimension, or none in all: 0 in any dtype */
	int64_t sizes[TDR_MAX_DIMS];
	size_t dim = 0, ndim;
	tdr_status status = TDR_OK;

	if (!tdr_arg_is_none(call, 1))
		status = dim_wrap(call, tdr_arg_int(call, 1), tdr_tensor_ndim(input), &dim);
	if (status != TDR_OK)
		return status;
	if (all && tdr_tensor_numel(input) == 0)
		return refuse(
		    call, TDR_EINVAL,
		    "argmax(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction "
		    "dim with the 'dim' argument.");
	if (!all && tdr_tensor_sizes(input)[dim] == 0)
		return refuse(call, TDR_EINVAL, "argmax(): Expected reduction dim %zu to have non-zero size.", dim);
	trivial = !all && (tdr_tensor_sizes(input)[dim] == 1 || tdr_tensor_numel(input) == 0);
	if (!trivial && !argmax_inner[tdr_tensor_dtype(input)])
		return refuse(call, TDR_EUNSUPPORTED, "\"argmax_cpu\" not implemented for '%s'",
		              dtype_long_name(tdr_tensor_dtype(input)));
	reduced[dim] = true;
	ndim = reduced_shape(input, all ? reduce_all : reduced, !tdr_arg_bool(call, 2), sizes);
	if (trivial)
		return tdr_tensor_zeros(TDR_I64, ndim, sizes, ret_tensor);
	status = all ? flatten(input, &flat) : TDR_OK;
	if (status == TDR_OK)
		status = argmax_along(all ? flat : input, dim * !all, &found);
	if (status == TDR_OK)
		status = tensor_shaped(found, ndim, sizes, ret_tensor);
	tdr_tensor_unref(flat);
	tdr_tensor_unref(found);
	return status;
}

tdr_status operator_argmax(tdr_call *call, void *context)
{
	tdr_tensor *input, *result = NULL;
	tdr_status status;

	(void)context;
	status = arg_operand(call, 0, &input);
	if (status == TDR_OK)
		status = argmax(call, input, &result);
	return give_tensor(call, status, result);
}
