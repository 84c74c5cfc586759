/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table: a dynamic group's roster in its store. It is changed only by a compare and set from the exact bytes that were read, so
 * changes happen one after the other, and an epoch has one meaning for everybody.
 */
#ifndef TENDRIL_AGENT_TABLE_H
#define TENDRIL_AGENT_TABLE_H

#include "agent/internal.h"
#include "agent/roster.h"

struct table {
	tdr_blob bytes; /* as read; none where nobody has joined yet */
	struct roster roster;
};

/* A key's value now; no bytes where it is missing. Waits for nothing but the store's answer. */
tdr_status store_peek(tdr_store *store, const char *key, tdr_blob *ret_value);

/*
 * Reads the table. Errors: what the store says, with what that means for the group; TDR_EMISMATCH where the table is another group's,
 * since the store was restarted.
 */
tdr_status table_read(tdr_agent *agent, struct table *ret_table);

/* Writes `table->roster` in place of what was read; false where somebody else has changed the table since. */
tdr_status table_write(tdr_agent *agent, const struct table *table, bool *ret_written);

void table_fini(struct table *table);

#endif
