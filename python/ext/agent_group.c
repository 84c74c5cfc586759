/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent says and asks of its group: who is in it, collectives, its references, and insight. All of it is for an agent
 * that has joined. What waits for others does so without the GIL, and in the main thread so that Ctrl-C ends it.
 */
#include "ext.h"

/* ---- workers ---- */

PyObject *agent_worker_info(AgentObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"name_or_id", NULL};
	tdr_agent *agent = agent_of(self);
	PyObject *which = Py_None;
	tdr_status status = TDR_OK;
	tdr_worker worker;

	if (!agent || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:worker_info", keywords, &which))
		return NULL;
	if (which == Py_None) {
		worker = tdr_agent_worker(agent);
	} else if (PyUnicode_Check(which)) {
		const char *name = PyUnicode_AsUTF8(which);

		if (!name)
			return NULL;
		status = tdr_worker_by_name(agent, name, &worker);
	} else if (PyLong_Check(which)) {
		long id = PyLong_AsLong(which);

		if ((id == -1 && PyErr_Occurred()) || id < 0 || id > INT16_MAX) {
			PyErr_Clear();
			return PyErr_Format(PyExc_TypeError,
			                    "worker_info(): incompatible function arguments: an id is in [0, %d], "
			                    "not %S",
			                    INT16_MAX, which);
		}
		status = tdr_worker_by_id(agent, (uint32_t)id, &worker);
	} else {
		return PyErr_Format(PyExc_TypeError,
		                    "worker_info(): incompatible function arguments: a name or an id, not %R", which);
	}
	return status == TDR_OK ? worker_object(&worker) : raise_last(status);
}

PyObject *agent_worker_infos(AgentObject *self, PyObject *unused)
{
	tdr_agent *agent = tdr_agent_ref(agent_of(self)); /* making objects may run Python code */
	PyObject *list = agent ? PyList_New(0) : NULL;
	tdr_worker worker;

	for (size_t i = 0; list && tdr_worker_at(agent, i, &worker) == TDR_OK; i++) {
		PyObject *info = worker_object(&worker);

		if (!info || PyList_Append(list, info) < 0)
			Py_CLEAR(list);
		Py_XDECREF(info);
	}
	agent_drop(agent);
	return list;
}

/* ---- collectives ---- */

static void run_barrier(struct operation *operation)
{
	operation->status = tdr_barrier(operation->agent, operation->nnames, (const char *const *)operation->names,
	                                operation->timeout_ms);
}

static void run_all_gather(struct operation *operation)
{
	tdr_value *mine = operation->value;

	operation->value = NULL;
	operation->status =
	    tdr_all_gather(operation->agent, mine, operation->nnames, (const char *const *)operation->names,
	                   operation->timeout_ms, &operation->value);
}

PyObject *agent_barrier(AgentObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"names", "timeout", NULL};
	struct operation *operation;
	PyObject *names = NULL;
	double timeout = -1.0;
	int64_t timeout_ms;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|Od:barrier", keywords, &names, &timeout) ||
	    !timeout_from_python(timeout, &timeout_ms) || !agent_of(self))
		return NULL;
	operation = operation_new(self->agent, run_barrier);
	if (!operation)
		return NULL;
	operation->timeout_ms = timeout_ms;
	if (!operation_take_names(operation, names)) {
		operation_free(operation);
		return NULL;
	}
	if (operation_wait(operation) <= 0)
		return NULL;
	operation_free(operation);
	Py_RETURN_NONE;
}

PyObject *agent_all_gather(AgentObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"value", "names", "timeout", NULL};
	PyObject *object, *names = NULL, *result;
	struct operation *operation;
	double timeout = -1.0;
	int64_t timeout_ms;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|Od:all_gather", keywords, &object, &names, &timeout) ||
	    !timeout_from_python(timeout, &timeout_ms) || !agent_of(self))
		return NULL;
	operation = operation_new(self->agent, run_all_gather);
	if (!operation)
		return NULL;
	operation->timeout_ms = timeout_ms;
	operation->value = value_of_object(object);
	if (!operation->value || !operation_take_names(operation, names)) {
		operation_free(operation);
		return NULL;
	}
	if (operation_wait(operation) <= 0)
		return NULL;
	result = python_from_value(operation->value);
	operation_free(operation);
	return result;
}

/* ---- references and insight ---- */

static void run_delete_all(struct operation *operation)
{
	operation->status = tdr_rref_delete_all(operation->agent, operation->timeout_ms);
}

PyObject *agent_delete_all_rrefs(AgentObject *self, PyObject *args)
{
	struct operation *operation;
	double timeout = -1.0;
	int64_t timeout_ms;

	if (!PyArg_ParseTuple(args, "|d:delete_all_rrefs", &timeout) || !timeout_from_python(timeout, &timeout_ms) ||
	    !agent_of(self))
		return NULL;
	operation = operation_new(self->agent, run_delete_all);
	if (!operation)
		return NULL;
	operation->timeout_ms = timeout_ms;
	if (operation_wait(operation) <= 0)
		return NULL;
	operation_free(operation);
	Py_RETURN_NONE;
}

/* What one of the functions that describe an agent gives. */
static PyObject *described(AgentObject *self, tdr_status (*describe)(tdr_agent *agent, tdr_value **ret_value))
{
	tdr_agent *agent = agent_of(self);
	tdr_value *value = NULL;
	tdr_status status;
	PyObject *object;

	if (!agent)
		return NULL;
	tdr_agent_ref(agent);
	Py_BEGIN_ALLOW_THREADS;
	status = describe(agent, &value);
	tdr_agent_unref(agent);
	Py_END_ALLOW_THREADS;
	if (status != TDR_OK)
		return raise_last(status);
	object = python_from_value(value);
	tdr_value_unref(value);
	return object;
}

PyObject *agent_debug_info(AgentObject *self, PyObject *unused)
{
	PyObject *info = described(self, tdr_debug_info);

	if (info && !add_gil_wait(info))
		Py_CLEAR(info);
	return info;
}

PyObject *agent_rref_leaks(AgentObject *self, PyObject *unused)
{
	return described(self, tdr_rref_leaks);
}

PyObject *agent_rref_list(AgentObject *self, PyObject *unused)
{
	return described(self, tdr_rref_list);
}

PyObject *agent_dump(AgentObject *self, PyObject *unused)
{
	return described(self, tdr_dump);
}
