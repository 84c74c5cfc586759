/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks share: the clock, medians, and ending with a message when something fails. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tendril.h>
#include <time.h>

#define MIB ((size_t)1 << 20)

/* Ends the program with a text, and with that of `error` unless it is 0. */
static inline _Noreturn void fail(const char *what, int error)
{
	fprintf(stderr, "bench: %s%s%s\n", what, error ? ": " : "", error ? strerror(error) : "");
	exit(1);
}

/* Ends the program unless `status` is TDR_OK. */
static inline void must(tdr_status status, const char *what)
{
	if (status == TDR_OK)
		return;
	fprintf(stderr, "bench: %s: %s (%s)\n", what, tdr_last_error(), tdr_status_name(status));
	exit(1);
}

static inline void *must_allocate(size_t size)
{
	void *memory = malloc(size);

	if (!memory)
		fail("out of memory", 0);
	return memory;
}

/* Nanoseconds of CLOCK_MONOTONIC, which processes of one machine can compare. */
static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int compare_doubles(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

/* Sorts the samples and returns the one in the middle. */
static inline double median(double *samples, size_t count)
{
	qsort(samples, count, sizeof(*samples), compare_doubles);
	return samples[count / 2];
}

/* An agent that meets the others at `url`; everything else is left to the defaults and the environment. */
static inline tdr_agent *agent_at(const char *name, const char *url, int rank, int world_size)
{
	tdr_agent_options options;
	tdr_agent *agent;

	tdr_agent_options_init(&options);
	options.init_method = url;
	options.rank = rank;
	options.world_size = world_size;
	agent = tdr_agent_new(name, &options);
	if (!agent)
		fail(tdr_last_error(), 0);
	return agent;
}

#endif
