# SPDX-License-Identifier: Apache-2.0
"""What a call is made of: its pickled form, how it is run, and the names that profilers see."""

import collections
import enum
import sys
import traceback
from typing import Any

from tendril._pickle import _internal_rpc_pickler

from . import _hooks, _state

__all__ = [
    "PythonUDF",
    "RPCExecMode",
    "RemoteException",
    "_build_rpc_profiling_key",
    "_handle_exception",
    "_internal_rpc_pickler",
    "_run_function",
    "_start_record_function",
    "deserialize",
    "serialize",
]


class RPCExecMode(enum.Enum):
    """The ways to make a call, as profilers name them."""

    SYNC = "sync"
    ASYNC = "async"
    ASYNC_JIT = "async_jit"
    REMOTE = "remote"


PythonUDF = collections.namedtuple("PythonUDF", ["func", "args", "kwargs"])
PythonUDF.__doc__ = "A call of a Python function, as it is pickled."

RemoteException = collections.namedtuple("RemoteException", ["msg", "exception_type"])
RemoteException.__doc__ = "What a function raised, in place of its result."


def serialize(obj: Any) -> tuple[bytes, list[Any]]:
    """Pickles `obj`: bytes, and the tensors that go beside them."""
    return _internal_rpc_pickler.serialize(obj)


def deserialize(binary_data: bytes, tensor_table: list[Any]) -> Any:
    """The reverse of `serialize`. A function or class that is missing here gives an AttributeError as the result."""
    return _internal_rpc_pickler.deserialize(binary_data, tensor_table)


def _run_function(python_udf: Any) -> Any:
    """Runs a call.

    Args:
        python_udf: a PythonUDF, or the AttributeError that `deserialize` gave in its place.

    Returns:
        What the function returned; a RemoteException where it raised, which is printed to stderr, too.
    """
    try:
        if isinstance(python_udf, AttributeError):
            raise python_udf
        return python_udf.func(*python_udf.args, **python_udf.kwargs)
    except Exception as error:
        text = f"On {_state._get_current_rpc_agent().get_worker_info()}:\n{error!r}\n{traceback.format_exc()}"
        print(text, file=sys.stderr)
        return RemoteException(text, type(error))


def _handle_exception(result: Any) -> None:
    """Raises what a RemoteException stands for; anything else is left alone."""
    if isinstance(result, RemoteException):
        raise result.exception_type(result.msg.encode("utf-8").decode("unicode_escape"))


def _build_rpc_profiling_key(
    exec_type: RPCExecMode, func_name: str, current_worker_name: str, dst_worker_name: str
) -> str:
    """The name under which a profiler records a call: "rpc_sync#function(caller -> callee)"."""
    return f"rpc_{exec_type.value}#{func_name}({current_worker_name} -> {dst_worker_name})"


def _start_record_function(
    exec_type: RPCExecMode, func_name: str, current_worker_name: str, dest_worker_name: str
) -> Any:
    """Opens a profiler's record of a call, to be closed by its `__exit__`.

    Raises:
        AssertionError: no profiler is on.
    """
    assert _hooks.should_profile(), "Autograd profiler should be enabled."
    record = _hooks.record_function(
        _build_rpc_profiling_key(exec_type, func_name, current_worker_name, dest_worker_name)
    )
    record.__enter__()
    return record
