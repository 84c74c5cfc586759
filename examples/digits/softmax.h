/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax regression on the digits: plain arithmetic, no calls. */
#ifndef EXAMPLES_DIGITS_SOFTMAX_H
#define EXAMPLES_DIGITS_SOFTMAX_H

#include "dataset.h"

/* A model is PIXELS + 1 rows of CLASSES floats; the last row is the bias. Gradients have the same shape. */
enum {
	MODEL_ROWS = PIXELS + 1,
	MODEL_SIZE = MODEL_ROWS * CLASSES
};

/* The gradient of the mean cross-entropy over rows `from` to `from + count` - 1 into `gradient`; returns that mean. */
double softmax_gradient(const float *model, const struct dataset *set, int from, int count, float *gradient);

/* The share of rows `from` to `from + count` - 1 whose most likely class is the label. */
double softmax_accuracy(const float *model, const struct dataset *set, int from, int count);

#endif
