/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes over a stream of bytes: all that transports by tcp, TLS or the like have in common. Such a transport makes the
 * connection and moves bytes; states, framing, queueing, limits and the end are here.
 */
#ifndef TENDRIL_TRANSPORT_STREAM_LANE_H
#define TENDRIL_TRANSPORT_STREAM_LANE_H

#include "transport/stream_reader.h"
#include "transport/stream_writer.h"
#include "transport/transport.h"

#include <pthread.h>

/* X(name, text) */
#define STREAM_STATE_LIST(X)                                                                                           \
	X(STREAM_RETRYING, "retrying") /* no attempt to connect is under way: none has begun, or the last failed */    \
	X(STREAM_CONNECTING, "connecting") /* an attempt is under way */                                               \
	X(STREAM_OPEN, "open")                                                                                         \
	X(STREAM_FLUSHING, "flushing") /* lane_close was called, and what was queued is being written */               \
	X(STREAM_ENDING, "ending")     /* the peer has been told; its own end is awaited */                            \
	X(STREAM_CLOSED, "closed")

enum stream_state {
#define STREAM_STATE_ENUM(name, text) name,
	STREAM_STATE_LIST(STREAM_STATE_ENUM)
#undef STREAM_STATE_ENUM
};

enum stream_writing {
	WRITING_IDLE,    /* nobody writes: whoever adds something does */
	WRITING_BUSY,    /* a thread writes, and will find what is added */
	WRITING_BLOCKED, /* the stream takes no more, or does not stand yet: `ready` goes on */
	WRITING_BROKEN,  /* the peer takes no more; what it sent is still read */
};

struct stream_lane;

/* What a transport gives. Descriptors do not block. */
struct stream_ops {
	/*
	 * Begins the next attempt to connect, which may take until `ret_deadline_ms` (0: for ever): its descriptor.
	 * Where there is nothing left to try it calls stream_lane_fail and returns -1.
	 */
	int (*attempt)(struct stream_lane *stream, int64_t *ret_deadline_ms);
	/*
	 * The descriptor of an attempt is ready: 0 if the connection stands, EAGAIN if it takes longer, or why it
	 * failed.
	 */
	int (*connected)(struct stream_lane *stream);
	/* An attempt has failed, by `error`, or by ETIMEDOUT. */
	void (*failed)(struct stream_lane *stream, int error);
	/* As readv and writev: bytes, 0 at the end of the stream, -1 with errno (EAGAIN: not now). No signals. */
	ssize_t (*read)(struct stream_lane *stream, struct iovec *parts, int count);
	ssize_t (*write)(struct stream_lane *stream, struct iovec *parts, int count);
	/* Tells the peer that nothing more will be written. */
	void (*end)(struct stream_lane *stream);
	/* Frees the lane, after stream_lane_fini. */
	void (*free)(struct stream_lane *stream);
};

struct stream_lane {
	struct lane lane;
	const struct stream_ops *ops;
	int fd; /* -1: none */
	struct source source;
	struct timer timer;          /* of the attempt, or of the flush; holds a reference while it is set */
	struct task task;            /* tells `closed`, where that may not be done at once */
	struct stream_reader reader; /* belongs to whoever is in `ready` */
	_Atomic uint64_t messages_sent, messages_received, bytes_sent, bytes_received;

	/* Guards what follows. No system call is made with it but to watch a new connection and to set its timer. */
	pthread_mutex_t lock;
	_Atomic enum stream_state state; /* also read without the lock, to leave loops early */
	enum stream_state logged;        /* the state that the log was told of */
	enum stream_writing writing;
	struct stream_writer writer; /* its round belongs to whoever made `writing` BUSY */
	_Atomic uint32_t interest;   /* asked of the source */
	bool asking;                 /* a thread is asking */
	bool released;               /* no event will come any more */
	int64_t attempt_due_ms;      /* when the attempt is given up; 0: never */
	int64_t close_due_ms;        /* when the flush is given up; 0: lane_close has not been called */
	tdr_status status;           /* of the end, as are these: */
	bool refused;
	char text[256];
};

/* The lane has one reference, the transport's own. A lane that is never started is freed by lane_unref alone. */
void stream_lane_init(struct stream_lane *stream, const struct lane_config *config, const struct stream_ops *ops);

/* Closes the descriptor, too. */
void stream_lane_fini(struct stream_lane *stream);

/* Begins the first attempt. */
void stream_lane_connect(struct stream_lane *stream);

/* Starts a lane over an accepted connection; `connected` has yet to confirm it. Takes the descriptor over. */
void stream_lane_accept(struct stream_lane *stream, int fd);

/* Ends the lane: the first call counts. */
void stream_lane_fail(struct stream_lane *stream, tdr_status status, bool refused, const char *text);

static inline struct stream_lane *stream_of(struct lane *lane)
{
	return container_of(lane, struct stream_lane, lane);
}

#endif
