/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tcp store for test_tcp_interop.py, in a process of its own.
 *
 *     tcp_driver serve                      a server on loopback: prints its port, serves until its standard input ends
 *     tcp_driver open HOST PORT TIMEOUT_MS  a client: a command from each line of its standard input, an answer to each:
 *                                           "ok", "ok ANSWER" or "TDR_E...: text"
 *
 * Keys have no spaces; values are in hexadecimal, "-" for the empty one.
 */
#include "store/tcp_store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/store.h>

#define MAX_WORDS 8
#define LINE_SIZE ((size_t)1 << 20)

struct words {
	int count;
	const char *each[MAX_WORDS]; /* the verb first; "" where there is none */
};

static tdr_blob from_hex(const char *text)
{
	size_t size = strlen(text) / 2;
	tdr_blob blob = {.data = calloc(1, size + 1), .size = size};

	if (!blob.data)
		abort();
	for (size_t i = 0; i < size; i++) {
		char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};

		blob.data[i] = (char)strtoul(digits, NULL, 16);
	}
	return blob;
}

static void print_hex(tdr_blob *blob)
{
	for (size_t i = 0; i < blob->size; i++)
		printf("%02x", (unsigned char)blob->data[i]);
	tdr_blob_free(blob);
}

static tdr_status run_set(tdr_store *store, const struct words *words)
{
	tdr_blob value = from_hex(words->each[2]);
	tdr_status status = tdr_store_set(store, words->each[1], value.data, value.size);

	if (status == TDR_OK)
		printf("ok");
	tdr_blob_free(&value);
	return status;
}

static tdr_status run_append(tdr_store *store, const struct words *words)
{
	tdr_blob value = from_hex(words->each[2]);
	tdr_status status = tdr_store_append(store, words->each[1], value.data, value.size);

	if (status == TDR_OK)
		printf("ok");
	tdr_blob_free(&value);
	return status;
}

static tdr_status run_get(tdr_store *store, const struct words *words)
{
	tdr_blob value;
	tdr_status status = tdr_store_get(store, words->each[1], TDR_TIMEOUT_DEFAULT, &value);

	if (status != TDR_OK)
		return status;
	printf("ok ");
	print_hex(&value);
	return TDR_OK;
}

static tdr_status run_multi_get(tdr_store *store, const struct words *words)
{
	tdr_blob values[MAX_WORDS];
	size_t count = (size_t)words->count - 1;
	tdr_status status = tdr_store_multi_get(store, count, words->each + 1, TDR_TIMEOUT_DEFAULT, values);

	if (status != TDR_OK)
		return status;
	printf("ok");
	for (size_t i = 0; i < count; i++) {
		printf(" ");
		print_hex(&values[i]);
	}
	return TDR_OK;
}

static tdr_status run_compare_set(tdr_store *store, const struct words *words)
{
	tdr_blob expected = from_hex(words->each[2]), desired = from_hex(words->each[3]), value;
	tdr_status status = tdr_store_compare_set(store, words->each[1], expected.data, expected.size, desired.data,
	                                          desired.size, &value);

	if (status == TDR_OK) {
		printf("ok ");
		print_hex(&value);
	}
	tdr_blob_free(&expected);
	tdr_blob_free(&desired);
	return status;
}

static tdr_status run_add(tdr_store *store, const struct words *words)
{
	int64_t sum;
	tdr_status status = tdr_store_add(store, words->each[1], strtoll(words->each[2], NULL, 10), &sum);

	if (status == TDR_OK)
		printf("ok %" PRId64, sum);
	return status;
}

static tdr_status run_num_keys(tdr_store *store, const struct words *words)
{
	int64_t count;
	tdr_status status = tdr_store_num_keys(store, &count);

	(void)words;
	if (status == TDR_OK)
		printf("ok %" PRId64, count);
	return status;
}

static tdr_status run_check(tdr_store *store, const struct words *words)
{
	bool all;
	tdr_status status = tdr_store_check(store, (size_t)words->count - 1, words->each + 1, &all);

	if (status == TDR_OK)
		printf("ok %d", all);
	return status;
}

static tdr_status run_wait(tdr_store *store, const struct words *words)
{
	tdr_status status = tdr_store_wait(store, (size_t)words->count - 1, words->each + 1, TDR_TIMEOUT_DEFAULT);

	if (status == TDR_OK)
		printf("ok");
	return status;
}

static tdr_status run_delete(tdr_store *store, const struct words *words)
{
	bool existed;
	tdr_status status = tdr_store_delete_key(store, words->each[1], &existed);

	if (status == TDR_OK)
		printf("ok %d", existed);
	return status;
}

static tdr_status run_announce(tdr_store *store, const struct words *words)
{
	tdr_status status = tcp_store_announce(store);

	(void)words;
	if (status == TDR_OK)
		printf("ok");
	return status;
}

static const struct {
	const char *verb;
	tdr_status (*run)(tdr_store *store, const struct words *words);
} commands[] = {
    {"set", run_set},
    {"append", run_append},
    {"get", run_get},
    {"multi_get", run_multi_get},
    {"compare_set", run_compare_set},
    {"add", run_add},
    {"num_keys", run_num_keys},
    {"check", run_check},
    {"wait", run_wait},
    {"delete", run_delete},
    {"announce", run_announce},
};

static void run(tdr_store *store, char *line)
{
	struct words words = {.each = {"", "", "", "", "", "", "", ""}};
	char *rest = NULL;

	for (char *word = strtok_r(line, " \n", &rest); word && words.count < MAX_WORDS;
	     word = strtok_r(NULL, " \n", &rest))
		words.each[words.count++] = word;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].verb, words.each[0]) == 0) {
			tdr_status status = commands[i].run(store, &words);

			if (status != TDR_OK)
				printf("%s: %s", tdr_status_name(status), tdr_last_error());
			printf("\n");
			return;
		}
	printf("no such command: %s\n", words.each[0]);
}

static int run_client(const char *host, const char *port, const char *timeout_ms)
{
	static char line[LINE_SIZE];
	tdr_store *store;
	tdr_status status;

	status = tdr_store_tcp(host, (uint16_t)strtoul(port, NULL, 10), strtoll(timeout_ms, NULL, 10), &store);
	if (status != TDR_OK) {
		printf("%s: %s\n", tdr_status_name(status), tdr_last_error());
		return 1;
	}
	printf("ok\n");
	while (fgets(line, sizeof(line), stdin))
		run(store, line);
	tdr_store_unref(store);
	return 0;
}

static int run_server(void)
{
	tdr_store_server *server;
	tdr_status status = tdr_store_server_open(NULL, &server);

	if (status != TDR_OK) {
		printf("%s: %s\n", tdr_status_name(status), tdr_last_error());
		return 1;
	}
	printf("ok %u\n", tdr_store_server_port(server));
	while (getchar() != EOF)
		continue;
	tdr_store_server_close(server);
	return 0;
}

int main(int argc, char **argv)
{
	setlinebuf(stdout);
	if (argc == 2 && strcmp(argv[1], "serve") == 0)
		return run_server();
	if (argc == 5 && strcmp(argv[1], "open") == 0)
		return run_client(argv[2], argv[3], argv[4]);
	fprintf(stderr, "usage: tcp_driver serve | tcp_driver open HOST PORT TIMEOUT_MS\n");
	return 2;
}
