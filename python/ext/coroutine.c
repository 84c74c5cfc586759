/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions defined with `async def`: their coroutines run in the agent's event loop (tendril/_asyncio.py), and answer a call.
 *
 * The call is left with a future of the library's, which whoever comes first completes: the coroutine, with its result, or the
 * caller, by cancelling; then the coroutine is cancelled, too. The GIL guards what a run keeps of Python's.
 */
#include "ext.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A coroutine that runs for a call. One reference is the callback's, another one the future's. */
struct run {
	atomic_int references;
	tdr_future *answer; /* counted */
	value_converter convert;
	bool ended;       /* the coroutine has */
	PyObject *handle; /* has a method cancel(); NULL once there is nothing to cancel any more */
	tdr_worker worker;
	char name[128]; /* the worker's: the agent may be gone by then */
};

static void run_unref(struct run *run)
{
	if (atomic_fetch_sub(&run->references, 1) > 1)
		return;
	tdr_future_unref(run->answer);
	free(run);
}

/* ---- the end of the coroutine ---- */

static void fail(struct run *run)
{
	char *text, *report;
	tdr_value *detail;

	/* Nobody hears of what becomes of a run that was cancelled. */
	if (tdr_future_done(run->answer)) {
		PyErr_Clear();
		return;
	}
	failure_take(run->worker, &text, &report, &detail);
	Py_BEGIN_ALLOW_THREADS;
	(void)tdr_future_fail_with(run->answer, TDR_EREMOTE, text ? text : "an exception", report, detail);
	Py_END_ALLOW_THREADS;
	PyMem_RawFree(text);
	PyMem_RawFree(report);
}

static void answer(struct run *run, PyObject *result)
{
	tdr_value *value = run->convert(result);

	if (!value) {
		fail(run);
		return;
	}
	Py_BEGIN_ALLOW_THREADS;
	(void)tdr_future_set(run->answer, value);
	Py_END_ALLOW_THREADS;
}

/* done(result, exception) of a coroutine. */
static PyObject *completed(PyObject *capsule, PyObject *args)
{
	struct run *run = PyCapsule_GetPointer(capsule, NULL);
	PyObject *result, *exception;

	if (!run || !PyArg_ParseTuple(args, "OO", &result, &exception))
		return NULL;
	run->ended = true;
	Py_CLEAR(run->handle);
	if (exception == Py_None) {
		answer(run, result);
	} else {
		PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
		fail(run);
	}
	Py_RETURN_NONE;
}

/* Nothing can call `completed` any more. */
static void callback_gone(PyObject *capsule)
{
	struct run *run = PyCapsule_GetPointer(capsule, NULL);

	Py_CLEAR(run->handle);
	Py_BEGIN_ALLOW_THREADS;
	if (!tdr_future_done(run->answer))
		(void)tdr_future_fail(run->answer, TDR_EREMOTE, "the event loop that ran it has ended");
	run_unref(run); /* the answer may be the last to have the engine, and wait for its threads */
	Py_END_ALLOW_THREADS;
}

/* ---- the end of the call ---- */

static void cancel(void *context)
{
	struct run *run = context;
	PyGILState_STATE state;

	if (python_enter(&state)) {
		PyObject *handle = run->handle, *result;

		run->handle = NULL;
		result = handle ? PyObject_CallMethod(handle, "cancel", NULL) : Py_NewRef(Py_None);
		if (!result)
			PyErr_WriteUnraisable(handle);
		Py_XDECREF(result);
		Py_XDECREF(handle);
		python_leave(state);
	}
	run_unref(run);
}

static void answered(tdr_future *future, void *context)
{
	if (tdr_future_status(future) != TDR_ECANCELED)
		run_unref(context);
	else if (!hands_run(cancel, context))
		cancel(context);
}

/* ---- the beginning ---- */

static struct run *run_new(tdr_agent *agent, value_converter convert)
{
	tdr_worker worker = tdr_agent_worker(agent);
	struct run *run = calloc(1, sizeof(*run));
	tdr_future *answer = run ? tdr_future_new(tdr_agent_engine(agent)) : NULL;

	if (!answer) {
		free(run);
		PyErr_NoMemory();
		return NULL;
	}
	*run = (struct run){.references = 1, .answer = answer, .convert = convert, .worker = worker};
	snprintf(run->name, sizeof(run->name), "%s", worker.name);
	run->worker.name = run->name;
	return run;
}

/* A Python function that ends the run; takes over a reference to it. */
static PyObject *callback_for(struct run *run)
{
	static PyMethodDef definition = {"completed", completed, METH_VARARGS, NULL};
	PyObject *capsule = PyCapsule_New(run, NULL, callback_gone), *function;

	if (!capsule) {
		run_unref(run);
		return NULL;
	}
	function = PyCFunction_New(&definition, capsule);
	Py_DECREF(capsule);
	return function;
}

bool answer_by_coroutine(tdr_call *call, tdr_agent *agent, PyObject *coroutine, value_converter convert)
{
	PyObject *module = PyImport_ImportModule("tendril._asyncio"), *callback, *handle = NULL;
	struct run *run = module ? run_new(agent, convert) : NULL;

	if (run) {
		atomic_fetch_add(&run->references, 1);
		callback = callback_for(run);
		if (callback)
			handle = PyObject_CallMethod(module, "run", "sOO", run->name, coroutine, callback);
		Py_XDECREF(callback);
	}
	Py_XDECREF(module);
	if (!handle) {
		if (run)
			run_unref(run); /* NOLINT(clang-analyzer-unix.Malloc): it does not count references */
		return false;
	}
	if (run->ended)
		Py_DECREF(handle);
	else
		run->handle = handle;
	Py_BEGIN_ALLOW_THREADS;
	(void)tdr_return_future(call, run->answer);
	if (tdr_future_on_done(run->answer, answered, run) != TDR_OK)
		run_unref(run);
	Py_END_ALLOW_THREADS;
	return true;
}
