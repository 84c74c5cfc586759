/* SPDX-License-Identifier: Apache-2.0 */
/* References for tests of values: two numbers, which cross as 12 bytes. */
#ifndef TENDRIL_TESTS_VALUE_FAKE_RREF_H
#define TENDRIL_TESTS_VALUE_FAKE_RREF_H

#include "value/codec.h"
#include "value/rref_value.h"

#include <stdatomic.h>

#define FAKE_RREF_WIRE_SIZE 12

struct fake_rref {
	struct tdr_rref head;
	uint32_t owner;
	uint64_t number;
};

extern const struct rref_ops fake_rref_ops;
extern _Atomic int fake_rrefs_alive;

/* Prints as "RRef(worker1, 2)". NULL when memory runs out. */
tdr_rref *fake_rref_new(uint32_t owner, uint64_t number);

/* A value with a new one that nobody else holds. */
tdr_value *fake_rref_value(uint32_t owner, uint64_t number);

/* The hooks' context. */
struct fake_wire {
	size_t nencoded, ndecoded;         /* calls */
	size_t encode_fails, decode_fails; /* the call, from 1, that fails with TDR_EWORKERGONE; 0: none */
};

extern const struct codec_rrefs fake_rrefs;

#endif
