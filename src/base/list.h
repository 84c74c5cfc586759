/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive doubly linked lists. A node that is on no list points to itself. */
#ifndef TENDRIL_BASE_LIST_H
#define TENDRIL_BASE_LIST_H

#include "base/macros.h"

#include <stdbool.h>

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *node)
{
	node->next = node->prev = node;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_append(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

static inline void list_prepend(struct list *head, struct list *node)
{
	list_append(head->next, node);
}

/* Takes a node off its list; harmless where it is on none. */
static inline void list_remove(struct list *node)
{
	node->next->prev = node->prev;
	node->prev->next = node->next;
	list_init(node);
}

/* Takes the first node off; NULL from an empty list. */
static inline struct list *list_shift(struct list *head)
{
	struct list *node = head->next;

	if (node == head)
		return NULL;
	list_remove(node); /* NOLINT(clang-analyzer-unix.Malloc): it cannot know that what was freed is on no list */
	return node;
}

/* Moves all nodes of `from` to the end of `to`. */
static inline void list_splice(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	from->prev->next = to;
	to->prev->next = from->next;
	to->prev = from->prev;
	list_init(from);
}

#define list_entry(node, type, member) container_of(node, type, member)

/* Walks a list; the current node must not be removed. */
#define list_for_each(node, head) for (struct list *node = (head)->next; node != (head); node = node->next)

/* Walks a list whose current node may be removed. */
#define list_for_each_safe(node, head)                                                                                 \
	for (struct list *node = (head)->next, *node##_next = node->next; node != (head);                              \
	     node = node##_next, node##_next = node->next)

#endif
