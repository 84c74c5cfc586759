/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaving: at once, or gracefully, when nothing is under way any more.
 *
 * Design notes. A member of a dynamic group waits for its own work and goes. In a static one a graceful leave is agreed on by rounds: each
 * member waits until it is idle, then all gather how busy they are and how much has begun so far; when nobody is busy and nothing has
 * begun since the round before, no call can be under way anywhere, and all leave.
 */
#include "agent/membership.h"

#include "agent/faulty.h"
#include "agent/references.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <stdio.h>

/* ---- being idle ---- */

void agent_note_end(tdr_agent *agent, _Atomic uint32_t *counter)
{
	if (atomic_fetch_sub(counter, 1) > 1 || agent_state(agent) < AGENT_LEAVING)
		return;
	pthread_mutex_lock(&agent->lock);
	for (struct list *node; (node = list_shift(&agent->idle_waiters));)
		waiter_wake(list_entry(node, struct waiter, node));
	pthread_mutex_unlock(&agent->lock);
}

static bool is_idle(const tdr_agent *agent)
{
	return atomic_load(&agent->outstanding) == 0 && atomic_load(&agent->serving) == 0;
}

bool agent_await_idle(tdr_agent *agent, int64_t deadline_ms)
{
	while (!is_idle(agent)) {
		struct waiter waiter;
		bool woken;

		waiter_init(&waiter);
		pthread_mutex_lock(&agent->lock);
		if (is_idle(agent)) {
			pthread_mutex_unlock(&agent->lock);
			break;
		}
		list_append(&agent->idle_waiters, &waiter.node);
		pthread_mutex_unlock(&agent->lock);
		woken = engine_wait(agent->engine, &waiter, NULL, deadline_ms);
		pthread_mutex_lock(&agent->lock);
		list_remove(&waiter.node);
		pthread_mutex_unlock(&agent->lock);
		if (!woken)
			return is_idle(agent);
	}
	return true;
}

/* ---- leaving ---- */

void agent_leave(tdr_agent *agent, bool flush)
{
	uint32_t before = atomic_exchange(&agent->state, AGENT_LEFT);

	if (before == AGENT_LEFT)
		return;
	faulty_close(agent->faulty);
	if (agent->links)
		links_close(agent->links, flush);
	list_for_each(node, &agent->peers) { /* no more come, now that the links are closed */
		struct peer *peer = list_entry(node, struct peer, node);

		outgoing_fail_all(peer, TDR_ESHUTDOWN, "the agent has been shut down", true, 0);
		serve_cancel_all(peer);
	}
	if (agent->known)
		future_complete(agent->known, TDR_ESHUTDOWN, NULL, NULL, NULL);
	collectives_close(&agent->collectives);
	references_end(agent);
	membership_close(agent);
	agent_mark_left(agent);
	dump_signal_close(agent);
	if (before != AGENT_NEW)
		LOG(TDR_LOG_INFO, "event=left worker=%s", agent->name);
}

/* What a member tells the others in a round: whether it is busy, and how much has begun. */
static tdr_value *describe_activity(const tdr_agent *agent, uint64_t activity)
{
	tdr_value *items[] = {tdr_bool(!is_idle(agent)), tdr_int((int64_t)activity)};

	return tdr_tuple(COUNT_OF(items), items);
}

/* Adds up what the members of a round say. */
static tdr_status add_up(const struct gathered *gathered, bool *ret_busy, int64_t *ret_activity)
{
	int64_t sum = 0;

	*ret_busy = false;
	for (uint32_t i = 0; i < gathered->count; i++) {
		int64_t activity = 0;
		bool busy = true;

		if (tdr_value_get_bool(tdr_value_item(gathered->values[i], 0), &busy) != TDR_OK ||
		    tdr_value_get_int(tdr_value_item(gathered->values[i], 1), &activity) != TDR_OK)
			return error_set(TDR_EPROTO, "a member describes its activity in a way that is not ours");
		*ret_busy = *ret_busy || busy;
		sum += activity;
	}
	*ret_activity = sum;
	return TDR_OK;
}

/* Rounds until nobody has anything under way. */
static tdr_status agree_to_leave(tdr_agent *agent, int64_t deadline_ms)
{
	int64_t before = -1, now = -2;
	bool busy = true;
	tdr_status status = TDR_OK;

	while (status == TDR_OK && (busy || now != before)) {
		int64_t left = deadline_ms ? MAX_OF(deadline_ms - clock_ms(), (int64_t)1) : TDR_TIMEOUT_NEVER;
		struct gathered gathered = {0};
		tdr_value *activity;

		agent_await_idle(agent, deadline_ms);
		activity = describe_activity(agent, atomic_load(&agent->activity));
		status = gather(agent, "shutdown", activity, NULL, 0, left, &gathered);
		tdr_value_unref(activity);
		before = now;
		if (status == TDR_OK)
			status = add_up(&gathered, &busy, &now);
		gathered_fini(&gathered);
		if (status == TDR_OK && busy && deadline_ms && clock_ms() >= deadline_ms)
			status = error_set(TDR_ETIMEDOUT, "members still have calls under way (tdr_dump tells which)");
	}
	return status;
}

void tdr_shutdown_options_init(tdr_shutdown_options *options)
{
	*options =
	    (tdr_shutdown_options){.size = sizeof(*options), .graceful = true, .timeout_ms = TDR_TIMEOUT_DEFAULT};
}

/* Leaves a dynamic group: nobody else has to be asked. */
static tdr_status leave_alone(tdr_agent *agent, int64_t deadline_ms)
{
	bool idle = agent_await_idle(agent, deadline_ms);

	if (references_let_go(agent, true, deadline_ms) !=
	    TDR_OK) /* before the others hear that we are no member any more */
		LOG(TDR_LOG_WARN, "event=references_left worker=%s error=\"%s\"", agent->name, tdr_last_error());
	membership_leave(agent, deadline_ms);
	idle = agent_await_idle(agent, deadline_ms) && idle; /* what was called before everybody had heard */
	if (!idle && agent_state(agent) == AGENT_LEAVING)
		return error_set(TDR_ETIMEDOUT, "calls were still under way (tdr_dump tells which)");
	return TDR_OK;
}

/* Leaves a static group together with the others: work ends, then references, then whatever work their end has made. */
static tdr_status leave_together(tdr_agent *agent, int64_t deadline_ms)
{
	tdr_status status = agree_to_leave(agent, deadline_ms), leaked;
	char text[ERROR_TEXT_SIZE];

	if (status != TDR_OK)
		return status;
	leaked = references_let_go(agent, false, deadline_ms);
	snprintf(text, sizeof(text), "%s", tdr_last_error());
	status = agree_to_leave(agent, deadline_ms);
	/* what is held is why the time is over, if it is */
	return leaked != TDR_OK ? error_set(leaked, "%s", text) : status;
}

static tdr_status leave_gracefully(tdr_agent *agent, int64_t timeout_ms)
{
	tdr_status status;
	char text[ERROR_TEXT_SIZE];
	int64_t deadline_ms;

	if (agent_state(agent) == AGENT_FENCED) { /* nobody counts on it any more */
		agent_leave(agent, false);
		return TDR_OK;
	}
	status = agent_set_state(agent, AGENT_MEMBER, AGENT_LEAVING);
	if (status != TDR_OK)
		return status;
	if (timeout_ms == TDR_TIMEOUT_DEFAULT)
		timeout_ms = agent->options.shutdown_timeout_ms;
	deadline_ms = deadline_after(timeout_ms);
	engine_serve_in_waits(true);
	status = agent->membership.dynamic ? leave_alone(agent, deadline_ms) : leave_together(agent, deadline_ms);
	engine_serve_in_waits(false);
	if (status != TDR_OK)
		error_prefix(status, "shutdown of '%s'", agent->name);
	snprintf(text, sizeof(text), "%s", tdr_last_error());
	agent_leave(agent, true);
	return status == TDR_OK ? TDR_OK : error_set(status, "%s", text);
}

tdr_status tdr_shutdown(tdr_agent *agent, const tdr_shutdown_options *options)
{
	tdr_shutdown_options defaults;
	char text[ERROR_TEXT_SIZE];
	tdr_status status = agent_check_not_forked(agent);

	if (status != TDR_OK)
		return status;
	if (agent_state(agent) == AGENT_JOINING)
		return error_set(TDR_ESTATE, "agent '%s' is inside tdr_join: shut it down when that has returned",
		                 agent->name);
	if (engine_is_inline() || serve_scope().depth > 0)
		return error_set(TDR_ESTATE,
		                 "tdr_shutdown was called from inside a function or callback: it would wait for "
		                 "itself");
	tdr_shutdown_options_init(&defaults);
	options = options ? options : &defaults;
	if (options->size != sizeof(*options))
		return error_set(TDR_EINVAL,
		                 "tdr_shutdown_options.size is %zu, not %zu: call tdr_shutdown_options_init first",
		                 options->size, sizeof(*options));
	if (options->graceful)
		status = leave_gracefully(agent, options->timeout_ms);
	else
		agent_leave(agent, false);
	snprintf(text, sizeof(text), "%s", tdr_last_error());
	tdr_agent_unref(agent);
	return status == TDR_OK ? TDR_OK : error_set(status, "%s", text);
}
