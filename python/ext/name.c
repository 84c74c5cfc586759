/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callables by name: python::module:qualname.
 *
 * A callable has a name if importing its module and looking it up there gives the same object. What is kept of earlier look-ups are
 * the parts of names alone: the object itself is looked up each time, so that one that is replaced in its module is replaced for
 * callers, too.
 */
#include "ext.h"

#include <string.h>

/* Names kept; past this many all are forgotten. */
#define NAMES_MAX 4096

#define PREFIX "python::"

static PyObject *parts_of_names;     /* "module:qualname" -> (module, attribute, attribute...) */
static PyObject *names_of_callables; /* id -> (callable, its name, parts) */

/* The object that `parts` lead to in a module; NULL: AttributeError. */
static PyObject *look_up(PyObject *module, PyObject *parts)
{
	PyObject *object = Py_NewRef(module);

	for (Py_ssize_t i = 1; object && i < PyTuple_GET_SIZE(parts); i++)
		Py_SETREF(object, PyObject_GetAttr(object, PyTuple_GET_ITEM(parts, i)));
	return object;
}

/* (module, attribute, attribute...) of "module:qualname", interned. */
static PyObject *split(const char *name)
{
	const char *colon = strchr(name, ':'), *start, *end;
	PyObject *list, *parts;

	if (!colon || colon == name || !colon[1])
		return PyErr_Format(PyExc_ValueError,
		                    "'" PREFIX "%s' names no function: it has to read " PREFIX "module:qualname", name);
	list = PyList_New(0);
	start = name;
	for (end = colon; list; end = strchrnul(start, '.')) {
		PyObject *part = PyUnicode_FromStringAndSize(start, end - start);

		if (part)
			PyUnicode_InternInPlace(&part);
		if (!part || PyList_Append(list, part) < 0)
			Py_CLEAR(list);
		Py_XDECREF(part);
		if (!*end)
			break;
		start = end + 1;
	}
	parts = list ? PyList_AsTuple(list) : NULL;
	Py_XDECREF(list);
	return parts;
}

/* Keeps `value` under `key`. */
static int keep(PyObject *table, PyObject *key, PyObject *value)
{
	if (PyDict_GET_SIZE(table) >= NAMES_MAX)
		PyDict_Clear(table);
	return PyDict_SetItem(table, key, value);
}

static PyObject *parts_of(const char *name)
{
	PyObject *key = PyUnicode_FromString(name), *parts;

	if (!key)
		return NULL;
	parts = Py_XNewRef(PyDict_GetItemWithError(parts_of_names, key));
	if (!parts && !PyErr_Occurred()) {
		parts = split(name);
		if (parts && keep(parts_of_names, key, parts) < 0)
			Py_CLEAR(parts);
	}
	Py_DECREF(key);
	return parts;
}

/* A module that is there, perhaps while it is being imported; a new reference, or NULL without an exception. */
static PyObject *loaded(PyObject *name)
{
	PyObject *modules = PyImport_GetModuleDict(), *module = NULL;

	if (PyDict_CheckExact(modules))
		module = Py_XNewRef(PyDict_GetItemWithError(modules, name));
	else
		module = PyImport_GetModule(name);
	PyErr_Clear();
	return module;
}

/* The module; what a child of multiprocessing calls __mp_main__ is __main__ to all others. */
static PyObject *import(PyObject *name)
{
	PyObject *module = PyImport_GetModule(name);

	if (!module && !PyErr_Occurred())
		module = PyImport_Import(name);
	if (!module && PyUnicode_CompareWithASCIIString(name, "__mp_main__") == 0) {
		PyErr_Clear();
		module = PyImport_ImportModule("__main__");
	}
	return module;
}

/* Says what is wrong where a function is not there: the exception that is set, with a hint. */
static void add_hint(void)
{
	PyObject *type, *value, *traceback;

	if (!PyErr_ExceptionMatches(PyExc_AttributeError) && !PyErr_ExceptionMatches(PyExc_ImportError))
		return;
	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	PyErr_Format(
	    type,
	    "%S Default RPC pickler does not serialize function code. Ensure that UDFs are defined on both caller "
	    "and callee modules.",
	    value);
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(traceback);
}

PyObject *callable_of_name(const char *name)
{
	PyObject *parts = parts_of(name), *module, *callable = NULL;

	if (!parts)
		return NULL;
	module = loaded(PyTuple_GET_ITEM(parts, 0));
	if (module)
		callable = look_up(module, parts);
	if (!callable) { /* it is not imported, or another thread is about to have done so */
		PyErr_Clear();
		Py_XSETREF(module, import(PyTuple_GET_ITEM(parts, 0)));
		if (module)
			callable = look_up(module, parts);
	}
	if (!callable)
		add_hint();
	Py_XDECREF(module);
	Py_DECREF(parts);
	if (callable && !PyCallable_Check(callable)) {
		PyErr_Format(PyExc_TypeError, "'" PREFIX "%s' is %s, which cannot be called", name,
		             Py_TYPE(callable)->tp_name);
		Py_CLEAR(callable);
	}
	return callable;
}

/* ---- the name of a callable ---- */

/* Whether `parts` lead to `callable`. */
static bool leads_to(PyObject *parts, PyObject *callable)
{
	PyObject *module = loaded(PyTuple_GET_ITEM(parts, 0));
	PyObject *found = module ? look_up(module, parts) : NULL;
	bool same = found == callable;

	PyErr_Clear();
	Py_XDECREF(found);
	Py_XDECREF(module);
	return same;
}

/* An attribute that is a string that names can be made of, or NULL without an exception. */
static PyObject *name_attribute(PyObject *object, const char *attribute)
{
	PyObject *value = PyObject_GetAttrString(object, attribute);
	const char *text;

	PyErr_Clear();
	if (!value || !PyUnicode_CheckExact(value) || PyUnicode_GET_LENGTH(value) == 0 || !PyUnicode_IS_ASCII(value))
		goto none;
	text = PyUnicode_AsUTF8(value);
	if (!text || strpbrk(text, ":<>") || strlen(text) != (size_t)PyUnicode_GET_LENGTH(value))
		goto none;
	return value;
none:
	Py_XDECREF(value);
	return NULL;
}

/* (callable, name, parts), or NULL, without an exception where it has no name. */
static PyObject *make_entry(PyObject *callable)
{
	PyObject *module = name_attribute(callable, "__module__"), *qualname = NULL, *name = NULL, *parts = NULL,
		 *entry = NULL;

	if (module)
		qualname = name_attribute(callable, "__qualname__");
	if (qualname)
		name = PyUnicode_FromFormat(PREFIX "%U:%U", module, qualname);
	if (name)
		parts = split(PyUnicode_AsUTF8(name) + strlen(PREFIX));
	if (parts && leads_to(parts, callable))
		entry = PyTuple_Pack(3, callable, name, parts);
	Py_XDECREF(parts);
	Py_XDECREF(name);
	Py_XDECREF(qualname);
	Py_XDECREF(module);
	return entry;
}

PyObject *name_of_callable(PyObject *callable)
{
	PyObject *key = PyLong_FromVoidPtr(callable), *entry, *name = NULL;

	if (!key)
		return NULL;
	/* An entry keeps its callable, so the id stays its own. */
	entry = Py_XNewRef(PyDict_GetItemWithError(names_of_callables, key));
	if (entry && !leads_to(PyTuple_GET_ITEM(entry, 2), callable)) {
		Py_CLEAR(entry);
		if (PyDict_DelItem(names_of_callables, key) < 0)
			PyErr_Clear();
	} else if (!entry && !PyErr_Occurred()) {
		entry = make_entry(callable);
		if (entry && keep(names_of_callables, key, entry) < 0)
			Py_CLEAR(entry);
	}
	if (entry)
		name = Py_NewRef(PyTuple_GET_ITEM(entry, 1));
	Py_XDECREF(entry);
	Py_DECREF(key);
	return name;
}

void forget_functions(void)
{
	PyDict_Clear(parts_of_names);
	PyDict_Clear(names_of_callables);
}

static PyObject *forget(PyObject *module, PyObject *unused)
{
	forget_functions();
	Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"forget_functions", forget, METH_NOARGS,
     PyDoc_STR("forget_functions()\n--\n\nForgets the functions that were called, and their names.")},
    {NULL},
};

int name_init(PyObject *module)
{
	if (!parts_of_names)
		parts_of_names = PyDict_New();
	if (!names_of_callables)
		names_of_callables = PyDict_New();
	return parts_of_names && names_of_callables ? PyModule_AddFunctions(module, functions) : -1;
}
