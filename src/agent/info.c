/* SPDX-License-Identifier: Apache-2.0 */
/* What tools tell people of this build on this machine. */
#include "agent/internal.h"

#include "base/error.h"
#include "transport/address.h"

#include <string.h>
#include <tendril/info.h>

_Static_assert(TDR_HOST_SIZE >= ADDRESS_SIZE, "a host must fit");

bool tdr_transport_info(size_t index, tdr_transport_description *ret_description)
{
	const struct transport *transport;

	for (size_t i = 0; i < index; i++)
		if (!transports[i])
			return false;
	transport = transports[index];
	if (!transport)
		return false;
	ret_description->name = transport->name;
	ret_description->reason = transport->unavailable ? transport->unavailable() : NULL;
	ret_description->available = !ret_description->reason;
	return true;
}

tdr_status tdr_advertised_host(const tdr_agent_options *options, char *ret_host, size_t size)
{
	char scheme[ADDRESS_SIZE], host[ADDRESS_SIZE];
	tdr_agent_options copy;
	uint16_t port;
	tdr_status status = options_copy(options, &copy);

	if (status != TDR_OK)
		return status;
	if (copy.advertise && *copy.advertise)
		status = address_split(copy.advertise, scheme, host, &port);
	else
		address_choose(NULL, copy.interface, NULL, host);
	options_fini(&copy);
	if (status != TDR_OK)
		return error_prefix(status, "option advertise: ");
	if (strlen(host) >= size)
		return error_set(TDR_EINVAL,
		                 "tdr_advertised_host: %zu bytes are too few for \"%s\"; take TDR_HOST_SIZE", size,
		                 host);
	strcpy(ret_host, host);
	return TDR_OK;
}
