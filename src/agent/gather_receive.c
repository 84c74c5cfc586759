/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes in for gathers. A letter belongs to the view that its occasion is of: one that we have, or had, takes it in; one that is still
 * to come has it kept until then.
 */
#include "agent/gather_letter.h"

#include "agent/membership.h"
#include "base/error.h"
#include "base/log.h"
#include "transport/parcel.h"

#include <stdlib.h>

enum {
	MAX_EARLY = 1024, /* letters that are kept for a view to come */
};

/* ---- letters of other views ---- */

enum place {
	PLACE_KNOWN,  /* the occasion is of a view that we have, or had */
	PLACE_EARLY,  /* of one that we do not have yet */
	PLACE_MISSED, /* of one that we never had: it came and went between two that we have had */
};

struct early {
	struct list node;
	struct peer *peer;
	struct parcel *parcel;
};

static bool has_all(const struct view *view, const struct occasion *occasion)
{
	for (uint32_t i = 0; occasion->ids && i < occasion->count; i++)
		if (!view_by_id(view, occasion->ids[i]))
			return false;
	return true;
}

/* Finds the view that an occasion is of, by its stamp. */
static enum place find_place(tdr_agent *agent, struct occasion *occasion)
{
	const struct view *current = agent_view(agent);
	bool dynamic = agent->membership.dynamic;
	struct occasion found = *occasion;

	for (const struct view *view = current; view; view = view->before) {
		if (!has_all(view, occasion))
			continue;
		occasion_place(&found, view, dynamic);
		if (found.stamp != occasion->stamp)
			continue;
		*occasion = found;
		return PLACE_KNOWN;
	}
	return !occasion->ids && current && occasion->stamp < current->epoch ? PLACE_MISSED : PLACE_EARLY;
}

static void early_free(struct early *early)
{
	parcel_free(early->parcel);
	free(early);
}

/* Keeps a letter until our view has changed. Past the bound, the oldest one goes: its sender's deadline tells him. */
static tdr_status keep_early(struct peer *peer, const struct message *message)
{
	struct collectives *collectives = &peer->agent->collectives;
	struct early *early = calloc(1, sizeof(*early)), *oldest = NULL;

	if (early)
		early->parcel = parcel_new(message);
	if (!early || !early->parcel) {
		free(early);
		return error_nomem();
	}
	early->peer = peer;
	pthread_mutex_lock(&collectives->lock);
	list_append(&collectives->early, &early->node);
	if (++collectives->nearly > MAX_EARLY) {
		oldest = list_entry(list_shift(&collectives->early), struct early, node);
		collectives->nearly--;
	}
	pthread_mutex_unlock(&collectives->lock);
	if (oldest)
		early_free(oldest);
	membership_look(peer->agent);
	return TDR_OK;
}

void letters_drop_early(struct collectives *collectives)
{
	for (struct list *node; (node = list_shift(&collectives->early));)
		early_free(list_entry(node, struct early, node));
	collectives->nearly = 0;
}

void letters_take_early(struct collectives *collectives, struct list *ret_early)
{
	list_splice(ret_early, &collectives->early);
	collectives->nearly = 0;
}

/* ---- what comes in ---- */

/* Whether a letter of this type may come from that member: up from a child, down from the parent. */
static bool sender_fits(const struct occasion *occasion, uint32_t self, const struct peer *sender,
                        enum message_type type)
{
	uint32_t to = occasion_index(occasion, self), from = occasion_index(occasion, link_peer(sender->link)->id);

	if (to == UINT32_MAX || from == UINT32_MAX || occasion_peer(occasion, from) != sender)
		return false;
	return type == MESSAGE_GATHER ? from > 0 && tree_parent(from) == to : to > 0 && tree_parent(to) == from;
}

static void receive(struct gather *gather, enum message_type type, struct decoder *decoder, tdr_status verdict,
                    const char *text, struct list *letters)
{
	tdr_status status;

	if (gather->done)
		return;
	if (verdict != TDR_OK) {
		gather_fail(gather, letters, verdict, text, type == MESSAGE_GATHER);
		return;
	}
	status = gather_read_values(decoder, gather);
	if (status != TDR_OK)
		gather_fail(gather, letters, status, tdr_last_error(), true);
	else if (type == MESSAGE_GATHER)
		gather_advance(gather, letters);
	else if (gather->arrived == gather->occasion.count)
		gather_complete(gather, letters);
	else
		gather_fail(gather, letters, TDR_EPROTO, "the root's answer lacks members", true);
}

/* Takes in a letter whose occasion has its view. */
static tdr_status take_in(struct peer *peer, const struct occasion *occasion, enum message_type type,
                          struct decoder *decoder, tdr_status verdict, const char *text)
{
	tdr_agent *agent = peer->agent;
	struct gather *gather;
	struct list letters;
	tdr_status status;
	bool past;

	if (!sender_fits(occasion, agent->self.id, peer, type))
		return error_set(TDR_EPROTO, "it comes from a member whose place is elsewhere");
	list_init(&letters);
	pthread_mutex_lock(&agent->collectives.lock);
	past = gather_is_past(agent, occasion);
	status = past ? TDR_OK : gather_get(agent, occasion, &gather);
	if (status == TDR_OK && !past) {
		refcount_get(&gather->refs);
		receive(gather, type, decoder, verdict, text, &letters);
		gather_supersede(gather, &letters);
		gather_unref(gather);
	}
	pthread_mutex_unlock(&agent->collectives.lock);
	letters_post(&letters);
	return status;
}

void collective_message(struct peer *peer, const struct message *message)
{
	tdr_agent *agent = peer->agent;
	struct occasion occasion = {0};
	struct decoder decoder;
	uint64_t verdict = 0;
	char *text = NULL;
	tdr_status status;

	decoder_init(&decoder, &agent->codec_limits, message->body, message->body_size, message->storages,
	             message->nstorages);
	status = gather_read_head(&decoder, &occasion, &verdict, &text);
	if (status == TDR_OK) {
		enum place place = find_place(agent, &occasion);

		if (place == PLACE_KNOWN)
			status = take_in(peer, &occasion, message->type, &decoder, (tdr_status)verdict, text);
		else if (!agent->membership.dynamic)
			status = error_set(TDR_EPROTO, "it is of a set that is not in this group");
		else if (place == PLACE_EARLY)
			status = keep_early(peer, message);
		else if (message->type == MESSAGE_GATHER)
			gather_send_superseded(peer, &occasion);
	}
	if (status != TDR_OK)
		LOG(TDR_LOG_WARN, "event=collective_message_dropped worker=%s peer=%s error=\"%s\"", agent->name,
		    link_peer(peer->link)->name, tdr_last_error());
	free(occasion.ids);
	free(text);
}

void letters_deliver_early(struct list *early)
{
	for (struct list *node; (node = list_shift(early));) {
		struct early *letter = list_entry(node, struct early, node);

		collective_message(letter->peer, &letter->parcel->message);
		early_free(letter);
	}
}
