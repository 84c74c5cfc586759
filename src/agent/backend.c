/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backends by name. The table only grows, and what it points to never moves nor changes, so names and entries that were found
 * may be used without its lock.
 */
#include "agent/internal.h"

#include "base/edit_distance.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <tendril/backend.h>

enum {
	MAX_NAME = 127,
	MAX_NESTED = 8, /* backends that make their agents by others */
};

struct named_backend {
	const char *name;
	tdr_backend backend; /* its text is a copy, and never NULL */
	void *context;
};

/* ---- those built in ---- */

static void construct_faulty(void *context, tdr_agent_options *options)
{
	options->fail_sends = 3;
}

static tdr_status make_ours(void *context, const char *worker_name, const tdr_agent_options *options,
                            tdr_agent **ret_agent)
{
	return agent_make(worker_name, options, ret_agent);
}

static struct named_backend ours = {
    .name = "TENDRIL",
    .backend = {.size = sizeof(tdr_backend), .text = "the ordinary backend", .make = make_ours},
};

static struct named_backend faulty = {
    .name = "FAULTY",
    .backend = {.size = sizeof(tdr_backend),
                .text = "fails or delays messages on purpose: fail_messages, fail_sends, delay_messages",
                .construct_options = construct_faulty,
                .make = make_ours},
};

/* ---- the table ---- */

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER; /* guards the table, not what it points to */
static struct named_backend *first_entries[] = {&ours, &faulty};
static struct named_backend **entries = first_entries;
static size_t count = COUNT_OF(first_entries), room = COUNT_OF(first_entries);

static _Thread_local unsigned nested; /* backends that this thread is inside of */

/* With the lock held. */
static struct named_backend *find_locked(const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(entries[i]->name, name) == 0)
			return entries[i];
	return NULL;
}

static struct named_backend *find(const char *name)
{
	struct named_backend *entry;

	if (!name)
		return NULL;
	pthread_rwlock_rdlock(&lock);
	entry = find_locked(name);
	pthread_rwlock_unlock(&lock);
	return entry;
}

/* A name that the user may have meant; NULL if none is alike. With the lock held. */
static const char *find_alike(const char *name)
{
	size_t best = strlen(name) / 3 + 1;
	const char *alike = NULL;

	for (size_t i = 0; i < count; i++) {
		const char *other = entries[i]->name;
		size_t distance =
		    strcasecmp(other, name) == 0 ? 0 : edit_distance(other, strlen(other), name, strlen(name));

		if (distance < best) {
			best = distance;
			alike = other;
		}
	}
	return alike;
}

static tdr_status not_found(const char *name)
{
	char known[512];
	const char *alike;
	size_t at = 0;

	if (!name)
		return error_set(TDR_EINVAL, "the name of a backend is NULL");
	pthread_rwlock_rdlock(&lock);
	alike = find_alike(name);
	for (size_t i = 0; i < count && at < sizeof(known); i++)
		at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s", i > 0 ? ", " : "", entries[i]->name);
	pthread_rwlock_unlock(&lock);
	return error_set(TDR_ENOTFOUND, "there is no RPC backend '%.127s'%s%s%s; there are: %s", name,
	                 alike ? "; did you mean '" : "", alike ? alike : "", alike ? "'?" : "", known);
}

/* ---- registering ---- */

static tdr_status check(const char *name, const tdr_backend *backend)
{
	size_t length = name ? strlen(name) : 0;

	if (length == 0 || length > MAX_NAME ||
	    strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:.") != length)
		return error_set(TDR_EINVAL,
		                 "a backend's name has 1 to %d letters, digits and -_:. and '%.127s' is none", MAX_NAME,
		                 name ? name : "NULL");
	if (!backend || backend->size != sizeof(*backend))
		return error_set(TDR_EINVAL, "RPC backend %s: its size is %zu, not %zu: set it to sizeof(tdr_backend)",
		                 name, backend ? backend->size : 0, sizeof(*backend));
	return TDR_OK;
}

static void entry_free(struct named_backend *entry)
{
	if (!entry)
		return;
	free((char *)entry->name);
	free((char *)entry->backend.text);
	free(entry);
}

static struct named_backend *entry_new(const char *name, const tdr_backend *backend, void *context)
{
	struct named_backend *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->backend = *backend;
	entry->context = context;
	entry->name = strdup(name);
	entry->backend.text = strdup(backend->text ? backend->text : "");
	if (entry->name && entry->backend.text)
		return entry;
	entry_free(entry);
	return NULL;
}

/* Room for one more; false when memory runs out. With the lock held for writing. */
static bool grow(void)
{
	struct named_backend **wider;

	if (count < room)
		return true;
	wider = malloc(room * 2 * sizeof(*wider));
	if (!wider)
		return false;
	memcpy(wider, entries, count * sizeof(*wider));
	if (entries != first_entries)
		free(entries);
	entries = wider;
	room *= 2;
	return true;
}

tdr_status tdr_register_backend(const char *name, const tdr_backend *backend, void *context)
{
	struct named_backend *entry;
	tdr_status status = check(name, backend);

	if (status != TDR_OK)
		return status;
	entry = entry_new(name, backend, context);
	if (!entry)
		return error_nomem();
	pthread_rwlock_wrlock(&lock);
	if (find_locked(name))
		status = error_set(TDR_EEXISTS, "RPC backend %s: already registered", name);
	else if (!grow())
		status = error_nomem();
	else
		entries[count++] = TAKE_PTR(entry);
	pthread_rwlock_unlock(&lock);
	entry_free(entry);
	return status;
}

bool tdr_backend_registered(const char *name)
{
	return find(name) != NULL;
}

const char *tdr_backend_name(size_t index)
{
	const char *name;

	pthread_rwlock_rdlock(&lock);
	name = index < count ? entries[index]->name : NULL;
	pthread_rwlock_unlock(&lock);
	return name;
}

const char *tdr_backend_text(const char *name)
{
	const struct named_backend *entry = find(name);

	return entry ? entry->backend.text : NULL;
}

/* ---- making ---- */

tdr_status tdr_backend_construct_options(const char *name, tdr_agent_options *ret_options)
{
	const struct named_backend *entry = find(name);

	if (!entry)
		return not_found(name);
	tdr_agent_options_init(ret_options);
	if (entry->backend.construct_options)
		entry->backend.construct_options(entry->context, ret_options);
	ret_options->size = sizeof(*ret_options);
	ret_options->backend = entry->name;
	return TDR_OK;
}

/* By a backend that a program has registered, which is given options (a copy of its own) whose backend is TENDRIL. */
static tdr_status make_by_program(const struct named_backend *entry, const char *name, tdr_agent_options *options,
                                  tdr_agent **ret_agent)
{
	tdr_agent *agent = NULL;
	tdr_status status;

	if (nested >= MAX_NESTED)
		return error_set(TDR_ELIMIT,
		                 "RPC backend %s makes its agents by a backend that makes them by %s: let it call "
		                 "tdr_agent_new with the options that it is given",
		                 entry->name, entry->name);
	free((char *)options->backend);
	options->backend = strdup(ours.name);
	if (!options->backend)
		return error_nomem();
	if (!entry->backend.make)
		return agent_make(name, options, ret_agent);
	nested++;
	status = entry->backend.make(entry->context, name, options, &agent);
	nested--;
	if (status == TDR_OK && !agent)
		return error_set(TDR_EINTERNAL, "RPC backend %s says that it has made agent '%s', and gives none",
		                 entry->name, name ? name : "NULL");
	if (status != TDR_OK)
		return error_prefix(status, "RPC backend %s", entry->name);
	*ret_agent = agent;
	return TDR_OK;
}

static tdr_status make(const struct named_backend *entry, const char *name, tdr_agent_options *options,
                       tdr_agent **ret_agent)
{
	bool built_in = entry == &ours || entry == &faulty;
	tdr_agent *agent;
	tdr_status status =
	    built_in ? agent_make(name, options, &agent) : make_by_program(entry, name, options, &agent);

	if (status != TDR_OK)
		return status;
	agent->backend = entry->name;
	*ret_agent = agent;
	return TDR_OK;
}

tdr_status backend_make(const char *name, const tdr_agent_options *options, tdr_agent **ret_agent)
{
	const struct named_backend *entry;
	tdr_agent_options copy;
	tdr_status status = options_copy(options, &copy);

	if (status != TDR_OK)
		return status;
	entry = find(copy.backend ? copy.backend : ours.name);
	status = entry ? make(entry, name, &copy, ret_agent) : not_found(copy.backend);
	tdr_store_unref(copy.store);
	tdr_engine_unref(copy.engine);
	options_fini(&copy);
	return status;
}

tdr_status tdr_init_backend(const char *backend, const char *worker_name, const tdr_agent_options *options,
                            tdr_agent **ret_agent)
{
	tdr_agent_options chosen;
	tdr_status status = tdr_backend_construct_options(backend, &chosen);

	if (status != TDR_OK)
		return status;
	if (options) {
		chosen = *options;
		chosen.backend = backend;
	}
	return tdr_init_rpc(worker_name, &chosen, ret_agent);
}

const char *tdr_agent_backend(const tdr_agent *agent)
{
	return agent->backend;
}
