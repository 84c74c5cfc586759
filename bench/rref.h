/* SPDX-License-Identifier: Apache-2.0 */
/* What is measured of references: see the commands of pair.c. */
#ifndef BENCH_RREF_H
#define BENCH_RREF_H

#include <stddef.h>
#include <tendril.h>

/* What the callee has to have for it; before it joins. */
void rref_register(tdr_agent *agent);

/* Makes a reference to what `function` returns on `worker`, fetches the value and lets go of it. `args` is given away. */
void rref_remote_once(tdr_agent *agent, const char *worker, const char *function, tdr_value *args);

/*
 * References a second: `batch` of them are made by `function`, which takes no arguments, all are waited for, and let go of; `count`
 * times. With `fetch`, what is waited for is their values.
 */
double rref_measure_batches(tdr_agent *agent, const char *worker, const char *function, size_t count, size_t batch,
                            bool fetch);

/* Bytes that each of `count` references takes in the caller, and those in its owner, with nothing as its value. */
double rref_measure_user_bytes(tdr_agent *agent, const char *worker, const char *function, size_t count);
double rref_measure_owner_bytes(tdr_agent *agent, const char *worker, const char *function, size_t count);

#endif
