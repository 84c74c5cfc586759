/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of an agent that wait for others: joining, shutting down, collectives.
 *
 * All that one needs and gives lies in a struct of its own, since the thread that asked for it may be called away by a signal while
 * it still runs in another.
 */
#include "ext.h"

#include <stdlib.h>
#include <string.h>

void operation_release(void *context)
{
	struct operation *operation = context;

	tdr_value_unref(operation->value);
	tdr_agent_unref(operation->agent);
	python_decref(operation->object);
	for (size_t i = 0; i < operation->nnames; i++)
		free(operation->names[i]);
	free(operation->names);
	free(operation->error);
	free(operation);
}

void operation_work(void *context)
{
	struct operation *operation = context;

	operation->run(operation);
	if (operation->status != TDR_OK && !operation->error)
		operation->error = strdup(tdr_last_error());
}

struct operation *operation_new(tdr_agent *agent, void (*run)(struct operation *operation))
{
	struct operation *operation = calloc(1, sizeof(*operation));

	if (!operation) {
		PyErr_NoMemory();
		return NULL;
	}
	operation->agent = tdr_agent_ref(agent);
	operation->run = run;
	return operation;
}

void operation_free(struct operation *operation)
{
	Py_BEGIN_ALLOW_THREADS;
	operation_release(operation);
	Py_END_ALLOW_THREADS;
}

bool operation_raise(struct operation *operation)
{
	if (operation->status == TDR_OK)
		return false;
	raise_status(operation->status, operation->error ? operation->error : tdr_status_text(operation->status), NULL,
	             NULL, ERROR_OF_CALL);
	return true;
}

int operation_wait(struct operation *operation)
{
	if (run_interruptibly(operation_work, operation, operation_release) < 0)
		return -1;
	if (!operation_raise(operation))
		return 1;
	operation_free(operation);
	return 0;
}

bool operation_take_names(struct operation *operation, PyObject *names)
{
	PyObject *list;

	if (!names || names == Py_None)
		return true;
	list = PySequence_List(names);
	if (!list)
		return false;
	operation->names = calloc((size_t)PyList_GET_SIZE(list) + 1, sizeof(*operation->names));
	if (!operation->names)
		PyErr_NoMemory();
	for (Py_ssize_t i = 0; operation->names && !PyErr_Occurred() && i < PyList_GET_SIZE(list); i++) {
		PyObject *item = PyList_GET_ITEM(list, i);
		const char *name = PyUnicode_Check(item) ? PyUnicode_AsUTF8(item) : NULL;

		if (name && (operation->names[i] = strdup(name)))
			operation->nnames++;
		else if (name)
			PyErr_NoMemory();
		else if (!PyErr_Occurred())
			PyErr_Format(PyExc_TypeError, "the names of workers are strings, not %R", item);
	}
	Py_DECREF(list);
	return !PyErr_Occurred();
}
