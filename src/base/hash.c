/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-1-3 under a key drawn at random, and the open-addressing index. */
#include "base/hash.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define FIRST_SLOTS 32

static uint64_t key[2];
static pthread_once_t key_drawn = PTHREAD_ONCE_INIT;

static void draw_key(void)
{
	ssize_t size;

	do
		size = getrandom(key, sizeof(key), 0);
	while (size < 0 && errno == EINTR);
	if (size != (ssize_t)sizeof(key)) {
		/* A kernel without getrandom: guessable, still better than a constant. */
		struct timespec now;

		clock_gettime(CLOCK_MONOTONIC, &now);
		key[0] = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u;
		key[1] = (uintptr_t)&now ^ (uint64_t)now.tv_sec;
	}
}

static inline uint64_t rotate(uint64_t word, unsigned bits)
{
	return word << bits | word >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] = rotate(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] = rotate(v[2], 32);
}

uint64_t hash_bytes(const void *data, size_t size)
{
	const uint8_t *at = data;
	uint64_t v[4], word, last = (uint64_t)size << 56;

	pthread_once(&key_drawn, draw_key);
	v[0] = key[0] ^ 0x736f6d6570736575u;
	v[1] = key[1] ^ 0x646f72616e646f6du;
	v[2] = key[0] ^ 0x6c7967656e657261u;
	v[3] = key[1] ^ 0x7465646279746573u;
	for (; size >= sizeof(word); size -= sizeof(word), at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	if (size > 0) {
		word = 0;
		memcpy(&word, at, size);
		last |= word;
	}
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static void insert(struct hash_index *index, uint32_t hash, uint32_t place)
{
	size_t probe = hash;

	while (index->slots[probe & index->mask].place)
		probe++;
	index->slots[probe & index->mask] = (struct hash_slot){.hash = hash, .place = place};
	index->used++;
}

/* Twice the slots; what is there is put in again. */
static bool grow(struct hash_index *index)
{
	size_t room = index->slots ? ((size_t)index->mask + 1) * 2 : FIRST_SLOTS;
	struct hash_index bigger = {.mask = (uint32_t)(room - 1)};

	if (room - 1 > UINT32_MAX)
		return false;
	bigger.slots = calloc(room, sizeof(*bigger.slots));
	if (!bigger.slots)
		return false;
	for (size_t i = 0; index->slots && i <= index->mask; i++)
		if (index->slots[i].place)
			insert(&bigger, index->slots[i].hash, index->slots[i].place);
	free(index->slots);
	*index = bigger;
	return true;
}

bool hash_index_add(struct hash_index *index, uint64_t hash, uint32_t position)
{
	/* Half full at most: runs of occupied slots stay short. */
	if ((!index->slots || index->used >= (index->mask + 1) / 2) && !grow(index))
		return false;
	insert(index, (uint32_t)hash, position + 1);
	return true;
}

void hash_index_clear(struct hash_index *index)
{
	if (index->used > 0)
		memset(index->slots, 0, ((size_t)index->mask + 1) * sizeof(*index->slots));
	index->used = 0;
}

void hash_index_fini(struct hash_index *index)
{
	free(index->slots);
	*index = (struct hash_index){0};
}
