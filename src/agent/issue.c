/* SPDX-License-Identifier: Apache-2.0 */
/* How a call that we make begins: its checks, its deadline, its body, and the public functions that make one. */
#include "agent/outgoing.h"

#include "agent/faulty.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"

#include <stdio.h>
#include <string.h>

static tdr_status check_arguments(const tdr_value *args, const tdr_value *kwargs)
{
	tdr_kind kind = args ? tdr_value_kind(args) : TDR_TUPLE;
	tdr_status status = args ? tdr_value_status(args) : TDR_OK;

	if (status == TDR_OK && kwargs)
		status = tdr_value_status(kwargs);
	if (status != TDR_OK)
		return error_prefix(status, "an argument could not be made");
	if (kind != TDR_TUPLE && kind != TDR_LIST)
		return error_set(TDR_EINVAL, "args must be a tuple or a list (see TDR_ARGS), not %s",
		                 tdr_kind_name(kind));
	if (kwargs && tdr_value_kind(kwargs) != TDR_DICT)
		return error_set(TDR_EINVAL, "kwargs must be a dict (see TDR_KWARGS), not %s",
		                 tdr_kind_name(tdr_value_kind(kwargs)));
	return TDR_OK;
}

static tdr_status check_can_call(const tdr_agent *agent)
{
	switch (agent_state(agent)) {
	case AGENT_MEMBER:
	case AGENT_LEAVING:
		return TDR_OK;
	case AGENT_NEW:
	case AGENT_JOINING:
		return error_set(TDR_ESTATE, "agent '%s' has not joined a group yet: call tdr_join first", agent->name);
	case AGENT_FENCED:
		return error_set(TDR_EFENCED, "%s", agent->membership.fenced_text);
	case AGENT_LEFT:
		break;
	}
	return error_set(TDR_ESHUTDOWN, "agent '%s' has been shut down", agent->name);
}

/* The deadline of a call: its own timeout, and no later than that of the call which makes it. */
static tdr_status choose_deadline(const tdr_agent *agent, const tdr_rpc_options *options, const struct scope *scope,
                                  struct outgoing *outgoing, int64_t *ret_deadline_ms)
{
	int64_t timeout = options->timeout_ms, deadline;

	if (timeout == TDR_TIMEOUT_DEFAULT)
		timeout = atomic_load(&agent->rpc_timeout_ms);
	if (timeout < 0)
		return error_set(TDR_EINVAL,
		                 "a timeout of %lld ms: give a positive one, TDR_TIMEOUT_NEVER or "
		                 "TDR_TIMEOUT_DEFAULT",
		                 (long long)timeout);
	deadline = deadline_after(timeout);
	if (scope->deadline_ms && !(options->flags & TDR_RPC_LOCAL_TIMEOUT) &&
	    (deadline == 0 || scope->deadline_ms < deadline)) {
		deadline = scope->deadline_ms;
		timeout = MAX_OF(deadline - clock_ms(), (int64_t)0);
		if (timeout == 0)
			return error_set(TDR_ETIMEDOUT,
			                 "the call of %s on worker '%s' was not made: the time of the call "
			                 "that makes it is over",
			                 outgoing->function, link_peer(outgoing->peer->link)->name);
	}
	outgoing->timeout_ms = timeout;
	*ret_deadline_ms = deadline;
	return TDR_OK;
}

static tdr_status issue_hooks(struct outgoing *outgoing, tdr_value **args, tdr_value **kwargs)
{
	tdr_agent *agent = outgoing->peer->agent;
	tdr_status status;

	if (agent->interceptors.count == 0)
		return TDR_OK;
	outgoing->passage = passage_new(agent, outgoing->peer->link, outgoing->function, false);
	if (!outgoing->passage)
		return error_nomem();
	outgoing->passage->args = tdr_value_ref(*args);
	outgoing->passage->kwargs = tdr_value_ref(*kwargs);
	status = intercept_run(outgoing->passage, HOOK_ISSUE);
	tdr_value_unref(*args);
	tdr_value_unref(*kwargs);
	*args = TAKE_PTR(outgoing->passage->args);
	*kwargs = TAKE_PTR(outgoing->passage->kwargs);
	return status;
}

static tdr_status encode_optional(struct encoder *encoder, const tdr_value *value, const char *name)
{
	if (value)
		return encode_value_as(encoder, value, name);
	encode_nil(encoder);
	return TDR_OK;
}

/* What a call has to do with references beside its arguments: what it is called on, and what it creates; nil where there is none. */
static void encode_references(struct encoder *encoder, const struct issue *issue)
{
	if (issue->target) {
		encode_array(encoder, 4);
		rref_id_encode(encoder, &issue->aim.rref);
		encode_uint(encoder, issue->aim.origin);
	} else {
		encode_nil(encoder);
	}
	if (issue->creates) {
		encode_array(encoder, 3); /* both are named by this incarnation */
		encode_uint(encoder, issue->creation.rref.local);
		encode_uint(encoder, issue->creation.fork.local);
		encode_uint(encoder, issue->creation.number);
	} else {
		encode_nil(encoder);
	}
}

/* The body of a call: function, depth, metadata, args, kwargs, and where it has any, references. docs/protocol.md states it. */
static tdr_status encode_call(struct encoder *encoder, const struct outgoing *outgoing, uint32_t depth,
                              const struct issue *issue)
{
	bool refers = issue->target || issue->creates;
	tdr_status status;

	encode_array(encoder, refers ? 7 : 5);
	encode_string(encoder, outgoing->function, strlen(outgoing->function));
	encode_uint(encoder, depth);
	status = encode_optional(encoder, outgoing->passage ? outgoing->passage->attached : NULL, "metadata");
	if (status == TDR_OK)
		status = encode_optional(encoder, *issue->args, "args");
	if (status == TDR_OK)
		status = encode_optional(encoder, *issue->kwargs, "kwargs");
	if (status == TDR_OK && refers)
		encode_references(encoder, issue);
	if (status == TDR_OK && encoder->body.failed)
		status = error_nomem();
	return status;
}

static tdr_status await_credit(struct outgoing *outgoing, int64_t deadline_ms)
{
	const char *name = link_peer(outgoing->peer->link)->name;

	if (!link_over_credit(outgoing->peer->link))
		return TDR_OK;
	if (outgoing->flags & TDR_RPC_NO_WAIT)
		return error_set(TDR_EAGAIN, "worker '%s' has not taken up earlier requests yet: its credit is used up",
		                 name);
	/* Who may not wait (a callback, a thread that keeps the engine going) goes past it. */
	if (engine_is_inline() || link_await_credit(outgoing->peer->link, deadline_ms))
		return TDR_OK;
	return error_set(TDR_ETIMEDOUT,
	                 "RPC ran for more than set timeout (%lld ms): %s was not sent, since worker '%s' has "
	                 "not taken up earlier requests",
	                 (long long)outgoing->timeout_ms, outgoing->function, name);
}

static enum faulty_type faulty_type_of(uint8_t type)
{
	return type == MESSAGE_REMOTE_CALL ? FAULTY_REMOTE_CALL : type == MESSAGE_FETCH ? FAULTY_FETCH : FAULTY_CALL;
}

/* Puts the call into the table, starts its clock and sends it. */
static tdr_status launch(struct outgoing *outgoing, struct encoder *encoder, int64_t deadline_ms)
{
	struct peer *peer = outgoing->peer;
	tdr_agent *agent = peer->agent;
	struct message message = {
	    .type = outgoing->type,
	    .body = encoder->body.data,
	    .body_size = encoder->body.size,
	    .nstorages = encoder->nstorages,
	    .storages = encoder->storages,
	};
	tdr_status status;

	outgoing->epoch = link_epoch(peer->link);
	outgoing->started_ns = clock_ns();
	refcount_get(&outgoing->refs); /* ours, beside the table's */
	atomic_fetch_add(&agent->outstanding, 1);
	atomic_fetch_add(&agent->activity, 1);
	status = call_table_add(&peer->calls, outgoing, (uint32_t)agent->options.max_calls);
	if (status != TDR_OK) {
		agent_note_end(agent, &agent->outstanding);
		outgoing_unref(outgoing);
		return status;
	}
	atomic_fetch_add_explicit(&agent->metrics.issued, 1, memory_order_relaxed);
	outgoing_attach(outgoing);
	if (deadline_ms) {
		outgoing_start_timer(outgoing, deadline_ms);
		if (!(outgoing->flags & TDR_RPC_LOCAL_TIMEOUT))
			message.time_left_ms =
			    (uint32_t)MIN_OF(MAX_OF(deadline_ms - clock_ms(), (int64_t)1), (int64_t)UINT32_MAX);
	}
	message.call_id = outgoing->id;
	if (outgoing->flags & TDR_RPC_AWAITED)
		outgoing_reserve(outgoing);
	status = faulty_send(agent->faulty, peer->link, faulty_type_of(outgoing->type), outgoing->function,
	                     message.body, message.body_size, &message);
	if (status != TDR_OK) {
		struct outgoing *mine = call_table_take(&peer->calls, outgoing->id);

		if (mine)
			outgoing_finish(mine, status, NULL, tdr_last_error(), NULL);
	}
	outgoing_unref(outgoing);
	return TDR_OK;
}

/* A call that interceptors have seen has its end shown to them, too; they may even give it a result. */
static tdr_status not_launched(struct outgoing *outgoing, tdr_status status)
{
	char said[ERROR_TEXT_SIZE];
	const char *text = said;
	tdr_value *value = NULL;

	if (!outgoing->passage)
		return status;
	snprintf(said, sizeof(said), "%s", tdr_last_error());
	status = outgoing_complete_hooks(outgoing->passage, status, &value, &text);
	if (status == TDR_OK)
		future_complete(outgoing->future, TDR_OK, value, NULL, NULL);
	else if (text == said)
		error_set(status, "%s", said);
	return status;
}

static tdr_status check_depth(const tdr_agent *agent, const struct issue *issue, const struct scope *scope)
{
	if (scope->depth < agent->options.max_depth)
		return TDR_OK;
	return error_set(
	    TDR_ELIMIT,
	    "%s on worker '%s' would be nested %u calls deep: raise max_depth, or find the recursion that does "
	    "not end",
	    issue->function, link_peer(issue->peer->link)->name, scope->depth + 1);
}

/* A call in which nothing is set but what the issue says. */
static struct outgoing *make_outgoing(const struct issue *issue, tdr_future *future)
{
	struct outgoing *outgoing = outgoing_new(issue->peer, future, issue->function);

	if (!outgoing)
		return NULL;
	outgoing->type = issue->type;
	outgoing->flags = issue->options.flags;
	outgoing->target = issue->target ? tdr_rref_ref(&issue->target->head) : NULL;
	outgoing->creates = issue->creates ? tdr_rref_ref(&issue->creates->head) : NULL;
	return outgoing;
}

/* Makes the call; on failure nobody has been told of it. */
static tdr_status try(tdr_agent *agent, struct issue *issue, tdr_future *future)
{
	struct scope scope = serve_scope();
	struct outgoing *outgoing;
	struct encoder encoder;
	int64_t deadline_ms = 0;
	tdr_status status = check_depth(agent, issue, &scope);

	if (status != TDR_OK)
		return status;
	outgoing = make_outgoing(issue, future);
	if (!outgoing)
		return error_nomem();
	encoder_init(&encoder, &agent->codec_limits);
	cargo_out(&outgoing->cargo, &encoder);
	status = choose_deadline(agent, &issue->options, &scope, outgoing, &deadline_ms);
	if (status == TDR_OK)
		status = issue_hooks(outgoing, issue->args, issue->kwargs);
	if (status == TDR_OK)
		status =
		    await_credit(outgoing, deadline_ms); /* before references are passed: see rrefs_peer_connected */
	if (status == TDR_OK)
		status = encode_call(&encoder, outgoing, scope.depth + 1, issue);
	if (status == TDR_OK) {
		status = launch(outgoing, &encoder, deadline_ms);
		outgoing = status == TDR_OK ? NULL : outgoing;
	}
	if (outgoing) {
		char text[ERROR_TEXT_SIZE];

		if (issue->creates) /* whatever interceptors make of it: nothing has been created */
			reference_created(issue->creates, status, tdr_last_error());
		status = not_launched(outgoing, status);
		snprintf(text, sizeof(text), "%s", tdr_last_error());
		cargo_withdraw(&outgoing->cargo);
		outgoing_unref(outgoing);
		if (status != TDR_OK)
			error_set(status, "%s", text);
	}
	encoder_fini(&encoder);
	return status;
}

tdr_status issue_init(struct issue *issue, tdr_agent *agent, const char *function, tdr_value **args, tdr_value **kwargs,
                      const tdr_rpc_options *options)
{
	tdr_rpc_options defaults;
	tdr_status status;

	tdr_rpc_options_init(&defaults);
	options = options ? options : &defaults;
	if (options->size != sizeof(*options))
		return error_set(TDR_EINVAL, "tdr_rpc_options.size is %zu, not %zu: call tdr_rpc_options_init first",
		                 options->size, sizeof(*options));
	*issue = (struct issue){
	    .function = function, .args = args, .kwargs = kwargs, .options = *options, .type = MESSAGE_CALL};
	status = check_can_call(agent);
	return status == TDR_OK ? check_arguments(*args, *kwargs) : status;
}

void issue_run(tdr_agent *agent, struct issue *issue, tdr_future *future)
{
	char text[ERROR_TEXT_SIZE];
	tdr_status status = try(agent, issue, future);

	if (status == TDR_OK)
		return;
	snprintf(text, sizeof(text), "%s", tdr_last_error());
	if (issue->creates)
		reference_created(issue->creates, status, text); /* once is enough, twice does no harm */
	future_complete(future, status, NULL, text, NULL);
}

void tdr_rpc_options_init(tdr_rpc_options *options)
{
	*options = (tdr_rpc_options){.size = sizeof(*options), .timeout_ms = TDR_TIMEOUT_DEFAULT};
}

tdr_future *tdr_rpc_async_with(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                               tdr_value *kwargs, const tdr_rpc_options *options)
{
	tdr_future *future = forked(agent->fork_generation) ? NULL : tdr_future_new(agent->engine);
	struct issue issue;
	tdr_status status;

	if (forked(agent->fork_generation)) {
		error_set(TDR_EFORKED, "agent '%s' belongs to the parent process", agent->name);
	} else if (future) {
		status = issue_init(&issue, agent, function, &args, &kwargs, options);
		if (status == TDR_OK)
			status = agent_find_peer(agent, worker, &issue.peer);
		if (status == TDR_OK)
			issue_run(agent, &issue, future);
		else
			future_complete(future, status, NULL, tdr_last_error(), NULL);
	}
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
	return future;
}

tdr_future *tdr_rpc_async(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                          tdr_value *kwargs)
{
	return tdr_rpc_async_with(agent, worker, function, args, kwargs, NULL);
}

tdr_status tdr_rpc_sync_with(tdr_agent *agent, const char *worker, const char *function, tdr_value *args,
                             tdr_value *kwargs, const tdr_rpc_options *options, tdr_value **ret_value)
{
	tdr_rpc_options awaited;
	tdr_future *future;
	tdr_status status;

	tdr_rpc_options_init(&awaited);
	if (options && options->size == sizeof(*options))
		awaited = *options;
	else if (options)
		awaited.size = options->size; /* which is refused */
	awaited.flags |= TDR_RPC_AWAITED;
	future = tdr_rpc_async_with(agent, worker, function, args, kwargs, &awaited);
	if (!future)
		return forked(agent->fork_generation) ? TDR_EFORKED : error_nomem();
	status = tdr_future_wait(future, TDR_TIMEOUT_NEVER, ret_value);
	tdr_future_unref(future);
	return status;
}

tdr_status tdr_rpc_sync(tdr_agent *agent, const char *worker, const char *function, tdr_value *args, tdr_value *kwargs,
                        tdr_value **ret_value)
{
	return tdr_rpc_sync_with(agent, worker, function, args, kwargs, NULL, ret_value);
}
