/* SPDX-License-Identifier: Apache-2.0 */
/* Copying elements from one tensor to another, of the same dtype or not. Both are CPU tensors of supported dtypes. */
#ifndef TENDRIL_OPERATORS_CAST_H
#define TENDRIL_OPERATORS_CAST_H

#include <tendril/tensor.h>

/* Writes all elements of `to` from `from`, whose shape can be broadcast to it. They do not share memory. */
void tensor_fill(tdr_tensor *to, const tdr_tensor *from);

/* The tensor itself (a new reference) where it has the dtype, else a contiguous copy of that dtype. */
tdr_status tensor_cast(tdr_tensor *tensor, tdr_dtype dtype, tdr_tensor **ret_tensor);

/* The same elements under another shape. The tensor is contiguous, the result a view of it. */
tdr_status tensor_shaped(const tdr_tensor *tensor, size_t ndim, const int64_t *sizes, tdr_tensor **ret_tensor);

#endif
