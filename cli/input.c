/* SPDX-License-Identifier: Apache-2.0 */
#include "input.h"

#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool input_open(struct input *input, const struct run_plan *plan)
{
	int ends[2];

	*input = (struct input){.to = -1, .from = -1};
	input->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (input->null < 0) {
		message("run: cannot open /dev/null: %s", strerror(errno));
		return false;
	}
	if (plan->stdin_rank == STDIN_NONE || !isatty(STDIN_FILENO))
		return true;
	if (pipe2(ends, O_CLOEXEC) < 0) {
		message("run: cannot make a pipe: %s", strerror(errno));
		return false;
	}
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	input->from = ends[0];
	input->to = ends[1];
	return true;
}

int input_of(const struct input *input, const struct run_plan *plan, int local_rank)
{
	if (local_rank != plan->stdin_rank)
		return input->null;
	return input->from >= 0 ? input->from : STDIN_FILENO;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void input_started(struct input *input)
{
	close_fd(&input->from);
}

int input_poll(const struct input *input, struct pollfd polled[INPUT_POLLED])
{
	if (input->to < 0)
		return 0;
	if (input->begin < input->end)
		polled[0] = (struct pollfd){.fd = input->to, .events = POLLOUT};
	else if (!input->paused)
		polled[0] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
	else
		polled[0] = (struct pollfd){.fd = input->to}; /* its reader's end alone */
	return 1;
}

static void read_terminal(struct input *input)
{
	ssize_t got;

	if (tcgetpgrp(STDIN_FILENO) != getpgrp()) {
		input->paused = true; /* to read now would stop us */
		return;
	}
	got = read(STDIN_FILENO, input->data, sizeof(input->data));
	if (got > 0) {
		input->begin = 0;
		input->end = (size_t)got;
	} else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
		close_fd(&input->to); /* the rank reads its end */
	}
}

static void write_pipe(struct input *input)
{
	ssize_t put = write(input->to, input->data + input->begin, input->end - input->begin);

	if (put >= 0)
		input->begin += (size_t)put;
	else if (errno != EINTR && errno != EAGAIN)
		close_fd(&input->to);
}

void input_work(struct input *input, const struct pollfd *polled)
{
	if (input->to < 0 || !polled->revents)
		return;
	if (polled->fd == STDIN_FILENO)
		read_terminal(input);
	else if (input->begin < input->end)
		write_pipe(input);
	else
		close_fd(&input->to);
}

void input_resume(struct input *input)
{
	input->paused = false;
}

void input_close(struct input *input)
{
	close_fd(&input->null);
	close_fd(&input->to);
	close_fd(&input->from);
}
