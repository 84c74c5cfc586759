/* SPDX-License-Identifier: Apache-2.0 */
/* The stranger's connections and frames. */
#include "stranger.h"

#include "transport/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

uint16_t member_port(const struct group *group, size_t rank)
{
	char scheme[ADDRESS_SIZE], host[ADDRESS_SIZE];
	uint16_t port = 0;

	expect_ok(address_split(group->agents[rank]->self.address, scheme, host, &port));
	return port;
}

int stranger_knock(uint16_t port)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	expect_true(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

bool stranger_say(int fd, const void *bytes, size_t size)
{
	const uint8_t *next = bytes;

	while (size > 0) {
		ssize_t sent = send(fd, next, size, MSG_NOSIGNAL);

		if (sent < 0)
			return false;
		next += sent;
		size -= (size_t)sent;
	}
	return true;
}

void stranger_expect_closed(int fd)
{
	char bytes[4096];
	ssize_t got;

	while ((got = recv(fd, bytes, sizeof(bytes), 0)) > 0)
		continue;
	expect_true(got == 0 || errno == ECONNRESET);
	close(fd);
}

size_t stranger_write_frame(const struct group *group, struct message_head head, const void *body, uint8_t *wire)
{
	head.version = head.version ? head.version : MESSAGE_VERSION;
	head.incarnation = head.incarnation ? head.incarnation : group->agents[1]->self.incarnation;
	message_head_write(&head, wire);
	if (body)
		memcpy(wire + MESSAGE_HEAD_SIZE, body, head.body_size);
	return MESSAGE_HEAD_SIZE + (body ? head.body_size : 0);
}

struct hello stranger_hello(const struct group *group)
{
	struct hello hello = {
	    .group = "default",
	    .from = group->agents[1]->self,
	    .to_id = 0,
	    .to_incarnation = group->agents[0]->self.incarnation,
	    .credit_bytes = 1 << 20,
	};

	return hello;
}

size_t stranger_write_hello(const struct hello *hello, uint8_t wire[STRANGER_WIRE_SIZE])
{
	struct message_head head = {.version = MESSAGE_VERSION, .type = MESSAGE_HELLO, .sequence = 1};
	struct encoder encoder;
	size_t size;

	encoder_init(&encoder, &codec_default_limits);
	hello_encode(&encoder, hello);
	size = MESSAGE_HEAD_SIZE + encoder.body.size;
	expect_true(size <= STRANGER_WIRE_SIZE);
	head.body_size = (uint32_t)encoder.body.size;
	head.incarnation = hello->from.incarnation;
	message_head_write(&head, wire);
	memcpy(wire + MESSAGE_HEAD_SIZE, encoder.body.data, encoder.body.size);
	encoder_fini(&encoder);
	return size;
}
