/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strangers on a member's port, one at a time: bytes that are no message, and hellos that do not fit. Each is shown the door, and
 * the group's calls go on. tests/load/test_garbage.c has them in numbers, under load.
 */
#include "stranger.h"
#include "support/leaks.h"

#include <string.h>
#include <sys/socket.h>

enum {
	MEMBERS = 3
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

static int knock(void)
{
	return stranger_knock(member_port(&members, 0));
}

static void say_and_expect_closed(const void *bytes, size_t size)
{
	int fd = knock();

	stranger_say(fd, bytes, size);
	stranger_expect_closed(fd);
	group_still_works();
}

/* ---- bytes that are no message ---- */

static void test_another_protocol(void **state)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a stranger's browser\r\n\r\n";

	say_and_expect_closed(request, sizeof(request));
}

/* A head that is right but for what it is given. */
static void say_head(struct message_head head)
{
	uint8_t wire[MESSAGE_HEAD_SIZE];

	head.type = head.type ? head.type : MESSAGE_HELLO;
	head.incarnation = 7;
	head.sequence = head.sequence ? head.sequence : 1;
	say_and_expect_closed(wire, stranger_write_frame(&members, head, NULL, wire));
}

static void test_wrong_version(void **state)
{
	say_head((struct message_head){.version = 99});
}

static void test_unknown_type(void **state)
{
	say_head((struct message_head){.type = 200});
}

static void test_wrong_sequence(void **state)
{
	say_head((struct message_head){.sequence = 5});
}

static void test_oversized_body(void **state)
{
	say_head((struct message_head){.body_size = UINT32_MAX});
}

static void test_too_many_storages(void **state)
{
	say_head((struct message_head){.nstorages = UINT32_MAX});
}

static void test_chunk_of_no_message(void **state)
{
	say_head((struct message_head){.type = MESSAGE_CHUNK, .body_size = 64});
}

static void test_call_before_hello(void **state)
{
	say_head((struct message_head){.type = MESSAGE_CALL});
}

static void test_empty_hello(void **state)
{
	say_head((struct message_head){.type = MESSAGE_HELLO});
}

static void test_truncated_head(void **state)
{
	uint8_t wire[MESSAGE_HEAD_SIZE];
	int fd = knock();

	stranger_write_frame(&members, (struct message_head){.type = MESSAGE_HELLO, .sequence = 1}, NULL, wire);
	stranger_say(fd, wire, sizeof(wire) / 2);
	shutdown(fd, SHUT_WR);
	stranger_expect_closed(fd);
	group_still_works();
}

/* Half a message, and then silence: the time limit ends it. */
static void test_half_a_hello(void **state)
{
	say_head((struct message_head){.type = MESSAGE_HELLO, .body_size = 100});
}

static void test_one_byte_at_a_time(void **state)
{
	struct message_head head = {.type = MESSAGE_HELLO, .sequence = 1, .body_size = 1000};
	uint8_t wire[MESSAGE_HEAD_SIZE];
	int fd = knock();

	stranger_write_frame(&members, head, NULL, wire);
	for (size_t i = 0; i < sizeof(wire); i++) {
		stranger_say(fd, &wire[i], 1);
		pause_ms(10);
	}
	stranger_expect_closed(fd);
	group_still_works();
}

/* ---- hellos that do not fit ---- */

static void say_hello(struct hello hello)
{
	uint8_t wire[STRANGER_WIRE_SIZE];

	say_and_expect_closed(wire, stranger_write_hello(&hello, wire));
}

static void test_hello_of_another_group(void **state)
{
	struct hello hello = stranger_hello(&members);

	strcpy(hello.group, "elsewhere");
	say_hello(hello);
}

static void test_hello_of_another_incarnation(void **state)
{
	struct hello hello = stranger_hello(&members);

	hello.from.incarnation++;
	say_hello(hello);
}

static void test_hello_to_another_incarnation(void **state)
{
	struct hello hello = stranger_hello(&members);

	hello.to_incarnation++;
	say_hello(hello);
}

static void test_hello_of_an_unknown_id(void **state)
{
	struct hello hello = stranger_hello(&members);

	hello.from.id = 77;
	say_hello(hello);
}

static void test_hello_of_oneself(void **state)
{
	struct hello hello = stranger_hello(&members);

	hello.from = members.agents[0]->self;
	say_hello(hello);
}

static void test_hello_under_another_name(void **state)
{
	struct hello hello = stranger_hello(&members);

	strcpy(hello.from.name, "worker2");
	say_hello(hello);
}

/* A recorded hello, while its sender is up: it tells of fewer lanes than there have been. */
static void test_hello_again(void **state)
{
	group_still_works();
	say_hello(stranger_hello(&members));
}

static void test_hello_with_more_behind_it(void **state)
{
	uint8_t wire[STRANGER_WIRE_SIZE] = {0};
	struct hello hello = stranger_hello(&members);
	size_t size;

	hello.from.id = 77;
	size = stranger_write_hello(&hello, wire);
	memset(wire + size, 0xA5, sizeof(wire) - size);
	say_and_expect_closed(wire, sizeof(wire));
}

static int check(void **state)
{
	return expectations_failed() > 0;
}

#define STRANGER(function) cmocka_unit_test_teardown(function, check)

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests(tests, start, stop);
}
