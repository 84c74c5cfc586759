/* SPDX-License-Identifier: Apache-2.0 */
#include "cast.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void on_post(void *context, struct rref_peer *peer, bool soon)
{
	((struct member *)context)->posts++;
	assert_false(peer->gone);
}

static void on_settled(void *context, struct rref_user *user)
{
	((struct member *)context)->settled++;
	assert_true(rrefs_user_is_settled(user));
}

static void on_user_released(void *context, struct rref_user *user)
{
	((struct member *)context)->users_released++;
	free(user);
}

static void on_lost(void *context, struct rref_owned *owned)
{
	((struct member *)context)->lost++;
	assert_int_equal(owned->state, OWNED_LOST);
}

static void on_owned_released(void *context, struct rref_owned *owned)
{
	((struct member *)context)->owned_released++;
	free(owned);
}

static struct rref_owned *on_owned_new(void *context)
{
	return calloc(1, sizeof(struct rref_owned));
}

static struct rref_peer *on_find_peer(void *context, uint32_t worker, uint64_t incarnation)
{
	struct member *member = context;

	for (size_t i = 0; i < CAST_SIZE; i++)
		if (member->peers[i].worker == worker && member->peers[i].incarnation == incarnation)
			return &member->peers[i];
	return NULL;
}

static void on_given_up(void *context, struct rref_peer *peer, const struct letter *letter)
{
	((struct member *)context)->given_up++;
}

static const struct rrefs_events events = {
    .post = on_post,
    .settled = on_settled,
    .user_released = on_user_released,
    .lost = on_lost,
    .owned_released = on_owned_released,
    .owned_new = on_owned_new,
    .find_peer = on_find_peer,
    .given_up = on_given_up,
};

void cast_init(struct cast *cast)
{
	*cast = (struct cast){.now_ms = 1000};
	for (uint32_t i = 0; i < CAST_SIZE; i++) {
		struct member *member = &cast->members[i];

		member->cast = cast;
		member->machine = rrefs_new(i, 100 + i, &events, member);
		assert_non_null(member->machine);
		for (uint32_t other = 0; other < CAST_SIZE; other++)
			rrefs_peer_init(member->machine, &member->peers[other], other, 100 + other);
	}
}

void cast_fini(struct cast *cast)
{
	for (size_t i = 0; i < CAST_SIZE; i++)
		cast->members[i].machine = rrefs_free(cast->members[i].machine);
}

struct rref_peer *cast_peer(struct cast *cast, unsigned member, unsigned other)
{
	return &cast->members[member].peers[other];
}

struct rref_user *cast_user(void)
{
	struct rref_user *user = calloc(1, sizeof(*user));

	assert_non_null(user);
	return user;
}

static void add_text(struct cast *cast, const struct letter *letter)
{
	size_t used = strlen(cast->text), room = sizeof(cast->text) - used;

	(void)snprintf(cast->text + used, room, "%s%s", used > 0 ? " " : "", letter_kind_name(letter->kind));
	if (letter->kind != LETTER_ACK)
		return;
	used = strlen(cast->text);
	(void)snprintf(cast->text + used, sizeof(cast->text) - used, "/%u/%u", letter->of, letter->verdict);
}

static const char *take(struct cast *cast, unsigned from, unsigned to, bool lose)
{
	struct letter letters[2];
	size_t count;

	cast->text[0] = '\0';
	while ((count = rrefs_take_letters(cast_peer(cast, from, to), cast->now_ms, letters, 2)) > 0)
		for (size_t i = 0; i < count; i++) {
			add_text(cast, &letters[i]);
			if (!lose)
				assert_int_equal(rrefs_receive_letter(cast_peer(cast, to, from), &letters[i]), TDR_OK);
		}
	return cast->text;
}

const char *cast_carry(struct cast *cast, unsigned from, unsigned to)
{
	return take(cast, from, to, false);
}

const char *cast_lose(struct cast *cast, unsigned from, unsigned to)
{
	return take(cast, from, to, true);
}

void cast_carry_all(struct cast *cast)
{
	bool busy = true;

	while (busy) {
		busy = false;
		for (unsigned from = 0; from < CAST_SIZE; from++)
			for (unsigned to = 0; to < CAST_SIZE; to++)
				busy = *cast_carry(cast, from, to) != '\0' || busy;
	}
}

void cast_assert_rest(const struct cast *cast, unsigned member)
{
	struct rrefs_counts counts = rrefs_counts(cast->members[member].machine);

	assert_int_equal(counts.owned, 0);
	assert_int_equal(counts.forks, 0);
	assert_int_equal(counts.users, 0);
	assert_int_equal(counts.pending_users, 0);
	assert_int_equal(counts.children, 0);
	assert_int_equal(counts.controls, 0);
	assert_int_equal(rrefs_due(cast->members[member].machine), 0);
}

int cast_setup(void **state)
{
	static struct cast cast;

	cast_init(&cast);
	*state = &cast;
	return 0;
}

int cast_teardown(void **state)
{
	cast_fini(*state);
	return 0;
}
