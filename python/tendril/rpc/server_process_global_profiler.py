# SPDX-License-Identifier: Apache-2.0
"""Profiling of what a whole process serves. Profilers are torch's: `tendril.torch` puts its own in these places."""

from typing import Any

from . import _hooks

__all__: list[str] = []

_NEEDS_TORCH = "profiling what a process serves needs torch's profiler: import tendril.torch first"


class RemoteProfilerManager:
    """The name under which the events of the next request come back."""

    @staticmethod
    def set_current_profiling_key(key: str) -> None:
        """Sets it for the calling thread.

        Raises:
            RuntimeError: it is set, and no request has been recorded since.
        """
        _hooks.set_profiling_key(key)


def _set_profiler_node_id(worker_id: int) -> None:
    """Says which worker this process's events come from; no effect where nothing is profiled."""
    _hooks.set_profiler_node_id(worker_id)


def _enable_server_process_global_profiler(new_config: Any) -> None:
    """Begins to profile what this process serves.

    Raises:
        RuntimeError: there is no profiler.
    """
    raise RuntimeError(_NEEDS_TORCH)


def _disable_server_process_global_profiler() -> list[Any]:
    """Ends it, and gives the events of each request.

    Raises:
        RuntimeError: there is no profiler.
    """
    raise RuntimeError(_NEEDS_TORCH)


class _server_process_global_profile:
    """A context in which everything that this process serves is profiled, whichever thread serves it.

    Args:
        enabled: whether it is profiled at all.

    Raises:
        RuntimeError: on entering, where it is enabled and there is no profiler.
    """

    def __init__(self, enabled: bool = True, **config: Any) -> None:
        self.enabled = enabled
        self.config = config

    def __enter__(self) -> "_server_process_global_profile":
        if self.enabled:
            _enable_server_process_global_profiler(self.config)
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        return None
