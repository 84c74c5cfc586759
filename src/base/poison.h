/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling ASan and valgrind which bytes nobody may touch. Costs nothing in a build without ASan and without valgrind's header,
 * a few instructions with the latter.
 */
#ifndef TENDRIL_BASE_POISON_H
#define TENDRIL_BASE_POISON_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define POISON_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISON_ASAN 1
#endif
#endif

#ifdef POISON_ASAN
#include <sanitizer/asan_interface.h>
#endif
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define POISON_VALGRIND 1
#endif

/* From now on an access to these bytes is an error. */
static inline void poison(void *data, size_t size)
{
#ifdef POISON_ASAN
	ASAN_POISON_MEMORY_REGION(data, size);
#endif
#ifdef POISON_VALGRIND
	(void)VALGRIND_MAKE_MEM_NOACCESS(data, size);
#endif
	(void)data;
	(void)size;
}

/* They may be used again; what they hold is undefined. */
static inline void unpoison(void *data, size_t size)
{
#ifdef POISON_ASAN
	ASAN_UNPOISON_MEMORY_REGION(data, size);
#endif
#ifdef POISON_VALGRIND
	(void)VALGRIND_MAKE_MEM_UNDEFINED(data, size);
#endif
	(void)data;
	(void)size;
}

#endif
