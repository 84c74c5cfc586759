/* SPDX-License-Identifier: Apache-2.0 */
/* Reading arguments. A parameter that may be a number or a dtype is `Any` to its schema, and checked here. */
#include "operators/arguments.h"

#include "operators/promote.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

tdr_status refuse(tdr_call *call, tdr_status status, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return tdr_fail(call, status, "%s: %s", tdr_call_function_name(call), text);
}

tdr_status check_operand(tdr_call *call, const tdr_tensor *tensor)
{
	const tdr_dtype dtype = tdr_tensor_dtype(tensor);

	if (tdr_tensor_device(tensor).type != TDR_CPU)
		return refuse(call, TDR_EUNSUPPORTED, "the built-in operators take CPU tensors only; move it first");
	if ((uintptr_t)tdr_tensor_data(tensor) % tdr_dtype_size(dtype) != 0)
		return refuse(call, TDR_EUNSUPPORTED,
		              "the tensor's memory is not aligned to its elements; clone it first");
	if (!dtype_supported(dtype))
		return refuse(call, TDR_EUNSUPPORTED,
		              "the built-in operators take tensors of f32, f64, i64 and bool, not %s; convert it first",
		              tdr_dtype_name(dtype));
	return TDR_OK;
}

tdr_status arg_operand(tdr_call *call, size_t index, tdr_tensor **ret_tensor)
{
	tdr_tensor *tensor = tdr_arg_tensor(call, index);
	tdr_status status = check_operand(call, tensor);

	if (status == TDR_OK)
		*ret_tensor = tensor;
	return status;
}

tdr_status arg_number(tdr_call *call, size_t index, const char *name, struct number *ret_number)
{
	const tdr_value *value = tdr_arg(call, index);
	struct number number = {.kind = tdr_value_kind(value)};
	tdr_status status = TDR_OK;
	bool truth = false;

	switch (number.kind) {
	case TDR_KIND_BOOL:
		status = tdr_value_get_bool(value, &truth);
		number.integer = truth;
		number.real = truth;
		break;
	case TDR_INT:
		status = tdr_value_get_int(value, &number.integer);
		number.real = (double)number.integer;
		break;
	case TDR_FLOAT:
		status = tdr_value_get_float(value, &number.real);
		break;
	default:
		return refuse(call, TDR_ETYPE, "'%s' must be a bool, an int or a float, not %s", name,
		              tdr_kind_name(number.kind));
	}
	if (status == TDR_ELIMIT)
		return refuse(call, TDR_ELIMIT, "'%s' is past 64 bits", name);
	if (status == TDR_OK)
		*ret_number = number;
	return status;
}

static tdr_status out_of_range(tdr_call *call, const char *type)
{
	return refuse(call, TDR_EINVAL, "value cannot be converted to type %s without overflow", type);
}

tdr_status number_convert(tdr_call *call, const struct number *number, tdr_dtype dtype, union element *ret_element)
{
	switch (dtype) {
	case TDR_BOOL:
		ret_element->truth = number->real != 0;
		return TDR_OK;
	case TDR_I64:
		if (number->kind == TDR_FLOAT && !(number->real >= -0x1p63 && number->real < 0x1p63))
			return out_of_range(call, "int64_t");
		ret_element->integer = number->kind == TDR_FLOAT ? (int64_t)number->real : number->integer;
		return TDR_OK;
	case TDR_F32:
		if (isfinite(number->real) && fabs(number->real) > (double)FLT_MAX)
			return out_of_range(call, "float");
		ret_element->single = number->kind == TDR_FLOAT ? (float)number->real : (float)number->integer;
		return TDR_OK;
	case TDR_F64:
		ret_element->real = number->real;
		return TDR_OK;
	default:
		return refuse(call, TDR_EUNSUPPORTED, "no number can be made a %s here", tdr_dtype_name(dtype));
	}
}

tdr_status arg_dtype(tdr_call *call, size_t index, tdr_dtype *dtype)
{
	const tdr_value *value = tdr_arg(call, index);
	tdr_dtype wanted;

	if (tdr_value_is_none(value))
		return TDR_OK;
	if (!dtype_parse(value, &wanted)) {
		char text[64];

		tdr_value_print(value, text, sizeof(text));
		return refuse(call, TDR_ETYPE,
		              "%s is no dtype: give PyTorch's number (6), or a name (\"float32\", \"f32\")", text);
	}
	if (!dtype_supported(wanted))
		return refuse(call, TDR_EUNSUPPORTED,
		              "the built-in operators make tensors of f32, f64, i64 and bool, not %s",
		              tdr_dtype_name(wanted));
	*dtype = wanted;
	return TDR_OK;
}

static tdr_status read_ints(tdr_call *call, const tdr_value *list, size_t *ret_count, int64_t items[TDR_MAX_DIMS])
{
	const size_t count = tdr_value_count(list);

	if (count > TDR_MAX_DIMS)
		return refuse(call, TDR_EINVAL, "%zu dimensions are more than the %d that a tensor may have", count,
		              TDR_MAX_DIMS);
	for (size_t i = 0; i < count; i++) {
		const tdr_value *item = tdr_value_item(list, i);

		if (tdr_value_kind(item) != TDR_INT)
			return refuse(call, TDR_ETYPE, "a list of dimensions or sizes holds %s where an int must be",
			              tdr_kind_name(tdr_value_kind(item)));
		if (tdr_value_get_int(item, &items[i]) != TDR_OK)
			return refuse(call, TDR_ELIMIT, "a dimension or size is past 64 bits");
	}
	*ret_count = count;
	return TDR_OK;
}

tdr_status arg_ints(tdr_call *call, size_t index, size_t *ret_count, int64_t ret_items[TDR_MAX_DIMS])
{
	return read_ints(call, tdr_arg(call, index), ret_count, ret_items);
}

tdr_status dim_wrap(tdr_call *call, int64_t dim, size_t ndim, size_t *ret_dim)
{
	const int64_t count = ndim > 0 ? (int64_t)ndim : 1;

	if (dim < -count || dim >= count)
		return refuse(call, TDR_EINVAL,
		              "Dimension out of range (expected to be in range of [%lld, %lld], but got %lld)",
		              (long long)-count, (long long)count - 1, (long long)dim);
	*ret_dim = (size_t)(dim < 0 ? dim + count : dim);
	return TDR_OK;
}

tdr_status arg_dims(tdr_call *call, size_t index, size_t ndim, bool ret_reduced[TDR_MAX_DIMS])
{
	const tdr_value *value = tdr_arg(call, index);
	const tdr_kind kind = tdr_value_kind(value);
	int64_t dims[TDR_MAX_DIMS];
	size_t count = 0, dim = 0;
	tdr_status status = TDR_OK;

	if (kind == TDR_LIST || kind == TDR_TUPLE) {
		status = read_ints(call, value, &count, dims);
	} else if (kind == TDR_INT) {
		count = 1;
		if (tdr_value_get_int(value, &dims[0]) != TDR_OK)
			return refuse(call, TDR_ELIMIT, "'dim' is past 64 bits");
	} else if (kind != TDR_NONE) {
		return refuse(call, TDR_ETYPE, "'dim' must be an int, a list of ints or None, not %s",
		              tdr_kind_name(kind));
	}
	memset(ret_reduced, count == 0, TDR_MAX_DIMS * sizeof(*ret_reduced));
	for (size_t i = 0; i < count && status == TDR_OK; i++) {
		status = dim_wrap(call, dims[i], ndim, &dim);
		if (status == TDR_OK && ret_reduced[dim])
			return refuse(call, TDR_EINVAL, "dim %zu appears multiple times in the list of dims", dim);
		if (status == TDR_OK)
			ret_reduced[dim] = true;
	}
	return status;
}

tdr_status give_tensor(tdr_call *call, tdr_status status, tdr_tensor *tensor)
{
	if (status == TDR_OK)
		status = tdr_return_tensor(call, tensor);
	tdr_tensor_unref(tensor);
	return status;
}
