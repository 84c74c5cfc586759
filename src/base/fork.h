/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling a child made by fork() from its parent. The generation lives in a page that fork wipes; a handle keeps the
 * generation it was made in, and is inert where that is not the current one.
 */
#ifndef TENDRIL_BASE_FORK_H
#define TENDRIL_BASE_FORK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

extern _Atomic uint32_t *fork_word; /* mapped when the library is loaded */

uint32_t fork_generation_slow(void);

/* This process' generation, never 0. */
static inline uint32_t fork_generation(void)
{
	uint32_t generation = atomic_load_explicit(fork_word, memory_order_relaxed);

	return generation ? generation : fork_generation_slow();
}

/* Whether a handle of `generation` belongs to a parent process. */
static inline bool forked(uint32_t generation)
{
	return fork_generation() != generation;
}

#endif
