/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schemas from their text:
 *
 *     schema    = name "(" ["..." | parameter {"," parameter}] ")" ["->" type [word]]
 *     name      = word {"::" word} ["." word | "::" "*"]
 *     parameter = "*" | type word ["=" literal]
 *
 * After a parameter with a default every one that can be given by position has one too, as in Python.
 */
#include "function/parser.h"

#include "base/error.h"
#include "base/macros.h"

#include <stdlib.h>
#include <string.h>

struct schema *schema_free(struct schema *schema)
{
	if (!schema)
		return NULL;
	for (size_t i = 0; i < schema->nparameters; i++) {
		struct parameter *parameter = &schema->parameters[i];

		free(parameter->name);
		type_fini(&parameter->type);
		tdr_value_unref(parameter->initial);
	}
	free(schema->parameters);
	type_fini(&schema->returns);
	free(schema->name);
	free(schema->text);
	free(schema);
	return NULL;
}

static tdr_status parse_name(struct parser *parser, struct schema *schema)
{
	const char *start, *word = NULL;
	size_t size, spaceless;

	(void)parser_peek(parser);
	start = parser->at;
	do {
		if (word && parser_take(parser, "*")) {
			schema->wildcard = true;
			word = parser->at - 1;
			size = 1;
			break;
		}
		if (!parser_word(parser, &word, &size))
			return parser_expected(parser, "a name, as in 'space::name(...)'");
	} while (parser_take(parser, "::"));
	if (!schema->wildcard && parser_take(parser, ".") && !parser_word(parser, &word, &size))
		return parser_expected(parser, "the name of an overload");
	size = (size_t)(word + size - start);
	spaceless = strcspn(start, " \t\n\v\f\r");
	if (spaceless < size)
		return parser_fail(parser, start + spaceless, "a space inside the function's name");
	schema->name = strndup(start, size);
	return schema->name ? TDR_OK : error_nomem();
}

/* The default after `=`, converted to the parameter's type. */
static tdr_status parse_initial(struct parser *parser, struct parameter *parameter)
{
	const char *at;
	tdr_value *value;
	tdr_status status;

	(void)parser_peek(parser);
	at = parser->at;
	status = parse_literal(parser, &value);
	if (status != TDR_OK)
		return status;
	status = type_convert(&parameter->type, "", value, &parameter->initial);
	if (status == TDR_ETYPE)
		return parser_fail(parser, at, "the default of '%s'%s", parameter->name, tdr_last_error());
	return status;
}

static tdr_status parse_parameter(struct parser *parser, struct schema *schema, bool keyword_only)
{
	struct parameter *parameters, *parameter;
	const char *word;
	tdr_status status;
	size_t size;

	if (schema->nparameters == SCHEMA_MAX_PARAMETERS)
		return parser_fail(parser, parser->at, "more than %d parameters", SCHEMA_MAX_PARAMETERS);
	parameters = realloc(schema->parameters, (schema->nparameters + 1) * sizeof(*parameters));
	if (!parameters)
		return error_nomem();
	schema->parameters = parameters;
	parameter = &parameters[schema->nparameters++];
	*parameter = (struct parameter){.keyword_only = keyword_only};

	status = parse_type(parser, false, &parameter->type);
	if (status != TDR_OK)
		return status;
	if (!parser_word(parser, &word, &size))
		return parser_expected(parser, "the parameter's name");
	for (size_t i = 0; i + 1 < schema->nparameters; i++)
		if (word_is(word, size, parameters[i].name))
			return parser_fail(parser, word, "two parameters are named '%s'", parameters[i].name);
	parameter->name = strndup(word, size);
	if (!parameter->name)
		return error_nomem();
	if (parser_take(parser, "="))
		return parse_initial(parser, parameter);
	if (!keyword_only && schema->nparameters > 1 && parameters[schema->nparameters - 2].initial)
		return parser_fail(parser, word, "'%s' needs a default, since the parameter before it has one",
		                   parameter->name);
	return TDR_OK;
}

/* What "(...)" stands for. */
static tdr_status make_variadic(struct schema *schema)
{
	static const char *const names[] = {"args", "kwargs"};

	schema->variadic = true;
	schema->parameters = calloc(COUNT_OF(names), sizeof(*schema->parameters));
	if (!schema->parameters)
		return error_nomem();
	for (; schema->nparameters < COUNT_OF(names); schema->nparameters++) {
		struct parameter *parameter = &schema->parameters[schema->nparameters];

		parameter->name = strdup(names[schema->nparameters]);
		if (!parameter->name)
			return error_nomem();
	}
	schema->npositional = schema->nparameters;
	return TDR_OK;
}

static tdr_status parse_parameters(struct parser *parser, struct schema *schema)
{
	bool keyword_only = false;
	tdr_status status = parser_need(parser, "(");

	if (status != TDR_OK || parser_take(parser, ")"))
		return status;
	if (parser_take(parser, "...")) {
		status = parser_need(parser, ")");
		return status == TDR_OK ? make_variadic(schema) : status;
	}
	do {
		if (!keyword_only && parser_take(parser, "*")) {
			keyword_only = true;
			status = parser_need(parser, ",");
			if (status != TDR_OK)
				return status;
		}
		status = parse_parameter(parser, schema, keyword_only);
		if (status != TDR_OK)
			return status;
		schema->npositional += !keyword_only;
	} while (parser_take(parser, ","));
	return parser_take(parser, ")") ? TDR_OK : parser_expected(parser, "',' or ')'");
}

/* (T) alone stands for T, as in PyTorch; (T)[] is a list of tuples all the same. */
static void unwrap_single(struct type *returns)
{
	struct type *items = returns->items;

	if (returns->kind == TYPE_TUPLE && returns->nitems == 1) {
		*returns = items[0];
		free(items);
	}
}

static tdr_status parse_returns(struct parser *parser, struct schema *schema)
{
	const char *name;
	tdr_status status;
	size_t size;

	if (parser_take(parser, "->")) {
		status = parse_type(parser, true, &schema->returns);
		if (status != TDR_OK)
			return status;
		unwrap_single(&schema->returns);
		(void)parser_word(parser, &name, &size);
		return parser_peek(parser) ? parser_expected(parser, "the end") : TDR_OK;
	}
	return parser_peek(parser) ? parser_expected(parser, "'->' or the end") : TDR_OK;
}

tdr_status schema_parse(const char *text, struct schema **ret_schema)
{
	struct parser parser = {.text = text, .at = text};
	struct schema *schema;
	tdr_status status;

	if (!text)
		return error_set(TDR_EINVAL,
		                 "a function needs a schema, such as 'ps::push(Tensor grad) -> int', not NULL");
	if (strnlen(text, SCHEMA_MAX_TEXT + 1) > SCHEMA_MAX_TEXT)
		return error_set(TDR_EINVAL, "a schema of more than %d bytes: '%.60s...'", SCHEMA_MAX_TEXT, text);
	schema = calloc(1, sizeof(*schema));
	if (!schema)
		return error_nomem();
	schema->text = strdup(text);
	status = schema->text ? parse_name(&parser, schema) : error_nomem();
	if (status == TDR_OK)
		status = parse_parameters(&parser, schema);
	if (status == TDR_OK)
		status = parse_returns(&parser, schema);
	if (status != TDR_OK) {
		schema_free(schema);
		return status;
	}
	*ret_schema = schema;
	return TDR_OK;
}
