/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a collective costs.
 *
 *     group URL WORLD_SIZE
 *
 * Forks one process for each member. Rank 0 reads commands from standard input, one a line, and answers each with one number:
 *
 *     all_gather COUNT    microseconds, median of COUNT times that every member gives one int
 */
#include "measure.h"

#include <inttypes.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* All members give a number; returns rank 0's. */
static int64_t gather(tdr_agent *agent, int64_t number)
{
	tdr_value *numbers;
	int64_t first;

	must(tdr_all_gather(agent, tdr_int(number), 0, NULL, TDR_TIMEOUT_NEVER, &numbers), "all_gather");
	must(tdr_value_get_int(tdr_dict_get(numbers, "worker0"), &first), "all_gather");
	tdr_value_unref(numbers);
	return first;
}

/* Rank 0 tells the others how often, then all do it; 0 is the end. */
static void follow(tdr_agent *agent)
{
	int64_t count;

	while ((count = gather(agent, 0)) > 0)
		while (count-- > 0)
			gather(agent, 0);
}

static double lead(tdr_agent *agent, int64_t count)
{
	double *samples = must_allocate((size_t)count * sizeof(*samples));
	double middle;

	gather(agent, count);
	for (int64_t i = 0; i < count; i++) {
		int64_t begin = now_ns();

		gather(agent, 0);
		samples[i] = (double)(now_ns() - begin);
	}
	middle = median(samples, (size_t)count);
	free(samples);
	return middle;
}

static void obey(tdr_agent *agent)
{
	char line[128];
	int64_t count;

	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "all_gather %" SCNd64, &count) != 1 || count <= 0)
			fail("the command is: all_gather COUNT", 0);
		printf("%.6g\n", lead(agent, count) / 1e3);
		fflush(stdout);
	}
	gather(agent, 0);
}

static void run_member(const char *url, int rank, int world_size)
{
	char name[32];
	tdr_agent *agent;

	snprintf(name, sizeof(name), "worker%d", rank);
	agent = agent_at(name, url, rank, world_size);
	must(tdr_join(agent), "join");
	if (rank == 0)
		obey(agent);
	else
		follow(agent);
	must(tdr_shutdown(agent, NULL), "shutdown");
}

int main(int argc, char **argv)
{
	int world_size = argc == 3 ? atoi(argv[2]) : 0, status;

	if (world_size < 1)
		fail("usage: group URL WORLD_SIZE", 0);
	for (int rank = 1; rank < world_size; rank++) {
		pid_t child = fork();

		if (child < 0)
			fail("fork", errno);
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			run_member(argv[1], rank, world_size);
			return 0;
		}
	}
	run_member(argv[1], 0, world_size);
	while (wait(&status) > 0)
		if (status != 0)
			fail("a member failed", 0);
	return 0;
}
