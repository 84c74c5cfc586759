/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This thread's last error. The place that detects a failure writes its text: what failed, where, what to do; those above
 * pass the status on, or put words before the text by error_prefix.
 */
#ifndef TENDRIL_BASE_ERROR_H
#define TENDRIL_BASE_ERROR_H

#include <stdarg.h>
#include <tendril/status.h>

/* Room for a text, with its NUL; longer ones are cut. */
#define ERROR_TEXT_SIZE 1024

/* Keeps the text and returns `status`: `return error_set(TDR_EINVAL, "...", ...);`. The arguments may point into the old text. */
tdr_status error_set(tdr_status status, const char *format, ...) __attribute__((format(printf, 2, 3), cold));
tdr_status error_setv(tdr_status status, const char *format, va_list arguments) __attribute__((cold));

/* Puts words before the text there is, and returns `status`. */
tdr_status error_prefix(tdr_status status, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* TDR_EIO with "`what`: strerror(errno)"; TDR_ENOMEM for ENOMEM. */
tdr_status error_errno(const char *format, ...) __attribute__((format(printf, 1, 2), cold));

/* TDR_ENOMEM with its general text. */
tdr_status error_nomem(void) __attribute__((cold));

/* Forgets the text. */
void error_clear(void);

/* Keeps this thread's last error, and puts it back: for what works on in its midst. */
struct error_kept {
	char text[ERROR_TEXT_SIZE];
};

void error_keep(struct error_kept *kept);
void error_restore(const struct error_kept *kept);

/* The static analyser sees one file at a time: what these return tells it which paths are possible. */
#if defined(__clang_analyzer__) && !defined(ERROR_IS_DEFINED_HERE)
#define error_set(status, ...) (error_set(status, __VA_ARGS__), (status))
#define error_prefix(status, ...) (error_prefix(status, __VA_ARGS__), (status))
#define error_errno(...) (error_errno(__VA_ARGS__), TDR_EIO)
#define error_nomem() (error_nomem(), TDR_ENOMEM)
#endif

#endif
