# SPDX-License-Identifier: Apache-2.0
"""What `tendril.torch` changes in this package, in one place.

Each function here says what happens without torch. `install` puts others in their places; everyone calls them as
attributes of this module, so that an installed one is seen at once.
"""

import contextlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Callable, Optional

from tendril import futures

from .operations import Operation


def target_of(func: Callable[..., Any]) -> Any:
    """What is called for `func`: the name of a function or operator in C, or `func` itself."""
    return str(func) if type(func) is Operation else func


def profiled_name(target: str) -> str:
    """The name under which a profiler records calls of a function or operator in C."""
    return target


def check_call(target: Any, args: Any, kwargs: Any) -> None:
    """Raises what is wrong with the arguments of a call, where that can be seen before it is made."""


def prepare_agent(native: Any) -> None:
    """Tells the extension's agent, before it joins, what it is to serve besides Python functions and those in C."""


def should_profile() -> bool:
    """Whether the calling thread's calls are to be recorded by a profiler."""
    return False


def record_function(key: str) -> "contextlib.AbstractContextManager[Any]":
    """A context that records what runs inside it as `key`; only used where `should_profile` is true.

    What it yields has a method `_call_end_callbacks_on_future`, which gives a future that completes when the given one
    has and the recording has ended.
    """
    return contextlib.nullcontext()


_profiling_key = threading.local()


def set_profiling_key(key: str) -> None:
    """Tells the remote half of the profiler under which name the events of this thread's next request are to come back.

    Raises:
        RuntimeError: that has been said already, and no request has been recorded since.
    """
    if hasattr(_profiling_key, "text"):
        set_before = _profiling_key.text
        raise RuntimeError(
            f"the profiling key {key!r} cannot be set: {set_before!r} is, and no request has been recorded since"
        )
    _profiling_key.text = key


def take_profiling_key() -> None:
    """Says that a request is made that is recorded: the key is its."""
    _profiling_key.__dict__.clear()


def set_profiler_node_id(worker_id: int) -> None:
    """Tells the profiler which worker its events come from."""


def new_future() -> Any:
    """An empty future of the kind that calls return."""
    return futures.Future()


def wait_all(pending: list[Any]) -> list[Any]:
    """The values of all futures, or the first error."""
    return futures.wait_all(pending)


def type_is_opaque(kind: type) -> bool:
    """Whether methods of instances of `kind` cannot be looked up in `kind`, as with scripted modules."""
    return False


def check_referent(value: Any, type_hint: Any) -> None:
    """Raises RuntimeError where a reference to `value` cannot be made without a type hint, or with one."""
    if type_hint is not None:
        raise RuntimeError("type_hint should only be specified when the RRef being created contains a ScriptModule.")


def store_types() -> tuple[type, ...]:
    """The classes of stores through which a group may meet."""
    from tendril.store import Store

    return (Store,)


def rendezvous(url: str, rank: int, world_size: int) -> "Iterator[tuple[Any, int, int]]":
    """Meets the members of a static group: gives (store, rank, world_size) once."""
    from tendril import rendezvous as meeting

    return meeting.rendezvous(url, rank=rank, world_size=world_size)


def create_store(options: Any, rank: int) -> Any:
    """The store through which the members of a dynamic group meet."""
    from tendril import rendezvous as meeting

    return meeting._create_store_from_options(options, rank)


def prefix_store(prefix: str, store: Any) -> Any:
    """A view of `store` in which all keys begin with `prefix`."""
    from tendril.store import PrefixStore

    return PrefixStore(prefix, store)


def process_group(store: Any, rank: int, world_size: int, timeout: timedelta) -> Any:
    """A process group of torch's."""
    raise RuntimeError("process groups are torch's: call tendril.torch.install() first")


def gather_in_group(group: Any, mine: Any) -> list[Any]:
    """What all members of a process group have called this with, in the order of their ranks."""
    raise RuntimeError("process groups are torch's: call tendril.torch.install() first")


def backward(rref: Any, context_id: int, retain_graph: bool) -> None:
    """Runs a backward pass from the tensor that `rref` refers to."""
    raise RuntimeError("RRef should contain a tensor for .backward(); tensors need torch: import tendril.torch first")


_DEFAULTS = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__module__", "") == __name__
}


def install(**functions: Optional[Callable[..., Any]]) -> None:
    """Puts functions in the places of those above that have their names; None puts the original back.

    Raises:
        TypeError: there is no hook of that name.
    """
    for name, function in functions.items():
        if name not in _DEFAULTS:
            raise TypeError(f"there is no hook {name!r}; there are {', '.join(sorted(_DEFAULTS))}")
        globals()[name] = function or _DEFAULTS[name]
