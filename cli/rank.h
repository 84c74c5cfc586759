/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranks: processes of the program, each the leader of a process group of its own, so that what it starts ends with
 * it.
 *
 * We are a subreaper: a process whose parent ends becomes our child. So a group is there exactly as long as wait
 * finds a child in it, and only then is it sent signals: its number cannot have passed to others.
 */
#ifndef TENDRIL_CLI_RANK_H
#define TENDRIL_CLI_RANK_H

#include "run.h"

#include <stdbool.h>
#include <sys/types.h>

enum rank_state {
	RANK_NEW,     /* not started */
	RANK_RUNNING, /* its process lives */
	RANK_ENDED,   /* its process is gone, others of its group may live */
	RANK_GONE,    /* nothing of it is left */
};

struct rank {
	int number; /* among all of the group */
	pid_t pid;  /* and its process group */
	enum rank_state state;
	int wait_status; /* since RANK_ENDED */
};

/* What a rank's process has for its standard streams. All are borrowed. */
struct rank_streams {
	int in, out, err;
};

/*
 * Starts a rank, and returns once its program runs: 0, or an exit status after a message.
 */
int rank_start(struct rank *rank, const struct run_plan *plan, int local_rank, const struct rank_streams *streams);

/* Sends a signal to all of the rank's group. */
void rank_signal(struct rank *rank, int number);

/* Notes when nothing of an ended rank is left. */
void rank_look(struct rank *rank);

/* The exit status that stands for how it ended, as shells have it. */
int rank_exit_status(const struct rank *rank);

/* Says how it ended: "rank 2 (pid 123) was killed by SIGSEGV". */
void rank_say_end(const struct rank *rank);

/* "SIGINT" */
const char *signal_text(int number, char *buffer, size_t size);

#endif
