/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups that change.
 *
 * Design notes. What the members are is written in one place, the table in the store (table.h), and changes there by compare and
 * set; everything else follows it. Who has changed the table tells all members by a call of tendril::update_view with its bytes; who
 * misses that learns it when he next looks: since somebody he does not know says hello, or since somebody he knows is gone. A look reads
 * the table, takes over what is newer, evicts the members whose links say that they are gone, and finds out whether oneself was
 * evicted. Looks are made one at a time, by a task, because a store may block.
 *
 * A member that was evicted is fenced: its calls fail and its links are closed, since the others do not count on it any more. It never
 * writes the table again.
 */
#include "agent/membership.h"

#include "agent/devices.h"
#include "agent/table.h"
#include "agent/token.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
	LOOK_PAUSE_MS = 50,         /* between two looks, at the least */
	LAST_LOOK_PAUSE_MS = 10000, /* between looks that fail */
	TELL_SLICE_MS = 500,        /* of a wait, after which the token is renewed */
	TELL_MS = 10000,            /* for one who is told by the way, not waited for */
	LAST_WORD_MS = 1000,        /* to tell the others that we leave, past the deadline */
};

/* ---- being fenced ---- */

static void fence(tdr_agent *agent, uint64_t epoch)
{
	struct membership *membership = &agent->membership;
	const struct view *view = agent_view(agent);
	char *text = membership->fenced_text;
	bool mine;

	pthread_mutex_lock(&membership->lock);
	mine = text[0] == '\0';
	if (mine && epoch > 0)
		snprintf(text, sizeof(membership->fenced_text),
		         "worker '%s' was evicted from the group (epoch %" PRIu64
		         ") while it could not be reached: shut down and join again",
		         agent->name, epoch);
	else if (mine)
		snprintf(text, sizeof(membership->fenced_text),
		         "worker '%s' was evicted from the group while it could not be reached: shut down and join "
		         "again",
		         agent->name);
	pthread_mutex_unlock(&membership->lock);
	if (!mine)
		return;
	if (agent_set_state(agent, AGENT_MEMBER, AGENT_FENCED) != TDR_OK &&
	    agent_set_state(agent, AGENT_LEAVING, AGENT_FENCED) != TDR_OK)
		return;
	LOG(TDR_LOG_ERROR, "event=fenced worker=%s text=\"%s\"", agent->name, text);
	for (uint32_t i = 0; i < view_count(view); i++) {
		struct peer *peer = view->members[i];

		if (link_peer(peer->link)->incarnation != agent->self.incarnation)
			link_retire(peer->link, TDR_EFENCED, text);
		outgoing_fail_all(peer, TDR_EFENCED, text, true, 0);
	}
}

/* ---- taking over a view ---- */

/* Closes the links of those who were evicted. Who left by himself closes his own, once he has had our answers. */
static void retire_evicted(const struct view *view, const struct roster *roster)
{
	for (uint32_t i = 0; i < view_count(view->before); i++) {
		struct peer *peer = view->before->members[i];
		const struct identity *who = link_peer(peer->link);
		const struct departure *departure = roster_departure(roster, who->incarnation);
		char text[256];

		if (view_by_id(view, who->id) == peer || (departure && !departure->evicted))
			continue;
		snprintf(text, sizeof(text), "worker '%s' is gone: it was evicted from the group (epoch %" PRIu64 ")",
		         who->name, departure ? departure->epoch : roster->epoch);
		link_retire(peer->link, TDR_EWORKERGONE, text);
	}
}

/* Makes a roster that has us the current view, if it is newer. */
static tdr_status take_over(tdr_agent *agent, const struct roster *roster)
{
	const struct view *view;
	tdr_status status = view_install(agent, roster, &view);

	if (status != TDR_OK || !view)
		return status;
	LOG(TDR_LOG_INFO, "event=view worker=%s epoch=%" PRIu64 " members=%u", agent->name, view->epoch, view->count);
	retire_evicted(view, roster);
	collective_view_changed(agent);
	return TDR_OK;
}

static tdr_status update_view(tdr_call *call, void *context)
{
	tdr_agent *agent = context;
	struct roster roster;
	const void *bytes;
	size_t size;
	tdr_status status = tdr_value_get_bytes(tdr_arg(call, 0), &bytes, &size);

	if (status == TDR_OK)
		status = roster_read(bytes, size, &roster);
	if (status != TDR_OK)
		return status;
	if (roster.lineage != atomic_load(&agent->membership.lineage))
		status = error_set(TDR_EMISMATCH, "that is the table of another group");
	else if (roster_find(&roster, agent->self.incarnation) == UINT32_MAX)
		membership_look(agent); /* this is to be read in the store itself */
	else
		status = take_over(agent, &roster);
	roster_fini(&roster);
	return status == TDR_OK ? tdr_return_none(call) : status;
}

/* ---- telling the others ---- */

static tdr_future *tell_one(tdr_agent *agent, const struct peer *peer, const struct buffer *bytes, int64_t timeout_ms)
{
	tdr_rpc_options options;

	tdr_rpc_options_init(&options);
	options.timeout_ms = timeout_ms;
	return tdr_rpc_async_with(agent, link_peer(peer->link)->name, UPDATE_VIEW,
	                          TDR_ARGS(tdr_bytes(bytes->data, bytes->size)), NULL, &options);
}

/* Waits for one answer, and asks again where it may have been lost on the way. Who is gone need not answer. */
static tdr_status await_one(tdr_agent *agent, const struct peer *peer, const struct buffer *bytes, tdr_future **future,
                            int64_t deadline_ms)
{
	for (;;) {
		tdr_status status;

		if (!*future)
			return error_nomem();
		status = tdr_future_wait(*future, TELL_SLICE_MS, NULL);
		token_renew(agent);
		if (!tdr_future_done(*future))
			continue;
		if (status != TDR_EUNKNOWN_OUTCOME)
			return status == TDR_EWORKERGONE || status == TDR_EUNREACHABLE || status == TDR_ENOWORKER
			           ? TDR_OK
			           : status;
		tdr_future_unref(*future);
		*future = tell_one(agent, peer, bytes,
		                   deadline_ms ? MAX_OF(deadline_ms - clock_ms(), (int64_t)1) : TDR_TIMEOUT_NEVER);
	}
}

/*
 * Tells all members of a roster but ourselves. With `wait`, until all who live have answered or the deadline comes; the first error is
 * returned, with the worker's name.
 */
static tdr_status tell_all(tdr_agent *agent, const struct roster *roster, bool wait, int64_t deadline_ms)
{
	int64_t timeout_ms = !wait         ? TELL_MS
	                     : deadline_ms ? MAX_OF(deadline_ms - clock_ms(), (int64_t)1)
	                                   : TDR_TIMEOUT_NEVER;
	struct peer **peers = calloc(roster->count + 1, sizeof(struct peer *));
	tdr_future **futures = calloc(roster->count + 1, sizeof(tdr_future *));
	struct encoder encoder;
	tdr_status status = TDR_OK;

	encoder_init(&encoder, &codec_default_limits);
	if (peers && futures)
		status = roster_write(roster, &encoder);
	else
		status = error_nomem();
	for (uint32_t i = 0; status == TDR_OK && i < roster->count; i++) {
		const struct identity *who = &roster->members[i].who;

		if (who->incarnation == agent->self.incarnation)
			continue;
		peers[i] = agent_peer_by_incarnation(agent, who->id, who->incarnation);
		if (peers[i])
			futures[i] = tell_one(agent, peers[i], &encoder.body, timeout_ms);
	}
	for (uint32_t i = 0; i < roster->count && wait; i++) {
		tdr_status one =
		    peers && peers[i] ? await_one(agent, peers[i], &encoder.body, &futures[i], deadline_ms) : TDR_OK;

		if (one != TDR_OK && status == TDR_OK)
			status = error_prefix(one, "worker '%s' does not take note of the group's change",
			                      link_peer(peers[i]->link)->name);
	}
	for (uint32_t i = 0; futures && i < roster->count; i++)
		tdr_future_unref(futures[i]);
	encoder_fini(&encoder);
	free(futures);
	free(peers);
	return status;
}

/* ---- looks ---- */

/* Removes those members whose links say that they are gone; returns how many. */
static uint32_t remove_gone(tdr_agent *agent, struct roster *roster)
{
	uint32_t removed = 0;

	for (uint32_t i = 0; i < roster->count;) {
		const struct identity *who = &roster->members[i].who;
		struct peer *peer = agent_peer_by_incarnation(agent, who->id, who->incarnation);
		tdr_status status = peer ? link_check(peer->link) : TDR_OK;

		if (status != TDR_EWORKERGONE && status != TDR_EUNREACHABLE) {
			i++;
			continue;
		}
		LOG(TDR_LOG_INFO, "event=evicting worker=%s member=%s reason=\"%s\"", agent->name, who->name,
		    tdr_last_error());
		roster->epoch += removed == 0;
		roster_remove(roster, i, true);
		removed++;
	}
	return removed;
}

/* One attempt of a look; `*ret_done` false: somebody else changed the table at the same time. */
static tdr_status look_once(tdr_agent *agent, bool *ret_done)
{
	struct table table;
	tdr_status status = table_read(agent, &table);

	*ret_done = true;
	if (status != TDR_OK)
		return status;
	if (roster_find(&table.roster, agent->self.incarnation) == UINT32_MAX) {
		const struct departure *departure = roster_departure(&table.roster, agent->self.incarnation);

		if (!departure || departure->evicted)
			fence(agent, departure ? departure->epoch : 0);
		table_fini(&table);
		return TDR_OK;
	}
	status = take_over(agent, &table.roster);
	if (status == TDR_OK && remove_gone(agent, &table.roster) > 0) {
		status = table_write(agent, &table, ret_done);
		if (status == TDR_OK && *ret_done)
			status = take_over(agent, &table.roster);
		if (status == TDR_OK && *ret_done)
			status = tell_all(agent, &table.roster, false, 0);
	}
	table_fini(&table);
	return status;
}

static tdr_status look(tdr_agent *agent)
{
	tdr_status status;
	bool done;

	do {
		status = look_once(agent, &done);
	} while (status == TDR_OK && !done);
	return status;
}

static bool can_look(tdr_agent *agent)
{
	enum agent_state state = agent_state(agent);

	return state == AGENT_MEMBER || state == AGENT_LEAVING;
}

static void start_look(struct membership *membership, int64_t pause_ms);

static void run_look(struct task *task)
{
	struct membership *membership = container_of(task, struct membership, look_task);
	tdr_agent *agent = container_of(membership, tdr_agent, membership);
	tdr_status status = TDR_OK;
	uint64_t begun;
	bool may, disowned;

	pthread_mutex_lock(&membership->lock);
	may = !membership->closed && can_look(agent);
	membership->look_inside = true;
	membership->wanted = false;
	begun = ++membership->looks_begun;
	disowned = membership->disowned;
	pthread_mutex_unlock(&membership->lock);
	if (may)
		status = look(agent);
	if (status != TDR_OK && disowned) /* a member's word will do; the table would have said when */
		fence(agent, 0);
	if (status != TDR_OK)
		LOG(membership->looks_failed > 0 ? TDR_LOG_DEBUG : TDR_LOG_WARN,
		    "event=table_not_read worker=%s error=\"%s\"", agent->name, tdr_last_error());
	pthread_mutex_lock(&membership->lock);
	membership->looked_ms = clock_ms();
	membership->look_inside = membership->looking = false;
	membership->looks_failed = status == TDR_OK ? 0 : MIN_OF(membership->looks_failed + 1, 8u);
	if (status == TDR_OK)
		membership->looks_done = begun;
	if (may && status != TDR_OK)
		start_look(membership,
		           MIN_OF((int64_t)LOOK_PAUSE_MS << membership->looks_failed, (int64_t)LAST_LOOK_PAUSE_MS));
	else if (may && membership->wanted)
		start_look(membership, LOOK_PAUSE_MS);
	for (struct list *closer; (closer = list_shift(&membership->closers));)
		waiter_wake(list_entry(closer, struct waiter, node));
	pthread_mutex_unlock(&membership->lock);
	agent_drop(agent);
}

/* Lets a look be made, at once or after a pause; with the lock held. */
static void start_look(struct membership *membership, int64_t pause_ms)
{
	tdr_agent *agent = container_of(membership, tdr_agent, membership);

	if (membership->closed || membership->looking)
		return;
	membership->looking = true;
	agent_hold(agent);
	if (pause_ms > 0) {
		membership->look_timed = true;
		timer_set(agent->engine, &membership->look_timer, clock_ms() + pause_ms);
	} else {
		engine_submit(agent->engine, &membership->look_task);
	}
}

static void look_timer_fired(struct timer *timer)
{
	struct membership *membership = container_of(timer, struct membership, look_timer);
	tdr_agent *agent = container_of(membership, tdr_agent, membership);
	bool closed;

	pthread_mutex_lock(&membership->lock);
	membership->look_timed = false;
	closed = membership->closed;
	if (!closed)
		engine_submit(agent->engine, &membership->look_task);
	pthread_mutex_unlock(&membership->lock);
	if (closed)
		agent_drop(agent);
}

/* With the lock held. */
static void want_look(struct membership *membership)
{
	int64_t pause_ms = membership->looked_ms + LOOK_PAUSE_MS - clock_ms();

	membership->wanted = true;
	start_look(membership, membership->looked_ms ? MAX_OF(pause_ms, (int64_t)0) : 0);
}

void membership_look(tdr_agent *agent)
{
	pthread_mutex_lock(&agent->membership.lock);
	want_look(&agent->membership);
	pthread_mutex_unlock(&agent->membership.lock);
}

/* ---- what links tell ---- */

void membership_gone(struct peer *peer, tdr_status status, const char *text)
{
	tdr_agent *agent = peer->agent;
	const struct identity *who = link_peer(peer->link);

	if (!agent->membership.dynamic) {
		if (agent_state(agent) != AGENT_MEMBER)
			return; /* all leave together */
		pthread_mutex_lock(&agent->view_lock);
		member_note_gone(peer, text);
		pthread_mutex_unlock(&agent->view_lock);
		return;
	}
	if (!can_look(agent))
		return;
	if (status != TDR_EFENCED && view_by_id(agent_view(agent), who->id) != peer)
		return;
	pthread_mutex_lock(&agent->membership.lock);
	agent->membership.disowned = agent->membership.disowned || status == TDR_EFENCED;
	want_look(&agent->membership);
	pthread_mutex_unlock(&agent->membership.lock);
}

/* Whether looks at the table have shown that this one is no member; with the lock held. */
static bool is_known_stranger(struct membership *membership, uint64_t incarnation)
{
	for (size_t i = 0; i < MAX_STRANGERS; i++) {
		struct stranger *stranger = &membership->strangers[i];

		if (stranger->incarnation != incarnation)
			continue;
		if (membership->looks_done < stranger->look)
			return false;
		stranger->incarnation = 0;
		return true;
	}
	membership->strangers[membership->next_stranger++ % MAX_STRANGERS] =
	    (struct stranger){.incarnation = incarnation, .look = membership->looks_begun + 1};
	return false;
}

enum refusal membership_stranger(tdr_agent *agent, const struct identity *who)
{
	struct membership *membership = &agent->membership;
	struct peer *peer;
	bool known;

	if (!membership->dynamic)
		return REFUSED_STRANGER;
	if (!can_look(agent))
		return REFUSED_EARLY;
	pthread_mutex_lock(&membership->lock);
	known = is_known_stranger(membership, who->incarnation);
	pthread_mutex_unlock(&membership->lock);
	/* Only now, so that what the look has brought is seen. */
	peer = agent_peer_by_incarnation(agent, who->id, who->incarnation);
	if (peer && view_by_id(agent_view(agent), who->id) != peer)
		return atomic_load(&peer->left) ? REFUSED_STRANGER : REFUSED_FENCED;
	known = known && !peer;
	if (!known)
		membership_look(agent);
	return known ? REFUSED_UNKNOWN : REFUSED_EARLY;
}

/* ---- joining ---- */

static bool takes_our_place(const struct identity *who, const tdr_agent *agent, bool any_id)
{
	return strcmp(who->name, agent->name) == 0 || (!any_id && who->id == agent->self.id);
}

static tdr_status not_unique(const struct identity *who, const tdr_agent *agent)
{
	if (strcmp(who->name, agent->name) == 0)
		return error_set(TDR_EEXISTS,
		                 "RPC worker name %s is not unique. Workers %u and %u share the same name.", who->name,
		                 who->id, agent->self.id);
	return error_set(TDR_EEXISTS,
	                 "RPC worker id %u is not unique. Worker %s and already has ID and %s cannot be added.",
	                 who->id, who->name, agent->name);
}

static uint32_t lowest_free_id(const struct roster *roster)
{
	uint32_t id = 0;

	while (id < roster->count && roster->members[id].who.id == id)
		id++;
	return id;
}

/* Adds us to the roster. Who has our name or id, and has died, makes room. */
static tdr_status add_self(tdr_agent *agent, struct roster *roster, bool any_id, int64_t deadline_ms)
{
	struct entry entry = {.description = agent->description};

	while (roster->lineage == 0)
		if (getrandom(&roster->lineage, sizeof(roster->lineage), 0) < 0)
			roster->lineage = agent->self.incarnation;
	roster->epoch++;
	for (uint32_t i = 0; i < roster->count;) {
		const struct identity *who = &roster->members[i].who;

		if (!takes_our_place(who, agent, any_id)) {
			i++;
			continue;
		}
		if (!worker_is_gone(agent, who, deadline_ms)) {
			if (any_id)
				agent->self.id = lowest_free_id(roster);
			return not_unique(who, agent);
		}
		roster_remove(roster, i, true);
	}
	if (any_id)
		agent->self.id = lowest_free_id(roster);
	entry.who = agent->self;
	return roster_add(roster, &entry);
}

/* One attempt to write ourselves into the table; `*ret_done` false: somebody else changed it at the same time. */
static tdr_status enter_once(tdr_agent *agent, bool any_id, int64_t deadline_ms, bool *ret_done)
{
	struct table table;
	tdr_status status = table_read(agent, &table);

	if (status != TDR_OK)
		return status;
	status = add_self(agent, &table.roster, any_id, deadline_ms);
	if (status == TDR_OK)
		status = devices_check_members(table.roster.members, table.roster.count, false);
	if (status == TDR_OK)
		status = table_write(agent, &table, ret_done);
	if (status == TDR_OK && *ret_done) {
		const struct view *view;

		atomic_store(&agent->membership.lineage, table.roster.lineage);
		links_set_id(agent->links, agent->self.id);
		status = view_install(agent, &table.roster, &view);
	}
	table_fini(&table);
	return status;
}

tdr_status membership_enter(tdr_agent *agent, int64_t deadline_ms)
{
	bool any_id = agent->rendezvous.rank < 0, done = false;
	tdr_status status = registry_add(agent->registry, UPDATE_VIEW "(bytes view) -> Any", update_view, agent, NULL,
	                                 TDR_FUNCTION_INLINE);

	if (status == TDR_OK)
		status = token_take(agent, "join", deadline_ms);
	while (status == TDR_OK && !done)
		status = enter_once(agent, any_id, deadline_ms, &done);
	if (status != TDR_OK && !done) {
		error_prefix(status, "worker '%s' cannot join the group", agent->name);
		token_release(agent);
	}
	return status;
}

/* The table as of our view: what is to be told. */
static tdr_status tell_of_ourselves(tdr_agent *agent, int64_t deadline_ms)
{
	struct table table;
	tdr_status status = table_read(agent, &table);

	if (status != TDR_OK)
		return status;
	if (roster_find(&table.roster, agent->self.incarnation) == UINT32_MAX)
		fence(agent, 0);
	else
		status = take_over(agent, &table.roster);
	if (status == TDR_OK && agent_state(agent) == AGENT_MEMBER)
		status = tell_all(agent, &table.roster, true, deadline_ms);
	table_fini(&table);
	return status;
}

tdr_status membership_announce(tdr_agent *agent, int64_t deadline_ms)
{
	tdr_status status = tell_of_ourselves(agent, deadline_ms);

	if (status == TDR_OK)
		status = look(agent); /* evicts those who turned out to be gone */
	if (status == TDR_OK && agent_state(agent) == AGENT_FENCED)
		status = error_set(TDR_EFENCED, "%s", agent->membership.fenced_text);
	if (status == TDR_OK)
		token_release(agent);
	return status;
}

/* ---- leaving ---- */

static tdr_status leave_once(tdr_agent *agent, int64_t deadline_ms, bool *ret_done)
{
	struct table table;
	uint32_t place;
	tdr_status status = table_read(agent, &table);

	if (status != TDR_OK)
		return status;
	place = roster_find(&table.roster, agent->self.incarnation);
	if (place != UINT32_MAX) {
		status = take_over(agent, &table.roster); /* so that we can tell those who are new */
		table.roster.epoch++;
		roster_remove(&table.roster, place, false);
		if (status == TDR_OK)
			status = table_write(agent, &table, ret_done);
		if (status == TDR_OK && *ret_done)
			status = tell_all(agent, &table.roster, true, deadline_ms);
	} else {
		*ret_done = true;
	}
	table_fini(&table);
	return status;
}

/* Takes ourselves out of the table, with or without the token. */
static void leave_table(tdr_agent *agent, int64_t deadline_ms)
{
	tdr_status status;
	bool done = false;

	do {
		status = leave_once(agent, deadline_ms, &done);
	} while (status == TDR_OK && !done);
	if (status != TDR_OK)
		LOG(TDR_LOG_WARN, "event=left_untold worker=%s error=\"%s\"", agent->name, tdr_last_error());
	token_release(agent);
}

void membership_withdraw(tdr_agent *agent)
{
	if (atomic_load(&agent->membership.lineage) != 0)
		leave_table(agent, deadline_after(LAST_WORD_MS));
}

void membership_leave(tdr_agent *agent, int64_t deadline_ms)
{
	if (token_take(agent, "leave", deadline_ms) != TDR_OK)
		LOG(TDR_LOG_WARN, "event=left_without_token worker=%s error=\"%s\"", agent->name, tdr_last_error());
	leave_table(agent, deadline_ms ? MAX_OF(deadline_ms, deadline_after(LAST_WORD_MS)) : 0);
	collective_root_leaves(agent);
}

/* ---- life ---- */

void membership_init(tdr_agent *agent)
{
	struct membership *membership = &agent->membership;

	pthread_mutex_init(&membership->lock, NULL);
	list_init(&membership->events);
	list_init(&membership->closers);
	membership->look_task = (struct task){.run = run_look};
	list_init(&membership->look_task.node);
	timer_init(&membership->look_timer, look_timer_fired);
}

void membership_close(tdr_agent *agent)
{
	struct membership *membership = &agent->membership;
	bool timed;

	pthread_mutex_lock(&membership->lock);
	membership->closed = true;
	timed = membership->look_timed && timer_clear(agent->engine, &membership->look_timer);
	/* What is only queued ends by itself when its turn comes. */
	while (membership->look_inside || membership->told_inside) {
		struct waiter waiter;

		waiter_init(&waiter);
		list_append(&membership->closers, &waiter.node);
		pthread_mutex_unlock(&membership->lock);
		engine_wait(agent->engine, &waiter, NULL, 0);
		pthread_mutex_lock(&membership->lock);
	}
	pthread_mutex_unlock(&membership->lock);
	if (timed)
		agent_drop(agent);
}

void membership_fini(tdr_agent *agent)
{
	buffer_fini(&agent->membership.token.bytes);
	pthread_mutex_destroy(&agent->membership.lock);
}
