/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values that references of ours stand for. A value is behind a future, so that whoever wants it can wait for its creating
 * function; its memory outlives the machine's interest in it as long as the program has handles.
 */
#include "agent/references.h"

#include "base/clock.h"
#include "base/error.h"

#include <stdlib.h>

enum {
	MAX_COUNTED = 65536, /* parts of a value whose bytes are added up: they may lie in each other many times over */
};

/* Bytes of memory that a value keeps, about: its contents, and the whole of each storage that it views. */
static size_t count_bytes(const tdr_value *value, size_t *left)
{
	size_t count = tdr_value_count(value), size = 0, bytes = 64;
	tdr_tensor *const *tensors;
	tdr_tensor *tensor;
	const char *text;
	const void *data;

	if (*left == 0)
		return 0;
	(*left)--;
	switch (tdr_value_kind(value)) {
	case TDR_TENSOR:
		if (tdr_value_get_tensor(value, &tensor) == TDR_OK)
			bytes += tdr_storage_nbytes(tdr_tensor_storage(tensor));
		break;
	case TDR_STRING:
		if (tdr_value_get_string(value, &text, &size) == TDR_OK)
			bytes += size;
		break;
	case TDR_BYTES:
		if (tdr_value_get_bytes(value, &data, &size) == TDR_OK)
			bytes += size;
		break;
	case TDR_OBJECT:
		if (tdr_value_get_object(value, &text, &data, &size, &count, &tensors) != TDR_OK)
			break;
		bytes += size;
		for (size_t i = 0; i < count; i++)
			bytes += tdr_storage_nbytes(tdr_tensor_storage(tensors[i]));
		break;
	case TDR_DICT:
		for (size_t i = 0; i < count && *left != 0; i++)
			bytes +=
			    count_bytes(tdr_dict_key(value, i), left) + count_bytes(tdr_dict_value(value, i), left);
		break;
	case TDR_LIST:
	case TDR_TUPLE:
	case TDR_SET:
		for (size_t i = 0; i < count && *left != 0; i++)
			bytes += count_bytes(tdr_value_item(value, i), left);
		break;
	default:
		break;
	}
	return bytes;
}

static size_t value_bytes(const tdr_value *value)
{
	size_t left = MAX_COUNTED;

	return count_bytes(value, &left);
}

struct owned_value *owned_value_alloc(tdr_agent *agent)
{
	struct owned_value *owned = calloc(1, sizeof(*owned));

	if (!owned)
		return NULL;
	refcount_init(&owned->memory);
	list_init(&owned->node);
	list_init(&owned->fetches);
	owned->value = tdr_future_new(agent->engine);
	if (owned->value)
		return owned;
	free(owned);
	return NULL;
}

/* One value may be all that keeps another: those that end meanwhile in the same thread follow one by one, and not inside each other. */
void owned_value_drop_memory(struct owned_value *owned)
{
	static _Thread_local struct list ending;
	static _Thread_local bool at_it;

	if (!refcount_put(&owned->memory))
		return;
	if (!at_it)
		list_init(&ending);
	list_append(&ending, &owned->node);
	if (at_it)
		return;
	at_it = true;
	for (struct list *node; (node = list_shift(&ending));) {
		owned = list_entry(node, struct owned_value, node);
		tdr_future_unref(owned->value);
		free(owned);
	}
	at_it = false;
}

tdr_status owned_value_new(tdr_agent *agent, tdr_value *value, struct owned_value **ret_owned)
{
	struct owned_value *owned = owned_value_alloc(agent);
	tdr_status status = owned ? references_lock(agent) : error_nomem();
	size_t bytes = value ? value_bytes(value) : 0;
	bool ready = value != NULL;

	if (status == TDR_OK) {
		owned->bytes = bytes;
		status = rrefs_own(agent->references.machine, &owned->owned, ready ? OWNED_READY : OWNED_PENDING);
		if (status == TDR_OK)
			refcount_get(&owned->memory); /* the handle's, beside the machine's */
		references_unlock(agent);
	}
	if (status != TDR_OK) {
		tdr_value_unref(value);
		if (owned)
			owned_value_drop_memory(owned);
		return status;
	}
	if (ready)
		future_complete(owned->value, TDR_OK, value, NULL, NULL);
	*ret_owned = owned;
	return TDR_OK;
}

/* With the lock held. */
static void become_ready(struct owned_value *owned)
{
	if (owned->owned.state == OWNED_PENDING)
		rrefs_owned_ready(&owned->owned);
}

bool owned_value_await(tdr_agent *agent, struct owned_value *owned, struct list *fetch)
{
	bool waits;

	pthread_mutex_lock(&agent->references.lock);
	waits = !tdr_future_done(owned->value);
	if (waits)
		list_append(&owned->fetches, fetch);
	pthread_mutex_unlock(&agent->references.lock);
	return waits;
}

void owned_value_store(tdr_agent *agent, struct owned_value *owned, tdr_status status, tdr_value *value,
                       const char *text, const char *traceback, struct list *ret_fetches)
{
	size_t bytes = status == TDR_OK ? value_bytes(value) : 0;

	future_complete(owned->value, status, value, text, traceback);
	if (references_enter(agent)) {
		owned->bytes = bytes;
		become_ready(owned);
		list_splice(ret_fetches, &owned->fetches);
		rrefs_owned_unref(&owned->owned);
		references_unlock(agent);
	}
	owned_value_drop_memory(owned);
}

bool owned_value_end(tdr_agent *agent, struct owned_value *owned, tdr_status status, const char *text)
{
	bool ended = future_complete(owned->value, status, NULL, text, NULL);
	struct list fetches;

	list_init(&fetches);
	pthread_mutex_lock(&agent->references.lock);
	list_splice(&fetches, &owned->fetches);
	pthread_mutex_unlock(&agent->references.lock);
	fetches_finish(agent, &fetches);
	return ended;
}

bool owned_value_fail(tdr_agent *agent, struct owned_value *owned, tdr_status status, const char *text)
{
	bool taken_up;

	if (!references_enter(agent))
		return false;
	taken_up = owned->taken_up;
	references_unlock(agent);
	if (taken_up || !owned_value_end(agent, owned, status, text))
		return false;
	if (references_enter(agent)) {
		become_ready(owned);
		references_unlock(agent);
	}
	return true;
}

/* ---- waiting for one ---- */

/* Somebody here who waits; counted by the value's future, and by the timer while it is set. */
struct local_fetch {
	struct refcount refs;
	tdr_agent *agent; /* held */
	tdr_future *result;
	int64_t timeout_ms;
	struct timer timer;
};

static void local_fetch_unref(struct local_fetch *fetch)
{
	tdr_agent *agent;

	if (!refcount_put(&fetch->refs))
		return;
	agent = fetch->agent;
	tdr_future_unref(fetch->result);
	free(fetch);
	agent_drop(agent);
}

static void local_fetch_done(tdr_future *value, void *context)
{
	struct local_fetch *fetch = context;
	tdr_status status = tdr_future_status(value);

	if (timer_clear(fetch->agent->engine, &fetch->timer))
		local_fetch_unref(fetch);
	future_complete(fetch->result, status,
	                tdr_value_ref(status == TDR_OK ? tdr_future_value(value) : tdr_future_detail(value)),
	                tdr_future_error(value), tdr_future_traceback(value));
	local_fetch_unref(fetch);
}

static void local_fetch_timed_out(struct timer *timer)
{
	struct local_fetch *fetch = container_of(timer, struct local_fetch, timer);

	error_set(TDR_ETIMEDOUT, "RPC ran for more than set timeout (%lld ms): the reference's value is not there yet",
	          (long long)fetch->timeout_ms);
	future_complete(fetch->result, TDR_ETIMEDOUT, NULL, tdr_last_error(), NULL);
	local_fetch_unref(fetch);
}

tdr_future *owned_value_fetch(tdr_agent *agent, struct owned_value *owned, int64_t timeout_ms)
{
	struct local_fetch *fetch = calloc(1, sizeof(*fetch));
	tdr_future *result = fetch ? tdr_future_new(agent->engine) : NULL;

	if (!result) {
		free(fetch);
		return NULL;
	}
	refcount_init(&fetch->refs);
	fetch->agent = agent;
	agent_hold(agent);
	fetch->result = tdr_future_ref(result);
	fetch->timeout_ms = timeout_ms;
	timer_init(&fetch->timer, local_fetch_timed_out);
	if (tdr_future_done(owned->value)) {
		local_fetch_done(owned->value, fetch);
		return result;
	}
	if (timeout_ms > 0) {
		refcount_get(&fetch->refs);
		timer_set(agent->engine, &fetch->timer, deadline_after(timeout_ms));
	}
	if (tdr_future_on_done(owned->value, local_fetch_done, fetch) != TDR_OK) {
		future_complete(result, TDR_ENOMEM, NULL, NULL, NULL);
		if (timer_clear(agent->engine, &fetch->timer))
			local_fetch_unref(fetch);
		local_fetch_unref(fetch);
	}
	return result;
}

void owned_value_put(tdr_agent *agent, struct owned_value *owned)
{
	if (references_enter(agent)) {
		rrefs_owned_unref(&owned->owned);
		references_unlock(agent);
	}
	owned_value_drop_memory(owned);
}
