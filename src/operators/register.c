/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registering the operators with an agent. They have no flag: they may take long, so they do not run inline, and those
 * that write in place are not idempotent.
 */
#include "operators/operators.h"

#include <tendril/operators.h>

tdr_status tdr_register_operators(tdr_agent *agent)
{
	for (size_t i = 0; i < operator_count; i++) {
		const struct operator_entry *entry = &operator_table[i];
		tdr_status status = tdr_register(agent, entry->schema, entry->run, (void *)entry->context, 0);

		if (status != TDR_OK)
			return status;
	}
	return TDR_OK;
}
