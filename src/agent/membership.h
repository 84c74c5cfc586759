/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Membership: joining, leaving and evicting, in a group that is dynamic; and telling the program of members who come and go, in any.
 */
#ifndef TENDRIL_AGENT_MEMBERSHIP_H
#define TENDRIL_AGENT_MEMBERSHIP_H

#include "agent/view.h"

/* What members tell each other a new view by. */
#define UPDATE_VIEW "tendril::update_view"

void membership_init(tdr_agent *agent);
void membership_fini(tdr_agent *agent);

/* Ends what runs on behalf of the membership: nothing does once it has returned. */
void membership_close(tdr_agent *agent);

/*
 * Adds this agent to the group's table, and makes the view of it. The token is held until membership_announce or
 * membership_withdraw. Errors: TDR_EEXISTS (name or id), TDR_ETIMEDOUT, and the store's.
 */
tdr_status membership_enter(tdr_agent *agent, int64_t deadline_ms);

/* Tells all other members, once calls can be made. Those who turn out to be gone are evicted. */
tdr_status membership_announce(tdr_agent *agent, int64_t deadline_ms);

/* Takes this agent out of the table again, where joining failed. */
void membership_withdraw(tdr_agent *agent);

/* Leaves: takes this agent out of the table and tells all others. What fails is written to the log. */
void membership_leave(tdr_agent *agent, int64_t deadline_ms);

/* A member is gone, or a newer view is about: looks at the table soon, and evicts who is gone. */
void membership_look(tdr_agent *agent);

/* The link to a member is gone with this status: what that means for the group. */
void membership_gone(struct peer *peer, tdr_status status, const char *text);

/* How to refuse one who says hello and is no member, as far as we know. */
enum refusal membership_stranger(tdr_agent *agent, const struct identity *who);

/* ---- member_events.c: what the program is told ---- */

/* With view_lock held. */
void member_note_changes(tdr_agent *agent, const struct view *view, const struct roster *roster);
void member_note_gone(struct peer *peer, const char *text);

#endif
