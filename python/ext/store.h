/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the extension's stores share: the object, and what can be done to it.
 *
 * A store object is one of three things:
 *   - native: `store` is one of the library's. All the classes that come with the package;
 *   - a prefix store over something that is written in Python: `below` and `prefix`. It calls the methods of that object itself, in
 *     the thread of its caller, so that what they raise arrives as it is;
 *   - neither: the base class, whose subclasses in Python bring methods of their own.
 */
#ifndef TENDRIL_PYTHON_STORE_H
#define TENDRIL_PYTHON_STORE_H

#include "ext.h"

/* The timeout of a store to which nobody gave one. */
#define STORE_TIMEOUT_MS (INT64_C(300) * 1000)

/* A server that TCPStores of this process share. Guarded by the GIL. */
struct store_server;

typedef struct StoreObject {
	PyObject_HEAD tdr_store *store; /* counted; NULL: not native */
	PyObject *below;                /* of a prefix store: the one it stands on */
	PyObject *prefix;               /* of a prefix store */
	PyObject *place;                /* of a file store: its path; of a tcp store: the host */
	struct store_server *server;    /* of a tcp store that hosts it */
	int64_t timeout_ms;             /* where it is not native */
	PyObject *weak_references;
	uint16_t port;
} StoreObject;

extern PyTypeObject *store_type;

/* ---- store.c ---- */

/* Drops what the object holds. It may wait: for the lock of a file, for a server's thread. */
void store_drop(StoreObject *self);

/* The slots that a kind of stores has besides its own; `init` and the documentation are its. */
int store_traverse(StoreObject *self, visitproc visit, void *arg);
int store_clear(StoreObject *self);
void store_dealloc(StoreObject *self);

/* A timeout as Python has it, a timedelta or a number of seconds, in milliseconds, 0 for no limit. False: TypeError. */
bool store_timeout_from_python(PyObject *object, int64_t *ret_timeout_ms);
PyObject *store_timeout_to_python(int64_t timeout_ms);

/* ---- store_kinds.c, store_tcp.c: 0, or -1 ---- */

int store_kinds_init(PyObject *module);
int store_tcp_init(PyObject *module);

/* Makes a kind of stores a class of the module; the type is made once. */
bool store_kind_add(PyObject *module, PyType_Spec *spec, PyTypeObject **type);

/* Whether a Store's class has an operation of its own in Python, in whose place the library's must not be used. */
bool store_is_overridden(PyObject *object);

/* ---- store_tcp.c ---- */

/* Drops a reference to a server; the last one ends it, and waits for that without the GIL. Takes NULL. */
void store_server_drop(struct store_server *server);

/* ---- store_adapter.c ---- */

/* Whether `object` is native, so that no Python runs where the library uses it. */
bool store_is_native(PyObject *object);

#endif
