/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views: who the members are, from one change of the group to the next. A view never changes once it is published, and is read by one
 * atomic load; superseded ones are kept until the agent's end, so that whoever reads one needs neither lock nor count.
 */
#ifndef TENDRIL_AGENT_VIEW_H
#define TENDRIL_AGENT_VIEW_H

#include "agent/internal.h"

/* A member as it is written to the store. */
struct entry {
	struct identity who;
	tdr_value *description; /* counted; NULL: nothing */
};

struct view {
	uint64_t epoch; /* counts the changes; the same number means the same members to everybody */
	uint32_t count;
	struct peer **members; /* [count], ids ascending, not always contiguous */
	uint32_t *by_name;     /* [count], places in `members`, in the order of names */
	struct view *before;   /* superseded by this one */
};

static inline const struct view *agent_view(const tdr_agent *agent)
{
	return atomic_load_explicit(&agent->view, memory_order_acquire);
}

uint32_t view_count(const struct view *view); /* takes NULL: before joining there are none */

/* NULL where there is none. */
struct peer *view_by_id(const struct view *view, uint32_t id);
struct peer *view_by_name(const struct view *view, const char *name);

/* Makes and publishes the view of these members, ids ascending; peers and links of those who are new come to be. */
tdr_status view_install(tdr_agent *agent, uint64_t epoch, const struct entry *members, uint32_t count);

/* Ends all peers and views, at the agent's end. */
void views_fini(tdr_agent *agent);

/* ---- members as bytes: ENTRY_PARTS parts of an array each ---- */

#define ENTRY_PARTS 5

tdr_status entry_write(const struct entry *entry, struct encoder *encoder);
/* A description read is the caller's to drop, also on failure. */
tdr_status entry_read(struct decoder *decoder, struct entry *ret_entry);
void entries_fini(struct entry *entries, size_t count);

#endif
