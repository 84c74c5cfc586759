/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/view.h"

#include "agent/membership.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

/* ---- finding ---- */

uint32_t view_count(const struct view *view)
{
	return view ? view->count : 0;
}

struct peer *view_by_id(const struct view *view, uint32_t id)
{
	uint32_t low = 0, high = view_count(view);

	while (low < high) {
		uint32_t middle = low + (high - low) / 2, found = link_peer(view->members[middle]->link)->id;

		if (found == id)
			return view->members[middle];
		if (found < id)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

struct peer *view_by_name(const struct view *view, const char *name)
{
	uint32_t low = 0, high = view_count(view);

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct peer *peer = view->members[view->by_name[middle]];
		int order = strcmp(name, link_peer(peer->link)->name);

		if (order == 0)
			return peer;
		if (order > 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static struct peer *find_known(tdr_agent *agent, uint32_t id, uint64_t incarnation)
{
	list_for_each(node, &agent->peers) {
		struct peer *peer = list_entry(node, struct peer, node);

		if (link_peer(peer->link)->id == id && link_peer(peer->link)->incarnation == incarnation)
			return peer;
	}
	return NULL;
}

struct peer *agent_peer_by_incarnation(tdr_agent *agent, uint32_t id, uint64_t incarnation)
{
	struct peer *peer = view_by_id(agent_view(agent), id);

	if (peer && link_peer(peer->link)->incarnation == incarnation)
		return peer;
	pthread_mutex_lock(&agent->view_lock);
	peer = find_known(agent, id, incarnation);
	pthread_mutex_unlock(&agent->view_lock);
	return peer;
}

/* ---- peers; with the lock held ---- */

static void peer_free(struct peer *peer)
{
	call_table_fini(&peer->calls);
	pthread_mutex_destroy(&peer->served_lock);
	tdr_value_unref(peer->description);
	free(peer);
}

static tdr_status peer_new(tdr_agent *agent, const struct entry *entry, struct peer **ret_peer)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	tdr_status status;

	if (!peer)
		return error_nomem();
	peer->agent = agent;
	list_init(&peer->node);
	list_init(&peer->served);
	list_init(&peer->parked);
	list_init(&peer->posted);
	call_table_init(&peer->calls);
	pthread_mutex_init(&peer->served_lock, NULL);
	peer->description = tdr_value_ref(entry->description);
	status = devices_adopt(agent, entry->who.name, entry->description);
	if (status == TDR_OK)
		status = links_add_member(agent->links, &entry->who, peer, &peer->link);
	if (status != TDR_OK) {
		peer_free(peer);
		return status;
	}
	list_append(&agent->peers, &peer->node);
	*ret_peer = peer;
	return TDR_OK;
}

/* The peer of a member: the one of the view so far, or a new one. */
static tdr_status find_or_make(tdr_agent *agent, const struct view *before, const struct entry *entry,
                               struct peer **ret_peer)
{
	struct peer *peer = view_by_id(before, entry->who.id);

	if (!peer || link_peer(peer->link)->incarnation != entry->who.incarnation)
		return peer_new(agent, entry, ret_peer);
	*ret_peer = peer;
	return TDR_OK;
}

/* ---- views ---- */

static void view_free(struct view *view)
{
	free(view->members);
	free(view->by_name);
	free(view);
}

static struct view *view_new(uint64_t epoch, uint32_t count)
{
	struct view *view = calloc(1, sizeof(*view));

	if (!view)
		return NULL;
	view->epoch = epoch;
	view->count = count;
	view->members = calloc(count, sizeof(struct peer *));
	view->by_name = calloc(count, sizeof(*view->by_name));
	if (view->members && view->by_name)
		return view;
	view_free(view);
	return NULL;
}

static int compare_names(const void *a, const void *b, void *context)
{
	const struct view *view = context;

	return strcmp(link_peer(view->members[*(const uint32_t *)a]->link)->name,
	              link_peer(view->members[*(const uint32_t *)b]->link)->name);
}

tdr_status view_install(tdr_agent *agent, const struct roster *roster, const struct view **ret_new)
{
	struct view *view = view_new(roster->epoch, roster->count);
	tdr_status status = TDR_OK;

	if (!view)
		return error_nomem();
	*ret_new = NULL;
	pthread_mutex_lock(&agent->view_lock);
	view->before = atomic_load(&agent->view);
	if (view->before && view->before->epoch >= view->epoch) {
		pthread_mutex_unlock(&agent->view_lock);
		view_free(view);
		return TDR_OK;
	}
	for (uint32_t i = 0; i < view->count && status == TDR_OK; i++) {
		status = find_or_make(agent, view->before, &roster->members[i], &view->members[i]);
		view->by_name[i] = i;
	}
	if (status == TDR_OK) {
		qsort_r(view->by_name, view->count, sizeof(*view->by_name), compare_names, view);
		atomic_store_explicit(&agent->view, view, memory_order_release);
		member_note_changes(agent, view, roster);
		*ret_new = view;
	}
	pthread_mutex_unlock(&agent->view_lock);
	if (status != TDR_OK)
		view_free(view);
	return status;
}

void views_fini(tdr_agent *agent)
{
	struct view *view = atomic_load(&agent->view);

	while (view) {
		struct view *before = view->before;

		view_free(view);
		view = before;
	}
	for (struct list *node; (node = list_shift(&agent->peers));)
		peer_free(list_entry(node, struct peer, node));
}
