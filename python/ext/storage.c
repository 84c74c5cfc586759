/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of Python's objects as the library's storages, and which of them one message has.
 *
 * A storage may be let go of by a thread that must not wait, such as the one that writes to a connection;
 * python_decref does not.
 */
#include "convert.h"

static void drop_owner(void *owner, void *data)
{
	(void)data;
	python_decref(owner);
}

tdr_storage *storage_keeping(void *data, size_t nbytes, PyObject *owner)
{
	tdr_storage *storage;
	tdr_status status = tdr_storage_from_memory(nbytes > 0 ? data : NULL, nbytes, TDR_DEVICE_CPU, drop_owner,
	                                            Py_NewRef(owner), &storage);

	if (status == TDR_OK)
		return storage;
	Py_DECREF(owner);
	raise_last(status);
	return NULL;
}

/* ---- the storages of one message ---- */

void writer_init(struct writer *writer, enum audience audience)
{
	*writer = (struct writer){.audience = audience, .plain = true};
}

void writer_fini(struct writer *writer)
{
	for (size_t i = 0; i < writer->storages.room; i++)
		tdr_storage_unref(writer->storages.pairs[i].value);
	pointer_map_fini(&writer->storages);
	pointer_map_fini(&writer->seen);
}

tdr_storage *writer_find_storage(struct writer *writer, const void *key)
{
	void **place = pointer_map_find(&writer->storages, key);

	return place ? *place : NULL;
}

tdr_storage *writer_add_storage(struct writer *writer, const void *key, tdr_storage *storage)
{
	if (!storage)
		return NULL;
	if (!pointer_map_add(&writer->storages, key, storage)) {
		tdr_storage_unref(storage);
		PyErr_NoMemory();
		return NULL;
	}
	return storage;
}

void reader_fini(struct reader *reader)
{
	for (size_t i = 0; i < reader->torch_storages.room; i++)
		Py_XDECREF((PyObject *)reader->torch_storages.pairs[i].value);
	for (size_t i = 0; i < reader->buffers.room; i++)
		Py_XDECREF((PyObject *)reader->buffers.pairs[i].value);
	pointer_map_fini(&reader->torch_storages);
	pointer_map_fini(&reader->buffers);
}
