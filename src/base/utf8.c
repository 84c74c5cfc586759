/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

#include <string.h>

#define HIGH_BITS 0x8080808080808080u

size_t utf8_decode(const void *text, size_t size, uint32_t *ret_code)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	const uint8_t *at = text;
	uint32_t code;
	size_t length;

	if (at[0] < 0x80) {
		*ret_code = at[0];
		return 1;
	}
	if (at[0] < 0xc2 || at[0] > 0xf4)
		return 0;
	length = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
	if (size < length)
		return 0;
	code = at[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (at[i] & 0x3f);
	}
	/* Longer than need be, or past the last character. Surrogates (0xd800 to 0xdfff) pass. */
	if (code < smallest[length] || code > 0x10ffff)
		return 0;
	*ret_code = code;
	return length;
}

bool utf8_valid(const void *text, size_t size)
{
	const uint8_t *at = text, *end;

	if (size == 0) /* `text` may be NULL then, which nothing may be added to */
		return true;
	end = at + size;
	while (at < end) {
		uint64_t word;
		uint32_t code;
		size_t length;

		/* Most text is ASCII: eight bytes at a time. */
		while ((size_t)(end - at) >= sizeof(word)) {
			memcpy(&word, at, sizeof(word));
			if (word & HIGH_BITS)
				break;
			at += sizeof(word);
		}
		if (at == end)
			break;
		length = utf8_decode(at, (size_t)(end - at), &code);
		if (length == 0)
			return false;
		at += length;
	}
	return true;
}
