/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transport over tcp: sockets. All that comes after connecting is the stream lane's.
 *
 * Hosts are best numeric, as members advertise them: a name is looked up in the calling thread, which may take seconds,
 * so that whoever runs on a thread of the engine should not hand over names. Each address of a name is tried in turn,
 * for an even share of the time that is left.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "transport/address.h"
#include "transport/stream_lane.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define TURN_ACCEPTS 16 /* connections taken in one turn */
#define PAUSE_MS 100    /* after running out of descriptors */
#define BACKLOG 1024

/* ---- addresses ---- */

/* Looks up a host: as a number, else as a name. `flags`: AI_PASSIVE to listen. Freed by freeaddrinfo. */
static tdr_status resolve(const char *host, uint16_t port, int flags, struct addrinfo **ret_addresses)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICHOST | AI_NUMERICSERV};
	char service[8];
	int error;

	snprintf(service, sizeof(service), "%u", port);
	error = getaddrinfo(host, service, &hints, ret_addresses);
	if (error == EAI_NONAME && host) {
		hints.ai_flags &= ~AI_NUMERICHOST;
		error = getaddrinfo(host, service, &hints, ret_addresses);
	}
	switch (error) {
	case 0:
		return TDR_OK;
	case EAI_MEMORY:
		return error_nomem();
	case EAI_AGAIN:
	case EAI_SYSTEM:
		return error_set(TDR_EIO, "cannot look up the host \"%s\": %s", host ? host : "*", gai_strerror(error));
	default:
		return error_set(TDR_EINVAL, "there is no host \"%s\": %s", host ? host : "*", gai_strerror(error));
	}
}

static bool out_of_descriptors(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void join_address(const struct sockaddr_storage *address, char ret_address[ADDRESS_SIZE])
{
	char host[ADDRESS_SIZE];

	address_host(address, host);
	address_join(transport_tcp.name, host, address_port(address), ret_address);
}

/* ---- lanes ---- */

struct tcp_lane {
	struct stream_lane stream;
	struct addrinfo *addresses; /* of an outgoing lane */
	struct addrinfo *next;      /* to be tried; NULL: none left */
	int64_t timeout_ms;
	int64_t deadline_ms; /* 0: none */
	int error;           /* of the last attempt */
	bool not_refused;    /* an attempt failed otherwise than by being refused */
};

static struct tcp_lane *tcp_of(struct stream_lane *stream)
{
	return container_of(stream, struct tcp_lane, stream);
}

static void set_nodelay(int fd)
{
	static const int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* a lane without it is slower, and right */
}

/* Two ends on one address: a connection to a free port of this host that, by chance, came from this very port. */
static bool is_connected_to_itself(int fd)
{
	struct sockaddr_storage local = {0}, remote = {0};
	socklen_t local_size = sizeof(local), remote_size = sizeof(remote);
	char local_host[ADDRESS_SIZE], remote_host[ADDRESS_SIZE];

	if (getsockname(fd, (struct sockaddr *)&local, &local_size) < 0 ||
	    getpeername(fd, (struct sockaddr *)&remote, &remote_size) < 0 ||
	    address_port(&local) != address_port(&remote))
		return false;
	address_host(&local, local_host);
	address_host(&remote, remote_host);
	return strcmp(local_host, remote_host) == 0;
}

static void tcp_failed(struct stream_lane *stream, int error)
{
	struct tcp_lane *tcp = tcp_of(stream);

	tcp->error = error;
	if (error != ECONNREFUSED)
		tcp->not_refused = true;
}

static void tcp_give_up(struct tcp_lane *tcp)
{
	struct stream_lane *stream = &tcp->stream;
	char text[sizeof(stream->text)];

	if (!tcp->addresses) {
		snprintf(text, sizeof(text), "the connection from %s failed: %s", stream->lane.peer,
		         strerror(tcp->error));
		stream_lane_fail(stream, TDR_EIO, false, text);
	} else if (out_of_descriptors(tcp->error)) {
		snprintf(text, sizeof(text),
		         "cannot make a socket for %s: %s; raise the limit of open files (ulimit -n)",
		         stream->lane.peer, strerror(tcp->error));
		stream_lane_fail(stream, TDR_EIO, false, text);
	} else if (tcp->error == ETIMEDOUT) {
		snprintf(text, sizeof(text), "cannot connect to %s: no answer within %lld ms", stream->lane.peer,
		         (long long)tcp->timeout_ms);
		stream_lane_fail(stream, TDR_EUNREACHABLE, false, text);
	} else {
		snprintf(text, sizeof(text), "cannot connect to %s: %s", stream->lane.peer, strerror(tcp->error));
		stream_lane_fail(stream, TDR_EUNREACHABLE, !tcp->not_refused, text);
	}
}

static int tcp_attempt(struct stream_lane *stream, int64_t *ret_deadline_ms)
{
	struct tcp_lane *tcp = tcp_of(stream);
	int64_t now = clock_ms();

	while (tcp->next && (!tcp->deadline_ms || now < tcp->deadline_ms)) {
		struct addrinfo *address = tcp->next;
		int64_t left = 0;
		int fd;

		for (struct addrinfo *other = address; other; other = other->ai_next)
			left++;
		tcp->next = address->ai_next;
		fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd >= 0) {
			set_nodelay(fd);
			if (connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS) {
				*ret_deadline_ms = tcp->deadline_ms ? now + (tcp->deadline_ms - now) / left : 0;
				return fd;
			}
		}
		tcp_failed(stream, errno);
		if (fd >= 0)
			close(fd);
		else if (out_of_descriptors(tcp->error))
			break;
	}
	tcp_give_up(tcp);
	return -1;
}

static int tcp_connected(struct stream_lane *stream)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(int), peer_size = sizeof(peer);
	int error = 0;

	if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		return errno;
	if (error)
		return error;
	if (getpeername(stream->fd, (struct sockaddr *)&peer, &peer_size) < 0)
		return errno == ENOTCONN ? EAGAIN : errno;
	return tcp_of(stream)->addresses && is_connected_to_itself(stream->fd) ? ECONNREFUSED : 0;
}

static ssize_t tcp_read(struct stream_lane *stream, struct iovec *parts, int count)
{
	return recvmsg(stream->fd, &(struct msghdr){.msg_iov = parts, .msg_iovlen = (size_t)count}, 0);
}

static ssize_t tcp_write(struct stream_lane *stream, struct iovec *parts, int count)
{
	return sendmsg(stream->fd, &(struct msghdr){.msg_iov = parts, .msg_iovlen = (size_t)count}, MSG_NOSIGNAL);
}

static void tcp_end(struct stream_lane *stream)
{
	shutdown(stream->fd, SHUT_WR); /* where that fails the peer has gone, which reading will tell */
}

static void tcp_free(struct stream_lane *stream)
{
	struct tcp_lane *tcp = tcp_of(stream);

	stream_lane_fini(stream);
	if (tcp->addresses)
		freeaddrinfo(tcp->addresses);
	free(tcp);
}

static const struct stream_ops tcp_ops = {
    .attempt = tcp_attempt,
    .connected = tcp_connected,
    .failed = tcp_failed,
    .read = tcp_read,
    .write = tcp_write,
    .end = tcp_end,
    .free = tcp_free,
};

static struct tcp_lane *tcp_lane_new(const struct lane_config *config)
{
	struct tcp_lane *tcp = calloc(1, sizeof(*tcp));

	if (tcp)
		stream_lane_init(&tcp->stream, config, &tcp_ops);
	return tcp;
}

static tdr_status tcp_connect(const struct lane_config *config, const char *address, int64_t timeout_ms,
                              struct lane **ret_lane)
{
	char scheme[ADDRESS_SIZE], host[ADDRESS_SIZE];
	struct addrinfo *addresses;
	struct tcp_lane *tcp;
	uint16_t port;
	tdr_status status = address_split(address, scheme, host, &port);

	if (status)
		return status;
	if ((scheme[0] && strcmp(scheme, transport_tcp.name) != 0) || port == 0)
		return error_set(TDR_EINVAL, "\"%s\" is no address to connect to; write tcp://host:port", address);
	status = resolve(host, port, 0, &addresses);
	if (status)
		return status;
	tcp = tcp_lane_new(config);
	if (!tcp) {
		freeaddrinfo(addresses);
		return error_nomem();
	}
	address_join(transport_tcp.name, host, port, tcp->stream.lane.peer);
	tcp->addresses = tcp->next = addresses;
	tcp->timeout_ms = timeout_ms;
	tcp->deadline_ms = deadline_after(timeout_ms);
	tcp->error = ETIMEDOUT;
	*ret_lane = lane_ref(&tcp->stream.lane);
	stream_lane_connect(&tcp->stream);
	return TDR_OK;
}

/* ---- listening ---- */

struct tcp_listener {
	struct listener listener;
	struct lane_config config;
	bool (*accept)(void *context, struct lane *lane);
	void *context;
	int fd;
	struct source source;
	struct timer timer;     /* ends a pause */
	_Atomic uint32_t holds; /* the source, and the timer while it is set */
	bool starved;           /* the log was told that descriptors ran out; belongs to whoever is in `ready` */
	pthread_mutex_t lock;   /* guards what follows */
	pthread_cond_t quiet;   /* signalled when `inside` ends */
	bool closing;
	bool inside; /* a thread is in `ready`: */
	pthread_t thread;
};

static void listener_release(struct tcp_listener *tcp)
{
	if (atomic_fetch_sub_explicit(&tcp->holds, 1, memory_order_acq_rel) != 1)
		return;
	if (tcp->fd >= 0)
		close(tcp->fd);
	pool_unref(tcp->config.pool);
	pthread_cond_destroy(&tcp->quiet);
	pthread_mutex_destroy(&tcp->lock);
	free(tcp);
}

static void listener_source_closed(struct source *source)
{
	listener_release(container_of(source, struct tcp_listener, source));
}

static void pause_over(struct timer *timer)
{
	struct tcp_listener *tcp = container_of(timer, struct tcp_listener, timer);

	pthread_mutex_lock(&tcp->lock);
	if (!tcp->closing)
		source_want(&tcp->source, EPOLLIN);
	pthread_mutex_unlock(&tcp->lock);
	listener_release(tcp);
}

/* Accepts nothing for a while: the connections wait in the kernel, and trying again at once would spin. */
static void pause_accepting(struct tcp_listener *tcp, int error)
{
	if (!tcp->starved)
		LOG(TDR_LOG_WARN,
		    "event=accept_paused host=%s port=%u error=\"%s\" advice=\"raise the limit of open files (ulimit "
		    "-n)\"",
		    tcp->listener.host, tcp->listener.port, strerror(error));
	tcp->starved = true;
	pthread_mutex_lock(&tcp->lock);
	if (!tcp->closing) {
		source_want(&tcp->source, 0);
		atomic_fetch_add_explicit(&tcp->holds, 1, memory_order_relaxed);
		timer_set(tcp->config.engine, &tcp->timer, clock_ms() + PAUSE_MS);
	}
	pthread_mutex_unlock(&tcp->lock);
}

/* Makes a lane of an accepted connection and offers it. */
static void take_connection(struct tcp_listener *tcp, int fd, const struct sockaddr_storage *peer)
{
	struct tcp_lane *lane = tcp_lane_new(&tcp->config);

	if (!lane) {
		LOG(TDR_LOG_ERROR, "event=accept_failed host=%s port=%u error=\"out of memory\"", tcp->listener.host,
		    tcp->listener.port);
		close(fd);
		return;
	}
	set_nodelay(fd);
	join_address(peer, lane->stream.lane.peer);
	if (tcp->accept(tcp->context, &lane->stream.lane)) {
		stream_lane_accept(&lane->stream, fd);
	} else {
		close(fd);
		lane_unref(&lane->stream.lane);
	}
}

/* Whether a connection was lost before it was accepted; the next may be well. */
static bool is_lost_connection(int error)
{
	switch (error) {
	case ECONNABORTED:
	case EINTR:
	case EPROTO:
	case EPERM: /* a firewall's rule */
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENONET:
		return true;
	default:
		return false;
	}
}

/* Accepts one connection; false when there is none for now. */
static bool accept_one(struct tcp_listener *tcp)
{
	struct sockaddr_storage peer = {0};
	socklen_t size = sizeof(peer);
	int fd = accept4(tcp->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		tcp->starved = false;
		take_connection(tcp, fd, &peer);
		return true;
	}
	if (is_lost_connection(errno))
		return true;
	if (errno != EAGAIN && errno != EWOULDBLOCK)
		pause_accepting(tcp, errno);
	return false;
}

/* Whether the listener is still open; notes who is inside. */
static bool enter(struct tcp_listener *tcp, bool inside)
{
	bool open;

	pthread_mutex_lock(&tcp->lock);
	open = !tcp->closing;
	tcp->inside = inside && open;
	tcp->thread = pthread_self();
	if (!tcp->inside)
		pthread_cond_broadcast(&tcp->quiet);
	pthread_mutex_unlock(&tcp->lock);
	return open;
}

static bool listener_ready(struct source *source, unsigned turn)
{
	struct tcp_listener *tcp = container_of(source, struct tcp_listener, source);

	for (int budget = TURN_ACCEPTS; budget > 0; budget--) {
		bool more;

		if (!enter(tcp, true))
			return false;
		more = accept_one(tcp);
		if (!enter(tcp, false) || !more)
			return false;
	}
	return true;
}

static void listener_close(struct listener *listener)
{
	struct tcp_listener *tcp = container_of(listener, struct tcp_listener, listener);
	bool paused;

	pthread_mutex_lock(&tcp->lock);
	tcp->closing = true;
	while (tcp->inside && !pthread_equal(tcp->thread, pthread_self()))
		pthread_cond_wait(&tcp->quiet, &tcp->lock);
	pthread_mutex_unlock(&tcp->lock);
	paused = timer_clear(tcp->config.engine, &tcp->timer);
	shutdown(tcp->fd, SHUT_RDWR); /* so that those who come are refused, though the source's owner may be busy */
	source_close(&tcp->source);
	if (paused)
		listener_release(tcp);
}

static const struct listener_ops tcp_listener_ops = {.close = listener_close};

/* A socket that listens on one address; -1 with errno. IPv6 for all addresses takes IPv4, too. */
static int listen_on(const struct addrinfo *address, bool both)
{
	static const int on = 1;
	int only_v6 = !both, error;
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof(only_v6));
	if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static tdr_status open_listener(struct tcp_listener *tcp, const char *host, uint16_t port)
{
	static const int families[] = {AF_INET6, AF_INET};
	struct sockaddr_storage local = {0};
	socklen_t size = sizeof(local);
	struct addrinfo *addresses;
	tdr_status status = resolve(host, port, AI_PASSIVE, &addresses);

	if (status)
		return status;
	for (size_t i = 0; i < COUNT_OF(families) && tcp->fd < 0; i++)
		for (struct addrinfo *address = addresses; address && tcp->fd < 0; address = address->ai_next)
			if (address->ai_family == families[i])
				tcp->fd = listen_on(address, host == NULL);
	if (tcp->fd < 0)
		status = error_errno("cannot listen on %s port %u", host ? host : "all addresses", port);
	freeaddrinfo(addresses);
	if (status)
		return status;
	if (getsockname(tcp->fd, (struct sockaddr *)&local, &size) < 0)
		return error_errno("getsockname");
	address_host(&local, tcp->listener.host);
	tcp->listener.port = address_port(&local);
	return source_open(&tcp->source, tcp->config.engine, tcp->fd, EPOLLIN, listener_ready, listener_source_closed);
}

static tdr_status tcp_listen(const struct lane_config *config, const char *host, uint16_t port,
                             bool (*accept)(void *context, struct lane *lane), void *context,
                             struct listener **ret_listener)
{
	struct tcp_listener *tcp = calloc(1, sizeof(*tcp));
	tdr_status status;

	if (!tcp)
		return error_nomem();
	tcp->listener.ops = &tcp_listener_ops;
	tcp->config = *config;
	pool_ref(tcp->config.pool);
	tcp->accept = accept;
	tcp->context = context;
	tcp->fd = -1;
	atomic_init(&tcp->holds, 1);
	timer_init(&tcp->timer, pause_over);
	pthread_mutex_init(&tcp->lock, NULL);
	pthread_cond_init(&tcp->quiet, NULL);
	status = open_listener(tcp, host, port);
	if (status) {
		listener_release(tcp);
		return status;
	}
	*ret_listener = &tcp->listener;
	return TDR_OK;
}

/* ---- the transport ---- */

const struct transport transport_tcp = {
    .name = "tcp",
    .names_hosts = true,
    .listen = tcp_listen,
    .connect = tcp_connect,
};
