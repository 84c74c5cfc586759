/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean ...?" for names that do not exist. */
#ifndef TENDRIL_CLI_SUGGEST_H
#define TENDRIL_CLI_SUGGEST_H

#include <stddef.h>

struct suggestion {
	const char *wanted; /* what was given */
	size_t size;
	const char *best; /* the name most like it so far, or NULL */
	size_t distance;
};

/* A search for the name that is most like the first `size` bytes of `wanted`. */
struct suggestion suggest_begin(const char *wanted, size_t size);

/* Weighs one name. What is too unlike is never taken. */
void suggest_weigh(struct suggestion *suggestion, const char *name);

#endif
