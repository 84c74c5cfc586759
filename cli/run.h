/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of `tendril run` share: what is to be run, and the environment that it runs in. */
#ifndef TENDRIL_CLI_RUN_H
#define TENDRIL_CLI_RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#define STDIN_NONE (-1)

enum color_mode {
	COLOR_AUTO, /* on a terminal, unless NO_COLOR is set */
	COLOR_ALWAYS,
	COLOR_NEVER,
};

struct run_plan {
	char **program; /* its arguments, the name first; NULL-terminated */
	int ranks;      /* started here */
	int first_rank; /* of these, among all of the group */
	int world_size; /* of the group; 0: it changes */
	const char *master_host;
	uint16_t master_port; /* 0 until the store is open: any free one */
	bool store_given;     /* it is somebody else's */
	char secret[65];      /* a fresh one, or "" where the ranks are to have what the environment says */
	const char **extra;   /* NAME=VALUE of --env, in order */
	size_t nextra;
	int stdin_rank; /* which of the local ranks gets our input, or STDIN_NONE */
	int64_t grace_ms;
	int64_t timeout_ms; /* 0: none */
	bool prefix;
	bool quiet;
	enum color_mode color;

	/* What we changed for ourselves, and give back to the ranks. */
	sigset_t mask;
	struct sigaction pipe_action;
	struct rlimit descriptors;
};

/* Says something of the run, unless --quiet. */
#define NOTE(plan, ...)                                                                                                \
	do {                                                                                                           \
		if (!(plan)->quiet)                                                                                    \
			message(__VA_ARGS__);                                                                          \
	} while (0)

/* A rank's environment: ours with the plan's variables. Ends the command where memory runs out. */
char **environment_new(const struct run_plan *plan, int local_rank);
void environment_free(char **environment);

/* Starts the ranks, sees them through, and returns the run's exit status. */
int supervise(const struct run_plan *plan);

/* Memory, or the end of the command with a message. */
void *need(void *memory);

#endif
