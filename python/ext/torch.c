/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torch's tensors, through torch's Python interface alone: its C++ one has no fixed ABI.
 *
 * A tensor is sent as a view of its whole storage; what keeps the memory is torch's storage object. One that came is
 * made over the library's memory by DLPack, whose deleter needs no GIL; further views of one storage are set on the
 * first one's.
 */
#include "convert.h"

/* torch's names of the dtypes; NULL: torch 1.13 has none. */
static const char *const dtype_names[] = {
    [TDR_BOOL] = "bool",   [TDR_U8] = "uint8",      [TDR_I8] = "int8",         [TDR_I16] = "int16",
    [TDR_I32] = "int32",   [TDR_I64] = "int64",     [TDR_U16] = "uint16",      [TDR_U32] = "uint32",
    [TDR_U64] = "uint64",  [TDR_F16] = "float16",   [TDR_BF16] = "bfloat16",   [TDR_F32] = "float32",
    [TDR_F64] = "float64", [TDR_C64] = "complex64", [TDR_C128] = "complex128",
};

#define NDTYPES (sizeof(dtype_names) / sizeof(dtype_names[0]))

/* X(name): attributes and methods of tensors and storages, as strings of Python's. */
#define NAME_LIST(X)                                                                                                   \
	X(layout)                                                                                                      \
	X(dtype)                                                                                                       \
	X(is_cpu)                                                                                                      \
	X(is_cuda)                                                                                                     \
	X(requires_grad)                                                                                               \
	X(is_conj)                                                                                                     \
	X(is_neg)                                                                                                      \
	X(resolve_conj)                                                                                                \
	X(resolve_neg)                                                                                                 \
	X(size)                                                                                                        \
	X(stride)                                                                                                      \
	X(storage_offset)                                                                                              \
	X(_cdata)                                                                                                      \
	X(data_ptr)                                                                                                    \
	X(nbytes)                                                                                                      \
	X(set_)                                                                                                        \
	X(requires_grad_)

static struct names {
#define DECLARE_NAME(name) PyObject *name;
	NAME_LIST(DECLARE_NAME)
#undef DECLARE_NAME
} names;

/* What we use of torch, once the program has imported it; kept to the end of the process. */
static struct torch {
	bool is_there;
	PyObject *tensor;  /* the type */
	PyObject *device;  /* the type */
	PyObject *strided; /* the layout */
	PyObject *empty, *empty_strided, *from_dlpack;
	PyObject *dtypes[NDTYPES];  /* NULL: torch has none */
	PyObject *storage_name;     /* the tensor's method that gives its storage without a type */
	PyObject *none_sizes;       /* (0,) */
	PyObject *dtype_and_device; /* ("dtype", "device") */
	PyObject *cpu;              /* "cpu" */
} torch;

/* ---- finding torch ---- */

static bool names_load(void)
{
	bool good = true;

#define LOAD_NAME(name)                                                                                                \
	if (!names.name)                                                                                               \
		names.name = PyUnicode_InternFromString(#name);                                                        \
	good = good && names.name;
	NAME_LIST(LOAD_NAME)
#undef LOAD_NAME
	return good;
}

/* Takes what we need from the module. False without an exception: it is not all there, since its import goes on. */
static bool torch_load(PyObject *module)
{
	static const char *const attributes[] = {"Tensor", "device", "strided", "empty", "empty_strided"};
	PyObject **const places[] = {&torch.tensor, &torch.device, &torch.strided, &torch.empty, &torch.empty_strided};
	PyObject *native = NULL;
	bool good = true;

	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
		Py_XSETREF(*places[i], PyObject_GetAttrString(module, attributes[i]));
	native = PyObject_GetAttrString(module, "_C");
	Py_XSETREF(torch.from_dlpack, native ? PyObject_GetAttrString(native, "_from_dlpack") : NULL);
	Py_XDECREF(native);
	for (size_t i = 0; i < NDTYPES; i++) {
		Py_XSETREF(torch.dtypes[i], PyObject_GetAttrString(module, dtype_names[i]));
		PyErr_Clear();
	}
	Py_XSETREF(torch.none_sizes, Py_BuildValue("(i)", 0));
	Py_XSETREF(torch.dtype_and_device, Py_BuildValue("(ss)", "dtype", "device"));
	Py_XSETREF(torch.cpu, PyUnicode_InternFromString("cpu"));
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
		good = good && *places[i];
	good = names_load() && good && torch.from_dlpack && torch.none_sizes && torch.dtype_and_device && torch.cpu;
	if (good)
		Py_XSETREF(torch.storage_name,
		           PyUnicode_InternFromString(PyObject_HasAttrString(torch.tensor, "untyped_storage")
		                                          ? "untyped_storage"
		                                          : "_storage"));
	PyErr_Clear();
	return good && torch.storage_name;
}

bool torch_is_there(void)
{
	static PyObject *name;
	PyObject *module;

	if (torch.is_there)
		return true;
	if (!name)
		name = PyUnicode_InternFromString("torch");
	module = name ? PyImport_GetModule(name) : NULL;
	PyErr_Clear();
	if (!module)
		return false;
	torch.is_there = torch_load(module);
	Py_DECREF(module);
	return torch.is_there;
}

bool torch_is_tensor(PyObject *object, bool or_subclass)
{
	if (!torch_is_there())
		return false;
	return (PyObject *)Py_TYPE(object) == torch.tensor ||
	       (or_subclass && PyType_IsSubtype(Py_TYPE(object), (PyTypeObject *)torch.tensor));
}

bool torch_has_dtype(tdr_dtype dtype)
{
	return torch_is_there() && torch.dtypes[dtype];
}

/* ---- sending ---- */

static bool find_dtype(PyObject *object, tdr_dtype *ret_dtype)
{
	for (size_t i = 0; i < NDTYPES; i++) {
		if (torch.dtypes[i] == object) {
			*ret_dtype = (tdr_dtype)i;
			return true;
		}
	}
	return false;
}

/* The truth of an attribute; -1: an exception. */
static int flag_of(PyObject *object, PyObject *name)
{
	PyObject *flag = PyObject_GetAttr(object, name);
	int truth = flag ? PyObject_IsTrue(flag) : -1;

	Py_XDECREF(flag);
	return truth;
}

static int call_flag(PyObject *object, PyObject *name)
{
	PyObject *flag = PyObject_CallMethodNoArgs(object, name);
	int truth = flag ? PyObject_IsTrue(flag) : -1;

	Py_XDECREF(flag);
	return truth;
}

/*
 * Whether the tensor is of a kind that a value can be, with its dtype. Otherwise as write_not_plain, or an exception.
 */
static bool is_supported(struct writer *writer, PyObject *object, tdr_dtype *ret_dtype)
{
	PyObject *layout = PyObject_GetAttr(object, names.layout), *dtype = NULL;
	bool is_strided = layout == torch.strided, good;
	int on_cpu;

	Py_XDECREF(layout);
	if (layout && is_strided)
		dtype = PyObject_GetAttr(object, names.dtype);
	good = dtype && find_dtype(dtype, ret_dtype);
	Py_XDECREF(dtype);
	if (!good) {
		if (!PyErr_Occurred())
			write_not_plain(writer);
		return false;
	}
	on_cpu = flag_of(object, names.is_cpu);
	if (on_cpu > 0)
		return true;
	if (on_cpu == 0 && flag_of(object, names.is_cuda) > 0)
		PyErr_SetString(PyExc_RuntimeError,
		                "TensorPipe RPC backend only supports CPU tensors by default: move tensors to the CPU "
		                "before they are sent, or say where they go by `set_device_map` on "
		                "`TensorPipeRpcBackendOptions`. Got a tensor on a CUDA device.");
	else if (!PyErr_Occurred())
		write_not_plain(writer);
	return false;
}

/* A tensor whose memory holds what it shows: the same one, unless its conjugation or negation is still to be done. */
static PyObject *resolve(PyObject *object, tdr_dtype dtype)
{
	PyObject *resolved = Py_NewRef(object);
	int flag = 0;

	if (dtype == TDR_C64 || dtype == TDR_C128)
		flag = call_flag(resolved, names.is_conj);
	if (flag > 0)
		Py_SETREF(resolved, PyObject_CallMethodNoArgs(resolved, names.resolve_conj));
	if (resolved && flag >= 0 && dtype >= TDR_F16) {
		flag = call_flag(resolved, names.is_neg);
		if (flag > 0)
			Py_SETREF(resolved, PyObject_CallMethodNoArgs(resolved, names.resolve_neg));
	}
	if (flag < 0)
		Py_CLEAR(resolved);
	return resolved;
}

/* Reads a tuple of ints that a method gives; -1: an exception, or more than TDR_MAX_DIMS. */
static Py_ssize_t read_sizes(PyObject *object, PyObject *method, int64_t ret_sizes[TDR_MAX_DIMS])
{
	PyObject *tuple = PyObject_CallMethodNoArgs(object, method);
	Py_ssize_t count = tuple && PyTuple_Check(tuple) ? PyTuple_GET_SIZE(tuple) : -1;

	if (tuple && count < 0)
		PyErr_Format(PyExc_TypeError, "%S() of a tensor gave a %s, not a tuple", method,
		             Py_TYPE(tuple)->tp_name);
	if (count > TDR_MAX_DIMS) {
		PyErr_Format(PyExc_ValueError, "a tensor of %zd dimensions cannot be sent: at most %d can", count,
		             TDR_MAX_DIMS);
		count = -1;
	}
	for (Py_ssize_t i = 0; i < count; i++) {
		ret_sizes[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
		if (ret_sizes[i] == -1 && PyErr_Occurred())
			count = -1;
	}
	Py_XDECREF(tuple);
	return count;
}

/* An attribute, or what a method gives, as an address or a size. */
static bool read_word(PyObject *object, PyObject *name, bool is_method, size_t *ret_word)
{
	PyObject *number = is_method ? PyObject_CallMethodNoArgs(object, name) : PyObject_GetAttr(object, name);

	*ret_word = number ? PyLong_AsSize_t(number) : 0;
	Py_XDECREF(number);
	return !PyErr_Occurred();
}

/* The storage of the tensor, one for all tensors of it in this message. Borrowed from the writer. */
static tdr_storage *find_storage(struct writer *writer, PyObject *object)
{
	PyObject *owner = PyObject_CallMethodNoArgs(object, torch.storage_name);
	tdr_storage *storage = NULL;
	size_t id, data, nbytes;

	if (owner && read_word(owner, names._cdata, false, &id)) {
		storage = writer_find_storage(writer, (const void *)id);
		if (!storage && read_word(owner, names.data_ptr, true, &data) &&
		    read_word(owner, names.nbytes, true, &nbytes))
			storage =
			    writer_add_storage(writer, (const void *)id, storage_keeping((void *)data, nbytes, owner));
	}
	Py_XDECREF(owner);
	return storage;
}

tdr_tensor *torch_write(struct writer *writer, PyObject *object)
{
	int64_t sizes[TDR_MAX_DIMS], strides[TDR_MAX_DIMS];
	tdr_tensor *tensor = NULL;
	tdr_storage *storage;
	tdr_dtype dtype;
	Py_ssize_t ndim;
	tdr_status status;
	int requires_grad;
	size_t offset;

	if (!is_supported(writer, object, &dtype))
		return NULL;
	requires_grad = flag_of(object, names.requires_grad);
	object = requires_grad < 0 ? NULL : resolve(object, dtype);
	if (!object)
		return NULL;
	ndim = read_sizes(object, names.size, sizes);
	storage = ndim >= 0 && read_sizes(object, names.stride, strides) == ndim &&
	                  read_word(object, names.storage_offset, true, &offset)
	              ? find_storage(writer, object)
	              : NULL;
	if (storage) {
		status = tdr_tensor_view(storage, dtype, (size_t)ndim, sizes, strides, (int64_t)offset, &tensor);
		if (status != TDR_OK)
			raise_last(status);
		else if (requires_grad)
			tdr_tensor_set_requires_grad(tensor, true);
	}
	Py_DECREF(object);
	return tensor;
}

/* ---- receiving ---- */

/* One tensor that has the whole of its storage, in order. */
static bool covers_storage(tdr_tensor *tensor)
{
	return tdr_tensor_offset(tensor) == 0 && tdr_tensor_is_contiguous(tensor) &&
	       (size_t)tdr_tensor_numel(tensor) * tdr_dtype_size(tdr_tensor_dtype(tensor)) ==
	           tdr_storage_nbytes(tdr_tensor_storage(tensor));
}

static PyObject *import_tensor(tdr_tensor *tensor)
{
	PyObject *capsule = dlpack_capsule(tensor), *object;

	if (!capsule)
		return NULL;
	object = PyObject_CallOneArg(torch.from_dlpack, capsule);
	Py_DECREF(capsule);
	return object;
}

/* A tensor of all bytes of the storage. */
static PyObject *import_storage(tdr_storage *storage)
{
	int64_t size = (int64_t)tdr_storage_nbytes(storage);
	PyObject *object = NULL;
	tdr_tensor *bytes;
	tdr_status status = tdr_tensor_view(storage, TDR_U8, 1, &size, NULL, 0, &bytes);

	if (status != TDR_OK)
		return raise_last(status);
	object = import_tensor(bytes);
	tdr_tensor_unref(bytes);
	return object;
}

static PyObject *call_with_dtype(PyObject *function, PyObject *sizes, PyObject *strides, tdr_dtype dtype)
{
	PyObject *args[4] = {sizes};
	size_t count = 1;

	if (strides)
		args[count++] = strides;
	args[count] = torch.dtypes[dtype];
	args[count + 1] = torch.cpu;
	return PyObject_Vectorcall(function, args, count, torch.dtype_and_device);
}

/* A tensor of nothing, which has no memory to share. */
static PyObject *make_empty(tdr_tensor *tensor)
{
	size_t ndim = tdr_tensor_ndim(tensor);
	PyObject *sizes = tuple_of_sizes(tdr_tensor_sizes(tensor), ndim, 1);
	PyObject *strides = sizes ? tuple_of_sizes(tdr_tensor_strides(tensor), ndim, 1) : NULL;
	PyObject *object =
	    strides ? call_with_dtype(torch.empty_strided, sizes, strides, tdr_tensor_dtype(tensor)) : NULL;

	Py_XDECREF(strides);
	Py_XDECREF(sizes);
	return object;
}

/* A view of the storage of `whole`. */
static PyObject *make_view(PyObject *whole, tdr_tensor *tensor)
{
	size_t ndim = tdr_tensor_ndim(tensor);
	PyObject *storage = PyObject_CallMethodNoArgs(whole, torch.storage_name);
	PyObject *sizes = storage ? tuple_of_sizes(tdr_tensor_sizes(tensor), ndim, 1) : NULL;
	PyObject *strides = sizes ? tuple_of_sizes(tdr_tensor_strides(tensor), ndim, 1) : NULL;
	PyObject *object =
	    strides ? call_with_dtype(torch.empty, torch.none_sizes, NULL, tdr_tensor_dtype(tensor)) : NULL;
	PyObject *offset;

	offset = object ? PyLong_FromLongLong(tdr_tensor_offset(tensor)) : NULL;
	if (offset)
		Py_SETREF(object,
		          PyObject_CallMethodObjArgs(object, names.set_, storage, offset, sizes, strides, NULL));
	else
		Py_CLEAR(object);
	Py_XDECREF(offset);
	Py_XDECREF(strides);
	Py_XDECREF(sizes);
	Py_XDECREF(storage);
	return object;
}

static PyObject *make_tensor(struct reader *reader, tdr_tensor *tensor)
{
	tdr_storage *storage = tdr_tensor_storage(tensor);
	void **place = pointer_map_find(&reader->torch_storages, storage);
	bool is_whole = !place && tdr_tensor_dtype(tensor) != TDR_BOOL && covers_storage(tensor);
	PyObject *whole;

	if (place)
		return make_view(*place, tensor);
	whole = is_whole ? import_tensor(tensor) : import_storage(storage);
	if (!whole)
		return NULL;
	if (!pointer_map_add(&reader->torch_storages, storage, whole)) {
		Py_DECREF(whole);
		return PyErr_NoMemory();
	}
	return is_whole ? Py_NewRef(whole) : make_view(whole, tensor);
}

PyObject *torch_read(struct reader *reader, tdr_tensor *tensor)
{
	PyObject *object, *none;

	if (tdr_storage_nbytes(tdr_tensor_storage(tensor)) == 0)
		object = make_empty(tensor);
	else
		object = make_tensor(reader, tensor);
	if (!object || !tdr_tensor_requires_grad(tensor) || tdr_tensor_dtype(tensor) < TDR_F16)
		return object;
	none = PyObject_CallMethodNoArgs(object, names.requires_grad_);
	if (!none)
		Py_CLEAR(object);
	Py_XDECREF(none);
	return object;
}

/* ---- devices ---- */

tdr_value *torch_write_device(PyObject *object)
{
	PyObject *type = NULL, *index = NULL;
	tdr_device device = TDR_DEVICE_CPU;
	bool is_cuda = false, is_cpu = false;

	if (!torch_is_there() || (PyObject *)Py_TYPE(object) != torch.device)
		return NULL;
	type = PyObject_GetAttrString(object, "type");
	index = type ? PyObject_GetAttrString(object, "index") : NULL;
	if (index) {
		is_cpu = PyUnicode_CompareWithASCIIString(type, "cpu") == 0;
		is_cuda = PyUnicode_CompareWithASCIIString(type, "cuda") == 0;
		device.type = is_cuda ? TDR_CUDA : TDR_CPU;
		device.index = index == Py_None ? -1 : (int32_t)PyLong_AsLong(index);
	}
	Py_XDECREF(index);
	Py_XDECREF(type);
	return (is_cpu || is_cuda) && !PyErr_Occurred() ? tdr_device_value(device) : NULL;
}

PyObject *torch_read_device(tdr_device device)
{
	const char *type = device.type == TDR_CUDA ? "cuda" : "cpu";

	if (device.index < 0)
		return PyObject_CallFunction(torch.device, "s", type);
	return PyObject_CallFunction(torch.device, "si", type, (int)device.index);
}
