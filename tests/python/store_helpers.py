# SPDX-License-Identifier: Apache-2.0
"""Stores written in Python, for tests of what takes a store."""

import datetime
import gc
import os
import threading
import time

from tendril import store


class Table:
    """A store that is none of anybody's classes. Its methods are Python's."""

    def __init__(self, pause=0.0):
        self.values = {}
        self.pause = pause
        self.lock = threading.Condition()
        self.threads = set()
        self.timeouts = []
        self.timeout = datetime.timedelta(seconds=30)

    def _begin(self):
        self.threads.add(threading.get_ident())
        if self.pause:
            time.sleep(self.pause)

    @staticmethod
    def _bytes(value):
        return value.encode() if isinstance(value, str) else value

    def set_timeout(self, timeout):
        self.timeout = timeout

    def set(self, key, value):
        self._begin()
        with self.lock:
            self.values[key] = self._bytes(value)
            self.lock.notify_all()

    def get(self, key):
        Table.wait(self, [key], self.timeout)
        with self.lock:
            return self.values[key]

    def add(self, key, amount):
        self._begin()
        with self.lock:
            total = int(self.values.get(key, b"0")) + amount
            self.values[key] = str(total).encode()
            self.lock.notify_all()
            return total

    def compare_set(self, key, expected, desired):
        self._begin()
        with self.lock:
            found = self.values.get(key)
            if (found or b"") != self._bytes(expected):
                return self._bytes(expected) if found is None else found
            self.values[key] = self._bytes(desired)
            self.lock.notify_all()
            return self.values[key]

    def wait(self, keys, timeout=None):
        self._begin()
        limit = self.timeout if timeout is None else timeout
        self.timeouts.append(limit)
        with self.lock:
            if not self.lock.wait_for(lambda: all(key in self.values for key in keys), limit.total_seconds()):
                raise TimeoutError("Wait timeout")

    def delete_key(self, key):
        self._begin()
        with self.lock:
            return self.values.pop(key, None) is not None

    def num_keys(self):
        return len(self.values)


class OwnStore(Table, store.Store):
    """The same as a class derived from the package's."""

    timeout = None

    def __init__(self, pause=0.0):
        store.Store.__init__(self)
        Table.__init__(self, pause)


class BrokenStore(Table):
    """Raises from a method that a test names."""

    def __init__(self, method, error):
        super().__init__()
        self.error = error
        setattr(self, method, self._raise)

    def _raise(self, *arguments):
        raise self.error


def is_collected(reference):
    """Whether an object goes that nobody can reach: at once, or when another thread has let go of its adapter."""
    deadline = time.monotonic() + 30
    while reference() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return reference() is None


def leave_in_order(url, rank, world_size):
    """The last thing a process of a group does, without its store: who may host it, rank 0, leaves after the others."""
    path = url[len("file://") :] + ".left"
    if rank != 0:
        open(f"{path}{rank}", "w").close()
        return
    while not all(os.path.exists(f"{path}{other}") for other in range(1, world_size)):
        time.sleep(0.01)
