/* SPDX-License-Identifier: Apache-2.0 */
/* Interceptors: the hooks around calls, and what they see. */
#include "agent/internal.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The interceptor whose hook this thread runs; hooks of one call may run in several threads at once. */
static _Thread_local size_t current;

tdr_status tdr_intercept(tdr_agent *agent, const tdr_interceptor *interceptor, void *context)
{
	struct interceptors *all = &agent->interceptors;

	if (interceptor->size != sizeof(*interceptor) || !interceptor->name || !*interceptor->name)
		return error_set(TDR_EINVAL, "an interceptor needs its size (%zu) and a name", sizeof(*interceptor));
	if (agent_state(agent) != AGENT_NEW)
		return error_set(TDR_ESTATE, "interceptor '%s' comes too late: agent '%s' has joined already",
		                 interceptor->name, agent->name);
	if (all->count == MAX_INTERCEPTORS)
		return error_set(TDR_ELIMIT, "an agent takes %d interceptors", MAX_INTERCEPTORS);
	for (size_t i = 0; i < all->count; i++)
		if (strcmp(all->items[i].name, interceptor->name) == 0)
			return error_set(TDR_EEXISTS, "agent '%s' has an interceptor '%s' already", agent->name,
			                 interceptor->name);
	all->items[all->count].name = strdup(interceptor->name);
	if (!all->items[all->count].name)
		return error_nomem();
	all->items[all->count].hooks = *interceptor;
	all->items[all->count].context = context;
	all->count++;
	return TDR_OK;
}

void interceptors_fini(struct interceptors *interceptors)
{
	for (size_t i = 0; i < interceptors->count; i++)
		free(interceptors->items[i].name);
	interceptors->count = 0;
}

static tdr_status run_one(tdr_passage *passage, enum hook hook, size_t index)
{
	const tdr_interceptor *hooks = &passage->agent->interceptors.items[index].hooks;
	void *context = passage->agent->interceptors.items[index].context;
	tdr_status (*run)(void *, tdr_passage *) = NULL;

	current = index;
	switch (hook) {
	case HOOK_ENTER:
		if (hooks->enter)
			hooks->enter(context, passage);
		return TDR_OK;
	case HOOK_LEAVE:
		if (hooks->leave)
			hooks->leave(context, passage);
		return TDR_OK;
	case HOOK_ISSUE:
		run = hooks->issue;
		break;
	case HOOK_RECEIVE:
		run = hooks->receive;
		break;
	case HOOK_REPLY:
		run = hooks->reply;
		break;
	case HOOK_COMPLETE:
		run = hooks->complete;
		break;
	}
	return run ? run(context, passage) : TDR_OK;
}

static const char *name_of(const tdr_passage *passage, size_t index)
{
	return passage->agent->interceptors.items[index].name;
}

/* The first hooks of a call on this side: the first that fails ends the call. */
static tdr_status run_first(tdr_passage *passage, enum hook hook)
{
	size_t count = passage->agent->interceptors.count;
	tdr_status status = TDR_OK;

	while (passage->reached < count && status == TDR_OK) {
		size_t index = passage->reached++;

		status = run_one(passage, hook, index);
		if (status != TDR_OK)
			error_prefix(status, "interceptor '%s'", name_of(passage, index));
	}
	return status;
}

/* The last hooks: all run, since each may have something to tidy up. */
static tdr_status run_last(tdr_passage *passage, enum hook hook)
{
	char text[ERROR_TEXT_SIZE] = "";
	bool failed = false;

	for (size_t index = passage->reached; index-- > 0;) {
		tdr_status status = run_one(passage, hook, index);

		if (status == TDR_OK)
			continue;
		error_prefix(status, "interceptor '%s'", name_of(passage, index));
		snprintf(text, sizeof(text), "%s", tdr_last_error());
		failed = true;
		passage->status = status;
		passage->result = tdr_value_unref(passage->result);
	}
	return failed && passage->status != TDR_OK ? error_set(passage->status, "%s", text) : TDR_OK;
}

tdr_status intercept_run(tdr_passage *passage, enum hook hook)
{
	switch (hook) {
	case HOOK_ISSUE:
	case HOOK_RECEIVE:
		return run_first(passage, hook);
	case HOOK_ENTER:
		for (size_t i = 0; i < passage->reached; i++)
			run_one(passage, hook, i);
		return TDR_OK;
	case HOOK_LEAVE:
		for (size_t i = passage->reached; i-- > 0;)
			run_one(passage, hook, i);
		return TDR_OK;
	case HOOK_REPLY:
	case HOOK_COMPLETE:
		break;
	}
	return run_last(passage, hook);
}

tdr_passage *passage_new(tdr_agent *agent, struct link *link, const char *function, bool incoming)
{
	tdr_passage *passage = calloc(1, sizeof(*passage));

	if (passage)
		*passage = (tdr_passage){.agent = agent, .link = link, .function = function, .incoming = incoming};
	return passage;
}

tdr_passage *passage_free(tdr_passage *passage)
{
	if (!passage)
		return NULL;
	tdr_value_unref(passage->args);
	tdr_value_unref(passage->kwargs);
	tdr_value_unref(passage->result);
	tdr_value_unref(passage->attached);
	tdr_value_unref(passage->received);
	free(passage);
	return NULL;
}

const char *tdr_passage_function(const tdr_passage *passage)
{
	return passage->function;
}

tdr_worker tdr_passage_worker(const tdr_passage *passage)
{
	const struct identity *peer = link_peer(passage->link);

	return (tdr_worker){.name = peer->name, .id = peer->id, .incarnation = peer->incarnation};
}

bool tdr_passage_incoming(const tdr_passage *passage)
{
	return passage->incoming;
}

void **tdr_passage_slot(tdr_passage *passage)
{
	return &passage->slots[current];
}

tdr_value *tdr_passage_args(const tdr_passage *passage)
{
	return passage->args;
}

tdr_value *tdr_passage_kwargs(const tdr_passage *passage)
{
	return passage->kwargs;
}

void tdr_passage_set_args(tdr_passage *passage, tdr_value *args)
{
	tdr_value_unref(passage->args);
	passage->args = args;
}

void tdr_passage_set_kwargs(tdr_passage *passage, tdr_value *kwargs)
{
	tdr_value_unref(passage->kwargs);
	passage->kwargs = kwargs;
}

tdr_status tdr_passage_status(const tdr_passage *passage)
{
	return passage->status;
}

tdr_value *tdr_passage_result(const tdr_passage *passage)
{
	return passage->result;
}

void tdr_passage_set_result(tdr_passage *passage, tdr_value *result)
{
	tdr_value_unref(passage->result);
	passage->result = result;
	passage->status = TDR_OK;
}

tdr_status tdr_passage_attach(tdr_passage *passage, tdr_value *metadata)
{
	if (!passage->attached)
		passage->attached = tdr_dict_new();
	return tdr_dict_set(passage->attached, name_of(passage, current), metadata);
}

tdr_value *tdr_passage_metadata(const tdr_passage *passage)
{
	return passage->received ? tdr_dict_get(passage->received, name_of(passage, current)) : NULL;
}
