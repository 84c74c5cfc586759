/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/occasion.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

bool occasion_same_set(const struct occasion *a, const struct occasion *b)
{
	if (strcmp(a->topic, b->topic) != 0 || a->count != b->count || !a->ids != !b->ids)
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

uint32_t occasion_id(const struct occasion *occasion, uint32_t index)
{
	return occasion->ids ? occasion->ids[index] : index;
}

uint32_t occasion_index(const struct occasion *occasion, uint32_t id)
{
	uint32_t low = 0, high = occasion->count;

	if (!occasion->ids)
		return id < occasion->count ? id : UINT32_MAX;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (occasion->ids[middle] == id)
			return middle;
		if (occasion->ids[middle] < id)
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
	if (!occasion->ids) {
		encode_nil(encoder);
		return;
	}
	encode_array(encoder, occasion->count);
	for (uint32_t i = 0; i < occasion->count; i++)
		encode_uint(encoder, occasion->ids[i]);
}

tdr_status occasion_read_members(struct decoder *decoder, uint32_t group_size, struct occasion *occasion)
{
	size_t count;
	tdr_status status;

	occasion->count = group_size;
	if (decode_is_nil(decoder))
		return TDR_OK;
	status = decode_array(decoder, &count);
	if (status != TDR_OK)
		return status;
	if (count == 0 || count > occasion->count)
		return error_set(TDR_EPROTO, "a set of %zu members, of a group of %u", count, occasion->count);
	occasion->ids = calloc(count, sizeof(*occasion->ids));
	if (!occasion->ids)
		return error_nomem();
	for (size_t i = 0; i < count; i++) {
		uint64_t id;

		status = decode_uint(decoder, &id);
		if (status != TDR_OK)
			return status;
		if (id >= occasion->count || (i > 0 && id <= occasion->ids[i - 1]))
			return error_set(TDR_EPROTO, "a set that is not in the order of ids");
		occasion->ids[i] = (uint32_t)id;
	}
	occasion->count = (uint32_t)count;
	return TDR_OK;
}
