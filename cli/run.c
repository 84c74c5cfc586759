/* SPDX-License-Identifier: Apache-2.0 */
/* tendril run: from options to a plan, with a store that is open; supervise.c carries it out. */
#include "run.h"

#include "command.h"
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <tendril.h>
#include <unistd.h>

#define MAX_RANKS 32767

/* Descriptors besides pipes: for each rank some connections to the store, and what the process has anyway. */
#define DESCRIPTORS_PER_RANK 4
#define DESCRIPTORS_MORE 64

enum {
	KEY_MASTER_ADDR = OPTION_LONG,
	KEY_MASTER_PORT,
	KEY_STORE,
	KEY_FIRST_RANK,
	KEY_WORLD_SIZE,
	KEY_GRACE,
	KEY_TIMEOUT,
	KEY_STDIN,
	KEY_NO_PREFIX,
	KEY_COLOR,
};

static const struct option_row options[] = {
    {'n', "ranks", "N", "how many to start; 1 unless given"},
    {'e', "env", "NAME=VALUE", "a variable for all ranks; may be repeated"},
    {'q', "quiet", NULL, "say nothing of the run itself"},
    {KEY_GRACE, "grace", "SECONDS", "between SIGTERM and SIGKILL; 5 unless given"},
    {KEY_TIMEOUT, "timeout", "SECONDS", "end the run, with status 124, if it takes longer"},
    {KEY_STDIN, "stdin", "none|RANK", "which of the ranks started here has the input;\n0 unless given"},
    {KEY_NO_PREFIX, "no-prefix", NULL, "do not put [RANK] in front of lines"},
    {KEY_COLOR, "color", "WHEN", "of prefixes: auto, always, never"},
    {KEY_MASTER_ADDR, "master-addr", "HOST", "where the store listens; 127.0.0.1 unless given"},
    {KEY_MASTER_PORT, "master-port", "PORT", "its port; any free one unless given"},
    {KEY_STORE, "store", "HOST:PORT", "use a store that is there, and host none"},
    {KEY_FIRST_RANK, "first-rank", "N", "number of the first rank started here; 0 unless given"},
    {KEY_WORLD_SIZE, "world-size", "N",
     "ranks on all hosts; those started here unless given;\n0: a group that changes"},
    {0},
};

#define WORLD_SIZE_UNSET (-1)

/* What was given, and is not in the plan as such. */
struct given {
	char *store;
	long ranks, first_rank, world_size, master_port;
	long stdin_rank;
	bool master;
};

/* ---- options ---- */

static bool read_color(const char *text, enum color_mode *ret_mode)
{
	static const char *const names[] = {[COLOR_AUTO] = "auto", [COLOR_ALWAYS] = "always", [COLOR_NEVER] = "never"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) != 0)
			continue;
		*ret_mode = (enum color_mode)i;
		return true;
	}
	message("run: --color is '%s'; give auto, always or never", text);
	return false;
}

static bool read_extra(const char *text, struct run_plan *plan)
{
	const char *equals = strchr(text, '=');

	if (!equals || equals == text) {
		message("run: --env is '%s'; give NAME=VALUE", text);
		return false;
	}
	plan->extra = need(realloc(plan->extra, (plan->nextra + 1) * sizeof(*plan->extra)));
	plan->extra[plan->nextra++] = text;
	return true;
}

static bool read_stdin(const char *text, long *ret_rank)
{
	*ret_rank = STDIN_NONE;
	return strcmp(text, "none") == 0 || option_number("run: --stdin", text, 0, MAX_RANKS - 1, ret_rank);
}

/* One option. False, with a message, where its argument is wrong. */
static bool read_option(int key, struct run_plan *plan, struct given *given)
{
	switch (key) {
	case 'n':
		return option_number("run: -n", optarg, 1, MAX_RANKS, &given->ranks);
	case 'e':
		return read_extra(optarg, plan);
	case 'q':
		plan->quiet = true;
		return true;
	case KEY_GRACE:
		return option_seconds("run: --grace", optarg, &plan->grace_ms);
	case KEY_TIMEOUT:
		return option_seconds("run: --timeout", optarg, &plan->timeout_ms);
	case KEY_STDIN:
		return read_stdin(optarg, &given->stdin_rank);
	case KEY_NO_PREFIX:
		plan->prefix = false;
		return true;
	case KEY_COLOR:
		return read_color(optarg, &plan->color);
	case KEY_MASTER_ADDR:
		plan->master_host = optarg;
		given->master = true;
		return true;
	case KEY_MASTER_PORT:
		given->master = true;
		return option_number("run: --master-port", optarg, 0, UINT16_MAX, &given->master_port);
	case KEY_STORE:
		given->store = optarg;
		return true;
	case KEY_FIRST_RANK:
		return option_number("run: --first-rank", optarg, 0, MAX_RANKS - 1, &given->first_rank);
	case KEY_WORLD_SIZE:
		return option_number("run: --world-size", optarg, 0, MAX_RANKS, &given->world_size);
	default:
		return false;
	}
}

/* Whether the options go together; if so the plan has them all. */
static bool complete(struct run_plan *plan, struct given *given)
{
	if (given->world_size == WORLD_SIZE_UNSET)
		given->world_size = given->first_rank + given->ranks;
	if (given->world_size > 0 && given->first_rank + given->ranks > given->world_size) {
		message("run: ranks %ld to %ld are not in a --world-size of %ld", given->first_rank,
		        given->first_rank + given->ranks - 1, given->world_size);
		return false;
	}
	if (given->stdin_rank >= given->ranks) {
		message("run: --stdin is %ld; the ranks started here are counted from 0 to %ld", given->stdin_rank,
		        given->ranks - 1);
		return false;
	}
	if (given->store && given->master) {
		message("run: --store names a store that is there; --master-addr and --master-port are for one that is "
		        "hosted here. Give one or the other");
		return false;
	}
	plan->ranks = (int)given->ranks;
	plan->first_rank = (int)given->first_rank;
	plan->world_size = (int)given->world_size;
	plan->stdin_rank = (int)given->stdin_rank;
	plan->master_port = (uint16_t)given->master_port;
	plan->store_given = given->store != NULL;
	return !given->store || option_address("run: --store", given->store, &plan->master_host, &plan->master_port);
}

/* ---- what the command needs for itself ---- */

/* Where standard streams are closed, pipes would get their numbers. */
static bool open_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
	return fd >= 0;
}

static bool raise_descriptors(struct run_plan *plan)
{
	rlim_t wanted = DESCRIPTORS_MORE + (rlim_t)plan->ranks * DESCRIPTORS_PER_RANK;
	struct rlimit raised;

	if (getrlimit(RLIMIT_NOFILE, &plan->descriptors) < 0)
		return false;
	raised = plan->descriptors;
	raised.rlim_cur = raised.rlim_max;
	if (raised.rlim_max < wanted) {
		message("run: %d ranks need %llu descriptors, and the hard limit is %llu; raise it (ulimit -Hn)",
		        plan->ranks, (unsigned long long)wanted, (unsigned long long)raised.rlim_max);
		return false;
	}
	return setrlimit(RLIMIT_NOFILE, &raised) == 0;
}

/* Signals come through a descriptor; so all threads, the store's too, must block them. */
static void take_over_signals(struct run_plan *plan)
{
	static const int blocked[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT};
	struct sigaction ignored = {.sa_handler = SIG_IGN}, usual = {.sa_handler = SIG_DFL};
	sigset_t mask;

	sigemptyset(&mask);
	for (size_t i = 0; i < sizeof(blocked) / sizeof(blocked[0]); i++)
		sigaddset(&mask, blocked[i]);
	sigaction(SIGPIPE, &ignored, &plan->pipe_action);
	sigaction(SIGCHLD, &usual, NULL);
	pthread_sigmask(SIG_BLOCK, &mask, &plan->mask);
}

/* A secret of this run's own, unless there is one, or others have to know it. */
static bool choose_secret(struct run_plan *plan)
{
	const char *set = getenv("TENDRIL_SECRET");
	uint8_t bytes[32];

	if (set && *set)
		return true;
	if (plan->store_given || plan->world_size > plan->ranks) {
		NOTE(plan,
		     "run: TENDRIL_SECRET is not set, and nobody else would know one made here: the group has none");
		return true;
	}
	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
		message("run: no random bytes for a secret: %s", strerror(errno));
		return false;
	}
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(plan->secret + 2 * i, 3, "%02x", bytes[i]);
	return true;
}

/* ---- the run ---- */

/* Opens the store if it is to be hosted here; the plan then has its port. */
static bool host_store(struct run_plan *plan, tdr_store_server **ret_server)
{
	tdr_store_server_options wanted;

	*ret_server = NULL;
	if (plan->store_given)
		return true;
	tdr_store_server_options_init(&wanted);
	wanted.host = plan->master_host;
	wanted.port = plan->master_port;
	if (tdr_store_server_open(&wanted, ret_server) != TDR_OK) {
		message("run: cannot host the store: %s", tdr_last_error());
		return false;
	}
	plan->master_port = tdr_store_server_port(*ret_server);
	if (!tdr_host_is_loopback(plan->master_host))
		NOTE(plan,
		     "run: whoever reaches %s can read and change the store: it asks for no proof of who they are",
		     plan->master_host);
	return true;
}

static int carry_out(struct run_plan *plan)
{
	tdr_store_server *server;
	int status = EXIT_TROUBLE;

	if (!open_standard_streams() || !raise_descriptors(plan) || !choose_secret(plan))
		return EXIT_TROUBLE;
	take_over_signals(plan);
	if (host_store(plan, &server)) {
		status = supervise(plan);
		tdr_store_server_close(server);
	}
	return status;
}

static int run_run(const struct command *command, int argc, char **argv)
{
	struct run_plan plan = {.master_host = "127.0.0.1", .grace_ms = 5000, .prefix = true};
	struct given given = {.ranks = 1, .world_size = WORLD_SIZE_UNSET};
	int key, status = EXIT_USAGE;

	while ((key = option_next(command, argc, argv)) != OPTION_END) {
		if (key == OPTION_HELP)
			status = 0;
		if (key == OPTION_HELP || key == OPTION_FAULT || !read_option(key, &plan, &given))
			goto out;
	}
	if (optind == argc) {
		message("run: no program given; see 'tendril run --help'");
		goto out;
	}
	plan.program = argv + optind;
	if (complete(&plan, &given))
		status = carry_out(&plan);
out:
	free(plan.extra);
	return status;
}

const struct command command_run = {
    .name = "run",
    .usage = "[OPTION]... [--] PROGRAM [ARGUMENT]...",
    .summary = "Starts a program as several ranks of a group on this machine.",
    .detail = "Each gets RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT and\n"
	      "TENDRIL_SECRET. The command hosts their store. When one fails, the others are ended, and\n"
	      "its exit status is the run's.",
    .example = "  tendril run -n 4 -- python3 train.py --epochs 3",
    .options = options,
    .takes_rest = true,
    .run = run_run,
};
