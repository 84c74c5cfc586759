/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interface of transports: ways for messages to cross. A transport opens lanes and listens for them; a lane carries
 * messages whole, in both directions.
 *
 * Rules for every transport. Nothing here blocks. Messages arrive in the order sent, but for those with large storages, which
 * small ones may overtake. A lane's events are called by one thread at a time, with no lock held, never from inside lane_send
 * or transport->connect. `closed` is the last event, and comes exactly once for every lane, also for one that never opened.
 */
#ifndef TENDRIL_TRANSPORT_TRANSPORT_H
#define TENDRIL_TRANSPORT_TRANSPORT_H

#include "base/pool.h"
#include "base/refcount.h"
#include "engine/engine.h"
#include "transport/message.h"

#include <tendril/status.h>

/* "tcp://10.0.0.1:4711", "tcp://[::1]:4711" */
#define ADDRESS_SIZE 128

struct lane;

struct lane_limits {
	size_t max_body_bytes;    /* of one message received */
	size_t max_message_bytes; /* with its storages */
	size_t max_storages;
};

struct lane_events {
	/* The connection stands; messages may be sent before, too: they wait. */
	void (*opened)(struct lane *lane, void *context);
	/* A message has arrived. `turn`: see engine.h. */
	void (*message)(struct lane *lane, void *context, const struct message *message, unsigned turn);
	/*
	 * The lane is over; what was not sent is dropped. TDR_OK: lane_close was called; TDR_EIO: end of file or reset;
	 * TDR_EUNREACHABLE: could not connect (`refused`: the host answered, and nobody listens there); TDR_EPROTO and
	 * TDR_ELIMIT: the peer sent what it must not. `text` says it.
	 */
	void (*closed)(struct lane *lane, void *context, tdr_status status, bool refused, const char *text);
};

struct lane_config {
	tdr_engine *engine;
	struct pool *pool;    /* for received storages */
	uint64_t incarnation; /* ours, for every head */
	struct lane_limits limits;
	const struct lane_events *events;
	void *context;
};

struct lane_stats {
	uint64_t messages_sent, messages_received;
	uint64_t bytes_sent, bytes_received;
	size_t bytes_queued; /* handed to lane_send, not yet written */
};

struct lane_ops {
	/*
	 * Sends a message; its body is copied, its storages are counted, so the caller's may go. Errors: TDR_EIO (the lane is
	 * over), TDR_ELIMIT, TDR_ENOMEM.
	 */
	tdr_status (*send)(struct lane *lane, const struct message *message);
	/* Ends the lane: after what was queued has been written (`flush`, for at most a second), or at once. `closed` follows. */
	void (*close)(struct lane *lane, bool flush);
	/* Where a waiter can read for itself; NULL where there is none. */
	struct source *(*source)(struct lane *lane);
	struct lane_stats (*stats)(struct lane *lane);
	void (*free)(struct lane *lane);
};

/* The head of every transport's lane. */
struct lane {
	const struct lane_ops *ops;
	struct refcount refs;        /* the transport holds one until `closed` has been called */
	struct lane_config config;   /* limits and events may be set anew inside an event */
	_Atomic uint64_t credit;     /* to announce in every head: bytes of the peer's requests that we have taken up */
	_Atomic uint64_t arrived;    /* of the messages sent, so many have come whole, as the peer says */
	_Atomic int64_t received_ms; /* when bytes last came */
	_Atomic int64_t sent_ms;     /* when bytes last went */
	char peer[ADDRESS_SIZE];     /* address of the other end, for messages */
};

struct lane *lane_ref(struct lane *lane);
struct lane *lane_unref(struct lane *lane);

static inline tdr_status lane_send(struct lane *lane, const struct message *message)
{
	return lane->ops->send(lane, message);
}

static inline void lane_close(struct lane *lane, bool flush)
{
	lane->ops->close(lane, flush);
}

struct listener;

struct transport {
	const char *name; /* the addresses' scheme */
	bool names_hosts; /* in its addresses; of hosts one is chosen to be told, else what is listened on is told */
	/* Why it cannot be used on this machine, or NULL if it can; NULL itself: it always can. */
	const char *(*unavailable)(void);
	/*
	 * Listens on `host` (NULL: all) and `port` (0: any). Each lane that comes is handed to `accept`, which sets its config's
	 * events, context and limits before it returns, or returns false to drop it. Errors: TDR_EIO, TDR_EINVAL.
	 */
	tdr_status (*listen)(const struct lane_config *config, const char *host, uint16_t port,
	                     bool (*accept)(void *context, struct lane *lane), void *context,
	                     struct listener **ret_listener);
	/* Starts to open a lane to `address`; gives up after `timeout_ms`. Errors: TDR_EINVAL (the address), TDR_EIO. */
	tdr_status (*connect)(const struct lane_config *config, const char *address, int64_t timeout_ms,
	                      struct lane **ret_lane);
};

extern const struct transport transport_tcp;
extern const struct transport transport_sim; /* see sim.h */

/* All transports, NULL-terminated. The first is that of addresses without a scheme. */
extern const struct transport *const transports[];

/* The transport of an address, by its scheme; NULL, with this thread's last error, where there is none of that name. */
const struct transport *transport_of(const char *address);

struct listener_ops {
	void (*close)(struct listener *listener); /* no `accept` runs after it returned; frees the listener */
};

struct listener {
	const struct listener_ops *ops;
	char host[ADDRESS_SIZE]; /* what it is bound to, without a port */
	uint16_t port;
};

#endif
