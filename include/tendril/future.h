/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Futures: the result of something under way. A future completes exactly once, with a value or with an error.
 *
 * A thread that waits may receive and complete futures meanwhile; it never runs anyone else's function or callback. Waiting
 * inside an inline function or a callback is an error (TDR_ESTATE), because it would stop the engine. Functions below take a
 * NULL future as one that failed for lack of memory.
 */
#ifndef TENDRIL_FUTURE_H
#define TENDRIL_FUTURE_H

#include <tendril/engine.h>
#include <tendril/value.h>

typedef struct tdr_future tdr_future;

/*
 * Called once when `future` has completed, from a thread of the engine, with no lock held; must not block. `future` is
 * borrowed for the call.
 */
typedef void (*tdr_future_callback)(tdr_future *future, void *context);

/*
 * Makes the value of a `then` future from the completed `future`: sets *ret_value (given away) and returns TDR_OK, or
 * returns an error, with tdr_fail_with for its text. Called as a callback is.
 */
typedef tdr_status (*tdr_future_continuation)(tdr_future *future, void *context, tdr_value **ret_value);

TDR_BEGIN_DECLS

/* A future that its maker completes by tdr_future_set or tdr_future_fail. NULL when memory ran out. */
TDR_API tdr_future *tdr_future_new(tdr_engine *engine);

TDR_API tdr_future *tdr_future_ref(tdr_future *future);

/* Dropping the last reference to a future that has not completed abandons the result; it does not cancel. */
TDR_API tdr_future *tdr_future_unref(tdr_future *future);

/*
 * Completes it. `value` is given away. Errors: TDR_ESTATE (it has completed already).
 */
TDR_API tdr_status tdr_future_set(tdr_future *future, tdr_value *value);
TDR_API tdr_status tdr_future_fail(tdr_future *future, tdr_status status, const char *format, ...) TDR_PRINTF(3, 4);

/* The same with all that an error may carry, as tdr_call_fail has it. */
TDR_API tdr_status tdr_future_fail_with(tdr_future *future, tdr_status status, const char *text, const char *traceback,
                                        tdr_value *detail);

/* Whether it has completed. */
TDR_API bool tdr_future_done(const tdr_future *future);

/*
 * Waits until it has completed, up to `timeout_ms` (TDR_TIMEOUT_NEVER and TDR_TIMEOUT_DEFAULT: as long as it takes; calls
 * have deadlines of their own). Returns TDR_OK, or its error, and sets *ret_value (may be NULL) to a new reference.
 * TDR_ETIMEDOUT leaves it as it is. May be called repeatedly.
 */
TDR_API TDR_MUST_USE tdr_status tdr_future_wait(tdr_future *future, int64_t timeout_ms, tdr_value **ret_value);

/*
 * Of a completed future: its status (TDR_EAGAIN while it has not completed), its value (borrowed; NULL unless TDR_OK), its
 * error's text (what failed, where, what the far side said; "" if none; valid as long as the future).
 */
TDR_API tdr_status tdr_future_status(const tdr_future *future);
TDR_API tdr_value *tdr_future_value(const tdr_future *future);
TDR_API const char *tdr_future_error(const tdr_future *future);

/* The remote traceback that came with the error, or NULL. Valid as long as the future. */
TDR_API const char *tdr_future_traceback(const tdr_future *future);

/* The value that whoever failed attached to the error, or NULL. Borrowed; valid as long as the future. */
TDR_API tdr_value *tdr_future_detail(const tdr_future *future);

/* Calls `callback` when it has completed; where it has already, soon. Errors: TDR_ENOMEM. */
TDR_API tdr_status tdr_future_on_done(tdr_future *future, tdr_future_callback callback, void *context);

/* A future for what `continuation` makes of this one, also of its failure. */
TDR_API tdr_future *tdr_future_then(tdr_future *future, tdr_future_continuation continuation, void *context);

/*
 * A future that completes when all `count` have, with a list of their values; with the first failure (in order) if one
 * failed.
 */
TDR_API tdr_future *tdr_future_collect(tdr_engine *engine, size_t count, tdr_future *const futures[]);

/*
 * Waits for all of them. Returns TDR_OK or the first failure, in order, when all have completed.
 */
TDR_API TDR_MUST_USE tdr_status tdr_future_wait_all(size_t count, tdr_future *const futures[], int64_t timeout_ms);

/*
 * Asks for the end of what it stands for: it completes with TDR_ECANCELED, and a call's callee is told. No effect on a
 * completed one.
 */
TDR_API void tdr_future_cancel(tdr_future *future);

/* For continuations: keeps the text of an error and returns its status. */
TDR_API tdr_status tdr_fail_with(tdr_status status, const char *format, ...) TDR_PRINTF(2, 3);

TDR_END_DECLS

#endif
