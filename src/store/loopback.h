/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a host is this machine's loopback. */
#ifndef TENDRIL_STORE_LOOPBACK_H
#define TENDRIL_STORE_LOOPBACK_H

#include <stdbool.h>

/* Looks the host up, which may take seconds: whether all that it stands for is loopback. Returns 0, or what gai_strerror explains. */
int loopback_look_up(const char *host, bool *ret_loopback);

#endif
