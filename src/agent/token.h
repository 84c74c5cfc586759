/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The token: who of a dynamic group joins or leaves just now; the others wait, so that names and ids can be checked in peace.
 *
 * Its holder raises a count in it about each second. Where that stands still for heartbeat_bound_ms, or nobody listens at the holder's
 * address any more, whoever waits takes the token over. A holder that has lost it so may go on: the table itself cannot be changed
 * by two at once.
 */
#ifndef TENDRIL_AGENT_TOKEN_H
#define TENDRIL_AGENT_TOKEN_H

#include "agent/internal.h"

/* Waits for the token; `action` ("join", "leave") is for those who wait in turn. TDR_ETIMEDOUT names who has it. */
tdr_status token_take(tdr_agent *agent, const char *action, int64_t deadline_ms);

/* Shows that the holder is at work; to be called at least each second. Does nothing where the agent does not hold it. */
void token_renew(tdr_agent *agent);
void token_release(tdr_agent *agent);

/* Waits for a moment, in which an engine without threads goes on. */
void agent_pause(tdr_agent *agent, int64_t milliseconds);

/* Whether the worker behind an identity has ended, as far as can be told before the deadline. */
bool worker_is_gone(tdr_agent *agent, const struct identity *who, int64_t deadline_ms);

#endif
