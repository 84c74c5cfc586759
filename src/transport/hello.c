/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/hello.h"

#include "base/error.h"

#include <string.h>

#define HELLO_PARTS 9

void hello_encode(struct encoder *encoder, const struct hello *hello)
{
	encode_array(encoder, HELLO_PARTS);
	encode_uint(encoder, hello->features);
	encode_string(encoder, hello->group, strlen(hello->group));
	encode_string(encoder, hello->from.name, strlen(hello->from.name));
	encode_uint(encoder, hello->from.id);
	encode_uint(encoder, hello->from.incarnation);
	encode_uint(encoder, hello->to_id);
	encode_uint(encoder, hello->to_incarnation);
	encode_uint(encoder, hello->credit_bytes);
	encode_uint(encoder, hello->lanes);
}

/* Sends what has been encoded, and frees it. */
static tdr_status send_encoded(struct lane *lane, enum message_type type, struct encoder *encoder)
{
	const struct message message = {
	    .type = (uint8_t)type,
	    .body = encoder->body.data,
	    .body_size = encoder->body.size,
	};
	tdr_status status = encoder->body.failed ? error_nomem() : lane_send(lane, &message);

	encoder_fini(encoder);
	return status;
}

tdr_status hello_send(struct lane *lane, enum message_type type, const struct hello *hello)
{
	struct encoder encoder;

	encoder_init(&encoder, &codec_default_limits);
	hello_encode(&encoder, hello);
	return send_encoded(lane, type, &encoder);
}

tdr_status hello_read(const struct message *message, struct hello *ret_hello)
{
	struct hello hello = {0};
	struct decoder decoder;
	tdr_status status;
	size_t parts;

	decoder_init(&decoder, &codec_default_limits, message->body, message->body_size, NULL, 0);
	status = decode_array(&decoder, &parts);
	if (status == TDR_OK && parts != HELLO_PARTS)
		status = error_set(TDR_EPROTO, "a greeting of %zu parts, not %d", parts, HELLO_PARTS);
	if (status == TDR_OK)
		status = decode_uint(&decoder, &hello.features);
	if (status == TDR_OK)
		status = decode_text(&decoder, hello.group, sizeof(hello.group));
	if (status == TDR_OK)
		status = decode_text(&decoder, hello.from.name, sizeof(hello.from.name));
	if (status == TDR_OK)
		status = decode_u32(&decoder, &hello.from.id);
	if (status == TDR_OK)
		status = decode_uint(&decoder, &hello.from.incarnation);
	if (status == TDR_OK)
		status = decode_u32(&decoder, &hello.to_id);
	if (status == TDR_OK)
		status = decode_uint(&decoder, &hello.to_incarnation);
	if (status == TDR_OK)
		status = decode_uint(&decoder, &hello.credit_bytes);
	if (status == TDR_OK)
		status = decode_u32(&decoder, &hello.lanes);
	if (status == TDR_OK)
		status = decode_end(&decoder);
	if (status == TDR_OK)
		*ret_hello = hello;
	return status;
}

tdr_status refusal_send(struct lane *lane, enum refusal refusal, const char *text)
{
	struct encoder encoder;

	encoder_init(&encoder, &codec_default_limits);
	encode_array(&encoder, 2);
	encode_uint(&encoder, refusal);
	encode_string(&encoder, text, strlen(text));
	return send_encoded(lane, MESSAGE_REFUSE, &encoder);
}

tdr_status refusal_read(const struct message *message, enum refusal *ret_refusal, char *ret_text, size_t size)
{
	struct decoder decoder;
	tdr_status status;
	uint64_t refusal = 0;
	size_t parts;

	decoder_init(&decoder, &codec_default_limits, message->body, message->body_size, NULL, 0);
	status = decode_array(&decoder, &parts);
	if (status == TDR_OK && parts != 2)
		status = error_set(TDR_EPROTO, "a refusal of %zu parts, not 2", parts);
	if (status == TDR_OK)
		status = decode_uint(&decoder, &refusal);
	if (status == TDR_OK)
		status = decode_text(&decoder, ret_text, size);
	if (status == TDR_OK)
		status = decode_end(&decoder);
	if (status == TDR_OK)
		*ret_refusal = (enum refusal)refusal;
	return status;
}
