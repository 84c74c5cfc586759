/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seeing a run through: one loop over signals, the ranks' output and the clock, until nothing of the ranks is left
 * and all that they wrote is out. The first failure gives the run its status; what follows from it is not told.
 */
#include "input.h"
#include "message.h"
#include "output.h"
#include "rank.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How long processes that a rank has left behind may finish what they do (a `tee`, say), once all ranks have ended. */
#define LINGER_MS 1000

enum run_state {
	RUN_GOING,     /* all is well */
	RUN_FOLLOWING, /* all were sent a signal and one has ended of it; the others are given time to do so */
	RUN_LINGERING, /* all ranks have ended; processes that they left behind are given time to do so */
	RUN_ENDING,    /* what is left was sent SIGTERM */
	RUN_KILLING,   /* what is left was sent SIGKILL */
	RUN_DRAINING,  /* nothing is left but output to be written */
};

struct run {
	const struct run_plan *plan;
	enum run_state state;
	int64_t due_ms; /* when the state is given up; 0: never */
	int64_t timeout_due_ms;
	int signals;    /* signalfd */
	int interrupts; /* SIGINTs so far */
	bool told;      /* the ranks were passed a signal that is to end them */
	int status;     /* of the first failure */
	struct rank *ranks;
	struct output output;
	struct input input;
};

static const int passed_on[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT};
#define PASSED_ON (sizeof(passed_on) / sizeof(passed_on[0]))

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void enter(struct run *run, enum run_state state, int64_t for_ms)
{
	run->state = state;
	run->due_ms = for_ms > 0 ? now_ms() + for_ms : 0;
}

static void signal_all(struct run *run, int number)
{
	for (int i = 0; i < run->plan->ranks; i++)
		rank_signal(&run->ranks[i], number);
}

static int count_running(const struct run *run)
{
	int running = 0;

	for (int i = 0; i < run->plan->ranks; i++)
		running += run->ranks[i].state == RANK_RUNNING;
	return running;
}

/* ---- ending ---- */

static void kill_all(struct run *run)
{
	signal_all(run, SIGKILL);
	enter(run, RUN_KILLING, 0);
}

static void end_all(struct run *run)
{
	if (run->state >= RUN_ENDING)
		return;
	if (run->plan->grace_ms == 0) {
		kill_all(run);
		return;
	}
	signal_all(run, SIGTERM);
	signal_all(run, SIGCONT); /* those that are stopped would not see it */
	enter(run, RUN_ENDING, run->plan->grace_ms);
}

static void fail(struct run *run, int status)
{
	if (run->status == 0)
		run->status = status;
}

/* "rank 1", "ranks 1, 2, 7", "ranks 1, 2, 3 and 61 more": those in a state. */
static void list_ranks(const struct run *run, enum rank_state state, char *text, size_t size)
{
	int count = 0, shown = 0;
	size_t at;

	for (int i = 0; i < run->plan->ranks; i++)
		count += run->ranks[i].state == state;
	at = (size_t)snprintf(text, size, count == 1 ? "rank" : "ranks");
	for (int i = 0; i < run->plan->ranks && shown < 8; i++)
		if (run->ranks[i].state == state)
			at += (size_t)snprintf(text + at, size - at, shown++ ? ", %d" : " %d", run->ranks[i].number);
	if (count > shown)
		snprintf(text + at, size - at, " and %d more", count - shown);
}

/* A state has lasted as long as it may. */
static void state_is_over(struct run *run)
{
	enum rank_state late = count_running(run) > 0 ? RANK_RUNNING : RANK_ENDED;
	char who[160];

	list_ranks(run, late, who, sizeof(who));
	switch (run->state) {
	case RUN_FOLLOWING:
		NOTE(run->plan, "%s: still there %g s later, ending with SIGTERM", who,
		     (double)run->plan->grace_ms / 1e3);
		end_all(run);
		break;
	case RUN_LINGERING:
		NOTE(run->plan, "%s left processes behind: ending them", who);
		end_all(run);
		break;
	case RUN_ENDING:
		NOTE(run->plan, "%s%s did not end within %g s of SIGTERM: killing",
		     late == RANK_ENDED ? "what is left of " : "", who, (double)run->plan->grace_ms / 1e3);
		kill_all(run);
		break;
	case RUN_GOING:
	case RUN_KILLING:
	case RUN_DRAINING:
		break;
	}
}

static void run_is_late(struct run *run)
{
	run->timeout_due_ms = 0;
	if (run->state >= RUN_LINGERING)
		return;
	NOTE(run->plan, "the run has taken its %g s: ending it", (double)run->plan->timeout_ms / 1e3);
	fail(run, EXIT_TIMEOUT);
	end_all(run);
}

/* ---- signals ---- */

static void rank_ended(struct run *run, struct rank *rank, int wait_status)
{
	int others, status;

	rank->wait_status = wait_status;
	rank->state = RANK_ENDED;
	status = rank_exit_status(rank);
	if (status == 0)
		return;
	fail(run, status);
	if (run->state != RUN_GOING)
		return;
	if (!run->plan->quiet)
		rank_say_end(rank);
	others = count_running(run);
	if (run->told) {
		enter(run, RUN_FOLLOWING, run->plan->grace_ms);
		if (run->plan->grace_ms == 0)
			end_all(run);
		return;
	}
	if (others > 0)
		NOTE(run->plan, "ending the other %d", others);
	end_all(run);
}

static void reap(struct run *run)
{
	bool all_ended = true, all_gone = true;
	int wait_status;
	pid_t pid;

	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
		for (int i = 0; i < run->plan->ranks; i++)
			if (run->ranks[i].state == RANK_RUNNING && run->ranks[i].pid == pid)
				rank_ended(run, &run->ranks[i], wait_status);
	}
	for (int i = 0; i < run->plan->ranks; i++) {
		rank_look(&run->ranks[i]);
		all_ended = all_ended && run->ranks[i].state != RANK_RUNNING;
		all_gone = all_gone && (run->ranks[i].state == RANK_GONE || run->ranks[i].state == RANK_NEW);
	}
	if (all_gone) {
		if (run->state != RUN_DRAINING)
			output_drain(&run->output);
		enter(run, RUN_DRAINING, 0);
	} else if (all_ended && run->state < RUN_LINGERING) {
		enter(run, RUN_LINGERING, LINGER_MS);
	}
}

/* Stops all, then ourselves, until SIGCONT, which is passed on like any other. */
static void stop(struct run *run)
{
	signal_all(run, SIGTSTP);
	kill(getpid(), SIGSTOP);
}

static void interrupt(struct run *run)
{
	run->interrupts++;
	if (run->state == RUN_DRAINING) {
		output_discard(&run->output); /* whoever reads it does not */
		return;
	}
	if (run->interrupts == 1) {
		NOTE(run->plan, "SIGINT: passed on to %d ranks; once more kills them", count_running(run));
		signal_all(run, SIGINT);
		return;
	}
	NOTE(run->plan, "SIGINT again: killing all");
	fail(run, 128 + SIGINT);
	kill_all(run);
}

static void take_signal(struct run *run, int number)
{
	switch (number) {
	case SIGCHLD:
		reap(run);
		break;
	case SIGTSTP:
		stop(run);
		break;
	case SIGCONT:
		input_resume(&run->input);
		signal_all(run, SIGCONT);
		break;
	case SIGINT:
		run->told = true;
		interrupt(run);
		break;
	case SIGTERM:
	case SIGHUP:
	case SIGQUIT:
		run->told = true;
		signal_all(run, number);
		break;
	default:
		signal_all(run, number);
	}
}

static void take_signals(struct run *run)
{
	struct signalfd_siginfo info;

	while (read(run->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		take_signal(run, (int)info.ssi_signo);
}

/* ---- the loop ---- */

static int time_left(const struct run *run)
{
	int64_t due = run->due_ms, left;

	if (run->timeout_due_ms && (!due || run->timeout_due_ms < due))
		due = run->timeout_due_ms;
	if (!due)
		return -1;
	left = due - now_ms();
	return left < 0 ? 0 : left > 3600000 ? 3600000 : (int)left;
}

static void turn(struct run *run)
{
	struct pollfd polled[1 + OUTPUT_POLLED + INPUT_POLLED] = {{.fd = run->signals, .events = POLLIN}};
	int outputs = output_poll(&run->output, polled + 1);
	int inputs = input_poll(&run->input, polled + 1 + outputs);
	nfds_t count = 1u + (unsigned)outputs + (unsigned)inputs;

	if (poll(polled, count, time_left(run)) < 0)
		return; /* a signal; there are none that we do not block but those that end us */
	if (polled[0].revents)
		take_signals(run);
	if (inputs)
		input_work(&run->input, &polled[1 + outputs]);
	output_work(&run->output);
	if (run->due_ms && now_ms() >= run->due_ms)
		state_is_over(run);
	if (run->timeout_due_ms && now_ms() >= run->timeout_due_ms)
		run_is_late(run);
}

static void start(struct run *run)
{
	for (int i = 0; i < run->plan->ranks; i++) {
		struct rank_streams streams;
		int fds[2], status;

		if (!output_pipes(&run->output, run->plan, i, fds)) {
			fail(run, EXIT_TROUBLE);
			break;
		}
		streams = (struct rank_streams){input_of(&run->input, run->plan, i), fds[0], fds[1]};
		status = rank_start(&run->ranks[i], run->plan, i, &streams);
		close(fds[0]);
		close(fds[1]);
		if (status != 0) {
			fail(run, status);
			break;
		}
	}
	input_started(&run->input);
	if (run->status != 0)
		end_all(run);
	reap(run); /* there may be none, and then no SIGCHLD comes */
}

static bool open_signals(struct run *run)
{
	sigset_t wanted;

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	for (size_t i = 0; i < PASSED_ON; i++)
		sigaddset(&wanted, passed_on[i]);
	run->signals = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
	if (run->signals < 0)
		message("run: cannot make a signalfd: %s", strerror(errno));
	return run->signals >= 0;
}

int supervise(const struct run_plan *plan)
{
	struct run run = {.plan = plan};

	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
		message("run: cannot become the parent of orphans: %s", strerror(errno));
		return EXIT_TROUBLE;
	}
	if (!open_signals(&run) || !output_open(&run.output, plan) || !input_open(&run.input, plan))
		return EXIT_TROUBLE;
	run.ranks = need(calloc((size_t)plan->ranks, sizeof(*run.ranks)));
	run.timeout_due_ms = plan->timeout_ms > 0 ? now_ms() + plan->timeout_ms : 0;
	message_divert(output_message, &run.output);
	start(&run);
	while (run.state != RUN_DRAINING || !output_done(&run.output))
		turn(&run);
	message_divert(NULL, NULL);
	output_close(&run.output);
	input_close(&run.input);
	close(run.signals);
	free(run.ranks);
	return run.status;
}
