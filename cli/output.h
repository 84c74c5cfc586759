/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the ranks write, on its way to our standard output and error: whole lines, each behind its rank.
 *
 * Nothing here waits for a reader of ours that is slow: what it has not taken is queued, and while there is much of
 * that, the ranks are not read from, so that they wait as they would without us. Where both our streams are one (a
 * terminal, 2>&1), they share a queue, so that no line gets into another.
 */
#ifndef TENDRIL_CLI_OUTPUT_H
#define TENDRIL_CLI_OUTPUT_H

#include "run.h"

#include <poll.h>
#include <sys/types.h>

#define PREFIX_SIZE 32

/* One of our streams. */
struct sink {
	int fd;
	bool reopened; /* an open description of our own, which does not block */
	bool broken;   /* nobody reads it any more */
	bool color;
	int sources; /* epoll set of the streams that lead here */
	int open;    /* how many these are */
	char *data;  /* the queue: bytes from `begin` to `end` */
	size_t begin, end, room;
};

/* One stream of a rank. */
struct stream {
	int fd; /* -1: over */
	struct sink *sink;
	size_t left; /* bytes to read until it counts as over; SIZE_MAX: until its end */
	char *line;  /* the beginning of a line whose end has not come */
	size_t size, room;
	char prefix[PREFIX_SIZE];
	size_t prefix_size;
};

struct output {
	struct sink sinks[2];
	int nsinks;
	struct stream *streams; /* two for each rank */
	size_t nstreams;
};

/* False, with a message, where descriptors run out. */
bool output_open(struct output *output, const struct run_plan *plan);

/*
 * The ends of the pipes for a rank's standard output and error; the caller closes them after use. False with a
 * message.
 */
bool output_pipes(struct output *output, const struct run_plan *plan, int local_rank, int ret_fds[2]);

/* Room in `polled` for output_poll. */
#define OUTPUT_POLLED 4

/* Fills in what to wait for, and returns how many; output_work then does what can be done. */
int output_poll(const struct output *output, struct pollfd polled[OUTPUT_POLLED]);
void output_work(struct output *output);

/* No writer that counts is left: what is in the pipes by now is read, and nothing after it. */
void output_drain(struct output *output);

/* Whether all streams are over and all is written. */
bool output_done(const struct output *output);

/* Drops what has not been written. */
void output_discard(struct output *output);

/* A message_sink: a line of our own, to standard error in its turn. */
void output_message(void *context, const char *line, size_t size);

void output_close(struct output *output);

#endif
