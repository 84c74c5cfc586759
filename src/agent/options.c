/* SPDX-License-Identifier: Apache-2.0 */
/* An agent's options: defaults, environment, checks; all from the one table in tendril/options.h. */
#include "agent/internal.h"

#include "base/error.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Ranges of the numbers; those not listed are 0 to 2^62. */
static const struct {
	const char *name;
	int64_t least, most;
} ranges[] = {
    {"rank", -1, 32767},
    {"world_size", -1, 32768},
    {"threads", 0, 65535},
    {"max_threads", 0, 65535},
    {"spin_us", 0, 1000000},
    {"max_depth", 1, 65535},
    {"max_body_bytes", 1024, UINT32_MAX},
    {"max_calls", 1, 1 << 24},
    {"credit_bytes", 1, INT64_C(1) << 62},
    {"heartbeat_bound_ms", 1, INT64_C(1) << 31},
    {"connect_timeout_ms", 1, INT64_C(1) << 31},
    {"dump_signal", 0, 64},
    {"fail_sends", INT32_MIN, INT32_MAX}, /* faulty.c has more to say of it */
    {"device_count", 0, 4096},
};

void tdr_agent_options_init(tdr_agent_options *options)
{
	*options = (tdr_agent_options){.size = sizeof(*options)};
#define INIT_FIELD(type, field, initial, unit, text) options->field = (initial);
	TDR_AGENT_OPTION_LIST(INIT_FIELD)
#undef INIT_FIELD
}

static tdr_status check_number(const char *name, int64_t number)
{
	int64_t least = 0, most = INT64_C(1) << 62;

	for (size_t i = 0; i < COUNT_OF(ranges); i++) {
		if (strcmp(ranges[i].name, name) != 0)
			continue;
		least = ranges[i].least;
		most = ranges[i].most;
	}
	if (number < least || number > most)
		return error_set(TDR_EINVAL, "option %s is %lld, outside %lld to %lld", name, (long long)number,
		                 (long long)least, (long long)most);
	return TDR_OK;
}

/* What the environment says of a field: TENDRIL_ and its name in capitals. NULL if nothing. */
static const char *environment_of(const char *name, char *variable, size_t size)
{
	const char *text;
	size_t at = 0;

	for (const char *c = "TENDRIL_"; *c; c++)
		variable[at++] = *c;
	for (const char *c = name; *c && at + 1 < size; c++)
		variable[at++] = (char)toupper((unsigned char)*c);
	variable[at] = '\0';
	text = getenv(variable);
	return text && *text ? text : NULL;
}

static tdr_status read_number(const char *name, int64_t initial, int64_t *number)
{
	char variable[64], *end;
	const char *text = environment_of(name, variable, sizeof(variable));
	long long parsed;

	if (*number == initial && text) {
		errno = 0;
		parsed = strtoll(text, &end, 10);
		if (errno || *end || end == text)
			return error_set(TDR_EINVAL, "the environment variable %s is '%s', not a whole number",
			                 variable, text);
		*number = parsed;
	}
	return check_number(name, *number);
}

static tdr_status read_text(const char *name, const char **text)
{
	char variable[64];
	const char *found = *text ? *text : environment_of(name, variable, sizeof(variable));

	*text = NULL;
	if (!found)
		return TDR_OK;
	*text = strdup(found);
	return *text ? TDR_OK : error_nomem();
}

tdr_status options_copy(const tdr_agent_options *options, tdr_agent_options *ret_copy)
{
	tdr_agent_options defaults, copy;
	tdr_status status = TDR_OK;

	tdr_agent_options_init(&defaults);
	copy = options ? *options : defaults;
	if (copy.size != sizeof(copy))
		return error_set(TDR_EINVAL,
		                 "tdr_agent_options.size is %zu, not %zu: call tdr_agent_options_init first", copy.size,
		                 sizeof(copy));
#define READ_INT(field, initial)                                                                                       \
	if (status == TDR_OK)                                                                                          \
		status = read_number(#field, initial, &copy.field);
#define READ_TEXT(field, initial)                                                                                      \
	if (status == TDR_OK)                                                                                          \
		status = read_text(#field, &copy.field);                                                               \
	else                                                                                                           \
		copy.field = NULL;
#define READ_FIELD(type, field, initial, unit, text) READ_##type(field, initial)
	TDR_AGENT_OPTION_LIST(READ_FIELD)
#undef READ_FIELD
	if (status != TDR_OK) {
		options_fini(&copy);
		return status;
	}
	tdr_store_ref(copy.store);
	tdr_engine_ref(copy.engine);
	*ret_copy = copy;
	return TDR_OK;
}

void options_fini(tdr_agent_options *options)
{
#define FREE_INT(field)
#define FREE_TEXT(field) free((char *)options->field);
#define FREE_FIELD(type, field, initial, unit, text) FREE_##type(field)
	TDR_AGENT_OPTION_LIST(FREE_FIELD)
#undef FREE_FIELD
	*options = (tdr_agent_options){0};
}
