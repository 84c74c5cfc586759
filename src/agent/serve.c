/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that we serve: from the message to the answer.
 *
 * A request is decoded and bound in the thread that received it. An inline function runs there and then, where that thread may run
 * functions; any other is a task. A request whose time is over, or that was cancelled before it ran, is not run. What the function
 * calls in turn inherits the deadline and is one deeper, by the thread's scope.
 */
#include "agent/request.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct served {
	tdr_call call;
	struct task task;
	struct peer *peer;
	struct list node; /* in peer->served */
	uint64_t call_id;
	uint32_t depth;
	size_t cost; /* of the request, in credit */
	int64_t arrived_ns;
	_Atomic bool running;
	tdr_future *pending;  /* what an asynchronous function waits for; counted; guarded by peer->served_lock */
	tdr_passage *passage; /* NULL without interceptors */
	struct owned_value *creates; /* where the result stays; with a handle and memory; NULL: it is sent */
	/* With a passage, guarded by peer->served_lock: the answer waits for those inside, so that `reply` is the last hook. */
	unsigned inside; /* entered and not left: the function, and continuations */
	struct answer *held;
};

/* An outcome on its way to the caller. */
struct answer {
	tdr_status status;
	tdr_value *value; /* counted: the result, or what was attached to the error */
	char *text, *traceback;
};

static _Thread_local struct scope current_scope;

struct scope serve_scope(void)
{
	return current_scope;
}

static struct served *served_of(tdr_call *call)
{
	return container_of(call, struct served, call);
}

static void finish(struct served *served, tdr_status status, tdr_value *value, const char *text, const char *traceback)
{
	struct peer *peer = served->peer;
	tdr_agent *agent = peer->agent;

	answer(peer, served->call_id, served->passage, TAKE_PTR(served->creates), status, value, text, traceback);
	pthread_mutex_lock(&peer->served_lock);
	list_remove(&served->node);
	pthread_mutex_unlock(&peer->served_lock);
	agent_note_end(agent, &agent->serving);
}

/* Keeps an outcome until the last one inside has left; false if nobody is. `value` is given away only if it is kept. */
static bool hold_answer(struct served *served, tdr_status status, tdr_value *value, const char *text,
                        const char *traceback)
{
	struct answer *held = served->passage ? calloc(1, sizeof(*held)) : NULL;

	if (!held)
		return false; /* for lack of memory it goes out now, and the hooks are out of order */
	*held = (struct answer){.status = status, .value = value};
	held->text = text ? strdup(text) : NULL;
	held->traceback = traceback ? strdup(traceback) : NULL;
	pthread_mutex_lock(&served->peer->served_lock);
	if (served->inside > 0)
		served->held = TAKE_PTR(held);
	pthread_mutex_unlock(&served->peer->served_lock);
	if (!held)
		return true;
	free(held->text);
	free(held->traceback);
	free(held);
	return false;
}

static void on_finished(tdr_call *call, tdr_status status, tdr_value *value, const char *text, const char *traceback)
{
	struct served *served = served_of(call);

	if (!hold_answer(served, status, value, text, traceback))
		finish(served, status, value, text, traceback);
}

static void on_pending(tdr_call *call, tdr_future *future)
{
	struct served *served = served_of(call);
	tdr_future *before;

	tdr_future_ref(future);
	pthread_mutex_lock(&served->peer->served_lock);
	before = served->pending;
	served->pending = future;
	pthread_mutex_unlock(&served->peer->served_lock);
	tdr_future_unref(before);
}

static void on_enter(tdr_call *call)
{
	struct served *served = served_of(call);

	current_scope = (struct scope){.deadline_ms = call->deadline_ms, .depth = served->depth};
	if (!served->passage)
		return;
	pthread_mutex_lock(&served->peer->served_lock);
	served->inside++;
	pthread_mutex_unlock(&served->peer->served_lock);
	intercept_run(served->passage, HOOK_ENTER);
}

static void on_leave(tdr_call *call)
{
	struct served *served = served_of(call);
	struct answer *held = NULL;

	if (served->passage) {
		intercept_run(served->passage, HOOK_LEAVE);
		pthread_mutex_lock(&served->peer->served_lock);
		if (--served->inside == 0)
			held = TAKE_PTR(served->held);
		pthread_mutex_unlock(&served->peer->served_lock);
	}
	current_scope = (struct scope){0};
	if (!held)
		return;
	finish(served, held->status, held->value, held->text, held->traceback);
	free(held->text);
	free(held->traceback);
	free(held);
}

static void on_free(tdr_call *call)
{
	struct served *served = served_of(call);
	tdr_agent *agent = served->peer->agent;

	passage_free(served->passage);
	tdr_future_unref(served->pending);
	free(served);
	agent_drop(agent);
}

static const struct call_ops served_ops = {
    .finished = on_finished,
    .pending = on_pending,
    .enter = on_enter,
    .leave = on_leave,
    .free = on_free,
};

/* ---- running ---- */

static void run(struct served *served)
{
	tdr_call *call = &served->call;
	struct scope before = current_scope;

	link_took(served->peer->link, served->cost);
	atomic_store_explicit(&served->running, true, memory_order_relaxed);
	if (call->deadline_ms && clock_ms() >= call->deadline_ms) {
		atomic_fetch_add(&served->peer->agent->metrics.expired, 1);
		call_abort(call, TDR_ETIMEDOUT, "its time was over before it could run");
	} else if (atomic_load(&call->cancelled)) {
		call_abort(call, TDR_ECANCELED, "it was cancelled before it ran");
	} else {
		on_enter(call);
		call_run(call);
		on_leave(call);
		current_scope = before;
	}
	tdr_call_unref(call);
}

static void run_task(struct task *task)
{
	run(container_of(task, struct served, task));
}

static void refuse_task(struct task *task)
{
	struct served *served = container_of(task, struct served, task);

	link_took(served->peer->link, served->cost);
	atomic_fetch_add(&served->peer->agent->metrics.refused, 1);
	call_abort(&served->call, TDR_ENOTHREADS,
	           "all threads that max_threads allows wait for calls, and this one may be what they wait for");
	tdr_call_unref(&served->call);
}

/* ---- receiving ---- */

static tdr_status find_functions(const struct request *request, struct function *ret_functions[], size_t *ret_count)
{
	struct registry *registry = request->peer->agent->registry;
	char like[256];

	*ret_count = registry_find(registry, request->name, request->name_size, ret_functions, REGISTRY_MAX_OVERLOADS);
	if (*ret_count > 0)
		return TDR_OK;
	if (registry_suggest(registry, request->name, request->name_size, like, sizeof(like)))
		return error_set(TDR_ENOFUNCTION, "there is no function '%.*s'; did you mean '%s'?",
		                 (int)MIN_OF(request->name_size, (size_t)256), request->name, like);
	return error_set(TDR_ENOFUNCTION, "there is no function '%.*s'", (int)MIN_OF(request->name_size, (size_t)256),
	                 request->name);
}

static tdr_status receive_hooks(struct request *request, struct function *function)
{
	struct peer *peer = request->peer;
	tdr_passage *passage;
	tdr_status status;

	if (peer->agent->interceptors.count == 0)
		return TDR_OK;
	request->function = function_ref(function);
	passage = passage_new(peer->agent, peer->link,
	                      function->schema->wildcard ? request->kept_name : function->schema->name, true);
	if (!passage)
		return error_nomem();
	request->passage = passage;
	passage->args = TAKE_PTR(request->args);
	passage->kwargs = TAKE_PTR(request->kwargs);
	passage->received = TAKE_PTR(request->metadata);
	status = intercept_run(passage, HOOK_RECEIVE);
	request->args = TAKE_PTR(passage->args);
	request->kwargs = TAKE_PTR(passage->kwargs);
	return status;
}

/* A call that is ready to run, in the list of those being served; with one reference, its runner's. */
static tdr_status admit(struct request *request, struct served **ret_served)
{
	struct peer *peer = request->peer;
	const struct identity *caller = link_peer(peer->link);
	struct function *functions[REGISTRY_MAX_OVERLOADS];
	size_t count;
	struct served *served;
	tdr_status status = find_functions(request, functions, &count);

	if (status != TDR_OK)
		return status;
	served = calloc(1, sizeof(*served));
	if (!served) {
		while (count > 0)
			function_unref(functions[--count]);
		return error_nomem();
	}
	served->peer = peer;
	status = functions[0]->schema->wildcard ? request_keep_name(request) : TDR_OK;
	if (status == TDR_OK)
		status = receive_hooks(request, functions[0]);
	if (status == TDR_OK) {
		status = call_bind(&served->call, &served_ops, functions, count, request->args, request->kwargs);
	} else {
		while (count > 0)
			function_unref(functions[--count]);
	}
	if (status != TDR_OK) {
		free(served);
		return status;
	}
	if (served->call.function->schema->wildcard)
		served->call.name = TAKE_PTR(request->kept_name);
	served->passage = TAKE_PTR(request->passage);
	if (served->passage)
		served->passage->function = tdr_call_function_name(&served->call);
	served->creates = TAKE_PTR(request->creates);
	agent_hold(peer->agent);
	served->call.worker_name = caller->name;
	served->call.worker_id = caller->id;
	served->call.deadline_ms = request->deadline_ms;
	served->call_id = request->call_id;
	served->depth = (uint32_t)request->depth;
	served->cost = request->cost;
	served->arrived_ns = clock_ns();
	served->task = (struct task){.run = run_task, .refuse = refuse_task, .nested = request->depth > 1};
	list_init(&served->task.node);
	atomic_fetch_add(&peer->agent->serving, 1);
	atomic_fetch_add(&peer->agent->activity, 1);
	pthread_mutex_lock(&peer->served_lock);
	list_append(&peer->served, &served->node);
	pthread_mutex_unlock(&peer->served_lock);
	*ret_served = served;
	return TDR_OK;
}

void request_refuse(struct request *request, tdr_status status)
{
	struct peer *peer = request->peer;
	tdr_future *on = request->on && tdr_future_status(request->on->value) == status ? request->on->value : NULL;

	link_took(peer->link, request->cost);
	answer(peer, request->call_id, request->passage, TAKE_PTR(request->creates), status,
	       on ? tdr_value_ref(tdr_future_detail(on)) : NULL, tdr_last_error(),
	       on ? tdr_future_traceback(on) : NULL);
}

void request_start(struct request *request, unsigned turn)
{
	struct served *served = NULL;
	tdr_status status = request->on ? request_put_target_first(request) : TDR_OK;

	if (status == TDR_OK)
		status = admit(request, &served);
	if (status != TDR_OK) {
		request_refuse(request, status);
		return;
	}
	if ((served->call.function->flags & TDR_FUNCTION_INLINE) && (turn & TURN_MAY_RUN)) {
		engine_enter_inline();
		run(served);
		engine_leave_inline();
		return;
	}
	engine_submit(request->peer->agent->engine, &served->task);
}

void serve_call(struct peer *peer, const struct message *message, unsigned turn)
{
	struct request request;
	tdr_status status;

	request_init(&request, peer, message);
	status = request_read(message, &request);
	if (status == TDR_OK)
		status = request_take_references(&request);
	if (status != TDR_OK)
		request_refuse(&request, status);
	else if (message->type == MESSAGE_FETCH && fetch_serve(&request, turn))
		; /* it is answered, or waits */
	else if (!request_has_to_wait(&request))
		request_start(&request, turn);
	else if (!request_park(&request))
		request_refuse(&request, error_nomem());
	request_fini(&request);
}

/* ---- cancelling ---- */

/* Tells a call that nobody waits for it any more; with the peer's served_lock held. The future to cancel is counted. */
static tdr_future *mark_cancelled(struct served *served)
{
	atomic_store(&served->call.cancelled, true);
	return tdr_future_ref(served->pending);
}

void serve_cancel(struct peer *peer, uint64_t call_id)
{
	tdr_future *pending = NULL;

	parked_cancel(peer, call_id);
	pthread_mutex_lock(&peer->served_lock);
	list_for_each(node, &peer->served) {
		struct served *served = list_entry(node, struct served, node);

		if (served->call_id != call_id)
			continue;
		pending = mark_cancelled(served);
		break;
	}
	pthread_mutex_unlock(&peer->served_lock);
	tdr_future_cancel(pending);
	tdr_future_unref(pending);
}

void serve_cancel_all(struct peer *peer)
{
	parked_cancel_all(peer);
	for (;;) {
		tdr_future *pending = NULL;

		pthread_mutex_lock(&peer->served_lock);
		list_for_each(node, &peer->served) {
			struct served *served = list_entry(node, struct served, node);

			if (!atomic_load(&served->call.cancelled) && (pending = mark_cancelled(served)))
				break;
		}
		pthread_mutex_unlock(&peer->served_lock);
		if (!pending)
			break;
		tdr_future_cancel(pending);
		tdr_future_unref(pending);
	}
}

void serve_dump(struct peer *peer, struct buffer *text)
{
	int64_t now = clock_ns();

	parked_dump(peer, text);
	pthread_mutex_lock(&peer->served_lock);
	list_for_each(node, &peer->served) {
		const struct served *served = list_entry(node, struct served, node);
		const char *where = served->pending                 ? "waits for its future"
		                    : atomic_load(&served->running) ? "runs"
		                                                    : "is queued";
		char age[32];

		print_duration((now - served->arrived_ns) / 1000, age, sizeof(age));
		buffer_printf(text, "serving %s for worker '%s' since %s: %s%s\n",
		              tdr_call_function_name(&served->call), link_peer(peer->link)->name, age, where,
		              atomic_load(&served->call.cancelled) ? ", cancelled" : "");
	}
	pthread_mutex_unlock(&peer->served_lock);
}
