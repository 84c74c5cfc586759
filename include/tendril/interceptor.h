/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interceptors: hooks around calls, for tracing, profiling and the like.
 *
 * A call passes six points: `issue` and `complete` at its caller, `receive`, `enter`, `leave` and `reply` at its callee. An
 * interceptor sees it at each, keeps a slot of its own per call and side, and may send metadata along, which arrives at the
 * interceptor of the same name at the other end. Interceptors run in the order they were added at issue, receive and
 * enter, in the opposite order at leave, reply and complete.
 *
 * Whoever has seen a call issued sees it complete, and whoever has seen it received sees the reply, once and last, however it
 * ends; also where an interceptor has failed it, but for those whose turn had not come yet. So an agent that has
 * interceptors answers a call only when its function has returned, if that is later than its tdr_return.
 */
#ifndef TENDRIL_INTERCEPTOR_H
#define TENDRIL_INTERCEPTOR_H

#include <tendril/agent.h>

/* A call as an interceptor sees it; valid during the hook. */
typedef struct tdr_passage tdr_passage;

/* Each hook may be NULL, must not block, and runs in the thread that does the work it names. */
typedef struct tdr_interceptor {
	size_t size;      /* sizeof(tdr_interceptor) */
	const char *name; /* unique among the agent's */
	/* Before the arguments are encoded. May replace them. An error fails the call. */
	tdr_status (*issue)(void *context, tdr_passage *passage);
	/* Before the arguments are bound. May replace them. An error fails the call. */
	tdr_status (*receive)(void *context, tdr_passage *passage);
	/* Just before the function runs, in its thread; again for each continuation of an asynchronous one. */
	void (*enter)(void *context, tdr_passage *passage);
	/* Just after; in the same thread as its enter. */
	void (*leave)(void *context, tdr_passage *passage);
	/* Before the result is encoded. May replace it. An error fails the call. */
	tdr_status (*reply)(void *context, tdr_passage *passage);
	/* When the result or error is there, before the future completes. May replace the result. An error replaces it. */
	tdr_status (*complete)(void *context, tdr_passage *passage);
} tdr_interceptor;

TDR_BEGIN_DECLS

/*
 * Adds an interceptor (copied) to an agent that has not joined yet; `context` must outlive the agent. Errors: TDR_ESTATE,
 * TDR_EEXISTS, TDR_EINVAL.
 */
TDR_API TDR_MUST_USE tdr_status tdr_intercept(tdr_agent *agent, const tdr_interceptor *interceptor, void *context);

/* The function's name; the worker at the other end; whether this is the callee's side. */
TDR_API const char *tdr_passage_function(const tdr_passage *passage);
TDR_API tdr_worker tdr_passage_worker(const tdr_passage *passage);
TDR_API bool tdr_passage_incoming(const tdr_passage *passage);

/* This interceptor's slot for the call on this side: NULL at first, its own to use; `complete` and `reply` are the last hooks. */
TDR_API void **tdr_passage_slot(tdr_passage *passage);

/* Arguments: a tuple and a dict (NULL for none), borrowed. Replacing gives the new one away. At issue and receive. */
TDR_API tdr_value *tdr_passage_args(const tdr_passage *passage);
TDR_API tdr_value *tdr_passage_kwargs(const tdr_passage *passage);
TDR_API void tdr_passage_set_args(tdr_passage *passage, tdr_value *args);
TDR_API void tdr_passage_set_kwargs(tdr_passage *passage, tdr_value *kwargs);

/* Result: its status, and the value where it is TDR_OK (borrowed). At reply and complete. */
TDR_API tdr_status tdr_passage_status(const tdr_passage *passage);
TDR_API tdr_value *tdr_passage_result(const tdr_passage *passage);
TDR_API void tdr_passage_set_result(tdr_passage *passage, tdr_value *result);

/* Metadata to send (at issue and reply; given away), and what came (at receive and complete; borrowed, NULL if none). */
TDR_API tdr_status tdr_passage_attach(tdr_passage *passage, tdr_value *metadata);
TDR_API tdr_value *tdr_passage_metadata(const tdr_passage *passage);

TDR_END_DECLS

#endif
