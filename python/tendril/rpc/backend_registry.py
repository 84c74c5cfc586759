# SPDX-License-Identifier: Apache-2.0
"""Backends: what makes agents, by name."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Callable, Optional

from . import _hooks, api, constants
from .agent import TensorPipeAgent
from .options import TensorPipeRpcBackendOptions

__all__ = [
    "BackendType",
    "BackendValue",
    "backend_registered",
    "construct_rpc_backend_options",
    "init_backend",
    "register_backend",
]

BackendValue = collections.namedtuple("BackendValue", ["construct_rpc_backend_options_handler", "init_backend_handler"])
BackendValue.__doc__ = "What a backend is made of: a function that makes its options, and one that makes an agent."


class _Registry(type):
    """Lets `BackendType` be used as an enum that grows: members are found by name, iterated and counted."""

    _backends: "dict[str, BackendType]" = {}

    @property
    def __members__(cls) -> "Mapping[str, BackendType]":
        return MappingProxyType(cls._backends)

    def __getitem__(cls, name: str) -> "BackendType":
        return cls._backends[name]

    def __getattr__(cls, name: str) -> "BackendType":
        try:
            return cls._backends[name]
        except KeyError:
            raise AttributeError(f"there is no backend {name!r}; there are {', '.join(cls._backends)}") from None

    def __iter__(cls) -> "Iterator[BackendType]":
        """The backends, from the newest on."""
        return reversed(list(cls._backends.values()))

    def __len__(cls) -> int:
        return len(cls._backends)

    def __contains__(cls, member: object) -> bool:
        return isinstance(member, cls)

    def __dir__(cls) -> list[str]:
        return [*super().__dir__(), *cls._backends]


class BackendType(metaclass=_Registry):
    """The backends there are: `BackendType.TENSORPIPE`, the ordinary one, and those that have been registered.

    Has a `name`, and as its `value` a `BackendValue`.
    """

    def __init__(self, name: str, value: BackendValue) -> None:
        self._name = name
        self._value = value

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def value(self) -> BackendValue:
        """What it is made of."""
        return self._value

    def __reduce__(self) -> tuple[Any, ...]:
        return (_backend_by_name, (self._name,))

    def __repr__(self) -> str:
        return f"BackendType.{self._name}"


def _backend_by_name(name: str) -> BackendType:
    return BackendType[name]


def backend_registered(backend_name: str) -> bool:
    """Whether there is a backend of that name."""
    return backend_name in BackendType.__members__


def register_backend(
    backend_name: str,
    construct_rpc_backend_options_handler: Callable[..., Any],
    init_backend_handler: Callable[..., Any],
) -> BackendType:
    """Registers a backend.

    Args:
        backend_name: its name.
        construct_rpc_backend_options_handler: called with (rpc_timeout, init_method, **kwargs); gives its options.
        init_backend_handler: called with store, name, rank, world_size and rpc_backend_options as keywords; gives an
            agent that has joined.

    Returns:
        The new member of `BackendType`.

    Raises:
        RuntimeError: the name is taken.
    """
    if backend_registered(backend_name):
        raise RuntimeError(f"RPC backend {backend_name}: already registered")
    value = BackendValue(construct_rpc_backend_options_handler, init_backend_handler)
    member = BackendType(backend_name, value)
    _Registry._backends[backend_name] = member
    return member


def construct_rpc_backend_options(
    backend: BackendType,
    rpc_timeout: float = constants.DEFAULT_RPC_TIMEOUT_SEC,
    init_method: str = constants.DEFAULT_INIT_METHOD,
    **kwargs: Any,
) -> Any:
    """Options of a backend; `kwargs` are what its own handler takes."""
    return backend.value.construct_rpc_backend_options_handler(rpc_timeout, init_method, **kwargs)


def init_backend(backend: BackendType, *args: Any, **kwargs: Any) -> Any:
    """An agent of a backend that has joined its group; arguments are those of the backend's own handler."""
    return backend.value.init_backend_handler(*args, **kwargs)


def check_store(store: Any) -> None:
    """Raises TypeError unless `store` is one."""
    if not isinstance(store, _hooks.store_types()):
        raise TypeError(f"`store` must be a c10d::Store. {store}")


def check_options(options: Any, kind: type) -> None:
    """Raises TypeError unless `options` are of that kind."""
    if not isinstance(options, kind):
        raise TypeError(f"`rpc_backend_options` must be a `{kind.__name__}`. {options}")


def _tensorpipe_construct_rpc_backend_options_handler(
    rpc_timeout: float,
    init_method: str,
    num_worker_threads: int = constants.DEFAULT_NUM_WORKER_THREADS,
    _transports: Optional[Sequence[str]] = None,
    _channels: Optional[Sequence[str]] = None,
    **kwargs: Any,
) -> TensorPipeRpcBackendOptions:
    """Options of TENSORPIPE. Arguments that it does not know are ignored."""
    return TensorPipeRpcBackendOptions(
        rpc_timeout=rpc_timeout,
        init_method=init_method,
        num_worker_threads=num_worker_threads,
        _transports=_transports,
        _channels=_channels,
    )


def _tensorpipe_init_backend_handler(
    store: Any, name: str, rank: int, world_size: Optional[int], rpc_backend_options: TensorPipeRpcBackendOptions
) -> TensorPipeAgent:
    """An agent that has joined. In a static group all members have then made and served a call.

    Raises:
        TypeError: the store or the options are none.
        ValueError: the members' device maps do not fit together.
        RuntimeError: the group did not come together. There is no current agent then.
    """
    check_store(store)
    check_options(rpc_backend_options, TensorPipeRpcBackendOptions)
    agent = TensorPipeAgent(store, name, rank, world_size, rpc_backend_options)
    api._init_rpc_states(agent)
    if agent.is_static_group:
        try:
            api._all_gather(None, timeout=rpc_backend_options.rpc_timeout)
            # Nobody leaves while another one still waits for the answer to its part in the gather.
            agent._native.barrier(agent._python_names, rpc_backend_options.rpc_timeout)
        except BaseException:
            api.shutdown(graceful=False)
            raise
    return agent


register_backend(
    "TENSORPIPE", _tensorpipe_construct_rpc_backend_options_handler, _tensorpipe_init_backend_handler
)
