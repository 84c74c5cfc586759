/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member of a large group: gathers all ranks, calls its right neighbour, and prints how many connections it has. For
 * test_processes.py.
 */
#include <tendril.h>

#include <stdio.h>
#include <stdlib.h>

static void must(tdr_status status, const char *what)
{
	if (status == TDR_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, tdr_last_error());
	exit(1);
}

static tdr_status twice(tdr_call *call, void *context)
{
	return tdr_return_int(call, 2 * tdr_arg_int(call, 0));
}

static int64_t info_of(tdr_agent *agent, const char *key)
{
	tdr_value *info;
	int64_t number;

	must(tdr_debug_info(agent, &info), "info");
	must(tdr_value_get_int(tdr_dict_get(info, key), &number), key);
	tdr_value_unref(info);
	return number;
}

int main(void)
{
	const char *rank = getenv("RANK");
	char name[32];
	tdr_agent *agent;
	tdr_worker neighbour;
	tdr_value *all, *answer;
	int64_t number, sum = 0, count;

	snprintf(name, sizeof(name), "w%s", rank ? rank : "");
	agent = tdr_agent_new(name, NULL);
	if (!agent)
		must(TDR_EINVAL, "agent");
	must(tdr_register(agent, "member::twice(int number) -> int", twice, NULL, TDR_FUNCTION_INLINE), "register");
	must(tdr_join(agent), "join");
	count = (int64_t)tdr_worker_count(agent);
	must(tdr_all_gather(agent, tdr_int(tdr_agent_worker(agent).id), 0, NULL, 120000, &all), "gather");
	for (size_t i = 0; i < tdr_value_count(all); i++) {
		must(tdr_value_get_int(tdr_dict_value(all, i), &number), "rank");
		sum += number;
	}
	if (sum != count * (count - 1) / 2)
		must(TDR_EINTERNAL, "sum");
	tdr_value_unref(all);
	must(tdr_worker_by_id(agent, (tdr_agent_worker(agent).id + 1) % (uint32_t)count, &neighbour), "neighbour");
	must(tdr_rpc_sync(agent, neighbour.name, "member::twice", TDR_ARGS(21), NULL, &answer), "call");
	must(tdr_value_get_int(answer, &number), "answer");
	tdr_value_unref(answer);
	if (number != 42)
		must(TDR_EINTERNAL, "answer");
	must(tdr_barrier(agent, 0, NULL, 120000), "barrier");
	printf("connections %lld of %lld, resident %lld\n", (long long)info_of(agent, "agent.connections"),
	       (long long)count, (long long)info_of(agent, "agent.resident_bytes"));
	fflush(stdout);
	must(tdr_shutdown(agent, NULL), "shutdown");
	return 0;
}
