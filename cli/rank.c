/* SPDX-License-Identifier: Apache-2.0 */
#include "rank.h"

#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the child, between fork and exec: nothing but system calls, since other threads' locks are as they were ---- */

struct child {
	const struct run_plan *plan;
	const struct rank_streams *streams;
	char **environment;
	pid_t parent;
	int report; /* takes errno where the program cannot be run */
};

static bool child_prepare(const struct child *child)
{
	if (setpgid(0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return false;
	if (getppid() != child->parent) /* it died before it was to be told of */
		_exit(EXIT_TROUBLE);
	if (dup2(child->streams->in, STDIN_FILENO) < 0 || dup2(child->streams->out, STDOUT_FILENO) < 0 ||
	    dup2(child->streams->err, STDERR_FILENO) < 0)
		return false;
	return setrlimit(RLIMIT_NOFILE, &child->plan->descriptors) == 0 &&
	       sigaction(SIGPIPE, &child->plan->pipe_action, NULL) == 0 &&
	       sigprocmask(SIG_SETMASK, &child->plan->mask, NULL) == 0;
}

static _Noreturn void child_run(const struct child *child)
{
	int code;

	if (child_prepare(child))
		execvpe(child->plan->program[0], child->plan->program, child->environment);
	code = errno;
	while (write(child->report, &code, sizeof(code)) < 0 && errno == EINTR)
		;
	_exit(EXIT_NOEXEC);
}

/* ---- the parent ---- */

/* 0 once the program runs, else the errno of what failed. */
static int read_report(int fd)
{
	int code = 0;
	ssize_t got;

	do
		got = read(fd, &code, sizeof(code));
	while (got < 0 && errno == EINTR);
	return got == (ssize_t)sizeof(code) ? code : 0;
}

int rank_start(struct rank *rank, const struct run_plan *plan, int local_rank, const struct rank_streams *streams)
{
	struct child child = {.plan = plan, .streams = streams, .parent = getpid()};
	int report[2], code;

	rank->number = plan->first_rank + local_rank;
	if (pipe2(report, O_CLOEXEC) < 0) {
		message("run: cannot make a pipe: %s", strerror(errno));
		return EXIT_TROUBLE;
	}
	child.environment = environment_new(plan, local_rank);
	child.report = report[1];
	rank->pid = fork();
	code = errno;
	if (rank->pid == 0)
		child_run(&child);
	environment_free(child.environment);
	close(report[1]);
	if (rank->pid < 0) {
		close(report[0]);
		message("run: cannot start rank %d: %s%s", rank->number, strerror(code),
		        code == EAGAIN ? "; 'ulimit -u' says how many processes there may be" : "");
		return EXIT_TROUBLE;
	}
	code = read_report(report[0]);
	close(report[0]);
	if (code == 0) {
		rank->state = RANK_RUNNING;
		return 0;
	}
	while (waitpid(rank->pid, NULL, 0) < 0 && errno == EINTR)
		;
	message("run: cannot run '%s': %s", plan->program[0], strerror(code));
	return code == ENOENT ? EXIT_NOTFOUND : EXIT_NOEXEC;
}

/* Whether there is a child of ours in its group, living or not yet waited for. */
static bool has_children(const struct rank *rank)
{
	siginfo_t info;

	return waitid(P_PGID, (id_t)rank->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

void rank_signal(struct rank *rank, int number)
{
	if ((rank->state == RANK_RUNNING || rank->state == RANK_ENDED) && has_children(rank))
		kill(-rank->pid, number);
}

void rank_look(struct rank *rank)
{
	if (rank->state == RANK_ENDED && !has_children(rank))
		rank->state = RANK_GONE;
}

/* ---- how it ended ---- */

int rank_exit_status(const struct rank *rank)
{
	return WIFSIGNALED(rank->wait_status) ? 128 + WTERMSIG(rank->wait_status) : WEXITSTATUS(rank->wait_status);
}

const char *signal_text(int number, char *buffer, size_t size)
{
	const char *name = sigabbrev_np(number);

	if (name)
		snprintf(buffer, size, "SIG%s", name);
	else
		snprintf(buffer, size, "signal %d", number);
	return buffer;
}

void rank_say_end(const struct rank *rank)
{
	char name[32];

	if (WIFSIGNALED(rank->wait_status))
		message("rank %d (pid %d) was killed by %s%s", rank->number, (int)rank->pid,
		        signal_text(WTERMSIG(rank->wait_status), name, sizeof(name)),
		        WCOREDUMP(rank->wait_status) ? " (core dumped)" : "");
	else
		message("rank %d (pid %d) exited with status %d", rank->number, (int)rank->pid,
		        WEXITSTATUS(rank->wait_status));
}
