/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that live on the stack of who makes them: operators return before they end, so that nothing outlives it. */
#include "harness.h"

#include "function/call.h"
#include "operators/operators.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OVERLOADS 64

struct harness_call {
	tdr_call call;
	bool finished;
	tdr_status status;
	tdr_value *value;
};

static struct registry *registry;
static char error_text[1024];

void harness_open(void)
{
	registry = registry_new();
	if (!registry)
		abort();
	for (size_t i = 0; i < operator_count; i++) {
		const struct operator_entry *entry = &operator_table[i];

		if (registry_add(registry, entry->schema, entry->run, (void *)entry->context, NULL, 0) != TDR_OK) {
			fprintf(stderr, "%s: %s\n", entry->schema, tdr_last_error());
			exit(1);
		}
	}
}

void harness_close(void)
{
	registry = registry_free(registry);
}

const char *harness_error(void)
{
	return error_text;
}

static void call_finished(tdr_call *call, tdr_status status, tdr_value *value, const char *text, const char *traceback)
{
	struct harness_call *mine = (struct harness_call *)call;

	(void)traceback;
	mine->finished = true;
	mine->status = status;
	mine->value = value;
	if (status != TDR_OK)
		snprintf(error_text, sizeof(error_text), "%s", text ? text : "");
}

static void call_freed(tdr_call *call)
{
	(void)call;
}

static const struct call_ops ops = {.finished = call_finished, .free = call_freed};

tdr_status harness_call(const char *name, tdr_value *args, tdr_value *kwargs, tdr_value **ret_value)
{
	struct function *functions[OVERLOADS];
	struct harness_call mine = {0};
	size_t count = registry_find(registry, name, strlen(name), functions, OVERLOADS);
	tdr_status status = TDR_ENOFUNCTION;

	snprintf(error_text, sizeof(error_text), "no such function");
	if (count > 0) {
		status = call_bind(&mine.call, &ops, functions, count, args, kwargs);
		if (status != TDR_OK)
			snprintf(error_text, sizeof(error_text), "%s", tdr_last_error());
	}
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
	if (status != TDR_OK)
		return status;
	mine.call.worker_name = "self";
	call_run(&mine.call);
	tdr_call_unref(&mine.call);
	if (!mine.finished) {
		fprintf(stderr, "%s did not finish\n", name);
		abort();
	}
	if (mine.status == TDR_OK)
		*ret_value = mine.value;
	return mine.status;
}
