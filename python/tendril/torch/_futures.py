# SPDX-License-Identifier: Apache-2.0
"""Futures of torch's as the futures of calls.

A torch future that is completed by an exception keeps it as a value, and raises it when asked; torch's own
collect_all does not notice such an error before all others have completed. So collecting and waiting are done here,
for futures of any origin.
"""

import threading
from collections.abc import Iterable
from typing import Any

import torch


def new_future() -> Any:
    """An empty one."""
    return torch.futures.Future()


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
