/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of a tcp store's client, and their answers: one at a time on a connection, several at once on several. A thread
 * that waits for an answer keeps nobody else waiting. What holds:
 *   - a connection that failed, or on which an answer is still owed, is closed and never used again;
 *   - where the connection is lost, a request that may be repeated is tried once more, on a new connection.
 */
#ifndef TENDRIL_STORE_TCP_EXCHANGE_H
#define TENDRIL_STORE_TCP_EXCHANGE_H

#include "store/tcp_connection.h"
#include "store/wire.h"

/* Connections that are kept while nobody uses them. */
#define TCP_IDLE_CONNECTIONS 8

/* The server, and the connections to it that are idle. */
struct tcp_peer {
	struct tcp_place place;
	enum wire_version version;
	struct sockaddr_storage local; /* this machine, as the server sees it */
	socklen_t local_size;
	/* Slots, each taken and filled by one exchange: no lock, so that a child made by fork() finds them in order. */
	struct tcp_connection *_Atomic idle[TCP_IDLE_CONNECTIONS];
};

/* Closes the idle connections, in a child made by fork() without a word to the server. */
void tcp_peer_fini(struct tcp_peer *peer, bool in_fork);

/* Makes a connection idle that is ready for requests. */
void tcp_peer_give(struct tcp_peer *peer, struct tcp_connection *connection);

struct request {
	enum wire_query query;
	const char *key; /* for texts; NULL where there is none */
	size_t more;     /* keys besides that one */
	bool repeatable; /* doing it twice is the same as doing it once */
	struct buffer bytes;
};

/* ---- writing a request: more of it may be put to its `bytes` ---- */

void request_begin(struct request *request, const struct tcp_peer *peer, enum wire_query query, const char *key);

/* A key of the program's. TDR_ELIMIT where it is too long. */
tdr_status request_put_key(struct request *request, const char *key);

/* Their count, one at least, and the keys. */
tdr_status request_put_keys(struct request *request, size_t count, const char *const keys[]);

/*
 * For a request that has no answer: behind it another one, whose answer (a number) says that both were served. Else what a
 * thread stores by one connection could be overtaken by what it asks by the next, and would be lost without a word
 * where the server dies.
 */
void request_put_barrier(struct request *request, const struct tcp_peer *peer);

/* Ends a request that could not be written; returns `status`. */
tdr_status request_abandon(struct request *request, tdr_status status);

/* ---- sending it, and reading its answer ---- */

/* Reads an answer into what `ret` points to. Errors: those of tcp_receive; on TDR_OK nothing more is owed. */
typedef tdr_status answer_reader(struct tcp_peer *peer, struct tcp_connection *connection, int64_t deadline_ms,
                                 void *ret);

answer_reader answer_read_number; /* int64_t */
answer_reader answer_read_bytes;  /* tdr_blob */

/* TDR_EPROTO: a byte that is no answer to what was asked. */
tdr_status answer_unexpected(unsigned number) __attribute__((cold));

/*
 * Sends the request and reads its answer; the request is ended. Errors, whose texts name the server and the request:
 * TDR_ETIMEDOUT, TDR_EIO, TDR_EPROTO, TDR_ELIMIT, TDR_ENOMEM.
 */
tdr_status exchange(struct tcp_peer *peer, struct request *request, int64_t deadline_ms, answer_reader *reader,
                    void *ret);

#endif
