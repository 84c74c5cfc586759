/* SPDX-License-Identifier: Apache-2.0 */
/* The program: runs seeds, and says which failed and how to see why. */
#include "simulator.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static const char help[] =
    "Usage: sim [OPTION...]\n"
    "Simulates workers that pass references to each other over a network which loses, doubles and delays, and checks\n"
    "after each step that no reference is freed early, and at the end that none is kept.\n"
    "\n"
    "  --seeds N         how many seeds to run (100)\n"
    "  --first S         the first of them (1)\n"
    "  --steps M         events with faults, for each seed (1200)\n"
    "  --seed X          this one alone\n"
    "  --trace           print all that happens\n"
    "  --hash            print each seed's hash of all that happened\n"
    "  --expect-failure  succeed if a rule is violated\n"
    "  --help            print this, and exit\n";

struct options {
	uint64_t seeds, first, steps;
	bool trace, hash, expect_failure;
};

static struct options options = {.seeds = 100, .first = 1, .steps = 1200};
static uint64_t current;

/*
 * A failed assertion ends the program, but not before it has said where it was. What is called here is not made for signals,
 * but this one does not come out of the blue: it is raised by abort().
 */
/* NOLINTBEGIN(bugprone-signal-handler) */
/* At once, so that no sanitizer looks for leaks: what a failed run has left cannot be told apart, and is not freed. */
static void end_after_failure(void)
{
	if (options.expect_failure)
		(void)printf("caught by seed %" PRIu64 ", after %" PRIu64 " seeds\n", current,
		             current - options.first + 1);
	(void)fflush(stdout);
	_exit(options.expect_failure ? 0 : 1);
}

static void on_abort(int signal)
{
	sim_report(stdout);
	end_after_failure();
}
/* NOLINTEND(bugprone-signal-handler) */

static uint64_t parse_number(const char *name, const char *text)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || *end || end == text || *text == '-') {
		(void)fprintf(stderr, "sim: --%s takes a number, not \"%s\"\n", name, text);
		exit(2);
	}
	return number;
}

static void parse_options(int argc, char **argv)
{
	static const struct option known[] = {
	    {"seeds", required_argument, NULL, 'n'},
	    {"first", required_argument, NULL, 'f'},
	    {"steps", required_argument, NULL, 'm'},
	    {"seed", required_argument, NULL, 's'},
	    {"trace", no_argument, NULL, 't'},
	    {"hash", no_argument, NULL, 'x'},
	    {"help", no_argument, NULL, 'h'},
	    {"expect-failure", no_argument, NULL, 'e'},
	    {NULL, 0, NULL, 0},
	};
	int choice, at;

	while ((choice = getopt_long(argc, argv, "", known, &at)) != -1) {
		switch (choice) {
		case 'n':
			options.seeds = parse_number("seeds", optarg);
			break;
		case 'f':
			options.first = parse_number("first", optarg);
			break;
		case 'm':
			options.steps = parse_number("steps", optarg);
			break;
		case 's':
			options.first = parse_number("seed", optarg);
			options.seeds = 1;
			break;
		case 't':
			options.trace = true;
			break;
		case 'x':
			options.hash = true;
			break;
		case 'e':
			options.expect_failure = true;
			break;
		case 'h':
			(void)fputs(help, stdout);
			exit(0);
		default:
			(void)fputs(help, stderr);
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	uint64_t steps = 0;

	parse_options(argc, argv);
	(void)signal(SIGABRT, on_abort);
	for (uint64_t i = 0; i < options.seeds; i++) {
		struct sim_result result;

		current = options.first + i;
		result = sim_run(current, options.steps, options.trace ? stdout : NULL);
		steps += result.steps;
		if (options.hash)
			(void)printf("%" PRIu64 " %016" PRIx64 "\n", current, result.hash);
		if (!result.passed)
			end_after_failure();
		if (isatty(STDOUT_FILENO) && (i + 1) % 100 == 0)
			(void)fprintf(stderr, "\r%" PRIu64 " seeds, %" PRIu64 " steps", i + 1, steps);
	}
	(void)printf("%s%" PRIu64 " seeds, %" PRIu64 " steps: all passed\n", isatty(STDOUT_FILENO) ? "\r" : "",
	             options.seeds, steps);
	return options.expect_failure ? 1 : 0;
}
