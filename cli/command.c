/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"

#include "message.h"
#include "suggest.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OPTIONS 32
#define TEXT_COLUMN 28 /* where the texts of options begin in a help */

static const struct option_row help_row = {'h', "help", NULL, "show this text"};

/* ---- reading ---- */

/* The table in getopt_long's form, --help added to it. */
static void fill_tables(const struct command *command, struct option *longs, char *letters)
{
	size_t count = 0;

	*letters++ = command->takes_rest ? '+' : ':';
	if (command->takes_rest)
		*letters++ = ':';
	for (const struct option_row *row = command->options;; row++) {
		const struct option_row *each = row->key ? row : &help_row;

		if (count + 1 >= MAX_OPTIONS)
			abort();
		longs[count++] =
		    (struct option){each->name, each->argument ? required_argument : no_argument, NULL, each->key};
		if (each->key < OPTION_LONG)
			*letters++ = (char)each->key;
		if (each->key < OPTION_LONG && each->argument)
			*letters++ = ':';
		if (!row->key)
			break;
	}
	longs[count] = (struct option){0};
	*letters = '\0';
}

static void suggest_option(const struct command *command, const char *given)
{
	size_t size = strcspn(given, "=");
	struct suggestion suggestion = suggest_begin(given, size);

	for (const struct option_row *row = command->options; row->key; row++)
		suggest_weigh(&suggestion, row->name);
	suggest_weigh(&suggestion, help_row.name);
	if (suggestion.best)
		message("%s: unknown option '--%.*s'; did you mean '--%s'?", command->name, (int)size, given,
		        suggestion.best);
	else
		message("%s: unknown option '--%.*s'; see 'tendril %s --help'", command->name, (int)size, given,
		        command->name);
}

/* Says what is wrong with the option that getopt_long has just refused. */
static void explain(const struct command *command, int answer, char **argv)
{
	const char *given = argv[optind - 1];

	if (answer == ':')
		message("%s: option '%s' needs an argument", command->name, given);
	else if (optopt >= OPTION_LONG || (optopt && strncmp(given, "--", 2) == 0))
		message("%s: option '%.*s' takes no argument", command->name, (int)strcspn(given, "="), given);
	else if (optopt)
		message("%s: unknown option '-%c'; see 'tendril %s --help'", command->name, optopt, command->name);
	else
		suggest_option(command, given + 2);
}

int option_next(const struct command *command, int argc, char **argv)
{
	struct option longs[MAX_OPTIONS];
	char letters[2 * MAX_OPTIONS + 3];
	int answer;

	fill_tables(command, longs, letters);
	opterr = 0;
	answer = getopt_long(argc, argv, letters, longs, NULL);
	if (answer == '?' || answer == ':') {
		explain(command, answer, argv);
		return OPTION_FAULT;
	}
	if (answer == help_row.key) {
		command_help(command);
		return OPTION_HELP;
	}
	return answer;
}

bool option_no_rest(const struct command *command, int argc, char **argv)
{
	if (optind < argc)
		message("%s: unexpected argument '%s'; see 'tendril %s --help'", command->name, argv[optind],
		        command->name);
	return optind >= argc;
}

bool option_number(const char *name, const char *text, long least, long most, long *ret_number)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(text, &end, 10);
	if (end == text || *end || errno || number < least || number > most) {
		message("%s is '%s'; give a whole number from %ld to %ld", name, text, least, most);
		return false;
	}
	*ret_number = number;
	return true;
}

bool option_seconds(const char *name, const char *text, int64_t *ret_ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !isfinite(seconds) || seconds < 0 || seconds > 1e9) {
		message("%s is '%s'; give a number of seconds, such as 2.5", name, text);
		return false;
	}
	*ret_ms = (int64_t)ceil(seconds * 1000);
	return true;
}

bool option_address(const char *name, char *text, const char **ret_host, uint16_t *ret_port)
{
	char *colon = strrchr(text, ':');
	char *host = text;
	long port;

	if (!colon || colon == text || (*text == '[' ? colon[-1] != ']' : strchr(text, ':') != colon)) {
		message("%s is '%s'; give HOST:PORT, or [ADDRESS]:PORT for IPv6", name, text);
		return false;
	}
	if (!option_number(name, colon + 1, 1, UINT16_MAX, &port))
		return false;
	*colon = '\0';
	if (*host == '[') {
		colon[-1] = '\0';
		host++;
	}
	*ret_host = host;
	*ret_port = (uint16_t)port;
	return true;
}

/* ---- help ---- */

static void print_option(const struct option_row *row)
{
	int width =
	    row->key < OPTION_LONG ? printf("  -%c, --%s", row->key, row->name) : printf("      --%s", row->name);

	if (row->argument)
		width += printf(" %s", row->argument);
	if (width + 2 > TEXT_COLUMN) {
		putchar('\n');
		width = 0;
	}
	printf("%*s", TEXT_COLUMN - width, "");
	for (const char *at = row->text; *at; at++) {
		putchar(*at);
		if (*at == '\n')
			printf("%*s", TEXT_COLUMN, "");
	}
	putchar('\n');
}

void command_help(const struct command *command)
{
	printf("Usage: tendril %s %s\n\n%s\n", command->name, command->usage, command->summary);
	if (command->detail)
		printf("\n%s\n", command->detail);
	printf("\nOptions:\n");
	for (const struct option_row *row = command->options; row->key; row++)
		print_option(row);
	print_option(&help_row);
	printf("\nExample:\n%s\n", command->example);
}
