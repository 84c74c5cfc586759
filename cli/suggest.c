/* SPDX-License-Identifier: Apache-2.0 */
#include "suggest.h"

#include <string.h>

#define LONGEST 32

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Bytes to insert, drop or replace to make `b` of `a`; LONGEST where either is longer than that. */
static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
	size_t row[LONGEST + 1];

	if (na > LONGEST || nb > LONGEST)
		return LONGEST;
	for (size_t j = 0; j <= nb; j++)
		row[j] = j;
	for (size_t i = 1; i <= na; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t above = row[j];

			row[j] = least(least(above, row[j - 1]) + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[nb];
}

struct suggestion suggest_begin(const char *wanted, size_t size)
{
	/* A third of the name may be wrong, and of a short one two letters, since a swap of neighbours counts as two. */
	return (struct suggestion){.wanted = wanted, .size = size, .distance = (size < 6 ? 2 : size / 3) + 1};
}

void suggest_weigh(struct suggestion *suggestion, const char *name)
{
	size_t found = distance(suggestion->wanted, suggestion->size, name, strlen(name));

	if (found < suggestion->distance && found < strlen(name)) {
		suggestion->distance = found;
		suggestion->best = name;
	}
}
