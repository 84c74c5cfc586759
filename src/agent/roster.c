/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/roster.h"

#include "base/error.h"
#include "base/macros.h"

#include <stdlib.h>
#include <string.h>

enum {
	ROSTER_VERSION = 1,
	HEAD_PARTS = 5, /* version, lineage, epoch, how many members, how many departures */
	DEPARTURE_PARTS = 4,
};

void entries_fini(struct entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++)
		tdr_value_unref(entries[i].description);
	free(entries);
}

void roster_fini(struct roster *roster)
{
	entries_fini(TAKE_PTR(roster->members), roster->count);
	roster->count = 0;
}

uint32_t roster_find(const struct roster *roster, uint64_t incarnation)
{
	for (uint32_t i = 0; i < roster->count; i++)
		if (roster->members[i].who.incarnation == incarnation)
			return i;
	return UINT32_MAX;
}

tdr_status roster_add(struct roster *roster, const struct entry *entry)
{
	struct entry *members = realloc(roster->members, (roster->count + 1) * sizeof(*members));
	uint32_t place = 0;

	if (!members)
		return error_nomem();
	roster->members = members;
	while (place < roster->count && members[place].who.id < entry->who.id)
		place++;
	memmove(&members[place + 1], &members[place], (roster->count - place) * sizeof(*members));
	members[place] = *entry;
	tdr_value_ref(entry->description);
	roster->count++;
	return TDR_OK;
}

void roster_remove(struct roster *roster, uint32_t place, bool evicted)
{
	const struct identity *who = &roster->members[place].who;
	struct departure *departures = roster->departures;

	if (roster->ndepartures == MAX_DEPARTURES)
		memmove(departures, departures + 1, --roster->ndepartures * sizeof(*departures));
	departures[roster->ndepartures++] = (struct departure){
	    .id = who->id,
	    .incarnation = who->incarnation,
	    .epoch = roster->epoch,
	    .evicted = evicted,
	};
	tdr_value_unref(roster->members[place].description);
	roster->count--;
	memmove(&roster->members[place], &roster->members[place + 1],
	        (roster->count - place) * sizeof(*roster->members));
}

const struct departure *roster_departure(const struct roster *roster, uint64_t incarnation)
{
	for (uint32_t i = 0; i < roster->ndepartures; i++)
		if (roster->departures[i].incarnation == incarnation)
			return &roster->departures[i];
	return NULL;
}

/* ---- as bytes ---- */

tdr_status entry_write(const struct entry *entry, struct encoder *encoder)
{
	const struct identity *who = &entry->who;

	encode_string(encoder, who->name, strlen(who->name));
	encode_uint(encoder, who->id);
	encode_uint(encoder, who->incarnation);
	encode_string(encoder, who->address, strlen(who->address));
	if (entry->description)
		return encode_value_as(encoder, entry->description, "description");
	encode_nil(encoder);
	return TDR_OK;
}

tdr_status entry_read(struct decoder *decoder, struct entry *ret_entry)
{
	struct identity *who = &ret_entry->who;
	tdr_status status = decode_text(decoder, who->name, sizeof(who->name));

	if (status == TDR_OK)
		status = decode_u32(decoder, &who->id);
	if (status == TDR_OK)
		status = decode_uint(decoder, &who->incarnation);
	if (status == TDR_OK)
		status = decode_text(decoder, who->address, sizeof(who->address));
	if (status == TDR_OK && !decode_is_nil(decoder))
		status = decode_value(decoder, &ret_entry->description);
	return status;
}

tdr_status roster_write(const struct roster *roster, struct encoder *encoder)
{
	tdr_status status = TDR_OK;

	encode_array(encoder,
	             HEAD_PARTS + (size_t)roster->count * ENTRY_PARTS + (size_t)roster->ndepartures * DEPARTURE_PARTS);
	encode_uint(encoder, ROSTER_VERSION);
	encode_uint(encoder, roster->lineage);
	encode_uint(encoder, roster->epoch);
	encode_uint(encoder, roster->count);
	encode_uint(encoder, roster->ndepartures);
	for (uint32_t i = 0; i < roster->count && status == TDR_OK; i++)
		status = entry_write(&roster->members[i], encoder);
	for (uint32_t i = 0; i < roster->ndepartures; i++) {
		const struct departure *departure = &roster->departures[i];

		encode_uint(encoder, departure->id);
		encode_uint(encoder, departure->incarnation);
		encode_uint(encoder, departure->epoch);
		encode_bool(encoder, departure->evicted);
	}
	return status == TDR_OK && encoder->body.failed ? error_nomem() : status;
}

static tdr_status read_head(struct decoder *decoder, struct roster *roster, uint32_t *ret_count)
{
	uint32_t version = 0;
	size_t parts;
	tdr_status status = decode_array(decoder, &parts);

	if (status == TDR_OK)
		status = decode_u32(decoder, &version);
	if (status == TDR_OK && version != ROSTER_VERSION)
		return error_set(TDR_EVERSION, "a table of members of version %u, not %d: the members' builds differ",
		                 version, ROSTER_VERSION);
	if (status == TDR_OK)
		status = decode_uint(decoder, &roster->lineage);
	if (status == TDR_OK)
		status = decode_uint(decoder, &roster->epoch);
	if (status == TDR_OK)
		status = decode_u32(decoder, ret_count);
	if (status == TDR_OK)
		status = decode_u32(decoder, &roster->ndepartures);
	if (status != TDR_OK)
		return status;
	if (*ret_count > MAX_MEMBERS || roster->ndepartures > MAX_DEPARTURES ||
	    parts != HEAD_PARTS + (size_t)*ret_count * ENTRY_PARTS + (size_t)roster->ndepartures * DEPARTURE_PARTS)
		return error_set(TDR_EPROTO, "%zu parts, with %u members and %u departures", parts, *ret_count,
		                 roster->ndepartures);
	return TDR_OK;
}

static tdr_status read_members(struct decoder *decoder, struct roster *roster, uint32_t count)
{
	tdr_status status = TDR_OK;

	roster->members = calloc(MAX_OF(count, 1u), sizeof(*roster->members));
	if (!roster->members)
		return error_nomem();
	roster->count = count;
	for (uint32_t i = 0; i < count && status == TDR_OK; i++) {
		status = entry_read(decoder, &roster->members[i]);
		if (status == TDR_OK && i > 0 && roster->members[i].who.id <= roster->members[i - 1].who.id)
			status = error_set(TDR_EPROTO, "members that are not in the order of ids");
	}
	return status;
}

static tdr_status read_departures(struct decoder *decoder, struct roster *roster)
{
	tdr_status status = TDR_OK;

	for (uint32_t i = 0; i < roster->ndepartures && status == TDR_OK; i++) {
		struct departure *departure = &roster->departures[i];

		status = decode_u32(decoder, &departure->id);
		if (status == TDR_OK)
			status = decode_uint(decoder, &departure->incarnation);
		if (status == TDR_OK)
			status = decode_uint(decoder, &departure->epoch);
		if (status == TDR_OK)
			status = decode_bool(decoder, &departure->evicted);
	}
	return status;
}

tdr_status roster_read(const void *data, size_t size, struct roster *ret_roster)
{
	struct roster roster = {0};
	struct decoder decoder;
	uint32_t count = 0;
	tdr_status status;

	if (size == 0) {
		*ret_roster = roster;
		return TDR_OK;
	}
	decoder_init(&decoder, &codec_default_limits, data, size, NULL, 0);
	status = read_head(&decoder, &roster, &count);
	if (status == TDR_OK)
		status = read_members(&decoder, &roster, count);
	if (status == TDR_OK)
		status = read_departures(&decoder, &roster);
	if (status == TDR_OK)
		status = decode_end(&decoder);
	if (status != TDR_OK) {
		roster_fini(&roster);
		return error_prefix(status, "the table of members");
	}
	*ret_roster = roster;
	return TDR_OK;
}
