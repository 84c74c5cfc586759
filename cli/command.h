/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands and their options. One table of a command's options yields what getopt_long reads, the help text, and the
 * names to suggest where one does not exist.
 */
#ifndef TENDRIL_CLI_COMMAND_H
#define TENDRIL_CLI_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

/* Keys of options that have no letter, from here on. */
#define OPTION_LONG 256

struct option_row {
	int key;              /* the letter, or a number from OPTION_LONG on; 0 ends the table */
	const char *name;     /* of the long form */
	const char *argument; /* what to call its argument, or NULL where it takes none */
	const char *text;     /* for the help */
};

struct command {
	const char *name;
	const char *usage;   /* what follows the name */
	const char *summary; /* one line */
	const char *detail;  /* of the help: paragraphs, or NULL */
	const char *example; /* of the help: lines */
	const struct option_row *options;
	bool takes_rest; /* what follows the first argument that is no option is not read */
	int (*run)(const struct command *command, int argc, char **argv);
};

extern const struct command command_run, command_store, command_info;

/* What option_next returns besides keys. */
enum {
	OPTION_END = -1,
	OPTION_FAULT = -2, /* a message was given: exit with EXIT_USAGE */
	OPTION_HELP = -3,  /* --help was asked for and given: exit with 0 */
};

/* The next option of argv; its argument is in optarg. Afterwards optind is where the other arguments begin. */
int option_next(const struct command *command, int argc, char **argv);

/* False, with a message, where arguments are left that a command does not take. */
bool option_no_rest(const struct command *command, int argc, char **argv);

/* Numbers given to options: whole ones in a range, and seconds, as milliseconds. False, with a message. */
bool option_number(const char *name, const char *text, long least, long most, long *ret_number);
bool option_seconds(const char *name, const char *text, int64_t *ret_ms);

/* "HOST:PORT", "[V6]:PORT"; the host is cut out of `text` in place. False, with a message. */
bool option_address(const char *name, char *text, const char **ret_host, uint16_t *ret_port);

void command_help(const struct command *command);

#endif
