/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include "calls.h"
#include "program.h"
#include "worker.h"
#include "written.h"

#include <stdlib.h>

#define LEAVE_WITHIN_MS 20000

/* ---- ends ---- */

static void learn_gone(struct sim *sim, const struct event *event)
{
	struct worker *worker = event->worker, *other = event->other;
	struct peer *peer = worker->state != WORKER_GONE ? worker_peer(worker, other) : NULL;

	if (!peer || peer->rref.gone)
		return;
	sim_trace(sim, "w%zu declares w%zu gone", worker->index, other->index);
	rrefs_peer_gone(&peer->rref);
	calls_fail(worker, other);
	if (other->state != WORKER_GONE)
		world_plan_gone(other, worker, dice_between(&sim->dice, 1, SIM_TELL_WITHIN));
}

void world_plan_gone(struct worker *worker, struct worker *other, int64_t after_ms)
{
	sim_plan(worker->sim, after_ms, learn_gone, worker, other, 0, NULL);
}

static void vanish(struct worker *worker)
{
	struct sim *sim = worker->sim;

	calls_forget(worker);
	worker_vanish(worker);
	for (size_t i = 0; i < sim->nworkers; i++) {
		struct worker *other = sim->workers[i];

		if (other->state != WORKER_GONE && worker_peer(other, worker))
			world_plan_gone(other, worker, dice_between(&sim->dice, 1, SIM_TELL_WITHIN));
	}
}

static void see_whether_left(struct sim *sim, const struct event *event)
{
	struct worker *worker = event->worker;
	struct rrefs_counts counts;

	if (worker->state != WORKER_LEAVING)
		return;
	counts = rrefs_counts(worker->machine);
	if ((counts.owned + counts.users + counts.children + counts.controls == 0 && list_empty(&worker->calls) &&
	     list_empty(&worker->jobs)) ||
	    sim->now_ms >= worker->leave_by) {
		sim_trace(sim, "w%zu has left", worker->index);
		vanish(worker);
		return;
	}
	sim_plan(sim, 200, see_whether_left, worker, NULL, 0, NULL);
}

static void leave(struct worker *worker)
{
	struct sim *sim = worker->sim;

	sim_trace(sim, "w%zu leaves", worker->index);
	worker->state = WORKER_LEAVING;
	worker->leave_by = sim->now_ms + LEAVE_WITHIN_MS;
	rrefs_close(worker->machine);
	while (worker->nhandles > 0 && dice_percent(&sim->dice, 95))
		worker_drop(worker, 0);
	sim_plan(sim, 200, see_whether_left, worker, NULL, 0, NULL);
}

/* ---- births ---- */

/* All that live know of a newcomer, and it of them: not of those who have ended before. */
static struct worker *join(struct sim *sim, uint32_t id)
{
	struct worker *worker = worker_new(sim, id);

	for (size_t i = 0; i < worker->index; i++)
		if (sim->workers[i]->state != WORKER_GONE)
			worker_meet(worker, sim->workers[i]);
	sim_trace(sim, "w%zu joins as worker %u", worker->index, worker->id);
	program_start(worker);
	return worker;
}

static void come_back(struct sim *sim, const struct event *event)
{
	if (!sim->draining && sim->nworkers < SIM_WORKERS)
		(void)join(sim, (uint32_t)event->id);
}

/* ---- turns of the world ---- */

static struct worker *draw_up(struct sim *sim)
{
	for (unsigned tries = 0; tries < 20; tries++) {
		struct worker *worker = sim->workers[dice_below(&sim->dice, sim->nworkers)];

		if (worker->state == WORKER_UP)
			return worker;
	}
	return NULL;
}

static void turn(struct sim *sim, const struct event *event)
{
	struct worker *worker = draw_up(sim), *other = draw_up(sim);
	const struct faults *faults = &sim->faults;

	if (sim->draining)
		return;
	sim_plan(sim, dice_between(&sim->dice, 50, 1000), turn, NULL, NULL, 0, NULL);
	if (worker && other && worker != other && dice_percent(&sim->dice, faults->cut))
		network_cut(worker, other);
	if (sim->nworkers < SIM_WORKERS && dice_percent(&sim->dice, faults->join))
		(void)join(sim, sim->next_worker_id++);
	if (other && other != worker && dice_percent(&sim->dice, faults->leave)) {
		leave(other);
		world_after(sim, other);
	}
	if (worker && dice_percent(&sim->dice, faults->kill)) {
		sim_trace(sim, "w%zu is killed", worker->index);
		if (dice_percent(&sim->dice, 60))
			sim_plan(sim, dice_between(&sim->dice, 100, 8000), come_back, NULL, NULL, worker->id, NULL);
		vanish(worker);
	}
}

void world_after(struct sim *sim, struct worker *worker)
{
	if (!worker || worker->state == WORKER_GONE)
		return;
	calls_look(worker);
	worker_plan_tick(worker);
}

static unsigned draw_rate(struct dice *dice, unsigned most)
{
	return dice_percent(dice, 30) ? 0 : (unsigned)dice_below(dice, most + 1);
}

void world_begin(struct sim *sim)
{
	size_t count = (size_t)dice_between(&sim->dice, 3, 12);

	sim->faults = (struct faults){
	    .drop = draw_rate(&sim->dice, 30),
	    .twice = draw_rate(&sim->dice, 20),
	    .slow = draw_rate(&sim->dice, 30),
	    .garble = draw_rate(&sim->dice, 10),
	    .hasty = draw_rate(&sim->dice, 30),
	    .memory = dice_percent(&sim->dice, 15) ? draw_rate(&sim->dice, 20) : 0,
	    .cut = draw_rate(&sim->dice, 20),
	    .kill = draw_rate(&sim->dice, 10),
	    .leave = draw_rate(&sim->dice, 8),
	    .join = draw_rate(&sim->dice, 12),
	};
	sim->pace_ms = dice_percent(&sim->dice, 60) ? 150 : dice_between(&sim->dice, 50, 3000);
	for (size_t i = 0; i < count; i++)
		(void)join(sim, sim->next_worker_id++);
	sim_plan(sim, 100, turn, NULL, NULL, 0, NULL);
}

void world_drain(struct sim *sim)
{
	network_heal(sim);
	written_plan_end(sim);
	for (size_t i = 0; i < sim->nworkers; i++) {
		struct worker *worker = sim->workers[i];

		if (worker->state == WORKER_GONE)
			continue;
		while (worker->nhandles > 0)
			worker_drop(worker, worker->nhandles - 1);
		world_after(sim, worker);
	}
}

void world_end(struct sim *sim)
{
	for (size_t i = 0; i < sim->nworkers; i++) {
		struct worker *worker = sim->workers[i];

		if (worker->state != WORKER_GONE) {
			calls_forget(worker);
			worker_vanish(worker);
		}
		worker_free(worker);
	}
}
