/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on what references stand for: of C objects, tensors and plain values, here and elsewhere, early and late. */
#include "apart.h"
#include "rrefs.h"

#include <stdatomic.h>
#include <string.h>

static int64_t int_in(tdr_value *value)
{
	int64_t number = INT64_MIN;

	expect_ok(tdr_value_get_int(value, &number));
	tdr_value_unref(value);
	return number;
}

/* Of each of the three ways, the int that comes back. */
static void expect_calls(tdr_rref *rref, const char *function, int64_t argument, const int64_t wanted[3])
{
	tdr_value *value = NULL;
	tdr_future *future;
	tdr_rref *result;

	if (expect_ok(tdr_rref_rpc_sync(rref, function, TDR_ARGS(argument), NULL, &value)) == TDR_OK)
		expect_true(int_in(value) == wanted[0]);
	future = tdr_rref_rpc_async(rref, function, TDR_ARGS(argument), NULL);
	if (expect_ok(tdr_future_wait(future, PATIENCE_MS, &value)) == TDR_OK)
		expect_true(int_in(value) == wanted[1]);
	tdr_future_unref(future);
	result = tdr_rref_remote(rref, function, TDR_ARGS(argument), NULL);
	expect_true(here(result) == wanted[2]);
	expect_text(tdr_rref_owner_name(result), tdr_rref_owner_name(rref));
	expect_true(!tdr_rref_equal(result, rref));
	tdr_rref_unref(result);
}

static bool is_destroyed(void *context)
{
	return atomic_load(&rrefs_destroyed) == (int)(intptr_t)context;
}

static void functions_are_called_on_objects(void **state)
{
	struct group group;
	tdr_rref *counter;
	tdr_value *value;

	group_start(&group, 2, &rrefs_config);
	for (size_t rank = 0; rank < 2; rank++) {
		counter = tdr_remote(group.agents[0], worker_name(rank), "test::object", NULL, NULL);
		expect_calls(counter, "count", 5, (const int64_t[]){5, 10, 15});
		expect_calls(counter, "test::Counter::count", 1, (const int64_t[]){16, 17, 18});
		expect_ok(tdr_rref_rpc_sync(counter, "count", NULL, TDR_KWARGS("by", 2), &value));
		expect_true(int_in(value) == 20);
		expect_ok(tdr_rref_rpc_sync(counter, "count", NULL, NULL, &value));
		expect_true(int_in(value) == 21);
		expect_status(tdr_rref_rpc_sync(counter, "none", NULL, NULL, NULL), TDR_ENOFUNCTION);
		expect_error("there is no function 'test::Counter::none'");
		tdr_rref_unref(counter);
		eventually(is_destroyed, (void *)(intptr_t)(rank + 1));
	}
	await_none(&group);
	group_end(&group);
}

/* An object may be used by whoever holds a reference to it, but stays where it is. */
static void objects_stay_where_they_are(void **state)
{
	struct group group;
	tdr_rref *counter, *own;
	tdr_value *value;
	void *object;

	group_start(&group, 2, &rrefs_config);
	counter = tdr_remote(group.agents[0], "worker1", "test::object", NULL, NULL);
	expect_status(tdr_rref_to_here(counter, PATIENCE_MS, &value), TDR_EUNSUPPORTED);
	expect_error("test::Counter");
	tdr_rref_unref(counter);
	own = tdr_remote(group.agents[0], "worker0", "test::object", NULL, NULL);
	expect_ok(tdr_rref_local_value(own, PATIENCE_MS, &value));
	expect_ok(tdr_value_get_native(value, "test::Counter", &object));
	tdr_value_unref(value);
	tdr_rref_unref(own);
	await_none(&group);
	group_end(&group);
}

static void functions_are_called_on_plain_values(void **state)
{
	struct group group;
	tdr_rref *rref;

	group_start(&group, 2, &rrefs_config);
	for (size_t rank = 0; rank < 2; rank++) {
		rref = remote_int(group.agents[0], worker_name(rank), 40);
		expect_calls(rref, "test::add", 2, (const int64_t[]){42, 42, 42});
		expect_status(tdr_rref_rpc_sync(rref, "add", TDR_ARGS(2), NULL, NULL), TDR_ENOFUNCTION);
		expect_error("a value of kind int has no functions of its own: call 'add' by its full name");
		tdr_rref_unref(rref);
	}
	await_none(&group);
	group_end(&group);
}

/* What the operators' library registers as aten::add, for the shape of it. */
static tdr_status aten_add(tdr_call *call, void *context)
{
	const float *a = tdr_tensor_data(tdr_arg_tensor(call, 0)), *b = tdr_tensor_data(tdr_arg_tensor(call, 1));
	tdr_tensor *sum;
	tdr_status status = tdr_tensor_zeros(TDR_F32, TDR_SHAPE(2), &sum);

	if (status != TDR_OK)
		return status;
	for (size_t i = 0; i < 2; i++)
		((float *)tdr_tensor_data(sum))[i] = a[i] + b[i];
	status = tdr_return_tensor(call, sum);
	tdr_tensor_unref(sum);
	return status;
}

static void prepare_tensors(tdr_agent *agent, size_t rank)
{
	rrefs_prepare(agent, rank);
	expect_ok(tdr_register(agent, "aten::add(Tensor self, Tensor other) -> Tensor", aten_add, NULL, 0));
}

static void functions_are_called_on_tensors(void **state)
{
	struct group group;
	tdr_tensor *one, *sum;
	tdr_rref *rref, *two, *four;
	tdr_value *value;

	group_start(&group, 2, &(struct group_config){.prepare = prepare_tensors});
	expect_ok(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(2), &one));
	((float *)tdr_tensor_data(one))[0] = 1;
	rref = tdr_remote(group.agents[0], "worker1", "test::echo", TDR_ARGS(one), NULL);
	two = tdr_rref_remote(rref, "add", TDR_ARGS(one), NULL);
	expect_ok(tdr_rref_to_here(two, PATIENCE_MS, &value));
	expect_ok(tdr_value_get_tensor(value, &sum));
	four = tdr_rref_remote(two, "add", TDR_ARGS(sum), NULL);
	tdr_value_unref(value);
	expect_ok(tdr_rref_to_here(four, PATIENCE_MS, &value));
	expect_ok(tdr_value_get_tensor(value, &sum));
	expect_true(((float *)tdr_tensor_data(sum))[0] == 4 && ((float *)tdr_tensor_data(sum))[1] == 0);
	tdr_value_unref(value);
	tdr_rref_unref(rref);
	tdr_rref_unref(two);
	tdr_rref_unref(four);
	tdr_tensor_unref(one);
	await_none(&group);
	group_end(&group);
}

/* ---- waiting for the value ---- */

static void configure_one_thread(size_t rank, tdr_agent_options *options)
{
	options->threads = options->max_threads = 1;
}

enum {
	MANY = 32
};

static bool has_begun(void *context)
{
	return atomic_load(&rrefs_later) != NULL;
}

/* Calls on what is not made yet wait at the owner, which has one thread and does other things meanwhile. */
static void calls_wait_for_the_value_without_a_thread(void **state)
{
	for (size_t rank = 0; rank < 2; rank++) {
		struct group group;
		tdr_future *calls[MANY], *fetches[MANY];
		tdr_rref *rref, *results[MANY];
		tdr_future *later;

		group_start(&group, 2,
		            &(struct group_config){.configure = configure_one_thread, .prepare = rrefs_prepare});
		rref = tdr_remote(group.agents[0], worker_name(rank), "test::later", NULL, NULL);
		for (int64_t i = 0; i < MANY; i++) {
			calls[i] = tdr_rref_rpc_async(rref, "test::add", TDR_ARGS(i), NULL);
			results[i] = tdr_rref_remote(rref, "test::add", TDR_ARGS(i), NULL);
			fetches[i] = tdr_rref_fetch(rref, PATIENCE_MS);
		}
		tdr_rref_unref(rref); /* the calls keep it */
		expect_true(call_int(group.agents[0], worker_name(rank), "test::look", TDR_ARGS(1)) == 0);
		eventually(has_begun, NULL);
		later = atomic_exchange(&rrefs_later, NULL);
		for (size_t i = 0; i < MANY; i++)
			expect_true(!tdr_future_done(calls[i]) && !tdr_future_done(fetches[i]));
		tdr_future_set(later, tdr_int(100));
		tdr_future_unref(later);
		for (int64_t i = 0; i < MANY; i++) {
			expect_future(calls[i], TDR_OK, NULL);
			expect_future(fetches[i], TDR_OK, NULL);
			expect_true(here(results[i]) == 100 + i);
			tdr_rref_unref(results[i]);
		}
		await_none(&group);
		group_end(&group);
	}
}

static void a_call_on_what_is_late_times_out(void **state)
{
	struct group group;
	tdr_rpc_options options = within(500);
	tdr_future *later;
	tdr_rref *rref;

	group_start(&group, 2, &rrefs_config);
	rref = tdr_remote(group.agents[0], "worker1", "test::later", NULL, NULL);
	expect_status(tdr_rref_rpc_sync_with(rref, "test::add", TDR_ARGS(1), NULL, &options, NULL), TDR_ETIMEDOUT);
	eventually(has_begun, NULL);
	later = atomic_exchange(&rrefs_later, NULL);
	tdr_future_fail(later, TDR_EIO, "the disk is full");
	tdr_future_unref(later);
	expect_status(tdr_rref_rpc_sync(rref, "test::add", TDR_ARGS(1), NULL, NULL), TDR_EIO);
	expect_error("the disk is full");
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

/* A call that is cancelled while it waits at the owner ends there, too. */
static void a_call_on_what_is_late_is_cancelled(void **state)
{
	struct group group;
	tdr_future *calls[MANY];
	tdr_future *later;
	tdr_rref *rref;

	group_start(&group, 2, &rrefs_config);
	rref = tdr_remote(group.agents[0], "worker1", "test::later", NULL, NULL);
	eventually(has_begun, NULL);
	later = atomic_exchange(&rrefs_later, NULL);
	await_count(group.agents[1], "agent.server_active_calls", 1); /* the function itself */
	for (int64_t i = 0; i < MANY; i++)
		calls[i] = tdr_rref_rpc_async(rref, "test::add", TDR_ARGS(rref, i), NULL);
	await_count(group.agents[1], "agent.server_active_calls", MANY + 1);
	for (int64_t i = 0; i < MANY; i++)
		tdr_future_cancel(calls[i]);
	for (int64_t i = 0; i < MANY; i++)
		expect_future(calls[i], TDR_ECANCELED, NULL);
	await_count(group.agents[1], "agent.server_active_calls", 1);
	tdr_future_set(later, tdr_int(1));
	tdr_future_unref(later);
	expect_true(here(rref) == 1);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

/* Nor does it outlive its caller. */
static void a_call_on_what_is_late_ends_with_its_caller(void **state)
{
	struct group group;
	tdr_future *later;
	tdr_rref *rref;
	tdr_future *call;

	group_start(&group, 3, &rrefs_config);
	rref = tdr_remote(group.agents[0], "worker1", "test::later", NULL, NULL);
	eventually(has_begun, NULL);
	later = atomic_exchange(&rrefs_later, NULL);
	call_ok(group.agents[0], "worker2", "test::keep", TDR_ARGS(0, rref));
	call = tdr_rref_rpc_async(rrefs_kept(0), "test::add", TDR_ARGS(1), NULL); /* of worker2 */
	await_count(group.agents[1], "agent.server_active_calls", 2);
	tdr_agent_unref(group.agents[2]); /* leaves without a word */
	group.agents[2] = NULL;
	expect_true(tdr_future_wait(call, PATIENCE_MS, NULL) != TDR_OK);
	tdr_future_unref(call);
	await_count(group.agents[1], "agent.server_active_calls", 1);
	tdr_future_set(later, tdr_int(1));
	tdr_future_unref(later);
	expect_true(here(rref) == 1);
	tdr_rref_unref(rref);
	rrefs_drop(0);
	await_none(&group);
	group_drop(&group);
}

/* References among the arguments, to the object itself, too. */
static void a_reference_is_passed_to_a_call_on_itself(void **state)
{
	struct group group;
	tdr_rref *rref;

	group_start(&group, 3, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 40);
	expect_status(tdr_rref_rpc_sync(rref, "test::add", TDR_ARGS(rref), NULL, NULL), TDR_ETYPE);
	expect_ok(tdr_rref_rpc_sync(rref, "test::keep", TDR_ARGS(rref), NULL, NULL)); /* slot 40 */
	expect_true(here(rrefs_kept(40)) == 40);
	tdr_rref_unref(rref);
	expect_true(tdr_rref_is_owner(rrefs_kept(40)));
	call_ok(group.agents[0], "worker1", "test::drop", TDR_ARGS(40));
	await_none(&group);
	group_end(&group);
}

/* ---- interceptors ---- */

static _Atomic int issued_calls, received_calls, completed_calls, issued_fetches, received_fetches, completed_fetches;

static tdr_status count(tdr_passage *passage, _Atomic int *calls, _Atomic int *fetches)
{
	atomic_fetch_add(strcmp(tdr_passage_function(passage), "tendril::to_here") == 0 ? fetches : calls, 1);
	return TDR_OK;
}

static tdr_status on_issue(void *context, tdr_passage *passage)
{
	return count(passage, &issued_calls, &issued_fetches);
}

static tdr_status on_receive(void *context, tdr_passage *passage)
{
	return count(passage, &received_calls, &received_fetches);
}

static tdr_status on_complete(void *context, tdr_passage *passage)
{
	return count(passage, &completed_calls, &completed_fetches);
}

static void prepare_interceptor(tdr_agent *agent, size_t rank)
{
	rrefs_prepare(agent, rank);
	expect_ok(tdr_intercept(agent,
	                        &(tdr_interceptor){.size = sizeof(tdr_interceptor),
	                                           .name = "counter",
	                                           .issue = on_issue,
	                                           .receive = on_receive,
	                                           .complete = on_complete},
	                        NULL));
}

static void interceptors_see_what_references_do(void **state)
{
	struct group group;
	tdr_rref *rref, *failed;
	tdr_value *value;

	group_start(&group, 2, &(struct group_config){.prepare = prepare_interceptor});
	rref = remote_int(group.agents[0], "worker1", 3);
	expect_true(here(rref) == 3);
	expect_calls(rref, "test::add", 2, (const int64_t[]){5, 5, 5});
	failed = tdr_remote(group.agents[0], "worker1", "test::fail", NULL, NULL);
	expect_status(tdr_rref_to_here(failed, PATIENCE_MS, &value), TDR_EINVAL);
	expect_future(tdr_rref_future(failed), TDR_OK, NULL);
	expect_true(atomic_load(&issued_calls) == 5 && atomic_load(&received_calls) == 5);
	expect_true(atomic_load(&completed_calls) == 5);
	expect_true(atomic_load(&issued_fetches) == 3 && atomic_load(&completed_fetches) == 3);
	/* a fetch of what has failed has nothing to be called on, and is refused before */
	expect_true(atomic_load(&received_fetches) == 2);
	tdr_rref_unref(failed);
	tdr_rref_unref(rref);
	await_none(&group);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(functions_are_called_on_objects),           TEST(objects_stay_where_they_are),
	    TEST(functions_are_called_on_plain_values),      TEST(functions_are_called_on_tensors),
	    TEST(calls_wait_for_the_value_without_a_thread), TEST(a_call_on_what_is_late_times_out),
	    TEST(a_call_on_what_is_late_is_cancelled),       TEST(a_call_on_what_is_late_ends_with_its_caller),
	    TEST(a_reference_is_passed_to_a_call_on_itself), TEST(interceptors_see_what_references_do),
	};

	return RUN_TESTS(tests);
}
