/* SPDX-License-Identifier: Apache-2.0 */
/* What this build of the library can do on this machine, for tools that tell people. */
#ifndef TENDRIL_INFO_H
#define TENDRIL_INFO_H

#include <tendril/options.h>

/* Room for the longest host that tdr_advertised_host gives, with its NUL. */
#define TDR_HOST_SIZE 128

typedef struct tdr_transport_description {
	const char *name;   /* the scheme of its addresses, such as "tcp"; static */
	bool available;     /* on this machine */
	const char *reason; /* why it is not available, for people; NULL where it is. Static */
} tdr_transport_description;

TDR_BEGIN_DECLS

/* Describes the transport number `index`, from 0 on; false past the last. */
TDR_API bool tdr_transport_info(size_t index, tdr_transport_description *ret_description);

/*
 * The host, a name or a number without a port, that an agent with these options (NULL: the defaults, and the environment)
 * tells others to connect to, where its store gives no better answer: `advertise`, else the address of `interface`, else
 * that of the route to the world, else 127.0.0.1. Errors: TDR_EINVAL (an option; `size` too small: TDR_HOST_SIZE always
 * does), TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_advertised_host(const tdr_agent_options *options, char *ret_host, size_t size);

TDR_END_DECLS

#endif
