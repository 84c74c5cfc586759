/* SPDX-License-Identifier: Apache-2.0 */
/* Parcels: messages that are kept, with a body and counted storages of their own. */
#ifndef TENDRIL_TRANSPORT_PARCEL_H
#define TENDRIL_TRANSPORT_PARCEL_H

#include "base/list.h"
#include "base/pool.h"
#include "transport/message.h"

struct parcel {
	struct list node;
	struct message message;
	uint64_t sequence; /* when it has been sent: its own on the lane, or a later one */
};

/* A copy of the message that refers to the same storages. NULL when memory runs out. */
struct parcel *parcel_new(const struct message *message);

/* A copy whose storages are copies, too, from `pool`: what is written to the originals later is not seen in it. */
struct parcel *parcel_new_isolated(const struct message *message, struct pool *pool);

struct parcel *parcel_free(struct parcel *parcel);

#endif
