# SPDX-License-Identifier: Apache-2.0
"""Decorators for functions that others call."""

import functools
from typing import Any, Callable, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def async_execution(fn: F) -> F:
    """Marks a function as one that returns a future, whose value is to be the answer.

    The thread that serves the call is free as soon as the function has returned; the answer is sent when the future
    completes, from whichever thread completes it. Functions defined with `async def` need no decorator.

        >>> @rpc.functions.async_execution
        ... def add_chained(to, x, y, z):
        ...     return rpc.rpc_async(to, operator.add, args=(x, y)).then(lambda future: future.wait() + z)

    It goes inside `@staticmethod` and `@classmethod`.

    Args:
        fn: a function that returns a `tendril.futures.Future`. Where it returns anything else, the caller gets a
            RuntimeError.

    Returns:
        A function that does the same when called here.
    """

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    wrapper._wrapped_async_rpc_function = fn  # type: ignore[attr-defined]
    return wrapper  # type: ignore[return-value]
