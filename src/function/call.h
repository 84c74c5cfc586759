/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call as its function sees it: the part of a served call that the public functions of tendril/function.h work on.
 * Who serves calls (the agent) embeds it in a struct of its own.
 */
#ifndef TENDRIL_FUNCTION_CALL_H
#define TENDRIL_FUNCTION_CALL_H

#include "base/refcount.h"
#include "function/registry.h"

#include <stdatomic.h>
#include <tendril/function.h>

enum call_state {
	CALL_BOUND,    /* arguments are bound, the function has not returned a result */
	CALL_PENDING,  /* the function has returned a future, which will bring the result */
	CALL_RETURNED, /* a result or error has been taken; `finished` is called once for it */
};

/* Called with no lock held, and with a reference to the call held by who calls, except for `free`. */
struct call_ops {
	/*
	 * The result, once: `value`, or a status with its text; then `value` is what the function attached to the error, or NULL. It
	 * is given away. Any thread. `traceback` may be NULL.
	 */
	void (*finished)(tdr_call *call, tdr_status status, tdr_value *value, const char *text, const char *traceback);
	/*
	 * The future that the call will return, or NULL when it has completed: who cancels or aborts the call cancels
	 * it, or the call lives until it completes by itself. Borrowed: valid between the two. May be NULL.
	 */
	void (*pending)(tdr_call *call, tdr_future *future);
	/* Around each continuation that completes the call later, in its thread. May be NULL. */
	void (*enter)(tdr_call *call);
	void (*leave)(tdr_call *call);
	/* The last reference is gone: frees the embedding struct. What the call held is released already. */
	void (*free)(tdr_call *call);
};

struct tdr_call {
	const struct call_ops *ops;
	struct refcount refs;
	_Atomic uint32_t state; /* enum call_state; changed by compare-and-swap */
	_Atomic bool deferred;
	_Atomic bool cancelled; /* set by who serves the call, before it cancels the pending future */
	uint32_t fork_generation;
	struct function *function; /* counted */
	char *name;                /* that was asked for, where the function is a wildcard; else NULL */
	tdr_value **arguments;     /* counted, [function->schema->nparameters] */
	/* Filled in by who serves the call, before it runs: */
	const char *worker_name; /* the caller's; lives as long as the agent */
	uint32_t worker_id;
	int64_t deadline_ms; /* CLOCK_MONOTONIC; 0: none */
};

/*
 * Sets up a call that has one reference, for the first of `functions` [count, at least 1] that takes the arguments,
 * which are borrowed. Takes over the references to `functions` on success and on failure; after a failure there is
 * nothing to release. Errors: TDR_ETYPE (with several overloads the text lists why none fits), TDR_ENOMEM.
 */
tdr_status call_bind(tdr_call *call, const struct call_ops *ops, struct function *functions[], size_t count,
                     tdr_value *args, tdr_value *kwargs);

/*
 * Runs the function and settles what it returned: an error status is the call's result with tdr_last_error() as text;
 * TDR_OK without a return is None, unless the call was deferred or returns a future. The caller's reference is left
 * to it.
 */
void call_run(tdr_call *call);

/* Ends the call with an error if it has no result yet; true if it did. Any thread. */
bool call_abort(tdr_call *call, tdr_status status, const char *text);

#endif
