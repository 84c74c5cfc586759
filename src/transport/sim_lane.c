/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes of a made-up network.
 *
 * Design notes. The two ends of a lane know each other for as long as neither is over. What is sent goes into the other end's
 * lists as a letter that is due later; each end has a pump, which runs on its own engine, takes in what is due, and calls
 * the events. The pump is woken by a timer or a task and by nobody twice, so that events come one at a time; whoever changes
 * an end wakes its pump. All is guarded by the network's one lock, which is given up for events and for freeing: a storage's
 * deleter is the user's.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "transport/parcel.h"
#include "transport/sim_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	TURN_MESSAGES = 64,  /* a fair share of one turn */
	SMALL_BYTES = 65536, /* messages up to here stay in order; larger ones may be overtaken */
	CLOSE_MS = 1000,     /* for a flush */
};

/* A message on its way. */
struct sim_letter {
	struct list node;
	struct parcel *parcel;
	int64_t due_ms;
	uint64_t sequence;     /* counts from 1, on the lane */
	uint64_t acknowledged; /* when it was sent */
	size_t cost;
};

static struct sim_letter *letter_of(struct list *node)
{
	return list_entry(node, struct sim_letter, node);
}

static struct sim_lane *sim_of(struct lane *lane)
{
	return container_of(lane, struct sim_lane, lane);
}

static void letter_free(struct sim_letter *letter)
{
	if (!letter)
		return;
	parcel_free(letter->parcel);
	free(letter);
}

static void letters_free(struct list *letters)
{
	for (struct list *node; (node = list_shift(letters));)
		letter_free(letter_of(node));
}

/* ---- letters in flight; with the lock held ---- */

/* The next letter to arrive; NULL if there is none. Small ones come first where both are due at once. */
static struct sim_letter *next_letter(const struct sim_lane *sim)
{
	struct sim_letter *small = list_empty(&sim->small) ? NULL : letter_of(sim->small.next);
	struct sim_letter *large = list_empty(&sim->large) ? NULL : letter_of(sim->large.next);

	if (!small || !large)
		return small ? small : large;
	return large->due_ms < small->due_ms ? large : small;
}

/* Up to which sequence all has arrived. */
static uint64_t arrived_whole(const struct sim_lane *sim)
{
	uint64_t whole = sim->taken;

	if (!list_empty(&sim->small))
		whole = MIN_OF(whole, letter_of(sim->small.next)->sequence - 1);
	if (!list_empty(&sim->large))
		whole = MIN_OF(whole, letter_of(sim->large.next)->sequence - 1);
	return whole;
}

/* Posts a letter to this end. Neither kind overtakes its own, and large ones do not overtake small ones. */
static void add_letter(struct sim_lane *sim, struct sim_letter *letter, int64_t delay_ms)
{
	uint32_t speed = sim->network->faults.bytes_per_ms;
	int64_t due_ms = MAX_OF(clock_ms() + delay_ms, sim->small_due_ms);

	if (letter->cost > SMALL_BYTES) {
		due_ms = MAX_OF(due_ms, sim->large_due_ms) + (speed > 0 ? (int64_t)(letter->cost / speed) + 1 : 0);
		sim->large_due_ms = due_ms;
	} else {
		sim->small_due_ms = due_ms;
	}
	letter->due_ms = due_ms;
	list_append(letter->cost > SMALL_BYTES ? &sim->large : &sim->small, &letter->node);
	sim->taken = letter->sequence;
	sim->in_bytes += letter->cost;
}

static void discard_letters(struct sim_lane *sim)
{
	list_splice(&sim->trash, &sim->small);
	list_splice(&sim->trash, &sim->large);
	sim->in_bytes = 0;
}

/* What has not left the sender, who is over: a kernel would have taken small ones by now. */
static void discard_unsent(struct sim_lane *sim)
{
	list_for_each(node, &sim->large)
		sim->in_bytes -= letter_of(node)->cost;
	list_splice(&sim->trash, &sim->large);
}

/* ---- when something is to be done; with the lock held ---- */

/* When something arrives, or the end of the lane does. */
static int64_t arrival_due(const struct sim_lane *sim)
{
	const struct sim_letter *letter = next_letter(sim);
	int64_t due_ms = SIM_NEVER, clear_ms = sim_path_clear_ms(sim->inward);

	switch (sim->state) {
	case SIM_ARRIVING:
		if (sim->in_ended && !letter)
			return 0; /* whoever came has gone */
		due_ms = sim->arrives_ms;
		break;
	case SIM_CONNECTING:
		if (sim->answer != SIM_NO_ANSWER)
			due_ms = sim->arrives_ms;
		if (sim->answer == SIM_REFUSED) /* its question had to arrive, too */
			clear_ms = MAX_OF(clear_ms, sim_path_clear_ms(sim->outward));
		break;
	case SIM_OPEN:
		due_ms = letter ? letter->due_ms : sim->in_ended ? 0 : SIM_NEVER;
		break;
	case SIM_FLUSHING:
		due_ms = sim->in_ended ? 0 : SIM_NEVER;
		break;
	case SIM_CLOSED:
	case SIM_TOLD:
		break;
	}
	return MAX_OF(due_ms, clear_ms);
}

/* When the lane is given up. */
static int64_t patience_due(const struct sim_lane *sim)
{
	int64_t due_ms = sim->close_due_ms ? sim->close_due_ms : SIM_NEVER;

	if (sim->state == SIM_CONNECTING && sim->connect_due_ms)
		due_ms = MIN_OF(due_ms, sim->connect_due_ms);
	return due_ms;
}

static int64_t next_due(const struct sim_lane *sim)
{
	if (sim->state == SIM_CLOSED)
		return 0;
	return sim->state == SIM_TOLD ? SIM_NEVER : MIN_OF(arrival_due(sim), patience_due(sim));
}

/* ---- the end; with the lock held ---- */

void sim_lane_end(struct sim_lane *sim, tdr_status status, bool refused, const char *text)
{
	struct sim_lane *other = TAKE_PTR(sim->other);
	enum sim_state before = sim->state;

	if (before >= SIM_CLOSED)
		return;
	/* Who has asked for the end does not care how it comes. */
	sim->status = sim->close_due_ms ? TDR_OK : status;
	sim->refused = refused && sim->status != TDR_OK;
	snprintf(sim->text, sizeof(sim->text), "%s", sim->status == TDR_OK ? "the lane was closed here" : text);
	sim->state = SIM_CLOSED;
	list_remove(&sim->node);
	discard_letters(sim);
	if (other) {
		other->other = NULL;
		other->in_ended = true;
		discard_unsent(other);
		if (before == SIM_ARRIVING && other->state == SIM_CONNECTING)
			other->answer = SIM_REFUSED;
		sim_lane_wake(other, 0);
	}
	sim_lane_wake(sim, 0);
}

static void break_end(struct sim_lane *sim, const char *what)
{
	char text[sizeof(sim->text)];

	snprintf(text, sizeof(text), "%s: %s", sim->lane.peer, what);
	sim_lane_end(sim, sim->state == SIM_CONNECTING ? TDR_EUNREACHABLE : TDR_EIO, false, text);
}

void sim_lane_break(struct sim_lane *sim, const char *text)
{
	struct sim_lane *other = sim->other;

	break_end(sim, text);
	if (other)
		break_end(other, text); /* which loses what is in flight to it, as the first one did */
}

/* An end whose patience is over. */
static void give_up(struct sim_lane *sim)
{
	char text[sizeof(sim->text)];

	snprintf(text, sizeof(text), "cannot connect to %s: no answer within %" PRId64 " ms", sim->lane.peer,
	         sim->connect_timeout_ms);
	sim_lane_end(sim, TDR_EUNREACHABLE, false, text);
}

static void end_by_peer(struct sim_lane *sim)
{
	char text[sizeof(sim->text)];

	snprintf(text, sizeof(text), "%s closed the connection", sim->lane.peer);
	sim_lane_end(sim, TDR_EIO, false, text);
}

/* ---- steps of the pump; called with the lock held, which they give up ---- */

static void tell_closed_and_unlock(struct sim_lane *sim)
{
	struct lane *lane = &sim->lane;
	struct list trash;

	assert(list_empty(&sim->small) && list_empty(&sim->large));
	list_init(&trash);
	list_splice(&trash, &sim->trash);
	sim->state = SIM_TOLD;
	pthread_mutex_unlock(&sim->network->lock);
	letters_free(&trash);
	LOG(TDR_LOG_DEBUG, "event=lane_closed peer=%s status=%s text=\"%s\"", lane->peer, tdr_status_name(sim->status),
	    sim->text);
	if (sim->seen)
		lane->config.events->closed(lane, lane->config.context, sim->status, sim->refused, sim->text);
	lane_unref(lane); /* the transport's; the pump has one, too */
}

/* The answer to who has connected. */
static void take_answer_and_unlock(struct sim_lane *sim)
{
	struct lane *lane = &sim->lane;
	char text[sizeof(sim->text)];

	if (sim->answer == SIM_REFUSED) {
		snprintf(text, sizeof(text), "cannot connect to %s: Connection refused", lane->peer);
		sim_lane_end(sim, TDR_EUNREACHABLE, true, text);
		pthread_mutex_unlock(&sim->network->lock);
		return;
	}
	sim->state = SIM_OPEN;
	pthread_mutex_unlock(&sim->network->lock);
	atomic_store_explicit(&lane->received_ms, clock_ms(), memory_order_relaxed);
	lane->config.events->opened(lane, lane->config.context);
}

/* Asks the listener whether it takes the lane. */
static void offer_and_unlock(struct sim_lane *sim)
{
	struct sim_listener *listener = TAKE_PTR(sim->listener);
	struct lane *lane = &sim->lane;
	bool taken, open;

	if (sim->in_ended && !next_letter(sim)) {
		end_by_peer(sim);
		pthread_mutex_unlock(&sim->network->lock);
		return;
	}
	sim->state = SIM_OPEN;
	if (sim->other && sim->other->state == SIM_CONNECTING) {
		sim->other->answer = SIM_ACCEPTED;
		sim->other->arrives_ms = clock_ms() + sim_decide(sim->network, sim->outward).delay_ms;
		sim_lane_wake(sim->other, sim->other->arrives_ms);
	}
	sim_listener_enter(listener);
	pthread_mutex_unlock(&sim->network->lock);
	taken = sim_listener_ask(listener, lane);
	pthread_mutex_lock(&sim->network->lock);
	sim->seen = taken;
	if (!taken)
		sim_lane_end(sim, TDR_EIO, false, "nobody took it");
	open = sim->state == SIM_OPEN;
	pthread_mutex_unlock(&sim->network->lock);
	sim_listener_leave(listener);
	if (open)
		lane->config.events->opened(lane, lane->config.context);
}

/* Checks a message against the receiver's limits, as who reads it from a stream does. */
static tdr_status check_limits(const struct lane_limits *limits, const struct message *message)
{
	const char *name = message_type_name(message->type);

	if (message->body_size > limits->max_body_bytes)
		return error_set(TDR_ELIMIT, "a %s message with a body of %zu bytes, past the limit of %zu", name,
		                 message->body_size, limits->max_body_bytes);
	if (message->nstorages > limits->max_storages)
		return error_set(TDR_ELIMIT, "a %s message with %zu storages, past the limit of %zu", name,
		                 message->nstorages, limits->max_storages);
	if (message_cost(message) > limits->max_message_bytes)
		return error_set(TDR_ELIMIT, "a %s message larger than the limit of %zu bytes", name,
		                 limits->max_message_bytes);
	return TDR_OK;
}

static void fail(struct sim_lane *sim, tdr_status status)
{
	char text[sizeof(sim->text)];

	snprintf(text, sizeof(text), "from %s: %s", sim->lane.peer, tdr_last_error());
	pthread_mutex_lock(&sim->network->lock);
	sim_lane_end(sim, status, false, text);
	pthread_mutex_unlock(&sim->network->lock);
}

static void deliver(struct sim_lane *sim, struct sim_letter *letter)
{
	struct lane *lane = &sim->lane;
	struct parcel *copy = NULL;
	tdr_status status = check_limits(&lane->config.limits, &letter->parcel->message);

	atomic_store_explicit(&lane->received_ms, clock_ms(), memory_order_relaxed);
	if (letter->acknowledged > atomic_load_explicit(&lane->arrived, memory_order_relaxed))
		atomic_store_explicit(&lane->arrived, letter->acknowledged, memory_order_relaxed);
	if (status == TDR_OK) {
		copy = parcel_new_isolated(&letter->parcel->message, lane->config.pool);
		status = copy ? TDR_OK : error_nomem();
	}
	letter_free(letter);
	if (status == TDR_OK)
		lane->config.events->message(lane, lane->config.context, &copy->message, engine_turn());
	else
		fail(sim, status);
	parcel_free(copy);
}

static void take_in_and_unlock(struct sim_lane *sim)
{
	struct sim_letter *letter = next_letter(sim);

	if (!letter) {
		end_by_peer(sim);
		pthread_mutex_unlock(&sim->network->lock);
		return;
	}
	list_remove(&letter->node);
	sim->in_bytes -= letter->cost;
	sim->stats.messages_received++;
	sim->stats.bytes_received += letter->cost;
	pthread_mutex_unlock(&sim->network->lock);
	deliver(sim, letter);
}

/* Does one thing that is due; false if there is none. */
static bool step(struct sim_lane *sim)
{
	int64_t now = clock_ms();

	pthread_mutex_lock(&sim->network->lock);
	if (sim->state < SIM_CLOSED && arrival_due(sim) > now && patience_due(sim) <= now)
		give_up(sim);
	if (next_due(sim) > now) {
		pthread_mutex_unlock(&sim->network->lock);
		return false;
	}
	switch (sim->state) {
	case SIM_ARRIVING:
		offer_and_unlock(sim);
		break;
	case SIM_CONNECTING:
		take_answer_and_unlock(sim);
		break;
	case SIM_OPEN:
		take_in_and_unlock(sim);
		break;
	case SIM_FLUSHING:
		end_by_peer(sim);
		pthread_mutex_unlock(&sim->network->lock);
		break;
	case SIM_CLOSED:
		tell_closed_and_unlock(sim);
		break;
	case SIM_TOLD:
		assert(false);
	}
	return true;
}

/* ---- the pump ---- */

static void run_pump(struct task *task)
{
	struct sim_lane *sim = container_of(task, struct sim_lane, task);
	struct list trash;
	int64_t due_ms;

	list_init(&trash);
	pthread_mutex_lock(&sim->network->lock);
	sim->pump = PUMP_RUNNING;
	pthread_mutex_unlock(&sim->network->lock);
	for (int budget = TURN_MESSAGES; budget > 0 && step(sim); budget--)
		continue;
	pthread_mutex_lock(&sim->network->lock);
	list_splice(&trash, &sim->trash);
	due_ms = next_due(sim);
	sim->pump = PUMP_IDLE;
	if (due_ms != SIM_NEVER)
		sim_lane_wake(sim, due_ms);
	pthread_mutex_unlock(&sim->network->lock);
	letters_free(&trash);
	lane_unref(&sim->lane);
}

static void timer_fired(struct timer *timer)
{
	struct sim_lane *sim = container_of(timer, struct sim_lane, timer);
	struct sim_network *network = sim->network;
	bool due, set_again = false;

	pthread_mutex_lock(&network->lock);
	due = sim->pump == PUMP_TIMED && clock_ms() >= sim->pump_due_ms;
	if (due) {
		/* The timer may have been set anew after it had begun to fire. */
		set_again = timer_clear(sim->lane.config.engine, &sim->timer);
		sim->pump = PUMP_QUEUED;
		engine_defer(sim->lane.config.engine, &sim->task); /* which has the timer's reference now */
	}
	pthread_mutex_unlock(&network->lock);
	if (!due || set_again)
		lane_unref(&sim->lane);
}

void sim_lane_wake(struct sim_lane *sim, int64_t due_ms)
{
	tdr_engine *engine = sim->lane.config.engine;
	bool now = due_ms <= clock_ms();

	if (sim->state == SIM_TOLD || sim->pump == PUMP_QUEUED || sim->pump == PUMP_RUNNING)
		return;
	if (sim->pump == PUMP_TIMED && sim->pump_due_ms <= due_ms)
		return;
	if (timer_clear(engine, &sim->timer))
		lane_unref(&sim->lane); /* not the last: the transport has its own */
	lane_ref(&sim->lane);
	sim->pump = now ? PUMP_QUEUED : PUMP_TIMED;
	sim->pump_due_ms = due_ms;
	if (now)
		engine_defer(engine, &sim->task);
	else
		timer_set(engine, &sim->timer, due_ms);
}

/* ---- the lane's operations ---- */

static tdr_status check_sendable(const struct message *message)
{
	assert(message_type_name(message->type) && message->type != MESSAGE_CHUNK);
	if (message->body_size > UINT32_MAX || message->nstorages > MESSAGE_FRAME_MAX / sizeof(uint64_t))
		return error_set(TDR_ELIMIT, "a message with a body of %zu bytes and %zu storages, past the limit",
		                 message->body_size, message->nstorages);
	return TDR_OK;
}

/* Hands a letter to the network; with the lock held. */
static void post(struct sim_lane *sim, struct sim_letter *letter)
{
	struct sim_lane *other = sim->other;
	struct sim_fate fate = sim_decide(sim->network, sim->outward);

	letter->sequence = ++sim->sequence;
	letter->acknowledged = arrived_whole(sim);
	letter->parcel->message.credit = atomic_load_explicit(&sim->lane.credit, memory_order_relaxed);
	sim->stats.messages_sent++;
	sim->stats.bytes_sent += letter->cost;
	atomic_store_explicit(&sim->lane.sent_ms, clock_ms(), memory_order_relaxed);
	if (other->state == SIM_FLUSHING) {
		list_append(&other->trash, &letter->node); /* it reads no more */
		sim_lane_wake(other, 0);
		return;
	}
	add_letter(other, letter, fate.delay_ms);
	if (fate.cut)
		sim_lane_break(sim, "the network cut the connection");
	else
		sim_lane_wake(other, next_due(other));
}

static tdr_status sim_send(struct lane *lane, const struct message *message)
{
	struct sim_lane *sim = sim_of(lane);
	struct sim_letter *letter;
	bool over;
	tdr_status status = check_sendable(message);

	if (status != TDR_OK)
		return status;
	letter = calloc(1, sizeof(*letter));
	if (letter)
		letter->parcel = parcel_new(message);
	if (!letter || !letter->parcel) {
		letter_free(letter);
		return error_nomem();
	}
	list_init(&letter->node);
	letter->cost = message_cost(message);
	pthread_mutex_lock(&sim->network->lock);
	over = sim->state > SIM_OPEN || !sim->other;
	if (!over)
		post(sim, letter);
	else
		status = error_set(TDR_EIO, "the connection to %s is over: %s", lane->peer,
		                   sim->text[0]        ? sim->text
		                   : sim->close_due_ms ? "it is being closed"
		                                       : "the peer has ended it");
	pthread_mutex_unlock(&sim->network->lock);
	if (over)
		letter_free(letter);
	return status;
}

static void sim_close(struct lane *lane, bool flush)
{
	struct sim_lane *sim = sim_of(lane);

	pthread_mutex_lock(&sim->network->lock);
	if (sim->state >= SIM_CLOSED || (flush && sim->close_due_ms)) {
		pthread_mutex_unlock(&sim->network->lock);
		return;
	}
	if (!sim->close_due_ms)
		sim->close_due_ms = deadline_after(CLOSE_MS);
	if (flush && sim->other) {
		sim->state = SIM_FLUSHING;
		discard_letters(sim);
		sim->other->in_ended = true;
		sim_lane_wake(sim->other, next_due(sim->other));
		sim_lane_wake(sim, 0);
	} else {
		if (sim->other && sim_decide(sim->network, sim->outward).reset)
			discard_letters(sim->other);
		sim_lane_end(sim, TDR_OK, false, "");
	}
	pthread_mutex_unlock(&sim->network->lock);
}

static struct source *sim_source(struct lane *lane)
{
	return NULL;
}

static struct lane_stats sim_stats(struct lane *lane)
{
	struct sim_lane *sim = sim_of(lane);
	struct lane_stats stats;

	pthread_mutex_lock(&sim->network->lock);
	stats = sim->stats;
	stats.bytes_queued = sim->other ? sim->other->in_bytes : 0;
	pthread_mutex_unlock(&sim->network->lock);
	return stats;
}

static void sim_free(struct lane *lane)
{
	struct sim_lane *sim = sim_of(lane);

	letters_free(&sim->trash);
	pool_unref(lane->config.pool);
	sim_network_unuse(sim->network);
	free(sim);
}

static const struct lane_ops sim_lane_ops = {
    .send = sim_send,
    .close = sim_close,
    .source = sim_source,
    .stats = sim_stats,
    .free = sim_free,
};

struct sim_lane *sim_lane_new(const struct lane_config *config, struct sim_network *network, enum sim_state state)
{
	struct sim_lane *sim = calloc(1, sizeof(*sim));

	if (!sim)
		return NULL;
	sim->lane.ops = &sim_lane_ops;
	sim->lane.config = *config;
	refcount_init(&sim->lane.refs);
	pool_ref(config->pool);
	sim->network = sim_network_use_too(network);
	sim->state = state;
	sim->task = (struct task){.run = run_pump, .by_waiters = true};
	list_init(&sim->task.node);
	timer_init(&sim->timer, timer_fired);
	list_init(&sim->node);
	list_init(&sim->small);
	list_init(&sim->large);
	list_init(&sim->trash);
	return sim;
}
