/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of a stream: steps from head to table to frame, or from head to a chunk's bytes. A frame is consumed whole
 * from the buffer; a chunk's bytes are read straight into their storage, past those few that came with the head.
 */
#include "transport/stream_reader.h"

#include "base/error.h"
#include "value/storage.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_ROOM 4096  /* of an idle lane's buffer, and of what is read beside chunks */
#define LARGE_ROOM 65536 /* of a busy lane's */
#define READ_MAX 65536   /* of a chunk at once: larger reads keep the sender's window shut for longer */
#define LIGHT_READS 64   /* after so many small reads the buffer shrinks */
#define KEPT_STORAGES 64 /* entries of the array of storages that are kept between messages */
#define ASSEMBLIES_MAX 1024

struct assembly {
	struct list node;
	struct message message;
	uint64_t sequence;
	size_t piece;      /* the storage whose bytes come next; nstorages: the body; nstorages + 1: complete */
	uint64_t offset;   /* how many of them have come */
	tdr_storage *body; /* holds the body, where that comes in chunks */
	tdr_storage **storages;
	uint64_t sizes[]; /* the table; then come the storages, and the body where it came with the frame */
};

void stream_reader_init(struct stream_reader *reader, struct pool *pool, const struct lane_limits *limits)
{
	*reader = (struct stream_reader){
	    .limits = limits,
	    .pool = pool,
	    .wanted_room = SMALL_ROOM,
	    .need = MESSAGE_HEAD_SIZE,
	};
	list_init(&reader->assemblies);
}

static void storages_drop(tdr_storage **storages, size_t count)
{
	for (size_t i = 0; i < count; i++)
		storages[i] = tdr_storage_unref(storages[i]);
}

static void assembly_free(struct assembly *assembly)
{
	if (!assembly)
		return;
	storages_drop(assembly->storages, assembly->message.nstorages);
	tdr_storage_unref(assembly->body);
	free(assembly);
}

void stream_reader_release(struct stream_reader *reader)
{
	assembly_free(TAKE_PTR(reader->given));
	storages_drop(reader->storages, reader->nstorages);
	reader->nstorages = 0;
	if (reader->storages_room > KEPT_STORAGES) {
		free(TAKE_PTR(reader->storages));
		reader->storages_room = 0;
	}
}

void stream_reader_fini(struct stream_reader *reader)
{
	struct list *node;

	stream_reader_release(reader);
	while ((node = list_shift(&reader->assemblies)))
		assembly_free(list_entry(node, struct assembly, node));
	reader->nassemblies = 0;
	reader->filling = NULL;
	reader->storages_room = 0;
	free(TAKE_PTR(reader->storages));
	reader->room = reader->begin = reader->end = 0;
	free(TAKE_PTR(reader->data));
}

/* ---- the buffer ---- */

static size_t available(const struct stream_reader *reader)
{
	return reader->end - reader->begin;
}

/* Moves what is left to the front and gives the buffer the room that the traffic and the step ask for. */
static bool make_room(struct stream_reader *reader)
{
	size_t left = available(reader);
	size_t room = MAX_OF(reader->wanted_room, reader->need);
	uint8_t *data;

	if (reader->begin > 0) {
		memmove(reader->data, reader->data + reader->begin, left);
		reader->begin = 0;
		reader->end = left;
	}
	if (reader->room == room || (left > 0 && reader->room > room))
		return true;
	if (left == 0)
		free(TAKE_PTR(reader->data)); /* so that nothing is copied */
	data = realloc(reader->data, room);
	if (!data) {
		if (left == 0)
			reader->room = 0;
		return false;
	}
	reader->data = data;
	reader->room = room;
	return true;
}

int stream_reader_space(struct stream_reader *reader, struct iovec iov[2])
{
	size_t room;
	int count = 0;

	if (!make_room(reader))
		return 0;
	if (reader->step == STREAM_CHUNK) {
		iov[count++] = (struct iovec){reader->fill_at, MIN_OF(reader->fill_left, (size_t)READ_MAX)};
		if (reader->fill_left > READ_MAX)
			return count;
	}
	room = reader->room;
	/* While chunks come, little is read past them: what lands in the buffer must be copied once more. */
	if (reader->nassemblies > 0)
		room = MIN_OF(room, MAX_OF(reader->need, (size_t)SMALL_ROOM));
	if (room > reader->end)
		iov[count++] = (struct iovec){reader->data + reader->end, room - reader->end};
	assert(count > 0);
	return count;
}

void stream_reader_take(struct stream_reader *reader, size_t size)
{
	if (reader->step == STREAM_CHUNK) {
		size_t direct = MIN_OF(size, reader->fill_left);

		reader->fill_at += direct;
		reader->fill_left -= direct;
		size -= direct;
	}
	reader->end += size;
	assert(reader->end <= reader->room);
	if (size > 0 && reader->end == reader->room) {
		reader->light = 0;
		reader->wanted_room = LARGE_ROOM;
	} else if (size >= SMALL_ROOM / 2) {
		reader->light = 0;
	} else if (++reader->light >= LIGHT_READS) {
		reader->wanted_room = SMALL_ROOM;
	}
}

static const uint8_t *front(const struct stream_reader *reader)
{
	return reader->data + reader->begin;
}

/* Entry `i` of the table of the frame at the front. */
static uint64_t table_entry(const struct stream_reader *reader, size_t i)
{
	uint64_t entry;

	memcpy(&entry, front(reader) + MESSAGE_HEAD_SIZE + i * sizeof(entry), sizeof(entry));
	return le64toh(entry);
}

static void frame_end(struct stream_reader *reader, size_t size)
{
	reader->begin += size;
	reader->step = STREAM_HEAD;
	reader->need = MESSAGE_HEAD_SIZE;
}

/* ---- chunks ---- */

/* How large part `piece` of a message is, where it comes in chunks; else 0. */
static uint64_t piece_size(const struct assembly *assembly, size_t piece)
{
	if (piece < assembly->message.nstorages)
		return assembly->sizes[piece] & MESSAGE_STORAGE_APART ? assembly->sizes[piece] & ~MESSAGE_STORAGE_APART
		                                                      : 0;
	return piece == assembly->message.nstorages && !assembly->message.body ? assembly->message.body_size : 0;
}

/* Goes on to the next part that comes in chunks; false when there is none. */
static bool next_piece(struct assembly *assembly)
{
	assembly->offset = 0;
	while (assembly->piece <= assembly->message.nstorages && piece_size(assembly, assembly->piece) == 0)
		assembly->piece++;
	return assembly->piece <= assembly->message.nstorages;
}

static struct assembly *assembly_find(struct stream_reader *reader, uint64_t sequence)
{
	/* A sender takes turns among its transfers, so the next is mostly the first. */
	list_for_each(node, &reader->assemblies) {
		struct assembly *assembly = list_entry(node, struct assembly, node);

		if (assembly->sequence == sequence)
			return assembly;
	}
	return NULL;
}

/* The head of a chunk is at the front. */
static tdr_status chunk_begin(struct stream_reader *reader)
{
	const struct message_head *head = &reader->head;
	struct assembly *assembly = assembly_find(reader, head->sequence);
	tdr_storage **storage;
	uint64_t size;
	tdr_status status;

	if (!assembly)
		return error_set(TDR_EPROTO, "a chunk of message %" PRIu64 ", which lacks none", head->sequence);
	if (head->nstorages != assembly->piece || head->call_id != assembly->offset)
		return error_set(TDR_EPROTO,
		                 "a chunk of message %" PRIu64 " for byte %" PRIu64 " of part %" PRIu32
		                 ", where byte %" PRIu64 " of part %zu was due",
		                 head->sequence, head->call_id, head->nstorages, assembly->offset, assembly->piece);
	size = piece_size(assembly, assembly->piece);
	if (head->body_size == 0 || head->body_size > MESSAGE_CHUNK_MAX || head->body_size > size - assembly->offset)
		return error_set(TDR_EPROTO, "a chunk of %" PRIu32 " bytes, where 1 to %" PRIu64 " were due",
		                 head->body_size, MIN_OF(size - assembly->offset, (uint64_t)MESSAGE_CHUNK_MAX));
	storage =
	    assembly->piece < assembly->message.nstorages ? &assembly->storages[assembly->piece] : &assembly->body;
	if (!*storage) {
		status = storage_new_pooled(reader->pool, size, storage);
		if (status)
			return status;
	}
	reader->filling = assembly;
	reader->fill_at = (uint8_t *)tdr_storage_data(*storage) + assembly->offset;
	reader->fill_left = head->body_size;
	assembly->offset += head->body_size;
	list_remove(&assembly->node);
	list_append(&reader->assemblies, &assembly->node);
	frame_end(reader, MESSAGE_HEAD_SIZE);
	reader->step = STREAM_CHUNK;
	reader->need = 0;
	return TDR_OK;
}

/* Finds out up to which message everything has come. */
static void note_whole(struct stream_reader *reader)
{
	uint64_t whole = reader->sequence;

	list_for_each(node, &reader->assemblies)
		whole = MIN_OF(whole, list_entry(node, struct assembly, node)->sequence - 1);
	atomic_store_explicit(&reader->whole, whole, memory_order_relaxed);
}

/* Takes a chunk's bytes that came with its head; the message, when it was the last chunk. */
static tdr_status chunk_fill(struct stream_reader *reader, struct message *ret_message)
{
	size_t size = MIN_OF(available(reader), reader->fill_left);
	struct assembly *assembly = reader->filling;

	if (size > 0) {
		memcpy(reader->fill_at, front(reader), size);
		reader->begin += size;
		reader->fill_at += size;
		reader->fill_left -= size;
	}
	if (reader->fill_left > 0)
		return TDR_EAGAIN;
	reader->filling = NULL;
	frame_end(reader, 0);
	if (assembly->offset < piece_size(assembly, assembly->piece))
		return TDR_EAGAIN;
	assembly->piece++;
	if (next_piece(assembly))
		return TDR_EAGAIN;
	list_remove(&assembly->node);
	reader->nassemblies--;
	note_whole(reader);
	reader->given = assembly;
	if (assembly->body)
		assembly->message.body = tdr_storage_data(assembly->body);
	*ret_message = assembly->message;
	return TDR_OK;
}

/* ---- messages ---- */

static tdr_status check_head(struct stream_reader *reader)
{
	const struct message_head *head = &reader->head;
	uint64_t sequence = reader->sequence;

	if (sequence > 0 && head->incarnation != reader->incarnation)
		return error_set(TDR_EPROTO, "the peer's incarnation changed within a connection");
	if (head->acknowledged < reader->acknowledged)
		return error_set(TDR_EPROTO, "the peer acknowledged message %" PRIu64 " after %" PRIu64,
		                 head->acknowledged, reader->acknowledged);
	reader->acknowledged = head->acknowledged;
	if (head->type == MESSAGE_CHUNK)
		return TDR_OK;
	if (head->sequence != sequence + 1)
		return error_set(TDR_EPROTO, "message %" PRIu64 " came where %" PRIu64 " was due", head->sequence,
		                 sequence + 1);
	reader->incarnation = head->incarnation;
	if (head->body_size > reader->limits->max_body_bytes)
		return error_set(TDR_ELIMIT, "a %s message with a body of %" PRIu32 " bytes, past the limit of %zu",
		                 message_type_name(head->type), head->body_size, reader->limits->max_body_bytes);
	if (head->nstorages > reader->limits->max_storages)
		return error_set(TDR_ELIMIT, "a %s message with %" PRIu32 " storages, past the limit of %zu",
		                 message_type_name(head->type), head->nstorages, reader->limits->max_storages);
	if (head->nstorages > MESSAGE_FRAME_MAX / sizeof(uint64_t))
		return error_set(TDR_ELIMIT, "a %s message with %" PRIu32 " storages, past what a frame can hold",
		                 message_type_name(head->type), head->nstorages);
	if ((head->layout & MESSAGE_BODY_APART) && head->body_size == 0)
		return error_set(TDR_EPROTO, "a %s message with an empty body in chunks",
		                 message_type_name(head->type));
	return TDR_OK;
}

/* The head and the table are at the front: checks the sizes, and finds out how long the frame is. */
static tdr_status check_table(struct stream_reader *reader)
{
	const struct message_head *head = &reader->head;
	uint64_t limit = MIN_OF(reader->limits->max_message_bytes, (size_t)PTRDIFF_MAX); /* so that no sum overflows */
	uint64_t frame = MESSAGE_HEAD_SIZE + head->nstorages * sizeof(uint64_t);
	uint64_t cost = frame + head->body_size;

	reader->apart = head->layout & MESSAGE_BODY_APART;
	if (!reader->apart)
		frame += head->body_size;
	for (size_t i = 0; i < head->nstorages && cost <= limit; i++) {
		uint64_t entry = table_entry(reader, i);
		uint64_t size = entry & ~MESSAGE_STORAGE_APART;

		if (entry == MESSAGE_STORAGE_APART)
			return error_set(TDR_EPROTO, "an empty storage in chunks");
		cost = size > limit ? UINT64_MAX : cost + size;
		if (entry & MESSAGE_STORAGE_APART)
			reader->apart = true;
		else if (cost <= limit)
			frame = ROUND_UP(frame, (uint64_t)MESSAGE_STORAGE_ALIGN) + size;
	}
	if (cost > limit)
		return error_set(TDR_ELIMIT, "a %s message larger than the limit of %" PRIu64 " bytes",
		                 message_type_name(head->type), limit);
	if (frame > MESSAGE_FRAME_MAX)
		return error_set(TDR_EPROTO, "a %s message with a frame of %" PRIu64 " bytes, past %u",
		                 message_type_name(head->type), frame, MESSAGE_FRAME_MAX);
	reader->step = STREAM_FRAME;
	reader->need = frame;
	return TDR_OK;
}

/* Copies the inline storages of the frame at the front, whose body ends at `at`. */
static tdr_status copy_storages(struct stream_reader *reader, size_t at, tdr_storage **storages)
{
	for (size_t i = 0; i < reader->head.nstorages; i++) {
		uint64_t size = table_entry(reader, i);
		tdr_status status;

		if (size & MESSAGE_STORAGE_APART)
			continue;
		status = storage_new_pooled(reader->pool, size, &storages[i]);
		if (status)
			return status;
		at = ROUND_UP(at, (size_t)MESSAGE_STORAGE_ALIGN);
		if (size > 0)
			memcpy(tdr_storage_data(storages[i]), front(reader) + at, size);
		at += size;
	}
	return TDR_OK;
}

static struct message message_of(const struct stream_reader *reader)
{
	return (struct message){
	    .type = reader->head.type,
	    .flags = reader->head.flags,
	    .call_id = reader->head.call_id,
	    .time_left_ms = reader->head.time_left_ms,
	    .credit = reader->head.credit,
	    .body_size = reader->head.body_size,
	    .nstorages = reader->head.nstorages,
	};
}

/* The frame at the front is a whole message. */
static tdr_status give_frame(struct stream_reader *reader, struct message *ret_message)
{
	size_t body = MESSAGE_HEAD_SIZE + reader->head.nstorages * sizeof(uint64_t);
	size_t count = reader->head.nstorages;
	tdr_status status;

	if (count > reader->storages_room) {
		tdr_storage **storages = realloc(reader->storages, count * sizeof(tdr_storage *));

		if (!storages)
			return error_nomem();
		reader->storages = storages;
		reader->storages_room = count;
	}
	if (count > 0) {
		memset(reader->storages, 0, count * sizeof(tdr_storage *));
		reader->nstorages = count;
		status = copy_storages(reader, body + reader->head.body_size, reader->storages);
		if (status) {
			stream_reader_release(reader);
			return status;
		}
	}
	*ret_message = message_of(reader);
	ret_message->body = front(reader) + body;
	ret_message->storages = reader->storages;
	frame_end(reader, reader->need);
	return TDR_OK;
}

/* The frame at the front is a message that lacks what comes in chunks. */
static tdr_status keep_frame(struct stream_reader *reader)
{
	size_t count = reader->head.nstorages;
	size_t body = MESSAGE_HEAD_SIZE + count * sizeof(uint64_t);
	size_t inline_size = reader->head.layout & MESSAGE_BODY_APART ? 0 : reader->head.body_size;
	struct assembly *assembly;
	tdr_status status;

	if (reader->nassemblies >= ASSEMBLIES_MAX)
		return error_set(TDR_ELIMIT, "more than %d messages whose storages have not all come", ASSEMBLIES_MAX);
	assembly = calloc(1, sizeof(*assembly) + count * (sizeof(uint64_t) + sizeof(tdr_storage *)) + inline_size);
	if (!assembly)
		return error_nomem();
	assembly->sequence = reader->head.sequence;
	assembly->message = message_of(reader);
	for (size_t i = 0; i < count; i++)
		assembly->sizes[i] = table_entry(reader, i);
	assembly->storages = (tdr_storage **)(void *)(assembly->sizes + count);
	assembly->message.storages = assembly->storages;
	if (!(reader->head.layout & MESSAGE_BODY_APART)) {
		assembly->message.body = (uint8_t *)(assembly->storages + count);
		memcpy(assembly->storages + count, front(reader) + body, inline_size);
	}
	status = copy_storages(reader, body + inline_size, assembly->storages);
	if (status) {
		assembly_free(assembly);
		return status;
	}
	next_piece(assembly);
	list_append(&reader->assemblies, &assembly->node);
	reader->nassemblies++;
	frame_end(reader, reader->need);
	return TDR_OK;
}

/* Goes one step on: TDR_OK with `ret_given` when that yielded a message. */
static tdr_status step(struct stream_reader *reader, struct message *ret_message, bool *ret_given)
{
	tdr_status status;

	switch (reader->step) {
	case STREAM_HEAD:
		status = message_head_read(front(reader), &reader->head);
		if (!status)
			status = check_head(reader);
		if (status)
			return status;
		if (reader->head.type == MESSAGE_CHUNK)
			return chunk_begin(reader);
		reader->step = STREAM_TABLE;
		reader->need = MESSAGE_HEAD_SIZE + reader->head.nstorages * sizeof(uint64_t);
		return TDR_OK;
	case STREAM_TABLE:
		return check_table(reader);
	case STREAM_FRAME:
		*ret_given = !reader->apart;
		status = reader->apart ? keep_frame(reader) : give_frame(reader, ret_message);
		if (status)
			return status;
		reader->sequence++;
		if (reader->nassemblies == 0)
			note_whole(reader);
		return TDR_OK;
	case STREAM_CHUNK:
		status = chunk_fill(reader, ret_message);
		*ret_given = status == TDR_OK;
		return status == TDR_EAGAIN ? TDR_OK : status;
	}
	return TDR_EINTERNAL;
}

tdr_status stream_reader_next(struct stream_reader *reader, struct message *ret_message)
{
	assert(!reader->given && reader->nstorages == 0);
	while (stream_reader_more(reader)) {
		bool given = false;
		tdr_status status = step(reader, ret_message, &given);

		if (status || given)
			return status;
	}
	return TDR_EAGAIN;
}

bool stream_reader_more(const struct stream_reader *reader)
{
	if (reader->step == STREAM_CHUNK)
		return reader->fill_left == 0 || available(reader) > 0;
	return available(reader) >= reader->need;
}

bool stream_reader_between(const struct stream_reader *reader)
{
	return reader->step == STREAM_HEAD && available(reader) == 0 && reader->nassemblies == 0;
}
