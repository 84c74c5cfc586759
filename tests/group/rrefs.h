/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of references share: functions that take, keep, pass on and look into references, and questions to the counters.
 *
 * These tests hold over any transport, and also where letters about references fail at first: TENDRIL_BACKEND=FAULTY and
 * its options may be set in the environment. Letters are then sent again after seconds, for which TENDRIL_TEST_PATIENCE and
 * TENDRIL_TEST_APART (group.h) are made.
 */
#ifndef TENDRIL_TESTS_RREFS_H
#define TENDRIL_TESTS_RREFS_H

#include "group.h"

/*
 * Registers, with an agent that has not joined:
 *   test::add(int a, int b) -> int            inline
 *   test::fail() -> int                       TDR_EINVAL, "no such layer"
 *   test::held(Any value) -> Any              once `rrefs_gate` is open
 *   test::later() -> Any                      asynchronous: when the test completes `rrefs_later`
 *   test::object() -> Any                     a C object "test::Counter"
 *   test::Counter::count(Any self, int by=1)  inline
 *   test::look(Any rref) -> Any               what a reference stands for; also inside lists and dicts: the sum of all ints
 *   test::hop(RRef rref, int hops) -> Any     the same, by the worker `hops` places to the right, one calling the next
 *   test::relay(RRef rref, int hops, int slot)   kept there at last; each passes it on and returns at once
 *   test::keep(int slot, RRef rref), test::give(int slot) -> RRef, test::drop(int slot)
 *   test::remote(str worker, int number) -> RRef   of test::echo(number) there
 * Each that takes references expects that they are confirmed.
 */
void rrefs_prepare(tdr_agent *agent, size_t rank);

extern const struct group_config rrefs_config;
extern struct gate rrefs_gate;
extern tdr_future *_Atomic rrefs_later; /* set by test::later, counted for the test */
extern _Atomic int rrefs_destroyed;     /* objects of test::object, so far */

/* One kept by test::keep or test::relay; borrowed; NULL: none. */
tdr_rref *rrefs_kept(size_t slot);

/* Lets go of one where no call can do it any more. */
void rrefs_drop(size_t slot);

/* A number of tdr_debug_info; -1: there is no such key. */
int64_t count_of(tdr_agent *agent, const char *key);

/* Waits until a number of tdr_debug_info is `wanted`. */
bool await_count(tdr_agent *agent, const char *key, int64_t wanted);

/* Waits until all counters of references are zero everywhere. */
void await_none(struct group *group);

/* The int that a reference stands for; INT64_MIN, with a failure noted, where it stands for none. */
int64_t here(tdr_rref *rref);

/* The reference in a value, which is dropped. */
tdr_rref *rref_in(tdr_value *value);

/* One to the result of test::echo(number) on a worker. */
tdr_rref *remote_int(tdr_agent *agent, const char *worker, int64_t number);

/* Options with a timeout. */
tdr_rpc_options within(int64_t timeout_ms);

#endif
