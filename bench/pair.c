/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes, a caller and a callee, joined to one group by agents and, beside that, by a raw socket.
 *
 *     pair URL [CPU CPU]        a URL such as file:///tmp/fresh or tcp://127.0.0.1:4711
 *
 * With two numbers of processors the caller stays on the first and the callee on the second: where the scheduler places them
 * changes what waking costs by a factor of twenty, from one moment to the next.
 *
 * The caller reads commands from standard input, one a line, and answers each with one number on standard output. So whoever
 * drives it can measure several things, and several programs, in turn. Each measurement begins with a tenth more that is
 * not counted.
 *
 *     raw_ping COUNT             microseconds, median of COUNT round trips of 64 bytes over the raw socket
 *     raw_stream COUNT BYTES     GiB/s, median of COUNT times BYTES one way over the raw socket
 *     call_inline COUNT          microseconds, median of COUNT empty calls of an inline function
 *     call_thread COUNT          the same of a function that runs on a worker thread
 *     pipelined COUNT BATCH      calls a second: BATCH calls are issued, then all waited for; COUNT times
 *     threads COUNT THREADS      calls a second by THREADS threads that make COUNT calls each, one after another
 *     echo COUNT BYTES           microseconds, median of COUNT calls with a tensor that comes back
 *     one_way COUNT BYTES        GiB/s, median of COUNT calls with a tensor, whose function returns nothing
 *
 *     add COUNT                  microseconds, median of COUNT calls of aten::add, on two tensors of 64 bytes
 *     remote_add COUNT           the same, with the sum left at the callee, fetched from there, and let go of
 *     remote_inline COUNT        the same of an empty inline function
 *     remotes COUNT BATCH        references a second: BATCH are made by an inline function, all waited for, and let go of; COUNT
 *                                times
 *     churn COUNT BATCH          the same, with their values fetched, too
 *     user_bytes COUNT           bytes that each of COUNT references takes in the caller
 *     owner_bytes COUNT          and in the callee
 */
#include "measure.h"
#include "raw.h"
#include "rref.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLEE "callee"
#define GIB ((double)(1 << 30))

struct pair {
	tdr_agent *agent;
	int raw;
	tdr_tensor *tensor; /* the one sent last: it is made anew for another size only, so that its memory is warm */
	tdr_tensor *ones;   /* what is added; or NULL */
};

/* ---- the callee ---- */

static tdr_status return_nothing(tdr_call *call, void *context)
{
	return tdr_return_none(call);
}

static tdr_status return_argument(tdr_call *call, void *context)
{
	return tdr_return_tensor(call, tdr_arg_tensor(call, 0));
}

static void run_callee(const char *url, uint16_t port)
{
	tdr_agent *agent = agent_at(CALLEE, url, 1, 2);

	must(tdr_register(agent, "bench::inline() -> ()", return_nothing, NULL, TDR_FUNCTION_INLINE), "register");
	must(tdr_register(agent, "bench::thread() -> ()", return_nothing, NULL, 0), "register");
	must(tdr_register(agent, "bench::take(Tensor data) -> ()", return_nothing, NULL, TDR_FUNCTION_INLINE),
	     "register");
	must(tdr_register(agent, "bench::echo(Tensor data) -> Tensor", return_argument, NULL, TDR_FUNCTION_INLINE),
	     "register");
	rref_register(agent);
	must(tdr_join(agent), "join");
	raw_serve(raw_connect(port));
	must(tdr_shutdown(agent, NULL), "shutdown");
}

/* ---- single things, one after another ---- */

static void ping_once(struct pair *pair, size_t size)
{
	raw_ping(pair->raw);
}

static void call_once(struct pair *pair, const char *function, tdr_value *args)
{
	must(tdr_rpc_sync(pair->agent, CALLEE, function, args, TDR_NO_ARGS, NULL), function);
}

static void call_inline_once(struct pair *pair, size_t size)
{
	call_once(pair, "bench::inline", TDR_NO_ARGS);
}

static void call_thread_once(struct pair *pair, size_t size)
{
	call_once(pair, "bench::thread", TDR_NO_ARGS);
}

/* The tensor of `size` bytes, all of them written once. */
static tdr_tensor *tensor_of(struct pair *pair, size_t size)
{
	int64_t sizes[] = {(int64_t)size};

	if (pair->tensor && tdr_tensor_numel(pair->tensor) == sizes[0])
		return pair->tensor;
	pair->tensor = tdr_tensor_unref(pair->tensor);
	must(tdr_tensor_empty(TDR_U8, 1, sizes, &pair->tensor), "tensor");
	memset(tdr_tensor_data(pair->tensor), 1, size);
	return pair->tensor;
}

static void stream_once(struct pair *pair, size_t size)
{
	raw_stream(pair->raw, tdr_tensor_data(tensor_of(pair, size)), size);
}

static void take_once(struct pair *pair, size_t size)
{
	call_once(pair, "bench::take", TDR_ARGS(tensor_of(pair, size)));
}

static void echo_once(struct pair *pair, size_t size)
{
	tdr_value *back;
	tdr_tensor *tensor;

	must(tdr_rpc_sync(pair->agent, CALLEE, "bench::echo", TDR_ARGS(tensor_of(pair, size)), TDR_NO_ARGS, &back),
	     "bench::echo");
	must(tdr_value_get_tensor(back, &tensor), "bench::echo");
	if (tdr_tensor_numel(tensor) != (int64_t)size)
		fail("bench::echo returned a tensor of another size", 0);
	tdr_value_unref(back);
}

/* Two tensors of 64 bytes. */
static tdr_value *summands(struct pair *pair)
{
	int64_t sizes[] = {16};

	if (!pair->ones) {
		must(tdr_tensor_empty(TDR_F32, 1, sizes, &pair->ones), "tensor");
		for (int64_t i = 0; i < sizes[0]; i++)
			((float *)tdr_tensor_data(pair->ones))[i] = 1;
	}
	return TDR_ARGS(pair->ones, pair->ones);
}

static void add_once(struct pair *pair, size_t size)
{
	call_once(pair, "aten::add", summands(pair));
}

static void remote_add_once(struct pair *pair, size_t size)
{
	rref_remote_once(pair->agent, CALLEE, "aten::add", summands(pair));
}

static void remote_inline_once(struct pair *pair, size_t size)
{
	rref_remote_once(pair->agent, CALLEE, "bench::inline", TDR_NO_ARGS);
}

/* Nanoseconds that one takes: the median of `count`. */
static double time_each(struct pair *pair, void (*once)(struct pair *pair, size_t size), size_t count, size_t size)
{
	double *samples = must_allocate(count * sizeof(*samples));
	double middle;

	for (size_t i = 0; i < count / 10 + 1; i++)
		once(pair, size);
	for (size_t i = 0; i < count; i++) {
		int64_t begin = now_ns();

		once(pair, size);
		samples[i] = (double)(now_ns() - begin);
	}
	middle = median(samples, count);
	free(samples);
	return middle;
}

/* ---- many at once ---- */

/* Issues calls, then waits for them all. */
static void call_batch(struct pair *pair, tdr_future **futures, size_t batch)
{
	for (size_t i = 0; i < batch; i++)
		futures[i] = tdr_rpc_async(pair->agent, CALLEE, "bench::inline", TDR_NO_ARGS, TDR_NO_ARGS);
	must(tdr_future_wait_all(batch, futures, TDR_TIMEOUT_NEVER), "bench::inline");
	for (size_t i = 0; i < batch; i++)
		tdr_future_unref(futures[i]);
}

static double measure_pipelined(struct pair *pair, size_t count, size_t batch)
{
	tdr_future **futures = must_allocate(batch * sizeof(tdr_future *));
	int64_t begin;

	for (size_t i = 0; i < count / 10 + 1; i++)
		call_batch(pair, futures, batch);
	begin = now_ns();
	for (size_t i = 0; i < count; i++)
		call_batch(pair, futures, batch);
	begin = now_ns() - begin;
	free(futures);
	return (double)(count * batch) * 1e9 / (double)begin;
}

/* What each of several calling threads does. */
struct caller {
	pthread_t thread;
	struct pair *pair;
	size_t count;
	pthread_barrier_t *start;
};

static void *caller_main(void *argument)
{
	struct caller *caller = argument;

	for (size_t i = 0; i < caller->count / 10 + 1; i++)
		call_inline_once(caller->pair, 0);
	pthread_barrier_wait(caller->start);
	for (size_t i = 0; i < caller->count; i++)
		call_inline_once(caller->pair, 0);
	return NULL;
}

static double measure_threads(struct pair *pair, size_t count, size_t threads)
{
	struct caller *callers = must_allocate(threads * sizeof(*callers));
	pthread_barrier_t start;
	int64_t begin;

	pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
	for (size_t i = 0; i < threads; i++) {
		int error;

		callers[i] = (struct caller){.pair = pair, .count = count, .start = &start};
		error = pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]);
		if (error)
			fail("cannot start a thread", error);
	}
	pthread_barrier_wait(&start);
	begin = now_ns();
	for (size_t i = 0; i < threads; i++)
		pthread_join(callers[i].thread, NULL);
	begin = now_ns() - begin;
	pthread_barrier_destroy(&start);
	free(callers);
	return (double)(count * threads) * 1e9 / (double)begin;
}

/* ---- commands ---- */

static double measure_raw_ping(struct pair *pair, size_t count, size_t size)
{
	return time_each(pair, ping_once, count, size) / 1e3;
}

static double measure_raw_stream(struct pair *pair, size_t count, size_t size)
{
	return (double)size / GIB / (time_each(pair, stream_once, count, size) / 1e9);
}

static double measure_call_inline(struct pair *pair, size_t count, size_t size)
{
	return time_each(pair, call_inline_once, count, size) / 1e3;
}

static double measure_call_thread(struct pair *pair, size_t count, size_t size)
{
	return time_each(pair, call_thread_once, count, size) / 1e3;
}

static double measure_echo(struct pair *pair, size_t count, size_t size)
{
	return time_each(pair, echo_once, count, size) / 1e3;
}

static double measure_one_way(struct pair *pair, size_t count, size_t size)
{
	return (double)size / GIB / (time_each(pair, take_once, count, size) / 1e9);
}

static double measure_add(struct pair *pair, size_t count, size_t size)
{
	return time_each(pair, add_once, count, size) / 1e3;
}

static double measure_remote_add(struct pair *pair, size_t count, size_t size)
{
	return time_each(pair, remote_add_once, count, size) / 1e3;
}

static double measure_remote_inline(struct pair *pair, size_t count, size_t size)
{
	return time_each(pair, remote_inline_once, count, size) / 1e3;
}

static double measure_remotes(struct pair *pair, size_t count, size_t batch)
{
	return rref_measure_batches(pair->agent, CALLEE, "bench::inline", count, batch, false);
}

static double measure_churn(struct pair *pair, size_t count, size_t batch)
{
	return rref_measure_batches(pair->agent, CALLEE, "bench::inline", count, batch, true);
}

static double measure_user_bytes(struct pair *pair, size_t count, size_t size)
{
	return rref_measure_user_bytes(pair->agent, CALLEE, "bench::inline", count);
}

static double measure_owner_bytes(struct pair *pair, size_t count, size_t size)
{
	return rref_measure_owner_bytes(pair->agent, CALLEE, "bench::inline", count);
}

static const struct command {
	const char *name;
	double (*measure)(struct pair *pair, size_t count, size_t size);
} commands[] = {
    {"raw_ping", measure_raw_ping},
    {"raw_stream", measure_raw_stream},
    {"call_inline", measure_call_inline},
    {"call_thread", measure_call_thread},
    {"pipelined", measure_pipelined},
    {"threads", measure_threads},
    {"echo", measure_echo},
    {"one_way", measure_one_way},
    {"add", measure_add},
    {"remote_add", measure_remote_add},
    {"remote_inline", measure_remote_inline},
    {"remotes", measure_remotes},
    {"churn", measure_churn},
    {"user_bytes", measure_user_bytes},
    {"owner_bytes", measure_owner_bytes},
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static void obey(struct pair *pair)
{
	char line[128], name[32];

	while (fgets(line, sizeof(line), stdin)) {
		const struct command *command;
		size_t count = 0, size = 0;
		int fields = sscanf(line, "%31s %zu %zu", name, &count, &size);

		command = fields >= 2 && count > 0 ? find_command(name) : NULL;
		if (!command)
			fail("a command is a name, a count and a size: see the top of bench/pair.c", 0);
		printf("%.6g\n", command->measure(pair, count, size));
		fflush(stdout);
	}
}

static void run_caller(const char *url, int listener)
{
	struct pair pair = {.agent = agent_at("caller", url, 0, 2)};

	must(tdr_join(pair.agent), "join");
	pair.raw = raw_accept(listener);
	obey(&pair);
	close(pair.raw);
	tdr_tensor_unref(pair.tensor);
	tdr_tensor_unref(pair.ones);
	must(tdr_shutdown(pair.agent, NULL), "shutdown");
}

/* Keeps this process, and the threads that it will start, on one processor; NULL: wherever they come to run. */
static void stay_on(const char *cpu)
{
	cpu_set_t set;

	if (!cpu)
		return;
	CPU_ZERO(&set);
	CPU_SET(atoi(cpu), &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		fail("sched_setaffinity", errno);
}

int main(int argc, char **argv)
{
	bool placed = argc == 4;
	uint16_t port;
	int listener, status;
	pid_t child;

	if (argc != 2 && !placed)
		fail("usage: pair URL [CPU CPU]", 0);
	listener = raw_listen(&port);
	child = fork();
	if (child < 0)
		fail("fork", errno);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(listener);
		stay_on(placed ? argv[3] : NULL);
		run_callee(argv[1], port);
		return 0;
	}
	stay_on(placed ? argv[2] : NULL);
	run_caller(argv[1], listener);
	if (waitpid(child, &status, 0) != child || status != 0)
		fail("the callee failed", 0);
	return 0;
}
