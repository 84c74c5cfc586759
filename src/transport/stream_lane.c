/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes over a stream: their states, how they open, and how they end. stream_io.c reads and writes.
 *
 * Design notes. stream_lane_fail settles how the lane ends and closes the source. Once the source is closed
 * (`released`) and nobody writes, the descriptor is closed and `closed` is told: at once, or by a task where we are
 * inside a call of the user's.
 */
#include "transport/stream_internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CLOSE_MS 1000 /* for a flush, and for the peer's end after it */

/* Inside lane_send, lane_close or the like, where no event may be told. */
static _Thread_local unsigned inside_call;

/* ---- states ---- */

static const char *const state_names[] = {
#define STREAM_STATE_NAME(name, text) [name] = (text),
    STREAM_STATE_LIST(STREAM_STATE_NAME)
#undef STREAM_STATE_NAME
};

static const unsigned state_successors[] = {
    [STREAM_RETRYING] = 1u << STREAM_CONNECTING | 1u << STREAM_CLOSED,
    [STREAM_CONNECTING] = 1u << STREAM_RETRYING | 1u << STREAM_OPEN | 1u << STREAM_FLUSHING | 1u << STREAM_CLOSED,
    [STREAM_OPEN] = 1u << STREAM_FLUSHING | 1u << STREAM_CLOSED,
    [STREAM_FLUSHING] = 1u << STREAM_ENDING | 1u << STREAM_CLOSED,
    [STREAM_ENDING] = 1u << STREAM_CLOSED,
    [STREAM_CLOSED] = 0,
};

void stream_set_state(struct stream_lane *stream, enum stream_state state)
{
	assert(state_successors[stream_state(stream)] & 1u << state);
	atomic_store_explicit(&stream->state, state, memory_order_relaxed);
}

void stream_lock(struct stream_lane *stream)
{
	pthread_mutex_lock(&stream->lock);
}

void stream_unlock(struct stream_lane *stream)
{
	enum stream_state before = stream->logged, state = stream_state(stream);

	stream->logged = state;
	pthread_mutex_unlock(&stream->lock);
	if (unlikely(before != state))
		LOG(TDR_LOG_DEBUG, "event=lane_state peer=%s before=%s state=%s", stream->lane.peer,
		    state_names[before], state_names[state]);
}

/* ---- the end ---- */

static void tell_closed(struct stream_lane *stream)
{
	struct lane *lane = &stream->lane;
	struct list done;
	bool was_set;

	list_init(&done);
	stream_lock(stream);
	was_set = timer_clear(lane->config.engine, &stream->timer);
	stream_writer_fini(&stream->writer, &done);
	stream_unlock(stream);
	stream_transfers_free(&done);
	stream_reader_fini(&stream->reader);
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
	if (was_set)
		lane_unref(lane);
	lane->config.events->closed(lane, lane->config.context, stream->status, stream->refused, stream->text);
	lane_unref(lane);
}

static void run_tell_closed(struct task *task)
{
	tell_closed(container_of(task, struct stream_lane, task));
}

void stream_settle_and_unlock(struct stream_lane *stream)
{
	bool over = stream_state(stream) == STREAM_CLOSED && stream->released && stream->writing != WRITING_BUSY;

	if (over)
		stream->writing = WRITING_BUSY; /* for good, so that this happens once */
	stream_unlock(stream);
	if (!over)
		return;
	if (inside_call)
		engine_defer(stream->lane.config.engine, &stream->task);
	else
		tell_closed(stream);
}

/* No event will come any more. */
static void release(struct stream_lane *stream)
{
	stream_lock(stream);
	stream->released = true;
	stream_settle_and_unlock(stream);
}

void stream_lane_fail(struct stream_lane *stream, tdr_status status, bool refused, const char *text)
{
	enum stream_state before;

	stream_lock(stream);
	before = stream_state(stream);
	if (before == STREAM_CLOSED) {
		stream_unlock(stream);
		return;
	}
	stream_set_state(stream, STREAM_CLOSED);
	/* Who has asked for the end does not care how it comes. */
	stream->status = stream->close_due_ms ? TDR_OK : status;
	stream->refused = refused && stream->status != TDR_OK;
	if (stream->status == TDR_OK)
		snprintf(stream->text, sizeof(stream->text), "the lane was closed here");
	else
		snprintf(stream->text, sizeof(stream->text), "%s", text);
	stream_unlock(stream);
	/* In RETRYING the source is closed, and whoever makes the next attempt finds out. */
	if (before != STREAM_RETRYING)
		source_close(&stream->source);
}

void stream_fail_errno(struct stream_lane *stream, const char *what, int error)
{
	char text[256];

	snprintf(text, sizeof(text), "%s %s: %s", what, stream->lane.peer, strerror(error));
	stream_lane_fail(stream, error == ENOMEM ? TDR_ENOMEM : TDR_EIO, false, text);
}

/* ---- the timer ---- */

/* With the lock held, as every setting: two at once would lose a reference. */
static void set_timer(struct stream_lane *stream)
{
	int64_t due = stream->attempt_due_ms;

	if (stream_state(stream) != STREAM_CONNECTING || (stream->close_due_ms && (!due || stream->close_due_ms < due)))
		due = stream->close_due_ms;
	if (timer_clear(stream->lane.config.engine, &stream->timer))
		lane_unref(&stream->lane); /* not the last: the transport has its own */
	if (due == 0)
		return;
	lane_ref(&stream->lane);
	timer_set(stream->lane.config.engine, &stream->timer, due);
}

static void attempt_failed(struct stream_lane *stream, int error);

static void timer_fired(struct timer *timer)
{
	struct stream_lane *stream = container_of(timer, struct stream_lane, timer);
	int64_t now = clock_ms();
	bool attempt_over, close_over;

	stream_lock(stream);
	close_over = stream->close_due_ms && now >= stream->close_due_ms;
	attempt_over =
	    stream_state(stream) == STREAM_CONNECTING && stream->attempt_due_ms && now >= stream->attempt_due_ms;
	stream_unlock(stream);
	if (close_over)
		stream_lane_fail(stream, TDR_OK, false, "");
	else if (attempt_over)
		attempt_failed(stream, ETIMEDOUT);
	lane_unref(&stream->lane);
}

/* ---- connecting ---- */

static bool stream_ready(struct source *source, unsigned turn);
static void stream_source_closed(struct source *source);

/* Watches the descriptor of an attempt. Called in RETRYING, by the one thread that makes attempts. */
static void watch_attempt(struct stream_lane *stream, int fd, int64_t deadline_ms)
{
	tdr_status status = TDR_OK;

	stream->fd = fd;
	stream_lock(stream);
	if (stream_state(stream) == STREAM_RETRYING) {
		stream_set_state(stream,
		                 STREAM_CONNECTING); /* before the source is open: `ready` may be entered at once */
		stream->interest = EPOLLIN | EPOLLOUT;
		stream->attempt_due_ms = deadline_ms;
		status = source_open(&stream->source, stream->lane.config.engine, fd, EPOLLIN | EPOLLOUT, stream_ready,
		                     stream_source_closed);
		if (!status) {
			set_timer(stream);
			stream_unlock(stream);
			return;
		}
		stream_set_state(stream, STREAM_RETRYING);
	}
	stream_unlock(stream);
	if (status)
		stream_lane_fail(stream, status, false, tdr_last_error());
	release(stream);
}

static void attempt(struct stream_lane *stream)
{
	int64_t deadline_ms = 0;
	int fd = stream_state(stream) == STREAM_RETRYING ? stream->ops->attempt(stream, &deadline_ms) : -1;

	if (fd >= 0)
		watch_attempt(stream, fd, deadline_ms);
	else
		release(stream);
}

/* The attempt under way has failed: the next begins once its source is closed. */
static void attempt_failed(struct stream_lane *stream, int error)
{
	bool mine;

	stream_lock(stream);
	mine = stream_state(stream) == STREAM_CONNECTING;
	if (mine)
		stream_set_state(stream, STREAM_RETRYING);
	stream_unlock(stream);
	if (!mine)
		return;
	stream->ops->failed(stream, error);
	source_close(&stream->source);
}

static void stream_source_closed(struct source *source)
{
	struct stream_lane *stream = container_of(source, struct stream_lane, source);

	if (stream_state(stream) == STREAM_RETRYING) {
		close(stream->fd);
		stream->fd = -1;
		attempt(stream);
	} else {
		release(stream);
	}
}

void stream_lane_connect(struct stream_lane *stream)
{
	inside_call++;
	attempt(stream);
	inside_call--;
}

void stream_lane_accept(struct stream_lane *stream, int fd)
{
	inside_call++;
	watch_attempt(stream, fd, 0);
	inside_call--;
}

/* The descriptor of an attempt is ready; true if the lane stands now. */
static bool finish_connecting(struct stream_lane *stream)
{
	struct lane *lane = &stream->lane;
	int error = stream->ops->connected(stream);
	enum stream_state state;

	if (error == EAGAIN)
		return false;
	if (error) {
		attempt_failed(stream, error);
		return false;
	}
	stream_lock(stream);
	if (stream_state(stream) == STREAM_CONNECTING) {
		stream_set_state(stream, stream->close_due_ms ? STREAM_FLUSHING : STREAM_OPEN);
		set_timer(stream);
	}
	state = stream_state(stream);
	stream_unlock(stream);
	atomic_store_explicit(&lane->received_ms, clock_ms(), memory_order_relaxed);
	if (state == STREAM_OPEN)
		lane->config.events->opened(lane, lane->config.context);
	return state == STREAM_OPEN || state == STREAM_FLUSHING;
}

/* ---- ready ---- */

static bool stream_ready(struct source *source, unsigned turn)
{
	struct stream_lane *stream = container_of(source, struct stream_lane, source);

	if (stream_state(stream) == STREAM_CONNECTING && !finish_connecting(stream))
		return false;
	if (stream->interest & EPOLLOUT) /* a hint alone, without the lock */
		stream_flush(stream, WRITING_BLOCKED);
	switch (stream_state(stream)) {
	case STREAM_OPEN:
		return stream_read_messages(stream, turn);
	case STREAM_FLUSHING:
	case STREAM_ENDING:
		return stream_read_to_the_end(stream);
	default:
		return false;
	}
}

/* ---- the lane's operations ---- */

static tdr_status stream_send(struct lane *lane, const struct message *message)
{
	tdr_status status;

	inside_call++;
	status = stream_send_message(stream_of(lane), message);
	inside_call--;
	return status;
}

static void stream_close(struct lane *lane, bool flush)
{
	struct stream_lane *stream = stream_of(lane);
	bool write;

	inside_call++;
	stream_lock(stream);
	if (stream_state(stream) == STREAM_CLOSED || (flush && stream->close_due_ms)) {
		stream_unlock(stream);
		inside_call--;
		return;
	}
	if (!stream->close_due_ms)
		stream->close_due_ms = deadline_after(CLOSE_MS);
	flush = flush && stream->writing != WRITING_BROKEN;
	if (flush) {
		if (stream_state(stream) == STREAM_OPEN)
			stream_set_state(stream, STREAM_FLUSHING);
		set_timer(stream);
	}
	write = flush && stream_take_writing(stream, WRITING_IDLE);
	if (write)
		stream_write_and_unlock(stream);
	else
		stream_unlock(stream);
	if (!flush)
		stream_lane_fail(stream, TDR_OK, false, "");
	inside_call--;
}

static struct source *stream_source(struct lane *lane)
{
	struct stream_lane *stream = stream_of(lane);

	return stream_state(stream) == STREAM_OPEN ? &stream->source : NULL;
}

static struct lane_stats stream_stats(struct lane *lane)
{
	struct stream_lane *stream = stream_of(lane);
	struct lane_stats stats = {
	    .messages_sent = atomic_load_explicit(&stream->messages_sent, memory_order_relaxed),
	    .messages_received = atomic_load_explicit(&stream->messages_received, memory_order_relaxed),
	    .bytes_sent = atomic_load_explicit(&stream->bytes_sent, memory_order_relaxed),
	    .bytes_received = atomic_load_explicit(&stream->bytes_received, memory_order_relaxed),
	};

	stream_lock(stream);
	stats.bytes_queued = stream->writer.queued;
	stream_unlock(stream);
	return stats;
}

static void stream_free(struct lane *lane)
{
	struct stream_lane *stream = stream_of(lane);

	stream->ops->free(stream);
}

static const struct lane_ops stream_lane_ops = {
    .send = stream_send,
    .close = stream_close,
    .source = stream_source,
    .stats = stream_stats,
    .free = stream_free,
};

/* ---- making and freeing ---- */

void stream_lane_init(struct stream_lane *stream, const struct lane_config *config, const struct stream_ops *ops)
{
	struct lane *lane = &stream->lane;

	lane->ops = &stream_lane_ops;
	refcount_init(&lane->refs);
	lane->config = *config;
	pool_ref(lane->config.pool);
	stream->ops = ops;
	stream->fd = -1;
	timer_init(&stream->timer, timer_fired);
	stream->task = (struct task){.run = run_tell_closed, .by_waiters = true};
	list_init(&stream->task.node);
	stream_reader_init(&stream->reader, config->pool, &lane->config.limits);
	stream_writer_init(&stream->writer);
	pthread_mutex_init(&stream->lock, NULL);
	atomic_init(&stream->state, STREAM_RETRYING);
	stream->logged = STREAM_RETRYING;
	stream->writing = WRITING_BLOCKED;
}

void stream_lane_fini(struct stream_lane *stream)
{
	struct list done;

	list_init(&done);
	stream_writer_fini(&stream->writer, &done);
	stream_transfers_free(&done);
	stream_reader_fini(&stream->reader);
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
	pool_unref(stream->lane.config.pool);
	pthread_mutex_destroy(&stream->lock);
}
