/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The types of the schema language:
 *
 *     type   = (word | native | "Dict" "(" type "," type ")" | "(" [type {"," type}] ")") {suffix}
 *     native = word "::" word {"::" word}
 *     suffix = "[]" | "[" number "]" | "?" | "(" alias ")"
 *
 * An alias annotation, as in Tensor(a!), is PyTorch's note of which arguments share memory; it is read and dropped.
 */
#include "function/parser.h"

#include "base/error.h"
#include "base/macros.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ITEMS 255     /* of a tuple */
#define MAX_LENGTH 1024UL /* of N in T[N] */

static const struct {
	const char *name;
	enum type_kind kind;
} words[] = {
    {"Any", TYPE_ANY},         {"Tensor", TYPE_TENSOR}, {"int", TYPE_INT},       {"float", TYPE_FLOAT},
    {"complex", TYPE_COMPLEX}, {"bool", TYPE_BOOL},     {"str", TYPE_STRING},    {"bytes", TYPE_BYTES},
    {"Device", TYPE_DEVICE},   {"RRef", TYPE_RREF},     {"Scalar", TYPE_SCALAR}, {"None", TYPE_TUPLE},
};

static tdr_status parse_nested(struct parser *parser, size_t depth, bool named, struct type *type);

/* Makes room for one more item, which is Any so far. NULL when memory runs out. */
static struct type *add_item(struct type *type)
{
	struct type *items = realloc(type->items, (type->nitems + 1) * sizeof(*items));

	if (!items)
		return NULL;
	type->items = items;
	items[type->nitems] = (struct type){.kind = TYPE_ANY};
	return &items[type->nitems++];
}

static tdr_status wrap(struct type *type, enum type_kind kind, size_t length)
{
	struct type *inner = malloc(sizeof(*inner));

	if (!inner)
		return error_nomem();
	*inner = *type;
	*type = (struct type){.kind = kind, .nitems = 1, .items = inner, .length = length};
	return TDR_OK;
}

/* Types up to the closing parenthesis, after the opening parenthesis. */
static tdr_status parse_items(struct parser *parser, size_t depth, bool named, struct type *type)
{
	const char *name;
	size_t size;

	while (!parser_take(parser, ")")) {
		struct type *item;
		tdr_status status;

		if (type->nitems > 0 && !parser_take(parser, ","))
			return parser_expected(parser, "',' or ')'");
		if (type->nitems == MAX_ITEMS)
			return parser_fail(parser, parser->at, "more than %d types in one tuple", MAX_ITEMS);
		item = add_item(type);
		if (!item)
			return error_nomem();
		status = parse_nested(parser, depth + 1, false, item);
		if (status != TDR_OK)
			return status;
		if (named)
			(void)parser_word(parser, &name, &size);
	}
	return TDR_OK;
}

static tdr_status parse_dict(struct parser *parser, size_t depth, struct type *type)
{
	tdr_status status = parser_need(parser, "(");
	const char *at = parser->at;

	type->kind = TYPE_DICT;
	if (status == TDR_OK)
		status = parse_items(parser, depth, false, type);
	if (status != TDR_OK)
		return status;
	if (type->nitems != 2)
		return parser_fail(parser, at, "expected Dict(K, V), found %zu types", type->nitems);
	switch (type->items[0].kind) {
	case TYPE_TENSOR:
	case TYPE_NATIVE:
	case TYPE_LIST:
	case TYPE_DICT:
		return parser_fail(parser, at, "a tensor, native object, list or dict cannot be the key of a dict");
	default:
		return TDR_OK;
	}
}

/* The rest of a native type's name, which began at `start`. */
static tdr_status parse_native(struct parser *parser, const char *start, struct type *type)
{
	const char *word;
	size_t size;

	do {
		if (!parser_word(parser, &word, &size))
			return parser_expected(parser, "the rest of a type's name, as in 'space::Type'");
	} while (parser_take(parser, "::"));
	size = (size_t)(word + size - start);
	for (size_t i = 0; i < size; i++)
		if (start[i] == ' ' || (start[i] >= '\t' && start[i] <= '\r'))
			return parser_fail(parser, start + i, "a space inside a type's name");
	type->kind = TYPE_NATIVE;
	type->name = strndup(start, size);
	return type->name ? TDR_OK : error_nomem();
}

static tdr_status parse_base(struct parser *parser, size_t depth, bool named, struct type *type)
{
	const char *word;
	const char *at;
	size_t size;

	if (parser_take(parser, "(")) {
		type->kind = TYPE_TUPLE;
		return parse_items(parser, depth, named, type);
	}
	(void)parser_peek(parser);
	at = parser->at;
	if (parser_word(parser, &word, &size)) {
		if (word_is(word, size, "Dict"))
			return parse_dict(parser, depth, type);
		for (size_t i = 0; i < COUNT_OF(words); i++) {
			if (word_is(word, size, words[i].name)) {
				type->kind = words[i].kind;
				return TDR_OK;
			}
		}
		if (parser_take(parser, "::"))
			return parse_native(parser, at, type);
	}
	parser->at = at;
	return parser_expected(parser, "a type");
}

/* N of T[N], after the opening bracket; 0 where there is none. */
static tdr_status parse_length(struct parser *parser, size_t *ret_length)
{
	size_t length = 0;

	if (parser_take(parser, "]")) {
		*ret_length = 0;
		return TDR_OK;
	}
	if (parser_peek(parser) < '1' || *parser->at > '9')
		return parser_expected(parser, "']' or a number of items");
	for (; *parser->at >= '0' && *parser->at <= '9'; parser->at++) {
		length = length * 10 + (size_t)(*parser->at - '0');
		if (length > MAX_LENGTH)
			return parser_fail(parser, parser->at, "a list of more than %lu items", MAX_LENGTH);
	}
	*ret_length = length;
	return parser_need(parser, "]");
}

/* Names or `*`, between `|`. */
static tdr_status parse_alias_set(struct parser *parser)
{
	const char *word;
	size_t size;

	do {
		if (!parser_take(parser, "*") && !parser_word(parser, &word, &size))
			return parser_expected(parser, "the name of an alias set");
	} while (parser_take(parser, "|"));
	return TDR_OK;
}

/* (a), (a!), (a|b), (a -> *), (a! -> a|b): after the opening parenthesis. */
static tdr_status parse_alias(struct parser *parser)
{
	tdr_status status = parse_alias_set(parser);

	if (status != TDR_OK)
		return status;
	(void)parser_take(parser, "!");
	if (parser_take(parser, "->")) {
		status = parse_alias_set(parser);
		if (status != TDR_OK)
			return status;
	}
	return parser_need(parser, ")");
}

/* Reads one suffix; *ret_found is false where none comes. */
static tdr_status parse_suffix(struct parser *parser, struct type *type, bool *ret_found)
{
	const char *at = parser->at;
	tdr_status status = TDR_OK;
	size_t length = 0;

	*ret_found = true;
	if (parser_take(parser, "[")) {
		status = parse_length(parser, &length);
		if (status == TDR_OK)
			status = wrap(type, TYPE_LIST, length);
	} else if (parser_take(parser, "?")) {
		if (type->kind == TYPE_OPTIONAL)
			return parser_fail(parser, parser->at - 1, "'?' twice");
		status = wrap(type, TYPE_OPTIONAL, 0);
	} else if (parser_take(parser, "(")) {
		status = parse_alias(parser);
	} else {
		*ret_found = false;
	}
	if (status == TDR_OK && type_depth(type) > SCHEMA_MAX_DEPTH)
		return parser_fail(parser, at, "more than %d types inside each other", SCHEMA_MAX_DEPTH);
	return status;
}

static tdr_status parse_nested(struct parser *parser, size_t depth, bool named, struct type *type)
{
	bool found = true;
	tdr_status status;

	if (depth > SCHEMA_MAX_DEPTH)
		return parser_fail(parser, parser->at, "more than %d types inside each other", SCHEMA_MAX_DEPTH);
	status = parse_base(parser, depth, named, type);
	while (status == TDR_OK && found)
		status = parse_suffix(parser, type, &found);
	return status;
}

tdr_status parse_type(struct parser *parser, bool named, struct type *type)
{
	return parse_nested(parser, 1, named, type);
}
