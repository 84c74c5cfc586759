/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that have to wait before they can leave: their worker has not taken up earlier ones, and its credit is used up.
 *
 * A call is first made so that it is refused rather than that it waits. Where it is, it is made once more here, with copies of all that it
 * needs, in whatever thread may wait for it, so that in the main thread a signal can end the wait.
 */
#include "ext.h"

#include <stdlib.h>
#include <string.h>

struct departure {
	struct sending sending; /* all of it counted, or a copy */
	tdr_future *future;
	tdr_rref *rref;
};

void send_now(const struct sending *sending, tdr_future **ret_future, tdr_rref **ret_rref)
{
	const tdr_rpc_options *options = &sending->options;

	if (sending->referent && sending->creates)
		*ret_rref =
		    tdr_rref_remote_with(sending->referent, sending->function, sending->args, sending->kwargs, options);
	else if (sending->referent)
		*ret_future = tdr_rref_rpc_async_with(sending->referent, sending->function, sending->args,
		                                      sending->kwargs, options);
	else if (sending->creates)
		*ret_rref = tdr_remote_with(sending->agent, sending->worker, sending->function, sending->args,
		                            sending->kwargs, options);
	else
		*ret_future = tdr_rpc_async_with(sending->agent, sending->worker, sending->function, sending->args,
		                                 sending->kwargs, options);
}

static void depart(void *context)
{
	struct departure *departure = context;

	send_now(&departure->sending, &departure->future, &departure->rref);
	departure->sending.args = departure->sending.kwargs = NULL; /* given away */
}

/* Nobody wants what is still there. */
static void release(void *context)
{
	struct departure *departure = context;
	struct sending *sending = &departure->sending;

	tdr_future_cancel(departure->future);
	tdr_future_unref(departure->future);
	tdr_rref_unref(departure->rref);
	tdr_value_unref(sending->args);
	tdr_value_unref(sending->kwargs);
	tdr_rref_unref(sending->referent);
	tdr_agent_unref(sending->agent);
	free((char *)sending->worker);
	free((char *)sending->function);
	free(departure);
}

static struct departure *departure_new(const struct sending *sending)
{
	struct departure *departure = calloc(1, sizeof(*departure));

	if (!departure)
		return NULL;
	departure->sending = *sending;
	departure->sending.agent = tdr_agent_ref(sending->agent);
	departure->sending.referent = tdr_rref_ref(sending->referent);
	departure->sending.worker = strdup(sending->worker);
	departure->sending.function = strdup(sending->function);
	departure->sending.args = tdr_value_ref(sending->args);
	departure->sending.kwargs = tdr_value_ref(sending->kwargs);
	/* It waits for its turn, in this thread or another one; and another one does not wait for the answer. */
	departure->sending.options.flags &= ~(unsigned)(TDR_RPC_NO_WAIT | TDR_RPC_AWAITED);
	return departure;
}

/* Whether a call has been refused for lack of credit; and not, with the same status, by the function that it has called. */
static bool is_refused(tdr_future *future)
{
	return future && tdr_future_done(future) && tdr_future_status(future) == TDR_EAGAIN &&
	       !tdr_future_traceback(future) && strstr(tdr_future_error(future), "its credit is used up");
}

bool was_refused(tdr_future *future, tdr_rref *rref)
{
	tdr_future *creation = rref ? tdr_rref_future(rref) : NULL;
	bool refused = is_refused(rref ? creation : future);

	tdr_future_unref(creation); /* not the last reference: the rref has the future, too */
	return refused;
}

int send_patiently(const struct sending *sending, tdr_future **ret_future, tdr_rref **ret_rref)
{
	struct departure *departure = departure_new(sending);

	if (!departure || !departure->sending.worker || !departure->sending.function) {
		if (departure)
			release(departure);
		PyErr_NoMemory();
		return -1;
	}
	if (run_interruptibly(depart, departure, release) < 0)
		return -1;
	if (sending->creates)
		*ret_rref = departure->rref;
	else
		*ret_future = departure->future;
	departure->future = NULL;
	departure->rref = NULL;
	Py_BEGIN_ALLOW_THREADS;
	release(departure);
	Py_END_ALLOW_THREADS;
	return 0;
}
