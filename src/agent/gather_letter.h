/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Letters of a gather: what its members write to one another, up and down the tree. They are written into a list under the lock of the
 * agent's collectives, and posted when it has been given up.
 */
#ifndef TENDRIL_AGENT_GATHER_LETTER_H
#define TENDRIL_AGENT_GATHER_LETTER_H

#include "agent/gather.h"

/* ---- out: with the lock held ---- */

/*
 * Writes a letter to the member at index `to`: up the tree, with the values that have not gone up, or down, with all. Where the values
 * cannot go, one that says so in their place, which fails the gather for all; the status says so, too.
 */
tdr_status gather_write_letter(struct gather *gather, struct list *letters, uint32_t to, bool up, tdr_status status,
                               const char *text);

/* To all children; the status is gather_write_letter's. */
tdr_status gather_write_to_children(struct gather *gather, struct list *letters, tdr_status status, const char *text);

/* The end of the gather here, for when what was written before it has been sent. */
void gather_write_end(struct gather *gather, struct list *letters, tdr_status status, const char *text);

/* ---- without the lock ---- */

/* Sends what was written, in its order. */
void letters_post(struct list *letters);

/* Tells a child that what it sends is superseded, where we cannot take part. */
void gather_send_superseded(struct peer *peer, const struct occasion *occasion);

/* ---- in ---- */

/*
 * Reads what an occasion the letter is of, the sender's verdict (0, or why the gather has failed) and its text. ret_occasion->ids and
 * ret_text are the caller's to free, also on failure.
 */
tdr_status gather_read_head(struct decoder *decoder, struct occasion *ret_occasion, uint64_t *ret_verdict,
                            char **ret_text);

/* Reads the values, into the gather; with the lock held. */
tdr_status gather_read_values(struct decoder *decoder, struct gather *gather);

/* ---- letters that are kept for a view to come ---- */

/* Takes them out, with the lock held; and lets them come in again, without it. */
void letters_take_early(struct collectives *collectives, struct list *ret_early);
void letters_deliver_early(struct list *early);

/* Drops them; at the end. */
void letters_drop_early(struct collectives *collectives);

#endif
