/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links: what one agent has towards each worker of its group. A link dials when there is something to send, greets, keeps the lane
 * alive, tells a worker that is gone from one that is only out of reach, and holds back requests past the peer's credit.
 *
 * Rules. A worker that left, or whose listener refuses, or that answers under another incarnation, is gone at once. One that
 * cannot be reached is suspect until the heartbeat bound, then gone. What is gone stays gone. Events are called with no lock
 * held, and never from inside link_send.
 */
#ifndef TENDRIL_TRANSPORT_LINK_H
#define TENDRIL_TRANSPORT_LINK_H

#include "transport/transport.h"

struct link;
struct links;

/* X(name, text) */
#define LINK_STATE_LIST(X)                                                                                             \
	X(LINK_IDLE, "idle")       /* no lane, and nothing to send */                                                  \
	X(LINK_DIALING, "dialing") /* a lane is being opened and greeted, the first or one in place of a broken one */ \
	X(LINK_WAITING, "waiting") /* the peer could not be reached, or opens a lane itself: dials again soon */       \
	X(LINK_UP, "up")           /* the lane is greeted */                                                           \
	X(LINK_GONE, "gone")       /* the worker is gone */                                                            \
	X(LINK_CLOSED, "closed")   /* we left */

enum link_state {
#define LINK_STATE_ENUM(name, text) name,
	LINK_STATE_LIST(LINK_STATE_ENUM)
#undef LINK_STATE_ENUM
};

/* A member, as the group's table has it. */
struct identity {
	char name[128];
	uint32_t id;
	uint64_t incarnation;
	char address[ADDRESS_SIZE];
};

/* Why a hello is refused; the numbers cross the wire. */
enum refusal {
	REFUSED_STRANGER = 1, /* no such group, member or incarnation: the worker that was meant is gone */
	REFUSED_CROSSED = 2,  /* both ends dialled: the other lane is kept */
	REFUSED_LEAVING = 3,  /* it shuts down */
	REFUSED_EARLY = 4,    /* it does not know the caller yet: come again soon */
	REFUSED_UNKNOWN = 5,  /* it is the worker that was meant, and the caller is no member */
	REFUSED_FENCED = 6,   /* the same, and the caller was evicted */
};

struct link_events {
	/* A message of a type that links do not handle themselves. `turn`: see engine.h. */
	void (*message)(void *context, struct link *link, const struct message *message, unsigned turn);
	/* The lane broke and the worker lives: what was under way on epochs before the current one has an unknown outcome. */
	void (*broken)(void *context, struct link *link, const char *text);
	/*
	 * The worker is gone: TDR_EWORKERGONE, TDR_EUNREACHABLE, or what link_retire was given; or it does not know us:
	 * TDR_EAUTH, or TDR_EFENCED where we were evicted.
	 */
	void (*gone)(void *context, struct link *link, tdr_status status, const char *text);
	/*
	 * Somebody of our group says hello who is no member, or is gone: how to refuse it. May be called from several threads at
	 * once. NULL: as a stranger.
	 */
	enum refusal (*stranger)(void *context, const struct identity *who);
};

struct links_config {
	tdr_engine *engine;
	struct pool *pool;
	const char *group; /* members of different groups refuse each other */
	struct identity self;
	struct lane_limits limits;
	size_t credit_bytes;
	int64_t connect_timeout_ms, heartbeat_ms, heartbeat_bound_ms;
	const struct link_events *events;
	void *context;
};

struct links *links_new(const struct links_config *config);

/* Listens; sets the port that was chosen. */
tdr_status links_listen(struct links *links, const struct transport *transport, const char *host, uint16_t port,
                        uint16_t *ret_port);

/*
 * A link to a new member, or to ourselves; it takes the place of one that had the same id. Any time, any thread. It lives as long as
 * `links`; `user` is what link_user gives. Errors: TDR_ENOMEM, TDR_ESHUTDOWN.
 */
tdr_status links_add_member(struct links *links, const struct identity *member, void *user, struct link **ret_link);

/*
 * Asks whether a worker lives, as nobody. The link becomes gone soon, and link_check says: TDR_EAUTH, it lives; TDR_EWORKERGONE or
 * TDR_EUNREACHABLE, it does not. Its `user` is NULL.
 */
tdr_status links_probe(struct links *links, const struct identity *worker, struct link **ret_link);

/* Lets members in, from now on: those who came before were asked to come again. */
void links_admit(struct links *links);

/* Our id, where it is settled late: before any member is added. */
void links_set_id(struct links *links, uint32_t id);

/* The address that others reach this agent at, once it is known. */
void links_set_address(struct links *links, const char *address);

/* Tells peers that we leave and closes all lanes: after what was queued has gone out, or at once. Returns when all are closed. */
void links_close(struct links *links, bool flush);
struct links *links_free(struct links *links);

/*
 * The worker is a member no more: the link becomes gone with this status and text, unless it is already, and `gone` is called from
 * inside. Not with a lock held that `gone` takes.
 */
void link_retire(struct link *link, tdr_status status, const char *text);

const struct identity *link_peer(const struct link *link);
void *link_user(const struct link *link);
enum link_state link_state(struct link *link);
const char *link_state_name(enum link_state state);

/* TDR_OK, or the error with which link_send would fail: the worker is gone, or we left. */
tdr_status link_check(struct link *link);

/* Counts the lanes' breaks: what was sent at an epoch before the current one will not be answered. */
uint32_t link_epoch(struct link *link);

/*
 * Sends a message, or keeps it until the lane is up. Errors: TDR_EWORKERGONE, TDR_EUNREACHABLE, TDR_ESHUTDOWN, TDR_ENOMEM,
 * TDR_ELIMIT.
 */
tdr_status link_send(struct link *link, const struct message *message);

/* Whether requests have to wait for the peer's credit. */
bool link_over_credit(struct link *link);

/* Waits until they have not; false if the deadline came first. */
bool link_await_credit(struct link *link, int64_t deadline_ms);

/* A request of this cost has been taken up: its credit goes back to the peer. */
void link_took(struct link *link, size_t cost);

/* Where the peer's messages arrive, with the lane to be unref'ed by lane_unref; NULL if there is none. */
struct source *link_source(struct link *link, struct lane **ret_lane);

struct lane_stats link_stats(struct link *link);

#endif
