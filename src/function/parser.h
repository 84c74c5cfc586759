/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tokens that a schema's text is read by, and its two sub-languages, types and default values. Inside
 * src/function only.
 *
 * Every reader skips white space before what it reads, moves `at` past what it has read, and leaves it where it found
 * nothing.
 */
#ifndef TENDRIL_FUNCTION_PARSER_H
#define TENDRIL_FUNCTION_PARSER_H

#include "function/schema.h"

struct parser {
	const char *text; /* the whole, for errors */
	const char *at;
};

/* Keeps "column N of 'text': ..." for the place `at`, which is in the text, and is TDR_EINVAL. */
#define parser_fail(...) (parser_fail_text(__VA_ARGS__), TDR_EINVAL)

void parser_fail_text(const struct parser *parser, const char *at, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

/* TDR_EINVAL with "column N of 'text': expected ..., found ..." for what comes next. */
tdr_status parser_expected(struct parser *parser, const char *what) __attribute__((cold));

/* The next byte that is no white space; 0 at the end. It stays unread. */
char parser_peek(struct parser *parser);

/* Reads `symbol` if it comes next. */
bool parser_take(struct parser *parser, const char *symbol);

/* Reads `symbol`, or fails. */
tdr_status parser_need(struct parser *parser, const char *symbol);

/* Reads an identifier if one comes next. Borrowed from the text. */
bool parser_word(struct parser *parser, const char **ret_word, size_t *ret_size);

/* Whether a word of `size` bytes is `text`. */
bool word_is(const char *word, size_t size, const char *text);

/*
 * Reads a type into `type`, which is Any before; type_fini frees it also after a failure. In a tuple, and only in the
 * outermost one, `named` allows names: "(Tensor values, Tensor indices)".
 */
tdr_status parse_type(struct parser *parser, bool named, struct type *type);

/* Reads a default value: a literal as Python writes it. One that memory ran out for is of kind TDR_INVALID. */
tdr_status parse_literal(struct parser *parser, tdr_value **ret_value);

#endif
