/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages: what crosses a lane. A fixed little-endian head, a table of the storages' sizes, a body (MessagePack), then
 * the bytes of storages. docs/protocol.md states the wire exactly.
 */
#ifndef TENDRIL_TRANSPORT_MESSAGE_H
#define TENDRIL_TRANSPORT_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tendril/tensor.h>

/* X(name, number, text). The numbers are frozen. */
#define MESSAGE_TYPE_LIST(X)                                                                                           \
	X(MESSAGE_HELLO, 1, "hello")         /* first on a lane, from who opened it */                                 \
	X(MESSAGE_WELCOME, 2, "welcome")     /* its answer */                                                          \
	X(MESSAGE_REFUSE, 3, "refuse")       /* its answer, or the end of a lane, with a reason */                     \
	X(MESSAGE_LEAVE, 4, "leave")         /* the sender shuts down and will not come back */                        \
	X(MESSAGE_HEARTBEAT, 5, "heartbeat") /* asks for a heartbeat answer */                                         \
	X(MESSAGE_HEARTBEAT_ACK, 6, "heartbeat_ack")                                                                   \
	X(MESSAGE_CREDIT, 7, "credit") /* carries the head's credit field alone */                                     \
	X(MESSAGE_CHUNK, 8, "chunk")   /* a piece of a large storage of a message sent before; lanes only */           \
	X(MESSAGE_CALL, 9, "call")                                                                                     \
	X(MESSAGE_REPLY, 10, "reply")                                                                                  \
	X(MESSAGE_ERROR, 11, "error")                                                                                  \
	X(MESSAGE_CANCEL, 12, "cancel")                                                                                \
	X(MESSAGE_GATHER, 13, "gather")   /* up the tree of a collective */                                            \
	X(MESSAGE_SCATTER, 14, "scatter") /* down the tree */                                                          \
	X(MESSAGE_REMOTE_CALL, 15, "remote_call")                                                                      \
	X(MESSAGE_FETCH, 16, "fetch")                                                                                  \
	X(MESSAGE_RREF, 17, "rref") /* letters about references */

enum message_type {
#define MESSAGE_TYPE_ENUM(name, number, text) name = (number),
	MESSAGE_TYPE_LIST(MESSAGE_TYPE_ENUM)
#undef MESSAGE_TYPE_ENUM
};

/* Flags of a reply. */
enum {
	MESSAGE_REFERS = 1 << 0, /* references are in it: it is read also where nobody waits for it any more */
};

/* Whether it asks for something to be run, and so counts against the receiver's credit. */
static inline bool message_is_request(unsigned type)
{
	return type == MESSAGE_CALL || type == MESSAGE_REMOTE_CALL || type == MESSAGE_FETCH;
}

/* The type's name, such as "call"; NULL for a number that is none. */
const char *message_type_name(unsigned type);

/* A message, in either direction. All pointers are borrowed for the time of the call that it is handed to. */
struct message {
	uint8_t type;
	uint8_t flags; /* by type */
	uint64_t call_id;
	uint32_t time_left_ms; /* of a call; 0: no deadline */
	uint64_t credit;       /* received ones: bytes of our requests that the peer has taken up so far */
	const uint8_t *body;
	size_t body_size;
	size_t nstorages;
	tdr_storage *const *storages;
};

/* Bytes that a message counts for in credits and limits: its head, its table of storages, its body and its storages. */
size_t message_cost(const struct message *message);

/* ---- the head on the wire ---- */

#define MESSAGE_HEAD_SIZE 64
#define MESSAGE_MAGIC 0x4c524454u /* "TDRL" */
#define MESSAGE_VERSION 1

/* What no frame may exceed on a stream: a message's head, table, body and inline storages; and a chunk's bytes. */
#define MESSAGE_FRAME_MAX (UINT32_C(1) << 20)
#define MESSAGE_CHUNK_MAX (UINT32_C(1) << 20)

/* Inline storages begin at multiples of this from the frame's start. */
#define MESSAGE_STORAGE_ALIGN 64

/* The head's `layout`: where the parts of a message lie. Other bits are malformed. */
enum {
	MESSAGE_BODY_APART = 1 << 0, /* the body comes in chunks, after the storages that do */
};

/* In an entry of the table of sizes: the storage comes in chunks, not inline. */
#define MESSAGE_STORAGE_APART (UINT64_C(1) << 63)

/* For a chunk, the fields mean what stands behind the bar. */
struct message_head {
	uint8_t version;
	uint8_t type;
	uint8_t flags;        /* by type | 0 */
	uint8_t layout;       /* MESSAGE_BODY_APART | 0 */
	uint32_t body_size;   /* | bytes of the chunk */
	uint32_t nstorages;   /* | number of the storage, from 0; that of the body is the count of storages */
	uint64_t call_id;     /* | where in the storage the chunk begins */
	uint64_t incarnation; /* the sender's */
	uint64_t sequence;    /* counts the sender's messages on this lane from 1 | that of the message it belongs to */
	uint64_t acknowledged; /* up to this sequence, all has been received */
	uint64_t credit;
	uint32_t time_left_ms; /* | 0 */
};

void message_head_write(const struct message_head *head, uint8_t wire[MESSAGE_HEAD_SIZE]);

/* Errors: TDR_EPROTO (magic, unknown type by its number, bits that must be zero), TDR_EVERSION. */
tdr_status message_head_read(const uint8_t wire[MESSAGE_HEAD_SIZE], struct message_head *ret_head);

#endif
