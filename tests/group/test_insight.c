/* SPDX-License-Identifier: Apache-2.0 */
/* Insight: metrics with plausible numbers, and dumps of what is under way, on a call and on a signal. */
#include "group.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/info.h>

static struct gate gate = GATE_INIT;

static tdr_status pass_gate(tdr_call *call, void *context)
{
	gate_pass(&gate);
	return TDR_OK;
}

static tdr_future *promise;

static tdr_status later(tdr_call *call, void *context)
{
	return tdr_return_future(call, promise);
}

static tdr_status fail_always(tdr_call *call, void *context)
{
	return TDR_EINVAL;
}

static void prepare(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::gate()", pass_gate, NULL, 0));
	expect_ok(tdr_register(agent, "test::later()", later, NULL, 0));
	expect_ok(tdr_register(agent, "test::fail()", fail_always, NULL, 0));
}

static void configure(size_t rank, tdr_agent_options *options)
{
	options->threads = 2;
	options->dump_signal = rank == 1 ? SIGUSR1 : 0;
}

static const struct group_config config = {.prepare = prepare, .configure = configure};

static int64_t metric(tdr_agent *agent, const char *key)
{
	char name[64];
	tdr_value *info = NULL;
	int64_t number = INT64_MIN;

	snprintf(name, sizeof(name), "agent.%s", key);
	expect_ok(tdr_debug_info(agent, &info));
	expect_text_at(tdr_dict_get(info, name) ? name : "", name, __FILE__, __LINE__);
	if (tdr_dict_get(info, name))
		expect_ok(tdr_value_get_int(tdr_dict_get(info, name), &number));
	tdr_value_unref(info);
	return number;
}

static bool nothing_is_served(void *context)
{
	return metric(context, "server_active_calls") == 0;
}

/* An answer arrives before the thread that gave it has put all away. */
static bool one_is_served(void *context)
{
	return metric(context, "server_active_calls") == 1 && metric(context, "num_idle_threads") == 1 &&
	       metric(context, "bytes_queued") == 0;
}

/* ---- metrics ---- */

static void metrics_count_calls(void **state)
{
	tdr_agent *caller, *callee;
	tdr_future *held;
	tdr_tensor *tensor;
	struct group group;

	gate_close(&gate);
	group_start(&group, 2, &config);
	caller = group.agents[0];
	callee = group.agents[1];
	assert_int_equal(tdr_tensor_zeros(TDR_U8, TDR_SHAPE(1 << 20), &tensor), TDR_OK);
	for (int i = 0; i < 10; i++)
		call_ok(caller, "worker1", "test::echo", TDR_ARGS(tensor));
	for (int i = 0; i < 3; i++)
		expect_status(tdr_rpc_sync(caller, "worker1", "test::fail", NULL, NULL, NULL), TDR_EINVAL);
	held = tdr_rpc_async(caller, "worker1", "test::gate", NULL, NULL);
	gate_await(&gate, 1);
	eventually(one_is_served, callee);
	expect_true(metric(caller, "calls_issued") == 14);
	expect_true(metric(caller, "calls_succeeded") == 10);
	expect_true(metric(caller, "calls_failed") == 3);
	expect_true(metric(caller, "calls_timed_out") == 0 && metric(caller, "calls_cancelled") == 0);
	expect_true(metric(caller, "client_active_calls") == 1 && metric(caller, "server_active_calls") == 0);
	expect_true(metric(callee, "client_active_calls") == 0 && metric(callee, "server_active_calls") == 1);
	expect_true(metric(callee, "thread_pool_size") == 2 && metric(callee, "num_idle_threads") == 1);
	expect_true(metric(callee, "threads") >= 2 && metric(callee, "threads_waiting") == 0);
	expect_true(metric(caller, "workers") == 2 && metric(caller, "connections") == 1);
	expect_true(metric(caller, "messages_sent") >= 14 && metric(caller, "messages_received") >= 13);
	expect_true(metric(caller, "bytes_sent") >= 10 << 20 && metric(caller, "bytes_received") >= 10 << 20);
	expect_true(metric(callee, "bytes_sent") >= 10 << 20 && metric(callee, "bytes_queued") == 0);
	expect_true(metric(caller, "latency_mean_us") > 0 && metric(caller, "latency_p50_us") > 0);
	expect_true(metric(caller, "latency_p99_us") >= metric(caller, "latency_p50_us"));
	expect_true(metric(caller, "pool_blocks_taken") >= 10);
	expect_true(metric(caller, "pool_blocks_reused") <= metric(caller, "pool_blocks_taken"));
	expect_true(metric(caller, "pool_bytes_in_use") >= 0 && metric(caller, "pool_bytes_kept") >= 0);
	expect_true(metric(caller, "resident_bytes") > 1 << 20);
	gate_open(&gate);
	expect_future(held, TDR_OK, NULL);
	eventually(nothing_is_served, callee);
	expect_true(metric(callee, "calls_served") == 11 && metric(callee, "calls_served_with_error") == 3);
	expect_true(metric(callee, "calls_expired_before_run") == 0 &&
	            metric(callee, "calls_refused_for_threads") == 0);
	expect_true(metric(callee, "tasks_queued") == 0);
	tdr_tensor_unref(tensor);
	group_end(&group);
}

static void metrics_are_there_before_joining_and_after_leaving(void **state)
{
	tdr_agent *agent;
	struct group group;

	group_make(&group, 1, NULL);
	agent = tdr_agent_ref(group.agents[0]);
	expect_true(metric(agent, "workers") == 0 && metric(agent, "calls_issued") == 0);
	expect_ok(tdr_join(agent));
	call_ok(agent, "worker0", "test::echo", TDR_ARGS(1));
	expect_ok(tdr_shutdown(group.agents[0], NULL));
	expect_true(metric(agent, "calls_issued") == 1 && metric(agent, "connections") == 0);
	tdr_agent_unref(agent);
	group.agents[0] = NULL;
	group_drop(&group);
}

/* ---- dumps ---- */

/* Calls of all states towards worker1: two run, one is queued, one waits for a future. */
struct scene {
	struct group group;
	tdr_future *futures[4];
};

static bool is_queued(void *context)
{
	return metric(context, "tasks_queued") == 1;
}

static void scene_set(struct scene *scene)
{
	gate_close(&gate);
	group_start(&scene->group, 2, &config);
	promise = tdr_future_new(tdr_agent_engine(scene->group.agents[1]));
	scene->futures[0] = tdr_rpc_async(scene->group.agents[0], "worker1", "test::later", NULL, NULL);
	for (int i = 1; i < 4; i++)
		scene->futures[i] = tdr_rpc_async(scene->group.agents[0], "worker1", "test::gate", NULL, NULL);
	gate_await(&gate, 2);
	eventually(is_queued, scene->group.agents[1]);
}

static void scene_end(struct scene *scene)
{
	gate_open(&gate);
	expect_ok(tdr_future_set(promise, tdr_none()));
	for (int i = 0; i < 4; i++)
		expect_future(scene->futures[i], TDR_OK, NULL);
	tdr_future_unref(promise);
	group_end(&scene->group);
}

static unsigned occurrences(const char *text, const char *part)
{
	unsigned count = 0;

	for (; (text = strstr(text, part)); text++)
		count++;
	return count;
}

static void a_dump_tells_what_is_under_way(void **state)
{
	tdr_value *value = NULL;
	const char *text = "";
	struct scene scene;

	scene_set(&scene);
	expect_ok(tdr_dump(scene.group.agents[0], &value));
	expect_ok(tdr_value_get_string(value, &text, NULL));
	expect_text(text, "agent 'worker0' (member): 4 calls under way, 0 served");
	expect_true(occurrences(text, "waiting for test::gate on worker 'worker1' for ") == 3);
	expect_true(occurrences(text, "waiting for test::later on worker 'worker1' for ") == 1);
	expect_text(text, "link up");
	tdr_value_unref(value);
	expect_ok(tdr_dump(scene.group.agents[1], &value));
	expect_ok(tdr_value_get_string(value, &text, NULL));
	expect_text(text, "agent 'worker1' (member): 0 calls under way, 4 served");
	expect_true(occurrences(text, "serving test::gate for worker 'worker0' since ") == 3);
	expect_true(occurrences(text, ": runs") == 2 && occurrences(text, ": is queued") == 1);
	expect_true(occurrences(text, ": waits for its future") == 1);
	tdr_value_unref(value);
	tdr_future_cancel(scene.futures[3]);
	expect_future(scene.futures[3], TDR_ECANCELED, NULL);
	scene.futures[3] = tdr_rpc_async(scene.group.agents[0], "worker1", "test::echo", TDR_ARGS(1), NULL);
	expect_ok(tdr_future_wait(scene.futures[3], PATIENCE_MS, NULL)); /* the cancellation has gone before it */
	expect_ok(tdr_dump(scene.group.agents[1], &value));
	expect_ok(tdr_value_get_string(value, &text, NULL));
	expect_text(text, ", cancelled");
	tdr_value_unref(value);
	scene_end(&scene);
}

/* ---- on a signal ---- */

static struct {
	pthread_mutex_t lock;
	char text[8192];
} log_lines = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void keep_dump(void *context, tdr_log_level level, const char *line)
{
	size_t at;

	if (!strstr(line, "event=dump"))
		return;
	pthread_mutex_lock(&log_lines.lock);
	at = strlen(log_lines.text);
	snprintf(log_lines.text + at, sizeof(log_lines.text) - at, "%s\n", line);
	pthread_mutex_unlock(&log_lines.lock);
}

static bool dump_is_whole(void *context)
{
	unsigned lines;

	pthread_mutex_lock(&log_lines.lock);
	lines = occurrences(log_lines.text, "serving ");
	pthread_mutex_unlock(&log_lines.lock);
	return lines == 4;
}

static void a_signal_dumps_to_the_log(void **state)
{
	struct scene scene;
	struct sigaction before, during, after;

	sigaction(SIGUSR1, NULL, &before);
	tdr_log_set(keep_dump, NULL, TDR_LOG_WARN);
	scene_set(&scene);
	sigaction(SIGUSR1, NULL, &during);
	expect_true(during.sa_handler != before.sa_handler);
	raise(SIGUSR1);
	eventually(dump_is_whole, NULL);
	expect_text(log_lines.text, "agent 'worker1' (member)");
	scene_end(&scene);
	tdr_log_set(NULL, NULL, TDR_LOG_OFF);
	sigaction(SIGUSR1, NULL, &after);
	expect_true(after.sa_handler == before.sa_handler);
}

static void a_signal_dumps_one_agent(void **state)
{
	tdr_agent_options options;
	tdr_agent *second = NULL;
	struct group group;
	tdr_store *store;

	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	group_start(&group, 2, &config);
	member_options(&options, 0, 1, store);
	options.dump_signal = SIGUSR1;
	expect_status(tdr_init_rpc("second", &options, &second), TDR_EEXISTS);
	expect_error("signal 10 dumps another agent");
	options.dump_signal = SIGKILL;
	expect_status(tdr_init_rpc("second", &options, &second), TDR_EIO);
	expect_true(!second);
	group_end(&group);
	options.dump_signal = SIGUSR1;
	expect_ok(tdr_init_rpc("second", &options, &second));
	expect_ok(tdr_shutdown(second, NULL));
	tdr_store_unref(store);
}

/* ---- the log ---- */

static _Atomic unsigned joined, left;

static void count_events(void *context, tdr_log_level level, const char *line)
{
	expect_true(level >= TDR_LOG_ERROR && level <= TDR_LOG_DEBUG && strncmp(line, "event=", 6) == 0);
	expect_true(!strchr(line, '\n'));
	atomic_fetch_add(&joined, strncmp(line, "event=joined ", 13) == 0);
	atomic_fetch_add(&left, strncmp(line, "event=left ", 11) == 0);
}

static void the_log_tells_of_joining_and_leaving(void **state)
{
	struct group group;

	tdr_log_set(count_events, NULL, TDR_LOG_DEBUG);
	group_start(&group, 3, NULL);
	call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(1));
	group_end(&group);
	tdr_log_set(NULL, NULL, TDR_LOG_OFF);
	expect_true(atomic_load(&joined) == 3 && atomic_load(&left) == 3);
}

/* ---- what tools tell ---- */

static void transports_and_hosts_are_told(void **state)
{
	tdr_transport_description transport;
	tdr_agent_options options;
	char host[TDR_HOST_SIZE];

	expect_true(tdr_transport_info(0, &transport));
	expect_true(strcmp(transport.name, "tcp") == 0 && transport.available && !transport.reason);
	expect_true(!tdr_transport_info(1000, &transport));
	expect_ok(tdr_advertised_host(NULL, host, sizeof(host)));
	expect_true(host[0] != '\0');
	tdr_agent_options_init(&options);
	options.advertise = "example.org:77";
	expect_ok(tdr_advertised_host(&options, host, sizeof(host)));
	expect_true(strcmp(host, "example.org") == 0);
	expect_status(tdr_advertised_host(&options, host, 5), TDR_EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(metrics_count_calls),
	    TEST(metrics_are_there_before_joining_and_after_leaving),
	    TEST(a_dump_tells_what_is_under_way),
	    TEST(a_signal_dumps_to_the_log),
	    TEST(a_signal_dumps_one_agent),
	    TEST(the_log_tells_of_joining_and_leaving),
	    TEST(transports_and_hosts_are_told),
	};

	return cmocka_run_group_tests_name("insight", tests, NULL, NULL);
}
