/* SPDX-License-Identifier: Apache-2.0 */
/* What members of a gather write to one another: its bytes, out and in, and its way out. */
#include "agent/gather_letter.h"

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	LETTER_PARTS = 7,
};

/*
 * What waits for the lock to be given up: a message, or the end of a gather here. Ends come after the messages that were written
 * before them: who learns that a gather is over may leave, and close the lanes.
 */
struct gather_letter {
	struct list node;
	struct link *link; /* NULL: the end of `gather` */
	enum message_type type;
	struct encoder encoder;
	struct gather *gather; /* counted */
	tdr_status status;
	char *text;
};

/* ---- out ---- */

/* All of a letter but the pairs of id and value. */
static void write_head(const struct occasion *occasion, struct encoder *encoder, tdr_status status, const char *text)
{
	encode_array(encoder, LETTER_PARTS);
	encode_string(encoder, occasion->topic, strlen(occasion->topic));
	occasion_write_members(occasion, encoder);
	encode_uint(encoder, occasion->sequence);
	encode_uint(encoder, status);
	encode_string(encoder, text, strlen(text));
}

/*
 * A letter's body: head, then pairs of id and value: those that have not gone up if `up`, else all. TDR_ELIMIT where the values
 * together are too much for one message.
 */
static tdr_status write_body(struct gather *gather, struct encoder *encoder, bool up, tdr_status status,
                             const char *text)
{
	const struct occasion *occasion = &gather->occasion;
	tdr_status written = TDR_OK;
	uint32_t pairs = 0;

	write_head(occasion, encoder, status, text);
	for (uint32_t i = 0; status == TDR_OK && i < occasion->count; i++)
		pairs += gather->values[i] && !(up && gather->forwarded[i]);
	encode_array(encoder, pairs * 2);
	for (uint32_t i = 0; pairs > 0 && i < occasion->count && written == TDR_OK; i++) {
		if (!gather->values[i] || (up && gather->forwarded[i]))
			continue;
		encode_uint(encoder, occasion_id(occasion, i));
		written = encode_value_as(encoder, gather->values[i], "value");
		gather->forwarded[i] = gather->forwarded[i] || up;
	}
	return written == TDR_OK && encoder->body.failed ? error_nomem() : written;
}

tdr_status gather_write_letter(struct gather *gather, struct list *letters, uint32_t to, bool up, tdr_status status,
                               const char *text)
{
	struct gather_letter *letter = calloc(1, sizeof(*letter));
	tdr_status written;

	if (!letter) {
		LOG(TDR_LOG_ERROR, "event=collective_letter_lost reason=\"out of memory\"");
		return TDR_OK; /* the others' deadlines tell them */
	}
	letter->link = occasion_peer(&gather->occasion, to)->link;
	letter->type = up ? MESSAGE_GATHER : MESSAGE_SCATTER;
	encoder_init(&letter->encoder, &gather->agent->codec_limits);
	written = write_body(gather, &letter->encoder, up, status, text);
	if (written != TDR_OK) {
		error_prefix(written, "the values of all members cannot go together");
		encoder_reset(&letter->encoder);
		(void)write_body(gather, &letter->encoder, up, written, tdr_last_error());
	}
	list_append(letters, &letter->node);
	return written;
}

/* Completes the gather's future: with its values, or an error. */
static void end_gather(struct gather *gather, tdr_status status, const char *text)
{
	tdr_value *all;

	if (status != TDR_OK) {
		future_complete(gather->future, status, NULL, text, NULL);
		return;
	}
	all = tdr_list(0, NULL);
	for (uint32_t i = 0; i < gather->occasion.count; i++)
		if (tdr_list_append(all, tdr_value_ref(gather->values[i])) != TDR_OK)
			break; /* it has become invalid, and says so */
	(void)tdr_future_set(gather->future, all);
}

void gather_write_end(struct gather *gather, struct list *letters, tdr_status status, const char *text)
{
	struct gather_letter *letter = calloc(1, sizeof(*letter));

	if (!letter) {
		end_gather(gather, status, text);
		return;
	}
	refcount_get(&gather->refs);
	letter->gather = gather;
	letter->status = status;
	letter->text = strdup(text);
	list_append(letters, &letter->node);
}

tdr_status gather_write_to_children(struct gather *gather, struct list *letters, tdr_status status, const char *text)
{
	uint32_t first = gather->index * TREE_FANOUT + 1;
	tdr_status written = TDR_OK;

	for (uint32_t child = first; child < first + TREE_FANOUT && child < gather->occasion.count; child++)
		written = gather_write_letter(gather, letters, child, false, status, text);
	return written;
}

static void letter_free(struct gather_letter *letter)
{
	if (letter->link)
		encoder_fini(&letter->encoder);
	if (letter->gather)
		gather_unref(letter->gather);
	free(letter->text);
	free(letter);
}

void letters_post(struct list *letters)
{
	for (struct list *node; (node = list_shift(letters));) {
		struct gather_letter *letter = list_entry(node, struct gather_letter, node);
		const struct encoder *encoder = &letter->encoder;
		struct message message = {
		    .type = (uint8_t)letter->type,
		    .body = encoder->body.data,
		    .body_size = encoder->body.size,
		    .nstorages = encoder->nstorages,
		    .storages = encoder->storages,
		};

		if (!letter->link)
			end_gather(letter->gather, letter->status, letter->text ? letter->text : "");
		else if (encoder->body.failed || link_send(letter->link, &message) != TDR_OK)
			LOG(TDR_LOG_DEBUG, "event=collective_letter_lost to=%s error=\"%s\"",
			    link_peer(letter->link)->name, tdr_last_error());
		letter_free(letter);
	}
}

void gather_send_superseded(struct peer *peer, const struct occasion *occasion)
{
	struct encoder encoder;

	encoder_init(&encoder, &peer->agent->codec_limits);
	write_head(occasion, &encoder, GATHER_SUPERSEDED, "the group has changed");
	encode_array(&encoder, 0);
	if (!encoder.body.failed)
		(void)link_send(peer->link, &(struct message){.type = MESSAGE_SCATTER,
		                                              .body = encoder.body.data,
		                                              .body_size = encoder.body.size});
	encoder_fini(&encoder);
}

/* ---- in ---- */

tdr_status gather_read_head(struct decoder *decoder, struct occasion *ret_occasion, uint64_t *ret_verdict,
                            char **ret_text)
{
	const char *text;
	size_t size, parts;
	tdr_status status = decode_array(decoder, &parts);

	if (status == TDR_OK && parts != LETTER_PARTS)
		status = error_set(TDR_EPROTO, "a collective's message of %zu parts, not %d", parts, LETTER_PARTS);
	if (status == TDR_OK)
		status = decode_string(decoder, &text, &size);
	if (status == TDR_OK && size >= MAX_TOPIC)
		status = error_set(TDR_EPROTO, "a topic of %zu bytes", size);
	if (status != TDR_OK)
		return status;
	memcpy(ret_occasion->topic, text, size);
	status = occasion_read_members(decoder, ret_occasion);
	if (status == TDR_OK)
		status = decode_uint(decoder, &ret_occasion->sequence);
	if (status == TDR_OK)
		status = decode_uint(decoder, ret_verdict);
	if (status == TDR_OK && *ret_verdict > INT32_MAX)
		status = error_set(TDR_EPROTO, "a status of %" PRIu64, *ret_verdict);
	if (status == TDR_OK)
		status = decode_string(decoder, &text, &size);
	if (status != TDR_OK)
		return status;
	*ret_text = text_copy(text, size);
	return *ret_text ? TDR_OK : error_nomem();
}

tdr_status gather_read_values(struct decoder *decoder, struct gather *gather)
{
	size_t count;
	tdr_status status = decode_array(decoder, &count);

	for (size_t i = 0; status == TDR_OK && i < count / 2; i++) {
		tdr_value *value;
		uint64_t id;

		status = decode_uint(decoder, &id);
		if (status == TDR_OK &&
		    (id > UINT32_MAX || occasion_index(&gather->occasion, (uint32_t)id) == UINT32_MAX))
			status = error_set(TDR_EPROTO, "a value of member %" PRIu64 ", who is not in the set", id);
		if (status == TDR_OK)
			status = decode_value(decoder, &value);
		if (status == TDR_OK)
			gather_arrive(gather, occasion_index(&gather->occasion, (uint32_t)id), value);
	}
	return status == TDR_OK ? decode_end(decoder) : status;
}
