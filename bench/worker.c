/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker that does nothing: what starting and being idle cost.
 *
 *     worker URL RANK WORLD_SIZE
 *
 * Joins the group, writes the time (nanoseconds of CLOCK_MONOTONIC) at which it had, and waits for the end of its standard
 * input before it leaves.
 */
#include "measure.h"

#include <inttypes.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char name[32], byte;
	tdr_agent *agent;

	if (argc != 4)
		fail("usage: worker URL RANK WORLD_SIZE", 0);
	snprintf(name, sizeof(name), "worker%s", argv[2]);
	agent = agent_at(name, argv[1], atoi(argv[2]), atoi(argv[3]));
	must(tdr_join(agent), "join");
	printf("%" PRId64 "\n", now_ns());
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		continue;
	must(tdr_shutdown(agent, NULL), "shutdown");
	return 0;
}
