/* SPDX-License-Identifier: Apache-2.0 */
/* The schema language: what is taken, what it means, and what is refused with which words. */
#include "base/macros.h"
#include "function/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct schema *parse(const char *text)
{
	struct schema *schema = NULL;

	if (schema_parse(text, &schema) != TDR_OK)
		fail_msg("%s: %s", text, tdr_last_error());
	return schema;
}

/* Writes a parsed schema in one canonical form. */
static void describe(const struct schema *schema, char *buffer, size_t size)
{
	char type[256], initial[256];
	size_t used = (size_t)snprintf(buffer, size, "%s(", schema->name);

	for (size_t i = 0; i < schema->nparameters; i++) {
		const struct parameter *parameter = &schema->parameters[i];

		type_print(&parameter->type, type, sizeof(type));
		initial[0] = '\0';
		if (parameter->initial)
			tdr_value_print(parameter->initial, initial, sizeof(initial));
		used += (size_t)snprintf(buffer + used, size - used, "%s%s%s %s%s%s", i > 0 ? ", " : "",
		                         i == schema->npositional ? "*, " : "", type, parameter->name,
		                         parameter->initial ? "=" : "", initial);
	}
	type_print(&schema->returns, type, sizeof(type));
	snprintf(buffer + used, size - used, ") -> %s", type);
}

static void test_accepts(void **state)
{
	static const struct {
		const char *text, *meaning; /* NULL: the text itself */
	} rows[] = {
	    {"ps::push(Tensor grad, *, float lr=0.1) -> int", NULL},
	    {"f()", "f() -> Any"},
	    {"  a::b::c.d ( )  ->  Any  ", "a::b::c.d() -> Any"},
	    {"\ta::f\n(int\r\nx)->None", "a::f(int x) -> None"},
	    {"a::f(Tensor a, int b, float c, complex d, bool e, str f, bytes g, Device h, RRef i, Any j, Scalar k) -> "
	     "Any",
	     NULL},
	    {"a::f(int[] a, int[2] b, int? c, int[]? d, int?[] e, int[][3] f) -> int[]", NULL},
	    {"a::f((int, str) a, (Tensor, (int, int)[])? b, Dict(str, int[]) c) -> Dict(int, Dict(str, Any?))", NULL},
	    {"a::f((int) a) -> ()", "a::f((int) a) -> None"},
	    {"a::f() -> (Tensor)", "a::f() -> Tensor"},
	    {"a::f() -> (Tensor)[]", "a::f() -> (Tensor)[]"},
	    {"a::f() -> Tensor out", "a::f() -> Tensor"},
	    {"a::f() -> (Tensor values, Tensor indices)", "a::f() -> (Tensor, Tensor)"},
	    {"aten::add_.Tensor(Tensor(a!) self, Tensor other, *, Scalar alpha=1) -> Tensor(a!)",
	     "aten::add_.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor"},
	    {"a::f(Tensor(a! -> a|b)[] x, Tensor(a -> *) y, Tensor[](c) z) -> (Tensor(a), Tensor(b) w)",
	     "a::f(Tensor[] x, Tensor y, Tensor[] z) -> (Tensor, Tensor)"},
	    {"a::f(*, int a, int b=1, int c)", "a::f(*, int a, int b=1, int c) -> Any"},
	    {"a::f(int _x1, int from, int None)", "a::f(int _x1, int from, int None) -> Any"},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct schema *schema = parse(rows[i].text);
		char text[1024];
		const char *wanted = rows[i].meaning ? rows[i].meaning : rows[i].text;

		describe(schema, text, sizeof(text));
		assert_string_equal(text, wanted);
		assert_string_equal(schema->text, rows[i].text);
		assert_null(schema_free(schema));
	}
}

static void test_defaults(void **state)
{
	static const struct {
		const char *type, *literal, *printed;
	} rows[] = {
	    {"int?", "None", "None"},
	    {"bool", "True", "True"},
	    {"bool", "False", "False"},
	    {"bool", "1", "True"},
	    {"int", "0", "0"},
	    {"int", "-7", "-7"},
	    {"int", "+7", "7"},
	    {"int", "9223372036854775807", "9223372036854775807"},
	    {"int", "-9223372036854775808", "-9223372036854775808"},
	    {"float", "0.5", "0.5"},
	    {"float", ".5", "0.5"},
	    {"float", "5.", "5.0"},
	    {"float", "-1.5e2", "-150.0"},
	    {"float", "1E+2", "100.0"},
	    {"float", "3", "3.0"},
	    {"float", "inf", "inf"},
	    {"float", "-inf", "-inf"},
	    {"float", "nan", "nan"},
	    {"complex", "1j", "1j"},
	    {"complex", "-.5j", "-0.5j"},
	    {"complex", "1 + 2j", "(1+2j)"},
	    {"complex", "1.5-2j", "(1.5-2j)"},
	    {"complex", "2", "(2+0j)"},
	    {"str", "\"text\"", "'text'"},
	    {"str", "'it\\'s'", "\"it's\""},
	    {"str", "'a, b) -> c'", "'a, b) -> c'"},
	    {"str", "'\\x41\\u00e9\\n'", "'A\xc3\xa9\\n'"},
	    {"str", "''", "''"},
	    {"bytes", "b'\\xff\\0a'", "b'\\xff\\x00a'"},
	    {"bytes", "b\"\"", "b''"},
	    {"Device", "'cuda:1'", "device(type='cuda', index=1)"},
	    {"Device", "\"cpu\"", "device(type='cpu')"},
	    {"int[]", "[]", "[]"},
	    {"int[]", "[1, 2,-3]", "[1, 2, -3]"},
	    {"int[2]", "3", "[3, 3]"},
	    {"float[2]", "[1, 2]", "[1.0, 2.0]"},
	    {"int[][]", "[[1], []]", "[[1], []]"},
	    {"(int, str)", "[1, 'x']", "(1, 'x')"},
	    {"Any", "[None, True, 'x']", "[None, True, 'x']"},
	    {"Scalar", "True", "True"},
	    {"Scalar?", "2.5", "2.5"},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct schema *schema;
		char text[256];

		snprintf(text, sizeof(text), "a::f(%s x=%s)", rows[i].type, rows[i].literal);
		schema = parse(text);
		assert_non_null(schema->parameters[0].initial);
		tdr_value_print(schema->parameters[0].initial, text, sizeof(text));
		assert_string_equal(text, rows[i].printed);
		schema_free(schema);
	}
}

static void test_refuses(void **state)
{
	static const struct {
		const char *text, *error;
	} rows[] = {
	    {"", "column 1 of '': expected a name, as in 'space::name(...)', found the end"},
	    {"ps::push(Tenso grad)", "column 10 of 'ps::push(Tenso grad)': expected a type, found 'Tenso'"},
	    {"1f()", "column 1 of '1f()': expected a name, as in 'space::name(...)', found '1'"},
	    {"a::", "column 4 of 'a::': expected a name, as in 'space::name(...)', found the end"},
	    {"a::f.()", "column 6 of 'a::f.()': expected the name of an overload, found '('"},
	    {"a :: f()", "column 2 of 'a :: f()': a space inside the function's name"},
	    {"a:f()", "column 2 of 'a:f()': expected '(', found ':'"},
	    {"f", "column 2 of 'f': expected '(', found the end"},
	    {"f(", "column 3 of 'f(': expected a type, found the end"},
	    {"f(int", "column 6 of 'f(int': expected the parameter's name, found the end"},
	    {"f(int)", "column 6 of 'f(int)': expected the parameter's name, found ')'"},
	    {"f(int a", "column 8 of 'f(int a': expected ',' or ')', found the end"},
	    {"f(int a,)", "column 9 of 'f(int a,)': expected a type, found ')'"},
	    {"f(int a int b)", "column 9 of 'f(int a int b)': expected ',' or ')', found 'int'"},
	    {"f(int a, str a)", "column 14 of 'f(int a, str a)': two parameters are named 'a'"},
	    {"f(int a=1, int b)",
	     "column 16 of 'f(int a=1, int b)': 'b' needs a default, since the parameter before it has one"},
	    {"f(*)", "column 4 of 'f(*)': expected ',', found ')'"},
	    {"f(*, int a, *, int b)", "column 13 of 'f(*, int a, *, int b)': expected a type, found '*'"},
	    {"f() -> ", "column 8 of 'f() -> ': expected a type, found the end"},
	    {"f() int", "column 5 of 'f() int': expected '->' or the end, found 'int'"},
	    {"f() -> int x y", "column 14 of 'f() -> int x y': expected the end, found 'y'"},
	    {"f(int[ a)", "column 8 of 'f(int[ a)': expected ']' or a number of items, found 'a'"},
	    {"f(int[0] a)", "column 7 of 'f(int[0] a)': expected ']' or a number of items, found '0'"},
	    {"f(int[2 a)", "column 9 of 'f(int[2 a)': expected ']', found 'a'"},
	    {"f(int?? a)", "column 7 of 'f(int?? a)': '?' twice"},
	    {"f((int a) b)", "column 8 of 'f((int a) b)': expected ',' or ')', found 'a'"},
	    {"f((int,) b)", "column 8 of 'f((int,) b)': expected a type, found ')'"},
	    {"f(Dict(str) d)", "column 8 of 'f(Dict(str) d)': expected Dict(K, V), found 1 types"},
	    {"f(Dict d)", "column 8 of 'f(Dict d)': expected '(', found 'd'"},
	    {"f(Dict(Tensor, int) d)",
	     "column 8 of 'f(Dict(Tensor, int) d)': a tensor, native object, list or dict cannot be the key of a dict"},
	    {"f(Tensor(1) a)", "column 10 of 'f(Tensor(1) a)': expected the name of an alias set, found '1'"},
	    {"f(Tensor(a a)", "column 12 of 'f(Tensor(a a)': expected ')', found 'a'"},
	    {"f(int a=)", "column 9 of 'f(int a=)': expected a default value, found ')'"},
	    {"f(int a=Mean)", "column 9 of 'f(int a=Mean)': expected a default value, found 'Mean'"},
	    {"f(int a=-)", "column 9 of 'f(int a=-)': expected a default value, found '-'"},
	    {"f(int a=1.5)", "column 9 of 'f(int a=1.5)': the default of 'a' must be int, not float"},
	    {"f(int a=True)", "column 9 of 'f(int a=True)': the default of 'a' must be int, not bool"},
	    {"f(Tensor a=None)", "column 12 of 'f(Tensor a=None)': the default of 'a' must be Tensor, not None"},
	    {"f(int[] a=[1, 'x'])", "column 11 of 'f(int[] a=[1, 'x'])': the default of 'a'[1] must be int, not str"},
	    {"f(int a=9223372036854775808)",
	     "column 9 of 'f(int a=9223372036854775808)': an int that does not fit 64 bits"},
	    {"f(int a=0x10)", "column 10 of 'f(int a=0x10)': expected ',' or ')', found 'x10'"},
	    {"f(complex a=1+2)",
	     "column 14 of 'f(complex a=1+2)': expected the imaginary part of a complex number, such as '+1j'"},
	    {"f(int[] a=[1)", "column 13 of 'f(int[] a=[1)': expected ',' or ']', found ')'"},
	    {"f(int[] a=[1,])", "column 14 of 'f(int[] a=[1,])': expected a default value, found ']'"},
	    {"f(str a='x)", "column 9 of 'f(str a='x)': a string without its closing '"},
	    {"f(str a='\\q')", "column 10 of 'f(str a='\\q')': unknown escape; write '\\\\' for a backslash"},
	    {"f(str a='\\", "column 10 of 'f(str a='\\': unknown escape; write '\\\\' for a backslash"},
	    {"f(str a='\\x4')", "column 10 of 'f(str a='\\x4')': '\\x' needs 2 hexadecimal digits"},
	    {"f(str a='\xff')", "column 9 of 'f(str a='\xff')': a string that is not UTF-8; write b\"...\" for bytes"},
	    {"f(\xc3\xa9 a)", "column 3 of 'f(\xc3\xa9 a)': expected a type, found byte 0xc3"},
	    {"f(Device a='gpu')",
	     "column 12 of 'f(Device a='gpu')': the default of 'a' must be a Device such as 'cpu' or 'cuda:0', not "
	     "'gpu'"},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct schema *schema = (void *)1;

		assert_int_equal(schema_parse(rows[i].text, &schema), TDR_EINVAL);
		assert_string_equal(tdr_last_error(), rows[i].error);
		assert_ptr_equal(schema, (void *)1);
	}
}

/* ---- limits ---- */

/* "f(" and `count` parameters and ")". */
static char *many_parameters(size_t count)
{
	size_t room = 16 + count * 16, used = 2;
	char *text = malloc(room);

	strcpy(text, "f(");
	for (size_t i = 0; i < count; i++)
		used += (size_t)snprintf(text + used, room - used, "%sint p%zu", i > 0 ? "," : "", i);
	strcpy(text + used, ")");
	return text;
}

static void test_parameters_are_limited(void **state)
{
	struct schema *schema = NULL;
	char *text = many_parameters(SCHEMA_MAX_PARAMETERS);
	char place[64];

	schema = parse(text);
	assert_int_equal(schema->nparameters, SCHEMA_MAX_PARAMETERS);
	schema_free(schema);
	free(text);
	text = many_parameters(SCHEMA_MAX_PARAMETERS + 1);
	assert_int_equal(schema_parse(text, &schema), TDR_EINVAL);
	snprintf(place, sizeof(place), "column %zu of '...", (size_t)(strrchr(text, ',') - text) + 2);
	assert_int_equal(strncmp(tdr_last_error(), place, strlen(place)), 0);
	assert_non_null(strstr(tdr_last_error(), ": more than 255 parameters"));
	free(text);
}

/* "f(" `open` times `opening`, "int", `closing` as often, " x)" */
static tdr_status parse_nested(const char *opening, const char *closing, size_t times)
{
	char text[SCHEMA_MAX_TEXT + 1] = "f(";
	struct schema *schema = NULL;
	tdr_status status;

	for (size_t i = 0; i < times; i++)
		strcat(text, opening);
	strcat(text, "int");
	for (size_t i = 0; i < times; i++)
		strcat(text, closing);
	strcat(text, " x)");
	status = schema_parse(text, &schema);
	schema_free(schema);
	return status;
}

static void test_nesting_is_limited(void **state)
{
	static const struct {
		const char *opening, *closing;
		size_t most;
	} rows[] = {
	    {"", "[]", SCHEMA_MAX_DEPTH - 1},
	    {"(", ")", SCHEMA_MAX_DEPTH - 1},
	    {"(", ")[]", (SCHEMA_MAX_DEPTH - 1) / 2},
	    {"Dict(int,", ")", SCHEMA_MAX_DEPTH - 1},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		assert_int_equal(parse_nested(rows[i].opening, rows[i].closing, rows[i].most), TDR_OK);
		assert_int_equal(parse_nested(rows[i].opening, rows[i].closing, rows[i].most + 1), TDR_EINVAL);
		assert_non_null(strstr(tdr_last_error(), ": more than 16 types inside each other"));
		assert_int_equal(parse_nested(rows[i].opening, rows[i].closing, 300), TDR_EINVAL);
	}
}

static void test_default_lists_are_limited(void **state)
{
	struct schema *schema = NULL;

	assert_int_equal(schema_parse("f(Any x=[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]])", &schema), TDR_EINVAL);
	assert_non_null(strstr(tdr_last_error(), ": more than 16 lists inside each other"));
	assert_int_equal(
	    schema_parse("f(float x=0.1000000000000000000000000000000000000000000000000000000000000001)", &schema),
	    TDR_EINVAL);
	assert_non_null(strstr(tdr_last_error(), ": a number of more than 63 characters"));
	assert_int_equal(schema_parse("f(int[1025] x)", &schema), TDR_EINVAL);
	assert_non_null(strstr(tdr_last_error(), ": a list of more than 1024 items"));
}

static void test_text_is_limited(void **state)
{
	char text[SCHEMA_MAX_TEXT + 2];
	struct schema *schema = NULL;

	memset(text, ' ', sizeof(text));
	memcpy(text, "f()", 3);
	text[SCHEMA_MAX_TEXT] = '\0';
	schema = parse(text);
	schema_free(schema);
	text[SCHEMA_MAX_TEXT] = ' ';
	text[SCHEMA_MAX_TEXT + 1] = '\0';
	assert_int_equal(schema_parse(text, &schema), TDR_EINVAL);
	assert_non_null(strstr(tdr_last_error(), "a schema of more than 4096 bytes: 'f()"));
	assert_int_equal(schema_parse(NULL, &schema), TDR_EINVAL);
}

static void test_long_texts_are_quoted_in_part(void **state)
{
	char text[1024];
	struct schema *schema = NULL;
	size_t used = 2;

	strcpy(text, "f(");
	for (int i = 0; i < 40; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "int\nnumber%d, ", i);
	snprintf(text + used, sizeof(text) - used, "strr last, int after)");
	assert_int_equal(schema_parse(text, &schema), TDR_EINVAL);
	assert_non_null(strstr(tdr_last_error(), "of '..."));
	assert_non_null(
	    strstr(tdr_last_error(), ", int number39, strr last, int after)': expected a type, found 'strr'"));
}

static void test_type_print_is_cut(void **state)
{
	struct schema *schema = parse("f(Dict(str, Tensor[]) x)");
	char text[8] = "???????";

	type_print(&schema->parameters[0].type, text, sizeof(text));
	assert_string_equal(text, "Dict(st");
	type_print(&schema->parameters[0].type, text, 1);
	assert_string_equal(text, "");
	schema_free(schema);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_accepts),
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_refuses),
	    cmocka_unit_test(test_parameters_are_limited),
	    cmocka_unit_test(test_nesting_is_limited),
	    cmocka_unit_test(test_default_lists_are_limited),
	    cmocka_unit_test(test_text_is_limited),
	    cmocka_unit_test(test_long_texts_are_quoted_in_part),
	    cmocka_unit_test(test_type_print_is_cut),
	};

	return cmocka_run_group_tests_name("function/schema", tests, NULL, NULL);
}
