/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statuses: what every function that can fail returns.
 *
 * One list yields the enum, the names, the texts and (in Python) the exceptions. The numbers cross the wire: they are
 * frozen, new ones go to the end.
 */
#ifndef TENDRIL_STATUS_H
#define TENDRIL_STATUS_H

#include <tendril/api.h>

/* X(name, number, text) */
#define TDR_STATUS_LIST(X)                                                                                             \
	X(TDR_OK, 0, "success")                                                                                        \
	X(TDR_EINVAL, 1, "invalid argument")                                                                           \
	X(TDR_ENOMEM, 2, "out of memory")                                                                              \
	X(TDR_ETIMEDOUT, 3, "timed out")                                                                               \
	X(TDR_ECANCELED, 4, "cancelled")                                                                               \
	X(TDR_EAGAIN, 5, "would have to wait")                                                                         \
	X(TDR_ESTATE, 6, "not possible in this state")                                                                 \
	X(TDR_EEXISTS, 7, "already exists")                                                                            \
	X(TDR_ENOTFOUND, 8, "not found")                                                                               \
	X(TDR_ENOWORKER, 9, "no such worker")                                                                          \
	X(TDR_ENOFUNCTION, 10, "no such function")                                                                     \
	X(TDR_ETYPE, 11, "wrong type")                                                                                 \
	X(TDR_EPROTO, 12, "malformed bytes")                                                                           \
	X(TDR_EVERSION, 13, "unknown version")                                                                         \
	X(TDR_ELIMIT, 14, "past a limit")                                                                              \
	X(TDR_ESHARED, 15, "shared or cyclic container")                                                               \
	X(TDR_EIO, 16, "system call failed")                                                                           \
	X(TDR_EUNREACHABLE, 17, "worker cannot be reached")                                                            \
	X(TDR_EWORKERGONE, 18, "worker is gone")                                                                       \
	X(TDR_EUNKNOWN_OUTCOME, 19, "connection lost, outcome unknown")                                                \
	X(TDR_ENOTHREADS, 20, "no thread left to run it")                                                              \
	X(TDR_EFORKED, 21, "handle belongs to the parent process")                                                     \
	X(TDR_ESHUTDOWN, 22, "agent is shutting down")                                                                 \
	X(TDR_EREMOTE, 23, "remote function failed")                                                                   \
	X(TDR_EMISMATCH, 24, "members disagree")                                                                       \
	X(TDR_EUNSUPPORTED, 25, "not supported")                                                                       \
	X(TDR_EAUTH, 26, "not a member")                                                                               \
	X(TDR_EFENCED, 27, "evicted from the group")                                                                   \
	X(TDR_EINTERNAL, 28, "internal error")

typedef enum tdr_status {
#define TDR_STATUS_ENUM(name, number, text) name = (number),
	TDR_STATUS_LIST(TDR_STATUS_ENUM)
#undef TDR_STATUS_ENUM
} tdr_status;

TDR_BEGIN_DECLS

/* The status' name, such as "TDR_EINVAL"; "TDR_E?" for a number that is none. The string is static. */
TDR_API const char *tdr_status_name(tdr_status status);

/* The status' general text, such as "invalid argument". The string is static. */
TDR_API const char *tdr_status_text(tdr_status status);

/*
 * The text of the last failure in the calling thread: what failed, where, and what to do. Never NULL; valid until the
 * thread's next failure. Futures carry their own text (tdr_future_error).
 */
TDR_API const char *tdr_last_error(void);

TDR_END_DECLS

#endif
