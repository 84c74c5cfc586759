/* SPDX-License-Identifier: Apache-2.0 */
/* What the examples share: ending with a message when something fails. */
#ifndef EXAMPLES_EXAMPLE_H
#define EXAMPLES_EXAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <tendril.h>

/* Ends the program unless `status` is TDR_OK. */
static inline void must(tdr_status status, const char *what)
{
	if (status == TDR_OK)
		return;
	fprintf(stderr, "%s: %s (%s)\n", what, tdr_last_error(), tdr_status_name(status));
	exit(1);
}

/* The agent called `prefix` and its rank, such as "worker2". What `options` leave open comes from the environment. */
static inline tdr_agent *example_agent_with(const char *prefix, const tdr_agent_options *options)
{
	const char *rank = getenv("RANK");
	char name[64];
	tdr_agent *agent;

	snprintf(name, sizeof(name), "%s%s", prefix, rank ? rank : "?");
	agent = tdr_agent_new(name, options);
	if (!agent) {
		fprintf(stderr, "%s: %s\n", name, tdr_last_error());
		exit(1);
	}
	return agent;
}

/* The same; rank, size and store come from the environment. */
static inline tdr_agent *example_agent(const char *prefix)
{
	return example_agent_with(prefix, NULL);
}

#endif
