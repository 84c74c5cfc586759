/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/request.h"

#include "agent/membership.h"
#include "base/clock.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void request_init(struct request *request, struct peer *peer, const struct message *message)
{
	*request = (struct request){
	    .peer = peer,
	    .call_id = message->call_id,
	    .deadline_ms = deadline_after(message->time_left_ms),
	    .cost = message_cost(message),
	};
	cargo_init(&request->cargo, peer);
}

void request_fini(struct request *request)
{
	tdr_agent *agent = request->peer->agent;

	tdr_value_unref(request->metadata);
	tdr_value_unref(request->args);
	tdr_value_unref(request->kwargs);
	if (request->on)
		owned_value_put(agent, request->on);
	if (request->creates)
		owned_value_put(agent, request->creates);
	cargo_fini(&request->cargo);
	passage_free(request->passage);
	function_unref(request->function);
	free(request->kept_name);
}

static tdr_status read_optional(struct decoder *decoder, const char *what, tdr_value **ret_value)
{
	tdr_status status;

	if (decode_is_nil(decoder))
		return TDR_OK;
	status = decode_value(decoder, ret_value);
	return status == TDR_OK ? TDR_OK : error_prefix(status, "%s", what);
}

/* What it is called on: nil, or name and origin. */
static tdr_status read_target(struct decoder *decoder, struct request *request)
{
	size_t parts;
	tdr_status status;

	if (decode_is_nil(decoder))
		return TDR_OK;
	status = decode_array(decoder, &parts);
	if (status == TDR_OK && parts != 4)
		status = error_set(TDR_EPROTO, "a call's target of %zu parts, not 4", parts);
	if (status == TDR_OK)
		status = rref_id_decode(decoder, &request->target.rref);
	if (status == TDR_OK)
		status = decode_uint(decoder, &request->target.origin);
	request->has_target = status == TDR_OK;
	return status;
}

/* What it creates: nil, or the local numbers of reference and fork, and the number that its caller sent it under. */
static tdr_status read_creation(struct decoder *decoder, struct request *request)
{
	const struct identity *caller = link_peer(request->peer->link);
	struct creation *creation = &request->creation;
	size_t parts;
	tdr_status status;

	if (decode_is_nil(decoder))
		return TDR_OK;
	creation->rref = creation->fork = (struct rref_id){.incarnation = caller->incarnation, .worker = caller->id};
	status = decode_array(decoder, &parts);
	if (status == TDR_OK && parts != 3)
		status = error_set(TDR_EPROTO, "what a call creates in %zu parts, not 3", parts);
	if (status == TDR_OK)
		status = decode_uint(decoder, &creation->rref.local);
	if (status == TDR_OK)
		status = decode_uint(decoder, &creation->fork.local);
	if (status == TDR_OK)
		status = decode_uint(decoder, &creation->number);
	request->has_creation = status == TDR_OK;
	return status;
}

tdr_status request_read(const struct message *message, struct request *request)
{
	struct decoder decoder;
	size_t parts;
	tdr_status status;

	decoder_init(&decoder, &request->peer->agent->codec_limits, message->body, message->body_size,
	             message->storages, message->nstorages);
	cargo_in(&request->cargo, &decoder);
	status = decode_array(&decoder, &parts);
	if (status == TDR_OK && parts != 5 && parts != 7)
		status = error_set(TDR_EPROTO, "a call of %zu parts, not 5 or 7", parts);
	if (status == TDR_OK)
		status = decode_string(&decoder, &request->name, &request->name_size);
	if (status == TDR_OK)
		status = decode_uint(&decoder, &request->depth);
	if (status == TDR_OK)
		status = read_optional(&decoder, "metadata", &request->metadata);
	if (status == TDR_OK)
		status = read_optional(&decoder, "args", &request->args);
	if (status == TDR_OK)
		status = read_optional(&decoder, "kwargs", &request->kwargs);
	if (status == TDR_OK && parts == 7)
		status = read_target(&decoder, request);
	if (status == TDR_OK && parts == 7)
		status = read_creation(&decoder, request);
	if (status == TDR_OK)
		status = decode_end(&decoder);
	if (status == TDR_OK && request->depth > UINT16_MAX)
		status = error_set(TDR_EPROTO, "a call %llu deep", (unsigned long long)request->depth);
	if (status == TDR_OK && message->type == MESSAGE_REMOTE_CALL && !request->has_creation)
		status = error_set(TDR_EPROTO, "a remote call that creates nothing");
	return status;
}

/* ---- references of a request ---- */

tdr_status request_take_references(struct request *request)
{
	struct peer *peer = request->peer;
	tdr_agent *agent = peer->agent;
	struct rrefs *machine;
	struct rref_owned *owned;
	tdr_status status;

	if (!request->has_target && !request->has_creation)
		return TDR_OK;
	status = references_lock(agent);
	if (status != TDR_OK)
		return status;
	machine = agent->references.machine;
	if (request->has_creation) {
		const struct creation *creation = &request->creation;

		if (creation->number == 0 && link_peer(peer->link)->incarnation == agent->self.incarnation)
			status =
			    rrefs_find(machine, &creation->rref, 0, &owned); /* made by ourselves before the call */
		else
			status = rrefs_create(references_peer(peer), &creation->rref, &creation->fork, creation->number,
			                      &owned);
		if (status == TDR_OK) {
			request->creates = owned_value_of(owned);
			request->creates->taken_up = true;
			refcount_get(&request->creates->memory);
		}
	}
	if (status == TDR_OK && request->has_target) {
		status = rrefs_find(machine, &request->target.rref, request->target.origin, &owned);
		if (status == TDR_OK) {
			request->on = owned_value_of(owned);
			refcount_get(&request->on->memory);
		}
	}
	references_unlock(agent);
	return status;
}

/* The full name of a function that is called on a value by a short one. */
static tdr_status find_method(struct request *request, const tdr_value *value)
{
	const char *type = tdr_value_kind(value) == TDR_TENSOR ? "aten" : tdr_native_type(value);
	char *full;
	size_t room;

	if (memmem(request->name, request->name_size, "::", 2))
		return TDR_OK;
	if (!type)
		return error_set(
		    TDR_ENOFUNCTION, "a value of kind %s has no functions of its own: call '%.*s' by its full name",
		    tdr_kind_name(tdr_value_kind(value)), (int)MIN_OF(request->name_size, (size_t)256), request->name);
	room = strlen(type) + 2 + request->name_size + 1;
	full = malloc(room);
	if (!full)
		return error_nomem();
	memcpy(full, type, strlen(type));
	memcpy(full + strlen(type), "::", 2);
	memcpy(full + strlen(type) + 2, request->name, request->name_size);
	full[room - 1] = '\0';
	free(request->kept_name); /* the short one may be there */
	request->name = request->kept_name = full;
	request->name_size = room - 1;
	return TDR_OK;
}

tdr_status request_put_target_first(struct request *request)
{
	tdr_value *value = tdr_future_value(request->on->value), *args;
	tdr_status status = tdr_future_status(request->on->value);

	if (status != TDR_OK)
		return error_set(status, "%s", tdr_future_error(request->on->value));
	status = find_method(request, value);
	if (status != TDR_OK)
		return status;
	args = tdr_list(1, &(tdr_value *){tdr_value_ref(value)});
	for (size_t i = 0; i < tdr_value_count(request->args); i++)
		(void)tdr_list_append(args, tdr_value_ref(tdr_value_item(request->args, i)));
	tdr_value_unref(request->args);
	request->args = args;
	return tdr_value_status(args);
}

tdr_future *request_gate(const struct request *request)
{
	tdr_agent *agent = request->peer->agent;

	if (likely(!agent->known || tdr_future_done(agent->known)))
		return NULL;
	if (request->name_size == strlen(UPDATE_VIEW) && memcmp(request->name, UPDATE_VIEW, request->name_size) == 0)
		return NULL;
	return agent->known;
}

bool request_has_to_wait(const struct request *request)
{
	if (unlikely(request_gate(request) != NULL))
		return true;
	for (size_t i = 0; i < request->cargo.count; i++)
		if (!tdr_future_done(request->cargo.settling[i]))
			return true;
	return request->on && !tdr_future_done(request->on->value);
}

tdr_status request_keep_name(struct request *request)
{
	if (request->kept_name)
		return TDR_OK;
	request->kept_name = malloc(request->name_size + 1);
	if (!request->kept_name)
		return error_nomem();
	memcpy(request->kept_name, request->name, request->name_size);
	request->kept_name[request->name_size] = '\0';
	request->name = request->kept_name;
	return TDR_OK;
}
