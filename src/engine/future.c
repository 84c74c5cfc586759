/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Futures. A future completes once, under its lock; waiters are woken with it held, callbacks run later from a task with no
 * lock held. What has completed never changes again and is read without the lock.
 */
#include "engine/future.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/refcount.h"

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum future_state {
	FUTURE_PENDING,
	FUTURE_DONE,
};

struct callback {
	struct callback *next;
	tdr_future_callback call;
	void *context;
};

struct tdr_future {
	struct refcount refs;
	_Atomic uint32_t state; /* enum future_state */
	uint32_t fork_generation;
	tdr_status status;
	tdr_engine *engine; /* counted */
	pthread_mutex_t lock;
	struct list waiters;
	struct callback *callbacks, **last_callback;
	struct task task; /* runs the callbacks */
	tdr_value *value; /* the result, or what was attached to the error */
	char *error;
	char *traceback;
	const struct future_origin *origin; /* of futures of calls; NULL once completed */
	void *origin_context;
};

static tdr_status no_future(void)
{
	return error_set(TDR_ENOMEM, "there is no future: memory ran out when it was made");
}

static tdr_status parents_future(void)
{
	return error_set(TDR_EFORKED, "the future belongs to the parent process");
}

tdr_future *tdr_future_new(tdr_engine *engine)
{
	tdr_future *future = calloc(1, sizeof(*future));

	if (!future)
		return NULL;
	refcount_init(&future->refs);
	future->fork_generation = fork_generation();
	future->engine = tdr_engine_ref(engine);
	pthread_mutex_init(&future->lock, NULL);
	list_init(&future->waiters);
	future->last_callback = &future->callbacks;
	return future;
}

tdr_future *tdr_future_ref(tdr_future *future)
{
	if (future)
		refcount_get(&future->refs);
	return future;
}

tdr_future *tdr_future_unref(tdr_future *future)
{
	if (!future || !refcount_put(&future->refs))
		return NULL;
	assert(list_empty(&future->waiters));
	if (future->callbacks && !forked(future->fork_generation)) {
		/* Nobody is left who could complete it, and somebody wants to know. */
		refcount_init(&future->refs);
		future_complete(future, TDR_ECANCELED, NULL, "the future was dropped before it completed", NULL);
		return tdr_future_unref(future);
	}
	tdr_value_unref(future->value);
	free(future->error);
	free(future->traceback);
	if (!forked(future->fork_generation)) {
		pthread_mutex_destroy(&future->lock);
		tdr_engine_unref(future->engine);
	}
	free(future);
	return NULL;
}

/* ---- completing ---- */

static void run_callbacks(struct task *task)
{
	tdr_future *future = container_of(task, tdr_future, task);

	for (;;) {
		struct callback *callback;

		pthread_mutex_lock(&future->lock);
		callback = future->callbacks;
		if (!callback) {
			future->task.run = NULL;
			pthread_mutex_unlock(&future->lock);
			break;
		}
		future->callbacks = callback->next;
		if (!future->callbacks)
			future->last_callback = &future->callbacks;
		pthread_mutex_unlock(&future->lock);
		callback->call(future, callback->context);
		free(callback);
	}
	tdr_future_unref(future);
}

/* Has the callbacks run soon, once for all there are. With the lock held. */
static void start_callbacks(tdr_future *future)
{
	if (!future->callbacks || future->task.run)
		return;
	future->task.run = run_callbacks;
	tdr_future_ref(future);
	engine_defer(future->engine, &future->task);
}

bool future_complete(tdr_future *future, tdr_status status, tdr_value *value, const char *error, const char *traceback)
{
	char *error_copy = status != TDR_OK ? strdup(error && *error ? error : tdr_status_text(status)) : NULL;
	char *traceback_copy = traceback ? strdup(traceback) : NULL;

	if (status == TDR_OK && !value)
		value = tdr_none();
	tdr_future_ref(future); /* who waits may drop the last other reference as soon as it is done */
	pthread_mutex_lock(&future->lock);
	if (atomic_load_explicit(&future->state, memory_order_relaxed) == FUTURE_DONE) {
		pthread_mutex_unlock(&future->lock);
		tdr_value_unref(value);
		free(error_copy);
		free(traceback_copy);
		tdr_future_unref(future);
		return false;
	}
	future->status = status;
	future->value = value;
	future->error = error_copy;
	future->traceback = traceback_copy;
	future->origin = NULL;
	atomic_store_explicit(&future->state, FUTURE_DONE, memory_order_release);
	for (struct list *node; (node = list_shift(&future->waiters));)
		waiter_wake(list_entry(node, struct waiter, node));
	start_callbacks(future);
	pthread_mutex_unlock(&future->lock);
	tdr_future_unref(future);
	return true;
}

tdr_status tdr_future_set(tdr_future *future, tdr_value *value)
{
	if (!future) {
		tdr_value_unref(value);
		return no_future();
	}
	if (forked(future->fork_generation)) {
		tdr_value_unref(value);
		return parents_future();
	}
	if (tdr_value_kind(value) == TDR_INVALID) {
		tdr_status status = tdr_value_status(value);

		tdr_value_unref(value);
		return tdr_future_fail(future, status, "the value could not be made: %s", tdr_status_text(status));
	}
	if (!future_complete(future, TDR_OK, value, NULL, NULL))
		return error_set(TDR_ESTATE, "the future has completed already");
	return TDR_OK;
}

tdr_status tdr_future_fail(tdr_future *future, tdr_status status, const char *format, ...)
{
	char text[ERROR_TEXT_SIZE];
	va_list arguments;

	if (!future)
		return no_future();
	if (forked(future->fork_generation))
		return parents_future();
	if (status == TDR_OK)
		return error_set(TDR_EINVAL, "a future does not fail with TDR_OK");
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (!future_complete(future, status, NULL, text, NULL))
		return error_set(TDR_ESTATE, "the future has completed already");
	return TDR_OK;
}

tdr_status tdr_future_fail_with(tdr_future *future, tdr_status status, const char *text, const char *traceback,
                                tdr_value *detail)
{
	tdr_status refused = TDR_OK;

	if (!future)
		refused = no_future();
	else if (forked(future->fork_generation))
		refused = parents_future();
	else if (status == TDR_OK)
		refused = error_set(TDR_EINVAL, "a future does not fail with TDR_OK");
	if (refused != TDR_OK) {
		tdr_value_unref(detail);
		return refused;
	}
	if (!future_complete(future, status, detail, text, traceback))
		return error_set(TDR_ESTATE, "the future has completed already");
	return TDR_OK;
}

void future_set_origin(tdr_future *future, const struct future_origin *origin, void *context)
{
	pthread_mutex_lock(&future->lock);
	if (atomic_load_explicit(&future->state, memory_order_relaxed) == FUTURE_PENDING) {
		future->origin = origin;
		future->origin_context = context;
	}
	pthread_mutex_unlock(&future->lock);
}

void tdr_future_cancel(tdr_future *future)
{
	const struct future_origin *origin;
	void *context;

	if (!future || forked(future->fork_generation))
		return;
	pthread_mutex_lock(&future->lock);
	origin = future->origin;
	context = future->origin_context;
	if (origin)
		origin->hold(context);
	pthread_mutex_unlock(&future->lock);
	if (!origin) {
		future_complete(future, TDR_ECANCELED, NULL, "the future was cancelled", NULL);
		return;
	}
	origin->cancel(context, future);
	origin->drop(context);
}

/* ---- reading ---- */

bool tdr_future_done(const tdr_future *future)
{
	return !future || atomic_load_explicit(&future->state, memory_order_acquire) == FUTURE_DONE;
}

tdr_status tdr_future_status(const tdr_future *future)
{
	if (!future)
		return TDR_ENOMEM;
	return tdr_future_done(future) ? future->status : TDR_EAGAIN;
}

tdr_value *tdr_future_value(const tdr_future *future)
{
	return future && tdr_future_done(future) && future->status == TDR_OK ? future->value : NULL;
}

tdr_value *tdr_future_detail(const tdr_future *future)
{
	return future && tdr_future_done(future) && future->status != TDR_OK ? future->value : NULL;
}

const char *tdr_future_error(const tdr_future *future)
{
	if (!future)
		return "out of memory";
	return tdr_future_done(future) && future->error ? future->error : "";
}

const char *tdr_future_traceback(const tdr_future *future)
{
	return future && tdr_future_done(future) ? future->traceback : NULL;
}

/* What a wait for a completed future returns. */
static tdr_status take_outcome(tdr_future *future, tdr_value **ret_value)
{
	if (future->status != TDR_OK)
		return error_set(future->status, "%s", tdr_future_error(future));
	if (ret_value)
		*ret_value = tdr_value_ref(future->value);
	return TDR_OK;
}

static tdr_status wait_for_outcome(tdr_future *future, int64_t timeout_ms, tdr_value **ret_value)
{
	struct waiter waiter;
	struct source *hint = NULL;
	const struct future_origin *origin;
	void *context;
	int64_t deadline_ms;

	if (!future)
		return no_future();
	if (forked(future->fork_generation))
		return parents_future();
	if (tdr_future_done(future))
		return take_outcome(future, ret_value);
	if (engine_is_inline())
		return error_set(TDR_ESTATE,
		                 "an inline function or a callback must not wait: it would stop the engine; "
		                 "register the function without TDR_FUNCTION_INLINE");
	deadline_ms = deadline_after(timeout_ms);
	waiter_init(&waiter);
	pthread_mutex_lock(&future->lock);
	if (tdr_future_done(future)) {
		pthread_mutex_unlock(&future->lock);
		return take_outcome(future, ret_value);
	}
	list_append(&future->waiters, &waiter.node);
	origin = future->origin;
	context = future->origin_context;
	if (origin)
		origin->hold(context);
	pthread_mutex_unlock(&future->lock);
	if (origin)
		hint = origin->source(context);
	engine_wait(future->engine, &waiter, hint, deadline_ms);
	if (origin)
		origin->drop(context);
	pthread_mutex_lock(&future->lock); /* also waits for who woke us to let go of the waiter */
	list_remove(&waiter.node);
	pthread_mutex_unlock(&future->lock);
	if (!tdr_future_done(future))
		return error_set(TDR_ETIMEDOUT, "the future was not done within %lld ms", (long long)timeout_ms);
	return take_outcome(future, ret_value);
}

tdr_status tdr_future_wait(tdr_future *future, int64_t timeout_ms, tdr_value **ret_value)
{
	tdr_status status = wait_for_outcome(future, timeout_ms, ret_value);

	engine_unreserve(); /* where there was nothing to wait for */
	return status;
}

tdr_status tdr_future_wait_all(size_t count, tdr_future *const futures[], int64_t timeout_ms)
{
	int64_t deadline_ms = deadline_after(timeout_ms);
	tdr_status first = TDR_OK;
	char text[ERROR_TEXT_SIZE] = "";

	for (size_t i = 0; i < count; i++) {
		int64_t left = deadline_ms ? MAX_OF(deadline_ms - clock_ms(), (int64_t)1) : TDR_TIMEOUT_NEVER;
		tdr_status status = tdr_future_wait(futures[i], left, NULL);

		if (status != TDR_OK && !tdr_future_done(futures[i]))
			return error_set(status, "future %zu of %zu was not done within %lld ms", i, count,
			                 (long long)timeout_ms);
		if (status != TDR_OK && first == TDR_OK) {
			first = status;
			snprintf(text, sizeof(text), "%s", tdr_last_error());
		}
	}
	return first == TDR_OK ? TDR_OK : error_set(first, "%s", text);
}

/* ---- callbacks, then, collect ---- */

tdr_status tdr_future_on_done(tdr_future *future, tdr_future_callback call, void *context)
{
	struct callback *callback;

	if (!future)
		return no_future();
	if (forked(future->fork_generation))
		return parents_future();
	callback = malloc(sizeof(*callback));
	if (!callback)
		return error_nomem();
	*callback = (struct callback){.call = call, .context = context};
	pthread_mutex_lock(&future->lock);
	*future->last_callback = callback;
	future->last_callback = &callback->next;
	if (tdr_future_done(future))
		start_callbacks(future);
	pthread_mutex_unlock(&future->lock);
	return TDR_OK;
}

tdr_status tdr_fail_with(tdr_status status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	error_setv(status, format, arguments);
	va_end(arguments);
	return status;
}

struct then {
	tdr_future *result;
	tdr_future_continuation continuation;
	void *context;
};

static void continue_then(tdr_future *future, void *context)
{
	struct then *then = context;
	tdr_value *value = NULL;
	tdr_status status;

	error_set(TDR_OK, "%s", "");
	status = then->continuation(future, then->context, &value);
	if (status != TDR_OK)
		future_complete(then->result, status, NULL, tdr_last_error(), NULL);
	else
		(void)tdr_future_set(then->result, value ? value : tdr_none());
	tdr_future_unref(then->result);
	free(then);
}

tdr_future *tdr_future_then(tdr_future *future, tdr_future_continuation continuation, void *context)
{
	struct then *then = future ? malloc(sizeof(*then)) : NULL;
	tdr_future *result = then ? tdr_future_new(future->engine) : NULL;

	if (!result) {
		free(then);
		return NULL;
	}
	*then = (struct then){.result = tdr_future_ref(result), .continuation = continuation, .context = context};
	if (tdr_future_on_done(future, continue_then, then) != TDR_OK) {
		tdr_future_unref(result);
		free(then);
		return tdr_future_unref(result);
	}
	return result;
}

struct collection {
	_Atomic size_t left;
	size_t count;
	tdr_future *result;
	tdr_future *futures[];
};

static void collection_finish(struct collection *collection)
{
	tdr_value *values = tdr_list(0, NULL);
	tdr_future *failed = NULL; /* may be NULL where there is a failure: that is a future, too */
	tdr_status status = TDR_OK;

	for (size_t i = 0; i < collection->count && status == TDR_OK; i++) {
		tdr_future *future = collection->futures[i];

		status = tdr_future_status(future);
		if (status != TDR_OK)
			failed = future;
		else if (tdr_list_append(values, tdr_value_ref(tdr_future_value(future))) != TDR_OK)
			break; /* the list is invalid now, and the future will say so */
	}
	if (status != TDR_OK) {
		future_complete(collection->result, status, tdr_value_ref(tdr_future_detail(failed)),
		                tdr_future_error(failed), tdr_future_traceback(failed));
		tdr_value_unref(values);
	} else {
		(void)tdr_future_set(collection->result, values);
	}
	for (size_t i = 0; i < collection->count; i++)
		tdr_future_unref(collection->futures[i]);
	tdr_future_unref(collection->result);
	free(collection);
}

static void collection_step(tdr_future *future, void *context)
{
	struct collection *collection = context;

	if (atomic_fetch_sub(&collection->left, 1) == 1)
		collection_finish(collection);
}

tdr_future *tdr_future_collect(tdr_engine *engine, size_t count, tdr_future *const futures[])
{
	struct collection *collection = calloc(1, sizeof(*collection) + count * sizeof(collection->futures[0]));
	tdr_future *result = collection ? tdr_future_new(engine) : NULL;

	if (!result) {
		free(collection);
		return NULL;
	}
	atomic_init(&collection->left, count + 1);
	collection->count = count;
	collection->result = tdr_future_ref(result);
	for (size_t i = 0; i < count; i++) {
		collection->futures[i] = tdr_future_ref(futures[i]);
		if (tdr_future_on_done(futures[i], collection_step, collection) != TDR_OK)
			atomic_fetch_sub(&collection->left, 1); /* it shows as a failure only if it is one */
	}
	collection_step(NULL, collection);
	return result;
}
