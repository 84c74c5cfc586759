/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Failed calls that nobody has asked about.
 *
 * Each asynchronous call is in a list until somebody asks for its outcome: waits for it, looks at it, or adds a callback. What has
 * failed by the time the agent goes, and has never been asked for, is told then: tendril.rpc logs what take_unheard_failures gives.
 * The GIL guards the list; a mutex guards the failures of calls whose futures are gone, since those may complete in any thread.
 */
#include "ext.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* How many different failures are told apart, and how much of their text is kept. */
#define FAILURES_MAX 32
#define FAILURE_TEXT_SIZE 512

struct failure {
	char text[FAILURE_TEXT_SIZE];
	size_t count;
};

static struct unheard *calls;

static struct {
	pthread_mutex_t lock;
	struct failure list[FAILURES_MAX];
	size_t length;
	size_t others; /* that found no place */
	pid_t process;
} failures = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Counts a failure. With the lock held. */
static void count(const char *text)
{
	for (size_t i = 0; i < failures.length; i++) {
		if (strncmp(failures.list[i].text, text, FAILURE_TEXT_SIZE - 1) == 0) {
			failures.list[i].count++;
			return;
		}
	}
	if (failures.length == FAILURES_MAX) {
		failures.others++;
		return;
	}
	failures.list[failures.length].count = 1;
	snprintf(failures.list[failures.length++].text, FAILURE_TEXT_SIZE, "%s", text);
}

/* A call is over. Who cancels one, or leaves the group, knows what becomes of it. Any thread. */
static void note(tdr_future *call, void *unused)
{
	tdr_status status = tdr_future_status(call);

	if (status == TDR_OK || status == TDR_ECANCELED || status == TDR_ESHUTDOWN || status == TDR_EFORKED)
		return;
	pthread_mutex_lock(&failures.lock);
	count(tdr_future_error(call));
	pthread_mutex_unlock(&failures.lock);
}

void unheard_add(struct unheard *self, tdr_future *call)
{
	self->call = tdr_future_ref(call);
	self->next = calls;
	self->link = &calls;
	if (calls)
		calls->link = &self->next;
	calls = self;
}

tdr_future *unheard_take(struct unheard *self)
{
	tdr_future *call = self->call;

	if (!call)
		return NULL;
	*self->link = self->next;
	if (self->next)
		self->next->link = self->link;
	*self = (struct unheard){.call = NULL};
	return call;
}

static void unref_call(void *call)
{
	tdr_future_unref(call);
}

void unheard_remove(struct unheard *self)
{
	tdr_future *call = unheard_take(self);

	if (call)
		drop_handle(unref_call, call);
}

void unheard_abandon(tdr_future *call)
{
	/* A child made by fork() has its parent's calls, and nothing to tell of them. */
	if (failures.process == getpid()) {
		if (tdr_future_done(call))
			note(call, NULL);
		else
			(void)tdr_future_on_done(call, note, NULL);
	}
	drop_handle(unref_call, call);
}

/* Counts those that have failed among the calls that somebody could still ask about. */
static void gather(void)
{
	struct unheard *next;

	for (struct unheard *each = calls; each; each = next) {
		next = each->next;
		if (tdr_future_done(each->call)) {
			tdr_future *call = unheard_take(each);

			note(call, NULL);
			tdr_future_unref(call); /* its Future has one more */
		}
	}
}

/* Adds (text, count). False: an exception. */
static bool append(PyObject *list, const char *text, size_t count)
{
	PyObject *decoded = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
	PyObject *entry = decoded ? Py_BuildValue("(Nn)", decoded, (Py_ssize_t)count) : NULL;
	bool good = entry && PyList_Append(list, entry) == 0;

	Py_XDECREF(entry);
	return good;
}

static PyObject *take_unheard_failures(PyObject *module, PyObject *unused)
{
	PyObject *list = PyList_New(0);
	struct failure *taken = PyMem_New(struct failure, FAILURES_MAX);
	size_t length, others;
	bool good;

	if (!list || !taken) {
		Py_XDECREF(list);
		PyMem_Free(taken);
		return PyErr_NoMemory();
	}
	gather();
	/* No object is made with the lock held: the garbage collector may run then, and end futures, which want the lock. */
	pthread_mutex_lock(&failures.lock);
	length = failures.length;
	others = failures.others;
	memcpy(taken, failures.list, length * sizeof(*taken));
	failures.length = failures.others = 0;
	pthread_mutex_unlock(&failures.lock);
	good = true;
	for (size_t i = 0; good && i < length; i++)
		good = append(list, taken[i].text, taken[i].count);
	if (good && others)
		good = append(list, "other failures", others);
	PyMem_Free(taken);
	if (!good)
		Py_CLEAR(list);
	return list;
}

static void after_fork_in_child(void)
{
	pthread_mutex_init(&failures.lock, NULL);
	failures.length = failures.others = 0;
}

static PyMethodDef functions[] = {
    {"take_unheard_failures", take_unheard_failures, METH_NOARGS,
     PyDoc_STR("take_unheard_failures()\n--\n\nThe calls that have failed and that nobody has asked about, since the "
               "last time: a list of (text, count).")},
    {NULL},
};

int unheard_init(PyObject *module)
{
	if (!failures.process) {
		failures.process = getpid();
		pthread_atfork(NULL, NULL, after_fork_in_child);
	}
	return PyModule_AddFunctions(module, functions);
}
