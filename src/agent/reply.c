/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to calls that we serve: the outcome as a message, or as the value of the reference that the call creates. */
#include "agent/request.h"

#include "base/error.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tdr_status put_optional(struct encoder *encoder, const tdr_value *value, const char *what)
{
	if (value)
		return encode_value_as(encoder, value, what);
	encode_nil(encoder);
	return TDR_OK;
}

static void put_text(struct encoder *encoder, const char *text)
{
	if (text)
		encode_string(encoder, text, strlen(text));
	else
		encode_nil(encoder);
}

static tdr_status send_body(struct peer *peer, enum message_type type, uint64_t call_id, const struct encoder *encoder)
{
	if (encoder->body.failed)
		return error_nomem();
	return link_send(peer->link, &(struct message){.type = (uint8_t)type,
	                                               .flags = encoder->nrrefs > 0 ? MESSAGE_REFERS : 0,
	                                               .call_id = call_id,
	                                               .body = encoder->body.data,
	                                               .body_size = encoder->body.size,
	                                               .nstorages = encoder->nstorages,
	                                               .storages = encoder->storages});
}

static void send_error(struct peer *peer, uint64_t call_id, tdr_status status, const char *text, const char *traceback,
                       const tdr_value *metadata, const tdr_value *detail)
{
	struct encoder encoder;

	encoder_init(&encoder, &peer->agent->codec_limits);
	encode_array(&encoder, 5);
	encode_uint(&encoder, status);
	put_text(&encoder, text);
	put_text(&encoder, traceback);
	if (put_optional(&encoder, metadata, "metadata") != TDR_OK ||
	    put_optional(&encoder, detail, "detail") != TDR_OK) {
		encoder_fini(&encoder); /* the error matters more than what goes along with it */
		send_error(peer, call_id, status, text, traceback, NULL, NULL);
		return;
	}
	if (send_body(peer, MESSAGE_ERROR, call_id, &encoder) != TDR_OK)
		LOG(TDR_LOG_DEBUG, "event=answer_dropped peer=%s error=\"%s\"", link_peer(peer->link)->name,
		    tdr_last_error());
	encoder_fini(&encoder);
}

/* Sends a result; a result that cannot be sent is an error to the caller. */
static tdr_status send_reply(struct peer *peer, uint64_t call_id, const tdr_value *value, const tdr_value *metadata)
{
	struct encoder encoder;
	struct cargo cargo;
	tdr_status status;

	encoder_init(&encoder, &peer->agent->codec_limits);
	cargo_init(&cargo, peer);
	cargo_out(&cargo, &encoder);
	encode_array(&encoder, 2);
	status = put_optional(&encoder, metadata, "metadata");
	if (status == TDR_OK)
		status = encode_value_as(&encoder, value, "result");
	if (status == TDR_OK) {
		_Atomic uint64_t *served = &peer->agent->metrics.served;

		atomic_fetch_add(served, 1); /* first: who has the answer may ask for the number */
		status = send_body(peer, MESSAGE_REPLY, call_id, &encoder);
		if (status != TDR_OK)
			atomic_fetch_sub(served, 1);
	}
	if (status != TDR_OK) {
		char text[ERROR_TEXT_SIZE];

		snprintf(text, sizeof(text), "%s", tdr_last_error());
		cargo_withdraw(&cargo);
		error_set(status, "the result cannot be sent: %s", text);
	}
	encoder_fini(&encoder);
	cargo_fini(&cargo);
	return status;
}

void answer(struct peer *peer, uint64_t call_id, tdr_passage *passage, struct owned_value *creates, tdr_status status,
            tdr_value *value, const char *text, const char *traceback)
{
	tdr_value *metadata = NULL, *detail = status != TDR_OK ? TAKE_PTR(value) : NULL;
	struct list fetches;
	char *copy = NULL;

	list_init(&fetches);
	if (passage) {
		copy =
		    text ? strdup(text) : NULL; /* hooks may fail at things of their own, and change tdr_last_error */
		text = copy;
		passage->status = status;
		passage->result = value;
		if (intercept_run(passage, HOOK_REPLY) != TDR_OK)
			text = tdr_last_error();
		status = passage->status;
		value = TAKE_PTR(passage->result);
		metadata = passage->attached;
	}
	if (creates) {
		owned_value_store(peer->agent, creates, status, status == TDR_OK ? TAKE_PTR(value) : TAKE_PTR(detail),
		                  text, traceback, &fetches);
		status = TDR_OK;
	}
	if (status == TDR_OK) {
		status = send_reply(peer, call_id, value ? value : tdr_none(), metadata);
		text = tdr_last_error();
	}
	if (status != TDR_OK) {
		atomic_fetch_add(&peer->agent->metrics.served_failed, 1);
		send_error(peer, call_id, status, text, traceback, metadata, detail);
	}
	tdr_value_unref(value);
	tdr_value_unref(detail);
	free(copy);
	fetches_finish(peer->agent, &fetches);
}
