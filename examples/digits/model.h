/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model as a remote object, "digits::Model": it stays where it was made, and who has a reference to it pulls its
 * weights and pushes gradients.
 */
#ifndef EXAMPLES_DIGITS_MODEL_H
#define EXAMPLES_DIGITS_MODEL_H

#include "softmax.h"

#include <pthread.h>
#include <tendril.h>

struct model {
	pthread_mutex_t lock; /* guards all below */
	float weights[MODEL_SIZE];
	int64_t version;
	double loss; /* running mean of what trainers report */
};

/* A new one, all zero, as a value to make a reference of. */
tdr_value *model_new(void);

/* The model in such a value; ends the program where it is none. Borrowed. */
struct model *model_of(const tdr_value *value);

/* Lets others call its functions: "pull" and "push". */
void model_register(tdr_agent *agent);

#endif
