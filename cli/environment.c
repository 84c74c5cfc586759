/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of a rank. */
#include "message.h"
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OWN_VARIABLES 8

void *need(void *memory)
{
	if (!memory) {
		message("out of memory");
		exit(EXIT_TROUBLE); /* ranks that run already die with us */
	}
	return memory;
}

/* Puts NAME=VALUE in place of the variable's other value, or at the end. Takes the text over. */
static void put(char **environment, char *text)
{
	size_t name_size = strcspn(text, "=") + 1;
	size_t at = 0;

	while (environment[at] && strncmp(environment[at], text, name_size) != 0)
		at++;
	free(environment[at]);
	environment[at] = text;
}

static void put_number(char **environment, const char *name, int number)
{
	char *text;

	put(environment, asprintf(&text, "%s=%d", name, number) < 0 ? need(NULL) : text);
}

static void put_text(char **environment, const char *name, const char *value)
{
	char *text;

	put(environment, asprintf(&text, "%s=%s", name, value) < 0 ? need(NULL) : text);
}

char **environment_new(const struct run_plan *plan, int local_rank)
{
	size_t count = 0;
	char **result;

	while (environ[count])
		count++;
	result = need(calloc(count + OWN_VARIABLES + plan->nextra + 1, sizeof(*result)));
	for (size_t i = 0; i < count; i++)
		result[i] = need(strdup(environ[i]));
	put_number(result, "RANK", plan->first_rank + local_rank);
	put_number(result, "WORLD_SIZE", plan->world_size);
	put_number(result, "LOCAL_RANK", local_rank);
	put_number(result, "LOCAL_WORLD_SIZE", plan->ranks);
	put_text(result, "MASTER_ADDR", plan->master_host);
	put_number(result, "MASTER_PORT", plan->master_port);
	put_text(result, "TENDRIL_STORE_HOSTED", "1");
	if (*plan->secret)
		put_text(result, "TENDRIL_SECRET", plan->secret);
	for (size_t i = 0; i < plan->nextra; i++)
		put(result, need(strdup(plan->extra[i])));
	return result;
}

void environment_free(char **environment)
{
	for (char **each = environment; *each; each++)
		free(*each);
	free(environment);
}
