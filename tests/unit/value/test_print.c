/* SPDX-License-Identifier: Apache-2.0 */
/* Values as text. What is wanted here is what Python's repr() writes. */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <tendril.h>

#include <cmocka.h>

/* The value is dropped. */
static void assert_prints(tdr_value *value, const char *expected)
{
	char text[2048];
	size_t size = tdr_value_print(value, text, sizeof(text));

	assert_string_equal(text, expected);
	assert_int_equal(size, strlen(expected));
	assert_int_equal(tdr_value_print(value, NULL, 0), size);
	tdr_value_unref(value);
}

static void test_scalars(void **state)
{
	assert_prints(tdr_none(), "None");
	assert_prints(tdr_bool(true), "True");
	assert_prints(tdr_bool(false), "False");
	assert_prints(tdr_int(INT64_MIN), "-9223372036854775808");
	assert_prints(tdr_device_value(TDR_DEVICE_CPU), "device(type='cpu')");
	assert_prints(tdr_device_value((tdr_device){TDR_CUDA, 1}), "device(type='cuda', index=1)");
	assert_prints(tdr_object("pickle5", "abc", 3, 0, NULL), "<object pickle5, 3 bytes>");
	assert_prints(tdr_string("\xff"), "<invalid>");
	assert_prints(NULL, "<invalid>");
}

static void test_floats(void **state)
{
	assert_prints(tdr_float(0), "0.0");
	assert_prints(tdr_float(-0.0), "-0.0");
	assert_prints(tdr_float(1), "1.0");
	assert_prints(tdr_float(0.1), "0.1");
	assert_prints(tdr_float(0.1 + 0.2), "0.30000000000000004");
	assert_prints(tdr_float(-12.5), "-12.5");
	assert_prints(tdr_float(100), "100.0");
	assert_prints(tdr_float(0.0001), "0.0001");
	assert_prints(tdr_float(0.00001), "1e-05");
	assert_prints(tdr_float(123456789012345680.0), "1.2345678901234568e+17");
	assert_prints(tdr_float(1e15), "1000000000000000.0");
	assert_prints(tdr_float(9999999999999998.0), "9999999999999998.0");
	assert_prints(tdr_float(1e16), "1e+16");
	assert_prints(tdr_float(1e22), "1e+22");
	assert_prints(tdr_float(1.7976931348623157e308), "1.7976931348623157e+308");
	assert_prints(tdr_float(5e-324), "5e-324");
	assert_prints(tdr_float((double)INFINITY), "inf");
	assert_prints(tdr_float(-(double)INFINITY), "-inf");
	assert_prints(tdr_float((double)NAN), "nan");
	assert_prints(tdr_float(-(double)NAN), "nan");
}

static void test_complex(void **state)
{
	assert_prints(tdr_complex(1, 2), "(1+2j)");
	assert_prints(tdr_complex(1.5, -2.25), "(1.5-2.25j)");
	assert_prints(tdr_complex(0, 2), "2j");
	assert_prints(tdr_complex(-0.0, 2), "(-0+2j)");
	assert_prints(tdr_complex((double)INFINITY, (double)NAN), "(inf+nanj)");
}

static void test_locale_does_not_matter(void **state)
{
	const char *locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"};

	for (size_t i = 0; i < 3 && !setlocale(LC_NUMERIC, locales[i]); i++)
		;
	assert_prints(tdr_float(1234.5), "1234.5");
	setlocale(LC_NUMERIC, "C");
}

static void test_bigints(void **state)
{
	uint8_t bytes[513] = {0};
	char expected[2048] = "";

	assert_prints(tdr_value_of_uint(UINT64_MAX), "18446744073709551615");
	assert_prints(tdr_bigint("\0\0\0\0\0\0\0\0\1", 9), "18446744073709551616");
	assert_prints(tdr_bigint("\0\0\0\0\0\0\0\0\xff", 9), "-18446744073709551616");
	assert_prints(tdr_bigint("\xff\xff\xff\xff\xff\xff\xff\x7f\xff", 9), "-9223372036854775809");
	bytes[12] = 1;
	assert_prints(tdr_bigint(bytes, 13), "79228162514264337593543950336");
	bytes[12] = 0;
	bytes[512] = 0xf0;
	bytes[511] = 0x12;
	/* Past 512 bytes in hexadecimal. */
	strcpy(expected, "-0x0fee");
	memset(expected + strlen(expected), '0', 2 * (size_t)511);
	assert_prints(tdr_bigint(bytes, 513), expected);
}

static void test_text(void **state)
{
	assert_prints(tdr_string(""), "''");
	assert_prints(tdr_string("it's"), "\"it's\"");
	assert_prints(tdr_string("it's \"so\""), "'it\\'s \"so\"'");
	assert_prints(tdr_string("\"so\""), "'\"so\"'");
	assert_prints(tdr_string("a\\b\n\r\t\x01\x7f"), "'a\\\\b\\n\\r\\t\\x01\\x7f'");
	assert_prints(tdr_string_n("a\0b", 3), "'a\\x00b'");
	assert_prints(tdr_string("caf\xc3\xa9 \xf0\x9f\x8c\xb1"), "'caf\xc3\xa9 \xf0\x9f\x8c\xb1'");
	assert_prints(tdr_string("\xc2\x85\xc2\xa0"), "'\\x85\\xa0'");
	assert_prints(tdr_string("\xed\xa0\x80"), "'\\ud800'");
	assert_prints(tdr_bytes("a'\0\xff\n", 5), "b\"a'\\x00\\xff\\n\"");
	assert_prints(tdr_bytes(NULL, 0), "b''");
}

static void test_containers(void **state)
{
	tdr_value *set = tdr_set_new(), *dict = tdr_dict_new();

	assert_prints(tdr_list(0, NULL), "[]");
	assert_prints(tdr_tuple(0, NULL), "()");
	assert_prints(tdr_set_new(), "set()");
	assert_prints(tdr_dict_new(), "{}");
	assert_prints(TDR_ARGS(1), "(1,)");
	assert_prints(TDR_ARGS(1, "a", TDR_ARGS(2.0, tdr_none())), "(1, 'a', (2.0, None))");
	assert_prints(tdr_list(2, (tdr_value *const[]){tdr_int(1), tdr_list(0, NULL)}), "[1, []]");
	tdr_set_add(set, tdr_int(1));
	tdr_set_add(set, tdr_string("x"));
	assert_prints(set, "{1, 'x'}");
	tdr_dict_put(dict, TDR_ARGS(1, 2), tdr_bool(true));
	tdr_dict_set(dict, "k", tdr_int(2));
	assert_prints(dict, "{(1, 2): True, 'k': 2}");
}

static void test_tensors(void **state)
{
	tdr_tensor *matrix, *scalar;

	assert_int_equal(tdr_tensor_zeros(TDR_F32, TDR_SHAPE(2, 3), &matrix), TDR_OK);
	assert_int_equal(tdr_tensor_zeros(TDR_BF16, 0, NULL, &scalar), TDR_OK);
	assert_prints(tdr_tensor_value(matrix), "Tensor(f32, [2, 3])");
	assert_prints(tdr_tensor_value(scalar), "Tensor(bf16, [])");
	tdr_tensor_unref(matrix);
	tdr_tensor_unref(scalar);
}

static void assert_cut(const tdr_value *value, size_t size, const char *expected)
{
	char buffer[64];

	memset(buffer, '#', sizeof(buffer));
	tdr_value_print(value, buffer, size);
	assert_string_equal(buffer, expected);
	assert_int_equal(buffer[size], '#');
}

static void test_long_text_is_cut(void **state)
{
	tdr_value *text = tdr_string("0123456789"), *wide = tdr_string("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9");

	assert_cut(text, 13, "'0123456789'");
	assert_cut(text, 12, "'0123456...");
	assert_cut(text, 5, "'...");
	assert_cut(text, 4, "...");
	assert_cut(text, 3, "..");
	assert_cut(text, 1, "");
	/* Not in the middle of a character. */
	assert_cut(wide, 9, "'\xc3\xa9\xc3\xa9...");
	assert_cut(wide, 10, "'\xc3\xa9\xc3\xa9...");
	tdr_value_unref(text);
	tdr_value_unref(wide);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_scalars),          cmocka_unit_test(test_floats),
	    cmocka_unit_test(test_complex),          cmocka_unit_test(test_locale_does_not_matter),
	    cmocka_unit_test(test_bigints),          cmocka_unit_test(test_text),
	    cmocka_unit_test(test_containers),       cmocka_unit_test(test_tensors),
	    cmocka_unit_test(test_long_text_is_cut),
	};

	return cmocka_run_group_tests_name("value/print", tests, NULL, NULL);
}
