/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The class Store: the operations of stores, on one of the library's or on another object (store.h).
 *
 * An operation on a native store holds copies of all that it needs, since a signal may call its caller away while it still runs in
 * another thread. It waits in slices, and gives up at the end of one when nobody is interested any more.
 */
#include "store.h"

#include <datetime.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>
#include <time.h>

/* How long a wait goes on after its caller was called away, at most. */
#define SLICE_MS 5000

/* Longer timeouts are cut to this. */
#define TIMEOUT_MAX_MS INT64_C(1000000000000000)

PyTypeObject *store_type;

/* ---- operations on native stores ---- */

struct op {
	atomic_int refs;       /* who asked, and who does it */
	atomic_bool abandoned; /* who asked has gone */
	tdr_status (*run)(struct op *op);
	const char *name;
	tdr_store *store; /* counted */
	size_t count;
	char **keys;      /* [count] */
	tdr_blob *values; /* [count], or [2] for what is expected and desired */
	size_t nvalues;
	int64_t number; /* what to add; the sum, or how many */
	int64_t timeout_ms;
	bool flag; /* whether it was there, or all are */
	tdr_status status;
	char *error;
};

static void op_unref(void *context)
{
	struct op *op = context;

	if (atomic_fetch_sub(&op->refs, 1) != 1)
		return;
	tdr_store_unref(op->store);
	for (size_t i = 0; i < op->count && op->keys; i++)
		free(op->keys[i]);
	for (size_t i = 0; i < op->nvalues && op->values; i++)
		tdr_blob_free(&op->values[i]);
	free(op->keys);
	free(op->values);
	free(op->error);
	free(op);
}

static struct op *op_new(StoreObject *self, const char *name, tdr_status (*run)(struct op *op), size_t nkeys,
                         size_t nvalues)
{
	struct op *op = calloc(1, sizeof(*op));

	if (op) {
		atomic_init(&op->refs, 1);
		op->name = name;
		op->run = run;
		op->store = tdr_store_ref(self->store);
		op->timeout_ms = TDR_TIMEOUT_DEFAULT;
		op->count = nkeys;
		op->nvalues = nvalues;
		op->keys = calloc(nkeys + 1, sizeof(*op->keys));
		op->values = calloc(nvalues + 1, sizeof(*op->values));
	}
	if (op && (!op->keys || !op->values)) {
		op_unref(op);
		op = NULL;
	}
	if (!op)
		PyErr_NoMemory();
	return op;
}

static void op_drop(struct op *op)
{
	Py_BEGIN_ALLOW_THREADS;
	op_unref(op);
	Py_END_ALLOW_THREADS;
}

static bool op_take_key(struct op *op, size_t i, PyObject *key)
{
	Py_ssize_t size;
	const char *text = PyUnicode_AsUTF8AndSize(key, &size);

	if (!text)
		return false;
	if (strlen(text) != (size_t)size) {
		PyErr_SetString(PyExc_ValueError, "a store's key cannot have a NUL in it");
		return false;
	}
	op->keys[i] = strdup(text);
	if (!op->keys[i])
		PyErr_NoMemory();
	return op->keys[i] != NULL;
}

static bool op_take_value(struct op *op, size_t i, PyObject *value)
{
	const char *data;
	Py_ssize_t size;

	if (PyBytes_Check(value)) {
		data = PyBytes_AS_STRING(value);
		size = PyBytes_GET_SIZE(value);
	} else {
		data = PyUnicode_AsUTF8AndSize(value, &size);
		if (!data)
			return false;
	}
	op->values[i].data = malloc((size_t)size + 1);
	if (!op->values[i].data) {
		PyErr_NoMemory();
		return false;
	}
	memcpy(op->values[i].data, data, (size_t)size);
	op->values[i].data[size] = '\0';
	op->values[i].size = (size_t)size;
	return true;
}

static void op_work(void *context)
{
	struct op *op = context;

	op->status = op->run(op);
	if (op->status != TDR_OK)
		op->error = strdup(tdr_last_error());
}

/* The text of a timeout: each kind has words that programs look for. To be freed with free(); NULL for lack of memory. */
static char *timeout_text(const struct op *op, const char *error)
{
	const char *kind = tdr_store_kind(op->store), *within = NULL;
	char *text;
	int size;

	if (strcmp(kind, "file") == 0 && strcmp(op->name, "get") == 0) {
		size = asprintf(&text, "Timeout waiting for key: %s after %lld ms", op->keys[0],
		                (long long)op->timeout_ms);
		return size < 0 ? NULL : text;
	}
	/* The last slice's text tells of its own length. */
	for (const char *at = error; (at = strstr(at, " within ")); at++)
		within = at;
	if (!within)
		return strdup(error);
	size = asprintf(&text, "%.*s within %lld ms%s", (int)(within - error), error, (long long)op->timeout_ms,
	                strcmp(kind, "hash") == 0 ? " (Connection timed out)" : "");
	return size < 0 ? NULL : text;
}

static void op_raise(const struct op *op)
{
	const char *error = op->error ? op->error : tdr_status_text(op->status);
	char *text = op->status == TDR_ETIMEDOUT ? timeout_text(op, error) : NULL;
	PyObject *message;

	if (op->status == TDR_EINVAL) {
		message = PyUnicode_DecodeUTF8(error, (Py_ssize_t)strlen(error), "replace");
		if (message)
			PyErr_SetObject(PyExc_ValueError, message);
		Py_XDECREF(message);
	} else {
		raise_status(op->status, text ? text : error, NULL, NULL, ERROR_OF_CALL);
	}
	free(text);
}

/* Runs it, and waits. False: an exception, and it is gone. `waits`: it may take long on any kind of store. */
static bool op_run(struct op *op, bool waits)
{
	if (op->timeout_ms == TDR_TIMEOUT_DEFAULT)
		op->timeout_ms = tdr_store_timeout(op->store);
	if (!waits && strcmp(tdr_store_kind(op->store), "hash") == 0) {
		op_work(op);
	} else {
		atomic_fetch_add(&op->refs, 1);
		if (run_interruptibly(op_work, op, op_unref) < 0) {
			PyObject *type, *value, *traceback;

			PyErr_Fetch(&type, &value, &traceback);
			atomic_store(&op->abandoned, true);
			op_drop(op);
			PyErr_Restore(type, value, traceback);
			return false;
		}
		atomic_fetch_sub(&op->refs, 1);
	}
	if (op->status == TDR_OK)
		return true;
	op_raise(op);
	op_drop(op);
	return false;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits for the keys in slices. */
static tdr_status wait_for_keys(struct op *op, const char *const keys[], int64_t *ret_left_ms)
{
	int64_t begin = now_ms(), left = op->timeout_ms;
	tdr_status status;

	do {
		int64_t slice = left == TDR_TIMEOUT_NEVER || left > SLICE_MS ? SLICE_MS : left;

		status = tdr_store_wait(op->store, op->count, keys, slice);
		if (op->timeout_ms != TDR_TIMEOUT_NEVER)
			left = op->timeout_ms - (now_ms() - begin);
	} while (status == TDR_ETIMEDOUT && !atomic_load(&op->abandoned) &&
	         (op->timeout_ms == TDR_TIMEOUT_NEVER || left > 0));
	if (op->timeout_ms != TDR_TIMEOUT_NEVER && left <= 0)
		left = 1;
	*ret_left_ms = left;
	return status;
}

static tdr_status run_set(struct op *op)
{
	return tdr_store_set(op->store, op->keys[0], op->values[0].data, op->values[0].size);
}

static tdr_status run_get(struct op *op)
{
	int64_t left;
	tdr_status status = wait_for_keys(op, (const char *const *)op->keys, &left);

	return status == TDR_OK ? tdr_store_get(op->store, op->keys[0], left, &op->values[0]) : status;
}

static tdr_status run_add(struct op *op)
{
	return tdr_store_add(op->store, op->keys[0], op->number, &op->number);
}

static tdr_status run_compare_set(struct op *op)
{
	return tdr_store_compare_set(op->store, op->keys[0], op->values[0].data, op->values[0].size, op->values[1].data,
	                             op->values[1].size, &op->values[2]);
}

static tdr_status run_wait(struct op *op)
{
	int64_t left;

	return wait_for_keys(op, (const char *const *)op->keys, &left);
}

static tdr_status run_check(struct op *op)
{
	return tdr_store_check(op->store, op->count, (const char *const *)op->keys, &op->flag);
}

static tdr_status run_delete_key(struct op *op)
{
	return tdr_store_delete_key(op->store, op->keys[0], &op->flag);
}

static tdr_status run_num_keys(struct op *op)
{
	return tdr_store_num_keys(op->store, &op->number);
}

static tdr_status run_append(struct op *op)
{
	return tdr_store_append(op->store, op->keys[0], op->values[0].data, op->values[0].size);
}

static tdr_status run_multi_get(struct op *op)
{
	int64_t left;
	tdr_status status = wait_for_keys(op, (const char *const *)op->keys, &left);

	return status == TDR_OK
	           ? tdr_store_multi_get(op->store, op->count, (const char *const *)op->keys, left, op->values)
	           : status;
}

static tdr_status run_multi_set(struct op *op)
{
	return tdr_store_multi_set(op->store, op->count, (const char *const *)op->keys, op->values);
}

/* ---- arguments ---- */

/* What a method of stores takes, by the letters of `kinds`: k a key, K keys, v a value, V values, n a number, t a timeout. */
struct signature {
	const char *name;
	const char *kinds;
	Py_ssize_t least; /* how many have to be given */
	const char *text; /* for people */
	char *names[4];
};

static bool is_sequence_of(PyObject *object, bool (*is)(PyObject *))
{
	if (!PyList_Check(object) && !PyTuple_Check(object))
		return false;
	for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(object); i++)
		if (!is(PySequence_Fast_GET_ITEM(object, i)))
			return false;
	return true;
}

static bool is_key(PyObject *object)
{
	return PyUnicode_Check(object);
}

static bool is_value(PyObject *object)
{
	return PyUnicode_Check(object) || PyBytes_Check(object);
}

static bool is_timeout(PyObject *object)
{
	return PyDelta_Check(object) || PyFloat_Check(object) || (PyLong_Check(object) && !PyBool_Check(object));
}

static bool is_number(PyObject *object)
{
	int overflow = 0;

	if (!PyLong_Check(object))
		return false;
	PyLong_AsLongLongAndOverflow(object, &overflow);
	return overflow == 0;
}

static bool is_kind(char kind, PyObject *object)
{
	switch (kind) {
	case 'k':
		return is_key(object);
	case 'K':
		return is_sequence_of(object, is_key);
	case 'v':
		return is_value(object);
	case 'V':
		return is_sequence_of(object, is_value);
	case 'n':
		return is_number(object);
	default:
		return is_timeout(object);
	}
}

/* Takes arguments by position or by name into `ret` (borrowed; NULL: not given). False: TypeError. */
static bool parse(const struct signature *signature, PyObject *self, PyObject *args, PyObject *kwargs, PyObject *ret[])
{
	Py_ssize_t most = (Py_ssize_t)strlen(signature->kinds), count = PyTuple_GET_SIZE(args);
	Py_ssize_t named = 0;
	bool good = count <= most;

	for (Py_ssize_t i = 0; good && i < most; i++) {
		PyObject *given = kwargs ? PyDict_GetItemString(kwargs, signature->names[i]) : NULL;

		named += given != NULL;
		good = !(given && i < count);
		ret[i] = i < count ? PyTuple_GET_ITEM(args, i) : given;
		good = good && (ret[i] ? is_kind(signature->kinds[i], ret[i]) : i >= signature->least);
	}
	good = good && (!kwargs || named == PyDict_GET_SIZE(kwargs));
	if (good)
		return true;
	PyErr_Format(PyExc_TypeError, "%s(): incompatible function arguments. It takes %s.\n\nInvoked with: %R, %R%s%R",
	             signature->name, signature->text, self, args, kwargs ? "; kwargs: " : ", ",
	             kwargs ? kwargs : Py_None);
	return false;
}

/* ---- stores that are not native ---- */

static bool check_is_made(StoreObject *self, const char *name)
{
	if (!self->below)
		PyErr_Format(PyExc_RuntimeError,
		             "%s does not implement %s(), or its __init__ does not call super().__init__()",
		             Py_TYPE(self)->tp_name, name);
	return self->below != NULL;
}

static PyObject *full_key(StoreObject *self, PyObject *key)
{
	return PyUnicode_FromFormat("%U/%U", self->prefix, key);
}

static PyObject *full_keys(StoreObject *self, PyObject *keys)
{
	PyObject *list = PySequence_List(keys);

	for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(list); i++) {
		PyObject *full = full_key(self, PyList_GET_ITEM(list, i));

		if (!full || PyList_SetItem(list, i, full) < 0)
			Py_CLEAR(list);
	}
	return list;
}

/* Calls the method of the object that a prefix store stands on; `arguments` are up to three, NULL: no more. */
static PyObject *forward(StoreObject *self, const struct signature *signature, PyObject *const arguments[])
{
	PyObject *call[4] = {NULL}, *name, *result = NULL, *first;
	size_t count = 0;

	if (!check_is_made(self, signature->name))
		return NULL;
	while (signature->kinds[count] && arguments[count]) {
		call[count + 1] = arguments[count];
		count++;
	}
	first = call[1];
	if (signature->kinds[0] == 'k')
		call[1] = full_key(self, first);
	else if (signature->kinds[0] == 'K')
		call[1] = full_keys(self, first);
	if (first && !call[1])
		return NULL;
	call[0] = self->below;
	name = PyUnicode_InternFromString(signature->name);
	if (name)
		result = PyObject_VectorcallMethod(name, call, (count + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
	Py_XDECREF(name);
	if (call[1] != first)
		Py_XDECREF(call[1]);
	return result;
}

/* ---- methods ---- */

static const struct signature set_signature = {"set", "kv", 2, "(key: str, value: str or bytes)", {"key", "value"}};
static const struct signature get_signature = {"get", "k", 1, "(key: str)", {"key"}};
static const struct signature add_signature = {"add", "kn", 2, "(key: str, amount: int)", {"key", "amount"}};
static const struct signature compare_set_signature = {"compare_set",
                                                       "kvv",
                                                       3,
                                                       "(key: str, expected: str or bytes, desired: str or bytes)",
                                                       {"key", "expected", "desired"}};
static const struct signature wait_signature = {
    "wait", "Kt", 1, "(keys: list of str, timeout: datetime.timedelta)", {"keys", "timeout"}};
static const struct signature check_signature = {"check", "K", 1, "(keys: list of str)", {"keys"}};
static const struct signature delete_key_signature = {"delete_key", "k", 1, "(key: str)", {"key"}};
static const struct signature num_keys_signature = {"num_keys", "", 0, "no arguments", {NULL}};
static const struct signature append_signature = {
    "append", "kv", 2, "(key: str, value: str or bytes)", {"key", "value"}};
static const struct signature multi_get_signature = {"multi_get", "K", 1, "(keys: list of str)", {"keys"}};
static const struct signature multi_set_signature = {
    "multi_set", "KV", 2, "(keys: list of str, values: list of str or bytes)", {"keys", "values"}};
static const struct signature set_timeout_signature = {
    "set_timeout", "t", 1, "(timeout: datetime.timedelta)", {"timeout"}};

/* An operation with its keys and values taken from the arguments, by the letters of the signature. */
static struct op *op_from(StoreObject *self, const struct signature *signature, tdr_status (*run)(struct op *op),
                          PyObject *const arguments[], size_t nresults)
{
	size_t nkeys = 0, nvalues = 0;
	bool good = true;
	struct op *op;

	for (size_t i = 0; signature->kinds[i]; i++) {
		nkeys += signature->kinds[i] == 'k';
		nvalues += signature->kinds[i] == 'v';
		if (signature->kinds[i] == 'K')
			nkeys = (size_t)PySequence_Fast_GET_SIZE(arguments[i]);
		if (signature->kinds[i] == 'V')
			nvalues = (size_t)PySequence_Fast_GET_SIZE(arguments[i]);
	}
	op = op_new(self, signature->name, run, nkeys, nvalues + nresults);
	if (!op)
		return NULL;
	nvalues = 0;
	for (size_t i = 0; good && signature->kinds[i]; i++) {
		char kind = signature->kinds[i];

		if (kind == 'k')
			good = op_take_key(op, 0, arguments[i]);
		if (kind == 'v')
			good = op_take_value(op, nvalues++, arguments[i]);
		for (size_t j = 0; good && kind == 'K' && j < nkeys; j++)
			good = op_take_key(op, j, PySequence_Fast_GET_ITEM(arguments[i], (Py_ssize_t)j));
		for (size_t j = 0; good && kind == 'V' && j < op->nvalues; j++)
			good = op_take_value(op, j, PySequence_Fast_GET_ITEM(arguments[i], (Py_ssize_t)j));
	}
	if (good)
		return op;
	op_drop(op);
	return NULL;
}

/* What all methods do: `ret_op` NULL with a result, or an exception, means that there is nothing more to do. */
static PyObject *run_method(StoreObject *self, const struct signature *signature, tdr_status (*run)(struct op *op),
                            PyObject *args, PyObject *kwargs, size_t nresults, struct op **ret_op)
{
	PyObject *arguments[4] = {NULL};
	bool waits = signature->kinds[0] == 'K' || signature == &get_signature;
	struct op *op;

	*ret_op = NULL;
	if (!parse(signature, (PyObject *)self, args, kwargs, arguments))
		return NULL;
	if (signature == &multi_set_signature &&
	    PySequence_Fast_GET_SIZE(arguments[0]) != PySequence_Fast_GET_SIZE(arguments[1]))
		return PyErr_Format(PyExc_ValueError, "multi_set(): there are %zd keys and %zd values",
		                    PySequence_Fast_GET_SIZE(arguments[0]), PySequence_Fast_GET_SIZE(arguments[1]));
	if (!self->store)
		return forward(self, signature, arguments);
	/* What multi_get reads comes in the places of values. */
	if (signature == &multi_get_signature)
		nresults = (size_t)PySequence_Fast_GET_SIZE(arguments[0]);
	op = op_from(self, signature, run, arguments, nresults);
	if (!op)
		return NULL;
	if (signature == &add_signature)
		op->number = PyLong_AsLongLong(arguments[1]);
	if (signature == &wait_signature && arguments[1] && !store_timeout_from_python(arguments[1], &op->timeout_ms)) {
		op_drop(op);
		return NULL;
	}
	if (op_run(op, waits))
		*ret_op = op;
	return NULL;
}

static PyObject *done(struct op *op, PyObject *result)
{
	op_drop(op);
	return result;
}

#define METHOD(name, nresults, make)                                                                                   \
	static PyObject *store_##name(StoreObject *self, PyObject *args, PyObject *kwargs)                             \
	{                                                                                                              \
		struct op *op;                                                                                         \
		PyObject *result = run_method(self, &name##_signature, run_##name, args, kwargs, nresults, &op);       \
                                                                                                                       \
		return op ? done(op, make) : result;                                                                   \
	}

static PyObject *bytes_of(const tdr_blob *value)
{
	return PyBytes_FromStringAndSize(value->data, (Py_ssize_t)value->size);
}

static PyObject *list_of(const struct op *op)
{
	PyObject *list = PyList_New((Py_ssize_t)op->nvalues);

	for (size_t i = 0; list && i < op->nvalues; i++) {
		PyObject *value = bytes_of(&op->values[i]);

		if (value)
			PyList_SET_ITEM(list, (Py_ssize_t)i, value);
		else
			Py_CLEAR(list);
	}
	return list;
}

METHOD(set, 0, Py_NewRef(Py_None))
METHOD(get, 1, bytes_of(&op->values[0]))
METHOD(add, 0, PyLong_FromLongLong(op->number))
METHOD(compare_set, 1, bytes_of(&op->values[2]))
METHOD(wait, 0, Py_NewRef(Py_None))
METHOD(check, 0, PyBool_FromLong(op->flag))
METHOD(delete_key, 0, PyBool_FromLong(op->flag))
METHOD(num_keys, 0, PyLong_FromLongLong(op->number))
METHOD(append, 0, Py_NewRef(Py_None))
METHOD(multi_get, 0, list_of(op))
METHOD(multi_set, 0, Py_NewRef(Py_None))

/* ---- timeouts ---- */

bool store_timeout_from_python(PyObject *object, int64_t *ret_timeout_ms)
{
	if (PyDelta_Check(object)) {
		int64_t days = PyDateTime_DELTA_GET_DAYS(object), seconds = PyDateTime_DELTA_GET_SECONDS(object);
		int64_t micros = PyDateTime_DELTA_GET_MICROSECONDS(object);

		/* Up: a timeout that is not 0 must not become "no limit". */
		*ret_timeout_ms = (days * 86400 + seconds) * 1000 + (micros + 999) / 1000;
	} else if (is_timeout(object)) {
		double seconds = PyFloat_AsDouble(object);

		if (seconds == -1.0 && PyErr_Occurred())
			return false;
		if (!(seconds > -1e12 && seconds < 1e12)) {
			PyErr_SetString(PyExc_ValueError, "a timeout has to be a finite number of seconds");
			return false;
		}
		*ret_timeout_ms = (int64_t)(seconds * 1000.0);
		if (*ret_timeout_ms == 0 && seconds > 0.0)
			*ret_timeout_ms = 1;
	} else {
		PyErr_Format(PyExc_TypeError, "a timeout is a datetime.timedelta, not %R", object);
		return false;
	}
	if (*ret_timeout_ms < 0)
		*ret_timeout_ms = 1; /* it is over already */
	if (*ret_timeout_ms > TIMEOUT_MAX_MS)
		*ret_timeout_ms = TIMEOUT_MAX_MS;
	return true;
}

PyObject *store_timeout_to_python(int64_t timeout_ms)
{
	int64_t seconds = timeout_ms / 1000;

	return PyDelta_FromDSU((int)(seconds / 86400), (int)(seconds % 86400), (int)(timeout_ms % 1000) * 1000);
}

static PyObject *store_set_timeout(StoreObject *self, PyObject *args, PyObject *kwargs)
{
	PyObject *arguments[4] = {NULL};
	int64_t timeout_ms;

	if (!parse(&set_timeout_signature, (PyObject *)self, args, kwargs, arguments) ||
	    !store_timeout_from_python(arguments[0], &timeout_ms))
		return NULL;
	if (self->below && !self->store)
		return forward(self, &set_timeout_signature, arguments);
	self->timeout_ms = timeout_ms;
	if (self->store)
		tdr_store_set_timeout(self->store, timeout_ms);
	Py_RETURN_NONE;
}

static PyObject *store_get_timeout(StoreObject *self, void *unused)
{
	if (self->below && !self->store)
		return PyObject_GetAttrString(self->below, "timeout");
	return store_timeout_to_python(self->store ? tdr_store_timeout(self->store) : self->timeout_ms);
}

static PyObject *store_has_extended_api(StoreObject *self, PyObject *unused)
{
	if (self->below && !self->store)
		return PyBool_FromLong(PyObject_HasAttrString(self->below, "multi_get"));
	return PyBool_FromLong(self->store != NULL);
}

/* ---- the class ---- */

static PyObject *store_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	StoreObject *self = (StoreObject *)type->tp_alloc(type, 0);

	if (self)
		self->timeout_ms = STORE_TIMEOUT_MS;
	return (PyObject *)self;
}

/* As object's, which complains of arguments that a subclass' __init__ takes only where there is none. */
static int store_init_object(StoreObject *self, PyObject *args, PyObject *kwargs)
{
	if (PyTuple_GET_SIZE(args) == 0 && (!kwargs || PyDict_GET_SIZE(kwargs) == 0))
		return 0;
	PyErr_Format(PyExc_TypeError, "%s(): incompatible constructor arguments. It takes none.",
	             Py_TYPE(self)->tp_name);
	return -1;
}

void store_drop(StoreObject *self)
{
	struct store_server *server = self->server;
	tdr_store *store = self->store;

	self->store = NULL;
	self->server = NULL;
	if (store) {
		Py_BEGIN_ALLOW_THREADS;
		tdr_store_unref(store);
		Py_END_ALLOW_THREADS;
	}
	store_server_drop(server);
}

int store_traverse(StoreObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->below);
	return 0;
}

int store_clear(StoreObject *self)
{
	Py_CLEAR(self->below);
	return 0;
}

void store_dealloc(StoreObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	PyObject *error_type, *error, *traceback;

	PyObject_GC_UnTrack(self);
	if (self->weak_references)
		PyObject_ClearWeakRefs((PyObject *)self);
	PyErr_Fetch(&error_type, &error, &traceback);
	store_drop(self);
	PyErr_Restore(error_type, error, traceback);
	store_clear(self);
	Py_XDECREF(self->prefix);
	Py_XDECREF(self->place);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMemberDef store_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(StoreObject, weak_references), READONLY, NULL},
    {NULL},
};

static PyGetSetDef store_fields[] = {
    {"timeout", (getter)store_get_timeout, NULL,
     PyDoc_STR("How long operations wait, a datetime.timedelta; zero: as long as it takes."), NULL},
    {NULL},
};

#define WITH_KEYWORDS(function) (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS

static PyMethodDef store_methods[] = {
    {"set", WITH_KEYWORDS(store_set),
     PyDoc_STR("set($self, key, value)\n--\n\nStores a value, a str or bytes, in place of what was there.")},
    {"get", WITH_KEYWORDS(store_get),
     PyDoc_STR("get($self, key)\n--\n\nWaits until the key is there, and gives its value as bytes.\n\nRaises:\n    "
               "RuntimeError: it did not come within the store's timeout.")},
    {"add", WITH_KEYWORDS(store_add),
     PyDoc_STR("add($self, key, amount)\n--\n\nAdds to a decimal number, 0 where there is none, and gives the "
               "sum.\n\nRaises:\n    ValueError: the value is no number.")},
    {"compare_set", WITH_KEYWORDS(store_compare_set),
     PyDoc_STR("compare_set($self, key, expected, desired)\n--\n\nStores `desired` where the value is `expected`; a "
               "missing one is as the empty one.\n\nReturns:\n    The value afterwards; `expected` where the key is "
               "missing and stays so.")},
    {"wait", WITH_KEYWORDS(store_wait),
     PyDoc_STR("wait($self, keys, timeout=None)\n--\n\nWaits until all keys are there.\n\nArgs:\n    keys: a list of "
               "str.\n    timeout: a datetime.timedelta; by default the store's.\n\nRaises:\n    RuntimeError: one did "
               "not come in time.")},
    {"check", WITH_KEYWORDS(store_check), PyDoc_STR("check($self, keys)\n--\n\nWhether all keys are there now.")},
    {"delete_key", WITH_KEYWORDS(store_delete_key),
     PyDoc_STR("delete_key($self, key)\n--\n\nDeletes a key, and gives whether it was there.")},
    {"num_keys", WITH_KEYWORDS(store_num_keys),
     PyDoc_STR("num_keys($self)\n--\n\nHow many keys there are; of a prefix store, in the whole store below.")},
    {"append", WITH_KEYWORDS(store_append),
     PyDoc_STR("append($self, key, value)\n--\n\nAdds to the end of a value, an empty one where there is none.")},
    {"multi_get", WITH_KEYWORDS(store_multi_get),
     PyDoc_STR("multi_get($self, keys)\n--\n\nWaits until all keys are there, and gives their values.")},
    {"multi_set", WITH_KEYWORDS(store_multi_set),
     PyDoc_STR("multi_set($self, keys, values)\n--\n\nStores several values.")},
    {"has_extended_api", (PyCFunction)store_has_extended_api, METH_NOARGS,
     PyDoc_STR("has_extended_api($self)\n--\n\nWhether there are append(), multi_get() and multi_set().")},
    {"set_timeout", WITH_KEYWORDS(store_set_timeout),
     PyDoc_STR("set_timeout($self, timeout)\n--\n\nSets how long operations wait, a datetime.timedelta; zero: as long "
               "as it takes.")},
    {NULL},
};

static PyType_Slot store_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Store()\n--\n\nA small table that the members of a group share: keys are strings, "
                                  "values bytes.\n\nA class in Python may be derived from it, with at least set, get, "
                                  "add, compare_set, wait and delete_key.")},
    {Py_tp_new, (void *)store_new},
    {Py_tp_init, (void *)store_init_object},
    {Py_tp_dealloc, (void *)store_dealloc},
    {Py_tp_traverse, (void *)store_traverse},
    {Py_tp_clear, (void *)store_clear},
    {Py_tp_members, (void *)store_members},
    {Py_tp_getset, (void *)store_fields},
    {Py_tp_methods, (void *)store_methods},
    {0, NULL},
};

static PyType_Spec store_spec = {
    .name = "tendril.store.Store",
    .basicsize = sizeof(StoreObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = store_slots,
};

bool store_kind_add(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
	if (!*type) {
		PyObject *bases = PyTuple_Pack(1, store_type);

		if (bases)
			*type = (PyTypeObject *)PyType_FromSpecWithBases(spec, bases);
		Py_XDECREF(bases);
	}
	return *type && PyModule_AddObjectRef(module, strrchr(spec->name, '.') + 1, (PyObject *)*type) == 0;
}

bool store_is_overridden(PyObject *object)
{
	for (const PyMethodDef *method = store_methods; method->ml_name; method++) {
		PyObject *own = PyObject_GetAttrString((PyObject *)Py_TYPE(object), method->ml_name);
		PyObject *native = PyObject_GetAttrString((PyObject *)store_type, method->ml_name);
		bool same = own == native;

		Py_XDECREF(own);
		Py_XDECREF(native);
		PyErr_Clear();
		if (!same)
			return true;
	}
	return false;
}

int store_init(PyObject *module)
{
	PyDateTime_IMPORT;
	if (!PyDateTimeAPI)
		return -1;
	if (!store_type)
		store_type = (PyTypeObject *)PyType_FromSpec(&store_spec);
	if (!store_type || PyModule_AddObjectRef(module, "Store", (PyObject *)store_type) < 0)
		return -1;
	return store_kinds_init(module) < 0 || store_tcp_init(module) < 0 ? -1 : 0;
}
