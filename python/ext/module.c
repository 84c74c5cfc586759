/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module `tendril._C`: its parts, its errors, and the hooks by which Python modules give it what is written in Python.
 *
 * It lives once in a process: subinterpreters are refused, so that what the module keeps may be kept in static variables, and
 * threads of the library's know which interpreter they enter. A second import gives the same types.
 */
#include "ext.h"

#include <string.h>
#include <unistd.h>

static pid_t home;                 /* the process that has loaded the module */
static PyObject *hooks;            /* a dict, name -> callable */
static PyObject *remote_traceback; /* the exception that stands for the far side's traceback */

/* What Python modules give, and what for. */
static const char *const hook_names[] = {
    "make_proxy", /* (rref, api, timeout) -> what rref.rpc_sync(), .rpc_async() and .remote() give */
    "get_type",   /* (rref, timeout, blocking) -> what rref._get_type() gives */
    "backward",   /* (rref, context id, retain_graph): rref.backward() */
};

/* ---- hooks ---- */

static PyObject *set_hooks(PyObject *module, PyObject *args, PyObject *kwargs)
{
	PyObject *name, *hook;
	Py_ssize_t position = 0;

	if (PyTuple_GET_SIZE(args) > 0)
		return PyErr_Format(PyExc_TypeError, "set_hooks() takes keyword arguments only");
	while (kwargs && PyDict_Next(kwargs, &position, &name, &hook)) {
		bool known = false;

		for (size_t i = 0; i < sizeof(hook_names) / sizeof(hook_names[0]); i++)
			known = known || PyUnicode_CompareWithASCIIString(name, hook_names[i]) == 0;
		if (!known)
			return PyErr_Format(PyExc_TypeError, "set_hooks(): there is no hook called '%U'", name);
		if (hook != Py_None && !PyCallable_Check(hook))
			return PyErr_Format(PyExc_TypeError, "set_hooks(): '%U' has to be callable, or None", name);
	}
	if (kwargs && PyDict_Update(hooks, kwargs) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyObject *hook_get(const char *name)
{
	PyObject *hook = PyDict_GetItemString(hooks, name);

	return hook && hook != Py_None ? Py_NewRef(hook) : NULL;
}

/* ---- timeouts ---- */

bool timeout_from_python(double seconds, int64_t *ret_timeout_ms)
{
	/* Less than a millisecond is none; but 1.001 s are 1001 ms, although 1.001 * 1000 is slightly less. */
	double milliseconds = seconds * 1000.0 + (seconds > 0.0 ? 1e-6 : 0.0);

	if (seconds == -1.0) {
		*ret_timeout_ms = TDR_TIMEOUT_DEFAULT;
		return true;
	}
	if (!(milliseconds > -9e15 && milliseconds < 9e15)) {
		PyErr_SetString(PyExc_ValueError, "a timeout has to be a finite number of seconds");
		return false;
	}
	*ret_timeout_ms = (int64_t)milliseconds;
	/* -1 ms would read as the default. */
	if (*ret_timeout_ms == TDR_TIMEOUT_DEFAULT)
		*ret_timeout_ms = -2;
	return true;
}

/* ---- errors of the far side, as exceptions ---- */

/* An exception of `type` with a text that came from elsewhere. A new reference, or NULL. */
static PyObject *exception_with(PyObject *type, const char *text)
{
	PyObject *message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
	PyObject *exception = message ? PyObject_CallOneArg(type, message) : NULL;

	Py_XDECREF(message);
	return exception;
}

/* Makes the far side's traceback, which may be NULL, the cause of an exception. */
static void set_cause(PyObject *exception, const char *traceback)
{
	PyObject *cause = traceback ? exception_with(remote_traceback, traceback) : NULL;

	if (cause)
		PyException_SetCause(exception, cause);
	PyErr_Clear();
}

/* The string under `key` of what describes an exception, or NULL. */
static const char *detail_string(tdr_value *detail, const char *key)
{
	tdr_value *value = detail ? tdr_dict_get(detail, key) : NULL;
	const char *text;

	return value && tdr_value_get_string(value, &text, NULL) == TDR_OK ? text : NULL;
}

/* An exception of a type that came in place of one; takes over `type`. */
static PyObject *exception_of_type(PyObject *type, tdr_value *detail)
{
	const char *text = detail_string(detail, "text"), *message = text ? strstr(text, ": ") : NULL;
	PyObject *exception = exception_with(type, message ? message + 2 : "");

	Py_DECREF(type);
	return exception;
}

/*
 * The exception as it was raised, where it came along and can be made again here; NULL without an exception otherwise. What ends the far
 * side's thread or process, such as SystemExit, is not to end this one's.
 */
static PyObject *original_exception(tdr_value *detail, const char *traceback)
{
	tdr_value *pickled = detail ? tdr_dict_get(detail, "pickled") : NULL;
	PyObject *exception = pickled && !tdr_value_is_none(pickled) ? python_from_value(pickled) : NULL;

	if (exception && PyType_Check(exception))
		exception = exception_of_type(exception, detail);
	if (exception && !PyObject_TypeCheck(exception, (PyTypeObject *)PyExc_Exception))
		Py_CLEAR(exception);
	PyErr_Clear();
	if (exception)
		set_cause(exception, traceback);
	return exception;
}

/* The type that a call's error is raised as. Borrowed. */
static PyObject *type_of_call_error(tdr_status status, tdr_value *detail)
{
	const char *type = detail_string(detail, "kind");

	if (!type)
		type = detail_string(detail, "type");
	if (status == TDR_ENOMEM)
		return PyExc_MemoryError;
	if (type && strcmp(type, "builtins.ValueError") == 0)
		return PyExc_ValueError;
	if (type && strcmp(type, "builtins.TypeError") == 0)
		return PyExc_TypeError;
	return PyExc_RuntimeError;
}

/* The text of the exception, to be freed with PyMem_Free: marked where it is a deadline's, with the traceback at its end. */
static char *exception_text(tdr_status status, const char *text, const char *traceback)
{
	const char *mark = status == TDR_ETIMEDOUT && strncmp(text, "RPC ran", 7) == 0 ? "RPCErr:1:" : "";
	size_t size = strlen(mark) + strlen(text) + (traceback ? strlen(traceback) : 0) + 4;
	char *whole = PyMem_Malloc(size);

	if (whole)
		snprintf(whole, size, "%s%s%s%s", mark, text, traceback ? "\n\n" : "", traceback ? traceback : "");
	return whole;
}

PyObject *raise_status(tdr_status status, const char *text, const char *traceback, tdr_value *detail,
                       enum error_style style)
{
	PyObject *exception = style == ERROR_OF_VALUE ? original_exception(detail, traceback) : NULL;

	if (!text)
		text = tdr_last_error();
	if (!exception) {
		/* What was raised, without what the library says of where: that is in the traceback. */
		const char *raised = detail_string(detail, "text");
		char *whole = exception_text(status, raised ? raised : text, traceback);

		if (!whole)
			return PyErr_NoMemory();
		exception = exception_with(type_of_call_error(status, detail), whole);
		PyMem_Free(whole);
		if (!exception)
			return NULL;
		set_cause(exception, traceback);
	}
	if (!PyObject_HasAttrString(exception, "status")) {
		PyObject *name = PyUnicode_FromString(tdr_status_name(status));

		if (!name || PyObject_SetAttrString(exception, "status", name) < 0)
			PyErr_Clear();
		Py_XDECREF(name);
	}
	PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
	Py_DECREF(exception);
	return NULL;
}

PyObject *raise_outcome(tdr_future *future, enum error_style style)
{
	static const char late[] = "RPC ran for more than set timeout: ";
	tdr_status status = tdr_future_status(future);
	const char *text = tdr_future_error(future);
	char *whole = NULL;

	/* Whoever has seen that the time is over, here or there: programs look for these words. */
	if (status == TDR_ETIMEDOUT && !strstr(text, "RPC ran for more than") && !strstr(text, "RRef creation")) {
		whole = PyMem_Malloc(sizeof(late) + strlen(text));
		if (whole)
			sprintf(whole, "%s%s", late, text);
	}
	raise_status(status, whole ? whole : text, tdr_future_traceback(future), tdr_future_detail(future), style);
	PyMem_Free(whole);
	return NULL;
}

PyObject *raise_null(void)
{
	return raise_last(getpid() == home ? TDR_ENOMEM : TDR_EFORKED);
}

PyObject *raise_last(tdr_status status)
{
	return raise_status(status, NULL, NULL, NULL, ERROR_OF_CALL);
}

/* ---- exceptions of this side, for who called ---- */

static char *raw_copy(PyObject *text)
{
	PyObject *bytes = text ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace") : NULL;
	char *copy = NULL;

	if (bytes) {
		copy = PyMem_RawMalloc((size_t)PyBytes_GET_SIZE(bytes) + 1);
		if (copy)
			memcpy(copy, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes) + 1);
		Py_DECREF(bytes);
	}
	PyErr_Clear();
	return copy;
}

/* "ValueError: text"; of an exception whose own __str__ fails the type alone. */
static char *summarize(PyObject *exception)
{
	PyObject *message = PyObject_Str(exception), *text;
	char *copy;

	PyErr_Clear();
	text = message ? PyUnicode_FromFormat("%s: %U", Py_TYPE(exception)->tp_name, message)
	               : PyUnicode_FromString(Py_TYPE(exception)->tp_name);
	copy = raw_copy(text);
	Py_XDECREF(text);
	Py_XDECREF(message);
	return copy;
}

static char *format_traceback(PyObject *exception)
{
	PyObject *module = PyImport_ImportModule("traceback");
	PyObject *none, *text = NULL, *trace = PyException_GetTraceback(exception), *lines;
	char *copy;

	lines = module ? PyObject_CallMethod(module, "format_exception", "OOO", Py_TYPE(exception), exception,
	                                     trace ? trace : Py_None)
	               : NULL;
	none = lines ? PyUnicode_FromString("") : NULL;
	if (none)
		text = PyUnicode_Join(none, lines);
	copy = raw_copy(text);
	Py_XDECREF(text);
	Py_XDECREF(none);
	Py_XDECREF(trace);
	Py_XDECREF(lines);
	Py_XDECREF(module);
	PyErr_Clear();
	return copy;
}

/* The name of the one of the types that calls raise as such, where the exception is of such a type or of one derived from it. */
static const char *kind_of(PyObject *exception)
{
	if (PyObject_TypeCheck(exception, (PyTypeObject *)PyExc_ValueError))
		return "builtins.ValueError";
	return PyObject_TypeCheck(exception, (PyTypeObject *)PyExc_TypeError) ? "builtins.TypeError" : NULL;
}

/* The exception, pickled; where that cannot be, its type alone. NULL without an exception: nothing of it can be. */
static tdr_value *pickled_exception(PyObject *exception)
{
	tdr_value *pickled = pickled_from_python(exception);

	if (!pickled) {
		PyErr_Clear();
		pickled = pickled_from_python((PyObject *)Py_TYPE(exception));
	}
	PyErr_Clear();
	return pickled;
}

/*
 * A dict: `type` ("module.Type"), `kind` (where it is a kind of ValueError or TypeError, which of them), `text` (the summary), and
 * `pickled`, the exception itself; its type where it cannot be pickled, and None where that cannot be, either.
 */
static tdr_value *describe_as_value(PyObject *exception, const char *summary)
{
	PyObject *type = (PyObject *)Py_TYPE(exception), *module, *qualname, *name = NULL;
	tdr_value *detail = tdr_dict_new(), *pickled;
	char *text;

	module = PyObject_GetAttrString(type, "__module__");
	qualname = PyObject_GetAttrString(type, "__qualname__");
	if (module && qualname)
		name = PyUnicode_FromFormat("%S.%S", module, qualname);
	PyErr_Clear();
	text = raw_copy(name);
	tdr_dict_set(detail, "type", tdr_string(text ? text : "?"));
	PyMem_RawFree(text);
	tdr_dict_set(detail, "text", tdr_string(summary));
	Py_XDECREF(name);
	Py_XDECREF(qualname);
	Py_XDECREF(module);
	if (kind_of(exception))
		tdr_dict_set(detail, "kind", tdr_string(kind_of(exception)));
	pickled = pickled_exception(exception);
	tdr_dict_set(detail, "pickled", pickled ? pickled : tdr_none());
	return detail;
}

void exception_describe(PyObject *exception, char **ret_text, char **ret_traceback, tdr_value **ret_detail)
{
	*ret_text = summarize(exception);
	*ret_traceback = format_traceback(exception);
	*ret_detail = describe_as_value(exception, *ret_text ? *ret_text : "?");
}

void exception_take(char **ret_text, char **ret_traceback, tdr_value **ret_detail)
{
	PyObject *type, *value, *traceback;

	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	if (value && traceback)
		PyException_SetTraceback(value, traceback);
	if (value) {
		exception_describe(value, ret_text, ret_traceback, ret_detail);
	} else {
		*ret_text = *ret_traceback = NULL;
		*ret_detail = NULL;
	}
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(traceback);
}

/* ---- the module ---- */

static PyMethodDef functions[] = {
    {"set_hooks", KEYWORD_METHOD(set_hooks), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("set_hooks(**hooks)\n--\n\nGives the module what is written in Python; None takes a hook back.")},
    {NULL},
};

static PyMethodDef close_function = {"_close", python_close, METH_NOARGS,
                                     PyDoc_STR("Ends the library's entering Python; run by atexit.")};

static int add_constants(PyObject *module)
{
	if (PyModule_AddStringConstant(module, "__version__", tdr_version()) < 0 ||
	    PyModule_AddStringConstant(module, "OBJECT_TYPE", OBJECT_TYPE) < 0)
		return -1;
#define ADD_STATUS(name, number, text)                                                                                 \
	if (PyModule_AddIntConstant(module, #name, number) < 0)                                                        \
		return -1;
	TDR_STATUS_LIST(ADD_STATUS)
#undef ADD_STATUS
	return 0;
}

/* Has the gate closed when the interpreter ends: after the program's own atexit functions, which are registered later. */
static int close_at_exit(PyObject *module)
{
	PyObject *atexit = PyImport_ImportModule("atexit"), *function, *result = NULL;

	if (!atexit)
		return -1;
	function = PyCFunction_New(&close_function, NULL);
	if (function)
		result = PyObject_CallMethod(atexit, "register", "O", function);
	Py_XDECREF(result);
	Py_XDECREF(function);
	Py_DECREF(atexit);
	return result ? 0 : -1;
}

/* The parts of the module, in the order they are set up. */
static int (*const parts[])(PyObject *module) = {
    worker_init, future_init, rref_init, name_init,     convert_init,
    store_init,  agent_init,  call_init, shortcut_init, unheard_init,
};

static int exec_module(PyObject *module)
{
	static bool loaded;

	if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
		PyErr_SetString(PyExc_ImportError,
		                "tendril cannot be used in a subinterpreter: import it in the main one");
		return -1;
	}
	if (python_is_closing()) {
		PyErr_SetString(PyExc_ImportError, "tendril cannot be imported again: the interpreter that it was "
		                                   "imported in has ended, or is about to");
		return -1;
	}
	if (!home) {
		home = getpid();
		gil_init();
	}
	if (!hooks)
		hooks = PyDict_New();
	if (!remote_traceback)
		remote_traceback = PyErr_NewExceptionWithDoc(
		    "tendril._C.RemoteTraceback", "The cause of an exception that another worker raised: where.", NULL,
		    NULL);
	if (!hooks || !remote_traceback || add_constants(module) < 0 || PyModule_AddFunctions(module, functions) < 0 ||
	    PyModule_AddObjectRef(module, "RemoteTraceback", remote_traceback) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (parts[i](module) < 0)
			return -1;
	if (!loaded && close_at_exit(module) < 0)
		return -1;
	loaded = true;
	return 0;
}

PyMODINIT_FUNC PyInit__C(void);

PyMODINIT_FUNC PyInit__C(void)
{
	static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)exec_module}, {0, NULL}};
	static PyModuleDef definition = {
	    PyModuleDef_HEAD_INIT,
	    .m_name = "tendril._C",
	    .m_doc = PyDoc_STR("The part of tendril that is written in C. Use the modules of the package instead."),
	    .m_slots = slots,
	};

	return PyModuleDef_Init(&definition);
}
