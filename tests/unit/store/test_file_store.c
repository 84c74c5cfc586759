/* SPDX-License-Identifier: Apache-2.0 */
/* The file store's own: its bytes, its locks, its file's life, and many processes at once. */
#include "base/macros.h"
#include "support/leaks.h"
#include "support/places.h"
#include "support/processes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <tendril/store.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(call) assert_int_equal(call, TDR_OK)
#define PATIENCE_MS 60000

struct place {
	char *directory;
	char path[256];
};

static int setup(void **state)
{
	struct place *place;

	if (leaks_setup(NULL) != 0)
		return -1;
	place = calloc(1, sizeof(*place));
	place->directory = tmpdir_new();
	snprintf(place->path, sizeof(place->path), "%s/store", place->directory);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;

	tmpdir_remove(place->directory);
	free(place);
	return leaks_teardown(NULL);
}

/* ---- helpers ---- */

static tdr_store *open_store(const char *path, int world_size)
{
	tdr_store *store;

	OK(tdr_store_file(path, world_size, &store));
	return store;
}

static void write_file(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
}

static size_t read_file(const char *path, void *data, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size;

	assert_true(fd >= 0);
	size = read(fd, data, room);
	assert_true(size >= 0);
	close(fd);
	return (size_t)size;
}

static bool file_is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

static void set_text(tdr_store *store, const char *key, const char *value)
{
	OK(tdr_store_set(store, key, value, strlen(value)));
}

static void assert_value(tdr_store *store, const char *key, const char *value)
{
	tdr_blob blob;

	OK(tdr_store_get(store, key, PATIENCE_MS, &blob));
	assert_string_equal(blob.data, value);
	tdr_blob_free(&blob);
}

static void assert_text(const char *part)
{
	if (!strstr(tdr_last_error(), part))
		fail_msg("'%s' is not in the error's text: %s", part, tdr_last_error());
}

static int64_t num_keys(tdr_store *store)
{
	int64_t count;

	OK(tdr_store_num_keys(store, &count));
	return count;
}

/* ---- bytes ---- */

/* What PyTorch's FileStore writes for the same calls. */
static const char golden[] = "\2\0\0\0/a\5\0\0\0hello"
			     "\2\0\0\0/n\1\0\0\0005"
			     "\3\0\0\0-/a\0\0\0\0"
			     "\2\0\0\0/e\0\0\0\0"
			     "\2\0\0\0/c\3\0\0\0xyz";
#define GOLDEN_SIZE (sizeof(golden) - 1)

static void writes_the_peers_bytes(void **state)
{
	struct place *place = *state;
	tdr_store *store = open_store(place->path, -1);
	char bytes[1024];

	set_text(store, "a", "hello");
	OK(tdr_store_add(store, "n", 5, NULL));
	OK(tdr_store_delete_key(store, "a", NULL));
	set_text(store, "e", "");
	OK(tdr_store_compare_set(store, "c", "", 0, "xyz", 3, NULL));
	assert_int_equal(read_file(place->path, bytes, sizeof(bytes)), GOLDEN_SIZE);
	assert_memory_equal(bytes, golden, GOLDEN_SIZE);
	tdr_store_unref(store);
	assert_int_equal(read_file(place->path, bytes, sizeof(bytes)), GOLDEN_SIZE + 17);
	assert_memory_equal(bytes + GOLDEN_SIZE,
	                    "\10\0\0\0cleanup/\1\0\0\0"
	                    "1",
	                    17);
}

static void reads_the_peers_bytes(void **state)
{
	struct place *place = *state;
	tdr_store *store;
	bool all;

	write_file(place->path, golden, GOLDEN_SIZE);
	store = open_store(place->path, -1);
	assert_int_equal(num_keys(store), 3);
	assert_value(store, "n", "5");
	assert_value(store, "e", "");
	assert_value(store, "c", "xyz");
	OK(tdr_store_check(store, 1, (const char *[]){"a"}, &all));
	assert_false(all);
	tdr_store_unref(store);
}

/* A file that ends anywhere but between two records is malformed, and stays as it is. */
static void a_cut_file_is_malformed(void **state)
{
	static const size_t ends[] = {0, 15, 26, 37, 47, GOLDEN_SIZE};
	struct place *place = *state;
	size_t next = 0;

	for (size_t size = 0; size <= GOLDEN_SIZE; size++) {
		char offset[64], bytes[256];
		tdr_store *store;
		int64_t count;

		write_file(place->path, golden, size);
		store = open_store(place->path, -1);
		if (size == ends[next]) {
			OK(tdr_store_num_keys(store, &count));
			next++;
			tdr_store_unref(store);
			continue;
		}
		assert_int_equal(tdr_store_num_keys(store, &count), TDR_EPROTO);
		snprintf(offset, sizeof(offset), "malformed at offset %zu: ", ends[next - 1]);
		assert_text(offset);
		assert_text(place->path);
		assert_int_equal(tdr_store_set(store, "k", "v", 1), TDR_EPROTO);
		tdr_store_unref(store);
		assert_int_equal(read_file(place->path, bytes, sizeof(bytes)), size);
	}
	assert_int_equal(next, COUNT_OF(ends));
}

static void garbage_is_malformed(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
	} files[] = {
	    {"hello world, this is a letter\n", 30}, {"\0\0\0\0\0\0\0\0", 8},    {"\377\377\377\377/a\0\0\0\0", 10},
	    {"\2\0\0\0/a\377\377\377\377", 10},      {"\2\0\0\0/a\1\0\0\0", 10},
	};
	struct place *place = *state;

	for (size_t i = 0; i < COUNT_OF(files); i++) {
		tdr_store *store;

		write_file(place->path, files[i].bytes, files[i].size);
		store = open_store(place->path, 1);
		assert_int_equal(tdr_store_get(store, "a", 100, NULL), TDR_EPROTO);
		assert_text("malformed at offset 0: ");
		tdr_store_unref(store);
		assert_true(file_is_there(place->path)); /* it is somebody else's, maybe */
	}
}

/* A write that the file system takes only in part is undone. */
static void a_full_disk_leaves_the_file_whole(void **state)
{
	struct place *place = *state;
	tdr_store *store = open_store(place->path, -1);
	struct rlimit before, limit;
	struct stat file;
	char *large = calloc(1, 200000);
	tdr_status status;

	set_text(store, "a", "1");
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 100000;
	setrlimit(RLIMIT_FSIZE, &limit);
	status = tdr_store_set(store, "large", large, 200000);
	setrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(status, TDR_EIO);
	assert_text("writing 200014 bytes at offset 11: File too large");
	assert_int_equal(stat(place->path, &file), 0);
	assert_int_equal(file.st_size, 11);
	assert_value(store, "a", "1");
	OK(tdr_store_set(store, "large", large, 200000));
	assert_int_equal(num_keys(store), 2);
	tdr_store_unref(store);
	free(large);
}

/* ---- the file's life ---- */

static void the_last_user_removes_it(void **state)
{
	struct place *place = *state;
	tdr_store *one = open_store(place->path, 2), *two = open_store(place->path, 2);

	set_text(one, "a", "1");
	tdr_store_unref(one);
	assert_true(file_is_there(place->path));
	assert_value(two, "a", "1");
	assert_int_equal(num_keys(two), 1); /* the count of users is not among them */
	tdr_store_unref(two);
	assert_false(file_is_there(place->path));

	one = open_store(place->path, -1);
	set_text(one, "a", "1");
	tdr_store_unref(one);
	assert_true(file_is_there(place->path));
}

static void a_file_that_is_gone_is_empty(void **state)
{
	struct place *place = *state;
	tdr_store *store = open_store(place->path, 1);
	char other[300];

	set_text(store, "a", "1");
	assert_int_equal(unlink(place->path), 0);
	assert_int_equal(num_keys(store), 0);
	assert_int_equal(tdr_store_get(store, "a", 20, NULL), TDR_ETIMEDOUT);
	set_text(store, "b", "2");
	assert_int_equal(num_keys(store), 1);

	/* Another file in its place, longer than what was read of this one. */
	snprintf(other, sizeof(other), "%s.new", place->path);
	write_file(other, golden, GOLDEN_SIZE);
	assert_int_equal(rename(other, place->path), 0);
	assert_value(store, "c", "xyz");
	assert_int_equal(num_keys(store), 3);

	/* The same file, cut. */
	assert_int_equal(truncate(place->path, 15), 0);
	assert_value(store, "a", "hello");
	assert_int_equal(num_keys(store), 1);

	assert_int_equal(unlink(place->path), 0);
	tdr_store_unref(store);
	assert_false(file_is_there(place->path)); /* leaving does not make it again */
}

static void a_relative_path_stays_where_it_was(void **state)
{
	struct place *place = *state;
	char *directory = getcwd(NULL, 0);
	tdr_store *store;

	assert_int_equal(chdir(place->directory), 0);
	store = open_store("store", 1);
	assert_int_equal(chdir("/"), 0);
	set_text(store, "a", "1");
	assert_true(file_is_there(place->path));
	tdr_store_unref(store);
	assert_false(file_is_there(place->path));
	assert_int_equal(chdir(directory), 0);
	free(directory);
}

static void what_is_wrong_with_a_path_shows_at_once(void **state)
{
	struct place *place = *state;
	char path[300];
	tdr_store *store = NULL;

	snprintf(path, sizeof(path), "%s/missing/store", place->directory);
	assert_int_equal(tdr_store_file(path, 1, &store), TDR_EIO);
	assert_text("No such file or directory");
	assert_text(path);
	assert_int_equal(tdr_store_file(place->directory, 1, &store), TDR_EIO);
	assert_int_equal(mkfifo(place->path, 0600), 0);
	assert_int_equal(tdr_store_file(place->path, 1, &store), TDR_EINVAL);
	assert_text("is not a regular file");
	assert_int_equal(tdr_store_file("", 1, &store), TDR_EINVAL);
	assert_int_equal(tdr_store_file(NULL, 1, &store), TDR_EINVAL);
	assert_int_equal(tdr_store_file(place->path, 0, &store), TDR_EINVAL);
	assert_int_equal(tdr_store_file(place->path, -2, &store), TDR_EINVAL);
	assert_null(store);
}

static void a_held_lock_times_out(void **state)
{
	struct place *place = *state;
	tdr_store *store = open_store(place->path, -1);
	int fd = open(place->path, O_RDWR | O_CLOEXEC);

	set_text(store, "a", "1");
	assert_int_equal(flock(fd, LOCK_SH), 0);
	assert_value(store, "a", "1"); /* readers do not mind each other */
	tdr_store_set_timeout(store, 30);
	assert_int_equal(tdr_store_set(store, "b", "1", 1), TDR_ETIMEDOUT);
	assert_text("was not free within 30 ms");
	assert_text(place->path);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(tdr_store_get(store, "a", 40, NULL), TDR_ETIMEDOUT);
	assert_text("was not free within 40 ms");
	close(fd);
	set_text(store, "b", "1");
	tdr_store_unref(store);
}

/* ---- many processes ---- */

#define PROCESSES 8
#define ROUNDS 60

struct hammer {
	const char *path;
	int number;
};

/* Counts; takes a lock by compare_set, and under it reads and writes a counter that nothing else guards; appends. */
static int hammer(void *context)
{
	struct hammer *hammer = context;
	tdr_store *store = open_store(hammer->path, PROCESSES);
	char name[16], count[24];

	snprintf(name, sizeof(name), "p%d", hammer->number);
	for (int i = 0; i < ROUNDS; i++) {
		tdr_blob holder = {0}, unguarded;

		OK(tdr_store_add(store, "count", 1, NULL));
		do {
			tdr_blob_free(&holder);
			OK(tdr_store_compare_set(store, "lock", "", 0, name, strlen(name), &holder));
		} while (strcmp(holder.data, name) != 0);
		tdr_blob_free(&holder);
		OK(tdr_store_get(store, "unguarded", PATIENCE_MS, &unguarded));
		snprintf(count, sizeof(count), "%d", atoi(unguarded.data) + 1);
		tdr_blob_free(&unguarded);
		set_text(store, "unguarded", count);
		set_text(store, "lock", "");
		OK(tdr_store_append(store, "log", "x", 1));
	}
	set_text(store, name, "done");
	assert_value(store, "seen", "yes");
	tdr_store_unref(store);
	return 0;
}

static void many_processes_share_it(void **state)
{
	struct place *place = *state;
	struct process processes[PROCESSES];
	struct hammer hammers[PROCESSES];
	tdr_store *store = open_store(place->path, -1);
	tdr_blob log;
	char text[24];

	set_text(store, "unguarded", "0");
	for (int i = 0; i < PROCESSES; i++) {
		hammers[i] = (struct hammer){.path = place->path, .number = i};
		processes[i] = (struct process){.name = "hammer", .run = hammer, .context = &hammers[i]};
	}
	processes_start(processes, PROCESSES);
	snprintf(text, sizeof(text), "%d", PROCESSES * ROUNDS);
	for (int i = 0; i < PROCESSES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "p%d", i);
		assert_value(store, name, "done");
	}
	OK(tdr_store_get(store, "log", PATIENCE_MS, &log));
	assert_int_equal(log.size, PROCESSES * ROUNDS);
	tdr_blob_free(&log);
	assert_value(store, "count", text);
	assert_value(store, "unguarded", text);
	set_text(store, "seen", "yes"); /* until now nobody may leave: the last of them removes the file */
	processes_finish(processes, PROCESSES, PATIENCE_MS);
	assert_false(file_is_there(place->path));
	tdr_store_unref(store);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(writes_the_peers_bytes),
	    TEST(reads_the_peers_bytes),
	    TEST(a_cut_file_is_malformed),
	    TEST(garbage_is_malformed),
	    TEST(a_full_disk_leaves_the_file_whole),
	    TEST(the_last_user_removes_it),
	    TEST(a_file_that_is_gone_is_empty),
	    TEST(a_relative_path_stays_where_it_was),
	    TEST(what_is_wrong_with_a_path_shows_at_once),
	    TEST(a_held_lock_times_out),
	    TEST(many_processes_share_it),
	};

	return cmocka_run_group_tests_name("file_store", tests, NULL, NULL);
}
