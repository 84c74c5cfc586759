/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References in a program's own bytes: taken to pieces for a reader that is not known yet, and put together again. What the
 * numbers stand for is the reference machine's, which keeps the value for the reader (rref/open.c).
 */
#include "agent/references.h"

#include "base/error.h"
#include "base/fork.h"

#include <assert.h>
#include <inttypes.h>

static_assert(sizeof(tdr_rref_parts) == TDR_RREF_PARTS * sizeof(uint64_t), "the parts are not an array of numbers");

/* ---- numbers ---- */

static tdr_rref_parts parts_of(const struct rref_passed *passed)
{
	return (tdr_rref_parts){
	    .owner_id = passed->owner_worker,
	    .rref_created_on = passed->rref.worker,
	    .rref_local_id = passed->rref.local,
	    .fork_created_on = passed->fork.worker,
	    .fork_local_id = passed->fork.local,
	    .parent_id = passed->fork.worker,
	    .owner_incarnation = passed->owner_incarnation,
	    .rref_incarnation = passed->rref.incarnation,
	    .parent_incarnation = passed->fork.incarnation,
	    .origin = passed->origin,
	};
}

static tdr_status passed_of(const tdr_rref_parts *parts, struct rref_passed *ret_passed)
{
	if (parts->owner_id > UINT32_MAX || parts->rref_created_on > UINT32_MAX || parts->parent_id > UINT32_MAX)
		return error_set(TDR_EINVAL,
		                 "numbers that no reference has: its owner's id is %" PRIu64 ", its creator's %" PRIu64
		                 ", its writer's %" PRIu64 " (tdr_rref_serialize makes them)",
		                 parts->owner_id, parts->rref_created_on, parts->parent_id);
	if (parts->fork_created_on != parts->parent_id)
		return error_set(TDR_EINVAL,
		                 "numbers that no reference has: its fork was made by worker %" PRIu64
		                 ", and it was written by worker %" PRIu64,
		                 parts->fork_created_on, parts->parent_id);
	*ret_passed = (struct rref_passed){
	    .rref = {.incarnation = parts->rref_incarnation,
	             .local = parts->rref_local_id,
	             .worker = (uint32_t)parts->rref_created_on},
	    .fork = {.incarnation = parts->parent_incarnation,
	             .local = parts->fork_local_id,
	             .worker = (uint32_t)parts->parent_id},
	    .owner_worker = (uint32_t)parts->owner_id,
	    .owner_incarnation = parts->owner_incarnation,
	    .origin = parts->origin,
	};
	return TDR_OK;
}

/* ---- writing ---- */

tdr_status tdr_rref_serialize(tdr_rref *rref, tdr_rref_parts *ret_parts)
{
	struct reference *reference = reference_of(rref);
	struct rref_passed passed;
	tdr_status status = reference_check(reference, "fork an UserRRef");

	if (status == TDR_OK)
		status = references_lock(reference->agent);
	if (status != TDR_OK)
		return status;
	if (reference->role == ROLE_OWNER)
		status = rrefs_pass_owned(&reference->owned->owned, NULL, &passed);
	else
		status = rrefs_pass_user(&reference->user, NULL, &passed);
	references_unlock(reference->agent);
	if (status == TDR_OK)
		*ret_parts = parts_of(&passed);
	return status;
}

tdr_status tdr_rref_withdraw(tdr_agent *agent, const tdr_rref_parts *parts)
{
	struct rref_passed passed;
	tdr_status status;

	if (forked(agent->fork_generation))
		return error_set(TDR_EFORKED, "agent '%s' belongs to the parent process", agent->name);
	status = passed_of(parts, &passed);
	if (status == TDR_OK)
		status = references_lock(agent);
	if (status != TDR_OK)
		return status;
	if (passed.fork.incarnation == agent->self.incarnation)
		rrefs_withdraw(agent->references.machine, &passed.fork);
	else
		status = error_set(TDR_EINVAL, "agent '%s' did not write this reference: worker %u did", agent->name,
		                   passed.fork.worker);
	references_unlock(agent);
	return status;
}

/* ---- reading ---- */

tdr_status tdr_rref_deserialize(tdr_agent *agent, const tdr_rref_parts *parts, tdr_rref **ret_rref)
{
	struct reference *reference;
	struct rref_passed passed;
	struct peer *parent;
	tdr_status status;

	if (forked(agent->fork_generation))
		return error_set(TDR_EFORKED, "agent '%s' belongs to the parent process", agent->name);
	status = passed_of(parts, &passed);
	if (status == TDR_OK) { /* says so better than that nobody is known yet */
		status = references_lock(agent);
		if (status == TDR_OK)
			references_unlock(agent);
	}
	if (status != TDR_OK)
		return status;
	parent = agent_peer_by_incarnation(agent, passed.fork.worker, passed.fork.incarnation);
	if (!parent)
		return error_set(
		    TDR_ENOTFOUND,
		    "the reference was written by worker %u, of a process that agent '%s' has never known: "
		    "it is of another group, or left before '%s' joined",
		    passed.fork.worker, agent->name, agent->name);
	status = link_check(parent->link); /* it says why, and sooner than the machine knows */
	if (status == TDR_OK)
		status = references_take(parent, &passed, &reference);
	if (status != TDR_OK)
		return error_prefix(status, "a reference written by worker '%s'", link_peer(parent->link)->name);
	*ret_rref = &reference->head;
	return TDR_OK;
}
