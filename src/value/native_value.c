/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Native objects: memory of this process that a value owns, under the name of its type, so that who takes it out knows
 * what it is.
 */
#include "base/error.h"
#include "value/layout.h"

#include <stdio.h>
#include <string.h>

static size_t identifier_size(const char *text)
{
	size_t size = 0;

	while ((text[size] >= 'a' && text[size] <= 'z') || (text[size] >= 'A' && text[size] <= 'Z') ||
	       (text[size] >= '0' && text[size] <= '9') || text[size] == '_')
		size++;
	return size;
}

/* Whether a type's name is some identifiers with "::" between them. */
static bool type_is_good(const char *type)
{
	const char *at = type;

	if (strnlen(type, NATIVE_TYPE_SIZE) == NATIVE_TYPE_SIZE)
		return false;
	for (;;) {
		size_t size = identifier_size(at);

		if (size == 0)
			return false;
		at += size;
		if (*at == '\0')
			return true;
		if (at[0] != ':' || at[1] != ':')
			return false;
		at += 2;
	}
}

static tdr_value *native_new(const char *type, void *object, void (*destructor)(void *object))
{
	struct native_value *value;
	size_t size;

	if (!type || !object)
		return value_invalid(REASON_NULL);
	if (!type_is_good(type))
		return value_invalid(REASON_NATIVE_TYPE);
	size = strlen(type) + 1;
	value = value_alloc(TDR_NATIVE, sizeof(*value) + size);
	if (!value)
		return value_invalid(REASON_MEMORY);
	value->object = object;
	value->destructor = destructor;
	value->ops = NULL;
	memcpy(value->type, type, size);
	return &value->head;
}

tdr_value *tdr_native(const char *type, void *object, void (*destructor)(void *object))
{
	tdr_value *value = native_new(type, object, destructor);

	if (value->kind == TDR_INVALID && object && destructor)
		destructor(object);
	return value;
}

tdr_value *tdr_native_shared(const char *type, void *object, const tdr_native_ops *ops)
{
	tdr_value *value = tdr_native(type, object, ops->destroy);

	if (value->kind == TDR_NATIVE)
		((struct native_value *)value)->ops = ops;
	return value;
}

tdr_status native_export(const struct native_value *value, tdr_value **ret_value)
{
	tdr_value *exported = NULL;
	tdr_status status;

	if (!value->ops || !value->ops->export_value)
		return error_set(TDR_EUNSUPPORTED,
		                 "a native object ('%s') stays in its process: pass a reference to it (tdr_rref_new) "
		                 "instead",
		                 value->type);
	error_set(TDR_EUNSUPPORTED, "a native object ('%s') could not be made into what can be sent", value->type);
	status = value->ops->export_value(value->object, &exported);
	if (status != TDR_OK)
		return status;
	status = tdr_value_status(exported);
	if (status == TDR_OK && exported->kind == TDR_NATIVE)
		status = error_set(TDR_EUNSUPPORTED,
		                   "a native object ('%s') is to be sent as another: neither can leave "
		                   "its process",
		                   value->type);
	if (status == TDR_OK)
		*ret_value = exported;
	else
		tdr_value_unref(exported);
	return status;
}

void native_destroy(struct native_value *value)
{
	if (value->destructor)
		value->destructor(value->object);
}

const char *tdr_native_type(const tdr_value *value)
{
	return tdr_value_kind(value) == TDR_NATIVE ? ((const struct native_value *)value)->type : NULL;
}

tdr_status tdr_value_get_native(const tdr_value *value, const char *type, void **ret_object)
{
	const struct native_value *native = (const struct native_value *)value;
	char wanted[NATIVE_TYPE_SIZE + sizeof("native ''")];

	if (tdr_value_kind(value) != TDR_NATIVE) {
		if (!type)
			return wrong_kind(value, "native");
		snprintf(wanted, sizeof(wanted), "native '%s'", type);
		return wrong_kind(value, wanted);
	}
	if (type && strcmp(native->type, type) != 0)
		return error_set(TDR_ETYPE, "wanted native '%s', got native '%s'", type, native->type);
	*ret_object = native->object;
	return TDR_OK;
}
