/* SPDX-License-Identifier: Apache-2.0 */
/* Made-up networks: that each fault does what it says, and that all follows from the seed. */
#include "ends.h"

#include "base/macros.h"
#include "support/leaks.h"
#include "transport/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEED 20260117

/* A network with a place that listens, and an address for those who connect to it. */
struct scene {
	struct sim_network *network;
	struct place *place;
	struct listener *home; /* of incarnation 77, as ends have it that connect */
	char home_address[ADDRESS_SIZE];
};

static bool take_nobody(void *context, struct lane *lane)
{
	return false;
}

static void scene_begin(struct scene *scene, uint64_t seed)
{
	struct lane_config config;

	assert_int_equal(sim_network_open("scene", seed, &scene->network), TDR_OK);
	scene->place = place_new(&transport_sim, "scene", 4);
	config = scene->place->config;
	config.incarnation = 77;
	assert_int_equal(transport_sim.listen(&config, "scene", 4711, take_nobody, NULL, &scene->home), TDR_OK);
	strcpy(scene->home_address, "sim://scene:4711");
}

static void scene_end(struct scene *scene)
{
	struct sim_network *again;

	scene->home->ops->close(scene->home);
	place_free(scene->place);
	sim_network_close(scene->network);
	/* Nobody uses it any more: the name is free. */
	assert_int_equal(sim_network_open("scene", 1, &again), TDR_OK);
	sim_network_close(again);
}

static struct end *scene_open(struct scene *scene, struct end *client)
{
	end_open(client, scene->place, NULL);
	AWAIT(client, client->opened);
	return place_end(scene->place, scene->place->accepted - 1);
}

static void scene_close(struct end *client)
{
	lane_close(client->lane, false);
	end_finish(client);
}

static void check_order(struct end *end, const struct message *message)
{
	if (message->call_id != end->messages)
		end_wrong(end, "message %llu came as number %llu", (unsigned long long)message->call_id,
		          (unsigned long long)end->messages);
}

/* ---- the seed ---- */

static bool same_fate(struct sim_fate a, struct sim_fate b)
{
	return a.delay_ms == b.delay_ms && a.hold_ms == b.hold_ms && a.cut == b.cut && a.reset == b.reset &&
	       a.refused == b.refused;
}

static void test_fates_follow_from_the_seed(void **state)
{
	const struct sim_faults faults = {
	    .late = 300000, .cut = 200000, .hold = 200000, .refuse = 200000, .max_delay_ms = 50, .max_hold_ms = 70};
	unsigned other_seed = 0, other_way = 0;

	for (uint64_t i = 0; i < 1000; i++) {
		struct sim_fate fate = sim_fate(&faults, SEED, 1, 2, i);

		assert_true(same_fate(fate, sim_fate(&faults, SEED, 1, 2, i)));
		other_seed += !same_fate(fate, sim_fate(&faults, SEED + 1, 1, 2, i));
		other_way += !same_fate(fate, sim_fate(&faults, SEED, 2, 1, i));
		assert_in_range(fate.delay_ms, 0, 50);
		assert_in_range(fate.hold_ms, 0, 70);
	}
	assert_true(other_seed > 500 && other_way > 500);
}

static void test_rates(void **state)
{
	const struct sim_faults half = {.cut = SIM_MILLION / 2}, always = {.cut = SIM_MILLION, .refuse = SIM_MILLION};
	unsigned cuts = 0;

	for (uint64_t i = 0; i < 1000; i++) {
		struct sim_fate usual = sim_fate(&sim_faults_default, SEED, 1, 2, i);

		assert_false(usual.cut || usual.refused || usual.reset || usual.hold_ms);
		assert_in_range(usual.delay_ms, 0, sim_faults_default.max_delay_ms);
		cuts += sim_fate(&half, SEED, 1, 2, i).cut;
		assert_true(sim_fate(&always, SEED, 1, 2, i).cut && sim_fate(&always, SEED, 1, 2, i).refused);
	}
	assert_in_range(cuts, 400, 600);
}

/* Sends to and fro, and tells what was decided both ways. */
static void play(uint64_t seed, uint64_t ret_hashes[2])
{
	const struct sim_faults faults = {.late = 100000, .hold = 10000, .max_delay_ms = 10, .max_hold_ms = 10};
	struct end client, *server;
	struct scene scene;
	uint64_t count;

	scene_begin(&scene, seed);
	sim_network_set(scene.network, &faults);
	scene.place->handle = check_order;
	server = scene_open(&scene, &client);
	for (uint64_t i = 0; i < 300; i++)
		end_send(&client, i, "x", 1);
	for (uint64_t i = 0; i < 100; i++)
		end_send(server, i, "x", 1);
	AWAIT(server, server->messages == 300);
	AWAIT(&client, client.messages == 100);
	assert_int_equal(
	    sim_network_history(scene.network, scene.home_address, scene.place->address, &count, &ret_hashes[0]),
	    TDR_OK);
	assert_int_equal(count, 301); /* and the connecting */
	assert_int_equal(
	    sim_network_history(scene.network, scene.place->address, scene.home_address, &count, &ret_hashes[1]),
	    TDR_OK);
	assert_int_equal(count, 101);
	scene_close(&client);
	scene_end(&scene);
}

static void test_same_seed_same_history(void **state)
{
	uint64_t first[2], second[2], other[2];

	play(SEED, first);
	play(SEED, second);
	play(SEED + 1, other);
	assert_memory_equal(first, second, sizeof(first));
	assert_int_not_equal(first[0], other[0]);
	assert_int_not_equal(first[1], other[1]);
}

/* ---- silence ---- */

static void test_cut_one_way(void **state)
{
	struct end client, *server;
	struct scene scene;

	scene_begin(&scene, SEED);
	scene.place->handle = check_order;
	server = scene_open(&scene, &client);
	assert_int_equal(sim_network_cut(scene.network, scene.home_address, scene.place->address, SIM_FORTH), TDR_OK);
	for (uint64_t i = 0; i < 20; i++)
		end_send(&client, i, "held", 4);
	/* The other way is clear; and what came by it does not say that anything has arrived. */
	end_send(server, 1, "clear", 5);
	AWAIT(&client, client.messages == 1);
	usleep(30000); /* to give what must not come the time to do so */
	assert_int_equal(server->messages, 0);
	assert_int_equal(client.lane->arrived, 0);
	assert_true(client.lane->ops->stats(client.lane).bytes_queued > 0);
	sim_network_heal(scene.network);
	AWAIT(server, server->messages == 20);
	end_send(server, 2, "clear", 5);
	AWAIT(&client, client.messages == 2);
	assert_int_equal(client.lane->arrived, 20);
	scene_close(&client);
	scene_end(&scene);
}

/* The end of a lane is held as its messages are. */
static void test_closed_behind_a_cut(void **state)
{
	struct end client, *server;
	struct scene scene;

	scene_begin(&scene, SEED);
	server = scene_open(&scene, &client);
	assert_int_equal(sim_network_cut(scene.network, scene.home_address, scene.place->address, SIM_BOTH), TDR_OK);
	scene_close(&client);
	assert_int_equal(client.status, TDR_OK);
	usleep(30000);
	assert_int_equal(server->closed, 0);
	sim_network_heal(scene.network);
	AWAIT(server, server->closed);
	assert_int_equal(server->status, TDR_EIO);
	scene_end(&scene);
}

static void test_connecting_through_a_cut(void **state)
{
	struct end patient, impatient;
	struct scene scene;

	scene_begin(&scene, SEED);
	assert_int_equal(sim_network_cut(scene.network, scene.place->address, scene.home_address, SIM_BACK), TDR_OK);
	end_open_to(&impatient, scene.place, scene.place->address, 20, NULL);
	end_open(&patient, scene.place, NULL);
	end_finish(&impatient);
	assert_int_equal(impatient.status, TDR_EUNREACHABLE);
	assert_false(impatient.refused);
	assert_non_null(strstr(impatient.text, "no answer within 20 ms"));
	assert_int_equal(patient.opened, 0);
	sim_network_heal(scene.network);
	AWAIT(&patient, patient.opened);
	scene_close(&patient);
	scene_end(&scene);
}

static void test_partition(void **state)
{
	const char *island[1];
	struct end client, *server;
	struct scene scene;

	scene_begin(&scene, SEED);
	server = scene_open(&scene, &client);
	island[0] = scene.place->address;
	assert_int_equal(sim_network_partition(scene.network, 1, island), TDR_OK);
	end_send(&client, 0, "held", 4);
	end_send(server, 0, "held", 4);
	usleep(30000);
	assert_int_equal(server->messages + client.messages, 0);
	/* Both on one island reach each other. */
	assert_int_equal(
	    sim_network_partition(scene.network, 2, (const char *[]){scene.place->address, scene.home_address}),
	    TDR_OK);
	AWAIT(server, server->messages == 1);
	AWAIT(&client, client.messages == 1);
	assert_int_equal(sim_network_partition(scene.network, 0, NULL), TDR_OK);
	scene_close(&client);
	scene_end(&scene);
}

static void test_held_for_a_while(void **state)
{
	const struct sim_faults faults = {.hold = SIM_MILLION / 3, .max_hold_ms = 5};
	struct end client, *server;
	struct scene scene;

	scene_begin(&scene, SEED);
	scene.place->handle = check_order;
	server = scene_open(&scene, &client);
	sim_network_set(scene.network, &faults);
	for (uint64_t i = 0; i < 50; i++) {
		end_send(&client, i, "held", 4);
		usleep(500);
	}
	AWAIT(server, server->messages == 50);
	scene_close(&client);
	scene_end(&scene);
}

/* ---- ends ---- */

static void test_break(void **state)
{
	struct end client, next, *server;
	struct scene scene;

	scene_begin(&scene, SEED);
	server = scene_open(&scene, &client);
	assert_int_equal(sim_network_break(scene.network, scene.place->address, scene.home_address), TDR_OK);
	end_finish(&client);
	AWAIT(server, server->closed);
	assert_int_equal(client.status, TDR_EIO);
	assert_int_equal(server->status, TDR_EIO);
	assert_non_null(strstr(client.text, "broke"));
	assert_int_equal(lane_send(server->lane, &(struct message){.type = MESSAGE_HEARTBEAT}), TDR_EIO);
	scene_open(&scene, &next);
	scene_close(&next);
	scene_end(&scene);
}

static void test_cut_by_chance(void **state)
{
	const struct sim_faults faults = {.cut = SIM_MILLION};
	struct end client, *server;
	struct scene scene;

	scene_begin(&scene, SEED);
	server = scene_open(&scene, &client);
	sim_network_set(scene.network, &faults);
	end_send(&client, 0, "lost", 4);
	end_finish(&client);
	AWAIT(server, server->closed);
	assert_int_equal(client.status, TDR_EIO);
	assert_int_equal(server->status, TDR_EIO);
	assert_int_equal(server->messages, 0);
	scene_end(&scene);
}

static void test_refused_by_chance(void **state)
{
	const struct sim_faults faults = {.refuse = SIM_MILLION};
	struct end client;
	struct scene scene;

	scene_begin(&scene, SEED);
	sim_network_set(scene.network, &faults);
	end_open(&client, scene.place, NULL);
	end_finish(&client);
	assert_int_equal(client.status, TDR_EUNREACHABLE);
	assert_true(client.refused);
	assert_int_equal(scene.place->accepted, 0);
	scene_end(&scene);
}

/* What was sent before a lane is closed at once arrives, as long as the network does not reset it. */
static void test_closed_at_once(void **state)
{
	const struct sim_faults faults[] = {{.reset = 0}, {.reset = SIM_MILLION}};
	struct scene scene;

	scene_begin(&scene, SEED);
	for (size_t i = 0; i < COUNT_OF(faults); i++) {
		struct end client, *server = scene_open(&scene, &client);

		assert_int_equal(sim_network_cut(scene.network, scene.home_address, scene.place->address, SIM_FORTH),
		                 TDR_OK);
		sim_network_set(scene.network, &faults[i]);
		end_send(&client, 0, "last", 4);
		scene_close(&client);
		sim_network_heal(scene.network);
		AWAIT(server, server->closed);
		assert_int_equal(server->messages, faults[i].reset ? 0 : 1);
		assert_int_equal(server->status, TDR_EIO);
	}
	scene_end(&scene);
}

static void test_kill(void **state)
{
	struct end client, late, *server;
	struct scene scene;

	scene_begin(&scene, SEED);
	server = scene_open(&scene, &client);
	assert_int_equal(sim_network_kill(scene.network, scene.place->address), TDR_OK);
	end_finish(&client);
	AWAIT(server, server->closed);
	assert_int_equal(client.status, TDR_EIO);
	assert_int_equal(server->status, TDR_EIO);
	end_open(&late, scene.place, NULL);
	end_finish(&late);
	assert_int_equal(late.status, TDR_EUNREACHABLE);
	assert_true(late.refused);
	assert_int_equal(sim_network_kill(scene.network, "sim://scene:999"), TDR_EINVAL);
	scene_end(&scene);
}

/* ---- messages ---- */

static struct scene overtaking;

/* The small message, sent after the large one, comes before it, and holds it up for good measure. */
static void check_overtaken(struct end *end, const struct message *message)
{
	if (message->call_id == 1 && sim_network_cut(overtaking.network, overtaking.home_address,
	                                             overtaking.place->address, SIM_FORTH) != TDR_OK)
		end_wrong(end, "cut: %s", tdr_last_error());
	if (message->call_id != 1 - end->messages)
		end_wrong(end, "message %llu came as number %llu", (unsigned long long)message->call_id,
		          (unsigned long long)end->messages);
	if (message->nstorages) { /* the receiver's own copy */
		if (!has_pattern(message->storages[0], 200000, 3))
			end_wrong(end, "the storage differs");
		memset(tdr_storage_data(message->storages[0]), 0, 200000);
	}
}

static void test_large_is_overtaken(void **state)
{
	const struct sim_faults slow = {.bytes_per_ms = 500};
	tdr_storage *storage = patterned(200000, 3);
	struct end client, *server;

	scene_begin(&overtaking, SEED);
	sim_network_set(overtaking.network, &slow);
	overtaking.place->handle = check_overtaken;
	server = scene_open(&overtaking, &client);
	end_send_storages(&client, 0, 1, &storage);
	end_send(&client, 1, "small", 5);
	AWAIT(server, server->messages == 1);
	/* The large one has not arrived, so that nothing has up to it. */
	end_send(server, 0, NULL, 0);
	AWAIT(&client, client.messages == 1);
	assert_int_equal(client.lane->arrived, 0);
	sim_network_heal(overtaking.network);
	AWAIT(server, server->messages == 2);
	assert_true(has_pattern(storage, 200000, 3));
	tdr_storage_unref(storage);
	scene_close(&client);
	scene_end(&overtaking);
}

/* ---- names ---- */

static void test_names(void **state)
{
	static const char *const bad[] = {"", "a:b", "a/b", "with space"};
	char long_name[ADDRESS_SIZE];
	struct sim_network *network = NULL;
	struct listener *second = NULL;
	struct end client;
	struct scene scene;

	scene_begin(&scene, SEED);
	memset(long_name, 'n', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = '\0';
	assert_int_equal(sim_network_open(long_name, 1, &network), TDR_EINVAL);
	for (size_t i = 0; i < COUNT_OF(bad); i++)
		assert_int_equal(sim_network_open(bad[i], 1, &network), TDR_EINVAL);
	assert_int_equal(sim_network_open("scene", 1, &network), TDR_EEXISTS);
	assert_null(network);
	assert_int_equal(transport_sim.listen(&scene.place->config, "scene", 4711, take_nobody, NULL, &second),
	                 TDR_EIO);
	assert_int_equal(transport_sim.listen(&scene.place->config, NULL, 0, take_nobody, NULL, &second), TDR_EINVAL);
	assert_null(second);
	assert_int_equal(sim_network_cut(scene.network, "sim://other:1", scene.home_address, SIM_BOTH), TDR_EINVAL);
	assert_int_equal(sim_network_break(scene.network, scene.home_address, "tcp://scene:1"), TDR_EINVAL);
	/* The port of another network is another port. */
	end_open_to(&client, scene.place, "sim://other:4711", AWAIT_MS, NULL);
	end_finish(&client);
	assert_true(client.refused);
	scene_end(&scene);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, leaks_setup, leaks_teardown)

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
	    TEST(test_fates_follow_from_the_seed),
	    TEST(test_rates),
	    TEST(test_same_seed_same_history),
	    TEST(test_cut_one_way),
	    TEST(test_closed_behind_a_cut),
	    TEST(test_connecting_through_a_cut),
	    TEST(test_partition),
	    TEST(test_held_for_a_while),
	    TEST(test_break),
	    TEST(test_cut_by_chance),
	    TEST(test_refused_by_chance),
	    TEST(test_closed_at_once),
	    TEST(test_kill),
	    TEST(test_large_is_overtaken),
	    TEST(test_names),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
