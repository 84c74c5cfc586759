/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open forks: references that are written into bytes, which somebody will read, or nobody. An open fork counts as long as it is
 * open, for no holder: it keeps the reference (at its owner) or the user that it was made of (a child without a receiver). Who
 * reads it makes a fork of its own name, asks the owner to count that, and then tells the parent, for which the open one ends.
 * So bytes that are read twice do no harm: nothing is ever counted twice under one name.
 */
#include "rref/machine_internal.h"

#include "base/error.h"

/* ---- what was read here ---- */

static bool was_read(const struct rrefs *machine, const struct rref_id *written)
{
	uint64_t hash = rref_id_hash(written);

	for (struct map_node *node = map_first(&machine->readings, hash); node; node = node->next) {
		const struct rref_user *user = container_of(node, struct rref_user, reading_node);

		if (node->hash == hash && rref_id_equal(&user->written, written))
			return true;
	}
	return acceptance_find(machine, written) != NULL;
}

void reading_note(struct rref_user *user, const struct rref_id *written)
{
	user->noted = map_add(&user->owner->machine->readings, &user->reading_node, rref_id_hash(written));
	user->written = *written;
}

void reading_forget(struct rref_user *user)
{
	if (user->noted)
		map_remove(&user->owner->machine->readings, &user->reading_node);
	user->noted = false;
}

/* One of our own. */
static bool is_open(const struct rrefs *machine, const struct rref_id *written)
{
	const struct rref_fork *fork = fork_find(machine, written);
	const struct rref_child *child = child_find(machine, written);

	return (fork && fork->state == FORK_OPEN) || (child && !child->to);
}

tdr_status open_check(struct rref_peer *from, const struct rref_id *fork)
{
	const struct rrefs *machine = from->machine;

	if (from->gone)
		return error_set(TDR_EWORKERGONE,
		                 "the worker that wrote the reference is gone, and kept what it stands for until then");
	if (was_read(machine, fork))
		return error_set(TDR_EEXISTS, "the reference was read here before: what is written once is read once");
	if (from->incarnation == machine->incarnation && !is_open(machine, fork))
		return error_set(TDR_EEXISTS, "the reference was read before, or has been withdrawn");
	return TDR_OK;
}

/* ---- the end of those that nobody has read ---- */

void open_drop_all(struct rrefs *machine)
{
	while (!list_empty(&machine->open_children))
		child_drop(list_entry(machine->open_children.next, struct rref_child, of_peer));
	while (!list_empty(&machine->open_forks))
		fork_drop(list_entry(machine->open_forks.next, struct rref_fork, of_holder));
}

void open_drop_of(struct rref_peer *owner)
{
	list_for_each_safe(node, &owner->machine->open_children) {
		struct rref_child *child = list_entry(node, struct rref_child, of_peer);

		if (child->user->owner == owner)
			child_drop(child);
	}
}

/* ---- reports ---- */

void rrefs_open_children(const struct rrefs *machine,
                         void (*tell)(void *context, const struct rref_user *user, const struct rref_id *fork),
                         void *context)
{
	list_for_each(node, &machine->open_children) {
		const struct rref_child *child = list_entry(node, struct rref_child, of_peer);

		tell(context, child->user, &child->fork);
	}
}
