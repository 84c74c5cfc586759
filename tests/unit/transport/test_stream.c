/* SPDX-License-Identifier: Apache-2.0 */
/* The reader and the writer of a stream against each other, and the reader against bytes that nobody should send. */
#include "transport/stream_reader.h"
#include "transport/stream_writer.h"

#include "base/macros.h"

#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <string.h>

static struct pool *pool;
static struct lane_limits limits;
static const struct stream_stamp stamp = {.incarnation = 77, .acknowledged = 0, .credit = 1234};

static int setup(void **state)
{
	pool = pool_new(0);
	limits = (struct lane_limits){.max_body_bytes = 16 << 20, .max_message_bytes = 64 << 20, .max_storages = 65536};
	return pool == NULL;
}

static int teardown(void **state)
{
	bool clean = pool_stats(pool).bytes_in_use == 0;

	pool_unref(pool);
	return !clean;
}

/* ---- feeding ---- */

/* Hands `size` bytes to the reader in reads of at most `most` bytes; the first status that is not TDR_EAGAIN. */
static tdr_status feed(struct stream_reader *reader, const void *data, size_t size, size_t most,
                       void (*got)(const struct message *message, void *context), void *context)
{
	const uint8_t *at = data, *end = at + size;

	for (;;) {
		struct message message;
		struct iovec parts[2];
		size_t read = 0;
		tdr_status status;
		int count;

		while ((status = stream_reader_next(reader, &message)) == TDR_OK) {
			if (got)
				got(&message, context);
			stream_reader_release(reader);
		}
		if (status != TDR_EAGAIN || at == end)
			return status;
		count = stream_reader_space(reader, parts);
		assert_in_range(count, 1, 2);
		for (int i = 0; i < count && at < end && read < most; i++) {
			size_t here = MIN_OF(parts[i].iov_len, (size_t)(end - at));

			here = MIN_OF(here, most - read);
			memcpy(parts[i].iov_base, at, here);
			at += here;
			read += here;
			if (here < parts[i].iov_len)
				break;
		}
		assert_true(read > 0);
		stream_reader_take(reader, read);
	}
}

/* Writes all that is queued to the end of `wire`, some bytes at a time. */
static void drain(struct stream_writer *writer, struct buffer *wire)
{
	struct list done;
	struct iovec *parts;
	int count;

	list_init(&done);
	while ((count = stream_writer_gather(writer, &stamp, &parts)) > 0) {
		size_t size = 0;

		for (int i = 0; i < count; i++) {
			size_t here = i == count - 1 ? ROUND_UP(parts[i].iov_len, (size_t)2) / 2 : parts[i].iov_len;

			buffer_append(wire, parts[i].iov_base, here);
			size += here;
		}
		stream_writer_advance(writer, size, &done);
		stream_transfers_free(&done);
	}
	assert_int_equal(writer->queued, 0);
	assert_int_equal(writer->ntransfers, 0);
	assert_false(wire->failed);
}

static void add(struct stream_writer *writer, const struct message *message)
{
	struct stream_parcel parcel;

	assert_int_equal(stream_writer_pack(message, &parcel), TDR_OK);
	assert_int_equal(stream_writer_add(writer, &parcel, &stamp), TDR_OK);
	stream_parcel_drop(&parcel);
}

static void finish_writer(struct stream_writer *writer)
{
	struct list done;

	list_init(&done);
	stream_writer_fini(writer, &done);
	stream_transfers_free(&done);
}

/* ---- round trips ---- */

/* Of each message, how often it came and whether it was as sent. */
struct sent {
	struct message message;
	unsigned came;
};

struct traffic {
	struct sent sent[64];
	size_t count;
};

static bool same_bytes(const void *a, const void *b, size_t size)
{
	return size == 0 || memcmp(a, b, size) == 0;
}

static void check_message(const struct message *message, void *context)
{
	struct traffic *traffic = context;
	struct sent *sent = &traffic->sent[message->call_id];

	assert_in_range(message->call_id, 0, traffic->count - 1);
	sent->came++;
	assert_int_equal(message->type, sent->message.type);
	assert_int_equal(message->flags, sent->message.flags);
	assert_int_equal(message->time_left_ms, sent->message.time_left_ms);
	assert_int_equal(message->credit, stamp.credit);
	assert_int_equal(message->body_size, sent->message.body_size);
	assert_true(same_bytes(message->body, sent->message.body, message->body_size));
	assert_int_equal(message->nstorages, sent->message.nstorages);
	for (size_t i = 0; i < message->nstorages; i++) {
		size_t nbytes = tdr_storage_nbytes(message->storages[i]);

		assert_int_equal(nbytes, tdr_storage_nbytes(sent->message.storages[i]));
		assert_true(same_bytes(tdr_storage_data(message->storages[i]),
		                       tdr_storage_data(sent->message.storages[i]), nbytes));
	}
}

static uint64_t random_state;

static size_t below(size_t limit)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (size_t)(random_state >> 33) % limit;
}

static size_t varied_size(void)
{
	static const size_t scales[] = {1, 10, 100, 5000, 70000, 600000};

	return below(scales[below(COUNT_OF(scales))]);
}

static void make_traffic(struct traffic *traffic, const uint8_t *bytes)
{
	traffic->count = COUNT_OF(traffic->sent);
	for (size_t i = 0; i < traffic->count; i++) {
		struct message *message = &traffic->sent[i].message;
		size_t nstorages = below(4) ? 0 : below(12);
		tdr_storage **storages = calloc(nstorages + 1, sizeof(*storages));

		assert_non_null(storages);
		for (size_t j = 0; j < nstorages; j++) {
			size_t nbytes = varied_size();

			assert_int_equal(tdr_storage_new(nbytes, &storages[j]), TDR_OK);
			if (nbytes > 0)
				memcpy(tdr_storage_data(storages[j]), bytes + below(1000), nbytes);
		}
		*message = (struct message){
		    .type = (uint8_t)(below(2) ? MESSAGE_CALL : MESSAGE_REPLY),
		    .flags = (uint8_t)below(256),
		    .call_id = i,
		    .time_left_ms = (uint32_t)below(1u << 31),
		    .body = bytes + below(1000),
		    .body_size = varied_size(),
		    .nstorages = nstorages,
		    .storages = storages,
		};
		traffic->sent[i].came = 0;
	}
}

static void free_traffic(struct traffic *traffic)
{
	for (size_t i = 0; i < traffic->count; i++) {
		const struct message *message = &traffic->sent[i].message;

		for (size_t j = 0; j < message->nstorages; j++)
			tdr_storage_unref(message->storages[j]);
		free((void *)message->storages);
	}
}

static void test_round_trips(void **state)
{
	uint8_t *bytes = malloc(700000);
	struct traffic *traffic = malloc(sizeof(*traffic));

	assert_non_null(bytes);
	assert_non_null(traffic);
	for (size_t i = 0; i < 700000; i++)
		bytes[i] = (uint8_t)(i * 31 + (i >> 8));
	for (unsigned seed = 1; seed <= 20; seed++) {
		static const size_t reads[] = {1 << 20, 65536, 4096, 1000, 77};
		struct stream_writer writer;
		struct stream_reader reader;
		struct buffer wire = {0};

		random_state = seed;
		make_traffic(traffic, bytes);
		stream_writer_init(&writer);
		for (size_t i = 0; i < traffic->count; i++)
			add(&writer, &traffic->sent[i].message);
		drain(&writer, &wire);
		for (size_t i = 0; i < COUNT_OF(reads); i++) {
			stream_reader_init(&reader, pool, &limits);
			assert_int_equal(feed(&reader, wire.data, wire.size, reads[i], check_message, traffic),
			                 TDR_EAGAIN);
			assert_true(stream_reader_between(&reader));
			assert_int_equal(reader.incarnation, 77);
			stream_reader_fini(&reader);
		}
		for (size_t i = 0; i < traffic->count; i++)
			assert_int_equal(traffic->sent[i].came, COUNT_OF(reads));
		buffer_fini(&wire);
		finish_writer(&writer);
		free_traffic(traffic);
	}
	free(traffic);
	free(bytes);
}

/* Every message, cut off at every byte of its frame, is waited for and not given out. */
static void count_message(const struct message *message, void *context)
{
	++*(unsigned *)context;
}

static void test_byte_by_byte(void **state)
{
	tdr_storage *storage;
	struct message message = {.type = MESSAGE_CALL, .body = (const uint8_t *)"body", .body_size = 4};
	struct stream_writer writer;
	struct stream_reader reader;
	struct buffer wire = {0};
	unsigned count = 0;

	assert_int_equal(tdr_storage_new(100000, &storage), TDR_OK);
	memset(tdr_storage_data(storage), 3, 100000);
	stream_writer_init(&writer);
	add(&writer, &message);
	message.nstorages = 1;
	message.storages = &storage;
	add(&writer, &message);
	drain(&writer, &wire);
	stream_reader_init(&reader, pool, &limits);
	for (size_t i = 0; i < wire.size; i++) {
		assert_int_equal(count, i < 68 ? 0 : 1);
		assert_int_equal(stream_reader_between(&reader), i == 0 || i == 68);
		assert_int_equal(feed(&reader, wire.data + i, 1, 1, count_message, &count), TDR_EAGAIN);
	}
	assert_int_equal(count, 2);
	stream_reader_fini(&reader);
	buffer_fini(&wire);
	finish_writer(&writer);
	tdr_storage_unref(storage);
}

/* A small message that is added while a transfer is under way goes out after the round of chunks that has begun. */
static void test_overtaking(void **state)
{
	tdr_storage *storage;
	struct message large = {.type = MESSAGE_CALL, .nstorages = 1, .storages = &storage};
	struct message small = {.type = MESSAGE_REPLY, .body = (const uint8_t *)"x", .body_size = 1};
	struct stream_writer writer;
	struct message_head head;
	struct iovec *parts;
	struct list done;
	size_t size = 0;
	int count;

	list_init(&done);
	assert_int_equal(tdr_storage_new(10 << 20, &storage), TDR_OK);
	stream_writer_init(&writer);
	add(&writer, &large);
	tdr_storage_unref(storage);
	count = stream_writer_gather(&writer, &stamp, &parts);
	assert_int_equal(count, 3); /* the frame, and a chunk's head and bytes */
	assert_int_equal(parts[2].iov_len, STREAM_CHUNK_SIZE);
	add(&writer, &small);
	assert_int_equal(stream_writer_gather(&writer, &stamp, &parts), 3);
	for (int i = 0; i < count; i++)
		size += parts[i].iov_len;
	stream_writer_advance(&writer, size, &done);
	count = stream_writer_gather(&writer, &stamp, &parts);
	assert_int_equal(count, 3); /* the small one, and a chunk */
	assert_int_equal(parts[0].iov_len, MESSAGE_HEAD_SIZE + 1);
	assert_int_equal(message_head_read(parts[0].iov_base, &head), TDR_OK);
	assert_int_equal(head.type, MESSAGE_REPLY);
	assert_int_equal(head.sequence, 2);
	assert_int_equal(message_head_read(parts[1].iov_base, &head), TDR_OK);
	assert_int_equal(head.type, MESSAGE_CHUNK);
	assert_int_equal(head.call_id, STREAM_CHUNK_SIZE);
	assert_true(list_empty(&done));
	finish_writer(&writer);
}

/* Many transfers: few are under way at once, and take turns. */
static void test_transfers_take_turns(void **state)
{
	enum {
		TRANSFERS = 100
	};
	tdr_storage *storage;
	struct message message = {.type = MESSAGE_CALL, .nstorages = 1, .storages = &storage};
	struct stream_writer writer;
	struct stream_reader reader;
	struct buffer wire = {0};
	size_t most = 0, at;
	unsigned count = 0;

	assert_int_equal(tdr_storage_new(100000, &storage), TDR_OK);
	memset(tdr_storage_data(storage), 1, 100000);
	stream_writer_init(&writer);
	for (int i = 0; i < TRANSFERS; i++)
		add(&writer, &message);
	assert_int_equal(writer.queued, TRANSFERS * (MESSAGE_HEAD_SIZE + 8 + 100000));
	drain(&writer, &wire);
	stream_reader_init(&reader, pool, &limits);
	for (at = 0; at < wire.size; at += 1000) {
		size_t size = MIN_OF(wire.size - at, (size_t)1000);

		assert_int_equal(feed(&reader, wire.data + at, size, size, count_message, &count), TDR_EAGAIN);
		most = MAX_OF(most, reader.nassemblies);
	}
	assert_int_equal(count, TRANSFERS);
	assert_in_range(most, 2, STREAM_TRANSFERS_MAX);
	stream_reader_fini(&reader);
	buffer_fini(&wire);
	finish_writer(&writer);
	tdr_storage_unref(storage);
}

static void test_too_many_storages(void **state)
{
	static tdr_storage *storages[MESSAGE_FRAME_MAX / 8 + 1];
	struct message message = {.type = MESSAGE_CALL, .nstorages = COUNT_OF(storages), .storages = storages};
	struct stream_parcel parcel;
	tdr_storage *storage;

	assert_int_equal(tdr_storage_new(0, &storage), TDR_OK);
	for (size_t i = 0; i < COUNT_OF(storages); i++)
		storages[i] = storage;
	assert_int_equal(stream_writer_pack(&message, &parcel), TDR_ELIMIT);
	message.nstorages--;
	assert_int_equal(stream_writer_pack(&message, &parcel), TDR_ELIMIT);
	message.nstorages = 65536;
	assert_int_equal(stream_writer_pack(&message, &parcel), TDR_OK);
	stream_parcel_drop(&parcel);
	tdr_storage_unref(storage);
}

/* The buffer of a lane that was busy and is so no more gets small again. */
static void test_buffer_shrinks(void **state)
{
	static uint8_t body[60000];
	struct message message = {.type = MESSAGE_CALL, .body = body, .body_size = sizeof(body)};
	struct stream_writer writer;
	struct stream_reader reader;
	struct buffer wire = {0};

	stream_writer_init(&writer);
	for (int i = 0; i < 10; i++)
		add(&writer, &message);
	drain(&writer, &wire);
	stream_reader_init(&reader, pool, &limits);
	assert_int_equal(reader.room, 0);
	assert_int_equal(feed(&reader, wire.data, wire.size, wire.size, NULL, NULL), TDR_EAGAIN);
	assert_true(reader.room >= 60000);
	message.body_size = 10;
	for (int i = 0; i < 100; i++) {
		wire.size = 0;
		add(&writer, &message);
		drain(&writer, &wire);
		assert_int_equal(feed(&reader, wire.data, wire.size, wire.size, NULL, NULL), TDR_EAGAIN);
	}
	assert_int_equal(reader.room, 4096);
	stream_reader_fini(&reader);
	buffer_fini(&wire);
	finish_writer(&writer);
}

/* ---- malformed streams ---- */

struct script {
	struct buffer wire;
	struct message_head head; /* of the next frame; `put` counts the sequence up */
};

static void script_init(struct script *script)
{
	*script = (struct script){.head = {.version = 1, .type = MESSAGE_CALL, .incarnation = 5}};
}

static void put_zeros(struct script *script, size_t size)
{
	memset(buffer_reserve(&script->wire, size), 0, size);
	script->wire.size += size;
}

/* A message's frame: its head as it stands, and a table; inline storages are short and hold zeros. */
static void put(struct script *script, uint32_t nstorages, const uint64_t *table)
{
	uint8_t wire[MESSAGE_HEAD_SIZE];
	size_t begin = script->wire.size, size;

	script->head.sequence++;
	script->head.nstorages = nstorages;
	message_head_write(&script->head, wire);
	buffer_append(&script->wire, wire, sizeof(wire));
	for (uint32_t i = 0; i < nstorages; i++) {
		uint64_t entry = htole64(table[i]);

		buffer_append(&script->wire, &entry, sizeof(entry));
	}
	for (uint32_t i = 0; i < nstorages; i++) {
		if (table[i] > 1000)
			continue;
		size = script->wire.size - begin;
		put_zeros(script, ROUND_UP(size, (size_t)64) - size + table[i]);
	}
}

static void put_chunk(struct script *script, uint64_t sequence, uint32_t storage, uint64_t offset, uint32_t size)
{
	struct message_head head = {.version = 1,
	                            .type = MESSAGE_CHUNK,
	                            .incarnation = 5,
	                            .sequence = sequence,
	                            .nstorages = storage,
	                            .call_id = offset,
	                            .body_size = size};
	uint8_t wire[MESSAGE_HEAD_SIZE], *bytes;

	message_head_write(&head, wire);
	buffer_append(&script->wire, wire, sizeof(wire));
	bytes = buffer_reserve(&script->wire, size);
	memset(bytes, 7, size);
	script->wire.size += size;
}

/* The script, read at once and byte by byte, ends in `status` with a text that has `words`, after `count` messages. */
static void expect(struct script *script, tdr_status status, const char *words, unsigned count)
{
	static const size_t reads[] = {1 << 20, 1};

	for (size_t i = 0; i < COUNT_OF(reads); i++) {
		struct stream_reader reader;
		unsigned came = 0;

		stream_reader_init(&reader, pool, &limits);
		if (feed(&reader, script->wire.data, script->wire.size, reads[i], count_message, &came) != status)
			fail_msg("after %u messages: %s", came, tdr_last_error());
		assert_int_equal(came, count);
		if (status != TDR_EAGAIN && !strstr(tdr_last_error(), words))
			fail_msg("\"%s\" does not say \"%s\"", tdr_last_error(), words);
		stream_reader_fini(&reader);
	}
	buffer_fini(&script->wire);
}

#define APART MESSAGE_STORAGE_APART
#define TABLE(...) sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), ((const uint64_t[]){__VA_ARGS__})

static void test_sequence(void **state)
{
	struct script script;

	script_init(&script);
	put(&script, 0, NULL);
	put(&script, 0, NULL);
	expect(&script, TDR_EAGAIN, "", 2);

	script_init(&script);
	put(&script, 0, NULL);
	script.head.sequence++;
	put(&script, 0, NULL);
	expect(&script, TDR_EPROTO, "message 3 came where 2 was due", 1);

	script_init(&script);
	put(&script, 0, NULL);
	script.head.sequence--;
	put(&script, 0, NULL);
	expect(&script, TDR_EPROTO, "message 1 came where 2 was due", 1);

	script_init(&script);
	put(&script, 0, NULL);
	script.head.incarnation++;
	put(&script, 0, NULL);
	expect(&script, TDR_EPROTO, "incarnation", 1);

	script_init(&script);
	script.head.acknowledged = 9;
	put(&script, 0, NULL);
	script.head.acknowledged = 8;
	put(&script, 0, NULL);
	expect(&script, TDR_EPROTO, "acknowledged message 8 after 9", 1);
}

static void test_limits(void **state)
{
	struct script script;

	limits = (struct lane_limits){.max_body_bytes = 1000, .max_message_bytes = 2000, .max_storages = 3};
	script_init(&script);
	script.head.body_size = 1001;
	put(&script, 0, NULL);
	expect(&script, TDR_ELIMIT, "body of 1001 bytes", 0);

	script_init(&script);
	script.head.body_size = UINT32_MAX;
	put(&script, 0, NULL);
	expect(&script, TDR_ELIMIT, "body of 4294967295 bytes", 0);

	script_init(&script);
	put(&script, TABLE(0, 0, 0, 0));
	expect(&script, TDR_ELIMIT, "4 storages", 0);

	script_init(&script);
	put(&script, TABLE(1900, 50));
	expect(&script, TDR_ELIMIT, "larger than the limit of 2000", 0);

	script_init(&script);
	put(&script, TABLE(10, APART | 2000));
	expect(&script, TDR_ELIMIT, "larger than the limit of 2000", 0);

	script_init(&script);
	put(&script, TABLE(APART - 1, APART - 1, 3));
	expect(&script, TDR_ELIMIT, "larger than the limit of 2000", 0);

	limits =
	    (struct lane_limits){.max_body_bytes = SIZE_MAX, .max_message_bytes = SIZE_MAX, .max_storages = UINT32_MAX};
	script_init(&script);
	script.head.nstorages = UINT32_MAX;
	put(&script, 0, NULL);
	message_head_write(
	    &(struct message_head){.version = 1, .type = MESSAGE_CALL, .nstorages = UINT32_MAX, .sequence = 1},
	    script.wire.data);
	expect(&script, TDR_ELIMIT, "past what a frame can hold", 0);

	script_init(&script);
	put(&script, TABLE(2 << 20));
	expect(&script, TDR_EPROTO, "frame", 0);

	script_init(&script);
	script.head.body_size = 3 << 20;
	put(&script, 0, NULL);
	expect(&script, TDR_EPROTO, "frame", 0);

	script_init(&script);
	put(&script, TABLE(APART | (APART - 1), APART | (APART - 1), APART | (APART - 1)));
	expect(&script, TDR_ELIMIT, "larger than the limit", 0);

	script_init(&script);
	put(&script, TABLE(APART | (APART - 4096)));
	put_chunk(&script, 1, 0, 0, 10);
	expect(&script, TDR_ENOMEM, "memory", 0);
}

static void test_chunks(void **state)
{
	struct script script;

	script_init(&script);
	put(&script, TABLE(APART | 100, 0, APART | 50));
	put(&script, 0, NULL);
	put_chunk(&script, 1, 0, 0, 60);
	put(&script, 0, NULL);
	put_chunk(&script, 1, 0, 60, 40);
	put_chunk(&script, 1, 2, 0, 50);
	expect(&script, TDR_EAGAIN, "", 3);

	script_init(&script);
	put_chunk(&script, 1, 0, 0, 60);
	expect(&script, TDR_EPROTO, "a chunk of message 1, which lacks none", 0);

	script_init(&script);
	put(&script, TABLE(APART | 100));
	put_chunk(&script, 1, 0, 0, 100);
	put_chunk(&script, 1, 0, 0, 100);
	expect(&script, TDR_EPROTO, "which lacks none", 1);

	script_init(&script);
	put(&script, TABLE(APART | 100, APART | 100));
	put_chunk(&script, 1, 1, 0, 100);
	expect(&script, TDR_EPROTO, "byte 0 of part 1, where byte 0 of part 0 was due", 0);

	script_init(&script);
	put(&script, TABLE(APART | 100));
	put_chunk(&script, 1, 0, 10, 10);
	expect(&script, TDR_EPROTO, "byte 10 of part 0", 0);

	script_init(&script);
	put(&script, TABLE(APART | 100));
	put_chunk(&script, 1, 0, 0, 101);
	expect(&script, TDR_EPROTO, "a chunk of 101 bytes, where 1 to 100 were due", 0);

	script_init(&script);
	put(&script, TABLE(APART | 100));
	put_chunk(&script, 1, 0, 0, 0);
	expect(&script, TDR_EPROTO, "a chunk of 0 bytes", 0);

	script_init(&script);
	put(&script, TABLE(APART | (4 << 20)));
	put_chunk(&script, 1, 0, 0, MESSAGE_CHUNK_MAX + 1);
	expect(&script, TDR_EPROTO, "a chunk of 1048577 bytes", 0);

	script_init(&script);
	put(&script, TABLE(APART));
	expect(&script, TDR_EPROTO, "an empty storage in chunks", 0);

	script_init(&script);
	script.head.layout = MESSAGE_BODY_APART;
	put(&script, 0, NULL);
	expect(&script, TDR_EPROTO, "an empty body in chunks", 0);

	script_init(&script);
	script.head.layout = MESSAGE_BODY_APART;
	script.head.body_size = 30;
	put(&script, TABLE(0, 0));
	put_chunk(&script, 1, 2, 0, 20);
	put_chunk(&script, 1, 2, 20, 10);
	expect(&script, TDR_EAGAIN, "", 1);
}

static void test_too_many_assemblies(void **state)
{
	struct script script;

	script_init(&script);
	for (int i = 0; i < 1025; i++)
		put(&script, TABLE(APART | 1));
	expect(&script, TDR_ELIMIT, "more than 1024 messages", 0);
}

/* Memory is taken as bytes come: announcing much takes none. */
static void test_memory_follows_bytes(void **state)
{
	struct stream_reader reader;
	struct script script;

	script_init(&script);
	for (int i = 0; i < 1000; i++)
		put(&script, TABLE(APART | (32 << 20), APART | (31 << 20)));
	stream_reader_init(&reader, pool, &limits);
	assert_int_equal(feed(&reader, script.wire.data, script.wire.size, 1 << 20, NULL, NULL), TDR_EAGAIN);
	assert_int_equal(reader.nassemblies, 1000);
	assert_int_equal(pool_stats(pool).bytes_in_use, 0);
	stream_reader_fini(&reader);
	buffer_fini(&script.wire);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	static const struct CMUnitTest tests[] = {
	    TEST(test_round_trips),
	    TEST(test_byte_by_byte),
	    TEST(test_overtaking),
	    TEST(test_transfers_take_turns),
	    TEST(test_too_many_storages),
	    TEST(test_buffer_shrinks),
	    TEST(test_sequence),
	    TEST(test_limits),
	    TEST(test_chunks),
	    TEST(test_too_many_assemblies),
	    TEST(test_memory_follows_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
