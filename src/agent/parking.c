/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that wait: for references among their arguments to be counted by their owners, or for the value that they are called on.
 * They take no thread, and no credit: what they wait for may come by a request of the same peer. One ends early where its time is
 * over, its caller has cancelled it, or is gone; its memory stays until what it waits for has come.
 */
#include "agent/request.h"

#include "base/clock.h"
#include "base/error.h"

#include <stdlib.h>

struct parked *parked_unref(struct parked *parked)
{
	tdr_agent *agent;

	if (!parked || !refcount_put(&parked->refs))
		return NULL;
	agent = parked->request.peer->agent;
	free(parked);
	agent_drop(agent);
	return NULL;
}

bool parked_claim(struct parked *parked)
{
	struct peer *peer = parked->request.peer;
	bool mine;

	pthread_mutex_lock(&peer->served_lock);
	mine = !parked->claimed;
	parked->claimed = true;
	list_remove(&parked->node);
	pthread_mutex_unlock(&peer->served_lock);
	if (mine && timer_clear(peer->agent->engine, &parked->timer))
		parked_unref(parked);
	return mine;
}

void parked_end(struct parked *parked)
{
	tdr_agent *agent = parked->request.peer->agent;
	bool listed;

	pthread_mutex_lock(&agent->references.lock);
	listed = !list_empty(&parked->of_value);
	list_remove(&parked->of_value);
	pthread_mutex_unlock(&agent->references.lock);
	if (listed)
		parked_unref(parked); /* the value's, which need not tell us any more */
	request_fini(&parked->request);
	agent_note_end(agent, &agent->serving);
}

/* The caller has claimed it. */
static void refuse(struct parked *parked, tdr_status status)
{
	request_refuse(&parked->request, status);
	parked_end(parked);
}

static void timed_out(struct timer *timer)
{
	struct parked *parked = container_of(timer, struct parked, timer);

	if (parked_claim(parked)) {
		atomic_fetch_add(&parked->request.peer->agent->metrics.expired, 1);
		refuse(parked, error_set(TDR_ETIMEDOUT, "its time was over before it could run"));
	}
	parked_unref(parked);
}

struct parked *parked_new(struct request *request)
{
	struct peer *peer = request->peer;
	tdr_agent *agent = peer->agent;
	struct parked *parked = request_keep_name(request) == TDR_OK ? calloc(1, sizeof(*parked)) : NULL;

	if (!parked)
		return NULL;
	refcount_init(&parked->refs);
	parked->request = *request;
	*request = (struct request){.peer = peer};
	parked->since_ns = clock_ns();
	list_init(&parked->of_value);
	timer_init(&parked->timer, timed_out);
	agent_hold(agent);
	atomic_fetch_add(&agent->serving, 1);
	atomic_fetch_add(&agent->activity, 1);
	link_took(peer->link, parked->request.cost);
	parked->request.cost = 0;
	refcount_get(&parked->refs); /* the timer's */
	pthread_mutex_lock(&peer->served_lock);
	list_append(&peer->parked, &parked->node);
	if (parked->request.deadline_ms)
		timer_set(agent->engine, &parked->timer, parked->request.deadline_ms);
	pthread_mutex_unlock(&peer->served_lock);
	if (!parked->request.deadline_ms)
		parked_unref(parked);
	return parked;
}

/* ---- waiting for several things ---- */

/* One more of what it waits for is there, or will not come: its function, or the call, will say so. */
static void arrive(struct parked *parked, unsigned turn)
{
	if (atomic_fetch_sub(&parked->left, 1) == 1 && parked_claim(parked)) {
		request_start(&parked->request, turn);
		parked_end(parked);
	}
	parked_unref(parked);
}

static void on_arrival(tdr_future *future, void *context)
{
	arrive(context, TURN_MAY_RUN); /* as a callback is run by a thread that may */
}

static void wait_for(struct parked *parked, tdr_future *future)
{
	atomic_fetch_add(&parked->left, 1);
	refcount_get(&parked->refs);
	if (tdr_future_on_done(future, on_arrival, parked) == TDR_OK)
		return;
	if (parked_claim(parked))
		refuse(parked, error_nomem());
	atomic_fetch_sub(&parked->left, 1);
	parked_unref(parked);
}

bool request_park(struct request *request)
{
	size_t count = request->cargo.count;
	tdr_future **settling = TAKE_PTR(request->cargo.settling);
	tdr_future *value = request->on ? tdr_future_ref(request->on->value) : NULL;
	tdr_future *gate = tdr_future_ref(request_gate(request));
	struct parked *parked;

	request->cargo.count = 0;
	parked = parked_new(request);
	if (parked) {
		atomic_store(&parked->left, 1); /* ours, until all are asked */
		for (size_t i = 0; i < count; i++)
			wait_for(parked, settling[i]);
		if (value)
			wait_for(parked, value);
		if (gate)
			wait_for(parked, gate);
		arrive(parked, 0);
	}
	for (size_t i = 0; i < count; i++)
		tdr_future_unref(settling[i]);
	free(settling);
	tdr_future_unref(value);
	tdr_future_unref(gate);
	return parked != NULL;
}

/* ---- ending early ---- */

/* The first of a peer's that waits, with that call id, or any; counted. NULL if there is none. */
static struct parked *find_parked(struct peer *peer, bool any, uint64_t call_id)
{
	struct parked *found = NULL;

	pthread_mutex_lock(&peer->served_lock);
	list_for_each(node, &peer->parked) {
		struct parked *parked = list_entry(node, struct parked, node);

		if (!any && parked->request.call_id != call_id)
			continue;
		found = parked;
		refcount_get(&found->refs);
		break;
	}
	pthread_mutex_unlock(&peer->served_lock);
	return found;
}

static void cancel(struct peer *peer, bool any, uint64_t call_id)
{
	struct parked *parked;

	while ((parked = find_parked(peer, any, call_id))) {
		if (parked_claim(parked))
			refuse(parked, error_set(TDR_ECANCELED, "it was cancelled before it ran"));
		parked_unref(parked);
	}
}

void parked_cancel(struct peer *peer, uint64_t call_id)
{
	cancel(peer, false, call_id);
}

void parked_cancel_all(struct peer *peer)
{
	cancel(peer, true, 0);
}

void parked_dump(struct peer *peer, struct buffer *text)
{
	int64_t now = clock_ns();

	pthread_mutex_lock(&peer->served_lock);
	list_for_each(node, &peer->parked) {
		const struct parked *parked = list_entry(node, struct parked, node);
		const struct request *request = &parked->request;
		char age[32];

		print_duration((now - parked->since_ns) / 1000, age, sizeof(age));
		buffer_printf(text, "serving %.*s for worker '%s' since %s: waits for references%s\n",
		              (int)request->name_size, request->name, link_peer(peer->link)->name, age,
		              request->has_target ? ", or for the value that it is called on" : "");
	}
	pthread_mutex_unlock(&peer->served_lock);
}
