/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire is frozen: every line of the golden corpus ($GOLDEN, golden/values.txt) is checked byte for byte, both ways.
 * And bytes that were cut or changed give a status or a value that is sound, whatever they are.
 *
 * With --write it prints the `value` lines of all samples: to be looked at before any is added to the corpus.
 */
#include "sample.h"
#include "value/codec.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct golden {
	tdr_storage *storages[SAMPLE_STORAGES];
	struct encoder encoder;
	uint8_t bytes[4096]; /* of the line at hand */
	size_t size;
};

static int setup(void **state)
{
	struct golden *golden = calloc(1, sizeof(*golden));

	sample_storages_new(golden->storages);
	encoder_init(&golden->encoder, &codec_default_limits);
	*state = golden;
	return 0;
}

static int teardown(void **state)
{
	struct golden *golden = *state;

	encoder_fini(&golden->encoder);
	sample_storages_unref(golden->storages);
	free(golden);
	return 0;
}

/* From a copy of just its size, so that ASan sees a read past the end. */
static tdr_status decode(struct golden *golden, const void *bytes, size_t size, tdr_value **ret_value)
{
	struct decoder decoder;
	uint8_t *copy = malloc(size > 0 ? size : 1);
	tdr_value *value = NULL;
	tdr_status status;

	memcpy(copy, bytes, size);
	decoder_init(&decoder, &codec_default_limits, copy, size, golden->storages, SAMPLE_STORAGES);
	status = decode_value(&decoder, &value);
	if (status == TDR_OK) {
		status = decode_end(&decoder);
		if (status != TDR_OK)
			tdr_value_unref(value);
	}
	free(copy);
	if (status == TDR_OK)
		*ret_value = value;
	return status;
}

/* What came out of any bytes can be printed, compared, and sent again. */
static void exercise(struct golden *golden, tdr_value *value)
{
	char text[64];
	tdr_value *again = NULL;

	assert_int_equal(tdr_value_status(value), TDR_OK);
	tdr_value_print(value, text, sizeof(text));
	assert_true(tdr_value_equal(value, value));
	encoder_reset(&golden->encoder);
	assert_int_equal(encode_value(&golden->encoder, value), TDR_OK);
	if (golden->encoder.nstorages == 0) {
		assert_int_equal(decode(golden, golden->encoder.body.data, golden->encoder.body.size, &again), TDR_OK);
		assert_true(tdr_value_equal(value, again));
		tdr_value_unref(again);
	}
}

/* ---- the corpus ---- */

static unsigned digit(char c)
{
	assert_true(isxdigit((unsigned char)c));
	return isdigit((unsigned char)c) ? (unsigned)(c - '0') : (unsigned)(tolower((unsigned char)c) - 'a' + 10);
}

static void parse_hex(struct golden *golden, const char *text)
{
	golden->size = 0;
	for (; text[0] && !isspace((unsigned char)text[0]); text += 2) {
		assert_true(golden->size < sizeof(golden->bytes));
		golden->bytes[golden->size++] = (uint8_t)(digit(text[0]) << 4 | digit(text[1]));
	}
}

/* Calls `check` with each line's two words, the bytes having been read. */
static void for_each_line(struct golden *golden, void (*check)(struct golden *, const char *word, const char *name))
{
	const char *path = getenv("GOLDEN");
	char line[8192], word[32], name[64], hex[8192];
	FILE *file;

	assert_non_null(path);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (line[0] == '#' || line[0] == '\n')
			continue;
		assert_int_equal(sscanf(line, "%31s %63s %8191s", word, name, hex), 3);
		parse_hex(golden, hex);
		check(golden, word, name);
	}
	fclose(file);
}

static void check_value(struct golden *golden, const char *name, bool same_bytes)
{
	size_t sample = sample_find(name, strlen(name));
	tdr_value *built, *read = NULL;

	if (sample == SIZE_MAX)
		fail_msg("no sample is called %s", name);
	built = sample_build(sample, golden->storages);
	if (same_bytes) {
		encoder_reset(&golden->encoder);
		assert_int_equal(encode_value(&golden->encoder, built), TDR_OK);
		if (golden->encoder.body.size != golden->size ||
		    memcmp(golden->encoder.body.data, golden->bytes, golden->size) != 0)
			fail_msg("%s is encoded in other bytes", name);
		for (size_t i = 0; i < golden->encoder.nstorages; i++)
			assert_ptr_equal(golden->encoder.storages[i], golden->storages[i]);
	}
	if (decode(golden, golden->bytes, golden->size, &read) != TDR_OK)
		fail_msg("%s: %s", name, tdr_last_error());
	if (!tdr_value_equal(built, read))
		fail_msg("%s is decoded into something else", name);
	exercise(golden, read);
	tdr_value_unref(read);
	tdr_value_unref(built);
}

static void check_line(struct golden *golden, const char *word, const char *name)
{
	tdr_value *value;
	tdr_status status;

	if (strcmp(word, "refused") == 0) {
		status = decode(golden, golden->bytes, golden->size, &value);
		assert_string_equal(tdr_status_name(status), name);
		return;
	}
	assert_true(strcmp(word, "value") == 0 || strcmp(word, "reads") == 0);
	check_value(golden, name, strcmp(word, "value") == 0);
}

static void test_corpus(void **state)
{
	for_each_line(*state, check_line);
}

static size_t lines_of_sample[256];

static void count_line(struct golden *golden, const char *word, const char *name)
{
	if (strcmp(word, "value") == 0)
		lines_of_sample[sample_find(name, strlen(name))]++;
}

static void test_corpus_has_every_sample_once(void **state)
{
	for_each_line(*state, count_line);
	for (size_t i = 0; i < sample_count(); i++)
		if (lines_of_sample[i] != 1)
			fail_msg("%s is there %zu times", sample_name(i), lines_of_sample[i]);
}

/* ---- damage ---- */

static void check_cut(struct golden *golden, const char *word, const char *name)
{
	tdr_value *value;

	if (strcmp(word, "refused") == 0)
		return;
	for (size_t size = 0; size < golden->size; size++)
		if (decode(golden, golden->bytes, size, &value) != TDR_EPROTO)
			fail_msg("%s cut to %zu of %zu bytes is accepted", name, size, golden->size);
}

static void test_cut_anywhere(void **state)
{
	for_each_line(*state, check_cut);
}

static void check_changed(struct golden *golden, const char *word, const char *name)
{
	for (size_t at = 0; at < golden->size; at++) {
		uint8_t byte = golden->bytes[at];

		/* The contents of long strings are alike. */
		if (at > 80 && at + 8 < golden->size)
			continue;
		for (unsigned other = 0; other < 256; other++) {
			tdr_value *value;

			golden->bytes[at] = (uint8_t)other;
			if (decode(golden, golden->bytes, golden->size, &value) == TDR_OK) {
				exercise(golden, value);
				tdr_value_unref(value);
			}
		}
		golden->bytes[at] = byte;
	}
}

static void test_changed_anywhere(void **state)
{
	for_each_line(*state, check_changed);
}

static int write_samples(void)
{
	struct golden *golden;
	void *state;

	setup(&state);
	golden = state;
	for (size_t i = 0; i < sample_count(); i++) {
		tdr_value *value = sample_build(i, golden->storages);

		encoder_reset(&golden->encoder);
		if (encode_value(&golden->encoder, value) != TDR_OK)
			return EXIT_FAILURE;
		printf("value %s ", sample_name(i));
		for (size_t at = 0; at < golden->encoder.body.size; at++)
			printf("%02x", golden->encoder.body.data[at]);
		printf("\n");
		tdr_value_unref(value);
	}
	return teardown(&state);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_corpus),
	    cmocka_unit_test(test_corpus_has_every_sample_once),
	    cmocka_unit_test(test_cut_anywhere),
	    cmocka_unit_test(test_changed_anywhere),
	};

	if (argc == 2 && strcmp(argv[1], "--write") == 0)
		return write_samples();
	return cmocka_run_group_tests_name("value/golden", tests, setup, teardown);
}
