/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A user is *anchored* if its worker lives, it is confirmed or accepted, its owner lives, and neither of the two has declared
 * the other gone. The rules:
 *   counted: the owner of an anchored user has the reference, with that fork, for that worker.
 *   handover: what was passed on by one who was good for it does not fail for its receiver, unless one of them is gone.
 *   found: who fetches by an anchored user finds the reference.
 *   lost: a reference is lost only if its creator is gone, or knows that its creation has failed.
 *   once: a creating function runs at most once.
 *   recount: a machine's counts are what its lists hold, and what is gone is on none of them.
 *   rest: when all handles are dropped and nothing is under way, nothing is left.
 */
#include "checker.h"

#include "rref/machine_internal.h"
#include "worker.h"

#include <string.h>

/* The worker whose machine a peer stands for. */
static struct worker *worker_of(const struct rref_peer *peer)
{
	return container_of(peer, struct peer, rref)->other;
}

static bool is_anchored(const struct worker *worker, const struct rref_user *user)
{
	return (user->state == USER_CONFIRMED || user->state == USER_ACCEPTED) &&
	       workers_talk(worker, worker_of(user->owner));
}

/* ---- counted ---- */

static void look_at_user(struct worker *worker, const struct rref_user *user)
{
	const struct worker *owner = worker_of(user->owner);
	const struct rref_fork *fork;

	if (!is_anchored(worker, user))
		return;
	fork = fork_find(owner->machine, &user->fork);
	if (!fork || fork->holder != &worker_peer(owner, worker)->rref ||
	    !rref_id_equal(&fork->owned->rref, &user->rref))
		sim_fail(worker->sim,
		         "counted: w%zu %s fork %llu.%llu of w%zu's %llu.%llu, which the owner does not count",
		         worker->index, user->state == USER_CONFIRMED ? "has confirmed" : "has accepted",
		         (unsigned long long)user->fork.incarnation, (unsigned long long)user->fork.local, owner->index,
		         (unsigned long long)user->rref.incarnation, (unsigned long long)user->rref.local);
}

static void look_at_users(struct worker *worker)
{
	list_for_each(node, &worker->machine->peers) {
		const struct rref_peer *peer = list_entry(node, struct rref_peer, node);

		list_for_each(of_owner, &peer->users)
			look_at_user(worker, list_entry(of_owner, struct rref_user, of_owner));
	}
}

/* ---- recount ---- */

static size_t length(const struct list *list)
{
	size_t count = 0;

	list_for_each(node, list)
		count++;
	return count;
}

static void look_at_peer(const struct worker *worker, const struct rref_peer *peer)
{
	bool empty = list_empty(&peer->forks) && list_empty(&peer->children) && list_empty(&peer->expected) &&
	             list_empty(&peer->controls) && list_empty(&peer->outbox) && peer->nanswers == 0;

	if (peer->gone && !empty)
		sim_fail(worker->sim, "recount: w%zu has something left for w%zu, which is gone", worker->index,
		         worker_of(peer)->index);
	if ((!list_empty(&peer->outbox) || peer->nanswers > 0) && !peer->posted)
		sim_fail(worker->sim, "recount: w%zu has letters for w%zu, and has not said so", worker->index,
		         worker_of(peer)->index);
	list_for_each(node, &peer->users) {
		const struct rref_user *user = list_entry(node, struct rref_user, of_owner);

		if (peer->gone && user->state < USER_FAILED && user->state != USER_CREATING)
			sim_fail(worker->sim, "recount: w%zu has a good use of a reference of w%zu, which is gone",
			         worker->index, worker_of(peer)->index);
		if (user->state == USER_DELETED && user->handles == 0 && user->children == 0)
			sim_fail(worker->sim, "recount: w%zu keeps a use that is not one any more", worker->index);
	}
}

static void recount(const struct worker *worker)
{
	const struct rrefs *machine = worker->machine;
	struct rrefs_counts counts = rrefs_counts(machine), found = {0};
	size_t of_users = 0, of_owned = 0;

	list_for_each(node, &machine->peers) {
		const struct rref_peer *peer = list_entry(node, struct rref_peer, node);

		look_at_peer(worker, peer);
		found.forks += length(&peer->forks);
		found.children += length(&peer->children);
		found.users += length(&peer->users);
		list_for_each(control, &peer->controls)
			found.controls += !list_entry(control, struct control, of_peer)->given_up;
		list_for_each(of_owner, &peer->users) {
			const struct rref_user *user = list_entry(of_owner, struct rref_user, of_owner);

			of_users += user->children;
			found.pending_users += !rrefs_user_is_settled(user);
		}
	}
	found.children += length(&machine->open_children);
	found.forks += length(&machine->open_forks);
	found.owned = length(&machine->shared);
	list_for_each(node, &machine->shared)
		of_owned += length(&list_entry(node, struct rref_owned, of_shared)->forks);
	if (found.owned != counts.owned || found.forks != counts.forks || found.users != counts.users ||
	    found.pending_users != counts.pending_users || found.children != counts.children ||
	    found.controls != counts.controls || of_users != counts.children || of_owned != counts.forks)
		sim_fail(worker->sim, "recount: w%zu counts wrongly", worker->index);
}

void checker_look(struct sim *sim, struct worker *worker)
{
	for (size_t i = 0; i < sim->nworkers; i++) {
		struct worker *one = sim->workers[i];

		if (one->state == WORKER_GONE)
			continue;
		look_at_users(one);
		if (!worker || one == worker)
			recount(one);
	}
}

/* ---- as it happens ---- */

static struct promise *promise_of(const struct sim *sim, const struct rref_id *fork)
{
	for (size_t i = 0; i < sim->nworkers; i++) {
		const struct worker *worker = sim->workers[i];

		if (worker->incarnation == fork->incarnation)
			return fork->local < worker->npromises ? &worker->promises[fork->local] : NULL;
	}
	return NULL;
}

/* Notes a fork that a worker has named. */
static void promise(struct worker *worker, const struct rref_id *fork, struct promise promise)
{
	if (fork->local >= worker->npromises) {
		size_t count = MAX_OF(worker->npromises * 2, (size_t)fork->local + 64);

		worker->promises = sim_grow(worker->promises, count * sizeof(*worker->promises));
		memset(worker->promises + worker->npromises, 0,
		       (count - worker->npromises) * sizeof(*worker->promises));
		worker->npromises = count;
	}
	worker->promises[fork->local] = promise;
}

void checker_created(struct worker *worker, const struct rref_user *user)
{
	promise(worker, &user->fork,
	        (struct promise){.holder = worker, .owner = worker_of(user->owner), .is_good = true});
}

void checker_passed(struct worker *worker, struct worker *to, struct handle handle, const struct rref_passed *passed)
{
	const struct rref_user *user = handle.use ? &handle.use->user : NULL;

	promise(worker, &passed->fork,
	        (struct promise){.holder = to,
	                         .owner = user ? worker_of(user->owner) : worker,
	                         .parent = worker,
	                         .parent_fork = user ? user->fork : (struct rref_id){0},
	                         .written = to ? (struct rref_id){0} : passed->fork});
}

void checker_reads(struct worker *worker, const struct rref_passed *passed)
{
	struct promise *written = promise_of(worker->sim, &passed->fork);

	written->is_void = written->is_void || written->holder;
	written->holder = worker;
}

void checker_taken_back(struct worker *worker, const struct rref_passed *passed)
{
	promise_of(worker->sim, &passed->fork)->is_void = true;
}

void checker_taken(struct worker *worker, const struct rref_user *user, const struct rref_passed *passed)
{
	if (passed->number == 0) /* its reader has named a fork of its own */
		promise(worker, &user->fork, *promise_of(worker->sim, &passed->fork));
	if (user->state == USER_CONFIRMED)
		promise_of(worker->sim, &user->fork)->is_good = true;
}

/*
 * Whether whoever was passed this fork must get what it stands for: somebody up the line was good for it, and all of them live
 * and talk with the owner and with whom they passed it to, so that nobody had reason to let it go. A creator is good for what
 * it passes on, whatever becomes of its call: as long as it has not deleted it, its owner expects it. Where memory runs out
 * nobody must. What was written is kept for its first reader.
 */
static bool must_hold(const struct sim *sim, const struct rref_id *fork)
{
	const struct promise *at = promise_of(sim, fork);

	while (sim->faults.memory == 0 && at && at->parent) {
		const struct promise *above = promise_of(sim, &at->parent_fork);
		bool was_written = at->written.incarnation != 0;

		if (!workers_talk(at->parent, at->owner) || !workers_talk(at->parent, at->holder))
			return false;
		if (was_written && (promise_of(sim, &at->written)->is_void || at->parent->state != WORKER_UP))
			return false; /* it lets go of what it has written before it leaves */
		if (at->parent == at->owner)
			return was_written; /* else whom it was passed to was counted before */
		if (above->is_good || above->has_failed)
			return above->is_good;
		at = above;
	}
	return false;
}

void checker_settled(struct worker *worker, const struct rref_user *user)
{
	struct sim *sim = worker->sim;

	if (user->state == USER_CONFIRMED || user->state == USER_ACCEPTED)
		promise_of(sim, &user->fork)->is_good = true;
	else if (user->state == USER_FAILED)
		promise_of(sim, &user->fork)->has_failed = true;
	sim_trace(sim, "w%zu: fork %llu.%llu is %s", worker->index, (unsigned long long)user->fork.incarnation,
	          (unsigned long long)user->fork.local, user_state_name(user->state));
	if (user->state == USER_FAILED && !worker->giving_up && workers_talk(worker, worker_of(user->owner)) &&
	    must_hold(sim, &user->fork))
		sim_fail(sim, "handover: fork %llu.%llu has failed at w%zu, though who passed it on was counted",
		         (unsigned long long)user->fork.incarnation, (unsigned long long)user->fork.local,
		         worker->index);
}

void checker_lost(struct worker *worker, const struct rref_owned *owned)
{
	struct sim *sim = worker->sim;

	sim_trace(sim, "w%zu: %llu.%llu is lost", worker->index, (unsigned long long)owned->rref.incarnation,
	          (unsigned long long)owned->rref.local);
	for (size_t i = 0; i < sim->nworkers && sim->faults.memory == 0; i++) {
		const struct worker *creator = sim->workers[i];
		const struct peer *peer = creator->state != WORKER_GONE ? worker_peer(creator, worker) : NULL;

		if (creator->incarnation != owned->rref.incarnation || !peer || !workers_talk(creator, worker))
			continue;
		list_for_each(node, &peer->rref.users) {
			const struct rref_user *user = list_entry(node, struct rref_user, of_owner);

			if (user->number == owned->origin && user->state < USER_FAILED)
				sim_fail(sim, "lost: w%zu gives up %llu.%llu, whose creator w%zu has not",
				         worker->index, (unsigned long long)owned->rref.incarnation,
				         (unsigned long long)owned->rref.local, creator->index);
		}
	}
}

void checker_runs(struct worker *worker, size_t creation)
{
	if (++worker->sim->executions[creation] > 1)
		sim_fail(worker->sim, "once: the creating function %zu runs again, at w%zu", creation, worker->index);
}

void checker_not_found(struct worker *owner, struct worker *from, const struct rref_id *fork, bool passed)
{
	struct sim *sim = owner->sim;
	const struct rref_user *user = from->state != WORKER_GONE && !passed ? user_find(from->machine, fork) : NULL;

	if (passed && must_hold(sim, fork))
		sim_fail(
		    sim,
		    "handover: w%zu does not have what fork %llu.%llu stands for, though who passed it on was counted",
		    owner->index, (unsigned long long)fork->incarnation, (unsigned long long)fork->local);
	if (user && is_anchored(from, user))
		sim_fail(sim, "found: w%zu does not have what w%zu fetches by fork %llu.%llu", owner->index,
		         from->index, (unsigned long long)fork->incarnation, (unsigned long long)fork->local);
}

/* ---- the end ---- */

void checker_look_at_rest(struct sim *sim)
{
	for (size_t i = 0; i < sim->nworkers; i++) {
		const struct worker *worker = sim->workers[i];
		struct rrefs_counts counts;

		if (worker->state == WORKER_GONE)
			continue;
		counts = rrefs_counts(worker->machine);
		if (counts.owned + counts.forks + counts.users + counts.children + counts.controls > 0)
			sim_fail(
			    sim, "rest: w%zu keeps %zu references, %zu forks, %zu users, %zu children, %zu letters",
			    worker->index, counts.owned, counts.forks, counts.users, counts.children, counts.controls);
		if (!list_empty(&worker->calls) || !list_empty(&worker->jobs))
			sim_fail(sim, "rest: w%zu has calls that never end", worker->index);
		if (worker->machine->owned.count > 0 || worker->machine->acceptances.count > 0 ||
		    worker->machine->readings.count > 0)
			sim_fail(sim, "rest: w%zu keeps %zu references of its own, %zu acceptances, and %zu readings",
			         worker->index, worker->machine->owned.count, worker->machine->acceptances.count,
			         worker->machine->readings.count);
	}
	if (sim->made != sim->released)
		sim_fail(sim, "rest: %llu objects were made, and %llu released", (unsigned long long)sim->made,
		         (unsigned long long)sim->released);
}
