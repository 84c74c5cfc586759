/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Occasions: what names a gather, and the tree that its members form. The members, in the order of their ids, are numbered from 0;
 * that index, not the id, is a place in the tree.
 */
#ifndef TENDRIL_AGENT_OCCASION_H
#define TENDRIL_AGENT_OCCASION_H

#include "agent/view.h"

enum {
	TREE_FANOUT = 4, /* children a node */
	MAX_TOPIC = 32,
};

/*
 * The stamp tells a set from one with the same ids at another time: all members of a dynamic group by the epoch of their view, some
 * of them by a digest of their incarnations. In a static group it is 0.
 */
struct occasion {
	char topic[MAX_TOPIC];
	const struct view *view; /* that its members are of */
	uint32_t *ids;           /* ascending; NULL: all members of the view */
	uint32_t count;
	uint64_t stamp;
	uint64_t sequence;
};

/* Sets the view, and the stamp and count that the occasion's ids have in it. All ids must be in the view. */
void occasion_place(struct occasion *occasion, const struct view *view, bool dynamic);

/* Whether it is of all members of a dynamic group. */
bool occasion_is_of_epoch(const struct occasion *occasion, bool dynamic);

/* Whether topic and members are the same; the sequence may differ. */
bool occasion_same_set(const struct occasion *a, const struct occasion *b);

/* A copy with ids of its own, to be freed by free(ret_copy->ids). */
tdr_status occasion_copy(const struct occasion *occasion, struct occasion *ret_copy);

/* The member at an index, its id, and the index of an id: UINT32_MAX where it is no member. */
struct peer *occasion_peer(const struct occasion *occasion, uint32_t index);
uint32_t occasion_id(const struct occasion *occasion, uint32_t index);
uint32_t occasion_index(const struct occasion *occasion, uint32_t id);

uint32_t tree_parent(uint32_t index);              /* not of the root, 0 */
bool tree_contains(uint32_t index, uint32_t root); /* whether it lies in the subtree of `root` */

uint32_t tree_depth(uint32_t index); /* steps up to the root */

/* The members as bytes: nil for all, else the ids; and the stamp. What is read has no view yet; its ids are the caller's to free. */
void occasion_write_members(const struct occasion *occasion, struct encoder *encoder);
tdr_status occasion_read_members(struct decoder *decoder, struct occasion *occasion);

#endif
