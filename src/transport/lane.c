/* SPDX-License-Identifier: Apache-2.0 */
/* What all transports share: counting a lane's references, and the list of transports. */
#include "transport/transport.h"

const struct transport *const transports[] = {
    &transport_tcp,
    NULL,
};

struct lane *lane_ref(struct lane *lane)
{
	if (lane)
		refcount_get(&lane->refs);
	return lane;
}

struct lane *lane_unref(struct lane *lane)
{
	if (lane && refcount_put(&lane->refs))
		lane->ops->free(lane);
	return NULL;
}
