/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference machine of one worker, with others about it who say anything at all, in any order; what its holder does is
 * within its contract. The input is a list of steps: a byte that says what happens, and the bytes that it takes.
 *
 * Beside crashes and failed assertions it looks for what must hold: counts that are what was made and released, letters that
 * can be written and read again, and that nothing is left at the end.
 */
#include "rref/machine.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, tdr_last_error());          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

#define PEERS 4    /* the first is the worker itself */
#define HANDLES 32 /* that the program has at once, of either kind */

struct use {
	struct rref_user user;
	bool creating; /* its outcome has not been told */
};

struct thing {
	struct rref_owned owned;
	bool running; /* its creating function has a handle */
};

struct scene {
	struct rrefs *machine;
	struct rref_peer peers[PEERS];
	struct use *uses[HANDLES];
	size_t nuses;
	struct thing *things[HANDLES];
	size_t nthings;
	size_t objects; /* made and not released */
	int64_t now_ms;
	const uint8_t *at, *end;
};

/* ---- input ---- */

static uint8_t take_byte(struct scene *scene)
{
	return scene->at < scene->end ? *scene->at++ : 0;
}

/* Mostly a small number, so that names meet. */
static uint64_t take_number(struct scene *scene)
{
	uint8_t byte = take_byte(scene);

	return byte < 250 ? byte : UINT64_MAX - byte;
}

static struct rref_id take_id(struct scene *scene)
{
	static const uint64_t incarnations[] = {100, 101, 102, 103, 999};
	uint8_t byte = take_byte(scene);

	return (struct rref_id){.incarnation = incarnations[byte % 5], .local = byte / 5, .worker = byte % 5};
}

static struct rref_peer *take_peer(struct scene *scene)
{
	return &scene->peers[take_byte(scene) % PEERS];
}

static struct rref_peer *take_other(struct scene *scene)
{
	return &scene->peers[1 + take_byte(scene) % (PEERS - 1)];
}

/* ---- events ---- */

static void on_post(void *context, struct rref_peer *peer, bool soon)
{
	CHECK(!peer->gone);
}

static void on_user(void *context, struct rref_user *user)
{
	CHECK(rrefs_user_is_settled(user));
}

static void on_user_released(void *context, struct rref_user *user)
{
	struct scene *scene = context;

	scene->objects--;
	free(container_of(user, struct use, user));
}

static void on_lost(void *context, struct rref_owned *owned)
{
	CHECK(owned->state == OWNED_LOST);
}

static void on_owned_released(void *context, struct rref_owned *owned)
{
	struct scene *scene = context;

	scene->objects--;
	free(container_of(owned, struct thing, owned));
}

static struct thing *new_thing(struct scene *scene)
{
	struct thing *thing = calloc(1, sizeof(*thing));

	CHECK(thing);
	scene->objects++;
	return thing;
}

static struct rref_owned *on_owned_new(void *context)
{
	return &new_thing(context)->owned;
}

static struct rref_peer *on_find_peer(void *context, uint32_t worker, uint64_t incarnation)
{
	struct scene *scene = context;

	for (size_t i = 0; i < PEERS; i++)
		if (scene->peers[i].worker == worker && scene->peers[i].incarnation == incarnation)
			return &scene->peers[i];
	return NULL;
}

static const struct rrefs_events events = {
    .post = on_post,
    .settled = on_user,
    .user_released = on_user_released,
    .lost = on_lost,
    .owned_released = on_owned_released,
    .owned_new = on_owned_new,
    .find_peer = on_find_peer,
};

/* ---- what the others do ---- */

/* As on the wire, where all that can be sent can be read. */
static void echo(const struct letter *letter)
{
	struct encoder encoder;
	struct decoder decoder;
	struct letter again;

	encoder_init(&encoder, &codec_default_limits);
	letter_encode(&encoder, letter);
	decoder_init(&decoder, &codec_default_limits, encoder.body.data, encoder.body.size, NULL, 0);
	CHECK(letter_decode(&decoder, &again) == TDR_OK && decode_end(&decoder) == TDR_OK);
	CHECK(again.kind == letter->kind && rref_id_equal(&again.fork, &letter->fork));
	encoder_fini(&encoder);
}

static void receive_letter(struct scene *scene)
{
	struct rref_peer *from = take_peer(scene);
	struct letter letter = {.kind = take_byte(scene) % 9};

	letter.of = take_byte(scene) % 9;
	letter.verdict = take_byte(scene) % 4;
	letter.rref = take_id(scene);
	letter.fork = take_id(scene);
	letter.number = take_number(scene);
	letter.origin = take_number(scene);
	(void)rrefs_receive_letter(from, &letter);
}

/* A letter from bytes as they come. */
static void receive_bytes(struct scene *scene)
{
	struct rref_peer *from = take_peer(scene);
	size_t size = MIN_OF((size_t)take_byte(scene), (size_t)(scene->end - scene->at));
	struct decoder decoder;
	struct letter letter;

	decoder_init(&decoder, &codec_default_limits, scene->at, size, NULL, 0);
	scene->at += size;
	if (letter_decode(&decoder, &letter) != TDR_OK)
		return;
	echo(&letter);
	(void)rrefs_receive_letter(from, &letter);
}

static struct rref_passed take_passed(struct scene *scene)
{
	struct rref_passed passed = {.rref = take_id(scene)};

	passed.fork = take_id(scene);
	passed.origin = take_number(scene);
	passed.number = take_number(scene);
	return passed;
}

static void keep_thing(struct scene *scene, struct rref_owned *owned)
{
	if (scene->nthings < HANDLES)
		scene->things[scene->nthings++] = container_of(owned, struct thing, owned);
	else
		rrefs_owned_unref(owned);
}

static void receive_owned(struct scene *scene)
{
	struct rref_peer *from = take_peer(scene);
	struct rref_passed passed = take_passed(scene);
	struct rref_owned *owned;

	if (rrefs_receive_owned(from, &passed, &owned) == TDR_OK)
		keep_thing(scene, owned);
}

static void keep_use(struct scene *scene, struct use *use)
{
	if (scene->nuses < HANDLES)
		scene->uses[scene->nuses++] = use;
	else
		rrefs_user_unref(&use->user);
}

static void take_use(struct scene *scene, struct rref_peer *from, const struct rref_passed *passed,
                     struct rref_peer *owner)
{
	struct use *use = calloc(1, sizeof(*use));

	CHECK(use);
	if (rrefs_receive_user(from, passed, owner, &use->user) != TDR_OK) {
		free(use);
		return;
	}
	scene->objects++;
	keep_use(scene, use);
}

static void receive_user(struct scene *scene)
{
	struct rref_peer *from = take_peer(scene), *owner = take_other(scene);
	struct rref_passed passed = take_passed(scene);

	take_use(scene, from, &passed, owner);
}

static void receive_create(struct scene *scene)
{
	struct rref_peer *from = take_other(scene);
	struct rref_id rref = take_id(scene), fork = take_id(scene);
	struct rref_owned *owned;

	if (scene->nthings == HANDLES || rrefs_create(from, &rref, &fork, take_number(scene), &owned) != TDR_OK)
		return;
	container_of(owned, struct thing, owned)->running = true;
	keep_thing(scene, owned);
}

/* ---- what the holder does ---- */

static void create(struct scene *scene)
{
	struct use *use;

	if (scene->nuses == HANDLES)
		return;
	use = calloc(1, sizeof(*use));
	CHECK(use && rrefs_user_create(take_other(scene), &use->user) == TDR_OK);
	use->creating = true;
	scene->objects++;
	keep_use(scene, use);
}

static void own(struct scene *scene)
{
	struct thing *thing;

	if (scene->nthings == HANDLES)
		return;
	thing = new_thing(scene);
	thing->running = take_byte(scene) % 2;
	CHECK(rrefs_own(scene->machine, &thing->owned, thing->running ? OWNED_PENDING : OWNED_READY) == TDR_OK);
	keep_thing(scene, &thing->owned);
}

static void drop_use(struct scene *scene, size_t at)
{
	struct use *use = scene->uses[at];

	if (use->creating) {
		use->creating = false;
		rrefs_user_created(&use->user, take_byte(scene) % 2);
		return;
	}
	scene->uses[at] = scene->uses[--scene->nuses];
	rrefs_user_unref(&use->user);
}

static void drop_thing(struct scene *scene, size_t at)
{
	struct thing *thing = scene->things[at];

	if (thing->running) {
		thing->running = false;
		rrefs_owned_ready(&thing->owned);
		return;
	}
	scene->things[at] = scene->things[--scene->nthings];
	rrefs_owned_unref(&thing->owned);
}

/* To a peer, or written for whoever reads it. */
static void pass(struct scene *scene)
{
	uint8_t who = take_byte(scene) % (PEERS + 2);
	struct rref_peer *to = who < PEERS ? &scene->peers[who] : NULL, *self = &scene->peers[0];
	uint8_t at = take_byte(scene);
	struct rref_passed passed = {0};
	struct rref_owned *owned;
	tdr_status status = TDR_ESTATE;

	if (at % 2 && scene->nuses > 0)
		status = rrefs_pass_user(&scene->uses[at / 2 % scene->nuses]->user, to, &passed);
	else if (scene->nthings > 0)
		status = rrefs_pass_owned(&scene->things[at / 2 % scene->nthings]->owned, to, &passed);
	if (status != TDR_OK)
		return;
	switch (take_byte(scene) % 4) {
	case 0:
		rrefs_withdraw(scene->machine, &passed.fork);
		break;
	case 1: /* it comes back to us */
		if ((!to || to == self) && passed.owner_incarnation == self->incarnation &&
		    rrefs_receive_owned(self, &passed, &owned) == TDR_OK)
			keep_thing(scene, owned);
		break;
	case 2: /* it is read by us, who only use it */
		if (!to && passed.owner_incarnation != self->incarnation)
			take_use(scene, self, &passed,
			         on_find_peer(scene, passed.owner_worker, passed.owner_incarnation));
		break;
	default:
		break;
	}
}

static void find(struct scene *scene)
{
	struct rref_id rref = take_id(scene);
	struct rref_owned *owned;

	if (rrefs_find(scene->machine, &rref, take_number(scene), &owned) == TDR_OK)
		keep_thing(scene, owned);
}

static void send_letters(struct scene *scene)
{
	struct rref_peer *peer = take_peer(scene);
	struct letter letters[3];
	size_t count;

	while ((count = rrefs_take_letters(peer, scene->now_ms, letters, COUNT_OF(letters))) > 0)
		for (size_t i = 0; i < count; i++) {
			echo(&letters[i]);
			if (peer == &scene->peers[0])
				(void)rrefs_receive_letter(peer, &letters[i]);
		}
}

static void pass_time(struct scene *scene)
{
	scene->now_ms += take_byte(scene) * 20;
	rrefs_tick(scene->machine, scene->now_ms);
	CHECK(rrefs_due(scene->machine) == 0 || rrefs_due(scene->machine) > scene->now_ms);
}

static void happen(struct scene *scene)
{
	uint8_t what = take_byte(scene), at;

	switch (what % 16) {
	case 0:
		receive_bytes(scene);
		break;
	case 1:
	case 2:
		receive_letter(scene);
		break;
	case 3:
		receive_owned(scene);
		break;
	case 4:
		receive_user(scene);
		break;
	case 5:
		receive_create(scene);
		break;
	case 6:
		create(scene);
		break;
	case 7:
		own(scene);
		break;
	case 8:
		at = take_byte(scene);
		if (scene->nuses > 0)
			drop_use(scene, at % scene->nuses);
		break;
	case 9:
		at = take_byte(scene);
		if (scene->nthings > 0)
			drop_thing(scene, at % scene->nthings);
		break;
	case 10:
		pass(scene);
		break;
	case 11:
		find(scene);
		break;
	case 12:
		send_letters(scene);
		break;
	case 13:
		pass_time(scene);
		break;
	case 14:
		rrefs_peer_connected(take_peer(scene), take_byte(scene));
		rrefs_peer_broke(take_peer(scene));
		rrefs_recheck(take_peer(scene));
		break;
	default:
		at = take_byte(scene) % 8;
		if (at == 0)
			rrefs_close(scene->machine);
		else if (at == 1)
			rrefs_reopen(scene->machine);
		else
			rrefs_peer_gone(take_other(scene));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scene scene = {.now_ms = 1, .at = data, .end = data + size};
	struct rrefs_counts counts;

	scene.machine = rrefs_new(0, 100, &events, &scene);
	CHECK(scene.machine);
	for (uint32_t i = 0; i < PEERS; i++)
		rrefs_peer_init(scene.machine, &scene.peers[i], i, 100 + i);
	while (scene.at < scene.end)
		happen(&scene);
	if (size % 2) { /* an orderly end, else one in the middle of all */
		while (scene.nuses > 0)
			drop_use(&scene, 0);
		while (scene.nthings > 0)
			drop_thing(&scene, 0);
		for (size_t i = 1; i < PEERS; i++)
			rrefs_peer_gone(&scene.peers[i]);
		counts = rrefs_counts(scene.machine);
		CHECK(counts.children > 0 ||
		      (counts.users == 0 && counts.pending_users == 0)); /* children: to itself */
	}
	scene.machine = rrefs_free(scene.machine);
	CHECK(scene.objects == 0);
	return 0;
}
