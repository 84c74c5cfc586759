/* SPDX-License-Identifier: Apache-2.0 */
/* What all transports share: counting a lane's references, and the list of transports. */
#include "transport/transport.h"

#include <assert.h>

const struct transport *const transports[] = {
    &transport_tcp,
    NULL,
};

struct lane *lane_ref(struct lane *lane)
{
	if (lane) {
		uint32_t before = atomic_fetch_add_explicit(&lane->references, 1, memory_order_relaxed);

		assert(before > 0);
		(void)before;
	}
	return lane;
}

struct lane *lane_unref(struct lane *lane)
{
	if (lane && atomic_fetch_sub_explicit(&lane->references, 1, memory_order_acq_rel) == 1)
		lane->ops->free(lane);
	return NULL;
}
