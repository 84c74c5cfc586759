/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments put in the order of a schema's parameters, with errors that read as Python's do. */
#include "function/schema.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

/* Room for the names of missing arguments. */
#define MISSING_SIZE 256

#define NOT_POSITIONAL SIZE_MAX

/* Converts the argument for parameter `index`, given at `position` or by its name. */
static tdr_status bind_one(const struct schema *schema, size_t index, size_t position, tdr_value *value,
                           tdr_value *ret_bound[])
{
	const struct parameter *parameter = &schema->parameters[index];
	tdr_status status = type_convert(&parameter->type, "", tdr_value_ref(value), &ret_bound[index]);
	const char *problem = tdr_last_error();

	if (status != TDR_ETYPE)
		return status;
	if (position == NOT_POSITIONAL || problem[0] == '[')
		return error_set(status, "%s(): argument '%s'%s", schema->name, parameter->name, problem);
	return error_set(status, "%s(): argument '%s' (position %zu)%s", schema->name, parameter->name, position + 1,
	                 problem);
}

/* Of arguments of kind TDR_INVALID: why there are none. */
static tdr_status no_arguments(const struct schema *schema, const tdr_value *value)
{
	tdr_status status = tdr_value_status(value);

	return error_set(status, "%s(): the arguments could not be made: %s", schema->name, tdr_status_text(status));
}

static tdr_status bind_args(const struct schema *schema, const tdr_value *args, tdr_value *ret_bound[])
{
	tdr_kind kind = tdr_value_kind(args);
	size_t count = tdr_value_count(args);
	tdr_status status = TDR_OK;

	if (kind == TDR_INVALID)
		return no_arguments(schema, args);
	if (kind != TDR_TUPLE && kind != TDR_LIST)
		return error_set(TDR_ETYPE, "%s() takes its positional arguments in a tuple or list, not in %s",
		                 schema->name, tdr_kind_name(kind));
	if (count > schema->npositional)
		return error_set(TDR_ETYPE, "%s() takes %zu positional argument%s but %zu %s given", schema->name,
		                 schema->npositional, schema->npositional == 1 ? "" : "s", count,
		                 count == 1 ? "was" : "were");
	for (size_t i = 0; status == TDR_OK && i < count; i++)
		status = bind_one(schema, i, i, tdr_value_item(args, i), ret_bound);
	return status;
}

/* The index of the parameter of that name; nparameters where there is none. */
static size_t find_parameter(const struct schema *schema, const char *name, size_t size)
{
	size_t i;

	for (i = 0; i < schema->nparameters; i++) {
		const char *known = schema->parameters[i].name;

		if (strlen(known) == size && memcmp(known, name, size) == 0)
			break;
	}
	return i;
}

static tdr_status bind_kwargs(const struct schema *schema, const tdr_value *kwargs, tdr_value *ret_bound[])
{
	tdr_kind kind = tdr_value_kind(kwargs);
	tdr_status status = TDR_OK;

	if (kind == TDR_INVALID)
		return no_arguments(schema, kwargs);
	if (kind != TDR_DICT)
		return error_set(TDR_ETYPE, "%s() takes its keyword arguments in a dict, not in %s", schema->name,
		                 tdr_kind_name(kind));
	for (size_t i = 0; status == TDR_OK && i < tdr_value_count(kwargs); i++) {
		const tdr_value *key = tdr_dict_key(kwargs, i);
		const char *name;
		size_t size, index;

		if (tdr_value_kind(key) != TDR_STRING)
			return error_set(TDR_ETYPE, "%s(): keywords must be str, not %s", schema->name,
			                 tdr_kind_name(tdr_value_kind(key)));
		status = tdr_value_get_string(key, &name, &size);
		if (status != TDR_OK)
			return status;
		index = find_parameter(schema, name, size);
		if (index == schema->nparameters)
			return error_set(TDR_ETYPE, "%s() got an unknown argument '%.100s'", schema->name, name);
		if (ret_bound[index])
			return error_set(TDR_ETYPE, "%s() got argument '%s' twice", schema->name, name);
		status = bind_one(schema, index, NOT_POSITIONAL, tdr_dict_value(kwargs, i), ret_bound);
	}
	return status;
}

/* Fills in the defaults; arguments that have none are missing. */
static tdr_status bind_defaults(const struct schema *schema, tdr_value *ret_bound[])
{
	char missing[MISSING_SIZE] = "";
	size_t nmissing = 0, used = 0;

	for (size_t i = 0; i < schema->nparameters; i++) {
		const struct parameter *parameter = &schema->parameters[i];

		if (ret_bound[i])
			continue;
		if (parameter->initial) {
			ret_bound[i] = tdr_value_ref(parameter->initial);
			continue;
		}
		if (used < sizeof(missing))
			used += (size_t)snprintf(missing + used, sizeof(missing) - used, "%s'%s'",
			                         nmissing > 0 ? ", " : "", parameter->name);
		nmissing++;
	}
	if (nmissing > 0)
		return error_set(TDR_ETYPE, "%s() is missing argument%s %s", schema->name, nmissing == 1 ? "" : "s",
		                 missing);
	return TDR_OK;
}

/* Args and kwargs as they come, as the two arguments of a variadic function. */
static tdr_status bind_all(const struct schema *schema, tdr_value *args, tdr_value *kwargs, tdr_value *ret_bound[])
{
	tdr_kind kind = args ? tdr_value_kind(args) : TDR_TUPLE;

	if (kind == TDR_INVALID)
		return no_arguments(schema, args);
	if (kwargs && tdr_value_kind(kwargs) == TDR_INVALID)
		return no_arguments(schema, kwargs);
	if (kind != TDR_TUPLE && kind != TDR_LIST)
		return error_set(TDR_ETYPE, "%s() takes its positional arguments in a tuple or list, not in %s",
		                 schema->name, tdr_kind_name(kind));
	if (kwargs && tdr_value_kind(kwargs) != TDR_DICT)
		return error_set(TDR_ETYPE, "%s() takes its keyword arguments in a dict, not in %s", schema->name,
		                 tdr_kind_name(tdr_value_kind(kwargs)));
	ret_bound[0] = args ? tdr_value_ref(args) : tdr_tuple(0, NULL);
	ret_bound[1] = kwargs ? tdr_value_ref(kwargs) : tdr_dict_new();
	return TDR_OK;
}

tdr_status schema_bind(const struct schema *schema, tdr_value *args, tdr_value *kwargs, tdr_value *ret_bound[])
{
	tdr_status status = TDR_OK;

	if (schema->variadic)
		return bind_all(schema, args, kwargs, ret_bound);
	for (size_t i = 0; i < schema->nparameters; i++)
		ret_bound[i] = NULL;
	if (args)
		status = bind_args(schema, args, ret_bound);
	if (status == TDR_OK && kwargs)
		status = bind_kwargs(schema, kwargs, ret_bound);
	if (status == TDR_OK)
		status = bind_defaults(schema, ret_bound);
	if (status != TDR_OK)
		for (size_t i = 0; i < schema->nparameters; i++)
			ret_bound[i] = tdr_value_unref(ret_bound[i]);
	return status;
}
