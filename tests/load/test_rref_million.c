/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A million references made, used and dropped in one run: nothing of them is left, neither in the counters nor in memory.
 * TENDRIL_TEST_SECONDS ends it earlier, for sanitizers, whose own memory is not ours to count.
 */
#include "group/group.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	ALL = 1000000,
	WARM_UP = 100000,
	WINDOW = 256, /* under way at once */
	SLACK_BYTES = 16 << 20,
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool counts_memory = false;
#else
static const bool counts_memory = true;
#endif

static tdr_status take(tdr_call *call, void *context)
{
	tdr_rref *rref;
	tdr_status status = tdr_value_get_rref(tdr_arg(call, 0), &rref);

	expect_true(status == TDR_OK && tdr_rref_confirmed_by_owner(rref));
	return status == TDR_OK ? tdr_return_none(call) : status;
}

static void prepare(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::take(RRef rref)", take, NULL, TDR_FUNCTION_INLINE));
}

/* ---- counters and memory ---- */

static int64_t count_of(tdr_agent *agent, const char *key)
{
	tdr_value *info;
	int64_t number = -1;

	expect_ok(tdr_debug_info(agent, &info));
	expect_ok(tdr_value_get_int(tdr_dict_get(info, key), &number));
	tdr_value_unref(info);
	return number;
}

static bool counts_nothing(void *context)
{
	static const char *const keys[] = {
	    "rref.num_owner_rrefs",      "rref.num_forks",          "rref.num_users", "rref.num_pending_users",
	    "rref.num_pending_children", "rref.num_pending_futures"};
	const struct group *group = context;

	for (size_t i = 0; i < group->count; i++)
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			if (count_of(group->agents[i], keys[k]) != 0)
				return false;
	return true;
}

static int64_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	long long pages = 0;

	malloc_trim(0);
	if (!file || fscanf(file, "%*d %lld", &pages) != 1)
		expect_true(!"statm can be read");
	if (file)
		fclose(file);
	return pages * sysconf(_SC_PAGESIZE);
}

/* ---- the run ---- */

/* What one reference has under way; completed before its place is used again. */
struct place {
	tdr_future *future;
	int64_t number; /* that it completes with; -1: None */
};

static void clear(struct place *place)
{
	tdr_value *value;
	int64_t number = -1;

	if (!place->future)
		return;
	if (expect_ok(tdr_future_wait(place->future, PATIENCE_MS, &value)) == TDR_OK) {
		if (place->number >= 0)
			expect_ok(tdr_value_get_int(value, &number));
		expect_true(number == place->number);
		tdr_value_unref(value);
	}
	place->future = tdr_future_unref(place->future);
}

/* Made on the next worker, fetched, called, passed on to the one after it, or just dropped, by turns. */
static void use(const struct group *group, int64_t number, struct place *place)
{
	tdr_agent *agent = group->agents[number % 3];
	tdr_rref *rref;

	clear(place);
	rref = tdr_remote(agent, worker_name((size_t)(number + 1) % 3), "test::echo", TDR_ARGS(number), NULL);
	*place = (struct place){.number = -1};
	switch (number / 3 % 8) {
	case 0:
		*place = (struct place){.future = tdr_rref_fetch(rref, PATIENCE_MS), .number = number};
		break;
	case 1:
		place->future =
		    tdr_rpc_async(agent, worker_name((size_t)(number + 2) % 3), "test::take", TDR_ARGS(rref), NULL);
		break;
	case 2:
		place->future = tdr_rref_rpc_async(rref, "test::echo", NULL, NULL);
		place->number = number;
		break;
	default:
		place->future = tdr_rref_future(rref);
		break;
	}
	tdr_rref_unref(rref);
}

static void run(struct group *group, int64_t from, int64_t to, int64_t until_ms)
{
	static struct place places[WINDOW];
	int64_t number;

	for (number = from; number < to && (until_ms == 0 || now_ms() < until_ms); number++)
		use(group, number, &places[number % WINDOW]);
	for (size_t i = 0; i < WINDOW; i++)
		clear(&places[i]);
	eventually(counts_nothing, group);
	fprintf(stderr, "# %lld references\n", (long long)(number - from));
}

static void a_million_leave_nothing(void **state)
{
	const char *seconds = getenv("TENDRIL_TEST_SECONDS");
	int64_t until_ms = seconds ? now_ms() + 1000 * atoll(seconds) : 0, before, after;
	struct group group;

	group_start(&group, 3, &(struct group_config){.prepare = prepare});
	run(&group, 0, WARM_UP, until_ms);
	before = resident_bytes();
	run(&group, WARM_UP, ALL, until_ms);
	after = resident_bytes();
	fprintf(stderr, "# resident: %lld KiB after the warm-up, %lld KiB at the end\n", (long long)before / 1024,
	        (long long)after / 1024);
	if (counts_memory)
		expect_true(after <= before + SLACK_BYTES);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(a_million_leave_nothing)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
