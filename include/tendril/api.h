/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Macros that every public header is written with, and the library's version.
 *
 * What holds for every declaration of this library, unless its own comment says otherwise:
 *   - any thread may call it, also from inside a function, a callback or an interceptor;
 *   - an argument is borrowed for the time of the call, strings are NUL-terminated UTF-8 and are copied;
 *   - the one exception: a tdr_value handed to a constructor, to a call or to tdr_return() is given away, also when that
 *     fails (pass tdr_value_ref(v) to keep yours);
 *   - a pointer handed out through `ret_...` or returned by `..._new` or `..._ref` is a reference of the caller's, to be
 *     dropped with the type's `unref`; other returned pointers are borrowed from the object they were asked of;
 *   - `unref` takes NULL, and returns NULL;
 *   - a function that returns tdr_status sets its outputs on TDR_OK only, and otherwise leaves a text for tdr_last_error();
 *   - timeouts are in milliseconds: TDR_TIMEOUT_DEFAULT, TDR_TIMEOUT_NEVER or a positive number;
 *   - in a child made by fork(), every handle of the parent is inert: functions return TDR_EFORKED, `unref` frees memory
 *     of the child and touches nothing else;
 *   - it is there since version 0.1.
 */
#ifndef TENDRIL_API_H
#define TENDRIL_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TDR_VERSION_MAJOR 0
#define TDR_VERSION_MINOR 1
#define TDR_VERSION_PATCH 0

#ifdef __cplusplus
#define TDR_BEGIN_DECLS extern "C" {
#define TDR_END_DECLS }
#else
#define TDR_BEGIN_DECLS
#define TDR_END_DECLS
#endif

#define TDR_API __attribute__((visibility("default")))
#define TDR_MUST_USE __attribute__((warn_unused_result))
#define TDR_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* Timeouts, in milliseconds. */
#define TDR_TIMEOUT_DEFAULT (-1) /* the agent's `rpc_timeout_ms` */
#define TDR_TIMEOUT_NEVER 0      /* no limit */

TDR_BEGIN_DECLS

/* The version of the library that is running, such as "0.1.0". */
TDR_API const char *tdr_version(void);

TDR_END_DECLS

#endif
