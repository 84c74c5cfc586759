/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensors to bytes, and the storages that a message carries.
 *
 * Each storage is carried once, so that two views of one arrive as two views of one. But a message should not carry a
 * large storage for a small view: such a view is compacted, that is cloned into a storage of its own, and met again it
 * is the same clone.
 */
#include "value/encode.h"

#include "base/error.h"
#include "value/msgpack.h"
#include "value/shape.h"
#include "value/tensor.h"

/* Storages up to this size are carried whole. */
#define COMPACT_PAST 8192

struct clone {
	tdr_tensor *view;  /* counted, as what follows */
	tdr_tensor *clone; /* the same elements */
};

void collected_reset(struct encoder *encoder)
{
	struct clone *clones = (struct clone *)encoder->clones.data;

	for (size_t i = 0; i < encoder->nstorages; i++)
		tdr_storage_unref(encoder->storages[i]);
	for (size_t i = 0; i < encoder->clones.size / sizeof(*clones); i++) {
		tdr_tensor_unref(clones[i].view);
		tdr_tensor_unref(clones[i].clone);
	}
	encoder->nstorages = 0;
	encoder->clones.size = 0;
	encoder->clones.failed = false;
	pointers_clear(&encoder->collected);
	hash_index_clear(&encoder->clone_index);
}

void collected_fini(struct encoder *encoder)
{
	collected_reset(encoder);
	pointers_fini(&encoder->collected);
	buffer_fini(&encoder->clones);
	hash_index_fini(&encoder->clone_index);
	encoder->storages = NULL;
}

/* ---- compaction ---- */

static bool worth_compacting(const tdr_tensor *tensor)
{
	size_t whole = tdr_storage_nbytes(tdr_tensor_storage(tensor));

	return whole > COMPACT_PAST && tensor_nbytes(tensor) <= whole / 2;
}

static bool same_view(const tdr_tensor *a, const tdr_tensor *b)
{
	size_t ndim = tdr_tensor_ndim(a), size = ndim * sizeof(int64_t);

	if (a == b)
		return true;
	return tdr_tensor_storage(a) == tdr_tensor_storage(b) && tdr_tensor_dtype(a) == tdr_tensor_dtype(b) &&
	       tdr_tensor_offset(a) == tdr_tensor_offset(b) && ndim == tdr_tensor_ndim(b) &&
	       (ndim == 0 || (memcmp(tdr_tensor_sizes(a), tdr_tensor_sizes(b), size) == 0 &&
	                      memcmp(tdr_tensor_strides(a), tdr_tensor_strides(b), size) == 0));
}

/* The view's clone, borrowed; made the first time that the message meets the view. */
static tdr_status compact(struct encoder *encoder, tdr_tensor *view, tdr_tensor **ret_clone)
{
	uint64_t hash = hash_word((uintptr_t)tdr_tensor_storage(view) + (uint64_t)tdr_tensor_offset(view) * 3);
	struct clone *clones = (struct clone *)encoder->clones.data, made;
	size_t probe = (size_t)hash;
	uint32_t position;
	tdr_status status;

	while (hash_index_next(&encoder->clone_index, hash, &probe, &position)) {
		if (same_view(clones[position].view, view)) {
			*ret_clone = clones[position].clone;
			return TDR_OK;
		}
	}
	position = (uint32_t)(encoder->clones.size / sizeof(made));
	if (!buffer_reserve(&encoder->clones, sizeof(made)))
		return error_nomem();
	status = tdr_tensor_clone(view, &made.clone);
	if (status != TDR_OK)
		return status;
	if (!hash_index_add(&encoder->clone_index, hash, position)) {
		tdr_tensor_unref(made.clone);
		return error_nomem();
	}
	made.view = tdr_tensor_ref(view);
	buffer_append(&encoder->clones, &made, sizeof(made));
	*ret_clone = made.clone;
	return TDR_OK;
}

/* ---- storages ---- */

/* The storage's number in the message; it is added if it has none. */
static tdr_status number_storage(struct encoder *encoder, tdr_storage *storage, uint32_t *ret_number)
{
	ssize_t number = pointers_find(&encoder->collected, storage);

	if (number >= 0) {
		*ret_number = (uint32_t)number;
		return TDR_OK;
	}
	if (encoder->nstorages >= encoder->limits->max_storages)
		return error_set(
		    TDR_ELIMIT,
		    "more than %zu storages in one message: send fewer tensors at once, or views of one storage",
		    encoder->limits->max_storages);
	if (!pointers_add(&encoder->collected, storage))
		return error_nomem();
	tdr_storage_ref(storage);
	encoder->storages = (tdr_storage **)encoder->collected.items;
	*ret_number = (uint32_t)encoder->nstorages++;
	return TDR_OK;
}

/* Whether the strides are just those that contiguous elements have, so that they need not be written. */
static bool has_plain_strides(const tdr_tensor *tensor)
{
	size_t ndim = tdr_tensor_ndim(tensor);
	int64_t plain[TDR_MAX_DIMS];

	if (ndim == 0)
		return true;
	return shape_fill_strides(ndim, tdr_tensor_sizes(tensor), plain) &&
	       memcmp(plain, tdr_tensor_strides(tensor), ndim * sizeof(plain[0])) == 0;
}

tdr_status encode_tensor(struct encoder *encoder, tdr_tensor *tensor)
{
	size_t ndim = tdr_tensor_ndim(tensor);
	struct wire_tensor wire = {.dtype = (uint8_t)tdr_tensor_dtype(tensor), .ndim = (uint8_t)ndim};
	tdr_status status = TDR_OK;
	bool plain;

	if (tdr_tensor_device(tensor).type != TDR_CPU)
		return error_set(TDR_EUNSUPPORTED,
		                 "a tensor on another device than the CPU cannot be sent: copy it to the CPU first");
	wire.flags = tdr_tensor_requires_grad(tensor) ? WIRE_TENSOR_REQUIRES_GRAD : 0;
	if (worth_compacting(tensor))
		status = compact(encoder, tensor, &tensor);
	if (status == TDR_OK)
		status = number_storage(encoder, tdr_tensor_storage(tensor), &wire.storage);
	if (status != TDR_OK)
		return status;
	plain = has_plain_strides(tensor);
	wire.flags |= plain ? WIRE_TENSOR_CONTIGUOUS : 0;
	wire.offset = tdr_tensor_offset(tensor);
	encode_extension(encoder, EXTENSION_TENSOR, sizeof(wire) + ndim * sizeof(int64_t) * (plain ? 1 : 2));
	buffer_append(&encoder->body, &wire, sizeof(wire));
	buffer_append(&encoder->body, tdr_tensor_sizes(tensor), ndim * sizeof(int64_t));
	if (!plain)
		buffer_append(&encoder->body, tdr_tensor_strides(tensor), ndim * sizeof(int64_t));
	return TDR_OK;
}
