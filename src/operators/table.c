/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operators' schemas. Where PyTorch's has a Scalar, a ScalarType or an int[1], ours has `Any`, and the operator
 * checks it. Overloads of a name are tried in the order in which they stand: those that take tensors alone come first.
 */
#include "operators/operators.h"

const struct operator_entry operator_table[] = {
    {"aten::add.Tensor(Tensor self, Tensor other, *, Any alpha=1) -> Tensor", operator_arithmetic, &arithmetic_add},
    {"aten::add.Scalar(Tensor self, Any other, Any alpha=1) -> Tensor", operator_arithmetic, &arithmetic_add},
    {"aten::sub.Tensor(Tensor self, Tensor other, *, Any alpha=1) -> Tensor", operator_arithmetic, &arithmetic_sub},
    {"aten::sub.Scalar(Tensor self, Any other, Any alpha=1) -> Tensor", operator_arithmetic, &arithmetic_sub},
    {"aten::mul.Tensor(Tensor self, Tensor other) -> Tensor", operator_arithmetic, &arithmetic_mul},
    {"aten::mul.Scalar(Tensor self, Any other) -> Tensor", operator_arithmetic, &arithmetic_mul},
    {"aten::div.Tensor(Tensor self, Tensor other) -> Tensor", operator_div, NULL},
    {"aten::div.Tensor_mode(Tensor self, Tensor other, *, str? rounding_mode) -> Tensor", operator_div, NULL},
    {"aten::div.Scalar(Tensor self, Any other) -> Tensor", operator_div, NULL},
    {"aten::div.Scalar_mode(Tensor self, Any other, *, str? rounding_mode) -> Tensor", operator_div, NULL},
    {"aten::add_.Tensor(Tensor self, Tensor other, *, Any alpha=1) -> Tensor", operator_arithmetic, &arithmetic_add_to},
    {"aten::add_.Scalar(Tensor self, Any other, Any alpha=1) -> Tensor", operator_arithmetic, &arithmetic_add_to},
    {"aten::mul_.Tensor(Tensor self, Tensor other) -> Tensor", operator_arithmetic, &arithmetic_mul_to},
    {"aten::mul_.Scalar(Tensor self, Any other) -> Tensor", operator_arithmetic, &arithmetic_mul_to},

    {"aten::neg(Tensor self) -> Tensor", operator_unary, &unary_neg},
    {"aten::exp(Tensor self) -> Tensor", operator_unary, &unary_exp},
    {"aten::log(Tensor self) -> Tensor", operator_unary, &unary_log},
    {"aten::relu(Tensor self) -> Tensor", operator_unary, &unary_relu},
    {"aten::sigmoid(Tensor self) -> Tensor", operator_unary, &unary_sigmoid},

    {"aten::eq.Tensor(Tensor self, Tensor other) -> Tensor", operator_compare, &comparison_eq},
    {"aten::eq.Scalar(Tensor self, Any other) -> Tensor", operator_compare, &comparison_eq},
    {"aten::gt.Tensor(Tensor self, Tensor other) -> Tensor", operator_compare, &comparison_gt},
    {"aten::gt.Scalar(Tensor self, Any other) -> Tensor", operator_compare, &comparison_gt},
    {"aten::where.self(Tensor condition, Tensor self, Tensor other) -> Tensor", operator_where, NULL},
    {"aten::where.ScalarSelf(Tensor condition, Any self, Tensor other) -> Tensor", operator_where, NULL},
    {"aten::where.ScalarOther(Tensor condition, Tensor self, Any other) -> Tensor", operator_where, NULL},
    {"aten::where.Scalar(Tensor condition, Any self, Any other) -> Tensor", operator_where, NULL},

    {"aten::sum(Tensor self, *, Any dtype=None) -> Tensor", operator_sum, NULL},
    {"aten::sum.dim_IntList(Tensor self, Any dim, bool keepdim=False, *, Any dtype=None) -> Tensor", operator_sum_dims,
     NULL},
    {"aten::mean(Tensor self, *, Any dtype=None) -> Tensor", operator_mean, NULL},
    {"aten::mean.dim(Tensor self, Any dim, bool keepdim=False, *, Any dtype=None) -> Tensor", operator_mean_dims, NULL},
    {"aten::argmax(Tensor self, int? dim=None, bool keepdim=False) -> Tensor", operator_argmax, NULL},
    {"aten::log_softmax.int(Tensor self, int dim, Any dtype=None) -> Tensor", operator_log_softmax, NULL},

    {"aten::matmul(Tensor self, Tensor other) -> Tensor", operator_matmul, NULL},

    {"aten::t(Tensor self) -> Tensor", operator_t, NULL},
    {"aten::reshape(Tensor self, int[] shape) -> Tensor", operator_reshape, NULL},
    {"aten::cat(Tensor[] tensors, int dim=0) -> Tensor", operator_cat, NULL},
    {"aten::index_select(Tensor self, int dim, Tensor index) -> Tensor", operator_index_select, NULL},

    {"aten::zeros(int[] size, *, Any dtype=None) -> Tensor", operator_zeros, NULL},
    {"aten::ones(int[] size, *, Any dtype=None) -> Tensor", operator_ones, NULL},
    {"aten::full(int[] size, Any fill_value, *, Any dtype=None) -> Tensor", operator_full, NULL},
    {"aten::clone(Tensor self) -> Tensor", operator_clone, NULL},
    {"aten::to.dtype(Tensor self, Any dtype, bool non_blocking=False, bool copy=False) -> Tensor", operator_to, NULL},

    {"aten::copy_(Tensor self, Tensor src, bool non_blocking=False) -> Tensor", operator_copy_to, NULL},
    {"aten::index_add_(Tensor self, int dim, Tensor index, Tensor source, *, Any alpha=1) -> Tensor",
     operator_index_add_to, NULL},
};

const size_t operator_count = sizeof(operator_table) / sizeof(operator_table[0]);
