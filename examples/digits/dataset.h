/* SPDX-License-Identifier: Apache-2.0 */
/* The handwritten digits: images and labels, shuffled once and cut in a training and a test part. */
#ifndef EXAMPLES_DIGITS_DATASET_H
#define EXAMPLES_DIGITS_DATASET_H

#include <stdint.h>

enum {
	PIXELS = 64,
	CLASSES = 10,
	MAX_ROWS = 4096,
};

struct dataset {
	int rows;
	int training_rows;              /* the first of them; the others are for the test */
	float pixels[MAX_ROWS][PIXELS]; /* 0 to 1 */
	int labels[MAX_ROWS];
};

/* Reads a gzipped CSV file; ends the program where it cannot. The caller frees the result. */
struct dataset *dataset_read(const char *path);

#endif
