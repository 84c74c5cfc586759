/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_log.h"

#include "base/error.h"
#include "base/log.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

/* Read at once, where there is as much. */
#define CHUNK_SIZE ((size_t)65536)

/* A record's own bytes: the two sizes. */
#define HEAD_SIZE ((size_t)8)

static tdr_status malformed(const char *path, uint64_t offset, const char *why)
{
	return error_set(TDR_EPROTO,
	                 "store file '%s' is malformed at offset %" PRIu64
	                 ": %s; it is no store's file, or a writer was "
	                 "killed in the midst of a record: remove it and start the group again",
	                 path, offset, why);
}

static size_t read_u32(const uint8_t *data)
{
	uint32_t number;

	memcpy(&number, data, sizeof(number));
	return le32toh(number);
}

/*
 * Looks at the record at the front of `have` bytes, of `left` to the file's end. NULL, and the record's size as far as it
 * can be told (`need`: maybe more than `have`), or why it cannot be a record.
 */
static const char *measure(const uint8_t *data, size_t have, uint64_t left, size_t *ret_need)
{
	size_t key_size, value_size;

	*ret_need = HEAD_SIZE;
	if (left < HEAD_SIZE)
		return "the file ends inside a record";
	if (have < HEAD_SIZE)
		return NULL;
	key_size = read_u32(data);
	if (key_size == 0)
		return "a key without bytes";
	if (key_size > left - HEAD_SIZE)
		return "a key that ends behind the file's end";
	*ret_need = HEAD_SIZE + key_size;
	if (have < *ret_need)
		return NULL;
	value_size = read_u32(data + 4 + key_size);
	if (value_size > left - HEAD_SIZE - key_size)
		return "a value that ends behind the file's end";
	*ret_need = HEAD_SIZE + key_size + value_size;
	return NULL;
}

static struct file_record record_at(const uint8_t *data)
{
	size_t key_size = read_u32(data);

	return (struct file_record){
	    .key = (const char *)data + 4,
	    .key_size = key_size,
	    .value = (const char *)data + HEAD_SIZE + key_size,
	    .value_size = read_u32(data + 4 + key_size),
	};
}

static tdr_status read_bytes(int fd, const char *path, uint64_t offset, uint8_t *to, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t got = pread(fd, to + done, size - done, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return error_errno("store file '%s': reading %zu bytes at offset %" PRIu64, path, size, offset);
		if (got == 0)
			return malformed(path, offset + done, "the file became shorter while it was locked");
		done += (size_t)got;
	}
	return TDR_OK;
}

tdr_status file_log_read(int fd, const char *path, uint64_t *offset, uint64_t end, file_log_apply apply, void *context)
{
	struct buffer chunk = {0};
	size_t need = HEAD_SIZE;
	tdr_status status = TDR_OK;

	while (status == TDR_OK && *offset < end) {
		size_t have = (size_t)MIN_OF((uint64_t)MAX_OF(need, CHUNK_SIZE), end - *offset), at = 0;
		const char *why = NULL;

		chunk.size = 0;
		if (!buffer_reserve(&chunk, have)) {
			status = error_nomem();
			break;
		}
		status = read_bytes(fd, path, *offset, chunk.data, have);
		while (status == TDR_OK && at < have) {
			struct file_record record;

			why = measure(chunk.data + at, have - at, end - *offset, &need);
			if (why)
				status = malformed(path, *offset, why);
			if (why || need > have - at)
				break;
			record = record_at(chunk.data + at);
			status = apply(context, &record);
			if (status == TDR_OK)
				*offset += need;
			at += need;
		}
	}
	buffer_fini(&chunk);
	return status;
}

static void put_u32(struct buffer *records, size_t size)
{
	uint32_t number = htole32((uint32_t)size);

	buffer_append(records, &number, sizeof(number));
}

tdr_status file_log_put(struct buffer *records, const char *mark, const char *key, const void *value, size_t size)
{
	size_t mark_size = strlen(mark), key_size = strlen(key);

	if (key_size > UINT32_MAX - mark_size || size > UINT32_MAX)
		return error_set(TDR_ELIMIT,
		                 "key '%.100s' of %zu bytes with a value of %zu: a store file takes 4 GiB at most", key,
		                 key_size, size);
	put_u32(records, mark_size + key_size);
	buffer_append(records, mark, mark_size);
	buffer_append(records, key, key_size);
	put_u32(records, size);
	buffer_append(records, value, size);
	return records->failed ? error_nomem() : TDR_OK;
}

tdr_status file_log_write(int fd, const char *path, uint64_t end, const struct buffer *records)
{
	size_t done = 0;
	tdr_status status;

	while (done < records->size) {
		ssize_t put = pwrite(fd, records->data + done, records->size - done, (off_t)(end + done));

		if (put < 0 && errno == EINTR)
			continue;
		if (put > 0) {
			done += (size_t)put;
			continue;
		}
		if (put == 0)
			errno = ENOSPC; /* a write that makes no progress and gives no reason */
		status = error_errno("store file '%s': writing %zu bytes at offset %" PRIu64, path, records->size, end);
		if (ftruncate(fd, (off_t)end) != 0)
			LOG(TDR_LOG_ERROR, "event=store_file_damaged path=%s offset=%" PRIu64 " errno=%d", path, end,
			    errno);
		return status;
	}
	return TDR_OK;
}
