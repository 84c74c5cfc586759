/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetches that we serve. Where no interceptor is to see them, they are answered without a call: at once if the value is there, and
 * otherwise by the thread that has brought it, right after it has answered the call that made it. To write a value may take code of
 * the user's, which must not run there: such a fetch goes on as a call.
 */
#include "agent/request.h"

#include "base/clock.h"

#include <stdlib.h>

/* Whether writing it takes no code of the user's; at a glance. */
static bool is_plain(const tdr_value *value)
{
	switch (value ? tdr_value_kind(value) : TDR_NONE) {
	case TDR_NONE:
	case TDR_BOOL:
	case TDR_INT:
	case TDR_FLOAT:
	case TDR_STRING:
	case TDR_BYTES:
	case TDR_TENSOR:
		return true;
	default:
		return false;
	}
}

/* Answers with the value, which is there, or with the error in its place. */
static void give(const struct request *request)
{
	struct peer *peer = request->peer;
	tdr_agent *agent = peer->agent;
	const tdr_future *on = request->on->value;
	tdr_status status = tdr_future_status(on);
	tdr_value *value = tdr_value_ref(status == TDR_OK ? tdr_future_value(on) : tdr_future_detail(on));
	const char *text = tdr_future_error(on), *traceback = tdr_future_traceback(on);
	bool expired = request->deadline_ms && clock_ms() >= request->deadline_ms;

	link_took(peer->link, request->cost);
	if (expired) {
		status = TDR_ETIMEDOUT;
		text = "its time was over before it could run";
		traceback = NULL;
		value = tdr_value_unref(value);
		atomic_fetch_add(&agent->metrics.expired, 1);
	}
	answer(peer, request->call_id, NULL, NULL, status, value, text, traceback);
}

/* Ends one that has waited; drops the value's reference to it. */
static void finish(struct parked *parked)
{
	struct request *request = &parked->request;

	if (parked_claim(parked)) {
		const tdr_future *on = request->on->value;

		if (is_plain(tdr_future_status(on) == TDR_OK ? tdr_future_value(on) : tdr_future_detail(on)))
			give(request);
		else
			request_start(request, 0);
		parked_end(parked);
	}
	parked_unref(parked);
}

bool fetch_serve(struct request *request, unsigned turn)
{
	tdr_agent *agent = request->peer->agent;
	struct parked *parked;

	if (!(turn & TURN_MAY_RUN) || request_gate(request) || !request->on || request->has_creation ||
	    request->cargo.count > 0 || agent->interceptors.count > 0)
		return false;
	if (tdr_future_done(request->on->value)) {
		atomic_fetch_add(&agent->serving, 1);
		atomic_fetch_add(&agent->activity, 1);
		engine_enter_inline();
		give(request);
		engine_leave_inline();
		agent_note_end(agent, &agent->serving);
		return true;
	}
	parked = parked_new(request);
	if (!parked)
		return false;
	if (!owned_value_await(agent, parked->request.on, &parked->of_value))
		finish(parked);
	return true;
}

void fetches_finish(tdr_agent *agent, struct list *fetches)
{
	for (;;) {
		struct list *node;

		pthread_mutex_lock(&agent->references.lock);
		node = list_shift(fetches);
		pthread_mutex_unlock(&agent->references.lock);
		if (!node)
			break;
		finish(list_entry(node, struct parked, of_value));
	}
}
