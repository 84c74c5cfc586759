/* SPDX-License-Identifier: Apache-2.0 */
#include "host.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static bool is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *four = (const void *)address;

		return ntohl(four->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	}
	if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *six = (const void *)address;

		return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
	}
	return false;
}

bool host_is_loopback(const char *host)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	bool loopback = true;

	if (getaddrinfo(host, NULL, &hints, &found) != 0)
		return false;
	for (const struct addrinfo *each = found; each; each = each->ai_next)
		loopback = loopback && is_loopback(each->ai_addr);
	freeaddrinfo(found);
	return loopback;
}

void host_join(const char *host, uint16_t port, char *ret_text, size_t size)
{
	snprintf(ret_text, size, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}
