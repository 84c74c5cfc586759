/* SPDX-License-Identifier: Apache-2.0 */
/* Workers: the machine, what it tells by its events, and the handles that the program has. */
#include "worker.h"

#include "checker.h"
#include "network.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FLUSH_ROOM 8 /* letters in one packet, at most */

/* ---- objects ---- */

struct use *use_new(struct worker *worker)
{
	struct use *use = sim_alloc(sizeof(*use));

	use->worker = worker;
	worker->sim->made++;
	return use;
}

struct thing *thing_new(struct worker *worker)
{
	struct thing *thing = sim_alloc(sizeof(*thing));

	thing->worker = worker;
	worker->sim->made++;
	return thing;
}

/* What is released is overwritten, so that whoever still uses it does not get far. */
void use_free(struct use *use)
{
	use->worker->sim->released++;
	memset(use, 0xdd, sizeof(*use));
	free(use);
}

void thing_free(struct thing *thing)
{
	thing->worker->sim->released++;
	memset(thing, 0xdd, sizeof(*thing));
	free(thing);
}

/* ---- events of the machine ---- */

static void flush(struct sim *sim, const struct event *event)
{
	struct peer *peer = event->data;
	struct letter letters[FLUSH_ROOM];
	size_t count;

	if (event->worker->state == WORKER_GONE)
		return;
	while ((count = rrefs_take_letters(&peer->rref, sim->now_ms, letters,
	                                   (size_t)dice_between(&sim->dice, 1, FLUSH_ROOM))) > 0)
		network_send_letters(event->worker, peer->other, letters, count);
}

static void on_post(void *context, struct rref_peer *rref_peer, bool soon)
{
	struct worker *worker = context;
	struct peer *peer = container_of(rref_peer, struct peer, rref);
	struct sim *sim = worker->sim;

	assert(peer->self == worker && !rref_peer->gone);
	sim_plan(sim, dice_between(&sim->dice, 0, soon ? 2 : 60), flush, worker, peer->other, 0, peer);
}

static void on_settled(void *context, struct rref_user *user)
{
	struct worker *worker = context;

	worker->noted = true;
	checker_settled(worker, user);
	worker->giving_up = false;
}

static void on_user_released(void *context, struct rref_user *user)
{
	struct worker *worker = context;

	if (!worker->dying && (user->handles > 0 || user->children > 0))
		sim_fail(worker->sim, "released: a user with %u handles and %u children", user->handles,
		         user->children);
	use_free(container_of(user, struct use, user));
}

static void on_lost(void *context, struct rref_owned *owned)
{
	struct worker *worker = context;

	worker->noted = true;
	checker_lost(worker, owned);
}

static void on_owned_released(void *context, struct rref_owned *owned)
{
	struct worker *worker = context;

	if (!worker->dying && owned->handles > 0)
		sim_fail(worker->sim, "released: a reference with %u handles", owned->handles);
	thing_free(container_of(owned, struct thing, owned));
}

static struct rref_owned *on_owned_new(void *context)
{
	return sim_runs_out() ? NULL : &thing_new(context)->owned;
}

static struct rref_peer *on_find_peer(void *context, uint32_t id, uint64_t incarnation)
{
	struct worker *worker = context;

	for (size_t i = 0; i < worker->sim->nworkers; i++) {
		struct peer *peer = worker->peers[i];

		if (peer && peer->other->incarnation == incarnation && peer->other->id == id)
			return &peer->rref;
	}
	return NULL;
}

static void on_given_up(void *context, struct rref_peer *rref_peer, const struct letter *letter)
{
	struct worker *worker = context;
	struct peer *peer = container_of(rref_peer, struct peer, rref);

	sim_trace(worker->sim, "w%zu gives up %s to w%zu", worker->index, letter_kind_name(letter->kind),
	          peer->other->index);
	worker->giving_up = letter->kind == LETTER_FORK_REQUEST;
	network_break(worker, peer->other);
}

static const struct rrefs_events events = {
    .post = on_post,
    .settled = on_settled,
    .user_released = on_user_released,
    .lost = on_lost,
    .owned_released = on_owned_released,
    .owned_new = on_owned_new,
    .find_peer = on_find_peer,
    .given_up = on_given_up,
};

/* ---- time ---- */

static void tick(struct sim *sim, const struct event *event)
{
	struct worker *worker = event->worker;

	if (worker->state == WORKER_GONE || worker->tick_at != sim->now_ms)
		return;
	worker->tick_at = 0;
	rrefs_tick(worker->machine, sim->now_ms);
}

void worker_plan_tick(struct worker *worker)
{
	struct sim *sim = worker->sim;
	int64_t due = rrefs_due(worker->machine);

	if (due == 0 || (worker->tick_at != 0 && worker->tick_at <= due + 20))
		return;
	worker->tick_at = MAX_OF(due, sim->now_ms) + dice_between(&sim->dice, 0, 20);
	sim_plan(sim, worker->tick_at - sim->now_ms, tick, worker, NULL, 0, NULL);
}

/* ---- life ---- */

struct worker *worker_new(struct sim *sim, uint32_t id)
{
	struct worker *worker = sim_alloc(sizeof(*worker));

	worker->sim = sim;
	worker->index = sim->nworkers;
	worker->id = id;
	worker->incarnation = 1000 + 7 * (uint64_t)worker->index;
	sim_make_scarce(NULL); /* it would not be born */
	worker->machine = rrefs_new(id, worker->incarnation, &events, worker);
	if (!worker->machine)
		abort();
	sim_make_scarce(sim);
	list_init(&worker->calls);
	list_init(&worker->jobs);
	sim->workers[sim->nworkers++] = worker;
	worker_meet(worker, worker);
	return worker;
}

static void learn(struct worker *worker, struct worker *other)
{
	struct peer *peer = sim_alloc(sizeof(*peer));

	peer->self = worker;
	peer->other = other;
	rrefs_peer_init(worker->machine, &peer->rref, other->id, other->incarnation);
	worker->peers[other->index] = peer;
}

void worker_meet(struct worker *worker, struct worker *other)
{
	learn(worker, other);
	if (worker != other)
		learn(other, worker);
}

void worker_vanish(struct worker *worker)
{
	worker->state = WORKER_GONE;
	worker->nhandles = 0;
	worker->dying = true;
	worker->machine = rrefs_free(worker->machine);
	for (size_t i = 0; i < SIM_WORKERS; i++) {
		free(worker->peers[i]);
		worker->peers[i] = NULL;
	}
}

void worker_free(struct worker *worker)
{
	free(worker->promises);
	free(worker->handles);
	free(worker);
}

struct peer *worker_peer(const struct worker *worker, const struct worker *other)
{
	return worker->peers[other->index];
}

bool workers_talk(const struct worker *a, const struct worker *b)
{
	return a->state != WORKER_GONE && b->state != WORKER_GONE && worker_peer(a, b) && worker_peer(b, a) &&
	       !worker_peer(a, b)->rref.gone && !worker_peer(b, a)->rref.gone;
}

/* ---- handles ---- */

void handle_ref(struct handle handle)
{
	if (handle.use)
		rrefs_user_ref(&handle.use->user);
	else
		rrefs_owned_ref(&handle.thing->owned);
}

void handle_unref(struct handle handle)
{
	if (handle.use)
		rrefs_user_unref(&handle.use->user);
	else
		rrefs_owned_unref(&handle.thing->owned);
}

void worker_keep(struct worker *worker, struct handle handle)
{
	if (worker->nhandles == worker->handles_room) {
		worker->handles_room = MAX_OF(worker->handles_room * 2, (size_t)8);
		worker->handles = sim_grow(worker->handles, worker->handles_room * sizeof(*worker->handles));
	}
	worker->handles[worker->nhandles++] = handle;
}

void worker_drop(struct worker *worker, size_t at)
{
	struct handle handle = worker->handles[at];

	worker->handles[at] = worker->handles[--worker->nhandles];
	handle_unref(handle);
}
