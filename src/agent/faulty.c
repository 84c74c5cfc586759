/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults on purpose. Design notes.
 *
 * Contents are known by a keyed hash of 64 bits, the last MAX_CONTENTS of them: one that was forgotten, since so many others have been
 * sent after it was first seen, fails again. Messages that wait lie in a queue for each delay, in the order they were sent, which
 * is that in which they are due; one timer a queue. A queue that is not empty, or whose timer runs, holds the agent.
 */
#include "agent/faulty.h"

#include "agent/internal.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "transport/parcel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* X(name): the types, as options name them. */
#define NAMED_TYPE_LIST(X)                                                                                             \
	X(SCRIPT_CALL)                                                                                                 \
	X(PYTHON_CALL)                                                                                                 \
	X(SCRIPT_REMOTE_CALL)                                                                                          \
	X(PYTHON_REMOTE_CALL)                                                                                          \
	X(SCRIPT_RREF_FETCH_CALL)                                                                                      \
	X(PYTHON_RREF_FETCH_CALL)                                                                                      \
	X(RREF_FORK_REQUEST)                                                                                           \
	X(RREF_CHILD_ACCEPT)                                                                                           \
	X(RREF_USER_DELETE)                                                                                            \
	X(CLEANUP_AUTOGRAD_CONTEXT_REQ)

enum named_type {
#define NAMED_TYPE_ENUM(name) NAMED_##name,
	NAMED_TYPE_LIST(NAMED_TYPE_ENUM)
#undef NAMED_TYPE_ENUM
	NAMED_COUNT,
};

static const char *const type_names[] = {
#define NAMED_TYPE_NAME(name) #name,
    NAMED_TYPE_LIST(NAMED_TYPE_NAME)
#undef NAMED_TYPE_NAME
};

#define PYTHON_PREFIX "python::"

enum {
	MAX_CONTENTS = 4096, /* a power of two */
	MAX_DELAY_S = 1000000,
};

/* ---- what it holds ---- */

struct content {
	uint64_t hash;
	uint32_t next; /* in its bucket: index + 1, or 0 */
	uint64_t failed;
};

/* The contents seen last: a ring in the order they were seen first, and buckets to find them by. */
struct contents {
	size_t count;                   /* of all that were ever put in */
	uint32_t buckets[MAX_CONTENTS]; /* index + 1, or 0 */
	struct content ring[MAX_CONTENTS];
};

/* A message that waits: what its parcel needs beside the message. */
struct held {
	struct list node;
	struct parcel *parcel;
	struct link *link;
	int64_t sent_ms, due_ms;
};

struct queue {
	struct faulty *faulty;
	struct timer timer;
	struct list held;
	int64_t delay_ms;
	bool armed; /* its timer is set, or fires: then it holds the agent */
};

struct faulty {
	tdr_agent *agent;
	bool fails[NAMED_COUNT];
	struct queue *delays[NAMED_COUNT]; /* NULL: none */
	uint64_t fail_sends;
	struct contents *contents; /* NULL where nothing fails */
	pthread_mutex_t lock;      /* guards the contents, the queues' lists and `armed`, and `closed` */
	size_t nqueues;
	struct queue queues[NAMED_COUNT];
	bool closed;
};

/* ---- options ---- */

static tdr_status find_type(const char *name, size_t size, const char *option, enum named_type *ret_type)
{
	for (size_t i = 0; i < NAMED_COUNT; i++) {
		if (strlen(type_names[i]) != size || memcmp(type_names[i], name, size) != 0)
			continue;
		*ret_type = (enum named_type)i;
		return TDR_OK;
	}
	return error_set(TDR_EINVAL, "option %s: No mapping to rpc::MessageType exists for %.*s", option, (int)size,
	                 name);
}

/* The next item of a list with commas, without the blanks around it; false at the end. Empty items are passed over. */
static bool next_item(const char **at, const char **ret_item, size_t *ret_size)
{
	const char *blanks = " \t";
	size_t size;

	*at += strspn(*at, " \t,");
	if (!**at)
		return false;
	size = strcspn(*at, ",");
	*ret_item = *at;
	*at += size;
	while (size > 0 && strchr(blanks, (*ret_item)[size - 1]))
		size--;
	*ret_size = size;
	return true;
}

/* Seconds with a decimal point, whatever the locale, as milliseconds. False where it is no number, or past MAX_DELAY_S. */
static bool read_seconds(const char *text, size_t size, int64_t *ret_ms)
{
	bool negative = size > 0 && text[0] == '-', point = false, digits = false;
	int64_t ms = 0, unit = 1000;

	for (size_t i = negative; i < size; i++) {
		if (text[i] == '.' && !point) {
			point = true;
		} else if (text[i] < '0' || text[i] > '9') {
			return false;
		} else if (point) {
			digits = true;
			unit /= 10;
			ms += (text[i] - '0') * unit;
		} else {
			digits = true;
			ms = ms * 10 + (text[i] - '0') * unit;
			if (ms > (int64_t)MAX_DELAY_S * 1000)
				return false;
		}
	}
	*ret_ms = negative ? -ms : ms;
	return digits;
}

static tdr_status parse_failing(struct faulty *faulty, const char *text)
{
	const char *item;
	size_t size;

	while (next_item(&text, &item, &size)) {
		enum named_type type;
		tdr_status status = find_type(item, size, "fail_messages", &type);

		if (status != TDR_OK)
			return status;
		faulty->fails[type] = true;
	}
	return TDR_OK;
}

static void fire(struct timer *timer);

/* Types of one delay share a queue, so that their order is kept. */
static struct queue *queue_of(struct faulty *faulty, int64_t delay_ms)
{
	struct queue *queue;

	for (size_t i = 0; i < faulty->nqueues; i++)
		if (faulty->queues[i].delay_ms == delay_ms)
			return &faulty->queues[i];
	queue = &faulty->queues[faulty->nqueues++];
	queue->faulty = faulty;
	queue->delay_ms = delay_ms;
	list_init(&queue->held);
	timer_init(&queue->timer, fire);
	return queue;
}

static tdr_status parse_delays(struct faulty *faulty, const char *text)
{
	int64_t delays[NAMED_COUNT] = {0};
	const char *item;
	size_t size;

	while (next_item(&text, &item, &size)) {
		const char *equals = memchr(item, '=', size);
		size_t name_size = equals ? (size_t)(equals - item) : size;
		enum named_type type;
		int64_t delay_ms;
		tdr_status status = find_type(item, name_size, "delay_messages", &type);

		if (status != TDR_OK)
			return status;
		if (!equals || !read_seconds(equals + 1, size - name_size - 1, &delay_ms))
			return error_set(
			    TDR_EINVAL,
			    "option delay_messages has '%.*s': write %s=SECONDS, at most %d, such as %s=1.5", (int)size,
			    item, type_names[type], MAX_DELAY_S, type_names[type]);
		if (delay_ms < 0)
			return error_set(
			    TDR_EINVAL,
			    "Delays passed to the FAULTY agent must be non-negative: option delay_messages "
			    "has '%.*s'",
			    (int)size, item);
		delays[type] = delay_ms;
	}
	for (size_t i = 0; i < NAMED_COUNT; i++)
		if (delays[i] > 0)
			faulty->delays[i] = queue_of(faulty, delays[i]);
	return TDR_OK;
}

/* ---- life ---- */

static tdr_status refuse_options(const tdr_agent_options *options)
{
	const char *option = options->fail_messages    ? "fail_messages"
	                     : options->delay_messages ? "delay_messages"
	                     : options->fail_sends     ? "fail_sends"
	                                               : NULL;

	if (!option)
		return TDR_OK;
	return error_set(TDR_EINVAL,
	                 "option %s is only for backend FAULTY, and the option backend is %s: set it to FAULTY "
	                 "(TENDRIL_BACKEND=FAULTY), or leave %s alone",
	                 option, options->backend ? options->backend : "unset, which means TENDRIL", option);
}

tdr_status faulty_new(tdr_agent *agent, struct faulty **ret_faulty)
{
	const tdr_agent_options *options = &agent->options;
	struct faulty *faulty;
	tdr_status status = TDR_OK;

	*ret_faulty = NULL;
	if (!options->backend || strcmp(options->backend, "FAULTY") != 0)
		return refuse_options(options);
	if (options->fail_sends < 0)
		return error_set(TDR_EINVAL, "numFailSends should be non-negative, but option fail_sends is %lld",
		                 (long long)options->fail_sends);
	faulty = calloc(1, sizeof(*faulty));
	if (!faulty)
		return error_nomem();
	pthread_mutex_init(&faulty->lock, NULL);
	faulty->agent = agent;
	faulty->fail_sends = (uint64_t)options->fail_sends;
	if (options->fail_messages)
		status = parse_failing(faulty, options->fail_messages);
	if (status == TDR_OK && options->delay_messages)
		status = parse_delays(faulty, options->delay_messages);
	if (status == TDR_OK && options->fail_messages && faulty->fail_sends > 0) {
		faulty->contents = calloc(1, sizeof(*faulty->contents));
		status = faulty->contents ? TDR_OK : error_nomem();
	}
	if (status != TDR_OK) {
		faulty_free(faulty);
		return status;
	}
	LOG(TDR_LOG_INFO, "event=faulty worker=%s fail_messages=%s fail_sends=%lld delay_messages=%s", agent->name,
	    options->fail_messages ? options->fail_messages : "", (long long)options->fail_sends,
	    options->delay_messages ? options->delay_messages : "");
	*ret_faulty = faulty;
	return TDR_OK;
}

static void held_free(struct held *held)
{
	parcel_free(held->parcel);
	free(held);
}

void faulty_close(struct faulty *faulty)
{
	struct list dropped;
	unsigned holds = 0;

	if (!faulty)
		return;
	list_init(&dropped);
	pthread_mutex_lock(&faulty->lock);
	faulty->closed = true;
	for (size_t i = 0; i < faulty->nqueues; i++) {
		struct queue *queue = &faulty->queues[i];

		list_splice(&dropped, &queue->held);
		/* One that fires already finds the queue empty, and lets the agent go itself. */
		if (queue->armed && timer_clear(faulty->agent->engine, &queue->timer)) {
			queue->armed = false;
			holds++;
		}
	}
	pthread_mutex_unlock(&faulty->lock);
	for (struct list *node; (node = list_shift(&dropped));)
		held_free(list_entry(node, struct held, node));
	while (holds-- > 0)
		agent_drop(faulty->agent); /* never the last: who leaves holds it, too */
}

struct faulty *faulty_free(struct faulty *faulty)
{
	if (!faulty)
		return NULL;
	free(faulty->contents);
	pthread_mutex_destroy(&faulty->lock);
	free(faulty);
	return NULL;
}

/* ---- failing ---- */

/* Finds a content, or puts it in, in place of the oldest; with the lock held. */
static struct content *content_of(struct contents *contents, uint64_t hash)
{
	uint32_t *bucket = &contents->buckets[hash % MAX_CONTENTS];
	uint32_t place = (uint32_t)(contents->count % MAX_CONTENTS);
	struct content *content = &contents->ring[place];

	for (uint32_t at = *bucket; at; at = contents->ring[at - 1].next)
		if (contents->ring[at - 1].hash == hash)
			return &contents->ring[at - 1];
	if (contents->count >= MAX_CONTENTS) {
		uint32_t *link = &contents->buckets[content->hash % MAX_CONTENTS];

		while (*link != place + 1)
			link = &contents->ring[*link - 1].next;
		*link = content->next;
	}
	contents->count++;
	*content = (struct content){.hash = hash, .next = *bucket};
	*bucket = place + 1;
	return content;
}

static bool fails_now(struct faulty *faulty, enum named_type type, const char *function, const void *content,
                      size_t content_size)
{
	struct content *known;
	uint64_t parts[3];
	bool fails;

	if (!faulty->contents || !faulty->fails[type])
		return false;
	parts[0] = type;
	parts[1] = function ? hash_bytes(function, strlen(function)) : 0;
	parts[2] = hash_bytes(content, content_size);
	pthread_mutex_lock(&faulty->lock);
	known = content_of(faulty->contents, hash_bytes(parts, sizeof(parts)));
	fails = known->failed < faulty->fail_sends;
	known->failed += fails;
	pthread_mutex_unlock(&faulty->lock);
	return fails;
}

/* ---- which type ---- */

/* False for what is never faulted. */
static bool name_type(enum faulty_type type, const char *function, enum named_type *ret_type)
{
	bool python = function && strncmp(function, PYTHON_PREFIX, strlen(PYTHON_PREFIX)) == 0;

	switch (type) {
	case FAULTY_NONE:
		return false;
	case FAULTY_CALL:
		*ret_type = python ? NAMED_PYTHON_CALL : NAMED_SCRIPT_CALL;
		return true;
	case FAULTY_REMOTE_CALL:
		*ret_type = python ? NAMED_PYTHON_REMOTE_CALL : NAMED_SCRIPT_REMOTE_CALL;
		return true;
	case FAULTY_FETCH:
		*ret_type = python ? NAMED_PYTHON_RREF_FETCH_CALL : NAMED_SCRIPT_RREF_FETCH_CALL;
		return true;
	case FAULTY_FORK_REQUEST:
		*ret_type = NAMED_RREF_FORK_REQUEST;
		return true;
	case FAULTY_CHILD_ACCEPT:
		*ret_type = NAMED_RREF_CHILD_ACCEPT;
		return true;
	case FAULTY_USER_DELETE:
		*ret_type = NAMED_RREF_USER_DELETE;
		return true;
	case FAULTY_CLEANUP_CONTEXT:
		*ret_type = NAMED_CLEANUP_AUTOGRAD_CONTEXT_REQ;
		return true;
	}
	return false;
}

tdr_status faulty_check_slow(struct faulty *faulty, enum faulty_type type, const char *function, const void *content,
                             size_t content_size, const char *text, int64_t *ret_delay_ms)
{
	enum named_type named;

	if (!name_type(type, function, &named)) {
		*ret_delay_ms = 0;
		return TDR_OK;
	}
	if (fails_now(faulty, named, function, content, content_size))
		return error_set(TDR_EIO, "RPCErr:2:Send attempt failed intentionally for %s: %s", type_names[named],
		                 text);
	*ret_delay_ms = faulty->delays[named] ? faulty->delays[named]->delay_ms : 0;
	return TDR_OK;
}

/* ---- delaying ---- */

/*
 * Sends what has waited. Nobody is left to be told of a failure: a call whose peer is gone has been failed by that already, and
 * one that memory ran out for fails at its deadline.
 */
static void send_held(struct held *held)
{
	struct message *message = &held->parcel->message;
	int64_t waited_ms = clock_ms() - held->sent_ms;
	tdr_status status;

	if (message->time_left_ms) /* at least 1: 0 is no deadline */
		message->time_left_ms = (uint32_t)MAX_OF((int64_t)message->time_left_ms - waited_ms, (int64_t)1);
	status = link_send(held->link, message);
	if (status != TDR_OK)
		LOG(status == TDR_ENOMEM ? TDR_LOG_WARN : TDR_LOG_DEBUG,
		    "event=delayed_message_dropped peer=%s type=%s error=\"%s\"", link_peer(held->link)->name,
		    message_type_name(message->type), tdr_last_error());
	held_free(held);
}

/* Moves those that are due to `due`. */
static void take_due(struct queue *queue, struct list *due)
{
	int64_t now = clock_ms();

	pthread_mutex_lock(&queue->faulty->lock);
	list_for_each_safe(node, &queue->held) {
		if (list_entry(node, struct held, node)->due_ms > now)
			break;
		list_remove(node);
		list_append(due, node);
	}
	pthread_mutex_unlock(&queue->faulty->lock);
}

/* Until it sets its timer anew, no other thread fires the same queue: what it sends stays in order. */
static void fire(struct timer *timer)
{
	struct queue *queue = container_of(timer, struct queue, timer);
	struct faulty *faulty = queue->faulty;
	struct list due;
	bool more;

	list_init(&due);
	take_due(queue, &due);
	for (struct list *node; (node = list_shift(&due));)
		send_held(list_entry(node, struct held, node));
	pthread_mutex_lock(&faulty->lock);
	more = queue->armed = !list_empty(&queue->held);
	if (more) /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it cannot know that what was freed is on no list */
		timer_set(faulty->agent->engine, timer, list_entry(queue->held.next, struct held, node)->due_ms);
	pthread_mutex_unlock(&faulty->lock);
	if (!more)
		agent_drop(faulty->agent); /* perhaps the last, and `faulty` is gone with it */
}

static tdr_status hold_back(struct queue *queue, struct link *link, const struct message *message)
{
	struct faulty *faulty = queue->faulty;
	struct held *held;
	tdr_status status = link_check(link);

	/* A peer that goes later fails the call itself, which its caller has noted before it came here. */
	if (status != TDR_OK)
		return status;
	held = calloc(1, sizeof(*held));
	if (!held || !(held->parcel = parcel_new(message))) {
		free(held);
		return error_nomem();
	}
	held->link = link;
	pthread_mutex_lock(&faulty->lock);
	if (faulty->closed) {
		pthread_mutex_unlock(&faulty->lock);
		held_free(held);
		return error_set(TDR_ESHUTDOWN, "agent '%s' has been shut down", faulty->agent->name);
	}
	held->sent_ms = clock_ms(); /* with the lock held: the order of the queue is that of the times */
	held->due_ms = held->sent_ms + queue->delay_ms;
	list_append(&queue->held, &held->node);
	if (!queue->armed) {
		queue->armed = true;
		agent_hold(faulty->agent);
		timer_set(faulty->agent->engine, &queue->timer, held->due_ms);
	}
	pthread_mutex_unlock(&faulty->lock);
	return TDR_OK;
}

tdr_status faulty_send_slow(struct faulty *faulty, struct link *link, enum faulty_type type, const char *function,
                            const void *content, size_t content_size, const struct message *message)
{
	enum named_type named;

	if (!name_type(type, function, &named))
		return link_send(link, message);
	if (fails_now(faulty, named, function, content, content_size))
		return error_set(TDR_EIO, "RPCErr:2:Send attempt failed intentionally for %s%s%s to worker '%s'",
		                 type_names[named], function ? " of " : "", function ? function : "",
		                 link_peer(link)->name);
	return faulty->delays[named] ? hold_back(faulty->delays[named], link, message) : link_send(link, message);
}
