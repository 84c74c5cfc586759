/* SPDX-License-Identifier: Apache-2.0 */
/* Open forks: references that are written for whoever reads them. */
#include "cast.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <tendril/status.h>

#include <cmocka.h>

static struct rref_owned *own(struct cast *cast)
{
	struct rref_owned *owned = calloc(1, sizeof(*owned));

	assert_non_null(owned);
	assert_int_equal(rrefs_own(cast->members[O].machine, owned, OWNED_READY), TDR_OK);
	return owned;
}

/* The owner passes a reference of its own to A, who has the last handle then. */
static struct rref_user *give(struct cast *cast, struct rref_owned *owned)
{
	struct rref_user *user = cast_user();
	struct rref_passed passed;

	assert_int_equal(rrefs_pass_owned(owned, cast_peer(cast, O, A), &passed), TDR_OK);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, A, O), &passed, cast_peer(cast, A, O), user), TDR_OK);
	rrefs_owned_unref(owned);
	return user;
}

static struct rref_passed write_owned(struct rref_owned *owned)
{
	struct rref_passed passed;

	assert_int_equal(rrefs_pass_owned(owned, NULL, &passed), TDR_OK);
	assert_int_equal(passed.number, 0);
	return passed;
}

static struct rref_passed write_user(struct rref_user *user)
{
	struct rref_passed passed;

	assert_int_equal(rrefs_pass_user(user, NULL, &passed), TDR_OK);
	assert_int_equal(passed.number, 0);
	return passed;
}

/* What one has written is read by another. */
static struct rref_user *read_by(struct cast *cast, unsigned reader, unsigned parent, const struct rref_passed *passed)
{
	struct rref_user *user = cast_user();

	assert_int_equal(rrefs_receive_user(cast_peer(cast, reader, parent), passed, cast_peer(cast, reader, O), user),
	                 TDR_OK);
	return user;
}

/* It cannot be: with this error. */
static void expect_unread(struct cast *cast, unsigned reader, unsigned parent, const struct rref_passed *passed,
                          tdr_status wanted)
{
	struct rref_user *user = cast_user();

	assert_int_equal(rrefs_receive_user(cast_peer(cast, reader, parent), passed, cast_peer(cast, reader, O), user),
	                 wanted);
	free(user);
}

static void assert_all_rest(struct cast *cast)
{
	for (unsigned member = O; member <= C; member++)
		cast_assert_rest(cast, member);
}

/* ---- read ---- */

static void test_owner_writes(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_passed passed = write_owned(owned);
	struct rref_user *user;

	rrefs_owned_unref(owned); /* what was written keeps it */
	assert_int_equal(cast->members[O].owned_released, 0);
	user = read_by(cast, B, O, &passed);
	assert_int_equal(user->state, USER_ASKING);
	assert_int_equal(user->fork.incarnation, 102); /* a name of its own */
	assert_string_equal(cast_carry(cast, B, O), "RREF_FORK_REQUEST");
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 2);
	assert_string_equal(cast_carry(cast, O, B), "RREF_ACK/1/0");
	assert_int_equal(user->state, USER_CONFIRMED);
	assert_string_equal(cast_carry(cast, B, O), "RREF_CHILD_ACCEPT");
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	cast_carry_all(cast);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	assert_int_equal(cast->members[O].owned_released, 1);
	assert_all_rest(cast);
}

/* The owner knows who has it, for when that one dies. */
static void test_reader_dies(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_passed passed = write_owned(owned);

	rrefs_owned_unref(owned);
	(void)read_by(cast, B, O, &passed);
	cast_carry_all(cast);
	assert_int_equal(cast->members[O].owned_released, 0);
	rrefs_peer_gone(cast_peer(cast, O, B));
	assert_int_equal(cast->members[O].owned_released, 1);
	cast_assert_rest(cast, O);
}

static void test_user_writes(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast, own(cast)), *read;
	struct rref_passed passed = write_user(user);

	rrefs_user_unref(user);
	cast_carry_all(cast);
	assert_int_equal(cast->members[A].users_released, 0); /* it stays for the reader */
	assert_int_equal(rrefs_counts(cast->members[A].machine).children, 1);
	read = read_by(cast, B, A, &passed);
	cast_carry_all(cast);
	assert_int_equal(read->state, USER_CONFIRMED);
	assert_int_equal(cast->members[A].users_released, 1);
	cast_assert_rest(cast, A);
	rrefs_user_unref(read);
	cast_carry_all(cast);
	assert_int_equal(cast->members[O].owned_released, 1);
	assert_all_rest(cast);
}

static void test_read_by_the_owner(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast, own(cast));
	struct rref_passed passed = write_user(user);
	struct rref_owned *owned, *again;

	rrefs_user_unref(user);
	assert_int_equal(rrefs_receive_owned(cast_peer(cast, O, A), &passed, &owned), TDR_OK);
	assert_int_equal(rrefs_receive_owned(cast_peer(cast, O, A), &passed, &again), TDR_EEXISTS);
	cast_carry_all(cast);
	assert_int_equal(cast->members[A].users_released, 1);
	assert_int_equal(cast->members[O].owned_released, 0);
	rrefs_owned_unref(owned);
	assert_int_equal(cast->members[O].owned_released, 1);
	assert_all_rest(cast);
}

static void test_read_by_its_writer(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast), *back;
	struct rref_user *user, *read;
	struct rref_passed passed = write_owned(owned);

	assert_int_equal(rrefs_receive_owned(cast_peer(cast, O, O), &passed, &back), TDR_OK);
	assert_ptr_equal(back, owned);
	assert_int_equal(owned->handles, 2);
	assert_int_equal(rrefs_receive_owned(cast_peer(cast, O, O), &passed, &back), TDR_EEXISTS);
	rrefs_owned_unref(owned);
	cast_assert_rest(cast, O);

	user = give(cast, owned);
	passed = write_user(user);
	rrefs_user_unref(user);
	read = read_by(cast, A, A, &passed);
	expect_unread(cast, A, A, &passed, TDR_EEXISTS);
	cast_carry_all(cast);
	assert_int_equal(read->state, USER_CONFIRMED);
	assert_int_equal(cast->members[A].users_released, 1);
	expect_unread(cast, A, A, &passed, TDR_EEXISTS);
	rrefs_user_unref(read);
	cast_carry_all(cast);
	expect_unread(cast, A, A, &passed, TDR_EEXISTS);
	assert_int_equal(cast->members[O].owned_released, 1);
	assert_all_rest(cast);
}

/* ---- read twice ---- */

static void test_read_twice_by_one(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_passed passed = write_owned(owned);
	struct rref_user *user = read_by(cast, B, O, &passed);

	expect_unread(cast, B, O, &passed, TDR_EEXISTS);
	cast_carry_all(cast);
	expect_unread(cast, B, O, &passed, TDR_EEXISTS);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	/* when it is forgotten here, it is as good as any other name */
	user = read_by(cast, B, O, &passed);
	cast_carry_all(cast);
	assert_int_equal(user->state, USER_CONFIRMED);
	rrefs_user_unref(user);
	rrefs_owned_unref(owned);
	cast_carry_all(cast);
	user = read_by(cast, B, O, &passed);
	cast_carry_all(cast);
	assert_int_equal(user->state, USER_FAILED);
	rrefs_user_unref(user);
	assert_all_rest(cast);
}

static void test_read_twice_by_two(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_passed passed = write_owned(owned);
	struct rref_user *first = read_by(cast, B, O, &passed), *second = read_by(cast, C, O, &passed);

	rrefs_owned_unref(owned);
	cast_carry_all(cast);
	assert_int_equal(first->state, USER_CONFIRMED);
	assert_int_equal(second->state, USER_CONFIRMED); /* each is counted by itself */
	rrefs_user_unref(first);
	cast_carry_all(cast);
	assert_int_equal(cast->members[O].owned_released, 0);
	rrefs_user_unref(second);
	cast_carry_all(cast);
	assert_int_equal(cast->members[O].owned_released, 1);
	assert_all_rest(cast);
}

/* ---- not read ---- */

static void note_unread(void *context, const struct rref_user *user, const struct rref_id *fork)
{
	assert_int_equal(fork->incarnation, 101);
	++*(unsigned *)context;
}

static void test_never_read(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_user *user = give(cast, owned);
	struct rref_passed by_user = write_user(user), by_owner = write_owned(owned);
	unsigned unread = 0;

	rrefs_user_unref(user);
	cast_carry_all(cast);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 2);
	rrefs_open_children(cast->members[A].machine, note_unread, &unread);
	assert_int_equal(unread, 1);
	assert_int_equal(rrefs_due(cast->members[A].machine), 0); /* nobody is asked */

	rrefs_withdraw(cast->members[A].machine, &by_user.fork);
	rrefs_withdraw(cast->members[A].machine, &by_user.fork);
	cast_carry_all(cast);
	assert_int_equal(cast->members[A].users_released, 1);
	rrefs_withdraw(cast->members[O].machine, &by_owner.fork);
	assert_int_equal(cast->members[O].owned_released, 1);
	assert_all_rest(cast);

	/* too late */
	user = read_by(cast, B, A, &by_user);
	cast_carry_all(cast);
	assert_int_equal(user->state, USER_FAILED);
	rrefs_user_unref(user);
	assert_int_equal(rrefs_receive_owned(cast_peer(cast, O, O), &by_owner, &owned), TDR_EEXISTS);
	assert_int_equal(rrefs_receive_owned(cast_peer(cast, O, A), &by_user, &owned), TDR_ENOTFOUND);
	cast_carry_all(cast);
	assert_all_rest(cast);
}

/* Who leaves does not wait for a reader that may never come. */
static void test_close_drops_what_is_open(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast), *other;
	struct rref_user *user = give(cast, owned);
	struct rref_passed passed;

	(void)write_user(user);
	rrefs_close(cast->members[A].machine);
	cast_carry_all(cast);
	assert_int_equal(rrefs_pass_user(user, NULL, &passed), TDR_ESTATE);
	rrefs_user_unref(user);
	assert_int_equal(cast->members[O].owned_released, 1);

	other = own(cast);
	(void)write_owned(other);
	rrefs_close(cast->members[O].machine);
	cast_assert_rest(cast, O);
	assert_int_equal(rrefs_pass_owned(other, NULL, &passed), TDR_ESTATE);
	rrefs_reopen(cast->members[O].machine);
	(void)write_owned(other);
	rrefs_owned_unref(other);
	cast_assert_rest(cast, A);
}

static void test_somebody_is_gone(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast, own(cast)), *read;
	struct rref_passed passed = write_user(user), another = write_user(user);

	/* who wrote it */
	rrefs_peer_gone(cast_peer(cast, C, A));
	expect_unread(cast, C, A, &passed, TDR_EWORKERGONE);
	/* the owner: for the reader, then for who wrote it */
	rrefs_peer_gone(cast_peer(cast, B, O));
	read = read_by(cast, B, A, &passed);
	assert_int_equal(read->state, USER_FAILED);
	rrefs_user_unref(read);
	assert_string_equal(cast_carry(cast, B, A), "RREF_CHILD_ACCEPT");
	assert_string_equal(cast_carry(cast, A, B), "RREF_ACK/2/0");
	assert_int_equal(rrefs_counts(cast->members[A].machine).children, 1);
	rrefs_user_unref(user);
	rrefs_peer_gone(cast_peer(cast, A, O));
	cast_assert_rest(cast, A);
	cast_assert_rest(cast, B);
	expect_unread(cast, A, A, &another, TDR_EEXISTS);
}

/* ---- trouble ---- */

/* Letters that are lost are sent again, and what comes twice has one effect. */
static void test_lost_letters(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_passed passed = write_owned(owned);
	struct rref_user *user = read_by(cast, B, O, &passed);

	rrefs_owned_unref(owned);
	for (unsigned i = 0; i < 3; i++) {
		assert_string_equal(cast_lose(cast, B, O), "RREF_FORK_REQUEST");
		cast->now_ms += 4000;
		rrefs_tick(cast->members[B].machine, cast->now_ms);
	}
	assert_string_equal(cast_carry(cast, B, O), "RREF_FORK_REQUEST");
	assert_string_equal(cast_carry(cast, O, B), "RREF_ACK/1/0");
	assert_string_equal(cast_lose(cast, B, O), "RREF_CHILD_ACCEPT");
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 2);
	cast->now_ms += 4000;
	rrefs_tick(cast->members[B].machine, cast->now_ms);
	assert_string_equal(cast_carry(cast, B, O), "RREF_CHILD_ACCEPT");
	assert_string_equal(cast_lose(cast, O, B), "RREF_ACK/2/0");
	cast->now_ms += 4000;
	rrefs_tick(cast->members[B].machine, cast->now_ms);
	assert_string_equal(cast_carry(cast, B, O), "RREF_CHILD_ACCEPT");
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	cast_carry_all(cast);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	assert_all_rest(cast);
}

/* A connection that breaks, or a message that cannot be read, says nothing about what travels by other ways. */
static void test_breaks_do_not_matter(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_user *user = give(cast, owned), *read;
	struct rref_passed passed = write_user(user);

	(void)write_owned(owned);
	cast_carry_all(cast);
	for (unsigned other = O; other <= C; other++) {
		rrefs_peer_broke(cast_peer(cast, A, other));
		rrefs_peer_broke(cast_peer(cast, O, other));
		rrefs_recheck(cast_peer(cast, other, A));
		rrefs_recheck(cast_peer(cast, other, O));
	}
	cast_carry_all(cast);
	cast->now_ms += 4000;
	rrefs_tick(cast->members[A].machine, cast->now_ms);
	rrefs_tick(cast->members[O].machine, cast->now_ms);
	cast_carry_all(cast);
	assert_int_equal(rrefs_counts(cast->members[A].machine).children, 1);
	read = read_by(cast, B, A, &passed);
	cast_carry_all(cast);
	assert_int_equal(read->state, USER_CONFIRMED);
	rrefs_user_unref(read);
	rrefs_user_unref(user);
}

/* A stranger who asks for the very fork that was written gets none, and one that was never written cannot be read. */
static void test_strangers(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_passed passed = write_owned(owned), forged = passed;
	struct rref_peer *from = cast_peer(cast, O, B);

	assert_int_equal(
	    rrefs_receive_letter(
		from,
		&(struct letter){.kind = LETTER_FORK_REQUEST, .rref = passed.rref, .fork = passed.fork, .number = 1}),
	    TDR_OK);
	assert_string_equal(cast_carry(cast, O, B), "RREF_ACK/1/1");
	assert_int_equal(
	    rrefs_receive_letter(
		from,
		&(struct letter){.kind = LETTER_USER_DELETE, .rref = passed.rref, .fork = passed.fork, .number = 2}),
	    TDR_OK);
	assert_int_equal(rrefs_receive_letter(
			     from, &(struct letter){.kind = LETTER_ACK, .of = LETTER_WITHDRAW, .fork = passed.fork}),
	                 TDR_OK);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	expect_unread(cast, B, A, &passed, TDR_EPROTO); /* not of whom it says */
	forged.fork.local += 100;
	assert_int_equal(rrefs_receive_owned(cast_peer(cast, O, O), &forged, &owned), TDR_EEXISTS);
	forged.rref.local += 100;
	assert_int_equal(rrefs_receive_letter(from, &(struct letter){.kind = LETTER_CHILD_ACCEPT, .fork = forged.fork}),
	                 TDR_OK);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
}

/* The end of a machine releases what is open, too. */
static void test_free_in_the_middle(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_user *user = give(cast, owned);
	struct rref_passed passed = write_user(user);

	(void)write_owned(owned);
	(void)read_by(cast, B, A, &passed);
	(void)write_user(user);
	for (unsigned member = 0; member < CAST_SIZE; member++)
		cast->members[member].machine = rrefs_free(cast->members[member].machine);
	assert_int_equal(cast->members[O].owned_released, 1);
	assert_int_equal(cast->members[A].users_released, 1);
	assert_int_equal(cast->members[B].users_released, 1);
}

#define OPEN(name) cmocka_unit_test_setup_teardown(name, cast_setup, cast_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    OPEN(test_owner_writes),      OPEN(test_reader_dies),        OPEN(test_user_writes),
	    OPEN(test_read_by_the_owner), OPEN(test_read_by_its_writer), OPEN(test_read_twice_by_one),
	    OPEN(test_read_twice_by_two), OPEN(test_never_read),         OPEN(test_close_drops_what_is_open),
	    OPEN(test_somebody_is_gone),  OPEN(test_lost_letters),       OPEN(test_breaks_do_not_matter),
	    OPEN(test_strangers),         OPEN(test_free_in_the_middle),
	};

	return cmocka_run_group_tests_name("rref/open", tests, NULL, NULL);
}
