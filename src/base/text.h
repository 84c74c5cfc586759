/* SPDX-License-Identifier: Apache-2.0 */
/* Texts out of bytes. */
#ifndef TENDRIL_BASE_TEXT_H
#define TENDRIL_BASE_TEXT_H

#include <stdlib.h>
#include <string.h>

/*
 * A copy of `size` bytes that ends in a NUL; NULL when memory runs out. Unlike strndup it looks at no byte past them, so they
 * may lie at the very end of a message.
 */
static inline char *text_copy(const char *bytes, size_t size)
{
	char *copy = malloc(size + 1);

	if (!copy)
		return NULL;
	memcpy(copy, bytes, size);
	copy[size] = '\0';
	return copy;
}

#endif
