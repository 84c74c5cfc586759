/* SPDX-License-Identifier: Apache-2.0 */
#include "peers.h"

#include "base/macros.h"
#include "store/service.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- bare sockets ---- */

static bool ready(int fd, short events, int timeout_ms)
{
	struct pollfd waiting = {.fd = fd, .events = events};

	return poll(&waiting, 1, timeout_ms) > 0;
}

int peer_dial(uint16_t port, bool six)
{
	struct sockaddr_in four_address = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 six_address = {
	    .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int code;

	four_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0)
		return -1;
	if (connect(fd, six ? (void *)&six_address : (void *)&four_address,
	            six ? sizeof(six_address) : sizeof(four_address)) == 0)
		return fd;
	code = errno;
	close(fd);
	errno = code;
	return -1;
}

void peer_send(int fd, const void *data, size_t size)
{
	const char *at = data;

	while (size > 0) {
		ssize_t sent = send(fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			at += sent;
			size -= (size_t)sent;
		} else {
			assert_int_equal(errno, EAGAIN);
			assert_true(ready(fd, POLLOUT, PEER_MS));
		}
	}
}

bool peer_receive(int fd, void *data, size_t size)
{
	char *to = data;

	while (size > 0) {
		ssize_t received;

		assert_true(ready(fd, POLLIN, PEER_MS));
		received = recv(fd, to, size, 0);
		if (received <= 0)
			return false;
		to += received;
		size -= (size_t)received;
	}
	return true;
}

void peer_expect(int fd, const void *expected, size_t size)
{
	char *bytes = malloc(size + 1);

	assert_non_null(bytes);
	assert_true(peer_receive(fd, bytes, size));
	assert_memory_equal(bytes, expected, size);
	free(bytes);
}

void peer_expect_end(int fd)
{
	char byte;

	assert_false(peer_receive(fd, &byte, 1));
	close(fd);
}

/* A listening socket of 127.0.0.1 on any port. Aborts where there is none. */
static int listen_anywhere(uint16_t *ret_port)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 128) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		abort();
	*ret_port = ntohs(address.sin_port);
	return fd;
}

/* ---- a server that follows a script ---- */

struct scripted {
	const struct script *scripts;
	size_t count;
	int listener;
	int stop; /* an eventfd */
	pthread_t thread;
};

/* Waits for `fd`; false when it is time to stop. */
static bool wait_or_stop(const struct scripted *server, int fd, short events)
{
	struct pollfd waiting[2] = {{.fd = fd, .events = events}, {.fd = server->stop, .events = POLLIN}};

	poll(waiting, 2, -1);
	return waiting[1].revents == 0;
}

/* False when the connection is at its end. */
static bool follow(const struct scripted *server, int fd, const struct step *step)
{
	char byte;

	for (size_t i = 0; i < step->read; i++)
		if (!wait_or_stop(server, fd, POLLIN) || recv(fd, &byte, 1, 0) != 1)
			return false;
	return step->write_size == 0 ||
	       send(fd, step->write, step->write_size, MSG_NOSIGNAL) == (ssize_t)step->write_size;
}

static void *scripted_thread(void *argument)
{
	struct scripted *server = argument;
	int *fds = calloc(server->count, sizeof(*fds));
	size_t i;

	if (!fds)
		abort();
	for (i = 0; i < server->count && wait_or_stop(server, server->listener, POLLIN); i++) {
		const struct step *step = server->scripts[i].steps;

		fds[i] = accept(server->listener, NULL, NULL);
		while ((step->read > 0 || step->write_size > 0) && follow(server, fds[i], step))
			step++;
		if (!server->scripts[i].stay) {
			close(fds[i]);
			fds[i] = -1;
		}
	}
	close(server->listener);
	wait_or_stop(server, -1, 0);
	while (i-- > 0)
		if (fds[i] >= 0)
			close(fds[i]);
	free(fds);
	return NULL;
}

struct scripted *scripted_open(const struct script *scripts, size_t count, uint16_t *ret_port)
{
	struct scripted *server = calloc(1, sizeof(*server));

	if (!server)
		abort();
	server->scripts = scripts;
	server->count = count;
	server->listener = listen_anywhere(ret_port);
	server->stop = eventfd(0, EFD_CLOEXEC);
	if (server->stop < 0 || pthread_create(&server->thread, NULL, scripted_thread, server) != 0)
		abort();
	return server;
}

void scripted_close(struct scripted *server)
{
	if (eventfd_write(server->stop, 1) < 0)
		abort();
	pthread_join(server->thread, NULL);
	close(server->stop);
	free(server);
}

/* ---- version 1 ---- */

#define OLD_CONNECTIONS 64

struct old_server {
	int listener;
	int stop;
	pthread_t thread;
	struct service service;
	struct {
		int fd; /* -1: free */
		struct session session;
	} each[OLD_CONNECTIONS];
};

static void old_end(struct old_server *server, int i)
{
	session_fini(&server->each[i].session);
	close(server->each[i].fd);
	server->each[i].fd = -1;
}

static void old_accept(struct old_server *server)
{
	int i = 0, fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);

	while (i < OLD_CONNECTIONS && server->each[i].fd >= 0)
		i++;
	if (fd < 0 || i == OLD_CONNECTIONS)
		abort();
	server->each[i].fd = fd;
	session_init(&server->each[i].session, &server->service);
	server->each[i].session.scan.version = WIRE_V1;
}

static void old_send(struct old_server *server, int i)
{
	struct wire_bytes output;

	while ((output = session_output(&server->each[i].session)).size > 0) {
		ssize_t sent = send(server->each[i].fd, output.data, output.size, MSG_NOSIGNAL);

		if (sent <= 0)
			return;
		session_sent(&server->each[i].session, (size_t)sent);
	}
}

static void old_receive(struct old_server *server, int i)
{
	char bytes[65536];
	ssize_t size = recv(server->each[i].fd, bytes, sizeof(bytes), 0);

	if (size <= 0 || session_feed(&server->each[i].session, bytes, (size_t)size) != TDR_OK)
		old_end(server, i);
	for (i = 0; i < OLD_CONNECTIONS; i++)
		if (server->each[i].fd >= 0)
			old_send(server, i);
	while (list_shift(&server->service.ready))
		continue; /* their answers were sent just now */
}

static void *old_thread(void *argument)
{
	struct old_server *server = argument;
	struct pollfd waiting[OLD_CONNECTIONS + 2];

	for (;;) {
		for (int i = 0; i < OLD_CONNECTIONS; i++)
			waiting[i] = (struct pollfd){.fd = server->each[i].fd, .events = POLLIN};
		waiting[OLD_CONNECTIONS] = (struct pollfd){.fd = server->listener, .events = POLLIN};
		waiting[OLD_CONNECTIONS + 1] = (struct pollfd){.fd = server->stop, .events = POLLIN};
		poll(waiting, OLD_CONNECTIONS + 2, -1);
		if (waiting[OLD_CONNECTIONS + 1].revents)
			return NULL;
		for (int i = 0; i < OLD_CONNECTIONS; i++)
			if (waiting[i].revents)
				old_receive(server, i);
		if (waiting[OLD_CONNECTIONS].revents)
			old_accept(server);
	}
}

struct old_server *old_server_open(uint16_t *ret_port)
{
	struct old_server *server = calloc(1, sizeof(*server));

	if (!server)
		abort();
	service_init(&server->service, (size_t)64 << 20, 0);
	for (int i = 0; i < OLD_CONNECTIONS; i++)
		server->each[i].fd = -1;
	server->listener = listen_anywhere(ret_port);
	server->stop = eventfd(0, EFD_CLOEXEC);
	if (server->stop < 0 || pthread_create(&server->thread, NULL, old_thread, server) != 0)
		abort();
	return server;
}

void old_server_close(struct old_server *server)
{
	if (eventfd_write(server->stop, 1) < 0)
		abort();
	pthread_join(server->thread, NULL);
	for (int i = 0; i < OLD_CONNECTIONS; i++)
		if (server->each[i].fd >= 0)
			old_end(server, i);
	service_fini(&server->service);
	close(server->listener);
	close(server->stop);
	free(server);
}
