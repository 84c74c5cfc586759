/* SPDX-License-Identifier: Apache-2.0 */
/* The checker: what must hold of all machines together. It knows their insides, which nobody else here does. */
#ifndef TENDRIL_SIM_CHECKER_H
#define TENDRIL_SIM_CHECKER_H

#include "simulator.h"

/* After each step, whose event was the worker's; NULL: looks at each worker as if it had been. */
void checker_look(struct sim *sim, struct worker *worker);

/* When nothing is left to do, and nobody has a handle of anything. */
void checker_look_at_rest(struct sim *sim);

/* ---- as it happens ---- */

/* A user was created, passed on (by a handle of it, or of a thing; `to` NULL: written), or taken from a message or what was written. */
void checker_created(struct worker *worker, const struct rref_user *user);
void checker_passed(struct worker *worker, struct worker *to, struct handle handle, const struct rref_passed *passed);
void checker_taken(struct worker *worker, const struct rref_user *user, const struct rref_passed *passed);

/* Somebody is about to read what was written; its maker has taken it back. */
void checker_reads(struct worker *worker, const struct rref_passed *passed);
void checker_taken_back(struct worker *worker, const struct rref_passed *passed);

void checker_settled(struct worker *worker, const struct rref_user *user);
void checker_lost(struct worker *worker, const struct rref_owned *owned);
void checker_runs(struct worker *worker, size_t creation);

/*
 * An owner says that it does not have what a fork stands for: one that `from` has (a fetch), or that it has made for
 * somebody (`passed`).
 */
void checker_not_found(struct worker *owner, struct worker *from, const struct rref_id *fork, bool passed);

#endif
