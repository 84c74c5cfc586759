/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: what they carry, there and back, to others and to oneself, and how they fail. */
#include "group.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct group_config one_engine = {.share_engine = true};

/* ---- values ---- */

/* Calls test::echo with a value, which is given away, and expects one that is equal. The answer is the caller's. */
static tdr_value *echo(tdr_agent *agent, const char *worker, tdr_value *value)
{
	tdr_value *answer = NULL;

	expect_ok(tdr_rpc_sync(agent, worker, "test::echo", TDR_ARGS(tdr_value_ref(value)), NULL, &answer));
	expect_true(answer && tdr_value_equal(value, answer));
	tdr_value_unref(value);
	return answer;
}

static void echo_scalars(tdr_agent *agent, const char *worker)
{
	static const unsigned char big[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	tdr_value *values[] = {
	    tdr_none(),
	    tdr_bool(true),
	    tdr_bool(false),
	    tdr_int(0),
	    tdr_int(-1),
	    tdr_int(INT64_MAX),
	    tdr_int(INT64_MIN),
	    tdr_bigint(big, sizeof(big)),
	    tdr_float(0.1),
	    tdr_float(-1.0 / 0.0),
	    tdr_float(__builtin_nan("")),
	    tdr_complex(1.5, -2.5),
	    tdr_string(""),
	    tdr_string("a text, with \xc3\xa4 and \xe2\x82\xac"),
	    tdr_string_n("a\0b", 3),
	    tdr_bytes(NULL, 0),
	    tdr_bytes("\0\xff\x80", 3),
	    tdr_device_value((tdr_device){TDR_CUDA, 3}),
	    tdr_object("pickle5", "bytes of it", 11, 0, NULL),
	};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		tdr_value_unref(echo(agent, worker, values[i]));
}

static void echo_containers(tdr_agent *agent, const char *worker)
{
	tdr_value *dict = tdr_dict_new(), *set = tdr_set_new(), *deep = tdr_int(7);

	expect_ok(tdr_dict_set(dict, "list", tdr_list(2, (tdr_value *[]){tdr_int(1), tdr_string("two")})));
	expect_ok(tdr_dict_put(dict, tdr_int(5), tdr_tuple(0, NULL)));
	expect_ok(tdr_dict_put(dict, TDR_ARGS(1, "key"), tdr_none()));
	expect_ok(tdr_set_add(set, tdr_int(1)));
	expect_ok(tdr_set_add(set, tdr_string("one")));
	for (int i = 0; i < 60; i++)
		deep = tdr_list(1, &deep);
	tdr_value_unref(echo(agent, worker, dict));
	tdr_value_unref(echo(agent, worker, set));
	tdr_value_unref(echo(agent, worker, deep));
	tdr_value_unref(echo(agent, worker, tdr_list(0, NULL)));
	tdr_value_unref(echo(agent, worker, TDR_ARGS(1, 2.5, "three", tdr_none(), tdr_bool(true))));
}

static void each_kind_of_value_comes_back_equal(void **state)
{
	const struct group_config *configs[] = {NULL, &one_engine};

	for (size_t i = 0; i < 2; i++) {
		struct group group;

		group_start(&group, 2, configs[i]);
		echo_scalars(group.agents[0], "worker1");
		echo_scalars(group.agents[0], "worker0");
		echo_containers(group.agents[1], "worker0");
		echo_containers(group.agents[1], "worker1");
		group_end(&group);
	}
}

/* ---- tensors ---- */

static tdr_tensor *tensor_of(tdr_value *value)
{
	tdr_tensor *tensor = NULL;

	if (!value || tdr_value_kind(value) != TDR_TENSOR)
		expect_true(!"a tensor came");
	else
		expect_ok(tdr_value_get_tensor(value, &tensor));
	return tensor;
}

static void echo_dtypes(tdr_agent *agent, const char *worker)
{
	for (int dtype = TDR_BOOL; dtype <= TDR_C128; dtype++) {
		tdr_tensor *tensor;
		tdr_value *answer;

		assert_int_equal(tdr_tensor_zeros((tdr_dtype)dtype, TDR_SHAPE(3, 2), &tensor), TDR_OK);
		memset(tdr_tensor_data(tensor), 1, tdr_storage_nbytes(tdr_tensor_storage(tensor)));
		answer = echo(agent, worker, tdr_tensor_value(tensor));
		expect_true((int)tdr_tensor_dtype(tensor_of(answer)) == dtype);
		tdr_value_unref(answer);
		tdr_tensor_unref(tensor);
	}
}

static void echo_shapes(tdr_agent *agent, const char *worker)
{
	tdr_tensor *scalar, *empty, *grown;
	tdr_value *answer;
	float number = 2.5f;

	assert_int_equal(tdr_tensor_copy_of(&number, TDR_F32, 0, NULL, &scalar), TDR_OK);
	assert_int_equal(tdr_tensor_zeros(TDR_F64, TDR_SHAPE(3, 0, 2), &empty), TDR_OK);
	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(4), &grown), TDR_OK);
	tdr_tensor_set_requires_grad(grown, true);
	answer = echo(agent, worker, tdr_tensor_value(scalar));
	expect_true(tdr_tensor_ndim(tensor_of(answer)) == 0 && tdr_tensor_numel(tensor_of(answer)) == 1);
	tdr_value_unref(answer);
	answer = echo(agent, worker, tdr_tensor_value(empty));
	expect_true(tdr_tensor_ndim(tensor_of(answer)) == 3 && tdr_tensor_numel(tensor_of(answer)) == 0);
	tdr_value_unref(answer);
	answer = echo(agent, worker, tdr_tensor_value(grown));
	expect_true(tdr_tensor_requires_grad(tensor_of(answer)));
	tdr_value_unref(answer);
	tdr_tensor_unref(scalar);
	tdr_tensor_unref(empty);
	tdr_tensor_unref(grown);
}

/* A tensor, its transpose and a part of it come as three views of one storage. */
static void echo_views(tdr_agent *agent, const char *worker)
{
	const int64_t sizes[] = {4, 3}, strides[] = {1, 4}, part[] = {2}, apart[] = {4};
	tdr_tensor *whole, *turned, *some;
	tdr_value *answer;
	tdr_tensor *came[3];

	assert_int_equal(tdr_tensor_zeros(TDR_I32, TDR_SHAPE(3, 4), &whole), TDR_OK);
	for (int i = 0; i < 12; i++)
		((int32_t *)tdr_tensor_data(whole))[i] = i;
	assert_int_equal(tdr_tensor_view(tdr_tensor_storage(whole), TDR_I32, 2, sizes, strides, 0, &turned), TDR_OK);
	assert_int_equal(tdr_tensor_view(tdr_tensor_storage(whole), TDR_I32, 1, part, apart, 5, &some), TDR_OK);
	answer = echo(agent, worker, TDR_ARGS(whole, turned, some));
	for (size_t i = 0; i < 3; i++)
		came[i] = tensor_of(tdr_value_item(answer, i));
	expect_true(tdr_tensor_storage(came[0]) == tdr_tensor_storage(came[1]));
	expect_true(tdr_tensor_storage(came[0]) == tdr_tensor_storage(came[2]));
	expect_true(tdr_tensor_storage(came[0]) != tdr_tensor_storage(whole));
	expect_true(tdr_tensor_strides(came[1])[0] == 1 && tdr_tensor_strides(came[1])[1] == 4);
	expect_true(tdr_tensor_offset(came[2]) == 5 && ((int32_t *)tdr_tensor_data(came[2]))[4] == 9);
	tdr_value_unref(answer);
	tdr_tensor_unref(whole);
	tdr_tensor_unref(turned);
	tdr_tensor_unref(some);
}

static void tensors_come_with_their_shape_and_what_they_share(void **state)
{
	struct group group;

	group_start(&group, 2, NULL);
	for (size_t i = 0; i < 2; i++) {
		echo_dtypes(group.agents[0], worker_name(i));
		echo_shapes(group.agents[0], worker_name(i));
		echo_views(group.agents[0], worker_name(i));
	}
	group_end(&group);
}

static void tensors_of_all_sizes_cross(void **state)
{
	static const int64_t sizes[] = {0, 1, 63, 64, 4095, 65536, 65537, 1 << 20, (8 << 20) + 13, 64 << 20};
	struct group group;

	group_start(&group, 2, NULL);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		tdr_tensor *tensor;

		assert_int_equal(tdr_tensor_empty(TDR_U8, 1, &sizes[i], &tensor), TDR_OK);
		for (int64_t at = 0; at < sizes[i]; at++)
			((uint8_t *)tdr_tensor_data(tensor))[at] = (uint8_t)(at * 31 >> 5);
		tdr_value_unref(echo(group.agents[0], "worker1", tdr_tensor_value(tensor)));
		if (sizes[i] <= 1 << 20)
			tdr_value_unref(echo(group.agents[0], "worker0", tdr_tensor_value(tensor)));
		tdr_tensor_unref(tensor);
	}
	group_end(&group);
}

static void long_texts_and_bytes_cross(void **state)
{
	const size_t size = 20 << 20;
	char *data = malloc(size);
	struct group group;

	assert_non_null(data);
	memset(data, 'x', size);
	group_start(&group, 2, NULL);
	tdr_value_unref(echo(group.agents[0], "worker1", tdr_string_n(data, size)));
	tdr_value_unref(echo(group.agents[0], "worker1", tdr_bytes(data, size)));
	group_end(&group);
	free(data);
}

/* ---- isolation ---- */

static _Atomic(tdr_tensor *) kept; /* by test::scribble */

/* Fills its argument with 7, keeps it, and returns it. */
static tdr_status scribble(tdr_call *call, void *context)
{
	tdr_tensor *tensor = tdr_arg_tensor(call, 0);

	memset(tdr_tensor_data(tensor), 7, (size_t)tdr_tensor_numel(tensor));
	atomic_store(&kept, tdr_tensor_ref(tensor));
	return tdr_return_tensor(call, tensor);
}

static void prepare_scribble(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::scribble(Tensor(a!) t) -> Tensor", scribble, NULL, 0));
}

static void arguments_and_results_are_isolated(void **state)
{
	const struct group_config config = {.prepare = prepare_scribble};
	struct group group;

	group_start(&group, 2, &config);
	for (size_t i = 0; i < 2; i++) {
		tdr_value *result = NULL;
		tdr_tensor *tensor;

		assert_int_equal(tdr_tensor_zeros(TDR_U8, TDR_SHAPE(1000), &tensor), TDR_OK);
		expect_ok(
		    tdr_rpc_sync(group.agents[0], worker_name(i), "test::scribble", TDR_ARGS(tensor), NULL, &result));
		expect_true(((uint8_t *)tdr_tensor_data(tensor))[999] == 0);
		if (tensor_of(result)) {
			expect_true(((uint8_t *)tdr_tensor_data(tensor_of(result)))[999] == 7);
			memset(tdr_tensor_data(tensor_of(result)), 9, 1000);
		}
		expect_true(((uint8_t *)tdr_tensor_data(atomic_load(&kept)))[999] == 7);
		tdr_tensor_unref(atomic_exchange(&kept, NULL));
		tdr_value_unref(result);
		tdr_tensor_unref(tensor);
	}
	group_end(&group);
}

/* ---- binding ---- */

static tdr_status sum(tdr_call *call, void *context)
{
	return tdr_return_int(call, tdr_arg_int(call, 0) + tdr_arg_int(call, 1) + tdr_arg_int(call, 2));
}

static tdr_status name_caller(tdr_call *call, void *context)
{
	char text[128];

	snprintf(text, sizeof(text), "%s %u %s", tdr_call_worker_name(call), tdr_call_worker_id(call),
	         tdr_call_function_name(call));
	return tdr_return_string(call, text);
}

static void prepare_sum(tdr_agent *agent, size_t rank)
{
	expect_ok(
	    tdr_register(agent, "test::sum(int a, int b=10, *, int c=100) -> int", sum, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_register(agent, "test::caller() -> str", name_caller, NULL, 0));
}

static int64_t call_sum(tdr_agent *agent, tdr_value *args, tdr_value *kwargs)
{
	tdr_value *result = NULL;
	int64_t number = -1;

	if (tdr_rpc_sync(agent, "worker1", "test::sum", args, kwargs, &result) == TDR_OK)
		expect_ok(tdr_value_get_int(result, &number));
	tdr_value_unref(result);
	return number;
}

static void arguments_are_bound_by_position_and_keyword(void **state)
{
	const struct group_config config = {.prepare = prepare_sum};
	tdr_agent *agent;
	struct group group;

	group_start(&group, 2, &config);
	agent = group.agents[0];
	expect_true(call_sum(agent, TDR_ARGS(1), NULL) == 111);
	expect_true(call_sum(agent, TDR_ARGS(1, 2), NULL) == 103);
	expect_true(call_sum(agent, TDR_ARGS(1), TDR_KWARGS("b", 3)) == 104);
	expect_true(call_sum(agent, NULL, TDR_KWARGS("a", 1, "b", 2, "c", 3)) == 6);
	expect_true(call_sum(agent, tdr_list(1, (tdr_value *[]){tdr_int(5)}), TDR_KWARGS("c", 0)) == 15);
	expect_true(call_sum(agent, TDR_ARGS(1, 2, 3), NULL) == -1);
	expect_error("test::sum() takes 2 positional arguments but 3 were given");
	expect_true(call_sum(agent, TDR_NO_ARGS, NULL) == -1);
	expect_error("missing argument");
	expect_true(call_sum(agent, TDR_ARGS("one"), NULL) == -1);
	expect_error("must be int, not str");
	expect_true(call_sum(agent, TDR_ARGS(1), TDR_KWARGS("d", 1)) == -1);
	expect_error("unknown argument 'd'");
	group_end(&group);
}

static void functions_learn_who_calls(void **state)
{
	const struct group_config config = {.prepare = prepare_sum};
	tdr_value *result = NULL;
	const char *text = "";
	struct group group;

	group_start(&group, 3, &config);
	expect_ok(tdr_rpc_sync(group.agents[2], "worker1", "test::caller", NULL, NULL, &result));
	expect_ok(tdr_value_get_string(result, &text, NULL));
	expect_true(strcmp(text, "worker2 2 test::caller") == 0);
	tdr_value_unref(result);
	group_end(&group);
}

/* ---- failing ---- */

static tdr_status fail_with_text(tdr_call *call, void *context)
{
	return tdr_fail(call, TDR_ENOTFOUND, "no layer %d", 12);
}

static tdr_status fail_plainly(tdr_call *call, void *context)
{
	return TDR_EUNSUPPORTED;
}

static tdr_status fail_oddly(tdr_call *call, void *context)
{
	return (tdr_status)12345;
}

static tdr_status return_text(tdr_call *call, void *context)
{
	return tdr_return_string(call, "text");
}

static tdr_status return_shared(tdr_call *call, void *context)
{
	tdr_value *list = tdr_list(1, (tdr_value *[]){tdr_int(1)});

	return tdr_return(call, TDR_ARGS(tdr_value_ref(list), list));
}

static tdr_status return_twice(tdr_call *call, void *context)
{
	expect_ok(tdr_return_int(call, 1));
	expect_status(tdr_return_int(call, 2), TDR_ESTATE);
	return TDR_OK;
}

static tdr_status return_invalid(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_string("\xff"));
}

static tdr_status take_tensor(tdr_call *call, void *context)
{
	return TDR_OK;
}

static void prepare_failures(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::fail()", fail_with_text, NULL, 0));
	expect_ok(tdr_register(agent, "test::fail_plainly()", fail_plainly, NULL, 0));
	expect_ok(tdr_register(agent, "test::fail_oddly()", fail_oddly, NULL, TDR_FUNCTION_INLINE));
	expect_ok(tdr_register(agent, "test::text() -> int", return_text, NULL, 0));
	expect_ok(tdr_register(agent, "test::shared()", return_shared, NULL, 0));
	expect_ok(tdr_register(agent, "test::twice() -> int", return_twice, NULL, 0));
	expect_ok(tdr_register(agent, "test::invalid()", return_invalid, NULL, 0));
	expect_ok(tdr_register(agent, "ps::push(Tensor grad, *, float lr=0.1)", take_tensor, NULL, 0));
}

static tdr_status call(tdr_agent *agent, const char *worker, const char *function, tdr_value *args)
{
	return tdr_rpc_sync(agent, worker, function, args, NULL, NULL);
}

static void failures_say_what_failed_and_where(void **state)
{
	const struct group_config config = {.prepare = prepare_failures};
	struct group group;

	group_start(&group, 2, &config);
	for (size_t i = 0; i < 2; i++) { /* another, oneself */
		tdr_agent *agent = group.agents[i];

		expect_status(call(agent, "worker1", "test::fail", NULL), TDR_ENOTFOUND);
		expect_error("test::fail on worker 'worker1': no layer 12");
		expect_status(call(agent, "worker1", "test::fail_plainly", NULL), TDR_EUNSUPPORTED);
		expect_error("not supported");
		expect_status(call(agent, "worker1", "test::fail_oddly", NULL), TDR_EREMOTE);
		expect_status(call(agent, "worker1", "test::text", NULL), TDR_ETYPE);
		expect_error("test::text() returned str where its schema says int");
		expect_status(call(agent, "worker1", "test::shared", NULL), TDR_ESHARED);
		expect_error("the result cannot be sent");
		expect_true(call_int(agent, "worker1", "test::twice", NULL) == 1);
		expect_status(call(agent, "worker1", "test::invalid", NULL), TDR_EINVAL);
		expect_status(call(agent, "worker1", "ps::push", TDR_ARGS(3)), TDR_ETYPE);
		expect_error("ps::push(): argument 'grad' (position 1) must be Tensor, not int");
		expect_status(call(agent, "worker1", "ps::psh", NULL), TDR_ENOFUNCTION);
		expect_error("did you mean 'ps::push'");
		expect_status(call(agent, "worker7", "ps::push", NULL), TDR_ENOWORKER);
		expect_error("could not find destination name worker7");
	}
	group_end(&group);
}

static void arguments_that_cannot_be_sent_fail_at_the_caller(void **state)
{
	tdr_value *list = tdr_list(1, (tdr_value *[]){tdr_int(1)}), *deep = tdr_int(7);
	tdr_rpc_options options;
	tdr_future *future;
	struct group group;

	group_start(&group, 2, NULL);
	expect_status(call(group.agents[0], "worker1", "test::echo", TDR_ARGS(TDR_ARGS(tdr_value_ref(list), list))),
	              TDR_ESHARED);
	expect_status(call(group.agents[0], "worker1", "test::echo", TDR_ARGS("\xff")), TDR_EINVAL);
	expect_status(call(group.agents[0], "worker1", "test::echo", tdr_int(3)), TDR_EINVAL);
	expect_error("args must be a tuple or a list");
	expect_status(tdr_rpc_sync(group.agents[0], "worker1", "test::echo", NULL, tdr_int(3), NULL), TDR_EINVAL);
	expect_error("kwargs must be a dict");
	for (int i = 0; i < 100; i++)
		deep = tdr_list(1, &deep);
	expect_status(call(group.agents[0], "worker1", "test::echo", TDR_ARGS(deep)), TDR_ELIMIT);
	tdr_rpc_options_init(&options);
	options.size = 3;
	future = tdr_rpc_async_with(group.agents[0], "worker1", "test::echo", NULL, NULL, &options);
	expect_future(future, TDR_EINVAL, "tdr_rpc_options_init");
	call_ok(group.agents[0], "worker1", "test::echo", TDR_ARGS(1));
	group_end(&group);
}

static void functions_come_and_go_while_members(void **state)
{
	struct group group;

	group_start(&group, 2, NULL);
	expect_status(call(group.agents[0], "worker1", "late::sum", TDR_ARGS(1)), TDR_ENOFUNCTION);
	expect_ok(tdr_register(group.agents[1], "late::sum(int a, int b=1, int c=1) -> int", sum, NULL, 0));
	expect_status(tdr_register(group.agents[1], "late::sum(int a)", sum, NULL, 0), TDR_EEXISTS);
	expect_status(tdr_register(group.agents[1], "late::wrong(int", sum, NULL, 0), TDR_EINVAL);
	expect_true(call_int(group.agents[0], "worker1", "late::sum", TDR_ARGS(1)) == 3);
	expect_ok(tdr_unregister(group.agents[1], "late::sum"));
	expect_status(tdr_unregister(group.agents[1], "late::sum"), TDR_ENOFUNCTION);
	expect_status(call(group.agents[0], "worker1", "late::sum", TDR_ARGS(1)), TDR_ENOFUNCTION);
	group_end(&group);
}

/* ---- from many threads ---- */

enum {
	CALLERS = 8,
	CALLS = 200
};

static void call_often(void *context, size_t index)
{
	const struct group *group = context;

	for (int i = 0; i < CALLS; i++) {
		int64_t number = (int64_t)index * CALLS + i;

		expect_true(call_int(group->agents[index % 3], worker_name((size_t)i % 3), "test::echo",
		                     TDR_ARGS(number)) == number);
	}
}

static void many_threads_call_at_once(void **state)
{
	const struct group_config *configs[] = {NULL, &one_engine};

	for (size_t i = 0; i < 2; i++) {
		struct group group;

		group_start(&group, 3, configs[i]);
		in_parallel(CALLERS, call_often, &group);
		group_end(&group);
	}
}

static void members_are_found_by_name_and_number(void **state)
{
	tdr_worker worker, self;
	struct group group;

	group_start(&group, 3, NULL);
	expect_true(tdr_worker_count(group.agents[1]) == 3);
	self = tdr_agent_worker(group.agents[1]);
	expect_true(self.id == 1 && strcmp(self.name, "worker1") == 0 && self.incarnation != 0);
	for (size_t i = 0; i < 3; i++) {
		expect_ok(tdr_worker_at(group.agents[1], i, &worker));
		expect_true(worker.id == i && strcmp(worker.name, worker_name(i)) == 0);
		expect_ok(tdr_worker_by_name(group.agents[1], worker_name(i), &worker));
		expect_true(worker.id == i);
		expect_true(worker.incarnation == tdr_agent_worker(group.agents[i]).incarnation);
		expect_ok(tdr_worker_by_id(group.agents[1], (uint32_t)i, &worker));
	}
	expect_status(tdr_worker_at(group.agents[1], 3, &worker), TDR_ENOWORKER);
	expect_status(tdr_worker_by_name(group.agents[1], "nobody", &worker), TDR_ENOWORKER);
	expect_status(tdr_worker_by_name(group.agents[1], NULL, &worker), TDR_ENOWORKER);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(each_kind_of_value_comes_back_equal),
	    TEST(tensors_come_with_their_shape_and_what_they_share),
	    TEST(tensors_of_all_sizes_cross),
	    TEST(long_texts_and_bytes_cross),
	    TEST(arguments_and_results_are_isolated),
	    TEST(arguments_are_bound_by_position_and_keyword),
	    TEST(functions_learn_who_calls),
	    TEST(failures_say_what_failed_and_where),
	    TEST(arguments_that_cannot_be_sent_fail_at_the_caller),
	    TEST(functions_come_and_go_while_members),
	    TEST(many_threads_call_at_once),
	    TEST(members_are_found_by_name_and_number),
	};

	return cmocka_run_group_tests_name("calls", tests, NULL, NULL);
}
