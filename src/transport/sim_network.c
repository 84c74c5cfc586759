/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Made-up networks: finding them by name, deciding fates, and faults to order.
 *
 * The list of networks is global, for it stands for the one address space that all agents of a process share: they have
 * nothing else in common by which one could find the other. A network is on it from its first user to its last, so that a
 * process which never asks for one has an empty list, and one whose agents have all ended has so again.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "transport/address.h"
#include "transport/sim_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static pthread_mutex_t networks_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list networks = {&networks, &networks};

const struct sim_faults sim_faults_default = {
    .late = SIM_MILLION / 100,
    .max_delay_ms = 20,
    .bytes_per_ms = 1 << 20,
};

/* ---- making and finding; with the lock of the list ---- */

static struct sim_network *find(const char *name)
{
	list_for_each(node, &networks) {
		struct sim_network *network = list_entry(node, struct sim_network, node);

		if (strcmp(network->name, name) == 0)
			return network;
	}
	return NULL;
}

static struct sim_network *make(const char *name, uint64_t seed)
{
	struct sim_network *network = calloc(1, sizeof(*network));

	if (!network)
		return NULL;
	strcpy(network->name, name);
	network->seed = seed;
	network->faults = sim_faults_default;
	pthread_mutex_init(&network->lock, NULL);
	list_init(&network->paths);
	list_init(&network->listeners);
	list_init(&network->lanes);
	list_init(&network->node);
	list_append(&networks, &network->node);
	LOG(TDR_LOG_INFO, "event=sim_network name=%s seed=%" PRIu64, name, seed);
	return network;
}

/* Whether an address can have the name: "sim://name:65535" is one that is read as it was written. */
static tdr_status check_name(const char *name)
{
	char address[ADDRESS_SIZE + 16], scheme[ADDRESS_SIZE], host[ADDRESS_SIZE];
	uint16_t port;

	if (strlen(name) > ADDRESS_SIZE - sizeof("sim://:65535") || strchr(name, ':'))
		return error_set(TDR_EINVAL, "\"%s\" is no name for a network: it is too long, or has a colon", name);
	snprintf(address, sizeof(address), "sim://%s:65535", name);
	return address_split(address, scheme, host, &port);
}

static uint64_t chosen_seed(void)
{
	const char *text = getenv("TENDRIL_SIM_SEED");
	uint64_t seed = 0;

	if (text && *text)
		return strtoull(text, NULL, 0);
	if (getrandom(&seed, sizeof(seed), 0) < 0)
		seed = (uint64_t)clock_ns();
	return seed >> 32; /* a shorter one is easier to type, and as good */
}

tdr_status sim_network_use(const char *name, struct sim_network **ret_network)
{
	struct sim_network *network;
	tdr_status status = check_name(name);

	if (status != TDR_OK)
		return status;
	pthread_mutex_lock(&networks_lock);
	network = find(name);
	if (!network)
		network = make(name, chosen_seed());
	if (network)
		network->users++;
	pthread_mutex_unlock(&networks_lock);
	if (!network)
		return error_nomem();
	*ret_network = network;
	return TDR_OK;
}

struct sim_network *sim_network_use_too(struct sim_network *network)
{
	pthread_mutex_lock(&networks_lock);
	network->users++;
	pthread_mutex_unlock(&networks_lock);
	return network;
}

struct sim_network *sim_network_unuse(struct sim_network *network)
{
	bool last;

	if (!network)
		return NULL;
	pthread_mutex_lock(&networks_lock);
	last = --network->users == 0;
	if (last)
		list_remove(&network->node);
	pthread_mutex_unlock(&networks_lock);
	if (!last)
		return NULL;
	assert(list_empty(&network->lanes) && list_empty(&network->listeners));
	for (struct list *node; (node = list_shift(&network->paths));)
		free(list_entry(node, struct sim_path, node));
	pthread_mutex_destroy(&network->lock);
	free(network);
	return NULL;
}

tdr_status sim_network_open(const char *name, uint64_t seed, struct sim_network **ret_network)
{
	struct sim_network *network = NULL;
	tdr_status status = check_name(name);

	if (status != TDR_OK)
		return status;
	pthread_mutex_lock(&networks_lock);
	if (find(name)) {
		status = error_set(TDR_EEXISTS, "there is a network \"%s\" already", name);
	} else {
		network = make(name, seed);
		if (network)
			network->users++;
		else
			status = error_nomem();
	}
	pthread_mutex_unlock(&networks_lock);
	if (status == TDR_OK)
		*ret_network = network;
	return status;
}

struct sim_network *sim_network_close(struct sim_network *network)
{
	return sim_network_unuse(network);
}

/* ---- fates ---- */

/* A good mixer of 64 bits: each call moves the state on. */
static uint64_t draw(uint64_t *state)
{
	uint64_t mixed = *state += UINT64_C(0x9e3779b97f4a7c15);

	mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
	return mixed ^ mixed >> 31;
}

static bool happens(uint64_t *state, uint32_t rate)
{
	return draw(state) % SIM_MILLION < rate;
}

/* 1 to `most`; 0 where that is none. */
static int64_t up_to(uint64_t *state, int64_t most)
{
	uint64_t drawn = draw(state);

	return most > 0 ? 1 + (int64_t)(drawn % (uint64_t)most) : 0;
}

struct sim_fate sim_fate(const struct sim_faults *faults, uint64_t seed, uint16_t from, uint16_t to, uint64_t index)
{
	static const uint8_t usual_delays_ms[] = {0, 0, 0, 0, 1, 1, 1, 2};
	uint64_t state = seed;
	struct sim_fate fate = {0};
	int64_t late_ms, hold_ms;

	state = draw(&state) ^ ((uint64_t)from << 16 | to);
	state = draw(&state) ^ index;
	/* Always the same number of draws, so that one rate does not change what another makes of the seed. */
	fate.delay_ms = usual_delays_ms[draw(&state) % COUNT_OF(usual_delays_ms)];
	late_ms = up_to(&state, faults->max_delay_ms);
	hold_ms = up_to(&state, faults->max_hold_ms);
	if (happens(&state, faults->late))
		fate.delay_ms = late_ms;
	fate.cut = happens(&state, faults->cut);
	if (happens(&state, faults->hold))
		fate.hold_ms = hold_ms;
	fate.refused = happens(&state, faults->refuse);
	fate.reset = happens(&state, faults->reset);
	return fate;
}

struct sim_fate sim_decide(struct sim_network *network, struct sim_path *path)
{
	struct sim_fate fate = sim_fate(&network->faults, network->seed, path->from, path->to, path->count++);

	path->hash ^= (uint64_t)fate.delay_ms << 32 ^ (uint64_t)fate.hold_ms << 3 ^ (uint64_t)fate.cut << 2 ^
	              (uint64_t)fate.reset << 1 ^ (uint64_t)fate.refused;
	path->hash = draw(&path->hash);
	if (fate.hold_ms > 0)
		path->held_until_ms = MAX_OF(path->held_until_ms, clock_ms() + fate.hold_ms);
	return fate;
}

/* ---- paths ---- */

static bool is_islander(const struct sim_network *network, uint16_t port)
{
	return network->islanders[port / 64] >> (port % 64) & 1;
}

struct sim_path *sim_path_of(struct sim_network *network, uint16_t from, uint16_t to)
{
	struct sim_path *path;

	list_for_each(node, &network->paths) {
		path = list_entry(node, struct sim_path, node);
		if (path->from == from && path->to == to)
			return path;
	}
	path = calloc(1, sizeof(*path));
	if (!path)
		return NULL;
	path->from = from;
	path->to = to;
	path->apart = is_islander(network, from) != is_islander(network, to);
	list_init(&path->node);
	list_append(&network->paths, &path->node);
	return path;
}

int64_t sim_path_clear_ms(const struct sim_path *path)
{
	return path->cut || path->apart ? SIM_NEVER : path->held_until_ms;
}

struct sim_listener *sim_listener_at(struct sim_network *network, uint16_t port)
{
	list_for_each(node, &network->listeners) {
		struct sim_listener *sim = list_entry(node, struct sim_listener, node);

		if (sim->listener.port == port)
			return sim;
	}
	return NULL;
}

/* ---- faults to order ---- */

static tdr_status parse(const struct sim_network *network, const char *address, uint16_t *ret_port)
{
	char scheme[ADDRESS_SIZE], host[ADDRESS_SIZE];
	tdr_status status = address_split(address, scheme, host, ret_port);

	if (status == TDR_OK && (strcmp(scheme, "sim") != 0 || strcmp(host, network->name) != 0))
		return error_set(TDR_EINVAL, "\"%s\" is no address of the network \"%s\"", address, network->name);
	return status;
}

/* What was held may arrive now. */
static void wake_all(struct sim_network *network)
{
	list_for_each(node, &network->lanes)
		sim_lane_wake(list_entry(node, struct sim_lane, node), 0);
}

void sim_network_set(struct sim_network *network, const struct sim_faults *faults)
{
	pthread_mutex_lock(&network->lock);
	network->faults = *faults;
	pthread_mutex_unlock(&network->lock);
}

tdr_status sim_network_cut(struct sim_network *network, const char *a, const char *b, enum sim_direction direction)
{
	struct sim_path *forth, *back;
	uint16_t first, second;
	tdr_status status = parse(network, a, &first);

	if (status == TDR_OK)
		status = parse(network, b, &second);
	if (status != TDR_OK)
		return status;
	pthread_mutex_lock(&network->lock);
	forth = sim_path_of(network, first, second);
	back = sim_path_of(network, second, first);
	if (forth && direction & SIM_FORTH)
		forth->cut = true;
	if (back && direction & SIM_BACK)
		back->cut = true;
	pthread_mutex_unlock(&network->lock);
	return forth && back ? TDR_OK : error_nomem();
}

/* Applies a change of the islanders to the paths there are. */
static void part(struct sim_network *network)
{
	list_for_each(node, &network->paths) {
		struct sim_path *path = list_entry(node, struct sim_path, node);

		path->apart = is_islander(network, path->from) != is_islander(network, path->to);
	}
	wake_all(network);
}

tdr_status sim_network_partition(struct sim_network *network, size_t count, const char *const addresses[])
{
	uint64_t islanders[COUNT_OF(network->islanders)] = {0};

	for (size_t i = 0; i < count; i++) {
		uint16_t port;
		tdr_status status = parse(network, addresses[i], &port);

		if (status != TDR_OK)
			return status;
		islanders[port / 64] |= UINT64_C(1) << (port % 64);
	}
	pthread_mutex_lock(&network->lock);
	memcpy(network->islanders, islanders, sizeof(islanders));
	part(network);
	pthread_mutex_unlock(&network->lock);
	return TDR_OK;
}

void sim_network_heal(struct sim_network *network)
{
	pthread_mutex_lock(&network->lock);
	list_for_each(node, &network->paths) {
		struct sim_path *path = list_entry(node, struct sim_path, node);

		path->cut = false;
		path->held_until_ms = 0;
	}
	memset(network->islanders, 0, sizeof(network->islanders));
	part(network);
	pthread_mutex_unlock(&network->lock);
}

/* A lane between the ports; any other port for a negative one. */
static struct sim_lane *lane_between(struct sim_network *network, uint16_t port, int32_t other)
{
	list_for_each(node, &network->lanes) {
		struct sim_lane *sim = list_entry(node, struct sim_lane, node);

		if (sim->outward->from == port && (other < 0 || sim->outward->to == other))
			return sim;
		if (sim->outward->to == port && (other < 0 || sim->outward->from == other))
			return sim;
	}
	return NULL;
}

tdr_status sim_network_break(struct sim_network *network, const char *a, const char *b)
{
	uint16_t first, second;
	struct sim_lane *sim;
	tdr_status status = parse(network, a, &first);

	if (status == TDR_OK)
		status = parse(network, b, &second);
	if (status != TDR_OK)
		return status;
	pthread_mutex_lock(&network->lock);
	while ((sim = lane_between(network, first, second)))
		sim_lane_break(sim, "the network broke the connection");
	pthread_mutex_unlock(&network->lock);
	return TDR_OK;
}

tdr_status sim_network_kill(struct sim_network *network, const char *address)
{
	struct sim_listener *listener;
	struct sim_lane *sim;
	uint16_t port;
	tdr_status status = parse(network, address, &port);

	if (status != TDR_OK)
		return status;
	pthread_mutex_lock(&network->lock);
	listener = sim_listener_at(network, port);
	if (listener)
		listener->dead = true;
	else
		status = error_set(TDR_EINVAL, "nobody listens at \"%s\"", address);
	while (listener && (sim = lane_between(network, port, -1)))
		sim_lane_break(sim, "the network killed one of its ends");
	pthread_mutex_unlock(&network->lock);
	return status;
}

/* ---- insight ---- */

tdr_status sim_network_history(struct sim_network *network, const char *from, const char *to, uint64_t *ret_count,
                               uint64_t *ret_hash)
{
	uint16_t first, second;
	struct sim_path *path;
	tdr_status status = parse(network, from, &first);

	if (status == TDR_OK)
		status = parse(network, to, &second);
	if (status != TDR_OK)
		return status;
	pthread_mutex_lock(&network->lock);
	path = sim_path_of(network, first, second);
	if (path) {
		*ret_count = path->count;
		*ret_hash = path->hash;
	}
	pthread_mutex_unlock(&network->lock);
	return path ? TDR_OK : error_nomem();
}
