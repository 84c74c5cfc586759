/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses. */
#include "transport/address.h"

#include "base/error.h"
#include "base/log.h"
#include "base/macros.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- parsing and printing ---- */

/* Copies `size` characters; false where they do not fit. */
static bool copy_part(char to[ADDRESS_SIZE], const char *from, size_t size)
{
	if (size >= ADDRESS_SIZE)
		return false;
	memcpy(to, from, size);
	to[size] = '\0';
	return true;
}

static bool is_v6(const char *host)
{
	struct in6_addr address;
	char plain[ADDRESS_SIZE];

	return copy_part(plain, host, strcspn(host, "%")) && inet_pton(AF_INET6, plain, &address) == 1;
}

static bool parse_port(const char *text, uint16_t *ret_port)
{
	uint32_t port = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		port = port * 10 + (uint32_t)(*text - '0');
		if (port > UINT16_MAX)
			return false;
	}
	*ret_port = (uint16_t)port;
	return true;
}

tdr_status address_split(const char *address, char ret_scheme[ADDRESS_SIZE], char ret_host[ADDRESS_SIZE],
                         uint16_t *ret_port)
{
	const char *separator = strstr(address, "://");
	const char *rest = separator ? separator + 3 : address;
	const char *end, *colon = strchr(rest, ':');
	char scheme[ADDRESS_SIZE] = "", host[ADDRESS_SIZE];
	uint16_t port = 0;

	if (separator && (separator == address || !copy_part(scheme, address, (size_t)(separator - address))))
		goto invalid;
	if (*rest == '[') {
		end = strchr(rest, ']');
		if (!end || !copy_part(host, rest + 1, (size_t)(end - rest - 1)) || !is_v6(host))
			goto invalid;
		end++;
	} else if (colon && strchr(colon + 1, ':')) {
		end = rest + strlen(rest);
		if (!copy_part(host, rest, (size_t)(end - rest)) || !is_v6(host))
			goto invalid;
	} else {
		end = rest + strcspn(rest, ":");
		if (end == rest || !copy_part(host, rest, (size_t)(end - rest)) || strpbrk(host, "/?#[]@ "))
			goto invalid;
	}
	if (*end && (*end != ':' || !parse_port(end + 1, &port)))
		goto invalid;
	strcpy(ret_scheme, scheme);
	strcpy(ret_host, host);
	*ret_port = port;
	return TDR_OK;
invalid:
	return error_set(TDR_EINVAL, "\"%s\" is no address; write tcp://host:port, or tcp://[v6]:port", address);
}

void address_join(const char *scheme, const char *host, uint16_t port, char ret_address[ADDRESS_SIZE])
{
	char address[ADDRESS_SIZE];

	snprintf(address, sizeof(address), strchr(host, ':') ? "%s://[%s]:%u" : "%s://%s:%u", scheme, host, port);
	strcpy(ret_address, address);
}

void address_host(const struct sockaddr_storage *address, char ret_host[ADDRESS_SIZE])
{
	char host[NI_MAXHOST] = "";

	if (address->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;

		if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
			inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], host, sizeof(host));
		else if (getnameinfo((const struct sockaddr *)v6, sizeof(*v6), host, sizeof(host), NULL, 0,
		                     NI_NUMERICHOST) != 0)
			host[0] = '\0';
	} else if (address->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;

		inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
	}
	if (!copy_part(ret_host, host, strlen(host)))
		ret_host[0] = '\0';
}

uint16_t address_port(const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)(const void *)address)->sin6_port);
	if (address->ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)(const void *)address)->sin_port);
	return 0;
}

/* ---- choosing ---- */

static bool is_link_local(const struct sockaddr_storage *address)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;

	return address->ss_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr);
}

/*
 * The address of an interface that is up, of the preferred family where it has one: members that meet over IPv6 may know of
 * no way to IPv4. No IPv6 address that holds on one link alone.
 */
static bool interface_host(const char *interface, int preferred, char ret_host[ADDRESS_SIZE])
{
	const int families[] = {preferred, preferred == AF_INET ? AF_INET6 : AF_INET};
	struct ifaddrs *all;
	bool found = false, up = false;

	if (getifaddrs(&all) < 0) {
		LOG(TDR_LOG_WARN, "event=interface_unusable interface=%s reason=\"getifaddrs: %s\"", interface,
		    strerror(errno));
		return false;
	}
	for (size_t i = 0; i < COUNT_OF(families) && !found; i++) {
		for (struct ifaddrs *entry = all; entry && !found; entry = entry->ifa_next) {
			struct sockaddr_storage address = {0};

			if (strcmp(entry->ifa_name, interface) != 0 || !(entry->ifa_flags & IFF_UP))
				continue;
			up = true;
			if (!entry->ifa_addr || entry->ifa_addr->sa_family != families[i])
				continue;
			memcpy(&address, entry->ifa_addr,
			       families[i] == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
			if (is_link_local(&address))
				continue;
			address_host(&address, ret_host);
			found = ret_host[0] != '\0';
		}
	}
	freeifaddrs(all);
	if (!found)
		LOG(TDR_LOG_WARN, "event=interface_unusable interface=%s reason=\"%s\"", interface,
		    up ? "it has no address that others could use" : "there is none of this name that is up");
	return found;
}

/* The family over which the store is reached; IPv4 where there is no telling. */
static int preferred_family(const struct sockaddr_storage *route)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)route;

	if (!route || route->ss_family != AF_INET6 || IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		return AF_INET;
	return AF_INET6;
}

/* The local address that packets to `host` would leave from. Connecting a datagram socket sends nothing. */
static bool route_host(int family, const char *host, char ret_host[ADDRESS_SIZE])
{
	struct sockaddr_storage address = {.ss_family = (sa_family_t)family};
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&address;
	socklen_t size = family == AF_INET ? sizeof(*v4) : sizeof(*v6);
	bool found = false;
	int fd;

	inet_pton(family, host, family == AF_INET ? (void *)&v4->sin_addr : (void *)&v6->sin6_addr);
	if (family == AF_INET)
		v4->sin_port = htons(9);
	else
		v6->sin6_port = htons(9);
	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	if (connect(fd, (struct sockaddr *)&address, size) == 0) {
		size = sizeof(address);
		if (getsockname(fd, (struct sockaddr *)&address, &size) == 0 && !is_link_local(&address)) {
			address_host(&address, ret_host);
			found = ret_host[0] != '\0';
		}
	}
	close(fd);
	return found;
}

void address_choose(const char *advertise, const char *interface, const struct sockaddr_storage *route,
                    char ret_host[ADDRESS_SIZE])
{
	if (advertise && *advertise) {
		if (copy_part(ret_host, advertise, strlen(advertise)))
			return;
		LOG(TDR_LOG_WARN, "event=advertise_unusable reason=\"longer than %d characters\"", ADDRESS_SIZE - 1);
	}
	if (interface && *interface && interface_host(interface, preferred_family(route), ret_host))
		return;
	if (route) {
		address_host(route, ret_host);
		if (ret_host[0] && !is_link_local(route))
			return;
		LOG(TDR_LOG_WARN,
		    "event=store_route_unusable reason=\"its local address is of use to this host alone\"");
	}
	/* Addresses set aside for documentation: nobody has them, and routes lead there as to anywhere far. */
	if (route_host(AF_INET, "192.0.2.1", ret_host) || route_host(AF_INET6, "2001:db8::1", ret_host))
		return;
	LOG(TDR_LOG_WARN, "event=no_route reason=\"there is no route to other hosts\" host=127.0.0.1");
	strcpy(ret_host, "127.0.0.1");
}
