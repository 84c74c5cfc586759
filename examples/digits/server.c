/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A parameter server for trainers in any language: it makes models for whoever asks, and serves until all are done.
 *
 * See examples/python/digits.py for trainers in Python.
 */
#include "../example.h"
#include "model.h"

static tdr_status make(tdr_call *call, void *context)
{
	return tdr_return(call, model_new());
}

int main(void)
{
	tdr_agent *agent = tdr_agent_new("ps", NULL);

	if (!agent) {
		fprintf(stderr, "ps: %s\n", tdr_last_error());
		return 1;
	}
	must(tdr_register(agent, "digits::Model() -> digits::Model", make, NULL, 0), "register");
	model_register(agent);
	must(tdr_join(agent), "join");
	must(tdr_shutdown(agent, NULL), "shutdown");
	return 0;
}
