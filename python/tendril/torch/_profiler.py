# SPDX-License-Identifier: Apache-2.0
"""Calls in torch's autograd profiler: one event for each, from where it is made to where its result has come."""

import threading
from typing import Any

import torch
from torch._C._profiler import ActiveProfilerType
from torch.autograd import profiler, profiler_legacy, profiler_util

from tendril import _C

from . import _futures


def should_profile() -> bool:
    """Whether the calling thread records by the profiler that can have events of calls: `profiler_legacy.profile`."""
    return torch.autograd._profiler_enabled() and torch._C._autograd._profiler_type() == ActiveProfilerType.LEGACY


class _CallRecord(profiler.record_function):
    """A record whose end may be that of a future, failed ones included."""

    def _call_end_callbacks_on_future(self, fut: Any) -> Any:
        """A future that completes as `fut` does, once the event has ended.

        Raises:
            RuntimeError: it has been called before.
        """
        ended = super()._call_end_callbacks_on_future(fut)
        result = _futures.new_future()
        # Torch's future carries only a value: an exception that somebody has set is known to `fut` alone.
        ended.add_done_callback(lambda _: _futures.copy_outcome(fut, result))
        return result


def record_function(key: str) -> Any:
    """A context that records what is called inside it as `key`."""
    return _CallRecord(key)


def set_profiler_node_id(worker_id: int) -> None:
    """Says whose events those of this process are."""
    torch._C._distributed_rpc._set_profiler_node_id(worker_id)


# ---- of all that a process serves ----


class _Range:
    """From one entering of a server profiler to its leaving: what requests have recorded since."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.requests: list[Any] = []


_lock = threading.Lock()
_ranges: list[_Range] = []


def _record_request(function: Any, args: Any, kwargs: Any) -> Any:
    """Runs what a request calls, with this thread's profiler on; its events go to all ranges that are open then."""
    with _lock:
        ranges = list(_ranges)
    if not ranges or torch.autograd._profiler_enabled():
        return function(*args, **kwargs)
    torch.autograd._enable_profiler_legacy(ranges[-1].config)
    try:
        return function(*args, **kwargs)
    finally:
        threads = torch.autograd._disable_profiler_legacy()
        with _lock:
            for each in ranges:
                each.requests.append(threads)


def enable_server_profiler(new_config: Any) -> None:
    """Opens a range, inside those that are open."""
    with _lock:
        _ranges.append(_Range(new_config))
        _C.set_call_wrapper(_record_request)


def disable_server_profiler() -> "list[Any]":
    """Closes the range that was opened last.

    Returns:
        For each request that ended inside it the events of its threads.

    Raises:
        RuntimeError: none is open.
    """
    with _lock:
        if not _ranges:
            raise RuntimeError("the profiler of what this process serves is not on")
        closed = _ranges.pop()
        if not _ranges:
            _C.set_call_wrapper(None)
        return closed.requests


class _server_process_global_profile(profiler_legacy.profile):
    """A context in which everything that this process serves is profiled, each request by itself.

    Made by `rpc.remote` on the worker in question, entered and left through the reference's proxy. Takes what
    `torch.autograd.profiler_legacy.profile` takes. Afterwards its `function_events` are those of all requests, and
    `process_global_function_events` has a list for each of them.
    """

    entered: bool

    def __enter__(self) -> Any:
        if not self.enabled:
            return None
        if self.entered:
            raise RuntimeError("autograd profiler traces are not reentrant")
        self.entered = True
        kind = torch.autograd.ProfilerState.CUDA if self.use_cuda else torch.autograd.ProfilerState.CPU
        enable_server_profiler(
            torch.autograd.ProfilerConfig(
                kind,
                self.record_shapes,
                self.profile_memory,
                False,
                False,
                False,
                torch.profiler._ExperimentalConfig(),
            )
        )
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> Any:
        if not self.enabled:
            return None
        requests = []
        for threads in disable_server_profiler():
            events = profiler_legacy._parse_legacy_records(threads)
            events.sort(key=lambda event: (event.time_range.start, -event.time_range.end))
            requests.append(events)
        self.process_global_function_events = requests
        self.function_events = profiler_util.EventList(
            [event for events in requests for event in events],
            use_cuda=self.use_cuda,
            profile_memory=self.profile_memory,
        )
        self.function_events._build_tree()
        return False
