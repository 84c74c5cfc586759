/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test left behind: open descriptors, threads, child processes, and entries of /dev/shm.
 *
 *     cmocka_unit_test_setup_teardown(test_something, leaks_setup, leaks_teardown)
 *
 * fails test_something, and names what is left, if anything is there after it that was not there before. The fixtures do
 * not use `state`, so a fixture of the test's own can call them. They nest: a group may have them as well as its tests.
 *
 * What ends by itself (a detached thread, a process being reaped) is given LEAKS_GRACE_MS to do so.
 */
#ifndef TENDRIL_TESTS_LEAKS_H
#define TENDRIL_TESTS_LEAKS_H

#define LEAKS_GRACE_MS 5000

int leaks_setup(void **state);
int leaks_teardown(void **state);

/* ---- the same without cmocka ---- */

struct leaks;

/* What is there now. Never NULL: aborts where it cannot be told. */
struct leaks *leaks_snapshot(void);

/*
 * What is there now and was not in `before`, one line each; NULL if nothing. Waits up to `grace_ms` for it to become
 * nothing. The text is the caller's to free.
 *
 * An entry of /dev/shm counts if its name contains the number of this process or of one that does not live: the others
 * belong to tests that run beside this one.
 */
char *leaks_since(const struct leaks *before, int grace_ms);

struct leaks *leaks_free(struct leaks *leaks);

#endif
