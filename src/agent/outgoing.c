/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that we make: from the arguments to the future.
 *
 * A call under way has a slot in its peer's table. Whoever takes it out of the table - the reply, the deadline, a cancellation,
 * the end of the peer - completes it, so that it completes once. It is counted: by the table, by its timer while that is set, and by who
 * cancels or waits for its future.
 */
#include "agent/faulty.h"
#include "agent/internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/text.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 8
#define NO_SLOT UINT32_MAX

struct outgoing {
	struct refcount refs;
	struct peer *peer;
	tdr_future *future; /* counted */
	uint64_t id;
	uint32_t epoch; /* of the link when it was sent */
	unsigned flags; /* TDR_RPC_... */
	int64_t timeout_ms;
	int64_t started_ns;
	struct timer timer;
	_Atomic(struct lane *) lane; /* where a waiter reads; counted */
	tdr_passage *passage;        /* NULL without interceptors */
	char function[];
};

/* ---- the table ---- */

void call_table_init(struct call_table *table)
{
	*table = (struct call_table){.free_slot = NO_SLOT};
	pthread_mutex_init(&table->lock, NULL);
}

void call_table_fini(struct call_table *table)
{
	assert(table->used == 0);
	free(table->slots);
	free(table->generations);
	free(table->next_free);
	pthread_mutex_destroy(&table->lock);
}

static bool table_grow(struct call_table *table)
{
	uint32_t room = MAX_OF(table->room * 2, (uint32_t)FIRST_SLOTS);
	struct outgoing **slots = realloc(table->slots, room * sizeof(*slots));
	uint32_t *generations, *next_free;

	if (!slots)
		return false;
	table->slots = slots;
	generations = realloc(table->generations, room * sizeof(*generations));
	if (!generations)
		return false;
	table->generations = generations;
	next_free = realloc(table->next_free, room * sizeof(*next_free));
	if (!next_free)
		return false;
	table->next_free = next_free;
	for (uint32_t i = room; i-- > table->room;) {
		slots[i] = NULL;
		generations[i] = 0;
		next_free[i] = table->free_slot;
		table->free_slot = i;
	}
	table->room = room;
	return true;
}

static tdr_status table_add(struct call_table *table, struct outgoing *outgoing, uint32_t limit)
{
	uint32_t slot;
	bool full;

	pthread_mutex_lock(&table->lock);
	full = table->used >= limit;
	if (full || (table->free_slot == NO_SLOT && !table_grow(table))) {
		pthread_mutex_unlock(&table->lock);
		return full ? error_set(
				  TDR_ELIMIT,
				  "%u calls to worker '%s' are under way already: wait for some, or raise max_calls",
				  limit, link_peer(outgoing->peer->link)->name)
		            : error_nomem();
	}
	slot = table->free_slot;
	table->free_slot = table->next_free[slot];
	table->slots[slot] = outgoing;
	table->used++;
	outgoing->id = (uint64_t)++table->generations[slot] << 32 | slot;
	pthread_mutex_unlock(&table->lock);
	return TDR_OK;
}

/* With the lock held. */
static struct outgoing *table_take_slot(struct call_table *table, uint32_t slot)
{
	struct outgoing *outgoing = TAKE_PTR(table->slots[slot]);

	table->next_free[slot] = table->free_slot;
	table->free_slot = slot;
	table->used--;
	return outgoing;
}

/* Takes a call out of the table; NULL if it has been taken out before. The table's reference is the caller's then. */
static struct outgoing *table_take(struct call_table *table, uint64_t id)
{
	uint32_t slot = (uint32_t)id;
	struct outgoing *outgoing = NULL;

	pthread_mutex_lock(&table->lock);
	if (slot < table->room && table->slots[slot] && table->slots[slot]->id == id)
		outgoing = table_take_slot(table, slot);
	pthread_mutex_unlock(&table->lock);
	return outgoing;
}

/* ---- life ---- */

static struct outgoing *outgoing_new(struct peer *peer, tdr_future *future, const char *function)
{
	size_t size = strlen(function) + 1;
	struct outgoing *outgoing = calloc(1, sizeof(*outgoing) + size);

	if (!outgoing)
		return NULL;
	memcpy(outgoing->function, function, size);
	refcount_init(&outgoing->refs);
	outgoing->peer = peer;
	outgoing->future = tdr_future_ref(future);
	agent_hold(peer->agent);
	return outgoing;
}

static void outgoing_unref(struct outgoing *outgoing)
{
	tdr_agent *agent;

	if (!refcount_put(&outgoing->refs))
		return;
	agent = outgoing->peer->agent;
	passage_free(outgoing->passage);
	lane_unref(atomic_load(&outgoing->lane));
	tdr_future_unref(outgoing->future);
	free(outgoing);
	agent_drop(agent);
}

static void count_latency(struct metrics *metrics, int64_t nanoseconds)
{
	uint64_t us = (uint64_t)(nanoseconds / 1000);
	int bucket = us > 0 ? 63 - __builtin_clzll(us) : 0;

	atomic_fetch_add_explicit(&metrics->latency[MIN_OF(bucket, LATENCY_BUCKETS - 1)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&metrics->latency_us, us, memory_order_relaxed);
}

static void count_outcome(struct metrics *metrics, tdr_status status)
{
	_Atomic uint64_t *counter = status == TDR_OK          ? &metrics->succeeded
	                            : status == TDR_ETIMEDOUT ? &metrics->timed_out
	                            : status == TDR_ECANCELED ? &metrics->cancelled
	                                                      : &metrics->failed;

	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/*
 * Takes the timer back. Who completes the call does it after, and who launches it looks again after setting the timer: whichever is
 * the later of the two finds it set.
 */
static void stop_timer(struct outgoing *outgoing)
{
	if (timer_clear(outgoing->peer->agent->engine, &outgoing->timer))
		outgoing_unref(outgoing);
}

/* Shows an outcome to the interceptors, who may replace it; returns what it is then. */
static tdr_status complete_hooks(tdr_passage *passage, tdr_status status, tdr_value **value, const char **text)
{
	passage->status = status;
	passage->result = TAKE_PTR(*value);
	if (intercept_run(passage, HOOK_COMPLETE) != TDR_OK)
		*text = tdr_last_error();
	*value = TAKE_PTR(passage->result);
	if (passage->status != TDR_OK)
		*value = tdr_value_unref(*value);
	return passage->status;
}

/* Completes a call that its caller has taken out of the table, and drops the table's reference. `value` is given away. */
static void outgoing_finish(struct outgoing *outgoing, tdr_status status, tdr_value *value, const char *text,
                            const char *traceback)
{
	tdr_agent *agent = outgoing->peer->agent;
	char *copy = NULL;

	if (outgoing->passage) {
		copy =
		    text ? strdup(text) : NULL; /* hooks may fail at things of their own, and change tdr_last_error */
		text = copy;
		status = complete_hooks(outgoing->passage, status, &value, &text);
	}
	count_outcome(&agent->metrics, status);
	count_latency(&agent->metrics, clock_ns() - outgoing->started_ns);
	future_complete(outgoing->future, status, value, text, traceback);
	free(copy);
	stop_timer(outgoing);
	agent_note_end(agent, &agent->outstanding);
	outgoing_unref(outgoing);
}

/* Nobody waits for the answer any more. */
static void send_cancel(const struct outgoing *outgoing)
{
	(void)link_send(outgoing->peer->link, &(struct message){.type = MESSAGE_CANCEL, .call_id = outgoing->id});
}

static void outgoing_timed_out(struct timer *timer)
{
	struct outgoing *outgoing = container_of(timer, struct outgoing, timer);
	struct outgoing *mine = table_take(&outgoing->peer->calls, outgoing->id);

	if (mine) {
		error_set(TDR_ETIMEDOUT, "RPC ran for more than set timeout (%lld ms): %s on worker '%s'",
		          (long long)outgoing->timeout_ms, outgoing->function, link_peer(outgoing->peer->link)->name);
		outgoing_finish(mine, TDR_ETIMEDOUT, NULL, tdr_last_error(), NULL);
		if (!(outgoing->flags & TDR_RPC_LOCAL_TIMEOUT)) /* so that what the callee waits for ends, too */
			send_cancel(outgoing);
	}
	outgoing_unref(outgoing);
}

/* ---- the future's origin ---- */

static void origin_hold(void *context)
{
	refcount_get(&((struct outgoing *)context)->refs);
}

static void origin_drop(void *context)
{
	outgoing_unref(context);
}

static void origin_cancel(void *context, tdr_future *future)
{
	struct outgoing *outgoing = context;
	struct outgoing *mine = table_take(&outgoing->peer->calls, outgoing->id);

	if (!mine)
		return;
	send_cancel(outgoing);
	error_set(TDR_ECANCELED, "the call of %s on worker '%s' was cancelled", outgoing->function,
	          link_peer(outgoing->peer->link)->name);
	outgoing_finish(mine, TDR_ECANCELED, NULL, tdr_last_error(), NULL);
}

static struct source *origin_source(void *context)
{
	struct outgoing *outgoing = context;
	struct lane *lane = atomic_load(&outgoing->lane), *found;

	if (lane)
		return lane->ops->source(lane);
	if (!link_source(outgoing->peer->link, &found) && !found)
		return NULL;
	if (atomic_compare_exchange_strong(&outgoing->lane, &lane, found))
		lane = found;
	else
		lane_unref(found);
	return lane->ops->source(lane);
}

static const struct future_origin outgoing_origin = {
    .hold = origin_hold,
    .drop = origin_drop,
    .cancel = origin_cancel,
    .source = origin_source,
};

/* ---- issuing ---- */

static tdr_status check_arguments(const tdr_value *args, const tdr_value *kwargs)
{
	tdr_kind kind = args ? tdr_value_kind(args) : TDR_TUPLE;
	tdr_status status = args ? tdr_value_status(args) : TDR_OK;

	if (status == TDR_OK && kwargs)
		status = tdr_value_status(kwargs);
	if (status != TDR_OK)
		return error_prefix(status, "an argument could not be made");
	if (kind != TDR_TUPLE && kind != TDR_LIST)
		return error_set(TDR_EINVAL, "args must be a tuple or a list (see TDR_ARGS), not %s",
		                 tdr_kind_name(kind));
	if (kwargs && tdr_value_kind(kwargs) != TDR_DICT)
		return error_set(TDR_EINVAL, "kwargs must be a dict (see TDR_KWARGS), not %s",
		                 tdr_kind_name(tdr_value_kind(kwargs)));
	return TDR_OK;
}

static tdr_status check_can_call(const tdr_agent *agent)
{
	switch (agent_state(agent)) {
	case AGENT_MEMBER:
	case AGENT_LEAVING:
		return TDR_OK;
	case AGENT_NEW:
	case AGENT_JOINING:
		return error_set(TDR_ESTATE, "agent '%s' has not joined a group yet: call tdr_join first", agent->name);
	case AGENT_LEFT:
		break;
	}
	return error_set(TDR_ESHUTDOWN, "agent '%s' has been shut down", agent->name);
}

/* The deadline of a call: its own timeout, and no later than that of the call which makes it. */
static tdr_status choose_deadline(const tdr_agent *agent, const tdr_rpc_options *options, const struct scope *scope,
                                  struct outgoing *outgoing, int64_t *ret_deadline_ms)
{
	int64_t timeout = options->timeout_ms, deadline;

	if (timeout == TDR_TIMEOUT_DEFAULT)
		timeout = atomic_load(&agent->rpc_timeout_ms);
	if (timeout < 0)
		return error_set(TDR_EINVAL,
		                 "a timeout of %lld ms: give a positive one, TDR_TIMEOUT_NEVER or "
		                 "TDR_TIMEOUT_DEFAULT",
		                 (long long)timeout);
	deadline = deadline_after(timeout);
	if (scope->deadline_ms && !(options->flags & TDR_RPC_LOCAL_TIMEOUT) &&
	    (deadline == 0 || scope->deadline_ms < deadline)) {
		deadline = scope->deadline_ms;
		timeout = MAX_OF(deadline - clock_ms(), (int64_t)0);
		if (timeout == 0)
			return error_set(TDR_ETIMEDOUT,
			                 "the call of %s on worker '%s' was not made: the time of the call "
			                 "that makes it is over",
			                 outgoing->function, link_peer(outgoing->peer->link)->name);
	}
	outgoing->timeout_ms = timeout;
	*ret_deadline_ms = deadline;
	return TDR_OK;
}

static tdr_status issue_hooks(struct outgoing *outgoing, tdr_value **args, tdr_value **kwargs)
{
	tdr_agent *agent = outgoing->peer->agent;
	tdr_status status;

	if (agent->interceptors.count == 0)
		return TDR_OK;
	outgoing->passage = passage_new(agent, outgoing->peer->link, outgoing->function, false);
	if (!outgoing->passage)
		return error_nomem();
	outgoing->passage->args = tdr_value_ref(*args);
	outgoing->passage->kwargs = tdr_value_ref(*kwargs);
	status = intercept_run(outgoing->passage, HOOK_ISSUE);
	tdr_value_unref(*args);
	tdr_value_unref(*kwargs);
	*args = TAKE_PTR(outgoing->passage->args);
	*kwargs = TAKE_PTR(outgoing->passage->kwargs);
	return status;
}

/* The body of a call: function, depth, metadata, args, kwargs. docs/protocol.md states it. */
static tdr_status encode_call(struct encoder *encoder, const struct outgoing *outgoing, uint32_t depth,
                              const tdr_value *args, const tdr_value *kwargs)
{
	tdr_status status = TDR_OK;

	encode_array(encoder, 5);
	encode_string(encoder, outgoing->function, strlen(outgoing->function));
	encode_uint(encoder, depth);
	if (outgoing->passage && outgoing->passage->attached)
		status = encode_value_as(encoder, outgoing->passage->attached, "metadata");
	else
		encode_nil(encoder);
	if (status == TDR_OK && args)
		status = encode_value_as(encoder, args, "args");
	else
		encode_nil(encoder);
	if (status == TDR_OK && kwargs)
		status = encode_value_as(encoder, kwargs, "kwargs");
	else
		encode_nil(encoder);
	if (status == TDR_OK && encoder->body.failed)
		status = error_nomem();
	return status;
}

static tdr_status await_credit(struct outgoing *outgoing, int64_t deadline_ms)
{
	const char *name = link_peer(outgoing->peer->link)->name;

	if (!link_over_credit(outgoing->peer->link))
		return TDR_OK;
	if (outgoing->flags & TDR_RPC_NO_WAIT)
		return error_set(TDR_EAGAIN, "worker '%s' has not taken up earlier requests yet: its credit is used up",
		                 name);
	/* Who may not wait (a callback, a thread that keeps the engine going) goes past it. */
	if (engine_is_inline() || link_await_credit(outgoing->peer->link, deadline_ms))
		return TDR_OK;
	return error_set(TDR_ETIMEDOUT,
	                 "RPC ran for more than set timeout (%lld ms): %s was not sent, since worker '%s' has "
	                 "not taken up earlier requests",
	                 (long long)outgoing->timeout_ms, outgoing->function, name);
}

/* Puts the call into the table, starts its clock and sends it. */
static tdr_status launch(struct outgoing *outgoing, struct encoder *encoder, int64_t deadline_ms)
{
	struct peer *peer = outgoing->peer;
	tdr_agent *agent = peer->agent;
	struct message message = {
	    .type = MESSAGE_CALL,
	    .body = encoder->body.data,
	    .body_size = encoder->body.size,
	    .nstorages = encoder->nstorages,
	    .storages = encoder->storages,
	};
	tdr_status status;

	outgoing->epoch = link_epoch(peer->link);
	outgoing->started_ns = clock_ns();
	timer_init(&outgoing->timer, outgoing_timed_out);
	refcount_get(&outgoing->refs); /* ours, beside the table's */
	atomic_fetch_add(&agent->outstanding, 1);
	atomic_fetch_add(&agent->activity, 1);
	status = table_add(&peer->calls, outgoing, (uint32_t)agent->options.max_calls);
	if (status != TDR_OK) {
		agent_note_end(agent, &agent->outstanding);
		outgoing_unref(outgoing);
		return status;
	}
	atomic_fetch_add_explicit(&agent->metrics.issued, 1, memory_order_relaxed);
	future_set_origin(outgoing->future, &outgoing_origin, outgoing);
	if (deadline_ms) {
		refcount_get(&outgoing->refs);
		timer_set(agent->engine, &outgoing->timer, deadline_ms);
		if (tdr_future_done(outgoing->future))
			stop_timer(outgoing);
		if (!(outgoing->flags & TDR_RPC_LOCAL_TIMEOUT))
			message.time_left_ms =
			    (uint32_t)MIN_OF(MAX_OF(deadline_ms - clock_ms(), (int64_t)1), (int64_t)UINT32_MAX);
	}
	message.call_id = outgoing->id;
	status = faulty_send(agent->faulty, peer->link, FAULTY_CALL, outgoing->function, message.body,
	                     message.body_size, &message);
	if (status != TDR_OK) {
		struct outgoing *mine = table_take(&peer->calls, outgoing->id);

		if (mine)
			outgoing_finish(mine, status, NULL, tdr_last_error(), NULL);
	}
	outgoing_unref(outgoing);
	return TDR_OK;
}

/* A call that interceptors have seen has its end shown to them, too; they may even give it a result. */
static tdr_status not_launched(struct outgoing *outgoing, tdr_status status)
{
	char said[ERROR_TEXT_SIZE];
	const char *text = said;
	tdr_value *value = NULL;

	if (!outgoing->passage)
		return status;
	snprintf(said, sizeof(said), "%s", tdr_last_error());
	status = complete_hooks(outgoing->passage, status, &value, &text);
	if (status == TDR_OK)
		future_complete(outgoing->future, TDR_OK, value, NULL, NULL);
	else if (text == said)
		error_set(status, "%s", said);
	return status;
}

static tdr_status issue(tdr_agent *agent, const char *worker, const char *function, tdr_value **args,
                        tdr_value **kwargs, const tdr_rpc_options *options, tdr_future *future)
{
	struct scope scope = serve_scope();
	struct outgoing *outgoing;
	struct encoder encoder;
	struct peer *peer;
	int64_t deadline_ms = 0;
	tdr_status status = check_can_call(agent);

	if (status == TDR_OK)
		status = check_arguments(*args, *kwargs);
	if (status == TDR_OK)
		status = agent_find_peer(agent, worker, &peer);
	if (status == TDR_OK && scope.depth >= agent->options.max_depth)
		status = error_set(TDR_ELIMIT,
		                   "%s on worker '%s' would be nested %u calls deep: raise max_depth, or find the "
		                   "recursion that does not end",
		                   function, worker, scope.depth + 1);
	if (status != TDR_OK)
		return status;
	outgoing = outgoing_new(peer, future, function);
	if (!outgoing)
		return error_nomem();
	outgoing->flags = options->flags;
	encoder_init(&encoder, &agent->codec_limits);
	status = choose_deadline(agent, options, &scope, outgoing, &deadline_ms);
	if (status == TDR_OK)
		status = issue_hooks(outgoing, args, kwargs);
	if (status == TDR_OK)
		status = encode_call(&encoder, outgoing, scope.depth + 1, *args, *kwargs);
	if (status == TDR_OK)
		status = await_credit(outgoing, deadline_ms);
	if (status == TDR_OK) {
		status = launch(outgoing, &encoder, deadline_ms);
		outgoing = status == TDR_OK ? NULL : outgoing;
	}
	if (outgoing) {
		status = not_launched(outgoing, status);
		outgoing_unref(outgoing);
	}
	encoder_fini(&encoder);
	return status;
}

void tdr_rpc_options_init(tdr_rpc_options *options)
{
	*options = (tdr_rpc_options){.size = sizeof(*options), .timeout_ms = TDR_TIMEOUT_DEFAULT};
}

tdr_future *tdr_rpc_async_with(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                               tdr_value *kwargs, const tdr_rpc_options *options)
{
	tdr_future *future = forked(agent->fork_generation) ? NULL : tdr_future_new(agent->engine);
	tdr_rpc_options defaults;
	tdr_status status = TDR_OK;

	tdr_rpc_options_init(&defaults);
	options = options ? options : &defaults;
	if (forked(agent->fork_generation))
		error_set(TDR_EFORKED, "agent '%s' belongs to the parent process", agent->name);
	else if (future && options->size != sizeof(*options))
		status = error_set(TDR_EINVAL, "tdr_rpc_options.size is %zu, not %zu: call tdr_rpc_options_init first",
		                   options->size, sizeof(*options));
	else if (future)
		status = issue(agent, worker, function, &args, &kwargs, options, future);
	if (status != TDR_OK)
		future_complete(future, status, NULL, tdr_last_error(), NULL);
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
	return future;
}

tdr_future *tdr_rpc_async(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                          tdr_value *kwargs)
{
	return tdr_rpc_async_with(agent, worker, function, args, kwargs, NULL);
}

tdr_status tdr_rpc_sync_with(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                             tdr_value *kwargs, const tdr_rpc_options *options, tdr_value **ret_value)
{
	tdr_future *future = tdr_rpc_async_with(agent, worker, function, args, kwargs, options);
	tdr_status status;

	if (!future)
		return forked(agent->fork_generation) ? TDR_EFORKED : error_nomem();
	status = tdr_future_wait(future, TDR_TIMEOUT_NEVER, ret_value);
	tdr_future_unref(future);
	return status;
}

tdr_status tdr_rpc_sync(tdr_agent *agent, const char *worker, const char *function, tdr_value *args, tdr_value *kwargs,
                        tdr_value **ret_value)
{
	return tdr_rpc_sync_with(agent, worker, function, args, kwargs, NULL, ret_value);
}

/* ---- answers ---- */

static tdr_status read_metadata(struct decoder *decoder, tdr_value **ret_metadata)
{
	*ret_metadata = NULL;
	return decode_is_nil(decoder) ? TDR_OK : decode_value(decoder, ret_metadata);
}

/* A reply's body: metadata, value. */
static tdr_status read_reply(struct decoder *decoder, tdr_value **ret_metadata, tdr_value **ret_value)
{
	size_t parts;
	tdr_status status = decode_array(decoder, &parts);

	if (status == TDR_OK && parts != 2)
		status = error_set(TDR_EPROTO, "a reply of %zu parts, not 2", parts);
	if (status == TDR_OK)
		status = read_metadata(decoder, ret_metadata);
	if (status == TDR_OK)
		status = decode_value(decoder, ret_value);
	if (status == TDR_OK)
		status = decode_end(decoder);
	return status;
}

/* An error's text or traceback as a string of its own; NULL for nil. */
static tdr_status read_text(struct decoder *decoder, char **ret_text)
{
	const char *text;
	size_t size;
	tdr_status status;

	if (decode_is_nil(decoder))
		return TDR_OK;
	status = decode_string(decoder, &text, &size);
	if (status != TDR_OK)
		return status;
	*ret_text = text_copy(text, size);
	return *ret_text ? TDR_OK : error_nomem();
}

/* An error's body: status, text, traceback, metadata. */
static tdr_status read_error(struct decoder *decoder, uint64_t *ret_failure, char **ret_text, char **ret_traceback,
                             tdr_value **ret_metadata)
{
	size_t parts;
	tdr_status status = decode_array(decoder, &parts);

	if (status == TDR_OK && parts != 4)
		status = error_set(TDR_EPROTO, "an error of %zu parts, not 4", parts);
	if (status == TDR_OK)
		status = decode_uint(decoder, ret_failure);
	if (status == TDR_OK && (*ret_failure == 0 || *ret_failure > INT32_MAX))
		status = error_set(TDR_EPROTO, "an error with status %llu", (unsigned long long)*ret_failure);
	if (status == TDR_OK)
		status = read_text(decoder, ret_text);
	if (status == TDR_OK)
		status = read_text(decoder, ret_traceback);
	if (status == TDR_OK)
		status = read_metadata(decoder, ret_metadata);
	if (status == TDR_OK)
		status = decode_end(decoder);
	return status;
}

void outgoing_reply(struct peer *peer, const struct message *message)
{
	struct outgoing *outgoing = table_take(&peer->calls, message->call_id);
	const char *name = link_peer(peer->link)->name;
	tdr_value *metadata = NULL, *value = NULL;
	char *text = NULL, *traceback = NULL;
	struct decoder decoder;
	uint64_t failure = 0;
	tdr_status status;

	if (!outgoing)
		return; /* its time was over, or it was cancelled */
	decoder_init(&decoder, &peer->agent->codec_limits, message->body, message->body_size, message->storages,
	             message->nstorages);
	if (message->type == MESSAGE_REPLY)
		status = read_reply(&decoder, &metadata, &value);
	else
		status = read_error(&decoder, &failure, &text, &traceback, &metadata);
	if (status != TDR_OK) {
		error_prefix(status, "the answer of worker '%s' to %s", name, outgoing->function);
		value = tdr_value_unref(value);
	} else if (failure) {
		status = (tdr_status)failure;
		error_set(status, "%s on worker '%s': %s", outgoing->function, name,
		          text ? text : tdr_status_text(status));
	}
	if (outgoing->passage)
		outgoing->passage->received = TAKE_PTR(metadata);
	outgoing_finish(outgoing, status, value, tdr_last_error(), traceback);
	tdr_value_unref(metadata);
	free(text);
	free(traceback);
}

void outgoing_fail_all(struct peer *peer, tdr_status status, const char *text, bool all, uint32_t epoch)
{
	struct call_table *table = &peer->calls;

	for (uint32_t slot = 0;; slot++) {
		struct outgoing *outgoing = NULL;

		pthread_mutex_lock(&table->lock);
		while (slot < table->room && !(table->slots[slot] && (all || table->slots[slot]->epoch != epoch)))
			slot++;
		if (slot < table->room)
			outgoing = table_take_slot(table, slot);
		pthread_mutex_unlock(&table->lock);
		if (!outgoing)
			break;
		error_set(status, "%s on worker '%s': %s", outgoing->function, link_peer(peer->link)->name, text);
		outgoing_finish(outgoing, status, NULL, tdr_last_error(), NULL);
	}
}

void outgoing_dump(struct peer *peer, struct buffer *text)
{
	struct call_table *table = &peer->calls;
	int64_t now = clock_ns();

	pthread_mutex_lock(&table->lock);
	for (uint32_t slot = 0; slot < table->room; slot++) {
		const struct outgoing *outgoing = table->slots[slot];
		char age[32];

		if (!outgoing)
			continue;
		print_duration((now - outgoing->started_ns) / 1000, age, sizeof(age));
		buffer_printf(text, "waiting for %s on worker '%s' for %s (timeout %lld ms, link %s)\n",
		              outgoing->function, link_peer(peer->link)->name, age, (long long)outgoing->timeout_ms,
		              link_state_name(link_state(peer->link)));
	}
	pthread_mutex_unlock(&table->lock);
}
