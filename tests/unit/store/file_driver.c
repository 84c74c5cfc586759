/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file store for test_file_interop.py: `file_driver PATH WORLD_SIZE` reads a command from each line of its standard input,
 * and answers each with a line: "ok", "ok ANSWER" or "TDR_E...: text". Values are in hexadecimal,
 * "-" for the empty one.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/store.h>

#define MAX_WORDS 4
#define LINE_SIZE 65536

static tdr_blob from_hex(const char *text)
{
	size_t size = strlen(text) / 2;
	tdr_blob blob = {.data = calloc(1, size + 1), .size = size};

	for (size_t i = 0; blob.data && i < size; i++) {
		char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};

		blob.data[i] = (char)strtoul(digits, NULL, 16);
	}
	return blob;
}

static void print_hex(tdr_blob *blob)
{
	printf("ok ");
	for (size_t i = 0; i < blob->size; i++)
		printf("%02x", (unsigned char)blob->data[i]);
	printf("\n");
	tdr_blob_free(blob);
}

static void print_number(int64_t number)
{
	printf("ok %" PRId64 "\n", number);
}

static tdr_status run_values(tdr_store *store, const char *verb, const char *key, tdr_blob *first, tdr_blob *second)
{
	tdr_blob answer;
	tdr_status status;

	if (strcmp(verb, "get") == 0) {
		status = tdr_store_get(store, key, TDR_TIMEOUT_DEFAULT, &answer);
	} else if (strcmp(verb, "compare_set") == 0) {
		status =
		    tdr_store_compare_set(store, key, first->data, first->size, second->data, second->size, &answer);
	} else {
		status = strcmp(verb, "set") == 0 ? tdr_store_set(store, key, first->data, first->size)
		                                  : tdr_store_append(store, key, first->data, first->size);
		if (status == TDR_OK)
			printf("ok\n");
		return status;
	}
	if (status == TDR_OK)
		print_hex(&answer);
	return status;
}

static tdr_status run(tdr_store *store, const char *const words[MAX_WORDS])
{
	const char *verb = words[0], *key = words[1];
	int64_t number = strtoll(words[2], NULL, 10);
	tdr_blob first, second;
	tdr_status status = TDR_OK;
	bool existed;

	if (strcmp(verb, "add") == 0) {
		status = tdr_store_add(store, key, number, &number);
		if (status == TDR_OK)
			print_number(number);
	} else if (strcmp(verb, "count_up") == 0) {
		for (int64_t left = number; left > 0 && status == TDR_OK; left--)
			status = tdr_store_add(store, key, 1, &number);
		if (status == TDR_OK)
			print_number(number);
	} else if (strcmp(verb, "delete") == 0) {
		status = tdr_store_delete_key(store, key, &existed);
		if (status == TDR_OK)
			print_number(existed);
	} else if (strcmp(verb, "num_keys") == 0) {
		status = tdr_store_num_keys(store, &number);
		if (status == TDR_OK)
			print_number(number);
	} else {
		first = from_hex(words[2]);
		second = from_hex(words[3]);
		status = run_values(store, verb, key, &first, &second);
		tdr_blob_free(&first);
		tdr_blob_free(&second);
	}
	return status;
}

int main(int argc, char **argv)
{
	static char line[LINE_SIZE];
	tdr_store *store;

	if (argc != 3 || tdr_store_file(argv[1], atoi(argv[2]), &store) != TDR_OK) {
		fprintf(stderr, "usage: file_driver PATH WORLD_SIZE (%s)\n", tdr_last_error());
		return 2;
	}
	setlinebuf(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		const char *words[MAX_WORDS] = {"", "", "", ""};
		char *rest = NULL, *word = strtok_r(line, " \n", &rest);
		tdr_status status;

		for (int i = 0; word && i < MAX_WORDS; i++, word = strtok_r(NULL, " \n", &rest))
			words[i] = word;
		status = run(store, words);
		if (status != TDR_OK)
			printf("%s: %s\n", tdr_status_name(status), tdr_last_error());
	}
	tdr_store_unref(store);
	return 0;
}
