/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All links of an agent: listening, greeting those who come, and closing.
 *
 * A lane that somebody else opened is an arrival until its hello has been read and matched with a member; it may cost little
 * until then: a small body, no storages, a time limit, and a bound on how many there may be. Who says hello before we know the
 * members ourselves is asked to come again soon.
 */
#include "transport/link_internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/refcount.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_ARRIVALS = 4096,
	ARRIVAL_BODY_BYTES = 4096,
	FIRST_MEMBERS = 16,
};

struct arrival {
	struct refcount refs; /* its lane's and its timer's, each until its last event */
	struct links *links;
	struct lane *lane; /* counted */
	struct list node;
	struct timer timer;
};

void links_hold(struct links *links)
{
	pthread_mutex_lock(&links->lock);
	links->active++;
	pthread_mutex_unlock(&links->lock);
}

void links_drop(struct links *links)
{
	pthread_mutex_lock(&links->lock);
	assert(links->active > 0);
	if (--links->active == 0 && links->idle)
		waiter_wake(links->idle);
	pthread_mutex_unlock(&links->lock);
}

/* ---- arrivals ---- */

static void arrival_unref(struct arrival *arrival)
{
	if (!refcount_put(&arrival->refs))
		return;
	lane_unref(arrival->lane);
	free(arrival);
}

/* The time limit does not matter any more. */
static void arrival_stop_timer(struct arrival *arrival)
{
	struct links *links = arrival->links;

	if (!timer_clear(links->config.engine, &arrival->timer))
		return;
	arrival_unref(arrival);
	links_drop(links);
}

/* Takes it off the list; false if it had been taken off before. */
static bool arrival_leave(struct arrival *arrival)
{
	struct links *links = arrival->links;
	bool mine;

	pthread_mutex_lock(&links->lock);
	mine = !list_empty(&arrival->node);
	if (mine) {
		list_remove(&arrival->node);
		links->narrivals--;
	}
	pthread_mutex_unlock(&links->lock);
	return mine;
}

/* Where a member with this id is, or would be; with the lock held. */
static size_t find_place(const struct links *links, uint32_t id)
{
	size_t low = 0, high = links->nmembers;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (links->members[middle]->peer.id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The link to the member who says hello, or NULL. */
static struct link *find_sender(struct links *links, const struct identity *from)
{
	struct link *link = NULL;
	size_t place;

	pthread_mutex_lock(&links->lock);
	place = find_place(links, from->id);
	if (place < links->nmembers)
		link = links->members[place];
	pthread_mutex_unlock(&links->lock);
	if (!link || link->self || link->peer.id != from->id || link->peer.incarnation != from->incarnation ||
	    strcmp(link->peer.name, from->name) != 0)
		return NULL;
	return link;
}

struct identity links_self(struct links *links)
{
	struct identity self;

	pthread_mutex_lock(&links->lock);
	self = links->config.self;
	pthread_mutex_unlock(&links->lock);
	return self;
}

static bool is_admitting(struct links *links)
{
	bool admitting;

	pthread_mutex_lock(&links->lock);
	admitting = links->admitting;
	pthread_mutex_unlock(&links->lock);
	return admitting;
}

enum refusal links_refuse(struct links *links, const struct identity *who, const char **ret_text)
{
	const struct link_events *events = links->config.events;
	enum refusal refusal = events->stranger ? events->stranger(links->config.context, who) : REFUSED_STRANGER;

	*ret_text = refusal == REFUSED_EARLY ? "it does not know this worker yet"
	            : refusal == REFUSED_FENCED
	                ? "this worker was evicted from the group: it has to shut down and join again"
	                : "it is no member of the group";
	return refusal;
}

static void turn_away(struct arrival *arrival, enum refusal refusal, const char *text)
{
	(void)refusal_send(arrival->lane, refusal, text);
	lane_close(arrival->lane, true);
}

static void turn_stranger_away(struct arrival *arrival, const struct hello *hello, enum refusal refusal,
                               const char *text)
{
	struct links *links = arrival->links;

	LOG(refusal == REFUSED_EARLY ? TDR_LOG_DEBUG : TDR_LOG_WARN,
	    "event=stranger worker=%s from=%s name=%s reason=\"%s\"", links->config.self.name, arrival->lane->peer,
	    hello->from.name, text);
	pthread_mutex_lock(&links->lock);
	links->refused_lanes++;
	pthread_mutex_unlock(&links->lock);
	turn_away(arrival, refusal, text);
}

/* Matches a hello with a member, to whose link the lane belongs from then on. */
static void arrival_match(struct arrival *arrival, const struct hello *hello)
{
	struct links *links = arrival->links;
	bool admitting = is_admitting(links);
	enum refusal refusal;
	struct link *link;
	const char *text;

	if (strcmp(hello->group, links->group) != 0) {
		turn_stranger_away(arrival, hello, REFUSED_STRANGER, "it belongs to another group");
		return;
	}
	if (hello->to_incarnation != links->config.self.incarnation ||
	    (admitting && hello->to_id != links->config.self.id)) {
		turn_stranger_away(arrival, hello, REFUSED_STRANGER, "the worker that it calls is not here any more");
		return;
	}
	if (hello->from.id == HELLO_NOBODY) {
		turn_away(arrival, REFUSED_UNKNOWN, "it is here");
		return;
	}
	if (!admitting) {
		turn_away(arrival, REFUSED_EARLY, "it has not joined yet");
		return;
	}
	link = find_sender(links, &hello->from);
	if (!link) {
		refusal = links_refuse(links, &hello->from, &text);
		turn_stranger_away(arrival, hello, refusal, text);
		return;
	}
	lane_ref(arrival->lane);
	if (link_adopt(link, arrival->lane, hello)) {
		arrival_unref(arrival);
		return;
	}
	lane_unref(arrival->lane);
	lane_close(arrival->lane, true);
}

static void arrival_timed_out(struct timer *timer)
{
	struct arrival *arrival = container_of(timer, struct arrival, timer);
	struct links *links = arrival->links;

	if (arrival_leave(arrival)) {
		LOG(TDR_LOG_WARN, "event=no_hello worker=%s from=%s", links->config.self.name, arrival->lane->peer);
		lane_close(arrival->lane, false);
	}
	arrival_unref(arrival);
	links_drop(links);
}

static void arrival_message(struct lane *lane, void *context, const struct message *message, unsigned turn)
{
	struct arrival *arrival = context;
	struct hello hello;

	if (!arrival_leave(arrival))
		return; /* it is being turned away */
	arrival_stop_timer(arrival);
	if (message->type == MESSAGE_HELLO && hello_read(message, &hello) == TDR_OK) {
		arrival_match(arrival, &hello);
		return;
	}
	LOG(TDR_LOG_WARN, "event=bad_hello worker=%s from=%s type=%s", arrival->links->config.self.name, lane->peer,
	    message_type_name(message->type));
	lane_close(lane, false);
}

static void arrival_closed(struct lane *lane, void *context, tdr_status status, bool refused, const char *text)
{
	struct arrival *arrival = context;
	struct links *links = arrival->links;

	if (arrival_leave(arrival) && status != TDR_OK)
		LOG(TDR_LOG_WARN, "event=arrival_closed worker=%s from=%s reason=\"%s\"", links->config.self.name,
		    lane->peer, text);
	arrival_stop_timer(arrival);
	arrival_unref(arrival);
	links_drop(links);
}

static void arrival_opened(struct lane *lane, void *context)
{
}

static const struct lane_events arrival_events = {
    .opened = arrival_opened,
    .message = arrival_message,
    .closed = arrival_closed,
};

static bool on_accept(void *context, struct lane *lane)
{
	struct links *links = context;
	struct arrival *arrival = calloc(1, sizeof(*arrival));
	bool welcome;

	if (!arrival)
		return false;
	refcount_init(&arrival->refs);
	arrival->links = links;
	list_init(&arrival->node);
	timer_init(&arrival->timer, arrival_timed_out);
	pthread_mutex_lock(&links->lock);
	welcome = !links->closing && links->narrivals < MAX_ARRIVALS;
	if (welcome) {
		refcount_get(&arrival->refs);
		links->active += 2; /* its lane and its timer */
		links->narrivals++;
		list_append(&links->arrivals, &arrival->node);
		arrival->lane = lane_ref(lane);
		lane->config.events = &arrival_events;
		lane->config.context = arrival;
		lane->config.limits =
		    (struct lane_limits){.max_body_bytes = ARRIVAL_BODY_BYTES, .max_message_bytes = ARRIVAL_BODY_BYTES};
		timer_set(links->config.engine, &arrival->timer, clock_ms() + links->config.connect_timeout_ms);
	}
	pthread_mutex_unlock(&links->lock);
	if (!welcome)
		free(arrival);
	return welcome;
}

/* ---- the set ---- */

struct links *links_new(const struct links_config *config)
{
	struct links *links = calloc(1, sizeof(*links));

	if (!links)
		return NULL;
	links->config = *config;
	snprintf(links->group, sizeof(links->group), "%s", config->group);
	pool_ref(config->pool);
	pthread_mutex_init(&links->lock, NULL);
	list_init(&links->arrivals);
	list_init(&links->all);
	return links;
}

tdr_status links_listen(struct links *links, const struct transport *transport, const char *host, uint16_t port,
                        uint16_t *ret_port)
{
	struct lane_config config = {
	    .engine = links->config.engine,
	    .pool = links->config.pool,
	    .incarnation = links->config.self.incarnation,
	};
	tdr_status status = transport->listen(&config, host, port, on_accept, links, &links->listener);

	if (status == TDR_OK)
		*ret_port = links->listener->port;
	return status;
}

void links_set_id(struct links *links, uint32_t id)
{
	pthread_mutex_lock(&links->lock);
	links->config.self.id = id;
	pthread_mutex_unlock(&links->lock);
}

void links_set_address(struct links *links, const char *address)
{
	snprintf(links->config.self.address, sizeof(links->config.self.address), "%s", address);
}

/* Puts a link among the members, by id; with the lock held. */
static tdr_status insert(struct links *links, struct link *link)
{
	size_t place = find_place(links, link->peer.id);

	if (links->closing)
		return error_set(TDR_ESHUTDOWN, "the agent of worker '%s' is shutting down", links->config.self.name);
	if (place < links->nmembers && links->members[place]->peer.id == link->peer.id) {
		links->members[place] = link;
		return TDR_OK;
	}
	if (links->nmembers == links->members_room) {
		size_t room = MAX_OF(links->members_room * 2, (size_t)FIRST_MEMBERS);
		struct link **members = realloc(links->members, room * sizeof(struct link *));

		if (!members)
			return error_nomem();
		links->members = members;
		links->members_room = room;
	}
	memmove(&links->members[place + 1], &links->members[place], (links->nmembers - place) * sizeof(struct link *));
	links->members[place] = link;
	links->nmembers++;
	return TDR_OK;
}

tdr_status links_add_member(struct links *links, const struct identity *member, void *user, struct link **ret_link)
{
	struct link *link = link_new(links, member, user);
	tdr_status status;

	if (!link)
		return error_nomem();
	pthread_mutex_lock(&links->lock);
	status = insert(links, link);
	if (status == TDR_OK) {
		list_append(&links->all, &link->node);
		*ret_link = link; /* with the lock held: the member may come in as soon as that is given up */
	}
	pthread_mutex_unlock(&links->lock);
	if (status != TDR_OK)
		link_free(link);
	return status;
}

tdr_status links_probe(struct links *links, const struct identity *worker, struct link **ret_link)
{
	struct link *link = link_new(links, worker, NULL);
	bool closing;

	if (!link)
		return error_nomem();
	link->probe = true;
	pthread_mutex_lock(&links->lock);
	closing = links->closing;
	if (!closing)
		list_append(&links->all, &link->node);
	pthread_mutex_unlock(&links->lock);
	if (closing) {
		link_free(link);
		return error_set(TDR_ESHUTDOWN, "the agent of worker '%s' is shutting down", links->config.self.name);
	}
	link_dial(link);
	*ret_link = link;
	return TDR_OK;
}

void links_admit(struct links *links)
{
	pthread_mutex_lock(&links->lock);
	links->admitting = true;
	pthread_mutex_unlock(&links->lock);
}

/* Closes the lanes of all who have not been greeted. */
static void close_arrivals(struct links *links)
{
	for (;;) {
		struct list *node;
		struct lane *lane = NULL;

		pthread_mutex_lock(&links->lock);
		node = list_shift(&links->arrivals);
		if (node) {
			links->narrivals--;
			lane = lane_ref(list_entry(node, struct arrival, node)->lane);
		}
		pthread_mutex_unlock(&links->lock);
		if (!node)
			break;
		lane_close(lane, false);
		lane_unref(lane);
	}
}

void links_close(struct links *links, bool flush)
{
	struct waiter waiter;

	pthread_mutex_lock(&links->lock);
	links->closing = true;
	pthread_mutex_unlock(&links->lock);
	if (links->listener) {
		links->listener->ops->close(links->listener);
		links->listener = NULL;
	}
	close_arrivals(links);
	list_for_each(node, &links->all)
		link_close(list_entry(node, struct link, node), flush);
	waiter_init(&waiter);
	pthread_mutex_lock(&links->lock);
	if (links->active > 0) {
		links->idle = &waiter;
		pthread_mutex_unlock(&links->lock);
		engine_wait(links->config.engine, &waiter, NULL, 0);
		pthread_mutex_lock(&links->lock);
		links->idle = NULL;
	}
	pthread_mutex_unlock(&links->lock);
}

struct links *links_free(struct links *links)
{
	if (!links)
		return NULL;
	assert(links->active == 0 && !links->listener && list_empty(&links->arrivals));
	for (struct list *node; (node = list_shift(&links->all));)
		link_free(list_entry(node, struct link, node));
	free(links->members);
	pool_unref(links->config.pool);
	pthread_mutex_destroy(&links->lock);
	free(links);
	return NULL;
}
