/* SPDX-License-Identifier: Apache-2.0 */
/* Element types: which ones the operators know, their names, and which type the result of several has. */
#ifndef TENDRIL_OPERATORS_PROMOTE_H
#define TENDRIL_OPERATORS_PROMOTE_H

#include <tendril/tensor.h>
#include <tendril/value.h>

/* Room for a table with an entry for each dtype that the operators compute with. */
#define DTYPE_ROOM (TDR_F64 + 1)

/* The type that floating-point results have where no argument asks for another. */
#define DTYPE_DEFAULT TDR_F32

/* Whether the operators compute with it: bool, i64, f32 and f64. */
bool dtype_supported(tdr_dtype dtype);

static inline bool dtype_is_float(tdr_dtype dtype)
{
	return dtype == TDR_F32 || dtype == TDR_F64;
}

/* Its name in PyTorch's messages, such as "Float" for f32. */
const char *dtype_long_name(tdr_dtype dtype);

/*
 * Reads a dtype that an argument names: PyTorch's number for it (6 is float32), or a name such as "float32", "f32",
 * "float" or "torch.float32". False where there is no such type.
 */
bool dtype_parse(const tdr_value *value, tdr_dtype *ret_dtype);

/*
 * The type that several operands' result has. Tensors with dimensions decide; tensors without, and after them plain
 * numbers, only count where they are of a higher kind (bool < integer < floating point).
 */
struct promotion {
	int with_dims, without_dims, numbers; /* a dtype each, or -1 */
};

#define PROMOTION_INIT ((struct promotion){-1, -1, -1})

void promotion_add(struct promotion *promotion, const tdr_tensor *tensor, bool number);
tdr_dtype promotion_result(const struct promotion *promotion);

/* Whether results of type `from` may be written to a tensor of type `to`: not to a lower kind. */
bool dtype_can_cast(tdr_dtype from, tdr_dtype to);

#endif
