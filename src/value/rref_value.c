/* SPDX-License-Identifier: Apache-2.0 */
/* Counting references, and values that hold one. */
#include "value/rref_value.h"

#include "value/layout.h"

tdr_rref *tdr_rref_ref(tdr_rref *rref)
{
	if (rref)
		refcount_get(&rref->refs);
	return rref;
}

tdr_rref *tdr_rref_unref(tdr_rref *rref)
{
	if (rref && refcount_put(&rref->refs))
		rref->ops->free(rref);
	return NULL;
}

tdr_value *tdr_rref_value(tdr_rref *rref)
{
	struct rref_value *value;

	if (!rref)
		return value_invalid(REASON_NULL);
	value = value_alloc(TDR_RREF, sizeof(*value));
	if (!value)
		return value_invalid(REASON_MEMORY);
	value->rref = tdr_rref_ref(rref);
	return &value->head;
}

tdr_status tdr_value_get_rref(const tdr_value *value, tdr_rref **ret_rref)
{
	if (tdr_value_kind(value) != TDR_RREF)
		return wrong_kind(value, "RRef");
	*ret_rref = ((const struct rref_value *)value)->rref;
	return TDR_OK;
}
