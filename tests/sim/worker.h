/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: what an agent is around its reference machine, without the calls. */
#ifndef TENDRIL_SIM_WORKER_H
#define TENDRIL_SIM_WORKER_H

#include "simulator.h"

struct worker *worker_new(struct sim *sim, uint32_t id);

/* Its state vanishes. */
void worker_vanish(struct worker *worker);
void worker_free(struct worker *worker); /* after it has vanished */

/* Makes two workers known to each other, or one to itself. */
void worker_meet(struct worker *worker, struct worker *other);

/* The struct for another worker; NULL: not known. */
struct peer *worker_peer(const struct worker *worker, const struct worker *other);

/* Whether neither has declared the other gone, and both live. */
bool workers_talk(const struct worker *a, const struct worker *b);

struct use *use_new(struct worker *worker);
struct thing *thing_new(struct worker *worker);
void use_free(struct use *use); /* one that the machine has never had, or has released */
void thing_free(struct thing *thing);

void handle_ref(struct handle handle);
void handle_unref(struct handle handle);
void worker_keep(struct worker *worker, struct handle handle); /* takes it over, for the program */
void worker_drop(struct worker *worker, size_t at);            /* one of the program's */

/* Plans what the machine is due to do. After each event of the worker. */
void worker_plan_tick(struct worker *worker);

#endif
