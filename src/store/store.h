/* SPDX-License-Identifier: Apache-2.0 */
/* What other files of the library may know of stores, beyond the public header. */
#ifndef TENDRIL_STORE_STORE_H
#define TENDRIL_STORE_STORE_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <tendril/store.h>

/*
 * The address of this machine that the store's server sees, by the route that leads to it: what a worker can advertise to
 * others. Sets `ret_size` to 0 where the kind has none (hash, file). Prefix stores ask the one below.
 */
tdr_status store_local_address(tdr_store *store, struct sockaddr_storage *ret_address, socklen_t *ret_size);

#endif
