/* SPDX-License-Identifier: Apache-2.0 */
/* tendril: the command. Finds what is asked for by name, and leaves the rest to it. */
#include "command.h"
#include "message.h"
#include "suggest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <tendril.h>

static const struct command *const commands[] = {&command_run, &command_store, &command_info};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *to)
{
	fprintf(to, "Usage: tendril COMMAND [OPTION]... [ARGUMENT]...\n\nRemote procedure calls between processes.\n\n"
	            "Commands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(to,
	        "  %-9s %s\n\nOptions:\n  -h, --help     show this text\n  -V, --version  show the version\n\n"
	        "Example:\n  tendril run -n 4 -- ./worker\n\n'tendril help COMMAND' says more.\n",
	        "help", "Says what a command does.");
}

static const struct command *find_command(const char *name)
{
	struct suggestion suggestion = suggest_begin(name, strlen(name));

	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
		suggest_weigh(&suggestion, commands[i]->name);
	}
	suggest_weigh(&suggestion, "help");
	if (suggestion.best)
		message("unknown command '%s'; did you mean '%s'?", name, suggestion.best);
	else
		message("unknown command '%s'; see 'tendril --help'", name);
	return NULL;
}

static int help(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2 || strcmp(argv[1], "help") == 0) {
		print_help(stdout);
		return 0;
	}
	command = find_command(argv[1]);
	if (!command)
		return EXIT_USAGE;
	command_help(command);
	return 0;
}

static int option(const char *given)
{
	struct suggestion suggestion;

	if (strcmp(given, "--help") == 0 || strcmp(given, "-h") == 0) {
		print_help(stdout);
		return 0;
	}
	if (strcmp(given, "--version") == 0 || strcmp(given, "-V") == 0) {
		printf("tendril %s\n", tdr_version());
		return 0;
	}
	suggestion = suggest_begin(given, strlen(given));
	suggest_weigh(&suggestion, "--help");
	suggest_weigh(&suggestion, "--version");
	if (suggestion.best)
		message("unknown option '%s'; did you mean '%s'?", given, suggestion.best);
	else
		message("unknown option '%s'; see 'tendril --help'", given);
	return EXIT_USAGE;
}

static int dispatch(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		message("no command given; see 'tendril --help'");
		return EXIT_USAGE;
	}
	if (argv[1][0] == '-')
		return option(argv[1]);
	if (strcmp(argv[1], "help") == 0)
		return help(argc - 1, argv + 1);
	command = find_command(argv[1]);
	return command ? command->run(command, argc - 1, argv + 1) : EXIT_USAGE;
}

int main(int argc, char **argv)
{
	int status = dispatch(argc, argv);

	/* What did not reach standard output must not look like success. */
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	message("cannot write to standard output: %s", strerror(errno));
	return status ? status : EXIT_TROUBLE;
}
