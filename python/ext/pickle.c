/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pickles as values. tendril._pickle makes and reads the stream; here it meets what travels beside it: tensors,
 * buffers and references. docs/python-wire.md states the form.
 */
#include "convert.h"

#include <string.h>

/* The stream is the last tensor. */
#define PICKLE_STREAM_BESIDE 1

/*
 * What leads the data of a pickle, little-endian; a byte for each tensor follows, which says what it was, and then the
 * stream.
 */
struct pickle_lead {
	uint8_t flags[4];
	uint8_t ntensors[4];
	uint8_t nbuffers[4];
};

/* Of a tensor that is beside a pickle. */
enum pickled_kind {
	PICKLED_TENSOR = 0,
	PICKLED_ARRAY = 1,
	PICKLED_READONLY_ARRAY = 2,
	PICKLED_OWN = 3, /* tendril.Tensor */
};

static void put_u32(uint8_t bytes[4], size_t number)
{
	for (int i = 0; i < 4; i++)
		bytes[i] = (uint8_t)(number >> (8 * i));
}

static size_t get_u32(const uint8_t bytes[4])
{
	return (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
}

/* A function of tendril._pickle, kept in `place` from its first use on. Borrowed. */
static PyObject *pickle_function(PyObject **place, const char *name)
{
	PyObject *module;

	if (*place)
		return *place;
	module = PyImport_ImportModule("tendril._pickle");
	if (!module)
		return NULL;
	*place = PyObject_GetAttrString(module, name);
	Py_DECREF(module);
	return *place;
}

/* ---- writing ---- */

/* Tensors on their way into an object. */
struct parts {
	tdr_tensor **tensors;
	size_t count;
};

static bool parts_init(struct parts *parts, Py_ssize_t room)
{
	*parts = (struct parts){.tensors = PyMem_New(tdr_tensor *, (size_t)room + 1)};
	if (!parts->tensors)
		PyErr_NoMemory();
	return parts->tensors;
}

static void parts_fini(struct parts *parts)
{
	for (size_t i = 0; i < parts->count; i++)
		tdr_tensor_unref(parts->tensors[i]);
	PyMem_Free(parts->tensors);
}

static bool add_tensor(struct parts *parts, struct writer *writer, PyObject *object)
{
	tdr_tensor *tensor;

	writer->plain = true;
	tensor = write_any_tensor(writer, object);
	if (!writer->plain)
		PyErr_Format(PyExc_TypeError, "a pickler gave a %s as a tensor, which cannot be sent as one",
		             Py_TYPE(object)->tp_name);
	if (!tensor)
		return false;
	parts->tensors[parts->count++] = tensor;
	return true;
}

/* Adds memory that `owner` keeps. */
static bool add_memory(struct parts *parts, void *data, Py_ssize_t nbytes, PyObject *owner)
{
	int64_t size = (int64_t)nbytes;
	tdr_storage *storage = storage_keeping(data, (size_t)nbytes, owner);
	tdr_status status;

	if (!storage)
		return false;
	status = tdr_tensor_view(storage, TDR_U8, 1, &size, NULL, 0, &parts->tensors[parts->count]);
	tdr_storage_unref(storage);
	if (status != TDR_OK) {
		raise_last(status);
		return false;
	}
	parts->count++;
	return true;
}

static bool add_buffer(struct parts *parts, PyObject *object)
{
	const Py_buffer *view = PyPickleBuffer_GetBuffer(object);

	if (!view)
		return false;
	if (!PyBuffer_IsContiguous(view, 'A')) {
		PyErr_SetString(PyExc_BufferError, "a buffer beside a pickle has to be in one piece");
		return false;
	}
	return add_memory(parts, view->buf, view->len, object);
}

/* The object of a pickle. `kinds` has a byte for each of `tensors`; lists, and bytes objects. */
static tdr_value *make_object(const char *format, PyObject *stream, PyObject *kinds, const struct parts *parts,
                              size_t ntensors, size_t nbuffers, bool is_beside)
{
	size_t size = sizeof(struct pickle_lead) + ntensors + (is_beside ? 0 : (size_t)PyBytes_GET_SIZE(stream));
	uint8_t *data = PyMem_Malloc(size);
	struct pickle_lead *lead = (struct pickle_lead *)data;
	tdr_value *value;

	if (!data)
		return (tdr_value *)PyErr_NoMemory();
	put_u32(lead->flags, is_beside ? PICKLE_STREAM_BESIDE : 0);
	put_u32(lead->ntensors, ntensors);
	put_u32(lead->nbuffers, nbuffers);
	if (ntensors > 0)
		memcpy(lead + 1, PyBytes_AS_STRING(kinds), ntensors);
	if (!is_beside)
		memcpy(data + sizeof(*lead) + ntensors, PyBytes_AS_STRING(stream), (size_t)PyBytes_GET_SIZE(stream));
	value = tdr_object(format, data, size, parts->count, parts->tensors);
	PyMem_Free(data);
	return value;
}

/* The object and references as a tuple. */
static tdr_value *with_refs(tdr_value *object, PyObject *refs)
{
	tdr_value *list = tdr_list(0, NULL), *tuple;
	size_t count;
	bool good = tdr_list_append(list, object) == TDR_OK;

	for (Py_ssize_t i = 0; good && i < PyList_GET_SIZE(refs); i++) {
		tdr_rref *rref = rref_to_send(PyList_GET_ITEM(refs, i));

		good = rref && tdr_list_append(list, tdr_rref_value(rref)) == TDR_OK;
	}
	count = tdr_value_count(list);
	{
		tdr_value **items = good ? PyMem_New(tdr_value *, count + 1) : NULL;

		for (size_t i = 0; items && i < count; i++)
			items[i] = tdr_value_ref(tdr_value_item(list, i));
		tuple = items ? tdr_tuple(count, items) : NULL;
		PyMem_Free(items);
	}
	tdr_value_unref(list);
	if (!tuple && !PyErr_Occurred())
		PyErr_NoMemory();
	return tuple;
}

/*
 * The value of a pickle and what is beside it: bytes, a list of tensors, bytes of their kinds, lists of buffers and
 * references.
 */
static tdr_value *make_pickle(PyObject *stream, PyObject *tensors, PyObject *kinds, PyObject *buffers, PyObject *refs,
                              bool is_call)
{
	size_t ntensors = (size_t)PyList_GET_SIZE(tensors), nbuffers = (size_t)PyList_GET_SIZE(buffers);
	bool is_beside = PyBytes_GET_SIZE(stream) >= OUT_OF_BAND_MIN, good;
	const char *format = is_call                     ? FORMAT_PICKLE_CALL
	                     : PyList_GET_SIZE(refs) > 0 ? FORMAT_PICKLE_REFS
	                                                 : FORMAT_PICKLE;
	tdr_value *value = NULL;
	struct writer writer;
	struct parts parts;
	tdr_status status;

	good = parts_init(&parts, (Py_ssize_t)(ntensors + nbuffers));
	if (!good)
		return NULL;
	writer_init(&writer, FOR_PYTHON);
	for (size_t i = 0; good && i < ntensors; i++)
		good = add_tensor(&parts, &writer, PyList_GET_ITEM(tensors, (Py_ssize_t)i));
	for (size_t i = 0; good && i < nbuffers; i++)
		good = add_buffer(&parts, PyList_GET_ITEM(buffers, (Py_ssize_t)i));
	if (good && is_beside)
		good = add_memory(&parts, PyBytes_AS_STRING(stream), PyBytes_GET_SIZE(stream), stream);
	if (good)
		value = make_object(format, stream, kinds, &parts, ntensors, nbuffers, is_beside);
	if (value && strcmp(format, FORMAT_PICKLE) != 0)
		value = with_refs(value, refs);
	writer_fini(&writer);
	parts_fini(&parts);
	if (!value)
		return NULL;
	status = tdr_value_status(value);
	if (status != TDR_OK) {
		tdr_value_unref(value);
		raise_last(status);
		return NULL;
	}
	return value;
}

/* Pickles by tendril._pickle. */
static tdr_value *pickle_with(PyObject *object, bool is_call)
{
	static PyObject *function;
	PyObject *dumps = pickle_function(&function, "_dumps");
	PyObject *parts = dumps ? PyObject_CallOneArg(dumps, object) : NULL;
	PyObject *stream, *tensors, *kinds, *buffers, *refs;
	tdr_value *value = NULL;

	if (parts && PyArg_ParseTuple(parts, "SO!SO!O!", &stream, &PyList_Type, &tensors, &kinds, &PyList_Type,
	                              &buffers, &PyList_Type, &refs))
		value = make_pickle(stream, tensors, kinds, buffers, refs, is_call);
	Py_XDECREF(parts);
	return value;
}

tdr_value *pickled_from_python(PyObject *object)
{
	return pickle_with(object, false);
}

tdr_value *pickle_call(PyObject *args, PyObject *kwargs)
{
	PyObject *pair = PyTuple_Pack(2, args, kwargs ? kwargs : Py_None);
	tdr_value *value = pair ? pickle_with(pair, true) : NULL;

	Py_XDECREF(pair);
	return value;
}

tdr_value *value_from_payload(PyObject *bytes, PyObject *tensors, PyObject *rrefs)
{
	PyObject *tensor_list = tensors ? PySequence_List(tensors) : PyList_New(0);
	PyObject *rref_list = rrefs ? PySequence_List(rrefs) : PyList_New(0);
	PyObject *buffers = PyList_New(0), *kinds = NULL;
	PyObject *stream = PyBytes_CheckExact(bytes) ? Py_NewRef(bytes) : PyBytes_FromObject(bytes);
	tdr_value *value = NULL;

	if (tensor_list)
		kinds = PyBytes_FromStringAndSize(NULL, PyList_GET_SIZE(tensor_list));
	if (kinds)
		memset(PyBytes_AS_STRING(kinds), PICKLED_TENSOR, (size_t)PyBytes_GET_SIZE(kinds));
	if (stream && kinds && rref_list && buffers)
		value = make_pickle(stream, tensor_list, kinds, buffers, rref_list, false);
	Py_XDECREF(stream);
	Py_XDECREF(kinds);
	Py_XDECREF(buffers);
	Py_XDECREF(rref_list);
	Py_XDECREF(tensor_list);
	return value;
}

/* ---- reading ---- */

/* The object that leads a pickle's tuple, or the value itself. */
static tdr_value *object_part(tdr_value *value)
{
	return tdr_value_kind(value) == TDR_OBJECT ? value : tdr_value_item(value, 0);
}

bool is_pickle_with_refs(const tdr_value *value, const char *format)
{
	const tdr_value *first = tdr_value_item(value, 0);
	tdr_tensor *const *tensors;
	const char *found;
	const void *data;
	size_t size, count;

	return first && tdr_value_kind(first) == TDR_OBJECT &&
	       tdr_value_get_object(first, &found, &data, &size, &count, &tensors) == TDR_OK &&
	       strcmp(found, format) == 0;
}

/* What a pickle's data says. */
struct pickle {
	size_t ntensors, nbuffers;
	const uint8_t *kinds;
	const void *stream;
	size_t stream_size;
	tdr_tensor *const *tensors; /* and then the buffers */
};

static bool parse(tdr_value *object, struct pickle *ret_pickle)
{
	const struct pickle_lead *lead;
	struct pickle pickle;
	const char *format;
	const void *data;
	size_t size, count, wanted;
	bool is_beside;

	if (tdr_value_get_object(object, &format, &data, &size, &count, &pickle.tensors) != TDR_OK ||
	    size < sizeof(*lead))
		return false;
	lead = data;
	is_beside = get_u32(lead->flags) & PICKLE_STREAM_BESIDE;
	pickle.ntensors = get_u32(lead->ntensors);
	pickle.nbuffers = get_u32(lead->nbuffers);
	wanted = pickle.ntensors + pickle.nbuffers + (is_beside ? 1 : 0);
	if (wanted != count || pickle.ntensors > size - sizeof(*lead))
		return false;
	for (size_t i = pickle.ntensors; i < count; i++)
		if (!is_tensor_of_bytes(pickle.tensors[i]))
			return false;
	pickle.kinds = (const uint8_t *)(lead + 1);
	pickle.stream = pickle.kinds + pickle.ntensors;
	pickle.stream_size = size - sizeof(*lead) - pickle.ntensors;
	if (is_beside) {
		if (pickle.stream_size != 0)
			return false;
		pickle.stream = tdr_tensor_data(pickle.tensors[count - 1]);
		pickle.stream_size = (size_t)tdr_tensor_numel(pickle.tensors[count - 1]);
	}
	*ret_pickle = pickle;
	return true;
}

static PyObject *read_kind(struct reader *reader, tdr_tensor *tensor, uint8_t kind)
{
	if ((kind == PICKLED_ARRAY || kind == PICKLED_READONLY_ARRAY) && numpy_has_dtype(tdr_tensor_dtype(tensor)))
		return numpy_read(reader, tensor, kind == PICKLED_READONLY_ARRAY);
	if (kind == PICKLED_OWN)
		return tensor_object(tensor);
	return read_tensor(reader, tensor);
}

static PyObject *read_parts(struct reader *reader, const struct pickle *pickle, bool buffers)
{
	size_t count = buffers ? pickle->nbuffers : pickle->ntensors;
	PyObject *list = PyList_New((Py_ssize_t)count);

	for (size_t i = 0; list && i < count; i++) {
		tdr_tensor *tensor = pickle->tensors[buffers ? pickle->ntensors + i : i];
		PyObject *item = buffers ? tensor_object(tensor) : read_kind(reader, tensor, pickle->kinds[i]);

		if (item)
			PyList_SET_ITEM(list, (Py_ssize_t)i, item);
		else
			Py_CLEAR(list);
	}
	return list;
}

static PyObject *read_refs(struct reader *reader, tdr_value *value)
{
	size_t count = tdr_value_kind(value) == TDR_TUPLE ? tdr_value_count(value) : 1;
	PyObject *list = PyList_New((Py_ssize_t)count - 1);

	for (size_t i = 1; list && i < count; i++) {
		PyObject *item = read_value(reader, tdr_value_item(value, i));

		if (item)
			PyList_SET_ITEM(list, (Py_ssize_t)i - 1, item);
		else
			Py_CLEAR(list);
	}
	return list;
}

/* Takes the bytes away from who may still have the stream, such as a traceback. An exception is set. */
static void release_stream(PyObject *stream)
{
	PyObject *type, *error, *traceback;

	PyErr_Fetch(&type, &error, &traceback);
	Py_XDECREF(PyObject_CallMethod(stream, "release", NULL));
	PyErr_Restore(type, error, traceback);
}

PyObject *read_pickle(struct reader *reader, tdr_value *value)
{
	static PyObject *function;
	PyObject *tensors, *buffers = NULL, *refs = NULL, *stream = NULL, *loads = NULL, *object = NULL;
	struct pickle pickle;

	if (!parse(object_part(value), &pickle))
		return PyErr_Format(PyExc_ValueError, "a malformed pickle came");
	tensors = read_parts(reader, &pickle, false);
	if (tensors)
		buffers = read_parts(reader, &pickle, true);
	if (buffers)
		refs = read_refs(reader, value);
	if (refs)
		stream = PyMemoryView_FromMemory((char *)pickle.stream, (Py_ssize_t)pickle.stream_size, PyBUF_READ);
	if (stream)
		loads = pickle_function(&function, "_loads");
	if (loads)
		object = PyObject_CallFunctionObjArgs(loads, stream, tensors, buffers, refs, NULL);
	if (stream && !object)
		release_stream(stream);
	Py_XDECREF(stream);
	Py_XDECREF(refs);
	Py_XDECREF(buffers);
	Py_XDECREF(tensors);
	return object;
}
