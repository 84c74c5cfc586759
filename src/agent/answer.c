/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to our calls: replies and errors, from the bytes to the call's end. */
#include "agent/outgoing.h"

#include "base/error.h"
#include "base/text.h"

#include <stdlib.h>

static tdr_status read_optional(struct decoder *decoder, tdr_value **ret_value)
{
	*ret_value = NULL;
	return decode_is_nil(decoder) ? TDR_OK : decode_value(decoder, ret_value);
}

/* A reply's body: metadata, value. */
static tdr_status read_reply(struct decoder *decoder, tdr_value **ret_metadata, tdr_value **ret_value)
{
	size_t parts;
	tdr_status status = decode_array(decoder, &parts);

	if (status == TDR_OK && parts != 2)
		status = error_set(TDR_EPROTO, "a reply of %zu parts, not 2", parts);
	if (status == TDR_OK)
		status = read_optional(decoder, ret_metadata);
	if (status == TDR_OK)
		status = decode_value(decoder, ret_value);
	if (status == TDR_OK)
		status = decode_end(decoder);
	return status;
}

/* An error's text or traceback as a string of its own; NULL for nil. */
static tdr_status read_text(struct decoder *decoder, char **ret_text)
{
	const char *text;
	size_t size;
	tdr_status status;

	if (decode_is_nil(decoder))
		return TDR_OK;
	status = decode_string(decoder, &text, &size);
	if (status != TDR_OK)
		return status;
	*ret_text = text_copy(text, size);
	return *ret_text ? TDR_OK : error_nomem();
}

/* An error's body: status, text, traceback, metadata, detail. */
static tdr_status read_error(struct decoder *decoder, uint64_t *ret_failure, char **ret_text, char **ret_traceback,
                             tdr_value **ret_metadata, tdr_value **ret_detail)
{
	size_t parts;
	tdr_status status = decode_array(decoder, &parts);

	if (status == TDR_OK && parts != 5)
		status = error_set(TDR_EPROTO, "an error of %zu parts, not 5", parts);
	if (status == TDR_OK)
		status = decode_uint(decoder, ret_failure);
	if (status == TDR_OK && (*ret_failure == 0 || *ret_failure > INT32_MAX))
		status = error_set(TDR_EPROTO, "an error with status %llu", (unsigned long long)*ret_failure);
	if (status == TDR_OK)
		status = read_text(decoder, ret_text);
	if (status == TDR_OK)
		status = read_text(decoder, ret_traceback);
	if (status == TDR_OK)
		status = read_optional(decoder, ret_metadata);
	if (status == TDR_OK)
		status = read_optional(decoder, ret_detail);
	if (status == TDR_OK)
		status = decode_end(decoder);
	return status;
}

/* The answer to a call that nobody waits for any more: references in it have come all the same, and are let go of. */
static void discard(struct peer *peer, const struct message *message, struct decoder *decoder)
{
	tdr_value *metadata = NULL, *value = NULL;

	if (!(message->flags & MESSAGE_REFERS))
		return;
	if (message->type == MESSAGE_REPLY && read_reply(decoder, &metadata, &value) != TDR_OK)
		references_unreadable(peer);
	tdr_value_unref(metadata);
	tdr_value_unref(value);
}

void outgoing_reply(struct peer *peer, const struct message *message)
{
	struct outgoing *outgoing = call_table_take(&peer->calls, message->call_id);
	const char *name = link_peer(peer->link)->name;
	tdr_value *metadata = NULL, *value = NULL;
	char *text = NULL, *traceback = NULL;
	struct decoder decoder;
	struct cargo cargo;
	uint64_t failure = 0;
	tdr_status status;

	cargo_init(&cargo, peer);
	decoder_init(&decoder, &peer->agent->codec_limits, message->body, message->body_size, message->storages,
	             message->nstorages);
	cargo_in(&cargo, &decoder);
	if (!outgoing) { /* its time was over, or it was cancelled */
		discard(peer, message, &decoder);
		cargo_fini(&cargo);
		return;
	}
	if (message->type == MESSAGE_REPLY)
		status = read_reply(&decoder, &metadata, &value);
	else
		status = read_error(&decoder, &failure, &text, &traceback, &metadata, &value);
	if (status != TDR_OK) {
		error_prefix(status, "the answer of worker '%s' to %s", name, outgoing->function);
		value = tdr_value_unref(value);
		if (message->flags & MESSAGE_REFERS)
			references_unreadable(peer);
	} else if (failure) {
		status = (tdr_status)failure;
		error_set(status, "%s on worker '%s': %s", outgoing->function, name,
		          text ? text : tdr_status_text(status));
	}
	if (outgoing->passage)
		outgoing->passage->received = TAKE_PTR(metadata);
	outgoing_finish(outgoing, status, value, tdr_last_error(), traceback);
	tdr_value_unref(metadata);
	cargo_fini(&cargo);
	free(text);
	free(traceback);
}
