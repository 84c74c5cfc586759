/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storages and tensors.
 *
 * A storage is counted bytes on a device. A tensor is a typed, shaped, strided view of one; several tensors may view one
 * storage, and a message that carries them arrives with views of one storage again. Sizes, strides and offsets count
 * elements, not bytes. A tensor's description never changes; its bytes may, and who writes them while another thread reads
 * them answers for that.
 */
#ifndef TENDRIL_TENSOR_H
#define TENDRIL_TENSOR_H

#include <tendril/api.h>
#include <tendril/status.h>

/* Dimensions a tensor may have. */
#define TDR_MAX_DIMS 32

/* X(name, number, size in bytes, short name). The numbers cross the wire: they are frozen. */
#define TDR_DTYPE_LIST(X)                                                                                              \
	X(TDR_BOOL, 0, 1, "bool")                                                                                      \
	X(TDR_U8, 1, 1, "u8")                                                                                          \
	X(TDR_I8, 2, 1, "i8")                                                                                          \
	X(TDR_I16, 3, 2, "i16")                                                                                        \
	X(TDR_I32, 4, 4, "i32")                                                                                        \
	X(TDR_I64, 5, 8, "i64")                                                                                        \
	X(TDR_U16, 6, 2, "u16")                                                                                        \
	X(TDR_U32, 7, 4, "u32")                                                                                        \
	X(TDR_U64, 8, 8, "u64")                                                                                        \
	X(TDR_F16, 9, 2, "f16")                                                                                        \
	X(TDR_BF16, 10, 2, "bf16")                                                                                     \
	X(TDR_F32, 11, 4, "f32")                                                                                       \
	X(TDR_F64, 12, 8, "f64")                                                                                       \
	X(TDR_C64, 13, 8, "c64")                                                                                       \
	X(TDR_C128, 14, 16, "c128")

typedef enum tdr_dtype {
#define TDR_DTYPE_ENUM(name, number, size, text) name = (number),
	TDR_DTYPE_LIST(TDR_DTYPE_ENUM)
#undef TDR_DTYPE_ENUM
} tdr_dtype;

typedef enum tdr_device_type {
	TDR_CPU = 0,
	TDR_CUDA = 1,
} tdr_device_type;

typedef struct tdr_device {
	tdr_device_type type;
	int32_t index; /* -1: the current one of its type */
} tdr_device;

#define TDR_DEVICE_CPU ((tdr_device){TDR_CPU, -1})

typedef struct tdr_storage tdr_storage;
typedef struct tdr_tensor tdr_tensor;

/* Frees memory that a storage was made from. Runs once, in the thread that drops the last reference. */
typedef void (*tdr_deleter)(void *context, void *data);

/*
 * A shape as two arguments, count and sizes: tdr_tensor_zeros(TDR_F32, TDR_SHAPE(64, 10), &weights). Zero dimensions are
 * written `0, NULL`. (C only; in C++ pass a count and an array.)
 */
#define TDR_SHAPE(...) (sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), ((const int64_t[]){__VA_ARGS__})

TDR_BEGIN_DECLS

/* Bytes of one element; 0 for a number that is no dtype. */
TDR_API size_t tdr_dtype_size(tdr_dtype dtype);

/* Short name, such as "f32"; "?" for a number that is no dtype. The string is static. */
TDR_API const char *tdr_dtype_name(tdr_dtype dtype);

/* ---- storages ---- */

/* A new CPU storage of `nbytes` (0 is legal) uninitialised bytes, aligned to 64. Errors: TDR_ENOMEM. */
TDR_API TDR_MUST_USE tdr_status tdr_storage_new(size_t nbytes, tdr_storage **ret_storage);

/*
 * A storage over memory of the caller's. `deleter` (may be NULL: the caller keeps the memory alive) runs with `context` and
 * `data` when the last reference is dropped; when this function fails, it is not run. Errors: TDR_EINVAL (NULL for more
 * than 0 bytes, more bytes than PTRDIFF_MAX, an unknown device, CUDA without an index), TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_storage_from_memory(void *data, size_t nbytes, tdr_device device,
                                                        tdr_deleter deleter, void *context, tdr_storage **ret_storage);

TDR_API tdr_storage *tdr_storage_ref(tdr_storage *storage);
TDR_API tdr_storage *tdr_storage_unref(tdr_storage *storage);

/* The first byte; NULL only where the storage has 0 bytes. */
TDR_API void *tdr_storage_data(const tdr_storage *storage);
TDR_API size_t tdr_storage_nbytes(const tdr_storage *storage);

/* Where the bytes are. The CPU is always TDR_DEVICE_CPU, with whatever index the storage was made. */
TDR_API tdr_device tdr_storage_device(const tdr_storage *storage);

/* ---- making tensors ---- */

/*
 * A contiguous CPU tensor of shape `sizes` [ndim], uninitialised. Errors: TDR_EINVAL (dtype, ndim past TDR_MAX_DIMS, a
 * negative size), TDR_ELIMIT (the bytes overflow), TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_tensor_empty(tdr_dtype dtype, size_t ndim, const int64_t *sizes,
                                                 tdr_tensor **ret_tensor);

/* The same, all bytes zero. */
TDR_API TDR_MUST_USE tdr_status tdr_tensor_zeros(tdr_dtype dtype, size_t ndim, const int64_t *sizes,
                                                 tdr_tensor **ret_tensor);

/* The same, with the elements of `data` (contiguous, row by row) copied into it. */
TDR_API TDR_MUST_USE tdr_status tdr_tensor_copy_of(const void *data, tdr_dtype dtype, size_t ndim, const int64_t *sizes,
                                                   tdr_tensor **ret_tensor);

/*
 * A contiguous CPU tensor over memory of the caller's, without a copy; `deleter` as for tdr_storage_from_memory. Errors: as
 * for tdr_tensor_empty, and TDR_EINVAL for NULL with elements.
 */
TDR_API TDR_MUST_USE tdr_status tdr_tensor_from_memory(void *data, tdr_dtype dtype, size_t ndim, const int64_t *sizes,
                                                       tdr_deleter deleter, void *context, tdr_tensor **ret_tensor);

/*
 * A view of `storage`: element i of the first dimension lies strides[0] elements after element i - 1, the first element
 * `offset` elements after the storage's first byte. `strides` NULL: contiguous. Strides may be 0, not negative. Without
 * elements, the offset alone must lie within the storage, its end included. Errors: TDR_EINVAL (also when an element would
 * lie outside the storage), TDR_ELIMIT (so many elements, were they apart, would have more bytes than 63 bits count),
 * TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_tensor_view(tdr_storage *storage, tdr_dtype dtype, size_t ndim,
                                                const int64_t *sizes, const int64_t *strides, int64_t offset,
                                                tdr_tensor **ret_tensor);

/* The tensor itself (a new reference) where it is contiguous already, else a clone. Errors: as for tdr_tensor_clone. */
TDR_API TDR_MUST_USE tdr_status tdr_tensor_contiguous(tdr_tensor *tensor, tdr_tensor **ret_tensor);

/*
 * A contiguous copy in a storage of its own, with the mark of tdr_tensor_requires_grad. Errors: TDR_EUNSUPPORTED (a tensor
 * that is not on the CPU), TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_tensor_clone(const tdr_tensor *tensor, tdr_tensor **ret_tensor);

TDR_API tdr_tensor *tdr_tensor_ref(tdr_tensor *tensor);
TDR_API tdr_tensor *tdr_tensor_unref(tdr_tensor *tensor);

/* ---- reading tensors ---- */

TDR_API tdr_dtype tdr_tensor_dtype(const tdr_tensor *tensor);
TDR_API size_t tdr_tensor_ndim(const tdr_tensor *tensor);
TDR_API const int64_t *tdr_tensor_sizes(const tdr_tensor *tensor);   /* [ndim] */
TDR_API const int64_t *tdr_tensor_strides(const tdr_tensor *tensor); /* [ndim], elements */
TDR_API int64_t tdr_tensor_offset(const tdr_tensor *tensor);         /* elements */
TDR_API tdr_storage *tdr_tensor_storage(const tdr_tensor *tensor);   /* borrowed */
TDR_API tdr_device tdr_tensor_device(const tdr_tensor *tensor);

/* Elements: the product of the sizes, 1 for zero dimensions. */
TDR_API int64_t tdr_tensor_numel(const tdr_tensor *tensor);

/*
 * Whether the elements lie row by row without gaps. A tensor without elements does; strides of dimensions of size 1 do not
 * matter.
 */
TDR_API bool tdr_tensor_is_contiguous(const tdr_tensor *tensor);

/*
 * The first element; NULL only where the storage has 0 bytes. Row-by-row order holds for contiguous tensors only. Memory of
 * the caller's, or from DLPack, may be aligned to less than an element.
 */
TDR_API void *tdr_tensor_data(const tdr_tensor *tensor);

/*
 * Whether gradients are asked for: a mark that travels with the tensor and that Tendril itself does not act on. Set it
 * before the tensor is shared.
 */
TDR_API bool tdr_tensor_requires_grad(const tdr_tensor *tensor);
TDR_API void tdr_tensor_set_requires_grad(tdr_tensor *tensor, bool requires_grad);

/* ---- DLPack (https://dmlc.github.io/dlpack) ---- */

struct DLManagedTensor;

/*
 * Takes over a DLPack tensor: its deleter runs when the last view of the storage is dropped; when this function fails it
 * is not run. Its storage reaches from the first element to the last. Negative strides are refused. Type code 6, which
 * versions after 0.6 call bool, is taken for TDR_BOOL. Errors: TDR_EINVAL, TDR_ELIMIT (the bytes overflow),
 * TDR_EUNSUPPORTED (dtype, lanes, device), TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_tensor_from_dlpack(struct DLManagedTensor *managed, tdr_tensor **ret_tensor);

/*
 * The tensor as a DLPack tensor, without a copy; its deleter is to be called once by who takes it. TDR_BOOL is exported as
 * unsigned 8 bits (version 0.6 has no bool). Errors: TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_tensor_to_dlpack(tdr_tensor *tensor, struct DLManagedTensor **ret_managed);

TDR_END_DECLS

#endif
