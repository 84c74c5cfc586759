/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>

#define FIRST_ROOM 256

uint8_t *buffer_reserve_slow(struct buffer *buffer, size_t more)
{
	size_t room = MAX_OF(buffer->room * 2, (size_t)FIRST_ROOM);
	uint8_t *data;

	if (more > SIZE_MAX / 4 || buffer->size > SIZE_MAX / 4) {
		buffer->failed = true;
		return NULL;
	}
	room = MAX_OF(room, buffer->size + more);
	data = realloc(buffer->data, room);
	if (!data) {
		buffer->failed = true;
		return NULL;
	}
	buffer->data = data;
	buffer->room = room;
	return data + buffer->size;
}

void buffer_printf(struct buffer *buffer, const char *format, ...)
{
	va_list arguments, again;
	int size;

	va_start(arguments, format);
	va_copy(again, arguments);
	size = vsnprintf(NULL, 0, format, arguments);
	if (size >= 0 && buffer_reserve(buffer, (size_t)size + 1)) {
		vsnprintf((char *)buffer->data + buffer->size, (size_t)size + 1, format, again);
		buffer->size += (size_t)size;
	}
	va_end(again);
	va_end(arguments);
}
