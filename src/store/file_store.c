/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in a file that all members share (its format: store/file_log.h).
 *
 * Every operation opens the file, locks it as PyTorch's does (flock, shared to read, exclusive to write), reads what was
 * added since the last time into a table, does its part, and closes it. So a process that dies holds no lock, threads lock each
 * other out like processes, and nothing has to survive a fork. The mutex guards the table alone and is taken last: no one
 * waits for a lock of the file with it held.
 *
 * The file may go away and come anew between two operations: when its last user closes it, or when somebody removes it.
 * A missing file reads as an empty one.
 */
#include "store/store_internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "store/file_log.h"
#include "store/table.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long closing waits for the lock, to count itself out. */
#define CLOSE_TIMEOUT_MS 5000

/* Where users count themselves out; no key of a program's, which would begin with '/'. */
#define CLEANUP_KEY "cleanup/"

struct file_store {
	char *path;
	int world_size; /* -1: the file stays */

	pthread_mutex_t lock;
	struct table keys;  /* the program's, without their '/' */
	struct table marks; /* the stores' own */
	dev_t device;       /* of which file the tables are, ... */
	ino_t inode;
	uint64_t offset; /* ... and how much of it they hold */
};

enum access {
	ACCESS_READ,
	ACCESS_WRITE,  /* makes the file where it is missing */
	ACCESS_REMOVE, /* writes, but makes no file */
};

/* The file while it is open, locked and read, and the mutex held. */
struct session {
	struct file_store *store;
	int fd;       /* -1: there is no file */
	uint64_t end; /* the file's size */
};

/* ---- sessions ---- */

static tdr_status lock_file(const struct file_store *self, int fd, enum access access, int64_t deadline_ms)
{
	int pause_ms = 0;

	while (flock(fd, (access == ACCESS_READ ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return error_errno("store file '%s': flock", self->path);
		if (deadline_poll_ms(deadline_ms) == 0)
			return error_set(TDR_ETIMEDOUT, "the lock of store file '%s' was not free", self->path);
		store_pause(&pause_ms, deadline_ms);
	}
	return TDR_OK;
}

/* Opens and locks the file that has the path now: it may be removed before the lock is there. -1 for a missing file. */
static tdr_status open_locked(const struct file_store *self, enum access access, int64_t deadline_ms, int *ret_fd,
                              struct stat *ret_stat)
{
	int flags = access == ACCESS_WRITE ? O_RDWR | O_CREAT : access == ACCESS_REMOVE ? O_RDWR : O_RDONLY;

	for (;;) {
		tdr_status status;
		int fd = open(self->path, flags | O_CLOEXEC, 0644);

		if (fd < 0 && errno == EINTR)
			continue;
		if (fd < 0 && errno == ENOENT && access != ACCESS_WRITE) {
			*ret_fd = -1;
			return TDR_OK;
		}
		if (fd < 0)
			return error_errno("store file '%s': open", self->path);
		status = lock_file(self, fd, access, deadline_ms);
		if (status == TDR_OK && fstat(fd, ret_stat) != 0)
			status = error_errno("store file '%s': fstat", self->path);
		if (status == TDR_OK && ret_stat->st_nlink > 0) {
			*ret_fd = fd;
			return TDR_OK;
		}
		close(fd);
		if (status != TDR_OK)
			return status;
	}
}

static void forget(struct file_store *self)
{
	table_clear(&self->keys);
	table_clear(&self->marks);
	self->offset = 0;
}

static tdr_status apply(void *context, const struct file_record *record)
{
	struct file_store *self = context;
	bool deletes = record->key[0] == '-';
	const char *key = record->key + deletes;
	size_t size = record->key_size - deletes;
	struct table *table = &self->marks;

	if (size > 0 && key[0] == '/') {
		table = &self->keys;
		key++;
		size--;
	}
	if (!deletes)
		return table_set(table, key, size, record->value, record->value_size);
	table_delete(table, key, size);
	return TDR_OK;
}

/* Unlocks by name: a child made by fork() meanwhile has the same open file, and would keep the lock. */
static void session_end(struct session *session)
{
	pthread_mutex_unlock(&session->store->lock);
	if (session->fd >= 0) {
		flock(session->fd, LOCK_UN);
		close(session->fd);
	}
}

static tdr_status session_begin(struct session *session, struct file_store *self, enum access access,
                                int64_t deadline_ms)
{
	struct stat file;
	tdr_status status = open_locked(self, access, deadline_ms, &session->fd, &file);

	if (status != TDR_OK)
		return status;
	session->store = self;
	pthread_mutex_lock(&self->lock);
	if (session->fd < 0) {
		forget(self);
		return TDR_OK;
	}
	session->end = (uint64_t)file.st_size;
	if (file.st_dev != self->device || file.st_ino != self->inode || session->end < self->offset)
		forget(self);
	self->device = file.st_dev;
	self->inode = file.st_ino;
	status = file_log_read(session->fd, self->path, &self->offset, session->end, apply, self);
	if (status != TDR_OK)
		session_end(session);
	return status;
}

/* Adds records to the file; the next session reads them into the table. */
static tdr_status session_write(struct session *session, const struct buffer *records)
{
	return file_log_write(session->fd, session->store->path, session->end, records);
}

/* Adds one record, for `key` behind `mark`. */
static tdr_status session_put(struct session *session, const char *mark, const char *key, const void *value,
                              size_t size)
{
	struct buffer records = {0};
	tdr_status status = file_log_put(&records, mark, key, value, size);

	if (status == TDR_OK)
		status = session_write(session, &records);
	buffer_fini(&records);
	return status;
}

static const struct table_value *session_find(const struct session *session, const char *key)
{
	return table_get(&session->store->keys, key, strlen(key));
}

/* ---- operations ---- */

static tdr_status file_set(void *context, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	struct session session = {.fd = -1};
	tdr_status status = session_begin(&session, context, ACCESS_WRITE, deadline_ms);

	if (status != TDR_OK)
		return status;
	status = session_put(&session, "/", key, value, size);
	session_end(&session);
	return status;
}

static tdr_status file_get(void *context, const char *key, int64_t deadline_ms, tdr_blob *ret_value)
{
	int pause_ms = 0;

	for (;;) {
		struct session session;
		const struct table_value *value;
		tdr_status status = session_begin(&session, context, ACCESS_READ, deadline_ms);

		if (status != TDR_OK)
			return status;
		value = session_find(&session, key);
		if (value)
			status = store_blob_make(value->data, value->size, ret_value);
		session_end(&session);
		if (value)
			return status;
		if (deadline_poll_ms(deadline_ms) == 0)
			return store_key_missing(key);
		store_pause(&pause_ms, deadline_ms);
	}
}

static tdr_status file_add(void *context, const char *key, int64_t amount, int64_t deadline_ms, int64_t *ret_sum)
{
	struct session session = {.fd = -1};
	char text[TABLE_NUMBER_SIZE];
	int64_t sum;
	tdr_status status = session_begin(&session, context, ACCESS_WRITE, deadline_ms);

	if (status != TDR_OK)
		return status;
	status = table_value_sum(session_find(&session, key), key, strlen(key), amount, &sum);
	if (status == TDR_OK)
		status = session_put(&session, "/", key, text, table_number_text(sum, text));
	if (status == TDR_OK)
		*ret_sum = sum;
	session_end(&session);
	return status;
}

static tdr_status file_compare_set(void *context, const char *key, const void *expected, size_t expected_size,
                                   const void *desired, size_t desired_size, int64_t deadline_ms, tdr_blob *ret_value)
{
	struct session session = {.fd = -1};
	const struct table_value *value;
	tdr_blob answer = {0};
	tdr_status status = session_begin(&session, context, ACCESS_WRITE, deadline_ms);

	if (status != TDR_OK)
		return status;
	value = session_find(&session, key);
	if (table_value_equals(value, expected, expected_size)) {
		status = store_blob_make(desired, desired_size, &answer);
		if (status == TDR_OK)
			status = session_put(&session, "/", key, desired, desired_size);
	} else if (value) {
		status = store_blob_make(value->data, value->size, &answer);
	} else {
		status = store_blob_make(expected, expected_size, &answer);
	}
	session_end(&session);
	if (status == TDR_OK)
		*ret_value = answer;
	else
		tdr_blob_free(&answer);
	return status;
}

/* The first key that is not there now, or `count`. */
static tdr_status find_missing(struct file_store *self, size_t count, const char *const keys[], int64_t deadline_ms,
                               size_t *ret_missing)
{
	struct session session = {.fd = -1};
	size_t at = 0;
	tdr_status status = session_begin(&session, self, ACCESS_READ, deadline_ms);

	if (status != TDR_OK)
		return status;
	while (at < count && session_find(&session, keys[at]))
		at++;
	session_end(&session);
	*ret_missing = at;
	return TDR_OK;
}

static tdr_status file_check(void *context, size_t count, const char *const keys[], int64_t deadline_ms, bool *ret_all)
{
	size_t missing;
	tdr_status status = find_missing(context, count, keys, deadline_ms, &missing);

	if (status == TDR_OK)
		*ret_all = missing == count;
	return status;
}

static tdr_status file_wait(void *context, size_t count, const char *const keys[], int64_t deadline_ms)
{
	int pause_ms = 0;

	for (;;) {
		size_t missing;
		tdr_status status = find_missing(context, count, keys, deadline_ms, &missing);

		if (status != TDR_OK || missing == count)
			return status;
		if (deadline_poll_ms(deadline_ms) == 0)
			return store_key_missing(keys[missing]);
		store_pause(&pause_ms, deadline_ms);
	}
}

static tdr_status file_delete_key(void *context, const char *key, int64_t deadline_ms, bool *ret_existed)
{
	struct session session = {.fd = -1};
	bool existed;
	tdr_status status = session_begin(&session, context, ACCESS_WRITE, deadline_ms);

	if (status != TDR_OK)
		return status;
	existed = session_find(&session, key) != NULL;
	if (existed)
		status = session_put(&session, "-/", key, "", 0);
	session_end(&session);
	if (status == TDR_OK)
		*ret_existed = existed;
	return status;
}

static tdr_status file_num_keys(void *context, int64_t deadline_ms, int64_t *ret_count)
{
	struct session session = {.fd = -1};
	tdr_status status = session_begin(&session, context, ACCESS_READ, deadline_ms);

	if (status != TDR_OK)
		return status;
	*ret_count = (int64_t)table_count(&session.store->keys);
	session_end(&session);
	return TDR_OK;
}

static tdr_status file_append(void *context, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	struct session session = {.fd = -1};
	const struct table_value *old;
	struct buffer whole = {0};
	tdr_status status = session_begin(&session, context, ACCESS_WRITE, deadline_ms);

	if (status != TDR_OK)
		return status;
	old = session_find(&session, key);
	if (old)
		buffer_append(&whole, old->data, old->size);
	buffer_append(&whole, value, size);
	status = whole.failed ? error_nomem() : session_put(&session, "/", key, whole.data, whole.size);
	session_end(&session);
	buffer_fini(&whole);
	return status;
}

/* All in one write, so that no one sees some without the others. */
static tdr_status file_multi_set(void *context, size_t count, const char *const keys[], const tdr_blob values[],
                                 int64_t deadline_ms)
{
	struct session session = {.fd = -1};
	struct buffer records = {0};
	tdr_status status = TDR_OK;

	for (size_t i = 0; status == TDR_OK && i < count; i++)
		status = file_log_put(&records, "/", keys[i], values[i].data, values[i].size);
	if (status == TDR_OK)
		status = session_begin(&session, context, ACCESS_WRITE, deadline_ms);
	if (status == TDR_OK) {
		status = session_write(&session, &records);
		session_end(&session);
	}
	buffer_fini(&records);
	return status;
}

/* ---- opening and closing ---- */

/* Counts this user out, and removes the file where it was the last. */
static tdr_status leave(struct file_store *self)
{
	struct session session = {.fd = -1};
	char text[TABLE_NUMBER_SIZE];
	int64_t gone;
	tdr_status status = session_begin(&session, self, ACCESS_REMOVE, deadline_after(CLOSE_TIMEOUT_MS));

	if (status != TDR_OK)
		return status;
	if (session.fd >= 0) {
		status = table_value_sum(table_get(&self->marks, CLEANUP_KEY, strlen(CLEANUP_KEY)), CLEANUP_KEY,
		                         strlen(CLEANUP_KEY), 1, &gone);
		if (status == TDR_OK)
			status = session_put(&session, "", CLEANUP_KEY, text, table_number_text(gone, text));
		if (status == TDR_OK && self->world_size > 0 && gone >= self->world_size && unlink(self->path) != 0)
			status = error_errno("store file '%s': unlink", self->path);
	}
	session_end(&session);
	return status;
}

/* A thread of the parent may have been in the midst of changing the tables: then they stay behind. */
static void file_destroy_forked(void *context)
{
	struct file_store *self = context;

	if (pthread_mutex_trylock(&self->lock) == 0)
		forget(self);
	free(self->path);
	free(self);
}

static void file_free(struct file_store *self)
{
	forget(self);
	pthread_mutex_destroy(&self->lock);
	free(self->path);
	free(self);
}

static void file_destroy(void *context)
{
	struct file_store *self = context;

	if (leave(self) != TDR_OK)
		LOG(TDR_LOG_WARN, "event=store_file_not_left path=%s error=\"%s\"", self->path, tdr_last_error());
	file_free(self);
}

static const tdr_store_ops file_ops = {
    .size = sizeof(file_ops),
    .name = "file",
    .set = file_set,
    .get = file_get,
    .add = file_add,
    .compare_set = file_compare_set,
    .check = file_check,
    .wait = file_wait,
    .delete_key = file_delete_key,
    .num_keys = file_num_keys,
    .append = file_append,
    .multi_set = file_multi_set,
    .destroy = file_destroy,
};

static const struct store_hooks file_hooks = {.destroy_forked = file_destroy_forked};

/* The path stays the same file when the program changes its directory. */
static tdr_status absolute_path(const char *path, char **ret_path)
{
	char *directory, *absolute;

	if (path[0] == '/') {
		absolute = strdup(path);
		if (!absolute)
			return error_nomem();
		*ret_path = absolute;
		return TDR_OK;
	}
	directory = getcwd(NULL, 0);
	if (!directory)
		return error_errno("store file '%s': the working directory", path);
	if (asprintf(&absolute, "%s/%s", directory, path) < 0)
		absolute = NULL;
	free(directory);
	if (!absolute)
		return error_nomem();
	*ret_path = absolute;
	return TDR_OK;
}

/* Makes the file where it is missing: what is wrong with the path shows now. */
static tdr_status make_file(const char *path)
{
	struct stat file;
	tdr_status status = TDR_OK;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);

	if (fd < 0)
		return error_errno("store file '%s': open", path);
	if (fstat(fd, &file) != 0)
		status = error_errno("store file '%s': fstat", path);
	else if (!S_ISREG(file.st_mode))
		status = error_set(TDR_EINVAL, "store file '%s' is not a regular file", path);
	close(fd);
	return status;
}

tdr_status tdr_store_file(const char *path, int world_size, tdr_store **ret_store)
{
	struct file_store *self;
	tdr_status status;

	if (!path || path[0] == '\0')
		return error_set(TDR_EINVAL, "tdr_store_file: the path is missing");
	if (world_size < -1 || world_size == 0)
		return error_set(TDR_EINVAL,
		                 "tdr_store_file: world_size is %d; give the number of users, or -1 for a "
		                 "file that stays",
		                 world_size);
	self = calloc(1, sizeof(*self));
	if (!self)
		return error_nomem();
	pthread_mutex_init(&self->lock, NULL);
	self->world_size = world_size;
	status = absolute_path(path, &self->path);
	if (status == TDR_OK)
		status = make_file(self->path);
	if (status == TDR_OK)
		status = store_new(&file_ops, &file_hooks, self, ret_store);
	if (status != TDR_OK)
		file_free(self);
	return status;
}
