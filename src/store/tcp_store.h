/* SPDX-License-Identifier: Apache-2.0 */
/* What rendezvous may do with a tcp store, beyond what any store can. */
#ifndef TENDRIL_STORE_TCP_STORE_H
#define TENDRIL_STORE_TCP_STORE_H

#include <tendril/store.h>

/*
 * Counts this process among the workers of a group whose size is known, as PyTorch's clients do: a rank 0 that runs
 * PyTorch waits for all of them before it goes on. To be called once. Does nothing for a store of another kind.
 * Errors: those of add.
 */
tdr_status tcp_store_announce(tdr_store *store);

#endif
