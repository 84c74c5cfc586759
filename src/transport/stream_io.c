/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing and reading of lanes over a stream.
 *
 * Design notes. Reading is done by whoever the engine put into `ready`, one thread at a time. Writing is done by
 * whoever comes first: lane_send adds to the queue, and writes it unless another thread does so already, which then
 * takes along what was added meanwhile. A thread that hands out several messages that came together keeps the answers
 * it is given to this lane until the last of them, so that they go out in one write.
 */
#include "transport/stream_internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>

#define TURN_MESSAGES 64      /* a fair share of one turn: messages given out, */
#define TURN_BYTES (1u << 20) /* and bytes read, or written */
#define CORKED_BYTES 65536    /* answers are kept up to so many bytes */

/* The lane whose answers this thread keeps for now. */
static _Thread_local struct stream_lane *corked;

/* ---- writing ---- */

/*
 * Has the source watch for what is wanted now. One thread asks at a time, or an old wish could come after a newer one.
 */
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
	    .acknowledged = atomic_load_explicit(&stream->reader.whole, memory_order_relaxed),
	    .credit = atomic_load_explicit(&stream->lane.credit, memory_order_relaxed),
	};
}

/* A write failed. Where the peer alone has gone, what it sent before is read first: it may say why. */
static enum stream_writing write_failed(struct stream_lane *stream, int error)
{
	if (error == EAGAIN || error == EWOULDBLOCK)
		return WRITING_BLOCKED;
	if (error != EPIPE && error != ECONNRESET)
		stream_fail_errno(stream, "cannot write to", error);
	return WRITING_BROKEN;
}

/*
 * Writes round after round until nothing is left, the stream takes no more, or a fair share is done: the caller may
 * have come for a small message, and is not to carry what others send for long. Called and left with the lock held.
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
void stream_write_and_unlock(struct stream_lane *stream)
{
	struct list done;
	enum stream_writing writing;
	bool broken, ask;

	list_init(&done);
	writing = write_rounds(stream, &done);
	if (writing == WRITING_IDLE && stream_state(stream) == STREAM_FLUSHING) {
		stream_set_state(stream, STREAM_ENDING);
		stream_unlock(stream);
		stream->ops->end(stream);
		stream_lock(stream);
	}
	stream->writing = writing;
	ask = (writing == WRITING_BLOCKED) != !!(stream->interest & EPOLLOUT);
	broken = writing == WRITING_BROKEN && stream->close_due_ms;
	stream_settle_and_unlock(stream);
	stream_transfers_free(&done);
	if (ask)
		ask_source(stream);
	if (broken)
		stream_lane_fail(stream, TDR_OK, false, "");
}

/* Whether the caller is to write; with the lock held. */
bool stream_take_writing(struct stream_lane *stream, enum stream_writing from)
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

tdr_status stream_send_message(struct stream_lane *stream, const struct message *message)
{
	struct stream_stamp stamp;
	struct stream_parcel parcel;
	tdr_status status = stream_writer_pack(message, &parcel);

	if (status)
		return status;
	stream_lock(stream);
	stamp = stamp_of(stream);
	if (stream_state(stream) > STREAM_OPEN || stream->close_due_ms || stream->writing == WRITING_BROKEN)
		status = lane_over(stream);
	else
		status = stream_writer_add(&stream->writer, &parcel, &stamp);
	if (!status)
		atomic_fetch_add_explicit(&stream->messages_sent, 1, memory_order_relaxed);
	if (!status && (corked != stream || stream->writer.queued >= CORKED_BYTES) &&
	    stream_take_writing(stream, WRITING_IDLE))
		stream_write_and_unlock(stream);
	else
		stream_unlock(stream);
	stream_parcel_drop(&parcel);
	return status;
}

/* Writes what is queued, where nobody does; `from`: IDLE, or BLOCKED to try again. */
void stream_flush(struct stream_lane *stream, enum stream_writing from)
{
	stream_lock(stream);
	if ((from == WRITING_BLOCKED || stream_writer_pending(&stream->writer)) && stream_take_writing(stream, from))
		stream_write_and_unlock(stream);
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
	if (stream->reader.acknowledged <= sent) {
		atomic_store_explicit(&stream->lane.arrived, stream->reader.acknowledged, memory_order_relaxed);
		return TDR_OK;
	}
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
		stream_fail_errno(stream, "cannot read from", errno);
	else
		end_of_stream(stream);
	return -1;
}

/* Reads and gives out messages; true if there may be more after a fair share. */
bool stream_read_messages(struct stream_lane *stream, unsigned turn)
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
bool stream_read_to_the_end(struct stream_lane *stream)
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
