/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls from Python: agent.call and the shortcuts of the module.
 *
 * What is called is a function of the library's by name, whose arguments fit a schema; or a Python callable, by the name under
 * which the callee can import it, or pickled where there is none. Only the caller gives up at a deadline: the callee is not told,
 * and what it calls in turn has deadlines of its own.
 */
#include "ext.h"

#include <string.h>

/* What a pickled callable with its arguments is called as. */
#define PICKLED_NAME "python::pickled"

enum call_mode {
	MODE_SYNC,
	MODE_ASYNC,
	MODE_REMOTE,
};

/* A call on its way out. */
struct request {
	tdr_agent *agent; /* counted: another thread may shut the agent down meanwhile */
	const char *worker;
	tdr_rref *referent; /* whose owner is called, with the value as the first argument; NULL: `worker` is */
	const char *function;
	PyObject *name; /* keeps `function` */
	tdr_value *args;
	tdr_value *kwargs;
	int64_t timeout_ms;
	enum call_mode mode;
};

static PyObject *future_factory; /* NULL: Future */
static bool factory_reports;     /* what it makes has an attribute `_call`, and tells that of who asks about the call */

/* ---- whom to call ---- */

static bool worker_of_id(tdr_agent *agent, PyObject *id_object, const char **ret_name)
{
	long id = PyLong_AsLong(id_object);
	tdr_worker worker;
	tdr_status status;

	if ((id == -1 && PyErr_Occurred()) || id < INT16_MIN || id > INT16_MAX) {
		PyErr_Format(PyExc_TypeError, "incompatible function arguments: a worker's id is in [0, %d], not %S",
		             INT16_MAX, id_object);
		return false;
	}
	status = tdr_worker_by_id(agent, (uint32_t)id, &worker);
	if (status != TDR_OK) {
		if (id < 0)
			PyErr_Format(PyExc_RuntimeError, "name:%s,rank:%u could not find destination id %ld",
			             tdr_agent_worker(agent).name, (unsigned)tdr_agent_worker(agent).id, id);
		else
			raise_last(status);
		return false;
	}
	*ret_name = worker.name;
	return true;
}

/* The name of the worker that `to` (a name, an id or a WorkerInfo) means; valid as long as `to` and the agent. */
static bool worker_from_python(tdr_agent *agent, PyObject *to, const char **ret_name)
{
	if (PyLong_Check(to))
		return worker_of_id(agent, to, ret_name);
	if (worker_check(to)) {
		*ret_name = worker_name(to);
	} else if (PyUnicode_Check(to)) {
		*ret_name = PyUnicode_AsUTF8(to);
	} else {
		PyErr_Format(PyExc_TypeError, "a worker is given by its name, its id or its WorkerInfo, not by %R", to);
		return false;
	}
	return *ret_name;
}

/* ---- what to call ---- */

static bool pickled_arguments(struct request *request, PyObject *callable, PyObject *args, PyObject *kwargs)
{
	PyObject *call = kwargs ? PyTuple_Pack(3, callable, args, kwargs) : Py_BuildValue("(OO{})", callable, args);
	tdr_value *pickled = call ? pickled_from_python(call) : NULL;

	Py_XDECREF(call);
	if (!pickled)
		return false;
	request->function = PICKLED_NAME;
	request->args = tdr_tuple(1, &pickled);
	return true;
}

/* Fills in the function and its arguments. */
static bool aim(struct request *request, PyObject *function, PyObject *args, PyObject *kwargs)
{
	if (PyUnicode_Check(function)) {
		request->name = Py_NewRef(function);
	} else if (PyCallable_Check(function)) {
		request->name = name_of_callable(function);
		if (!request->name)
			return !PyErr_Occurred() && pickled_arguments(request, function, args, kwargs);
	} else {
		PyErr_SetString(PyExc_TypeError, "function should be callable.");
		return false;
	}
	request->function = PyUnicode_AsUTF8(request->name);
	if (!request->function)
		return false;
	if (strncmp(request->function, "python::", 8) != 0 && !name_is_resolved(request->function))
		return schema_arguments_from_python(args, kwargs, &request->args, &request->kwargs);
	return arguments_from_python(args, kwargs, &request->args, &request->kwargs);
}

static void unref_agent(void *agent)
{
	tdr_agent_unref(agent);
}

static void request_fini(struct request *request)
{
	tdr_value_unref(request->args);
	tdr_value_unref(request->kwargs);
	Py_XDECREF(request->name);
	if (request->agent)
		drop_handle(unref_agent, request->agent);
}

/* ---- results ---- */

/* A callback of a Future: completes a future of another make, `context`, a reference. */
static void complete_foreign(PyObject *future, void *context)
{
	PyObject *foreign = context, *result, *done;

	if (!future) {
		Py_DECREF(foreign);
		return;
	}
	result = future_result(future);
	if (result) {
		done = PyObject_CallMethod(foreign, "set_result", "(O)", result);
	} else {
		PyObject *type, *exception, *traceback;

		PyErr_Fetch(&type, &exception, &traceback);
		PyErr_NormalizeException(&type, &exception, &traceback);
		done = PyObject_CallMethod(foreign, "set_exception", "(O)", exception);
		Py_XDECREF(type);
		Py_XDECREF(exception);
		Py_XDECREF(traceback);
	}
	if (!done)
		PyErr_WriteUnraisable(foreign);
	Py_XDECREF(done);
	Py_XDECREF(result);
	Py_DECREF(foreign);
}

/* A future of the factory's make that completes as `future` (given away). */
static PyObject *foreign_future(PyObject *future)
{
	PyObject *factory = Py_NewRef(future_factory), *foreign = PyObject_CallNoArgs(factory);

	Py_DECREF(factory);
	if (foreign && factory_reports && PyObject_SetAttrString(foreign, "_call", future) < 0)
		Py_CLEAR(foreign);
	if (foreign && future_on_done_may_block(future, complete_foreign, Py_NewRef(foreign)) < 0) {
		Py_DECREF(foreign);
		Py_CLEAR(foreign);
	}
	Py_DECREF(future);
	return foreign;
}

PyObject *future_of_call(tdr_future *future, enum error_style style)
{
	PyObject *object = future_object(future, style);

	return object && future_factory ? foreign_future(object) : object;
}

static PyObject *async_result(tdr_future *future)
{
	PyObject *object;

	if (tdr_future_done(future) && tdr_future_status(future) == TDR_ENOWORKER)
		return result_of(future, ERROR_OF_CALL);
	object = future_object(future, ERROR_OF_CALL);
	if (object && (!future_factory || factory_reports))
		future_expect(object);
	return object && future_factory ? foreign_future(object) : object;
}

static PyObject *sync_result(tdr_future *future)
{
	if (wait_for(future, TDR_TIMEOUT_NEVER) > 0)
		return result_of(future, ERROR_OF_CALL);
	/* Nobody will see the result. */
	Py_BEGIN_ALLOW_THREADS;
	tdr_future_cancel(future);
	Py_END_ALLOW_THREADS;
	return NULL;
}

/* The deadline is over before the call is made. */
static PyObject *too_late(const struct request *request)
{
	char text[128];
	PyObject *type, *exception, *traceback, *future;

	snprintf(text, sizeof(text), "RPC ran for more than set timeout (%lld ms) and was not made",
	         (long long)request->timeout_ms);
	raise_status(TDR_ETIMEDOUT, text, NULL, NULL, ERROR_OF_CALL);
	if (request->mode == MODE_SYNC)
		return NULL;
	PyErr_Fetch(&type, &exception, &traceback);
	PyErr_NormalizeException(&type, &exception, &traceback);
	future = future_new();
	if (future) {
		future_fail(future, exception);
		if (future_factory)
			future = foreign_future(future);
	}
	Py_XDECREF(type);
	Py_XDECREF(exception);
	Py_XDECREF(traceback);
	return future;
}

/* What the request says. It keeps its arguments. */
static struct sending sending_of(const struct request *request, int64_t timeout_ms, unsigned flags)
{
	struct sending sending = {
	    .agent = request->agent,
	    .worker = request->worker,
	    .referent = request->referent,
	    .function = request->function,
	    .args = tdr_value_ref(request->args),
	    .kwargs = tdr_value_ref(request->kwargs),
	    .creates = request->mode == MODE_REMOTE,
	};

	tdr_rpc_options_init(&sending.options);
	sending.options.timeout_ms = timeout_ms;
	sending.options.flags = flags | TDR_RPC_NO_WAIT;
	return sending;
}

/* Makes the call. */
static PyObject *send(struct request *request)
{
	bool is_sync = request->mode == MODE_SYNC, done = false;
	struct sending sending =
	    sending_of(request, request->timeout_ms, TDR_RPC_LOCAL_TIMEOUT | (is_sync ? TDR_RPC_AWAITED : 0));
	tdr_future *future = NULL;
	PyObject *result;

	Py_BEGIN_ALLOW_THREADS;
	send_now(&sending, &future, NULL);
	if (future && is_sync) /* the answer mostly comes while the GIL is given up once */
		done = tdr_future_wait(future, SIGNAL_SLICE_MS, NULL) == TDR_OK;
	Py_END_ALLOW_THREADS;
	if (!done && was_refused(future, NULL)) {
		tdr_future_unref(future);
		if (send_patiently(&sending, &future, NULL) < 0)
			return NULL;
	}
	if (!future)
		return raise_null();
	if (done)
		result = python_from_value(tdr_future_value(future));
	else
		result = is_sync ? sync_result(future) : async_result(future);
	tdr_future_unref(future); /* the request holds the agent, and so the engine */
	return result;
}

static PyObject *send_remote(struct request *request)
{
	tdr_worker worker;
	tdr_rref *rref = NULL;
	struct sending sending;
	tdr_status status = tdr_worker_by_name(request->agent, request->worker, &worker);

	if (status != TDR_OK)
		return raise_last(status);
	sending = sending_of(request, request->timeout_ms < TDR_TIMEOUT_DEFAULT ? 1 : request->timeout_ms, 0);
	Py_BEGIN_ALLOW_THREADS;
	send_now(&sending, NULL, &rref);
	Py_END_ALLOW_THREADS;
	if (was_refused(NULL, rref)) {
		tdr_rref_unref(rref);
		if (send_patiently(&sending, NULL, &rref) < 0)
			return NULL;
	}
	return rref_object_of_remote(rref);
}

static PyObject *dispatch(struct request *request)
{
	if (request->mode == MODE_REMOTE)
		return send_remote(request);
	return request->timeout_ms >= TDR_TIMEOUT_DEFAULT ? send(request) : too_late(request);
}

/* ---- the entries ---- */

static bool mode_from_python(PyObject *object, enum call_mode *ret_mode)
{
	long mode = PyLong_AsLong(object);

	if (mode == -1 && PyErr_Occurred())
		return false;
	if (mode < MODE_SYNC || mode > MODE_REMOTE) {
		PyErr_Format(PyExc_ValueError, "the mode of a call is SYNC (0), ASYNC (1) or REMOTE (2), not %ld",
		             mode);
		return false;
	}
	*ret_mode = (enum call_mode)mode;
	return true;
}

/* Of `args` and `kwargs` as users may give them: None and all that is empty mean none. New references. */
static bool tidy_arguments(PyObject **args, PyObject **kwargs)
{
	PyObject *given_args = *args, *given_kwargs = *kwargs;

	if (given_args && (PyTuple_CheckExact(given_args) || PyList_CheckExact(given_args)))
		*args = Py_NewRef(given_args);
	else if (!given_args || given_args == Py_None)
		*args = PyTuple_New(0);
	else
		*args = PySequence_Tuple(given_args);
	*kwargs = NULL;
	if (!*args)
		return false;
	if (!given_kwargs || given_kwargs == Py_None)
		return true;
	if (PyDict_CheckExact(given_kwargs)) {
		*kwargs = Py_NewRef(given_kwargs);
		return true;
	}
	*kwargs = PyDict_New();
	if (*kwargs && PyDict_Update(*kwargs, given_kwargs) == 0)
		return true;
	Py_CLEAR(*kwargs);
	Py_CLEAR(*args);
	return false;
}

static bool begin(struct request *request, AgentObject *agent, PyObject *to, PyObject *timeout)
{
	double seconds = PyFloat_AsDouble(timeout);
	tdr_agent *native = agent_of(agent);

	if (!native || (seconds == -1.0 && PyErr_Occurred()) || !timeout_from_python(seconds, &request->timeout_ms))
		return false;
	request->agent = tdr_agent_ref(native);
	return worker_from_python(native, to, &request->worker);
}

PyObject *agent_make_call(AgentObject *agent, PyObject *to, PyObject *function, PyObject *args, PyObject *kwargs,
                          PyObject *timeout, int mode)
{
	struct request request = {.mode = (enum call_mode)mode};
	PyObject *result = NULL;

	if (!tidy_arguments(&args, &kwargs))
		return NULL;
	Py_INCREF(agent); /* the current one may change meanwhile */
	if (begin(&request, agent, to, timeout) && aim(&request, function, args, kwargs))
		result = dispatch(&request);
	Py_DECREF(args);
	Py_XDECREF(kwargs);
	request_fini(&request);
	Py_DECREF(agent);
	return result;
}

/* Arguments by position or name into `slots` [count]; the first `required` must be there. */
static bool take_arguments(const char *function, const char *const names[], size_t count, size_t required,
                           PyObject *const *args, Py_ssize_t nargs, PyObject *keywords, PyObject *slots[])
{
	Py_ssize_t nkeywords = keywords ? PyTuple_GET_SIZE(keywords) : 0;

	if ((size_t)nargs > count) {
		PyErr_Format(PyExc_TypeError, "%s() takes at most %zu arguments (%zd given)", function, count, nargs);
		return false;
	}
	for (Py_ssize_t i = 0; i < nargs; i++)
		slots[i] = args[i];
	for (Py_ssize_t i = 0; i < nkeywords; i++) {
		PyObject *keyword = PyTuple_GET_ITEM(keywords, i);
		size_t at = 0;

		while (at < count && PyUnicode_CompareWithASCIIString(keyword, names[at]) != 0)
			at++;
		if (at == count || slots[at]) {
			PyErr_Format(PyExc_TypeError, "%s(): argument '%U' is unknown, or given twice", function,
			             keyword);
			return false;
		}
		slots[at] = args[nargs + i];
	}
	for (size_t i = 0; i < required; i++) {
		if (!slots[i]) {
			PyErr_Format(PyExc_TypeError, "%s() misses argument '%s'", function, names[i]);
			return false;
		}
	}
	return true;
}

PyObject *agent_call(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *keywords)
{
	static const char *const names[] = {"to", "func", "args", "kwargs", "timeout", "mode", "is_async"};
	PyObject *slots[7] = {NULL};
	enum call_mode mode;

	if (!take_arguments("call", names, 7, 6, args, nargs, keywords, slots) || !mode_from_python(slots[5], &mode))
		return NULL;
	return agent_make_call((AgentObject *)self, slots[0], slots[1], slots[2], slots[3], slots[4], mode);
}

PyObject *agent_call_pickled(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *keywords)
{
	static const char *const names[] = {"to", "payload", "tensors", "rrefs", "timeout", "mode", "is_async"};
	struct request request = {.function = PICKLED_NAME};
	PyObject *slots[7] = {NULL}, *result = NULL;
	tdr_value *payload;

	if (!take_arguments("call_pickled", names, 7, 6, args, nargs, keywords, slots) ||
	    !mode_from_python(slots[5], &request.mode))
		return NULL;
	if (begin(&request, (AgentObject *)self, slots[0], slots[4])) {
		payload = value_from_payload(slots[1], slots[2], slots[3]);
		if (payload) {
			request.args = tdr_tuple(1, &payload);
			result = dispatch(&request);
		}
	}
	request_fini(&request);
	return result;
}

PyObject *agent_call_on(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *keywords)
{
	static const char *const names[] = {"rref", "name", "args", "kwargs", "timeout", "mode"};
	struct request request = {.agent = NULL};
	PyObject *slots[6] = {NULL}, *given_args, *given_kwargs, *owner, *result = NULL;

	if (!take_arguments("call_on", names, 6, 6, args, nargs, keywords, slots) ||
	    !mode_from_python(slots[5], &request.mode))
		return NULL;
	request.referent = rref_of(slots[0]);
	request.function = PyUnicode_Check(slots[1]) ? PyUnicode_AsUTF8(slots[1]) : NULL;
	if (!request.referent || !request.function)
		return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "the name of a function is a str");
	given_args = slots[2];
	given_kwargs = slots[3];
	owner = PyUnicode_FromString(tdr_rref_owner_name(request.referent));
	if (owner && tidy_arguments(&given_args, &given_kwargs)) {
		if (begin(&request, (AgentObject *)self, owner, slots[4]) &&
		    schema_arguments_from_python(given_args, given_kwargs, &request.args, &request.kwargs))
			result = dispatch(&request);
		Py_DECREF(given_args);
		Py_XDECREF(given_kwargs);
	}
	request_fini(&request);
	Py_XDECREF(owner);
	return result;
}

static PyObject *rpc_sync(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *keywords)
{
	static const char *const names[] = {"to", "func", "args", "kwargs", "timeout"};
	PyObject *slots[5] = {NULL};
	AgentObject *agent = agent_current();

	if (!agent || !take_arguments("rpc_sync", names, 5, 5, args, nargs, keywords, slots))
		return NULL;
	return agent_make_call(agent, slots[0], slots[1], slots[2], slots[3], slots[4], MODE_SYNC);
}

static PyObject *set_future_factory(PyObject *module, PyObject *factory)
{
	if (factory != Py_None && !PyCallable_Check(factory))
		return PyErr_Format(PyExc_TypeError, "the factory of futures has to be callable, or None");
	Py_XSETREF(future_factory, factory == Py_None ? NULL : Py_NewRef(factory));
	factory_reports = PyObject_HasAttrString(factory, "_call");
	Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"rpc_sync", KEYWORD_METHOD(rpc_sync), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("rpc_sync(to, func, args, kwargs, timeout)\n--\n\nCalls by the current agent, and waits.")},
    {"set_future_factory", set_future_factory, METH_O,
     PyDoc_STR("set_future_factory(factory)\n--\n\nWhat makes the futures that calls return; None: Future.")},
    {"set_call_wrapper", set_call_wrapper, METH_O,
     PyDoc_STR("set_call_wrapper(wrapper)\n--\n\nHas wrapper(callable, args, kwargs) called in place of each served "
               "callable; None: no more.")},
    {NULL},
};

int call_init(PyObject *module)
{
	if (PyModule_AddIntConstant(module, "SYNC", MODE_SYNC) < 0 ||
	    PyModule_AddIntConstant(module, "ASYNC", MODE_ASYNC) < 0 ||
	    PyModule_AddIntConstant(module, "REMOTE", MODE_REMOTE) < 0)
		return -1;
	return PyModule_AddFunctions(module, functions);
}
