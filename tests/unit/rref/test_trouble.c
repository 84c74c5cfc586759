/* SPDX-License-Identifier: Apache-2.0 */
/* The reference protocol when messages are late, lost and doubled, connections break, and workers end. */
#include "cast.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/status.h>

#include <cmocka.h>

static struct rref_owned *own(struct cast *cast)
{
	struct rref_owned *owned = calloc(1, sizeof(*owned));

	assert_non_null(owned);
	assert_int_equal(rrefs_own(cast->members[O].machine, owned, OWNED_READY), TDR_OK);
	return owned;
}

/* A has a reference of the owner's, of which nobody else has a handle. */
static struct rref_user *give(struct cast *cast)
{
	struct rref_user *user = cast_user();
	struct rref_owned *owned = own(cast);
	struct rref_passed passed;

	assert_int_equal(rrefs_pass_owned(owned, cast_peer(cast, O, A), &passed), TDR_OK);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, A, O), &passed, cast_peer(cast, A, O), user), TDR_OK);
	rrefs_owned_unref(owned);
	return user;
}

/* It passes it to B. */
static struct rref_user *hand_over(struct cast *cast, struct rref_user *user)
{
	struct rref_user *child = cast_user();
	struct rref_passed passed;

	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, B), &passed), TDR_OK);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, B, A), &passed, cast_peer(cast, B, O), child), TDR_OK);
	return child;
}

static tdr_status receive_creation(struct cast *cast, const struct rref_user *user, struct rref_owned **ret_owned)
{
	return rrefs_create(cast_peer(cast, O, A), &user->rref, &user->fork, user->number, ret_owned);
}

/* ---- letters lost and doubled ---- */

static void test_request_is_sent_again(void **state)
{
	static const int64_t patience[] = {1000, 1000, 1500, 2250, 3375, 3375};
	struct cast *cast = *state;
	struct rref_user *user = give(cast), *child = hand_over(cast, user);

	for (size_t i = 0; i < COUNT_OF(patience); i++) {
		assert_string_equal(cast_lose(cast, B, O), "RREF_FORK_REQUEST");
		assert_int_equal(rrefs_due(cast->members[B].machine), cast->now_ms + patience[i]);
		cast->now_ms += patience[i] - 1;
		rrefs_tick(cast->members[B].machine, cast->now_ms);
		assert_string_equal(cast_lose(cast, B, O), "");
		cast->now_ms++;
		rrefs_tick(cast->members[B].machine, cast->now_ms);
	}
	assert_int_equal(cast->members[B].given_up, 1);
	assert_int_equal(child->state, USER_FAILED);
	rrefs_user_unref(user);
	rrefs_user_unref(child);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
	cast_assert_rest(cast, A);
	cast_assert_rest(cast, B);
}

static void test_answer_lost(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast), *child = hand_over(cast, user);

	assert_string_equal(cast_carry(cast, B, O), "RREF_FORK_REQUEST");
	assert_string_equal(cast_lose(cast, O, B), "RREF_ACK/1/0");
	cast->now_ms += 1000;
	rrefs_tick(cast->members[B].machine, cast->now_ms);
	assert_string_equal(cast_carry(cast, B, O), "RREF_FORK_REQUEST");
	assert_string_equal(cast_carry(cast, O, B), "RREF_ACK/1/0");
	assert_int_equal(child->state, USER_CONFIRMED);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 2);
	rrefs_user_unref(user);
	rrefs_user_unref(child);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
}

/* A deletion that was given up is said again once the connection is made anew. */
static void test_given_up_until_broke(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast);

	rrefs_user_unref(user);
	for (size_t i = 0; i < LETTER_MAX_SENDS; i++) {
		assert_string_equal(cast_lose(cast, A, O), "RREF_USER_DELETE");
		cast->now_ms += 4000;
		rrefs_tick(cast->members[A].machine, cast->now_ms);
	}
	assert_int_equal(cast->members[A].given_up, 1);
	assert_int_equal(rrefs_counts(cast->members[A].machine).controls, 0);
	assert_int_equal(rrefs_due(cast->members[A].machine), 0);
	assert_int_equal(rrefs_counts(cast->members[A].machine).users, 1);

	rrefs_peer_broke(cast_peer(cast, A, O));
	assert_string_equal(cast_carry(cast, A, O), "RREF_USER_DELETE");
	cast_carry_all(cast);
	cast_assert_rest(cast, A);
	cast_assert_rest(cast, O);
}

/* A request that is overtaken by the deletion of what it asks for must not bring it to life. */
static void test_late_request(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast), *child = hand_over(cast, user);
	struct letter late;

	assert_int_equal(rrefs_take_letters(cast_peer(cast, B, O), cast->now_ms, &late, 1), 1);
	assert_int_equal(rrefs_receive_letter(cast_peer(cast, O, B), &late), TDR_OK);
	cast_carry_all(cast);
	rrefs_user_unref(child);
	cast_carry_all(cast);
	cast_assert_rest(cast, B);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	assert_int_equal(rrefs_receive_letter(cast_peer(cast, O, B), &late), TDR_OK);
	assert_string_equal(cast_carry(cast, O, B), "RREF_ACK/1/1");
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
}

/* ---- messages that fail ---- */

static void test_withdrawn(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_user *user = cast_user();
	struct rref_passed passed;

	assert_int_equal(rrefs_pass_owned(owned, cast_peer(cast, O, A), &passed), TDR_OK);
	rrefs_withdraw(cast->members[O].machine, &passed.fork);
	rrefs_withdraw(cast->members[O].machine, &passed.fork);
	assert_string_equal(cast_carry(cast, O, A), "RREF_WITHDRAW");
	assert_string_equal(cast_carry(cast, A, O), "RREF_ACK/4/0");
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 0);
	/* The message comes after all. */
	assert_int_equal(rrefs_receive_user(cast_peer(cast, A, O), &passed, cast_peer(cast, A, O), user), TDR_EEXISTS);
	free(user);
	rrefs_owned_unref(owned);
	cast_assert_rest(cast, O);
}

static void test_withdrawn_too_late(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast);

	rrefs_withdraw(cast->members[O].machine, &user->fork);
	assert_string_equal(cast_carry(cast, O, A), "RREF_WITHDRAW");
	assert_string_equal(cast_carry(cast, A, O), "RREF_ACK/4/2");
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	rrefs_peer_broke(cast_peer(cast, O, A)); /* it is known to have come */
	assert_string_equal(cast_carry(cast, O, A), "");
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
}

static void test_child_withdrawn(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast);
	struct rref_passed passed;

	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, B), &passed), TDR_OK);
	rrefs_user_unref(user);
	rrefs_withdraw(cast->members[A].machine, &passed.fork);
	cast_carry_all(cast);
	cast_assert_rest(cast, A);
	cast_assert_rest(cast, O);
}

static void test_child_withdrawn_too_late(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast), *child = hand_over(cast, user);

	rrefs_user_unref(user);
	rrefs_withdraw(cast->members[A].machine, &child->fork);
	assert_string_equal(cast_carry(cast, A, B), "RREF_WITHDRAW");
	assert_string_equal(cast_carry(cast, B, A), "RREF_ACK/4/2");
	assert_int_equal(rrefs_counts(cast->members[A].machine).children, 1);
	cast_carry_all(cast);
	cast_assert_rest(cast, A);
	assert_int_equal(child->state, USER_CONFIRMED);
	rrefs_user_unref(child);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
}

static void test_recheck(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_user *user = cast_user(), *late = cast_user();
	struct rref_passed passed[3];

	for (size_t i = 0; i < COUNT_OF(passed); i++)
		assert_int_equal(rrefs_pass_owned(owned, cast_peer(cast, O, A), &passed[i]), TDR_OK);
	/* The second cannot be read; the first is dropped. */
	assert_int_equal(rrefs_receive_user(cast_peer(cast, A, O), &passed[0], cast_peer(cast, A, O), user), TDR_OK);
	rrefs_user_unref(user);
	rrefs_recheck(cast_peer(cast, A, O));
	assert_string_equal(cast_lose(cast, A, O), "RREF_USER_DELETE RREF_RECHECK");
	rrefs_recheck(cast_peer(cast, A, O)); /* while the first has not been answered */
	cast->now_ms += 1000;
	rrefs_tick(cast->members[A].machine, cast->now_ms);
	cast_carry_all(cast);
	/* What may still be on its way has a second to come. */
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 2);
	assert_true(rrefs_due(cast->members[O].machine) > 0);
	rrefs_tick(cast->members[O].machine, cast->now_ms);
	assert_int_equal(rrefs_due(cast->members[O].machine), cast->now_ms + 1000);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, A, O), &passed[2], cast_peer(cast, A, O), late), TDR_OK);
	cast->now_ms += 1000;
	rrefs_tick(cast->members[O].machine, cast->now_ms);
	cast_carry_all(cast);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	rrefs_user_unref(late);
	cast_carry_all(cast);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 0);
	rrefs_owned_unref(owned);
	cast_assert_rest(cast, O);
	cast_assert_rest(cast, A);
}

/* What is passed on by the new connection is not asked for when the old one is found to be broken. */
static void test_passed_after_a_break(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_passed lost, later;

	rrefs_peer_connected(cast_peer(cast, O, A), 1);
	assert_int_equal(rrefs_pass_owned(owned, cast_peer(cast, O, A), &lost), TDR_OK);
	rrefs_peer_broke(cast_peer(cast, O, A));
	assert_string_equal(cast_carry(cast, O, A), "");
	rrefs_peer_connected(cast_peer(cast, O, A), 2);
	assert_int_equal(rrefs_pass_owned(owned, cast_peer(cast, O, A), &later), TDR_OK);
	rrefs_peer_broke(cast_peer(cast, O, A));
	assert_string_equal(cast_carry(cast, O, A), "RREF_WITHDRAW");
	cast_carry_all(cast);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	rrefs_peer_connected(cast_peer(cast, O, A), 3);
	rrefs_peer_broke(cast_peer(cast, O, A));
	cast_carry_all(cast);
	rrefs_owned_unref(owned);
	cast_assert_rest(cast, O);
}

static void test_late_answer_to_recheck(void **state)
{
	struct cast *cast = *state;
	struct letter first, second, answer = {.kind = LETTER_ACK, .of = LETTER_RECHECK};

	rrefs_recheck(cast_peer(cast, A, O));
	assert_int_equal(rrefs_take_letters(cast_peer(cast, A, O), cast->now_ms, &first, 1), 1);
	answer.fork = first.fork;
	assert_int_equal(rrefs_receive_letter(cast_peer(cast, A, O), &answer), TDR_OK);
	cast_assert_rest(cast, A);
	rrefs_recheck(cast_peer(cast, A, O));
	assert_int_equal(rrefs_take_letters(cast_peer(cast, A, O), cast->now_ms, &second, 1), 1);
	assert_false(rref_id_equal(&first.fork, &second.fork));
	assert_int_equal(rrefs_receive_letter(cast_peer(cast, A, O), &answer), TDR_OK);
	assert_int_equal(rrefs_counts(cast->members[A].machine).controls, 1);
}

static void test_broken_connection(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_passed passed;

	assert_int_equal(rrefs_pass_owned(owned, cast_peer(cast, O, A), &passed), TDR_OK);
	rrefs_owned_unref(owned);
	rrefs_peer_broke(cast_peer(cast, O, A));
	cast_carry_all(cast);
	assert_int_equal(cast->members[O].owned_released, 1);
	cast_assert_rest(cast, O);
}

/* ---- creations that fail ---- */

static void test_creation_never_came(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = cast_user();
	struct rref_owned *waiting, *late;

	assert_int_equal(rrefs_user_create(cast_peer(cast, A, O), user), TDR_OK);
	assert_int_equal(rrefs_find(cast->members[O].machine, &user->rref, user->origin, &waiting), TDR_OK);
	rrefs_user_created(user, false);
	assert_int_equal(user->state, USER_FAILED);
	rrefs_user_ref(user);
	rrefs_user_unref(user);
	assert_string_equal(cast_carry(cast, A, O), "");
	rrefs_owned_ref(waiting);
	rrefs_owned_unref(waiting);
	{
		struct rref_id rref = user->rref, fork = user->fork;
		uint64_t number = user->number;

		rrefs_user_unref(user);
		assert_string_equal(cast_carry(cast, A, O), "RREF_USER_DELETE");
		assert_int_equal(cast->members[O].lost, 1);
		assert_int_equal(waiting->state, OWNED_LOST);
		rrefs_owned_unref(waiting);
		/* And it will not: it was given up before it came. */
		assert_int_equal(rrefs_create(cast_peer(cast, O, A), &rref, &fork, number, &late), TDR_EEXISTS);
		assert_int_equal(rrefs_find(cast->members[O].machine, &rref, number, &late), TDR_ENOTFOUND);
	}
	cast_carry_all(cast);
	cast_assert_rest(cast, A);
	cast_assert_rest(cast, O);
}

static void test_creation_once(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = cast_user();
	struct rref_owned *owned, *again;

	assert_int_equal(rrefs_user_create(cast_peer(cast, A, O), user), TDR_OK);
	assert_int_equal(receive_creation(cast, user, &owned), TDR_OK);
	assert_int_equal(receive_creation(cast, user, &again), TDR_EEXISTS);
	rrefs_owned_ready(owned);
	rrefs_owned_unref(owned);
	assert_int_equal(receive_creation(cast, user, &again), TDR_EEXISTS);
	rrefs_user_created(user, true);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
}

/* A call that times out when its function runs leaves a good reference, if that is known. */
static void test_timeout_of_accepted(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = cast_user();
	struct rref_owned *owned;

	assert_int_equal(rrefs_user_create(cast_peer(cast, A, O), user), TDR_OK);
	assert_int_equal(receive_creation(cast, user, &owned), TDR_OK);
	cast_carry_all(cast);
	rrefs_user_created(user, false);
	assert_int_equal(user->state, USER_ACCEPTED);
	rrefs_owned_ready(owned);
	rrefs_owned_unref(owned);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
}

static void test_failed_are_not_passed_on(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = cast_user();
	struct rref_passed passed;

	assert_int_equal(rrefs_user_create(cast_peer(cast, A, O), user), TDR_OK);
	rrefs_user_created(user, false);
	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, B), &passed), TDR_ESTATE);
	assert_non_null(strstr(tdr_last_error(), "failed"));
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, A);
}

/* ---- ends of workers ---- */

static void test_user_dies(void **state)
{
	struct cast *cast = *state;

	(void)give(cast);
	rrefs_peer_gone(cast_peer(cast, O, A));
	rrefs_peer_gone(cast_peer(cast, O, A));
	assert_int_equal(cast->members[O].owned_released, 1);
	cast_assert_rest(cast, O);
}

static void test_owner_dies(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast), *child = hand_over(cast, user);
	struct rref_passed passed;

	rrefs_peer_gone(cast_peer(cast, A, O));
	assert_int_equal(user->state, USER_FAILED);
	assert_int_equal(cast->members[A].settled, 1);
	rrefs_peer_gone(cast_peer(cast, B, O));
	assert_int_equal(child->state, USER_FAILED);
	assert_int_equal(rrefs_pass_user(child, cast_peer(cast, B, C), &passed), TDR_ESTATE);
	cast_carry_all(cast); /* the child is accepted, though it has failed */
	rrefs_user_unref(user);
	rrefs_user_unref(child);
	cast_assert_rest(cast, A);
	cast_assert_rest(cast, B);
}

/* Its child may come too late: with the parent goes what it was to keep. */
static void test_parent_dies(void **state)
{
	struct cast *cast = *state;
	struct rref_user *child = hand_over(cast, give(cast));

	rrefs_peer_gone(cast_peer(cast, O, A));
	rrefs_peer_gone(cast_peer(cast, B, A));
	cast_carry_all(cast);
	assert_int_equal(child->state, USER_FAILED);
	rrefs_user_unref(child);
	cast_assert_rest(cast, B);
	cast_assert_rest(cast, O);
}

static void test_child_dies(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast);

	(void)hand_over(cast, user);
	rrefs_user_unref(user);
	rrefs_peer_gone(cast_peer(cast, A, B));
	rrefs_peer_gone(cast_peer(cast, O, B));
	cast_carry_all(cast);
	cast_assert_rest(cast, A);
	cast_assert_rest(cast, O);
}

static void test_creator_dies(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = cast_user();
	struct rref_owned *waiting, *owned;

	assert_int_equal(rrefs_user_create(cast_peer(cast, A, O), user), TDR_OK);
	assert_int_equal(rrefs_find(cast->members[O].machine, &user->rref, user->origin, &waiting), TDR_OK);
	rrefs_peer_gone(cast_peer(cast, O, A));
	assert_int_equal(waiting->state, OWNED_LOST);
	rrefs_owned_unref(waiting);
	assert_int_equal(receive_creation(cast, user, &owned), TDR_EWORKERGONE);
	assert_int_equal(rrefs_find(cast->members[O].machine, &user->rref, user->origin, &owned), TDR_ENOTFOUND);
	cast_assert_rest(cast, O);
	rrefs_user_created(user, false);
	rrefs_user_unref(user);
}

static void test_pass_to_one_that_is_gone(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast);
	struct rref_passed passed;

	rrefs_peer_gone(cast_peer(cast, A, B));
	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, B), &passed), TDR_OK);
	assert_int_equal(rrefs_counts(cast->members[A].machine).children, 0);
	rrefs_withdraw(cast->members[A].machine, &passed.fork);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, A);
}

static void test_receive_of_an_owner_that_is_gone(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = give(cast), *child = cast_user();
	struct rref_passed passed;

	rrefs_peer_gone(cast_peer(cast, B, O));
	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, B), &passed), TDR_OK);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, B, A), &passed, cast_peer(cast, B, O), child), TDR_OK);
	assert_int_equal(child->state, USER_FAILED);
	rrefs_user_unref(child);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, A);
	cast_assert_rest(cast, B);
	cast_assert_rest(cast, O);
}

#define TROUBLE(name) cmocka_unit_test_setup_teardown(name, cast_setup, cast_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TROUBLE(test_request_is_sent_again),
	    TROUBLE(test_answer_lost),
	    TROUBLE(test_given_up_until_broke),
	    TROUBLE(test_late_request),
	    TROUBLE(test_withdrawn),
	    TROUBLE(test_withdrawn_too_late),
	    TROUBLE(test_child_withdrawn),
	    TROUBLE(test_child_withdrawn_too_late),
	    TROUBLE(test_recheck),
	    TROUBLE(test_passed_after_a_break),
	    TROUBLE(test_late_answer_to_recheck),
	    TROUBLE(test_broken_connection),
	    TROUBLE(test_creation_never_came),
	    TROUBLE(test_creation_once),
	    TROUBLE(test_timeout_of_accepted),
	    TROUBLE(test_failed_are_not_passed_on),
	    TROUBLE(test_user_dies),
	    TROUBLE(test_owner_dies),
	    TROUBLE(test_parent_dies),
	    TROUBLE(test_child_dies),
	    TROUBLE(test_creator_dies),
	    TROUBLE(test_pass_to_one_that_is_gone),
	    TROUBLE(test_receive_of_an_owner_that_is_gone),
	};

	return cmocka_run_group_tests_name("rref/trouble", tests, NULL, NULL);
}
