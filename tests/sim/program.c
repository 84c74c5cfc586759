/* SPDX-License-Identifier: Apache-2.0 */
#include "program.h"

#include "calls.h"
#include "checker.h"
#include "worker.h"
#include "written.h"

#define MANY_HANDLES 10 /* with more, dropping is likely */

/* Another worker or itself; also one that is gone, at times. */
static struct worker *draw_worker(struct worker *worker)
{
	struct sim *sim = worker->sim;

	for (unsigned tries = 0; tries < 20; tries++) {
		struct worker *other = sim->workers[dice_below(&sim->dice, sim->nworkers)];
		struct peer *peer = worker_peer(worker, other);

		if (peer && (!peer->rref.gone || dice_percent(&sim->dice, 5)))
			return other;
	}
	return worker;
}

static struct handle draw_handle(struct worker *worker)
{
	return worker->handles[dice_below(&worker->sim->dice, worker->nhandles)];
}

/* Puts up to `most` references into a message. */
static bool pass_some(struct worker *worker, struct worker *to, size_t most, struct message *message)
{
	size_t count = dice_below(&worker->sim->dice, most + 1);

	for (size_t i = 0; i < count && worker->nhandles > 0; i++)
		if (!calls_pass(worker, to, draw_handle(worker), message))
			return false;
	return true;
}

static size_t next_creation(struct sim *sim)
{
	if (sim->ncreations == sim->creations_room) {
		sim->creations_room = MAX_OF(sim->creations_room * 2, (size_t)64);
		sim->executions = sim_grow(sim->executions, sim->creations_room);
	}
	sim->executions[sim->ncreations] = 0;
	return sim->ncreations++;
}

static void create_here(struct worker *worker)
{
	struct thing *thing = thing_new(worker);
	bool wrap = dice_percent(&worker->sim->dice, 50);

	if (rrefs_own(worker->machine, &thing->owned, wrap ? OWNED_READY : OWNED_PENDING) != TDR_OK) {
		thing_free(thing);
		return;
	}
	worker_keep(worker, (struct handle){.thing = thing});
	if (!wrap) {
		rrefs_owned_ref(&thing->owned);
		calls_run_here(worker, thing, next_creation(worker->sim));
	}
}

static void create_there(struct worker *worker, struct worker *to)
{
	struct message message = {.kind = MESSAGE_CREATE};
	struct handle handle;
	struct use *use;

	if (to == worker) {
		create_here(worker);
		return;
	}
	if (!pass_some(worker, to, 2, &message))
		return;
	use = use_new(worker);
	handle = (struct handle){.use = use};
	if (rrefs_user_create(&worker_peer(worker, to)->rref, &use->user) != TDR_OK) {
		use_free(use);
		calls_withdraw(worker, &message);
		return;
	}
	checker_created(worker, &use->user);
	message.rref = use->user.rref;
	message.fork = use->user.fork;
	message.number = use->user.number;
	message.creation = next_creation(worker->sim);
	if (dice_percent(&worker->sim->dice, 60)) { /* to be used before anybody knows of it */
		handle_ref(handle);
		worker_keep(worker, handle);
	}
	calls_start(worker, to, &message, handle);
}

static void request(struct worker *worker, struct worker *to)
{
	struct message message = {.kind = MESSAGE_REQUEST, .wanted = dice_below(&worker->sim->dice, 3)};

	if (pass_some(worker, to, SIM_PASSED, &message))
		calls_start(worker, to, &message, (struct handle){0});
}

static void fetch(struct worker *worker)
{
	struct handle handle = draw_handle(worker);
	struct message message = {.kind = MESSAGE_FETCH};
	struct worker *to = worker;

	if (handle.use) {
		to = container_of(handle.use->user.owner, struct peer, rref)->other;
		message.rref = handle.use->user.rref;
		message.fork = handle.use->user.fork;
		message.number = handle.use->user.origin;
	} else {
		message.rref = handle.thing->owned.rref;
		message.number = handle.thing->owned.origin;
	}
	handle_ref(handle);
	calls_start(worker, to, &message, handle);
}

static void act(struct sim *sim, const struct event *event)
{
	struct worker *worker = event->worker;
	uint64_t draw = dice_below(&sim->dice, 100);

	if (worker->state != WORKER_UP || sim->draining)
		return;
	sim_plan(sim, dice_between(&sim->dice, 1, sim->pace_ms), act, worker, NULL, 0, NULL);
	if (worker->nhandles > 0 && (draw < 15 || worker->nhandles > MANY_HANDLES))
		worker_drop(worker, dice_below(&sim->dice, worker->nhandles));
	else if (worker->nhandles > 0 && draw < 30)
		fetch(worker);
	else if (worker->nhandles > 0 && draw < 38)
		written_make(worker, draw_handle(worker));
	else if (draw < 68)
		request(worker, draw_worker(worker));
	else if (draw < 90)
		create_there(worker, draw_worker(worker));
	else if (draw < 98)
		create_here(worker);
	else
		rrefs_recheck(&worker_peer(worker, draw_worker(worker))->rref);
}

void program_start(struct worker *worker)
{
	sim_plan(worker->sim, dice_between(&worker->sim->dice, 1, 100), act, worker, NULL, 0, NULL);
}
