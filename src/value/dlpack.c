/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exchange with other libraries through DLPack 0.6 (https://dmlc.github.io/dlpack). A DLPack tensor does not tell how large
 * its memory is: an imported one gets a storage that reaches from its first element to its last.
 */
#include "base/error.h"
#include "base/macros.h"
#include "value/shape.h"
#include "value/storage.h"

#include <dlpack/dlpack.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/tensor.h>

/* What DLPack 0.7 and later call kDLBool: libraries built with those write it into the same struct. */
#define DL_BOOL 6

static const struct {
	uint8_t code;
	uint8_t bits;
} dl_types[] = {
    [TDR_BOOL] = {DL_BOOL, 8},  [TDR_U8] = {kDLUInt, 8},      [TDR_I8] = {kDLInt, 8},
    [TDR_I16] = {kDLInt, 16},   [TDR_I32] = {kDLInt, 32},     [TDR_I64] = {kDLInt, 64},
    [TDR_U16] = {kDLUInt, 16},  [TDR_U32] = {kDLUInt, 32},    [TDR_U64] = {kDLUInt, 64},
    [TDR_F16] = {kDLFloat, 16}, [TDR_BF16] = {kDLBfloat, 16}, [TDR_F32] = {kDLFloat, 32},
    [TDR_F64] = {kDLFloat, 64}, [TDR_C64] = {kDLComplex, 64}, [TDR_C128] = {kDLComplex, 128},
};

/* ---- import ---- */

static tdr_status read_dtype(DLDataType type, tdr_dtype *ret_dtype)
{
	for (size_t i = 0; i < COUNT_OF(dl_types) && type.lanes == 1; i++) {
		if (dl_types[i].code == type.code && dl_types[i].bits == type.bits) {
			*ret_dtype = (tdr_dtype)i;
			return TDR_OK;
		}
	}
	return error_set(TDR_EUNSUPPORTED, "a DLPack tensor of type code %d, %d bits, %d lanes: there is no such dtype",
	                 type.code, type.bits, type.lanes);
}

static tdr_status read_device(DLDevice from, tdr_device *ret_device)
{
	switch (from.device_type) {
	case kDLCPU:
		*ret_device = TDR_DEVICE_CPU;
		return TDR_OK;
	case kDLCUDA:
		*ret_device = (tdr_device){TDR_CUDA, from.device_id};
		return TDR_OK;
	default:
		return error_set(TDR_EUNSUPPORTED,
		                 "a DLPack tensor on device type %d; CPU (%d) and CUDA (%d) are supported",
		                 (int)from.device_type, kDLCPU, kDLCUDA);
	}
}

/* The first element's address. The byte offset need not be a multiple of the itemsize: the storage begins at its end. */
static tdr_status read_data(const DLTensor *from, int64_t extent, void **ret_data)
{
	uintptr_t data;

	if (extent == 0) {
		*ret_data = NULL;
		return TDR_OK;
	}
	if (!from->data)
		return error_set(TDR_EINVAL, "a DLPack tensor with elements, whose data is NULL");
	if (__builtin_add_overflow((uintptr_t)from->data, from->byte_offset, &data))
		return error_set(TDR_EINVAL, "a DLPack tensor's byte offset of %" PRIu64 ": past the address space",
		                 from->byte_offset);
	*ret_data = (char *)from->data + from->byte_offset;
	return TDR_OK;
}

static void release_managed(void *context, void *data)
{
	DLManagedTensor *managed = context;

	(void)data;
	if (managed->deleter)
		managed->deleter(managed);
}

tdr_status tdr_tensor_from_dlpack(struct DLManagedTensor *managed, tdr_tensor **ret_tensor)
{
	const DLTensor *from;
	tdr_storage *storage;
	tdr_device device = TDR_DEVICE_CPU;
	tdr_dtype dtype = TDR_U8;
	struct shape shape;
	tdr_status status;
	void *data = NULL;

	if (!managed)
		return error_set(TDR_EINVAL, "a DLPack tensor that is NULL");
	from = &managed->dl_tensor;
	if (from->ndim < 0)
		return error_set(TDR_EINVAL, "a DLPack tensor of %d dimensions", from->ndim);
	status = read_dtype(from->dtype, &dtype);
	if (status == TDR_OK)
		status = read_device(from->device, &device);
	if (status == TDR_OK)
		status = shape_measure(dtype, (size_t)from->ndim, from->shape, from->strides, &shape);
	if (status == TDR_OK)
		status = read_data(from, shape.extent, &data);
	if (status == TDR_OK)
		status =
		    tdr_storage_from_memory(data, (size_t)shape.extent, device, release_managed, managed, &storage);
	if (status != TDR_OK)
		return status;
	status = tdr_tensor_view(storage, dtype, (size_t)from->ndim, from->shape, from->strides, 0, ret_tensor);
	if (status != TDR_OK)
		storage_forget_deleter(storage);
	tdr_storage_unref(storage);
	return status;
}

/* ---- export ---- */

/* One allocation: what is handed out, and its arrays. It holds a reference to the tensor in manager_ctx. */
struct export
{
	DLManagedTensor managed;
	int64_t shape[]; /* [ndim], then the strides [ndim] */
};

static void export_free(DLManagedTensor *managed)
{
	tdr_tensor_unref(managed->manager_ctx);
	free(container_of(managed, struct export, managed));
}

tdr_status tdr_tensor_to_dlpack(tdr_tensor *tensor, struct DLManagedTensor **ret_managed)
{
	tdr_dtype dtype = tdr_tensor_dtype(tensor);
	tdr_device device = tdr_tensor_device(tensor);
	size_t ndim = tdr_tensor_ndim(tensor);
	struct export *export = malloc(sizeof(*export) + 2 * ndim * sizeof(int64_t));

	if (!export)
		return error_nomem();
	if (ndim > 0) {
		memcpy(export->shape, tdr_tensor_sizes(tensor), ndim * sizeof(int64_t));
		memcpy(export->shape + ndim, tdr_tensor_strides(tensor), ndim * sizeof(int64_t));
	}
	/* Not as storage and byte_offset: there are libraries that overlook the latter. */
	export->managed = (DLManagedTensor){
	    .dl_tensor =
		{
		    .data = tdr_tensor_data(tensor),
		    .device = {device.type == TDR_CUDA ? kDLCUDA : kDLCPU, device.type == TDR_CUDA ? device.index : 0},
		    .ndim = (int)ndim,
		    .dtype = {dtype == TDR_BOOL ? kDLUInt : dl_types[dtype].code, dl_types[dtype].bits, 1},
		    .shape = export->shape,
		    .strides = export->shape + ndim,
		},
	    .manager_ctx = tdr_tensor_ref(tensor),
	    .deleter = export_free,
	};
	*ret_managed = &export->managed;
	return TDR_OK;
}
