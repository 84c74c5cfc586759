/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of an agent. One table yields the struct, its defaults, the environment variables (TENDRIL_ and the field's name
 * in capitals, read where a field still has its default), the documentation, and later the CLI's and Python's names.
 */
#ifndef TENDRIL_OPTIONS_H
#define TENDRIL_OPTIONS_H

#include <tendril/engine.h>
#include <tendril/store.h>

/*
 * X(type, field, default, unit, text), type being INT (int64_t) or TEXT (const char *, copied by tdr_agent_new).
 */
#define TDR_AGENT_OPTION_LIST(X)                                                                                       \
	X(TEXT, init_method, NULL, "URL", "where members meet: env://, tcp://host:port, file:///path; unset: env://")  \
	X(INT, rank, -1, "",                                                                                           \
	  "this worker's id; -1: from the URL, or RANK; else the lowest free one of a dynamic group")                  \
	X(INT, world_size, -1, "",                                                                                     \
	  "members of the group; -1: from the URL, or WORLD_SIZE; none of them, or 0: a dynamic group")                \
	X(TEXT, group, NULL, "", "name of the group in its store, so that one store serves several; unset: default")   \
	X(INT, rpc_timeout_ms, 60000, "ms", "deadline of a call that names none; 0: none")                             \
	X(INT, join_timeout_ms, 300000, "ms", "how long tdr_join waits for the other members; 0: no limit")            \
	X(INT, shutdown_timeout_ms, 300000, "ms", "how long tdr_shutdown waits for the other members; 0: no limit")    \
	X(TEXT, listen, NULL, "address", "where to listen, address or address:port; unset: the advertised address")    \
	X(TEXT, advertise, NULL, "address",                                                                            \
	  "what others connect to, address or address:port; unset: the address of the route towards a tcp store, or "  \
	  "loopback")                                                                                                  \
	X(TEXT, interface, NULL, "name", "the network interface whose address to advertise; unset: by route")          \
	X(INT, threads, 16, "", "functions that may run at once, in an engine made for the agent")                     \
	X(INT, max_threads, 1024, "", "with those that wait inside a function")                                        \
	X(INT, spin_us, 50, "us", "how long a wait spins before it sleeps; 0: never")                                  \
	X(INT, max_depth, 4096, "", "calls nested in calls")                                                           \
	X(INT, max_body_bytes, 67108864, "bytes", "of one message, without tensors")                                   \
	X(INT, max_message_bytes, 68719476736, "bytes", "of one message, with tensors")                                \
	X(INT, max_calls, 65536, "", "calls under way to one worker")                                                  \
	X(INT, credit_bytes, 268435456, "bytes", "of requests that one worker may have sent and we not yet taken up")  \
	X(INT, pool_bytes, 268435456, "bytes", "that the pool of received tensors keeps for reuse")                    \
	X(INT, heartbeat_ms, 1000, "ms", "after which a silent connection is asked for a sign of life; 0: never")      \
	X(INT, heartbeat_bound_ms, 10000, "ms", "of silence after which a worker counts as gone, at the least")        \
	X(INT, connect_timeout_ms, 10000, "ms", "for one connection to be made and greeted")                           \
	X(INT, dump_signal, 0, "signal", "on which what is stuck is written to the log; 0: none")                      \
	X(TEXT, backend, NULL, "name", "what makes the agent, see tendril/backend.h; unset: TENDRIL")                  \
	X(TEXT, fail_messages, NULL, "list", "backend FAULTY: types of messages that fail, such as SCRIPT_CALL")       \
	X(INT, fail_sends, 0, "", "backend FAULTY: how often each such message fails before it is sent")               \
	X(TEXT, delay_messages, NULL, "list",                                                                          \
	  "backend FAULTY: types held back and for how many s, as SCRIPT_CALL=1.5")                                    \
	X(INT, device_count, 0, "", "accelerators that device maps may name")

typedef struct tdr_agent_options {
	size_t size; /* sizeof(tdr_agent_options) */
#define TDR_OPTION_TYPE_INT int64_t
#define TDR_OPTION_TYPE_TEXT const char *
#define TDR_OPTION_FIELD(type, field, initial, unit, text) TDR_OPTION_TYPE_##type field;
	TDR_AGENT_OPTION_LIST(TDR_OPTION_FIELD)
#undef TDR_OPTION_FIELD
	tdr_store *store;   /* the store to meet through, in place of init_method; borrowed. NULL: init_method's */
	tdr_engine *engine; /* the engine to run on; borrowed. NULL: one of its own */
} tdr_agent_options;

TDR_BEGIN_DECLS

/* Sets the size and every field's default. */
TDR_API void tdr_agent_options_init(tdr_agent_options *options);

TDR_END_DECLS

#endif
