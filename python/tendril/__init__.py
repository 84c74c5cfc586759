# SPDX-License-Identifier: Apache-2.0
"""Tendril: remote procedure calls, remote references and groups of processes.

    >>> from tendril import rpc
    >>> rpc.init_rpc("worker0", rank=0, world_size=2)
    >>> rpc.rpc_sync("worker1", max, args=(1, 2))
    2
    >>> rpc.shutdown()

Submodules are imported when they are first asked for, so that `import tendril` alone costs next to nothing:

- `tendril.rpc`: joining a group, calls, remote references;
- `tendril.futures`: results of calls under way;
- `tendril.store`: the small tables through which the members of a group meet;
- `tendril.autograd`: contexts of distributed automatic differentiation;
- `tendril.torch`: Tendril in the place of `torch.distributed.rpc`.

`tendril.Tensor` is a tensor for programs that use neither numpy nor torch.
"""

import importlib

__version__ = "0.1.0"

_SUBMODULES = ("autograd", "futures", "rpc", "store", "torch")

__all__ = ["Tensor", "__version__", *_SUBMODULES]


def __getattr__(name: str) -> object:
    if name == "Tensor":
        return importlib.import_module("tendril._C").Tensor
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
