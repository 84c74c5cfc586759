/* SPDX-License-Identifier: Apache-2.0 */
/* What all transports share: the list of transports, and counting a lane's references. */
#include "transport/transport.h"

#include "base/error.h"

#include <string.h>

const struct transport *const transports[] = {
    &transport_tcp,
    &transport_sim,
    NULL,
};

const struct transport *transport_of(const char *address)
{
	const char *separator = strstr(address, "://");
	size_t size = separator ? (size_t)(separator - address) : 0;

	if (!separator)
		return transports[0];
	for (size_t i = 0; transports[i]; i++)
		if (strlen(transports[i]->name) == size && memcmp(transports[i]->name, address, size) == 0)
			return transports[i];
	(void)error_set(TDR_EINVAL, "there is no transport for the address \"%s\"; write tcp://host:port", address);
	return NULL;
}

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
