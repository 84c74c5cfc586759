/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/token.h"

#include "agent/table.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define TOKEN_KEY "token"

enum {
	TOKEN_PARTS = 6, /* action, name, id, incarnation, address, count */
	RENEW_MS = 1000,
	PROBE_MS = 1000, /* between two looks at whether the holder lives */
	FIRST_PAUSE_MS = 1,
	LAST_PAUSE_MS = 50,
};

/* The token as somebody else holds it. */
struct sighting {
	tdr_blob bytes;
	int64_t since_ms; /* when these bytes were first seen */
	struct identity holder;
	char action[16];
	struct link *probe; /* on its way, or NULL */
	int64_t probed_ms;
};

void agent_pause(tdr_agent *agent, int64_t milliseconds)
{
	struct waiter waiter;

	waiter_init(&waiter);
	engine_wait(agent->engine, &waiter, NULL, clock_ms() + milliseconds);
}

bool worker_is_gone(tdr_agent *agent, const struct identity *who, int64_t deadline_ms)
{
	struct link *probe;
	tdr_status status = TDR_OK;

	if (links_probe(agent->links, who, &probe) != TDR_OK)
		return false;
	while ((status = link_check(probe)) == TDR_OK && !(deadline_ms && clock_ms() >= deadline_ms)) {
		token_renew(agent);
		agent_pause(agent, FIRST_PAUSE_MS);
	}
	return status == TDR_EWORKERGONE || status == TDR_EUNREACHABLE;
}

/* ---- bytes ---- */

/* Our token with its count, into agent->membership.token. */
static tdr_status write_token(tdr_agent *agent, const char *action, uint64_t count, struct buffer *ret_bytes)
{
	const struct identity *self = &agent->self;
	struct encoder encoder;

	encoder_init(&encoder, &codec_default_limits);
	encode_array(&encoder, TOKEN_PARTS);
	encode_string(&encoder, action, strlen(action));
	encode_string(&encoder, self->name, strlen(self->name));
	encode_uint(&encoder, self->id);
	encode_uint(&encoder, self->incarnation);
	encode_string(&encoder, self->address, strlen(self->address));
	encode_uint(&encoder, count);
	if (encoder.body.failed) {
		encoder_fini(&encoder);
		return error_nomem();
	}
	*ret_bytes = encoder.body;
	encoder.body = (struct buffer){0};
	encoder_fini(&encoder);
	return TDR_OK;
}

static tdr_status read_token(struct sighting *sighting)
{
	struct identity *holder = &sighting->holder;
	struct decoder decoder;
	uint64_t count;
	size_t parts;
	tdr_status status;

	decoder_init(&decoder, &codec_default_limits, sighting->bytes.data, sighting->bytes.size, NULL, 0);
	status = decode_array(&decoder, &parts);
	if (status == TDR_OK && parts != TOKEN_PARTS)
		status = error_set(TDR_EPROTO, "%zu parts, not %d", parts, TOKEN_PARTS);
	if (status == TDR_OK)
		status = decode_text(&decoder, sighting->action, sizeof(sighting->action));
	if (status == TDR_OK)
		status = decode_text(&decoder, holder->name, sizeof(holder->name));
	if (status == TDR_OK)
		status = decode_u32(&decoder, &holder->id);
	if (status == TDR_OK)
		status = decode_uint(&decoder, &holder->incarnation);
	if (status == TDR_OK)
		status = decode_text(&decoder, holder->address, sizeof(holder->address));
	if (status == TDR_OK)
		status = decode_uint(&decoder, &count);
	if (status == TDR_OK)
		status = decode_end(&decoder);
	return status == TDR_OK ? TDR_OK : error_prefix(status, "the group's token");
}

/* ---- waiting for another holder ---- */

/* Takes note of the token that somebody holds; `bytes` are taken over. */
static tdr_status sight(struct sighting *sighting, tdr_blob *bytes)
{
	if (sighting->bytes.data && sighting->bytes.size == bytes->size &&
	    memcmp(sighting->bytes.data, bytes->data, bytes->size) == 0) {
		tdr_blob_free(bytes);
		return TDR_OK;
	}
	tdr_blob_free(&sighting->bytes);
	sighting->bytes = *bytes;
	*bytes = (tdr_blob){0};
	sighting->since_ms = clock_ms();
	sighting->probe = NULL;
	return read_token(sighting);
}

/* Whether the holder does not work any more, by its count or since it is gone. */
static bool holder_is_gone(tdr_agent *agent, struct sighting *sighting)
{
	int64_t now = clock_ms();
	tdr_status status;

	if (now - sighting->since_ms >= agent->options.heartbeat_bound_ms)
		return true;
	if (!sighting->probe) {
		if (now - sighting->probed_ms >= PROBE_MS &&
		    links_probe(agent->links, &sighting->holder, &sighting->probe) == TDR_OK)
			sighting->probed_ms = now;
		return false;
	}
	status = link_check(sighting->probe);
	if (status != TDR_OK)
		sighting->probe = NULL;
	return status == TDR_EWORKERGONE || status == TDR_EUNREACHABLE;
}

/* Takes the token if it is free, or is that of a holder who is gone. `*ret_taken` says whether that worked. */
static tdr_status try_take(tdr_agent *agent, const struct buffer *mine, struct sighting *sighting, bool *ret_taken)
{
	bool break_it = sighting->bytes.size > 0 && holder_is_gone(agent, sighting);
	tdr_blob now;
	tdr_status status;

	if (break_it)
		LOG(TDR_LOG_WARN, "event=token_taken_over worker=%s holder=%s action=%s", agent->name,
		    sighting->holder.name, sighting->action);
	status = tdr_store_compare_set(agent->store, TOKEN_KEY, break_it ? sighting->bytes.data : "",
	                               break_it ? sighting->bytes.size : 0, mine->data, mine->size, &now);
	if (status != TDR_OK)
		return error_prefix(status, "the group's token cannot be had from the store");
	*ret_taken = now.size == mine->size && memcmp(now.data, mine->data, now.size) == 0;
	if (*ret_taken || now.size == 0) {
		tdr_blob_free(&now);
		return TDR_OK;
	}
	return sight(sighting, &now);
}

tdr_status token_take(tdr_agent *agent, const char *action, int64_t deadline_ms)
{
	struct token *token = &agent->membership.token;
	struct sighting sighting = {0};
	int64_t pause_ms = FIRST_PAUSE_MS;
	struct buffer mine;
	bool taken = false;
	tdr_status status = write_token(agent, action, 0, &mine);

	if (status != TDR_OK)
		return status;
	sighting.probed_ms = clock_ms() - PROBE_MS;
	while (status == TDR_OK && !taken) {
		status = try_take(agent, &mine, &sighting, &taken);
		if (status != TDR_OK || taken)
			break;
		if (deadline_ms && clock_ms() >= deadline_ms)
			status = error_set(
			    TDR_ETIMEDOUT,
			    "worker '%s' at %s has held the group's token all the time, to %s: see what keeps it",
			    sighting.holder.name, sighting.holder.address, sighting.action);
		else
			agent_pause(agent, pause_ms);
		pause_ms = MIN_OF(pause_ms * 2, (int64_t)LAST_PAUSE_MS);
	}
	tdr_blob_free(&sighting.bytes);
	if (status != TDR_OK) {
		buffer_fini(&mine);
		return status;
	}
	*token = (struct token){.bytes = mine, .action = action, .renewed_ms = clock_ms()};
	return TDR_OK;
}

/* ---- holding ---- */

static void token_drop(struct token *token)
{
	buffer_fini(&token->bytes);
	*token = (struct token){0};
}

void token_renew(tdr_agent *agent)
{
	struct token *token = &agent->membership.token;
	struct buffer next;
	tdr_blob now;
	bool lost;

	if (!token->bytes.data || clock_ms() - token->renewed_ms < RENEW_MS)
		return;
	token->renewed_ms = clock_ms();
	if (write_token(agent, token->action, token->count + 1, &next) != TDR_OK)
		return;
	if (tdr_store_compare_set(agent->store, TOKEN_KEY, token->bytes.data, token->bytes.size, next.data, next.size,
	                          &now) != TDR_OK) {
		buffer_fini(&next);
		return;
	}
	lost = now.size != next.size || memcmp(now.data, next.data, now.size) != 0;
	tdr_blob_free(&now);
	buffer_fini(&token->bytes);
	token->bytes = next;
	token->count++;
	if (lost) {
		LOG(TDR_LOG_WARN, "event=token_lost worker=%s action=%s", agent->name, token->action);
		token_drop(token);
	}
}

void token_release(tdr_agent *agent)
{
	struct token *token = &agent->membership.token;
	tdr_blob now = {0};

	if (!token->bytes.data)
		return;
	if (tdr_store_compare_set(agent->store, TOKEN_KEY, token->bytes.data, token->bytes.size, "", 0, &now) != TDR_OK)
		LOG(TDR_LOG_WARN, "event=token_not_released worker=%s error=\"%s\"", agent->name, tdr_last_error());
	tdr_blob_free(&now);
	token_drop(token);
}
