/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users: our uses of others' references. A user that is let go of is deleted, that is: its owner is told and has answered, as
 * soon as it is settled and all that was passed on from it has been accepted. `set_state` is the only place that changes the state.
 */
#include "rref/machine_internal.h"

#include "base/error.h"

#include <assert.h>

static const char *const state_names[] = {
#define USER_STATE_NAME(name, text) [name] = text,
    USER_STATE_LIST(USER_STATE_NAME)
#undef USER_STATE_NAME
};

const char *user_state_name(enum user_state state)
{
	return state_names[state];
}

static void set_state(struct rref_user *user, enum user_state state)
{
	struct rrefs *machine = user->owner->machine;
	bool was_settled = rrefs_user_is_settled(user);

	assert(user->state < USER_DELETING || state == USER_DELETED);
	user->state = state;
	user->confirmed = user->confirmed || state == USER_CONFIRMED;
	user->failed = user->failed || state == USER_FAILED;
	if (!was_settled && rrefs_user_is_settled(user))
		machine->npending--;
}

struct rref_user *user_find(const struct rrefs *machine, const struct rref_id *fork)
{
	uint64_t hash = rref_id_hash(fork);

	for (struct map_node *node = map_first(&machine->users, hash); node; node = node->next) {
		struct rref_user *user = container_of(node, struct rref_user, node);

		if (node->hash == hash && rref_id_equal(&user->fork, fork))
			return user;
	}
	return NULL;
}

tdr_status user_init(struct rref_user *user, struct rref_peer *owner, const struct rref_id *rref,
                     const struct rref_id *fork, enum user_state state)
{
	struct rrefs *machine = owner->machine;

	if (!map_add(&machine->users, &user->node, rref_id_hash(fork)))
		return error_nomem();
	user->owner = owner;
	user->rref = *rref;
	user->fork = *fork;
	user->origin = user->number = 0;
	user->state = state;
	user->written = (struct rref_id){0};
	user->noted = false;
	user->counted = !owner->gone;
	user->confirmed = state == USER_CONFIRMED;
	user->failed = state == USER_FAILED;
	user->let_go = machine->closing;
	user->handles = 1;
	user->children = 0;
	user->acceptance = NULL;
	control_init(&user->control);
	list_init(&user->of_owner);
	list_append(&owner->users, &user->of_owner);
	machine->npending += !rrefs_user_is_settled(user);
	return TDR_OK;
}

/* ---- the end of a user ---- */

void user_forget(struct rref_user *user)
{
	struct rrefs *machine = user->owner->machine;

	control_stop(&user->control);
	acceptance_free(TAKE_PTR(user->acceptance));
	machine->npending -= !rrefs_user_is_settled(user);
	map_remove(&machine->users, &user->node);
	reading_forget(user);
	list_remove(&user->of_owner);
	user->state = USER_DELETED;
	machine->events->user_released(machine->context, user);
}

static void release_if_done(struct rref_user *user)
{
	if (user->state == USER_DELETED && user->handles == 0 && user->children == 0)
		user_forget(user);
}

/* Deletes it if the time has come; its memory may be gone afterwards. */
static void delete_if_free(struct rref_user *user)
{
	if ((user->handles > 0 && !user->let_go) || user->children > 0 || !rrefs_user_is_settled(user))
		return;
	if (user->state < USER_DELETING) {
		if (user->counted && !user->owner->gone) {
			set_state(user, USER_DELETING);
			control_post(&user->control, user->owner,
			             &(struct letter){.kind = LETTER_USER_DELETE,
			                              .rref = user->rref,
			                              .fork = user->fork,
			                              .number = user->number},
			             false);
		} else {
			set_state(user, USER_DELETED);
		}
	}
	release_if_done(user);
}

void rrefs_user_ref(struct rref_user *user)
{
	user->handles++;
}

void rrefs_user_unref(struct rref_user *user)
{
	assert(user->handles > 0);
	user->handles--;
	delete_if_free(user);
}

void user_let_go(struct rref_user *user)
{
	user->let_go = true;
	delete_if_free(user);
}

void user_child_gone(struct rref_user *user)
{
	assert(user->children > 0);
	user->children--;
	delete_if_free(user);
}

/* ---- being settled ---- */

void user_settle(struct rref_user *user, enum user_state state)
{
	struct rrefs *machine = user->owner->machine;

	set_state(user, state);
	if (user->acceptance)
		acceptance_post(TAKE_PTR(user->acceptance));
	machine->events->settled(machine->context, user);
	delete_if_free(user);
}

tdr_status rrefs_user_create(struct rref_peer *owner, struct rref_user *user)
{
	struct rref_id rref = rrefs_name(owner->machine), fork = rrefs_name(owner->machine);
	tdr_status status = user_init(user, owner, &rref, &fork, USER_CREATING);

	if (status == TDR_OK)
		user->number = user->origin = ++owner->last_number;
	return status;
}

void rrefs_user_created(struct rref_user *user, bool success)
{
	if (user->state == USER_CREATING)
		user_settle(user, success ? USER_CONFIRMED : USER_FAILED);
	else if (user->state == USER_ACCEPTED && success)
		set_state(user, USER_CONFIRMED);
}

void user_owner_gone(struct rref_user *user)
{
	control_stop(&user->control);
	user->counted = false;
	if (user->state < USER_FAILED) {
		user_settle(user, USER_FAILED);
	} else if (user->state == USER_DELETING) {
		set_state(user, USER_DELETED);
		release_if_done(user);
	}
}

void user_request_given_up(struct rref_user *user)
{
	control_stop(&user->control);
	user_settle(user, USER_FAILED);
}

/* ---- letters ---- */

/* The user that a letter of its owner's is about, in the state that it is for. */
static struct rref_user *addressee(const struct rref_peer *from, const struct letter *letter, enum user_state state)
{
	struct rref_user *user = user_find(from->machine, &letter->fork);

	return user && user->owner == from && user->state == state ? user : NULL;
}

void receive_accepted(struct rref_peer *from, const struct letter *letter)
{
	struct rref_user *user = addressee(from, letter, USER_CREATING);

	if (user)
		user_settle(user, USER_ACCEPTED);
}

void receive_fork_ack(struct rref_peer *from, const struct letter *letter)
{
	struct rref_user *user = addressee(from, letter, USER_ASKING);

	if (!user)
		return;
	control_stop(&user->control);
	user->counted = letter->verdict == VERDICT_DONE;
	user_settle(user, user->counted ? USER_CONFIRMED : USER_FAILED);
}

void receive_delete_ack(struct rref_peer *from, const struct letter *letter)
{
	struct rref_user *user = addressee(from, letter, USER_DELETING);

	if (!user)
		return;
	control_stop(&user->control);
	set_state(user, USER_DELETED);
	release_if_done(user);
}
