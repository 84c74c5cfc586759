/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives: entering a gather, waiting for it, and the public calls that stand on that. */
#include "agent/gather_letter.h"

#include "agent/membership.h"
#include "agent/token.h"
#include "base/clock.h"
#include "base/error.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	GRACE_MS = 1000, /* beyond the deadline, for each step that the root's verdict comes down */
	KEPT_EPOCHS = 64,
	VIEW_PAUSE_MS = 5, /* between two questions whether a newer view has come */
};

/* How many gathers of one topic and set this member has entered. */
struct sequence {
	struct list node;
	struct occasion occasion;
};

/* ---- entering ---- */

static struct sequence *sequence_find(tdr_agent *agent, const struct occasion *occasion)
{
	list_for_each(node, &agent->collectives.sequences) {
		struct sequence *sequence = list_entry(node, struct sequence, node);

		if (occasion_same_set(&sequence->occasion, occasion))
			return sequence;
	}
	return NULL;
}

bool gather_is_past(tdr_agent *agent, const struct occasion *occasion)
{
	const struct sequence *sequence = sequence_find(agent, occasion);

	return sequence && occasion->sequence <= sequence->occasion.sequence && !gather_find(agent, occasion);
}

/* Drops the counts of the same members at other times: those of all members only when they are old, since their letters go about. */
static void forget_sequences(tdr_agent *agent, const struct occasion *occasion)
{
	list_for_each_safe(node, &agent->collectives.sequences) {
		struct sequence *sequence = list_entry(node, struct sequence, node);
		const struct occasion *other = &sequence->occasion;
		bool same_ids = occasion->ids && other->ids && occasion->count == other->count &&
		                memcmp(occasion->ids, other->ids, occasion->count * sizeof(*occasion->ids)) == 0;

		if (other->stamp == occasion->stamp || strcmp(other->topic, occasion->topic) != 0)
			continue;
		if (!same_ids && (occasion->ids || other->ids || other->stamp + KEPT_EPOCHS > occasion->stamp))
			continue;
		list_remove(&sequence->node);
		free(sequence->occasion.ids);
		free(sequence);
	}
}

/* The next sequence number of a topic and set; with the lock held. */
static tdr_status next_sequence(tdr_agent *agent, struct occasion *occasion)
{
	struct sequence *sequence = sequence_find(agent, occasion);

	forget_sequences(agent, occasion); /* not this one: its stamp is the occasion's */
	if (!sequence) {
		sequence = calloc(1, sizeof(*sequence));
		if (!sequence || occasion_copy(occasion, &sequence->occasion) != TDR_OK) {
			free(sequence);
			return error_nomem();
		}
		list_append(&agent->collectives.sequences, &sequence->node);
	}
	occasion->sequence =
	    ++sequence->occasion.sequence; /* NOLINT(clang-analyzer-unix.Malloc): it was not forgotten */
	return TDR_OK;
}

/* The names of those who have not come, as far as this member can know. */
static void print_missing(const struct gather *gather, char *buffer, size_t size)
{
	size_t at = 0;

	buffer[0] = '\0';
	for (uint32_t i = gather->index; i < gather->occasion.count && at < size; i++) {
		if (gather->values[i] || !tree_contains(i, gather->index))
			continue;
		at += (size_t)snprintf(buffer + at, size - at, "%s'%s'", at > 0 ? ", " : "", gather_name(gather, i));
	}
}

/* Past the deadline: ends it for all. */
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
		         (long long)timeout_ms,
		         gather_name(gather, gather->index > 0 ? tree_parent(gather->index) : 0));
	gather_fail(gather, &letters, TDR_ETIMEDOUT, text, true);
	pthread_mutex_unlock(&collectives->lock);
	letters_post(&letters);
}

/* Takes the values out of a gather that has ended well. */
static tdr_status take_values(const struct gather *gather, tdr_value *all, struct gathered *ret_gathered)
{
	uint32_t count = gather->occasion.count;
	struct gathered gathered = {
	    .peers = calloc(count, sizeof(struct peer *)),
	    .values = calloc(count, sizeof(tdr_value *)),
	};

	if (!gathered.peers || !gathered.values) {
		gathered_fini(&gathered);
		return error_nomem();
	}
	gathered.count = count;
	for (uint32_t i = 0; i < count; i++) {
		gathered.peers[i] = occasion_peer(&gather->occasion, i);
		gathered.values[i] = tdr_value_ref(tdr_value_item(all, i));
	}
	*ret_gathered = gathered;
	return TDR_OK;
}

void gathered_fini(struct gathered *gathered)
{
	for (uint32_t i = 0; i < gathered->count; i++)
		tdr_value_unref(gathered->values[i]);
	free(gathered->values);
	free(gathered->peers);
	*gathered = (struct gathered){0};
}

static tdr_status await(struct gather *gather, int64_t timeout_ms, struct gathered *ret_gathered)
{
	int64_t patience = timeout_ms > 0 ? timeout_ms + (int64_t)GRACE_MS * tree_depth(gather->index) : timeout_ms;
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
	status = take_values(gather, all, ret_gathered);
	tdr_value_unref(all);
	return status;
}

/* Members who were gone already: no event will tell of them. */
static void look_for_gone(const struct gather *gather)
{
	for (uint32_t i = 0; i < gather->occasion.count; i++) {
		struct peer *peer = occasion_peer(&gather->occasion, i);
		tdr_status status = link_check(peer->link);

		if (status != TDR_OK && status != TDR_ESHUTDOWN)
			collective_gone(peer, status, tdr_last_error());
	}
}

/* Whether all members of a set are still those of the view; with the lock held. */
static tdr_status place_on_view(tdr_agent *agent, struct occasion *occasion)
{
	const struct view *view = agent_view(agent);

	for (uint32_t i = 0; occasion->ids && i < occasion->count; i++)
		if (!view_by_id(view, occasion->ids[i]))
			return error_set(TDR_EWORKERGONE, "worker %u has left the group meanwhile", occasion->ids[i]);
	occasion_place(occasion, view, agent->membership.dynamic);
	return TDR_OK;
}

/* The gather that this member enters now, by the view of this moment; with the lock held. */
static tdr_status enter(tdr_agent *agent, const char *topic, const uint32_t *ids, uint32_t count,
                        struct gather **ret_gather)
{
	struct occasion occasion = {.ids = (uint32_t *)ids, .count = count};
	tdr_status status;

	*ret_gather = ids || !agent->membership.dynamic ? NULL : gather_owed(agent, topic);
	if (*ret_gather)
		return TDR_OK;
	snprintf(occasion.topic, sizeof(occasion.topic), "%s", topic);
	status = place_on_view(agent, &occasion);
	if (status == TDR_OK)
		status = next_sequence(agent, &occasion);
	return status == TDR_OK ? gather_get(agent, &occasion, ret_gather) : status;
}

/* Takes part once. `*ret_view` is the view that it was under. */
static tdr_status gather_once(tdr_agent *agent, const char *topic, tdr_value *value, const uint32_t *ids,
                              uint32_t count, int64_t timeout_ms, const struct view **ret_view,
                              struct gathered *ret_gathered)
{
	struct gather *gather;
	struct list letters;
	tdr_status status;

	list_init(&letters);
	pthread_mutex_lock(&agent->collectives.lock);
	status = enter(agent, topic, ids, count, &gather);
	if (status == TDR_OK) {
		refcount_get(&gather->refs);
		gather->entered = true;
		gather_arrive(gather, gather->index, tdr_value_ref(value));
		gather_retire(gather);
		gather_advance(gather, &letters);
	}
	pthread_mutex_unlock(&agent->collectives.lock);
	if (status != TDR_OK)
		return status;
	letters_post(&letters);
	look_for_gone(gather);
	status = await(gather, timeout_ms, ret_gathered);
	*ret_view = gather->occasion.view;
	gather_unref(gather);
	return status;
}

/* Waits until the view is newer than one under which a gather was superseded. */
static tdr_status await_newer_view(tdr_agent *agent, const struct view *old, int64_t deadline_ms)
{
	while (agent_view(agent) == old) {
		enum agent_state state = agent_state(agent);

		if (state == AGENT_FENCED)
			return error_set(TDR_EFENCED, "%s", agent->membership.fenced_text);
		if (state == AGENT_LEFT)
			return error_set(TDR_ESHUTDOWN, "agent '%s' has been shut down", agent->name);
		if (deadline_ms && clock_ms() >= deadline_ms)
			return error_set(
			    TDR_ETIMEDOUT,
			    "the group has changed, and its table could not be read from the store in time");
		membership_look(agent);
		agent_pause(agent, VIEW_PAUSE_MS);
	}
	return TDR_OK;
}

/*
 * A member of a gather of all is gone. All come back from it with the view without that member, as far as this can be had, so that their
 * next one is of the same view, too. Returns `status`, with its text.
 */
static tdr_status await_eviction(tdr_agent *agent, const struct view *view, int64_t deadline_ms, tdr_status status)
{
	int64_t bound_ms = deadline_after(agent->options.heartbeat_bound_ms);
	char text[ERROR_TEXT_SIZE];

	snprintf(text, sizeof(text), "%s", tdr_last_error());
	(void)await_newer_view(agent, view, deadline_ms ? MIN_OF(deadline_ms, bound_ms) : bound_ms);
	return error_set(status, "%s", text);
}

tdr_status gather(tdr_agent *agent, const char *topic, tdr_value *value, const uint32_t *ids, uint32_t count,
                  int64_t timeout_ms, struct gathered *ret_gathered)
{
	int64_t deadline_ms = deadline_after(timeout_ms);
	const struct view *view = NULL;
	tdr_status status;

	for (;;) {
		int64_t left = deadline_ms ? MAX_OF(deadline_ms - clock_ms(), (int64_t)1) : TDR_TIMEOUT_NEVER;

		status = gather_once(agent, topic, value, ids, count, left, &view, ret_gathered);
		if ((status == TDR_EWORKERGONE || status == TDR_EUNREACHABLE) && agent->membership.dynamic && !ids)
			return await_eviction(agent, view, deadline_ms, status);
		if (status != GATHER_SUPERSEDED)
			return status;
		status = await_newer_view(agent, view, deadline_ms);
		if (status != TDR_OK)
			return status;
	}
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
			                 link_peer(view_by_id(agent_view(agent), ids[i])->link)->name);
	if (!self)
		return error_set(TDR_EINVAL, "worker '%s' takes part in a collective that does not name it",
		                 agent->name);
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
	if (state == AGENT_FENCED)
		return error_set(TDR_EFENCED, "%s", agent->membership.fenced_text);
	if (state != AGENT_MEMBER && state != AGENT_LEAVING)
		return error_set(state == AGENT_LEFT ? TDR_ESHUTDOWN : TDR_ESTATE, "agent '%s' is no member of a group",
		                 agent->name);
	if (count == 0)
		return TDR_OK;
	if (count > (agent->membership.dynamic ? MAX_MEMBERS : view_count(agent_view(agent))))
		return error_set(TDR_EINVAL, "%zu names, in a group of %u", count, view_count(agent_view(agent)));
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

/* A dict, name -> value. */
static tdr_status make_dict(const struct gathered *gathered, tdr_value **ret_values)
{
	tdr_value *all = tdr_dict_new();

	for (uint32_t i = 0; i < gathered->count; i++)
		(void)tdr_dict_set(all, link_peer(gathered->peers[i]->link)->name, tdr_value_ref(gathered->values[i]));
	if (tdr_value_kind(all) == TDR_INVALID) {
		tdr_value_unref(all);
		return error_nomem();
	}
	*ret_values = all;
	return TDR_OK;
}

tdr_status tdr_all_gather(tdr_agent *agent, tdr_value *value, size_t count, const char *const names[],
                          int64_t timeout_ms, tdr_value **ret_values)
{
	struct gathered gathered = {0};
	uint32_t *ids = NULL;
	tdr_status status = agent_check_not_forked(agent);

	if (status == TDR_OK)
		status = prepare(agent, count, names, &ids);
	if (status == TDR_OK)
		status = check_value(agent, value);
	if (status == TDR_OK) {
		if (timeout_ms == TDR_TIMEOUT_DEFAULT)
			timeout_ms = atomic_load(&agent->rpc_timeout_ms);
		status = gather(agent, "all_gather", value, ids, (uint32_t)count, timeout_ms, &gathered);
	}
	if (status == TDR_OK)
		status = make_dict(&gathered, ret_values);
	gathered_fini(&gathered);
	tdr_value_unref(value);
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
	list_init(&collectives->early);
}

void collectives_close(struct collectives *collectives)
{
	struct list letters;

	list_init(&letters);
	pthread_mutex_lock(&collectives->lock);
	collectives->closed = true;
	list_for_each_safe(node, &collectives->gathers) {
		struct gather *gather = list_entry(node, struct gather, node);

		gather_fail(gather, &letters, TDR_ESHUTDOWN, "the agent is shutting down", false);
		if (!list_empty(&gather->node)) { /* nobody here has entered it */
			gather->entered = true;
			gather_retire(gather);
		}
	}
	pthread_mutex_unlock(&collectives->lock);
	letters_drop_early(collectives);
	letters_post(&letters); /* the lanes are closed, so only ends get through */
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
