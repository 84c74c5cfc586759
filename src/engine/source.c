/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources: one-shot descriptors in the engine's epoll set.
 *
 * Design notes. A source is armed, or one thread owns it; arming again tells the kernel to look anew, so an event that came
 * while the source was owned is not lost. The lock of a watch is held across epoll_ctl, which does not block: two threads
 * that changed the interest without it could leave the older one in force.
 */
#include "engine/internal.h"

#include "base/error.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CHUNK_WATCHES 32

struct watch_chunk {
	struct list node;
	struct watch watches[CHUNK_WATCHES];
};

static struct watch *watch_take(tdr_engine *engine)
{
	struct watch_chunk *chunk;
	struct list *node;

	pthread_mutex_lock(&engine->lock);
	node = list_shift(&engine->watches);
	if (!node && (chunk = calloc(1, sizeof(*chunk)))) {
		list_append(&engine->chunks, &chunk->node);
		for (size_t i = 0; i < CHUNK_WATCHES; i++) {
			pthread_mutex_init(&chunk->watches[i].lock, NULL);
			list_append(&engine->watches, &chunk->watches[i].node);
		}
		node = list_shift(&engine->watches);
	}
	pthread_mutex_unlock(&engine->lock);
	return node ? list_entry(node, struct watch, node) : NULL;
}

static void watch_give(tdr_engine *engine, struct watch *watch)
{
	pthread_mutex_lock(&engine->lock);
	list_append(&engine->watches, &watch->node);
	pthread_mutex_unlock(&engine->lock);
}

void watches_fini(tdr_engine *engine)
{
	struct list *node;

	while ((node = list_shift(&engine->chunks))) {
		struct watch_chunk *chunk = list_entry(node, struct watch_chunk, node);

		for (size_t i = 0; i < CHUNK_WATCHES; i++) {
			assert(chunk->watches[i].state == WATCH_FREE);
			pthread_mutex_destroy(&chunk->watches[i].lock);
		}
		free(chunk);
	}
}

/* Tells the kernel what to watch for, once; 0 is nothing (but errors, once). With the watch's lock held. */
static int watch_arm(struct watch *watch, int operation, uint32_t interest)
{
	struct epoll_event event = {.events = interest | EPOLLONESHOT, .data.ptr = watch};

	return epoll_ctl(watch->source->engine->epoll_fd, operation, watch->source->fd, &event);
}

tdr_status source_open(struct source *source, tdr_engine *engine, int fd, uint32_t interest,
                       bool (*ready)(struct source *, unsigned), void (*closed)(struct source *))
{
	struct watch *watch = watch_take(engine);
	int failed;

	if (!watch)
		return error_nomem();
	*source = (struct source){.engine = engine, .fd = fd, .ready = ready, .closed = closed, .watch = watch};
	list_init(&source->node);
	pthread_mutex_lock(&watch->lock);
	watch->source = source;
	watch->sleeper_fd = -1;
	watch->interest = interest;
	watch->state = WATCH_ARMED;
	failed = watch_arm(watch, EPOLL_CTL_ADD, interest);
	if (failed) {
		watch->state = WATCH_FREE;
		watch->source = NULL;
	}
	pthread_mutex_unlock(&watch->lock);
	if (failed) {
		source->watch = NULL;
		error_errno("epoll_ctl");
		watch_give(engine, watch);
		return TDR_EIO;
	}
	return TDR_OK;
}

/* An owner that sleeps must look anew: what it is to watch for has changed, or the source is closed. With the lock held. */
static void stir_sleeper(struct watch *watch)
{
	static const uint64_t one = 1;

	if (watch->sleeper_fd >= 0 && write(watch->sleeper_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN); /* its count is full: it is readable, then */
}

void source_want(struct source *source, uint32_t interest)
{
	struct watch *watch = source->watch;

	pthread_mutex_lock(&watch->lock);
	if (watch->source == source && watch->interest != interest) {
		watch->interest = interest;
		if (watch->state == WATCH_ARMED)
			watch_arm(watch, EPOLL_CTL_MOD, interest);
		else
			stir_sleeper(watch);
	}
	pthread_mutex_unlock(&watch->lock);
}

/* Takes a source out of the set for good. With the watch's lock held, which is given up. */
static void watch_release(struct watch *watch)
{
	struct source *source = watch->source;
	tdr_engine *engine = source->engine;

	epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	watch->state = WATCH_FREE;
	watch->source = NULL;
	pthread_mutex_unlock(&watch->lock);
	watch_give(engine, watch);
	source->closed(source);
}

void source_close(struct source *source)
{
	struct watch *watch = source->watch;

	pthread_mutex_lock(&watch->lock);
	if (watch->source != source) { /* closed already, and perhaps another's by now */
		pthread_mutex_unlock(&watch->lock);
		return;
	}
	if (watch->state == WATCH_ARMED) {
		watch_release(watch);
		return;
	}
	watch->state = WATCH_CLOSING;
	stir_sleeper(watch);
	pthread_mutex_unlock(&watch->lock);
}

struct source *watch_claim(struct watch *watch)
{
	struct source *source = NULL;

	pthread_mutex_lock(&watch->lock);
	if (watch->state == WATCH_ARMED) {
		watch->state = WATCH_OWNED;
		source = watch->source;
	}
	pthread_mutex_unlock(&watch->lock);
	return source;
}

bool source_claim(struct source *source)
{
	struct watch *watch = source->watch;
	bool mine;

	pthread_mutex_lock(&watch->lock);
	mine = watch->source == source && watch->state == WATCH_ARMED;
	if (mine) {
		watch->state = WATCH_OWNED;
		watch_arm(watch, EPOLL_CTL_MOD, 0);
	}
	pthread_mutex_unlock(&watch->lock);
	return mine;
}

void source_set_sleeper(struct source *source, int wake_fd)
{
	pthread_mutex_lock(&source->watch->lock);
	source->watch->sleeper_fd = wake_fd;
	pthread_mutex_unlock(&source->watch->lock);
}

bool source_settle(struct source *source, bool more)
{
	tdr_engine *engine = source->engine;
	struct watch *watch = source->watch;

	pthread_mutex_lock(&watch->lock);
	if (watch->state == WATCH_CLOSING) {
		watch_release(watch);
		return false;
	}
	assert(watch->state == WATCH_OWNED);
	if (!more) {
		watch->state = WATCH_ARMED;
		watch_arm(watch, EPOLL_CTL_MOD, watch->interest);
	}
	pthread_mutex_unlock(&watch->lock);
	if (more) {
		pthread_mutex_lock(&engine->lock);
		list_append(&engine->ready, &source->node);
		atomic_fetch_add(&engine->pending, 1);
		if (engine_self.engine != engine || engine_self.role != ROLE_FREE)
			engine_kick(engine);
		pthread_mutex_unlock(&engine->lock);
	}
	return true;
}
