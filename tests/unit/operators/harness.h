/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calling operators without an agent: the table goes into a registry, and calls are bound and run as an agent would, in
 * the calling thread.
 */
#ifndef TENDRIL_TESTS_OPERATORS_HARNESS_H
#define TENDRIL_TESTS_OPERATORS_HARNESS_H

#include <tendril/value.h>

/* Registers all operators, and forgets them; the process ends with a message where that fails. */
void harness_open(void);
void harness_close(void);

/*
 * Calls by full or short name; `args` and `kwargs` (either may be NULL) are given away. On failure harness_error() has
 * the text.
 */
tdr_status harness_call(const char *name, tdr_value *args, tdr_value *kwargs, tdr_value **ret_value);
const char *harness_error(void);

#endif
