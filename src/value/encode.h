/* SPDX-License-Identifier: Apache-2.0 */
/* What the encoder's files know of each other. */
#ifndef TENDRIL_VALUE_ENCODE_H
#define TENDRIL_VALUE_ENCODE_H

#include "value/codec.h"

/* ---- encode.c ---- */

/* The lead of an extension: its type and the number of bytes that follow. */
void encode_extension(struct encoder *encoder, int type, size_t size);

/* ---- encode_tensor.c ---- */

/* Adds a tensor, and its storage to those that the message carries. */
tdr_status encode_tensor(struct encoder *encoder, tdr_tensor *tensor);
void collected_reset(struct encoder *encoder);
void collected_fini(struct encoder *encoder);

/* ---- encode_shared.c ---- */

/* Remembers a value that was given; `name` is what errors call it. */
tdr_status shared_add_root(struct encoder *encoder, const tdr_value *value, const char *name);

/* Remembers a container that others hold too. TDR_ESHARED, naming both places, if it was met before. */
tdr_status shared_check(struct encoder *encoder, const tdr_value *container);
void shared_reset(struct encoder *encoder);
void shared_fini(struct encoder *encoder);

#endif
