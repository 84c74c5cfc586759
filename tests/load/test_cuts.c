/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that are cut under load: four members call one another from several threads while all connections of the
 * group are shut down again and again, so that both ends dial anew at once. Each call ends, with its result or with an
 * unknown outcome; none runs twice; and the members stay members. Collectives notice nothing.
 */
#include "group/group.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	MEMBERS = 4,
	CALLERS = 3, /* threads of each member's */
	CUT_EVERY_MS = 400,
	BOUND_MS = 1000, /* 3 cuts within it: a worker whose lanes break more than 5 times is taken for dead */
	MOST_DESCRIPTORS = 256,
	COPIES = 512, /* where copies of descriptors begin */
	MOST_ITEMS = 1 << 20,
};

struct load {
	struct group group;
	_Atomic bool over;
	_Atomic uint32_t issued;
	_Atomic uint64_t succeeded, unknown;
	_Atomic uint8_t *runs; /* [MOST_ITEMS], by number of the call */
};

static struct load load;

static int64_t duration_ms(void)
{
	const char *seconds = getenv("TENDRIL_TEST_SECONDS");

	return (seconds ? atoi(seconds) : 5) * INT64_C(1000);
}

/* Shuts down every connection that has both ends in this process: all that the group has. */
static void cut_all(void)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;
	int fds[MOST_DESCRIPTORS];
	size_t count = 0;

	/*
	 * First all are found, then cut: those that are made in their place are to stay. It is copies that are cut, which are
	 * not closed and used for something else meanwhile.
	 */
	while (directory && (entry = readdir(directory)) && count < MOST_DESCRIPTORS) {
		struct sockaddr_storage peer = {0};
		socklen_t size = sizeof(peer);
		int number = atoi(entry->d_name);
		int fd = number < COPIES ? fcntl(number, F_DUPFD_CLOEXEC, COPIES) : -1;

		if (fd >= 0 && getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.ss_family == AF_INET)
			fds[count++] = fd;
		else if (fd >= 0)
			close(fd);
	}
	if (directory)
		closedir(directory);
	while (count > 0) {
		shutdown(fds[--count], SHUT_RDWR);
		close(fds[count]);
	}
}

/* ---- the members ---- */

static tdr_status run_once(tdr_call *call, void *context)
{
	int64_t number = tdr_arg_int(call, 0);

	if (number < 0 || number >= MOST_ITEMS)
		return TDR_EINVAL;
	atomic_fetch_add(&load.runs[number], 1);
	return tdr_return(call, tdr_value_ref(tdr_arg(call, 1)));
}

static void prepare(tdr_agent *agent, size_t rank)
{
	expect_ok(
	    tdr_register(agent, "load::inline(int number, Any value) -> Any", run_once, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_register(agent, "load::thread(int number, Any value) -> Any", run_once, NULL, 0));
}

static void configure(size_t rank, tdr_agent_options *options)
{
	options->heartbeat_bound_ms = BOUND_MS;
}

static tdr_value *load_value(uint32_t number)
{
	static const int64_t sizes[] = {1, 1000, 100000, 3000000};
	int64_t size = sizes[number % 16 < 13 ? 0 : number % 16 - 12];
	tdr_tensor *tensor;
	tdr_value *value;

	if (tdr_tensor_zeros(TDR_U8, 1, &size, &tensor) != TDR_OK)
		return tdr_none();
	value = tdr_tensor_value(tensor);
	tdr_tensor_unref(tensor);
	return value;
}

static void call_on(void *context, size_t index)
{
	size_t from = index % MEMBERS;
	uint32_t number;

	while (!atomic_load(&load.over) && (number = atomic_fetch_add(&load.issued, 1)) < MOST_ITEMS) {
		size_t to = (from + 1 + number % (MEMBERS - 1)) % MEMBERS;
		tdr_status status =
		    tdr_rpc_sync(load.group.agents[from], worker_name(to), number % 2 ? "load::inline" : "load::thread",
		                 TDR_ARGS((int64_t)number, load_value(number)), NULL, NULL);
		unsigned runs = atomic_load(&load.runs[number]);

		if (status == TDR_EUNKNOWN_OUTCOME) {
			expect_true(runs <= 1);
			atomic_fetch_add(&load.unknown, 1);
			continue;
		}
		if (expect_ok(status) != TDR_OK) {
			atomic_store(&load.over, true);
			break;
		}
		atomic_fetch_add(&load.succeeded, 1);
		expect_true(runs == 1);
	}
}

static void cut_on(void)
{
	int64_t end_ms = now_ms() + duration_ms();

	while (now_ms() < end_ms && !atomic_load(&load.over)) {
		pause_ms(CUT_EVERY_MS);
		cut_all();
	}
	atomic_store(&load.over, true);
}

static void call_or_cut(void *context, size_t index)
{
	if (index < MEMBERS * CALLERS)
		call_on(context, index);
	else
		cut_on();
}

static void calls_survive_cuts(bool share_engine)
{
	struct group_config config = {.share_engine = share_engine, .configure = configure, .prepare = prepare};

	load = (struct load){.runs = calloc(MOST_ITEMS, sizeof(*load.runs))};
	assert_non_null(load.runs);
	group_start(&load.group, MEMBERS, &config);
	in_parallel(MEMBERS * CALLERS + 1, call_or_cut, NULL);
	print_message("# %u calls: %llu succeeded, of %llu the outcome is unknown\n", atomic_load(&load.issued),
	              (unsigned long long)atomic_load(&load.succeeded), (unsigned long long)atomic_load(&load.unknown));
	expect_true(atomic_load(&load.succeeded) > 0);
	for (size_t from = 0; from < MEMBERS; from++)
		for (size_t to = 0; to < MEMBERS; to++)
			call_ok(load.group.agents[from], worker_name(to), "test::echo", TDR_ARGS(1));
	group_end(&load.group);
	for (size_t i = 0; i < MOST_ITEMS; i++)
		expect_true(atomic_load(&load.runs[i]) <= 1);
	free((void *)load.runs);
}

static void calls_survive_cuts_on_engines_of_their_own(void **state)
{
	calls_survive_cuts(false);
}

static void calls_survive_cuts_on_one_engine(void **state)
{
	calls_survive_cuts(true);
}

/* ---- collectives ---- */

/* All meet again and again, until the first member brings the news that it is over. */
static void meet_or_cut(void *context, size_t index)
{
	int64_t over = 0;

	while (index < MEMBERS && !over) {
		bool last = index == 0 && atomic_load(&load.over);
		tdr_value *all = NULL;

		if (expect_ok(tdr_all_gather(load.group.agents[index], tdr_int(last), 0, NULL, PATIENCE_MS, &all)) !=
		    TDR_OK)
			break;
		expect_ok(tdr_value_get_int(tdr_dict_get(all, worker_name(0)), &over));
		tdr_value_unref(all);
		atomic_fetch_add(&load.succeeded, 1);
	}
	if (index == MEMBERS)
		cut_on();
}

static void collectives_survive_cuts(void **state)
{
	struct group_config config = {.configure = configure};

	load = (struct load){0};
	group_start(&load.group, MEMBERS, &config);
	in_parallel(MEMBERS + 1, meet_or_cut, NULL);
	print_message("# met %llu times\n", (unsigned long long)atomic_load(&load.succeeded) / MEMBERS);
	group_end(&load.group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(calls_survive_cuts_on_engines_of_their_own),
	    TEST(calls_survive_cuts_on_one_engine),
	    TEST(collectives_survive_cuts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
