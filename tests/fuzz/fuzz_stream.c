/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a lane over a stream reads, without its sockets. The input's first byte says in what pieces, the rest is the
 * stream.
 *
 * Beside crashes it looks for what must hold: the limits, that it makes no difference in which pieces the bytes come,
 * that what was read can be written and read again, and that no memory is left.
 */
#include "transport/stream_reader.h"
#include "transport/stream_writer.h"

#include "base/macros.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/status.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, tdr_last_error());          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static const struct lane_limits limits = {.max_body_bytes = 8192, .max_message_bytes = 200000, .max_storages = 20};

/* All that was read, as text. */
struct transcript {
	struct buffer text;
	struct pool *pool;
	bool echo; /* each message is written and read again */
};

static uint64_t digest(const void *data, size_t size)
{
	uint64_t hash = 14695981039346656037u;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ ((const uint8_t *)data)[i]) * 1099511628211u;
	return hash;
}

static tdr_status feed(struct transcript *transcript, const uint8_t *data, size_t size, size_t piece);

/* Writes the message to a stream of its own, reads it from there, and compares. */
static void echo(const struct message *message, const void *text, size_t text_size, struct pool *pool)
{
	static const struct stream_stamp stamp = {.incarnation = 1};
	struct transcript again = {.pool = pool};
	struct stream_parcel parcel;
	struct stream_writer writer;
	struct buffer wire = {0};
	struct iovec *parts;
	struct list done;

	list_init(&done);
	stream_writer_init(&writer);
	CHECK(stream_writer_pack(message, &parcel) == TDR_OK);
	CHECK(stream_writer_add(&writer, &parcel, &stamp) == TDR_OK);
	while (stream_writer_gather(&writer, &stamp, &parts) > 0) {
		size_t size = parts[0].iov_len;

		buffer_append(&wire, parts[0].iov_base, size);
		stream_writer_advance(&writer, size, &done);
		stream_transfers_free(&done);
	}
	CHECK(writer.queued == 0 && writer.ntransfers == 0);
	CHECK(feed(&again, wire.data, wire.size, SIZE_MAX) == TDR_EAGAIN);
	CHECK(again.text.data && again.text.size == text_size && memcmp(again.text.data, text, text_size) == 0);
	buffer_fini(&again.text);
	buffer_fini(&wire);
	stream_writer_fini(&writer, &done);
	stream_transfers_free(&done);
}

static void note(struct transcript *transcript, const struct message *message)
{
	size_t begin = transcript->text.size;

	CHECK(message_type_name(message->type) && message->type != MESSAGE_CHUNK);
	CHECK(message->body_size <= limits.max_body_bytes && message->nstorages <= limits.max_storages);
	CHECK(message_cost(message) <= limits.max_message_bytes);
	buffer_printf(&transcript->text, "%s %u %llu %u %zu %llx", message_type_name(message->type), message->flags,
	              (unsigned long long)message->call_id, message->time_left_ms, message->body_size,
	              (unsigned long long)digest(message->body, message->body_size));
	for (size_t i = 0; i < message->nstorages; i++) {
		size_t nbytes = tdr_storage_nbytes(message->storages[i]);

		CHECK((uintptr_t)tdr_storage_data(message->storages[i]) % MESSAGE_STORAGE_ALIGN == 0);
		buffer_printf(&transcript->text, " [%zu %llx]", nbytes,
		              (unsigned long long)digest(tdr_storage_data(message->storages[i]), nbytes));
	}
	buffer_printf(&transcript->text, "\n");
	if (transcript->echo)
		echo(message, transcript->text.data + begin, transcript->text.size - begin, transcript->pool);
}

/* Reads the stream in pieces of `piece` bytes; how it ended. */
static tdr_status feed(struct transcript *transcript, const uint8_t *data, size_t size, size_t piece)
{
	struct stream_reader reader;
	struct message message;
	struct iovec parts[2];
	tdr_status status;

	stream_reader_init(&reader, transcript->pool, &limits);
	for (;;) {
		size_t here = 0;
		int count;

		while ((status = stream_reader_next(&reader, &message)) == TDR_OK) {
			note(transcript, &message);
			stream_reader_release(&reader);
		}
		CHECK(!stream_reader_more(&reader) || status != TDR_EAGAIN);
		if (status != TDR_EAGAIN || size == 0)
			break;
		count = stream_reader_space(&reader, parts);
		CHECK(count == 1 || count == 2);
		for (int i = 0; i < count && here < piece && size > 0; i++) {
			size_t some = MIN_OF(parts[i].iov_len, size);

			some = MIN_OF(some, piece - here);
			memcpy(parts[i].iov_base, data, some);
			data += some;
			size -= some;
			here += some;
		}
		CHECK(here > 0);
		stream_reader_take(&reader, here);
		CHECK(reader.room <= MESSAGE_FRAME_MAX && reader.nassemblies <= 1024);
	}
	stream_reader_fini(&reader);
	return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pool *pool = pool_new(1 << 20);
	struct transcript whole = {.pool = pool, .echo = true}, pieces = {.pool = pool};
	tdr_status status;

	if (size == 0) {
		pool_unref(pool);
		return 0;
	}
	status = feed(&whole, data + 1, size - 1, SIZE_MAX);
	CHECK(feed(&pieces, data + 1, size - 1, data[0] + (size_t)1) == status);
	CHECK(whole.text.size == pieces.text.size);
	CHECK(whole.text.size == 0 || memcmp(whole.text.data, pieces.text.data, whole.text.size) == 0);
	buffer_fini(&whole.text);
	buffer_fini(&pieces.text);
	CHECK(pool_stats(pool).bytes_in_use == 0);
	pool_unref(pool);
	return 0;
}
