/* SPDX-License-Identifier: Apache-2.0 */
/* References that are taken to pieces for bytes, which somebody reads, or nobody. */
#include "apart.h"
#include "rrefs.h"

#include <string.h>

/* As a program would do that stores them: numbers, and nothing else. */
static tdr_rref_parts write_down(tdr_rref *rref)
{
	tdr_rref_parts parts = {0}, again;
	uint64_t numbers[TDR_RREF_PARTS];

	expect_ok(tdr_rref_serialize(rref, &parts));
	memcpy(numbers, &parts, sizeof(numbers));
	memcpy(&again, numbers, sizeof(again));
	return again;
}

static tdr_rref *read_by(tdr_agent *agent, const tdr_rref_parts *parts)
{
	tdr_rref *rref = NULL;

	expect_ok(tdr_rref_deserialize(agent, parts, &rref));
	return rref;
}

static void expect_unread(tdr_agent *agent, const tdr_rref_parts *parts, tdr_status wanted, const char *part)
{
	tdr_rref *rref = NULL;

	expect_status(tdr_rref_deserialize(agent, parts, &rref), wanted);
	expect_error(part);
}

static void expect_leaks(tdr_agent *agent, const char *part)
{
	tdr_value *text;
	const char *bytes;
	size_t size;

	expect_ok(tdr_rref_leaks(agent, &text));
	expect_ok(tdr_value_get_string(text, &bytes, &size));
	if (part)
		expect_text(bytes, part);
	else
		expect_true(size == 0);
	tdr_value_unref(text);
}

/* A reference of worker1's, of which agent 0 has the only handle. */
static void what_a_user_writes_is_read(void **state)
{
	struct group group;
	tdr_rref_parts parts;
	tdr_rref *rref, *read;

	group_start(&group, 3, &rrefs_config);
	for (size_t rank = 0; rank < 3; rank++) { /* by who wrote it, by the owner, by another */
		rref = remote_int(group.agents[0], "worker1", 20 + (int64_t)rank);
		parts = write_down(rref); /* before the creation is known to be done */
		expect_true(parts.owner_id == 1 && parts.rref_created_on == 0 && parts.parent_id == 0 &&
		            parts.fork_created_on == 0 && parts.fork_local_id > parts.rref_local_id);
		tdr_rref_unref(rref);
		read = read_by(group.agents[rank], &parts);
		expect_true(tdr_rref_is_owner(read) == (rank == 1));
		expect_text(tdr_rref_owner_name(read), "worker1");
		expect_ok(tdr_rref_wait_confirmed(read, PATIENCE_MS));
		expect_true(tdr_rref_confirmed_by_owner(read));
		expect_true(here(read) == 20 + (int64_t)rank);
		tdr_rref_unref(read);
		await_none(&group);
	}
	group_end(&group);
}

static void what_the_owner_writes_is_read(void **state)
{
	struct group group;
	tdr_rref_parts parts;
	tdr_rref *rref, *read;

	group_start(&group, 2, &rrefs_config);
	for (size_t rank = 0; rank < 2; rank++) {
		rref = tdr_rref_new(group.agents[0], tdr_int(7));
		parts = write_down(rref);
		expect_true(parts.owner_id == 0 && parts.origin == 0);
		tdr_rref_unref(rref);
		read = read_by(group.agents[rank], &parts);
		expect_true(here(read) == 7); /* also before it is confirmed */
		expect_ok(tdr_rref_wait_confirmed(read, PATIENCE_MS));
		/* it is as good as any */
		expect_true(call_int(group.agents[rank], "worker1", "test::look", TDR_ARGS(read)) == 7);
		tdr_rref_unref(read);
		await_none(&group);
	}
	group_end(&group);
}

static void what_is_not_made_yet_is_written(void **state)
{
	struct group group;
	tdr_rref_parts parts;
	tdr_rref *rref, *read;

	group_start(&group, 3, &rrefs_config);
	gate_close(&rrefs_gate);
	rref = tdr_remote(group.agents[0], "worker1", "test::held", TDR_ARGS(5), NULL);
	parts = write_down(rref);
	tdr_rref_unref(rref);
	read = read_by(group.agents[2], &parts);
	expect_ok(tdr_rref_wait_confirmed(read, PATIENCE_MS));
	gate_open(&rrefs_gate);
	expect_true(here(read) == 5);
	tdr_rref_unref(read);
	await_none(&group);
	group_end(&group);
}

static void what_is_written_once_is_read_once(void **state)
{
	struct group group;
	tdr_rref_parts parts;
	tdr_rref *rref, *read, *other;
	tdr_value *value;

	group_start(&group, 3, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 3);
	parts = write_down(rref);
	read = read_by(group.agents[2], &parts);
	expect_unread(group.agents[2], &parts, TDR_EEXISTS, "a reference written by worker 'worker0'");
	expect_error("was read here before");
	expect_ok(tdr_rref_wait_confirmed(read, PATIENCE_MS));
	expect_unread(group.agents[2], &parts, TDR_EEXISTS, "was read here before");
	await_count(group.agents[0], "rref.num_pending_children", 0);
	expect_unread(group.agents[0], &parts, TDR_EEXISTS, "was read before, or has been withdrawn");
	/* where that is not known, it is counted by itself while its value is kept */
	other = read_by(group.agents[1], &parts);
	tdr_rref_unref(read);
	tdr_rref_unref(rref);
	expect_true(here(other) == 3);
	tdr_rref_unref(other);
	await_none(&group);
	other = read_by(group.agents[2], &parts);
	expect_status(tdr_rref_to_here(other, PATIENCE_MS, &value), TDR_ENOTFOUND);
	expect_status(tdr_rref_wait_confirmed(other, PATIENCE_MS), TDR_ENOTFOUND);
	tdr_rref_unref(other);
	await_none(&group);
	group_end(&group);
}

static void what_nobody_reads_is_kept_and_told_of(void **state)
{
	struct group group;
	tdr_rref_parts by_user, by_owner;
	tdr_value *list, *value;
	tdr_rref *rref, *own, *read;
	int64_t unread = -1;

	group_start(&group, 2, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 3);
	own = tdr_rref_new(group.agents[0], tdr_int(7));
	by_user = write_down(rref);
	by_owner = write_down(own);
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
	await_count(group.agents[0], "rref.num_pending_users", 0);
	expect_true(count_of(group.agents[0], "rref.num_pending_children") == 1);
	expect_true(count_of(group.agents[0], "rref.num_owner_rrefs") == 1);
	expect_leaks(group.agents[0], "not read by anybody\nLeaking RRef GloballyUniqueId(created_on=0, local_id=0)");
	expect_leaks(group.agents[1], "held by worker 'worker0'");
	expect_ok(tdr_rref_list(group.agents[0], &list));
	expect_ok(tdr_value_get_int(tdr_dict_get(tdr_value_item(list, 0), "unread"), &unread));
	expect_true(unread == 1);
	tdr_value_unref(list);
	expect_status(tdr_rref_withdraw(group.agents[1], &by_user), TDR_EINVAL);
	expect_error("agent 'worker1' did not write this reference");
	for (unsigned i = 0; i < 2; i++) { /* the second time there is nothing to do */
		expect_ok(tdr_rref_withdraw(group.agents[0], &by_user));
		expect_ok(tdr_rref_withdraw(group.agents[0], &by_owner));
	}
	await_none(&group);
	expect_leaks(group.agents[0], NULL);
	expect_unread(group.agents[0], &by_owner, TDR_EEXISTS, "withdrawn");
	read = read_by(group.agents[1], &by_owner);
	expect_status(tdr_rref_to_here(read, PATIENCE_MS, &value), TDR_ENOTFOUND);
	tdr_rref_unref(read);
	group_end(&group);
}

/* Nobody waits for readers that may never come. */
static void a_shutdown_does_not_wait_for_readers(void **state)
{
	struct group group;
	tdr_rref_parts parts;
	tdr_rref *rref, *own;

	group_start(&group, 2, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 3);
	own = tdr_rref_new(group.agents[0], tdr_int(7));
	(void)write_down(rref);
	parts = write_down(own);
	expect_true(here(rref) == 3);
	group_end(&group);
	expect_status(tdr_rref_serialize(rref, &parts), TDR_ESTATE);
	expect_error("has been deleted. Cannot call fork an UserRRef after deletion.");
	expect_status(tdr_rref_serialize(own, &parts), TDR_ESHUTDOWN);
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
}

static void the_reader_is_told_who_is_gone(void **state)
{
	struct group group;
	tdr_rref_parts by_user, by_owner, of_gone;
	tdr_rref *rref, *own, *read;
	tdr_value *value;

	group_start(&group, 3, &rrefs_config);
	rref = remote_int(group.agents[0], "worker1", 3);
	own = tdr_rref_new(group.agents[0], tdr_int(7));
	by_user = write_down(rref);
	by_owner = write_down(own);
	of_gone = write_down(rref);
	expect_true(here(rref) == 3);
	tdr_rref_unref(rref);
	tdr_rref_unref(own);
	read = read_by(group.agents[2], &of_gone);
	expect_ok(tdr_rref_wait_confirmed(read, PATIENCE_MS));
	tdr_agent_unref(group.agents[0]); /* leaves without a word */
	group.agents[0] = NULL;
	await_count(group.agents[1], "rref.num_forks", 1); /* that of the reader */
	expect_true(here(read) == 3);
	expect_true(tdr_rpc_sync(group.agents[2], "worker0", "test::add", TDR_ARGS(1, 2), NULL, NULL) != TDR_OK);
	expect_unread(group.agents[2], &by_user, TDR_EWORKERGONE, "a reference written by worker 'worker0'");
	expect_unread(group.agents[2], &by_owner, TDR_EWORKERGONE, "is gone");
	of_gone = write_down(read);
	tdr_agent_unref(group.agents[1]);
	group.agents[1] = NULL;
	expect_true(tdr_rref_to_here(read, PATIENCE_MS, &value) != TDR_OK);
	tdr_rref_unref(read);
	group_drop(&group);
}

static void numbers_that_no_reference_has_are_refused(void **state)
{
	struct group group, other;
	tdr_rref_parts parts, wrong;
	tdr_rref *rref;

	group_start(&group, 2, &rrefs_config);
	rref = tdr_rref_new(group.agents[0], tdr_int(7));
	parts = wrong = write_down(rref);
	wrong.parent_id = 1;
	expect_unread(group.agents[1], &wrong, TDR_EINVAL, "its fork was made by worker 0");
	wrong = parts;
	wrong.owner_id = (uint64_t)1 << 32;
	expect_unread(group.agents[1], &wrong, TDR_EINVAL, "numbers that no reference has");
	expect_status(tdr_rref_withdraw(group.agents[0], &wrong), TDR_EINVAL);
	wrong = parts;
	wrong.parent_incarnation++;
	expect_unread(group.agents[1], &wrong, TDR_ENOTFOUND, "was written by worker 0, of a process");
	wrong = parts;
	wrong.owner_incarnation++;
	expect_unread(group.agents[1], &wrong, TDR_ENOWORKER, "whose owner (id 0) is no member");
	/* what there is of them is left alone by all that */
	tdr_rref_unref(rref);
	rref = read_by(group.agents[1], &parts);
	expect_true(here(rref) == 7);
	tdr_rref_unref(rref);
	await_none(&group);

	group_make(&other, 1, &rrefs_config);
	expect_unread(other.agents[0], &parts, TDR_ESTATE, "has not joined a group yet");
	expect_status(tdr_rref_withdraw(other.agents[0], &parts), TDR_ESTATE);
	group_drop(&other);
	group_end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(what_a_user_writes_is_read),
	    TEST(what_the_owner_writes_is_read),
	    TEST(what_is_not_made_yet_is_written),
	    TEST(what_is_written_once_is_read_once),
	    TEST(what_nobody_reads_is_kept_and_told_of),
	    TEST(a_shutdown_does_not_wait_for_readers),
	    TEST(the_reader_is_told_who_is_gone),
	    TEST(numbers_that_no_reference_has_are_refused),
	};

	return RUN_TESTS(tests);
}
