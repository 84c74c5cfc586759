/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References of ours, and the forks that count who uses them. A reference is released when it has neither a handle here nor a fork
 * anywhere. It is shared, that is: known to others, while it has forks, or while it is expected.
 */
#include "rref/machine_internal.h"

#include "base/error.h"

#include <assert.h>
#include <stdlib.h>

static const char *const state_names[] = {
#define OWNED_STATE_NAME(name, text) [name] = text,
    OWNED_STATE_LIST(OWNED_STATE_NAME)
#undef OWNED_STATE_NAME
};

const char *owned_state_name(enum owned_state state)
{
	return state_names[state];
}

struct rref_owned *owned_find(const struct rrefs *machine, const struct rref_id *rref)
{
	uint64_t hash = rref_id_hash(rref);

	for (struct map_node *node = map_first(&machine->owned, hash); node; node = node->next) {
		struct rref_owned *owned = container_of(node, struct rref_owned, node);

		if (node->hash == hash && rref_id_equal(&owned->rref, rref))
			return owned;
	}
	return NULL;
}

struct rref_fork *fork_find(const struct rrefs *machine, const struct rref_id *fork)
{
	uint64_t hash = rref_id_hash(fork);

	for (struct map_node *node = map_first(&machine->forks, hash); node; node = node->next) {
		struct rref_fork *found = container_of(node, struct rref_fork, node);

		if (node->hash == hash && rref_id_equal(&found->fork, fork))
			return found;
	}
	return NULL;
}

/* ---- references ---- */

static tdr_status owned_init(struct rrefs *machine, struct rref_owned *owned, const struct rref_id *rref,
                             uint64_t origin, enum owned_state state)
{
	if (!map_add(&machine->owned, &owned->node, rref_id_hash(rref)))
		return error_nomem();
	owned->machine = machine;
	owned->rref = *rref;
	owned->origin = origin;
	owned->state = state;
	owned->handles = 1;
	list_init(&owned->forks);
	list_init(&owned->of_expecting);
	list_init(&owned->of_shared);
	return TDR_OK;
}

/* Puts it on the list of those that others know of, or takes it off. */
static void update_shared(struct rref_owned *owned)
{
	struct rrefs *machine = owned->machine;
	bool shared = !list_empty(&owned->forks) || owned->state == OWNED_EXPECTED;

	if (shared == !list_empty(&owned->of_shared))
		return;
	if (shared) {
		list_append(&machine->shared, &owned->of_shared);
		machine->nshared++;
	} else {
		list_remove(&owned->of_shared);
		machine->nshared--;
	}
}

static void set_state(struct rref_owned *owned, enum owned_state state)
{
	assert(owned->state < OWNED_READY && state > owned->state);
	owned->state = state;
	list_remove(&owned->of_expecting);
	update_shared(owned);
}

void owned_forget(struct rref_owned *owned)
{
	struct rrefs *machine = owned->machine;

	assert(list_empty(&owned->forks));
	list_remove(&owned->of_expecting);
	if (!list_empty(&owned->of_shared)) {
		list_remove(&owned->of_shared);
		machine->nshared--;
	}
	map_remove(&machine->owned, &owned->node);
	machine->events->owned_released(machine->context, owned);
}

static void release_if_unused(struct rref_owned *owned)
{
	if (owned->handles == 0 && list_empty(&owned->forks))
		owned_forget(owned);
}

tdr_status rrefs_own(struct rrefs *machine, struct rref_owned *owned, enum owned_state state)
{
	struct rref_id rref = rrefs_name(machine);

	return owned_init(machine, owned, &rref, 0, state);
}

void rrefs_owned_ref(struct rref_owned *owned)
{
	owned->handles++;
}

void rrefs_owned_unref(struct rref_owned *owned)
{
	assert(owned->handles > 0);
	owned->handles--;
	release_if_unused(owned);
}

void rrefs_owned_ready(struct rref_owned *owned)
{
	set_state(owned, OWNED_READY);
	list_for_each(node, &owned->forks) { /* the answer to the call says more */
		struct rref_fork *fork = list_entry(node, struct rref_fork, of_owned);

		if (fork->control.letter.kind == LETTER_ACCEPTED)
			control_stop(&fork->control);
	}
}

void owned_lose(struct rref_owned *owned)
{
	struct rrefs *machine = owned->machine;

	set_state(owned, OWNED_LOST);
	machine->events->lost(machine->context, owned);
	release_if_unused(owned);
}

/* The worker that creates a reference of ours, if its creation may still come; else NULL. */
static struct rref_peer *awaited_creator(const struct rrefs *machine, const struct rref_id *rref, uint64_t origin)
{
	struct rref_peer *creator;

	if (origin == 0 || rref->incarnation == machine->incarnation)
		return NULL;
	creator = machine->events->find_peer(machine->context, rref->worker, rref->incarnation);
	return creator && !creator->gone && !window_has(&creator->seen, origin) ? creator : NULL;
}

/* A reference of ours whose making another worker has asked for; with one handle. */
static tdr_status owned_make(struct rrefs *machine, const struct rref_id *rref, uint64_t origin, enum owned_state state,
                             struct rref_owned **ret_owned)
{
	struct rref_owned *owned = machine->events->owned_new(machine->context);
	tdr_status status = owned ? owned_init(machine, owned, rref, origin, state) : error_nomem();

	if (status == TDR_OK)
		*ret_owned = owned;
	else if (owned)
		machine->events->owned_released(machine->context, owned);
	return status;
}

tdr_status rrefs_find(struct rrefs *machine, const struct rref_id *rref, uint64_t origin, struct rref_owned **ret_owned)
{
	struct rref_owned *owned = owned_find(machine, rref);
	struct rref_peer *creator;
	tdr_status status;

	if (owned) {
		owned->handles++;
		*ret_owned = owned;
		return TDR_OK;
	}
	creator = awaited_creator(machine, rref, origin);
	if (!creator)
		return error_set(TDR_ENOTFOUND,
		                 "the owner does not have the reference any more: those who held it have let it go, "
		                 "or are gone");
	status = owned_make(machine, rref, origin, OWNED_EXPECTED, &owned);
	if (status != TDR_OK)
		return status;
	list_append(&creator->expected, &owned->of_expecting);
	update_shared(owned);
	*ret_owned = owned;
	return TDR_OK;
}

/* ---- forks ---- */

struct rref_fork *fork_new(struct rref_owned *owned, struct rref_peer *holder, const struct rref_id *fork,
                           enum fork_state state)
{
	struct rref_fork *made = calloc(1, sizeof(*made));

	if (!made || !map_add(&owned->machine->forks, &made->node, rref_id_hash(fork))) {
		free(made);
		return NULL;
	}
	made->owned = owned;
	made->holder = holder;
	made->fork = *fork;
	made->state = state;
	control_init(&made->control);
	list_init(&made->of_owned);
	list_init(&made->of_holder);
	list_append(&owned->forks, &made->of_owned);
	list_append(holder ? &holder->forks : &owned->machine->open_forks, &made->of_holder);
	update_shared(owned);
	return made;
}

void fork_drop(struct rref_fork *fork)
{
	struct rref_owned *owned = fork->owned;

	control_stop(&fork->control);
	map_remove(&owned->machine->forks, &fork->node);
	list_remove(&fork->of_owned);
	list_remove(&fork->of_holder);
	free(fork);
	update_shared(owned);
	release_if_unused(owned);
}

void fork_withdraw(struct rref_fork *fork, bool later)
{
	struct letter letter = {.kind = LETTER_WITHDRAW, .fork = fork->fork, .number = fork->number};

	if (fork->state != FORK_SENT || control_is_active(&fork->control) || fork->holder->gone)
		return;
	if (later)
		control_post_later(&fork->control, fork->holder, &letter);
	else
		control_post(&fork->control, fork->holder, &letter, false);
}

/* ---- creation ---- */

tdr_status rrefs_create(struct rref_peer *from, const struct rref_id *rref, const struct rref_id *fork, uint64_t number,
                        struct rref_owned **ret_owned)
{
	struct rrefs *machine = from->machine;
	struct rref_owned *owned;
	struct rref_fork *counted;
	tdr_status status = TDR_OK;

	if (from->gone)
		return error_set(TDR_EWORKERGONE, "the worker that creates the reference is gone");
	if (rref->incarnation != from->incarnation || fork->incarnation != from->incarnation || number == 0)
		return error_set(TDR_EPROTO, "a reference that is not named by the worker that creates it");
	owned = owned_find(machine, rref);
	switch (window_take(&from->seen, number)) {
	case WINDOW_SEEN:
		return error_set(TDR_EEXISTS, "the reference was created, or given up, before");
	case WINDOW_REFUSED:
		return error_nomem();
	case WINDOW_NEW:
		break;
	}
	if (owned && owned->state != OWNED_EXPECTED)
		return error_set(TDR_EPROTO, "a reference with the name of another");
	if (owned) {
		owned->handles++;
		owned->origin = number; /* whatever others have said */
		set_state(owned, OWNED_PENDING);
	} else {
		status = owned_make(machine, rref, number, OWNED_PENDING, &owned);
		if (status != TDR_OK)
			return status;
	}
	counted = fork_new(owned, from, fork, FORK_COUNTED);
	if (!counted) {
		owned_lose(owned);
		rrefs_owned_unref(owned);
		return error_nomem();
	}
	control_post(&counted->control, from, &(struct letter){.kind = LETTER_ACCEPTED, .fork = *fork}, false);
	*ret_owned = owned;
	return TDR_OK;
}

/* ---- letters ---- */

static void acknowledge(struct rref_peer *to, const struct letter *letter, enum letter_verdict verdict, bool soon)
{
	answer_post(
	    to,
	    &(struct letter){.kind = LETTER_ACK, .fork = letter->fork, .of = letter->kind, .verdict = (uint8_t)verdict},
	    soon);
}

void receive_fork_request(struct rref_peer *from, const struct letter *letter)
{
	struct rrefs *machine = from->machine;
	struct rref_fork *fork = fork_find(machine, &letter->fork);
	struct rref_owned *owned;
	tdr_status status;

	switch (window_take(&from->seen, letter->number)) {
	case WINDOW_SEEN: /* it came before: whoever has deleted it since does not want to know */
		acknowledge(from, letter, fork && fork->holder == from ? VERDICT_DONE : VERDICT_UNKNOWN, true);
		return;
	case WINDOW_REFUSED:
		return; /* it will be sent again */
	case WINDOW_NEW:
		break;
	}
	status = fork ? TDR_EEXISTS : rrefs_find(machine, &letter->rref, letter->origin, &owned);
	if (status == TDR_OK) {
		if (!fork_new(owned, from, &letter->fork, FORK_COUNTED))
			status = error_nomem();
		rrefs_owned_unref(owned);
	}
	acknowledge(from, letter, status == TDR_OK ? VERDICT_DONE : VERDICT_UNKNOWN, true);
}

void receive_user_delete(struct rref_peer *from, const struct letter *letter)
{
	struct rrefs *machine = from->machine;
	struct rref_fork *fork = fork_find(machine, &letter->fork);
	struct rref_owned *owned = owned_find(machine, &letter->rref);

	/* What asked for the fork may still be on its way, and must find that its time is over. */
	if (letter->number > 0 && window_take(&from->seen, letter->number) == WINDOW_REFUSED)
		return;
	if (owned && owned->state == OWNED_EXPECTED && owned->origin == letter->number &&
	    owned->rref.incarnation == from->incarnation)
		owned_lose(owned);
	if (fork && fork->holder == from)
		fork_drop(fork);
	acknowledge(from, letter, VERDICT_DONE, false);
}
