# SPDX-License-Identifier: Apache-2.0
"""Calls in torch's autograd profiler: one event for each, from where it is made to where its result has come."""

from typing import Any

import torch
from torch._C._profiler import ActiveProfilerType
from torch.autograd import profiler

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
