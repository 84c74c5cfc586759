# SPDX-License-Identifier: Apache-2.0
"""Functions and operators in C by their names, as targets of calls.

    >>> rpc.rpc_sync("server", rpc.ops.ps.push, args=("weights", gradient))

calls the function that the worker "server" has registered as `ps::push`. The name does not have to be known here.
"""

from typing import Any


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

    def __repr__(self) -> str:
        return "rpc.ops"
