/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses: parsing and printing them, and choosing the one to advertise. */
#ifndef TENDRIL_TRANSPORT_ADDRESS_H
#define TENDRIL_TRANSPORT_ADDRESS_H

#include "transport/transport.h"

#include <netinet/in.h>
#include <sys/socket.h>

/*
 * Splits "tcp://host:port", "tcp://[v6]:port", and without scheme (then "") "host", "host:port", "[v6]:port", "v6".
 * Port 0 where none. Errors: TDR_EINVAL.
 */
TDR_MUST_USE tdr_status address_split(const char *address, char ret_scheme[ADDRESS_SIZE], char ret_host[ADDRESS_SIZE],
                                      uint16_t *ret_port);

/* Writes "tcp://host:port", in brackets for IPv6. */
void address_join(const char *scheme, const char *host, uint16_t port, char ret_address[ADDRESS_SIZE]);

/* The address' numeric host, an IPv4 address mapped into IPv6 as IPv4; "" where it is neither. Its port. */
void address_host(const struct sockaddr_storage *address, char ret_host[ADDRESS_SIZE]);
uint16_t address_port(const struct sockaddr_storage *address);

/*
 * The host to advertise: `advertise` if given; else the address of `interface` if given and usable, of the route's family
 * where it has one; else `route` (the local address towards the store, may be NULL); else the address of the route to the
 * world; else 127.0.0.1. What cannot be used is one log line and the next choice, never a failure.
 */
void address_choose(const char *advertise, const char *interface, const struct sockaddr_storage *route,
                    char ret_host[ADDRESS_SIZE]);

#endif
