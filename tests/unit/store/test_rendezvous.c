/* SPDX-License-Identifier: Apache-2.0 */
/* Rendezvous: what URLs, arguments and environment make of each other, and who hosts the store. */
#include "base/macros.h"
#include "store/rendezvous.h"
#include "support/leaks.h"
#include "support/places.h"
#include "support/processes.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(call) assert_int_equal(call, TDR_OK)
#define PATIENCE_MS 30000

static const char *const variables[] = {
    "RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_USE_AGENT_STORE",
    "TORCHELASTIC_RESTART_COUNT",
    "TENDRIL_STORE_HOSTED",
};

static int setup(void **state)
{
	for (size_t i = 0; i < COUNT_OF(variables); i++)
		unsetenv(variables[i]);
	return leaks_setup(state);
}

static int teardown(void **state)
{
	return leaks_teardown(state);
}

/* ---- helpers ---- */

static void set_number(const char *variable, int number)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", number);
	setenv(variable, text, 1);
}

static void set_environment(const char *rank, const char *world_size, const char *host, const char *port)
{
	setenv("RANK", rank, 1);
	setenv("WORLD_SIZE", world_size, 1);
	setenv("MASTER_ADDR", host, 1);
	setenv("MASTER_PORT", port, 1);
}

static void assert_text(const char *part)
{
	if (!strstr(tdr_last_error(), part))
		fail_msg("'%s' is not in the error's text: %s", part, tdr_last_error());
}

static void assert_fails(const char *url, int rank, int world_size, tdr_status status, const char *text)
{
	struct rendezvous untouched = {.rank = 77};

	assert_int_equal(rendezvous(url, rank, world_size, 100, &untouched), status);
	assert_text(text);
	assert_int_equal(untouched.rank, 77);
	assert_null(untouched.store);
}

/* What one member sets the other one reads. */
static void assert_met(struct rendezvous *one, struct rendezvous *two)
{
	tdr_blob value;

	OK(tdr_store_set(one->store, "key", "value", 5));
	OK(tdr_store_get(two->store, "key", PATIENCE_MS, &value));
	assert_string_equal(value.data, "value");
	tdr_blob_free(&value);
}

/* ---- what is missing or wrong ---- */

static void schemes_are_known(void **state)
{
	assert_fails("redis://host", 0, 1, TDR_EINVAL, "No rendezvous handler for redis://");
	assert_fails("://", 0, 1, TDR_EINVAL, "No rendezvous handler for ://");
	assert_fails("localhost:29500", 0, 1, TDR_EINVAL, "No rendezvous handler for 'localhost:29500'");
	assert_fails("", 0, 1, TDR_EINVAL, "No rendezvous handler for ''");
	assert_fails("tc://host:1", 0, 1, TDR_EINVAL, "No rendezvous handler for tc://");
}

static void environment_must_be_whole(void **state)
{
#define ENV_ERROR "Error initializing tendril using env:// rendezvous: "
	assert_fails(NULL, -1, -1, TDR_EINVAL, ENV_ERROR "environment variable MASTER_ADDR expected, but not set");
	assert_fails(NULL, -1, 2, TDR_EINVAL, ENV_ERROR "environment variable RANK expected, but not set");
	setenv("RANK", "", 1);
	assert_fails("env://", -1, 2, TDR_EINVAL, ENV_ERROR "environment variable RANK expected, but not set");
	setenv("RANK", "one", 1);
	assert_fails("env://", -1, 2, TDR_EINVAL, ENV_ERROR "environment variable RANK is 'one'");
	setenv("RANK", "0", 1);
	assert_fails("env://", -1, -1, TDR_EINVAL, ENV_ERROR "environment variable MASTER_ADDR expected, but not set");
	setenv("MASTER_ADDR", "127.0.0.1", 1);
	setenv("MASTER_PORT", "", 1);
	assert_fails("env://", -1, -1, TDR_EINVAL, ENV_ERROR "environment variable MASTER_PORT expected, but not set");
	setenv("MASTER_PORT", "65536", 1);
	assert_fails("env://", -1, -1, TDR_EINVAL, "port must have value from 0 to 65535 but was 65536.");
	setenv("MASTER_PORT", "-1", 1);
	assert_fails("env://", -1, -1, TDR_EINVAL, "port must have value from 0 to 65535 but was -1.");
	setenv("WORLD_SIZE", "x", 1);
	assert_fails("env://", -1, -1, TDR_EINVAL, ENV_ERROR "environment variable WORLD_SIZE is 'x'");
	setenv("WORLD_SIZE", "2", 1);
	setenv("RANK", "2", 1);
	assert_fails("env://", -1, -1, TDR_EINVAL, ENV_ERROR "rank 2 is not below the world_size 2");
#undef ENV_ERROR
}

static void addresses_must_be_whole(void **state)
{
#define TCP_ERROR "Error initializing tendril using tcp:// rendezvous: "
	assert_fails("tcp://127.0.0.1", 0, 1, TDR_EINVAL, TCP_ERROR "port number missing");
	assert_fails("tcp://127.0.0.1:", 0, 1, TDR_EINVAL, TCP_ERROR "port number missing");
	assert_fails("tcp://[::1]", 0, 1, TDR_EINVAL, TCP_ERROR "port number missing");
	assert_fails("tcp://:29500", 0, 1, TDR_EINVAL, TCP_ERROR "host missing");
	assert_fails("tcp://127.0.0.1:99999", 0, 1, TDR_EINVAL, "port must have value from 0 to 65535 but was 99999.");
	assert_fails("tcp://127.0.0.1:http", 0, 1, TDR_EINVAL, "port must have value from 0 to 65535 but was http.");
	assert_fails("tcp://127.0.0.1:29500", -1, 2, TDR_EINVAL, TCP_ERROR "rank parameter missing");
	assert_fails("tcp://127.0.0.1:0", 1, 2, TDR_EINVAL, TCP_ERROR "port 0");
	assert_fails("tcp://127.0.0.1:29500?rank=x", -1, 2, TDR_EINVAL, TCP_ERROR "rank in the URL is 'x'");
#undef TCP_ERROR
}

static void files_must_be_whole(void **state)
{
#define FILE_ERROR "Error initializing tendril using file:// rendezvous: "
	assert_fails("file://", 0, 1, TDR_EINVAL, FILE_ERROR "path missing");
	assert_fails("file://?rank=0&world_size=1", -1, -1, TDR_EINVAL, FILE_ERROR "path missing");
	assert_fails("file://relative/path", 0, 1, TDR_EINVAL, FILE_ERROR "the path 'relative/path' is not absolute");
	assert_fails("file:///tmp/x", -1, 1, TDR_EINVAL, FILE_ERROR "rank parameter missing");
	assert_fails("file:///tmp/x", 0, -2, TDR_EINVAL, FILE_ERROR "world_size is -2");
	assert_fails("file:///tmp/x", -2, 1, TDR_EINVAL, FILE_ERROR "rank is -2");
	assert_fails("file:///nonexistent/x", 0, 1, TDR_EIO, FILE_ERROR "store file '/nonexistent/x'");
	assert_fails("file:///tmp/x?rank=0", 1, 2, TDR_EINVAL, FILE_ERROR "rank is 1 as an argument and 0 in the URL");
	assert_fails("file:///tmp/x?world_size=3", 1, 2, TDR_EINVAL,
	             FILE_ERROR "world_size is 2 as an argument and 3 in the URL");
#undef FILE_ERROR
}

/* ---- meeting ---- */

static void files_join_members(void **state)
{
	char *directory = tmpdir_new(), url[300];
	struct rendezvous members[2];

	snprintf(url, sizeof(url), "file://%s/store?rank=0&world_size=2&other=thing&", directory);
	OK(rendezvous(url, -1, -1, 1234, &members[0]));
	snprintf(url, sizeof(url), "file://%s/store?world_size=2", directory);
	setenv("RANK", "1", 1);
	OK(rendezvous(url, -1, 2, TDR_TIMEOUT_DEFAULT, &members[1]));
	for (int rank = 0; rank < 2; rank++) {
		assert_string_equal(tdr_store_kind(members[rank].store), "file");
		assert_int_equal(members[rank].rank, rank);
		assert_int_equal(members[rank].world_size, 2);
		assert_null(members[rank].server);
	}
	assert_int_equal(tdr_store_timeout(members[0].store), 1234);
	assert_int_equal(tdr_store_timeout(members[1].store), 300000);
	assert_met(&members[0], &members[1]);
	rendezvous_fini(&members[0]);
	rendezvous_fini(&members[1]);
	assert_null(members[0].store);
	snprintf(url, sizeof(url), "%s/store", directory);
	assert_int_not_equal(access(url, F_OK), 0);
	tmpdir_remove(directory);
}

static void rank_0_hosts(void **state)
{
	struct port port = port_reserve();
	struct rendezvous members[2];
	char url[64];

	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", port.number);
	OK(rendezvous(url, 0, -1, PATIENCE_MS, &members[0]));
	OK(rendezvous(url, 1, -1, PATIENCE_MS, &members[1]));
	assert_non_null(members[0].server);
	assert_null(members[1].server);
	assert_int_equal(tdr_store_server_port(members[0].server), port.number);
	assert_int_equal(members[0].world_size, -1); /* a dynamic group */
	assert_met(&members[1], &members[0]);
	assert_fails(url, 0, 2, TDR_EIO, "Address already in use");
	assert_text("rank 0 cannot host the store on port");
	rendezvous_fini(&members[1]);
	rendezvous_fini(&members[0]);
	port_release(&port);
}

static void environment_joins_members(void **state)
{
	struct port port = port_reserve();
	struct rendezvous members[2];

	set_environment("0", "2", "127.0.0.1", "");
	set_number("MASTER_PORT", port.number);
	OK(rendezvous(NULL, -1, -1, PATIENCE_MS, &members[0]));
	setenv("RANK", "7", 1);
	OK(rendezvous("env://", 1, -1, PATIENCE_MS, &members[1])); /* the argument wins */
	assert_int_equal(members[0].rank, 0);
	assert_int_equal(members[1].rank, 1);
	assert_int_equal(members[1].world_size, 2);
	assert_met(&members[0], &members[1]);
	rendezvous_fini(&members[1]);
	rendezvous_fini(&members[0]);
	port_release(&port);
}

/* A host of loopback is not open to others: with its port taken on 127.0.0.2 alone, 127.0.0.1 has nobody listening. */
static void loopback_stays_loopback(void **state)
{
	struct rendezvous member;
	tdr_store *store;
	uint16_t port;

	OK(rendezvous("tcp://127.0.0.2:0", 0, 1, PATIENCE_MS, &member));
	port = tdr_store_server_port(member.server);
	OK(tdr_store_set(member.store, "a", "1", 1));
	assert_int_not_equal(tdr_store_tcp("127.0.0.1", port, 100, &store), TDR_OK);
	rendezvous_fini(&member);
}

static bool has_ipv6_loopback(void)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;

	if (fd >= 0)
		close(fd);
	return has;
}

static void ipv6_literals_are_read(void **state)
{
	struct rendezvous members[2];
	char url[64];

	if (!has_ipv6_loopback())
		skip();
	OK(rendezvous("tcp://[::1]:0", 0, 2, PATIENCE_MS, &members[0]));
	snprintf(url, sizeof(url), "tcp://[::1]:%u/?rank=1", tdr_store_server_port(members[0].server));
	OK(rendezvous(url, -1, 2, PATIENCE_MS, &members[1]));
	assert_met(&members[0], &members[1]);
	rendezvous_fini(&members[1]);
	rendezvous_fini(&members[0]);
}

static void torchruns_agent_hosts(void **state)
{
	struct rendezvous members[2];
	tdr_store_server *server;
	tdr_store *agent;
	tdr_blob value;

	OK(tdr_store_server_open(NULL, &server));
	set_environment("0", "2", "127.0.0.1", "");
	set_number("MASTER_PORT", tdr_store_server_port(server));
	setenv("TORCHELASTIC_USE_AGENT_STORE", "True", 1);
	assert_fails("env://", -1, -1, TDR_EINVAL, "environment variable TORCHELASTIC_RESTART_COUNT expected");
	setenv("TORCHELASTIC_RESTART_COUNT", "3", 1);
	OK(rendezvous("env://", 0, -1, PATIENCE_MS, &members[0]));
	OK(rendezvous("env://", 1, -1, PATIENCE_MS, &members[1]));
	assert_null(members[0].server);
	assert_string_equal(tdr_store_kind(members[0].store), "prefix");
	assert_met(&members[0], &members[1]);
	OK(tdr_store_tcp("127.0.0.1", tdr_store_server_port(server), PATIENCE_MS, &agent));
	OK(tdr_store_get(agent, "/worker/attempt_3/key", PATIENCE_MS, &value));
	tdr_blob_free(&value);
	tdr_store_unref(agent);
	rendezvous_fini(&members[0]);
	rendezvous_fini(&members[1]);
	tdr_store_server_close(server);
}

static void somebody_else_hosts(void **state)
{
	struct port port = port_reserve();
	struct rendezvous member;
	tdr_store_server *server;
	char url[64];

	OK(tdr_store_server_open(NULL, &server));
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", tdr_store_server_port(server));
	setenv("TENDRIL_STORE_HOSTED", "1", 1);
	OK(rendezvous(url, 0, 1, PATIENCE_MS, &member));
	assert_null(member.server);
	assert_string_equal(tdr_store_kind(member.store), "tcp");
	rendezvous_fini(&member);
	tdr_store_server_close(server);
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", port.number);
	assert_fails(url, 0, 1, TDR_ETIMEDOUT, "the store's server at 127.0.0.1:");
	assert_text("has not come within 100 ms");
	unsetenv("TENDRIL_STORE_HOSTED");
	assert_fails(url, 1, 2, TDR_ETIMEDOUT, "rank 0 at 127.0.0.1:");
	assert_text("has not come within 100 ms");
	port_release(&port);
}

/* ---- processes ---- */

struct member {
	uint16_t port;
	int rank;
};

static int meet(void *context)
{
	const char *keys[] = {"came0", "came1", "came2"};
	const struct member *member = context;
	struct rendezvous result;
	char url[64];

	if (member->rank == 0)
		usleep(100000); /* the others come first, and wait */
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u?rank=%d&world_size=3", member->port, member->rank);
	OK(rendezvous(url, -1, -1, PATIENCE_MS, &result));
	OK(tdr_store_set(result.store, keys[member->rank], "", 0));
	OK(tdr_store_wait(result.store, 3, keys, PATIENCE_MS));
	if (member->rank == 0) {
		OK(tdr_store_wait(result.store, 2, (const char *[]){"gone1", "gone2"}, PATIENCE_MS));
	} else {
		OK(tdr_store_set(result.store, member->rank == 1 ? "gone1" : "gone2", "", 0));
	}
	rendezvous_fini(&result);
	return 0;
}

static void rank_0_may_come_late(void **state)
{
	struct port port = port_reserve();
	struct process processes[3];
	struct member members[3];

	for (int i = 0; i < 3; i++) {
		members[i] = (struct member){.port = port.number, .rank = i};
		processes[i] = (struct process){.name = "member", .run = meet, .context = &members[i]};
	}
	processes_start(processes, 3);
	processes_finish(processes, 3, PATIENCE_MS);
	port_release(&port);
}

static void hosts_of_this_machine_are_told(void **state)
{
	static const char *const here[] = {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost"};
	static const char *const elsewhere[] = {
	    "0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "no.such.host.invalid", ""};

	for (size_t i = 0; i < COUNT_OF(here); i++)
		assert_true(tdr_host_is_loopback(here[i]));
	for (size_t i = 0; i < COUNT_OF(elsewhere); i++)
		assert_false(tdr_host_is_loopback(elsewhere[i]));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(hosts_of_this_machine_are_told),
	    TEST(schemes_are_known),
	    TEST(environment_must_be_whole),
	    TEST(addresses_must_be_whole),
	    TEST(files_must_be_whole),
	    TEST(files_join_members),
	    TEST(rank_0_hosts),
	    TEST(environment_joins_members),
	    TEST(loopback_stays_loopback),
	    TEST(ipv6_literals_are_read),
	    TEST(torchruns_agent_hosts),
	    TEST(somebody_else_hosts),
	    TEST(rank_0_may_come_late),
	};

	return cmocka_run_group_tests_name("rendezvous", tests, NULL, NULL);
}
