/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: what carries references, and what an agent does about them at both ends. */
#ifndef TENDRIL_SIM_CALLS_H
#define TENDRIL_SIM_CALLS_H

#include "network.h"

/*
 * Starts a call with a message, whose `call` is set here; its references have been passed on already. `handle` is taken
 * over until the call ends: the use that it creates, or whose value is fetched. {NULL, NULL}: none.
 */
void calls_start(struct worker *from, struct worker *to, struct message *message, struct handle handle);

void calls_receive(struct worker *worker, struct worker *from, const struct message *message);

/* Its creating function begins: a call to ourselves, which takes over one handle of the thing's. */
void calls_run_here(struct worker *worker, struct thing *thing, size_t creation);

/* Looks at the jobs that wait for a reference. */
void calls_look(struct worker *worker);

/* Fails all calls to another worker, which is gone. */
void calls_fail(struct worker *worker, const struct worker *to);

/* Forgets all, without a word: the worker has vanished. */
void calls_forget(struct worker *worker);

/* Passes one on, in a message. False: it cannot be, and what the message had before has been withdrawn. */
bool calls_pass(struct worker *worker, struct worker *to, struct handle handle, struct message *message);

/*
 * Takes one up that came from a peer, or that it has written. Errors: as rrefs_receive_user's; TDR_ENOWORKER: its owner is not
 * known.
 */
tdr_status calls_take(struct worker *worker, struct peer *peer, const struct rref_passed *passed,
                      struct handle *ret_handle);

/* The worker that it names, as another knows it; NULL: it knows of none. */
struct peer *calls_named_peer(const struct worker *worker, uint32_t id, uint64_t incarnation);

/* Takes back what was passed on in a message that is not sent. */
void calls_withdraw(struct worker *worker, const struct message *message);

#endif
