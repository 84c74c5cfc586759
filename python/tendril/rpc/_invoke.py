# SPDX-License-Identifier: Apache-2.0
"""Calls in their plainest form: a worker, what to call, and no default."""

from collections.abc import Mapping, Sequence
from typing import Any

from tendril import _C
from tendril._C import WorkerInfo

from . import _state


def _native() -> Any:
    return _state._get_current_rpc_agent()._native


def _invoke_rpc_builtin(dst: WorkerInfo, op_name: str, timeout: float, *args: Any, **kwargs: Any) -> Any:
    """Calls a function or operator in C; gives a future."""
    return _native().call(dst, op_name, args, kwargs, timeout, _C.ASYNC)


def _invoke_remote_builtin(dst: WorkerInfo, op_name: str, timeout: float, *args: Any, **kwargs: Any) -> Any:
    """Calls a function or operator in C; gives a reference to its result."""
    return _native().call(dst, op_name, args, kwargs, timeout, _C.REMOTE)


def _invoke_rpc_python_udf(
    dst: WorkerInfo, pickled_python_udf: bytes, tensors: Sequence[Any], timeout: float, is_async_execution: bool
) -> Any:
    """Calls a Python function that `internal.serialize` has pickled; gives a future."""
    return _native().call_pickled(dst, pickled_python_udf, tensors, (), timeout, _C.ASYNC, is_async_execution)


def _invoke_remote_python_udf(
    dst: WorkerInfo, pickled_python_udf: bytes, tensors: Sequence[Any], timeout: float, is_async_execution: bool
) -> Any:
    """Calls a Python function that `internal.serialize` has pickled; gives a reference to its result."""
    return _native().call_pickled(dst, pickled_python_udf, tensors, (), timeout, _C.REMOTE, is_async_execution)


def _invoke_rpc_torchscript(
    dst_worker_name: str,
    qualified_name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    timeout: float,
    is_async_execution: bool,
) -> Any:
    """Calls a scripted function by its qualified name; gives a future."""
    return _native().call(dst_worker_name, qualified_name, args, kwargs, timeout, _C.ASYNC, is_async_execution)


def _invoke_remote_torchscript(
    dst_worker_name: str, qualified_name: str, timeout: float, is_async_execution: bool, *args: Any, **kwargs: Any
) -> Any:
    """Calls a scripted function by its qualified name; gives a reference to its result."""
    return _native().call(dst_worker_name, qualified_name, args, kwargs, timeout, _C.REMOTE, is_async_execution)
