/* SPDX-License-Identifier: Apache-2.0 */
/* An agent's devices: its own plan, and what others' maps make of it. */
#ifndef TENDRIL_AGENT_DEVICES_H
#define TENDRIL_AGENT_DEVICES_H

#include "agent/device_plan.h"

#include <pthread.h>

struct entry;

/* All under the lock; the plan changes only before the agent joins. */
struct agent_devices {
	pthread_mutex_t lock;
	struct device_plan plan;
	struct device_plan reverse; /* maps alone: by worker, the pairs by which it maps to us, turned round */
};

void devices_init(struct agent_devices *devices);
void devices_fini(struct agent_devices *devices);

/* What the agent says of its devices in joining; NULL when there is nothing to say. Errors: TDR_ENOMEM. */
tdr_status devices_describe(tdr_agent *agent, tdr_value **ret_description);

/*
 * Checks what the members named say of themselves (NULL: nothing), in the order of ids, so that all find the same error.
 * `everybody`: the group has no other members, ever. Errors: TDR_EINVAL, TDR_EPROTO, TDR_ELIMIT, TDR_ENOMEM.
 */
tdr_status devices_check(size_t count, const char *const names[], const tdr_value *const descriptions[],
                         bool everybody);

/* The same of members as the store has them. */
tdr_status devices_check_members(const struct entry *members, uint32_t count, bool everybody);

/*
 * Takes over a member's map towards us, in place of the one it had before. For each member, once devices_check has passed.
 * Errors: as devices_check.
 */
tdr_status devices_adopt(tdr_agent *agent, const char *name, const tdr_value *description);

#endif
