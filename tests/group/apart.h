/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests that mostly wait, run beside each other: where TENDRIL_TEST_APART is set, each in a process of its own, all at once.
 * Otherwise they run as cmocka runs them.
 */
#ifndef TENDRIL_TESTS_APART_H
#define TENDRIL_TESTS_APART_H

#include "group.h"

/* To be called by main, before there are threads; what main is to return. */
int run_apart(const struct CMUnitTest tests[], size_t count);

#define RUN_TESTS(tests) run_apart((tests), sizeof(tests) / sizeof((tests)[0]))

#endif
