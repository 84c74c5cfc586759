/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that runs out, for the machines alone: linked with --wrap for the three functions below. The simulation's own memory
 * comes from sim_alloc and sim_grow, which end the program where there is none.
 */
#include "simulator.h"

#include <stdlib.h>

void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);

static struct sim *scarce;

void sim_make_scarce(struct sim *sim)
{
	scarce = sim;
}

bool sim_runs_out(void)
{
	return scarce && dice_percent(&scarce->dice, scarce->faults.memory);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return sim_runs_out() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
	return sim_runs_out() ? NULL : __real_realloc(memory, size);
}

void *__wrap_malloc(size_t size)
{
	return sim_runs_out() ? NULL : __real_malloc(size);
}

void *sim_alloc(size_t size)
{
	void *memory = __real_calloc(1, size);

	if (!memory)
		abort();
	return memory;
}

void *sim_grow(void *memory, size_t size)
{
	memory = __real_realloc(memory, size);
	if (!memory)
		abort();
	return memory;
}
