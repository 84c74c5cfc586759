/* SPDX-License-Identifier: Apache-2.0 */
/* Writing JSON to standard output, indented, commas and all. */
#ifndef TENDRIL_CLI_JSON_H
#define TENDRIL_CLI_JSON_H

#include <stdbool.h>

struct json {
	int depth;
	bool first; /* nothing has been written yet at this depth */
};

/* `name` is that of the member where it stands in an object, else NULL. Texts may be NULL, which is null. */
void json_open(struct json *json, const char *name, char bracket);
void json_close(struct json *json, char bracket);
void json_text(struct json *json, const char *name, const char *text);
void json_number(struct json *json, const char *name, long long number);
void json_bool(struct json *json, const char *name, bool truth);
void json_null(struct json *json, const char *name);

#endif
