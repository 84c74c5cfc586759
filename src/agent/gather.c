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
#include "agent/gather.h"

#include "agent/membership.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "transport/parcel.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FLUSH_MS = 250,
	MAX_GATHERS = 4096, /* that have begun and not ended here */
	MAX_EARLY = 1024,   /* letters that are kept for a view to come */
	LETTER_PARTS = 7,
};

/*
 * What waits for the lock to be given up: a message, or the end of a gather here. Ends come after the messages that were written
 * before them: who learns that a gather is over may leave, and close the lanes.
 */
struct gather_letter {
	struct list node;
	struct link *link; /* NULL: the end of `gather` */
	enum message_type type;
	struct encoder encoder;
	struct gather *gather; /* counted */
	tdr_status status;
	char *text;
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

/* ---- letters; with the lock held ---- */

/*
 * A letter's body: topic, ids or nil, stamp, sequence, status, text, then pairs of id and value: those that have not gone up if
 * `up`, else all. TDR_ELIMIT where the values together are too much for one message.
 */
static tdr_status write_body(struct gather *gather, struct encoder *encoder, bool up, tdr_status status,
                             const char *text)
{
	const struct occasion *occasion = &gather->occasion;
	tdr_status written = TDR_OK;
	uint32_t pairs = 0;

	encode_array(encoder, LETTER_PARTS);
	encode_string(encoder, occasion->topic, strlen(occasion->topic));
	occasion_write_members(occasion, encoder);
	encode_uint(encoder, occasion->sequence);
	encode_uint(encoder, status);
	encode_string(encoder, text, strlen(text));
	for (uint32_t i = 0; status == TDR_OK && i < occasion->count; i++)
		pairs += gather->values[i] && !(up && gather->forwarded[i]);
	encode_array(encoder, pairs * 2);
	for (uint32_t i = 0; pairs > 0 && i < occasion->count && written == TDR_OK; i++) {
		if (!gather->values[i] || (up && gather->forwarded[i]))
			continue;
		encode_uint(encoder, occasion_id(occasion, i));
		written = encode_value_as(encoder, gather->values[i], "value");
		gather->forwarded[i] = gather->forwarded[i] || up;
	}
	return written == TDR_OK && encoder->body.failed ? error_nomem() : written;
}

/* Writes a letter; where its values cannot go, one that says so in their place, which fails the gather for all. */
static tdr_status write_letter(struct gather *gather, struct list *letters, uint32_t to, bool up, tdr_status status,
                               const char *text)
{
	struct gather_letter *letter = calloc(1, sizeof(*letter));
	tdr_status written;

	if (!letter) {
		LOG(TDR_LOG_ERROR, "event=collective_letter_lost reason=\"out of memory\"");
		return TDR_OK; /* the others' deadlines tell them */
	}
	letter->link = occasion_peer(&gather->occasion, to)->link;
	letter->type = up ? MESSAGE_GATHER : MESSAGE_SCATTER;
	encoder_init(&letter->encoder, &gather->agent->codec_limits);
	written = write_body(gather, &letter->encoder, up, status, text);
	if (written != TDR_OK) {
		error_prefix(written, "the values of all members cannot go together");
		encoder_reset(&letter->encoder);
		(void)write_body(gather, &letter->encoder, up, written, tdr_last_error());
	}
	list_append(letters, &letter->node);
	return written;
}

/* Completes the gather's future: with its values, or an error. */
static void end_gather(struct gather *gather, tdr_status status, const char *text)
{
	tdr_value *all;

	if (status != TDR_OK) {
		future_complete(gather->future, status, NULL, text, NULL);
		return;
	}
	all = tdr_list(0, NULL);
	for (uint32_t i = 0; i < gather->occasion.count; i++)
		if (tdr_list_append(all, tdr_value_ref(gather->values[i])) != TDR_OK)
			break; /* it has become invalid, and says so */
	(void)tdr_future_set(gather->future, all);
}

static void write_end(struct gather *gather, struct list *letters, tdr_status status, const char *text)
{
	struct gather_letter *letter = calloc(1, sizeof(*letter));

	if (!letter) {
		end_gather(gather, status, text);
		return;
	}
	refcount_get(&gather->refs);
	letter->gather = gather;
	letter->status = status;
	letter->text = strdup(text);
	list_append(letters, &letter->node);
}

/* All children get the same; the status is write_letter's. */
static tdr_status write_to_children(struct gather *gather, struct list *letters, tdr_status status, const char *text)
{
	uint32_t first = gather->index * TREE_FANOUT + 1;
	tdr_status written = TDR_OK;

	for (uint32_t child = first; child < first + TREE_FANOUT && child < gather->occasion.count; child++)
		written = write_letter(gather, letters, child, false, status, text);
	return written;
}

static void letter_free(struct gather_letter *letter)
{
	if (letter->link)
		encoder_fini(&letter->encoder);
	if (letter->gather)
		gather_unref(letter->gather);
	free(letter->text);
	free(letter);
}

void letters_post(struct list *letters)
{
	for (struct list *node; (node = list_shift(letters));) {
		struct gather_letter *letter = list_entry(node, struct gather_letter, node);
		const struct encoder *encoder = &letter->encoder;
		struct message message = {
		    .type = (uint8_t)letter->type,
		    .body = encoder->body.data,
		    .body_size = encoder->body.size,
		    .nstorages = encoder->nstorages,
		    .storages = encoder->storages,
		};

		if (!letter->link)
			end_gather(letter->gather, letter->status, letter->text ? letter->text : "");
		else if (encoder->body.failed || link_send(letter->link, &message) != TDR_OK)
			LOG(TDR_LOG_DEBUG, "event=collective_letter_lost to=%s error=\"%s\"",
			    link_peer(letter->link)->name, tdr_last_error());
		letter_free(letter);
	}
}

/* ---- progress; with the lock held ---- */

static void complete(struct gather *gather, struct list *letters)
{
	tdr_status written;

	gather->done = true;
	written = write_to_children(gather, letters, TDR_OK, "");
	gather->outcome = written;
	write_end(gather, letters, written, written == TDR_OK ? "" : tdr_last_error());
	gather_retire(gather);
}

void gather_fail(struct gather *gather, struct list *letters, tdr_status status, const char *text, bool tell_parent)
{
	if (gather->done)
		return;
	gather->done = true;
	gather->outcome = status;
	if (gather->index > 0 && tell_parent)
		(void)write_letter(gather, letters, tree_parent(gather->index), true, status, text);
	(void)write_to_children(gather, letters, status, text);
	write_end(gather, letters, status, text);
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
			complete(gather, letters);
		return;
	}
	if (subtree_complete(gather)) {
		(void)write_letter(gather, letters, tree_parent(gather->index), true, TDR_OK, "");
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
		(void)write_letter(gather, &letters, tree_parent(gather->index), true, TDR_OK, "");
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

/* Reads a letter's head; ret_occasion->ids is the caller's to free, also on failure. */
static tdr_status read_head(struct decoder *decoder, struct occasion *ret_occasion, uint64_t *ret_verdict,
                            char **ret_text)
{
	const char *text;
	size_t size, parts;
	tdr_status status = decode_array(decoder, &parts);

	if (status == TDR_OK && parts != LETTER_PARTS)
		status = error_set(TDR_EPROTO, "a collective's message of %zu parts, not %d", parts, LETTER_PARTS);
	if (status == TDR_OK)
		status = decode_string(decoder, &text, &size);
	if (status == TDR_OK && size >= MAX_TOPIC)
		status = error_set(TDR_EPROTO, "a topic of %zu bytes", size);
	if (status != TDR_OK)
		return status;
	memcpy(ret_occasion->topic, text, size);
	status = occasion_read_members(decoder, ret_occasion);
	if (status == TDR_OK)
		status = decode_uint(decoder, &ret_occasion->sequence);
	if (status == TDR_OK)
		status = decode_uint(decoder, ret_verdict);
	if (status == TDR_OK && *ret_verdict > INT32_MAX)
		status = error_set(TDR_EPROTO, "a status of %" PRIu64, *ret_verdict);
	if (status == TDR_OK)
		status = decode_string(decoder, &text, &size);
	if (status != TDR_OK)
		return status;
	*ret_text = text_copy(text, size);
	return *ret_text ? TDR_OK : error_nomem();
}

/* Reads the pairs of id and value into the gather; with the lock held. */
static tdr_status read_pairs(struct decoder *decoder, struct gather *gather)
{
	size_t count;
	tdr_status status = decode_array(decoder, &count);

	for (size_t i = 0; status == TDR_OK && i < count / 2; i++) {
		tdr_value *value;
		uint64_t id;

		status = decode_uint(decoder, &id);
		if (status == TDR_OK &&
		    (id > UINT32_MAX || occasion_index(&gather->occasion, (uint32_t)id) == UINT32_MAX))
			status = error_set(TDR_EPROTO, "a value of member %" PRIu64 ", who is not in the set", id);
		if (status == TDR_OK)
			status = decode_value(decoder, &value);
		if (status == TDR_OK)
			gather_arrive(gather, occasion_index(&gather->occasion, (uint32_t)id), value);
	}
	return status == TDR_OK ? decode_end(decoder) : status;
}

/* Whether a letter of this type may come from that member: up from a child, down from the parent. */
static bool sender_fits(const struct occasion *occasion, uint32_t self, const struct peer *sender,
                        enum message_type type)
{
	uint32_t to = occasion_index(occasion, self), from = occasion_index(occasion, link_peer(sender->link)->id);

	if (to == UINT32_MAX || from == UINT32_MAX || occasion_peer(occasion, from) != sender)
		return false;
	return type == MESSAGE_GATHER ? from > 0 && tree_parent(from) == to : to > 0 && tree_parent(to) == from;
}

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

/* Tells a child that what it sends is superseded, where we cannot take part. */
static void send_superseded(struct peer *peer, const struct occasion *occasion)
{
	static const char text[] = "the group has changed";
	struct encoder encoder;

	encoder_init(&encoder, &peer->agent->codec_limits);
	encode_array(&encoder, LETTER_PARTS);
	encode_string(&encoder, occasion->topic, strlen(occasion->topic));
	occasion_write_members(occasion, &encoder);
	encode_uint(&encoder, occasion->sequence);
	encode_uint(&encoder, GATHER_SUPERSEDED);
	encode_string(&encoder, text, strlen(text));
	encode_array(&encoder, 0);
	if (!encoder.body.failed)
		(void)link_send(peer->link, &(struct message){.type = MESSAGE_SCATTER,
		                                              .body = encoder.body.data,
		                                              .body_size = encoder.body.size});
	encoder_fini(&encoder);
}

/* ---- what comes in ---- */

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
	status = read_pairs(decoder, gather);
	if (status != TDR_OK)
		gather_fail(gather, letters, status, tdr_last_error(), true);
	else if (type == MESSAGE_GATHER)
		gather_advance(gather, letters);
	else if (gather->arrived == gather->occasion.count)
		complete(gather, letters);
	else
		gather_fail(gather, letters, TDR_EPROTO, "the root's answer lacks members", true);
}

/* The root of a gather whose view has moved on ends it, unless all have come. */
static void supersede(struct gather *gather, struct list *letters)
{
	const struct occasion *occasion = &gather->occasion;

	if (gather->index == 0 && occasion_is_of_epoch(occasion, gather->agent->membership.dynamic) &&
	    occasion->view != agent_view(gather->agent))
		gather_fail(gather, letters, GATHER_SUPERSEDED, "the group has changed", false);
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
		supersede(gather, &letters);
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
	status = read_head(&decoder, &occasion, &verdict, &text);
	if (status == TDR_OK) {
		enum place place = find_place(agent, &occasion);

		if (place == PLACE_KNOWN)
			status = take_in(peer, &occasion, message->type, &decoder, (tdr_status)verdict, text);
		else if (!agent->membership.dynamic)
			status = error_set(TDR_EPROTO, "it is of a set that is not in this group");
		else if (place == PLACE_EARLY)
			status = keep_early(peer, message);
		else if (message->type == MESSAGE_GATHER)
			send_superseded(peer, &occasion);
	}
	if (status != TDR_OK)
		LOG(TDR_LOG_WARN, "event=collective_message_dropped worker=%s peer=%s error=\"%s\"", agent->name,
		    link_peer(peer->link)->name, tdr_last_error());
	free(occasion.ids);
	free(text);
}

/* ---- members who are gone, or have come ---- */

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
		supersede(gather, &letters);
		if (gather->occasion.ids)
			lose_those_who_left(gather, view, &letters);
		gather_retire(gather);
		gather_unref(gather);
	}
	list_splice(&early, &collectives->early);
	collectives->nearly = 0;
	pthread_mutex_unlock(&collectives->lock);
	letters_post(&letters);
	for (struct list *node; (node = list_shift(&early));) {
		struct early *letter = list_entry(node, struct early, node);

		collective_message(letter->peer, &letter->parcel->message);
		early_free(letter);
	}
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
