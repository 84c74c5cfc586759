/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversions as the rest of the extension asks for them: of one object, and of the arguments of a call.
 *
 * What is plain becomes a value of its own kind, which functions written in C take, too; all else is pickled.
 */
#include "convert.h"

#include <string.h>

/* ---- one object ---- */

static tdr_value *convert(PyObject *object, enum audience audience, bool *ret_plain)
{
	struct writer writer;
	tdr_value *value;

	writer_init(&writer, audience);
	value = write_object(&writer, object);
	*ret_plain = writer.plain;
	writer_fini(&writer);
	return value;
}

tdr_value *value_from_python(PyObject *object, bool *ret_plain)
{
	return convert(object, FOR_PYTHON, ret_plain);
}

tdr_value *schema_value_from_python(PyObject *object)
{
	bool plain;
	tdr_value *value = convert(object, FOR_ALL, &plain);

	return plain ? value : pickled_from_python(object);
}

PyObject *python_from_value(tdr_value *value)
{
	struct reader reader = {{0}, {0}};
	PyObject *object = read_value(&reader, value);

	reader_fini(&reader);
	return object;
}

/* ---- arguments ---- */

/* Arguments that are plain all together. False with *ret_plain false: they are not. */
static bool write_arguments(PyObject *args, PyObject *kwargs, bool *ret_plain, tdr_value **ret_args,
                            tdr_value **ret_kwargs)
{
	struct writer writer;
	tdr_value *tuple, *dict = NULL;

	writer_init(&writer, FOR_PYTHON);
	tuple = write_object(&writer, args);
	if (tuple && kwargs)
		dict = write_object(&writer, kwargs);
	*ret_plain = writer.plain;
	writer_fini(&writer);
	if (!tuple || (kwargs && !dict)) {
		tdr_value_unref(tuple);
		return false;
	}
	*ret_args = tuple;
	*ret_kwargs = dict;
	return true;
}

bool arguments_from_python(PyObject *args, PyObject *kwargs, tdr_value **ret_args, tdr_value **ret_kwargs)
{
	PyObject *tuple = PySequence_Tuple(args);
	bool plain = true, good;

	if (!tuple)
		return false;
	if (kwargs && PyDict_GET_SIZE(kwargs) == 0)
		kwargs = NULL;
	good = write_arguments(tuple, kwargs, &plain, ret_args, ret_kwargs);
	if (!good && plain == false) {
		*ret_kwargs = NULL;
		*ret_args = pickle_call(tuple, kwargs);
		good = *ret_args != NULL;
	}
	Py_DECREF(tuple);
	return good;
}

/* One argument of a function with a schema; others of the call may view the same storages. */
static tdr_value *write_argument(struct writer *writer, PyObject *object)
{
	tdr_value *value = write_object(writer, object);

	if (value || writer->plain)
		return value;
	writer->plain = true;
	return pickled_from_python(object);
}

bool schema_arguments_from_python(PyObject *args, PyObject *kwargs, tdr_value **ret_args, tdr_value **ret_kwargs)
{
	PyObject *tuple = PySequence_Tuple(args), *key, *item;
	tdr_value *list = tdr_list(0, NULL), *dict = tdr_dict_new(), *value;
	Py_ssize_t position = 0;
	struct writer writer;
	bool good = tuple != NULL;
	tdr_status status = TDR_OK;

	writer_init(&writer, FOR_ALL);
	for (Py_ssize_t i = 0; good && i < PyTuple_GET_SIZE(tuple); i++) {
		value = write_argument(&writer, PyTuple_GET_ITEM(tuple, i));
		good = value && (status = tdr_list_append(list, value)) == TDR_OK;
	}
	while (good && kwargs && PyDict_Next(kwargs, &position, &key, &item)) {
		const char *name = PyUnicode_AsUTF8(key);

		/* To write one may run Python code, and so change the dict. */
		Py_INCREF(key);
		Py_INCREF(item);
		value = name ? write_argument(&writer, item) : NULL;
		good = value && (status = tdr_dict_set(dict, name, value)) == TDR_OK;
		Py_DECREF(item);
		Py_DECREF(key);
	}
	if (status != TDR_OK)
		raise_last(status);
	writer_fini(&writer);
	Py_XDECREF(tuple);
	if (!good || tdr_value_count(dict) == 0)
		dict = tdr_value_unref(dict);
	if (!good)
		list = tdr_value_unref(list);
	if (good) {
		*ret_args = list;
		*ret_kwargs = dict;
	}
	return good;
}

/* Takes the pair that a pickled call gives apart. */
static bool split_call(PyObject *pair, PyObject **ret_args, PyObject **ret_kwargs)
{
	PyObject *kwargs;

	if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 || !PyTuple_Check(PyTuple_GET_ITEM(pair, 0))) {
		PyErr_SetString(PyExc_ValueError, "malformed arguments came");
		return false;
	}
	kwargs = PyTuple_GET_ITEM(pair, 1);
	if (kwargs != Py_None && !PyDict_Check(kwargs)) {
		PyErr_SetString(PyExc_ValueError, "malformed keyword arguments came");
		return false;
	}
	*ret_args = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
	*ret_kwargs = kwargs == Py_None ? NULL : Py_NewRef(kwargs);
	return true;
}

/* Arguments that were not pickled as one; each may be a pickle. */
static PyObject *read_arguments(struct reader *reader, tdr_value *args)
{
	size_t count = args ? tdr_value_count(args) : 0;
	PyObject *tuple = PyTuple_New((Py_ssize_t)count);

	for (size_t i = 0; tuple && i < count; i++) {
		PyObject *item = read_value(reader, tdr_value_item(args, i));

		if (item)
			PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
		else
			Py_CLEAR(tuple);
	}
	return tuple;
}

PyObject *tuple_from_values(size_t count, tdr_value *const values[])
{
	PyObject *tuple = PyTuple_New((Py_ssize_t)count);
	struct reader reader = {{0}, {0}};

	for (size_t i = 0; tuple && i < count; i++) {
		PyObject *item = read_value(&reader, values[i]);

		if (item)
			PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
		else
			Py_CLEAR(tuple);
	}
	reader_fini(&reader);
	return tuple;
}

bool arguments_to_python(tdr_value *args, tdr_value *kwargs, PyObject **ret_args, PyObject **ret_kwargs)
{
	struct reader reader = {{0}, {0}};
	PyObject *tuple = NULL, *dict = NULL;
	bool good = false;

	if (args && is_pickle_with_refs(args, FORMAT_PICKLE_CALL)) {
		PyObject *pair = read_pickle(&reader, args);

		good = pair && split_call(pair, ret_args, ret_kwargs);
		Py_XDECREF(pair);
		reader_fini(&reader);
		return good;
	}
	tuple = read_arguments(&reader, args);
	if (tuple && kwargs && tdr_value_count(kwargs) > 0)
		dict = read_value(&reader, kwargs);
	reader_fini(&reader);
	if (dict && !PyDict_Check(dict))
		PyErr_SetString(PyExc_ValueError, "malformed keyword arguments came");
	if (!tuple || PyErr_Occurred()) {
		Py_XDECREF(tuple);
		Py_XDECREF(dict);
		return false;
	}
	*ret_args = tuple;
	*ret_kwargs = dict;
	return true;
}

/* ---- for tests ---- */

/* _roundtrip(object, audience="python"): what arrives of an object, all but the bytes on the way. */
static PyObject *roundtrip(PyObject *module, PyObject *args)
{
	const char *audience = "python";
	PyObject *object, *result;
	bool plain = true;
	tdr_value *value;

	if (!PyArg_ParseTuple(args, "O|s", &object, &audience))
		return NULL;
	if (strcmp(audience, "schema") == 0) {
		value = schema_value_from_python(object);
	} else {
		value = value_from_python(object, &plain);
		if (!plain)
			value = pickled_from_python(object);
	}
	if (!value)
		return NULL;
	result = python_from_value(value);
	tdr_value_unref(value);
	return result;
}

/* _roundtrip_call(args, kwargs) -> (args, kwargs) */
static PyObject *roundtrip_call(PyObject *module, PyObject *arguments)
{
	PyObject *args, *kwargs, *args_back, *kwargs_back;
	tdr_value *args_value, *kwargs_value;
	bool good;

	if (!PyArg_ParseTuple(arguments, "O!O!", &PyTuple_Type, &args, &PyDict_Type, &kwargs) ||
	    !arguments_from_python(args, kwargs, &args_value, &kwargs_value))
		return NULL;
	good = arguments_to_python(args_value, kwargs_value, &args_back, &kwargs_back);
	tdr_value_unref(args_value);
	tdr_value_unref(kwargs_value);
	if (!good)
		return NULL;
	return Py_BuildValue("NN", args_back, kwargs_back ? kwargs_back : PyDict_New());
}

/* _describe(object, audience="python"): the value, printed; None: it is not plain. */
static PyObject *describe(PyObject *module, PyObject *args)
{
	const char *audience = "python";
	PyObject *object;
	char text[4096];
	tdr_value *value;
	bool plain;

	if (!PyArg_ParseTuple(args, "O|s", &object, &audience))
		return NULL;
	value = convert(object, strcmp(audience, "schema") == 0 ? FOR_ALL : FOR_PYTHON, &plain);
	if (!plain)
		Py_RETURN_NONE;
	if (!value)
		return NULL;
	tdr_value_print(value, text, sizeof(text));
	tdr_value_unref(value);
	return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyMethodDef functions[] = {
    {"_roundtrip", roundtrip, METH_VARARGS,
     PyDoc_STR("_roundtrip(object, audience='python')\n--\n\nThe object as a value, and back.")},
    {"_roundtrip_call", roundtrip_call, METH_VARARGS,
     PyDoc_STR("_roundtrip_call(args, kwargs)\n--\n\nArguments as values, and back.")},
    {"_describe", describe, METH_VARARGS,
     PyDoc_STR("_describe(object, audience='python')\n--\n\nThe object as a value, printed; None: it is not plain.")},
    {NULL},
};

int convert_init(PyObject *module)
{
	if (tensor_init(module) < 0)
		return -1;
	return PyModule_AddFunctions(module, functions);
}
