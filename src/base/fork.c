/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fork.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

_Atomic uint32_t *fork_word;

static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t last_generation; /* ordinary memory: a child inherits it, and counts on */

/* Where a page cannot be wiped (it can since Linux 4.14), a handler in the child does it. */
static void wipe_in_child(void)
{
	atomic_store(fork_word, 0);
}

__attribute__((constructor)) static void fork_word_map(void)
{
	static _Atomic uint32_t fallback;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool mapped = memory != MAP_FAILED;

	fork_word = mapped ? memory : &fallback;
	if (!mapped || madvise(memory, page, MADV_WIPEONFORK) != 0)
		pthread_atfork(NULL, NULL, wipe_in_child);
}

uint32_t fork_generation_slow(void)
{
	uint32_t generation;

	pthread_mutex_lock(&fork_lock);
	generation = atomic_load(fork_word);
	if (generation == 0) {
		generation = ++last_generation;
		atomic_store(fork_word, generation);
	}
	pthread_mutex_unlock(&fork_lock);
	return generation;
}
