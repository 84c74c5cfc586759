/* SPDX-License-Identifier: Apache-2.0 */
/* Letters and references that make no sense, or are about what is not their sender's: they change nothing of others'. */
#include "cast.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <tendril/status.h>

#include <cmocka.h>

static struct rref_user *give(struct cast *cast)
{
	struct rref_user *user = cast_user();
	struct rref_owned *owned = calloc(1, sizeof(*owned));
	struct rref_passed passed;

	assert_int_equal(rrefs_own(cast->members[O].machine, owned, OWNED_READY), TDR_OK);
	assert_int_equal(rrefs_pass_owned(owned, cast_peer(cast, O, A), &passed), TDR_OK);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, A, O), &passed, cast_peer(cast, A, O), user), TDR_OK);
	rrefs_owned_unref(owned);
	return user;
}

static struct rref_user *hand_over(struct cast *cast, struct rref_user *user)
{
	struct rref_user *child = cast_user();
	struct rref_passed passed;

	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, B), &passed), TDR_OK);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, B, A), &passed, cast_peer(cast, B, O), child), TDR_OK);
	return child;
}

/* C says all that can be said about a fork that it has nothing to do with, to everybody. */
static void test_strangers_letters(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast), *child = hand_over(cast, user);
	const struct rref_id forks[] = {user->fork, child->fork};
	uint64_t number = 1;

	for (unsigned to = 0; to < C; to++)
		for (unsigned kind = LETTER_FORK_REQUEST; kind <= LETTER_RECHECK; kind++)
			for (unsigned of = 0; of <= LETTER_RECHECK; of++)
				for (unsigned verdict = 0; verdict < 4; verdict++)
					for (size_t fork = 0; fork < COUNT_OF(forks); fork++) {
						struct letter letter = {.kind = (uint8_t)kind,
						                        .of = (uint8_t)of,
						                        .verdict = (uint8_t)verdict,
						                        .fork = forks[fork],
						                        .rref = user->rref,
						                        .number = number++};

						if (kind != LETTER_FORK_REQUEST ||
						    fork == 0) /* it may ask for itself */
							(void)rrefs_receive_letter(cast_peer(cast, to, C), &letter);
					}
	assert_int_equal(user->state, USER_CONFIRMED);
	assert_int_equal(child->state, USER_ASKING);
	assert_int_equal(rrefs_counts(cast->members[A].machine).children, 1);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	for (unsigned from = 0; from < C; from++)
		(void)cast_lose(cast, from, C); /* its answers */
	cast_carry_all(cast);
	assert_int_equal(child->state, USER_CONFIRMED);
	rrefs_user_unref(user);
	rrefs_user_unref(child);
	cast_carry_all(cast);
	for (unsigned member = 0; member < C; member++)
		cast_assert_rest(cast, member);
}

static void test_unknown_forks(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast);

	for (unsigned kind = LETTER_FORK_REQUEST; kind <= LETTER_RECHECK; kind++)
		for (unsigned of = 0; of <= LETTER_RECHECK; of++) {
			struct letter letter = {.kind = (uint8_t)kind,
			                        .of = (uint8_t)of,
			                        .fork = {.incarnation = 77, .local = of},
			                        .number = 1000 + of};

			letter.rref = letter.fork;
			assert_int_equal(rrefs_receive_letter(cast_peer(cast, O, A), &letter), TDR_OK);
			assert_int_equal(rrefs_receive_letter(cast_peer(cast, A, O), &letter), TDR_OK);
		}
	assert_int_equal(user->state, USER_CONFIRMED);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	assert_int_equal(rrefs_counts(cast->members[O].machine).owned, 1);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
	cast_assert_rest(cast, A);
}

static void test_letters_without_a_number(void **state)
{
	struct cast *cast = *state;
	struct letter request = {.kind = LETTER_FORK_REQUEST}, withdrawal = {.kind = LETTER_WITHDRAW};

	assert_int_equal(rrefs_receive_letter(cast_peer(cast, O, A), &request), TDR_EPROTO);
	assert_int_equal(rrefs_receive_letter(cast_peer(cast, O, A), &withdrawal), TDR_EPROTO);
	assert_int_equal(rrefs_receive_letter(cast_peer(cast, O, A), &(struct letter){.kind = 8}), TDR_EPROTO);
	assert_int_equal(rrefs_receive_letter(cast_peer(cast, O, A), &(struct letter){0}), TDR_EPROTO);
	cast_assert_rest(cast, O);
}

/* The end of one's own numbers: what is refused is refused to its sender alone. */
static void test_huge_numbers(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast);
	struct letter letter = {.kind = LETTER_WITHDRAW, .number = UINT64_MAX - 2 * WINDOW_MAX_EARLY};

	for (unsigned i = 0; i < WINDOW_MAX_EARLY + 100; i++, letter.number++)
		assert_int_equal(rrefs_receive_letter(cast_peer(cast, O, C), &letter), TDR_OK);
	(void)cast_lose(cast, O, C);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
}

static void test_others_names(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast), *stolen = cast_user();
	struct rref_passed passed = {
	    .rref = user->rref, .fork = user->fork, .owner_worker = O, .owner_incarnation = 100, .number = 1};
	struct rref_owned *owned;
	struct rref_id mine = {.incarnation = 103, .local = 1, .worker = C};

	/* References must be named by who creates them, and forks by who passes them on. */
	assert_int_equal(rrefs_create(cast_peer(cast, O, C), &user->rref, &mine, 1, &owned), TDR_EPROTO);
	assert_int_equal(rrefs_create(cast_peer(cast, O, C), &mine, &user->fork, 1, &owned), TDR_EPROTO);
	assert_int_equal(rrefs_create(cast_peer(cast, O, C), &mine, &mine, 0, &owned), TDR_EPROTO);
	assert_int_equal(rrefs_receive_owned(cast_peer(cast, O, C), &passed, &owned), TDR_EPROTO);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, B, C), &passed, cast_peer(cast, B, O), stolen), TDR_EPROTO);
	passed.number = 0; /* what was written, too */
	assert_int_equal(rrefs_receive_owned(cast_peer(cast, O, C), &passed, &owned), TDR_EPROTO);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, B, C), &passed, cast_peer(cast, B, O), stolen), TDR_EPROTO);
	free(stolen);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
	cast_assert_rest(cast, B);
}

/* A lie about a creation that is under way does not keep it from happening. */
static void test_wrong_origin(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = cast_user();
	struct letter lie = {
	    .kind = LETTER_FORK_REQUEST, .number = 1, .origin = 55, .fork = {.incarnation = 103, .worker = C}};
	struct rref_owned *owned;

	assert_int_equal(rrefs_user_create(cast_peer(cast, A, O), user), TDR_OK);
	lie.rref = user->rref;
	assert_int_equal(rrefs_receive_letter(cast_peer(cast, O, C), &lie), TDR_OK);
	assert_int_equal(rrefs_create(cast_peer(cast, O, A), &user->rref, &user->fork, user->number, &owned), TDR_OK);
	assert_int_equal(owned->origin, user->number);
	rrefs_owned_ready(owned);
	rrefs_owned_unref(owned);
	rrefs_user_created(user, true);
	rrefs_user_unref(user);
	rrefs_peer_gone(cast_peer(cast, O, C));
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
}

static void test_the_dead_say_nothing(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast);
	struct letter letter = {.kind = LETTER_USER_DELETE, .fork = user->fork, .rref = user->rref};

	rrefs_peer_gone(cast_peer(cast, O, C));
	assert_int_equal(rrefs_receive_letter(cast_peer(cast, O, C), &letter), TDR_OK);
	letter.kind = 99;
	assert_int_equal(rrefs_receive_letter(cast_peer(cast, O, C), &letter), TDR_OK);
	assert_string_equal(cast_carry(cast, O, C), "");
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
}

#define HOSTILE(name) cmocka_unit_test_setup_teardown(name, cast_setup, cast_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    HOSTILE(test_strangers_letters),    HOSTILE(test_unknown_forks), HOSTILE(test_letters_without_a_number),
	    HOSTILE(test_huge_numbers),         HOSTILE(test_others_names),  HOSTILE(test_wrong_origin),
	    HOSTILE(test_the_dead_say_nothing),
	};

	return cmocka_run_group_tests_name("rref/hostile", tests, NULL, NULL);
}
