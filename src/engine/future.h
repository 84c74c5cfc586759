/* SPDX-License-Identifier: Apache-2.0 */
/* Futures as the layers above complete them. */
#ifndef TENDRIL_ENGINE_FUTURE_H
#define TENDRIL_ENGINE_FUTURE_H

#include "engine/engine.h"

#include <tendril/future.h>

/*
 * Completes a future: with TDR_OK and `value` (given away), or with an error: its text and the traceback (NULL: none), which are
 * copied, and in `value` what was attached to it, or NULL.
 * False where it had completed already. Any thread, with any lock held that no callback takes.
 */
bool future_complete(tdr_future *future, tdr_status status, tdr_value *value, const char *error, const char *traceback);

/* Where a future comes from: what to do when it is cancelled or waited for. */
struct future_origin {
	void (*hold)(void *context); /* keeps the context alive; called with the future's lock held */
	void (*drop)(void *context);
	void (*cancel)(void *context, tdr_future *future);
	/* The source on which its completion will arrive, or NULL. Valid while the context is held. */
	struct source *(*source)(void *context);
};

/* Until it completes; the context must live that long. */
void future_set_origin(tdr_future *future, const struct future_origin *origin, void *context);

#endif
