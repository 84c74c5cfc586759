# SPDX-License-Identifier: Apache-2.0
"""Options of a backend: what `init_rpc` takes as `rpc_backend_options`."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from . import constants
from .devices import DeviceLike, to_device_map, to_devices


class RpcBackendOptions:
    """Options of any backend. May be subclassed; fields may be changed until `init_rpc` is called.

    Args:
        rpc_timeout: how long a call may take by default, in seconds; 0 for any time.
        init_method: a URL that says where members meet: `env://`, `tcp://host:port` or `file:///path`.

    Raises:
        TypeError: an argument has the wrong type (a `timedelta` is no timeout).
        RuntimeError: the timeout is negative.
    """

    def __init__(
        self,
        rpc_timeout: float = constants.DEFAULT_RPC_TIMEOUT_SEC,
        init_method: str = constants.DEFAULT_INIT_METHOD,
    ) -> None:
        if not _is_number(rpc_timeout) or not isinstance(init_method, str):
            raise TypeError(
                f"{type(self).__name__}(): incompatible constructor arguments: rpc_timeout is a number of seconds and "
                f"init_method a str, not {rpc_timeout!r} and {init_method!r}"
            )
        if rpc_timeout < 0:
            raise RuntimeError(f"RPC Timeout must be non-negative, got {rpc_timeout}")
        self.rpc_timeout = rpc_timeout
        self.init_method = init_method

    @property
    def rpc_timeout(self) -> float:
        """How long a call may take by default, in seconds; 0 for any time."""
        return self._rpc_timeout

    @rpc_timeout.setter
    def rpc_timeout(self, seconds: float) -> None:
        if not _is_number(seconds):
            raise TypeError(f"rpc_timeout: incompatible function arguments: a number of seconds, not {seconds!r}")
        self._rpc_timeout = float(seconds)

    @property
    def init_method(self) -> str:
        """Where members meet: a URL."""
        return self._init_method

    @init_method.setter
    def init_method(self, url: str) -> None:
        if not isinstance(url, str):
            raise TypeError(f"init_method: incompatible function arguments: a str, not {url!r}")
        self._init_method = url


class _TensorPipeRpcBackendOptionsBase(RpcBackendOptions):
    """What the options of TENSORPIPE and of FAULTY_TENSORPIPE share. Device maps and devices are taken as they are.

    Raises:
        RuntimeError: there are no worker threads.
    """

    def __init__(
        self,
        num_worker_threads: int,
        _transports: Optional[Sequence[str]] = None,
        _channels: Optional[Sequence[str]] = None,
        rpc_timeout: float = constants.DEFAULT_RPC_TIMEOUT_SEC,
        init_method: str = constants.DEFAULT_INIT_METHOD,
        device_maps: Optional[Mapping[str, Mapping[Any, Any]]] = None,
        devices: Optional[Sequence[Any]] = None,
    ) -> None:
        super().__init__(rpc_timeout, init_method)
        for name, value in (("_transports", _transports), ("_channels", _channels)):
            if value is not None and not (
                isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
            ):
                raise TypeError(f"incompatible constructor arguments: {name} is a list of str or None, not {value!r}")
        if num_worker_threads <= 0:
            raise RuntimeError(f"num_worker_threads must be positive, got {num_worker_threads}")
        self.num_worker_threads = num_worker_threads
        self._transports = _transports
        self._channels = _channels
        self.device_maps = {worker: dict(pairs) for worker, pairs in (device_maps or {}).items()}
        self.devices = list(devices or [])

    def _set_device_map(self, to: str, device_map: Mapping[Any, Any]) -> None:
        """Adds to the map towards `to`, without any check."""
        self.device_maps.setdefault(to, {}).update(device_map)

    def _copy(self) -> "_TensorPipeRpcBackendOptionsBase":
        """A copy that later changes of these options do not reach."""
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.device_maps = {worker: dict(pairs) for worker, pairs in self.device_maps.items()}
        copy.devices = list(self.devices)
        return copy


class TensorPipeRpcBackendOptions(_TensorPipeRpcBackendOptionsBase):
    """Options of the backend TENSORPIPE.

    Args:
        num_worker_threads: how many functions run at once.
        rpc_timeout: how long a call may take by default, in seconds; 0 for any time.
        init_method: a URL that says where members meet.
        device_maps: for each worker's name a map from devices here to devices there.
        devices: the accelerators that this worker uses; by default those that device maps name.
        _transports: taken for the sake of programs that name transports, and without effect.
        _channels: likewise.

    Raises:
        TypeError: an argument has the wrong type.
        RuntimeError: the timeout is negative, there are no threads, or a device is none.
        ValueError: a device map is not 1-to-1, or one of the devices is no accelerator.
    """

    def __init__(
        self,
        *,
        num_worker_threads: int = constants.DEFAULT_NUM_WORKER_THREADS,
        rpc_timeout: float = constants.DEFAULT_RPC_TIMEOUT_SEC,
        init_method: str = constants.DEFAULT_INIT_METHOD,
        device_maps: Optional[Mapping[str, Mapping[DeviceLike, DeviceLike]]] = None,
        devices: Optional[Sequence[DeviceLike]] = None,
        _transports: Optional[Sequence[str]] = None,
        _channels: Optional[Sequence[str]] = None,
    ) -> None:
        super().__init__(
            num_worker_threads,
            _transports,
            _channels,
            rpc_timeout,
            init_method,
            {worker: to_device_map(pairs) for worker, pairs in (device_maps or {}).items()},
            to_devices(devices or []),
        )

    def set_device_map(self, to: str, device_map: Mapping[DeviceLike, DeviceLike]) -> None:
        """Adds to the map of devices towards a worker.

        Args:
            to: the worker's name.
            device_map: from devices here to devices there; a pair that is there already changes nothing.

        Raises:
            ValueError: two devices are mapped to one, or a device is mapped to another one already.
        """
        added = to_device_map(device_map)
        known = self.device_maps.get(to, {})
        for source, target in added.items():
            if known.get(source, target) != target:
                raise ValueError(
                    "`set_device_map` only supports 1-to-1 mapping, trying to map "
                    f"{source} to {target} and {known[source]}"
                )
        self._set_device_map(to, added)

    def set_devices(self, devices: Sequence[DeviceLike]) -> None:
        """Says which accelerators this worker uses, in place of those it was told before.

        Raises:
            ValueError: one of them is no accelerator.
        """
        self.devices = to_devices(devices)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
