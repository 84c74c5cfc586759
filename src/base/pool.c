/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory pool. Blocks come in classes of size, four to each power of two, so that at most a quarter is added to what was
 * asked for; a block is used again for requests of its own class alone.
 *
 * A block's head lies in the 64 bytes before its data and is never poisoned, so that the lists may run through it. Blocks of
 * less than 2 MiB come from malloc. Larger ones are mapped: their data begin on a huge page's boundary, and the head sits at
 * the end of a page before it.
 *
 * The lock is held for a few list operations: memory is taken from the system and given back to it outside.
 */
#include "base/pool.h"

#include "base/fork.h"
#include "base/list.h"
#include "base/macros.h"
#include "base/poison.h"
#include "base/refcount.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGNMENT 64
#define HUGE_PAGE ((size_t)2 << 20)

/* The smallest class and the largest; CLASSES is class_of(LARGEST) + 1. */
#define SMALLEST ((size_t)64)
#define LARGEST ((size_t)1 << 46)
#define CLASSES 161

enum block_state {
	BLOCK_TAKEN = 0x7a4e, /* in somebody's hands; any number that is unlikely to be found by chance */
	BLOCK_KEPT,           /* on the pool's lists, poisoned */
};

struct block {
	struct list peers; /* kept: on the list of its class, the last one given first */
	struct list age;   /* kept: on the list of all, the one given longest ago first */
	struct pool *pool;
	uint32_t class;
	enum block_state state;
};

_Static_assert(sizeof(struct block) <= ALIGNMENT, "a block's head must fit before its data");

struct pool {
	struct refcount refs; /* of its holders, and one for each block handed out */
	uint32_t generation;
	size_t limit;
	pthread_mutex_t lock; /* guards what follows */
	struct pool_stats stats;
	struct list age;
	struct list kept[CLASSES];
};

/* ---- classes ---- */

/*
 * Class sizes are 5, 6, 7 and 8 times a power of two, from 8 * 8 = 64 on. `last`, the last byte's index, has as its upper
 * three bits the number of whole steps that it lies past; so the class is these steps and the power, counted from 64's.
 */
static uint32_t class_of(size_t size)
{
	size_t last = MAX_OF(size, SMALLEST) - 1;
	unsigned shift = 61 - (unsigned)__builtin_clzll(last);

	return (uint32_t)(last >> shift) + 4 * shift - 19;
}

static size_t class_size(uint32_t class)
{
	uint32_t steps = class + 15;

	return (size_t)(5 + steps % 4) << (steps / 4);
}

/* ---- blocks ---- */

static void *block_data(struct block *block)
{
	return (char *)block + ALIGNMENT;
}

static struct block *block_of(void *data)
{
	return (struct block *)(void *)((char *)data - ALIGNMENT);
}

static void *map_data(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t room = page + size + HUGE_PAGE; /* enough, wherever it begins */
	char *map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *data, *start;

	if (map == MAP_FAILED)
		return NULL;
	data = map + (ROUND_UP((uintptr_t)map + page, HUGE_PAGE) - (uintptr_t)map);
	start = data - page;
	if (start > map)
		munmap(map, (size_t)(start - map));
	munmap(data + size, (size_t)(map + room - (data + size)));
	madvise(data, size, MADV_HUGEPAGE); /* a wish: it works without, only slower */
	return data;
}

static void unmap_data(char *data, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	unpoison(data, size); /* whatever is mapped there next begins clean */
	munmap(data - page, page + size);
}

static struct block *block_new(struct pool *pool, uint32_t class)
{
	size_t size = class_size(class);
	struct block *block;

	if (size >= HUGE_PAGE) {
		void *data = map_data(size);

		block = data ? block_of(data) : NULL;
	} else {
		block = aligned_alloc(ALIGNMENT, ROUND_UP(ALIGNMENT + size, (size_t)ALIGNMENT));
	}
	if (!block)
		return NULL;
	list_init(&block->peers);
	list_init(&block->age);
	block->pool = pool;
	block->class = class;
	return block;
}

static void block_free(struct block *block)
{
	size_t size = class_size(block->class);

	if (size >= HUGE_PAGE)
		unmap_data(block_data(block), size);
	else
		free(block);
}

/* Frees all blocks of a list of age. */
static void free_aged(struct list *list)
{
	struct list *node;

	while ((node = list_shift(list)))
		block_free(list_entry(node, struct block, age));
}

/* ---- the pool ---- */

/*
 * False in a child made by fork(), where a thread that is no more may have held the lock, and the lists may be half
 * changed: there blocks bypass them.
 */
static bool lock_unless_forked(struct pool *pool)
{
	if (forked(pool->generation))
		return false;
	pthread_mutex_lock(&pool->lock);
	return true;
}

struct pool *pool_new(size_t limit)
{
	struct pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	assert(class_of(LARGEST) + 1 == CLASSES);
	refcount_init(&pool->refs);
	pool->generation = fork_generation();
	pool->limit = limit;
	pthread_mutex_init(&pool->lock, NULL);
	list_init(&pool->age);
	for (size_t i = 0; i < CLASSES; i++)
		list_init(&pool->kept[i]);
	return pool;
}

struct pool *pool_ref(struct pool *pool)
{
	if (pool)
		refcount_get(&pool->refs);
	return pool;
}

struct pool *pool_unref(struct pool *pool)
{
	if (!pool || !refcount_put(&pool->refs))
		return NULL;
	/* Held can only mean: in a child, since the fork, by a thread that was at work on the lists. They are lost then. */
	if (pthread_mutex_trylock(&pool->lock) == 0) {
		free_aged(&pool->age);
		pthread_mutex_unlock(&pool->lock);
		pthread_mutex_destroy(&pool->lock);
	}
	free(pool);
	return NULL;
}

/* Takes a kept block of the class off the lists, if there is one, and counts what is about to be handed out. */
static struct block *reuse(struct pool *pool, uint32_t class)
{
	struct list *node;
	struct block *block = NULL;

	if (!lock_unless_forked(pool))
		return NULL;
	node = list_shift(&pool->kept[class]);
	if (node) {
		block = list_entry(node, struct block, peers);
		assert(block->state == BLOCK_KEPT);
		list_remove(&block->age);
		pool->stats.bytes_kept -= class_size(class);
		pool->stats.reused++;
	}
	pool->stats.taken++;
	pool->stats.bytes_in_use += class_size(class);
	pthread_mutex_unlock(&pool->lock);
	return block;
}

/* Takes back what reuse() counted. */
static void uncount(struct pool *pool, uint32_t class)
{
	if (!lock_unless_forked(pool))
		return;
	pool->stats.taken--;
	pool->stats.bytes_in_use -= class_size(class);
	pthread_mutex_unlock(&pool->lock);
}

void *pool_take(struct pool *pool, size_t size)
{
	struct block *block;
	uint32_t class;
	char *data;

	if (size > LARGEST)
		return NULL;
	class = class_of(size);
	block = reuse(pool, class);
	if (!block)
		block = block_new(pool, class);
	if (!block) {
		uncount(pool, class);
		return NULL;
	}
	block->state = BLOCK_TAKEN;
	pool_ref(pool);
	data = block_data(block);
	unpoison(data, size);
	poison(data + size, class_size(class) - size);
	return data;
}

/* Puts a block on the lists; what there is no room for then goes to `excess`. */
static void keep(struct pool *pool, struct block *block, struct list *excess)
{
	size_t size = class_size(block->class);

	if (size > pool->limit) {
		list_append(excess, &block->age);
		return;
	}
	block->state = BLOCK_KEPT;
	list_prepend(&pool->kept[block->class], &block->peers);
	list_append(&pool->age, &block->age);
	pool->stats.bytes_kept += size;
	while (pool->stats.bytes_kept > pool->limit) {
		struct list *oldest = list_shift(&pool->age);
		struct block *old = list_entry(oldest, struct block, age);

		list_remove(&old->peers);
		pool->stats.bytes_kept -= class_size(old->class);
		list_append(excess, oldest);
	}
}

void pool_give(struct pool *pool, void *data)
{
	struct block *block;
	struct list excess;

	if (!data)
		return;
	block = block_of(data);
	assert(block->pool == pool && block->state == BLOCK_TAKEN);
	list_init(&excess);
	poison(data, class_size(block->class));
	if (lock_unless_forked(pool)) {
		pool->stats.bytes_in_use -= class_size(block->class);
		keep(pool, block, &excess);
		pthread_mutex_unlock(&pool->lock);
	} else {
		list_append(&excess, &block->age);
	}
	free_aged(&excess);
	pool_unref(pool);
}

struct pool_stats pool_stats(struct pool *pool)
{
	struct pool_stats stats = {0};

	if (lock_unless_forked(pool)) {
		stats = pool->stats;
		pthread_mutex_unlock(&pool->lock);
	}
	return stats;
}
