/* SPDX-License-Identifier: Apache-2.0 */
/* Interceptors: the hooks around calls, and what they see. */
#include "agent/internal.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

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

	passage->current = index;
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

tdr_status intercept_run(tdr_passage *passage, enum hook hook)
{
	size_t count = passage->agent->interceptors.count;
	bool backwards = hook == HOOK_LEAVE || hook == HOOK_REPLY || hook == HOOK_COMPLETE;
	tdr_status status = TDR_OK;

	for (size_t i = 0; i < count && status == TDR_OK; i++) {
		size_t index = backwards ? count - 1 - i : i;

		status = run_one(passage, hook, index);
		if (status != TDR_OK)
			error_prefix(status, "interceptor '%s'", passage->agent->interceptors.items[index].name);
	}
	return status;
}

void passage_init(tdr_passage *passage, tdr_agent *agent, struct link *link, const char *function, bool incoming)
{
	*passage = (tdr_passage){.agent = agent, .link = link, .function = function, .incoming = incoming};
}

void passage_fini(tdr_passage *passage)
{
	tdr_value_unref(passage->args);
	tdr_value_unref(passage->kwargs);
	tdr_value_unref(passage->result);
	tdr_value_unref(passage->attached);
	tdr_value_unref(passage->received);
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
	return &passage->slots[passage->current];
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
	return tdr_dict_set(passage->attached, passage->agent->interceptors.items[passage->current].name, metadata);
}

tdr_value *tdr_passage_metadata(const tdr_passage *passage)
{
	const char *name = passage->agent->interceptors.items[passage->current].name;

	return passage->received ? tdr_dict_get(passage->received, name) : NULL;
}
