/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many workers in one process on a clock that is only counted: each is a real `struct rrefs`, all else (the network, the calls,
 * the programs, births and deaths) is made up from a seed. What happens depends on the seed alone, not on addresses, hash
 * order or time, so that a seed can be replayed. One event is one step; after each the checker looks at all machines.
 */
#ifndef TENDRIL_SIM_SIMULATOR_H
#define TENDRIL_SIM_SIMULATOR_H

#include "dice.h"
#include "rref/machine.h"

#include <setjmp.h>
#include <stdio.h>

#define SIM_WORKERS 48       /* incarnations in the life of one seed */
#define SIM_PASSED 4         /* references in one message */
#define SIM_TRACED 50        /* lines kept for the report of a failure */
#define SIM_DRAIN_MS 300000  /* by when all must be quiet after the faults have stopped */
#define SIM_GONE_AFTER 20000 /* a cut that lasts longer makes somebody declare the other gone */
#define SIM_TELL_WITHIN 5000 /* by when others learn of an end, or of a broken connection */

struct sim;
struct worker;

struct event {
	int64_t at;
	uint64_t sequence;
	void (*run)(struct sim *sim, const struct event *event);
	struct worker *worker, *other;
	uint64_t id;
	void *data;
};

/* What can go wrong, in percent, chosen once a seed. */
struct faults {
	unsigned drop, twice, slow;      /* of packets */
	unsigned garble;                 /* messages whose decoding fails half-way */
	unsigned hasty;                  /* calls with a timeout that is too short */
	unsigned memory;                 /* allocations of the machines that fail */
	unsigned cut, kill, leave, join; /* each time the world has its turn */
};

enum worker_state {
	WORKER_UP,
	WORKER_LEAVING, /* rrefs_close was called */
	WORKER_GONE,
};

/* One handle, of either kind. */
struct handle {
	struct use *use;
	struct thing *thing;
};

/* Our use of another's reference. */
struct use {
	struct rref_user user;
	struct worker *worker;
};

/* A reference of ours. */
struct thing {
	struct rref_owned owned;
	struct worker *worker;
};

/* What the checker knows of a fork from having seen it made, whatever the machines remember. */
struct promise {
	struct worker *holder, *owner; /* holder NULL: it is open, and nobody has read it */
	struct worker *parent;         /* who passed it on; NULL: it was created */
	struct rref_id parent_fork;    /* the parent's own; nothing if it is the owner */
	struct rref_id written; /* the open fork that it was read from, or is; nothing if it has never been written */
	bool is_void;           /* an open one: it was withdrawn, or read twice, and keeps nothing for certain */
	bool is_good;           /* its creation was under way, or the owner has counted it */
	bool has_failed;        /* for whoever uses it: it keeps nothing for others then, if it was never good */
};

/* A reference in bytes, for whoever reads them. */
struct written {
	struct rref_passed passed;
	struct worker *by, *reader; /* reader NULL: nobody has read it */
};

struct peer {
	struct rref_peer rref;
	struct worker *self, *other;
};

struct worker {
	struct sim *sim;
	size_t index;
	uint32_t id;
	uint64_t incarnation;
	enum worker_state state;
	struct rrefs *machine;
	struct peer *peers[SIM_WORKERS]; /* NULL: not known */
	struct handle *handles;          /* [nhandles]: of the program */
	size_t nhandles, handles_room;
	struct list calls; /* its own, that have not ended */
	struct list jobs;  /* of others' calls, under way here */
	bool noted;        /* an event asked for a look at the jobs */
	bool dying;        /* inside rrefs_free */
	bool giving_up;    /* the next user to fail does so because its request was given up */
	int64_t tick_at;   /* 0: none is planned */
	int64_t leave_by;
	struct promise *promises; /* [npromises], by the forks' numbers: the checker's */
	size_t npromises;
};

struct sim {
	uint64_t seed;
	int64_t pace_ms; /* programs do something as often as that, at least */
	struct dice dice;
	int64_t now_ms;
	uint64_t step;
	bool draining; /* no faults any more */
	struct faults faults;
	struct event *events; /* [nevents]: a heap */
	size_t nevents, events_room;
	uint64_t next_sequence;
	struct worker *workers[SIM_WORKERS];
	size_t nworkers;
	uint32_t next_worker_id;
	int64_t cut_until[SIM_WORKERS][SIM_WORKERS];
	uint32_t connections[SIM_WORKERS][SIM_WORKERS]; /* of the first, to the second: the number of the one of now */
	uint64_t next_call;
	struct written *written; /* [nwritten] */
	size_t nwritten, written_room;
	uint8_t *executions; /* [ncreations]: how often each creating function has run */
	size_t ncreations, creations_room;
	uint64_t made, released; /* uses and things */
	FILE *trace;             /* all lines go there; NULL: none */
	char lines[SIM_TRACED][256];
	uint64_t nlines, hash;
	bool failed;
	char failure[512];
	jmp_buf out;
};

struct sim_result {
	bool passed;
	uint64_t steps, hash;
};

/* Runs a seed: `steps` events with faults, then as many as it takes to come to rest. */
struct sim_result sim_run(uint64_t seed, uint64_t steps, FILE *trace);

/* Where the running simulation is, for a report: after a failed assertion, too. */
void sim_report(FILE *file);

void sim_plan(struct sim *sim, int64_t after_ms, void (*run)(struct sim *, const struct event *), struct worker *worker,
              struct worker *other, uint64_t id, void *data);
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Ends the run: a rule was violated. */
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

/* Memory without which there is no simulation; that of the first is zeroed. */
void *sim_alloc(size_t size);
void *sim_grow(void *memory, size_t size);

/* From now on machines run out of memory as often as the seed says; NULL: they do not any more. */
void sim_make_scarce(struct sim *sim);
bool sim_runs_out(void);

#endif
