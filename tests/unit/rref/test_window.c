/* SPDX-License-Identifier: Apache-2.0 */
/* Windows: each number is taken once, in whatever order they come. */
#include "rref/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_in_order(void **state)
{
	struct window window = {0};

	for (uint64_t number = 1; number <= 1000; number++) {
		assert_false(window_has(&window, number));
		assert_int_equal(window_take(&window, number), WINDOW_NEW);
		assert_int_equal(window_take(&window, number), WINDOW_SEEN);
	}
	assert_int_equal(window.below, 1000);
	assert_null(window.early);
	window_fini(&window);
}

static void test_backwards(void **state)
{
	struct window window = {0};

	for (uint64_t number = 100; number > 1; number--)
		assert_int_equal(window_take(&window, number), WINDOW_NEW);
	assert_int_equal(window.below, 0);
	assert_int_equal(window.count, 99);
	assert_int_equal(window_take(&window, 50), WINDOW_SEEN);
	assert_int_equal(window_take(&window, 1), WINDOW_NEW);
	assert_int_equal(window.below, 100);
	assert_int_equal(window.count, 0);
	window_fini(&window);
}

static void test_shuffled(void **state)
{
	enum {
		COUNT = 2000
	};
	static bool taken[COUNT + 1];
	struct window window = {0};
	uint64_t word = 1;

	memset(taken, 0, sizeof(taken));
	for (unsigned i = 0; i < 20 * COUNT; i++) {
		uint64_t number;

		word = word * 6364136223846793005u + 1442695040888963407u;
		number = 1 + (word >> 33) % COUNT;
		assert_int_equal(window_has(&window, number), taken[number]);
		assert_int_equal(window_take(&window, number), taken[number] ? WINDOW_SEEN : WINDOW_NEW);
		taken[number] = true;
	}
	window_fini(&window);
}

static void test_zero_has_come(void **state)
{
	struct window window = {0};

	assert_true(window_has(&window, 0));
	assert_int_equal(window_take(&window, 0), WINDOW_SEEN);
	window_fini(&window);
}

static void test_huge_numbers(void **state)
{
	struct window window = {0};

	assert_int_equal(window_take(&window, UINT64_MAX), WINDOW_NEW);
	assert_int_equal(window_take(&window, UINT64_MAX), WINDOW_SEEN);
	assert_int_equal(window_take(&window, UINT64_MAX - 1), WINDOW_NEW);
	assert_int_equal(window_take(&window, 1), WINDOW_NEW);
	assert_int_equal(window.below, 1);
	assert_int_equal(window.count, 2);
	window_fini(&window);
}

/* Whoever leaves that many open is refused, until a gap is filled. */
static void test_bounds(void **state)
{
	struct window window = {0};

	for (uint64_t i = 0; i < WINDOW_MAX_EARLY; i++)
		assert_int_equal(window_take(&window, 3 + i), WINDOW_NEW);
	assert_int_equal(window_take(&window, 3 + WINDOW_MAX_EARLY), WINDOW_REFUSED);
	assert_false(window_has(&window, 3 + WINDOW_MAX_EARLY));
	assert_int_equal(window_take(&window, 1), WINDOW_NEW);
	assert_int_equal(window_take(&window, 2), WINDOW_NEW);
	assert_int_equal(window.below, 2 + WINDOW_MAX_EARLY);
	assert_int_equal(window_take(&window, 3 + WINDOW_MAX_EARLY), WINDOW_NEW);
	window_fini(&window);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_in_order),      cmocka_unit_test(test_backwards),    cmocka_unit_test(test_shuffled),
	    cmocka_unit_test(test_zero_has_come), cmocka_unit_test(test_huge_numbers), cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests_name("rref/window", tests, NULL, NULL);
}
