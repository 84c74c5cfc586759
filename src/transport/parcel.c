/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/parcel.h"

#include "value/storage.h"

#include <stdlib.h>
#include <string.h>

static struct parcel *parcel_make(const struct message *message)
{
	size_t table = message->nstorages * sizeof(tdr_storage *);
	struct parcel *parcel = calloc(1, sizeof(*parcel) + table + message->body_size);
	tdr_storage **storages;
	uint8_t *body;

	if (!parcel)
		return NULL;
	storages = (tdr_storage **)(parcel + 1);
	body = (uint8_t *)storages + table;
	list_init(&parcel->node);
	parcel->message = *message;
	if (message->body_size > 0)
		memcpy(body, message->body, message->body_size);
	parcel->message.body = body;
	parcel->message.storages = storages;
	return parcel;
}

struct parcel *parcel_new(const struct message *message)
{
	struct parcel *parcel = parcel_make(message);

	for (size_t i = 0; parcel && i < message->nstorages; i++)
		((tdr_storage **)parcel->message.storages)[i] = tdr_storage_ref(message->storages[i]);
	return parcel;
}

struct parcel *parcel_new_isolated(const struct message *message, struct pool *pool)
{
	struct parcel *parcel = parcel_make(message);

	for (size_t i = 0; parcel && i < message->nstorages; i++) {
		size_t size = tdr_storage_nbytes(message->storages[i]);
		tdr_storage *copy;

		if (storage_new_pooled(pool, size, &copy) != TDR_OK)
			return parcel_free(parcel);
		if (size > 0)
			memcpy(tdr_storage_data(copy), tdr_storage_data(message->storages[i]), size);
		((tdr_storage **)parcel->message.storages)[i] = copy;
	}
	return parcel;
}

struct parcel *parcel_free(struct parcel *parcel)
{
	for (size_t i = 0; parcel && i < parcel->message.nstorages; i++)
		tdr_storage_unref(parcel->message.storages[i]);
	free(parcel);
	return NULL;
}
