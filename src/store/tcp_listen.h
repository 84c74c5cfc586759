/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets that a store's server listens on: one for each address that its host stands for, all on one port. */
#ifndef TENDRIL_STORE_TCP_LISTEN_H
#define TENDRIL_STORE_TCP_LISTEN_H

#include <netdb.h>
#include <stdint.h>
#include <sys/socket.h>
#include <tendril/status.h>

#define TCP_LISTEN_MAX 8

/* Room for an address and its port as text: "[addr%scope]:65535". */
#define TCP_NAME_SIZE (NI_MAXHOST + 16)

struct tcp_listen {
	int fds[TCP_LISTEN_MAX]; /* non-blocking, close-on-exec */
	int count;
	uint16_t port;
};

/*
 * `host` NULL: loopback, IPv4 and IPv6 where both are there; "::": every address of this machine; "0.0.0.0": every one of
 * IPv4. `port` 0: any that is free on all of them. Errors: TDR_EINVAL (no such host), TDR_EIO, whose text names the
 * address and the errno.
 */
tdr_status tcp_listen_open(const char *host, uint16_t port, struct tcp_listen *ret_listen);

void tcp_listen_close(struct tcp_listen *listening);

/* "127.0.0.1:29500", "[::1]:29500". */
void tcp_name(const struct sockaddr *address, socklen_t size, char text[TCP_NAME_SIZE]);

#endif
