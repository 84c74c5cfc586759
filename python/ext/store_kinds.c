/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The classes HashStore, FileStore and PrefixStore.
 */
#include "store.h"

#include <string.h>

/* How many prefix stores may stand on each other: what is done with them, freeing them included, is done by each in turn. */
#define PREFIXES_MAX 100

static PyTypeObject *hash_type, *file_type, *prefix_type;

/* Puts a store of the library's into an object, in place of the one that an earlier __init__ has put there. */
static int take(StoreObject *self, tdr_status status, tdr_store *store)
{
	if (status != TDR_OK) {
		raise_last(status);
		return -1;
	}
	store_drop(self);
	self->store = store;
	return 0;
}

static int hash_init(StoreObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {NULL};
	tdr_store *store = NULL;
	tdr_status status;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":HashStore", keywords))
		return -1;
	status = tdr_store_hash(&store);
	return take(self, status, store);
}

/* ---- files ---- */

static int file_init(StoreObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"file_name", "world_size", NULL};
	tdr_store *store = NULL;
	PyObject *path = NULL, *name;
	const char *bytes;
	int world_size = -1;
	tdr_status status;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|i:FileStore", keywords, PyUnicode_FSConverter, &path,
	                                 &world_size)) {
		Py_XDECREF(path);
		return -1;
	}
	bytes = PyBytes_AS_STRING(path);
	Py_BEGIN_ALLOW_THREADS;
	status = tdr_store_file(bytes, world_size > 0 ? world_size : -1, &store);
	Py_END_ALLOW_THREADS;
	if (take(self, status, store) < 0) {
		Py_DECREF(path);
		return -1;
	}
	name = PyUnicode_DecodeFSDefault(bytes);
	Py_DECREF(path);
	if (!name)
		return -1;
	Py_XSETREF(self->place, name);
	return 0;
}

static PyObject *get_place(StoreObject *self, void *unused)
{
	return Py_NewRef(self->place ? self->place : Py_None);
}

/* ---- prefixes ---- */

/* False: RecursionError. */
static bool may_stand_on(PyObject *below)
{
	for (int count = 1; below && PyObject_TypeCheck(below, store_type); count++) {
		if (count > PREFIXES_MAX) {
			PyErr_Format(
			    PyExc_RecursionError,
			    "more than %d PrefixStores cannot stand on each other: put the prefixes into one, with "
			    "'/' between them",
			    PREFIXES_MAX);
			return false;
		}
		below = ((StoreObject *)below)->below;
	}
	return true;
}

static int prefix_init(StoreObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"prefix", "store", NULL};
	PyObject *prefix, *below;
	tdr_store *native = NULL, *store = NULL;
	const char *text;
	Py_ssize_t size;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UO:PrefixStore", keywords, &prefix, &below))
		return -1;
	text = PyUnicode_AsUTF8AndSize(prefix, &size);
	if (!text)
		return -1;
	if (strlen(text) != (size_t)size) {
		PyErr_SetString(PyExc_ValueError, "a store's prefix cannot have a NUL in it");
		return -1;
	}
	if (below == (PyObject *)self) {
		PyErr_SetString(PyExc_ValueError, "a PrefixStore cannot stand on itself");
		return -1;
	}
	/* Also where it is not native, to see whether it is a store at all. */
	native = may_stand_on(below) ? store_from_python(below) : NULL;
	if (!native)
		return -1;
	if (!store_is_native(below)) {
		Py_BEGIN_ALLOW_THREADS;
		tdr_store_unref(native);
		Py_END_ALLOW_THREADS;
		store_drop(self);
	} else {
		tdr_status status = tdr_store_prefix(text, native, &store);

		tdr_store_unref(native); /* not the last: the object has one */
		if (take(self, status, store) < 0)
			return -1;
	}
	Py_XSETREF(self->prefix, Py_NewRef(prefix));
	Py_XSETREF(self->below, Py_NewRef(below));
	return 0;
}

static PyObject *get_below(StoreObject *self, void *unused)
{
	return Py_NewRef(self->below ? self->below : Py_None);
}

static PyObject *get_prefix(StoreObject *self, void *unused)
{
	return Py_NewRef(self->prefix ? self->prefix : Py_None);
}

/* ---- the classes ---- */

static PyType_Slot hash_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("HashStore()\n--\n\nA store in this process' memory, for its threads.")},
    {Py_tp_init, (void *)hash_init},
    {Py_tp_dealloc, (void *)store_dealloc},
    {Py_tp_traverse, (void *)store_traverse},
    {Py_tp_clear, (void *)store_clear},
    {0, NULL},
};

static PyGetSetDef file_fields[] = {
    {"path", (getter)get_place, NULL, PyDoc_STR("The file's path, a str."), NULL},
    {NULL},
};

static PyType_Slot file_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("FileStore(file_name, world_size=-1)\n--\n\nA store in a file that processes share; "
                       "torch.distributed's can use the same one.\n\nArgs:\n    file_name: the path; the "
                       "file is made where it is missing.\n    world_size: how many users there will be: the "
                       "last one to close removes the file. -1: it stays.\n\nRaises:\n    RuntimeError: the "
                       "file cannot be made or opened.")},
    {Py_tp_init, (void *)file_init},
    {Py_tp_dealloc, (void *)store_dealloc},
    {Py_tp_traverse, (void *)store_traverse},
    {Py_tp_clear, (void *)store_clear},
    {Py_tp_getset, (void *)file_fields},
    {0, NULL},
};

static PyGetSetDef prefix_fields[] = {
    {"underlying_store", (getter)get_below, NULL, PyDoc_STR("The store that it stands on."), NULL},
    {"prefix", (getter)get_prefix, NULL, PyDoc_STR("What stands before its keys, without the '/'."), NULL},
    {NULL},
};

static PyType_Slot prefix_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("PrefixStore(prefix, store)\n--\n\nA view of a store in which every key has "
                                  "\"PREFIX/\" before it.\n\nArgs:\n    prefix: a str.\n    store: one of this module, "
                                  "of torch.distributed, or any object with the methods of Store. It has the "
                                  "timeout.\n\nRaises:\n    RecursionError: more than 100 stand on each other.")},
    {Py_tp_init, (void *)prefix_init},
    {Py_tp_dealloc, (void *)store_dealloc},
    {Py_tp_traverse, (void *)store_traverse},
    {Py_tp_clear, (void *)store_clear},
    {Py_tp_getset, (void *)prefix_fields},
    {0, NULL},
};

static PyType_Spec hash_spec = {
    .name = "tendril.store.HashStore",
    .basicsize = sizeof(StoreObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = hash_slots,
};

static PyType_Spec file_spec = {
    .name = "tendril.store.FileStore",
    .basicsize = sizeof(StoreObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = file_slots,
};

static PyType_Spec prefix_spec = {
    .name = "tendril.store.PrefixStore",
    .basicsize = sizeof(StoreObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = prefix_slots,
};

int store_kinds_init(PyObject *module)
{
	if (!store_kind_add(module, &hash_spec, &hash_type) || !store_kind_add(module, &file_spec, &file_type) ||
	    !store_kind_add(module, &prefix_spec, &prefix_type))
		return -1;
	return 0;
}
