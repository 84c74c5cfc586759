/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring of nested calls: tendril run -n 3 -- ./ring 100
 *
 * Each rank asks the next one, which asks the next, until the count is used up. Every call waits inside the function
 * that made it; the engine gives each waiting thread a stand-in.
 */
#include "example.h"

/* Returns the path that the call took, one name a hop. */
static tdr_status walk(tdr_call *call, void *context)
{
	tdr_agent *agent = context;
	int64_t hops = tdr_arg_int(call, 0);
	size_t count = tdr_worker_count(agent);
	tdr_worker self = tdr_agent_worker(agent), next;
	tdr_value *rest, *path = tdr_list(0, NULL);
	tdr_status status;

	status = tdr_list_append(path, tdr_string(self.name));
	if (hops > 0 && status == TDR_OK) {
		status = tdr_worker_by_id(agent, (uint32_t)((self.id + 1) % count), &next);
		if (status == TDR_OK)
			status = tdr_rpc_sync(agent, next.name, "ring::walk", TDR_ARGS(hops - 1), NULL, &rest);
		for (size_t i = 0; status == TDR_OK && i < tdr_value_count(rest); i++)
			status = tdr_list_append(path, tdr_value_ref(tdr_value_item(rest, i)));
		if (status == TDR_OK)
			tdr_value_unref(rest);
	}
	if (status == TDR_OK)
		return tdr_return(call, path);
	tdr_value_unref(path);
	return status;
}

int main(int argc, char **argv)
{
	int hops = argc > 1 ? atoi(argv[1]) : 100;
	tdr_agent *agent = example_agent("worker");

	must(tdr_register(agent, "ring::walk(int hops) -> str[]", walk, agent, 0), "register");
	must(tdr_join(agent), "join");
	if (tdr_agent_worker(agent).id == 0) {
		tdr_value *path;
		const char *last;

		must(tdr_rpc_sync(agent, tdr_agent_worker(agent).name, "ring::walk", TDR_ARGS(hops), NULL, &path),
		     "walk");
		must(tdr_value_get_string(tdr_value_item(path, tdr_value_count(path) - 1), &last, NULL), "path");
		printf("%d hops, through %zu workers' functions, ended at %s\n", hops, tdr_value_count(path), last);
		tdr_value_unref(path);
	}
	must(tdr_shutdown(agent, NULL), "shutdown");
	return 0;
}
