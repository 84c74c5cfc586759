/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril info: the library, this machine as a member of a group would see it, and the options of agents. What there
 * is to say is found out once; two functions say it, one for people and one for programs.
 */
#include "command.h"
#include "json.h"
#include "message.h"

#include <ctype.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <tendril.h>

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "GCC " __VERSION__
#endif

enum {
	KEY_JSON = OPTION_LONG,
};

static const struct option_row options[] = {
    {KEY_JSON, "json", NULL, "for programs: one JSON object"},
    {0},
};

/* ---- limits ---- */

static const struct limit {
	const char *name;
	int resource;
	const char *unit;
} limits[] = {
    {"descriptors", RLIMIT_NOFILE, ""},
    {"processes", RLIMIT_NPROC, ""},
    {"locked_memory", RLIMIT_MEMLOCK, "bytes"},
};
#define LIMITS (sizeof(limits) / sizeof(limits[0]))

static void get_limit(const struct limit *limit, struct rlimit *ret_limit)
{
	if (getrlimit(limit->resource, ret_limit) < 0)
		*ret_limit = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
}

static void limit_text(rlim_t value, char text[32])
{
	if (value == RLIM_INFINITY)
		strcpy(text, "unlimited");
	else
		snprintf(text, 32, "%llu", (unsigned long long)value);
}

/* ---- the options of agents ---- */

struct agent_option {
	const char *name;
	char variable[64];
	bool is_text;
	const char *text_default; /* NULL: none */
	int64_t number_default;
	const char *unit, *text;
};

#define DEFAULT_INT(field, initial) .number_default = defaults.field
#define DEFAULT_TEXT(field, initial) .text_default = defaults.field, .is_text = true
#define OPTION_COUNT(type, field, initial, unit, text) +1
#define OPTION_ENTRY(type, field, initial, unit_text, help)                                                            \
	{.name = #field, DEFAULT_##type(field, initial), .unit = (unit_text), .text = (help)},
#define OPTIONS (0 TDR_AGENT_OPTION_LIST(OPTION_COUNT))

static void get_options(struct agent_option ret_options[OPTIONS])
{
	tdr_agent_options defaults;

	tdr_agent_options_init(&defaults);
	memcpy(ret_options, (struct agent_option[]){TDR_AGENT_OPTION_LIST(OPTION_ENTRY)},
	       OPTIONS * sizeof(*ret_options));
	for (size_t i = 0; i < OPTIONS; i++) {
		struct agent_option *option = &ret_options[i];

		snprintf(option->variable, sizeof(option->variable), "TENDRIL_%s", option->name);
		for (char *c = option->variable; *c; c++)
			*c = (char)toupper((unsigned char)*c);
	}
}

/* ---- addresses ---- */

/* Reads an entry's address; false where it has none, or the interface is down. */
static bool get_address(const struct ifaddrs *entry, char host[NI_MAXHOST])
{
	socklen_t size;

	if (!entry->ifa_addr || !(entry->ifa_flags & IFF_UP))
		return false;
	if (entry->ifa_addr->sa_family == AF_INET)
		size = sizeof(struct sockaddr_in);
	else if (entry->ifa_addr->sa_family == AF_INET6)
		size = sizeof(struct sockaddr_in6);
	else
		return false;
	return getnameinfo(entry->ifa_addr, size, host, NI_MAXHOST, NULL, 0, NI_NUMERICHOST) == 0;
}

/* ---- for people ---- */

static void print_machine(const struct ifaddrs *addresses, const char *advertised)
{
	tdr_transport_description transport;
	char host[NI_MAXHOST];

	printf("\nTransports\n");
	for (size_t i = 0; tdr_transport_info(i, &transport); i++)
		printf("  %-14s %s%s\n", transport.name, transport.available ? "available" : "not available: ",
		       transport.available ? "" : transport.reason);
	printf("\nAddresses\n");
	for (const struct ifaddrs *entry = addresses; entry; entry = entry->ifa_next)
		if (get_address(entry, host))
			printf("  %-14s %s%s\n", entry->ifa_name, host,
			       advertised && strcmp(host, advertised) == 0
			           ? "  (advertised unless options or store say "
			             "otherwise)"
			           : "");
	if (advertised)
		printf("  %-14s %s\n", "advertised", advertised);
	printf("\nLimits\n");
	for (size_t i = 0; i < LIMITS; i++) {
		char now[32], most[32];
		struct rlimit value;

		get_limit(&limits[i], &value);
		limit_text(value.rlim_cur, now);
		limit_text(value.rlim_max, most);
		printf("  %-14s %s%s%s (at most %s)\n", limits[i].name, now, *limits[i].unit ? " " : "", limits[i].unit,
		       most);
	}
	printf("  %-14s %d dimensions of a tensor, %d values in one another\n", "nesting", TDR_MAX_DIMS, TDR_MAX_DEPTH);
}

static void print_options(const struct agent_option table[OPTIONS])
{
	printf("\nOptions of an agent, and the variables that set them\n");
	printf("  %-29s %-20s %s\n", "VARIABLE", "DEFAULT", "MEANING");
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct agent_option *option = &table[i];
		char value[64];

		if (option->is_text)
			snprintf(value, sizeof(value), "%s", option->text_default ? option->text_default : "-");
		else
			snprintf(value, sizeof(value), "%lld%s%s", (long long)option->number_default,
			         *option->unit ? " " : "", option->unit);
		printf("  %-29s %-20s %s\n", option->variable, value, option->text);
	}
}

static void print_all(const struct ifaddrs *addresses, const char *advertised, const struct agent_option table[OPTIONS])
{
	printf("tendril %s, built with %s\n", tdr_version(), COMPILER);
	print_machine(addresses, advertised);
	print_options(table);
}

/* ---- for programs ---- */

static void json_limit(struct json *json, const char *name, rlim_t value)
{
	if (value == RLIM_INFINITY)
		json_null(json, name);
	else
		json_number(json, name, (long long)value);
}

static void json_machine(struct json *json, const struct ifaddrs *addresses, const char *advertised)
{
	tdr_transport_description transport;
	char host[NI_MAXHOST];

	json_open(json, "transports", '[');
	for (size_t i = 0; tdr_transport_info(i, &transport); i++) {
		json_open(json, NULL, '{');
		json_text(json, "name", transport.name);
		json_bool(json, "available", transport.available);
		json_text(json, "reason", transport.reason);
		json_close(json, '}');
	}
	json_close(json, ']');
	json_open(json, "addresses", '[');
	for (const struct ifaddrs *entry = addresses; entry; entry = entry->ifa_next) {
		if (!get_address(entry, host))
			continue;
		json_open(json, NULL, '{');
		json_text(json, "interface", entry->ifa_name);
		json_text(json, "address", host);
		json_close(json, '}');
	}
	json_close(json, ']');
	json_text(json, "advertised", advertised);
	json_open(json, "limits", '{');
	for (size_t i = 0; i < LIMITS; i++) {
		struct rlimit value;

		get_limit(&limits[i], &value);
		json_open(json, limits[i].name, '{');
		json_limit(json, "now", value.rlim_cur);
		json_limit(json, "most", value.rlim_max);
		json_close(json, '}');
	}
	json_number(json, "dimensions", TDR_MAX_DIMS);
	json_number(json, "depth", TDR_MAX_DEPTH);
	json_close(json, '}');
}

static void json_all(const struct ifaddrs *addresses, const char *advertised, const struct agent_option table[OPTIONS])
{
	struct json json = {0};

	json_open(&json, NULL, '{');
	json_text(&json, "version", tdr_version());
	json_text(&json, "compiler", COMPILER);
	json_machine(&json, addresses, advertised);
	json_open(&json, "options", '[');
	for (size_t i = 0; i < OPTIONS; i++) {
		json_open(&json, NULL, '{');
		json_text(&json, "name", table[i].name);
		json_text(&json, "variable", table[i].variable);
		if (table[i].is_text)
			json_text(&json, "default", table[i].text_default);
		else
			json_number(&json, "default", table[i].number_default);
		json_text(&json, "unit", table[i].unit);
		json_text(&json, "text", table[i].text);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	json_close(&json, '}');
}

static int run_info(const struct command *command, int argc, char **argv)
{
	struct agent_option table[OPTIONS];
	char advertised[TDR_HOST_SIZE];
	struct ifaddrs *addresses = NULL;
	bool json = false, known;
	int key;

	while ((key = option_next(command, argc, argv)) != OPTION_END) {
		if (key != KEY_JSON)
			return key == OPTION_HELP ? 0 : EXIT_USAGE;
		json = true;
	}
	if (!option_no_rest(command, argc, argv))
		return EXIT_USAGE;
	if (getifaddrs(&addresses) < 0)
		message("info: cannot list this machine's addresses: %s", strerror(errno));
	known = tdr_advertised_host(NULL, advertised, sizeof(advertised)) == TDR_OK;
	if (!known)
		message("info: %s", tdr_last_error());
	get_options(table);
	(json ? json_all : print_all)(addresses, known ? advertised : NULL, table);
	freeifaddrs(addresses);
	return 0;
}

const struct command command_info = {
    .name = "info",
    .usage = "[--json]",
    .summary = "Shows the library, this machine's addresses and limits, and all options.",
    .example = "  tendril info --json",
    .options = options,
    .run = run_info,
};
