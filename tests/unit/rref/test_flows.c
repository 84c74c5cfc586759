/* SPDX-License-Identifier: Apache-2.0 */
/* The flows of the reference protocol when nothing goes wrong: who says what to whom, and that nothing is left. */
#include "cast.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <tendril/status.h>

#include <cmocka.h>

/* A creates a reference at the owner; the call has come, and its function runs. */
static struct rref_user *create(struct cast *cast, struct rref_owned **ret_owned)
{
	struct rref_user *user = cast_user();

	assert_int_equal(rrefs_user_create(cast_peer(cast, A, O), user), TDR_OK);
	assert_int_equal(rrefs_create(cast_peer(cast, O, A), &user->rref, &user->fork, user->number, ret_owned),
	                 TDR_OK);
	return user;
}

/* The owner passes a reference of its own to A. */
static struct rref_user *give(struct cast *cast, struct rref_owned *owned)
{
	struct rref_user *user = cast_user();
	struct rref_passed passed;

	assert_int_equal(rrefs_pass_owned(owned, cast_peer(cast, O, A), &passed), TDR_OK);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, A, O), &passed, cast_peer(cast, A, O), user), TDR_OK);
	return user;
}

static struct rref_owned *own(struct cast *cast)
{
	struct rref_owned *owned = calloc(1, sizeof(*owned));

	assert_non_null(owned);
	assert_int_equal(rrefs_own(cast->members[O].machine, owned, OWNED_READY), TDR_OK);
	return owned;
}

static void test_create(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned;
	struct rref_user *user = create(cast, &owned);

	assert_int_equal(user->state, USER_CREATING);
	assert_int_equal(owned->state, OWNED_PENDING);
	assert_int_equal(rrefs_counts(cast->members[A].machine).pending_users, 1);
	assert_string_equal(cast_carry(cast, O, A), "RREF_ACCEPTED");
	assert_int_equal(user->state, USER_ACCEPTED);
	assert_false(user->confirmed);
	assert_int_equal(cast->members[A].settled, 1);

	rrefs_owned_ready(owned);
	rrefs_owned_unref(owned);
	rrefs_user_created(user, true);
	assert_int_equal(user->state, USER_CONFIRMED);
	assert_true(user->confirmed);

	rrefs_user_unref(user);
	assert_string_equal(cast_carry(cast, A, O), "RREF_USER_DELETE");
	assert_int_equal(cast->members[O].owned_released, 1);
	assert_string_equal(cast_carry(cast, O, A), "RREF_ACK/3/0");
	assert_int_equal(cast->members[A].users_released, 1);
	cast_assert_rest(cast, O);
	cast_assert_rest(cast, A);
}

/* A function that has finished by then needs no word that it was accepted. */
static void test_create_quickly(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned;
	struct rref_user *user = create(cast, &owned);

	rrefs_owned_ready(owned);
	rrefs_owned_unref(owned);
	assert_string_equal(cast_carry(cast, O, A), "");
	rrefs_user_created(user, true);
	assert_int_equal(user->state, USER_CONFIRMED);
	assert_int_equal(cast->members[A].settled, 1);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
}

/* The answer and the word that it was accepted may come in any order. */
static void test_accepted_after_answer(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned;
	struct rref_user *user = create(cast, &owned);

	rrefs_user_created(user, true);
	assert_string_equal(cast_carry(cast, O, A), "RREF_ACCEPTED");
	assert_int_equal(user->state, USER_CONFIRMED);
	rrefs_owned_ready(owned);
	rrefs_owned_unref(owned);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, A);
}

static void test_own_and_drop(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);

	rrefs_owned_ref(owned);
	rrefs_owned_unref(owned);
	assert_int_equal(rrefs_counts(cast->members[O].machine).owned, 0);
	assert_int_equal(cast->members[O].owned_released, 0);
	rrefs_owned_unref(owned);
	assert_int_equal(cast->members[O].owned_released, 1);
	assert_int_equal(cast->members[O].posts, 0);
}

static void test_owner_passes(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_user *user = give(cast, owned);

	assert_int_equal(user->state, USER_CONFIRMED);
	assert_true(user->confirmed);
	rrefs_owned_unref(owned);
	assert_int_equal(cast->members[O].owned_released, 0);
	assert_int_equal(rrefs_counts(cast->members[O].machine).owned, 1);
	cast_carry_all(cast);
	assert_int_equal(cast->members[O].posts + cast->members[A].posts, 0);

	rrefs_user_unref(user);
	assert_string_equal(cast_carry(cast, A, O), "RREF_USER_DELETE");
	assert_int_equal(cast->members[O].owned_released, 1);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
	cast_assert_rest(cast, A);
}

static void test_user_passes_to_user(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_user *user = give(cast, owned), *child = cast_user();
	struct rref_passed passed;

	rrefs_owned_unref(owned);
	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, B), &passed), TDR_OK);
	assert_int_equal(rrefs_counts(cast->members[A].machine).children, 1);
	rrefs_user_unref(user); /* it is not deleted before its child is accepted */
	assert_string_equal(cast_carry(cast, A, O), "");

	assert_int_equal(rrefs_receive_user(cast_peer(cast, B, A), &passed, cast_peer(cast, B, O), child), TDR_OK);
	assert_int_equal(child->state, USER_ASKING);
	assert_string_equal(cast_carry(cast, B, A), "");
	assert_string_equal(cast_carry(cast, B, O), "RREF_FORK_REQUEST");
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 2);
	assert_string_equal(cast_carry(cast, O, B), "RREF_ACK/1/0");
	assert_int_equal(child->state, USER_CONFIRMED);
	assert_int_equal(cast->members[B].settled, 1);

	assert_string_equal(cast_carry(cast, B, A), "RREF_CHILD_ACCEPT");
	assert_string_equal(cast_carry(cast, A, B), "RREF_ACK/2/0");
	assert_string_equal(cast_carry(cast, A, O), "RREF_USER_DELETE");
	assert_string_equal(cast_carry(cast, O, A), "RREF_ACK/3/0");
	cast_assert_rest(cast, A);
	assert_int_equal(cast->members[O].owned_released, 0);

	rrefs_user_unref(child);
	cast_carry_all(cast);
	assert_int_equal(cast->members[O].owned_released, 1);
	cast_assert_rest(cast, B);
	cast_assert_rest(cast, O);
}

static void test_user_passes_to_owner(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast), *back;
	struct rref_user *user = give(cast, owned);
	struct rref_passed passed;

	rrefs_owned_unref(owned);
	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, O), &passed), TDR_OK);
	rrefs_user_unref(user);
	assert_int_equal(rrefs_receive_owned(cast_peer(cast, O, A), &passed, &back), TDR_OK);
	assert_ptr_equal(back, owned);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 1);
	assert_string_equal(cast_carry(cast, O, A), "RREF_CHILD_ACCEPT");
	assert_string_equal(cast_carry(cast, A, O), "RREF_ACK/2/0 RREF_USER_DELETE");
	cast_carry_all(cast);
	cast_assert_rest(cast, A);
	assert_int_equal(cast->members[O].owned_released, 0);
	rrefs_owned_unref(back);
	assert_int_equal(cast->members[O].owned_released, 1);
}

static void test_owner_passes_to_itself(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast), *back;
	struct rref_passed passed;

	assert_int_equal(rrefs_pass_owned(owned, cast_peer(cast, O, O), &passed), TDR_OK);
	rrefs_owned_unref(owned);
	assert_int_equal(rrefs_receive_owned(cast_peer(cast, O, O), &passed, &back), TDR_OK);
	assert_ptr_equal(back, owned);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 0);
	assert_int_equal(cast->members[O].posts, 0);
	rrefs_owned_unref(back);
	cast_assert_rest(cast, O);
}

static void test_user_passes_to_itself(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_user *user = give(cast, owned), *child = cast_user();
	struct rref_passed passed;

	rrefs_owned_unref(owned);
	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, A), &passed), TDR_OK);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, A, A), &passed, cast_peer(cast, A, O), child), TDR_OK);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	assert_int_equal(child->state, USER_CONFIRMED);
	assert_int_equal(rrefs_counts(cast->members[A].machine).users, 1);
	rrefs_user_unref(child);
	cast_carry_all(cast);
	cast_assert_rest(cast, A);
	cast_assert_rest(cast, O);
}

/* One whose creation is under way is passed on, and on, before anybody knows of it. */
static void test_pass_before_creation(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = cast_user(), *child = cast_user(), *grandchild = cast_user();
	struct rref_passed passed, further;
	struct rref_owned *owned;

	assert_int_equal(rrefs_user_create(cast_peer(cast, A, O), user), TDR_OK);
	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, B), &passed), TDR_OK);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, B, A), &passed, cast_peer(cast, B, O), child), TDR_OK);
	assert_int_equal(rrefs_pass_user(child, cast_peer(cast, B, C), &further), TDR_OK);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, C, B), &further, cast_peer(cast, C, O), grandchild),
	                 TDR_OK);
	cast_carry_all(cast);
	assert_int_equal(grandchild->state, USER_CONFIRMED);
	assert_int_equal(user->state, USER_CREATING);

	assert_int_equal(rrefs_create(cast_peer(cast, O, A), &user->rref, &user->fork, user->number, &owned), TDR_OK);
	assert_int_equal(owned->state, OWNED_PENDING);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 3);
	rrefs_owned_ready(owned);
	rrefs_owned_unref(owned);
	rrefs_user_created(user, true);
	rrefs_user_unref(user);
	rrefs_user_unref(child);
	rrefs_user_unref(grandchild);
	cast_carry_all(cast);
	assert_int_equal(cast->members[O].owned_released, 1);
	for (unsigned member = 0; member < CAST_SIZE; member++)
		cast_assert_rest(cast, member);
}

/* Who fetches before the creation has come waits for it. */
static void test_fetch_before_creation(void **state)
{
	struct cast *cast = *state;
	struct rref_user *user = cast_user();
	struct rref_owned *waiting, *owned;

	assert_int_equal(rrefs_user_create(cast_peer(cast, A, O), user), TDR_OK);
	assert_int_equal(rrefs_find(cast->members[O].machine, &user->rref, user->origin, &waiting), TDR_OK);
	assert_int_equal(waiting->state, OWNED_EXPECTED);
	assert_int_equal(rrefs_create(cast_peer(cast, O, A), &user->rref, &user->fork, user->number, &owned), TDR_OK);
	assert_ptr_equal(waiting, owned);
	rrefs_owned_ready(owned);
	assert_int_equal(waiting->state, OWNED_READY);
	rrefs_owned_unref(owned);
	rrefs_owned_unref(waiting);
	rrefs_user_created(user, true);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
}

static void test_several_in_one_message(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_user *users[3];
	struct rref_passed passed[3];

	for (size_t i = 0; i < COUNT_OF(passed); i++)
		assert_int_equal(rrefs_pass_owned(owned, cast_peer(cast, O, A), &passed[i]), TDR_OK);
	for (size_t i = COUNT_OF(passed); i-- > 0;) /* in any order */
		assert_int_equal(rrefs_receive_user(cast_peer(cast, A, O), &passed[i], cast_peer(cast, A, O),
		                                    users[i] = cast_user()),
		                 TDR_OK);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 3);
	rrefs_owned_unref(owned);
	for (size_t i = 0; i < COUNT_OF(users); i++)
		rrefs_user_unref(users[i]);
	cast_carry_all(cast);
	cast_assert_rest(cast, O);
	cast_assert_rest(cast, A);
}

static void test_close_lets_all_go(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	struct rref_user *user = give(cast, owned), *late;
	struct rref_passed passed;

	rrefs_close(cast->members[A].machine);
	assert_int_equal(user->state, USER_DELETING);
	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, B), &passed), TDR_ESTATE);
	late = give(cast, owned);
	assert_int_equal(late->state, USER_DELETING);
	cast_carry_all(cast);
	assert_int_equal(rrefs_counts(cast->members[O].machine).forks, 0);
	rrefs_user_unref(user);
	rrefs_user_unref(late);
	cast_assert_rest(cast, A);
	rrefs_owned_unref(owned);
}

/* The end of a machine releases what is left, with or without handles. */
static void test_free_in_the_middle(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast), *pending;
	struct rref_user *user = give(cast, owned);
	struct rref_passed passed;

	(void)create(cast, &pending);
	assert_int_equal(rrefs_pass_user(user, cast_peer(cast, A, B), &passed), TDR_OK);
	assert_int_equal(rrefs_receive_user(cast_peer(cast, B, A), &passed, cast_peer(cast, B, O), cast_user()),
	                 TDR_OK);
	for (unsigned member = 0; member < CAST_SIZE; member++)
		cast->members[member].machine = rrefs_free(cast->members[member].machine);
	assert_int_equal(cast->members[O].owned_released, 2);
	assert_int_equal(cast->members[A].users_released, 2);
	assert_int_equal(cast->members[B].users_released, 1);
	assert_null(rrefs_free(NULL));
}

static void test_shared_are_listed(void **state)
{
	struct cast *cast = *state;
	struct rref_owned *owned = own(cast);
	const struct list *shared = rrefs_shared(cast->members[O].machine);
	struct rref_user *user;

	assert_true(list_empty(shared));
	user = give(cast, owned);
	assert_ptr_equal(list_entry(shared->next, struct rref_owned, of_shared), owned);
	rrefs_user_unref(user);
	cast_carry_all(cast);
	assert_true(list_empty(shared));
	rrefs_owned_unref(owned);
}

static void test_names(void **state)
{
	assert_string_equal(user_state_name(USER_ASKING), "asking");
	assert_string_equal(user_state_name(USER_DELETED), "deleted");
	assert_string_equal(owned_state_name(OWNED_EXPECTED), "expected");
	assert_string_equal(owned_state_name(OWNED_LOST), "lost");
}

#define FLOW(name) cmocka_unit_test_setup_teardown(name, cast_setup, cast_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FLOW(test_create),
	    FLOW(test_create_quickly),
	    FLOW(test_accepted_after_answer),
	    FLOW(test_own_and_drop),
	    FLOW(test_owner_passes),
	    FLOW(test_user_passes_to_user),
	    FLOW(test_user_passes_to_owner),
	    FLOW(test_owner_passes_to_itself),
	    FLOW(test_user_passes_to_itself),
	    FLOW(test_pass_before_creation),
	    FLOW(test_fetch_before_creation),
	    FLOW(test_several_in_one_message),
	    FLOW(test_close_lets_all_go),
	    FLOW(test_free_in_the_middle),
	    FLOW(test_shared_are_listed),
	    cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("rref/flows", tests, NULL, NULL);
}
