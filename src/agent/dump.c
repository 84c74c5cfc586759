/* SPDX-License-Identifier: Apache-2.0 */
/* Insight: key-value metrics, and a dump of what is stuck, where and for how long, on a call or a signal. */
#include "agent/references.h"
#include "agent/view.h"

#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

void print_duration(int64_t microseconds, char *buffer, size_t size)
{
	if (microseconds < 1000)
		snprintf(buffer, size, "%" PRId64 " us", microseconds);
	else if (microseconds < 1000000)
		snprintf(buffer, size, "%.1f ms", (double)microseconds / 1e3);
	else
		snprintf(buffer, size, "%.1f s", (double)microseconds / 1e6);
}

struct buffer agent_dump_text(tdr_agent *agent)
{
	struct engine_stats stats = engine_stats(agent->engine);
	struct buffer text = {0};

	buffer_printf(
	    &text,
	    "agent '%s' (%s): %u calls under way, %u served; threads: %u, %u in functions, %u of functions that "
	    "wait, %u tasks queued\n",
	    agent->name, agent_state_name(agent_state(agent)), atomic_load(&agent->outstanding),
	    atomic_load(&agent->serving), stats.threads, stats.running, stats.blocked, stats.queued);
	pthread_mutex_lock(&agent->view_lock);
	list_for_each(node, &agent->peers) {
		struct peer *peer = list_entry(node, struct peer, node);

		outgoing_dump(peer, &text);
		serve_dump(peer, &text);
	}
	pthread_mutex_unlock(&agent->view_lock);
	return text;
}

tdr_status tdr_dump(tdr_agent *agent, tdr_value **ret_text)
{
	tdr_status status = agent_check_not_forked(agent);
	struct buffer text;

	if (status != TDR_OK)
		return status;
	text = agent_dump_text(agent);
	if (text.failed)
		status = error_nomem();
	else
		*ret_text = tdr_string_n((const char *)text.data, text.size);
	buffer_fini(&text);
	return status;
}

/* ---- metrics ---- */

/* The latency below which a share of the calls stayed, in microseconds, to the next power of two. */
static uint64_t quantile(const struct metrics *metrics, double share)
{
	uint64_t counts[LATENCY_BUCKETS], all = 0, seen = 0;

	for (int i = 0; i < LATENCY_BUCKETS; i++)
		all += counts[i] = atomic_load_explicit(&metrics->latency[i], memory_order_relaxed);
	for (int i = 0; i < LATENCY_BUCKETS && all > 0; i++) {
		seen += counts[i];
		if ((double)seen >= share * (double)all)
			return UINT64_C(2) << i;
	}
	return 0;
}

void info_put(tdr_value *info, const char *key, uint64_t number)
{
	(void)tdr_dict_set(info, key, tdr_int((int64_t)MIN_OF(number, (uint64_t)INT64_MAX)));
}

/* Resident memory of the process, in bytes. */
static uint64_t resident_bytes(void)
{
	unsigned long long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (file) {
		if (fscanf(file, "%*s %llu", &pages) != 1)
			pages = 0;
		fclose(file);
	}
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void put_links(tdr_agent *agent, tdr_value *info)
{
	const struct view *view = agent_view(agent);
	struct lane_stats sum = {0};
	uint64_t up = 0;

	pthread_mutex_lock(&agent->view_lock);
	list_for_each(node, &agent->peers) {
		struct link *link = list_entry(node, struct peer, node)->link;
		struct lane_stats stats = link_stats(link);

		up += link_state(link) == LINK_UP;
		sum.messages_sent += stats.messages_sent;
		sum.messages_received += stats.messages_received;
		sum.bytes_sent += stats.bytes_sent;
		sum.bytes_received += stats.bytes_received;
		sum.bytes_queued += stats.bytes_queued;
	}
	pthread_mutex_unlock(&agent->view_lock);
	info_put(info, "agent.workers", view_count(view));
	info_put(info, "agent.epoch", view ? view->epoch : 0);
	info_put(info, "agent.connections", up);
	info_put(info, "agent.messages_sent", sum.messages_sent);
	info_put(info, "agent.messages_received", sum.messages_received);
	info_put(info, "agent.bytes_sent", sum.bytes_sent);
	info_put(info, "agent.bytes_received", sum.bytes_received);
	info_put(info, "agent.bytes_queued", sum.bytes_queued);
}

tdr_status tdr_debug_info(tdr_agent *agent, tdr_value **ret_info)
{
	const struct metrics *metrics = &agent->metrics;
	struct engine_stats engine;
	struct pool_stats pool;
	tdr_status status = agent_check_not_forked(agent);
	tdr_value *info;
	uint64_t done;

	if (status != TDR_OK)
		return status;
	engine = engine_stats(agent->engine);
	pool = pool_stats(agent->pool);
	info = tdr_dict_new();
	info_put(info, "agent.client_active_calls", atomic_load(&agent->outstanding));
	info_put(info, "agent.server_active_calls", atomic_load(&agent->serving));
	info_put(info, "agent.calls_issued", atomic_load(&metrics->issued));
	info_put(info, "agent.calls_succeeded", atomic_load(&metrics->succeeded));
	info_put(info, "agent.calls_failed", atomic_load(&metrics->failed));
	info_put(info, "agent.calls_timed_out", atomic_load(&metrics->timed_out));
	info_put(info, "agent.calls_cancelled", atomic_load(&metrics->cancelled));
	info_put(info, "agent.calls_served", atomic_load(&metrics->served));
	info_put(info, "agent.calls_served_with_error", atomic_load(&metrics->served_failed));
	info_put(info, "agent.calls_expired_before_run", atomic_load(&metrics->expired));
	info_put(info, "agent.calls_refused_for_threads", atomic_load(&metrics->refused));
	done = atomic_load(&metrics->succeeded) + atomic_load(&metrics->failed) + atomic_load(&metrics->timed_out) +
	       atomic_load(&metrics->cancelled);
	info_put(info, "agent.latency_mean_us", done ? atomic_load(&metrics->latency_us) / done : 0);
	info_put(info, "agent.latency_p50_us", quantile(metrics, 0.5));
	info_put(info, "agent.latency_p99_us", quantile(metrics, 0.99));
	put_links(agent, info);
	references_info(agent, info);
	info_put(info, "agent.thread_pool_size", engine.max_busy);
	info_put(info, "agent.num_idle_threads",
	         engine.max_busy > engine.running ? engine.max_busy - engine.running : 0);
	info_put(info, "agent.threads", engine.threads);
	info_put(info, "agent.threads_waiting", engine.blocked);
	info_put(info, "agent.tasks_queued", engine.queued);
	info_put(info, "agent.pool_bytes_in_use", pool.bytes_in_use);
	info_put(info, "agent.pool_bytes_kept", pool.bytes_kept);
	info_put(info, "agent.pool_blocks_taken", pool.taken);
	info_put(info, "agent.pool_blocks_reused", pool.reused);
	info_put(info, "agent.resident_bytes", resident_bytes());
	if (tdr_value_kind(info) == TDR_INVALID) {
		tdr_value_unref(info);
		return error_nomem();
	}
	*ret_info = info;
	return TDR_OK;
}

/* ---- on a signal ---- */

/*
 * The handler may only write to a descriptor; the engine reads it and writes the dump to the log. One agent of a process may
 * have each signal.
 */
struct dump_signal {
	struct source source;
	tdr_agent *agent; /* ends only after the source has closed */
	int fd;
	int number;
	struct sigaction before;
	struct waiter closed;
};

static _Atomic int signal_fds[65]; /* by signal, plus one: 0 is none */
static _Atomic unsigned handlers;  /* threads that are inside the handler, and may have read one of them */

static void on_signal(int number)
{
	static const uint64_t one = 1;
	int saved = errno, fd;

	atomic_fetch_add(&handlers, 1);
	fd = atomic_load(&signal_fds[number]) - 1;
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		errno = saved; /* a dump is due already */
	atomic_fetch_sub(&handlers, 1);
	errno = saved;
}

static bool signal_ready(struct source *source, unsigned turn)
{
	struct dump_signal *signal = container_of(source, struct dump_signal, source);
	struct buffer text;
	uint64_t count;
	char *line, *rest;

	if (read(signal->fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return false;
	text = agent_dump_text(signal->agent);
	buffer_append(&text, "", 1);
	line = text.failed ? NULL : strtok_r((char *)text.data, "\n", &rest);
	for (; line; line = strtok_r(NULL, "\n", &rest))
		LOG(TDR_LOG_WARN, "event=dump text=\"%s\"", line);
	buffer_fini(&text);
	return false;
}

static void signal_closed(struct source *source)
{
	struct dump_signal *signal = container_of(source, struct dump_signal, source);

	close(signal->fd);
	waiter_wake(&signal->closed);
}

tdr_status dump_signal_open(tdr_agent *agent)
{
	int number = (int)agent->options.dump_signal, none = 0;
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	struct dump_signal *signal;
	tdr_status status;

	if (number == 0)
		return TDR_OK;
	signal = calloc(1, sizeof(*signal));
	if (!signal)
		return error_nomem();
	signal->agent = agent;
	signal->number = number;
	waiter_init(&signal->closed);
	signal->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (signal->fd < 0) {
		status = error_errno("cannot make a descriptor for the dump signal");
		goto fail;
	}
	if (!atomic_compare_exchange_strong(&signal_fds[number], &none, signal->fd + 1)) {
		status = error_set(TDR_EEXISTS, "signal %d dumps another agent of this process already", number);
		goto fail;
	}
	status = source_open(&signal->source, agent->engine, signal->fd, EPOLLIN, signal_ready, signal_closed);
	if (status == TDR_OK && sigaction(number, &action, &signal->before) < 0) {
		status = error_errno("cannot catch signal %d", number);
		source_close(&signal->source);
		engine_wait(agent->engine, &signal->closed, NULL, 0);
		signal->fd = -1;
	}
	if (status != TDR_OK) {
		atomic_store(&signal_fds[number], 0);
		goto fail;
	}
	agent->signal = signal;
	return TDR_OK;
fail:
	if (signal->fd >= 0)
		close(signal->fd);
	free(signal);
	return status;
}

void dump_signal_close(tdr_agent *agent)
{
	struct dump_signal *signal = TAKE_PTR(agent->signal);

	if (!signal)
		return;
	sigaction(signal->number, &signal->before, NULL);
	atomic_store(&signal_fds[signal->number], 0);
	while (atomic_load(&handlers) > 0) /* its descriptor's number may soon be another's */
		sched_yield();
	source_close(&signal->source);
	engine_wait(agent->engine, &signal->closed, NULL, 0);
	free(signal);
}
