/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device plans: the accelerators and device maps of one worker, as it tells the others, and the rules by which those of a group must
 * fit together. Nothing here knows an agent or touches a device. Outputs are untouched on failure, and plans too.
 */
#ifndef TENDRIL_AGENT_DEVICE_PLAN_H
#define TENDRIL_AGENT_DEVICE_PLAN_H

#include <tendril/device_map.h>
#include <tendril/value.h>

/* What a plan may hold, so that what others send stays small. */
enum {
	PLAN_MAX_DEVICES = 4096, /* of a worker, and of one map */
	PLAN_MAX_MAPS = 32768,
};

/* A device by its number: an accelerator's index, or PLAN_CPU. */
#define PLAN_CPU (-1)

struct device_number_pair {
	int32_t from, to;
};

struct device_map {
	char *worker;
	size_t count;
	struct device_number_pair *pairs;
};

/* Zeroed is empty. */
struct device_plan {
	int64_t device_count; /* accelerators that the worker has */
	size_t ndevices;      /* that it says it uses; 0: it says nothing */
	int32_t *devices;
	size_t nmaps;
	struct device_map *maps;
};

void device_plan_fini(struct device_plan *plan);

tdr_status device_plan_add(struct device_plan *plan, const char *worker, size_t count, const tdr_device_pair pairs[]);
tdr_status device_plan_set_devices(struct device_plan *plan, size_t count, const tdr_device devices[]);

/* Takes out the map towards a worker, if there is one. */
void device_plan_forget(struct device_plan *plan, const char *worker);

/* NULL where there is none. */
const struct device_map *device_plan_find(const struct device_plan *plan, const char *worker);

/*
 * The plan for others: None where nothing is set, else (device_count, [devices], {worker: [from, to, from, to, ...]}), with
 * devices by their numbers.
 */
tdr_value *device_plan_describe(const struct device_plan *plan);

/* Reads what another worker has sent (NULL: nothing). Errors: TDR_EPROTO, TDR_ELIMIT, TDR_ENOMEM. */
tdr_status device_plan_read(const tdr_value *description, struct device_plan *ret_plan);

/*
 * Checks the plans of all workers, in a fixed order of rules, so that everybody finds the same error first. `everybody`: those
 * named are all there will ever be, and a map towards another name is an error. Errors: TDR_EINVAL.
 */
tdr_status device_plans_check(size_t count, const char *const names[], const struct device_plan plans[],
                              bool everybody);

tdr_device device_of_number(int32_t number);

#endif
