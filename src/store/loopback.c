/* SPDX-License-Identifier: Apache-2.0 */
#include "store/loopback.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <tendril/store.h>

static bool is_loopback(const struct sockaddr *address)
{
	const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;

	if (address->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 ==
		       IN_LOOPBACKNET;
	return address->sa_family == AF_INET6 &&
	       (IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == IN_LOOPBACKNET));
}

int loopback_look_up(const char *host, bool *ret_loopback)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	bool loopback = true;
	int code = getaddrinfo(host, NULL, &hints, &found);

	if (code != 0)
		return code;
	for (const struct addrinfo *each = found; each; each = each->ai_next)
		loopback = loopback && is_loopback(each->ai_addr);
	freeaddrinfo(found);
	*ret_loopback = loopback;
	return 0;
}

bool tdr_host_is_loopback(const char *host)
{
	bool loopback;

	return loopback_look_up(host, &loopback) == 0 && loopback;
}
