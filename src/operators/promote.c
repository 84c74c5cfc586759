/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Type promotion after PyTorch's rules. Among the types that the operators compute with, the higher of two is the one
 * that stands later in: bool, i64, f32, f64.
 */
#include "operators/promote.h"

#include <string.h>

enum {
	KIND_BOOL,
	KIND_INTEGER,
	KIND_FLOAT
};

static const struct {
	tdr_dtype dtype;
	int torch_number; /* in PyTorch's ScalarType; -1: it has none */
	const char *long_name;
	const char *names[3]; /* besides tdr_dtype_name's */
} dtypes[] = {
    {TDR_BOOL, 11, "Bool", {"bool"}},
    {TDR_U8, 0, "Byte", {"uint8", "byte"}},
    {TDR_I8, 1, "Char", {"int8", "char"}},
    {TDR_I16, 2, "Short", {"int16", "short"}},
    {TDR_I32, 3, "Int", {"int32", "int"}},
    {TDR_I64, 4, "Long", {"int64", "long"}},
    {TDR_U16, -1, "UInt16", {"uint16"}},
    {TDR_U32, -1, "UInt32", {"uint32"}},
    {TDR_U64, -1, "UInt64", {"uint64"}},
    {TDR_F16, 5, "Half", {"float16", "half"}},
    {TDR_BF16, 15, "BFloat16", {"bfloat16"}},
    {TDR_F32, 6, "Float", {"float32", "float"}},
    {TDR_F64, 7, "Double", {"float64", "double"}},
    {TDR_C64, 9, "ComplexFloat", {"complex64", "cfloat"}},
    {TDR_C128, 10, "ComplexDouble", {"complex128", "cdouble"}},
};

#define DTYPES (sizeof(dtypes) / sizeof(dtypes[0]))

bool dtype_supported(tdr_dtype dtype)
{
	return dtype == TDR_BOOL || dtype == TDR_I64 || dtype_is_float(dtype);
}

const char *dtype_long_name(tdr_dtype dtype)
{
	for (size_t i = 0; i < DTYPES; i++)
		if (dtypes[i].dtype == dtype)
			return dtypes[i].long_name;
	return "?";
}

static bool names_dtype(size_t row, const char *name)
{
	if (strcmp(name, tdr_dtype_name(dtypes[row].dtype)) == 0)
		return true;
	for (size_t i = 0; i < 3 && dtypes[row].names[i]; i++)
		if (strcmp(name, dtypes[row].names[i]) == 0)
			return true;
	return false;
}

bool dtype_parse(const tdr_value *value, tdr_dtype *ret_dtype)
{
	const char *name = NULL;
	int64_t number = -1;

	if (tdr_value_kind(value) == TDR_INT) {
		if (tdr_value_get_int(value, &number) != TDR_OK || number < 0)
			return false;
	} else if (tdr_value_kind(value) != TDR_STRING || tdr_value_get_string(value, &name, NULL) != TDR_OK) {
		return false;
	}
	if (name && strncmp(name, "torch.", 6) == 0)
		name += 6;
	for (size_t i = 0; i < DTYPES; i++)
		if (name ? names_dtype(i, name) : dtypes[i].torch_number == number) {
			*ret_dtype = dtypes[i].dtype;
			return true;
		}
	return false;
}

static int kind_of(tdr_dtype dtype)
{
	return dtype == TDR_BOOL ? KIND_BOOL : dtype_is_float(dtype) ? KIND_FLOAT : KIND_INTEGER;
}

/* The numbers of the four types happen to grow in the order of promotion; -1 is below all. */
static int higher_of(int a, int b)
{
	_Static_assert(TDR_BOOL < TDR_I64 && TDR_I64 < TDR_F32 && TDR_F32 < TDR_F64, "the order of promotion");

	return a > b ? a : b;
}

void promotion_add(struct promotion *promotion, const tdr_tensor *tensor, bool number)
{
	int dtype = (int)tdr_tensor_dtype(tensor);

	if (number && dtype_is_float((tdr_dtype)dtype))
		dtype = DTYPE_DEFAULT;
	if (number)
		promotion->numbers = higher_of(promotion->numbers, dtype);
	else if (tdr_tensor_ndim(tensor) == 0)
		promotion->without_dims = higher_of(promotion->without_dims, dtype);
	else
		promotion->with_dims = higher_of(promotion->with_dims, dtype);
}

/* `strong` stays, unless `weak` is of a higher kind. */
static int combine(int strong, int weak)
{
	if (strong < 0 || weak < 0)
		return higher_of(strong, weak);
	return kind_of((tdr_dtype)weak) > kind_of((tdr_dtype)strong) ? weak : strong;
}

tdr_dtype promotion_result(const struct promotion *promotion)
{
	return (tdr_dtype)combine(promotion->with_dims, combine(promotion->without_dims, promotion->numbers));
}

bool dtype_can_cast(tdr_dtype from, tdr_dtype to)
{
	return kind_of(from) <= kind_of(to);
}
