/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values as text, as Python would print them. Nothing here depends on the locale, and text that does not fit is counted
 * but not written.
 */
#include "value/layout.h"

#include "base/utf8.h"
#include "value/device.h"
#include "value/rref_value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ints of more bytes are printed in hexadecimal, whose cost does not grow with their square. */
#define DECIMAL_BYTES 512

struct printer {
	char *buffer;
	size_t room;  /* of the buffer, without the NUL */
	size_t total; /* what the whole text takes */
};

static void put(struct printer *printer, const char *text, size_t size)
{
	if (printer->total < printer->room)
		memcpy(printer->buffer + printer->total, text, MIN_OF(size, printer->room - printer->total));
	printer->total += size;
}

static void put_text(struct printer *printer, const char *text)
{
	put(printer, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void put_format(struct printer *printer, const char *format, ...)
{
	char text[128];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	put_text(printer, text);
}

/* ---- numbers ---- */

/*
 * The fewest digits that read back as `number` (finite, not negative), without point or leading zeros, and the exponent
 * of the first: 0.05 is "5" and -2.
 */
static int shortest_digits(double number, char digits[20])
{
	char text[40];
	const char *at;
	size_t count = 0;

	for (int precision = 0; precision <= 16; precision++) {
		snprintf(text, sizeof(text), "%.*e", precision, number);
		if (strtod(text, NULL) == number)
			break;
	}
	/* Whatever the locale has for a point is skipped. */
	for (at = text; *at != 'e'; at++)
		if (*at >= '0' && *at <= '9')
			digits[count++] = *at;
	digits[count] = '\0';
	return atoi(at + 1);
}

static void put_zeros(struct printer *printer, int count)
{
	while (count-- > 0)
		put(printer, "0", 1);
}

/* `point`: whether a whole number gets ".0", as floats do and the parts of complex ones do not. */
static void put_float(struct printer *printer, double number, bool point)
{
	char digits[20];
	int exponent, count;

	if (isnan(number)) {
		put_text(printer, "nan");
		return;
	}
	if (signbit(number))
		put(printer, "-", 1);
	if (isinf(number)) {
		put_text(printer, "inf");
		return;
	}
	exponent = shortest_digits(fabs(number), digits);
	count = (int)strlen(digits);
	if (exponent < -4 || exponent >= 16) {
		put(printer, digits, 1);
		if (count > 1)
			put(printer, ".", 1);
		put_text(printer, digits + 1);
		put_format(printer, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
	} else if (exponent < 0) {
		put_text(printer, "0.");
		put_zeros(printer, -exponent - 1);
		put_text(printer, digits);
	} else if (count <= exponent + 1) {
		put_text(printer, digits);
		put_zeros(printer, exponent + 1 - count);
		if (point)
			put_text(printer, ".0");
	} else {
		put(printer, digits, (size_t)exponent + 1);
		put(printer, ".", 1);
		put_text(printer, digits + exponent + 1);
	}
}

static void put_complex(struct printer *printer, const struct complex_value *value)
{
	if (value->real == 0 && !signbit(value->real)) {
		put_float(printer, value->imaginary, false);
		put(printer, "j", 1);
		return;
	}
	put(printer, "(", 1);
	put_float(printer, value->real, false);
	if (!signbit(value->imaginary) || isnan(value->imaginary))
		put(printer, "+", 1);
	put_float(printer, value->imaginary, false);
	put_text(printer, "j)");
}

/* The magnitude's decimal digits, nine at a time from the last. */
static void put_decimal(struct printer *printer, uint32_t *words, size_t nwords)
{
	uint32_t parts[DECIMAL_BYTES * 8 / 29 + 2]; /* nine digits hold 29 bits */
	size_t nparts = 0;

	while (nwords > 0) {
		uint64_t rest = 0;

		for (size_t i = nwords; i-- > 0;) {
			rest = rest << 32 | words[i];
			words[i] = (uint32_t)(rest / 1000000000);
			rest %= 1000000000;
		}
		parts[nparts++] = (uint32_t)rest;
		while (nwords > 0 && words[nwords - 1] == 0)
			nwords--;
	}
	for (size_t i = nparts; i-- > 0;)
		put_format(printer, i == nparts - 1 ? "%u" : "%09u", parts[i]);
}

static void put_bigint(struct printer *printer, const struct blob_value *value)
{
	bool negative = value->data[value->size - 1] & 0x80;
	uint32_t words[DECIMAL_BYTES / 4 + 1] = {0};
	unsigned carry = 1;

	if (negative)
		put(printer, "-", 1);
	if (value->size > DECIMAL_BYTES) {
		/*
		 * The magnitude of a negative one: all bits turned, and one more. The carry ends where a byte is not 0.
		 */
		size_t lowest = 0;

		while (value->data[lowest] == 0)
			lowest++;
		put_text(printer, "0x");
		for (size_t i = value->size; i-- > 0;) {
			uint8_t byte = value->data[i];

			if (negative && i >= lowest)
				byte = (uint8_t)(~byte + (i == lowest));
			put_format(printer, "%02x", byte);
		}
		return;
	}
	for (size_t i = 0; i < value->size; i++) {
		unsigned byte = value->data[i];

		if (negative) {
			byte = (~byte & 0xff) + carry;
			carry = byte >> 8;
			byte &= 0xff;
		}
		words[i / 4] |= (uint32_t)byte << (i % 4 * 8);
	}
	put_decimal(printer, words, COUNT_OF(words));
}

/* ---- text ---- */

/* One that has single quotes and no double ones is put in double ones. */
static char quote_for(const struct blob_value *value)
{
	return memchr(value->data, '\'', value->size) && !memchr(value->data, '"', value->size) ? '"' : '\'';
}

/* Writes an escape for a character that needs one; false for others. */
static bool put_escape(struct printer *printer, uint32_t code, char quote)
{
	switch (code) {
	case '\n':
		put_text(printer, "\\n");
		return true;
	case '\r':
		put_text(printer, "\\r");
		return true;
	case '\t':
		put_text(printer, "\\t");
		return true;
	default:
		break;
	}
	if (code == '\\' || code == (unsigned char)quote)
		put_format(printer, "\\%c", (char)code);
	else if (code < 0x20 || (code >= 0x7f && code <= 0xa0) || code == 0xad)
		put_format(printer, "\\x%02x", code);
	else if ((code >= 0xd800 && code <= 0xf8ff) || code == 0x2028 || code == 0x2029)
		put_format(printer, "\\u%04x", code);
	else
		return false;
	return true;
}

static void put_string(struct printer *printer, const struct blob_value *value)
{
	char quote = quote_for(value);
	const uint8_t *at = value->data, *end = at + value->size;

	put(printer, &quote, 1);
	while (at < end) {
		uint32_t code;
		size_t length = utf8_decode(at, (size_t)(end - at), &code);

		if (!put_escape(printer, code, quote))
			put(printer, (const char *)at, length);
		at += length;
	}
	put(printer, &quote, 1);
}

static void put_bytes(struct printer *printer, const struct blob_value *value)
{
	char quote = quote_for(value);

	put(printer, "b", 1);
	put(printer, &quote, 1);
	for (size_t i = 0; i < value->size; i++) {
		if (value->data[i] >= 0x7f)
			put_format(printer, "\\x%02x", value->data[i]);
		else if (!put_escape(printer, value->data[i], quote))
			put(printer, (const char *)&value->data[i], 1);
	}
	put(printer, &quote, 1);
}

/* ---- the rest ---- */

static void put_tensor(struct printer *printer, const tdr_tensor *tensor)
{
	put_format(printer, "Tensor(%s, [", tdr_dtype_name(tdr_tensor_dtype(tensor)));
	for (size_t i = 0; i < tdr_tensor_ndim(tensor); i++)
		put_format(printer, "%s%lld", i > 0 ? ", " : "", (long long)tdr_tensor_sizes(tensor)[i]);
	put_text(printer, "])");
}

static void put_device(struct printer *printer, tdr_device device)
{
	put_format(printer, "device(type='%s'", device_type_name(device.type));
	if (device.index >= 0)
		put_format(printer, ", index=%d", device.index);
	put(printer, ")", 1);
}

static void put_rref(struct printer *printer, const tdr_rref *rref)
{
	char text[RREF_TEXT_SIZE];

	if (rref->ops->print(rref, text, sizeof(text)) >= 0)
		put_text(printer, text);
}

static void put_native(struct printer *printer, const struct native_value *value)
{
	put(printer, "<", 1);
	put_text(printer, value->type);
	put_format(printer, " at %p>", value->object);
}

static void put_value(struct printer *printer, const tdr_value *value);

static void put_items(struct printer *printer, const struct container_value *container, const char *open,
                      const char *close)
{
	size_t width = container_width(container->head.kind);

	put_text(printer, open);
	for (uint32_t i = 0; i < container->count; i++) {
		if (i > 0)
			put_text(printer, ", ");
		put_value(printer, container->items[i * width]);
		if (width == 2) {
			put_text(printer, ": ");
			put_value(printer, container->items[i * width + 1]);
		}
	}
	put_text(printer, close);
}

static void put_container(struct printer *printer, const struct container_value *container)
{
	switch ((tdr_kind)container->head.kind) {
	case TDR_LIST:
		put_items(printer, container, "[", "]");
		break;
	case TDR_TUPLE:
		put_items(printer, container, "(", container->count == 1 ? ",)" : ")");
		break;
	case TDR_SET:
		if (container->count == 0)
			put_text(printer, "set()");
		else
			put_items(printer, container, "{", "}");
		break;
	default:
		put_items(printer, container, "{", "}");
		break;
	}
}

static void put_value(struct printer *printer, const tdr_value *value)
{
	switch (tdr_value_kind(value)) {
	case TDR_NONE:
		put_text(printer, "None");
		break;
	case TDR_KIND_BOOL:
		put_text(printer, ((const struct int_value *)value)->number ? "True" : "False");
		break;
	case TDR_INT:
		if (value->big)
			put_bigint(printer, (const struct blob_value *)value);
		else
			put_format(printer, "%lld", (long long)((const struct int_value *)value)->number);
		break;
	case TDR_FLOAT:
		put_float(printer, ((const struct float_value *)value)->number, true);
		break;
	case TDR_COMPLEX:
		put_complex(printer, (const struct complex_value *)value);
		break;
	case TDR_STRING:
		put_string(printer, (const struct blob_value *)value);
		break;
	case TDR_BYTES:
		put_bytes(printer, (const struct blob_value *)value);
		break;
	case TDR_LIST:
	case TDR_TUPLE:
	case TDR_DICT:
	case TDR_SET:
		put_container(printer, (const struct container_value *)value);
		break;
	case TDR_TENSOR:
		put_tensor(printer, ((const struct tensor_value *)value)->tensor);
		break;
	case TDR_DEVICE:
		put_device(printer, ((const struct device_value *)value)->device);
		break;
	case TDR_OBJECT:
		put_text(printer, "<object ");
		put_text(printer, ((const struct object_value *)value)->format);
		put_format(printer, ", %zu bytes>", ((const struct object_value *)value)->size);
		break;
	case TDR_RREF:
		put_rref(printer, ((const struct rref_value *)value)->rref);
		break;
	case TDR_NATIVE:
		put_native(printer, (const struct native_value *)value);
		break;
	case TDR_INVALID:
		put_text(printer, "<invalid>");
		break;
	}
}

/* Ends a text that did not fit with "...", not in the middle of a character. */
static void cut(char *buffer, size_t room)
{
	static const char dots[] = "...";
	size_t at = room > sizeof(dots) - 1 ? room - (sizeof(dots) - 1) : 0;

	while (at > 0 && ((uint8_t)buffer[at] & 0xc0) == 0x80)
		at--;
	memcpy(buffer + at, dots, MIN_OF(sizeof(dots) - 1, room - at));
	buffer[MIN_OF(at + sizeof(dots) - 1, room)] = '\0';
}

size_t tdr_value_print(const tdr_value *value, char *buffer, size_t size)
{
	struct printer printer = {.buffer = buffer, .room = size > 0 ? size - 1 : 0};

	put_value(&printer, value);
	if (size > 0) {
		buffer[MIN_OF(printer.total, printer.room)] = '\0';
		if (printer.total > printer.room)
			cut(buffer, printer.room);
	}
	return printer.total;
}
