/* SPDX-License-Identifier: Apache-2.0 */
/* Plans of accelerators and device maps: setting, describing and reading them, and the rules that those of a group obey. */
#include "agent/device_plan.h"

#include "base/buffer.h"
#include "base/error.h"
#include "value/device.h"

#include <stdlib.h>
#include <string.h>

void device_plan_fini(struct device_plan *plan)
{
	for (size_t i = 0; i < plan->nmaps; i++) {
		free(plan->maps[i].worker);
		free(plan->maps[i].pairs);
	}
	free(plan->maps);
	free(plan->devices);
	*plan = (struct device_plan){0};
}

tdr_device device_of_number(int32_t number)
{
	return number == PLAN_CPU ? TDR_DEVICE_CPU : (tdr_device){TDR_CUDA, number};
}

static const char *print_number(int32_t number, char text[DEVICE_TEXT_SIZE])
{
	return device_print(device_of_number(number), text);
}

static tdr_status number_of(tdr_device device, int32_t *ret_number)
{
	if (device.type == TDR_CPU) {
		*ret_number = PLAN_CPU;
		return TDR_OK;
	}
	if (device.type != TDR_CUDA)
		return error_set(TDR_EINVAL, "a device of type %d, which is none", (int)device.type);
	if (device.index < 0)
		return error_set(TDR_EINVAL, "Device index must not be negative, but got %d: name the accelerator",
		                 (int)device.index);
	*ret_number = device.index;
	return TDR_OK;
}

/* ---- setting ---- */

const struct device_map *device_plan_find(const struct device_plan *plan, const char *worker)
{
	for (size_t i = 0; i < plan->nmaps; i++)
		if (strcmp(plan->maps[i].worker, worker) == 0)
			return &plan->maps[i];
	return NULL;
}

/* The map towards a worker, an empty one where there is none yet; NULL when memory runs out. */
static struct device_map *map_towards(struct device_plan *plan, const char *worker)
{
	struct device_map *map = (struct device_map *)device_plan_find(plan, worker), *maps;
	char *name;

	if (map)
		return map;
	maps = realloc(plan->maps, (plan->nmaps + 1) * sizeof(*maps));
	if (!maps)
		return NULL;
	plan->maps = maps;
	name = strdup(worker);
	if (!name)
		return NULL;
	map = &maps[plan->nmaps++];
	*map = (struct device_map){.worker = name};
	return map;
}

void device_plan_forget(struct device_plan *plan, const char *worker)
{
	struct device_map *map = (struct device_map *)device_plan_find(plan, worker);

	if (!map)
		return;
	free(map->worker);
	free(map->pairs);
	*map = plan->maps[--plan->nmaps];
}

/* Where a map has `from`; NULL if it does not. */
static const struct device_number_pair *find_pair(const struct device_number_pair *pairs, size_t count, int32_t from)
{
	for (size_t i = 0; i < count; i++)
		if (pairs[i].from == from)
			return &pairs[i];
	return NULL;
}

/* Adds one pair to `pairs`, of which those from `old` on are of this call. */
static tdr_status add_pair(const char *worker, struct device_number_pair *pairs, size_t old, size_t *count,
                           struct device_number_pair pair)
{
	const struct device_number_pair *known = find_pair(pairs, *count, pair.from);
	char from[DEVICE_TEXT_SIZE], to[DEVICE_TEXT_SIZE], other[DEVICE_TEXT_SIZE];

	if (known && known->to == pair.to)
		return TDR_OK;
	if (known)
		return error_set(TDR_EINVAL,
		                 "`set_device_map` only supports 1-to-1 mapping: towards worker '%s', %s is mapped to "
		                 "%s already, and cannot be mapped to %s",
		                 worker, print_number(pair.from, from), print_number(known->to, other),
		                 print_number(pair.to, to));
	for (size_t i = old; i < *count; i++)
		if (pairs[i].to == pair.to)
			return error_set(TDR_EINVAL,
			                 "`device_map` only supports 1-to-1 mapping, trying to map %s and %s to %s of "
			                 "worker '%s'",
			                 print_number(pair.from, from), print_number(pairs[i].from, other),
			                 print_number(pair.to, to), worker);
	pairs[(*count)++] = pair;
	return TDR_OK;
}

tdr_status device_plan_add(struct device_plan *plan, const char *worker, size_t count, const tdr_device_pair pairs[])
{
	const struct device_map *before = device_plan_find(plan, worker);
	size_t old = before ? before->count : 0, total = old;
	struct device_number_pair *merged;
	struct device_map *map;
	tdr_status status = TDR_OK;

	if (count > PLAN_MAX_DEVICES - old || (!before && plan->nmaps == PLAN_MAX_MAPS))
		return error_set(TDR_ELIMIT, "a device map of more than %d pairs, or more than %d maps",
		                 PLAN_MAX_DEVICES, PLAN_MAX_MAPS);
	merged = calloc(old + count + 1, sizeof(*merged));
	if (!merged)
		return error_nomem();
	if (old > 0)
		memcpy(merged, before->pairs, old * sizeof(*merged));
	for (size_t i = 0; i < count && status == TDR_OK; i++) {
		struct device_number_pair pair = {PLAN_CPU, PLAN_CPU};

		status = number_of(pairs[i].from, &pair.from);
		if (status == TDR_OK)
			status = number_of(pairs[i].to, &pair.to);
		if (status == TDR_OK)
			status = add_pair(worker, merged, old, &total, pair);
	}
	if (status == TDR_OK && total > old) {
		map = map_towards(plan, worker);
		if (map) {
			free(map->pairs);
			map->pairs = TAKE_PTR(merged);
			map->count = total;
		} else {
			status = error_nomem();
		}
	}
	free(merged);
	return status;
}

tdr_status device_plan_set_devices(struct device_plan *plan, size_t count, const tdr_device devices[])
{
	int32_t *numbers;

	if (count > PLAN_MAX_DEVICES)
		return error_set(TDR_ELIMIT, "%zu devices, more than %d", count, PLAN_MAX_DEVICES);
	numbers = calloc(count + 1, sizeof(*numbers));
	if (!numbers)
		return error_nomem();
	for (size_t i = 0; i < count; i++) {
		tdr_status status = number_of(devices[i], &numbers[i]);

		if (status == TDR_OK && numbers[i] == PLAN_CPU)
			status = error_set(TDR_EINVAL,
			                   "`set_devices` expect a list of CUDA devices, but got device type cpu");
		if (status != TDR_OK) {
			free(numbers);
			return status;
		}
	}
	free(plan->devices);
	plan->devices = numbers;
	plan->ndevices = count;
	return TDR_OK;
}

/* ---- for others ---- */

static tdr_value *describe_numbers(size_t count, const int32_t numbers[])
{
	tdr_value *list = tdr_list(0, NULL);

	for (size_t i = 0; i < count; i++)
		tdr_list_append(list, tdr_int(numbers[i]));
	return list;
}

tdr_value *device_plan_describe(const struct device_plan *plan)
{
	tdr_value *items[3];

	if (plan->device_count == 0 && plan->ndevices == 0 && plan->nmaps == 0)
		return tdr_none();
	items[0] = tdr_int(plan->device_count);
	items[1] = describe_numbers(plan->ndevices, plan->devices);
	items[2] = tdr_dict_new();
	for (size_t i = 0; i < plan->nmaps; i++)
		tdr_dict_set(items[2], plan->maps[i].worker,
		             describe_numbers(plan->maps[i].count * 2, (const int32_t *)plan->maps[i].pairs));
	return tdr_tuple(COUNT_OF(items), items);
}

/* `ret_numbers` is the caller's to free, and NULL on failure. */
static tdr_status read_numbers(const tdr_value *list, size_t most, int32_t **ret_numbers, size_t *ret_count)
{
	size_t count = tdr_value_count(list);
	int32_t *numbers;

	if (!list || tdr_value_kind(list) != TDR_LIST)
		return error_set(TDR_EPROTO, "a list of devices is none");
	if (count > most)
		return error_set(TDR_ELIMIT, "a list of %zu devices, more than %zu", count, most);
	numbers = calloc(count + 1, sizeof(*numbers));
	if (!numbers)
		return error_nomem();
	for (size_t i = 0; i < count; i++) {
		int64_t number;

		if (tdr_value_get_int(tdr_value_item(list, i), &number) != TDR_OK || number < PLAN_CPU ||
		    number > INT32_MAX) {
			free(numbers);
			return error_set(TDR_EPROTO, "a list of devices has something else at %zu", i);
		}
		numbers[i] = (int32_t)number;
	}
	*ret_numbers = numbers;
	*ret_count = count;
	return TDR_OK;
}

static tdr_status read_map(const tdr_value *key, const tdr_value *list, struct device_map *map)
{
	int32_t *numbers = NULL;
	const char *worker;
	size_t count = 0;
	tdr_status status;

	if (tdr_value_get_string(key, &worker, NULL) != TDR_OK)
		return error_set(TDR_EPROTO, "a device map's worker is no string");
	status = read_numbers(list, (size_t)PLAN_MAX_DEVICES * 2, &numbers, &count);
	if (status != TDR_OK)
		return status;
	map->pairs = calloc(count / 2 + 1, sizeof(*map->pairs));
	map->worker = strdup(worker);
	if (!map->pairs || !map->worker)
		status = error_nomem();
	else if (count % 2)
		status = error_set(TDR_EPROTO, "a device map has half a pair");
	for (size_t i = 0; status == TDR_OK && i < count / 2; i++) {
		struct device_number_pair pair = {.from = numbers[2 * i], .to = numbers[2 * i + 1]};

		if (find_pair(map->pairs, i, pair.from))
			status = error_set(TDR_EPROTO, "a device map maps a device twice");
		map->pairs[map->count++] = pair;
	}
	free(numbers);
	return status;
}

static tdr_status read_maps(const tdr_value *maps, struct device_plan *plan)
{
	size_t count = tdr_value_count(maps);
	tdr_status status = TDR_OK;

	if (!maps || tdr_value_kind(maps) != TDR_DICT)
		return error_set(TDR_EPROTO, "the device maps are no dict");
	if (count > PLAN_MAX_MAPS)
		return error_set(TDR_ELIMIT, "%zu device maps, more than %d", count, PLAN_MAX_MAPS);
	plan->maps = calloc(count + 1, sizeof(*plan->maps));
	if (!plan->maps)
		return error_nomem();
	for (size_t i = 0; i < count && status == TDR_OK; i++)
		status = read_map(tdr_dict_key(maps, i), tdr_dict_value(maps, i), &plan->maps[plan->nmaps++]);
	return status;
}

tdr_status device_plan_read(const tdr_value *description, struct device_plan *ret_plan)
{
	struct device_plan plan = {0};
	tdr_status status = TDR_OK;

	if (description && !tdr_value_is_none(description)) {
		if (tdr_value_kind(description) != TDR_TUPLE || tdr_value_count(description) != 3)
			return error_set(TDR_EPROTO, "a description of devices that is not ours");
		if (tdr_value_get_int(tdr_value_item(description, 0), &plan.device_count) != TDR_OK ||
		    plan.device_count < 0)
			return error_set(TDR_EPROTO, "the number of accelerators is none");
		status = read_numbers(tdr_value_item(description, 1), PLAN_MAX_DEVICES, &plan.devices, &plan.ndevices);
		if (status == TDR_OK)
			status = read_maps(tdr_value_item(description, 2), &plan);
	}
	if (status != TDR_OK) {
		device_plan_fini(&plan);
		return status;
	}
	*ret_plan = plan;
	return TDR_OK;
}

/* ---- the rules ---- */

static bool contains(const int32_t *numbers, size_t count, int32_t number)
{
	for (size_t i = 0; i < count; i++)
		if (numbers[i] == number)
			return true;
	return false;
}

static tdr_status broken(const char *name, const char *rule, const struct device_map *map, const struct buffer *detail)
{
	if (detail->failed)
		return error_nomem();
	return error_set(TDR_EINVAL, "Node %s has %s%s%s: %.*s", name, rule, map ? " in its device map for " : "",
	                 map ? map->worker : "", (int)detail->size, (const char *)detail->data);
}

static void print_numbers(struct buffer *text, size_t count, const int32_t numbers[])
{
	char device[DEVICE_TEXT_SIZE];

	for (size_t i = 0; i < count; i++)
		buffer_printf(text, "%s%s", i > 0 ? ", " : "", print_number(numbers[i], device));
}

static tdr_status break_devices(const char *name, const struct device_plan *plan, const char *rule)
{
	struct buffer text = {0};
	tdr_status status;

	buffer_printf(&text, "devices = [");
	print_numbers(&text, plan->ndevices, plan->devices);
	buffer_printf(&text, "], device count = %lld", (long long)plan->device_count);
	status = broken(name, rule, NULL, &text);
	buffer_fini(&text);
	return status;
}

/* `listed`, of `side`: the devices that its worker says it uses; and its count where it says nothing. May be NULL. */
static tdr_status break_map(const char *name, const struct device_map *map, const char *rule, const char *side,
                            const struct device_plan *listed)
{
	char from[DEVICE_TEXT_SIZE], to[DEVICE_TEXT_SIZE];
	struct buffer text = {0};
	tdr_status status;

	buffer_printf(&text, "device map = {");
	for (size_t i = 0; i < map->count; i++)
		buffer_printf(&text, "%s%s: %s", i > 0 ? ", " : "", print_number(map->pairs[i].from, from),
		              print_number(map->pairs[i].to, to));
	buffer_printf(&text, "}");
	if (listed && listed->ndevices > 0) {
		buffer_printf(&text, ", %s devices = [", side);
		print_numbers(&text, listed->ndevices, listed->devices);
		buffer_printf(&text, "]");
	} else if (listed) {
		buffer_printf(&text, ", %s device count = %lld", side, (long long)listed->device_count);
	}
	status = broken(name, rule, map, &text);
	buffer_fini(&text);
	return status;
}

static tdr_status check_devices(const char *name, const struct device_plan *plan)
{
	for (size_t i = 0; i < plan->ndevices; i++)
		if (contains(plan->devices, i, plan->devices[i]))
			return break_devices(name, plan, "duplicated devices");
	for (size_t i = 0; i < plan->ndevices; i++)
		if (plan->devices[i] >= plan->device_count)
			return break_devices(name, plan, "devices with invalid indices");
	return TDR_OK;
}

/* Whether the devices on one side of a map are such as their worker uses; that it lists some decides what is wrong. */
static bool side_fits(const struct device_map *map, bool target, const struct device_plan *plan)
{
	for (size_t i = 0; i < map->count; i++) {
		int32_t number = target ? map->pairs[i].to : map->pairs[i].from;

		if (plan->ndevices > 0 ? !contains(plan->devices, plan->ndevices, number)
		                       : number >= plan->device_count)
			return false;
	}
	return true;
}

/* `target`: the plan of the worker that the map leads to; NULL where it is not known. */
static tdr_status check_map(const char *name, const struct device_plan *source, const struct device_map *map,
                            const struct device_plan *target)
{
	for (size_t i = 0; i < map->count; i++)
		for (size_t j = 0; j < i; j++)
			if (map->pairs[i].to == map->pairs[j].to)
				return break_map(name, map, "duplicated target devices", NULL, NULL);
	if (!side_fits(map, false, source))
		return break_map(name, map,
		                 source->ndevices > 0 ? "unexpected source devices"
		                                      : "source devices with invalid indices",
		                 "source", source);
	if (target && !side_fits(map, true, target))
		return break_map(name, map,
		                 target->ndevices > 0 ? "unexpected target devices"
		                                      : "target devices with invalid indices",
		                 "target", target);
	return TDR_OK;
}

static tdr_status break_targets(const char *name, const struct device_plan *plan)
{
	struct buffer text = {0};
	tdr_status status;

	buffer_printf(&text, "it has maps for");
	for (size_t i = 0; i < plan->nmaps; i++)
		buffer_printf(&text, "%s %s", i > 0 ? "," : "", plan->maps[i].worker);
	status = broken(name, "invalid target node names in its device maps", NULL, &text);
	buffer_fini(&text);
	return status;
}

/* Plans in the order of names, to be found by them. */
struct named {
	const char *name;
	const struct device_plan *plan;
};

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static const struct device_plan *plan_of(const char *name, const struct named *sorted, size_t count)
{
	const struct named key = {.name = name}, *found;

	found = bsearch(&key, sorted, count, sizeof(key), compare_names);
	return found ? found->plan : NULL;
}

static tdr_status check_maps(const char *name, const struct device_plan *plan, const struct named *sorted, size_t count,
                             bool everybody)
{
	tdr_status status = TDR_OK;

	for (size_t i = 0; everybody && i < plan->nmaps; i++)
		if (!plan_of(plan->maps[i].worker, sorted, count))
			return break_targets(name, plan);
	for (size_t i = 0; i < plan->nmaps && status == TDR_OK; i++)
		status = check_map(name, plan, &plan->maps[i], plan_of(plan->maps[i].worker, sorted, count));
	return status;
}

tdr_status device_plans_check(size_t count, const char *const names[], const struct device_plan plans[], bool everybody)
{
	struct named *sorted = calloc(count + 1, sizeof(*sorted));
	tdr_status status = sorted ? TDR_OK : error_nomem();

	for (size_t i = 0; i < count && status == TDR_OK; i++) {
		sorted[i] = (struct named){.name = names[i], .plan = &plans[i]};
		status = check_devices(names[i], &plans[i]);
	}
	if (status == TDR_OK)
		qsort(sorted, count, sizeof(*sorted), compare_names);
	for (size_t i = 0; i < count && status == TDR_OK; i++)
		status = check_maps(names[i], &plans[i], sorted, count, everybody);
	free(sorted);
	return status;
}
