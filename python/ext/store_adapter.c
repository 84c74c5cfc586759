/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores that are written in Python, or come from elsewhere (torch.distributed), as stores of the library's.
 *
 * The library calls from any thread; the adapter takes the GIL and calls the object's methods. Where they are Python's, its wait()
 * is trusted to wait as long as it is told. Those of a store of torch's must not be: one that waits keeps other threads from
 * using the store, and after a wait that timed out its connection may give answers to questions of before. There the adapter looks
 * again and again by compare_set, which changes nothing where it expects what nobody has stored.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define MARKER_SIZE 16

/* How long to wait for the server of a TCPStore of torch's: it was there when that one was made. */
#define CONNECT_MS 5000

/* How often to look whether a key has come: first so, then twice as long each time. */
#define LOOK_FIRST_MS 1
#define LOOK_LAST_MS 32

/* How long an object's own wait() is told to wait at a time where there is no limit, or a longer one. */
#define SLICE_MS 10000

struct adapter {
	PyObject *object;
	bool looks;      /* by compare_set, instead of wait() */
	bool has_check;  /* there is check() */
	bool has_append; /* there is append() */
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool is_over(int64_t deadline_ms)
{
	return deadline_ms != 0 && now_ms() >= deadline_ms;
}

/* ---- exceptions as statuses ---- */

/* "ValueError: text (file.py:12)", of an exception that is no longer set. A new reference, or NULL without an exception. */
static PyObject *describe(PyObject *exception)
{
	PyObject *trace = PyException_GetTraceback(exception), *last, *file = NULL, *line = NULL, *text = NULL;
	PyObject *message = PyObject_Str(exception);

	PyErr_Clear();
	last = Py_XNewRef(trace);
	while (last) {
		PyObject *next = PyObject_GetAttrString(last, "tb_next");

		if (!next || next == Py_None) {
			Py_XDECREF(next);
			break;
		}
		Py_SETREF(last, next);
	}
	if (last) {
		PyObject *frame = PyObject_GetAttrString(last, "tb_frame");
		PyObject *code = frame ? PyObject_GetAttrString(frame, "f_code") : NULL;

		file = code ? PyObject_GetAttrString(code, "co_filename") : NULL;
		line = PyObject_GetAttrString(last, "tb_lineno");
		Py_XDECREF(code);
		Py_XDECREF(frame);
	}
	PyErr_Clear();
	if (message && file && line)
		text = PyUnicode_FromFormat("%s: %U (%S:%S)", Py_TYPE(exception)->tp_name, message, file, line);
	else if (message)
		text = PyUnicode_FromFormat("%s: %U", Py_TYPE(exception)->tp_name, message);
	else
		text = PyUnicode_FromString(Py_TYPE(exception)->tp_name);
	PyErr_Clear();
	Py_XDECREF(message);
	Py_XDECREF(file);
	Py_XDECREF(line);
	Py_XDECREF(last);
	Py_XDECREF(trace);
	return text;
}

static tdr_status status_of(PyObject *exception, const char *text)
{
	if (PyErr_GivenExceptionMatches(exception, PyExc_TimeoutError))
		return TDR_ETIMEDOUT;
	if (PyErr_GivenExceptionMatches(exception, PyExc_NotImplementedError))
		return TDR_EUNSUPPORTED;
	if (PyErr_GivenExceptionMatches(exception, PyExc_MemoryError))
		return TDR_ENOMEM;
	if (PyErr_GivenExceptionMatches(exception, PyExc_ValueError))
		return TDR_EINVAL;
	/* Torch's stores have no type for it, only these words. */
	if (PyErr_GivenExceptionMatches(exception, PyExc_RuntimeError) &&
	    (strstr(text, "imeout") || strstr(text, "timed out")))
		return TDR_ETIMEDOUT;
	return TDR_EIO;
}

/* Takes the exception that is set and makes it the text of the thread's last failure. */
static tdr_status fail(const struct adapter *self, const char *operation, const char *key)
{
	PyObject *type, *exception, *traceback, *description;
	const char *text = NULL;
	tdr_status status;

	PyErr_Fetch(&type, &exception, &traceback);
	PyErr_NormalizeException(&type, &exception, &traceback);
	if (traceback)
		PyException_SetTraceback(exception, traceback);
	description = describe(exception);
	text = description ? PyUnicode_AsUTF8(description) : NULL;
	PyErr_Clear();
	text = text ? text : Py_TYPE(exception)->tp_name;
	status = status_of(exception, text);
	if (status == TDR_ETIMEDOUT && key)
		tdr_fail_with(status, "key '%.300s' did not appear (%.300s)", key, text);
	else
		tdr_fail_with(status, "%s.%s(%s%.200s%s) of a store in Python: %s", Py_TYPE(self->object)->tp_name,
		              operation, key ? "'" : "", key ? key : "", key ? "'" : "", text);
	Py_XDECREF(description);
	Py_XDECREF(type);
	Py_XDECREF(exception);
	Py_XDECREF(traceback);
	return status;
}

static tdr_status closed(void)
{
	return tdr_fail_with(TDR_ESHUTDOWN, "the store is written in Python, which is going down");
}

/* Ends an operation: `result` (taken over; NULL: an exception is set) is there, or the operation has failed. */
static tdr_status finish(const struct adapter *self, PyObject *result, PyGILState_STATE state, const char *operation,
                         const char *key)
{
	tdr_status status = result ? TDR_OK : fail(self, operation, key);

	Py_XDECREF(result);
	python_leave(state);
	return status;
}

/* ---- values ---- */

/* The bytes of what a method has given, bytes or str. False: an exception. */
static bool blob_from(PyObject *value, tdr_blob *ret_value)
{
	Py_ssize_t size;
	const char *data;

	if (PyBytes_Check(value)) {
		data = PyBytes_AS_STRING(value);
		size = PyBytes_GET_SIZE(value);
	} else if (PyUnicode_Check(value)) {
		data = PyUnicode_AsUTF8AndSize(value, &size);
		if (!data)
			return false;
	} else {
		PyErr_Format(PyExc_TypeError, "it gave %R, and not bytes", value);
		return false;
	}
	ret_value->data = malloc((size_t)size + 1);
	if (!ret_value->data) {
		PyErr_NoMemory();
		return false;
	}
	memcpy(ret_value->data, data, (size_t)size);
	ret_value->data[size] = '\0';
	ret_value->size = (size_t)size;
	return true;
}

static PyObject *key_list(size_t count, const char *const keys[])
{
	PyObject *list = PyList_New((Py_ssize_t)count);

	for (size_t i = 0; list && i < count; i++) {
		PyObject *key = PyUnicode_FromString(keys[i]);

		if (key)
			PyList_SET_ITEM(list, (Py_ssize_t)i, key);
		else
			Py_CLEAR(list);
	}
	return list;
}

/* ---- looking ---- */

/* Reads a value as it is now: false where the key is missing. 1: it is there; 0: it is not; -1: an exception. */
static int look(const struct adapter *self, const char *key, tdr_blob *ret_value)
{
	char marker[MARKER_SIZE];
	tdr_blob value = {0};
	PyObject *result;
	bool there;

	/* The same bytes never come twice, and no program has them. Without a NUL, for stores that keep strings. */
	if (getrandom(marker, sizeof(marker), 0) != sizeof(marker)) {
		PyErr_SetFromErrno(PyExc_OSError);
		return -1;
	}
	for (size_t i = 0; i < sizeof(marker); i++)
		marker[i] = (char)('a' + (marker[i] & 15));
	result = PyObject_CallMethod(self->object, "compare_set", "sy#y#", key, marker, (Py_ssize_t)sizeof(marker),
	                             marker, (Py_ssize_t)sizeof(marker));
	if (!result || !blob_from(result, &value)) {
		Py_XDECREF(result);
		return -1;
	}
	Py_DECREF(result);
	there = value.size != sizeof(marker) || memcmp(value.data, marker, sizeof(marker)) != 0;
	if (there && ret_value)
		*ret_value = value;
	else
		tdr_blob_free(&value);
	return there;
}

/* Looks until a key is there; `ret_value` may be NULL. */
static tdr_status look_for(const struct adapter *self, const char *key, int64_t deadline_ms, tdr_blob *ret_value)
{
	int64_t pause_ms = LOOK_FIRST_MS;
	struct timespec pause = {0};

	for (;;) {
		PyGILState_STATE state;
		tdr_status status;
		int there;

		if (!python_enter(&state))
			return closed();
		there = look(self, key, ret_value);
		status = there < 0 ? fail(self, "compare_set", key) : TDR_OK;
		python_leave(state);
		if (there != 0)
			return status;
		if (is_over(deadline_ms))
			return tdr_fail_with(TDR_ETIMEDOUT, "key '%.300s' did not appear", key);
		pause.tv_nsec = pause_ms * 1000000;
		nanosleep(&pause, NULL);
		pause_ms = pause_ms * 2 < LOOK_LAST_MS ? pause_ms * 2 : LOOK_LAST_MS;
	}
}

/* ---- waiting ---- */

/* Calls wait(), with a timeout where it takes one. */
static PyObject *call_wait(const struct adapter *self, PyObject *keys, int64_t timeout_ms)
{
	PyObject *timeout = store_timeout_to_python(timeout_ms), *result, *type, *value, *traceback;

	if (!timeout)
		return NULL;
	result = PyObject_CallMethod(self->object, "wait", "OO", keys, timeout);
	Py_DECREF(timeout);
	if (result || !PyErr_ExceptionMatches(PyExc_TypeError))
		return result;
	/* Raised by the call itself, and not somewhere in the method? */
	PyErr_Fetch(&type, &value, &traceback);
	if (traceback) {
		PyErr_Restore(type, value, traceback);
		return NULL;
	}
	Py_XDECREF(type);
	Py_XDECREF(value);
	return PyObject_CallMethod(self->object, "wait", "O", keys);
}

static tdr_status wait_once(const struct adapter *self, size_t count, const char *const keys[], int64_t timeout_ms)
{
	PyGILState_STATE state;
	PyObject *list, *result = NULL;

	if (!python_enter(&state))
		return closed();
	list = key_list(count, keys);
	if (list)
		result = call_wait(self, list, timeout_ms);
	Py_XDECREF(list);
	return finish(self, result, state, "wait", keys[0]);
}

static tdr_status adapter_wait(void *context, size_t count, const char *const keys[], int64_t deadline_ms)
{
	const struct adapter *self = context;
	tdr_status status = TDR_OK;

	if (self->looks) {
		for (size_t i = 0; status == TDR_OK && i < count; i++)
			status = look_for(self, keys[i], deadline_ms, NULL);
		return status;
	}
	do {
		int64_t left = deadline_ms ? deadline_ms - now_ms() : SLICE_MS;

		left = left < 1 ? 1 : left < SLICE_MS ? left : SLICE_MS;
		status = wait_once(self, count, keys, left);
	} while (status == TDR_ETIMEDOUT && !is_over(deadline_ms));
	return status;
}

/* ---- operations ---- */

static tdr_status adapter_set(void *context, const char *key, const void *value, size_t value_size, int64_t deadline_ms)
{
	const struct adapter *self = context;
	PyGILState_STATE state;

	if (!python_enter(&state))
		return closed();
	return finish(self,
	              PyObject_CallMethod(self->object, "set", "sy#", key, (const char *)value, (Py_ssize_t)value_size),
	              state, "set", key);
}

static tdr_status adapter_get(void *context, const char *key, int64_t deadline_ms, tdr_blob *ret_value)
{
	const struct adapter *self = context;
	PyGILState_STATE state;
	PyObject *result;
	tdr_status status;

	if (self->looks)
		return look_for(self, key, deadline_ms, ret_value);
	/* get() takes no timeout. */
	status = adapter_wait(context, 1, &key, deadline_ms);
	if (status != TDR_OK)
		return status;
	if (!python_enter(&state))
		return closed();
	result = PyObject_CallMethod(self->object, "get", "s", key);
	if (result && !blob_from(result, ret_value))
		Py_CLEAR(result);
	return finish(self, result, state, "get", key);
}

static tdr_status adapter_add(void *context, const char *key, int64_t amount, int64_t deadline_ms, int64_t *ret_sum)
{
	const struct adapter *self = context;
	PyGILState_STATE state;
	PyObject *result;

	if (!python_enter(&state))
		return closed();
	result = PyObject_CallMethod(self->object, "add", "sL", key, (long long)amount);
	if (result) {
		*ret_sum = PyLong_AsLongLong(result);
		if (*ret_sum == -1 && PyErr_Occurred())
			Py_CLEAR(result);
	}
	return finish(self, result, state, "add", key);
}

static tdr_status adapter_compare_set(void *context, const char *key, const void *expected, size_t expected_size,
                                      const void *desired, size_t desired_size, int64_t deadline_ms,
                                      tdr_blob *ret_value)
{
	const struct adapter *self = context;
	PyGILState_STATE state;
	PyObject *result;

	if (!python_enter(&state))
		return closed();
	result = PyObject_CallMethod(self->object, "compare_set", "sy#y#", key, (const char *)expected,
	                             (Py_ssize_t)expected_size, (const char *)desired, (Py_ssize_t)desired_size);
	if (result && !blob_from(result, ret_value))
		Py_CLEAR(result);
	return finish(self, result, state, "compare_set", key);
}

/* By check(), by looking, or by a wait that is over at once. */
static tdr_status adapter_check(void *context, size_t count, const char *const keys[], int64_t deadline_ms,
                                bool *ret_all)
{
	const struct adapter *self = context;
	PyGILState_STATE state;
	PyObject *list, *result = NULL;
	int all = 1;

	if (!self->has_check && !self->looks) {
		tdr_status status = wait_once(self, count, keys, 1);

		*ret_all = status == TDR_OK;
		return status == TDR_ETIMEDOUT ? TDR_OK : status;
	}
	if (!python_enter(&state))
		return closed();
	if (self->has_check) {
		list = key_list(count, keys);
		result = list ? PyObject_CallMethod(self->object, "check", "O", list) : NULL;
		all = result ? PyObject_IsTrue(result) : -1;
		Py_XDECREF(list);
	} else {
		for (size_t i = 0; all > 0 && i < count; i++)
			all = look(self, keys[i], NULL);
	}
	*ret_all = all > 0;
	Py_XDECREF(result);
	return finish(self, all < 0 ? NULL : Py_NewRef(Py_None), state, "check", keys[0]);
}

static tdr_status adapter_delete_key(void *context, const char *key, int64_t deadline_ms, bool *ret_existed)
{
	const struct adapter *self = context;
	PyGILState_STATE state;
	PyObject *result;
	int existed = 0;

	if (!python_enter(&state))
		return closed();
	result = PyObject_CallMethod(self->object, "delete_key", "s", key);
	if (result)
		existed = PyObject_IsTrue(result);
	if (existed < 0)
		Py_CLEAR(result);
	*ret_existed = existed > 0;
	return finish(self, result, state, "delete_key", key);
}

static tdr_status adapter_num_keys(void *context, int64_t deadline_ms, int64_t *ret_count)
{
	const struct adapter *self = context;
	PyGILState_STATE state;
	PyObject *result;

	if (!python_enter(&state))
		return closed();
	result = PyObject_CallMethod(self->object, "num_keys", NULL);
	if (result) {
		*ret_count = PyLong_AsLongLong(result);
		if (*ret_count == -1 && PyErr_Occurred())
			Py_CLEAR(result);
	}
	return finish(self, result, state, "num_keys", NULL);
}

static tdr_status adapter_append(void *context, const char *key, const void *value, size_t value_size,
                                 int64_t deadline_ms)
{
	const struct adapter *self = context;
	PyGILState_STATE state;

	if (!self->has_append)
		return TDR_EUNSUPPORTED; /* the library makes it of others */
	if (!python_enter(&state))
		return closed();
	return finish(
	    self, PyObject_CallMethod(self->object, "append", "sy#", key, (const char *)value, (Py_ssize_t)value_size),
	    state, "append", key);
}

static void adapter_destroy(void *context)
{
	struct adapter *self = context;

	python_decref(self->object);
	free(self);
}

static const tdr_store_ops adapter_ops = {
    .size = sizeof(adapter_ops),
    .name = "python",
    .set = adapter_set,
    .get = adapter_get,
    .add = adapter_add,
    .compare_set = adapter_compare_set,
    .check = adapter_check,
    .wait = adapter_wait,
    .delete_key = adapter_delete_key,
    .num_keys = adapter_num_keys,
    .append = adapter_append,
    .destroy = adapter_destroy,
};

/* ---- which object is what ---- */

bool store_is_native(PyObject *object)
{
	return PyObject_TypeCheck(object, store_type) && ((StoreObject *)object)->store && !store_is_overridden(object);
}

/* Whether the class has the method, and it is not what our own base class has in its place. */
static bool has_method(PyObject *object, const char *name)
{
	PyObject *method = PyObject_GetAttrString((PyObject *)Py_TYPE(object), name);
	PyObject *base = PyObject_GetAttrString((PyObject *)store_type, name);
	bool has;

	PyErr_Clear();
	if (!method) {
		method = PyObject_GetAttrString(object, name);
		PyErr_Clear();
	}
	has = method && PyCallable_Check(method) &&
	      (method != base || ((StoreObject *)object)->store || ((StoreObject *)object)->below);
	Py_XDECREF(method);
	Py_XDECREF(base);
	return has;
}

/* Whether the class' own wait() is not written in Python. */
static bool waits_elsewhere(PyObject *object)
{
	PyObject *method = PyObject_GetAttrString((PyObject *)Py_TYPE(object), "wait");
	bool elsewhere = method && !PyFunction_Check(method) && !PyObject_TypeCheck(object, store_type);

	PyErr_Clear();
	Py_XDECREF(method);
	return elsewhere;
}

static tdr_store *adapter_new(PyObject *object)
{
	static const char *const needed[] = {"set", "get", "add", "compare_set", "wait"};
	struct adapter *self;
	tdr_store *store;
	tdr_status status;
	PyObject *timeout;
	int64_t timeout_ms;

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!has_method(object, needed[i])) {
			PyErr_Format(
			    PyExc_TypeError,
			    "a store has the methods set, get, add, compare_set, wait and delete_key; '%s' object "
			    "%R lacks %s()",
			    Py_TYPE(object)->tp_name, object, needed[i]);
			return NULL;
		}
	self = calloc(1, sizeof(*self));
	if (!self) {
		PyErr_NoMemory();
		return NULL;
	}
	self->object = Py_NewRef(object);
	self->looks = waits_elsewhere(object);
	self->has_check = has_method(object, "check");
	self->has_append = has_method(object, "append");
	status = tdr_store_new(&adapter_ops, self, &store);
	if (status != TDR_OK) {
		adapter_destroy(self);
		raise_last(status);
		return NULL;
	}
	timeout = PyObject_GetAttrString(object, "timeout");
	if (timeout && store_timeout_from_python(timeout, &timeout_ms))
		tdr_store_set_timeout(store, timeout_ms);
	PyErr_Clear(); /* it need not have one */
	Py_XDECREF(timeout);
	return store;
}

/* A prefix store that does no more than ours does, over an object in Python: the prefix is put before keys without it. */
static tdr_store *prefix_over(StoreObject *object)
{
	tdr_store *below = store_from_python(object->below), *store = NULL;
	const char *prefix = below ? PyUnicode_AsUTF8(object->prefix) : NULL;
	tdr_status status;

	if (!prefix)
		return NULL;
	status = tdr_store_prefix(prefix, below, &store);
	tdr_store_unref(below); /* that one has a reference of its own */
	if (status == TDR_OK)
		return store;
	raise_last(status);
	return NULL;
}

/* ---- torch's TCPStore ---- */

/* A connection to its server. */
struct connecting {
	char *host;
	uint16_t port;
	int64_t timeout_ms; /* of the store, once it is there */
	tdr_store *store;
};

static void connecting_work(void *context)
{
	struct connecting *connecting = context;

	if (tdr_store_tcp(connecting->host, connecting->port, CONNECT_MS, &connecting->store) == TDR_OK)
		tdr_store_set_timeout(connecting->store, connecting->timeout_ms);
}

static void connecting_free(void *context)
{
	struct connecting *connecting = context;

	tdr_store_unref(connecting->store);
	free(connecting->host);
	free(connecting);
}

/* NULL: the server does not answer; or an exception, of a signal's handler or for lack of memory. */
static tdr_store *connect_to(const char *host, uint16_t port, int64_t timeout_ms)
{
	struct connecting *connecting = calloc(1, sizeof(*connecting));
	tdr_store *store;

	if (!connecting || !(connecting->host = strdup(host))) {
		free(connecting);
		PyErr_NoMemory();
		return NULL;
	}
	connecting->port = port;
	connecting->timeout_ms = timeout_ms;
	if (run_interruptibly(connecting_work, connecting, connecting_free) < 0)
		return NULL;
	store = connecting->store;
	connecting->store = NULL;
	connecting_free(connecting);
	return store;
}

/*
 * A client of our own for a TCPStore of torch's, which sees what that one does and has none of its weaknesses. NULL without an
 * exception: the server does not answer, and the object has to be asked instead.
 */
static tdr_store *client_of_torch(PyObject *object)
{
	PyObject *torch = PyDict_GetItemString(PyImport_GetModuleDict(), "torch.distributed"); /* borrowed */
	PyObject *type = torch ? PyObject_GetAttrString(torch, "TCPStore") : NULL;
	PyObject *host = NULL, *port = NULL, *timeout = NULL;
	tdr_store *store = NULL;
	int64_t timeout_ms;

	if (type == (PyObject *)Py_TYPE(object)) {
		host = PyObject_GetAttrString(object, "host");
		port = PyObject_GetAttrString(object, "port");
		timeout = PyObject_GetAttrString(object, "timeout");
	}
	if (host && port && timeout && store_timeout_from_python(timeout, &timeout_ms)) {
		const char *name = PyUnicode_AsUTF8(host);
		long number = name ? PyLong_AsLong(port) : -1;

		PyErr_Clear();
		if (number > 0 && number <= UINT16_MAX)
			store = connect_to(name, (uint16_t)number, timeout_ms);
	} else {
		PyErr_Clear();
	}
	Py_XDECREF(timeout);
	Py_XDECREF(port);
	Py_XDECREF(host);
	Py_XDECREF(type);
	return store;
}

/* ---- any object ---- */

tdr_store *store_from_python(PyObject *object)
{
	tdr_store *store;

	if (store_is_native(object))
		return tdr_store_ref(((StoreObject *)object)->store);
	if (PyObject_TypeCheck(object, store_type) && ((StoreObject *)object)->below && !store_is_overridden(object)) {
		if (Py_EnterRecursiveCall(" while looking for what a store stands on"))
			return NULL;
		store = prefix_over((StoreObject *)object);
		Py_LeaveRecursiveCall();
		return store;
	}
	store = client_of_torch(object);
	return store || PyErr_Occurred() ? store : adapter_new(object);
}
