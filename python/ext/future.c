/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Future: the result of something under way, as Python sees it.
 *
 * A future is either bound to one of the library's, whose outcome it turns into an object when somebody first wants it, or open
 * until Python completes it. The GIL guards all of it; nobody holds the GIL while waiting. Callbacks run in the thread that
 * completes an open future, before its set_result returns; those of a bound one in a thread of hands.c, because they may block,
 * unless all of them are known not to. A callback added to a completed future runs at once.
 */
#include "ext.h"

#include <stdatomic.h>
#include <stddef.h>
#include <structmember.h>
#include <time.h>

enum future_state {
	FUTURE_BOUND, /* `source` will complete it */
	FUTURE_OPEN,  /* somebody will, by set_result or set_exception */
	FUTURE_VALUE, /* `outcome` is the result */
	FUTURE_ERROR, /* `outcome` is the exception */
};

/*
 * What is done at the end: `function` is called with the future, or with NULL where the future goes without having completed; or, where
 * there is no function, `callable`, for `child` if there is one.
 */
struct callback {
	struct callback *next;
	void (*function)(PyObject *future, void *context);
	void *context;
	PyObject *callable;
	PyObject *child; /* the future of then() */
};

/* A thread that waits for an open future. */
struct sleeper {
	struct sleeper *next;
	PyThread_type_lock lock; /* taken until it is to wake up */
};

typedef struct FutureObject {
	PyObject_HEAD enum future_state state;
	enum error_style style;
	bool watched;           /* `source` will call source_done */
	_Atomic bool may_block; /* some callback may */
	tdr_future *source;     /* of a bound one, else NULL */
	PyObject *outcome;
	struct callback *callbacks, **last_callback;
	struct sleeper *sleepers;
	struct unheard unheard;
	PyObject *weak_references;
} FutureObject;

PyTypeObject *future_type;

static bool completed(const FutureObject *self)
{
	return self->state == FUTURE_VALUE || self->state == FUTURE_ERROR;
}

bool future_check(PyObject *object)
{
	return PyObject_TypeCheck(object, future_type);
}

bool future_like(PyObject *object)
{
	return future_check(object) ||
	       (PyObject_HasAttrString(object, "add_done_callback") && PyObject_HasAttrString(object, "value"));
}

static FutureObject *alloc(PyTypeObject *type)
{
	FutureObject *self = (FutureObject *)type->tp_alloc(type, 0);

	if (!self)
		return NULL;
	self->state = FUTURE_OPEN;
	self->last_callback = &self->callbacks;
	return self;
}

PyObject *future_new(void)
{
	return (PyObject *)alloc(future_type);
}

PyObject *future_object(tdr_future *future, enum error_style style)
{
	FutureObject *self = alloc(future_type);

	if (!self)
		return NULL;
	self->state = FUTURE_BOUND;
	self->style = style;
	self->source = tdr_future_ref(future);
	return (PyObject *)self;
}

void future_expect(PyObject *future)
{
	FutureObject *self = (FutureObject *)future;

	unheard_add(&self->unheard, self->source);
}

static void unref_source(void *source)
{
	tdr_future_unref(source);
}

static void drop_source(FutureObject *self)
{
	tdr_future *source = self->source;

	self->source = NULL;
	if (source)
		drop_handle(unref_source, source);
}

/* ---- completing ---- */

static void free_callback(struct callback *callback)
{
	Py_XDECREF(callback->callable);
	Py_XDECREF(callback->child);
	PyMem_Free(callback);
}

/* Takes over the exception that is set, as an instance. */
static PyObject *take_exception(void)
{
	PyObject *type, *value, *traceback;

	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	if (value && traceback)
		PyException_SetTraceback(value, traceback);
	Py_XDECREF(type);
	Py_XDECREF(traceback);
	return value;
}

/* What a child is completed with when its callback has raised: the exception is set. */
static PyObject *callback_error(void)
{
	PyObject *type, *value, *traceback, *text, *error = NULL;

	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	if (value && traceback)
		PyException_SetTraceback(value, traceback);
	text = PyUnicode_FromFormat("Got the following error when running the callback: %s: %S",
	                            value ? Py_TYPE(value)->tp_name : "?", value ? value : Py_None);
	if (text)
		error = PyObject_CallOneArg(PyExc_RuntimeError, text);
	if (error && value)
		PyException_SetCause(error, Py_NewRef(value));
	PyErr_Clear();
	Py_XDECREF(text);
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(traceback);
	if (error)
		return error;
	PyErr_NoMemory();
	return take_exception();
}

/* `outcome` is given away. False: it was completed before. Leaves the callbacks to be run. */
static bool complete(FutureObject *self, enum future_state state, PyObject *outcome)
{
	struct sleeper *sleeper;

	if (completed(self)) {
		Py_DECREF(outcome);
		return false;
	}
	self->state = state;
	self->outcome = outcome;
	if (state == FUTURE_VALUE)
		unheard_remove(&self->unheard);
	while ((sleeper = self->sleepers)) {
		self->sleepers = sleeper->next;
		PyThread_release_lock(sleeper->lock); /* the sleeper may be gone from here on, but for the GIL */
	}
	drop_source(self);
	if (state == FUTURE_ERROR)
		unheard_fail(&self->unheard, outcome);
	return true;
}

/* Runs a callback of a completed future; true: its child has been completed by that, and has its own callbacks still to run. */
static bool run_callback(FutureObject *self, struct callback *callback)
{
	FutureObject *child = (FutureObject *)callback->child;
	PyObject *result;
	bool first = false;

	if (callback->function) {
		callback->function((PyObject *)self, callback->context);
		return false;
	}
	result = PyObject_CallOneArg(callback->callable, (PyObject *)self);
	if (!child) {
		if (!result)
			PyErr_WriteUnraisable(callback->callable);
		Py_XDECREF(result);
	} else if (result) {
		first = complete(child, FUTURE_VALUE, result);
	} else {
		first = complete(child, FUTURE_ERROR, callback_error());
	}
	return first;
}

static struct callback *take_callback(FutureObject *self)
{
	struct callback *callback = self->callbacks;

	if (!callback)
		return NULL;
	self->callbacks = callback->next;
	if (!self->callbacks)
		self->last_callback = &self->callbacks;
	return callback;
}

/*
 * Runs `callback` (given away; NULL: none), then those of `self`, one by one: one that runs may add more, and another thread may help.
 * Those of a child come right after the one that has completed it. A chain of children may be of any length, so they are not run inside
 * each other: `ran` are the callbacks that keep the children in whose midst this is, the innermost first.
 */
static void run_callbacks_after(FutureObject *self, struct callback *callback)
{
	FutureObject *at = self;
	struct callback *ran = NULL;

	if (!callback)
		callback = take_callback(self);
	while (callback || ran) {
		if (callback && run_callback(at, callback)) {
			callback->next = ran;
			ran = callback;
		} else if (callback) {
			free_callback(callback);
		} else {
			callback = ran;
			ran = callback->next;
			free_callback(callback); /* and the child, of which all have run */
		}
		at = ran ? (FutureObject *)ran->child : self;
		callback = take_callback(at);
	}
}

static void run_callbacks(FutureObject *self)
{
	run_callbacks_after(self, NULL);
}

PyObject *result_of(tdr_future *future, enum error_style style)
{
	if (tdr_future_status(future) == TDR_OK)
		return python_from_value(tdr_future_value(future));
	return raise_outcome(future, style);
}

/* Takes up the outcome of the source, where it is there. Making objects may run Python code, and another thread be faster. */
static void settle(FutureObject *self)
{
	tdr_future *source;
	PyObject *outcome;
	enum future_state state;

	if (self->state != FUTURE_BOUND || !tdr_future_done(self->source))
		return;
	source = tdr_future_ref(self->source);
	outcome = result_of(source, self->style);
	state = outcome ? FUTURE_VALUE : FUTURE_ERROR;
	if (!outcome)
		outcome = take_exception();
	complete(self, state, outcome);
	drop_handle(unref_source, source);
}

void future_set(PyObject *future, PyObject *result)
{
	FutureObject *self = (FutureObject *)future;

	Py_INCREF(self);
	if (complete(self, FUTURE_VALUE, Py_NewRef(result)))
		run_callbacks(self);
	Py_DECREF(self);
}

void future_fail(PyObject *future, PyObject *exception)
{
	FutureObject *self = (FutureObject *)future;

	Py_INCREF(self);
	if (complete(self, FUTURE_ERROR, Py_NewRef(exception)))
		run_callbacks(self);
	Py_DECREF(self);
}

/* ---- the source's completion ---- */

/* `context` is a reference to the future. */
static void source_work(void *context)
{
	FutureObject *self = context;
	PyGILState_STATE state;

	if (!python_enter(&state))
		return;
	settle(self);
	run_callbacks(self);
	Py_DECREF(self);
	python_leave(state);
}

static void source_done(tdr_future *source, void *context)
{
	FutureObject *self = context;

	if (!atomic_load(&self->may_block) || !hands_run(source_work, self))
		source_work(self);
}

/* Has source_done called. -1: an exception. */
static int watch(FutureObject *self)
{
	tdr_status status;

	if (self->watched)
		return 0;
	Py_INCREF(self);
	self->watched = true;
	status = tdr_future_on_done(self->source, source_done, self);
	if (status == TDR_OK)
		return 0;
	self->watched = false;
	Py_DECREF(self);
	raise_last(status);
	return -1;
}

/* Adds a callback, or runs it where the future is completed. `callback` is given away. -1: an exception. */
static int add_callback(FutureObject *self, struct callback *callback, bool may_block)
{
	/* First of all: either source_done sees it, or we see that the source is done. */
	if (may_block)
		atomic_store(&self->may_block, true);
	settle(self);
	if (self->state == FUTURE_BOUND && watch(self) < 0) {
		free_callback(callback);
		return -1;
	}
	if (!completed(self)) {
		*self->last_callback = callback;
		self->last_callback = &callback->next;
		return 0;
	}
	Py_INCREF(self);
	run_callbacks_after(self, callback);
	Py_DECREF(self);
	return 0;
}

static struct callback *new_callback(PyObject *callable, PyObject *child)
{
	struct callback *callback = PyMem_Calloc(1, sizeof(*callback));

	if (!callback) {
		PyErr_NoMemory();
		return NULL;
	}
	callback->callable = Py_XNewRef(callable);
	callback->child = Py_XNewRef(child);
	return callback;
}

static int add_function(PyObject *future, void (*done)(PyObject *, void *), void *context, bool may_block)
{
	struct callback *callback = new_callback(NULL, NULL);

	if (!callback)
		return -1;
	callback->function = done;
	callback->context = context;
	return add_callback((FutureObject *)future, callback, may_block);
}

int future_on_done(PyObject *future, void (*done)(PyObject *future, void *context), void *context)
{
	unheard_remove(&((FutureObject *)future)->unheard);
	return add_function(future, done, context, false);
}

int future_on_done_may_block(PyObject *future, void (*done)(PyObject *future, void *context), void *context)
{
	return add_function(future, done, context, true);
}

/* ---- waiting ---- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int wait_for(tdr_future *future, int64_t timeout_ms)
{
	int64_t deadline = timeout_ms == TDR_TIMEOUT_NEVER ? INT64_MAX : now_ms() + timeout_ms;

	while (!tdr_future_done(future)) {
		bool main_thread = python_is_main_thread();
		int64_t left = deadline == INT64_MAX ? INT64_MAX : deadline - now_ms();
		int64_t slice = main_thread && left > SIGNAL_SLICE_MS ? SIGNAL_SLICE_MS : left;
		tdr_status status;

		if (left <= 0)
			return 0;
		Py_BEGIN_ALLOW_THREADS;
		status = tdr_future_wait(future, slice == INT64_MAX ? TDR_TIMEOUT_NEVER : slice, NULL);
		Py_END_ALLOW_THREADS;
		if (tdr_future_done(future))
			break;
		if (status != TDR_ETIMEDOUT) { /* it may not wait here at all */
			raise_last(status);
			return -1;
		}
		if (main_thread && PyErr_CheckSignals() < 0)
			return -1;
	}
	return 1;
}

static void forget_sleeper(FutureObject *self, struct sleeper *sleeper)
{
	for (struct sleeper **link = &self->sleepers; *link; link = &(*link)->next) {
		if (*link == sleeper) {
			*link = sleeper->next;
			return;
		}
	}
}

/* Sleeps until an open future has been completed. -1: an exception, of a signal's handler. */
static int sleep_on(FutureObject *self)
{
	struct sleeper sleeper = {.next = self->sleepers, .lock = PyThread_allocate_lock()};
	PyLockStatus status;
	int result = 0;

	if (!sleeper.lock) {
		PyErr_NoMemory();
		return -1;
	}
	PyThread_acquire_lock(sleeper.lock, NOWAIT_LOCK);
	self->sleepers = &sleeper;
	for (;;) {
		Py_BEGIN_ALLOW_THREADS;
		status = PyThread_acquire_lock_timed(sleeper.lock, -1, 1);
		Py_END_ALLOW_THREADS;
		if (status == PY_LOCK_ACQUIRED)
			break;
		if (PyErr_CheckSignals() < 0) {
			result = -1;
			break;
		}
	}
	forget_sleeper(self, &sleeper);
	if (status != PY_LOCK_ACQUIRED && !PyThread_acquire_lock(sleeper.lock, NOWAIT_LOCK))
		PyThread_release_lock(sleeper.lock);
	PyThread_free_lock(sleeper.lock);
	return result;
}

/* Waits until the future is completed. -1: an exception. */
static int wait_until_completed(FutureObject *self)
{
	while (!completed(self)) {
		if (self->state == FUTURE_BOUND) {
			tdr_future *source = tdr_future_ref(self->source);
			int done = wait_for(source, TDR_TIMEOUT_NEVER);

			if (done > 0)
				settle(self);
			drop_handle(unref_source, source);
			if (done < 0)
				return -1;
		} else if (sleep_on(self) < 0) {
			return -1;
		}
	}
	return 0;
}

/* The result of a completed future, or its exception raised, each time with a traceback of its own. */
static PyObject *outcome_of(FutureObject *self)
{
	if (!self->outcome)
		return PyErr_Format(PyExc_RuntimeError, "the garbage collector has taken the future's result away");
	if (self->state == FUTURE_VALUE)
		return Py_NewRef(self->outcome);
	PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(self->outcome)), Py_NewRef(self->outcome), NULL);
	return NULL;
}

PyObject *future_result(PyObject *future)
{
	return outcome_of((FutureObject *)future);
}

/* ---- methods ---- */

static PyObject *future_done(FutureObject *self, PyObject *unused)
{
	return PyBool_FromLong(completed(self) || (self->state == FUTURE_BOUND && tdr_future_done(self->source)));
}

static PyObject *future_wait(FutureObject *self, PyObject *unused)
{
	unheard_remove(&self->unheard);
	return wait_until_completed(self) < 0 ? NULL : outcome_of(self);
}

static PyObject *future_value(FutureObject *self, PyObject *unused)
{
	unheard_remove(&self->unheard);
	settle(self);
	if (completed(self))
		return outcome_of(self);
	PyErr_SetString(PyExc_RuntimeError,
	                "the future has not completed: call wait() first, or value() in a callback");
	return NULL;
}

static bool check_callback(PyObject *callback, const char *method)
{
	if (PyCallable_Check(callback))
		return true;
	PyErr_Format(
	    PyExc_TypeError,
	    "%s(): incompatible function arguments. Supported: a function that takes the future; invoked with: %R",
	    method, callback);
	return false;
}

static PyObject *future_then(FutureObject *self, PyObject *callable)
{
	struct callback *callback;
	FutureObject *child;

	if (!check_callback(callable, "then"))
		return NULL;
	unheard_remove(&self->unheard);
	child = alloc(Py_TYPE(self));
	callback = child ? new_callback(callable, (PyObject *)child) : NULL;
	if (!callback || add_callback(self, callback, true) < 0)
		Py_CLEAR(child);
	return (PyObject *)child;
}

static PyObject *future_add_done_callback(FutureObject *self, PyObject *callable)
{
	struct callback *callback;

	if (!check_callback(callable, "add_done_callback"))
		return NULL;
	unheard_remove(&self->unheard);
	callback = new_callback(callable, NULL);
	if (!callback || add_callback(self, callback, true) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *future_on_done_quickly(FutureObject *self, PyObject *callable)
{
	struct callback *callback = new_callback(callable, NULL);

	unheard_remove(&self->unheard);
	if (!callback || add_callback(self, callback, false) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* Completes it and runs its callbacks. What it was bound to is given up then, and who waits for that wakes up. */
static PyObject *complete_by_hand(FutureObject *self, enum future_state state, PyObject *outcome)
{
	tdr_future *source;

	settle(self);
	source = self->state == FUTURE_BOUND ? tdr_future_ref(self->source) : NULL;
	if (!complete(self, state, Py_NewRef(outcome)))
		return PyErr_Format(PyExc_RuntimeError, "Future can only be marked completed once; this one has a "
		                                        "result or an error");
	run_callbacks(self);
	if (source) {
		Py_BEGIN_ALLOW_THREADS;
		tdr_future_cancel(source);
		tdr_future_unref(source);
		Py_END_ALLOW_THREADS;
	}
	Py_RETURN_NONE;
}

static PyObject *future_set_result(FutureObject *self, PyObject *result)
{
	return complete_by_hand(self, FUTURE_VALUE, result);
}

static PyObject *future_set_exception(FutureObject *self, PyObject *exception)
{
	if (!PyObject_TypeCheck(exception, (PyTypeObject *)PyExc_Exception))
		return PyErr_Format(PyExc_AssertionError, "%S is of type %R, not an Exception.", exception,
		                    (PyObject *)Py_TYPE(exception));
	return complete_by_hand(self, FUTURE_ERROR, exception);
}

static PyObject *future_tell_failure(FutureObject *self, PyObject *name)
{
	const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;

	if (self->state != FUTURE_OPEN || self->unheard.link || !PyUnicode_Check(name))
		return PyErr_Format(PyExc_TypeError,
		                    "_tell_failure() takes a str, once, and before the future has completed");
	if (!text || !unheard_add_text(&self->unheard, text))
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *future_heard(FutureObject *self, PyObject *unused)
{
	unheard_remove(&self->unheard);
	Py_RETURN_NONE;
}

static PyObject *future_cancel(FutureObject *self, PyObject *unused)
{
	unheard_remove(&self->unheard);
	settle(self);
	if (completed(self))
		Py_RETURN_FALSE;
	if (self->state == FUTURE_BOUND) {
		tdr_future *source = tdr_future_ref(self->source);

		Py_BEGIN_ALLOW_THREADS;
		tdr_future_cancel(source);
		tdr_future_unref(source);
		Py_END_ALLOW_THREADS;
	} else {
		PyObject *error;

		raise_status(TDR_ECANCELED, "the future was cancelled", NULL, NULL, ERROR_OF_CALL);
		error = take_exception();
		future_fail((PyObject *)self, error);
		Py_DECREF(error);
	}
	Py_RETURN_TRUE;
}

static PyObject *future_await(FutureObject *self)
{
	PyObject *module = PyImport_ImportModule("tendril._asyncio"), *future, *iterator = NULL;

	if (!module)
		return NULL;
	future = PyObject_CallMethod(module, "wrap", "O", self);
	if (future)
		iterator = PyObject_CallMethod(future, "__await__", NULL);
	Py_XDECREF(future);
	Py_DECREF(module);
	return iterator;
}

static PyObject *future_reduce(FutureObject *self, PyObject *unused)
{
	PyErr_SetString(PyExc_RuntimeError, "Can not pickle torch.futures.Future");
	return NULL;
}

static PyObject *future_repr(FutureObject *self)
{
	static const char *const states[] = {"under way", "open", "completed", "failed"};
	enum future_state state = self->state;

	if (state == FUTURE_BOUND && tdr_future_done(self->source))
		state = tdr_future_status(self->source) == TDR_OK ? FUTURE_VALUE : FUTURE_ERROR;
	return PyUnicode_FromFormat("<%s %s at %p>", Py_TYPE(self)->tp_name, states[state], self);
}

/* ---- the type ---- */

static PyObject *make_future(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	return (PyObject *)alloc(type);
}

static int init_future(FutureObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"devices", NULL};
	PyObject *devices = NULL;

	return PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:Future", keywords, &devices) ? 0 : -1;
}

static int traverse_future(FutureObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->outcome);
	for (struct callback *callback = self->callbacks; callback; callback = callback->next) {
		Py_VISIT(callback->callable);
		Py_VISIT(callback->child);
	}
	return 0;
}

/* Who has a callback learns that it will not be called. An exception may be on its way meanwhile. */
static void abandon_callback(struct callback *callback)
{
	PyObject *type, *value, *traceback;

	PyErr_Fetch(&type, &value, &traceback);
	callback->function(NULL, callback->context);
	PyErr_Restore(type, value, traceback);
}

static int clear_future(FutureObject *self)
{
	struct callback *callback;

	Py_CLEAR(self->outcome);
	while ((callback = take_callback(self))) {
		if (callback->function)
			abandon_callback(callback);
		free_callback(callback);
	}
	return 0;
}

static void dealloc_future(FutureObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	struct unheard unheard;
	tdr_future *source;

	PyObject_GC_UnTrack(self);
	/* A future may be all that keeps another, in a chain of any length. */
	Py_TRASHCAN_BEGIN(self, dealloc_future);
	if (self->weak_references)
		PyObject_ClearWeakRefs((PyObject *)self);
	clear_future(self);
	source = self->source;
	unheard = unheard_take(&self->unheard);
	type->tp_free(self);
	Py_DECREF(type);
	unheard_abandon(unheard);
	if (source)
		drop_handle(unref_source, source);
	Py_TRASHCAN_END;
}

static PyMethodDef future_methods[] = {
    {"done", (PyCFunction)future_done, METH_NOARGS,
     PyDoc_STR("done($self)\n--\n\nWhether it has a result or an error.")},
    {"wait", (PyCFunction)future_wait, METH_NOARGS,
     PyDoc_STR("wait($self)\n--\n\nWaits until it has completed, while other threads run; returns its result. "
               "May be called again.\n\nRaises:\n    Its error. Of a call: ValueError or TypeError where the "
               "function has raised one, else RuntimeError.\n    KeyboardInterrupt: by Ctrl-C; the call goes on.")},
    {"value", (PyCFunction)future_value, METH_NOARGS,
     PyDoc_STR("value($self)\n--\n\nThe result, without waiting.\n\nRaises:\n    RuntimeError: it has not "
               "completed. Otherwise its error.")},
    {"then", (PyCFunction)future_then, METH_O,
     PyDoc_STR("then($self, callback)\n--\n\nA future of what callback(future) returns, or raises, once this "
               "one has completed.\n\nThe callback runs in the thread that completes this future, at once where "
               "it has completed; of a call\nin a thread of the package's.")},
    {"add_done_callback", (PyCFunction)future_add_done_callback, METH_O,
     PyDoc_STR("add_done_callback($self, callback)\n--\n\nCalls callback(future) once it has completed, as "
               "then() does. What it raises is printed.")},
    {"set_result", (PyCFunction)future_set_result, METH_O,
     PyDoc_STR("set_result($self, result)\n--\n\nCompletes it; callbacks run before this returns.")},
    {"set_exception", (PyCFunction)future_set_exception, METH_O,
     PyDoc_STR("set_exception($self, exception)\n--\n\nCompletes it with an error, which wait() raises.")},
    {"cancel", (PyCFunction)future_cancel, METH_NOARGS,
     PyDoc_STR("cancel($self)\n--\n\nGives the result up: it completes with RuntimeError, and a call's callee "
               "is told, where a coroutine is\ncancelled.\n\nReturns:\n    False where it had completed already.")},
    {"_on_done", (PyCFunction)future_on_done_quickly, METH_O,
     PyDoc_STR("_on_done($self, callback)\n--\n\nadd_done_callback for one that does not block.")},
    {"_tell_failure", (PyCFunction)future_tell_failure, METH_O,
     PyDoc_STR("_tell_failure($self, name)\n--\n\nIt stands for a call, of that name: a failure that nobody asks "
               "about is reported.")},
    {"_heard", (PyCFunction)future_heard, METH_NOARGS,
     PyDoc_STR("_heard($self)\n--\n\nSomebody has asked about the call, by a future of another make.")},
    {"__reduce__", (PyCFunction)future_reduce, METH_NOARGS, NULL},
    {"__reduce_ex__", (PyCFunction)future_reduce, METH_O, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL},
};

static PyMemberDef future_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(FutureObject, weak_references), READONLY, NULL},
    {NULL},
};

static PyType_Slot future_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("Future(*, devices=None)\n--\n\nThe result of something under way. Any thread may use it, and "
                       "any event loop may await it.")},
    {Py_tp_new, (void *)make_future},
    {Py_tp_init, (void *)init_future},
    {Py_tp_dealloc, (void *)dealloc_future},
    {Py_tp_traverse, (void *)traverse_future},
    {Py_tp_clear, (void *)clear_future},
    {Py_tp_repr, (void *)future_repr},
    {Py_tp_methods, (void *)future_methods},
    {Py_tp_members, (void *)future_members},
    {Py_am_await, (void *)future_await},
    {0, NULL},
};

static PyType_Spec future_spec = {
    .name = "tendril._C.Future",
    .basicsize = sizeof(FutureObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = future_slots,
};

int future_init(PyObject *module)
{
	if (!future_type)
		future_type = (PyTypeObject *)PyType_FromSpec(&future_spec);
	return future_type ? PyModule_AddObjectRef(module, "Future", (PyObject *)future_type) : -1;
}
