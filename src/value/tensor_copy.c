/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying a strided tensor into contiguous bytes. Dimensions that lie behind each other are walked as one; then either the
 * innermost run is contiguous, and whole runs are copied, or elements are, in tiles, so that a transposed tensor's cache
 * lines are read once and not once per element. Elements may be unaligned.
 */
#include "value/tensor.h"

#include "base/macros.h"

#include <assert.h>
#include <string.h>

/* Elements on a tile's side. With elements of 4 bytes, a tile touches 4 KiB on either side. */
#define TILE 32

/* A dimension to walk: its size, and the bytes from one index to the next on both sides. */
struct axis {
	int64_t size, from, to;
};

/* Writes the tensor's axes, outermost first, without those of size 1, joined where they can be. Returns how many. */
static size_t collapse(const tdr_tensor *tensor, struct axis axes[TDR_MAX_DIMS])
{
	const int64_t *sizes = tdr_tensor_sizes(tensor), *strides = tdr_tensor_strides(tensor);
	int64_t itemsize = (int64_t)tdr_dtype_size(tdr_tensor_dtype(tensor)), to;
	size_t count = 0;

	for (size_t i = 0; i < tdr_tensor_ndim(tensor); i++) {
		int64_t from;

		if (sizes[i] == 1)
			continue; /* its stride may be any */
		from = strides[i] * itemsize;
		if (count > 0 && axes[count - 1].from == from * sizes[i]) {
			axes[count - 1].size *= sizes[i];
			axes[count - 1].from = from;
		} else {
			axes[count++] = (struct axis){.size = sizes[i], .from = from};
		}
	}
	to = itemsize;
	for (size_t i = count; i-- > 0;) {
		axes[i].to = to;
		to *= axes[i].size;
	}
	return count;
}

/* Takes out the axis along which the source's elements lie closest together; any if they are all the same ones. */
static struct axis take_closest(struct axis axes[], size_t *count)
{
	size_t best = *count - 1;
	struct axis closest;

	for (size_t i = 0; i < *count; i++)
		if (axes[i].from > 0 && (axes[best].from == 0 || axes[i].from < axes[best].from))
			best = i;
	closest = axes[best];
	*count -= 1;
	memmove(&axes[best], &axes[best + 1], (*count - best) * sizeof(*axes));
	return closest;
}

/* Made for each itemsize, so that memcpy becomes a load and a store. */
static inline __attribute__((always_inline)) void copy_tiles(char *to, const char *from, const struct axis *outer,
                                                             const struct axis *inner, size_t itemsize)
{
	for (int64_t row = 0; row < outer->size; row += TILE) {
		for (int64_t column = 0; column < inner->size; column += TILE) {
			int64_t row_end = MIN_OF(row + TILE, outer->size);
			int64_t column_end = MIN_OF(column + TILE, inner->size);

			for (int64_t i = row; i < row_end; i++)
				for (int64_t k = column; k < column_end; k++)
					memcpy(to + i * outer->to + k * inner->to,
					       from + i * outer->from + k * inner->from, itemsize);
		}
	}
}

static void copy_plane(char *to, const char *from, const struct axis *outer, const struct axis *inner, int64_t itemsize)
{
	if (inner->from == itemsize) {
		for (int64_t i = 0; i < outer->size; i++)
			memcpy(to + i * outer->to, from + i * outer->from, (size_t)(inner->size * itemsize));
		return;
	}
	switch (itemsize) {
	case 1:
		return copy_tiles(to, from, outer, inner, 1);
	case 2:
		return copy_tiles(to, from, outer, inner, 2);
	case 4:
		return copy_tiles(to, from, outer, inner, 4);
	case 8:
		return copy_tiles(to, from, outer, inner, 8);
	default:
		assert(itemsize == 16);
		return copy_tiles(to, from, outer, inner, 16);
	}
}

/* Steps to the next index of the axes, as an odometer does; false after the last. */
static bool step(const struct axis axes[], size_t count, int64_t index[], char **to, const char **from)
{
	for (size_t i = count; i-- > 0;) {
		*to += axes[i].to;
		*from += axes[i].from;
		if (++index[i] < axes[i].size)
			return true;
		*to -= axes[i].size * axes[i].to;
		*from -= axes[i].size * axes[i].from;
		index[i] = 0;
	}
	return false;
}

void tensor_copy_elements(const tdr_tensor *tensor, void *to)
{
	int64_t itemsize = (int64_t)tdr_dtype_size(tdr_tensor_dtype(tensor));
	const char *from = tdr_tensor_data(tensor);
	struct axis axes[TDR_MAX_DIMS], inner, outer = {.size = 1};
	int64_t index[TDR_MAX_DIMS] = {0};
	char *at = to;
	size_t count;

	assert(tdr_tensor_device(tensor).type == TDR_CPU);
	if (tdr_tensor_numel(tensor) == 0)
		return;
	if (tdr_tensor_is_contiguous(tensor)) {
		memcpy(to, from, tensor_nbytes(tensor));
		return;
	}
	count = collapse(tensor, axes);
	assert(count > 0);
	inner = axes[--count];
	if (count > 0)
		outer = inner.from == itemsize ? axes[--count] : take_closest(axes, &count);
	do
		copy_plane(at, from, &outer, &inner, itemsize);
	while (step(axes, count, index, &at, &from));
}
