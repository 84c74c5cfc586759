/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strangers on a member's port: garbage, truncated, oversized and wrong-version bytes, hellos that do not fit, and connections that
 * say nothing. After each kind the group's calls go on. Each kind is a test of its own.
 */
#include "agent/internal.h"
#include "group.h"
#include "support/leaks.h"
#include "transport/address.h"
#include "transport/hello.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	MEMBERS = 3,
	MANY = 300,
};

static struct group members;

static void configure(size_t rank, tdr_agent_options *options)
{
	options->connect_timeout_ms = 300; /* how long a stranger may stay silent */
}

static int start(void **state)
{
	struct group_config config = {.configure = configure};

	if (leaks_setup(state) != 0)
		return 1;
	group_start(&members, MEMBERS, &config);
	return 0;
}

static int stop(void **state)
{
	group_end(&members);
	return expectations_failed() > 0 || leaks_teardown(state) != 0;
}

/* All call all. */
static void group_still_works(void)
{
	for (size_t from = 0; from < MEMBERS; from++)
		for (size_t to = 0; to < MEMBERS; to++)
			call_ok(members.agents[from], worker_name(to), "test::echo", TDR_ARGS("still here"));
}

/* A connection to the port of member 0. */
static int knock(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	char scheme[ADDRESS_SIZE], host[ADDRESS_SIZE];
	struct timeval patience = {.tv_sec = 20};
	uint16_t port;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	expect_ok(address_split(members.agents[0]->self.address, scheme, host, &port));
	address.sin_port = htons(port);
	expect_true(inet_pton(AF_INET, host, &address.sin_addr) == 1);
	expect_true(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static void say(int fd, const void *bytes, size_t size)
{
	if (send(fd, bytes, size, MSG_NOSIGNAL) < 0)
		return; /* it has been closed already, which is right, too */
}

/* Waits until the other side has closed the connection. */
static void expect_closed(int fd)
{
	char bytes[4096];
	ssize_t got;

	while ((got = recv(fd, bytes, sizeof(bytes), 0)) > 0)
		continue;
	expect_true(got == 0 || errno == ECONNRESET);
	close(fd);
}

static void say_and_expect_closed(const void *bytes, size_t size)
{
	int fd = knock();

	say(fd, bytes, size);
	expect_closed(fd);
	group_still_works();
}

/* ---- bytes that are no message ---- */

static void test_random_bytes(void **state)
{
	uint8_t bytes[5000];

	srandom(11);
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)random();
		say_and_expect_closed(bytes, sizeof(bytes));
	}
}

static void test_another_protocol(void **state)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a stranger's browser\r\n\r\n";

	say_and_expect_closed(request, sizeof(request));
}

/* A head that is right but for what `spoil` does to it. */
static void say_head(struct message_head head, size_t size)
{
	uint8_t wire[MESSAGE_HEAD_SIZE];

	head.version = head.version ? head.version : MESSAGE_VERSION;
	head.type = head.type ? head.type : MESSAGE_HELLO;
	head.incarnation = 7;
	head.sequence = head.sequence ? head.sequence : 1;
	message_head_write(&head, wire);
	say_and_expect_closed(wire, size);
}

static void test_wrong_version(void **state)
{
	say_head((struct message_head){.version = 99}, MESSAGE_HEAD_SIZE);
}

static void test_unknown_type(void **state)
{
	say_head((struct message_head){.type = 200}, MESSAGE_HEAD_SIZE);
}

static void test_wrong_sequence(void **state)
{
	say_head((struct message_head){.sequence = 5}, MESSAGE_HEAD_SIZE);
}

static void test_oversized_body(void **state)
{
	say_head((struct message_head){.body_size = UINT32_MAX}, MESSAGE_HEAD_SIZE);
}

static void test_too_many_storages(void **state)
{
	say_head((struct message_head){.nstorages = UINT32_MAX}, MESSAGE_HEAD_SIZE);
}

static void test_chunk_of_no_message(void **state)
{
	say_head((struct message_head){.type = MESSAGE_CHUNK, .body_size = 64}, MESSAGE_HEAD_SIZE);
}

static void test_call_before_hello(void **state)
{
	say_head((struct message_head){.type = MESSAGE_CALL}, MESSAGE_HEAD_SIZE);
}

static void test_empty_hello(void **state)
{
	say_head((struct message_head){.type = MESSAGE_HELLO}, MESSAGE_HEAD_SIZE);
}

static void test_truncated_head(void **state)
{
	uint8_t wire[MESSAGE_HEAD_SIZE];
	int fd = knock();

	message_head_write(&(struct message_head){.version = MESSAGE_VERSION, .type = MESSAGE_HELLO, .sequence = 1},
	                   wire);
	say(fd, wire, sizeof(wire) / 2);
	shutdown(fd, SHUT_WR);
	expect_closed(fd);
	group_still_works();
}

/* Half a message, and then silence: the time limit ends it. */
static void test_half_a_hello(void **state)
{
	say_head((struct message_head){.type = MESSAGE_HELLO, .body_size = 100}, MESSAGE_HEAD_SIZE);
}

static void test_one_byte_at_a_time(void **state)
{
	uint8_t wire[MESSAGE_HEAD_SIZE];
	int fd = knock();

	message_head_write(
	    &(struct message_head){.version = MESSAGE_VERSION, .type = MESSAGE_HELLO, .sequence = 1, .body_size = 1000},
	    wire);
	for (size_t i = 0; i < sizeof(wire); i++) {
		say(fd, &wire[i], 1);
		pause_ms(10);
	}
	expect_closed(fd);
	group_still_works();
}

/* ---- hellos that do not fit ---- */

/* A hello of member 1 to member 0, as a whole frame. */
static size_t write_hello(const struct hello *hello, uint8_t *wire, size_t room)
{
	struct encoder encoder;
	struct message_head head = {.version = MESSAGE_VERSION, .type = MESSAGE_HELLO, .sequence = 1};
	size_t size;

	encoder_init(&encoder, &codec_default_limits);
	hello_encode(&encoder, hello);
	head.body_size = (uint32_t)encoder.body.size;
	head.incarnation = hello->from.incarnation;
	message_head_write(&head, wire);
	size = MESSAGE_HEAD_SIZE + encoder.body.size;
	expect_true(size <= room);
	memcpy(wire + MESSAGE_HEAD_SIZE, encoder.body.data, encoder.body.size);
	encoder_fini(&encoder);
	return size;
}

static struct hello fitting_hello(void)
{
	struct hello hello = {
	    .group = "default",
	    .from = members.agents[1]->self,
	    .to_id = 0,
	    .to_incarnation = members.agents[0]->self.incarnation,
	    .credit_bytes = 1 << 20,
	};

	return hello;
}

static void say_hello(struct hello hello)
{
	uint8_t wire[4096];

	say_and_expect_closed(wire, write_hello(&hello, wire, sizeof(wire)));
}

static void test_hello_of_another_group(void **state)
{
	struct hello hello = fitting_hello();

	strcpy(hello.group, "elsewhere");
	say_hello(hello);
}

static void test_hello_of_another_incarnation(void **state)
{
	struct hello hello = fitting_hello();

	hello.from.incarnation++;
	say_hello(hello);
}

static void test_hello_to_another_incarnation(void **state)
{
	struct hello hello = fitting_hello();

	hello.to_incarnation++;
	say_hello(hello);
}

static void test_hello_of_an_unknown_id(void **state)
{
	struct hello hello = fitting_hello();

	hello.from.id = 77;
	say_hello(hello);
}

static void test_hello_of_oneself(void **state)
{
	struct hello hello = fitting_hello();

	hello.from = members.agents[0]->self;
	say_hello(hello);
}

static void test_hello_under_another_name(void **state)
{
	struct hello hello = fitting_hello();

	strcpy(hello.from.name, "worker2");
	say_hello(hello);
}

/* A recorded hello, while its sender is up: it tells of fewer lanes than there have been. */
static void test_hello_again(void **state)
{
	group_still_works();
	say_hello(fitting_hello());
}

static void test_hello_with_more_behind_it(void **state)
{
	uint8_t wire[8192] = {0};
	struct hello hello = fitting_hello();
	size_t size;

	hello.from.id = 77;
	size = write_hello(&hello, wire, sizeof(wire));
	memset(wire + size, 0xA5, sizeof(wire) - size);
	say_and_expect_closed(wire, sizeof(wire));
}

/* ---- many ---- */

static void test_connections_that_say_nothing(void **state)
{
	int fds[MANY];

	for (int i = 0; i < MANY; i++)
		fds[i] = knock();
	group_still_works();
	for (int i = 0; i < MANY; i++)
		expect_closed(fds[i]);
	group_still_works();
}

static void test_connections_that_end_at_once(void **state)
{
	for (int i = 0; i < MANY; i++)
		close(knock());
	group_still_works();
}

static int check(void **state)
{
	return expectations_failed() > 0;
}

#define STRANGER(function) cmocka_unit_test_teardown(function, check)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    STRANGER(test_random_bytes),
	    STRANGER(test_another_protocol),
	    STRANGER(test_wrong_version),
	    STRANGER(test_unknown_type),
	    STRANGER(test_wrong_sequence),
	    STRANGER(test_oversized_body),
	    STRANGER(test_too_many_storages),
	    STRANGER(test_chunk_of_no_message),
	    STRANGER(test_call_before_hello),
	    STRANGER(test_empty_hello),
	    STRANGER(test_truncated_head),
	    STRANGER(test_half_a_hello),
	    STRANGER(test_one_byte_at_a_time),
	    STRANGER(test_hello_of_another_group),
	    STRANGER(test_hello_of_another_incarnation),
	    STRANGER(test_hello_to_another_incarnation),
	    STRANGER(test_hello_of_an_unknown_id),
	    STRANGER(test_hello_of_oneself),
	    STRANGER(test_hello_under_another_name),
	    STRANGER(test_hello_again),
	    STRANGER(test_hello_with_more_behind_it),
	    STRANGER(test_connections_that_say_nothing),
	    STRANGER(test_connections_that_end_at_once),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
