/* SPDX-License-Identifier: Apache-2.0 */
#include "message.h"

#include <stdio.h>

static message_sink diverted;
static void *diverted_context;

void message_divert(message_sink sink, void *context)
{
	diverted = sink;
	diverted_context = context;
}

void message(const char *format, ...)
{
	char line[4096] = "tendril: ";
	size_t size = sizeof("tendril: ") - 1;
	size_t room = sizeof(line) - size - 1; /* the newline's place is kept */
	va_list arguments;
	int wanted;

	va_start(arguments, format);
	wanted = vsnprintf(line + size, room, format, arguments);
	va_end(arguments);
	if (wanted > 0)
		size += (size_t)wanted < room ? (size_t)wanted : room - 1;
	line[size++] = '\n';
	if (diverted)
		diverted(diverted_context, line, size);
	else
		fwrite(line, 1, size, stderr);
}
