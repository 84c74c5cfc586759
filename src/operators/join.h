/* SPDX-License-Identifier: Apache-2.0 */
/* An argument that holds indices along a dimension, as index_select and index_add_ take it. */
#ifndef TENDRIL_OPERATORS_JOIN_H
#define TENDRIL_OPERATORS_JOIN_H

#include <tendril/function.h>

/* The argument as a contiguous i64 tensor of one dimension at most (counted). */
tdr_status arg_index(tdr_call *call, size_t argument, tdr_tensor **ret_index);

/* Refuses an index that is not in [0, size). */
tdr_status check_index(tdr_call *call, const tdr_tensor *index, int64_t size);

#endif
