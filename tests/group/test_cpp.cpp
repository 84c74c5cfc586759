/* SPDX-License-Identifier: Apache-2.0 */
/* A C++ program that uses the library as any would: functions, TDR_ARGS and TDR_KWARGS with all the types they take. */
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <tendril.h>

static int failures;

static void expect(bool truth, const char *what, int line)
{
	if (truth)
		return;
	failures++;
	std::fprintf(stderr, "test_cpp.cpp:%d: expected %s (last error: %s)\n", line, what, tdr_last_error());
}

#define EXPECT(truth) expect((truth), #truth, __LINE__)

static tdr_status scale(tdr_call *call, void *)
{
	return tdr_return_float(call, static_cast<double>(tdr_arg_int(call, 0)) * tdr_arg_float(call, 1));
}

static tdr_status describe(tdr_call *call, void *)
{
	char text[512];

	tdr_value_print(tdr_arg(call, 0), text, sizeof(text));
	return tdr_return_string(call, text);
}

static tdr_agent *join(tdr_store *store)
{
	tdr_agent_options options;

	tdr_agent_options_init(&options);
	options.rank = 0;
	options.world_size = 1;
	options.store = store;
	options.threads = 2;
	tdr_agent *agent = tdr_agent_new("only", &options);
	EXPECT(agent && tdr_register(agent, "test::scale(int n, float by=2.0) -> float", scale, nullptr, 0) == TDR_OK);
	EXPECT(tdr_register(agent, "test::describe(Any value) -> str", describe, nullptr, TDR_FUNCTION_INLINE) ==
	       TDR_OK);
	EXPECT(tdr_join(agent) == TDR_OK);
	return agent;
}

static void call_with_keywords(tdr_agent *agent)
{
	tdr_value *result = nullptr;
	double number = 0;

	EXPECT(tdr_rpc_sync(agent, "only", "test::scale", TDR_ARGS(3), TDR_KWARGS("by", 1.5), &result) == TDR_OK);
	EXPECT(result && tdr_value_get_float(result, &number) == TDR_OK && number == 4.5);
	tdr_value_unref(result);
	EXPECT(tdr_rpc_sync(agent, "only", "test::scale", TDR_NO_ARGS, TDR_KWARGS("n", INT64_C(2)), nullptr) == TDR_OK);
	EXPECT(tdr_rpc_sync(agent, "only", "test::scale", TDR_ARGS("three"), nullptr, nullptr) == TDR_ETYPE);
}

/* What the callee sees of each type that TDR_ARGS takes. */
static void call_with_all_types(tdr_agent *agent)
{
	const int64_t sizes[] = {2};
	const float numbers[] = {1, 2};
	tdr_tensor *tensor = nullptr;
	tdr_value *result = nullptr;
	const char *text = "";

	EXPECT(tdr_tensor_copy_of(numbers, TDR_F32, 1, sizes, &tensor) == TDR_OK);
	tdr_value *all = TDR_ARGS(true, 1, -2L, 3LL, 4U, UINT64_C(5), 0.5, "text", tensor, tdr_none());
	EXPECT(tdr_value_count(all) == 10);
	tdr_future *future = tdr_rpc_async(agent, "only", "test::describe", TDR_ARGS(all), nullptr);
	EXPECT(tdr_future_wait(future, 30000, &result) == TDR_OK);
	EXPECT(result && tdr_value_get_string(result, &text, nullptr) == TDR_OK);
	EXPECT(std::string(text).rfind("(True, 1, -2, 3, 4, 5, 0.5, 'text', ", 0) == 0);
	tdr_value_unref(result);
	tdr_future_unref(future);
	tdr_tensor_unref(tensor);
}

int main()
{
	tdr_store *store = nullptr;

	EXPECT(std::strcmp(tdr_version(), "0.1.0") == 0);
	EXPECT(tdr_store_hash(&store) == TDR_OK);
	tdr_agent *agent = join(store);
	call_with_keywords(agent);
	call_with_all_types(agent);
	EXPECT(tdr_shutdown(agent, nullptr) == TDR_OK);
	tdr_store_unref(store);
	return failures > 0;
}
