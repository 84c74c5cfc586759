/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>
#include <tendril/status.h>

/* The bytes of a head are frozen: docs/protocol.md has this very example. */
static const struct message_head example = {
    .version = 1,
    .type = MESSAGE_CALL,
    .flags = 2,
    .layout = MESSAGE_BODY_APART,
    .body_size = 0x01020304,
    .nstorages = 5,
    .call_id = 0x1112131415161718,
    .incarnation = 0x2122232425262728,
    .sequence = 0x3132333435363738,
    .acknowledged = 0x4142434445464748,
    .credit = 0x5152535455565758,
    .time_left_ms = 0x61626364,
};

static const uint8_t example_wire[MESSAGE_HEAD_SIZE] = {
    'T',  'D',  'R',  'L',  1,    9,    2,    1,    0x04, 0x03, 0x02, 0x01, 5,    0,    0,    0,
    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
    0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, 0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41,
    0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51, 0x64, 0x63, 0x62, 0x61, 0,    0,    0,    0,
};

static void test_head_write(void **state)
{
	uint8_t wire[MESSAGE_HEAD_SIZE];

	memset(wire, 0xff, sizeof(wire));
	message_head_write(&example, wire);
	assert_memory_equal(wire, example_wire, sizeof(wire));
}

static void test_head_read(void **state)
{
	struct message_head head;

	memset(&head, 0, sizeof(head));
	assert_int_equal(message_head_read(example_wire, &head), TDR_OK);
	assert_int_equal(head.version, example.version);
	assert_int_equal(head.type, example.type);
	assert_int_equal(head.flags, example.flags);
	assert_int_equal(head.layout, example.layout);
	assert_int_equal(head.body_size, example.body_size);
	assert_int_equal(head.nstorages, example.nstorages);
	assert_int_equal(head.call_id, example.call_id);
	assert_int_equal(head.incarnation, example.incarnation);
	assert_int_equal(head.sequence, example.sequence);
	assert_int_equal(head.acknowledged, example.acknowledged);
	assert_int_equal(head.credit, example.credit);
	assert_int_equal(head.time_left_ms, example.time_left_ms);
}

static void expect(size_t at, uint8_t byte, tdr_status status, const char *text)
{
	uint8_t wire[MESSAGE_HEAD_SIZE];
	struct message_head head = {.type = 99};

	memcpy(wire, example_wire, sizeof(wire));
	wire[at] = byte;
	assert_int_equal(message_head_read(wire, &head), status);
	assert_non_null(strstr(tdr_last_error(), text));
	assert_int_equal(head.type, 99);
}

static void test_head_malformed(void **state)
{
	expect(0, 'G', TDR_EPROTO, "47 44 52 4c");
	expect(3, 0, TDR_EPROTO, "no message");
	expect(4, 2, TDR_EVERSION, "version 2");
	expect(4, 0, TDR_EVERSION, "version 0");
	expect(5, 0, TDR_EPROTO, "type 0");
	expect(5, 200, TDR_EPROTO, "type 200");
	expect(5, MESSAGE_CHUNK, TDR_EPROTO, "zero"); /* a chunk has no flags, layout or time */
	expect(7, 2, TDR_EPROTO, "zero");
	expect(60, 1, TDR_EPROTO, "zero");
	expect(63, 1, TDR_EPROTO, "zero");
}

static void test_names(void **state)
{
	assert_string_equal(message_type_name(MESSAGE_HELLO), "hello");
	assert_string_equal(message_type_name(MESSAGE_CHUNK), "chunk");
	assert_string_equal(message_type_name(MESSAGE_SCATTER), "scatter");
	assert_null(message_type_name(0));
	assert_null(message_type_name(256 + MESSAGE_CALL));
}

static void test_cost(void **state)
{
	tdr_storage *storages[2];
	struct message message = {.type = MESSAGE_CALL, .body_size = 10, .nstorages = 2, .storages = storages};

	assert_int_equal(tdr_storage_new(100, &storages[0]), TDR_OK);
	assert_int_equal(tdr_storage_new(0, &storages[1]), TDR_OK);
	assert_int_equal(message_cost(&message), MESSAGE_HEAD_SIZE + 2 * 8 + 10 + 100);
	message.nstorages = 0;
	assert_int_equal(message_cost(&message), MESSAGE_HEAD_SIZE + 10);
	tdr_storage_unref(storages[0]);
	tdr_storage_unref(storages[1]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_head_write), cmocka_unit_test(test_head_read), cmocka_unit_test(test_head_malformed),
	    cmocka_unit_test(test_names),      cmocka_unit_test(test_cost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
