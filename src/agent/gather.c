/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gathers: every member of a set brings a value, and each gets all of them.
 *
 * Design notes. The set's members, in the order of their ids, form a tree (occasion.h), rooted at the lowest id. Values go up
 * as soon as a node's subtree is complete, all of them come down from the root. A node takes part as soon as anything arrives,
 * also before its own member has entered: what waits longer than FLUSH_MS for the rest goes up alone, so that the root knows
 * who is missing, and not only whose subtree is. The root's verdict ends a gather for all; members who have a deadline give it
 * GRACE_MS for each step to come down, so that of those who miss an answer the highest speaks first: he knows from whom. Who
 * gives up alone tells the others, so that all end alike. A gather is told from others by its topic, its set and a count of gathers with both.
 *
 * In a dynamic group the set of all members is that of one epoch. Members may enter the same collective under different epochs; then
 * none of these gathers would end. The root of each ends it as superseded once its own view has moved on, and all who had entered it enter
 * again. Nobody but the root decides that, so that a gather which fails does so for all. Who is at a newer epoch passes letters of an
 * older one on, by the older view; who is at an older one keeps those of a newer one until he has that view. Who leaves in good
 * order has told everybody before: his part of the tree takes that for the root's word.
 */
#include "agent/gather_letter.h"

#include "base/clock.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FLUSH_MS = 250,
	MAX_GATHERS = 4096, /* that have begun and not ended here */
};

const char *gather_name(const struct gather *gather, uint32_t index)
{
	return link_peer(occasion_peer(&gather->occasion, index)->link)->name;
}

/* ---- gathers; with the lock held ---- */

static void on_flush(struct timer *timer);

void gather_unref(struct gather *gather)
{
	tdr_agent *agent;

	if (!refcount_put(&gather->refs))
		return;
	agent = gather->agent;
	for (uint32_t i = 0; gather->values && i < gather->occasion.count; i++)
		tdr_value_unref(gather->values[i]);
	free(gather->values);
	free(gather->forwarded);
	free(gather->occasion.ids);
	tdr_future_unref(gather->future);
	free(gather);
	agent_drop(agent);
}

struct gather *gather_find(tdr_agent *agent, const struct occasion *occasion)
{
	list_for_each(node, &agent->collectives.gathers) {
		struct gather *gather = list_entry(node, struct gather, node);

		if (gather->occasion.sequence == occasion->sequence && occasion_same_set(&gather->occasion, occasion))
			return gather;
	}
	return NULL;
}

tdr_status gather_get(tdr_agent *agent, const struct occasion *occasion, struct gather **ret_gather)
{
	struct gather *gather = gather_find(agent, occasion);
	tdr_status status;

	if (gather) {
		*ret_gather = gather;
		return TDR_OK;
	}
	if (agent->collectives.closed)
		return error_set(TDR_ESHUTDOWN, "agent '%s' has been shut down", agent->name);
	if (agent->collectives.ngathers >= MAX_GATHERS)
		return error_set(TDR_ELIMIT, "%d collectives have begun and not ended", MAX_GATHERS);
	gather = calloc(1, sizeof(*gather));
	if (!gather)
		return error_nomem();
	refcount_init(&gather->refs);
	gather->agent = agent;
	agent_hold(agent);
	list_init(&gather->node);
	timer_init(&gather->flush, on_flush);
	status = occasion_copy(occasion, &gather->occasion);
	gather->index = occasion_index(occasion, agent->self.id);
	gather->values = calloc(occasion->count, sizeof(*gather->values));
	gather->forwarded = calloc(occasion->count, sizeof(*gather->forwarded));
	gather->future = tdr_future_new(agent->engine);
	if (status != TDR_OK || !gather->values || !gather->forwarded || !gather->future) {
		gather_unref(gather);
		return error_nomem();
	}
	list_append(&agent->collectives.gathers, &gather->node);
	agent->collectives.ngathers++;
	*ret_gather = gather;
	return TDR_OK;
}

/* Whether our member will never enter it, because the group has changed since. */
static bool is_overtaken(const struct gather *gather)
{
	const struct occasion *occasion = &gather->occasion;
	const struct view *view = agent_view(gather->agent);

	if (!gather->agent->membership.dynamic || occasion->view == view)
		return false;
	if (!occasion->ids)
		return gather->outcome == GATHER_SUPERSEDED;
	for (uint32_t i = 0; i < occasion->count; i++)
		if (view_by_id(view, occasion->ids[i]) != occasion_peer(occasion, i))
			return true;
	return false;
}

struct gather *gather_owed(tdr_agent *agent, const char *topic)
{
	const struct view *view = agent_view(agent);
	struct gather *owed = NULL;

	list_for_each(node, &agent->collectives.gathers) {
		struct gather *gather = list_entry(node, struct gather, node);
		const struct occasion *occasion = &gather->occasion;

		if (!gather->done || gather->entered || occasion->ids || strcmp(occasion->topic, topic) != 0 ||
		    gather->outcome == GATHER_SUPERSEDED || occasion->stamp >= view->epoch)
			continue;
		if (!owed || occasion->stamp < owed->occasion.stamp ||
		    (occasion->stamp == owed->occasion.stamp && occasion->sequence < owed->occasion.sequence))
			owed = gather;
	}
	return owed;
}

void gather_retire(struct gather *gather)
{
	if (!gather->done || list_empty(&gather->node) || (!gather->entered && !is_overtaken(gather)))
		return;
	list_remove(&gather->node);
	gather->agent->collectives.ngathers--;
	if (timer_clear(gather->agent->engine, &gather->flush))
		gather_unref(gather);
	gather_unref(gather);
}

/* ---- progress; with the lock held ---- */

void gather_complete(struct gather *gather, struct list *letters)
{
	tdr_status written;

	gather->done = true;
	written = gather_write_to_children(gather, letters, TDR_OK, "");
	gather->outcome = written;
	gather_write_end(gather, letters, written, written == TDR_OK ? "" : tdr_last_error());
	gather_retire(gather);
}

void gather_fail(struct gather *gather, struct list *letters, tdr_status status, const char *text, bool tell_parent)
{
	if (gather->done)
		return;
	gather->done = true;
	gather->outcome = status;
	if (gather->index > 0 && tell_parent)
		(void)gather_write_letter(gather, letters, tree_parent(gather->index), true, status, text);
	(void)gather_write_to_children(gather, letters, status, text);
	gather_write_end(gather, letters, status, text);
	gather_retire(gather);
}

static bool subtree_complete(const struct gather *gather)
{
	for (uint32_t i = gather->index; i < gather->occasion.count; i++)
		if (!gather->values[i] && tree_contains(i, gather->index))
			return false;
	return true;
}

void gather_advance(struct gather *gather, struct list *letters)
{
	if (gather->done)
		return;
	if (gather->index == 0) {
		if (gather->arrived == gather->occasion.count)
			gather_complete(gather, letters);
		return;
	}
	if (subtree_complete(gather)) {
		(void)gather_write_letter(gather, letters, tree_parent(gather->index), true, TDR_OK, "");
		return;
	}
	if (!timer_clear(gather->agent->engine, &gather->flush))
		refcount_get(&gather->refs);
	timer_set(gather->agent->engine, &gather->flush, clock_ms() + FLUSH_MS);
}

static void on_flush(struct timer *timer)
{
	struct gather *gather = container_of(timer, struct gather, flush);
	tdr_agent *agent = gather->agent;
	struct list letters;

	list_init(&letters);
	pthread_mutex_lock(&agent->collectives.lock);
	if (!gather->done)
		(void)gather_write_letter(gather, &letters, tree_parent(gather->index), true, TDR_OK, "");
	pthread_mutex_unlock(&agent->collectives.lock);
	letters_post(&letters);
	gather_unref(gather);
}

void gather_arrive(struct gather *gather, uint32_t index, tdr_value *value)
{
	if (gather->values[index]) {
		tdr_value_unref(value);
		return;
	}
	gather->values[index] = value;
	gather->arrived++;
}

/* ---- members who are gone, or have come ---- */

void gather_supersede(struct gather *gather, struct list *letters)
{
	const struct occasion *occasion = &gather->occasion;

	if (gather->index == 0 && occasion_is_of_epoch(occasion, gather->agent->membership.dynamic) &&
	    occasion->view != agent_view(gather->agent))
		gather_fail(gather, letters, GATHER_SUPERSEDED, "the group has changed", false);
}

/* A member of a gather's set is gone: what that means for it. */
static void lose_member(struct gather *gather, struct peer *peer, struct list *letters, tdr_status status,
                        const char *text)
{
	const struct occasion *occasion = &gather->occasion;
	uint32_t index = occasion_index(occasion, link_peer(peer->link)->id);
	bool parent;

	if (gather->done || index == UINT32_MAX || occasion_peer(occasion, index) != peer)
		return;
	parent = gather->index > 0 && index == tree_parent(gather->index);
	if (atomic_load(&peer->left) && occasion_is_of_epoch(occasion, gather->agent->membership.dynamic)) {
		if (parent)
			gather_fail(gather, letters, GATHER_SUPERSEDED, text, false);
		return; /* else the root will say so */
	}
	if (parent || (!gather->values[index] && tree_contains(index, gather->index)))
		gather_fail(gather, letters, status, text, !parent);
}

void collective_gone(struct peer *peer, tdr_status status, const char *text)
{
	tdr_agent *agent = peer->agent;
	struct list letters;

	list_init(&letters);
	pthread_mutex_lock(&agent->collectives.lock);
	list_for_each_safe(node, &agent->collectives.gathers)
		lose_member(list_entry(node, struct gather, node), peer, &letters, status, text);
	pthread_mutex_unlock(&agent->collectives.lock);
	letters_post(&letters);
}

/* Those of a set of some members who are not in the view any more. */
static void lose_those_who_left(struct gather *gather, const struct view *view, struct list *letters)
{
	const struct occasion *occasion = &gather->occasion;

	for (uint32_t i = 0; i < occasion->count && !gather->done; i++) {
		struct peer *peer = occasion_peer(occasion, i);
		char text[256];

		if (view_by_id(view, occasion->ids[i]) == peer)
			continue;
		snprintf(text, sizeof(text), "worker '%s' is not in the group any more", link_peer(peer->link)->name);
		lose_member(gather, peer, letters, TDR_EWORKERGONE, text);
	}
}

void collective_view_changed(tdr_agent *agent)
{
	struct collectives *collectives = &agent->collectives;
	const struct view *view;
	struct list letters, early;

	list_init(&letters);
	list_init(&early);
	pthread_mutex_lock(&collectives->lock);
	view = agent_view(agent);
	list_for_each_safe(node, &collectives->gathers) {
		struct gather *gather = list_entry(node, struct gather, node);

		refcount_get(&gather->refs);
		gather_supersede(gather, &letters);
		if (gather->occasion.ids)
			lose_those_who_left(gather, view, &letters);
		gather_retire(gather);
		gather_unref(gather);
	}
	letters_take_early(collectives, &early);
	pthread_mutex_unlock(&collectives->lock);
	letters_post(&letters);
	letters_deliver_early(&early);
}

void collective_root_leaves(tdr_agent *agent)
{
	struct list letters;

	list_init(&letters);
	pthread_mutex_lock(&agent->collectives.lock);
	list_for_each_safe(node, &agent->collectives.gathers) {
		struct gather *gather = list_entry(node, struct gather, node);

		if (gather->index == 0 && !gather->occasion.ids)
			gather_fail(gather, &letters, GATHER_SUPERSEDED, "the group has changed", false);
	}
	pthread_mutex_unlock(&agent->collectives.lock);
	letters_post(&letters);
}
