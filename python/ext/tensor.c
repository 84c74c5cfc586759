/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril.Tensor: a tensor for programs that use neither torch nor numpy, and for dtypes that theirs lack. It speaks
 * DLPack and the buffer protocol, and can be made of whatever speaks either. It is the memory of the library's tensor,
 * without a copy.
 */
#include "convert.h"

#include <string.h>

typedef struct TensorObject {
	PyObject_HEAD tdr_tensor *tensor;
} TensorObject;

PyTypeObject *tensor_type;

/* The buffer protocol's names of the dtypes. It has none for bfloat16: the bits, as an integer. */
static const char *const formats[] = {
    [TDR_BOOL] = "?", [TDR_U8] = "B",  [TDR_I8] = "b",  [TDR_I16] = "h",  [TDR_I32] = "i",
    [TDR_I64] = "q",  [TDR_U16] = "H", [TDR_U32] = "I", [TDR_U64] = "Q",  [TDR_F16] = "e",
    [TDR_BF16] = "H", [TDR_F32] = "f", [TDR_F64] = "d", [TDR_C64] = "Zf", [TDR_C128] = "Zd",
};

static const char *const names[] = {
    [TDR_BOOL] = "bool",   [TDR_U8] = "uint8",      [TDR_I8] = "int8",         [TDR_I16] = "int16",
    [TDR_I32] = "int32",   [TDR_I64] = "int64",     [TDR_U16] = "uint16",      [TDR_U32] = "uint32",
    [TDR_U64] = "uint64",  [TDR_F16] = "float16",   [TDR_BF16] = "bfloat16",   [TDR_F32] = "float32",
    [TDR_F64] = "float64", [TDR_C64] = "complex64", [TDR_C128] = "complex128",
};

bool tensor_check(PyObject *object)
{
	return Py_TYPE(object) == tensor_type;
}

tdr_tensor *tensor_of(PyObject *object)
{
	return ((TensorObject *)object)->tensor;
}

PyObject *tensor_object(tdr_tensor *tensor)
{
	TensorObject *object = PyObject_New(TensorObject, tensor_type);

	if (object)
		object->tensor = tdr_tensor_ref(tensor);
	return (PyObject *)object;
}

PyObject *tuple_of_sizes(const int64_t *items, size_t ndim, int64_t factor)
{
	PyObject *tuple = PyTuple_New((Py_ssize_t)ndim);

	for (size_t i = 0; tuple && i < ndim; i++) {
		/* The stride of a dimension of one item may be any number. */
		PyObject *item = PyLong_FromLongLong((int64_t)((uint64_t)items[i] * (uint64_t)factor));

		if (item)
			PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
		else
			Py_CLEAR(tuple);
	}
	return tuple;
}

PyObject *reader_buffer(struct reader *reader, tdr_storage *storage)
{
	void **place = pointer_map_find(&reader->buffers, storage);
	int64_t size = (int64_t)tdr_storage_nbytes(storage);
	tdr_tensor *bytes;
	PyObject *buffer;
	tdr_status status;

	if (place)
		return *place;
	status = tdr_tensor_view(storage, TDR_U8, 1, &size, NULL, 0, &bytes);
	if (status != TDR_OK)
		return raise_last(status);
	buffer = tensor_object(bytes);
	tdr_tensor_unref(bytes);
	if (buffer && !pointer_map_add(&reader->buffers, storage, buffer)) {
		Py_DECREF(buffer);
		return PyErr_NoMemory();
	}
	return buffer;
}

/* ---- DLPack ---- */

static void free_managed(struct DLManagedTensor *managed)
{
	tdr_tensor *tensor;

	if (tdr_tensor_from_dlpack(managed, &tensor) == TDR_OK)
		tdr_tensor_unref(tensor);
}

static void capsule_free(PyObject *capsule)
{
	/* Who takes the tensor renames the capsule, and frees it. */
	if (PyCapsule_IsValid(capsule, "dltensor"))
		free_managed(PyCapsule_GetPointer(capsule, "dltensor"));
}

PyObject *dlpack_capsule(tdr_tensor *tensor)
{
	struct DLManagedTensor *managed;
	tdr_status status = tdr_tensor_to_dlpack(tensor, &managed);
	PyObject *capsule;

	if (status != TDR_OK)
		return raise_last(status);
	capsule = PyCapsule_New(managed, "dltensor", capsule_free);
	if (!capsule)
		free_managed(managed);
	return capsule;
}

bool dlpack_check(PyObject *object)
{
	return !PyType_Check(object) && PyObject_HasAttrString((PyObject *)Py_TYPE(object), "__dlpack__");
}

tdr_tensor *dlpack_write(PyObject *object)
{
	PyObject *capsule = PyObject_CallMethod(object, "__dlpack__", NULL);
	struct DLManagedTensor *managed = capsule ? PyCapsule_GetPointer(capsule, "dltensor") : NULL;
	tdr_tensor *tensor = NULL;
	tdr_status status;

	if (managed) {
		status = tdr_tensor_from_dlpack(managed, &tensor);
		if (status != TDR_OK)
			raise_last(status);
		else
			PyCapsule_SetName(capsule, "used_dltensor");
	}
	Py_XDECREF(capsule);
	return tensor;
}

static PyObject *tensor_dlpack(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return dlpack_capsule(tensor_of(self));
}

static PyObject *tensor_dlpack_device(PyObject *self, PyObject *unused)
{
	tdr_device device = tdr_tensor_device(tensor_of(self));

	/* DLPack's numbers: 1 is the CPU, 2 is CUDA. */
	return Py_BuildValue("(ii)", device.type == TDR_CUDA ? 2 : 1, device.index < 0 ? 0 : (int)device.index);
}

/* ---- making ---- */

/* The tensor of whatever has one. */
static tdr_tensor *tensor_from(PyObject *object)
{
	struct writer writer;
	tdr_tensor *tensor;

	writer_init(&writer, FOR_ALL);
	tensor = write_any_tensor(&writer, object);
	if (!writer.plain)
		PyErr_Format(
		    PyExc_TypeError,
		    "a Tensor is made of what speaks DLPack or the buffer protocol, in a dtype of numbers; not of "
		    "a %s",
		    Py_TYPE(object)->tp_name);
	writer_fini(&writer);
	return tensor;
}

static PyObject *tensor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"source", NULL};
	tdr_tensor *tensor;
	PyObject *source, *object;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Tensor", keywords, &source))
		return NULL;
	tensor = tensor_from(source);
	if (!tensor)
		return NULL;
	object = tensor_object(tensor);
	tdr_tensor_unref(tensor);
	return object;
}

static void tensor_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	tdr_tensor_unref(tensor_of(self));
	PyObject_Free(self);
	Py_DECREF(type);
}

/* What __reduce__ names: a tensor of bytes. */
static PyObject *tensor_restore(PyObject *type, PyObject *args)
{
	int64_t sizes[TDR_MAX_DIMS], nbytes;
	PyObject *tuple, *object = NULL;
	int dtype, requires_grad;
	tdr_tensor *tensor;
	Py_buffer bytes;
	tdr_status status;

	if (!PyArg_ParseTuple(args, "y*iO!p", &bytes, &dtype, &PyTuple_Type, &tuple, &requires_grad))
		return NULL;
	nbytes = (int64_t)tdr_dtype_size((tdr_dtype)dtype);
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple) && i < TDR_MAX_DIMS; i++) {
		sizes[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
		if (sizes[i] < 0 || __builtin_mul_overflow(nbytes, sizes[i], &nbytes))
			nbytes = 0;
	}
	if (nbytes != bytes.len || PyTuple_GET_SIZE(tuple) > TDR_MAX_DIMS || PyErr_Occurred()) {
		PyErr_SetString(PyExc_ValueError, "a pickled Tensor's bytes are not as many as its shape needs");
	} else {
		status =
		    tdr_tensor_copy_of(bytes.buf, (tdr_dtype)dtype, (size_t)PyTuple_GET_SIZE(tuple), sizes, &tensor);
		if (status != TDR_OK) {
			raise_last(status);
		} else {
			tdr_tensor_set_requires_grad(tensor, requires_grad);
			object = tensor_object(tensor);
			tdr_tensor_unref(tensor);
		}
	}
	PyBuffer_Release(&bytes);
	return object;
}

static PyObject *tensor_reduce(PyObject *self, PyObject *unused)
{
	tdr_tensor *tensor = tensor_of(self), *whole;
	tdr_status status = tdr_tensor_contiguous(tensor, &whole);
	Py_ssize_t size;
	PyObject *restore, *sizes, *result = NULL;

	if (status != TDR_OK)
		return raise_last(status);
	size = (Py_ssize_t)(tdr_tensor_numel(whole) * (int64_t)tdr_dtype_size(tdr_tensor_dtype(whole)));
	restore = PyObject_GetAttrString((PyObject *)tensor_type, "_restore");
	sizes = restore ? tuple_of_sizes(tdr_tensor_sizes(whole), tdr_tensor_ndim(whole), 1) : NULL;
	if (sizes)
		result = Py_BuildValue("O(y#iOO)", restore, size > 0 ? tdr_tensor_data(whole) : "", size,
		                       (int)tdr_tensor_dtype(whole), sizes,
		                       tdr_tensor_requires_grad(whole) ? Py_True : Py_False);
	Py_XDECREF(sizes);
	Py_XDECREF(restore);
	tdr_tensor_unref(whole);
	return result;
}

/* ---- the buffer protocol ---- */

/* Whether the elements lie as `flags` wants them. */
static bool layout_fits(const Py_buffer *view, int flags)
{
	if ((flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS || (flags & PyBUF_STRIDES) != PyBUF_STRIDES)
		return PyBuffer_IsContiguous(view, 'C');
	if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS)
		return PyBuffer_IsContiguous(view, 'F');
	if ((flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS)
		return PyBuffer_IsContiguous(view, 'A');
	return true;
}

static int tensor_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	static char nothing;
	tdr_tensor *tensor = tensor_of(self);
	size_t ndim = tdr_tensor_ndim(tensor);
	tdr_dtype dtype = tdr_tensor_dtype(tensor);
	Py_ssize_t *arrays;

	view->obj = NULL;
	if (tdr_tensor_device(tensor).type != TDR_CPU) {
		PyErr_SetString(PyExc_BufferError, "a tensor that is not on the CPU has no buffer");
		return -1;
	}
	arrays = PyMem_New(Py_ssize_t, 2 * ndim + 1);
	if (!arrays) {
		PyErr_NoMemory();
		return -1;
	}
	*view = (Py_buffer){
	    .buf = tdr_storage_nbytes(tdr_tensor_storage(tensor)) > 0 ? tdr_tensor_data(tensor) : &nothing,
	    .itemsize = (Py_ssize_t)tdr_dtype_size(dtype),
	    .ndim = (int)ndim,
	    .shape = arrays,
	    .strides = arrays + ndim,
	    .internal = arrays,
	};
	view->len = (Py_ssize_t)tdr_tensor_numel(tensor) * view->itemsize;
	for (size_t i = 0; i < ndim; i++) {
		view->shape[i] = (Py_ssize_t)tdr_tensor_sizes(tensor)[i];
		view->strides[i] = (Py_ssize_t)tdr_tensor_strides(tensor)[i] * view->itemsize;
	}
	if (!layout_fits(view, flags)) {
		PyMem_Free(arrays);
		PyErr_SetString(PyExc_BufferError, "the tensor's elements do not lie row by row without gaps");
		return -1;
	}
	if (flags & PyBUF_FORMAT)
		view->format = (char *)formats[dtype];
	if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES)
		view->strides = NULL;
	if ((flags & PyBUF_ND) != PyBUF_ND)
		view->shape = NULL;
	view->obj = Py_NewRef(self);
	return 0;
}

static void tensor_releasebuffer(PyObject *self, Py_buffer *view)
{
	PyMem_Free(view->internal);
}

/* ---- reading ---- */

/* A number of 16 bits in IEEE's form, or the upper half of a float. */
static double read_half(const char *data, tdr_dtype dtype)
{
	uint16_t half;
	uint32_t word;
	float number;

	if (dtype == TDR_F16)
		return PyFloat_Unpack2(data, PY_LITTLE_ENDIAN);
	memcpy(&half, data, sizeof(half));
	word = (uint32_t)half << 16;
	memcpy(&number, &word, sizeof(number));
	return number;
}

static PyObject *read_integer(const char *data, tdr_dtype dtype)
{
	size_t size = tdr_dtype_size(dtype);
	uint64_t bits = 0;
	bool is_signed = dtype >= TDR_I8 && dtype <= TDR_I64;
	unsigned unused_bits = (unsigned)(64 - 8 * size);

	memcpy(&bits, data, size);
	if (!is_signed)
		return PyLong_FromUnsignedLongLong(bits);
	return PyLong_FromLongLong((int64_t)(bits << unused_bits) >> unused_bits);
}

static PyObject *read_element(const char *data, tdr_dtype dtype)
{
	double pair[2];
	float few[2];

	switch (dtype) {
	case TDR_BOOL:
		return PyBool_FromLong(*data);
	case TDR_F16:
	case TDR_BF16: {
		double number = read_half(data, dtype);

		return number == -1.0 && PyErr_Occurred() ? NULL : PyFloat_FromDouble(number);
	}
	case TDR_F32:
		memcpy(few, data, sizeof(few[0]));
		return PyFloat_FromDouble((double)few[0]);
	case TDR_F64:
		memcpy(pair, data, sizeof(pair[0]));
		return PyFloat_FromDouble(pair[0]);
	case TDR_C64:
		memcpy(few, data, sizeof(few));
		return PyComplex_FromDoubles((double)few[0], (double)few[1]);
	case TDR_C128:
		memcpy(pair, data, sizeof(pair));
		return PyComplex_FromDoubles(pair[0], pair[1]);
	default:
		return read_integer(data, dtype);
	}
}

static PyObject *list_from(tdr_tensor *tensor, size_t dim, const char *data)
{
	tdr_dtype dtype = tdr_tensor_dtype(tensor);
	int64_t step;
	PyObject *list;

	if (dim == tdr_tensor_ndim(tensor))
		return read_element(data, dtype);
	step = tdr_tensor_strides(tensor)[dim] * (int64_t)tdr_dtype_size(dtype);
	list = PyList_New((Py_ssize_t)tdr_tensor_sizes(tensor)[dim]);
	for (int64_t i = 0; list && i < tdr_tensor_sizes(tensor)[dim]; i++) {
		PyObject *item = list_from(tensor, dim + 1, data + i * step);

		if (item)
			PyList_SET_ITEM(list, (Py_ssize_t)i, item);
		else
			Py_CLEAR(list);
	}
	return list;
}

static PyObject *tensor_tolist(PyObject *self, PyObject *unused)
{
	tdr_tensor *tensor = tensor_of(self);

	if (tdr_tensor_device(tensor).type != TDR_CPU)
		return PyErr_Format(PyExc_RuntimeError, "a tensor that is not on the CPU cannot be read");
	return list_from(tensor, 0, tdr_tensor_data(tensor));
}

static PyObject *get_shape(PyObject *self, void *unused)
{
	return tuple_of_sizes(tdr_tensor_sizes(tensor_of(self)), tdr_tensor_ndim(tensor_of(self)), 1);
}

static PyObject *get_strides(PyObject *self, void *unused)
{
	return tuple_of_sizes(tdr_tensor_strides(tensor_of(self)), tdr_tensor_ndim(tensor_of(self)), 1);
}

static PyObject *get_dtype(PyObject *self, void *unused)
{
	return PyUnicode_FromString(names[tdr_tensor_dtype(tensor_of(self))]);
}

static PyObject *get_nbytes(PyObject *self, void *unused)
{
	tdr_tensor *tensor = tensor_of(self);

	return PyLong_FromLongLong(tdr_tensor_numel(tensor) * (int64_t)tdr_dtype_size(tdr_tensor_dtype(tensor)));
}

static PyObject *get_requires_grad(PyObject *self, void *unused)
{
	return PyBool_FromLong(tdr_tensor_requires_grad(tensor_of(self)));
}

static PyObject *tensor_repr(PyObject *self)
{
	PyObject *shape = get_shape(self, NULL), *text;

	text = shape ? PyUnicode_FromFormat("tendril.Tensor(shape=%R, dtype='%s')", shape,
	                                    names[tdr_tensor_dtype(tensor_of(self))])
	             : NULL;
	Py_XDECREF(shape);
	return text;
}

static Py_ssize_t tensor_length(PyObject *self)
{
	if (tdr_tensor_ndim(tensor_of(self)) > 0)
		return (Py_ssize_t)tdr_tensor_sizes(tensor_of(self))[0];
	PyErr_SetString(PyExc_TypeError, "a tensor of no dimensions has no length");
	return -1;
}

/* ---- the type ---- */

static PyMethodDef methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))tensor_dlpack, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("__dlpack__($self, stream=None)\n--\n\nThe tensor as a DLPack capsule, without a copy.")},
    {"__dlpack_device__", tensor_dlpack_device, METH_NOARGS,
     PyDoc_STR("__dlpack_device__($self)\n--\n\nDLPack's device type and index.")},
    {"tolist", tensor_tolist, METH_NOARGS,
     PyDoc_STR(
	 "tolist($self)\n--\n\nThe elements as numbers in nested lists; the number, where there are no dimensions.")},
    {"__reduce__", tensor_reduce, METH_NOARGS, PyDoc_STR("__reduce__($self)\n--\n\nFor pickle.")},
    {"_restore", tensor_restore, METH_VARARGS | METH_STATIC, PyDoc_STR("For pickle.")},
    {NULL},
};

static PyGetSetDef getters[] = {
    {"shape", get_shape, NULL, PyDoc_STR("The sizes of the dimensions, a tuple.")},
    {"strides", get_strides, NULL, PyDoc_STR("Elements from one to the next in each dimension, a tuple.")},
    {"dtype", get_dtype, NULL, PyDoc_STR("The elements' type as numpy names it, such as 'float32'.")},
    {"nbytes", get_nbytes, NULL, PyDoc_STR("Bytes of all elements.")},
    {"requires_grad", get_requires_grad, NULL, PyDoc_STR("Whether its sender asked for gradients.")},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     PyDoc_STR("Tensor(source)\n--\n\nA tensor over the memory of what speaks DLPack or the buffer protocol.")},
    {Py_tp_new, tensor_new},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_repr, tensor_repr},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {Py_sq_length, tensor_length},
    {Py_bf_getbuffer, tensor_getbuffer},
    {Py_bf_releasebuffer, tensor_releasebuffer},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "tendril._C.Tensor",
    .basicsize = sizeof(TensorObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int tensor_init(PyObject *module)
{
	if (!tensor_type)
		tensor_type = (PyTypeObject *)PyType_FromSpec(&spec);
	return tensor_type ? PyModule_AddObjectRef(module, "Tensor", (PyObject *)tensor_type) : -1;
}
