/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's connection to a store's server: making it, and bytes over it with a deadline. Blocks its thread, in poll
 * alone; never raises SIGPIPE; signals that interrupt do no harm.
 *
 * Deadlines are milliseconds of CLOCK_MONOTONIC, 0 for none. Errors: TDR_ETIMEDOUT; TDR_EIO, where the connection is lost;
 * TDR_ELIMIT and TDR_EPROTO, where what came cannot be. After any of them the connection is to be closed.
 */
#ifndef TENDRIL_STORE_TCP_CONNECTION_H
#define TENDRIL_STORE_TCP_CONNECTION_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <tendril/store.h>

struct tcp_connection {
	int fd;
};

/* Where a server is, as it was given. */
struct tcp_place {
	char *host;
	uint16_t port;
};

/*
 * Connects to the first of the host's addresses that takes it, each tried once. Errors: TDR_EIO, for the last one tried,
 * which is worth another try if `ret_again`; TDR_ETIMEDOUT; TDR_ENOMEM.
 */
tdr_status tcp_connect(const struct tcp_place *place, int64_t deadline_ms, struct tcp_connection **ret_connection,
                       bool *ret_again);

/*
 * Shuts the connection down, so that the server learns of it though a child made by fork() may hold the socket too, and
 * frees it. Takes NULL.
 */
void tcp_close(struct tcp_connection *connection);

/* The same in that child, where the server must not learn of it. */
void tcp_close_forked(struct tcp_connection *connection);

/* Whether an idle connection can still be used: it was not closed by the server, which also has sent nothing unasked. */
bool tcp_is_idle(const struct tcp_connection *connection);

tdr_status tcp_send(struct tcp_connection *connection, const void *data, size_t size, int64_t deadline_ms);
tdr_status tcp_receive(struct tcp_connection *connection, void *data, size_t size, int64_t deadline_ms);

/* Numbers as the wire has them. */
tdr_status tcp_receive_u8(struct tcp_connection *connection, int64_t deadline_ms, uint8_t *ret_number);
tdr_status tcp_receive_i64(struct tcp_connection *connection, int64_t deadline_ms, int64_t *ret_number);

/* A length and that many bytes. Memory is taken as they come, not for what the length says. */
tdr_status tcp_receive_bytes(struct tcp_connection *connection, int64_t deadline_ms, tdr_blob *ret_bytes);

#endif
