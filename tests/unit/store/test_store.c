/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every kind of store does alike: one suite, run over each of them, and over a prefix on each. A new kind is one row
 * in `kinds`.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/macros.h"
#include "store/store.h"
#include "support/leaks.h"
#include "support/places.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <tendril/store.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(call) assert_int_equal(call, TDR_OK)
#define PATIENCE_MS 30000

struct fixture {
	const struct kind *kind;
	char *directory;
	tdr_store_server *server;
	tdr_store *table;         /* below a hash store's or a user's handles */
	tdr_store *store, *other; /* two handles of one store */
};

struct kind {
	const char *name;
	const char *shown; /* by tdr_store_kind */
	tdr_store *(*open)(struct fixture *fixture);
	bool prefixed;
	bool has_address;
};

/* ---- the kinds ---- */

static tdr_store *open_hash(struct fixture *fixture)
{
	if (!fixture->table)
		OK(tdr_store_hash(&fixture->table));
	return tdr_store_ref(fixture->table);
}

static tdr_store *open_file(struct fixture *fixture)
{
	char path[256];
	tdr_store *store;

	snprintf(path, sizeof(path), "%s/store", fixture->directory);
	OK(tdr_store_file(path, 2, &store));
	return store;
}

static tdr_store *open_tcp(struct fixture *fixture)
{
	tdr_store *store;

	if (!fixture->server)
		OK(tdr_store_server_open(NULL, &fixture->server));
	OK(tdr_store_tcp("127.0.0.1", tdr_store_server_port(fixture->server), PATIENCE_MS, &store));
	tdr_store_set_timeout(store, TDR_TIMEOUT_DEFAULT);
	return store;
}

/* A user's kind: as little as a vtable may have for everything to work. It stands on a hash store. */

static int64_t timeout_until(int64_t deadline_ms)
{
	int64_t left = deadline_ms - clock_ms();

	return deadline_ms == 0 ? TDR_TIMEOUT_NEVER : MAX_OF(left, (int64_t)1);
}

static tdr_status user_set(void *context, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	return tdr_store_set(context, key, value, size);
}

static tdr_status user_add(void *context, const char *key, int64_t amount, int64_t deadline_ms, int64_t *ret_sum)
{
	return tdr_store_add(context, key, amount, ret_sum);
}

static tdr_status user_compare_set(void *context, const char *key, const void *expected, size_t expected_size,
                                   const void *desired, size_t desired_size, int64_t deadline_ms, tdr_blob *ret_value)
{
	return tdr_store_compare_set(context, key, expected, expected_size, desired, desired_size, ret_value);
}

static tdr_status user_check(void *context, size_t count, const char *const keys[], int64_t deadline_ms, bool *ret_all)
{
	return tdr_store_check(context, count, keys, ret_all);
}

static tdr_status user_wait(void *context, size_t count, const char *const keys[], int64_t deadline_ms)
{
	tdr_status status = tdr_store_wait(context, count, keys, timeout_until(deadline_ms));

	/* As a kind is to put it: what is missing, without how long it was waited for. */
	return status == TDR_ETIMEDOUT ? error_set(status, "key '%s' did not appear", keys[count - 1]) : status;
}

static tdr_status user_delete_key(void *context, const char *key, int64_t deadline_ms, bool *ret_existed)
{
	return tdr_store_delete_key(context, key, ret_existed);
}

static tdr_status user_num_keys(void *context, int64_t deadline_ms, int64_t *ret_count)
{
	return tdr_store_num_keys(context, ret_count);
}

static void user_destroy(void *context)
{
	tdr_store_unref(context);
}

static tdr_store *open_user(struct fixture *fixture)
{
	tdr_store_ops ops = {
	    .size = sizeof(ops),
	    .name = "user's own",
	    .set = user_set,
	    .add = user_add,
	    .compare_set = user_compare_set,
	    .check = user_check,
	    .wait = user_wait,
	    .delete_key = user_delete_key,
	    .num_keys = user_num_keys,
	    .destroy = user_destroy,
	};
	tdr_store *store;

	OK(tdr_store_new(&ops, open_hash(fixture), &store));
	return store;
}

static const struct kind kinds[] = {
    {"hash", "hash", open_hash},
    {"file", "file", open_file},
    {"tcp", "tcp", open_tcp, .has_address = true},
    {"user", "user's own", open_user},
    {"prefix_of_hash", "prefix", open_hash, .prefixed = true},
    {"prefix_of_file", "prefix", open_file, .prefixed = true},
    {"prefix_of_tcp", "prefix", open_tcp, .prefixed = true, .has_address = true},
    {"prefix_of_user", "prefix", open_user, .prefixed = true},
};

static tdr_store *open_store(struct fixture *fixture)
{
	tdr_store *store = fixture->kind->open(fixture), *prefixed;

	if (!fixture->kind->prefixed)
		return store;
	OK(tdr_store_prefix("some/group", store, &prefixed));
	tdr_store_unref(store);
	return prefixed;
}

static int setup(void **state)
{
	struct fixture *fixture;

	if (leaks_setup(NULL) != 0)
		return -1;
	fixture = calloc(1, sizeof(*fixture));
	fixture->kind = *state;
	fixture->directory = tmpdir_new();
	fixture->store = open_store(fixture);
	fixture->other = open_store(fixture);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	tdr_store_unref(fixture->store);
	tdr_store_unref(fixture->other);
	tdr_store_unref(fixture->table);
	tdr_store_server_close(fixture->server);
	tmpdir_remove(fixture->directory);
	free(fixture);
	return leaks_teardown(NULL);
}

/* ---- helpers ---- */

static void assert_blob(tdr_blob *blob, const void *data, size_t size)
{
	assert_int_equal(blob->size, size);
	assert_memory_equal(blob->data, data, size);
	assert_int_equal(blob->data[size], '\0');
	tdr_blob_free(blob);
	assert_null(blob->data);
}

static void assert_value(tdr_store *store, const char *key, const char *value)
{
	tdr_blob blob;

	OK(tdr_store_get(store, key, PATIENCE_MS, &blob));
	assert_blob(&blob, value, strlen(value));
}

static void set_text(tdr_store *store, const char *key, const char *value)
{
	OK(tdr_store_set(store, key, value, strlen(value)));
}

static void assert_compare_set(tdr_store *store, const char *key, const char *expected, const char *desired,
                               const char *answer)
{
	tdr_blob blob;

	OK(tdr_store_compare_set(store, key, expected, strlen(expected), desired, strlen(desired), &blob));
	assert_blob(&blob, answer, strlen(answer));
}

static void assert_text(const char *part)
{
	if (!strstr(tdr_last_error(), part))
		fail_msg("'%s' is not in the error's text: %s", part, tdr_last_error());
}

static bool is_there(tdr_store *store, const char *key)
{
	bool all;

	OK(tdr_store_check(store, 1, &key, &all));
	return all;
}

/* ---- the suite ---- */

static void kind_is_named(void **state)
{
	struct fixture *fixture = *state;

	assert_string_equal(tdr_store_kind(fixture->store), fixture->kind->shown);
}

static void set_and_get(void **state)
{
	struct fixture *fixture = *state;
	static const char with_nul[] = {'a', '\0', 'b', '\0'};
	tdr_blob blob;

	set_text(fixture->store, "key", "first");
	assert_value(fixture->other, "key", "first");
	set_text(fixture->other, "key", "second, longer");
	assert_value(fixture->store, "key", "second, longer");
	set_text(fixture->other, "key", "3");
	assert_value(fixture->store, "key", "3");
	OK(tdr_store_set(fixture->store, "nothing", NULL, 0));
	assert_value(fixture->other, "nothing", "");
	OK(tdr_store_set(fixture->store, "bytes", with_nul, sizeof(with_nul)));
	OK(tdr_store_get(fixture->other, "bytes", TDR_TIMEOUT_NEVER, &blob));
	assert_blob(&blob, with_nul, sizeof(with_nul));
	OK(tdr_store_get(fixture->other, "bytes", TDR_TIMEOUT_DEFAULT, NULL));
}

static void keys_are_told_apart(void **state)
{
	struct fixture *fixture = *state;
	static const char *const keys[] = {"", "a", "/a", "-a", "-/a", "//", "cleanup/", "a/b", "\xc3\xa4 \n"};
	int64_t count;

	for (size_t i = 0; i < COUNT_OF(keys); i++)
		OK(tdr_store_set(fixture->store, keys[i], &i, sizeof(i)));
	for (size_t i = 0; i < COUNT_OF(keys); i++) {
		tdr_blob blob;

		OK(tdr_store_get(fixture->other, keys[i], PATIENCE_MS, &blob));
		assert_blob(&blob, &i, sizeof(i));
	}
	OK(tdr_store_num_keys(fixture->other, &count));
	assert_int_equal(count, COUNT_OF(keys));
}

static void large_values_and_many_keys(void **state)
{
	struct fixture *fixture = *state;
	size_t size = 3 << 20;
	char *large = malloc(size), key[400];
	tdr_blob blob;
	int64_t count;

	for (size_t i = 0; i < size; i++)
		large[i] = (char)(i * 7 + i / 251);
	OK(tdr_store_set(fixture->store, "large", large, size));
	for (int i = 0; i < 500; i++) {
		snprintf(key, sizeof(key), "%0*d", 1 + i % 300, i);
		set_text(fixture->store, key, key);
	}
	OK(tdr_store_get(fixture->other, "large", PATIENCE_MS, &blob));
	assert_blob(&blob, large, size);
	for (int i = 0; i < 500; i++) {
		snprintf(key, sizeof(key), "%0*d", 1 + i % 300, i);
		assert_value(fixture->other, key, key);
	}
	OK(tdr_store_num_keys(fixture->other, &count));
	assert_int_equal(count, 501);
	free(large);
}

struct later {
	tdr_store *store;
	const char *keys[2];
};

/* Sets two keys, one after the other, each after a while. */
static void *set_later(void *context)
{
	struct later *later = context;

	for (size_t i = 0; i < COUNT_OF(later->keys); i++) {
		usleep(30000);
		if (tdr_store_set(later->store, later->keys[i], "late", 4) != TDR_OK)
			return (void *)(intptr_t)1;
	}
	return NULL;
}

static void get_and_wait_wait(void **state)
{
	struct fixture *fixture = *state;
	const char *keys[] = {"there", "a", "b"};
	struct later later = {fixture->other, {"a", "b"}};
	pthread_t thread;
	void *result;

	set_text(fixture->store, "there", "");
	pthread_create(&thread, NULL, set_later, &later);
	assert_value(fixture->store, "a", "late");
	OK(tdr_store_wait(fixture->store, COUNT_OF(keys), keys, PATIENCE_MS));
	assert_value(fixture->store, "b", "late");
	OK(tdr_store_wait(fixture->store, COUNT_OF(keys), keys, TDR_TIMEOUT_NEVER));
	OK(tdr_store_wait(fixture->store, 0, NULL, 1));
	pthread_join(thread, &result);
	assert_null(result);
}

static void timeouts_name_the_key(void **state)
{
	struct fixture *fixture = *state;
	const char *keys[] = {"there", "absent"};
	tdr_blob blob = {.size = 42}, blobs[2] = {{.size = 43}, {.size = 44}};

	set_text(fixture->store, "there", "");
	assert_int_equal(tdr_store_get(fixture->store, "absent", 40, &blob), TDR_ETIMEDOUT);
	assert_text("Wait timeout: ");
	assert_text("absent' did not appear");
	assert_text("within 40 ms");
	assert_int_equal(tdr_store_wait(fixture->store, 2, keys, 30), TDR_ETIMEDOUT);
	assert_text("absent' did not appear");
	assert_text("within 30 ms");
	assert_int_equal(tdr_store_multi_get(fixture->store, 2, keys, 20, blobs), TDR_ETIMEDOUT);
	assert_text("absent' did not appear");
	assert_text("within 20 ms");
	assert_int_equal(blob.size, 42);
	assert_int_equal(blobs[0].size, 43);
	assert_int_equal(blobs[1].size, 44);

	/* The store is as good as before. */
	set_text(fixture->other, "absent", "here");
	assert_value(fixture->store, "absent", "here");
	OK(tdr_store_wait(fixture->store, 2, keys, PATIENCE_MS));
}

static void default_timeout_is_the_stores(void **state)
{
	struct fixture *fixture = *state;

	tdr_store_set_timeout(fixture->store, 25);
	assert_int_equal(tdr_store_timeout(fixture->store), 25);
	assert_int_equal(tdr_store_get(fixture->store, "absent", TDR_TIMEOUT_DEFAULT, NULL), TDR_ETIMEDOUT);
	assert_text("within 25 ms");
	tdr_store_set_timeout(fixture->store, TDR_TIMEOUT_DEFAULT);
	assert_int_equal(tdr_store_timeout(fixture->store), 300000);
}

static void add_counts(void **state)
{
	struct fixture *fixture = *state;
	int64_t sum;

	OK(tdr_store_add(fixture->store, "n", 5, &sum));
	assert_int_equal(sum, 5);
	OK(tdr_store_add(fixture->other, "n", -12, &sum));
	assert_int_equal(sum, -7);
	assert_value(fixture->store, "n", "-7");
	OK(tdr_store_add(fixture->store, "n", 0, NULL));
	set_text(fixture->store, "n", "+0040");
	OK(tdr_store_add(fixture->other, "n", 2, &sum));
	assert_int_equal(sum, 42);
	set_text(fixture->store, "empty", "");
	OK(tdr_store_add(fixture->other, "empty", 3, &sum));
	assert_int_equal(sum, 3);
	OK(tdr_store_add(fixture->store, "lowest", INT64_MIN, &sum));
	OK(tdr_store_add(fixture->other, "lowest", 0, &sum));
	assert_true(sum == INT64_MIN);
}

static void compare_set_compares(void **state)
{
	struct fixture *fixture = *state;

	assert_compare_set(fixture->store, "c", "no", "x", "no"); /* missing: gives back what was expected */
	assert_false(is_there(fixture->other, "c"));
	assert_compare_set(fixture->store, "c", "", "first", "first");
	assert_compare_set(fixture->other, "c", "", "second", "first");
	assert_compare_set(fixture->other, "c", "first", "second", "second");
	assert_compare_set(fixture->store, "c", "first", "third", "second");
	assert_value(fixture->store, "c", "second");
	set_text(fixture->store, "empty", "");
	assert_compare_set(fixture->other, "empty", "", "full", "full"); /* a value that is empty is as a missing one */
	assert_compare_set(fixture->other, "empty", "full", "", "");
	assert_value(fixture->store, "empty", "");
	assert_compare_set(fixture->other, "new", "", "", "");
	assert_true(is_there(fixture->store, "new"));
	OK(tdr_store_compare_set(fixture->store, "new", NULL, 0, NULL, 0, NULL));
}

static void check_delete_and_count(void **state)
{
	struct fixture *fixture = *state;
	const char *keys[] = {"a", "b"};
	int64_t count;
	bool flag;

	OK(tdr_store_num_keys(fixture->store, &count));
	assert_int_equal(count, 0);
	OK(tdr_store_check(fixture->store, 0, NULL, &flag));
	assert_true(flag);
	set_text(fixture->store, "a", "1");
	OK(tdr_store_check(fixture->other, 2, keys, &flag));
	assert_false(flag);
	set_text(fixture->store, "b", "");
	OK(tdr_store_check(fixture->other, 2, keys, &flag));
	assert_true(flag);
	OK(tdr_store_num_keys(fixture->other, &count));
	assert_int_equal(count, 2);
	OK(tdr_store_delete_key(fixture->other, "a", &flag));
	assert_true(flag);
	OK(tdr_store_delete_key(fixture->store, "a", &flag));
	assert_false(flag);
	assert_false(is_there(fixture->store, "a"));
	OK(tdr_store_num_keys(fixture->store, &count));
	assert_int_equal(count, 1);
	OK(tdr_store_add(fixture->store, "a", 1, &count)); /* nothing of the old value is left */
	assert_int_equal(count, 1);
}

static void append_and_multi(void **state)
{
	struct fixture *fixture = *state;
	const char *keys[] = {"m1", "m2", "log"};
	tdr_blob values[] = {{.data = (char *)"one", .size = 3}, {.data = NULL, .size = 0}}, got[3];

	OK(tdr_store_append(fixture->store, "log", "ab", 2));
	OK(tdr_store_append(fixture->other, "log", "", 0));
	OK(tdr_store_append(fixture->other, "log", "cde", 3));
	OK(tdr_store_append(fixture->other, "log", "cde", 3));
	assert_value(fixture->store, "log", "abcdecde");
	OK(tdr_store_multi_set(fixture->store, 2, keys, values));
	OK(tdr_store_multi_get(fixture->other, 3, keys, PATIENCE_MS, got));
	assert_blob(&got[0], "one", 3);
	assert_blob(&got[1], "", 0);
	assert_blob(&got[2], "abcdecde", 8);
	OK(tdr_store_multi_get(fixture->other, 3, keys, PATIENCE_MS, NULL));
	OK(tdr_store_multi_set(fixture->store, 0, NULL, NULL));
	OK(tdr_store_multi_get(fixture->other, 0, NULL, 1, NULL));
}

static void arguments_are_checked(void **state)
{
	struct fixture *fixture = *state;
	const char *keys[] = {"a", NULL};
	tdr_blob bad = {.size = 1};

	assert_int_equal(tdr_store_set(NULL, "a", "", 0), TDR_EINVAL);
	assert_int_equal(tdr_store_set(fixture->store, NULL, "", 0), TDR_EINVAL);
	assert_text("tdr_store_set: the key is NULL");
	assert_int_equal(tdr_store_set(fixture->store, "a", NULL, 1), TDR_EINVAL);
	assert_int_equal(tdr_store_get(fixture->store, "a", -2, NULL), TDR_EINVAL);
	assert_int_equal(tdr_store_wait(fixture->store, 2, keys, 10), TDR_EINVAL);
	assert_text("key 1 of 2");
	assert_int_equal(tdr_store_check(fixture->store, 1, NULL, NULL), TDR_EINVAL);
	assert_int_equal(tdr_store_multi_set(fixture->store, 1, keys, &bad), TDR_EINVAL);
	assert_int_equal(tdr_store_multi_set(fixture->store, 1, keys, NULL), TDR_EINVAL);
	assert_int_equal(tdr_store_append(fixture->store, "a", NULL, 1), TDR_EINVAL);
	assert_int_equal(tdr_store_compare_set(fixture->store, "a", NULL, 1, "", 0, NULL), TDR_EINVAL);
	assert_false(is_there(fixture->store, "a"));
}

/* ---- several threads ---- */

#define WORKERS 4
#define ROUNDS 40

struct worker {
	struct fixture *fixture;
	int number;
	pthread_t thread;
	bool failed;
};

/* Counts, appends, and takes turns by compare_set in the order of the workers' numbers. */
static void *work(void *context)
{
	struct worker *worker = context;
	tdr_store *store = worker->number % 2 ? worker->fixture->store : worker->fixture->other;
	char letter = (char)('a' + worker->number), mine[8], next[8];
	bool failed = false;

	snprintf(mine, sizeof(mine), "%d", worker->number);
	snprintf(next, sizeof(next), "%d", (worker->number + 1) % WORKERS);
	for (int i = 0; i < ROUNDS && !failed; i++) {
		failed |= tdr_store_add(store, "count", 1, NULL) != TDR_OK;
		failed |= tdr_store_append(store, "log", i % 2 ? &letter : "z", 1) != TDR_OK;
	}
	for (int i = 0; i < 5 && !failed; i++) {
		int64_t turns;
		tdr_blob now = {0};

		do {
			tdr_blob_free(&now);
			failed |= tdr_store_compare_set(store, "turn", mine, 1, mine, 1, &now) != TDR_OK;
			if (!failed && strcmp(now.data, mine) != 0)
				usleep(500);
		} while (!failed && strcmp(now.data, mine) != 0);
		tdr_blob_free(&now);
		failed |= tdr_store_add(store, "turns", 1, &turns) != TDR_OK;
		failed |= turns != i * WORKERS + worker->number + 1;
		failed |= tdr_store_set(store, "turn", next, 1) != TDR_OK;
	}
	worker->failed = failed;
	return NULL;
}

static void threads_share_a_store(void **state)
{
	struct worker workers[WORKERS];
	struct fixture *fixture = *state;
	int64_t count;
	tdr_blob log;
	size_t same = 0;

	set_text(fixture->store, "turn", "0");
	for (int i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){.fixture = fixture, .number = i};
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	for (int i = 0; i < WORKERS; i++)
		assert_false(workers[i].failed);
	OK(tdr_store_add(fixture->store, "count", 0, &count));
	assert_int_equal(count, WORKERS * ROUNDS);
	OK(tdr_store_get(fixture->store, "log", PATIENCE_MS, &log));
	assert_int_equal(log.size, WORKERS * ROUNDS);
	for (size_t i = 0; i < log.size; i++)
		same += log.data[i] == 'z';
	assert_int_equal(same, WORKERS * ROUNDS / 2); /* appends of the same bytes, too, count each */
	tdr_blob_free(&log);
}

/* ---- fork ---- */

/* In the child: 0, or the line where something was not as it should be. */
static int child_of_fork(struct fixture *fixture)
{
	const char *key = "a";
	struct sockaddr_storage address;
	socklen_t address_size;
	tdr_store *prefixed;
	tdr_blob blob;
	int64_t number;
	bool flag;

#define FORKED(call)                                                                                                   \
	do {                                                                                                           \
		if ((call) != TDR_EFORKED)                                                                             \
			return __LINE__;                                                                               \
	} while (0)
	FORKED(tdr_store_set(fixture->store, key, "2", 1));
	FORKED(tdr_store_get(fixture->store, key, 100, &blob));
	FORKED(tdr_store_add(fixture->store, key, 1, &number));
	FORKED(tdr_store_compare_set(fixture->store, key, "1", 1, "2", 1, &blob));
	FORKED(tdr_store_check(fixture->store, 1, &key, &flag));
	FORKED(tdr_store_wait(fixture->store, 1, &key, 100));
	FORKED(tdr_store_delete_key(fixture->store, key, &flag));
	FORKED(tdr_store_num_keys(fixture->store, &number));
	FORKED(tdr_store_append(fixture->store, key, "2", 1));
	FORKED(tdr_store_multi_get(fixture->store, 1, &key, 100, &blob));
	FORKED(tdr_store_multi_set(fixture->store, 1, &key, &(tdr_blob){.data = (char *)"2", .size = 1}));
	FORKED(tdr_store_prefix("p", fixture->store, &prefixed));
	FORKED(store_local_address(fixture->store, &address, &address_size));
#undef FORKED
	tdr_store_unref(fixture->store);
	tdr_store_unref(fixture->other);
	tdr_store_unref(fixture->table);
	return 0;
}

static void child_cannot_touch_it(void **state)
{
	struct fixture *fixture = *state;
	int status;
	pid_t child;

	set_text(fixture->store, "a", "1");
	child = fork();
	if (child == 0) {
		int line = child_of_fork(fixture);

		if (line != 0)
			fprintf(stderr, "in the child: line %d\n", line);
		_exit(line != 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_value(fixture->store, "a", "1");
	set_text(fixture->other, "a", "2");
	assert_value(fixture->store, "a", "2");
}

static void local_address_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_storage address = {0};
	socklen_t size = 1;

	OK(store_local_address(fixture->store, &address, &size));
	if (!fixture->kind->has_address) {
		assert_int_equal(size, 0);
		return;
	}
	assert_true(size > 0);
	assert_int_equal(address.ss_family, AF_INET);
	assert_int_equal(ntohl(((struct sockaddr_in *)&address)->sin_addr.s_addr), INADDR_LOOPBACK);
}

static const struct {
	const char *name;
	CMUnitTestFunction run;
} suite[] = {
#define NAMED(function) #function, function
    {NAMED(kind_is_named)},
    {NAMED(set_and_get)},
    {NAMED(keys_are_told_apart)},
    {NAMED(large_values_and_many_keys)},
    {NAMED(get_and_wait_wait)},
    {NAMED(timeouts_name_the_key)},
    {NAMED(default_timeout_is_the_stores)},
    {NAMED(add_counts)},
    {NAMED(compare_set_compares)},
    {NAMED(check_delete_and_count)},
    {NAMED(append_and_multi)},
    {NAMED(arguments_are_checked)},
    {NAMED(threads_share_a_store)},
    {NAMED(child_cannot_touch_it)},
    {NAMED(local_address_is_told)},
#undef NAMED
};

int main(void)
{
	struct CMUnitTest tests[COUNT_OF(kinds) * COUNT_OF(suite)];
	char names[COUNT_OF(tests)][64];
	size_t count = 0;

	for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
		for (size_t row = 0; row < COUNT_OF(suite); row++, count++) {
			snprintf(names[count], sizeof(names[count]), "%s: %s", kinds[kind].name, suite[row].name);
			tests[count] = (struct CMUnitTest){
			    .name = names[count],
			    .test_func = suite[row].run,
			    .setup_func = setup,
			    .teardown_func = teardown,
			    .initial_state = (void *)&kinds[kind],
			};
		}
	}
	return _cmocka_run_group_tests("store", tests, count, NULL, NULL);
}
