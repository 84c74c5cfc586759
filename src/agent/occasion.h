/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Occasions: what names a gather, and the tree that its members form. The members, in the order of their ids, are numbered from 0;
 * that index, not the id, is a place in the tree.
 */
#ifndef TENDRIL_AGENT_OCCASION_H
#define TENDRIL_AGENT_OCCASION_H

#include "value/codec.h"

enum {
	TREE_FANOUT = 4, /* children a node */
	MAX_TOPIC = 32,
};

struct occasion {
	char topic[MAX_TOPIC];
	uint32_t *ids; /* ascending; NULL: all members */
	uint32_t count;
	uint64_t sequence;
};

/* Whether topic and members are the same; the sequence may differ. */
bool occasion_same_set(const struct occasion *a, const struct occasion *b);

/* A copy with ids of its own, to be freed by free(ret_copy->ids). */
tdr_status occasion_copy(const struct occasion *occasion, struct occasion *ret_copy);

/* The id at an index, and the index of an id: UINT32_MAX where it is no member. */
uint32_t occasion_id(const struct occasion *occasion, uint32_t index);
uint32_t occasion_index(const struct occasion *occasion, uint32_t id);

uint32_t tree_parent(uint32_t index);              /* not of the root, 0 */
bool tree_contains(uint32_t index, uint32_t root); /* whether it lies in the subtree of `root` */

uint32_t tree_depth(uint32_t index); /* steps up to the root */

/* The members as bytes: nil for all, else the ids. What is read is checked against a group of `group_size`. */
void occasion_write_members(const struct occasion *occasion, struct encoder *encoder);
tdr_status occasion_read_members(struct decoder *decoder, uint32_t group_size, struct occasion *occasion);

#endif
