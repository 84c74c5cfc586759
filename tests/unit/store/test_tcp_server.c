/* SPDX-License-Identifier: Apache-2.0 */
/* The store's server, from bare sockets: what it listens on, many and slow clients, and bad ones. */
#include "peers.h"
#include "support/leaks.h"
#include "support/places.h"
#include "support/processes.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tendril/log.h>
#include <tendril/store.h>
#include <unistd.h>

#include <cmocka.h>

#define GET_NUM_KEYS "\x07"

static tdr_store_server *open_server(const tdr_store_server_options *options, uint16_t *ret_port)
{
	tdr_store_server *server = NULL;
	tdr_status status = tdr_store_server_open(options, &server);

	if (status != TDR_OK)
		print_error("%s\n", tdr_last_error());
	assert_int_equal(status, TDR_OK);
	*ret_port = tdr_store_server_port(server);
	assert_int_not_equal(*ret_port, 0);
	return server;
}

static int dial(uint16_t port)
{
	int fd = peer_dial(port, false);

	assert_true(fd >= 0);
	return fd;
}

/* A connection of version 2 that works. */
static int dial_and_greet(uint16_t port)
{
	int fd = dial(port);

	peer_send(fd, BYTES(GREETING "\x0D"
	                             "abcd"));
	peer_expect(fd, "abcd", 4);
	return fd;
}

static bool has_ipv6(void)
{
	struct port port = port_reserve();
	int fd = peer_dial(port.number, true);
	bool has = fd >= 0 || errno == ECONNREFUSED;

	if (fd >= 0)
		close(fd);
	port_release(&port);
	return has;
}

/* ---- the log ---- */

static _Atomic int log_count;
static _Atomic bool log_bad; /* a line was not one line */

static void count_lines(void *context, tdr_log_level level, const char *line)
{
	(void)context;
	if (level == TDR_LOG_WARN) {
		log_count++;
		if (strchr(line, '\n'))
			log_bad = true;
	}
}

static void watch_log(void)
{
	log_count = 0;
	log_bad = false;
	tdr_log_set(count_lines, NULL, TDR_LOG_WARN);
}

static int unwatch_log(void **state)
{
	tdr_log_set(NULL, NULL, TDR_LOG_OFF);
	return leaks_teardown(state);
}

/* ---- listening ---- */

static void test_loopback(void **state)
{
	uint16_t port;
	tdr_store_server *server = open_server(NULL, &port);
	int four = dial_and_greet(port), six = -1;

	(void)state;
	if (has_ipv6()) {
		six = peer_dial(port, true);
		assert_true(six >= 0);
		peer_send(six, BYTES(GREETING GET_NUM_KEYS));
		peer_expect(six, BYTES(N("\0")));
	}
	tdr_store_server_close(server);
	peer_expect_end(four);
	if (six >= 0)
		peer_expect_end(six);
	assert_int_equal(peer_dial(port, false), -1);
}

static void test_hosts(void **state)
{
	static const char *const hosts[] = {"127.0.0.1", "localhost", "0.0.0.0", "::"};
	tdr_store_server_options options;
	tdr_store_server *server = NULL;
	uint16_t port;

	(void)state;
	tdr_store_server_options_init(&options);
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		options.host = hosts[i];
		server = open_server(&options, &port);
		close(dial_and_greet(port));
		tdr_store_server_close(server);
	}
	options.host = "no such host";
	assert_int_equal(tdr_store_server_open(&options, &server), TDR_EINVAL);
	options.host = "192.0.2.1"; /* of nobody */
	assert_int_equal(tdr_store_server_open(&options, &server), TDR_EIO);
	assert_non_null(strstr(tdr_last_error(), "failed to bind to 192.0.2.1:0"));
}

static void test_address_in_use(void **state)
{
	tdr_store_server_options options;
	tdr_store_server *server, *second = NULL;
	char expected[256];

	(void)state;
	tdr_store_server_options_init(&options);
	server = open_server(NULL, &options.port);
	assert_int_equal(tdr_store_server_open(&options, &second), TDR_EIO);
	assert_null(second);
	snprintf(expected, sizeof(expected),
	         "The server socket has failed to listen on any local network address. The "
	         "server socket has failed to bind to 127.0.0.1:%u (errno: 98 - Address already "
	         "in use).",
	         options.port);
	assert_string_equal(tdr_last_error(), expected);
	options.host = "::";
	assert_int_equal(tdr_store_server_open(&options, &second), TDR_EIO);
	assert_non_null(strstr(tdr_last_error(), "Address already in use"));
	tdr_store_server_close(server);
	/* free again at once, though a connection was closed by the server */
	for (int i = 0; i < 3; i++) {
		int fd;

		server = open_server(&options, &options.port);
		fd = dial_and_greet(options.port);
		tdr_store_server_close(server);
		peer_expect_end(fd);
	}
}

static void test_options(void **state)
{
	tdr_store_server_options options;
	tdr_store_server *server;

	(void)state;
	tdr_store_server_options_init(&options);
	assert_int_equal(options.max_connections, 4096);
	assert_int_equal(options.max_value_size, 8 << 20);
	assert_int_equal(options.max_keys, 1 << 20);
	options.max_keys = 0;
	assert_int_equal(tdr_store_server_open(&options, &server), TDR_EINVAL);
	options.size = 0;
	assert_int_equal(tdr_store_server_open(&options, &server), TDR_EINVAL);
	assert_int_equal(tdr_store_server_open(NULL, NULL), TDR_EINVAL);
	tdr_store_server_close(NULL);
}

/* ---- clients ---- */

static void test_byte_by_byte(void **state)
{
	static const char talk[] =
	    GREETING "\x01" N("\2") "/a" N("\3") "x\0y"
						 "\x03" N("\2") "/a"
								"\x04" N("\2") "/n" N("\5") "\x07";
	uint16_t port;
	tdr_store_server *server = open_server(NULL, &port);
	int fd = dial(port);

	(void)state;
	for (size_t i = 0; i < sizeof(talk) - 1; i++)
		peer_send(fd, talk + i, 1);
	peer_expect(fd, BYTES(N("\3") "x\0y" N("\5") N("\2")));
	close(fd);
	tdr_store_server_close(server);
}

#define MANY 200

static void test_many_connections(void **state)
{
	uint16_t port;
	tdr_store_server *server = open_server(NULL, &port);
	int fds[MANY];
	char answer[8];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		fds[i] = dial(port);
		/* one half waits for what the last of the others does */
		if (i % 2 == 0)
			peer_send(fds[i], BYTES(GREETING "\x06" N("\1") N("\3") "/go"));
		else
			peer_send(fds[i], BYTES(GREETING "\x04" N("\2") "/n" N("\1")));
	}
	for (int i = 1; i < MANY; i += 2)
		assert_true(peer_receive(fds[i], answer, sizeof(answer)));
	peer_send(fds[1], BYTES("\x04" N("\2") "/n" N("\0")));
	peer_expect(fds[1], BYTES(N("\x64")));
	peer_send(fds[1], BYTES("\x01" N("\3") "/go" N("\0")));
	for (int i = 0; i < MANY; i += 2)
		peer_expect(fds[i], BYTES("\0"));
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
	tdr_store_server_close(server);
}

/* What is wrong ends that connection, and no other. */
static void test_garbage(void **state)
{
	static const struct {
		const char *data;
		size_t size;
	} garbage[] = {
	    {BYTES("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
	    {BYTES("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")},
	    {BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03")}, /* TLS */
	    {BYTES("\x00\xCE\xF7\x85\x3D\0\0\0\0\0")},               /* not quite the magic number */
	    {BYTES(GREETING "\x00\x01\x02\x03\x04")},
	    {BYTES(GREETING "\x63")},
	    {BYTES(GREETING "\x03\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")},
	    {BYTES(GREETING "\x01" N("\1") "k\0\0\0\0\0\0\0\x80")},
	    {BYTES(GREETING "\x06\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")},
	    {BYTES(GREETING "\x01" N("\1") "\n" N("\3") "\"\n\x01\x04" N("\1") "\n" N("\1"))}, /* for the log's sake */
	};
	uint16_t port;
	tdr_store_server *server = open_server(NULL, &port);
	int good = dial_and_greet(port);

	(void)state;
	watch_log();
	for (int round = 0; round < 5; round++)
		for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
			int fd = dial(port);

			peer_send(fd, garbage[i].data, garbage[i].size);
			peer_expect_end(fd);
		}
	peer_send(good, BYTES("\x0D"
	                      "efgh"));
	peer_expect(good, "efgh", 4);
	assert_in_range(log_count, 1, 20); /* two windows' worth, should the test be slow */
	assert_false(log_bad);
	close(good);
	tdr_store_server_close(server);
}

/* Requests that end in the middle: the connection goes, quietly, and so does what it had of the request. */
static void test_truncated(void **state)
{
	static const char request[] = GREETING "\x02" N("\2") "/k" N("\2") "xx" N("\2") "yy";
	uint16_t port;
	tdr_store_server *server = open_server(NULL, &port);
	int good = dial_and_greet(port);

	(void)state;
	watch_log();
	for (size_t size = 0; size < sizeof(request) - 1; size++) {
		int fd = dial(port);

		peer_send(fd, request, size);
		shutdown(fd, SHUT_WR);
		peer_expect_end(fd);
	}
	peer_send(good, BYTES(GET_NUM_KEYS));
	peer_expect(good, BYTES(N("\0")));
	assert_int_equal(log_count, 0);
	close(good);
	tdr_store_server_close(server);
}

#define VALUE_SIZE ((size_t)1 << 20)
#define READS 64

/* A client that asks for much and reads nothing waits, alone; when it reads, all is there. */
static void test_slow_reader(void **state)
{
	char *value = calloc(1, VALUE_SIZE);
	uint64_t size = VALUE_SIZE;
	uint16_t port;
	tdr_store_server *server = open_server(NULL, &port);
	int slow = dial(port), good = dial_and_greet(port);

	(void)state;
	assert_non_null(value);
	memset(value, 'v', VALUE_SIZE);
	peer_send(slow, BYTES(GREETING "\x01" N("\2") "/v"));
	peer_send(slow, &size, sizeof(size));
	peer_send(slow, value, VALUE_SIZE);
	for (int i = 0; i < READS; i++)
		peer_send(slow, BYTES("\x03" N("\2") "/v"));
	for (int i = 0; i < 10; i++) {
		peer_send(good, BYTES("\x04" N("\2") "/n" N("\1")));
		assert_true(peer_receive(good, &size, sizeof(size)));
		assert_int_equal(size, i + 1);
	}
	size = VALUE_SIZE;
	for (int i = 0; i < READS; i++) {
		peer_expect(slow, &size, sizeof(size));
		peer_expect(slow, value, VALUE_SIZE);
	}
	free(value);
	close(slow);
	close(good);
	tdr_store_server_close(server);
}

static void test_max_connections(void **state)
{
	tdr_store_server_options options;
	tdr_store_server *server;
	uint16_t port;
	int fds[2], more;

	(void)state;
	watch_log();
	tdr_store_server_options_init(&options);
	options.max_connections = 2;
	server = open_server(&options, &port);
	fds[0] = dial_and_greet(port);
	fds[1] = dial_and_greet(port);
	more = dial(port);
	peer_expect_end(more);
	assert_int_equal(log_count, 1);
	/* one goes, and there is room again: as soon as the server knows */
	shutdown(fds[0], SHUT_WR);
	peer_expect_end(fds[0]);
	fds[0] = dial_and_greet(port);
	close(fds[0]);
	close(fds[1]);
	tdr_store_server_close(server);
}

/*
 * Without descriptors the server accepts nobody, serves those it has, and goes on when there are some again. In a process
 * of its own, because of the limit.
 */
static int run_out_of_descriptors(void *context)
{
	struct rlimit limit = {.rlim_cur = 64, .rlim_max = 64};
	tdr_store_server *server;
	int spare[64] = {-1}, count = 0, good, late[2];
	uint16_t port;
	char answer[8];

	(void)context;
	watch_log();
	server = open_server(NULL, &port);
	good = dial_and_greet(port);
	late[0] = socket(AF_INET, SOCK_STREAM, 0); /* the kernel connects it, without a descriptor of the server's */
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1;
	close(late[0]);
	while (count < 64 && (spare[count] = open("/dev/null", O_RDONLY)) >= 0)
		count++;
	close(spare[--count]);
	late[0] = dial(port); /* takes the last descriptor there is */
	for (int i = 0; i < 50; i++) {
		peer_send(good, BYTES(GET_NUM_KEYS));
		peer_expect(good, BYTES(N("\0")));
		usleep(10000);
	}
	if (log_count < 1 || log_count > 10)
		return 2; /* it pauses: half a second is some five tries */
	close(spare[--count]);
	close(spare[--count]);
	peer_send(late[0], BYTES(GREETING GET_NUM_KEYS));
	if (!peer_receive(late[0], answer, sizeof(answer)))
		return 3;
	tdr_store_server_close(server);
	return 0;
}

static void test_no_descriptors(void **state)
{
	struct process child = {.name = "poor", .run = run_out_of_descriptors};

	(void)state;
	processes_start(&child, 1);
	processes_finish(&child, 1, 60000);
}

/* A child made by fork() that closes its handle harms nobody, and holds up nobody who waits for the parent to close. */
static void test_fork(void **state)
{
	uint16_t port;
	tdr_store_server *server = open_server(NULL, &port);
	int fd = dial_and_greet(port), status, hold[2];
	pid_t child, holder;

	(void)state;
	assert_int_equal(pipe(hold), 0);
	child = fork();
	if (child == 0) {
		tdr_store_server_close(server);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	peer_send(fd, BYTES(GET_NUM_KEYS));
	peer_expect(fd, BYTES(N("\0")));
	holder = fork(); /* keeps all descriptors open until the pipe ends */
	if (holder == 0) {
		close(hold[1]);
		_exit((int)read(hold[0], &status, 1));
	}
	tdr_store_server_close(server);
	peer_expect_end(fd);
	assert_int_equal(peer_dial(port, false), -1);
	close(hold[0]);
	close(hold[1]);
	assert_int_equal(waitpid(holder, &status, 0), holder);
	assert_int_equal(status, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, leaks_setup, unwatch_log)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_loopback),        TEST(test_hosts),          TEST(test_address_in_use),
	    TEST(test_options),         TEST(test_byte_by_byte),   TEST(test_many_connections),
	    TEST(test_garbage),         TEST(test_truncated),      TEST(test_slow_reader),
	    TEST(test_max_connections), TEST(test_no_descriptors), TEST(test_fork),
	};

	return cmocka_run_group_tests_name("tcp_server", tests, NULL, NULL);
}
