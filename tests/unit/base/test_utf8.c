/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8: every character there is, and every way to be malformed. */
#include "base/utf8.h"

#include "base/macros.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static size_t encode(uint32_t code, uint8_t *to)
{
	if (code < 0x80) {
		to[0] = (uint8_t)code;
		return 1;
	}
	if (code < 0x800) {
		to[0] = (uint8_t)(0xc0 | code >> 6);
		to[1] = (uint8_t)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		to[0] = (uint8_t)(0xe0 | code >> 12);
		to[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
		to[2] = (uint8_t)(0x80 | (code & 0x3f));
		return 3;
	}
	to[0] = (uint8_t)(0xf0 | code >> 18);
	to[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
	to[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
	to[3] = (uint8_t)(0x80 | (code & 0x3f));
	return 4;
}

static void test_every_character(void **state)
{
	for (uint32_t code = 0; code <= 0x10ffff; code++) {
		uint8_t bytes[4];
		size_t size = encode(code, bytes);
		uint32_t read;

		assert_int_equal(utf8_decode(bytes, size, &read), size);
		assert_int_equal(read, code);
		assert_true(utf8_valid(bytes, size));
		assert_false(size > 1 && utf8_valid(bytes, size - 1));
	}
}

static void test_malformed(void **state)
{
	static const char *const malformed[] = {
	    "\x80",
	    "\xbf",
	    "\xc0\x80",
	    "\xc1\xbf",
	    "\xe0\x9f\xbf",
	    "\xf0\x8f\xbf\xbf",
	    "\xf4\x90\x80\x80",
	    "\xf5\x80\x80\x80",
	    "\xff",
	    "\xc3(",
	    "\xe2(\xac",
	    "\xe2\x82(",
	    "\xf0\x9f\x8c(",
	    "\xc3",
	};
	char text[64];

	for (size_t i = 0; i < COUNT_OF(malformed); i++) {
		/* Wherever it stands to the eight bytes that are looked at in one go. */
		for (size_t before = 0; before < 20; before++) {
			memset(text, 'x', sizeof(text));
			memcpy(text + before, malformed[i], strlen(malformed[i]));
			assert_false(utf8_valid(text, before + strlen(malformed[i])));
			assert_false(utf8_valid(text, sizeof(text)));
			assert_true(utf8_valid(text, before));
		}
	}
}

static void test_empty(void **state)
{
	assert_true(utf8_valid("", 0));
	assert_true(utf8_valid(NULL, 0)); /* undefined, says the sanitizer, where something is added to it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_character),
	    cmocka_unit_test(test_malformed),
	    cmocka_unit_test(test_empty),
	};

	return cmocka_run_group_tests_name("base/utf8", tests, NULL, NULL);
}
