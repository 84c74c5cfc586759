/* SPDX-License-Identifier: Apache-2.0 */
/* What people are told of an agent's references: counters, who holds what, and what is left at the end. */
#include "agent/references.h"

#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

enum {
	MAX_LEAKS_SHOWN = 100,
};

/* ---- what is left ---- */

struct leaks {
	struct buffer *text;
	size_t count;
};

/* `holder` NULL: it was written, and not read. */
static void describe_fork(struct leaks *leaks, const struct rref_id *rref, const struct rref_id *fork,
                          struct rref_peer *holder, const char *more)
{
	struct buffer *text = leaks->text;

	if (leaks->count++ >= MAX_LEAKS_SHOWN)
		return;
	buffer_printf(text,
	              "%sLeaking RRef GloballyUniqueId(created_on=%u, local_id=%" PRIu64
	              ") with fork Id GloballyUniqueId(created_on=%u, local_id=%" PRIu64 "), ",
	              text->size > 0 ? "\n" : "", rref->worker, rref->local, fork->worker, fork->local);
	if (holder)
		buffer_printf(text, "held by worker '%s'%s", link_peer(peer_of(holder)->link)->name, more);
	else
		buffer_printf(text, "not read by anybody");
}

static void describe_unread(void *context, const struct rref_user *user, const struct rref_id *fork)
{
	describe_fork(context, &user->rref, fork, NULL, "");
}

/* A line for each fork of ours, and for each that we have written of others' references. */
static void describe_leaks(tdr_agent *agent, struct buffer *text)
{
	struct leaks leaks = {.text = text};

	list_for_each(node, rrefs_shared(agent->references.machine)) {
		const struct rref_owned *owned = list_entry(node, struct rref_owned, of_shared);

		list_for_each(of_owned, &owned->forks) {
			struct rref_fork *fork = list_entry(of_owned, struct rref_fork, of_owned);

			describe_fork(&leaks, &owned->rref, &fork->fork, fork->holder,
			              fork->state == FORK_SENT ? " (not known to have arrived)" : "");
		}
	}
	rrefs_open_children(agent->references.machine, describe_unread, &leaks);
	if (leaks.count > MAX_LEAKS_SHOWN)
		buffer_printf(text, "\nand %zu more", leaks.count - MAX_LEAKS_SHOWN);
}

tdr_status tdr_rref_leaks(tdr_agent *agent, tdr_value **ret_text)
{
	struct buffer text = {0};
	tdr_status status = forked(agent->fork_generation)
	                        ? error_set(TDR_EFORKED, "agent '%s' belongs to the parent process", agent->name)
	                        : references_lock(agent);

	if (status != TDR_OK)
		return status;
	describe_leaks(agent, &text);
	references_unlock(agent);
	*ret_text = tdr_string_n((const char *)text.data, text.size);
	buffer_fini(&text);
	return TDR_OK;
}

tdr_status references_report_leaks(tdr_agent *agent)
{
	struct rrefs_counts counts;
	struct buffer text = {0};
	tdr_status status = references_lock(agent);

	if (status != TDR_OK)
		return TDR_OK;
	counts = rrefs_counts(agent->references.machine);
	describe_leaks(agent, &text);
	references_unlock(agent);
	if (text.size > 0)
		LOG(TDR_LOG_WARN, "event=rref_leak worker=%s text=\"Detected RRef Leaks during shutdown. %.*s\"",
		    agent->name, (int)MIN_OF(text.size, (size_t)4096), (const char *)text.data);
	status =
	    error_set(TDR_ETIMEDOUT,
	              "references have not been let go of in time: %zu of '%s' are held by others, %zu of others are "
	              "not confirmed, %zu letters are not answered%s%.*s",
	              counts.owned, agent->name, counts.pending_users + counts.children, counts.controls,
	              text.size > 0 ? ". " : "", (int)MIN_OF(text.size, (size_t)512),
	              text.size > 0 ? (const char *)text.data : "");
	buffer_fini(&text);
	return status;
}

/* ---- insight ---- */

/* What each other worker holds of ours: forks, and the bytes of the values. */
static void put_holders(tdr_agent *agent, tdr_value *info)
{
	list_for_each(node, rrefs_peers(agent->references.machine)) {
		struct rref_peer *rrefs = list_entry(node, struct rref_peer, node);
		const struct identity *holder = link_peer(peer_of(rrefs)->link);
		uint64_t forks = 0, bytes = 0;
		char key[192];

		if (list_empty(&rrefs->forks))
			continue;
		list_for_each(of_holder, &rrefs->forks) {
			const struct rref_fork *fork = list_entry(of_holder, struct rref_fork, of_holder);

			forks++;
			bytes += owned_value_of(fork->owned)->bytes;
		}
		snprintf(key, sizeof(key), "rref.held_by.%s.forks", holder->name);
		info_put(info, key, forks);
		snprintf(key, sizeof(key), "rref.held_by.%s.bytes", holder->name);
		info_put(info, key, bytes);
	}
}

void references_info(tdr_agent *agent, tdr_value *info)
{
	struct rrefs_counts counts = {0};
	uint64_t bytes = 0;

	pthread_mutex_lock(&agent->references.lock);
	if (agent->references.machine) {
		counts = rrefs_counts(agent->references.machine);
		list_for_each(node, rrefs_shared(agent->references.machine))
			bytes += owned_value_of(list_entry(node, struct rref_owned, of_shared))->bytes;
		put_holders(agent, info);
	}
	pthread_mutex_unlock(&agent->references.lock);
	info_put(info, "rref.num_owner_rrefs", counts.owned);
	info_put(info, "rref.num_forks", counts.forks);
	info_put(info, "rref.num_users", counts.users);
	info_put(info, "rref.num_pending_users", counts.pending_users);
	info_put(info, "rref.num_pending_children", counts.children);
	info_put(info, "rref.num_pending_futures", counts.controls);
	info_put(info, "rref.owner_bytes", bytes);
}

static tdr_value *name_of(const struct rref_id *id)
{
	char text[96];

	snprintf(text, sizeof(text), "GloballyUniqueId(created_on=%u, local_id=%" PRIu64 ")", id->worker, id->local);
	return tdr_string(text);
}

/* A dict, name of the worker -> forks that it has; and how many nobody has. */
static tdr_value *list_holders(const struct rref_owned *owned, uint64_t *ret_unread)
{
	tdr_value *holders = tdr_dict_new();

	*ret_unread = 0;
	list_for_each(node, &owned->forks) {
		const struct rref_fork *fork = list_entry(node, struct rref_fork, of_owned);
		const char *name;
		int64_t count = 0;

		if (fork->state == FORK_OPEN) {
			++*ret_unread;
			continue;
		}
		name = link_peer(peer_of(fork->holder)->link)->name;
		if (tdr_dict_get(holders, name) && tdr_value_get_int(tdr_dict_get(holders, name), &count) != TDR_OK)
			count = 0;
		(void)tdr_dict_set(holders, name, tdr_int(count + 1));
	}
	return holders;
}

tdr_status tdr_rref_list(tdr_agent *agent, tdr_value **ret_list)
{
	tdr_value *list;
	tdr_status status = forked(agent->fork_generation)
	                        ? error_set(TDR_EFORKED, "agent '%s' belongs to the parent process", agent->name)
	                        : references_lock(agent);

	if (status != TDR_OK)
		return status;
	list = tdr_list(0, NULL);
	list_for_each(node, rrefs_shared(agent->references.machine)) {
		struct rref_owned *owned = list_entry(node, struct rref_owned, of_shared);
		tdr_value *item = tdr_dict_new();
		uint64_t unread;

		(void)tdr_dict_set(item, "rref", name_of(&owned->rref));
		(void)tdr_dict_set(item, "state", tdr_string(owned_state_name(owned->state)));
		info_put(item, "bytes", owned_value_of(owned)->bytes);
		info_put(item, "handles", owned->handles);
		(void)tdr_dict_set(item, "holders", list_holders(owned, &unread));
		info_put(item, "unread", unread);
		if (tdr_list_append(list, item) != TDR_OK)
			break; /* it has become invalid, and says so */
	}
	references_unlock(agent);
	status = tdr_value_status(list);
	if (status == TDR_OK)
		*ret_list = list;
	else
		tdr_value_unref(list);
	return status;
}
