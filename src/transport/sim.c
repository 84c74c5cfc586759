/* SPDX-License-Identifier: Apache-2.0 */
/* The transport "sim": listening and connecting in a made-up network. What comes after is the lanes' (sim_lane.c). */
#include "base/clock.h"
#include "base/error.h"
#include "transport/address.h"
#include "transport/sim_internal.h"

#include <stdlib.h>
#include <string.h>

/* The listener whose `accept` this thread is in. */
static _Thread_local struct sim_listener *asking;

/* ---- listening ---- */

static void listener_unref(struct sim_listener *sim)
{
	if (!refcount_put(&sim->refs))
		return;
	pool_unref(sim->config.pool);
	pthread_cond_destroy(&sim->quiet);
	sim_network_unuse(sim->network);
	free(sim);
}

void sim_listener_enter(struct sim_listener *sim)
{
	refcount_get(&sim->refs);
	sim->inside++;
}

bool sim_listener_ask(struct sim_listener *sim, struct lane *lane)
{
	struct sim_listener *outer = asking;
	bool taken;

	asking = sim;
	taken = sim->accept(sim->context, lane);
	asking = outer;
	return taken;
}

void sim_listener_leave(struct sim_listener *sim)
{
	pthread_mutex_lock(&sim->network->lock);
	sim->inside--;
	pthread_cond_broadcast(&sim->quiet);
	pthread_mutex_unlock(&sim->network->lock);
	listener_unref(sim);
}

/* A lane that has not been offered to the listener yet; with the lock held. */
static struct sim_lane *arriving_at(struct sim_listener *sim)
{
	list_for_each(node, &sim->network->lanes) {
		struct sim_lane *lane = list_entry(node, struct sim_lane, node);

		if (lane->listener == sim)
			return lane;
	}
	return NULL;
}

static void listener_close(struct listener *listener)
{
	struct sim_listener *sim = container_of(listener, struct sim_listener, listener);
	struct sim_lane *lane;

	pthread_mutex_lock(&sim->network->lock);
	list_remove(&sim->node);
	/* At once, for their pumps run on an engine that may go when the listener has. */
	while ((lane = arriving_at(sim))) {
		lane->listener = NULL;
		sim_lane_end(lane, TDR_EIO, false, "nobody listens any more");
	}
	while (sim->inside > (asking == sim ? 1 : 0))
		pthread_cond_wait(&sim->quiet, &sim->network->lock);
	pthread_mutex_unlock(&sim->network->lock);
	listener_unref(sim);
}

static const struct listener_ops sim_listener_ops = {.close = listener_close};

/* Gives the listener its port; with the lock held. */
static tdr_status take_port(struct sim_listener *sim, uint16_t port)
{
	struct sim_network *network = sim->network;
	uint32_t tries = UINT16_MAX;

	if (port != SIM_ANONYMOUS && sim_listener_at(network, port))
		return error_set(TDR_EIO, "cannot listen on sim://%s:%u: the port is taken", network->name, port);
	while (port == SIM_ANONYMOUS && tries-- > 0) {
		network->next_port = network->next_port == UINT16_MAX ? 1 : network->next_port + 1;
		if (!sim_listener_at(network, network->next_port))
			port = network->next_port;
	}
	if (port == SIM_ANONYMOUS)
		return error_set(TDR_EIO, "cannot listen on sim://%s: all ports are taken", network->name);
	sim->listener.port = port;
	list_append(&network->listeners, &sim->node);
	return TDR_OK;
}

static tdr_status sim_listen(const struct lane_config *config, const char *host, uint16_t port,
                             bool (*accept)(void *context, struct lane *lane), void *context,
                             struct listener **ret_listener)
{
	struct sim_listener *sim;
	struct sim_network *network;
	tdr_status status;

	if (!host)
		return error_set(TDR_EINVAL, "no network is named to listen in; write sim://NETWORK");
	status = sim_network_use(host, &network);
	if (status != TDR_OK)
		return status;
	sim = calloc(1, sizeof(*sim));
	if (!sim) {
		sim_network_unuse(network);
		return error_nomem();
	}
	sim->listener.ops = &sim_listener_ops;
	strcpy(sim->listener.host, network->name);
	sim->network = network;
	sim->config = *config;
	pool_ref(config->pool);
	sim->accept = accept;
	sim->context = context;
	refcount_init(&sim->refs);
	list_init(&sim->node);
	pthread_cond_init(&sim->quiet, NULL);
	pthread_mutex_lock(&network->lock);
	status = take_port(sim, port);
	pthread_mutex_unlock(&network->lock);
	if (status != TDR_OK) {
		listener_unref(sim);
		return status;
	}
	*ret_listener = &sim->listener;
	return TDR_OK;
}

/* ---- connecting; with the lock held ---- */

/* Who connects is known by its incarnation, if it listens in the network, too. NULL: it does not. */
static struct sim_listener *listener_of(struct sim_network *network, uint64_t incarnation)
{
	list_for_each(node, &network->listeners) {
		struct sim_listener *sim = list_entry(node, struct sim_listener, node);

		if (incarnation && sim->config.incarnation == incarnation)
			return sim;
	}
	return NULL;
}

/* Makes the other end, which is on its way to its listener. */
static tdr_status send_out(struct sim_lane *sim, struct sim_listener *listener, int64_t delay_ms)
{
	struct sim_lane *other = sim_lane_new(&listener->config, sim->network, SIM_ARRIVING);

	if (!other)
		return error_nomem();
	other->inward = sim->outward;
	other->outward = sim->inward;
	other->other = sim;
	other->listener = listener;
	other->arrives_ms = clock_ms() + delay_ms;
	address_join(transport_sim.name, sim->network->name, sim->outward->from, other->lane.peer);
	list_append(&sim->network->lanes, &other->node);
	sim->other = other;
	return TDR_OK;
}

static tdr_status connect_to(struct sim_lane *sim, uint16_t port)
{
	struct sim_network *network = sim->network;
	struct sim_listener *own = listener_of(network, sim->lane.config.incarnation);
	struct sim_listener *listener = sim_listener_at(network, port);
	uint16_t from = own ? own->listener.port : SIM_ANONYMOUS;
	struct sim_fate fate;
	tdr_status status = TDR_OK;

	sim->outward = sim_path_of(network, from, port);
	sim->inward = sim_path_of(network, port, from);
	if (!sim->outward || !sim->inward)
		return error_nomem();
	fate = sim_decide(network, sim->outward);
	if (listener && !listener->dead && !(own && own->dead) && !fate.refused)
		status = send_out(sim, listener, fate.delay_ms);
	else
		sim->answer = SIM_REFUSED;
	if (status != TDR_OK)
		return status;
	sim->arrives_ms = clock_ms() + fate.delay_ms;
	list_append(&network->lanes, &sim->node);
	sim_lane_wake(sim, 0);
	if (sim->other)
		sim_lane_wake(sim->other, sim->other->arrives_ms);
	if (fate.cut)
		sim_lane_break(sim, "the network cut the connection");
	return TDR_OK;
}

static tdr_status sim_connect(const struct lane_config *config, const char *address, int64_t timeout_ms,
                              struct lane **ret_lane)
{
	char scheme[ADDRESS_SIZE], host[ADDRESS_SIZE];
	struct sim_network *network;
	struct sim_lane *sim;
	uint16_t port;
	tdr_status status = address_split(address, scheme, host, &port);

	if (status != TDR_OK)
		return status;
	if (strcmp(scheme, transport_sim.name) != 0 || port == SIM_ANONYMOUS)
		return error_set(TDR_EINVAL, "\"%s\" is no address to connect to; write sim://NETWORK:PORT", address);
	status = sim_network_use(host, &network);
	if (status != TDR_OK)
		return status;
	sim = sim_lane_new(config, network, SIM_CONNECTING);
	if (!sim) {
		sim_network_unuse(network);
		return error_nomem();
	}
	sim->seen = true;
	sim->connect_timeout_ms = timeout_ms;
	sim->connect_due_ms = deadline_after(timeout_ms);
	address_join(transport_sim.name, host, port, sim->lane.peer);
	pthread_mutex_lock(&network->lock);
	status = connect_to(sim, port);
	if (status == TDR_OK)
		*ret_lane = lane_ref(&sim->lane);
	pthread_mutex_unlock(&network->lock);
	if (status != TDR_OK)
		lane_unref(&sim->lane);
	sim_network_unuse(network);
	return status;
}

/* ---- the transport ---- */

const struct transport transport_sim = {
    .name = "sim",
    .listen = sim_listen,
    .connect = sim_connect,
};
