/* SPDX-License-Identifier: Apache-2.0 */
#include "store/tcp_listen.h"

#include "base/error.h"
#include "base/macros.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Connections that wait to be accepted. The kernel lowers it to net.core.somaxconn. */
#define BACKLOG 4096

/* A port that is free on one address may be taken on the next: so many are tried. */
#define PORT_TRIES 32

struct addresses {
	struct sockaddr_storage each[TCP_LISTEN_MAX];
	int count;
};

void tcp_name(const struct sockaddr *address, socklen_t size, char text[TCP_NAME_SIZE])
{
	char host[NI_MAXHOST], port[NI_MAXSERV];
	bool bracketed = address->sa_family == AF_INET6;

	if (getnameinfo(address, size, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
		snprintf(text, TCP_NAME_SIZE, "(unknown address)");
		return;
	}
	snprintf(text, TCP_NAME_SIZE, "%s%.*s%s:%.5s", bracketed ? "[" : "", NI_MAXHOST - 1, host, bracketed ? "]" : "",
	         port);
}

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
	if (address->ss_family == AF_INET6)
		((struct sockaddr_in6 *)address)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)address)->sin_port = htons(port);
}

static uint16_t port_of(int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} address = {0};
	socklen_t size = sizeof(address);

	if (getsockname(fd, &address.any, &size) < 0)
		return 0;
	return ntohs(address.any.sa_family == AF_INET6 ? address.six.sin6_port : address.four.sin_port);
}

static socklen_t address_size(const struct sockaddr_storage *address)
{
	return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static bool is_any6(const struct sockaddr_storage *address)
{
	return address->ss_family == AF_INET6 &&
	       IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

/* A listening socket, or -1 with errno. */
static int listen_on(const struct sockaddr_storage *address)
{
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	int only6 = !is_any6(address); /* "::" takes IPv4 in, too */
	int saved;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (address->ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, sizeof(only6));
	if (bind(fd, (const struct sockaddr *)address, address_size(address)) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static bool address_is_missing(int code)
{
	return code == EADDRNOTAVAIL || code == EAFNOSUPPORT || code == EPROTONOSUPPORT;
}

void tcp_listen_close(struct tcp_listen *listening)
{
	while (listening->count > 0)
		close(listening->fds[--listening->count]);
}

/* Listens on all of the addresses that this machine has; one at least. On failure errno and `ret_name` say where and why. */
static bool listen_all(const struct addresses *addresses, uint16_t port, struct tcp_listen *listening,
                       char ret_name[TCP_NAME_SIZE])
{
	listening->count = 0;
	listening->port = port;
	for (int i = 0; i < addresses->count; i++) {
		struct sockaddr_storage address = addresses->each[i];
		int fd, code;

		set_port(&address, listening->port);
		fd = listen_on(&address);
		if (fd >= 0) {
			listening->fds[listening->count++] = fd;
			listening->port = port_of(fd);
			continue;
		}
		code = errno;
		tcp_name((struct sockaddr *)&address, address_size(&address), ret_name);
		if (!address_is_missing(code) || (listening->count == 0 && i + 1 == addresses->count)) {
			tcp_listen_close(listening);
			errno = code;
			return false;
		}
	}
	return true;
}

static void add_address(struct addresses *addresses, const void *address, socklen_t size)
{
	struct sockaddr_storage added = {0};

	memcpy(&added, address, size);
	for (int i = 0; i < addresses->count; i++)
		if (memcmp(&addresses->each[i], &added, sizeof(added)) == 0)
			return; /* /etc/hosts can name one twice */
	if (addresses->count < TCP_LISTEN_MAX)
		addresses->each[addresses->count++] = added;
}

/* The addresses that `host` stands for. Loopback is not looked up: "localhost" is whatever /etc/hosts makes of it. */
static tdr_status find_addresses(const char *host, struct addresses *addresses)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *found;
	int code;

	addresses->count = 0;
	if (!host) {
		add_address(addresses, &four, sizeof(four));
		add_address(addresses, &six, sizeof(six));
		return TDR_OK;
	}
	code = getaddrinfo(host, NULL, &hints, &found);
	if (code == EAI_MEMORY)
		return error_nomem();
	if (code != 0)
		return error_set(TDR_EINVAL,
		                 "the store's server cannot listen on '%s': %s; give an address of this "
		                 "machine",
		                 host, gai_strerror(code));
	for (const struct addrinfo *each = found; each; each = each->ai_next)
		if (each->ai_family == AF_INET || each->ai_family == AF_INET6)
			add_address(addresses, each->ai_addr, each->ai_addrlen);
	freeaddrinfo(found);
	return addresses->count > 0 ? TDR_OK : error_set(TDR_EINVAL, "'%s' has no address of IPv4 or IPv6", host);
}

tdr_status tcp_listen_open(const char *host, uint16_t port, struct tcp_listen *ret_listen)
{
	struct tcp_listen listening = {0};
	struct addresses addresses = {0};
	char name[TCP_NAME_SIZE];
	tdr_status status = find_addresses(host, &addresses);
	int tries = port == 0 ? PORT_TRIES : 1;
	bool listens;

	if (status != TDR_OK)
		return status;
	do {
		listens = listen_all(&addresses, port, &listening, name);
	} while (!listens && errno == EADDRINUSE && --tries > 0);
	if (!listens && host && strcmp(host, "::") == 0 && address_is_missing(errno))
		return tcp_listen_open("0.0.0.0", port, ret_listen); /* a machine without IPv6 */
	if (!listens)
		return error_set(TDR_EIO,
		                 "The server socket has failed to listen on any local network address. The "
		                 "server socket has failed to bind to %s (errno: %d - %s).",
		                 name, errno, strerror(errno));
	*ret_listen = listening;
	return TDR_OK;
}
