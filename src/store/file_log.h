/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of a file store, in the format of PyTorch's FileStore: records one after the other, each
 *
 *   u32 key's size, key, u32 value's size, value        (little-endian, no padding)
 *
 * of which the last one with a key holds. A key begins with '/', if a program gave it, else it is the stores' own
 * ("cleanup/"). A record whose key has a '-' in front deletes what follows the '-'. The caller holds the file's lock.
 */
#ifndef TENDRIL_STORE_FILE_LOG_H
#define TENDRIL_STORE_FILE_LOG_H

#include "base/buffer.h"

#include <tendril/status.h>

struct file_record {
	const char *key;
	size_t key_size; /* never 0 */
	const char *value;
	size_t value_size;
};

/* Called with each record in turn; what it returns ends the reading, unless TDR_OK. */
typedef tdr_status (*file_log_apply)(void *context, const struct file_record *record);

/*
 * Reads the records from `*offset` to `end`, the file's size, and moves `*offset` behind the last that was applied. Takes
 * memory for one record at most. TDR_EPROTO names `path` and the offset where the bytes are no record.
 */
tdr_status file_log_read(int fd, const char *path, uint64_t *offset, uint64_t end, file_log_apply apply, void *context);

/* Writes a record to the end of `records`; its key is `mark` and `key` together. TDR_ELIMIT: more than a u32 can say. */
tdr_status file_log_put(struct buffer *records, const char *mark, const char *key, const void *value, size_t size);

/* Writes all of `records` at `end`, the file's size, or, failing that, cuts the file to `end` again. */
tdr_status file_log_write(int fd, const char *path, uint64_t end, const struct buffer *records);

#endif
