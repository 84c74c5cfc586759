/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call's life. A call under way has a slot in its peer's table. Whoever takes it out of the table - the reply, the deadline, a
 * cancellation, the end of the peer - completes it, so that it completes once. It is counted: by the table, by its timer while
 * that is set, and by who cancels or waits for its future.
 */
#include "agent/outgoing.h"

#include "base/clock.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

static void outgoing_timed_out(struct timer *timer);

/* ---- life ---- */

struct outgoing *outgoing_new(struct peer *peer, tdr_future *future, const char *function)
{
	size_t size = strlen(function) + 1;
	struct outgoing *outgoing = calloc(1, sizeof(*outgoing) + size);

	if (!outgoing)
		return NULL;
	memcpy(outgoing->function, function, size);
	refcount_init(&outgoing->refs);
	outgoing->peer = peer;
	outgoing->future = tdr_future_ref(future);
	cargo_init(&outgoing->cargo, peer);
	timer_init(&outgoing->timer, outgoing_timed_out);
	agent_hold(peer->agent);
	return outgoing;
}

void outgoing_unref(struct outgoing *outgoing)
{
	tdr_agent *agent;

	if (!refcount_put(&outgoing->refs))
		return;
	agent = outgoing->peer->agent;
	passage_free(outgoing->passage);
	cargo_fini(&outgoing->cargo);
	tdr_rref_unref(outgoing->target);
	tdr_rref_unref(outgoing->creates);
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

tdr_status outgoing_complete_hooks(tdr_passage *passage, tdr_status status, tdr_value **value, const char **text)
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

void outgoing_finish(struct outgoing *outgoing, tdr_status status, tdr_value *value, const char *text,
                     const char *traceback)
{
	tdr_agent *agent = outgoing->peer->agent;
	tdr_value *detail = status != TDR_OK ? TAKE_PTR(value) : NULL;
	char *copy = NULL;

	if (outgoing->creates) /* whatever interceptors make of the outcome */
		reference_created(reference_of(outgoing->creates), status, text);
	if (outgoing->passage) {
		copy =
		    text ? strdup(text) : NULL; /* hooks may fail at things of their own, and change tdr_last_error */
		text = copy;
		status = outgoing_complete_hooks(outgoing->passage, status, &value, &text);
	}
	count_outcome(&agent->metrics, status);
	count_latency(&agent->metrics, clock_ns() - outgoing->started_ns);
	future_complete(outgoing->future, status, status == TDR_OK ? TAKE_PTR(value) : TAKE_PTR(detail), text,
	                traceback);
	if (status != TDR_OK)
		cargo_withdraw(&outgoing->cargo);
	tdr_value_unref(value);
	tdr_value_unref(detail);
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
	struct outgoing *mine = call_table_take(&outgoing->peer->calls, outgoing->id);

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
	struct outgoing *mine = call_table_take(&outgoing->peer->calls, outgoing->id);

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
void outgoing_attach(struct outgoing *outgoing)
{
	future_set_origin(outgoing->future, &outgoing_origin, outgoing);
}

void outgoing_reserve(struct outgoing *outgoing)
{
	struct source *source = engine_is_inline() ? NULL : origin_source(outgoing);

	if (source)
		engine_reserve(outgoing->peer->agent->engine, source);
}

void outgoing_start_timer(struct outgoing *outgoing, int64_t deadline_ms)
{
	refcount_get(&outgoing->refs);
	timer_set(outgoing->peer->agent->engine, &outgoing->timer, deadline_ms);
	if (tdr_future_done(outgoing->future))
		stop_timer(outgoing);
}

/* ---- all of a peer's ---- */

void outgoing_fail_all(struct peer *peer, tdr_status status, const char *text, bool all, uint32_t epoch)
{
	struct call_table *table = &peer->calls;

	for (uint32_t slot = 0;; slot++) {
		struct outgoing *outgoing = NULL;

		pthread_mutex_lock(&table->lock);
		while (slot < table->room && !(table->slots[slot] && (all || table->slots[slot]->epoch != epoch)))
			slot++;
		if (slot < table->room)
			outgoing = call_table_take_slot(table, slot);
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
