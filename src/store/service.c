/* SPDX-License-Identifier: Apache-2.0 */
#include "store/service.h"

#include "base/error.h"

#include <assert.h>

/* A request or an answer may be this large, and two values of the largest size besides (those of a COMPARE_SET). */
#define MESSAGE_SIZE ((size_t)256 << 20)

/* What all sessions together may keep, where the largest message is smaller. */
#define KEPT_SIZE ((size_t)1 << 30)

/* With so many bytes to send, or to serve, a session reads no more. */
#define ENOUGH_SIZE ((size_t)256 << 10)

/* The most that the limit for values can be set to: sums of sizes cannot wrap. */
#define VALUE_SIZE_LIMIT ((size_t)1 << 40)

/* A buffer that has been emptied keeps its memory up to this size. */
#define SMALL_SIZE ((size_t)4 << 10)

void service_init(struct service *service, size_t max_value_size, size_t max_keys)
{
	size_t message;

	max_value_size = MIN_OF(max_value_size, VALUE_SIZE_LIMIT);
	message = MESSAGE_SIZE + 2 * max_value_size;
	*service = (struct service){
	    .table = {.max_keys = max_keys, .max_value_size = max_value_size},
	    .limits = {.max_value_size = max_value_size, .max_request_size = message},
	    .max_answer_size = message,
	    .max_kept = MAX_OF(KEPT_SIZE, message),
	};
	service->waits.table = &service->table;
	list_init(&service->ready);
}

void service_fini(struct service *service)
{
	assert(list_empty(&service->ready));
	waits_fini(&service->waits);
	table_clear(&service->table);
}

void session_init(struct session *session, struct service *service)
{
	*session = (struct session){.service = service};
	list_init(&session->ready);
}

void session_fini(struct session *session)
{
	waits_remove(&session->service->waits, TAKE_PTR(session->wait));
	list_remove(&session->ready);
	session->service->kept -= session->kept;
	buffer_fini(&session->input);
	buffer_fini(&session->output);
}

/* Counts what the session keeps now; false when that has grown, and all together keep too much. */
static bool count_kept(struct session *session)
{
	struct service *service = session->service;
	size_t now = session->input.room + session->output.room + (session->wait ? session->wait->bytes : 0);
	bool more = now > session->kept && now > SMALL_SIZE;

	service->kept += now - session->kept;
	session->kept = now;
	return !more || service->kept <= service->max_kept;
}

/* ---- answers ---- */

static tdr_status check_output(struct session *session)
{
	return session->output.failed ? error_nomem() : TDR_OK;
}

static tdr_status answer_byte(struct session *session, uint8_t number)
{
	wire_put_u8(&session->output, number);
	return check_output(session);
}

static tdr_status answer_number(struct session *session, int64_t number)
{
	wire_put_u64(&session->output, (uint64_t)number);
	return check_output(session);
}

static tdr_status answer_bytes(struct session *session, const void *data, size_t size)
{
	wire_put_bytes(&session->output, data, size);
	return check_output(session);
}

static const struct table_value *value_of(struct session *session, struct wire_bytes key)
{
	return table_get(&session->service->table, key.data, key.size);
}

/* TDR_ELIMIT where an answer of `size` bytes more would be too many. */
static tdr_status answer_fits(struct session *session, size_t size)
{
	size_t limit = session->service->max_answer_size;

	if (size > limit || session->output.size - session->sent > limit - size)
		return error_set(TDR_ELIMIT, "an answer of %zu bytes, but %zu may wait to be sent", size, limit);
	return TDR_OK;
}

/* ---- waits ---- */

/* The answer to a wait that misses nothing, which is gone then. */
static tdr_status finish_wait(struct session *session)
{
	struct wait *wait = session->wait;
	tdr_status status = TDR_OK;
	size_t size = 0;

	if (wait->values) {
		for (size_t i = 0; i < wait->count; i++)
			size += sizeof(uint64_t) + value_of(session, wait_key(wait, i))->size;
		status = answer_fits(session, size);
		for (size_t i = 0; status == TDR_OK && i < wait->count; i++) {
			const struct table_value *value = value_of(session, wait_key(wait, i));

			status = answer_bytes(session, value->data, value->size);
		}
	} else {
		status = answer_byte(session, WIRE_STOP_WAITING);
	}
	waits_remove(&session->service->waits, TAKE_PTR(session->wait));
	return status;
}

/* Answers the waits that a change has ended, and puts their sessions on the list of those to run. */
static void finish_waits(struct service *service, struct list *done)
{
	struct list *node;

	while ((node = list_shift(done)) != NULL) {
		struct session *session = list_entry(node, struct wait, done)->owner;

		if (finish_wait(session) != TDR_OK || !count_kept(session))
			session->overrun = true;
		if (list_empty(&session->ready))
			list_append(&service->ready, &session->ready);
	}
}

static void value_changed(struct service *service, struct wire_bytes key, bool there)
{
	struct list done;

	list_init(&done);
	waits_value_changed(&service->waits, key, there, &done);
	finish_waits(service, &done);
}

/* WAIT, and GET and MULTI_GET, which wait for what they read. */
static tdr_status serve_wait(struct session *session, bool values, size_t count, const uint8_t *at)
{
	tdr_status status = waits_add(&session->service->waits, session, values, count, at, &session->wait);

	if (status != TDR_OK || session->wait->missing > 0)
		return status;
	return finish_wait(session);
}

/* ---- requests ---- */

static tdr_status serve_check(struct session *session, const uint8_t *at)
{
	uint64_t count = wire_get_u64(&at);
	bool all = true;

	while (all && count-- > 0)
		all = waits_there(&session->service->waits, wire_get_bytes(&at), false);
	return answer_byte(session, all ? WIRE_READY : WIRE_NOT_READY);
}

static tdr_status store_value(struct session *session, struct wire_bytes key, struct wire_bytes value)
{
	struct service *service = session->service;
	bool before = value_of(session, key) != NULL;
	tdr_status status;

	/* The queues' items count as keys: the limit is there to bound what the server holds. */
	if (!before && service->table.max_keys > 0 &&
	    table_count(&service->table) + service->waits.queued >= service->table.max_keys)
		return error_set(TDR_ELIMIT, "the store holds %zu keys, and may hold no more", service->table.max_keys);
	status = table_set(&service->table, key.data, key.size, value.data, value.size);
	if (status == TDR_OK && !before)
		value_changed(service, key, true);
	return status;
}

static tdr_status serve_multi_set(struct session *session, const uint8_t *at)
{
	uint64_t count = wire_get_u64(&at);
	tdr_status status = TDR_OK;

	while (status == TDR_OK && count-- > 0) {
		struct wire_bytes key = wire_get_bytes(&at);

		status = store_value(session, key, wire_get_bytes(&at));
	}
	return status;
}

static tdr_status serve_append(struct session *session, const uint8_t *at)
{
	struct wire_bytes key = wire_get_bytes(&at);
	struct wire_bytes value = wire_get_bytes(&at);

	if (!value_of(session, key))
		return store_value(session, key, value);
	return table_append(&session->service->table, key.data, key.size, value.data, value.size);
}

static tdr_status serve_compare_set(struct session *session, const uint8_t *at)
{
	struct wire_bytes key = wire_get_bytes(&at);
	struct wire_bytes expected = wire_get_bytes(&at);
	struct wire_bytes desired = wire_get_bytes(&at);
	const struct table_value *value = value_of(session, key);
	tdr_status status = TDR_OK;

	if (table_value_equals(value, expected.data, expected.size)) {
		status = store_value(session, key, desired);
		return status == TDR_OK ? answer_bytes(session, desired.data, desired.size) : status;
	}
	if (!value)
		return answer_bytes(session, expected.data, expected.size);
	return answer_bytes(session, value->data, value->size);
}

static tdr_status serve_add(struct session *session, const uint8_t *at)
{
	struct wire_bytes key = wire_get_bytes(&at);
	int64_t amount = (int64_t)wire_get_u64(&at), sum;
	char text[TABLE_NUMBER_SIZE];
	tdr_status status;

	status = table_value_sum(value_of(session, key), key.data, key.size, amount, &sum);
	if (status != TDR_OK)
		return status;
	status = store_value(session, key, (struct wire_bytes){.data = text, .size = table_number_text(sum, text)});
	return status == TDR_OK ? answer_number(session, sum) : status;
}

static tdr_status serve_delete(struct session *session, struct wire_bytes key)
{
	struct service *service = session->service;
	bool value = table_delete(&service->table, key.data, key.size);
	bool queue;

	if (value)
		value_changed(service, key, false);
	queue = waits_delete_queue(&service->waits, key);
	return answer_number(session, value || queue);
}

static tdr_status serve_queue_push(struct session *session, const uint8_t *at)
{
	struct service *service = session->service;
	struct wire_bytes key = wire_get_bytes(&at);
	struct list done;
	tdr_status status;

	if (service->table.max_keys > 0 &&
	    table_count(&service->table) + service->waits.queued >= service->table.max_keys)
		return error_set(TDR_ELIMIT, "the store holds %zu keys and queued values, and may hold no more",
		                 service->table.max_keys);
	list_init(&done);
	status = waits_push(&service->waits, key, wire_get_bytes(&at), &done);
	if (status == TDR_OK)
		finish_waits(service, &done);
	return status;
}

static tdr_status serve_queue_pop(struct session *session, struct wire_bytes key)
{
	struct waits *waits = &session->service->waits;
	size_t length = waits_queue_length(waits, key);
	tdr_status status = answer_number(session, (int64_t)length);
	tdr_blob value;

	if (status != TDR_OK || length == 0)
		return status;
	value = waits_pop(waits, key);
	status = answer_bytes(session, value.data, value.size);
	free(value.data);
	return status;
}

/* The wait was given up: nothing is sent for it any more. */
static tdr_status serve_cancel_wait(struct session *session)
{
	waits_remove(&session->service->waits, TAKE_PTR(session->wait));
	return answer_byte(session, WIRE_WAIT_CANCELLED);
}

/* Serves one request, whose arguments are at `at`. */
static tdr_status serve(struct session *session, enum wire_query query, const uint8_t *at)
{
	struct service *service = session->service;
	struct wire_bytes key;

	switch (query) {
	case QUERY_VALIDATE:
		return TDR_OK;
	case QUERY_SET:
		key = wire_get_bytes(&at);
		return store_value(session, key, wire_get_bytes(&at));
	case QUERY_COMPARE_SET:
		return serve_compare_set(session, at);
	case QUERY_GET:
		return serve_wait(session, true, 1, at);
	case QUERY_ADD:
		return serve_add(session, at);
	case QUERY_CHECK:
		return serve_check(session, at);
	case QUERY_WAIT:
	case QUERY_MULTI_GET: {
		size_t count = (size_t)wire_get_u64(&at);

		return serve_wait(session, query == QUERY_MULTI_GET, count, at);
	}
	case QUERY_NUM_KEYS:
		return answer_number(session, (int64_t)table_count(&service->table));
	case QUERY_DELETE_KEY:
		return serve_delete(session, wire_get_bytes(&at));
	case QUERY_APPEND:
		return serve_append(session, at);
	case QUERY_MULTI_SET:
		return serve_multi_set(session, at);
	case QUERY_CANCEL_WAIT:
		return serve_cancel_wait(session);
	case QUERY_PING:
		wire_put_u32(&session->output, wire_get_u32(&at));
		return check_output(session);
	case QUERY_QUEUE_PUSH:
		return serve_queue_push(session, at);
	case QUERY_QUEUE_POP:
		return serve_queue_pop(session, wire_get_bytes(&at));
	case QUERY_QUEUE_LEN:
		return answer_number(session, (int64_t)waits_queue_length(&service->waits, wire_get_bytes(&at)));
	case QUERY_WATCH_KEY:
		/* Told of no change, as if there never were one: no part of PyTorch makes use of it. */
		return answer_byte(session, WIRE_WATCH_REGISTERED);
	}
	assert(!"wire_scan lets no other query through");
	return TDR_EINTERNAL;
}

/* ---- sessions ---- */

static size_t to_send(const struct session *session)
{
	return session->output.size - session->sent;
}

/*
 * Whether the request at the front, which is whole, may be served while a wait has no answer. A client of version 1 can
 * say in no other way that it gave the wait up; one of version 2 cancels it, and means other requests for later.
 */
static bool may_serve(struct session *session)
{
	struct waits *waits = &session->service->waits;

	if (!session->wait || session->scan.query == QUERY_CANCEL_WAIT)
		return true;
	if (session->scan.version == WIRE_V1) {
		waits_remove(waits, TAKE_PTR(session->wait));
		return true;
	}
	return false;
}

/* Gives memory back that a large message took. */
static void shrink(struct buffer *buffer)
{
	if (buffer->size == 0 && buffer->room > SMALL_SIZE)
		buffer_fini(buffer);
}

tdr_status session_run(struct session *session)
{
	struct buffer *input = &session->input;
	tdr_status status = TDR_OK;
	size_t served = 0;

	list_remove(&session->ready);
	session->held = false;
	if (session->overrun)
		return error_set(TDR_ELIMIT, "there is no room for the answer to a wait");
	while (served < input->size && to_send(session) < ENOUGH_SIZE) {
		bool whole;

		status = wire_scan(&session->scan, &session->service->limits, input->data + served,
		                   input->size - served, &whole);
		if (status != TDR_OK || !whole)
			break;
		session->held = !may_serve(session);
		if (session->held)
			break;
		status = serve(session, session->scan.query, input->data + served + 1);
		if (status != TDR_OK)
			break;
		served += session->scan.size;
		wire_scan_next(&session->scan);
	}
	session->paused = status == TDR_OK && served < input->size && to_send(session) >= ENOUGH_SIZE;
	input->size -= served;
	if (served > 0 && input->size > 0)
		memmove(input->data, input->data + served, input->size);
	shrink(input);
	if (!count_kept(session) && status == TDR_OK)
		status = error_set(TDR_ELIMIT, "requests and answers of all connections take more than %zu bytes",
		                   session->service->max_kept);
	return status;
}

tdr_status session_feed(struct session *session, const void *data, size_t size)
{
	buffer_append(&session->input, data, size);
	if (session->input.failed)
		return error_nomem();
	return session_run(session);
}

struct wire_bytes session_output(const struct session *session)
{
	struct wire_bytes output = {.size = to_send(session)};

	if (output.size > 0)
		output.data = (const char *)session->output.data + session->sent;
	return output;
}

void session_sent(struct session *session, size_t size)
{
	assert(size <= to_send(session));
	session->sent += size;
	if (to_send(session) > 0)
		return;
	session->sent = 0;
	session->output.size = 0;
	shrink(&session->output);
	count_kept(session);
}

bool session_can_run(const struct session *session)
{
	return session->paused && to_send(session) < ENOUGH_SIZE;
}

bool session_wants_input(const struct session *session)
{
	return to_send(session) < ENOUGH_SIZE && !(session->held && session->input.size >= ENOUGH_SIZE);
}
