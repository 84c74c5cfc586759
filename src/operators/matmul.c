/* SPDX-License-Identifier: Apache-2.0 */
/*
 * matmul. Whatever their dimensions, the operands are made stacks of matrices: a vector on the left is one row, on the
 * right one column, and the dimensions before the last two are broadcast. The dimension that stood for a vector is then
 * not part of the result.
 */
#include "operators/blas.h"
#include "operators/elementwise.h"
#include "operators/operators.h"

/* An operand: its matrices' layout, and the dimensions that stack them. */
struct stack {
	tdr_tensor *tensor; /* counted */
	struct matrix matrix;
	size_t ndim; /* of the stack */
};

/* How all matrices of a stack are multiplied by those of another. */
struct product {
	tdr_dtype dtype;
	struct matrix a, b; /* `data` is set for each */
};

static void product_inner(char *const data[], const int64_t strides[], int64_t count, void *context)
{
	struct product *product = context;

	for (int64_t i = 0; i < count; i++) {
		product->a.data = data[1] + i * strides[1];
		product->b.data = data[2] + i * strides[2];
		matrix_multiply(product->dtype, &product->a, &product->b, data[0] + i * strides[0]);
	}
}

static void stack_describe(struct stack *stack, bool left)
{
	const size_t ndim = tdr_tensor_ndim(stack->tensor);
	const int64_t *sizes = tdr_tensor_sizes(stack->tensor), *strides = tdr_tensor_strides(stack->tensor);
	struct matrix *matrix = &stack->matrix;

	if (ndim == 1) {
		*matrix =
		    left
			? (struct matrix){.rows = 1, .columns = sizes[0], .column_stride = strides[0], .row_stride = 1}
			: (struct matrix){.rows = sizes[0], .columns = 1, .row_stride = strides[0], .column_stride = 1};
		return;
	}
	*matrix = (struct matrix){.rows = sizes[ndim - 2],
	                          .columns = sizes[ndim - 1],
	                          .row_stride = strides[ndim - 2],
	                          .column_stride = strides[ndim - 1]};
	stack->ndim = ndim - 2;
}

/* Takes argument `index`; a layout that BLAS cannot read is copied once here, rather than walked for each product. */
static tdr_status stack_init(struct stack *stack, tdr_call *call, size_t index)
{
	tdr_tensor *tensor, *dense;
	tdr_status status = arg_operand(call, index, &tensor);

	if (status != TDR_OK)
		return status;
	stack->tensor = tdr_tensor_ref(tensor);
	if (tdr_tensor_ndim(tensor) == 0)
		return TDR_OK;
	stack_describe(stack, index == 0);
	if (matrix_is_dense(&stack->matrix))
		return TDR_OK;
	status = tdr_tensor_contiguous(tensor, &dense);
	if (status != TDR_OK)
		return status;
	tdr_tensor_unref(stack->tensor);
	stack->tensor = dense;
	stack_describe(stack, index == 0);
	return TDR_OK;
}

static tdr_status check_operands(tdr_call *call, const struct stack *a, const struct stack *b)
{
	const tdr_dtype dtype = tdr_tensor_dtype(a->tensor);
	const size_t a_ndim = tdr_tensor_ndim(a->tensor), b_ndim = tdr_tensor_ndim(b->tensor);

	if (a_ndim == 0 || b_ndim == 0)
		return refuse(call, TDR_EINVAL,
		              "both arguments to matmul need to be at least 1D, but they are %zuD and %zuD", a_ndim,
		              b_ndim);
	if (tdr_tensor_dtype(b->tensor) != dtype)
		return refuse(call, TDR_ETYPE, "expected scalar type %s but found %s", dtype_long_name(dtype),
		              dtype_long_name(tdr_tensor_dtype(b->tensor)));
	if (dtype == TDR_BOOL)
		return refuse(call, TDR_EUNSUPPORTED, "matmul not implemented for 'Bool'");
	if (a->matrix.columns == b->matrix.rows)
		return TDR_OK;
	if (a_ndim == 1 && b_ndim == 1)
		return refuse(
		    call, TDR_EINVAL,
		    "inconsistent tensor size, expected tensor [%lld] and src [%lld] to have the same number of "
		    "elements, but got %lld and %lld elements respectively",
		    (long long)a->matrix.columns, (long long)b->matrix.rows, (long long)a->matrix.columns,
		    (long long)b->matrix.rows);
	return refuse(call, TDR_EINVAL, "mat1 and mat2 shapes cannot be multiplied (%lldx%lld and %lldx%lld)",
	              (long long)a->matrix.rows, (long long)a->matrix.columns, (long long)b->matrix.rows,
	              (long long)b->matrix.columns);
}

/* A view of the first element of each matrix: the stack's dimensions alone. Its matrices are not empty. */
static tdr_status stack_starts(const struct stack *stack, tdr_tensor **ret_tensor)
{
	return tdr_tensor_view(tdr_tensor_storage(stack->tensor), tdr_tensor_dtype(stack->tensor), stack->ndim,
	                       tdr_tensor_sizes(stack->tensor), tdr_tensor_strides(stack->tensor),
	                       tdr_tensor_offset(stack->tensor), ret_tensor);
}

/* Where the right side is one matrix and the left ones follow each other, they are one higher matrix. */
static void fold_left(struct stack *a, const struct stack *b)
{
	if (b->ndim > 0 || a->ndim == 0 || !tdr_tensor_is_contiguous(a->tensor))
		return;
	a->matrix.rows = tdr_tensor_numel(a->tensor) / a->matrix.columns;
	a->matrix.row_stride = a->matrix.columns; /* a size of 1 leaves a stride open */
	a->matrix.column_stride = 1;
	a->ndim = 0;
}

static tdr_status multiply(struct stack *a, struct stack *b, tdr_tensor *result, size_t ndim)
{
	tdr_tensor *from_a = NULL, *from_b = NULL, *to = NULL;
	struct product product = {.dtype = tdr_tensor_dtype(result)};
	struct iterate iterate;
	tdr_status status;

	fold_left(a, b);
	ndim = a->ndim == 0 && b->ndim == 0 ? 0 : ndim;
	product.a = a->matrix;
	product.b = b->matrix;
	status = stack_starts(a, &from_a);
	if (status == TDR_OK)
		status = stack_starts(b, &from_b);
	if (status == TDR_OK)
		status = tdr_tensor_view(tdr_tensor_storage(result), product.dtype, ndim, tdr_tensor_sizes(result),
		                         tdr_tensor_strides(result), tdr_tensor_offset(result), &to);
	if (status == TDR_OK) {
		iterate_init(&iterate, ndim, tdr_tensor_sizes(to));
		iterate_add(&iterate, to);
		iterate_add(&iterate, from_a);
		iterate_add(&iterate, from_b);
		iterate_run(&iterate, product_inner, &product);
	}
	tdr_tensor_unref(from_a);
	tdr_tensor_unref(from_b);
	tdr_tensor_unref(to);
	return status;
}

static tdr_status matmul(tdr_call *call, struct stack *a, struct stack *b, tdr_tensor **ret_tensor)
{
	int64_t sizes[TDR_MAX_DIMS];
	size_t stack_ndim = 0, ndim;
	tdr_tensor *result = NULL;
	tdr_status status = check_operands(call, a, b);

	if (status == TDR_OK)
		status = broadcast_join(call, &stack_ndim, sizes, a->ndim, tdr_tensor_sizes(a->tensor));
	if (status == TDR_OK)
		status = broadcast_join(call, &stack_ndim, sizes, b->ndim, tdr_tensor_sizes(b->tensor));
	if (status != TDR_OK)
		return status;
	ndim = stack_ndim;
	if (tdr_tensor_ndim(a->tensor) > 1)
		sizes[ndim++] = a->matrix.rows;
	if (tdr_tensor_ndim(b->tensor) > 1)
		sizes[ndim++] = b->matrix.columns;
	/* Nothing to add up makes zeros; the views that multiply takes exist where there is something. */
	if (a->matrix.columns == 0)
		return tdr_tensor_zeros(tdr_tensor_dtype(a->tensor), ndim, sizes, ret_tensor);
	status = tdr_tensor_empty(tdr_tensor_dtype(a->tensor), ndim, sizes, &result);
	if (status == TDR_OK && tdr_tensor_numel(result) > 0)
		status = multiply(a, b, result, stack_ndim);
	if (status != TDR_OK) {
		tdr_tensor_unref(result);
		return status;
	}
	*ret_tensor = result;
	return TDR_OK;
}

tdr_status operator_matmul(tdr_call *call, void *context)
{
	struct stack a = {0}, b = {0};
	tdr_tensor *result = NULL;
	tdr_status status;

	(void)context;
	status = stack_init(&a, call, 0);
	if (status == TDR_OK)
		status = stack_init(&b, call, 1);
	if (status == TDR_OK)
		status = matmul(call, &a, &b, &result);
	tdr_tensor_unref(a.tensor);
	tdr_tensor_unref(b.tensor);
	return give_tensor(call, status, result);
}
