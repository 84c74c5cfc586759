/* SPDX-License-Identifier: Apache-2.0 */
/* Groups that change: members who join, leave, die and come back. */
#include "group.h"

#include "support/places.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	SHORT_BOUND_MS = 300, /* heartbeat_bound_ms where a test waits for it to pass */
};

/* ---- members ---- */

static tdr_status echo(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_value_ref(tdr_arg(call, 0)));
}

static void dynamic_options(tdr_agent_options *options, int64_t rank, tdr_store *store)
{
	member_options(options, 0, 1, store);
	options->rank = rank;
	options->world_size = 0;
}

static tdr_agent *make(const char *name, const tdr_agent_options *options)
{
	tdr_agent *agent = tdr_agent_new(name, options);

	if (!agent)
		fail_msg("%s: %s", name, tdr_last_error());
	expect_ok(tdr_register(agent, "test::echo(Any value) -> Any", echo, NULL, TDR_FUNCTION_INLINE));
	return agent;
}

/* A member that has joined; NULL, with a failure noted, if it could not. */
static tdr_agent *join(const char *name, int64_t rank, tdr_store *store)
{
	tdr_agent_options options;
	tdr_agent *agent;

	dynamic_options(&options, rank, store);
	agent = make(name, &options);
	if (expect_ok(tdr_join(agent)) == TDR_OK)
		return agent;
	tdr_agent_unref(agent);
	return NULL;
}

static void join_in_vain(const char *name, int64_t rank, tdr_store *store, tdr_status status, const char *part)
{
	tdr_agent_options options;
	tdr_agent *agent;

	dynamic_options(&options, rank, store);
	agent = make(name, &options);
	expect_status(tdr_join(agent), status);
	expect_error(part);
	tdr_agent_unref(agent);
}

static void leave(tdr_agent *agent)
{
	expect_ok(tdr_shutdown(agent, NULL));
}

/* Leaves without a word to anybody, as far as an agent can. */
static void die(tdr_agent *agent)
{
	tdr_agent_unref(agent);
}

static tdr_store *new_store(void)
{
	tdr_store *store;

	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	return store;
}

/* Each calls each. */
static void all_call_all(tdr_agent *const agents[], size_t count)
{
	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < count; j++) {
			tdr_worker worker;

			expect_ok(tdr_worker_at(agents[i], j, &worker));
			expect_true(call_int(agents[i], worker.name, "test::echo", TDR_ARGS((int64_t)(i * 10 + j))) ==
			            (int64_t)(i * 10 + j));
		}
	}
}

/* All see the same members: as many, at the same epoch. */
static void expect_same_view(tdr_agent *const agents[], size_t count)
{
	for (size_t i = 0; i < count; i++) {
		expect_true(tdr_worker_count(agents[i]) == count);
		expect_true(tdr_agent_epoch(agents[i]) == tdr_agent_epoch(agents[0]));
	}
}

struct wanted {
	tdr_agent *agent;
	size_t count;
};

static bool has_so_many(void *context)
{
	const struct wanted *wanted = context;

	return tdr_worker_count(wanted->agent) == wanted->count;
}

static void await_count(tdr_agent *agent, size_t count)
{
	eventually(has_so_many, &(struct wanted){.agent = agent, .count = count});
}

/* ---- joining and leaving ---- */

static void members_come_and_go(void **state)
{
	tdr_store *store = new_store();
	tdr_agent *agents[6];

	for (size_t i = 0; i < 6; i++) {
		agents[i] = join(worker_name(i), (int64_t)i, store);
		assert_non_null(agents[i]);
		expect_true(tdr_agent_is_dynamic(agents[i]));
		expect_same_view(agents, i + 1);
		all_call_all(agents, i + 1);
	}
	for (size_t i = 0; i < 6; i++) { /* rank 0 is the first to go */
		tdr_worker worker;

		leave(agents[i]);
		expect_same_view(agents + i + 1, 5 - i);
		all_call_all(agents + i + 1, 5 - i);
		if (i == 5)
			break;
		expect_status(tdr_worker_by_name(agents[5], worker_name(i), &worker), TDR_ENOWORKER);
		expect_status(tdr_worker_by_id(agents[5], (uint32_t)i, &worker), TDR_ENOWORKER);
		expect_future(tdr_rpc_async(agents[5], worker_name(i), "test::echo", TDR_ARGS(1), NULL), TDR_ENOWORKER,
		              "could not find destination name");
	}
	tdr_store_unref(store);
}

struct traffic {
	tdr_agent *agent;
	_Atomic bool over;
	_Atomic unsigned calls;
	tdr_store *store;
};

/* Index 0 calls a member that stays; the others come and go. */
static void call_or_change(void *context, size_t index)
{
	struct traffic *traffic = context;

	if (index == 0) {
		while (!atomic_load(&traffic->over) && expectations_failed() == 0) {
			expect_true(call_int(traffic->agent, "b", "test::echo", TDR_ARGS(7)) == 7);
			atomic_fetch_add(&traffic->calls, 1);
		}
		return;
	}
	for (int round = 0; round < 8; round++) {
		tdr_agent *agent = join(worker_name(index), -1, traffic->store);

		if (!agent)
			break;
		expect_true(call_int(agent, "a", "test::echo", TDR_ARGS(3)) == 3);
		expect_true(call_int(traffic->agent, worker_name(index), "test::echo", TDR_ARGS(4)) == 4);
		leave(agent);
	}
	if (index == 1)
		atomic_store(&traffic->over, true);
}

static void calls_go_on_while_members_come_and_go(void **state)
{
	struct traffic traffic = {.store = new_store()};
	tdr_agent *other;

	traffic.agent = join("a", 0, traffic.store);
	other = join("b", 1, traffic.store);
	in_parallel(4, call_or_change, &traffic);
	expect_true(atomic_load(&traffic.calls) > 0);
	expect_true(tdr_worker_count(traffic.agent) == 2 && tdr_worker_count(other) == 2);
	expect_true(tdr_agent_epoch(traffic.agent) == tdr_agent_epoch(other));
	leave(other);
	leave(traffic.agent);
	tdr_store_unref(traffic.store);
}

static void who_gives_no_rank_gets_the_lowest_free_id(void **state)
{
	tdr_store *store = new_store();
	tdr_agent *a = join("a", -1, store), *b = join("b", 2, store), *c = join("c", -1, store), *d;

	expect_true(tdr_agent_worker(a).id == 0 && tdr_agent_worker(b).id == 2 && tdr_agent_worker(c).id == 1);
	leave(a);
	d = join("d", -1, store);
	expect_true(tdr_agent_worker(d).id == 0);
	all_call_all((tdr_agent *[]){b, c, d}, 3);
	leave(b);
	leave(c);
	leave(d);
	tdr_store_unref(store);
}

static void join_together(void *context, size_t index)
{
	struct group *group = context;

	group->agents[index] = join(worker_name(index), -1, group->store);
}

static void all_join_and_leave_at_once(void **state)
{
	struct group group = {.count = 8, .store = new_store()};

	group.agents = calloc(group.count, sizeof(*group.agents));
	assert_non_null(group.agents);
	in_parallel(group.count, join_together, &group);
	expect_same_view(group.agents, group.count);
	all_call_all(group.agents, group.count);
	group_end(&group);
}

static void the_same_name_and_id_come_back(void **state)
{
	tdr_store *store = new_store();
	tdr_agent *stays = join("stays", 0, store);
	uint64_t incarnation = 0;

	for (int round = 0; round < 4; round++) {
		tdr_agent *again = join("again", 1, store);
		tdr_worker worker;

		expect_ok(tdr_worker_by_name(stays, "again", &worker));
		expect_true(worker.incarnation != incarnation);
		incarnation = worker.incarnation;
		expect_true(call_int(stays, "again", "test::echo", TDR_ARGS(1)) == 1);
		expect_true(call_int(again, "stays", "test::echo", TDR_ARGS(2)) == 2);
		if (round % 2 == 0) {
			leave(again);
		} else {
			die(again);
		}
	}
	leave(stays);
	tdr_store_unref(store);
}

static void names_and_ids_are_unique(void **state)
{
	tdr_store *store = new_store();
	tdr_agent *a = join("a", 0, store), *b = join("b", 1, store);

	join_in_vain("a", 2, store, TDR_EEXISTS,
	             "RPC worker name a is not unique. Workers 0 and 2 share the same name.");
	join_in_vain("c", 1, store, TDR_EEXISTS,
	             "RPC worker id 1 is not unique. Worker b and already has ID and c cannot be added.");
	join_in_vain("b", -1, store, TDR_EEXISTS, "RPC worker name b is not unique. Workers 1 and 2");
	all_call_all((tdr_agent *[]){a, b}, 2);
	leave(a);
	leave(b);
	tdr_store_unref(store);
}

static void kinds_do_not_mix(void **state)
{
	tdr_store *store = new_store();
	tdr_agent *dynamic = join("dynamic", 0, store), *agent = NULL;
	tdr_agent_options options;

	member_options(&options, 1, 2, store);
	expect_status(tdr_init_rpc("static", &options, &agent), TDR_EMISMATCH);
	expect_error("RPC group mixes statically and dynamically initialized members which is not supported.");
	expect_error("worker 'dynamic' came first without a world_size, 'static' comes with one");
	leave(dynamic);
	tdr_store_unref(store);

	store = new_store();
	member_options(&options, 0, 1, store);
	expect_ok(tdr_init_rpc("static", &options, &agent));
	join_in_vain("dynamic", 1, store, TDR_EMISMATCH, "is trying to be set as false");
	expect_true(!tdr_agent_is_dynamic(agent) && tdr_agent_epoch(agent) == 1);
	leave(agent);
	tdr_store_unref(store);
}

static void a_group_that_has_ended_may_begin_again(void **state)
{
	tdr_store *store = new_store();
	uint64_t epoch = 0;

	for (int round = 0; round < 3; round++) {
		tdr_agent *a = join("a", 0, store), *b = join("b", 1, store);

		expect_true(tdr_agent_epoch(a) > epoch);
		epoch = tdr_agent_epoch(a);
		all_call_all((tdr_agent *[]){a, b}, 2);
		leave(a);
		leave(b);
	}
	tdr_store_unref(store);
}

/* ---- the token ---- */

/* The bytes of a token whose holder will never give it back: MessagePack. */
static void leave_token(tdr_store *store, const char *address)
{
	char bytes[128];
	int size = snprintf(bytes, sizeof(bytes),
	                    "\x96\xa4join\xa4"
	                    "dead%c%c%c%s%c",
	                    9, 77, (char)(0xa0 | strlen(address)), address, 5);

	expect_ok(tdr_store_set(store, "tendril/default/token", bytes, (size_t)size));
}

static void a_token_is_taken_from_a_dead_holder(void **state)
{
	tdr_store *store = new_store();
	tdr_agent *agent;

	leave_token(store, "tcp://127.0.0.1:1"); /* nobody listens there */
	agent = join("a", 0, store);
	assert_non_null(agent);
	leave_token(store, "tcp://127.0.0.1:1");
	leave(agent);
	tdr_store_unref(store);
}

/* An address where connections are made, and nobody ever says a word; the descriptor is the caller's to close. */
static int listen_mute(char address[64])
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(any);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof(any)) == 0 && listen(fd, 64) == 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &size), 0);
	snprintf(address, 64, "tcp://127.0.0.1:%u", ntohs(any.sin_port));
	return fd;
}

static void a_token_that_stands_still_is_taken(void **state)
{
	tdr_store *store = new_store();
	tdr_agent_options options;
	char address[64];
	tdr_agent *agent;
	int fd = listen_mute(address);

	leave_token(store, address);
	dynamic_options(&options, 0, store);
	options.heartbeat_bound_ms = SHORT_BOUND_MS;
	agent = make("a", &options);
	expect_ok(tdr_join(agent));
	leave(agent);
	tdr_store_unref(store);
	close(fd);
}

static void who_waits_for_a_token_is_told_for_whom(void **state)
{
	tdr_store *store = new_store();
	tdr_agent_options options;
	char address[64], part[128];
	tdr_agent *agent;
	int fd = listen_mute(address);

	leave_token(store, address);
	dynamic_options(&options, 0, store);
	options.join_timeout_ms = 200;
	agent = make("a", &options);
	expect_status(tdr_join(agent), TDR_ETIMEDOUT);
	snprintf(part, sizeof(part), "worker 'dead' at %s has held the group's token", address);
	expect_error(part);
	tdr_agent_unref(agent);
	tdr_store_unref(store);
	close(fd);
}

/* ---- members who die ---- */

struct notes {
	_Atomic unsigned joined, left, gone;
	char last[64];
};

static void take_note(tdr_agent *agent, tdr_worker worker, tdr_member_event event, const char *reason, void *context)
{
	struct notes *notes = context;

	expect_true(reason && reason[0] != '\0');
	snprintf(notes->last, sizeof(notes->last), "%s", worker.name);
	atomic_fetch_add(event == TDR_MEMBER_JOINED ? &notes->joined
	                 : event == TDR_MEMBER_LEFT ? &notes->left
	                                            : &notes->gone,
	                 1);
}

static bool one_is_gone(void *context)
{
	return atomic_load(&((struct notes *)context)->gone) == 1;
}

static void the_program_is_told_of_members(void **state)
{
	tdr_store *store = new_store();
	struct notes notes = {0};
	tdr_agent_options options;
	tdr_agent *agent, *b, *c;

	dynamic_options(&options, 0, store);
	agent = make("a", &options);
	expect_ok(tdr_agent_on_member(agent, take_note, &notes));
	expect_ok(tdr_join(agent));
	expect_status(tdr_agent_on_member(agent, take_note, &notes), TDR_ESTATE);
	b = join("b", 1, store);
	c = join("c", 2, store);
	leave(b);
	expect_true(call_int(agent, "c", "test::echo", TDR_ARGS(1)) == 1);
	die(c);
	eventually(one_is_gone, &notes);
	expect_true(atomic_load(&notes.joined) == 2 && atomic_load(&notes.left) == 1);
	expect_true(strcmp(notes.last, "c") == 0);
	leave(agent);
	tdr_store_unref(store);
}

static void the_dead_are_evicted_by_agreement(void **state)
{
	tdr_store *store = new_store();
	tdr_agent *agents[4];

	for (size_t i = 0; i < 4; i++)
		agents[i] = join(worker_name(i), (int64_t)i, store);
	all_call_all(agents, 4);
	die(agents[3]);
	for (size_t i = 0; i < 3; i++)
		await_count(agents[i], 3);
	expect_same_view(agents, 3);
	expect_future(tdr_rpc_async(agents[0], "worker3", "test::echo", TDR_ARGS(1), NULL), TDR_ENOWORKER, NULL);
	all_call_all(agents, 3);
	for (size_t i = 0; i < 3; i++)
		leave(agents[i]);
	tdr_store_unref(store);
}

/* Nobody has a connection to the dead one, and nobody knows until somebody comes. */
static void who_joins_evicts_the_dead(void **state)
{
	tdr_store *store = new_store();
	tdr_agent *a = join("a", 0, store), *b;

	die(a);
	b = join("b", 1, store);
	assert_non_null(b);
	await_count(b, 1);
	leave(b);
	tdr_store_unref(store);
}

static struct gate gate = GATE_INIT;

static tdr_status stop_at_gate(tdr_call *call, void *context)
{
	gate_pass(&gate);
	return TDR_OK;
}

static void calls_under_way_to_the_dead_fail(void **state)
{
	tdr_store *store = new_store();
	tdr_agent *a = join("a", 0, store), *b = join("b", 1, store);
	tdr_future *future;

	gate_close(&gate);
	expect_ok(tdr_register(b, "test::stop() -> Any", stop_at_gate, NULL, 0));
	future = tdr_rpc_async(a, "b", "test::stop", NULL, NULL);
	gate_await(&gate, 1);
	die(b);
	expect_future(future, TDR_EWORKERGONE, "b");
	gate_open(&gate);
	await_count(a, 1);
	leave(a);
	tdr_store_unref(store);
}

/* ---- fencing ---- */

static bool is_fenced(void *context)
{
	tdr_status status = tdr_rpc_sync(context, "a", "test::echo", TDR_ARGS(1), NULL, NULL);

	return status == TDR_EFENCED;
}

/*
 * Takes a member out of the group's table behind its back: the roster that another agent joins afterwards has it no more. The same
 * as if the others had not been able to reach it.
 */
static void evict_by_hand(tdr_store *store, tdr_agent *victim)
{
	static const char key[] = "tendril/default/view";
	tdr_worker worker = tdr_agent_worker(victim);
	char name[64];
	tdr_blob table;
	char *at;

	/* Rename it, and change its incarnation, in place: the bytes stay well-formed, and the victim is not among them. */
	expect_ok(tdr_store_get(store, key, PATIENCE_MS, &table));
	snprintf(name, sizeof(name), "%c%s", (char)(0xa0 | strlen(worker.name)), worker.name);
	at = memmem(table.data, table.size, name, strlen(name));
	assert_non_null(at);
	at += strlen(name) + 1; /* behind the id, which is small */
	expect_true((unsigned char)*at == 0xcf);
	at[8] ^= 1;
	expect_ok(tdr_store_set(store, key, table.data, table.size));
	tdr_blob_free(&table);
}

static void who_was_evicted_is_fenced(void **state)
{
	tdr_store *store = new_store();
	tdr_agent *a = join("a", 0, store), *b = join("b", 1, store), *c;

	evict_by_hand(store, a);
	/* The next change makes everybody look; "a" finds that it is no member any more. */
	c = join("c", 2, store);
	assert_non_null(c);
	eventually(is_fenced, a);
	expect_future(tdr_rpc_async(a, "b", "test::echo", TDR_ARGS(1), NULL), TDR_EFENCED,
	              "worker 'a' was evicted from the group");
	expect_status(tdr_barrier(a, 0, NULL, PATIENCE_MS), TDR_EFENCED);
	leave(a);
	await_count(b, 2); /* what stood in its place could not be reached by anybody */
	a = join("a", 0, store);
	assert_non_null(a);
	all_call_all((tdr_agent *[]){a, b, c}, 3);
	leave(a);
	leave(b);
	leave(c);
	tdr_store_unref(store);
}

/* ---- the store ---- */

static void the_group_goes_on_without_its_store(void **state)
{
	char url[64];
	tdr_agent_options options;
	tdr_agent *host, *b, *c, *agent = NULL;
	struct port port = port_reserve();

	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", port.number);
	dynamic_options(&options, 0, NULL);
	options.init_method = url;
	host = make("host", &options);
	expect_ok(tdr_join(host));
	options.rank = -1;
	b = make("b", &options);
	expect_ok(tdr_join(b));
	c = make("c", &options);
	expect_ok(tdr_join(c));
	leave(host);
	expect_true(tdr_worker_count(b) == 2 && tdr_worker_count(c) == 2);
	all_call_all((tdr_agent *[]){b, c}, 2);
	options.join_timeout_ms = 500;
	expect_true(tdr_init_rpc("d", &options, &agent) != TDR_OK);
	expect_error("the store's server at 127.0.0.1");
	die(c); /* nobody can evict it */
	expect_future(tdr_rpc_async(b, "c", "test::echo", TDR_ARGS(1), NULL), TDR_EWORKERGONE, "c");
	expect_true(tdr_worker_count(b) == 2);
	expect_true(call_int(b, "b", "test::echo", TDR_ARGS(5)) == 5);
	leave(b);
	port_release(&port);
}

/* Rank 0 may come when a store is there already. */
static void rank_0_uses_a_store_that_is_there(void **state)
{
	char url[64];
	tdr_agent_options options;
	tdr_store_server *server;
	tdr_agent *agents[3];

	expect_ok(tdr_store_server_open(NULL, &server));
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", tdr_store_server_port(server));
	dynamic_options(&options, 0, NULL);
	options.init_method = url;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3; i++) {
			options.rank = i;
			agents[i] = make(worker_name((size_t)i), &options);
			expect_ok(tdr_join(agents[i]));
		}
		expect_same_view(agents, 3);
		all_call_all(agents, 3);
		for (int i = 0; i < 3; i++)
			leave(agents[i]);
	}
	tdr_store_server_close(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(members_come_and_go),
	    TEST(calls_go_on_while_members_come_and_go),
	    TEST(who_gives_no_rank_gets_the_lowest_free_id),
	    TEST(all_join_and_leave_at_once),
	    TEST(the_same_name_and_id_come_back),
	    TEST(names_and_ids_are_unique),
	    TEST(kinds_do_not_mix),
	    TEST(a_group_that_has_ended_may_begin_again),
	    TEST(a_token_is_taken_from_a_dead_holder),
	    TEST(a_token_that_stands_still_is_taken),
	    TEST(who_waits_for_a_token_is_told_for_whom),
	    TEST(the_program_is_told_of_members),
	    TEST(the_dead_are_evicted_by_agreement),
	    TEST(who_joins_evicts_the_dead),
	    TEST(calls_under_way_to_the_dead_fail),
	    TEST(who_was_evicted_is_fenced),
	    TEST(the_group_goes_on_without_its_store),
	    TEST(rank_0_uses_a_store_that_is_there),
	};

	return cmocka_run_group_tests_name("dynamic", tests, NULL, NULL);
}
