/* SPDX-License-Identifier: Apache-2.0 */
/* Letters on the wire: the bytes of each kind, which are frozen, and what is refused. */
#include "rref/letter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FORK                                                                                                           \
	{                                                                                                              \
		.incarnation = 7, .local = 300, .worker = 2                                                            \
	}
#define RREF                                                                                                           \
	{                                                                                                              \
		.incarnation = 0x1122334455667788, .local = 1, .worker = 70000                                         \
	}
#define FORK_BYTES 0x07, 0xcd, 0x01, 0x2c, 0x02
#define RREF_BYTES 0xcf, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x01, 0xce, 0x00, 0x01, 0x11, 0x70

static const struct golden {
	struct letter letter;
	size_t size;
	uint8_t bytes[40];
} goldens[] = {
    {{.kind = LETTER_FORK_REQUEST, .fork = FORK, .rref = RREF, .number = 9, .origin = 128},
     25,
     {0x99, 0x01, FORK_BYTES, RREF_BYTES, 0x09, 0xcc, 0x80}},
    {{.kind = LETTER_CHILD_ACCEPT, .fork = FORK}, 7, {0x94, 0x02, FORK_BYTES}},
    {{.kind = LETTER_USER_DELETE, .fork = FORK, .rref = RREF, .number = 0},
     23,
     {0x98, 0x03, FORK_BYTES, RREF_BYTES, 0x00}},
    {{.kind = LETTER_WITHDRAW, .fork = FORK, .number = 5}, 8, {0x95, 0x04, FORK_BYTES, 0x05}},
    {{.kind = LETTER_ACK, .fork = FORK, .of = LETTER_WITHDRAW, .verdict = VERDICT_ARRIVED},
     9,
     {0x96, 0x05, FORK_BYTES, 0x04, 0x02}},
    {{.kind = LETTER_ACCEPTED, .fork = FORK}, 7, {0x94, 0x06, FORK_BYTES}},
    {{.kind = LETTER_RECHECK, .fork = FORK, .number = 12}, 8, {0x95, 0x07, FORK_BYTES, 0x0c}},
};

static tdr_status decode(const uint8_t *bytes, size_t size, struct letter *ret_letter)
{
	struct decoder decoder;
	tdr_status status;

	decoder_init(&decoder, &codec_default_limits, bytes, size, NULL, 0);
	status = letter_decode(&decoder, ret_letter);
	return status == TDR_OK ? decode_end(&decoder) : status;
}

static void assert_same(const struct letter *a, const struct letter *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->of, b->of);
	assert_int_equal(a->verdict, b->verdict);
	assert_true(rref_id_equal(&a->fork, &b->fork));
	assert_true(rref_id_equal(&a->rref, &b->rref));
	assert_int_equal(a->fork.worker, b->fork.worker);
	assert_int_equal(a->rref.worker, b->rref.worker);
	assert_int_equal(a->number, b->number);
	assert_int_equal(a->origin, b->origin);
}

static void test_golden_bytes(void **state)
{
	for (size_t i = 0; i < COUNT_OF(goldens); i++) {
		const struct golden *golden = &goldens[i];
		struct encoder encoder;
		struct letter read;

		encoder_init(&encoder, &codec_default_limits);
		letter_encode(&encoder, &golden->letter);
		assert_int_equal(encoder.body.size, golden->size);
		assert_memory_equal(encoder.body.data, golden->bytes, golden->size);
		assert_int_equal(decode(golden->bytes, golden->size, &read), TDR_OK);
		assert_same(&golden->letter, &read);
		encoder_fini(&encoder);
	}
}

static void test_every_kind_is_here(void **state)
{
	size_t kinds = 0;

	for (unsigned kind = 0; kind < 300; kind++)
		kinds += letter_kind_name(kind) != NULL;
	assert_int_equal(kinds, COUNT_OF(goldens));
	assert_string_equal(letter_kind_name(LETTER_WITHDRAW), "RREF_WITHDRAW");
}

static void test_truncated(void **state)
{
	for (size_t i = 0; i < COUNT_OF(goldens); i++)
		for (size_t size = 0; size < goldens[i].size; size++) {
			uint8_t *bytes = malloc(size + 1); /* so that a sanitizer sees a read past the end */
			struct letter letter = {.kind = 77};

			assert_non_null(bytes);
			memcpy(bytes, goldens[i].bytes, size);
			assert_int_equal(decode(bytes, size, &letter), TDR_EPROTO);
			assert_int_equal(letter.kind, 77);
			free(bytes);
		}
}

static void test_malformed(void **state)
{
	static const struct {
		size_t size;
		uint8_t bytes[16];
	} cases[] = {
	    {7, {0x94, 0x00, FORK_BYTES}},                                /* no such kind */
	    {7, {0x94, 0x08, FORK_BYTES}},                                /* nor that */
	    {9, {0x94, 0xcd, 0x01, 0x02, FORK_BYTES}},                    /* a kind past a byte */
	    {8, {0x95, 0x02, FORK_BYTES, 0x00}},                          /* a part too many */
	    {6, {0x93, 0x02, 0x07, 0xcd, 0x01, 0x2c}},                    /* a part too few */
	    {7, {0x94, 0xff, FORK_BYTES}},                                /* a kind below zero */
	    {7, {0x94, 0x02, 0xc0, 0xcd, 0x01, 0x2c, 0x02}},              /* nil for a name */
	    {11, {0x96, 0x05, FORK_BYTES, 0xcd, 0x01, 0x01, 0x00}},       /* an answer to kind 257 */
	    {13, {0x94, 0x02, 0x07, 0x01, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0}}, /* a worker past 32 bits */
	    {2, {0x81, 0x02}},                                            /* no array at all */
	};

	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		struct letter letter;

		if (decode(cases[i].bytes, cases[i].size, &letter) != TDR_EPROTO)
			fail_msg("case %zu was taken", i);
	}
}

static void test_passed(void **state)
{
	static const uint8_t golden[RREF_PASSED_SIZE] = {
	    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 1,    0, 0, 0, 0, 0, 0, 0, 0x70, 0x11, 0x01, 0, /* rref */
	    7,    0,    0,    0,    0,    0,    0,    0,    0x2c, 1, 0, 0, 0, 0, 0, 0, 2,    0,    0,    0, /* fork */
	    3,    0,    0,    0,                                                                            /* owner */
	    4,    0,    0,    0,    0,    0,    0,    0, /* incarnation */
	    5,    0,    0,    0,    0,    0,    0,    0, /* origin */
	    6,    0,    0,    0,    0,    0,    0,    0, /* number */
	};
	const struct rref_passed passed = {
	    .rref = RREF, .fork = FORK, .owner_worker = 3, .owner_incarnation = 4, .origin = 5, .number = 6};
	uint8_t bytes[RREF_PASSED_SIZE];
	struct rref_passed read = {0};

	assert_int_equal(rref_passed_write(&passed, bytes), RREF_PASSED_SIZE);
	assert_memory_equal(bytes, golden, sizeof(golden));
	assert_int_equal(rref_passed_read(bytes, sizeof(bytes), &read), TDR_OK);
	assert_true(rref_id_equal(&read.rref, &passed.rref) && rref_id_equal(&read.fork, &passed.fork));
	assert_int_equal(read.rref.worker, 70000);
	assert_int_equal(read.owner_worker, 3);
	assert_int_equal(read.owner_incarnation, 4);
	assert_int_equal(read.origin, 5);
	assert_int_equal(read.number, 6);
	for (size_t size = 0; size < RREF_PASSED_SIZE; size++)
		assert_int_equal(rref_passed_read(bytes, size, &read), TDR_EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_golden_bytes), cmocka_unit_test(test_every_kind_is_here),
	    cmocka_unit_test(test_truncated),    cmocka_unit_test(test_malformed),
	    cmocka_unit_test(test_passed),
	};

	return cmocka_run_group_tests_name("rref/letter", tests, NULL, NULL);
}
