/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of one agent, by name. Look-ups take no lock that registrations hold for long. A function that is
 * found is counted: it, and its context, live until the last call of it ends.
 */
#ifndef TENDRIL_FUNCTION_REGISTRY_H
#define TENDRIL_FUNCTION_REGISTRY_H

#include "base/refcount.h"
#include "function/schema.h"

#include <stdatomic.h>
#include <tendril/function.h>

/* Functions that may share a name and differ by overload: the room that registry_find needs at most. */
#define REGISTRY_MAX_OVERLOADS 32

struct function {
	struct refcount refs;
	struct schema *schema;
	tdr_function run;
	void *context;
	void (*destructor)(void *context); /* may be NULL */
	unsigned flags;                    /* TDR_FUNCTION_... */
};

struct registry;

/* NULL when memory runs out. */
struct registry *registry_new(void);

/* Drops its functions; those of calls that still run live on. NULL is legal; returns NULL. */
struct registry *registry_free(struct registry *registry);

/*
 * Errors: TDR_EINVAL (the schema, a NULL function, an unknown flag), TDR_EEXISTS (the full name is taken), TDR_ELIMIT
 * (too many overloads), TDR_ENOMEM; the destructor is not run then.
 */
tdr_status registry_add(struct registry *registry, const char *schema, tdr_function run, void *context,
                        void (*destructor)(void *context), unsigned flags);

/* Withdraws a function by its full name. Errors: TDR_ENOFUNCTION. */
tdr_status registry_remove(struct registry *registry, const char *name);

/*
 * Finds by full name ("aten::add.Tensor", `size` bytes, no NUL needed), or by a name without overload, which gives
 * ret_functions every function of that name in the order they were registered: the caller binds with the first that
 * takes the arguments. Where nothing has that name, the wildcard that stands for it ("aten::*"), if there is one. Returns counted references in ret_functions [room], and their number; 0 where there is none
 * (then registry_suggest helps).
 */
size_t registry_find(struct registry *registry, const char *name, size_t size, struct function *ret_functions[],
                     size_t room);

/*
 * Writes the registered name most like `name`, for "did you mean"; false where none is alike. The same name in another
 * namespace, or in other case, counts as alike.
 */
bool registry_suggest(struct registry *registry, const char *name, size_t size, char *buffer, size_t room);

struct function *function_ref(struct function *function);
struct function *function_unref(struct function *function); /* NULL is legal; returns NULL */

#endif
