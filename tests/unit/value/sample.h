/* SPDX-License-Identifier: Apache-2.0 */
/* Values for tests: named ones, whose bytes the golden corpus has, and random ones. */
#ifndef TENDRIL_TESTS_VALUE_SAMPLE_H
#define TENDRIL_TESTS_VALUE_SAMPLE_H

#include <tendril.h>

/* Storages that samples view: the first has the floats 0 to 5, the second the 32-bit integers 10, 11, 12, 13. */
#define SAMPLE_STORAGES 2

void sample_storages_new(tdr_storage *storages[SAMPLE_STORAGES]);
void sample_storages_unref(tdr_storage *storages[SAMPLE_STORAGES]);

size_t sample_count(void);
const char *sample_name(size_t index);

/* A new value; of tensors, the storages are collected in their order. */
tdr_value *sample_build(size_t index, tdr_storage *const storages[SAMPLE_STORAGES]);

/* The sample of that name, or SIZE_MAX. */
size_t sample_find(const char *name, size_t size);

/* A random number from `state`, which is any number but 0 to begin with. */
uint64_t sample_random(uint64_t *state);

/* A random value of any kind but RREF and NATIVE, with at most `depth` containers in each other. */
tdr_value *sample_random_value(uint64_t *state, unsigned depth);

#endif
