/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of a schema's text, and errors that show where in it they are. */
#include "function/parser.h"

#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the text that an error quotes at most, and how many of them stand before the place. */
#define QUOTE_SIZE 160
#define QUOTE_BEFORE 80

/* The language is ASCII whatever the program's locale: <ctype.h> would ask that. */
static bool is_space(char byte)
{
	return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static bool is_word(char byte, bool first)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' ||
	       (!first && byte >= '0' && byte <= '9');
}

static void skip_space(struct parser *parser)
{
	while (is_space(*parser->at))
		parser->at++;
}

/* Writes the part of the text around `at`, on one line. */
static void quote(const struct parser *parser, const char *at, char buffer[QUOTE_SIZE + 8])
{
	size_t size = strlen(parser->text);
	size_t column = (size_t)(at - parser->text);
	size_t start = size > QUOTE_SIZE && column > QUOTE_BEFORE ? column - QUOTE_BEFORE : 0;
	size_t shown = size - start > QUOTE_SIZE ? QUOTE_SIZE : size - start;

	snprintf(buffer, QUOTE_SIZE + 8, "%s%.*s%s", start > 0 ? "..." : "", (int)shown, parser->text + start,
	         start + shown < size ? "..." : "");
	for (char *byte = buffer; *byte; byte++)
		if ((unsigned char)*byte < ' ')
			*byte = ' ';
}

void parser_fail_text(const struct parser *parser, const char *at, const char *format, ...)
{
	char text[QUOTE_SIZE + 8];
	char words[ERROR_TEXT_SIZE / 2];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(words, sizeof(words), format, arguments);
	va_end(arguments);
	quote(parser, at, text);
	error_set(TDR_EINVAL, "column %zu of '%s': %s", (size_t)(at - parser->text) + 1, text, words);
}

tdr_status parser_expected(struct parser *parser, const char *what)
{
	const char *at, *word;
	size_t size;

	skip_space(parser);
	at = parser->at;
	if (!*at)
		return parser_fail(parser, at, "expected %s, found the end", what);
	if (!parser_word(parser, &word, &size))
		size = 1;
	if ((unsigned char)*at < ' ' || (unsigned char)*at >= 0x7f)
		return parser_fail(parser, at, "expected %s, found byte 0x%02x", what, (unsigned char)*at);
	return parser_fail(parser, at, "expected %s, found '%.*s'", what, (int)(size < 64 ? size : 64), at);
}

char parser_peek(struct parser *parser)
{
	skip_space(parser);
	return *parser->at;
}

bool parser_take(struct parser *parser, const char *symbol)
{
	size_t size = strlen(symbol);

	skip_space(parser);
	if (strncmp(parser->at, symbol, size) != 0)
		return false;
	parser->at += size;
	return true;
}

tdr_status parser_need(struct parser *parser, const char *symbol)
{
	char what[16];

	if (parser_take(parser, symbol))
		return TDR_OK;
	snprintf(what, sizeof(what), "'%s'", symbol);
	return parser_expected(parser, what);
}

bool parser_word(struct parser *parser, const char **ret_word, size_t *ret_size)
{
	const char *start;

	skip_space(parser);
	start = parser->at;
	if (!is_word(*start, true))
		return false;
	while (is_word(*parser->at, false))
		parser->at++;
	*ret_word = start;
	*ret_size = (size_t)(parser->at - start);
	return true;
}

bool word_is(const char *word, size_t size, const char *text)
{
	return strlen(text) == size && memcmp(word, text, size) == 0;
}
