/* SPDX-License-Identifier: Apache-2.0 */
/* Credit: how far requests may be ahead of what the peer has taken up, in both directions. */
#include "transport/link_internal.h"

#include "base/clock.h"

void link_wake_credit_waiters(struct link *link)
{
	for (struct list *node; (node = list_shift(&link->waiters));)
		waiter_wake(list_entry(node, struct waiter, node));
	atomic_store(&link->credit_awaited, false);
}

void link_update_credit(struct link *link, uint64_t credit)
{
	if (credit <= atomic_load_explicit(&link->granted, memory_order_relaxed))
		return;
	atomic_store(&link->granted, credit);
	if (!atomic_load(&link->credit_awaited))
		return;
	pthread_mutex_lock(&link->lock);
	link_wake_credit_waiters(link);
	pthread_mutex_unlock(&link->lock);
}

bool link_over_credit(struct link *link)
{
	/* More may be granted than was sent: credit for what came over a lane that broke. */
	int64_t ahead = (int64_t)(atomic_load(&link->sent) - atomic_load(&link->granted));

	return !link->self && ahead > 0 && (uint64_t)ahead >= atomic_load(&link->window);
}

bool link_await_credit(struct link *link, int64_t deadline_ms)
{
	while (link_over_credit(link)) {
		struct waiter waiter;
		struct lane *lane = NULL;
		struct source *source;

		waiter_init(&waiter);
		pthread_mutex_lock(&link->lock);
		atomic_store(&link->credit_awaited, true);
		if (!link_over_credit(link) || link->state >= LINK_GONE) {
			pthread_mutex_unlock(&link->lock);
			break;
		}
		list_append(&link->waiters, &waiter.node);
		pthread_mutex_unlock(&link->lock);
		source = link_source(link, &lane);
		engine_wait(link->links->config.engine, &waiter, source, deadline_ms);
		lane_unref(lane);
		pthread_mutex_lock(&link->lock);
		list_remove(&waiter.node);
		pthread_mutex_unlock(&link->lock);
		if (deadline_ms && clock_ms() >= deadline_ms)
			return !link_over_credit(link);
	}
	return true;
}

void link_took(struct link *link, size_t cost)
{
	struct lane *lane = NULL;
	bool announce = false;

	if (link->self)
		return;
	pthread_mutex_lock(&link->lock);
	if (link->state == LINK_UP) {
		uint64_t credit;

		lane = lane_ref(atomic_load(&link->lane));
		credit = atomic_fetch_add(&lane->credit, cost) + cost;
		announce = credit - link->announced >= MAX_OF(link->links->config.credit_bytes / 8, (size_t)1);
		if (announce)
			link->announced = credit;
	}
	pthread_mutex_unlock(&link->lock);
	if (announce)
		(void)lane_send(lane, &(struct message){.type = MESSAGE_CREDIT});
	lane_unref(lane);
}
