/* SPDX-License-Identifier: Apache-2.0 */
/* DLPack: what comes in, what goes out, and what is refused. */
#include "base/macros.h"

#include <dlpack/dlpack.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <tendril/tensor.h>

#include <cmocka.h>

#define UNTOUCHED ((tdr_tensor *)(uintptr_t)0x40)

static const struct {
	tdr_dtype dtype;
	DLDataType type;
} types[] = {
    {TDR_U8, {kDLUInt, 8, 1}},      {TDR_I8, {kDLInt, 8, 1}},         {TDR_I16, {kDLInt, 16, 1}},
    {TDR_I32, {kDLInt, 32, 1}},     {TDR_I64, {kDLInt, 64, 1}},       {TDR_U16, {kDLUInt, 16, 1}},
    {TDR_U32, {kDLUInt, 32, 1}},    {TDR_U64, {kDLUInt, 64, 1}},      {TDR_F16, {kDLFloat, 16, 1}},
    {TDR_BF16, {kDLBfloat, 16, 1}}, {TDR_F32, {kDLFloat, 32, 1}},     {TDR_F64, {kDLFloat, 64, 1}},
    {TDR_C64, {kDLComplex, 64, 1}}, {TDR_C128, {kDLComplex, 128, 1}},
};

/* A DLPack tensor of somebody else's: 2 by 3, in memory that counts how often it is given back. */
struct foreign {
	DLManagedTensor managed;
	int64_t shape[3], strides[3];
	int deleted;
	_Alignas(16) char bytes[256];
};

static void foreign_deleted(DLManagedTensor *managed)
{
	container_of(managed, struct foreign, managed)->deleted++;
}

static struct foreign *foreign_init(struct foreign *foreign, DLDataType type)
{
	*foreign = (struct foreign){.shape = {2, 3, 1}, .strides = {1, 2, 1}};
	for (size_t i = 0; i < sizeof(foreign->bytes); i++)
		foreign->bytes[i] = (char)(i * 13);
	foreign->managed = (DLManagedTensor){
	    .dl_tensor = {.data = foreign->bytes,
	                  .device = {kDLCPU, 0},
	                  .ndim = 2,
	                  .dtype = type,
	                  .shape = foreign->shape,
	                  .strides = foreign->strides},
	    .deleter = foreign_deleted,
	};
	return foreign;
}

/* ---- import ---- */

static void test_import_dtypes(void **state)
{
	for (size_t i = 0; i < COUNT_OF(types); i++) {
		struct foreign foreign;
		tdr_tensor *tensor;

		foreign_init(&foreign, types[i].type);
		assert_int_equal(tdr_tensor_from_dlpack(&foreign.managed, &tensor), TDR_OK);
		assert_int_equal(tdr_tensor_dtype(tensor), types[i].dtype);
		assert_int_equal(tdr_tensor_ndim(tensor), 2);
		assert_int_equal(tdr_tensor_sizes(tensor)[1], 3);
		assert_memory_equal(tdr_tensor_strides(tensor), foreign.strides, 2 * sizeof(int64_t));
		assert_ptr_equal(tdr_tensor_data(tensor), foreign.bytes);
		assert_int_equal(tdr_storage_nbytes(tdr_tensor_storage(tensor)), 6 * types[i].type.bits / 8);
		assert_int_equal(foreign.deleted, 0);
		tdr_tensor_unref(tensor);
		assert_int_equal(foreign.deleted, 1);
	}
}

static void test_import_bool(void **state)
{
	struct foreign foreign;
	tdr_tensor *tensor;

	foreign_init(&foreign, (DLDataType){6, 8, 1});
	assert_int_equal(tdr_tensor_from_dlpack(&foreign.managed, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_dtype(tensor), TDR_BOOL);
	tdr_tensor_unref(tensor);
}

static void test_import_without_strides(void **state)
{
	struct foreign foreign;
	tdr_storage *storage;
	tdr_tensor *tensor;

	foreign_init(&foreign, (DLDataType){kDLFloat, 32, 1})->managed.dl_tensor.strides = NULL;
	assert_int_equal(tdr_tensor_from_dlpack(&foreign.managed, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_strides(tensor)[0], 3);
	assert_int_equal(tdr_tensor_strides(tensor)[1], 1);
	/* The deleter waits for the storage, not for the tensor. */
	storage = tdr_storage_ref(tdr_tensor_storage(tensor));
	tdr_tensor_unref(tensor);
	assert_int_equal(foreign.deleted, 0);
	tdr_storage_unref(storage);
	assert_int_equal(foreign.deleted, 1);
}

static void test_import_offsets(void **state)
{
	static const uint64_t offsets[] = {0, 1, 3, 4, 16, 101};

	for (size_t i = 0; i < COUNT_OF(offsets); i++) {
		struct foreign foreign;
		tdr_tensor *tensor, *clone;
		int32_t wanted;

		foreign_init(&foreign, (DLDataType){kDLInt, 32, 1})->managed.dl_tensor.byte_offset = offsets[i];
		assert_int_equal(tdr_tensor_from_dlpack(&foreign.managed, &tensor), TDR_OK);
		assert_ptr_equal(tdr_tensor_data(tensor), foreign.bytes + offsets[i]);
		assert_int_equal(tdr_tensor_clone(tensor, &clone), TDR_OK);
		memcpy(&wanted, foreign.bytes + offsets[i] + 2 * 4, 4); /* row 0, column 1 */
		assert_int_equal(((int32_t *)tdr_tensor_data(clone))[1], wanted);
		tdr_tensor_unref(clone);
		tdr_tensor_unref(tensor);
		assert_int_equal(foreign.deleted, 1);
	}
}

static void test_import_shapes(void **state)
{
	struct foreign foreign;
	tdr_tensor *tensor;

	/* no dimensions, no arrays */
	foreign_init(&foreign, (DLDataType){kDLFloat, 64, 1});
	foreign.managed.dl_tensor.ndim = 0;
	foreign.managed.dl_tensor.shape = foreign.managed.dl_tensor.strides = NULL;
	assert_int_equal(tdr_tensor_from_dlpack(&foreign.managed, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_numel(tensor), 1);
	tdr_tensor_unref(tensor);
	/* no elements, no data */
	foreign_init(&foreign, (DLDataType){kDLFloat, 64, 1});
	foreign.shape[1] = 0;
	foreign.managed.dl_tensor.data = NULL;
	foreign.managed.dl_tensor.byte_offset = 8;
	assert_int_equal(tdr_tensor_from_dlpack(&foreign.managed, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_numel(tensor), 0);
	tdr_tensor_unref(tensor);
	assert_int_equal(foreign.deleted, 1);
	/* expanded */
	foreign_init(&foreign, (DLDataType){kDLFloat, 64, 1});
	foreign.strides[0] = foreign.strides[1] = 0;
	assert_int_equal(tdr_tensor_from_dlpack(&foreign.managed, &tensor), TDR_OK);
	assert_int_equal(tdr_storage_nbytes(tdr_tensor_storage(tensor)), 8);
	tdr_tensor_unref(tensor);
	/* nobody to tell */
	foreign_init(&foreign, (DLDataType){kDLFloat, 64, 1})->managed.deleter = NULL;
	assert_int_equal(tdr_tensor_from_dlpack(&foreign.managed, &tensor), TDR_OK);
	tdr_tensor_unref(tensor);
	assert_int_equal(foreign.deleted, 0);
}

static void test_import_cuda(void **state)
{
	struct foreign foreign;
	tdr_tensor *tensor;

	foreign_init(&foreign, (DLDataType){kDLFloat, 32, 1})->managed.dl_tensor.device = (DLDevice){kDLCUDA, 2};
	assert_int_equal(tdr_tensor_from_dlpack(&foreign.managed, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_device(tensor).type, TDR_CUDA);
	assert_int_equal(tdr_tensor_device(tensor).index, 2);
	tdr_tensor_unref(tensor);
}

static void check_refused(struct foreign *foreign, tdr_status status)
{
	tdr_tensor *tensor = UNTOUCHED;

	assert_int_equal(tdr_tensor_from_dlpack(&foreign->managed, &tensor), status);
	assert_ptr_equal(tensor, UNTOUCHED);
	assert_int_equal(foreign->deleted, 0);
	assert_string_not_equal(tdr_last_error(), "");
}

static void test_import_refuses_types(void **state)
{
	static const DLDataType bad[] = {
	    {kDLFloat, 32, 4},   {kDLFloat, 32, 0}, {kDLFloat, 128, 1}, {kDLInt, 4, 1},
	    {kDLInt, 128, 1},    {kDLBfloat, 8, 1}, {kDLUInt, 1, 1},    {kDLOpaqueHandle, 64, 1},
	    {kDLComplex, 32, 1}, {7, 8, 1},         {255, 8, 1},        {kDLFloat, 0, 1},
	};
	static const DLDeviceType devices[] = {kDLCUDAHost, kDLOpenCL,   kDLVulkan, kDLMetal,       kDLVPI,
	                                       kDLROCM,     kDLROCMHost, kDLExtDev, kDLCUDAManaged, (DLDeviceType)0};
	struct foreign foreign;

	for (size_t i = 0; i < COUNT_OF(bad); i++)
		check_refused(foreign_init(&foreign, bad[i]), TDR_EUNSUPPORTED);
	for (size_t i = 0; i < COUNT_OF(devices); i++) {
		foreign_init(&foreign, types[0].type)->managed.dl_tensor.device.device_type = devices[i];
		check_refused(&foreign, TDR_EUNSUPPORTED);
	}
}

static void test_import_refuses_shapes(void **state)
{
	struct foreign foreign;
	DLTensor *from = &foreign.managed.dl_tensor;
	tdr_tensor *tensor = UNTOUCHED;

	assert_int_equal(tdr_tensor_from_dlpack(NULL, &tensor), TDR_EINVAL);
	assert_ptr_equal(tensor, UNTOUCHED);
	foreign_init(&foreign, types[4].type);
	from->ndim = -1;
	check_refused(&foreign, TDR_EINVAL);
	from->ndim = 33;
	check_refused(&foreign, TDR_EINVAL);
	foreign_init(&foreign, types[4].type);
	from->shape = NULL;
	check_refused(&foreign, TDR_EINVAL);
	foreign_init(&foreign, types[4].type);
	from->data = NULL;
	check_refused(&foreign, TDR_EINVAL);
	foreign_init(&foreign, types[4].type);
	foreign.shape[0] = -2;
	check_refused(&foreign, TDR_EINVAL);
	foreign_init(&foreign, types[4].type);
	foreign.strides[0] = -1;
	check_refused(&foreign, TDR_EINVAL);
	foreign_init(&foreign, types[4].type);
	from->byte_offset = UINT64_MAX - 4;
	check_refused(&foreign, TDR_EINVAL);
	foreign_init(&foreign, types[4].type);
	foreign.shape[0] = (int64_t)1 << 62;
	check_refused(&foreign, TDR_ELIMIT);
	foreign_init(&foreign, types[4].type);
	foreign.strides[1] = (int64_t)1 << 61;
	check_refused(&foreign, TDR_EINVAL);
	foreign_init(&foreign, types[4].type);
	from->device = (DLDevice){kDLCUDA, -1};
	check_refused(&foreign, TDR_EINVAL);
}

/* ---- export ---- */

static void test_export(void **state)
{
	for (size_t i = 0; i < COUNT_OF(types); i++) {
		const int64_t sizes[] = {2, 3, 4}, strides[] = {1, 8, 2};
		DLManagedTensor *managed;
		tdr_tensor *tensor, *view;

		assert_int_equal(tdr_tensor_zeros(types[i].dtype, TDR_SHAPE(40), &tensor), TDR_OK);
		assert_int_equal(
		    tdr_tensor_view(tdr_tensor_storage(tensor), types[i].dtype, 3, sizes, strides, 7, &view), TDR_OK);
		tdr_tensor_unref(tensor);
		assert_int_equal(tdr_tensor_to_dlpack(view, &managed), TDR_OK);
		assert_int_equal(managed->dl_tensor.ndim, 3);
		assert_memory_equal(managed->dl_tensor.shape, sizes, sizeof(sizes));
		assert_memory_equal(managed->dl_tensor.strides, strides, sizeof(strides));
		assert_int_equal(managed->dl_tensor.dtype.code, types[i].type.code);
		assert_int_equal(managed->dl_tensor.dtype.bits, types[i].type.bits);
		assert_int_equal(managed->dl_tensor.dtype.lanes, 1);
		assert_int_equal(managed->dl_tensor.device.device_type, kDLCPU);
		assert_int_equal(managed->dl_tensor.device.device_id, 0);
		assert_ptr_equal((char *)managed->dl_tensor.data + managed->dl_tensor.byte_offset,
		                 tdr_tensor_data(view));
		tdr_tensor_unref(view);
		memset(managed->dl_tensor.data, 1, types[i].type.bits / 8); /* it lives on */
		managed->deleter(managed);
	}
}

static void test_export_bool_and_cuda(void **state)
{
	char bytes[4];
	DLManagedTensor *managed;
	tdr_storage *storage;
	tdr_tensor *tensor;

	assert_int_equal(tdr_tensor_zeros(TDR_BOOL, 0, NULL, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_to_dlpack(tensor, &managed), TDR_OK);
	assert_int_equal(managed->dl_tensor.dtype.code, kDLUInt);
	assert_int_equal(managed->dl_tensor.dtype.bits, 8);
	assert_int_equal(managed->dl_tensor.ndim, 0);
	managed->deleter(managed);
	tdr_tensor_unref(tensor);

	assert_int_equal(tdr_storage_from_memory(bytes, 4, (tdr_device){TDR_CUDA, 3}, NULL, NULL, &storage), TDR_OK);
	assert_int_equal(tdr_tensor_view(storage, TDR_F32, 0, NULL, NULL, 0, &tensor), TDR_OK);
	assert_int_equal(tdr_tensor_to_dlpack(tensor, &managed), TDR_OK);
	assert_int_equal(managed->dl_tensor.device.device_type, kDLCUDA);
	assert_int_equal(managed->dl_tensor.device.device_id, 3);
	managed->deleter(managed);
	tdr_tensor_unref(tensor);
	tdr_storage_unref(storage);
}

/* There and back again: the same bytes, kept alive by whoever holds them last. */
static void test_round_trip(void **state)
{
	for (size_t i = 0; i < COUNT_OF(types); i++) {
		DLManagedTensor *managed;
		tdr_tensor *tensor, *back;

		assert_int_equal(tdr_tensor_zeros(types[i].dtype, TDR_SHAPE(2, 3), &tensor), TDR_OK);
		assert_int_equal(tdr_tensor_to_dlpack(tensor, &managed), TDR_OK);
		assert_int_equal(tdr_tensor_from_dlpack(managed, &back), TDR_OK);
		assert_ptr_equal(tdr_tensor_data(back), tdr_tensor_data(tensor));
		assert_int_equal(tdr_tensor_dtype(back), types[i].dtype);
		assert_true(tdr_tensor_is_contiguous(back));
		tdr_tensor_unref(tensor);
		memset(tdr_tensor_data(back), 1, 6 * tdr_dtype_size(types[i].dtype));
		tdr_tensor_unref(back);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_import_dtypes),
	    cmocka_unit_test(test_import_bool),
	    cmocka_unit_test(test_import_without_strides),
	    cmocka_unit_test(test_import_offsets),
	    cmocka_unit_test(test_import_shapes),
	    cmocka_unit_test(test_import_cuda),
	    cmocka_unit_test(test_import_refuses_types),
	    cmocka_unit_test(test_import_refuses_shapes),
	    cmocka_unit_test(test_export),
	    cmocka_unit_test(test_export_bool_and_cuda),
	    cmocka_unit_test(test_round_trip),
	};

	return cmocka_run_group_tests_name("dlpack", tests, NULL, NULL);
}
