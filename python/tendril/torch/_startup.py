# SPDX-License-Identifier: Apache-2.0
"""What a process does at its start where TENDRIL_TORCH is 1: has Tendril installed as soon as torch has been imported.

Called from tendril-torch.pth where Tendril is installed, and from _site/sitecustomize.py for processes that
`tendril.torch.install` has prepared. Imports nothing of torch's, and little else: it runs in each Python process.
"""

import importlib.abc
import importlib.util
import os
import sys
from typing import Any, Optional


class _Installer(importlib.abc.Loader):
    """Torch's own loader, which installs Tendril at its end."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: Any) -> Any:
        """As torch's loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """Runs torch's module, then installs."""
        self._loader.exec_module(module)
        module.__spec__.loader = module.__loader__ = self._loader
        from . import install

        install()


class _TorchFinder(importlib.abc.MetaPathFinder):
    """Finds torch, once, as the other finders do."""

    def find_spec(self, fullname: str, path: Any, target: Optional[Any] = None) -> Any:
        """Torch's spec, with another loader."""
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Installer(spec.loader)
        return spec


def prepare() -> None:
    """Has `import torch` install Tendril, where the environment wants it."""
    if os.environ.get("TENDRIL_TORCH") != "1" or any(isinstance(finder, _TorchFinder) for finder in sys.meta_path):
        return
    if "torch" in sys.modules:
        from . import install

        install()
    else:
        sys.meta_path.insert(0, _TorchFinder())
