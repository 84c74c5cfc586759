/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UTF-8 with one thing more: a surrogate may stand encoded in three bytes, as Python's "surrogatepass" writes it, so
 * that every Python string has a form. NUL is a character like any other.
 */
#ifndef TENDRIL_BASE_UTF8_H
#define TENDRIL_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool utf8_valid(const void *text, size_t size);

/*
 * Reads the character at the start of `text`, of which `size` bytes (1 or more) are there, into ret_code; returns its
 * length in bytes, 0 where it is malformed.
 */
size_t utf8_decode(const void *text, size_t size, uint32_t *ret_code);

#endif
