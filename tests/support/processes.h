/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests with several processes: functions run in forked children, with a time limit.
 *
 *     struct process members[2] = {{.name = "ps", .run = serve, .context = &port}, {.name = "trainer", .run = train}};
 *
 *     processes_start(members, 2);
 *     processes_finish(members, 2, 30000);    fails the test, with each child's standard error, unless both exited with 0
 *
 * A child is the leader of a process group of its own, which is killed as a whole when its leader ends or its time is over;
 * it dies with the test, should that be killed (children of the child's do not). What it writes to standard output or error
 * is captured, so that the test's own output stays well-formed. cmocka's assertions may be used in it: a failed one aborts
 * the child, and its text is in the report.
 *
 * Start children before the test has threads of its own (a child has the forking thread alone, and whatever locks the others
 * held stay locked in it), and from a thread that outlives them: Linux takes that thread's end for the parent's.
 */
#ifndef TENDRIL_TESTS_PROCESSES_H
#define TENDRIL_TESTS_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct process {
	const char *name;          /* in reports */
	int (*run)(void *context); /* the child's main; returns its exit status */
	void *context;             /* handed to `run` */
	int expected_signal;       /* the child must die of this signal (0: it must exit with 0) */

	pid_t pid;      /* set by processes_start; 0 once it was reaped */
	int status;     /* as of waitpid, once it was reaped */
	bool timed_out; /* it was killed because its time was over */
	char *output;   /* what it wrote, with a closing NUL; NULL before processes_wait */
	int output_fd;  /* the support's own */
	size_t output_size;
};

/* Forks a child for each. Aborts the test where that fails. */
void processes_start(struct process *processes, size_t count);

/* Sends a signal to a child's whole group; nothing if it has been reaped. */
void process_kill(struct process *process, int signal_number);

/*
 * Waits for all of them, and kills those that are not done in `timeout_ms`; nothing of them is left when it returns. True if
 * each ended as expected. Captured output is kept for processes_report until processes_fini.
 */
bool processes_wait(struct process *processes, size_t count, int64_t timeout_ms);

/* How each ended, and what those wrote that did not end as expected. The text is the caller's to free. */
char *processes_report(const struct process *processes, size_t count);

/* Frees what was captured; kills what still runs. */
void processes_fini(struct process *processes, size_t count);

/* processes_wait and processes_fini; fails the cmocka test, with the report, unless each ended as expected. */
void processes_finish(struct process *processes, size_t count, int64_t timeout_ms);

#endif
