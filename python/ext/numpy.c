/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numpy's arrays and scalars, and what else speaks the buffer protocol; without numpy's C interface, so that the
 * extension needs none of its headers and runs with any version of it.
 *
 * Arrays of one memory are sent as views of one storage: that of the array, or of the object, that all of them are
 * views of.
 */
#include "convert.h"

#include <string.h>

/* What we use of numpy, once the program has imported it. */
static struct numpy {
	bool is_there;
	PyObject *ndarray; /* the types */
	PyObject *generic;
	PyObject *base_name;             /* "base" */
	PyObject *dtypes[TDR_C128 + 1];  /* NULL: numpy has none */
	PyObject *scalars[TDR_C128 + 1]; /* the scalars' types */
} numpy;

/* The buffer protocol's letters, as they are on this machine and in numpy's names. */
static const char *const dtype_codes[] = {
    [TDR_BOOL] = "?", [TDR_U8] = "u1",  [TDR_I8] = "i1",  [TDR_I16] = "i2",   [TDR_I32] = "i4",
    [TDR_I64] = "i8", [TDR_U16] = "u2", [TDR_U32] = "u4", [TDR_U64] = "u8",   [TDR_F16] = "f2",
    [TDR_F32] = "f4", [TDR_F64] = "f8", [TDR_C64] = "c8", [TDR_C128] = "c16",
};

/* ---- finding numpy ---- */

static bool numpy_load(PyObject *module)
{
	PyObject *dtype = PyObject_GetAttrString(module, "dtype");
	bool good;

	Py_XSETREF(numpy.ndarray, PyObject_GetAttrString(module, "ndarray"));
	Py_XSETREF(numpy.generic, PyObject_GetAttrString(module, "generic"));
	Py_XSETREF(numpy.base_name, PyUnicode_InternFromString("base"));
	good = dtype && numpy.ndarray && numpy.generic && numpy.base_name;
	for (size_t i = 0; good && i < sizeof(dtype_codes) / sizeof(dtype_codes[0]); i++) {
		if (!dtype_codes[i])
			continue;
		Py_XSETREF(numpy.dtypes[i], PyObject_CallFunction(dtype, "s", dtype_codes[i]));
		Py_XSETREF(numpy.scalars[i], numpy.dtypes[i] ? PyObject_GetAttrString(numpy.dtypes[i], "type") : NULL);
		good = numpy.scalars[i] != NULL;
	}
	Py_XDECREF(dtype);
	PyErr_Clear();
	return good;
}

bool numpy_is_there(void)
{
	static PyObject *name;
	PyObject *module;

	if (numpy.is_there)
		return true;
	if (!name)
		name = PyUnicode_InternFromString("numpy");
	module = name ? PyImport_GetModule(name) : NULL;
	PyErr_Clear();
	if (!module)
		return false;
	numpy.is_there = numpy_load(module);
	Py_DECREF(module);
	return numpy.is_there;
}

bool numpy_is_array(PyObject *object, bool or_subclass)
{
	if (!numpy_is_there())
		return false;
	return (PyObject *)Py_TYPE(object) == numpy.ndarray ||
	       (or_subclass && PyType_IsSubtype(Py_TYPE(object), (PyTypeObject *)numpy.ndarray));
}

static bool find_scalar(PyObject *object, tdr_dtype *ret_dtype)
{
	for (size_t i = 0; i < sizeof(numpy.scalars) / sizeof(numpy.scalars[0]); i++) {
		if (numpy.scalars[i] == (PyObject *)Py_TYPE(object)) {
			*ret_dtype = (tdr_dtype)i;
			return true;
		}
	}
	return false;
}

bool numpy_is_scalar(PyObject *object)
{
	tdr_dtype dtype;

	return numpy_is_there() && PyType_IsSubtype(Py_TYPE(object), (PyTypeObject *)numpy.generic) &&
	       find_scalar(object, &dtype);
}

bool numpy_has_dtype(tdr_dtype dtype)
{
	return numpy_is_there() && numpy.dtypes[dtype];
}

/* ---- formats of buffers ---- */

static bool dtype_of_kind(char kind, Py_ssize_t itemsize, tdr_dtype *ret_dtype)
{
	char code[4] = {kind, (char)('0' + (itemsize > 9 ? itemsize / 10 : itemsize)), '\0', '\0'};

	if (itemsize > 9)
		code[2] = (char)('0' + itemsize % 10);
	for (size_t i = 0; i < sizeof(dtype_codes) / sizeof(dtype_codes[0]); i++) {
		if (dtype_codes[i] && strcmp(dtype_codes[i], code) == 0) {
			*ret_dtype = (tdr_dtype)i;
			return true;
		}
	}
	return false;
}

bool dtype_of_format(const char *format, Py_ssize_t itemsize, tdr_dtype *ret_dtype)
{
	bool is_complex;

	if (!format)
		format = "B";
	if (*format == '@' || *format == '=' || (*format == '<' && PY_LITTLE_ENDIAN))
		format++;
	is_complex = *format == 'Z';
	if (is_complex)
		format++;
	if (format[0] == '\0' || format[1] != '\0' || itemsize > 16)
		return false;
	if (is_complex)
		return strchr("fd", *format) && dtype_of_kind('c', itemsize, ret_dtype);
	if (*format == '?') {
		*ret_dtype = TDR_BOOL;
		return itemsize == 1;
	}
	if (strchr("bhilqn", *format))
		return dtype_of_kind('i', itemsize, ret_dtype);
	if (strchr("BHILQN", *format))
		return dtype_of_kind('u', itemsize, ret_dtype);
	return strchr("efd", *format) && dtype_of_kind('f', itemsize, ret_dtype);
}

/* ---- arrays, sent ---- */

/* The memory that an array is a view of. */
struct memory {
	char *data;
	size_t nbytes;
};

/*
 * From the first element's first byte to the last one's last. False: an element has a negative stride or lies between
 * items.
 */
static bool measure(const Py_buffer *view, struct memory *ret_memory, int64_t strides[TDR_MAX_DIMS])
{
	int64_t last = 0;
	bool is_empty = false;

	for (int i = 0; i < view->ndim; i++) {
		if (view->strides[i] < 0 && view->shape[i] > 1)
			return false;
		if (view->strides[i] % view->itemsize != 0 && view->shape[i] > 1)
			return false;
		strides[i] = view->shape[i] > 1 || view->strides[i] > 0 ? view->strides[i] / view->itemsize : 0;
		is_empty = is_empty || view->shape[i] == 0;
		last += (view->shape[i] - 1) * strides[i];
	}
	*ret_memory = (struct memory){.data = view->buf};
	ret_memory->nbytes = is_empty ? 0 : (size_t)((last + 1) * view->itemsize);
	return true;
}

/* The object that has the memory of an array: what it is a view of. A new reference. */
static PyObject *owner_of(PyObject *array)
{
	PyObject *owner = Py_NewRef(array), *base;

	while (numpy_is_array(owner, true)) {
		base = PyObject_GetAttr(owner, numpy.base_name);
		if (!base) {
			PyErr_Clear();
			break;
		}
		if (base == Py_None) {
			Py_DECREF(base);
			break;
		}
		Py_SETREF(owner, base);
	}
	return owner;
}

/* All of the owner's memory, where it is in one piece. */
static bool memory_of(PyObject *owner, struct memory *ret_memory)
{
	Py_buffer view;

	if (PyObject_GetBuffer(owner, &view, PyBUF_STRIDES) < 0) {
		PyErr_Clear();
		return false;
	}
	*ret_memory = (struct memory){.data = view.buf, .nbytes = (size_t)view.len};
	if (!PyBuffer_IsContiguous(&view, 'A'))
		ret_memory->data = NULL;
	PyBuffer_Release(&view);
	return ret_memory->data != NULL;
}

static bool lies_in(const struct memory *part, const struct memory *whole, Py_ssize_t itemsize)
{
	uintptr_t from = (uintptr_t)part->data, start = (uintptr_t)whole->data;

	return from >= start && part->nbytes <= whole->nbytes && from - start <= whole->nbytes - part->nbytes &&
	       (from - start) % (uintptr_t)itemsize == 0;
}

/* The storage of a part of memory (borrowed from the writer), and the offset in it in bytes. */
static tdr_storage *find_storage(struct writer *writer, PyObject *array, const struct memory *part, Py_ssize_t itemsize,
                                 size_t *ret_offset)
{
	PyObject *owner = owner_of(array);
	const void *key = owner;
	struct memory whole;
	tdr_storage *storage;

	if (!memory_of(owner, &whole) || !lies_in(part, &whole, itemsize)) {
		whole = *part;
		key = array;
	}
	*ret_offset = (size_t)(part->data - whole.data);
	storage = writer_find_storage(writer, key);
	if (!storage)
		storage = writer_add_storage(writer, key, storage_keeping(whole.data, whole.nbytes, array));
	Py_DECREF(owner);
	return storage;
}

/* A tensor over a buffer; NULL with *ret_copy set: its elements lie so that they have to be copied first. */
static tdr_tensor *tensor_of_view(struct writer *writer, PyObject *array, const Py_buffer *view, bool *ret_copy)
{
	int64_t sizes[TDR_MAX_DIMS], strides[TDR_MAX_DIMS];
	tdr_tensor *tensor = NULL;
	tdr_storage *storage;
	struct memory part;
	tdr_dtype dtype;
	tdr_status status;
	size_t offset;

	if (view->ndim > TDR_MAX_DIMS || !dtype_of_format(view->format, view->itemsize, &dtype))
		return write_not_plain(writer);
	*ret_copy = !measure(view, &part, strides);
	if (*ret_copy)
		return NULL;
	for (int i = 0; i < view->ndim; i++)
		sizes[i] = view->shape[i];
	storage = find_storage(writer, array, &part, view->itemsize, &offset);
	if (!storage)
		return NULL;
	status = tdr_tensor_view(storage, dtype, (size_t)view->ndim, sizes, strides,
	                         (int64_t)(offset / (size_t)view->itemsize), &tensor);
	if (status != TDR_OK)
		raise_last(status);
	return tensor;
}

/* A function may write to its arguments, so those whose memory is not to be written to are copied. */
static tdr_tensor *protect(struct writer *writer, tdr_tensor *tensor, bool is_readonly)
{
	tdr_tensor *clone = NULL;
	tdr_status status;

	if (!tensor || !is_readonly || writer->audience != FOR_ALL)
		return tensor;
	status = tdr_tensor_clone(tensor, &clone);
	if (status != TDR_OK)
		raise_last(status);
	tdr_tensor_unref(tensor);
	return clone;
}

tdr_tensor *numpy_write(struct writer *writer, PyObject *array)
{
	tdr_tensor *tensor = NULL;
	bool copy = false, is_readonly;
	Py_buffer view;

	/* Arrays of objects and dates have no buffer, or one of another format. */
	if (PyObject_GetBuffer(array, &view, PyBUF_RECORDS_RO) < 0) {
		PyErr_Clear();
		return write_not_plain(writer);
	}
	tensor = tensor_of_view(writer, array, &view, &copy);
	is_readonly = view.readonly;
	PyBuffer_Release(&view);
	if (!copy)
		return protect(writer, tensor, is_readonly);
	array = PyObject_CallMethod(array, "copy", NULL);
	if (!array)
		return NULL;
	if (PyObject_GetBuffer(array, &view, PyBUF_RECORDS_RO) == 0) {
		tensor = tensor_of_view(writer, array, &view, &copy);
		PyBuffer_Release(&view);
	}
	Py_DECREF(array);
	return tensor;
}

tdr_tensor *buffer_write(struct writer *writer, PyObject *object)
{
	/* The view holds the object's buffer, and so keeps it from growing or being freed. */
	PyObject *memory = PyMemoryView_FromObject(object);
	tdr_tensor *tensor = NULL;
	const Py_buffer *view;
	bool copy = false;

	if (!memory)
		return NULL;
	view = PyMemoryView_GET_BUFFER(memory);
	if (view->suboffsets || !view->shape || !view->strides)
		write_not_plain(writer);
	else
		tensor = protect(writer, tensor_of_view(writer, memory, view, &copy), view->readonly);
	if (copy)
		write_not_plain(writer);
	Py_DECREF(memory);
	return tensor;
}

tdr_value *numpy_write_array(struct writer *writer, PyObject *array)
{
	tdr_tensor *tensor = numpy_write(writer, array);
	PyObject *flags;
	tdr_value *value = NULL;
	int writable = -1;

	if (!tensor)
		return NULL;
	flags = PyObject_GetAttrString(array, "flags");
	if (flags) {
		PyObject *flag = PyObject_GetAttrString(flags, "writeable");

		writable = flag ? PyObject_IsTrue(flag) : -1;
		Py_XDECREF(flag);
		Py_DECREF(flags);
	}
	if (writable >= 0)
		value = tdr_object(FORMAT_NUMPY, writable ? "\0" : "\1", 1, 1, &tensor);
	tdr_tensor_unref(tensor);
	return value;
}

/* ---- arrays, received ---- */

static PyObject *make_readonly(PyObject *array)
{
	PyObject *done = PyObject_CallMethod(array, "setflags", "O", Py_False);

	if (!done)
		Py_CLEAR(array);
	Py_XDECREF(done);
	return array;
}

PyObject *numpy_read(struct reader *reader, tdr_tensor *tensor, bool is_readonly)
{
	tdr_dtype dtype = tdr_tensor_dtype(tensor);
	size_t ndim = tdr_tensor_ndim(tensor);
	int64_t itemsize = (int64_t)tdr_dtype_size(dtype);
	int64_t offset = tdr_tensor_offset(tensor) * itemsize;
	PyObject *buffer = reader_buffer(reader, tdr_tensor_storage(tensor));
	PyObject *sizes = buffer ? tuple_of_sizes(tdr_tensor_sizes(tensor), ndim, 1) : NULL;
	PyObject *strides = sizes ? tuple_of_sizes(tdr_tensor_strides(tensor), ndim, itemsize) : NULL;
	PyObject *array = NULL;

	if (strides)
		array = PyObject_CallFunction(numpy.ndarray, "OOOLO", sizes, numpy.dtypes[dtype], buffer,
		                              (long long)offset, strides);
	Py_XDECREF(strides);
	Py_XDECREF(sizes);
	return array && is_readonly ? make_readonly(array) : array;
}

/* ---- scalars ---- */

tdr_value *numpy_write_scalar(struct writer *writer, PyObject *scalar)
{
	char data[1 + 16];
	tdr_dtype dtype = TDR_BOOL;
	PyObject *bytes;
	size_t size;

	if (!find_scalar(scalar, &dtype))
		return write_not_plain(writer);
	bytes = PyObject_CallMethod(scalar, "tobytes", NULL);
	if (!bytes)
		return NULL;
	size = tdr_dtype_size(dtype);
	data[0] = (char)dtype;
	memcpy(data + 1, PyBytes_AS_STRING(bytes), size);
	Py_DECREF(bytes);
	return tdr_object(FORMAT_NUMPY_SCALAR, data, 1 + size, 0, NULL);
}

/* The number in Python's own type, where the program does not use numpy. */
static PyObject *number_of(const char *data, tdr_dtype dtype)
{
	int64_t none = 0;
	tdr_tensor *tensor;
	PyObject *object, *number;
	tdr_status status = tdr_tensor_copy_of(data, dtype, 0, &none, &tensor);

	if (status != TDR_OK)
		return raise_last(status);
	object = tensor_object(tensor);
	number = object ? PyObject_CallMethod(object, "tolist", NULL) : NULL;
	Py_XDECREF(object);
	tdr_tensor_unref(tensor);
	return number;
}

PyObject *numpy_read_scalar(const void *data, size_t size)
{
	const char *bytes = data;
	PyObject *copy, *array, *empty, *scalar;
	tdr_dtype dtype = size > 0 ? (tdr_dtype)(unsigned char)bytes[0] : TDR_BOOL;

	if (size < 2 || tdr_dtype_size(dtype) != size - 1) {
		PyErr_SetString(PyExc_ValueError, "a malformed numpy scalar came");
		return NULL;
	}
	if (!numpy_has_dtype(dtype))
		return number_of(bytes + 1, dtype);
	copy = PyBytes_FromStringAndSize(bytes + 1, (Py_ssize_t)size - 1);
	empty = PyTuple_New(0);
	array = copy && empty ? PyObject_CallFunction(numpy.ndarray, "OOO", empty, numpy.dtypes[dtype], copy) : NULL;
	scalar = array ? PyObject_GetItem(array, empty) : NULL;
	Py_XDECREF(array);
	Py_XDECREF(empty);
	Py_XDECREF(copy);
	return scalar;
}
