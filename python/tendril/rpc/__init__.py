# SPDX-License-Identifier: Apache-2.0
"""Remote procedure calls between the members of a group, and references to values that stay where they are.

Every process joins by `init_rpc`, calls functions of others by `rpc_sync`, `rpc_async` and `remote`, and leaves by
`shutdown`; or does both by `session`:

    >>> from tendril import rpc
    >>> with rpc.session("worker0", rank=0, world_size=2):
    ...     rpc.rpc_sync("worker1", max, args=(1, 2))
    2
"""

import collections
import contextlib
import datetime
import logging
import numbers
import os
import threading
from collections.abc import Iterator
from typing import Any, Optional

from tendril import autograd as dist_autograd
from tendril._C import PyRRef, WorkerInfo

from . import _hooks, api, backend_registry, constants, functions, internal  # noqa: F401
from ._invoke import (  # noqa: F401
    _invoke_remote_builtin,
    _invoke_remote_python_udf,
    _invoke_remote_torchscript,
    _invoke_rpc_builtin,
    _invoke_rpc_python_udf,
    _invoke_rpc_torchscript,
)
from ._state import (  # noqa: F401
    _cleanup_python_rpc_handler,
    _delete_all_user_and_unforked_owner_rrefs,
    _destroy_rref_context,
    _get_current_rpc_agent,
    _is_current_rpc_agent_set,
    _reset_current_rpc_agent,
    _rref_context_get_debug_info,
    _set_and_start_rpc_agent,
    _set_rpc_timeout,
    enable_gil_profiling,
    get_rpc_timeout,
)
from .agent import RpcAgent, TensorPipeAgent
from .api import (
    AllGatherStates,
    RRef,
    get_worker_info,
    get_worker_infos,
    method_factory,
    new_method,
    remote,
    rpc_async,
    rpc_sync,
    shutdown,
)
from .backend_registry import (
    BackendType,
    BackendValue,
    backend_registered,
    construct_rpc_backend_options,
    init_backend,
    register_backend,
)
from .operations import Operation, Operations, register
from .options import (  # noqa: F401
    RpcBackendOptions,
    TensorPipeRpcBackendOptions,
    _TensorPipeRpcBackendOptionsBase,
)
from .server_process_global_profiler import (  # noqa: F401
    RemoteProfilerManager,
    _disable_server_process_global_profiler,
    _enable_server_process_global_profiler,
    _server_process_global_profile,
    _set_profiler_node_id,
)

__all__ = [
    "AllGatherStates",
    "BackendType",
    "BackendValue",
    "Operation",
    "PyRRef",
    "RRef",
    "RemoteProfilerManager",
    "RpcAgent",
    "RpcBackendOptions",
    "TensorPipeAgent",
    "TensorPipeRpcBackendOptions",
    "WorkerInfo",
    "backend_registered",
    "construct_rpc_backend_options",
    "enable_gil_profiling",
    "get_rpc_timeout",
    "get_worker_info",
    "get_worker_infos",
    "init_backend",
    "init_rpc",
    "is_available",
    "method_factory",
    "new_method",
    "ops",
    "register",
    "register_backend",
    "remote",
    "rpc_async",
    "rpc_sync",
    "session",
    "shutdown",
]

logger = logging.getLogger(__name__)

_DEFAULT_INIT_METHOD = constants.DEFAULT_INIT_METHOD
_DEFAULT_NUM_WORKER_THREADS = constants.DEFAULT_NUM_WORKER_THREADS
_DEFAULT_RPC_TIMEOUT_SEC = constants.DEFAULT_RPC_TIMEOUT_SEC
_UNSET_RPC_TIMEOUT = constants.UNSET_RPC_TIMEOUT

ops = Operations()
"""Functions and operators in C by name, as targets of calls: `rpc.ops.ps.push` is "ps::push"."""

_init_counter = 0
_init_counter_lock = threading.Lock()
_meetings: "collections.Counter[str]" = collections.Counter()

rendezvous_iterator: Optional[Iterator[tuple[Any, int, int]]] = None
"""Where this process met its group; kept, since the store that others use may be this process's."""


def is_available() -> bool:
    """Whether calls can be made in this build: always."""
    return True


def init_rpc(
    name: str,
    backend: Optional[BackendType] = None,
    rank: int = -1,
    world_size: Optional[int] = None,
    rpc_backend_options: Optional[RpcBackendOptions] = None,
) -> None:
    """Joins a group. From then on this process can make calls, and serves those of others, in threads of its own.

        >>> rpc.init_rpc("worker0", rank=0, world_size=2)  # at MASTER_ADDR and MASTER_PORT, as a launcher sets them

    In a group of a given size it returns when all members have come; in one without, workers come and go at any time.
    What others may call has to be defined before. A process is in one group at a time. `session` does the same, and
    leaves at its end.

    Args:
        name: this worker's name, which no other one has: letters, digits, `-`, `_` and `:`, up to 127 of them.
        backend: what the agent is made by; by default what the options are for, else TENSORPIPE.
        rank: this worker's id, which no other one has: 0 to `world_size` - 1, or any of 15 bits in a group that
            changes; -1 for what the URL says, or RANK in the environment.
        world_size: how many members the group has; None where they come and go.
        rpc_backend_options: options of that backend, where to meet and the default timeout among them; by default those
            that it has itself.

    Raises:
        TypeError: `backend` or the options are none, or no backend has such options.
        ValueError: rank, size or address cannot be had from what is given, or members' device maps do not fit together.
        RuntimeError: this process is in a group already; a name or id is taken; or the others did not come in time.
    """
    backend, rpc_backend_options = _choose_backend(backend, rpc_backend_options)
    store, rank = _meet(rpc_backend_options, rank, world_size)
    store.set_timeout(datetime.timedelta(seconds=rpc_backend_options.rpc_timeout))
    count = _count_init(rpc_backend_options.init_method)
    # The first time there under the keys that programs in C use, so that they can be members, too; and under the same
    # ones where members come and go: who comes again comes to the same group.
    if count and world_size:
        store = _hooks.prefix_store(f"rpc_prefix_{count}", store)
    # Before anyone can call: what is called may want them.
    dist_autograd._init(rank)
    _set_profiler_node_id(rank)
    _init_rpc_backend(backend, store, name, rank, world_size, rpc_backend_options)


def _choose_backend(backend: Any, rpc_backend_options: Any) -> tuple[BackendType, RpcBackendOptions]:
    """Checks both, and finds the one that is not given by the other."""
    if backend is not None and not isinstance(backend, backend_registry.BackendType):
        raise TypeError("Argument backend must be a member of BackendType")
    if rpc_backend_options is not None and not isinstance(rpc_backend_options, RpcBackendOptions):
        raise TypeError("Argument rpc_backend_options must be an instance of RpcBackendOptions")
    if backend is None and rpc_backend_options is not None:
        backend = _infer_backend(rpc_backend_options)
    if backend is None:
        backend = BackendType.TENSORPIPE
    if rpc_backend_options is None:
        rpc_backend_options = construct_rpc_backend_options(backend)
    return backend, rpc_backend_options


def _infer_backend(rpc_backend_options: RpcBackendOptions) -> BackendType:
    """The backend whose own options are of the same kind."""
    for candidate in BackendType:
        try:
            kind = type(construct_rpc_backend_options(candidate))
        except TypeError:
            continue  # it has no defaults: who wants it has to name it
        if isinstance(rpc_backend_options, kind):
            break
    else:
        raise TypeError(f"Could not infer backend for options {rpc_backend_options}")
    if candidate is not BackendType.TENSORPIPE:
        logger.warning(
            "RPC is initialized with options of %r and without a backend: that one is used, not %r. Pass backend=%r to "
            "init_rpc to say that this is meant.",
            candidate,
            BackendType.TENSORPIPE,
            candidate,
        )
    return candidate


def _meet(chosen: RpcBackendOptions, rank: int, world_size: Optional[int]) -> tuple[Any, int]:
    """The store of the group, and this worker's rank where only the URL or the environment says it."""
    global rendezvous_iterator
    if not world_size:
        store = _hooks.create_store(chosen, rank)
        by_environment = rank == -1 and chosen.init_method.startswith("env:")
        return store, int(os.environ.get("RANK") or rank) if by_environment else rank
    rendezvous_iterator = _hooks.rendezvous(chosen.init_method, rank, world_size)
    store, found, _ = next(rendezvous_iterator)
    return store, found if rank == -1 else rank


def _count_init(init_method: str) -> int:
    """How often this process has met others at a place before: each time under keys of its own."""
    global _init_counter
    place = init_method.partition("?")[0]
    if place.startswith("env:"):
        place = f"tcp://{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    with _init_counter_lock:
        _init_counter += 1
        _meetings[place] += 1
        return _meetings[place] - 1


def _validate_rpc_args(
    backend: Any, store: Any, name: Any, rank: Any, world_size: Any, rpc_backend_options: Any
) -> None:
    """Raises RuntimeError where an argument of `_init_rpc_backend` has the wrong type."""
    expected: tuple[tuple[Any, Any], ...] = (
        (backend, backend_registry.BackendType),
        (store, _hooks.store_types()),
        (name, str),
        (rank, numbers.Integral),
        (world_size, (numbers.Integral, type(None))),
        (rpc_backend_options, RpcBackendOptions),
    )
    for value, kind in expected:
        if not isinstance(value, kind):
            raise RuntimeError(f"Argument {value} must be of type {kind} but got type {type(value)}")


def _init_rpc_backend(
    backend: BackendType = BackendType.TENSORPIPE,
    store: Any = None,
    name: Optional[str] = None,
    rank: int = -1,
    world_size: Optional[int] = None,
    rpc_backend_options: Optional[RpcBackendOptions] = None,
) -> None:
    """Joins a group through a store that is there already.

    Raises:
        RuntimeError: an argument has the wrong type; this process is in a group already; or what `init_rpc` raises.
    """
    _validate_rpc_args(backend, store, name, rank, world_size, rpc_backend_options)
    if _is_current_rpc_agent_set():
        raise RuntimeError("RPC is already initialized")
    agent = backend_registry.init_backend(
        backend,
        store=store,
        name=name,
        rank=rank,
        world_size=world_size,
        rpc_backend_options=rpc_backend_options,
    )
    api._init_rpc_states(agent)


@contextlib.contextmanager
def session(
    name: str,
    backend: Optional[BackendType] = None,
    rank: int = -1,
    world_size: Optional[int] = None,
    rpc_backend_options: Optional[RpcBackendOptions] = None,
    *,
    shutdown_timeout: float = constants.DEFAULT_SHUTDOWN_TIMEOUT,
) -> Iterator[WorkerInfo]:
    """A context in which this process is a member of a group; gives its WorkerInfo.

        >>> with rpc.session("worker0", rank=0, world_size=2) as me:
        ...     rpc.rpc_sync("worker1", print, args=(f"{me.name} is here",))

    At its end it leaves gracefully, together with the others. Where the body raises it leaves at once, so that calls of
    others fail rather than wait for it.

    Args:
        name, backend, rank, world_size, rpc_backend_options: as in `init_rpc`.
        shutdown_timeout: as in `shutdown`, in seconds.
    """
    init_rpc(name, backend, rank, world_size, rpc_backend_options)
    try:
        yield get_worker_info()
    except BaseException:
        if _is_current_rpc_agent_set():
            with contextlib.suppress(RuntimeError):
                shutdown(graceful=False)
        raise
    if _is_current_rpc_agent_set():
        shutdown(timeout=shutdown_timeout)


@api._require_initialized
def _get_debug_info() -> dict[str, Any]:
    """Counters of references, of the agent and of distributed autograd, by their names."""
    return {
        **_rref_context_get_debug_info(),
        **_get_current_rpc_agent().get_debug_info(),
        **dist_autograd._get_debug_info(),
    }


def _enable_jit_rref_pickle() -> None:
    """Lets scripted modules that hold references be saved; of no effect without torch."""


def _disable_jit_rref_pickle() -> None:
    """Takes back `_enable_jit_rref_pickle`."""
