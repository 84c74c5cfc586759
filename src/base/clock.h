/* SPDX-License-Identifier: Apache-2.0 */
/* Time: CLOCK_MONOTONIC in nanoseconds or milliseconds, and deadlines made from timeouts. */
#ifndef TENDRIL_BASE_CLOCK_H
#define TENDRIL_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t clock_ms(void)
{
	return clock_ns() / 1000000;
}

/* The moment `timeout_ms` from now, in milliseconds; 0 (no deadline) for a timeout that is not positive. */
static inline int64_t deadline_after(int64_t timeout_ms)
{
	int64_t now = clock_ms();

	if (timeout_ms <= 0)
		return 0;
	return timeout_ms > INT64_MAX - now - 1 ? INT64_MAX : now + timeout_ms + 1;
}

/* Milliseconds left for poll() and its kin: -1 without a deadline, 0 when it is over, at most a day. */
static inline int deadline_poll_ms(int64_t deadline_ms)
{
	int64_t left = deadline_ms - clock_ms();

	if (deadline_ms == 0)
		return -1;
	return left <= 0 ? 0 : left > 86400000 ? 86400000 : (int)left;
}

#endif
