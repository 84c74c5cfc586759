/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stranger for tests: connects to a port of a group's, and says bytes there as they are. What members say he writes in the name
 * of member 1, to member 0.
 */
#ifndef TENDRIL_TESTS_STRANGER_H
#define TENDRIL_TESTS_STRANGER_H

#include "agent/internal.h"
#include "group.h"
#include "transport/hello.h"
#include "transport/message.h"

enum {
	STRANGER_WIRE_SIZE = 8192, /* room for a hello, or a frame of 4 KiB */
};

/* The port on which a member listens. */
uint16_t member_port(const struct group *group, size_t rank);

/* A connection to a port of 127.0.0.1, on which nothing waits for longer than PATIENCE_MS. The caller closes it. */
int stranger_knock(uint16_t port);

/* False where the other side has closed the connection meanwhile, which is right, too. */
bool stranger_say(int fd, const void *bytes, size_t size);

/* Waits until the other side has closed the connection, and does so as well. */
void stranger_expect_closed(int fd);

/* Fields that are 0 are made right: version, incarnation. `body`, of the size that the head says, may be NULL. Returns the size. */
size_t stranger_write_frame(const struct group *group, struct message_head head, const void *body, uint8_t *wire);

/* The hello that member 1 would open its first lane with. */
struct hello stranger_hello(const struct group *group);
size_t stranger_write_hello(const struct hello *hello, uint8_t wire[STRANGER_WIRE_SIZE]);

#endif
