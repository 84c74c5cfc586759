/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Agent: a member of a group.
 *
 * The library's agent is made in joining, when the store, the rank and the size of the group are known; what is said before (options,
 * device maps, functions) is kept until then. Joining, shutting down and collectives wait for others: without the GIL, and in
 * the main thread so that Ctrl-C ends the wait. One agent of the process may be the current one, which calls without an agent mean.
 */
#include "ext.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>
#include <tendril/operators.h>

#define NOT_CURRENT                                                                                                    \
	"Current RPC agent is not set! Did you initialize the RPC framework (e.g. by calling `rpc.init_rpc`)?"

#define DEFAULT_RPC_TIMEOUT_MS 60000

PyTypeObject *agent_type;
static AgentObject *current;

/* ---- the current one ---- */

AgentObject *agent_current_or_none(void)
{
	return current;
}

AgentObject *agent_current(void)
{
	if (!current)
		PyErr_SetString(PyExc_RuntimeError, NOT_CURRENT);
	return current;
}

tdr_agent *agent_of(AgentObject *self)
{
	if (!self->agent)
		PyErr_Format(PyExc_RuntimeError,
		             self->left ? "agent '%U' has been shut down"
		                        : "agent '%U' has not joined a group yet: call join()",
		             self->name);
	return self->agent;
}

static PyObject *current_agent(PyObject *module, PyObject *unused)
{
	return Py_NewRef(current ? (PyObject *)current : Py_None);
}

static PyObject *set_current_agent(PyObject *module, PyObject *agent)
{
	if (!PyObject_TypeCheck(agent, agent_type))
		return PyErr_Format(PyExc_TypeError, "an Agent is wanted, not %s", Py_TYPE(agent)->tp_name);
	if (current && (PyObject *)current != agent)
		return PyErr_Format(PyExc_RuntimeError, "Current RPC agent is set! It is '%U'; shut it down first",
		                    current->name);
	Py_XSETREF(current, (AgentObject *)Py_NewRef(agent));
	Py_RETURN_NONE;
}

static PyObject *reset_current_agent(PyObject *module, PyObject *unused)
{
	Py_CLEAR(current);
	Py_RETURN_NONE;
}

/* ---- options ---- */

enum option_type {
	OPTION_INT,
	OPTION_TEXT,
};

static const struct option {
	const char *name;
	enum option_type type;
	size_t offset;
} options[] = {
#define OPTION_ENTRY(type, field, initial, unit, text) {#field, OPTION_##type, offsetof(tdr_agent_options, field)},
    TDR_AGENT_OPTION_LIST(OPTION_ENTRY)
#undef OPTION_ENTRY
};

/* Sets one option. Texts stay the object's. */
static bool set_option(tdr_agent_options *target, PyObject *name, PyObject *value)
{
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		char *field = (char *)target + options[i].offset;

		if (PyUnicode_CompareWithASCIIString(name, options[i].name) != 0)
			continue;
		if (value == Py_None)
			return true;
		if (options[i].type == OPTION_INT) {
			*(int64_t *)field = PyLong_AsLongLong(value);
			return !PyErr_Occurred();
		}
		*(const char **)field = PyUnicode_AsUTF8(value);
		return *(const char **)field;
	}
	PyErr_Format(PyExc_TypeError, "an agent has no option '%U' (`tendril info --options` lists them)", name);
	return false;
}

static bool options_from_python(PyObject *dict, tdr_agent_options *ret_options)
{
	PyObject *name, *value;
	Py_ssize_t position = 0;

	tdr_agent_options_init(ret_options);
	while (PyDict_Next(dict, &position, &name, &value))
		if (!set_option(ret_options, name, value))
			return false;
	return true;
}

/* ---- what may be said before joining ---- */

static bool apply_register(tdr_agent *agent, PyObject *args)
{
	const char *schema;
	PyObject *callable;

	if (!PyArg_ParseTuple(args, "sO:register", &schema, &callable))
		return false;
	if (!PyCallable_Check(callable)) {
		PyErr_Format(PyExc_TypeError, "register(): %R cannot be called", callable);
		return false;
	}
	return serve_callable(agent, schema, callable) == 0;
}

static bool apply_register_names(tdr_agent *agent, PyObject *args)
{
	const char *prefix;
	PyObject *resolver;

	if (!PyArg_ParseTuple(args, "sO:register_names", &prefix, &resolver))
		return false;
	if (!PyCallable_Check(resolver)) {
		PyErr_Format(PyExc_TypeError, "register_names(): %R cannot be called", resolver);
		return false;
	}
	return serve_names(agent, prefix, resolver) == 0;
}

/* What can be said before joining, by number in `prepared`. */
static bool (*const preparations[])(tdr_agent *agent, PyObject *args) = {
    device_map_set,
    devices_set,
    apply_register,
    apply_register_names,
};

enum preparation {
	PREPARE_DEVICE_MAP,
	PREPARE_DEVICES,
	PREPARE_REGISTER,
	PREPARE_REGISTER_NAMES,
};

void agent_drop(tdr_agent *agent)
{
	Py_BEGIN_ALLOW_THREADS;
	tdr_agent_unref(agent);
	Py_END_ALLOW_THREADS;
}

/* Does it now where there is an agent, else in joining. */
static PyObject *prepare(AgentObject *self, enum preparation which, PyObject *args)
{
	PyObject *entry;
	int error;

	if (self->agent || self->left) {
		tdr_agent *agent = tdr_agent_ref(agent_of(self)); /* the arguments may run Python code */
		bool good = agent && preparations[which](agent, args);

		agent_drop(agent);
		return good ? Py_NewRef(Py_None) : NULL;
	}
	entry = Py_BuildValue("(iO)", (int)which, args);
	error = entry ? PyList_Append(self->prepared, entry) : -1;
	Py_XDECREF(entry);
	if (error < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *agent_set_device_map(AgentObject *self, PyObject *args)
{
	return prepare(self, PREPARE_DEVICE_MAP, args);
}

static PyObject *agent_set_devices(AgentObject *self, PyObject *args)
{
	return prepare(self, PREPARE_DEVICES, args);
}

static PyObject *agent_register(AgentObject *self, PyObject *args)
{
	return prepare(self, PREPARE_REGISTER, args);
}

static PyObject *agent_register_names(AgentObject *self, PyObject *args)
{
	return prepare(self, PREPARE_REGISTER_NAMES, args);
}

static PyObject *agent_device_map(AgentObject *self, PyObject *args)
{
	tdr_agent *agent = agent_of(self);

	return agent ? device_map_get(agent, args) : NULL;
}

static PyObject *agent_devices(AgentObject *self, PyObject *unused)
{
	tdr_agent *agent = agent_of(self);

	return agent ? devices_get(agent) : NULL;
}

static PyObject *agent_on_member(AgentObject *self, PyObject *callback)
{
	if (self->agent || self->left)
		return PyErr_Format(PyExc_RuntimeError, "on_member() has to be called before joining");
	if (!PyCallable_Check(callback))
		return PyErr_Format(PyExc_TypeError, "on_member(): %R cannot be called", callback);
	Py_XSETREF(self->on_member, Py_NewRef(callback));
	Py_RETURN_NONE;
}

/* ---- joining ---- */

static void member_changed(tdr_agent *agent, tdr_worker worker, tdr_member_event event, const char *reason,
                           void *context)
{
	static const char *const names[] = {NULL, "joined", "left", "gone"};
	AgentObject *self = context;
	PyObject *info, *text, *callback, *result = NULL;
	PyGILState_STATE state;

	if (!python_enter(&state))
		return;
	callback = Py_XNewRef(self->on_member);
	info = worker_object(&worker);
	text = PyUnicode_DecodeUTF8(reason, (Py_ssize_t)strlen(reason), "replace"); /* it may be the member's own */
	if (info && text && callback)
		result = PyObject_CallFunction(callback, "OsO", info, names[event], text);
	if (PyErr_Occurred())
		PyErr_WriteUnraisable(callback);
	Py_XDECREF(result);
	Py_XDECREF(text);
	Py_XDECREF(info);
	Py_XDECREF(callback);
	python_leave(state);
}

/* The library's agent, with all that was prepared. */
static tdr_agent *make_agent(AgentObject *self, tdr_agent_options *with)
{
	const char *name = PyUnicode_AsUTF8(self->name);
	tdr_agent *agent = name ? tdr_agent_new(name, with) : NULL;
	tdr_status status;

	if (!agent) {
		if (!PyErr_Occurred())
			raise_last(TDR_EINVAL);
		return NULL;
	}
	if (serve_python(agent) < 0)
		goto fail;
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(self->prepared); i++) {
		PyObject *entry = PyList_GET_ITEM(self->prepared, i);

		if (!preparations[PyLong_AsLong(PyTuple_GET_ITEM(entry, 0))](agent, PyTuple_GET_ITEM(entry, 1)))
			goto fail;
	}
	/* What C registers comes before what is found by name: where others have the operators, ours would be in their way. */
	status = name_is_resolved("aten::") ? TDR_OK : tdr_register_operators(agent);
	if (status == TDR_OK && self->on_member)
		status = tdr_agent_on_member(agent, member_changed, self);
	if (status != TDR_OK) {
		raise_last(status);
		goto fail;
	}
	return agent;
fail:
	engines_may_end();
	agent_drop(agent);
	return NULL;
}

static void run_join(struct operation *operation)
{
	operation->status = tdr_join(operation->agent);
}

/* An agent that nobody wants any more, and what it may use up to its end. */
struct abandoned {
	tdr_agent *agent;
	PyObject *store;
	PyObject *self; /* for the sake of on_member's context; NULL: it has none */
};

static void end_abandoned(void *context)
{
	struct abandoned *abandoned = context;

	tdr_agent_unref(abandoned->agent);
	python_decref(abandoned->store);
	python_decref(abandoned->self);
	free(abandoned);
}

/* Gives up an agent without waiting for its functions, which may want the GIL. */
static void abandon(AgentObject *self)
{
	struct abandoned *abandoned = self->agent && !python_is_closing() ? malloc(sizeof(*abandoned)) : NULL;

	if (!abandoned) {
		self->agent = NULL; /* the process ends, or lacks memory */
		return;
	}
	*abandoned = (struct abandoned){
	    .agent = self->agent, .store = self->store, .self = self->holds_itself ? (PyObject *)self : NULL};
	self->agent = NULL;
	self->store = NULL;
	self->holds_itself = false;
	engines_may_end();
	if (hands_run(end_abandoned, abandoned))
		return;
	Py_BEGIN_ALLOW_THREADS;
	end_abandoned(abandoned);
	Py_END_ALLOW_THREADS;
}

/* Takes NULL. */
static void drop_store(tdr_store *store)
{
	Py_BEGIN_ALLOW_THREADS;
	tdr_store_unref(store);
	Py_END_ALLOW_THREADS;
}

/* Whether `object` says a number; what it is, or -1, where it is None. */
static bool optional_int(PyObject *object, int64_t *ret_number)
{
	if (!object || object == Py_None) {
		*ret_number = -1;
		return true;
	}
	*ret_number = PyLong_AsLongLong(object);
	return *ret_number != -1 || !PyErr_Occurred();
}

static PyObject *agent_join(AgentObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"store", "rank", "world_size", NULL};
	PyObject *store = NULL, *rank = NULL, *size = NULL;
	struct operation *operation;
	tdr_agent_options with;
	tdr_agent *agent;
	int64_t number;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO:join", keywords, &store, &rank, &size))
		return NULL;
	if (!options_from_python(self->options, &with) || !optional_int(rank, &number))
		return NULL;
	with.rank = rank && rank != Py_None ? number : with.rank;
	if (!optional_int(size, &number))
		return NULL;
	if (size)
		with.world_size = size == Py_None ? 0 : number;
	if (store && store != Py_None && !(with.store = store_from_python(store)))
		return NULL;
	if (self->agent || self->left)
		PyErr_Format(PyExc_RuntimeError, "agent '%U' has joined before", self->name);
	agent = PyErr_Occurred() ? NULL : make_agent(self, &with);
	drop_store(with.store); /* the agent has its own reference */
	if (!agent)
		return NULL;
	self->agent = agent;
	self->store = Py_XNewRef(store);
	if (self->on_member) {
		self->holds_itself = true;
		Py_INCREF(self);
	}
	operation = operation_new(agent, run_join);
	if (operation)
		operation->object = Py_NewRef(self); /* for as long as it goes on, should a signal end the wait */
	if (operation && operation_wait(operation) > 0) {
		operation_free(operation);
		Py_RETURN_NONE;
	}
	self->left = true;
	abandon(self);
	return NULL;
}

/* ---- leaving ---- */

/* The agent is no more: drops it, and what waiting for its end has kept. Without the GIL. */
static void forget_agent(AgentObject *self)
{
	tdr_agent *agent;
	PyGILState_STATE state;
	bool held;

	if (!python_enter(&state))
		return;
	agent = self->agent;
	held = self->holds_itself;
	self->agent = NULL;
	self->holds_itself = false;
	self->left = true;
	if (held)
		Py_DECREF(self);
	python_leave(state);
	tdr_agent_unref(agent); /* waits for functions that still run */
}

static void run_shutdown(struct operation *operation)
{
	AgentObject *self = (AgentObject *)operation->object;
	tdr_shutdown_options with;

	tdr_shutdown_options_init(&with);
	with.graceful = operation->graceful;
	with.timeout_ms = operation->timeout_ms;
	operation->status = tdr_shutdown(operation->agent, &with);
	operation->error = operation->status == TDR_OK ? NULL : strdup(tdr_last_error());
	if (operation->status == TDR_ESTATE)
		return;          /* called from inside a function: the agent lives on */
	operation->agent = NULL; /* its reference is gone */
	forget_agent(self);
}

/* Drops the object, whose end may run Python code, while an exception may be set. */
static void drop_object(PyObject **place)
{
	PyObject *type, *value, *traceback;

	PyErr_Fetch(&type, &value, &traceback);
	Py_CLEAR(*place);
	PyErr_Restore(type, value, traceback);
}

/* Until the agent has left it goes on serving calls and making those that functions make. */
static PyObject *leave(AgentObject *self, bool graceful, int64_t timeout_ms)
{
	tdr_agent *agent = agent_of(self);
	struct operation *operation;
	int done;

	if (!agent)
		return NULL;
	if (self->leaving)
		return PyErr_Format(PyExc_RuntimeError, "agent '%U' is being shut down already", self->name);
	operation = operation_new(agent, run_shutdown);
	if (!operation)
		return NULL;
	operation->object = Py_NewRef(self);
	operation->graceful = graceful;
	operation->timeout_ms = timeout_ms;
	engines_may_end();
	self->leaving = true;
	done = operation_wait(operation);
	if (done == 0)
		self->leaving = false;
	else if (done > 0)
		operation_free(operation);
	if (done >= 0 && self->left)
		drop_object(&self->store);
	return done > 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *agent_shutdown(AgentObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"graceful", "timeout", NULL};
	double timeout = 0.0;
	int64_t timeout_ms;
	int graceful = 1;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|pd:shutdown", keywords, &graceful, &timeout) ||
	    !timeout_from_python(timeout, &timeout_ms))
		return NULL;
	/* What is too short to be said in milliseconds is not for ever. */
	if (timeout > 0.0 && timeout_ms == TDR_TIMEOUT_NEVER)
		timeout_ms = 1;
	return leave(self, graceful, timeout_ms);
}

static PyObject *agent_abort(AgentObject *self, PyObject *unused)
{
	return leave(self, false, TDR_TIMEOUT_DEFAULT);
}

/* ---- what is known of it ---- */

static PyObject *agent_get_name(AgentObject *self, void *unused)
{
	return Py_NewRef(self->name);
}

static PyObject *agent_get_is_static(AgentObject *self, void *unused)
{
	tdr_agent *agent = agent_of(self);

	return agent ? PyBool_FromLong(!tdr_agent_is_dynamic(agent)) : NULL;
}

static PyObject *agent_get_epoch(AgentObject *self, void *unused)
{
	tdr_agent *agent = agent_of(self);

	return agent ? PyLong_FromUnsignedLongLong(tdr_agent_epoch(agent)) : NULL;
}

static PyObject *agent_get_rpc_timeout(AgentObject *self, void *unused)
{
	tdr_agent_options with;

	if (self->left)
		return (PyObject *)agent_of(self);
	if (self->agent)
		return PyFloat_FromDouble((double)tdr_agent_rpc_timeout(self->agent) / 1000.0);
	return options_from_python(self->options, &with) ? PyFloat_FromDouble((double)with.rpc_timeout_ms / 1000.0)
	                                                 : NULL;
}

static int agent_set_rpc_timeout(AgentObject *self, PyObject *value, void *unused)
{
	double seconds = value ? PyFloat_AsDouble(value) : 0.0;
	int64_t timeout_ms;
	PyObject *number;
	int error;

	if (!value)
		PyErr_SetString(PyExc_AttributeError, "rpc_timeout cannot be deleted");
	if (PyErr_Occurred() || !timeout_from_python(seconds, &timeout_ms))
		return -1;
	if (timeout_ms == TDR_TIMEOUT_DEFAULT)
		timeout_ms = DEFAULT_RPC_TIMEOUT_MS;
	if (self->agent) {
		tdr_agent_set_rpc_timeout(self->agent, timeout_ms);
		return 0;
	}
	if (self->left)
		return agent_of(self) ? 0 : -1;
	number = PyLong_FromLongLong(timeout_ms);
	error = number ? PyDict_SetItemString(self->options, "rpc_timeout_ms", number) : -1;
	Py_XDECREF(number);
	return error;
}

/* ---- the type ---- */

static PyObject *make_agent_object(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	tdr_agent_options with;
	AgentObject *self;
	PyObject *name, *worker;

	if (!PyArg_ParseTuple(args, "U:Agent", &name))
		return NULL;
	worker = PyObject_CallFunction((PyObject *)worker_type, "Oi", name, 0); /* for its check of the name */
	if (!worker)
		return NULL;
	Py_DECREF(worker);
	self = (AgentObject *)type->tp_alloc(type, 0);
	if (!self)
		return NULL;
	self->name = Py_NewRef(name);
	self->options = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
	self->prepared = PyList_New(0);
	if (!self->options || !self->prepared || !options_from_python(self->options, &with))
		Py_CLEAR(self);
	return (PyObject *)self;
}

static int init_agent(AgentObject *self, PyObject *args, PyObject *kwargs)
{
	return 0;
}

static PyObject *agent_repr(AgentObject *self)
{
	return PyUnicode_FromFormat("<%s '%U'%s>", Py_TYPE(self)->tp_name, self->name,
	                            self->left    ? ", shut down"
	                            : self->agent ? ""
	                                          : ", not joined");
}

static int traverse_agent(AgentObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->store);
	Py_VISIT(self->prepared);
	Py_VISIT(self->on_member);
	return 0;
}

static int clear_agent(AgentObject *self)
{
	Py_CLEAR(self->store);
	Py_CLEAR(self->prepared);
	Py_CLEAR(self->on_member);
	return 0;
}

static void dealloc_agent(AgentObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (self->weak_references)
		PyObject_ClearWeakRefs((PyObject *)self);
	abandon(self);
	clear_agent(self);
	Py_XDECREF(self->options); /* strings and numbers */
	Py_XDECREF(self->name);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef agent_methods[] = {
    {"join", KEYWORD_METHOD(agent_join), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("join($self, store=None, rank=None, world_size=None)\n--\n\nMeets the other members, and returns when "
               "all have "
               "come.")},
    {"shutdown", KEYWORD_METHOD(agent_shutdown), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR(
	 "shutdown($self, graceful=True, timeout=0.0)\n--\n\nLeaves, together with the others where it is graceful.")},
    {"abort", (PyCFunction)agent_abort, METH_NOARGS, PyDoc_STR("abort($self)\n--\n\nLeaves at once.")},
    {"worker_info", KEYWORD_METHOD(agent_worker_info), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("worker_info($self, name_or_id=None)\n--\n\nA member; None: the agent itself.")},
    {"worker_infos", (PyCFunction)agent_worker_infos, METH_NOARGS,
     PyDoc_STR("worker_infos($self)\n--\n\nAll members, by id.")},
    {"set_device_map", (PyCFunction)agent_set_device_map, METH_VARARGS,
     PyDoc_STR("set_device_map($self, to, device_map)\n--\n\nWhere tensors for a worker go, device by device.")},
    {"set_devices", (PyCFunction)agent_set_devices, METH_VARARGS,
     PyDoc_STR("set_devices($self, devices)\n--\n\nThe accelerators that the agent uses.")},
    {"device_map", (PyCFunction)agent_device_map, METH_VARARGS,
     PyDoc_STR("device_map($self, to)\n--\n\nThe map towards a worker.")},
    {"devices", (PyCFunction)agent_devices, METH_NOARGS, PyDoc_STR("devices($self)\n--\n\nThe accelerators in use.")},
    {"on_member", (PyCFunction)agent_on_member, METH_O,
     PyDoc_STR(
	 "on_member($self, callback)\n--\n\nCalls callback(worker, event, reason) for members that come and go.")},
    {"register", (PyCFunction)agent_register, METH_VARARGS,
     PyDoc_STR("register($self, schema, callable)\n--\n\nLets others call a function under a schema.")},
    {"register_names", (PyCFunction)agent_register_names, METH_VARARGS,
     PyDoc_STR(
	 "register_names($self, prefix, resolver)\n--\n\nLets others call prefix::name for any name: resolver(full "
	 "name) gives the callable.")},
    {"barrier", KEYWORD_METHOD(agent_barrier), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("barrier($self, names=None, timeout=-1.0)\n--\n\nReturns when all named members have called it.")},
    {"all_gather", KEYWORD_METHOD(agent_all_gather), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("all_gather($self, value, names=None, timeout=-1.0)\n--\n\nThe values of all named members, by name.")},
    {"delete_all_rrefs", (PyCFunction)agent_delete_all_rrefs, METH_VARARGS,
     PyDoc_STR("delete_all_rrefs($self, timeout=-1.0)\n--\n\nLets go of all references of others.")},
    {"rref_leaks", (PyCFunction)agent_rref_leaks, METH_NOARGS,
     PyDoc_STR("rref_leaks($self)\n--\n\nWhat others hold of this worker's references, a text.")},
    {"rref_list", (PyCFunction)agent_rref_list, METH_NOARGS,
     PyDoc_STR("rref_list($self)\n--\n\nWhat others hold of this worker's references, a list of dicts.")},
    {"debug_info", (PyCFunction)agent_debug_info, METH_NOARGS, PyDoc_STR("debug_info($self)\n--\n\nCounters, a dict.")},
    {"dump", (PyCFunction)agent_dump, METH_NOARGS, PyDoc_STR("dump($self)\n--\n\nAll calls under way, a text.")},
    {"call", KEYWORD_METHOD(agent_call), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR(
	 "call($self, to, func, args, kwargs, timeout, mode, is_async=False)\n--\n\nCalls a function, by name, or a "
	 "callable.")},
    {"call_pickled", KEYWORD_METHOD(agent_call_pickled), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("call_pickled($self, to, payload, tensors, rrefs, timeout, mode, is_async=False)\n--\n\nCalls what is "
               "pickled in "
               "the payload.")},
    {"call_on", KEYWORD_METHOD(agent_call_on), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR(
	 "call_on($self, rref, name, args, kwargs, timeout, mode)\n--\n\nCalls a function on the owner with what the "
	 "reference refers to as its first argument: one of a C object's, or one by its full name.")},
    {NULL},
};

static PyGetSetDef agent_fields[] = {
    {"name", (getter)agent_get_name, NULL, PyDoc_STR("The agent's name."), NULL},
    {"is_static", (getter)agent_get_is_static, NULL, PyDoc_STR("Whether the members stay the same."), NULL},
    {"epoch", (getter)agent_get_epoch, NULL, PyDoc_STR("How often the members have changed."), NULL},
    {"rpc_timeout", (getter)agent_get_rpc_timeout, (setter)agent_set_rpc_timeout,
     PyDoc_STR("The deadline of calls that name none, in seconds; 0: none."), NULL},
    {NULL},
};

static PyMemberDef agent_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(AgentObject, weak_references), READONLY, NULL},
    {NULL},
};

static PyType_Slot agent_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Agent(name, **options)\n--\n\nA member of a group; `tendril info` lists options.")},
    {Py_tp_new, (void *)make_agent_object},
    {Py_tp_init, (void *)init_agent},
    {Py_tp_dealloc, (void *)dealloc_agent},
    {Py_tp_traverse, (void *)traverse_agent},
    {Py_tp_clear, (void *)clear_agent},
    {Py_tp_repr, (void *)agent_repr},
    {Py_tp_methods, (void *)agent_methods},
    {Py_tp_members, (void *)agent_members},
    {Py_tp_getset, (void *)agent_fields},
    {0, NULL},
};

static PyType_Spec agent_spec = {
    .name = "tendril._C.Agent",
    .basicsize = sizeof(AgentObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = agent_slots,
};

static PyMethodDef functions[] = {
    {"current_agent", current_agent, METH_NOARGS, PyDoc_STR("current_agent()\n--\n\nThe current agent, or None.")},
    {"set_current_agent", set_current_agent, METH_O,
     PyDoc_STR("set_current_agent(agent)\n--\n\nMakes an agent the current one.")},
    {"reset_current_agent", reset_current_agent, METH_NOARGS,
     PyDoc_STR("reset_current_agent()\n--\n\nFrom now on there is no current agent.")},
    {"enable_gil_profiling", enable_gil_profiling, METH_O,
     PyDoc_STR("enable_gil_profiling(flag)\n--\n\nWhether to measure how long calls wait for the GIL.")},
    {NULL},
};

int agent_init(PyObject *module)
{
	if (!agent_type)
		agent_type = (PyTypeObject *)PyType_FromSpec(&agent_spec);
	if (!agent_type || PyModule_AddFunctions(module, functions) < 0)
		return -1;
	return PyModule_AddObjectRef(module, "Agent", (PyObject *)agent_type);
}
