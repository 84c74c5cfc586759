/* SPDX-License-Identifier: Apache-2.0 */
/* The clock, the queue of events, the trace, and the life of one run. */
#include "simulator.h"

#include "checker.h"
#include "world.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static struct sim *running;

/* ---- trace ---- */

static void hash_line(struct sim *sim, const char *line)
{
	for (; *line; line++)
		sim->hash = (sim->hash ^ (uint8_t)*line) * 0x100000001b3;
}

void sim_trace(struct sim *sim, const char *format, ...)
{
	char *line = sim->lines[sim->nlines++ % SIM_TRACED];
	va_list arguments;
	int used = snprintf(line, sizeof(sim->lines[0]), "%6llu %8lld ms  ", (unsigned long long)sim->step,
	                    (long long)sim->now_ms);

	va_start(arguments, format);
	(void)vsnprintf(line + used, sizeof(sim->lines[0]) - (size_t)used, format, arguments);
	va_end(arguments);
	hash_line(sim, line);
	if (sim->trace)
		(void)fprintf(sim->trace, "%s\n", line);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(sim->failure, sizeof(sim->failure), format, arguments);
	va_end(arguments);
	sim->failed = true;
	longjmp(sim->out, 1);
}

void sim_report(FILE *file)
{
	const struct sim *sim = running;
	uint64_t first;

	if (!sim)
		return;
	first = sim->nlines > SIM_TRACED ? sim->nlines - SIM_TRACED : 0;
	for (uint64_t i = first; i < sim->nlines; i++)
		(void)fprintf(file, "%s\n", sim->lines[i % SIM_TRACED]);
	(void)fprintf(file, "seed %llu failed at step %llu, %lld ms: %s\nTo see it all: make sim SEED=%llu TRACE=1\n",
	              (unsigned long long)sim->seed, (unsigned long long)sim->step, (long long)sim->now_ms,
	              sim->failed ? sim->failure : "an assertion", (unsigned long long)sim->seed);
}

/* ---- events ---- */

static bool is_before(const struct event *a, const struct event *b)
{
	return a->at < b->at || (a->at == b->at && a->sequence < b->sequence);
}

static void swap_events(struct event *a, struct event *b)
{
	struct event kept = *a;

	*a = *b;
	*b = kept;
}

void sim_plan(struct sim *sim, int64_t after_ms, void (*run)(struct sim *, const struct event *), struct worker *worker,
              struct worker *other, uint64_t id, void *data)
{
	size_t at = sim->nevents;

	assert(after_ms >= 0);
	if (sim->nevents == sim->events_room) {
		sim->events_room = MAX_OF(sim->events_room * 2, (size_t)64);
		sim->events = sim_grow(sim->events, sim->events_room * sizeof(*sim->events));
	}
	sim->nevents++;
	sim->events[at] = (struct event){.at = sim->now_ms + after_ms,
	                                 .sequence = sim->next_sequence++,
	                                 .run = run,
	                                 .worker = worker,
	                                 .other = other,
	                                 .id = id,
	                                 .data = data};
	for (; at > 0 && is_before(&sim->events[at], &sim->events[(at - 1) / 2]); at = (at - 1) / 2)
		swap_events(&sim->events[at], &sim->events[(at - 1) / 2]);
}

static struct event next_event(struct sim *sim)
{
	struct event first = sim->events[0];
	size_t at = 0;

	sim->events[0] = sim->events[--sim->nevents];
	for (;;) {
		size_t least = at;

		for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < sim->nevents; child++)
			if (is_before(&sim->events[child], &sim->events[least]))
				least = child;
		if (least == at)
			return first;
		swap_events(&sim->events[at], &sim->events[least]);
		at = least;
	}
}

/* ---- runs ---- */

static void step(struct sim *sim)
{
	struct event event = next_event(sim);

	sim->now_ms = event.at;
	sim->step++;
	event.run(sim, &event);
	world_after(sim, event.worker);
	checker_look(sim, event.worker);
}

static void run_to_rest(struct sim *sim)
{
	int64_t end;

	sim->draining = true;
	sim_make_scarce(NULL);
	sim_trace(sim, "no more faults");
	world_drain(sim);
	checker_look(sim, NULL);
	end = sim->now_ms + SIM_DRAIN_MS;
	while (sim->nevents > 0) {
		if (sim->events[0].at > end)
			sim_fail(sim, "rest: there is still something to do %d ms after the last fault", SIM_DRAIN_MS);
		step(sim);
	}
	checker_look_at_rest(sim);
}

struct sim_result sim_run(uint64_t seed, uint64_t steps, FILE *trace)
{
	struct sim *sim = sim_alloc(sizeof(*sim));
	struct sim_result result;

	sim->seed = seed;
	sim->dice.state = seed;
	sim->trace = trace;
	sim->now_ms = 1;
	sim->hash = 0xcbf29ce484222325;
	running = sim;
	if (setjmp(sim->out) == 0) {
		world_begin(sim);
		while (sim->step < steps && sim->nevents > 0)
			step(sim);
		run_to_rest(sim);
		world_end(sim);
	} else {
		sim_report(stdout);
	}
	/* After a failure the workers stay as they are: nobody can say what of their memory is still good. */
	result = (struct sim_result){.passed = !sim->failed, .steps = sim->step, .hash = sim->hash};
	running = NULL;
	sim_make_scarce(NULL);
	free(sim->events);
	free(sim->executions);
	free(sim->written);
	free(sim);
	return result;
}
