/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads for what may block: callbacks of Python's, which the library's own threads must not wait for, and waits that a signal
 * may end.
 *
 * A thread is made when work comes and none is idle, up to HANDS_MAX, past which work queues; one that has been idle for a while
 * ends. A child made by fork() starts without any.
 */
#include "ext.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define HANDS_MAX 1024
#define HANDS_IDLE_S 10

struct job {
	struct job *next;
	void (*work)(void *context);
	void *context;
};

static struct hands {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct job *first, **last; /* queued */
	size_t nqueued;
	size_t nidle;
	size_t nthreads;
} hands = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

static pthread_once_t hands_once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
	pthread_mutex_lock(&hands.lock);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&hands.lock);
}

/* What was queued belongs to the parent; it is not freed, since who made it may look at it. */
static void after_fork_in_child(void)
{
	pthread_mutex_init(&hands.lock, NULL);
	pthread_cond_init(&hands.more, NULL);
	hands.first = NULL;
	hands.last = &hands.first;
	hands.nqueued = hands.nidle = hands.nthreads = 0;
}

static void hands_init(void)
{
	hands.last = &hands.first;
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* The next job, or NULL when there was none for HANDS_IDLE_S. With the lock held. */
static struct job *next_job(void)
{
	struct timespec until;
	struct job *job;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += HANDS_IDLE_S;
	while (!hands.first) {
		int error;

		hands.nidle++;
		error = pthread_cond_timedwait(&hands.more, &hands.lock, &until);
		hands.nidle--;
		if (error == ETIMEDOUT && !hands.first)
			return NULL;
	}
	job = hands.first;
	hands.first = job->next;
	if (!hands.first)
		hands.last = &hands.first;
	hands.nqueued--;
	return job;
}

static void *hand(void *unused)
{
	struct job *job;

	pthread_mutex_lock(&hands.lock);
	while ((job = next_job())) {
		pthread_mutex_unlock(&hands.lock);
		job->work(job->context);
		free(job);
		pthread_mutex_lock(&hands.lock);
	}
	hands.nthreads--;
	pthread_mutex_unlock(&hands.lock);
	return NULL;
}

static bool start_hand(void)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int error;

	if (pthread_attr_init(&attributes) != 0)
		return false;
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &attributes, hand, NULL);
	pthread_attr_destroy(&attributes);
	return error == 0;
}

bool hands_run(void (*work)(void *context), void *context)
{
	struct job *job = malloc(sizeof(*job));
	bool runs = true;

	if (!job)
		return false;
	*job = (struct job){.work = work, .context = context};
	pthread_once(&hands_once, hands_init);
	pthread_mutex_lock(&hands.lock);
	if (hands.nidle <= hands.nqueued && hands.nthreads < HANDS_MAX) {
		if (start_hand())
			hands.nthreads++;
		else
			runs = hands.nthreads > 0;
	}
	if (runs) {
		*hands.last = job;
		hands.last = &job->next;
		hands.nqueued++;
		pthread_cond_signal(&hands.more);
	}
	pthread_mutex_unlock(&hands.lock);
	if (!runs)
		free(job);
	return runs;
}

/* ---- waits that a signal may end ---- */

/* Held by the thread that waits and by the one that works; the last one frees it. */
struct errand {
	atomic_int refs;
	void (*work)(void *context);
	void (*release)(void *context);
	void *context;
	PyThread_type_lock done; /* taken until the work is done */
};

static void errand_unref(struct errand *errand)
{
	if (atomic_fetch_sub(&errand->refs, 1) != 1)
		return;
	if (errand->release)
		errand->release(errand->context);
	PyThread_free_lock(errand->done);
	free(errand);
}

static void run_errand(void *context)
{
	struct errand *errand = context;

	errand->work(errand->context);
	PyThread_release_lock(errand->done);
	errand_unref(errand);
}

static struct errand *errand_new(void (*work)(void *context), void *context)
{
	struct errand *errand = calloc(1, sizeof(*errand));

	if (!errand)
		return NULL;
	atomic_init(&errand->refs, 2);
	errand->work = work;
	errand->context = context;
	errand->done = PyThread_allocate_lock();
	if (!errand->done) {
		free(errand);
		return NULL;
	}
	PyThread_acquire_lock(errand->done, NOWAIT_LOCK);
	return errand;
}

int run_interruptibly(void (*work)(void *context), void *context, void (*release)(void *context))
{
	struct errand *errand = python_is_main_thread() ? errand_new(work, context) : NULL;
	PyLockStatus status;

	if (!errand || !hands_run(run_errand, errand)) {
		if (errand) {
			PyThread_release_lock(errand->done);
			PyThread_free_lock(errand->done);
			free(errand);
		}
		Py_BEGIN_ALLOW_THREADS;
		work(context);
		Py_END_ALLOW_THREADS;
		return 0;
	}
	for (;;) {
		Py_BEGIN_ALLOW_THREADS;
		status = PyThread_acquire_lock_timed(errand->done, -1, 1);
		Py_END_ALLOW_THREADS;
		if (status == PY_LOCK_ACQUIRED)
			break;
		if (PyErr_CheckSignals() < 0) {
			PyObject *type, *value, *traceback;

			PyErr_Fetch(&type, &value, &traceback);
			Py_BEGIN_ALLOW_THREADS;
			errand->release = release;
			errand_unref(errand);
			Py_END_ALLOW_THREADS;
			PyErr_Restore(type, value, traceback);
			return -1;
		}
	}
	/* The worker is past the work, and drops its reference soon: the last of the two frees the errand alone. */
	errand_unref(errand);
	return 0;
}
