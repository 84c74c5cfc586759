/* SPDX-License-Identifier: Apache-2.0 */
/* Peers for tests of the tcp store: bare sockets, servers that misbehave by a script, and a server that speaks version 1 only. */
#ifndef TENDRIL_TESTS_STORE_PEERS_H
#define TENDRIL_TESTS_STORE_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GREETING "\x00\xCE\xF7\x85\x3C"

/* A u64 below 256. */
#define N(low) low "\0\0\0\0\0\0\0"

/* A string literal and its size, NULs included. */
#define BYTES(literal) literal, sizeof(literal) - 1

/* ---- bare sockets; every wait is limited to PEER_MS, and fails the test then ---- */

#define PEER_MS 20000

/* Connected to 127.0.0.1, or to ::1 where `six`. -1 with errno where that fails. */
int peer_dial(uint16_t port, bool six);

void peer_send(int fd, const void *data, size_t size);

/* Receives `size` bytes; false where the peer ends the connection before that. */
bool peer_receive(int fd, void *data, size_t size);

/* Receives what must be `expected`. */
void peer_expect(int fd, const void *expected, size_t size);

/* Waits for the peer to end the connection, without a byte more; closes it. */
void peer_expect_end(int fd);

/* ---- a server that follows a script ---- */

/* What it does on a connection, in turn: reads `read` bytes, whatever they are, then writes `write`. */
struct step {
	size_t read;
	const char *write;
	size_t write_size;
};

/* One connection's steps, up to the first of zeros; then the connection is closed, or left open until the end if `stay`. */
struct script {
	struct step steps[6];
	bool stay;
};

/* What the client's first connection asks and gets when the server speaks version 2. */
#define STEP_PROBE                                                                                                     \
	{                                                                                                              \
		9, BYTES(N("\0") N("\0") N("\0") N("\0"))                                                              \
	}

struct scripted;

/* Follows scripts[i] on connection i, one after the other; refuses what comes after the last. */
struct scripted *scripted_open(const struct script *scripts, size_t count, uint16_t *ret_port);
void scripted_close(struct scripted *server);

/* ---- version 1 ---- */

struct old_server;

/* Takes each connection for one of version 1, as PyTorch 1.13 does. */
struct old_server *old_server_open(uint16_t *ret_port);
void old_server_close(struct old_server *server);

#endif
