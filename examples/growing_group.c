/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A group that grows and shrinks under load: tendril run -n 6 -- ./growing_group
 *
 * Rank 0 coordinates: it counts primes, range by range, and has one call under way to whoever is there. The others join
 * when they are ready. Once all six are members the coordinator lets them go again, while it goes on calling: three
 * leave when they are asked to, one crashes. What a member that is gone did not answer is given to another, so that no
 * range is lost.
 */
#include "example.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum {
	MOST = 6, /* members at the most, ids 0 to 5; and to wait for, before any leaves */
	LEAST = 2,
	RANGE = 1000, /* numbers a call */
	PAUSE = 50,   /* calls between one leaving and the next */
};

/* ---- what everybody can do ---- */

static int64_t primes_between(int64_t from, int64_t to)
{
	int64_t count = 0;

	for (int64_t number = from < 2 ? 2 : from; number < to; number++) {
		int64_t divisor = 2;

		while (divisor * divisor <= number && number % divisor != 0)
			divisor++;
		count += divisor * divisor > number;
	}
	return count;
}

static tdr_status count_primes(tdr_call *call, void *context)
{
	return tdr_return_int(call, primes_between(tdr_arg_int(call, 0), tdr_arg_int(call, 1)));
}

/* ---- a worker ---- */

struct worker {
	pthread_mutex_t lock;
	pthread_cond_t told;
	bool leaves; /* guarded by lock */
};

static void worker_leave(struct worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	worker->leaves = true;
	pthread_cond_signal(&worker->told);
	pthread_mutex_unlock(&worker->lock);
}

static tdr_status leave(tdr_call *call, void *context)
{
	worker_leave(context);
	return tdr_return_none(call);
}

static tdr_status crash(tdr_call *call, void *context)
{
	_exit(0); /* without a word to the group; 0, because `tendril run` ends all where a rank fails */
}

/* Without a coordinator there is no work. */
static void watch_coordinator(tdr_agent *agent, tdr_worker member, tdr_member_event event, const char *reason,
                              void *context)
{
	if (member.id == 0 && event != TDR_MEMBER_JOINED)
		worker_leave(context);
}

/* Serves until it is told to leave, or the coordinator has left. */
static void work(tdr_agent *agent)
{
	static struct worker worker = {.lock = PTHREAD_MUTEX_INITIALIZER, .told = PTHREAD_COND_INITIALIZER};

	must(tdr_register(agent, "primes::count(int from, int to) -> int", count_primes, NULL, 0), "register");
	must(tdr_register(agent, "worker::leave()", leave, &worker, TDR_FUNCTION_INLINE), "register");
	must(tdr_register(agent, "worker::crash()", crash, NULL, TDR_FUNCTION_INLINE), "register");
	must(tdr_agent_on_member(agent, watch_coordinator, &worker), "watch");
	must(tdr_join(agent), "join");
	pthread_mutex_lock(&worker.lock);
	while (!worker.leaves)
		pthread_cond_wait(&worker.told, &worker.lock);
	pthread_mutex_unlock(&worker.lock);
}

/* ---- the coordinator ---- */

/* A worker as the coordinator sees it. */
struct hand {
	struct coordinator *coordinator; /* set before joining */
	char name[64];
	bool here;     /* a member */
	bool failed;   /* to answer, since it joined: it gets no more work */
	bool busy;     /* a call is under way */
	int64_t range; /* which is for this one */
};

struct coordinator {
	tdr_agent *agent;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	struct hand hands[MOST]; /* by id */
	int members, most_members;
	int64_t given;       /* ranges that have been given out: 0 to given - 1 */
	int64_t again[MOST]; /* of these, the ones whose call failed: at most one of each hand */
	int nagain, failures;
	int64_t answered, primes;
};

/* With the lock held. */
static void set_member(struct coordinator *coordinator, tdr_worker worker, bool here, const char *what)
{
	struct hand *hand = worker.id < MOST ? &coordinator->hands[worker.id] : NULL;

	if (!hand || hand->here == here)
		return;
	snprintf(hand->name, sizeof(hand->name), "%s", worker.name);
	hand->here = here;
	hand->failed = false;
	coordinator->members += here ? 1 : -1;
	if (coordinator->members > coordinator->most_members)
		coordinator->most_members = coordinator->members;
	printf("%s %s: members %d, calls answered %lld\n", worker.name, what, coordinator->members,
	       (long long)coordinator->answered);
	fflush(stdout);
	pthread_cond_signal(&coordinator->changed);
}

static void on_member(tdr_agent *agent, tdr_worker worker, tdr_member_event event, const char *reason, void *context)
{
	static const char *const texts[] = {
	    [TDR_MEMBER_JOINED] = "joined", [TDR_MEMBER_LEFT] = "left", [TDR_MEMBER_GONE] = "is gone"};
	struct coordinator *coordinator = context;

	pthread_mutex_lock(&coordinator->lock);
	set_member(coordinator, worker, event == TDR_MEMBER_JOINED, texts[event]);
	pthread_mutex_unlock(&coordinator->lock);
}

/* Those who were there first are not told of by on_member. The lock keeps what it tells behind what is seen here. */
static void find_members(struct coordinator *coordinator)
{
	tdr_worker worker;

	for (size_t i = 0; i < tdr_worker_count(coordinator->agent); i++)
		if (tdr_worker_at(coordinator->agent, i, &worker) == TDR_OK)
			set_member(coordinator, worker, true, "is there");
}

static void on_answer(tdr_future *future, void *context)
{
	struct hand *hand = context;
	struct coordinator *coordinator = hand->coordinator;
	int64_t primes;

	pthread_mutex_lock(&coordinator->lock);
	hand->busy = false;
	if (tdr_future_status(future) == TDR_OK) {
		must(tdr_value_get_int(tdr_future_value(future), &primes), "primes");
		coordinator->primes += primes;
		coordinator->answered++;
	} else { /* it may have been counted or not: counting again does no harm */
		hand->failed = true;
		coordinator->again[coordinator->nagain++] = hand->range;
		coordinator->failures++;
	}
	pthread_cond_signal(&coordinator->changed);
	pthread_mutex_unlock(&coordinator->lock);
}

/* With the lock held: a call never runs the callback of its future by itself. */
static void give_range(struct coordinator *coordinator, struct hand *hand)
{
	int64_t range = coordinator->nagain > 0 ? coordinator->again[--coordinator->nagain] : coordinator->given++;
	tdr_future *future;

	hand->range = range;
	hand->busy = true;
	future = tdr_rpc_async(coordinator->agent, hand->name, "primes::count",
	                       TDR_ARGS(range * RANGE, (range + 1) * RANGE), NULL);
	must(tdr_future_on_done(future, on_answer, hand), "callback");
	tdr_future_unref(future);
}

static struct hand *find_idle(struct coordinator *coordinator)
{
	for (int i = 1; i < MOST; i++) {
		struct hand *hand = &coordinator->hands[i];

		if (hand->here && !hand->failed && !hand->busy)
			return hand;
	}
	return NULL;
}

/* Has all work done that there is, until the group has been as large as it gets and is small again. */
static void coordinate(struct coordinator *coordinator)
{
	int leaver = MOST - 1; /* whose turn to leave is next */
	int64_t leave_at = 0;  /* answers by then */

	pthread_mutex_lock(&coordinator->lock);
	find_members(coordinator);
	for (;;) {
		bool grown = coordinator->most_members == MOST, over = grown && coordinator->members == LEAST;
		struct hand *idle = find_idle(coordinator);

		if (over && coordinator->answered == coordinator->given)
			break;
		if (grown && leaver >= LEAST && coordinator->answered >= leave_at) {
			const char *how = leaver == MOST - 1 ? "worker::crash" : "worker::leave";

			leave_at = coordinator->answered + PAUSE;
			tdr_future_unref(tdr_rpc_async(coordinator->agent, coordinator->hands[leaver--].name, how,
			                               TDR_NO_ARGS, TDR_NO_ARGS));
		} else if (idle && (!over || coordinator->nagain > 0)) {
			give_range(coordinator, idle);
		} else {
			pthread_cond_wait(&coordinator->changed, &coordinator->lock);
		}
	}
	pthread_mutex_unlock(&coordinator->lock);
}

/* The same in another way: Eratosthenes' sieve. */
static int64_t sieve(int64_t below)
{
	char *composite = calloc((size_t)below + 1, 1);
	int64_t count = 0;

	if (!composite)
		exit(1);
	for (int64_t number = 2; number < below; number++) {
		count += !composite[number];
		for (int64_t multiple = number * number; !composite[number] && multiple < below; multiple += number)
			composite[multiple] = 1;
	}
	free(composite);
	return count;
}

static void lead(tdr_agent *agent)
{
	static struct coordinator coordinator = {.lock = PTHREAD_MUTEX_INITIALIZER,
	                                         .changed = PTHREAD_COND_INITIALIZER};
	int64_t below, expected;

	coordinator.agent = agent;
	for (int i = 0; i < MOST; i++)
		coordinator.hands[i].coordinator = &coordinator;
	must(tdr_agent_on_member(agent, on_member, &coordinator), "watch");
	must(tdr_join(agent), "join");
	coordinate(&coordinator);
	below = coordinator.answered * RANGE;
	expected = sieve(below);
	printf("%lld ranges in %lld calls: %lld primes below %lld (expected %lld)\n", (long long)coordinator.answered,
	       (long long)coordinator.answered + coordinator.failures, (long long)coordinator.primes, (long long)below,
	       (long long)expected);
	if (coordinator.primes != expected)
		exit(1);
}

int main(void)
{
	const char *rank = getenv("RANK");
	tdr_agent_options options;
	tdr_agent *agent;

	if (!rank) {
		fprintf(stderr, "usage: tendril run -n 6 -- ./growing_group\n");
		return 2;
	}
	tdr_agent_options_init(&options);
	options.world_size = 0; /* dynamic, whatever WORLD_SIZE says */
	agent = example_agent_with("worker", &options);
	if (strcmp(rank, "0") == 0) {
		lead(agent);
	} else {
		usleep(20000U * (unsigned)atoi(rank)); /* as machines come, one after the other */
		work(agent);
	}
	must(tdr_shutdown(agent, NULL), "shutdown");
	return 0;
}
