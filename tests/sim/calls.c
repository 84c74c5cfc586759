/* SPDX-License-Identifier: Apache-2.0 */
#include "calls.h"

#include "checker.h"
#include "worker.h"

#include <stdlib.h>

/* One that we have made. */
struct call {
	struct list node;
	uint64_t id;
	enum message_kind kind;
	struct worker *to;
	struct handle handle;
	struct rref_id forks[SIM_PASSED];
	size_t nforks;
};

enum job_state {
	JOB_WAITING, /* for the references that it was given to be settled, or for the value that is fetched */
	JOB_RUNNING,
};

/* One that another has made, under way here. */
struct job {
	struct list node;
	uint64_t id;
	struct worker *worker, *from;
	enum message_kind kind;
	uint64_t call; /* 0: it is ours, and wants no reply */
	size_t wanted, creation;
	enum job_state state;
	struct handle handles[SIM_PASSED];
	size_t nhandles;
	struct thing *thing; /* created or fetched */
};

/* ---- the caller ---- */

static struct call *find_call(const struct worker *worker, uint64_t id)
{
	list_for_each(node, &worker->calls) {
		struct call *call = list_entry(node, struct call, node);

		if (call->id == id)
			return call;
	}
	return NULL;
}

static void end_call(struct worker *worker, struct call *call, bool success)
{
	list_remove(&call->node);
	if (!success)
		for (size_t i = 0; i < call->nforks; i++)
			rrefs_withdraw(worker->machine, &call->forks[i]);
	if (call->kind == MESSAGE_CREATE)
		rrefs_user_created(&call->handle.use->user, success);
	if (call->handle.use && dice_percent(&worker->sim->dice, 50) && worker->state == WORKER_UP &&
	    !worker->sim->draining)
		worker_keep(worker, call->handle);
	else if (call->handle.use || call->handle.thing)
		handle_unref(call->handle);
	free(call);
}

static void time_out(struct sim *sim, const struct event *event)
{
	struct call *call = event->worker->state != WORKER_GONE ? find_call(event->worker, event->id) : NULL;

	if (!call)
		return;
	sim_trace(sim, "w%zu: call %llu to w%zu fails", event->worker->index, (unsigned long long)call->id,
	          call->to->index);
	end_call(event->worker, call, false);
}

void calls_start(struct worker *from, struct worker *to, struct message *message, struct handle handle)
{
	struct sim *sim = from->sim;
	struct call *call = sim_alloc(sizeof(*call));
	bool hasty = !sim->draining && dice_percent(&sim->dice, sim->faults.hasty);

	message->call = call->id = ++sim->next_call;
	message->garbled_at =
	    dice_percent(&sim->dice, sim->faults.garble) ? dice_below(&sim->dice, message->npassed + 1) : SIM_PASSED;
	call->kind = message->kind;
	call->to = to;
	call->handle = handle;
	for (; call->nforks < message->npassed; call->nforks++)
		call->forks[call->nforks] = message->passed[call->nforks].fork;
	list_append(&from->calls, &call->node);
	sim_plan(sim, dice_between(&sim->dice, 1, hasty ? 200 : 9000), time_out, from, NULL, call->id, NULL);
	network_send(from, to, message);
}

void calls_fail(struct worker *worker, const struct worker *to)
{
	list_for_each_safe(node, &worker->calls) {
		struct call *call = list_entry(node, struct call, node);

		if (call->to == to)
			end_call(worker, call, false);
	}
}

/* ---- references in messages ---- */

void calls_withdraw(struct worker *worker, const struct message *message)
{
	for (size_t i = 0; i < message->npassed; i++)
		rrefs_withdraw(worker->machine, &message->passed[i].fork);
}

bool calls_pass(struct worker *worker, struct worker *to, struct handle handle, struct message *message)
{
	struct rref_peer *peer = &worker_peer(worker, to)->rref;
	struct rref_passed *passed = &message->passed[message->npassed];
	tdr_status status;

	rrefs_peer_connected(peer, worker->sim->connections[worker->index][to->index]);
	status = handle.use ? rrefs_pass_user(&handle.use->user, peer, passed)
	                    : rrefs_pass_owned(&handle.thing->owned, peer, passed);

	if (status == TDR_OK) {
		sim_trace(worker->sim, "w%zu passes %llu.%llu to w%zu as fork %llu.%llu, number %llu", worker->index,
		          (unsigned long long)passed->rref.incarnation, (unsigned long long)passed->rref.local,
		          to->index, (unsigned long long)passed->fork.incarnation,
		          (unsigned long long)passed->fork.local, (unsigned long long)passed->number);
		checker_passed(worker, to, handle, passed);
		message->npassed++;
		return true;
	}
	calls_withdraw(worker, message);
	return false;
}

struct peer *calls_named_peer(const struct worker *worker, uint32_t id, uint64_t incarnation)
{
	for (size_t i = 0; i < worker->sim->nworkers; i++) {
		struct peer *peer = worker->peers[i];

		if (peer && peer->other->id == id && peer->other->incarnation == incarnation)
			return peer;
	}
	return NULL;
}

tdr_status calls_take(struct worker *worker, struct peer *peer, const struct rref_passed *passed,
                      struct handle *ret_handle)
{
	struct peer *owner = calls_named_peer(worker, passed->owner_worker, passed->owner_incarnation);
	tdr_status status;

	if (!owner)
		return TDR_ENOWORKER;
	*ret_handle = (struct handle){0};
	if (owner->other == worker) {
		struct rref_owned *owned;

		status = rrefs_receive_owned(&peer->rref, passed, &owned);
		if (status == TDR_OK)
			ret_handle->thing = container_of(owned, struct thing, owned);
		else if (status == TDR_ENOTFOUND)
			checker_not_found(worker, peer->other, &passed->fork, true);
	} else {
		struct use *use = use_new(worker);

		status = rrefs_receive_user(&peer->rref, passed, &owner->rref, &use->user);
		if (status == TDR_OK)
			checker_taken(worker, &(ret_handle->use = use)->user, passed);
		else
			use_free(use);
	}
	sim_trace(worker->sim, "w%zu takes fork %llu.%llu from w%zu: %s", worker->index,
	          (unsigned long long)passed->fork.incarnation, (unsigned long long)passed->fork.local,
	          peer->other->index, tdr_status_name(status));
	return status;
}

static void drop_all(struct handle handles[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		handle_unref(handles[i]);
}

/* What a message carries. False: it cannot be read, and what was read of it has been dropped. */
static bool take_all(struct worker *worker, struct worker *from, const struct message *message,
                     struct handle ret_handles[])
{
	struct peer *peer = worker_peer(worker, from);

	for (size_t i = 0; i <= message->npassed; i++) {
		if (message->garbled_at != i &&
		    (i == message->npassed || calls_take(worker, peer, &message->passed[i], &ret_handles[i]) == TDR_OK))
			continue;
		drop_all(ret_handles, i);
		rrefs_recheck(&peer->rref);
		return false;
	}
	return true;
}

/* ---- the callee ---- */

static void reply(struct worker *worker, struct worker *to, uint64_t call, bool success, size_t wanted)
{
	struct message message = {.kind = MESSAGE_REPLY, .call = call, .success = success, .garbled_at = SIM_PASSED};
	struct sim *sim = worker->sim;

	for (size_t i = 0; i < wanted && worker->nhandles > 0 && success; i++)
		if (!calls_pass(worker, to, worker->handles[dice_below(&sim->dice, worker->nhandles)], &message))
			message.success = success = false;
	if (!success)
		message.npassed = 0;
	if (dice_percent(&sim->dice, sim->faults.garble))
		message.garbled_at = dice_below(&sim->dice, message.npassed + 1);
	network_send(worker, to, &message);
}

static struct job *new_job(struct worker *worker, struct worker *from, enum message_kind kind, uint64_t call)
{
	struct job *job = sim_alloc(sizeof(*job));

	job->id = ++worker->sim->next_call;
	job->worker = worker;
	job->from = from;
	job->kind = kind;
	job->call = call;
	list_append(&worker->jobs, &job->node);
	worker->noted = true;
	return job;
}

/* What it was given may be kept by the program. */
static void end_job(struct job *job, bool success)
{
	struct worker *worker = job->worker;

	list_remove(&job->node);
	for (size_t i = 0; i < job->nhandles; i++)
		if (worker->state == WORKER_UP && !worker->sim->draining && dice_percent(&worker->sim->dice, 60))
			worker_keep(worker, job->handles[i]);
		else
			handle_unref(job->handles[i]);
	if (job->call != 0)
		reply(worker, job->from, job->call, success, job->wanted);
	if (job->thing)
		rrefs_owned_unref(&job->thing->owned);
	free(job);
}

static struct job *find_job(const struct worker *worker, uint64_t id)
{
	list_for_each(node, &worker->jobs) {
		struct job *job = list_entry(node, struct job, node);

		if (job->id == id)
			return job;
	}
	return NULL;
}

static void finish(struct sim *sim, const struct event *event)
{
	struct job *job = event->worker->state != WORKER_GONE ? find_job(event->worker, event->id) : NULL;

	if (!job)
		return;
	if (job->kind == MESSAGE_CREATE) {
		rrefs_owned_ready(&job->thing->owned);
		event->worker->noted = true;
	}
	end_job(job, true);
}

static void run(struct job *job)
{
	struct sim *sim = job->worker->sim;

	job->state = JOB_RUNNING;
	if (job->kind == MESSAGE_CREATE)
		checker_runs(job->worker, job->creation);
	sim_plan(sim, dice_percent(&sim->dice, 20) ? dice_between(&sim->dice, 1, 3000) : dice_below(&sim->dice, 20),
	         finish, job->worker, NULL, job->id, NULL);
}

/* A creating function that cannot run leaves an error for a value. */
static void fail_job(struct job *job)
{
	if (job->kind == MESSAGE_CREATE) {
		rrefs_owned_ready(&job->thing->owned);
		job->worker->noted = true;
	}
	end_job(job, false);
}

static void look_at(struct job *job)
{
	if (job->state != JOB_WAITING)
		return;
	if (job->kind == MESSAGE_FETCH) {
		if (job->thing->owned.state >= OWNED_READY)
			end_job(job, job->thing->owned.state == OWNED_READY);
		return;
	}
	for (size_t i = 0; i < job->nhandles; i++)
		if (job->handles[i].use && !rrefs_user_is_settled(&job->handles[i].use->user))
			return;
	for (size_t i = 0; i < job->nhandles; i++)
		if (job->handles[i].use && job->handles[i].use->user.state == USER_FAILED) {
			fail_job(job);
			return;
		}
	run(job);
}

void calls_look(struct worker *worker)
{
	while (worker->noted) {
		worker->noted = false;
		list_for_each_safe(node, &worker->jobs)
			look_at(list_entry(node, struct job, node));
	}
}

void calls_run_here(struct worker *worker, struct thing *thing, size_t creation)
{
	struct job *job = new_job(worker, worker, MESSAGE_CREATE, 0);

	job->thing = thing;
	job->creation = creation;
}

/* ---- messages ---- */

static void receive_create(struct worker *worker, struct worker *from, const struct message *message,
                           const struct handle handles[])
{
	struct rref_owned *owned;
	struct job *job;
	tdr_status status =
	    rrefs_create(&worker_peer(worker, from)->rref, &message->rref, &message->fork, message->number, &owned);

	sim_trace(worker->sim, "w%zu is to create %llu.%llu for w%zu, number %llu: %s", worker->index,
	          (unsigned long long)message->rref.incarnation, (unsigned long long)message->rref.local, from->index,
	          (unsigned long long)message->number, tdr_status_name(status));
	if (status != TDR_OK) {
		for (size_t i = 0; i < message->npassed; i++)
			handle_unref(handles[i]);
		return;
	}
	job = new_job(worker, from, MESSAGE_CREATE, message->call);
	job->thing = container_of(owned, struct thing, owned);
	job->creation = message->creation;
	for (; job->nhandles < message->npassed; job->nhandles++)
		job->handles[job->nhandles] = handles[job->nhandles];
}

static void receive_fetch(struct worker *worker, struct worker *from, const struct message *message)
{
	struct rref_owned *owned;
	struct job *job;
	tdr_status status = rrefs_find(worker->machine, &message->rref, message->number, &owned);

	if (status != TDR_OK) {
		if (status == TDR_ENOTFOUND)
			checker_not_found(worker, from, &message->fork, false);
		reply(worker, from, message->call, false, 0);
		return;
	}
	job = new_job(worker, from, MESSAGE_FETCH, message->call);
	job->thing = container_of(owned, struct thing, owned);
}

static void receive_reply(struct worker *worker, struct worker *from, const struct message *message)
{
	struct call *call = find_call(worker, message->call);
	struct handle handles[SIM_PASSED];
	bool taken;

	if (!call && dice_percent(&worker->sim->dice, 50)) { /* too late to be looked at */
		rrefs_recheck(&worker_peer(worker, from)->rref);
		return;
	}
	taken = take_all(worker, from, message, handles);
	for (size_t i = 0; i < message->npassed && taken; i++)
		if (call && worker->state == WORKER_UP && !worker->sim->draining)
			worker_keep(worker, handles[i]);
		else
			handle_unref(handles[i]);
	if (call)
		end_call(worker, call, taken && message->success);
}

/* Some programs do not wait until what they are given is settled. */
static void keep_early(struct worker *worker, const struct job *job)
{
	for (size_t i = 0; i < job->nhandles && worker->state == WORKER_UP && !worker->sim->draining; i++) {
		if (!dice_percent(&worker->sim->dice, 20))
			continue;
		handle_ref(job->handles[i]);
		worker_keep(worker, job->handles[i]);
	}
}

void calls_receive(struct worker *worker, struct worker *from, const struct message *message)
{
	struct handle handles[SIM_PASSED];
	struct job *job;

	if (message->kind == MESSAGE_REPLY) {
		receive_reply(worker, from, message);
		return;
	}
	if (!take_all(worker, from, message, handles)) {
		reply(worker, from, message->call, false, 0);
		return;
	}
	if (message->kind == MESSAGE_CREATE) {
		receive_create(worker, from, message, handles);
	} else if (message->kind == MESSAGE_FETCH) {
		receive_fetch(worker, from, message);
	} else {
		job = new_job(worker, from, MESSAGE_REQUEST, message->call);
		job->wanted = message->wanted;
		for (; job->nhandles < message->npassed; job->nhandles++)
			job->handles[job->nhandles] = handles[job->nhandles];
		keep_early(worker, job);
	}
}

void calls_forget(struct worker *worker)
{
	list_for_each_safe(node, &worker->calls)
		free(list_entry(node, struct call, node));
	list_for_each_safe(node, &worker->jobs)
		free(list_entry(node, struct job, node));
	list_init(&worker->calls);
	list_init(&worker->jobs);
}
