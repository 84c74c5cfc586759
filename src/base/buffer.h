/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing run of bytes. Running out of memory is remembered (`failed`) and checked once at the end, so that writers need not
 * check each step.
 */
#ifndef TENDRIL_BASE_BUFFER_H
#define TENDRIL_BASE_BUFFER_H

#include "base/macros.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct buffer {
	uint8_t *data;
	size_t size;
	size_t room;
	bool failed;
};

/* Makes room for `more` bytes; NULL, and `failed`, when memory runs out. Else where they begin; they do not count yet. */
uint8_t *buffer_reserve_slow(struct buffer *buffer, size_t more);

static inline uint8_t *buffer_reserve(struct buffer *buffer, size_t more)
{
	if (likely(buffer->room - buffer->size >= more && buffer->data))
		return buffer->data + buffer->size;
	return buffer_reserve_slow(buffer, more);
}

static inline void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
	uint8_t *to = buffer_reserve(buffer, size);

	if (likely(to != NULL) && size > 0) {
		memcpy(to, data, size);
		buffer->size += size;
	}
}

/* printf at the end, without the NUL. */
void buffer_printf(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline void buffer_fini(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct buffer){0};
}

#endif
