# SPDX-License-Identifier: Apache-2.0
"""Backends: what makes agents, by name."""

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Callable, Optional

from . import _hooks, _state, api, constants
from . import devices as rpc_devices
from ._utils import _group_membership_management, _update_group_membership  # noqa: F401
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


# ---- pieces for other backends: the agent of this one exchanges and checks device maps in joining ----


def _init_process_group(store: Any, rank: int, world_size: int) -> Any:
    """A process group of torch's; -1 is any rank, or any size.

    Raises:
        RuntimeError: the group has another rank or size; or torch is not there.
    """
    group = _hooks.process_group(store, rank, world_size, constants.DEFAULT_PROCESS_GROUP_TIMEOUT)
    if rank not in (-1, group.rank()):
        raise RuntimeError(f"rank argument {rank} doesn't match pg rank {group.rank()}")
    if world_size not in (-1, group.size()):
        raise RuntimeError(f"world_size argument {world_size} doesn't match pg size {group.size()}")
    return group


_DeviceMaps = Mapping[str, Mapping[Any, Any]]


def _tensorpipe_validate_devices(devices: Iterable[Any], device_count: int) -> bool:
    """Whether a worker with so many accelerators has all of the devices."""
    return rpc_devices.are_there(devices, device_count)


def _validate_device_maps(
    all_names: Sequence[str],
    all_device_counts: Mapping[str, int],
    all_device_maps: Mapping[str, _DeviceMaps],
    all_devices: Mapping[str, Sequence[Any]],
    is_static_group: bool = True,
) -> None:
    """Checks that the device maps of all workers fit together.

    Raises:
        ValueError: they do not.
    """
    rpc_devices.check_maps(all_names, all_device_counts, all_device_maps, all_devices, is_static_group)


def _create_reverse_mapping(
    my_name: str, all_names: Sequence[str], all_device_maps: Mapping[str, _DeviceMaps]
) -> dict[str, dict[Any, Any]]:
    """For each worker with a map towards this one: from devices here to devices there."""
    return rpc_devices.reverse_maps(my_name, all_names, all_device_maps)


def _create_device_list(
    my_devices: Sequence[Any], my_device_maps: _DeviceMaps, reverse_device_maps: _DeviceMaps
) -> list[Any]:
    """The accelerators that a worker uses: those that it says, else those here that maps name."""
    return rpc_devices.used_devices(my_devices, my_device_maps, reverse_device_maps)


def _tensorpipe_exchange_and_check_all_device_maps(
    my_name: str, my_device_count: int, my_device_maps: _DeviceMaps, my_devices: Sequence[Any], group: Any
) -> tuple[dict[str, dict[Any, Any]], list[Any]]:
    """Tells the members of a process group of this worker's devices, and checks all of them.

    Returns:
        The reverse device maps, and the accelerators that this worker uses.

    Raises:
        ValueError: device maps do not fit together.
    """
    gathered = _hooks.gather_in_group(group, (my_name, my_device_count, my_device_maps, my_devices))
    all_names = [name for name, _, _, _ in gathered]
    all_device_maps = {name: maps for name, _, maps, _ in gathered}
    _validate_device_maps(
        all_names,
        {name: count for name, count, _, _ in gathered},
        all_device_maps,
        {name: listed for name, _, _, listed in gathered},
    )
    reverse = _create_reverse_mapping(my_name, all_names, all_device_maps)
    return reverse, _create_device_list(my_devices, my_device_maps, reverse)


def _device_infos_of(agent: TensorPipeAgent) -> tuple[int, dict[str, dict[Any, Any]], list[Any]]:
    options = agent._get_backend_options()
    return rpc_devices.device_count(), options.device_maps, options.devices


def _get_device_infos() -> tuple[int, dict[str, dict[Any, Any]], list[Any]]:
    """How many accelerators this worker sees, its device maps, and the accelerators that it says it uses."""
    return _device_infos_of(_state._get_current_rpc_agent())


def _set_devices_and_reverse_device_map(agent: TensorPipeAgent) -> None:
    """Asks all members for their device maps, checks them, and tells the members that this one is there.

    Raises:
        ValueError: device maps do not fit together.
        RuntimeError: a member has not answered, or has not heard of this one.
    """
    me = agent.get_worker_info()
    all_names = sorted(agent._python_workers())
    infos = {
        name: _device_infos_of(agent) if name == me.name else api.rpc_sync(name, _get_device_infos)
        for name in all_names
    }
    all_device_maps = {name: maps for name, (_, maps, _) in infos.items()}
    _validate_device_maps(
        all_names,
        {name: count for name, (count, _, _) in infos.items()},
        all_device_maps,
        {name: listed for name, (_, _, listed) in infos.items()},
        is_static_group=False,
    )
    reverse = _create_reverse_mapping(me.name, all_names, all_device_maps)
    for name, (_, maps, listed) in infos.items():
        used = _create_device_list(listed, maps, _create_reverse_mapping(name, all_names, all_device_maps))
        api.rpc_sync(name, _update_group_membership, args=(me, used, reverse, True))


register_backend(
    "TENSORPIPE", _tensorpipe_construct_rpc_backend_options_handler, _tensorpipe_init_backend_handler
)
