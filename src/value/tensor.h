/* SPDX-License-Identifier: Apache-2.0 */
/* What other files of the library may know of a tensor, beyond the public header. */
#ifndef TENDRIL_VALUE_TENSOR_H
#define TENDRIL_VALUE_TENSOR_H

#include <tendril/tensor.h>

/* Bytes that the elements take without gaps. They fit 63 bits for every tensor. */
static inline size_t tensor_nbytes(const tdr_tensor *tensor)
{
	return (size_t)tdr_tensor_numel(tensor) * tdr_dtype_size(tdr_tensor_dtype(tensor));
}

/* Copies the elements of a CPU tensor, row by row without gaps, to `to` [tensor_nbytes]. */
void tensor_copy_elements(const tdr_tensor *tensor, void *to);

#endif
