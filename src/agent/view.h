/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views: who the members are, from one change of the group to the next. A view never changes once it is published, and is read by one
 * atomic load; superseded ones are kept until the agent's end, so that whoever reads one needs neither lock nor count.
 */
#ifndef TENDRIL_AGENT_VIEW_H
#define TENDRIL_AGENT_VIEW_H

#include "agent/internal.h"
#include "agent/roster.h"

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

/*
 * Makes and publishes the view of a roster; peers and links of those who are new come to be. Where the current view is as new, or
 * newer, there is nothing to do. `*ret_new` is what was published, or NULL.
 */
tdr_status view_install(tdr_agent *agent, const struct roster *roster, const struct view **ret_new);

/* Ends all peers and views, at the agent's end. */
void views_fini(tdr_agent *agent);

#endif
