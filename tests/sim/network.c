/* SPDX-License-Identifier: Apache-2.0 */
#include "network.h"

#include "calls.h"
#include "worker.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

#define PACKET_LETTERS 8

struct packet {
	bool is_message;
	struct message message;
	struct letter letters[PACKET_LETTERS];
	size_t nletters;
};

/* ---- connections ---- */

static void learn_break(struct sim *sim, const struct event *event)
{
	struct worker *worker = event->worker, *other = event->other;
	struct rref_peer *peer;

	if (!workers_talk(worker, other))
		return;
	sim_trace(sim, "w%zu: the connection to w%zu broke", worker->index, other->index);
	peer = &worker_peer(worker, other)->rref;
	rrefs_peer_connected(peer, sim->connections[worker->index][other->index]);
	rrefs_peer_broke(peer);
}

/* From now on packets go by a new connection; that there was a break is noticed a little later. */
static void reconnect(struct sim *sim, const struct event *event)
{
	sim->connections[event->worker->index][event->other->index]++;
	sim_plan(sim, dice_between(&sim->dice, 0, 300), learn_break, event->worker, event->other, 0, NULL);
}

void network_break(struct worker *a, struct worker *b)
{
	struct sim *sim = a->sim;

	sim_plan(sim, dice_between(&sim->dice, 1, SIM_TELL_WITHIN), reconnect, a, b, 0, NULL);
	if (a != b)
		sim_plan(sim, dice_between(&sim->dice, 1, SIM_TELL_WITHIN), reconnect, b, a, 0, NULL);
}

void network_cut(struct worker *a, struct worker *b)
{
	struct sim *sim = a->sim;
	bool is_long = dice_percent(&sim->dice, 20);
	int64_t lasts =
	    is_long ? SIM_GONE_AFTER + dice_between(&sim->dice, 0, 5000) : dice_between(&sim->dice, 10, SIM_GONE_AFTER);
	bool both = dice_percent(&sim->dice, 60);

	sim_trace(sim, "the link w%zu %s w%zu is cut for %lld ms", a->index, both ? "<->" : "->", b->index,
	          (long long)lasts);
	sim->cut_until[a->index][b->index] = sim->now_ms + lasts;
	if (both)
		sim->cut_until[b->index][a->index] = sim->now_ms + lasts;
	network_break(a, b);
	if (!is_long)
		return;
	world_plan_gone(a, b, SIM_GONE_AFTER);
	if (dice_percent(&sim->dice, 50))
		world_plan_gone(b, a, SIM_GONE_AFTER);
}

void network_heal(struct sim *sim)
{
	memset(sim->cut_until, 0, sizeof(sim->cut_until));
}

/* ---- packets ---- */

static void deliver(struct sim *sim, const struct event *event)
{
	struct worker *to = event->worker, *from = event->other;
	struct packet *packet = event->data;
	struct peer *peer = to->state != WORKER_GONE ? worker_peer(to, from) : NULL;

	if (!peer || peer->rref.gone) {
		free(packet);
		return;
	}
	if (packet->is_message)
		calls_receive(to, from, &packet->message);
	for (size_t i = 0; i < packet->nletters; i++) {
		const struct letter *letter = &packet->letters[i];

		sim_trace(sim, "w%zu gets %s from w%zu: fork %llu.%llu, number %llu, of %u, verdict %u", to->index,
		          letter_kind_name(letter->kind), from->index, (unsigned long long)letter->fork.incarnation,
		          (unsigned long long)letter->fork.local, (unsigned long long)letter->number, letter->of,
		          letter->verdict);
		if (rrefs_receive_letter(&peer->rref, letter) != TDR_OK)
			sim_fail(sim, "letters: w%zu refuses %s", to->index, letter_kind_name(letter->kind));
	}
	free(packet);
}

static int64_t draw_delay(struct sim *sim)
{
	if (!sim->draining && dice_percent(&sim->dice, sim->faults.slow))
		return dice_between(&sim->dice, 1, 4000);
	return dice_between(&sim->dice, 1, 30);
}

/* Whether it is lost. */
static bool is_lost(struct sim *sim, const struct worker *from, const struct worker *to)
{
	if (from == to)
		return false;
	if (!workers_talk(from, to) || sim->cut_until[from->index][to->index] > sim->now_ms)
		return true;
	return !sim->draining && dice_percent(&sim->dice, sim->faults.drop);
}

static void post(struct worker *from, struct worker *to, const struct packet *packet)
{
	struct sim *sim = from->sim;
	unsigned copies = !sim->draining && dice_percent(&sim->dice, sim->faults.twice) ? 2 : 1;

	for (unsigned i = 0; i < copies; i++) {
		struct packet *copy = sim_alloc(sizeof(*copy));

		*copy = *packet;
		sim_plan(sim, draw_delay(sim), deliver, to, from, 0, copy);
	}
}

void network_send_letters(struct worker *from, struct worker *to, const struct letter *letters, size_t count)
{
	struct packet packet = {.nletters = count};

	memcpy(packet.letters, letters, count * sizeof(*letters));
	if (is_lost(from->sim, from, to))
		sim_trace(from->sim, "%zu letters from w%zu to w%zu are lost", count, from->index, to->index);
	else
		post(from, to, &packet);
}

void network_send(struct worker *from, struct worker *to, const struct message *message)
{
	struct packet packet = {.is_message = true, .message = *message};

	if (!is_lost(from->sim, from, to)) {
		post(from, to, &packet);
		return;
	}
	sim_trace(from->sim, "a message of kind %d from w%zu to w%zu is lost", message->kind, from->index, to->index);
	if (message->kind == MESSAGE_REPLY)
		network_break(from, to);
}
