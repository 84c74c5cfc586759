/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A value is a seed and bytes that follow from it, so that each use can tell whether it is whole. A use may fail only where a
 * dead worker explains it, which the error must name; or, of a reference that was never confirmed, where the worker that passed
 * it on died before its owner heard of it.
 */
#include "rref_member.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tendril.h>
#include <time.h>

enum {
	SLOTS = 32,
	THREADS = 3,
	MAX_BYTES = 20000
};

struct slot {
	tdr_rref *rref;
	int64_t seed; /* of the value that it stands for */
};

static struct theatre *theatre;
static tdr_agent *agent;
static int own_rank;
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot slots[SLOTS];
static _Atomic int failures;
static _Atomic int steps;
static _Atomic bool over;

/* ---- failing ---- */

#define expect(truth, ...)                                                                                             \
	do {                                                                                                           \
		if (!(truth)) {                                                                                        \
			atomic_fetch_add(&failures, 1);                                                                \
			fprintf(stderr, "w%d line %d: %s: ", own_rank, __LINE__, #truth);                              \
			fprintf(stderr, __VA_ARGS__);                                                                  \
			fputc('\n', stderr);                                                                           \
		}                                                                                                      \
	} while (0)

static const char *name_of(int rank)
{
	static _Thread_local char names[4][16];
	static _Thread_local unsigned next;
	char *name = names[next++ % 4];

	snprintf(name, sizeof(names[0]), "w%d", rank);
	return name;
}

/* Whether a dead worker explains a failure. */
static bool names_the_dead(const char *text)
{
	int dead = atomic_load(&theatre->dead);
	char quoted[24], bare[24]; /* as of one who is gone, and of one who is no member any more */

	snprintf(quoted, sizeof(quoted), "'w%d'", dead);
	snprintf(bare, sizeof(bare), "name w%d", dead);
	return dead >= 0 && text && (strstr(text, quoted) || strstr(text, bare));
}

/* A use of a reference that was, or was not, confirmed before has failed. */
static void judge(const char *what, tdr_status status, const char *text, bool confirmed)
{
	bool excused = status != TDR_ETIMEDOUT && names_the_dead(text);

	/* the value that was passed on by the dead one is gone, at worst, with its last counted user */
	excused = excused || (!confirmed && status == TDR_ENOTFOUND && atomic_load(&theatre->dead) >= 0);
	expect(excused, "%s of a reference%s: %s: %s", what, confirmed ? "" : " that is not confirmed",
	       tdr_status_name(status), text ? text : "");
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(int milliseconds)
{
	nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000L}, NULL);
}

/* ---- values ---- */

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static tdr_value *make_value(int64_t seed)
{
	uint64_t random = (uint64_t)seed * 2654435761U + 1;
	static _Thread_local uint8_t bytes[MAX_BYTES];
	size_t size = (size_t)(next_random(&random) % MAX_BYTES);

	if (seed % 4)
		size %= 100; /* most are small */
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)next_random(&random);
	return tdr_tuple(2, (tdr_value *[]){tdr_int(seed), tdr_bytes(bytes, size)});
}

static void check_value(const tdr_value *value, int64_t seed)
{
	tdr_value *wanted = make_value(seed);

	expect(tdr_value_equal(value, wanted), "the value of seed %lld is spoilt", (long long)seed);
	tdr_value_unref(wanted);
}

/* ---- slots ---- */

static void put(size_t index, tdr_rref *rref, int64_t seed)
{
	struct slot before;

	pthread_mutex_lock(&slots_lock);
	before = slots[index];
	slots[index] = (struct slot){.rref = rref, .seed = seed};
	pthread_mutex_unlock(&slots_lock);
	tdr_rref_unref(before.rref);
}

/* A handle more of one that is there, if any. */
static tdr_rref *get(size_t index, int64_t *ret_seed)
{
	tdr_rref *rref;

	pthread_mutex_lock(&slots_lock);
	rref = tdr_rref_ref(slots[index].rref);
	*ret_seed = slots[index].seed;
	pthread_mutex_unlock(&slots_lock);
	return rref;
}

/* ---- functions ---- */

static tdr_status make(tdr_call *call, void *context)
{
	return tdr_return(call, make_value(tdr_arg_int(call, 0)));
}

static tdr_status check(tdr_call *call, void *context)
{
	check_value(tdr_arg(call, 0), tdr_arg_int(call, 1));
	return tdr_return_none(call);
}

static tdr_status take(tdr_call *call, void *context)
{
	tdr_rref *rref;
	tdr_status status = tdr_value_get_rref(tdr_arg(call, 0), &rref);

	if (status == TDR_OK && !atomic_load(&over))
		put((size_t)tdr_arg_int(call, 2), tdr_rref_ref(rref), tdr_arg_int(call, 1));
	return status == TDR_OK ? tdr_return_none(call) : status;
}

static tdr_status same(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_value_ref(tdr_arg(call, 0)));
}

/* (reference, its seed), or None. */
static tdr_status offer(tdr_call *call, void *context)
{
	int64_t seed;
	tdr_rref *rref = get((size_t)tdr_arg_int(call, 0), &seed);
	tdr_value *value = rref ? tdr_tuple(2, (tdr_value *[]){tdr_rref_value(rref), tdr_int(seed)}) : tdr_none();

	tdr_rref_unref(rref);
	return tdr_return(call, value);
}

/* ---- traffic ---- */

struct walker {
	uint64_t random;
	int64_t next_seed;
};

static size_t pick(struct walker *walker, size_t count)
{
	return (size_t)(next_random(&walker->random) % count);
}

static void create(struct walker *walker)
{
	int64_t seed = walker->next_seed += THREADS * MEMBERS;
	tdr_rref *rref = pick(walker, 4) == 0 ? tdr_rref_new(agent, make_value(seed))
	                                      : tdr_remote(agent, name_of((int)pick(walker, MEMBERS)), "kill::make",
	                                                   TDR_ARGS(seed), NULL);

	expect(rref, "%s", tdr_last_error());
	put(pick(walker, SLOTS), rref, seed);
}

static void fetch(tdr_rref *rref, int64_t seed)
{
	bool confirmed = tdr_rref_confirmed_by_owner(rref);
	tdr_value *value;
	tdr_status status = tdr_rref_to_here(rref, theatre->patience_ms, &value);

	if (status != TDR_OK) {
		judge("to_here", status, tdr_last_error(), confirmed);
		return;
	}
	check_value(value, seed);
	tdr_value_unref(value);
}

static void use(tdr_rref *rref, int64_t seed)
{
	bool confirmed = tdr_rref_confirmed_by_owner(rref);
	tdr_status status = tdr_rref_rpc_sync(rref, "kill::check", TDR_ARGS(seed), NULL, NULL);

	if (status != TDR_OK)
		judge("a call", status, tdr_last_error(), confirmed);
}

/* Has the owner make another of it: the same value. */
static void copy(struct walker *walker, tdr_rref *rref, int64_t seed)
{
	put(pick(walker, SLOTS), tdr_rref_remote(rref, "kill::same", NULL, NULL), seed);
}

static void pass_on(struct walker *walker, tdr_rref *rref, int64_t seed)
{
	bool confirmed = tdr_rref_confirmed_by_owner(rref);
	const char *to = name_of((int)pick(walker, MEMBERS));
	tdr_value *args = TDR_ARGS(rref, seed, (int64_t)pick(walker, SLOTS));
	tdr_status status;

	if (pick(walker, 2) == 0) {
		tdr_future_unref(tdr_rpc_async(agent, to, "kill::take", args, NULL));
		return;
	}
	status = tdr_rpc_sync(agent, to, "kill::take", args, NULL, NULL);
	if (status != TDR_OK)
		judge("passing on", status, tdr_last_error(), confirmed);
}

static void ask(struct walker *walker)
{
	tdr_value *value;
	tdr_status status = tdr_rpc_sync(agent, name_of((int)pick(walker, MEMBERS)), "kill::offer",
	                                 TDR_ARGS((int64_t)pick(walker, SLOTS)), NULL, &value);
	tdr_rref *rref;
	int64_t seed = 0;

	if (status != TDR_OK) {
		judge("an offer", status, tdr_last_error(), false);
		return;
	}
	if (!tdr_value_is_none(value) && tdr_value_get_rref(tdr_value_item(value, 0), &rref) == TDR_OK &&
	    tdr_value_get_int(tdr_value_item(value, 1), &seed) == TDR_OK)
		put(pick(walker, SLOTS), tdr_rref_ref(rref), seed);
	tdr_value_unref(value);
}

static void step(struct walker *walker)
{
	int64_t seed;
	tdr_rref *rref = get(pick(walker, SLOTS), &seed);

	atomic_fetch_add(&steps, 1);
	switch (rref ? pick(walker, 8) : 0) {
	case 0:
	case 1:
		create(walker);
		break;
	case 2:
		ask(walker);
		break;
	case 3:
		put(pick(walker, SLOTS), NULL, 0);
		break;
	case 4:
		fetch(rref, seed);
		break;
	case 5:
		use(rref, seed);
		break;
	case 6:
		copy(walker, rref, seed);
		break;
	default:
		pass_on(walker, rref, seed);
		break;
	}
	tdr_rref_unref(rref);
}

static void *walk(void *argument)
{
	struct walker *walker = argument;
	int64_t until_ms = now_ms() + theatre->traffic_ms;

	while (now_ms() < until_ms)
		step(walker);
	return NULL;
}

static void make_traffic(void)
{
	struct walker walkers[THREADS];
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++) {
		walkers[i] =
		    (struct walker){.random = theatre->seed * 1000003U + (uint64_t)(own_rank * THREADS + i) + 1,
		                    .next_seed = own_rank * THREADS + i};
		if (pthread_create(&threads[i], NULL, walk, &walkers[i]) != 0)
			abort();
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* ---- afterwards ---- */

/* Waits until all who live have come here. */
static void meet(int stage)
{
	int64_t until_ms = now_ms() + theatre->patience_ms;

	atomic_fetch_add(&theatre->arrived[stage], 1);
	while (atomic_load(&theatre->arrived[stage]) < MEMBERS - 1 && now_ms() < until_ms)
		pause_ms(5);
	expect(atomic_load(&theatre->arrived[stage]) >= MEMBERS - 1, "not all came to stage %d", stage);
}

static bool is_dead(const tdr_rref *rref)
{
	return strcmp(tdr_rref_owner_name(rref), name_of(atomic_load(&theatre->dead))) == 0;
}

/* The dead one's references fail, and say why. */
static void expect_dead(tdr_rref *rref)
{
	tdr_value *value = NULL;
	tdr_status status = tdr_rref_to_here(rref, theatre->patience_ms, &value);

	expect(status == TDR_EWORKERGONE && names_the_dead(tdr_last_error()), "%s: %s", tdr_status_name(status),
	       tdr_last_error());
	if (status == TDR_OK)
		tdr_value_unref(value);
}

static void drop_all(void)
{
	for (size_t i = 0; i < SLOTS; i++) {
		int64_t seed;
		tdr_rref *rref = get(i, &seed);

		if (rref && is_dead(rref))
			expect_dead(rref);
		else if (rref)
			fetch(rref, seed);
		tdr_rref_unref(rref);
		put(i, NULL, 0);
	}
}

static int64_t count_of(const char *key)
{
	tdr_value *info;
	int64_t number = -1;

	if (tdr_debug_info(agent, &info) != TDR_OK)
		return -1;
	(void)!tdr_value_get_int(tdr_dict_get(info, key), &number);
	tdr_value_unref(info);
	return number;
}

static void expect_nothing_counted(void)
{
	static const char *const keys[] = {
	    "rref.num_owner_rrefs",      "rref.num_forks",          "rref.num_users", "rref.num_pending_users",
	    "rref.num_pending_children", "rref.num_pending_futures"};
	int64_t until_ms = now_ms() + theatre->patience_ms;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		while (count_of(keys[i]) != 0 && now_ms() < until_ms)
			pause_ms(5);
		expect(count_of(keys[i]) == 0, "%s is %lld", keys[i], (long long)count_of(keys[i]));
	}
}

/* Those who live call each other, and make references, as before; in a dynamic group they agree again, too. */
static void go_on(void)
{
	for (int rank = 0; rank < MEMBERS; rank++) {
		tdr_rref *rref = tdr_remote(agent, name_of(rank), "kill::make", TDR_ARGS(rank), NULL);
		tdr_value *value = NULL;
		tdr_status status;

		if (rank != atomic_load(&theatre->dead)) {
			fetch(rref, rank);
			use(rref, rank);
			tdr_rref_unref(rref);
			continue;
		}
		status = tdr_rref_to_here(rref, theatre->patience_ms, &value);
		expect((status == TDR_EWORKERGONE || (theatre->dynamic && status == TDR_ENOWORKER)) &&
		           names_the_dead(tdr_last_error()),
		       "%s: %s", tdr_status_name(status), tdr_last_error());
		tdr_rref_unref(rref);
	}
	if (theatre->dynamic)
		expect(tdr_barrier(agent, 0, NULL, theatre->patience_ms) == TDR_OK, "%s", tdr_last_error());
}

/* Until its death is known here, and in a dynamic group it is no member. */
static void await_death(void)
{
	int64_t until_ms = now_ms() + theatre->patience_ms;

	while (theatre->dynamic && tdr_worker_count(agent) != MEMBERS - 1 && now_ms() < until_ms)
		pause_ms(5);
	expect(!theatre->dynamic || tdr_worker_count(agent) == MEMBERS - 1, "%zu are members still",
	       tdr_worker_count(agent));
}

static bool join(void)
{
	tdr_agent_options options;

	tdr_agent_options_init(&options);
	options.init_method = theatre->init_method;
	options.rank = own_rank;
	options.world_size = theatre->dynamic ? 0 : MEMBERS;
	options.threads = 4;
	options.rpc_timeout_ms = options.join_timeout_ms = options.shutdown_timeout_ms = theatre->patience_ms;
	agent = tdr_agent_new(name_of(own_rank), &options);
	if (!agent || tdr_register(agent, "kill::make(int seed) -> Any", make, NULL, 0) != TDR_OK ||
	    tdr_register(agent, "kill::check(Any value, int seed)", check, NULL, 0) != TDR_OK ||
	    tdr_register(agent, "kill::take(RRef rref, int seed, int slot)", take, NULL, 0) != TDR_OK ||
	    tdr_register(agent, "kill::offer(int slot) -> Any", offer, NULL, 0) != TDR_OK ||
	    tdr_register(agent, "kill::same(Any value) -> Any", same, NULL, 0) != TDR_OK || tdr_join(agent) != TDR_OK) {
		expect(false, "%s", tdr_last_error());
		return false;
	}
	while (tdr_worker_count(agent) < MEMBERS) /* of a dynamic group */
		pause_ms(2);
	atomic_fetch_add(&theatre->joined, 1);
	while (atomic_load(&theatre->joined) < MEMBERS) /* what is passed on may be owned by whoever joined last */
		pause_ms(2);
	return true;
}

int rref_member_run(void *context)
{
	const struct rref_member *member = context;

	theatre = member->theatre;
	own_rank = member->rank;
	if (!join())
		return 1;
	make_traffic();
	meet(0); /* nobody starts anything any more */
	atomic_store(&over, true);
	await_death();
	drop_all();
	meet(1);
	expect_nothing_counted();
	meet(2);
	go_on();
	meet(3);
	expect_nothing_counted();
	atomic_fetch_add(&theatre->steps, atomic_load(&steps));
	if (theatre->dynamic)
		expect(tdr_shutdown(agent, NULL) == TDR_OK, "%s", tdr_last_error());
	else
		tdr_agent_unref(agent);
	return atomic_load(&failures) > 0;
}
