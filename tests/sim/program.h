/* SPDX-License-Identifier: Apache-2.0 */
/* Programs: each worker does something random, every now and then. */
#ifndef TENDRIL_SIM_PROGRAM_H
#define TENDRIL_SIM_PROGRAM_H

#include "simulator.h"

void program_start(struct worker *worker);

#endif
