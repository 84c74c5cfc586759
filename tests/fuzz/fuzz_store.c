/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store's server reads, without its sockets. The input is a talk of three clients: blocks of one byte that says which
 * client (its low two bits; the fourth value is a client that goes away and comes back) and how many bytes it sends (the
 * rest), and those bytes. Then all is fed again, byte by byte, to another server.
 *
 * Beside crashes it looks for what must hold: the limits, what is counted, that nobody's waits outlive them, and that it
 * makes no difference in which pieces a request comes.
 */
#include "store/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/status.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, tdr_last_error());          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

#define CLIENTS 3
#define MAX_VALUE_SIZE 64
#define MAX_KEYS 16
#define MAX_REQUEST_SIZE 4096
#define MAX_ANSWER_SIZE 1024

struct talk {
	struct service service;
	struct session clients[CLIENTS];
	struct buffer answers[CLIENTS]; /* all that each was sent, and an "E" where it was dropped */
	bool held;                      /* a request stood behind a wait: when it is served depends on the pieces */
};

static void begin(struct talk *talk)
{
	*talk = (struct talk){0};
	service_init(&talk->service, MAX_VALUE_SIZE, MAX_KEYS);
	talk->service.limits.max_request_size = MAX_REQUEST_SIZE;
	talk->service.max_answer_size = MAX_ANSWER_SIZE;
	for (int i = 0; i < CLIENTS; i++)
		session_init(&talk->clients[i], &talk->service);
}

static void drop(struct talk *talk, int client)
{
	session_fini(&talk->clients[client]);
	session_init(&talk->clients[client], &talk->service);
	buffer_append(&talk->answers[client], "E", 1);
}

static void check(const struct talk *talk)
{
	const struct service *service = &talk->service;
	size_t kept = 0;

	CHECK(table_count(&service->table) + service->waits.queued <= MAX_KEYS);
	for (int i = 0; i < CLIENTS; i++) {
		const struct session *client = &talk->clients[i];

		kept += client->kept;
		CHECK(client->input.size <= MAX_REQUEST_SIZE + 256);
		CHECK(!client->held || client->wait);
		CHECK(!client->wait || client->wait->owner == client);
	}
	CHECK(service->kept == kept);
}

/* Sends what a client is to be sent, and lets it go on, until there is nothing more to do for anyone. */
static void settle(struct talk *talk)
{
	bool more = true;

	while (more) {
		more = false;
		for (int i = 0; i < CLIENTS; i++) {
			struct session *client = &talk->clients[i];
			struct wire_bytes output = session_output(client);

			buffer_append(&talk->answers[i], output.data, output.size);
			session_sent(client, output.size);
			if (list_empty(&client->ready) && !session_can_run(client))
				continue;
			more = true;
			if (session_run(client) != TDR_OK)
				drop(talk, i);
		}
	}
}

/* False where the client was dropped. */
static bool feed(struct talk *talk, int client, const uint8_t *data, size_t size)
{
	bool good = session_feed(&talk->clients[client], data, size) == TDR_OK;

	if (!good) {
		CHECK(tdr_last_error()[0] != '\0');
		settle(talk);
		drop(talk, client);
	}
	talk->held |= talk->clients[client].held;
	settle(talk);
	check(talk);
	return good;
}

static void end(struct talk *talk)
{
	for (int i = 0; i < CLIENTS; i++) {
		session_fini(&talk->clients[i]);
		buffer_fini(&talk->answers[i]);
	}
	CHECK(talk->service.kept == 0);
	service_fini(&talk->service);
	CHECK(!talk->service.waits.spots && talk->service.waits.queued == 0);
}

/* Feeds all blocks, in pieces of `piece` bytes. The rest of a block in which a client is dropped is for nobody. */
static void play(struct talk *talk, const uint8_t *data, size_t size, size_t piece)
{
	while (size > 0) {
		int client = data[0] & 3;
		size_t block = MIN_OF((size_t)(data[0] >> 2), size - 1);

		data++;
		size--;
		if (client == CLIENTS) {
			drop(talk, (int)(block % CLIENTS));
			continue;
		}
		for (size_t at = 0; at < block; at += piece)
			if (!feed(talk, client, data + at, MIN_OF(piece, block - at)))
				break;
		data += block;
		size -= block;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct talk whole, pieces;

	begin(&whole);
	begin(&pieces);
	play(&whole, data, size, SIZE_MAX / 2);
	play(&pieces, data, size, 1);
	CHECK(whole.held == pieces.held);
	for (int i = 0; i < CLIENTS && !whole.held; i++) {
		CHECK(whole.answers[i].size == pieces.answers[i].size);
		CHECK(whole.answers[i].size == 0 ||
		      memcmp(whole.answers[i].data, pieces.answers[i].data, whole.answers[i].size) == 0);
	}
	end(&whole);
	end(&pieces);
	return 0;
}
