/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport "sim": agents of one process over a made-up network, which delays, reorders and breaks as it is told.
 *
 * Addresses are "sim://NETWORK:PORT". An agent whose option `listen` is "sim://NETWORK" takes part in the network of that name;
 * others are reached by their addresses. All that a network does by chance follows from its seed: the n-th message (or
 * attempt to connect) from one address to another has the same fate in every run, whatever the threads do.
 *
 * A lane behaves as one over tcp does: it loses messages only with itself, and never doubles one. That single packets are
 * lost, doubled and damaged is a matter below the transport, and is tested by the simulator of the machine.
 *
 * What follows is for tests, which open a network before agents use it, and give and take faults while they run. Any thread.
 */
#ifndef TENDRIL_TRANSPORT_SIM_H
#define TENDRIL_TRANSPORT_SIM_H

#include "transport/transport.h"

struct sim_network;

#define SIM_MILLION 1000000

/* What happens by chance; rates are of a million. A message takes 0 to 2 ms; its fate may be worse: */
struct sim_faults {
	uint32_t late;         /* it takes up to `max_delay_ms` */
	uint32_t cut;          /* the lane breaks, with all that is in flight on it */
	uint32_t hold;         /* nothing more arrives in this direction, for up to `max_hold_ms` */
	uint32_t reset;        /* of lanes closed at once: what is in flight from that end is lost, too */
	uint32_t refuse;       /* of attempts to connect: refused */
	uint32_t bytes_per_ms; /* for messages with large storages, which small ones overtake meanwhile; 0: no limit */
	int64_t max_delay_ms;
	int64_t max_hold_ms;
};

/* What a network does that nobody has set: small delays, some of them up to 20 ms. */
extern const struct sim_faults sim_faults_default;

/* Where the messages of two addresses are held. */
enum sim_direction {
	SIM_FORTH = 1 << 0, /* from the first to the second */
	SIM_BACK = 1 << 1,
	SIM_BOTH = SIM_FORTH | SIM_BACK,
};

/*
 * Makes a network, which lasts until it was closed here and nobody uses it any more. One that nobody has opened is made by the
 * first who listens, with the seed in TENDRIL_SIM_SEED, or one by chance. Errors: TDR_EEXISTS, TDR_EINVAL (the name).
 */
TDR_MUST_USE tdr_status sim_network_open(const char *name, uint64_t seed, struct sim_network **ret_network);
struct sim_network *sim_network_close(struct sim_network *network);

void sim_network_set(struct sim_network *network, const struct sim_faults *faults);

/* ---- faults to order; addresses are "sim://NETWORK:PORT". Errors: TDR_EINVAL (an address that is none of the network's) ---- */

/* Silence: what one sends the other is held, and so are attempts to connect; nobody is told. */
TDR_MUST_USE tdr_status sim_network_cut(struct sim_network *network, const char *a, const char *b,
                                        enum sim_direction direction);

/* Silence between these addresses and all others, in place of an earlier partition. None: no partition. */
TDR_MUST_USE tdr_status sim_network_partition(struct sim_network *network, size_t count, const char *const addresses[]);

/* Ends all silence; what was held arrives. */
void sim_network_heal(struct sim_network *network);

/* Breaks the lanes between two addresses: both ends are told; new ones may be opened. */
TDR_MUST_USE tdr_status sim_network_break(struct sim_network *network, const char *a, const char *b);

/* Breaks all lanes of an address, and refuses new ones, as when its process has died. */
TDR_MUST_USE tdr_status sim_network_kill(struct sim_network *network, const char *address);

/* ---- insight ---- */

/* What becomes of a message, of an attempt to connect, or of the end of a lane. */
struct sim_fate {
	int64_t delay_ms;
	int64_t hold_ms; /* 0: it is not held */
	bool cut;
	bool reset;
	bool refused;
};

/* The fate of number `index`, from 0, of what one port sends another. */
struct sim_fate sim_fate(const struct sim_faults *faults, uint64_t seed, uint16_t from, uint16_t to, uint64_t index);

/* How many fates were decided from one address to another, and a hash of them. */
TDR_MUST_USE tdr_status sim_network_history(struct sim_network *network, const char *from, const char *to,
                                            uint64_t *ret_count, uint64_t *ret_hash);

#endif
