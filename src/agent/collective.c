/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives: entering a gather, waiting for it, and the public calls that stand on that. */
#include "agent/gather.h"

#include "agent/view.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	GRACE_MS = 1000, /* beyond the deadline, for each step that the root's verdict comes down */
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

/* The next sequence number of a topic and set; with the lock held. */
static tdr_status next_sequence(tdr_agent *agent, struct occasion *occasion)
{
	struct sequence *sequence = sequence_find(agent, occasion);

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

static tdr_status await(struct gather *gather, int64_t timeout_ms, tdr_value **ret_values)
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
	for (uint32_t i = 0; i < gather->occasion.count; i++)
		ret_values[i] = tdr_value_ref(tdr_value_item(all, i));
	tdr_value_unref(all);
	return TDR_OK;
}

/* Members who were gone already: no event will tell of them. */
static void look_for_gone(const struct gather *gather)
{
	for (uint32_t i = 0; i < gather->occasion.count; i++) {
		struct peer *peer = view_by_id(agent_view(gather->agent), occasion_id(&gather->occasion, i));
		tdr_status status = link_check(peer->link);

		if (status != TDR_OK && status != TDR_ESHUTDOWN)
			collective_gone(peer, status, tdr_last_error());
	}
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
		refcount_get(&gather->refs);
		gather->entered = true;
		gather_arrive(gather, gather->index, value);
		gather_retire(gather);
		gather_advance(gather, &letters);
	}
	pthread_mutex_unlock(&agent->collectives.lock);
	if (status != TDR_OK) {
		tdr_value_unref(value);
		return status;
	}
	letters_post(&letters);
	look_for_gone(gather);
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
	if (count > view_count(agent_view(agent)))
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

tdr_status tdr_all_gather(tdr_agent *agent, tdr_value *value, size_t count, const char *const names[],
                          int64_t timeout_ms, tdr_value **ret_values)
{
	uint32_t *ids = NULL, members = count ? (uint32_t)count : view_count(agent_view(agent));
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
			(void)tdr_dict_set(all, link_peer(view_by_id(agent_view(agent), ids ? ids[i] : i)->link)->name,
			                   values[i]);
		if (tdr_value_kind(all) != TDR_INVALID) {
			*ret_values = all;
		} else {
			tdr_value_unref(all);
			status = error_nomem();
		}
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
