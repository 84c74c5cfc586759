/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Python's objects to values.
 *
 * Plain are objects of exactly the types that a value can be, in which no list, dict or set, no long string and no
 * tensor is met twice: a value is a tree, and what was one object would arrive as two. An object that can be met twice
 * is held more than once, so those that are not need no remembering.
 *
 * Whatever may run Python code, and so change a container under way, holds what it works on.
 */
#include "convert.h"

#include <math.h>
#include <string.h>

/*
 * Containers in each other, past which pickle does better; what carries arguments adds some to what a message may
 * have.
 */
#define PLAIN_DEPTH 48

/* Strings and bytes from which two places of one are remembered. */
#define LONG_TEXT 1024

/* A tuple of at most this many items, none of them a container, is cheaper written twice than pickled. */
#define SMALL_TUPLE 16

void *write_not_plain(struct writer *writer)
{
	writer->plain = false;
	return NULL;
}

/* Whether the object may be written here; not if it has been met, and others will tell. */
static bool is_first_time(struct writer *writer, PyObject *object)
{
	if (Py_REFCNT(object) <= 1)
		return true;
	if (pointer_map_find(&writer->seen, object))
		return false;
	if (pointer_map_add(&writer->seen, object, object))
		return true;
	PyErr_NoMemory();
	return false;
}

/* What a constructor gave, unless it is an invalid value: then an exception. */
static tdr_value *checked(tdr_value *value)
{
	tdr_status status = tdr_value_status(value);

	if (status == TDR_OK)
		return value;
	tdr_value_unref(value);
	raise_last(status);
	return NULL;
}

/* ---- numbers and text ---- */

/* An int past 64 bits. */
static tdr_value *write_big_int(PyObject *object)
{
	PyObject *bits = PyObject_CallMethod(object, "bit_length", NULL), *to_bytes = NULL, *bytes = NULL;
	PyObject *args = NULL, *kwargs = NULL;
	tdr_value *value = NULL;
	Py_ssize_t count;

	if (!bits)
		return NULL;
	count = PyLong_AsSsize_t(bits);
	Py_DECREF(bits);
	if (count < 0)
		return NULL;
	to_bytes = PyObject_GetAttrString(object, "to_bytes");
	args = Py_BuildValue("(ns)", count / 8 + 1, "little");
	kwargs = Py_BuildValue("{s:O}", "signed", Py_True);
	if (to_bytes && args && kwargs)
		bytes = PyObject_Call(to_bytes, args, kwargs);
	if (bytes)
		value = checked(tdr_bigint(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)));
	Py_XDECREF(bytes);
	Py_XDECREF(kwargs);
	Py_XDECREF(args);
	Py_XDECREF(to_bytes);
	return value;
}

static tdr_value *write_int(PyObject *object)
{
	int overflow;
	long long number = PyLong_AsLongLongAndOverflow(object, &overflow);

	if (overflow) {
		tdr_value *value;

		Py_INCREF(object);
		value = write_big_int(object);
		Py_DECREF(object);
		return value;
	}
	return number == -1 && PyErr_Occurred() ? NULL : tdr_int(number);
}

/* All NaNs are one key to a value, and each is its own to Python. */
static tdr_value *write_float(struct writer *writer, double number)
{
	return writer->in_key && isnan(number) ? write_not_plain(writer) : tdr_float(number);
}

static tdr_value *write_complex(struct writer *writer, PyObject *object)
{
	Py_complex number = PyComplex_AsCComplex(object);

	if (writer->in_key && (isnan(number.real) || isnan(number.imag)))
		return write_not_plain(writer);
	return tdr_complex(number.real, number.imag);
}

/* Bytes as an object of `format` with a tensor of them. */
static tdr_value *write_out_of_band(const char *format, tdr_storage *storage)
{
	int64_t size = (int64_t)tdr_storage_nbytes(storage);
	tdr_tensor *tensor;
	tdr_value *value;
	tdr_status status = tdr_tensor_view(storage, TDR_U8, 1, &size, NULL, 0, &tensor);

	if (status != TDR_OK) {
		raise_last(status);
		return NULL;
	}
	value = checked(tdr_object(format, NULL, 0, 1, &tensor));
	tdr_tensor_unref(tensor);
	return value;
}

static tdr_value *write_bytes(struct writer *writer, PyObject *object)
{
	size_t size = (size_t)PyBytes_GET_SIZE(object);
	tdr_storage *storage;
	tdr_value *value;

	if (size >= LONG_TEXT && !is_first_time(writer, object))
		return PyErr_Occurred() ? NULL : write_not_plain(writer);
	if (size < OUT_OF_BAND_MIN || writer->in_key || writer->audience != FOR_PYTHON)
		return checked(tdr_bytes(PyBytes_AS_STRING(object), size));
	storage = storage_keeping(PyBytes_AS_STRING(object), size, object);
	value = storage ? write_out_of_band(FORMAT_BYTES, storage) : NULL;
	tdr_storage_unref(storage);
	return value;
}

/* Copied at once: while others looked at its memory, it could not grow. */
static tdr_value *write_bytearray(struct writer *writer, PyObject *object)
{
	size_t size = (size_t)PyByteArray_GET_SIZE(object);
	tdr_storage *storage;
	tdr_status status;
	tdr_value *value;

	if (writer->audience != FOR_PYTHON)
		return checked(tdr_bytes(PyByteArray_AS_STRING(object), size));
	if (!is_first_time(writer, object))
		return PyErr_Occurred() ? NULL : write_not_plain(writer);
	if (size < OUT_OF_BAND_MIN)
		return checked(tdr_object(FORMAT_BYTEARRAY, PyByteArray_AS_STRING(object), size, 0, NULL));
	status = tdr_storage_new(size, &storage);
	if (status != TDR_OK) {
		raise_last(status);
		return NULL;
	}
	memcpy(tdr_storage_data(storage), PyByteArray_AS_STRING(object), size);
	value = write_out_of_band(FORMAT_BYTEARRAY, storage);
	tdr_storage_unref(storage);
	return value;
}

static tdr_value *write_string(struct writer *writer, PyObject *object)
{
	Py_ssize_t size;
	const char *text;
	PyObject *bytes;
	tdr_value *value;

	if (PyUnicode_GET_LENGTH(object) >= LONG_TEXT && !is_first_time(writer, object))
		return PyErr_Occurred() ? NULL : write_not_plain(writer);
	text = PyUnicode_AsUTF8AndSize(object, &size);
	if (text)
		return checked(tdr_string_n(text, (size_t)size));
	if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
		return NULL;
	PyErr_Clear();
	bytes = PyUnicode_AsEncodedString(object, "utf-8", "surrogatepass");
	if (!bytes)
		return NULL;
	value = checked(tdr_string_n(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)));
	Py_DECREF(bytes);
	return value;
}

/* ---- containers ---- */

/* Values on their way into a list or tuple. */
struct items {
	tdr_value *few[16];
	tdr_value **all;
	size_t count;
};

static bool items_init(struct items *items, Py_ssize_t room)
{
	items->count = 0;
	items->all = items->few;
	if ((size_t)room > sizeof(items->few) / sizeof(items->few[0]))
		items->all = PyMem_New(tdr_value *, (size_t)room);
	if (!items->all)
		PyErr_NoMemory();
	return items->all;
}

static void items_fini(struct items *items)
{
	if (items->all != items->few)
		PyMem_Free(items->all);
}

/* Writes the items of a list or tuple; `make` makes a value of them. */
static tdr_value *write_sequence(struct writer *writer, PyObject *object,
                                 tdr_value *(*make)(size_t count, tdr_value *const items[]))
{
	Py_ssize_t count = PySequence_Fast_GET_SIZE(object);
	struct items items;
	tdr_value *value;

	if (!items_init(&items, count))
		return NULL;
	while (items.count < (size_t)count) {
		if (PySequence_Fast_GET_SIZE(object) != count) {
			PyErr_SetString(PyExc_RuntimeError, "a list changed size while it was being sent");
			goto fail;
		}
		value = write_object(writer, PySequence_Fast_GET_ITEM(object, (Py_ssize_t)items.count));
		if (!value)
			goto fail;
		items.all[items.count++] = value;
	}
	value = checked(make(items.count, items.all));
	items_fini(&items);
	return value;

fail:
	for (size_t i = 0; i < items.count; i++)
		tdr_value_unref(items.all[i]);
	items_fini(&items);
	return NULL;
}

static tdr_value *write_key(struct writer *writer, PyObject *object)
{
	bool in_key = writer->in_key;
	tdr_value *value;

	writer->in_key = true;
	value = write_object(writer, object);
	writer->in_key = in_key;
	return value;
}

/* Adds what `put` was given to its container, or sets an exception. */
static bool put_done(tdr_status status)
{
	if (status != TDR_OK)
		raise_last(status);
	return status == TDR_OK;
}

static tdr_value *write_dict(struct writer *writer, PyObject *object)
{
	tdr_value *dict = tdr_dict_new(), *written_key, *written_item;
	Py_ssize_t position = 0, count = PyDict_GET_SIZE(object);
	PyObject *key, *item;
	bool good = true;

	while (good && PyDict_Next(object, &position, &key, &item)) {
		Py_INCREF(key);
		Py_INCREF(item);
		written_key = write_key(writer, key);
		written_item = written_key ? write_object(writer, item) : NULL;
		Py_DECREF(item);
		Py_DECREF(key);
		good = written_item != NULL;
		if (!good)
			tdr_value_unref(written_key);
		else
			good = put_done(tdr_dict_put(dict, written_key, written_item));
		if (good && PyDict_GET_SIZE(object) != count) {
			PyErr_SetString(PyExc_RuntimeError, "a dict changed size while it was being sent");
			good = false;
		}
	}
	if (good)
		return checked(dict);
	tdr_value_unref(dict);
	return NULL;
}

static tdr_value *write_set(struct writer *writer, PyObject *object)
{
	PyObject *iterator = PyObject_GetIter(object), *item;
	tdr_value *set = tdr_set_new(), *written;
	bool good = iterator != NULL;

	while (good && (item = PyIter_Next(iterator))) {
		written = write_key(writer, item);
		Py_DECREF(item);
		good = written && put_done(tdr_set_add(set, written));
	}
	Py_XDECREF(iterator);
	if (good && !PyErr_Occurred())
		return checked(set);
	tdr_value_unref(set);
	return NULL;
}

static bool is_container(PyObject *object)
{
	return PyTuple_Check(object) || PyList_Check(object) || PyDict_Check(object) || PyAnySet_Check(object);
}

/* Whether a tuple may stand in several places, each with a copy. */
static bool is_small_tuple(PyObject *object)
{
	if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) > SMALL_TUPLE)
		return false;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); i++)
		if (is_container(PyTuple_GET_ITEM(object, i)))
			return false;
	return true;
}

static tdr_value *write_container(struct writer *writer, PyObject *object)
{
	tdr_value *value;

	if (writer->depth >= PLAIN_DEPTH || (writer->in_key && !PyTuple_Check(object)))
		return write_not_plain(writer);
	if (!is_small_tuple(object) && !is_first_time(writer, object))
		return PyErr_Occurred() ? NULL : write_not_plain(writer);
	writer->depth++;
	Py_INCREF(object);
	if (PyList_Check(object))
		value = write_sequence(writer, object, tdr_list);
	else if (PyTuple_Check(object))
		value = write_sequence(writer, object, tdr_tuple);
	else if (PyDict_Check(object))
		value = write_dict(writer, object);
	else
		value = write_set(writer, object);
	Py_DECREF(object);
	writer->depth--;
	return value;
}

/* ---- tensors and references ---- */

static tdr_value *value_of_tensor(tdr_tensor *tensor)
{
	tdr_value *value = tensor ? checked(tdr_tensor_value(tensor)) : NULL;

	tdr_tensor_unref(tensor);
	return value;
}

static tdr_value *write_rref(PyObject *object)
{
	tdr_rref *rref = rref_to_send(object);

	return rref ? checked(tdr_rref_value(rref)) : NULL;
}

/* A library's tensor that is met twice has to arrive as one object, if Python reads it. */
static bool tensor_may_be_here(struct writer *writer, PyObject *object)
{
	if (writer->in_key) {
		write_not_plain(writer);
		return false;
	}
	if (writer->audience == FOR_ALL || is_first_time(writer, object))
		return true;
	if (!PyErr_Occurred())
		write_not_plain(writer);
	return false;
}

tdr_tensor *write_any_tensor(struct writer *writer, PyObject *object)
{
	if (torch_is_tensor(object, writer->audience == FOR_ALL))
		return torch_write(writer, object);
	if (numpy_is_array(object, writer->audience == FOR_ALL))
		return numpy_write(writer, object);
	if (tensor_check(object))
		return tdr_tensor_ref(tensor_of(object));
	if (torch_is_tensor(object, true) || numpy_is_array(object, true))
		return write_not_plain(writer);
	if (dlpack_check(object))
		return dlpack_write(object);
	if (writer->audience == FOR_ALL && PyObject_CheckBuffer(object))
		return buffer_write(writer, object);
	return write_not_plain(writer);
}

/* What a function with a schema takes for one of the plain types: objects of types derived from them. */
static tdr_value *write_derived(struct writer *writer, PyObject *object)
{
	if (numpy_is_scalar(object)) {
		PyObject *number = PyObject_CallMethod(object, "item", NULL);
		tdr_value *value = number ? write_object(writer, number) : NULL;

		Py_XDECREF(number);
		return value;
	}
	if (PyLong_Check(object))
		return write_int(object);
	if (PyFloat_Check(object))
		return write_float(writer, PyFloat_AS_DOUBLE(object));
	if (PyComplex_Check(object))
		return write_complex(writer, object);
	if (PyUnicode_Check(object))
		return write_string(writer, object);
	if (PyBytes_Check(object))
		return write_bytes(writer, object);
	if (PyByteArray_Check(object))
		return write_bytearray(writer, object);
	if (is_container(object) && !PyFrozenSet_Check(object))
		return write_container(writer, object);
	return torch_write_device(object);
}

static tdr_value *write_other(struct writer *writer, PyObject *object)
{
	tdr_value *value;

	if (rref_check(object))
		return writer->in_key ? write_not_plain(writer) : write_rref(object);
	if (writer->audience == FOR_ALL) {
		value = write_derived(writer, object);
		if (value || PyErr_Occurred() || !writer->plain)
			return value;
	} else if (numpy_is_scalar(object)) {
		return writer->in_key ? write_not_plain(writer) : numpy_write_scalar(writer, object);
	} else if (PyByteArray_CheckExact(object)) {
		return write_bytearray(writer, object);
	}
	if (!tensor_may_be_here(writer, object))
		return NULL;
	if (writer->audience == FOR_PYTHON && numpy_is_array(object, false))
		return numpy_write_array(writer, object);
	return value_of_tensor(write_any_tensor(writer, object));
}

tdr_value *write_object(struct writer *writer, PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);
	tdr_value *value;

	if (object == Py_None)
		return tdr_none();
	if (type == &PyBool_Type)
		return tdr_bool(object == Py_True);
	if (type == &PyLong_Type)
		return write_int(object);
	if (type == &PyFloat_Type)
		return write_float(writer, PyFloat_AS_DOUBLE(object));
	if (type == &PyUnicode_Type)
		return write_string(writer, object);
	if (type == &PyBytes_Type)
		return write_bytes(writer, object);
	if (type == &PyTuple_Type || type == &PyList_Type || type == &PyDict_Type || type == &PySet_Type)
		return write_container(writer, object);
	if (type == &PyComplex_Type)
		return write_complex(writer, object);
	Py_INCREF(object);
	value = write_other(writer, object);
	Py_DECREF(object);
	return value;
}
