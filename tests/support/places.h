/* SPDX-License-Identifier: Apache-2.0 */
/* Places that tests work in: fresh directories, and loopback ports that nobody else takes. */
#ifndef TENDRIL_TESTS_PLACES_H
#define TENDRIL_TESTS_PLACES_H

#include <stdint.h>

/* A fresh directory below $TMPDIR or /tmp, for tmpdir_remove. Never NULL: aborts where there is none to be had. */
char *tmpdir_new(void);

/* Removes a directory with all it holds, and frees its name. Returns NULL. */
char *tmpdir_remove(char *path);

/* Fixtures for cmocka: *state is the directory's path. */
int tmpdir_setup(void **state);
int tmpdir_teardown(void **state);

/* A port of 127.0.0.1 that a server which sets SO_REUSEADDR can bind, and that is given to nobody else. */
struct port {
	uint16_t number;
	int fd; /* a socket bound to it that does not listen */
};

/* Aborts where there is no port to be had. */
struct port port_reserve(void);

/* Gives it up; a server that has bound it meanwhile keeps it. */
void port_release(struct port *port);

#endif
