/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes, the index over them, and sets of pointers. */
#include "base/pointers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MANY 10000

static void test_hash_depends_on_every_byte(void **state)
{
	uint8_t bytes[40] = {0};
	uint64_t hashes[COUNT_OF(bytes) + 1];

	for (size_t size = 0; size <= sizeof(bytes); size++) {
		hashes[size] = hash_bytes(bytes, size);
		for (size_t shorter = 0; shorter < size; shorter++)
			assert_true(hashes[size] != hashes[shorter]);
		for (size_t at = 0; at < size; at++) {
			bytes[at] = 1;
			assert_true(hash_bytes(bytes, size) != hashes[size]);
			bytes[at] = 0;
		}
		assert_true(hash_bytes(bytes, size) == hashes[size]);
	}
}

static size_t count_found(const struct hash_index *index, uint64_t hash, uint32_t wanted)
{
	size_t probe = (size_t)hash, count = 0;
	uint32_t position;

	while (hash_index_next(index, hash, &probe, &position))
		count += position == wanted;
	return count;
}

static void test_index_finds_what_was_added(void **state)
{
	struct hash_index index = {0};

	assert_int_equal(count_found(&index, 5, 0), 0);
	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < MANY; i++) {
			assert_int_equal(count_found(&index, hash_word(i), i), 0);
			assert_true(hash_index_add(&index, hash_word(i), i));
		}
		for (uint32_t i = 0; i < MANY; i++)
			assert_int_equal(count_found(&index, hash_word(i), i), 1);
		hash_index_clear(&index);
	}
	hash_index_fini(&index);
}

static void test_index_holds_several_under_one_hash(void **state)
{
	struct hash_index index = {0};

	for (uint32_t i = 0; i < 100; i++)
		assert_true(hash_index_add(&index, 77, i));
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(count_found(&index, 77, i), 1);
	assert_int_equal(count_found(&index, 78, 0), 0);
	hash_index_fini(&index);
}

static void test_pointers_have_positions(void **state)
{
	struct pointers pointers = {0};
	char *base = malloc(MANY);

	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < MANY; i++) {
			assert_int_equal(pointers_find(&pointers, base + i), -1);
			assert_true(pointers_add(&pointers, base + i));
			assert_int_equal(pointers_find(&pointers, base + i), i);
			assert_int_equal(pointers_find(&pointers, base), 0);
		}
		assert_int_equal(pointers.count, MANY);
		for (size_t i = 0; i < MANY; i++)
			assert_int_equal(pointers_find(&pointers, base + i), i);
		pointers_clear(&pointers);
		assert_int_equal(pointers_find(&pointers, base), -1);
	}
	pointers_fini(&pointers);
	free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_hash_depends_on_every_byte),
	    cmocka_unit_test(test_index_finds_what_was_added),
	    cmocka_unit_test(test_index_holds_several_under_one_hash),
	    cmocka_unit_test(test_pointers_have_positions),
	};

	return cmocka_run_group_tests_name("base/hash", tests, NULL, NULL);
}
