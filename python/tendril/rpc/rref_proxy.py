# SPDX-License-Identifier: Apache-2.0
"""Proxies: methods of a remote object, called where it is."""

import functools
import inspect
from typing import Any, Callable

from tendril import _C

from . import _hooks, _state, api, functions
from .constants import UNSET_RPC_TIMEOUT


class ForeignObject:
    """Stands for the type of what lives on a worker not written in Python: its functions are known there alone."""


class RRefProxy:
    """Stands for the object that a reference refers to: its attributes are functions that call the object's methods.

    Those of an object of C's are the functions that its owner has registered for its type: `push` of a `replay::Buffer`
    is "replay::Buffer::push".

    Args:
        rref: the reference.
        rpc_api: how to call: `rpc_sync`, `rpc_async` or `remote`.
        timeout: of each call, in seconds.
    """

    def __init__(self, rref: Any, rpc_api: Callable[..., Any], timeout: float = UNSET_RPC_TIMEOUT) -> None:
        self.rref = rref
        self.rpc_api = rpc_api
        self.rpc_timeout = timeout

    def __getattr__(self, func_name: str) -> Callable[..., Any]:
        return functools.partial(_invoke_rpc, self.rref, self.rpc_api, func_name, self.rpc_timeout)


def _local_invoke(rref: Any, func_name: str, args: Any, kwargs: Any) -> Any:
    """Calls a method of the object, on its owner."""
    return getattr(rref.local_value(), func_name)(*args, **kwargs)


@functions.async_execution
def _local_invoke_async_execution(rref: Any, func_name: str, args: Any, kwargs: Any) -> Any:
    """The same for a method that returns a future of its result."""
    return getattr(rref.local_value(), func_name)(*args, **kwargs)


async def _local_invoke_coroutine(rref: Any, func_name: str, args: Any, kwargs: Any) -> Any:
    """The same for a method defined with `async def`."""
    return await getattr(rref.local_value(), func_name)(*args, **kwargs)


def _helper_for(rref_type: type, func_name: str) -> Callable[..., Any]:
    """Which of the functions above calls the method.

    Raises:
        AttributeError: the type has no such attribute.
    """
    if _hooks.type_is_opaque(rref_type):
        return _local_invoke
    method = getattr(rref_type, func_name)
    if hasattr(method, "_wrapped_async_rpc_function"):
        return _local_invoke_async_execution
    return _local_invoke_coroutine if inspect.iscoroutinefunction(method) else _local_invoke


def _call_foreign(
    rref: Any, rpc_api: Callable[..., Any], func_name: str, args: Any, kwargs: Any, timeout: float
) -> Any:
    """Calls a function of an object of C's by `rpc_api`."""
    mode = _C.REMOTE if rpc_api is api.remote else _C.ASYNC
    result = _state._get_current_rpc_agent()._native.call_on(rref, func_name, args, kwargs, timeout, mode)
    return result.wait() if rpc_api is api.rpc_sync else result


def _invoke_rpc(
    rref: Any, rpc_api: Callable[..., Any], func_name: str, timeout: float, *args: Any, **kwargs: Any
) -> Any:
    """Calls a method of the object that `rref` refers to, by `rpc_api`.

    Returns:
        What `rpc_api` gives. For `rpc_async` every failure is in the future.

    Raises:
        AttributeError: the object's type has no such attribute.
        RuntimeError: its type could not be had in time, or it could not be made; an object of C's has no such function.
    """

    def call(type_future: Any) -> Any:
        kind = type_future.value()
        if kind is ForeignObject:
            return _call_foreign(rref, rpc_api, func_name, args, kwargs, timeout)
        helper = _helper_for(kind, func_name)
        return rpc_api(rref.owner(), helper, args=(rref, func_name, args, kwargs), timeout=timeout)

    if rpc_api is not api.rpc_async:
        type_future = rref._get_type(timeout=timeout, blocking=False)
        type_future.wait()
        return call(type_future)

    result = _hooks.new_future()
    result._tell_failure(f"{func_name} on worker '{rref.owner_name()}'")

    def finish(future: Any) -> None:
        try:
            value = future.value()
        except Exception as error:
            result.set_exception(error)
        else:
            result.set_result(value)

    def start(type_future: Any) -> None:
        try:
            call(type_future).add_done_callback(finish)
        except Exception as error:
            result.set_exception(error)

    try:
        rref._get_type(timeout=timeout, blocking=False).add_done_callback(start)
    except Exception as error:
        result.set_exception(error)
    return result
