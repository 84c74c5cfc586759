/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schemas, and arguments bound by them: a schema's text, and after a NUL the encoded positional and keyword arguments.
 *
 * Beside crashes it looks for what must hold of everything that is taken: a text parses twice alike, what was bound is of the
 * parameters' types (converting it once more changes nothing), and a refusal has a text.
 */
#include "function/schema.h"
#include "value/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, tdr_last_error());          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* What is of a type already comes back as it is. */
static void check_is_of(const struct type *type, tdr_value *value)
{
	tdr_value *again = NULL;

	CHECK(type_convert(type, "", tdr_value_ref(value), &again) == TDR_OK);
	CHECK(again == value);
	tdr_value_unref(again);
}

static void check_same_type(const struct type *a, const struct type *b)
{
	char text_a[256], text_b[256];

	type_print(a, text_a, sizeof(text_a));
	type_print(b, text_b, sizeof(text_b));
	CHECK(strcmp(text_a, text_b) == 0);
	CHECK(type_depth(a) <= SCHEMA_MAX_DEPTH);
}

static void check_schema(const struct schema *schema)
{
	struct schema *again = NULL;

	CHECK(schema->nparameters <= SCHEMA_MAX_PARAMETERS);
	CHECK(schema_parse(schema->text, &again) == TDR_OK);
	CHECK(strcmp(schema->name, again->name) == 0);
	CHECK(schema->nparameters == again->nparameters && schema->npositional == again->npositional);
	check_same_type(&schema->returns, &again->returns);
	for (size_t i = 0; i < schema->nparameters; i++) {
		const struct parameter *parameter = &schema->parameters[i];

		CHECK(strcmp(parameter->name, again->parameters[i].name) == 0);
		CHECK(parameter->keyword_only == (i >= schema->npositional));
		check_same_type(&parameter->type, &again->parameters[i].type);
		if (parameter->initial)
			check_is_of(&parameter->type, parameter->initial);
	}
	schema_free(again);
}

static void bind(const struct schema *schema, const uint8_t *data, size_t size)
{
	tdr_value *bound[SCHEMA_MAX_PARAMETERS] = {NULL};
	tdr_value *args = NULL, *kwargs = NULL;
	struct decoder decoder;

	decoder_init(&decoder, &codec_default_limits, data, size, NULL, 0);
	if (decode_value(&decoder, &args) != TDR_OK)
		return;
	if (decode_value(&decoder, &kwargs) != TDR_OK)
		kwargs = NULL;
	if (schema_bind(schema, args, kwargs, bound) == TDR_OK) {
		for (size_t i = 0; i < schema->nparameters; i++) {
			CHECK(bound[i]);
			check_is_of(&schema->parameters[i].type, bound[i]);
		}
	} else {
		CHECK(tdr_last_error()[0]);
	}
	for (size_t i = 0; i < schema->nparameters; i++)
		tdr_value_unref(bound[i]);
	tdr_value_unref(args);
	tdr_value_unref(kwargs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t text_size = strnlen((const char *)data, size);
	size_t used = text_size + (text_size < size);
	char *text = strndup((const char *)data, text_size);
	struct schema *schema = NULL;

	CHECK(text);
	if (schema_parse(text, &schema) == TDR_OK) {
		check_schema(schema);
		bind(schema, data + used, size - used);
	} else {
		CHECK(tdr_last_error()[0]);
	}
	schema_free(schema);
	free(text);
	return 0;
}
