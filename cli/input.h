/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rank reads. A file or a pipe is handed to it as it is. A terminal is not, since the kernel stops those who
 * read one from outside its foreground group, and ranks have groups of their own: there we read, and pass it on
 * through a pipe.
 */
#ifndef TENDRIL_CLI_INPUT_H
#define TENDRIL_CLI_INPUT_H

#include "run.h"

#include <poll.h>

struct input {
	int null; /* what the other ranks read */
	int to;   /* the pipe to the one that reads a terminal; -1: there is none */
	int from; /* its other end, for that rank; -1 otherwise, and once that is started */
	char data[4096];
	size_t begin, end;
	bool paused; /* we are in the background; SIGCONT may change that */
};

/* False, with a message. */
bool input_open(struct input *input, const struct run_plan *plan);

/* The descriptor for a rank to read from. Borrowed. */
int input_of(const struct input *input, const struct run_plan *plan, int local_rank);

/* All ranks have been started. */
void input_started(struct input *input);

/* As with output. */
#define INPUT_POLLED 1
int input_poll(const struct input *input, struct pollfd polled[INPUT_POLLED]);
void input_work(struct input *input, const struct pollfd *polled);

/* We may be in the foreground again. */
void input_resume(struct input *input);

void input_close(struct input *input);

#endif
