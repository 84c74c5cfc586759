# SPDX-License-Identifier: Apache-2.0
"""Futures of torch's as the futures of calls.

A torch future that is completed by an exception keeps it as a value, and raises it when asked; torch's own
collect_all does not notice such an error before all others have completed. So collecting and waiting are done here,
for futures of any origin.
"""

import threading
from collections.abc import Generator, Iterable
from typing import Any, Callable

import torch

from tendril import _asyncio, futures


class Future(torch.futures.Future):
    """A future of torch's that can be awaited, too, and stands for a call that can be cancelled."""

    _call: Any = None
    """The extension's future of the call; None for one that a program completes."""

    _failure: Any = None
    """Of one that a program completes for a call: a future of the extension's that fails with it, and is reported."""

    def _ask(self) -> None:
        """Somebody wants to know what becomes of the call."""
        asked = self._failure if self._call is None else self._call
        if asked is not None:
            asked._heard()

    def _tell_failure(self, name: str) -> None:
        """It stands for a call, of that name: a failure that nobody asks about is reported."""
        failure: Any = futures.Future()
        failure._tell_failure(name)
        self._failure = failure

    def set_exception(self, result: Any) -> None:
        """Completes it with an error, which `wait` raises."""
        super().set_exception(result)
        if self._failure is not None:
            self._failure.set_exception(result)

    def wait(self) -> Any:
        """Waits until it has completed; returns its result, or raises its error."""
        self._ask()
        return super().wait()

    def value(self) -> Any:
        """The result of a completed future; raises its error."""
        self._ask()
        return super().value()

    def then(self, callback: Callable[[Any], Any]) -> Any:
        """A future of what `callback` makes of this one once it has completed."""
        self._ask()
        return super().then(callback)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Has `callback` called with this future once it has completed."""
        self._ask()
        super().add_done_callback(callback)

    _on_done = add_done_callback

    def cancel(self) -> bool:
        """Gives the result up, and tells who works on it. False: it has completed, or is no call's."""
        return self._call is not None and self._call.cancel()

    def __await__(self) -> Generator[Any, Any, Any]:
        return _asyncio.wrap(self).__await__()


def new_future() -> Any:
    """An empty one."""
    return Future()


def collect_all(futures: Iterable[Any]) -> Any:
    """A future of the list of `futures`, which completes when all of them have, or as soon as one has failed.

    Args:
        futures: any number; with none the result is there at once.
    """
    pending = list(futures)
    for future in pending:
        if not isinstance(future, torch._C.Future):
            raise TypeError(f"collect_all(): incompatible function arguments: futures of torch, not {type(future)}")
    result = new_future()
    if not pending:
        result.set_result(pending)
        return result
    lock = threading.Lock()
    left = len(pending)

    def count(future: Any) -> None:
        nonlocal left
        error = None
        try:
            future.value()
        except Exception as raised:
            error = raised
        with lock:
            if left <= 0:
                return  # an earlier one has failed
            left = 0 if error is not None else left - 1
            last = left == 0
        if error is not None:
            result.set_exception(error)
        elif last:
            result.set_result(pending)

    for future in pending:
        future.add_done_callback(count)
    return result


def wait_all(futures: Iterable[Any]) -> "list[Any]":
    """The values of all futures, in order.

    Raises:
        The first error of one of them, without waiting for the others.
    """
    return [future.wait() for future in collect_all(futures).wait()]


def copy_outcome(source: Any, target: Any) -> None:
    """Completes `target` as `source` has been."""
    try:
        value = source.value()
    except Exception as error:
        target.set_exception(error)
    else:
        target.set_result(value)
