/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backends: what makes agents, by name.
 *
 * The option `backend` (or TENDRIL_BACKEND) names one, so that a program can be run over another without being changed:
 *   - TENDRIL: the ordinary one, also where nothing is said;
 *   - FAULTY: the same, but fails or delays messages on purpose, as its options say; for tests of programs.
 *
 * A program registers others, which have defaults of their own, or prepare each agent: interceptors, functions, device
 * maps. A backend stays for the life of the process. All functions here may be called from any thread.
 */
#ifndef TENDRIL_BACKEND_H
#define TENDRIL_BACKEND_H

#include <tendril/agent.h>

/* Either function may be NULL, and may be called from any thread, also several times at once. */
typedef struct tdr_backend {
	size_t size;      /* sizeof(tdr_backend) */
	const char *text; /* what it is for, in a line; NULL: nothing to say */
	/* Changes defaults, in options as tdr_agent_options_init leaves them. NULL: it has none of its own. */
	void (*construct_options)(void *context, tdr_agent_options *options);
	/*
	 * Makes an agent, as tdr_agent_new, which has not joined. `options` has what the environment says filled in, and
	 * names TENDRIL as its backend, so that handing it on to tdr_agent_new makes an ordinary agent; it is borrowed. NULL:
	 * makes just that.
	 */
	tdr_status (*make)(void *context, const char *worker_name, const tdr_agent_options *options,
	                   tdr_agent **ret_agent);
} tdr_backend;

TDR_BEGIN_DECLS

/*
 * Registers a backend (copied) by a name of 1 to 127 letters, digits and `-_:.`; `context` is handed to its functions and
 * must live as long as the process. Errors: TDR_EEXISTS (the name is taken), TDR_EINVAL (the size, the name), TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_register_backend(const char *name, const tdr_backend *backend, void *context);

/* Whether there is a backend of that name, which is taken as it is written. */
TDR_API bool tdr_backend_registered(const char *name);

/* The name of backend `index`, in the order they were registered, from TENDRIL at 0; NULL past the last. Never freed. */
TDR_API const char *tdr_backend_name(size_t index);

/* What the backend of that name says of itself; "" for nothing, NULL where there is none. Never freed. */
TDR_API const char *tdr_backend_text(const char *name);

/*
 * Options for agents of a backend: its defaults on top of those of tdr_agent_options_init, and its name in `backend`. Errors:
 * TDR_ENOTFOUND (no such backend; says which there are).
 */
TDR_API TDR_MUST_USE tdr_status tdr_backend_construct_options(const char *name, tdr_agent_options *ret_options);

/*
 * Makes an agent by a backend, whatever `options` or the environment names, and joins. `options` NULL: what
 * tdr_backend_construct_options gives. Errors: TDR_ENOTFOUND, and those of tdr_init_rpc.
 */
TDR_API TDR_MUST_USE tdr_status tdr_init_backend(const char *backend, const char *worker_name,
                                                 const tdr_agent_options *options, tdr_agent **ret_agent);

/* The name of the backend that made an agent. Never freed. */
TDR_API const char *tdr_agent_backend(const tdr_agent *agent);

TDR_END_DECLS

#endif
