/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: its making and joining, its workers and functions, and how messages find their handlers.
 *
 * Design notes. The program's references are one thing, the memory another: when the program drops its last reference the
 * agent leaves; calls that are still in somebody's hands keep the memory until they are dropped, too.
 */
#include "agent/membership.h"

#include "agent/faulty.h"
#include "agent/references.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAME 127
#define STORE_MS 1000 /* for an answer of the store, at the least */

static const char *const state_names[] = {
#define AGENT_STATE_NAME(name, text) [name] = text,
    AGENT_STATE_LIST(AGENT_STATE_NAME)
#undef AGENT_STATE_NAME
};

/* ---- state ---- */

const char *agent_state_name(enum agent_state state)
{
	return state_names[state];
}

enum agent_state agent_state(const tdr_agent *agent)
{
	return (enum agent_state)atomic_load(&agent->state);
}

tdr_status agent_set_state(tdr_agent *agent, enum agent_state from, enum agent_state to)
{
	uint32_t expected = from;

	if (!atomic_compare_exchange_strong(&agent->state, &expected, to))
		return error_set(expected == AGENT_LEFT ? TDR_ESHUTDOWN : TDR_ESTATE, "agent '%s' is %s", agent->name,
		                 state_names[expected]);
	LOG(TDR_LOG_DEBUG, "event=agent_state worker=%s from=%s to=%s", agent->name, state_names[from],
	    state_names[to]);
	return TDR_OK;
}

tdr_status agent_check_not_forked(const tdr_agent *agent)
{
	if (!forked(agent->fork_generation))
		return TDR_OK;
	return error_set(TDR_EFORKED, "agent '%s' belongs to the parent process", agent->name);
}

/* ---- events of links ---- */

static void on_message(void *context, struct link *link, const struct message *message, unsigned turn)
{
	tdr_agent *agent = context;
	struct peer *peer = link_user(link);

	if (!peer)
		return; /* it only asks whether somebody lives */
	switch (message->type) {
	case MESSAGE_CALL:
	case MESSAGE_REMOTE_CALL:
	case MESSAGE_FETCH:
		serve_call(peer, message, turn);
		break;
	case MESSAGE_REPLY:
	case MESSAGE_ERROR:
		outgoing_reply(peer, message);
		break;
	case MESSAGE_CANCEL:
		serve_cancel(peer, message->call_id);
		break;
	case MESSAGE_GATHER:
	case MESSAGE_SCATTER:
		collective_message(peer, message);
		break;
	case MESSAGE_RREF:
		references_message(peer, message);
		break;
	default:
		LOG(TDR_LOG_WARN, "event=message_ignored worker=%s peer=%s type=%s", agent->name, link_peer(link)->name,
		    message_type_name(message->type));
	}
}

static void on_broken(void *context, struct link *link, const char *text)
{
	struct peer *peer = link_user(link);

	if (!peer)
		return;
	outgoing_fail_all(peer, TDR_EUNKNOWN_OUTCOME, text, false, link_epoch(link));
	references_peer_broke(peer);
}

static void on_gone(void *context, struct link *link, tdr_status status, const char *text)
{
	struct peer *peer = link_user(link);

	if (!peer)
		return;
	outgoing_fail_all(peer, status, text, true, 0);
	references_peer_gone(peer);
	serve_cancel_all(peer);
	collective_gone(peer, status, text);
	membership_gone(peer, status, text);
}

static enum refusal on_stranger(void *context, const struct identity *who)
{
	return membership_stranger(context, who);
}

static const struct link_events link_events = {
    .message = on_message,
    .broken = on_broken,
    .gone = on_gone,
    .stranger = on_stranger,
};

struct links *agent_make_links(tdr_agent *agent)
{
	const tdr_agent_options *options = &agent->options;
	struct links_config config = {
	    .engine = agent->engine,
	    .pool = agent->pool,
	    .group = options->group ? options->group : "default",
	    .self = agent->self,
	    .limits = {.max_body_bytes = (size_t)options->max_body_bytes,
	               .max_message_bytes = (size_t)options->max_message_bytes,
	               .max_storages = agent->codec_limits.max_storages},
	    .credit_bytes = (size_t)options->credit_bytes,
	    .connect_timeout_ms = options->connect_timeout_ms,
	    .heartbeat_ms = options->heartbeat_ms,
	    .heartbeat_bound_ms = options->heartbeat_bound_ms,
	    .events = &link_events,
	    .context = agent,
	};

	return links_new(&config);
}

/* ---- making ---- */

static bool name_is_valid(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > MAX_NAME)
		return false;
	return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:") == length;
}

static tdr_status make_parts(tdr_agent *agent)
{
	const tdr_agent_options *options = &agent->options;
	tdr_engine_options engine;
	tdr_status status;

	agent->codec_limits = codec_default_limits;
	agent->codec_limits.max_body_bytes = (size_t)options->max_body_bytes;
	agent->pool = pool_new((size_t)options->pool_bytes);
	agent->registry = registry_new();
	if (!agent->pool || !agent->registry)
		return error_nomem();
	status = references_register(agent);
	if (status != TDR_OK)
		return status;
	if (options->engine) {
		agent->engine = tdr_engine_ref(options->engine);
		return TDR_OK;
	}
	tdr_engine_options_init(&engine);
	engine.threads = (uint32_t)options->threads;
	engine.max_threads = (uint32_t)MAX_OF(options->max_threads, options->threads);
	engine.spin_us = options->spin_us;
	status = tdr_engine_new(&engine, &agent->engine);
	return status;
}

tdr_status agent_make(const char *name, const tdr_agent_options *options, tdr_agent **ret_agent)
{
	tdr_agent *agent;
	tdr_status status;

	if (!name || !name_is_valid(name))
		return error_set(TDR_EINVAL,
		                 "Worker name must match ^[A-Za-z0-9-_:]*$, and must be non-empty and shorter than 128 "
		                 "chars, but got %s",
		                 name ? name : "NULL");
	agent = calloc(1, sizeof(*agent));
	if (!agent)
		return error_nomem();
	refcount_init(&agent->refs);
	refcount_init(&agent->holds);
	atomic_init(&agent->state, AGENT_NEW);
	agent->fork_generation = fork_generation();
	snprintf(agent->name, sizeof(agent->name), "%s", name);
	pthread_mutex_init(&agent->lock, NULL);
	pthread_mutex_init(&agent->view_lock, NULL);
	list_init(&agent->idle_waiters);
	list_init(&agent->peers);
	collectives_init(&agent->collectives);
	references_init(&agent->references);
	membership_init(agent);
	devices_init(&agent->devices);
	status = options_copy(options, &agent->options);
	if (status == TDR_OK)
		status = make_parts(agent);
	if (status == TDR_OK)
		status = faulty_new(agent, &agent->faulty);
	agent->devices.plan.device_count = agent->options.device_count;
	if (status != TDR_OK) {
		agent_drop(agent);
		return status;
	}
	atomic_store(&agent->rpc_timeout_ms, agent->options.rpc_timeout_ms);
	*ret_agent = agent;
	return TDR_OK;
}

tdr_agent *tdr_agent_new(const char *name, const tdr_agent_options *options)
{
	tdr_agent *agent;

	return backend_make(name, options, &agent) == TDR_OK ? agent : NULL;
}

void agent_hold(tdr_agent *agent)
{
	refcount_get(&agent->holds);
}

void agent_drop(tdr_agent *agent)
{
	if (!refcount_put(&agent->holds))
		return;
	faulty_free(agent->faulty);
	links_free(agent->links);
	views_fini(agent);
	membership_fini(agent);
	tdr_value_unref(agent->description);
	tdr_future_unref(agent->known);
	collectives_fini(&agent->collectives);
	references_fini(&agent->references);
	devices_fini(&agent->devices);
	interceptors_fini(&agent->interceptors);
	registry_free(agent->registry);
	tdr_store_unref(agent->store);
	rendezvous_fini(&agent->rendezvous);
	tdr_engine_unref(agent->engine);
	pool_unref(agent->pool);
	tdr_store_unref(agent->options.store);
	tdr_engine_unref(agent->options.engine);
	options_fini(&agent->options);
	pthread_mutex_destroy(&agent->lock);
	pthread_mutex_destroy(&agent->view_lock);
	free(agent);
}

/* ---- joining ---- */

void agent_become_member(tdr_agent *agent)
{
	/* From now on the store is asked by the way, and by threads that have more to do than to wait for it. */
	if (agent->membership.dynamic && !agent->options.store)
		tdr_store_set_timeout(agent->store, MAX_OF(agent->options.heartbeat_bound_ms, (int64_t)STORE_MS));
	(void)agent_set_state(agent, AGENT_JOINING, AGENT_MEMBER);
	links_admit(agent->links); /* not before: what others call may want to call in turn */
	LOG(TDR_LOG_INFO, "event=joined worker=%s rank=%u size=%u address=%s", agent->name, agent->self.id,
	    view_count(agent_view(agent)), agent->self.address);
}

tdr_status tdr_join(tdr_agent *agent)
{
	int64_t deadline_ms = deadline_after(agent->options.join_timeout_ms);
	tdr_status status = agent_check_not_forked(agent);

	if (status == TDR_OK)
		status = agent_set_state(agent, AGENT_NEW, AGENT_JOINING);
	if (status != TDR_OK)
		return status;
	status = dump_signal_open(agent);
	if (status == TDR_OK)
		status = agent_meet(agent, deadline_ms);
	if (status == TDR_OK)
		status = references_open(agent);
	if (status == TDR_OK && agent->membership.dynamic && !(agent->known = tdr_future_new(agent->engine)))
		status = error_nomem();
	if (status == TDR_OK) {
		agent_become_member(agent);
		if (agent->membership.dynamic)
			status = membership_announce(agent, deadline_ms);
	}
	if (status == TDR_OK && agent->known)
		future_complete(agent->known, TDR_OK, NULL, NULL, NULL);
	if (status != TDR_OK) {
		char text[ERROR_TEXT_SIZE];

		snprintf(text, sizeof(text), "%s", tdr_last_error());
		membership_withdraw(agent);
		agent_leave(agent, false);
		return error_set(status, "%s", text);
	}
	return TDR_OK;
}

tdr_status tdr_init_rpc(const char *name, const tdr_agent_options *options, tdr_agent **ret_agent)
{
	tdr_agent *agent;
	tdr_status status = backend_make(name, options, &agent);

	if (status != TDR_OK)
		return status;
	status = tdr_join(agent);
	if (status != TDR_OK) {
		char text[ERROR_TEXT_SIZE];

		snprintf(text, sizeof(text), "%s", tdr_last_error());
		tdr_agent_unref(agent);
		return error_set(status, "%s", text);
	}
	*ret_agent = agent;
	return TDR_OK;
}

/* ---- the program's references ---- */

tdr_agent *tdr_agent_ref(tdr_agent *agent)
{
	if (agent)
		refcount_get(&agent->refs);
	return agent;
}

static void *end_elsewhere(void *argument)
{
	tdr_agent *agent = argument;

	agent_leave(agent, false);
	agent_drop(agent);
	return NULL;
}

tdr_agent *tdr_agent_unref(tdr_agent *agent)
{
	pthread_t thread;

	if (!agent || forked(agent->fork_generation) || !refcount_put(&agent->refs))
		return NULL;
	/* Leaving waits for lanes to close; a callback or a function of the agent's own engine must not. */
	if ((engine_is_inline() || serve_scope().depth > 0) && pthread_create(&thread, NULL, end_elsewhere, agent) == 0)
		pthread_detach(thread);
	else
		end_elsewhere(agent);
	return NULL;
}

/* ---- workers ---- */

tdr_engine *tdr_agent_engine(const tdr_agent *agent)
{
	return agent->engine;
}

static tdr_worker worker_of(const struct identity *who)
{
	return (tdr_worker){.name = who->name, .id = who->id, .incarnation = who->incarnation};
}

tdr_worker tdr_agent_worker(const tdr_agent *agent)
{
	tdr_worker worker = worker_of(&agent->self);

	worker.name = agent->name;
	return worker;
}

size_t tdr_worker_count(const tdr_agent *agent)
{
	return view_count(agent_view(agent));
}

tdr_status tdr_worker_at(const tdr_agent *agent, size_t index, tdr_worker *ret_worker)
{
	const struct view *view = agent_view(agent);

	if (index >= view_count(view))
		return error_set(TDR_ENOWORKER, "name:%s,rank:%u has %u members, and none at %zu", agent->name,
		                 agent->self.id, view_count(view), index);
	*ret_worker = worker_of(link_peer(view->members[index]->link));
	return TDR_OK;
}

tdr_status tdr_worker_by_id(const tdr_agent *agent, uint32_t id, tdr_worker *ret_worker)
{
	const struct peer *peer = view_by_id(agent_view(agent), id);

	if (!peer)
		return error_set(TDR_ENOWORKER, "name:%s,rank:%u could not find destination id %u", agent->name,
		                 agent->self.id, id);
	*ret_worker = worker_of(link_peer(peer->link));
	return TDR_OK;
}

tdr_status agent_find_peer(tdr_agent *agent, const char *name, struct peer **ret_peer)
{
	struct peer *peer = name ? view_by_name(agent_view(agent), name) : NULL;

	if (peer) {
		*ret_peer = peer;
		return TDR_OK;
	}
	return error_set(TDR_ENOWORKER, "name:%s,rank:%u could not find destination name %s", agent->name,
	                 agent->self.id, name ? name : "NULL");
}

tdr_status tdr_worker_by_name(const tdr_agent *agent, const char *name, tdr_worker *ret_worker)
{
	struct peer *peer = NULL;
	tdr_status status = agent_find_peer((tdr_agent *)agent, name, &peer);

	if (status == TDR_OK)
		*ret_worker = worker_of(link_peer(peer->link));
	return status;
}

/* ---- functions ---- */

tdr_status tdr_register_owned(tdr_agent *agent, const char *schema, tdr_function function, void *context,
                              void (*destructor)(void *context), unsigned flags)
{
	tdr_status status = agent_check_not_forked(agent);

	return status == TDR_OK ? registry_add(agent->registry, schema, function, context, destructor, flags) : status;
}

tdr_status tdr_register(tdr_agent *agent, const char *schema, tdr_function function, void *context, unsigned flags)
{
	return tdr_register_owned(agent, schema, function, context, NULL, flags);
}

tdr_status tdr_unregister(tdr_agent *agent, const char *name)
{
	tdr_status status = agent_check_not_forked(agent);

	return status == TDR_OK ? registry_remove(agent->registry, name) : status;
}

/* ---- timeouts ---- */

void tdr_agent_set_rpc_timeout(tdr_agent *agent, int64_t timeout_ms)
{
	atomic_store(&agent->rpc_timeout_ms, MAX_OF(timeout_ms, (int64_t)0));
}

int64_t tdr_agent_rpc_timeout(const tdr_agent *agent)
{
	return atomic_load(&agent->rpc_timeout_ms);
}
