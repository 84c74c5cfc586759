/* SPDX-License-Identifier: Apache-2.0 */
#include "rrefs.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SLOTS = 64
};

struct gate rrefs_gate = GATE_INIT;
tdr_future *_Atomic rrefs_later;
_Atomic int rrefs_destroyed;

static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static tdr_rref *slots[SLOTS];

/* ---- functions ---- */

static tdr_status add(tdr_call *call, void *context)
{
	return tdr_return_int(call, tdr_arg_int(call, 0) + tdr_arg_int(call, 1));
}

static tdr_status refuse(tdr_call *call, void *context)
{
	return tdr_fail(call, TDR_EINVAL, "no such layer");
}

static tdr_status held(tdr_call *call, void *context)
{
	gate_pass(&rrefs_gate);
	return tdr_return(call, tdr_value_ref(tdr_arg(call, 0)));
}

static tdr_status later(tdr_call *call, void *context)
{
	tdr_future *future = tdr_future_new(tdr_agent_engine(context));
	tdr_status status = tdr_return_future(call, future);

	tdr_future_unref(atomic_exchange(&rrefs_later, future));
	return status;
}

static void destroy(void *object)
{
	free(object);
	atomic_fetch_add(&rrefs_destroyed, 1);
}

static tdr_status make_object(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_native("test::Counter", calloc(1, sizeof(int64_t)), destroy));
}

static tdr_status count_up(tdr_call *call, void *context)
{
	void *counter;
	tdr_status status = tdr_value_get_native(tdr_arg(call, 0), "test::Counter", &counter);

	if (status != TDR_OK)
		return status;
	return tdr_return_int(call, *(int64_t *)counter += tdr_arg_int(call, 1));
}

/* Adds what all references in a value stand for. */
static tdr_status sum(const tdr_value *value, int64_t *total)
{
	tdr_value *found;
	tdr_rref *rref;
	int64_t number;
	tdr_status status = TDR_OK;

	switch (tdr_value_kind(value)) {
	case TDR_RREF:
		expect_ok(tdr_value_get_rref(value, &rref));
		expect_true(tdr_rref_confirmed_by_owner(rref));
		status = tdr_rref_to_here(rref, PATIENCE_MS, &found);
		if (status != TDR_OK)
			return status;
		status = tdr_value_get_int(found, &number);
		if (status == TDR_OK)
			*total += number;
		tdr_value_unref(found);
		return status;
	case TDR_DICT:
		for (size_t i = 0; i < tdr_value_count(value) && status == TDR_OK; i++) {
			status = sum(tdr_dict_key(value, i), total);
			if (status == TDR_OK)
				status = sum(tdr_dict_value(value, i), total);
		}
		return status;
	case TDR_LIST:
	case TDR_TUPLE:
		for (size_t i = 0; i < tdr_value_count(value) && status == TDR_OK; i++)
			status = sum(tdr_value_item(value, i), total);
		return status;
	default:
		return TDR_OK;
	}
}

static tdr_status look(tdr_call *call, void *context)
{
	int64_t total = 0;
	tdr_status status = sum(tdr_arg(call, 0), &total);

	return status == TDR_OK ? tdr_return_int(call, total) : status;
}

static const char *right_neighbour(tdr_agent *agent)
{
	return worker_name((tdr_agent_worker(agent).id + 1) % tdr_worker_count(agent));
}

static tdr_status hop(tdr_call *call, void *context)
{
	int64_t hops = tdr_arg_int(call, 1);
	tdr_value *value;
	tdr_status status;

	if (hops == 0)
		return look(call, context);
	status = tdr_rpc_sync(context, right_neighbour(context), "test::hop",
	                      TDR_ARGS(tdr_value_ref(tdr_arg(call, 0)), hops - 1), NULL, &value);
	return status == TDR_OK ? tdr_return(call, value) : status;
}

static void keep_in(int64_t slot, tdr_rref *rref)
{
	tdr_rref *before;

	pthread_mutex_lock(&slots_lock);
	before = slots[slot];
	slots[slot] = rref ? tdr_rref_ref(rref) : NULL;
	pthread_mutex_unlock(&slots_lock);
	tdr_rref_unref(before);
}

static tdr_status relay(tdr_call *call, void *context)
{
	int64_t hops = tdr_arg_int(call, 1);
	tdr_rref *rref;
	tdr_status status = tdr_value_get_rref(tdr_arg(call, 0), &rref);

	if (status != TDR_OK)
		return status;
	expect_true(tdr_rref_confirmed_by_owner(rref));
	if (hops == 0)
		keep_in(tdr_arg_int(call, 2), rref);
	else
		tdr_future_unref(tdr_rpc_async(context, right_neighbour(context), "test::relay",
		                               TDR_ARGS(rref, hops - 1, tdr_arg_int(call, 2)), NULL));
	return tdr_return_none(call);
}

static tdr_status keep(tdr_call *call, void *context)
{
	tdr_rref *rref;
	tdr_status status = tdr_value_get_rref(tdr_arg(call, 1), &rref);

	if (status != TDR_OK)
		return status;
	expect_true(tdr_rref_confirmed_by_owner(rref));
	keep_in(tdr_arg_int(call, 0), rref);
	return tdr_return_none(call);
}

static tdr_status give(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_rref_value(rrefs_kept((size_t)tdr_arg_int(call, 0))));
}

static tdr_status drop(tdr_call *call, void *context)
{
	keep_in(tdr_arg_int(call, 0), NULL);
	return tdr_return_none(call);
}

static tdr_status remote(tdr_call *call, void *context)
{
	tdr_rref *rref = remote_int(context, tdr_arg_string(call, 0), tdr_arg_int(call, 1));
	tdr_value *value = tdr_rref_value(rref);

	tdr_rref_unref(rref);
	return tdr_return(call, value);
}

static const struct {
	const char *schema;
	tdr_function function;
	unsigned flags;
} functions[] = {
    {"test::add(int a, int b) -> int", add, TDR_FUNCTION_INLINE},
    {"test::fail() -> int", refuse, 0},
    {"test::held(Any value) -> Any", held, 0},
    {"test::later() -> Any", later, TDR_FUNCTION_INLINE},
    {"test::object() -> Any", make_object, 0},
    {"test::Counter::count(Any self, int by=1) -> int", count_up, TDR_FUNCTION_INLINE},
    {"test::look(Any rref) -> int", look, 0},
    {"test::hop(RRef rref, int hops) -> Any", hop, 0},
    {"test::relay(RRef rref, int hops, int slot)", relay, 0},
    {"test::keep(int slot, RRef rref)", keep, 0},
    {"test::give(int slot) -> RRef", give, 0},
    {"test::drop(int slot)", drop, 0},
    {"test::remote(str worker, int number) -> RRef", remote, 0},
};

void rrefs_prepare(tdr_agent *agent, size_t rank)
{
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		expect_ok(tdr_register(agent, functions[i].schema, functions[i].function, agent, functions[i].flags));
}

const struct group_config rrefs_config = {.prepare = rrefs_prepare};

tdr_rref *rrefs_kept(size_t slot)
{
	tdr_rref *rref;

	pthread_mutex_lock(&slots_lock);
	rref = slots[slot];
	pthread_mutex_unlock(&slots_lock);
	return rref;
}

void rrefs_drop(size_t slot)
{
	keep_in((int64_t)slot, NULL);
}

/* ---- counters ---- */

int64_t count_of(tdr_agent *agent, const char *key)
{
	tdr_value *info;
	int64_t number = -1;

	if (expect_ok(tdr_debug_info(agent, &info)) != TDR_OK)
		return -1;
	if (tdr_dict_get(info, key))
		expect_ok(tdr_value_get_int(tdr_dict_get(info, key), &number));
	tdr_value_unref(info);
	return number;
}

struct awaited {
	tdr_agent *agent;
	const char *key;
	int64_t wanted, found;
};

static bool has_come(void *context)
{
	struct awaited *awaited = context;

	awaited->found = count_of(awaited->agent, awaited->key);
	return awaited->found == awaited->wanted;
}

bool await_count(tdr_agent *agent, const char *key, int64_t wanted)
{
	struct awaited awaited = {.agent = agent, .key = key, .wanted = wanted};

	if (eventually(has_come, &awaited))
		return true;
	fprintf(stderr, "%s of %s is %lld, not %lld\n", key, tdr_agent_worker(agent).name, (long long)awaited.found,
	        (long long)wanted);
	return false;
}

void await_none(struct group *group)
{
	static const char *const keys[] = {
	    "rref.num_owner_rrefs",      "rref.num_forks",          "rref.num_users", "rref.num_pending_users",
	    "rref.num_pending_children", "rref.num_pending_futures"};

	for (size_t i = 0; i < group->count; i++)
		for (size_t k = 0; group->agents[i] && k < sizeof(keys) / sizeof(keys[0]); k++)
			if (!await_count(group->agents[i], keys[k], 0))
				return;
}

/* ---- references ---- */

int64_t here(tdr_rref *rref)
{
	tdr_value *value;
	int64_t number = INT64_MIN;

	if (expect_ok(tdr_rref_to_here(rref, PATIENCE_MS, &value)) == TDR_OK) {
		expect_ok(tdr_value_get_int(value, &number));
		tdr_value_unref(value);
	}
	return number;
}

tdr_rref *rref_in(tdr_value *value)
{
	tdr_rref *rref = NULL;

	if (expect_ok(tdr_value_get_rref(value, &rref)) == TDR_OK)
		tdr_rref_ref(rref);
	tdr_value_unref(value);
	return rref;
}

tdr_rref *remote_int(tdr_agent *agent, const char *worker, int64_t number)
{
	return tdr_remote(agent, worker, "test::echo", TDR_ARGS(number), NULL);
}

tdr_rpc_options within(int64_t timeout_ms)
{
	tdr_rpc_options options;

	tdr_rpc_options_init(&options);
	options.timeout_ms = timeout_ms;
	return options;
}
