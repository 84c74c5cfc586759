/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking several tensors at once, element by element, with broadcasting. Dimensions that lie alike in all of them are
 * joined, so that an inner loop gets runs as long as the layouts allow.
 */
#ifndef TENDRIL_OPERATORS_ITERATE_H
#define TENDRIL_OPERATORS_ITERATE_H

#include <tendril/tensor.h>

/* Tensors that one walk takes: what is written, and up to three that are read. */
#define ITERATE_TENSORS 4

/*
 * Works on a run of `count` elements: element i of tensor t is at data[t] + i * strides[t] (bytes). Tensors are
 * numbered in the order they were added.
 */
typedef void (*iterate_inner)(char *const data[], const int64_t strides[], int64_t count, void *context);

struct iterate {
	size_t ntensors;
	size_t ndim;
	int64_t sizes[TDR_MAX_DIMS];
	int64_t strides[TDR_MAX_DIMS][ITERATE_TENSORS]; /* bytes */
	char *data[ITERATE_TENSORS];
};

/* A walk over this shape, of no tensor yet. */
void iterate_init(struct iterate *iterate, size_t ndim, const int64_t *sizes);

/* Adds a tensor (borrowed) whose shape can be broadcast to the walk's. */
void iterate_add(struct iterate *iterate, const tdr_tensor *tensor);

/*
 * Walks; `inner` is not called for a shape without elements. A walk may be run again, with `data` moved to other
 * tensors of the same layout.
 */
void iterate_run(struct iterate *iterate, iterate_inner inner, void *context);

/*
 * Inner loops from an expression. `expression` makes an element of type `out_type` from `a` (and `b`), elements of
 * `in_type`; `prelude` is a declaration before the loop, such as what it takes from `context`, or empty. Runs without
 * gaps have loops of their own, which the compiler turns into vector code.
 */
#define ITERATE_UNARY(name, out_type, in_type, expression)                                                             \
	static void name(char *const data[], const int64_t strides[], int64_t count, void *context)                    \
	{                                                                                                              \
		(void)context;                                                                                         \
		if (strides[0] == (int64_t)sizeof(out_type) && strides[1] == (int64_t)sizeof(in_type)) {               \
			out_type *out = (out_type *)(void *)data[0];                                                   \
			const in_type *in = (const in_type *)(const void *)data[1];                                    \
			for (int64_t i = 0; i < count; i++) {                                                          \
				const in_type a = in[i];                                                               \
				out[i] = (out_type)(expression);                                                       \
			}                                                                                              \
			return;                                                                                        \
		}                                                                                                      \
		for (int64_t i = 0; i < count; i++) {                                                                  \
			const in_type a = *(const in_type *)(const void *)(data[1] + i * strides[1]);                  \
			*(out_type *)(void *)(data[0] + i * strides[0]) = (out_type)(expression);                      \
		}                                                                                                      \
	}

#define ITERATE_BINARY(name, out_type, in_type, prelude, expression)                                                   \
	static void name(char *const data[], const int64_t strides[], int64_t count, void *context)                    \
	{                                                                                                              \
		const bool dense_a = strides[1] == (int64_t)sizeof(in_type);                                           \
		const bool dense_b = strides[2] == (int64_t)sizeof(in_type);                                           \
		prelude;                                                                                               \
		(void)context;                                                                                         \
		if (strides[0] == (int64_t)sizeof(out_type) && dense_a && (dense_b || strides[2] == 0)) {              \
			out_type *out = (out_type *)(void *)data[0];                                                   \
			const in_type *in = (const in_type *)(const void *)data[1];                                    \
			const in_type *other = (const in_type *)(const void *)data[2];                                 \
			const in_type same = count > 0 ? *other : (in_type)0;                                          \
			if (dense_b)                                                                                   \
				for (int64_t i = 0; i < count; i++) {                                                  \
					const in_type a = in[i], b = other[i];                                         \
					out[i] = (out_type)(expression);                                               \
				}                                                                                      \
			else                                                                                           \
				for (int64_t i = 0; i < count; i++) {                                                  \
					const in_type a = in[i], b = same;                                             \
					out[i] = (out_type)(expression);                                               \
				}                                                                                      \
			return;                                                                                        \
		}                                                                                                      \
		for (int64_t i = 0; i < count; i++) {                                                                  \
			const in_type a = *(const in_type *)(const void *)(data[1] + i * strides[1]);                  \
			const in_type b = *(const in_type *)(const void *)(data[2] + i * strides[2]);                  \
			*(out_type *)(void *)(data[0] + i * strides[0]) = (out_type)(expression);                      \
		}                                                                                                      \
	}

#endif
