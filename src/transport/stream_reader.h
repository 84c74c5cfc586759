/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking messages out of a stream of bytes. Pure: no sockets, locks or clocks, so that tests and fuzzers feed it as
 * they like. One thread at a time, but for `sequence`.
 *
 * Nothing a peer sends is trusted. A frame is checked as soon as its head and then its table are there; memory for a
 * storage is taken when its first chunk comes, so that what is taken never runs ahead of what came by more than one
 * storage a message.
 */
#ifndef TENDRIL_TRANSPORT_STREAM_READER_H
#define TENDRIL_TRANSPORT_STREAM_READER_H

#include "transport/transport.h"

#include <sys/uio.h>

/* What the bytes at the front of the buffer are waited for to be. */
enum stream_step {
	STREAM_HEAD,  /* a head */
	STREAM_TABLE, /* a message's head and the table of its storages' sizes */
	STREAM_FRAME, /* a message's whole frame */
	STREAM_CHUNK, /* a chunk's bytes, which go to their storage */
};

struct assembly; /* a message parts of which come in chunks */

struct stream_reader {
	const struct lane_limits *limits; /* borrowed; they may change between two messages */
	struct pool *pool;                /* borrowed */
	uint64_t sequence;                /* of the last message whose frame came */
	_Atomic uint64_t whole;           /* up to this one, all parts of all messages have come */
	uint64_t acknowledged;            /* the last of ours that the peer says it has */
	uint64_t incarnation;             /* the peer's, once `sequence` is not 0 */

	/* the buffer: bytes not consumed yet lie from `begin` to `end` */
	uint8_t *data;
	size_t room, begin, end;
	size_t wanted_room; /* what the traffic asks for */
	unsigned light;     /* reads in a row that a small buffer would have done for */

	enum stream_step step;
	struct message_head head; /* of the frame at the front, from STREAM_TABLE on */
	size_t need;              /* bytes of the buffer that the step takes; 0 in STREAM_CHUNK */
	bool apart;               /* STREAM_FRAME: parts of the message come in chunks */

	struct list assemblies; /* the one whose chunk came last is at the end */
	size_t nassemblies;
	struct assembly *filling; /* STREAM_CHUNK: whose chunk it is */
	uint8_t *fill_at;         /* where its next byte goes */
	size_t fill_left;

	/* the message given out last */
	struct assembly *given;
	tdr_storage **storages;
	size_t nstorages, storages_room;
};

void stream_reader_init(struct stream_reader *reader, struct pool *pool, const struct lane_limits *limits);
void stream_reader_fini(struct stream_reader *reader);

/* Where the next bytes go: fills one or two of `iov` and returns how many; 0 when memory runs out. */
int stream_reader_space(struct stream_reader *reader, struct iovec iov[2]);

/* `size` bytes have been put there. */
void stream_reader_take(struct stream_reader *reader, size_t size);

/*
 * The next message, valid until stream_reader_release, which must come before the next call. TDR_EAGAIN: more bytes are
 * needed. Every other status ends the stream: TDR_EPROTO, TDR_EVERSION, TDR_ELIMIT, TDR_ENOMEM, with a text.
 */
tdr_status stream_reader_next(struct stream_reader *reader, struct message *ret_message);
void stream_reader_release(struct stream_reader *reader);

/* Whether stream_reader_next can do something before more bytes come. */
bool stream_reader_more(const struct stream_reader *reader);

/* Whether the stream could end here: no frame has begun and no message lacks chunks. */
bool stream_reader_between(const struct stream_reader *reader);

#endif
