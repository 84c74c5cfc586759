/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers from a seed (splitmix64): the same on every machine, whatever its C library. */
#ifndef TENDRIL_SIM_DICE_H
#define TENDRIL_SIM_DICE_H

#include <stdbool.h>
#include <stdint.h>

struct dice {
	uint64_t state;
};

static inline uint64_t dice_throw(struct dice *dice)
{
	uint64_t word = dice->state += 0x9e3779b97f4a7c15;

	word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
	word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
	return word ^ (word >> 31);
}

/* 0 to `count` - 1. The small bias of the remainder does not matter here. */
static inline uint64_t dice_below(struct dice *dice, uint64_t count)
{
	return dice_throw(dice) % count;
}

static inline int64_t dice_between(struct dice *dice, int64_t low, int64_t high)
{
	return low + (int64_t)dice_below(dice, (uint64_t)(high - low) + 1);
}

static inline bool dice_percent(struct dice *dice, unsigned percent)
{
	return dice_below(dice, 100) < percent;
}

#endif
