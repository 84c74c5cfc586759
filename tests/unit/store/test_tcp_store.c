/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tcp store's client: both versions of the wire, threads, large values, and servers that are late, silent, gone, or
 * talk nonsense. (test_store.c runs the suite of all kinds over it.)
 */
#include "base/clock.h"
#include "base/macros.h"
#include "peers.h"
#include "support/leaks.h"
#include "support/places.h"

#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tendril/store.h>
#include <unistd.h>

#include "store/store.h"

#include <cmocka.h>

#define OK(call) assert_int_equal(call, TDR_OK)
#define PATIENCE_MS 30000

static void assert_text(const char *part)
{
	if (!strstr(tdr_last_error(), part))
		fail_msg("'%s' is not in the error's text: %s", part, tdr_last_error());
}

static void assert_value(tdr_store *store, const char *key, const void *value, size_t size)
{
	tdr_blob blob;

	OK(tdr_store_get(store, key, PATIENCE_MS, &blob));
	assert_int_equal(blob.size, size);
	assert_memory_equal(blob.data, value, size);
	assert_int_equal(blob.data[size], 0);
	tdr_blob_free(&blob);
}

static tdr_store *open_store(uint16_t port)
{
	tdr_store *store = NULL;
	tdr_status status = tdr_store_tcp("127.0.0.1", port, PATIENCE_MS, &store);

	if (status != TDR_OK)
		print_error("%s\n", tdr_last_error());
	assert_int_equal(status, TDR_OK);
	return store;
}

/* ---- over both versions ---- */

struct fixture {
	tdr_store_server *server;
	struct old_server *old;
	tdr_store *store;
};

static int setup_server(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	leaks_setup(NULL);
	OK(tdr_store_server_open(NULL, &fixture->server));
	fixture->store = open_store(tdr_store_server_port(fixture->server));
	*state = fixture;
	return 0;
}

static int setup_old_server(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	uint16_t port;

	leaks_setup(NULL);
	fixture->old = old_server_open(&port);
	fixture->store = open_store(port);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	tdr_store_unref(fixture->store);
	tdr_store_server_close(fixture->server);
	if (fixture->old)
		old_server_close(fixture->old);
	free(fixture);
	return leaks_teardown(NULL);
}

static void operations(void **state)
{
	tdr_store *store = ((struct fixture *)*state)->store;
	const char *keys[] = {"text", "binary", "empty"}, *two[] = {"text", "absent"};
	char one[] = "1", three[] = "3\0003";
	const tdr_blob values[] = {{one, 1}, {NULL, 0}, {three, 3}};
	tdr_blob blob, blobs[3];
	int64_t number;
	bool answer;

	OK(tdr_store_set(store, "text", "hello", 5));
	OK(tdr_store_set(store, "binary", "\0\xFF\n\0", 4));
	OK(tdr_store_set(store, "empty", NULL, 0));
	assert_value(store, "text", "hello", 5);
	assert_value(store, "binary", "\0\xFF\n\0", 4);
	assert_value(store, "empty", "", 0);
	OK(tdr_store_add(store, "number", 5, &number));
	assert_int_equal(number, 5);
	OK(tdr_store_add(store, "number", INT64_MIN, &number));
	assert_true(number == INT64_MIN + 5);
	OK(tdr_store_num_keys(store, &number));
	assert_int_equal(number, 4);
	OK(tdr_store_check(store, 3, keys, &answer));
	assert_true(answer);
	OK(tdr_store_check(store, 2, two, &answer));
	assert_false(answer);
	OK(tdr_store_wait(store, 3, keys, PATIENCE_MS));
	OK(tdr_store_compare_set(store, "text", "hello", 5, "bye", 3, &blob));
	assert_string_equal(blob.data, "bye");
	tdr_blob_free(&blob);
	OK(tdr_store_compare_set(store, "absent", "x", 1, "y", 1, &blob));
	assert_string_equal(blob.data, "x");
	tdr_blob_free(&blob);
	OK(tdr_store_append(store, "text", "!\0", 2));
	assert_value(store, "text", "bye!\0", 5);
	OK(tdr_store_multi_set(store, 3, keys, values));
	OK(tdr_store_multi_get(store, 3, keys, PATIENCE_MS, blobs));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(blobs[i].size, values[i].size);
		tdr_blob_free(&blobs[i]);
	}
	OK(tdr_store_delete_key(store, "text", &answer));
	assert_true(answer);
	OK(tdr_store_delete_key(store, "text", &answer));
	assert_false(answer);
}

static void large_values(void **state)
{
	tdr_store *store = ((struct fixture *)*state)->store;
	size_t size = (size_t)8 << 20;
	char *value = malloc(size);

	assert_non_null(value);
	for (size_t i = 0; i < size; i++)
		value[i] = (char)(i * 2654435761u >> 13);
	for (size_t part = size; part > size / 64; part = part / 3 + 1) {
		OK(tdr_store_set(store, "large", value, part));
		assert_value(store, "large", value, part);
	}
	free(value);
}

#define LONG 5000

/* More keys than one request may carry, or than one answer should. */
static void long_lists(void **state)
{
	tdr_store *store = ((struct fixture *)*state)->store;
	char(*names)[16] = calloc(LONG, sizeof(*names));
	const char **keys = calloc(LONG, sizeof(*keys));
	tdr_blob *values = calloc(LONG, sizeof(*values));
	bool all;

	for (int i = 0; i < LONG; i++) {
		snprintf(names[i], sizeof(names[i]), "key%d", i);
		keys[i] = names[i];
		values[i] = (tdr_blob){.data = names[i], .size = strlen(names[i])};
	}
	OK(tdr_store_multi_set(store, LONG - 1, keys, values));
	OK(tdr_store_check(store, LONG, keys, &all));
	assert_false(all);
	assert_int_equal(tdr_store_wait(store, LONG, keys, 100), TDR_ETIMEDOUT);
	assert_text("Socket Timeout");
	OK(tdr_store_set(store, "key4999", "key4999", 7));
	OK(tdr_store_wait(store, LONG, keys, PATIENCE_MS));
	OK(tdr_store_check(store, LONG, keys, &all));
	assert_true(all);
	OK(tdr_store_multi_get(store, LONG, keys, PATIENCE_MS, values));
	for (int i = 0; i < LONG; i++) {
		assert_string_equal(values[i].data, keys[i]);
		tdr_blob_free(&values[i]);
	}
	free(values);
	free(keys);
	free(names);
}

/* A wait that times out names what is missing, and its late answer disturbs nobody. */
static void timeouts(void **state)
{
	tdr_store *store = ((struct fixture *)*state)->store;
	const char *keys[] = {"there", "absent"};
	tdr_blob blob;

	OK(tdr_store_set(store, "there", "1", 1));
	for (int i = 0; i < 10; i++) {
		assert_int_equal(tdr_store_wait(store, 2, keys, 10), TDR_ETIMEDOUT);
		assert_text("Socket Timeout (127.0.0.1:");
		assert_text("key 'absent' did not appear within 10 ms");
		assert_int_equal(tdr_store_get(store, "absent", 10, &blob), TDR_ETIMEDOUT);
		assert_text("key 'absent' did not appear");
		OK(tdr_store_set(store, "absent", "2", 1));
		assert_value(store, "absent", "2", 1);
		OK(tdr_store_delete_key(store, "absent", NULL));
	}
}

static void limits(void **state)
{
	tdr_store *store = ((struct fixture *)*state)->store;
	char *key = malloc(10000);

	memset(key, 'k', 10000);
	key[8191] = '\0';
	OK(tdr_store_set(store, key, "1", 1));
	assert_value(store, key, "1", 1);
	key[8191] = 'k';
	key[8192] = '\0';
	assert_int_equal(tdr_store_set(store, key, "1", 1), TDR_ELIMIT);
	assert_text("a key of 8192 bytes, 'kkk");
	assert_int_equal(tdr_store_get(store, key, 100, NULL), TDR_ELIMIT);
	free(key);
	OK(tdr_store_set(store, "word", "seven", 5));
	assert_int_equal(tdr_store_add(store, "word", 1, NULL), TDR_EINVAL);
	assert_text("'seven' is no decimal number");
	assert_value(store, "word", "seven", 5);
}

/* ---- threads ---- */

#define THREADS 16

struct member {
	pthread_t thread;
	tdr_store *store;
	int index;
	tdr_status status;
};

/* Waits for all the others, each time in a new round; in between, what was stored must be there at once. */
static void *meet(void *argument)
{
	struct member *member = argument;
	char names[THREADS][32], own[32];
	const char *keys[THREADS];
	bool there;

	for (int round = 0; round < 20 && member->status == TDR_OK; round++) {
		for (int i = 0; i < THREADS; i++) {
			snprintf(names[i], sizeof(names[i]), "round%d/%d", round, i);
			keys[i] = names[i];
		}
		snprintf(own, sizeof(own), "own%d", member->index);
		member->status = tdr_store_set(member->store, own, names[0], strlen(names[0]));
		if (member->status == TDR_OK)
			member->status = tdr_store_check(member->store, 1, (const char *[]){own}, &there);
		if (member->status == TDR_OK && !there)
			member->status = TDR_EINTERNAL;
		if (member->status == TDR_OK)
			member->status = tdr_store_set(member->store, keys[member->index], "", 0);
		if (member->status == TDR_OK)
			member->status = tdr_store_wait(member->store, THREADS, keys, PATIENCE_MS);
		if (member->status == TDR_OK)
			member->status = tdr_store_add(member->store, "count", 1, NULL);
	}
	if (member->status != TDR_OK)
		fprintf(stderr, "# member %d: %s\n", member->index, tdr_last_error());
	return NULL;
}

static void threads_meet(void **state)
{
	tdr_store *store = ((struct fixture *)*state)->store;
	struct member members[THREADS] = {0};

	for (int i = 0; i < THREADS; i++) {
		members[i].store = store;
		members[i].index = i;
		assert_int_equal(pthread_create(&members[i].thread, NULL, meet, &members[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(members[i].thread, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		OK(members[i].status);
	assert_value(store, "count", "320", 3);
}

#define STORES 200

static void test_many_stores(void **state)
{
	tdr_store_server *server;
	tdr_store *stores[STORES];
	int64_t number;

	(void)state;
	OK(tdr_store_server_open(NULL, &server));
	for (int i = 0; i < STORES; i++) {
		stores[i] = open_store(tdr_store_server_port(server));
		OK(tdr_store_add(stores[i], "count", 1, &number));
		assert_int_equal(number, i + 1);
	}
	for (int i = 0; i < STORES; i++) {
		assert_value(stores[i], "count", "200", 3);
		tdr_store_unref(stores[i]);
	}
	tdr_store_server_close(server);
}

/* ---- servers that come and go ---- */

static void *open_late(void *argument)
{
	struct port *port = argument;
	tdr_store_server_options options;
	tdr_store_server *server = NULL;

	tdr_store_server_options_init(&options);
	options.port = port->number;
	usleep(100000);
	if (tdr_store_server_open(&options, &server) != TDR_OK)
		fprintf(stderr, "# %s\n", tdr_last_error());
	return server;
}

static void test_server_starts_late(void **state)
{
	struct port port = port_reserve();
	tdr_store *store;
	pthread_t thread;
	void *server;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, open_late, &port), 0);
	store = open_store(port.number);
	assert_int_equal(pthread_join(thread, &server), 0);
	assert_non_null(server);
	OK(tdr_store_set(store, "a", "1", 1));
	tdr_store_unref(store);
	tdr_store_server_close(server);
	port_release(&port);
}

static void test_nobody_there(void **state)
{
	struct port port = port_reserve();
	tdr_store *store = NULL;
	char expected[128];

	(void)state;
	assert_int_equal(tdr_store_tcp("127.0.0.1", port.number, 300, &store), TDR_ETIMEDOUT);
	assert_null(store);
	snprintf(expected, sizeof(expected),
	         "s while trying to connect to (127.0.0.1, %u): cannot connect: Connection refused", port.number);
	assert_text("The client socket has timed out after 0.3");
	assert_text(expected);
	assert_int_equal(tdr_store_tcp("no.such.host.invalid", port.number, 50, &store), TDR_ETIMEDOUT);
	assert_text("cannot look up 'no.such.host.invalid'");
	assert_int_equal(tdr_store_tcp(NULL, port.number, 50, &store), TDR_EINVAL);
	assert_int_equal(tdr_store_tcp("", port.number, 50, &store), TDR_EINVAL);
	assert_int_equal(tdr_store_tcp("127.0.0.1", 0, 50, &store), TDR_EINVAL);
	assert_int_equal(tdr_store_tcp("127.0.0.1", 1, -2, &store), TDR_EINVAL);
	port_release(&port);
}

static void *wait_for_nothing(void *argument)
{
	struct member *member = argument;
	static _Thread_local char text[1024];

	member->status = tdr_store_wait(member->store, 1, (const char *[]){"never"}, PATIENCE_MS);
	snprintf(text, sizeof(text), "%s", tdr_last_error());
	return strdup(text);
}

/* A server that goes fails who waits at once, and what comes after; when another is there, the store works on. */
static void test_server_goes_and_comes(void **state)
{
	struct port port = port_reserve();
	tdr_store_server_options options;
	tdr_store_server *server;
	struct member member = {0};
	char expected[128];
	void *text;

	(void)state;
	tdr_store_server_options_init(&options);
	options.port = port.number;
	OK(tdr_store_server_open(&options, &server));
	member.store = open_store(port.number);
	assert_int_equal(pthread_create(&member.thread, NULL, wait_for_nothing, &member), 0);
	usleep(50000);
	OK(tdr_store_set(member.store, "a", "1", 1)); /* though another thread waits */
	tdr_store_server_close(server);
	assert_int_equal(pthread_join(member.thread, &text), 0);
	assert_int_equal(member.status, TDR_EIO);
	snprintf(expected, sizeof(expected),
	         "the connection to the store at 127.0.0.1:%u is lost, in WAIT of key 'never'", port.number);
	if (!strstr(text, expected))
		fail_msg("'%s' is not in '%s'", expected, (char *)text);
	free(text);
	assert_int_equal(tdr_store_add(member.store, "a", 1, NULL), TDR_EIO);
	assert_text("is lost, in ADD of key 'a': cannot connect: Connection refused");
	OK(tdr_store_server_open(&options, &server));
	OK(tdr_store_add(member.store, "a", 1, NULL));
	assert_value(member.store, "a", "1", 1);
	tdr_store_unref(member.store);
	tdr_store_server_close(server);
	port_release(&port);
}

/* A server drops who stores too much: said so, and the store is as good as before. */
static void test_past_the_servers_limit(void **state)
{
	tdr_store_server_options options;
	tdr_store_server *server;
	tdr_store *store;
	char value[1000] = {0};

	(void)state;
	tdr_store_server_options_init(&options);
	options.max_value_size = 999;
	OK(tdr_store_server_open(&options, &server));
	store = open_store(tdr_store_server_port(server));
	assert_int_equal(tdr_store_set(store, "a", value, 1000), TDR_EIO);
	assert_text("it drops who goes past a limit");
	OK(tdr_store_set(store, "a", value, 999));
	assert_int_equal(tdr_store_append(store, "a", value, 1), TDR_EIO);
	assert_value(store, "a", value, 999);
	tdr_store_unref(store);
	tdr_store_server_close(server);
}

/* ---- servers that talk nonsense, by script ---- */

static void test_not_a_store(void **state)
{
	static const struct script ssh[] = {
	    {.steps = {{0, BYTES("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")}}, .stay = true}};
	static const struct script drops[1];
	struct scripted *server;
	tdr_store *store;
	uint16_t port;

	(void)state;
	server = scripted_open(ssh, 1, &port);
	assert_int_equal(tdr_store_tcp("127.0.0.1", port, PATIENCE_MS, &store), TDR_EPROTO);
	assert_text("is not a store's server");
	scripted_close(server);
	server = scripted_open(drops, 1, &port);
	assert_int_equal(tdr_store_tcp("127.0.0.1", port, 200, &store), TDR_ETIMEDOUT);
	scripted_close(server);
}

/* Opens a store at a scripted server, whose first connection must begin with STEP_PROBE. */
static struct scripted *open_scripted(const struct script *scripts, size_t count, tdr_store **ret_store)
{
	uint16_t port;
	struct scripted *server = scripted_open(scripts, count, &port);

	*ret_store = open_store(port);
	return server;
}

static void close_scripted(struct scripted *server, tdr_store *store)
{
	tdr_store_unref(store);
	scripted_close(server);
}

static void test_lengths_that_lie(void **state)
{
	static const struct script scripts[] = {
	    {.steps = {STEP_PROBE, {19, BYTES("\0")}, {11, BYTES("\0\0\0\0\0\0\0\x40")}}, .stay = true},
	    {.steps = {{5 + 19, BYTES("\0")}, {11, BYTES("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")}}, .stay = true},
	    {.steps = {{5 + 19, BYTES("\0")},
	               {11, BYTES("\0\0\0\x3F\0\0\0\0"
	                          "and then nothing")}}},
	    {.steps = {{5 + 19, BYTES("\0")}, {11, BYTES("\0\0\0\x3F\0\0\0\0")}}},
	};
	struct scripted *server;
	tdr_store *store;
	tdr_blob blob;

	(void)state;
	server = open_scripted(scripts, COUNT_OF(scripts), &store);
	assert_int_equal(tdr_store_get(store, "a", PATIENCE_MS, &blob), TDR_ELIMIT);
	assert_text("announced a value of 4611686018427387904 bytes");
	assert_int_equal(tdr_store_get(store, "a", PATIENCE_MS, &blob), TDR_ELIMIT);
	assert_int_equal(tdr_store_get(store, "a", PATIENCE_MS, &blob), TDR_EIO);
	assert_text("the server has closed the connection");
	close_scripted(server, store);
}

static void test_unexpected_answers(void **state)
{
	static const struct script scripts[] = {
	    {.steps = {STEP_PROBE, {19, BYTES("\7")}}, .stay = true},
	    {.steps = {{5 + 19, BYTES("\7")}}, .stay = true},
	    {.steps = {{5 + 19, NULL, 0}, {1, BYTES("\7")}}, .stay = true},
	};
	struct scripted *server;
	tdr_store *store;
	bool all;

	(void)state;
	server = open_scripted(scripts, COUNT_OF(scripts), &store);
	assert_int_equal(tdr_store_check(store, 1, (const char *[]){"a"}, &all), TDR_EPROTO);
	assert_text("7 is no answer to that");
	assert_int_equal(tdr_store_wait(store, 1, (const char *[]){"a"}, PATIENCE_MS), TDR_EPROTO);
	assert_int_equal(tdr_store_wait(store, 1, (const char *[]){"a"}, 20), TDR_EPROTO);
	close_scripted(server, store);
}

/* The answer to a wait and its cancellation cross: it has ended well, and the connection is used on. */
static void test_crossing_cancel(void **state)
{
	static const struct script scripts[] = {
	    {.steps =
	         {STEP_PROBE, {19 + 1, BYTES("\0\1")}, {1, BYTES(N("\5"))}, {19 + 1, BYTES("\1")}, {1, BYTES(N("\6"))}},
	     .stay = true},
	};
	struct scripted *server;
	tdr_store *store;
	int64_t number;

	(void)state;
	server = open_scripted(scripts, 1, &store);
	OK(tdr_store_wait(store, 1, (const char *[]){"a"}, 20));
	OK(tdr_store_num_keys(store, &number));
	assert_int_equal(number, 5);
	assert_int_equal(tdr_store_wait(store, 1, (const char *[]){"a"}, 20), TDR_ETIMEDOUT);
	OK(tdr_store_num_keys(store, &number));
	assert_int_equal(number, 6);
	close_scripted(server, store);
}

/* A server that takes requests and answers nothing: each operation ends by its deadline. */
static void test_silence(void **state)
{
	static const struct script scripts[] = {
	    {.steps = {STEP_PROBE, {1000, NULL, 0}}},
	};
	struct scripted *server;
	tdr_store *store;
	int64_t number;

	(void)state;
	server = open_scripted(scripts, 1, &store);
	tdr_store_set_timeout(store, 50);
	assert_int_equal(tdr_store_set(store, "a", "1", 1), TDR_ETIMEDOUT);
	assert_text("Socket Timeout");
	assert_text("no answer to SET of key 'a' within 50 ms");
	/* nobody accepts these any more */
	assert_int_not_equal(tdr_store_num_keys(store, &number), TDR_OK);
	assert_int_not_equal(tdr_store_wait(store, 1, (const char *[]){"a"}, 50), TDR_OK);
	close_scripted(server, store);
}

/* A connection that is lost in the middle: what may be repeated is, on another one; what may not is not. */
static void test_lost_connection(void **state)
{
	static const struct script scripts[] = {
	    {.steps = {STEP_PROBE, {20, NULL, 0}}},
	    {.steps = {{5 + 20, BYTES(N("\1"))}, {12, NULL, 0}}},
	};
	struct scripted *server;
	tdr_store *store;

	(void)state;
	server = open_scripted(scripts, COUNT_OF(scripts), &store);
	OK(tdr_store_set(store, "a", "1", 1));
	assert_int_equal(tdr_store_add(store, "a", 1, NULL), TDR_EIO);
	assert_text("in ADD of key 'a', which may have taken place or not");
	close_scripted(server, store);
}

/* An idle connection that the server has closed meanwhile is not used: so even what cannot be repeated works. */
static void test_stale_connection(void **state)
{
	static const struct script scripts[] = {
	    {.steps = {STEP_PROBE}},
	    {.steps = {{5 + 19, BYTES(N("\5"))}}, .stay = true},
	};
	struct scripted *server;
	tdr_store *store;
	int64_t sum;

	(void)state;
	server = open_scripted(scripts, COUNT_OF(scripts), &store);
	usleep(50000);
	OK(tdr_store_add(store, "a", 5, &sum));
	assert_int_equal(sum, 5);
	close_scripted(server, store);
}

/* ---- fork, and the rest ---- */

static void test_fork(void **state)
{
	struct fixture *fixture = *state;
	int status, hold[2];
	pid_t child;

	child = fork();
	if (child == 0) {
		status = tdr_store_set(fixture->store, "a", "child", 5) != TDR_EFORKED;
		tdr_store_unref(fixture->store);
		_exit(status);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	/* the child's unref has not ended the connection that both hold */
	OK(tdr_store_set(fixture->store, "a", "parent", 6));
	assert_value(fixture->store, "a", "parent", 6);
	/* and a child that holds it does not keep the server from seeing its end */
	assert_int_equal(pipe(hold), 0);
	child = fork();
	if (child == 0) {
		close(hold[1]);
		_exit((int)read(hold[0], &status, 1));
	}
	fixture->store = tdr_store_unref(fixture->store);
	close(hold[0]);
	close(hold[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_local_address(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_storage address;
	socklen_t size;

	OK(store_local_address(fixture->store, &address, &size));
	assert_int_equal(size, sizeof(struct sockaddr_in));
	assert_int_equal(address.ss_family, AF_INET);
	assert_int_equal(((struct sockaddr_in *)&address)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	assert_string_equal(tdr_store_kind(fixture->store), "tcp");
	assert_int_equal(tdr_store_timeout(fixture->store), PATIENCE_MS);
}

#define BOTH(function)                                                                                                 \
	{"version 2: " #function, function, setup_server, teardown, NULL},                                             \
	{                                                                                                              \
		"version 1: " #function, function, setup_old_server, teardown, NULL                                    \
	}
#define TEST(function) cmocka_unit_test_setup_teardown(function, leaks_setup, leaks_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    BOTH(operations),
	    BOTH(large_values),
	    BOTH(long_lists),
	    BOTH(timeouts),
	    BOTH(limits),
	    BOTH(threads_meet),
	    TEST(test_many_stores),
	    TEST(test_server_starts_late),
	    TEST(test_nobody_there),
	    TEST(test_server_goes_and_comes),
	    TEST(test_past_the_servers_limit),
	    TEST(test_not_a_store),
	    TEST(test_lengths_that_lie),
	    TEST(test_unexpected_answers),
	    TEST(test_crossing_cancel),
	    TEST(test_silence),
	    TEST(test_lost_connection),
	    TEST(test_stale_connection),
	    cmocka_unit_test_setup_teardown(test_fork, setup_server, teardown),
	    cmocka_unit_test_setup_teardown(test_local_address, setup_server, teardown),
	};

	return cmocka_run_group_tests_name("tcp_store", tests, NULL, NULL);
}
