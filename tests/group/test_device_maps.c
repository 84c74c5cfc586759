/* SPDX-License-Identifier: Apache-2.0 */
/* Device maps of whole groups: what members tell each other in joining, and groups whose maps do not fit. */
#include "group.h"

#include <string.h>

#define CPU TDR_DEVICE_CPU
#define CUDA(number) ((tdr_device){TDR_CUDA, (number)})
#define PAIR(a, b) ((tdr_device_pair){(a), (b)})

static void set_map(tdr_agent *agent, const char *worker, tdr_device from, tdr_device to)
{
	const tdr_device_pair pair = PAIR(from, to);

	expect_ok(tdr_agent_set_device_map(agent, worker, 1, &pair));
}

/* Four accelerators each, but worker2 has none. */
static void configure(size_t rank, tdr_agent_options *options)
{
	options->device_count = rank == 2 ? 0 : 4;
}

static bool same_device(tdr_device a, tdr_device b)
{
	return a.type == b.type && (a.type == TDR_CPU || a.index == b.index);
}

static void expect_map(size_t count, const tdr_device_pair *pairs, size_t wanted, const tdr_device_pair *list)
{
	expect_true(count == wanted);
	for (size_t i = 0; i < count && i < wanted; i++)
		expect_true(same_device(pairs[i].from, list[i].from) && same_device(pairs[i].to, list[i].to));
}

static void expect_devices(tdr_agent *agent, size_t count, const int32_t *indices)
{
	tdr_device devices[8];

	expect_true(tdr_agent_devices(agent, 8, devices) == count);
	for (size_t i = 0; i < count; i++)
		expect_true(same_device(devices[i], CUDA(indices[i])));
}

/* ---- groups that fit ---- */

static void prepare(tdr_agent *agent, size_t rank)
{
	switch (rank) {
	case 0:
		set_map(agent, "worker1", CUDA(3), CUDA(0));
		set_map(agent, "worker1", CUDA(1), CUDA(2));
		set_map(agent, "worker2", CPU, CPU);
		set_map(agent, "worker0", CUDA(0), CUDA(2));
		break;
	case 1:
		set_map(agent, "worker0", CUDA(1), CUDA(1));
		expect_ok(tdr_agent_set_devices(agent, 3, (const tdr_device[]){CUDA(2), CUDA(1), CUDA(0)}));
		break;
	default:
		break;
	}
}

static void members_learn_each_others_maps(void **state)
{
	const struct group_config config = {.configure = configure, .prepare = prepare};
	tdr_device_pair pairs[4];
	struct group group;
	tdr_agent **agents;

	group_start(&group, 3, &config);
	agents = group.agents;
	expect_map(tdr_agent_device_map(agents[0], "worker1", 4, pairs), pairs, 2,
	           (const tdr_device_pair[]){PAIR(CUDA(3), CUDA(0)), PAIR(CUDA(1), CUDA(2))});
	expect_map(tdr_agent_reverse_device_map(agents[1], "worker0", 4, pairs), pairs, 2,
	           (const tdr_device_pair[]){PAIR(CUDA(0), CUDA(3)), PAIR(CUDA(2), CUDA(1))});
	expect_map(tdr_agent_reverse_device_map(agents[0], "worker1", 4, pairs), pairs, 1,
	           (const tdr_device_pair[]){PAIR(CUDA(1), CUDA(1))});
	expect_map(tdr_agent_reverse_device_map(agents[0], "worker0", 4, pairs), pairs, 1,
	           (const tdr_device_pair[]){PAIR(CUDA(2), CUDA(0))});
	expect_map(tdr_agent_reverse_device_map(agents[2], "worker0", 4, pairs), pairs, 1,
	           (const tdr_device_pair[]){PAIR(CPU, CPU)});
	expect_true(tdr_agent_device_map(agents[2], "worker0", 4, pairs) == 0);
	expect_true(tdr_agent_device_map(agents[0], "nobody", 4, pairs) == 0);
	expect_true(tdr_agent_device_map(agents[0], NULL, 4, pairs) == 0);
	pairs[1] = PAIR(CUDA(77), CUDA(77));
	expect_true(tdr_agent_device_map(agents[0], "worker1", 1, pairs) == 2 && pairs[1].from.index == 77);
	expect_true(tdr_agent_device_map(agents[0], "worker1", 0, NULL) == 2);
	expect_devices(agents[0], 4, (const int32_t[]){0, 1, 2, 3}); /* its maps' and worker1's */
	expect_devices(agents[1], 3, (const int32_t[]){2, 1, 0});    /* as it was told */
	expect_devices(agents[2], 0, NULL);
	call_ok(agents[0], "worker1", "test::echo", TDR_ARGS(1));
	group_end(&group);
}

static void prepare_cpu(tdr_agent *agent, size_t rank)
{
	set_map(agent, worker_name(1 - rank), CPU, CPU);
}

static void a_map_of_the_cpu_needs_no_accelerator(void **state)
{
	const struct group_config config = {.prepare = prepare_cpu};
	tdr_tensor *zeros = NULL;
	struct group group;

	group_start(&group, 2, &config);
	expect_ok(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(4), &zeros));
	for (size_t i = 0; i < 2; i++)
		call_ok(group.agents[i], worker_name(1 - i), "test::echo", TDR_ARGS(tdr_tensor_value(zeros)));
	tdr_tensor_unref(zeros);
	group_end(&group);
}

/* ---- groups that do not fit ---- */

static void expect_no_group(void (*prepare_one)(tdr_agent *, size_t), const char *part)
{
	const struct group_config config = {.configure = configure, .prepare = prepare_one};
	struct outcome outcomes[3];
	struct group group;

	group_make(&group, 3, &config);
	group_join(&group, outcomes);
	for (size_t i = 0; i < 3; i++) {
		expect_status(outcomes[i].status, TDR_EINVAL);
		expect_text(outcomes[i].text, part);
		expect_true(tdr_worker_count(group.agents[i]) == 0);
	}
	group_drop(&group);
}

static void prepare_unknown(tdr_agent *agent, size_t rank)
{
	if (rank == 1)
		set_map(agent, "worker7", CPU, CPU);
}

static void prepare_duplicates(tdr_agent *agent, size_t rank)
{
	if (rank != 2)
		return;
	set_map(agent, "worker0", CUDA(1), CUDA(0));
	set_map(agent, "worker0", CUDA(0), CUDA(0));
}

static void prepare_past_the_target(tdr_agent *agent, size_t rank)
{
	if (rank == 0)
		set_map(agent, "worker2", CUDA(0), CUDA(0));
}

static void prepare_past_itself(tdr_agent *agent, size_t rank)
{
	if (rank == 2)
		expect_ok(tdr_agent_set_devices(agent, 1, &CUDA(0)));
}

static void all_members_fail_alike(void **state)
{
	expect_no_group(prepare_unknown, "Node worker1 has invalid target node names in its device maps");
	expect_no_group(prepare_duplicates, "Node worker2 has duplicated target devices in its device map for worker0");
	expect_no_group(prepare_past_the_target,
	                "Node worker0 has target devices with invalid indices in its device map for worker2");
	expect_no_group(prepare_past_itself, "Node worker2 has devices with invalid indices");
}

/* ---- groups that change ---- */

static tdr_agent *make_member(const char *name, int64_t device_count, tdr_store *store)
{
	tdr_agent_options options;
	tdr_agent *agent;

	member_options(&options, 0, 1, store);
	options.rank = -1;
	options.world_size = 0;
	options.device_count = device_count;
	agent = tdr_agent_new(name, &options);
	if (!agent)
		fail_msg("%s", tdr_last_error());
	return agent;
}

/* Whether there are `count` pairs from b to a. */
struct way_back {
	tdr_agent *agent;
	size_t count;
};

static bool way_back_is(void *context)
{
	const struct way_back *wanted = context;

	return tdr_agent_reverse_device_map(wanted->agent, "b", 0, NULL) == wanted->count;
}

static void who_comes_later_has_to_fit(void **state)
{
	tdr_store *store = NULL;
	tdr_device_pair pair;
	tdr_agent *a, *b;

	expect_ok(tdr_store_hash(&store));
	a = make_member("a", 2, store);
	set_map(a, "b", CUDA(0), CUDA(1)); /* who is not there yet */
	expect_ok(tdr_join(a));

	b = make_member("b", 1, store);
	expect_status(tdr_join(b), TDR_EINVAL);
	expect_error("Node a has target devices with invalid indices in its device map for b");
	tdr_agent_unref(b);
	expect_true(tdr_worker_count(a) == 1);

	b = make_member("b", 2, store);
	set_map(b, "a", CPU, CPU);
	expect_ok(tdr_join(b));
	expect_map(tdr_agent_reverse_device_map(b, "a", 1, &pair), &pair, 1,
	           (const tdr_device_pair[]){PAIR(CUDA(1), CUDA(0))});
	expect_devices(b, 1, (const int32_t[]){1});
	eventually(way_back_is, &(struct way_back){a, 1});
	expect_ok(tdr_shutdown(b, NULL));

	b = make_member("b", 2, store); /* with another map */
	set_map(b, "a", CUDA(0), CUDA(0));
	set_map(b, "a", CUDA(1), CUDA(1));
	expect_ok(tdr_join(b));
	eventually(way_back_is, &(struct way_back){a, 2});
	expect_devices(a, 2, (const int32_t[]){0, 1});
	expect_ok(tdr_shutdown(b, NULL));
	expect_ok(tdr_shutdown(a, NULL));
	tdr_store_unref(store);
}

/* ---- setting ---- */

static void what_cannot_be_set_is_refused(void **state)
{
	const tdr_device_pair pair = PAIR(CUDA(0), CUDA(1)), negative = PAIR(CUDA(-1), CUDA(1));
	tdr_agent *agent = tdr_agent_new("worker0", NULL);
	struct group group;

	expect_true(agent != NULL);
	expect_status(tdr_agent_set_device_map(agent, NULL, 1, &pair), TDR_EINVAL);
	expect_status(tdr_agent_set_device_map(agent, "worker1", 1, NULL), TDR_EINVAL);
	expect_status(tdr_agent_set_device_map(agent, "worker1", 1, &negative), TDR_EINVAL);
	expect_error("Device index must not be negative");
	expect_status(tdr_agent_set_devices(agent, 1, NULL), TDR_EINVAL);
	expect_status(tdr_agent_set_devices(agent, 1, &CPU), TDR_EINVAL);
	expect_error("`set_devices` expect a list of CUDA devices");
	expect_ok(tdr_agent_set_devices(agent, 1, &CUDA(1)));
	expect_true(tdr_agent_devices(agent, 0, NULL) == 1);
	expect_ok(tdr_agent_set_devices(agent, 0, NULL));
	expect_true(tdr_agent_devices(agent, 0, NULL) == 0);
	tdr_agent_unref(agent);

	group_start(&group, 1, NULL);
	expect_status(tdr_agent_set_device_map(group.agents[0], "worker0", 1, &pair), TDR_ESTATE);
	expect_error("agent 'worker0' has joined already");
	expect_status(tdr_agent_set_devices(group.agents[0], 0, NULL), TDR_ESTATE);
	group_end(&group);
}

static void a_tensor_elsewhere_is_refused(void **state)
{
	static char memory[64];
	const int64_t sizes[] = {16};
	tdr_storage *storage = NULL;
	tdr_tensor *tensor = NULL;
	struct group group;

	group_start(&group, 2, NULL);
	expect_ok(tdr_storage_from_memory(memory, sizeof(memory), CUDA(0), NULL, NULL, &storage));
	expect_ok(tdr_tensor_view(storage, TDR_F32, 1, sizes, NULL, 0, &tensor));
	expect_status(
	    tdr_rpc_sync(group.agents[0], "worker1", "test::echo", TDR_ARGS(tdr_tensor_value(tensor)), NULL, NULL),
	    TDR_EUNSUPPORTED);
	tdr_tensor_unref(tensor);
	tdr_storage_unref(storage);
	call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(1));
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(members_learn_each_others_maps), TEST(a_map_of_the_cpu_needs_no_accelerator),
	    TEST(all_members_fail_alike),         TEST(who_comes_later_has_to_fit),
	    TEST(what_cannot_be_set_is_refused),  TEST(a_tensor_elsewhere_is_refused),
	};

	return cmocka_run_group_tests_name("device_maps", tests, NULL, NULL);
}
