/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts, as people give and read them. */
#ifndef TENDRIL_CLI_HOST_H
#define TENDRIL_CLI_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether all that it stands for is on this machine's loopback. What cannot be found is not. */
bool host_is_loopback(const char *host);

/* "host:port", or "[host]:port" for IPv6. */
void host_join(const char *host, uint16_t port, char *ret_text, size_t size);

#endif
