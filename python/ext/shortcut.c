/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shortcuts: rpc_sync, rpc_async and remote without a Python frame.
 *
 * A shortcut stands in the place of a Python function that makes calls. What is common it does at once: a call of a Python
 * function, on a worker given by its name or WorkerInfo, with a tuple or list and a dict of arguments. All else is left to the
 * Python function, which can do everything and says what is wrong: other kinds of arguments, what has been put in the place of
 * what the Python function uses (by a profiler, a pickler, a test), and a process that is in no group.
 */
#include "ext.h"

#include <stddef.h>
#include <structmember.h>

enum {
	TO,
	FUNC,
	ARGS,
	KWARGS,
	TIMEOUT,
	NPARAMETERS
};

static const char *const parameter_names[NPARAMETERS] = {"to", "func", "args", "kwargs", "timeout"};
static PyObject *parameters[NPARAMETERS]; /* the same, interned */

typedef struct ShortcutObject {
	PyObject_HEAD vectorcallfunc vectorcall;
	PyObject *function; /* the Python function */
	PyObject
	    *watched; /* a tuple of (namespace, name, object): the shortcut is good while each name means its object */
	PyObject *busy; /* a set: it is good while this is empty; or NULL */
	int mode;
	PyObject *attributes; /* __dict__ */
	PyObject *weak_references;
} ShortcutObject;

static PyTypeObject *shortcut_type;
static PyObject *no_timeout; /* -1.0 */

/* ---- whether it can be taken ---- */

static bool nothing_is_replaced(const ShortcutObject *self)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->watched); i++) {
		PyObject *entry = PyTuple_GET_ITEM(self->watched, i);

		if (PyDict_GetItemWithError(PyTuple_GET_ITEM(entry, 0), PyTuple_GET_ITEM(entry, 1)) !=
		    PyTuple_GET_ITEM(entry, 2)) {
			PyErr_Clear();
			return false;
		}
	}
	return !self->busy || PySet_GET_SIZE(self->busy) == 0;
}

/* Sorts arguments into `slots`. False, without an exception: they are not all there, or more. */
static bool sort_arguments(PyObject *const *args, Py_ssize_t nargs, PyObject *keywords, PyObject *slots[])
{
	Py_ssize_t nkeywords = keywords ? PyTuple_GET_SIZE(keywords) : 0;

	if (nargs > NPARAMETERS)
		return false;
	for (Py_ssize_t i = 0; i < nargs; i++)
		slots[i] = args[i];
	for (Py_ssize_t i = 0; i < nkeywords; i++) {
		size_t at = 0;

		while (at < NPARAMETERS && parameters[at] != PyTuple_GET_ITEM(keywords, i))
			at++;
		if (at == NPARAMETERS || slots[at])
			return false;
		slots[at] = args[nargs + i];
	}
	return slots[TO] && slots[FUNC];
}

static bool is_common(PyObject *const slots[])
{
	PyObject *args = slots[ARGS], *kwargs = slots[KWARGS];

	return (PyUnicode_CheckExact(slots[TO]) || worker_check(slots[TO])) &&
	       (PyFunction_Check(slots[FUNC]) || PyCFunction_CheckExact(slots[FUNC])) &&
	       (!args || args == Py_None || PyTuple_CheckExact(args) || PyList_CheckExact(args)) &&
	       (!kwargs || kwargs == Py_None || PyDict_CheckExact(kwargs)) &&
	       (!slots[TIMEOUT] || PyFloat_CheckExact(slots[TIMEOUT]) || PyLong_CheckExact(slots[TIMEOUT]));
}

static PyObject *shortcut_call(PyObject *object, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
	ShortcutObject *self = (ShortcutObject *)object;
	PyObject *slots[NPARAMETERS] = {NULL};
	AgentObject *agent = agent_current_or_none();

	if (agent && sort_arguments(args, PyVectorcall_NARGS(nargsf), keywords, slots) && is_common(slots) &&
	    nothing_is_replaced(self))
		return agent_make_call(agent, slots[TO], slots[FUNC], slots[ARGS], slots[KWARGS],
		                       slots[TIMEOUT] ? slots[TIMEOUT] : no_timeout, self->mode);
	return PyObject_Vectorcall(self->function, args, nargsf, keywords);
}

/* ---- the type ---- */

/* The triples of `watched`: of each (namespace, names) with what the names mean now. */
static PyObject *watch_names(PyObject *pairs)
{
	PyObject *list = PyList_New(0), *watched;

	for (Py_ssize_t i = 0; list && i < PyTuple_GET_SIZE(pairs); i++) {
		PyObject *namespace, *names;

		if (!PyArg_ParseTuple(PyTuple_GET_ITEM(pairs, i), "O!O!", &PyDict_Type, &namespace, &PyTuple_Type,
		                      &names))
			Py_CLEAR(list);
		for (Py_ssize_t j = 0; list && j < PyTuple_GET_SIZE(names); j++) {
			PyObject *name = PyTuple_GET_ITEM(names, j), *meant = PyDict_GetItemWithError(namespace, name);
			PyObject *entry = meant ? PyTuple_Pack(3, namespace, name, meant) : NULL;

			if (!meant && !PyErr_Occurred())
				PyErr_SetObject(PyExc_KeyError, name);
			if (!entry || PyList_Append(list, entry) < 0)
				Py_CLEAR(list);
			Py_XDECREF(entry);
		}
	}
	watched = list ? PyList_AsTuple(list) : NULL;
	Py_XDECREF(list);
	return watched;
}

static PyObject *shortcut_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *function, *pairs, *busy = Py_None;
	ShortcutObject *self;
	int mode;

	if (kwargs && PyDict_GET_SIZE(kwargs) > 0)
		return PyErr_Format(PyExc_TypeError, "Shortcut() takes no keyword arguments");
	if (!PyArg_ParseTuple(args, "OiO!|O", &function, &mode, &PyTuple_Type, &pairs, &busy))
		return NULL;
	if (busy != Py_None && !PyAnySet_Check(busy))
		return PyErr_Format(PyExc_TypeError, "what says that a shortcut is closed is a set, not %R", busy);
	self = (ShortcutObject *)type->tp_alloc(type, 0);
	if (!self)
		return NULL;
	self->vectorcall = shortcut_call;
	self->mode = mode;
	self->function = Py_NewRef(function);
	self->busy = busy == Py_None ? NULL : Py_NewRef(busy);
	self->watched = watch_names(pairs);
	if (!self->watched)
		Py_CLEAR(self);
	return (PyObject *)self;
}

static int shortcut_traverse(ShortcutObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->function);
	Py_VISIT(self->watched);
	Py_VISIT(self->busy);
	Py_VISIT(self->attributes);
	return 0;
}

/* `watched` stays: it is looked at in each call. */
static int shortcut_clear(ShortcutObject *self)
{
	Py_CLEAR(self->attributes);
	return 0;
}

static void shortcut_dealloc(ShortcutObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (self->weak_references)
		PyObject_ClearWeakRefs((PyObject *)self);
	Py_XDECREF(self->function);
	Py_XDECREF(self->watched);
	Py_XDECREF(self->busy);
	Py_XDECREF(self->attributes);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyObject *shortcut_repr(ShortcutObject *self)
{
	return PyObject_Repr(self->function);
}

/* As an attribute of a class it is a method, as a function is. */
static PyObject *shortcut_get(PyObject *self, PyObject *instance, PyObject *type)
{
	return instance && instance != Py_None ? PyMethod_New(self, instance) : Py_NewRef(self);
}

/* Pickled by its name. */
static PyObject *shortcut_reduce(PyObject *self, PyObject *unused)
{
	return PyObject_GetAttrString(self, "__qualname__");
}

static PyMemberDef shortcut_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(ShortcutObject, attributes), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ShortcutObject, weak_references), READONLY, NULL},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(ShortcutObject, vectorcall), READONLY, NULL},
    {NULL},
};

static PyGetSetDef shortcut_fields[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL},
};

static PyMethodDef shortcut_methods[] = {
    {"__reduce__", shortcut_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot shortcut_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("Shortcut(function, mode, watched, busy=None)\n--\n\nA function that makes calls, without "
                       "a Python frame where nothing that it uses has been replaced.")},
    {Py_tp_new, (void *)shortcut_new},
    {Py_tp_traverse, (void *)shortcut_traverse},
    {Py_tp_clear, (void *)shortcut_clear},
    {Py_tp_dealloc, (void *)shortcut_dealloc},
    {Py_tp_call, (void *)PyVectorcall_Call},
    {Py_tp_repr, (void *)shortcut_repr},
    {Py_tp_descr_get, (void *)shortcut_get},
    {Py_tp_members, (void *)shortcut_members},
    {Py_tp_getset, (void *)shortcut_fields},
    {Py_tp_methods, (void *)shortcut_methods},
    {0, NULL},
};

static PyType_Spec shortcut_spec = {
    .name = "tendril._C.Shortcut",
    .basicsize = sizeof(ShortcutObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = shortcut_slots,
};

int shortcut_init(PyObject *module)
{
	for (size_t i = 0; i < NPARAMETERS; i++) {
		if (!parameters[i])
			parameters[i] = PyUnicode_InternFromString(parameter_names[i]);
		if (!parameters[i])
			return -1;
	}
	if (!no_timeout)
		no_timeout = PyFloat_FromDouble(-1.0);
	if (!shortcut_type)
		shortcut_type = (PyTypeObject *)PyType_FromSpec(&shortcut_spec);
	return no_timeout && shortcut_type ? PyModule_AddObjectRef(module, "Shortcut", (PyObject *)shortcut_type) : -1;
}
