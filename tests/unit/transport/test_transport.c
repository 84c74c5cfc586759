/* SPDX-License-Identifier: Apache-2.0 */
/* What every transport must do. A new transport is one line in `candidates`. */
#include "ends.h"

#include "base/macros.h"
#include "support/leaks.h"

#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static const struct candidate {
	const struct transport *transport;
	const char *host;
} candidates[] = {
    {&transport_tcp, "127.0.0.1"},
    {&transport_sim, "conformance"},
};

static struct place *place_of(void **state)
{
	const struct candidate *candidate = *state;

	return place_new(candidate->transport, candidate->host, 4);
}

/* ---- opening and closing ---- */

static void test_open_close(void **state)
{
	struct place *place = place_of(state);
	struct end *server;
	struct end client;

	end_open(&client, place, NULL);
	AWAIT(&client, client.opened);
	server = place_end(place, 0);
	assert_true(server->opened);
	lane_close(client.lane, false);
	lane_close(client.lane, true);
	end_finish(&client);
	assert_int_equal(client.status, TDR_OK);
	assert_int_equal(client.opened, 1);
	AWAIT(server, server->closed);
	assert_int_equal(server->status, TDR_EIO);
	assert_false(server->refused);
	assert_true(strlen(server->text) > 0);
	place_free(place);
}

static void test_refused(void **state)
{
	struct place *place = place_of(state);
	struct end client;

	place_close_listener(place);
	end_open(&client, place, NULL);
	AWAIT(&client, client.closed);
	assert_int_equal(client.status, TDR_EUNREACHABLE);
	assert_true(client.refused);
	assert_int_equal(client.opened, 0);
	assert_int_equal(lane_send(client.lane, &(struct message){.type = MESSAGE_HEARTBEAT}), TDR_EIO);
	end_finish(&client);
	place_free(place);
}

static void test_bad_address(void **state)
{
	static const char *const bad[] = {
	    "", "://", "tcp://", "nonsense://1.2.3.4:5", "tcp://127.0.0.1", "tcp://[::1:4"};
	struct place *place = place_of(state);
	struct lane *lane = NULL;

	for (size_t i = 0; i < COUNT_OF(bad); i++)
		assert_int_equal(place->transport->connect(&place->config, bad[i], 1000, &lane), TDR_EINVAL);
	assert_null(lane);
	place_free(place);
}

static void test_drop_in_accept(void **state)
{
	struct place *place = place_of(state);
	struct end client;

	place->drop = true;
	end_open(&client, place, NULL);
	end_finish(&client);
	assert_int_equal(client.status, TDR_EIO);
	assert_false(client.refused);
	place_free(place);
}

static void test_close_in_accept(void **state)
{
	struct place *place = place_of(state);
	struct end client;

	place->close_in_accept = true;
	end_open(&client, place, NULL);
	end_finish(&client);
	assert_int_equal(client.status, TDR_EIO);
	AWAIT(&place->ends[0], place->ends[0].closed);
	assert_int_equal(place->ends[0].opened, 0);
	assert_int_equal(place->ends[0].status, TDR_OK);
	place_free(place);
}

static void test_close_before_open(void **state)
{
	struct place *place = place_of(state);

	for (int i = 0; i < 50; i++) {
		struct end client;

		end_open(&client, place, NULL);
		lane_close(client.lane, false);
		end_finish(&client);
		assert_int_equal(client.status, TDR_OK);
	}
	place_free(place);
}

static void test_listener_close(void **state)
{
	struct place *place = place_of(state);
	struct end clients[8], late;
	unsigned accepted;

	for (size_t i = 0; i < COUNT_OF(clients); i++)
		end_open(&clients[i], place, NULL);
	place_close_listener(place);
	accepted = place->accepted;
	end_open(&late, place, NULL);
	end_finish(&late);
	assert_int_equal(late.status, TDR_EUNREACHABLE);
	assert_int_equal(place->accepted, accepted);
	for (size_t i = 0; i < COUNT_OF(clients); i++) {
		lane_close(clients[i].lane, false);
		end_finish(&clients[i]);
	}
	place_free(place);
}

/* ---- messages ---- */

#define SMALL_MESSAGES 10000

/* Message i has the call id i, i % 200 bytes of body, and every seventh a storage of i bytes. */
static void check_small(struct end *end, const struct message *message)
{
	uint64_t i = end->messages;

	if (message->call_id != i || message->type != (i % 7 ? MESSAGE_CALL : MESSAGE_REPLY))
		end_wrong(end, "message %llu came as number %llu", (unsigned long long)message->call_id,
		          (unsigned long long)i);
	if (message->flags != (uint8_t)i || message->time_left_ms != (uint32_t)i * 3)
		end_wrong(end, "message %llu has other fields", (unsigned long long)i);
	if (message->body_size != i % 200)
		end_wrong(end, "message %llu has %zu bytes", (unsigned long long)i, message->body_size);
	for (size_t j = 0; j < message->body_size; j++)
		if (message->body[j] != (uint8_t)(i + j))
			end_wrong(end, "message %llu differs", (unsigned long long)i);
	if (message->nstorages != (i % 7 == 0))
		end_wrong(end, "message %llu has %zu storages", (unsigned long long)i, message->nstorages);
	else if (i % 7 == 0 && !has_pattern(message->storages[0], i, (unsigned)i))
		end_wrong(end, "the storage of message %llu differs", (unsigned long long)i);
	if (i % 7 == 0 && (uintptr_t)tdr_storage_data(message->storages[0]) % 64 != 0)
		end_wrong(end, "the storage of message %llu is not aligned", (unsigned long long)i);
}

static void send_small(struct end *end)
{
	for (uint64_t i = 0; i < SMALL_MESSAGES; i++) {
		tdr_storage *storage = i % 7 ? NULL : patterned(i, (unsigned)i);
		uint8_t body[200];
		struct message message = {
		    .type = storage ? MESSAGE_REPLY : MESSAGE_CALL,
		    .flags = (uint8_t)i,
		    .call_id = i,
		    .time_left_ms = (uint32_t)i * 3,
		    .body = body,
		    .body_size = i % 200,
		    .nstorages = storage != NULL,
		    .storages = &storage,
		};

		for (size_t j = 0; j < message.body_size; j++)
			body[j] = (uint8_t)(i + j);
		if (lane_send(end->lane, &message) != TDR_OK)
			end_wrong(end, "send: %s", tdr_last_error());
		tdr_storage_unref(storage);
	}
}

static void *send_small_thread(void *end)
{
	send_small(end);
	return NULL;
}

static void test_small_messages(void **state)
{
	struct place *place = place_of(state);
	struct end *server;
	struct end client;
	pthread_t thread;

	place->handle = check_small;
	end_open(&client, place, check_small);
	server = place_end(place, 0);
	assert_int_equal(pthread_create(&thread, NULL, send_small_thread, server), 0);
	send_small(&client);
	pthread_join(thread, NULL);
	AWAIT(server, server->messages == SMALL_MESSAGES);
	AWAIT(&client, client.messages == SMALL_MESSAGES);
	end_await_sent(&client);
	assert_int_equal(client.lane->ops->stats(client.lane).messages_sent, SMALL_MESSAGES);
	assert_int_equal(server->lane->ops->stats(server->lane).messages_received, SMALL_MESSAGES);
	assert_int_equal(client.lane->ops->stats(client.lane).bytes_sent,
	                 server->lane->ops->stats(server->lane).bytes_received);
	assert_true(client.lane->received_ms > 0 && client.lane->sent_ms > 0);
	lane_close(client.lane, true);
	end_finish(&client);
	place_free(place);
}

/* ---- large storages ---- */

static sem_t gate;

/* Holds up the receiving side until the test opens the gate. */
static void wait_at_gate(void)
{
	while (sem_wait(&gate) != 0)
		continue;
}

/* Message 0 waits at the gate; small ones carry 1 and up; large ones, in the end, 1000 and up. */
static void check_overtaking(struct end *end, const struct message *message)
{
	if (message->call_id == 0) {
		end_set_flag(end);
		wait_at_gate();
	} else if (message->call_id < 1000) {
		end_count(end);
	} else {
		if (end->counter != 100)
			end_wrong(end, "a large message came after %llu small ones", (unsigned long long)end->counter);
		if (message->nstorages != 2 || !has_pattern(message->storages[0], 64 * MIB, 1) ||
		    !has_pattern(message->storages[1], 1000, 2))
			end_wrong(end, "the large message %llu differs", (unsigned long long)message->call_id);
	}
}

static void test_small_overtake_large(void **state)
{
	struct place *place = place_of(state);
	tdr_storage *storages[] = {patterned(64 * MIB, 1), patterned(1000, 2)};
	struct end *server;
	struct end client;

	sem_init(&gate, 0, 0);
	place->handle = check_overtaking;
	end_open(&client, place, NULL);
	server = place_end(place, 0);
	end_send(&client, 0, NULL, 0);
	AWAIT(server, server->flag);
	/* The receiver stands still, so that most of both must be in the queue when the small ones come. */
	end_send_storages(&client, 1000, 2, storages);
	end_send_storages(&client, 1001, 2, storages);
	tdr_storage_unref(storages[0]);
	tdr_storage_unref(storages[1]);
	assert_true(client.lane->ops->stats(client.lane).bytes_queued > 64 * MIB);
	for (uint64_t i = 1; i <= 100; i++)
		end_send(&client, i, "small", 5);
	sem_post(&gate);
	AWAIT(server, server->messages == 103);
	lane_close(client.lane, true);
	end_finish(&client);
	sem_destroy(&gate);
	place_free(place);
}

struct waiting {
	struct end *end;
	struct waiter waiter;
	pthread_t thread;
};

static void *wait_for_nothing(void *context)
{
	struct waiting *waiting = context;
	struct lane *lane = waiting->end->lane;

	engine_wait(waiting->end->place->engine, &waiting->waiter, lane->ops->source(lane), 0);
	return NULL;
}

/* A thread that waits on a lane's source for an answer owns it, and yet does not hold up what others send. */
static void test_send_while_another_waits(void **state)
{
	struct place *place = place_of(state);
	tdr_storage *storage = patterned(64 * MIB, 4);
	struct waiting waiting = {0};
	struct end *server;
	struct end client;

	end_open(&client, place, NULL);
	AWAIT(&client, client.opened);
	server = place_end(place, 0);
	waiting.end = &client;
	waiter_init(&waiting.waiter);
	assert_int_equal(pthread_create(&waiting.thread, NULL, wait_for_nothing, &waiting), 0);
	usleep(50000); /* until it sleeps */
	end_send_storages(&client, 1, 1, &storage);
	tdr_storage_unref(storage);
	AWAIT(server, server->messages == 1);
	/* Nor does it hold up the lane's end. */
	lane_close(client.lane, false);
	AWAIT(&client, client.closed);
	waiter_wake(&waiting.waiter);
	pthread_join(waiting.thread, NULL);
	end_finish(&client);
	place_free(place);
}

static const size_t varied_sizes[] = {0,     1,     63,          64,     65,     1000,    65536,
                                      65537, 70000, 2 * MIB + 1, 262144, 262145, 3 * MIB, 0};

static void check_varied(struct end *end, const struct message *message)
{
	if (message->nstorages != COUNT_OF(varied_sizes)) {
		end_wrong(end, "%zu storages", message->nstorages);
		return;
	}
	for (size_t i = 0; i < message->nstorages; i++)
		if (!has_pattern(message->storages[i], varied_sizes[i], (unsigned)i) ||
		    (uintptr_t)tdr_storage_data(message->storages[i]) % 64 != 0)
			end_wrong(end, "storage %zu of %zu bytes differs", i, varied_sizes[i]);
	if (message->body_size != message->call_id ||
	    (message->body_size && message->body[message->body_size - 1] != 9))
		end_wrong(end, "the body differs");
}

static void test_varied_storages(void **state)
{
	static const size_t body_sizes[] = {0, 1, 100, 65536, 65537, 5000000};
	struct place *place = place_of(state);
	tdr_storage *storages[COUNT_OF(varied_sizes)];
	struct end *server;
	struct end client;
	uint8_t *body = malloc(5000000);

	assert_non_null(body);
	memset(body, 9, 5000000);
	for (size_t i = 0; i < COUNT_OF(varied_sizes); i++)
		storages[i] = patterned(varied_sizes[i], (unsigned)i);
	place->handle = check_varied;
	end_open(&client, place, NULL);
	server = place_end(place, 0);
	for (size_t i = 0; i < 4 * COUNT_OF(body_sizes); i++) {
		struct message message = {
		    .type = MESSAGE_CALL,
		    .call_id = body_sizes[i % COUNT_OF(body_sizes)],
		    .body = body,
		    .body_size = body_sizes[i % COUNT_OF(body_sizes)],
		    .nstorages = COUNT_OF(storages),
		    .storages = storages,
		};

		assert_int_equal(lane_send(client.lane, &message), TDR_OK);
	}
	free(body);
	for (size_t i = 0; i < COUNT_OF(varied_sizes); i++)
		tdr_storage_unref(storages[i]);
	AWAIT(server, server->messages == 4 * COUNT_OF(body_sizes));
	lane_close(client.lane, true);
	end_finish(&client);
	place_free(place);
}

static void check_many_storages(struct end *end, const struct message *message)
{
	for (size_t i = 0; i < message->nstorages; i++)
		if (!has_pattern(message->storages[i], i % 300, (unsigned)i))
			end_wrong(end, "storage %zu differs", i);
	if (message->nstorages != 5000)
		end_wrong(end, "%zu storages", message->nstorages);
}

static void test_many_storages(void **state)
{
	struct place *place = place_of(state);
	tdr_storage **storages = calloc(5000, sizeof(*storages));
	struct end *server;
	struct end client;

	assert_non_null(storages);
	for (size_t i = 0; i < 5000; i++)
		storages[i] = patterned(i % 300, (unsigned)i);
	place->handle = check_many_storages;
	end_open(&client, place, NULL);
	server = place_end(place, 0);
	end_send_storages(&client, 1, 5000, storages);
	end_send_storages(&client, 2, 5000, storages);
	for (size_t i = 0; i < 5000; i++)
		tdr_storage_unref(storages[i]);
	free(storages);
	AWAIT(server, server->messages == 2);
	lane_close(client.lane, true);
	end_finish(&client);
	place_free(place);
}

/* ---- load ---- */

static void echo(struct end *end, const struct message *message)
{
	struct message answer = *message;

	if (lane_send(end->lane, &answer) != TDR_OK)
		end_wrong(end, "echo: %s", tdr_last_error());
}

static void test_many_lanes(void **state)
{
	enum {
		LANES = 200
	};
	struct place *place = place_of(state);
	struct end *clients = calloc(LANES, sizeof(*clients));

	assert_non_null(clients);
	place->handle = echo;
	for (unsigned i = 0; i < LANES; i++) {
		end_open(&clients[i], place, NULL);
		end_send(&clients[i], i, "before it is open", 17);
	}
	for (unsigned i = 0; i < LANES; i++)
		end_send(&clients[i], i, "and after", 9);
	for (unsigned i = 0; i < LANES; i++)
		AWAIT(&clients[i], clients[i].messages == 2);
	for (unsigned i = 0; i < LANES; i++)
		lane_close(clients[i].lane, i % 2);
	for (unsigned i = 0; i < LANES; i++)
		end_finish(&clients[i]);
	free(clients);
	place_free(place);
}

/* A receiver that does not take messages up fills the sender's queue, and nothing else. */
static void check_slow(struct end *end, const struct message *message)
{
	if (message->call_id != end->messages)
		end_wrong(end, "message %llu out of order", (unsigned long long)message->call_id);
	if (message->call_id == 0) {
		end_set_flag(end);
		wait_at_gate();
	}
}

static void test_slow_reader(void **state)
{
	struct place *place = place_of(state);
	uint8_t body[10000] = {1};
	struct end *server;
	struct end client;
	size_t queued;

	sem_init(&gate, 0, 0);
	place->handle = check_slow;
	end_open(&client, place, NULL);
	server = place_end(place, 0);
	for (uint64_t i = 0; i < 5000; i++)
		end_send(&client, i, body, sizeof(body));
	AWAIT(server, server->flag);
	queued = client.lane->ops->stats(client.lane).bytes_queued;
	assert_in_range(queued, 1, 5000 * (sizeof(body) + MESSAGE_HEAD_SIZE));
	assert_int_equal(pool_stats(place->pool).bytes_in_use, 0);
	sem_post(&gate);
	AWAIT(server, server->messages == 5000);
	end_await_sent(&client);
	lane_close(client.lane, true);
	end_finish(&client);
	sem_destroy(&gate);
	place_free(place);
}

enum {
	SENDERS = 8,
	SENT_BY_EACH = 5000
};

struct sender {
	struct end *end;
	uint64_t number;
	pthread_t thread;
};

static uint64_t seen[SENDERS];

/* The call id is the sender's number and its count. */
static void check_senders(struct end *end, const struct message *message)
{
	uint64_t sender = message->call_id >> 32, count = message->call_id & UINT32_MAX;

	if (sender >= SENDERS || seen[sender] != count)
		end_wrong(end, "message %llu of sender %llu out of order", (unsigned long long)count,
		          (unsigned long long)sender);
	else
		seen[sender]++;
	if (message->body_size != count % 64 || (message->nstorages && !has_pattern(message->storages[0], 100000, 5)))
		end_wrong(end, "message %llu of sender %llu differs", (unsigned long long)count,
		          (unsigned long long)sender);
}

static void *send_many(void *context)
{
	struct sender *sender = context;
	uint8_t body[64] = {0};

	for (uint64_t i = 0; i < SENT_BY_EACH; i++)
		end_send(sender->end, sender->number << 32 | i, body, i % 64);
	return NULL;
}

static void test_concurrent_senders(void **state)
{
	struct place *place = place_of(state);
	struct sender senders[SENDERS];
	struct end *server;
	struct end client;

	memset(seen, 0, sizeof(seen));
	place->handle = check_senders;
	end_open(&client, place, NULL);
	server = place_end(place, 0);
	for (size_t i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){.end = &client, .number = i};
		assert_int_equal(pthread_create(&senders[i].thread, NULL, send_many, &senders[i]), 0);
	}
	for (size_t i = 0; i < SENDERS; i++)
		pthread_join(senders[i].thread, NULL);
	AWAIT(server, server->messages == SENDERS * SENT_BY_EACH);
	lane_close(client.lane, true);
	end_finish(&client);
	place_free(place);
}

/* Lanes are closed at any moment by either side while others send on them. */
static void *send_until_over(void *context)
{
	struct end *end = context;
	tdr_storage *storage = patterned(300000, 5);
	struct message message = {.type = MESSAGE_CALL, .nstorages = 1, .storages = &storage};

	while (lane_send(end->lane, &message) == TDR_OK)
		if (end->lane->ops->stats(end->lane).bytes_queued > 4 * MIB)
			sched_yield();
	tdr_storage_unref(storage);
	return NULL;
}

static void test_close_under_load(void **state)
{
	struct place *place = place_of(state);

	place->handle = NULL;
	for (unsigned i = 0; i < 12; i++) {
		struct end client, *server;
		pthread_t threads[2];

		end_open(&client, place, NULL);
		server = place_end(place, i);
		assert_int_equal(pthread_create(&threads[0], NULL, send_until_over, &client), 0);
		assert_int_equal(pthread_create(&threads[1], NULL, send_until_over, i % 3 ? &client : server), 0);
		AWAIT(server, server->messages > 3);
		lane_close(i % 2 ? client.lane : server->lane, i % 4 < 2);
		AWAIT(server, server->closed);
		pthread_join(threads[0], NULL);
		pthread_join(threads[1], NULL);
		end_finish(&client);
	}
	place_free(place);
}

/* ---- closing ---- */

static void check_flush(struct end *end, const struct message *message)
{
	if (message->nstorages && !has_pattern(message->storages[0], 8 * MIB, 4))
		end_wrong(end, "the storage differs");
}

static void test_flush(void **state)
{
	struct place *place = place_of(state);
	tdr_storage *storage = patterned(8 * MIB, 4);
	struct end *server;
	struct end client;

	place->handle = check_flush;
	end_open(&client, place, NULL);
	for (uint64_t i = 0; i < 1000; i++)
		end_send(&client, i, "tail", 4);
	end_send_storages(&client, 1000, 1, &storage);
	tdr_storage_unref(storage);
	lane_close(client.lane, true);
	assert_int_equal(lane_send(client.lane, &(struct message){.type = MESSAGE_CALL}), TDR_EIO);
	end_finish(&client);
	assert_int_equal(client.status, TDR_OK);
	server = place_end(place, 0);
	AWAIT(server, server->closed);
	assert_int_equal(server->messages, 1001);
	assert_int_equal(server->status, TDR_EIO);
	place_free(place);
}

static void test_flush_both_ways(void **state)
{
	struct place *place = place_of(state);
	struct end *server;
	struct end client;

	end_open(&client, place, NULL);
	server = place_end(place, 0);
	for (uint64_t i = 0; i < 100; i++) {
		end_send(&client, i, "tail", 4);
		end_send(server, i, "tail", 4);
	}
	lane_close(client.lane, true);
	lane_close(server->lane, true);
	end_finish(&client);
	AWAIT(server, server->closed);
	assert_int_equal(client.status, TDR_OK);
	assert_int_equal(server->status, TDR_OK);
	place_free(place);
}

/* The peer reads nothing: the flush is given up. */
static void test_flush_in_vain(void **state)
{
	struct place *place = place_of(state);
	tdr_storage *storage = patterned(64 * MIB, 1);
	struct end *server;
	struct end client;

	sem_init(&gate, 0, 0);
	place->handle = check_overtaking;
	end_open(&client, place, NULL);
	server = place_end(place, 0);
	end_send(&client, 0, NULL, 0);
	AWAIT(server, server->flag);
	end_send_storages(&client, 1, 1, &storage);
	tdr_storage_unref(storage);
	lane_close(client.lane, true);
	end_finish(&client);
	assert_int_equal(client.status, TDR_OK);
	sem_post(&gate);
	AWAIT(server, server->closed);
	assert_int_equal(server->messages, 1);
	assert_int_equal(server->status, TDR_EIO);
	sem_destroy(&gate);
	place_free(place);
}

/* The third message closes the lane from inside its event; those after it do not arrive. */
static void close_at_three(struct end *end, const struct message *message)
{
	if (message->call_id > 3)
		end_wrong(end, "message %llu came after the lane was closed", (unsigned long long)message->call_id);
	echo(end, message);
	if (message->call_id == 3)
		lane_close(end->lane, true);
}

static void test_close_inside_event(void **state)
{
	struct place *place = place_of(state);
	struct end *server;
	struct end client;

	place->handle = close_at_three;
	end_open(&client, place, NULL);
	for (uint64_t i = 1; i <= 10; i++) {
		struct message message = {
		    .type = MESSAGE_CALL, .call_id = i, .body = (const uint8_t *)"x", .body_size = 1};
		tdr_status status = lane_send(client.lane, &message);

		/* The other end closes after three, perhaps before we have sent them all. */
		assert_true(status == TDR_OK || (status == TDR_EIO && i > 3));
	}
	end_finish(&client);
	assert_int_equal(client.status, TDR_EIO);
	assert_int_equal(client.messages, 3);
	server = place_end(place, 0);
	AWAIT(server, server->closed);
	assert_int_equal(server->status, TDR_OK);
	place_free(place);
}

/* ---- limits ---- */

/* A lane whose receiver gets `message` after a good one: it alone must end. */
static void expect_limit(struct place *place, unsigned number, const struct message *message)
{
	struct end *server;
	struct end client;

	end_open(&client, place, NULL);
	end_send(&client, 1, "well", 4);
	assert_int_equal(lane_send(client.lane, message), TDR_OK);
	end_finish(&client);
	server = place_end(place, number);
	AWAIT(server, server->closed);
	assert_int_equal(server->messages, 1);
	assert_int_equal(server->status, TDR_ELIMIT);
	assert_non_null(strstr(server->text, "limit"));
}

static void test_limits(void **state)
{
	struct place *place = place_of(state);
	tdr_storage *storages[] = {patterned(50000, 1), patterned(50000, 2), patterned(10, 2)};
	struct message large_body = {
	    .type = MESSAGE_CALL, .body = (const uint8_t *)"012345678901234567890", .body_size = 21};
	struct message many_storages = {.type = MESSAGE_CALL, .nstorages = 3, .storages = storages};
	struct message large = {.type = MESSAGE_CALL, .nstorages = 2, .storages = storages};
	struct end well;

	place->limits = (struct lane_limits){.max_body_bytes = 20, .max_message_bytes = 100000, .max_storages = 2};
	end_open(&well, place, NULL);
	end_send_storages(&well, 1, 1, storages);
	place_end(place, 0);
	expect_limit(place, 1, &large_body);
	expect_limit(place, 2, &many_storages);
	expect_limit(place, 3, &large);
	large_body.body_size = 20;
	assert_int_equal(lane_send(well.lane, &large_body), TDR_OK);
	AWAIT(&place->ends[0], place->ends[0].messages == 2);
	for (size_t i = 0; i < COUNT_OF(storages); i++)
		tdr_storage_unref(storages[i]);
	lane_close(well.lane, true);
	end_finish(&well);
	place_free(place);
}

/* ---- an engine that the program drives ---- */

static void test_driven(void **state)
{
	const struct candidate *candidate = *state;
	struct place *place = place_new(candidate->transport, candidate->host, 0);
	struct end client;

	place->handle = echo;
	end_open(&client, place, NULL);
	AWAIT(&client, client.opened);
	end_send(&client, 1, "x", 1);
	AWAIT(&client, client.messages == 1);
	lane_close(client.lane, true);
	end_finish(&client);
	place_free(place);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_open_close),
    cmocka_unit_test(test_refused),
    cmocka_unit_test(test_bad_address),
    cmocka_unit_test(test_drop_in_accept),
    cmocka_unit_test(test_close_in_accept),
    cmocka_unit_test(test_close_before_open),
    cmocka_unit_test(test_listener_close),
    cmocka_unit_test(test_small_messages),
    cmocka_unit_test(test_small_overtake_large),
    cmocka_unit_test(test_send_while_another_waits),
    cmocka_unit_test(test_varied_storages),
    cmocka_unit_test(test_many_storages),
    cmocka_unit_test(test_many_lanes),
    cmocka_unit_test(test_slow_reader),
    cmocka_unit_test(test_concurrent_senders),
    cmocka_unit_test(test_close_under_load),
    cmocka_unit_test(test_flush),
    cmocka_unit_test(test_flush_both_ways),
    cmocka_unit_test(test_flush_in_vain),
    cmocka_unit_test(test_close_inside_event),
    cmocka_unit_test(test_limits),
    cmocka_unit_test(test_driven),
};

/* An argument chooses tests by name, such as "*flush*". */
int main(int argc, char **argv)
{
	static struct CMUnitTest all[COUNT_OF(candidates) * COUNT_OF(tests)];
	static char names[COUNT_OF(all)][128];

	for (size_t i = 0; i < COUNT_OF(all); i++) {
		const struct candidate *candidate = &candidates[i / COUNT_OF(tests)];

		all[i] = tests[i % COUNT_OF(tests)];
		snprintf(names[i], sizeof(names[i]), "%s: %s", candidate->transport->name, all[i].name);
		all[i].name = names[i];
		all[i].initial_state = (void *)(uintptr_t)candidate;
		all[i].setup_func = leaks_setup;
		all[i].teardown_func = leaks_teardown;
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return _cmocka_run_group_tests("transports", all, COUNT_OF(all), NULL, NULL);
}
