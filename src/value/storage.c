/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storages. One of our own is a single allocation, its bytes behind its head; any other has a deleter, pooled ones too.
 */
#include "value/storage.h"

#include "base/error.h"
#include "base/macros.h"
#include "base/poison.h"
#include "base/refcount.h"
#include "value/device.h"

#include <stdlib.h>

#define ALIGNMENT 64

struct tdr_storage {
	struct refcount refs;
	tdr_device device;
	size_t nbytes;
	void *data;
	tdr_deleter deleter; /* NULL: nothing to be done about the bytes */
	void *context;
	void *memory; /* what the deleter is given: `data`, but for a storage of 0 bytes */
};

static tdr_status new_own(size_t nbytes, bool zeroed, tdr_storage **ret_storage)
{
	tdr_storage *storage;
	char *data, *end;
	size_t room;

	if (__builtin_add_overflow(nbytes, sizeof(*storage) + ALIGNMENT - 1, &room) || room > PTRDIFF_MAX)
		return error_set(TDR_ENOMEM, "a storage of %zu bytes: more than the address space", nbytes);
	storage = zeroed ? calloc(1, room) : malloc(room);
	if (!storage)
		return error_set(TDR_ENOMEM, "a storage of %zu bytes: out of memory", nbytes);
	data = (char *)(storage + 1);
	data += ROUND_UP((uintptr_t)data, (uintptr_t)ALIGNMENT) - (uintptr_t)data;
	end = data + nbytes;
	*storage = (tdr_storage){.device = TDR_DEVICE_CPU, .nbytes = nbytes, .data = nbytes ? data : NULL};
	refcount_init(&storage->refs);
	poison(end,
	       (size_t)((char *)storage + room - end)); /* what aligning left over would hide a write past the end */
	*ret_storage = storage;
	return TDR_OK;
}

tdr_status tdr_storage_new(size_t nbytes, tdr_storage **ret_storage)
{
	return new_own(nbytes, false, ret_storage);
}

tdr_status storage_new_zeroed(size_t nbytes, tdr_storage **ret_storage)
{
	return new_own(nbytes, true, ret_storage);
}

tdr_status tdr_storage_from_memory(void *data, size_t nbytes, tdr_device device, tdr_deleter deleter, void *context,
                                   tdr_storage **ret_storage)
{
	tdr_storage *storage;

	if (!data && nbytes > 0)
		return error_set(TDR_EINVAL, "a storage of %zu bytes over NULL; pass the memory's address", nbytes);
	if (nbytes > PTRDIFF_MAX)
		return error_set(TDR_EINVAL, "a storage of %zu bytes: more than the address space", nbytes);
	if (!device_valid(device))
		return error_set(TDR_EINVAL, "device type %d, index %d: there is no such device", (int)device.type,
		                 (int)device.index);
	if (device.type != TDR_CPU && device.index < 0)
		return error_set(TDR_EINVAL, "memory on \"%s\": say on which one, by its index",
		                 device_type_name(device.type));
	storage = malloc(sizeof(*storage));
	if (!storage)
		return error_nomem();
	*storage = (tdr_storage){
	    .device = device.type == TDR_CPU ? TDR_DEVICE_CPU : device,
	    .nbytes = nbytes,
	    .data = nbytes ? data : NULL,
	    .deleter = deleter,
	    .context = context,
	    .memory = data,
	};
	refcount_init(&storage->refs);
	*ret_storage = storage;
	return TDR_OK;
}

static void give_to_pool(void *pool, void *block)
{
	pool_give(pool, block);
}

tdr_status storage_new_pooled(struct pool *pool, size_t nbytes, tdr_storage **ret_storage)
{
	void *block = nbytes ? pool_take(pool, nbytes) : NULL;
	tdr_status status;

	if (nbytes && !block)
		return error_set(TDR_ENOMEM, "a storage of %zu bytes: out of memory", nbytes);
	status = tdr_storage_from_memory(block, nbytes, TDR_DEVICE_CPU, give_to_pool, pool, ret_storage);
	if (status != TDR_OK)
		pool_give(pool, block);
	return status;
}

void storage_forget_deleter(tdr_storage *storage)
{
	storage->deleter = NULL;
}

tdr_storage *tdr_storage_ref(tdr_storage *storage)
{
	if (storage)
		refcount_get(&storage->refs);
	return storage;
}

tdr_storage *tdr_storage_unref(tdr_storage *storage)
{
	if (!storage || !refcount_put(&storage->refs))
		return NULL;
	if (storage->deleter)
		storage->deleter(storage->context, storage->memory);
	free(storage);
	return NULL;
}

void *tdr_storage_data(const tdr_storage *storage)
{
	return storage->data;
}

size_t tdr_storage_nbytes(const tdr_storage *storage)
{
	return storage->nbytes;
}

tdr_device tdr_storage_device(const tdr_storage *storage)
{
	return storage->device;
}
