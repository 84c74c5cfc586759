/* SPDX-License-Identifier: Apache-2.0 */
#include "softmax.h"

#include <math.h>
#include <string.h>

static void scores_of(const float *model, const float *pixels, double scores[CLASSES])
{
	for (int c = 0; c < CLASSES; c++)
		scores[c] = (double)model[PIXELS * CLASSES + c];
	for (int i = 0; i < PIXELS; i++)
		for (int c = 0; c < CLASSES; c++)
			scores[c] += (double)(pixels[i] * model[i * CLASSES + c]);
}

/* Turns scores into probabilities. */
static void softmax(double scores[CLASSES])
{
	double most = scores[0], sum = 0;

	for (int c = 1; c < CLASSES; c++)
		most = fmax(most, scores[c]);
	for (int c = 0; c < CLASSES; c++)
		sum += scores[c] = exp(scores[c] - most);
	for (int c = 0; c < CLASSES; c++)
		scores[c] /= sum;
}

double softmax_gradient(const float *model, const struct dataset *set, int from, int count, float *gradient)
{
	double loss = 0;

	memset(gradient, 0, MODEL_SIZE * sizeof(*gradient));
	for (int row = from; row < from + count; row++) {
		double shares[CLASSES];

		scores_of(model, set->pixels[row], shares);
		softmax(shares);
		loss -= log(fmax(shares[set->labels[row]], 1e-12));
		shares[set->labels[row]] -= 1;
		for (int c = 0; c < CLASSES; c++) {
			float slope = (float)shares[c] / (float)count;

			for (int i = 0; i < PIXELS; i++)
				gradient[i * CLASSES + c] += set->pixels[row][i] * slope;
			gradient[PIXELS * CLASSES + c] += slope;
		}
	}
	return loss / count;
}

double softmax_accuracy(const float *model, const struct dataset *set, int from, int count)
{
	int right = 0;

	for (int row = from; row < from + count; row++) {
		double scores[CLASSES];
		int best = 0;

		scores_of(model, set->pixels[row], scores);
		for (int c = 1; c < CLASSES; c++)
			best = scores[c] > scores[best] ? c : best;
		right += best == set->labels[row];
	}
	return (double)right / count;
}
