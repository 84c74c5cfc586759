# SPDX-License-Identifier: Apache-2.0
"""Futures that a program completes itself, and several of them together."""

import pickle
import threading

import pytest

from tendril.futures import Future, collect_all, wait_all


def completed(value):
    future = Future()
    future.set_result(value)
    return future


def failed(error):
    future = Future()
    future.set_exception(error)
    return future


def test_result():
    future = Future()
    assert not future.done()
    future.set_result([1])
    assert future.done()
    assert future.wait() == future.value() == [1]
    with pytest.raises(RuntimeError, match="Future can only be marked completed once"):
        future.set_result(2)


def test_exception_keeps_its_type():
    future = failed(KeyError("a"))
    assert future.done()
    for ask in (future.wait, future.value, future.wait):
        with pytest.raises(KeyError):
            ask()


def test_only_exceptions_are_errors():
    with pytest.raises(AssertionError, match="5 is of type <class 'int'>, not an Exception."):
        Future().set_exception(5)


def test_value_of_one_that_is_not_done():
    with pytest.raises(RuntimeError):
        Future().value()


def test_waiting_in_another_thread():
    future, seen = Future(), []
    thread = threading.Thread(target=lambda: seen.append(future.wait()))
    thread.start()
    future.set_result(3)
    thread.join()
    assert seen == [3]


def test_callbacks():
    future, seen = Future(), []
    child = future.then(lambda done: done.value() + 1)
    future.add_done_callback(lambda done: seen.append(done.value()))
    grandchild = child.then(lambda done: done.value() + 1)
    future.set_result(1)
    assert (child.wait(), grandchild.wait(), seen) == (2, 3, [1])
    future.add_done_callback(lambda done: seen.append("late"))
    assert seen == [1, "late"]


def test_callbacks_that_fail():
    with pytest.raises(RuntimeError, match="unsupported operand type"):
        completed(1).then(lambda done: done.value() + "a").wait()
    with pytest.raises(RuntimeError, match="Expected error"):
        failed(ValueError("Expected error")).then(lambda done: done.wait()).wait()
    with pytest.raises(RuntimeError, match="missing 2 required positional arguments"):
        completed(1).then(lambda a, b, c: None).wait()


@pytest.mark.parametrize("name", ["then", "add_done_callback"])
def test_none_is_no_callback(name):
    with pytest.raises(TypeError, match="incompatible function arguments."):
        getattr(Future(), name)(None)


def test_future_of_a_future():
    inner = completed(5)
    assert completed(None).then(lambda done: inner).wait().wait() == 5


def test_no_pickling():
    with pytest.raises(RuntimeError, match="Can not pickle torch.futures.Future"):
        pickle.dumps(Future())


def test_devices():
    Future(devices=[0, "cuda:1"])
    with pytest.raises(ValueError, match="Expected devices to have indices, got cpu"):
        Future(devices=["cpu"])


def test_collect_all():
    futures = [Future() for _ in range(3)]
    result = collect_all(futures)
    for number in (2, 0):
        futures[number].set_result(number)
    assert not result.done()
    futures[1].set_result(1)
    assert [future.value() for future in result.wait()] == [0, 1, 2]
    assert collect_all([]).wait() == []


def test_first_error_ends_the_wait():
    pending = Future()
    with pytest.raises(ValueError, match="first"):
        wait_all([pending, completed(1), failed(ValueError("first")), failed(KeyError("second"))])
    pending.set_result(0)
    assert wait_all([pending, completed(1)]) == [0, 1]


def test_annotations():
    assert Future[int] is not None
    future: Future[int] = Future()
    assert isinstance(future, Future)
