/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member of a group as far as the store goes: counts itself, waits until all have, and says so. It finds the store
 * by the environment that `tendril run` gives.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <tendril.h>

static const char *variable(const char *name)
{
	const char *value = getenv(name);

	if (!value) {
		fprintf(stderr, "%s is not set\n", name);
		exit(1);
	}
	return value;
}

static void check(tdr_status status)
{
	if (status == TDR_OK)
		return;
	fprintf(stderr, "%s\n", tdr_last_error());
	exit(1);
}

int main(void)
{
	const char *const all[] = {"all"};
	int64_t size = atoll(variable("WORLD_SIZE")), count;
	tdr_store *store;

	check(tdr_store_tcp(variable("MASTER_ADDR"), (uint16_t)atoi(variable("MASTER_PORT")), 30000, &store));
	check(tdr_store_add(store, "count", 1, &count));
	if (count == size)
		check(tdr_store_set(store, "all", "1", 1));
	check(tdr_store_wait(store, 1, all, 30000));
	printf("all %" PRId64 " are here\n", size);
	tdr_store_unref(store);
	return 0;
}
