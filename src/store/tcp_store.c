/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tcp store: a client of our server, or of PyTorch's TCPStore, in either version of its wire.
 *
 * A connection carries one request at a time, so an operation takes one from those that are idle, or makes one, and gives
 * it back; a thread that waits for a key keeps nobody else from setting it. What holds:
 *   - an operation has taken place when its function returns: a request without an answer of its own (SET, APPEND,
 *     MULTI_SET) is followed by a GETNUMKEYS, whose answer says that it was served. Else what a thread stores by one
 *     connection could be overtaken by what it asks by the next, and would be lost without a word where the server dies;
 *   - a connection that failed, or on which an answer is still owed, is closed and never used again;
 *   - where the connection is lost, a request that may be repeated is tried once more, on a new connection.
 */
#include "store/tcp_store.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/macros.h"
#include "store/store_internal.h"
#include "store/table.h"
#include "store/tcp_connection.h"
#include "store/tcp_probe.h"
#include "store/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Connections that are kept while nobody uses them. */
#define IDLE_CONNECTIONS 8

/* Past its deadline an operation may take so long to put the connection in order, and to find what to tell the user. */
#define GRACE_MS 1000

/* Long lists of keys go in several requests. With values of PyTorch's largest size, an answer stays below 256 MiB. */
#define KEYS_PER_REQUEST 4096
#define VALUES_PER_ANSWER 31

/* MULTI_SET goes in requests of about this size. */
#define SET_BYTES_PER_REQUEST ((size_t)8 << 20)

struct tcp_store {
	struct tcp_place place;
	enum wire_version version;
	struct sockaddr_storage local; /* this machine, as the server sees it */
	socklen_t local_size;
	/* Slots, each taken and filled by one exchange: no lock, so that a child made by fork() finds them in order. */
	_Atomic(struct tcp_connection *) idle[IDLE_CONNECTIONS];
};

/* ---- connections ---- */

static tdr_status take_connection(struct tcp_store *store, int64_t deadline_ms, struct tcp_connection **ret_connection)
{
	struct buffer greeting = {0};
	bool again;
	tdr_status status;

	for (size_t i = 0; i < COUNT_OF(store->idle); i++) {
		struct tcp_connection *connection = atomic_exchange(&store->idle[i], NULL);

		if (connection && tcp_is_idle(connection)) {
			*ret_connection = connection;
			return TDR_OK;
		}
		tcp_close(connection);
	}
	status = tcp_connect(&store->place, deadline_ms, ret_connection, &again);
	if (status != TDR_OK || store->version != WIRE_V2)
		return status;
	wire_put_greeting(&greeting);
	status = greeting.failed ? error_nomem() : tcp_send(*ret_connection, greeting.data, greeting.size, deadline_ms);
	buffer_fini(&greeting);
	if (status != TDR_OK)
		tcp_close(*ret_connection);
	return status;
}

static void give_connection(struct tcp_store *store, struct tcp_connection *connection)
{
	for (size_t i = 0; i < COUNT_OF(store->idle); i++) {
		struct tcp_connection *none = NULL;

		if (atomic_compare_exchange_strong(&store->idle[i], &none, connection))
			return;
	}
	tcp_close(connection);
}

/* ---- requests ---- */

struct request {
	enum wire_query query;
	const char *key; /* for texts; NULL where there is none */
	size_t more;     /* keys besides that one */
	bool repeatable; /* doing it twice is the same as doing it once */
	struct buffer bytes;
};

/* Reads a request's answer into what `ret` points to. */
typedef tdr_status answer_reader(struct tcp_store *store, struct tcp_connection *connection, int64_t deadline_ms,
                                 void *ret);

static void request_begin(struct request *request, const struct tcp_store *store, enum wire_query query,
                          const char *key)
{
	*request = (struct request){.query = query, .key = key};
	wire_put_u8(&request->bytes, wire_type(store->version, query));
}

static tdr_status put_key(struct request *request, const char *key)
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

static tdr_status put_keys(struct request *request, size_t count, const char *const keys[])
{
	tdr_status status = TDR_OK;

	request->more = count - 1;
	wire_put_u64(&request->bytes, count);
	for (size_t i = 0; status == TDR_OK && i < count; i++)
		status = put_key(request, keys[i]);
	return status;
}

/* Adds what is answered once the request before it was served. */
static void put_barrier(struct request *request, const struct tcp_store *store)
{
	wire_put_u8(&request->bytes, wire_type(store->version, QUERY_NUM_KEYS));
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
static tdr_status explain(const struct tcp_store *store, const struct request *request, tdr_status status)
{
	char what[ERROR_TEXT_SIZE / 4];

	describe(request, what);
	switch (status) {
	case TDR_ETIMEDOUT:
		return error_set(status, "Socket Timeout (%s:%u): no answer to %s", store->place.host,
		                 store->place.port, what);
	case TDR_EIO:
		return error_set(status,
		                 "the connection to the store at %s:%u is lost, in %s%s: %s; check that the "
		                 "process that hosts the store still runs, and its log: it drops who goes past a "
		                 "limit",
		                 store->place.host, store->place.port, what,
		                 request->repeatable ? "" : ", which may have taken place or not", tdr_last_error());
	default:
		return error_prefix(status, "the store at %s:%u, %s", store->place.host, store->place.port, what);
	}
}

/* Sends the request and reads its answer. Its bytes are freed. */
static tdr_status exchange(struct tcp_store *store, struct request *request, int64_t deadline_ms, answer_reader *reader,
                           void *ret)
{
	int tries = request->repeatable ? 2 : 1;
	struct tcp_connection *connection;
	tdr_status status;

	if (request->bytes.failed) {
		buffer_fini(&request->bytes);
		return error_nomem();
	}
	do {
		status = take_connection(store, deadline_ms, &connection);
		if (status != TDR_OK)
			break;
		status = tcp_send(connection, request->bytes.data, request->bytes.size, deadline_ms);
		if (status == TDR_OK)
			status = reader(store, connection, deadline_ms, ret);
		if (status == TDR_OK)
			give_connection(store, connection);
		else
			tcp_close(connection);
	} while (status == TDR_EIO && --tries > 0);
	buffer_fini(&request->bytes);
	return status == TDR_OK ? TDR_OK : explain(store, request, status);
}

/* Ends a request that could not be written. */
static tdr_status abandon(struct request *request, tdr_status status)
{
	buffer_fini(&request->bytes);
	return status;
}

static tdr_status read_number(struct tcp_store *store, struct tcp_connection *connection, int64_t deadline_ms,
                              void *ret)
{
	(void)store;
	return tcp_receive_i64(connection, deadline_ms, ret);
}

static tdr_status read_bytes(struct tcp_store *store, struct tcp_connection *connection, int64_t deadline_ms, void *ret)
{
	(void)store;
	return tcp_receive_bytes(connection, deadline_ms, ret);
}

static tdr_status unexpected_answer(unsigned number)
{
	return error_set(TDR_EPROTO, "%u is no answer to that; it may be another version of the store's protocol",
	                 number);
}

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
		return unexpected_answer(answer);
	return status == TDR_EIO ? TDR_ETIMEDOUT : status; /* it is too late to ask again */
}

/* Sets `ret` (bool) to whether the wait has ended: not if it was cancelled. */
static tdr_status read_wait(struct tcp_store *store, struct tcp_connection *connection, int64_t deadline_ms, void *ret)
{
	bool *ended = ret;
	uint8_t answer;
	tdr_status status = tcp_receive_u8(connection, deadline_ms, &answer);

	if (status == TDR_ETIMEDOUT && store->version == WIRE_V2)
		return cancel_wait(connection, ended);
	if (status != TDR_OK)
		return status; /* version 1: the answer may come yet, so the connection is closed */
	*ended = answer == WIRE_STOP_WAITING;
	return *ended ? TDR_OK : unexpected_answer(answer);
}

static tdr_status read_check(struct tcp_store *store, struct tcp_connection *connection, int64_t deadline_ms, void *ret)
{
	uint8_t answer;
	tdr_status status = tcp_receive_u8(connection, deadline_ms, &answer);

	(void)store;
	if (status != TDR_OK)
		return status;
	*(bool *)ret = answer == WIRE_READY;
	return answer == WIRE_READY || answer == WIRE_NOT_READY ? TDR_OK : unexpected_answer(answer);
}

static tdr_status check_some(struct tcp_store *store, size_t count, const char *const keys[], int64_t deadline_ms,
                             bool *ret_all)
{
	struct request request;
	tdr_status status;

	request_begin(&request, store, QUERY_CHECK, keys[0]);
	request.repeatable = true;
	status = put_keys(&request, count, keys);
	if (status != TDR_OK)
		return abandon(&request, status);
	return exchange(store, &request, deadline_ms, read_check, ret_all);
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
static tdr_status name_missing(struct tcp_store *store, size_t count, const char *const keys[])
{
	int64_t deadline_ms = deadline_after(GRACE_MS);
	const char *missing = keys[0];
	bool there = true;

	for (size_t i = 0; count > 1 && there && i < count; i++) {
		if (check_some(store, 1, &keys[i], deadline_ms, &there) != TDR_OK)
			break;
		missing = there ? missing : keys[i];
	}
	return error_set(TDR_ETIMEDOUT, "Socket Timeout (%s:%u): key '%.300s' did not appear", store->place.host,
	                 store->place.port, missing);
}

static tdr_status wait_some(struct tcp_store *store, size_t count, const char *const keys[], int64_t deadline_ms)
{
	struct request request;
	bool ended = false;
	tdr_status status;

	request_begin(&request, store, QUERY_WAIT, keys[0]);
	request.repeatable = true;
	status = put_keys(&request, count, keys);
	if (status != TDR_OK)
		return abandon(&request, status);
	status = exchange(store, &request, deadline_ms, read_wait, &ended);
	if (status == TDR_ETIMEDOUT || (status == TDR_OK && !ended))
		return name_missing(store, count, keys);
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
static tdr_status wait_and_read(struct tcp_store *store, size_t count, const char *const keys[], int64_t deadline_ms,
                                tdr_status (*read)(struct tcp_store *store, size_t count, const char *const keys[],
                                                   int64_t deadline_ms, tdr_blob ret_values[]),
                                tdr_blob ret_values[])
{
	tdr_status status = TDR_EIO;

	for (int tries = 2; status == TDR_EIO && tries > 0; tries--) {
		status = tcp_wait(store, count, keys, deadline_ms);
		if (status != TDR_OK)
			return status;
		status = read(store, count, keys, deadline_ms, ret_values);
	}
	return status;
}

static tdr_status read_one(struct tcp_store *store, size_t count, const char *const keys[], int64_t deadline_ms,
                           tdr_blob ret_values[])
{
	struct request request;
	tdr_status status;

	(void)count;
	request_begin(&request, store, QUERY_GET, keys[0]);
	status = put_key(&request, keys[0]);
	if (status != TDR_OK)
		return abandon(&request, status);
	return exchange(store, &request, deadline_ms, read_bytes, ret_values);
}

static tdr_status tcp_get(void *context, const char *key, int64_t deadline_ms, tdr_blob *ret_value)
{
	return wait_and_read(context, 1, &key, deadline_ms, read_one, ret_value);
}

struct values {
	size_t count;
	tdr_blob *each;
};

static tdr_status read_values(struct tcp_store *store, struct tcp_connection *connection, int64_t deadline_ms,
                              void *ret)
{
	struct values *values = ret;
	tdr_status status = TDR_OK;
	size_t done = 0;

	(void)store;
	for (; done < values->count; done++) {
		status = tcp_receive_bytes(connection, deadline_ms, &values->each[done]);
		if (status != TDR_OK)
			break;
	}
	while (status != TDR_OK && done > 0)
		tdr_blob_free(&values->each[--done]);
	return status;
}

static tdr_status read_some(struct tcp_store *store, size_t count, const char *const keys[], int64_t deadline_ms,
                            tdr_blob ret_values[])
{
	struct values values = {.count = count, .each = ret_values};
	struct request request;
	tdr_status status;

	request_begin(&request, store, QUERY_MULTI_GET, keys[0]);
	status = put_keys(&request, count, keys);
	if (status != TDR_OK)
		return abandon(&request, status);
	return exchange(store, &request, deadline_ms, read_values, &values);
}

static tdr_status tcp_multi_get(void *context, size_t count, const char *const keys[], int64_t deadline_ms,
                                tdr_blob ret_values[])
{
	struct tcp_store *store = context;
	size_t done = 0;
	tdr_status status;

	if (store->version == WIRE_V1)
		return TDR_EUNSUPPORTED;
	/* One wait for all, so that a timeout names the first key that is missing, then the values in parts. */
	status = tcp_wait(store, count, keys, deadline_ms);
	for (size_t some; status == TDR_OK && done < count; done += status == TDR_OK ? some : 0) {
		some = MIN_OF(count - done, (size_t)VALUES_PER_ANSWER);
		status = wait_and_read(store, some, keys + done, deadline_ms, read_some, ret_values + done);
	}
	while (status != TDR_OK && done > 0)
		tdr_blob_free(&ret_values[--done]);
	return status;
}

/* ---- writing ---- */

static tdr_status tcp_set(void *context, const char *key, const void *value, size_t value_size, int64_t deadline_ms)
{
	struct tcp_store *store = context;
	struct request request;
	tdr_status status;
	int64_t count;

	request_begin(&request, store, QUERY_SET, key);
	request.repeatable = true;
	status = put_key(&request, key);
	if (status != TDR_OK)
		return abandon(&request, status);
	wire_put_bytes(&request.bytes, value, value_size);
	put_barrier(&request, store);
	return exchange(store, &request, deadline_ms, read_number, &count);
}

static tdr_status tcp_append(void *context, const char *key, const void *value, size_t value_size, int64_t deadline_ms)
{
	struct tcp_store *store = context;
	struct request request;
	tdr_status status;
	int64_t count;

	if (store->version == WIRE_V1)
		return TDR_EUNSUPPORTED;
	request_begin(&request, store, QUERY_APPEND, key);
	status = put_key(&request, key);
	if (status != TDR_OK)
		return abandon(&request, status);
	wire_put_bytes(&request.bytes, value, value_size);
	put_barrier(&request, store);
	return exchange(store, &request, deadline_ms, read_number, &count);
}

/* Sends as many of the pairs as one request may hold, and says how many. */
static tdr_status set_some(struct tcp_store *store, size_t count, const char *const keys[], const tdr_blob values[],
                           int64_t deadline_ms, size_t *ret_some)
{
	size_t some = 0, size = 0;
	struct request request;
	tdr_status status = TDR_OK;
	int64_t number;

	while (some < count && some < KEYS_PER_REQUEST &&
	       (some == 0 || size + values[some].size <= SET_BYTES_PER_REQUEST))
		size += values[some++].size;
	request_begin(&request, store, QUERY_MULTI_SET, keys[0]);
	request.repeatable = true;
	request.more = some - 1;
	wire_put_u64(&request.bytes, some);
	for (size_t i = 0; status == TDR_OK && i < some; i++) {
		status = put_key(&request, keys[i]);
		wire_put_bytes(&request.bytes, values[i].data, values[i].size);
	}
	if (status != TDR_OK)
		return abandon(&request, status);
	put_barrier(&request, store);
	*ret_some = some;
	return exchange(store, &request, deadline_ms, read_number, &number);
}

static tdr_status tcp_multi_set(void *context, size_t count, const char *const keys[], const tdr_blob values[],
                                int64_t deadline_ms)
{
	struct tcp_store *store = context;
	tdr_status status = TDR_OK;

	if (store->version == WIRE_V1)
		return TDR_EUNSUPPORTED;
	for (size_t i = 0, some = 0; status == TDR_OK && i < count; i += some)
		status = set_some(store, count - i, keys + i, values + i, deadline_ms, &some);
	return status;
}

static tdr_status tcp_compare_set(void *context, const char *key, const void *expected, size_t expected_size,
                                  const void *desired, size_t desired_size, int64_t deadline_ms, tdr_blob *ret_value)
{
	struct request request;
	tdr_status status;

	request_begin(&request, context, QUERY_COMPARE_SET, key);
	status = put_key(&request, key);
	if (status != TDR_OK)
		return abandon(&request, status);
	wire_put_bytes(&request.bytes, expected, expected_size);
	wire_put_bytes(&request.bytes, desired, desired_size);
	return exchange(context, &request, deadline_ms, read_bytes, ret_value);
}

/*
 * A server has no words for a value that is no number: it drops who adds to it. So after a lost connection the value is
 * looked at. `status` and the error's text stay, if that tells nothing.
 */
static tdr_status explain_add(struct tcp_store *store, const char *key, int64_t amount, tdr_status status)
{
	int64_t deadline_ms = deadline_after(GRACE_MS), sum;
	char text[ERROR_TEXT_SIZE];
	tdr_blob value = {0};
	bool there = false;
	tdr_status cause = TDR_OK;

	snprintf(text, sizeof(text), "%s", tdr_last_error());
	if (check_some(store, 1, &key, deadline_ms, &there) == TDR_OK && there &&
	    tcp_get(store, key, deadline_ms, &value) == TDR_OK) {
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
	status = put_key(&request, key);
	if (status != TDR_OK)
		return abandon(&request, status);
	wire_put_u64(&request.bytes, (uint64_t)amount);
	status = exchange(context, &request, deadline_ms, read_number, ret_sum);
	return status == TDR_EIO ? explain_add(context, key, amount, status) : status;
}

static tdr_status tcp_delete_key(void *context, const char *key, int64_t deadline_ms, bool *ret_existed)
{
	struct request request;
	tdr_status status;
	int64_t count;

	request_begin(&request, context, QUERY_DELETE_KEY, key);
	status = put_key(&request, key);
	if (status != TDR_OK)
		return abandon(&request, status);
	status = exchange(context, &request, deadline_ms, read_number, &count);
	if (status == TDR_OK)
		*ret_existed = count > 0;
	return status;
}

static tdr_status tcp_num_keys(void *context, int64_t deadline_ms, int64_t *ret_count)
{
	struct request request;

	request_begin(&request, context, QUERY_NUM_KEYS, NULL);
	request.repeatable = true;
	return exchange(context, &request, deadline_ms, read_number, ret_count);
}

/* ---- making and dropping ---- */

static void store_free(struct tcp_store *store, void (*close_connection)(struct tcp_connection *connection))
{
	for (size_t i = 0; i < COUNT_OF(store->idle); i++) {
		struct tcp_connection *connection = atomic_exchange(&store->idle[i], NULL);

		if (connection)
			close_connection(connection);
	}
	free(store->place.host);
	free(store);
}

static void tcp_destroy(void *context)
{
	store_free(context, tcp_close);
}

static void tcp_destroy_forked(void *context)
{
	store_free(context, tcp_close_forked);
}

static tdr_status tcp_local_address(void *context, struct sockaddr_storage *ret_address, socklen_t *ret_size)
{
	const struct tcp_store *store = context;

	*ret_address = store->local;
	*ret_size = store->local_size;
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
	return exchange(store->context, &request, deadline_after(tdr_store_timeout(store)), read_number, &count);
}

tdr_status tdr_store_tcp(const char *host, uint16_t port, int64_t timeout_ms, tdr_store **ret_store)
{
	struct tcp_connection *connection;
	struct tcp_store *store;
	tdr_status status;

	if (!host || !*host || port == 0 || !ret_store || timeout_ms < TDR_TIMEOUT_DEFAULT)
		return error_set(TDR_EINVAL,
		                 "tdr_store_tcp: it takes a host, a port that is not 0, a timeout of at "
		                 "least %d, and where to put the store",
		                 TDR_TIMEOUT_DEFAULT);
	if (timeout_ms == TDR_TIMEOUT_DEFAULT)
		timeout_ms = STORE_DEFAULT_TIMEOUT_MS;
	store = calloc(1, sizeof(*store));
	if (!store)
		return error_nomem();
	store->place.port = port;
	store->place.host = strdup(host);
	status = store->place.host ? tcp_probe(&store->place, deadline_after(timeout_ms), &connection, &store->version)
	                           : error_nomem();
	if (status != TDR_OK)
		goto fail;
	store->local_size = sizeof(store->local);
	if (getsockname(connection->fd, (struct sockaddr *)&store->local, &store->local_size) < 0)
		store->local_size = 0;
	give_connection(store, connection);
	status = store_new(&tcp_ops, &tcp_hooks, store, ret_store);
	if (status != TDR_OK)
		goto fail;
	tdr_store_set_timeout(*ret_store, timeout_ms);
	return TDR_OK;

fail:
	tcp_destroy(store);
	return status;
}
