/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference protocol as a state machine: what one agent knows of the references that it owns and uses. No threads, sockets
 * or clocks are inside: events go in by the functions below, and what follows from them comes out by `rrefs_events` and by
 * letters, which its holder fetches (rrefs_take_letters) and sends as it likes: lost, doubled, late and in any order, if need be.
 * docs/rref.md has the states, who may know what when, and why nothing is freed early or kept for ever.
 *
 * All calls for one machine are made under one lock of its holder's. Memory for references and peers is the holder's, who embeds
 * the structs below in its own; their fields are to be read, and written by the machine alone.
 *
 * The parties. The *owner* has the value, and counts the *forks* of its reference, one for each *user* anywhere. Who passes a
 * reference on is the *parent* of the fork that it makes for it, and the receiver's user is its *child*: the parent stays
 * counted until it knows that the owner counts the child.
 */
#ifndef TENDRIL_RREF_MACHINE_H
#define TENDRIL_RREF_MACHINE_H

#include "base/list.h"
#include "base/map.h"
#include "rref/letter.h"
#include "rref/window.h"

/* A letter is sent this often at most, then given up until the connection is made anew. */
#define LETTER_MAX_SENDS 6

struct rrefs;

/* A letter that is sent again until it is answered. */
struct control {
	struct list node;    /* to be sent, or on the list of those that wait for the same number of sends */
	struct list of_peer; /* on its receiver's list; on none: idle */
	struct rref_peer *to;
	struct letter letter;
	unsigned sends;
	int64_t due_ms; /* while it waits for its answer */
	bool given_up;
};

/* Another worker, or this one itself: one incarnation of it. */
struct rref_peer {
	struct rrefs *machine;
	struct list node; /* on the machine's list of all */
	uint32_t worker;
	uint64_t incarnation;
	bool gone;
	uint64_t last_number;   /* of what we sent to it */
	uint32_t connection;    /* which one to it what we send belongs to, as the holder counts them */
	bool reconnected;       /* it is another one than when rrefs_peer_broke was last called; then: */
	uint64_t old_numbers;   /* up to this, what we sent belongs to those before */
	struct window seen;     /* numbers of what it sent to us */
	struct list users;      /* our users of its references */
	struct list forks;      /* its forks of our references */
	struct list children;   /* forks that we, as a user, made for it */
	struct list expected;   /* references whose creation we wait for, from it */
	struct list controls;   /* under way to it */
	struct list outbox;     /* of these, to be sent */
	struct control recheck; /* RECHECK, of what it has sent */
	struct letter *answers; /* [nanswers]: to be sent, too, and not again */
	size_t nanswers, answers_room;
	size_t answers_taken; /* of these, the first ones: fetched */
	bool recheck_again;   /* once it has been answered: more has come that could not be read */
	bool posted;          /* the holder was told that there is something to send */
	bool hurried;         /* and that it is wanted soon */
};

/* X(name, text) */
#define USER_STATE_LIST(X)                                                                                             \
	X(USER_CREATING, "creating")   /* the call that creates it has been sent */                                    \
	X(USER_ACCEPTED, "accepted")   /* the owner knows it; its creating function still runs */                      \
	X(USER_ASKING, "asking")       /* somebody passed it on to us; the owner has been asked to count it */         \
	X(USER_CONFIRMED, "confirmed") /* the owner counts it; if we created it, by the answer to that call */         \
	X(USER_FAILED, "failed")       /* it stands for nothing; the owner may count it all the same */                \
	X(USER_DELETING, "deleting")   /* the owner has been told to count it no more */                               \
	X(USER_DELETED, "deleted")     /* the owner does not count it */

enum user_state {
#define USER_STATE_ENUM(name, text) name,
	USER_STATE_LIST(USER_STATE_ENUM)
#undef USER_STATE_ENUM
};

/* Our use of another's reference. */
struct rref_user {
	struct rref_peer *owner;
	struct rref_id rref, fork;
	uint64_t origin; /* the number of its creation; 0: its owner made it */
	uint64_t number; /* under which the owner counts it; 0: under that which the owner gave it */
	enum user_state state;
	struct rref_id written;             /* the open fork that it was read from, if `noted` */
	bool noted;                         /* among the machine's readings */
	bool counted;                       /* the owner may count it */
	bool confirmed, failed;             /* it was in USER_CONFIRMED, in USER_FAILED at some time */
	bool let_go;                        /* to be deleted as soon as may be, whoever holds it */
	uint32_t handles;                   /* of the program */
	uint32_t children;                  /* made for others, and not accepted */
	struct rref_acceptance *acceptance; /* to be sent to its parent once it is settled; NULL: none */
	struct control control;             /* FORK_REQUEST, then USER_DELETE */
	struct list of_owner;
	struct map_node node;         /* by fork */
	struct map_node reading_node; /* by `written`, if `noted` */
};

/* X(name, text) */
#define OWNED_STATE_LIST(X)                                                                                            \
	X(OWNED_EXPECTED, "expected") /* somebody speaks of it, and the call that creates it has not come yet */       \
	X(OWNED_PENDING, "pending")   /* its creating function runs */                                                 \
	X(OWNED_READY, "ready")       /* its value, or its error, is there */                                          \
	X(OWNED_LOST, "lost")         /* it was expected, and will never be created */

enum owned_state {
#define OWNED_STATE_ENUM(name, text) name,
	OWNED_STATE_LIST(OWNED_STATE_ENUM)
#undef OWNED_STATE_ENUM
};

/* A reference of ours. */
struct rref_owned {
	struct rrefs *machine;
	struct rref_id rref;
	uint64_t origin; /* the number of its creation; 0: made here */
	enum owned_state state;
	uint32_t handles;         /* of the program, of its creating function, and of whoever uses it here */
	struct list forks;        /* of_owned */
	struct list of_expecting; /* on its creator's list, while expected */
	struct list of_shared;    /* on the list of those that others know of; else on none */
	struct map_node node;     /* by reference */
};

/* X(name, text) */
#define FORK_STATE_LIST(X)                                                                                             \
	X(FORK_SENT, "sent")    /* we made it for its holder, who may not have got it */                               \
	X(FORK_COUNTED, "held") /* its holder has asked for it, or has said that it came */                            \
	X(FORK_OPEN, "open")    /* we made it for whoever reads it, which nobody is known to have done */

enum fork_state {
#define FORK_STATE_ENUM(name, text) name,
	FORK_STATE_LIST(FORK_STATE_ENUM)
#undef FORK_STATE_ENUM
};

/* Somebody's use of a reference of ours. */
struct rref_fork {
	struct rref_owned *owned;
	struct rref_peer *holder; /* NULL: it is open */
	struct rref_id fork;
	uint64_t number; /* of its making, while sent */
	enum fork_state state;
	struct control control; /* WITHDRAW, or ACCEPTED, which is sent once */
	struct list of_owned, of_holder;
	struct map_node node; /* by fork */
};

/*
 * What follows from events. Called inside the machine's functions, with the holder's lock held: must not call the machine, but
 * note what is to be done.
 */
struct rrefs_events {
	/* There are letters for a peer, once until they are fetched. `soon`: somebody waits for what they bring. */
	void (*post)(void *context, struct rref_peer *peer, bool soon);
	/* A user has left USER_CREATING or USER_ASKING, or has failed: look at its state. */
	void (*settled)(void *context, struct rref_user *user);
	/* Nobody knows the user any more: its memory is the holder's again. */
	void (*user_released)(void *context, struct rref_user *user);
	/* A reference that was expected is lost: it will not be created. */
	void (*lost)(void *context, struct rref_owned *owned);
	/* Nobody refers to it: the value may go, and its memory is the holder's again. */
	void (*owned_released)(void *context, struct rref_owned *owned);
	/* Memory for a reference that is to be expected, zeroed; NULL: there is none. */
	struct rref_owned *(*owned_new)(void *context);
	/* The worker of that incarnation, also a departed one; NULL if there never was one. */
	struct rref_peer *(*find_peer)(void *context, uint32_t worker, uint64_t incarnation);
	/* A letter was not answered after LETTER_MAX_SENDS sends. May be NULL. */
	void (*given_up)(void *context, struct rref_peer *peer, const struct letter *letter);
};

struct rrefs_counts {
	size_t owned;         /* references of ours that others know of */
	size_t forks;         /* of them */
	size_t users;         /* of others' references */
	size_t pending_users; /* of these, not known to be counted */
	size_t children;      /* made for others, open ones too, and not accepted */
	size_t controls;      /* letters that have not been answered */
};

/* ---- life ---- */

/* For the worker of this id and incarnation. NULL when memory runs out. */
struct rrefs *rrefs_new(uint32_t worker, uint64_t incarnation, const struct rrefs_events *events, void *context);

/*
 * The end: forgets everything, sends nothing. Every user and every reference is released, also those that the program has
 * handles of: these are inert from then on.
 */
struct rrefs *rrefs_free(struct rrefs *machine);

/* Makes another worker, or this one, known. */
void rrefs_peer_init(struct rrefs *machine, struct rref_peer *peer, uint32_t worker, uint64_t incarnation);

/* It has died, left or been evicted: its forks are dropped, its references fail. Final. */
void rrefs_peer_gone(struct rref_peer *peer);

/*
 * What is passed to it from now on goes by this connection, of a number of the holder's. Where nothing is said, all goes by the one
 * that breaks next.
 */
void rrefs_peer_connected(struct rref_peer *peer, uint32_t connection);

/*
 * The connection to it was made anew: what was under way on those before may be lost. What it said is believed to have come.
 */
void rrefs_peer_broke(struct rref_peer *peer);

/* Asks the peer to see which of the references that it sent so far have come: one message of its could not be read. */
void rrefs_recheck(struct rref_peer *peer);

/* Lets go of all users, as soon as may be: for a worker that leaves. Those that still come are let go at once. */
void rrefs_close(struct rrefs *machine);

/* Takes that back for what comes from now on. */
void rrefs_reopen(struct rrefs *machine);

struct rrefs_counts rrefs_counts(const struct rrefs *machine);

/* The references that others know of, for reports: linked by `of_shared`, their forks by `of_owned`. */
const struct list *rrefs_shared(const struct rrefs *machine);

/* Its peers, in the order in which they became known: linked by `node`. */
const struct list *rrefs_peers(const struct rrefs *machine);

/* ---- letters and time ---- */

/*
 * The letters that are to be sent to a peer by now: up to `room` of them. Those that want an answer wait for it from `now_ms` on. 0: no
 * more.
 */
size_t rrefs_take_letters(struct rref_peer *peer, int64_t now_ms, struct letter *letters, size_t room);

/* A letter has come from a peer. TDR_EPROTO: it makes no sense. */
tdr_status rrefs_receive_letter(struct rref_peer *from, const struct letter *letter);

/* When rrefs_tick is to be called next; 0: not for now. */
int64_t rrefs_due(const struct rrefs *machine);

/* Posts again what has waited too long for its answer. */
void rrefs_tick(struct rrefs *machine, int64_t now_ms);

/* ---- references that others own ---- */

/*
 * A new reference, to be created on `owner` by the call that carries `user->rref`, `->fork` and `->number`; with one handle.
 * Its outcome must be told. Errors: TDR_ENOMEM.
 */
tdr_status rrefs_user_create(struct rref_peer *owner, struct rref_user *user);

/*
 * The creating call has ended: the owner has answered, or it failed or timed out. A handle must be held until then. A call that
 * fails when the owner has accepted the reference leaves it as good as any.
 */
void rrefs_user_created(struct rref_user *user, bool success);

void rrefs_user_ref(struct rref_user *user);
void rrefs_user_unref(struct rref_user *user); /* the memory may be the holder's again before it returns */

/* Whether the owner is known to count it. */
static inline bool rrefs_user_is_settled(const struct rref_user *user)
{
	return user->state != USER_CREATING && user->state != USER_ASKING;
}

/* ---- references of ours ---- */

/* A new one, by wrapping a value (OWNED_READY), or by a call to ourselves (OWNED_PENDING); with one handle. Errors: TDR_ENOMEM. */
tdr_status rrefs_own(struct rrefs *machine, struct rref_owned *owned, enum owned_state state);

/*
 * A call that creates a reference has come from a peer. On success *ret_owned has a handle more, for the creating function.
 * Errors: TDR_EEXISTS (it came before, or its sender has let it go since), TDR_EWORKERGONE (its sender is gone), TDR_EPROTO (the
 * names are not the sender's), TDR_ENOMEM.
 */
tdr_status rrefs_create(struct rref_peer *from, const struct rref_id *rref, const struct rref_id *fork, uint64_t number,
                        struct rref_owned **ret_owned);

/* Its value or error is there. */
void rrefs_owned_ready(struct rref_owned *owned);

/*
 * The reference that somebody speaks of, with a handle more; one to be expected where its creation may still come. Errors:
 * TDR_ENOTFOUND (it has been freed, or will not come), TDR_ENOMEM.
 */
tdr_status rrefs_find(struct rrefs *machine, const struct rref_id *rref, uint64_t origin,
                      struct rref_owned **ret_owned);

void rrefs_owned_ref(struct rref_owned *owned);
void rrefs_owned_unref(struct rref_owned *owned);

/* ---- passing on ---- */

/*
 * Makes a fork for `to`, to be sent in a message; NULL: an open one, of number 0, for whoever reads it. Errors: TDR_ENOMEM,
 * TDR_ESTATE (a user that has been let go or has failed; an open one, while the worker leaves).
 */
tdr_status rrefs_pass_user(struct rref_user *user, struct rref_peer *to, struct rref_passed *ret_passed);
tdr_status rrefs_pass_owned(struct rref_owned *owned, struct rref_peer *to, struct rref_passed *ret_passed);

/*
 * The message with this fork was not sent, or failed: it is asked for, and dropped if it has not come. An open one is dropped
 * at once.
 */
void rrefs_withdraw(struct rrefs *machine, const struct rref_id *fork);

/*
 * A fork has come in a message from `from`, or, with number 0, was read from what `from` has written; this may be us. Of ours:
 * *ret_owned has a handle more. Of another owner's: `user` has one handle. Errors: TDR_EEXISTS (it came before, or was
 * withdrawn; of an open one, as far as is known here), TDR_ENOTFOUND (what it stands for is gone), TDR_EWORKERGONE (who wrote it
 * is gone), TDR_EPROTO (it was not named by `from`), TDR_ENOMEM.
 */
tdr_status rrefs_receive_owned(struct rref_peer *from, const struct rref_passed *passed, struct rref_owned **ret_owned);
tdr_status rrefs_receive_user(struct rref_peer *from, const struct rref_passed *passed, struct rref_peer *owner,
                              struct rref_user *user);

/* Tells of each open fork that we, as a user, have made and that nobody is known to have read. */
void rrefs_open_children(const struct rrefs *machine,
                         void (*tell)(void *context, const struct rref_user *user, const struct rref_id *fork),
                         void *context);

const char *user_state_name(enum user_state state);
const char *owned_state_name(enum owned_state state);

#endif
