/* SPDX-License-Identifier: Apache-2.0 */
/* Each child's output goes to a file without a name, so that it is shown in one piece, with its test's outcome. */
#include "apart.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static FILE *start(const struct CMUnitTest *test, pid_t *ret_child)
{
	FILE *output = tmpfile();

	if (!output)
		return NULL;
	fflush(NULL);
	*ret_child = fork();
	if (*ret_child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fileno(output), STDOUT_FILENO);
		dup2(fileno(output), STDERR_FILENO);
		fclose(output);
		exit(_cmocka_run_group_tests(test->name, test, 1, NULL, NULL));
	}
	return output;
}

/* As comments, since lines of TAP inside would count. */
static void show(FILE *output)
{
	char line[4096];

	rewind(output);
	while (fgets(line, sizeof(line), output))
		fprintf(stderr, "# %s", line);
}

int run_apart(const struct CMUnitTest tests[], size_t count)
{
	FILE **outputs;
	pid_t *children;
	int failed = 0;

	if (!getenv("TENDRIL_TEST_APART"))
		return _cmocka_run_group_tests("tests", tests, count, NULL, NULL);
	outputs = calloc(count, sizeof(FILE *));
	children = calloc(count, sizeof(pid_t));
	for (size_t i = 0; outputs && children && i < count; i++)
		outputs[i] = start(&tests[i], &children[i]);
	printf("1..%zu\n", count);
	for (size_t i = 0; outputs && children && i < count; i++) {
		int status = -1;
		bool passed = outputs[i] && waitpid(children[i], &status, 0) == children[i] && status == 0;

		if (!passed && outputs[i])
			show(outputs[i]);
		if (!passed)
			fprintf(stderr, "# %s: wait status %d\n", tests[i].name, status);
		printf("%sok %zu - %s\n", passed ? "" : "not ", i + 1, tests[i].name);
		fflush(stdout);
		failed += !passed;
		if (outputs[i])
			fclose(outputs[i]);
	}
	free(outputs);
	free(children);
	return failed;
}
