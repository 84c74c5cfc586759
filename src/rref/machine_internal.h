/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the reference machine share. */
#ifndef TENDRIL_RREF_MACHINE_INTERNAL_H
#define TENDRIL_RREF_MACHINE_INTERNAL_H

#include "rref/machine.h"

struct rrefs {
	uint32_t worker;
	uint64_t incarnation;
	const struct rrefs_events *events;
	void *context;
	uint64_t next_local; /* number of the next reference or fork that we name */
	bool closing;
	struct list peers;
	struct list shared;                    /* references of ours that others know of */
	struct map owned;                      /* references of ours, by name */
	struct map forks;                      /* others' uses of them, by name */
	struct map users;                      /* our uses of others' references, by name */
	struct map children;                   /* forks that we, as a user, made for others, by name */
	struct map acceptances;                /* that we owe, by the fork's name */
	struct map readings;                   /* users that were read from open forks, by these */
	struct list open_forks;                /* of references of ours, for whoever reads them */
	struct list open_children;             /* the same, that we made as a user */
	struct list waiting[LETTER_MAX_SENDS]; /* controls sent i + 1 times, by when they are due */
	struct list later;                     /* controls that are to wait before they are sent */
	size_t ncontrols;                      /* under way, and not given up */
	size_t nshared, npending;
};

/* A fork that we made of our own use of a reference, until its receiver has accepted it. */
struct rref_child {
	struct rrefs *machine;
	struct rref_user *user;
	struct rref_peer *to; /* NULL: it is open */
	struct rref_id fork;
	uint64_t number;
	struct control control; /* WITHDRAW */
	struct list of_peer;    /* or of the machine's open ones */
	struct map_node node;
};

/* What we owe the parent of a fork that came to us: word that the owner counts it. */
struct rref_acceptance {
	struct control control; /* CHILD_ACCEPT */
	struct rref_peer *parent;
	struct rref_id fork;
	struct map_node node;
};

/* ---- machine.c ---- */

struct rref_id rrefs_name(struct rrefs *machine);

/* ---- control.c ---- */

void control_init(struct control *control);
bool control_is_active(const struct control *control);

/* Sends a letter, again and again until it is answered. Not while the control is active, nor to a peer that is gone. */
void control_post(struct control *control, struct rref_peer *to, const struct letter *letter, bool soon);

/* The same, but not before a second has passed. */
void control_post_later(struct control *control, struct rref_peer *to, const struct letter *letter);

/* Answered, or not needed any more. */
void control_stop(struct control *control);

/* All that is under way to a peer is sent again as if for the first time. */
void controls_restart(struct rref_peer *peer);

/* Sends a letter once. Where memory runs out it is lost: it will be asked for again. */
void answer_post(struct rref_peer *to, const struct letter *letter, bool soon);

/* ---- passing.c ---- */

/* An acceptance to be posted later; NULL when memory runs out. */
struct rref_acceptance *acceptance_new(struct rref_peer *parent, const struct rref_id *fork);
void acceptance_post(struct rref_acceptance *acceptance); /* takes it over */
struct rref_acceptance *acceptance_find(const struct rrefs *machine, const struct rref_id *fork);
void acceptance_free(struct rref_acceptance *acceptance); /* takes NULL */

struct rref_child *child_find(const struct rrefs *machine, const struct rref_id *fork);
void child_drop(struct rref_child *child);
void child_withdraw(struct rref_child *child, bool later);
void child_free(struct rref_child *child); /* at the end of all */

/* Sees which of the forks that were sent to a peer under numbers up to this one have come. */
void withdraw_up_to(struct rref_peer *peer, uint64_t number);

/* The same for all others, when what is on its way has had time to come. */
void withdraw_rest_later(struct rref_peer *peer);

void receive_child_accept(struct rref_peer *from, const struct letter *letter);
void receive_withdraw(struct rref_peer *from, const struct letter *letter);
void receive_withdraw_ack(struct rref_peer *from, const struct letter *letter);

/* ---- open.c ---- */

/* Whether an open fork may be read here. Errors: as rrefs_receive_user's. */
tdr_status open_check(struct rref_peer *from, const struct rref_id *fork);

/* Notes that a user was read from an open fork; where memory runs out a second reading goes unnoticed. */
void reading_note(struct rref_user *user, const struct rref_id *written);
void reading_forget(struct rref_user *user);

/* Drops all open forks; those that are of a reference of one owner's. */
void open_drop_all(struct rrefs *machine);
void open_drop_of(struct rref_peer *owner);

/* ---- user.c ---- */

struct rref_user *user_find(const struct rrefs *machine, const struct rref_id *fork);

/* Sets up what is the same in all that are made. */
tdr_status user_init(struct rref_user *user, struct rref_peer *owner, const struct rref_id *rref,
                     const struct rref_id *fork, enum user_state state);
void user_settle(struct rref_user *user, enum user_state state);
void user_child_gone(struct rref_user *user);
void user_owner_gone(struct rref_user *user);
void user_let_go(struct rref_user *user);
void user_forget(struct rref_user *user); /* at the end of all */
void user_request_given_up(struct rref_user *user);

void receive_accepted(struct rref_peer *from, const struct letter *letter);
void receive_fork_ack(struct rref_peer *from, const struct letter *letter);
void receive_delete_ack(struct rref_peer *from, const struct letter *letter);

/* ---- owned.c ---- */

struct rref_owned *owned_find(const struct rrefs *machine, const struct rref_id *rref);
struct rref_fork *fork_find(const struct rrefs *machine, const struct rref_id *fork);

/* `holder` NULL: an open one. NULL when memory runs out. */
struct rref_fork *fork_new(struct rref_owned *owned, struct rref_peer *holder, const struct rref_id *fork,
                           enum fork_state state);
void fork_drop(struct rref_fork *fork);
void fork_withdraw(struct rref_fork *fork, bool later);
void owned_lose(struct rref_owned *owned);
void owned_forget(struct rref_owned *owned); /* at the end of all */

void receive_fork_request(struct rref_peer *from, const struct letter *letter);
void receive_user_delete(struct rref_peer *from, const struct letter *letter);

#endif
