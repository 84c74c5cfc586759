/* SPDX-License-Identifier: Apache-2.0 */
/* What link.c (one link's life) and links.c (the set of them) share. */
#ifndef TENDRIL_TRANSPORT_LINK_INTERNAL_H
#define TENDRIL_TRANSPORT_LINK_INTERNAL_H

#include "transport/hello.h"
#include "transport/link.h"

#include <pthread.h>

struct link {
	struct links *links;
	struct list node; /* in links->all */
	void *user;
	struct identity peer;
	bool self;
	bool probe; /* greets as nobody */

	_Atomic(struct lane *) lane; /* greeted; counted; written under the lock, compared without it */
	_Atomic uint64_t sent;       /* cost of requests sent on this lane */
	_Atomic uint64_t granted;    /* of these, taken up by the peer */
	_Atomic uint64_t window;     /* how far `sent` may be ahead */
	_Atomic uint32_t epoch;
	_Atomic bool credit_awaited;

	pthread_mutex_t lock; /* guards what follows */
	enum link_state state;
	struct lane *dial;    /* being opened by us, and not greeted; counted */
	struct list pending;  /* parcels that wait for the lane; or, to oneself, to be delivered */
	struct task delivery; /* of messages to oneself */
	bool delivering;      /* it is queued, or runs */
	struct list
	    kept; /* sent on the lane, and perhaps not arrived: parcels of messages that are sent again if it breaks */
	struct list waiters; /* for credit */
	struct timer timer;  /* heartbeats while up, giving up while dialing, dialing again while waiting */
	uint32_t lanes;      /* that have been greeted */
	bool broke;          /* a lane broke since the last one was greeted */
	unsigned breaks;
	int64_t breaks_since_ms;
	int64_t up_since_ms;      /* since when silence counts */
	int64_t beat_due_ms;      /* when `timer` should fire next */
	int64_t suspect_since_ms; /* 0: not suspect */
	int64_t retry_ms;
	int64_t heartbeat_sent_ms; /* 0: answered */
	int64_t round_trip_ms, round_trip_deviation_ms;
	uint64_t announced; /* credit that the peer was told of by a message of its own */
	tdr_status gone_status;
	char gone_text[256];
	struct lane_stats past; /* of lanes that are over */
};

struct links {
	struct links_config config;
	char group[128];
	struct listener *listener;
	pthread_mutex_t lock; /* guards what follows */
	struct list all;      /* every link, also of members who are gone; it only grows, and not once we are closing */
	struct link **members; /* [nmembers], by id: who may come in */
	size_t nmembers, members_room;
	bool admitting; /* members may come in */
	struct list arrivals;
	size_t narrivals;
	bool closing;
	size_t active;          /* lanes and timers whose last event has not come */
	struct waiter *idle;    /* who waits for `active` to reach 0 */
	uint32_t refused_lanes; /* strangers */
};

/* We, as others know us. */
struct identity links_self(struct links *links);

/* How to refuse one who is no member, and the words for it. */
enum refusal links_refuse(struct links *links, const struct identity *who, const char **ret_text);

/* Starts to open a lane, if there is none. */
void link_dial(struct link *link);

void links_hold(struct links *links);
void links_drop(struct links *links); /* `links` may be gone afterwards */

struct link *link_new(struct links *links, const struct identity *peer, void *user);
void link_free(struct link *link);

/* The peer has opened `lane` (its reference is taken over on success) and said hello. False: it was refused. */
bool link_adopt(struct link *link, struct lane *lane, const struct hello *hello);

/* Those who wait for credit are to look again; with the lock held. */
void link_wake_credit_waiters(struct link *link);

/* The peer has taken up requests of this cost, on this lane, all in all. */
void link_update_credit(struct link *link, uint64_t credit);

/* We leave. */
void link_close(struct link *link, bool flush);

#endif
