/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member of a group that is written in C, for tests of Python members: it serves functions, calls Python's by name, and keeps
 * and passes on references. Arguments: its name, its rank, the group's size, and the URL to meet at.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tendril.h>

static void must(tdr_status status, const char *what)
{
	if (status == TDR_OK)
		return;
	fprintf(stderr, "%s: %s (%s)\n", what, tdr_last_error(), tdr_status_name(status));
	exit(1);
}

static tdr_status scale(tdr_call *call, void *context)
{
	return tdr_return_float(call, (double)tdr_arg_int(call, 0) * tdr_arg_float(call, 1));
}

static tdr_status echo(tdr_call *call, void *context)
{
	return tdr_return(call, tdr_value_ref(tdr_arg(call, 0)));
}

static tdr_status fail(tdr_call *call, void *context)
{
	return tdr_fail(call, TDR_EINVAL, "there is no layer %d", 7);
}

/* c::call(str worker, str function, Any args, Any kwargs) -> Any */
static tdr_status call_on(tdr_call *call, void *context)
{
	tdr_agent *agent = context;
	tdr_value *kwargs = tdr_arg_is_none(call, 3) ? NULL : tdr_value_ref(tdr_arg(call, 3)), *result;
	tdr_status status = tdr_rpc_sync(agent, tdr_arg_string(call, 0), tdr_arg_string(call, 1),
	                                 tdr_value_ref(tdr_arg(call, 2)), kwargs, &result);

	return status == TDR_OK ? tdr_return(call, result) : tdr_fail(call, status, "%s", tdr_last_error());
}

/* c::remote(str worker, str function, Any args) -> RRef */
static tdr_status remote_on(tdr_call *call, void *context)
{
	tdr_agent *agent = context;
	tdr_rref *rref =
	    tdr_remote(agent, tdr_arg_string(call, 0), tdr_arg_string(call, 1), tdr_value_ref(tdr_arg(call, 2)), NULL);
	tdr_status status = tdr_return(call, tdr_rref_value(rref));

	tdr_rref_unref(rref);
	return status;
}

/* c::fetch(RRef rref) -> Any */
static tdr_status fetch(tdr_call *call, void *context)
{
	tdr_rref *rref;
	tdr_value *value;
	tdr_status status = tdr_value_get_rref(tdr_arg(call, 0), &rref);

	if (status == TDR_OK)
		status = tdr_rref_to_here(rref, TDR_TIMEOUT_DEFAULT, &value);
	return status == TDR_OK ? tdr_return(call, value) : tdr_fail(call, status, "%s", tdr_last_error());
}

struct box {
	int64_t content;
};

static void box_free(void *box)
{
	free(box);
}

/* box::make(int content) -> Any */
static tdr_status box_make(tdr_call *call, void *context)
{
	struct box *box = malloc(sizeof(*box));

	if (!box)
		return TDR_ENOMEM;
	box->content = tdr_arg_int(call, 0);
	return tdr_return(call, tdr_native("box::Box", box, box_free));
}

/* box::add(Any box, int number) -> int */
static tdr_status box_add(tdr_call *call, void *context)
{
	tdr_value *value = tdr_arg(call, 0), *local = NULL;
	tdr_rref *rref;
	void *object;
	tdr_status status;

	if (tdr_value_kind(value) == TDR_RREF) {
		must(tdr_value_get_rref(value, &rref), "reference");
		status = tdr_rref_local_value(rref, TDR_TIMEOUT_NEVER, &local);
		if (status != TDR_OK)
			return tdr_fail(call, status, "%s", tdr_last_error());
		value = local;
	}
	status = tdr_value_get_native(value, "box::Box", &object);
	if (status == TDR_OK) {
		struct box *box = object;

		box->content += tdr_arg_int(call, 1);
		status = tdr_return_int(call, box->content);
	}
	tdr_value_unref(local);
	return status;
}

/* box::Box::add(box::Box self, int number=1) -> int */
static tdr_status box_method(tdr_call *call, void *context)
{
	struct box *box = tdr_arg_native(call, 0);

	box->content += tdr_arg_int(call, 1);
	return tdr_return_int(call, box->content);
}

int main(int argc, char *argv[])
{
	tdr_agent_options options;
	tdr_agent *agent;

	if (argc != 5) {
		fprintf(stderr, "usage: %s NAME RANK SIZE URL\n", argv[0]);
		return 2;
	}
	tdr_agent_options_init(&options);
	options.rank = atoi(argv[2]);
	options.world_size = atoi(argv[3]);
	options.init_method = argv[4];
	options.join_timeout_ms = options.shutdown_timeout_ms = 30000;
	agent = tdr_agent_new(argv[1], &options);
	if (!agent) {
		fprintf(stderr, "%s: %s\n", argv[1], tdr_last_error());
		return 1;
	}
	must(tdr_register(agent, "c::scale(int a, float b=2.0) -> float", scale, NULL, TDR_FUNCTION_INLINE), "scale");
	must(tdr_register(agent, "c::echo(Any value) -> Any", echo, NULL, TDR_FUNCTION_INLINE), "echo");
	must(tdr_register(agent, "c::fail()", fail, NULL, 0), "fail");
	must(tdr_register(agent, "c::call(str worker, str function, Any args, Any kwargs=None) -> Any", call_on, agent,
	                  0),
	     "call");
	must(tdr_register(agent, "c::remote(str worker, str function, Any args) -> RRef", remote_on, agent, 0),
	     "remote");
	must(tdr_register(agent, "c::fetch(RRef rref) -> Any", fetch, NULL, 0), "fetch");
	must(tdr_register(agent, "box::make(int content) -> Any", box_make, NULL, 0), "make");
	must(tdr_register(agent, "box::add(Any box, int number) -> int", box_add, NULL, 0), "add");
	must(tdr_register(agent, "box::Box::add(box::Box self, int number=1) -> int", box_method, NULL, 0), "method");
	must(tdr_join(agent), "join");
	must(tdr_shutdown(agent, NULL), "shutdown");
	return 0;
}
