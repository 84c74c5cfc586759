/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in operators, called by name on a member: the public libraries alone, as a program would use them. */
#include <tendril.h>
#include <tendril/operators.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static tdr_agent *agent;

static int start(void **state)
{
	tdr_agent_options options;
	tdr_store *store;

	tdr_agent_options_init(&options);
	assert_int_equal(tdr_store_hash(&store), TDR_OK);
	options.store = store;
	options.rank = 0;
	options.world_size = 1;
	agent = tdr_agent_new("worker", &options);
	assert_non_null(agent);
	tdr_store_unref(store);
	assert_int_equal(tdr_register_operators(agent), TDR_OK);
	assert_int_equal(tdr_join(agent), TDR_OK);
	return 0;
}

static int stop(void **state)
{
	return tdr_shutdown(agent, NULL) != TDR_OK;
}

/* A 2 x 2 tensor of f32. */
static tdr_tensor *square(float a, float b, float c, float d)
{
	float numbers[] = {a, b, c, d};
	tdr_tensor *tensor;

	assert_int_equal(tdr_tensor_copy_of(numbers, TDR_F32, TDR_SHAPE(2, 2), &tensor), TDR_OK);
	return tensor;
}

static void expect_square(tdr_status status, tdr_value *value, float a, float b, float c, float d)
{
	float expected[] = {a, b, c, d};
	tdr_tensor *tensor;

	if (status != TDR_OK)
		print_message("%s\n", tdr_last_error());
	assert_int_equal(status, TDR_OK);
	assert_int_equal(tdr_value_get_tensor(value, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_numel(tensor), 4);
	assert_memory_equal(tdr_tensor_data(tensor), expected, sizeof(expected));
	tdr_value_unref(value);
}

static void test_operators_by_name(void **state)
{
	tdr_tensor *a = square(1, 2, 3, 4), *b = square(10, 20, 30, 40);
	tdr_value *value = NULL;
	tdr_status status;

	status = tdr_rpc_sync(agent, "worker", "aten::add", TDR_ARGS(a, b), NULL, &value);
	expect_square(status, value, 11, 22, 33, 44);
	status = tdr_rpc_sync(agent, "worker", "aten::add.Tensor", TDR_ARGS(a, b), TDR_KWARGS("alpha", 2), &value);
	expect_square(status, value, 21, 42, 63, 84);
	status = tdr_rpc_sync(agent, "worker", "aten::add", TDR_ARGS(a, 1), NULL, &value);
	expect_square(status, value, 2, 3, 4, 5);
	status = tdr_rpc_sync(agent, "worker", "aten::matmul", TDR_ARGS(a, b), NULL, &value);
	expect_square(status, value, 70, 100, 150, 220);
	tdr_tensor_unref(a);
	tdr_tensor_unref(b);
}

static void test_operators_refuse_what_they_must(void **state)
{
	tdr_tensor *a = square(1, 2, 3, 4), *b;

	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(3), &b), TDR_OK);
	assert_int_not_equal(tdr_rpc_sync(agent, "worker", "aten::add", TDR_ARGS(a, b), NULL, NULL), TDR_OK);
	assert_non_null(strstr(tdr_last_error(), "must match the size of tensor b (3)"));
	assert_int_equal(tdr_rpc_sync(agent, "worker", "aten::ad", TDR_ARGS(a, b), NULL, NULL), TDR_ENOFUNCTION);
	tdr_tensor_unref(a);
	tdr_tensor_unref(b);
}

/* Of a tensor that a reference stands for, by a short name. */
static void test_operators_on_references(void **state)
{
	tdr_tensor *a = square(1, 2, 3, 4), *b = square(10, 20, 30, 40);
	tdr_rref *first = tdr_rref_new(agent, tdr_tensor_value(a)), *sum;
	tdr_value *value = NULL;
	tdr_status status;

	assert_non_null(first);
	status = tdr_rref_rpc_sync(first, "add", TDR_ARGS(b), NULL, &value);
	expect_square(status, value, 11, 22, 33, 44);
	sum = tdr_rref_remote(first, "add", TDR_ARGS(b), NULL);
	status = tdr_rref_to_here(sum, TDR_TIMEOUT_DEFAULT, &value);
	expect_square(status, value, 11, 22, 33, 44);
	assert_int_equal(tdr_rref_rpc_sync(first, "no_such", NULL, NULL, NULL), TDR_ENOFUNCTION);
	tdr_rref_unref(sum);
	tdr_rref_unref(first);
	tdr_tensor_unref(a);
	tdr_tensor_unref(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_operators_by_name),
	    cmocka_unit_test(test_operators_refuse_what_they_must),
	    cmocka_unit_test(test_operators_on_references),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
