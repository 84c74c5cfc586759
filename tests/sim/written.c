/* SPDX-License-Identifier: Apache-2.0 */
#include "written.h"

#include "calls.h"
#include "checker.h"
#include "worker.h"
#include "world.h"

/* By then everybody knows who is gone. */
#define END_AFTER_MS 60000

static void read_one(struct sim *sim, const struct event *event)
{
	struct written *written = &sim->written[event->id];
	struct worker *worker = dice_percent(&sim->dice, 10) ? written->by : event->worker;
	struct handle handle;
	struct peer *peer;

	if (worker->state == WORKER_GONE || sim->draining)
		return;
	peer = calls_named_peer(worker, written->passed.fork.worker, written->passed.fork.incarnation);
	if (!peer)
		return;
	sim_trace(sim, "w%zu reads what w%zu has written", worker->index, written->by->index);
	checker_reads(worker, &written->passed);
	if (calls_take(worker, peer, &written->passed, &handle) == TDR_OK) {
		if (!written->reader || written->reader->state == WORKER_GONE)
			written->reader = worker;
		if (worker->state == WORKER_UP && dice_percent(&sim->dice, 80))
			worker_keep(worker, handle);
		else
			handle_unref(handle);
	}
	world_after(sim, worker);
}

static void take_back(struct sim *sim, const struct event *event)
{
	const struct written *written = &sim->written[event->id];

	if (event->worker->state == WORKER_GONE)
		return;
	sim_trace(sim, "w%zu takes back fork %llu.%llu", event->worker->index,
	          (unsigned long long)written->passed.fork.incarnation, (unsigned long long)written->passed.fork.local);
	checker_taken_back(event->worker, &written->passed);
	rrefs_withdraw(event->worker->machine, &written->passed.fork);
}

static void plan_reading(struct sim *sim, size_t index)
{
	struct worker *reader = sim->workers[dice_below(&sim->dice, sim->nworkers)];

	sim_plan(sim, dice_between(&sim->dice, 1, dice_percent(&sim->dice, 70) ? 300 : 10000), read_one, reader, NULL,
	         index, NULL);
}

void written_make(struct worker *worker, struct handle handle)
{
	struct sim *sim = worker->sim;
	struct rref_passed passed;
	size_t index = sim->nwritten;
	unsigned fate = (unsigned)dice_below(&sim->dice, 100);
	tdr_status status = handle.use ? rrefs_pass_user(&handle.use->user, NULL, &passed)
	                               : rrefs_pass_owned(&handle.thing->owned, NULL, &passed);

	if (status != TDR_OK)
		return;
	sim_trace(sim, "w%zu writes %llu.%llu as fork %llu.%llu", worker->index,
	          (unsigned long long)passed.rref.incarnation, (unsigned long long)passed.rref.local,
	          (unsigned long long)passed.fork.incarnation, (unsigned long long)passed.fork.local);
	checker_passed(worker, NULL, handle, &passed);
	if (sim->nwritten == sim->written_room) {
		sim->written_room = MAX_OF(sim->written_room * 2, (size_t)64);
		sim->written = sim_grow(sim->written, sim->written_room * sizeof(*sim->written));
	}
	sim->written[sim->nwritten++] = (struct written){.passed = passed, .by = worker};
	if (fate < 85)
		plan_reading(sim, index);
	if (fate < 10)
		plan_reading(sim, index);
	if (fate >= 75 && fate < 92) /* some while it is read, or after */
		sim_plan(sim, dice_between(&sim->dice, 1, 2000), take_back, worker, NULL, index, NULL);
}

/* What a worker has read that lives and talks with its maker must end by itself. */
static void end(struct sim *sim, const struct event *event)
{
	(void)event;
	for (size_t i = 0; i < sim->nwritten; i++) {
		const struct written *written = &sim->written[i];

		if (written->by->state == WORKER_GONE ||
		    (written->reader && workers_talk(written->by, written->reader)))
			continue;
		checker_taken_back(written->by, &written->passed);
		rrefs_withdraw(written->by->machine, &written->passed.fork);
		world_after(sim, written->by);
	}
}

void written_plan_end(struct sim *sim)
{
	sim_plan(sim, END_AFTER_MS, end, NULL, NULL, 0, NULL);
}
