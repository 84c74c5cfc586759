# SPDX-License-Identifier: Apache-2.0
"""References, by the extension alone."""

import gc
import pickle
import threading
import time
import weakref

import core_helpers as helpers
import pytest
from core_helpers import Counter, add, increment_local, member, remote, sync

from tendril import _C

LIMIT_SECONDS = 30.0


def wait_until(condition):
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def _owner(rank, size, url):
    with member(rank, size, url) as agent:
        counter = Counter(5)
        rref = _C.PyRRef(counter)
        assert rref.is_owner()
        assert rref.confirmed_by_owner()
        assert rref.owner() == agent.worker_info()
        assert rref.owner_name() == f"worker{rank}"
        assert rref.local_value() is counter
        assert rref.to_here() is counter
        assert str(rref) == repr(rref) == f"OwnerRRef(GloballyUniqueId(created_on={rank}, local_id=0))"
        assert rref != _C.PyRRef(counter)
        assert len({rref, rref}) == 1
        values = [[1, 2], {"a": 1}, (1, [2]), "text", None, 3, 1.5]
        for value in values:
            assert _C.PyRRef(value).local_value() == value
        for value in values[:3]:
            assert _C.PyRRef(value).local_value() is value
        for protocol in range(2, 6):
            with pytest.raises(RuntimeError, match="Can not pickle rref in python pickler"):
                pickle.dumps(rref, protocol)
        with pytest.raises(RuntimeError, match="Can not unpickle rref in python pickler"):
            rref.__setstate__(())
        with pytest.raises(RuntimeError):
            rref._get_future()
        with pytest.raises(RuntimeError, match="Profiling future has not been set!"):
            rref._get_profiling_future()
        rref._set_profiling_future(7)
        assert rref._get_profiling_future() == 7
        with pytest.raises(TypeError):
            _C.PyRRef()
        # The value lives as long as the reference does.
        gone = weakref.ref(counter)
        del counter
        gc.collect()
        assert gone() is not None
        del rref
        wait_until(lambda: gone() is None)


def test_owner(group):
    group(2, _owner)


def _user(rank, size, url):
    with member(rank, size, url):
        me, peer = f"worker{rank}", f"worker{1 - rank}"
        rref = remote(peer, Counter, 5)
        assert not rref.is_owner()
        assert rref.owner() == _C.WorkerInfo(peer, 1 - rank)
        assert rref._get_future().wait() is None
        assert rref.confirmed_by_owner()
        assert str(rref).startswith(f"UserRRef(RRefId = GloballyUniqueId(created_on={rank}, local_id=0), ForkId = ")
        assert rref.to_here().count == 5
        assert sync(peer, increment_local, rref) == 6
        assert sync(peer, increment_local, rref=rref) == 7
        assert rref.to_here(timeout=10.0).count == 7
        with pytest.raises(RuntimeError, match=(
            rf"For UserRRef\(rref_id=GloballyUniqueId\(created_on={rank}, local_id=0\), "
            rf"fork_id=GloballyUniqueId\(created_on={rank}, local_id=1\)\), can't call localValue\(\) on user "
            rf"WorkerInfo\(id={rank}, name={me}\). Call it on owner WorkerInfo\(id={1 - rank}, name={peer}\)"
        )):
            rref.local_value()
        with pytest.raises(RuntimeError, match="RPC ran for more than"):
            remote(peer, helpers.sleep, 0.4).to_here(timeout=0.05)
        stuck = remote(peer, helpers.make_unpicklable)
        stuck._get_future().wait()
        with pytest.raises(RuntimeError, match="cannot pickle"):
            stuck.to_here()
        # Back home it is the object itself.
        mine = _C.PyRRef(Counter(1))
        assert sync(peer, helpers.identity, mine).local_value() is mine.local_value()
        assert sync(peer, helpers.identity, [mine])[0].local_value() is mine.local_value()
        # The owner calls on it here.
        assert remote(me, Counter, 9).local_value().count == 9
        error = remote(me, helpers.raise_error, KeyError)
        with pytest.raises(KeyError, match=helpers.ERROR_TEXT):
            error.local_value()
        with pytest.raises(KeyError, match=helpers.ERROR_TEXT):
            error.to_here()
    with pytest.raises(RuntimeError, match=r"Cannot call to_here\(\) on it after deletion."):
        rref.to_here()
    assert rref.owner_name() == peer
    assert not rref.is_owner()
    assert rref.confirmed_by_owner()
    assert str(rref).startswith("UserRRef(")


def test_user(group):
    group(2, _user)


KEPT = {}


def keep(key, rref):
    KEPT[key] = rref


def drop(key):
    del KEPT[key]


def fetch_kept(key):
    return KEPT[key].to_here()


def _passed_on(rank, size, url):
    with member(rank, size, url) as agent:
        agent.barrier()
        if rank == 0:
            counter = Counter(3)
            gone = weakref.ref(counter)
            rref = _C.PyRRef(counter)
            del counter
            sync("worker1", keep, "a", rref)
            sync("worker1", pass_on, "a", "worker2")
            sync("worker1", drop, "a")
            del rref
            assert gone().count == 3
            assert sync("worker2", fetch_kept, "a").count == 3
            sync("worker2", drop, "a")
            wait_until(lambda: (gc.collect(), gone() is None)[1])
            assert agent.rref_leaks() == ""
        agent.barrier()


def pass_on(key, to):
    sync(to, keep, key, KEPT[key])


def test_passed_on(group):
    group(3, _passed_on)


def _dropped_anywhere(rank, size, url):
    """References dropped by many threads and by the garbage collector, in the midst of calls."""
    with member(rank, size, url) as agent:
        peer = f"worker{1 - rank}"

        def work():
            for i in range(100):
                rref = remote(peer, Counter, i)
                cycle = [rref]
                cycle.append(cycle)
                del rref, cycle
                if i % 10 == 0:
                    gc.collect()
                    assert remote(peer, add, i, 1).to_here() == i + 1

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
        agent.barrier()
        wait_until(lambda: agent.rref_leaks() == "")
        agent.barrier()


def test_dropped_anywhere(group):
    group(2, _dropped_anywhere)


def _cycles(rank, size, url):
    """A value that refers to its own reference is let go at the end."""
    with member(rank, size, url) as agent:
        counter = Counter()
        counter.rref = _C.PyRRef(counter)
        counter.other = remote(f"worker{1 - rank}", Counter, 2)
        sync(f"worker{1 - rank}", keep, f"cycle{rank}", counter.rref)
        agent.barrier()


def test_cycles_do_not_stop_a_shutdown(group):
    group(2, _cycles)


def _hooks(rank, size, url):
    seen = []
    with member(rank, size, url):
        rref = _C.PyRRef(3)
        _C.set_hooks(make_proxy=None, get_type=None, backward=None)
        with pytest.raises(RuntimeError, match="import"):
            rref.rpc_sync()
        _C.set_hooks(
            make_proxy=lambda *args: seen.append(args) or "proxy",
            get_type=lambda *args: seen.append(args) or int,
            backward=lambda *args: seen.append(args),
        )
        assert rref.rpc_sync() == rref.rpc_async(1.5) == rref.remote(timeout=2) == "proxy"
        assert rref._get_type(blocking=False) is int
        rref.backward(3, True)
        assert seen == [(rref, "rpc_sync", -1.0), (rref, "rpc_async", 1.5), (rref, "remote", 2.0), (rref, -1.0, False),
                        (rref, 3, True)]
        with pytest.raises(TypeError, match="no hook"):
            _C.set_hooks(nonsense=None)
        rref.note = "kept"
        assert rref.note == "kept"


def test_hooks(group):
    group(1, _hooks)
