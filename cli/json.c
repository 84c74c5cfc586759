/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <stdio.h>

static void print_text(const char *text)
{
	putchar('"');
	for (const char *c = text; *c; c++) {
		if (*c == '"' || *c == '\\')
			printf("\\%c", *c);
		else if ((unsigned char)*c < ' ' || *c == 0x7f)
			printf("\\u%04x", (unsigned)*c);
		else
			putchar(*c);
	}
	putchar('"');
}

/* What stands before a value: a comma, a line, the name. */
static void lead(struct json *json, const char *name)
{
	if (json->depth > 0)
		printf("%s\n%*s", json->first ? "" : ",", 2 * json->depth, "");
	json->first = false;
	if (name) {
		print_text(name);
		fputs(": ", stdout);
	}
}

void json_open(struct json *json, const char *name, char bracket)
{
	lead(json, name);
	putchar(bracket);
	json->depth++;
	json->first = true;
}

void json_close(struct json *json, char bracket)
{
	json->depth--;
	if (!json->first)
		printf("\n%*s", 2 * json->depth, "");
	putchar(bracket);
	if (json->depth == 0)
		putchar('\n');
	json->first = false;
}

void json_text(struct json *json, const char *name, const char *text)
{
	if (!text) {
		json_null(json, name);
		return;
	}
	lead(json, name);
	print_text(text);
}

void json_number(struct json *json, const char *name, long long number)
{
	lead(json, name);
	printf("%lld", number);
}

void json_bool(struct json *json, const char *name, bool truth)
{
	lead(json, name);
	fputs(truth ? "true" : "false", stdout);
}

void json_null(struct json *json, const char *name)
{
	lead(json, name);
	fputs("null", stdout);
}
