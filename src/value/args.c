/* SPDX-License-Identifier: Apache-2.0 */
/* What TDR_ARGS and TDR_KWARGS call. */
#include "value/layout.h"

#include <string.h>
#include <tendril/args.h>

tdr_value *tdr_value_of_int(int64_t number)
{
	return tdr_int(number);
}

tdr_value *tdr_value_of_uint(uint64_t number)
{
	uint8_t bytes[sizeof(number) + 1] = {0}; /* the last one keeps it positive */

	if (number <= INT64_MAX)
		return tdr_int((int64_t)number);
	memcpy(bytes, &number, sizeof(number));
	return tdr_bigint(bytes, sizeof(bytes));
}

tdr_value *tdr_value_of_float(double number)
{
	return tdr_float(number);
}

tdr_value *tdr_value_of_string(const char *text)
{
	return text ? tdr_string(text) : tdr_none();
}

tdr_value *tdr_value_of_tensor(tdr_tensor *tensor)
{
	return tensor ? tdr_tensor_value(tensor) : tdr_none();
}

tdr_value *tdr_value_of_rref(tdr_rref *rref)
{
	return rref ? tdr_rref_value(rref) : tdr_none();
}

tdr_value *tdr_value_of_value(tdr_value *value)
{
	return value ? value : tdr_none();
}

/* Takes over the pair on REASON_NONE. */
static enum reason put_keyword(struct container_value *dict, tdr_value *key, tdr_value *value)
{
	enum reason reason = value_unfit(key);
	uint32_t position;

	if (reason == REASON_NONE)
		reason = value_unfit(value);
	if (reason == REASON_NONE && key->kind != TDR_STRING)
		reason = REASON_KEYWORD;
	return reason == REASON_NONE ? container_put(dict, key, value, &position) : reason;
}

tdr_value *tdr_kwargs(size_t count, tdr_value *const items[])
{
	struct container_value *dict = container_new(TDR_DICT, count / 2);
	enum reason reason = dict ? REASON_NONE : REASON_MEMORY;
	size_t taken = 0;

	if (!items && count > 0) {
		count = 0;
		reason = REASON_NULL;
	} else if (count % 2 != 0) {
		reason = REASON_KEYWORD_ALONE;
	}
	while (reason == REASON_NONE && taken < count) {
		reason = put_keyword(dict, items[taken], items[taken + 1]);
		if (reason == REASON_NONE)
			taken += 2;
	}
	if (reason == REASON_NONE)
		return &dict->head;
	for (; taken < count; taken++)
		tdr_value_unref(items[taken]);
	tdr_value_unref(dict ? &dict->head : NULL);
	return value_invalid(reason);
}
