/* SPDX-License-Identifier: Apache-2.0 */
/* Greetings: the bodies of hello, welcome and refuse messages. docs/protocol.md has their layout. */
#ifndef TENDRIL_TRANSPORT_HELLO_H
#define TENDRIL_TRANSPORT_HELLO_H

#include "transport/link.h"
#include "value/codec.h"

/* Features that both ends must know of to use them; none so far. */
#define HELLO_FEATURES 0

/* The id of one who is no member and only asks whether the worker lives: the answer is REFUSED_UNKNOWN. */
#define HELLO_NOBODY UINT32_MAX

struct hello {
	uint64_t features;
	char group[128];
	struct identity from; /* its address is not sent */
	uint32_t to_id;
	uint64_t to_incarnation;
	uint64_t credit_bytes; /* of requests that the sender may have outstanding towards `from` */
	uint32_t lanes;        /* greeted so far between the two, as `from` knows: tells a new lane from a stale one */
};

/* The body of a hello or welcome. */
void hello_encode(struct encoder *encoder, const struct hello *hello);

tdr_status hello_send(struct lane *lane, enum message_type type, const struct hello *hello);
tdr_status hello_read(const struct message *message, struct hello *ret_hello);
tdr_status refusal_send(struct lane *lane, enum refusal refusal, const char *text);
tdr_status refusal_read(const struct message *message, enum refusal *ret_refusal, char *ret_text, size_t size);

#endif
