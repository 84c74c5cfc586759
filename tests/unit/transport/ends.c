/* SPDX-License-Identifier: Apache-2.0 */
#include "ends.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/status.h>
#include <unistd.h>

/* ---- waiting ---- */

struct timespec await_deadline(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += AWAIT_MS / 1000;
	return now;
}

static bool over(const struct timespec *until)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec > until->tv_sec || (now.tv_sec == until->tv_sec && now.tv_nsec >= until->tv_nsec);
}

/* An engine without threads is driven meanwhile. */
static bool step(tdr_engine *engine, pthread_mutex_t *lock, pthread_cond_t *changed, const struct timespec *until)
{
	if (engine_stats(engine).threads > 0)
		return pthread_cond_timedwait(changed, lock, until) == 0;
	pthread_mutex_unlock(lock);
	if (tdr_engine_progress(engine, 100) != TDR_OK)
		abort();
	pthread_mutex_lock(lock);
	return !over(until);
}

bool await_step(struct end *end, const struct timespec *until)
{
	return step(end->place->engine, &end->lock, &end->changed, until);
}

/* ---- ends ---- */

static void end_init(struct end *end, struct place *place, void (*handle)(struct end *, const struct message *))
{
	memset(end, 0, sizeof(*end));
	pthread_mutex_init(&end->lock, NULL);
	pthread_cond_init(&end->changed, NULL);
	end->place = place;
	end->handle = handle;
}

void end_wrong(struct end *end, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	pthread_mutex_lock(&end->lock);
	if (!end->wrong[0])
		vsnprintf(end->wrong, sizeof(end->wrong), format, arguments);
	pthread_mutex_unlock(&end->lock);
	va_end(arguments);
}

void end_set_flag(struct end *end)
{
	pthread_mutex_lock(&end->lock);
	end->flag = true;
	pthread_cond_broadcast(&end->changed);
	pthread_mutex_unlock(&end->lock);
}

void end_count(struct end *end)
{
	pthread_mutex_lock(&end->lock);
	end->counter++;
	pthread_cond_broadcast(&end->changed);
	pthread_mutex_unlock(&end->lock);
}

static void on_opened(struct lane *lane, void *context)
{
	struct end *end = context;

	if (end->opened || end->closed || end->messages)
		end_wrong(end, "opened came late or twice");
	pthread_mutex_lock(&end->lock);
	end->opened++;
	pthread_cond_broadcast(&end->changed);
	pthread_mutex_unlock(&end->lock);
}

static void on_message(struct lane *lane, void *context, const struct message *message, unsigned turn)
{
	struct end *end = context;

	if (!end->opened || end->closed)
		end_wrong(end, "a message came outside of the lane's life");
	if (end->handle)
		end->handle(end, message);
	pthread_mutex_lock(&end->lock);
	end->messages++;
	pthread_cond_broadcast(&end->changed);
	pthread_mutex_unlock(&end->lock);
}

static void on_closed(struct lane *lane, void *context, tdr_status status, bool refused, const char *text)
{
	struct end *end = context;

	if (end->closed)
		end_wrong(end, "closed came twice");
	pthread_mutex_lock(&end->lock);
	end->closed++;
	end->status = status;
	end->refused = refused;
	snprintf(end->text, sizeof(end->text), "%s", text);
	pthread_cond_broadcast(&end->changed);
	pthread_mutex_unlock(&end->lock);
}

static const struct lane_events events = {.opened = on_opened, .message = on_message, .closed = on_closed};

void end_open_to(struct end *end, struct place *place, const char *address, int64_t timeout_ms,
                 void (*handle)(struct end *, const struct message *))
{
	struct lane_config config = place->config;

	end_init(end, place, handle);
	config.context = end;
	config.incarnation = 77;
	assert_int_equal(place->transport->connect(&config, address, timeout_ms, &end->lane), TDR_OK);
	assert_string_equal(end->lane->peer, address);
}

void end_open(struct end *end, struct place *place, void (*handle)(struct end *, const struct message *))
{
	end_open_to(end, place, place->address, AWAIT_MS, handle);
}

void end_finish(struct end *end)
{
	AWAIT(end, end->closed);
	lane_unref(end->lane);
	end->lane = NULL;
	if (end->wrong[0])
		fail_msg("%s", end->wrong);
	assert_int_equal(end->closed, 1);
	pthread_cond_destroy(&end->changed);
	pthread_mutex_destroy(&end->lock);
}

void end_await_sent(struct end *end)
{
	struct timespec until = await_deadline();

	while (end->lane->ops->stats(end->lane).bytes_queued > 0) {
		if (over(&until))
			fail_msg("waited in vain for the queue to be written");
		usleep(1000);
	}
}

void end_send(struct end *end, uint64_t call_id, const void *body, size_t size)
{
	struct message message = {.type = MESSAGE_CALL, .call_id = call_id, .body = body, .body_size = size};

	if (lane_send(end->lane, &message) != TDR_OK)
		end_wrong(end, "send: %s", tdr_last_error());
}

void end_send_storages(struct end *end, uint64_t call_id, size_t count, tdr_storage *const storages[])
{
	struct message message = {.type = MESSAGE_REPLY, .call_id = call_id, .nstorages = count, .storages = storages};

	if (lane_send(end->lane, &message) != TDR_OK)
		end_wrong(end, "send: %s", tdr_last_error());
}

static uint8_t pattern_at(size_t i, unsigned seed)
{
	return (uint8_t)((i * 2654435761u) >> 13 ^ seed * 37u ^ i >> 8);
}

tdr_storage *patterned(size_t size, unsigned seed)
{
	tdr_storage *storage = NULL;
	uint8_t *data;

	if (tdr_storage_new(size, &storage) != TDR_OK)
		abort();
	data = tdr_storage_data(storage);
	for (size_t i = 0; i < size; i++)
		data[i] = pattern_at(i, seed);
	return storage;
}

bool has_pattern(const tdr_storage *storage, size_t size, unsigned seed)
{
	const uint8_t *data = tdr_storage_data(storage);

	if (tdr_storage_nbytes(storage) != size)
		return false;
	for (size_t i = 0; i < size; i++)
		if (data[i] != pattern_at(i, seed))
			return false;
	return true;
}

/* ---- places ---- */

static bool on_accept(void *context, struct lane *lane)
{
	struct place *place = context;
	struct end *end;

	if (place->drop)
		return false;
	pthread_mutex_lock(&place->lock);
	if (place->accepted == ENDS_MAX)
		abort();
	end = &place->ends[place->accepted];
	end_init(end, place, place->handle);
	end->lane = lane_ref(lane);
	lane->config.context = end;
	lane->config.incarnation = 78;
	if (place->limits.max_message_bytes)
		lane->config.limits = place->limits;
	place->accepted++;
	pthread_cond_broadcast(&place->changed);
	pthread_mutex_unlock(&place->lock);
	if (place->close_in_accept)
		lane_close(lane, false);
	return true;
}

struct place *place_new(const struct transport *transport, const char *host, uint32_t threads)
{
	struct place *place = calloc(1, sizeof(*place));
	tdr_engine_options options;

	assert_non_null(place);
	place->transport = transport;
	pthread_mutex_init(&place->lock, NULL);
	pthread_cond_init(&place->changed, NULL);
	tdr_engine_options_init(&options);
	options.threads = threads;
	assert_int_equal(tdr_engine_new(&options, &place->engine), TDR_OK);
	place->pool = pool_new(64 << 20);
	assert_non_null(place->pool);
	place->config = (struct lane_config){
	    .engine = place->engine,
	    .pool = place->pool,
	    .limits = {.max_body_bytes = 64 << 20, .max_message_bytes = 1 << 30, .max_storages = 65536},
	    .events = &events,
	};
	if (transport->listen(&place->config, host, 0, on_accept, place, &place->listener) != TDR_OK)
		fail_msg("listen: %s", tdr_last_error());
	snprintf(place->address, sizeof(place->address), strchr(host, ':') ? "%s://[%s]:%u" : "%s://%s:%u",
	         transport->name, host, place->listener->port);
	return place;
}

void place_close_listener(struct place *place)
{
	if (place->listener)
		place->listener->ops->close(place->listener);
	place->listener = NULL;
}

struct end *place_end(struct place *place, unsigned index)
{
	struct timespec until = await_deadline();
	bool late = false;

	pthread_mutex_lock(&place->lock);
	while (place->accepted <= index && !late)
		late = !step(place->engine, &place->lock, &place->changed, &until);
	pthread_mutex_unlock(&place->lock);
	if (late)
		fail_msg("waited in vain for accepted lane %u", index);
	AWAIT(&place->ends[index], place->ends[index].opened || place->ends[index].closed);
	return &place->ends[index];
}

void place_free(struct place *place)
{
	place_close_listener(place);
	for (unsigned i = 0; i < place->accepted; i++) {
		lane_close(place->ends[i].lane, false);
		end_finish(&place->ends[i]);
	}
	tdr_engine_unref(place->engine);
	assert_int_equal(pool_stats(place->pool).bytes_in_use, 0);
	pool_unref(place->pool);
	pthread_cond_destroy(&place->changed);
	pthread_mutex_destroy(&place->lock);
	free(place);
}
