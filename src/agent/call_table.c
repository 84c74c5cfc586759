/* SPDX-License-Identifier: Apache-2.0 */
/* The calls under way to one peer. Free slots are chained; a slot's generation makes the ids of those that follow each other in it differ. */
#include "agent/outgoing.h"

#include "base/error.h"

#include <assert.h>
#include <stdlib.h>

#define FIRST_SLOTS 8
#define NO_SLOT UINT32_MAX

void call_table_init(struct call_table *table)
{
	*table = (struct call_table){.free_slot = NO_SLOT};
	pthread_mutex_init(&table->lock, NULL);
}

void call_table_fini(struct call_table *table)
{
	assert(table->used == 0);
	free(table->slots);
	free(table->generations);
	free(table->next_free);
	pthread_mutex_destroy(&table->lock);
}

static bool table_grow(struct call_table *table)
{
	uint32_t room = MAX_OF(table->room * 2, (uint32_t)FIRST_SLOTS);
	struct outgoing **slots = realloc(table->slots, room * sizeof(*slots));
	uint32_t *generations, *next_free;

	if (!slots)
		return false;
	table->slots = slots;
	generations = realloc(table->generations, room * sizeof(*generations));
	if (!generations)
		return false;
	table->generations = generations;
	next_free = realloc(table->next_free, room * sizeof(*next_free));
	if (!next_free)
		return false;
	table->next_free = next_free;
	for (uint32_t i = room; i-- > table->room;) {
		slots[i] = NULL;
		generations[i] = 0;
		next_free[i] = table->free_slot;
		table->free_slot = i;
	}
	table->room = room;
	return true;
}

tdr_status call_table_add(struct call_table *table, struct outgoing *outgoing, uint32_t limit)
{
	uint32_t slot;
	bool full;

	pthread_mutex_lock(&table->lock);
	full = table->used >= limit;
	if (full || (table->free_slot == NO_SLOT && !table_grow(table))) {
		pthread_mutex_unlock(&table->lock);
		return full ? error_set(
				  TDR_ELIMIT,
				  "%u calls to worker '%s' are under way already: wait for some, or raise max_calls",
				  limit, link_peer(outgoing->peer->link)->name)
		            : error_nomem();
	}
	slot = table->free_slot;
	table->free_slot = table->next_free[slot];
	table->slots[slot] = outgoing;
	table->used++;
	outgoing->id = (uint64_t)++table->generations[slot] << 32 | slot;
	pthread_mutex_unlock(&table->lock);
	return TDR_OK;
}

struct outgoing *call_table_take_slot(struct call_table *table, uint32_t slot)
{
	struct outgoing *outgoing = TAKE_PTR(table->slots[slot]);

	table->next_free[slot] = table->free_slot;
	table->free_slot = slot;
	table->used--;
	return outgoing;
}

struct outgoing *call_table_take(struct call_table *table, uint64_t id)
{
	uint32_t slot = (uint32_t)id;
	struct outgoing *outgoing = NULL;

	pthread_mutex_lock(&table->lock);
	if (slot < table->room && table->slots[slot] && table->slots[slot]->id == id)
		outgoing = call_table_take_slot(table, slot);
	pthread_mutex_unlock(&table->lock);
	return outgoing;
}
