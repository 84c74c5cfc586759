/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References (RRefs): counted handles of values that stay where they were made.
 *
 * The worker that has the value is the reference's *owner*; every other one that holds it is a *user*. A reference travels as an
 * argument and as a part of a result, also inside lists and dicts (tdr_rref_value makes a value of it); wherever it arrives, it
 * keeps the value alive until it is dropped there. The value is freed when nobody holds a reference any more: all handles are
 * dropped, or those who held them are gone.
 *
 * A handle is counted (tdr_rref_ref and tdr_rref_unref, in value.h) and may be used from any thread. Where an owner is gone, every
 * use of its references fails with TDR_EWORKERGONE, naming it. After its agent's shutdown a handle is inert: it can be
 * printed, compared and dropped; an owner's still gives its value. docs/rref.md says how it works.
 */
#ifndef TENDRIL_RREF_H
#define TENDRIL_RREF_H

#include <tendril/agent.h>

TDR_BEGIN_DECLS

/* ---- making ---- */

/*
 * Calls `function` on `worker` (the agent itself, too), as tdr_rpc_async does, and returns at once a reference to what it will
 * return; the value stays there. What the function fails with is the reference's error, raised on use (tdr_rref_to_here);
 * a call that cannot be made at all (no such worker, arguments that cannot travel) is, too. The callee is not told of the
 * deadline: past it the reference counts as failed, unless the owner has taken it up by then. NULL for lack of memory, or in a
 * forked child.
 */
TDR_API tdr_rref *tdr_remote(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                             tdr_value *kwargs);
TDR_API tdr_rref *tdr_remote_with(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                                  tdr_value *kwargs, const tdr_rpc_options *options);

/*
 * A reference to a value of this worker's. `value` is given away; it may be a C object (tdr_native), which others then call
 * functions of. NULL, with the reason in tdr_last_error(): TDR_ENOMEM, TDR_ESTATE (the agent is no member), TDR_EINVAL.
 */
TDR_API tdr_rref *tdr_rref_new(tdr_agent *agent, tdr_value *value);

/* ---- the value ---- */

/*
 * The value: a copy of it fetched from its owner, each time anew; the value itself where this worker is the owner. Waits until
 * it is there; `timeout_ms` as in tdr_rpc_options (on the owner it bounds the wait). Errors: the creation's; TDR_ETIMEDOUT,
 * TDR_EWORKERGONE, TDR_EUNREACHABLE, TDR_ESHUTDOWN; TDR_EUNSUPPORTED (a C object stays where it is); TDR_ENOTFOUND (the owner
 * does not have it any more, for example since the worker that passed it on died meanwhile).
 */
TDR_API TDR_MUST_USE tdr_status tdr_rref_to_here(tdr_rref *rref, int64_t timeout_ms, tdr_value **ret_value);

/* The same as a future. NULL for lack of memory, or in a forked child. */
TDR_API tdr_future *tdr_rref_fetch(tdr_rref *rref, int64_t timeout_ms);

/*
 * The value itself, on its owner; a new reference. Waits until it is there, up to `timeout_ms` (TDR_TIMEOUT_NEVER and
 * TDR_TIMEOUT_DEFAULT: as long as it takes). Errors: TDR_ESTATE (this worker is not the owner), the creation's, TDR_ETIMEDOUT.
 */
TDR_API TDR_MUST_USE tdr_status tdr_rref_local_value(tdr_rref *rref, int64_t timeout_ms, tdr_value **ret_value);

/* ---- the owner ---- */

TDR_API bool tdr_rref_is_owner(const tdr_rref *rref);

/* The owner. The name lives as long as the agent. Of a reference whose call could not be made: `name` "", `id` UINT32_MAX. */
TDR_API tdr_worker tdr_rref_owner(const tdr_rref *rref);
TDR_API const char *tdr_rref_owner_name(const tdr_rref *rref);

/*
 * Whether the owner is known to count it: for a reference made by tdr_remote here, by the answer that comes when its function has
 * finished, so that it stays false where the call's time was over before. True on the owner.
 */
TDR_API bool tdr_rref_confirmed_by_owner(const tdr_rref *rref);

/*
 * Waits until the owner counts it (for a reference made by tdr_remote: knows it, whether or not its function has finished), up to
 * `timeout_ms` (as in tdr_rref_local_value). Errors: why it will not: TDR_ETIMEDOUT, TDR_EWORKERGONE, TDR_ENOTFOUND,
 * TDR_ESHUTDOWN.
 */
TDR_API TDR_MUST_USE tdr_status tdr_rref_wait_confirmed(tdr_rref *rref, int64_t timeout_ms);

/*
 * Of a reference made by tdr_remote: a future (a new reference) that completes with None when its function has finished on the
 * owner, also when it failed there; with an error when the call itself did (TDR_ETIMEDOUT and so on). Of any other, and for
 * lack of memory, one that has failed with TDR_ESTATE, or NULL.
 */
TDR_API tdr_future *tdr_rref_future(tdr_rref *rref);

/* ---- calls on the value, where it is ---- */

/*
 * Calls a function on the owner with the value as its first argument, before `args`. A full name ("aten::add", "ps::push") is
 * called as it stands. A name without "::" is looked up by the value's type: of a C object made by tdr_native("replay::Buffer",
 * ...) "sample" is "replay::Buffer::sample", of a tensor "add" is "aten::add". `args` and `kwargs` are given away. The call
 * waits at the owner until the value is there, without a thread. Errors: as tdr_rpc_async and tdr_rref_to_here;
 * TDR_ENOFUNCTION.
 */
TDR_API tdr_future *tdr_rref_rpc_async(tdr_rref *rref, const char *function, tdr_value *args, tdr_value *kwargs);
TDR_API tdr_future *tdr_rref_rpc_async_with(tdr_rref *rref, const char *function, tdr_value *args, tdr_value *kwargs,
                                            const tdr_rpc_options *options);
TDR_API TDR_MUST_USE tdr_status tdr_rref_rpc_sync(tdr_rref *rref, const char *function, tdr_value *args,
                                                  tdr_value *kwargs, tdr_value **ret_value);
TDR_API TDR_MUST_USE tdr_status tdr_rref_rpc_sync_with(tdr_rref *rref, const char *function, tdr_value *args,
                                                       tdr_value *kwargs, const tdr_rpc_options *options,
                                                       tdr_value **ret_value);

/* The same, with the result left there: a reference to it, as tdr_remote gives. */
TDR_API tdr_rref *tdr_rref_remote(tdr_rref *rref, const char *function, tdr_value *args, tdr_value *kwargs);
TDR_API tdr_rref *tdr_rref_remote_with(tdr_rref *rref, const char *function, tdr_value *args, tdr_value *kwargs,
                                       const tdr_rpc_options *options);

/* ---- identity ---- */

/* Whether two handles refer to the same value. */
TDR_API bool tdr_rref_equal(const tdr_rref *a, const tdr_rref *b);

/*
 * "OwnerRRef(GloballyUniqueId(created_on=0, local_id=3))", or "UserRRef(RRefId = GloballyUniqueId(...), ForkId =
 * GloballyUniqueId(...))". At most `size` bytes with the closing NUL; returns the bytes that the whole text needs.
 */
TDR_API size_t tdr_rref_print(const tdr_rref *rref, char *buffer, size_t size);

/* ---- in bytes ---- */

/* How many numbers a tdr_rref_parts has. */
#define TDR_RREF_PARTS 10

/*
 * A reference taken to pieces, for a program that writes it into bytes of its own (a file, a pickled object, a pipe) without
 * knowing who will read them. Only numbers, of which a binding may make a tuple or an array of TDR_RREF_PARTS; their order and
 * meaning stay as they are. All of them must come back as they were.
 */
typedef struct tdr_rref_parts {
	uint64_t owner_id;
	uint64_t rref_created_on; /* the reference's name: who made it, and its number there */
	uint64_t rref_local_id;
	uint64_t fork_created_on; /* the name of what was made for the reader: who wrote it, and its number */
	uint64_t fork_local_id;
	uint64_t parent_id;         /* who wrote it */
	uint64_t owner_incarnation; /* which one of the processes that had the owner's id; and so on */
	uint64_t rref_incarnation;
	uint64_t parent_incarnation;
	uint64_t origin; /* the number of its creation, which its owner knows it by */
} tdr_rref_parts;

/*
 * Takes a reference to pieces. From then on the value is kept for whoever will read them, once (tdr_rref_deserialize), as long
 * as this worker is a member: what nobody reads is kept until then, or until tdr_rref_withdraw or tdr_rref_delete_all, and
 * tdr_rref_leaks tells of it. Errors: TDR_ESTATE ("... has been deleted. Cannot call fork an UserRRef after deletion."),
 * TDR_ESHUTDOWN, TDR_ENOMEM, and what the reference failed with, if it did ("RRef creation via rpc.remote() timed out ...").
 */
TDR_API TDR_MUST_USE tdr_status tdr_rref_serialize(tdr_rref *rref, tdr_rref_parts *ret_parts);

/*
 * Puts one together, on any member of the group: also the one that wrote it, and the owner. Returns at once; whether the owner
 * counts it is known a little later (tdr_rref_wait_confirmed). Who shuts down with a reference that is not read yet leaves its
 * reader with none. Errors: TDR_EEXISTS (it was read here before, or withdrawn by this worker), TDR_EWORKERGONE and
 * TDR_EUNREACHABLE (who wrote it is gone), TDR_ENOTFOUND (who wrote it was never known here), TDR_ENOWORKER (the owner was
 * not), TDR_EINVAL (numbers that no reference has), TDR_ESTATE and TDR_ESHUTDOWN (the agent is no member), TDR_ENOMEM. What was
 * read by another worker before, or withdrawn by another, gives a reference all the same, which fails with TDR_ENOTFOUND unless
 * its value is kept by others.
 */
TDR_API TDR_MUST_USE tdr_status tdr_rref_deserialize(tdr_agent *agent, const tdr_rref_parts *parts,
                                                     tdr_rref **ret_rref);

/*
 * Nobody will read what this agent has written: the value is not kept for it any more. What has been read or withdrawn before is
 * left as it is. Errors: TDR_EINVAL (another agent wrote it), TDR_ESTATE and TDR_ESHUTDOWN.
 */
TDR_API TDR_MUST_USE tdr_status tdr_rref_withdraw(tdr_agent *agent, const tdr_rref_parts *parts);

/* ---- all of an agent's ---- */

/*
 * Lets go of every reference of others that this worker holds now, as a graceful shutdown does: waits until those under way are
 * confirmed, deletes them (handles stay, and every use of them fails with TDR_ESTATE), and waits until others have let go of this
 * worker's. What comes meanwhile is kept. Returns TDR_ETIMEDOUT with what is left, and who holds it. For a program whose members
 * all do it at the same time.
 */
TDR_API TDR_MUST_USE tdr_status tdr_rref_delete_all(tdr_agent *agent, int64_t timeout_ms);

/*
 * What others know of this worker's references: a list of dicts with `rref` (its name), `state`, `bytes` (of memory that the value
 * keeps), `handles` (here), `holders` (a dict, worker -> forks) and `unread` (forks that tdr_rref_serialize made, and nobody has
 * read).
 */
TDR_API TDR_MUST_USE tdr_status tdr_rref_list(tdr_agent *agent, tdr_value **ret_list);

/*
 * A text: what others hold of this worker's references, a line each: "Leaking RRef GloballyUniqueId(...) with fork Id
 * GloballyUniqueId(...), held by worker 'b'"; and what this worker has written (tdr_rref_serialize): the same with "not read
 * by anybody". Empty where there is none.
 */
TDR_API TDR_MUST_USE tdr_status tdr_rref_leaks(tdr_agent *agent, tdr_value **ret_text);

TDR_END_DECLS

#endif
