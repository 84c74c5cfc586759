/* SPDX-License-Identifier: Apache-2.0 */
/* What the command says about itself: lines to standard error that begin with "tendril: ". */
#ifndef TENDRIL_CLI_MESSAGE_H
#define TENDRIL_CLI_MESSAGE_H

#include <stdarg.h>
#include <stddef.h>

/* Exit statuses of the command's own. Others are those of the ranks. */
enum {
	EXIT_TROUBLE = 1,    /* something that it needs from the system is not to be had */
	EXIT_USAGE = 2,      /* it was not understood */
	EXIT_TIMEOUT = 124,  /* --timeout came, as with timeout(1) */
	EXIT_NOEXEC = 126,   /* the program is there, and cannot be run, as in a shell */
	EXIT_NOTFOUND = 127, /* the program is not there */
};

/* Where lines go: to standard error, until somebody else takes them. */
typedef void (*message_sink)(void *context, const char *line, size_t size);
void message_divert(message_sink sink, void *context); /* NULL: back to standard error */

/* Says "tendril: " and the text. */
void message(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
