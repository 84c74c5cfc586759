/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of Python's objects as the library's storages.
 *
 * A storage may be let go of by a thread that must not wait, such as the one that writes to a connection, and to drop what keeps
 * the memory takes the GIL. So that thread puts it on a stack, and a thread of ours drops what is there.
 */
#include "convert.h"

#include <stdatomic.h>
#include <stdlib.h>

/* What a storage holds: the owner of its memory. */
struct keeper {
	struct keeper *next;
	PyObject *owner;
};

static _Atomic(struct keeper *) released;

/* Whether this thread has the GIL. PyGILState_Check says yes to all once there has been a subinterpreter. */
static bool have_gil(void)
{
	PyThreadState *state;

	if (python_is_closing())
		return false;
	state = PyGILState_GetThisThreadState();
	return state && state == _PyThreadState_UncheckedGet();
}

static void drop_released(void *unused)
{
	struct keeper *keeper, *next;
	PyGILState_STATE state;

	(void)unused;
	/* What is there when the interpreter goes down stays: nobody may touch it any more. */
	if (!python_enter(&state))
		return;
	for (keeper = atomic_exchange(&released, NULL); keeper; keeper = next) {
		next = keeper->next;
		Py_DECREF(keeper->owner);
		free(keeper);
	}
	python_leave(state);
}

static void keeper_release(void *context, void *data)
{
	struct keeper *keeper = context;

	(void)data;
	if (have_gil()) {
		Py_DECREF(keeper->owner);
		free(keeper);
		return;
	}
	keeper->next = atomic_load(&released);
	while (!atomic_compare_exchange_weak(&released, &keeper->next, keeper))
		;
	/* Who finds the stack empty sees to it; where no thread can be had, by itself. */
	if (!keeper->next && !python_is_closing() && !hands_run(drop_released, NULL))
		drop_released(NULL);
}

tdr_storage *storage_keeping(void *data, size_t nbytes, PyObject *owner)
{
	struct keeper *keeper = malloc(sizeof(*keeper));
	tdr_storage *storage;
	tdr_status status;

	if (!keeper) {
		PyErr_NoMemory();
		return NULL;
	}
	*keeper = (struct keeper){.owner = Py_NewRef(owner)};
	status =
	    tdr_storage_from_memory(nbytes > 0 ? data : NULL, nbytes, TDR_DEVICE_CPU, keeper_release, keeper, &storage);
	if (status != TDR_OK) {
		Py_DECREF(owner);
		free(keeper);
		raise_last(status);
		return NULL;
	}
	return storage;
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
