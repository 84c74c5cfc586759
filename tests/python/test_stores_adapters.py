# SPDX-License-Identifier: Apache-2.0
"""Groups that meet through stores written in Python."""

import contextlib
import datetime
import threading
import weakref

import pytest

from store_helpers import BrokenStore, OwnStore, Table, is_collected
from tendril import _C, store


def meet(tables, world_size, seconds=30):
    """Has one agent for each store join, each in a thread, and leave again; gives their errors by rank."""
    errors = [None] * len(tables)
    names = [None] * len(tables)

    def run(rank):
        agent = _C.Agent(f"worker{rank}", join_timeout_ms=seconds * 1000)
        try:
            agent.join(tables[rank], rank, world_size)
            names[rank] = sorted(worker.name for worker in agent.worker_infos())
            agent.barrier()
            agent.shutdown(graceful=True, timeout=30.0)
        except Exception as error:
            errors[rank] = error
            with contextlib.suppress(RuntimeError):  # one that could not join has ended by itself
                agent.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(tables))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if not any(errors):
        assert names == [[f"worker{rank}" for rank in range(len(tables))]] * len(tables)
    return errors


@pytest.mark.parametrize(
    "make",
    [
        Table,
        OwnStore,
        lambda: Table(pause=0.01),
        lambda: store.PrefixStore("a", Table()),
        lambda: store.PrefixStore("a", store.PrefixStore("b", OwnStore())),
        store.HashStore,
        lambda: store.PrefixStore("a", store.HashStore()),
        lambda: store.TCPStore("127.0.0.1", 0, is_master=True),
    ],
    ids=["any", "derived", "slow", "prefix", "prefixes", "hash", "native prefix", "tcp"],
)
@pytest.mark.parametrize("world_size", [2, 0], ids=["static", "dynamic"])
def test_group(make, world_size):
    table = make()
    if world_size == 0:
        assert meet([table], 0) == [None]
    else:
        assert meet([table, table], 2) == [None, None]


def test_timeouts_are_passed_on():
    table = Table()
    meet([table, table], 2)
    assert table.timeouts
    assert all(datetime.timedelta(0) < limit <= datetime.timedelta(seconds=30) for limit in table.timeouts)


def test_overridden_methods_are_called():
    seen = []

    class Mine(store.HashStore):
        def set(self, key, value):
            seen.append(key)
            super().set(key, value)

    table = Mine()
    assert meet([table, table], 2) == [None, None]
    assert seen


def test_wait_without_a_timeout():
    class Mine(Table):
        def wait(self, keys):
            Table.wait(self, keys, self.timeout)

    table = Mine()
    assert meet([table, table], 2) == [None, None]


def test_values_may_be_strings():
    class Mine(Table):
        """Keeps strings, and gives them."""

        def get(self, key):
            return super().get(key).decode("latin-1").encode("latin-1")

        def compare_set(self, key, expected, desired):
            value = super().compare_set(key, expected, desired)
            try:
                return value.decode("ascii")
            except UnicodeDecodeError:
                return value

    table = Mine()
    assert meet([table, table], 2) == [None, None]


class Unlike(Exception):
    """No exception that anybody expects."""


@pytest.mark.parametrize("error", [kind("the cable is out") for kind in (Unlike, ValueError, MemoryError)])
@pytest.mark.parametrize("method", ["set", "add", "compare_set"])
def test_what_is_raised_is_told(method, error):
    errors = meet([BrokenStore(method, error)], 1)
    assert errors[0] is not None or method == "set"
    if errors[0] is not None:
        assert "the cable is out" in str(errors[0])
        assert type(error).__name__ in str(errors[0])
        assert method in str(errors[0])


def test_what_gives_no_bytes():
    class Mine(Table):
        def compare_set(self, key, expected, desired):
            return 5

    (error,) = meet([Mine()], 1)
    assert "gave 5, and not bytes" in str(error)


def test_what_does_not_come():
    table = Table()
    (error,) = meet([table], 2, seconds=1)
    assert isinstance(error, RuntimeError)


def test_exceptions_reach_who_asked():
    """A prefix store over Python calls it in the thread of who asks, and what is raised is what was raised."""
    table = store.PrefixStore("a", BrokenStore("get", Unlike("here")))
    with pytest.raises(Unlike, match="here"):
        table.get("k")
    below = Table()
    store.PrefixStore("a", below).set("k", "v")
    assert below.threads == {threading.get_ident()}
    assert below.values == {"a/k": b"v"}


@pytest.mark.parametrize("other", [None, 5, "store", object(), Table])
def test_what_is_no_store(other):
    agent = _C.Agent("me")
    with pytest.raises((TypeError, RuntimeError)):
        agent.join(other, 0, 1)


def test_adapters_let_go():
    table = Table()
    reference = weakref.ref(table)
    assert meet([table, table], 2) == [None, None]
    del table
    assert is_collected(reference)
