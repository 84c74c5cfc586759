/* SPDX-License-Identifier: Apache-2.0 */
/* The public functions of references: tendril/rref.h. */
#include "agent/outgoing.h"
#include "agent/references.h"

#include "base/error.h"
#include "base/fork.h"

#include <stdio.h>

/* ---- making ---- */

/* The reference that a call creates on `peer`, in its first state; with what the call has to carry. */
static struct reference *create_on(tdr_agent *agent, struct peer *peer, struct creation *ret_creation)
{
	struct reference *reference;
	struct owned_value *owned;
	tdr_status status;

	if (link_peer(peer->link)->incarnation == agent->self.incarnation) {
		status = owned_value_new(agent, NULL, &owned);
		reference = status == TDR_OK ? reference_to(agent, owned) : NULL;
		if (reference)
			*ret_creation = (struct creation){.rref = owned->owned.rref};
		return reference;
	}
	status = references_lock(agent);
	if (status != TDR_OK)
		return NULL;
	reference = reference_new(agent, ROLE_USER);
	if (!reference) {
		references_unlock(agent);
		error_nomem();
		return NULL;
	}
	status = rrefs_user_create(references_peer(peer), &reference->user);
	*ret_creation = (struct creation){
	    .rref = reference->user.rref, .fork = reference->user.fork, .number = reference->user.number};
	references_unlock(agent);
	if (status == TDR_OK)
		return reference;
	reference->role = ROLE_NONE;
	reference_drop_memory(reference);
	tdr_rref_unref(&reference->head);
	return NULL;
}

/* Makes the call that creates what a reference stands for. */
static tdr_rref *remote(tdr_agent *agent, struct peer *peer, struct issue *issue)
{
	struct reference *reference = create_on(agent, peer, &issue->creation);

	if (!reference)
		return NULL;
	reference->created = tdr_future_new(agent->engine);
	if (!reference->created) {
		reference_created(reference, error_nomem(), tdr_last_error());
		tdr_rref_unref(&reference->head);
		return NULL;
	}
	issue->type = MESSAGE_REMOTE_CALL;
	issue->options.flags |= TDR_RPC_LOCAL_TIMEOUT;
	issue->peer = peer;
	issue->creates = reference;
	issue_run(agent, issue, reference->created);
	return &reference->head;
}

tdr_rref *tdr_remote_with(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                          tdr_value *kwargs, const tdr_rpc_options *options)
{
	struct issue issue;
	struct peer *peer;
	tdr_rref *rref = NULL;
	tdr_status status;

	if (forked(agent->fork_generation)) {
		error_set(TDR_EFORKED, "agent '%s' belongs to the parent process", agent->name);
	} else {
		status = issue_init(&issue, agent, function, &args, &kwargs, options);
		if (status == TDR_OK)
			status = agent_find_peer(agent, worker, &peer);
		if (status == TDR_OK) {
			rref = remote(agent, peer, &issue);
		} else {
			struct reference *reference = reference_failed(agent, status, tdr_last_error());

			rref = reference ? &reference->head : NULL;
		}
	}
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
	return rref;
}

tdr_rref *tdr_remote(tdr_agent *agent, const char *worker, const char *function, tdr_value *args, tdr_value *kwargs)
{
	return tdr_remote_with(agent, worker, function, args, kwargs, NULL);
}

tdr_rref *tdr_rref_new(tdr_agent *agent, tdr_value *value)
{
	struct reference *reference;
	struct owned_value *owned;
	tdr_status status = TDR_OK;

	if (forked(agent->fork_generation))
		status = error_set(TDR_EFORKED, "agent '%s' belongs to the parent process", agent->name);
	else if (!value)
		status = error_set(TDR_EINVAL, "NULL was given where a value is wanted (use tdr_none)");
	else
		status = tdr_value_status(value);
	if (status != TDR_OK) {
		tdr_value_unref(value);
		return NULL;
	}
	if (owned_value_new(agent, value, &owned) != TDR_OK)
		return NULL;
	reference = reference_to(agent, owned);
	if (!reference)
		error_nomem();
	return reference ? &reference->head : NULL;
}

/* ---- calls on the value ---- */

/* A call to a reference's owner, on its value, for `what` ("to_here()"). On failure `issue` is of no use. */
static tdr_status aim(struct reference *reference, const char *what, const char *function, tdr_value **args,
                      tdr_value **kwargs, const tdr_rpc_options *options, struct issue *issue)
{
	tdr_agent *agent = reference->agent;
	tdr_status status = reference_check(reference, what); /* says more than that the agent has been shut down */

	if (status == TDR_OK)
		status = issue_init(issue, agent, function, args, kwargs, options);
	if (status != TDR_OK)
		return status;
	issue->target = reference;
	if (reference->role == ROLE_OWNER) {
		issue->peer = agent_peer_by_incarnation(agent, agent->self.id, agent->self.incarnation);
		issue->aim = (struct target){.rref = reference->owned->owned.rref};
	} else {
		issue->peer = peer_of(reference->user.owner);
		issue->aim = (struct target){.rref = reference->user.rref, .origin = reference->user.origin};
	}
	return TDR_OK;
}

static tdr_future *failed_future(tdr_agent *agent, tdr_status status)
{
	tdr_future *future = tdr_future_new(agent->engine);

	if (future)
		future_complete(future, status, NULL, tdr_last_error(), NULL);
	return future;
}

tdr_future *tdr_rref_rpc_async_with(tdr_rref *rref, const char *function, tdr_value *args, tdr_value *kwargs,
                                    const tdr_rpc_options *options)
{
	struct reference *reference = reference_of(rref);
	tdr_agent *agent = reference->agent;
	tdr_future *future = NULL;
	struct issue issue;
	tdr_status status;

	if (forked(rref->fork_generation)) {
		error_set(TDR_EFORKED, "the reference belongs to the parent process");
	} else {
		status = aim(reference, "a function", function, &args, &kwargs, options, &issue);
		future = status == TDR_OK ? tdr_future_new(agent->engine) : failed_future(agent, status);
		if (status == TDR_OK && future)
			issue_run(agent, &issue, future);
	}
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
	return future;
}

tdr_future *tdr_rref_rpc_async(tdr_rref *rref, const char *function, tdr_value *args, tdr_value *kwargs)
{
	return tdr_rref_rpc_async_with(rref, function, args, kwargs, NULL);
}

/* Waits for a future, given away, that the caller alone has. */
static tdr_status wait_for(tdr_rref *rref, tdr_future *future, tdr_value **ret_value)
{
	tdr_status status;

	if (!future)
		return forked(rref->fork_generation) ? TDR_EFORKED : error_nomem();
	status = tdr_future_wait(future, TDR_TIMEOUT_NEVER, ret_value);
	tdr_future_unref(future);
	return status;
}

tdr_status tdr_rref_rpc_sync_with(tdr_rref *rref, const char *function, tdr_value *args, tdr_value *kwargs,
                                  const tdr_rpc_options *options, tdr_value **ret_value)
{
	return wait_for(rref, tdr_rref_rpc_async_with(rref, function, args, kwargs, options), ret_value);
}

tdr_status tdr_rref_rpc_sync(tdr_rref *rref, const char *function, tdr_value *args, tdr_value *kwargs,
                             tdr_value **ret_value)
{
	return tdr_rref_rpc_sync_with(rref, function, args, kwargs, NULL, ret_value);
}

tdr_rref *tdr_rref_remote_with(tdr_rref *rref, const char *function, tdr_value *args, tdr_value *kwargs,
                               const tdr_rpc_options *options)
{
	struct reference *reference = reference_of(rref), *made;
	tdr_agent *agent = reference->agent;
	tdr_rref *result = NULL;
	struct issue issue;
	tdr_status status;

	if (forked(rref->fork_generation)) {
		error_set(TDR_EFORKED, "the reference belongs to the parent process");
	} else {
		status = aim(reference, "a function", function, &args, &kwargs, options, &issue);
		if (status == TDR_OK)
			result = remote(agent, issue.peer, &issue);
		else if ((made = reference_failed(agent, status, tdr_last_error())))
			result = &made->head;
	}
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
	return result;
}

tdr_rref *tdr_rref_remote(tdr_rref *rref, const char *function, tdr_value *args, tdr_value *kwargs)
{
	return tdr_rref_remote_with(rref, function, args, kwargs, NULL);
}

/* ---- the value ---- */

tdr_future *tdr_rref_fetch(tdr_rref *rref, int64_t timeout_ms)
{
	struct reference *reference = reference_of(rref);
	tdr_agent *agent = reference->agent;
	tdr_value *args = NULL, *kwargs = NULL;
	tdr_rpc_options options;
	struct issue issue;
	tdr_future *future;
	tdr_status status;

	if (forked(rref->fork_generation)) {
		error_set(TDR_EFORKED, "the reference belongs to the parent process");
		return NULL;
	}
	if (reference->role == ROLE_OWNER)
		return owned_value_fetch(agent, reference->owned, timeout_ms);
	tdr_rpc_options_init(&options);
	options.timeout_ms = timeout_ms;
	status = aim(reference, "to_here()", FETCH_FUNCTION, &args, &kwargs, &options, &issue);
	if (status != TDR_OK)
		return failed_future(agent, status);
	issue.type = MESSAGE_FETCH;
	future = tdr_future_new(agent->engine);
	if (future)
		issue_run(agent, &issue, future);
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
	return future;
}

tdr_status tdr_rref_to_here(tdr_rref *rref, int64_t timeout_ms, tdr_value **ret_value)
{
	if (reference_of(rref)->role == ROLE_OWNER)
		return tdr_rref_local_value(rref, timeout_ms, ret_value);
	return wait_for(rref, tdr_rref_fetch(rref, timeout_ms), ret_value);
}

tdr_status tdr_rref_local_value(tdr_rref *rref, int64_t timeout_ms, tdr_value **ret_value)
{
	struct reference *reference = reference_of(rref);
	char text[RREF_TEXT_SIZE];
	const struct identity *owner;

	if (forked(rref->fork_generation))
		return error_set(TDR_EFORKED, "the reference belongs to the parent process");
	if (reference->role == ROLE_NONE)
		return reference_check(reference, "local_value()");
	if (reference->role == ROLE_OWNER)
		return tdr_future_wait(reference->owned->value, timeout_ms, ret_value);
	tdr_rref_print(rref, text, sizeof(text));
	owner = link_peer(peer_of(reference->user.owner)->link);
	return error_set(TDR_ESTATE,
	                 "For %s, can't call localValue() on user WorkerInfo(id=%u, name=%s). Call it on owner "
	                 "WorkerInfo(id=%u, name=%s)",
	                 text, reference->agent->self.id, reference->agent->name, owner->id, owner->name);
}

/* ---- the owner ---- */

bool tdr_rref_is_owner(const tdr_rref *rref)
{
	return reference_of((tdr_rref *)rref)->role == ROLE_OWNER;
}

tdr_worker tdr_rref_owner(const tdr_rref *rref)
{
	const struct reference *reference = reference_of((tdr_rref *)rref);
	const struct identity *owner;

	switch (reference->role) {
	case ROLE_OWNER:
		return tdr_agent_worker(reference->agent);
	case ROLE_USER:
		owner = link_peer(peer_of(reference->user.owner)->link);
		return (tdr_worker){.name = owner->name, .id = owner->id, .incarnation = owner->incarnation};
	case ROLE_NONE:
		break;
	}
	return (tdr_worker){.name = "", .id = UINT32_MAX};
}

const char *tdr_rref_owner_name(const tdr_rref *rref)
{
	return tdr_rref_owner(rref).name;
}

bool tdr_rref_confirmed_by_owner(const tdr_rref *rref)
{
	struct reference *reference = reference_of((tdr_rref *)rref);
	bool confirmed;

	if (reference->role != ROLE_USER || forked(rref->fork_generation))
		return reference->role == ROLE_OWNER;
	pthread_mutex_lock(&reference->agent->references.lock);
	confirmed = reference->user.confirmed;
	pthread_mutex_unlock(&reference->agent->references.lock);
	return confirmed;
}

tdr_status tdr_rref_wait_confirmed(tdr_rref *rref, int64_t timeout_ms)
{
	struct reference *reference = reference_of(rref);
	tdr_future *settled = NULL;
	tdr_status status;

	if (forked(rref->fork_generation))
		return error_set(TDR_EFORKED, "the reference belongs to the parent process");
	if (reference_is_settled(reference, &settled))
		return reference_failure(reference);
	status = tdr_future_wait(settled, timeout_ms, NULL);
	tdr_future_unref(settled);
	return status;
}

tdr_future *tdr_rref_future(tdr_rref *rref)
{
	struct reference *reference = reference_of(rref);

	if (forked(rref->fork_generation)) {
		error_set(TDR_EFORKED, "the reference belongs to the parent process");
		return NULL;
	}
	if (reference->created)
		return tdr_future_ref(reference->created);
	if (reference->role == ROLE_NONE)
		return failed_future(reference->agent, reference_check(reference, "a future"));
	return failed_future(
	    reference->agent,
	    error_set(TDR_ESTATE, "the reference was not made by tdr_remote here: it has no future of its creation"));
}

/* ---- identity ---- */

bool tdr_rref_equal(const tdr_rref *a, const tdr_rref *b)
{
	return a->ops->equal(a, b);
}

size_t tdr_rref_print(const tdr_rref *rref, char *buffer, size_t size)
{
	return (size_t)rref->ops->print(rref, buffer, size);
}
