# SPDX-License-Identifier: Apache-2.0
"""Futures: results of calls under way.

`rpc_async` gives `_C.Future`s; `Future` here is one that a program completes itself. Both can be waited for, chained
and awaited.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Generic, Optional, TypeVar, Union

from tendril import _C

__all__ = ["Future", "collect_all", "wait_all"]

T = TypeVar("T")
S = TypeVar("S")


class Future(_C.Future[T], Generic[T]):
    """A result that will be there. Completes once, with a value or an exception.

    Args:
        devices: accelerators that values may be on.

    Raises:
        ValueError: one of them is no accelerator.
    """

    def __init__(self, *, devices: Optional[Sequence[Union[int, str, Any]]] = None) -> None:
        super().__init__()
        for device in devices or ():
            _check_device(device)

    def done(self) -> bool:
        """Whether it has completed."""
        return super().done()

    def wait(self) -> T:
        """Waits until it has completed, and returns its value.

        Raises:
            Its exception, each time anew.
        """
        return super().wait()

    def value(self) -> T:
        """Its value, without waiting.

        Raises:
            RuntimeError: it has not completed. Otherwise its exception.
        """
        return super().value()

    def then(self, callback: Callable[["Future[T]"], S]) -> "Future[S]":
        """Has `callback` called with this future when that has completed; at once if it has already.

        Returns:
            A future of what the callback returns, or of a RuntimeError where it raises.

        Raises:
            TypeError: `callback` is None.
        """
        return super().then(callback)  # type: ignore[return-value]  # it makes one of the same class

    def add_done_callback(self, callback: Callable[["Future[T]"], object]) -> None:
        """The same, where nobody wants to know what the callback returns. What it raises is printed.

        Raises:
            TypeError: `callback` is None.
        """
        super().add_done_callback(callback)

    def set_result(self, result: T) -> None:
        """Completes it. Callbacks run before this returns.

        Raises:
            RuntimeError: it has completed already.
        """
        super().set_result(result)

    def set_exception(self, result: Exception) -> None:
        """Completes it with an exception, which `wait` and `value` raise.

        Raises:
            AssertionError: `result` is no exception.
            RuntimeError: it has completed already.
        """
        assert isinstance(result, Exception), f"{result} is of type {type(result)}, not an Exception."
        super().set_exception(result)


def collect_all(futures: Iterable[Any]) -> Future[list[Any]]:
    """A future of the list of `futures`.

    It completes when all of them have; with an error as soon as one of them has failed.

    Args:
        futures: any number; with none the result is there at once.
    """
    pending = list(futures)
    result: Future[list[Any]] = Future()
    if not pending:
        result.set_result(pending)
        return result
    lock = threading.Lock()
    left = len(pending)

    def count(future: Any) -> None:
        nonlocal left
        try:
            future.value()
        except Exception as error:
            with lock:
                first, left = left > 0, 0
            if first:
                result.set_exception(error)
            return
        with lock:
            left -= 1
            last = left == 0
        if last:
            result.set_result(pending)

    for future in pending:
        future.add_done_callback(count)
    return result


def wait_all(futures: Iterable[Any]) -> list[Any]:
    """Waits for all of them, and returns their values in order.

    Raises:
        The first exception that one of them completes with, without waiting for the others.
    """
    return [future.value() for future in collect_all(futures).wait()]


def _check_device(device: Any) -> None:
    from tendril.rpc.devices import to_device

    if to_device(device).index is None:
        raise ValueError(f"Expected devices to have indices, got {to_device(device)}")
