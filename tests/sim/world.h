/* SPDX-License-Identifier: Apache-2.0 */
/* The world: who is there. Births, deaths, departures, and how others learn of them. */
#ifndef TENDRIL_SIM_WORLD_H
#define TENDRIL_SIM_WORLD_H

#include "simulator.h"

void world_begin(struct sim *sim);

/* After each event, which was the worker's (NULL: nobody's). */
void world_after(struct sim *sim, struct worker *worker);

/* Faults stop, and all handles are dropped. */
void world_drain(struct sim *sim);
void world_end(struct sim *sim);

/* `worker` will declare `other` gone, unless the two have met that already. */
void world_plan_gone(struct worker *worker, struct worker *other, int64_t after_ms);

#endif
