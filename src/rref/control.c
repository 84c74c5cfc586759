/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Letters on their way. A control is idle (on no list), to be posted later (on the machine's list of these until the time is told,
 * then as if it had been sent once), posted (on its receiver's outbox), waiting (on the list of those sent as often) or given up (on
 * its receiver's list of controls alone). Those that wait for the same number of sends wait equally
 * long, so that each list is in the order of their dues.
 */
#include "rref/machine_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* How long a letter waits for its answer, by the number of times it was sent. */
static const int64_t patience_ms[LETTER_MAX_SENDS] = {1000, 1000, 1500, 2250, 3375, 3375};

void control_init(struct control *control)
{
	*control = (struct control){0};
	list_init(&control->node);
	list_init(&control->of_peer);
}

bool control_is_active(const struct control *control)
{
	return !list_empty(&control->of_peer);
}

static void tell_holder(struct rref_peer *peer, bool soon)
{
	const struct rrefs *machine = peer->machine;

	if (peer->posted && (peer->hurried || !soon))
		return;
	peer->posted = true;
	peer->hurried = peer->hurried || soon;
	machine->events->post(machine->context, peer, soon);
}

void control_post(struct control *control, struct rref_peer *to, const struct letter *letter, bool soon)
{
	assert(!control_is_active(control) && !to->gone);
	control->to = to;
	control->letter = *letter;
	control->sends = 0;
	control->given_up = false;
	list_append(&to->controls, &control->of_peer);
	list_append(&to->outbox, &control->node);
	to->machine->ncontrols++;
	tell_holder(to, soon);
}

void control_post_later(struct control *control, struct rref_peer *to, const struct letter *letter)
{
	assert(!control_is_active(control) && !to->gone);
	control->to = to;
	control->letter = *letter;
	control->sends = 0;
	control->given_up = false;
	list_append(&to->controls, &control->of_peer);
	list_append(&to->machine->later, &control->node);
	to->machine->ncontrols++;
}

void control_stop(struct control *control)
{
	if (!control_is_active(control))
		return;
	list_remove(&control->node);
	list_remove(&control->of_peer);
	if (!control->given_up)
		control->to->machine->ncontrols--;
}

void controls_restart(struct rref_peer *peer)
{
	list_for_each(node, &peer->controls) {
		struct control *control = list_entry(node, struct control, of_peer);

		if (control->given_up)
			peer->machine->ncontrols++;
		control->given_up = false;
		control->sends = 0;
		list_remove(&control->node);
		list_append(&peer->outbox, &control->node);
	}
	if (!list_empty(&peer->outbox))
		tell_holder(peer, true);
}

void answer_post(struct rref_peer *to, const struct letter *letter, bool soon)
{
	if (to->gone)
		return;
	if (to->nanswers == to->answers_room && to->answers_taken > to->answers_room / 2) {
		to->nanswers -= to->answers_taken;
		memmove(to->answers, to->answers + to->answers_taken, to->nanswers * sizeof(*to->answers));
		to->answers_taken = 0;
	}
	if (to->nanswers == to->answers_room) {
		size_t room = MAX_OF(to->answers_room * 2, (size_t)8);
		struct letter *answers = realloc(to->answers, room * sizeof(*answers));

		if (!answers)
			return;
		to->answers = answers;
		to->answers_room = room;
	}
	to->answers[to->nanswers++] = *letter;
	tell_holder(to, soon);
}

static size_t take_answers(struct rref_peer *peer, struct letter *letters, size_t room)
{
	size_t count = MIN_OF(peer->nanswers - peer->answers_taken, room);

	for (size_t i = 0; i < count; i++)
		letters[i] = peer->answers[peer->answers_taken++];
	if (peer->answers_taken == peer->nanswers)
		peer->answers_taken = peer->nanswers = 0;
	return count;
}

size_t rrefs_take_letters(struct rref_peer *peer, int64_t now_ms, struct letter *letters, size_t room)
{
	size_t count = take_answers(peer, letters, room);

	while (count < room && !list_empty(&peer->outbox)) {
		struct control *control = list_entry(list_shift(&peer->outbox), struct control, node);

		letters[count++] = control->letter;
		if (control->letter.kind == LETTER_ACCEPTED) { /* wants no answer */
			control_stop(control);
			continue;
		}
		control->due_ms = now_ms + patience_ms[control->sends];
		list_append(&peer->machine->waiting[control->sends], &control->node);
		control->sends++;
	}
	if (peer->nanswers == 0 && list_empty(&peer->outbox))
		peer->posted = peer->hurried = false;
	return count;
}

int64_t rrefs_due(const struct rrefs *machine)
{
	int64_t due = 0;

	if (!list_empty(&machine->later))
		return 1; /* long ago: it begins to wait when the time is told */
	for (size_t i = 0; i < LETTER_MAX_SENDS; i++) {
		const struct control *first;

		if (list_empty(&machine->waiting[i]))
			continue;
		first = list_entry(machine->waiting[i].next, struct control, node);
		due = due == 0 ? first->due_ms : MIN_OF(due, first->due_ms);
	}
	return due;
}

static void give_up(struct control *control)
{
	struct rref_peer *to = control->to;
	const struct rrefs *machine = to->machine;

	control->given_up = true;
	to->machine->ncontrols--;
	if (machine->events->given_up)
		machine->events->given_up(machine->context, to, &control->letter);
	if (control->letter.kind == LETTER_FORK_REQUEST)
		user_request_given_up(container_of(control, struct rref_user, control));
}

void rrefs_tick(struct rrefs *machine, int64_t now_ms)
{
	while (!list_empty(&machine->later)) {
		struct control *control = list_entry(list_shift(&machine->later), struct control, node);

		control->due_ms = now_ms + patience_ms[0];
		list_append(&machine->waiting[0], &control->node);
	}
	for (size_t i = LETTER_MAX_SENDS; i-- > 0;) {
		while (!list_empty(&machine->waiting[i])) {
			struct control *control = list_entry(machine->waiting[i].next, struct control, node);

			if (control->due_ms > now_ms)
				break;
			list_remove(&control->node);
			if (control->sends == LETTER_MAX_SENDS) {
				give_up(control);
				continue;
			}
			list_append(&control->to->outbox, &control->node);
			tell_holder(control->to, true);
		}
	}
}
