# SPDX-License-Identifier: Apache-2.0
"""Contexts of distributed automatic differentiation.

A context is one forward and backward pass that goes over several workers. This build has the contexts themselves;
backward passes, which need torch's engine, are not there yet and say so.
"""

import itertools
import threading
from collections.abc import Sequence
from typing import Any, Optional

__all__ = ["DistAutogradContext", "backward", "context", "get_gradients", "is_available"]

_ID_BITS = 48
_MAX_COUNT = (1 << _ID_BITS) - 1
_MAX_WORKER_ID = (1 << 16) - 1


class DistAutogradContext:
    """One distributed pass, as one worker knows it."""

    def __init__(self, context_id: int) -> None:
        self._id = context_id
        self._workers: set[int] = set()

    def _context_id(self) -> int:
        """The number by which all workers know it."""
        return self._id

    def _send_functions(self) -> dict[int, Any]:
        """What was sent to others, by the numbers of the messages."""
        return {}

    def _recv_functions(self) -> dict[int, Any]:
        """What came from others, by the numbers of the messages."""
        return {}

    def _known_worker_ids(self) -> set[int]:
        """The workers that it has reached from here."""
        return set(self._workers)


class _Container:
    """All contexts of this process. Numbers of contexts are never used again, whatever the group."""

    def __init__(self) -> None:
        self.worker_id: Optional[int] = None
        self.lock = threading.Lock()
        self.contexts: dict[int, DistAutogradContext] = {}
        self.counter = itertools.count()
        self.current = threading.local()

    def my_id(self) -> int:
        if self.worker_id is None:
            raise RuntimeError(
                "Need to initialize distributed autograd using torch.distributed.autograd.init(): rpc.init_rpc does it"
            )
        return self.worker_id

    def find(self, context_id: int) -> DistAutogradContext:
        self.my_id()
        with self.lock:
            found = self.contexts.get(context_id)
        if found is None:
            raise RuntimeError(f"Could not find autograd context with id: {context_id}")
        return found


_container = _Container()


def is_available() -> bool:
    """Whether there are contexts: always."""
    return True


def _init(worker_id: int) -> None:
    """Says which worker this process is. Once, or again with the same id.

    Raises:
        RuntimeError: it was another one before, or the id is out of range.
    """
    if not 0 <= worker_id <= _MAX_WORKER_ID:
        raise RuntimeError("worker_id needs to be in the range [0, 65535]")
    with _container.lock:
        if _container.worker_id not in (None, worker_id):
            raise RuntimeError(
                f"Container is already initialized with worker_id: {_container.worker_id}, cannot initialize with "
                f"different worker_id: {worker_id}"
            )
        _container.worker_id = worker_id


def _new_context() -> DistAutogradContext:
    """A new context, which is the calling thread's from now on.

    Raises:
        RuntimeError: the thread has one.
    """
    worker_id = _container.my_id()
    if getattr(_container.current, "context", None) is not None:
        raise RuntimeError("Already have an autograd context id for this thread")
    made = DistAutogradContext((worker_id << _ID_BITS) | (next(_container.counter) & _MAX_COUNT))
    with _container.lock:
        _container.contexts[made._context_id()] = made
    _container.current.context = made
    return made


def _release_context(context_id: int) -> None:
    """Ends a context.

    Raises:
        RuntimeError: there is none with that id.
    """
    _container.find(context_id)
    with _container.lock:
        _container.contexts.pop(context_id, None)
    current = getattr(_container.current, "context", None)
    if current is not None and current._context_id() == context_id:
        _container.current.context = None


def _get_max_id() -> int:
    """The last id that a context of this worker could have."""
    return (_container.my_id() << _ID_BITS) + _MAX_COUNT


def _is_valid_context(context_id: int) -> None:
    """Raises RuntimeError where there is no context with that id."""
    _container.find(context_id)


def _retrieve_context(context_id: int) -> DistAutogradContext:
    """The context with that id.

    Raises:
        RuntimeError: there is none.
    """
    return _container.find(context_id)


def _in_context() -> bool:
    """Whether the calling thread has a context."""
    return getattr(_container.current, "context", None) is not None


def _current_context() -> DistAutogradContext:
    """The calling thread's context.

    Raises:
        RuntimeError: it has none.
    """
    _container.my_id()
    current = getattr(_container.current, "context", None)
    if current is None:
        raise RuntimeError(
            "Current thread doesn't have a valid autograd context. Run this inside `with autograd.context():`"
        )
    return current


def _get_debug_info() -> dict[str, int]:
    """How many passes and contexts there are now."""
    _container.my_id()
    with _container.lock:
        return {"num_current_backward_passes": 0, "num_autograd_contexts": len(_container.contexts)}


def backward(context_id: int, roots: Sequence[Any], retain_graph: bool = False) -> None:
    """Runs a backward pass over all workers that the context has reached.

    Args:
        context_id: of the context in which the roots were computed.
        roots: tensors of one element that require gradients.
        retain_graph: keep what is needed for another pass.

    Raises:
        RuntimeError: there is no such context; NotImplementedError in any other case.
    """
    _container.find(context_id)
    raise NotImplementedError("distributed backward passes are not implemented yet; gradients stay on each worker")


def get_gradients(context_id: int) -> dict[Any, Any]:
    """The gradients that backward passes of a context have left on this worker, by the tensors they belong to.

    Raises:
        RuntimeError: there is no such context.
    """
    _container.find(context_id)
    return {}


class context:
    """A context in which calls belong to one distributed pass; gives its id.

    >>> with autograd.context() as context_id:
    ...     loss = rpc.rpc_sync("worker1", torch.add, args=(a, b)).sum()

    Raises:
        RuntimeError: on entering, where the thread has one already.
    """

    def __enter__(self) -> int:
        self.autograd_context = _new_context()
        return self.autograd_context._context_id()

    def __exit__(self, *exception: Any) -> None:
        _release_context(self.autograd_context._context_id())
