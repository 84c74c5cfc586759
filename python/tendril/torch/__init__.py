# SPDX-License-Identifier: Apache-2.0
"""Tendril in the place of `torch.distributed.rpc`.

A program that uses `torch.distributed.rpc` runs over Tendril, unchanged, in any of these ways:

- `python -m tendril.torch program.py ARGUMENTS`;
- with `TENDRIL_TORCH=1` in its environment;
- by calling, before it imports anything that uses it,

      import tendril.torch
      tendril.torch.install()

Processes that it starts do the same. Beyond the names of the package, calls then know what is torch's: futures are
`torch.futures.Future`, operators such as `torch.add` and TorchScript functions are called by name and run by torch,
and the autograd profiler sees calls.
"""

from ._install import install, is_installed

__all__ = ["install", "is_installed"]
