/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WorkerInfo: the name and id of a member of a group. It never changes, compares by both, and can be pickled.
 */
#include "ext.h"

#include <string.h>

#define NAME_SIZE_MAX 127

typedef struct WorkerObject {
	PyObject_HEAD PyObject *name;
	long id;
} WorkerObject;

PyTypeObject *worker_type;

/* Letters, digits and `-_:`, at least one, at most NAME_SIZE_MAX. */
static bool is_worker_name(const char *name, Py_ssize_t size)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:";

	return size >= 1 && size <= NAME_SIZE_MAX && strspn(name, allowed) == (size_t)size;
}

static PyObject *make(PyTypeObject *type, PyObject *name, long id)
{
	WorkerObject *self = (WorkerObject *)type->tp_alloc(type, 0);

	if (!self)
		return NULL;
	self->name = Py_NewRef(name);
	self->id = id;
	return (PyObject *)self;
}

PyObject *worker_object(const tdr_worker *worker)
{
	PyObject *name = PyUnicode_FromString(worker->name), *self;

	if (!name)
		return NULL;
	self = make(worker_type, name, (long)worker->id);
	Py_DECREF(name);
	return self;
}

bool worker_check(PyObject *object)
{
	return PyObject_TypeCheck(object, worker_type);
}

const char *worker_name(PyObject *worker)
{
	return PyUnicode_AsUTF8(((WorkerObject *)worker)->name);
}

static PyObject *worker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"name", "id", NULL};
	PyObject *name, *id_object;
	const char *text;
	Py_ssize_t size;
	long id;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UO!:WorkerInfo", keywords, &name, &PyLong_Type, &id_object))
		return NULL;
	text = PyUnicode_AsUTF8AndSize(name, &size);
	if (!text)
		return NULL;
	if (!is_worker_name(text, size))
		return PyErr_Format(
		    PyExc_RuntimeError,
		    "Worker name must match ^[A-Za-z0-9-_:]*$, and must be non-empty and shorter than 128 "
		    "chars, but got %U",
		    name);
	id = PyLong_AsLong(id_object);
	if ((id == -1 && PyErr_Occurred()) || id < INT16_MIN || id > INT16_MAX)
		return PyErr_Format(PyExc_TypeError,
		                    "WorkerInfo(): incompatible constructor arguments: id %S is not in [%d, %d]",
		                    id_object, INT16_MIN, INT16_MAX);
	return make(type, name, id);
}

static void worker_dealloc(WorkerObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	Py_XDECREF(self->name);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyObject *worker_repr(WorkerObject *self)
{
	return PyUnicode_FromFormat("WorkerInfo(id=%ld, name=%U)", self->id, self->name);
}

static Py_hash_t worker_hash(WorkerObject *self)
{
	Py_hash_t hash = PyObject_Hash(self->name);

	if (hash == -1)
		return -1;
	hash ^= self->id * 1000003;
	return hash == -1 ? -2 : hash;
}

static PyObject *worker_compare(PyObject *a, PyObject *b, int operation)
{
	WorkerObject *left = (WorkerObject *)a, *right = (WorkerObject *)b;
	bool equal;

	if (operation != Py_EQ && operation != Py_NE)
		Py_RETURN_NOTIMPLEMENTED;
	equal = worker_check(b) && left->id == right->id && PyUnicode_Compare(left->name, right->name) == 0;
	if (PyErr_Occurred())
		return NULL;
	return PyBool_FromLong(equal == (operation == Py_EQ));
}

static PyObject *worker_get_name(WorkerObject *self, void *unused)
{
	return Py_NewRef(self->name);
}

static PyObject *worker_get_id(WorkerObject *self, void *unused)
{
	return PyLong_FromLong(self->id);
}

static PyObject *worker_reduce(WorkerObject *self, PyObject *unused)
{
	return Py_BuildValue("O(Ol)", (PyObject *)Py_TYPE(self), self->name, self->id);
}

static PyObject *worker_getstate(WorkerObject *self, PyObject *unused)
{
	return Py_BuildValue("(Ol)", self->name, self->id);
}

static PyGetSetDef worker_fields[] = {
    {"name", (getter)worker_get_name, NULL, PyDoc_STR("The worker's name, a str."), NULL},
    {"id", (getter)worker_get_id, NULL, PyDoc_STR("The worker's id, its rank in the group, an int."), NULL},
    {NULL},
};

static PyMethodDef worker_methods[] = {
    {"__reduce__", (PyCFunction)worker_reduce, METH_NOARGS, NULL},
    {"__getstate__", (PyCFunction)worker_getstate, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot worker_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("WorkerInfo(name, id)\n--\n\nA member of a group: its name and its id, which is its rank. Equal "
                       "to others with the same two, hashable,\nand taken wherever a worker is named.\n\nRaises:\n    "
                       "RuntimeError: the name is not of 1 to 127 letters, digits, '-', '_' and ':'.\n    TypeError: "
                       "the id has more than 16 bits.")},
    {Py_tp_new, (void *)worker_new},
    {Py_tp_dealloc, (void *)worker_dealloc},
    {Py_tp_repr, (void *)worker_repr},
    {Py_tp_hash, (void *)worker_hash},
    {Py_tp_richcompare, (void *)worker_compare},
    {Py_tp_getset, (void *)worker_fields},
    {Py_tp_methods, (void *)worker_methods},
    {0, NULL},
};

static PyType_Spec worker_spec = {
    .name = "tendril._C.WorkerInfo",
    .basicsize = sizeof(WorkerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = worker_slots,
};

int worker_init(PyObject *module)
{
	if (!worker_type)
		worker_type = (PyTypeObject *)PyType_FromSpec(&worker_spec);
	return worker_type ? PyModule_AddObjectRef(module, "WorkerInfo", (PyObject *)worker_type) : -1;
}
