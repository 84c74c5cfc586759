/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's reference machine: its lock, its letters and its timers.
 *
 * Letters that nobody waits for are gathered for FLUSH_MS and go together; one that somebody waits for takes along what there is. A
 * peer's machine side comes to be when it is first spoken of, since a peer may be known before we are a member.
 */
#include "agent/references.h"

#include "agent/faulty.h"
#include "agent/outgoing.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	FLUSH_MS = 2,
	LETTERS_AT_ONCE = 64, /* in one message */
	LET_GO_MS = 100000,   /* that a graceful leave waits for others' references, where it has no deadline itself */
};

/* ---- what the machine tells us; with the lock held ---- */

static void on_post(void *context, struct rref_peer *rrefs, bool soon)
{
	tdr_agent *agent = context;
	struct peer *peer = peer_of(rrefs);

	if (list_empty(&peer->posted))
		list_append(&agent->references.posted, &peer->posted);
	agent->references.hurried = agent->references.hurried || soon;
}

static void on_settled(void *context, struct rref_user *user)
{
	tdr_agent *agent = context;
	struct reference *reference = reference_of_user(user);

	if (!list_empty(&reference->node))
		return; /* it is on the list already */
	refcount_get(&reference->memory);
	list_append(&agent->references.settled, &reference->node);
}

/* The list of those settled may have it, too: then it is released from there. */
static void on_user_released(void *context, struct rref_user *user)
{
	tdr_agent *agent = context;
	struct reference *reference = reference_of_user(user);

	if (list_empty(&reference->node))
		list_append(&agent->references.user_released, &reference->node);
	else
		reference_drop_memory(reference);
}

static void on_lost(void *context, struct rref_owned *rref)
{
	tdr_agent *agent = context;
	struct owned_value *owned = owned_value_of(rref);

	refcount_get(&owned->memory);
	list_append(&agent->references.lost, &owned->node);
}

static void on_owned_released(void *context, struct rref_owned *rref)
{
	tdr_agent *agent = context;
	struct owned_value *owned = owned_value_of(rref);

	if (list_empty(&owned->node))
		list_append(&agent->references.owned_released, &owned->node);
	else
		owned_value_drop_memory(owned); /* it is on the list of those lost, which has a count of its own */
}

static struct rref_owned *on_owned_new(void *context)
{
	struct owned_value *owned = owned_value_alloc(context);

	return owned ? &owned->owned : NULL;
}

static struct rref_peer *on_find_peer(void *context, uint32_t worker, uint64_t incarnation)
{
	struct peer *peer = agent_peer_by_incarnation(context, worker, incarnation);

	return peer ? references_peer(peer) : NULL;
}

static void on_given_up(void *context, struct rref_peer *to, const struct letter *letter)
{
	const tdr_agent *agent = context;

	LOG(TDR_LOG_ERROR,
	    "event=rref_letter_given_up worker=%s peer=%s type=%s sends=%d error=\"The RPC has not succeeded after the "
	    "specified number of max retries (%d).\"",
	    agent->name, link_peer(peer_of(to)->link)->name, letter_kind_name(letter->kind), LETTER_MAX_SENDS,
	    LETTER_MAX_SENDS - 1);
}

static const struct rrefs_events machine_events = {
    .post = on_post,
    .settled = on_settled,
    .user_released = on_user_released,
    .lost = on_lost,
    .owned_released = on_owned_released,
    .owned_new = on_owned_new,
    .find_peer = on_find_peer,
    .given_up = on_given_up,
};

/* ---- letters ---- */

static enum faulty_type faulty_type_of(const struct letter *letter)
{
	switch (letter->kind) {
	case LETTER_FORK_REQUEST:
		return FAULTY_FORK_REQUEST;
	case LETTER_CHILD_ACCEPT:
		return FAULTY_CHILD_ACCEPT;
	case LETTER_USER_DELETE:
		return FAULTY_USER_DELETE;
	default:
		return FAULTY_NONE;
	}
}

/* One message with these letters. What does not go out, for whatever reason, is sent again, or the peer is gone. */
static void send_letters(struct peer *peer, enum faulty_type type, const struct letter *letters, size_t count)
{
	tdr_agent *agent = peer->agent;
	struct encoder encoder;
	tdr_status status;

	encoder_init(&encoder, &agent->codec_limits);
	encode_array(&encoder, (uint32_t)count);
	for (size_t i = 0; i < count; i++)
		letter_encode(&encoder, &letters[i]);
	status = encoder.body.failed ? error_nomem()
	                             : faulty_send(agent->faulty, peer->link, type, letter_kind_name(letters[0].kind),
	                                           encoder.body.data, encoder.body.size,
	                                           &(struct message){.type = MESSAGE_RREF,
	                                                             .body = encoder.body.data,
	                                                             .body_size = encoder.body.size});
	if (status != TDR_OK)
		LOG(TDR_LOG_DEBUG, "event=rref_letters_not_sent worker=%s peer=%s count=%zu error=\"%s\"", agent->name,
		    link_peer(peer->link)->name, count, tdr_last_error());
	encoder_fini(&encoder);
}

/* Letters to ourselves are opened at once; with the lock held. */
static void open_letters(struct peer *self, const struct letter *letters, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (rrefs_receive_letter(&self->rrefs, &letters[i]) != TDR_OK)
			LOG(TDR_LOG_ERROR, "event=rref_letter_refused error=\"%s\"", tdr_last_error());
}

/* Sends what is posted; without the lock. */
static void flush(tdr_agent *agent)
{
	struct references *references = &agent->references;
	struct letter letters[LETTERS_AT_ONCE];

	for (;;) {
		struct list *node;
		struct peer *peer;
		size_t count;

		pthread_mutex_lock(&references->lock);
		node = references->machine ? list_shift(&references->posted) : NULL;
		if (!node) {
			references->hurried = false;
			references_unlock(agent);
			return;
		}
		peer = container_of(node, struct peer, posted);
		count = rrefs_take_letters(&peer->rrefs, clock_ms(), letters, COUNT_OF(letters));
		if (peer->rrefs.posted)
			list_append(&references->posted, &peer->posted);
		if (peer->rrefs.incarnation == agent->self.incarnation) {
			open_letters(peer, letters, count);
			count = 0;
		}
		pthread_mutex_unlock(&references->lock);
		if (count > 0 && !agent->faulty)
			send_letters(peer, FAULTY_NONE, letters, count);
		for (size_t i = 0; i < count && agent->faulty; i++) /* faults are by letter */
			send_letters(peer, faulty_type_of(&letters[i]), &letters[i], 1);
	}
}

static void on_flush(struct timer *timer)
{
	tdr_agent *agent = container_of(timer, tdr_agent, references.flush);

	pthread_mutex_lock(&agent->references.lock);
	agent->references.flush_due_ms = 0;
	pthread_mutex_unlock(&agent->references.lock);
	flush(agent);
	agent_drop(agent);
}

static void on_retry(struct timer *timer)
{
	tdr_agent *agent = container_of(timer, tdr_agent, references.retry);

	pthread_mutex_lock(&agent->references.lock);
	agent->references.retry_due_ms = 0;
	if (agent->references.machine)
		rrefs_tick(agent->references.machine, clock_ms());
	references_unlock(agent);
	agent_drop(agent);
}

/* ---- the lock ---- */

bool references_enter(tdr_agent *agent)
{
	pthread_mutex_lock(&agent->references.lock);
	if (agent->references.machine)
		return true;
	pthread_mutex_unlock(&agent->references.lock);
	return false;
}

tdr_status references_lock(tdr_agent *agent)
{
	if (references_enter(agent))
		return TDR_OK;
	if (agent_state(agent) == AGENT_LEFT)
		return error_set(TDR_ESHUTDOWN, "agent '%s' has been shut down", agent->name);
	return error_set(TDR_ESTATE, "agent '%s' has not joined a group yet: call tdr_join first", agent->name);
}

/* Sets a timer, unless it is set to an earlier moment; *set is that moment, 0 if it is not set. */
static void start_timer(tdr_agent *agent, struct timer *timer, int64_t *set, int64_t due_ms)
{
	bool was_set = *set > 0;

	if (was_set && *set <= due_ms)
		return;
	/* Where it cannot be taken back it is about to fire, and will look again. */
	if (was_set && !timer_clear(agent->engine, timer))
		return;
	if (!was_set)
		agent_hold(agent);
	*set = due_ms;
	timer_set(agent->engine, timer, due_ms);
}

static void stop_timer(tdr_agent *agent, struct timer *timer, int64_t *set)
{
	if (*set == 0 || !timer_clear(agent->engine, timer))
		return;
	*set = 0;
	agent_drop(agent);
}

/* Whether nothing of ours is under way, and `alone`, or nobody else holds what is ours. */
static bool is_quiet(const struct rrefs *machine, bool alone)
{
	struct rrefs_counts counts = rrefs_counts(machine);

	return (alone || counts.owned == 0) && counts.pending_users == 0 && counts.children == 0 &&
	       counts.controls == 0;
}

/* One thing that is to be done without the lock. */
struct undone {
	struct reference *settled, *user_released;
	struct owned_value *lost, *owned_released;
};

/* With the lock held; false if there is nothing. */
static bool take_undone(struct references *references, struct undone *ret_undone)
{
	struct list *node;

	*ret_undone = (struct undone){0};
	if ((node = list_shift(&references->settled)))
		ret_undone->settled = list_entry(node, struct reference, node);
	else if ((node = list_shift(&references->lost)))
		ret_undone->lost = list_entry(node, struct owned_value, node);
	else if ((node = list_shift(&references->user_released)))
		ret_undone->user_released = list_entry(node, struct reference, node);
	else if ((node = list_shift(&references->owned_released)))
		ret_undone->owned_released = list_entry(node, struct owned_value, node);
	return node != NULL;
}

static void do_undone(tdr_agent *agent, const struct undone *undone)
{
	if (undone->settled)
		reference_settled(undone->settled);
	if (undone->lost) {
		owned_value_end(
		    agent, undone->lost, TDR_ENOTFOUND,
		    "the reference was never created: the worker that was to create it is gone, or has given "
		    "it up");
		owned_value_drop_memory(undone->lost);
	}
	/* Only at the agent's end does anybody still wait for what is released. */
	if (undone->user_released) {
		if (undone->user_released->settled)
			future_complete(undone->user_released->settled, TDR_ESHUTDOWN, NULL,
			                "the agent has been shut down", NULL);
		reference_drop_memory(undone->user_released);
	}
	if (undone->owned_released) {
		owned_value_end(agent, undone->owned_released, TDR_ESHUTDOWN, "the agent has been shut down");
		owned_value_drop_memory(undone->owned_released);
	}
}

/* Sees that what the machine has to say is said in time; true if it is to be at once. With the lock held. */
static bool plan_letters(tdr_agent *agent)
{
	struct references *references = &agent->references;
	int64_t due_ms = rrefs_due(references->machine);
	bool waiting = !list_empty(&references->posted);

	if (due_ms > 0)
		start_timer(agent, &references->retry, &references->retry_due_ms, due_ms);
	if (waiting && !references->hurried)
		start_timer(agent, &references->flush, &references->flush_due_ms, clock_ms() + FLUSH_MS);
	return waiting && references->hurried;
}

/*
 * Does all that is undone, also what comes of doing it: a value that goes may be the last to hold another reference, and a chain of
 * such is to be followed here, not by each link's coming back in here. With the lock held, which is given up meanwhile.
 */
static void do_all_undone(tdr_agent *agent)
{
	static _Thread_local const tdr_agent *at_it;
	const tdr_agent *before = at_it;
	struct undone undone;

	if (at_it == agent)
		return; /* whoever called us does it */
	at_it = agent;
	while (take_undone(&agent->references, &undone)) {
		pthread_mutex_unlock(&agent->references.lock);
		do_undone(agent, &undone);
		pthread_mutex_lock(&agent->references.lock);
	}
	at_it = before;
}

/* Whether anything is to be done or sent at once; the lock is held. */
static bool is_busy(const struct references *references)
{
	return !list_empty(&references->settled) || !list_empty(&references->lost) ||
	       !list_empty(&references->user_released) || !list_empty(&references->owned_released) ||
	       (references->hurried && !list_empty(&references->posted));
}

void references_unlock(tdr_agent *agent)
{
	struct references *references = &agent->references;
	bool busy = is_busy(references), soon = false;
	struct error_kept kept;

	if (unlikely(busy)) {
		error_keep(&kept);
		do_all_undone(agent);
	}
	if (references->machine)
		soon = plan_letters(agent);
	for (struct list *node; (node = list_shift(&references->idle_waiters));)
		waiter_wake(list_entry(node, struct waiter, node)); /* to look again */
	pthread_mutex_unlock(&references->lock);
	if (soon)
		flush(agent);
	if (unlikely(busy))
		error_restore(&kept);
}

/* ---- life ---- */

void references_init(struct references *references)
{
	pthread_mutex_init(&references->lock, NULL);
	list_init(&references->posted);
	list_init(&references->settled);
	list_init(&references->user_released);
	list_init(&references->owned_released);
	list_init(&references->lost);
	list_init(&references->idle_waiters);
	timer_init(&references->flush, on_flush);
	timer_init(&references->retry, on_retry);
}

void references_fini(struct references *references)
{
	assert(!references->machine);
	pthread_mutex_destroy(&references->lock);
}

static tdr_status answer_with_target(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_value_ref(tdr_arg(call, 0)));
}

tdr_status references_register(tdr_agent *agent)
{
	return registry_add(agent->registry, FETCH_FUNCTION "(Any value) -> Any", answer_with_target, NULL, NULL,
	                    TDR_FUNCTION_INLINE | TDR_FUNCTION_IDEMPOTENT);
}

tdr_status references_open(tdr_agent *agent)
{
	struct references *references = &agent->references;
	struct rrefs *machine = rrefs_new(agent->self.id, agent->self.incarnation, &machine_events, agent);

	if (!machine)
		return error_nomem();
	pthread_mutex_lock(&references->lock);
	references->machine = machine;
	pthread_mutex_unlock(&references->lock);
	return TDR_OK;
}

void references_end(tdr_agent *agent)
{
	struct references *references = &agent->references;

	pthread_mutex_lock(&references->lock);
	if (!references->machine) {
		pthread_mutex_unlock(&references->lock);
		return;
	}
	stop_timer(agent, &references->flush, &references->flush_due_ms);
	stop_timer(agent, &references->retry, &references->retry_due_ms);
	list_init(&references->posted);
	references->machine = rrefs_free(references->machine);
	references_unlock(agent);
}

struct rref_peer *references_peer(struct peer *peer)
{
	struct rrefs *machine = peer->agent->references.machine;
	const struct identity *who = link_peer(peer->link);

	if (peer->rrefs.machine)
		return &peer->rrefs;
	rrefs_peer_init(machine, &peer->rrefs, who->id, who->incarnation);
	if (link_state(peer->link) >= LINK_GONE)
		rrefs_peer_gone(&peer->rrefs);
	return &peer->rrefs;
}

/* ---- events of peers ---- */

void references_peer_gone(struct peer *peer)
{
	pthread_mutex_lock(&peer->agent->references.lock);
	if (peer->rrefs.machine && peer->agent->references.machine) {
		rrefs_peer_gone(&peer->rrefs);
		list_remove(&peer->posted);
	}
	references_unlock(peer->agent);
}

void references_peer_broke(struct peer *peer)
{
	pthread_mutex_lock(&peer->agent->references.lock);
	if (peer->rrefs.machine && peer->agent->references.machine) {
		rrefs_peer_connected(&peer->rrefs, link_epoch(peer->link));
		rrefs_peer_broke(&peer->rrefs);
	}
	references_unlock(peer->agent);
}

void references_unreadable(struct peer *peer)
{
	if (references_lock(peer->agent) != TDR_OK)
		return;
	rrefs_recheck(references_peer(peer));
	references_unlock(peer->agent);
}

void references_message(struct peer *peer, const struct message *message)
{
	tdr_agent *agent = peer->agent;
	struct decoder decoder;
	size_t count = 0;
	tdr_status status;

	if (references_lock(agent) != TDR_OK)
		return;
	decoder_init(&decoder, &agent->codec_limits, message->body, message->body_size, message->storages,
	             message->nstorages);
	status = decode_array(&decoder, &count);
	for (size_t i = 0; i < count && status == TDR_OK; i++) {
		struct letter letter;

		status = letter_decode(&decoder, &letter);
		if (status == TDR_OK)
			status = rrefs_receive_letter(references_peer(peer), &letter);
	}
	if (status == TDR_OK)
		status = decode_end(&decoder);
	references_unlock(agent);
	if (status != TDR_OK)
		LOG(TDR_LOG_WARN, "event=rref_letters_refused worker=%s peer=%s error=\"%s\"", agent->name,
		    link_peer(peer->link)->name, tdr_last_error());
}

/* ---- letting go ---- */

/* Waits until it is quiet; false if the deadline came first. */
static bool await_quiet(tdr_agent *agent, bool alone, int64_t deadline_ms)
{
	struct references *references = &agent->references;

	for (;;) {
		struct waiter waiter;
		bool quiet, woken;

		waiter_init(&waiter);
		pthread_mutex_lock(&references->lock);
		quiet = !references->machine || is_quiet(references->machine, alone);
		if (!quiet)
			list_append(&references->idle_waiters, &waiter.node);
		pthread_mutex_unlock(&references->lock);
		if (quiet)
			return true;
		woken = engine_wait(agent->engine, &waiter, NULL, deadline_ms);
		pthread_mutex_lock(&references->lock);
		list_remove(&waiter.node);
		pthread_mutex_unlock(&references->lock);
		if (!woken)
			return false;
	}
}

/* `stay`: what comes from now on is kept, since the worker goes on. */
static tdr_status let_go(tdr_agent *agent, bool alone, bool stay, int64_t deadline_ms)
{
	tdr_status status = references_lock(agent);

	if (status != TDR_OK)
		return status;
	rrefs_close(agent->references.machine);
	if (stay && agent_state(agent) == AGENT_MEMBER)
		rrefs_reopen(agent->references.machine);
	references_unlock(agent);
	flush(agent);
	if (await_quiet(agent, alone, deadline_ms ? deadline_ms : deadline_after(LET_GO_MS)))
		return TDR_OK;
	return references_report_leaks(agent);
}

tdr_status references_let_go(tdr_agent *agent, bool alone, int64_t deadline_ms)
{
	return let_go(agent, alone, false, deadline_ms);
}

tdr_status tdr_rref_delete_all(tdr_agent *agent, int64_t timeout_ms)
{
	if (forked(agent->fork_generation))
		return error_set(TDR_EFORKED, "agent '%s' belongs to the parent process", agent->name);
	if (engine_is_inline())
		return error_set(TDR_ESTATE, "tdr_rref_delete_all was called from inside a callback or an inline "
		                             "function: it would stop the engine");
	return let_go(agent, false, true, timeout_ms > 0 ? deadline_after(timeout_ms) : 0);
}
