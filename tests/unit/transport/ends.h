/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends of lanes for tests: each counts its events, checks their order, and can be waited for. A place has an engine, a
 * pool and a listener whose lanes become ends, too.
 */
#ifndef TENDRIL_TESTS_TRANSPORT_ENDS_H
#define TENDRIL_TESTS_TRANSPORT_ENDS_H

#include "transport/transport.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define ENDS_MAX 512
#define AWAIT_MS 30000

struct end {
	struct place *place;
	struct lane *lane; /* counted */
	/* Called for each message, without the lock; NULL: none. */
	void (*handle)(struct end *end, const struct message *message);
	pthread_mutex_t lock; /* guards what follows: what has happened */
	pthread_cond_t changed;
	uint64_t messages;
	uint64_t counter; /* the handlers' own */
	unsigned opened, closed;
	tdr_status status;
	bool refused;
	bool flag; /* the handlers' own */
	char text[256];
	char wrong[256]; /* what went wrong in a handler; "": nothing */
};

struct place {
	const struct transport *transport;
	tdr_engine *engine;
	struct pool *pool;
	struct lane_config config; /* of all lanes; may be changed before they are made */
	struct listener *listener;
	char address[ADDRESS_SIZE];
	void (*handle)(struct end *end, const struct message *message); /* of accepted ends */
	struct lane_limits limits; /* of accepted lanes; zeros: those of `config` */
	bool drop;                 /* `accept` drops what comes */
	bool close_in_accept;
	pthread_mutex_t lock; /* guards `accepted` */
	pthread_cond_t changed;
	unsigned accepted;
	struct end ends[ENDS_MAX]; /* [accepted] */
};

/* A place that listens on `host`. */
struct place *place_new(const struct transport *transport, const char *host, uint32_t threads);

/*
 * Closes whatever is open, waits for all ends, and checks that nothing went wrong and that nothing is left in the pool.
 */
void place_free(struct place *place);

/* Stops listening. */
void place_close_listener(struct place *place);

/* Opens a lane to the place's own address, or to another. */
void end_open(struct end *end, struct place *place, void (*handle)(struct end *, const struct message *));
void end_open_to(struct end *end, struct place *place, const char *address, int64_t timeout_ms,
                 void (*handle)(struct end *, const struct message *));

/* Waits until it is closed, drops the lane, and checks that nothing went wrong. */
void end_finish(struct end *end);

/* The end that was accepted as number `index`. */
struct end *place_end(struct place *place, unsigned index);

/* For handlers: notes what went wrong. The first text stays. */
void end_wrong(struct end *end, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For handlers: changes of `counter` and `flag`, by which a test waits. */
void end_set_flag(struct end *end);
void end_count(struct end *end);

/* Waits until nothing is queued: a message may have arrived before its sender has noted that it is gone. */
void end_await_sent(struct end *end);

void end_send(struct end *end, uint64_t call_id, const void *body, size_t size);
void end_send_storages(struct end *end, uint64_t call_id, size_t count, tdr_storage *const storages[]);

/* A storage of `size` bytes by a pattern, and whether one has it. */
tdr_storage *patterned(size_t size, unsigned seed);
bool has_pattern(const tdr_storage *storage, size_t size, unsigned seed);

/* Waits, with the end's lock, until the condition holds; fails the test when that takes AWAIT_MS. */
#define AWAIT(of, condition)                                                                                           \
	do {                                                                                                           \
		struct end *await_ = (of);                                                                             \
		struct timespec until_ = await_deadline();                                                             \
		bool late_ = false;                                                                                    \
                                                                                                                       \
		pthread_mutex_lock(&await_->lock);                                                                     \
		while (!(condition) && !late_)                                                                         \
			late_ = !await_step(await_, &until_);                                                          \
		pthread_mutex_unlock(&await_->lock);                                                                   \
		if (late_)                                                                                             \
			fail_msg("waited in vain for: %s (wrong: %s, text: %s)", #condition, await_->wrong,            \
			         await_->text);                                                                        \
	} while (0)

struct timespec await_deadline(void);
bool await_step(struct end *end, const struct timespec *until);

#endif
