/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How threads of the library's come into Python.
 *
 * A thread that Python does not know gets a PyThreadState at its first entry and keeps it until it ends, so that each further
 * entry is no more than taking the GIL. The gate closes by atexit, before the interpreter begins to go down: nobody enters
 * any more, and those on their way in are waited for. A thread that is inside then goes on until it next waits for the GIL, where
 * Python ends it, as it does its own daemon threads.
 */
#include "ext.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifdef IS_SANITIZED
#include <sanitizer/lsan_interface.h>
#endif

/* How long the closing gate waits for those on their way in, in milliseconds. */
#define CLOSE_WAIT_MS 2000

static _Atomic bool closing;
static _Atomic bool agent_ended;
static atomic_int entering; /* threads between the gate and the GIL */
/* The signals that were blocked where the module was imported: in threads of the library's all of them are. */
static sigset_t program_mask;

/* Objects that nobody needs, to be dropped by a thread that has the GIL. */
struct doomed {
	struct doomed *next;
	PyObject *object;
};

static struct doomed *_Atomic doomed; /* who adds the first has bury called */

/* How long threads waited for the GIL, where that is measured. */
static _Atomic bool measuring;
static _Atomic uint64_t waits, waited_ns;

/*
 * The C library's: runs `destroy` when the calling thread ends, before the thread-local storage is gone in which Python finds
 * the thread's state; a destructor of pthread_key_create would run after. Not everywhere there.
 */
extern int __cxa_thread_atexit_impl(void (*destroy)(void *object), void *object, void *library) __attribute__((weak));
extern void *__dso_handle __attribute__((visibility("hidden")));

/* Passes the gate; who is let in calls gate_pass when it has the GIL. */
static bool gate_enter(void)
{
	atomic_fetch_add(&entering, 1);
	if (!atomic_load(&closing))
		return true;
	atomic_fetch_sub(&entering, 1);
	return false;
}

static void gate_pass(void)
{
	atomic_fetch_sub(&entering, 1);
}

/* A thread ends that had a PyThreadState. */
static void drop_thread_state(void *context)
{
	PyThreadState *state = context;

	if (!gate_enter())
		return;
	PyEval_RestoreThread(state);
	gate_pass();
	PyThreadState_Clear(state);
	PyThreadState_DeleteCurrent();
}

/* What the parent's threads were at is theirs. */
static void after_fork_in_child(void)
{
	atomic_store(&doomed, NULL);
	atomic_store(&entering, 0);
}

void gil_init(void)
{
	pthread_sigmask(SIG_SETMASK, NULL, &program_mask);
	pthread_atfork(NULL, NULL, after_fork_in_child);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Takes the GIL and counts how long that took. */
static PyGILState_STATE measured_ensure(void)
{
	uint64_t before = now_ns();
	PyGILState_STATE state = PyGILState_Ensure();

	atomic_fetch_add(&waited_ns, now_ns() - before);
	atomic_fetch_add(&waits, 1);
	return state;
}

bool python_enter(PyGILState_STATE *ret_state)
{
	bool is_new;

	if (!gate_enter())
		return false;
	is_new = !PyGILState_GetThisThreadState();
	*ret_state = atomic_load_explicit(&measuring, memory_order_relaxed) ? measured_ensure() : PyGILState_Ensure();
	gate_pass();
	/* Counted once more than it is released, the state stays. */
	if (is_new)
		pthread_sigmask(SIG_SETMASK, &program_mask,
		                NULL); /* for processes that a function starts: they inherit it */
	if (is_new && __cxa_thread_atexit_impl &&
	    __cxa_thread_atexit_impl(drop_thread_state, PyThreadState_Get(), &__dso_handle) == 0)
		(void)PyGILState_Ensure();
	return true;
}

void python_leave(PyGILState_STATE state)
{
	PyGILState_Release(state);
}

bool python_is_closing(void)
{
	return atomic_load(&closing);
}

bool python_is_main_thread(void)
{
	return gettid() == getpid();
}

/* ---- objects that are dropped where Python cannot run ---- */

/* Whether this thread has the GIL. PyGILState_Check says so of every thread once the program has made a subinterpreter. */
static bool has_gil(void)
{
	PyThreadState *state = PyGILState_GetThisThreadState();

	return state && state == _PyThreadState_UncheckedGet();
}

static void bury(void *unused)
{
	PyGILState_STATE state;
	struct doomed *list;

	if (!python_enter(&state))
		return;
	list = atomic_exchange(&doomed, NULL);
	while (list) {
		struct doomed *next = list->next;

		Py_DECREF(list->object);
		free(list);
		list = next;
	}
	python_leave(state);
}

void python_decref(PyObject *object)
{
	struct doomed *entry, *before;

	if (!object || python_is_closing())
		return;
	if (has_gil()) {
		Py_DECREF(object);
		return;
	}
	entry = malloc(sizeof(*entry));
	if (!entry)
		return;
	entry->object = object;
	before = atomic_load(&doomed);
	do {
		entry->next = before;
	} while (!atomic_compare_exchange_weak(&doomed, &before, entry));
	if (!before && !hands_run(bury, NULL)) /* the entry may be gone by now */
		bury(NULL);
}

/* ---- the end ---- */

void engines_may_end(void)
{
	atomic_store(&agent_ended, true);
}

/* Tells LeakSanitizer that this, with all that it leads to, is left to the end of the process. */
static void leave_to_the_end(const void *memory)
{
#ifdef IS_SANITIZED
	__lsan_ignore_object(memory);
#endif
	(void)memory;
}

void drop_handle(void (*unref)(void *handle), void *handle)
{
	if (!atomic_load_explicit(&agent_ended, memory_order_relaxed)) {
		unref(handle);
		return;
	}
	if (python_is_closing()) {
		/* Nobody needs the memory any more, and a thread may never give back what it holds. */
		leave_to_the_end(handle);
		return;
	}
	Py_BEGIN_ALLOW_THREADS;
	unref(handle);
	Py_END_ALLOW_THREADS;
}

PyObject *enable_gil_profiling(PyObject *module, PyObject *flag)
{
	int enable = PyObject_IsTrue(flag);

	if (enable < 0)
		return NULL;
	atomic_store(&measuring, enable);
	Py_RETURN_NONE;
}

bool add_gil_wait(PyObject *info)
{
	uint64_t count = atomic_load(&waits);
	PyObject *average;
	int error;

	if (!atomic_load(&measuring))
		return true;
	average = PyFloat_FromDouble(count ? (double)atomic_load(&waited_ns) / (double)count / 1000.0 : 0.0);
	error = average ? PyDict_SetItemString(info, "agent.gil_average_wait_time_us", average) : -1;
	Py_XDECREF(average);
	return error == 0;
}

PyObject *python_close(PyObject *module, PyObject *unused)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	atomic_store(&closing, true);
	Py_BEGIN_ALLOW_THREADS;
	for (int waited = 0; waited < CLOSE_WAIT_MS && atomic_load(&entering) > 0; waited++)
		nanosleep(&pause, NULL);
	Py_END_ALLOW_THREADS;
	Py_RETURN_NONE;
}
