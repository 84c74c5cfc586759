/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensors: a description of elements in a storage, one allocation each. Every element lies within the storage, which all
 * constructors see to by ending in tdr_tensor_view.
 */
#include "value/tensor.h"

#include "base/error.h"
#include "base/macros.h"
#include "base/refcount.h"
#include "value/device.h"
#include "value/shape.h"
#include "value/storage.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct tdr_tensor {
	struct refcount refs;
	uint8_t dtype;
	uint8_t ndim;
	bool contiguous;
	bool requires_grad;
	tdr_storage *storage;
	void *data; /* the first element; NULL where the storage has no bytes */
	int64_t offset;
	int64_t numel;
	int64_t sizes[]; /* [ndim], then the strides [ndim] */
};

_Static_assert(TDR_C128 <= UINT8_MAX && TDR_MAX_DIMS <= UINT8_MAX, "dtype and ndim must fit a byte");

/* ---- making ---- */

static tdr_status check_inside(const tdr_storage *storage, tdr_dtype dtype, int64_t offset, int64_t extent)
{
	int64_t nbytes = (int64_t)tdr_storage_nbytes(storage), begin, end;

	if (offset < 0)
		return error_set(TDR_EINVAL, "a view at offset %" PRId64 "; an offset cannot be negative", offset);
	if (__builtin_mul_overflow(offset, (int64_t)tdr_dtype_size(dtype), &begin) ||
	    __builtin_add_overflow(begin, extent, &end) || end > nbytes)
		return error_set(TDR_EINVAL,
		                 "a view of %" PRId64 " bytes at offset %" PRId64 " (%s elements) reaches past the end "
		                 "of its storage, which has %" PRId64 " bytes",
		                 extent, offset, tdr_dtype_name(dtype), nbytes);
	return TDR_OK;
}

tdr_status tdr_tensor_view(tdr_storage *storage, tdr_dtype dtype, size_t ndim, const int64_t *sizes,
                           const int64_t *strides, int64_t offset, tdr_tensor **ret_tensor)
{
	struct shape shape;
	tdr_tensor *tensor;
	tdr_status status;
	char *data;

	if (!storage)
		return error_set(TDR_EINVAL, "a view of no storage: it is NULL");
	status = shape_measure(dtype, ndim, sizes, strides, &shape);
	if (status == TDR_OK)
		status = check_inside(storage, dtype, offset, shape.extent);
	if (status != TDR_OK)
		return status;
	tensor = malloc(sizeof(*tensor) + 2 * ndim * sizeof(int64_t));
	if (!tensor)
		return error_nomem();
	data = tdr_storage_data(storage);
	*tensor = (tdr_tensor){
	    .dtype = (uint8_t)dtype,
	    .ndim = (uint8_t)ndim,
	    .contiguous = shape.contiguous,
	    .storage = tdr_storage_ref(storage),
	    .data = data ? data + (size_t)offset * tdr_dtype_size(dtype) : NULL,
	    .offset = offset,
	    .numel = shape.numel,
	};
	refcount_init(&tensor->refs);
	if (ndim > 0)
		memcpy(tensor->sizes, sizes, ndim * sizeof(int64_t));
	if (strides && ndim > 0)
		memcpy(tensor->sizes + ndim, strides, ndim * sizeof(int64_t));
	else
		shape_fill_strides(ndim, sizes, tensor->sizes + ndim);
	*ret_tensor = tensor;
	return TDR_OK;
}

/* A contiguous tensor in a new storage. */
static tdr_status new_contiguous(tdr_dtype dtype, size_t ndim, const int64_t *sizes, bool zeroed,
                                 tdr_tensor **ret_tensor)
{
	tdr_storage *storage;
	struct shape shape;
	tdr_status status = shape_measure(dtype, ndim, sizes, NULL, &shape);

	if (status != TDR_OK)
		return status;
	if (zeroed)
		status = storage_new_zeroed((size_t)shape.nbytes, &storage);
	else
		status = tdr_storage_new((size_t)shape.nbytes, &storage);
	if (status != TDR_OK)
		return status;
	status = tdr_tensor_view(storage, dtype, ndim, sizes, NULL, 0, ret_tensor);
	tdr_storage_unref(storage);
	return status;
}

tdr_status tdr_tensor_empty(tdr_dtype dtype, size_t ndim, const int64_t *sizes, tdr_tensor **ret_tensor)
{
	return new_contiguous(dtype, ndim, sizes, false, ret_tensor);
}

tdr_status tdr_tensor_zeros(tdr_dtype dtype, size_t ndim, const int64_t *sizes, tdr_tensor **ret_tensor)
{
	return new_contiguous(dtype, ndim, sizes, true, ret_tensor);
}

tdr_status tdr_tensor_copy_of(const void *data, tdr_dtype dtype, size_t ndim, const int64_t *sizes,
                              tdr_tensor **ret_tensor)
{
	struct shape shape;
	tdr_tensor *tensor;
	tdr_status status = shape_measure(dtype, ndim, sizes, NULL, &shape);

	if (status != TDR_OK)
		return status;
	if (!data && shape.nbytes > 0)
		return error_set(TDR_EINVAL, "a tensor of %" PRId64 " elements from NULL; pass the elements' address",
		                 shape.numel);
	status = tdr_tensor_empty(dtype, ndim, sizes, &tensor);
	if (status != TDR_OK)
		return status;
	if (shape.nbytes > 0)
		memcpy(tensor->data, data, (size_t)shape.nbytes);
	*ret_tensor = tensor;
	return TDR_OK;
}

tdr_status tdr_tensor_from_memory(void *data, tdr_dtype dtype, size_t ndim, const int64_t *sizes, tdr_deleter deleter,
                                  void *context, tdr_tensor **ret_tensor)
{
	tdr_storage *storage;
	struct shape shape;
	tdr_status status = shape_measure(dtype, ndim, sizes, NULL, &shape);

	if (status != TDR_OK)
		return status;
	status = tdr_storage_from_memory(data, (size_t)shape.nbytes, TDR_DEVICE_CPU, deleter, context, &storage);
	if (status != TDR_OK)
		return status;
	status = tdr_tensor_view(storage, dtype, ndim, sizes, NULL, 0, ret_tensor);
	if (status != TDR_OK)
		storage_forget_deleter(storage);
	tdr_storage_unref(storage);
	return status;
}

tdr_status tdr_tensor_clone(const tdr_tensor *tensor, tdr_tensor **ret_tensor)
{
	char device[DEVICE_TEXT_SIZE];
	tdr_tensor *clone;
	tdr_status status;

	if (tdr_tensor_device(tensor).type != TDR_CPU)
		return error_set(TDR_EUNSUPPORTED, "copying a tensor on \"%s\": only tensors on the CPU can be copied",
		                 device_print(tdr_tensor_device(tensor), device));
	status = tdr_tensor_empty(tensor->dtype, tensor->ndim, tensor->sizes, &clone);
	if (status != TDR_OK)
		return status;
	tensor_copy_elements(tensor, clone->data);
	clone->requires_grad = tensor->requires_grad;
	*ret_tensor = clone;
	return TDR_OK;
}

tdr_status tdr_tensor_contiguous(tdr_tensor *tensor, tdr_tensor **ret_tensor)
{
	if (!tensor->contiguous)
		return tdr_tensor_clone(tensor, ret_tensor);
	*ret_tensor = tdr_tensor_ref(tensor);
	return TDR_OK;
}

tdr_tensor *tdr_tensor_ref(tdr_tensor *tensor)
{
	if (tensor)
		refcount_get(&tensor->refs);
	return tensor;
}

tdr_tensor *tdr_tensor_unref(tdr_tensor *tensor)
{
	if (!tensor || !refcount_put(&tensor->refs))
		return NULL;
	tdr_storage_unref(tensor->storage);
	free(tensor);
	return NULL;
}

/* ---- reading ---- */

tdr_dtype tdr_tensor_dtype(const tdr_tensor *tensor)
{
	return tensor->dtype;
}

size_t tdr_tensor_ndim(const tdr_tensor *tensor)
{
	return tensor->ndim;
}

const int64_t *tdr_tensor_sizes(const tdr_tensor *tensor)
{
	return tensor->sizes;
}

const int64_t *tdr_tensor_strides(const tdr_tensor *tensor)
{
	return tensor->sizes + tensor->ndim;
}

int64_t tdr_tensor_offset(const tdr_tensor *tensor)
{
	return tensor->offset;
}

tdr_storage *tdr_tensor_storage(const tdr_tensor *tensor)
{
	return tensor->storage;
}

tdr_device tdr_tensor_device(const tdr_tensor *tensor)
{
	return tdr_storage_device(tensor->storage);
}

int64_t tdr_tensor_numel(const tdr_tensor *tensor)
{
	return tensor->numel;
}

bool tdr_tensor_is_contiguous(const tdr_tensor *tensor)
{
	return tensor->contiguous;
}

void *tdr_tensor_data(const tdr_tensor *tensor)
{
	return tensor->data;
}

bool tdr_tensor_requires_grad(const tdr_tensor *tensor)
{
	return tensor->requires_grad;
}

void tdr_tensor_set_requires_grad(tdr_tensor *tensor, bool requires_grad)
{
	tensor->requires_grad = requires_grad;
}
