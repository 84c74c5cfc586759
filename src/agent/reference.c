/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles: what a tdr_rref is. The program's count is the value layer's; when it ends, the machine is told, which may still have
 * to do with a user for a while, so that the memory has a count of its own.
 */
#include "agent/references.h"

#include "base/error.h"
#include "base/fork.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- identity ---- */

static const struct rref_id *id_of(const struct reference *reference)
{
	return reference->role == ROLE_OWNER ? &reference->owned->owned.rref : &reference->user.rref;
}

static int print(const tdr_rref *rref, char *buffer, size_t size)
{
	const struct reference *reference = reference_of((tdr_rref *)rref);
	const struct rref_id *id = id_of(reference), *fork = &reference->user.fork;

	switch (reference->role) {
	case ROLE_NONE:
		return snprintf(buffer, size, "RRef(%s)", tdr_status_name(reference->status));
	case ROLE_OWNER:
		return snprintf(buffer, size, "OwnerRRef(GloballyUniqueId(created_on=%u, local_id=%" PRIu64 "))",
		                id->worker, id->local);
	case ROLE_USER:
		break;
	}
	return snprintf(buffer, size,
	                "UserRRef(RRefId = GloballyUniqueId(created_on=%u, local_id=%" PRIu64
	                "), ForkId = GloballyUniqueId(created_on=%u, local_id=%" PRIu64 "))",
	                id->worker, id->local, fork->worker, fork->local);
}

static bool equal(const tdr_rref *a, const tdr_rref *b)
{
	const struct reference *first = reference_of((tdr_rref *)a), *second = reference_of((tdr_rref *)b);

	if (first == second)
		return true;
	if (first->role == ROLE_NONE || second->role == ROLE_NONE)
		return false;
	return rref_id_equal(id_of(first), id_of(second));
}

static uint64_t hash(const tdr_rref *rref)
{
	const struct reference *reference = reference_of((tdr_rref *)rref);

	return reference->role == ROLE_NONE ? hash_pointer(reference) : rref_id_hash(id_of(reference));
}

/* ---- life ---- */

void reference_drop_memory(struct reference *reference)
{
	tdr_agent *agent;

	if (!refcount_put(&reference->memory))
		return;
	agent = reference->agent;
	tdr_future_unref(reference->created);
	tdr_future_unref(reference->settled);
	free(reference->text);
	free(reference);
	agent_drop(agent);
}

static void end(tdr_rref *rref)
{
	struct reference *reference = reference_of(rref);

	if (forked(rref->fork_generation))
		return; /* the parent has it still; and who holds the locks here is not known */
	if (reference->role == ROLE_OWNER)
		owned_value_put(reference->agent, reference->owned);
	if (reference->role == ROLE_USER && references_enter(reference->agent)) {
		rrefs_user_unref(&reference->user);
		references_unlock(reference->agent);
	}
	reference_drop_memory(reference);
}

static const struct rref_ops reference_ops = {.free = end, .print = print, .equal = equal, .hash = hash};

struct reference *reference_of(tdr_rref *rref)
{
	return container_of(rref, struct reference, head);
}

struct reference *reference_new(tdr_agent *agent, enum reference_role role)
{
	struct reference *reference = calloc(1, sizeof(*reference));

	if (!reference)
		return NULL;
	rref_head_init(&reference->head, &reference_ops);
	refcount_init(&reference->memory);
	if (role == ROLE_USER)
		refcount_get(&reference->memory); /* the machine's */
	reference->role = role;
	reference->agent = agent;
	list_init(&reference->node);
	agent_hold(agent);
	return reference;
}

struct reference *reference_to(tdr_agent *agent, struct owned_value *owned)
{
	struct reference *reference = reference_new(agent, ROLE_OWNER);

	if (reference)
		reference->owned = owned;
	else
		owned_value_put(agent, owned);
	return reference;
}

struct reference *reference_failed(tdr_agent *agent, tdr_status status, const char *text)
{
	struct reference *reference = reference_new(agent, ROLE_NONE);

	if (!reference)
		return NULL;
	reference->status = status;
	reference->text = strdup(text);
	return reference;
}

/* ---- failing and being settled ---- */

/* Keeps why it stands for nothing, unless that is known; with the lock held. */
static void keep_failure(struct reference *reference, tdr_status status, const char *text)
{
	if (reference->status != TDR_OK)
		return;
	reference->status = status;
	reference->text = strdup(text);
}

static tdr_status failure_of(const struct reference *reference)
{
	if (reference->status == TDR_OK)
		return TDR_OK;
	return error_set(reference->status, "%s",
	                 reference->text ? reference->text : tdr_status_text(reference->status));
}

/* Why the machine gave a user up. `counted`: the owner may count it. */
static tdr_status find_failure(const struct reference *reference, bool counted)
{
	const struct peer *owner = peer_of(reference->user.owner);
	const char *name = link_peer(owner->link)->name;
	tdr_status status = link_check(owner->link);

	if (status != TDR_OK)
		return error_prefix(status, "the reference's owner is gone");
	if (counted)
		return error_set(TDR_ETIMEDOUT, "worker '%s', the reference's owner, did not confirm it", name);
	return error_set(TDR_ENOTFOUND,
	                 "worker '%s' does not have what the reference stands for any more: the worker that passed it "
	                 "on is gone",
	                 name);
}

tdr_status reference_failure(struct reference *reference)
{
	tdr_agent *agent = reference->agent;
	bool failed = false, counted = false, over = false;
	tdr_status status;

	pthread_mutex_lock(&agent->references.lock);
	status = failure_of(reference);
	if (status == TDR_OK && reference->role == ROLE_USER) {
		failed = reference->user.failed;
		counted = reference->user.counted;
		over = !agent->references.machine && !reference->user.confirmed;
	}
	pthread_mutex_unlock(&agent->references.lock);
	if (!failed)
		return over ? error_set(TDR_ESHUTDOWN, "agent '%s' has been shut down", agent->name) : status;
	status = find_failure(reference, counted);
	pthread_mutex_lock(&agent->references.lock);
	keep_failure(reference, status, tdr_last_error());
	status = failure_of(reference);
	pthread_mutex_unlock(&agent->references.lock);
	return status;
}

void reference_settled(struct reference *reference)
{
	tdr_agent *agent = reference->agent;
	tdr_status status = reference_failure(reference);
	tdr_future *future;

	pthread_mutex_lock(&agent->references.lock);
	future = tdr_future_ref(reference->settled);
	pthread_mutex_unlock(&agent->references.lock);
	if (future)
		future_complete(future, status, status == TDR_OK ? tdr_none() : NULL, tdr_last_error(), NULL);
	tdr_future_unref(future);
	reference_drop_memory(reference);
}

bool reference_is_settled(struct reference *reference, tdr_future **ret_settled)
{
	tdr_agent *agent = reference->agent;
	bool settled = true;

	if (reference->role != ROLE_USER)
		return true;
	pthread_mutex_lock(&agent->references.lock);
	if (agent->references.machine && !rrefs_user_is_settled(&reference->user)) {
		if (!reference->settled)
			reference->settled = tdr_future_new(agent->engine);
		settled = !reference->settled;
		*ret_settled = tdr_future_ref(reference->settled);
	}
	pthread_mutex_unlock(&agent->references.lock);
	return settled;
}

tdr_status reference_check(struct reference *reference, const char *what)
{
	tdr_agent *agent = reference->agent;
	bool deleted = false;
	char name[RREF_TEXT_SIZE];
	tdr_status status;

	if (forked(reference->head.fork_generation))
		return error_set(TDR_EFORKED, "the reference belongs to the parent process");
	pthread_mutex_lock(&agent->references.lock);
	if (reference->role == ROLE_USER)
		deleted = !agent->references.machine || reference->user.let_go;
	status = failure_of(reference);
	pthread_mutex_unlock(&agent->references.lock);
	if (status != TDR_OK || !deleted)
		return status == TDR_OK ? reference_failure(reference) : status;
	print(&reference->head, name, sizeof(name));
	return error_set(TDR_ESTATE, "%s has been deleted. Cannot call %s%s after deletion.", name, what,
	                 strchr(what, '(') ? " on it" : "");
}

void reference_created(struct reference *reference, tdr_status status, const char *text)
{
	static const char unknown[] =
	    "RRef creation via rpc.remote() timed out, and it is possible that the RRef on the "
	    "owner node does not exist.";
	tdr_agent *agent = reference->agent;
	char why[ERROR_TEXT_SIZE];

	snprintf(why, sizeof(why), "%s%s%s", status == TDR_ETIMEDOUT || status == TDR_EIO ? unknown : "",
	         status == TDR_ETIMEDOUT || status == TDR_EIO ? " " : "", text ? text : "");
	if (reference->role == ROLE_OWNER) {
		if (status == TDR_OK || !owned_value_fail(agent, reference->owned, status, why))
			return;
		pthread_mutex_lock(&agent->references.lock);
		keep_failure(reference, status, why);
		pthread_mutex_unlock(&agent->references.lock);
		return;
	}
	if (!references_enter(agent))
		return;
	if (status != TDR_OK && reference->user.state == USER_CREATING)
		keep_failure(reference, status, why);
	rrefs_user_created(&reference->user, status == TDR_OK);
	references_unlock(agent);
}
