/* SPDX-License-Identifier: Apache-2.0 */
/* Small macros used everywhere. */
#ifndef TENDRIL_BASE_MACROS_H
#define TENDRIL_BASE_MACROS_H

#include <stddef.h>

/* The struct that holds `member` at `pointer`. */
#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Gives a pointer on: yields it and leaves NULL behind. */
#define TAKE_PTR(pointer)                                                                                              \
	({                                                                                                             \
		__typeof__(pointer) *take_from_ = &(pointer);                                                          \
		__typeof__(pointer) taken_ = *take_from_;                                                              \
		*take_from_ = NULL;                                                                                    \
		taken_;                                                                                                \
	})

#define MIN_OF(a, b)                                                                                                   \
	({                                                                                                             \
		__typeof__(a) min_a_ = (a);                                                                            \
		__typeof__(b) min_b_ = (b);                                                                            \
		min_a_ < min_b_ ? min_a_ : min_b_;                                                                     \
	})

#define MAX_OF(a, b)                                                                                                   \
	({                                                                                                             \
		__typeof__(a) max_a_ = (a);                                                                            \
		__typeof__(b) max_b_ = (b);                                                                            \
		max_a_ > max_b_ ? max_a_ : max_b_;                                                                     \
	})

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* `size` rounded up to a multiple of `step`, a power of two. */
#define ROUND_UP(size, step) (((size) + (step)-1) & ~((__typeof__(size))(step)-1))

#endif
