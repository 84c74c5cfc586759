# SPDX-License-Identifier: Apache-2.0
"""References and proxies: what the Python layer adds to `_C.PyRRef`."""

import gc
import inspect
import time

import pytest

from tendril import rpc

TIMEOUT = "RPC ran for more than"


def join(rank, world_size, url, **changed):
    rpc.init_rpc(
        f"worker{rank}",
        rank=rank,
        world_size=world_size,
        rpc_backend_options=rpc.TensorPipeRpcBackendOptions(init_method=url, **changed),
    )


def raised(kind, function, *args, **kwargs):
    with pytest.raises(kind) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def await_counter(name, value):
    deadline = time.monotonic() + 20
    while rpc._rref_context_get_debug_info()[name] != str(value):
        assert time.monotonic() < deadline, rpc._rref_context_get_debug_info()
        time.sleep(0.01)


class Counter:
    """An object that others use."""

    def __init__(self, start=0, slow=0.0):
        time.sleep(slow)
        self.number = start

    def add(self, number):
        self.number += number
        return self.number

    @staticmethod
    def double(number):
        return 2 * number

    @classmethod
    def made_of(cls, number):
        return cls(number)

    def slow(self, seconds):
        time.sleep(seconds)
        return seconds

    @rpc.functions.async_execution
    def add_later(self, to, number):
        return rpc.rpc_async(to, min, args=(number, 100)).then(lambda done: self.add(done.wait()))

    async def add_soon(self, number):
        return self.add(number)

    def fail(self):
        raise ValueError("Expected error")


def fail():
    raise ValueError("Expected error")


kept = []


def keep(rref):
    kept.append(rref)


def drop():
    kept.clear()
    gc.collect()


# ---- here ----


def test_local_reference(alone):
    value = {"a": 1}
    rref = alone.RRef(value)
    assert isinstance(rref, alone.PyRRef)
    assert rref.is_owner()
    assert rref.confirmed_by_owner()
    assert rref.owner() == alone.get_worker_info()
    assert rref.owner_name() == "alone"
    assert rref.local_value() is value
    assert rref.to_here() is value
    assert str(rref) == repr(rref)
    assert str(rref).startswith("OwnerRRef(GloballyUniqueId(created_on=0, local_id=")
    assert alone.RRef[int] is not None
    assert alone._rref_context_get_debug_info()["num_pending_users"] == "0"


def test_type(alone):
    rref = alone.RRef(Counter())
    assert rref._get_type() is Counter
    future = rref._get_type(blocking=False)
    assert future.wait() is Counter
    assert rref._get_type(blocking=False) is future
    assert rref._get_type(timeout=1.0, blocking=True) is Counter


def test_type_hints_are_for_scripted_modules(alone):
    assert "type_hint should only be specified" in raised(RuntimeError, alone.RRef, 1, type_hint=int)


def test_a_value_is_out_of_reach_after_shutdown(alone):
    rref, fetched = alone.RRef(1), alone.remote("alone", min, args=(1, 2))
    assert fetched.to_here() == 1
    alone.shutdown()
    for ask in (rref.to_here, rref.local_value, fetched.to_here, fetched.local_value):
        assert "Current RPC agent is not set!" in raised(RuntimeError, ask)
    assert rref.is_owner() and rref.confirmed_by_owner() and rref.owner().name == "alone"


def test_documentation_of_methods():
    assert "PyRRef" not in rpc.RRef.to_here.__doc__
    assert rpc.RRef.to_here.__name__ == "to_here"
    assert "timeout" in inspect.signature(rpc.RRef.to_here).parameters


def test_no_future_of_a_local_reference(alone):
    with pytest.raises(RuntimeError):
        alone.RRef(1)._get_future()


def test_proxies_here(alone):
    rref = alone.RRef(Counter(5))
    assert rref.rpc_sync().add(1) == 6
    assert rref.rpc_async().add(1).wait() == 7
    assert rref.remote().add(1).to_here() == 8
    assert rref.rpc_sync().made_of(3).number == 3
    assert rref.rpc_sync().double(4) == 8


# ---- elsewhere ----


def use_proxies(peer, me):
    rref = rpc.remote(peer, Counter, args=(1,))
    proxy = rref.rpc_sync(timeout=20)
    assert (proxy.add(1), proxy.add(2), proxy.double(5)) == (2, 4, 10)
    assert proxy.made_of(6).number == 6
    assert rref.rpc_async().add(1).wait() == 5
    assert rref.remote().add(1).to_here() == 6
    for ask in (
        lambda name, *args: getattr(rref.rpc_sync(), name)(*args),
        lambda name, *args: getattr(rref.rpc_async(), name)(*args).wait(),
        lambda name, *args: getattr(rref.remote(), name)(*args).to_here(),
    ):
        before = proxy.add(0)
        assert ask("add_later", me, 3) == before + 3
        assert ask("add_soon", 4) == before + 7
        assert "Expected error" in raised(ValueError, ask, "fail")
        assert "has no attribute 'non_exist'" in raised(AttributeError, ask, "non_exist")
    assert TIMEOUT in raised(RuntimeError, lambda: rref.rpc_sync(timeout=0.1).slow(1))
    assert TIMEOUT in raised(RuntimeError, lambda: rref.rpc_async(timeout=0.1).slow(1).wait())
    assert TIMEOUT in raised(RuntimeError, lambda: rref.remote(timeout=0.1).slow(1)._get_future().wait())


def use_types(peer):
    rref = rpc.remote(peer, Counter)
    future = rref._get_type(blocking=False)
    assert future.wait() is Counter
    served = int(rpc.rpc_sync(peer, rpc._get_debug_info)["agent.calls_served"])
    assert rref._get_type() is Counter
    assert rref._get_type(blocking=False) is future
    assert int(rpc.rpc_sync(peer, rpc._get_debug_info)["agent.calls_served"]) == served + 1
    failing = rpc.remote(peer, fail)
    assert "Expected error" in raised(ValueError, failing._get_type)
    assert "Expected error" in raised(ValueError, failing._get_type(blocking=False).wait)
    assert "Expected error" in raised(ValueError, failing.rpc_sync().add, 1)
    slow = rpc.remote(peer, Counter, args=(0, 1.0))
    assert TIMEOUT in raised(RuntimeError, slow._get_type, timeout=0.1)
    assert slow._get_type() is Counter


def run_proxies(rank, world_size, url):
    join(rank, world_size, url)
    peer = (rank + 1) % world_size
    use_proxies(peer, rank)
    use_types(peer)
    rpc.shutdown()


def test_proxies(group):
    group(2, run_proxies)


def run_counters(rank, world_size, url):
    rpc.api._ignore_rref_leak = False
    join(rank, world_size, url)
    if rank == 0:
        rref = rpc.RRef([1])
        assert str(rref) == "OwnerRRef(GloballyUniqueId(created_on=0, local_id=0))"
        assert rpc._rref_context_get_debug_info()["num_owner_rrefs"] == "0"
        rpc.rpc_sync(1, keep, args=(rref,))
        await_counter("num_owner_rrefs", 1)
        await_counter("num_pending_users", 0)
        rpc.rpc_sync(1, drop)
        await_counter("num_owner_rrefs", 0)
        user = rpc.remote(1, Counter)
        text = raised(RuntimeError, user.local_value)
        assert "can't call localValue() on user WorkerInfo(id=0, name=worker0)" in text, text
    rpc.shutdown()
    if rank == 0:
        assert "Cannot call to_here() on it after deletion." in raised(RuntimeError, user.to_here)
        assert user.owner_name() == "worker1"


def test_counters(group):
    group(2, run_counters)


def run_leak(rank, world_size, url, ignore):
    join(rank, world_size, url)
    rref = rpc.remote((rank + 1) % world_size, Counter)
    rref.to_here()
    rpc.api._ignore_rref_leak = ignore
    rpc.api._delete_all_user_and_unforked_owner_rrefs = lambda: None
    if ignore:
        rpc.shutdown()
        return ""
    return raised(RuntimeError, rpc.shutdown)


def test_leaks(group):
    for text in group(3, run_leak, False):
        assert text.startswith("Leaking RRef GloballyUniqueId(created_on="), text


def test_leaks_that_are_ignored(group):
    group(3, run_leak, True)


def run_circles(rank, world_size, url):
    rpc.api._ignore_rref_leak = False
    join(rank, world_size, url)
    circle = [rpc.remote((rank + 1) % world_size, Counter)]
    circle.append(circle)
    rpc.shutdown()


def test_references_in_circles_do_not_leak(group):
    group(2, run_circles)
