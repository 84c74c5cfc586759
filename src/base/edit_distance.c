/* SPDX-License-Identifier: Apache-2.0 */
/* The distance of Damerau and Levenshtein, of adjacent swaps, by three rows of its table. */
#include "base/edit_distance.h"

#include "base/macros.h"

#include <stdint.h>

size_t edit_distance(const char *a, size_t na, const char *b, size_t nb)
{
	uint8_t rows[3][EDIT_DISTANCE_MAX + 1];
	uint8_t *before = rows[0], *last = rows[1], *row = rows[2];

	if (na > EDIT_DISTANCE_MAX || nb > EDIT_DISTANCE_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= nb; j++)
		last[j] = (uint8_t)j;
	for (size_t i = 1; i <= na; i++) {
		uint8_t *oldest = before;

		row[0] = (uint8_t)i;
		for (size_t j = 1; j <= nb; j++) {
			unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);

			best = MIN_OF(best, last[j] + 1u);
			best = MIN_OF(best, row[j - 1] + 1u);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = MIN_OF(best, before[j - 2] + 1u);
			row[j] = (uint8_t)best;
		}
		before = last;
		last = row;
		row = oldest;
	}
	return last[nb];
}
