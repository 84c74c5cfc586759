/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of what is to be written to a stream. Pure, as the reader is. Whoever writes takes it in rounds: all small
 * frames there are, then some chunks, so that a small message waits behind one round of chunks at most. Few transfers
 * are under way at once, and take turns; the others wait, so that the receiver has few messages to put together.
 *
 * All functions are called under one lock of the owner's, but for pack, drop and stream_transfers_free. What gather
 * returns stays put until advance, without the lock, so that one thread can write it while others add.
 */
#ifndef TENDRIL_TRANSPORT_STREAM_WRITER_H
#define TENDRIL_TRANSPORT_STREAM_WRITER_H

#include "base/buffer.h"
#include "base/list.h"
#include "transport/message.h"

#include <sys/uio.h>

#define STREAM_INLINE_MAX 65536  /* bytes of body, and of storages, that ride in the frame; the rest goes in chunks */
#define STREAM_CHUNK_SIZE 524288 /* bytes of chunks in a round: what is written at once */
#define STREAM_ROUND_CHUNKS 8    /* chunks in a round, where they are small; and transfers that begin in it */
#define STREAM_TRANSFERS_MAX 16  /* under way at once */
#define STREAM_ROUND_PARTS (1 + 3 * STREAM_ROUND_CHUNKS)

struct transfer; /* the parts of a message that go in chunks */

/* A message made ready to be added. */
struct stream_parcel {
	const struct message *message;
	struct transfer *transfer; /* NULL: all of it is inline */
	uint8_t layout;
	size_t frame_size;
};

struct stream_writer {
	struct buffer out;                      /* frames for the next round */
	struct buffer sending;                  /* frames of this round */
	struct list waiting;                    /* transfers that have not begun */
	struct list transfers;                  /* that have, and whose chunks are to be sent in turns */
	struct list ending;                     /* whose last chunk is in this round */
	size_t ntransfers;                      /* begun, and not over */
	size_t queued;                          /* bytes of frames and of parts in chunks that are not written yet */
	uint64_t sequence;                      /* of the last message whose frame has its place on the wire */
	struct iovec round[STREAM_ROUND_PARTS]; /* frames; frames of transfers that begin; heads and bytes of chunks */
	int round_at, round_end;                /* not written yet */
	uint32_t uncounted;                     /* bits of the parts that `queued` does not count: chunks' heads */
	uint8_t heads[STREAM_ROUND_CHUNKS][MESSAGE_HEAD_SIZE];
};

/* What goes into every head, chunks' too. */
struct stream_stamp {
	uint64_t incarnation;
	uint64_t acknowledged;
	uint64_t credit;
};

void stream_writer_init(struct stream_writer *writer);

/* Drops what was not written; transfers go to `ret_done`, for stream_transfers_free. */
void stream_writer_fini(struct stream_writer *writer, struct list *ret_done);

/*
 * Decides what goes inline, and copies a large body. The message must outlive the parcel. Errors: TDR_ELIMIT,
 * TDR_ENOMEM.
 */
tdr_status stream_writer_pack(const struct message *message, struct stream_parcel *ret_parcel);
void stream_parcel_drop(struct stream_parcel *parcel);

/* Adds a parcel, which is used up on success. Errors: TDR_ENOMEM. */
tdr_status stream_writer_add(struct stream_writer *writer, struct stream_parcel *parcel,
                             const struct stream_stamp *stamp);

/* Whether there is something to write. */
bool stream_writer_pending(const struct stream_writer *writer);

/* What is to be written next, as `ret_parts`; returns how many parts, 0 for nothing. */
int stream_writer_gather(struct stream_writer *writer, const struct stream_stamp *stamp, struct iovec **ret_parts);

/* `size` bytes of it have been written. Transfers that are over go to `ret_done`. */
void stream_writer_advance(struct stream_writer *writer, size_t size, struct list *ret_done);

/* Frees transfers, which may run deleters of storages: with no lock held. */
void stream_transfers_free(struct list *done);

#endif
