/* SPDX-License-Identifier: Apache-2.0 */
/* The tests' own helpers: a leak that they miss, or a child that they lose, would let other tests pass wrongly. */
#include "support/leaks.h"
#include "support/places.h"
#include "support/processes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LONG_MS 20000

/* ---- leaks ---- */

static void assert_leak(const struct leaks *before, const char *words)
{
	char *text = leaks_since(before, 0);

	assert_non_null(text);
	assert_non_null(strstr(text, words));
	free(text);
}

static void assert_no_leak(const struct leaks *before)
{
	char *text = leaks_since(before, LEAKS_GRACE_MS);

	if (text)
		print_error("%s", text);
	assert_null(text);
}

static void test_leaks_sees_descriptors(void **state)
{
	struct leaks *before = leaks_snapshot();
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_leak(before, "/dev/null");
	close(fd);
	assert_no_leak(before);
	leaks_free(before);
}

static void *read_until_closed(void *context)
{
	char byte;

	while (read(*(int *)context, &byte, 1) > 0)
		;
	return NULL;
}

static void test_leaks_sees_threads(void **state)
{
	struct leaks *before;
	pthread_t thread;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	before = leaks_snapshot();
	assert_int_equal(pthread_create(&thread, NULL, read_until_closed, &ends[0]), 0);
	assert_leak(before, "thread ");
	close(ends[1]);
	pthread_join(thread, NULL);
	assert_no_leak(before);
	close(ends[0]);
	leaks_free(before);
}

static void test_leaks_sees_processes(void **state)
{
	struct leaks *before = leaks_snapshot();
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	assert_leak(before, "process ");
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_no_leak(before);
	leaks_free(before);
}

static void test_leaks_sees_shared_memory(void **state)
{
	struct leaks *before = leaks_snapshot();
	char name[64], words[80];
	int fd;

	snprintf(name, sizeof(name), "/tendril-test-%d", (int)getpid());
	snprintf(words, sizeof(words), "/dev/shm%s", name);
	fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_leak(before, words);
	shm_unlink(name);
	assert_no_leak(before);
	leaks_free(before);
}

/* ---- processes ---- */

static int succeed(void *context)
{
	return 0;
}

static int complain(void *context)
{
	fprintf(stderr, "no more coffee\n");
	return 3;
}

static int assert_wrongly(void *context)
{
	assert_int_equal(1, 2);
	return 0;
}

static int hang(void *context)
{
	while (pause() != 0)
		;
	return 0;
}

/* Has a child besides, which holds the output pipe open too. */
static int hang_with_a_child(void *context)
{
	if (fork() < 0)
		return 1;
	return hang(context);
}

/* Leaks a descriptor between the fixtures; exits with 0 if they notice. */
static int leak_between_fixtures(void *context)
{
	if (leaks_setup(NULL) != 0 || open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
		return 2;
	return leaks_teardown(NULL) == 0;
}

static void test_leaks_fixtures_name_what_is_left(void **state)
{
	struct process child = {.run = leak_between_fixtures};

	processes_start(&child, 1);
	assert_true(processes_wait(&child, 1, LONG_MS));
	assert_non_null(strstr(child.output, "the test left behind:\ndescriptor "));
	processes_fini(&child, 1);
}

static void test_processes_succeed(void **state)
{
	struct process children[] = {{.run = succeed}, {.run = succeed}, {.run = succeed}};

	processes_start(children, 3);
	processes_finish(children, 3, LONG_MS);
}

static void test_processes_name_the_one_that_failed(void **state)
{
	struct process children[] = {{.run = succeed}, {.name = "ps", .run = complain}};
	char *report;

	processes_start(children, 2);
	assert_false(processes_wait(children, 2, LONG_MS));
	report = processes_report(children, 2);
	assert_non_null(strstr(report, "process 0 (no name): exited with 0\n"));
	assert_non_null(strstr(report, "process 1 (ps): exited with 3\nno more coffee\n"));
	free(report);
	processes_fini(children, 2);
}

static void test_processes_report_failed_assertions(void **state)
{
	struct process child = {.run = assert_wrongly};

	processes_start(&child, 1);
	assert_false(processes_wait(&child, 1, LONG_MS));
	assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
	assert_non_null(strstr(child.output, "0x1 != 0x2"));
	processes_fini(&child, 1);
}

static void test_processes_are_killed_in_the_end(void **state)
{
	struct process children[] = {{.run = hang_with_a_child}, {.run = succeed}};

	processes_start(children, 2);
	assert_false(processes_wait(children, 2, 300));
	assert_true(children[0].timed_out);
	assert_false(children[1].timed_out);
	processes_fini(children, 2);
}

static void test_processes_may_have_to_die(void **state)
{
	struct process child = {.run = hang, .expected_signal = SIGKILL};

	processes_start(&child, 1);
	process_kill(&child, SIGKILL);
	processes_finish(&child, 1, LONG_MS);
}

/* A child that starts another, tells its number, and is killed: the other must go with it. */
static int lose_a_child(void *context)
{
	struct process lost = {.run = hang};

	processes_start(&lost, 1);
	printf("%d\n", (int)lost.pid);
	raise(SIGKILL);
	return 0;
}

static void test_processes_die_with_their_parent(void **state)
{
	struct process child = {.run = lose_a_child, .expected_signal = SIGKILL};
	pid_t lost;

	processes_start(&child, 1);
	assert_true(processes_wait(&child, 1, LONG_MS));
	lost = (pid_t)atoi(child.output);
	assert_true(lost > 1);
	for (int i = 0; i < LONG_MS && kill(lost, 0) == 0; i++)
		usleep(1000);
	assert_int_not_equal(kill(lost, 0), 0);
	processes_fini(&child, 1);
}

/* ---- places ---- */

static void test_tmpdir_is_removed_with_its_contents(void **state)
{
	char *path = tmpdir_new();
	char inner[512];
	struct stat status;

	snprintf(inner, sizeof(inner), "%s/directory", path);
	assert_int_equal(mkdir(inner, 0700), 0);
	snprintf(inner, sizeof(inner), "%s/directory/link", path);
	assert_int_equal(symlink("/", inner), 0);
	snprintf(inner, sizeof(inner), "%s", path);
	assert_null(tmpdir_remove(path));
	assert_int_not_equal(stat(inner, &status), 0);
}

static int listen_on(uint16_t port)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0)
		return fd;
	close(fd);
	return -1;
}

static void test_port_can_be_bound(void **state)
{
	struct port one = port_reserve(), other = port_reserve();
	int fd = listen_on(one.number);

	assert_int_not_equal(one.number, other.number);
	assert_true(fd >= 0);
	close(fd);
	port_release(&one);
	port_release(&other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, leaks_setup, leaks_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_leaks_sees_descriptors),
	    TEST(test_leaks_sees_threads),
	    TEST(test_leaks_sees_processes),
	    TEST(test_leaks_sees_shared_memory),
	    TEST(test_leaks_fixtures_name_what_is_left),
	    TEST(test_processes_succeed),
	    TEST(test_processes_name_the_one_that_failed),
	    TEST(test_processes_report_failed_assertions),
	    TEST(test_processes_are_killed_in_the_end),
	    TEST(test_processes_may_have_to_die),
	    TEST(test_processes_die_with_their_parent),
	    TEST(test_tmpdir_is_removed_with_its_contents),
	    TEST(test_port_can_be_bound),
	};

	return cmocka_run_group_tests_name("support", tests, NULL, NULL);
}
