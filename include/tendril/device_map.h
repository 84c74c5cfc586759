/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device maps: where tensors on accelerators may go.
 *
 * An agent has a map towards each worker that it names one for, from devices of its own to devices of that worker. They are set
 * before it joins; members tell each other in joining, and the group comes together only where all their maps make sense
 * (tdr_join fails alike on all of them otherwise). How many accelerators a worker has says its option `device_count`. A device is
 * the CPU (its index does not matter) or an accelerator by its index, 0 and up.
 *
 * Messages carry tensors on the CPU only, whatever the maps say: a tensor on an accelerator is refused.
 */
#ifndef TENDRIL_DEVICE_MAP_H
#define TENDRIL_DEVICE_MAP_H

#include <tendril/agent.h>
#include <tendril/tensor.h>

typedef struct tdr_device_pair {
	tdr_device from; /* of this agent */
	tdr_device to;   /* of the other worker */
} tdr_device_pair;

TDR_BEGIN_DECLS

/*
 * Adds `pairs` [count] to the map towards `worker`, which may be the agent itself; a pair that is there already changes nothing.
 * Errors: TDR_EINVAL (a device mapped to two, two devices of one call mapped to one, an index below 0), TDR_ESTATE (the
 * agent has joined), TDR_ELIMIT, TDR_ENOMEM. Then the map is as it was.
 */
TDR_API TDR_MUST_USE tdr_status tdr_agent_set_device_map(tdr_agent *agent, const char *worker, size_t count,
                                                         const tdr_device_pair pairs[]);

/*
 * The accelerators that the agent uses, in place of those it was told before; 0: all that maps name, its own and others'. Errors:
 * TDR_EINVAL (not an accelerator, an index below 0), TDR_ESTATE (it has joined), TDR_ELIMIT, TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_agent_set_devices(tdr_agent *agent, size_t count, const tdr_device devices[]);

/*
 * The map towards `worker`, in the order it was set, into `pairs` [room] as far as there is room (`pairs` NULL: none);
 * returns how many there are, 0 where there is no map.
 */
TDR_API size_t tdr_agent_device_map(tdr_agent *agent, const char *worker, size_t room, tdr_device_pair pairs[]);

/* The same of the way back: the pairs by which `worker` maps to this agent, turned round. None before joining. */
TDR_API size_t tdr_agent_reverse_device_map(tdr_agent *agent, const char *worker, size_t room, tdr_device_pair pairs[]);

/*
 * The accelerators that the agent uses: those it was told, or once it has joined all that maps name, by index. As
 * tdr_agent_device_map.
 */
TDR_API size_t tdr_agent_devices(tdr_agent *agent, size_t room, tdr_device devices[]);

TDR_END_DECLS

#endif
