/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that we serve: from the message to the answer.
 *
 * A request is decoded and bound in the thread that received it. An inline function runs there and then, where that thread may run
 * functions; any other is a task. A request whose time is over, or that was cancelled before it ran, is not run. What the function
 * calls in turn inherits the deadline and is one deeper, by the thread's scope.
 */
#include "agent/internal.h"
#include "agent/outgoing.h"
#include "agent/references.h"

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
	tdr_value *value; /* counted; NULL unless TDR_OK */
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

/* ---- answering ---- */

static tdr_status put_metadata(struct encoder *encoder, const tdr_value *metadata)
{
	if (metadata)
		return encode_value_as(encoder, metadata, "metadata");
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
                       const tdr_value *metadata)
{
	struct encoder encoder;

	encoder_init(&encoder, &peer->agent->codec_limits);
	encode_array(&encoder, 4);
	encode_uint(&encoder, status);
	put_text(&encoder, text);
	put_text(&encoder, traceback);
	if (put_metadata(&encoder, metadata) != TDR_OK) { /* the error matters more than what goes along with it */
		encoder_fini(&encoder);
		send_error(peer, call_id, status, text, traceback, NULL);
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
	status = put_metadata(&encoder, metadata);
	if (status == TDR_OK)
		status = encode_value_as(&encoder, value, "result");
	if (status == TDR_OK)
		status = send_body(peer, MESSAGE_REPLY, call_id, &encoder);
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

/*
 * Shows an outcome to the interceptors, if there are any, and sends it, or keeps it where a reference is to stand for it (`creates`,
 * taken over; NULL: none). `value` is given away. Returns what was sent.
 */
static tdr_status answer(struct peer *peer, uint64_t call_id, tdr_passage *passage, struct owned_value *creates,
                         tdr_status status, tdr_value *value, const char *text, const char *traceback)
{
	tdr_value *metadata = NULL;
	char *copy = NULL;

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
		owned_value_store(peer->agent, creates, status, TAKE_PTR(value), text, traceback);
		status = TDR_OK;
	}
	if (status == TDR_OK) {
		status = send_reply(peer, call_id, value ? value : tdr_none(), metadata);
		text = tdr_last_error();
	}
	if (status != TDR_OK)
		send_error(peer, call_id, status, text, traceback, metadata);
	tdr_value_unref(value);
	free(copy);
	return status;
}

static void finish(struct served *served, tdr_status status, tdr_value *value, const char *text, const char *traceback)
{
	struct peer *peer = served->peer;
	tdr_agent *agent = peer->agent;

	status =
	    answer(peer, served->call_id, served->passage, TAKE_PTR(served->creates), status, value, text, traceback);
	pthread_mutex_lock(&peer->served_lock);
	list_remove(&served->node);
	pthread_mutex_unlock(&peer->served_lock);
	atomic_fetch_add_explicit(status == TDR_OK ? &agent->metrics.served : &agent->metrics.served_failed, 1,
	                          memory_order_relaxed);
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

/*
 * A request between its message and its function. Where it has to wait, for references among its arguments to be counted by their
 * owners or for the value that it is called on, it lives on the heap, and takes no thread.
 */
struct request {
	struct peer *peer;
	uint64_t call_id;
	int64_t deadline_ms; /* 0: none */
	size_t cost;
	const char *name; /* in the message's body, or in `kept_name` */
	size_t name_size;
	char *kept_name;
	uint64_t depth;
	tdr_value *metadata, *args, *kwargs; /* counted, or NULL */
	bool has_target;
	struct target target;
	struct owned_value *on; /* what it is called on; with a handle and memory; or NULL */
	bool has_creation;
	struct creation creation;
	struct owned_value *creates; /* with a handle and memory; or NULL */
	struct cargo cargo;          /* references among the arguments */
	tdr_passage *passage;        /* until a call has it; NULL without interceptors */
	struct function *function;   /* counted; whose name the passage has */
};

static void request_fini(struct request *request)
{
	tdr_agent *agent = request->peer->agent;

	tdr_value_unref(request->metadata);
	tdr_value_unref(request->args);
	tdr_value_unref(request->kwargs);
	if (request->on)
		owned_value_put(agent, request->on);
	if (request->creates)
		owned_value_put(agent, request->creates);
	cargo_fini(&request->cargo);
	passage_free(request->passage);
	function_unref(request->function);
	free(request->kept_name);
}

static tdr_status read_optional(struct decoder *decoder, const char *what, tdr_value **ret_value)
{
	tdr_status status;

	if (decode_is_nil(decoder))
		return TDR_OK;
	status = decode_value(decoder, ret_value);
	return status == TDR_OK ? TDR_OK : error_prefix(status, "%s", what);
}

/* What it is called on: nil, or name and origin. */
static tdr_status read_target(struct decoder *decoder, struct request *request)
{
	size_t parts;
	tdr_status status;

	if (decode_is_nil(decoder))
		return TDR_OK;
	status = decode_array(decoder, &parts);
	if (status == TDR_OK && parts != 4)
		status = error_set(TDR_EPROTO, "a call's target of %zu parts, not 4", parts);
	if (status == TDR_OK)
		status = rref_id_decode(decoder, &request->target.rref);
	if (status == TDR_OK)
		status = decode_uint(decoder, &request->target.origin);
	request->has_target = status == TDR_OK;
	return status;
}

/* What it creates: nil, or the local numbers of reference and fork, and the number that its caller sent it under. */
static tdr_status read_creation(struct decoder *decoder, struct request *request)
{
	const struct identity *caller = link_peer(request->peer->link);
	struct creation *creation = &request->creation;
	size_t parts;
	tdr_status status;

	if (decode_is_nil(decoder))
		return TDR_OK;
	creation->rref = creation->fork = (struct rref_id){.incarnation = caller->incarnation, .worker = caller->id};
	status = decode_array(decoder, &parts);
	if (status == TDR_OK && parts != 3)
		status = error_set(TDR_EPROTO, "what a call creates in %zu parts, not 3", parts);
	if (status == TDR_OK)
		status = decode_uint(decoder, &creation->rref.local);
	if (status == TDR_OK)
		status = decode_uint(decoder, &creation->fork.local);
	if (status == TDR_OK)
		status = decode_uint(decoder, &creation->number);
	request->has_creation = status == TDR_OK;
	return status;
}

static tdr_status read_request(const struct message *message, struct request *request)
{
	struct decoder decoder;
	size_t parts;
	tdr_status status;

	decoder_init(&decoder, &request->peer->agent->codec_limits, message->body, message->body_size,
	             message->storages, message->nstorages);
	cargo_in(&request->cargo, &decoder);
	status = decode_array(&decoder, &parts);
	if (status == TDR_OK && parts != 5 && parts != 7)
		status = error_set(TDR_EPROTO, "a call of %zu parts, not 5 or 7", parts);
	if (status == TDR_OK)
		status = decode_string(&decoder, &request->name, &request->name_size);
	if (status == TDR_OK)
		status = decode_uint(&decoder, &request->depth);
	if (status == TDR_OK)
		status = read_optional(&decoder, "metadata", &request->metadata);
	if (status == TDR_OK)
		status = read_optional(&decoder, "args", &request->args);
	if (status == TDR_OK)
		status = read_optional(&decoder, "kwargs", &request->kwargs);
	if (status == TDR_OK && parts == 7)
		status = read_target(&decoder, request);
	if (status == TDR_OK && parts == 7)
		status = read_creation(&decoder, request);
	if (status == TDR_OK)
		status = decode_end(&decoder);
	if (status == TDR_OK && request->depth > UINT16_MAX)
		status = error_set(TDR_EPROTO, "a call %llu deep", (unsigned long long)request->depth);
	if (status == TDR_OK && message->type == MESSAGE_REMOTE_CALL && !request->has_creation)
		status = error_set(TDR_EPROTO, "a remote call that creates nothing");
	return status;
}

/* ---- references of a request ---- */

/* What the request creates comes to be known here, and what it is called on is found. */
static tdr_status take_references(struct request *request)
{
	struct peer *peer = request->peer;
	tdr_agent *agent = peer->agent;
	struct rrefs *machine;
	struct rref_owned *owned;
	tdr_status status;

	if (!request->has_target && !request->has_creation)
		return TDR_OK;
	status = references_lock(agent);
	if (status != TDR_OK)
		return status;
	machine = agent->references.machine;
	if (request->has_creation) {
		const struct creation *creation = &request->creation;

		if (creation->number == 0 && link_peer(peer->link)->incarnation == agent->self.incarnation)
			status =
			    rrefs_find(machine, &creation->rref, 0, &owned); /* made by ourselves before the call */
		else
			status = rrefs_create(references_peer(peer), &creation->rref, &creation->fork, creation->number,
			                      &owned);
		if (status == TDR_OK) {
			request->creates = owned_value_of(owned);
			refcount_get(&request->creates->memory);
		}
	}
	if (status == TDR_OK && request->has_target) {
		status = rrefs_find(machine, &request->target.rref, request->target.origin, &owned);
		if (status == TDR_OK) {
			request->on = owned_value_of(owned);
			refcount_get(&request->on->memory);
		}
	}
	references_unlock(agent);
	return status;
}

/* The full name of a function that is called on a value by a short one. */
static tdr_status find_method(struct request *request, const tdr_value *value)
{
	const char *type = tdr_value_kind(value) == TDR_TENSOR ? "aten" : tdr_native_type(value);
	char *full;
	size_t room;

	if (memmem(request->name, request->name_size, "::", 2))
		return TDR_OK;
	if (!type)
		return error_set(
		    TDR_ENOFUNCTION, "a value of kind %s has no functions of its own: call '%.*s' by its full name",
		    tdr_kind_name(tdr_value_kind(value)), (int)MIN_OF(request->name_size, (size_t)256), request->name);
	room = strlen(type) + 2 + request->name_size + 1;
	full = malloc(room);
	if (!full)
		return error_nomem();
	snprintf(full, room, "%s::%.*s", type, (int)request->name_size, request->name);
	free(request->kept_name); /* the short one may be there */
	request->name = request->kept_name = full;
	request->name_size = room - 1;
	return TDR_OK;
}

/* Puts the value that the request is called on before its arguments. The value is there. */
static tdr_status put_target_first(struct request *request)
{
	tdr_value *value = tdr_future_value(request->on->value), *args;
	tdr_status status = tdr_future_status(request->on->value);

	if (status != TDR_OK)
		return error_set(status, "%s", tdr_future_error(request->on->value));
	status = find_method(request, value);
	if (status != TDR_OK)
		return status;
	args = tdr_list(1, &(tdr_value *){tdr_value_ref(value)});
	for (size_t i = 0; i < tdr_value_count(request->args); i++)
		(void)tdr_list_append(args, tdr_value_ref(tdr_value_item(request->args, i)));
	tdr_value_unref(request->args);
	request->args = args;
	return tdr_value_status(args);
}

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
	passage = passage_new(peer->agent, peer->link, function->schema->name, true);
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
	served->passage = TAKE_PTR(request->passage);
	if (served->passage)
		served->passage->function = served->call.function->schema->name;
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

/* The request is not run: its caller is told why, or whoever uses the reference that it was to create. */
static void refuse(struct request *request, tdr_status status)
{
	struct peer *peer = request->peer;

	atomic_fetch_add(&peer->agent->metrics.served_failed, 1);
	link_took(peer->link, request->cost);
	answer(peer, request->call_id, request->passage, TAKE_PTR(request->creates), status, NULL, tdr_last_error(),
	       NULL);
}

/* Everything that the request needs is there: runs it, or lets it be run. */
static void start(struct request *request, unsigned turn)
{
	struct served *served = NULL;
	tdr_status status = request->on ? put_target_first(request) : TDR_OK;

	if (status == TDR_OK)
		status = admit(request, &served);
	if (status != TDR_OK) {
		refuse(request, status);
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

/* ---- requests that wait ---- */

/* What the request has to wait for next; counted; NULL: nothing. */
static tdr_future *next_obstacle(struct request *request)
{
	while (request->cargo.count > 0) {
		tdr_future *settling = request->cargo.settling[--request->cargo.count];

		if (!tdr_future_done(settling))
			return settling;
		tdr_future_unref(settling);
	}
	return request->on && !tdr_future_done(request->on->value) ? tdr_future_ref(request->on->value) : NULL;
}

static void go_on(tdr_future *future, void *context)
{
	struct request *request = context;
	tdr_agent *agent = request->peer->agent;
	tdr_future *obstacle = next_obstacle(request);

	if (obstacle && tdr_future_on_done(obstacle, go_on, request) == TDR_OK) {
		tdr_future_unref(obstacle);
		return;
	}
	tdr_future_unref(obstacle);
	if (obstacle)
		refuse(request, error_nomem());
	else
		start(request, 0);
	request_fini(request);
	free(request);
	agent_note_end(agent, &agent->serving);
	agent_drop(agent);
}

/* Lets a request wait; it is moved. False where there is no memory for that. */
static bool park(struct request *request, tdr_future *obstacle)
{
	tdr_agent *agent = request->peer->agent;
	struct request *parked = malloc(sizeof(*parked));
	char *name = malloc(request->name_size + 1);

	if (!parked || !name) {
		free(parked);
		free(name);
		return false;
	}
	memcpy(name, request->name, request->name_size);
	name[request->name_size] = '\0';
	*parked = *request;
	parked->name = parked->kept_name = name;
	agent_hold(agent);
	atomic_fetch_add(&agent->serving, 1);
	atomic_fetch_add(&agent->activity, 1);
	if (tdr_future_on_done(obstacle, go_on, parked) == TDR_OK) {
		*request = (struct request){.peer = request->peer};
		return true;
	}
	free(parked);
	free(name);
	agent_note_end(agent, &agent->serving);
	agent_drop(agent);
	return false;
}

void serve_call(struct peer *peer, const struct message *message, unsigned turn)
{
	struct request request = {
	    .peer = peer,
	    .call_id = message->call_id,
	    .deadline_ms = deadline_after(message->time_left_ms),
	    .cost = message_cost(message),
	};
	tdr_future *obstacle = NULL;
	tdr_status status;

	cargo_init(&request.cargo, peer);
	status = read_request(message, &request);
	if (status == TDR_OK)
		status = take_references(&request);
	if (status != TDR_OK)
		refuse(&request, status);
	else if ((obstacle = next_obstacle(&request))) {
		if (!park(&request, obstacle))
			refuse(&request, error_nomem());
	} else
		start(&request, turn);
	tdr_future_unref(obstacle);
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

	pthread_mutex_lock(&peer->served_lock);
	list_for_each(node, &peer->served) {
		const struct served *served = list_entry(node, struct served, node);
		const char *where = served->pending                 ? "waits for its future"
		                    : atomic_load(&served->running) ? "runs"
		                                                    : "is queued";
		char age[32];

		print_duration((now - served->arrived_ns) / 1000, age, sizeof(age));
		buffer_printf(text, "serving %s for worker '%s' since %s: %s%s\n", served->call.function->schema->name,
		              link_peer(peer->link)->name, age, where,
		              atomic_load(&served->call.cancelled) ? ", cancelled" : "");
	}
	pthread_mutex_unlock(&peer->served_lock);
}
