/* SPDX-License-Identifier: Apache-2.0 */
/* Writing to the log: LOG(TDR_LOG_INFO, "event=worker_gone worker=%s", name). Costs a load where the level is off. */
#ifndef TENDRIL_BASE_LOG_H
#define TENDRIL_BASE_LOG_H

#include <stdatomic.h>
#include <tendril/log.h>

extern _Atomic int log_level; /* -1 until the environment was read */

int log_level_read(void);
void log_line(tdr_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

static inline bool log_wanted(tdr_log_level level)
{
	int current = atomic_load_explicit(&log_level, memory_order_relaxed);

	return (int)level <= (current >= 0 ? current : log_level_read());
}

#define LOG(level, ...)                                                                                                \
	do {                                                                                                           \
		if (log_wanted(level))                                                                                 \
			log_line(level, __VA_ARGS__);                                                                  \
	} while (0)

#endif
