/* SPDX-License-Identifier: Apache-2.0 */
/* The table of dtypes. */
#include "base/macros.h"

#include <tendril/tensor.h>

static const struct {
	const char *name;
	size_t size;
} dtypes[] = {
#define DTYPE_ROW(name_, number, size_, text) [number] = {text, size_},
    TDR_DTYPE_LIST(DTYPE_ROW)
#undef DTYPE_ROW
};

size_t tdr_dtype_size(tdr_dtype dtype)
{
	return (size_t)dtype < COUNT_OF(dtypes) ? dtypes[dtype].size : 0;
}

const char *tdr_dtype_name(tdr_dtype dtype)
{
	return (size_t)dtype < COUNT_OF(dtypes) ? dtypes[dtype].name : "?";
}
