/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rendezvous: from a URL, arguments and the environment to a store, a rank and a size.
 *
 *   env://               MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE; rank 0 hosts the store, unless torchrun's agent does
 *                        (TORCHELASTIC_USE_AGENT_STORE=True: all are clients, keys under /worker/attempt_N), or
 *                        TENDRIL_STORE_HOSTED=1 says that somebody else does (as `tendril run` sets it)
 *   tcp://host:port      rank 0 hosts the store
 *   file:///path         a file that all share
 *
 * Without a size, or with 0, the group is dynamic: a rank is not needed, and rank 0 hosts the store only where none answers yet.
 *
 * Rank and size come from the arguments, else from the URL's query (?rank=0&world_size=2), else from RANK and WORLD_SIZE;
 * given both as argument and in the URL they must agree.
 */
#ifndef TENDRIL_STORE_RENDEZVOUS_H
#define TENDRIL_STORE_RENDEZVOUS_H

#include <tendril/store.h>

struct rendezvous {
	tdr_store *store;         /* counted */
	tdr_store_server *server; /* the one this process hosts, or NULL */
	int rank;
	int world_size; /* -1: not said; the group is dynamic */
};

/*
 * `url` NULL: env://. `rank`, `world_size` -1: not given. `timeout_ms` is for connecting, and becomes the store's;
 * TDR_TIMEOUT_DEFAULT: 300 s. The server listens on loopback only where the address it is found at is one of loopback.
 * The texts of errors are the peer's: "Error initializing tendril using env:// rendezvous: environment variable RANK
 * expected, but not set", with what to do. Errors: TDR_EINVAL, TDR_ETIMEDOUT, TDR_EIO.
 */
tdr_status rendezvous(const char *url, int rank, int world_size, int64_t timeout_ms, struct rendezvous *ret_rendezvous);

/* Drops the store and closes the server. */
void rendezvous_fini(struct rendezvous *rendezvous);

#endif
