/* SPDX-License-Identifier: Apache-2.0 */
#include "support/leaks.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* cmocka.h wants these four before it. */
#include <setjmp.h>
#include <stddef.h>

#include <cmocka.h>

#define MAX_NESTING 4
#define PAUSE_MS 10

/* One thing that is there, as a line of text: two are the same if their lines are. */
struct leaks {
	char **lines;
	size_t count;
};

static struct leaks *snapshots[MAX_NESTING];
static size_t nesting;

static void die(const char *what)
{
	fprintf(stderr, "leaks: %s: %s\n", what, strerror(errno));
	abort();
}

__attribute__((format(printf, 2, 3))) static void add(struct leaks *leaks, const char *format, ...)
{
	char **lines = realloc(leaks->lines, (leaks->count + 1) * sizeof(*lines));
	va_list arguments;

	if (!lines)
		die("realloc");
	leaks->lines = lines;
	va_start(arguments, format);
	if (vasprintf(&lines[leaks->count], format, arguments) < 0)
		die("vasprintf");
	va_end(arguments);
	leaks->count++;
}

/* Calls `see` with each entry of a directory; with none where there is no such directory. */
static void each_entry(const char *path, struct leaks *leaks,
                       void (*see)(struct leaks *, int directory, const char *name))
{
	DIR *directory = opendir(path);
	struct dirent *entry;

	if (!directory)
		return;
	while ((entry = readdir(directory)) != NULL)
		if (entry->d_name[0] != '.')
			see(leaks, dirfd(directory), entry->d_name);
	closedir(directory);
}

static void see_descriptor(struct leaks *leaks, int directory, const char *name)
{
	char target[512];
	ssize_t size = readlinkat(directory, name, target, sizeof(target) - 1);

	if (size < 0 || atoi(name) == directory)
		return; /* the one this directory is read through */
	target[size] = '\0';
	add(leaks, "descriptor %s: %s", name, target);
}

static void see_thread(struct leaks *leaks, int directory, const char *name)
{
	char path[300], title[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%s/comm", name);
	file = fopen(path, "re");
	if (!file)
		return; /* ended meanwhile */
	if (fgets(title, sizeof(title), file))
		title[strcspn(title, "\n")] = '\0';
	fclose(file);
	if (atoi(name) != getpid())
		add(leaks, "thread %s: %s", name, title);
}

static void see_process(struct leaks *leaks, int directory, const char *name)
{
	char path[300], line[512];
	const char *title, *rest;
	char state;
	int parent;
	FILE *file;

	if (!isdigit((unsigned char)name[0]))
		return;
	snprintf(path, sizeof(path), "/proc/%s/stat", name);
	file = fopen(path, "re");
	if (!file)
		return;
	/* "12 (a name) S 1 ...": the name may hold anything, so what follows is found from the end. */
	if (fgets(line, sizeof(line), file) && (title = strchr(line, '(')) && (rest = strrchr(line, ')')) &&
	    sscanf(rest, ") %c %d", &state, &parent) == 2 && parent == getpid())
		add(leaks, "process %s: %.*s%s", name, (int)(rest - title + 1), title,
		    state == 'Z' ? ", not reaped" : "");
	fclose(file);
}

/* Whether a name holds the number of this process, or of one that has ended. */
static bool is_ours_or_orphaned(const char *name)
{
	while (*name) {
		char *end;
		long number;

		if (!isdigit((unsigned char)*name)) {
			name++;
			continue;
		}
		number = strtol(name, &end, 10);
		name = end;
		if (number == getpid() ||
		    (number > 1 && number <= INT32_MAX && kill((pid_t)number, 0) != 0 && errno == ESRCH))
			return true;
	}
	return false;
}

static void see_shared_memory(struct leaks *leaks, int directory, const char *name)
{
	if (is_ours_or_orphaned(name))
		add(leaks, "shared memory: /dev/shm/%s", name);
}

struct leaks *leaks_snapshot(void)
{
	struct leaks *leaks = calloc(1, sizeof(*leaks));

	if (!leaks)
		die("calloc");
	each_entry("/proc/self/fd", leaks, see_descriptor);
	each_entry("/proc/self/task", leaks, see_thread);
	each_entry("/proc", leaks, see_process);
	each_entry("/dev/shm", leaks, see_shared_memory);
	return leaks;
}

struct leaks *leaks_free(struct leaks *leaks)
{
	for (size_t i = 0; leaks && i < leaks->count; i++)
		free(leaks->lines[i]);
	if (leaks)
		free(leaks->lines);
	free(leaks);
	return NULL;
}

static bool has_line(const struct leaks *leaks, const char *line)
{
	for (size_t i = 0; i < leaks->count; i++)
		if (strcmp(leaks->lines[i], line) == 0)
			return true;
	return false;
}

/* The lines that `now` has beyond `before`, as one text; NULL if none. */
static char *difference(const struct leaks *before, const struct leaks *now)
{
	char *text = NULL;
	size_t size;
	FILE *stream = NULL;

	for (size_t i = 0; i < now->count; i++) {
		if (has_line(before, now->lines[i]))
			continue;
		if (!stream && !(stream = open_memstream(&text, &size)))
			die("open_memstream");
		fprintf(stream, "%s\n", now->lines[i]);
	}
	if (stream)
		fclose(stream);
	return text;
}

char *leaks_since(const struct leaks *before, int grace_ms)
{
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};

	for (int waited_ms = 0;; waited_ms += PAUSE_MS) {
		struct leaks *now = leaks_snapshot();
		char *text = difference(before, now);

		leaks_free(now);
		if (!text || waited_ms >= grace_ms)
			return text;
		free(text);
		nanosleep(&pause, NULL);
	}
}

static void *nothing(void *context)
{
	return context;
}

int leaks_setup(void **state)
{
	pthread_t thread;

	assert_true(nesting < MAX_NESTING);
	/* A sanitizer starts a thread of its own beside a program's first one; that one is not to be taken for a leak. */
	assert_int_equal(pthread_create(&thread, NULL, nothing, NULL), 0);
	pthread_join(thread, NULL);
	snapshots[nesting++] = leaks_snapshot();
	return 0;
}

int leaks_teardown(void **state)
{
	struct leaks *before;
	char *left;

	assert_true(nesting > 0);
	before = snapshots[--nesting];
	left = leaks_since(before, LEAKS_GRACE_MS);
	leaks_free(before);
	if (!left)
		return 0;
	print_error("the test left behind:\n%s", left);
	free(left);
	return -1;
}
