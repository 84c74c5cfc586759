/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member of a group that does as it is told, line by line:
 *
 *     greet WORKER         starts a call: the callee's name comes back
 *     sleep WORKER MS      starts one that takes so long
 *     tensor WORKER MIB    starts one that sends a tensor of so many mebibytes, and has it sent back
 *     finish               waits for the oldest call that is not finished; answers "ok RESULT" or "STATUS TEXT"
 *     shutdown, leave      ends, together with the others or alone; answers like `finish`
 *
 * It says "joined" once it has. Where the group is comes from the environment.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tendril.h>
#include <time.h>

enum {
	MAX_CALLS = 64,
};

struct call {
	tdr_future *future;
	tdr_tensor *sent; /* of a `tensor`, else NULL */
};

static struct call calls[MAX_CALLS];
static size_t first, last; /* those under way; they are used once */

static tdr_status serve_greet(tdr_call *call, void *context)
{
	return tdr_return_string(call, context);
}

static tdr_status serve_sleep(tdr_call *call, void *context)
{
	int64_t ms = tdr_arg_int(call, 0);
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	(void)context;
	while (nanosleep(&left, &left) != 0)
		;
	return tdr_return_int(call, ms);
}

static tdr_status serve_echo(tdr_call *call, void *context)
{
	(void)context;
	return tdr_return_tensor(call, tdr_arg_tensor(call, 0));
}

static void must(tdr_status status)
{
	if (status == TDR_OK)
		return;
	printf("%s %s\n", tdr_status_name(status), tdr_last_error());
	exit(1);
}

static void start(tdr_agent *agent, const char *what, const char *worker, int64_t number)
{
	struct call *call = &calls[last++];

	if (strcmp(what, "greet") == 0) {
		call->future = tdr_rpc_async(agent, worker, "hosts::greet", TDR_NO_ARGS, TDR_NO_ARGS);
	} else if (strcmp(what, "sleep") == 0) {
		call->future = tdr_rpc_async(agent, worker, "hosts::sleep", TDR_ARGS(number), TDR_NO_ARGS);
	} else {
		int64_t *elements, count = number * (1 << 20) / (int64_t)sizeof(*elements);

		must(tdr_tensor_empty(TDR_I64, TDR_SHAPE(count), &call->sent));
		elements = tdr_tensor_data(call->sent);
		for (int64_t i = 0; i < count; i++)
			elements[i] = i * i;
		call->future = tdr_rpc_async(agent, worker, "hosts::echo", TDR_ARGS(call->sent), TDR_NO_ARGS);
	}
}

static bool same_elements(const tdr_tensor *a, const tdr_tensor *b)
{
	return tdr_tensor_numel(a) == tdr_tensor_numel(b) && tdr_tensor_is_contiguous(b) &&
	       memcmp(tdr_tensor_data(a), tdr_tensor_data(b), (size_t)tdr_tensor_numel(a) * sizeof(int64_t)) == 0;
}

static void finish(void)
{
	struct call *call = &calls[first++];
	tdr_value *value = NULL;
	tdr_tensor *tensor;
	const char *text;
	int64_t number;
	tdr_status status = tdr_future_wait(call->future, TDR_TIMEOUT_NEVER, &value);

	if (status != TDR_OK)
		printf("%s %s\n", tdr_status_name(status), tdr_future_error(call->future));
	else if (tdr_value_get_tensor(value, &tensor) == TDR_OK)
		printf("ok %s\n", same_elements(call->sent, tensor) ? "same" : "different");
	else if (tdr_value_get_string(value, &text, NULL) == TDR_OK)
		printf("ok %s\n", text);
	else if (tdr_value_get_int(value, &number) == TDR_OK)
		printf("ok %" PRId64 "\n", number);
	tdr_value_unref(value);
	tdr_future_unref(call->future);
	tdr_tensor_unref(call->sent);
}

static void end(tdr_agent *agent, bool graceful)
{
	tdr_shutdown_options options;
	tdr_status status;

	tdr_shutdown_options_init(&options);
	options.graceful = graceful;
	status = tdr_shutdown(agent, &options);
	printf("%s %s\n", status == TDR_OK ? "ok" : tdr_status_name(status), status == TDR_OK ? "" : tdr_last_error());
}

int main(int argc, char **argv)
{
	char line[256], what[16], worker[128];
	const char *name = argc > 1 ? argv[1] : "";
	tdr_agent *agent = tdr_agent_new(name, NULL);

	setvbuf(stdout, NULL, _IOLBF, 0);
	must(agent ? TDR_OK : TDR_EINVAL);
	must(tdr_register(agent, "hosts::greet() -> str", serve_greet, (void *)name, TDR_FUNCTION_INLINE));
	must(tdr_register(agent, "hosts::sleep(int ms) -> int", serve_sleep, NULL, 0));
	must(tdr_register(agent, "hosts::echo(Tensor tensor) -> Tensor", serve_echo, NULL, 0));
	must(tdr_join(agent));
	puts("joined");
	while (fgets(line, sizeof(line), stdin)) {
		long long number = 0;
		int words = sscanf(line, "%15s %127s %lld", what, worker, &number);

		if (words >= 2 && last < MAX_CALLS) {
			start(agent, what, worker, number);
		} else if (words == 1 && strcmp(what, "finish") == 0 && first < last) {
			finish();
		} else if (words == 1 && (strcmp(what, "shutdown") == 0 || strcmp(what, "leave") == 0)) {
			end(agent, what[0] == 's');
			return 0;
		} else {
			fprintf(stderr, "cannot do this: %s", line);
			return 2;
		}
	}
	return 1;
}
