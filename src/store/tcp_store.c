/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tcp store: a client of our server, or of PyTorch's TCPStore, in either version of its wire. An operation has taken
 * place when its function returns. Its context is a struct tcp_peer.
 */
#include "store/tcp_store.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/macros.h"
#include "store/store_internal.h"
#include "store/table.h"
#include "store/tcp_exchange.h"
#include "store/tcp_probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Past its deadline an operation may take so long to put the connection in order, and to find what to tell the user. */
#define GRACE_MS 1000

/* Long lists of keys go in several requests. With values of PyTorch's largest size, an answer stays below 256 MiB. */
#define KEYS_PER_REQUEST 4096
#define VALUES_PER_ANSWER 31

/* MULTI_SET goes in requests of about this size. */
#define SET_BYTES_PER_REQUEST ((size_t)8 << 20)

/* ---- waiting ---- */

/*
 * Takes back a wait whose time is over, so that the connection can be used on. The server may have answered it just then:
 * both answers come in this case, and the wait has ended well.
 */
static tdr_status cancel_wait(struct tcp_connection *connection, bool *ret_ended)
{
	int64_t deadline_ms = deadline_after(GRACE_MS);
	uint8_t type = wire_type(WIRE_V2, QUERY_CANCEL_WAIT), answer;
	tdr_status status = tcp_send(connection, &type, sizeof(type), deadline_ms);

	if (status == TDR_OK)
		status = tcp_receive_u8(connection, deadline_ms, &answer);
	*ret_ended = status == TDR_OK && answer == WIRE_STOP_WAITING;
	if (*ret_ended)
		status = tcp_receive_u8(connection, deadline_ms, &answer);
	if (status == TDR_OK && answer != WIRE_WAIT_CANCELLED)
		return answer_unexpected(answer);
	return status == TDR_EIO ? TDR_ETIMEDOUT : status; /* it is too late to ask again */
}

/* Sets `ret` (bool) to whether the wait has ended: not if it was cancelled. */
static tdr_status read_wait(struct tcp_peer *peer, struct tcp_connection *connection, int64_t deadline_ms, void *ret)
{
	bool *ended = ret;
	uint8_t answer;
	tdr_status status = tcp_receive_u8(connection, deadline_ms, &answer);

	if (status == TDR_ETIMEDOUT && peer->version == WIRE_V2)
		return cancel_wait(connection, ended);
	if (status != TDR_OK)
		return status; /* version 1: the answer may come yet, so the connection is closed */
	*ended = answer == WIRE_STOP_WAITING;
	return *ended ? TDR_OK : answer_unexpected(answer);
}

static tdr_status read_check(struct tcp_peer *peer, struct tcp_connection *connection, int64_t deadline_ms, void *ret)
{
	uint8_t answer;
	tdr_status status = tcp_receive_u8(connection, deadline_ms, &answer);

	(void)peer;
	if (status != TDR_OK)
		return status;
	*(bool *)ret = answer == WIRE_READY;
	return answer == WIRE_READY || answer == WIRE_NOT_READY ? TDR_OK : answer_unexpected(answer);
}

/* Asks one thing of some keys: the reader reads a bool. */
static tdr_status ask_of_keys(struct tcp_peer *peer, enum wire_query query, size_t count, const char *const keys[],
                              int64_t deadline_ms, answer_reader *reader, bool *ret)
{
	struct request request;
	tdr_status status;

	request_begin(&request, peer, query, keys[0]);
	request.repeatable = true;
	status = request_put_keys(&request, count, keys);
	if (status != TDR_OK)
		return request_abandon(&request, status);
	return exchange(peer, &request, deadline_ms, reader, ret);
}

static tdr_status check_some(struct tcp_peer *peer, size_t count, const char *const keys[], int64_t deadline_ms,
                             bool *ret_all)
{
	return ask_of_keys(peer, QUERY_CHECK, count, keys, deadline_ms, read_check, ret_all);
}

static tdr_status tcp_check(void *context, size_t count, const char *const keys[], int64_t deadline_ms, bool *ret_all)
{
	tdr_status status = TDR_OK;
	bool all = true;

	for (size_t i = 0, some; status == TDR_OK && all && i < count; i += some) {
		some = MIN_OF(count - i, (size_t)KEYS_PER_REQUEST);
		status = check_some(context, some, keys + i, deadline_ms, &all);
	}
	if (status == TDR_OK)
		*ret_all = all;
	return status;
}

/* The text of a wait that has timed out: names a key that is missing, as far as that can be learned soon. */
static tdr_status name_missing(struct tcp_peer *peer, size_t count, const char *const keys[])
{
	int64_t deadline_ms = deadline_after(GRACE_MS);
	const char *missing = keys[0];
	bool there = true;

	for (size_t i = 0; count > 1 && there && i < count; i++) {
		if (check_some(peer, 1, &keys[i], deadline_ms, &there) != TDR_OK)
			break;
		missing = there ? missing : keys[i];
	}
	return error_set(TDR_ETIMEDOUT, "Socket Timeout (%s:%u): key '%.300s' did not appear", peer->place.host,
	                 peer->place.port, missing);
}

static tdr_status wait_some(struct tcp_peer *peer, size_t count, const char *const keys[], int64_t deadline_ms)
{
	bool ended = false;
	tdr_status status = ask_of_keys(peer, QUERY_WAIT, count, keys, deadline_ms, read_wait, &ended);

	if (status == TDR_ETIMEDOUT || (status == TDR_OK && !ended))
		return name_missing(peer, count, keys);
	return status;
}

static tdr_status tcp_wait(void *context, size_t count, const char *const keys[], int64_t deadline_ms)
{
	tdr_status status = TDR_OK;

	for (size_t i = 0, some; status == TDR_OK && i < count; i += some) {
		some = MIN_OF(count - i, (size_t)KEYS_PER_REQUEST);
		status = wait_some(context, some, keys + i, deadline_ms);
	}
	return status;
}

/* ---- reading ---- */

/*
 * Waits for keys and reads their values, by what `read` sends. A server drops who asks for a key that is not there, which
 * can be where another deletes it between the two steps: so a lost connection leads back to the wait, once.
 */
static tdr_status wait_and_read(struct tcp_peer *peer, size_t count, const char *const keys[], int64_t deadline_ms,
                                tdr_status (*read)(struct tcp_peer *peer, size_t count, const char *const keys[],
                                                   int64_t deadline_ms, tdr_blob ret_values[]),
                                tdr_blob ret_values[])
{
	tdr_status status = TDR_EIO;

	for (int tries = 2; status == TDR_EIO && tries > 0; tries--) {
		status = tcp_wait(peer, count, keys, deadline_ms);
		if (status != TDR_OK)
			return status;
		status = read(peer, count, keys, deadline_ms, ret_values);
	}
	return status;
}

static tdr_status read_one(struct tcp_peer *peer, size_t count, const char *const keys[], int64_t deadline_ms,
                           tdr_blob ret_values[])
{
	struct request request;
	tdr_status status;

	(void)count;
	request_begin(&request, peer, QUERY_GET, keys[0]);
	status = request_put_key(&request, keys[0]);
	if (status != TDR_OK)
		return request_abandon(&request, status);
	return exchange(peer, &request, deadline_ms, answer_read_bytes, ret_values);
}

static tdr_status tcp_get(void *context, const char *key, int64_t deadline_ms, tdr_blob *ret_value)
{
	return wait_and_read(context, 1, &key, deadline_ms, read_one, ret_value);
}

struct values {
	size_t count;
	tdr_blob *each;
};

static tdr_status read_values(struct tcp_peer *peer, struct tcp_connection *connection, int64_t deadline_ms, void *ret)
{
	struct values *values = ret;
	tdr_status status = TDR_OK;
	size_t done = 0;

	(void)peer;
	for (; done < values->count; done++) {
		status = tcp_receive_bytes(connection, deadline_ms, &values->each[done]);
		if (status != TDR_OK)
			break;
	}
	while (status != TDR_OK && done > 0)
		tdr_blob_free(&values->each[--done]);
	return status;
}

static tdr_status read_some(struct tcp_peer *peer, size_t count, const char *const keys[], int64_t deadline_ms,
                            tdr_blob ret_values[])
{
	struct values values = {.count = count, .each = ret_values};
	struct request request;
	tdr_status status;

	request_begin(&request, peer, QUERY_MULTI_GET, keys[0]);
	status = request_put_keys(&request, count, keys);
	if (status != TDR_OK)
		return request_abandon(&request, status);
	return exchange(peer, &request, deadline_ms, read_values, &values);
}

static tdr_status tcp_multi_get(void *context, size_t count, const char *const keys[], int64_t deadline_ms,
                                tdr_blob ret_values[])
{
	struct tcp_peer *peer = context;
	size_t done = 0;
	tdr_status status;

	if (peer->version == WIRE_V1)
		return TDR_EUNSUPPORTED;
	/* One wait for all, so that a timeout names the first key that is missing, then the values in parts. */
	status = tcp_wait(peer, count, keys, deadline_ms);
	for (size_t some; status == TDR_OK && done < count; done += status == TDR_OK ? some : 0) {
		some = MIN_OF(count - done, (size_t)VALUES_PER_ANSWER);
		status = wait_and_read(peer, some, keys + done, deadline_ms, read_some, ret_values + done);
	}
	while (status != TDR_OK && done > 0)
		tdr_blob_free(&ret_values[--done]);
	return status;
}

/* ---- writing ---- */

static tdr_status tcp_set(void *context, const char *key, const void *value, size_t value_size, int64_t deadline_ms)
{
	struct tcp_peer *peer = context;
	struct request request;
	tdr_status status;
	int64_t count;

	request_begin(&request, peer, QUERY_SET, key);
	request.repeatable = true;
	status = request_put_key(&request, key);
	if (status != TDR_OK)
		return request_abandon(&request, status);
	wire_put_bytes(&request.bytes, value, value_size);
	request_put_barrier(&request, peer);
	return exchange(peer, &request, deadline_ms, answer_read_number, &count);
}

static tdr_status tcp_append(void *context, const char *key, const void *value, size_t value_size, int64_t deadline_ms)
{
	struct tcp_peer *peer = context;
	struct request request;
	tdr_status status;
	int64_t count;

	if (peer->version == WIRE_V1)
		return TDR_EUNSUPPORTED;
	request_begin(&request, peer, QUERY_APPEND, key);
	status = request_put_key(&request, key);
	if (status != TDR_OK)
		return request_abandon(&request, status);
	wire_put_bytes(&request.bytes, value, value_size);
	request_put_barrier(&request, peer);
	return exchange(peer, &request, deadline_ms, answer_read_number, &count);
}

/* Sends as many of the pairs as one request may hold, and says how many. */
static tdr_status set_some(struct tcp_peer *peer, size_t count, const char *const keys[], const tdr_blob values[],
                           int64_t deadline_ms, size_t *ret_some)
{
	size_t some = 0, size = 0;
	struct request request;
	tdr_status status = TDR_OK;
	int64_t number;

	while (some < count && some < KEYS_PER_REQUEST &&
	       (some == 0 || size + values[some].size <= SET_BYTES_PER_REQUEST))
		size += values[some++].size;
	request_begin(&request, peer, QUERY_MULTI_SET, keys[0]);
	request.repeatable = true;
	request.more = some - 1;
	wire_put_u64(&request.bytes, some);
	for (size_t i = 0; status == TDR_OK && i < some; i++) {
		status = request_put_key(&request, keys[i]);
		wire_put_bytes(&request.bytes, values[i].data, values[i].size);
	}
	if (status != TDR_OK)
		return request_abandon(&request, status);
	request_put_barrier(&request, peer);
	*ret_some = some;
	return exchange(peer, &request, deadline_ms, answer_read_number, &number);
}

static tdr_status tcp_multi_set(void *context, size_t count, const char *const keys[], const tdr_blob values[],
                                int64_t deadline_ms)
{
	struct tcp_peer *peer = context;
	tdr_status status = TDR_OK;

	if (peer->version == WIRE_V1)
		return TDR_EUNSUPPORTED;
	for (size_t i = 0, some = 0; status == TDR_OK && i < count; i += some)
		status = set_some(peer, count - i, keys + i, values + i, deadline_ms, &some);
	return status;
}

static tdr_status tcp_compare_set(void *context, const char *key, const void *expected, size_t expected_size,
                                  const void *desired, size_t desired_size, int64_t deadline_ms, tdr_blob *ret_value)
{
	struct request request;
	tdr_status status;

	request_begin(&request, context, QUERY_COMPARE_SET, key);
	status = request_put_key(&request, key);
	if (status != TDR_OK)
		return request_abandon(&request, status);
	wire_put_bytes(&request.bytes, expected, expected_size);
	wire_put_bytes(&request.bytes, desired, desired_size);
	return exchange(context, &request, deadline_ms, answer_read_bytes, ret_value);
}

/*
 * A server has no words for a value that is no number: it drops who adds to it. So after a lost connection the value is
 * looked at. `status` and the error's text stay, if that tells nothing.
 */
static tdr_status explain_add(struct tcp_peer *peer, const char *key, int64_t amount, tdr_status status)
{
	int64_t deadline_ms = deadline_after(GRACE_MS), sum;
	char text[ERROR_TEXT_SIZE];
	tdr_blob value = {0};
	bool there = false;
	tdr_status cause = TDR_OK;

	snprintf(text, sizeof(text), "%s", tdr_last_error());
	if (check_some(peer, 1, &key, deadline_ms, &there) == TDR_OK && there &&
	    tcp_get(peer, key, deadline_ms, &value) == TDR_OK) {
		struct table_value seen = {.data = value.data, .size = value.size};

		cause = table_value_sum(&seen, key, strlen(key), amount, &sum);
		tdr_blob_free(&value);
	}
	return cause != TDR_OK ? cause : error_set(status, "%s", text);
}

static tdr_status tcp_add(void *context, const char *key, int64_t amount, int64_t deadline_ms, int64_t *ret_sum)
{
	struct request request;
	tdr_status status;

	request_begin(&request, context, QUERY_ADD, key);
	status = request_put_key(&request, key);
	if (status != TDR_OK)
		return request_abandon(&request, status);
	wire_put_u64(&request.bytes, (uint64_t)amount);
	status = exchange(context, &request, deadline_ms, answer_read_number, ret_sum);
	return status == TDR_EIO ? explain_add(context, key, amount, status) : status;
}

static tdr_status tcp_delete_key(void *context, const char *key, int64_t deadline_ms, bool *ret_existed)
{
	struct request request;
	tdr_status status;
	int64_t count;

	request_begin(&request, context, QUERY_DELETE_KEY, key);
	status = request_put_key(&request, key);
	if (status != TDR_OK)
		return request_abandon(&request, status);
	status = exchange(context, &request, deadline_ms, answer_read_number, &count);
	if (status == TDR_OK)
		*ret_existed = count > 0;
	return status;
}

static tdr_status tcp_num_keys(void *context, int64_t deadline_ms, int64_t *ret_count)
{
	struct request request;

	request_begin(&request, context, QUERY_NUM_KEYS, NULL);
	request.repeatable = true;
	return exchange(context, &request, deadline_ms, answer_read_number, ret_count);
}

/* ---- making and dropping ---- */

static void tcp_destroy(void *context)
{
	tcp_peer_fini(context, false);
	free(context);
}

static void tcp_destroy_forked(void *context)
{
	tcp_peer_fini(context, true);
	free(context);
}

static tdr_status tcp_local_address(void *context, struct sockaddr_storage *ret_address, socklen_t *ret_size)
{
	const struct tcp_peer *peer = context;

	*ret_address = peer->local;
	*ret_size = peer->local_size;
	return TDR_OK;
}

static const tdr_store_ops tcp_ops = {
    .size = sizeof(tcp_ops),
    .name = "tcp",
    .set = tcp_set,
    .get = tcp_get,
    .add = tcp_add,
    .compare_set = tcp_compare_set,
    .check = tcp_check,
    .wait = tcp_wait,
    .delete_key = tcp_delete_key,
    .num_keys = tcp_num_keys,
    .append = tcp_append,
    .multi_get = tcp_multi_get,
    .multi_set = tcp_multi_set,
    .destroy = tcp_destroy,
};

static const struct store_hooks tcp_hooks = {
    .destroy_forked = tcp_destroy_forked,
    .local_address = tcp_local_address,
};

tdr_status tcp_store_announce(tdr_store *store)
{
	static const char key[] = "init/"; /* without the '/' in front that programs' keys have */
	struct request request;
	int64_t count;

	if (store->hooks != &tcp_hooks)
		return TDR_OK;
	request_begin(&request, store->context, QUERY_ADD, key);
	wire_put_bytes(&request.bytes, key, strlen(key));
	wire_put_u64(&request.bytes, 1);
	return exchange(store->context, &request, deadline_after(tdr_store_timeout(store)), answer_read_number, &count);
}

tdr_status tdr_store_tcp(const char *host, uint16_t port, int64_t timeout_ms, tdr_store **ret_store)
{
	struct tcp_connection *connection;
	struct tcp_peer *peer;
	tdr_status status;

	if (!host || !*host || port == 0 || !ret_store || timeout_ms < TDR_TIMEOUT_DEFAULT)
		return error_set(TDR_EINVAL,
		                 "tdr_store_tcp: it takes a host, a port that is not 0, a timeout of at "
		                 "least %d, and where to put the store",
		                 TDR_TIMEOUT_DEFAULT);
	if (timeout_ms == TDR_TIMEOUT_DEFAULT)
		timeout_ms = STORE_DEFAULT_TIMEOUT_MS;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return error_nomem();
	peer->place.port = port;
	peer->place.host = strdup(host);
	status = peer->place.host ? tcp_probe(&peer->place, deadline_after(timeout_ms), &connection, &peer->version)
	                          : error_nomem();
	if (status != TDR_OK)
		goto fail;
	peer->local_size = sizeof(peer->local);
	if (getsockname(connection->fd, (struct sockaddr *)&peer->local, &peer->local_size) < 0)
		peer->local_size = 0;
	tcp_peer_give(peer, connection);
	status = store_new(&tcp_ops, &tcp_hooks, peer, ret_store);
	if (status != TDR_OK)
		goto fail;
	tdr_store_set_timeout(*ret_store, timeout_ms);
	return TDR_OK;

fail:
	tcp_destroy(peer);
	return status;
}
