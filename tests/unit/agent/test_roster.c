/* SPDX-License-Identifier: Apache-2.0 */
/* Rosters: members that are added and removed, and their bytes, also such as come from somebody else. */
#include "agent/roster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void add(struct roster *roster, uint32_t id, tdr_value *description)
{
	struct entry entry = {.who = {.id = id, .incarnation = 1000 + id}, .description = description};

	snprintf(entry.who.name, sizeof(entry.who.name), "worker%u", id);
	snprintf(entry.who.address, sizeof(entry.who.address), "tcp://127.0.0.1:%u", 4000 + id);
	assert_int_equal(roster_add(roster, &entry), TDR_OK);
	tdr_value_unref(description);
}

static struct roster sample(void)
{
	struct roster roster = {.lineage = UINT64_C(0x1122334455667788), .epoch = 12};

	add(&roster, 7, NULL);
	add(&roster, 0, tdr_string("the first"));
	add(&roster, 3, NULL);
	add(&roster, 5, tdr_int(5));
	roster_remove(&roster, 1, true);
	return roster;
}

static struct encoder encode(const struct roster *roster)
{
	struct encoder encoder;

	encoder_init(&encoder, &codec_default_limits);
	assert_int_equal(roster_write(roster, &encoder), TDR_OK);
	return encoder;
}

static void members_are_in_the_order_of_ids(void **state)
{
	struct roster roster = sample();

	assert_int_equal(roster.count, 3);
	assert_int_equal(roster.members[0].who.id, 0);
	assert_int_equal(roster.members[1].who.id, 5);
	assert_int_equal(roster.members[2].who.id, 7);
	assert_int_equal(roster_find(&roster, 1005), 1);
	assert_int_equal(roster_find(&roster, 1003), UINT32_MAX);
	assert_non_null(roster_departure(&roster, 1003));
	assert_true(roster_departure(&roster, 1003)->evicted);
	assert_int_equal(roster_departure(&roster, 1003)->epoch, 12);
	assert_null(roster_departure(&roster, 1005));
	roster_fini(&roster);
}

static void the_last_departures_are_kept(void **state)
{
	struct roster roster = {.epoch = 1};

	for (uint32_t i = 0; i < MAX_DEPARTURES + 10; i++) {
		add(&roster, i, NULL);
		roster_remove(&roster, 0, i % 2 == 0);
	}
	assert_int_equal(roster.count, 0);
	assert_int_equal(roster.ndepartures, MAX_DEPARTURES);
	assert_null(roster_departure(&roster, 1009));
	assert_int_equal(roster_departure(&roster, 1010)->id, 10);
	assert_false(roster_departure(&roster, 1000 + MAX_DEPARTURES + 9)->evicted);
	roster_fini(&roster);
}

static void what_is_written_is_read(void **state)
{
	struct roster roster = sample(), read;
	struct encoder encoder = encode(&roster), again;
	int64_t number = 0;

	assert_int_equal(roster_read(encoder.body.data, encoder.body.size, &read), TDR_OK);
	assert_int_equal(read.lineage, roster.lineage);
	assert_int_equal(read.epoch, 12);
	assert_int_equal(read.count, 3);
	assert_string_equal(read.members[2].who.name, "worker7");
	assert_string_equal(read.members[2].who.address, "tcp://127.0.0.1:4007");
	assert_null(read.members[2].description);
	assert_int_equal(tdr_value_get_int(read.members[1].description, &number), TDR_OK);
	assert_int_equal(number, 5);
	assert_int_equal(read.ndepartures, 1);
	again = encode(&read);
	assert_int_equal(again.body.size, encoder.body.size);
	assert_memory_equal(again.body.data, encoder.body.data, again.body.size);
	encoder_fini(&again);
	encoder_fini(&encoder);
	roster_fini(&read);
	roster_fini(&roster);
}

static void no_bytes_are_nobody(void **state)
{
	struct roster read = {.epoch = 77};

	assert_int_equal(roster_read(NULL, 0, &read), TDR_OK);
	assert_true(read.epoch == 0 && read.lineage == 0 && read.count == 0 && !read.members);
}

/* Whatever comes is refused, or is a roster that could have been written. */
static void expect_sound(const uint8_t *bytes, size_t size)
{
	struct roster read;

	if (roster_read(bytes, size, &read) != TDR_OK)
		return;
	for (uint32_t i = 1; i < read.count; i++)
		assert_true(read.members[i - 1].who.id < read.members[i].who.id);
	assert_true(read.ndepartures <= MAX_DEPARTURES);
	roster_fini(&read);
}

static void broken_bytes_are_refused(void **state)
{
	struct roster roster = sample(), read;
	struct encoder encoder = encode(&roster);
	uint8_t *copy = malloc(encoder.body.size);

	assert_non_null(copy);
	for (size_t size = 1; size < encoder.body.size; size++) {
		memcpy(copy, encoder.body.data, size);
		assert_int_not_equal(roster_read(copy, size, &read), TDR_OK);
	}
	for (size_t at = 0; at < encoder.body.size; at++) {
		for (unsigned byte = 0; byte < 256; byte++) {
			memcpy(copy, encoder.body.data, encoder.body.size);
			copy[at] = (uint8_t)byte;
			expect_sound(copy, encoder.body.size);
		}
	}
	free(copy);
	encoder_fini(&encoder);
	roster_fini(&roster);
}

static void members_out_of_order_are_refused(void **state)
{
	struct roster roster = {.lineage = 1, .epoch = 1}, read;
	struct encoder encoder;

	add(&roster, 1, NULL);
	add(&roster, 2, NULL);
	roster.members[1].who.id = 1;
	encoder = encode(&roster);
	assert_int_equal(roster_read(encoder.body.data, encoder.body.size, &read), TDR_EPROTO);
	assert_non_null(strstr(tdr_last_error(), "not in the order of ids"));
	encoder_fini(&encoder);
	roster_fini(&roster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(members_are_in_the_order_of_ids), cmocka_unit_test(the_last_departures_are_kept),
	    cmocka_unit_test(what_is_written_is_read),         cmocka_unit_test(no_bytes_are_nobody),
	    cmocka_unit_test(broken_bytes_are_refused),        cmocka_unit_test(members_out_of_order_are_refused),
	};

	return cmocka_run_group_tests_name("roster", tests, NULL, NULL);
}
