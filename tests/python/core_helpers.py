# SPDX-License-Identifier: Apache-2.0
"""What the tests of the extension share: members of a group, made of `_C.Agent` alone, and functions that they call."""

import contextlib
import threading
import time

from tendril import _C

ERROR_TEXT = "Expected error"


def join(rank, world_size, url, prefix="worker", **options):
    """An agent that has joined and is the current one."""
    agent = _C.Agent(f"{prefix}{rank}", init_method=url, rank=rank, world_size=world_size, **options)
    _C.set_current_agent(agent)
    agent.join()
    return agent


@contextlib.contextmanager
def member(rank, world_size, url, **options):
    """The same, shut down at the end together with the others."""
    agent = join(rank, world_size, url, **options)
    try:
        yield agent
    except BaseException:
        agent.abort()
        raise
    else:
        agent.shutdown()
    finally:
        _C.reset_current_agent()


def sync(to, function, *args, timeout=-1.0, **kwargs):
    return _C.rpc_sync(to, function, args, kwargs, timeout)


def call_async(to, function, *args, timeout=-1.0, **kwargs):
    return _C.current_agent().call(to, function, args, kwargs, timeout, _C.ASYNC)


def remote(to, function, *args, timeout=-1.0, **kwargs):
    return _C.current_agent().call(to, function, args, kwargs, timeout, _C.REMOTE)


def add(a, b=0, *, c=0):
    return a + b + c


def identity(value):
    return value


def raise_error(kind):
    raise kind(ERROR_TEXT)


class OddError(Exception):
    """An exception that cannot be made of one argument."""

    def __init__(self, first, second):
        super().__init__(first, second)
        self.second = second


def raise_odd():
    raise OddError("one", 2)


def sleep(seconds):
    time.sleep(seconds)
    return seconds


class Counter:
    """An object that cannot travel as a plain value."""

    def __init__(self, start=0):
        self.count = start

    def increment(self, by=1):
        self.count += by
        return self.count

    @classmethod
    def make(cls, start):
        return cls(start)

    @staticmethod
    def double(number):
        return 2 * number


class Unpicklable:
    """An object that stays where it is."""

    def __init__(self):
        self.lock = threading.Lock()


def make_unpicklable():
    return Unpicklable()


def increment_local(rref):
    """Runs on the owner: changes the very object."""
    return rref.local_value().increment()


def bounce(to, depth):
    """Calls back and forth, each call inside the one before."""
    if depth == 0:
        return 0
    return 1 + sync(to, bounce, _C.current_agent().name, depth - 1)
