/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One link's life.
 *
 * Design notes. `set_state` is the only place that changes the state. A lane belongs to the link as `dial` until it is
 * greeted, then as `lane`; an event of any other lane (one that lost against a crossing one, say) is ignored but for its end.
 * When both ends dial at once, the lane that the lower id dialled is kept: the lower one refuses the other's hello as crossed, the
 * higher one adopts the lower's and lets its own go. The hello that it had sent may still arrive, when the lanes crossed
 * and one is up: it tells of fewer lanes than there have been, and is refused. Events of this link's user are called after the
 * lock was given up, from what `struct after` has collected.
 */
#include "transport/link_internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "transport/parcel.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FIRST_RETRY_MS = 2,
	LAST_RETRY_MS = 1000,
	MAX_BREAKS = 5,     /* within the heartbeat bound: then the worker counts as gone */
	SELF_MESSAGES = 64, /* delivered in one turn */
};

static const struct lane_events link_lane_events;

/* What is to be done once the lock has been given up. */
struct after {
	bool broken, gone;
	struct list send;      /* parcels, on `lane` */
	struct lane *lane;     /* counted */
	struct lane *close[2]; /* counted; closed at once */
	struct list drop;      /* parcels */
	char text[256];
};

static const char *const state_names[] = {
#define LINK_STATE_NAME(name, text) [name] = text,
    LINK_STATE_LIST(LINK_STATE_NAME)
#undef LINK_STATE_NAME
};

const char *link_state_name(enum link_state state)
{
	return state_names[state];
}

static void set_state(struct link *link, enum link_state state)
{
	assert(link->state < LINK_GONE || state == LINK_CLOSED || state == link->state);
	if (link->state != state)
		LOG(TDR_LOG_DEBUG, "event=link_state worker=%s peer=%s from=%s to=%s", link->links->config.self.name,
		    link->peer.name, state_names[link->state], state_names[state]);
	link->state = state;
}

static void after_init(struct after *after)
{
	*after = (struct after){0};
	list_init(&after->send);
	list_init(&after->drop);
}

/*
 * Whether a message is sent again where it may have been lost with a lane. Calls and answers are not, for nothing is to run
 * twice, and their callers learn of it; what collectives send does no harm when it comes twice.
 */
static bool is_repeatable(unsigned type)
{
	return type == MESSAGE_GATHER || type == MESSAGE_SCATTER;
}

static void after_run(struct link *link, struct after *after)
{
	const struct links_config *config = &link->links->config;
	struct list *node;

	for (size_t i = 0; i < COUNT_OF(after->close); i++) {
		if (!after->close[i])
			continue;
		lane_close(after->close[i], false);
		lane_unref(after->close[i]);
	}
	if (after->broken)
		config->events->broken(config->context, link, after->text);
	while ((node = list_shift(&after->send))) {
		struct parcel *parcel = list_entry(node, struct parcel, node);
		const struct message *message = &parcel->message;
		tdr_status status =
		    is_repeatable(message->type) ? link_send(link, message) : lane_send(after->lane, message);

		if (status != TDR_OK)
			LOG(TDR_LOG_DEBUG, "event=message_dropped peer=%s type=%s error=\"%s\"", link->peer.name,
			    message_type_name(message->type), tdr_last_error());
		parcel_free(parcel);
	}
	lane_unref(after->lane);
	while ((node = list_shift(&after->drop)))
		parcel_free(list_entry(node, struct parcel, node));
	if (after->gone)
		config->events->gone(config->context, link, link->gone_status, link->gone_text);
}

/* ---- the timer; with the lock held ---- */

/* Each setting that has not fired holds `links`. */
static void timer_start(struct link *link, int64_t delay_ms)
{
	if (!timer_clear(link->links->config.engine, &link->timer))
		links_hold(link->links);
	timer_set(link->links->config.engine, &link->timer, clock_ms() + delay_ms);
}

static void timer_stop(struct link *link)
{
	if (timer_clear(link->links->config.engine, &link->timer))
		links_drop(link->links);
}

/* ---- transitions; with the lock held ---- */

static void become_gone(struct link *link, struct after *after, tdr_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void become_gone(struct link *link, struct after *after, tdr_status status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(link->gone_text, sizeof(link->gone_text), format, arguments);
	va_end(arguments);
	link->gone_status = status;
	LOG(TDR_LOG_INFO, "event=worker_gone worker=%s peer=%s reason=\"%s\"", link->links->config.self.name,
	    link->peer.name, link->gone_text);
	set_state(link, LINK_GONE);
	after->gone = true;
	after->close[1] = atomic_load(&link->lane) ? atomic_exchange(&link->lane, NULL) : TAKE_PTR(link->dial);
	if (!link->self) /* what one has told oneself is heard to the end */
		list_splice(&after->drop, &link->pending);
	list_splice(&after->drop, &link->kept);
	link_wake_credit_waiters(link);
	timer_stop(link);
}

/* Those of the kept messages that have arrived over the lane need not be kept any more. */
static void drop_arrived(struct link *link, const struct lane *lane, struct list *drop)
{
	uint64_t arrived = atomic_load(&lane->arrived);

	list_for_each_safe(node, &link->kept) {
		if (list_entry(node, struct parcel, node)->sequence > arrived)
			break;
		list_remove(node);
		list_append(drop, node);
	}
}

/* A greeted lane is over: the next one is sent what may have been lost with it. */
static void recover_from(struct link *link, struct after *after, const struct lane *lane)
{
	atomic_fetch_add(&link->epoch, 1);
	link->broke = true;
	drop_arrived(link, lane, &after->drop);
	list_splice(&link->pending, &link->kept);
}

/* The lane is greeted, by us or by the peer; its reference is taken over. */
static void become_up(struct link *link, struct after *after, struct lane *lane, const struct hello *hello)
{
	set_state(link, LINK_UP);
	link->lanes = MAX_OF(link->lanes + 1, hello->lanes); /* both ends agree on it from here */
	atomic_store(&link->sent, 0);
	atomic_store(&link->granted, 0);
	atomic_store(&link->window, MAX_OF(hello->credit_bytes, (uint64_t)1));
	link->announced = 0;
	link->up_since_ms = clock_ms();
	link->beat_due_ms = link->up_since_ms + link->links->config.heartbeat_ms;
	link->suspect_since_ms = 0;
	link->retry_ms = FIRST_RETRY_MS;
	link->heartbeat_sent_ms = 0;
	atomic_store(&link->lane, lane);
	after->broken = link->broke;
	snprintf(after->text, sizeof(after->text), "the connection to worker '%s' broke and was made anew",
	         link->peer.name);
	link->broke = false;
	after->lane = lane_ref(lane);
	list_for_each(node, &link->pending) {
		const struct parcel *parcel = list_entry(node, struct parcel, node);

		if (message_is_request(parcel->message.type))
			atomic_fetch_add(&link->sent, message_cost(&parcel->message));
	}
	list_splice(&after->send, &link->pending);
	timer_stop(link);
	if (link->links->config.heartbeat_ms > 0)
		timer_start(link, link->links->config.heartbeat_ms);
	link_wake_credit_waiters(link);
}

static void retry_later(struct link *link, struct after *after, const char *reason)
{
	int64_t now = clock_ms(), bound = link->links->config.heartbeat_bound_ms;

	if (link->suspect_since_ms == 0) {
		link->suspect_since_ms = now;
		LOG(TDR_LOG_WARN, "event=worker_suspect worker=%s peer=%s address=%s reason=\"%s\"",
		    link->links->config.self.name, link->peer.name, link->peer.address, reason);
	}
	if (now - link->suspect_since_ms >= bound) {
		become_gone(link, after, TDR_EUNREACHABLE, "worker '%s' could not be reached at %s for %lld ms: %s",
		            link->peer.name, link->peer.address, (long long)bound, reason);
		return;
	}
	set_state(link, LINK_WAITING);
	timer_start(link, link->retry_ms);
	link->retry_ms = MIN_OF(link->retry_ms * 2, (int64_t)LAST_RETRY_MS);
}

static void dial(struct link *link, struct after *after)
{
	struct links *links = link->links;
	const struct transport *transport = transport_of(link->peer.address);
	struct lane_config config = {
	    .engine = links->config.engine,
	    .pool = links->config.pool,
	    .incarnation = links->config.self.incarnation,
	    .limits = links->config.limits,
	    .events = &link_lane_events,
	    .context = link,
	};
	struct hello hello = {
	    .features = HELLO_FEATURES,
	    .from = links_self(links),
	    .to_id = link->peer.id,
	    .to_incarnation = link->peer.incarnation,
	    .credit_bytes = links->config.credit_bytes,
	    .lanes = link->lanes,
	};

	set_state(link, LINK_DIALING);
	if (link->probe)
		hello.from.id = HELLO_NOBODY;
	snprintf(hello.group, sizeof(hello.group), "%s", links->group);
	if (!transport ||
	    transport->connect(&config, link->peer.address, links->config.connect_timeout_ms, &link->dial) != TDR_OK) {
		retry_later(link, after, tdr_last_error());
		return;
	}
	links_hold(links);
	if (hello_send(link->dial, MESSAGE_HELLO, &hello) != TDR_OK)
		LOG(TDR_LOG_DEBUG, "event=hello_not_sent peer=%s error=\"%s\"", link->peer.name, tdr_last_error());
	timer_start(link, links->config.connect_timeout_ms);
}

/* The dialled lane is not greeted in time: a kernel makes connections also for a process that does not run. */
static void give_up_dial(struct link *link, struct after *after)
{
	char text[128];

	snprintf(text, sizeof(text), "no answer within %lld ms", (long long)link->links->config.connect_timeout_ms);
	after->close[0] = TAKE_PTR(link->dial);
	retry_later(link, after, text);
}

/* ---- events of lanes ---- */

static void handle_heartbeat_ack(struct link *link)
{
	int64_t sample, deviation;

	pthread_mutex_lock(&link->lock);
	if (link->heartbeat_sent_ms > 0) {
		sample = clock_ms() - link->heartbeat_sent_ms;
		deviation = sample > link->round_trip_ms ? sample - link->round_trip_ms : link->round_trip_ms - sample;
		link->round_trip_ms += (sample - link->round_trip_ms) / 8;
		link->round_trip_deviation_ms += (deviation - link->round_trip_deviation_ms) / 4;
		link->heartbeat_sent_ms = 0;
	}
	pthread_mutex_unlock(&link->lock);
}

static void handle_refusal(struct link *link, struct lane *lane, const struct message *message)
{
	enum refusal refusal;
	char text[256];
	struct after after;

	after_init(&after);
	if (refusal_read(message, &refusal, text, sizeof(text)) != TDR_OK) {
		lane_close(lane, false);
		return;
	}
	pthread_mutex_lock(&link->lock);
	if (link->dial == lane && refusal == REFUSED_CROSSED) {
		after.close[0] = TAKE_PTR(link->dial);
		set_state(link, LINK_WAITING); /* for the peer's lane, which is on its way */
		timer_start(link, link->links->config.connect_timeout_ms);
	} else if (link->dial == lane && refusal == REFUSED_EARLY) {
		after.close[0] = TAKE_PTR(link->dial);
		link->suspect_since_ms = clock_ms(); /* this is no cause for alarm: it has answered */
		retry_later(link, &after, text);
	} else if (link->dial == lane && (refusal == REFUSED_UNKNOWN || refusal == REFUSED_FENCED)) {
		become_gone(link, &after, refusal == REFUSED_FENCED ? TDR_EFENCED : TDR_EAUTH,
		            "worker '%s' does not count us among the members: %s", link->peer.name, text);
	} else if (link->dial == lane || atomic_load(&link->lane) == lane) {
		become_gone(link, &after, TDR_EWORKERGONE, "worker '%s' is gone: %s", link->peer.name, text);
	}
	pthread_mutex_unlock(&link->lock);
	after_run(link, &after);
}

static void handle_welcome(struct link *link, struct lane *lane, const struct message *message)
{
	struct hello hello;
	struct after after;
	bool valid = hello_read(message, &hello) == TDR_OK;

	after_init(&after);
	pthread_mutex_lock(&link->lock);
	if (link->dial == lane && link->state == LINK_DIALING) {
		if (valid && hello.from.incarnation == link->peer.incarnation && hello.from.id == link->peer.id) {
			become_up(link, &after, TAKE_PTR(link->dial), &hello);
		} else if (valid) {
			become_gone(link, &after, TDR_EWORKERGONE,
			            "worker '%s' is gone: another process answers at its address %s", link->peer.name,
			            link->peer.address);
		} else {
			become_gone(link, &after, TDR_EWORKERGONE,
			            "worker '%s' answers at %s with what is no welcome: %s", link->peer.name,
			            link->peer.address, tdr_last_error());
		}
	}
	pthread_mutex_unlock(&link->lock);
	after_run(link, &after);
}

static void handle_leave(struct link *link, struct lane *lane)
{
	struct after after;

	after_init(&after);
	pthread_mutex_lock(&link->lock);
	if (atomic_load(&link->lane) == lane)
		become_gone(link, &after, TDR_EWORKERGONE, "worker '%s' has left the group", link->peer.name);
	pthread_mutex_unlock(&link->lock);
	after_run(link, &after);
}

static void on_message(struct lane *lane, void *context, const struct message *message, unsigned turn)
{
	struct link *link = context;

	if (message->type == MESSAGE_WELCOME) {
		handle_welcome(link, lane, message);
		return;
	}
	if (message->type == MESSAGE_REFUSE) {
		handle_refusal(link, lane, message);
		return;
	}
	if (atomic_load_explicit(&link->lane, memory_order_relaxed) != lane)
		return;
	link_update_credit(link, message->credit);
	switch (message->type) {
	case MESSAGE_HEARTBEAT:
		(void)lane_send(lane, &(struct message){.type = MESSAGE_HEARTBEAT_ACK});
		break;
	case MESSAGE_HEARTBEAT_ACK:
		handle_heartbeat_ack(link);
		break;
	case MESSAGE_CREDIT:
		break;
	case MESSAGE_LEAVE:
		handle_leave(link, lane);
		break;
	default:
		link->links->config.events->message(link->links->config.context, link, message, turn);
	}
}

static void add_stats(struct lane_stats *sum, const struct lane_stats *more)
{
	sum->messages_sent += more->messages_sent;
	sum->messages_received += more->messages_received;
	sum->bytes_sent += more->bytes_sent;
	sum->bytes_received += more->bytes_received;
}

/* The greeted lane has ended and nobody said why: the worker may have died, or only the connection. */
static void lane_broke(struct link *link, struct after *after, const struct lane *lane, const char *text)
{
	int64_t now = clock_ms();

	recover_from(link, after, lane);
	if (now - link->breaks_since_ms > link->links->config.heartbeat_bound_ms) {
		link->breaks_since_ms = now;
		link->breaks = 0;
	}
	LOG(TDR_LOG_INFO, "event=lane_broke worker=%s peer=%s reason=\"%s\"", link->links->config.self.name,
	    link->peer.name, text);
	if (++link->breaks > MAX_BREAKS) {
		become_gone(link, after, TDR_EWORKERGONE, "worker '%s' is gone: its connections broke %u times: %s",
		            link->peer.name, link->breaks, text);
		return;
	}
	timer_stop(link);
	dial(link, after);
}

static void on_closed(struct lane *lane, void *context, tdr_status status, bool refused, const char *text)
{
	struct link *link = context;
	struct lane_stats stats = lane->ops->stats(lane);
	struct lane *ours = lane, *none = NULL;
	struct after after;

	after_init(&after);
	pthread_mutex_lock(&link->lock);
	add_stats(&link->past, &stats);
	if (link->dial == lane) {
		link->dial = NULL;
		if (refused)
			become_gone(link, &after, TDR_EWORKERGONE,
			            "worker '%s' is gone: nobody listens at its address %s any more", link->peer.name,
			            link->peer.address);
		else
			retry_later(link, &after, text);
		lane_unref(lane);
	} else if (atomic_compare_exchange_strong(&link->lane, &ours, none)) {
		lane_broke(link, &after, lane, text);
		lane_unref(lane);
	}
	pthread_mutex_unlock(&link->lock);
	after_run(link, &after);
	links_drop(link->links);
}

static void on_opened(struct lane *lane, void *context)
{
}

static const struct lane_events link_lane_events = {.opened = on_opened, .message = on_message, .closed = on_closed};

bool link_adopt(struct link *link, struct lane *lane, const struct hello *hello)
{
	struct links *links = link->links;
	struct hello welcome = {
	    .features = HELLO_FEATURES & hello->features,
	    .from = links->config.self,
	    .to_id = link->peer.id,
	    .to_incarnation = link->peer.incarnation,
	    .credit_bytes = links->config.credit_bytes,
	};
	struct lane *old;
	struct after after;

	after_init(&after);
	snprintf(welcome.group, sizeof(welcome.group), "%s", links->group);
	pthread_mutex_lock(&link->lock);
	if (link->state >= LINK_GONE || (link->dial && links->config.self.id < link->peer.id) ||
	    (link->state == LINK_UP && hello->lanes < link->lanes)) {
		enum refusal refusal = link->state == LINK_CLOSED ? REFUSED_LEAVING : REFUSED_CROSSED;
		const char *text = refusal == REFUSED_LEAVING ? "it is leaving the group" : "the lanes crossed";
		bool gone = link->state == LINK_GONE;

		pthread_mutex_unlock(&link->lock);
		if (gone)
			refusal = links_refuse(links, &link->peer, &text);
		(void)refusal_send(lane, refusal,
		                   refusal == REFUSED_STRANGER ? "it has taken this worker for dead" : text);
		return false;
	}
	link->lanes = MAX_OF(link->lanes, hello->lanes);
	welcome.lanes = link->lanes + 1;
	old = atomic_exchange(&link->lane, NULL);
	if (old) /* the peer has seen it break before we did */
		recover_from(link, &after, old);
	after.close[0] = old;
	after.close[1] = TAKE_PTR(link->dial);
	lane->config.events = &link_lane_events;
	lane->config.context = link;
	lane->config.limits = links->config.limits;
	(void)hello_send(lane, MESSAGE_WELCOME, &welcome);
	become_up(link, &after, lane, hello);
	pthread_mutex_unlock(&link->lock);
	after_run(link, &after);
	return true;
}

/* ---- heartbeats ---- */

/* Silence after which the worker counts as gone: the option, or more where answers have been slow to come. */
static int64_t heartbeat_bound(const struct link *link)
{
	const struct links_config *config = &link->links->config;

	return MAX_OF(config->heartbeat_bound_ms,
	              3 * config->heartbeat_ms + 4 * (link->round_trip_ms + 4 * link->round_trip_deviation_ms));
}

static void beat(struct link *link, struct after *after)
{
	struct lane *lane = atomic_load(&link->lane);
	int64_t now = clock_ms(), every = link->links->config.heartbeat_ms;
	int64_t silent;

	/* Where this process was stopped, all others may have been, too: the silence counts from now. */
	if (now - link->beat_due_ms > link->links->config.heartbeat_bound_ms / 2)
		link->up_since_ms = now;
	silent = now - MAX_OF(atomic_load(&lane->received_ms), link->up_since_ms);
	if (silent > heartbeat_bound(link)) {
		become_gone(link, after, TDR_EWORKERGONE, "worker '%s' is gone: silent for %lld ms", link->peer.name,
		            (long long)silent);
		return;
	}
	if (silent >= every && now - link->heartbeat_sent_ms >= every) {
		if (link->heartbeat_sent_ms == 0)
			link->heartbeat_sent_ms = now;
		(void)lane_send(lane, &(struct message){.type = MESSAGE_HEARTBEAT});
	}
	drop_arrived(link, lane, &after->drop);
	link->beat_due_ms = now + every;
	timer_start(link, every);
}

static void on_timer(struct timer *timer)
{
	struct link *link = container_of(timer, struct link, timer);
	struct after after;

	after_init(&after);
	pthread_mutex_lock(&link->lock);
	if (link->state == LINK_UP)
		beat(link, &after);
	else if (link->state == LINK_DIALING)
		give_up_dial(link, &after);
	else if (link->state == LINK_WAITING)
		dial(link, &after);
	pthread_mutex_unlock(&link->lock);
	after_run(link, &after);
	links_drop(link->links);
}

/* ---- messages to oneself ---- */

/* The next message to oneself; NULL, and nobody delivers any more, if there is none. */
static struct parcel *next_to_self(struct link *link)
{
	struct list *node;

	pthread_mutex_lock(&link->lock);
	node = list_shift(&link->pending);
	link->delivering = node != NULL;
	pthread_mutex_unlock(&link->lock);
	return node ? list_entry(node, struct parcel, node) : NULL;
}

/* Messages to oneself: delivered by a free thread, one at a time and in order, as if they had come over a wire. */
static void deliver_to_self(struct task *task)
{
	struct link *link = container_of(task, struct link, delivery);
	const struct links_config *config = &link->links->config;

	for (int i = 0; i < SELF_MESSAGES; i++) {
		struct parcel *parcel = next_to_self(link);

		if (!parcel) {
			links_drop(link->links);
			return;
		}
		config->events->message(config->context, link, &parcel->message, engine_turn());
		parcel_free(parcel);
	}
	engine_defer(config->engine, &link->delivery);
}

/* ---- for those above ---- */

struct link *link_new(struct links *links, const struct identity *peer, void *user)
{
	struct link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->links = links;
	link->user = user;
	link->peer = *peer;
	link->self = peer->id == links->config.self.id && peer->incarnation == links->config.self.incarnation;
	pthread_mutex_init(&link->lock, NULL);
	list_init(&link->node);
	list_init(&link->pending);
	list_init(&link->kept);
	list_init(&link->waiters);
	timer_init(&link->timer, on_timer);
	link->delivery = (struct task){.run = deliver_to_self, .by_waiters = true};
	link->retry_ms = FIRST_RETRY_MS;
	atomic_store(&link->window, links->config.credit_bytes);
	return link;
}

void link_free(struct link *link)
{
	assert(!link->dial && !atomic_load(&link->lane) && list_empty(&link->waiters));
	for (struct list *node; (node = list_shift(&link->pending));)
		parcel_free(list_entry(node, struct parcel, node));
	pthread_mutex_destroy(&link->lock);
	free(link);
}

void link_dial(struct link *link)
{
	struct after after;

	after_init(&after);
	pthread_mutex_lock(&link->lock);
	if (link->state == LINK_IDLE)
		dial(link, &after);
	pthread_mutex_unlock(&link->lock);
	after_run(link, &after);
}

void link_retire(struct link *link, tdr_status status, const char *text)
{
	struct after after;

	after_init(&after);
	pthread_mutex_lock(&link->lock);
	if (link->state < LINK_GONE)
		become_gone(link, &after, status, "%s", text);
	pthread_mutex_unlock(&link->lock);
	after_run(link, &after);
}

void link_close(struct link *link, bool flush)
{
	struct lane *lane, *dialled;
	struct list drop;

	list_init(&drop);
	pthread_mutex_lock(&link->lock);
	lane = atomic_exchange(&link->lane, NULL);
	dialled = TAKE_PTR(link->dial);
	if (link->state != LINK_GONE) {
		link->gone_status = TDR_ESHUTDOWN;
		snprintf(link->gone_text, sizeof(link->gone_text), "the agent of worker '%s' is shutting down",
		         link->links->config.self.name);
	}
	set_state(link, LINK_CLOSED);
	if (!link->self)
		list_splice(&drop, &link->pending);
	list_splice(&drop, &link->kept);
	link_wake_credit_waiters(link);
	timer_stop(link);
	pthread_mutex_unlock(&link->lock);
	for (struct list *node; (node = list_shift(&drop));)
		parcel_free(list_entry(node, struct parcel, node));
	if (lane) {
		(void)lane_send(lane, &(struct message){.type = MESSAGE_LEAVE});
		lane_close(lane, flush);
		lane_unref(lane);
	}
	if (dialled) {
		lane_close(dialled, false);
		lane_unref(dialled);
	}
}

const struct identity *link_peer(const struct link *link)
{
	return &link->peer;
}

void *link_user(const struct link *link)
{
	return link->user;
}

enum link_state link_state(struct link *link)
{
	enum link_state state;

	pthread_mutex_lock(&link->lock);
	state = link->state;
	pthread_mutex_unlock(&link->lock);
	return state;
}

tdr_status link_check(struct link *link)
{
	tdr_status status = TDR_OK;

	pthread_mutex_lock(&link->lock);
	if (link->state >= LINK_GONE)
		status = error_set(link->gone_status, "%s", link->gone_text);
	pthread_mutex_unlock(&link->lock);
	return status;
}

uint32_t link_epoch(struct link *link)
{
	return atomic_load(&link->epoch);
}

static tdr_status send_to_self(struct link *link, const struct message *message)
{
	struct parcel *parcel = parcel_new_isolated(message, link->links->config.pool);
	tdr_status status = TDR_OK;
	bool begins = false;

	if (!parcel)
		return error_nomem();
	pthread_mutex_lock(&link->lock);
	if (link->state >= LINK_GONE) {
		status = error_set(link->gone_status, "%s", link->gone_text);
	} else {
		list_append(&link->pending, &parcel->node);
		begins = !link->delivering;
		link->delivering = true;
		if (begins)
			links_hold(link->links); /* with the lock held: who closes the links waits for it */
	}
	pthread_mutex_unlock(&link->lock);
	if (begins)
		engine_defer(link->links->config.engine, &link->delivery);
	if (status != TDR_OK)
		parcel_free(parcel);
	return status;
}

/* Keeps a message until the lane is up; with the lock held. */
static tdr_status park(struct link *link, const struct message *message)
{
	struct parcel *parcel = parcel_new(message);

	if (!parcel)
		return error_nomem();
	list_append(&link->pending, &parcel->node);
	return TDR_OK;
}

/*
 * The greeted lane, counted; NULL where the message was kept for the next one, or cannot be sent. `over`: a lane that has turned
 * out to be over, of which the link will hear soon.
 */
static struct lane *lane_for(struct link *link, const struct message *message, const struct lane *over,
                             tdr_status *ret_status)
{
	struct lane *lane = NULL;
	struct after after;

	after_init(&after);
	pthread_mutex_lock(&link->lock);
	if (link->state >= LINK_GONE) {
		*ret_status = error_set(link->gone_status, "%s", link->gone_text);
	} else if (link->state == LINK_UP && atomic_load(&link->lane) != over) {
		lane = lane_ref(atomic_load(&link->lane));
		if (message_is_request(message->type))
			atomic_fetch_add(&link->sent, message_cost(message));
	} else {
		*ret_status = park(link, message);
		if (*ret_status == TDR_OK && link->state == LINK_IDLE)
			dial(link, &after);
	}
	pthread_mutex_unlock(&link->lock);
	assert(!after.gone);
	return lane;
}

/* Keeps what has been sent on a lane until it has arrived. False: that lane is over, so it may have been lost. */
static bool keep(struct link *link, struct lane *lane, const struct message *message)
{
	struct parcel *parcel = parcel_new(message);
	struct list drop;
	bool current;

	if (!parcel) {
		LOG(TDR_LOG_WARN, "event=message_not_kept peer=%s error=\"out of memory\"", link->peer.name);
		return true;
	}
	list_init(&drop);
	parcel->sequence = lane->ops->stats(lane).messages_sent;
	pthread_mutex_lock(&link->lock);
	current = atomic_load(&link->lane) == lane;
	if (current)
		drop_arrived(link, lane, &drop);
	list_append(current ? &link->kept : &drop, &parcel->node);
	pthread_mutex_unlock(&link->lock);
	for (struct list *node; (node = list_shift(&drop));)
		parcel_free(list_entry(node, struct parcel, node));
	return current;
}

tdr_status link_send(struct link *link, const struct message *message)
{
	struct lane *lane, *over = NULL;
	tdr_status status = TDR_OK;

	if (link->self)
		return send_to_self(link, message);
	while ((lane = lane_for(link, message, over, &status))) {
		lane_unref(over);
		over = lane;
		status = lane_send(lane, message);
		if (status == TDR_OK && is_repeatable(message->type) && !keep(link, lane, message))
			continue;
		if (status != TDR_EIO)
			break;
	}
	lane_unref(over);
	if (lane && status != TDR_OK && message_is_request(message->type))
		atomic_fetch_sub(&link->sent, message_cost(message)); /* it did not go, and will not be taken up */
	return status;
}

struct source *link_source(struct link *link, struct lane **ret_lane)
{
	struct lane *lane;
	struct source *source = NULL;

	pthread_mutex_lock(&link->lock);
	lane = lane_ref(atomic_load(&link->lane));
	pthread_mutex_unlock(&link->lock);
	if (lane)
		source = lane->ops->source(lane);
	*ret_lane = lane;
	return source;
}

struct lane_stats link_stats(struct link *link)
{
	struct lane *lane;
	struct lane_stats stats;

	pthread_mutex_lock(&link->lock);
	stats = link->past;
	lane = lane_ref(atomic_load(&link->lane));
	pthread_mutex_unlock(&link->lock);
	if (lane) {
		struct lane_stats now = lane->ops->stats(lane);

		add_stats(&stats, &now);
		stats.bytes_queued = now.bytes_queued;
		lane_unref(lane);
	}
	return stats;
}
