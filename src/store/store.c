/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store as an object: counted, over the vtable of its kind.
 *
 * The public functions check their arguments, refuse a parent process' store, turn the timeout into a deadline, and keep
 * the outputs untouched on failure; store_do_... below them call the vtable, and make what it lacks of what it has.
 */
#include "store/store_internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/macros.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- making and dropping ---- */

tdr_status store_new(const tdr_store_ops *ops, const struct store_hooks *hooks, void *context, tdr_store **ret_store)
{
	tdr_store *store = calloc(1, sizeof(*store));

	if (!store)
		return error_nomem();
	memcpy(&store->ops, ops, MIN_OF(ops->size, sizeof(store->ops)));
	store->ops.size = sizeof(store->ops);
	store->hooks = hooks;
	store->context = context;
	store->timeout_ms = STORE_DEFAULT_TIMEOUT_MS;
	refcount_init(&store->refs);
	store->generation = fork_generation();
	*ret_store = store;
	return TDR_OK;
}

tdr_status tdr_store_new(const tdr_store_ops *ops, void *context, tdr_store **ret_store)
{
	if (!ops || !ret_store)
		return error_set(TDR_EINVAL, "tdr_store_new: ops or ret_store is NULL");
	if (ops->size < offsetof(tdr_store_ops, set))
		return error_set(TDR_EINVAL,
		                 "tdr_store_new: ops->size is %zu; set it to sizeof(tdr_store_ops) before the call",
		                 ops->size);
	if (!ops->name)
		return error_set(TDR_EINVAL,
		                 "tdr_store_new: ops->name is NULL; name the kind of store, such as \"redis\"");
	return store_new(ops, NULL, context, ret_store);
}

tdr_store *tdr_store_ref(tdr_store *store)
{
	if (store)
		refcount_get(&store->refs);
	return store;
}

tdr_store *tdr_store_unref(tdr_store *store)
{
	if (!store || !refcount_put(&store->refs))
		return NULL;
	if (!forked(store->generation)) {
		if (store->ops.destroy)
			store->ops.destroy(store->context);
	} else if (store->hooks && store->hooks->destroy_forked) {
		store->hooks->destroy_forked(store->context);
	}
	tdr_store_unref(store->below);
	free(store);
	return NULL;
}

/* ---- what a store is ---- */

/* The store at the bottom of a pile of prefixes: timeout and address are its. */
static const tdr_store *bottom(const tdr_store *store)
{
	while (store->below)
		store = store->below;
	return store;
}

void tdr_store_set_timeout(tdr_store *store, int64_t timeout_ms)
{
	while (store->below)
		store = store->below;
	atomic_store(&store->timeout_ms, timeout_ms >= 0 ? timeout_ms : STORE_DEFAULT_TIMEOUT_MS);
}

int64_t tdr_store_timeout(const tdr_store *store)
{
	return atomic_load(&bottom(store)->timeout_ms);
}

const char *tdr_store_kind(const tdr_store *store)
{
	return store->ops.name;
}

tdr_status store_local_address(tdr_store *store, struct sockaddr_storage *ret_address, socklen_t *ret_size)
{
	const tdr_store *last = bottom(store);

	if (forked(store->generation))
		return error_set(TDR_EFORKED, "the %s store belongs to the parent process", last->ops.name);
	if (last->hooks && last->hooks->local_address)
		return last->hooks->local_address(last->context, ret_address, ret_size);
	*ret_size = 0;
	return TDR_OK;
}

/* ---- calling the vtable ---- */

/*
 * A user's operation may fail without a text: then the one there is tells of something older. So around such a call the
 * text is taken away, and put back where the call succeeds.
 */
struct text_guard {
	char before[ERROR_TEXT_SIZE];
};

static void guard_enter(struct text_guard *guard, const tdr_store *store)
{
	if (store->hooks)
		return; /* a kind of this library always leaves a text */
	snprintf(guard->before, sizeof(guard->before), "%s", tdr_last_error());
	error_set(TDR_OK, "%s", "");
}

static tdr_status guard_leave(const struct text_guard *guard, const tdr_store *store, const char *operation,
                              const char *key, tdr_status status)
{
	if (store->hooks)
		return status;
	if (status == TDR_OK)
		error_set(TDR_OK, "%s", guard->before);
	else if (tdr_last_error()[0] == '\0')
		error_set(status, "%s store, %s%s%.200s%s: %s", store->ops.name, operation, key ? " of key '" : "",
		          key ? key : "", key ? "'" : "", tdr_status_text(status));
	return status;
}

static tdr_status unsupported(const tdr_store *store, const char *operation)
{
	return error_set(TDR_EUNSUPPORTED, "the %s store has no operation '%s'", store->ops.name, operation);
}

/* Calls an operation that may be NULL. `key` is for the text of errors, NULL where there is none. */
#define CALL(store, operation, key, ...)                                                                               \
	({                                                                                                             \
		struct text_guard guard_;                                                                              \
		tdr_status status_;                                                                                    \
                                                                                                                       \
		if ((store)->ops.operation) {                                                                          \
			guard_enter(&guard_, store);                                                                   \
			status_ = (store)->ops.operation((store)->context, __VA_ARGS__);                               \
			status_ = guard_leave(&guard_, store, #operation, key, status_);                               \
		} else {                                                                                               \
			status_ = unsupported(store, #operation);                                                      \
		}                                                                                                      \
		status_;                                                                                               \
	})

tdr_status store_do_set(tdr_store *store, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	return CALL(store, set, key, key, value, size, deadline_ms);
}

tdr_status store_do_get(tdr_store *store, const char *key, int64_t deadline_ms, tdr_blob *ret_value)
{
	tdr_status status = CALL(store, get, key, key, deadline_ms, ret_value);

	return status == TDR_EUNSUPPORTED ? store_get_by_compare(store, key, deadline_ms, ret_value) : status;
}

tdr_status store_do_add(tdr_store *store, const char *key, int64_t amount, int64_t deadline_ms, int64_t *ret_sum)
{
	return CALL(store, add, key, key, amount, deadline_ms, ret_sum);
}

tdr_status store_do_compare_set(tdr_store *store, const char *key, const void *expected, size_t expected_size,
                                const void *desired, size_t desired_size, int64_t deadline_ms, tdr_blob *ret_value)
{
	return CALL(store, compare_set, key, key, expected, expected_size, desired, desired_size, deadline_ms,
	            ret_value);
}

tdr_status store_do_check(tdr_store *store, size_t count, const char *const keys[], int64_t deadline_ms, bool *ret_all)
{
	return CALL(store, check, count > 0 ? keys[0] : NULL, count, keys, deadline_ms, ret_all);
}

tdr_status store_do_wait(tdr_store *store, size_t count, const char *const keys[], int64_t deadline_ms)
{
	return CALL(store, wait, count > 0 ? keys[0] : NULL, count, keys, deadline_ms);
}

tdr_status store_do_delete_key(tdr_store *store, const char *key, int64_t deadline_ms, bool *ret_existed)
{
	return CALL(store, delete_key, key, key, deadline_ms, ret_existed);
}

tdr_status store_do_num_keys(tdr_store *store, int64_t deadline_ms, int64_t *ret_count)
{
	return CALL(store, num_keys, NULL, deadline_ms, ret_count);
}

tdr_status store_do_append(tdr_store *store, const char *key, const void *value, size_t size, int64_t deadline_ms)
{
	tdr_status status = CALL(store, append, key, key, value, size, deadline_ms);

	return status == TDR_EUNSUPPORTED ? store_append_by_lock(store, key, value, size, deadline_ms) : status;
}

tdr_status store_do_multi_get(tdr_store *store, size_t count, const char *const keys[], int64_t deadline_ms,
                              tdr_blob ret_values[])
{
	tdr_status status = CALL(store, multi_get, keys[0], count, keys, deadline_ms, ret_values);
	size_t done = 0;

	if (status != TDR_EUNSUPPORTED)
		return status;
	for (status = TDR_OK; status == TDR_OK && done < count; done++)
		status = store_do_get(store, keys[done], deadline_ms, &ret_values[done]);
	if (status != TDR_OK)
		for (size_t i = 0; i + 1 < done; i++)
			tdr_blob_free(&ret_values[i]);
	return status;
}

tdr_status store_do_multi_set(tdr_store *store, size_t count, const char *const keys[], const tdr_blob values[],
                              int64_t deadline_ms)
{
	tdr_status status = CALL(store, multi_set, keys[0], count, keys, values, deadline_ms);

	if (status != TDR_EUNSUPPORTED)
		return status;
	status = TDR_OK;
	for (size_t i = 0; status == TDR_OK && i < count; i++)
		status =
		    store_do_set(store, keys[i], values[i].data ? values[i].data : "", values[i].size, deadline_ms);
	return status;
}

/* ---- the public operations ---- */

/* One public call: its timeout, and the deadline made of it. */
struct operation {
	const char *name;
	int64_t timeout_ms;
	int64_t deadline_ms;
};

static tdr_status begin(struct operation *operation, const tdr_store *store, const char *name, int64_t timeout_ms)
{
	if (!store)
		return error_set(TDR_EINVAL, "%s: the store is NULL", name);
	if (forked(store->generation))
		return error_set(TDR_EFORKED,
		                 "%s: the %s store belongs to the parent process; open another after fork()", name,
		                 store->ops.name);
	if (timeout_ms < TDR_TIMEOUT_DEFAULT)
		return error_set(TDR_EINVAL,
		                 "%s: a timeout of %" PRId64 " ms; give a positive number, TDR_TIMEOUT_NEVER "
		                 "or TDR_TIMEOUT_DEFAULT",
		                 name, timeout_ms);
	operation->name = name;
	operation->timeout_ms = timeout_ms == TDR_TIMEOUT_DEFAULT ? tdr_store_timeout(store) : timeout_ms;
	operation->deadline_ms = deadline_after(operation->timeout_ms);
	return TDR_OK;
}

/* As begin, for an operation on one key. */
static tdr_status begin_key(struct operation *operation, const tdr_store *store, const char *name, const char *key,
                            int64_t timeout_ms)
{
	if (!key)
		return error_set(TDR_EINVAL, "%s: the key is NULL", name);
	return begin(operation, store, name, timeout_ms);
}

/* As begin, for an operation on several. */
static tdr_status begin_keys(struct operation *operation, const tdr_store *store, const char *name, size_t count,
                             const char *const keys[], int64_t timeout_ms)
{
	if (count > 0 && !keys)
		return error_set(TDR_EINVAL, "%s: the array of keys is NULL", name);
	for (size_t i = 0; i < count; i++)
		if (!keys[i])
			return error_set(TDR_EINVAL, "%s: key %zu of %zu is NULL", name, i, count);
	return begin(operation, store, name, timeout_ms);
}

/* No kind is handed NULL, also where there are no bytes. */
static tdr_status check_bytes(const char *name, const char *what, const void **data, size_t size)
{
	if (!*data && size > 0)
		return error_set(TDR_EINVAL, "%s: the %s is NULL, but its size is %zu", name, what, size);
	if (!*data)
		*data = "";
	return TDR_OK;
}

/* Completes the text of a timeout: the kinds know what is missing, only here it is known for how long. */
static tdr_status end(const struct operation *operation, const char *before, tdr_status status)
{
	if (status == TDR_ETIMEDOUT && operation->timeout_ms > 0)
		error_set(status, "%s%s within %" PRId64 " ms", before, tdr_last_error(), operation->timeout_ms);
	return status;
}

/* Hands a result on to a caller who may not want it. */
static void give_blob(tdr_blob *value, tdr_blob *ret_value)
{
	if (ret_value)
		*ret_value = *value;
	else
		tdr_blob_free(value);
}

tdr_status tdr_store_set(tdr_store *store, const char *key, const void *value, size_t size)
{
	struct operation operation = {0};
	tdr_status status = begin_key(&operation, store, "tdr_store_set", key, TDR_TIMEOUT_DEFAULT);

	if (status == TDR_OK)
		status = check_bytes(operation.name, "value", &value, size);
	if (status != TDR_OK)
		return status;
	return end(&operation, "", store_do_set(store, key, value, size, operation.deadline_ms));
}

tdr_status tdr_store_get(tdr_store *store, const char *key, int64_t timeout_ms, tdr_blob *ret_value)
{
	tdr_blob value = {0};
	struct operation operation = {0};
	tdr_status status = begin_key(&operation, store, "tdr_store_get", key, timeout_ms);

	if (status != TDR_OK)
		return status;
	status = end(&operation, "Wait timeout: ", store_do_get(store, key, operation.deadline_ms, &value));
	if (status == TDR_OK)
		give_blob(&value, ret_value);
	return status;
}

tdr_status tdr_store_add(tdr_store *store, const char *key, int64_t amount, int64_t *ret_sum)
{
	int64_t sum = 0;
	struct operation operation = {0};
	tdr_status status = begin_key(&operation, store, "tdr_store_add", key, TDR_TIMEOUT_DEFAULT);

	if (status != TDR_OK)
		return status;
	status = end(&operation, "", store_do_add(store, key, amount, operation.deadline_ms, &sum));
	if (status == TDR_OK && ret_sum)
		*ret_sum = sum;
	return status;
}

tdr_status tdr_store_compare_set(tdr_store *store, const char *key, const void *expected, size_t expected_size,
                                 const void *desired, size_t desired_size, tdr_blob *ret_value)
{
	tdr_blob value = {0};
	struct operation operation = {0};
	tdr_status status = begin_key(&operation, store, "tdr_store_compare_set", key, TDR_TIMEOUT_DEFAULT);

	if (status == TDR_OK)
		status = check_bytes(operation.name, "expected value", &expected, expected_size);
	if (status == TDR_OK)
		status = check_bytes(operation.name, "desired value", &desired, desired_size);
	if (status != TDR_OK)
		return status;
	status = store_do_compare_set(store, key, expected, expected_size, desired, desired_size, operation.deadline_ms,
	                              &value);
	status = end(&operation, "", status);
	if (status == TDR_OK)
		give_blob(&value, ret_value);
	return status;
}

tdr_status tdr_store_check(tdr_store *store, size_t count, const char *const keys[], bool *ret_all)
{
	bool all = true;
	struct operation operation = {0};
	tdr_status status = begin_keys(&operation, store, "tdr_store_check", count, keys, TDR_TIMEOUT_DEFAULT);

	if (status != TDR_OK)
		return status;
	if (count > 0)
		status = end(&operation, "", store_do_check(store, count, keys, operation.deadline_ms, &all));
	if (status == TDR_OK && ret_all)
		*ret_all = all;
	return status;
}

tdr_status tdr_store_wait(tdr_store *store, size_t count, const char *const keys[], int64_t timeout_ms)
{
	struct operation operation = {0};
	tdr_status status = begin_keys(&operation, store, "tdr_store_wait", count, keys, timeout_ms);

	if (status != TDR_OK || count == 0)
		return status;
	return end(&operation, "Wait timeout: ", store_do_wait(store, count, keys, operation.deadline_ms));
}

tdr_status tdr_store_delete_key(tdr_store *store, const char *key, bool *ret_existed)
{
	bool existed = false;
	struct operation operation = {0};
	tdr_status status = begin_key(&operation, store, "tdr_store_delete_key", key, TDR_TIMEOUT_DEFAULT);

	if (status != TDR_OK)
		return status;
	status = end(&operation, "", store_do_delete_key(store, key, operation.deadline_ms, &existed));
	if (status == TDR_OK && ret_existed)
		*ret_existed = existed;
	return status;
}

tdr_status tdr_store_num_keys(tdr_store *store, int64_t *ret_count)
{
	int64_t count = 0;
	struct operation operation = {0};
	tdr_status status = begin(&operation, store, "tdr_store_num_keys", TDR_TIMEOUT_DEFAULT);

	if (status != TDR_OK)
		return status;
	status = end(&operation, "", store_do_num_keys(store, operation.deadline_ms, &count));
	if (status == TDR_OK && ret_count)
		*ret_count = count;
	return status;
}

tdr_status tdr_store_append(tdr_store *store, const char *key, const void *value, size_t size)
{
	struct operation operation = {0};
	tdr_status status = begin_key(&operation, store, "tdr_store_append", key, TDR_TIMEOUT_DEFAULT);

	if (status == TDR_OK)
		status = check_bytes(operation.name, "value", &value, size);
	if (status != TDR_OK)
		return status;
	return end(&operation, "", store_do_append(store, key, value, size, operation.deadline_ms));
}

tdr_status tdr_store_multi_get(tdr_store *store, size_t count, const char *const keys[], int64_t timeout_ms,
                               tdr_blob ret_values[])
{
	struct operation operation = {0};
	tdr_blob *values;
	tdr_status status = begin_keys(&operation, store, "tdr_store_multi_get", count, keys, timeout_ms);

	if (status != TDR_OK || count == 0)
		return status;
	values = calloc(count, sizeof(*values));
	if (!values)
		return error_nomem();
	status = store_do_multi_get(store, count, keys, operation.deadline_ms, values);
	status = end(&operation, "Wait timeout: ", status);
	if (status == TDR_OK)
		for (size_t i = 0; i < count; i++)
			give_blob(&values[i], ret_values ? &ret_values[i] : NULL);
	free(values);
	return status;
}

tdr_status tdr_store_multi_set(tdr_store *store, size_t count, const char *const keys[], const tdr_blob values[])
{
	struct operation operation = {0};
	tdr_status status = begin_keys(&operation, store, "tdr_store_multi_set", count, keys, TDR_TIMEOUT_DEFAULT);

	if (status != TDR_OK || count == 0)
		return status;
	if (!values)
		return error_set(TDR_EINVAL, "%s: the array of values is NULL", operation.name);
	for (size_t i = 0; i < count; i++)
		if (!values[i].data && values[i].size > 0)
			return error_set(TDR_EINVAL, "%s: value %zu of %zu is NULL, but its size is %zu",
			                 operation.name, i, count, values[i].size);
	return end(&operation, "", store_do_multi_set(store, count, keys, values, operation.deadline_ms));
}
