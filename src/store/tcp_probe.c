/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a client learns which version its server speaks. Nothing announces it, and a server is easily harmed: one of
 * version 1 reads requests in its only thread, so that half a request from one client stops it for all, and a request of
 * version 2 means something else to it. So the question must be a whole request, or plain nonsense, in both versions:
 *
 *   1. VALIDATE, the magic number, and GETNUMKEYS four times. A server of version 2 gives four numbers. One of version 1
 *      reads it as a SET whose key is 0x070707073C85F7CE bytes long, more than any machine can address, and drops the
 *      connection at once.
 *   2. Where the connection was dropped, on another one GETNUMKEYS of version 1. A server of version 1 gives a number;
 *      one of version 2 (which was just being started, or was full) drops or ignores this.
 *
 * Silence decides nothing: a busy server is asked again, from the beginning. Each question has a connection of its own,
 * which is kept if it got the answer.
 */
#include "store/tcp_probe.h"

#include "base/clock.h"
#include "base/error.h"

#include <poll.h>

/* One question waits no longer than this for its answer. */
#define ANSWER_MS 10000

/* Between two tries: doubled from the first to the last. */
#define FIRST_PAUSE_MS 10
#define LAST_PAUSE_MS 500

#define V2_QUESTIONS 4

/* No store holds so many keys: a server that says so is something else. */
#define MAX_KEY_COUNT (INT64_C(1) << 40)

static int64_t answer_deadline(int64_t deadline_ms)
{
	int64_t one = deadline_after(ANSWER_MS);

	return deadline_ms > 0 ? MIN_OF(deadline_ms, one) : one;
}

/*
 * Asks in one version, on a new connection. Besides errors of tcp_connect: TDR_EVERSION where the server has dropped the
 * connection, TDR_EPROTO where its answer is none.
 */
static tdr_status ask(const struct tcp_place *place, enum wire_version version, int64_t deadline_ms,
                      struct tcp_connection **ret_connection, bool *ret_again)
{
	int questions = version == WIRE_V2 ? V2_QUESTIONS : 1;
	struct buffer request = {0};
	struct tcp_connection *connection = NULL;
	int64_t count;
	tdr_status status;

	if (version == WIRE_V2)
		wire_put_greeting(&request);
	for (int i = 0; i < questions; i++)
		wire_put_u8(&request, wire_type(version, QUERY_NUM_KEYS));
	*ret_again = false;
	status = request.failed ? error_nomem() : tcp_connect(place, deadline_ms, &connection, ret_again);
	if (status != TDR_OK)
		goto fail;
	*ret_again = true;
	deadline_ms = answer_deadline(deadline_ms);
	status = tcp_send(connection, request.data, request.size, deadline_ms);
	for (int i = 0; status == TDR_OK && i < questions; i++) {
		status = tcp_receive_i64(connection, deadline_ms, &count);
		if (status != TDR_OK || (count >= 0 && count < MAX_KEY_COUNT))
			continue;
		*ret_again = false;
		status = error_set(TDR_EPROTO, "what listens at %s:%u is not a store's server; check the host and port",
		                   place->host, place->port);
	}
	if (status == TDR_EIO)
		status = error_set(TDR_EVERSION, "it takes connections and drops them, as if it were full or no "
		                                 "store's server");
	if (status != TDR_OK)
		goto fail;
	buffer_fini(&request);
	*ret_connection = connection;
	return TDR_OK;

fail:
	tcp_close(connection);
	buffer_fini(&request);
	return status;
}

tdr_status tcp_probe(const struct tcp_place *place, int64_t deadline_ms, struct tcp_connection **ret_connection,
                     enum wire_version *ret_version)
{
	int64_t began = clock_ms(), now, tenths;
	int pause_ms = FIRST_PAUSE_MS;
	tdr_status status;
	bool again;

	for (;;) {
		*ret_version = WIRE_V2;
		status = ask(place, WIRE_V2, deadline_ms, ret_connection, &again);
		if (status == TDR_EVERSION) {
			*ret_version = WIRE_V1;
			status = ask(place, WIRE_V1, deadline_ms, ret_connection, &again);
		}
		if (status == TDR_OK)
			return TDR_OK;
		now = clock_ms();
		if (!again || (deadline_ms > 0 && now >= deadline_ms))
			break;
		poll(NULL, 0, deadline_ms > 0 ? (int)MIN_OF((int64_t)pause_ms, deadline_ms - now) : pause_ms);
		pause_ms = MIN_OF(2 * pause_ms, LAST_PAUSE_MS);
	}
	if (!again)
		return error_prefix(status, "The store's client cannot connect to (%s, %u)", place->host, place->port);
	tenths = (now - began) / 100;
	return error_set(TDR_ETIMEDOUT,
	                 "The client socket has timed out after %gs while trying to connect to (%s, %u): "
	                 "%s. Check that the process that hosts the store runs there, and that the host "
	                 "and port are right.",
	                 (double)tenths / 10, place->host, place->port, tdr_last_error());
}
