/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values to Python's objects.
 *
 * Values come from other processes: whatever is not what docs/python-wire.md says is an exception.
 */
#include "convert.h"

#include <string.h>

static PyObject *malformed(const char *what)
{
	return PyErr_Format(PyExc_ValueError, "a malformed %s came", what);
}

/* ---- numbers and text ---- */

/* An int past 64 bits. */
static PyObject *read_big_int(tdr_value *value)
{
	PyObject *from_bytes, *args, *kwargs, *number = NULL;
	const void *bytes;
	size_t size;
	tdr_status status = tdr_value_get_bigint(value, &bytes, &size);

	if (status != TDR_OK)
		return raise_last(status);
	from_bytes = PyObject_GetAttrString((PyObject *)&PyLong_Type, "from_bytes");
	args = Py_BuildValue("(y#s)", bytes, (Py_ssize_t)size, "little");
	kwargs = Py_BuildValue("{s:O}", "signed", Py_True);
	if (from_bytes && args && kwargs)
		number = PyObject_Call(from_bytes, args, kwargs);
	Py_XDECREF(kwargs);
	Py_XDECREF(args);
	Py_XDECREF(from_bytes);
	return number;
}

static PyObject *read_int(tdr_value *value)
{
	int64_t number;

	return tdr_value_get_int(value, &number) == TDR_OK ? PyLong_FromLongLong(number) : read_big_int(value);
}

static PyObject *read_scalar(tdr_value *value)
{
	tdr_status status = TDR_ETYPE;
	double real, imaginary;
	const char *text;
	const void *data;
	size_t size;
	bool truth;

	switch (tdr_value_kind(value)) {
	case TDR_KIND_BOOL:
		status = tdr_value_get_bool(value, &truth);
		return status == TDR_OK ? PyBool_FromLong(truth) : raise_last(status);
	case TDR_FLOAT:
		status = tdr_value_get_float(value, &real);
		return status == TDR_OK ? PyFloat_FromDouble(real) : raise_last(status);
	case TDR_COMPLEX:
		status = tdr_value_get_complex(value, &real, &imaginary);
		return status == TDR_OK ? PyComplex_FromDoubles(real, imaginary) : raise_last(status);
	case TDR_STRING:
		status = tdr_value_get_string(value, &text, &size);
		return status == TDR_OK ? PyUnicode_DecodeUTF8(text, (Py_ssize_t)size, "surrogatepass")
		                        : raise_last(status);
	default:
		status = tdr_value_get_bytes(value, &data, &size);
		return status == TDR_OK ? PyBytes_FromStringAndSize(data, (Py_ssize_t)size) : raise_last(status);
	}
}

/* ---- containers ---- */

static PyObject *read_list(struct reader *reader, tdr_value *value)
{
	size_t count = tdr_value_count(value);
	PyObject *list = PyList_New((Py_ssize_t)count);

	for (size_t i = 0; list && i < count; i++) {
		PyObject *item = read_value(reader, tdr_value_item(value, i));

		if (item)
			PyList_SET_ITEM(list, (Py_ssize_t)i, item);
		else
			Py_CLEAR(list);
	}
	return list;
}

static PyObject *read_tuple(struct reader *reader, tdr_value *value)
{
	size_t count = tdr_value_count(value);
	PyObject *tuple;

	if (is_pickle_with_refs(value, FORMAT_PICKLE_REFS))
		return read_pickle(reader, value);
	tuple = PyTuple_New((Py_ssize_t)count);
	for (size_t i = 0; tuple && i < count; i++) {
		PyObject *item = read_value(reader, tdr_value_item(value, i));

		if (item)
			PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
		else
			Py_CLEAR(tuple);
	}
	return tuple;
}

static PyObject *read_dict(struct reader *reader, tdr_value *value)
{
	size_t count = tdr_value_count(value);
	PyObject *dict = PyDict_New();

	for (size_t i = 0; dict && i < count; i++) {
		PyObject *key = read_value(reader, tdr_dict_key(value, i));
		PyObject *item = key ? read_value(reader, tdr_dict_value(value, i)) : NULL;

		if (!item || PyDict_SetItem(dict, key, item) < 0)
			Py_CLEAR(dict);
		Py_XDECREF(item);
		Py_XDECREF(key);
	}
	return dict;
}

static PyObject *read_set(struct reader *reader, tdr_value *value)
{
	size_t count = tdr_value_count(value);
	PyObject *set = PySet_New(NULL);

	for (size_t i = 0; set && i < count; i++) {
		PyObject *item = read_value(reader, tdr_value_item(value, i));

		if (!item || PySet_Add(set, item) < 0)
			Py_CLEAR(set);
		Py_XDECREF(item);
	}
	return set;
}

/* ---- tensors, objects, references ---- */

PyObject *read_tensor(struct reader *reader, tdr_tensor *tensor)
{
	tdr_dtype dtype = tdr_tensor_dtype(tensor);

	if (tdr_tensor_device(tensor).type != TDR_CPU)
		return tensor_object(tensor);
	if (torch_has_dtype(dtype))
		return torch_read(reader, tensor);
	if (numpy_has_dtype(dtype))
		return numpy_read(reader, tensor, false);
	return tensor_object(tensor);
}

bool is_tensor_of_bytes(tdr_tensor *tensor)
{
	return tdr_tensor_dtype(tensor) == TDR_U8 && tdr_tensor_ndim(tensor) == 1 && tdr_tensor_is_contiguous(tensor) &&
	       tdr_tensor_device(tensor).type == TDR_CPU;
}

/* Bytes that came in the object, or in a tensor beside it. */
static bool object_bytes(const void **data, size_t *size, size_t ntensors, tdr_tensor *const tensors[])
{
	if (ntensors == 0)
		return true;
	if (ntensors != 1 || *size != 0 || !is_tensor_of_bytes(tensors[0]))
		return false;
	*data = tdr_tensor_data(tensors[0]);
	*size = (size_t)tdr_tensor_numel(tensors[0]);
	return true;
}

static PyObject *read_array(struct reader *reader, const void *data, size_t size, size_t ntensors,
                            tdr_tensor *const tensors[])
{
	bool is_readonly;

	if (size != 1 || ntensors != 1)
		return malformed("numpy array");
	is_readonly = *(const char *)data & 1;
	if (numpy_has_dtype(tdr_tensor_dtype(tensors[0])))
		return numpy_read(reader, tensors[0], is_readonly);
	return read_tensor(reader, tensors[0]);
}

static PyObject *read_typed_object(struct reader *reader, tdr_value *value)
{
	const char *format;
	const void *data;
	size_t size, ntensors;
	tdr_tensor *const *tensors;
	tdr_status status = tdr_value_get_object(value, &format, &data, &size, &ntensors, &tensors);

	if (status != TDR_OK)
		return raise_last(status);
	if (strcmp(format, FORMAT_NUMPY) == 0)
		return read_array(reader, data, size, ntensors, tensors);
	if (strcmp(format, FORMAT_NUMPY_SCALAR) == 0)
		return numpy_read_scalar(data, size);
	if (strcmp(format, FORMAT_PICKLE) == 0)
		return read_pickle(reader, value);
	if (strcmp(format, FORMAT_BYTES) == 0)
		return object_bytes(&data, &size, ntensors, tensors) ? PyBytes_FromStringAndSize(data, (Py_ssize_t)size)
		                                                     : malformed("bytes object");
	if (strcmp(format, FORMAT_BYTEARRAY) == 0)
		return object_bytes(&data, &size, ntensors, tensors)
		           ? PyByteArray_FromStringAndSize(data, (Py_ssize_t)size)
		           : malformed("bytearray");
	return PyErr_Format(PyExc_TypeError, "an object of format '%s' came, which Python programs do not know",
	                    format);
}

static PyObject *read_native(tdr_value *value)
{
	void *object;

	if (strcmp(tdr_native_type(value), OBJECT_TYPE) == 0 &&
	    tdr_value_get_native(value, OBJECT_TYPE, &object) == TDR_OK)
		return Py_NewRef((PyObject *)object);
	return PyErr_Format(PyExc_TypeError, "a native object of type '%s' cannot be used from Python",
	                    tdr_native_type(value));
}

static PyObject *read_device(tdr_value *value)
{
	tdr_device device;
	tdr_status status = tdr_value_get_device(value, &device);

	if (status != TDR_OK)
		return raise_last(status);
	if (torch_is_there())
		return torch_read_device(device);
	if (device.index < 0)
		return PyUnicode_FromString(device.type == TDR_CUDA ? "cuda" : "cpu");
	return PyUnicode_FromFormat("%s:%d", device.type == TDR_CUDA ? "cuda" : "cpu", (int)device.index);
}

static PyObject *read_rref(tdr_value *value)
{
	tdr_rref *rref;
	tdr_status status = tdr_value_get_rref(value, &rref);

	return status == TDR_OK ? rref_object(tdr_rref_ref(rref)) : raise_last(status);
}

static PyObject *read_tensor_value(struct reader *reader, tdr_value *value)
{
	tdr_tensor *tensor;
	tdr_status status = tdr_value_get_tensor(value, &tensor);

	return status == TDR_OK ? read_tensor(reader, tensor) : raise_last(status);
}

PyObject *read_value(struct reader *reader, tdr_value *value)
{
	switch (tdr_value_kind(value)) {
	case TDR_INVALID:
		return raise_last(tdr_value_status(value));
	case TDR_NONE:
		Py_RETURN_NONE;
	case TDR_INT:
		return read_int(value);
	case TDR_KIND_BOOL:
	case TDR_FLOAT:
	case TDR_COMPLEX:
	case TDR_STRING:
	case TDR_BYTES:
		return read_scalar(value);
	case TDR_LIST:
		return read_list(reader, value);
	case TDR_TUPLE:
		return read_tuple(reader, value);
	case TDR_DICT:
		return read_dict(reader, value);
	case TDR_SET:
		return read_set(reader, value);
	case TDR_TENSOR:
		return read_tensor_value(reader, value);
	case TDR_RREF:
		return read_rref(value);
	case TDR_DEVICE:
		return read_device(value);
	case TDR_OBJECT:
		return read_typed_object(reader, value);
	case TDR_NATIVE:
		return read_native(value);
	}
	return PyErr_Format(PyExc_TypeError, "a value of kind %d came, which Python programs do not know",
	                    (int)tdr_value_kind(value));
}
