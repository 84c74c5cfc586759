/* SPDX-License-Identifier: Apache-2.0 */
#include "dataset.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static void refuse(const char *path, int line, const char *why)
{
	fprintf(stderr, "%s: line %d: %s\n", path, line, why);
	exit(1);
}

/* A line is PIXELS intensities of 0 to 16, then the digit. */
static void read_row(struct dataset *set, const char *path, char *line)
{
	char *at = line, *end;

	for (int i = 0; i <= PIXELS; i++) {
		long number = strtol(at, &end, 10);

		if (end == at || number < 0 || number > (i < PIXELS ? 16 : CLASSES - 1))
			refuse(path, set->rows + 1, "expected 64 numbers of 0 to 16 and a digit, with commas between");
		if (i < PIXELS)
			set->pixels[set->rows][i] = (float)number / 16.0F;
		else
			set->labels[set->rows] = (int)number;
		at = *end == ',' ? end + 1 : end;
	}
	set->rows++;
}

/* The same order in every process, so that all agree on which rows are for the test. */
static void shuffle(struct dataset *set)
{
	uint64_t state = 88172645463325252U;

	for (int i = set->rows - 1; i > 0; i--) {
		float pixels[PIXELS];
		int label, j;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		j = (int)(state % (uint64_t)(i + 1));
		memcpy(pixels, set->pixels[i], sizeof(pixels));
		memcpy(set->pixels[i], set->pixels[j], sizeof(pixels));
		memcpy(set->pixels[j], pixels, sizeof(pixels));
		label = set->labels[i];
		set->labels[i] = set->labels[j];
		set->labels[j] = label;
	}
}

struct dataset *dataset_read(const char *path)
{
	struct dataset *set = calloc(1, sizeof(*set));
	gzFile file = gzopen(path, "rb");
	char line[1024];

	if (!set || !file) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno ? errno : ENOMEM));
		exit(1);
	}
	while (gzgets(file, line, sizeof(line))) {
		if (set->rows == MAX_ROWS)
			refuse(path, set->rows, "too many rows");
		read_row(set, path, line);
	}
	gzclose(file);
	if (set->rows < 10)
		refuse(path, set->rows, "too few rows");
	shuffle(set);
	set->training_rows = set->rows * 4 / 5;
	return set;
}
