/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References in messages. Writing one makes a fork for the receiver, reading one takes it up; what was made for a message that
 * does not arrive is withdrawn, by the names that the cargo keeps.
 */
#include "agent/references.h"

#include "base/error.h"

#include <stdlib.h>

void cargo_init(struct cargo *cargo, struct peer *peer)
{
	*cargo = (struct cargo){.peer = peer};
}

void cargo_fini(struct cargo *cargo)
{
	for (size_t i = 0; cargo->settling && i < cargo->count; i++)
		tdr_future_unref(cargo->settling[i]);
	free(cargo->settling);
	free(cargo->forks);
	*cargo = (struct cargo){0};
}

/* Room for one more item of `size` in an array of the cargo's; NULL when there is none. */
static void *make_room(struct cargo *cargo, void *items, size_t size)
{
	size_t room = MAX_OF(cargo->room * 2, (size_t)4);
	void *more;

	if (cargo->count < cargo->room)
		return items;
	more = realloc(items, room * size);
	if (more)
		cargo->room = room;
	return more;
}

/* ---- out ---- */

static tdr_status pass(struct reference *reference, struct peer *to, struct rref_passed *ret_passed)
{
	tdr_status status;

	if (reference->agent != to->agent)
		return error_set(
		    TDR_EINVAL,
		    "a reference of agent '%s' cannot be passed on by agent '%s': fetch its value, or hand it "
		    "over by a call",
		    reference->agent->name, to->agent->name);
	status = reference_check(reference, "fork an UserRRef");
	if (status == TDR_OK)
		status = references_lock(to->agent);
	if (status != TDR_OK)
		return status;
	rrefs_peer_connected(references_peer(to), link_epoch(to->link));
	if (reference->role == ROLE_OWNER)
		status = rrefs_pass_owned(&reference->owned->owned, &to->rrefs, ret_passed);
	else
		status = rrefs_pass_user(&reference->user, &to->rrefs, ret_passed);
	references_unlock(to->agent);
	return status;
}

static tdr_status encode_rref(void *context, tdr_rref *rref, uint8_t ret_bytes[RREF_WIRE_MAX], size_t *ret_size)
{
	struct cargo *cargo = context;
	struct rref_id *forks = make_room(cargo, cargo->forks, sizeof(*forks));
	struct rref_passed passed;
	tdr_status status;

	if (!forks)
		return error_nomem();
	cargo->forks = forks;
	if (forked(rref->fork_generation))
		return error_set(TDR_EFORKED, "the reference belongs to the parent process");
	status = pass(reference_of(rref), cargo->peer, &passed);
	if (status != TDR_OK)
		return status;
	cargo->forks[cargo->count++] = passed.fork;
	*ret_size = rref_passed_write(&passed, ret_bytes);
	return TDR_OK;
}

void cargo_withdraw(struct cargo *cargo)
{
	tdr_agent *agent = cargo->count > 0 ? cargo->peer->agent : NULL;

	if (!agent || references_lock(agent) != TDR_OK)
		return;
	for (size_t i = 0; i < cargo->count; i++)
		rrefs_withdraw(agent->references.machine, &cargo->forks[i]);
	cargo->count = 0;
	references_unlock(agent);
}

/* ---- in ---- */

/* One of ours, come back. */
static tdr_status receive_owned(struct peer *from, const struct rref_passed *passed, struct reference **ret_reference)
{
	tdr_agent *agent = from->agent;
	struct rref_owned *owned;
	tdr_status status = references_lock(agent);

	if (status != TDR_OK)
		return status;
	status = rrefs_receive_owned(references_peer(from), passed, &owned);
	if (status == TDR_OK)
		refcount_get(&owned_value_of(owned)->memory);
	references_unlock(agent);
	if (status == TDR_ENOTFOUND)
		*ret_reference = reference_failed(agent, status, tdr_last_error());
	else if (status == TDR_OK)
		*ret_reference = reference_to(agent, owned_value_of(owned));
	else
		return status;
	return *ret_reference ? TDR_OK : error_nomem();
}

static tdr_status receive_user(struct peer *from, const struct rref_passed *passed, struct reference **ret_reference)
{
	tdr_agent *agent = from->agent;
	struct peer *owner = agent_peer_by_incarnation(agent, passed->owner_worker, passed->owner_incarnation);
	struct reference *reference;
	bool gone;
	tdr_status status;

	if (!owner)
		return error_set(TDR_ENOWORKER, "a reference whose owner (id %u) is no member of the group",
		                 passed->owner_worker);
	reference = reference_new(agent, ROLE_USER);
	if (!reference)
		return error_nomem();
	status = references_lock(agent);
	if (status == TDR_OK) {
		status = rrefs_receive_user(references_peer(from), passed, references_peer(owner), &reference->user);
		gone = status == TDR_OK && reference->user.state == USER_FAILED;
		references_unlock(agent);
	}
	if (status != TDR_OK) {
		reference->role = ROLE_NONE; /* the machine does not know it */
		reference_drop_memory(reference);
		tdr_rref_unref(&reference->head);
		return status;
	}
	if (gone) {
		refcount_get(&reference->memory);
		reference_settled(reference);
	}
	*ret_reference = reference;
	return TDR_OK;
}

tdr_status references_take(struct peer *from, const struct rref_passed *passed, struct reference **ret_reference)
{
	if (passed->owner_incarnation == from->agent->self.incarnation)
		return receive_owned(from, passed, ret_reference);
	return receive_user(from, passed, ret_reference);
}

static tdr_status decode_rref(void *context, const uint8_t *bytes, size_t size, tdr_rref **ret_rref)
{
	struct cargo *cargo = context;
	tdr_future **settling = make_room(cargo, cargo->settling, sizeof(*settling));
	struct reference *reference;
	struct rref_passed passed;
	tdr_status status = settling ? rref_passed_read(bytes, size, &passed) : error_nomem();

	if (settling)
		cargo->settling = settling;
	if (status == TDR_OK && passed.number == 0) /* as in tdr_rref_parts, which travel by other ways */
		status = error_set(TDR_EPROTO, "it is not numbered, as all that messages carry are");
	if (status == TDR_OK)
		status = references_take(cargo->peer, &passed, &reference);
	if (status != TDR_OK) {
		cargo->failed = true;
		return error_prefix(status, "a reference from worker '%s'", link_peer(cargo->peer->link)->name);
	}
	if (!reference_is_settled(reference, &cargo->settling[cargo->count]))
		cargo->count++;
	*ret_rref = &reference->head;
	return TDR_OK;
}

static const struct codec_rrefs hooks = {.encode = encode_rref, .decode = decode_rref};

void cargo_out(struct cargo *cargo, struct encoder *encoder)
{
	encoder->rrefs = &hooks;
	encoder->rrefs_context = cargo;
}

void cargo_in(struct cargo *cargo, struct decoder *decoder)
{
	decoder->rrefs = &hooks;
	decoder->rrefs_context = cargo;
}
