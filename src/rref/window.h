/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of a peer's numbered messages have come: each number is taken once, in any order. Those below a mark have all come; of
 * those above it, the ones that came are kept one by one until the gap below them is filled.
 */
#ifndef TENDRIL_RREF_WINDOW_H
#define TENDRIL_RREF_WINDOW_H

#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A peer that leaves more numbers open than this is not one of ours. */
#define WINDOW_MAX_EARLY 65536

/* Zeroed: nothing has come. Numbers count from 1. */
struct window {
	uint64_t below;  /* all up to this have come */
	uint64_t *early; /* above it; ascending */
	size_t count, room;
};

enum window_verdict {
	WINDOW_NEW,
	WINDOW_SEEN,
	WINDOW_REFUSED, /* no memory, or out of all bounds: as if it had not come */
};

bool window_has(const struct window *window, uint64_t number);
/* The highest that has come. */
uint64_t window_last(const struct window *window);
enum window_verdict window_take(struct window *window, uint64_t number);
void window_fini(struct window *window);

#endif
