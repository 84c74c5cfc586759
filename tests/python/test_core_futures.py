# SPDX-License-Identifier: Apache-2.0
"""Futures, by the extension alone: completed by calls and by programs, with callbacks, and awaited."""

import asyncio
import gc
import pickle
import threading
import time
import weakref

import core_helpers as helpers
import pytest
from core_helpers import Counter, add, call_async, member, sync

from tendril import _C

LIMIT_SECONDS = 30


@pytest.fixture
def agent(tmp_path):
    agent = helpers.join(0, 1, f"file://{tmp_path}/meeting")
    yield agent
    agent.shutdown(timeout=LIMIT_SECONDS)
    _C.reset_current_agent()


def test_completed_by_the_program():
    future = _C.Future()
    order = []
    future.add_done_callback(lambda f: order.append(("callback", f is future, f.done())))
    child = future.then(lambda f: order.append("then") or f.value() + 1)
    assert not future.done()
    assert not child.done()
    with pytest.raises(RuntimeError, match="has not completed"):
        future.value()
    assert future.set_result(4) is None
    assert order == [("callback", True, True), "then"]
    assert (future.value(), future.wait(), child.wait()) == (4, 4, 5)
    assert future.then(lambda f: f.value()).value() == 4
    for complete in (lambda: future.set_result(1), lambda: future.set_exception(ValueError())):
        with pytest.raises(RuntimeError, match="Future can only be marked completed once"):
            complete()
    assert isinstance(future.then(_C.Future.done), _C.Future)
    assert repr(future).startswith("<tendril._C.Future completed at")


def test_failed_by_the_program():
    error = KeyError("key")
    future = _C.Future()
    child = future.then(lambda f: f.wait())
    depth = 0
    future.set_exception(error)
    for _ in range(3):
        with pytest.raises(KeyError) as info:
            future.wait()
        assert info.value is error
        depth = len(list(iter_traceback(info.value.__traceback__)))
    assert depth < 4
    with pytest.raises(RuntimeError, match="Got the following error when running the callback: KeyError: 'key'"):
        child.wait()
    with pytest.raises(AssertionError, match="is of type <class 'str'>, not an Exception."):
        _C.Future().set_exception("text")


def iter_traceback(traceback):
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def test_callbacks_that_fail(capfd):
    future = _C.Future()
    future.add_done_callback(lambda f: 1 / 0)
    wrong = future.then(lambda: 3)
    typed = future.then(lambda f: f.value() + "text")
    future.set_result(1)
    with pytest.raises(RuntimeError, match="takes 0 positional arguments but 1 was given"):
        wrong.wait()
    with pytest.raises(RuntimeError, match=r"unsupported operand type\(s\) for \+"):
        typed.wait()
    for method in (future.then, future.add_done_callback):
        with pytest.raises(TypeError, match=r"incompatible function arguments\."):
            method(None)


def test_pickling():
    for protocol in range(6):
        with pytest.raises(RuntimeError, match=r"Can not pickle torch\.futures\.Future"):
            pickle.dumps(_C.Future(), protocol)


def test_many_threads_wait():
    future, seen = _C.Future(), []
    threads = [threading.Thread(target=lambda: seen.append(future.wait())) for _ in range(20)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    future.set_result(7)
    for thread in threads:
        thread.join()
    assert seen == [7] * 20


def test_subclasses():
    class Mine(_C.Future):
        pass

    assert isinstance(Mine().then(id), Mine)
    assert _C.Future[int]
    assert _C.Future(devices=None)
    with pytest.raises(TypeError):
        _C.Future(1)


def test_cycles_are_collected():
    future = _C.Future()
    held = Counter()
    gone = weakref.ref(held)
    future.add_done_callback(lambda _, held=held, future=future: None)
    future.then(lambda _, future=future: None)
    del held, future
    gc.collect()
    assert gone() is None


def test_callbacks_run_in_order():
    """Those of a child run right after the callback that completed it, before the next one."""
    order = []
    first = _C.Future()
    second = first.then(lambda _: order.append("second"))
    second.add_done_callback(lambda _: order.append("second's 1"))
    third = second.then(lambda _: order.append("third"))
    third.add_done_callback(lambda _: order.append("third's"))
    second.add_done_callback(lambda _: order.append("second's 2"))
    first.add_done_callback(lambda _: order.append("first's"))
    first.set_result(None)
    assert order == ["second", "second's 1", "third", "third's", "second's 2", "first's"]


@pytest.mark.parametrize("complete", [True, False])
def test_long_chains(complete):
    """Neither completing a chain nor dropping it takes stack for each of its futures."""
    first = last = _C.Future()
    for _ in range(200_000):
        last = last.then(lambda future: future.value() + 1)
    if complete:
        first.set_result(0)
        assert last.value() == 200_000
    gone = weakref.ref(last)
    del first, last
    gc.collect()
    assert gone() is None


def drop_the_result():
    return _C.Future()


drop_the_result._wrapped_async_rpc_function = drop_the_result


def test_a_function_drops_its_future(agent):
    """Who called learns that there will be no result."""
    with pytest.raises(RuntimeError) as info:
        sync(0, drop_the_result)
    assert "result" in str(info.value)


def test_callbacks_of_calls(agent):
    future = call_async(0, helpers.sleep, 0.05)
    threads = []
    child = future.then(lambda f: threads.append(threading.current_thread()) or f.value() + 1)
    assert child.wait() == 1.05
    assert threads[0] is not threading.main_thread()
    assert future.then(lambda f: threading.current_thread()).wait() is threading.main_thread()
    # They may wait for calls of their own, many at a time.
    futures = [call_async(0, add, i).then(lambda f: sync(0, add, f.wait(), 1)).then(lambda f: sync(0, add, f.wait(), 1))
               for i in range(100)]
    assert [future.wait() for future in futures] == [i + 2 for i in range(100)]
    released = threading.Event()
    blocked = [call_async(0, helpers.sleep, 0.3).then(lambda f: released.wait(LIMIT_SECONDS)) for i in range(40)]
    assert sync(0, add, 1, 2) == 3
    released.set()
    assert all(future.wait() for future in blocked)
    # A program may complete them first.
    first = call_async(0, helpers.sleep, 0.2)
    first.set_result("mine")
    assert first.wait() == "mine"
    late = call_async(0, add, 1, 2)
    late.wait()
    with pytest.raises(RuntimeError, match="Future can only be marked completed once"):
        late.set_result(1)
    value = call_async(0, Counter, 3)
    assert value.wait() is value.value()
    assert value.then(lambda f: f.value()).wait() is value.wait()


enough = threading.Event()


def wait_until_enough():
    enough.wait(2 * LIMIT_SECONDS)


def test_a_call_completed_by_the_program(agent):
    """Who waits for it wakes up, and the call is given up."""
    enough.clear()
    future = call_async(0, wait_until_enough)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(future.wait()))
    thread.start()
    time.sleep(0.1)
    future.set_result("enough")
    thread.join(LIMIT_SECONDS)
    enough.set()
    assert seen == ["enough"]
    assert future.then(lambda done: done.value()).wait() == "enough"
    with pytest.raises(RuntimeError, match="only be marked completed once"):
        future.set_exception(ValueError())


def test_cancel(agent):
    future = call_async(0, helpers.sleep, 0.2)
    child = future.then(lambda f: f.value())
    assert future.cancel()
    with pytest.raises(RuntimeError) as info:
        future.wait()
    assert info.value.status == "TDR_ECANCELED"
    with pytest.raises(RuntimeError, match="cancelled"):
        child.wait()
    assert not future.cancel()
    own = _C.Future()
    assert own.cancel()
    with pytest.raises(RuntimeError, match="cancelled"):
        own.wait()


def test_await(agent):
    async def program():
        assert await call_async(0, add, 1, 2) == 3
        done = call_async(0, add, 1, 2)
        done.wait()
        assert await done == 3
        assert await asyncio.gather(*[awaited(call_async(0, add, i)) for i in range(200)]) == list(range(200))
        with pytest.raises(ValueError, match=helpers.ERROR_TEXT):
            await call_async(0, helpers.raise_error, ValueError)
        own = _C.Future()
        asyncio.get_running_loop().call_later(0.01, own.set_result, 5)
        assert await own == 5
        slow = call_async(0, helpers.sleep, 0.3)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(awaited(slow), 0.02)
        with pytest.raises(RuntimeError) as info:
            slow.wait()
        assert info.value.status == "TDR_ECANCELED"
        return "end"

    async def awaited(future):
        return await future

    assert asyncio.run(program()) == "end"


class Made:
    """A future of another make."""

    def __init__(self):
        self.event = threading.Event()

    def set_result(self, result):
        self.outcome = (True, result)
        self.event.set()

    def set_exception(self, error):
        self.outcome = (False, error)
        self.event.set()


def test_factory(agent):
    _C.set_future_factory(Made)
    try:
        made = call_async(0, add, 1, 2)
        assert made.event.wait(LIMIT_SECONDS)
        assert made.outcome == (True, 3)
        made = call_async(0, helpers.raise_error, ValueError)
        assert made.event.wait(LIMIT_SECONDS)
        assert isinstance(made.outcome[1], ValueError)
        assert isinstance(call_async(0, add, 1, 2, timeout=-3.0), Made)
        with pytest.raises(TypeError):
            _C.set_future_factory(5)
    finally:
        _C.set_future_factory(None)
    assert isinstance(call_async(0, add, 1), _C.Future)


class Foreign:
    """What a function marked as asynchronous may return, too."""

    def __init__(self, value):
        self._value = value

    def value(self):
        if isinstance(self._value, Exception):
            raise self._value
        return self._value

    def add_done_callback(self, callback):
        threading.Timer(0.02, callback, (self,)).start()


def foreign(value):
    return Foreign(value)


foreign._wrapped_async_rpc_function = foreign


def test_functions_that_return_foreign_futures(agent):
    assert sync(0, foreign, 3) == 3
    with pytest.raises(ValueError, match="wrong"):
        sync(0, foreign, ValueError("wrong"))


SHARED = []


def wait_for_others(count):
    """All callers get the same future; the last one completes it."""
    if not SHARED:
        SHARED.append(_C.Future())
        SHARED.append(0)
    SHARED[1] += 1
    future = SHARED[0]
    if SHARED[1] == count:
        SHARED.clear()
        future.set_result(count)
    return future


wait_for_others._wrapped_async_rpc_function = wait_for_others


def _shared_future(rank, size, url):
    with member(rank, size, url, threads=1) as agent:
        futures = [call_async("worker0", wait_for_others, 10 * size) for _ in range(10)]
        assert [future.wait() for future in futures] == [10 * size] * 10
        agent.barrier()


def test_one_future_for_several_callers(group):
    group(3, _shared_future)


def test_call_pickled(agent):
    from tendril.rpc import internal

    data, tensors = internal.serialize(internal.PythonUDF(add, (1, 2), {"c": 3}))
    assert agent.call_pickled(0, data, tensors, (), -1.0, _C.SYNC) == 6
    assert agent.call_pickled(0, data, tensors, (), -1.0, _C.ASYNC).wait() == 6
    assert agent.call_pickled(0, data, tensors, (), -1.0, _C.REMOTE).to_here() == 6
