# SPDX-License-Identifier: Apache-2.0
"""Modules of Tendril under the names of torch's.

`import torch` has imported torch's own modules, and other modules of torch's have taken objects out of them. Here
each of those modules gets its counterpart's place: in sys.modules, as an attribute of its package, and wherever in
torch somebody has kept the module or something of it. Modules that torch has not imported yet are found as aliases
when somebody asks for them.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence
from typing import Any, Optional

PACKAGES = {
    "torch.distributed.rpc": "tendril.rpc",
    "torch.distributed.autograd": "tendril.autograd",
}
"""Torch's packages, and what stands for them."""

_NATIVE = "torch._C._distributed_rpc"


def _counterpart(name: str) -> Optional[str]:
    """The module of Tendril's for a module of torch's; None where torch's stays."""
    for theirs, ours in PACKAGES.items():
        if name == theirs or name.startswith(theirs + "."):
            return ours + name[len(theirs) :]
    return None


class _AliasLoader(importlib.abc.Loader):
    """Gives a module that exists under another name, and leaves it as it is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: Any = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Imports the module."""
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Only takes back what importing under the alias has changed."""
        module.__spec__ = self._spec


class _AliasFinder(importlib.abc.MetaPathFinder):
    """Finds the counterparts of those of torch's modules that nobody has imported yet."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[types.ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        """A spec where there is a counterpart."""
        name = _counterpart(fullname)
        if name is None or importlib.util.find_spec(name) is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, _AliasLoader(name))


def replace_modules() -> "list[types.ModuleType]":
    """Puts Tendril's modules in the places of torch's.

    Returns:
        Torch's modules that were replaced.
    """
    stock = {name: module for name, module in sys.modules.items() if _counterpart(name)}
    for name in stock:
        sys.modules[name] = importlib.import_module(_counterpart(name))  # type: ignore[arg-type]
    for name in PACKAGES:
        package, _, attribute = name.rpartition(".")
        setattr(sys.modules[package], attribute, importlib.import_module(PACKAGES[name]))
    sys.meta_path.insert(0, _AliasFinder())
    _rebind(stock)
    return list(stock.values())


def _rebind(stock: "dict[str, types.ModuleType]") -> None:
    """Has all modules of torch's that have kept something of the replaced ones refer to its counterpart."""
    counterparts: dict[int, Any] = {}
    kept: list[Any] = []  # so that an id stays that of its object
    for name, module in stock.items():
        ours = sys.modules[name]
        counterparts[id(module)] = ours
        for attribute, value in list(vars(module).items()):
            if not isinstance(value, (type, types.FunctionType)) or not hasattr(ours, attribute):
                continue
            if _counterpart(value.__module__) or value.__module__ == _NATIVE:
                counterparts[id(value)] = getattr(ours, attribute)
                kept.append(value)
    replaced = {id(module) for module in stock.values()}
    for name, module in list(sys.modules.items()):
        if not name.startswith("torch.") or name.startswith("torch._C") or id(module) in replaced:
            continue
        if _counterpart(name) or not isinstance(module, types.ModuleType):
            continue
        for attribute, value in list(vars(module).items()):
            if id(value) in counterparts:  # a look at its type could run code of its own
                setattr(module, attribute, counterparts[id(value)])
