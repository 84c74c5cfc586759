/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passing references on. The owner that passes its own counts the new fork at once, as sent; a user that does keeps itself
 * counted until its child, the receiver's user, has been accepted. What may not have come, because the message that carried it
 * failed or the connection broke, is withdrawn: the receiver says that it has come, or will never take it. What is written for
 * whoever reads it (open.c) goes the same way, but for this: nobody asks whether it came.
 */
#include "rref/machine_internal.h"

#include "base/error.h"

#include <assert.h>
#include <stdlib.h>

/* ---- acceptances ---- */

struct rref_acceptance *acceptance_new(struct rref_peer *parent, const struct rref_id *fork)
{
	struct rref_acceptance *acceptance = calloc(1, sizeof(*acceptance));

	if (!acceptance || !map_add(&parent->machine->acceptances, &acceptance->node, rref_id_hash(fork))) {
		free(acceptance);
		return NULL;
	}
	control_init(&acceptance->control);
	acceptance->parent = parent;
	acceptance->fork = *fork;
	return acceptance;
}

void acceptance_free(struct rref_acceptance *acceptance)
{
	if (!acceptance)
		return;
	control_stop(&acceptance->control);
	map_remove(&acceptance->parent->machine->acceptances, &acceptance->node);
	free(acceptance);
}

void acceptance_post(struct rref_acceptance *acceptance)
{
	if (acceptance->parent->gone)
		acceptance_free(acceptance);
	else
		control_post(&acceptance->control, acceptance->parent,
		             &(struct letter){.kind = LETTER_CHILD_ACCEPT, .fork = acceptance->fork}, false);
}

struct rref_acceptance *acceptance_find(const struct rrefs *machine, const struct rref_id *fork)
{
	uint64_t hash = rref_id_hash(fork);

	for (struct map_node *node = map_first(&machine->acceptances, hash); node; node = node->next) {
		struct rref_acceptance *acceptance = container_of(node, struct rref_acceptance, node);

		if (node->hash == hash && rref_id_equal(&acceptance->fork, fork))
			return acceptance;
	}
	return NULL;
}

/* ---- children ---- */

struct rref_child *child_find(const struct rrefs *machine, const struct rref_id *fork)
{
	uint64_t hash = rref_id_hash(fork);

	for (struct map_node *node = map_first(&machine->children, hash); node; node = node->next) {
		struct rref_child *child = container_of(node, struct rref_child, node);

		if (node->hash == hash && rref_id_equal(&child->fork, fork))
			return child;
	}
	return NULL;
}

/* `to` NULL: an open one. */
static struct rref_child *child_new(struct rref_user *user, struct rref_peer *to, const struct rref_id *fork)
{
	struct rrefs *machine = user->owner->machine;
	struct rref_child *child = calloc(1, sizeof(*child));

	if (!child || !map_add(&machine->children, &child->node, rref_id_hash(fork))) {
		free(child);
		return NULL;
	}
	control_init(&child->control);
	child->machine = machine;
	child->user = user;
	child->to = to;
	child->fork = *fork;
	list_append(to ? &to->children : &machine->open_children, &child->of_peer);
	user->children++;
	return child;
}

void child_free(struct rref_child *child)
{
	control_stop(&child->control);
	map_remove(&child->machine->children, &child->node);
	list_remove(&child->of_peer);
	free(child);
}

void child_drop(struct rref_child *child)
{
	struct rref_user *user = child->user;

	child_free(child);
	user_child_gone(user);
}

void child_withdraw(struct rref_child *child, bool later)
{
	struct letter letter = {.kind = LETTER_WITHDRAW, .fork = child->fork, .number = child->number};

	if (control_is_active(&child->control))
		return;
	if (later)
		control_post_later(&child->control, child->to, &letter);
	else
		control_post(&child->control, child->to, &letter, false);
}

/* ---- passing on ---- */

tdr_status rrefs_pass_user(struct rref_user *user, struct rref_peer *to, struct rref_passed *ret_passed)
{
	struct rrefs *machine = user->owner->machine;
	struct rref_id fork = rrefs_name(machine);
	uint64_t number = to ? to->last_number + 1 : 0;

	if (user->let_go || user->state >= USER_FAILED)
		return error_set(TDR_ESTATE, "the reference is %s, and cannot be passed on",
		                 user->let_go ? "let go" : user_state_name(user->state));
	if (!to || !to->gone) { /* else the message will fail */
		struct rref_child *child = child_new(user, to, &fork);

		if (!child)
			return error_nomem();
		child->number = number;
		if (to)
			to->last_number = number;
	}
	*ret_passed = (struct rref_passed){
	    .rref = user->rref,
	    .fork = fork,
	    .owner_worker = user->owner->worker,
	    .owner_incarnation = user->owner->incarnation,
	    .origin = user->origin,
	    .number = number,
	};
	return TDR_OK;
}

tdr_status rrefs_pass_owned(struct rref_owned *owned, struct rref_peer *to, struct rref_passed *ret_passed)
{
	struct rrefs *machine = owned->machine;
	struct rref_id fork = rrefs_name(machine);
	uint64_t number = to ? to->last_number + 1 : 0;

	if (!to && machine->closing)
		return error_set(TDR_ESTATE, "the worker is leaving: what it writes now could not be read by anybody");
	if (!to || !to->gone) {
		struct rref_fork *made = fork_new(owned, to, &fork, to ? FORK_SENT : FORK_OPEN);

		if (!made)
			return error_nomem();
		made->number = number;
		if (to)
			to->last_number = number;
	}
	*ret_passed = (struct rref_passed){
	    .rref = owned->rref,
	    .fork = fork,
	    .owner_worker = machine->worker,
	    .owner_incarnation = machine->incarnation,
	    .origin = owned->origin,
	    .number = number,
	};
	return TDR_OK;
}

void rrefs_withdraw(struct rrefs *machine, const struct rref_id *fork)
{
	struct rref_fork *made = fork_find(machine, fork);
	struct rref_child *child = child_find(machine, fork);

	if (made && made->state == FORK_OPEN)
		fork_drop(made);
	else if (made)
		fork_withdraw(made, false);
	else if (child && !child->to)
		child_drop(child);
	else if (child)
		child_withdraw(child, false);
}

void withdraw_up_to(struct rref_peer *peer, uint64_t number)
{
	list_for_each(node, &peer->forks) {
		struct rref_fork *fork = list_entry(node, struct rref_fork, of_holder);

		if (fork->number <= number)
			fork_withdraw(fork, false);
	}
	list_for_each(node, &peer->children) {
		struct rref_child *child = list_entry(node, struct rref_child, of_peer);

		if (child->number <= number)
			child_withdraw(child, false);
	}
}

void withdraw_rest_later(struct rref_peer *peer)
{
	list_for_each(node, &peer->forks)
		fork_withdraw(list_entry(node, struct rref_fork, of_holder), true);
	list_for_each(node, &peer->children)
		child_withdraw(list_entry(node, struct rref_child, of_peer), true);
}

/* ---- receiving ---- */

static tdr_status take_number(struct rref_peer *from, const struct rref_passed *passed)
{
	if (passed->fork.incarnation != from->incarnation)
		return error_set(TDR_EPROTO, "a reference whose fork is not named by the worker that sends it");
	if (passed->number == 0)
		return open_check(from, &passed->fork);
	switch (window_take(&from->seen, passed->number)) {
	case WINDOW_SEEN:
		return error_set(TDR_EEXISTS, "the reference came before, or has been withdrawn by its sender");
	case WINDOW_REFUSED:
		return error_nomem();
	case WINDOW_NEW:
		break;
	}
	return TDR_OK;
}

tdr_status rrefs_receive_owned(struct rref_peer *from, const struct rref_passed *passed, struct rref_owned **ret_owned)
{
	struct rrefs *machine = from->machine;
	struct rref_fork *own = fork_find(machine, &passed->fork);
	struct rref_acceptance *acceptance = NULL;
	tdr_status status = take_number(from, passed);

	if (status != TDR_OK)
		return status;
	if (own && own->holder == (passed->number > 0 ? from : NULL) &&
	    from->incarnation == machine->incarnation) { /* we sent it to ourselves */
		*ret_owned = own->owned;
		own->owned->handles++;
		fork_drop(own);
		return TDR_OK;
	}
	if (!from->gone && !(acceptance = acceptance_new(from, &passed->fork)))
		return error_nomem();
	status = rrefs_find(machine, &passed->rref, passed->origin, ret_owned);
	if (acceptance)
		acceptance_post(acceptance); /* also when it has come to nothing: its parent need not wait */
	return status;
}

tdr_status rrefs_receive_user(struct rref_peer *from, const struct rref_passed *passed, struct rref_peer *owner,
                              struct rref_user *user)
{
	struct rref_acceptance *acceptance = NULL;
	tdr_status status = take_number(from, passed);
	bool open = passed->number == 0;
	struct rref_id fork;

	if (status != TDR_OK)
		return status;
	if ((open || from != owner) && !from->gone && !(acceptance = acceptance_new(from, &passed->fork)))
		return error_nomem();
	fork = open ? rrefs_name(owner->machine) : passed->fork; /* as nobody else can have it, who reads the same */
	status = user_init(user, owner, &passed->rref, &fork,
	                   owner->gone              ? USER_FAILED
	                   : from == owner && !open ? USER_CONFIRMED
	                                            : USER_ASKING);
	if (status != TDR_OK) {
		acceptance_free(acceptance);
		return status;
	}
	user->origin = passed->origin;
	if (open)
		reading_note(user, &passed->fork);
	if (user->state != USER_ASKING) {
		if (acceptance)
			acceptance_post(acceptance);
		if (user->let_go)
			user_let_go(user); /* we are leaving */
		return TDR_OK;
	}
	user->acceptance = acceptance;
	user->number = ++owner->last_number;
	control_post(&user->control, owner,
	             &(struct letter){.kind = LETTER_FORK_REQUEST,
	                              .rref = user->rref,
	                              .fork = user->fork,
	                              .number = user->number,
	                              .origin = user->origin},
	             true);
	return TDR_OK;
}

/* ---- letters ---- */

void receive_child_accept(struct rref_peer *from, const struct letter *letter)
{
	struct rref_child *child = child_find(from->machine, &letter->fork);
	struct rref_fork *fork = fork_find(from->machine, &letter->fork);

	if (child && (child->to == from || !child->to)) /* whoever can name an open one has read it */
		child_drop(child);
	else if (fork && fork->state == FORK_OPEN)
		fork_drop(fork);
	answer_post(from, &(struct letter){.kind = LETTER_ACK, .fork = letter->fork, .of = LETTER_CHILD_ACCEPT}, false);
}

void receive_withdraw(struct rref_peer *from, const struct letter *letter)
{
	const struct rrefs *machine = from->machine;
	enum letter_verdict verdict = VERDICT_DONE;

	if (window_take(&from->seen, letter->number) == WINDOW_REFUSED)
		return; /* it will be sent again */
	/* If it has come and is not here any more, then whoever asks has been told of its end before. */
	if (user_find(machine, &letter->fork) || acceptance_find(machine, &letter->fork))
		verdict = VERDICT_ARRIVED;
	answer_post(from,
	            &(struct letter){
			.kind = LETTER_ACK, .fork = letter->fork, .of = LETTER_WITHDRAW, .verdict = (uint8_t)verdict},
	            false);
}

void receive_withdraw_ack(struct rref_peer *from, const struct letter *letter)
{
	struct rref_fork *fork = fork_find(from->machine, &letter->fork);
	struct rref_child *child = child_find(from->machine, &letter->fork);

	if (fork && fork->holder == from && fork->state == FORK_SENT) {
		if (letter->verdict != VERDICT_ARRIVED) {
			fork_drop(fork);
			return;
		}
		control_stop(&fork->control);
		fork->state = FORK_COUNTED;
	} else if (child && child->to == from) {
		if (letter->verdict != VERDICT_ARRIVED)
			child_drop(child);
		else
			control_stop(&child->control); /* its acceptance is on its way */
	}
}
