/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store's server does, without its sockets: bytes of requests in, bytes of answers out. A service is the table that
 * all share; a session is one connection's side of the talk, and knows which version of the wire its client speaks.
 *
 * What holds:
 *   - what a session keeps is bounded: one request that is not whole yet, one wait, and answers; a session with many
 *     bytes to send reads no more requests until they are sent; and all sessions together keep to a limit;
 *   - a session that fails is to be dropped: the wire has no words for an error;
 *   - everything is used by one thread.
 */
#ifndef TENDRIL_STORE_SERVICE_H
#define TENDRIL_STORE_SERVICE_H

#include "base/buffer.h"
#include "base/list.h"
#include "store/table.h"
#include "store/waits.h"
#include "store/wire.h"

struct service {
	struct table table;
	struct waits waits;
	struct wire_limits limits;
	size_t max_answer_size; /* bytes */
	size_t max_kept;        /* bytes that all sessions together may keep */
	size_t kept;
	struct list ready; /* sessions that another's request has given an answer: to be run and sent */
};

struct session {
	struct service *service;
	struct list ready; /* on service.ready */
	struct wire_scan scan;
	struct buffer input;  /* from the first byte of the request that is not served yet */
	struct buffer output; /* not yet sent: from `sent` on */
	size_t sent;
	struct wait *wait; /* the WAIT, GET or MULTI_GET that has no answer yet */
	size_t kept;       /* this session's part of service.kept */
	bool held;         /* the request at the front is whole, and stands behind `wait` */
	bool paused;       /* there may be more to serve, once answers were sent */
	bool overrun;      /* another's request gave it an answer for which there is no room */
};

/* `max_keys` 0: any number. The values' limit sets those of requests, of answers and of all sessions. */
void service_init(struct service *service, size_t max_value_size, size_t max_keys);

/* All sessions must be gone. */
void service_fini(struct service *service);

void session_init(struct session *session, struct service *service);
void session_fini(struct session *session);

/*
 * Takes bytes that came, and serves what whole requests there are. An error's text says what was wrong: TDR_EPROTO,
 * TDR_ELIMIT, TDR_EINVAL, TDR_ENOMEM; the session must then be ended.
 */
tdr_status session_feed(struct session *session, const void *data, size_t size);

/* Serves on, when session_can_run or the session was found on service.ready. Errors: as session_feed. */
tdr_status session_run(struct session *session);

/* Whether requests stand still that could be served, since answers were sent. */
bool session_can_run(const struct session *session);

/* The bytes to send now, and what to tell when `size` of them were sent. */
struct wire_bytes session_output(const struct session *session);
void session_sent(struct session *session, size_t size);

/* Whether to read on. False while there is enough to do: many answers to be sent, or requests behind one that waits. */
bool session_wants_input(const struct session *session);

#endif
