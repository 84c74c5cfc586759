/* SPDX-License-Identifier: Apache-2.0 */
/* Tcp against peers that are not Tendril, and against a system that runs out of things. */
#include "ends.h"

#include "base/macros.h"
#include "support/leaks.h"
#include "support/processes.h"
#include "transport/address.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <tendril/log.h>
#include <unistd.h>

static struct place *new_place(void)
{
	return place_new(&transport_tcp, "127.0.0.1", 4);
}

/* ---- a raw peer ---- */

static int raw_connect(uint16_t port)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void raw_write(int fd, const void *data, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t sent = send(fd, (const char *)data + at, size - at, MSG_NOSIGNAL);

		if (sent < 0)
			return; /* the lane has had enough */
		at += (size_t)sent;
	}
}

/* Waits for the other side to close; true if it did. */
static bool raw_sees_end(int fd)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};
	char scratch[4096];

	for (;;) {
		if (poll(&poller, 1, AWAIT_MS) != 1)
			return false;
		if (recv(fd, scratch, sizeof(scratch), 0) <= 0)
			return true;
	}
}

static size_t put_head(uint8_t *wire, uint8_t type, uint64_t sequence, uint32_t body_size, uint32_t nstorages)
{
	struct message_head head = {.version = MESSAGE_VERSION,
	                            .type = type,
	                            .sequence = sequence,
	                            .incarnation = 3,
	                            .body_size = body_size,
	                            .nstorages = nstorages};

	message_head_write(&head, wire);
	return MESSAGE_HEAD_SIZE;
}

static void check_bytes(struct end *end, const struct message *message)
{
	if (message->type != MESSAGE_CALL || message->body_size != 5 || memcmp(message->body, "hello", 5) != 0)
		end_wrong(end, "the message differs");
	if (message->nstorages == 1 && (tdr_storage_nbytes(message->storages[0]) != 200 ||
	                                ((uint8_t *)tdr_storage_data(message->storages[0]))[199] != 9))
		end_wrong(end, "the storage differs");
}

static void test_byte_by_byte(void **state)
{
	struct place *place = new_place();
	static const uint8_t hello[] = {'h', 'e', 'l', 'l', 'o'};
	uint8_t wire[1024];
	uint64_t entry = htole64(200 | MESSAGE_STORAGE_APART);
	size_t size;
	struct end *server;
	int fd;

	place->handle = check_bytes;
	size = put_head(wire, MESSAGE_CALL, 1, 5, 0);
	memcpy(wire + size, hello, 5);
	size += 5;
	size += put_head(wire + size, MESSAGE_CALL, 2, 5, 1);
	memcpy(wire + size, &entry, 8);
	memcpy(wire + size + 8, hello, 5);
	size += 13;
	size += put_head(wire + size, MESSAGE_CHUNK, 2, 200, 0);
	memset(wire + size, 9, 200);
	size += 200;
	fd = raw_connect(place->listener->port);
	for (size_t i = 0; i < size; i++)
		raw_write(fd, wire + i, 1);
	server = place_end(place, 0);
	AWAIT(server, server->messages == 2);
	close(fd);
	AWAIT(server, server->closed);
	assert_int_equal(server->status, TDR_EIO);
	assert_null(strstr(server->text, "middle"));
	place_free(place);
}

/* ---- what must not be sent ---- */

struct offence {
	const char *name;
	const char *text; /* how we speak of it */
	size_t (*write)(uint8_t *wire);
	tdr_status status;
	bool end; /* the stream ends after it */
};

static size_t garbage(uint8_t *wire)
{
	memcpy(wire, "GET / HTTP/1.1\r\nHost: tendril\r\nUser-Agent: a browser, with much to say\r\n\r\n", 75);
	return 75;
}

static size_t other_version(uint8_t *wire)
{
	put_head(wire, MESSAGE_CALL, 1, 0, 0);
	wire[4] = 9;
	return MESSAGE_HEAD_SIZE;
}

static size_t unknown_type(uint8_t *wire)
{
	put_head(wire, MESSAGE_CALL, 1, 0, 0);
	wire[5] = 77;
	return MESSAGE_HEAD_SIZE;
}

static size_t bad_sequence(uint8_t *wire)
{
	return put_head(wire, MESSAGE_CALL, 2, 0, 0);
}

static size_t oversized(uint8_t *wire)
{
	return put_head(wire, MESSAGE_CALL, 1, 1u << 30, 0);
}

static size_t too_many_storages(uint8_t *wire)
{
	return put_head(wire, MESSAGE_CALL, 1, 0, 1000000);
}

static size_t stray_chunk(uint8_t *wire)
{
	return put_head(wire, MESSAGE_CHUNK, 1, 10, 0);
}

static size_t false_acknowledgement(uint8_t *wire)
{
	struct message_head head = {.version = MESSAGE_VERSION, .type = MESSAGE_CALL, .sequence = 1, .acknowledged = 5};

	message_head_write(&head, wire);
	return MESSAGE_HEAD_SIZE;
}

static size_t truncated_head(uint8_t *wire)
{
	put_head(wire, MESSAGE_CALL, 1, 0, 0);
	return 63;
}

static size_t truncated_body(uint8_t *wire)
{
	return put_head(wire, MESSAGE_CALL, 1, 5, 0);
}

static size_t lacking_chunks(uint8_t *wire)
{
	uint64_t entry = htole64(200 | MESSAGE_STORAGE_APART);
	size_t size = put_head(wire, MESSAGE_CALL, 1, 0, 1);

	memcpy(wire + size, &entry, 8);
	return size + 8;
}

static void check_nothing(struct end *end, const struct message *message)
{
	end_wrong(end, "a message came: %s", message_type_name(message->type));
}

static void test_offences(void **state)
{
	static const struct offence offences[] = {
	    {"garbage", "no message", garbage, TDR_EPROTO, false},
	    {"other version", "version 9", other_version, TDR_EVERSION, false},
	    {"unknown type", "type 77", unknown_type, TDR_EPROTO, false},
	    {"bad sequence", "message 2 came", bad_sequence, TDR_EPROTO, false},
	    {"oversized", "limit", oversized, TDR_ELIMIT, false},
	    {"too many storages", "storages", too_many_storages, TDR_ELIMIT, false},
	    {"stray chunk", "chunk", stray_chunk, TDR_EPROTO, false},
	    {"false acknowledgement", "acknowledged", false_acknowledgement, TDR_EPROTO, false},
	    {"truncated head", "middle", truncated_head, TDR_EIO, true},
	    {"truncated body", "middle", truncated_body, TDR_EIO, true},
	    {"lacking chunks", "middle", lacking_chunks, TDR_EIO, true},
	};
	struct place *place = new_place();
	struct end well;

	end_open(&well, place, NULL);
	place_end(place, 0);
	place->handle = check_nothing;
	for (unsigned i = 0; i < COUNT_OF(offences); i++) {
		int fd = raw_connect(place->listener->port);
		struct end *server = place_end(place, i + 1);
		uint8_t wire[256] = {0};

		raw_write(fd, wire, offences[i].write(wire));
		if (offences[i].end)
			shutdown(fd, SHUT_WR);
		AWAIT(server, server->closed);
		if (server->status != offences[i].status || !strstr(server->text, offences[i].text))
			fail_msg("%s: %s, %s", offences[i].name, tdr_status_name(server->status), server->text);
		assert_true(raw_sees_end(fd));
		close(fd);
	}
	end_send(&well, 1, "still here", 10);
	AWAIT(&place->ends[0], place->ends[0].messages == 1);
	lane_close(well.lane, true);
	end_finish(&well);
	place_free(place);
}

static sem_t gate;

/* The first message holds up the reader. */
static void stop_at_first(struct end *end, const struct message *message)
{
	if (message->type != MESSAGE_CALL) {
		end_count(end);
		return;
	}
	end_set_flag(end);
	while (sem_wait(&gate) != 0)
		continue;
}

/* What the peer sent before it broke the connection arrives, though we find out by writing. */
static void test_last_words(void **state)
{
	struct place *place = new_place();
	struct message message = {.type = MESSAGE_CALL, .body = (const uint8_t *)"x", .body_size = 1};
	struct linger hard = {.l_onoff = 1, .l_linger = 0};
	uint8_t wire[MESSAGE_HEAD_SIZE];
	struct end *server;
	int fd;

	sem_init(&gate, 0, 0);
	place->handle = stop_at_first;
	fd = raw_connect(place->listener->port);
	server = place_end(place, 0);
	raw_write(fd, wire, put_head(wire, MESSAGE_CALL, 1, 0, 0));
	AWAIT(server, server->flag);
	raw_write(fd, wire, put_head(wire, MESSAGE_REFUSE, 2, 0, 0));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(fd); /* with a reset */
	while (lane_send(server->lane, &message) == TDR_OK)
		usleep(1000);
	assert_int_equal(server->closed, 0);
	sem_post(&gate);
	AWAIT(server, server->closed);
	assert_int_equal(server->status, TDR_EIO);
	assert_int_equal(server->counter, 1);
	sem_destroy(&gate);
	place_free(place);
}

/* ---- addresses ---- */

static void test_ipv6(void **state)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool there = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	struct end client, *server;
	struct place *place;

	if (fd >= 0)
		close(fd);
	if (!there)
		skip();
	place = place_new(&transport_tcp, "::1", 4);
	assert_string_equal(place->listener->host, "::1");
	end_open(&client, place, NULL);
	end_send(&client, 1, "x", 1);
	server = place_end(place, 0);
	assert_non_null(strstr(server->lane->peer, "tcp://[::1]:"));
	AWAIT(server, server->messages == 1);
	lane_close(client.lane, true);
	end_finish(&client);
	place_free(place);
}

/* A listener on all addresses; a name whose first address may be refused. */
static void test_all_addresses(void **state)
{
	struct lane_config config;
	struct listener *listener;
	struct place *place = new_place();
	struct end client;
	char address[ADDRESS_SIZE];

	config = place->config;
	config.context = &client;
	assert_int_equal(transport_tcp.listen(&config, NULL, 0, NULL, NULL, &listener), TDR_OK);
	assert_true(listener->port > 0);
	assert_true(strcmp(listener->host, "::") == 0 || strcmp(listener->host, "0.0.0.0") == 0);
	listener->ops->close(listener);
	address_join("tcp", "localhost", place->listener->port, address);
	end_open_to(&client, place, address, AWAIT_MS, NULL);
	AWAIT(&client, client.opened);
	lane_close(client.lane, false);
	end_finish(&client);
	place_free(place);
}

static void test_listen_errors(void **state)
{
	struct place *place = new_place();
	struct listener *listener = NULL;

	assert_int_equal(
	    transport_tcp.listen(&place->config, "127.0.0.1", place->listener->port, NULL, NULL, &listener), TDR_EIO);
	assert_non_null(strstr(tdr_last_error(), "127.0.0.1"));
	assert_int_equal(transport_tcp.listen(&place->config, "192.0.2.1", 0, NULL, NULL, &listener), TDR_EIO);
	assert_int_equal(transport_tcp.listen(&place->config, "no such host", 0, NULL, NULL, &listener), TDR_EINVAL);
	assert_null(listener);
	place_free(place);
}

/* ---- connecting ---- */

/* A host that does not answer: a listener whose backlog is full drops what comes. */
static void test_timeout(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct place *place = new_place();
	socklen_t size = sizeof(address);
	int deaf = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char name[ADDRESS_SIZE];
	struct end client;
	int fillers[64];
	size_t nfillers = 0;

	assert_int_equal(bind(deaf, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(deaf, 0), 0);
	assert_int_equal(getsockname(deaf, (struct sockaddr *)&address, &size), 0);
	for (;;) {
		struct pollfd poller = {.events = POLLOUT};

		assert_true(nfillers < COUNT_OF(fillers));
		poller.fd = fillers[nfillers++] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(poller.fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			continue;
		assert_int_equal(errno, EINPROGRESS);
		if (poll(&poller, 1, 300) == 0)
			break;
	}
	address_join("tcp", "127.0.0.1", ntohs(address.sin_port), name);
	end_open_to(&client, place, name, 200, NULL);
	end_finish(&client);
	assert_int_equal(client.status, TDR_EUNREACHABLE);
	assert_false(client.refused);
	assert_int_equal(client.opened, 0);
	assert_non_null(strstr(client.text, "200 ms"));
	/* The same, closed by us while it waits: at once, or when the flush is given up. */
	for (int flush = 0; flush < 2; flush++) {
		end_open_to(&client, place, name, AWAIT_MS, NULL);
		end_send(&client, 1, "in vain", 7);
		lane_close(client.lane, flush);
		end_finish(&client);
		assert_int_equal(client.status, TDR_OK);
	}
	while (nfillers > 0)
		close(fillers[--nfillers]);
	close(deaf);
	place_free(place);
}

/* ---- in a process of its own ---- */

static _Atomic unsigned pauses;

static void count_pauses(void *context, tdr_log_level level, const char *line)
{
	if (strstr(line, "event=accept_paused"))
		pauses++;
}

/* Out of descriptors: the listener pauses and tells so once, and goes on when there are some again. */
static int run_out_of_descriptors(void *context)
{
	struct place *place = new_place();
	struct rlimit limit;
	int fds[32], hoard[256];
	size_t nhoard = 0;
	struct end client;

	tdr_log_set(count_pauses, NULL, TDR_LOG_WARN);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 128;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < 4; i++)
		fds[i] = raw_connect(place->listener->port);
	place_end(place, 3);
	while ((hoard[nhoard] = fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0)
		nhoard++;
	/* One left for us to connect with, none to accept. */
	close(hoard[--nhoard]);
	fds[4] = raw_connect(place->listener->port);
	while (pauses == 0)
		usleep(10000);
	usleep(350000); /* some more pauses, in silence */
	assert_int_equal(pauses, 1);
	/* A lane of our own cannot be opened, either, and says why. */
	end_open(&client, place, NULL);
	end_finish(&client);
	assert_int_equal(client.status, TDR_EIO);
	assert_non_null(strstr(client.text, "ulimit -n"));
	while (nhoard > 0)
		close(hoard[--nhoard]);
	place_end(place, 4);
	for (int i = 0; i < 5; i++)
		close(fds[i]);
	place_free(place);
	return 0;
}

static void run_alone(int (*run)(void *))
{
	struct process process = {.name = "alone", .run = run};

	processes_start(&process, 1);
	processes_finish(&process, 1, 60000);
}

static void test_out_of_descriptors(void **state)
{
	run_alone(run_out_of_descriptors);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return written;
}

/* With a network of our own whose connections can come from one port alone, a connection to it meets itself. */
static int connect_to_itself(void *context)
{
	struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	struct place *place;
	struct end client;
	int fd;

	if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
		printf("no network namespace is to be had here: %s\n", strerror(errno));
		return 0;
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (ioctl(fd, SIOCSIFFLAGS, &loopback) != 0 ||
	    !write_file("/proc/sys/net/ipv4/ip_local_port_range", "40000 40000")) {
		printf("the network cannot be set up: %s\n", strerror(errno));
		return 0;
	}
	close(fd);
	place = new_place();
	assert_int_equal(place->listener->port, 40000);
	place_close_listener(place);
	usleep(100000); /* its descriptor may be closed a little later */
	end_open(&client, place, NULL);
	end_finish(&client);
	assert_int_equal(client.status, TDR_EUNREACHABLE);
	assert_true(client.refused);
	assert_int_equal(client.opened, 0);
	place_free(place);
	return 0;
}

static void test_connect_to_itself(void **state)
{
	run_alone(connect_to_itself);
}

/* An argument chooses tests by name. */
int main(int argc, char **argv)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, leaks_setup, leaks_teardown)
	static const struct CMUnitTest tests[] = {
	    TEST(test_byte_by_byte), TEST(test_offences),           TEST(test_last_words),
	    TEST(test_ipv6),         TEST(test_all_addresses),      TEST(test_listen_errors),
	    TEST(test_timeout),      TEST(test_out_of_descriptors), TEST(test_connect_to_itself),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
