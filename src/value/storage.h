/* SPDX-License-Identifier: Apache-2.0 */
/* What other files of the library may know of a storage, beyond the public header. */
#ifndef TENDRIL_VALUE_STORAGE_H
#define TENDRIL_VALUE_STORAGE_H

#include "base/pool.h"

#include <tendril/tensor.h>

/* A storage whose bytes come from `pool` and go back to it. Errors: TDR_ENOMEM. */
TDR_MUST_USE tdr_status storage_new_pooled(struct pool *pool, size_t nbytes, tdr_storage **ret_storage);

/* tdr_storage_new, all bytes zero: fresh pages are left untouched. */
TDR_MUST_USE tdr_status storage_new_zeroed(size_t nbytes, tdr_storage **ret_storage);

/*
 * Makes a storage forget its deleter, for a constructor that fails after it made a storage over its caller's memory. Nobody
 * else has seen the storage yet.
 */
void storage_forget_deleter(tdr_storage *storage);

#endif
