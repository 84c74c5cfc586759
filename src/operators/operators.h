/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operators, by the file they are in. Each is a tdr_function; the pointer beside some of them is the context that
 * makes one function several operators. The table puts schemas to them.
 */
#ifndef TENDRIL_OPERATORS_OPERATORS_H
#define TENDRIL_OPERATORS_OPERATORS_H

#include <tendril/function.h>

struct operator_entry {
	const char *schema;
	tdr_function run;
	const void *context; /* read only; lives as long as the library */
};

/* All operators; overloads of a name stand in the order in which they are tried. */
extern const struct operator_entry operator_table[];
extern const size_t operator_count;

/* arithmetic.c */
struct arithmetic;
extern const struct arithmetic arithmetic_add, arithmetic_sub, arithmetic_mul;
extern const struct arithmetic arithmetic_add_to, arithmetic_mul_to; /* in place */
tdr_status operator_arithmetic(tdr_call *call, void *context);
tdr_status operator_div(tdr_call *call, void *context);

/* compare.c */
struct comparison;
extern const struct comparison comparison_eq, comparison_gt;
tdr_status operator_compare(tdr_call *call, void *context);
tdr_status operator_where(tdr_call *call, void *context);

/* unary.c */
struct unary;
extern const struct unary unary_neg, unary_exp, unary_log, unary_relu, unary_sigmoid;
tdr_status operator_unary(tdr_call *call, void *context);

/* reduce.c */
tdr_status operator_sum(tdr_call *call, void *context);
tdr_status operator_sum_dims(tdr_call *call, void *context);
tdr_status operator_mean(tdr_call *call, void *context);
tdr_status operator_mean_dims(tdr_call *call, void *context);
tdr_status operator_argmax(tdr_call *call, void *context);

/* softmax.c */
tdr_status operator_log_softmax(tdr_call *call, void *context);

/* matmul.c */
tdr_status operator_matmul(tdr_call *call, void *context);

/* shape.c */
tdr_status operator_t(tdr_call *call, void *context);
tdr_status operator_reshape(tdr_call *call, void *context);

/* join.c */
tdr_status operator_cat(tdr_call *call, void *context);
tdr_status operator_index_select(tdr_call *call, void *context);

/* create.c */
tdr_status operator_zeros(tdr_call *call, void *context);
tdr_status operator_ones(tdr_call *call, void *context);
tdr_status operator_full(tdr_call *call, void *context);
tdr_status operator_clone(tdr_call *call, void *context);
tdr_status operator_to(tdr_call *call, void *context);

/* inplace.c */
tdr_status operator_copy_to(tdr_call *call, void *context);
tdr_status operator_index_add_to(tdr_call *call, void *context);

#endif
