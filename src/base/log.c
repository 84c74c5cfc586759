/* SPDX-License-Identifier: Apache-2.0 */
/* The log hook. The one thing in the library that is global by design: a process has one log. */
#include "base/log.h"

#include "base/macros.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE 2048

_Atomic int log_level = -1;

static pthread_mutex_t hook_lock = PTHREAD_MUTEX_INITIALIZER;
static tdr_log_hook hook;
static void *hook_context;

static const char *const level_names[] = {"off", "error", "warn", "info", "debug"};

int log_level_read(void)
{
	const char *wanted = getenv("TENDRIL_LOG");
	int level = TDR_LOG_OFF;

	for (size_t i = 0; wanted && i < COUNT_OF(level_names); i++)
		if (strcmp(wanted, level_names[i]) == 0)
			level = (int)i;
	pthread_mutex_lock(&hook_lock);
	if (atomic_load(&log_level) < 0) {
		hook = tdr_log_stderr;
		atomic_store(&log_level, level);
	}
	level = atomic_load(&log_level);
	pthread_mutex_unlock(&hook_lock);
	return level;
}

void tdr_log_set(tdr_log_hook new_hook, void *context, tdr_log_level level)
{
	pthread_mutex_lock(&hook_lock);
	hook = new_hook;
	hook_context = context;
	atomic_store(&log_level, new_hook ? (int)level : (int)TDR_LOG_OFF);
	pthread_mutex_unlock(&hook_lock);
}

void tdr_log_stderr(void *context, tdr_log_level level, const char *line)
{
	char text[LINE_SIZE + 64];
	struct timespec now;
	struct tm parts;
	int size;

	(void)context;
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &parts);
	size = snprintf(text, sizeof(text), "%02d:%02d:%02d.%03ld tendril %s pid=%d %s\n", parts.tm_hour, parts.tm_min,
	                parts.tm_sec, now.tv_nsec / 1000000, level_names[level], (int)getpid(), line);
	if (size > 0 && write(STDERR_FILENO, text, MIN_OF((size_t)size, sizeof(text) - 1)) < 0)
		return; /* there is nobody to tell */
}

void log_line(tdr_log_level level, const char *format, ...)
{
	char line[LINE_SIZE];
	va_list arguments;
	tdr_log_hook call;
	void *context;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = '?'; /* a peer's text may hold anything; a fact is one line */
	pthread_mutex_lock(&hook_lock);
	call = hook;
	context = hook_context;
	pthread_mutex_unlock(&hook_lock);
	if (call)
		call(context, level, line);
}
