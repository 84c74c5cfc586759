/* SPDX-License-Identifier: Apache-2.0 */
#include "sample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "sample: %s: %s\n", what, tdr_last_error());
	abort();
}

void sample_storages_new(tdr_storage *storages[SAMPLE_STORAGES])
{
	const float floats[] = {0, 1, 2, 3, 4, 5};
	const int32_t ints[] = {10, 11, 12, 13};

	check(tdr_storage_new(sizeof(floats), &storages[0]) == TDR_OK, "storage");
	check(tdr_storage_new(sizeof(ints), &storages[1]) == TDR_OK, "storage");
	memcpy(tdr_storage_data(storages[0]), floats, sizeof(floats));
	memcpy(tdr_storage_data(storages[1]), ints, sizeof(ints));
}

void sample_storages_unref(tdr_storage *storages[SAMPLE_STORAGES])
{
	for (size_t i = 0; i < SAMPLE_STORAGES; i++)
		tdr_storage_unref(storages[i]);
}

/* ---- named ones ---- */

static tdr_tensor *view(tdr_storage *storage, tdr_dtype dtype, size_t ndim, const int64_t *sizes,
                        const int64_t *strides, int64_t offset, bool requires_grad)
{
	tdr_tensor *tensor;

	check(tdr_tensor_view(storage, dtype, ndim, sizes, strides, offset, &tensor) == TDR_OK, "view");
	tdr_tensor_set_requires_grad(tensor, requires_grad);
	return tensor;
}

static tdr_value *view_value(tdr_storage *storage, tdr_dtype dtype, size_t ndim, const int64_t *sizes,
                             const int64_t *strides, int64_t offset, bool requires_grad)
{
	tdr_tensor *tensor = view(storage, dtype, ndim, sizes, strides, offset, requires_grad);
	tdr_value *value = tdr_tensor_value(tensor);

	tdr_tensor_unref(tensor);
	return value;
}

static tdr_value *object_with_tensors(tdr_storage *const storages[])
{
	tdr_tensor *tensors[2] = {view(storages[0], TDR_F32, TDR_SHAPE(6), NULL, 0, false),
	                          view(storages[1], TDR_I32, TDR_SHAPE(2, 2), NULL, 0, true)};
	tdr_value *value = tdr_object("pickle5", "\x80\x05.", 3, 2, tensors);

	tdr_tensor_unref(tensors[0]);
	tdr_tensor_unref(tensors[1]);
	return value;
}

static tdr_value *numbers(tdr_value *(*make)(size_t count, tdr_value *const items[]), size_t count)
{
	tdr_value *items[64];

	for (size_t i = 0; i < count; i++)
		items[i] = tdr_int((int64_t)i);
	return make(count, items);
}

static tdr_value *set_of(size_t count)
{
	tdr_value *set = tdr_set_new();

	for (size_t i = 0; i < count; i++)
		check(tdr_set_add(set, tdr_int((int64_t)i)) == TDR_OK, "set");
	return set;
}

static tdr_value *dict_of(size_t count)
{
	tdr_value *dict = tdr_dict_new();

	for (size_t i = 0; i < count; i++)
		check(tdr_dict_put(dict, tdr_int((int64_t)i), tdr_bool(i % 2)) == TDR_OK, "dict");
	return dict;
}

static tdr_value *mixed_dict(void)
{
	tdr_value *dict = tdr_dict_new();

	check(tdr_dict_set(dict, "text", tdr_int(1)) == TDR_OK, "dict");
	check(tdr_dict_put(dict, tdr_none(), tdr_int(2)) == TDR_OK, "dict");
	check(tdr_dict_put(dict, tdr_bool(true), tdr_int(3)) == TDR_OK, "dict");
	check(tdr_dict_put(dict, tdr_int(1), tdr_int(4)) == TDR_OK, "dict");
	check(tdr_dict_put(dict, tdr_float(1), tdr_int(5)) == TDR_OK, "dict");
	check(tdr_dict_put(dict, TDR_ARGS(1, "x"), tdr_int(6)) == TDR_OK, "dict");
	return dict;
}

static tdr_value *deep_list(unsigned depth)
{
	tdr_value *list = tdr_list(0, NULL);

	while (--depth > 0)
		list = tdr_list(1, &list);
	return list;
}

static tdr_value *long_string(size_t size)
{
	char text[300];

	memset(text, 'x', size);
	return tdr_string_n(text, size);
}

static tdr_value *long_bytes(size_t size)
{
	char data[300];

	memset(data, 7, size);
	return tdr_bytes(data, size);
}

#define SIZES(...) TDR_SHAPE(__VA_ARGS__)
#define STRIDES(...) ((const int64_t[]){__VA_ARGS__})

/* X(name, expression); `storages` are at hand. */
#define SAMPLES(X)                                                                                                     \
	X(none, tdr_none())                                                                                            \
	X(false, tdr_bool(false))                                                                                      \
	X(true, tdr_bool(true))                                                                                        \
	X(int_0, tdr_int(0))                                                                                           \
	X(int_127, tdr_int(127))                                                                                       \
	X(int_128, tdr_int(128))                                                                                       \
	X(int_255, tdr_int(255))                                                                                       \
	X(int_256, tdr_int(256))                                                                                       \
	X(int_65535, tdr_int(65535))                                                                                   \
	X(int_65536, tdr_int(65536))                                                                                   \
	X(int_u32_max, tdr_int(UINT32_MAX))                                                                            \
	X(int_2_32, tdr_int((int64_t)UINT32_MAX + 1))                                                                  \
	X(int_i64_max, tdr_int(INT64_MAX))                                                                             \
	X(int_2_63, tdr_value_of_uint((uint64_t)1 << 63))                                                              \
	X(int_u64_max, tdr_value_of_uint(UINT64_MAX))                                                                  \
	X(int_2_64, tdr_bigint("\0\0\0\0\0\0\0\0\1", 9))                                                               \
	X(int_m1, tdr_int(-1))                                                                                         \
	X(int_m32, tdr_int(-32))                                                                                       \
	X(int_m33, tdr_int(-33))                                                                                       \
	X(int_m128, tdr_int(-128))                                                                                     \
	X(int_m129, tdr_int(-129))                                                                                     \
	X(int_m32768, tdr_int(-32768))                                                                                 \
	X(int_m32769, tdr_int(-32769))                                                                                 \
	X(int_i32_min, tdr_int(INT32_MIN))                                                                             \
	X(int_past_i32_min, tdr_int((int64_t)INT32_MIN - 1))                                                           \
	X(int_i64_min, tdr_int(INT64_MIN))                                                                             \
	X(int_past_i64_min, tdr_bigint("\xff\xff\xff\xff\xff\xff\xff\x7f\xff", 9))                                     \
	X(int_16_bytes, tdr_bigint("\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\x10", 16))                                  \
	X(int_17_bytes, tdr_bigint("\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\x10\x80", 17))                              \
	X(float_0, tdr_float(0))                                                                                       \
	X(float_m0, tdr_float(-0.0))                                                                                   \
	X(float_1_5, tdr_float(1.5))                                                                                   \
	X(float_0_1, tdr_float(0.1))                                                                                   \
	X(float_inf, tdr_float(INFINITY))                                                                              \
	X(float_minf, tdr_float(-INFINITY))                                                                            \
	X(float_nan, tdr_float((double)NAN))                                                                           \
	X(complex, tdr_complex(1.5, -2))                                                                               \
	X(str_empty, tdr_string(""))                                                                                   \
	X(str_a, tdr_string("a"))                                                                                      \
	X(str_31, long_string(31))                                                                                     \
	X(str_32, long_string(32))                                                                                     \
	X(str_256, long_string(256))                                                                                   \
	X(str_nul, tdr_string_n("a\0b", 3))                                                                            \
	X(str_unicode, tdr_string("\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xb1"))                                             \
	X(str_surrogate, tdr_string("\xed\xa0\x80"))                                                                   \
	X(bytes_empty, tdr_bytes(NULL, 0))                                                                             \
	X(bytes_3, tdr_bytes("\0\xff\x80", 3))                                                                         \
	X(bytes_256, long_bytes(256))                                                                                  \
	X(list_empty, tdr_list(0, NULL))                                                                               \
	X(list_15, numbers(tdr_list, 15))                                                                              \
	X(list_16, numbers(tdr_list, 16))                                                                              \
	X(list_64_deep, deep_list(64))                                                                                 \
	X(tuple_empty, tdr_tuple(0, NULL))                                                                             \
	X(tuple_1, numbers(tdr_tuple, 1))                                                                              \
	X(tuple_14, numbers(tdr_tuple, 14))                                                                            \
	X(tuple_15, numbers(tdr_tuple, 15))                                                                            \
	X(set_empty, tdr_set_new())                                                                                    \
	X(set_3, set_of(3))                                                                                            \
	X(set_20, set_of(20))                                                                                          \
	X(dict_empty, tdr_dict_new())                                                                                  \
	X(dict_mixed, mixed_dict())                                                                                    \
	X(dict_15, dict_of(15))                                                                                        \
	X(dict_16, dict_of(16))                                                                                        \
	X(device_cpu, tdr_device_value(TDR_DEVICE_CPU))                                                                \
	X(device_cuda_1, tdr_device_value((tdr_device){TDR_CUDA, 1}))                                                  \
	X(tensor_scalar, view_value(storages[0], TDR_F32, 0, NULL, NULL, 5, false))                                    \
	X(tensor_2_3, view_value(storages[0], TDR_F32, SIZES(2, 3), NULL, 0, false))                                   \
	X(tensor_transposed, view_value(storages[0], TDR_F32, SIZES(3, 2), STRIDES(1, 3), 0, false))                   \
	X(tensor_column, view_value(storages[0], TDR_F32, SIZES(2), STRIDES(3), 1, true))                              \
	X(tensor_expanded, view_value(storages[0], TDR_F32, SIZES(4), STRIDES(0), 2, false))                           \
	X(tensor_empty, view_value(storages[0], TDR_U8, SIZES(0, 3), NULL, 0, false))                                  \
	X(tensors_of_one_storage, TDR_ARGS(view_value(storages[0], TDR_F32, SIZES(3), NULL, 0, false),                 \
	                                   view_value(storages[0], TDR_F32, SIZES(3), NULL, 3, false)))                \
	X(tensors_of_two_storages, TDR_ARGS(view_value(storages[0], TDR_F32, SIZES(6), NULL, 0, false),                \
	                                    view_value(storages[1], TDR_I32, SIZES(4), NULL, 0, false)))               \
	X(object, tdr_object("pickle5", "\x80\x05N.", 4, 0, NULL))                                                     \
	X(object_with_tensors, object_with_tensors(storages))                                                          \
	X(nested, TDR_ARGS("ps::push", TDR_KWARGS("lr", 0.05, "shape", numbers(tdr_tuple, 2)), tdr_none()))

static const char *const names[] = {
#define NAME(name, ...) #name,
    SAMPLES(NAME)
#undef NAME
};

enum sample {
#define NUMBER(name, ...) SAMPLE_##name,
	SAMPLES(NUMBER)
#undef NUMBER
};

size_t sample_count(void)
{
	return sizeof(names) / sizeof(names[0]);
}

const char *sample_name(size_t index)
{
	return names[index];
}

size_t sample_find(const char *name, size_t size)
{
	for (size_t i = 0; i < sample_count(); i++)
		if (strlen(names[i]) == size && memcmp(names[i], name, size) == 0)
			return i;
	return SIZE_MAX;
}

tdr_value *sample_build(size_t index, tdr_storage *const storages[SAMPLE_STORAGES])
{
	switch ((enum sample)index) {
#define BUILD(name, ...)                                                                                               \
	case SAMPLE_##name:                                                                                            \
		return __VA_ARGS__;
		SAMPLES(BUILD)
#undef BUILD
	}
	return NULL;
}

/* ---- random ones ---- */

uint64_t sample_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1du >> 16;
}

static size_t random_below(uint64_t *state, size_t bound)
{
	return (size_t)(sample_random(state) % bound);
}

static tdr_value *random_string(uint64_t *state)
{
	static const char *const pieces[] = {
	    "a", "lr", "'", "\n", "\xc3\xa9", "\xed\xbf\xbf", "\xf0\x9f\x8c\xb1", "0123456789"};
	char text[256] = "";
	size_t count = random_below(state, 20);

	while (count-- > 0)
		strcat(text, pieces[random_below(state, 8)]);
	return tdr_string(text);
}

static tdr_value *random_blob(uint64_t *state, tdr_value *(*make)(const void *, size_t))
{
	uint8_t bytes[40];
	size_t size = random_below(state, sizeof(bytes));

	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)sample_random(state);
	return make(bytes, size);
}

static double random_float(uint64_t *state)
{
	static const double special[] = {0.0, -0.0, 1, -1, 0.1, 1e308, 5e-324, (double)INFINITY, (double)NAN};
	uint64_t bits = sample_random(state) << 16 ^ sample_random(state);
	double number;

	if (random_below(state, 2))
		return special[random_below(state, 9)];
	memcpy(&number, &bits, sizeof(number));
	return number;
}

static tdr_value *random_tensor(uint64_t *state)
{
	int64_t sizes[3];
	size_t ndim = random_below(state, 4);
	tdr_tensor *tensor;
	tdr_value *value;
	uint8_t *bytes;

	for (size_t i = 0; i < ndim; i++)
		sizes[i] = (int64_t)random_below(state, 5);
	check(tdr_tensor_empty((tdr_dtype)random_below(state, TDR_C128 + 1), ndim, sizes, &tensor) == TDR_OK, "empty");
	bytes = tdr_tensor_data(tensor);
	for (size_t i = 0; i < (size_t)tdr_tensor_numel(tensor) * tdr_dtype_size(tdr_tensor_dtype(tensor)); i++)
		bytes[i] = (uint8_t)sample_random(state);
	tdr_tensor_set_requires_grad(tensor, random_below(state, 2));
	value = tdr_tensor_value(tensor);
	tdr_tensor_unref(tensor);
	return value;
}

/* One that can be a key. */
static tdr_value *random_scalar(uint64_t *state)
{
	switch (random_below(state, 10)) {
	case 0:
		return tdr_none();
	case 1:
		return tdr_bool(random_below(state, 2));
	case 2:
		return tdr_int((int64_t)random_below(state, 300) - 150);
	case 3:
		return tdr_int((int64_t)(sample_random(state) << 16) >> random_below(state, 64));
	case 4:
		return random_blob(state, tdr_bigint);
	case 5:
		return tdr_float(random_float(state));
	case 6:
		return tdr_complex(random_float(state), random_float(state));
	case 7:
		return random_string(state);
	case 8:
		return random_blob(state, tdr_bytes);
	default:
		return tdr_device_value(
		    (tdr_device){random_below(state, 2) ? TDR_CUDA : TDR_CPU, (int32_t)random_below(state, 3) - 1});
	}
}

static tdr_value *random_key(uint64_t *state)
{
	tdr_value *items[] = {random_scalar(state), random_scalar(state), random_scalar(state)};

	if (random_below(state, 4) == 0)
		return tdr_tuple(3, items);
	tdr_value_unref(items[1]);
	tdr_value_unref(items[2]);
	return items[0];
}

static tdr_value *random_container(uint64_t *state, unsigned depth)
{
	size_t count = random_below(state, random_below(state, 4) ? 6 : 40);
	tdr_value *items[40], *value;
	size_t kind = random_below(state, 4);

	if (kind < 2) {
		for (size_t i = 0; i < count; i++)
			items[i] = sample_random_value(state, depth - 1);
		return kind ? tdr_list(count, items) : tdr_tuple(count, items);
	}
	value = kind == 2 ? tdr_dict_new() : tdr_set_new();
	for (size_t i = 0; i < count; i++) {
		tdr_value *key = depth > 1 ? random_key(state) : random_scalar(state);

		if (kind == 2)
			check(tdr_dict_put(value, key, sample_random_value(state, depth - 1)) == TDR_OK, "put");
		else
			check(tdr_set_add(value, key) == TDR_OK, "add");
	}
	return value;
}

tdr_value *sample_random_value(uint64_t *state, unsigned depth)
{
	size_t kind = random_below(state, 10);

	if (kind < 5 && depth > 0)
		return random_container(state, depth);
	if (kind == 5)
		return random_tensor(state);
	if (kind == 6)
		return tdr_object("pickle5", &kind, sizeof(kind), 0, NULL);
	return random_scalar(state);
}
