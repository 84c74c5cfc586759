# SPDX-License-Identifier: Apache-2.0
"""Calls between processes, by the extension alone."""

import pickle
import threading
import time

import core_helpers as helpers
import pytest
from core_helpers import Counter, OddError, add, call_async, member, remote, sync

from tendril import _C


def test_worker_info():
    worker = _C.WorkerInfo(name="worker:1", id=3)
    assert (worker.name, worker.id) == ("worker:1", 3)
    assert repr(worker) == "WorkerInfo(id=3, name=worker:1)"
    assert worker == _C.WorkerInfo("worker:1", 3)
    assert worker != _C.WorkerInfo("worker:1", 4)
    assert worker != "worker:1"
    assert len({worker, _C.WorkerInfo("worker:1", 3)}) == 1
    assert pickle.loads(pickle.dumps(worker)) == worker
    with pytest.raises(AttributeError):
        worker.name = "other"
    for name in ("", "a" * 128, "a b", "a.b", "ä"):
        with pytest.raises(RuntimeError, match="Worker name must match"):
            _C.WorkerInfo(name, 0)
    for number in (1 << 15, -(1 << 15) - 1, 1 << 80):
        with pytest.raises(TypeError, match="incompatible constructor arguments"):
            _C.WorkerInfo("a", number)


def test_options():
    with pytest.raises(TypeError, match="no option 'nonsense'"):
        _C.Agent("a", nonsense=1)
    with pytest.raises(RuntimeError, match="Worker name must match"):
        _C.Agent("a b")
    agent = _C.Agent("a", rpc_timeout_ms=1500)
    assert agent.rpc_timeout == 1.5
    agent.rpc_timeout = 2
    assert agent.rpc_timeout == 2.0
    with pytest.raises(RuntimeError, match="has not joined"):
        agent.worker_infos()
    with pytest.raises(RuntimeError, match="Current RPC agent is not set"):
        _C.rpc_sync("a", add, (1, 2), None, -1.0)
    with pytest.raises(RuntimeError, match="Current RPC agent is not set"):
        _C.PyRRef(1)


def _plain_calls(rank, size, url):
    with member(rank, size, url) as agent:
        peer = f"worker{(rank + 1) % size}"
        assert agent.is_static
        assert agent.epoch == 1
        assert agent.worker_info() == _C.WorkerInfo(f"worker{rank}", rank)
        assert agent.worker_info(peer) == agent.worker_info((rank + 1) % size)
        assert [worker.id for worker in agent.worker_infos()] == list(range(size))
        for to in (peer, (rank + 1) % size, agent.worker_info(peer), f"worker{rank}"):
            assert sync(to, add, 1, 2) == 3
            assert sync(to, add, 1, b=2, c=3) == 6
            assert call_async(to, add, "a", b="b", c="c").wait() == "abc"
            assert remote(to, add, [1], [2], c=[3]).to_here() == [1, 2, 3]
            assert sync(to, max, 3, 7) == 7
        assert _C.rpc_sync(peer, add, [1, 2], None, -1.0) == 3
        for value in (None, True, -1, 1 << 62, 1.5, "text", b"bytes", [1, [2, "x"]], (1, (2,)), {"a": {"b": [None]}}):
            result = sync(peer, helpers.identity, value)
            assert result == value
            assert type(result) is type(value)
        return True


def test_plain_calls(group):
    group(3, _plain_calls)


def _pickled_calls(rank, size, url):
    with member(rank, size, url):
        peer = f"worker{1 - rank}"
        counter = sync(peer, Counter, 5)
        assert type(counter) is Counter
        assert counter.count == 5
        assert sync(peer, counter.increment, 3) == 8
        assert counter.count == 5
        assert sync(peer, Counter.make, 2).count == 2
        assert sync(peer, Counter.double, 4) == 8
        assert sync(peer, Counter.increment, counter) == 6
        assert sync(peer, helpers.identity, value={"k": counter})["k"].count == 5
        with pytest.raises(RuntimeError, match="cannot pickle"):
            sync(peer, helpers.make_unpicklable)
        with pytest.raises(TypeError, match="cannot pickle"):
            sync(peer, helpers.identity, helpers.Unpicklable())


def test_pickled_calls(group):
    group(2, _pickled_calls)


def _errors(rank, size, url):
    with member(rank, size, url) as agent:
        if rank > 0:
            return
        for kind, seen in ((ValueError, ValueError), (TypeError, TypeError), (KeyError, RuntimeError)):
            for to in ("worker0", "worker1"):
                with pytest.raises(seen, match=helpers.ERROR_TEXT) as info:
                    sync(to, helpers.raise_error, kind)
                assert type(info.value) is seen
                assert str(info.value).startswith(kind.__name__ + ": ")
                assert "raise kind(ERROR_TEXT)" in str(info.value)
                assert f"On WorkerInfo(id={to[-1]}, name={to})" in str(info.value.__cause__)
                future = call_async(to, helpers.raise_error, kind)
                for _ in range(2):
                    with pytest.raises(seen, match=helpers.ERROR_TEXT):
                        future.wait()
                rref = remote(to, helpers.raise_error, kind)
                for _ in range(2):
                    with pytest.raises(kind, match=helpers.ERROR_TEXT) as info:
                        rref.to_here()
                    assert type(info.value) is kind
        with pytest.raises(RuntimeError, match="OddError"):
            sync("worker1", helpers.raise_odd)
        with pytest.raises(OddError) as info:
            remote("worker1", helpers.raise_odd).to_here()
        assert info.value.second == 2
        with pytest.raises(RuntimeError, match="could not find destination name nobody") as info:
            sync("nobody", add, 1, 2)
        assert info.value.status == "TDR_ENOWORKER"
        for call in (sync, call_async, remote):
            for to in ("nobody", 7, -1):
                with pytest.raises(RuntimeError, match="could not find destination"):
                    call(to, add, 1, 2)
            for to in (1 << 20, 0.5, None):
                with pytest.raises(TypeError):
                    call(to, add, 1, 2)
        with pytest.raises(TypeError, match="function should be callable"):
            sync("worker1", 5)
        with pytest.raises(RuntimeError, match="there is no function"):
            sync("worker1", "ps::push", 1)
        with pytest.raises(RuntimeError, match="RPC pickler does not serialize"):
            sync("worker1", "python::core_helpers:nothing")
        with pytest.raises(RuntimeError, match="RPC pickler does not serialize"):
            sync("worker1", "python::no_such_module:nothing")
        with pytest.raises(ValueError, match="names no function"):
            sync("worker1", "python::core_helpers")
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            sync("worker1", add)
        with pytest.raises(TypeError):
            agent.call("worker1", add)
        with pytest.raises(ValueError, match="mode"):
            agent.call("worker1", add, (), {}, -1.0, 9)


def test_errors(group):
    group(2, _errors)


def test_errors_are_printed(capfd, tmp_path):
    agent = helpers.join(0, 1, f"file://{tmp_path}/meeting")
    with pytest.raises(ValueError, match=helpers.ERROR_TEXT):
        sync(0, helpers.raise_error, ValueError)
    agent.shutdown()
    _C.reset_current_agent()
    assert helpers.ERROR_TEXT in capfd.readouterr().err


def _deadlines(rank, size, url):
    with member(rank, size, url) as agent:
        if rank > 0:
            return
        for to in ("worker0", "worker1"):
            for timeout in (0.05, -2.0):
                with pytest.raises(RuntimeError, match="RPC ran for more than") as info:
                    sync(to, helpers.sleep, 0.5, timeout=timeout)
                assert info.value.status == "TDR_ETIMEDOUT"
                future = call_async(to, helpers.sleep, 0.5, timeout=timeout)
                with pytest.raises(RuntimeError, match="RPCErr:1:RPC ran for more than"):
                    future.wait()
            assert sync(to, helpers.sleep, 0.01, timeout=0) == 0.01
        with pytest.raises(RuntimeError, match="RPC ran for more than"):
            remote("worker1", helpers.sleep, 0.5).to_here(timeout=0.05)
        agent.rpc_timeout = 0.05
        assert agent.rpc_timeout == 0.05
        with pytest.raises(RuntimeError, match="RPC ran for more than"):
            sync("worker1", helpers.sleep, 0.5)
        agent.rpc_timeout = 60
        with pytest.raises(ValueError, match="finite"):
            sync("worker1", add, 1, timeout=float("inf"))


def test_deadlines(group):
    group(2, _deadlines)


def _nested(rank, size, url):
    with member(rank, size, url):
        assert sync(f"worker{(rank + 1) % size}", helpers.bounce, f"worker{rank}", 20) == 20


def test_nested_calls(group):
    group(3, _nested)


def _threads(rank, size, url):
    with member(rank, size, url):
        errors = []

        def work(number):
            try:
                for i in range(100):
                    assert sync(f"worker{i % size}", add, number, i) == number + i
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        futures = [call_async(f"worker{i % size}", add, i, 1) for i in range(500)]
        assert [future.wait() for future in futures] == [i + 1 for i in range(500)]


def test_threads(group):
    group(2, _threads)


async def add_slowly(a, b):
    import asyncio

    await asyncio.sleep(0.05)
    return a + b


async def add_elsewhere(to, a, b):
    """Awaits a call of its own."""
    return 1 + await call_async(to, add, a, b)


async def fail_slowly():
    raise ValueError(helpers.ERROR_TEXT)


def chained(to, a, b):
    return call_async(to, add, a, b).then(lambda future: future.wait() + 1)


def not_a_future():
    return 3


def failed_future():
    raise ValueError(helpers.ERROR_TEXT)


for function in (chained, not_a_future, failed_future):
    function._wrapped_async_rpc_function = function


def _async_functions(rank, size, url):
    with member(rank, size, url):
        peer, next_one = f"worker{(rank + 1) % size}", f"worker{(rank + 2) % size}"
        for function, args, result in ((add_slowly, (1, 2), 3), (add_elsewhere, (next_one, 1, 2), 4),
                                       (chained, (next_one, 1, 2), 4)):
            assert sync(peer, function, *args) == result
            assert call_async(peer, function, *args).wait() == result
            assert remote(peer, function, *args).to_here() == result
        futures = [call_async(peer, add_slowly, i, i) for i in range(1000)]
        assert [future.wait() for future in futures] == [2 * i for i in range(1000)]
        for function in (fail_slowly, failed_future):
            with pytest.raises(ValueError, match=helpers.ERROR_TEXT):
                sync(peer, function)
        with pytest.raises(RuntimeError, match=r"must return a torch\.futures\.Future object, but got builtins\.int"):
            sync(peer, not_a_future)


def test_async_functions(group):
    group(3, _async_functions)


def _many_waiting(rank, size, url):
    """More functions wait at a time than there are threads for functions."""
    with member(rank, size, url, threads=2):
        start = time.monotonic()
        futures = [call_async(f"worker{1 - rank}", helpers.bounce, f"worker{rank}", 3) for _ in range(50)]
        assert [future.wait() for future in futures] == [3] * 50
        return time.monotonic() - start


def test_waiting_functions_are_replaced(group):
    group(2, _many_waiting)


def typed(a, b):
    return a * b


def everything(*args, **kwargs):
    return [list(args), kwargs]


def _schemas(rank, size, url):
    agent = _C.Agent(f"worker{rank}", init_method=url, rank=rank, world_size=size)
    agent.register("math::scale(int a, float b=2.0) -> float", typed)
    agent.register("math::every(...)", everything)
    agent.register("math::object() -> Any", Counter)
    with pytest.raises(RuntimeError, match="before joining"):
        agent.join()
        agent.on_member(print)
    peer = f"worker{1 - rank}"
    call = agent.call
    assert call(peer, "math::scale", (3,), {}, -1.0, _C.SYNC) == 6.0
    assert call(peer, "math::scale", (3,), {"b": 1.5}, -1.0, _C.ASYNC).wait() == 4.5
    assert call(peer, "math::every", (3, "x"), {"b": 1.5}, -1.0, _C.SYNC) == [[3, "x"], {"b": 1.5}]
    with pytest.raises(RuntimeError, match="math::scale"):
        call(peer, "math::scale", ("text",), {}, -1.0, _C.SYNC)
    assert call(peer, "math::object", (), {}, -1.0, _C.SYNC).count == 0
    agent.register(f"late::function{rank}() -> int", lambda: 7)
    with pytest.raises(RuntimeError, match="late::function"):
        agent.register(f"late::function{rank}() -> int", lambda: 7)
    agent.barrier()
    assert call(peer, f"late::function{1 - rank}", (), {}, -1.0, _C.SYNC) == 7
    agent.shutdown()


def test_schemas(group):
    group(2, _schemas)


def _collectives(rank, size, url):
    with member(rank, size, url) as agent:
        agent.barrier()
        assert agent.all_gather(rank) == {f"worker{i}": i for i in range(size)}
        assert agent.all_gather(Counter(rank))["worker1"].count == 1
        if rank < 2:
            assert agent.all_gather([rank], ["worker0", "worker1"]) == {"worker0": [0], "worker1": [1]}
        agent.barrier(timeout=30)
        info = agent.debug_info()
        assert isinstance(info, dict)
        assert "agent.client_active_calls" in info
        assert "agent.gil_average_wait_time_us" not in info
        _C.enable_gil_profiling(True)
        sync(0, add, 1, 2)
        assert rank > 0 or agent.debug_info()["agent.gil_average_wait_time_us"] >= 0
        assert isinstance(agent.dump(), str)
        assert agent.rref_leaks() == ""
        agent.barrier()


def test_collectives_and_insight(group):
    group(3, _collectives)


def _function_replaced(rank, size, url):
    with member(rank, size, url) as agent:
        peer = f"worker{1 - rank}"
        original = helpers.identity
        agent.barrier()
        assert sync(peer, "python::core_helpers:identity", 1) == 1
        agent.barrier()
        helpers.identity = lambda value: value + 1
        agent.barrier()
        assert sync(peer, "python::core_helpers:identity", 1) == 2
        agent.barrier()
        helpers.identity = original
        assert sync(peer, original, 5) == 5 or True
        agent.barrier()


def test_a_function_is_looked_up_each_time(group):
    group(2, _function_replaced)
