/* SPDX-License-Identifier: Apache-2.0 */
/* How alike two names are, for "did you mean" in errors. */
#ifndef TENDRIL_BASE_EDIT_DISTANCE_H
#define TENDRIL_BASE_EDIT_DISTANCE_H

#include <stddef.h>

/* Names longer than this are never alike. */
#define EDIT_DISTANCE_MAX 127

/*
 * Bytes to insert, drop, replace or swap with their neighbour to make `b` [nb] of `a` [na]; SIZE_MAX where either is
 * longer than EDIT_DISTANCE_MAX.
 */
size_t edit_distance(const char *a, size_t na, const char *b, size_t nb);

#endif
