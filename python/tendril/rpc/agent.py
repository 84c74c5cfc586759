# SPDX-License-Identifier: Apache-2.0
"""Agents: what a process is in its group. `init_rpc` makes one; programs use it through the package's functions."""

import abc
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from tendril import _C

from . import _hooks, operations
from . import devices as rpc_devices
from .options import _TensorPipeRpcBackendOptionsBase

logger = logging.getLogger(__name__)

_LEAK = "Leaking RRef"
_NOT_LET_GO = "references have not been let go of"
_RREF_KEYS = ("num_owner_rrefs", "num_forks", "num_pending_users", "num_pending_futures")
_POLL_SECONDS = 0.002


class RpcAgent(abc.ABC):
    """A member of a group, as the package drives it."""

    @abc.abstractmethod
    def join(self, shutdown: bool = False, timeout: float = 0) -> None:
        """Waits until no member has calls under way.

        Args:
            shutdown: then leave the group.
            timeout: in seconds; 0 for as long as it takes.
        """

    @abc.abstractmethod
    def sync(self) -> None:
        """Waits until messages that were sent have been processed."""

    @abc.abstractmethod
    def shutdown(self) -> None:
        """Leaves at once. Calls under way fail."""

    @abc.abstractmethod
    def get_worker_info(self, worker: Union[None, str, int] = None) -> _C.WorkerInfo:
        """A member by its name or id; None for this one.

        Raises:
            RuntimeError: there is no such member.
        """

    @abc.abstractmethod
    def get_worker_infos(self) -> list[_C.WorkerInfo]:
        """All members."""

    @abc.abstractmethod
    def _get_device_map(self, worker_info: _C.WorkerInfo) -> dict[Any, Any]:
        """The map from devices here to devices of another member; empty where there is none."""

    @abc.abstractmethod
    def get_debug_info(self) -> dict[str, str]:
        """What there is to know of it: counters by their names."""

    def get_metrics(self) -> dict[str, str]:
        """The same counters."""
        return self.get_debug_info()


class TensorPipeAgent(RpcAgent):
    """The agent of the backend TENSORPIPE: a `_C.Agent` that joins when it is made the current one.

    Args:
        store: through which the group meets.
        name: this worker's name; letters, digits, `-`, `_` and `:`, up to 127 of them.
        rank: its id.
        world_size: how many members there are; None or 0 where they come and go.
        rpc_backend_options: copied.
        reverse_device_maps: not needed: members tell each other their maps in joining.
        devices: the accelerators it uses, in place of those in the options.

    Raises:
        RuntimeError: the name or an option is not valid.
    """

    _backend = "TENDRIL"

    def __init__(
        self,
        store: Any,
        name: str,
        rank: int,
        world_size: Optional[int],
        rpc_backend_options: _TensorPipeRpcBackendOptionsBase,
        reverse_device_maps: Optional[Mapping[str, Mapping[Any, Any]]] = None,
        devices: Optional[Sequence[Any]] = None,
    ) -> None:
        self._me = _C.WorkerInfo(name, rank)
        self._store = store
        self._world_size = world_size or None
        self._options = rpc_backend_options._copy()
        self._native = _C.Agent(name, **self._native_options())
        operations.serve_registered(self._native)
        _hooks.prepare_agent(self._native)
        self.lost_workers: dict[str, str] = {}
        self._python_names: Optional[set[str]] = None  # of a static group with others; else None
        self._native.on_member(self._note_member)
        self._joined = False
        self._left = False
        self._let_go = False
        self._leaks = ""
        self._set_devices(list(devices or self._options.devices))

    def _native_options(self) -> dict[str, Union[str, int]]:
        """The options of the extension's agent."""
        return {
            "backend": self._backend,
            "rpc_timeout_ms": int(self._options.rpc_timeout * 1000 + 1e-6),
            "threads": self._options.num_worker_threads,
            "device_count": rpc_devices.device_count(),
        }

    def _set_devices(self, devices: Sequence[Any]) -> None:
        """Hands device maps and devices to the extension's agent; whether they make sense is seen in joining."""
        to_pair = rpc_devices.to_pair
        for worker, pairs in self._options.device_maps.items():
            for here, there in pairs.items():
                self._native.set_device_map(worker, {to_pair(here): to_pair(there)})
        if devices:
            self._native.set_devices([to_pair(device) for device in devices])

    def _start(self) -> None:
        """Joins the group; returns when all members of a static one have come.

        Raises:
            ValueError: the members' device maps do not fit together.
            RuntimeError: they cannot come together for another reason.
        """
        written_in_python = _C.PrefixStore("python", self._store)
        if self.is_static_group:
            written_in_python.set(self._me.name, "yes")
        try:
            self._native.join(self._store, self._me.id, self._world_size)
        except RuntimeError as error:
            if getattr(error, "status", "") == "TDR_EINVAL" and "Node " in str(error) and "device" in str(error):
                raise ValueError(str(error)) from None
            raise
        self._joined = True
        if self.is_static_group:
            names = [info.name for info in self.get_worker_infos()]
            # Stores of torch's have no check(). This asks without changing anything, since nobody sets "no".
            known = {name for name in names if written_in_python.compare_set(name, "no", "no") == b"yes"}
            if len(known) < len(names):
                self._python_names = known

    # ---- leaving ----

    def join(self, shutdown: bool = False, timeout: float = 0) -> None:
        """Waits until no member has calls under way; then, with `shutdown`, leaves together with the others.

        In a group whose members come and go, waits only for this member's own calls.

        Args:
            shutdown: leave the group.
            timeout: in seconds; 0 for as long as it takes.

        Raises:
            RuntimeError: calls were under way when the time was over. With `shutdown` it has left all the same.
        """
        if not shutdown:
            self._await_idle(timeout)
            return
        if not self._let_go:
            # The extension's agent lets go of references by itself: then nobody would see what has leaked.
            if not self._has_foreign_members:
                if self.is_static_group:
                    self._await_idle(timeout)
                self._leaks = self._native.rref_leaks()
        self._left = True
        try:
            self._native.shutdown(graceful=True, timeout=float(timeout))
        except RuntimeError as error:
            if getattr(error, "status", "") == "TDR_ESTATE":
                self._left = False  # called from a served function, which it would wait for
            if _NOT_LET_GO not in str(error):
                raise
            if _LEAK in str(error):
                self._leaks = self._leaks or str(error)

    def _await_idle(self, timeout: float) -> None:
        """Rounds in which each Python member waits for its own calls, until nobody had any since the round before."""
        deadline = time.monotonic() + timeout if timeout else None
        before = None
        while True:
            issued = self._await_own_calls(deadline)
            left = max(deadline - time.monotonic(), 0.001) if deadline is not None else 0.0
            now = {self._me.name: issued}
            if self.is_static_group:
                now = self._native.all_gather(issued, self._python_names, left)
            if now == before:
                return
            before = now

    def _await_own_calls(self, deadline: Optional[float]) -> int:
        """Waits until no call of this member is under way; returns how many it has made."""
        while True:
            info = self._native.debug_info()
            if not info["agent.client_active_calls"] and not info.get("rref.num_pending_users"):
                return info["agent.calls_issued"]
            if deadline is not None and time.monotonic() >= deadline:
                raise RuntimeError(
                    f"join of '{self._me.name}': {info['agent.client_active_calls']} calls are still under way after "
                    "the time it was given"
                )
            time.sleep(_POLL_SECONDS)

    def sync(self) -> None:
        """Does nothing: a call is on its way when the function that made it returns."""

    def shutdown(self) -> None:
        """Leaves at once, unless it has left. Calls under way fail."""
        if not self._left:
            self._native.shutdown(graceful=False)
            self._left = True
        loops = sys.modules.get("tendril._asyncio")  # only loaded where coroutines are called or awaited
        if loops is not None:
            loops.stop(self._me.name)

    # ---- members ----

    def get_worker_info(self, worker: Union[None, str, int] = None) -> _C.WorkerInfo:
        """A member by its name or id; None for this one.

        Raises:
            RuntimeError: there is no such member.
            TypeError: it is neither a name nor an id.
        """
        if worker is None:
            return self._me
        if not isinstance(worker, (str, int)) or (isinstance(worker, int) and not -(2**15) <= worker < 2**15):
            raise TypeError(
                "get_worker_info(): incompatible function arguments: a worker's name, or its id of 16 bits, not "
                f"{worker!r}"
            )
        if isinstance(worker, str):
            return self._native.worker_info(worker)
        if worker < 0:
            raise RuntimeError(f"name:{self._me.name},rank:{self._me.id} could not find destination id {int(worker)}")
        return self._native.worker_info(int(worker))

    def get_worker_infos(self) -> list[_C.WorkerInfo]:
        """All members, in the order of their ids."""
        return self._native.worker_infos()

    def _note_member(self, worker_info: _C.WorkerInfo, event: str, reason: str) -> None:
        """Keeps in `lost_workers` who has left or died, by name, and why; called by the extension."""
        if event == "joined":
            self.lost_workers.pop(worker_info.name, None)
        else:
            self.lost_workers[worker_info.name] = reason or event

    def _update_group_membership(
        self,
        worker_info: _C.WorkerInfo,
        devices: Sequence[Any],
        reverse_device_map: Mapping[str, Mapping[Any, Any]],
        is_join: bool,
    ) -> None:
        """Waits until this member has heard that another one has come, or gone: members tell each other.

        Raises:
            RuntimeError: it has not heard of it in the time that a call may take.
        """
        limit = self._native.rpc_timeout
        deadline = time.monotonic() + limit if limit else None
        while (worker_info in self.get_worker_infos()) != is_join:
            if deadline is not None and time.monotonic() >= deadline:
                raise RuntimeError(
                    f"'{self._me.name}' has not heard that {worker_info} has {'joined' if is_join else 'left'} after "
                    f"{limit:.2f} seconds"
                )
            time.sleep(_POLL_SECONDS)

    @property
    def is_static_group(self) -> bool:
        """Whether the members are the same from the start to the end."""
        return self._world_size is not None

    @property
    def _has_foreign_members(self) -> bool:
        """Whether there are members of a static group that are not written in Python."""
        return self._python_names is not None

    @property
    def store(self) -> Any:
        """The store through which the group meets."""
        return self._store

    def _get_backend_options(self) -> _TensorPipeRpcBackendOptionsBase:
        """This agent's own copy of its options."""
        return self._options

    def _get_device_map(self, worker_info: _C.WorkerInfo) -> dict[Any, Any]:
        """The map from devices here to devices of another member; empty where there is none."""
        from_pair = rpc_devices.from_pair
        pairs = self._native.device_map(worker_info.name)
        return {from_pair(here): from_pair(there) for here, there in pairs.items()}

    def _python_workers(self) -> set[str]:
        """The names of the members that have this package: in a static group some may be in another language."""
        return self._python_names or {info.name for info in self.get_worker_infos()}

    # ---- insight ----

    def get_debug_info(self) -> dict[str, str]:
        """Counters of the agent by their names, which begin with `agent.`."""
        info = {key: value for key, value in self._native.debug_info().items() if key.startswith("agent.")}
        in_threads = info["agent.thread_pool_size"] - info["agent.num_idle_threads"]
        info["agent.server_active_async_calls"] = max(info["agent.server_active_calls"] - in_threads, 0)
        return {key: str(value) for key, value in info.items()}

    def _rref_debug_info(self) -> dict[str, str]:
        """Counters of references by their names."""
        info = self._native.debug_info()
        return {key: str(info[f"rref.{key}"]) for key in _RREF_KEYS}

    # ---- references ----

    def _let_go_of_rrefs(self, timeout: float) -> None:
        """Lets go of all references, as `_delete_all_user_and_unforked_owner_rrefs` says."""
        self._let_go = True
        try:
            self._native.delete_all_rrefs(timeout)
        except RuntimeError as error:
            logger.warning("Timed out waiting for pending RRefs to be confirmed and deleted: %s", error)

    def _check_rref_leaks(self, ignore: bool) -> None:
        """Warns of references that others hold, or raises, as `_destroy_rref_context` says."""
        leaks = self._leaks if self._left or not self._joined else self._native.rref_leaks()
        self._leaks = ""
        if not leaks:
            return
        logger.warning(
            "Detected RRef Leaks during shutdown. Other workers still hold references to values of this one; they are "
            "dropped now. That does no harm where the program is at its end. Otherwise, have every worker delete its "
            "RRefs before it calls shutdown():\n%s",
            leaks,
        )
        if not ignore:
            raise RuntimeError(leaks)
