/* SPDX-License-Identifier: Apache-2.0 */
/* The memory pool: classes and alignment, reuse, the bound, statistics, poison, threads, fork. */
#include "base/pool.h"

#include "base/macros.h"
#include "base/poison.h"

#include <assert.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static void test_sizes(void **state)
{
	static const size_t sizes[] = {0,         1,       63,          64,          65,      80,
	                               81,        127,     128,         129,         4096,    5000,
	                               100 * KIB, MIB + 1, 2 * MIB,     2 * MIB + 1, 5 * MIB, 7 * MIB - 1,
	                               7 * MIB,   8 * MIB, 8 * MIB + 1, 33 * MIB + 5};

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		struct pool *pool = pool_new(64 * MIB);
		size_t room, least = MAX_OF(sizes[i], (size_t)64);
		uint8_t *block = pool_take(pool, sizes[i]);

		assert_non_null(block);
		assert_int_equal((uintptr_t)block % 64, 0);
		memset(block, 0xa5, sizes[i]);
		room = pool_stats(pool).bytes_in_use;
		assert_in_range(room, least, least + least / 4);
		if (room >= 2 * MIB)
			assert_int_equal((uintptr_t)block % (2 * MIB), 0);
		pool_give(pool, block);
		assert_null(pool_unref(pool));
	}
}

/* Each size from 1 to some thousands, and those around each power of two, have at most a quarter more room. */
static void test_waste(void **state)
{
	struct pool *pool = pool_new(0);

	for (size_t size = 64; size < 3000; size++) {
		void *block = pool_take(pool, size);

		assert_in_range(pool_stats(pool).bytes_in_use, size, size + size / 4);
		pool_give(pool, block);
	}
	for (size_t power = 4096; power <= 64 * MIB; power *= 2) {
		for (size_t size = power - 1; size <= power + 1; size++) {
			void *block = pool_take(pool, size);

			assert_in_range(pool_stats(pool).bytes_in_use, size, size + size / 4);
			pool_give(pool, block);
		}
	}
	assert_int_equal(pool_stats(pool).bytes_in_use, 0);
	pool_unref(pool);
}

static void test_too_large(void **state)
{
	struct pool *pool = pool_new(MIB);
	struct pool_stats stats;

	assert_null(pool_take(pool, SIZE_MAX));
	assert_null(pool_take(pool, SIZE_MAX - 64));
	assert_null(pool_take(pool, ((size_t)1 << 46) + 1));
	assert_null(pool_take(pool, (size_t)1 << 46)); /* within the classes; more than the addresses left can hold */
	stats = pool_stats(pool);
	assert_int_equal(stats.taken, 0);
	assert_int_equal(stats.bytes_in_use, 0);
	pool_unref(pool);
}

static void check_reuse(size_t size, size_t similar, size_t other)
{
	struct pool *pool = pool_new(64 * MIB);
	struct pool_stats stats;
	void *block = pool_take(pool, size), *second, *third;

	pool_give(pool, block);
	assert_true(pool_stats(pool).bytes_kept >= size);
	second = pool_take(pool, similar);
	assert_ptr_equal(second, block);
	third = pool_take(pool, other);
	assert_ptr_not_equal(third, block);
	stats = pool_stats(pool);
	assert_int_equal(stats.taken, 3);
	assert_int_equal(stats.reused, 1);
	assert_int_equal(stats.bytes_kept, 0);
	assert_true(stats.bytes_in_use >= similar + other);
	pool_give(pool, second);
	pool_give(pool, third);
	stats = pool_stats(pool);
	assert_int_equal(stats.bytes_in_use, 0);
	assert_true(stats.bytes_kept >= similar + other);
	pool_unref(pool);
}

static void test_reuse(void **state)
{
	check_reuse(1000, 1024, 500);
	check_reuse(300 * KIB, 320 * KIB, 330 * KIB);
	check_reuse(3 * MIB, 3 * MIB - 100, 4 * MIB);
}

/* The block that was given last is the one whose bytes are still in a cache. */
static void test_last_given_first_taken(void **state)
{
	struct pool *pool = pool_new(MIB);
	void *a = pool_take(pool, 1024), *b = pool_take(pool, 1024);

	pool_give(pool, a);
	pool_give(pool, b);
	assert_ptr_equal(pool_take(pool, 1024), b);
	assert_ptr_equal(pool_take(pool, 1024), a);
	pool_give(pool, a);
	pool_give(pool, b);
	pool_unref(pool);
}

static void test_limit(void **state)
{
	struct pool *pool = pool_new(4 * 1024);
	void *blocks[6], *large;

	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		blocks[i] = pool_take(pool, 1024);
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		pool_give(pool, blocks[i]);
		assert_int_equal(pool_stats(pool).bytes_kept, MIN_OF((i + 1) * 1024, (size_t)4096));
	}
	/* What is larger than the limit pushes nothing out. */
	large = pool_take(pool, 5000);
	pool_give(pool, large);
	assert_int_equal(pool_stats(pool).bytes_kept, 4096);
	/* What fits pushes out those that lay there longest, so that sizes no longer asked for do not fill the pool. */
	large = pool_take(pool, 2048);
	pool_give(pool, large);
	assert_int_equal(pool_stats(pool).bytes_kept, 4096);
	assert_ptr_equal(pool_take(pool, 2048), large);
	pool_give(pool, large);
	for (size_t i = 0; i < 3; i++)
		blocks[i] = pool_take(pool, 1024);
	assert_int_equal(pool_stats(pool).reused, 3);
	for (size_t i = 0; i < 3; i++)
		pool_give(pool, blocks[i]);
	pool_unref(pool);
}

static void test_no_limit_kept(void **state)
{
	struct pool *pool = pool_new(0);

	pool_give(pool, pool_take(pool, 64));
	pool_give(pool, pool_take(pool, 4 * MIB));
	assert_int_equal(pool_stats(pool).bytes_kept, 0);
	assert_int_equal(pool_stats(pool).reused, 0);
	pool_unref(pool);
}

static void test_block_outlives_holder(void **state)
{
	struct pool *pool = pool_new(MIB);
	char *block = pool_take(pool, 100), *large = pool_take(pool, 3 * MIB);

	assert_null(pool_unref(pool));
	memset(block, 1, 100);
	memset(large, 1, 3 * MIB);
	pool_give(pool, block);
	pool_give(pool, large); /* frees the pool */
}

static void test_null(void **state)
{
	struct pool *pool = pool_new(MIB);

	assert_null(pool_ref(NULL));
	assert_null(pool_unref(NULL));
	pool_give(pool, NULL);
	assert_ptr_equal(pool_ref(pool), pool);
	pool_unref(pool);
	pool_unref(pool);
}

#ifdef POISON_ASAN
static void check_poison(size_t size, size_t room)
{
	struct pool *pool = pool_new(16 * MIB);
	char *block = pool_take(pool, size);

	assert_null(__asan_region_is_poisoned(block, size));
	assert_true(__asan_address_is_poisoned(block + size));
	assert_true(__asan_address_is_poisoned(block + room - 1));
	pool_give(pool, block);
	assert_true(__asan_address_is_poisoned(block));
	assert_true(__asan_address_is_poisoned(block + size / 2));
	assert_true(__asan_address_is_poisoned(block + room - 1));
	assert_ptr_equal(pool_take(pool, room), block);
	assert_null(__asan_region_is_poisoned(block, room));
	memset(block, 0, room);
	pool_give(pool, block);
	pool_unref(pool);
}

static void test_poison(void **state)
{
	check_poison(1000, 1024);
	check_poison(1021, 1024);
	check_poison(4 * MIB - 13, 4 * MIB);
}
#endif

/* ---- threads ---- */

#define THREADS 4
#define ROUNDS 4000
#define SLOTS 16

struct hammer {
	struct pool *pool;
	_Atomic(uint8_t *) slots[SLOTS]; /* blocks pass from thread to thread through here */
};

static const size_t hammer_sizes[] = {48, 64, 1000, 1024, 5000, 70000, 300000, 3 * MIB};

/* Each block carries its size and a mark at both ends: a block handed out twice would show. */
static void *hammer_run(void *argument)
{
	struct hammer *hammer = argument;
	unsigned seed = (unsigned)(uintptr_t)&seed;

	for (size_t i = 0; i < ROUNDS; i++) {
		size_t size = hammer_sizes[(size_t)rand_r(&seed) % COUNT_OF(hammer_sizes)], was;
		uint8_t *block = pool_take(hammer->pool, size), mark = (uint8_t)rand_r(&seed);

		assert(block);
		memcpy(block, &size, sizeof(size));
		block[sizeof(size)] = block[size - 1] = mark;
		block = atomic_exchange(&hammer->slots[(size_t)rand_r(&seed) % SLOTS], block);
		if (!block)
			continue;
		memcpy(&was, block, sizeof(was));
		assert(block[sizeof(was)] == block[was - 1]);
		pool_give(hammer->pool, block);
		(void)pool_stats(hammer->pool);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct hammer hammer = {.pool = pool_new(8 * MIB)};
	pthread_t threads[THREADS];
	struct pool_stats stats;

	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer_run, &hammer), 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < SLOTS; i++)
		pool_give(hammer.pool, hammer.slots[i]);
	stats = pool_stats(hammer.pool);
	assert_int_equal(stats.taken, THREADS * ROUNDS);
	assert_true(stats.reused > 0);
	assert_int_equal(stats.bytes_in_use, 0);
	assert_true(stats.bytes_kept <= 8 * MIB);
	pool_unref(hammer.pool);
}

/* ---- fork ---- */

struct taker {
	struct pool *pool;
	_Atomic int over;
};

static void *take_and_give(void *argument)
{
	struct taker *taker = argument;

	while (!taker->over)
		pool_give(taker->pool, pool_take(taker->pool, 256));
	return NULL;
}

/* A child drops what it inherited, whatever the parent's other threads were at when it was made. */
static void test_fork(void **state)
{
	struct taker taker = {.pool = pool_new(MIB)};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, take_and_give, &taker), 0);
	for (int i = 0; i < 20; i++) {
		char *block = pool_take(taker.pool, 1000);
		struct pool_stats stats;
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (child == 0) {
			char *fresh;

			alarm(30);
			block[0] = 1;
			pool_give(taker.pool, block);
			fresh = pool_take(taker.pool, 3 * MIB);
			fresh[0] = 1;
			pool_give(taker.pool, fresh);
			stats = pool_stats(taker.pool);
			pool_unref(taker.pool);
			_exit(stats.taken == 0 ? 0 : 1);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		pool_give(taker.pool, block);
	}
	taker.over = 1;
	pthread_join(thread, NULL);
	assert_int_equal(pool_stats(taker.pool).bytes_in_use, 0);
	pool_unref(taker.pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sizes),
	    cmocka_unit_test(test_waste),
	    cmocka_unit_test(test_too_large),
	    cmocka_unit_test(test_reuse),
	    cmocka_unit_test(test_last_given_first_taken),
	    cmocka_unit_test(test_limit),
	    cmocka_unit_test(test_no_limit_kept),
	    cmocka_unit_test(test_block_outlives_holder),
	    cmocka_unit_test(test_null),
#ifdef POISON_ASAN
	    cmocka_unit_test(test_poison),
#endif
	    cmocka_unit_test(test_threads),
	    cmocka_unit_test(test_fork),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
