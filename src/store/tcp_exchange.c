/* SPDX-License-Identifier: Apache-2.0 */
#include "store/tcp_exchange.h"

#include "base/error.h"

#include <stdatomic.h>
#include <stdio.h>

/* ---- connections ---- */

static tdr_status take_connection(struct tcp_peer *peer, int64_t deadline_ms, struct tcp_connection **ret_connection)
{
	struct buffer greeting = {0};
	bool again;
	tdr_status status;

	for (size_t i = 0; i < COUNT_OF(peer->idle); i++) {
		struct tcp_connection *connection = atomic_exchange(&peer->idle[i], NULL);

		if (connection && tcp_is_idle(connection)) {
			*ret_connection = connection;
			return TDR_OK;
		}
		tcp_close(connection);
	}
	status = tcp_connect(&peer->place, deadline_ms, ret_connection, &again);
	if (status != TDR_OK || peer->version != WIRE_V2)
		return status;
	wire_put_greeting(&greeting);
	status = greeting.failed ? error_nomem() : tcp_send(*ret_connection, greeting.data, greeting.size, deadline_ms);
	buffer_fini(&greeting);
	if (status != TDR_OK)
		tcp_close(*ret_connection);
	return status;
}

void tcp_peer_give(struct tcp_peer *peer, struct tcp_connection *connection)
{
	for (size_t i = 0; i < COUNT_OF(peer->idle); i++) {
		struct tcp_connection *none = NULL;

		if (atomic_compare_exchange_strong(&peer->idle[i], &none, connection))
			return;
	}
	tcp_close(connection);
}

void tcp_peer_fini(struct tcp_peer *peer, bool in_fork)
{
	for (size_t i = 0; i < COUNT_OF(peer->idle); i++) {
		struct tcp_connection *connection = atomic_exchange(&peer->idle[i], NULL);

		if (connection && in_fork)
			tcp_close_forked(connection);
		else
			tcp_close(connection);
	}
	free(peer->place.host);
}

/* ---- requests ---- */

void request_begin(struct request *request, const struct tcp_peer *peer, enum wire_query query, const char *key)
{
	*request = (struct request){.query = query, .key = key};
	wire_put_u8(&request->bytes, wire_type(peer->version, query));
}

tdr_status request_put_key(struct request *request, const char *key)
{
	size_t size = strlen(key);

	if (size >= WIRE_MAX_KEY_SIZE)
		return error_set(TDR_ELIMIT, "a key of %zu bytes, '%.50s...', but %d is the most", size, key,
		                 WIRE_MAX_KEY_SIZE - 1);
	wire_put_u64(&request->bytes, size + 1);
	wire_put_u8(&request->bytes, '/');
	buffer_append(&request->bytes, key, size);
	return TDR_OK;
}

tdr_status request_put_keys(struct request *request, size_t count, const char *const keys[])
{
	tdr_status status = TDR_OK;

	request->more = count - 1;
	wire_put_u64(&request->bytes, count);
	for (size_t i = 0; status == TDR_OK && i < count; i++)
		status = request_put_key(request, keys[i]);
	return status;
}

void request_put_barrier(struct request *request, const struct tcp_peer *peer)
{
	wire_put_u8(&request->bytes, wire_type(peer->version, QUERY_NUM_KEYS));
}

/* The words for what was under way: "ADD of key 'x'". */
static const char *describe(const struct request *request, char text[ERROR_TEXT_SIZE / 4])
{
	char more[32] = "";

	if (request->more > 0)
		snprintf(more, sizeof(more), " and %zu more", request->more);
	snprintf(text, ERROR_TEXT_SIZE / 4, "%s%s%.150s%s%s", wire_query_name(request->query),
	         request->key ? " of key '" : "", request->key ? request->key : "", request->key ? "'" : "", more);
	return text;
}

/* The text of a failed exchange, from that of what failed in it. */
static tdr_status explain(const struct tcp_peer *peer, const struct request *request, bool sent, tdr_status status)
{
	char what[ERROR_TEXT_SIZE / 4];

	describe(request, what);
	switch (status) {
	case TDR_ETIMEDOUT:
		return error_set(status, "Socket Timeout (%s:%u): no answer to %s", peer->place.host, peer->place.port,
		                 what);
	case TDR_EIO:
		return error_set(status,
		                 "the connection to the store at %s:%u is lost, in %s%s: %s; check that the "
		                 "process that hosts the store still runs, and its log: it drops who goes past a "
		                 "limit",
		                 peer->place.host, peer->place.port, what,
		                 request->repeatable || !sent ? "" : ", which may have taken place or not",
		                 tdr_last_error());
	default:
		return error_prefix(status, "the store at %s:%u, %s", peer->place.host, peer->place.port, what);
	}
}

tdr_status exchange(struct tcp_peer *peer, struct request *request, int64_t deadline_ms, answer_reader *reader,
                    void *ret)
{
	int tries = request->repeatable ? 2 : 1;
	struct tcp_connection *connection;
	bool sent = false;
	tdr_status status;

	if (request->bytes.failed) {
		buffer_fini(&request->bytes);
		return error_nomem();
	}
	do {
		status = take_connection(peer, deadline_ms, &connection);
		if (status != TDR_OK)
			break;
		sent = true;
		status = tcp_send(connection, request->bytes.data, request->bytes.size, deadline_ms);
		if (status == TDR_OK)
			status = reader(peer, connection, deadline_ms, ret);
		if (status == TDR_OK)
			tcp_peer_give(peer, connection);
		else
			tcp_close(connection);
	} while (status == TDR_EIO && --tries > 0);
	buffer_fini(&request->bytes);
	return status == TDR_OK ? TDR_OK : explain(peer, request, sent, status);
}

tdr_status request_abandon(struct request *request, tdr_status status)
{
	buffer_fini(&request->bytes);
	return status;
}

tdr_status answer_read_number(struct tcp_peer *peer, struct tcp_connection *connection, int64_t deadline_ms, void *ret)
{
	(void)peer;
	return tcp_receive_i64(connection, deadline_ms, ret);
}

tdr_status answer_read_bytes(struct tcp_peer *peer, struct tcp_connection *connection, int64_t deadline_ms, void *ret)
{
	(void)peer;
	return tcp_receive_bytes(connection, deadline_ms, ret);
}

tdr_status answer_unexpected(unsigned number)
{
	return error_set(TDR_EPROTO, "%u is no answer to that; it may be another version of the store's protocol",
	                 number);
}
