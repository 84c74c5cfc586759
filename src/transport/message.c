/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages' names, cost and head. The head's fields lie at their natural alignment, little-endian:
 *
 *    0 magic        4 version   5 type   6 flags   7 layout
 *    8 body_size   12 nstorages
 *   16 call_id     24 incarnation
 *   32 sequence    40 acknowledged
 *   48 credit      56 time_left_ms       60 zero
 */
#include "transport/message.h"

#include "base/error.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

static void put32(uint8_t *wire, size_t at, uint32_t number)
{
	number = htole32(number);
	memcpy(wire + at, &number, sizeof(number));
}

static void put64(uint8_t *wire, size_t at, uint64_t number)
{
	number = htole64(number);
	memcpy(wire + at, &number, sizeof(number));
}

static uint32_t get32(const uint8_t *wire, size_t at)
{
	uint32_t number;

	memcpy(&number, wire + at, sizeof(number));
	return le32toh(number);
}

static uint64_t get64(const uint8_t *wire, size_t at)
{
	uint64_t number;

	memcpy(&number, wire + at, sizeof(number));
	return le64toh(number);
}

const char *message_type_name(unsigned type)
{
	switch (type) {
#define MESSAGE_TYPE_NAME(name, number, text)                                                                          \
	case name:                                                                                                     \
		return text;
		MESSAGE_TYPE_LIST(MESSAGE_TYPE_NAME)
#undef MESSAGE_TYPE_NAME
	default:
		return NULL;
	}
}

size_t message_cost(const struct message *message)
{
	size_t cost = MESSAGE_HEAD_SIZE + message->nstorages * sizeof(uint64_t) + message->body_size;

	for (size_t i = 0; i < message->nstorages; i++)
		cost += tdr_storage_nbytes(message->storages[i]);
	return cost;
}

void message_head_write(const struct message_head *head, uint8_t wire[MESSAGE_HEAD_SIZE])
{
	put32(wire, 0, MESSAGE_MAGIC);
	wire[4] = head->version;
	wire[5] = head->type;
	wire[6] = head->flags;
	wire[7] = head->layout;
	put32(wire, 8, head->body_size);
	put32(wire, 12, head->nstorages);
	put64(wire, 16, head->call_id);
	put64(wire, 24, head->incarnation);
	put64(wire, 32, head->sequence);
	put64(wire, 40, head->acknowledged);
	put64(wire, 48, head->credit);
	put32(wire, 56, head->time_left_ms);
	put32(wire, 60, 0);
}

tdr_status message_head_read(const uint8_t wire[MESSAGE_HEAD_SIZE], struct message_head *ret_head)
{
	struct message_head head = {
	    .version = wire[4],
	    .type = wire[5],
	    .flags = wire[6],
	    .layout = wire[7],
	    .body_size = get32(wire, 8),
	    .nstorages = get32(wire, 12),
	    .call_id = get64(wire, 16),
	    .incarnation = get64(wire, 24),
	    .sequence = get64(wire, 32),
	    .acknowledged = get64(wire, 40),
	    .credit = get64(wire, 48),
	    .time_left_ms = get32(wire, 56),
	};
	bool chunk = head.type == MESSAGE_CHUNK;
	unsigned allowed = chunk ? 0 : MESSAGE_BODY_APART;

	if (get32(wire, 0) != MESSAGE_MAGIC)
		return error_set(
		    TDR_EPROTO,
		    "what came is no message: it begins with %02x %02x %02x %02x; does something else than "
		    "Tendril use this port?",
		    wire[0], wire[1], wire[2], wire[3]);
	if (head.version != MESSAGE_VERSION)
		return error_set(
		    TDR_EVERSION,
		    "the peer speaks version %u of the protocol, and we version %u; run the same release of "
		    "Tendril on both sides",
		    head.version, MESSAGE_VERSION);
	if (!message_type_name(head.type))
		return error_set(TDR_EPROTO, "a message of the unknown type %u", head.type);
	if ((head.layout & ~allowed) != 0 || get32(wire, 60) != 0 || (chunk && (head.flags || head.time_left_ms)))
		return error_set(TDR_EPROTO, "a message whose head has bits set that must be zero");
	*ret_head = head;
	return TDR_OK;
}
