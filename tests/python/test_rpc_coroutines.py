# SPDX-License-Identifier: Apache-2.0
"""Coroutines: `async def` functions that others call, their ends, and futures awaited in loops of all kinds."""

import asyncio
import operator
import queue
import threading
import time

import pytest

from tendril import rpc

COUNT = 4000

started = threading.Event()
ended = queue.Queue()
together = {"now": 0, "most": 0}


async def endless():
    started.set()
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        ended.put("cancelled")
        raise


async def stubborn():
    started.set()
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        ended.put("goes on")
    return 1


async def gather_all():
    together["now"] += 1
    together["most"] = max(together["most"], together["now"])
    while together["most"] < COUNT:
        await asyncio.sleep(0.01)
    together["now"] -= 1
    return together["most"]


async def fail():
    await asyncio.sleep(0)
    raise KeyError("Expected error")


class Counter:
    def __init__(self):
        self.count = 0

    async def increase(self, by):
        await asyncio.sleep(0)
        self.count += by
        return self.count


@rpc.register("coroutine::double(int number) -> int")
async def double(number):
    await asyncio.sleep(0)
    return 2 * number


@rpc.register("coroutine::wrong(int number) -> int")
async def wrong(number):
    await asyncio.sleep(0)
    return "text"


@rpc.register("coroutine::chained(int number) -> int")
@rpc.functions.async_execution
def chained(number):
    return rpc.rpc_async("alone", operator.add, args=(number, 1))


def slow():
    time.sleep(0.2)
    return 1


@pytest.fixture(autouse=True)
def _fresh():
    started.clear()
    while not ended.empty():
        ended.get()


@pytest.mark.parametrize("function, what", [(endless, "cancelled"), (stubborn, "goes on")])
def test_cancelling_reaches_the_callee(alone, function, what):
    future = alone.rpc_async("alone", function)
    assert started.wait(30)
    assert future.cancel()
    with pytest.raises(RuntimeError, match="cancel"):
        future.wait()
    assert ended.get(timeout=30) == what
    assert not future.cancel()


def test_a_cancelled_coroutine_prints_nothing(alone, capfd):
    future = alone.rpc_async("alone", endless)
    assert started.wait(30)
    future.cancel()
    assert ended.get(timeout=30) == "cancelled"
    assert alone.rpc_sync("alone", Counter().increase, args=(2,)) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_giving_up_in_a_loop_reaches_the_callee(alone):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(alone.rpc_async("alone", endless), 0.05)

    asyncio.run(main())
    assert ended.get(timeout=30) == "cancelled"


def test_thousands_at_a_time(alone):
    futures = [alone.rpc_async("alone", gather_all) for _ in range(COUNT)]
    assert {future.wait() for future in futures} == {COUNT}


def test_errors(alone):
    with pytest.raises(RuntimeError, match="KeyError: 'Expected error'"):
        alone.rpc_sync("alone", fail)
    with pytest.raises(KeyError, match="Expected error"):
        alone.remote("alone", fail).to_here()


def test_references_to_what_coroutines_return(alone):
    assert alone.remote("alone", Counter().increase, args=(3,)).to_here() == 3
    counter = alone.RRef(Counter())
    assert counter.rpc_sync().increase(4) == 4
    assert counter.remote().increase(4).to_here() == 8


def test_under_schemas(alone):
    assert alone.rpc_sync("alone", alone.ops.coroutine.double, args=(4,)) == 8
    assert alone.rpc_sync("alone", alone.ops.coroutine.chained, kwargs={"number": 4}) == 5
    with pytest.raises(RuntimeError, match="coroutine::double"):
        alone.rpc_sync("alone", alone.ops.coroutine.double, args=("text",))
    with pytest.raises(RuntimeError, match="coroutine::wrong"):
        alone.rpc_sync("alone", alone.ops.coroutine.wrong, args=(4,))


# ---- loops of other makes ----


def run_by_hand(coroutine):
    """A loop of a program's own: runs one coroutine, and waits for the futures that it is handed."""
    woken = queue.Queue()
    try:
        while True:
            future = coroutine.send(None)
            future.add_done_callback(woken.put)
            woken.get(timeout=30)
    except StopIteration as stop:
        return stop.value


def test_a_loop_of_the_programs_own(alone):
    async def main():
        total = 0
        for number in range(3):
            total += await alone.rpc_async("alone", operator.add, args=(number, 1))
        with pytest.raises(ValueError):
            await alone.rpc_async("alone", int, args=("text",))
        return total

    assert run_by_hand(main()) == 6


def test_a_loop_of_the_programs_own_gives_up(alone):
    future = alone.rpc_async("alone", endless)

    async def main():
        await future

    coroutine = main()
    assert coroutine.send(None) is future
    assert started.wait(30)
    coroutine.close()
    assert ended.get(timeout=30) == "cancelled"


def test_trio(alone):
    trio = pytest.importorskip("trio")

    async def main():
        assert await alone.rpc_async("alone", operator.add, args=(1, 2)) == 3
        assert await alone.rpc_async("alone", slow) == 1
        with pytest.raises(ValueError):
            await alone.rpc_async("alone", int, args=("text",))
        with trio.move_on_after(0.05):
            await alone.rpc_async("alone", endless)

    trio.run(main)
    assert ended.get(timeout=30) == "cancelled"
