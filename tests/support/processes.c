/* SPDX-License-Identifier: Apache-2.0 */
#include "support/processes.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TICK_MS 10
#define MAX_OUTPUT (1024 * 1024)

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void die(const char *what)
{
	fprintf(stderr, "processes: %s: %s\n", what, strerror(errno));
	abort();
}

__attribute__((noreturn)) static void child_main(struct process *process, pid_t parent, int output)
{
	const struct rlimit no_core = {0, 0};

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILURE); /* it died before the line above */
	setrlimit(RLIMIT_CORE, &no_core);
	if (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
		_exit(EXIT_FAILURE);
	setvbuf(stdout, NULL, _IONBF, 0);
	/* A failed assertion of cmocka would jump back into the test runner, whose copy this is, and go on with its tests. */
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	exit(process->run(process->context));
}

static void start(struct process *process)
{
	pid_t parent = getpid();
	int ends[2];

	process->status = 0;
	process->timed_out = false;
	process->output = calloc(1, 1);
	process->output_size = 0;
	if (!process->output || pipe2(ends, O_CLOEXEC) != 0)
		die("pipe2");
	fflush(NULL);
	process->pid = fork();
	if (process->pid < 0)
		die("fork");
	if (process->pid == 0) {
		close(ends[0]);
		child_main(process, parent, ends[1]);
	}
	setpgid(process->pid, process->pid); /* the child does it too: whoever comes first */
	close(ends[1]);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	process->output_fd = ends[0];
}

void processes_start(struct process *processes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		start(&processes[i]);
}

void process_kill(struct process *process, int signal_number)
{
	if (process->pid > 0)
		kill(-process->pid, signal_number);
}

/* Takes what a child has written; past MAX_OUTPUT it is dropped. */
static void read_output(struct process *process)
{
	char chunk[4096];
	ssize_t size;

	while (process->output_fd >= 0 && (size = read(process->output_fd, chunk, sizeof(chunk))) != 0) {
		char *output;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0)
			return;
		if (process->output_size + (size_t)size > MAX_OUTPUT)
			continue;
		output = realloc(process->output, process->output_size + (size_t)size + 1);
		if (!output)
			die("realloc");
		memcpy(output + process->output_size, chunk, (size_t)size);
		process->output = output;
		process->output_size += (size_t)size;
		output[process->output_size] = '\0';
	}
	if (process->output_fd >= 0)
		close(process->output_fd);
	process->output_fd = -1;
}

/* Reaps a child if it has ended, and kills what is left of its group first, while its number cannot be taken anew. */
static void reap(struct process *process, int flags)
{
	siginfo_t info = {0};

	if (process->pid <= 0)
		return;
	while (waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOWAIT | flags) != 0)
		if (errno != EINTR)
			die("waitid");
	if (info.si_pid == 0)
		return;
	kill(-process->pid, SIGKILL);
	while (waitpid(process->pid, &process->status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	process->pid = 0;
	read_output(process);
	if (process->output_fd >= 0)
		close(process->output_fd); /* some other process holds the other end */
	process->output_fd = -1;
}

static void pause_for_output(struct process *processes, size_t count)
{
	struct pollfd events[64];
	nfds_t watched = 0;

	for (size_t i = 0; i < count && watched < sizeof(events) / sizeof(events[0]); i++)
		if (processes[i].pid > 0 && processes[i].output_fd >= 0)
			events[watched++] = (struct pollfd){.fd = processes[i].output_fd, .events = POLLIN};
	poll(events, watched, TICK_MS);
}

static bool as_expected(const struct process *process)
{
	if (process->timed_out)
		return false;
	if (process->expected_signal)
		return WIFSIGNALED(process->status) && WTERMSIG(process->status) == process->expected_signal;
	return WIFEXITED(process->status) && WEXITSTATUS(process->status) == 0;
}

bool processes_wait(struct process *processes, size_t count, int64_t timeout_ms)
{
	int64_t deadline_ms = now_ms() + timeout_ms;
	bool good = true;

	for (;;) {
		bool over = now_ms() >= deadline_ms;
		size_t alive = 0;

		for (size_t i = 0; i < count; i++) {
			struct process *process = &processes[i];

			if (process->pid <= 0)
				continue;
			read_output(process);
			reap(process, WNOHANG);
			if (process->pid > 0 && over) {
				process->timed_out = true;
				process_kill(process, SIGKILL);
				reap(process, 0);
			}
			alive += process->pid > 0;
		}
		if (alive == 0)
			break;
		pause_for_output(processes, count);
	}
	for (size_t i = 0; i < count; i++)
		good = as_expected(&processes[i]) && good;
	return good;
}

static void report_one(FILE *stream, const struct process *process, size_t index)
{
	fprintf(stream, "process %zu (%s): ", index, process->name ? process->name : "no name");
	if (process->pid > 0)
		fprintf(stream, "runs");
	else if (process->timed_out)
		fprintf(stream, "killed, because its time was over");
	else if (WIFSIGNALED(process->status))
		fprintf(stream, "died of signal %d (%s)", WTERMSIG(process->status),
		        strsignal(WTERMSIG(process->status)));
	else
		fprintf(stream, "exited with %d", WEXITSTATUS(process->status));
	fprintf(stream, "\n");
	if (!as_expected(process) && process->output_size > 0)
		fprintf(stream, "%s%s", process->output, process->output[process->output_size - 1] == '\n' ? "" : "\n");
}

char *processes_report(const struct process *processes, size_t count)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	if (!stream)
		die("open_memstream");
	for (size_t i = 0; i < count; i++)
		report_one(stream, &processes[i], i);
	fclose(stream);
	return text;
}

void processes_fini(struct process *processes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		process_kill(&processes[i], SIGKILL);
		reap(&processes[i], 0);
		free(processes[i].output);
		processes[i].output = NULL;
		processes[i].output_size = 0;
	}
}

void processes_finish(struct process *processes, size_t count, int64_t timeout_ms)
{
	bool good = processes_wait(processes, count, timeout_ms);
	char *report = processes_report(processes, count);

	processes_fini(processes, count);
	if (!good)
		print_error("%s", report);
	free(report);
	if (!good)
		fail();
}
