/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores: the small shared tables through which a group meets. Keys are strings, values bytes.
 *
 * A store is a counted object over a vtable; a program may bring its own with tdr_store_new. Operations block the calling
 * thread, up to a timeout in milliseconds: TDR_TIMEOUT_DEFAULT means the store's own (tdr_store_set_timeout; 300 s at
 * first), TDR_TIMEOUT_NEVER no limit. Operations that take no timeout have the store's own. Several threads may use one
 * store. Outputs may be NULL where a caller does not want them.
 */
#ifndef TENDRIL_STORE_H
#define TENDRIL_STORE_H

#include <tendril/api.h>
#include <tendril/status.h>

typedef struct tdr_store tdr_store;
typedef struct tdr_store_server tdr_store_server;

/* Bytes that belong to their holder, who frees them with tdr_blob_free; `data` ends in a NUL that `size` leaves out. */
typedef struct tdr_blob {
	char *data;
	size_t size;
} tdr_blob;

/*
 * What a store does. Every operation is called with the store's `context`, from any thread, and blocks no longer than until
 * `deadline_ms` (milliseconds of CLOCK_MONOTONIC, 0: no limit). Set `size` to sizeof(tdr_store_ops). An operation left
 * NULL gives TDR_EUNSUPPORTED; get, append, multi_get and multi_set are made of the others where they are NULL or return
 * that: get of wait and compare_set; append of compare_set, with a lock under the key "KEY/appending"; the other two of
 * get and set, one key at a time. Where an operation fails and leaves no text for tdr_last_error, there is a general one.
 */
typedef struct tdr_store_ops {
	size_t size;
	const char *name; /* such as "redis"; static */

	/* Stores `value` under `key`, in place of what was there. */
	tdr_status (*set)(void *context, const char *key, const void *value, size_t value_size, int64_t deadline_ms);
	/* Waits until `key` is there and reads it. */
	tdr_status (*get)(void *context, const char *key, int64_t deadline_ms, tdr_blob *ret_value);
	/* Adds to a decimal number, 0 where there is none. TDR_EINVAL where the value is no number. */
	tdr_status (*add)(void *context, const char *key, int64_t amount, int64_t deadline_ms, int64_t *ret_sum);
	/*
	 * Where the value equals `expected` (a missing one equals the empty one) stores `desired` and returns it, else
	 * returns the value; a missing key with an `expected` that is not empty stays missing and gives `expected`.
	 */
	tdr_status (*compare_set)(void *context, const char *key, const void *expected, size_t expected_size,
	                          const void *desired, size_t desired_size, int64_t deadline_ms, tdr_blob *ret_value);
	/* Whether all keys are there now. */
	tdr_status (*check)(void *context, size_t count, const char *const keys[], int64_t deadline_ms, bool *ret_all);
	/* Waits until all keys are there. TDR_ETIMEDOUT names one that is not. */
	tdr_status (*wait)(void *context, size_t count, const char *const keys[], int64_t deadline_ms);
	tdr_status (*delete_key)(void *context, const char *key, int64_t deadline_ms, bool *ret_existed);
	tdr_status (*num_keys)(void *context, int64_t deadline_ms, int64_t *ret_count);
	/* Adds bytes to the end of a value, an empty one where there is none. */
	tdr_status (*append)(void *context, const char *key, const void *value, size_t value_size, int64_t deadline_ms);
	/* Waits for all keys and reads them into ret_values [count]. */
	tdr_status (*multi_get)(void *context, size_t count, const char *const keys[], int64_t deadline_ms,
	                        tdr_blob ret_values[]);
	tdr_status (*multi_set)(void *context, size_t count, const char *const keys[], const tdr_blob values[],
	                        int64_t deadline_ms);
	/* Frees the context; called once, by the last unref. Not called in a child made by fork(). */
	void (*destroy)(void *context);
} tdr_store_ops;

TDR_BEGIN_DECLS

/* ---- making ---- */

/*
 * A store over `ops` (copied) and `context`, which `ops->destroy` frees in the end. When this fails it is not freed. Errors:
 * TDR_EINVAL (no size, no name), TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_store_new(const tdr_store_ops *ops, void *context, tdr_store **ret_store);

/* A table in this process' memory, for agents of one process. */
TDR_API TDR_MUST_USE tdr_status tdr_store_hash(tdr_store **ret_store);

/*
 * A file on a file system that all members share, in the format of PyTorch's FileStore, which can use the same file. The
 * file is made where it is missing, and removed when the last of `world_size` users closes it (-1: it stays). A file of
 * other bytes makes operations fail with TDR_EPROTO, which names the offset. Errors: TDR_EINVAL, TDR_EIO, TDR_ENOMEM.
 */
TDR_API TDR_MUST_USE tdr_status tdr_store_file(const char *path, int world_size, tdr_store **ret_store);

/*
 * A client of the server at `host` and `port`, also of PyTorch's TCPStore. Tries to connect for `timeout_ms`, which
 * becomes the store's timeout. Speaks version 2 of its wire, or version 1 where the server does.
 */
TDR_API TDR_MUST_USE tdr_status tdr_store_tcp(const char *host, uint16_t port, int64_t timeout_ms,
                                              tdr_store **ret_store);

/* `store` with every key below "`prefix`/". Takes a reference to `store`. */
TDR_API TDR_MUST_USE tdr_status tdr_store_prefix(const char *prefix, tdr_store *store, tdr_store **ret_store);

TDR_API tdr_store *tdr_store_ref(tdr_store *store);
TDR_API tdr_store *tdr_store_unref(tdr_store *store);

/* ---- using ---- */

/* The timeout of operations that are given TDR_TIMEOUT_DEFAULT. A prefix store hands it to the one below. */
TDR_API void tdr_store_set_timeout(tdr_store *store, int64_t timeout_ms);
TDR_API int64_t tdr_store_timeout(const tdr_store *store);

/* The name of the store's kind: "hash", "file", "tcp", "prefix", or its vtable's. */
TDR_API const char *tdr_store_kind(const tdr_store *store);

TDR_API TDR_MUST_USE tdr_status tdr_store_set(tdr_store *store, const char *key, const void *value, size_t size);
TDR_API TDR_MUST_USE tdr_status tdr_store_get(tdr_store *store, const char *key, int64_t timeout_ms,
                                              tdr_blob *ret_value);
TDR_API TDR_MUST_USE tdr_status tdr_store_add(tdr_store *store, const char *key, int64_t amount, int64_t *ret_sum);
TDR_API TDR_MUST_USE tdr_status tdr_store_compare_set(tdr_store *store, const char *key, const void *expected,
                                                      size_t expected_size, const void *desired, size_t desired_size,
                                                      tdr_blob *ret_value);
TDR_API TDR_MUST_USE tdr_status tdr_store_check(tdr_store *store, size_t count, const char *const keys[],
                                                bool *ret_all);
TDR_API TDR_MUST_USE tdr_status tdr_store_wait(tdr_store *store, size_t count, const char *const keys[],
                                               int64_t timeout_ms);
TDR_API TDR_MUST_USE tdr_status tdr_store_delete_key(tdr_store *store, const char *key, bool *ret_existed);
TDR_API TDR_MUST_USE tdr_status tdr_store_num_keys(tdr_store *store, int64_t *ret_count);
TDR_API TDR_MUST_USE tdr_status tdr_store_append(tdr_store *store, const char *key, const void *value, size_t size);
TDR_API TDR_MUST_USE tdr_status tdr_store_multi_get(tdr_store *store, size_t count, const char *const keys[],
                                                    int64_t timeout_ms, tdr_blob ret_values[]);
TDR_API TDR_MUST_USE tdr_status tdr_store_multi_set(tdr_store *store, size_t count, const char *const keys[],
                                                    const tdr_blob values[]);

/* Frees `blob->data` and clears both fields. */
TDR_API void tdr_blob_free(tdr_blob *blob);

/* ---- serving ---- */

typedef struct tdr_store_server_options {
	size_t size;
	const char *host;       /* address to listen on; NULL: loopback only, "0.0.0.0" or "::" for all */
	uint16_t port;          /* 0: any free one */
	size_t max_connections; /* at once; more are refused (4096) */
	size_t max_value_size;  /* bytes (8 MiB) */
	size_t max_keys;        /* keys held at once (1,048,576) */
} tdr_store_server_options;

TDR_API void tdr_store_server_options_init(tdr_store_server_options *options);

/*
 * Starts a server, which runs in a thread of its own until it is closed, and serves our clients and PyTorch's (both
 * versions of the wire). `options` NULL: the defaults. Errors: TDR_EINVAL, TDR_EIO (also "Address already in use").
 */
TDR_API TDR_MUST_USE tdr_status tdr_store_server_open(const tdr_store_server_options *options,
                                                      tdr_store_server **ret_server);

/*
 * Whether all that a host's name or number stands for is on this machine's loopback: then a server whose clients are told to come
 * there need listen nowhere else. What cannot be found is not. Looking it up may take seconds.
 */
TDR_API bool tdr_host_is_loopback(const char *host);

/* The port it listens on. */
TDR_API uint16_t tdr_store_server_port(const tdr_store_server *server);

/* Drops all connections and ends its thread. Takes NULL. */
TDR_API void tdr_store_server_close(tdr_store_server *server);

TDR_END_DECLS

#endif
