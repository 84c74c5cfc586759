/* SPDX-License-Identifier: Apache-2.0 */
#include "output.h"

#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_SIZE 65536
#define LINE_LIMIT (1 << 20)  /* a longer line is cut here, and goes on in the next */
#define QUEUE_LIMIT (1 << 20) /* with more than this queued, ranks are not read from */
#define EVENTS 32

/* ---- sinks ---- */

/*
 * Setting O_NONBLOCK on the descriptor that we were given would set it for all who share it, the shell too. Pipes and
 * terminals can be opened again; a file never blocks for long; with what is left (a socket) we do wait for the
 * reader.
 */
static void reopen(struct sink *sink)
{
	char path[64];
	struct stat facts;
	int fd;

	if (fstat(sink->fd, &facts) < 0 || (!S_ISFIFO(facts.st_mode) && !isatty(sink->fd)))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", sink->fd);
	fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return;
	sink->fd = fd;
	sink->reopened = true;
}

static bool wants_color(enum color_mode mode, int fd)
{
	const char *forbidden = getenv("NO_COLOR"), *terminal = getenv("TERM");

	if (mode != COLOR_AUTO)
		return mode == COLOR_ALWAYS;
	return isatty(fd) && !(forbidden && *forbidden) && !(terminal && strcmp(terminal, "dumb") == 0);
}

static bool sink_open(struct sink *sink, int fd, enum color_mode mode)
{
	*sink = (struct sink){.fd = fd, .color = wants_color(mode, fd), .sources = epoll_create1(EPOLL_CLOEXEC)};
	if (sink->sources < 0) {
		message("run: cannot make an epoll set: %s", strerror(errno));
		return false;
	}
	reopen(sink);
	return true;
}

static void sink_add(struct sink *sink, const char *data, size_t size)
{
	if (sink->broken || size == 0)
		return;
	if (sink->room - sink->end < size && sink->begin > 0) {
		memmove(sink->data, sink->data + sink->begin, sink->end - sink->begin);
		sink->end -= sink->begin;
		sink->begin = 0;
	}
	if (sink->room - sink->end < size) {
		size_t room = (sink->end + size) * 2;

		sink->data = need(realloc(sink->data, room));
		sink->room = room;
	}
	memcpy(sink->data + sink->end, data, size);
	sink->end += size;
}

static bool sink_is_full(const struct sink *sink)
{
	return sink->end - sink->begin >= QUEUE_LIMIT;
}

static void sink_write(struct sink *sink)
{
	while (sink->begin < sink->end) {
		ssize_t written = write(sink->fd, sink->data + sink->begin, sink->end - sink->begin);

		if (written >= 0) {
			sink->begin += (size_t)written;
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR) {
			sink->broken = true;
			if (errno != EPIPE)
				message("run: cannot write: %s", strerror(errno));
			break;
		}
	}
	sink->begin = sink->end = 0;
}

/* ---- streams ---- */

static void emit(struct stream *stream, const char *data, size_t size)
{
	sink_add(stream->sink, stream->prefix, stream->prefix_size);
	sink_add(stream->sink, stream->line, stream->size);
	sink_add(stream->sink, data, size);
	stream->size = 0;
}

static void keep(struct stream *stream, const char *data, size_t size)
{
	if (stream->room - stream->size < size) {
		size_t room = (stream->size + size) * 2;

		stream->line = need(realloc(stream->line, room));
		stream->room = room;
	}
	memcpy(stream->line + stream->size, data, size);
	stream->size += size;
}

static void stream_take(struct stream *stream, const char *data, size_t size)
{
	const char *end = data + size;

	while (data < end) {
		const char *newline = memchr(data, '\n', (size_t)(end - data));

		if (newline) {
			emit(stream, data, (size_t)(newline + 1 - data));
			data = newline + 1;
			continue;
		}
		keep(stream, data, (size_t)(end - data));
		if (stream->size >= LINE_LIMIT)
			emit(stream, "\n", 1);
		return;
	}
}

static void stream_close(struct stream *stream)
{
	if (stream->fd < 0)
		return;
	if (stream->size > 0)
		emit(stream, "\n", 1);
	close(stream->fd);
	stream->fd = -1;
	stream->sink->open--;
	free(stream->line);
	stream->line = NULL;
	stream->room = 0;
}

static void stream_read(struct stream *stream)
{
	char data[READ_SIZE];
	ssize_t got = read(stream->fd, data, stream->left < sizeof(data) ? stream->left : sizeof(data));

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got > 0) {
		stream_take(stream, data, (size_t)got);
		if (stream->left != SIZE_MAX)
			stream->left -= (size_t)got;
	}
	if (got <= 0 || stream->left == 0)
		stream_close(stream);
}

static void sink_read(struct sink *sink)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(sink->sources, events, EVENTS, 0);

	for (int i = 0; i < count && !sink_is_full(sink); i++)
		stream_read(events[i].data.ptr);
}

/* ---- all of it ---- */

static bool same_file(int a, int b)
{
	struct stat first, second;

	return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
	       first.st_ino == second.st_ino;
}

bool output_open(struct output *output, const struct run_plan *plan)
{
	*output = (struct output){.nsinks = 1};
	if (!sink_open(&output->sinks[0], STDOUT_FILENO, plan->color))
		return false;
	if (!same_file(STDOUT_FILENO, STDERR_FILENO)) {
		if (!sink_open(&output->sinks[1], STDERR_FILENO, plan->color))
			return false;
		output->nsinks = 2;
	}
	output->nstreams = (size_t)plan->ranks * 2;
	output->streams = need(calloc(output->nstreams, sizeof(*output->streams)));
	for (size_t i = 0; i < output->nstreams; i++)
		output->streams[i].fd = -1;
	return true;
}

static void set_prefix(struct stream *stream, int rank)
{
	static const int colors[] = {36, 33, 32, 35, 34, 96, 93, 92, 95, 94};
	int color = colors[(size_t)rank % (sizeof(colors) / sizeof(colors[0]))];
	int size = stream->sink->color ? snprintf(stream->prefix, PREFIX_SIZE, "\033[%dm[%d]\033[0m ", color, rank)
	                               : snprintf(stream->prefix, PREFIX_SIZE, "[%d] ", rank);

	stream->prefix_size = (size_t)size;
}

bool output_pipes(struct output *output, const struct run_plan *plan, int local_rank, int ret_fds[2])
{
	ret_fds[0] = ret_fds[1] = -1;
	for (int i = 0; i < 2; i++) {
		struct stream *stream = &output->streams[2 * local_rank + i];
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = stream};
		int ends[2];

		if (pipe2(ends, O_CLOEXEC) < 0)
			goto fail;
		ret_fds[i] = ends[1];
		stream->fd = ends[0];
		stream->left = SIZE_MAX;
		stream->sink = &output->sinks[i < output->nsinks ? i : 0];
		stream->sink->open++;
		if (plan->prefix)
			set_prefix(stream, plan->first_rank + local_rank);
		if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ||
		    epoll_ctl(stream->sink->sources, EPOLL_CTL_ADD, ends[0], &event) < 0)
			goto fail;
	}
	return true;
fail:
	message("run: cannot make a pipe for rank %d: %s", plan->first_rank + local_rank, strerror(errno));
	for (int i = 0; i < 2; i++)
		if (ret_fds[i] >= 0)
			close(ret_fds[i]);
	return false;
}

int output_poll(const struct output *output, struct pollfd polled[OUTPUT_POLLED])
{
	int count = 0;

	for (int i = 0; i < output->nsinks; i++) {
		const struct sink *sink = &output->sinks[i];

		if (sink->begin < sink->end)
			polled[count++] = (struct pollfd){.fd = sink->fd, .events = POLLOUT};
		if (sink->open > 0 && !sink_is_full(sink))
			polled[count++] = (struct pollfd){.fd = sink->sources, .events = POLLIN};
	}
	return count;
}

/* Who writes to nobody is told so, as without us: by SIGPIPE. */
static void close_broken(struct output *output)
{
	for (size_t i = 0; i < output->nstreams; i++)
		if (output->streams[i].fd >= 0 && output->streams[i].sink->broken)
			stream_close(&output->streams[i]);
}

void output_work(struct output *output)
{
	bool broken = false;

	for (int i = 0; i < output->nsinks; i++) {
		struct sink *sink = &output->sinks[i];

		if (sink->open > 0 && !sink_is_full(sink))
			sink_read(sink);
		sink_write(sink);
		broken = broken || (sink->broken && sink->open > 0);
	}
	if (broken)
		close_broken(output);
}

void output_drain(struct output *output)
{
	for (size_t i = 0; i < output->nstreams; i++) {
		struct stream *stream = &output->streams[i];
		int left;

		if (stream->fd < 0)
			continue;
		stream->left = ioctl(stream->fd, FIONREAD, &left) == 0 && left > 0 ? (size_t)left : 0;
		if (stream->left == 0)
			stream_close(stream);
	}
}

bool output_done(const struct output *output)
{
	for (int i = 0; i < output->nsinks; i++)
		if (output->sinks[i].open > 0 || output->sinks[i].begin < output->sinks[i].end)
			return false;
	return true;
}

void output_discard(struct output *output)
{
	for (int i = 0; i < output->nsinks; i++)
		output->sinks[i].broken = true;
	for (size_t i = 0; i < output->nstreams; i++)
		stream_close(&output->streams[i]);
	for (int i = 0; i < output->nsinks; i++)
		output->sinks[i].begin = output->sinks[i].end = 0;
}

void output_message(void *context, const char *line, size_t size)
{
	struct output *output = context;

	sink_add(&output->sinks[output->nsinks - 1], line, size);
}

void output_close(struct output *output)
{
	for (size_t i = 0; i < output->nstreams; i++)
		stream_close(&output->streams[i]);
	for (int i = 0; i < output->nsinks; i++) {
		struct sink *sink = &output->sinks[i];

		free(sink->data);
		close(sink->sources);
		if (sink->reopened)
			close(sink->fd);
	}
	free(output->streams);
}
