/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/occasion.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

bool occasion_same_set(const struct occasion *a, const struct occasion *b)
{
	if (strcmp(a->topic, b->topic) != 0 || a->stamp != b->stamp || a->count != b->count || !a->ids != !b->ids)
		return false;
	return !a->ids || memcmp(a->ids, b->ids, a->count * sizeof(*a->ids)) == 0;
}

tdr_status occasion_copy(const struct occasion *occasion, struct occasion *ret_copy)
{
	*ret_copy = *occasion;
	if (!occasion->ids)
		return TDR_OK;
	ret_copy->ids = malloc(occasion->count * sizeof(*occasion->ids));
	if (!ret_copy->ids)
		return error_nomem();
	memcpy(ret_copy->ids, occasion->ids, occasion->count * sizeof(*occasion->ids));
	return TDR_OK;
}

/* Of the incarnations of some members, in the order of their ids; never 0. */
static uint64_t digest(const struct view *view, const uint32_t *ids, uint32_t count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum = (sum ^ link_peer(view_by_id(view, ids[i])->link)->incarnation) * UINT64_C(0x9E3779B97F4A7C15);
	return sum ? sum : 1;
}

void occasion_place(struct occasion *occasion, const struct view *view, bool dynamic)
{
	occasion->view = view;
	if (!occasion->ids)
		occasion->count = view->count;
	occasion->stamp = !dynamic ? 0 : occasion->ids ? digest(view, occasion->ids, occasion->count) : view->epoch;
}

bool occasion_is_of_epoch(const struct occasion *occasion, bool dynamic)
{
	return dynamic && !occasion->ids;
}

struct peer *occasion_peer(const struct occasion *occasion, uint32_t index)
{
	return occasion->ids ? view_by_id(occasion->view, occasion->ids[index]) : occasion->view->members[index];
}

uint32_t occasion_id(const struct occasion *occasion, uint32_t index)
{
	return occasion->ids ? occasion->ids[index] : link_peer(occasion->view->members[index]->link)->id;
}

uint32_t occasion_index(const struct occasion *occasion, uint32_t id)
{
	uint32_t low = 0, high = occasion->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2, found = occasion_id(occasion, middle);

		if (found == id)
			return middle;
		if (found < id)
			low = middle + 1;
		else
			high = middle;
	}
	return UINT32_MAX;
}

uint32_t tree_parent(uint32_t index)
{
	return (index - 1) / TREE_FANOUT;
}

bool tree_contains(uint32_t index, uint32_t root)
{
	while (index > root)
		index = tree_parent(index);
	return index == root;
}

uint32_t tree_depth(uint32_t index)
{
	uint32_t depth = 0;

	while (index > 0) {
		index = tree_parent(index);
		depth++;
	}
	return depth;
}

void occasion_write_members(const struct occasion *occasion, struct encoder *encoder)
{
	if (occasion->ids) {
		encode_array(encoder, occasion->count);
		for (uint32_t i = 0; i < occasion->count; i++)
			encode_uint(encoder, occasion->ids[i]);
	} else {
		encode_nil(encoder);
	}
	encode_uint(encoder, occasion->stamp);
}

static tdr_status read_ids(struct decoder *decoder, struct occasion *occasion)
{
	size_t count;
	tdr_status status = decode_array(decoder, &count);

	if (status != TDR_OK)
		return status;
	if (count == 0 || count > MAX_MEMBERS)
		return error_set(TDR_EPROTO, "a set of %zu members", count);
	occasion->ids = calloc(count, sizeof(*occasion->ids));
	if (!occasion->ids)
		return error_nomem();
	for (size_t i = 0; i < count; i++) {
		status = decode_u32(decoder, &occasion->ids[i]);
		if (status != TDR_OK)
			return status;
		if (i > 0 && occasion->ids[i] <= occasion->ids[i - 1])
			return error_set(TDR_EPROTO, "a set that is not in the order of ids");
	}
	occasion->count = (uint32_t)count;
	return TDR_OK;
}

tdr_status occasion_read_members(struct decoder *decoder, struct occasion *occasion)
{
	tdr_status status = decode_is_nil(decoder) ? TDR_OK : read_ids(decoder, occasion);

	return status == TDR_OK ? decode_uint(decoder, &occasion->stamp) : status;
}
