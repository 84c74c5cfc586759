/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling the program of members who come and go: one event at a time, in the order in which the views changed, by a task that
 * runs while there are any.
 */
#include "agent/membership.h"

#include "base/error.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct event {
	struct list node;
	struct peer *peer;
	tdr_member_event kind;
	char reason[256];
};

static void tell(tdr_agent *agent, const struct event *event)
{
	const struct identity *who = link_peer(event->peer->link);
	const tdr_worker worker = {.name = who->name, .id = who->id, .incarnation = who->incarnation};

	engine_enter_inline();
	agent->membership.tell(agent, worker, event->kind, event->reason, agent->membership.tell_context);
	engine_leave_inline();
}

static void run_tell(struct task *task)
{
	struct membership *membership = container_of(task, struct membership, tell_task);
	tdr_agent *agent = container_of(membership, tdr_agent, membership);
	struct list *node;

	pthread_mutex_lock(&membership->lock);
	membership->told_inside = true;
	while ((node = list_shift(&membership->events))) {
		struct event *event = list_entry(node, struct event, node);
		bool closed = membership->closed;

		pthread_mutex_unlock(&membership->lock);
		if (!closed)
			tell(agent, event);
		free(event);
		pthread_mutex_lock(&membership->lock);
	}
	membership->told_inside = membership->telling = false;
	for (struct list *closer; (closer = list_shift(&membership->closers));)
		waiter_wake(list_entry(closer, struct waiter, node));
	pthread_mutex_unlock(&membership->lock);
	agent_drop(agent);
}

static void note(struct peer *peer, tdr_member_event kind, const char *reason)
{
	static const char *const names[] = {
	    [TDR_MEMBER_JOINED] = "joined", [TDR_MEMBER_LEFT] = "left", [TDR_MEMBER_GONE] = "gone"};
	tdr_agent *agent = peer->agent;
	struct membership *membership = &agent->membership;
	struct event *event;
	bool start;

	LOG(TDR_LOG_INFO, "event=member_%s worker=%s member=%s id=%u reason=\"%s\"", names[kind], agent->name,
	    link_peer(peer->link)->name, link_peer(peer->link)->id, reason);
	if (!membership->tell)
		return;
	event = calloc(1, sizeof(*event));
	if (!event) {
		LOG(TDR_LOG_ERROR, "event=member_event_lost worker=%s reason=\"out of memory\"", agent->name);
		return;
	}
	*event = (struct event){.peer = peer, .kind = kind};
	snprintf(event->reason, sizeof(event->reason), "%s", reason);
	pthread_mutex_lock(&membership->lock);
	list_append(&membership->events, &event->node);
	start = !membership->telling;
	membership->telling = true;
	if (start) {
		agent_hold(agent);
		membership->tell_task = (struct task){.run = run_tell};
		list_init(&membership->tell_task.node);
		engine_defer(agent->engine, &membership->tell_task);
	}
	pthread_mutex_unlock(&membership->lock);
}

static void note_departure(struct peer *peer, const struct roster *roster)
{
	const struct identity *who = link_peer(peer->link);
	const struct departure *departure = roster_departure(roster, who->incarnation);
	char reason[256];

	if (peer->told_gone)
		return;
	peer->told_gone = true;
	atomic_store(&peer->left, departure && !departure->evicted);
	if (departure && !departure->evicted) {
		note(peer, TDR_MEMBER_LEFT, "it has left the group");
		return;
	}
	snprintf(reason, sizeof(reason), "it was evicted from the group (epoch %llu)",
	         (unsigned long long)(departure ? departure->epoch : roster->epoch));
	if (link_check(peer->link) != TDR_OK)
		snprintf(reason, sizeof(reason), "%s", tdr_last_error());
	note(peer, TDR_MEMBER_GONE, reason);
}

/* Walks both views, in the order of ids. */
void member_note_changes(tdr_agent *agent, const struct view *view, const struct roster *roster)
{
	const struct view *before = view->before;

	for (uint32_t i = 0; i < view_count(before); i++) {
		struct peer *peer = before->members[i];

		if (view_by_id(view, link_peer(peer->link)->id) != peer)
			note_departure(peer, roster);
	}
	for (uint32_t i = 0; before && i < view->count; i++) {
		struct peer *peer = view->members[i];

		if (view_by_id(before, link_peer(peer->link)->id) != peer)
			note(peer, TDR_MEMBER_JOINED, "it has joined the group");
	}
}

void member_note_gone(struct peer *peer, const char *text)
{
	if (!peer->told_gone)
		note(peer, TDR_MEMBER_GONE, text);
	peer->told_gone = true;
}

/* ---- for the program ---- */

tdr_status tdr_agent_on_member(tdr_agent *agent, tdr_member_function function, void *context)
{
	tdr_status status = agent_check_not_forked(agent);

	if (status != TDR_OK)
		return status;
	if (agent_state(agent) != AGENT_NEW)
		return error_set(TDR_ESTATE, "tdr_agent_on_member is to be called before tdr_join");
	agent->membership.tell = function;
	agent->membership.tell_context = context;
	return TDR_OK;
}

uint64_t tdr_agent_epoch(const tdr_agent *agent)
{
	const struct view *view = agent_view(agent);

	return view ? view->epoch : 0;
}

bool tdr_agent_is_dynamic(const tdr_agent *agent)
{
	return agent_view(agent) && agent->membership.dynamic;
}
