/* SPDX-License-Identifier: Apache-2.0 */
#include "support/places.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WALK_DESCRIPTORS 16

static void die(const char *what)
{
	fprintf(stderr, "places: %s: %s\n", what, strerror(errno));
	abort();
}

char *tmpdir_new(void)
{
	const char *parent = getenv("TMPDIR");
	char *path;

	if (asprintf(&path, "%s/tendril-test-XXXXXX", parent && *parent ? parent : "/tmp") < 0)
		die("asprintf");
	if (!mkdtemp(path))
		die(path);
	return path;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *position)
{
	return remove(path);
}

char *tmpdir_remove(char *path)
{
	if (path && nftw(path, remove_one, WALK_DESCRIPTORS, FTW_DEPTH | FTW_PHYS) != 0)
		die(path);
	free(path);
	return NULL;
}

int tmpdir_setup(void **state)
{
	*state = tmpdir_new();
	return 0;
}

int tmpdir_teardown(void **state)
{
	*state = tmpdir_remove(*state);
	return 0;
}

struct port port_reserve(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	struct port port = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	int yes = 1;

	if (port.fd < 0)
		die("socket");
	/* Bound without SO_REUSEADDR, so that the kernel picks a port that nobody has; set then, so that a server may have it. */
	if (bind(port.fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		die("bind");
	if (setsockopt(port.fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0)
		die("setsockopt");
	if (getsockname(port.fd, (struct sockaddr *)&address, &size) != 0)
		die("getsockname");
	port.number = ntohs(address.sin_port);
	return port;
}

void port_release(struct port *port)
{
	close(port->fd);
	*port = (struct port){.fd = -1};
}
