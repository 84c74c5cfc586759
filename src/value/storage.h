/* SPDX-License-Identifier: Apache-2.0 */
/* What other files of the library may know of a storage, beyond the public header. */
#ifndef TENDRIL_VALUE_STORAGE_H
#define TENDRIL_VALUE_STORAGE_H

#include "base/pool.h"

#include <tendril/tensor.h>

/* A storage whose bytes come from `pool` and go back to it. */
tdr_status storage_new_pooled(struct pool *pool, size_t nbytes, tdr_storage **ret_storage);

#endif
