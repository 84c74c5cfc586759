/* SPDX-License-Identifier: Apache-2.0 */
/* Device plans: setting them, telling others of them, and each rule by which those of a group must fit together. */
#include "agent/device_plan.h"

#include "base/macros.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CUDA(number) ((tdr_device){TDR_CUDA, (number)})
#define PAIR(a, b) ((tdr_device_pair){a, b})

static void assert_error(tdr_status status, tdr_status wanted, const char *part)
{
	assert_string_equal(tdr_status_name(status), tdr_status_name(wanted));
	if (!strstr(tdr_last_error(), part))
		fail_msg("'%s' does not say '%s'", tdr_last_error(), part);
}

static tdr_status add(struct device_plan *plan, const char *worker, tdr_device from, tdr_device to)
{
	return device_plan_add(plan, worker, 1, &PAIR(from, to));
}

/* ---- setting ---- */

static void pairs_add_up(void **state)
{
	struct device_plan plan = {0};
	const struct device_map *map;

	assert_int_equal(add(&plan, "a", CUDA(1), CUDA(0)), TDR_OK);
	assert_int_equal(add(&plan, "a", TDR_DEVICE_CPU, TDR_DEVICE_CPU), TDR_OK);
	assert_int_equal(add(&plan, "a", ((tdr_device){TDR_CPU, 0}), TDR_DEVICE_CPU), TDR_OK); /* the same again */
	assert_int_equal(add(&plan, "b", CUDA(0), CUDA(3)), TDR_OK);
	assert_int_equal(add(&plan, "a", CUDA(0), CUDA(0)),
	                 TDR_OK); /* two to one, but in two calls: the group's check */
	map = device_plan_find(&plan, "a");
	assert_int_equal(map->count, 3);
	assert_int_equal(map->pairs[0].from, 1);
	assert_int_equal(map->pairs[1].from, PLAN_CPU);
	assert_int_equal(map->pairs[2].from, 0);
	assert_int_equal(device_plan_find(&plan, "b")->count, 1);
	assert_null(device_plan_find(&plan, "c"));
	device_plan_forget(&plan, "a");
	device_plan_forget(&plan, "c");
	assert_null(device_plan_find(&plan, "a"));
	assert_int_equal(device_plan_find(&plan, "b")->pairs[0].to, 3);
	device_plan_fini(&plan);
}

static void what_cannot_be_set_leaves_the_plan_alone(void **state)
{
	const tdr_device_pair two_to_one[] = {PAIR(CUDA(2), CUDA(2)), PAIR(CUDA(3), CUDA(2))};
	struct device_plan plan = {0};

	assert_int_equal(add(&plan, "a", CUDA(1), CUDA(0)), TDR_OK);
	assert_error(add(&plan, "a", CUDA(1), CUDA(2)), TDR_EINVAL, "`set_device_map` only supports 1-to-1 mapping");
	assert_error(device_plan_add(&plan, "a", 2, two_to_one), TDR_EINVAL,
	             "`device_map` only supports 1-to-1 mapping, trying to map cuda:3 and cuda:2 to cuda:2");
	assert_error(device_plan_add(&plan, "b", 2, two_to_one), TDR_EINVAL, "1-to-1");
	assert_error(add(&plan, "a", CUDA(-1), CUDA(0)), TDR_EINVAL, "Device index must not be negative");
	assert_error(add(&plan, "a", CUDA(0), CUDA(-2)), TDR_EINVAL, "Device index must not be negative");
	assert_error(add(&plan, "a", ((tdr_device){(tdr_device_type)9, 0}), CUDA(0)), TDR_EINVAL, "type 9");
	assert_error(device_plan_set_devices(&plan, 1, &TDR_DEVICE_CPU), TDR_EINVAL,
	             "`set_devices` expect a list of CUDA devices, but got device type cpu");
	assert_error(device_plan_set_devices(&plan, 1, &CUDA(-1)), TDR_EINVAL, "must not be negative");
	assert_error(device_plan_add(&plan, "a", PLAN_MAX_DEVICES, two_to_one), TDR_ELIMIT, "more than");
	assert_error(device_plan_set_devices(&plan, PLAN_MAX_DEVICES + 1, NULL), TDR_ELIMIT, "more than");
	assert_int_equal(plan.nmaps, 1);
	assert_int_equal(plan.maps[0].count, 1);
	assert_int_equal(plan.ndevices, 0);
	device_plan_fini(&plan);
}

/* ---- telling others ---- */

static void assert_same(const struct device_plan *a, const struct device_plan *b)
{
	assert_int_equal(a->device_count, b->device_count);
	assert_int_equal(a->ndevices, b->ndevices);
	assert_memory_equal(a->devices, b->devices, a->ndevices * sizeof(*a->devices));
	assert_int_equal(a->nmaps, b->nmaps);
	for (size_t i = 0; i < a->nmaps; i++) {
		assert_string_equal(a->maps[i].worker, b->maps[i].worker);
		assert_int_equal(a->maps[i].count, b->maps[i].count);
		assert_memory_equal(a->maps[i].pairs, b->maps[i].pairs, a->maps[i].count * sizeof(*a->maps[i].pairs));
	}
}

static void what_is_told_is_read_again(void **state)
{
	struct device_plan plan = {.device_count = 8}, read = {0};
	const tdr_device devices[] = {CUDA(5), CUDA(2)};
	tdr_value *description;

	assert_int_equal(add(&plan, "a", CUDA(5), TDR_DEVICE_CPU), TDR_OK);
	assert_int_equal(add(&plan, "a", CUDA(2), CUDA(7)), TDR_OK);
	assert_int_equal(add(&plan, "b", CUDA(2), CUDA(0)), TDR_OK);
	assert_int_equal(device_plan_set_devices(&plan, 2, devices), TDR_OK);
	description = device_plan_describe(&plan);
	assert_int_equal(tdr_value_status(description), TDR_OK);
	assert_int_equal(device_plan_read(description, &read), TDR_OK);
	assert_same(&plan, &read);
	tdr_value_unref(description);
	device_plan_fini(&read);
	device_plan_fini(&plan);
}

static void nothing_is_told_as_none(void **state)
{
	struct device_plan plan = {0}, read = {.device_count = 1};
	tdr_value *description = device_plan_describe(&plan);

	assert_true(tdr_value_is_none(description));
	assert_int_equal(device_plan_read(description, &read), TDR_OK);
	assert_int_equal(read.device_count, 0);
	assert_int_equal(device_plan_read(NULL, &read), TDR_OK);
	tdr_value_unref(description);
}

static tdr_value *list_of(int64_t first, int64_t second)
{
	return tdr_list(2, (tdr_value *[]){tdr_int(first), tdr_int(second)});
}

static tdr_value *dict_of(tdr_value *key, tdr_value *value)
{
	tdr_value *dict = tdr_dict_new();

	tdr_dict_put(dict, key, value);
	return dict;
}

static void expect_refused(tdr_value *count, tdr_value *devices, tdr_value *maps, const char *part)
{
	tdr_value *description = tdr_tuple(3, (tdr_value *[]){count, devices, maps});
	struct device_plan plan = {.device_count = 77};

	assert_int_equal(tdr_value_status(description), TDR_OK);
	assert_error(device_plan_read(description, &plan), TDR_EPROTO, part);
	assert_int_equal(plan.device_count, 77);
	tdr_value_unref(description);
}

static void what_is_malformed_is_refused(void **state)
{
	tdr_value *number = tdr_int(3);
	struct device_plan plan;

	assert_error(device_plan_read(number, &plan), TDR_EPROTO, "not ours");
	tdr_value_unref(number);
	expect_refused(tdr_int(-1), list_of(0, 1), tdr_dict_new(), "number of accelerators");
	expect_refused(tdr_string("8"), list_of(0, 1), tdr_dict_new(), "number of accelerators");
	expect_refused(tdr_int(8), tdr_int(8), tdr_dict_new(), "list of devices is none");
	expect_refused(tdr_int(8), list_of(0, -2), tdr_dict_new(), "something else at 1");
	expect_refused(tdr_int(8), list_of(INT64_C(1) << 31, 0), tdr_dict_new(), "something else at 0");
	expect_refused(tdr_int(8), list_of(0, 1), list_of(0, 1), "no dict");
	expect_refused(tdr_int(8), list_of(0, 1), dict_of(tdr_int(1), list_of(0, 1)), "no string");
	expect_refused(tdr_int(8), list_of(0, 1), dict_of(tdr_string("a"), tdr_int(0)), "list of devices is none");
	expect_refused(tdr_int(8), list_of(0, 1), dict_of(tdr_string("a"), tdr_list(1, (tdr_value *[]){tdr_int(0)})),
	               "half a pair");
	expect_refused(
	    tdr_int(8), list_of(0, 1),
	    dict_of(tdr_string("a"), tdr_list(4, (tdr_value *[]){tdr_int(0), tdr_int(1), tdr_int(0), tdr_int(2)})),
	    "maps a device twice");
}

/* ---- the rules ---- */

#define MAX_PAIRS 3
#define NONE (-9) /* ends a list */
#define CPU PLAN_CPU

/* Two workers, "a" and "b", of which "a" has one map. */
struct rule {
	const char *name;
	int64_t count_a, count_b;
	int32_t devices_a[MAX_PAIRS], devices_b[MAX_PAIRS];
	const char *target; /* NULL: no map */
	int32_t from[MAX_PAIRS], to[MAX_PAIRS];
	const char *error;         /* in a group that is complete; NULL: none */
	const char *error_growing; /* in one that may grow */
};

#define SAME(text) .error = (text), .error_growing = (text)
#define LIST(...)                                                                                                      \
	{                                                                                                              \
		__VA_ARGS__                                                                                            \
	}
#define NO_DEVICES .devices_a = {NONE}, .devices_b = {NONE}
#define COUNTS(a, b) .count_a = (a), .count_b = (b)

static const struct rule rules[] = {
    {.name = "nothing", COUNTS(0, 0), NO_DEVICES},
    {.name = "a map", COUNTS(2, 3), NO_DEVICES, .target = "b", .from = LIST(0, 1, NONE), .to = LIST(2, 0, NONE)},
    {.name = "to itself", COUNTS(2, 0), NO_DEVICES, .target = "a", .from = LIST(0, NONE), .to = LIST(1, NONE)},
    {.name = "cpu without accelerators",
     COUNTS(0, 0),
     NO_DEVICES,
     .target = "b",
     .from = LIST(CPU, NONE),
     .to = LIST(CPU, NONE)},
    {.name = "between cpu and cuda",
     COUNTS(1, 1),
     NO_DEVICES,
     .target = "b",
     .from = LIST(CPU, 0, NONE),
     .to = LIST(0, CPU, NONE)},
    {.name = "duplicated devices",
     COUNTS(2, 2),
     .devices_a = {1, 1, NONE},
     .devices_b = {NONE},
     SAME("Node a has duplicated devices: devices = [cuda:1, cuda:1], device count = 2")},
    {.name = "duplicated devices come before invalid ones",
     COUNTS(2, 2),
     .devices_a = {5, 5, NONE},
     .devices_b = {NONE},
     SAME("Node a has duplicated devices")},
    {.name = "of a before of b",
     COUNTS(2, 2),
     .devices_a = {2, NONE},
     .devices_b = {1, 1, NONE},
     SAME("Node a has devices with invalid indices: devices = [cuda:2], device count = 2")},
    {.name = "devices of b come before maps of a",
     COUNTS(2, 2),
     .devices_a = {NONE},
     .devices_b = {3, NONE},
     .target = "nobody",
     .from = LIST(9, NONE),
     .to = LIST(9, NONE),
     SAME("Node b has devices with invalid indices")},
    {.name = "unknown target",
     COUNTS(1, 1),
     NO_DEVICES,
     .target = "nobody",
     .from = LIST(0, NONE),
     .to = LIST(9, NONE),
     .error = "Node a has invalid target node names in its device maps: it has maps for nobody"},
    {.name = "unknown target comes before its map",
     COUNTS(1, 1),
     NO_DEVICES,
     .target = "nobody",
     .from = LIST(7, NONE),
     .to = LIST(0, NONE),
     .error = "Node a has invalid target node names in its device maps",
     .error_growing = "Node a has source devices with invalid indices in its device map for nobody"},
    {.name = "duplicated target devices",
     COUNTS(2, 2),
     NO_DEVICES,
     .target = "b",
     .from = LIST(0, 1, NONE),
     .to = LIST(0, 0, NONE),
     SAME("Node a has duplicated target devices in its device map for b: device map = {cuda:0: cuda:0, cuda:1: "
          "cuda:0}")},
    {.name = "duplicated target devices come before their indices",
     COUNTS(0, 0),
     NO_DEVICES,
     .target = "b",
     .from = LIST(8, 9, NONE),
     .to = LIST(7, 7, NONE),
     SAME("Node a has duplicated target devices in its device map for b")},
    {.name = "unexpected source devices",
     COUNTS(4, 4),
     .devices_a = {1, 2, NONE},
     .devices_b = {NONE},
     .target = "b",
     .from = LIST(1, 3, NONE),
     .to = LIST(1, 3, NONE),
     SAME(
	 "Node a has unexpected source devices in its device map for b: device map = {cuda:1: cuda:1, cuda:3: cuda:3}, "
	 "source devices = [cuda:1, cuda:2]")},
    {.name = "the cpu is unexpected where devices are listed",
     COUNTS(4, 4),
     .devices_a = {1, NONE},
     .devices_b = {NONE},
     .target = "b",
     .from = LIST(CPU, NONE),
     .to = LIST(CPU, NONE),
     SAME("Node a has unexpected source devices in its device map for b")},
    {.name = "source devices with invalid indices",
     COUNTS(2, 4),
     NO_DEVICES,
     .target = "b",
     .from = LIST(2, NONE),
     .to = LIST(2, NONE),
     SAME("Node a has source devices with invalid indices in its device map for b: device map = {cuda:2: cuda:2}, "
          "source device count = 2")},
    {.name = "source devices come before target devices",
     COUNTS(2, 2),
     NO_DEVICES,
     .target = "b",
     .from = LIST(2, NONE),
     .to = LIST(2, NONE),
     SAME("Node a has source devices with invalid indices")},
    {.name = "unexpected target devices",
     COUNTS(2, 2),
     .devices_a = {NONE},
     .devices_b = {0, NONE},
     .target = "b",
     .from = LIST(0, NONE),
     .to = LIST(1, NONE),
     SAME("Node a has unexpected target devices in its device map for b: device map = {cuda:0: cuda:1}, target devices "
          "= [cuda:0]")},
    {.name = "target devices with invalid indices",
     COUNTS(2, 1),
     NO_DEVICES,
     .target = "b",
     .from = LIST(0, NONE),
     .to = LIST(1, NONE),
     SAME("Node a has target devices with invalid indices in its device map for b: device map = {cuda:0: cuda:1}, "
          "target device count = 1")},
    {.name = "listed devices on both sides",
     COUNTS(4, 4),
     .devices_a = {3, 1, NONE},
     .devices_b = {0, 2, NONE},
     .target = "b",
     .from = LIST(1, 3, NONE),
     .to = LIST(2, 0, NONE)},
};

static size_t length(const int32_t *list)
{
	size_t count = 0;

	while (count < MAX_PAIRS && list[count] != NONE)
		count++;
	return count;
}

static void list_devices(struct device_plan *plan, int64_t count, const int32_t *list)
{
	tdr_device devices[MAX_PAIRS];

	for (size_t i = 0; i < length(list); i++)
		devices[i] = device_of_number(list[i]);
	plan->device_count = count;
	assert_int_equal(device_plan_set_devices(plan, length(list), devices), TDR_OK);
}

static void expect_outcome(const struct rule *rule, const struct device_plan plans[], bool everybody)
{
	const char *const names[] = {"a", "b"};
	const char *error = everybody ? rule->error : rule->error_growing;
	tdr_status status = device_plans_check(2, names, plans, everybody);

	if (status != (error ? TDR_EINVAL : TDR_OK))
		fail_msg("%s: %s (%s)", rule->name, tdr_status_name(status), tdr_last_error());
	if (error && strncmp(tdr_last_error(), error, strlen(error)) != 0)
		fail_msg("%s: '%s', not '%s'", rule->name, tdr_last_error(), error);
}

static void each_rule_holds_in_its_order(void **state)
{
	for (size_t i = 0; i < COUNT_OF(rules); i++) {
		const struct rule *rule = &rules[i];
		struct device_plan plans[2] = {{0}, {0}};

		list_devices(&plans[0], rule->count_a, rule->devices_a);
		list_devices(&plans[1], rule->count_b, rule->devices_b);
		for (size_t j = 0; rule->target && j < length(rule->from); j++)
			assert_int_equal(add(&plans[0], rule->target, device_of_number(rule->from[j]),
			                     device_of_number(rule->to[j])),
			                 TDR_OK);
		expect_outcome(rule, plans, true);
		expect_outcome(rule, plans, false);
		device_plan_fini(&plans[0]);
		device_plan_fini(&plans[1]);
	}
}

static void nobody_is_checked(void **state)
{
	assert_int_equal(device_plans_check(0, NULL, NULL, true), TDR_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(pairs_add_up),
	    cmocka_unit_test(what_cannot_be_set_leaves_the_plan_alone),
	    cmocka_unit_test(what_is_told_is_read_again),
	    cmocka_unit_test(nothing_is_told_as_none),
	    cmocka_unit_test(what_is_malformed_is_refused),
	    cmocka_unit_test(each_rule_holds_in_its_order),
	    cmocka_unit_test(nobody_is_checked),
	};

	return cmocka_run_group_tests_name("device_plan", tests, NULL, NULL);
}
