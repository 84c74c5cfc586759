/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operators on their own: the table, how overloads are found, the texts of errors, what is written in place and
 * what is not. compare_torch.py compares their results with PyTorch's at length.
 */
#include "harness.h"

#include "operators/operators.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <tendril/args.h>

static tdr_tensor *floats(size_t ndim, const int64_t *sizes, const float *items)
{
	tdr_tensor *tensor = NULL;

	assert_int_equal(tdr_tensor_copy_of(items, TDR_F32, ndim, sizes, &tensor), TDR_OK);
	return tensor;
}

static tdr_tensor *ints(size_t ndim, const int64_t *sizes, const int64_t *items)
{
	tdr_tensor *tensor = NULL;

	assert_int_equal(tdr_tensor_copy_of(items, TDR_I64, ndim, sizes, &tensor), TDR_OK);
	return tensor;
}

/* The result of a call that must succeed; to be dropped by the caller. */
static tdr_tensor *result_of(const char *name, tdr_value *args, tdr_value *kwargs)
{
	tdr_value *value = NULL;
	tdr_tensor *tensor = NULL;

	if (harness_call(name, args, kwargs, &value) != TDR_OK)
		fail_msg("%s", harness_error());
	assert_int_equal(tdr_value_get_tensor(value, &tensor), TDR_OK);
	tdr_tensor_ref(tensor);
	tdr_value_unref(value);
	return tensor;
}

/* A call that must fail with this status, and this in its text. */
static void refused(const char *name, tdr_value *args, tdr_value *kwargs, tdr_status status, const char *text)
{
	tdr_value *value = NULL;

	assert_int_equal(harness_call(name, args, kwargs, &value), status);
	assert_null(value);
	if (!strstr(harness_error(), text))
		fail_msg("'%s' is not in '%s'", text, harness_error());
}

static float float_at(const tdr_tensor *tensor, size_t index)
{
	assert_int_equal(tdr_tensor_dtype(tensor), TDR_F32);
	return ((const float *)tdr_tensor_data(tensor))[index];
}

static int64_t int_at(const tdr_tensor *tensor, size_t index)
{
	assert_int_equal(tdr_tensor_dtype(tensor), TDR_I64);
	return ((const int64_t *)tdr_tensor_data(tensor))[index];
}

static void test_short_names_find_overloads(void **state)
{
	tdr_tensor *a = floats(TDR_SHAPE(2), (const float[]){1, 2}), *sum;

	(void)state;
	sum = result_of("aten::add", TDR_ARGS(a, a), NULL);
	assert_float_equal(float_at(sum, 1), 4, 0);
	tdr_tensor_unref(sum);
	sum = result_of("aten::add", TDR_ARGS(a, 3), TDR_KWARGS("alpha", 2));
	assert_float_equal(float_at(sum, 1), 8, 0);
	tdr_tensor_unref(sum);
	sum = result_of("aten::add.Scalar", TDR_ARGS(a, 0.5), NULL);
	assert_float_equal(float_at(sum, 0), 1.5, 0);
	tdr_tensor_unref(sum);
	sum = result_of("aten::sum", TDR_ARGS(a), NULL);
	assert_float_equal(float_at(sum, 0), 3, 0);
	tdr_tensor_unref(sum);
	sum = result_of("aten::sum", TDR_ARGS(a, -1, 1), NULL);
	assert_int_equal(tdr_tensor_ndim(sum), 1);
	tdr_tensor_unref(sum);
	refused("aten::add", TDR_ARGS(a, "text"), NULL, TDR_ETYPE,
	        "'other' must be a bool, an int or a float, not str");
	refused("aten::add", TDR_ARGS(1, a), NULL, TDR_ETYPE, "self");
	tdr_tensor_unref(a);
}

static void test_dtypes_by_number_and_name(void **state)
{
	static const struct {
		const char *name;
		int64_t number;
		tdr_dtype dtype;
	} cases[] = {
	    {"float32", 6, TDR_F32},       {"f64", 7, TDR_F64},  {"torch.int64", 4, TDR_I64},
	    {"torch.float64", 7, TDR_F64}, {"long", 4, TDR_I64}, {"bool", 11, TDR_BOOL},
	};
	tdr_value *size = tdr_list(0, NULL);
	tdr_tensor *tensor;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		tensor = result_of("aten::ones", TDR_ARGS(tdr_value_ref(size)), TDR_KWARGS("dtype", cases[i].name));
		assert_int_equal(tdr_tensor_dtype(tensor), cases[i].dtype);
		tdr_tensor_unref(tensor);
		tensor = result_of("aten::ones", TDR_ARGS(tdr_value_ref(size)), TDR_KWARGS("dtype", cases[i].number));
		assert_int_equal(tdr_tensor_dtype(tensor), cases[i].dtype);
		tdr_tensor_unref(tensor);
	}
	refused("aten::ones", TDR_ARGS(tdr_value_ref(size)), TDR_KWARGS("dtype", "float31"), TDR_ETYPE, "is no dtype");
	refused("aten::ones", TDR_ARGS(tdr_value_ref(size)), TDR_KWARGS("dtype", 99), TDR_ETYPE, "is no dtype");
	refused("aten::ones", TDR_ARGS(tdr_value_ref(size)), TDR_KWARGS("dtype", -1), TDR_ETYPE, "is no dtype");
	refused("aten::ones", TDR_ARGS(tdr_value_ref(size)), TDR_KWARGS("dtype", "int32"), TDR_EUNSUPPORTED, "not i32");
	tdr_value_unref(size);
}

static void test_errors_say_what_is_wrong(void **state)
{
	tdr_tensor *a = floats(TDR_SHAPE(2, 3), (const float[6]){0}), *b = floats(TDR_SHAPE(4), (const float[4]){0});
	tdr_tensor *n = ints(TDR_SHAPE(2), (const int64_t[]){1, 0}), *i32 = NULL;
	tdr_tensor *far = ints(TDR_SHAPE(1), (const int64_t[]){7});

	(void)state;
	assert_int_equal(tdr_tensor_zeros(TDR_I32, TDR_SHAPE(2), &i32), TDR_OK);
	refused("aten::add.Tensor", TDR_ARGS(a, b), NULL, TDR_EINVAL,
	        "aten::add.Tensor: The size of tensor a (3) must match the size of tensor b (4) at non-singleton "
	        "dimension 1");
	refused("aten::add_.Tensor", TDR_ARGS(b, 1.5), NULL, TDR_ETYPE, "other");
	refused("aten::add_.Scalar", TDR_ARGS(n, 1.5), NULL, TDR_ETYPE,
	        "result type Float can't be cast to the desired output type Long");
	refused("aten::div", TDR_ARGS(n, n), TDR_KWARGS("rounding_mode", "floor"), TDR_EINVAL, "ZeroDivisionError");
	refused("aten::div", TDR_ARGS(a, a), TDR_KWARGS("rounding_mode", "up"), TDR_EINVAL, "found 'up'");
	refused("aten::matmul", TDR_ARGS(a, a), NULL, TDR_EINVAL,
	        "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)");
	refused("aten::sum.dim_IntList", TDR_ARGS(a, 2), NULL, TDR_EINVAL,
	        "Dimension out of range (expected to be in range of [-2, 1], but got 2)");
	refused("aten::index_select", TDR_ARGS(a, 0, far), NULL, TDR_EINVAL,
	        "index out of range in self: index 0 is 7, the dimension's size 2");
	refused("aten::exp", TDR_ARGS(i32), NULL, TDR_EUNSUPPORTED, "not i32; convert it first");
	refused("aten::mean", TDR_ARGS(n), NULL, TDR_ETYPE, "could not infer output dtype");
	tdr_tensor_unref(a);
	tdr_tensor_unref(b);
	tdr_tensor_unref(n);
	tdr_tensor_unref(far);
	tdr_tensor_unref(i32);
}

static void test_in_place_returns_its_argument(void **state)
{
	tdr_tensor *a = floats(TDR_SHAPE(2, 2), (const float[]){1, 2, 3, 4}), *same;

	(void)state;
	same = result_of("aten::mul_", TDR_ARGS(a, 2), NULL);
	assert_ptr_equal(same, a);
	assert_float_equal(float_at(a, 3), 8, 0);
	tdr_tensor_unref(same);
	tdr_tensor_unref(a);
}

/* PyTorch refuses these: what they give does not depend on the order in which elements are written. */
static void test_in_place_with_overlapping_operands(void **state)
{
	tdr_tensor *a = floats(TDR_SHAPE(2, 2), (const float[]){1, 2, 3, 4}), *turned, *same;

	(void)state;
	turned = result_of("aten::t", TDR_ARGS(a), NULL);
	same = result_of("aten::add_", TDR_ARGS(a, turned), NULL);
	tdr_tensor_unref(same);
	assert_float_equal(float_at(a, 1), 5, 0);
	assert_float_equal(float_at(a, 2), 5, 0);
	same = result_of("aten::copy_", TDR_ARGS(a, turned), NULL);
	tdr_tensor_unref(same);
	assert_float_equal(float_at(a, 1), 5, 0);
	tdr_tensor_unref(turned);
	tdr_tensor_unref(a);
}

static void test_refused_index_add_writes_nothing(void **state)
{
	tdr_tensor *a = floats(TDR_SHAPE(3), (const float[]){1, 2, 3}),
		   *more = floats(TDR_SHAPE(2), (const float[]){1, 1});
	tdr_tensor *index = ints(TDR_SHAPE(2), (const int64_t[]){0, 3});

	(void)state;
	refused("aten::index_add_", TDR_ARGS(a, 0, index, more), NULL, TDR_EINVAL, "index out of range in self");
	assert_float_equal(float_at(a, 0), 1, 0);
	tdr_tensor_unref(a);
	tdr_tensor_unref(more);
	tdr_tensor_unref(index);
}

static void test_integers_wrap(void **state)
{
	tdr_tensor *a = ints(TDR_SHAPE(2), (const int64_t[]){INT64_MAX, INT64_MIN}), *result;

	(void)state;
	result = result_of("aten::add", TDR_ARGS(a, 1), NULL);
	assert_int_equal(int_at(result, 0), INT64_MIN);
	tdr_tensor_unref(result);
	result = result_of("aten::neg", TDR_ARGS(a), NULL);
	assert_int_equal(int_at(result, 1), INT64_MIN);
	tdr_tensor_unref(result);
	result = result_of("aten::div", TDR_ARGS(a, -1), TDR_KWARGS("rounding_mode", "floor"));
	assert_int_equal(int_at(result, 1), INT64_MIN);
	tdr_tensor_unref(result);
	tdr_tensor_unref(a);
}

/* Added up one after the other in f32, these would stop growing at 16777216. */
static void test_long_sums_keep_small_addends(void **state)
{
	const int64_t sizes[] = {20000000};
	tdr_tensor *one = floats(0, NULL, (const float[]){1}), *ones = NULL, *sum;

	(void)state;
	assert_int_equal(tdr_tensor_view(tdr_tensor_storage(one), TDR_F32, 1, sizes, (const int64_t[]){0}, 0, &ones),
	                 TDR_OK);
	sum = result_of("aten::sum", TDR_ARGS(ones), NULL);
	assert_float_equal(float_at(sum, 0), 20000000, 0);
	tdr_tensor_unref(sum);
	tdr_tensor_unref(ones);
	tdr_tensor_unref(one);
}

static void test_unaligned_memory_is_refused(void **state)
{
	static _Alignas(8) uint8_t memory[16];
	tdr_tensor *tensor = NULL, *copy;

	(void)state;
	assert_int_equal(tdr_tensor_from_memory(memory + 1, TDR_F32, TDR_SHAPE(2), NULL, NULL, &tensor), TDR_OK);
	refused("aten::exp", TDR_ARGS(tensor), NULL, TDR_EUNSUPPORTED, "not aligned");
	copy = result_of("aten::clone", TDR_ARGS(tensor), NULL);
	tdr_tensor_unref(copy);
	tdr_tensor_unref(tensor);
}

/* Bytes from outside may hold any number where a bool is meant. */
static void test_any_byte_but_zero_is_true(void **state)
{
	const uint8_t bytes[] = {0, 1, 2, 255};
	tdr_tensor *a = NULL, *result;

	(void)state;
	assert_int_equal(tdr_tensor_copy_of(bytes, TDR_BOOL, TDR_SHAPE(4), &a), TDR_OK);
	result = result_of("aten::sum", TDR_ARGS(a), NULL);
	assert_int_equal(int_at(result, 0), 3);
	tdr_tensor_unref(result);
	result = result_of("aten::eq", TDR_ARGS(a, tdr_bool(true)), NULL);
	assert_memory_equal(tdr_tensor_data(result), ((const uint8_t[]){0, 1, 1, 1}), 4);
	tdr_tensor_unref(result);
	result = result_of("aten::mul", TDR_ARGS(a, a), NULL);
	assert_memory_equal(tdr_tensor_data(result), ((const uint8_t[]){0, 1, 1, 1}), 4);
	tdr_tensor_unref(result);
	tdr_tensor_unref(a);
}

static void test_sizes_are_bounded(void **state)
{
	tdr_value *many = tdr_list(0, NULL);

	(void)state;
	for (size_t i = 0; i <= TDR_MAX_DIMS; i++)
		assert_int_equal(tdr_list_append(many, tdr_int(1)), TDR_OK);
	refused("aten::zeros", TDR_ARGS(many), NULL, TDR_EINVAL, "33 dimensions are more than the 32");
	refused("aten::zeros", TDR_ARGS(tdr_list(2, (tdr_value *const[]){tdr_int(INT64_MAX), tdr_int(INT64_MAX)})),
	        NULL, TDR_ELIMIT, "");
	refused("aten::zeros", TDR_ARGS(tdr_list(1, (tdr_value *const[]){tdr_int(-1)})), NULL, TDR_EINVAL,
	        "negative dimension -1: [-1]");
}

static int open_harness(void **state)
{
	(void)state;
	harness_open();
	return 0;
}

static int close_harness(void **state)
{
	(void)state;
	harness_close();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_short_names_find_overloads),
	    cmocka_unit_test(test_dtypes_by_number_and_name),
	    cmocka_unit_test(test_errors_say_what_is_wrong),
	    cmocka_unit_test(test_in_place_returns_its_argument),
	    cmocka_unit_test(test_in_place_with_overlapping_operands),
	    cmocka_unit_test(test_refused_index_add_writes_nothing),
	    cmocka_unit_test(test_integers_wrap),
	    cmocka_unit_test(test_long_sums_keep_small_addends),
	    cmocka_unit_test(test_unaligned_memory_is_refused),
	    cmocka_unit_test(test_any_byte_but_zero_is_true),
	    cmocka_unit_test(test_sizes_are_bounded),
	};

	return cmocka_run_group_tests_name("operators", tests, open_harness, close_harness);
}
