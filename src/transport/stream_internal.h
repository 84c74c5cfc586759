/* SPDX-License-Identifier: Apache-2.0 */
/* What stream_lane.c (a lane's life) and stream_io.c (what it reads and writes) share. */
#ifndef TENDRIL_TRANSPORT_STREAM_INTERNAL_H
#define TENDRIL_TRANSPORT_STREAM_INTERNAL_H

#include "transport/stream_lane.h"

/* ---- stream_lane.c ---- */

static inline enum stream_state stream_state(const struct stream_lane *stream)
{
	return atomic_load_explicit(&stream->state, memory_order_relaxed);
}

void stream_lock(struct stream_lane *stream);

/* Logs a change of the state, too, since nobody is called with a lock held. */
void stream_unlock(struct stream_lane *stream);

/* With the lock held. */
void stream_set_state(struct stream_lane *stream, enum stream_state state);

/*
 * Tells the end once nothing of the lane is in use; with the lock held, which is given up. The lane may be gone after
 * it.
 */
void stream_settle_and_unlock(struct stream_lane *stream);

/* stream_lane_fail for a system call: "`what` PEER: strerror(error)". */
void stream_fail_errno(struct stream_lane *stream, const char *what, int error);

/* ---- stream_io.c ---- */

tdr_status stream_send_message(struct stream_lane *stream, const struct message *message);

/* Makes `writing` BUSY if it is `from`: the caller is to call stream_write_and_unlock, then. With the lock held. */
bool stream_take_writing(struct stream_lane *stream, enum stream_writing from);

/* Writes what is queued; called with the lock held by whoever made `writing` BUSY. The lock is given up. */
void stream_write_and_unlock(struct stream_lane *stream);

/* Writes what is queued, where nobody does; `from`: IDLE, or BLOCKED to try again. */
void stream_flush(struct stream_lane *stream, enum stream_writing from);

/* Reads and gives out messages; true if there may be more after a fair share. */
bool stream_read_messages(struct stream_lane *stream, unsigned turn);

/* Reads and forgets; true as above. */
bool stream_read_to_the_end(struct stream_lane *stream);

#endif
