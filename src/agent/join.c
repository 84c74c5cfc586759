/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Meeting the group: how members find each other through the store.
 *
 * Each member writes a record (name, rank, size of the group, incarnation, address) under its rank. Rank 0 reads them all, checks
 * that they agree, and writes the verdict: the table of members, or what is wrong; everybody else reads it. So all members
 * succeed or fail alike, and an error names who is missing. A rank's n-th joining of a group goes by keys with n in them, so
 * that a store can serve one run after the other. In a dynamic group, membership.c does the rest.
 */
#include "agent/membership.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "store/store.h"
#include "transport/address.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define KIND_KEY "kind"

enum {
	VERDICT_GRACE_MS = 2000, /* beyond the deadline, for rank 0 to say who is missing */
	LEFT_MS = 500,           /* to tell the store that we have left */
	MAX_GROUP = 127,         /* bytes of a group's name */
};

struct record {
	struct entry entry;
	uint32_t world_size;
};

/* ---- records and verdicts as bytes ---- */

static tdr_status read_record(const tdr_blob *blob, struct record *ret_record)
{
	struct decoder decoder;
	size_t parts;
	tdr_status status;

	decoder_init(&decoder, &codec_default_limits, blob->data, blob->size, NULL, 0);
	status = decode_array(&decoder, &parts);
	if (status == TDR_OK && parts != ENTRY_PARTS + 1)
		status = error_set(TDR_EPROTO, "%zu parts, not %d", parts, ENTRY_PARTS + 1);
	if (status == TDR_OK)
		status = entry_read(&decoder, &ret_record->entry);
	if (status == TDR_OK)
		status = decode_u32(&decoder, &ret_record->world_size);
	if (status == TDR_OK)
		status = decode_end(&decoder);
	return status;
}

static tdr_status set_encoded(tdr_store *store, const char *key, struct encoder *encoder)
{
	tdr_status status =
	    encoder->body.failed ? error_nomem() : tdr_store_set(store, key, encoder->body.data, encoder->body.size);

	encoder_fini(encoder);
	return status;
}

static tdr_status write_record(tdr_agent *agent, const char *key, uint32_t world_size)
{
	const struct entry entry = {.who = agent->self, .description = agent->description};
	struct encoder encoder;
	tdr_status status;

	encoder_init(&encoder, &codec_default_limits);
	encode_array(&encoder, ENTRY_PARTS + 1);
	status = entry_write(&entry, &encoder);
	if (status != TDR_OK) {
		encoder_fini(&encoder);
		return status;
	}
	encode_uint(&encoder, world_size);
	return set_encoded(agent->store, key, &encoder);
}

static tdr_status write_verdict(tdr_agent *agent, const char *key, tdr_status verdict, const char *text,
                                const struct entry *members, uint32_t count)
{
	struct encoder encoder;
	tdr_status status = TDR_OK;

	encoder_init(&encoder, &codec_default_limits);
	encode_array(&encoder, 2 + ENTRY_PARTS * (verdict == TDR_OK ? count : 0));
	encode_uint(&encoder, verdict);
	encode_string(&encoder, text, strlen(text));
	for (uint32_t i = 0; verdict == TDR_OK && status == TDR_OK && i < count; i++)
		status = entry_write(&members[i], &encoder);
	if (status != TDR_OK) {
		encoder_fini(&encoder);
		return status;
	}
	return set_encoded(agent->store, key, &encoder);
}

static tdr_status read_verdict(const tdr_blob *blob, struct entry *members, uint32_t count)
{
	char text[ERROR_TEXT_SIZE];
	struct decoder decoder;
	uint32_t verdict = 0;
	size_t parts;
	tdr_status status;

	decoder_init(&decoder, &codec_default_limits, blob->data, blob->size, NULL, 0);
	status = decode_array(&decoder, &parts);
	if (status == TDR_OK)
		status = decode_u32(&decoder, &verdict);
	if (status == TDR_OK)
		status = decode_text(&decoder, text, sizeof(text));
	if (status == TDR_OK && verdict != TDR_OK)
		return error_set((tdr_status)verdict, "%s", text);
	if (status == TDR_OK && parts != 2 + (size_t)count * ENTRY_PARTS)
		status =
		    error_set(TDR_EMISMATCH, "the group has %zu members, not %u", (parts - 2) / ENTRY_PARTS, count);
	for (uint32_t i = 0; status == TDR_OK && i < count; i++)
		status = entry_read(&decoder, &members[i]);
	for (uint32_t i = 0; status == TDR_OK && i < count; i++)
		if (members[i].who.id != i)
			status = error_set(TDR_EPROTO, "the table of members has rank %u in the place of %u",
			                   members[i].who.id, i);
	return status == TDR_OK ? decode_end(&decoder) : status;
}

/* ---- checks ---- */

static int64_t left_ms(int64_t deadline_ms)
{
	return deadline_ms ? MAX_OF(deadline_ms - clock_ms(), (int64_t)1) : TDR_TIMEOUT_NEVER;
}

static void member_key(char *key, size_t size, uint64_t round, uint32_t rank)
{
	snprintf(key, size, "%" PRIu64 "/member/%u", round, rank);
}

/* "ranks 1, 3": those whose record is not there. False if none is missing. */
static bool print_missing(tdr_agent *agent, uint64_t round, uint32_t world_size, char *buffer, size_t size)
{
	size_t at = 0;

	for (uint32_t rank = 0; rank < world_size && at < size; rank++) {
		char key[64];
		const char *keys[] = {key};
		bool there = false;

		member_key(key, sizeof(key), round, rank);
		if (tdr_store_check(agent->store, 1, keys, &there) != TDR_OK || there)
			continue;
		at += (size_t)snprintf(buffer + at, size - at, "%s%u", at > 0 ? ", " : "rank ", rank);
	}
	return at > 0;
}

static tdr_status timed_out(tdr_agent *agent, uint64_t round, uint32_t world_size)
{
	char missing[512];

	if (!print_missing(agent, round, world_size, missing, sizeof(missing)))
		snprintf(missing, sizeof(missing), "nobody; but rank 0 has given no verdict");
	return error_set(TDR_ETIMEDOUT, "the group of %u did not come together within %lld ms; missing: %s", world_size,
	                 (long long)agent->options.join_timeout_ms, missing);
}

static tdr_status check_record(const struct record *record, const struct entry *members, uint32_t rank,
                               uint32_t world_size)
{
	const struct identity *who = &record->entry.who;

	if (record->world_size != world_size)
		return error_set(TDR_EMISMATCH,
		                 "the members disagree over the group's size: rank 0 says %u, rank %u ('%s') "
		                 "says %u",
		                 world_size, rank, who->name, record->world_size);
	if (who->id != rank)
		return error_set(TDR_EPROTO, "the record of rank %u says rank %u", rank, who->id);
	for (uint32_t i = 0; i < rank; i++)
		if (strcmp(members[i].who.name, who->name) == 0)
			return error_set(TDR_EEXISTS,
			                 "RPC worker name %s is not unique. Workers %u and %u share the same name.",
			                 who->name, i, rank);
	return TDR_OK;
}

/* Rank 0 reads all records, in order. */
static tdr_status collect(tdr_agent *agent, uint64_t round, uint32_t world_size, int64_t deadline_ms,
                          struct entry *members)
{
	tdr_status verdict = TDR_OK;

	for (uint32_t rank = 0; rank < world_size && verdict == TDR_OK; rank++) {
		struct record record = {0};
		tdr_blob blob;
		char key[64];

		member_key(key, sizeof(key), round, rank);
		verdict = tdr_store_get(agent->store, key, left_ms(deadline_ms), &blob);
		if (verdict == TDR_ETIMEDOUT)
			return timed_out(agent, round, world_size);
		if (verdict != TDR_OK)
			return error_prefix(verdict, "reading the record of rank %u", rank);
		verdict = read_record(&blob, &record);
		tdr_blob_free(&blob);
		if (verdict == TDR_OK)
			verdict = check_record(&record, members, rank, world_size);
		members[rank] = record.entry;
	}
	return verdict == TDR_OK ? devices_check_members(members, world_size, true) : verdict;
}

/* The table of members, the same for all, or the same error. */
static tdr_status agree(tdr_agent *agent, uint64_t round, uint32_t world_size, int64_t deadline_ms,
                        struct entry *members)
{
	char key[64];
	tdr_blob blob;
	tdr_status status;

	snprintf(key, sizeof(key), "%" PRIu64 "/verdict", round);
	if (agent->self.id == 0) {
		char text[ERROR_TEXT_SIZE];
		tdr_status written, verdict = collect(agent, round, world_size, deadline_ms, members);

		snprintf(text, sizeof(text), "%s", verdict != TDR_OK ? tdr_last_error() : "");
		written = write_verdict(agent, key, verdict, text, members, world_size);
		if (verdict != TDR_OK)
			return error_set(verdict, "%s", text);
		return written;
	}
	status = tdr_store_get(agent->store, key, deadline_ms ? left_ms(deadline_ms) + VERDICT_GRACE_MS : 0, &blob);
	if (status == TDR_ETIMEDOUT)
		return timed_out(agent, round, world_size);
	if (status != TDR_OK)
		return error_prefix(status, "waiting for rank 0");
	status = read_verdict(&blob, members, world_size);
	tdr_blob_free(&blob);
	return status;
}

/* ---- the round ---- */

/* Counts this rank's joinings of the group. Where the one before has not ended, somebody else holds the rank. */
static tdr_status begin_round(tdr_agent *agent, uint64_t *ret_round)
{
	const char *keys[] = {agent->joined_key};
	int64_t round;
	bool left = true;
	char key[64];
	tdr_status status;

	snprintf(key, sizeof(key), "joinings/%u", agent->self.id);
	status = tdr_store_add(agent->store, key, 1, &round);
	if (status != TDR_OK)
		return status;
	if (round > 1) {
		snprintf(agent->joined_key, sizeof(agent->joined_key), "%" PRId64 "/left/%u", round - 1,
		         agent->self.id);
		status = tdr_store_check(agent->store, 1, keys, &left);
	}
	if (status == TDR_OK && !left) {
		agent->joined_key[0] = '\0';
		/* This was no joining, and must not shift those to come. */
		if (tdr_store_add(agent->store, key, -1, &round) != TDR_OK)
			LOG(TDR_LOG_WARN, "event=joining_not_taken_back worker=%s error=\"%s\"", agent->name,
			    tdr_last_error());
		return error_set(
		    TDR_EEXISTS,
		    "rank %u has joined this group before and has not left it: another process has the same rank, "
		    "or the store is left over from a run that was killed (use a new one, or another `group`)",
		    agent->self.id);
	}
	snprintf(agent->joined_key, sizeof(agent->joined_key), "%" PRId64 "/left/%u", round, agent->self.id);
	*ret_round = (uint64_t)round;
	return status;
}

void agent_mark_left(tdr_agent *agent)
{
	if (!agent->store || !agent->joined_key[0])
		return;
	tdr_store_set_timeout(agent->store, LEFT_MS);
	if (tdr_store_set(agent->store, agent->joined_key, "1", 1) != TDR_OK)
		LOG(TDR_LOG_DEBUG, "event=left_not_marked worker=%s error=\"%s\"", agent->name, tdr_last_error());
	agent->joined_key[0] = '\0';
}

/* ---- meeting ---- */

static tdr_status find_store(tdr_agent *agent)
{
	const tdr_agent_options *options = &agent->options;
	char prefix[192];
	tdr_status status;

	if (options->store) {
		agent->rendezvous = (struct rendezvous){
		    .store = tdr_store_ref(options->store),
		    .rank = (int)options->rank,
		    .world_size = (int)options->world_size,
		};
		if (options->rank < 0 && options->world_size > 0)
			return error_set(TDR_EINVAL, "a store was given, but no rank: set the option `rank`");
	} else {
		status = rendezvous(options->init_method, (int)options->rank, (int)options->world_size,
		                    options->join_timeout_ms, &agent->rendezvous);
		if (status != TDR_OK)
			return status;
	}
	agent->membership.dynamic = agent->rendezvous.world_size <= 0;
	if (!agent->membership.dynamic &&
	    (agent->rendezvous.rank < 0 || agent->rendezvous.rank >= agent->rendezvous.world_size))
		return error_set(TDR_EINVAL, "rank %d is outside 0 to %d, in a group of %d", agent->rendezvous.rank,
		                 agent->rendezvous.world_size - 1, agent->rendezvous.world_size);
	if (options->group && strlen(options->group) > MAX_GROUP)
		return error_set(TDR_EINVAL, "option group has %zu bytes; a group's name has at most %d",
		                 strlen(options->group), MAX_GROUP);
	snprintf(prefix, sizeof(prefix), "tendril/%s", options->group ? options->group : "default");
	return tdr_store_prefix(prefix, agent->rendezvous.store, &agent->store);
}

/* Listens, and settles the address that others are told. */
static tdr_status listen_somewhere(tdr_agent *agent)
{
	const tdr_agent_options *options = &agent->options;
	const struct transport *transport = transport_of(options->listen ? options->listen : "");
	char scheme[ADDRESS_SIZE], host[ADDRESS_SIZE], bind_host[ADDRESS_SIZE];
	struct sockaddr_storage route;
	socklen_t route_size = 0;
	uint16_t port = 0, bind_port = 0, chosen = 0;
	tdr_status status;

	if (!transport)
		return error_prefix(TDR_EINVAL, "option listen");
	if (options->advertise && (status = address_split(options->advertise, scheme, host, &port)) != TDR_OK)
		return error_prefix(status, "option advertise");
	if (options->listen && (status = address_split(options->listen, scheme, bind_host, &bind_port)) != TDR_OK)
		return error_prefix(status, "option listen");
	if (store_local_address(agent->rendezvous.store, &route, &route_size) != TDR_OK)
		route_size = 0;
	/* A store that no route leads to (hash, file) says nothing of other hosts; and who listens to the world is to be asked. */
	if (!transport->names_hosts) {
		snprintf(host, sizeof(host), "%s", bind_host);
		port = 0;
	} else if (!options->advertise && !options->interface && route_size == 0) {
		snprintf(host, sizeof(host), "127.0.0.1");
	} else {
		address_choose(options->advertise ? host : NULL, options->interface, route_size ? &route : NULL, host);
	}
	bind_port = bind_port ? bind_port : port;
	status = links_listen(agent->links, transport,
	                      options->listen      ? bind_host
	                      : options->advertise ? NULL
	                                           : host,
	                      bind_port, &chosen);
	if (status != TDR_OK)
		return error_prefix(status, "agent '%s' cannot listen", agent->name);
	address_join(transport->name, host, port ? port : chosen, agent->self.address);
	links_set_address(agent->links, agent->self.address);
	return TDR_OK;
}

static void draw_incarnation(tdr_agent *agent)
{
	while (agent->self.incarnation == 0)
		if (getrandom(&agent->self.incarnation, sizeof(agent->self.incarnation), 0) < 0)
			agent->self.incarnation = (uint64_t)clock_ns();
}

/* All members of a group are of one kind; who comes first says which. */
static tdr_status check_kind(tdr_agent *agent)
{
	bool dynamic = agent->membership.dynamic, theirs;
	const char *kind = dynamic ? "dynamic" : "static";
	char mine[192];
	tdr_blob found;
	tdr_status status;

	snprintf(mine, sizeof(mine), "%s %s", kind, agent->name);
	status = tdr_store_compare_set(agent->store, KIND_KEY, "", 0, mine, strlen(mine), &found);
	if (status != TDR_OK)
		return error_prefix(status, "the group's kind cannot be had from the store");
	theirs = found.size >= strlen("dynamic ") && memcmp(found.data, "dynamic ", strlen("dynamic ")) == 0;
	if (theirs != dynamic)
		status = error_set(
		    TDR_EMISMATCH,
		    "RPC group mixes statically and dynamically initialized members which is not supported. "
		    "Static group property is initialized as %s and is trying to be set as %s: worker '%.*s' "
		    "came first %s a world_size, '%s' comes %s one; set it for all or for none",
		    theirs ? "false" : "true", dynamic ? "false" : "true",
		    (int)(found.size - strcspn(found.data, " ") - 1), found.data + strcspn(found.data, " ") + 1,
		    theirs ? "without" : "with", agent->name, dynamic ? "without" : "with");
	tdr_blob_free(&found);
	return status;
}

/* A static group: all members come, and rank 0 says who they are. */
static tdr_status meet_all(tdr_agent *agent, int64_t deadline_ms)
{
	uint32_t world_size = (uint32_t)agent->rendezvous.world_size;
	struct roster roster = {.epoch = 1, .count = world_size};
	const struct view *view;
	uint64_t round = 0;
	char key[64];
	tdr_status status;

	roster.members = calloc(world_size, sizeof(*roster.members));
	if (!roster.members)
		return error_nomem();
	status = begin_round(agent, &round);
	if (status == TDR_OK) {
		member_key(key, sizeof(key), round, agent->self.id);
		status = write_record(agent, key, world_size);
	}
	if (status == TDR_OK)
		status = agree(agent, round, world_size, deadline_ms, roster.members);
	if (status == TDR_OK)
		status = view_install(agent, &roster, &view);
	roster_fini(&roster);
	return status;
}

tdr_status agent_meet(tdr_agent *agent, int64_t deadline_ms)
{
	tdr_status status = find_store(agent);

	if (status == TDR_OK)
		status = check_kind(agent);
	if (status != TDR_OK)
		return status;
	snprintf(agent->self.name, sizeof(agent->self.name), "%s", agent->name);
	agent->self.id = (uint32_t)agent->rendezvous.rank;
	draw_incarnation(agent);
	agent->links = agent_make_links(agent);
	if (!agent->links)
		return error_nomem();
	status = devices_describe(agent, &agent->description);
	if (status == TDR_OK)
		status = listen_somewhere(agent);
	if (status != TDR_OK)
		return status;
	return agent->membership.dynamic ? membership_enter(agent, deadline_ms) : meet_all(agent, deadline_ms);
}
