# SPDX-License-Identifier: Apache-2.0
"""Functions and operators by names that are no Python's, as targets of calls, and Python functions under such names.

    >>> rpc.rpc_sync("server", rpc.ops.ps.push, args=("weights", gradient))

calls the function that the worker "server" has registered as `ps::push`, in C or in Python. The name does not have to
be known here.
"""

from typing import Any, Callable, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_registered: dict[str, Callable[..., Any]] = {}
"""Python functions by their schemas: each agent that is made serves them."""


class Operation:
    """A function by its full name, such as "ps::push"; `rpc_sync`, `rpc_async` and `remote` take it as a target.

    Called directly, it runs the function on this worker. Its attributes are longer names: `rpc.ops.aten.add` is
    "aten::add", and `str` gives the name.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "Operation":
        if name.startswith("_"):
            raise AttributeError(f"{self!r} has no attribute {name!r}: use Operation('{self._name}::{name}')")
        return Operation(f"{self._name}::{name}")

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *_continuations(f"{self._name}::")]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from . import api

        return api.rpc_sync(api.get_worker_info(), self, args=args, kwargs=kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operation) and self._name == other._name

    def __hash__(self) -> int:
        return hash((Operation, self._name))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Operation, (self._name,))

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<operation {self._name}>"


class Operations:
    """The beginnings of all names: `rpc.ops`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Operation:
        if name.startswith("_"):
            raise AttributeError(f"rpc.ops has no attribute {name!r}: use Operation({name + '::...'!r})")
        return Operation(name)

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), "aten", *_continuations("")]

    def __repr__(self) -> str:
        return "rpc.ops"


def _continuations(prefix: str) -> list[str]:
    """What comes next in the names that are registered here and begin with `prefix`: for completion."""
    names = (schema.partition("(")[0].strip() for schema in _registered)
    return sorted({name[len(prefix) :].partition("::")[0] for name in names if name.startswith(prefix)})


def register(schema: str) -> Callable[[F], F]:
    """Lets others call a Python function by a name and with the types of a schema, as they call functions in C.

    A decorator; calls from C to a function that is not registered go by its place, `python::module:name`.

        >>> @rpc.register("text::count(str text, str word='a') -> int")
        ... def count(text, word):
        ...     return text.count(word)
        >>> rpc.rpc_sync("worker1", rpc.ops.text.count, args=("banana",))
        3

    Use it before `init_rpc`, so that the function is there when others call it. Arguments have been checked against the
    schema when it runs, and defaults put in; tensors are torch's or numpy's where the program has imported one of them.

    Args:
        schema: `name::name(type argument, type argument=default, ...) -> type`, see docs/api/function.md.

    Raises:
        RuntimeError: from `init_rpc`: the schema makes no sense, or the name is taken.
    """

    def keep(function: F) -> F:
        _registered[schema] = function
        return function

    return keep


def serve_registered(native: Any) -> None:
    """Has the extension's agent, which has not joined yet, serve what is registered."""
    for schema, function in _registered.items():
        native.register(schema, function)
