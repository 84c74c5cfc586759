/* SPDX-License-Identifier: Apache-2.0 */
/* TDR_ARGS and TDR_KWARGS, in C and (args_cxx.cpp) in C++. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <tendril.h>

#include <cmocka.h>

tdr_value *args_of_cxx(tdr_tensor *tensor);
tdr_value *kwargs_of_cxx(void);
tdr_value *no_args_of_cxx(void);

static void assert_prints(tdr_value *value, const char *expected)
{
	char text[512];

	tdr_value_print(value, text, sizeof(text));
	assert_string_equal(text, expected);
	tdr_value_unref(value);
}

static void assert_invalid(tdr_value *value, tdr_status status, const char *words)
{
	assert_int_equal(tdr_value_status(value), status);
	assert_non_null(strstr(tdr_last_error(), words));
	tdr_value_unref(value);
}

static void test_args_of_each_type(void **state)
{
	char text[] = "text";
	const char *constant = "constant";
	signed char tiny = -1;
	unsigned short small = 65535;
	bool truth = true;
	float single = 0.25F;
	tdr_tensor *tensor;

	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(2), &tensor), TDR_OK);
	assert_prints(
	    TDR_ARGS(1, -2L, 3LL, 4U, UINT64_MAX, 0.5, single, "text", text, constant, tiny, small, truth, tdr_none(),
	             tensor, tdr_bytes("x", 1)),
	    "(1, -2, 3, 4, 18446744073709551615, 0.5, 0.25, 'text', 'text', 'constant', -1, 65535, True, None, "
	    "Tensor(f32, [2]), b'x')");
	tdr_tensor_unref(tensor);
}

static void test_null_is_none(void **state)
{
	assert_prints(TDR_ARGS((const char *)NULL, (tdr_tensor *)NULL, (tdr_value *)NULL), "(None, None, None)");
}

static void test_invalid_args_spread(void **state)
{
	assert_invalid(TDR_ARGS(1, "\xff", tdr_string("dropped")), TDR_EINVAL, "not UTF-8");
}

static void test_kwargs(void **state)
{
	assert_prints(TDR_KWARGS("lr", 0.05, "nesterov", tdr_bool(true)), "{'lr': 0.05, 'nesterov': True}");
	assert_prints(TDR_KWARGS("a", 1, "b", 2, "c", 3, "d", 4, "e", 5, "f", 6, "g", 7, "h", 8),
	              "{'a': 1, 'b': 2, 'c': 3, 'd': 4, 'e': 5, 'f': 6, 'g': 7, 'h': 8}");
	assert_prints(tdr_kwargs(0, NULL), "{}");
}

static void test_kwargs_that_are_none(void **state)
{
	assert_invalid(TDR_KWARGS("lr", 0.05, "lr", tdr_string("dropped")), TDR_EINVAL, "twice");
	assert_invalid(TDR_KWARGS(1, tdr_string("dropped")), TDR_ETYPE, "no string");
	assert_invalid(TDR_KWARGS("lr", 1, "momentum"), TDR_EINVAL, "no value");
	assert_invalid(TDR_KWARGS("\xff", 1), TDR_EINVAL, "not UTF-8");
	assert_invalid(TDR_KWARGS("lr", "\xff", "more", tdr_string("dropped")), TDR_EINVAL, "not UTF-8");
	assert_invalid(tdr_kwargs(2, NULL), TDR_EINVAL, "NULL");
	assert_invalid(tdr_kwargs(2, (tdr_value *const[]){NULL, tdr_string("dropped")}), TDR_EINVAL, "NULL");
}

static void test_cxx(void **state)
{
	tdr_tensor *tensor;

	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(2), &tensor), TDR_OK);
	assert_prints(args_of_cxx(tensor),
	              "(1, -2, 3, 4, 18446744073709551615, 0.5, 0.25, 'text', 'text', None, -3, 200, "
	              "None, Tensor(f32, [2]), None, None, True)");
	assert_prints(kwargs_of_cxx(), "{'lr': 0.05, 'steps': 3, 'nested': (1, 'x')}");
	assert_prints(no_args_of_cxx(), "()");
	tdr_tensor_unref(tensor);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_args_of_each_type),    cmocka_unit_test(test_null_is_none),
	    cmocka_unit_test(test_invalid_args_spread),  cmocka_unit_test(test_kwargs),
	    cmocka_unit_test(test_kwargs_that_are_none), cmocka_unit_test(test_cxx),
	};

	return cmocka_run_group_tests_name("value/args", tests, NULL, NULL);
}
