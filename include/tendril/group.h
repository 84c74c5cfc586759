/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups that change: what a program can learn of members that come and go.
 *
 * A group is dynamic where no size is given (`world_size` 0; or -1, and neither the URL nor WORLD_SIZE says one): workers join
 * and leave at any time, and who dies is evicted by the others. docs/groups.md tells how. In a static group members are the same
 * from the start to the end, and may only be gone.
 */
#ifndef TENDRIL_GROUP_H
#define TENDRIL_GROUP_H

#include <tendril/agent.h>

typedef enum tdr_member_event {
	TDR_MEMBER_JOINED = 1, /* it can be called from now on */
	TDR_MEMBER_LEFT = 2,   /* it left by itself */
	TDR_MEMBER_GONE = 3,   /* it died or could not be reached; in a dynamic group it was evicted */
} tdr_member_event;

/* `worker` as tdr_worker_at gives it, also of one who is gone; `reason` says more, and is valid during the call. */
typedef void (*tdr_member_function)(tdr_agent *agent, tdr_worker worker, tdr_member_event event, const char *reason,
                                    void *context);

TDR_BEGIN_DECLS

/*
 * Has `function` called for each member that comes or goes after the agent itself has joined, one at a time and in order, from
 * a thread of the engine that holds no lock; it must not wait. None is called once tdr_shutdown has returned. To be set before
 * joining: TDR_ESTATE.
 */
TDR_API TDR_MUST_USE tdr_status tdr_agent_on_member(tdr_agent *agent, tdr_member_function function, void *context);

/* How often the members have changed, as this agent knows: 1 in a static group, 0 before joining. The same number means the
 * same members to every agent of a group. */
TDR_API uint64_t tdr_agent_epoch(const tdr_agent *agent);

/* Whether the group is dynamic. False before joining. */
TDR_API bool tdr_agent_is_dynamic(const tdr_agent *agent);

TDR_END_DECLS

#endif
