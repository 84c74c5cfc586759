/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes over a stream.
 *
 * Design notes. Reading is done by whoever the engine put into `ready`, one thread at a time. Writing is done by whoever comes
 * first: lane_send adds to the queue, and writes it unless another thread does so already, which then takes along what was
 * added meanwhile. A thread that hands out several messages that came together keeps the answers it is given to this lane
 * until the last of them, so that they go out in one write.
 *
 * The end. stream_lane_fail settles how the lane ends and closes the source. Once the source is closed (`released`) and nobody
 * writes, the descriptor is closed and `closed` is told: at once, or by a task where we are inside a call of the user's.
 */
#include "transport/stream_lane.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CLOSE_MS 1000         /* for a flush, and for the peer's end after it */
#define TURN_MESSAGES 64      /* a fair share of one turn: messages given out, */
#define TURN_BYTES (1u << 20) /* and bytes read, or written */
#define CORKED_BYTES 65536    /* answers are kept up to so many bytes */

/* Inside lane_send, lane_close or the like, where no event may be told. */
static _Thread_local unsigned inside_call;

/* The lane whose answers this thread keeps for now. */
static _Thread_local struct stream_lane *corked;

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

static enum stream_state stream_state(const struct stream_lane *stream)
{
	return atomic_load_explicit(&stream->state, memory_order_relaxed);
}

/* With the lock held; stream_unlock logs the change, as nobody is called with a lock held. */
static void set_state(struct stream_lane *stream, enum stream_state state)
{
	assert(state_successors[stream_state(stream)] & 1u << state);
	atomic_store_explicit(&stream->state, state, memory_order_relaxed);
}

static void stream_lock(struct stream_lane *stream)
{
	pthread_mutex_lock(&stream->lock);
}

static void stream_unlock(struct stream_lane *stream)
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

/* Tells the end once nothing of the lane is in use; with the lock held, which is given up. The lane may be gone after it. */
static void settle_and_unlock(struct stream_lane *stream)
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
	settle_and_unlock(stream);
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
	set_state(stream, STREAM_CLOSED);
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

static void fail_errno(struct stream_lane *stream, const char *what, int error)
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
		set_state(stream, STREAM_CONNECTING); /* before the source is open: `ready` may be entered at once */
		stream->interest = EPOLLIN | EPOLLOUT;
		stream->attempt_due_ms = deadline_ms;
		status = source_open(&stream->source, stream->lane.config.engine, fd, EPOLLIN | EPOLLOUT, stream_ready,
		                     stream_source_closed);
		if (!status) {
			set_timer(stream);
			stream_unlock(stream);
			return;
		}
		set_state(stream, STREAM_RETRYING);
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
		set_state(stream, STREAM_RETRYING);
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
		set_state(stream, stream->close_due_ms ? STREAM_FLUSHING : STREAM_OPEN);
		set_timer(stream);
	}
	state = stream_state(stream);
	stream_unlock(stream);
	atomic_store_explicit(&lane->received_ms, clock_ms(), memory_order_relaxed);
	if (state == STREAM_OPEN)
		lane->config.events->opened(lane, lane->config.context);
	return state == STREAM_OPEN || state == STREAM_FLUSHING;
}

/* ---- writing ---- */

/* Has the source watch for what is wanted now. One thread asks at a time, or an old wish could come after a newer one. */
static void ask_source(struct stream_lane *stream)
{
	stream_lock(stream);
	while (!stream->asking) {
		uint32_t wanted = EPOLLIN | (stream->writing == WRITING_BLOCKED ? EPOLLOUT : 0);

		if (wanted == stream->interest || stream_state(stream) == STREAM_CLOSED)
			break;
		stream->interest = wanted;
		stream->asking = true;
		stream_unlock(stream);
		source_want(&stream->source, wanted);
		stream_lock(stream);
		stream->asking = false;
	}
	stream_unlock(stream);
}

static struct stream_stamp stamp_of(struct stream_lane *stream)
{
	return (struct stream_stamp){
	    .incarnation = stream->lane.config.incarnation,
	    .acknowledged = atomic_load_explicit(&stream->reader.sequence, memory_order_relaxed),
	    .credit = atomic_load_explicit(&stream->lane.credit, memory_order_relaxed),
	};
}

/* A write failed. Where the peer alone has gone, what it sent before is read first: it may say why. */
static enum stream_writing write_failed(struct stream_lane *stream, int error)
{
	if (error == EAGAIN || error == EWOULDBLOCK)
		return WRITING_BLOCKED;
	if (error != EPIPE && error != ECONNRESET)
		fail_errno(stream, "cannot write to", error);
	return WRITING_BROKEN;
}

/*
 * Writes round after round until nothing is left, the stream takes no more, or a fair share is done: the caller may have come for
 * a small message, and is not to carry what others send for long. Called and left with the lock held.
 */
static enum stream_writing write_rounds(struct stream_lane *stream, struct list *done)
{
	for (size_t bytes = 0; bytes < TURN_BYTES;) {
		struct stream_stamp stamp = stamp_of(stream);
		struct iovec *parts;
		ssize_t size;
		int count;

		if (stream_state(stream) == STREAM_CLOSED)
			return WRITING_IDLE;
		count = stream_writer_gather(&stream->writer, &stamp, &parts);
		if (count == 0)
			return WRITING_IDLE;
		stream_unlock(stream);
		stream_transfers_free(done);
		size = stream->ops->write(stream, parts, count);
		if (size < 0 && errno != EINTR) {
			enum stream_writing writing = write_failed(stream, errno);

			stream_lock(stream);
			return writing;
		}
		if (size > 0) {
			atomic_fetch_add_explicit(&stream->bytes_sent, (uint64_t)size, memory_order_relaxed);
			atomic_store_explicit(&stream->lane.sent_ms, clock_ms(), memory_order_relaxed);
		}
		stream_lock(stream);
		if (size > 0) {
			stream_writer_advance(&stream->writer, (size_t)size, done);
			bytes += (size_t)size;
		}
	}
	return stream_writer_pending(&stream->writer) ? WRITING_BLOCKED : WRITING_IDLE;
}

/* Writes what is queued; called with the lock held by whoever made `writing` BUSY. The lock is given up. */
static void write_and_unlock(struct stream_lane *stream)
{
	struct list done;
	enum stream_writing writing;
	bool broken, ask;

	list_init(&done);
	writing = write_rounds(stream, &done);
	if (writing == WRITING_IDLE && stream_state(stream) == STREAM_FLUSHING) {
		set_state(stream, STREAM_ENDING);
		stream_unlock(stream);
		stream->ops->end(stream);
		stream_lock(stream);
	}
	stream->writing = writing;
	ask = (writing == WRITING_BLOCKED) != !!(stream->interest & EPOLLOUT);
	broken = writing == WRITING_BROKEN && stream->close_due_ms;
	settle_and_unlock(stream);
	stream_transfers_free(&done);
	if (ask)
		ask_source(stream);
	if (broken)
		stream_lane_fail(stream, TDR_OK, false, "");
}

/* Whether the caller is to write; with the lock held. */
static bool take_writing(struct stream_lane *stream, enum stream_writing from)
{
	if (stream->writing != from || stream_state(stream) < STREAM_OPEN || stream_state(stream) == STREAM_CLOSED)
		return false;
	stream->writing = WRITING_BUSY;
	return true;
}

static tdr_status lane_over(struct stream_lane *stream)
{
	if (stream->text[0])
		return error_set(TDR_EIO, "the connection to %s is over: %s", stream->lane.peer, stream->text);
	return error_set(TDR_EIO, "the connection to %s is %s", stream->lane.peer,
	                 stream->writing == WRITING_BROKEN ? "broken" : "being closed");
}

static tdr_status stream_send(struct lane *lane, const struct message *message)
{
	struct stream_lane *stream = stream_of(lane);
	struct stream_stamp stamp;
	struct stream_parcel parcel;
	tdr_status status = stream_writer_pack(message, &parcel);

	if (status)
		return status;
	inside_call++;
	stream_lock(stream);
	stamp = stamp_of(stream);
	if (stream_state(stream) > STREAM_OPEN || stream->close_due_ms || stream->writing == WRITING_BROKEN)
		status = lane_over(stream);
	else
		status = stream_writer_add(&stream->writer, &parcel, &stamp);
	if (!status)
		atomic_fetch_add_explicit(&stream->messages_sent, 1, memory_order_relaxed);
	if (!status && (corked != stream || stream->writer.queued >= CORKED_BYTES) &&
	    take_writing(stream, WRITING_IDLE))
		write_and_unlock(stream);
	else
		stream_unlock(stream);
	inside_call--;
	stream_parcel_drop(&parcel);
	return status;
}

/* Writes what is queued, where nobody does; `from`: IDLE, or BLOCKED to try again. */
static void stream_flush(struct stream_lane *stream, enum stream_writing from)
{
	stream_lock(stream);
	if ((from == WRITING_BLOCKED || stream_writer_pending(&stream->writer)) && take_writing(stream, from))
		write_and_unlock(stream);
	else
		stream_unlock(stream);
}

/* ---- reading ---- */

/* The peer sent what it must not; this thread's last error says what. */
static void malformed(struct stream_lane *stream, tdr_status status)
{
	char text[sizeof(stream->text)];

	snprintf(text, sizeof(text), "from %s: %s", stream->lane.peer, tdr_last_error());
	LOG(TDR_LOG_WARN, "event=lane_malformed peer=%s status=%s error=\"%s\"", stream->lane.peer,
	    tdr_status_name(status), tdr_last_error());
	stream_lane_fail(stream, status, false, text);
}

/* The next message that is in the buffer; TDR_EAGAIN if there is none. */
static tdr_status next_message(struct stream_lane *stream, struct message *ret_message)
{
	tdr_status status = stream_reader_next(&stream->reader, ret_message);
	uint64_t sent;

	if (status)
		return status;
	atomic_fetch_add_explicit(&stream->messages_received, 1, memory_order_relaxed);
	sent = atomic_load_explicit(&stream->messages_sent, memory_order_relaxed);
	if (stream->reader.acknowledged <= sent)
		return TDR_OK;
	stream_reader_release(&stream->reader);
	return error_set(TDR_EPROTO, "message %" PRIu64 " is acknowledged, of %" PRIu64 " that were sent",
	                 stream->reader.acknowledged, sent);
}

/* Gives out the messages that are in the buffer, up to a turn's share. False: the lane is over. */
static bool give_out(struct stream_lane *stream, unsigned turn, unsigned *messages)
{
	struct lane *lane = &stream->lane;
	struct stream_lane *outer = corked;
	tdr_status status = TDR_OK;

	while (*messages < TURN_MESSAGES && stream_state(stream) == STREAM_OPEN) {
		struct message message;

		status = next_message(stream, &message);
		if (status)
			break;
		++*messages;
		corked = stream_reader_more(&stream->reader) ? stream : NULL;
		lane->config.events->message(lane, lane->config.context, &message, turn);
		corked = outer;
		stream_reader_release(&stream->reader);
	}
	if (status && status != TDR_EAGAIN)
		malformed(stream, status);
	else if (*messages > 0)
		stream_flush(stream, WRITING_IDLE);
	return stream_state(stream) == STREAM_OPEN;
}

/* The peer has ended the stream. */
static void end_of_stream(struct stream_lane *stream)
{
	char text[256];

	snprintf(text, sizeof(text), "%s closed the connection%s", stream->lane.peer,
	         stream_reader_between(&stream->reader) ? "" : " in the middle of a message");
	stream_lane_fail(stream, TDR_EIO, false, text);
}

/* One read; 0: nothing to be had for now, -1: the lane is over. `ret_full`: there may be more. */
static ssize_t read_some(struct stream_lane *stream, bool *ret_full)
{
	struct iovec parts[2];
	size_t space = 0;
	ssize_t size;
	int count = stream_reader_space(&stream->reader, parts);

	if (count == 0) {
		stream_lane_fail(stream, TDR_ENOMEM, false, "out of memory for what is received");
		return -1;
	}
	for (int i = 0; i < count; i++)
		space += parts[i].iov_len;
	do
		size = stream->ops->read(stream, parts, count);
	while (size < 0 && errno == EINTR);
	*ret_full = size == (ssize_t)space;
	if (size > 0) {
		stream_reader_take(&stream->reader, (size_t)size);
		stream->source.served++;
		atomic_fetch_add_explicit(&stream->bytes_received, (uint64_t)size, memory_order_relaxed);
		atomic_store_explicit(&stream->lane.received_ms, clock_ms(), memory_order_relaxed);
		return size;
	}
	if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (size < 0)
		fail_errno(stream, "cannot read from", errno);
	else
		end_of_stream(stream);
	return -1;
}

/* Reads and gives out messages; true if there may be more after a fair share. */
static bool read_messages(struct stream_lane *stream, unsigned turn)
{
	unsigned messages = 0;
	size_t bytes = 0;
	bool full = true;

	for (;;) {
		ssize_t size;

		if (!give_out(stream, turn, &messages))
			return false;
		if (messages >= TURN_MESSAGES || bytes >= TURN_BYTES)
			return true;
		if (!full)
			return false;
		size = read_some(stream, &full);
		if (size <= 0)
			return false;
		bytes += (size_t)size;
	}
}

/* Reads and forgets, so that closing the descriptor does not reset what the peer has yet to read. */
static bool read_to_the_end(struct stream_lane *stream)
{
	uint8_t scratch[16384];

	for (size_t bytes = 0; bytes < TURN_BYTES;) {
		struct iovec part = {scratch, sizeof(scratch)};
		ssize_t size = stream->ops->read(stream, &part, 1);

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return false;
		if (size <= 0) {
			stream_lane_fail(stream, TDR_OK, false, "");
			return false;
		}
		bytes += (size_t)size;
	}
	return true;
}

static bool stream_ready(struct source *source, unsigned turn)
{
	struct stream_lane *stream = container_of(source, struct stream_lane, source);

	if (stream_state(stream) == STREAM_CONNECTING && !finish_connecting(stream))
		return false;
	if (stream->interest & EPOLLOUT) /* a hint alone, without the lock */
		stream_flush(stream, WRITING_BLOCKED);
	switch (stream_state(stream)) {
	case STREAM_OPEN:
		return read_messages(stream, turn);
	case STREAM_FLUSHING:
	case STREAM_ENDING:
		return read_to_the_end(stream);
	default:
		return false;
	}
}

/* ---- the lane's other operations ---- */

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
			set_state(stream, STREAM_FLUSHING);
		set_timer(stream);
	}
	write = flush && take_writing(stream, WRITING_IDLE);
	if (write)
		write_and_unlock(stream);
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
	atomic_init(&lane->references, 1);
	lane->config = *config;
	pool_ref(lane->config.pool);
	stream->ops = ops;
	stream->fd = -1;
	timer_init(&stream->timer, timer_fired);
	list_init(&stream->task.node);
	stream->task.run = run_tell_closed;
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
