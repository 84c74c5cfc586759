/* SPDX-License-Identifier: Apache-2.0 */
#include "rref/window.h"

#include <stdlib.h>
#include <string.h>

/* Where a number is among the early ones, or would be. */
static size_t position(const struct window *window, uint64_t number)
{
	size_t low = 0, high = window->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (window->early[middle] < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool window_has(const struct window *window, uint64_t number)
{
	size_t at;

	if (number <= window->below)
		return true;
	at = position(window, number);
	return at < window->count && window->early[at] == number;
}

uint64_t window_last(const struct window *window)
{
	return window->count > 0 ? window->early[window->count - 1] : window->below;
}

/* Moves the mark over those that follow it without a gap. */
static void close_gap(struct window *window)
{
	size_t filled = 0;

	while (filled < window->count && window->early[filled] == window->below + 1) {
		window->below++;
		filled++;
	}
	if (filled == 0)
		return;
	window->count -= filled;
	memmove(window->early, window->early + filled, window->count * sizeof(*window->early));
}

enum window_verdict window_take(struct window *window, uint64_t number)
{
	size_t at;

	if (window_has(window, number))
		return WINDOW_SEEN;
	if (number == window->below + 1) {
		window->below = number;
		close_gap(window);
		return WINDOW_NEW;
	}
	if (window->count == window->room) {
		size_t room = MAX_OF(window->room * 2, (size_t)8);
		uint64_t *early = room <= WINDOW_MAX_EARLY ? realloc(window->early, room * sizeof(*early)) : NULL;

		if (!early)
			return WINDOW_REFUSED;
		window->early = early;
		window->room = room;
	}
	at = position(window, number);
	memmove(window->early + at + 1, window->early + at, (window->count - at) * sizeof(*window->early));
	window->early[at] = number;
	window->count++;
	return WINDOW_NEW;
}

void window_fini(struct window *window)
{
	free(window->early);
	*window = (struct window){0};
}
