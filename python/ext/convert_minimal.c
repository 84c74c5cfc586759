/* SPDX-License-Identifier: Apache-2.0 */
/* Values of the plainest kinds, until convert.c is there. */
#include "ext.h"

#pragma weak rref_type
#pragma weak rref_object
#pragma weak rref_check
#pragma weak rref_of

tdr_value *value_from_python(PyObject *object, bool *ret_plain)
{
	*ret_plain = true;
	if (object == Py_None)
		return tdr_none();
	if (PyBool_Check(object))
		return tdr_bool(object == Py_True);
	if (PyLong_CheckExact(object)) {
		long long number = PyLong_AsLongLong(object);

		return number == -1 && PyErr_Occurred() ? NULL : tdr_int(number);
	}
	if (PyFloat_CheckExact(object))
		return tdr_float(PyFloat_AS_DOUBLE(object));
	if (PyBytes_CheckExact(object))
		return tdr_bytes(PyBytes_AS_STRING(object), (size_t)PyBytes_GET_SIZE(object));
	if (PyUnicode_CheckExact(object)) {
		Py_ssize_t size;
		const char *text = PyUnicode_AsUTF8AndSize(object, &size);

		return text ? tdr_string_n(text, (size_t)size) : NULL;
	}
	if (rref_check && rref_check(object))
		return tdr_rref_value(rref_of(object));
	if (PyList_CheckExact(object) || PyTuple_CheckExact(object)) {
		tdr_value *list = tdr_list(0, NULL), *tuple;

		for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(object); i++) {
			tdr_value *item = value_from_python(PySequence_Fast_GET_ITEM(object, i), ret_plain);

			if (!item) {
				tdr_value_unref(list);
				return NULL;
			}
			tdr_list_append(list, item);
		}
		if (PyList_CheckExact(object))
			return list;
		{
			size_t count = tdr_value_count(list);
			tdr_value *items[count + 1];

			for (size_t i = 0; i < count; i++)
				items[i] = tdr_value_ref(tdr_value_item(list, i));
			tuple = tdr_tuple(count, items);
		}
		tdr_value_unref(list);
		return tuple;
	}
	if (PyDict_CheckExact(object)) {
		tdr_value *dict = tdr_dict_new();
		PyObject *key, *item;
		Py_ssize_t position = 0;

		while (PyDict_Next(object, &position, &key, &item)) {
			tdr_value *k = value_from_python(key, ret_plain),
				  *v = k ? value_from_python(item, ret_plain) : NULL;

			if (!v) {
				tdr_value_unref(k);
				tdr_value_unref(dict);
				return NULL;
			}
			tdr_dict_put(dict, k, v);
		}
		return dict;
	}
	*ret_plain = false;
	return NULL;
}

tdr_value *pickled_from_python(PyObject *object)
{
	PyObject *module = PyImport_ImportModule("pickle");
	PyObject *bytes = module ? PyObject_CallMethod(module, "dumps", "Oi", object, 5) : NULL;
	tdr_value *value = NULL;

	if (bytes)
		value = tdr_object("pickle5", PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), 0, NULL);
	Py_XDECREF(bytes);
	Py_XDECREF(module);
	return value;
}

static PyObject *unpickle(const void *data, size_t size)
{
	PyObject *module = PyImport_ImportModule("pickle");
	PyObject *object = module ? PyObject_CallMethod(module, "loads", "y#", data, (Py_ssize_t)size) : NULL;

	Py_XDECREF(module);
	return object;
}

static PyObject *sequence(tdr_value *value, bool is_list)
{
	Py_ssize_t count = (Py_ssize_t)tdr_value_count(value);
	PyObject *object = is_list ? PyList_New(count) : PyTuple_New(count);

	for (Py_ssize_t i = 0; object && i < count; i++) {
		PyObject *item = python_from_value(tdr_value_item(value, (size_t)i));

		if (!item) {
			Py_DECREF(object);
			return NULL;
		}
		if (is_list)
			PyList_SET_ITEM(object, i, item);
		else
			PyTuple_SET_ITEM(object, i, item);
	}
	return object;
}

static PyObject *dictionary(tdr_value *value)
{
	PyObject *dict = PyDict_New();

	for (size_t i = 0; dict && i < tdr_value_count(value); i++) {
		PyObject *key = python_from_value(tdr_dict_key(value, i));
		PyObject *item = key ? python_from_value(tdr_dict_value(value, i)) : NULL;

		if (!item || PyDict_SetItem(dict, key, item) < 0)
			Py_CLEAR(dict);
		Py_XDECREF(item);
		Py_XDECREF(key);
	}
	return dict;
}

PyObject *python_from_value(tdr_value *value)
{
	const char *text, *format;
	const void *data;
	double number;
	int64_t whole;
	size_t size;
	bool truth;
	void *object;
	tdr_rref *rref;
	tdr_tensor *const *tensors;
	size_t count;

	switch (tdr_value_kind(value)) {
	case TDR_NONE:
		Py_RETURN_NONE;
	case TDR_KIND_BOOL:
		return tdr_value_get_bool(value, &truth) == TDR_OK ? PyBool_FromLong(truth) : raise_last(TDR_ETYPE);
	case TDR_INT:
		return tdr_value_get_int(value, &whole) == TDR_OK ? PyLong_FromLongLong(whole) : raise_last(TDR_ETYPE);
	case TDR_FLOAT:
		return tdr_value_get_float(value, &number) == TDR_OK ? PyFloat_FromDouble(number)
		                                                     : raise_last(TDR_ETYPE);
	case TDR_STRING:
		return tdr_value_get_string(value, &text, &size) == TDR_OK
		           ? PyUnicode_FromStringAndSize(text, (Py_ssize_t)size)
		           : raise_last(TDR_ETYPE);
	case TDR_BYTES:
		return tdr_value_get_bytes(value, &data, &size) == TDR_OK
		           ? PyBytes_FromStringAndSize(data, (Py_ssize_t)size)
		           : raise_last(TDR_ETYPE);
	case TDR_LIST:
	case TDR_TUPLE:
		return sequence(value, tdr_value_kind(value) == TDR_LIST);
	case TDR_DICT:
		return dictionary(value);
	case TDR_RREF:
		return tdr_value_get_rref(value, &rref) == TDR_OK ? rref_object(tdr_rref_ref(rref))
		                                                  : raise_last(TDR_ETYPE);
	case TDR_OBJECT:
		return tdr_value_get_object(value, &format, &data, &size, &count, &tensors) == TDR_OK
		           ? unpickle(data, size)
		           : raise_last(TDR_ETYPE);
	case TDR_NATIVE:
		return tdr_value_get_native(value, OBJECT_TYPE, &object) == TDR_OK ? Py_NewRef((PyObject *)object)
		                                                                   : raise_last(TDR_ETYPE);
	default:
		return PyErr_Format(PyExc_TypeError, "a value of kind %s", tdr_kind_name(tdr_value_kind(value)));
	}
}

bool arguments_from_python(PyObject *args, PyObject *kwargs, tdr_value **ret_args, tdr_value **ret_kwargs)
{
	PyObject *tuple = PySequence_Tuple(args), *both;
	bool plain = true;

	*ret_kwargs = NULL;
	*ret_args = tuple ? value_from_python(tuple, &plain) : NULL;
	if (*ret_args && kwargs && PyDict_GET_SIZE(kwargs) > 0)
		*ret_kwargs = value_from_python(kwargs, &plain);
	if (*ret_args && (*ret_kwargs || !kwargs || PyDict_GET_SIZE(kwargs) == 0)) {
		Py_DECREF(tuple);
		return true;
	}
	*ret_args = tdr_value_unref(*ret_args);
	if (plain) {
		Py_XDECREF(tuple);
		return false;
	}
	both = Py_BuildValue("NO", tuple, kwargs ? kwargs : Py_None);
	if (both) {
		tdr_value *pickled = pickled_from_python(both);

		Py_DECREF(both);
		if (pickled)
			*ret_args = tdr_tuple(1, &pickled);
	}
	return *ret_args;
}

bool arguments_to_python(tdr_value *args, tdr_value *kwargs, PyObject **ret_args, PyObject **ret_kwargs)
{
	PyObject *tuple = NULL, *dict = NULL;

	if (args && tdr_value_count(args) == 1 && tdr_value_kind(tdr_value_item(args, 0)) == TDR_OBJECT) {
		PyObject *both = python_from_value(tdr_value_item(args, 0));

		if (!both)
			return false;
		*ret_args = Py_NewRef(PyTuple_GET_ITEM(both, 0));
		*ret_kwargs = PyTuple_GET_ITEM(both, 1) == Py_None ? NULL : Py_NewRef(PyTuple_GET_ITEM(both, 1));
		Py_DECREF(both);
		return true;
	}
	tuple = args ? sequence(args, false) : PyTuple_New(0);
	if (tuple && kwargs && tdr_value_count(kwargs) > 0) {
		dict = dictionary(kwargs);
		if (!dict)
			Py_CLEAR(tuple);
	}
	*ret_args = tuple;
	*ret_kwargs = dict;
	return tuple;
}

tdr_value *value_from_payload(PyObject *bytes, PyObject *tensors, PyObject *rrefs)
{
	return tdr_object("pickle5", PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), 0, NULL);
}

int convert_init(PyObject *module)
{
	return 0;
}

tdr_value *schema_value_from_python(PyObject *object)
{
	bool plain;
	tdr_value *value = value_from_python(object, &plain);

	return plain ? value : pickled_from_python(object);
}

bool schema_arguments_from_python(PyObject *args, PyObject *kwargs, tdr_value **ret_args, tdr_value **ret_kwargs)
{
	return arguments_from_python(args, kwargs, ret_args, ret_kwargs);
}
