/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Default values in schemas, as Python writes them: None, True, False, numbers (inf, nan and complex ones like 1+2j
 * too), strings, bytes such as b"\x00", and lists of those. Whether a value fits its parameter's type is checked
 * elsewhere.
 */
#include "function/parser.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/utf8.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NUMBER 64 /* bytes of one number */

struct number {
	enum {
		NUMBER_INT,
		NUMBER_FLOAT,
		NUMBER_IMAGINARY
	} form;
	int64_t integer;
	double real; /* also the imaginary part */
};

static tdr_status parse_nested(struct parser *parser, size_t depth, tdr_value **ret_value);

/* ---- numbers ---- */

static bool is_digit(char byte)
{
	return byte >= '0' && byte <= '9';
}

static const char *skip_digits(const char *at)
{
	while (is_digit(*at))
		at++;
	return at;
}

/* The end of the decimal number at `at`, which begins after any sign; `at` itself where there is none. */
static const char *scan_decimal(const char *at, bool *ret_float)
{
	const char *end = skip_digits(at);
	bool digits = end > at;

	*ret_float = false;
	if (*end == '.') {
		const char *fraction = skip_digits(end + 1);

		digits |= fraction > end + 1;
		*ret_float = true;
		end = fraction;
	}
	if (!digits)
		return at;
	if (*end == 'e' || *end == 'E') {
		const char *exponent = end + 1 + (end[1] == '+' || end[1] == '-');

		if (is_digit(*exponent)) {
			*ret_float = true;
			end = skip_digits(exponent);
		}
	}
	return end;
}

/* strtod with a decimal point whatever the program's locale. */
static double read_double(const char *text)
{
	locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	double number;

	if (!plain)
		return strtod(text, NULL);
	number = strtod_l(text, NULL, plain);
	freelocale(plain);
	return number;
}

/* Reads a number, its sign included; *ret_found is false where none comes. */
static tdr_status parse_number(struct parser *parser, struct number *number, bool *ret_found)
{
	char first = parser_peek(parser);
	const char *start = parser->at;
	const char *digits = start + (first == '-' || first == '+');
	char text[MAX_NUMBER];
	bool is_float;
	const char *end = scan_decimal(digits, &is_float);

	*ret_found = true;
	if (end == digits) {
		if (strncmp(digits, "inf", 3) != 0 && strncmp(digits, "nan", 3) != 0) {
			*ret_found = false;
			return TDR_OK;
		}
		end = digits + 3;
		is_float = true;
	}
	if ((size_t)(end - start) >= sizeof(text))
		return parser_fail(parser, start, "a number of more than %d characters", MAX_NUMBER - 1);
	memcpy(text, start, (size_t)(end - start));
	text[end - start] = '\0';
	parser->at = end;
	number->form = is_float ? NUMBER_FLOAT : NUMBER_INT;
	number->real = read_double(text);
	if (*end == 'j') {
		parser->at++;
		number->form = NUMBER_IMAGINARY;
	} else if (!is_float) {
		errno = 0;
		number->integer = strtoll(text, NULL, 10);
		if (errno == ERANGE)
			return parser_fail(parser, start, "an int that does not fit 64 bits");
	}
	return TDR_OK;
}

/* A number, or the two of a complex one. */
static tdr_status parse_numeric(struct parser *parser, tdr_value **ret_value)
{
	struct number first, second;
	tdr_status status;
	const char *at;
	bool found;
	char sign;

	status = parse_number(parser, &first, &found);
	if (status != TDR_OK)
		return status;
	if (!found)
		return parser_expected(parser, "a default value");
	if (first.form == NUMBER_IMAGINARY) {
		*ret_value = tdr_complex(0, first.real);
		return TDR_OK;
	}
	sign = parser_peek(parser);
	at = parser->at;
	if (sign == '+' || sign == '-') {
		char next;

		parser->at++;
		next = parser_peek(parser);
		found = false;
		if (next != '+' && next != '-')
			status = parse_number(parser, &second, &found);
		if (status != TDR_OK)
			return status;
		if (!found || second.form != NUMBER_IMAGINARY)
			return parser_fail(parser, at,
			                   "expected the imaginary part of a complex number, such as '%c1j'", sign);
		*ret_value = tdr_complex(first.real, sign == '-' ? -second.real : second.real);
		return TDR_OK;
	}
	*ret_value = first.form == NUMBER_INT ? tdr_int(first.integer) : tdr_float(first.real);
	return TDR_OK;
}

/* ---- strings ---- */

static int hex_digit(char byte)
{
	if (is_digit(byte))
		return byte - '0';
	if (byte >= 'a' && byte <= 'f')
		return byte - 'a' + 10;
	if (byte >= 'A' && byte <= 'F')
		return byte - 'A' + 10;
	return -1;
}

static void append_byte(struct buffer *out, unsigned byte)
{
	uint8_t small = (uint8_t)byte;

	buffer_append(out, &small, 1);
}

/* A code point below 0x10000 as UTF-8. */
static void append_utf8(struct buffer *out, unsigned code)
{
	if (code < 0x80) {
		append_byte(out, code);
	} else if (code < 0x800) {
		append_byte(out, 0xc0 | code >> 6);
		append_byte(out, 0x80 | (code & 0x3f));
	} else {
		append_byte(out, 0xe0 | code >> 12);
		append_byte(out, 0x80 | (code >> 6 & 0x3f));
		append_byte(out, 0x80 | (code & 0x3f));
	}
}

/* What follows a backslash: \n and its kin, \xhh (of a str a code point, of bytes a byte), \uhhhh. */
static tdr_status parse_escape(struct parser *parser, bool is_bytes, struct buffer *out)
{
	static const char names[] = "abfnrtv0\\'\"";
	static const char meanings[] = "\a\b\f\n\r\t\v\0\\'\"";
	const char *start = parser->at - 1;
	char name = *parser->at++;
	const char *known = name ? strchr(names, name) : NULL;
	int digits = name == 'x' ? 2 : name == 'u' && !is_bytes ? 4 : 0;
	unsigned code = 0;

	if (known) {
		append_byte(out, (unsigned char)meanings[known - names]);
		return TDR_OK;
	}
	for (int i = 0; i < digits; i++) {
		int digit = hex_digit(*parser->at);

		if (digit < 0)
			return parser_fail(parser, start, "'\\%c' needs %d hexadecimal digits", name, digits);
		code = code << 4 | (unsigned)digit;
		parser->at++;
	}
	if (digits == 0)
		return parser_fail(parser, start, "unknown escape; write '\\\\' for a backslash");
	if (is_bytes)
		append_byte(out, code);
	else
		append_utf8(out, code);
	return TDR_OK;
}

/* After the opening quote, up to the same one. */
static tdr_status parse_string(struct parser *parser, char quote, bool is_bytes, tdr_value **ret_value)
{
	const char *start = parser->at - 1;
	struct buffer out = {0};
	tdr_status status = TDR_OK;
	const char *data;

	while (status == TDR_OK && *parser->at != quote) {
		char byte = *parser->at;

		if (!byte) {
			status = parser_fail(parser, start, "a string without its closing %c", quote);
		} else if (byte == '\\') {
			parser->at++;
			status = parse_escape(parser, is_bytes, &out);
		} else {
			append_byte(&out, (unsigned char)byte);
			parser->at++;
		}
	}
	if (status == TDR_OK && out.failed)
		status = error_nomem();
	data = out.data ? (const char *)out.data : "";
	if (status == TDR_OK && !is_bytes && !utf8_valid(data, out.size))
		status = parser_fail(parser, start, "a string that is not UTF-8; write b\"...\" for bytes");
	if (status == TDR_OK) {
		parser->at++;
		*ret_value = is_bytes ? tdr_bytes(data, out.size) : tdr_string_n(data, out.size);
	}
	buffer_fini(&out);
	return status;
}

/* ---- the whole ---- */

/* After the opening bracket. */
static tdr_status parse_list(struct parser *parser, size_t depth, tdr_value **ret_value)
{
	tdr_value *list = tdr_list(0, NULL);
	tdr_status status = TDR_OK;
	bool first = true;

	while (status == TDR_OK && !parser_take(parser, "]")) {
		tdr_value *item = NULL;

		if (!first && !parser_take(parser, ",")) {
			status = parser_expected(parser, "',' or ']'");
			break;
		}
		first = false;
		status = parse_nested(parser, depth + 1, &item);
		if (status == TDR_OK)
			status = tdr_list_append(list, item);
	}
	if (status != TDR_OK) {
		tdr_value_unref(list);
		return status;
	}
	*ret_value = list;
	return TDR_OK;
}

static tdr_status parse_nested(struct parser *parser, size_t depth, tdr_value **ret_value)
{
	char first = parser_peek(parser);
	const char *start = parser->at;
	const char *word;
	size_t size;

	if (depth > SCHEMA_MAX_DEPTH)
		return parser_fail(parser, start, "more than %d lists inside each other", SCHEMA_MAX_DEPTH);
	if (first == '[') {
		parser->at++;
		return parse_list(parser, depth, ret_value);
	}
	if (first == '"' || first == '\'') {
		parser->at++;
		return parse_string(parser, first, false, ret_value);
	}
	if (first == 'b' && (start[1] == '"' || start[1] == '\'')) {
		parser->at += 2;
		return parse_string(parser, start[1], true, ret_value);
	}
	if (parser_word(parser, &word, &size)) {
		if (word_is(word, size, "None")) {
			*ret_value = tdr_none();
			return TDR_OK;
		}
		if (word_is(word, size, "True") || word_is(word, size, "False")) {
			*ret_value = tdr_bool(*word == 'T');
			return TDR_OK;
		}
		parser->at = start;
		if (!word_is(word, size, "inf") && !word_is(word, size, "nan"))
			return parser_expected(parser, "a default value");
	}
	return parse_numeric(parser, ret_value);
}

tdr_status parse_literal(struct parser *parser, tdr_value **ret_value)
{
	return parse_nested(parser, 1, ret_value);
}
