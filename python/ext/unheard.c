/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Failed calls that nobody has asked about.
 *
 * Each asynchronous call is in a list until somebody asks for its outcome: waits for it, looks at it, adds a callback, or uses or hands
 * on the reference that it makes. What has failed by the time the agent goes, and has never been asked for, is told then: tendril.rpc
 * logs what take_unheard_failures gives.
 * The GIL guards the list; a mutex guards the failures of calls whose futures are gone, since those may complete in any thread.
 */
#include "ext.h"

#include <pthread.h>
#include <stdlib.h>
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

static void note_text(const char *text)
{
	pthread_mutex_lock(&failures.lock);
	count(text);
	pthread_mutex_unlock(&failures.lock);
}

/* A call is over. Who cancels one, or leaves the group, knows what becomes of it. Any thread. */
static void note(tdr_future *call, void *unused)
{
	tdr_status status = tdr_future_status(call);

	if (status != TDR_OK && status != TDR_ECANCELED && status != TDR_ESHUTDOWN && status != TDR_EFORKED)
		note_text(tdr_future_error(call));
}

static void enter(struct unheard *self)
{
	self->next = calls;
	self->link = &calls;
	if (calls)
		calls->link = &self->next;
	calls = self;
}

void unheard_add(struct unheard *self, tdr_future *call)
{
	self->call = tdr_future_ref(call);
	enter(self);
}

bool unheard_add_text(struct unheard *self, const char *text)
{
	self->text = strdup(text);
	if (!self->text) {
		PyErr_NoMemory();
		return false;
	}
	enter(self);
	return true;
}

void unheard_fail(struct unheard *self, PyObject *exception)
{
	const char *type = Py_TYPE(exception)->tp_name, *told;
	size_t size = strlen(type);
	PyObject *message;
	char *text = NULL;

	if (!self->text || self->failed)
		return;
	message = PyObject_Str(exception);
	told = message ? PyUnicode_AsUTF8(message) : NULL;
	if (!told)
		told = "";
	else if (strncmp(told, type, size) == 0 && told[size] == ':')
		size = 0; /* those of calls begin with the type */
	/* Somebody may have asked while str() ran. The first line says it; what may follow is the traceback. */
	if (self->text && asprintf(&text, "%s: %.*s%s%.*s", self->text, (int)size, type, size > 0 ? ": " : "",
	                           (int)strcspn(told, "\n"), told) >= 0) {
		free(self->text);
		self->text = text;
	}
	self->failed = self->text != NULL;
	PyErr_Clear();
	Py_XDECREF(message);
}

struct unheard unheard_take(struct unheard *self)
{
	struct unheard taken = *self;

	if (taken.link) {
		*taken.link = taken.next;
		if (taken.next)
			taken.next->link = taken.link;
	}
	*self = (struct unheard){.call = NULL};
	return taken;
}

static void unref_call(void *call)
{
	tdr_future_unref(call);
}

void unheard_remove(struct unheard *self)
{
	struct unheard taken = unheard_take(self);

	free(taken.text);
	if (taken.call)
		drop_handle(unref_call, taken.call);
}

void unheard_abandon(struct unheard taken)
{
	/* A child made by fork() has its parent's calls, and nothing to tell of them. */
	bool ours = failures.process == getpid();

	if (ours && taken.failed)
		note_text(taken.text);
	free(taken.text);
	if (!taken.call)
		return;
	if (ours && tdr_future_done(taken.call))
		note(taken.call, NULL);
	else if (ours)
		(void)tdr_future_on_done(taken.call, note, NULL);
	drop_handle(unref_call, taken.call);
}

/* Counts those that have failed among the calls that somebody could still ask about. */
static void gather(void)
{
	struct unheard *each = calls;

	while (each) {
		struct unheard taken;

		if (!each->failed && !(each->call && tdr_future_done(each->call))) {
			each = each->next;
			continue;
		}
		taken = unheard_take(each);
		/* The analyser does not see that what was taken is in the list no more. */
		if (taken.failed)
			note_text(taken.text); /* NOLINT(clang-analyzer-unix.Malloc) */
		else
			note(taken.call, NULL);
		free(taken.text);
		if (taken.call)
			drop_handle(unref_call, taken.call);
		each = calls; /* the GIL may have been let go: there may be others */
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
