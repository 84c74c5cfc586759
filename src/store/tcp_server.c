/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's server: sockets around a service (store/service.h), in one thread.
 *
 * What holds:
 *   - the thread never blocks but in epoll_wait; no connection gets more than one read in a turn;
 *   - a connection that breaks the protocol or a limit is dropped, and the others do not notice; so that one who does it in
 *     a loop cannot fill the log, only so many lines are written in a time;
 *   - a connection is freed at the end of a turn only, since events of this turn may still name it;
 *   - without descriptors for new connections, accepting pauses: they wait in the backlog.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/macros.h"
#include "store/service.h"
#include "store/tcp_listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <tendril/store.h>
#include <unistd.h>

#define DEFAULT_MAX_CONNECTIONS 4096
#define DEFAULT_MAX_VALUE_SIZE ((size_t)8 << 20)
#define DEFAULT_MAX_KEYS 1048576

#define READ_SIZE ((size_t)64 << 10)
#define EVENTS_PER_TURN 128
#define ACCEPTS_PER_TURN 64
#define ACCEPT_PAUSE_MS 100

/* In a time of LOG_WINDOW_MS at most LOG_LINES about dropped connections. */
#define LOG_WINDOW_MS 10000
#define LOG_LINES 10

enum source_kind {
	SOURCE_WAKE,
	SOURCE_LISTEN,
	SOURCE_CONNECTION,
};

/* What epoll's events point to. */
struct source {
	enum source_kind kind;
	int fd;
};

struct connection {
	struct source source; /* fd -1: dropped, to be freed at the end of the turn */
	struct session session;
	struct list link; /* on server.connections or server.dropped */
	uint32_t events;  /* that epoll looks for */
};

struct tdr_store_server {
	tdr_store_server_options options;
	struct tcp_listen listening;
	struct source listeners[TCP_LISTEN_MAX];
	struct source wake;
	int epoll_fd;
	uint32_t generation; /* of the process that the thread lives in */
	pthread_t thread;
	_Atomic bool stop;

	/* the thread's own */
	struct service service;
	struct list connections;
	struct list dropped;
	size_t connection_count;
	int64_t accept_again_ms; /* accepting pauses until then; 0: it does not */
	int64_t log_window_ms;
	unsigned log_lines; /* in this window, also those that were not written */
	char bytes[READ_SIZE];
};

/* ---- the log ---- */

/* Whether one more line may be written now. */
static bool may_log(struct tdr_store_server *server)
{
	int64_t now = clock_ms();

	if (now - server->log_window_ms >= LOG_WINDOW_MS) {
		if (server->log_lines > LOG_LINES)
			LOG(TDR_LOG_WARN, "event=store_server_quiet lines_left_out=%u", server->log_lines - LOG_LINES);
		server->log_window_ms = now;
		server->log_lines = 0;
	}
	return server->log_lines++ < LOG_LINES;
}

/* ---- connections ---- */

/*
 * A child made by fork() may hold the socket too. So closing it here is not enough: the client would not learn that it is
 * of no more use, and epoll would go on to report it.
 */
static void connection_drop(struct tdr_store_server *server, struct connection *connection)
{
	epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, connection->source.fd, NULL);
	shutdown(connection->source.fd, SHUT_RDWR);
	close(connection->source.fd);
	connection->source.fd = -1;
	session_fini(&connection->session);
	list_remove(&connection->link);
	list_append(&server->dropped, &connection->link);
	server->connection_count--;
}

/* Drops a connection for what its peer did; the last error's text says what that was. */
static void connection_refuse(struct tdr_store_server *server, struct connection *connection)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	char name[TCP_NAME_SIZE] = "?";
	char reason[ERROR_TEXT_SIZE];

	if (may_log(server)) {
		if (getpeername(connection->source.fd, (struct sockaddr *)&address, &size) == 0)
			tcp_name((struct sockaddr *)&address, size, name);
		snprintf(reason, sizeof(reason), "%s", tdr_last_error());
		for (char *at = reason; *at; at++)
			if ((unsigned char)*at < ' ' || *at == '"' || *at == 127)
				*at = '?'; /* the text may quote a key, which is the peer's */
		LOG(TDR_LOG_WARN, "event=store_connection_dropped peer=%s reason=\"%s\"", name, reason);
	}
	connection_drop(server, connection);
}

static void free_dropped(struct tdr_store_server *server)
{
	struct list *node;

	while ((node = list_shift(&server->dropped)) != NULL)
		free(list_entry(node, struct connection, link));
}

/* Sends what can be sent now. False when the peer is gone. */
static bool connection_send(struct connection *connection)
{
	for (;;) {
		struct wire_bytes output = session_output(&connection->session);
		ssize_t sent;

		if (output.size == 0)
			return true;
		sent = send(connection->source.fd, output.data, output.size, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK;
		session_sent(&connection->session, (size_t)sent);
	}
}

/* Sends, serves what waited for that, and tells epoll what is looked for now. Drops the connection where it must be. */
static void connection_go_on(struct tdr_store_server *server, struct connection *connection)
{
	struct session *session = &connection->session;
	struct epoll_event event = {.data.ptr = &connection->source};

	for (;;) {
		if (!connection_send(connection)) {
			connection_drop(server, connection);
			return;
		}
		if (!session_can_run(session))
			break;
		if (session_run(session) != TDR_OK) {
			connection_refuse(server, connection);
			return;
		}
	}
	event.events = EPOLLRDHUP | (session_wants_input(session) ? EPOLLIN : 0) |
	               (session_output(session).size > 0 ? EPOLLOUT : 0);
	if (event.events != connection->events &&
	    epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, connection->source.fd, &event) < 0) {
		error_errno("epoll_ctl");
		connection_refuse(server, connection);
		return;
	}
	connection->events = event.events;
}

/* Lets those go on to whom another's request gave an answer. */
static void run_ready(struct tdr_store_server *server)
{
	struct list *node;

	while ((node = list_shift(&server->service.ready)) != NULL) {
		struct session *session = list_entry(node, struct session, ready);
		struct connection *connection = container_of(session, struct connection, session);

		if (session_run(session) == TDR_OK)
			connection_go_on(server, connection);
		else
			connection_refuse(server, connection);
	}
}

static void connection_event(struct tdr_store_server *server, struct connection *connection, uint32_t events)
{
	ssize_t size;

	if (connection->source.fd < 0)
		return; /* dropped earlier in this turn */
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		size = recv(connection->source.fd, server->bytes, sizeof(server->bytes), MSG_DONTWAIT);
		if (size == 0 || (size < 0 && errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)) {
			connection_drop(server, connection);
			return;
		}
		if (size > 0 && session_feed(&connection->session, server->bytes, (size_t)size) != TDR_OK) {
			/* what was answered before the bad request is owed: sent, as far as it goes now */
			connection_send(connection);
			connection_refuse(server, connection);
			run_ready(server);
			return;
		}
	}
	connection_go_on(server, connection);
	run_ready(server);
}

/* ---- accepting ---- */

static void watch_listeners(struct tdr_store_server *server, uint32_t events)
{
	for (int i = 0; i < server->listening.count; i++) {
		struct epoll_event event = {.events = events, .data.ptr = &server->listeners[i]};

		epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, server->listeners[i].fd, &event);
	}
}

static void pause_accepting(struct tdr_store_server *server)
{
	if (may_log(server))
		LOG(TDR_LOG_WARN, "event=store_accept_paused pause_ms=%d connections=%zu reason=\"accept4: %s\"",
		    ACCEPT_PAUSE_MS, server->connection_count, strerror(errno));
	server->accept_again_ms = clock_ms() + ACCEPT_PAUSE_MS;
	watch_listeners(server, 0);
}

/* Takes over `fd`, or closes it. */
static void connection_new(struct tdr_store_server *server, int fd)
{
	struct connection *connection = NULL;
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};

	if (server->connection_count < server->options.max_connections)
		connection = calloc(1, sizeof(*connection));
	if (connection) {
		connection->source = (struct source){.kind = SOURCE_CONNECTION, .fd = fd};
		connection->events = event.events;
		event.data.ptr = &connection->source;
	}
	if (!connection || epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		if (may_log(server))
			LOG(TDR_LOG_WARN, "event=store_connection_refused connections=%zu max_connections=%zu",
			    server->connection_count, server->options.max_connections);
		free(connection);
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int)); /* finds peers whose machine is gone */
	session_init(&connection->session, &server->service);
	list_append(&server->connections, &connection->link);
	server->connection_count++;
}

static void accept_some(struct tdr_store_server *server, int listener)
{
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			connection_new(server, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			pause_accepting(server);
			return;
		}
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		/* what else there is concerns that one connection, which failed before it was accepted */
	}
}

/* ---- the thread ---- */

static void one_turn(struct tdr_store_server *server)
{
	struct epoll_event events[EVENTS_PER_TURN];
	int count = epoll_wait(server->epoll_fd, events, EVENTS_PER_TURN, deadline_poll_ms(server->accept_again_ms));

	if (server->accept_again_ms > 0 && clock_ms() >= server->accept_again_ms) {
		server->accept_again_ms = 0;
		watch_listeners(server, EPOLLIN);
	}
	for (int i = 0; i < count; i++) {
		struct source *source = events[i].data.ptr;

		if (source->kind == SOURCE_CONNECTION)
			connection_event(server, container_of(source, struct connection, source), events[i].events);
		else if (source->kind == SOURCE_LISTEN && server->accept_again_ms == 0)
			accept_some(server, source->fd);
	}
	free_dropped(server);
}

static void *serve_thread(void *argument)
{
	struct tdr_store_server *server = argument;

	while (!atomic_load(&server->stop))
		one_turn(server);
	return NULL;
}

/* Starts the thread, with all signals blocked: they are the program's, and go to its threads. */
static tdr_status start_thread(struct tdr_store_server *server)
{
	sigset_t all, before;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = pthread_create(&server->thread, NULL, serve_thread, server);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (code != 0) {
		errno = code;
		return error_errno("the store's server cannot start its thread");
	}
	pthread_setname_np(server->thread, "tdr-store");
	return TDR_OK;
}

/* ---- opening and closing ---- */

void tdr_store_server_options_init(tdr_store_server_options *options)
{
	*options = (tdr_store_server_options){
	    .size = sizeof(*options),
	    .max_connections = DEFAULT_MAX_CONNECTIONS,
	    .max_value_size = DEFAULT_MAX_VALUE_SIZE,
	    .max_keys = DEFAULT_MAX_KEYS,
	};
}

/* The caller's options, those of a newer or older program too; `host` is used in the call alone. */
static tdr_status take_options(const tdr_store_server_options *given, tdr_store_server_options *options)
{
	tdr_store_server_options_init(options);
	if (!given)
		return TDR_OK;
	if (given->size < offsetof(tdr_store_server_options, host))
		return error_set(TDR_EINVAL,
		                 "tdr_store_server_open: options->size is %zu; begin with "
		                 "tdr_store_server_options_init",
		                 given->size);
	memcpy(options, given, MIN_OF(given->size, sizeof(*options)));
	options->size = sizeof(*options);
	if (options->max_connections == 0 || options->max_value_size == 0 || options->max_keys == 0)
		return error_set(TDR_EINVAL,
		                 "tdr_store_server_open: max_connections (%zu), max_value_size (%zu) and "
		                 "max_keys (%zu) must be positive",
		                 options->max_connections, options->max_value_size, options->max_keys);
	return TDR_OK;
}

static tdr_status watch(struct tdr_store_server *server, struct source *source, enum source_kind kind, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};

	*source = (struct source){.kind = kind, .fd = fd};
	if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return error_errno("epoll_ctl of the store's server");
	return TDR_OK;
}

/* The descriptors, all watched. */
static tdr_status open_descriptors(struct tdr_store_server *server)
{
	tdr_status status = tcp_listen_open(server->options.host, server->options.port, &server->listening);

	if (status != TDR_OK)
		return status;
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (server->epoll_fd < 0)
		return error_errno("epoll_create1 of the store's server");
	server->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->wake.fd < 0)
		return error_errno("eventfd of the store's server");
	status = watch(server, &server->wake, SOURCE_WAKE, server->wake.fd);
	for (int i = 0; status == TDR_OK && i < server->listening.count; i++)
		status = watch(server, &server->listeners[i], SOURCE_LISTEN, server->listening.fds[i]);
	return status;
}

static void close_descriptors(struct tdr_store_server *server)
{
	tcp_listen_close(&server->listening);
	if (server->wake.fd >= 0)
		close(server->wake.fd);
	if (server->epoll_fd >= 0)
		close(server->epoll_fd);
}

/* What is left when there is no thread, or its time is over. */
static void server_free(struct tdr_store_server *server)
{
	list_for_each_safe(node, &server->connections)
		connection_drop(server, list_entry(node, struct connection, link));
	free_dropped(server);
	service_fini(&server->service);
	close_descriptors(server);
	free(server);
}

tdr_status tdr_store_server_open(const tdr_store_server_options *options, tdr_store_server **ret_server)
{
	struct tdr_store_server *server;
	tdr_status status;

	if (!ret_server)
		return error_set(TDR_EINVAL, "tdr_store_server_open: ret_server is NULL");
	server = calloc(1, sizeof(*server));
	if (!server)
		return error_nomem();
	server->epoll_fd = server->wake.fd = -1;
	server->generation = fork_generation();
	list_init(&server->connections);
	list_init(&server->dropped);
	service_init(&server->service, DEFAULT_MAX_VALUE_SIZE, DEFAULT_MAX_KEYS);
	status = take_options(options, &server->options);
	if (status != TDR_OK)
		goto fail;
	service_init(&server->service, server->options.max_value_size, server->options.max_keys);
	status = open_descriptors(server);
	server->options.host = NULL; /* the caller's string */
	if (status == TDR_OK)
		status = start_thread(server);
	if (status != TDR_OK)
		goto fail;
	LOG(TDR_LOG_INFO, "event=store_server_started port=%u", server->listening.port);
	*ret_server = server;
	return TDR_OK;

fail:
	server_free(server);
	return status;
}

uint16_t tdr_store_server_port(const tdr_store_server *server)
{
	return server->listening.port;
}

/*
 * In a child made by fork() the thread is not there, and may have been in the middle of anything: the child gives up its
 * descriptors, without a word to epoll or to the clients, which it shares with its parent; and leaves the table alone.
 */
static void close_forked(struct tdr_store_server *server)
{
	close_descriptors(server);
	free(server);
}

void tdr_store_server_close(tdr_store_server *server)
{
	uint64_t one = 1;

	if (!server)
		return;
	if (forked(server->generation)) {
		close_forked(server);
		return;
	}
	atomic_store(&server->stop, true);
	while (write(server->wake.fd, &one, sizeof(one)) < 0 && errno == EINTR)
		continue;
	pthread_join(server->thread, NULL);
	for (int i = 0; i < server->listening.count; i++)
		shutdown(server->listening.fds[i], SHUT_RDWR); /* a forked child may hold them, too */
	server_free(server);
}
