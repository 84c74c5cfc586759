# SPDX-License-Identifier: Apache-2.0
"""Calls between members of a group: results, errors, destinations, deadlines."""

import asyncio
import math
import operator
import threading
import time

import pytest

from tendril import rpc

TIMEOUT = "RPC ran for more than"


def options(url, **changed):
    return rpc.TensorPipeRpcBackendOptions(init_method=url, **changed)


def joined(rank, world_size, url, **changed):
    """A session of a worker called "worker{rank}"."""
    return rpc.session(f"worker{rank}", rank=rank, world_size=world_size, rpc_backend_options=options(url, **changed))


def raised(kind, function, *args, **kwargs):
    """The text of the exception of that kind that a call raises."""
    with pytest.raises(kind) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# ---- functions that are called ----


class OwnValueError(ValueError):
    """An error of a kind that calls raise as such."""


class OwnError(Exception):
    """An error that cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Adder:
    """Something with methods of all kinds."""

    def __init__(self, start):
        self.start = start

    def add(self, number):
        return self.start + number

    @classmethod
    def name(cls):
        return cls.__name__

    @staticmethod
    def double(number):
        return 2 * number


def keywords(*, a, b):
    return {"a": a, "b": b}


def nothing():
    return None


def raise_error(kind, text):
    raise kind(text)


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def call_back(to, number):
    return rpc.rpc_sync(to, operator.add, args=(number, 1))


@rpc.functions.async_execution
def add_chained(to, a, b, c):
    return rpc.rpc_async(to, operator.add, args=(a, b)).then(lambda done: done.wait() + c)


@rpc.functions.async_execution
def no_future():
    return 5


async def awaiting(to, a, b):
    return await rpc.rpc_async(to, operator.add, args=(a, b))


async def awaiting_in_vain():
    raise ValueError("Expected error")


# ---- alone ----


def test_calls_to_oneself(alone):
    assert alone.rpc_sync("alone", min, args=(3, 4)) == 3
    assert alone.rpc_async(0, max, args=[3, 4]).wait() == 4
    assert alone.rpc_sync(alone.get_worker_info(), keywords, kwargs={"a": 1, "b": [2]}) == {"a": 1, "b": [2]}
    assert alone.rpc_sync("alone", nothing) is None
    assert alone.remote("alone", math.sqrt, args=(16,)).to_here() == 4.0


def test_targets(alone):
    assert alone.rpc_sync("alone", Adder, args=(5,)).start == 5
    assert alone.rpc_sync("alone", Adder(2).add, args=(3,)) == 5
    assert alone.rpc_sync("alone", Adder.name) == "Adder"
    assert alone.rpc_sync("alone", Adder.double, args=(4,)) == 8


def test_operations(alone):
    numpy = pytest.importorskip("numpy")

    total = alone.rpc_sync("alone", alone.ops.aten.add, args=(numpy.ones(3), numpy.ones(3)))
    assert numpy.array_equal(total, numpy.full(3, 2.0))
    assert numpy.array_equal(alone.ops.aten.mul(numpy.full(2, 3.0), numpy.full(2, 2.0)), numpy.full(2, 6.0))


def test_destinations(alone):
    for call in (alone.rpc_sync, alone.rpc_async, alone.remote):
        assert "name:alone,rank:0 could not find destination name nobody" in raised(RuntimeError, call, "nobody", min)
        for number in (-1, 1):
            text = f"name:alone,rank:0 could not find destination id {number}"
            assert text in raised(RuntimeError, call, number, min, args=(1, 2))
        assert "Cannot get WorkerInfo from name 0.5" in raised(ValueError, call, 0.5, min)
        assert "incompatible function arguments" in raised(TypeError, call, 2**15, min)


def test_what_cannot_be_called(alone):
    for call in (alone.rpc_sync, alone.rpc_async):
        assert raised(TypeError, call, "alone", "min") == "function should be callable."
    assert "not callable" in raised(TypeError, alone.remote("alone", 5).to_here)


def test_errors_of_a_function(alone):
    for kind in (ValueError, TypeError):
        assert "Expected error" in raised(kind, alone.rpc_sync, "alone", raise_error, args=(kind, "Expected error"))
    assert "KeyError" in raised(RuntimeError, alone.rpc_sync, "alone", raise_error, args=(KeyError, "a"))
    assert "raise_error()" in raised(TypeError, alone.rpc_sync, "alone", raise_error)
    future = alone.rpc_async("alone", raise_error, args=(ValueError, "Expected error"))
    for ask in (future.wait, future.value, future.wait):
        assert "Expected error" in raised(ValueError, ask)


def test_errors_of_derived_types(alone):
    for kind in (OwnValueError, UnicodeError):
        text = raised(ValueError, alone.rpc_sync, "alone", raise_error, args=(kind, "Expected error"))
        assert text.startswith(f"{kind.__name__}: Expected error")
        assert raised(kind, alone.remote("alone", raise_error, args=(kind, "Expected error")).to_here)
    with pytest.raises(ValueError, match="UnicodeDecodeError"):
        alone.rpc_sync("alone", b"\xff".decode)


def test_errors_that_cannot_be_pickled(alone):
    assert "OwnError: Expected error" in raised(
        RuntimeError, alone.rpc_sync, "alone", raise_error, args=(OwnError, "Expected error")
    )
    rref = alone.remote("alone", raise_error, args=(OwnError, "Expected error"))
    assert raised(OwnError, rref.to_here) == "Expected error"


def test_milliseconds_of_timeouts(alone):
    for seconds in (1.001, 4.35, 0.57, 1.005):
        alone._set_rpc_timeout(seconds)
        assert alone.get_rpc_timeout() == seconds
    alone._set_rpc_timeout(0.0015)
    assert alone.get_rpc_timeout() == 0.001
    alone._set_rpc_timeout(60)


def test_deadlines(alone):
    assert TIMEOUT in raised(RuntimeError, alone.rpc_sync, "alone", sleep, args=(1,), timeout=0.05)
    assert TIMEOUT in raised(RuntimeError, alone.rpc_async("alone", sleep, args=(1,), timeout=0.05).wait)
    alone._set_rpc_timeout(0.05)
    assert alone.get_rpc_timeout() == pytest.approx(0.05)
    assert TIMEOUT in raised(RuntimeError, alone.rpc_sync, "alone", sleep, args=(1,))
    assert alone.rpc_sync("alone", sleep, args=(0.2,), timeout=0) == 0.2
    assert alone.rpc_sync("alone", sleep, args=(0.2,), timeout=10) == 0.2
    alone._set_rpc_timeout(60)


def test_async_functions(alone):
    assert alone.rpc_sync("alone", add_chained, args=("alone", 1, 2, 3)) == 6
    assert alone.remote("alone", add_chained, args=("alone", 1, 2, 3)).to_here() == 6
    text = raised(RuntimeError, alone.rpc_sync, "alone", no_future)
    assert "Functions decorated with @rpc.async_function must return a torch.futures.Future object," in text


def test_coroutines(alone):
    futures = [alone.rpc_async("alone", awaiting, args=("alone", number, 1)) for number in range(50)]
    assert [future.wait() for future in futures] == list(range(1, 51))
    assert "Expected error" in raised(ValueError, alone.rpc_sync, "alone", awaiting_in_vain)


def test_awaiting_in_a_programs_own_loop(alone):
    async def main():
        futures = [alone.rpc_async("alone", operator.add, args=(number, 1)) for number in range(20)]
        assert await asyncio.gather(*futures) == list(range(1, 21))
        with pytest.raises(ValueError, match="Expected error"):
            await alone.rpc_async("alone", raise_error, args=(ValueError, "Expected error"))
        slow = alone.rpc_async("alone", sleep, args=(1,))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(slow, 0.05)
        # Who gives up waiting gives up the call.
        with pytest.raises(RuntimeError):
            slow.wait()

    asyncio.run(main())


def test_coroutines_end_with_the_agent(tmp_path):
    with joined(0, 1, f"file://{tmp_path}/meeting"):
        rpc.rpc_sync(0, awaiting, args=(0, 1, 2))
        assert any(thread.name == "tendril-worker0" for thread in threading.enumerate())
    assert not any(thread.name == "tendril-worker0" for thread in threading.enumerate())


def test_wait_all(alone):
    with alone.api._wait_all():
        futures = [alone.rpc_async("alone", sleep, args=(0.05,)) for _ in range(3)]
        assert alone.api._thread_local_var.future_list == futures
    assert all(future.done() for future in futures)
    assert not hasattr(alone.api._thread_local_var, "future_list")
    with pytest.raises(ValueError, match="Expected error"), alone.api._wait_all():
        alone.rpc_async("alone", raise_error, args=(ValueError, "Expected error"))
    assert not hasattr(alone.api._thread_local_var, "future_list")


def test_own_pickler(alone):
    calls = []

    class Counting:
        def serialize(self, obj):
            calls.append(obj)
            return alone.internal.serialize(obj)

    with alone.api._use_rpc_pickler(Counting()):
        assert alone.rpc_sync("alone", min, args=(1, 2)) == 1
        assert alone.remote("alone", min, args=(1, 2)).to_here() == 1
    assert [call.func for call in calls] == [min, min]


def test_many_threads(alone):
    results = []

    def run(number):
        results.append(alone.rpc_sync("alone", operator.mul, args=(number, 2)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(0, 40, 2))


def test_debug_info(alone):
    info = alone._get_debug_info()
    assert {"num_owner_rrefs", "num_pending_users", "num_pending_futures", "num_forks"} <= set(info)
    assert info["agent.thread_pool_size"] == "16"
    assert info["agent.client_active_calls"] == info["agent.server_active_async_calls"] == "0"
    assert "agent.gil_average_wait_time_us" not in info
    alone.enable_gil_profiling(True)
    alone.rpc_sync("alone", min, args=(1, 2))
    assert "agent.gil_average_wait_time_us" in alone._get_debug_info()
    assert alone._get_current_rpc_agent().get_metrics().keys() == alone._get_current_rpc_agent().get_debug_info().keys()
    alone.enable_gil_profiling(False)
    assert info["num_autograd_contexts"] == 0


# ---- between processes ----


def run_calls(rank, world_size, url):
    with joined(rank, world_size, url) as me:
        assert (me.name, me.id) == (f"worker{rank}", rank)
        peer = (rank + 1) % world_size
        assert rpc.get_worker_info(f"worker{peer}").id == peer
        assert {info.name for info in rpc._get_current_rpc_agent().get_worker_infos()} == {
            f"worker{number}" for number in range(world_size)
        }
        assert rpc.rpc_sync(f"worker{peer}", min, args=(3, 4)) == 3
        assert rpc.rpc_sync(peer, call_back, args=(me, 1)) == 2
        futures = [rpc.rpc_async(peer, operator.add, args=(number, rank)) for number in range(200)]
        assert [future.wait() for future in futures] == [number + rank for number in range(200)]
        assert rpc.rpc_sync(peer, add_chained, args=(me.name, 1, 2, 3)) == 6
        assert rpc.rpc_sync(peer, awaiting, args=(me.name, 1, 2)) == 3
        return rpc.rpc_sync(peer, rpc.get_worker_info).name


def test_calls_between_processes(group):
    assert group(3, run_calls) == ["worker1", "worker2", "worker0"]


def missing_here():
    return 1


def run_function_that_is_missing(rank, world_size, url):
    with joined(rank, world_size, url):
        if rank == 1:
            del globals()["missing_here"]
        rpc.api._barrier({"worker0", "worker1"})
        if rank == 0:
            text = raised(RuntimeError, rpc.rpc_sync, 1, missing_here)
            assert "RPC pickler does not serialize" in text, text
        rpc.api._barrier({"worker0", "worker1"})


def test_function_that_the_callee_has_not(group):
    group(2, run_function_that_is_missing)


def chain(hops, world_size):
    """Calls on, and does not wait."""
    if hops:
        rpc.rpc_async((rpc.get_worker_info().id + 1) % world_size, chain, args=(hops - 1, world_size))
    else:
        rpc.rpc_async(0, arrived)


arrivals = []


def arrived():
    arrivals.append(True)


def run_chain(rank, world_size, url):
    with joined(rank, world_size, url):
        if rank == 0:
            rpc.rpc_async(1, chain, args=(20, world_size))
    return len(arrivals)


def test_chains_end_before_anyone_leaves(group):
    assert group(3, run_chain) == [1, 0, 0]


def run_death(rank, world_size, url):
    rpc.init_rpc(f"worker{rank}", rank=rank, world_size=world_size, rpc_backend_options=options(url, rpc_timeout=10))
    if rank == 1:
        rpc.rpc_async(0, sleep, args=(5,))
        time.sleep(0.2)
        import os

        os._exit(3)
    text = raised(RuntimeError, rpc.rpc_sync, 1, sleep, args=(30,))
    raised(RuntimeError, rpc.rpc_sync, 1, sleep, args=(30,))
    rpc.shutdown(graceful=False)
    return text


def test_death_of_a_member(group):
    assert group(2, run_death, may_die=(1,))[0]


def test_profiling_keys():
    """A key is for one request of its thread: the next key has to wait until that has been made."""
    from tendril.rpc import _hooks
    from tendril.rpc.server_process_global_profiler import RemoteProfilerManager

    RemoteProfilerManager.set_current_profiling_key("first")
    try:
        with pytest.raises(RuntimeError, match="'first' is"):
            RemoteProfilerManager.set_current_profiling_key("second")
        thread = threading.Thread(target=RemoteProfilerManager.set_current_profiling_key, args=("second",))
        thread.start()
        thread.join()
    finally:
        _hooks.take_profiling_key()
    RemoteProfilerManager.set_current_profiling_key("second")
    _hooks.take_profiling_key()
