/* SPDX-License-Identifier: Apache-2.0 */
/* The two ends of a raw connection. A request begins with RAW_PING_SIZE bytes; the first eight say how many more follow. */
#include "raw.h"

#include "measure.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

/* The sizes that were fastest of all that were tried: large reads are slower by half. */
#define WRITE_MAX ((size_t)1 << 20)
#define READ_MAX ((size_t)64 << 10)

#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))

struct request {
	uint64_t follow;
	uint8_t padding[RAW_PING_SIZE - sizeof(uint64_t)];
};

_Static_assert(sizeof(struct request) == RAW_PING_SIZE, "a ping is one request");

static int open_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket", errno);
	return fd;
}

static int without_delay(int fd)
{
	static const int on = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		fail("TCP_NODELAY", errno);
	return fd;
}

int raw_listen(uint16_t *ret_port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int fd = open_socket();

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
		fail("cannot listen on 127.0.0.1", errno);
	if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		fail("getsockname", errno);
	*ret_port = ntohs(address.sin_port);
	return fd;
}

int raw_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		fail("accept", errno);
	close(listener);
	return without_delay(fd);
}

int raw_connect(uint16_t port)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = open_socket();

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail("cannot connect to 127.0.0.1", errno);
	return without_delay(fd);
}

static void write_all(int fd, const void *data, size_t size)
{
	const char *next = data;

	while (size > 0) {
		ssize_t written = send(fd, next, MIN_OF(size, WRITE_MAX), MSG_NOSIGNAL);

		if (written < 0 && errno != EINTR)
			fail("write to a raw socket", errno);
		if (written > 0) {
			next += written;
			size -= (size_t)written;
		}
	}
}

/* False where the stream ends first. */
static bool read_all(int fd, void *data, size_t size)
{
	char *next = data;

	while (size > 0) {
		ssize_t got = read(fd, next, MIN_OF(size, READ_MAX));

		if (got == 0 || (got < 0 && errno == ECONNRESET))
			return false;
		if (got < 0 && errno != EINTR)
			fail("read from a raw socket", errno);
		if (got > 0) {
			next += got;
			size -= (size_t)got;
		}
	}
	return true;
}

void raw_ping(int fd)
{
	struct request ping = {0};

	write_all(fd, &ping, sizeof(ping));
	if (!read_all(fd, &ping, sizeof(ping)))
		fail("the raw peer is gone", 0);
}

void raw_stream(int fd, const void *data, size_t size)
{
	struct request request = {.follow = size};
	char done;

	write_all(fd, &request, sizeof(request));
	write_all(fd, data, size);
	if (!read_all(fd, &done, 1))
		fail("the raw peer is gone", 0);
}

void raw_serve(int fd)
{
	struct request request;
	uint64_t room = 0;
	char *data = NULL;

	while (read_all(fd, &request, sizeof(request))) {
		if (request.follow == 0) {
			write_all(fd, &request, sizeof(request));
			continue;
		}
		if (request.follow > room) {
			free(data);
			room = request.follow;
			data = must_allocate(room);
		}
		if (!read_all(fd, data, request.follow))
			break;
		write_all(fd, "", 1);
	}
	free(data);
	close(fd);
}
