/* SPDX-License-Identifier: Apache-2.0 */
/* Statuses' names and texts, and each thread's last error. */
#define ERROR_IS_DEFINED_HERE
#include "base/error.h"

#include "base/macros.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <tendril/api.h>

static _Thread_local char last_error[ERROR_TEXT_SIZE];

static const struct {
	const char *name;
	const char *text;
} statuses[] = {
#define STATUS_ROW(name, number, text) [number] = {#name, text},
    TDR_STATUS_LIST(STATUS_ROW)
#undef STATUS_ROW
};

const char *tdr_version(void)
{
#define TEXT_OF(number) TEXT_OF_(number)
#define TEXT_OF_(number) #number
	return TEXT_OF(TDR_VERSION_MAJOR) "." TEXT_OF(TDR_VERSION_MINOR) "." TEXT_OF(TDR_VERSION_PATCH);
}

const char *tdr_status_name(tdr_status status)
{
	return (size_t)status < COUNT_OF(statuses) ? statuses[status].name : "TDR_E?";
}

const char *tdr_status_text(tdr_status status)
{
	return (size_t)status < COUNT_OF(statuses) ? statuses[status].text : "unknown status";
}

const char *tdr_last_error(void)
{
	return last_error;
}

void error_keep(struct error_kept *kept)
{
	memcpy(kept->text, last_error, sizeof(last_error));
}

void error_restore(const struct error_kept *kept)
{
	memcpy(last_error, kept->text, sizeof(last_error));
}

void error_clear(void)
{
	last_error[0] = '\0';
}

tdr_status error_setv(tdr_status status, const char *format, va_list arguments)
{
	char text[ERROR_TEXT_SIZE];

	vsnprintf(text, sizeof(text), format, arguments);
	memcpy(last_error, text, sizeof(text));
	return status;
}

tdr_status error_set(tdr_status status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	error_setv(status, format, arguments);
	va_end(arguments);
	return status;
}

tdr_status error_prefix(tdr_status status, const char *format, ...)
{
	char words[ERROR_TEXT_SIZE / 2];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(words, sizeof(words), format, arguments);
	va_end(arguments);
	return error_set(status, "%s: %s", words, last_error);
}

tdr_status error_errno(const char *format, ...)
{
	int code = errno;
	char what[ERROR_TEXT_SIZE / 2];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	return error_set(code == ENOMEM ? TDR_ENOMEM : TDR_EIO, "%s: %s", what, strerror(code));
}

tdr_status error_nomem(void)
{
	return error_set(TDR_ENOMEM, "out of memory");
}
