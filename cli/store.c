/* SPDX-License-Identifier: Apache-2.0 */
/* tendril store: hosts a store until it is told to end. */
#include "command.h"
#include "message.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <tendril.h>

#define DEFAULT_PORT 29500 /* where PyTorch's programs look for one */

enum {
	KEY_HOST = OPTION_LONG,
	KEY_PRINT_PORT,
};

static const struct option_row options[] = {
    {KEY_HOST, "host", "HOST", "the address to listen on; 127.0.0.1 unless given,\n0.0.0.0 or :: for all"},
    {'p', "port", "PORT", "the port; 29500 unless given, 0 for any free one"},
    {KEY_PRINT_PORT, "print-port", NULL, "print the port alone, for scripts"},
    {0},
};

static int serve(const char *host, uint16_t port, bool print_port)
{
	tdr_store_server_options wanted;
	tdr_store_server *server;
	char address[300];
	sigset_t ends;
	int number;

	/* Before the server's thread is there, which must not take them. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);

	tdr_store_server_options_init(&wanted);
	wanted.host = host;
	wanted.port = port;
	if (tdr_store_server_open(&wanted, &server) != TDR_OK) {
		message("store: %s", tdr_last_error());
		return EXIT_TROUBLE;
	}
	snprintf(address, sizeof(address), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host,
	         tdr_store_server_port(server));
	if (!tdr_host_is_loopback(host))
		message("store: whoever reaches %s can read and change it: it asks for no proof of who they are",
		        address);
	if (print_port)
		printf("%u\n", tdr_store_server_port(server));
	else
		printf("tendril: store at %s\n", address);
	if (fflush(stdout) == 0)
		sigwait(&ends, &number);
	tdr_store_server_close(server);
	return 0;
}

static int run_store(const struct command *command, int argc, char **argv)
{
	const char *host = "127.0.0.1";
	long port = DEFAULT_PORT;
	bool print_port = false;
	int key;

	while ((key = option_next(command, argc, argv)) != OPTION_END) {
		switch (key) {
		case KEY_HOST:
			host = optarg;
			break;
		case 'p':
			if (!option_number("store: --port", optarg, 0, UINT16_MAX, &port))
				return EXIT_USAGE;
			break;
		case KEY_PRINT_PORT:
			print_port = true;
			break;
		default:
			return key == OPTION_HELP ? 0 : EXIT_USAGE;
		}
	}
	if (!option_no_rest(command, argc, argv))
		return EXIT_USAGE;
	return serve(host, (uint16_t)port, print_port);
}

const struct command command_store = {
    .name = "store",
    .usage = "[--host HOST] [--port PORT] [--print-port]",
    .summary = "Hosts a store, through which a group meets, until SIGINT or SIGTERM.",
    .detail = "Members find it by MASTER_ADDR and MASTER_PORT with TENDRIL_STORE_HOSTED=1, or by\n"
	      "'tendril run --store HOST:PORT'. Clients of PyTorch's TCPStore can use it, too.",
    .example = "  tendril store --host 10.0.0.1 --port 29500",
    .options = options,
    .run = run_store,
};
