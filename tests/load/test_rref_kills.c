/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One of eight processes that pass references around is killed, at any time: the others see its references fail, keep all
 * others, free what nobody holds, and go on. Alternately in groups that are static and dynamic.
 *
 *     test_rref_kills [KILLS [SEED]]      TENDRIL_TEST_SECONDS: of traffic, all in all
 */
#include "rref_member.h"

#include "support/leaks.h"
#include "support/places.h"
#include "support/processes.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

static int kills = 4;
static unsigned seed;

static void pause_ms(int64_t milliseconds)
{
	nanosleep(&(struct timespec){.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000}, NULL);
}

static void play(bool dynamic, int64_t traffic_ms)
{
	struct theatre *theatre =
	    mmap(NULL, sizeof(*theatre), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct rref_member members[MEMBERS];
	struct process processes[MEMBERS];
	static char names[MEMBERS][16];
	char *place = tmpdir_new();
	char init_method[256];
	unsigned random = seed;
	int victim;

	assert_ptr_not_equal(theatre, MAP_FAILED);
	snprintf(init_method, sizeof(init_method), "file://%s/store", place);
	*theatre = (struct theatre){.init_method = init_method,
	                            .dynamic = dynamic,
	                            .seed = seed,
	                            .traffic_ms = traffic_ms,
	                            .patience_ms = 60000};
	atomic_store(&theatre->dead, -1);
	victim = (int)((unsigned)rand_r(&random) % MEMBERS);
	for (int i = 0; i < MEMBERS; i++) {
		members[i] = (struct rref_member){.theatre = theatre, .rank = i};
		snprintf(names[i], sizeof(names[i]), "w%d", i);
		processes[i] = (struct process){.name = names[i], .run = rref_member_run, .context = &members[i]};
	}
	processes[victim].expected_signal = SIGKILL;
	processes_start(processes, MEMBERS);
	for (int i = 0; i < 6000 && atomic_load(&theatre->joined) < MEMBERS; i++)
		pause_ms(10);
	pause_ms((int64_t)((unsigned)rand_r(&random) % (unsigned)(traffic_ms * 3 / 4)));
	atomic_store(&theatre->dead, victim);
	process_kill(&processes[victim], SIGKILL);
	processes_finish(processes, MEMBERS, 5 * theatre->patience_ms);
	fprintf(stderr, "# %ld steps\n", atomic_load(&theatre->steps));
	munmap(theatre, sizeof(*theatre));
	tmpdir_remove(place);
}

static void survivors_go_on(void **state)
{
	const char *text = getenv("TENDRIL_TEST_SECONDS");
	int64_t seconds = text && atoi(text) > 0 ? atoi(text) : 2 * kills;

	for (int i = 0; i < kills; i++, seed++) {
		fprintf(stderr, "# kill %d of %d, seed %u, %s\n", i + 1, kills, seed, seed % 2 ? "dynamic" : "static");
		play(seed % 2, seconds * 1000 / kills);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(survivors_go_on, leaks_setup, leaks_teardown)};

	if (argc > 1)
		kills = atoi(argv[1]);
	seed = argc > 2 ? (unsigned)atoi(argv[2]) : (unsigned)time(NULL) % 100000 * 2;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
