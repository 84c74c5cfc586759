/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engines: what agents run on - readiness, timers and threads.
 *
 * An agent makes an engine of its own unless it is given one; agents of one process may share one. An engine has threads of
 * its own (the default), or none: then the program drives it from its own loop, by tdr_engine_fd and tdr_engine_progress.
 *
 * At any time one thread of an engine is free of user code: it receives, keeps the timers, completes futures and runs inline
 * functions, so that heartbeats, replies, timeouts and cancellations work however long functions take. A thread of the
 * engine that blocks in one of our waits is replaced for that time, up to `max_threads`.
 */
#ifndef TENDRIL_ENGINE_H
#define TENDRIL_ENGINE_H

#include <tendril/api.h>
#include <tendril/status.h>

typedef struct tdr_engine tdr_engine;

typedef struct tdr_engine_options {
	size_t size;
	uint32_t threads; /* functions that may run at once (16); one more thread is kept free of them. 0: no threads */
	uint32_t max_threads; /* with those that block in a wait and were replaced (1024) */
	int64_t spin_us;      /* microseconds that a wait spins before it sleeps (50); 0: never */
	/*
	 * Runs functions on threads of the program's in place of the engine's: must arrange for run(task) to be called
	 * once, soon, from any thread but not from inside `execute`. NULL: none.
	 */
	void (*execute)(void *context, void (*run)(void *task), void *task);
	void *execute_context;
} tdr_engine_options;

TDR_BEGIN_DECLS

TDR_API void tdr_engine_options_init(tdr_engine_options *options);

/* A new engine; `options` NULL: the defaults. Errors: TDR_EINVAL, TDR_ENOMEM, TDR_EIO. */
TDR_API TDR_MUST_USE tdr_status tdr_engine_new(const tdr_engine_options *options, tdr_engine **ret_engine);

TDR_API tdr_engine *tdr_engine_ref(tdr_engine *engine);

/* The last unref, which every agent's end must precede, ends the threads and waits for functions that still run. */
TDR_API tdr_engine *tdr_engine_unref(tdr_engine *engine);

/* A descriptor that is readable whenever tdr_engine_progress has something to do; for poll() and its kin only. */
TDR_API int tdr_engine_fd(const tdr_engine *engine);

/*
 * Does what is due: receives, runs timers, functions and callbacks, in the calling thread. Waits for work up to `timeout_ms`
 * (0: not at all; -1: until there is some). Made for engines without threads, harmless with the others. One thread at a
 * time. Errors: TDR_ESTATE (called from inside itself), TDR_EFORKED.
 */
TDR_API TDR_MUST_USE tdr_status tdr_engine_progress(tdr_engine *engine, int timeout_ms);

TDR_END_DECLS

#endif
