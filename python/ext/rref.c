/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PyRRef: a counted reference to a value that lives on some worker.
 *
 * A thin handle: the counting is the library's. Handles compare by identity. Dropping the last one never waits, so it may happen in
 * any thread, also in the garbage collector. The value of an owner's handle made in Python is the very object it was made of.
 */
#include "ext.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

/* The longest text that the library prints for a reference. */
#define RREF_TEXT_MAX 256

typedef struct RRefObject {
	PyObject_HEAD tdr_rref *rref; /* NULL until it is made */
	tdr_future *creation;         /* of one that rpc.remote() has made here, else NULL */
	struct unheard unheard;       /* of one, too, until somebody asks for the value or hands the reference on */
	PyObject *profiling_future;
	PyObject *dictionary; /* what Python code keeps with it, such as its type once asked for */
	PyObject *weak_references;
} RRefObject;

PyTypeObject *rref_type;

bool rref_check(PyObject *object)
{
	return PyObject_TypeCheck(object, rref_type);
}

tdr_rref *rref_of(PyObject *rref)
{
	if (!rref_check(rref))
		PyErr_Format(PyExc_TypeError, "an RRef is wanted, not %s", Py_TYPE(rref)->tp_name);
	else if (!((RRefObject *)rref)->rref)
		PyErr_SetString(PyExc_RuntimeError, "the RRef refers to nothing: its __init__ has not run");
	else
		return ((RRefObject *)rref)->rref;
	return NULL;
}

/*
 * Raises where the call that creates it could not be sent, or its time was over before its function had ended. The library goes on
 * with one that its owner has taken up by then; programs rely on its being lost, and on being told at once.
 */
static bool creation_is_lost(PyObject *object)
{
	const RRefObject *self = (const RRefObject *)object;
	tdr_status status =
	    self->creation && tdr_future_done(self->creation) ? tdr_future_status(self->creation) : TDR_OK;

	if (status != TDR_ETIMEDOUT && status != TDR_EIO)
		return false;
	raise_status(
	    TDR_ETIMEDOUT,
	    "RRef creation via rpc.remote() timed out, and it is possible that the RRef on the owner node does not "
	    "exist.",
	    NULL, NULL, ERROR_OF_CALL);
	return true;
}

static void unref_rref(void *rref)
{
	tdr_rref_unref(rref);
}

static void unref_future(void *future)
{
	tdr_future_unref(future);
}

PyObject *rref_object(tdr_rref *rref)
{
	RRefObject *self;

	if (!rref)
		return raise_null();
	self = (RRefObject *)rref_type->tp_alloc(rref_type, 0);
	if (!self) {
		drop_handle(unref_rref, rref);
		return NULL;
	}
	self->rref = rref;
	return (PyObject *)self;
}

/*
 * What becomes of the value is to be told. An owner knows all of it; others learn without asking only whether the call has reached its
 * end, not whether its function has raised something there.
 */
static void expect(RRefObject *self)
{
	tdr_future *outcome = tdr_rref_is_owner(self->rref) ? tdr_rref_fetch(self->rref, TDR_TIMEOUT_NEVER)
	                                                    : tdr_future_ref(self->creation);

	if (outcome)
		unheard_add(&self->unheard, outcome);
	tdr_future_unref(outcome); /* not the last reference: the list has one */
}

PyObject *rref_object_of_remote(tdr_rref *rref)
{
	RRefObject *self = (RRefObject *)rref_object(rref);

	if (!self)
		return NULL;
	self->creation = tdr_rref_future(rref);
	expect(self);
	return (PyObject *)self;
}

/* Somebody learns, here or where it goes, what has become of the value. */
static void heard(RRefObject *self)
{
	unheard_remove(&self->unheard);
}

/* ---- errors ---- */

/* The text with each `from` in it replaced by `to`, which is no longer. */
static void replace(char *text, const char *from, const char *to)
{
	size_t from_size = strlen(from), to_size = strlen(to);

	for (char *found; (found = strstr(text, from)); text = found + to_size) {
		memcpy(found, to, to_size); /* NOLINT(bugprone-not-null-terminated-result): text follows */
		memmove(found + to_size, found + from_size, strlen(found + from_size) + 1);
	}
}

/* Writes `rref` as exceptions name it, unlike what it is printed as. */
static void rename_ids(char *text)
{
	replace(text, "RRefId = ", "rref_id=");
	replace(text, "ForkId = ", "fork_id=");
}

/* Raises why the value of `rref` cannot be had: an error of a use that its state does not allow. */
static PyObject *raise_of_state(tdr_rref *rref, tdr_status status, const char *text)
{
	char name[RREF_TEXT_MAX], *copy = strdup(text);

	if (status == TDR_ESHUTDOWN && !tdr_rref_is_owner(rref)) {
		tdr_rref_print(rref, name, sizeof(name));
		rename_ids(name);
		PyErr_Format(PyExc_RuntimeError, "%s has been deleted. Cannot call to_here() on it after deletion.",
		             name);
	} else {
		if (copy)
			rename_ids(copy);
		raise_status(status, copy ? copy : text, NULL, NULL, ERROR_OF_VALUE);
	}
	free(copy);
	return NULL;
}

/* The value of `rref` that `future` (given away; NULL for lack of memory) brings. */
static PyObject *await_value(tdr_rref *rref, tdr_future *future)
{
	PyObject *result = NULL;
	tdr_status status;

	if (!future)
		return raise_null();
	if (wait_for(future, TDR_TIMEOUT_NEVER) > 0) {
		status = tdr_future_status(future);
		if (status == TDR_ESHUTDOWN || status == TDR_ESTATE)
			raise_of_state(rref, status, tdr_future_error(future));
		else
			result = result_of(future, ERROR_OF_VALUE);
	}
	Py_BEGIN_ALLOW_THREADS;
	tdr_future_unref(future);
	Py_END_ALLOW_THREADS;
	return result;
}

tdr_rref *rref_to_send(PyObject *object)
{
	tdr_rref *rref = rref_of(object);
	tdr_future *value;
	tdr_status status;

	if (!rref)
		return NULL;
	heard((RRefObject *)object);
	if (creation_is_lost(object))
		return NULL;
	/* A user's is refused by the library; an owner's only says what its value is. */
	value = tdr_rref_is_owner(rref) ? tdr_rref_fetch(rref, TDR_TIMEOUT_NEVER) : NULL;
	status = value ? tdr_future_status(value) : TDR_OK;
	if (status != TDR_OK && strstr(tdr_future_error(value), "RRef creation")) {
		raise_outcome(value, ERROR_OF_CALL);
		rref = NULL;
	}
	tdr_future_unref(value); /* not the last reference: the rref has the future, too */
	return rref;
}

/* ---- methods ---- */

static PyObject *rref_is_owner(RRefObject *self, PyObject *unused)
{
	tdr_rref *rref = rref_of((PyObject *)self);

	return rref ? PyBool_FromLong(tdr_rref_is_owner(rref)) : NULL;
}

static PyObject *rref_confirmed_by_owner(RRefObject *self, PyObject *unused)
{
	tdr_rref *rref = rref_of((PyObject *)self);

	return rref ? PyBool_FromLong(tdr_rref_confirmed_by_owner(rref)) : NULL;
}

static PyObject *rref_owner(RRefObject *self, PyObject *unused)
{
	tdr_rref *rref = rref_of((PyObject *)self);
	tdr_worker owner;

	if (!rref)
		return NULL;
	owner = tdr_rref_owner(rref);
	return worker_object(&owner);
}

static PyObject *rref_owner_name(RRefObject *self, PyObject *unused)
{
	tdr_rref *rref = rref_of((PyObject *)self);

	return rref ? PyUnicode_FromString(tdr_rref_owner_name(rref)) : NULL;
}

static PyObject *rref_to_here(RRefObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"timeout", NULL};
	tdr_rref *rref = rref_of((PyObject *)self);
	double timeout = -1.0;
	int64_t timeout_ms;
	tdr_future *future;

	heard(self);
	if (!rref || !PyArg_ParseTupleAndKeywords(args, kwargs, "|d:to_here", keywords, &timeout) ||
	    !timeout_from_python(timeout, &timeout_ms) || creation_is_lost((PyObject *)self))
		return NULL;
	if (tdr_rref_is_owner(rref) && !agent_current())
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	future = tdr_rref_fetch(rref, timeout_ms);
	Py_END_ALLOW_THREADS;
	return await_value(rref, future);
}

static PyObject *rref_local_value(RRefObject *self, PyObject *unused)
{
	tdr_rref *rref = rref_of((PyObject *)self);
	tdr_value *value;
	tdr_status status;

	heard(self);
	if (!rref)
		return NULL;
	if (tdr_rref_is_owner(rref))
		return agent_current() ? await_value(rref, tdr_rref_fetch(rref, TDR_TIMEOUT_NEVER)) : NULL;
	status = tdr_rref_local_value(rref, 1, &value);
	if (status != TDR_OK)
		return raise_of_state(rref, status, tdr_last_error());
	tdr_value_unref(value);
	return PyErr_Format(PyExc_SystemError, "a user of a reference was given its value");
}

static PyObject *rref_get_future(RRefObject *self, PyObject *unused)
{
	tdr_rref *rref = rref_of((PyObject *)self);
	PyObject *object = NULL;
	tdr_future *future;

	heard(self);
	if (!rref)
		return NULL;
	future = tdr_rref_future(rref);
	if (!future)
		return raise_null();
	if (tdr_future_status(future) == TDR_ESTATE)
		raise_of_state(rref, TDR_ESTATE, tdr_future_error(future));
	else
		object = future_of_call(future, ERROR_OF_CALL);
	tdr_future_unref(future);
	return object;
}

/* ---- methods that Python code has ---- */

static PyObject *call_hook(const char *name, const char *format, ...)
{
	PyObject *hook = hook_get(name), *args, *result = NULL;
	va_list list;

	if (!hook)
		return PyErr_Format(PyExc_RuntimeError, "this needs the package tendril.rpc: import it first");
	va_start(list, format);
	args = Py_VaBuildValue(format, list);
	va_end(list);
	if (args)
		result = PyObject_CallObject(hook, args);
	Py_XDECREF(args);
	Py_DECREF(hook);
	return result;
}

static PyObject *make_proxy(RRefObject *self, const char *api, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"timeout", NULL};
	double timeout = -1.0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|d", keywords, &timeout))
		return NULL;
	return call_hook("make_proxy", "(Osd)", self, api, timeout);
}

static PyObject *rref_rpc_sync(RRefObject *self, PyObject *args, PyObject *kwargs)
{
	return make_proxy(self, "rpc_sync", args, kwargs);
}

static PyObject *rref_rpc_async(RRefObject *self, PyObject *args, PyObject *kwargs)
{
	return make_proxy(self, "rpc_async", args, kwargs);
}

static PyObject *rref_remote(RRefObject *self, PyObject *args, PyObject *kwargs)
{
	return make_proxy(self, "remote", args, kwargs);
}

static PyObject *rref_get_type(RRefObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"timeout", "blocking", NULL};
	double timeout = -1.0;
	int blocking = 1;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|dp:_get_type", keywords, &timeout, &blocking))
		return NULL;
	heard(self);
	return call_hook("get_type", "(OdO)", self, timeout, blocking ? Py_True : Py_False);
}

static PyObject *rref_backward(RRefObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"dist_autograd_ctx_id", "retain_graph", NULL};
	long long context = -1;
	int retain = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Lp:backward", keywords, &context, &retain))
		return NULL;
	return call_hook("backward", "(OLO)", self, context, retain ? Py_True : Py_False);
}

static PyObject *rref_get_profiling_future(RRefObject *self, PyObject *unused)
{
	if (self->profiling_future)
		return Py_NewRef(self->profiling_future);
	return PyErr_Format(PyExc_RuntimeError, "Profiling future has not been set!");
}

static PyObject *rref_set_profiling_future(RRefObject *self, PyObject *future)
{
	Py_XSETREF(self->profiling_future, Py_NewRef(future));
	Py_RETURN_NONE;
}

static PyObject *rref_getstate(RRefObject *self, PyObject *unused)
{
	return PyErr_Format(PyExc_RuntimeError,
	                    "Can not pickle rref in python pickler, rref can only be pickled when using RPC");
}

static PyObject *rref_setstate(RRefObject *self, PyObject *unused)
{
	return PyErr_Format(PyExc_RuntimeError,
	                    "Can not unpickle rref in python pickler, rref can only be unpickled when using RPC");
}

static PyObject *rref_repr(RRefObject *self)
{
	char text[RREF_TEXT_MAX];
	tdr_rref *rref = rref_of((PyObject *)self);

	if (!rref)
		return NULL;
	tdr_rref_print(rref, text, sizeof(text));
	return PyUnicode_FromString(text);
}

/* ---- the type ---- */

static PyObject *make_rref(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	return type->tp_alloc(type, 0);
}

static int init_rref(RRefObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"value", "type_hint", NULL};
	PyObject *value, *hint = NULL;
	AgentObject *agent;
	tdr_value *object;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:PyRRef", keywords, &value, &hint))
		return -1;
	agent = agent_current();
	if (!agent || !agent_of(agent))
		return -1;
	if (self->rref) {
		PyErr_SetString(PyExc_RuntimeError, "the RRef refers to a value already");
		return -1;
	}
	object = value_of_object(value);
	if (!object)
		return -1;
	self->rref = tdr_rref_new(agent_of(agent), object);
	if (!self->rref) {
		raise_last(TDR_ESTATE);
		return -1;
	}
	return 0;
}

static int traverse_rref(RRefObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->dictionary);
	Py_VISIT(self->profiling_future);
	return 0;
}

static int clear_rref(RRefObject *self)
{
	Py_CLEAR(self->dictionary);
	Py_CLEAR(self->profiling_future);
	return 0;
}

static void dealloc_rref(RRefObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	tdr_rref *rref = self->rref;
	tdr_future *creation = self->creation;
	struct unheard unheard;

	PyObject_GC_UnTrack(self);
	if (self->weak_references)
		PyObject_ClearWeakRefs((PyObject *)self);
	clear_rref(self);
	unheard = unheard_take(&self->unheard);
	type->tp_free(self);
	Py_DECREF(type);
	unheard_abandon(unheard);
	if (creation)
		drop_handle(unref_future, creation);
	if (rref)
		drop_handle(unref_rref, rref);
}

static PyMethodDef rref_methods[] = {
    {"is_owner", (PyCFunction)rref_is_owner, METH_NOARGS,
     PyDoc_STR("is_owner($self)\n--\n\nWhether the value lives on this worker.")},
    {"confirmed_by_owner", (PyCFunction)rref_confirmed_by_owner, METH_NOARGS,
     PyDoc_STR("confirmed_by_owner($self)\n--\n\nWhether the owner is known to count this reference: True on "
               "the owner. Of one that remote() has\nreturned here, it becomes True when the function has ended.")},
    {"owner", (PyCFunction)rref_owner, METH_NOARGS,
     PyDoc_STR("owner($self)\n--\n\nThe worker on which the value lives, a WorkerInfo.")},
    {"owner_name", (PyCFunction)rref_owner_name, METH_NOARGS,
     PyDoc_STR("owner_name($self)\n--\n\nThe name of the worker on which the value lives.")},
    {"to_here", KEYWORD_METHOD(rref_to_here), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("to_here($self, timeout=-1.0)\n--\n\nA copy of the value, fetched each time anew; on its owner "
               "the value itself. Waits until it is there.\n\nArgs:\n    timeout: in seconds; 0 for any time; "
               "-1.0 for the default of init_rpc's options. Without effect on the\n        owner.\n\nRaises:\n  "
               "  What the function has raised that was to make the value, with its own type.\n    "
               "RuntimeError: the time was over (\"RPC ran for more than ...\"), the owner is gone, the value "
               "cannot be\n        sent, or this process has shut down.")},
    {"local_value", (PyCFunction)rref_local_value, METH_NOARGS,
     PyDoc_STR("local_value($self)\n--\n\nThe value itself, not a copy, on its owner only. Waits until it is "
               "there.\n\nRaises:\n    What the function has raised that was to make the value.\n    "
               "RuntimeError: this worker is not the owner.")},
    {"rpc_sync", KEYWORD_METHOD(rref_rpc_sync), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("rpc_sync($self, timeout=-1.0)\n--\n\nA proxy: `rref.rpc_sync().method(1, x=2)` calls the method "
               "where the value is, waits, and returns\na copy of the result. The proxy may be kept and used "
               "again.\n\nArgs:\n    timeout: of each call, in seconds; 0 for any time; -1.0 for the default.")},
    {"rpc_async", KEYWORD_METHOD(rref_rpc_async), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("rpc_async($self, timeout=-1.0)\n--\n\nThe same as rpc_sync(), but the proxy's methods return at "
               "once, with futures of the results.")},
    {"remote", KEYWORD_METHOD(rref_remote), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("remote($self, timeout=-1.0)\n--\n\nThe same as rpc_sync(), but the results stay on the owner, "
               "and the proxy's methods return references\nto them.")},
    {"backward", KEYWORD_METHOD(rref_backward), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("backward($self, dist_autograd_ctx_id=-1, retain_graph=False)\n--\n\nA backward pass from the "
               "value, a tensor of torch's with one element. On the owner, without a context;\npasses over "
               "several workers are not there yet.")},
    {"_get_type", KEYWORD_METHOD(rref_get_type), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("_get_type($self, timeout=-1.0, blocking=True)\n--\n\nThe type of the value, or a future of it.")},
    {"_get_future", (PyCFunction)rref_get_future, METH_NOARGS,
     PyDoc_STR("_get_future($self)\n--\n\nA future that completes with None when the value has been made.")},
    {"_get_profiling_future", (PyCFunction)rref_get_profiling_future, METH_NOARGS, NULL},
    {"_set_profiling_future", (PyCFunction)rref_set_profiling_future, METH_O, NULL},
    {"_serialize", rref_serialize, METH_NOARGS,
     PyDoc_STR("_serialize($self)\n--\n\nA tuple, of which _deserialize makes a reference once, on any worker.")},
    {"_deserialize", rref_deserialize, METH_O | METH_STATIC,
     PyDoc_STR("_deserialize(data, /)\n--\n\nThe reference of which _serialize has made a tuple.")},
    {"__getstate__", (PyCFunction)rref_getstate, METH_NOARGS, NULL},
    {"__setstate__", (PyCFunction)rref_setstate, METH_O, NULL},
    {NULL},
};

static PyMemberDef rref_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(RRefObject, dictionary), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(RRefObject, weak_references), READONLY, NULL},
    {NULL},
};

static PyType_Slot rref_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR(
		    "PyRRef(value, type_hint=None)\n--\n\nA reference to a value that lives on one worker, its "
		    "owner.\n\nIt may be passed to others as an argument or a result. The value is freed when nobody "
		    "has a reference any\nmore. References are compared by identity; any thread may use them.")},
    {Py_tp_new, (void *)make_rref},
    {Py_tp_init, (void *)init_rref},
    {Py_tp_dealloc, (void *)dealloc_rref},
    {Py_tp_traverse, (void *)traverse_rref},
    {Py_tp_clear, (void *)clear_rref},
    {Py_tp_repr, (void *)rref_repr},
    {Py_tp_methods, (void *)rref_methods},
    {Py_tp_members, (void *)rref_members},
    {0, NULL},
};

static PyType_Spec rref_spec = {
    .name = "tendril._C.PyRRef",
    .basicsize = sizeof(RRefObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = rref_slots,
};

int rref_init(PyObject *module)
{
	if (!rref_type)
		rref_type = (PyTypeObject *)PyType_FromSpec(&rref_spec);
	return rref_type ? PyModule_AddObjectRef(module, "PyRRef", (PyObject *)rref_type) : -1;
}
