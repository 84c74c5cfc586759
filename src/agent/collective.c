/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collectives: every member of a set brings a value, and each gets all of them.
 *
 * Design notes. The set's members, in the order of their ids, form a tree of FANOUT children a node, rooted at the lowest id. Values go up
 * as soon as a node's subtree is complete, all of them come down from the root. A node takes part as soon as anything arrives,
 * also before its own member has entered: what waits longer than FLUSH_MS for the rest goes up alone, so that the root knows
 * who is missing, and not only whose subtree is. The root's verdict ends a gather for all; members who have a deadline give it
 * GRACE_MS to come. A gather is told from others by its topic, its set and a count of gathers with both.
 */
#include "agent/internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FANOUT = 4,
	FLUSH_MS = 250,
	GRACE_MS = 1000,
	MAX_GATHERS = 4096, /* that have begun and not ended here */
	MAX_TOPIC = 32,
};

/* What names a gather. */
struct occasion {
	char topic[MAX_TOPIC];
	uint32_t *ids; /* ascending; NULL: all members */
	uint32_t count;
	uint64_t sequence;
};

struct gather {
	_Atomic uint32_t references;
	struct list node;
	tdr_agent *agent;
	struct occasion occasion;
	uint32_t index;      /* ours in the set */
	tdr_value **values;  /* [count]; NULL: not arrived; counted */
	bool *forwarded;     /* [count]; gone up already */
	uint32_t arrived;
	bool entered, done;
	tdr_future *future; /* completes with a list of all values, by index */
	struct timer flush;
};

/* How many gathers of one topic and set this member has entered. */
struct sequence {
	struct list node;
	struct occasion occasion;
};

/*
 * What waits for the lock to be given up: a message, or the end of a gather here. Ends come after the messages that were written
 * before them: who learns that a gather is over may leave, and close the lanes.
 */
struct letter {
	struct list node;
	struct link *link; /* NULL: the end of `gather` */
	enum message_type type;
	struct encoder encoder;
	struct gather *gather; /* counted */
	tdr_status status;
	char *text;
};

/* ---- occasions ---- */

static bool same_set(const struct occasion *a, const struct occasion *b)
{
	if (strcmp(a->topic, b->topic) != 0 || a->count != b->count || !a->ids != !b->ids)
		return false;
	return !a->ids || memcmp(a->ids, b->ids, a->count * sizeof(*a->ids)) == 0;
}

static tdr_status occasion_copy(const struct occasion *occasion, struct occasion *ret_copy)
{
	*ret_copy = *occasion;
	if (!occasion->ids)
		return TDR_OK;
	ret_copy->ids = malloc(occasion->count * sizeof(*occasion->ids));
	if (!ret_copy->ids)
		return error_nomem();
	memcpy(ret_copy->ids, occasion->ids, occasion->count * sizeof(*occasion->ids));
	return TDR_OK;
}

static uint32_t id_at(const struct occasion *occasion, uint32_t index)
{
	return occasion->ids ? occasion->ids[index] : index;
}

/* The place of an id in the set; UINT32_MAX if it is not in it. */
static uint32_t index_of(const struct occasion *occasion, uint32_t id)
{
	uint32_t low = 0, high = occasion->count;

	if (!occasion->ids)
		return id < occasion->count ? id : UINT32_MAX;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (occasion->ids[middle] == id)
			return middle;
		if (occasion->ids[middle] < id)
			low = middle + 1;
		else
			high = middle;
	}
	return UINT32_MAX;
}

static uint32_t parent_of(uint32_t index)
{
	return (index - 1) / FANOUT;
}

static bool in_subtree(uint32_t index, uint32_t root)
{
	while (index > root)
		index = parent_of(index);
	return index == root;
}

static const char *name_of(const struct gather *gather, uint32_t index)
{
	return link_peer(gather->agent->peers[id_at(&gather->occasion, index)].link)->name;
}

/* ---- gathers; with the lock held ---- */

static void on_flush(struct timer *timer);

static void gather_unref(struct gather *gather)
{
	tdr_agent *agent = gather->agent;

	if (atomic_fetch_sub(&gather->references, 1) > 1)
		return;
	for (uint32_t i = 0; gather->values && i < gather->occasion.count; i++)
		tdr_value_unref(gather->values[i]);
	free(gather->values);
	free(gather->forwarded);
	free(gather->occasion.ids);
	tdr_future_unref(gather->future);
	free(gather);
	agent_drop(agent);
}

static struct gather *gather_find(tdr_agent *agent, const struct occasion *occasion)
{
	list_for_each(node, &agent->collectives.gathers)
	{
		struct gather *gather = list_entry(node, struct gather, node);

		if (gather->occasion.sequence == occasion->sequence && same_set(&gather->occasion, occasion))
			return gather;
	}
	return NULL;
}

/* The gather of an occasion, a new one if need be; the list holds it. */
static tdr_status gather_get(tdr_agent *agent, const struct occasion *occasion, struct gather **ret_gather)
{
	struct gather *gather = gather_find(agent, occasion);
	tdr_status status;

	if (gather) {
		*ret_gather = gather;
		return TDR_OK;
	}
	if (agent->collectives.ngathers >= MAX_GATHERS)
		return error_set(TDR_ELIMIT, "%d collectives have begun and not ended", MAX_GATHERS);
	gather = calloc(1, sizeof(*gather));
	if (!gather)
		return error_nomem();
	atomic_init(&gather->references, 1);
	gather->agent = agent;
	agent_hold(agent);
	list_init(&gather->node);
	timer_init(&gather->flush, on_flush);
	status = occasion_copy(occasion, &gather->occasion);
	gather->index = index_of(occasion, agent->self.id);
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

/* Takes it off the list, once it is done and its member has entered it. */
static void gather_retire(struct gather *gather)
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
 * A letter's body: topic, ids or nil, sequence, status, text, then pairs of id and value: those that have not gone up if `up`, else all.
 */
static void write_letter(struct gather *gather, struct list *letters, uint32_t to, bool up, tdr_status status,
                         const char *text)
{
	const struct occasion *occasion = &gather->occasion;
	struct letter *letter = calloc(1, sizeof(*letter));
	struct encoder *encoder;
	uint32_t pairs = 0;

	if (!letter) {
		LOG(TDR_LOG_ERROR, "event=collective_letter_lost reason=\"out of memory\"");
		return; /* the others' deadlines tell them */
	}
	encoder = &letter->encoder;
	letter->link = gather->agent->peers[id_at(occasion, to)].link;
	letter->type = up ? MESSAGE_GATHER : MESSAGE_SCATTER;
	encoder_init(encoder, &gather->agent->codec_limits);
	encode_array(encoder, 6);
	encode_string(encoder, occasion->topic, strlen(occasion->topic));
	if (occasion->ids)
		encode_array(encoder, occasion->count);
	else
		encode_nil(encoder);
	for (uint32_t i = 0; occasion->ids && i < occasion->count; i++)
		encode_uint(encoder, occasion->ids[i]);
	encode_uint(encoder, occasion->sequence);
	encode_uint(encoder, status);
	encode_string(encoder, text, strlen(text));
	for (uint32_t i = 0; status == TDR_OK && i < occasion->count; i++)
		pairs += gather->values[i] && !(up && gather->forwarded[i]);
	encode_array(encoder, pairs * 2);
	for (uint32_t i = 0; pairs > 0 && i < occasion->count; i++) {
		if (!gather->values[i] || (up && gather->forwarded[i]))
			continue;
		encode_uint(encoder, id_at(occasion, i));
		if (encode_value_as(encoder, gather->values[i], "value") != TDR_OK)
			encoder->body.failed = true; /* checked on entering, so only memory is left as a reason */
		gather->forwarded[i] = gather->forwarded[i] || up;
	}
	list_append(letters, &letter->node);
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
	struct letter *letter = calloc(1, sizeof(*letter));

	if (!letter) {
		end_gather(gather, status, text);
		return;
	}
	atomic_fetch_add(&gather->references, 1);
	letter->gather = gather;
	letter->status = status;
	letter->text = strdup(text);
	list_append(letters, &letter->node);
}

static void write_to_children(struct gather *gather, struct list *letters, tdr_status status, const char *text)
{
	for (uint32_t child = gather->index * FANOUT + 1;
	     child <= gather->index * FANOUT + FANOUT && child < gather->occasion.count; child++)
		write_letter(gather, letters, child, false, status, text);
}

static void letter_free(struct letter *letter)
{
	if (letter->link)
		encoder_fini(&letter->encoder);
	if (letter->gather)
		gather_unref(letter->gather);
	free(letter->text);
	free(letter);
}

/* Sends letters, once the lock has been given up. */
static void post(struct list *letters)
{
	for (struct list *node; (node = list_shift(letters));) {
		struct letter *letter = list_entry(node, struct letter, node);
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
			LOG(TDR_LOG_DEBUG, "event=collective_letter_lost to=%s error=\"%s\"", link_peer(letter->link)->name,
			    tdr_last_error());
		letter_free(letter);
	}
}

/* ---- progress; with the lock held ---- */

static void complete(struct gather *gather, struct list *letters)
{
	gather->done = true;
	write_to_children(gather, letters, TDR_OK, "");
	write_end(gather, letters, TDR_OK, "");
	gather_retire(gather);
}

/* Ends it with an error: the root tells everybody; any other tells those below, and its parent if `tell_parent`. */
static void fail(struct gather *gather, struct list *letters, tdr_status status, const char *text, bool tell_parent)
{
	if (gather->done)
		return;
	gather->done = true;
	if (gather->index > 0 && tell_parent)
		write_letter(gather, letters, parent_of(gather->index), true, status, text);
	write_to_children(gather, letters, status, text);
	write_end(gather, letters, status, text);
	gather_retire(gather);
}

static bool subtree_complete(const struct gather *gather)
{
	for (uint32_t i = gather->index; i < gather->occasion.count; i++)
		if (!gather->values[i] && in_subtree(i, gather->index))
			return false;
	return true;
}

static void advance(struct gather *gather, struct list *letters)
{
	if (gather->done)
		return;
	if (gather->index == 0) {
		if (gather->arrived == gather->occasion.count)
			complete(gather, letters);
		return;
	}
	if (subtree_complete(gather)) {
		write_letter(gather, letters, parent_of(gather->index), true, TDR_OK, "");
		return;
	}
	if (!timer_clear(gather->agent->engine, &gather->flush))
		atomic_fetch_add(&gather->references, 1);
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
		write_letter(gather, &letters, parent_of(gather->index), true, TDR_OK, "");
	pthread_mutex_unlock(&agent->collectives.lock);
	post(&letters);
	gather_unref(gather);
}

/* A value has come; a second one of the same member is dropped. `value` is given away. */
static void arrive(struct gather *gather, uint32_t index, tdr_value *value)
{
	if (gather->values[index]) {
		tdr_value_unref(value);
		return;
	}
	gather->values[index] = value;
	gather->arrived++;
}

/* ---- messages ---- */

static tdr_status read_ids(struct decoder *decoder, tdr_agent *agent, struct occasion *occasion)
{
	size_t count;
	tdr_status status;

	occasion->count = atomic_load(&agent->npeers);
	if (decode_is_nil(decoder))
		return TDR_OK;
	status = decode_array(decoder, &count);
	if (status != TDR_OK)
		return status;
	if (count == 0 || count > occasion->count)
		return error_set(TDR_EPROTO, "a set of %zu members, of a group of %u", count, occasion->count);
	occasion->ids = calloc(count, sizeof(*occasion->ids));
	if (!occasion->ids)
		return error_nomem();
	for (size_t i = 0; i < count; i++) {
		uint64_t id;

		status = decode_uint(decoder, &id);
		if (status != TDR_OK)
			return status;
		if (id >= occasion->count || (i > 0 && id <= occasion->ids[i - 1]))
			return error_set(TDR_EPROTO, "a set that is not in the order of ids");
		occasion->ids[i] = (uint32_t)id;
	}
	occasion->count = (uint32_t)count;
	return TDR_OK;
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
	status = read_ids(decoder, agent, ret_occasion);
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
	*ret_text = strndup(text, size);
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
		if (status == TDR_OK && (id > UINT32_MAX || index_of(&gather->occasion, (uint32_t)id) == UINT32_MAX))
			status = error_set(TDR_EPROTO, "a value of member %" PRIu64 ", who is not in the set", id);
		if (status == TDR_OK)
			status = decode_value(decoder, &value);
		if (status == TDR_OK)
			arrive(gather, index_of(&gather->occasion, (uint32_t)id), value);
	}
	return status == TDR_OK ? decode_end(decoder) : status;
}

/* Whether a letter of this type may come from that member: up from a child, down from the parent. */
static bool sender_fits(const struct occasion *occasion, uint32_t self, uint32_t sender, enum message_type type)
{
	uint32_t to = index_of(occasion, self), from = index_of(occasion, sender);

	if (to == UINT32_MAX || from == UINT32_MAX)
		return false;
	return type == MESSAGE_GATHER ? from > 0 && parent_of(from) == to : to > 0 && parent_of(to) == from;
}

static void receive(struct gather *gather, enum message_type type, struct decoder *decoder, tdr_status verdict,
                    const char *text, struct list *letters)
{
	tdr_status status;

	if (gather->done)
		return;
	if (verdict != TDR_OK) {
		fail(gather, letters, verdict, text, type == MESSAGE_GATHER);
		return;
	}
	status = read_pairs(decoder, gather);
	if (status != TDR_OK)
		fail(gather, letters, status, tdr_last_error(), true);
	else if (type == MESSAGE_GATHER)
		advance(gather, letters);
	else if (gather->arrived == gather->occasion.count)
		complete(gather, letters);
	else
		fail(gather, letters, TDR_EPROTO, "the root's answer lacks members", true);
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
	tdr_status status;

	list_init(&letters);
	decoder_init(&decoder, &agent->codec_limits, message->body, message->body_size, message->storages,
	             message->nstorages);
	status = read_head(&decoder, agent, &occasion, &verdict, &text);
	if (status == TDR_OK && !sender_fits(&occasion, agent->self.id, link_peer(peer->link)->id, message->type))
		status = error_set(TDR_EPROTO, "it comes from a member whose place is elsewhere");
	if (status == TDR_OK) {
		pthread_mutex_lock(&agent->collectives.lock);
		status = gather_get(agent, &occasion, &gather);
		if (status == TDR_OK)
			receive(gather, message->type, &decoder, (tdr_status)verdict, text, &letters);
		pthread_mutex_unlock(&agent->collectives.lock);
	}
	if (status != TDR_OK)
		LOG(TDR_LOG_WARN, "event=collective_message_dropped worker=%s peer=%s error=\"%s\"", agent->name,
		    link_peer(peer->link)->name, tdr_last_error());
	post(&letters);
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
	list_for_each_safe(node, &agent->collectives.gathers)
	{
		struct gather *gather = list_entry(node, struct gather, node);
		uint32_t index = index_of(&gather->occasion, id);
		bool parent = gather->index > 0 && index == parent_of(gather->index);

		if (index == UINT32_MAX || gather->done)
			continue;
		if (parent || (!gather->values[index] && in_subtree(index, gather->index)))
			fail(gather, &letters, status, text, !parent);
	}
	pthread_mutex_unlock(&agent->collectives.lock);
	post(&letters);
}

/* ---- entering ---- */

/* The next sequence number of a topic and set; with the lock held. */
static tdr_status next_sequence(tdr_agent *agent, struct occasion *occasion)
{
	struct sequence *sequence = NULL;

	list_for_each(node, &agent->collectives.sequences)
	{
		sequence = list_entry(node, struct sequence, node);
		if (same_set(&sequence->occasion, occasion))
			break;
		sequence = NULL;
	}
	if (!sequence) {
		sequence = calloc(1, sizeof(*sequence));
		if (!sequence || occasion_copy(occasion, &sequence->occasion) != TDR_OK) {
			free(sequence);
			return error_nomem();
		}
		list_append(&agent->collectives.sequences, &sequence->node);
	}
	occasion->sequence = ++sequence->occasion.sequence;
	return TDR_OK;
}

/* The names of those who have not come, as far as this member can know. */
static void print_missing(const struct gather *gather, char *buffer, size_t size)
{
	size_t at = 0;

	buffer[0] = '\0';
	for (uint32_t i = gather->index; i < gather->occasion.count && at < size; i++) {
		if (gather->values[i] || !in_subtree(i, gather->index))
			continue;
		at += (size_t)snprintf(buffer + at, size - at, "%s'%s'", at > 0 ? ", " : "", name_of(gather, i));
	}
}

/* Past the deadline: the root ends it for all, any other member for itself. */
static void time_out(struct gather *gather, int64_t timeout_ms)
{
	struct collectives *collectives = &gather->agent->collectives;
	struct list letters;
	char missing[512], text[ERROR_TEXT_SIZE];

	list_init(&letters);
	pthread_mutex_lock(&collectives->lock);
	print_missing(gather, missing, sizeof(missing));
	if (missing[0])
		snprintf(text, sizeof(text), "not all members arrived within %lld ms; missing: %s",
		         (long long)timeout_ms, missing);
	else
		snprintf(text, sizeof(text), "not all members arrived within %lld ms; no answer from worker '%s'",
		         (long long)timeout_ms, name_of(gather, gather->index > 0 ? parent_of(gather->index) : 0));
	fail(gather, &letters, TDR_ETIMEDOUT, text, false);
	pthread_mutex_unlock(&collectives->lock);
	post(&letters);
}

static tdr_status await(struct gather *gather, int64_t timeout_ms, tdr_value **ret_values)
{
	int64_t patience = timeout_ms > 0 && gather->index > 0 ? timeout_ms + GRACE_MS : timeout_ms;
	tdr_value *all;
	tdr_status status = tdr_future_wait(gather->future, patience, &all);

	if (!tdr_future_done(gather->future)) {
		if (status != TDR_ETIMEDOUT)
			return status; /* waiting was refused */
		time_out(gather, timeout_ms);
		status = tdr_future_wait(gather->future, TDR_TIMEOUT_NEVER, &all);
	}
	if (status != TDR_OK)
		return status;
	for (uint32_t i = 0; i < gather->occasion.count; i++)
		ret_values[i] = tdr_value_ref(tdr_value_item(all, i));
	tdr_value_unref(all);
	return TDR_OK;
}

tdr_status gather(tdr_agent *agent, const char *topic, tdr_value *value, const uint32_t *ids, uint32_t count,
                  int64_t timeout_ms, tdr_value **ret_values)
{
	struct occasion occasion = {.ids = (uint32_t *)ids, .count = count};
	struct gather *gather;
	struct list letters;
	tdr_status status;

	list_init(&letters);
	snprintf(occasion.topic, sizeof(occasion.topic), "%s", topic);
	pthread_mutex_lock(&agent->collectives.lock);
	status = next_sequence(agent, &occasion);
	if (status == TDR_OK)
		status = gather_get(agent, &occasion, &gather);
	if (status == TDR_OK) {
		atomic_fetch_add(&gather->references, 1);
		gather->entered = true;
		arrive(gather, gather->index, value);
		gather_retire(gather);
		advance(gather, &letters);
	}
	pthread_mutex_unlock(&agent->collectives.lock);
	if (status != TDR_OK) {
		tdr_value_unref(value);
		return status;
	}
	post(&letters);
	status = await(gather, timeout_ms, ret_values);
	gather_unref(gather);
	return status;
}

/* ---- the public calls ---- */

static int compare_ids(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The ids behind names, in order; this member must be among them, and nobody twice. */
static tdr_status resolve_names(tdr_agent *agent, size_t count, const char *const names[], uint32_t *ids)
{
	bool self = false;

	for (size_t i = 0; i < count; i++) {
		struct peer *peer;
		tdr_status status = agent_find_peer(agent, names[i], &peer);

		if (status != TDR_OK)
			return status;
		ids[i] = link_peer(peer->link)->id;
		self = self || ids[i] == agent->self.id;
	}
	qsort(ids, count, sizeof(*ids), compare_ids);
	for (size_t i = 1; i < count; i++)
		if (ids[i] == ids[i - 1])
			return error_set(TDR_EINVAL, "worker '%s' is named twice",
			                 link_peer(agent->peers[ids[i]].link)->name);
	if (!self)
		return error_set(TDR_EINVAL, "worker '%s' takes part in a collective that does not name it", agent->name);
	return TDR_OK;
}

static tdr_status check_value(tdr_agent *agent, const tdr_value *value)
{
	struct encoder encoder;
	tdr_status status = tdr_value_status(value);

	if (status != TDR_OK)
		return error_prefix(status, "the value could not be made");
	encoder_init(&encoder, &agent->codec_limits);
	status = encode_value(&encoder, value);
	encoder_fini(&encoder);
	return status;
}

/* Checks what a collective is given, and finds its set: *ret_ids NULL for everybody, else the caller's to free. */
static tdr_status prepare(tdr_agent *agent, size_t count, const char *const names[], uint32_t **ret_ids)
{
	enum agent_state state = agent_state(agent);
	tdr_status status;

	*ret_ids = NULL;
	if (engine_is_inline())
		return error_set(TDR_ESTATE, "an inline function or a callback must not wait for a collective");
	if (state != AGENT_MEMBER && state != AGENT_LEAVING)
		return error_set(state == AGENT_LEFT ? TDR_ESHUTDOWN : TDR_ESTATE, "agent '%s' is no member of a group",
		                 agent->name);
	if (count == 0)
		return TDR_OK;
	if (count > atomic_load(&agent->npeers))
		return error_set(TDR_EINVAL, "%zu names, in a group of %u", count, atomic_load(&agent->npeers));
	*ret_ids = calloc(count, sizeof(**ret_ids));
	if (!*ret_ids)
		return error_nomem();
	status = resolve_names(agent, count, names, *ret_ids);
	if (status != TDR_OK) {
		free(*ret_ids);
		*ret_ids = NULL;
	}
	return status;
}

tdr_status tdr_all_gather(tdr_agent *agent, tdr_value *value, size_t count, const char *const names[], int64_t timeout_ms,
                          tdr_value **ret_values)
{
	uint32_t *ids = NULL, members = count ? (uint32_t)count : atomic_load(&agent->npeers);
	tdr_value **values = NULL, *all;
	tdr_status status = forked(agent->fork_generation)
	                        ? error_set(TDR_EFORKED, "agent '%s' belongs to the parent process", agent->name)
	                        : prepare(agent, count, names, &ids);

	if (status == TDR_OK)
		status = check_value(agent, value);
	if (status == TDR_OK && !(values = calloc(members, sizeof(*values))))
		status = error_nomem();
	if (status == TDR_OK) {
		if (timeout_ms == TDR_TIMEOUT_DEFAULT)
			timeout_ms = atomic_load(&agent->rpc_timeout_ms);
		status = gather(agent, "all_gather", TAKE_PTR(value), ids, members, timeout_ms, values);
	}
	if (status == TDR_OK) {
		all = tdr_dict_new();
		for (uint32_t i = 0; i < members; i++)
			(void)tdr_dict_set(all, link_peer(agent->peers[ids ? ids[i] : i].link)->name, values[i]);
		if (tdr_value_kind(all) == TDR_INVALID)
			status = error_nomem();
		else
			*ret_values = all;
	}
	tdr_value_unref(value);
	free(values);
	free(ids);
	return status;
}

tdr_status tdr_barrier(tdr_agent *agent, size_t count, const char *const names[], int64_t timeout_ms)
{
	tdr_value *values;
	tdr_status status = tdr_all_gather(agent, tdr_none(), count, names, timeout_ms, &values);

	if (status == TDR_OK)
		tdr_value_unref(values);
	return status;
}

/* ---- life ---- */

void collectives_init(struct collectives *collectives)
{
	pthread_mutex_init(&collectives->lock, NULL);
	list_init(&collectives->gathers);
	list_init(&collectives->sequences);
}

void collectives_close(struct collectives *collectives)
{
	struct list letters;

	list_init(&letters);
	pthread_mutex_lock(&collectives->lock);
	list_for_each_safe(node, &collectives->gathers)
	{
		struct gather *gather = list_entry(node, struct gather, node);

		fail(gather, &letters, TDR_ESHUTDOWN, "the agent is shutting down", false);
		if (!list_empty(&gather->node)) { /* nobody here has entered it */
			gather->entered = true;
			gather_retire(gather);
		}
	}
	pthread_mutex_unlock(&collectives->lock);
	post(&letters); /* the lanes are closed, so only ends get through */
}

void collectives_fini(struct collectives *collectives)
{
	assert(list_empty(&collectives->gathers));
	for (struct list *node; (node = list_shift(&collectives->sequences));) {
		struct sequence *sequence = list_entry(node, struct sequence, node);

		free(sequence->occasion.ids);
		free(sequence);
	}
	pthread_mutex_destroy(&collectives->lock);
}
