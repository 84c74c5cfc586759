/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call's life: bound, run, returned from.
 *
 * The state moves forward only, by compare-and-swap, and who moves it to CALL_RETURNED calls `finished`: whatever
 * races for it (a return, a failure, an abort, a dropped reference), the call finishes exactly once. No lock is held
 * anywhere here.
 */
#include "function/call.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/macros.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *name_of(const tdr_call *call)
{
	return call->name ? call->name : call->function->schema->name;
}

static bool is_forked(const tdr_call *call)
{
	return unlikely(forked(call->fork_generation));
}

static tdr_status fork_error(void)
{
	return error_set(TDR_EFORKED, "the call belongs to the parent process");
}

/* ---- the result ---- */

static bool move_state(tdr_call *call, enum call_state from, enum call_state to)
{
	uint32_t expected = from;

	return atomic_compare_exchange_strong(&call->state, &expected, to);
}

static tdr_status returned_already(const tdr_call *call)
{
	return error_set(TDR_ESTATE, "%s() has returned from this call already", name_of(call));
}

/* `detail` is given away, or NULL. */
static void finish_error(tdr_call *call, tdr_status status, const char *text, const char *traceback, tdr_value *detail)
{
	/* It came from user code and will cross the wire. */
	if (status == TDR_OK || strcmp(tdr_status_name(status), "TDR_E?") == 0)
		status = TDR_EREMOTE;
	call->ops->finished(call, status, detail, text && *text ? text : tdr_status_text(status), traceback);
}

/* Converts a result to the schema's return type; `value` is given away. */
static tdr_status convert_result(const tdr_call *call, tdr_value *value, tdr_value **ret_value)
{
	const struct schema *schema = call->function->schema;
	const char *kind = tdr_kind_name(tdr_value_kind(value));
	tdr_status status = type_convert(&schema->returns, "", value, ret_value);
	const char *problem = tdr_last_error();
	char type[128];

	if (status != TDR_ETYPE)
		return status;
	type_print(&schema->returns, type, sizeof(type));
	/* " must be int, not str" is said by the types already; "[2] must be int, not str" is not. */
	return error_set(status, "%s() returned %s where its schema says %s%s%s", schema->name, kind, type,
	                 problem[0] == '[' ? ": " : "", problem[0] == '[' ? problem : "");
}

/* Finishes a call whose state the caller has moved to CALL_RETURNED. `value` is given away. */
static tdr_status finish_value(tdr_call *call, tdr_value *value)
{
	tdr_value *result = NULL;
	tdr_status status = convert_result(call, value, &result);

	if (status == TDR_OK)
		call->ops->finished(call, TDR_OK, result, NULL, NULL);
	else
		finish_error(call, status, tdr_last_error(), NULL, NULL);
	return status;
}

bool call_abort(tdr_call *call, tdr_status status, const char *text)
{
	if (!move_state(call, CALL_BOUND, CALL_RETURNED) && !move_state(call, CALL_PENDING, CALL_RETURNED))
		return false;
	finish_error(call, status, text, NULL, NULL);
	return true;
}

/* ---- binding and running ---- */

static tdr_status no_overload_fits(const struct buffer *misfits, const struct function *first)
{
	const char *name = first->schema->name;

	if (misfits->failed)
		return error_nomem();
	return error_set(TDR_ETYPE, "no overload of %.*s() takes these arguments: %.*s", (int)strcspn(name, "."), name,
	                 (int)misfits->size, (const char *)misfits->data);
}

/* The first of the functions that takes the arguments, and those in its order. Borrowed. */
static tdr_status choose(struct function *const functions[], size_t count, tdr_value *args, tdr_value *kwargs,
                         struct function **ret_chosen, tdr_value ***ret_arguments)
{
	struct buffer misfits = {0};
	tdr_value **arguments;
	size_t room = 1;
	tdr_status status = TDR_ETYPE;

	for (size_t i = 0; i < count; i++)
		room = MAX_OF(room, functions[i]->schema->nparameters);
	arguments = malloc(room * sizeof(*arguments));
	if (!arguments)
		return error_nomem();
	for (size_t i = 0; status == TDR_ETYPE && i < count; i++) {
		status = schema_bind(functions[i]->schema, args, kwargs, arguments);
		if (status == TDR_OK)
			*ret_chosen = functions[i];
		else if (status == TDR_ETYPE && count > 1)
			buffer_printf(&misfits, "%s%s", misfits.size > 0 ? "; " : "", tdr_last_error());
	}
	if (status == TDR_ETYPE && count > 1)
		status = no_overload_fits(&misfits, functions[0]);
	buffer_fini(&misfits);
	if (status == TDR_OK)
		*ret_arguments = arguments;
	else
		free(arguments);
	return status;
}

tdr_status call_bind(tdr_call *call, const struct call_ops *ops, struct function *functions[], size_t count,
                     tdr_value *args, tdr_value *kwargs)
{
	struct function *function = NULL;
	tdr_value **arguments = NULL;
	tdr_status status;

	assert(count > 0);
	status = choose(functions, count, args, kwargs, &function, &arguments);
	if (status == TDR_OK) {
		call->ops = ops;
		refcount_init(&call->refs);
		atomic_init(&call->state, CALL_BOUND);
		atomic_init(&call->deferred, false);
		atomic_init(&call->cancelled, false);
		call->fork_generation = fork_generation();
		call->function = function_ref(function);
		call->name = NULL;
		call->arguments = arguments;
	}
	for (size_t i = 0; i < count; i++)
		function_unref(functions[i]);
	return status;
}

void call_run(tdr_call *call)
{
	const struct function *function = call->function;
	tdr_status status;

	/* What an earlier failure in this thread said is not about this call. */
	error_clear();
	status = function->run(call, function->context);
	if (status == TDR_OK && atomic_load(&call->deferred))
		return;
	if (!move_state(call, CALL_BOUND, CALL_RETURNED))
		return;
	if (status == TDR_OK)
		(void)finish_value(call, tdr_none());
	else
		finish_error(call, status, tdr_last_error(), NULL, NULL);
}

/* ---- lifetime ---- */

static void call_free(tdr_call *call)
{
	for (size_t i = 0; i < call->function->schema->nparameters; i++)
		tdr_value_unref(call->arguments[i]);
	free(call->arguments);
	free(call->name);
	function_unref(call->function);
	call->ops->free(call);
}

tdr_call *tdr_call_ref(tdr_call *call)
{
	if (call && !is_forked(call))
		refcount_get(&call->refs);
	return call;
}

tdr_call *tdr_call_unref(tdr_call *call)
{
	char text[ERROR_TEXT_SIZE];

	if (!call || is_forked(call))
		return NULL;
	if (!refcount_put(&call->refs))
		return NULL;
	if (move_state(call, CALL_BOUND, CALL_RETURNED)) {
		/* Nobody is left who could return from it: it comes back to life to fail. */
		refcount_init(&call->refs);
		snprintf(text, sizeof(text), "function %s dropped the call without returning", name_of(call));
		finish_error(call, TDR_EREMOTE, text, NULL, NULL);
		return tdr_call_unref(call);
	}
	call_free(call);
	return NULL;
}

void tdr_call_defer(tdr_call *call)
{
	atomic_store(&call->deferred, true);
}

/* ---- reading ---- */

const char *tdr_call_worker_name(const tdr_call *call)
{
	return call->worker_name;
}

uint32_t tdr_call_worker_id(const tdr_call *call)
{
	return call->worker_id;
}

const char *tdr_call_function_name(const tdr_call *call)
{
	return name_of(call);
}

int64_t tdr_call_time_left_ms(const tdr_call *call)
{
	if (call->deadline_ms == 0)
		return INT64_MAX;
	return MAX_OF(call->deadline_ms - clock_ms(), (int64_t)0);
}

bool tdr_call_cancelled(const tdr_call *call)
{
	return atomic_load_explicit(&call->cancelled, memory_order_relaxed) || tdr_call_time_left_ms(call) == 0;
}

size_t tdr_arg_count(const tdr_call *call)
{
	return call->function->schema->nparameters;
}

tdr_value *tdr_arg(const tdr_call *call, size_t index)
{
	assert(index < call->function->schema->nparameters);
	return call->arguments[index];
}

/*
 * The readers below look at the kind first: under Any, Scalar or T? anything may have come, and what is of another
 * kind reads as None does, without leaving an error behind.
 */
tdr_tensor *tdr_arg_tensor(const tdr_call *call, size_t index)
{
	const tdr_value *value = tdr_arg(call, index);
	tdr_tensor *tensor;

	if (tdr_value_kind(value) != TDR_TENSOR || tdr_value_get_tensor(value, &tensor) != TDR_OK)
		return NULL;
	return tensor;
}

int64_t tdr_arg_int(const tdr_call *call, size_t index)
{
	const tdr_value *value = tdr_arg(call, index);
	int64_t number;

	if (tdr_value_kind(value) != TDR_INT || tdr_value_get_int(value, &number) != TDR_OK)
		return 0;
	return number;
}

double tdr_arg_float(const tdr_call *call, size_t index)
{
	const tdr_value *value = tdr_arg(call, index);
	tdr_kind kind = tdr_value_kind(value);
	double number;

	if ((kind != TDR_FLOAT && kind != TDR_INT) || tdr_value_get_float(value, &number) != TDR_OK)
		return 0;
	return number;
}

bool tdr_arg_bool(const tdr_call *call, size_t index)
{
	const tdr_value *value = tdr_arg(call, index);
	bool truth;

	if (tdr_value_kind(value) != TDR_KIND_BOOL || tdr_value_get_bool(value, &truth) != TDR_OK)
		return false;
	return truth;
}

const char *tdr_arg_string(const tdr_call *call, size_t index)
{
	const tdr_value *value = tdr_arg(call, index);
	const char *text;

	if (tdr_value_kind(value) != TDR_STRING || tdr_value_get_string(value, &text, NULL) != TDR_OK)
		return NULL;
	return text;
}

tdr_rref *tdr_arg_rref(const tdr_call *call, size_t index)
{
	const tdr_value *value = tdr_arg(call, index);
	tdr_rref *rref;

	return tdr_value_kind(value) == TDR_RREF && tdr_value_get_rref(value, &rref) == TDR_OK ? rref : NULL;
}

void *tdr_arg_native(const tdr_call *call, size_t index)
{
	const tdr_value *value = tdr_arg(call, index);
	void *object;

	return tdr_value_kind(value) == TDR_NATIVE && tdr_value_get_native(value, NULL, &object) == TDR_OK ? object
	                                                                                                   : NULL;
}

bool tdr_arg_is_none(const tdr_call *call, size_t index)
{
	return tdr_value_is_none(tdr_arg(call, index));
}

/* ---- returning ---- */

tdr_status tdr_return(tdr_call *call, tdr_value *value)
{
	if (is_forked(call)) {
		tdr_value_unref(value);
		return fork_error();
	}
	if (!move_state(call, CALL_BOUND, CALL_RETURNED)) {
		tdr_value_unref(value);
		return returned_already(call);
	}
	return finish_value(call, value);
}

tdr_status tdr_return_none(tdr_call *call)
{
	return tdr_return(call, tdr_none());
}

tdr_status tdr_return_bool(tdr_call *call, bool truth)
{
	return tdr_return(call, tdr_bool(truth));
}

tdr_status tdr_return_int(tdr_call *call, int64_t number)
{
	return tdr_return(call, tdr_int(number));
}

tdr_status tdr_return_float(tdr_call *call, double number)
{
	return tdr_return(call, tdr_float(number));
}

tdr_status tdr_return_string(tdr_call *call, const char *text)
{
	return tdr_return(call, tdr_string(text));
}

tdr_status tdr_return_tensor(tdr_call *call, tdr_tensor *tensor)
{
	return tdr_return(call, tdr_tensor_value(tensor));
}

tdr_status tdr_fail(tdr_call *call, tdr_status status, const char *format, ...)
{
	char text[ERROR_TEXT_SIZE];
	va_list arguments;

	if (is_forked(call))
		return fork_error();
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (!move_state(call, CALL_BOUND, CALL_RETURNED))
		return returned_already(call);
	finish_error(call, status, text, NULL, NULL);
	return error_set(status, "%s", text);
}

tdr_status tdr_call_fail(tdr_call *call, tdr_status status, const char *text, const char *traceback, tdr_value *detail)
{
	if (is_forked(call) || !move_state(call, CALL_BOUND, CALL_RETURNED)) {
		tdr_value_unref(detail);
		return is_forked(call) ? fork_error() : returned_already(call);
	}
	finish_error(call, status, text, traceback, detail);
	return error_set(status, "%s", text);
}

/* The future of a pending call has completed. Drops the references that tdr_return_future took. */
static void future_done(tdr_future *future, void *context)
{
	tdr_call *call = context;
	tdr_status status = tdr_future_status(future);

	if (call->ops->pending)
		call->ops->pending(call, NULL);
	if (move_state(call, CALL_PENDING, CALL_RETURNED)) {
		if (call->ops->enter)
			call->ops->enter(call);
		if (status == TDR_OK)
			(void)finish_value(call, tdr_value_ref(tdr_future_value(future)));
		else
			finish_error(call, status, tdr_future_error(future), tdr_future_traceback(future),
			             tdr_value_ref(tdr_future_detail(future)));
		if (call->ops->leave)
			call->ops->leave(call);
	}
	tdr_future_unref(future);
	tdr_call_unref(call);
}

tdr_status tdr_return_future(tdr_call *call, tdr_future *future)
{
	tdr_status status;

	if (is_forked(call))
		return fork_error();
	if (!future)
		return tdr_fail(call, TDR_ENOMEM, "%s() returned no future: memory ran out when it was made",
		                name_of(call));
	if (!move_state(call, CALL_BOUND, CALL_PENDING))
		return returned_already(call);
	tdr_call_ref(call);
	tdr_future_ref(future);
	if (call->ops->pending)
		call->ops->pending(call, future);
	/* Who cancels marks the call first and looks for a future then: one of the two sees the other. */
	if (atomic_load(&call->cancelled))
		tdr_future_cancel(future);
	status = tdr_future_on_done(future, future_done, call);
	if (status == TDR_OK)
		return TDR_OK;
	if (call->ops->pending)
		call->ops->pending(call, NULL);
	(void)call_abort(call, status, tdr_last_error());
	tdr_future_unref(future);
	tdr_call_unref(call);
	return status;
}
