/* SPDX-License-Identifier: Apache-2.0 */
/* Every rank greets every other: tendril run -n 4 -- ./hello */
#include "example.h"

static tdr_status greet(tdr_call *call, void *context)
{
	char text[160];

	snprintf(text, sizeof(text), "hello %s, this is %s", tdr_call_worker_name(call), (const char *)context);
	return tdr_return_string(call, text);
}

int main(void)
{
	tdr_agent *agent = example_agent("worker");
	tdr_worker self = tdr_agent_worker(agent);

	must(tdr_register(agent, "hello::greet() -> str", greet, (void *)self.name, TDR_FUNCTION_INLINE), "register");
	must(tdr_join(agent), "join");
	for (size_t i = 0; i < tdr_worker_count(agent); i++) {
		tdr_worker worker;
		tdr_value *answer;
		const char *text;

		must(tdr_worker_at(agent, i, &worker), "worker");
		must(tdr_rpc_sync(agent, worker.name, "hello::greet", TDR_NO_ARGS, TDR_NO_ARGS, &answer), "greet");
		must(tdr_value_get_string(answer, &text, NULL), "answer");
		printf("%s\n", text);
		tdr_value_unref(answer);
	}
	must(tdr_shutdown(agent, NULL), "shutdown");
	return 0;
}
