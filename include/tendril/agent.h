/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Agents: members of a group, and the calls they make.
 *
 * An agent is made, given its functions, and then joins. Joining a static group blocks until all its members have come, joining a
 * dynamic one (tendril/group.h) until those who are there know of the newcomer; from then on it serves calls, and makes them.
 * Connections are made when the first call needs them.
 */
#ifndef TENDRIL_AGENT_H
#define TENDRIL_AGENT_H

#include <tendril/args.h>
#include <tendril/function.h>
#include <tendril/future.h>
#include <tendril/options.h>
#include <tendril/value.h>

typedef struct tdr_agent tdr_agent;

/* A member as others see it. The name is valid as long as the agent that was asked. */
typedef struct tdr_worker {
	const char *name;
	uint32_t id;
	uint64_t incarnation; /* tells a restarted worker from the one that died */
} tdr_worker;

enum {
	TDR_RPC_LOCAL_TIMEOUT = 1 << 0, /* only the caller gives up; the callee is not told of the deadline */
	TDR_RPC_NO_WAIT = 1 << 1,       /* fail with TDR_EAGAIN where the peer's credit is used up */
	TDR_RPC_AWAITED = 1 << 2,       /* this thread waits for the future next, and blocks nowhere before */
};

typedef struct tdr_rpc_options {
	size_t size;
	int64_t timeout_ms; /* TDR_TIMEOUT_DEFAULT at first */
	unsigned flags;     /* TDR_RPC_... */
} tdr_rpc_options;

typedef struct tdr_shutdown_options {
	size_t size;
	bool graceful;      /* wait for all members' work to end (true) */
	int64_t timeout_ms; /* TDR_TIMEOUT_DEFAULT: the agent's `shutdown_timeout_ms` */
} tdr_shutdown_options;

TDR_BEGIN_DECLS

/* ---- life ---- */

/*
 * A new agent, not yet a member. `name`: 1 to 127 letters, digits and `-_:`. `options` NULL: the defaults and the
 * environment. NULL on failure, with the reason in tdr_last_error().
 */
TDR_API tdr_agent *tdr_agent_new(const char *name, const tdr_agent_options *options);

/*
 * Joins the group: meets the other members through the store, and returns when all have come; in a dynamic group, when all who
 * are there know of it. Errors: TDR_ESTATE (called before), TDR_EEXISTS (two members share a name or a rank), TDR_EMISMATCH
 * (members differ over the group's size, or over whether it is dynamic), TDR_ETIMEDOUT (names the ranks that are missing, or
 * who does not answer), TDR_EINVAL (rank, size or URL), TDR_EIO. All members of a static group fail alike.
 */
TDR_API TDR_MUST_USE tdr_status tdr_join(tdr_agent *agent);

/* Makes an agent and joins, for those who have no functions to register. */
TDR_API TDR_MUST_USE tdr_status tdr_init_rpc(const char *name, const tdr_agent_options *options, tdr_agent **ret_agent);

TDR_API void tdr_shutdown_options_init(tdr_shutdown_options *options);

/*
 * Ends the agent and drops the caller's reference, also when it fails. Gracefully (the default): serves on until no member
 * has work under way, then leaves together with the others; in a dynamic group until it has none itself, then tells the
 * others. Past the deadline leaves all the same, and returns TDR_ETIMEDOUT with the names of those who did not arrive.
 * Otherwise leaves at once. Calls still under way fail with TDR_ESHUTDOWN. Not from inside a function or callback, nor
 * while tdr_join runs (TDR_ESTATE; the reference is kept then).
 */
TDR_API tdr_status tdr_shutdown(tdr_agent *agent, const tdr_shutdown_options *options);

TDR_API tdr_agent *tdr_agent_ref(tdr_agent *agent);

/* The last unref of an agent that is not shut down leaves at once, without waiting for others. */
TDR_API tdr_agent *tdr_agent_unref(tdr_agent *agent);

/* The engine it runs on. Borrowed. */
TDR_API tdr_engine *tdr_agent_engine(const tdr_agent *agent);

/* ---- workers ---- */

/* The agent itself. */
TDR_API tdr_worker tdr_agent_worker(const tdr_agent *agent);

/* Members of the group, itself among them; 0 before it has joined. */
TDR_API size_t tdr_worker_count(const tdr_agent *agent);

/* Member `index`, in the order of ids; by name; by id. Errors: TDR_ENOWORKER. */
TDR_API TDR_MUST_USE tdr_status tdr_worker_at(const tdr_agent *agent, size_t index, tdr_worker *ret_worker);
TDR_API TDR_MUST_USE tdr_status tdr_worker_by_name(const tdr_agent *agent, const char *name, tdr_worker *ret_worker);
TDR_API TDR_MUST_USE tdr_status tdr_worker_by_id(const tdr_agent *agent, uint32_t id, tdr_worker *ret_worker);

/* ---- functions ---- */

/*
 * Lets others call `function` under `schema`; before joining or after. `context` is handed to it. `flags`: TDR_FUNCTION_...
 * Errors: TDR_EINVAL (the schema; the text shows where), TDR_EEXISTS (the name is taken), TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_register(tdr_agent *agent, const char *schema, tdr_function function, void *context,
                                             unsigned flags);

/* The same; `destructor` frees `context` when the function is withdrawn and no call of it runs. Not run on failure. */
TDR_API TDR_MUST_USE tdr_status tdr_register_owned(tdr_agent *agent, const char *schema, tdr_function function,
                                                   void *context, void (*destructor)(void *context), unsigned flags);

/* Withdraws a function by its full name. Calls that run already go on. Errors: TDR_ENOFUNCTION. */
TDR_API TDR_MUST_USE tdr_status tdr_unregister(tdr_agent *agent, const char *name);

/* ---- calls ---- */

TDR_API void tdr_rpc_options_init(tdr_rpc_options *options);

/*
 * Calls `function` on the member called `worker` (itself too), with the tuple or list `args` and the dict `kwargs` (both given
 * away; NULL for none; see TDR_ARGS and TDR_KWARGS). Tensors must not be written to until the future is done. Never NULL
 * but for lack of memory: failures stand in the future: TDR_ENOWORKER, TDR_EWORKERGONE, TDR_EUNREACHABLE, TDR_ETIMEDOUT,
 * TDR_ECANCELED, TDR_EINVAL, TDR_ELIMIT, TDR_ESHUTDOWN, TDR_ESTATE, and whatever the function failed with.
 */
TDR_API tdr_future *tdr_rpc_async(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                                  tdr_value *kwargs);
TDR_API tdr_future *tdr_rpc_async_with(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                                       tdr_value *kwargs, const tdr_rpc_options *options);

/* The same, and waits for the result (`ret_value` may be NULL). */
TDR_API TDR_MUST_USE tdr_status tdr_rpc_sync(tdr_agent *agent, const char *worker, const char *function,
                                             tdr_value *args, tdr_value *kwargs, tdr_value **ret_value);
TDR_API TDR_MUST_USE tdr_status tdr_rpc_sync_with(tdr_agent *agent, const char *worker, const char *function,
                                                  tdr_value *args, tdr_value *kwargs, const tdr_rpc_options *options,
                                                  tdr_value **ret_value);

/* The default deadline of calls issued from now on. */
TDR_API void tdr_agent_set_rpc_timeout(tdr_agent *agent, int64_t timeout_ms);
TDR_API int64_t tdr_agent_rpc_timeout(const tdr_agent *agent);

/* ---- collectives ---- */

/*
 * Every named member calls it with the same set of names (`count` 0: the whole group), in the same order among calls with
 * that set; each gets a dict, name -> value. `value` is given away. Errors: TDR_ETIMEDOUT (names who did not come),
 * TDR_EWORKERGONE, TDR_EINVAL (not itself among the names, a name twice), TDR_ENOWORKER.
 */
TDR_API TDR_MUST_USE tdr_status tdr_all_gather(tdr_agent *agent, tdr_value *value, size_t count,
                                               const char *const names[], int64_t timeout_ms, tdr_value **ret_values);

/* Returns when every named member has called it. Errors: as tdr_all_gather. */
TDR_API TDR_MUST_USE tdr_status tdr_barrier(tdr_agent *agent, size_t count, const char *const names[],
                                            int64_t timeout_ms);

/* ---- insight ---- */

/* A dict of key -> value: calls in flight, served, failed; latency, bytes, threads, memory. docs/metrics.md lists them. */
TDR_API TDR_MUST_USE tdr_status tdr_debug_info(tdr_agent *agent, tdr_value **ret_info);

/* A text: every call under way, in either direction, where it stands and for how long. */
TDR_API TDR_MUST_USE tdr_status tdr_dump(tdr_agent *agent, tdr_value **ret_text);

TDR_END_DECLS

#endif
