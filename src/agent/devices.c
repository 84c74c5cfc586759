/* SPDX-License-Identifier: Apache-2.0 */
/* Device maps of an agent: what the program sets and asks, and what joining makes of them. */
#include "agent/devices.h"

#include "agent/view.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

void devices_init(struct agent_devices *devices)
{
	pthread_mutex_init(&devices->lock, NULL);
}

void devices_fini(struct agent_devices *devices)
{
	device_plan_fini(&devices->plan);
	device_plan_fini(&devices->reverse);
	pthread_mutex_destroy(&devices->lock);
}

/* ---- setting ---- */

static tdr_status check_new(const tdr_agent *agent)
{
	if (agent_state(agent) == AGENT_NEW)
		return TDR_OK;
	return error_set(TDR_ESTATE, "devices are set too late: agent '%s' has joined already", agent->name);
}

tdr_status tdr_agent_set_device_map(tdr_agent *agent, const char *worker, size_t count, const tdr_device_pair pairs[])
{
	tdr_status status = check_new(agent);

	if (status == TDR_OK && (!worker || (count > 0 && !pairs)))
		status = error_set(TDR_EINVAL, "a device map needs the name of a worker, and %zu pairs", count);
	if (status != TDR_OK)
		return status;
	pthread_mutex_lock(&agent->devices.lock);
	status = device_plan_add(&agent->devices.plan, worker, count, pairs);
	pthread_mutex_unlock(&agent->devices.lock);
	return status;
}

tdr_status tdr_agent_set_devices(tdr_agent *agent, size_t count, const tdr_device devices[])
{
	tdr_status status = check_new(agent);

	if (status == TDR_OK && count > 0 && !devices)
		status = error_set(TDR_EINVAL, "%zu devices at NULL", count);
	if (status != TDR_OK)
		return status;
	pthread_mutex_lock(&agent->devices.lock);
	status = device_plan_set_devices(&agent->devices.plan, count, devices);
	pthread_mutex_unlock(&agent->devices.lock);
	return status;
}

/* ---- asking ---- */

static size_t copy_map(tdr_agent *agent, const struct device_plan *plan, const char *worker, size_t room,
                       tdr_device_pair pairs[])
{
	const struct device_map *map;
	size_t count = 0;

	pthread_mutex_lock(&agent->devices.lock);
	map = worker ? device_plan_find(plan, worker) : NULL;
	if (map)
		count = map->count;
	for (size_t i = 0; pairs && i < MIN_OF(count, room); i++)
		pairs[i] = (tdr_device_pair){.from = device_of_number(map->pairs[i].from),
		                             .to = device_of_number(map->pairs[i].to)};
	pthread_mutex_unlock(&agent->devices.lock);
	return count;
}

size_t tdr_agent_device_map(tdr_agent *agent, const char *worker, size_t room, tdr_device_pair pairs[])
{
	return copy_map(agent, &agent->devices.plan, worker, room, pairs);
}

size_t tdr_agent_reverse_device_map(tdr_agent *agent, const char *worker, size_t room, tdr_device_pair pairs[])
{
	return copy_map(agent, &agent->devices.reverse, worker, room, pairs);
}

static int compare_numbers(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return (x > y) - (x < y);
}

/* Our side of each pair, whoever's map it is in. */
static size_t collect(const struct device_plan *plan, int32_t *numbers)
{
	size_t count = 0;

	for (size_t i = 0; i < plan->nmaps; i++)
		for (size_t j = 0; j < plan->maps[i].count; j++)
			if (plan->maps[i].pairs[j].from != PLAN_CPU)
				numbers[count++] = plan->maps[i].pairs[j].from;
	return count;
}

static size_t pairs_of(const struct device_plan *plan)
{
	size_t count = 0;

	for (size_t i = 0; i < plan->nmaps; i++)
		count += plan->maps[i].count;
	return count;
}

/* All accelerators that maps name, by index, each once; NULL when memory runs out. With the lock held. */
static int32_t *mapped_devices(const struct agent_devices *devices, size_t *ret_count)
{
	int32_t *numbers = calloc(pairs_of(&devices->plan) + pairs_of(&devices->reverse) + 1, sizeof(*numbers));
	size_t count, kept = 0;

	if (!numbers)
		return NULL;
	count = collect(&devices->plan, numbers);
	count += collect(&devices->reverse, numbers + count);
	qsort(numbers, count, sizeof(*numbers), compare_numbers);
	for (size_t i = 0; i < count; i++)
		if (kept == 0 || numbers[kept - 1] != numbers[i])
			numbers[kept++] = numbers[i];
	*ret_count = kept;
	return numbers;
}

size_t tdr_agent_devices(tdr_agent *agent, size_t room, tdr_device list[])
{
	struct agent_devices *devices = &agent->devices;
	const int32_t *numbers;
	int32_t *mapped = NULL;
	size_t count = 0;

	pthread_mutex_lock(&devices->lock);
	numbers = devices->plan.devices;
	count = devices->plan.ndevices;
	if (count == 0 && agent_state(agent) != AGENT_NEW)
		numbers = mapped = mapped_devices(devices, &count);
	for (size_t i = 0; list && i < MIN_OF(count, room); i++)
		list[i] = device_of_number(numbers[i]);
	pthread_mutex_unlock(&devices->lock);
	free(mapped);
	return count;
}

/* ---- joining ---- */

tdr_status devices_describe(tdr_agent *agent, tdr_value **ret_description)
{
	tdr_value *description;
	tdr_status status;

	pthread_mutex_lock(&agent->devices.lock);
	description = device_plan_describe(&agent->devices.plan);
	pthread_mutex_unlock(&agent->devices.lock);
	status = tdr_value_status(description);
	if (status != TDR_OK || tdr_value_is_none(description))
		description = tdr_value_unref(description);
	if (status == TDR_OK)
		*ret_description = description;
	return status;
}

tdr_status devices_check(size_t count, const char *const names[], const tdr_value *const descriptions[], bool everybody)
{
	struct device_plan *plans = calloc(count + 1, sizeof(*plans));
	tdr_status status = plans ? TDR_OK : error_nomem();

	for (size_t i = 0; i < count && status == TDR_OK; i++) {
		status = device_plan_read(descriptions[i], &plans[i]);
		if (status != TDR_OK)
			error_prefix(status, "what worker '%s' says of its devices", names[i]);
	}
	if (status == TDR_OK)
		status = device_plans_check(count, names, plans, everybody);
	for (size_t i = 0; plans && i < count; i++)
		device_plan_fini(&plans[i]);
	free(plans);
	return status;
}

tdr_status devices_check_members(const struct entry *members, uint32_t count, bool everybody)
{
	const char **names = calloc(count + 1, sizeof(*names));
	const tdr_value **descriptions = calloc(count + 1, sizeof(*descriptions));
	tdr_status status = names && descriptions ? TDR_OK : error_nomem();

	for (uint32_t i = 0; i < count && status == TDR_OK; i++) {
		names[i] = members[i].who.name;
		descriptions[i] = members[i].description;
	}
	if (status == TDR_OK)
		status = devices_check(count, names, descriptions, everybody);
	free(names);
	free(descriptions);
	return status;
}

tdr_status devices_adopt(tdr_agent *agent, const char *name, const tdr_value *description)
{
	struct device_plan theirs;
	const struct device_map *map;
	tdr_device_pair *turned;
	size_t count;
	tdr_status status = device_plan_read(description, &theirs);

	if (status != TDR_OK)
		return error_prefix(status, "what worker '%s' says of its devices", name);
	map = device_plan_find(&theirs, agent->name);
	count = map ? map->count : 0;
	turned = calloc(count + 1, sizeof(*turned));
	for (size_t i = 0; turned && i < count; i++)
		turned[i] = (tdr_device_pair){.from = device_of_number(map->pairs[i].to),
		                              .to = device_of_number(map->pairs[i].from)};
	pthread_mutex_lock(&agent->devices.lock);
	device_plan_forget(&agent->devices.reverse, name);
	status = turned ? device_plan_add(&agent->devices.reverse, name, count, turned) : error_nomem();
	pthread_mutex_unlock(&agent->devices.lock);
	free(turned);
	device_plan_fini(&theirs);
	return status;
}
