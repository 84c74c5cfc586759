/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments bound to parameters: what they become, and the words in which they are refused. */
#include "base/macros.h"
#include "function/schema.h"
#include "unit/value/fake_rref.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <tendril/args.h>

#include <cmocka.h>

#define MAX_BOUND 8
#define TEXT_SIZE 512

static struct schema *parse(const char *text)
{
	struct schema *schema = NULL;

	if (schema_parse(text, &schema) != TDR_OK)
		fail_msg("%s: %s", text, tdr_last_error());
	return schema;
}

/* Binds, and gives the bound values as one text, or the error's. `args` and `kwargs` are given away. */
static tdr_status bind(const char *text, tdr_value *args, tdr_value *kwargs, char result[TEXT_SIZE])
{
	struct schema *schema = parse(text);
	tdr_value *bound[MAX_BOUND], *list;
	tdr_status status;

	assert_true(schema->nparameters <= MAX_BOUND);
	memset(bound, 0x5a, sizeof(bound));
	status = schema_bind(schema, args, kwargs, bound);
	if (status == TDR_OK) {
		list = tdr_list(schema->nparameters, bound);
		tdr_value_print(list, result, TEXT_SIZE);
		tdr_value_unref(list);
	} else {
		snprintf(result, TEXT_SIZE, "%s", tdr_last_error());
		for (size_t i = 0; i < schema->nparameters; i++)
			assert_null(bound[i]);
	}
	schema_free(schema);
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
	return status;
}

static void check_bound(const char *text, tdr_value *args, tdr_value *kwargs, const char *wanted)
{
	char result[TEXT_SIZE];
	tdr_status status = bind(text, args, kwargs, result);

	assert_string_equal(result, wanted);
	assert_int_equal(status, TDR_OK);
}

static void check_refused(const char *text, tdr_value *args, tdr_value *kwargs, const char *wanted)
{
	char result[TEXT_SIZE];
	tdr_status status = bind(text, args, kwargs, result);

	assert_string_equal(result, wanted);
	assert_int_equal(status, TDR_ETYPE);
}

static tdr_value *int_past_64_bits(void)
{
	static const unsigned char bytes[9] = {[8] = 1};

	return tdr_bigint(bytes, sizeof(bytes));
}

static tdr_value *a_tensor(void)
{
	tdr_tensor *tensor = NULL;
	tdr_value *value;

	assert_int_equal(tdr_tensor_zeros(TDR_F32, 0, NULL, &tensor), TDR_OK);
	value = tdr_tensor_value(tensor);
	tdr_tensor_unref(tensor);
	return value;
}

/* A dict with these keys, whose values are their positions. */
static tdr_value *dict_of(size_t count, tdr_value *const keys[])
{
	tdr_value *dict = tdr_dict_new();

	for (size_t i = 0; i < count; i++)
		assert_int_equal(tdr_dict_put(dict, keys[i], tdr_int((int64_t)i)), TDR_OK);
	return dict;
}

#define DICT(...) dict_of(TDR_ITEMS(__VA_ARGS__))
#define LIST(...) tdr_list(TDR_ITEMS(__VA_ARGS__))

#define PUSH "ps::push(int grad, float lr=0.1, *, str tag='', int? seed=None) -> int"

static tdr_value *a_native(const char *type)
{
	static int object;

	return tdr_native(type, &object, NULL);
}

static void test_native_types(void **state)
{
	char result[TEXT_SIZE];

	assert_int_equal(bind("f(replay::Buffer self, int n=1)", TDR_ARGS(a_native("replay::Buffer")), NULL, result),
	                 TDR_OK);
	check_bound("f(replay::Buffer? self)", TDR_ARGS(tdr_none()), NULL, "[None]");
	check_refused("f(replay::Buffer self)", TDR_ARGS(a_native("replay::Other")), NULL,
	              "f(): argument 'self' (position 1) must be replay::Buffer, not replay::Other");
	check_refused("f(a::b::C[] all)", TDR_ARGS(LIST(a_native("a::b::C"), tdr_int(1))), NULL,
	              "f(): argument 'all'[1] must be a::b::C, not int");
}

static void test_order_and_defaults(void **state)
{
	check_bound("f()", NULL, NULL, "[]");
	check_bound("f()", tdr_tuple(0, NULL), tdr_dict_new(), "[]");
	check_bound(PUSH, TDR_ARGS(1), NULL, "[1, 0.1, '', None]");
	check_bound(PUSH, LIST(1, 2.5), NULL, "[1, 2.5, '', None]");
	check_bound(PUSH, TDR_ARGS(1), TDR_KWARGS("seed", 3, "lr", 2), "[1, 2.0, '', 3]");
	check_bound(PUSH, NULL, TDR_KWARGS("tag", "x", "grad", 4), "[4, 0.1, 'x', None]");
}

static void test_wrong_number_of_arguments(void **state)
{
	tdr_value *list = tdr_list(0, NULL);

	check_refused(PUSH, TDR_ARGS(1, 2, 3), NULL, "ps::push() takes 2 positional arguments but 3 were given");
	check_refused("f(int a)", TDR_ARGS(1, 2), NULL, "f() takes 1 positional argument but 2 were given");
	check_refused("f()", TDR_ARGS(1), NULL, "f() takes 0 positional arguments but 1 was given");
	check_refused(PUSH, NULL, NULL, "ps::push() is missing argument 'grad'");
	check_refused("f(int a, int b, *, int c)", NULL, TDR_KWARGS("b", 1), "f() is missing arguments 'a', 'c'");
	check_refused(PUSH, TDR_ARGS(1), TDR_KWARGS("x", 1), "ps::push() got an unknown argument 'x'");
	check_refused(PUSH, TDR_ARGS(1), TDR_KWARGS("gra", 1), "ps::push() got an unknown argument 'gra'");
	check_refused(PUSH, TDR_ARGS(1), TDR_KWARGS("grad", 1), "ps::push() got argument 'grad' twice");
	check_refused("f()", tdr_dict_new(), NULL,
	              "f() takes its positional arguments in a tuple or list, not in dict");
	check_refused("f()", NULL, list, "f() takes its keyword arguments in a dict, not in list");
	check_refused("f(int a)", NULL, DICT(tdr_int(1)), "f(): keywords must be str, not int");
}

static void test_wrong_types(void **state)
{
	check_refused("ps::push(Tensor grad)", TDR_ARGS("x"), NULL,
	              "ps::push(): argument 'grad' (position 1) must be Tensor, not str");
	check_refused(PUSH, TDR_ARGS(1, "x"), NULL, "ps::push(): argument 'lr' (position 2) must be float, not str");
	check_refused(PUSH, TDR_ARGS(1), TDR_KWARGS("lr", "x"), "ps::push(): argument 'lr' must be float, not str");
	check_refused(PUSH, TDR_ARGS(1), TDR_KWARGS("seed", "x"),
	              "ps::push(): argument 'seed' must be int or None, not str");
	check_refused("f(int[] items)", TDR_ARGS(LIST(1, 2, "x")), NULL,
	              "f(): argument 'items'[2] must be int, not str");
	check_refused("f(int[] items)", TDR_ARGS(1), NULL, "f(): argument 'items' (position 1) must be int[], not int");
	check_refused("f(int[]?[] items)", TDR_ARGS(LIST(tdr_none(), LIST(1, "x"))), NULL,
	              "f(): argument 'items'[1][1] must be int, not str");
	check_refused("f((int, str) pair)", TDR_ARGS(LIST(1)), NULL,
	              "f(): argument 'pair' (position 1) must have 2 items, not 1");
	check_refused("f((int, str) pair)", TDR_ARGS(LIST(1, 2)), NULL, "f(): argument 'pair'[1] must be str, not int");
	check_refused("f(Dict(str, int) d)", TDR_ARGS(TDR_KWARGS("a", 1, "b", "x")), NULL,
	              "f(): argument 'd'['b'] must be int, not str");
	check_refused("f(Dict(int, int) d)", TDR_ARGS(TDR_KWARGS("a", 1)), NULL,
	              "f(): argument 'd' (position 1) key 'a' must be int, not str");
	check_refused("f(Dict(int, int[]) d)", TDR_ARGS(LIST(1)), NULL,
	              "f(): argument 'd' (position 1) must be Dict(int, int[]), not list");
	check_refused("f(() x)", TDR_ARGS(1), NULL, "f(): argument 'x' (position 1) must be None, not int");
	check_refused("f(Device d)", TDR_ARGS("cuda:"), NULL,
	              "f(): argument 'd' (position 1) must be a Device such as 'cpu' or 'cuda:0', not 'cuda:'");
	check_refused("f(Device? d)", TDR_ARGS(1), NULL,
	              "f(): argument 'd' (position 1) must be Device or None, not int");
	check_refused("f(RRef r)", TDR_ARGS(1), NULL, "f(): argument 'r' (position 1) must be RRef, not int");
}

/* Every kind of value against every plain type: what it becomes, or NULL where it is refused. */
static void test_plain_types(void **state)
{
	static const char *const types[] = {"int", "float", "complex", "bool", "Scalar",
	                                    "str", "bytes", "Tensor",  "Any"};
	static const struct {
		const char *name;
		const char *becomes[COUNT_OF(types)];
	} rows[] = {
	    {"None", {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "None"}},
	    {"bool", {NULL, NULL, NULL, "True", "True", NULL, NULL, NULL, "True"}},
	    {"int", {"1", "1.0", "(1+0j)", "True", "1", NULL, NULL, NULL, "1"}},
	    {"float", {NULL, "0.5", "(0.5+0j)", NULL, "0.5", NULL, NULL, NULL, "0.5"}},
	    {"complex", {NULL, NULL, "(1+2j)", NULL, "(1+2j)", NULL, NULL, NULL, "(1+2j)"}},
	    {"str", {NULL, NULL, NULL, NULL, NULL, "'x'", NULL, NULL, "'x'"}},
	    {"bytes", {NULL, NULL, NULL, NULL, NULL, NULL, "b'x'", NULL, "b'x'"}},
	    {"list", {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "[]"}},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		tdr_value *values[] = {tdr_none(),        tdr_bool(true),  tdr_int(1),        tdr_float(0.5),
		                       tdr_complex(1, 2), tdr_string("x"), tdr_bytes("x", 1), tdr_list(0, NULL)};

		for (size_t j = 0; j < COUNT_OF(types); j++) {
			char schema[64], wanted[TEXT_SIZE];

			snprintf(schema, sizeof(schema), "f(%s x)", types[j]);
			if (rows[i].becomes[j]) {
				snprintf(wanted, sizeof(wanted), "[%s]", rows[i].becomes[j]);
				check_bound(schema, TDR_ARGS(tdr_value_ref(values[i])), NULL, wanted);
			} else {
				snprintf(wanted, sizeof(wanted), "f(): argument 'x' (position 1) must be %s, not %s",
				         types[j], rows[i].name);
				check_refused(schema, TDR_ARGS(tdr_value_ref(values[i])), NULL, wanted);
			}
		}
		for (size_t j = 0; j < COUNT_OF(values); j++)
			tdr_value_unref(values[j]);
	}
}

static void test_conversions(void **state)
{
	check_bound("f(bool a, bool b)", TDR_ARGS(0, 1), NULL, "[False, True]");
	check_refused("f(bool a)", TDR_ARGS(2), NULL,
	              "f(): argument 'a' (position 1) must be bool, or 0 or 1 in its place, not another int");
	check_refused("f(bool a)", TDR_ARGS(int_past_64_bits()), NULL,
	              "f(): argument 'a' (position 1) must be bool, not an int past 64 bits");
	check_refused("f(int a)", TDR_ARGS(int_past_64_bits()), NULL,
	              "f(): argument 'a' (position 1) must be int, not an int past 64 bits");
	check_refused("f(Scalar a)", TDR_ARGS(int_past_64_bits()), NULL,
	              "f(): argument 'a' (position 1) must be Scalar, not an int past 64 bits");
	check_refused("f(float? a)", TDR_ARGS(int_past_64_bits()), NULL,
	              "f(): argument 'a' (position 1) must be float, not an int past 64 bits");
	check_bound("f(Any a)", TDR_ARGS(int_past_64_bits()), NULL, "[18446744073709551616]");
	check_bound("f(int a)", TDR_ARGS(INT64_MIN), NULL, "[-9223372036854775808]");
	check_bound("f(Device a, Device b)", TDR_ARGS("cpu", "cuda:12"), NULL,
	            "[device(type='cpu'), device(type='cuda', index=12)]");
	check_bound("f(Device a)", TDR_ARGS(tdr_device_value(TDR_DEVICE_CPU)), NULL, "[device(type='cpu')]");
	check_bound("f(float? a, int? b)", TDR_ARGS(1, tdr_none()), NULL, "[1.0, None]");
	check_bound("f(() a, () b)", TDR_ARGS(tdr_none(), tdr_tuple(0, NULL)), NULL, "[None, None]");
}

static void test_containers(void **state)
{
	check_bound("f(int[] a)", TDR_ARGS(TDR_ARGS(1, 2)), NULL, "[[1, 2]]");
	check_bound("f((int, float) a)", TDR_ARGS(LIST(1, 2)), NULL, "[(1, 2.0)]");
	check_bound("f(float[] a)", TDR_ARGS(LIST(1, 2.5, 3)), NULL, "[[1.0, 2.5, 3.0]]");
	check_bound("f(float[][] a)", TDR_ARGS(TDR_ARGS(TDR_ARGS(1), LIST(2))), NULL, "[[[1.0], [2.0]]]");
	check_bound("f(Any[] a)", TDR_ARGS(TDR_ARGS(1, "x")), NULL, "[[1, 'x']]");
	check_bound("f(int?[] a)", TDR_ARGS(LIST(1, tdr_none())), NULL, "[[1, None]]");
	check_bound("f(Dict(str, float) a)", TDR_ARGS(TDR_KWARGS("x", 1, "y", 2.5)), NULL, "[{'x': 1.0, 'y': 2.5}]");
	check_bound("f(Dict(float, int) a)", TDR_ARGS(DICT(tdr_int(1))), NULL, "[{1.0: 0}]");
	check_refused("f(Dict(float, int) a)", TDR_ARGS(DICT(tdr_float(1), tdr_int(1))), NULL,
	              "f(): argument 'a' (position 1) key 1 becomes equal to another key");
}

static void test_lists_of_a_length(void **state)
{
	check_bound("f(int[2] a)", TDR_ARGS(3), NULL, "[[3, 3]]");
	check_bound("f(float[3] a)", TDR_ARGS(3), NULL, "[[3.0, 3.0, 3.0]]");
	check_bound("f(int[2]? a, int[2]? b)", TDR_ARGS(tdr_none(), 1), NULL, "[None, [1, 1]]");
	check_bound("f(int[2] a)", TDR_ARGS(LIST(1, 2)), NULL, "[[1, 2]]");
	check_bound("f(int[1] a, int[1] b, int[1] c)", TDR_ARGS(1, LIST(1, 2), tdr_tuple(0, NULL)), NULL,
	            "[[1], [1, 2], []]");
	check_refused("f(int[2] a)", TDR_ARGS(LIST(1)), NULL,
	              "f(): argument 'a' (position 1) must have 2 items, not 1");
	check_refused("f(int[2] a)", TDR_ARGS(TDR_ARGS(1, 2, 3)), NULL,
	              "f(): argument 'a' (position 1) must have 2 items, not 3");
	check_refused("f(int[2] a)", TDR_ARGS("x"), NULL, "f(): argument 'a' (position 1) must be int[2], not str");
	check_refused("f(int[2]? a)", TDR_ARGS("x"), NULL,
	              "f(): argument 'a' (position 1) must be int[2] or None, not str");
}

static void test_references(void **state)
{
	check_bound("f(RRef a, RRef? b, RRef[] c)",
	            TDR_ARGS(fake_rref_value(1, 2), tdr_none(), TDR_ARGS(fake_rref_value(3, 4))), NULL,
	            "[RRef(worker1, 2), None, [RRef(worker3, 4)]]");
	check_bound("f(Any a, Dict(RRef, int) b)", TDR_ARGS(fake_rref_value(1, 2), DICT(fake_rref_value(3, 4))), NULL,
	            "[RRef(worker1, 2), {RRef(worker3, 4): 0}]");
	check_refused("f(RRef a)", TDR_ARGS(1), NULL, "f(): argument 'a' (position 1) must be RRef, not int");
	check_refused("f(Tensor a)", TDR_ARGS(fake_rref_value(1, 2)), NULL,
	              "f(): argument 'a' (position 1) must be Tensor, not RRef");
	check_refused("f(int[2] a)", TDR_ARGS(fake_rref_value(1, 2)), NULL,
	              "f(): argument 'a' (position 1) must be int[2], not RRef");
	check_refused("f(RRef[] a)", TDR_ARGS(TDR_ARGS(fake_rref_value(1, 2), "x")), NULL,
	              "f(): argument 'a'[1] must be RRef, not str");
	assert_int_equal(fake_rrefs_alive, 0);
}

static void destroy(void *object)
{
	++*(int *)object;
}

/* Whatever is bound or refused, an object lives as long as the arguments. */
static void test_native_objects(void **state)
{
	int destroyed = 0;
	tdr_value *object = tdr_native("test::Object", &destroyed, destroy);
	char text[64], wanted[TEXT_SIZE];

	tdr_value_print(object, text, sizeof(text));
	snprintf(wanted, sizeof(wanted), "[%s, [%s], {'x': %s}]", text, text, text);
	check_bound(
	    "f(Any a, Any[] b, Dict(str, Any) c)",
	    TDR_ARGS(tdr_value_ref(object), TDR_ARGS(tdr_value_ref(object)), TDR_KWARGS("x", tdr_value_ref(object))),
	    NULL, wanted);
	check_refused("f(RRef a)", TDR_ARGS(tdr_value_ref(object)), NULL,
	              "f(): argument 'a' (position 1) must be RRef, not test::Object");
	check_refused("f(int a)", NULL, TDR_KWARGS("a", tdr_value_ref(object)),
	              "f(): argument 'a' must be int, not test::Object");
	assert_int_equal(destroyed, 0);
	tdr_value_unref(object);
	assert_int_equal(destroyed, 1);
}

/* What conforms is passed on as it is; what does not is copied, and the caller's value stays. */
static void test_copies_only_what_changes(void **state)
{
	struct schema *schema = parse("f(float[] a, Dict(str, int[]) b, (Tensor, int) c)");
	tdr_value *list = LIST(1.0, 2.0), *dict = TDR_KWARGS("x", LIST(1)), *pair = TDR_ARGS(a_tensor(), 1);
	tdr_value *args = TDR_ARGS(tdr_value_ref(list), tdr_value_ref(dict), tdr_value_ref(pair));
	tdr_value *bound[3];

	assert_int_equal(schema_bind(schema, args, NULL, bound), TDR_OK);
	assert_ptr_equal(bound[0], list);
	assert_ptr_equal(bound[1], dict);
	assert_ptr_equal(bound[2], pair);
	for (size_t i = 0; i < COUNT_OF(bound); i++)
		tdr_value_unref(bound[i]);
	schema_free(schema);
	schema = parse("f(float[] a, Dict(str, float[]) b, (Tensor, float) c)");
	assert_int_equal(schema_bind(schema, args, NULL, bound), TDR_OK);
	assert_ptr_equal(bound[0], list);
	assert_ptr_not_equal(bound[1], dict);
	assert_ptr_not_equal(bound[2], pair);
	assert_ptr_equal(tdr_value_item(bound[2], 0), tdr_value_item(pair, 0));
	assert_int_equal(tdr_value_kind(tdr_value_item(pair, 1)), TDR_INT);
	assert_int_equal(tdr_value_kind(tdr_value_item(bound[2], 1)), TDR_FLOAT);
	for (size_t i = 0; i < COUNT_OF(bound); i++)
		tdr_value_unref(bound[i]);
	schema_free(schema);
	tdr_value_unref(args);
	tdr_value_unref(list);
	tdr_value_unref(dict);
	tdr_value_unref(pair);
}

/* Arguments that could not be made fail for the reason that they could not. */
static void test_invalid_values(void **state)
{
	char result[TEXT_SIZE];

	assert_int_equal(bind("f(Any a)", TDR_ARGS(tdr_string("\xff")), NULL, result), TDR_EINVAL);
	assert_string_equal(result, "f(): the arguments could not be made: invalid argument");
	assert_int_equal(bind("f(Any a)", NULL, TDR_KWARGS("a", tdr_string("\xff")), result), TDR_EINVAL);
	assert_string_equal(result, "f(): the arguments could not be made: invalid argument");
}

static void test_type_convert(void **state)
{
	struct schema *schema = parse("f() -> Dict(str, (int, float)[])");
	tdr_value *value = NULL;
	char text[TEXT_SIZE];

	assert_int_equal(type_convert(&schema->returns, "it", TDR_KWARGS("a", LIST(TDR_ARGS(1, 2))), &value), TDR_OK);
	tdr_value_print(value, text, sizeof(text));
	assert_string_equal(text, "{'a': [(1, 2.0)]}");
	tdr_value_unref(value);
	value = NULL;
	assert_int_equal(type_convert(&schema->returns, "it", TDR_KWARGS("a", LIST(TDR_ARGS(1, "x"))), &value),
	                 TDR_ETYPE);
	assert_string_equal(tdr_last_error(), "it['a'][0][1] must be float, not str");
	assert_null(value);
	schema_free(schema);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_native_types),
	    cmocka_unit_test(test_order_and_defaults),
	    cmocka_unit_test(test_wrong_number_of_arguments),
	    cmocka_unit_test(test_wrong_types),
	    cmocka_unit_test(test_plain_types),
	    cmocka_unit_test(test_conversions),
	    cmocka_unit_test(test_containers),
	    cmocka_unit_test(test_lists_of_a_length),
	    cmocka_unit_test(test_copies_only_what_changes),
	    cmocka_unit_test(test_invalid_values),
	    cmocka_unit_test(test_type_convert),
	    cmocka_unit_test(test_references),
	    cmocka_unit_test(test_native_objects),
	};

	return cmocka_run_group_tests_name("function/bind", tests, NULL, NULL);
}
