/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log hook. The library prints nothing by itself: it hands each fact, one line without a newline, to the hook.
 * A line reads `event=... key=value ...`; a value with spaces stands in double quotes.
 */
#ifndef TENDRIL_LOG_H
#define TENDRIL_LOG_H

#include <tendril/api.h>

typedef enum tdr_log_level {
	TDR_LOG_OFF = 0,
	TDR_LOG_ERROR = 1, /* something is lost: an operation failed and nobody else is told */
	TDR_LOG_WARN = 2,  /* something works, but not as asked: a fall-back, a peer that misbehaves */
	TDR_LOG_INFO = 3,  /* a change of state: joined, a worker is gone, shut down */
	TDR_LOG_DEBUG = 4, /* connections and calls */
} tdr_log_level;

/* Called from any thread; must not block for long, nor call the library. `line` is valid during the call. */
typedef void (*tdr_log_hook)(void *context, tdr_log_level level, const char *line);

TDR_BEGIN_DECLS

/*
 * Installs `hook` (NULL: none) for lines up to `level`, for the whole process. Without a call of this function the
 * variable TENDRIL_LOG (error, warn, info, debug) makes tdr_log_stderr the hook at that level.
 */
TDR_API void tdr_log_set(tdr_log_hook hook, void *context, tdr_log_level level);

/* A ready-made hook: time, level and line to standard error, in one write. */
TDR_API void tdr_log_stderr(void *context, tdr_log_level level, const char *line);

TDR_END_DECLS

#endif
