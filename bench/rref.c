/* SPDX-License-Identifier: Apache-2.0 */
#include "rref.h"

#include "measure.h"

#include <malloc.h>
#include <tendril/operators.h>

#define MEMORY_FUNCTION "bench::memory"

/* Bytes that this process has from malloc. */
static int64_t memory_in_use(void)
{
	struct mallinfo2 info = mallinfo2();

	return (int64_t)(info.uordblks + info.hblkhd);
}

static tdr_status return_memory(tdr_call *call, void *context)
{
	return tdr_return_int(call, memory_in_use());
}

void rref_register(tdr_agent *agent)
{
	must(tdr_register_operators(agent), "register");
	must(tdr_register(agent, MEMORY_FUNCTION "() -> int", return_memory, NULL, TDR_FUNCTION_INLINE), "register");
}

/* ---- one after another ---- */

static tdr_rref *make(tdr_agent *agent, const char *worker, const char *function, tdr_value *args)
{
	tdr_rref *rref = tdr_remote(agent, worker, function, args, TDR_NO_ARGS);

	if (!rref)
		fail(tdr_last_error(), 0);
	return rref;
}

void rref_remote_once(tdr_agent *agent, const char *worker, const char *function, tdr_value *args)
{
	tdr_rref *rref = make(agent, worker, function, args);
	tdr_value *value;

	must(tdr_rref_to_here(rref, TDR_TIMEOUT_DEFAULT, &value), function);
	tdr_value_unref(value);
	tdr_rref_unref(rref);
}

/* ---- many at once ---- */

/* References, and what is waited for of each. */
struct batch {
	tdr_rref **rrefs;
	tdr_future **futures;
	size_t count;
};

static struct batch batch_of(size_t count)
{
	return (struct batch){
	    .rrefs = must_allocate(count * sizeof(tdr_rref *)),
	    .futures = must_allocate(count * sizeof(tdr_future *)),
	    .count = count,
	};
}

static void batch_make(struct batch *batch, tdr_agent *agent, const char *worker, const char *function, bool fetch)
{
	for (size_t i = 0; i < batch->count; i++) {
		batch->rrefs[i] = make(agent, worker, function, TDR_NO_ARGS);
		batch->futures[i] =
		    fetch ? tdr_rref_fetch(batch->rrefs[i], TDR_TIMEOUT_DEFAULT) : tdr_rref_future(batch->rrefs[i]);
		if (!batch->futures[i])
			fail(tdr_last_error(), 0);
	}
	must(tdr_future_wait_all(batch->count, batch->futures, TDR_TIMEOUT_NEVER), function);
	for (size_t i = 0; i < batch->count; i++)
		tdr_future_unref(batch->futures[i]);
}

static void batch_drop(struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		tdr_rref_unref(batch->rrefs[i]);
}

static void batch_fini(struct batch *batch)
{
	free(batch->rrefs);
	free(batch->futures);
}

double rref_measure_batches(tdr_agent *agent, const char *worker, const char *function, size_t count, size_t batch,
                            bool fetch)
{
	struct batch rrefs = batch_of(batch);
	int64_t begin = 0;

	for (size_t i = 0; i < count + count / 10 + 1; i++) {
		if (i == count / 10 + 1) /* those before were to warm up */
			begin = now_ns();
		batch_make(&rrefs, agent, worker, function, fetch);
		batch_drop(&rrefs);
	}
	begin = now_ns() - begin;
	batch_fini(&rrefs);
	return (double)(count * batch) * 1e9 / (double)begin;
}

/* ---- memory ---- */

static int64_t memory_at(tdr_agent *agent, const char *worker)
{
	tdr_value *answer;
	int64_t bytes;

	if (!worker)
		return memory_in_use();
	must(tdr_rpc_sync(agent, worker, MEMORY_FUNCTION, TDR_NO_ARGS, TDR_NO_ARGS, &answer), MEMORY_FUNCTION);
	must(tdr_value_get_int(answer, &bytes), MEMORY_FUNCTION);
	tdr_value_unref(answer);
	return bytes;
}

/* Waits until no reference that was let go of is left on its way. */
static void await_deletion(tdr_agent *agent)
{
	for (int64_t users = -1; users != 0;) {
		tdr_value *info;

		must(tdr_debug_info(agent, &info), "tdr_debug_info");
		must(tdr_value_get_int(tdr_dict_get(info, "rref.num_users"), &users), "rref.num_users");
		tdr_value_unref(info);
		if (users > 0)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

/* Bytes a reference, here (`at` NULL) or on a worker; the first time round only fills what is kept for reuse. */
static double measure_bytes(tdr_agent *agent, const char *worker, const char *function, size_t count, const char *at)
{
	struct batch rrefs = batch_of(count);
	int64_t bytes = 0;

	for (int i = 0; i < 2; i++) {
		int64_t before;

		await_deletion(agent);
		before = memory_at(agent, at);
		batch_make(&rrefs, agent, worker, function, false);
		bytes = memory_at(agent, at) - before;
		batch_drop(&rrefs);
	}
	batch_fini(&rrefs);
	return (double)bytes / (double)count;
}

double rref_measure_user_bytes(tdr_agent *agent, const char *worker, const char *function, size_t count)
{
	return measure_bytes(agent, worker, function, count, NULL);
}

double rref_measure_owner_bytes(tdr_agent *agent, const char *worker, const char *function, size_t count)
{
	return measure_bytes(agent, worker, function, count, worker);
}
