/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links over real connections: both ends dialling at once, connections that are cut while both live, a worker that cannot be
 * reached any more, and credit that is used up. Cuts are made by a relay that a member advertises in its own place.
 */
#include "agent/internal.h"
#include "group.h"
#include "support/places.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- both ends dial at once ---- */

enum {
	CROWD = 6, /* at the most */
	ROUNDS = 200
};

struct crowd {
	struct group group;
	pthread_barrier_t start;
};

static void call_all(void *context, size_t index)
{
	struct crowd *crowd = context;
	tdr_future *futures[CROWD];

	pthread_barrier_wait(&crowd->start);
	for (size_t i = 0; i < crowd->group.count; i++)
		futures[i] = tdr_rpc_async(crowd->group.agents[index], worker_name((index + i) % crowd->group.count),
		                           "test::echo", TDR_ARGS((int)i), NULL);
	for (size_t i = 0; i < crowd->group.count; i++)
		expect_future(futures[i], TDR_OK, NULL);
}

static void cross_lanes(bool share_engine)
{
	struct group_config config = {.share_engine = share_engine};

	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned count = 2 + round % (CROWD - 1);
		struct crowd crowd;

		group_start(&crowd.group, count, &config);
		pthread_barrier_init(&crowd.start, NULL, count);
		in_parallel(count, call_all, &crowd);
		pthread_barrier_destroy(&crowd.start);
		group_end(&crowd.group);
	}
}

static void lanes_that_cross_lose_no_call(void **state)
{
	cross_lanes(true);
}

static void lanes_that_cross_between_engines_lose_no_call(void **state)
{
	cross_lanes(false);
}

/* ---- a relay, which can be cut ---- */

enum {
	MAX_PAIRS = 32
};

struct relay {
	int listener;
	uint16_t port, target;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	int pairs[MAX_PAIRS][2];
	size_t npairs;
	bool stopping;
};

static int connect_to(uint16_t port)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Passes on what has come; false when an end is over. */
static bool pass_on(int from, int to)
{
	char bytes[65536];
	ssize_t got = recv(from, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	for (ssize_t sent = 0; got > 0 && sent < got;) {
		ssize_t put = send(to, bytes + sent, (size_t)(got - sent), MSG_NOSIGNAL);

		if (put < 0)
			return false;
		sent += put;
	}
	return got > 0;
}

static void drop_pair(struct relay *relay, size_t index)
{
	close(relay->pairs[index][0]);
	close(relay->pairs[index][1]);
	relay->npairs--;
	memmove(relay->pairs[index], relay->pairs[relay->npairs], sizeof(relay->pairs[index]));
}

static void relay_turn(struct relay *relay)
{
	struct pollfd poll_listener = {.fd = relay->listener, .events = POLLIN};

	if (relay->listener >= 0 && poll(&poll_listener, 1, 0) > 0) {
		int near_end = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC);
		int far_end = connect_to(relay->target);

		if (near_end >= 0 && far_end >= 0 && relay->npairs < MAX_PAIRS) {
			relay->pairs[relay->npairs][0] = near_end;
			relay->pairs[relay->npairs++][1] = far_end;
		} else {
			close(near_end);
			close(far_end);
		}
	}
	for (size_t i = 0; i < relay->npairs; i++)
		if (!pass_on(relay->pairs[i][0], relay->pairs[i][1]) ||
		    !pass_on(relay->pairs[i][1], relay->pairs[i][0]))
			drop_pair(relay, i--);
}

static void *relay_run(void *context)
{
	struct relay *relay = context;
	bool stopping = false;

	while (!stopping) {
		pthread_mutex_lock(&relay->lock);
		relay_turn(relay);
		stopping = relay->stopping;
		pthread_mutex_unlock(&relay->lock);
		usleep(200);
	}
	return NULL;
}

static void relay_start(struct relay *relay, uint16_t target)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);

	*relay = (struct relay){.target = target, .lock = PTHREAD_MUTEX_INITIALIZER};
	relay->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(relay->listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(relay->listener, 64), 0);
	assert_int_equal(getsockname(relay->listener, (struct sockaddr *)&address, &size), 0);
	relay->port = ntohs(address.sin_port);
	assert_int_equal(pthread_create(&relay->thread, NULL, relay_run, relay), 0);
}

/* Cuts all connections there are; new ones may come. */
static void relay_cut(struct relay *relay)
{
	pthread_mutex_lock(&relay->lock);
	while (relay->npairs > 0)
		drop_pair(relay, 0);
	pthread_mutex_unlock(&relay->lock);
}

/* Reads nothing and answers nothing, as a machine that has vanished: connections stand, new ones are not accepted. */
static void relay_freeze(struct relay *relay)
{
	pthread_mutex_lock(&relay->lock);
	relay->stopping = true;
	pthread_mutex_unlock(&relay->lock);
	pthread_join(relay->thread, NULL);
}

static void relay_end(struct relay *relay)
{
	if (!relay->stopping)
		relay_freeze(relay);
	relay_cut(relay);
	close(relay->listener);
}

/* ---- a group whose member 1 is reached through the relay ---- */

static struct relay relay;
static struct gate gate = GATE_INIT;
static struct port behind;
static char advertised[32], listened[32];

static void behind_the_relay(size_t rank, tdr_agent_options *options)
{
	if (rank != 1)
		return;
	options->advertise = advertised;
	options->listen = listened;
	options->heartbeat_ms = 100;
}

static void impatient(size_t rank, tdr_agent_options *options)
{
	behind_the_relay(rank, options);
	options->heartbeat_ms = 100;
	options->heartbeat_bound_ms = 500;
	options->connect_timeout_ms = 200;
}

static tdr_status stop_at_gate(tdr_call *call, void *context)
{
	gate_pass(&gate);
	return tdr_return_int(call, 7);
}

static void register_stop(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::stop() -> int", stop_at_gate, NULL, 0));
}

static void place_relay(void)
{
	gate_close(&gate);
	behind = port_reserve();
	relay_start(&relay, behind.number);
	snprintf(advertised, sizeof(advertised), "127.0.0.1:%u", relay.port);
	snprintf(listened, sizeof(listened), "127.0.0.1:%u", behind.number);
}

static void start_behind_relay(struct group *group, void (*configure)(size_t, tdr_agent_options *))
{
	struct group_config config = {.configure = configure, .prepare = register_stop};

	place_relay();
	group_start(group, 2, &config);
	call_ok(group->agents[0], "worker1", "test::echo", TDR_ARGS(1));
}

static void a_cut_leaves_outcomes_unknown_and_the_worker_alive(void **state)
{
	struct group group;
	tdr_future *future;

	start_behind_relay(&group, behind_the_relay);
	for (int round = 0; round < 3; round++) {
		gate_close(&gate);
		future = tdr_rpc_async(group.agents[0], "worker1", "test::stop", NULL, NULL);
		gate_await(&gate, 1);
		relay_cut(&relay);
		expect_future(future, TDR_EUNKNOWN_OUTCOME, "'worker1'");
		gate_open(&gate);
		call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(round));
		call_ok(group.agents[1], "worker0", "test::echo", TDR_ARGS(round));
	}
	group_end(&group);
	relay_end(&relay);
	port_release(&behind);
}

static void who_falls_silent_is_gone_at_the_bound(void **state)
{
	struct group group;
	tdr_future *future;

	start_behind_relay(&group, impatient);
	future = tdr_rpc_async(group.agents[0], "worker1", "test::stop", NULL, NULL);
	gate_await(&gate, 1);
	relay_freeze(&relay);
	expect_future(future, TDR_EWORKERGONE, "'worker1'");
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::echo", TDR_ARGS(1), NULL, NULL), TDR_EWORKERGONE);
	gate_open(&gate);
	call_ok(group.agents[0], "worker0", "test::echo", TDR_ARGS(1));
	group_drop(&group);
	relay_end(&relay);
	port_release(&behind);
}

/* Its machine makes connections, which the kernel does without it, and says nothing on them. */
static void who_answers_no_greeting_cannot_be_reached(void **state)
{
	struct group_config config = {.configure = impatient};
	struct group group;

	place_relay();
	relay_freeze(&relay);
	group_start(&group, 2, &config);
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::echo", TDR_ARGS(1), NULL, NULL),
	              TDR_EUNREACHABLE);
	expect_error("'worker1' could not be reached");
	group_drop(&group);
	relay_end(&relay);
	port_release(&behind);
}

/* ---- credit ---- */

static void small_credit(size_t rank, tdr_agent_options *options)
{
	options->credit_bytes = 8192;
	options->threads = 1;
	options->max_threads = 1;
}

static void *call_past_credit(void *context)
{
	struct group *group = context;
	tdr_tensor *tensor;

	expect_ok(tdr_tensor_zeros(TDR_U8, TDR_SHAPE(1024), &tensor));
	expect_status(tdr_rpc_sync(group->agents[0], "worker1", "test::echo", TDR_ARGS(tensor), NULL, NULL), TDR_OK);
	tdr_tensor_unref(tensor);
	return NULL;
}

static void past_their_credit_callers_wait(void **state)
{
	struct group_config config = {.configure = small_credit, .prepare = register_stop};
	tdr_rpc_options options;
	tdr_future *futures[64];
	struct group group;
	tdr_tensor *tensor;
	pthread_t thread;
	size_t refused = 0;

	gate_close(&gate);
	group_start(&group, 2, &config);
	tdr_rpc_options_init(&options);
	options.flags = TDR_RPC_NO_WAIT;
	expect_ok(tdr_tensor_zeros(TDR_U8, TDR_SHAPE(1024), &tensor));
	futures[0] = tdr_rpc_async(group.agents[0], "worker1", "test::stop", NULL, NULL);
	gate_await(&gate, 1); /* the only thread is taken: whatever comes now waits there */
	for (size_t i = 1; i < COUNT_OF(futures); i++) {
		futures[i] =
		    tdr_rpc_async_with(group.agents[0], "worker1", "test::echo", TDR_ARGS(tensor), NULL, &options);
		refused += tdr_future_done(futures[i]); /* what was sent cannot be done yet */
	}
	expect_true(refused > 0 && refused < COUNT_OF(futures) - 1);
	assert_int_equal(pthread_create(&thread, NULL, call_past_credit, &group), 0);
	pause_ms(50);
	call_ok(group.agents[1], "worker0", "test::echo", TDR_ARGS(1)); /* the other direction has credit of its own */
	gate_open(&gate);
	pthread_join(thread, NULL);
	for (size_t i = 0; i < COUNT_OF(futures); i++) {
		tdr_status status = tdr_future_wait(futures[i], PATIENCE_MS, NULL);

		expect_true(status == TDR_OK || status == TDR_EAGAIN);
		tdr_future_unref(futures[i]);
	}
	call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(tensor));
	tdr_tensor_unref(tensor);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(lanes_that_cross_lose_no_call),
	    TEST(lanes_that_cross_between_engines_lose_no_call),
	    TEST(a_cut_leaves_outcomes_unknown_and_the_worker_alive),
	    TEST(who_falls_silent_is_gone_at_the_bound),
	    TEST(who_answers_no_greeting_cannot_be_reached),
	    TEST(past_their_credit_callers_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
