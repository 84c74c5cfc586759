/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of a stream: what goes inline, frames, and rounds. */
#include "transport/stream_writer.h"

#include "base/error.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>

#define KEPT_ROOM 16384 /* of an empty buffer */

struct piece {
	tdr_storage *storage;
	uint32_t number; /* of the storage; that of the body is the count of storages */
};

struct transfer {
	struct list node;
	struct message_head head; /* its sequence is settled when the transfer begins */
	uint8_t *frame;           /* inside this allocation */
	size_t frame_size;
	size_t bytes;  /* of all pieces */
	size_t at;     /* the piece under way */
	size_t offset; /* bytes of it that are in rounds already */
	size_t npieces;
	struct piece pieces[]; /* then comes the frame */
};

static void transfer_free(struct transfer *transfer)
{
	if (!transfer)
		return;
	for (size_t i = 0; i < transfer->npieces; i++)
		tdr_storage_unref(transfer->pieces[i].storage);
	free(transfer);
}

void stream_transfers_free(struct list *done)
{
	struct list *node;

	while ((node = list_shift(done)))
		transfer_free(list_entry(node, struct transfer, node));
}

void stream_writer_init(struct stream_writer *writer)
{
	*writer = (struct stream_writer){0};
	list_init(&writer->waiting);
	list_init(&writer->transfers);
	list_init(&writer->ending);
}

void stream_writer_fini(struct stream_writer *writer, struct list *ret_done)
{
	list_splice(ret_done, &writer->waiting);
	list_splice(ret_done, &writer->transfers);
	list_splice(ret_done, &writer->ending);
	writer->ntransfers = 0;
	buffer_fini(&writer->out);
	buffer_fini(&writer->sending);
	writer->round_at = writer->round_end = 0;
	writer->queued = 0;
}

/* ---- packing ---- */

/* Which storages ride in the frame: in turn, each that fits into what is `left` of STREAM_INLINE_MAX. */
static bool fits_inline(size_t *left, size_t nbytes)
{
	if (nbytes > *left)
		return false;
	*left -= ROUND_UP(nbytes, (size_t)MESSAGE_STORAGE_ALIGN);
	return true;
}

static struct message_head head_of(const struct message *message, uint8_t layout)
{
	return (struct message_head){
	    .version = MESSAGE_VERSION,
	    .type = message->type,
	    .flags = message->flags,
	    .layout = layout,
	    .body_size = (uint32_t)message->body_size,
	    .nstorages = (uint32_t)message->nstorages,
	    .call_id = message->call_id,
	    .time_left_ms = message->time_left_ms,
	};
}

/* Writes a frame but for its head: the table, the body, the inline storages. */
static void write_frame(const struct message *message, uint8_t layout, uint8_t *frame)
{
	size_t at = MESSAGE_HEAD_SIZE + message->nstorages * sizeof(uint64_t);
	size_t left = STREAM_INLINE_MAX;

	if (!(layout & MESSAGE_BODY_APART) && message->body_size > 0) {
		memcpy(frame + at, message->body, message->body_size);
		at += message->body_size;
	}
	for (size_t i = 0; i < message->nstorages; i++) {
		size_t nbytes = tdr_storage_nbytes(message->storages[i]), begin;
		bool fits = fits_inline(&left, nbytes);
		uint64_t entry = htole64(nbytes | (fits ? 0 : MESSAGE_STORAGE_APART));

		memcpy(frame + MESSAGE_HEAD_SIZE + i * sizeof(entry), &entry, sizeof(entry));
		if (!fits)
			continue;
		begin = ROUND_UP(at, (size_t)MESSAGE_STORAGE_ALIGN);
		memset(frame + at, 0, begin - at);
		if (nbytes > 0)
			memcpy(frame + begin, tdr_storage_data(message->storages[i]), nbytes);
		at = begin + nbytes;
	}
}

static tdr_status copy_body(const struct message *message, tdr_storage **ret_storage)
{
	tdr_status status = tdr_storage_new(message->body_size, ret_storage);

	if (status)
		return status;
	memcpy(tdr_storage_data(*ret_storage), message->body, message->body_size);
	return TDR_OK;
}

/* A transfer of the `count` parts that do not ride in the frame. */
static tdr_status make_transfer(const struct message *message, size_t count, const struct stream_parcel *parcel,
                                struct transfer **ret_transfer)
{
	size_t frame_at = sizeof(struct transfer) + count * sizeof(struct piece);
	struct transfer *transfer = calloc(1, frame_at + parcel->frame_size);
	size_t left = STREAM_INLINE_MAX;

	if (!transfer)
		return error_nomem();
	list_init(&transfer->node);
	transfer->head = head_of(message, parcel->layout);
	transfer->frame = (uint8_t *)transfer + frame_at;
	transfer->frame_size = parcel->frame_size;
	write_frame(message, parcel->layout, transfer->frame);
	for (size_t i = 0; i < message->nstorages; i++) {
		size_t nbytes = tdr_storage_nbytes(message->storages[i]);

		if (fits_inline(&left, nbytes))
			continue;
		transfer->pieces[transfer->npieces++] =
		    (struct piece){tdr_storage_ref(message->storages[i]), (uint32_t)i};
		transfer->bytes += nbytes;
	}
	if (parcel->layout & MESSAGE_BODY_APART) {
		struct piece *piece = &transfer->pieces[transfer->npieces];
		tdr_status status = copy_body(message, &piece->storage);

		if (status) {
			transfer_free(transfer);
			return status;
		}
		piece->number = (uint32_t)message->nstorages;
		transfer->npieces++;
		transfer->bytes += message->body_size;
	}
	assert(transfer->npieces == count);
	*ret_transfer = transfer;
	return TDR_OK;
}

tdr_status stream_writer_pack(const struct message *message, struct stream_parcel *ret_parcel)
{
	bool body_apart = message->body_size > STREAM_INLINE_MAX;
	size_t left = STREAM_INLINE_MAX;
	size_t frame, apart = body_apart;

	assert(message_type_name(message->type) && message->type != MESSAGE_CHUNK);
	if (message->body_size > UINT32_MAX)
		return error_set(TDR_ELIMIT, "a message with a body of %zu bytes, past the limit of %" PRIu32,
		                 message->body_size, UINT32_MAX);
	if (message->nstorages > MESSAGE_FRAME_MAX / sizeof(uint64_t))
		return error_set(TDR_ELIMIT, "a message with %zu storages, past what a frame can hold",
		                 message->nstorages);
	frame = MESSAGE_HEAD_SIZE + message->nstorages * sizeof(uint64_t) + (body_apart ? 0 : message->body_size);
	for (size_t i = 0; i < message->nstorages; i++) {
		size_t nbytes = tdr_storage_nbytes(message->storages[i]);

		if (fits_inline(&left, nbytes))
			frame = ROUND_UP(frame, (size_t)MESSAGE_STORAGE_ALIGN) + nbytes;
		else
			apart++;
	}
	if (frame > MESSAGE_FRAME_MAX)
		return error_set(TDR_ELIMIT, "a message with %zu storages, past what a frame can hold",
		                 message->nstorages);
	*ret_parcel = (struct stream_parcel){
	    .message = message, .layout = body_apart ? MESSAGE_BODY_APART : 0, .frame_size = frame};
	return apart > 0 ? make_transfer(message, apart, ret_parcel, &ret_parcel->transfer) : TDR_OK;
}

void stream_parcel_drop(struct stream_parcel *parcel)
{
	transfer_free(TAKE_PTR(parcel->transfer));
}

/* ---- adding ---- */

/* Gives a frame its place on the wire: the next sequence. */
static void stamp_frame(struct stream_writer *writer, struct message_head *head, const struct stream_stamp *stamp,
                        uint8_t *frame)
{
	head->incarnation = stamp->incarnation;
	head->sequence = ++writer->sequence;
	head->acknowledged = stamp->acknowledged;
	head->credit = stamp->credit;
	message_head_write(head, frame);
}

tdr_status stream_writer_add(struct stream_writer *writer, struct stream_parcel *parcel,
                             const struct stream_stamp *stamp)
{
	struct transfer *transfer = TAKE_PTR(parcel->transfer);
	struct message_head head;
	uint8_t *frame;

	if (transfer) {
		writer->queued += transfer->frame_size + transfer->bytes;
		list_append(&writer->waiting, &transfer->node);
		return TDR_OK;
	}
	frame = buffer_reserve(&writer->out, parcel->frame_size);
	if (!frame) {
		writer->out.failed = false;
		return error_nomem();
	}
	head = head_of(parcel->message, parcel->layout);
	stamp_frame(writer, &head, stamp, frame);
	write_frame(parcel->message, parcel->layout, frame);
	writer->out.size += parcel->frame_size;
	writer->queued += parcel->frame_size;
	return TDR_OK;
}

/* ---- rounds ---- */

bool stream_writer_pending(const struct stream_writer *writer)
{
	return writer->round_at < writer->round_end || writer->out.size > 0 || !list_empty(&writer->transfers) ||
	       !list_empty(&writer->waiting);
}

static void add_part(struct stream_writer *writer, void *data, size_t size)
{
	writer->round[writer->round_end++] = (struct iovec){data, size};
}

/* Begins transfers that wait: their frames follow those of small messages, which have earlier sequences. */
static void begin_transfers(struct stream_writer *writer, const struct stream_stamp *stamp)
{
	for (int begun = 0; begun < STREAM_ROUND_CHUNKS && writer->ntransfers < STREAM_TRANSFERS_MAX; begun++) {
		struct list *node = list_shift(&writer->waiting);
		struct transfer *transfer;

		if (!node)
			return;
		transfer = list_entry(node, struct transfer, node);
		stamp_frame(writer, &transfer->head, stamp, transfer->frame);
		add_part(writer, transfer->frame, transfer->frame_size);
		list_append(&writer->transfers, &transfer->node);
		writer->ntransfers++;
	}
}

/* Puts the next chunk of a transfer, of up to `most` bytes, into the round; returns its bytes. */
static size_t add_chunk(struct stream_writer *writer, struct transfer *transfer, size_t most,
                        const struct stream_stamp *stamp, uint8_t *head)
{
	struct piece *piece = &transfer->pieces[transfer->at];
	size_t nbytes = tdr_storage_nbytes(piece->storage);
	size_t size = MIN_OF(most, nbytes - transfer->offset);
	struct message_head fields = {
	    .version = MESSAGE_VERSION,
	    .type = MESSAGE_CHUNK,
	    .body_size = (uint32_t)size,
	    .nstorages = piece->number,
	    .call_id = transfer->offset,
	    .incarnation = stamp->incarnation,
	    .sequence = transfer->head.sequence,
	    .acknowledged = stamp->acknowledged,
	    .credit = stamp->credit,
	};

	message_head_write(&fields, head);
	writer->uncounted |= UINT32_C(1) << writer->round_end;
	add_part(writer, head, MESSAGE_HEAD_SIZE);
	add_part(writer, (char *)tdr_storage_data(piece->storage) + transfer->offset, size);
	transfer->offset += size;
	if (transfer->offset == nbytes) {
		transfer->at++;
		transfer->offset = 0;
	}
	list_remove(&transfer->node);
	list_append(transfer->at < transfer->npieces ? &writer->transfers : &writer->ending, &transfer->node);
	return size;
}

static void begin_round(struct stream_writer *writer, const struct stream_stamp *stamp)
{
	struct buffer empty = writer->sending;
	size_t left = STREAM_CHUNK_SIZE;

	empty.size = 0;
	if (empty.room > KEPT_ROOM)
		buffer_fini(&empty);
	writer->sending = writer->out;
	writer->out = empty;
	writer->round_at = writer->round_end = 0;
	writer->uncounted = 0;
	if (writer->sending.size > 0)
		add_part(writer, writer->sending.data, writer->sending.size);
	begin_transfers(writer, stamp);
	for (int i = 0; i < STREAM_ROUND_CHUNKS && left > 0 && !list_empty(&writer->transfers); i++)
		left -= add_chunk(writer, list_entry(writer->transfers.next, struct transfer, node), left, stamp,
		                  writer->heads[i]);
}

int stream_writer_gather(struct stream_writer *writer, const struct stream_stamp *stamp, struct iovec **ret_parts)
{
	if (writer->round_at == writer->round_end) {
		if (!stream_writer_pending(writer))
			return 0;
		begin_round(writer, stamp);
	}
	*ret_parts = &writer->round[writer->round_at];
	return writer->round_end - writer->round_at;
}

void stream_writer_advance(struct stream_writer *writer, size_t size, struct list *ret_done)
{
	struct list *node;

	while (size > 0) {
		struct iovec *part = &writer->round[writer->round_at];
		size_t here = MIN_OF(size, part->iov_len);

		assert(writer->round_at < writer->round_end);
		if (!(writer->uncounted >> writer->round_at & 1))
			writer->queued -= here;
		part->iov_base = (char *)part->iov_base + here;
		part->iov_len -= here;
		size -= here;
		if (part->iov_len == 0)
			writer->round_at++;
	}
	if (writer->round_at < writer->round_end)
		return;
	while ((node = list_shift(&writer->ending))) {
		list_append(ret_done, node);
		writer->ntransfers--;
	}
}
