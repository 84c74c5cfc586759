/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine as a whole: its peers, and where their letters go. Nothing here depends on the order of a hash table, so that the
 * same events have the same consequences in every run.
 */
#include "rref/machine_internal.h"

#include "base/error.h"

#include <stdlib.h>

struct rref_id rrefs_name(struct rrefs *machine)
{
	return (struct rref_id){
	    .incarnation = machine->incarnation, .local = machine->next_local++, .worker = machine->worker};
}

/* ---- life ---- */

struct rrefs *rrefs_new(uint32_t worker, uint64_t incarnation, const struct rrefs_events *events, void *context)
{
	struct rrefs *machine = calloc(1, sizeof(*machine));

	if (!machine)
		return NULL;
	machine->worker = worker;
	machine->incarnation = incarnation;
	machine->events = events;
	machine->context = context;
	list_init(&machine->peers);
	list_init(&machine->shared);
	list_init(&machine->later);
	list_init(&machine->open_forks);
	list_init(&machine->open_children);
	for (size_t i = 0; i < LETTER_MAX_SENDS; i++)
		list_init(&machine->waiting[i]);
	return machine;
}

void rrefs_peer_init(struct rrefs *machine, struct rref_peer *peer, uint32_t worker, uint64_t incarnation)
{
	*peer = (struct rref_peer){.machine = machine, .worker = worker, .incarnation = incarnation};
	list_append(&machine->peers, &peer->node);
	list_init(&peer->users);
	list_init(&peer->forks);
	list_init(&peer->children);
	list_init(&peer->expected);
	list_init(&peer->controls);
	list_init(&peer->outbox);
	control_init(&peer->recheck);
}

static void peer_fini(struct rref_peer *peer)
{
	window_fini(&peer->seen);
	free(TAKE_PTR(peer->answers));
	peer->nanswers = peer->answers_room = peer->answers_taken = 0;
	list_remove(&peer->node);
}

/* Acceptances belong to nobody but the letter that they are. */
static void drop_acceptances(struct rref_peer *peer)
{
	list_for_each_safe(node, &peer->controls) {
		struct control *control = list_entry(node, struct control, of_peer);

		if (control->letter.kind == LETTER_CHILD_ACCEPT)
			acceptance_free(container_of(control, struct rref_acceptance, control));
	}
}

struct rrefs *rrefs_free(struct rrefs *machine)
{
	if (!machine)
		return NULL;
	while (!list_empty(&machine->open_children))
		child_free(list_entry(machine->open_children.next, struct rref_child, of_peer));
	while (!list_empty(&machine->open_forks))
		fork_drop(list_entry(machine->open_forks.next, struct rref_fork, of_holder));
	list_for_each(node, &machine->peers) {
		struct rref_peer *peer = list_entry(node, struct rref_peer, node);

		while (!list_empty(&peer->children))
			child_free(list_entry(peer->children.next, struct rref_child, of_peer));
		while (!list_empty(&peer->users))
			user_forget(list_entry(peer->users.next, struct rref_user, of_owner));
		while (!list_empty(&peer->forks))
			fork_drop(list_entry(peer->forks.next, struct rref_fork, of_holder));
		drop_acceptances(peer);
	}
	for (struct map_node *node = map_any(&machine->owned), *next; node; node = next) {
		next = map_next(&machine->owned, node); /* in one walk: there may be very many */
		owned_forget(container_of(node, struct rref_owned, node));
	}
	while (!list_empty(&machine->peers))
		peer_fini(list_entry(machine->peers.next, struct rref_peer, node));
	map_fini(&machine->owned);
	map_fini(&machine->forks);
	map_fini(&machine->users);
	map_fini(&machine->children);
	map_fini(&machine->acceptances);
	map_fini(&machine->readings);
	free(machine);
	return NULL;
}

void rrefs_close(struct rrefs *machine)
{
	machine->closing = true;
	open_drop_all(machine);
	list_for_each(node, &machine->peers) {
		struct rref_peer *peer = list_entry(node, struct rref_peer, node);

		list_for_each_safe(of_owner, &peer->users)
			user_let_go(list_entry(of_owner, struct rref_user, of_owner));
	}
}

void rrefs_reopen(struct rrefs *machine)
{
	machine->closing = false;
}

struct rrefs_counts rrefs_counts(const struct rrefs *machine)
{
	return (struct rrefs_counts){
	    .owned = machine->nshared,
	    .forks = machine->forks.count,
	    .users = machine->users.count,
	    .pending_users = machine->npending,
	    .children = machine->children.count,
	    .controls = machine->ncontrols,
	};
}

const struct list *rrefs_shared(const struct rrefs *machine)
{
	return &machine->shared;
}

const struct list *rrefs_peers(const struct rrefs *machine)
{
	return &machine->peers;
}

/* ---- peers ---- */

void rrefs_peer_gone(struct rref_peer *peer)
{
	if (peer->gone)
		return;
	peer->gone = true;
	control_stop(&peer->recheck);
	drop_acceptances(peer);
	while (!list_empty(&peer->forks))
		fork_drop(list_entry(peer->forks.next, struct rref_fork, of_holder));
	while (!list_empty(&peer->children))
		child_drop(list_entry(peer->children.next, struct rref_child, of_peer));
	open_drop_of(peer);
	list_for_each_safe(node, &peer->users)
		user_owner_gone(list_entry(node, struct rref_user, of_owner));
	while (!list_empty(&peer->expected))
		owned_lose(list_entry(peer->expected.next, struct rref_owned, of_expecting));
	window_fini(&peer->seen);
	free(TAKE_PTR(peer->answers));
	peer->nanswers = peer->answers_room = peer->answers_taken = 0;
}

void rrefs_peer_connected(struct rref_peer *peer, uint32_t connection)
{
	if (connection == peer->connection)
		return;
	peer->connection = connection;
	peer->reconnected = true;
	peer->old_numbers = peer->last_number;
}

void rrefs_peer_broke(struct rref_peer *peer)
{
	uint64_t lost = peer->reconnected ? peer->old_numbers : peer->last_number;

	if (peer->gone)
		return;
	peer->reconnected = false;
	controls_restart(peer);
	withdraw_up_to(peer, lost);
}

void rrefs_recheck(struct rref_peer *peer)
{
	if (peer->gone)
		return;
	if (control_is_active(&peer->recheck) && !peer->recheck.given_up) {
		peer->recheck_again = true; /* the one under way may have been answered before */
		return;
	}
	control_stop(&peer->recheck);
	control_post(&peer->recheck, peer,
	             &(struct letter){
			 .kind = LETTER_RECHECK, .fork = rrefs_name(peer->machine), .number = window_last(&peer->seen)},
	             false);
}

/* Each has a name, so that a late answer to one is not taken for that to the next. */
static void receive_recheck_ack(struct rref_peer *from, const struct letter *letter)
{
	if (!control_is_active(&from->recheck) || !rref_id_equal(&from->recheck.letter.fork, &letter->fork))
		return;
	control_stop(&from->recheck);
	if (from->recheck_again) {
		from->recheck_again = false;
		rrefs_recheck(from);
	}
}

/* ---- letters ---- */

static void receive_ack(struct rref_peer *from, const struct letter *letter)
{
	struct rref_acceptance *acceptance;

	switch (letter->of) {
	case LETTER_FORK_REQUEST:
		receive_fork_ack(from, letter);
		break;
	case LETTER_USER_DELETE:
		receive_delete_ack(from, letter);
		break;
	case LETTER_WITHDRAW:
		receive_withdraw_ack(from, letter);
		break;
	case LETTER_CHILD_ACCEPT:
		acceptance = acceptance_find(from->machine, &letter->fork);
		if (acceptance && acceptance->parent == from && control_is_active(&acceptance->control))
			acceptance_free(acceptance);
		break;
	case LETTER_RECHECK:
		receive_recheck_ack(from, letter);
		break;
	default:
		break;
	}
}

tdr_status rrefs_receive_letter(struct rref_peer *from, const struct letter *letter)
{
	if (from->gone)
		return TDR_OK; /* what it may still say changes nothing */
	if ((letter->kind == LETTER_FORK_REQUEST || letter->kind == LETTER_WITHDRAW) && letter->number == 0)
		return error_set(TDR_EPROTO, "a letter %s without a number", letter_kind_name(letter->kind));
	switch (letter->kind) {
	case LETTER_FORK_REQUEST:
		receive_fork_request(from, letter);
		break;
	case LETTER_CHILD_ACCEPT:
		receive_child_accept(from, letter);
		break;
	case LETTER_USER_DELETE:
		receive_user_delete(from, letter);
		break;
	case LETTER_WITHDRAW:
		receive_withdraw(from, letter);
		break;
	case LETTER_ACK:
		receive_ack(from, letter);
		break;
	case LETTER_ACCEPTED:
		receive_accepted(from, letter);
		break;
	case LETTER_RECHECK:
		withdraw_up_to(from, letter->number);
		withdraw_rest_later(from); /* it may be what could not be read, or still be on its way */
		answer_post(from, &(struct letter){.kind = LETTER_ACK, .fork = letter->fork, .of = LETTER_RECHECK},
		            false);
		break;
	default:
		return error_set(TDR_EPROTO, "a letter about references of unknown kind %u", letter->kind);
	}
	return TDR_OK;
}
