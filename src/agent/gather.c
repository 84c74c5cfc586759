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
 */
#include "agent/gather.h"

#include "agent/view.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	FLUSH_MS = 250,
	MAX_GATHERS = 4096, /* that have begun and not ended here */
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

static struct peer *gather_peer(const struct gather *gather, uint32_t index)
{
	return view_by_id(agent_view(gather->agent), occasion_id(&gather->occasion, index));
}

const char *gather_name(const struct gather *gather, uint32_t index)
{
	return link_peer(gather_peer(gather, index)->link)->name;
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

void gather_retire(struct gather *gather)
{
	if (!gather->done || !gather->entered || list_empty(&gather->node))
		return;
	list_remove(&gather->node);
	gather->agent->collectives.ngathers--;
	if (timer_clear(gather->agent->engine, &gather->flush))
		gather_unref(gather);
	gather_unref(gather);
}

/* ---- letters; with the lock held ---- */

/*
 * A letter's body: topic, ids or nil, sequence, status, text, then pairs of id and value: those that have not gone up if
 * `up`, else all. TDR_ELIMIT where the values together are too much for one message.
 */
static tdr_status write_body(struct gather *gather, struct encoder *encoder, bool up, tdr_status status,
                             const char *text)
{
	const struct occasion *occasion = &gather->occasion;
	tdr_status written = TDR_OK;
	uint32_t pairs = 0;

	encode_array(encoder, 6);
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
	letter->link = gather_peer(gather, to)->link;
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
	write_end(gather, letters, written, written == TDR_OK ? "" : tdr_last_error());
	gather_retire(gather);
}

void gather_fail(struct gather *gather, struct list *letters, tdr_status status, const char *text, bool tell_parent)
{
	if (gather->done)
		return;
	gather->done = true;
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
static tdr_status read_head(struct decoder *decoder, tdr_agent *agent, struct occasion *ret_occasion,
                            uint64_t *ret_verdict, char **ret_text)
{
	const char *text;
	size_t size, parts;
	tdr_status status = decode_array(decoder, &parts);

	if (status == TDR_OK && parts != 6)
		status = error_set(TDR_EPROTO, "a collective's message of %zu parts, not 6", parts);
	if (status == TDR_OK)
		status = decode_string(decoder, &text, &size);
	if (status == TDR_OK && size >= MAX_TOPIC)
		status = error_set(TDR_EPROTO, "a topic of %zu bytes", size);
	if (status != TDR_OK)
		return status;
	memcpy(ret_occasion->topic, text, size);
	status = occasion_read_members(decoder, view_count(agent_view(agent)), ret_occasion);
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
static bool sender_fits(const struct occasion *occasion, uint32_t self, uint32_t sender, enum message_type type)
{
	uint32_t to = occasion_index(occasion, self), from = occasion_index(occasion, sender);

	if (to == UINT32_MAX || from == UINT32_MAX)
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

void collective_message(struct peer *peer, const struct message *message)
{
	tdr_agent *agent = peer->agent;
	struct occasion occasion = {0};
	struct gather *gather;
	struct decoder decoder;
	struct list letters;
	uint64_t verdict = 0;
	char *text = NULL;
	bool past;
	tdr_status status;

	list_init(&letters);
	decoder_init(&decoder, &agent->codec_limits, message->body, message->body_size, message->storages,
	             message->nstorages);
	status = read_head(&decoder, agent, &occasion, &verdict, &text);
	if (status == TDR_OK && !sender_fits(&occasion, agent->self.id, link_peer(peer->link)->id, message->type))
		status = error_set(TDR_EPROTO, "it comes from a member whose place is elsewhere");
	if (status == TDR_OK) {
		pthread_mutex_lock(&agent->collectives.lock);
		past = gather_is_past(agent, &occasion);
		status = past ? TDR_OK : gather_get(agent, &occasion, &gather);
		if (status == TDR_OK && !past)
			receive(gather, message->type, &decoder, (tdr_status)verdict, text, &letters);
		pthread_mutex_unlock(&agent->collectives.lock);
	}
	if (status != TDR_OK)
		LOG(TDR_LOG_WARN, "event=collective_message_dropped worker=%s peer=%s error=\"%s\"", agent->name,
		    link_peer(peer->link)->name, tdr_last_error());
	letters_post(&letters);
	free(occasion.ids);
	free(text);
}

void collective_gone(struct peer *peer, tdr_status status, const char *text)
{
	tdr_agent *agent = peer->agent;
	uint32_t id = link_peer(peer->link)->id;
	struct list letters;

	list_init(&letters);
	pthread_mutex_lock(&agent->collectives.lock);
	list_for_each_safe(node, &agent->collectives.gathers) {
		struct gather *gather = list_entry(node, struct gather, node);
		uint32_t index = occasion_index(&gather->occasion, id);
		bool parent = gather->index > 0 && index == tree_parent(gather->index);

		if (index == UINT32_MAX || gather->done)
			continue;
		if (parent || (!gather->values[index] && tree_contains(index, gather->index)))
			gather_fail(gather, &letters, status, text, !parent);
	}
	pthread_mutex_unlock(&agent->collectives.lock);
	letters_post(&letters);
}
