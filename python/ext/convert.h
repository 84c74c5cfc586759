/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files that convert between Python's objects and the library's values know of each other.
 * docs/python-wire.md says what their values look like.
 *
 * All functions here are called with the GIL held. Those that give a value, a tensor or an object return NULL with an
 * exception set, or, where they have a writer, with `writer->plain` false and no exception: the object has to be
 * pickled.
 */
#ifndef TENDRIL_PYTHON_CONVERT_H
#define TENDRIL_PYTHON_CONVERT_H

#include "ext.h"
#include "pointer_map.h"

/*
 * Bytes from which a bytes object or a pickle travels as a storage, beside a message's body, and is not copied into
 * it.
 */
#define OUT_OF_BAND_MIN 65536

/* Formats of objects: see docs/python-wire.md. */
#define FORMAT_BYTES "bytes"
#define FORMAT_BYTEARRAY "bytearray"
#define FORMAT_NUMPY "numpy"
#define FORMAT_NUMPY_SCALAR "numpy.scalar"
#define FORMAT_PICKLE "pickle5"
#define FORMAT_PICKLE_REFS "pickle5.refs"
#define FORMAT_PICKLE_CALL "pickle5.call"

enum audience {
	FOR_PYTHON, /* read by Python alone: what is a numpy array arrives as one */
	FOR_ALL,    /* read by functions with a schema, too: arrays are tensors, numpy's numbers are numbers */
};

/* One conversion of what goes into one message. */
struct writer {
	enum audience audience;
	bool plain;                  /* false: something was met that is not plain */
	bool in_key;                 /* a dict's key or a set's item is being written */
	size_t depth;                /* of the container being written */
	struct pointer_map seen;     /* objects that are held more than once */
	struct pointer_map storages; /* what owns memory -> tdr_storage, counted */
};

void writer_init(struct writer *writer, enum audience audience);
void writer_fini(struct writer *writer);

/* One conversion of what came in one message. */
struct reader {
	struct pointer_map torch_storages; /* tdr_storage -> a torch tensor that views it, counted */
	struct pointer_map buffers;        /* tdr_storage -> a Tensor of all its bytes, counted */
};

void reader_fini(struct reader *reader);

/* ---- write.c ---- */

tdr_value *write_object(struct writer *writer, PyObject *object);

/* Any object that is a tensor of some library's, whatever the audience. */
tdr_tensor *write_any_tensor(struct writer *writer, PyObject *object);

/* Marks the object as not plain. Returns NULL. */
void *write_not_plain(struct writer *writer);

/* ---- read.c ---- */

PyObject *read_value(struct reader *reader, tdr_value *value);

/* A tensor as torch's, where the program uses torch; else as numpy's; else as our own. */
PyObject *read_tensor(struct reader *reader, tdr_tensor *tensor);

/* Whether its memory is the bytes themselves, for this machine's processor to read. */
bool is_tensor_of_bytes(tdr_tensor *tensor);

/* ---- storage.c: memory of Python's objects ---- */

/*
 * A storage over memory that `owner` keeps: one reference to it is held, and dropped, from whatever thread lets go of
 * the storage, without that thread waiting for the GIL.
 */
tdr_storage *storage_keeping(void *data, size_t nbytes, PyObject *owner);

/* The storage that the writer has for `key` already (borrowed), or NULL without an exception. */
tdr_storage *writer_find_storage(struct writer *writer, const void *key);

/* Has the writer remember a storage, and gives the reference to it to the writer. Returns it borrowed, or NULL. */
tdr_storage *writer_add_storage(struct writer *writer, const void *key, tdr_storage *storage);

/* ---- torch.c ---- */

/* Whether the program has imported torch. Does not import it. */
bool torch_is_there(void);
bool torch_is_tensor(PyObject *object, bool or_subclass);
tdr_tensor *torch_write(struct writer *writer, PyObject *object);
bool torch_has_dtype(tdr_dtype dtype);
PyObject *torch_read(struct reader *reader, tdr_tensor *tensor);

/* torch.device; NULL without an exception where the object is none. */
tdr_value *torch_write_device(PyObject *object);
PyObject *torch_read_device(tdr_device device);

/* ---- numpy.c ---- */

bool numpy_is_there(void);
bool numpy_is_array(PyObject *object, bool or_subclass);
bool numpy_is_scalar(PyObject *object);
tdr_tensor *numpy_write(struct writer *writer, PyObject *array);
tdr_value *numpy_write_array(struct writer *writer, PyObject *array);
tdr_value *numpy_write_scalar(struct writer *writer, PyObject *scalar);
bool numpy_has_dtype(tdr_dtype dtype);
PyObject *numpy_read(struct reader *reader, tdr_tensor *tensor, bool is_readonly);
PyObject *numpy_read_scalar(const void *data, size_t size);

/* The dtype of a buffer's items; false: there is none. */
bool dtype_of_format(const char *format, Py_ssize_t itemsize, tdr_dtype *ret_dtype);

/* A tensor over what speaks the buffer protocol, in a storage of its own. */
tdr_tensor *buffer_write(struct writer *writer, PyObject *object);

/* ---- tensor.c: tendril.Tensor ---- */

extern PyTypeObject *tensor_type;

/* A Tensor of `tensor`, of which one more reference is taken. */
PyObject *tensor_object(tdr_tensor *tensor);
bool tensor_check(PyObject *object);
tdr_tensor *tensor_of(PyObject *object); /* borrowed */

/* Of what has __dlpack__. */
bool dlpack_check(PyObject *object);
tdr_tensor *dlpack_write(PyObject *object);

/* A Tensor of all bytes of a storage; one for each in a conversion. Borrowed from the reader. */
PyObject *reader_buffer(struct reader *reader, tdr_storage *storage);

/* A capsule as __dlpack__ gives it. */
PyObject *dlpack_capsule(tdr_tensor *tensor);

/* Sizes and strides [ndim] as tuples; each of `items` times `factor`. */
PyObject *tuple_of_sizes(const int64_t *items, size_t ndim, int64_t factor);
int tensor_init(PyObject *module);

/* ---- pickle.c ---- */

/* Arguments of a call, pickled as one. */
tdr_value *pickle_call(PyObject *args, PyObject *kwargs);

/* Whether `value` is what pickle_call made, or (`format` FORMAT_PICKLE_REFS) a pickle with references beside it. */
bool is_pickle_with_refs(const tdr_value *value, const char *format);

/* The object of either, or of an object of format FORMAT_PICKLE. */
PyObject *read_pickle(struct reader *reader, tdr_value *value);

#endif
