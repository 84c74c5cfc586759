/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversions between dtypes. What C leaves open is settled here: a floating-point number that no i64 can hold, NaN
 * included, becomes the smallest i64; every number but zero is true.
 */
#include "operators/cast.h"

#include "operators/iterate.h"
#include "operators/promote.h"

#include <assert.h>

static inline int64_t integer_of(double real)
{
	return real >= -0x1p63 && real < 0x1p63 ? (int64_t)real : INT64_MIN;
}

ITERATE_UNARY(bool_to_bool, uint8_t, uint8_t, a != 0)
ITERATE_UNARY(bool_to_i64, int64_t, uint8_t, a != 0)
ITERATE_UNARY(bool_to_f32, float, uint8_t, a != 0)
ITERATE_UNARY(bool_to_f64, double, uint8_t, a != 0)
ITERATE_UNARY(i64_to_bool, uint8_t, int64_t, a != 0)
ITERATE_UNARY(i64_to_i64, int64_t, int64_t, a)
ITERATE_UNARY(i64_to_f32, float, int64_t, a)
ITERATE_UNARY(i64_to_f64, double, int64_t, a)
ITERATE_UNARY(f32_to_bool, uint8_t, float, a != 0)
ITERATE_UNARY(f32_to_i64, int64_t, float, integer_of((double)a))
ITERATE_UNARY(f32_to_f32, float, float, a)
ITERATE_UNARY(f32_to_f64, double, float, a)
ITERATE_UNARY(f64_to_bool, uint8_t, double, a != 0)
ITERATE_UNARY(f64_to_i64, int64_t, double, integer_of(a))
ITERATE_UNARY(f64_to_f32, float, double, a)
ITERATE_UNARY(f64_to_f64, double, double, a)

static const iterate_inner conversions[DTYPE_ROOM][DTYPE_ROOM] = {
#define CONVERSIONS_FROM(dtype, name)                                                                                  \
	[dtype] = {[TDR_BOOL] = name##_to_bool,                                                                        \
	           [TDR_I64] = name##_to_i64,                                                                          \
	           [TDR_F32] = name##_to_f32,                                                                          \
	           [TDR_F64] = name##_to_f64}
    CONVERSIONS_FROM(TDR_BOOL, bool),
    CONVERSIONS_FROM(TDR_I64, i64),
    CONVERSIONS_FROM(TDR_F32, f32),
    CONVERSIONS_FROM(TDR_F64, f64),
#undef CONVERSIONS_FROM
};

void tensor_fill(tdr_tensor *to, const tdr_tensor *from)
{
	const tdr_dtype source = tdr_tensor_dtype(from), target = tdr_tensor_dtype(to);
	struct iterate iterate;

	assert(dtype_supported(source) && dtype_supported(target));
	iterate_init(&iterate, tdr_tensor_ndim(to), tdr_tensor_sizes(to));
	iterate_add(&iterate, to);
	iterate_add(&iterate, from);
	iterate_run(&iterate, conversions[source][target], NULL);
}

tdr_status tensor_cast(tdr_tensor *tensor, tdr_dtype dtype, tdr_tensor **ret_tensor)
{
	tdr_tensor *copy = NULL;
	tdr_status status;

	if (tdr_tensor_dtype(tensor) == dtype) {
		*ret_tensor = tdr_tensor_ref(tensor);
		return TDR_OK;
	}
	status = tdr_tensor_empty(dtype, tdr_tensor_ndim(tensor), tdr_tensor_sizes(tensor), &copy);
	if (status != TDR_OK)
		return status;
	tensor_fill(copy, tensor);
	*ret_tensor = copy;
	return TDR_OK;
}

tdr_status tensor_shaped(const tdr_tensor *tensor, size_t ndim, const int64_t *sizes, tdr_tensor **ret_tensor)
{
	return tdr_tensor_view(tdr_tensor_storage(tensor), tdr_tensor_dtype(tensor), ndim, sizes, NULL,
	                       tdr_tensor_offset(tensor), ret_tensor);
}
