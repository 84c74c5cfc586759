/* SPDX-License-Identifier: Apache-2.0 */
/* The first connection to a store's server: waits for the server to be there, and finds out which version it speaks. */
#ifndef TENDRIL_STORE_TCP_PROBE_H
#define TENDRIL_STORE_TCP_PROBE_H

#include "store/tcp_connection.h"
#include "store/wire.h"

/*
 * Tries until the deadline (0: for ever). The connection is ready for requests. Errors: TDR_ETIMEDOUT, TDR_EPROTO (what
 * answers there is no store), TDR_EIO (out of descriptors and the like), TDR_ENOMEM.
 */
tdr_status tcp_probe(const struct tcp_place *place, int64_t deadline_ms, struct tcp_connection **ret_connection,
                     enum wire_version *ret_version);

#endif
