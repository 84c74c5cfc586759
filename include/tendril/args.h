/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arguments of a call, on one line: TDR_ARGS(grad, 3, "text"), TDR_KWARGS("lr", 0.05, "nesterov", tdr_bool(true)).
 *
 * Each argument is an integer, a floating-point number, a C string, a tdr_tensor * or tdr_rref * (borrowed), or a
 * tdr_value * (given away). Both make a value, a tuple or a dict, which the call takes. Up to 16 arguments, or 8
 * keywords; for more build a tuple or a dict. C has no bool of its own in expressions (`true` is an int): write
 * tdr_bool(true), or rely on a schema's `bool`, which takes 0 and 1.
 */
#ifndef TENDRIL_ARGS_H
#define TENDRIL_ARGS_H

#include <tendril/value.h>

TDR_BEGIN_DECLS

/* Values of C types, for the macros below; NULL gives None. */
TDR_API tdr_value *tdr_value_of_int(int64_t number);
TDR_API tdr_value *tdr_value_of_uint(uint64_t number);
TDR_API tdr_value *tdr_value_of_float(double number);
TDR_API tdr_value *tdr_value_of_string(const char *text);
TDR_API tdr_value *tdr_value_of_tensor(tdr_tensor *tensor);
TDR_API tdr_value *tdr_value_of_rref(tdr_rref *rref);
TDR_API tdr_value *tdr_value_of_value(tdr_value *value);

/* A dict of `count` / 2 pairs: items[0] is the key of items[1], and so on. All are given away. */
TDR_API tdr_value *tdr_kwargs(size_t count, tdr_value *const items[]);

TDR_END_DECLS

#ifdef __cplusplus

template <typename... T> inline tdr_value *tdr_args_of(T... arguments);

/* clang-format off */
inline tdr_value *tdr_of(bool truth) { return tdr_bool(truth); }
inline tdr_value *tdr_of(int number) { return tdr_value_of_int(number); }
inline tdr_value *tdr_of(long number) { return tdr_value_of_int(number); }
inline tdr_value *tdr_of(long long number) { return tdr_value_of_int(number); }
inline tdr_value *tdr_of(unsigned number) { return tdr_value_of_uint(number); }
inline tdr_value *tdr_of(unsigned long number) { return tdr_value_of_uint(number); }
inline tdr_value *tdr_of(unsigned long long number) { return tdr_value_of_uint(number); }
inline tdr_value *tdr_of(double number) { return tdr_value_of_float(number); }
inline tdr_value *tdr_of(const char *text) { return tdr_value_of_string(text); }
inline tdr_value *tdr_of(tdr_tensor *tensor) { return tdr_value_of_tensor(tensor); }
inline tdr_value *tdr_of(tdr_rref *rref) { return tdr_value_of_rref(rref); }
inline tdr_value *tdr_of(tdr_value *value) { return tdr_value_of_value(value); }
/* clang-format on */

template <typename... T> inline tdr_value *tdr_args_of(T... arguments)
{
	tdr_value *items[] = {tdr_of(arguments)..., nullptr};
	return tdr_tuple(sizeof...(arguments), items);
}

template <typename... T> inline tdr_value *tdr_kwargs_of(T... arguments)
{
	static_assert(sizeof...(arguments) % 2 == 0, "TDR_KWARGS takes pairs: a name and a value");
	tdr_value *items[] = {tdr_of(arguments)..., nullptr};
	return tdr_kwargs(sizeof...(arguments), items);
}

#define TDR_ARGS(...) tdr_args_of(__VA_ARGS__)
#define TDR_KWARGS(...) tdr_kwargs_of(__VA_ARGS__)

#else

#define TDR_OF(argument)                                                                                               \
	_Generic((argument),                                                                                           \
	    _Bool: tdr_bool,                                                                                           \
	    signed char: tdr_value_of_int,                                                                             \
	    short: tdr_value_of_int,                                                                                   \
	    int: tdr_value_of_int,                                                                                     \
	    long: tdr_value_of_int,                                                                                    \
	    long long: tdr_value_of_int,                                                                               \
	    unsigned char: tdr_value_of_uint,                                                                          \
	    unsigned short: tdr_value_of_uint,                                                                         \
	    unsigned: tdr_value_of_uint,                                                                               \
	    unsigned long: tdr_value_of_uint,                                                                          \
	    unsigned long long: tdr_value_of_uint,                                                                     \
	    float: tdr_value_of_float,                                                                                 \
	    double: tdr_value_of_float,                                                                                \
	    char *: tdr_value_of_string,                                                                               \
	    const char *: tdr_value_of_string,                                                                         \
	    tdr_tensor *: tdr_value_of_tensor,                                                                         \
	    tdr_rref *: tdr_value_of_rref,                                                                             \
	    tdr_value *: tdr_value_of_value)(argument)

/* TDR_EACH_n(a, ...) converts n arguments. */
#define TDR_EACH_1(a) TDR_OF(a)
#define TDR_EACH_2(a, ...) TDR_OF(a), TDR_EACH_1(__VA_ARGS__)
#define TDR_EACH_3(a, ...) TDR_OF(a), TDR_EACH_2(__VA_ARGS__)
#define TDR_EACH_4(a, ...) TDR_OF(a), TDR_EACH_3(__VA_ARGS__)
#define TDR_EACH_5(a, ...) TDR_OF(a), TDR_EACH_4(__VA_ARGS__)
#define TDR_EACH_6(a, ...) TDR_OF(a), TDR_EACH_5(__VA_ARGS__)
#define TDR_EACH_7(a, ...) TDR_OF(a), TDR_EACH_6(__VA_ARGS__)
#define TDR_EACH_8(a, ...) TDR_OF(a), TDR_EACH_7(__VA_ARGS__)
#define TDR_EACH_9(a, ...) TDR_OF(a), TDR_EACH_8(__VA_ARGS__)
#define TDR_EACH_10(a, ...) TDR_OF(a), TDR_EACH_9(__VA_ARGS__)
#define TDR_EACH_11(a, ...) TDR_OF(a), TDR_EACH_10(__VA_ARGS__)
#define TDR_EACH_12(a, ...) TDR_OF(a), TDR_EACH_11(__VA_ARGS__)
#define TDR_EACH_13(a, ...) TDR_OF(a), TDR_EACH_12(__VA_ARGS__)
#define TDR_EACH_14(a, ...) TDR_OF(a), TDR_EACH_13(__VA_ARGS__)
#define TDR_EACH_15(a, ...) TDR_OF(a), TDR_EACH_14(__VA_ARGS__)
#define TDR_EACH_16(a, ...) TDR_OF(a), TDR_EACH_15(__VA_ARGS__)

#define TDR_COUNT(...) TDR_COUNT_(__VA_ARGS__, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define TDR_COUNT_(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, _16, n, ...) n
#define TDR_PASTE(a, b) TDR_PASTE_(a, b)
#define TDR_PASTE_(a, b) a##b
/* clang-format off */
#define TDR_ITEMS(...)                                                                                                 \
	TDR_COUNT(__VA_ARGS__), (tdr_value *const[]){TDR_PASTE(TDR_EACH_, TDR_COUNT(__VA_ARGS__))(__VA_ARGS__)}
/* clang-format on */

#define TDR_ARGS(...) tdr_tuple(TDR_ITEMS(__VA_ARGS__))
#define TDR_KWARGS(...) tdr_kwargs(TDR_ITEMS(__VA_ARGS__))

#endif

/* No arguments. */
#define TDR_NO_ARGS NULL

#endif
