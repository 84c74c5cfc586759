/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Python functions as functions of the library's.
 *
 * One function of the library's, python::*, stands for all: it runs in a thread of the engine, finds the callable that the name
 * means (name.c), and calls it under the GIL. What it returns is kept as the object itself and converted when it leaves the
 * process, so that who holds a reference to it on this worker sees the very object. A function that returns a future (marked by
 * tendril.rpc.functions.async_execution) or a coroutine leaves the thread free until that completes.
 *
 * What a function raises is printed here, and goes to the caller with its traceback and, where it can be pickled, as it is.
 */
#include "ext.h"

#include <stdlib.h>
#include <string.h>

#define PICKLED_NAME "pickled"

/* What marks a function that returns a future. */
#define ASYNC_ATTRIBUTE "_wrapped_async_rpc_function"

/* A callable registered under a schema of its own, or one that finds callables by name. */
struct registered {
	PyObject *callable;
	bool takes_all;   /* its schema is name(...) */
	tdr_agent *agent; /* borrowed: it outlives what is registered with it */
};

/* A call whose result comes later. */
struct pending {
	tdr_call *call; /* counted */
	value_converter convert;
	tdr_worker self;
	char name[128]; /* the worker's: the agent may be gone by then */
};

/* ---- objects as values ---- */

static void destroy_object(void *object)
{
	python_decref(object);
}

/* What goes over the wire in an object's place. */
static tdr_status export_object(void *object, tdr_value **ret_value)
{
	char *text, *traceback;
	tdr_value *detail, *value;
	PyGILState_STATE state;
	tdr_status status;
	bool plain;

	if (!python_enter(&state))
		return tdr_fail_with(TDR_ESHUTDOWN, "the Python interpreter that has the object is going down");
	value = value_from_python(object, &plain);
	if (!value && !plain)
		value = pickled_from_python(object);
	if (value) {
		python_leave(state);
		*ret_value = value;
		return TDR_OK;
	}
	exception_take(&text, &traceback, &detail);
	python_leave(state);
	status = tdr_fail_with(TDR_EREMOTE, "%s", text ? text : "the object cannot be pickled");
	PyMem_RawFree(text);
	PyMem_RawFree(traceback);
	tdr_value_unref(detail);
	return status;
}

tdr_value *value_of_object(PyObject *object)
{
	static const tdr_native_ops ops = {.destroy = destroy_object, .export_value = export_object};
	bool plain;

	if (object == Py_None || PyBool_Check(object) || PyFloat_CheckExact(object) || PyUnicode_CheckExact(object) ||
	    PyBytes_CheckExact(object) || PyLong_CheckExact(object))
		return value_from_python(object, &plain);
	if (rref_check(object))
		return value_from_python(object, &plain);
	return tdr_native_shared(OBJECT_TYPE, Py_NewRef(object), &ops);
}

/* ---- returning ---- */

/* Prints what a function raised, as the place where somebody looks for it first. */
static void print_failure(const char *report)
{
	PyObject *file = Py_XNewRef(PySys_GetObject("stderr"));

	if (file && file != Py_None && (PyFile_WriteString(report, file) < 0 || PyFile_WriteString("\n", file) < 0))
		PyErr_Clear();
	Py_XDECREF(file);
}

void failure_take(tdr_worker self, char **ret_text, char **ret_report, tdr_value **ret_detail)
{
	char *traceback, *report = NULL;

	exception_take(ret_text, &traceback, ret_detail);
	if (traceback) {
		size_t size = strlen(traceback) + strlen(self.name) + 64;

		report = PyMem_RawMalloc(size);
		if (report) {
			snprintf(report, size, "On WorkerInfo(id=%u, name=%s):\n%s", (unsigned)self.id, self.name,
			         traceback);
			print_failure(report);
		}
	}
	PyMem_RawFree(traceback);
	*ret_report = report;
}

/* Fails the call with the exception that is set. With the GIL, which is let go meanwhile. */
static tdr_status fail_with_exception(tdr_call *call, tdr_worker self)
{
	char *text, *report;
	tdr_value *detail;
	tdr_status status;

	failure_take(self, &text, &report, &detail);
	Py_BEGIN_ALLOW_THREADS;
	status = tdr_call_fail(call, TDR_EREMOTE, text ? text : "an exception", report, detail);
	Py_END_ALLOW_THREADS;
	PyMem_RawFree(report);
	PyMem_RawFree(text);
	return status;
}

/* Returns `result` (given away), or fails with the exception that is set where it is NULL. */
static tdr_status finish(tdr_call *call, tdr_worker self, PyObject *result, value_converter convert)
{
	tdr_value *value = result ? convert(result) : NULL;
	tdr_status status;

	Py_XDECREF(result);
	if (!value)
		return fail_with_exception(call, self);
	Py_BEGIN_ALLOW_THREADS;
	status = tdr_return(call, value);
	Py_END_ALLOW_THREADS;
	return status;
}

/* ---- results that come later ---- */

static struct pending *pending_new(tdr_call *call, tdr_worker self, value_converter convert)
{
	struct pending *pending = malloc(sizeof(*pending));

	if (!pending) {
		PyErr_NoMemory();
		return NULL;
	}
	*pending = (struct pending){.call = tdr_call_ref(call), .convert = convert, .self = self};
	snprintf(pending->name, sizeof(pending->name), "%s", self.name);
	pending->self.name = pending->name;
	tdr_call_defer(call);
	return pending;
}

static void pending_free(struct pending *pending)
{
	Py_BEGIN_ALLOW_THREADS;
	tdr_call_unref(pending->call); /* fails the call, if it has no result */
	Py_END_ALLOW_THREADS;
	free(pending);
}

/* A callback of a Future. */
static void future_completed(PyObject *future, void *context)
{
	struct pending *pending = context;

	if (future)
		(void)finish(pending->call, pending->self, future_result(future), pending->convert);
	pending_free(pending);
}

static void free_pending_capsule(PyObject *capsule)
{
	struct pending *pending = PyCapsule_GetContext(capsule) ? NULL : PyCapsule_GetPointer(capsule, NULL);

	if (pending)
		pending_free(pending);
}

/* The pending call that a callback made by callback_for completes; NULL if it has been. */
static struct pending *pending_take(PyObject *capsule)
{
	if (PyCapsule_GetContext(capsule))
		return NULL;
	PyCapsule_SetContext(capsule, capsule);
	return PyCapsule_GetPointer(capsule, NULL);
}

/* The callback of a future of another make. */
static PyObject *foreign_completed(PyObject *capsule, PyObject *future)
{
	struct pending *pending = pending_take(capsule);

	if (pending) {
		(void)finish(pending->call, pending->self, PyObject_CallMethod(future, "value", NULL),
		             pending->convert);
		pending_free(pending);
	}
	Py_RETURN_NONE;
}

/* A Python function that completes the call with the future that it is called with. */
static PyObject *callback_for(tdr_call *call, tdr_worker self, value_converter convert)
{
	static PyMethodDef definition = {"completed", foreign_completed, METH_O, NULL};
	struct pending *pending = pending_new(call, self, convert);
	PyObject *capsule, *function;

	if (!pending)
		return NULL;
	capsule = PyCapsule_New(pending, NULL, free_pending_capsule);
	if (!capsule) {
		pending_free(pending);
		return NULL;
	}
	function = PyCFunction_New(&definition, capsule);
	Py_DECREF(capsule);
	return function;
}

static tdr_status finish_by_foreign(tdr_call *call, tdr_worker self, PyObject *future, value_converter convert)
{
	PyObject *callback = callback_for(call, self, convert), *result;

	result = callback ? PyObject_CallMethod(future, "add_done_callback", "O", callback) : NULL;
	Py_XDECREF(callback);
	Py_XDECREF(result);
	return result ? TDR_OK : fail_with_exception(call, self);
}

/* What a function gave that is marked to return a future. `future` is borrowed. */
static tdr_status finish_by_future(tdr_call *call, tdr_worker self, PyObject *future, value_converter convert)
{
	struct pending *pending;

	if (!future_like(future)) {
		PyObject *module = PyObject_GetAttrString((PyObject *)Py_TYPE(future), "__module__");

		PyErr_Format(
		    PyExc_RuntimeError,
		    "Functions decorated with @rpc.async_function must return a torch.futures.Future object, but got "
		    "%S.%s",
		    module ? module : Py_None, Py_TYPE(future)->tp_name);
		Py_XDECREF(module);
		return fail_with_exception(call, self);
	}
	if (!future_check(future))
		return finish_by_foreign(call, self, future, convert);
	pending = pending_new(call, self, convert);
	if (pending && future_on_done(future, future_completed, pending) == 0)
		return TDR_OK;
	if (pending)
		pending_free(pending);
	return fail_with_exception(call, self);
}

/* ---- calling ---- */

/* Called as wrapper(callable, args, kwargs) in place of what a request calls; NULL: there is none. */
static PyObject *call_wrapper;

PyObject *set_call_wrapper(PyObject *module, PyObject *wrapper)
{
	if (wrapper != Py_None && !PyCallable_Check(wrapper))
		return PyErr_Format(PyExc_TypeError, "what wraps served calls has to be callable, or None");
	Py_XSETREF(call_wrapper, wrapper == Py_None ? NULL : Py_NewRef(wrapper));
	Py_RETURN_NONE;
}

static PyObject *invoke(PyObject *callable, PyObject *args, PyObject *kwargs)
{
	PyObject *wrapper, *none, *result;

	if (!call_wrapper)
		return PyObject_Call(callable, args, kwargs);
	none = kwargs ? NULL : PyDict_New();
	wrapper = Py_NewRef(call_wrapper);
	result =
	    kwargs || none ? PyObject_CallFunctionObjArgs(wrapper, callable, args, kwargs ? kwargs : none, NULL) : NULL;
	Py_DECREF(wrapper);
	Py_XDECREF(none);
	return result;
}

static bool returns_future(PyObject *callable)
{
	/* Most functions have no attributes at all. */
	if (PyFunction_Check(callable) && !((PyFunctionObject *)callable)->func_dict)
		return false;
	if (PyCFunction_Check(callable) || PyType_Check(callable))
		return false;
	return PyObject_HasAttrString(callable, ASYNC_ATTRIBUTE);
}

static tdr_status call_python(tdr_call *call, tdr_agent *agent, PyObject *callable, PyObject *args, PyObject *kwargs,
                              value_converter convert)
{
	tdr_worker self = tdr_agent_worker(agent);
	PyObject *result = invoke(callable, args, kwargs);
	tdr_status status;

	if (!result)
		return fail_with_exception(call, self);
	if (returns_future(callable))
		status = finish_by_future(call, self, result, convert);
	else if (!PyCoro_CheckExact(result))
		return finish(call, self, result, convert);
	else
		status = answer_by_coroutine(call, agent, result, convert) ? TDR_OK : fail_with_exception(call, self);
	Py_DECREF(result);
	return status;
}

/* The callable and its arguments, which came pickled as one. */
static bool unpickle_call(tdr_call *call, PyObject **ret_callable, PyObject **ret_args, PyObject **ret_kwargs)
{
	tdr_value *args = tdr_arg(call, 0);
	PyObject *object, *sequence, *kwargs;

	if (tdr_value_count(args) != 1) {
		PyErr_SetString(PyExc_TypeError,
		                "python::pickled takes one argument: a callable and its arguments, pickled");
		return false;
	}
	object = python_from_value(tdr_value_item(args, 0));
	if (object && PyExceptionInstance_Check(object)) { /* what a pickler gives for what it cannot make here */
		PyErr_SetObject((PyObject *)Py_TYPE(object), object);
		Py_CLEAR(object);
	}
	sequence = object ? PySequence_Fast(object, "python::pickled takes a callable, its args and kwargs") : NULL;
	Py_XDECREF(object);
	if (!sequence)
		return false;
	if (PySequence_Fast_GET_SIZE(sequence) != 3) {
		PyErr_SetString(PyExc_TypeError, "python::pickled takes a callable, its args and kwargs");
		Py_DECREF(sequence);
		return false;
	}
	kwargs = PySequence_Fast_GET_ITEM(sequence, 2);
	if (kwargs != Py_None && !PyDict_Check(kwargs)) {
		PyErr_Format(PyExc_TypeError, "python::pickled takes a dict as kwargs, not a %s",
		             Py_TYPE(kwargs)->tp_name);
		Py_DECREF(sequence);
		return false;
	}
	*ret_callable = Py_NewRef(PySequence_Fast_GET_ITEM(sequence, 0));
	*ret_kwargs = kwargs == Py_None ? NULL : Py_NewRef(kwargs);
	*ret_args = PySequence_Tuple(PySequence_Fast_GET_ITEM(sequence, 1));
	Py_DECREF(sequence);
	return *ret_args;
}

/*
 * Runs what was `found`, or fails with the exception for which it was not; drops all three, any of which may be NULL, and leaves
 * Python.
 */
static tdr_status run_and_leave(tdr_call *call, tdr_agent *agent, bool found, PyObject *target[3],
                                PyGILState_STATE state)
{
	tdr_worker self = tdr_agent_worker(agent);
	tdr_status status = found ? call_python(call, agent, target[0], target[1], target[2], value_of_object)
	                          : fail_with_exception(call, self);

	for (size_t i = 0; i < 3; i++)
		Py_XDECREF(target[i]);
	python_leave(state);
	return status;
}

/* python::*(...) */
static tdr_status serve(tdr_call *call, void *context)
{
	const char *name = strstr(tdr_call_function_name(call), "::") + 2;
	PyObject *callable = NULL, *args = NULL, *kwargs = NULL;
	tdr_worker self = tdr_agent_worker(context);
	PyGILState_STATE state;
	bool found;

	if (!python_enter(&state))
		return tdr_fail(call, TDR_ESHUTDOWN, "the Python interpreter of worker '%s' is going down", self.name);
	if (strcmp(name, PICKLED_NAME) == 0) {
		found = unpickle_call(call, &callable, &args, &kwargs);
	} else {
		callable = callable_of_name(name);
		found = callable && arguments_to_python(tdr_arg(call, 0), tdr_arg(call, 1), &args, &kwargs);
	}
	return run_and_leave(call, context, found, (PyObject *[]){callable, args, kwargs}, state);
}

/* ---- callables under schemas of their own ---- */

static PyObject *positional_arguments(tdr_call *call)
{
	size_t count = tdr_arg_count(call);
	tdr_value **values = PyMem_New(tdr_value *, count + 1);
	PyObject *args;

	if (!values)
		return PyErr_NoMemory();
	for (size_t i = 0; i < count; i++)
		values[i] = tdr_arg(call, i);
	args = tuple_from_values(count, values);
	PyMem_Free(values);
	return args;
}

/* The result is converted at once, so that the library can check it against the schema. */
static tdr_status serve_registered(tdr_call *call, void *context)
{
	const struct registered *registered = context;
	tdr_worker self = tdr_agent_worker(registered->agent);
	PyObject *args, *kwargs = NULL;
	PyGILState_STATE state;
	tdr_status status;

	if (!python_enter(&state))
		return tdr_fail(call, TDR_ESHUTDOWN, "the Python interpreter is going down");
	if (!registered->takes_all)
		args = positional_arguments(call);
	else if (!arguments_to_python(tdr_arg(call, 0), tdr_arg(call, 1), &args, &kwargs))
		args = NULL;
	status =
	    args ? call_python(call, registered->agent, registered->callable, args, kwargs, schema_value_from_python)
		 : fail_with_exception(call, self);
	Py_XDECREF(args);
	Py_XDECREF(kwargs);
	python_leave(state);
	return status;
}

static void free_registered(void *context)
{
	struct registered *registered = context;

	python_decref(registered->callable);
	free(registered);
}

int serve_callable(tdr_agent *agent, const char *schema, PyObject *callable)
{
	struct registered *registered = malloc(sizeof(*registered));
	tdr_status status;

	if (!registered) {
		PyErr_NoMemory();
		return -1;
	}
	*registered =
	    (struct registered){.callable = Py_NewRef(callable), .takes_all = strstr(schema, "(...)"), .agent = agent};
	status = tdr_register_owned(agent, schema, serve_registered, registered, free_registered, 0);
	if (status == TDR_OK)
		return 0;
	raise_last(status);
	Py_DECREF(callable);
	free(registered);
	return -1;
}

/* ---- callables that are found by name ---- */

/* The prefixes of serve_names, "aten::"; a list. */
static PyObject *prefixes;

bool name_is_resolved(const char *name)
{
	for (Py_ssize_t i = 0; prefixes && i < PyList_GET_SIZE(prefixes); i++) {
		const char *prefix = PyUnicode_AsUTF8(PyList_GET_ITEM(prefixes, i));

		if (strncmp(name, prefix, strlen(prefix)) == 0)
			return true;
	}
	return false;
}

static tdr_status serve_resolved(tdr_call *call, void *context)
{
	const struct registered *registered = context;
	PyObject *callable, *args = NULL, *kwargs = NULL;
	tdr_worker self = tdr_agent_worker(registered->agent);
	PyGILState_STATE state;
	bool found;

	if (!python_enter(&state))
		return tdr_fail(call, TDR_ESHUTDOWN, "the Python interpreter of worker '%s' is going down", self.name);
	callable = PyObject_CallFunction(registered->callable, "s", tdr_call_function_name(call));
	found = callable && arguments_to_python(tdr_arg(call, 0), tdr_arg(call, 1), &args, &kwargs);
	return run_and_leave(call, registered->agent, found, (PyObject *[]){callable, args, kwargs}, state);
}

/* Adds to `prefixes`, unless it is there. */
static bool keep_prefix(const char *prefix)
{
	PyObject *text = PyUnicode_FromFormat("%s::", prefix);
	int there;

	if (!prefixes)
		prefixes = PyList_New(0);
	there = text && prefixes ? PySequence_Contains(prefixes, text) : -1;
	if (there == 0)
		there = PyList_Append(prefixes, text);
	Py_XDECREF(text);
	return there >= 0;
}

int serve_names(tdr_agent *agent, const char *prefix, PyObject *resolver)
{
	struct registered *registered = malloc(sizeof(*registered));
	char schema[128];
	tdr_status status;

	if (!registered) {
		PyErr_NoMemory();
		return -1;
	}
	snprintf(schema, sizeof(schema), "%s::*(...)", prefix);
	*registered = (struct registered){.callable = Py_NewRef(resolver), .takes_all = true, .agent = agent};
	status = tdr_register_owned(agent, schema, serve_resolved, registered, free_registered, 0);
	if (status == TDR_OK)
		return keep_prefix(prefix) ? 0 : -1;
	raise_last(status);
	Py_DECREF(resolver);
	free(registered);
	return -1;
}

int serve_python(tdr_agent *agent)
{
	tdr_status status = tdr_register(agent, "python::*(...)", serve, agent, 0);

	if (status == TDR_OK)
		return 0;
	raise_last(status);
	return -1;
}
