/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References that programs write into bytes, which go wherever they go: a file, another's message, a pipe. Nobody knows who will read
 * them: some worker, the one that wrote them or the owner among them; two, which should not be; or none.
 */
#ifndef TENDRIL_SIM_WRITTEN_H
#define TENDRIL_SIM_WRITTEN_H

#include "simulator.h"

/* Writes a reference that the worker has a handle of. */
void written_make(struct worker *worker, struct handle handle);

/* When the faults have stopped: their makers take back what nobody will read any more. */
void written_plan_end(struct sim *sim);

#endif
