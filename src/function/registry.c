/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions by name: a chained hash table of names without overload, each with its functions in the order they came.
 *
 * `lock` guards the table. Readers hold it for one look-up; writers for a link or an unlink, all that can be made
 * beforehand is made before. Nothing is parsed, and no function is dropped (whose destructor is the program's), while
 * it is held. The table holds one reference to each function.
 */
#include "function/registry.h"

#include "base/edit_distance.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/macros.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FIRST_BUCKETS 64  /* a power of two */
#define WILDCARD_SIZE 128 /* of a namespace that a wildcard may stand for */

struct name {
	struct name *next; /* in its bucket */
	uint64_t hash;
	size_t size; /* of `text`, which has no overload and no NUL */
	size_t count;
	struct function *functions[REGISTRY_MAX_OVERLOADS];
	char text[];
};

struct registry {
	pthread_rwlock_t lock;
	size_t count;      /* names */
	size_t nwildcards; /* of these */
	size_t nbuckets;   /* a power of two */
	struct name **buckets;
};

/* ---- functions ---- */

struct function *function_ref(struct function *function)
{
	refcount_get(&function->refs);
	return function;
}

struct function *function_unref(struct function *function)
{
	if (!function || !refcount_put(&function->refs))
		return NULL;
	if (function->destructor)
		function->destructor(function->context);
	schema_free(function->schema);
	free(function);
	return NULL;
}

static tdr_status function_new(const char *schema, tdr_function run, void *context, unsigned flags,
                               struct function **ret_function)
{
	struct function *function;
	tdr_status status;

	if (!run)
		return error_set(TDR_EINVAL, "'%.100s': the function to register is NULL", schema ? schema : "");
	if (flags & ~(unsigned)(TDR_FUNCTION_INLINE | TDR_FUNCTION_IDEMPOTENT))
		return error_set(TDR_EINVAL, "'%.100s': unknown flags 0x%x; see TDR_FUNCTION_...", schema ? schema : "",
		                 flags);
	function = calloc(1, sizeof(*function));
	if (!function)
		return error_nomem();
	status = schema_parse(schema, &function->schema);
	if (status != TDR_OK) {
		free(function);
		return status;
	}
	refcount_init(&function->refs);
	function->run = run;
	function->context = context;
	function->flags = flags;
	*ret_function = function;
	return TDR_OK;
}

/* ---- the table; its lock is held ---- */

/* Bytes of a full name before its overload. */
static size_t plain_size(const char *name, size_t size)
{
	const char *dot = memchr(name, '.', size);

	return dot ? (size_t)(dot - name) : size;
}

static struct name **bucket_of(const struct registry *registry, uint64_t hash)
{
	return &registry->buckets[hash & (registry->nbuckets - 1)];
}

/* The link that points to the name of `size` bytes without overload, or to NULL. */
static struct name **find_name(const struct registry *registry, const char *text, size_t size)
{
	uint64_t hash = hash_bytes(text, size);
	struct name **link = bucket_of(registry, hash);

	while (*link && ((*link)->hash != hash || (*link)->size != size || memcmp((*link)->text, text, size) != 0))
		link = &(*link)->next;
	return link;
}

/* The index of the function of that full name; name->count where there is none. */
static size_t find_overload(const struct name *name, const char *full, size_t size)
{
	size_t i;

	for (i = 0; i < name->count; i++) {
		const char *known = name->functions[i]->schema->name;

		if (strlen(known) == size && memcmp(known, full, size) == 0)
			break;
	}
	return i;
}

/* Twice the buckets; the table stays as it is, only slower, when memory runs out. */
static void grow(struct registry *registry)
{
	struct registry wider = {.nbuckets = registry->nbuckets * 2};

	wider.buckets = calloc(wider.nbuckets, sizeof(*wider.buckets));
	if (!wider.buckets)
		return;
	for (size_t i = 0; i < registry->nbuckets; i++) {
		struct name *name = registry->buckets[i];

		while (name) {
			struct name *next = name->next;
			struct name **link = bucket_of(&wider, name->hash);

			name->next = *link;
			*link = name;
			name = next;
		}
	}
	free(registry->buckets);
	registry->buckets = wider.buckets;
	registry->nbuckets = wider.nbuckets;
}

/* Links the function; *spare is taken where its name is new. */
static tdr_status add_locked(struct registry *registry, struct function *function, struct name **spare)
{
	const char *full = function->schema->name;
	struct name **link = find_name(registry, (*spare)->text, (*spare)->size);
	struct name *name = *link;

	if (name && find_overload(name, full, strlen(full)) < name->count)
		return error_set(
		    TDR_EEXISTS,
		    "function '%s' is registered already; withdraw it first, or name an overload, as in '%.*s.other'",
		    full, (int)name->size, name->text);
	if (name && name->count == REGISTRY_MAX_OVERLOADS)
		return error_set(TDR_ELIMIT,
		                 "function '%s' would be one more than the %d overloads that a name may have", full,
		                 REGISTRY_MAX_OVERLOADS);
	if (!name) {
		name = TAKE_PTR(*spare);
		*link = name;
		registry->nwildcards += function->schema->wildcard;
		if (++registry->count > registry->nbuckets)
			grow(registry);
	}
	name->functions[name->count++] = function;
	return TDR_OK;
}

/* ---- the registry ---- */

/* A lock whose writers do not starve under look-ups without end; its readers never nest. */
static int lock_init(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attributes;
	int error = pthread_rwlockattr_init(&attributes);

	if (error != 0)
		return error;
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	error = pthread_rwlock_init(lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	return error;
}

struct registry *registry_new(void)
{
	struct registry *registry = calloc(1, sizeof(*registry));

	if (!registry)
		return NULL;
	registry->nbuckets = FIRST_BUCKETS;
	registry->buckets = calloc(registry->nbuckets, sizeof(struct name *));
	if (!registry->buckets || lock_init(&registry->lock) != 0) {
		free(registry->buckets);
		free(registry);
		return NULL;
	}
	return registry;
}

struct registry *registry_free(struct registry *registry)
{
	if (!registry)
		return NULL;
	for (size_t i = 0; i < registry->nbuckets; i++) {
		struct name *name = registry->buckets[i];

		while (name) {
			struct name *next = name->next;

			for (size_t j = 0; j < name->count; j++)
				function_unref(name->functions[j]);
			free(name);
			name = next;
		}
	}
	pthread_rwlock_destroy(&registry->lock);
	free(registry->buckets);
	free(registry);
	return NULL;
}

tdr_status registry_add(struct registry *registry, const char *schema, tdr_function run, void *context,
                        void (*destructor)(void *context), unsigned flags)
{
	struct function *function = NULL;
	struct name *spare;
	tdr_status status = function_new(schema, run, context, flags, &function);
	size_t size;

	if (status != TDR_OK)
		return status;
	size = plain_size(function->schema->name, strlen(function->schema->name));
	spare = calloc(1, sizeof(*spare) + size);
	if (spare) {
		spare->size = size;
		memcpy(spare->text, function->schema->name, size);
		spare->hash = hash_bytes(spare->text, size);
		/* Only now, so that a failure never runs it, and before another thread can find the function. */
		function->destructor = destructor;
		pthread_rwlock_wrlock(&registry->lock);
		status = add_locked(registry, function, &spare);
		pthread_rwlock_unlock(&registry->lock);
	} else {
		status = error_nomem();
	}
	free(spare);
	if (status != TDR_OK) {
		function->destructor = NULL;
		function_unref(function);
	}
	return status;
}

tdr_status registry_remove(struct registry *registry, const char *name)
{
	struct function *function = NULL;
	struct name *empty = NULL;
	struct name **link;
	size_t size, index;

	if (!name)
		return error_set(TDR_EINVAL, "the name of the function to withdraw is NULL");
	size = strlen(name);
	pthread_rwlock_wrlock(&registry->lock);
	link = find_name(registry, name, plain_size(name, size));
	index = *link ? find_overload(*link, name, size) : 0;
	if (*link && index < (*link)->count) {
		struct name *found = *link;

		function = found->functions[index];
		found->count--;
		memmove(&found->functions[index], &found->functions[index + 1],
		        (found->count - index) * sizeof(found->functions[0]));
		if (found->count == 0) {
			empty = found;
			*link = found->next;
			registry->count--;
			registry->nwildcards -= function->schema->wildcard;
		}
	}
	pthread_rwlock_unlock(&registry->lock);
	free(empty);
	if (!function)
		return error_set(TDR_ENOFUNCTION,
		                 "no function '%.200s' is registered; one is withdrawn by its full name", name);
	function_unref(function);
	return TDR_OK;
}

/* The wildcard that stands for a name, that of the longest namespace first; NULL if there is none. The lock is held. */
static const struct name *find_wildcard(const struct registry *registry, const char *text, size_t size)
{
	char wildcard[WILDCARD_SIZE];

	for (size_t space = MIN_OF(size, sizeof(wildcard) - 1); space >= 2; space--) {
		const struct name *found;

		if (text[space - 1] != ':' || text[space - 2] != ':')
			continue;
		memcpy(wildcard, text, space);
		wildcard[space] = '*';
		found = *find_name(registry, wildcard, space + 1);
		if (found)
			return found;
	}
	return NULL;
}

size_t registry_find(struct registry *registry, const char *name, size_t size, struct function *ret_functions[],
                     size_t room)
{
	size_t plain = plain_size(name, size);
	const struct name *found;
	size_t count = 0;

	pthread_rwlock_rdlock(&registry->lock);
	found = *find_name(registry, name, plain);
	if (found && plain == size) {
		for (; count < MIN_OF(found->count, room); count++)
			ret_functions[count] = function_ref(found->functions[count]);
	} else if (found && room > 0) {
		size_t index = find_overload(found, name, size);

		if (index < found->count)
			ret_functions[count++] = function_ref(found->functions[index]);
	}
	if (count == 0 && room > 0 && registry->nwildcards > 0 && (found = find_wildcard(registry, name, size)))
		ret_functions[count++] = function_ref(found->functions[0]);
	pthread_rwlock_unlock(&registry->lock);
	return count;
}

/* ---- suggestions ---- */

/* Where the last part of a name begins: after its namespaces. */
static size_t last_part(const char *name, size_t size)
{
	size_t start = size;

	while (start > 0 && name[start - 1] != ':')
		start--;
	return start;
}

/* How far `known` is from `name`; SIZE_MAX where they are not alike. */
static size_t unlikeness(const char *name, size_t size, const char *known, size_t known_size)
{
	size_t part = last_part(name, size), known_part = last_part(known, known_size);
	size_t distance;

	if (known_size == size && strncasecmp(known, name, size) == 0)
		return 0;
	if (part < size && size - part == known_size - known_part &&
	    memcmp(name + part, known + known_part, size - part) == 0)
		return 1;
	distance = edit_distance(name, size, known, known_size);
	return distance <= 1 + (size - part) / 6 ? distance : SIZE_MAX;
}

struct guess {
	const char *text;
	size_t size;
	size_t distance;
};

/* Of two that are as near the first by alphabet wins, so that the table's order does not show. */
static void consider(struct guess *guess, const char *known, size_t known_size, size_t distance)
{
	if (distance == SIZE_MAX || distance > guess->distance)
		return;
	if (distance == guess->distance && strncmp(known, guess->text, MIN_OF(known_size, guess->size)) >= 0)
		return;
	*guess = (struct guess){.text = known, .size = known_size, .distance = distance};
}

bool registry_suggest(struct registry *registry, const char *name, size_t size, char *buffer, size_t room)
{
	bool full = plain_size(name, size) < size;
	struct guess guess = {.distance = SIZE_MAX};

	if (size == 0 || size > EDIT_DISTANCE_MAX || room == 0)
		return false;
	pthread_rwlock_rdlock(&registry->lock);
	for (size_t i = 0; i < registry->nbuckets; i++) {
		for (const struct name *at = registry->buckets[i]; at; at = at->next) {
			if (!full)
				consider(&guess, at->text, at->size, unlikeness(name, size, at->text, at->size));
			for (size_t j = 0; full && j < at->count; j++) {
				const char *known = at->functions[j]->schema->name;
				size_t known_size = strlen(known);

				consider(&guess, known, known_size, unlikeness(name, size, known, known_size));
			}
		}
	}
	if (guess.text) {
		size_t shown = MIN_OF(guess.size, room - 1);

		memcpy(buffer, guess.text, shown);
		buffer[shown] = '\0';
	}
	pthread_rwlock_unlock(&registry->lock);
	return guess.text != NULL;
}
