# SPDX-License-Identifier: Apache-2.0
"""Calls, remote references, gathering over all workers, and leaving the group.

Tests and programs replace some names of this module for a time: `_default_pickler`, `_ignore_rref_leak`,
`_wait_all_workers`, `_broadcast_to_followers`, `_delete_all_user_and_unforked_owner_rrefs`, `_set_and_start_rpc_agent`.
So functions here look names up when they run, and keep none.
"""

import collections
import contextlib
import functools
import inspect
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable, Generic, Optional, TypeVar, Union

from tendril import _C
from tendril._C import PyRRef, WorkerInfo

from . import _hooks
from ._state import (
    _cleanup_python_rpc_handler,
    _delete_all_user_and_unforked_owner_rrefs,
    _destroy_rref_context,
    _get_current_rpc_agent,
    _is_current_rpc_agent_set,
    _reset_current_rpc_agent,
    _set_and_start_rpc_agent,
    get_rpc_timeout,
)
from ._utils import _group_membership_management, _update_group_membership  # noqa: F401
from .agent import TensorPipeAgent
from .constants import DEFAULT_SHUTDOWN_TIMEOUT, UNSET_RPC_TIMEOUT
from .internal import PythonUDF, RPCExecMode, _build_rpc_profiling_key, _internal_rpc_pickler

__all__ = [
    "AllGatherStates",
    "RRef",
    "get_worker_info",
    "get_worker_infos",
    "method_factory",
    "new_method",
    "remote",
    "rpc_async",
    "rpc_sync",
    "shutdown",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Destination = Union[str, int, WorkerInfo]

_LOOK_AROUND_SECONDS = 0.25
"""How often who waits in a gathering looks whether those it waits for are still there."""

_NOT_INITIALIZED = "RPC has not been initialized. Call torch.distributed.rpc.init_rpc first."

_ignore_rref_leak = True
"""Whether `shutdown` only warns where others still hold references owned here; otherwise it raises."""

_default_pickler: Any = _internal_rpc_pickler
"""What pickles calls of Python functions; read for every call."""

_thread_local_var = threading.local()
"""Has a `future_list` in a thread that is inside `_wait_all`."""

_inside_wait_all: set[object] = set()
"""One object for each `_wait_all` that some thread is inside of."""


@contextlib.contextmanager
def _use_rpc_pickler(rpc_pickler: Any) -> Iterator[None]:
    """Has calls be pickled by another pickler inside the context; afterwards it is the package's own again.

    Args:
        rpc_pickler: has a method `serialize(obj)` that gives bytes and a list of tensors, for the package's own
            `deserialize`.
    """
    global _default_pickler
    _default_pickler = rpc_pickler
    try:
        yield
    finally:
        _default_pickler = _internal_rpc_pickler


def _require_initialized(func: F) -> F:
    """Has a function raise RuntimeError where this process is in no group."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not _is_current_rpc_agent_set():
            raise RuntimeError(_NOT_INITIALIZED)
        return func(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def _shortcut(mode: int) -> Callable[[F], F]:
    """Has the extension do by itself what a function that makes calls does, while nothing that it uses is replaced.

    Args:
        mode: one of `_C.SYNC`, `_C.ASYNC` and `_C.REMOTE`.
    """
    used = (
        "_default_pickler",
        "_enable_rpc_profiler",
        "_get_current_rpc_agent",
        "_get_should_profile",
        "_invoke_rpc",
        "_is_current_rpc_agent_set",
        "_send",
        "_to_worker_info",
    )

    def decorate(func: F) -> F:
        watched = (globals(), used), (vars(_hooks), ("check_call", "should_profile", "target_of"))
        shortcut: Any = _C.Shortcut(func, mode, watched, _inside_wait_all)
        return functools.update_wrapper(shortcut, func)

    return decorate


# ---- gathering ----


class AllGatherStates:
    """One gathering under way: what has come from whom, and the sign that all has."""

    def __init__(self) -> None:
        self.gathered_objects: dict[str, Any] = {}
        self.proceed_signal = threading.Event()


_ALL_WORKER_NAMES: set[str] = set()
"""The names of the members as they were when this process joined, but for those that are not written in Python."""

_all_gather_dict_lock = threading.RLock()
_all_gather_sequence_id: dict[str, int] = {}
_all_gather_sequence_id_to_states: "collections.defaultdict[str, AllGatherStates]" = collections.defaultdict(
    AllGatherStates
)


def _init_rpc_states(agent: Any) -> None:
    """Makes `agent` the current one unless one is set, and keeps the members' names."""
    global _ALL_WORKER_NAMES
    if not _is_current_rpc_agent_set():
        _set_and_start_rpc_agent(agent)
    if isinstance(agent, TensorPipeAgent):
        _ALL_WORKER_NAMES = agent._python_workers()
    else:
        _ALL_WORKER_NAMES = {info.name for info in agent.get_worker_infos()}


def _gather_to_leader(sequence_id: str, worker_name: str, obj: Any, worker_names: Optional[set[str]] = None) -> None:
    """Takes what one worker gives to a gathering; runs on the leader."""
    with _all_gather_dict_lock:
        if not worker_names:
            worker_names = _ALL_WORKER_NAMES
            assert worker_name in worker_names, f"{worker_name} is not expected by leader."
        states = _all_gather_sequence_id_to_states[sequence_id]
        assert (
            worker_name not in states.gathered_objects
        ), f"{worker_name} reported intent sequence id {sequence_id} twice. "
        states.gathered_objects[worker_name] = obj
        if set(worker_names) == set(states.gathered_objects):
            states.proceed_signal.set()


def _broadcast_to_followers(sequence_id: str, objects_map: dict[str, Any]) -> None:
    """Takes the result of a gathering; runs on each follower."""
    with _all_gather_dict_lock:
        states = _all_gather_sequence_id_to_states[sequence_id]
        assert (
            not states.proceed_signal.is_set()
        ), f"Termination signal sequence id {sequence_id} got set twice."
        states.gathered_objects = objects_map
        states.proceed_signal.set()


def _next_sequence_id(worker_names: Iterable[str]) -> str:
    """Tells this gathering from others of the same workers: they all count alike."""
    names = "".join(sorted(worker_names))
    with _all_gather_dict_lock:
        number = _all_gather_sequence_id.get(names, 0)
        _all_gather_sequence_id[names] = number + 1
    return f"{names}{number}"


def _spread(sequence_id: str, gathered: dict[str, Any], followers: Iterable[str], timeout: float) -> None:
    """Sends the result of a gathering to the followers.

    Raises:
        RuntimeError: some of them have not taken it.
    """
    pending = {
        name: rpc_async(name, _broadcast_to_followers, args=(sequence_id, gathered), timeout=timeout)
        for name in followers
    }
    errors = []
    for name, future in pending.items():
        try:
            future.wait()
        except RuntimeError as error:
            errors.append((name, error))
    if errors:
        raise RuntimeError(
            f"Followers {[name for name, _ in errors]} timed out in _all_gather after {timeout:.2f} seconds. "
            f"The first exception is {errors[0][1]}"
        )


def _await_gathered(states: AllGatherStates, names: set[str], leader: str, patience: Optional[float]) -> None:
    """Waits until all that a gathering is to bring is there, or `patience` is over.

    Raises:
        RuntimeError: somebody whose turn it is will never come.
    """
    agent = _get_current_rpc_agent()
    deadline = None if patience is None else time.monotonic() + patience
    while True:
        left = _LOOK_AROUND_SECONDS if deadline is None else deadline - time.monotonic()
        if states.proceed_signal.wait(min(max(left, 0.0), _LOOK_AROUND_SECONDS)) or left <= 0:
            return
        awaited = names - set(states.gathered_objects) if agent.get_worker_info().name == leader else {leader}
        lost = {name: reason for name, reason in getattr(agent, "lost_workers", {}).items() if name in awaited}
        if lost and not states.proceed_signal.is_set():
            raise RuntimeError(f"_all_gather of {sorted(names)} cannot end: {lost}")


@_require_initialized
def _all_gather(
    obj: Any, worker_names: Optional[set[str]] = None, timeout: float = UNSET_RPC_TIMEOUT
) -> dict[str, Any]:
    """Gives each of a set of workers what all of them give. All of them have to call it, in the same order.

    The first of them by name leads: the others send it what they give, and it sends all of it to everyone.

    Args:
        obj: what this worker gives.
        worker_names: the set; None for all members.
        timeout: of each step, in seconds; 0 for any time. Where it is not given, calls have their default, and waiting
            for the others has no end.

    Returns:
        A dict from each worker's name to what it gave.

    Raises:
        RuntimeError: a step was not done in time, or a worker that is waited for is gone.
    """
    names = set(worker_names) if worker_names else _ALL_WORKER_NAMES
    leader, me = min(names), _get_current_rpc_agent().get_worker_info().name
    sequence_id = _next_sequence_id(names)
    rpc_timeout = get_rpc_timeout() if timeout == UNSET_RPC_TIMEOUT else timeout
    patience = None if timeout in (UNSET_RPC_TIMEOUT, DEFAULT_SHUTDOWN_TIMEOUT) else timeout

    try:
        if me == leader:
            _gather_to_leader(sequence_id, me, obj, names)
        else:
            rpc_sync(leader, _gather_to_leader, args=(sequence_id, me, obj, names), timeout=rpc_timeout)
        with _all_gather_dict_lock:
            states = _all_gather_sequence_id_to_states[sequence_id]
        _await_gathered(states, names, leader, patience)
        if me == leader:
            _spread(sequence_id, states.gathered_objects, sorted(names - {leader}), rpc_timeout)
        return states.gathered_objects
    finally:
        with _all_gather_dict_lock:
            _all_gather_sequence_id_to_states.pop(sequence_id, None)


@_require_initialized
def _barrier(worker_names: Iterable[str]) -> None:
    """Returns when all the named workers have called it; what goes wrong is logged."""
    try:
        _all_gather(None, set(worker_names))
    except RuntimeError as error:
        logger.error("Failed to complete barrier, got error %s", error)


@_require_initialized
def _wait_all_workers(timeout: float = DEFAULT_SHUTDOWN_TIMEOUT) -> None:
    """Returns when all workers have called it.

    Raises:
        RuntimeError: somebody was not in time.
    """
    try:
        _all_gather(None, timeout=timeout)
    except RuntimeError as error:
        logger.error("Failed to respond to 'Shutdown Proceed' in time, got error %s", error)
        raise


# ---- leaving ----


@_require_initialized
def shutdown(graceful: bool = True, timeout: float = DEFAULT_SHUTDOWN_TIMEOUT) -> None:
    """Leaves the group. Afterwards `init_rpc` may be called again.

    Gracefully, it waits until all workers have called it, nobody has calls under way, and remote references are let go
    of; a worker of a group whose members come and go waits for itself alone. Otherwise it leaves at once, and calls
    under way fail, here and at others.

    Args:
        graceful: whether to wait for the others.
        timeout: how long each step may take, in seconds; 0 for as long as it takes.

    Raises:
        RuntimeError: this process is in no group; or a step failed, or others still held references where
            `_ignore_rref_leak` is off: then it has left all the same.
    """
    if not graceful:
        _finalize_shutdown()
        return
    try:
        agent = _get_current_rpc_agent()
        # Members that are not written in Python agree with the others in agent.join() alone.
        if getattr(agent, "is_static_group", True) and not getattr(agent, "_has_foreign_members", False):
            _wait_all_workers(timeout)
            _delete_all_user_and_unforked_owner_rrefs()
        agent.join(shutdown=True, timeout=timeout)
    finally:
        _finalize_shutdown()


def _finalize_shutdown() -> None:
    """Leaves at once, whatever is still under way."""
    _report_failed_calls()
    try:
        _destroy_rref_context(_ignore_rref_leak)
    finally:
        _get_current_rpc_agent().shutdown()
        _cleanup_python_rpc_handler()
        _reset_current_rpc_agent()


def _report_failed_calls() -> None:
    """Tells of failed calls that nobody has asked about, by waiting, a callback, or otherwise; each of them once."""
    failures = _C.take_unheard_failures()
    if failures:
        logger.warning(
            "%d calls of this worker have failed, and nobody has asked for their results:\n%s",
            sum(count for _, count in failures),
            "\n".join(f"  {text} ({count} times)" if count > 1 else f"  {text}" for text, count in failures),
        )


# ---- workers ----


@_require_initialized
def get_worker_info(worker_name: Union[None, str, int] = None) -> WorkerInfo:
    """A worker's name and id, to be used as a destination.

    Args:
        worker_name: its name or id; None for this worker.

    Raises:
        RuntimeError: there is no such worker, or this process is in no group.
    """
    agent = _get_current_rpc_agent()
    return agent.get_worker_info() if worker_name is None else agent.get_worker_info(worker_name)


@_require_initialized
def get_worker_infos() -> list[WorkerInfo]:
    """All members of the group as this worker knows them just now, in the order of their ids.

    In a group whose members come and go, who has left or died is not among them any more.

    Raises:
        RuntimeError: this process is in no group.
    """
    return _get_current_rpc_agent().get_worker_infos()


def _to_worker_info(to: Destination) -> WorkerInfo:
    """The worker that a destination names.

    Raises:
        ValueError: `to` is no name, id or WorkerInfo.
        RuntimeError: there is no such worker.
    """
    if isinstance(to, WorkerInfo):
        return to
    if isinstance(to, (str, int)):
        return get_worker_info(to)
    raise ValueError(f"Cannot get WorkerInfo from name {to}")


# ---- remote references ----


def _rref_typeof_on_owner(rref: Any, blocking: bool = True) -> Any:
    """The type of the value that `rref` refers to, on its owner.

    Args:
        blocking: give the type itself; otherwise a completed future of it.
    """
    kind = type(rref.local_value())
    if blocking:
        return kind
    future = _hooks.new_future()
    future.set_result(kind)
    return future


def _rref_typeof_on_user(rref: Any, timeout: float = UNSET_RPC_TIMEOUT, blocking: bool = True) -> Any:
    """The same, asked of the owner by a call.

    Raises:
        RuntimeError: with `blocking`, the value could not be made, or not in time; otherwise that is in the future.
    """
    answer = _invoke_rpc(rref.owner(), _rref_typeof_on_owner, RPCExecMode.ASYNC, (rref,), None, timeout)
    future = _hooks.new_future()

    def finish(answer: Any) -> None:
        try:
            future.set_result(answer.value())
        except Exception as error:
            if getattr(error, "status", "") == "TDR_ENOFUNCTION":
                from .rref_proxy import ForeignObject

                future.set_result(ForeignObject)
            else:
                future.set_exception(error)

    answer.add_done_callback(finish)
    return future.wait() if blocking else future


def _rref_get_type(rref: Any, timeout: float = UNSET_RPC_TIMEOUT, blocking: bool = True) -> Any:
    """`rref._get_type()`: the owner is asked once, and again only where that failed.

    Returns:
        The type; without `blocking` a future of it, the same one each time.
    """
    future = getattr(rref, "_type_future", None)
    if future is None or _has_failed(future):
        if rref.is_owner():
            future = _rref_typeof_on_owner(rref, blocking=False)
        else:
            future = _rref_typeof_on_user(rref, timeout, blocking=False)
        rref._type_future = future
    return future.wait() if blocking else future


def _has_failed(future: Any) -> bool:
    if not future.done():
        return False
    try:
        future.value()
    except Exception:
        return True
    return False


def _make_rref_proxy(rref: Any, rpc_api: str, timeout: float) -> Any:
    """`rref.rpc_sync()`, `.rpc_async()` and `.remote()`."""
    from .rref_proxy import RRefProxy

    return RRefProxy(rref, globals()[rpc_api], timeout)


class RRef(PyRRef, Generic[T]):
    """A reference to a value of this worker's, to be passed to others.

        >>> model = rpc.RRef(Model())
        >>> rpc.rpc_async("trainer1", train, args=(model,))

    What `remote` returns, and what arrives from others, is a `PyRRef`, which can do the same. `RRef[T]` is for
    annotations. The value is kept, as the very object, until nobody refers to it any more.

    Args:
        value: what it refers to; of any type, since it stays here.
        type_hint: the interface of `value` where that is a scripted module.

    Raises:
        RuntimeError: this process is in no group, or the value needs a type hint.
    """

    def __init__(self, value: T, type_hint: Any = None) -> None:
        _hooks.check_referent(value, type_hint)
        super().__init__(value, type_hint)


def method_factory(method_name: str, docstring: Optional[str]) -> Callable[..., Any]:
    """A method of RRef that does what PyRRef's does.

    Args:
        method_name: which.
        docstring: what its documentation says.
    """

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(RRef, self), method_name)(*args, **kwargs)

    method.__name__ = method_name
    method.__qualname__ = f"RRef.{method_name}"
    method.__doc__ = docstring
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        method.__signature__ = inspect.signature(getattr(PyRRef, method_name))  # type: ignore[attr-defined]
    return method


for _name, _member in inspect.getmembers(PyRRef, callable):
    if not _name.startswith("_") or _name == "__str__":
        new_method = method_factory(_name, (inspect.getdoc(_member) or "").replace("PyRRef", "RRef"))
        setattr(RRef, _name, new_method)
del _name, _member


# ---- calls ----


def _get_should_profile() -> bool:
    """Whether a profiler records this thread's calls."""
    return _hooks.should_profile()


def _enable_rpc_profiler(
    should_profile: bool,
    qualified_name: Optional[str],
    func: Callable[..., Any],
    rpc_type: RPCExecMode,
    dst_worker_info: WorkerInfo,
) -> "contextlib.AbstractContextManager[Any]":
    """A context in which a call is made, and that records it where a profiler is on.

    Args:
        should_profile: whether one is.
        qualified_name: of the function or operator in C; None for a Python function.
        func: what is called.
        rpc_type: how.
        dst_worker_info: on which worker.
    """
    if not should_profile:
        return contextlib.nullcontext()
    name = qualified_name if qualified_name is not None else getattr(func, "__qualname__", repr(func))
    key = _build_rpc_profiling_key(rpc_type, name, get_worker_info().name, dst_worker_info.name)
    _hooks.set_profiling_key(key)
    _hooks.take_profiling_key()  # by the call that is made now
    return _hooks.record_function(key)


def _send(worker: WorkerInfo, func: Any, args: Any, kwargs: Any, timeout: float, mode: int) -> Any:
    """Hands a call to the extension: by name where it has one, else as bytes of the pickler in use.

    Args:
        func: the name of a function or operator in C, or an object.
        mode: one of `_C.ASYNC` and `_C.REMOTE`.
    """
    native = _get_current_rpc_agent()._native
    args, kwargs = args if args else (), kwargs if kwargs else {}
    _hooks.check_call(func, args, kwargs)
    is_async = hasattr(func, "_wrapped_async_rpc_function")
    if isinstance(func, str) or (_default_pickler is _internal_rpc_pickler and callable(func)):
        return native.call(worker, func, args, kwargs, timeout, mode, is_async)
    payload, tensors = _default_pickler.serialize(PythonUDF(func, args, kwargs))
    return native.call_pickled(worker, payload, tensors, (), timeout, mode, is_async)


def _invoke_rpc(
    to: Destination,
    func: Callable[..., Any],
    rpc_type: RPCExecMode,
    args: Optional[Sequence[Any]] = None,
    kwargs: Optional[Mapping[str, Any]] = None,
    rpc_timeout: float = UNSET_RPC_TIMEOUT,
) -> Any:
    """Makes a call.

    Returns:
        A future of its result.
    """
    if not callable(func):
        raise TypeError("function should be callable.")
    worker, target = _to_worker_info(to), _hooks.target_of(func)
    should_profile = _get_should_profile()
    qualified_name = _hooks.profiled_name(target) if isinstance(target, str) else None
    with _enable_rpc_profiler(should_profile, qualified_name, func, rpc_type, worker) as record:
        future = _send(worker, target, args, kwargs, rpc_timeout, _C.ASYNC)
        return record._call_end_callbacks_on_future(future) if should_profile else future


@_shortcut(_C.SYNC)
def rpc_sync(
    to: Destination,
    func: Callable[..., Any],
    args: Optional[Sequence[Any]] = None,
    kwargs: Optional[Mapping[str, Any]] = None,
    timeout: float = UNSET_RPC_TIMEOUT,
) -> Any:
    """Calls a function on another worker, or on this one, and waits for its result. May be called from any thread.

        >>> rpc.rpc_sync("worker1", max, args=(1, 2))
        2
        >>> rpc.rpc_sync("worker1", rpc.ops.aten.add, args=(array, array), kwargs={"alpha": 2}, timeout=5.0)

    The function runs there with copies of the arguments, and what comes back is a copy of its result. It is not made
    again where it fails; the callee goes on where the time is over.

    Args:
        to: the worker: its name, its id, or a WorkerInfo.
        func: the function: a Python function that can be imported there by the name it has here, or one of `rpc.ops`.
        args: its arguments.
        kwargs: its keyword arguments.
        timeout: how long it may take, in seconds; 0 for any time; where not given, the default of `init_rpc`'s options.

    Returns:
        What it returns.

    Raises:
        ValueError, TypeError: the function raised one, or `to` or `func` is of the wrong kind.
        RuntimeError: the function raised anything else; there is no such worker, it is gone, or the time was over ("RPC
            ran for more than ..."); or this process is in no group.
    """
    if not _is_current_rpc_agent_set():
        raise RuntimeError(_NOT_INITIALIZED)
    if _default_pickler is not _internal_rpc_pickler or not callable(func) or _hooks.should_profile():
        return _invoke_rpc(to, func, RPCExecMode.SYNC, args, kwargs, timeout).wait()
    # The extension looks names up by itself.
    worker: Destination = to if type(to) is str else _to_worker_info(to)
    target = _hooks.target_of(func)
    args, kwargs = args if args else (), kwargs if kwargs else {}
    _hooks.check_call(target, args, kwargs)
    return _C.rpc_sync(worker, target, args, kwargs, timeout)


@_shortcut(_C.ASYNC)
@_require_initialized
def rpc_async(
    to: Destination,
    func: Callable[..., Any],
    args: Optional[Sequence[Any]] = None,
    kwargs: Optional[Mapping[str, Any]] = None,
    timeout: float = UNSET_RPC_TIMEOUT,
) -> Any:
    """Calls a function on another worker, and returns at once. May be called from any thread.

        >>> futures = [rpc.rpc_async(worker, pow, args=(2, 10)) for worker in ("worker1", "worker2")]
        >>> [future.wait() for future in futures]
        [1024, 1024]

    Tensors in the arguments are sent from where they are: leave them unchanged until the future completes. Calls to one
    worker may overtake each other.

    Args:
        to, func, args, kwargs, timeout: as in `rpc_sync`.

    Returns:
        A future of the result, which can be awaited, too. Its `wait` raises what `rpc_sync` does.

    Raises:
        ValueError, TypeError: `to` or `func` is of the wrong kind.
        RuntimeError: there is no such worker, or this process is in no group. What cannot be pickled is raised at once,
            too, with an error of its own.
    """
    future = _invoke_rpc(to, func, RPCExecMode.ASYNC, args, kwargs, timeout)
    if hasattr(_thread_local_var, "future_list"):
        _thread_local_var.future_list.append(future)
    return future


@_shortcut(_C.REMOTE)
@_require_initialized
def remote(
    to: Destination,
    func: Callable[..., Any],
    args: Optional[Sequence[Any]] = None,
    kwargs: Optional[Mapping[str, Any]] = None,
    timeout: float = UNSET_RPC_TIMEOUT,
) -> PyRRef:
    """Calls a function on another worker and leaves the result there; returns at once. May be called from any thread.

        >>> counter = rpc.remote("worker1", collections.Counter, args=("banana",))
        >>> counter.rpc_sync().most_common(1)
        [('a', 3)]
        >>> rpc.rpc_sync("worker2", len, args=(counter.to_here(),))
        3

    Args:
        to, func, args, kwargs: as in `rpc_sync`.
        timeout: how long the call may take, in seconds. Past it every use of the reference raises an error.

    Returns:
        A reference to what the function returns. What the function raises is raised where the reference is used.

    Raises:
        ValueError: `to` is of the wrong kind.
        RuntimeError: as `rpc_async`.
    """
    worker, target = _to_worker_info(to), _hooks.target_of(func) if callable(func) else func
    should_profile = _get_should_profile()
    qualified_name = _hooks.profiled_name(target) if callable(func) and isinstance(target, str) else None
    with _enable_rpc_profiler(should_profile, qualified_name, func, RPCExecMode.REMOTE, worker) as record:
        if not callable(func):
            # The worker that is to call it finds out, and the reference says so.
            target = functools.partial(_call_object, func)
        rref = _send(worker, target, args, kwargs, timeout, _C.REMOTE)
        if should_profile:
            rref._set_profiling_future(record._call_end_callbacks_on_future(rref._get_future()))
        return rref


def _call_object(obj: Any, *args: Any, **kwargs: Any) -> Any:
    return obj(*args, **kwargs)


@contextlib.contextmanager
def _wait_all() -> Iterator[None]:
    """A context at whose end all futures that `rpc_async` gave this thread inside it have completed.

    Raises:
        The first error of them.
    """
    _thread_local_var.future_list = []
    inside = object()
    _inside_wait_all.add(inside)
    try:
        yield
    finally:
        try:
            _hooks.wait_all(_thread_local_var.future_list)
        finally:
            del _thread_local_var.future_list
            _inside_wait_all.discard(inside)


_C.set_hooks(make_proxy=_make_rref_proxy, get_type=_rref_get_type, backward=lambda *args: _hooks.backward(*args))
