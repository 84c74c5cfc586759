/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/table.h"

#include "base/error.h"
#include "base/macros.h"

#include <string.h>

#define TABLE_KEY "view"

tdr_status store_peek(tdr_store *store, const char *key, tdr_blob *ret_value)
{
	/* A missing key compares equal to no bytes, and then has none. */
	return tdr_store_compare_set(store, key, "", 0, "", 0, ret_value);
}

static tdr_status explain(const tdr_agent *agent, tdr_status status)
{
	return error_prefix(
	    status,
	    "the table of the group's members cannot be had from the store (where the process that hosts "
	    "it has ended, nobody can join '%s' or be evicted any more)",
	    agent->options.group ? agent->options.group : "default");
}

tdr_status table_read(tdr_agent *agent, struct table *ret_table)
{
	uint64_t lineage = atomic_load(&agent->membership.lineage);
	struct table table = {0};
	tdr_status status = store_peek(agent->store, TABLE_KEY, &table.bytes);

	if (status != TDR_OK)
		return explain(agent, status);
	status = roster_read(table.bytes.data, table.bytes.size, &table.roster);
	if (status == TDR_OK && lineage != 0 && table.roster.lineage != lineage)
		status = error_set(
		    TDR_EMISMATCH,
		    "the store does not have this group's table of members any more: it was started anew, and "
		    "the members that are left can neither be joined nor evicted");
	if (status != TDR_OK) {
		table_fini(&table);
		return status;
	}
	*ret_table = table;
	return TDR_OK;
}

tdr_status table_write(tdr_agent *agent, const struct table *table, bool *ret_written)
{
	struct encoder encoder;
	tdr_blob now = {0};
	tdr_status status;

	encoder_init(&encoder, &codec_default_limits);
	status = roster_write(&table->roster, &encoder);
	if (status == TDR_OK) {
		status = tdr_store_compare_set(agent->store, TABLE_KEY, table->bytes.data ? table->bytes.data : "",
		                               table->bytes.size, encoder.body.data, encoder.body.size, &now);
		if (status != TDR_OK)
			status = explain(agent, status);
	}
	if (status == TDR_OK)
		*ret_written = now.size == encoder.body.size && memcmp(now.data, encoder.body.data, now.size) == 0;
	tdr_blob_free(&now);
	encoder_fini(&encoder);
	return status;
}

void table_fini(struct table *table)
{
	tdr_blob_free(&table->bytes);
	roster_fini(&table->roster);
}
