/* SPDX-License-Identifier: Apache-2.0 */
#include "store/tcp_connection.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/macros.h"
#include "store/wire.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One address is tried no longer than this: a packet that nobody answers must not take the time of the next address. */
#define CONNECT_TRY_MS 10000

/* A value from a server may be this large: far more than a store is for, and still a bound. */
#define MAX_VALUE_SIZE ((uint64_t)1 << 30)

/* Memory for a value is taken in steps, the first of them this large. */
#define VALUE_STEP ((size_t)256 << 10)

/* ---- bytes ---- */

/* Waits for `events`, an error or the peer's end. */
static tdr_status wait_for(int fd, short events, int64_t deadline_ms)
{
	struct pollfd waiting = {.fd = fd, .events = events};

	for (;;) {
		int ready = poll(&waiting, 1, deadline_poll_ms(deadline_ms));

		if (ready > 0)
			return TDR_OK;
		if (ready < 0 && errno != EINTR)
			return error_errno("poll");
		if (deadline_ms > 0 && clock_ms() >= deadline_ms)
			return error_set(TDR_ETIMEDOUT, "no answer in time");
	}
}

tdr_status tcp_send(struct tcp_connection *connection, const void *data, size_t size, int64_t deadline_ms)
{
	const char *at = data;

	while (size > 0) {
		ssize_t sent = send(connection->fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		tdr_status status;

		if (sent >= 0) {
			at += sent;
			size -= (size_t)sent;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return error_set(TDR_EIO, "%s", strerror(errno));
		status = wait_for(connection->fd, POLLOUT, deadline_ms);
		if (status != TDR_OK)
			return status;
	}
	return TDR_OK;
}

tdr_status tcp_receive(struct tcp_connection *connection, void *data, size_t size, int64_t deadline_ms)
{
	char *to = data;

	while (size > 0) {
		ssize_t received = recv(connection->fd, to, size, MSG_DONTWAIT);
		tdr_status status;

		if (received > 0) {
			to += received;
			size -= (size_t)received;
			continue;
		}
		if (received == 0)
			return error_set(TDR_EIO, "the server has closed the connection");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return error_set(TDR_EIO, "%s", strerror(errno));
		status = wait_for(connection->fd, POLLIN, deadline_ms);
		if (status != TDR_OK)
			return status;
	}
	return TDR_OK;
}

tdr_status tcp_receive_u8(struct tcp_connection *connection, int64_t deadline_ms, uint8_t *ret_number)
{
	return tcp_receive(connection, ret_number, sizeof(*ret_number), deadline_ms);
}

tdr_status tcp_receive_i64(struct tcp_connection *connection, int64_t deadline_ms, int64_t *ret_number)
{
	uint8_t bytes[sizeof(uint64_t)];
	const uint8_t *at = bytes;
	tdr_status status = tcp_receive(connection, bytes, sizeof(bytes), deadline_ms);

	if (status == TDR_OK)
		*ret_number = (int64_t)wire_get_u64(&at);
	return status;
}

tdr_status tcp_receive_bytes(struct tcp_connection *connection, int64_t deadline_ms, tdr_blob *ret_bytes)
{
	tdr_blob bytes = {0};
	size_t size;
	int64_t length;
	tdr_status status = tcp_receive_i64(connection, deadline_ms, &length);

	if (status != TDR_OK)
		return status;
	if ((uint64_t)length > MAX_VALUE_SIZE)
		return error_set(TDR_ELIMIT, "it announced a value of %llu bytes, but %llu is the most",
		                 (unsigned long long)length, (unsigned long long)MAX_VALUE_SIZE);
	size = (size_t)length;
	do {
		size_t step = MIN_OF(size - bytes.size, MAX_OF(bytes.size, VALUE_STEP));
		char *data = realloc(bytes.data, bytes.size + step + 1);

		if (!data) {
			tdr_blob_free(&bytes);
			return error_nomem();
		}
		bytes.data = data;
		status = tcp_receive(connection, data + bytes.size, step, deadline_ms);
		if (status != TDR_OK) {
			tdr_blob_free(&bytes);
			return status;
		}
		bytes.size += step;
	} while (bytes.size < size);
	bytes.data[size] = '\0';
	*ret_bytes = bytes;
	return TDR_OK;
}

/* ---- connecting ---- */

/*
 * A client that dials a port of its own machine on which nobody listens can be given that port as its own, and is then
 * connected to itself.
 */
static bool is_own_end(int fd)
{
	struct sockaddr_storage here = {0}, there = {0};
	socklen_t here_size = sizeof(here), there_size = sizeof(there);

	return getsockname(fd, (struct sockaddr *)&here, &here_size) == 0 &&
	       getpeername(fd, (struct sockaddr *)&there, &there_size) == 0 && here_size == there_size &&
	       memcmp(&here, &there, here_size) == 0;
}

/* Waits until the connection under way is there. False with errno. */
static bool finish_connect(int fd, int64_t deadline_ms)
{
	int code = 0;
	socklen_t size = sizeof(code);

	switch (wait_for(fd, POLLOUT, deadline_ms)) {
	case TDR_OK:
		break;
	case TDR_ETIMEDOUT:
		errno = ETIMEDOUT;
		return false;
	default:
		return false;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) == 0 && code == 0 && is_own_end(fd))
		code = ECONNREFUSED;
	errno = code;
	return code == 0;
}

/* A connected socket, or -1 with errno. */
static int connect_to(const struct addrinfo *address, int64_t deadline_ms)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	int saved;

	if (fd < 0)
		return -1;
	if (connect(fd, address->ai_addr, address->ai_addrlen) == 0 ||
	    ((errno == EINPROGRESS || errno == EINTR) && finish_connect(fd, deadline_ms))) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
		return fd;
	}
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* Whether a server that starts later, or a name that is known later, may make it work. */
static bool worth_another_try(int code)
{
	return code != EMFILE && code != ENFILE && code != EACCES && code != EPERM && code != ENOMEM;
}

/* The earlier of a deadline and that of one try. */
static int64_t try_deadline(int64_t deadline_ms)
{
	int64_t one = deadline_after(CONNECT_TRY_MS);

	return deadline_ms > 0 ? MIN_OF(deadline_ms, one) : one;
}

tdr_status tcp_connect(const struct tcp_place *place, int64_t deadline_ms, struct tcp_connection **ret_connection,
                       bool *ret_again)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *addresses;
	char port[8];
	struct tcp_connection *connection = malloc(sizeof(*connection));
	int code;

	*ret_again = false;
	if (!connection)
		return error_nomem();
	connection->fd = -1;
	snprintf(port, sizeof(port), "%u", place->port);
	code = getaddrinfo(place->host, port, &hints, &addresses);
	if (code != 0) {
		free(connection);
		*ret_again = code != EAI_MEMORY;
		return code == EAI_MEMORY ? error_nomem()
		                          : error_set(TDR_EIO, "cannot look up '%s': %s", place->host,
		                                      code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code));
	}
	code = EADDRNOTAVAIL;
	for (const struct addrinfo *each = addresses; each && connection->fd < 0; each = each->ai_next) {
		connection->fd = connect_to(each, try_deadline(deadline_ms));
		code = connection->fd < 0 ? errno : 0;
	}
	freeaddrinfo(addresses);
	if (connection->fd >= 0) {
		*ret_connection = connection;
		return TDR_OK;
	}
	free(connection);
	*ret_again = worth_another_try(code);
	if (deadline_ms > 0 && clock_ms() >= deadline_ms)
		return error_set(TDR_ETIMEDOUT, "cannot connect: %s", strerror(code));
	return error_set(code == ENOMEM ? TDR_ENOMEM : TDR_EIO, "cannot connect: %s", strerror(code));
}

void tcp_close(struct tcp_connection *connection)
{
	if (!connection)
		return;
	shutdown(connection->fd, SHUT_RDWR);
	tcp_close_forked(connection);
}

void tcp_close_forked(struct tcp_connection *connection)
{
	close(connection->fd);
	free(connection);
}

bool tcp_is_idle(const struct tcp_connection *connection)
{
	struct pollfd now = {.fd = connection->fd, .events = POLLIN};

	return poll(&now, 1, 0) == 0;
}
