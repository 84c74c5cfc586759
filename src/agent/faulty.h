/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults on purpose: what an agent of backend FAULTY does to the messages that it sends.
 *
 * A message that can be faulted has a type, by which the options `fail_messages` and `delay_messages` name it, and a content,
 * which tells it from others: the bytes that say what it asks for, without what only tells one sending from the next (its
 * call id). Each content of a type in `fail_messages` fails the first `fail_sends` times that it is sent; a message of a type in
 * `delay_messages` is held back on a timer of the engine, in order among those of the same delay.
 *
 * An agent of another backend has none of this: its `faulty` is NULL, and that is all that a send looks at.
 */
#ifndef TENDRIL_AGENT_FAULTY_H
#define TENDRIL_AGENT_FAULTY_H

#include "base/macros.h"
#include "transport/link.h"

#include <tendril/agent.h>

/* What is sent. The first three are two types each: PYTHON_ where the function's name begins with "python::", else SCRIPT_. */
enum faulty_type {
	FAULTY_NONE, /* never faulted */
	FAULTY_CALL,
	FAULTY_REMOTE_CALL,
	FAULTY_FETCH,
	FAULTY_FORK_REQUEST,
	FAULTY_CHILD_ACCEPT,
	FAULTY_USER_DELETE,
	FAULTY_CLEANUP_CONTEXT,
};

struct faulty;

/*
 * By the agent's options: its faults if its backend is FAULTY, else NULL, and TDR_EINVAL where an option is set that only FAULTY has.
 * Errors: TDR_EINVAL (a type that is none, a delay or a count below 0), TDR_ENOMEM.
 */
tdr_status faulty_new(tdr_agent *agent, struct faulty **ret_faulty);

/* Drops what is held back, and holds back no more. Before the links are closed. Takes NULL. */
void faulty_close(struct faulty *faulty);

/* After faulty_close. Takes NULL. */
struct faulty *faulty_free(struct faulty *faulty);

/* What the two below do where there are faults. */
tdr_status faulty_send_slow(struct faulty *faulty, struct link *link, enum faulty_type type, const char *function,
                            const void *content, size_t content_size, const struct message *message);
tdr_status faulty_check_slow(struct faulty *faulty, enum faulty_type type, const char *function, const void *content,
                             size_t content_size, const char *text, int64_t *ret_delay_ms);

/*
 * Sends a message as link_send does, unless it is to fail (TDR_EIO; nothing is sent) or to wait. `function` (NULL: none, which
 * counts as SCRIPT_) names it in the error, too; all is borrowed. A message that waits has been accepted: where the peer is gone by
 * the time it would go out, or we are, it is dropped; and of a call's time it takes what it waited.
 */
static inline tdr_status faulty_send(struct faulty *faulty, struct link *link, enum faulty_type type,
                                     const char *function, const void *content, size_t content_size,
                                     const struct message *message)
{
	if (likely(!faulty))
		return link_send(link, message);
	return faulty_send_slow(faulty, link, type, function, content, content_size, message);
}

/*
 * For what does not go out as a message of its own: the same failure, named `text`; else how long the caller is to hold it back, 0: not
 * at all. Each call counts as one sending.
 */
static inline tdr_status faulty_check(struct faulty *faulty, enum faulty_type type, const char *function,
                                      const void *content, size_t content_size, const char *text, int64_t *ret_delay_ms)
{
	if (likely(!faulty)) {
		*ret_delay_ms = 0;
		return TDR_OK;
	}
	return faulty_check_slow(faulty, type, function, content, content_size, text, ret_delay_ms);
}

#endif
