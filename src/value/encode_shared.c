/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers that a message meets twice. Bytes are a tree, so one container in two places would arrive as two; that is
 * refused, and both places are named.
 *
 * A container with one reference cannot be met twice, so others alone are remembered: most messages remember none.
 * Where it is is found by a second walk, when it comes to an error.
 */
#include "value/encode.h"

#include "base/error.h"
#include "value/layout.h"

/* A key is cut to this in a path, a path to what an error's text holds. */
#define KEY_TEXT 40
#define PATH_TEXT 240

struct encoder_root {
	const tdr_value *value;
	const char *name;
};

void shared_reset(struct encoder *encoder)
{
	pointers_clear(&encoder->seen);
	encoder->roots.size = 0;
	encoder->roots.failed = false;
}

void shared_fini(struct encoder *encoder)
{
	pointers_fini(&encoder->seen);
	buffer_fini(&encoder->roots);
}

tdr_status shared_add_root(struct encoder *encoder, const tdr_value *value, const char *name)
{
	struct encoder_root root = {.value = value, .name = name};

	buffer_append(&encoder->roots, &root, sizeof(root));
	return encoder->roots.failed ? error_nomem() : TDR_OK;
}

/* ---- naming ---- */

/* A walk that looks for the places where a container lies. */
struct search {
	const tdr_value *wanted;
	struct buffer path; /* of where the walk is */
	char places[2][PATH_TEXT];
	size_t nplaces;
};

static void keep_place(struct search *search)
{
	size_t size = MIN_OF(search->path.size, (size_t)PATH_TEXT - 1);

	memcpy(search->places[search->nplaces], search->path.data, size);
	search->places[search->nplaces][size] = '\0';
	search->nplaces++;
}

/*
 * Adds the step to one item of a container: "[3]", "['x']"; "{3}" for a set's item or a dict's key, which have no name.
 */
static void add_step(struct buffer *path, const struct container_value *container, size_t item)
{
	char key[KEY_TEXT];

	switch ((tdr_kind)container->head.kind) {
	case TDR_DICT:
		if (item % 2 == 1) {
			tdr_value_print(container->items[item - 1], key, sizeof(key));
			buffer_printf(path, "[%s]", key);
		} else {
			buffer_printf(path, "{%zu}", item / 2);
		}
		break;
	case TDR_SET:
		buffer_printf(path, "{%zu}", item);
		break;
	default:
		buffer_printf(path, "[%zu]", item);
		break;
	}
}

static void search_value(struct search *search, const tdr_value *value)
{
	const struct container_value *container = (const struct container_value *)value;
	size_t nitems, size = search->path.size;

	if (!value_is_container(value) || search->nplaces == COUNT_OF(search->places))
		return;
	if (value == search->wanted) {
		keep_place(search);
		return;
	}
	nitems = container->count * container_width(value->kind);
	for (size_t i = 0; i < nitems && search->nplaces < COUNT_OF(search->places); i++) {
		add_step(&search->path, container, i);
		search_value(search, container->items[i]);
		search->path.size = size;
	}
}

static tdr_status refuse(struct encoder *encoder, const tdr_value *container)
{
	const struct encoder_root *roots = (const struct encoder_root *)encoder->roots.data;
	struct search search = {.wanted = container, .places = {"a part", "another"}};
	tdr_status status;

	for (size_t i = 0; i < encoder->roots.size / sizeof(*roots); i++) {
		search.path.size = 0;
		buffer_printf(&search.path, "%s", roots[i].name);
		search_value(&search, roots[i].value);
	}
	status = error_set(TDR_ESHARED,
	                   "%s is the same %s as %s: a container can be sent in one place, so send a copy of it",
	                   search.places[1], tdr_kind_name((tdr_kind)container->kind), search.places[0]);
	buffer_fini(&search.path);
	return status;
}

tdr_status shared_check(struct encoder *encoder, const tdr_value *container)
{
	if (pointers_find(&encoder->seen, container) >= 0)
		return refuse(encoder, container);
	return pointers_add(&encoder->seen, container) ? TDR_OK : error_nomem();
}
